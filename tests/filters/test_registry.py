"""What every filter must pass, by every method and in every precision: see `helpers.FILTERS`."""

import functools
import itertools
import zlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import FILTERS, N_SAMPLES, N_SHORT, cast, exact_in_float32, tolerance
from hypothesis import given, settings
from hypothesis import strategies as st
from signals import noise, relative_rms

# All derivatives for one filter an engine; the other combinations are variations of these, and slow.
QUICK = {
    "sosfilt": ("blocked",),
    "allpole-varying-4": ("associative", "native"),
    "cascade": ("scan", "fsm"),
    "cascade-varying": ("scan",),
}
QUICK_HARD = {
    "sosfilt": ("scan",),
    "allpole-varying-4": ("native",),
    "cascade": ("blocked", "fsm"),
    "cascade-varying": ("blocked",),
}
# Values: in chunks, which are the whole.
QUICK_VALUES = (*QUICK, "lfilter-4", "cascade-stretched")


def combinations(*dtypes, quick):
    """All (name, method, dtype), where the complex filters take the complex dtype of that precision."""
    found = []
    for dtype in dtypes:
        for name, case in FILTERS.items():
            fits = np.result_type(dtype, np.complex64) if case.is_complex else np.dtype(dtype)
            for method in (*case.methods, "fsm") if case.sampled else case.methods:
                is_quick = method in quick.get(name, ()) and dtype == dtypes[0]
                marks = () if is_quick else (pytest.mark.slow,)
                found.append(pytest.param(name, method, fits, marks=marks, id=f"{name}-{method}-{fits}"))
    return pytest.mark.parametrize(("name", "method", "dtype"), found)


def filters(quick):
    """All filters, those that are not among the quick ones slow."""
    marks = {name: () if name in quick else pytest.mark.slow for name in FILTERS}
    return pytest.mark.parametrize("name", [pytest.param(name, marks=marks[name]) for name in FILTERS])


@functools.cache
def compiled(name, method="auto"):
    """The filter as one program: operation by operation, every one would be compiled by itself."""
    return jax.jit(functools.partial(FILTERS[name].run, method=method))


class Expected(NamedTuple):
    """What float64 loops say, at one point and along one direction an argument."""

    point: tuple
    directions: tuple
    y: Any
    zf: Any
    slopes: list
    curvatures: list


def draw(case, *shape, seed):
    """Noise that float32 holds exactly, complex for complex filters."""
    real, imag = exact_in_float32(noise(2, *shape, seed=seed))
    return real + 1j * imag if case.is_complex else real


def score(xp, y, zf, weights):
    """A real number that every sample of the output and every state contributes to."""
    heard = xp.real(xp.conj(weights) * y)
    return xp.sum(heard + heard**2) + xp.sum(xp.sin(xp.real(zf) + xp.imag(zf)))


@functools.cache
def expected(name, n_samples, stateful=True):
    """Value and derivatives by central differences; `stateful` is False for the methods without a state."""
    case = FILTERS[name]
    seed = zlib.crc32(name.encode()) % 1000
    params = case.take(case.params, 0, n_samples)
    zi = draw(case, *case.zi_shape, seed=seed + 1) * stateful
    point = params, draw(case, n_samples, seed=seed), zi
    # The parameters by factors: their sizes differ by orders of magnitude, and v = 0 must stay 0.
    seeds = itertools.count(seed + 10)
    turned = jax.tree.map(lambda leaf: 0.03 * leaf * noise(*leaf.shape, seed=next(seeds)), params)
    sizes = (0.3, 0.3 * stateful)
    directions = (
        turned,
        *(
            size * draw(case, *np.shape(value), seed=seed + 3 + i)
            for i, (size, value) in enumerate(zip(sizes, point[1:], strict=True))
        ),
    )
    weights = draw(case, n_samples, seed=seed + 5)

    def at(*steps):
        moved = (
            jax.tree.map(lambda value, direction, step=step: value + step * direction, value, direction)
            for value, direction, step in zip(point, directions, steps, strict=True)
        )
        y, zf = case.reference(*moved)
        return score(np, y, zf if stateful else np.zeros(0), weights), y, zf

    def slope(argument, h=1e-5):
        return (at(*h * argument)[0] - at(*-h * argument)[0]) / (2 * h)

    def curvature(argument, h=1e-3):
        together = h * np.ones(3)
        corners = [at(*i * together + j * h * argument)[0] for i, j in ((1, 1), (1, -1), (-1, 1), (-1, -1))]
        return (corners[0] - corners[1] - corners[2] + corners[3]) / (4 * h**2)

    _, y, zf = at(0, 0, 0)
    axes = np.eye(3)
    slopes, curvatures = [slope(axis) for axis in axes], [curvature(axis) for axis in axes]
    return Expected(point, directions, y, zf, slopes, curvatures), weights


