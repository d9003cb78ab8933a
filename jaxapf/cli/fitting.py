"""`jaxapf phaser fit` and `jaxapf compressor fit`: an effect learnt from two recordings, as a model."""

import argparse
import importlib
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from jaxapf._internal.console import Progress, decibels, print_result, warn
from jaxapf._internal.text import clock
from jaxapf.cli.align import SILENCE, check_pair, open_pair
from jaxapf.cli.inputs import Source, UsageError, check_outputs
from jaxapf.cli.jax_setup import start_jax

LONGEST_S = 30.0  # of a recording that is learnt from
BEFORE_S = 0.1  # of silence that is kept before the first sound
AUDIBLE = 1e-3  # of the peak
FEW_TURNS = 1.5  # of a phaser's oscillator
STRANGE = 0.2  # of the wet signal left unexplained


class Excerpt(NamedTuple):
    """What is learnt from: (n_samples,) float64 each, from sample ``start`` of the files on."""

    dry: np.ndarray
    wet: np.ndarray
    fs: int
    start: int


def fit_phaser(arguments: argparse.Namespace) -> None:
    _fit(arguments, "phaser", _learnt_phaser)


def fit_compressor(arguments: argparse.Namespace) -> None:
    _fit(arguments, "compressor", _learnt_compressor)


def figures_of(model: Any) -> dict[str, Any]:
    """What the results of `fit` and `info` say of a model alike."""
    return {
        "effect": model.effect,
        "fs": round(model.fs),
        "delay_samples": model.delay_samples,
        "settings": _SETTINGS[model.effect](model),
        "controls": model.controls,
        "options": model.options,
        "metrics": model.metrics,
    }


def _fit(arguments: argparse.Namespace, effect: str, learnt: Callable[..., Any]) -> None:
    started = time.perf_counter()
    infos = check_pair(arguments)
    check_outputs([arguments.dry, arguments.wet], [arguments.output])
    show = Progress(arguments)
    notes: list[str] = []
    if arguments.channels is None and infos[0].n_channels > 1:
        arguments.channels = (0,)
        notes.append("the first channel was learnt from; --channels picks another")
    if arguments.channels is not None and len(arguments.channels) != 1:
        raise UsageError("argument --channels: give one channel; an effect is learnt from one at a time")
    with open_pair(arguments, infos, notes, show) as (dry, wet):
        show("Reading")
        excerpt = _excerpt(dry, wet, notes)
    show("Starting JAX")
    start_jax()
    try:
        model = learnt(excerpt, arguments, show)
    except ValueError as error:
        raise UsageError(f"'{arguments.wet}' cannot be learnt from: {error}") from error
    if model.metrics["esr"] > STRANGE:
        warn(
            f"the {effect} leaves {model.metrics['esr']:.0%} of the wet signal unexplained; is it one, and "
            "are both files the same performance?",
            notes,
        )
    if model.metrics.get("turns", FEW_TURNS) < FEW_TURNS:
        warn(
            f"the recording holds {model.metrics['turns']:.1f} turns of the oscillator: its rate is a guess; "
            "learn from a longer one",
            notes,
        )
    model.save(arguments.output)
    show.done()
    result = {
        "command": f"{effect} fit",
        "dry": arguments.dry,
        "wet": arguments.wet,
        "model": arguments.output,
        **figures_of(model),
        "notes": notes,
        "seconds": time.perf_counter() - started,
    }
    print_result(arguments, result, _text)


def _excerpt(dry: Source, wet: Source, notes: list[str]) -> Excerpt:
    """The first half minute from the first sound on."""
    n_samples, fs = dry.n_samples, dry.fs
    peaks = [_peak(source) for source in (dry, wet)]
    for source, peak in zip((dry, wet), peaks, strict=True):
        if peak < SILENCE:
            raise UsageError(
                f"'{source.path}' is silent, so there is nothing to learn; check the file or --channels"
            )
    start = max(0, _first_sound(dry, AUDIBLE * peaks[0]) - round(BEFORE_S * fs))
    stop = min(n_samples, start + round(LONGEST_S * fs))
    if (start, stop) != (0, n_samples):
        notes.append(f"learnt from {clock(start / fs)} to {clock(stop / fs)}")
    x, y = (source.read(start, stop)[0].astype(np.float64) for source in (dry, wet))
    return Excerpt(x, y, fs, start)


