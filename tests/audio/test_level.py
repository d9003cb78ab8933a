"""Levels of what is not silence, and the stretches of a recording that are typical of it."""

import itertools

import numpy as np
import pytest
from styles import FS, bursts, loudness

from jaxapf.audio import level


def test_silence_does_not_count():
    tone = np.sin(np.arange(FS) / 3.0)[None]
    rms_db = 10 * np.log10(np.mean(tone**2))
    assert loudness(tone, FS) == pytest.approx(rms_db, abs=0.01)
    with_silence = np.concatenate([tone, 1e-3 * tone, np.zeros((1, 3 * FS))], axis=-1)
    assert loudness(with_silence, FS) == pytest.approx(rms_db, abs=0.01)
    assert loudness(np.zeros((1, FS)), FS) == -np.inf


def test_the_blocks_of_long_recordings_do_not_matter(monkeypatch):
    x = bursts(10_001)[None]
    whole = level.powers(lambda a, b: x[:, a:b], x.shape[-1], FS)
    monkeypatch.setattr(level, "_BLOCK", 900)
    np.testing.assert_allclose(level.powers(lambda a, b: x[:, a:b], x.shape[-1], FS).mono, whole.mono)


def test_typical_stretches_leave_silence_out():
    frames = round(1 / level.FRAME_S)  # a second
    power = np.zeros(300 * frames)
    power[100 * frames : 200 * frames] = 1.0
    found = level.typical(power, 300 * FS, FS)
    assert 2 <= len(found) <= 12
    for start, stop in found:
        assert stop - start == 5 * FS
        assert start >= 97 * FS
        assert stop <= 203 * FS
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(found))
    short = level.typical(power[98 * frames : 106 * frames], 8 * FS, FS)
    assert short == [(2 * FS, 8 * FS)]
