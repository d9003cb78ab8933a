"""`jaxapf style`: a recording through the effects that make it sound like another."""

import argparse
import contextlib
import importlib
import os
import time
from collections.abc import Iterator
from typing import Any

from jaxapf import audio
from jaxapf._internal.console import Progress, described_audio, panel, print_result
from jaxapf._internal.text import count, printable
from jaxapf.audio import level
from jaxapf.audio.level import HIGHEST_HZ, LOWEST_HZ, SHORTEST_S
from jaxapf.cli.filtering import write_filtered
from jaxapf.cli.inputs import Source, UsageError, check_outputs, open_source
from jaxapf.cli.jax_setup import start_jax
from jaxapf.training import pretrained

HEARD_HZ, STORED = 24_000, "style-transfer"  # those of modules that need JAX: style.FS, transfer.STORED
HIGHEST = 0.49  # of the sample rate, matched.HIGHEST: bands above are played there
WORTH_SAYING_DB = 0.1


def style(arguments: argparse.Namespace) -> None:
    started = time.perf_counter()
    given = _check(arguments)
    show = Progress(arguments)
    notes: list[str] = []
    with contextlib.ExitStack() as stack:
        sources, powers = [], []
        for path, channels in ((arguments.input, arguments.channels), (arguments.reference, None)):
            fs = audio.info(path).fs
            source = stack.enter_context(open_source(path, fs, channels, notes, show))
            show(f"Listening to {os.path.basename(path)}")
            sources.append(source)
            powers.append(_heard(source))
        dull = min(sources[1].fs, HEARD_HZ)
        if dull < min(sources[0].fs, HEARD_HZ):
            notes.append(
                f"the reference, at {dull} Hz, has nothing above {dull // 2} Hz, which the network takes for "
                "its sound"
            )
        show("Starting JAX")
        transfer = start_jax("jaxapf.effects.style.transfer")
        settings, lowered_db = _chosen(arguments, transfer, sources, powers, show)
        highest_hz = HIGHEST * sources[0].fs
        if any(value > highest_hz for name, value in settings.controls.items() if name.endswith("_hz")):
            notes.append(
                f"at {sources[0].fs} Hz bands of the equaliser that lie above {highest_hz:.0f} Hz "
                "are played there, which colours the top; resample the input to 24 kHz for the curve chosen"
            )
        if lowered_db > WORTH_SAYING_DB:
            notes.append(
                f"the result is {lowered_db:.1f} dB softer than the reference, so that it does not clip"
            )
        write_filtered(arguments, settings, sources[0], given.subtype, notes, show)
        if arguments.controls is not None:
            transfer.save(settings, arguments.controls)
        if arguments.report is not None:
            show("Writing the report")
            _write_report(arguments, settings, sources, powers, notes)
    show.done()
    result = {
        "command": "style",
        "input": arguments.input,
        "reference": arguments.reference,
        "output": audio.info(arguments.output)._asdict(),
        "controls_file": arguments.controls,
        "report": arguments.report,
        "controls": settings.controls,
        "input_db": settings.input_db,
        "output_db": settings.output_db,
        "lowered_db": lowered_db,
        "passes": arguments.passes,
        "notes": notes,
        "seconds": time.perf_counter() - started,
    }
    print_result(arguments, result, _text)


# Checks


def _check(arguments: argparse.Namespace) -> audio.AudioInfo:
    """Refuse what can be refused before JAX starts."""
    audio.output_subtype(arguments.output, arguments.subtype)
    found = [audio.info(path) for path in (arguments.input, arguments.reference)]
    for one in found:
        seconds = one.n_samples / one.fs
        if seconds < SHORTEST_S:
            raise UsageError(
                f"'{one.path}' lasts {seconds:.3f} s, too short to hear anything in it; give {SHORTEST_S} s "
                "or more"
            )
        if not LOWEST_HZ <= one.fs <= HIGHEST_HZ:
            raise UsageError(f"'{one.path}' is at {one.fs} Hz; give a file at {LOWEST_HZ} to {HIGHEST_HZ} Hz")
    missing = [c + 1 for c in arguments.channels or () if c >= found[0].n_channels]
    if missing:
        raise UsageError(
            f"argument --channels: '{arguments.input}' has {count(found[0].n_channels, 'channel')} and no "
            f"channel {missing[0]}"
        )
    network = _network_path(arguments)
    outputs = [path for path in (arguments.output, arguments.controls, arguments.report) if path is not None]
    check_outputs([arguments.input, arguments.reference, network], outputs)
    return found[0]


def _network_path(arguments: argparse.Namespace) -> str:
    if arguments.network is None:
        try:
            return str(pretrained.path(STORED))
        except ValueError as error:
            raise UsageError(
                "this copy of jaxapf has no network for styles; name one with --network"
            ) from error
    if not os.path.isfile(arguments.network):
        wrong = "is not a regular file" if os.path.exists(arguments.network) else "does not exist"
        raise UsageError(
            f"argument --network: '{arguments.network}' {wrong}; give a file of a trained network"
        )
    return arguments.network


def _heard(source: Source) -> level.Powers:
    found = level.powers(source.read, source.n_samples, source.fs)
    if level.sounding(found.mono).any():
        return found
    if level.sounding(found.channels).any():
        raise UsageError(
            f"'{source.path}' is silent when its channels are mixed; give one of them (INPUT: --channels 1)"
        )
    raise UsageError(f"'{source.path}' is silent, so there is nothing to hear; check the file or --channels")


# Choosing


def _chosen(
    arguments: argparse.Namespace, transfer: Any, sources: list[Source], powers: list[Any], show: Progress
) -> tuple[Any, float]:
    try:
        network = importlib.import_module("jaxapf.effects.style.network").load(_network_path(arguments))
    except ValueError as error:
        raise UsageError(str(error)) from error
    show("Choosing the controls")
    recordings = [transfer.Recording(one.read, one.n_samples, one.fs) for one in sources]
    signals = [transfer.heard(one, found) for one, found in zip(recordings, powers, strict=True)]
    raw = transfer.chosen(network, *signals, arguments.passes)
    settings = transfer.Settings(
        transfer.named(raw), transfer.input_gain_db(powers[0]), command=arguments.command_line
    )
    show("Measuring the level")
    return transfer.levelled(settings, recordings[0], level.level_db(powers[1].channels))


# What is told


def _write_report(
    arguments: argparse.Namespace, settings: Any, sources: list[Source], powers: list[Any], notes: list[str]
) -> None:
    names = [printable(os.path.basename(one.path)) for one in sources]
    importlib.import_module("jaxapf.report.style_page").write(
        arguments.report,
        settings,
        *sources,
        places=[
            level.typical(found.mono, one.n_samples, one.fs)
            for one, found in zip(sources, powers, strict=True)
        ],
        names=names,
        notes=[printable(note) for note in notes],
        command=arguments.command_line,
    )


def _text(result: dict[str, Any]) -> Iterator[str]:
    yield from panel(result)
    yield from (f"note      {note}" for note in result["notes"])
    yield f"time      {result['seconds']:.1f} s"
    yield f"wrote     {described_audio(result['output'])}"
    yield from (f"          {result[name]}" for name in ("controls_file", "report") if result[name])
