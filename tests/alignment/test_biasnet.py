"""Cascades to be trained: the papers' parameter counts and formulas, and the way back from sections."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from hypothesis import given
from hypothesis import strategies as st

from jaxapf import allpass
from jaxapf.alignment import biasnet
from jaxapf.params import FIRST_ORDER, SECOND_ORDER, denormalise

FS = 192_000.0
KEY = jax.random.key(0)
KINDS = {"sequential": biasnet.sequential, "connected": biasnet.connected}
QUICK_KINDS = [pytest.param(kind, marks=pytest.mark.slow) if kind == "sequential" else kind for kind in KINDS]


def size(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    ("kind", "order", "warped", "count"),
    [
        ("sequential", 7, True, 2_761_611),
        ("connected", 7, True, 691_467),
        ("connected", 7, False, 690_951),  # 7 outputs instead of 11, of 129 numbers each
        ("sequential", 2, True, 690_435),
    ],
)
def test_numbers_of_parameters(kind, order, warped, count):
    model = KINDS[kind](biasnet.structure(order, warped=warped), FS)
    assert size(jax.eval_shape(model.init, KEY)) == count


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", [*(pytest.param(one, marks=pytest.mark.slow) for one in (1, 4)), 7])
@pytest.mark.parametrize(("warped", "stretch"), [(False, 1), (True, 1), (True, 3)])
def test_the_filter_is_the_papers_difference_equation(kind, order, warped, stretch):
    shape = biasnet.structure(order, warped=warped, stretch=stretch)
    model = KINDS[kind](shape, FS)
    weights = model.init(jax.random.key(3))
    x = np.random.default_rng(0).standard_normal(600).astype(np.float32)
    raw = biasnet.outputs(model, weights)
    expected: Any = x.astype(np.float64)
    for row, controls in [(row, SECOND_ORDER) for row in raw.second] + [
        (row, FIRST_ORDER) for row in raw.first
    ]:
        values = [float(v) for v in denormalise(row, controls[: len(row)])]
        warp = values.pop() if warped else 0.0
        if controls is SECOND_ORDER:
            c, d = values[0] ** 2, -2 * values[0] * np.cos(2 * np.pi * values[1] / FS)
            # eq. 5 without its misprint: z^-1 becomes (a + z^-1) / (1 + a z^-1)
            b = np.polynomial.polynomial.polyadd(
                np.polynomial.polynomial.polyadd(
                    c * np.polynomial.polynomial.polypow([1, warp], 2),
                    d * np.polynomial.polynomial.polymul([1, warp], [warp, 1]),
                ),
                np.polynomial.polynomial.polypow([warp, 1], 2),
            )
        else:
            b = np.array([values[0] + warp, 1 + values[0] * warp])
        a = b[::-1]
        stretched = [np.zeros((len(b) - 1) * stretch + 1) for _ in range(2)]
        for target, source in zip(stretched, (b, a), strict=True):
            target[::stretch] = source
        expected = scipy.signal.lfilter(stretched[0], stretched[1], expected)
    np.testing.assert_allclose(model.filter(weights, x), expected, atol=2e-5 * float(np.std(expected)))
    if stretch == 1:
        sos = np.asarray(model.sos(weights), np.float64)
        np.testing.assert_allclose(scipy.signal.sosfilt(sos, x.astype(np.float64)), expected, atol=1e-4)


@pytest.mark.parametrize("kind", QUICK_KINDS)
def test_every_weight_has_a_slope(kind):
    model = KINDS[kind](biasnet.structure(3), FS)
    x = jax.random.normal(KEY, (512,))
    slopes = jax.jit(jax.grad(lambda weights: jnp.mean((model.filter(weights, x) - x) ** 2)))(
        jax.jit(model.init)(KEY)
    )
    assert all(np.all(np.isfinite(leaf)) and np.any(leaf != 0) for leaf in jax.tree.leaves(slopes))


@pytest.mark.parametrize("kind", QUICK_KINDS)
@pytest.mark.parametrize("fs", [8000.0, 16_000.0, 44_100.0])
def test_frequencies_stay_below_half_the_rate(kind, fs):
    """Also where 20 kHz is beyond it: outside of `jit`, where values are checked."""
    shape = biasnet.structure(4)
    model = KINDS[kind](shape, fs)
    weights = model.init(KEY)
    x = np.random.default_rng(0).standard_normal(200).astype(np.float32)
    expected = scipy.signal.sosfilt(np.asarray(model.sos(weights), np.float64), x.astype(np.float64))
    np.testing.assert_allclose(model.filter(weights, x), expected, atol=1e-4)
    highest = biasnet.Raw(np.full((2, 3), 0.999), np.zeros((0, 2)))
    rows = biasnet.named_controls(highest, shape, fs)
    assert all(min(19.9e3, 0.49 * fs) < row["cutoff_hz"] < fs / 2 for row in rows)
    assert np.all(np.isfinite(biasnet.sections_of(highest, shape, fs).sos))


@pytest.mark.parametrize("kind", QUICK_KINDS)
def test_networks_in_float64(kind, x64):
    """The weights stay in float32, the signal in float64, and nothing is promoted in silence."""
    model = KINDS[kind](biasnet.structure(3), FS)
    weights = jax.jit(model.init)(KEY)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(weights)} == {"float32"}
    x = np.random.default_rng(0).standard_normal(200)
    y = model.filter(weights, x)
    assert y.dtype == jnp.float64
    np.testing.assert_allclose(
        y, scipy.signal.sosfilt(np.asarray(model.sos(weights), np.float64), x), atol=1e-5
    )


def test_naive_is_the_difference_equation():
    model = biasnet.naive(biasnet.structure(3, warped=False))
    weights = {"c": jnp.array([0.6]), "d": jnp.array([-1.1]), "g": jnp.array([-0.3])}
    x = np.random.default_rng(1).standard_normal(300).astype(np.float32)
    y = scipy.signal.lfilter([0.6, -1.1, 1], [1, -1.1, 0.6], x.astype(np.float64))
    expected = scipy.signal.lfilter([-0.3, 1], [1, -0.3], y)
    np.testing.assert_allclose(model.filter(weights, x), expected, atol=1e-5)
    assert size(model.init(KEY)) == 3
    with pytest.raises(ValueError, match="give warped=False"):
        biasnet.naive(biasnet.structure(3))


complex_poles = st.tuples(
    st.floats(np.log10(25.0), np.log10(19e3)).map(lambda x: 10**x), st.floats(0.55, 300.0)
)


@given(st.lists(complex_poles, min_size=1, max_size=3), st.floats(-0.9999, 0.999), st.booleans())
def test_there_and_back(poles, g, odd):
    cutoff_hz, q = np.array(poles).T
    sections = allpass.rbj(cutoff_hz, q, FS)
    if odd:
        sections = allpass.concatenate(sections, allpass.first_order(np.array([g])))
    shape = biasnet.structure(2 * len(poles) + odd)
    raw = biasnet.raw_of(sections, shape, FS)
    back = biasnet.sections_of(raw, shape, FS)
    for one, other in zip(back, sections, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", [1, pytest.param(6, marks=pytest.mark.slow), 7])
def test_weights_that_give_wanted_outputs(kind, order):
    shape = biasnet.structure(order)
    sections = allpass.rbj(np.array([30.0, 1300.0, 9000.0])[: order // 2], 20.0, FS)
    sections = allpass.concatenate(sections, allpass.first_order(np.full(order % 2, -0.999)))
    model: Any = KINDS[kind](shape, FS)
    wanted = biasnet.raw_of(sections, shape, FS)
    found = model.raw(model.start(KEY, wanted))
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, atol=5e-7)
    # Another key gives another network of the same outputs.
    first, second = (jax.tree.leaves(model.start(jax.random.key(seed), wanted))[0] for seed in (0, 1))
    assert np.any(first != second)


def test_poles_that_radius_and_frequency_cannot_give():
    real = allpass.rbj(np.array([500.0]), 0.2, FS)  # two real poles
    back = biasnet.sections_of(biasnet.raw_of(real, biasnet.structure(2), FS), biasnet.structure(2), FS)
    poles = np.roots(back.sos[0, 3:])
    low, high = sorted(np.roots(real.sos[0, 3:]).real)
    assert np.all((low < poles.real) & (poles.real < high))
    assert np.all(np.abs(poles.imag) < 1e-4)
    wrong = allpass.first_order(np.zeros(2))
    with pytest.raises(ValueError, match="0 of second and 2 of first order; expected those of"):
        biasnet.raw_of(wrong, biasnet.structure(2), FS)
    with pytest.raises(ValueError, match="unstretched"):
        biasnet.raw_of(real, biasnet.structure(2, stretch=2), FS)


@given(
    st.lists(st.tuples(st.floats(20.0, 19e3), st.floats(0.06, 5.0)), min_size=1, max_size=3),
    st.floats(-0.999, 0.999),
)
def test_real_poles_become_two_sections(poles, g):
    cutoff_hz, q = np.array(poles).T
    sections = allpass.concatenate(allpass.first_order(np.array([g])), allpass.rbj(cutoff_hz, q, FS))
    split = biasnet.with_complex_poles(sections)
    freqs_hz = np.geomspace(5.0, 90e3, 60)
    found, expected = (allpass.phase_response(one, freqs_hz, FS) for one in (split, sections))
    np.testing.assert_allclose(found, expected, atol=1e-7)
    second = split.v > 0
    assert np.all(split.m[second] ** 2 < split.u[second] * split.v[second])
    assert np.sum(second) == np.sum(q > 0.5)


@pytest.mark.parametrize(("order", "stretch"), [(0, 1), (7, 0), (2.5, 1)])
def test_structures_that_are_none(order, stretch):
    with pytest.raises((ValueError, TypeError), match=r"order|stretch"):
        biasnet.structure(order, stretch=stretch)
