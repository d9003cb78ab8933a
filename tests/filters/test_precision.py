"""What float32 keeps close to the unit circle, gradients included; and sections to rows and back."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from helpers import EXACT_METHODS
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal
from signals import noise, relative_rms

from jaxapf import allpass
from jaxapf.filters import biquad, iir

pytestmark = pytest.mark.optimised  # bounds on the rounding of the programs that users run
FS = 192000.0
N_SAMPLES = 131072
RADII = np.array([0.9, 0.999, 0.99999], np.float32)
CUTOFFS_HZ = np.array([30.0, 300.0, 1000.0, 5000.0, 15000.0], np.float32)
# First-order coefficients with their pole at RADII, at both ends of the spectrum.
COEFFICIENTS = np.concatenate([-RADII, RADII])
BOUNDS = {"scan": 2e-5, "blocked": 1e-4, "associative": 1e-4}
each_method = pytest.mark.parametrize(
    "method",
    [pytest.param(one, marks=pytest.mark.slow if one == "associative" else ()) for one in EXACT_METHODS],
)
blocked_first = pytest.mark.parametrize(
    "method", ["blocked", *(pytest.param(one, marks=pytest.mark.slow) for one in ("scan", "associative"))]
)
cascade = jax.jit(allpass.cascade, static_argnames="method")


@functools.cache
def float32_noise(seed=0):
    return noise(N_SAMPLES, seed=seed).astype(np.float32)


def designs():
    """Controls of one-section cascades, `(n_designs, 1)`, in float32."""
    radius, cutoff_hz = (grid.reshape(-1, 1) for grid in np.meshgrid(RADII, CUTOFFS_HZ, indexing="ij"))
    return radius, cutoff_hz


def second_order(radius, cutoff_hz):
    return allpass.second_order(radius, cutoff_hz, FS)


def wide_sections():
    return second_order(*(control.astype(float) for control in designs()))


@functools.cache
def exact_second_order():
    """SciPy's float64 filter of float64 sections designed from the same controls."""
    return np.stack([signal.sosfilt(row, float32_noise().astype(float)) for row in wide_sections().sos])


@each_method
def test_second_order(method):
    sections = second_order(*map(jnp.asarray, designs()))
    y = np.asarray(cascade(sections, float32_noise(), method=method))
    errors = [relative_rms(*pair) for pair in zip(y, exact_second_order(), strict=True)]
    assert max(errors) < BOUNDS[method]


@blocked_first
def test_first_order(method):
    sections = allpass.first_order(jnp.asarray(COEFFICIENTS)[:, None])
    y = np.asarray(cascade(sections, float32_noise(), method=method))
    for got, g in zip(y, COEFFICIENTS.astype(float), strict=True):
        expected = signal.lfilter([g, 1], [1, g], float32_noise().astype(float))
        assert relative_rms(got, expected) < BOUNDS[method]


@pytest.mark.slow
@pytest.mark.parametrize("method", EXACT_METHODS)
def test_long_cascade(method):
    radius, cutoff_hz = (control.ravel() for control in designs())
    warp = np.linspace(-0.5, 0.5, radius.size, dtype=np.float32)
    sections, exact = (
        allpass.concatenate(
            allpass.second_order(controls[0], controls[1], FS, warp=controls[2]),
            allpass.first_order(controls[3]),
        )
        for controls in (
            [jnp.asarray(c) for c in (radius, cutoff_hz, warp, COEFFICIENTS)],
            [c.astype(float) for c in (radius, cutoff_hz, warp, COEFFICIENTS)],
        )
    )
    y = cascade(sections, float32_noise(), method=method)
    assert relative_rms(y, signal.sosfilt(exact.sos, float32_noise().astype(float))) < BOUNDS[method]


@pytest.mark.parametrize(
    "method", ["scan", *(pytest.param(one, marks=pytest.mark.slow) for one in ("blocked", "associative"))]
)
def test_float64(x64, method):
    sections = wide_sections()
    y = np.asarray(cascade(sections, float32_noise().astype(float), method=method))
    errors = [relative_rms(*pair) for pair in zip(y, exact_second_order(), strict=True)]
    assert max(errors) < 1e-10


@functools.partial(jax.jit, static_argnames=("design", "method"))
def weighted_gradients(design, controls, x, weights, *, method):
    def weighted_sum(controls, x):
        return jnp.vdot(weights, allpass.cascade(design(*controls), x, method=method))

    return jax.grad(weighted_sum, argnums=(0, 1))(controls, x)


