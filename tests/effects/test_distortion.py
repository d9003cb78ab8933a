"""The distortion against its formula at a high rate, its aliasing and its passband, measured."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from signals import slow

from jaxapf.effects import distortion as fx
from jaxapf.effects.distortion import Controls

FS = 44100.0


def driven_sine(drive_db, oversampling, dtype: Any = np.float64):
    """Spectrum of one second of a 5 kHz sine, after the beginning: bins of 1 Hz."""
    x = np.sin(2 * np.pi * 5000 * np.arange(46100) / FS).astype(dtype)
    rest = fx.initial_state(oversampling=oversampling, dtype=dtype)
    y, _ = fx.distortion(Controls(drive_db, 0.2), rest, x, FS)
    return np.abs(np.fft.rfft(np.asarray(y[2000:], np.float64)))


def aliasing_db(spectrum):
    """How far the largest component that is no harmonic is below the sum of the harmonics, to 20 kHz."""
    hz = np.arange(20001)
    harmonics = spectrum[5000:20001:5000]
    others = spectrum[:20001][(hz % 5000 != 0) & (hz > 20)]
    return -20 * np.log10(others.max() / np.sqrt(np.sum(harmonics**2)))


@pytest.mark.parametrize(
    ("drive_db", "figures"),
    [
        (12.0, {1: 19.5, 2: 53.7, 4: 110.0}),
        (24.0, {1: 14.8, 2: 27.1, 4: 43.7, 8: 75.4, 16: 110.0}),
        (48.0, {1: 14.4, 4: 30.9, 16: 44.4}),
    ],
)
def test_what_folds_back_is_what_the_docstring_says(x64, drive_db, figures):
    for oversampling, expected in figures.items():
        assert aliasing_db(driven_sine(drive_db, oversampling)) == pytest.approx(expected, abs=0.5)


def test_what_folds_back_in_float32():
    assert aliasing_db(driven_sine(24.0, 8, np.float32)) == pytest.approx(75.4, abs=0.5)


def test_latency_is_that_of_the_resamplers():
    assert (fx.latency(), fx.latency(1)) == (64, 0)


@pytest.mark.parametrize("oversampling", [2, 4, slow(7), slow(16)])
def test_the_resamplers_are_flat_and_dry_is_in_time(x64, oversampling):
    x = np.zeros(600)
    x[200] = 1e-6  # so soft that tanh is a line
    y, _ = fx.distortion(Controls(0.0), fx.initial_state(oversampling=oversampling, dtype=float), x, FS)
    response = 20 * np.log10(np.abs(np.fft.rfft(np.asarray(y) * 1e6, 8192)))
    hz = np.fft.rfftfreq(8192, 1 / FS)
    assert np.max(np.abs(response[hz <= 20e3])) < 1e-3
    assert hz[np.argmax(response < -3)] == pytest.approx(21.4e3, abs=60)
    assert int(np.argmax(y)) == 200 + fx.latency(oversampling)
    np.testing.assert_allclose(y[264 - 60 : 264], y[265 : 265 + 60][::-1], atol=1e-15)  # linear phase
    dry, _ = fx.distortion(
        Controls(20.0, mix=0.0), fx.initial_state(oversampling=oversampling, dtype=float), x, FS
    )
    np.testing.assert_array_equal(dry[fx.latency(oversampling) :], x[: -fx.latency(oversampling)])


def test_it_is_the_curve_at_sixteen_times_the_rate(x64):
    """Against SciPy's resampling of the whole, where the signal has nothing near half the sample rate."""
    n = 2048
    t = np.arange(n)
    x = np.hanning(n) * (0.5 * np.sin(0.2 * t) + 0.3 * np.sin(0.5 * t + 1))
    fine = np.asarray(scipy.signal.resample(x, 16 * n))
    shaped = np.tanh(10 ** (12 / 20) * fine + 0.3) - np.tanh(0.3)
    spectrum = np.fft.rfft(shaped) / 16
    expected = np.fft.irfft(spectrum[: n // 2 + 1], n)
    padded = np.concatenate([x, np.zeros(fx.latency())])
    y, _ = fx.distortion(Controls(12.0, 0.3), fx.initial_state(dtype=float), padded, FS)
    below = np.abs(np.fft.rfft(np.asarray(y)[fx.latency() :] - expected))[: int(0.9 * n / 2)]
    assert np.max(below) < 2e-4 * np.max(np.abs(np.fft.rfft(expected)))


def test_silence_stays_silent_and_one_is_the_formula(x64):
    c = Controls(18.0, 0.7, 0.6, -3.0)
    y, _ = fx.distortion(c, fx.initial_state(), jnp.zeros(300), FS)
    np.testing.assert_array_equal(y, 0.0)
    x = np.linspace(-1, 1, 101)
    y, _ = fx.distortion(c, fx.initial_state(oversampling=1, dtype=float), x, FS)
    wet = 10 ** (-3 / 20) * (np.tanh(10 ** (18 / 20) * x + 0.7) - np.tanh(0.7))
    np.testing.assert_allclose(y, 0.6 * wet + 0.4 * x, atol=1e-14)


def test_only_an_offset_makes_even_harmonics(x64):
    x = np.sin(2 * np.pi * 500 * np.arange(8000) / 8000.0)
    for offset, least, most in ((0.0, 0.0, 1e-9), (0.5, 1e-2, 1.0)):
        y, _ = fx.distortion(Controls(12.0, offset), fx.initial_state(oversampling=1, dtype=float), x, 8000.0)
        second = np.abs(np.fft.rfft(np.asarray(y)))[[500, 1000]]
        assert least <= second[1] / second[0] <= most


@pytest.mark.parametrize("oversampling", [0, 17, 2.5])
def test_oversampling_out_of_its_range_is_refused(oversampling):
    with pytest.raises(ValueError, match="oversampling is"):
        fx.initial_state(oversampling=oversampling)
