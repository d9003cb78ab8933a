"""The cookbook's designs: their promises at DC, at the corner and at half the sample rate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxapf import frequency
from jaxapf.filters import biquad

FS = 48000.0
cutoffs = st.floats(10.0, 23000.0)
qs = st.floats(0.1, 30.0)
gains = st.floats(-24.0, 24.0)


def gains_at(row, *freqs_hz):
    return np.abs(frequency.freqz_sos(row, np.array(freqs_hz), FS))


@given(cutoffs, qs, gains)
def test_gains_at_the_three_points(cutoff_hz, q, gain_db):
    at = 0.0, cutoff_hz, FS / 2
    gain = 10 ** (gain_db / 20)
    for row, expected in (
        (biquad.lowpass(cutoff_hz, q, FS), (1, q, 0)),
        (biquad.highpass(cutoff_hz, q, FS), (0, q, 1)),
        (biquad.bandpass(cutoff_hz, q, FS), (0, 1, 0)),
        (biquad.notch(cutoff_hz, q, FS), (1, 0, 1)),
        (biquad.allpass(cutoff_hz, q, FS), (1, 1, 1)),
        (biquad.peak(cutoff_hz, q, gain_db, FS), (1, gain, 1)),
        (biquad.lowshelf(cutoff_hz, q, gain_db, FS), (gain, None, 1)),
        (biquad.highshelf(cutoff_hz, q, gain_db, FS), (1, None, gain)),
    ):
        assert row[3] == 1
        for got, wanted in zip(gains_at(row, *at), expected, strict=True):
            assert wanted is None or got == pytest.approx(wanted, rel=1e-6, abs=1e-7)


@given(cutoffs, gains)
def test_shelves_meet_in_the_middle(cutoff_hz, gain_db):
    # With q = 1 / sqrt(2) the gain at the corner is half of the shelf's, in dB.
    q, half = np.sqrt(0.5), 10 ** (gain_db / 40)
    for design in (biquad.lowshelf, biquad.highshelf):
        assert gains_at(design(cutoff_hz, q, gain_db, FS), cutoff_hz)[0] == pytest.approx(half, rel=1e-6)


@given(cutoffs, qs, gains)
def test_cut_undoes_boost(cutoff_hz, q, gain_db):
    for design in (biquad.peak, biquad.lowshelf, biquad.highshelf):
        boost, cut = design(cutoff_hz, q, gain_db, FS), design(cutoff_hz, q, -gain_db, FS)
        response = frequency.freqz_sos(np.stack([boost, cut]), np.linspace(0, FS / 2, 9), FS)
        np.testing.assert_allclose(response, 1, rtol=1e-6, atol=1e-6)


def test_bandwidth_is_cutoff_over_q():
    # Analog widths, before the bilinear transform bends them: narrow and low, they agree.
    row = biquad.bandpass(1000.0, 20.0, FS)
    low, high = 1000.0 * (np.sqrt(1 + 1 / 1600) + np.array([-1, 1]) / 40)
    np.testing.assert_allclose(gains_at(row, low, high), np.sqrt(0.5), rtol=2e-3)


def test_allpass_turns_by_half_a_circle_at_the_corner():
    response = frequency.freqz_sos(biquad.allpass(700.0, 2.0, FS), np.array([700.0]), FS)
    np.testing.assert_allclose(response, [-1], atol=1e-12)


def test_arrays_broadcast():
    rows = biquad.peak(np.array([100.0, 1000.0])[:, None], 0.7, np.array([-3.0, 0.0, 3.0]), FS)
    assert rows.shape == (2, 3, 6)
    np.testing.assert_allclose(rows[1, 2], biquad.peak(1000.0, 0.7, 3.0, FS))


def test_float32_keeps_low_frequencies():
    # The sum of b is the gain at DC times the sum of a: 1 - cos w would be rounded away here.
    row = biquad.lowpass(jnp.float32(20.0), 0.7, 192000.0)
    assert row.dtype == jnp.float32
    assert np.sum(np.asarray(row[:3], np.float64)) == pytest.approx(
        np.sum(biquad.lowpass(20.0, 0.7, 192000.0)[:3]), rel=1e-5
    )


@pytest.mark.parametrize("design", [biquad.peak, biquad.lowshelf, biquad.highshelf])
def test_gradients_match_differences(x64, design):
    point = np.array([900.0, 0.8, 5.0])

    @jax.jit
    def middle(controls):
        rows = design(controls[0], controls[1], controls[2], FS)
        return jnp.sum(rows * jnp.arange(1.0, 7.0))

    gradient = jax.jit(jax.grad(middle))(jnp.asarray(point))
    for i in range(3):
        step = np.zeros(3)
        step[i] = 1e-5 * point[i]
        slope = (middle(jnp.asarray(point + step)) - middle(jnp.asarray(point - step))) / (2 * step[i])
        assert gradient[i] == pytest.approx(float(slope), rel=1e-6)
        assert gradient[i] != 0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: biquad.lowpass(24000.0, 0.7, FS), "cutoff_hz is 24000; expected in"),
        (lambda: biquad.notch([100.0, -5.0], 0.7, FS), "cutoff_hz is -5"),
        (lambda: biquad.peak(100.0, 0.0, 3.0, FS), "q is 0"),
    ],
)
def test_errors(call, words):
    with pytest.raises(ValueError, match=words):
        call()
