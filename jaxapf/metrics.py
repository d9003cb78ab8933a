"""What is reported about a prediction: NumPy in, Python numbers out, float64 throughout.

Every metric takes all samples of signals (..., n_samples) together, and raises ValueError where they are
empty or their shapes differ. Full scale is 1.0.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from jaxapf._internal.delay import CrossSpectrum, measure

__all__ = [
    "PairSums",
    "bound_of",
    "correlation",
    "esr",
    "mae",
    "mse",
    "peak_db",
    "phase_only_bound",
    "rms_db",
    "thd_n",
]

_ROUNDING = 1e-28  # of a sum of squares: what taking out a mean leaves of a constant


def _pair(pred: Any, target: Any, names: tuple = ("pred", "target")) -> tuple[np.ndarray, np.ndarray]:
    p, t = np.asarray(pred), np.asarray(target)
    if p.shape != t.shape or p.ndim == 0 or p.size == 0:
        raise ValueError(
            f"{names[0]} has shape {p.shape} and {names[1]} has shape {t.shape}; "
            "expected equal shapes (..., n_samples), not empty."
        )
    return p, t


def _signal(x: Any) -> np.ndarray:
    signal = np.asarray(x).astype(np.float64)
    if signal.ndim == 0 or signal.size == 0:
        raise ValueError(f"x has shape {signal.shape}; expected (..., n_samples), not empty.")
    return signal


def _decibels(amplitude: float) -> float:
    return 20 * math.log10(amplitude) if amplitude > 0 else float("-inf")


class PairSums:
    """Sums over a prediction and its target, block by block, from which `esr` and `correlation` follow."""

    def __init__(self) -> None:
        self._error = self._product = self._pred_energy = self._target_energy = 0.0

    def add(self, pred: np.ndarray, target: np.ndarray) -> PairSums:
        """Add blocks of one shape."""
        p, t = np.asarray(pred, np.float64), np.asarray(target, np.float64)
        self._error += float(np.sum(np.square(p - t)))
        self._product += float(np.sum(p * t))
        self._pred_energy += float(np.sum(np.square(p)))
        self._target_energy += float(np.sum(np.square(t)))
        return self

    @property
    def esr(self) -> float:
        """Error-to-signal ratio; 0 for two silent signals, inf for a silent target alone."""
        if self._target_energy > 0:
            return self._error / self._target_energy
        return 0.0 if self._error == 0 else float("inf")

    @property
    def correlation(self) -> float:
        """Correlation coefficient about zero; 0 where either is silent."""
        energy = self._pred_energy * self._target_energy
        return self._product / math.sqrt(energy) if energy > 0 else 0.0


def esr(pred: Any, target: Any) -> float:
    """Return the error-to-signal ratio sum (pred - target)^2 / sum target^2, no gain, no filter.

    It is 0 for two silent signals, inf for a silent target alone. Source: Bargum et al. 2023, eq. 12.

    Example:
        >>> esr([1.0, 1.0], [1.0, 2.0])
        0.2
    """
    return PairSums().add(*_pair(pred, target)).esr


def mse(pred: Any, target: Any) -> float:
    """Return the mean squared error.

    Example:
        >>> mse([1.0, 1.0], [1.0, 2.0])
        0.5
    """
    p, t = _pair(pred, target)
    return float(np.mean(np.square(p.astype(np.float64) - t)))


def mae(pred: Any, target: Any) -> float:
    """Return the mean absolute error (Bargum et al. 2023, eq. 11).

    Example:
        >>> mae([1.0, 1.0], [1.0, 2.0])
        0.5
    """
    p, t = _pair(pred, target)
    return float(np.mean(np.abs(p.astype(np.float64) - t)))


def correlation(pred: Any, target: Any) -> float:
    """Return the correlation coefficient about zero, in [-1, 1]; 0 where either signal is silent.

    Example:
        >>> round(correlation([1.0, 2.0], [2.0, 4.0]), 12)
        1.0
    """
    return PairSums().add(*_pair(pred, target)).correlation


def peak_db(x: Any) -> float:
    """Return the largest absolute sample, in dB relative to full scale (dBFS); -inf for silence.

    Example:
        >>> peak_db([0.1, -1.0]), peak_db([0.0])
        (0.0, -inf)
    """
    return _decibels(float(np.max(np.abs(_signal(x)))))


def rms_db(x: Any) -> float:
    """Return the root mean square in dBFS: a square wave at full scale has 0 dB, silence -inf.

    Example:
        >>> rms_db([1.0, -1.0]), rms_db([0.0])
        (0.0, -inf)
    """
    return _decibels(float(np.sqrt(np.mean(np.square(_signal(x))))))


def thd_n(x: Any, fs: float, *, band_hz: tuple[float, float] = (20.0, 20_000.0)) -> float:
    """Return total harmonic distortion and noise: what is left of a signal without its strongest component.

    Made for the output of a device that is fed a sine: what is not the sine is distortion or noise. Of a drum
    it only measures how far the loudest mode stands out: modes stand in no harmonic relation.

    The ratio is one of amplitudes, rest to total, from 0 to 1; leading axes are taken together, in power.
    Outside `band_hz` nothing counts. The component ends on either side where the spectrum, seen through a
    Blackman-Harris window, rises again; side lobes let no sine come below 1e-4. It is 0 where the band is
    silent. Raises ValueError for a signal too short for a line of its spectrum to lie in the band.

    Source: IEC 60268-3 for the quantity; 'Differentiable All-Pass DNNs' reports it of snare drums, in percent
    and without limits of the band.

    Example:
        >>> turns = 1000 * np.arange(4800) / 48000
        >>> sine, third = np.sin(2 * np.pi * turns), np.sin(2 * np.pi * 3 * turns)
        >>> thd_n(sine, 48000) < 1e-4, round(thd_n(sine + third / 10, 48000), 4)
        (True, 0.0995)
    """
    from scipy.signal import get_window  # half a second, which the command line need not wait for

    signal = _signal(x)
    n_samples = signal.shape[-1]
    window = get_window("blackmanharris", n_samples)
    lines = np.fft.rfft(window * (signal - np.mean(signal, axis=-1, keepdims=True)))
    freqs_hz = np.fft.rfftfreq(n_samples, 1 / fs)
    power = np.sum(np.square(np.abs(lines)), axis=tuple(range(signal.ndim - 1)))
    power = power[(freqs_hz >= band_hz[0]) & (freqs_hz <= band_hz[1])]
    if not power.size:
        raise ValueError(
            f"x has {n_samples} samples at {fs:g} Hz, whose spectrum has no line within band_hz {band_hz}; "
            "expected a longer signal or a wider band."
        )
    total = float(np.sum(power))
    if total <= _ROUNDING * n_samples * float(np.sum(np.square(signal))):
        return 0.0
    first, stop = _peak_bins(power)
    return float(np.sqrt((np.sum(power[:first]) + np.sum(power[stop:])) / total))


def _peak_bins(power: np.ndarray) -> tuple[int, int]:
    """Return the bins around the largest one, first to stop, between the nearest minima."""
    peak = first = last = int(np.argmax(power))
    while first > 0 and power[first - 1] < power[first]:
        first -= 1
    while last < len(power) - 1 and power[last + 1] < power[last]:
        last += 1
    return min(first + 1, peak), max(last, peak + 1)


def phase_only_bound(dry: Any, wet: Any, fs: float, *, nperseg: int | None = None) -> float:
    """Return the smallest error-to-signal ratio that changing the phase of `dry` alone can reach.

    1 + sum (Sxx - 2 |Sxy|) / sum Syy: an all-pass leaves Sxx and can at best turn Sxy real. One filter serves
    all leading axes. It is 0 for two silent signals, inf for a silent `wet` alone.

    `nperseg` None takes the spectra of the whole zero-padded signals, a strict bound for every unit-gain
    filter whose output is kept to its end: cutting it to `n_samples` can lower the ratio by what was cut, the
    energy of the tail over that of `wet`. A number, 2 or more, takes Welch spectra of that segment length:
    what a filter whose response is smooth at fs / nperseg can hope for.

    Example:
        >>> x = np.random.default_rng(0).standard_normal(4096)
        >>> phase_only_bound(x, -np.roll(x, 3), 48000) < 0.01
        True
    """
    x, y = _pair(dry, wet, ("dry", "wet"))
    if nperseg is None:
        return bound_of(measure(x, y, fs, 0))
    if nperseg < 2:
        raise ValueError(f"nperseg is {nperseg}; expected at least 2 samples.")
    import scipy.signal  # half a second, which the command line need not wait for

    x, y = (v.astype(np.float64) for v in (x, y))
    options = {"fs": fs, "nperseg": min(nperseg, x.shape[-1]), "detrend": False, "scaling": "spectrum"}
    leading = tuple(range(x.ndim - 1))
    sxx, syy = (np.sum(scipy.signal.welch(v, **options)[1], axis=leading) for v in (x, y))
    sxy = np.sum(scipy.signal.csd(x, y, **options)[1], axis=leading)
    return _ratio(float(np.sum(sxx)), float(np.sum(syy)), float(np.sum(np.abs(sxy))))


def bound_of(measured: CrossSpectrum) -> float:
    """Return the strict bound from a cross-spectrum already taken."""
    return _ratio(measured.dry_energy, measured.wet_energy, measured.max_correlation)


def _ratio(dry: float, wet: float, cross: float) -> float:
    if wet <= 0:
        return 0.0 if dry <= 0 else float("inf")
    return max(0.0, 1 + (dry - 2 * cross) / wet)
