"""What every recursive filter must pass, by every method; and the all-pole filter's own contract."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from helpers import EXACT_METHODS, FILTERS, N_SAMPLES, noise, relative_rms

from jaxapf import recursion

each_filter = pytest.mark.parametrize("name", FILTERS)
each_method = pytest.mark.parametrize("method", EXACT_METHODS)


@each_filter
@each_method
def test_matches_float64_loop(x64, name, method):
    case = FILTERS[name]
    x = noise(N_SAMPLES)
    zi = np.zeros(case.zi_shape) if "cascade" in name else noise(*case.zi_shape, seed=1)
    y, zf = case.run(case.params, jnp.asarray(x), jnp.asarray(zi), method=method)
    expected, expected_zf = case.reference(case.params, x, zi)
    assert y.dtype == jnp.float64
    assert relative_rms(y, expected) < 1e-10
    if expected_zf is not None:
        assert relative_rms(zf, expected_zf) < 1e-10


@each_filter
def test_chunks_equal_whole(x64, name):
    case = FILTERS[name]
    x, zi = jnp.asarray(noise(N_SAMPLES)), jnp.asarray(noise(*case.zi_shape, seed=1))
    whole, zf = case.run(case.params, x, zi, method="scan")
    first, middle = case.run(case.take(case.params, 0, 23), x[:23], zi, method="blocked")
    second, last = case.run(case.take(case.params, 23, None), x[23:], middle, method="associative")
    np.testing.assert_allclose(jnp.concatenate([first, second]), whole, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(last, zf, rtol=1e-10, atol=1e-10)


# The engine's derivatives do not depend on the step, so two steps, constant and varying, try every method.
DERIVATIVES = [(name, "scan") for name in FILTERS]
DERIVATIVES += [("cascade", "blocked"), ("allpole-varying", "associative")]


@pytest.mark.parametrize(("name", "method"), DERIVATIVES)
def test_derivatives_match_differences(x64, name, method):
    case = FILTERS[name]
    n_samples = 13
    params = jax.tree.map(jnp.asarray, case.take(case.params, 0, n_samples))
    zi_shape = case.zi_shape
    # By factors of the parameters: their sizes differ by orders of magnitude, and v = 0 must stay 0.
    point = jax.tree.map(jnp.ones_like, params), jnp.asarray(noise(n_samples)), jnp.asarray(noise(*zi_shape))
    leaves, tree = jax.tree.flatten(point)
    directions = [jnp.asarray(0.1 * noise(*leaf.shape, seed=i)) for i, leaf in enumerate(leaves)]
    weights = jnp.asarray(noise(n_samples, seed=9))

    def objective(step):
        factors, x, zi = jax.tree.unflatten(
            tree, [leaf + step * direction for leaf, direction in zip(leaves, directions, strict=True)]
        )
        y, zf = case.run(jax.tree.map(jnp.multiply, params, factors), x, zi, method=method)
        return jnp.sum(weights * y) + jnp.sum(jnp.sin(zf)) + jnp.sum(y**2)

    @jax.jit
    def derivatives(step):
        # One program for all: the tangents of (value, reverse slope) are the forward slope and the curvature.
        return jax.jvp(jax.value_and_grad(objective), (step,), (1.0,))

    h = 1e-5
    (_, slope), (forward_slope, curvature) = derivatives(0.0)
    ((above, slope_above), _), ((below, slope_below), _) = derivatives(h), derivatives(-h)
    expected = (above - below) / (2 * h)
    assert expected != 0
    np.testing.assert_allclose(slope, expected, rtol=1e-6)
    np.testing.assert_allclose(forward_slope, expected, rtol=1e-6)
    np.testing.assert_allclose(curvature, (slope_above - slope_below) / (2 * h), rtol=1e-6)


@each_filter
def test_jit_and_vmap(x64, name):
    case = FILTERS[name]
    x, zi = jnp.asarray(noise(3, N_SAMPLES)), jnp.asarray(noise(3, *case.zi_shape, seed=1))

    @jax.jit
    @jax.vmap
    def batched(x, zi):
        return case.run(case.params, x, zi, method="blocked")

    got = batched(x, zi)
    rows = [case.run(case.params, x[i], zi[i], method="scan") for i in range(3)]
    expected = jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10), got, expected)


@each_filter
def test_linear(x64, name):
    case = FILTERS[name]
    x, zi = jnp.asarray(noise(3, N_SAMPLES)), jnp.asarray(noise(3, *case.zi_shape, seed=1))
    x, zi = x.at[2].set(2 * x[0] - 3 * x[1]), zi.at[2].set(2 * zi[0] - 3 * zi[1])
    y, zf = jax.vmap(lambda x, zi: case.run(case.params, x, zi))(x, zi)
    np.testing.assert_allclose(y[2], 2 * y[0] - 3 * y[1], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(zf[2], 2 * zf[0] - 3 * zf[1], rtol=1e-9, atol=1e-9)


@each_filter
@pytest.mark.parametrize("n_samples", [0, 1])
def test_short_signals(name, n_samples):
    case = FILTERS[name]
    params = case.take(case.params, 0, n_samples)
    x = noise(n_samples).astype(np.float32)
    y, zf = case.run(params, x, jnp.zeros(case.zi_shape, jnp.float32), method="blocked")
    expected, _ = case.reference(params, x, np.zeros(case.zi_shape))
    assert y.dtype == jnp.float32
    assert zf.shape == case.zi_shape
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


@each_filter
def test_silence_stays_silent(name):
    case = FILTERS[name]
    y, zf = case.run(case.params, jnp.zeros(N_SAMPLES), jnp.zeros(case.zi_shape))
    assert not np.any(y)
    assert not np.any(zf)


def test_methods_agree_at_odd_lengths(x64):
    def step(c, s, x_t):
        return (c[0] * s[0] - c[1] * s[1] + x_t, c[1] * s[0] + c[0] * s[1]), s[0]

    coefficients = (jnp.array([[0.6], [0.9]]), jnp.array([[0.3], [0.4]]))
    state = jnp.asarray(noise(2, 2))
    for n_samples in (2, 3, 16, 17, 24):
        x = jnp.asarray(noise(n_samples, seed=n_samples))
        results = [recursion.linear_recurrence(step, coefficients, state, x, method=m) for m in EXACT_METHODS]
        for y, zf in results[1:]:
            np.testing.assert_allclose(y, results[0][0], rtol=1e-12, atol=1e-12)
            np.testing.assert_allclose(zf, results[0][1], rtol=1e-12, atol=1e-12)


def test_constant_equals_time_varying(x64):
    case = FILTERS["allpole"]
    x = jnp.asarray(noise(N_SAMPLES))
    repeated = np.broadcast_to(case.params, (N_SAMPLES, 3))
    for method in ("scan", "blocked"):
        y, zf = recursion.allpole(case.params, x, method=method)
        y_varying, zf_varying = recursion.allpole(repeated, x, method=method)
        np.testing.assert_allclose(y_varying, y, rtol=1e-12)
        np.testing.assert_allclose(zf_varying, zf, rtol=1e-12)


def test_allpole_complex(x64):
    a, x, zi = noise(2) * 0.3 + 0.2j * noise(2, seed=1), noise(40), noise(2, seed=2)
    expected, expected_zf = reference.allpole(a, x, zi.astype(complex))
    for method in EXACT_METHODS:
        y, zf = recursion.allpole(a, x, zi, method=method)
        assert relative_rms(y, expected) < 1e-12
        assert relative_rms(zf, expected_zf) < 1e-12


def test_allpole_batches(x64):
    x = noise(4, 3, 30)
    constant, varying = 0.2 * noise(3, 2, seed=1), 0.2 * noise(1, 3, 30, 2, seed=2)
    y_constant, zf = recursion.allpole(constant, x)
    y_varying, _ = recursion.allpole(varying, x)
    assert zf.shape == (4, 3, 2)
    for i in range(4):
        for j in range(3):
            for y, a in ((y_constant, constant[j]), (y_varying, varying[0, j])):
                assert relative_rms(y[i, j], reference.allpole(a, x[i, j], np.zeros(2))[0]) < 1e-12


def test_auto_is_exact_and_depends_on_length():
    assert recursion.resolve_method("auto", 10) == "scan"
    assert recursion.resolve_method("auto", 10**6) in ("blocked", "associative")


@pytest.mark.parametrize(
    ("a", "kwargs", "words"),
    [
        (np.zeros(2), {"method": "fast"}, "method is 'fast'"),
        (np.zeros((7, 2)), {}, "a has 7 sets"),
        (np.zeros((2, 9, 2)), {}, "a has shape"),
        (np.float64(1), {}, "a has shape"),
        (np.zeros(2), {"zi": np.zeros(3)}, r"zi has shape \(3,\); expected \(2,\)"),
    ],
)
def test_allpole_errors(a, kwargs, words):
    with pytest.raises(ValueError, match=words):
        recursion.allpole(a, np.zeros(8, np.float32), **kwargs)


def test_batch_mismatch_names_both():
    with pytest.raises(ValueError, match="a has batch axes"):
        recursion.allpole(np.zeros((2, 1)), np.zeros((3, 8), np.float32))
