"""The model: applied in one go and in blocks, against SciPy; saved, loaded, and every way to be no model."""

import dataclasses
import json
import os
import pathlib
import struct
import tempfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal
from scipy.signal import windows
from signals import noise, relative_rms

from jaxapf import Alignment, ModelError, allpass, metrics
from jaxapf.alignment.model import HALF_WIDTH, interpolator, order_of

FS = 48000.0
NONE = allpass.first_order(np.zeros(0))
SECTIONS = allpass.concatenate(
    allpass.rbj([60.0, 900.0], [0.7, 3.0], FS),
    allpass.first_order(-0.6),
    allpass.second_order(0.99, 5000.0, FS),
)
finite = st.floats(allow_nan=False, allow_infinity=False)


def model(delay=0.0, polarity=1, sections=SECTIONS, **fields):
    """A model; its controls are only carried along."""
    controls = [{"type": "second_order", "cutoff_hz": 100.0 + k} for k in range(np.size(sections.u))]
    return Alignment(sections, delay, polarity, FS, controls, {"esr_raw": 1.0, "esr_bound": None}, **fields)


def shifted(x, whole):
    """Delayed by whole samples, either way, zeros moving in."""
    y = np.zeros_like(x)
    n = x.shape[-1]
    if abs(whole) < n:
        y[..., max(0, whole) : n + min(0, whole)] = x[..., max(0, -whole) : n - max(0, whole)]
    return y


def ramped(x, delay):
    """Delayed by a phase ramp; circular, so for signals with silent ends."""
    return np.fft.irfft(
        np.fft.rfft(x) * np.exp(-2j * np.pi * np.fft.rfftfreq(x.shape[-1]) * delay), x.shape[-1]
    )


def band_limited(n=4000, seed=0):
    """Noise below 0.9 of the Nyquist frequency with silent ends, float64."""
    core = noise(n - 1200, seed=seed) * windows.tukey(n - 1200, 0.2)
    return np.pad(signal.fftconvolve(core, signal.firwin(255, 0.86), mode="same"), 600)


def in_blocks(alignment, x, block_samples):
    return list(alignment.stream(lambda a, b: x[:, a:b], x.shape[-1], block_samples=block_samples))


# Applying


@pytest.mark.parametrize("delay", [-5000, -300, -1, 0, 1, 17, 4999, 5000, 70000])
@pytest.mark.parametrize("polarity", [-1, 1])
def test_apply_is_scipy_on_the_shifted_signal(delay, polarity):
    x = noise(2, 5000, seed=3)
    expected = polarity * signal.sosfilt(SECTIONS.sos, shifted(x, delay))
    got = model(float(delay), polarity).apply(x)
    assert np.allclose(got, expected, rtol=0, atol=1e-10)
    single = model(float(delay), polarity).apply(x.astype(np.float32))
    assert single.dtype == np.float32
    # The contract of float32 cascades; these poles lie within 0.995.
    assert np.sqrt(np.mean((single - expected) ** 2)) < 1e-4


@pytest.mark.parametrize("delay", [-3, 0, 9])
def test_without_sections_whole_samples_are_moved_exactly(delay):
    x = noise(3, 50).astype(np.float32)
    assert np.array_equal(model(float(delay), -1, NONE).apply(x), -shifted(x, delay))


def test_negative_delay_advances():
    x = np.zeros(100)
    x[50] = 1
    assert np.argmax(model(-20.0, 1, NONE).apply(x)) == 30
    assert np.argmax(model(20.0, 1, NONE).apply(x)) == 70


@given(st.floats(-300, 300), st.sampled_from([-1, 1]))
def test_fractional_delay_is_a_phase_ramp(delay, polarity):
    x = band_limited()
    # Flat within 1e-4 up to 0.96 of Nyquist, and this signal ends below.
    assert relative_rms(model(delay, polarity, NONE).apply(x), polarity * ramped(x, delay)) < 1e-4


@pytest.mark.parametrize("delay", [-20.3, 0.5, 7.77])
def test_fractional_delay_and_cascade(delay):
    x = band_limited()
    expected = signal.sosfilt(SECTIONS.sos, ramped(x, delay))
    assert relative_rms(model(delay).apply(x), expected) < 2e-4


@pytest.mark.parametrize("whole", [-4, 0, 4])
def test_a_hair_beside_a_whole_sample_is_the_whole_sample(whole):
    x = noise(200)
    exact = model(float(whole), 1, NONE).apply(x)
    for hair in (-1e-10, 1e-10):
        assert np.array_equal(model(whole + hair, 1, NONE).apply(x), exact)
    for hair in (-1e-6, 1e-6):
        assert np.allclose(model(whole + hair, 1, NONE).apply(x), exact, atol=1e-4)