def _peak(source: Source) -> float:
    return max(float(np.max(np.abs(block), initial=0.0)) for _, block in _blocks(source))


def _first_sound(source: Source, level: float) -> int:
    for start, block in _blocks(source):
        loud = np.flatnonzero(np.abs(block[0]) >= level)
        if loud.size:
            return start + int(loud[0])
    return 0


def _blocks(source: Source, length: int = 2**20) -> Iterator[tuple[int, np.ndarray]]:
    for start in range(0, source.n_samples, length):
        yield start, source.read(start, min(start + length, source.n_samples))


# The effects


def _learnt_phaser(excerpt: Excerpt, arguments: argparse.Namespace, show: Progress) -> Any:
    modelling = importlib.import_module("jaxapf.effects.modelling")
    fitted = modelling.fit_phaser(
        excerpt.dry, excerpt.wet, excerpt.fs, max_delay_ms=arguments.max_delay_ms, on_stage=show
    )
    # The model's oscillator starts with the file, not with the excerpt.
    turns = float(fitted.controls.rate_hz) * excerpt.start / excerpt.fs
    phase = (float(fitted.controls.phase) - 2 * np.pi * turns) % (2 * np.pi)
    fitted = fitted._replace(controls=fitted.controls._replace(phase=phase))
    return modelling.phaser_model(fitted, excerpt.fs, command=arguments.command_line)


def _learnt_compressor(excerpt: Excerpt, arguments: argparse.Namespace, show: Progress) -> Any:
    modelling = importlib.import_module("jaxapf.effects.modelling")
    fitted = modelling.fit_compressor(
        excerpt.dry,
        excerpt.wet,
        excerpt.fs,
        max_delay_ms=arguments.max_delay_ms,
        on_record=lambda record: show(f"Fitting, {record['kind']}"),
    )
    return modelling.compressor_model(fitted, excerpt.fs, command=arguments.command_line)


def _phaser_settings(model: Any) -> dict[str, str]:
    controls, options = model.controls, model.options
    low, high = importlib.import_module("jaxapf.effects.modelling.model").swept_hz(model)
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
    placed = {"gain": "the gain", "gain_db": "the gain in dB", "level": "the level"}
    units = {"db": "dB", "ms": "ms"}
    shown = {"ratio": f"{controls['ratio']:.2f} : 1"}
    for name, value in controls.items():
        word, _, unit = name.rpartition("_")
        if unit in units:
            shown[word] = f"{value:.3g} {units[unit]}" if unit == "ms" else f"{value:.2f} dB"
    return shown | {
        "detector": options["detector"],
        "attack and release": f"of {placed[options['smoothing']]}",
        "polarity": "kept" if options["polarity"] > 0 else "inverted",
    }


_SETTINGS = {"phaser": _phaser_settings, "compressor": _compressor_settings}


def _text(result: dict[str, Any]) -> Iterator[str]:
    metrics = result["metrics"]
    yield f"{'':20}{'error-to-signal ratio':>24}"
    for label, name in (("before", "esr_raw"), ("fitted", "esr")):
        yield f"{label:20}{metrics[name]:13.6f} {decibels(metrics[name]):>10}"
    yield ""
    yield from (f"{name:20}{value}" for name, value in result["settings"].items())
    if result["delay_samples"]:
        yield f"{'latency':20}{result['delay_samples']} samples"
    yield from (f"note      {note}" for note in result["notes"])
    yield f"time      {result['seconds']:.1f} s"
    yield f"wrote     {result['model']}"
