"""Whole-sample latency of a device whose direct way through stands out."""

from __future__ import annotations

import numpy as np

from jaxapf._internal.delay import cross_correlation, measure

NEIGHBOURS = 16  # samples around the peak that belong to it
STANDS_OUT = 2.0  # times the next peak


def latency(dry: np.ndarray, wet: np.ndarray, fs: float, max_delay_ms: float) -> int:
    """Samples by which the wet signal is later (negative: earlier), where that can be told; otherwise 0.

    Args:
        dry: `(n_samples,)`, float64.
        wet: `(n_samples,)`.
        fs: sample rate in Hz.
        max_delay_ms: largest latency to look for.

    Returns:
        Whole samples: the peak of the whitened cross-correlation, if it stands out.

    Source: Knapp and Carter 1976, "The generalized correlation method for estimation of time delay".

    Example:
        >>> x = np.random.default_rng(0).standard_normal(4000)
        >>> latency(x, np.roll(x, 7), 8000.0, 20.0)
        7
    """
    reach = min(round(max_delay_ms * 1e-3 * fs), len(dry) // 4)
    if reach < 1:
        return 0
    lags = np.abs(cross_correlation(measure(dry, wet, fs, reach), reach, 1.0))
    peak = int(np.argmax(lags))
    others = np.delete(lags, slice(max(peak - NEIGHBOURS, 0), peak + NEIGHBOURS + 1))
    stands_out = lags[peak] >= STANDS_OUT * np.max(others, initial=0.0)
    return peak - len(lags) // 2 if stands_out else 0
