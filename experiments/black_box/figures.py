"""Pictures of the runs, as .svg or .png: losses, aligned excerpts, phase (needs the extra `plot`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.signal

from experiments.common.pictures import GRID, INK, drawing, legend, line, words

DRY, WET, ALIGNED = "#0072B2", "#E69F00", "#009E73"

# Bands of the excerpts of `alignment`, in Hz, and four periods of their middle, in s.
BANDS = {"bass": (40.0, 120.0), "middle": (250.0, 800.0), "treble": (2000.0, 6000.0)}
PERIODS = 4
POINTS_PER_OCTAVE = 24
MOST_GROUPS = 120  # of a curve


class Excerpts(NamedTuple):
    """An effect's name, its input, its output and the prediction (n_samples,), and their rate in Hz."""

    name: str
    dry: Any
    wet: Any
    aligned: Any
    fs: float


class Phase(NamedTuple):
    """A device's name, the sweep and what came back (n_samples,), their rate in Hz, and models by name.

    A model is whatever has `apply(x)`, such as an Alignment.
    """

    name: str
    dry: Any
    wet: Any
    fs: float
    models: Mapping[str, Any]


class Curves(NamedTuple):
    """Phases in degrees at `freqs_hz`: the device's, and its models'; `delay_samples` is taken out of all."""

    delay_samples: float
    freqs_hz: np.ndarray
    measured: np.ndarray
    models: dict[str, np.ndarray]


def losses(runs: Mapping[str, Sequence[Mapping[str, Any]]], path: Path, *, metric: str = "loss") -> None:
    """Draw the loss over the step, a panel for each effect and a line for each run, on logarithmic axes.

    Args:
        runs: records, as `logging.read_metrics` gives them, by "EFFECT-RUN"; equal runs of several effects
            look alike.
        path: file to write, .svg or .png.
        metric: the record's entry that is drawn.

    Raises:
        ValueError: there is nothing to draw.
        AudioError: the file cannot be written.
    """
    if not runs:
        raise ValueError("runs is empty; give records by the names of their runs")
    parted = {run: run.partition("-")[::2] for run in runs}
    effects = list(dict.fromkeys(effect for effect, _ in parted.values()))
    names = list(dict.fromkeys(name for _, name in parted.values()))
    with drawing(path, 3.4 * len(effects) + 0.6, 3.2) as figure:
        axes = figure.subplots(1, len(effects), squeeze=False)
        for ax, effect in zip(axes[0], effects, strict=True):
            for run, records in runs.items():
                if parted[run][0] != effect:
                    continue
                points = [(one["step"], one[metric]) for one in records if metric in one]
                steps, values = np.array(points, np.float64).reshape(-1, 2).T
                good = (steps > 0) & (values > 0) & np.isfinite(values)
                places, values = _thinned(np.log(steps[good]), values[good])
                ax.loglog(np.exp(places), values, **line(names.index(parted[run][1])))
            ax.set(title=words(effect), xlabel="step")
            ax.grid(which="major", color=GRID, lw=0.6)
        axes[0, 0].set_ylabel(metric.replace("_", " "))
        legend(figure, {name: line(number) for number, name in enumerate(names)}, "outside upper center")


def alignment(effects: Sequence[Excerpts], path: Path) -> None:
    """Draw short excerpts of input, output and prediction, a row for each effect (figure 3 of the paper).

    Excerpts are taken where the input has most of bass, middle or treble beside the rest; each curve is
    divided by its peak there.

    Args:
        effects: a row each.
        path: file to write, .svg or .png.

    Raises:
        ValueError: there is nothing to draw.
        AudioError: the file cannot be written.
    """
    if not effects:
        raise ValueError("effects is empty; give at least one effect to draw")
    lines = {
        "input": {"color": DRY, "lw": 1.2, "ls": (0, (4, 1.5))},
        "output": {"color": WET, "lw": 3.2},
        "prediction": {"color": ALIGNED, "lw": 1.3},
    }
    with drawing(path, 10.0, 1.9 * len(effects) + 0.7) as figure:
        axes = figure.subplots(len(effects), len(BANDS), squeeze=False)
        for row, effect in zip(axes, effects, strict=True):
            signals = {"output": effect.wet, "input": effect.dry, "prediction": effect.aligned}
            for ax, (band, edges) in zip(row, BANDS.items(), strict=True):
                part = loudest(np.asarray(effect.dry, np.float64), effect.fs, edges)
                time_ms = np.arange(part.stop - part.start) / effect.fs * 1e3
                for name, x in signals.items():
                    one = np.asarray(x, np.float64)[part]
                    ax.plot(*_thinned(time_ms, one / max(np.max(np.abs(one)), 1e-12)), **lines[name])
                ax.set(ylim=(-1.1, 1.1), yticks=(-1, 0, 1), xlim=(0, time_ms[-1]))
                ax.set_title(f"{words(effect.name)}, {band}, at {part.start / effect.fs:.2f} s", fontsize=9)
                ax.grid(color=GRID, lw=0.6)
            row[0].set_ylabel("normalised")
        for ax in axes[-1]:
            ax.set_xlabel("time (ms)")
        legend(figure, lines, "outside upper center")


