"""The compressor with known settings, from the paper's equations in float64: nothing of jaxapf in it."""

from __future__ import annotations

import math

import numpy as np

from experiments.compressor import config

FLOOR = 1e-10  # of the mean power


def coefficient(time_ms: float, fs: float) -> float:
    """Of a one-pole smoother whose step takes so long from 10 to 90 per cent.

    Example:
        >>> round(coefficient(50.0, 44100.0), 6)
        0.000996
    """
    return 1.0 - math.exp(-math.log(9.0) / (fs * time_ms * 1e-3))


def time_ms(coefficient: float, fs: float) -> float:
    """The inverse of `coefficient`.

    Example:
        >>> round(time_ms(0.03, 44100.0), 4)
        1.6358
    """
    return -1e3 * math.log(9.0) / (fs * math.log1p(-coefficient))


def gains(settings: config.Known, x: np.ndarray, fs: float) -> np.ndarray:
    """The gain for every sample of x (n_samples,), by a plain loop.

    Source: Yu et al. 2024, section 5.
    """
    attack, release = coefficient(settings.attack_ms, fs), coefficient(settings.release_ms, fs)
    slope, threshold, average = 1.0 - 1.0 / settings.ratio, settings.threshold_db, settings.average
    power, gain = 0.0, 1.0
    out = np.empty(len(x))
    for t, value in enumerate(x.tolist()):
        power = (1.0 - average) * power + average * value * value
        over = 10.0 * math.log10(max(power, FLOOR)) - threshold
        wanted = 10.0 ** (-slope * over / 20.0) if over > 0 else 1.0
        follow = attack if wanted < gain else release
        gain = (1.0 - follow) * gain + follow * wanted
        out[t] = gain
    return out


def render(settings: config.Known, x: np.ndarray, fs: float) -> np.ndarray:
    """What the compressor makes of x (n_samples,), float64."""
    return 10.0 ** (settings.makeup_db / 20.0) * gains(settings, x, fs) * x
