"""The cross-spectrum of two recordings on bins that a fit can use, and the delays that it suggests."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxapf._internal.delay import CrossSpectrum, best_delay, cross_correlation, measure

__all__ = [
    "Bins",
    "CrossSpectrum",
    "best_delay",
    "bin_weights",
    "cross_correlation",
    "delay_candidates",
    "is_test_signal",
    "log_bins",
    "measure",
]

LOWEST_HZ = 10.0
HIGHEST_HZ = 22_000.0


class Bins(NamedTuple):
    """Cross-spectrum summed within logarithmic bins, after a delay was taken out; all (n_bins,)."""

    omega: np.ndarray  # rad / sample
    cross: np.ndarray
    total: np.ndarray  # sum of |cross|: |cross| / total is the coherence
    dry: np.ndarray  # sum of the dry signal's |X|^2


def log_bins(spectrum: CrossSpectrum, per_octave: float, delay: float = 0.0) -> Bins:
    """Sum the cross-spectrum over bins of an FFT line or more, their phase kept by taking out the delay."""
    line_hz = spectrum.fs / spectrum.n_fft
    first = max(1, int(np.ceil(min(LOWEST_HZ, 0.01 * spectrum.fs) / line_hz)))
    last = max(first + 1, int(min(HIGHEST_HZ, 0.49 * spectrum.fs) / line_hz))
    omega = np.arange(first, last) * (2 * np.pi / spectrum.n_fft)
    cross = spectrum.cross[first:last] * np.exp(1j * omega * delay)
    octave_bin = np.floor(np.log2(omega / omega[0]) * per_octave).astype(int)
    starts = np.unique(octave_bin, return_index=True)[1]
    total = np.add.reduceat(np.abs(cross).astype(np.float64), starts)
    weighted = np.add.reduceat(np.abs(cross) * omega, starts)
    counts = np.diff(np.append(starts, len(omega)))
    plain = np.add.reduceat(omega, starts) / counts
    centre = np.where(total > 0, weighted / np.maximum(total, 1e-300), plain)
    summed = np.add.reduceat(cross.astype(np.complex128), starts)
    dry = np.add.reduceat(spectrum.dry_power[first:last].astype(np.float64), starts)
    return Bins(centre, summed * np.exp(-1j * centre * delay), total, dry)


def delay_candidates(spectrum: CrossSpectrum, max_delay: int, count: int = 4) -> list[float]:
    """Return plausible static latencies in samples, most trusted first."""
    # Low frequencies are where phase shifts live and latency hides: the high bands vote as well, whitened.
    found: list[float] = []
    top = min(HIGHEST_HZ, 0.45 * spectrum.fs)
    for band in ((2000.0, top), (500.0, top), (100.0, 2000.0), (0.0, np.inf)):
        if band[0] >= top:
            continue
        whiten = 0.0 if band[0] == 0.0 else 0.8
        size = np.abs(cross_correlation(spectrum, max_delay, whiten, band))
        apart = max(1, int(spectrum.fs * 2e-4))
        ranked = _highest_peaks(size, count, apart)
        found += [float(p - max_delay) for p in ranked if all(abs(p - max_delay - f) > 2 for f in found)]
    return [*found, 0.0] if found else [0.0]


def _highest_peaks(values: np.ndarray, count: int, apart: int) -> list[int]:
    """Return the indices of the ``count`` highest local maxima that lie ``apart`` from each other."""
    inner = np.flatnonzero((values[1:-1] >= values[:-2]) & (values[1:-1] > values[2:])) + 1
    kept: list[int] = []
    for peak in inner[np.argsort(values[inner])[::-1]]:
        if all(abs(peak - k) >= apart for k in kept):
            kept.append(int(peak))
        if len(kept) == count:
            break
    return kept


def is_test_signal(dry: np.ndarray, spectrum: CrossSpectrum) -> bool:
    """Return whether the dry signal is a measurement, such as a sweep: constant level, broad band."""
    # What is measured with those is meant for other material.
    peak = float(np.max(np.abs(dry)))
    rms = float(np.sqrt(np.mean(np.square(dry, dtype=np.float64))))
    if peak > 1.7 * rms:
        return False
    bins = log_bins(spectrum, 1)
    return bool(np.sum(bins.total > 1e-3 * np.max(bins.total, initial=0.0)) >= 5)


def bin_weights(bins: Bins, fs: float, share: float) -> np.ndarray:
    """Return weights that give ``share`` of the total to a music-like spectrum, else to the pair's own."""
    freqs_hz = bins.omega * (fs / (2 * np.pi))
    band = np.floor(3 * np.log2(freqs_hz / freqs_hz[0])).astype(int)
    size = np.abs(bins.cross)
    energy = np.bincount(band, size)
    coherence = (energy / np.maximum(np.bincount(band, bins.total), 1e-300)) ** 2
    level_db = 10 * np.log10(energy / max(float(energy.max()), 1e-300) + 1e-30)
    trust = coherence * np.clip((level_db + 60) / 20, 0, 1)
    # Music peaks near 60 to 100 Hz and falls by about 3 dB an octave above (Pestana et al. 2013).
    music = 1 / np.sqrt(1 + (freqs_hz / 100) ** 2) / (1 + (40 / freqs_hz) ** 4) / (1 + (freqs_hz / 6000) ** 2)
    # The cross-spectrum is the dry signal's power times the gain: put the music's in place of the former.
    wanted = (trust / np.maximum(np.bincount(band, bins.dry), 1e-300))[band] * music
    own, other = float(np.sum(size)), float(np.sum(wanted * size))
    if own <= 0 or other <= 0:
        return np.ones_like(size)
    return (1 - share) / own + share * wanted / other