@given(st.floats(0, 1))
def test_interpolator_is_flat_and_delays_by_the_fraction(fraction):
    taps = interpolator(fraction)
    assert taps.shape == (2 * HALF_WIDTH + 1,)
    omega = np.linspace(0, 0.96 * np.pi, 500)
    response = np.exp(-1j * np.outer(omega, np.arange(len(taps)))) @ taps
    # Kaiser's formula for a window of beta 8 and ripple 10^(-A / 20), beta = 0.1102 (A - 8.7): 1e-4, both
    # edges of the band (its image is as near as its end) adding up to twice that.
    assert np.max(np.abs(response - np.exp(-1j * omega * (HALF_WIDTH + fraction)))) < 2e-4


@pytest.mark.parametrize("shape", [(1,), (2,), (300,), (1, 300), (2, 3, 40), (0, 40)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("delay", [0.0, 2.5])
def test_shape_and_dtype_are_kept_and_rows_are_independent(shape, dtype, delay):
    x = noise(*shape).astype(dtype)
    got = model(delay, -1).apply(x)
    assert got.shape == shape
    assert got.dtype == dtype
    rows = [model(delay, -1).apply(row) for row in x.reshape(-1, shape[-1])]
    assert np.allclose(got.reshape(-1, shape[-1]), np.array(rows).reshape(-1, shape[-1]), atol=1e-5)


@pytest.mark.parametrize("shape", [(0,), (2, 0)])
def test_no_samples_stay_no_samples(shape):
    assert model().apply(np.zeros(shape)).shape == shape


def test_whole_numbers_become_float32():
    x = np.arange(-50, 50, dtype=np.int16)
    got = model(3.0).apply(x)
    assert got.dtype == np.float32
    assert np.array_equal(got, model(3.0).apply(x.astype(np.float32)))


@pytest.mark.parametrize("x", [3.0, np.zeros(4, complex), np.array(["a", "b"]), None])
def test_what_is_no_signal_is_refused(x):
    with pytest.raises(ValueError, match=r"^x (is|has) "):
        model().apply(x)


@given(st.floats(-40, 40), st.sampled_from([np.float32, np.float64]), st.integers(0, 10**6))
def test_energy_is_kept_and_silence_stays_silent(delay, dtype, seed):
    x = np.pad(band_limited(3000, seed), (0, 5000)).astype(dtype)
    y = model(delay, -1).apply(x)
    assert np.sum(y.astype(np.float64) ** 2) == pytest.approx(np.sum(x.astype(np.float64) ** 2), rel=1e-3)
    assert not np.any(model(delay, -1).apply(np.zeros(500, dtype)))


# Streaming


@pytest.mark.parametrize("delay", [0.0, 40.0, -40.0, 12.3, -300.7])
@pytest.mark.parametrize("block_samples", [1, 7, 64, 250, 251, 4096])
def test_blocks_of_any_length_make_the_whole(delay, block_samples):
    x = noise(2, 251, seed=1)
    alignment = model(delay, -1)
    blocks = in_blocks(alignment, x, block_samples)
    assert all(0 < b.shape[-1] <= block_samples for b in blocks)
    assert np.allclose(np.concatenate(blocks, axis=-1), alignment.apply(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("block_samples", [100, 1024])
def test_float32_blocks_make_the_whole(block_samples):
    x = noise(1, 3000, seed=2).astype(np.float32)
    blocks = in_blocks(model(5.5), x, block_samples)
    assert all(b.dtype == np.float32 for b in blocks)
    assert relative_rms(np.concatenate(blocks, axis=-1), model(5.5).apply(x)) < 1e-5


@pytest.mark.parametrize("delay", [0.0, 33.4, -33.4, 1e6, -1e6])
def test_reader_is_asked_only_for_what_exists(delay):
    x, asked = noise(2, 500), []

    def read(start, stop):
        asked.append((start, stop))
        return x[:, start:stop]

    blocks = list(model(delay).stream(read, 500, block_samples=128))
    assert np.concatenate(blocks, axis=-1).shape == x.shape
    assert all(0 <= start <= stop <= 500 for start, stop in asked)
    # A block costs its own length and what the interpolator looks around.
    assert max(stop - start for start, stop in asked) <= 128 + 2 * HALF_WIDTH


def test_stream_works_only_when_asked():
    calls = []
    blocks = model().stream(lambda a, b: calls.append(a) or np.zeros((1, b - a)), 1000, block_samples=256)
    assert not calls
    assert next(blocks).shape == (1, 256)
    assert len(calls) == 1
    assert list(model().stream(lambda a, b: np.zeros((1, b - a)), 0)) == []


# The model as such


def test_sos_and_order():
    assert np.array_equal(model().sos, SECTIONS.sos)
    assert model().sos.dtype == np.float64
    assert model(sections=NONE).sos.shape == (0, 6)
    assert order_of(NONE) == 0
    assert order_of(SECTIONS) == 7
    assert order_of(allpass.first_order([0.1, 0.2])) == 2
    # One coefficient per order: a first-order row has one pole, a second-order row two.
    assert order_of(SECTIONS) == sum(2 if row[5] != 0 else 1 for row in SECTIONS.sos)


def test_models_do_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        model().polarity = -1  # pyright: ignore[reportAttributeAccessIssue]


# Saving and loading


def bits(values):
    return [struct.pack("<d", v) for v in np.ravel(values)]


positive = st.floats(1e-300, 4.0)


@given(
    st.lists(st.tuples(positive, st.one_of(st.just(0.0), positive), positive), max_size=5),
    st.floats(-1e9, 1e9),
    st.sampled_from([-1, 1]),
    st.floats(1e-3, 1e8),
    st.dictionaries(st.text(), st.one_of(finite, st.none(), st.integers(-9, 9)), max_size=4),
    st.text(st.characters(codec="utf-8")),
)
def test_round_trip_keeps_every_bit(margins, delay, polarity, fs, figures, text):
    sections = allpass.Sections(*np.array(margins).reshape(-1, 3).T)
    controls = [{"type": "second_order", "cutoff_hz": float(u), "q": 1 / 3} for u in sections.u]
    saved = Alignment(sections, delay, polarity, fs, controls, figures, "spectral", text, text)
    with tempfile.TemporaryDirectory() as folder:
        path, again = (pathlib.Path(folder) / name for name in ("model.json", "again.json"))
        saved.save(path)
        loaded = Alignment.load(path)
        loaded.save(again)
        assert again.read_bytes() == path.read_bytes()
    for got, expected in zip(loaded.sections, saved.sections, strict=True):
        assert isinstance(got, np.ndarray)
        assert bits(got) == bits(expected)
    assert bits([loaded.delay_samples, loaded.fs]) == bits([delay, fs])
    for field in ("polarity", "controls", "metrics", "method", "stop_reason", "command", "version"):
        assert getattr(loaded, field) == getattr(saved, field)


def test_loaded_model_filters_the_same(tmp_path):
    x = noise(2, 700)
    model(3.3, -1).save(tmp_path / "model.json")
    assert np.array_equal(Alignment.load(tmp_path / "model.json").apply(x), model(3.3, -1).apply(x))


def test_file_says_what_it_is_and_lists_scipy_sections(tmp_path):
    path = tmp_path / "model.json"
    model(command="jaxapf align a b").save(str(path))
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["version"] == 1
    assert document["command"] == "jaxapf align a b"
    assert document["order"] == order_of(SECTIONS)
    assert np.array_equal(document["sos"], SECTIONS.sos)


@pytest.mark.parametrize("number", [np.int64, np.float32, np.float64])
def test_numpy_numbers_are_saved(tmp_path, number):
    """Sample rates come out of NumPy and soundfile in all types."""
    alignment = Alignment(NONE, number(2), int(number(1)), number(48000), [], {})
    alignment.save(tmp_path / "model.json")
    assert Alignment.load(tmp_path / "model.json").fs == 48000


def assert_refused(path, *words):
    with pytest.raises(ModelError) as error:
        Alignment.load(path)
    message = str(error.value)
    assert message.startswith(f"'{path}' ")
    assert "\n" not in message
    for word in words:
        assert word in message


def test_files_that_cannot_be_opened(tmp_path):
    assert_refused(tmp_path / "missing.json", "no such file")
    assert_refused(tmp_path, "directory")
    assert_refused(str(tmp_path / "missing.json"), "no such file")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"RIFF\x00\xff\xfe\x80WAVE",
        b"not json",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"format": "jaxapf-al',
    ],
    ids=["empty", "brace", "wave", "words", "utf16", "deep", "cut"],
)
def test_files_that_are_no_json(tmp_path, content):
    path = tmp_path / "model.json"
    path.write_bytes(content)
    assert_refused(path, "not JSON")


@pytest.mark.parametrize("text", ["null", "3", '"model"', "[]", "{}", '{"format": "other", "version": 1}'])
def test_json_that_is_no_model(tmp_path, text):
    path = tmp_path / "model.json"
    path.write_text(text)
    assert_refused(path, "is not a model")


@pytest.fixture
def document(tmp_path):
    """A saved model as a dict, and what writes a changed one and gives its path."""
    path = tmp_path / "model.json"
    model(3.3, -1).save(path)
    saved = json.loads(path.read_text())

    def write(**changes):
        path.write_text(json.dumps({k: v for k, v in {**saved, **changes}.items() if v is not ...}))
        return path

    return saved, write


def test_unchanged_document_loads(document):
    assert Alignment.load(document[1]()).polarity == -1


@pytest.mark.parametrize("version", [2, 99, 0, -1, "1", True, None, 1.0, ...])
def test_other_versions_are_refused(document, version):
    assert_refused(document[1](version=version), "version")


# What can be computed from the sections is there for readers of the file alone.
DERIVED = {"order", "sos"}


def test_every_key_is_needed_unless_derived(document):
    saved, write = document
    assert set(saved) > DERIVED
    for key in saved:
        path = write(**{key: ...})
        if key in DERIVED:
            assert order_of(Alignment.load(path).sections) == saved["order"]
        else:
            assert_refused(path, "model")


GOOD = {"u": [0.1, 0.2, 0.3, 0.4], "v": [0.0, 1.0, 1.0, 1.0], "m": [0.1, 0.2, 0.3, 0.4]}
nan, inf = float("nan"), float("inf")


def test_the_margins_that_the_damaged_ones_differ_from_load(document):
    assert order_of(Alignment.load(document[1](sections=GOOD)).sections) == 7


@pytest.mark.parametrize(
    "margins",
    [
        {"u": [0.1, 0.2, 0.3]},
        {"u": [0.1, 0.2, 0.3, 0.0]},
        {"u": [0.1, 0.2, 0.3, -0.1]},
        {"m": [0.1, 0.2, 0.3, 0.0]},
        {"m": [0.1, 0.2, 0.3, -0.1]},
        {"v": [0.0, 1.0, 1.0, -1.0]},
        {"v": [0.0, 1.0, 1.0, nan]},
        {"u": [0.1, 0.2, 0.3, inf]},
        {"u": [[0.1, 0.2, 0.3, 0.4]], "v": [[1.0] * 4], "m": [[1.0] * 4]},
        {"u": 1.0, "v": 1.0, "m": 1.0},
        {"u": ["a", "b", "c", "d"]},
        {"u": [0.1, [0.2], 0.3, 0.4]},
        {"u": None},
    ],
)
def test_sections_that_are_no_stable_allpass(document, margins):
    assert_refused(document[1](sections={**GOOD, **margins}), "damaged model")


@pytest.mark.parametrize("missing", ["u", "v", "m"])
def test_sections_without_a_margin(document, missing):
    assert_refused(document[1](sections={k: v for k, v in GOOD.items() if k != missing}), "damaged model")


@pytest.mark.parametrize(
    "change",
    [
        {"sections": []},
        {"sections": None},
        {"delay_samples": nan},
        {"delay_samples": inf},
        {"delay_samples": None},
        {"delay_samples": "far"},
        {"delay_samples": []},
        {"polarity": 0},
        {"polarity": 2},
        {"polarity": 1.5},
        {"polarity": None},
        {"polarity": nan},
        {"polarity": inf},
        {"fs": 0},
        {"fs": -48000},
        {"fs": nan},
        {"fs": inf},
        {"fs": {}},
        {"controls": []},
        {"controls": None},
        {"controls": 3},
        {"controls": [1, 2, 3, 4]},
        {"metrics": 3},
        {"metrics": None},
    ],
    ids=str,
)
def test_impossible_values(document, change):
    assert_refused(document[1](**change), "damaged model")


def test_saving_where_it_cannot_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="folder does not exist"):
        model().save(tmp_path / "missing" / "model.json")
    with pytest.raises(ValueError, match="is a folder"):
        model().save(tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_failed_save_keeps_the_old_file(tmp_path):
    path = tmp_path / "model.json"
    model(1.0).save(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON"):  # no file with a NaN, which JSON does not know
        model(float("nan")).save(path)
    assert path.read_bytes() == before
    model(2.0).save(path)
    assert Alignment.load(path).delay_samples == 2.0
    assert os.listdir(tmp_path) == ["model.json"]


def test_aligned_error_of_a_known_path_is_zero():
    """Apply is the inverse question of align: the path itself leaves no error."""
    x = noise(2, 3000)
    wet = -np.asarray(signal.sosfilt(SECTIONS.sos, shifted(x, 31)))
    assert metrics.esr(model(31.0, -1).apply(x), wet) < 1e-20


@pytest.mark.parametrize(
    "change", [{"delay_samples": 1e15}, {"fs": 1e300}, {"metrics": {"esr_raw": "a"}}, {"polarity": 1.5}]
)
def test_impossible_values_are_a_damaged_model(document, change):
    with pytest.raises(ModelError, match="damaged model"):
        Alignment.load(document[1](**change))
