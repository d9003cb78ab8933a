"""Fractional delays, and finding a delay by cross-correlation; in NumPy, without importing JAX.

Everything a filter of unit gain can change in the error between dry x and wet y is in the cross-spectrum
S = conj(X) Y of the whole zero-padded signals: `measure` takes it once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jaxapf._internal.allpass_response import as_complex
from jaxapf._internal.fft import fast_length

HALF_WIDTH = 64  # of the interpolator, samples


def interpolator(fraction: float) -> np.ndarray:
    """Return the FIR filter that delays by HALF_WIDTH + fraction samples, (2 HALF_WIDTH + 1,).

    A Kaiser-windowed sinc, flat within 1e-4 up to 0.9 of the Nyquist frequency and 2e-4 up to 0.96 (Laakso et
    al. 1996, "Splitting the unit delay").
    """
    offset = np.arange(-HALF_WIDTH, HALF_WIDTH + 1) - fraction
    window = np.i0(8.0 * np.sqrt(np.clip(1 - (offset / (HALF_WIDTH + 1)) ** 2, 0, None))) / np.i0(8.0)
    return np.sinc(offset) * window


def delay_response(delay: Any, omega: Any, xp: Any = np) -> Any:
    """Return the response exp(-j omega delay) of a delay in samples at `omega` in rad / sample, broadcast."""
    turn = xp.asarray(omega * delay)
    return as_complex(xp.cos(turn), -xp.sin(turn))


class CrossSpectrum(NamedTuple):
    """Cross-spectrum of (dry, wet) on the bins of one real FFT, summed over channels.

    ``cross`` (n_bins,) complex; ``dry_power`` (n_bins,) the dry signal's own spectrum |X|^2; ``dry_energy``
    and ``wet_energy`` sums of squares; ``n_fft`` FFT length and ``n_samples`` signal length; ``fs`` in Hz.
    """

    cross: np.ndarray
    dry_power: np.ndarray
    dry_energy: float
    wet_energy: float
    n_fft: int
    n_samples: int
    fs: float

    @property
    def freqs_hz(self) -> np.ndarray:
        """Frequencies of the bins in Hz, (n_bins,)."""
        return np.arange(len(self.cross)) * (self.fs / self.n_fft)

    @property
    def max_correlation(self) -> float:
        """Largest inner product of the wet signal with any unit-gain filtering of the dry one."""
        values = np.abs(self.cross)
        total = 2.0 * np.sum(values, dtype=np.float64) - float(values[0])
        return float(total - float(values[-1]) if self.n_fft % 2 == 0 else total) / self.n_fft


def measure(dry: np.ndarray, wet: np.ndarray, fs: float, max_delay: int) -> CrossSpectrum:
    """Measure the cross-spectrum of dry and wet (..., n_samples), zero-padded to twice the length or more.

    Example:
        >>> x = np.random.default_rng(0).standard_normal(4096)
        >>> best_delay(measure(x[:-5], -x[5:], 44100.0, 100), 100)[1]
        -1
    """
    import scipy.fft  # a tenth of a second, which the command line need not wait for

    n_samples = dry.shape[-1]
    n_fft = fast_length(n_samples + max(max_delay + 1, n_samples))
    cross = np.zeros(n_fft // 2 + 1, np.complex128 if dry.dtype == np.float64 else np.complex64)
    power = np.zeros(len(cross), dry.dtype)
    for pair in zip(dry.reshape(-1, n_samples), wet.reshape(-1, n_samples), strict=True):
        x, y = (np.asarray(scipy.fft.rfft(signal, n_fft, workers=-1)) for signal in pair)
        power += np.square(np.real(x)) + np.square(np.imag(x))
        cross += np.conj(x) * y
    dry_energy, wet_energy = (float(np.sum(np.square(s, dtype=np.float64))) for s in (dry, wet))
    return CrossSpectrum(cross, power, dry_energy, wet_energy, n_fft, n_samples, fs)


def cross_correlation(
    spectrum: CrossSpectrum,
    max_delay: int,
    whiten: float = 0.0,
    band_hz: tuple[float, float] = (0.0, np.inf),
) -> np.ndarray:
    """Return the cross-correlation of a band at lags -max_delay ... max_delay, (2 max_delay + 1,).

    `whiten` is 0 for the plain correlation, 1 for the phase transform (Knapp and Carter 1976, "The
    generalized correlation method for estimation of time delay").
    """
    import scipy.fft

    cross = spectrum.cross
    if whiten or band_hz[0] > 0:
        magnitude = np.abs(cross)
        floor = 1e-4 * float(np.max(magnitude, initial=0.0)) + 1e-30
        keep = (spectrum.freqs_hz >= band_hz[0]) & (spectrum.freqs_hz <= band_hz[1])
        cross = np.where(keep, cross / (magnitude + floor) ** whiten, 0)
    lags = np.asarray(scipy.fft.irfft(cross, spectrum.n_fft, workers=-1))
    return np.concatenate([lags[-max_delay:], lags[: max_delay + 1]]) if max_delay else lags[:1]


def best_delay(spectrum: CrossSpectrum, max_delay: int) -> tuple[float, int]:
    """Return the delay in samples (fractional) and polarity of the largest absolute cross-correlation."""
    lags = cross_correlation(spectrum, max_delay)
    peak = int(np.argmax(np.abs(lags)))
    polarity = 1 if lags[peak] >= 0 else -1
    fraction = 0.0
    if 0 < peak < len(lags) - 1:
        # The vertex of a parabola through the peak and its neighbours.
        left, middle, right = (float(polarity * v) for v in lags[peak - 1 : peak + 2])
        curvature = left - 2 * middle + right
        fraction = 0.5 * (left - right) / curvature if curvature < 0 else 0.0
    return float(np.clip(peak - max_delay + fraction, -max_delay, max_delay)), polarity
