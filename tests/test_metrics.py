"""Figures: against plain NumPy sums, and the phase-only bound against filters that try to beat it."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal
from signals import noise

from jaxapf import metrics

FS = 8000.0
SHAPES = [(1,), (7,), (3, 50), (2, 3, 11)]
seeds = st.integers(0, 10**6)
radii = st.lists(st.floats(0.0, 0.95), min_size=0, max_size=4)


def random_allpass(radius, seed):
    """Rows [c, d, 1, 1, d, c] from pole radii, angles at random: no design function of the package."""
    angle = np.random.default_rng(seed).uniform(0, np.pi, len(radius))
    c, d = np.square(radius), -2 * np.asarray(radius) * np.cos(angle)
    one = np.ones_like(c)
    return np.stack([c, d, one, one, d, c], axis=-1).reshape(-1, 6)


def filtered(sos, x):
    return np.asarray(signal.sosfilt(sos, x)) if len(sos) else x


def with_tail(x, n=2000):
    """Room for what a filter puts after the last sample; radius 0.95 has decayed by 0.95^2000 = 1e-45."""
    return np.concatenate([x, np.zeros((*x.shape[:-1], n))], axis=-1)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_figures_equal_sums_over_the_samples(shape, dtype):
    pred, target = noise(*shape, seed=1).astype(dtype), noise(*shape, seed=2).astype(dtype)
    pairs = [(float(p), float(t)) for p, t in zip(pred.ravel(), target.ravel(), strict=True)]
    squares = math.fsum((p - t) ** 2 for p, t in pairs)
    energy_p, energy_t = math.fsum(p * p for p, _ in pairs), math.fsum(t * t for _, t in pairs)
    assert metrics.esr(pred, target) == pytest.approx(squares / energy_t, rel=1e-12)
    assert metrics.mse(pred, target) == pytest.approx(squares / len(pairs), rel=1e-12)
    assert metrics.mae(pred, target) == pytest.approx(
        math.fsum(abs(p - t) for p, t in pairs) / len(pairs), rel=1e-12
    )
    inner = math.fsum(p * t for p, t in pairs)
    assert metrics.correlation(pred, target) == pytest.approx(
        inner / math.sqrt(energy_p * energy_t), abs=1e-12
    )


@given(seeds, st.floats(-3, 3), st.floats(0.01, 100))
def test_esr_of_a_gain_and_correlation_without_one(seed, gain, scale):
    x = noise(64, seed=seed)
    assert metrics.esr(gain * x, x) == pytest.approx((1 - gain) ** 2, abs=1e-12)
    assert metrics.esr(scale * gain * x, scale * x) == pytest.approx((1 - gain) ** 2, abs=1e-12)
    assert metrics.correlation(scale * x, -x) == pytest.approx(-1)


def test_float32_sums_keep_their_digits():
    # One large sample and a million small ones: float32 sums would lose the small.
    x = np.full(2**20, 1e-3, np.float32)
    x[0] = 1e3
    assert metrics.mse(x, np.zeros_like(x)) == pytest.approx(np.mean(x.astype(np.float64) ** 2), rel=1e-12)
    assert metrics.esr(np.zeros_like(x), x) == 1.0


def test_integers_do_not_overflow():
    pred, target = np.array([127, -128], np.int8), np.array([-128, 127], np.int8)
    assert metrics.mse(pred, target) == 255.0**2
    assert metrics.mae(pred, target) == 255.0
    assert metrics.esr(pred, target) == pytest.approx(2 * 255.0**2 / (127**2 + 128**2))
    assert metrics.correlation(pred, target) == pytest.approx(-2 * 127 * 128 / (127**2 + 128**2))


@pytest.mark.parametrize("bound", [False, True])
def test_silence(bound):
    ratio = (lambda p, t: metrics.phase_only_bound(p, t, FS)) if bound else metrics.esr
    x, silent = noise(9), np.zeros(9)
    assert ratio(silent, silent) == 0.0
    assert ratio(x, silent) == math.inf
    assert ratio(silent, x) == 1.0
    assert metrics.correlation(x, silent) == metrics.correlation(silent, silent) == 0.0


@pytest.mark.parametrize(
    "function",
    [
        metrics.esr,
        metrics.mse,
        metrics.mae,
        metrics.correlation,
        lambda p, t: metrics.phase_only_bound(p, t, FS),
    ],
)
@pytest.mark.parametrize(("a", "b"), [((3,), (4,)), ((2, 3), (3,)), ((), ()), ((0,), (0,))])
def test_shapes_that_do_not_fit(function, a, b):
    with pytest.raises(ValueError, match="expected equal shapes"):
        function(np.ones(a), np.ones(b))


def test_one_sample_segments_are_refused():
    with pytest.raises(ValueError, match="nperseg is 1"):
        metrics.phase_only_bound(noise(9), noise(9), FS, nperseg=1)


@given(radii, st.integers(0, 40), st.sampled_from([-1, 1]), seeds)
def test_no_allpass_beats_the_strict_bound(radius, delay, polarity, seed):
    """Unrelated signals, so that the bound is far from zero, and a filter that knows nothing of them."""
    dry, wet = with_tail(noise(2, 200, seed=seed)), with_tail(noise(2, 200, seed=seed + 1))
    pred = polarity * filtered(random_allpass(radius, seed), np.roll(dry, delay, axis=-1))
    bound = metrics.phase_only_bound(dry, wet, FS)
    assert 0 < bound < metrics.esr(pred, wet)


@given(radii, st.integers(0, 40), seeds)
def test_the_true_cascade_attains_the_strict_bound(radius, delay, seed):
    """Wet = all-pass of dry, then a zero-phase equaliser: its phase can be undone and nothing more."""
    dry = with_tail(np.pad(noise(200, seed=seed), (1, 0)))
    sos = random_allpass(radius, seed)
    moved = np.roll(filtered(sos, dry), delay)
    # [-1/4, 1, -1/4] has a real positive response: it changes magnitudes and no phase.
    wet = np.convolve(moved, [-0.25, 1.0, -0.25])[1:-1]
    bound = metrics.phase_only_bound(dry, wet, FS)
    assert bound == pytest.approx(metrics.esr(moved, wet), rel=1e-9)
    assert metrics.esr(dry, wet) >= bound * (1 - 1e-9)


@given(radii, seeds)
def test_what_is_cut_off_accounts_for_going_below_the_bound(radius, seed):
    """Cut to its length, an output may lose error with its tail, never more than that tail's energy."""
    n = 120
    dry, target = noise(n, seed=seed), noise(n, seed=seed + 1)
    sos = random_allpass([*radius, 0.9], seed)
    whole = filtered(sos, with_tail(dry))
    for wet in (target, whole[:n]):
        tail = np.sum(whole[n:] ** 2) / np.sum(wet**2)
        assert metrics.esr(whole[:n], wet) + tail >= metrics.phase_only_bound(dry, wet, FS) - 1e-12


