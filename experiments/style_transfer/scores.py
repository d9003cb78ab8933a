"""How far a result is from its target: five distances of sound, and one of controls.

Those of Steinmetz et al. 2022, arXiv 2207.08759, section 5, one value a clip, then averaged. Two remarks on
comparing with the printed figures. The printed RMS error comes from 20 ln(rms), 2.303 times what decibels
give. And the distances depend on the length and level of clips; ours are shorter and at another level.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import numpy as np
import pyloudnorm

from jaxapf import losses, params

MEL_LENGTH = 65_536  # longest window of the mel-spectral distance, samples
MELS = 128
CENTROID = losses.Resolution(2048, 512, 2048)
EPS = 1e-8  # floor of squared magnitudes, auraloss's
LEAST_RMS = 1e-8
BLOCK_S = 0.4  # of the loudness meter, BS.1770
LEAST_LUFS = -70.0  # the meter's absolute gate: silence counts as this loud


class Scores(NamedTuple):
    """Each (n,), of n clips; 0 for equal ones."""

    mrstft: np.ndarray
    msd: np.ndarray
    sce_hz: np.ndarray
    rms_db: np.ndarray
    lufs_db: np.ndarray


TITLES: Mapping[str, str] = {
    "mrstft": "MR-STFT",
    "msd": "mel distance",
    "sce_hz": "centroid error, Hz",
    "rms_db": "RMS error, dB",
    "lufs_db": "LUFS error, dB",
}


def scores(pred: Any, target: Any, fs: int) -> Scores:
    """All distances of sound.

    Args:
        pred: (n, n_samples).
        target: the same shape.
        fs: sample rate in Hz.

    Returns:
        Scores, (n,) each.

    Raises:
        ValueError: the shapes differ or are none of clips, or a sample is NaN or infinite.
    """
    p, t = np.asarray(pred, np.float32), np.asarray(target, np.float32)
    if p.shape != t.shape or p.ndim != 2:
        raise ValueError(f"pred has shape {p.shape} and target {t.shape}; expected (n, n_samples) of both")
    for name, x in (("pred", p), ("target", t)):
        if not np.isfinite(x).all():
            raise ValueError(f"{name} holds NaN or infinite samples; mend the method before scoring it")
    return Scores(
        np.asarray(mrstft(p, t), np.float64),
        mel_distance(p, t, fs),
        np.abs(centroid_hz(p, fs) - centroid_hz(t, fs)),
        np.abs(rms_db(p) - rms_db(t)),
        np.abs(loudness_db(p, fs) - loudness_db(t, fs)),
    )


@jax.jit
def mrstft(pred: Any, target: Any) -> jax.Array:
    """Multi-resolution STFT distance of each clip: `losses.mrstft`, auraloss's defaults.

    Mean over FFTs of 512, 1024 and 2048 of ||T - P|| / ||T|| + mean |ln T - ln P|, with magnitudes T and P.

    Args:
        pred: (n, n_samples).
        target: the same shape.

    Returns:
        (n,).
    """
    return jax.lax.map(lambda pair: losses.mrstft(*pair), (pred, target))


def mel_distance(pred: np.ndarray, target: np.ndarray, fs: int) -> np.ndarray:
    """Distance of long-time mel spectra, mean |ln P - ln T| + mean |P - T| over 128 bands.

    P and T are mel-weighted magnitudes of windows as long as the clip, at most 65,536 samples, a window apart
    and centred on multiples of it (the clip mirrored at its ends); so of two windows of a shorter clip.

    Args:
        pred: (n, n_samples).
        target: the same shape.
        fs: sample rate in Hz.

    Returns:
        (n,).
    """
    n_fft = min(pred.shape[-1], MEL_LENGTH)
    weights = mel_weights(fs, n_fft)
    bands = [np.sqrt(np.maximum(_powers(x, n_fft, n_fft), EPS)) @ weights.T for x in (pred, target)]
    p, t = (np.maximum(x, np.finfo(np.float64).tiny) for x in bands)
    return np.mean(np.abs(np.log(p) - np.log(t)) + np.abs(p - t), axis=(-2, -1))


@lru_cache(maxsize=8)
def mel_weights(fs: int, n_fft: int) -> np.ndarray:
    """Triangles on the mel scale of Slaney's Auditory Toolbox, each of area 1 over Hz (librosa's default).

    A mel is 200 / 3 Hz up to 1 kHz; above it 27 mels are a factor of 6.4.

    Returns:
        (MELS, n_fft // 2 + 1).
    """
    # From Hz: f / (200 / 3) to 1 kHz, which is mel 15; above 15 + 27 ln(f / 1000) / ln 6.4.
    top = 15 + 27 * math.log(fs / 2000) / math.log(6.4) if fs > 2000 else fs / 2 * 3 / 200
    mels = np.linspace(0, top, MELS + 2)
    edges = np.where(mels < 15, mels * 200 / 3, 1000 * 6.4 ** ((mels - 15) / 27))
    hz = np.arange(n_fft // 2 + 1) * fs / n_fft
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    triangles = np.minimum((hz - low) / (middle - low), (high - hz) / (high - middle))
    return np.maximum(triangles, 0) * 2 / (high - low)


def centroid_hz(x: np.ndarray, fs: int) -> np.ndarray:
    """Spectral centroid, sum f |X| / sum |X| of each frame (2048 samples, 512 apart), mean over frames.

    Frames without energy do not count; a silent clip has a centroid of 0.

    Args:
        x: (n, n_samples).
        fs: sample rate in Hz.

    Returns:
        (n,) in Hz.
    """
    sizes = np.sqrt(_powers(x, CENTROID.n_fft, CENTROID.hop))
    hz = np.arange(sizes.shape[-1]) * fs / CENTROID.n_fft
    total = np.sum(sizes, axis=-1)
    audible = total > 0
    each = np.sum(sizes * hz, axis=-1) / np.where(audible, total, 1.0)
    return np.sum(each, axis=-1) / np.maximum(np.sum(audible, axis=-1), 1)


def rms_db(x: np.ndarray) -> np.ndarray:
    """Level, 20 log10 of the root mean square, no lower than -160 dB.

    Args:
        x: (n, n_samples).

    Returns:
        (n,) in dBFS.
    """
    rms = np.sqrt(np.mean(np.square(x, dtype=np.float64), axis=-1))
    return 20 * np.log10(np.maximum(rms, LEAST_RMS))


def loudness_db(x: np.ndarray, fs: int) -> np.ndarray:
    """Integrated loudness of ITU-R BS.1770 by pyloudnorm, no lower than its absolute gate, -70 LUFS.

    L = -0.691 + 10 log10 of the mean square after K-weighting, over those blocks of 0.4 s that are above
    -70 LUFS and no more than 10 below the mean. pyloudnorm refuses clips shorter than one block: such a clip
    is one block, as long as it is, with nothing to gate.

    Args:
        x: (n, n_samples), one channel.
        fs: sample rate in Hz.

    Returns:
        (n,) in LUFS.
    """
    n_samples = x.shape[-1]
    block_s = min(BLOCK_S, n_samples / fs)
    while block_s * fs > n_samples:  # rounding: one block would not fit
        block_s = math.nextafter(block_s, 0)
    meter = pyloudnorm.Meter(fs, block_size=block_s)
    return np.array([_metered(meter, one) for one in np.asarray(x, np.float64)])


def _metered(meter: Any, x: np.ndarray) -> float:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # of silence, of which the mean is taken
        found = float(meter.integrated_loudness(x))
    return max(found, LEAST_LUFS) if math.isfinite(found) else LEAST_LUFS


def control_errors(predicted: Any, known: Any, controls: Sequence[params.Control]) -> np.ndarray:
    """Mean absolute error of each control, as a share of its range: |u - v|, u and v in [0, 1] on its scale.

    Two that are drawn at random from the range are 1/3 apart in the mean, the middle and a random one 1/4.

    Args:
        predicted: (n, n_controls) in units.
        known: the same shape.
        controls: what they are.

    Returns:
        (n_controls,); its mean is the error of all.
    """
    p, k = (params.normalise(np.asarray(x, np.float64), controls) for x in (predicted, known))
    return np.mean(np.abs(p - k), axis=tuple(range(np.ndim(p) - 1))) / 2


def means(found: Scores) -> dict[str, float]:
    """Mean over the clips, by name.

    Example:
        >>> means(Scores(*np.eye(5)[:, :2]))["mrstft"]
        0.5
    """
    return {name: float(np.mean(values)) for name, values in found._asdict().items()}


def _powers(x: np.ndarray, n_fft: int, hop: int) -> np.ndarray:
    """Squared magnitudes (n, n_frames, n_bins) by periodic Hann windows, the clip mirrored at its ends."""
    padded = np.pad(np.asarray(x, np.float64), [(0, 0), (n_fft // 2, n_fft // 2)], mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    starts = np.arange(0, padded.shape[-1] - n_fft + 1, hop)
    return np.stack(
        [np.abs(np.fft.rfft(window * padded[:, start : start + n_fft])) ** 2 for start in starts], axis=1
    )
