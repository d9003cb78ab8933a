"""The phaser: against a float64 loop, in pieces, its derivatives, its sampled form, its parametrisation."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
import scipy.signal
from hypothesis import given
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree
from jax.test_util import check_grads
from signals import noise, relative_rms, slow

from jaxapf.effects import phaser

FS = 8000.0


def controls(**changes) -> phaser.Controls:
    raw = phaser.init(jax.random.key(1), rate_hz=3.0)
    raw |= {"depth": jnp.full((), 0.8), "feedback": jnp.full((), 0.5), "sigma": jnp.full((), 0.3)}
    raw |= {"b": jnp.array([0.7, 0.2, -0.1]), "a": jnp.array([0.3, 0.2]), "through": jnp.full((), 0.8)}
    return phaser.controls_of(raw)._replace(**changes)


def coefficient(c: phaser.Controls, n_hops: int) -> np.ndarray:
    """Of the all-passes, in NumPy from the formulas of the paper."""
    c = jax.tree.map(lambda value: np.asarray(value, np.float64), c)
    z0, z = c.amplitude * np.exp(1j * c.phase), np.exp((2j * np.pi * c.rate_hz - c.decay) * phaser.HOP / FS)
    values = np.real(z0 * z ** np.arange(n_hops))[:, None]
    for kernel, bias in c.shape[:-1]:
        values = np.tanh(values @ kernel + bias)
    shaped = (values @ c.shape[-1][0] + c.shape[-1][1])[:, 0]
    d = c.bias + c.depth * (1 + shaped) / 2
    return np.tanh((1 - np.tan(d)) / (1 + np.tan(d)))


@pytest.mark.parametrize(("stages", "delay"), [(4, 0), (5, 1), slow(4, 1), slow(5, 0)])
def test_phaser_is_what_the_paper_says(x64, stages, delay):
    c, x = controls(), noise(300)
    run = jax.jit(partial(phaser.phaser, fs=FS, stages=stages, delay=delay))
    y, _ = run(c, phaser.initial_state(stages=stages, dtype=np.float64), x)
    at = np.arange(0, 300 + phaser.HOP, phaser.HOP)
    p = np.interp(np.arange(300), at, coefficient(c, len(at)))
    h = scipy.signal.lfilter(np.asarray(c.b), [1.0, *np.asarray(c.a)], x)
    gains = [0.0, float(c.feedback)] if delay else [float(c.feedback), 0.0]
    loop, _ = reference.allpass_loop(p, gains, h, np.zeros(stages + 1))
    assert relative_rms(y, float(c.through) * np.asarray(h) + loop) < 1e-6  # the controls are float32


def test_there_are_182_numbers():
    raw = phaser.init(jax.random.key(0))
    assert ravel_pytree(raw)[0].size == 182


@pytest.mark.parametrize(
    ("cut", "delay"),
    [
        (cut, delay) if (cut, delay) in ((0, 0), (33, 1)) else slow(cut, delay)
        for cut, delay in itertools.product((0, 1, 31, 32, 33, 200), (0, 1))
    ],
)
def test_pieces_are_the_whole(cut, delay):
    c, x = controls(), noise(2, 200).astype(np.float32)

    @jax.jit
    def run(state, x):
        return phaser.phaser(c, state, x, FS, delay=delay)

    whole, last = run(phaser.initial_state((2,)), x)
    first, state = run(phaser.initial_state((2,)), x[:, :cut])
    second, final = run(state, x[:, cut:])
    np.testing.assert_allclose(np.concatenate([first, second], axis=-1), whole, atol=1e-5)
    assert int(final.position) == 200
    np.testing.assert_allclose(final.loop, last.loop, atol=1e-5)
    np.testing.assert_allclose(final.biquad, last.biquad, atol=1e-5)


@pytest.mark.parametrize("delay", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_every_number_is_alive_and_its_derivative_right(x64, delay):
    x, weights = noise(128), noise(128, seed=1)
    raw = phaser.init(jax.random.key(3), rate_hz=20.0)
    raw |= {"sigma": jnp.full((), 0.5), "depth": jnp.full((), 0.7), "feedback": jnp.full((), 0.4)}
    raw |= {"a": jnp.array([0.2, 0.1])}
    theta, unravel = ravel_pytree(jax.tree.map(lambda value: jnp.asarray(value, jnp.float64), raw))

    @jax.jit
    def total(theta):
        c = phaser.controls_of(unravel(theta))
        y, _ = phaser.phaser(c, phaser.initial_state(dtype=jnp.float64), x, FS, delay=delay, hop=8)
        return jnp.sum(weights * y)

    check_grads(total, (theta,), order=1, modes=("fwd", "rev"), rtol=1e-5, eps=1e-6)
    gradient = jax.jit(jax.grad(total))(theta)
    assert np.all(gradient != 0)


@pytest.mark.parametrize("delay", [slow(0), 1])
def test_sampling_is_exact_where_nothing_moves(x64, delay):
    c = controls(depth=np.float64(0.0), feedback=jnp.full((), 0.3), bias=jnp.full((), 0.3))
    x = np.pad(noise(2000), (0, 2000))
    exact, _ = jax.jit(partial(phaser.phaser, fs=FS, delay=delay))(
        c, phaser.initial_state(dtype=np.float64), x
    )
    sampled = jax.jit(partial(phaser.phaser_sampled, fs=FS, window_ms=40.0, delay=delay))(c, x)
    assert relative_rms(sampled, exact) < 1e-9


def test_sampling_gets_worse_the_faster_it_moves():
    x = noise(8000).astype(np.float32)
    errors = []

    @jax.jit
    def both(c):
        sampled = phaser.phaser_sampled(c, x, FS, window_ms=40.0)
        return phaser.phaser(c, phaser.initial_state(), x, FS)[0], sampled

    for rate in (0.5, 4.0, 16.0):
        exact, sampled = both(controls(rate_hz=jnp.full((), rate), decay=jnp.zeros(())))
        errors.append(relative_rms(sampled, exact))
    assert 1e-4 < errors[0] < errors[1] < errors[2]


@given(st.integers(0, 2**31 - 1), st.floats(0, 30))
def test_any_numbers_are_stable(seed, size):
    theta, unravel = ravel_pytree(phaser.init(jax.random.key(0)))
    drawn = size * np.random.default_rng(seed).standard_normal(theta.size).astype(np.float32)
    c = phaser.controls_of(unravel(jnp.asarray(drawn)))
    assert abs(float(c.feedback)) < 1
    assert np.all(np.abs(np.roots([1.0, *np.asarray(c.a, np.float64)])) <= 1 + 1e-6)
    assert np.all(np.abs(phaser.coefficient_of(drawn)) <= 1)


def test_nothing_is_ever_no_number():
    @jax.jit
    @jax.value_and_grad
    def total(raw, signal):
        y, _ = phaser.phaser(phaser.controls_of(raw), phaser.initial_state(), signal, FS)
        return jnp.sum(y**2)

    for x in (np.zeros(64), np.ones(64), np.cos(np.pi * np.arange(64)), np.eye(1, 64)[0], [1.0]):
        found = total(phaser.init(jax.random.key(0)), jnp.asarray(x, jnp.float32))
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(found))


def test_oscillator_keeps_its_phase_for_hours():
    c = controls(rate_hz=jnp.float32(1.0), decay=jnp.zeros(()), amplitude=jnp.ones(()), phase=jnp.zeros(()))
    assert abs(float(phaser.oscillator(c, jnp.float32(7200.25)))) < 1e-2
    np.testing.assert_allclose(phaser.oscillator(c, jnp.float32(7200.0)), 1.0, atol=1e-4)


def test_cutoff_is_where_a_stage_turns_by_ninety_degrees():
    for p in (-0.5, 0.0, 0.9):
        hz = float(phaser.cutoff_hz(jnp.asarray(p), FS))
        z1 = np.exp(-2j * np.pi * hz / FS)
        np.testing.assert_allclose(abs(np.angle((p - z1) / (1 - p * z1))), np.pi / 2, rtol=1e-5)


def test_it_runs_under_jit_and_vmap():
    x = noise(3, 100).astype(np.float32)
    c = jax.tree.map(lambda value: jnp.stack([jnp.asarray(value)] * 3), controls())
    state = jax.tree.map(lambda value: jnp.stack([value] * 3), phaser.initial_state())
    run = jax.jit(jax.vmap(lambda c, state, x: phaser.phaser(c, state, x, FS)[0]))
    expected, _ = jax.jit(partial(phaser.phaser, fs=FS))(controls(), phaser.initial_state((3,)), x)
    np.testing.assert_allclose(run(c, state, x), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c, x: phaser.phaser(c, phaser.initial_state(), x, 0.0), "fs is 0; expected a sample rate"),
        (
            lambda c, x: phaser.phaser(c, phaser.initial_state(), x, FS, delay=2),
            "delay is 2; expected 0 or 1",
        ),
        (
            lambda c, x: phaser.phaser(c, phaser.initial_state(), x, FS, stages=6),
            "state has 4 stages; expected 6",
        ),
        (
            lambda c, x: phaser.phaser(c, phaser.initial_state(), x, FS, hop=0),
            "hop is 0; expected at least 1",
        ),
        (
            lambda c, x: phaser.phaser(c._replace(feedback=1.5), phaser.initial_state(), x, FS),
            "feedback is 1.5",
        ),
        (
            lambda c, x: phaser.phaser(c._replace(rate_hz=-1.0), phaser.initial_state(), x, FS),
            "rate_hz is -1",
        ),
        (lambda c, x: phaser.phaser_sampled(c, x, FS, window_ms=0.5), "window_ms is 0.5; expected 8 samples"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(controls(), np.zeros(100, np.float32))
