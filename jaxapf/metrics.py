"""What is reported about a prediction: NumPy in, Python numbers out, float64 throughout."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxapf import spectrum


def _pair(
    pred: Any, target: Any, names: tuple[str, str] = ("pred", "target")
) -> tuple[np.ndarray, np.ndarray]:
    p, t = np.asarray(pred), np.asarray(target)
    if p.shape != t.shape or p.ndim == 0 or p.size == 0:
        raise ValueError(
            f"{names[0]} has shape {p.shape} and {names[1]} has shape {t.shape}; "
            "expected equal shapes (..., n_samples), not empty."
        )
    return p, t


def esr(pred: Any, target: Any) -> float:
    """Error-to-signal ratio sum (pred - target)^2 / sum target^2, no gain, no filter.

    Args:
        pred: `(..., n_samples)`, the prediction.
        target: same shape, what it should be.

    Returns:
        The ratio over all samples; 0 for two silent signals, inf for a silent target alone.

    Source: Bargum et al. 2023, eq. 12.

    Example:
        >>> esr([1.0, 1.0], [1.0, 2.0])
        0.2
    """
    p, t = _pair(pred, target)
    error = float(np.sum(np.square(p.astype(np.float64) - t)))
    energy = float(np.sum(np.square(t, dtype=np.float64)))
    return error / energy if energy > 0 else (0.0 if error == 0 else float("inf"))


def mse(pred: Any, target: Any) -> float:
    """Mean squared error over all samples.

    Example:
        >>> mse([1.0, 1.0], [1.0, 2.0])
        0.5
    """
    p, t = _pair(pred, target)
    return float(np.mean(np.square(p.astype(np.float64) - t)))


def mae(pred: Any, target: Any) -> float:
    """Mean absolute error over all samples (Bargum et al. 2023, eq. 11).

    Example:
        >>> mae([1.0, 1.0], [1.0, 2.0])
        0.5
    """
    p, t = _pair(pred, target)
    return float(np.mean(np.abs(p.astype(np.float64) - t)))


def correlation(pred: Any, target: Any) -> float:
    """Correlation coefficient of two signals about zero, in [-1, 1]; 0 where either is silent.

    Example:
        >>> round(correlation([1.0, 2.0], [2.0, 4.0]), 12)
        1.0
    """
    p, t = (v.astype(np.float64) for v in _pair(pred, target))
    energy = float(np.sum(p * p)) * float(np.sum(t * t))
    return float(np.sum(p * t) / np.sqrt(energy)) if energy > 0 else 0.0


def phase_only_bound(dry: Any, wet: Any, fs: float, *, nperseg: int | None = None) -> float:
    """Smallest error-to-signal ratio that changing the phase of `dry` alone can reach.

    1 + sum (Sxx - 2 |Sxy|) / sum Syy: an all-pass leaves Sxx and can at best turn Sxy real.

    Args:
        dry: `(..., n_samples)`, the signal to be filtered; one filter serves all leading axes.
        wet: same shape, what it should become.
        fs: sample rate in Hz.
        nperseg: None takes the spectra of the whole zero-padded signals, a strict bound for every
            unit-gain filter whose output is kept to its end: cutting it to `n_samples` can lower the
            ratio by what was cut, the energy of the tail over that of `wet`. A number
            takes Welch spectra of that segment length: what a filter whose response is smooth at
            fs / nperseg can hope for.

    Returns:
        The ratio; nan-free: 0 for two silent signals, inf for a silent `wet` alone.

    Raises:
        ValueError: shapes that differ or are empty, `nperseg` < 2.

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).standard_normal(4096)
        >>> phase_only_bound(x, -np.roll(x, 3), 48000) < 0.01
        True
    """
    x, y = _pair(dry, wet, ("dry", "wet"))
    if nperseg is None:
        measured = spectrum.measure(x, y, fs, 0)
        return bound_of(measured)
    if nperseg < 2:
        raise ValueError(f"nperseg is {nperseg}; expected at least 2 samples.")
    import scipy.signal  # half a second, which the command line need not wait for

    x, y = (v.astype(np.float64) for v in (x, y))
    options = {"fs": fs, "nperseg": min(nperseg, x.shape[-1]), "detrend": False, "scaling": "spectrum"}
    leading = tuple(range(x.ndim - 1))
    sxx, syy = (np.sum(scipy.signal.welch(v, **options)[1], axis=leading) for v in (x, y))
    sxy = np.sum(scipy.signal.csd(x, y, **options)[1], axis=leading)
    return _ratio(float(np.sum(sxx)), float(np.sum(syy)), float(np.sum(np.abs(sxy))))


def bound_of(measured: spectrum.CrossSpectrum) -> float:
    """The strict bound from a cross-spectrum already taken."""
    return _ratio(measured.dry_energy, measured.wet_energy, measured.max_correlation)


def _ratio(dry: float, wet: float, cross: float) -> float:
    if wet <= 0:
        return 0.0 if dry <= 0 else float("inf")
    return max(0.0, 1 + (dry - 2 * cross) / wet)
