"""What the training has to find, in float64 NumPy and SciPy, independent of jaxapf.

The RC low-pass and the first-order all-pass have, with the bilinear transform and t = tan(pi f / fs), these
phases:

    -arctan(t / rho)    and    -2 arctan(t (1 - g) / (1 + g)).

They agree at low frequencies where (1 - g) / (1 + g) = 1 / (2 rho), and nowhere else; what is least over a
signal is a minimum in one variable.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.fft
import scipy.optimize
import scipy.signal

# FFT size, hop, window: Bargum et al. 2023, table 1.
RESOLUTIONS = ((512, 50, 240), (1024, 120, 600), (2048, 240, 1200))
ROWS = 64  # sequences worked off at once: their frames are forty times as large


class Minimum(NamedTuple):
    """Coefficient of the first-order all-pass, and the loss there."""

    coefficient: float
    loss: float


def rho_of(resistance: float, capacitance: float, fs: float) -> float:
    """Of V' = (V_in - V) / (R C), integrated by the trapezoidal rule: half a sample over the time constant.

    Args:
        resistance: in ohm.
        capacitance: in farad.
        fs: sample rate in Hz.

    Returns:
        rho, so that V[n] = (rho (V_in[n] + V_in[n-1]) + (1 - rho) V[n-1]) / (1 + rho).
    """
    return 1 / (2 * fs * resistance * capacitance)


def rc_filter(rho: float, x: np.ndarray) -> np.ndarray:
    """Bargum et al. 2023, eq. 10, along the last axis, from rest."""
    return np.asarray(scipy.signal.lfilter([rho, rho], [1 + rho, rho - 1], x))


def allpass(coefficient: float, x: np.ndarray) -> np.ndarray:
    """(g + z^-1) / (1 + g z^-1) along the last axis, from rest."""
    return np.asarray(scipy.signal.lfilter([coefficient, 1.0], [1.0, coefficient], x))


def low_frequency_match(rho: float) -> float:
    """The coefficient whose phase has the slope of the RC filter's at 0 Hz."""
    return (2 * rho - 1) / (2 * rho + 1)


def rc_phase(rho: float, freqs_hz: np.ndarray, fs: float) -> np.ndarray:
    """Phase of the RC filter in radians."""
    return -np.arctan(np.tan(np.pi * freqs_hz / fs) / rho)


def allpass_phase(coefficient: float, freqs_hz: np.ndarray, fs: float) -> np.ndarray:
    """Phase of the first-order all-pass in radians."""
    return -2 * np.arctan(np.tan(np.pi * freqs_hz / fs) * (1 - coefficient) / (1 + coefficient))


# Losses of a coefficient


def mse_of(dry: np.ndarray, wet: np.ndarray) -> Callable[[float], float]:
    """Mean squared error of the all-pass, as a function of its coefficient.

    Args:
        dry: float64 (n_sequences, n_samples).
        wet: the same shape.
    """
    return lambda coefficient: float(np.mean((allpass(coefficient, dry) - wet) ** 2))


def mstft_of(dry: np.ndarray, wet: np.ndarray, *, power: int, fraction: float) -> Callable[[float], float]:
    """The paper's multi-resolution spectral loss, eq. 7 to 9, as a function of the coefficient.

    Args:
        dry: float64 (n_sequences, n_samples).
        wet: the same shape.
        power: of the magnitudes, 1 or 2.
        fraction: share of the bins that counts, from the lowest on.
    """
    parts = [slice(start, start + ROWS) for start in range(0, len(dry), ROWS)]
    targets = [[spectra(wet[part], one, fraction) for one in RESOLUTIONS] for part in parts]

    def loss(coefficient: float) -> float:
        totals, counts = np.zeros(len(RESOLUTIONS)), np.zeros(len(RESOLUTIONS))
        for part, of_part in zip(parts, targets, strict=True):
            filtered = allpass(coefficient, dry[part])
            for number, (resolution, target) in enumerate(zip(RESOLUTIONS, of_part, strict=True)):
                found = spectra(filtered, resolution, fraction)
                excess = abs(target) ** power + abs(found) ** power - abs(target + found) ** power
                totals[number] += np.sum(excess**2)
                counts[number] += excess.size
        return float(np.mean(totals / counts))

    return loss


def spectra(x: np.ndarray, resolution: tuple[int, int, int], fraction: float) -> np.ndarray:
    """Short-time spectra with periodic Hann windows in the middle of each FFT, the ends mirrored.

    Returns:
        complex128 (n_sequences, n_frames, n_bins), the lowest bins.
    """
    n_fft, hop, n_window = resolution
    before = (n_fft - n_window) // 2
    window = np.pad(scipy.signal.get_window("hann", n_window), (before, n_fft - n_window - before))
    mirrored = np.pad(x, ((0, 0), (n_fft // 2, n_fft // 2)), mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(mirrored, n_fft, axis=-1)[:, ::hop]
    n_bins = max(1, int(fraction * (n_fft // 2 + 1)))
    return np.asarray(scipy.fft.rfft(frames * window))[..., :n_bins]


def minimum_of(loss: Callable[[float], float]) -> Minimum:
    """The least loss of a stable all-pass: the best of a coarse grid, then Brent's method around it.

    The grid is even in the logarithm of the break frequency, tan(pi f / fs) = (1 + g) / (1 - g).
    """
    grid = np.tanh(np.linspace(-4.5, 4.5, 19))
    losses = [loss(float(coefficient)) for coefficient in grid]
    best = min(max(int(np.argmin(losses)), 1), len(grid) - 2)
    found = scipy.optimize.minimize_scalar(
        loss, bounds=(grid[best - 1], grid[best + 1]), method="bounded", options={"xatol": 1e-6}
    )
    return Minimum(float(found.x), float(found.fun))
