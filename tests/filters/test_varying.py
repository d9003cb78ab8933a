"""All-pass sections whose controls move: the exact recursion, and its frame-wise approximation."""

import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from helpers import EXACT_METHODS
from signals import MIDDLE, noise, relative_rms

from jaxapf import allpass
from jaxapf.filters import overlap_add

FS = 48000.0
cascade_varying = jax.jit(allpass.cascade_varying, static_argnames="method")
cascade = jax.jit(allpass.cascade, static_argnames="method")
each_method = pytest.mark.parametrize(
    "method", ["scan", *(pytest.param(one, marks=pytest.mark.slow) for one in ("blocked", "associative"))]
)


def moving(n_samples, seed=0):
    """Three second-order sections and two first-order ones, jumping anywhere at every sample."""
    rng = np.random.default_rng(seed)
    second = allpass.second_order(
        rng.uniform(0, 0.99, (n_samples, 3)), rng.uniform(0, FS / 2, (n_samples, 3)), FS
    )
    return allpass.concatenate(second, allpass.first_order(rng.uniform(-0.99, 0.99, (n_samples, 2))))


def sweep(n_frames, hop, rate_hz):
    """Two sections that sweep two octaves, `rate_hz` times a second, one set a frame."""
    cutoff_hz = 1000 * 2 ** np.sin(2 * np.pi * rate_hz * np.arange(n_frames) * hop / FS)
    return allpass.second_order(0.9, cutoff_hz[:, None] * np.array([1.0, 3.0]), FS)


def held(sections, n):
    """The same constant set, `n` times."""
    return allpass.Sections(*(np.broadcast_to(field, (n, field.shape[-1])) for field in sections))


# Exact


@pytest.mark.parametrize(
    "method", ["scan", *(pytest.param(m, marks=pytest.mark.slow) for m in ("blocked", "associative", "auto"))]
)
def test_values_and_state_match_the_loop(x64, method):
    sections, x, zi = moving(301), noise(301), noise(5, 2, seed=1)
    y, zf = cascade_varying(sections, x, zi=zi, method=method)
    expected, expected_zf = reference.lattice_varying(sections, x, zi)
    assert relative_rms(y, expected) < 1e-12
    assert relative_rms(zf, expected_zf) < 1e-12


@each_method
def test_first_order_matches_its_own_difference_equation(x64, method):
    g = np.random.default_rng(2).uniform(-0.95, 0.95, 200)
    x = noise(200)
    y = cascade_varying(allpass.first_order(g[:, None]), x, method=method)
    assert relative_rms(y, reference.first_order_varying(g, x)) < 1e-12


@each_method
def test_constant_controls_are_the_cascade(x64, method):
    sections = allpass.concatenate(
        allpass.second_order([0.9, 0.99], [300.0, 9000.0], FS), allpass.first_order(-0.7)
    )
    x = noise(MIDDLE)
    y = cascade_varying(held(sections, MIDDLE), x, method=method)
    assert relative_rms(y, cascade(sections, x, method="scan")) < 1e-11


@pytest.mark.parametrize(
    ("method", "bound"),
    [("scan", 2e-6), ("blocked", 2e-5), pytest.param("associative", 2e-5, marks=pytest.mark.slow)],
)
def test_energy_is_kept_however_fast_the_controls_move(method, bound):
    # Over 20000 samples, in float32; anything but an orthogonal step would have exploded or died.
    sections, x, zi = moving(20000), noise(20000), noise(5, 2, seed=1)
    x, zi = x.astype(np.float32), zi.astype(np.float32)
    y, zf = cascade_varying(sections, x, zi=zi, method=method)
    before = np.sum(x.astype(float) ** 2) + np.sum(zi.astype(float) ** 2)
    after = np.sum(np.float64(y) ** 2) + np.sum(np.float64(zf) ** 2)
    assert after == pytest.approx(before, rel=bound)