@given(st.integers(-50, 50), st.sampled_from([-1, 1]), seeds)
def test_a_delay_costs_nothing(delay, polarity, seed):
    """Circular, with room at both ends: the strict bound sees a pure phase."""
    dry = np.pad(noise(2, 300, seed=seed), [(0, 0), (50, 50)])
    assert metrics.phase_only_bound(dry, polarity * np.roll(dry, delay, axis=-1), FS) < 1e-12


@given(st.floats(0.1, 3.0), seeds)
def test_a_gain_is_what_no_phase_can_repair(gain, seed):
    dry = noise(100, seed=seed)
    assert metrics.phase_only_bound(dry, gain * dry, FS) == pytest.approx((1 - 1 / gain) ** 2, abs=1e-12)


@given(seeds)
def test_one_filter_serves_all_channels(seed):
    """Channels that want opposite phases leave nothing to gain: the bound is that of silence."""
    x = noise(100, seed=seed)
    assert metrics.phase_only_bound(np.stack([x, x]), np.stack([x, -x]), FS) == pytest.approx(2.0, abs=1e-12)
    assert metrics.phase_only_bound(np.stack([x, x]), np.stack([x, x]), FS) < 1e-12


@given(st.integers(0, 100), seeds)
def test_smooth_phases_reach_no_further_than_any_phase(delay, seed):
    """The rougher the phase, the more a segment misses of it; the strict bound misses nothing."""
    dry = np.pad(noise(4096, seed=seed), 200)
    sos = random_allpass([0.97, 0.95], seed)
    wet = filtered(sos, np.roll(dry, delay))
    strict = metrics.phase_only_bound(dry, wet, FS)
    short, long = (metrics.phase_only_bound(dry, wet, FS, nperseg=n) for n in (256, 1024))
    assert strict <= long <= short


