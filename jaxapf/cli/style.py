"""`jaxapf style`: a recording through the effects that make it sound like another."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from typing import Any

from jaxapf import audio
from jaxapf._internal.text import printable
from jaxapf.audio import level
from jaxapf.audio.level import HIGHEST_HZ, LOWEST_HZ, SHORTEST_S
from jaxapf.cli import arguments
from jaxapf.cli.arguments import UsageError, argument
from jaxapf.cli.filtering import write_filtered
from jaxapf.cli.inputs import Source, check_channels, check_outputs, open_source, silent
from jaxapf.cli.jax_setup import start_jax
from jaxapf.cli.output import Job, audio_line, begin, closing, panel
from jaxapf.training import pretrained

NETWORK_HZ, STORED = 24_000, "style-transfer"  # of modules that need JAX: network.FS, transfer.STORED
HIGHEST = 0.49  # of the sample rate, matched.HIGHEST: bands above are moved there
LEAST_NOTED_DB = 0.1


TEXTS = """make one recording sound as if it went through the effects of another

Set an equaliser and a compressor so that INPUT sounds as if it had gone through the
effects of REFERENCE, another recording: a network takes at most a minute of both
and gives the controls, which are printed and can be saved, edited and used
again. The result is made as loud as REFERENCE, or less where it would clip.

examples:
  jaxapf style take.wav reference.wav -o styled.wav
  jaxapf style take.wav reference.wav -o styled.wav --report style.html --controls style.json
  jaxapf apply style.json other_take.wav -o other_styled.wav

Both files may have any length from 0.25 s, any rate from 8 to 192 kHz and any
number of channels; the output has those of INPUT. All channels get the same gain."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(arguments.AudioOptions):
    """Options of `jaxapf style`."""

    input: str = argument("INPUT", "the recording to process")
    reference: str = argument("REFERENCE", "a recording that sounds as INPUT should")
    output: str = argument("-o --output OUTPUT", "where to write the result", required=True)
    report: str | None = argument("--report REPORT.html", "write a page that shows and plays it")
    controls: str | None = argument("--controls CONTROLS.json", "write the controls, for 'apply' and 'info'")
    network: str | None = argument(
        "--network FILE.npz", "a network that was trained for it (default: the stored one)"
    )
    passes: int = argument(
        "--passes N",
        "how often the network runs, each time on the result of the last: 1 to 10 (default 2)",
        2,
        type=arguments.whole(1, 10),
    )


def add_parser(commands: Any) -> None:
    arguments.add_command(commands, "style", run, Options, TEXTS)


def run(options: Options) -> None:
    """Choose the controls, process the input and write the files that the options name."""
    with begin(options) as job, contextlib.ExitStack() as stack:
        subtype = _check(options).subtype
        sources, powers = [], []
        for path, channels in ((options.input, options.channels), (options.reference, None)):
            source = stack.enter_context(open_source(path, audio.info(path).fs, channels, job))
            job.show(f"Measuring {os.path.basename(path)}")
            sources.append(source)
            powers.append(_powers(source))
        job.show("Starting JAX")
        start_jax()
        from jaxapf.effects.style import transfer

        settings, lowered_db = _choose(options, sources, powers, job)
        _note_limits(sources, settings, lowered_db, job.notes)
        write_filtered(options, settings, sources[0], subtype, job)
        if options.controls is not None:
            transfer.save(settings, options.controls)
        if options.report is not None:
            job.show("Writing the report")
            _write_report(options.report, settings, sources, powers, job.notes)
    job.finish(
        "style",
        _lines,
        input=options.input,
        reference=options.reference,
        output=audio.info(options.output)._asdict(),
        controls_file=options.controls,
        report=options.report,
        controls=settings.controls,
        input_db=settings.input_db,
        output_db=settings.output_db,
        lowered_db=lowered_db,
        passes=options.passes,
    )


