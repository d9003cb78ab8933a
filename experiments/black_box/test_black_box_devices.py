"""The embedded devices against their formulas, and the music against what it is said to be."""

import numpy as np
import pytest
from scipy import signal

import jaxapf
from experiments.black_box import devices
from jaxapf import allpass, audio, datasets, metrics

pytestmark = pytest.mark.slow

FS = 192_000
NAMES = ("coupling", "crossover", "tape")
FREQS_HZ = np.array([15.0, 25, 45, 60, 80, 100, 200, 632, 1000, 2000, 4000])


def high_pass(f, cutoff_hz):
    return 1 / (1 - 1j * cutoff_hz / f)


def linkwitz_riley(f, cutoff_hz):
    """Low and high band, from the definition: two Butterworth filters of second order in a row."""
    s = 1j * f / cutoff_hz
    once = 1 / (s**2 + np.sqrt(2) * s + 1)
    return once**2, (s**2 * once) ** 2


def crossover(f):
    low, high = linkwitz_riley(f, 632.0)
    turned_below, turned_above = sum(linkwitz_riley(f, 100.0)), sum(linkwitz_riley(f, 3984.0))
    return -high_pass(f, 20.0) * (low + high) * turned_below * turned_above


def tape(f):
    s, root = 1j * f / 60.0, 10 ** (2.5 / 40)
    bump = (s**2 + root * s + 1) / (s**2 + s / root + 1)
    gap = np.mean(np.exp(-2j * np.pi * f / FS * np.arange(5)[:, None]), axis=0)
    s = 1j * np.tan(np.pi * f / FS) / np.tan(np.pi * 24_000.0 / FS)  # so high the transform bends the axis
    return -high_pass(f, 15.0) * bump * gap / (s**2 + np.sqrt(2) * s + 1)


FORMULAS = {
    "coupling": lambda f: high_pass(f, 12.0) * high_pass(f, 25.0),
    "crossover": crossover,
    "tape": tape,
}


def test_there_are_three():
    assert tuple(devices.devices()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_quiet_impulse_comes_out_as_the_formula_says(name):
    x = np.zeros(FS)
    x[0] = 1e-5
    found = np.fft.rfft(devices.devices()[name](x, FS) / x[0])[FREQS_HZ.astype(int)]
    expected = FORMULAS[name](FREQS_HZ)
    # The saturation keeps the level of loud sines, and so lifts quiet ones a little.
    gain = np.abs(np.vdot(expected, found)) / np.vdot(expected, expected).real
    assert 1.0 <= gain < 1.1
    np.testing.assert_allclose(found / gain, expected, atol=5e-3)


def test_the_bands_add_up_to_an_all_pass():
    x = np.zeros(FS)
    x[0] = 1e-5
    found = np.abs(np.fft.rfft(devices.crossover(x, FS)))[1000:90_000]
    np.testing.assert_allclose(found / found[0], 1.0, rtol=3e-4)


@pytest.mark.parametrize(("name", "most"), [("coupling", 0.020), ("crossover", 0.018), ("tape", 0.013)])
def test_a_loud_sine_keeps_its_level_and_gets_harmonics(name, most):
    t = np.arange(FS) / FS
    y = devices.devices()[name](0.5 * np.sin(2 * np.pi * 1000 * t), FS)[FS // 2 :]
    levels = np.abs(np.fft.rfft(y))[500:5001:500]
    assert 2 * levels[0] / len(y) == pytest.approx(0.5, rel=0.01)
    assert 0.01 < np.sqrt(np.sum(levels[1:] ** 2)) / levels[0] < most
    second = levels[1] / levels[0]
    assert (second > 0.005) == (name == "coupling")


@pytest.mark.parametrize("name", NAMES)
def test_the_sweep_stays_within_full_scale(name):
    x = devices.sweep()
    assert x.shape == (10 * FS,)
    y = devices.devices()[name](x, FS)
    assert y.shape == x.shape
    assert y.dtype == np.float64
    assert 0.4 < np.max(np.abs(y)) < 0.7


@pytest.mark.parametrize("name", NAMES)
def test_devices_start_at_rest_and_repeat_themselves(name):
    device = devices.devices()[name]
    assert np.all(device(np.zeros(100), FS) == 0)
    x = audio.log_sweep(0.05, FS)
    whole = device(x, FS)
    np.testing.assert_array_equal(device(x[:4800], FS), whole[:4800])
    np.testing.assert_array_equal(device(x, FS), whole)


def test_three_sections_and_one_follow_the_crossover():
    x = devices.sweep()
    sos = [allpass.rbj(one, np.sqrt(0.5), FS).sos for one in devices.CROSSOVERS_HZ]
    # The high-pass by 20 Hz turns by atan(20 / f), an inverted first-order section by 2 atan(10 / f).
    edge = np.tan(np.pi * 9.0 / FS)
    sos.append(allpass.first_order((edge - 1) / (edge + 1)).sos)
    aligned = signal.sosfilt(np.concatenate([np.asarray(one).reshape(-1, 6) for one in sos]), x)
    assert metrics.esr(aligned, devices.crossover(x, FS)) < 0.006


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "expected"), [("coupling", 0.0137), ("crossover", 0.0045), ("tape", 0.0269)]
)
def test_an_all_pass_of_order_seven_aligns_them(name, expected, loose_jax):
    x = devices.sweep()
    y = devices.devices()[name](x, FS)
    found = jaxapf.align(x, y, FS, order=7)
    assert metrics.esr(found.apply(x), y) < 1.1 * expected
    assert metrics.phase_only_bound(x, y, FS) > 0.6 * expected


