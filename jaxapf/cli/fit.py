"""`jaxapf phaser fit` and `jaxapf compressor fit`: an effect learnt from two recordings, as a model."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from jaxapf._internal.text import time_range
from jaxapf.cli import arguments
from jaxapf.cli.arguments import UsageError, argument
from jaxapf.cli.inputs import SILENCE, Source, check_outputs, check_pair, open_pair, silent
from jaxapf.cli.jax_setup import start_jax
from jaxapf.cli.output import begin, closing, decibels

LONGEST_S = 30.0  # of a recording that is learnt from
BEFORE_S = 0.1  # of silence that is kept before the first sound
AUDIBLE = 1e-3  # of the peak
MIN_TURNS = 1.5  # of a phaser's oscillator
MAX_ERROR = 0.2  # of the wet signal left unexplained

DESCRIPTIONS = {
    "phaser": """Find the phaser that makes WET of DRY: the number of all-pass stages, the oscillator that
sweeps them, feedback, gains. Chirps and other signals with all frequencies serve
best; music does.""",
    "compressor": """Find the compressor that makes WET of DRY: threshold, ratio, knee, attack, release,
averaging, make-up gain, look-ahead, and what it detects and smooths. The recording
should be loud and soft in turns.""",
}
EXAMPLES = """examples:
  jaxapf NAME fit dry.wav wet.wav -o NAME.json
  jaxapf apply NAME.json other.wav -o other_wet.wav"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(arguments.PairOptions):
    """Options of `jaxapf phaser fit` and `jaxapf compressor fit`."""

    effect: str
    wet: str = argument("WET", "the same through the effect: same rate and start")
    output: str = argument("-o --output MODEL.json", "where to write the model", required=True)
    channels: tuple[int, ...] | None = argument(
        "--channels 1", "channel to learn from, counted from 1 (default 1)", type=arguments.channel_list
    )


class Excerpt(NamedTuple):
    """What is learnt from: (n_samples,) float64 each, from sample ``start`` of the files on."""

    dry: np.ndarray
    wet: np.ndarray
    fs: int
    start: int


def add_parser(commands: Any) -> None:
    for name, description in DESCRIPTIONS.items():
        line = f"learn a {name} from a dry and a wet file"
        whole = f"Learn a {name} from recordings; 'jaxapf apply' sends other files through it."
        group = commands.add_parser(name, help=line, description=whole)
        actions = group.add_subparsers(title="actions", metavar="ACTION", required=True)
        texts = f"{line}\n\n{description}\n\n{EXAMPLES.replace('NAME', name)}"
        arguments.add_command(actions, "fit", run, Options, texts).set_defaults(effect=name)


def run(options: Options) -> None:
    """Learn the effect, write its model and print its settings."""
    with begin(options) as job:
        n_channels = check_pair(options)[0].n_channels
        check_outputs([options.dry, options.wet], [options.output])
        if options.channels is None and n_channels > 1:
            options = dataclasses.replace(options, channels=(0,))
            job.notes.append("the first channel was learnt from; --channels picks another")
        if options.channels is not None and len(options.channels) != 1:
            raise UsageError("argument --channels: give one channel; an effect is learnt from one at a time")
        with open_pair(options, job) as (dry, wet):
            job.show("Reading")
            excerpt = _excerpt(dry, wet, job.notes)
        job.show("Starting JAX")
        start_jax()
        with arguments.usage_errors(f"'{options.wet}' cannot be learnt from: "):
            model = _model(excerpt, options, job.show)
        esr, turns = model.metrics["esr"], model.metrics.get("turns", MIN_TURNS)
        if esr > MAX_ERROR:
            job.warn(
                f"the {model.effect} leaves {esr:.0%} of the wet signal unexplained; is it one, "
                "and are both files the same performance?"
            )
        if turns < MIN_TURNS:
            job.warn(
                f"the recording holds {turns:.1f} turns of the oscillator: its rate is a guess; "
                "learn from a longer one"
            )
        model.save(options.output)
    files = {"dry": options.dry, "wet": options.wet, "model": options.output}
    job.finish(f"{options.effect} fit", _lines, **files, **figures_of(model))