@pytest.mark.parametrize("radius", [pytest.param(0.99, marks=pytest.mark.slow), 0.99999])
def test_float32_close_to_the_unit_circle(radius):
    n_samples, fs = 16384, 192000.0
    cutoff_hz = np.linspace(30.0, 15000.0, n_samples, dtype=np.float32)[:, None]
    x = noise(n_samples).astype(np.float32)
    single = allpass.second_order(jnp.float32(radius), jnp.asarray(cutoff_hz), fs)
    double = allpass.second_order(float(np.float32(radius)), cutoff_hz.astype(float), fs)
    expected, _ = reference.lattice_varying(double, x.astype(float), np.zeros((1, 2)))
    for method, bound in (("scan", 2e-5), ("blocked", 1e-4)):
        assert relative_rms(cascade_varying(single, x, method=method), expected) < bound


@pytest.mark.slow
@pytest.mark.parametrize("method", ["scan", "blocked"])
def test_chunks_of_every_length(method):
    n_samples = 9
    sections = allpass.Sections(*(np.float32(field) for field in moving(n_samples)))
    x, zi = noise(2, n_samples).astype(np.float32), noise(2, 5, 2, seed=1).astype(np.float32)

    @jax.jit
    def filtered(sections, x, zi):
        return allpass.cascade_varying(sections, x, zi=zi, method=method)

    whole, zf = filtered(sections, x, zi)
    for split in range(n_samples + 1):
        head, tail = (
            allpass.Sections(*(field[part] for field in sections))
            for part in (slice(split), slice(split, None))
        )
        first, middle = filtered(head, x[:, :split], zi)
        second, last = filtered(tail, x[:, split:], middle)
        np.testing.assert_allclose(np.concatenate([first, second], axis=1), whole, atol=3e-6)
        np.testing.assert_allclose(last, zf, atol=3e-6)


def test_batches_broadcast_and_lift(x64):
    both = [moving(40, seed) for seed in range(2)]
    sections = allpass.Sections(*(np.stack(fields) for fields in zip(*both, strict=True)))
    x = noise(3, 1, 40)
    y, zf = cascade_varying(sections, x, zi=np.zeros((3, 2, 5, 2)))
    assert y.shape == (3, 2, 40)
    assert zf.shape == (3, 2, 5, 2)
    lifted = jax.jit(jax.vmap(jax.vmap(allpass.cascade_varying, (0, None)), (None, 0)))(sections, x[:, 0])
    np.testing.assert_allclose(lifted, y, atol=1e-12)
    for i in range(3):
        for j in range(2):
            expected, _ = reference.lattice_varying(both[j], x[i, 0], np.zeros((5, 2)))
            assert relative_rms(y[i, j], expected) < 1e-12


@pytest.mark.slow  # as those in `test_registry`, of the controls
@pytest.mark.parametrize("method", EXACT_METHODS)
def test_derivatives_match_differences(x64, method):
    n_samples = 12
    x, zi, target = noise(n_samples), noise(3, 2, seed=1), noise(n_samples, seed=2)
    raw = 0.5 * noise(2, n_samples, 3, seed=3)

    @jax.jit
    def loss(raw, x, zi):
        radius, cutoff_hz = jax.nn.sigmoid(raw[..., :2]), 24000 * jax.nn.sigmoid(raw[::-1, :, :2])
        second = allpass.second_order(radius[0], cutoff_hz[0], FS)
        sections = allpass.concatenate(second, allpass.first_order(jnp.tanh(raw[0, :, 2:])))
        y, zf = allpass.cascade_varying(sections, x, zi=zi, method=method)
        return jnp.sum((y - target) ** 2) + jnp.sum(zf**3)

    point = (raw, x, zi)
    direction = tuple(noise(*leaf.shape, seed=4 + i) for i, leaf in enumerate(point))
    step = 1e-5
    ahead, behind = (
        [leaf + sign * step * d for leaf, d in zip(point, direction, strict=True)] for sign in (1, -1)
    )
    slope = (loss(*ahead) - loss(*behind)) / (2 * step)
    gradient = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))
    reverse = sum(np.sum(g * d) for g, d in zip(gradient(*point), direction, strict=True))
    _, forward = jax.jit(partial(jax.jvp, loss))(point, direction)
    assert reverse == pytest.approx(float(slope), rel=1e-7)
    assert forward == pytest.approx(float(slope), rel=1e-7)
    # Reverse over forward: the change of the gradient along the direction.
    _, second = jax.jit(partial(jax.jvp, gradient))(point, direction)
    for got, one, other in zip(second, gradient(*ahead), gradient(*behind), strict=True):
        np.testing.assert_allclose(got, (one - other) / (2 * step), rtol=1e-5, atol=1e-6)