def assert_along(gradients, directions, slopes, rtol):
    """The changes in the `directions`, one an argument, are `slopes`.

    What adds up to a slope may cancel: the root of its terms' squares says how exact it can be. JAX's
    gradient by a complex number is the conjugate one, so the real part of the product is the change.
    """
    for gradient, direction, slope in zip(gradients, directions, slopes, strict=False):
        pairs = zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True)
        terms = np.concatenate([np.real(np.ravel(np.asarray(g, complex) * np.asarray(d))) for g, d in pairs])
        assert abs(np.sum(terms) - slope) <= rtol * max(abs(slope), np.sqrt(np.sum(terms**2)))


@combinations(np.float64, np.float32, quick=QUICK)
def test_value_and_derivatives(x64, name, method, dtype):
    case, stateful = FILTERS[name], method != "fsm"
    truth, weights = expected(name, N_SHORT, stateful)
    point, direction, weights = cast((truth.point, truth.directions, weights), dtype)

    def objective(point):
        params, x, zi = point
        y, zf = case.run(params, x, zi if stateful else None, method=method)
        return score(jnp, y, zf, weights), (y, zf)

    @jax.jit
    def everything(point, direction):
        # One program for all: the transpose of (value, forward slope) gives the gradient, and the gradient of
        # the slope, reverse over forward.
        (_, slope), transpose, outputs = jax.vjp(
            lambda point: _with_slope(objective, point, direction), point, has_aux=True
        )
        one, zero = jnp.ones_like(slope), jnp.zeros_like(slope)
        return outputs, slope, transpose((one, zero))[0], transpose((zero, one))[0]

    (y, zf), slope, gradient, curved = everything(point, direction)
    bounds = [tolerance(dtype, derivatives=order) for order in range(3)]
    if not stateful:  # the tails that wrap around
        bounds = [max(bound, 1e-4) for bound in bounds]
    assert y.dtype == dtype
    assert relative_rms(y, truth.y) < bounds[0]
    if stateful:
        assert relative_rms(zf, truth.zf) < bounds[0]
    slopes, curvatures = (found if stateful else found[:2] for found in (truth.slopes, truth.curvatures))
    rtol = max(bounds[1], 1e-6)  # and what central differences round off
    assert_along(gradient, truth.directions, slopes, rtol)
    np.testing.assert_allclose(slope, sum(slopes), rtol=0, atol=rtol * np.sum(np.abs(slopes)))
    assert_along(curved, truth.directions, curvatures, max(bounds[2], 2e-5))


def _with_slope(objective, point, direction):
    value, slope, outputs = jax.jvp(objective, (point,), (direction,), has_aux=True)
    return (value, slope), outputs


# Signals on which derivatives break, at typical and at edge parameters, and one that is easy.
HARD = {
    "silence": np.zeros(N_SAMPLES),
    "constant": np.ones(N_SAMPLES),
    "alternating": (-1.0) ** np.arange(N_SAMPLES),
    "impulse": np.eye(1, N_SAMPLES)[0],
    "denormal": np.full(N_SAMPLES, 1e-42),
    "noise": noise(N_SAMPLES, seed=4),
}


def value_and_gradients(case, method, weights):
    def objective(params, x, zi):
        y, zf = case.run(params, x, None if method == "fsm" else zi, method=method)
        return score(jnp, y, zf, weights), (y, zf)

    return jax.value_and_grad(objective, argnums=(0, 1, 2), has_aux=True)