def _excerpt(dry: Source, wet: Source, notes: list[str]) -> Excerpt:
    """Read the first half minute from the first sound on."""
    n_samples, fs = dry.n_samples, dry.fs
    peaks = [max(float(np.max(np.abs(block))) for _, block in _blocks(source)) for source in (dry, wet)]
    for source, peak in zip((dry, wet), peaks, strict=True):
        if peak < SILENCE:
            raise silent(source.path, "learn")
    loud = ((start, np.flatnonzero(np.abs(block[0]) >= AUDIBLE * peaks[0])) for start, block in _blocks(dry))
    first_sound = next(start + int(where[0]) for start, where in loud if where.size)
    start = max(0, first_sound - round(BEFORE_S * fs))
    stop = min(n_samples, start + round(LONGEST_S * fs))
    if (start, stop) != (0, n_samples):
        notes.append(f"learnt from {time_range(start, stop, fs)}")
    x, y = (source.read(start, stop)[0].astype(np.float64) for source in (dry, wet))
    return Excerpt(x, y, fs, start)


def _blocks(source: Source, length: int = 2**20) -> Iterator[tuple[int, np.ndarray]]:
    for start in range(0, source.n_samples, length):
        yield start, source.read(start, min(start + length, source.n_samples))


def _model(excerpt: Excerpt, options: Options, show: Callable[..., None]) -> Any:
    from jaxapf.effects import modelling

    signals, limits = excerpt[:3], {"max_delay_ms": options.max_delay_ms}
    if options.effect == "compressor":
        fitted = modelling.fit_compressor(
            *signals, **limits, on_record=lambda record: show(f"Fitting, {record['kind']}")
        )
        return modelling.compressor_model(fitted, excerpt.fs, command=options.command_line)
    fitted = modelling.fit_phaser(*signals, **limits, on_stage=show)
    # The model's oscillator starts with the file, not with the excerpt.
    turns = float(fitted.controls.rate_hz) * excerpt.start / excerpt.fs
    phase = (float(fitted.controls.phase) - 2 * np.pi * turns) % (2 * np.pi)
    fitted = fitted._replace(controls=fitted.controls._replace(phase=phase))
    return modelling.phaser_model(fitted, excerpt.fs, command=options.command_line)


# Results


def figures_of(model: Any) -> dict[str, Any]:
    """Return what the results of `fit` and `info` have in common."""
    return {
        "effect": model.effect,
        "fs": round(model.fs),
        "delay_samples": model.delay_samples,
        "settings": (_phaser_settings if model.effect == "phaser" else _compressor_settings)(model),
        "controls": model.controls,
        "options": model.options,
        "metrics": model.metrics,
    }


def _phaser_settings(model: Any) -> dict[str, str]:
    from jaxapf.effects.modelling.model import swept_hz

    controls, options = model.controls, model.options
    low, high = swept_hz(model)
    loop = "without a delay" if options["delay"] == 0 else "after one sample"
    return {
        "stages": str(options["stages"]),
        "feedback": f"{controls['feedback']:+.3f} {loop}",
        "rate": f"{controls['rate_hz']:.4f} Hz",
        "sweep": f"{low:.0f} to {high:.0f} Hz",
        "direct / all-passes": f"{controls['through']:.3f}",
    }


def _compressor_settings(model: Any) -> dict[str, str]:
    controls, options = model.controls, model.options
    smoothed = {"gain": "the gain", "gain_db": "the gain in dB", "level": "the level"}
    shown = {"ratio": f"{controls['ratio']:.2f} : 1"}
    for name, value in controls.items():
        word, _, unit = name.rpartition("_")
        if unit in ("db", "ms"):
            shown[word] = f"{value:.3g} ms" if unit == "ms" else f"{value:.2f} dB"
    return shown | {
        "detector": options["detector"],
        "attack and release": f"of {smoothed[options['smoothing']]}",
        "polarity": "kept" if options["polarity"] > 0 else "inverted",
    }


def _lines(result: dict[str, Any]) -> Iterator[str]:
    metrics = result["metrics"]
    yield f"{'':20}{'error-to-signal ratio':>24}"
    for label, name in (("before", "esr_raw"), ("fitted", "esr")):
        yield f"{label:20}{metrics[name]:13.6f} {decibels(metrics[name]):>10}"
    yield ""
    yield from (f"{name:20}{value}" for name, value in result["settings"].items())
    if result["delay_samples"]:
        yield f"{'latency':20}{result['delay_samples']} samples"
    yield from closing(result, result["model"])
