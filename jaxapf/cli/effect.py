"""`jaxapf effect`: a file through one effect, whose controls are options of the command line."""

import argparse
import math
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from jaxapf import audio, params
from jaxapf._internal.console import Progress, described_audio, front, print_result
from jaxapf._internal.text import count
from jaxapf.cli.filtering import write_filtered
from jaxapf.cli.inputs import Source, UsageError, check_outputs, open_source
from jaxapf.cli.jax_setup import start_jax

EFFECTS = {
    "equalizer": params.EQUALIZER,
    "compressor": params.COMPRESSOR,
    "gain": params.GAIN,
    "distortion": params.DISTORTION,
    "expander": params.EXPANDER,
    "reverb": params.REVERB,
    "panner": params.PANNER,
    "width": params.WIDTH,
}
_EACH = "Each channel goes through one of its own."
CHANNELS = {
    **dict.fromkeys(EFFECTS, _EACH),
    "panner": "All channels are mixed to one, which is placed between left and right.",
    "width": "The file must have two channels.",
}
# Elsewhere 0 dB, or the middle of the range.
_DEFAULTS = {
    "threshold_db": -30.0,
    "ratio": 1.0,
    "average_ms": 1.0,
    "lookahead_ms": 0.0,
    "predelay_ms": 0.0,
    "knee_db": 6.0,
    "mix": 1.0,
    "wet_db": -12.0,
}


def default(name: str, one: params.Control) -> float:
    """Where a control stands without its option: what does nothing, or the middle of its range."""
    if one.name in _DEFAULTS:
        return _DEFAULTS[one.name]
    if one.unit == "dB" and one.low <= 0 <= one.high:
        return 0.0
    middle = math.sqrt(one.low * one.high) if one.scale == "log" else (one.low + one.high) / 2
    return float(f"{middle:.2g}")


def shown_names(name: str) -> Iterator[str]:
    """The names of an effect's controls; those of bands in short."""
    names = [one.name for one in EFFECTS[name]]
    yield from names[:3]
    if len(names) > 3:
        yield f"and {len(names) - 3} more"


# The list


def effect(arguments: argparse.Namespace) -> None:
    if not arguments.list:
        raise UsageError(f"give the name of an effect ({', '.join(EFFECTS)}), or --list")
    result = {
        name: [{**one._asdict(), "default": default(name, one)} for one in controls]
        for name, controls in EFFECTS.items()
    }
    print_result(arguments, result, _table)


def _table(result: dict[str, Any]) -> Iterator[str]:
    for name, controls in result.items():
        yield f"{name}: {CHANNELS[name]}"
        yield f"  {'option':28}{'from':>8}{'to':>8} {'unit':5}{'scale':8}{'default':>8}"
        for one in controls:
            option = f"--{one['name'].replace('_', '-')}"
            limits = f"{one['low']:8g}{one['high']:8g} {one['unit']:5}{one['scale']:8}"
            yield f"  {option:28}{limits}{one['default']:8g}"
        yield ""


# A file


class Played(NamedTuple):
    """An effect by name with a value for each control, as `filtering.stream` plays it."""

    name: str
    values: tuple[float, ...]


def process(arguments: argparse.Namespace) -> None:
    started = time.perf_counter()
    audio.output_subtype(arguments.output, arguments.subtype)
    found = audio.info(arguments.input)
    n_channels = found.n_channels if arguments.channels is None else len(arguments.channels)
    if arguments.effect == "width" and n_channels != 2:
        raise UsageError(
            f"'{found.path}' has {count(n_channels, 'channel')} and the width is that of two; give a stereo "
            "file, or place it with 'jaxapf effect panner'"
        )
    check_outputs([arguments.input], [arguments.output])
    show = Progress(arguments)
    notes: list[str] = []
    if arguments.effect == "panner" and n_channels > 1:
        notes.append(f"the {n_channels} channels were mixed to one, which was placed")
    if arguments.effect == "reverb":
        notes.append("what rings on after the end of the file is cut; for all of it append silence first")
    with open_source(arguments.input, found.fs, arguments.channels, notes, show) as source:
        show("Starting JAX")
        start_jax("jaxapf.effects.chain")
        controls = EFFECTS[arguments.effect]
        values = tuple(getattr(arguments, one.name) for one in controls)
        source = _mixed(source) if arguments.effect == "panner" else source
        write_filtered(arguments, Played(arguments.effect, values), source, found.subtype, notes, show)
    show.done()
    result = {
        "command": f"effect {arguments.effect}",
        "input": arguments.input,
        "output": audio.info(arguments.output)._asdict(),
        "controls": {one.name: value for one, value in zip(controls, values, strict=True)},
        "notes": notes,
        "seconds": time.perf_counter() - started,
    }
    print_result(arguments, result, _text)


def _mixed(source: Source) -> Source:
    """One channel in, two out."""
    return source._replace(
        read=lambda start, stop: source.read(start, stop).mean(axis=0, keepdims=True), n_channels=2
    )


def _text(result: dict[str, Any]) -> Iterator[str]:
    yield from (front(name, value) for name, value in result["controls"].items())
    yield from (f"note      {note}" for note in result["notes"])
    yield f"time      {result['seconds']:.1f} s"
    yield f"wrote     {described_audio(result['output'])}"