def _note_limits(sources: list[Source], settings: Any, lowered_db: float, notes: list[str]) -> None:
    input_fs, reference_fs = (source.fs for source in sources)
    highest_hz = HIGHEST * input_fs
    if reference_fs < min(input_fs, NETWORK_HZ):
        notes.append(
            f"the reference, at {reference_fs} Hz, has nothing above {reference_fs // 2} Hz, which the "
            "network takes for its sound"
        )
    if any(value > highest_hz for name, value in settings.controls.items() if name.endswith("_hz")):
        notes.append(
            f"at {input_fs} Hz bands of the equaliser that lie above {highest_hz:.0f} Hz are moved there, "
            "which colours the top; resample the input to 24 kHz for the curve chosen"
        )
    if lowered_db > LEAST_NOTED_DB:
        notes.append(f"the result is {lowered_db:.1f} dB softer than the reference, so that it does not clip")


def _check(options: Options) -> audio.AudioInfo:
    """Refuse what can be refused before JAX starts; return what the input is."""
    audio.output_subtype(options.output, options.subtype)
    found = [audio.info(path) for path in (options.input, options.reference)]
    for one in found:
        seconds = one.n_samples / one.fs
        if seconds < SHORTEST_S:
            raise UsageError(
                f"'{one.path}' lasts {seconds:.3f} s, too short to measure; give {SHORTEST_S} s or more"
            )
        if not LOWEST_HZ <= one.fs <= HIGHEST_HZ:
            raise UsageError(f"'{one.path}' is at {one.fs} Hz; give a file at {LOWEST_HZ} to {HIGHEST_HZ} Hz")
    check_channels(found[0], options.channels)
    check_outputs(
        [options.input, options.reference, _network_path(options)],
        [options.output, options.controls, options.report],
    )
    return found[0]


def _network_path(options: Options) -> str:
    if options.network is None:
        try:
            return str(pretrained.path(STORED))
        except ValueError as error:
            raise UsageError(
                "this copy of jaxapf has no network for styles; name one with --network"
            ) from error
    if not os.path.isfile(options.network):
        wrong = "is not a regular file" if os.path.exists(options.network) else "does not exist"
        raise UsageError(f"argument --network: '{options.network}' {wrong}; give a file of a trained network")
    return options.network


def _powers(source: Source) -> level.Powers:
    found = level.powers(source.read, source.n_samples, source.fs)
    if level.sounding(found.mono).any():
        return found
    if level.sounding(found.channels).any():
        raise UsageError(
            f"'{source.path}' is silent when its channels are mixed; give one of them (INPUT: --channels 1)"
        )
    raise silent(source.path, "measure")


def _choose(
    options: Options, sources: list[Source], powers: list[level.Powers], job: Job
) -> tuple[Any, float]:
    """Return the settings, and by how many dB the result is softer than the reference."""
    from jaxapf.effects.style import network, transfer

    with arguments.usage_errors():
        weights = network.load(_network_path(options))
    job.show("Choosing the controls")
    recordings = [transfer.Recording(one.read, one.n_samples, one.fs) for one in sources]
    signals = [transfer.network_input(one, found) for one, found in zip(recordings, powers, strict=True)]
    raw = transfer.predict(weights, *signals, passes=options.passes)
    settings = transfer.Settings(
        transfer.named_controls(raw), transfer.input_gain_db(powers[0]), command=options.command_line
    )
    job.show("Measuring the level")
    return transfer.match_level(settings, recordings[0], level.level_db(powers[1].channels))


def _write_report(
    path: str, settings: Any, sources: list[Source], powers: list[level.Powers], notes: list[str]
) -> None:
    from jaxapf.report import style_page

    pairs = zip(sources, powers, strict=True)
    style_page.write(
        path,
        settings,
        *sources,
        places=[level.typical(found.mono, one.n_samples, one.fs) for one, found in pairs],
        names=[printable(os.path.basename(one.path)) for one in sources],
        notes=[printable(note) for note in notes],
        command=settings.command,
    )


def _lines(result: dict[str, Any]) -> Iterator[str]:
    yield from panel(result)
    yield from closing(result, audio_line(result["output"]), result["controls_file"], result["report"])
