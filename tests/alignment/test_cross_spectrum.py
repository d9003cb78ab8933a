"""The cross-spectrum and what is read off it: against NumPy's correlations and signals of known delay."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal
from scipy.signal import windows
from signals import noise

from jaxapf import audio
from jaxapf.alignment import cross_spectrum

FS = 16000
MAX_DELAY = 64
seeds = st.integers(0, 10**6)


def band_noise(n, seed=0, high_hz=2000.0):
    """Noise without the top of the band, so that its correlation has a broad peak; silent at both ends."""
    taps = signal.firwin(129, high_hz, fs=FS)
    core = signal.fftconvolve(noise(n - 400, seed=seed), taps, mode="same")
    return np.pad(core * windows.tukey(n - 400, 0.1), 200)


def shifted(x, delay):
    """Fractional delay by a phase ramp; the silent ends make it a plain shift."""
    omega = 2 * np.pi * np.fft.rfftfreq(x.shape[-1])
    ramp = np.exp(-1j * omega * delay)
    return np.fft.irfft(np.fft.rfft(x) * ramp, x.shape[-1])


def allpass_rows(cutoff_hz, q):
    """Cookbook all-pass of one section, as printed there."""
    w = 2 * np.pi * cutoff_hz / FS
    alpha = np.sin(w) / (2 * q)
    a = np.array([1 + alpha, -2 * np.cos(w), 1 - alpha])
    return np.concatenate([a[::-1], a])[None] / a[0]


def drum_hit(seed=0, n=FS // 2):
    """A decaying resonance and a burst of noise: no constant level, silent before."""
    t = np.arange(n) / FS
    body = np.sin(2 * np.pi * 180 * t) * np.exp(-t / 0.05) + 0.5 * noise(n, seed=seed) * np.exp(-t / 0.01)
    return np.pad(body, 200)


# measure


@given(st.integers(1, 60), st.integers(1, 3), seeds)
def test_inverse_transform_is_the_correlation_at_all_lags(n, channels, seed):
    dry, wet = noise(channels, n, seed=seed), noise(channels, n, seed=seed + 1)
    measured = cross_spectrum.measure(dry, wet, FS, 0)
    expected = sum(np.correlate(y, x, "full") for x, y in zip(dry, wet, strict=True))
    got = cross_spectrum.cross_correlation(measured, n - 1)
    assert np.allclose(got, expected, rtol=0, atol=1e-12 * n)


@given(st.integers(1, 60), st.integers(0, 59), seeds)
def test_energies_and_sizes(n, max_delay, seed):
    dry, wet = noise(2, n, seed=seed), noise(2, n, seed=seed + 1)
    measured = cross_spectrum.measure(dry, wet, FS, max_delay)
    assert measured.dry_energy == pytest.approx(np.sum(dry**2))
    assert measured.wet_energy == pytest.approx(np.sum(wet**2))
    assert measured.n_samples == n
    assert measured.n_fft >= 2 * n  # no lag wraps around
    assert len(measured.cross) == len(measured.dry_power) == len(measured.freqs_hz) == measured.n_fft // 2 + 1
    # Parseval: dry_power is |X|^2 of the same transform.
    twice = np.full(len(measured.cross), 2.0)
    twice[0] = 1
    if measured.n_fft % 2 == 0:
        twice[-1] = 1
    assert twice @ measured.dry_power / measured.n_fft == pytest.approx(measured.dry_energy)
    # The largest correlation is that of the filter that turns every bin real.
    assert measured.max_correlation == pytest.approx(twice @ np.abs(measured.cross) / measured.n_fft)
    assert np.max(np.abs(cross_spectrum.cross_correlation(measured, n - 1))) <= measured.max_correlation * (
        1 + 1e-9
    )


def test_leading_axes_are_summed_and_float32_is_close():
    dry, wet = noise(2, 3, 500, seed=1), noise(2, 3, 500, seed=2)
    whole = cross_spectrum.measure(dry, wet, FS, 10)
    parts = [cross_spectrum.measure(dry[i, j], wet[i, j], FS, 10) for i in range(2) for j in range(3)]
    assert np.allclose(whole.cross, sum(p.cross for p in parts))
    assert np.allclose(whole.dry_power, sum(p.dry_power for p in parts))
    single = cross_spectrum.measure(dry.astype(np.float32), wet.astype(np.float32), FS, 10)
    assert single.cross.dtype == np.complex64
    assert np.max(np.abs(single.cross - whole.cross)) < 1e-5 * np.max(np.abs(whole.cross))


def test_cross_correlation_at_lag_zero_alone():
    dry, wet = noise(50, seed=1), noise(50, seed=2)
    assert cross_spectrum.cross_correlation(cross_spectrum.measure(dry, wet, FS, 0), 0) == pytest.approx(
        [dry @ wet]
    )


def test_phase_transform_of_a_delay_is_an_impulse():
    x = noise(4000, seed=3)
    coloured = np.pad(signal.lfilter([1.0], [1.0, -0.8], x), 200)
    measured = cross_spectrum.measure(coloured, np.roll(coloured, 7), FS, MAX_DELAY)
    plain, white = (
        cross_spectrum.cross_correlation(measured, MAX_DELAY, w, (0.0, np.inf)) for w in (0.0, 1.0)
    )
    assert np.argmax(white) == np.argmax(plain) == MAX_DELAY + 7
    white, plain = (abs(v) / v[MAX_DELAY + 7] for v in (white, plain))
    assert plain[MAX_DELAY + 8] > 0.7  # the colour of the signal smears the peak ...
    assert np.delete(white, MAX_DELAY + 7).max() < 0.1  # ... and whitening takes the colour out


# log_bins


@given(st.integers(2, 3000), st.floats(0.5, 60), st.floats(-20, 20), seeds)
def test_bins_hold_all_of_the_band_once(n, per_octave, delay, seed):
    measured = cross_spectrum.measure(noise(n, seed=seed), noise(n, seed=seed + 1), FS, 0)
    bins = cross_spectrum.log_bins(measured, per_octave, delay)
    freqs = measured.freqs_hz
    band = (freqs >= cross_spectrum.LOWEST_HZ) & (freqs > 0)
    lowest = np.flatnonzero(band)[0]
    inside = slice(lowest, max(lowest + 1, int(0.49 * FS / (FS / measured.n_fft))))
    assert np.sum(bins.total) == pytest.approx(np.sum(np.abs(measured.cross[inside])))
    assert np.sum(bins.dry) == pytest.approx(np.sum(measured.dry_power[inside]))
    assert np.all(np.diff(bins.omega) > 0)
    assert np.all((bins.omega > 0) & (bins.omega < np.pi))
    assert np.all(np.abs(bins.cross) <= bins.total * (1 + 1e-12))


def test_bins_narrower_than_a_line_are_the_lines():
    measured = cross_spectrum.measure(noise(256, seed=1), noise(256, seed=2), FS, 0)
    bins = cross_spectrum.log_bins(measured, 1e6, 3.3)
    first = int(np.ceil(cross_spectrum.LOWEST_HZ * measured.n_fft / FS))
    lines = measured.cross[first : first + len(bins.cross)]
    assert np.allclose(bins.cross, lines)
    assert np.allclose(bins.omega, 2 * np.pi * np.arange(first, first + len(lines)) / measured.n_fft)


def test_taking_the_delay_out_keeps_wide_bins_coherent():
    x = np.pad(noise(4000, seed=5), 100)
    measured = cross_spectrum.measure(x, np.roll(x, 50), FS, MAX_DELAY)
    kept, lost = (cross_spectrum.log_bins(measured, 3, delay) for delay in (50.0, 0.0))
    assert np.allclose(np.abs(kept.cross), kept.total)
    assert np.abs(lost.cross[-1]) < 0.1 * lost.total[-1]
    # The phase put back is that of the delay at the bin's centre.
    assert np.allclose(np.exp(1j * np.angle(kept.cross)), np.exp(-50j * kept.omega))


# best_delay and delay_candidates


@given(st.floats(-MAX_DELAY + 1, MAX_DELAY - 1), st.sampled_from([-1, 1]), seeds)
def test_best_delay_is_the_delay(delay, polarity, seed):
    dry = band_noise(4000, seed=seed)
    measured = cross_spectrum.measure(dry, polarity * shifted(dry, delay), FS, MAX_DELAY)
    got, sign = cross_spectrum.best_delay(measured, MAX_DELAY)
    assert sign == polarity
    # A parabola through sin(a t) / (a t), a = pi / 4 (the band ends at fs / 8), is off by
    # d (1 - 4 d^2) a^2 / 20 < 0.006 at a fraction d; three times that for a spectrum that is not flat.
    assert got == pytest.approx(delay, abs=0.02)


@given(st.integers(-MAX_DELAY, MAX_DELAY), st.sampled_from([-1, 1]), seeds)
def test_best_delay_of_whole_samples(delay, polarity, seed):
    dry = np.pad(noise(3000, seed=seed), 100)
    measured = cross_spectrum.measure(dry, polarity * np.roll(dry, delay), FS, MAX_DELAY)
    lags = np.correlate(np.roll(dry, delay), dry, "full")[len(dry) - 1 - MAX_DELAY : len(dry) + MAX_DELAY]
    assert np.argmax(np.abs(lags)) == delay + MAX_DELAY
    got, sign = cross_spectrum.best_delay(measured, MAX_DELAY)
    assert sign == polarity
    assert abs(got) <= MAX_DELAY
    assert got == pytest.approx(delay, abs=0.1)  # white noise beside the peak: 3000 samples, 1 / sqrt(3000)


@pytest.mark.parametrize("max_delay", [0, 1, 5])
def test_best_delay_stays_within_its_limit(max_delay):
    dry = band_noise(2000)
    measured = cross_spectrum.measure(dry, shifted(dry, 9.5), FS, max_delay)
    delay, polarity = cross_spectrum.best_delay(measured, max_delay)
    assert abs(delay) <= max_delay
    assert polarity in (-1, 1)


def test_best_delay_of_silence():
    measured = cross_spectrum.measure(np.zeros(100), np.zeros(100), FS, 10)
    delay, polarity = cross_spectrum.best_delay(measured, 10)
    assert np.isfinite(delay)
    assert polarity in (-1, 1)


@pytest.mark.parametrize("latency", [-20, 0, 37])
@pytest.mark.parametrize("polarity", [-1, 1])
@pytest.mark.parametrize("source", ["noise", "drum", "sweep"])
def test_candidates_hold_the_latency_that_group_delay_hides(latency, polarity, source):
    dry = {
        "noise": np.pad(noise(8000, seed=4), 200),
        "drum": drum_hit(),
        "sweep": np.pad(audio.log_sweep(0.5, FS, high_hz=7800.0), 200),
    }[source]
    rows = np.concatenate([allpass_rows(80.0, 0.7), allpass_rows(250.0, 1.5)])
    wet = polarity * np.roll(signal.sosfilt(rows, dry), latency)
    candidates = cross_spectrum.delay_candidates(cross_spectrum.measure(dry, wet, FS, 320), 320)
    assert min(abs(c - latency) for c in candidates) <= 1
    assert all(abs(c) <= 320 for c in candidates)


def test_the_plain_peak_alone_is_misled():
    """Why there are candidates: with the energy where the phase turns, the plain peak is no latency."""
    dry = band_noise(8000, seed=6, high_hz=400.0) + 0.02 * np.pad(noise(7600, seed=7), 200)
    wet = np.roll(signal.sosfilt(np.repeat(allpass_rows(150.0, 0.7), 3, axis=0), dry), 12)
    measured = cross_spectrum.measure(dry, wet, FS, 320)
    assert abs(cross_spectrum.best_delay(measured, 320)[0] - 12) > 5
    assert abs(cross_spectrum.delay_candidates(measured, 320)[0] - 12) <= 1


@given(st.integers(2, 40), seeds)
def test_candidates_of_anything(n, seed):
    dry, wet = noise(n, seed=seed), noise(n, seed=seed + 1)
    candidates = cross_spectrum.delay_candidates(cross_spectrum.measure(dry, wet, FS, n - 1), n - 1)
    assert len(candidates) >= 1
    assert all(np.isfinite(c) and abs(c) <= n - 1 for c in candidates)


# is_test_signal


def is_test_signal(x):
    return cross_spectrum.is_test_signal(x, cross_spectrum.measure(x, x, FS, 0))


@pytest.mark.parametrize("duration_s", [0.5, 2.0])
@pytest.mark.parametrize("amplitude", [1e-3, 1.0])
def test_sweeps_and_sequences_are_measurements(duration_s, amplitude):
    assert is_test_signal(audio.log_sweep(duration_s, FS, high_hz=7800.0, amplitude=amplitude))
    bits = signal.max_len_seq(12)[0]
    assert is_test_signal(amplitude * (2.0 * bits - 1))


def test_noise_drums_and_tones_are_not():
    assert not is_test_signal(noise(8000))
    assert not is_test_signal(drum_hit())
    assert not is_test_signal(np.sin(2 * np.pi * 440 * np.arange(8000) / FS))
    music = np.tile(drum_hit(), 3) + 0.3 * np.sin(2 * np.pi * 110 * np.arange(3 * len(drum_hit())) / FS)
    assert not is_test_signal(music)


# bin_weights


@given(st.integers(2, 2000), st.floats(0, 1), st.floats(1, 50), seeds)
def test_weights_are_positive_and_share_out_one(n, share, per_octave, seed):
    measured = cross_spectrum.measure(noise(n, seed=seed), noise(n, seed=seed + 1), FS, 0)
    bins = cross_spectrum.log_bins(measured, per_octave)
    weight = cross_spectrum.bin_weights(bins, FS, share)
    assert weight.shape == bins.cross.shape
    assert np.all(np.isfinite(weight))
    assert np.all(weight >= 0)
    assert np.all(weight > 0) or share == 1  # only the music-like part can drop an incoherent band
    assert np.sum(weight * np.abs(bins.cross)) == pytest.approx(1)


def test_weights_without_a_share_of_music_are_equal():
    measured = cross_spectrum.measure(noise(500, seed=1), noise(500, seed=2), FS, 0)
    weight = cross_spectrum.bin_weights(cross_spectrum.log_bins(measured, 12), FS, 0.0)
    assert np.allclose(weight, weight[0])


def test_music_weights_do_not_depend_on_the_colour_of_the_dry_signal():
    """What counts in a band is its share of music, whatever material the path was measured with."""
    x = noise(FS, seed=8)

    def shares(dry):
        wet = np.asarray(signal.sosfilt(allpass_rows(300.0, 0.7), dry))
        bins = cross_spectrum.log_bins(cross_spectrum.measure(dry, wet, FS, 0), 12)
        octave = np.floor(np.log2(bins.omega / bins.omega[0])).astype(int)
        return np.bincount(octave, cross_spectrum.bin_weights(bins, FS, 1.0) * np.abs(bins.cross))

    white, pink = shares(x), shares(signal.lfilter([1.0], [1.0, -0.8], x))
    # Octaves of few lines (n lines scatter by 1 / sqrt(n)) are left out: the lowest two.
    assert np.allclose(white[2:], pink[2:], rtol=0.1)
    assert 1 <= np.argmax(white) <= 4  # most between 20 and 320 Hz, where music has most


def test_weights_of_silence_are_finite():
    bins = cross_spectrum.log_bins(cross_spectrum.measure(np.zeros(100), np.zeros(100), FS, 0), 12)
    assert np.array_equal(cross_spectrum.bin_weights(bins, FS, 0.3), np.ones(len(bins.omega)))