def test_segments_bound_equals_scipy_sums():
    dry, wet = noise(3, 2000, seed=1), noise(3, 2000, seed=2)
    sxx = syy = sxy = 0.0
    for x, y in zip(dry, wet, strict=True):
        window = signal.get_window("hann", 128)
        frames = [
            (np.fft.rfft(window * x[k : k + 128]), np.fft.rfft(window * y[k : k + 128]))
            for k in range(0, 2000 - 127, 64)
        ]
        twice = np.r_[1.0, np.full(63, 2.0), 1.0]  # the negative frequencies
        sxx = sxx + twice * sum(abs(a) ** 2 for a, _ in frames)
        syy = syy + twice * sum(abs(b) ** 2 for _, b in frames)
        sxy = sxy + twice * sum(np.conj(a) * b for a, b in frames)
    expected = 1 + np.sum(sxx - 2 * np.abs(sxy)) / np.sum(syy)
    assert metrics.phase_only_bound(dry, wet, FS, nperseg=128) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_levels_equal_sums_over_the_samples(shape, dtype):
    x = noise(*shape, seed=1).astype(dtype)
    samples = [float(value) for value in x.ravel()]
    peak = max(abs(value) for value in samples)
    square = math.fsum(value * value for value in samples) / len(samples)
    assert 10 ** (metrics.peak_db(x) / 20) == pytest.approx(peak, rel=1e-12)
    assert 10 ** (metrics.rms_db(x) / 10) == pytest.approx(square, rel=1e-12)


def test_levels_of_known_signals():
    sine = np.sin(2 * np.pi * np.arange(100) / 100)
    assert metrics.rms_db(sine) == pytest.approx(-10 * math.log10(2))
    assert metrics.peak_db(-sine / 10) == pytest.approx(-20)
    assert metrics.peak_db(np.array([-128, 1], np.int8)) == pytest.approx(20 * math.log10(128))
    assert metrics.rms_db(np.zeros(3)) == metrics.peak_db(np.zeros((2, 3))) == -math.inf


def tones(amplitudes, *, hz=440.3, n_samples=9000, seed=0):
    """Harmonics of a frequency that falls on no line of the spectrum, phases at random."""
    phase = np.random.default_rng(seed).uniform(0, 2 * np.pi, len(amplitudes))
    angle = 2 * np.pi * hz * np.arange(n_samples) / FS
    return sum(a * np.cos(k * angle + p) for k, (a, p) in enumerate(zip(amplitudes, phase, strict=True), 1))


@given(st.floats(0.002, 0.5), st.floats(0.0, 0.3), seeds)
def test_thd_n_of_a_sine_with_two_harmonics(second, third, seed):
    rest = second**2 + third**2
    found = metrics.thd_n(tones([1.0, second, third], seed=seed), FS)
    assert found == pytest.approx(math.sqrt(rest / (1 + rest)), rel=1e-3)


