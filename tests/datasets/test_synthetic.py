"""Pairs made on the fly: the same for the same key and position, and what they say of themselves is true."""

import subprocess
import sys
from typing import Any

import jax
import numpy as np
import pytest
import scipy.signal

from jaxapf import datasets
from jaxapf.datasets import synthetic
from jaxapf.training import data

FS = 44100


def test_a_pair_is_a_function_of_key_and_position():
    one, other = datasets.Pairs(2048, FS, key=3), datasets.Pairs(2048, FS, key=3)
    backwards = [other[n] for n in (7, 3, 0)][::-1]
    for n, again in zip((0, 3, 7), backwards, strict=True):
        for a, b in zip(one[n], again, strict=True):
            np.testing.assert_array_equal(a, b)
    assert np.any(one[0].dry != one[1].dry)
    assert np.any(one[0].dry != datasets.Pairs(2048, FS, key=4)[0].dry)


def test_keys_may_be_jaxs():
    keyed = datasets.Pairs(512, FS, key=jax.random.key(5))[0]
    np.testing.assert_array_equal(keyed.dry, datasets.Pairs(512, FS, key=[0, 5])[0].dry)
    with pytest.raises(TypeError, match=r"^key is 'x'; expected None, a JAX random key, or a whole number"):
        datasets.Pairs(512, FS, key="x")


@pytest.mark.parametrize("n", range(12))
def test_known_pairs_are_what_they_say(n):
    """The wet one is the dry one, delayed and filtered in float64 by SciPy's recursion."""
    recipe = datasets.KNOWN._replace(noise_db=(120.0, 120.0))
    pair = datasets.Pairs(16384, FS, key=11, recipe=recipe)[n]
    sos = []
    for cutoff, q in zip(pair.cutoff_hz, pair.q, strict=True):
        w, alpha = 2 * np.pi * cutoff / FS, np.sin(2 * np.pi * cutoff / FS) / (2 * q)
        a = np.array([1 + alpha, -2 * np.cos(w), 1 - alpha]) / (1 + alpha)
        sos.append([*a[::-1], *a])
    assert len(sos) == 6
    x, y = pair.dry.astype(float), pair.wet.astype(float)
    n_fft = 65536
    omega = 2 * np.pi * np.fft.rfftfreq(n_fft)
    late = np.fft.irfft(np.fft.rfft(x, n_fft) * np.exp(-1j * omega * pair.delay_samples), n_fft)[: len(x)]
    found = pair.polarity * scipy.signal.sosfilt(np.array(sos), late)
    gain = np.dot(found, y) / np.dot(found, found)  # levels are set apart
    assert gain > 0
    # What an early signal loses at its beginning the pair does not have either: cut both ends.
    inner = slice(600, -600) if pair.delay_samples < 0 else slice(0, -600)
    error = np.sum((y[inner] - gain * found[inner]) ** 2) / np.sum(y[inner] ** 2)
    assert error < 2e-3


def test_rooms_have_the_delay_they_say():
    recipe = datasets.Recipe(
        room=1.0, filtered=0.0, equalised=0.0, inverted=0.0, noise_db=(90.0, 90.0), level_db=0.0
    )
    right = 0
    for n in range(20):
        rng = np.random.default_rng([1, n])
        responses, delay = synthetic.room(rng, 8192, FS, opposite=n % 2 == 0)
        first = [int(np.argmax(np.abs(r) > 0.3 * np.max(np.abs(r)))) for r in responses]
        right += abs(first[1] - first[0] - delay) < 3
    assert right >= 18
    assert datasets.Pairs(4096, FS, key=0, recipe=recipe)[0].polarity in (-1, 1)


def test_images_are_those_of_a_mirror_by_mirror_count():
    """Along one axis: the same places and counts as mirroring in the two walls over and over."""
    signs, cells, count = synthetic._images(3)
    length, x = 5.0, 1.3
    axis = (np.abs(cells[:, 1:]).sum(axis=1) == 0) & (signs[:, 1:] == 1).all(axis=1)
    found = sorted(zip(count[axis], signs[axis, 0] * x + cells[axis, 0] * length, strict=True))
    expected = {(0, x)}
    places = {x}
    for order in (1, 2, 3):
        places = {m for p in places for m in (-p, 2 * length - p)}
        expected |= {(order, p) for p in places if all(abs(p - q) > 1e-9 for _, q in expected)}
    assert len(found) == len(expected)
    for (n, p), (m, q) in zip(found, sorted(expected), strict=True):
        assert n == m
        assert p == pytest.approx(q)


