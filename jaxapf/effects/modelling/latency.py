"""Whole-sample latency of a device, from the cross-correlation of its input and output."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from jaxapf._internal.delay import cross_correlation, measure

__all__ = ["MAX_DELAY_MS", "blocks", "find_delay", "latency", "shifted"]

MAX_DELAY_MS = 20.0  # either way, unless another is given
NEIGHBOURS = 16  # samples around the peak that belong to it
STANDS_OUT = 2.0  # times the next peak


def latency(
    dry: Float[np.ndarray, " n_samples"], wet: Float[np.ndarray, " n_samples"], fs: float, max_delay_ms: float
) -> int:
    """Return the delay of wet in samples (negative: early), 0 where no direct path stands out.

    It is the peak of the whitened cross-correlation (Knapp and Carter 1976).
    """
    reach = min(round(max_delay_ms * 1e-3 * fs), len(dry) // 4)
    if reach < 1:
        return 0
    lags = np.abs(cross_correlation(measure(dry, wet, fs, reach), reach, 1.0))
    peak = int(np.argmax(lags))
    others = np.delete(lags, slice(max(peak - NEIGHBOURS, 0), peak + NEIGHBOURS + 1))
    stands_out = lags[peak] >= STANDS_OUT * np.max(others, initial=0.0)
    return peak - len(lags) // 2 if stands_out else 0


def find_delay(
    dry: Float[np.ndarray, "n_channels n_samples"],
    wet: Float[np.ndarray, "n_channels n_samples"],
    fs: float,
    max_delay_ms: float = MAX_DELAY_MS,
) -> tuple[int, int]:
    """Return the delay of wet in samples (negative: early), and its sign, of a device whose gain moves.

    Of the highest peaks of the cross-correlation, and their neighbours, it is the one with the least residual
    after one gain per millisecond: a gain that moves fast can bend the peak itself.
    """
    reach = min(round(max_delay_ms * 1e-3 * fs), dry.shape[-1] // 2)
    near = cross_correlation(measure(dry, wet, fs, reach), reach)
    best = np.argsort(-np.abs(near))[:3]
    around = {int(lag) - reach + k for lag in best for k in (-1, 0, 1)}
    lags = sorted((lag for lag in around if abs(lag) <= reach), key=abs)
    lag = min(lags, key=lambda lag: block_residual(dry, wet, lag, fs))
    return lag, 1 if near[lag + reach] >= 0 else -1


def block_residual(dry: np.ndarray, wet: np.ndarray, delay: int, fs: float) -> float:
    """Return the residual energy of wet after one gain per millisecond."""
    d, w = (blocks(x, max(8, round(1e-3 * fs))) for x in (shifted(dry, delay), wet))
    cross, power = np.sum(d * w, -1), np.sum(d * d, -1)
    return float(np.sum(w * w) - np.sum(cross**2 / np.maximum(power, 1e-30)))


def shifted(x: np.ndarray, delay: int) -> np.ndarray:
    """Return signals delayed by so many samples (negative: advanced), with zeros outside."""
    if delay == 0:
        return x
    y = np.zeros_like(x)
    if delay > 0:
        y[..., delay:] = x[..., :-delay]
    else:
        y[..., :delay] = x[..., -delay:]
    return y


def blocks(x: np.ndarray, length: int) -> np.ndarray:
    """Return whole blocks (n_channels, n_blocks, length)."""
    n = x.shape[-1] // length
    return x[..., : n * length].reshape(x.shape[0], n, length)
