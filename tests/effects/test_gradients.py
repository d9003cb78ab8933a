"""Ways to a gradient: values, derivatives against differences, SPSA on average, effects outside JAX."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from signals import slow

from jaxapf import params
from jaxapf.effects import chain, gradients

FS = 8000.0
N = 200
KEY = jax.random.key(0)
GAIN = params.Control("gain_db", "dB", -20.0, 20.0)
TILT = params.Control("cutoff_hz", "Hz", 100.0, 2000.0, "log")


def signal(*batch, n=N):
    rng = np.random.default_rng(0)
    return jnp.asarray(np.repeat(10.0 ** rng.uniform(-2, 0, n // 20), 20) * rng.standard_normal((*batch, n)))


def proxy(raw, x):
    """A network, or what stands for one: wrong, and smooth."""
    return x * (1 + raw[..., :1] + 0.5 * jnp.sum(raw**2, axis=-1, keepdims=True))


@functools.cache
def compressor():
    return chain.effect("compressor", fixed={"lookahead_ms": 0.0})


def raws(one, *batch):
    raw = np.random.default_rng(1).uniform(-0.3, 0.3, (*batch, len(one.controls)))
    raw[..., 0] = 0.1
    return jnp.asarray(raw)


def gain_in_numpy(values, x, fs):
    """Gain and a low-pass by SciPy, of which JAX knows nothing."""
    designed: Any = scipy.signal.butter(1, values["cutoff_hz"], fs=fs)
    b, a = designed
    return 10 ** (values["gain_db"] / 20) * scipy.signal.lfilter(b, a, x)


def test_routes_have_the_value_of_what_they_say(x64):
    one, x = compressor(), signal(2)
    raw = raws(one, 2)
    values = params.denormalise(raw, one.controls)
    exact = chain.apply(one, values, x, FS)
    sampled = chain.apply(one, values, x, FS, method="fsm")
    guess = proxy(raw, x)
    assert float(jnp.max(jnp.abs(exact - sampled))) > 1e-3
    plays = {"proxy": guess}
    renders = {"fsm": sampled, "proxy": guess}
    for strategy in gradients.STRATEGIES:
        way = gradients.strategy(strategy, one, FS, proxy=proxy)
        np.testing.assert_allclose(way.render(raw, x, KEY), renders.get(strategy, exact), atol=1e-12)
        np.testing.assert_allclose(way.apply(raw, x), plays.get(strategy, exact), atol=1e-12)


@pytest.mark.parametrize("strategy", ["autodiff", slow("fsm"), "proxy"])
def test_derivatives_are_differences_of_what_is_rendered(x64, strategy):
    one, x = compressor(), signal()
    way = gradients.strategy(strategy, one, FS, proxy=proxy)
    weights = np.random.default_rng(2).standard_normal(N)

    def total(raw):
        return jnp.sum(weights * way.render(raw, x, KEY))

    raw = raws(one)
    steps = 1e-6 * np.eye(len(one.controls))
    rows = jnp.concatenate([raw[None] + steps, raw[None] - steps])
    up, down = np.split(np.asarray(jax.jit(jax.vmap(total))(rows)), 2)
    found = jax.jit(jax.grad(total))(raw)
    assert np.all(np.abs(found) > 1e-6)
    np.testing.assert_allclose(found, (up - down) / 2e-6, rtol=1e-4, atol=1e-6)


def test_a_hybrid_is_the_effect_forward_and_the_proxy_backward(x64):
    one, x = compressor(), signal(2)
    raw, target = raws(one, 2), jnp.flip(signal(2), axis=-1)
    way = gradients.strategy("proxy-hybrid", one, FS, proxy=proxy)
    exact = gradients.strategy("autodiff", one, FS).apply(raw, x)

    def loss(raw):
        return jnp.sum((way.render(raw, x, KEY) - target) ** 2)

    value, found = jax.jit(jax.value_and_grad(loss))(raw)
    assert float(value) == pytest.approx(float(jnp.sum((exact - target) ** 2)), rel=1e-12)
    _, pull = jax.vjp(lambda raw: proxy(raw, x), raw)
    np.testing.assert_allclose(found, pull(2 * (exact - target))[0], rtol=1e-9)


def quadratic(raw, x):
    """All controls in it, in the second degree: central differences have no error."""
    weights = jnp.arange(1.0, raw.shape[-1] + 1, dtype=raw.dtype)
    bent = (raw + raw**2 / 3) @ weights[:, None]
    return x * (1 + bent)


def test_spsa_is_right_on_average(x64):
    raw, x = jnp.asarray(np.random.default_rng(3).uniform(-0.5, 0.5, (2, 4))), signal(2)
    weights = jnp.asarray(np.random.default_rng(4).standard_normal(x.shape))

    def loss(raw, key):
        return jnp.sum(weights * gradients.spsa(lambda moved: quadratic(moved, x), raw, key))

    keys = jax.random.split(KEY, 4000)
    found = np.asarray(jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(raw, keys))
    expected = jax.grad(lambda raw: jnp.sum(weights * quadratic(raw, x)))(raw)
    error = found.std(axis=0) / np.sqrt(len(keys))
    assert np.all(np.abs(found.mean(axis=0) - expected) < 4.5 * error)
    assert np.all(error < 0.2 * np.max(np.abs(expected)))
    assert np.linalg.norm(found[0] - expected) > 0.1 * np.linalg.norm(expected)  # one alone is not


def test_spsa_is_exact_along_the_drawn_signs(x64):
    """Where the function is of the second degree central differences have no error."""
    raw, x = jnp.asarray(np.random.default_rng(5).uniform(-0.5, 0.5, (3, 4))), signal(3)
    weights = jnp.asarray(np.random.default_rng(6).standard_normal(x.shape))

    @jax.jit
    def slopes(raw):
        by_spsa = lambda raw: gradients.spsa(lambda moved: quadratic(moved, x), raw, KEY)  # noqa: E731
        return [
            jax.grad(lambda raw: jnp.sum(weights * function(raw)))(raw)  # noqa: B023
            for function in (by_spsa, lambda raw: quadratic(raw, x))
        ]

    found, expected = slopes(raw)
    found, expected = np.asarray(found), np.asarray(expected)
    signs = np.sign(found)
    np.testing.assert_allclose(np.abs(found), np.abs(found[:, :1]) * np.ones((1, 4)), rtol=1e-9)
    # found = signs (signs . expected): whatever the draw, positive along the slope.
    np.testing.assert_allclose(np.abs(np.sum(signs * expected, -1)), np.abs(found[:, 0]), rtol=1e-7)
    assert np.all(np.sum(found * expected, -1) > 0)
    assert len({tuple(row) for row in signs * signs[:, :1]}) > 1  # drawn for each example


def test_spsa_stays_within_the_ranges(x64):
    seen = []

    def watched(moved):
        jax.debug.callback(lambda one: seen.append(np.asarray(one)), moved)
        return quadratic(moved, signal(2))

    raw = jnp.asarray([[1.0, -1.0], [0.0, 0.999]])
    found = jax.grad(lambda raw: jnp.sum(gradients.spsa(watched, raw, KEY, epsilon=0.05)))(raw)
    assert np.all(np.isfinite(found))
    jax.effects_barrier()
    assert len(seen) == 3  # the value and two more runs
    for moved in seen:
        assert np.max(np.abs(moved)) <= 1 + 1e-12
    with pytest.raises(ValueError, match="epsilon"):
        gradients.spsa(watched, raw, KEY, epsilon=0.0)


def outside():
    return gradients.outside("gain and low-pass", (GAIN, TILT), gain_in_numpy)


def test_an_effect_outside_jax_is_called_under_jit_and_vmap():
    one, x = outside(), signal(3).astype(np.float32)
    gains, cutoffs = np.array([[-6.0, 0.0, 6.0], [200.0, 500.0, 900.0]], np.float32)
    expected = np.stack(
        [
            gain_in_numpy({"gain_db": float(g), "cutoff_hz": float(c)}, np.asarray(row, np.float64), FS)
            for g, c, row in zip(gains, cutoffs, x, strict=True)
        ]
    )

    def play(gain, cutoff, x):
        return chain.apply(one, [gain, cutoff], x, FS)

    together = play(jnp.asarray(gains), jnp.asarray(cutoffs), x)
    assert together.dtype == np.float32
    np.testing.assert_allclose(together, expected, atol=2e-5)
    np.testing.assert_array_equal(jax.jit(play)(gains, cutoffs, x), together)
    np.testing.assert_array_equal(jax.jit(jax.vmap(play))(gains, cutoffs, x), together)
    shared = jax.vmap(play, (None, None, 0))(gains[0], cutoffs[0], x)
    np.testing.assert_array_equal(shared, play(gains[0], cutoffs[0], x))
    np.testing.assert_array_equal(play(gains, cutoffs, x[0])[0], together[0])
    with pytest.raises(ValueError, match="no sampled form; choose the strategy 'spsa'"):
        chain.apply(one, [0.0, 500.0], x, FS, method="fsm")


def trained(one, truth, x, steps, *, rate=0.05):
    """Raw controls that SPSA finds by the sign of a smoothed gradient, from the middle of the ranges."""
    way = gradients.strategy("spsa", one, FS)
    target = way.apply(truth, x)

    @jax.jit
    def slope(raw, key):
        return jax.grad(lambda raw: jnp.mean((way.render(raw, x, key) - target) ** 2))(raw)

    raw, mean, power = jnp.zeros_like(truth), jnp.zeros_like(truth), jnp.zeros_like(truth)
    for step in range(1, steps + 1):
        pull = slope(raw, jax.random.fold_in(KEY, step))
        mean, power = 0.9 * mean + 0.1 * pull, 0.99 * power + 0.01 * pull**2
        corrected = jnp.sqrt(power / (1 - 0.99**step)) + 1e-12
        raw = jnp.clip(raw - rate * (1 - step / steps) * mean / corrected, -1, 1)
    return raw


def test_spsa_trains_the_controls_of_an_effect_outside_jax():
    truth = jnp.array([0.4, -0.5], jnp.float32)
    found = trained(outside(), truth, signal(n=400).astype(np.float32), 200)
    np.testing.assert_allclose(found, truth, atol=0.02)


def test_spsa_trains_a_plug_in():
    pedalboard = pytest.importorskip("pedalboard")

    def process(values, x, fs):
        return pedalboard.Pedalboard([pedalboard.Gain(values["gain_db"])])(np.asarray(x, np.float32), fs)

    truth = jnp.array([-0.35], jnp.float32)
    one = gradients.outside("pedalboard's gain", (GAIN,), process)
    found = trained(one, truth, signal(n=400).astype(np.float32), 150)
    np.testing.assert_allclose(found, truth, atol=0.02)


def test_unknown_names_and_what_is_missing():
    one = outside()
    with pytest.raises(ValueError, match="name is 'magic'; choose one of autodiff, fsm"):
        gradients.strategy("magic", one, FS)
    for strategy in ("proxy", "proxy-hybrid"):
        with pytest.raises(ValueError, match=f"proxy is None; '{strategy}' needs a network"):
            gradients.strategy(strategy, one, FS)


def test_spsa_of_an_effect_that_makes_two_channels_of_one():
    """The batch axes of what comes out are the first: every example has its own derivative."""
    place = chain.effect("panner")
    x = jax.random.normal(jax.random.key(0), (3, 50))
    raw = jnp.array([[-0.4], [0.1], [0.6]])
    weights = jax.random.normal(jax.random.key(1), (3, 2, 50))

    def slope(strategy):
        way = gradients.strategy(strategy, place, FS)
        return jax.jit(jax.grad(lambda raw: jnp.sum(weights * way.render(raw, x, jax.random.key(2)))))(raw)

    # One control: the difference quotient is the derivative, but for its curvature.
    np.testing.assert_allclose(slope("spsa"), slope("autodiff"), rtol=2e-2)


def test_spsa_takes_the_signal_for_a_constant():
    way = gradients.strategy("spsa", chain.effect("gain"), FS)
    raw, x = jnp.zeros(1), jnp.ones(8)
    loss = lambda raw, x: jnp.sum(way.render(raw, x, jax.random.key(0)))  # noqa: E731
    by_raw, by_x = jax.jit(jax.grad(loss, (0, 1)))(raw, x)
    assert float(by_raw[0]) != 0
    np.testing.assert_array_equal(by_x, 0)
