"""Cut notes from a recording, read them from a folder, or make them with known parameters."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.synth import config
from jaxapf import audio
from jaxapf.effects import synth
from jaxapf.filters import biquad

FRAME = 240  # samples between looks at level and pitch: 5 ms
WINDOW = 1920  # samples looked at for the pitch: 40 ms
LOUD = 0.15  # of the loudest, what counts as a note
CHANGED = 2 ** (0.7 / 12)  # pitch ratio that begins another note
FADE = 96  # samples at the end of a note: 2 ms
HARMONICS = 6


class Notes(NamedTuple):
    """Notes of one length, and what is measured of each before any training.

    ``audio`` (n, n_samples) float32; ``f0_hz`` (n,); ``phase`` (n,) in cycles, of the fundamental at the
    first sample; ``on_s`` (n,) seconds until silence; ``start_s`` (n,) in the recording.
    """

    audio: Any
    f0_hz: Any
    phase: Any
    on_s: Any
    start_s: Any


class Truth(NamedTuple):
    """Of notes with known parameters: ``cutoff_hz`` (n, n_frames), ``q`` (n,), ``shape``, ``gain``, ``drive``
    and ``decay`` (n,).
    """

    cutoff_hz: Any
    q: Any
    shape: Any
    gain: Any
    drive: Any
    decay: Any


# From recordings


def from_recording(path: Path) -> Notes:
    """Cut the notes of a recording where a level rises or a pitch changes.

    Raises:
        ValueError: fewer than ten notes were found.
    """
    x = _mono(path)
    return _notes([(x[start:stop], start) for start, stop in find(x)], str(path))


def from_folder(folder: Path) -> Notes:
    """Read one note from each WAV file of a folder, by name, as the paper's set is stored.

    Raises:
        ValueError: fewer than ten files with a note.
    """
    signals = [_mono(path) for path in sorted(folder.glob("*.wav"))]
    return _notes([(x[: config.LENGTH], 0) for x in signals if x.size >= config.LEAST], str(folder))


def _mono(path: Path) -> np.ndarray:
    x, fs = audio.read(path)
    return audio.resample(np.mean(np.atleast_2d(x), axis=0), fs, config.FS)


def _notes(pieces: list[tuple[np.ndarray, int]], source: str) -> Notes:
    if len(pieces) < 10:
        raise ValueError(
            f"'{source}' has {len(pieces)} notes of {config.LEAST} samples or more; give ten or more."
        )
    rows = [_note(x[: config.LENGTH], start) for x, start in pieces]
    return Notes(*(np.asarray(column, np.float32) for column in zip(*rows, strict=True)))


def _note(x: np.ndarray, start: int) -> tuple[np.ndarray, float, float, float, float]:
    x = x - np.mean(x)
    x[-FADE:] *= np.cos(np.linspace(0, np.pi / 2, FADE)) ** 2
    f0_hz, phase = fundamental(x)
    padded = np.pad(x, (0, config.LENGTH - x.size))
    return padded, f0_hz, phase, x.size / config.FS, start / config.FS


def find(x: np.ndarray) -> list[tuple[int, int]]:
    """Return first and last sample of each note that is long enough; of a long one what comes first."""
    level = np.sqrt(_smoothed(x**2, FRAME))
    loud = level > LOUD * np.max(level)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], loud.astype(int), [0]])))
    found = []
    for start, stop in edges.reshape(-1, 2):
        places = np.arange(start, max(start + 1, stop - WINDOW), FRAME)
        pitches = np.array([pitch(x[place : place + WINDOW]) for place in places])
        cuts = [int(start), *(int(places[i]) for i in _changes(pitches)), int(stop)]
        found += [(a, b) for a, b in itertools.pairwise(cuts) if b - a >= config.LEAST]
    return found


def _smoothed(x: np.ndarray, length: int) -> np.ndarray:
    sums = np.concatenate([[0.0], np.cumsum(np.pad(x, (length // 2, length - length // 2 - 1)))])
    return np.maximum(0, sums[length:] - sums[:-length]) / length


def _changes(pitches: np.ndarray) -> list[int]:
    """Where the pitch leaves that of the note so far, and stays away for three frames."""
    changes: list[int] = []
    i, begin = 1, 0
    while i < len(pitches) - 2:
        away = np.abs(np.log(pitches[i : i + 3] / np.median(pitches[begin:i])))
        if np.all(away > np.log(CHANGED)):
            # The window sees the new note before it fills it; half of it is the fairest guess.
            changes.append(min(i + WINDOW // FRAME // 2, len(pitches) - 1))
            begin = i + WINDOW // FRAME
            i = begin
        i += 1
    return changes


def pitch(x: np.ndarray) -> float:
    """Return the fundamental in Hz within `config.F0_HZ`: the first high peak of the autocorrelation."""
    spectrum = np.fft.rfft(x - np.mean(x), 2 * x.size)
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[: x.size] / (x.size - np.arange(x.size))
    low, high = (int(config.FS / f0) for f0 in reversed(config.F0_HZ))
    high = min(high, x.size * 3 // 4)
    lags = correlation[low:high]
    if lags.size == 0 or np.max(lags) <= 0:
        return config.F0_HZ[0]
    rising = np.flatnonzero(lags < 0.3 * correlation[0])
    first = rising[0] if rising.size else 0
    inside = lags[first:]
    near = np.flatnonzero(inside >= 0.85 * np.max(inside))
    run_end = near[0] + np.argmax(np.diff(np.append(near, near[-1] + 2)) > 1)
    best = near[0] + int(np.argmax(inside[near[0] : run_end + 1]))
    return config.FS / (low + first + best)


def fundamental(x: np.ndarray) -> tuple[float, float]:
    """Return frequency in Hz and phase in cycles of the fundamental whose harmonics have most energy."""
    n = np.arange(x.size)
    window = np.hanning(x.size)
    coarse = pitch(x[: 2 * WINDOW])

    def energy(f0: float) -> float:
        waves = np.exp(-2j * np.pi * f0 / config.FS * np.arange(1, HARMONICS + 1)[:, None] * n)
        return float(np.sum(np.abs(waves @ (window * x)) ** 2))

    grid = coarse * np.linspace(0.96, 1.04, 81)
    energies = [energy(f0) for f0 in grid]
    best = int(np.argmax(energies))
    fine = np.linspace(grid[max(best - 1, 0)], grid[min(best + 1, 80)], 21)
    f0 = float(fine[int(np.argmax([energy(one) for one in fine]))])
    # A sine at phase p is exp(j (2 pi p - pi / 2)) on its own frequency.
    projection = np.sum(np.exp(-2j * np.pi * f0 / config.FS * n) * window * x)
    return f0, float((np.angle(projection) / (2 * np.pi) + 0.25) % 1.0)


# With known parameters


def known(count: int, seed: int) -> tuple[Notes, Truth]:
    """Make notes of our own synthesiser, by the exact recursion.

    The cutoff goes from `high` to `low` along an exponential of a random time constant, with a ripple of up
    to a third of an octave; all else is constant in a note.
    """
    rng = np.random.default_rng(seed)
    n_frames = 1 + -(-(config.LENGTH - 1) // config.HOP)
    time_s = np.arange(n_frames) * config.HOP / config.FS

    def drawn(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, count)

    high, low = np.exp(drawn(np.log(1500), np.log(8000))), np.exp(drawn(np.log(150), np.log(1000)))
    constant_s = np.exp(drawn(np.log(0.01), np.log(0.08)))[:, None]
    ripple = drawn(0, 1 / 3)[:, None] * np.sin(
        2 * np.pi * (drawn(10, 40)[:, None] * time_s + drawn(0, 1)[:, None])
    )
    falling = np.log2(low)[:, None] + np.log2(high / low)[:, None] * np.exp(-time_s / constant_s)
    truth = Truth(
        np.clip(2 ** (falling + ripple), config.CUTOFF_HZ.low, config.CUTOFF_HZ.high),
        np.exp(drawn(np.log(1.0), np.log(7.0))),
        drawn(0, 1),
        drawn(0.2, 0.8),
        drawn(0.5, 3.0),
        np.exp(drawn(np.log(0.1), np.log(2.0))),
    )
    f0_hz, on_s = np.exp(drawn(np.log(50), np.log(200))), drawn(0.68, 1) * config.LENGTH / config.FS
    rows = biquad.lowpass(truth.cutoff_hz, truth.q[:, None], config.FS)
    phase = drawn(0, 1)
    controls = synth.Controls(f0_hz, on_s, rows, truth.shape, truth.gain, truth.decay, truth.drive, phase)
    controls = jax.tree.map(lambda array: np.asarray(array, np.float32), controls)
    y, _ = synth.synth(controls, synth.initial_state((count,)), config.LENGTH, config.FS, hop=config.HOP)
    columns = (y, f0_hz, phase, on_s, np.zeros(count))
    return Notes(*(np.asarray(column, np.float32) for column in columns)), truth


def truth_of(source: str) -> Truth | None:
    """Return the parameters of the notes `"known"`, None for others."""
    return known(config.KNOWN, config.KNOWN_SEED)[1] if source == "known" else None


def split(count: int) -> dict[str, np.ndarray]:
    """Return the numbers of the notes for training, validation and test, shuffled by SPLIT_SEED."""
    order = np.random.default_rng(config.SPLIT_SEED).permutation(count)
    ends = np.round(np.cumsum(config.SHARES) * count).astype(int)
    return dict(zip(("train", "validation", "test"), np.split(order, ends[:-1]), strict=True))


def chosen(notes: Notes, rows: np.ndarray) -> Notes:
    """Return some of the notes."""
    return Notes(*(column[rows] for column in notes))
