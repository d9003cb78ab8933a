"""What there was before: a delay in whole samples, a polarity, or both, from classical estimates.

Each takes (dry, wet, fs), signals of (n_samples,), and gives the (delay_samples, polarity) with which
`shifted` lays the dry one on the wet one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from jaxapf.alignment import cross_spectrum

MAX_DELAY_MS = 20.0
Estimate = tuple[int, int]
Method = Callable[[np.ndarray, np.ndarray, float], Estimate]


def shifted(x: np.ndarray, delay_samples: int, polarity: int = 1) -> np.ndarray:
    """Move a signal by whole samples, zeros coming in; negative is earlier.

    Args:
        x: (n_samples,).
        delay_samples: at most n_samples, of either sign.
        polarity: 1 or -1.

    Returns:
        (n_samples,), of the same dtype.

    Example:
        >>> shifted(np.array([1, 2, 3]), 1, -1), shifted(np.array([1, 2, 3]), -2)
        (array([ 0, -1, -2]), array([3, 0, 0]))
    """
    n_samples = len(x)
    moved = np.zeros_like(x)
    moved[max(delay_samples, 0) : n_samples + min(delay_samples, 0)] = x[
        max(-delay_samples, 0) : n_samples - max(delay_samples, 0)
    ]
    return polarity * moved


def as_is(dry: np.ndarray, wet: np.ndarray, fs: float) -> Estimate:
    """Leave everything as it was recorded."""
    return 0, 1


def polarity_only(dry: np.ndarray, wet: np.ndarray, fs: float) -> Estimate:
    """The sign of the correlation as recorded, no delay."""
    return 0, -1 if np.dot(dry.astype(np.float64), wet.astype(np.float64)) < 0 else 1


def cross_correlation_delay(dry: np.ndarray, wet: np.ndarray, fs: float) -> Estimate:
    """The delay of the largest correlation; the polarity stays."""
    return _largest(correlation_lags(dry, wet, fs))[0], 1


def cross_correlation_delay_polarity(dry: np.ndarray, wet: np.ndarray, fs: float) -> Estimate:
    """The delay of the largest correlation of either sign, and that sign."""
    return _largest_of_either_sign(correlation_lags(dry, wet, fs))


def gcc_phat(dry: np.ndarray, wet: np.ndarray, fs: float) -> Estimate:
    """As `cross_correlation_delay_polarity`, of the phase transform: every frequency counts alike.

    Source: Knapp and Carter 1976, "The generalized correlation method for estimation of time delay".
    """
    return _largest_of_either_sign(correlation_lags(dry, wet, fs, whiten=1.0))


METHODS: dict[str, Method] = {
    "as is": as_is,
    "polarity": polarity_only,
    "cross-correlation, delay": cross_correlation_delay,
    "cross-correlation, delay and polarity": cross_correlation_delay_polarity,
    "GCC-PHAT, delay and polarity": gcc_phat,
}


def correlation_lags(dry: np.ndarray, wet: np.ndarray, fs: float, *, whiten: float = 0.0) -> np.ndarray:
    """Cross-correlation within `MAX_DELAY_MS`: (2 max_delay + 1,), the delay 0 in the middle."""
    max_delay = min(round(MAX_DELAY_MS * 1e-3 * fs), len(dry) - 1)
    measured = cross_spectrum.measure(dry.astype(np.float64), wet.astype(np.float64), fs, max_delay)
    return cross_spectrum.cross_correlation(measured, max_delay, whiten)


def _largest(lags: np.ndarray) -> Estimate:
    peak = int(np.argmax(lags))
    delay = peak - len(lags) // 2
    return (delay, 1) if lags[peak] != 0 else (0, 1)


def _largest_of_either_sign(lags: np.ndarray) -> Estimate:
    (above, _), (below, _) = _largest(lags), _largest(-lags)
    return (above, 1) if np.max(lags) >= -np.min(lags) else (below, -1)