@combinations(np.float32, quick=QUICK_HARD)
def test_hard_signals_in_a_batch(name, method, dtype):
    case = FILTERS[name]
    weights = draw(case, N_SAMPLES, seed=5)
    rows = [(params, signal) for params in (case.params, case.edge) for signal in HARD.values()]
    params = cast(jax.tree.map(lambda *leaves: np.stack(leaves), *(params for params, _ in rows)), dtype)
    x = jnp.asarray(np.stack([signal for _, signal in rows]), dtype)
    zi = jnp.zeros((len(rows), *case.zi_shape), dtype)
    batched = jax.jit(jax.vmap(value_and_gradients(case, method, cast(weights, dtype))))
    (value, (y, zf)), gradients = batched(params, x, zi)
    for leaf in jax.tree.leaves((value, y, zf, gradients)):
        assert np.all(np.isfinite(leaf))

    labels = list(HARD) * 2
    for i, label in enumerate(labels):
        by_params = np.concatenate([np.ravel(leaf[i]) for leaf in jax.tree.leaves(gradients[0])])
        by_signal = np.asarray(gradients[1][i])
        assert np.any(by_signal)
        if label == "silence":
            # Nothing comes out, however the filter changes.
            assert not np.any(y[i])
            assert not np.any(zf[i])
            assert not np.any(by_params)
        elif label == "denormal":
            assert np.max(np.abs(y[i])) < 1e-30
        else:
            assert np.any(by_params)
        if name.startswith("cascade") and method != "fsm" and label not in ("silence", "denormal"):
            energy = np.sum(np.square(y[i], dtype=float)) + np.sum(np.square(zf[i], dtype=float))
            assert energy == pytest.approx(np.sum(HARD[label] ** 2), rel=1e-4)

    bound = 1e-4 if method == "fsm" else tolerance(dtype)
    for i, label in enumerate(labels[: len(HARD)]):
        if label not in ("silence", "denormal"):
            truth, truth_zf = case.reference(case.params, HARD[label], np.zeros(case.zi_shape))
            assert relative_rms(y[i], truth) < bound
            if method != "fsm":
                scale = max(1, np.max(np.abs(truth_zf), initial=0))
                np.testing.assert_allclose(zf[i], truth_zf, rtol=0, atol=bound * scale)


@combinations(np.float32, quick=QUICK_HARD)
def test_one_sample(name, method, dtype):
    case, stateful = FILTERS[name], method != "fsm"
    params = cast(case.take(case.params, 0, 1), dtype)
    zi = draw(case, *case.zi_shape, seed=3) * stateful
    x = draw(case, 1, seed=4)
    one = jax.jit(value_and_gradients(case, method, jnp.ones(1, dtype)))
    (_, (y, zf)), gradients = one(params, jnp.asarray(x, dtype), jnp.asarray(zi, dtype))
    truth, truth_zf = case.reference(case.take(case.params, 0, 1), x, zi)
    if stateful:  # frequency sampling pads a sample to two
        np.testing.assert_allclose(y, truth, rtol=2e-5, atol=1e-6)
        np.testing.assert_allclose(zf, truth_zf, rtol=2e-5, atol=1e-6)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradients))
    assert np.all(gradients[1] != 0)


@filters(QUICK_VALUES)
def test_no_samples_leave_the_state(name):
    case = FILTERS[name]
    dtype = np.complex64 if case.is_complex else np.float32
    zi = jnp.asarray(draw(case, *case.zi_shape, seed=3), dtype)
    y, zf = compiled(name)(cast(case.take(case.params, 0, 0), dtype), jnp.zeros(0, dtype), zi)
    assert y.shape == (0,)
    np.testing.assert_allclose(zf, zi, rtol=1e-6)


# Single samples, whole blocks, less and more than a superblock.
PIECES = {1: "blocked", 64: "associative", 257: "blocked", 517: "scan"}