# Music


@pytest.fixture(scope="module")
def music():
    return devices.loops()


def test_the_music_is_its_segments(music):
    x, fs, segments = music
    assert fs == FS
    assert 12 < len(x) / fs < 16
    assert [name for name, _, _ in segments] == ["drums", "guitar", "acid_bassline", "plucked_bass"]
    assert segments[0][1] == 0
    assert [end for _, _, end in segments[:-1]] == [start for _, start, _ in segments[1:]]
    assert segments[-1][2] * fs == pytest.approx(len(x))
    for _, start, end in segments:
        part = x[round(start * fs) : round(end * fs)]
        assert np.max(np.abs(part)) == pytest.approx(0.5)
        assert max(abs(part[0]), abs(part[-1])) < 0.01  # no click where they meet


def test_the_recording_is_the_one_of_the_package(music):
    x, fs, segments = music
    dry, dry_fs = audio.read(datasets.example_pair()[0])
    drums = audio.resample(x[: round(segments[0][2] * fs)], fs, dry_fs)
    part = dry[0, : len(drums)]
    assert metrics.correlation(drums, part) > 0.9999


@pytest.mark.parametrize(("make", "lowest_hz"), [("acid_bassline", 55.0), ("plucked_bass", 41.2)])
def test_what_is_synthesised_has_its_pitch_and_no_aliases(make, lowest_hz):
    fs = 48_000
    x = getattr(devices, make)(fs)
    np.testing.assert_array_equal(x, getattr(devices, make)(fs))
    first = x[: round(0.22 * fs)]  # two sixteenths, or the first note of three
    power = np.abs(np.fft.rfft(first * np.hanning(len(first)), 16 * fs)) ** 2
    assert np.argmax(power[: round(16 * 1.4 * lowest_hz)]) / 16 == pytest.approx(lowest_hz, rel=0.05)
    power = np.abs(np.fft.rfft(x * np.hanning(len(x)))) ** 2
    edge = round(12_000 * len(x) / fs)
    assert np.sum(power[edge:]) < 1e-7 * np.sum(power)


def test_plucked_notes_decay():
    fs = 48_000
    x = devices.plucked_bass(fs)
    note = x[: round(3 * devices.STEP_S * fs)]
    third = len(note) // 3
    assert np.sum(note[2 * third :] ** 2) < 0.7 * np.sum(note[:third] ** 2)
