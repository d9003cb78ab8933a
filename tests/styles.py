"""Signals and a network for tests of style transfer, of few shapes, which are compiled once."""

import jax
import numpy as np
import scipy.signal

from jaxapf.audio import level
from jaxapf.effects.style import network

FS = 8000
DESIGN = network.Design(channels=4, dilations=(1,), hidden=(8,))


def small_network():
    """Random weights, so that the controls depend on the signals."""
    shapes = jax.eval_shape(lambda key: network.initial_weights(DESIGN, key, 0), jax.random.key(0))
    rng = np.random.default_rng(0)
    draw = lambda one: rng.normal(scale=0.3, size=one.shape).astype(np.float32)  # noqa: E731
    return network.Network(DESIGN, jax.tree.map(draw, shapes))


def bursts(n, seed=0):
    """Low-pass noise whose level jumps every frame of 400 samples, over 16 dB."""
    rng = np.random.default_rng(seed)
    x = np.asarray(scipy.signal.lfilter([1.0], [1.0, -0.7], rng.standard_normal(n)))
    return 0.05 * x * np.repeat(10.0 ** rng.uniform(-0.5, 0.3, n // 400 + 1), 400)[:n]


def loudness(x, fs):
    """Level in dBFS of what is not silence, of (channels, n_samples)."""
    return level.level_db(level.powers(lambda a, b: x[:, a:b], x.shape[-1], fs).channels)
