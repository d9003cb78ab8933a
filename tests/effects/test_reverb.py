"""The reverb: decays and levels measured in its response, convolution against SciPy, and the preset."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from jaxapf.effects import reverb as fx
from jaxapf.effects.reverb import Controls
from jaxapf.params import OCTAVES_HZ

FALLING = np.array([1.6, 1.5, 1.4, 1.2, 1.0, 0.9, 0.8, 0.7])


def measured(h, fs, band, width=2 / 3):
    """Decay in s by Schroeder's integration between -5 and -35 dB, and the mean power of its spectrum in dB.

    Over so many octaves; the lowest and highest band have no neighbour on one side.
    """
    low, high = OCTAVES_HZ[band] * 2 ** (-width / 2), OCTAVES_HZ[band] * 2 ** (width / 2)
    edges, kind = ([low, high], "bandpass") if 0 < band < 7 else (high, "low") if band == 0 else (low, "high")
    sos = scipy.signal.butter(6, edges, kind, fs=fs, output="sos")
    # Backwards, so that the filter's own ringing is not taken for the room's.
    energy = np.cumsum(np.asarray(scipy.signal.sosfilt(sos, h[::-1])) ** 2)[::-1]
    decay = 10 * np.log10(energy / energy[0] + 1e-30)
    inside = (decay < -5) & (decay > -35)
    slope = np.polyfit(np.flatnonzero(inside) / fs, decay[inside], 1)[0]
    spectrum, hz = np.abs(np.fft.rfft(h)) ** 2, np.fft.rfftfreq(len(h), 1 / fs)
    return -60 / slope, 10 * np.log10(np.mean(spectrum[(hz > low) & (hz < high)]))


@pytest.mark.parametrize("fs", [44100, 48000])
@pytest.mark.parametrize("decays", [np.full(8, 1.0), np.full(8, 0.4), FALLING, FALLING[::-1]])
def test_decays_are_true(fs, decays):
    h = np.asarray(fx.response(Controls(decays, np.zeros(8)), 3 * fs, float(fs)), np.float64)
    # Where neighbours differ, only the middle of an octave is its own.
    width = 1.0 if np.ptp(decays) == 0 else 2 / 3
    found = [measured(h, fs, band, width)[0] for band in range(8)]
    np.testing.assert_allclose(found, decays, rtol=0.05)


def test_levels_are_true_and_the_same_at_every_sample_rate():
    levels = np.array([-6.0, 0.0, -3.0, 3.0, 0.0, -9.0, 0.0, 6.0])
    found = {}
    for fs in (44100, 48000):
        h = np.asarray(fx.response(Controls(FALLING, levels), 3 * fs, float(fs)), np.float64)
        found[fs] = np.array([measured(h, fs, band)[1] for band in range(8)])
    np.testing.assert_allclose(found[44100][2:], levels[2:], atol=1.0)  # of noise: the band's own scatter
    np.testing.assert_allclose(found[44100], found[48000], atol=0.15)


def test_the_response_is_the_same_at_every_sample_rate():
    """The spectra, phase and all, below where either ends."""
    spectra = []
    for fs in (44100, 48000):
        h = np.asarray(fx.response(Controls(FALLING, np.zeros(8)), 3 * fs, float(fs)), np.float64)
        spectra.append(np.fft.rfft(h)[300:15000])  # bins of a third of a Hz
    error = np.sum(np.abs(spectra[0] - spectra[1]) ** 2) / np.sum(np.abs(spectra[0]) ** 2)
    assert error < 1e-2


def test_convolution_is_scipy_s(x64):
    x = np.random.default_rng(0).standard_normal(700)
    c = Controls(np.full(8, 0.1), np.zeros(8), 5.0, -3.0, -2.0)
    h = np.asarray(fx.response(c, 900, 8e3, dtype=np.float64))
    y, state = fx.reverb(c, fx.initial_state(length=900, dtype=np.float64), x, 8e3)
    wet = np.append(scipy.signal.fftconvolve(x, h), 0.0)
    np.testing.assert_allclose(y, wet[:700] + 10 ** (-2 / 20) * x, atol=1e-12)
    np.testing.assert_allclose(state.tail, wet[700:], atol=1e-12)


def test_the_pre_delay_is_silence_and_moves_nothing_else():
    c = Controls(np.full(8, 0.3), np.zeros(8), 50.0)
    h = np.asarray(fx.response(c, 16000, 16e3), np.float64)
    assert np.all(h[:800] == 0.0)
    assert np.abs(h[810:1000]).max() > 0
    early = np.asarray(fx.response(c._replace(predelay_ms=0.0), 16000, 16e3), np.float64)
    assert np.sum(h**2) == pytest.approx(np.sum(early**2), rel=0.02)


def test_keys_give_responses_that_do_not_resemble_each_other():
    c = fx.room(0.5, 0.5, 1.0)
    one, other = np.asarray(fx.response(c, 16000, 16e3, key=jax.random.split(jax.random.key(1), 2)))
    assert abs(np.sum(one * other)) < 0.1 * np.sqrt(np.sum(one**2) * np.sum(other**2))
    x = jnp.ones((2, 400))  # longer than the silence before the response
    y, _ = fx.reverb(c, fx.initial_state(length=16000), x, 16e3, key=jax.random.split(jax.random.key(1), 2))
    assert y.shape == (2, 400)
    assert np.any(y[0] != y[1])


def test_larger_rooms_last_longer_and_values_out_of_range_are_refused():
    decays = [float(fx.room(size, 0.3, 0.7).decays_s[3]) for size in (0.1, 0.5, 1.0)]
    np.testing.assert_allclose(decays, [0.3, 1.5, 3.0], rtol=1e-6)
    assert float(fx.room(0.5, 0.5, 1.0).wet_db) == pytest.approx(-6.02, abs=0.01)
    slope = jax.jit(jax.grad(lambda room: jnp.sum(fx.response(fx.room(room, 0.3, 0.7), 500, 8e3) ** 2)))(0.4)
    assert np.isfinite(slope)
    for arguments, name in (((0.05, 0.5, 1.0), "room"), ((0.5, 0.9, 1.0), "wet"), ((0.5, 0.5, 0.2), "dry")):
        with pytest.raises(ValueError, match=f"{name} is .*expected from"):
            fx.room(*arguments)


def test_another_number_of_bands_is_refused():
    with pytest.raises(ValueError, match=r"decays_s has shape \(3,\); expected \(\.\.\., 8\)"):
        fx.reverb(Controls(np.ones(3), np.zeros(8)), fx.initial_state(length=10), jnp.ones(4), 8e3)


@pytest.mark.parametrize("fs", [44100, 192000])
def test_whole_length_holds_the_response(fs):
    """What is cut off at that length is 60 dB down: the longest decay and the silence before it fit."""
    controls = Controls(decays_s=[0.5] * 7 + [0.2], levels_db=[0.0] * 8, predelay_ms=30.0)
    assert 0.53 * fs <= fx.whole_length(controls, fs) < 2 * 0.53 * fs + 1
