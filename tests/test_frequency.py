"""Responses against SciPy, and frequency sampling against the exact filters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal
from signals import noise, relative_rms

from jaxapf import frequency
from jaxapf.filters import biquad, iir

SOS = np.array([[0.1, 0.2, 0.1, 1.0, -0.9, 0.4], [1.0, 0.5, 0.0, 1.0, 0.3, 0.0]])
GRID = np.linspace(0, 24000, 50)


def test_freqz_sos_is_scipys():
    expected = signal.sosfreqz(SOS, GRID, fs=48000)[1]
    np.testing.assert_allclose(frequency.freqz_sos(SOS, GRID, 48000), expected, atol=1e-14)


def test_freqz_sos_lives_where_its_arguments_live():
    on_numpy = frequency.freqz_sos(SOS, GRID, 48000)
    on_jax = jax.jit(frequency.freqz_sos, static_argnums=2)(jnp.asarray(SOS), GRID, 48000)
    assert isinstance(on_numpy, np.ndarray)
    assert on_numpy.dtype == np.complex128
    assert on_jax.dtype == jnp.complex64
    np.testing.assert_allclose(on_jax, on_numpy, atol=1e-6)


def test_freqz_sos_batches():
    rows = np.stack([SOS, SOS[::-1], 2 * SOS])
    response = frequency.freqz_sos(rows, GRID, 48000)
    assert response.shape == (3, 50)
    np.testing.assert_allclose(response[2], frequency.freqz_sos(SOS, GRID, 48000), rtol=1e-12)


def test_response_is_the_transform_of_the_impulse_response(x64):
    impulse = np.eye(1, 2048)[0]
    spectrum = jnp.fft.rfft(iir.sosfilt(SOS, impulse))
    np.testing.assert_allclose(spectrum, frequency.freqz_sos(SOS, np.arange(1025), 2048.0), atol=1e-12)


def log_response(sos, angles):
    """Magnitude and phase of the whole cascade by adding logarithms, in extended precision."""
    z = np.exp(-1j * angles.astype(np.clongdouble))
    powers = np.stack([np.ones_like(z), z, z**2])
    log_gain, phase = np.zeros(len(angles), np.longdouble), np.zeros(len(angles), np.longdouble)
    for row in np.asarray(sos, np.longdouble):
        numerator, denominator = row[:3] @ powers, row[3:] @ powers
        log_gain += np.log(np.abs(numerator)) - np.log(np.abs(denominator))
        phase += np.angle(numerator) - np.angle(denominator)
    return np.exp(log_gain) * np.exp(1j * phase)


@pytest.mark.parametrize("backend", ["numpy", "jax"])
@pytest.mark.parametrize("gain", [1e3, 1e-3])
def test_response_of_a_long_cascade(backend, gain):
    # 100 sections with a gain of 1000, then 100 that undo it: 10^300 on the way, too much for float32; with a
    # gain of 10^9 too much for float64.
    rows = np.tile(SOS, (100, 1))
    scale = np.where(np.arange(200) < 100, gain, 1 / gain)
    rows[1::2] = np.array([1.0, 0.4, 0.0, 1.0, 0.35, 0.0])
    rows[0::2] = np.array([0.9, 0.2, 0.1, 1.0, 0.3, 0.1])
    rows[:, :3] *= scale[:, None]
    grid = np.linspace(0, 24000, 33)
    expected = log_response(rows, np.pi * grid / 24000)
    if backend == "numpy":
        np.testing.assert_allclose(frequency.freqz_sos(rows, grid, 48000), expected, rtol=1e-11)
        huge = rows.copy()
        huge[:, :3] *= scale[:, None] ** 2
        np.testing.assert_allclose(frequency.freqz_sos(huge, grid, 48000), expected, rtol=1e-11)
    else:
        got = jax.jit(frequency.freqz_sos, static_argnums=2)(jnp.asarray(rows, jnp.float32), grid, 48000)
        np.testing.assert_allclose(got, expected.astype(np.complex128), rtol=1e-3)


def test_gradient_of_a_long_cascades_response():
    rows = np.tile([1e3, 200.0, 0.0, 1.0, 0.3, 0.1], (200, 1)).astype(np.float32)
    rows[100:, :3] *= np.float32(1e-6)
    grid = np.linspace(100, 23000, 5)

    def log_gain(rows):
        return jnp.sum(jnp.log(jnp.abs(frequency.freqz_sos(rows, grid, 48000.0))))

    gradient = jax.jit(jax.grad(log_gain))(jnp.asarray(rows))
    assert np.all(np.isfinite(gradient))
    # By b0 of one section: the mean of its own slope, whatever the others are.
    z = np.exp(-1j * np.pi * grid / 24000)
    for row in (0, 150):
        slope = np.sum((1 / (rows[row, :3].astype(float) @ [np.ones(5), z, z**2])).real)
        np.testing.assert_allclose(gradient[row, 0], slope, rtol=1e-3)


def test_float32_response_of_a_slow_filter():
    row = biquad.lowpass(30.0, 0.7, 192000.0).astype(np.float32)
    grid = np.geomspace(1, 90000, 100)
    expected = frequency.freqz_sos(row.astype(np.float64), grid, 192000.0)
    got = frequency.freqz_sos(jnp.asarray(row), grid, 192000.0)
    np.testing.assert_allclose(np.abs(got), np.abs(expected), rtol=1e-3)


def test_sosfilt_fsm_pads_past_the_tail(x64):
    x = noise(3, 200)
    assert relative_rms(frequency.sosfilt_fsm(SOS, x), signal.sosfilt(SOS, x)) < 1e-9
    slow = np.array([[1.0, 0.0, 0.0, 1.0, -1.99, 0.9902]])
    assert relative_rms(frequency.sosfilt_fsm(slow, x), signal.sosfilt(slow, x)) < 1e-7


def test_sosfilt_fsm_wraps_when_told_to(x64):
    # Half the padding: the tail comes back at the start, as circular filtering would have it.
    slow = np.array([[1.0, 0.0, 0.0, 1.0, -0.99, 0.0]])
    x = np.ones(100)
    wrapped = frequency.sosfilt_fsm(slow, x, n_fft=100)
    np.testing.assert_allclose(wrapped, np.full(100, 100.0), rtol=1e-9)


def test_lfilter_fsm(x64):
    b, a = np.array([1.0, -0.5, 0.25, 0.1]), np.array([2.0, -1.0])
    x = noise(2, 50)
    assert relative_rms(frequency.lfilter_fsm(b, a, x), signal.lfilter(b, a, x)) < 1e-7
    assert relative_rms(frequency.lfilter_fsm(b, a, x[:, :2]), signal.lfilter(b, a, x[:, :2])) < 1e-7


def test_batched_sections_broadcast(x64):
    rows = np.stack([SOS, SOS[::-1] * np.array([1, 1, 1, 1, -1, 1])])
    x = noise(50)
    y = frequency.sosfilt_fsm(rows, x)
    for i in range(2):
        assert relative_rms(y[i], signal.sosfilt(rows[i], x)) < 1e-8


def test_a_lonely_sample():
    assert frequency.sosfilt_fsm(SOS, np.ones(1, np.float32))[0] == pytest.approx(0.1)
    assert frequency.sosfilt_fsm(SOS, np.ones(0, np.float32)).shape == (0,)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: frequency.freqz_sos(SOS[:, :4], GRID, 48000), ValueError, "sos has shape"),
        (lambda: frequency.sosfilt_fsm(SOS, np.ones(9), n_fft=8), ValueError, "n_fft is 8"),
        (lambda: frequency.sosfilt_fsm([1, 0, 0, 1, -1, 0], np.ones(9)), ValueError, "pole has radius 1"),
        (
            lambda: frequency.sosfilt_fsm([1, 0, 0, 1, -1 + 1e-9, 0], np.ones(9)),
            ValueError,
            "too long to pad",
        ),
        (lambda: frequency.sosfilt_fsm(SOS, np.ones(9, complex)), TypeError, "x is complex"),
    ],
)
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_lengths_of_transforms_and_tails():
    assert frequency.padded_length(1000, 500) == 1500
    assert frequency.tail_samples(0.5) == 27