def check_gradients(design, controls, steps, bounds, method):
    """Gradients of sum(w y) by the signal and the controls, against SciPy in float64.

    By the signal it is w filtered backwards in time; by the controls a central difference, whose `steps` are
    small against the distance of the pole to the unit circle. `bounds` are those of the controls' gradients.
    """
    x, weights = float32_noise(), float32_noise(1)
    n_designs = len(controls[0])
    by_controls, by_signal = weighted_gradients(
        design,
        tuple(map(jnp.asarray, controls)),
        jnp.tile(x, (n_designs, 1)),
        jnp.tile(weights, (n_designs, 1)),
        method=method,
    )
    wide = [control.astype(float) for control in controls]

    def filtered(controls, i, x):
        rows = design(*(control[i] for control in controls)).sos
        return np.asarray(signal.sosfilt(rows, x.astype(float)))

    for i in range(n_designs):
        backwards = filtered(wide, i, weights[::-1])[::-1]
        assert relative_rms(by_signal[i], backwards) < BOUNDS[method]
        for which, step in enumerate(steps):
            above, below = (
                [value + sign * step * (j == which) for j, value in enumerate(wide)] for sign in (1, -1)
            )
            change = weights.astype(float) * (filtered(above, i, x) - filtered(below, i, x))
            slope = np.sum(change) / (2 * step[i, 0])
            # Samples of both signs add up to the slope: their root mean square says how exact it can be.
            spread = np.sqrt(np.sum(change**2)) / (2 * step[i, 0])
            assert abs(by_controls[which][i, 0] - slope) < bounds[i, 0] * spread


@blocked_first
def test_second_order_gradients(method):
    radius, cutoff_hz = designs()
    gap = 1 - radius.astype(float)
    # Margins rounded to float32 turn the pole by eps tan(w / 2), which matters close to the circle.
    turned = np.finfo(np.float32).eps * np.tan(np.pi * cutoff_hz.astype(float) / FS)
    steps = 1e-3 * gap, 1e-4 * gap * FS
    check_gradients(second_order, (radius, cutoff_hz), steps, 2e-4 + turned / gap, method)


@pytest.mark.slow
@pytest.mark.parametrize("method", EXACT_METHODS)
def test_first_order_gradients(method):
    g = COEFFICIENTS[:, None]
    gap = 1 - np.abs(g.astype(float))
    check_gradients(allpass.first_order, (g,), (1e-3 * gap,), np.full(g.shape, 2e-4), method)


# Rows and sections


@given(st.floats(0.0, 0.99999), st.floats(30.0, 95970.0))
def test_sections_to_rows_and_back(radius, cutoff_hz):
    sections = allpass.second_order(radius, cutoff_hz, FS)
    again = allpass.from_sos(sections.sos)
    # A row holds c and d, of the size of 1 and 2, to half a unit in their last place: no more is lost.
    # The smallest u and v (30 Hz from an end) are 2.4e-7 of the total, the smallest m 2e-5.
    for got, field, relative in zip(again, sections, (1e-9, 1e-9, 1e-11), strict=True):
        assert abs(got[0] - field[0]) <= min(relative * field[0], 8 * np.finfo(float).eps)
    np.testing.assert_allclose(again.sos, sections.sos, rtol=0, atol=1e-15)


@given(st.floats(-0.99999, 0.99999))
def test_first_order_to_rows_and_back(coefficient):
    sections = allpass.first_order(coefficient)
    again = allpass.from_sos(sections.sos)
    assert again.v == 0
    np.testing.assert_allclose(again.u, sections.u, rtol=1e-10)
    np.testing.assert_allclose(again.m, sections.m, rtol=1e-10)


def test_rows_filter_as_the_sections_they_came_from():
    sections = allpass.second_order([0.99999, 0.99999, 0.9], [30.0, 95970.0, 30.0], FS)
    x, rest = float32_noise()[:20000], np.zeros((3, 2))
    once, again = (reference.lattice(s, x, rest)[0] for s in (sections, allpass.from_sos(sections.sos)))
    assert relative_rms(again, once) < 1e-12


FLOAT32_ROWS = {
    "lowpass": biquad.lowpass(30.0, 0.7, FS),
    "highpass": biquad.highpass(300.0, 0.7, FS),
    "bandpass": biquad.bandpass(30.0, 30.0, FS),
    "peak": biquad.bandpass(5000.0, 100.0, FS),
    "allpass": allpass.second_order(0.9999, 30.0, FS).sos[0],
    "allpass-high": allpass.second_order(0.99999, 15000.0, FS).sos[0],
    "near-nyquist": biquad.bandpass(95900.0, 30.0, FS),
}


@each_method
def test_sosfilt_is_no_worse_than_scipys(method):
    x = float32_noise()[:65536]
    rows = np.stack(list(FLOAT32_ROWS.values()))[:, None].astype(np.float32)
    y = iir.sosfilt(rows, x, method=method)
    for name, row, got in zip(FLOAT32_ROWS, rows, y, strict=True):
        expected = signal.sosfilt(row.astype(float), x.astype(float))
        assert relative_rms(got, expected) <= relative_rms(signal.sosfilt(row, x), expected), name
