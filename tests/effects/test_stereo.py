"""Panner, width and gain against what they promise."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxapf.effects import gain, panner, width

RNG = np.random.default_rng(0)
X = RNG.standard_normal(200).astype(np.float32)
STEREO = RNG.standard_normal((2, 200)).astype(np.float32)


def test_power_is_constant_and_the_ends_are_left_and_right(x64):
    x = X.astype(np.float64)
    pans = np.linspace(-1, 1, 9)
    y, _ = panner.panner(panner.Controls(pans), panner.initial_state(), np.tile(x, (9, 1)), 8e3)
    assert y.shape == (9, 2, 200)
    np.testing.assert_allclose(np.sum(np.asarray(y) ** 2, axis=1), np.tile(x**2, (9, 1)), rtol=1e-12)
    np.testing.assert_allclose(y[0], [x, 0 * x], atol=1e-15)
    np.testing.assert_allclose(y[-1], [0 * x, x], atol=1e-15)
    np.testing.assert_allclose(y[4], [x / np.sqrt(2)] * 2)
    louder = np.asarray(y)[:, 1] / x
    assert np.all(np.diff(louder, axis=0) > 0)


def test_width_leaves_the_sum_and_scales_the_difference(x64):
    x = STEREO.astype(np.float64)
    for value in (0.0, 0.3, 1.0, 2.0):
        y = np.asarray(width.width(width.Controls(value), width.initial_state(), x, 8e3)[0])
        np.testing.assert_allclose(y.sum(0), x.sum(0), atol=1e-14)
        np.testing.assert_allclose(y[0] - y[1], value * (x[0] - x[1]), atol=1e-14)


def test_mono_stays_mono():
    for value in (0.0, 0.7, 2.0):
        y, _ = width.width(width.Controls(value), width.initial_state(), np.stack([X, X]), 8e3)
        np.testing.assert_array_equal(y, np.stack([X, X]))
    y, _ = width.width(width.Controls(0.0), width.initial_state(), STEREO, 8e3)
    np.testing.assert_array_equal(y[0], y[1])


def test_width_wants_two_channels():
    for shape in ((200,), (3, 200)):
        with pytest.raises(ValueError, match="expected \\(\\.\\.\\., 2, n_samples\\), left and right"):
            width.width(width.Controls(1.0), width.initial_state(), jnp.zeros(shape), 8e3)


def test_gain_is_decibels(x64):
    y, _ = gain.gain(gain.Controls(np.array([[0.0], [-6.0], [20.0]])), gain.initial_state(), STEREO[0], 8e3)
    for row, factor in zip(np.asarray(y)[:, 0], (1.0, 10**-0.3, 10.0), strict=True):
        np.testing.assert_allclose(row, factor * STEREO[0], rtol=1e-6)
