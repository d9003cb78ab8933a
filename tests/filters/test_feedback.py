"""All-passes in a feedback loop: against a dense solve, in both methods; derivatives; pieces; float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
import scipy.signal
from jax.test_util import check_grads
from signals import noise, relative_rms

from jaxapf.filters import feedback, native

METHODS = [
    "scan",
    pytest.param("native", marks=pytest.mark.skipif(not native.available(), reason="no native kernels")),
]
LOOPS = [(0.0, 0.0), (0.5, 0.0), (0.0, -0.7), (-0.4, 0.3)]


def moving(n_samples: int) -> np.ndarray:
    return 0.95 * np.sin(0.05 * np.arange(n_samples))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("stages", [1, 4, 5])
def test_loop_solves_its_equations(x64, stages, loop, method):
    p, x, zi = moving(80), noise(80), noise(stages + 1, seed=1)
    y, zf = feedback.allpass_loop(p, loop, x, zi, stages=stages, method=method)
    expected, last = reference.allpass_loop(p, loop, x, zi)
    assert relative_rms(y, expected) < 1e-12
    np.testing.assert_allclose(zf, last, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_standing_still_it_is_a_rational_filter(x64, method):
    p, gain, x = 0.6, 0.5, noise(200)
    allpass = np.polynomial.polynomial.polypow([p, -1.0], 3), np.polynomial.polynomial.polypow([1.0, -p], 3)
    expected = scipy.signal.lfilter(allpass[0], allpass[1] - gain * allpass[0], x)
    y, _ = feedback.allpass_loop([p], [gain, 0.0], x, stages=3, method=method)
    assert relative_rms(y, expected) < 1e-12


def test_without_feedback_every_stage_keeps_the_energy(x64):
    x = np.concatenate([noise(200), np.zeros(4000)])
    y, _ = feedback.allpass_loop(np.array([0.7]), np.zeros(2), x, stages=4)
    np.testing.assert_allclose(np.sum(np.asarray(y) ** 2), np.sum(x**2), rtol=1e-10)


@pytest.mark.parametrize("method", [pytest.param("scan", marks=pytest.mark.slow), METHODS[1]])
@pytest.mark.parametrize("loop", LOOPS)
def test_derivatives_in_both_modes(x64, loop, method):
    weights = noise(40, seed=3)

    def total(p, loop, x, zi):
        return jnp.sum(weights * feedback.allpass_loop(p, loop, x, zi, stages=4, method=method)[0] ** 2)

    arguments = [jnp.asarray(one) for one in (moving(40), np.array(loop), noise(40), noise(5, seed=1))]
    total = jax.jit(total)
    check_grads(total, arguments, order=1, modes=("fwd", "rev"), rtol=1e-6, atol=1e-6, eps=1e-6)
    for gradient in jax.jit(jax.grad(total, argnums=(0, 1, 2, 3)))(*arguments):
        assert np.all(np.isfinite(gradient))
        assert np.any(gradient != 0)


@pytest.mark.slow
def test_second_derivatives(x64):
    x = noise(12)

    def total(p, loop):
        return jnp.sum(feedback.allpass_loop(p, loop, x, stages=2, method="scan")[0] ** 3)

    arguments = jnp.asarray(moving(12)), jnp.array([0.3, 0.2])
    check_grads(jax.jit(total), arguments, order=2, modes=("fwd", "rev"), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("loop", LOOPS[1:3])
@pytest.mark.parametrize("cut", [0, 1, 37])
def test_pieces_are_the_whole(cut, loop):
    p, x = (np.asarray(one, np.float32) for one in (moving(60), noise(2, 60)))
    whole, last = feedback.allpass_loop(p, loop, x, stages=4)
    first, state = feedback.allpass_loop(p[:cut] if cut else p[:1], loop, x[:, :cut], stages=4)
    second, final = feedback.allpass_loop(p[cut:] if cut < 60 else p[:1], loop, x[:, cut:], state, stages=4)
    np.testing.assert_allclose(np.concatenate([first, second], axis=-1), whole, atol=1e-5)
    np.testing.assert_allclose(final, last, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_batches_broadcast(x64, method):
    p, loop, x = np.tanh(noise(3, 1, 30)), np.array([[0.2, 0.0], [0.0, 0.4]]), noise(2, 30, seed=1)
    y, zf = feedback.allpass_loop(p, loop, x, stages=3, method=method)
    assert (y.shape, zf.shape) == ((3, 2, 30), (3, 2, 4))
    for i in range(3):
        for j in range(2):
            expected, _ = reference.allpass_loop(p[i, 0], loop[j], x[j], np.zeros(4))
            assert relative_rms(y[i, j], expected) < 1e-12


def test_vmap_over_each_argument(x64):
    p, loops, x = np.tanh(noise(3, 30)), np.array(LOOPS[:3]), noise(3, 30, seed=1)

    def one(p, loop, x):
        return feedback.allpass_loop(p, loop, x, stages=4)[0]

    for axes in ((0, None, None), (None, 0, None), (None, None, 0), (0, 0, 0)):
        arguments = [many if axis == 0 else many[0] for many, axis in zip((p, loops, x), axes, strict=True)]
        mapped = jax.vmap(one, axes)(*(jnp.asarray(argument) for argument in arguments))
        for n in range(3):
            each = [many[n] if axis == 0 else many[0] for many, axis in zip((p, loops, x), axes, strict=True)]
            np.testing.assert_allclose(mapped[n], one(*each), atol=1e-12)


@pytest.mark.parametrize("loop", LOOPS)
def test_float32_holds_near_one(x64, loop):
    # The paper's filter of fourth order needs float64 beyond 0.98; stages do not.
    p = 0.9995 - 0.0005 * np.sin(1e-3 * np.arange(20000))
    x = noise(20000)
    exact, _ = feedback.allpass_loop(p, loop, x, stages=4)
    rounded = (one.astype(np.float32) for one in (p, np.array(loop), x))
    y, _ = feedback.allpass_loop(*rounded, stages=4)
    assert y.dtype == np.float32
    assert relative_rms(y, exact) < 2e-3 if any(loop) else relative_rms(y, exact) < 5e-4


@pytest.mark.parametrize(
    "x", [np.zeros(50), np.ones(50), np.cos(np.pi * np.arange(50)), np.eye(1, 50)[0], [1.0]]
)
def test_nothing_is_ever_no_number(x):
    def total(p, loop):
        return jnp.sum(feedback.allpass_loop(p, loop, np.asarray(x, np.float32), stages=4)[0] ** 2)

    for p in (0.0, 0.99999, -0.99999):
        value, gradient = jax.value_and_grad(total, argnums=(0, 1))(jnp.full(1, p), jnp.array([0.9, 0.05]))
        assert all(np.all(np.isfinite(one)) for one in (value, *gradient))


def test_no_samples():
    y, zf = feedback.allpass_loop(np.zeros(1), np.zeros(2), np.zeros(0), np.arange(5.0), stages=4)
    assert y.shape == (0,)
    np.testing.assert_array_equal(zf, np.arange(5.0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stages": 0}, "stages is 0; expected at least 1"),
        ({"stages": 33}, "stages is 33; expected at most 32"),
        ({"stages": 1.5}, "stages is 1.5; expected a whole number"),
        ({"method": "blocked"}, "method is 'blocked'; choose one of scan, native or auto"),
        ({"p": np.zeros(3)}, r"p has shape \(3,\), x \(8,\)"),
        ({"feedback": np.zeros(3)}, r"feedback has shape \(3,\); expected \(..., 2\)"),
        ({"zi": np.zeros(3)}, r"zi has shape \(3,\); expected \(5,\)"),
    ],
)
def test_mistakes_are_named(change, message):
    arguments = {"p": np.zeros(8), "feedback": np.zeros(2), "x": np.zeros(8), "stages": 4} | change
    with pytest.raises(ValueError, match=message):
        feedback.allpass_loop(**arguments)


def test_complex_signals_are_refused():
    with pytest.raises(TypeError, match="x is complex64; expected a real signal"):
        feedback.allpass_loop(np.zeros(1), np.zeros(2), np.zeros(8, np.complex64), stages=4)
