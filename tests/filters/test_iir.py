"""`lfilter` and `sosfilt` against SciPy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import EXACT_METHODS
from scipy import signal
from signals import noise, relative_rms

from jaxapf.filters import iir

ALL_METHODS = (*EXACT_METHODS, "fsm", "auto")
B, A = np.array([0.2, 0.3, 0.1]), np.array([2.0, -1.1, 0.5, 0.1])
SOS = np.array([[0.1, 0.2, 0.1, 1.0, -0.9, 0.4], [1.0, 0.5, 0.0, 1.0, 0.3, 0.0]])


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_lfilter_is_scipys(x64, axis):
    x = noise(5, 7, 6)
    zi_shape = list(x.shape)
    zi_shape[axis] = 3
    zi = noise(*zi_shape, seed=1)
    y, zf = iir.lfilter(B, A, x, axis, zi)
    expected, expected_zf = signal.lfilter(B, A, x, axis, zi)
    assert relative_rms(y, expected) < 1e-12
    assert relative_rms(zf, expected_zf) < 1e-12
    assert relative_rms(iir.lfilter(B, A, x, axis), signal.lfilter(B, A, x, axis)) < 1e-12


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_sosfilt_is_scipys(x64, axis):
    x = noise(5, 7, 6)
    zi_shape = [2, *x.shape]
    zi_shape[axis if axis < 0 else axis + 1] = 2
    zi = noise(*zi_shape, seed=1)
    y, zf = iir.sosfilt(SOS, x, axis, zi)
    expected, expected_zf = signal.sosfilt(SOS, x, axis, zi)
    assert relative_rms(y, expected) < 1e-12
    assert relative_rms(zf, expected_zf) < 1e-12
    assert relative_rms(iir.sosfilt(SOS, x, axis), signal.sosfilt(SOS, x, axis)) < 1e-12


def test_steady_state_from_scipy(x64):
    zi = signal.sosfilt_zi(SOS)
    y, zf = iir.sosfilt(SOS, np.ones(20), zi=zi)
    np.testing.assert_allclose(y, np.full(20, y[0]), rtol=1e-12)
    np.testing.assert_allclose(zf, zi, rtol=1e-12, atol=1e-14)


def test_batched_sections(x64):
    rows = np.stack([SOS, SOS[::-1], SOS])[:, None]  # (3, 1, n_sections, 6)
    x = noise(4, 30)
    y, zf = iir.sosfilt(rows, x, zi=np.zeros((2, 3, 4, 2)))
    assert y.shape == (3, 4, 30)
    assert zf.shape == (2, 3, 4, 2)
    for i in range(3):
        expected, expected_zf = signal.sosfilt(rows[i, 0], x, zi=np.zeros((2, 4, 2)))
        assert relative_rms(y[i], expected) < 1e-12
        assert relative_rms(zf[:, i], expected_zf) < 1e-12


def test_batched_lfilter(x64):
    b, a = noise(3, 2), np.array([1.0, -0.5])
    x = noise(1, 20)
    y = iir.lfilter(b, a, x)
    for i in range(3):
        assert relative_rms(y[i], signal.lfilter(b[i], a, x[0])) < 1e-12


@pytest.mark.parametrize(
    "method",
    [pytest.param(one, marks=pytest.mark.slow if one == "associative" else ()) for one in ALL_METHODS],
)
def test_every_method(method):
    x = noise(300).astype(np.float32)
    for got, expected in (
        (iir.sosfilt(SOS, x, method=method), signal.sosfilt(SOS, x)),
        (iir.lfilter(B, A, x, method=method), signal.lfilter(B, A, x)),
    ):
        assert got.dtype == jnp.float32
        assert relative_rms(got, expected) < 1e-6


@pytest.mark.parametrize(
    "method", ["blocked", *(pytest.param(one, marks=pytest.mark.slow) for one in ("scan", "associative"))]
)
def test_marginal_and_unstable_filters(x64, method):
    # The inner coordinates must not assume stability: an integrator, a resonator without damping, a double
    # pole, a double integrator, and a growing filter.
    x = noise(60)
    denominators = [[1.0, -1.0, 0.0], [1.0, 0.3, 1.0], [1.0, -1.0, 0.25], [1.0, -2.0, 1.0], [1.0, 2.5, 1.2]]
    sos = np.array([[[1.0, 0.4, -0.3, *a]] for a in denominators])
    y = iir.sosfilt(sos, x, method=method)
    for i in range(len(sos)):
        assert relative_rms(y[i], signal.sosfilt(sos[i], x)) < 1e-9


def test_complex_signal_and_coefficients(x64):
    x = noise(40) + 1j * noise(40, seed=1)
    assert relative_rms(iir.sosfilt(SOS, x), signal.sosfilt(SOS, x)) < 1e-12
    b, a = np.array([1.0, 0.5j]), np.array([1.0, 0.3 - 0.4j])
    assert relative_rms(iir.lfilter(b, a, x.real), signal.lfilter(b, a, x.real)) < 1e-12


def test_dtype_follows_the_signal(x64):
    sosfilt, lfilter = partial(iir.sosfilt, SOS), partial(iir.lfilter, B, A)
    for dtype in (jnp.float32, jnp.float64, jnp.complex64):
        assert jax.eval_shape(sosfilt, jnp.ones(8, dtype)).dtype == dtype
        assert jax.eval_shape(lfilter, jnp.ones(8, dtype)).dtype == dtype
    assert jax.eval_shape(sosfilt, np.arange(8)).dtype == jnp.float64


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: iir.lfilter(B, A, np.ones(8), method="fast"), "scan, blocked, associative, fsm, auto"),
        (lambda: iir.sosfilt(SOS, np.ones(8), method="fast"), "scan, blocked, associative, fsm, auto"),
        (lambda: iir.lfilter(B, A, np.ones(8), zi=np.zeros(3), method="fsm"), "zi is given"),
        (lambda: iir.sosfilt(SOS, np.ones(8), zi=np.zeros((2, 2)), method="fsm"), "zi is given"),
        (lambda: iir.lfilter(B, A, np.ones(8), zi=np.zeros(2)), r"zi has shape \(2,\); expected \(3,\)"),
        (lambda: iir.lfilter(B, [0.0, 1.0], np.ones(8)), r"a\[0\] is 0"),
        (lambda: iir.lfilter([], A, np.ones(8)), "b has shape"),
        (lambda: iir.lfilter(B, A, 1.0), "x is a single number"),
        (lambda: iir.lfilter(B, A, np.ones((2, 8)), axis=2), "axis is 2"),
        (lambda: iir.sosfilt(SOS[:, :5], np.ones(8)), r"sos has shape \(2, 5\)"),
        (lambda: iir.sosfilt(2 * SOS, np.ones(8)), "a0"),
        (lambda: iir.sosfilt(SOS, np.ones(8), zi=np.zeros((2, 3))), r"expected \(2, 2\)"),
        (lambda: iir.sosfilt(np.stack([SOS] * 2), np.ones((3, 8))), "sos has batch axes"),
    ],
)
def test_errors(call, words):
    with pytest.raises(ValueError, match=words):
        call()
