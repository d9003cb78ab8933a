"""The page about a style transfer: the analysed stretches, the chosen controls, the result."""

from collections.abc import Iterable, Sequence
from os import PathLike
from typing import Any

import numpy as np
from scipy import signal

from jaxapf import audio
from jaxapf._internal.text import UNITS, fixed, hertz, number
from jaxapf.effects import compressor, equalizer
from jaxapf.effects.style import network, transfer
from jaxapf.report import players
from jaxapf.report.figures import responsive
from jaxapf.report.rendering import render
from jaxapf.report.svg import Curve, Panel, frequency_axis, linear_axis, snug_axis

__all__ = ["write"]

_PLAYED_S = 10.0
_POINTS = 12  # of a spectrum, an octave
_LEAST_DB = -60.0  # of a spectrum, against its strongest third of an octave


def write(
    path: str | PathLike[str],
    settings: transfer.Settings,
    given: Any,
    reference: Any,
    *,
    places: Sequence[Sequence[tuple[int, int]]],
    names: Sequence[str],
    notes: Iterable[str] = (),
    command: str = "",
) -> None:
    """Write one self-contained HTML page about a style transfer; it appears whole or not at all.

    `given` was processed and `reference` gave the style: `transfer.Recording`, or any with its fields.
    Of both, `places` are the stretches that the network analysed, in samples, and `names` the files.
    """
    analysed, target = (
        np.concatenate([one.read(*place) for place in stretches], axis=-1)
        for one, stretches in zip((given, reference), places, strict=True)
    )
    start, stop = _loudest(given, places[0])
    before = min(start, given.fs)  # the samples before set the compressor's initial state
    played = given.read(start - before, stop)
    reference_at = _loudest(reference, places[1])
    reduction_db = transfer.reduction_db(settings, played, given.fs)[before:]
    page = render(
        "style.html",
        title=f"{names[0]} in the style of {names[1]}",
        summary=_summary(settings, reduction_db),
        key_figures=_key_figures(settings, reduction_db),
        notes=list(map(str, notes)),
        excerpt=f"{(stop - start) / given.fs:.1f} s of the input from {start / given.fs:.1f} s and of the "
        f"result, and the reference from {reference_at[0] / reference.fs:.1f} s.",
        played=players.separate(
            {
                "dry": (played[:, before:], given.fs),
                "wet": (reference.read(*reference_at), reference.fs),
                "aligned": (_processed(settings, played, given.fs)[:, before:], given.fs),
            }
        ),
        spectra=_spectra(
            {
                "dry": (analysed, given.fs),
                "wet": (target, reference.fs),
                "aligned": (_processed(settings, analysed, given.fs), given.fs),
            }
        ),
        equaliser=_equaliser(settings, given.fs),
        curve=_curve(settings),
        reduction=_reduction(reduction_db, start, given.fs),
        controls=[_control(spec, settings.controls[spec.name]) for spec in network.CONTROLS],
        names=names,
        command=command,
    )
    audio.write_text(path, page)


def _processed(settings: transfer.Settings, x: np.ndarray, fs: int) -> np.ndarray:
    blocks = settings.stream(lambda start, stop: x[:, start:stop], x.shape[-1], fs)
    return np.concatenate(list(blocks), axis=-1)


