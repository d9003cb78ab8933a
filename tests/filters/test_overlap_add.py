"""Frame-wise helpers: counting, interpolation, overlap-add."""

from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from signals import noise, relative_rms

from jaxapf import allpass
from jaxapf.filters import overlap_add

# n_fft, hop, n_window: the usual, hops that divide nothing, an odd window, no padding, one sample a hop.
QUICK_SIZES = [(60, 7, 31), (32, 8, 32), (16, 1, 8)]
SLOW_SIZES = [(64, 8, 32), (64, 16, 32), (24, 5, 10), (37, 18, 37)]
SIZES = [*QUICK_SIZES, *(pytest.param(*one, marks=pytest.mark.slow) for one in SLOW_SIZES)]
filter_frames = jax.jit(overlap_add.filter_frames, static_argnames=("n_fft", "hop", "n_window"))


def flat(n_samples, hop, n_fft):
    return np.ones((overlap_add.n_frames(n_samples, hop), n_fft // 2 + 1), complex)


def fir_response(n_frames, n_taps, n_fft, seed=0):
    return np.fft.rfft(noise(n_frames, n_taps, seed=seed), n_fft)


# Counting and interpolation


@pytest.mark.parametrize("hop", [1, 2, 7, 64])
def test_frames_cover_the_signal_and_no_more(hop):
    for n_samples in range(1, 200):
        count = overlap_add.n_frames(n_samples, hop)
        assert (count - 1) * hop >= n_samples - 1
        assert (count - 2) * hop < n_samples - 1
    assert overlap_add.n_frames(0, hop) == 0


@pytest.mark.parametrize("hop", [1, 5, 16])
@pytest.mark.parametrize("n_samples", [0, 1, 2, 16, 17, 50])
def test_interpolation_is_that_of_numpy(x64, hop, n_samples):
    count = overlap_add.n_frames(n_samples, hop)
    controls = noise(2, count, 3)
    got = overlap_add.interpolate(controls, n_samples, hop, axis=-2)
    assert isinstance(got, np.ndarray)
    assert got.shape == (2, n_samples, 3)
    for i, j in np.ndindex(2, 3):
        if n_samples:
            expected = np.interp(np.arange(n_samples), np.arange(count) * hop, controls[i, :, j])
            np.testing.assert_allclose(got[i, :, j], expected, atol=1e-12)
    np.testing.assert_allclose(
        overlap_add.interpolate(jnp.asarray(controls), n_samples, hop, axis=1), got, atol=1e-12
    )


def test_interpolation_meets_the_values_and_keeps_the_dtype():
    controls = jnp.asarray(noise(5), jnp.float32)
    lines = overlap_add.interpolate(controls, 17, 4)
    assert lines.dtype == jnp.float32
    np.testing.assert_array_equal(lines[::4], controls)


def test_interpolated_sections_are_stable():
    # From one side of the unit circle to the other, and between first-order sections.
    rng = np.random.default_rng(0)
    cutoffs = rng.choice([1.0, 12000.0, 23999.0], (9, 4))
    second = allpass.second_order(rng.choice([0.0, 0.99999], (9, 4)), cutoffs, 48000.0)
    sections = allpass.concatenate(second, allpass.first_order(rng.uniform(-0.9999, 0.9999, (9, 1))))
    single = allpass.Sections(*(jnp.asarray(field, jnp.float32) for field in sections))
    lines = overlap_add.interpolate(single, 97, 12, axis=-2)
    assert isinstance(lines, allpass.Sections)
    assert np.all(lines.u > 0)
    assert np.all(lines.m > 0)
    assert np.all(lines.v[:, :4] > 0)
    np.testing.assert_array_equal(lines.v[:, 4], 0)
    # The scale of the margins stays.
    np.testing.assert_allclose(lines.u + lines.v + 2 * lines.m, 4, rtol=1e-6)


def test_interpolation_is_linear_and_its_gradient_the_transpose(x64):
    controls, weights = noise(7), noise(50, seed=1)
    matrix = np.stack([overlap_add.interpolate(row, 50, 9) for row in np.eye(7)], axis=1)
    gradient = jax.jit(jax.grad(lambda c: jnp.sum(overlap_add.interpolate(c, 50, 9) * weights)))(controls)
    np.testing.assert_allclose(gradient, matrix.T @ weights, rtol=1e-12)


# Filtering


@pytest.mark.parametrize(("n_fft", "hop", "n_window"), SIZES)
@pytest.mark.parametrize("n_samples", [1, pytest.param(2, marks=pytest.mark.slow), 7, 100])
def test_windows_add_up_to_one(x64, n_fft, hop, n_window, n_samples):
    x = noise(2, n_samples)
    y = filter_frames(flat(n_samples, hop, n_fft), x, n_fft=n_fft, hop=hop, n_window=n_window)
    np.testing.assert_allclose(y, x, atol=1e-13)


@pytest.mark.parametrize(("n_fft", "hop", "n_window"), SIZES)
@pytest.mark.parametrize("n_samples", [1, pytest.param(5, marks=pytest.mark.slow), 90])
def test_moving_responses_match_the_loop(x64, n_fft, hop, n_window, n_samples):
    # As long as the transform, so that tails wrap.
    response = fir_response(overlap_add.n_frames(n_samples, hop), n_fft, n_fft)
    x = noise(n_samples, seed=1)
    y = filter_frames(response, x, n_fft=n_fft, hop=hop, n_window=n_window)
    assert relative_rms(y, reference.filter_frames(response, x, n_fft, hop, n_window)) < 1e-12


def test_short_constant_response_is_exact_and_a_longer_one_is_not(x64):
    n_fft, hop, n_window, n_samples = 64, 8, 40, 200
    x = noise(n_samples)
    for n_taps, exact in ((n_fft - n_window + 1, True), (n_fft - n_window + 2, False)):
        taps = noise(n_taps, seed=1)
        response = np.tile(np.fft.rfft(taps, n_fft), (overlap_add.n_frames(n_samples, hop), 1))
        y = filter_frames(response, x, n_fft=n_fft, hop=hop, n_window=n_window)
        error = relative_rms(y, np.convolve(x, taps)[:n_samples])
        assert (error < 1e-13) == exact


def test_a_step_of_gain_is_cross_faded_by_hann_windows(x64):
    # Four hops a window: each frame weighs hann / 2, so the gain is a sum of these.
    hop, n_fft = 8, 64
    gain = np.array([1.0] * 5 + [3.0] * 6)
    response = gain[:, None] * np.ones(n_fft // 2 + 1)
    y = overlap_add.filter_frames(response, np.ones(81), n_fft=n_fft, hop=hop)
    window = np.hanning(33)[:-1] / 2
    expected = np.ones(81)
    for k in range(5, 14):
        for i, value in enumerate(window):
            if 0 <= k * hop - 16 + i < 81:
                expected[k * hop - 16 + i] += 2 * value
    np.testing.assert_allclose(y, expected, atol=1e-13)


def test_defaults_leave_half_the_transform_to_the_tail(x64):
    response = fir_response(overlap_add.n_frames(70, 8), 64, 64)
    x = noise(70, seed=1)
    y = overlap_add.filter_frames(response, x, n_fft=64, hop=8)
    np.testing.assert_array_equal(y, overlap_add.filter_frames(response, x, n_fft=64, hop=8, n_window=32))
    assert overlap_add.window_length(64, 8) == 32


def test_batches_broadcast_and_lift(x64):
    response = np.stack([fir_response(6, 32, 32, seed) for seed in range(2)])
    x = noise(3, 1, 30)

    def filtered(response, x):
        return overlap_add.filter_frames(response, x, n_fft=32, hop=7)

    y = filtered(response, x)
    assert y.shape == (3, 2, 30)
    lifted = jax.vmap(jax.vmap(filtered, (0, None)), (None, 0))(jnp.asarray(response), x[:, 0])
    np.testing.assert_allclose(lifted, y, atol=1e-13)
    for i, j in np.ndindex(3, 2):
        expected = reference.filter_frames(response[j], x[i, 0], 32, 7, 16)
        assert relative_rms(y[i, j], expected) < 1e-12


def test_derivatives_match_differences(x64):
    response, x, target = fir_response(6, 16, 16), noise(20, seed=1), noise(20, seed=2)

    @jax.jit
    def loss(real, imag, x):
        y = overlap_add.filter_frames(jax.lax.complex(real, imag), x, n_fft=16, hop=4)
        return jnp.sum((y - target) ** 3)

    point = (response.real, response.imag, x)
    direction = tuple(noise(*leaf.shape, seed=5 + i) for i, leaf in enumerate(point))
    ahead, behind = (
        loss(*(leaf + sign * 1e-5 * d for leaf, d in zip(point, direction, strict=True))) for sign in (1, -1)
    )
    gradients = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(*point)
    reverse = sum(np.sum(g * d) for g, d in zip(gradients, direction, strict=True))
    assert reverse == pytest.approx(float(ahead - behind) / 2e-5, rel=1e-7)
    assert jax.jvp(loss, point, direction)[1] == pytest.approx(float(reverse), rel=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_follows_the_signal(x64, dtype):
    y = overlap_add.filter_frames(flat(9, 2, 8), np.ones(9, dtype), n_fft=8, hop=2)
    assert y.dtype == dtype
    assert overlap_add.filter_frames(flat(0, 2, 8), np.ones((3, 0), dtype), n_fft=8, hop=2).shape == (3, 0)


def test_hard_signals_have_finite_values_and_gradients():
    response = jnp.asarray(fir_response(9, 20, 32), jnp.complex64)

    @jax.jit
    def value_and_gradients(r, x):
        y, pull = jax.vjp(lambda r, x: overlap_add.filter_frames(r, x, n_fft=32, hop=8), r, x)
        return y, pull(jnp.ones_like(y))

    for x in (np.zeros(64), np.ones(64), (-1.0) ** np.arange(64), np.eye(64)[0], np.full(64, 1e-40)):
        found = value_and_gradients(response, jnp.asarray(x, jnp.float32))
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(found))


# Mistakes


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: overlap_add.n_frames(4, 0), "hop is 0; expected a whole number of samples, 1 or more"),
        (lambda: overlap_add.n_frames(4, cast(Any, 1.5)), "hop is 1.5"),
        (lambda: overlap_add.n_frames(-1, 2), "n_samples is -1"),
        (lambda: overlap_add.interpolate(np.ones(3), 10, 4), r"controls has shape \(3,\); expected 4 frames"),
        (lambda: overlap_add.interpolate(np.ones((4, 2)), 10, 4), "on axis -1"),
        (lambda: overlap_add.interpolate([1.0, 2.0], 2, 1), r"controls has shape \(\)"),
        (lambda: overlap_add.window_length(16, 5), "hop is 5; expected at most half of the window, .* 8"),
        (lambda: overlap_add.window_length(16, 4, 17), "n_window is 17; expected at most n_fft, 16"),
        (lambda: overlap_add.window_length(3, 1), "n_fft is 3"),
        (
            lambda: overlap_add.filter_frames(flat(9, 2, 8), np.ones(8), n_fft=8, hop=2, n_window=9),
            "n_window is 9",
        ),
        (
            lambda: overlap_add.filter_frames(flat(9, 2, 8), np.ones(10), n_fft=8, hop=2),
            r"response has shape \(5, 5\); expected \(..., 6, 5\)",
        ),
        (lambda: overlap_add.filter_frames(flat(9, 2, 16), np.ones(9), n_fft=8, hop=2), "expected .* 5, 5"),
        (
            lambda: overlap_add.filter_frames(np.ones((2, 5, 5)), np.ones((3, 9)), n_fft=8, hop=2),
            "response has batch axes",
        ),
    ],
)
def test_errors(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_complex_signals_are_refused():
    with pytest.raises(TypeError, match="x is complex64; expected a real signal"):
        overlap_add.filter_frames(flat(9, 2, 8), np.ones(9, np.complex64), n_fft=8, hop=2)