@functools.partial(jax.jit, static_argnames="method")
def _value_and_gradients(controls, g, x, *, method):
    def mix(controls, g, x):
        second = allpass.second_order(controls[0], controls[1], 192000.0)
        y = allpass.cascade_varying(allpass.concatenate(second, allpass.first_order(g)), x, method=method)
        return jnp.sum((x + y) ** 2)

    return jax.value_and_grad(mix, argnums=(0, 1, 2))(controls, g, x)


@pytest.mark.slow  # as `test_registry`, and controls at the ends of their ranges that jump
@pytest.mark.parametrize("method", ["blocked", "scan"])
def test_finite_values_and_gradients_on_hard_signals(method):
    n_samples = 64
    rng = np.random.default_rng(0)
    radius = rng.choice([0.99999, 0.0, 0.5], (n_samples, 2))
    cutoff_hz = rng.choice([30.0, 0.0, 96000.0], (n_samples, 2))
    g = rng.choice([-0.9999, 0.0, 0.9999], (n_samples, 1))
    controls, g = jnp.asarray(np.stack([radius, cutoff_hz]), jnp.float32), jnp.asarray(g, jnp.float32)
    alternating = (-1.0) ** np.arange(n_samples)
    tiny = np.full(n_samples, 1e-40)
    for x in (np.zeros(n_samples), np.ones(n_samples), alternating, np.eye(n_samples)[0], tiny, np.ones(1)):
        n = len(x)
        value, gradients = _value_and_gradients(
            controls[:, :n], g[:n], jnp.asarray(x, jnp.float32), method=method
        )
        assert np.isfinite(value)
        assert all(np.all(np.isfinite(gradient)) for gradient in gradients)
        audible = np.abs(x).max() > 1e-30
        assert bool(np.any(gradients[2])) == audible
        assert bool(np.any(gradients[0])) == (audible and n > 1)


def test_gradients_by_margins_are_finite_for_first_order_sections(x64):
    # The slope by a margin v of 0 is infinite on one side; the gradient leaves that out.
    sections, x, target = moving(30), noise(30), noise(30, seed=1)

    def loss(sections):
        return jnp.sum((allpass.cascade_varying(sections, x) - target) ** 2)

    gradient = jax.jit(jax.grad(loss))(allpass.Sections(*map(jnp.asarray, sections)))
    assert all(np.all(np.isfinite(field)) for field in gradient)
    assert np.all(gradient.u != 0)
    assert np.all(gradient.m != 0)


def test_dtype_follows_the_signal(x64):
    varying, frames = allpass.cascade_varying, partial(allpass.cascade_frames, hop=4)
    for function, n, dtype in ((varying, 8, np.float32), (varying, 8, np.float64), (frames, 3, np.float32)):
        assert jax.eval_shape(function, moving(n), np.ones(8, dtype)).dtype == dtype
    assert allpass.cascade_varying(moving(0), np.ones(0)).shape == (0,)


# Frame by frame


@pytest.mark.parametrize(
    ("radius", "n_fft"),
    [pytest.param(0.9, 256, marks=pytest.mark.slow), (0.98, 512), (0.995, 512), (0.995, 2048)],
)
def test_frames_of_constant_controls_miss_the_tail_alone(x64, radius, n_fft):
    n_samples, hop, n_window = 6000, 32, 128
    sections = allpass.second_order(radius, [500.0, 3000.0], FS)
    x = noise(n_samples)
    y = allpass.cascade_frames(
        held(sections, overlap_add.n_frames(n_samples, hop)), x, hop=hop, n_fft=n_fft, n_window=n_window
    )
    error = relative_rms(y, allpass.cascade(sections, x, method="scan"))
    impulse_response = np.asarray(allpass.cascade(sections, np.eye(1, 8192)[0], method="scan"))
    # Where it should be, the tail is missing; where it wraps to, it is too much.
    missing = np.sqrt(np.sum(impulse_response[n_fft - n_window :] ** 2))
    assert error < 2 * missing
    assert error < 20 * radius ** (n_fft - n_window)


