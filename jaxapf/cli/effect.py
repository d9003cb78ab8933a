"""`jaxapf effect`: a file through one effect, whose controls are options of the command line."""

import argparse
import dataclasses
import math
from collections.abc import Iterator
from typing import Any

from jaxapf import audio, params
from jaxapf._internal.text import count
from jaxapf.cli import arguments
from jaxapf.cli.arguments import UsageError, argument
from jaxapf.cli.filtering import write_filtered
from jaxapf.cli.inputs import check_outputs, open_source
from jaxapf.cli.jax_setup import start_jax
from jaxapf.cli.output import audio_line, begin, closing, control_line, print_result

TEXTS = """send a file through one effect, or list all effects with their controls

Send a file through one effect; 'jaxapf effect NAME --help' says which controls it has.

examples:
  jaxapf effect --list
  jaxapf effect compressor take.wav -o pressed.wav --threshold-db -30 --ratio 4
  jaxapf effect equalizer take.wav -o bright.wav --high-shelf-gain-db 6"""
DEFAULTS_SHOWN = "Without an option, each control is at its default, in brackets."

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
CHANNELS = dict.fromkeys(EFFECTS, "Each channel goes through one of its own.") | {
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class ListOptions(arguments.JsonOptions):
    """Options of `jaxapf effect`."""

    list: bool = argument("--list", "print all effects with their controls and ranges", False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(arguments.AudioOptions):
    """Options of `jaxapf effect NAME`; ``controls`` are those that were given, by name."""

    input: str = argument("IN", "the file to process")
    effect: str
    controls: dict[str, float] = dataclasses.field(default_factory=dict)


def default(control: params.Control) -> float:
    """Return the value of a control without its option: what does nothing, or the middle of its range."""
    if control.name in _DEFAULTS:
        return _DEFAULTS[control.name]
    if control.unit == "dB" and control.low <= 0 <= control.high:
        return 0.0
    low, high = control.low, control.high
    return float(f"{math.sqrt(low * high) if control.scale == 'log' else (low + high) / 2:.2g}")


def add_parser(commands: Any) -> None:
    group = arguments.add_command(commands, "effect", run_list, ListOptions, TEXTS)
    names = group.add_subparsers(title="effects", metavar="NAME")
    for name, controls in EFFECTS.items():
        more = [f"and {len(controls) - 3} more"] * (len(controls) > 3)
        shown = ", ".join([one.name for one in controls[:3]] + more)
        texts = f"{shown}\n\nSend IN through the {name}. {CHANNELS[name]}\n\n{DEFAULTS_SHOWN}"
        parser = arguments.add_command(names, name, run, Options, texts)
        parser.set_defaults(effect=name)
        options = parser.add_argument_group("controls")
        for one in controls:
            unit = f" {one.unit}" if one.unit else ""
            options.add_argument(
                _option(one.name),
                action=_StoreControl,
                type=arguments.number(one.low, one.high, unit),
                metavar="X",
                help=f"{one.low:g} to {one.high:g}{unit} (default {default(one):g})",
            )


def _option(control: str) -> str:
    return f"--{control.replace('_', '-')}"


class _StoreControl(argparse.Action):
    """Store a value in the dict `controls`."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        namespace.controls = getattr(namespace, "controls", {}) | {self.dest: values}


def run_list(options: ListOptions) -> None:
    """Print the effects with their controls."""
    if not options.list:
        raise UsageError(f"give the name of an effect ({', '.join(EFFECTS)}), or --list")
    result = {
        name: [{**one._asdict(), "default": default(one)} for one in controls]
        for name, controls in EFFECTS.items()
    }
    print_result(options, result, _table)


def _table(result: dict[str, Any]) -> Iterator[str]:
    for name, controls in result.items():
        yield f"{name}: {CHANNELS[name]}"
        yield f"  {'option':28}{'from':>8}{'to':>8} {'unit':5}{'scale':8}{'default':>8}"
        for one in controls:
            limits = f"{one['low']:8g}{one['high']:8g} {one['unit']:5}{one['scale']:8}"
            yield f"  {_option(one['name']):28}{limits}{one['default']:8g}"
        yield ""


def run(options: Options) -> None:
    """Send the input through the effect and write the result."""
    with begin(options) as job:
        audio.output_subtype(options.output, options.subtype)
        found = audio.info(options.input)
        n_channels = found.n_channels if options.channels is None else len(options.channels)
        if options.effect == "width" and n_channels != 2:
            raise UsageError(
                f"'{found.path}' has {count(n_channels, 'channel')} and the width is that of two; give a "
                "stereo file, or place it with 'jaxapf effect panner'"
            )
        check_outputs([options.input], [options.output])
        if options.effect == "panner" and n_channels > 1:
            job.notes.append(f"the {n_channels} channels were mixed to one, which was placed")
        if options.effect == "reverb":
            job.notes.append(
                "what rings on after the end of the file is cut; for all of it append silence first"
            )
        controls = {one.name: options.controls.get(one.name, default(one)) for one in EFFECTS[options.effect]}
        with open_source(options.input, found.fs, options.channels, job) as source:
            job.show("Starting JAX")
            start_jax()
            from jaxapf.effects import chain

            if options.effect == "panner":  # one channel in, two out
                read = source.read
                source = source._replace(
                    read=lambda start, stop: read(start, stop).mean(axis=0, keepdims=True), n_channels=2
                )
            settings = chain.Settings(options.effect, tuple(controls.values()))
            write_filtered(options, settings, source, found.subtype, job)
    written = audio.info(options.output)._asdict()
    name = f"effect {options.effect}"
    job.finish(name, _lines, input=options.input, output=written, controls=controls)


def _lines(result: dict[str, Any]) -> Iterator[str]:
    yield from (control_line(name, value) for name, value in result["controls"].items())
    yield from closing(result, audio_line(result["output"]))