@given(st.floats(0.01, 0.3), st.floats(0.0, 0.3), seeds)
def test_thd_n_of_a_sine_with_a_harmonic_and_noise(sigma, second, seed):
    # What falls into the notch is lost: about 8 of the 4500 lines of the noise. Its power is as given
    # within a few times sqrt(2 / samples), the window taking part of the samples.
    x = tones([1.0, second], seed=seed) + sigma * noise(9000, seed=seed)
    rest = second**2 / 2 + sigma**2
    expected = math.sqrt(rest / (rest + 0.5))
    assert metrics.thd_n(x, FS, band_hz=(0.0, FS / 2)) == pytest.approx(expected, rel=0.06)


def test_thd_n_is_what_a_fitted_sine_leaves():
    """The sine taken out by least squares under the same window: no spectrum involved."""
    x = tones([0.5, 0.02, 0.01], hz=301.7) + 0.01 * noise(9000, seed=3)
    k = np.arange(9000)
    turns = np.cos(2 * np.pi * np.outer(range(4), k) / 9000)
    window = np.array([0.35875, -0.48829, 0.14128, -0.01168]) @ turns
    angle = 2 * np.pi * 301.7 * k / FS
    columns = window[:, None] * np.stack([np.cos(angle), np.sin(angle), np.ones_like(angle)], axis=-1)
    rest = window * x - columns @ np.linalg.lstsq(columns, window * x, rcond=None)[0]
    expected = math.sqrt(np.sum(rest**2) / np.sum((window * x) ** 2))
    assert metrics.thd_n(x, FS, band_hz=(0.0, FS / 2)) == pytest.approx(expected, rel=0.01)


@given(st.floats(1e-6, 1e6), st.floats(-1.0, 1.0), st.sampled_from([-1, 1]))
def test_thd_n_knows_no_gain_polarity_or_offset(gain, offset, sign):
    x = tones([0.5, 0.1])
    assert metrics.thd_n(sign * gain * (x + offset), FS) == pytest.approx(metrics.thd_n(x, FS), rel=1e-3)


def test_thd_n_within_a_band():
    x = tones([0.1, 1.0, 0.3], hz=500.0)  # 500, 1000 and 1500 Hz; the strongest is not the lowest
    inside = {(20, 4000): 0.1 / 1.1, (700, 4000): 0.09 / 1.09, (20, 1200): 0.01 / 1.01, (700, 1200): 0.0}
    for band_hz, power in inside.items():
        assert metrics.thd_n(x, FS, band_hz=band_hz) == pytest.approx(math.sqrt(power), rel=1e-3, abs=1e-4)


def test_thd_n_takes_channels_together():
    x, y = tones([1.0, 0.2]), tones([0.5, 0.4], seed=1)
    expected = math.sqrt((0.2**2 + 0.4**2) / (1 + 0.2**2 + 0.5**2 + 0.4**2))
    assert metrics.thd_n(np.stack([x, y]).astype(np.float32), FS) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("value", [0.0, 0.1, -3e9])
def test_thd_n_of_silence(value):
    assert metrics.thd_n(np.full(1000, value), FS) == 0.0


@pytest.mark.parametrize("function", [metrics.peak_db, metrics.rms_db, lambda x: metrics.thd_n(x, FS)])
@pytest.mark.parametrize("x", [1.0, np.zeros(0), np.zeros((2, 0))])
def test_a_signal_needs_samples(function, x):
    with pytest.raises(ValueError, match=r"x has shape .*; expected \(\.\.\., n_samples\), not empty"):
        function(x)


def test_thd_n_needs_a_line_in_the_band():
    with pytest.raises(
        ValueError, match=r"x has 100 samples at 8000 Hz, .* band_hz \(20.0, 70.0\); expected"
    ):
        metrics.thd_n(np.ones(100), FS, band_hz=(20.0, 70.0))


def test_a_segment_longer_than_the_signal():
    x = noise(50)
    assert metrics.phase_only_bound(x, -x, FS, nperseg=4096) < 1e-12