def test_frames_without_tail_are_exact(x64):
    n_samples, hop = 5000, 64
    sections = allpass.concatenate(allpass.second_order(0.8, 4000.0, FS), allpass.first_order(0.5))
    x = noise(n_samples)
    y = allpass.cascade_frames(held(sections, overlap_add.n_frames(n_samples, hop)), x, hop=hop)
    assert relative_rms(y, allpass.cascade(sections, x, method="scan")) < 1e-13


def test_frames_tend_to_the_exact_filter_as_controls_slow_down(x64):
    n_samples, hop = 20000, 64
    x = noise(n_samples)
    errors = []
    for rate_hz in (4.0, 1.0, 0.25):
        sections = sweep(overlap_add.n_frames(n_samples, hop), hop, rate_hz)
        exact = allpass.cascade_varying(overlap_add.interpolate(sections, n_samples, hop, axis=-2), x)
        errors.append(relative_rms(allpass.cascade_frames(sections, x, hop=hop, n_fft=768), exact))
    assert errors[0] < 1e-2
    assert errors[1] < 0.4 * errors[0]
    assert errors[2] < 0.4 * errors[1]


def test_frames_in_float32_are_those_in_float64(x64):
    x = noise(3000)
    sections = sweep(overlap_add.n_frames(3000, 64), 64, 2.0)
    single = allpass.cascade_frames(sections, x.astype(np.float32), hop=64)
    assert relative_rms(single, allpass.cascade_frames(sections, x, hop=64)) < 2e-6


def test_gradients_by_frames_match_differences(x64):
    n_samples, hop = 50, 8
    x, target = noise(2, n_samples)
    point = np.asarray(sweep(overlap_add.n_frames(n_samples, hop), hop, 200.0))
    direction = 0.1 * np.abs(noise(*point.shape)) * point

    @jax.jit
    def loss(margins):
        return jnp.sum((allpass.cascade_frames(allpass.Sections(*margins), x, hop=hop) - target) ** 2)

    slope = (loss(point + 1e-5 * direction) - loss(point - 1e-5 * direction)) / 2e-5
    assert np.sum(jax.jit(jax.grad(loss))(point) * direction) == pytest.approx(float(slope), rel=1e-6)
    assert jax.jit(partial(jax.jvp, loss))((point,), (direction,))[1] == pytest.approx(float(slope), rel=1e-6)


# Mistakes


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: allpass.cascade_varying(moving(4), np.ones(5)),
            r"sections has shape \(4, 5\); expected \(..., 5, n_sections\), one set a sample",
        ),
        (lambda: allpass.cascade_varying(allpass.first_order(0.5), np.ones(1)), "one set a sample"),
        (lambda: allpass.cascade_varying(moving(4), np.ones(4), method="fsm"), "use cascade_frames"),
        (lambda: allpass.cascade_varying(moving(4), np.ones(4), method="fast"), "method is 'fast'"),
        (lambda: allpass.cascade_varying(moving(4), np.ones(4), zi=np.zeros((4, 2))), "zi has shape"),
        (
            lambda: allpass.cascade_varying(allpass.first_order(np.zeros((2, 4, 1))), np.ones((3, 4))),
            "sections has batch axes",
        ),
        (lambda: allpass.cascade_frames(moving(4), np.ones(4), hop=2), "one set a frame"),
        (lambda: allpass.cascade_frames(moving(3), np.ones(5), hop=2, n_fft=0), "n_fft is 0"),
        (lambda: allpass.cascade_frames(moving(3), np.ones(5), hop=2, n_fft=6), "hop is 2"),
        (lambda: allpass.cascade_frames(moving(0), np.ones(5), hop=0), "hop is 0"),
    ],
)
def test_errors(call, words):
    with pytest.raises(ValueError, match=words):
        call()
