"""Bands that are equally spaced in mel."""

import operator

import numpy as np

__all__ = ["mel_corners_hz", "mel_filterbank"]


def mel_corners_hz(n_mels: int, fs: float) -> np.ndarray:
    """Return n_mels + 2 frequencies in Hz, equally spaced in mel from 0 to half the sample rate `fs` in Hz.

    Source: O'Shaughnessy 1987, the formula of HTK: mel = 2595 log10(1 + f / 700 Hz).

    Example:
        >>> mel_corners_hz(1, 8000.0).round().tolist()
        [0.0, 1114.0, 4000.0]
    """
    if operator.index(n_mels) < 1:
        raise ValueError(f"n_mels is {n_mels}; expected at least 1.")
    if not fs > 0:
        raise ValueError(f"fs is {fs:g}; expected > 0.")
    top = 2595 * np.log10(1 + fs / 2 / 700)
    return 700 * (10 ** (np.linspace(0, top, n_mels + 2) / 2595) - 1)


def mel_filterbank(n_mels: int, n_fft: int, fs: float) -> np.ndarray:
    """Return triangles over the bins of a transform, (n_mels, n_fft // 2 + 1), float64.

    Each has a peak of one between the centres of its neighbours, which are the inner `mel_corners_hz`. Narrow
    ones may fall between two bins, and be zero. ValueError where a count or `fs` is not positive.

    Example:
        >>> mel_filterbank(2, 8, 8000.0).round(2).tolist()
        [[0.0, 0.68, 0.0, 0.0, 0.0], [0.0, 0.32, 0.91, 0.45, 0.0]]
    """
    if operator.index(n_fft) < 1:
        raise ValueError(f"n_fft is {n_fft}; expected at least 1.")
    corners = mel_corners_hz(n_mels, fs)
    low, centre, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    freqs = np.arange(n_fft // 2 + 1) * fs / n_fft
    return np.maximum(0, np.minimum((freqs - low) / (centre - low), (high - freqs) / (high - centre)))