def _loudest(one: Any, places: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return ten seconds around the loudest of the stretches, as start and stop in samples."""
    length = min(round(_PLAYED_S * one.fs), one.n_samples)
    powers = [float(np.mean(np.square(one.read(*place), dtype=np.float64))) for place in places]
    first, last = places[int(np.argmax(powers))]
    start = min(max(0, (first + last - length) // 2), one.n_samples - length)
    return start, start + length


# Text


def _summary(settings: transfer.Settings, reduction_db: np.ndarray) -> str:
    freqs_hz = np.geomspace(40.0, 10e3, 200)
    curve_db = np.asarray(equalizer.response_db(transfer.parts(settings.controls)[0], freqs_hz, network.FS))
    most = int(np.argmax(np.abs(curve_db)))
    return (
        f"The equaliser does most at {hertz(freqs_hz[most])} ({fixed(curve_db[most], signed=True)} dB); the "
        f"compressor takes up to {fixed(-reduction_db.min())} dB away, {fixed(-np.mean(reduction_db))} dB on "
        "average."
    )


def _key_figures(settings: transfer.Settings, reduction_db: np.ndarray) -> tuple[tuple[str, str, str], ...]:
    values = {name.removeprefix("compressor."): value for name, value in settings.controls.items()}
    levels = ", ".join(fixed(level, signed=True) for level in (settings.input_db, settings.output_db))
    times = ", ".join(number(values[name], padded=False) for name in ("attack_ms", "release_ms"))
    return (
        ("Threshold", f"{fixed(values['threshold_db'])} dB", f"at {network.LEVEL_DB:g} dB RMS in"),
        ("Ratio", f"{values['ratio']:.2f} : 1", f"knee {values['knee_db']:.1f} dB"),
        ("Attack, release", f"{times} ms", f"reduction up to {fixed(-reduction_db.min())} dB"),
        ("Level before, after", f"{levels} dB", "around the effects"),
    )


def _control(spec: Any, value: float) -> tuple[str, str, float, str, str]:
    effect, _, name = spec.name.partition(".")
    words = [word for word in name.split("_") if word not in UNITS]
    unit = f" {spec.unit}" if spec.unit else ""
    shown, low, high = (
        f"{one:.0f}".replace("-", "−") if abs(one) >= 1000 else number(one, 4, padded=False)
        for one in (value, spec.low, spec.high)
    )
    effect = effect.replace("equalizer", "equaliser")
    return effect, " ".join(words), value, f"{shown}{unit}", f"{low} to {high}{unit}"


# Figures


def _spectra(signals: dict[str, tuple[np.ndarray, int]]) -> str:
    high_hz = min(20_000.0, *(0.45 * fs for _, fs in signals.values()))
    freqs_hz = 20.0 * 2 ** np.linspace(0, np.log2(high_hz / 20), int(np.log2(high_hz / 20) * _POINTS) + 1)
    levels = {key: _thirds_db(x, fs, freqs_hz) for key, (x, fs) in signals.items()}
    highest = max(float(one.max()) for one in levels.values())
    labels = {"wet": "Reference", "dry": "Input", "aligned": "Result"}  # the broad line lies below
    curves = tuple(Curve(freqs_hz, levels[key], key, label) for key, label in labels.items())
    shown = np.clip(np.concatenate(list(levels.values())), highest + _LEAST_DB, None)
    panel = Panel(curves, linear_axis("Level in a third of an octave (dB)", shown, 6))
    before, after = (np.mean(np.abs(levels[key] - levels["wet"])) for key in ("dry", "aligned"))
    text = f"Mean distance from the reference: input {before:.1f} dB, result {after:.1f} dB."
    title = "Spectra of input, reference and result"
    return responsive("spectra", title, text, (panel,), frequency_axis(20.0, high_hz), (340, 300))


def _thirds_db(x: np.ndarray, fs: int, freqs_hz: np.ndarray) -> np.ndarray:
    """Return the level in dB of a third of an octave around each frequency, relative to the whole."""
    window = min(x.shape[-1], 1 << (fs // 4).bit_length())
    _, power = signal.welch(x.astype(np.float64), fs, nperseg=window)
    total = np.concatenate([[0.0], np.cumsum(power.mean(axis=0))])
    edges = freqs_hz[:, None] * 2.0 ** np.array([-1 / 6, 1 / 6]) * window / fs + 0.5
    low, high = np.interp(edges, np.arange(len(total)), total).T
    return 10 * np.log10(np.maximum((high - low) / max(total[-1], 1e-30), 1e-10))


def _equaliser(settings: transfer.Settings, fs: int) -> str:
    freqs_hz = np.geomspace(20.0, min(20_000.0, 0.49 * fs), 400)
    gains_db = np.asarray(equalizer.response_db(transfer.parts(settings.controls)[0], freqs_hz, fs))
    y = linear_axis("Gain (dB)", np.append(gains_db, [-6.0, 6.0]), 6, (1.0, 3.0, 6.0, 12.0))
    panel = Panel((Curve(freqs_hz, gains_db, "aligned"),), y)
    text = f"From {fixed(gains_db.min())} to {fixed(gains_db.max())} dB."
    x = frequency_axis(20.0, freqs_hz[-1])
    return responsive("equaliser", "Gain of the equaliser", text, (panel,), x, (300, 260))


def _curve(settings: transfer.Settings) -> str:
    controls = transfer.parts(settings.controls)[1]
    level_db = np.linspace(-60.0, 0.0, 241)
    gain_db = np.asarray(compressor.curve_db(level_db, controls))  # pyright: ignore[reportArgumentType]
    out_db = level_db + gain_db + controls.makeup_db
    curves = (
        Curve(level_db, level_db, "wet", "Unprocessed"),
        Curve(level_db, out_db, "aligned", "Compressed"),
    )
    panel = Panel(curves, linear_axis("Output level (dB)", np.append(out_db, level_db), 6))
    text = f"Threshold {fixed(controls.threshold_db)} dB, ratio {controls.ratio:.2f} : 1."
    x = snug_axis("Input level (dB), after the gain before the effects", level_db, 6)
    return responsive("curve", "Static curve of the compressor", text, (panel,), x, (320, 280))


def _reduction(reduction_db: np.ndarray, start: int, fs: int) -> str:
    step = max(1, len(reduction_db) // 4000)
    count = len(reduction_db) // step
    lowest = reduction_db[: count * step].reshape(count, step).min(axis=-1)
    seconds = (start + step * np.arange(count)) / fs
    y = linear_axis("Gain (dB)", np.append(lowest, [0.0, -3.0]), 5)
    panel = Panel((Curve(seconds, lowest, "aligned"),), y)
    text = f"At most {fixed(-lowest.min())} dB less, {fixed(-np.mean(reduction_db))} dB on average."
    x = snug_axis("Time (s)", seconds)
    return responsive("reduction", "Gain of the compressor over time", text, (panel,), x, (260, 230))
