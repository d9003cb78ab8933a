"""Properties of the recursions beyond those of every filter in `test_registry`."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from helpers import ALLPOLE_METHODS, EXACT_METHODS, FILTERS, N_SAMPLES
from signals import noise, relative_rms

from jaxapf import allpass
from jaxapf.filters import blocked, recursion

# One program each: run operation by operation, every one of them would be compiled by itself.
linear_recurrence = jax.jit(recursion.linear_recurrence, static_argnums=0, static_argnames="method")
allpole = jax.jit(recursion.allpole, static_argnames="method")


@pytest.mark.parametrize("n_samples", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (64, 65, 513))])
def test_methods_agree_at_odd_lengths(x64, n_samples):
    def step(c, s, x_t):
        return (c[0] * s[0] - c[1] * s[1] + x_t, c[1] * s[0] + c[0] * s[1]), s[0]

    coefficients = (jnp.array([[0.6], [0.9]]), jnp.array([[0.3], [0.4]]))
    state = jnp.asarray(noise(2, 2))
    x = jnp.asarray(noise(n_samples, seed=n_samples))
    results = [linear_recurrence(step, coefficients, state, x, method=m) for m in EXACT_METHODS]
    for y, zf in results[1:]:
        np.testing.assert_allclose(y, results[0][0], rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(zf, results[0][1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "method",
    [pytest.param(m, marks=() if m in ("scan", "native") else pytest.mark.slow) for m in ALLPOLE_METHODS],
)
def test_constant_equals_time_varying(x64, method):
    constant = FILTERS["allpole-4"].params
    x = jnp.asarray(noise(N_SAMPLES))
    repeated = np.broadcast_to(constant, (N_SAMPLES, 4))
    y, zf = allpole(constant, x, method=method)
    y_varying, zf_varying = allpole(repeated, x, method=method)
    np.testing.assert_allclose(y_varying, y, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(zf_varying, zf, rtol=1e-12, atol=1e-12)


def test_complex_coefficients_of_a_real_signal(x64):
    a, x, zi = noise(2) * 0.3 + 0.2j * noise(2, seed=1), noise(40), noise(2, seed=2)
    expected, expected_zf = reference.allpole(a, x, zi.astype(complex))
    for method in EXACT_METHODS:
        y, zf = allpole(a, x, zi, method=method)
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
    assert recursion.resolve_method("auto", (10,)) == "scan"
    assert recursion.resolve_method("auto", (10**6,)) in ("blocked", "associative")
    assert recursion.direct_form_method("blocked") == "blocked"
    assert [blocked.block_length(n) for n in (1920000, 44100, 65537)] == [32, 30, 32]
    assert [blocked.part_length(n) for n in (32, 30)] == [8, 10]


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


def test_first_order_batches(x64):
    x, zi = noise(4, 3, 30), noise(3, seed=3)
    varying, constant = 0.9 * np.cos(noise(3, 30, seed=1)), np.array([[0.5], [-0.9], [0.99]])
    for a in (varying, constant):
        y, zf = recursion.first_order(a, x, zi)
        assert zf.shape == (4, 3)
        for i, j in np.ndindex(4, 3):
            expected, last = reference.first_order(np.broadcast_to(a[j], 30), x[i, j], zi[j])
            assert relative_rms(y[i, j], expected) < 1e-12
            assert relative_rms(zf[i, j], last) < 1e-12
    alone, _ = recursion.first_order(0.5, x)
    assert relative_rms(alone[0, 0], reference.first_order(np.full(30, 0.5), x[0, 0], 0.0)[0]) < 1e-12


def test_batch_mismatch_names_both():
    with pytest.raises(ValueError, match="a has batch axes"):
        recursion.allpole(np.zeros((2, 1)), np.zeros((3, 8), np.float32))


@pytest.mark.parametrize(
    "method", [pytest.param(one, marks=() if one == "scan" else pytest.mark.slow) for one in EXACT_METHODS]
)
@pytest.mark.parametrize("n_poles", [0, 17])
def test_no_poles_and_many(x64, method, n_poles):
    a, x = 0.01 * noise(n_poles), noise(200, seed=1)
    y, _ = allpole(a, x, method=method)
    assert relative_rms(y, reference.allpole(a, x, np.zeros(n_poles))[0]) < 1e-12
    varying, _ = allpole(np.broadcast_to(a, (200, n_poles)), x, method=method)
    assert relative_rms(varying, y) < 1e-12


@pytest.mark.slow
def test_gradient_by_coefficients_does_not_drift():
    # On a constant signal every sample's share has the same sign: a plain running sum was 0.5 % off.
    @partial(jax.jit, static_argnames="method")
    @jax.grad
    def slope(radius, method):
        y = allpass.cascade(allpass.second_order(radius, 100.0, 48000.0), jnp.ones(3000), method=method)
        return jnp.sum(y**3)

    for method in recursion.METHODS:
        assert float(slope(0.9, method=method)) == pytest.approx(-450.0708, rel=5e-4)