def chunked(name, lengths, methods):
    """Outputs, then final states: of chunks, each from where the one before ended, and of the whole."""
    case = FILTERS[name]
    dtype = np.complex128 if case.is_complex else np.float64
    n_samples = sum(lengths)
    x = draw(case, n_samples, seed=1)
    zi = draw(case, *case.zi_shape, seed=2)
    whole, whole_zf = case.reference(case.take(case.params, 0, n_samples), x, zi)
    state, start, outputs = jnp.asarray(zi, dtype), 0, []
    for length, method in zip(lengths, methods, strict=True):
        params = cast(case.take(case.params, start, start + length), dtype)
        y, state = compiled(name, method)(params, jnp.asarray(x[start : start + length], dtype), state)
        outputs.append(y)
        start += length
    return (np.concatenate(outputs), whole), (state, whole_zf)


@filters(QUICK_VALUES)
def test_chunks_equal_whole(x64, name):
    @settings(max_examples=10)
    @given(st.lists(st.sampled_from(sorted(PIECES)), min_size=2, max_size=5).filter(fits))
    def property_holds(lengths):
        for got, whole in chunked(name, lengths, [PIECES[length] for length in lengths]):
            assert relative_rms(got, whole) < 1e-12

    property_holds()


def fits(lengths):
    return sum(lengths) <= N_SAMPLES


@pytest.mark.slow
@pytest.mark.parametrize("method", ["scan", "blocked", "associative"])
@pytest.mark.parametrize("name", ["sosfilt", "allpole-varying-2", "cascade", "cascade-varying"])
def test_chunks_of_any_length(x64, name, method):
    @settings(max_examples=10)
    @given(st.integers(0, 700), st.integers(0, 700))
    def property_holds(first, second):
        for got, whole in chunked(name, [first, second, 1], [method] * 3):
            assert relative_rms(got, whole) < 1e-12

    property_holds()


@filters(["cascade"])
def test_pmap(x64, name):
    truth, weights = expected(name, N_SHORT)
    point = cast(truth.point, weights.dtype)
    function = value_and_gradients(FILTERS[name], "auto", jnp.asarray(weights))
    one_device = jax.pmap(function, devices=jax.devices()[:1])
    (_, (y, zf)), gradients = one_device(*jax.tree.map(lambda leaf: leaf[None], point))
    assert relative_rms(y[0], truth.y) < 1e-12
    assert relative_rms(zf[0], truth.zf) < 1e-12
    assert_along(
        [jax.tree.map(lambda leaf: leaf[0], g) for g in gradients], truth.directions, truth.slopes, 1e-6
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("method", ["scan", "blocked", "associative"])
def test_forward_over_reverse_and_over_forward(x64, name, method):
    truth, weights = expected(name, N_SHORT)
    point, directions = cast((truth.point, truth.directions), weights.dtype)
    case = FILTERS[name]

    def objective(*point):
        y, zf = case.run(*point, method=method)
        return score(jnp, y, zf, weights)

    def slope(*point):
        return jax.jvp(objective, point, directions)[1]

    @jax.jit
    def second(point):
        over_reverse = jax.jvp(jax.grad(objective, argnums=(0, 1, 2)), point, directions)[1]
        return over_reverse, jax.jvp(slope, point, directions)[1]

    over_reverse, over_forward = second(point)
    assert_along(over_reverse, truth.directions, truth.curvatures, 2e-5)
    np.testing.assert_allclose(over_forward, sum(truth.curvatures), rtol=2e-5)


@filters(["cascade"])
def test_linear_in_signal_and_state(x64, name):
    case = FILTERS[name]
    x, zi = draw(case, 3, N_SHORT, seed=1), draw(case, 3, *case.zi_shape, seed=2)
    x[2], zi[2] = 2 * x[0] - 3 * x[1], 2 * zi[0] - 3 * zi[1]
    params = cast(case.take(case.params, 0, N_SHORT), x.dtype)
    y, zf = jax.jit(jax.vmap(lambda x, zi: case.run(params, x, zi)))(jnp.asarray(x), jnp.asarray(zi))
    assert relative_rms(y[2], 2 * y[0] - 3 * y[1]) < 1e-12
    assert relative_rms(zf[2], 2 * zf[0] - 3 * zf[1]) < 1e-12