def test_pairs_differ_in_kind_and_are_finite():
    pairs = [datasets.Pairs(4096, FS, key=2)[n] for n in range(60)]
    for pair in pairs:
        assert pair.dry.dtype == pair.wet.dtype == np.float32
        assert np.all(np.isfinite(pair.dry))
        assert np.all(np.isfinite(pair.wet))
        assert np.max(np.abs(pair.dry)) > 0.1
    assert {pair.polarity for pair in pairs} == {-1, 1}
    assert {0, 6} <= {len(pair.q) for pair in pairs}


def test_recordings_as_sources_are_heard():
    tone = np.sin(2 * np.pi * 997 / FS * np.arange(8192)).astype(np.float32)
    recipe = datasets.KNOWN._replace(sections=(1, 1))
    pairs = datasets.Pairs(4096, FS, key=1, recipe=recipe, sources=[tone])
    tonal = 0
    for n in range(20):
        spectrum = np.abs(np.fft.rfft(pairs[n].dry))
        tonal += spectrum[91:95].sum() > 0.3 * spectrum.sum()
    assert 4 <= tonal <= 16
    with pytest.raises(ValueError, match=r"^sources\[0\] has shape \(2, 5\); give mono signals"):
        datasets.Pairs(4096, FS, sources=[np.zeros((2, 5))])
    with pytest.raises(ValueError, match=r"^n_samples is 10; expected 64 or more"):
        datasets.Pairs(10, FS)
    with pytest.raises(ValueError, match=r"^position is -1; expected 0 or more"):
        pairs[-1]


def test_making_pairs_needs_no_jax():
    program = (
        "import sys; from jaxapf.datasets import Pairs; Pairs(512, 44100)[0]; sys.exit('jax' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_prefetched_batches_are_those_of_their_position():
    class Source:
        asked = 0

        def __len__(self):
            return 1000

        def __getitem__(self, n):
            Source.asked += 1
            return {"n": np.full(3, n)}

    batch_at = data.prefetched(Source(), 4, threads=2, ahead=2)
    for position in (0, 1, 2, 2, 7, 8, 3):
        np.testing.assert_array_equal(batch_at(position)["n"][:, 0], 4 * position + np.arange(4))
    with pytest.raises(ValueError, match="batch_size"):
        data.prefetched(Source(), 0)


def test_without_grain_one_sentence_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(ModuleNotFoundError, match=r"^grain is not installed.*pip install 'jaxapf\[data\]'"):
        data.prefetched([1], 1)


@pytest.mark.parametrize("fs", [8000.0, 16000.0, 22050.0])
def test_sections_lie_below_half_the_rate(fs):
    pairs = datasets.Pairs(1024, fs, key=2, recipe=datasets.KNOWN)
    assert all(np.all(pairs[number].cutoff_hz <= 0.45 * fs) for number in range(20))


def test_a_sequence_ends():
    pairs = datasets.Pairs(256, 44100, length=3)
    assert len(list(pairs)) == 3
    between: Any = 1.5
    with pytest.raises(TypeError):
        pairs[between]


@pytest.mark.parametrize("fs", [0.0, -44100.0, float("nan"), float("inf")])
def test_a_rate_that_is_none(fs):
    with pytest.raises(ValueError, match="expected a sample rate of 1000 Hz or more"):
        datasets.Pairs(256, fs)


def test_a_source_that_is_broken():
    with pytest.raises(ValueError, match=r"sources\[0\] holds NaN or infinite samples"):
        datasets.Pairs(256, 44100, sources=[np.full(300, np.nan)])


@pytest.mark.parametrize("position", [-1, 4, 99])
def test_batches_that_are_not_there(position):
    batch_at = data.prefetched([{"x": np.full(2, n)} for n in range(8)], 2)
    with pytest.raises(ValueError, match=f"position is {position}; expected 0 to 3"):
        batch_at(position)
