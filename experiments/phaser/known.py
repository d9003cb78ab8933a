"""Phasers with known parameters, sample by sample in float64: the truth, with nothing of jaxapf in it."""

from __future__ import annotations

import math

import numpy as np

from experiments.phaser import config


def cutoff_hz(target: config.Target, n_samples: int, fs: float) -> np.ndarray:
    """Where each stage turns by 90 degrees, Hz, `(n_samples,)`: sine or triangle in its logarithm.

    Example:
        >>> target = config.TARGETS[0]._replace(phase=0.0, rate_hz=1.0, low_hz=100.0, high_hz=400.0)
        >>> cutoff_hz(target, 5, 4.0).round(6).tolist()
        [400.0, 200.0, 100.0, 200.0, 400.0]
    """
    angle = 2 * np.pi * target.rate_hz * np.arange(n_samples) / fs + target.phase
    wave = np.cos(angle)
    if target.wave == "triangle":
        turns = (angle / (2 * np.pi)) % 1.0
        wave = 4 * np.abs(turns - 0.5) - 1
    low, high = math.log(target.low_hz), math.log(target.high_hz)
    return np.exp(low + (high - low) * (1 + wave) / 2)


def coefficients(target: config.Target, n_samples: int, fs: float) -> np.ndarray:
    """The all-passes' coefficient, `(n_samples,)`: (1 - t) / (1 + t), t = tan(pi cutoff / fs).

    Example:
        >>> target = config.TARGETS[0]._replace(low_hz=1000.0, high_hz=1000.0)
        >>> coefficients(target, 2, 4000.0).round(9).tolist()
        [0.0, 0.0]
    """
    tangent = np.tan(np.pi * cutoff_hz(target, n_samples, fs) / fs)
    return (1 - tangent) / (1 + tangent)


def rendered(target: config.Target, x: np.ndarray, fs: float) -> np.ndarray:
    """The wet signal `(n_samples,)` of a dry one: a loop over samples, a loop over stages.

    Without a delay the loop is solved for its output: the chain is affine in what enters it, v -> slope v +
    offset, and v = x + feedback (slope v + offset).

    Example:
        >>> target = config.TARGETS[0]._replace(low_hz=1000.0, high_hz=1000.0, stages=2)
        >>> target = target._replace(through=1.0, around=0.5)  # z^-2 beside the input
        >>> rendered(target, np.array([1.0, 0.0, 0.0, 0.0]), 4000.0).round(9).tolist()
        [1.0, -0.0, 0.5, 0.0]
    """
    p = coefficients(target, len(x), fs).tolist()
    ins, outs = [0.0] * target.stages, [0.0] * target.stages  # of the stages, one sample ago
    y = np.empty(len(x))
    for t, dry in enumerate(np.asarray(x, np.float64).tolist()):
        if target.delay:
            entering = dry + target.feedback * outs[-1]
        else:
            offset = _through(0.0, p[t], ins, outs)[-1]
            slope = p[t] ** target.stages
            entering = (dry + target.feedback * offset) / (1 - target.feedback * slope)
        signals = _through(entering, p[t], ins, outs)
        ins, outs = signals[:-1], signals[1:]
        y[t] = target.through * dry + target.around * outs[-1]
    return y


def _through(value: float, p: float, ins: list[float], outs: list[float]) -> list[float]:
    """Signals before, between and after the stages."""
    signals = [value]
    for before, after in zip(ins, outs, strict=True):
        value = p * (value + after) - before
        signals.append(value)
    return signals