def loudest(x: np.ndarray, fs: float, edges_hz: tuple[float, float]) -> slice:
    """Where a band stands out: its energy times its share of the whole, in a window of four periods."""
    length = min(len(x), round(PERIODS * fs / np.sqrt(edges_hz[0] * edges_hz[1])))
    band = scipy.signal.sosfiltfilt(
        scipy.signal.butter(2, [min(edge, 0.45 * fs) for edge in edges_hz], "bandpass", fs=fs, output="sos"),
        x,
    )
    energy, whole = (_moving_sum(one**2, length) for one in (band, x))
    # Zero-phase filtering is not causal: in silence the band can have more than the whole.
    start = int(np.argmax(energy * np.minimum(energy / np.maximum(whole, 1e-30), 1.0)))
    return slice(start, start + length)


def _moving_sum(x: np.ndarray, length: int) -> np.ndarray:
    total = np.concatenate([[0.0], np.cumsum(x)])
    return total[length:] - total[:-length]


def phase(devices: Sequence[Phase], path: Path) -> None:
    """Draw measured phases and the models', a column for each device, and below them the errors.

    Args:
        devices: a column each.
        path: file to write, .svg or .png.

    Raises:
        ValueError: there is nothing to draw.
        AudioError: the file cannot be written.
    """
    if not devices:
        raise ValueError("devices is empty; give at least one device to draw")
    names = list(dict.fromkeys(name for one in devices for name in one.models))
    with drawing(path, 3.4 * len(devices) + 0.6, 5.0) as figure:
        axes = figure.subplots(2, len(devices), squeeze=False, sharex="col", height_ratios=(2, 1))
        known = {"color": "#b8b8b8", "lw": 4.0}
        for (upper, lower), device in zip(axes.T, devices, strict=True):
            one = curves_of(device)
            upper.semilogx(one.freqs_hz, one.measured, **known)
            for name, degrees in one.models.items():
                look = line(names.index(name))
                error = np.angle(np.exp(1j * np.radians(degrees - one.measured)), deg=True)
                upper.semilogx(one.freqs_hz, degrees, **look)
                lower.semilogx(one.freqs_hz, error, **look)
            upper.set_title(
                f"{words(device.name)}\n{one.delay_samples:.1f} samples of delay taken out", fontsize=9
            )
            lower.set(xlabel="frequency (Hz)", xlim=(one.freqs_hz[0], one.freqs_hz[-1]))
            lower.axhline(0.0, color=INK, lw=0.6)
            lower.set_xticks([20, 100, 1000, 10_000], ["20", "100", "1k", "10k"])
            largest = max(map(abs, lower.get_ylim()))
            lower.set_ylim(-min(largest, 180.0), min(largest, 180.0))
            for ax in (upper, lower):
                ax.grid(which="major", color=GRID, lw=0.6)
        axes[0, 0].set_ylabel("phase (degrees)")
        axes[1, 0].set_ylabel("error (degrees)")
        legend(
            figure,
            {"measured": known, **{name: line(number) for number, name in enumerate(names)}},
            "outside upper center",
        )


def curves_of(device: Phase, *, low_hz: float = 20.0) -> Curves:
    """Phases by the cross-spectra of what went in and what came out, averaged over 1/24 octave.

    Args:
        device: the device and its models.
        low_hz: where the curves begin; they end at 20 kHz.

    Returns:
        The curves. The delay taken out is the device's in the highest octave; a model's curve is moved by
        whole turns to where it is nearest to the measured one.
    """
    dry, fs = np.asarray(device.dry, np.float64), device.fs
    high_hz = min(20_000.0, 0.45 * fs)
    n_points = round(np.log2(high_hz / low_hz) * POINTS_PER_OCTAVE)
    edges_hz = np.geomspace(low_hz, high_hz, n_points + 1)
    freqs_hz = np.sqrt(edges_hz[1:] * edges_hz[:-1])
    n_fft = 2 * len(dry)
    bins = np.fft.rfftfreq(n_fft, 1 / fs)
    start = np.searchsorted(bins, edges_hz)
    dry_spectrum = np.fft.rfft(dry, n_fft)

    def cross(y: Any) -> np.ndarray:
        return np.fft.rfft(np.asarray(y, np.float64), n_fft) * np.conj(dry_spectrum)

    def averaged(spectrum: np.ndarray) -> np.ndarray:
        turned = spectrum * np.exp(2j * np.pi * bins / fs * delay)
        return np.angle(np.add.reduceat(turned, start)[:-1])

    measured = cross(device.wet)
    lag = int(np.argmax(np.abs(np.fft.irfft(measured * (bins > high_hz / 10)))))
    delay = float(lag if lag < n_fft // 2 else lag - n_fft)
    slope = np.diff(np.unwrap(averaged(measured))) / np.diff(freqs_hz)
    delay -= float(np.median(slope[freqs_hz[1:] > high_hz / 2])) / (2 * np.pi) * fs
    target = np.degrees(np.unwrap(averaged(measured)))
    models = {}
    for name, model in device.models.items():
        degrees = np.degrees(np.unwrap(averaged(cross(model.apply(device.dry)))))
        models[name] = degrees - 360 * np.round(np.median(degrees - target) / 360)
    return Curves(delay, freqs_hz, target, models)


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A curve's outline: the lowest and the highest point of each of MOST_GROUPS equal parts of its axis."""
    if len(x) <= 2 * MOST_GROUPS:
        return x, y
    starts = np.unique(np.searchsorted(x, np.linspace(x[0], x[-1], MOST_GROUPS + 1)[:-1]))
    groups = np.split(np.arange(len(x)), starts[1:])
    kept = [pick for group in groups for pick in (group[np.argmin(y[group])], group[np.argmax(y[group])])]
    kept = np.unique(kept)
    return x[kept], y[kept]
