"""Recordings for style transfer, and random clips of them: two neighbouring halves each.

    recordings -> split by speaker and loop -> pool (all in memory, at several speeds) -> clips (n, 2, half)

The first half is the input. The second half goes through the same effects as the target, and is the
reference. All is NumPy: a batch is made while the step before it runs, and is a pure function of its key.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.signal import lfilter

from jaxapf import audio, datasets

FS = 24_000
SHORT_S, LONG_S = 0.53, 5.0  # of a clip, both halves together
SHARED_TEST = ("librivox_16k", "guitar_e_fifths", "drum_breakbeat")
EMBEDDED_TEST = ("guitar",)
TEST_SHARE = VALIDATION_SHARE = 0.1  # of the speakers of a large set
HELD_S = 5.5  # at the end of a training recording, for validation
LEAST_HELD_S = 16.0  # of a recording from which so much can be cut

GATE_DB = -20.0  # of a half, against its recording: below it, it counts as silence
GRID_S = 0.005  # between the places where a clip may begin
WORTH = 0.5  # how often a recording is drawn grows with this power of its length
PEAK = 0.99  # of a clip: none is made louder


class Source(NamedTuple):
    """A recording: ``kind`` "speech" or "loop", ``speaker`` who or what must not be on both sides of a split.

    ``audio`` (n_samples,) float32 at `FS`.
    """

    name: str
    kind: str
    speaker: str
    audio: np.ndarray


class Split(NamedTuple):
    """Recordings to train on, to choose by, and to test on."""

    train: list[Source]
    validation: list[Source]
    test: list[Source]


class Augment(NamedTuple):
    """How clips vary: see `TRAINING` and `AS_IS`.

    ``speeds`` of the recordings, by resampling; ``mix`` share of clips that are two recordings at once;
    ``tilt_db`` most difference between low and high frequencies that a shelf makes; ``low_db``, ``high_db``
    range of the level of each half, RMS in dBFS; ``flip`` share of clips with inverted polarity.
    """

    speeds: tuple[float, ...]
    mix: float
    tilt_db: float
    low_db: float
    high_db: float
    flip: float


TRAINING = Augment((0.75, 0.85, 0.93, 1.0, 1.08, 1.18, 1.33), 0.15, 6.0, -30.0, -14.0, 0.5)
AS_IS = Augment((1.0,), 0.0, 0.0, -23.0, -23.0, 0.0)


class Track(NamedTuple):
    """A recording at one speed, and the samples at which a clip may begin."""

    name: str
    kind: str
    audio: np.ndarray
    starts: np.ndarray


class Pool(NamedTuple):
    """Where clips are drawn from: ``share`` (tracks,) is the probability of each; ``half`` in samples."""

    tracks: list[Track]
    share: np.ndarray
    half: int


class Clips(NamedTuple):
    """Clips (n, 2, half), float32, and the name of each one's recording."""

    halves: np.ndarray
    names: list[str]


# Recordings


def load(folder: Path | None = None) -> Split:
    """The recordings of a folder, split; without one, the example that the package carries.

    Args:
        folder: of the shared recordings (speech/speech.json, loops/loops.json) or of LibriTTS.

    Returns:
        Split. Who speaks in one part of it, speaks in no other; but the validation part of a small set is the
        end of its training recordings, which nothing else sees.

    Raises:
        ValueError: the folder holds neither.
    """
    if folder is None:
        return split_named(embedded(), EMBEDDED_TEST)
    if (folder / "speech" / "speech.json").is_file():
        return split_named(shared(folder), SHARED_TEST)
    recordings = datasets.libritts(folder, shortest_s=LONG_S + 0.5)
    return split_speakers([_source(one) for one in recordings], key=0)


def embedded() -> list[Source]:
    """Drums and a guitar, 3.5 s each: enough to see that all works, not to learn from."""
    x = _read(datasets.example_pair()[0])
    joint = round(3.76 * FS)  # jaxapf/data/LICENSE.md
    return [Source("drums", "loop", "drums", x[:joint]), Source("guitar", "loop", "guitar", x[joint:])]


def shared(folder: Path) -> list[Source]:
    """Three kinds of real speech, one synthetic voice, six loops.

    The speech at 16 kHz has nothing above 8 kHz, the synthetic voice nothing above 11 kHz: what the equaliser
    does there has no effect. Each file is a speaker of its own. The two guitar loops are different
    recordings by one musician.

    Args:
        folder: with speech/speech.json, loops/loops.json and the FLAC files that these list.

    Returns:
        All of them.

    Raises:
        ValueError: a list or a file is missing or cannot be read.
    """
    return [_source(one) for one in datasets.speech_and_loops(folder)]


def _source(one: datasets.Recording) -> Source:
    return Source(one.name, one.kind, one.speaker, _read(one.path))


def _read(path: Path) -> np.ndarray:
    """The mean of the channels at `FS`."""
    try:
        x, fs = audio.read(path)
    except audio.AudioError as error:
        raise ValueError(str(error)) from error
    return audio.resample(np.mean(x, axis=0, dtype=np.float32), fs, FS)


# Splits


def split_named(sources: Sequence[Source], test: Collection[str]) -> Split:
    """Test recordings by name; for validation, the ends of those training recordings that are long enough.

    Args:
        sources: all recordings.
        test: names of those to test on.

    Returns:
        Split. Where no recording is long enough, the training recordings serve for validation as well.

    Raises:
        ValueError: a test recording is missing, or nothing is left to train on.
    """
    if missing := set(test) - {one.name for one in sources}:
        raise ValueError(f"sources lack the test recordings {', '.join(sorted(missing))}")
    tested = [one for one in sources if one.name in test]
    speakers = {one.speaker for one in tested}
    rest = [one for one in sources if one.speaker not in speakers]
    if not rest:
        raise ValueError("sources hold nothing to train on besides the test recordings")
    held = round(HELD_S * FS)
    long = {one.name for one in rest if len(one.audio) >= LEAST_HELD_S * FS}
    train = [one._replace(audio=one.audio[:-held]) if one.name in long else one for one in rest]
    validation = [one._replace(audio=one.audio[-held:]) for one in rest if one.name in long]
    return Split(train, validation or train, tested)


def split_speakers(sources: Sequence[Source], key: Any) -> Split:
    """A tenth of the speakers to test on, a tenth for validation, the others to train on.

    Args:
        sources: all recordings, of three speakers or more.
        key: a whole number, or several: of the order of the speakers.

    Returns:
        Split.

    Raises:
        ValueError: fewer than three speakers.
    """
    names = sorted({one.speaker for one in sources})
    if len(names) < 3:
        raise ValueError(f"sources have {len(names)} speakers; expected three or more, one for each part")
    order = [names[i] for i in np.random.default_rng(key).permutation(len(names))]
    n_test, n_validation = (max(1, round(share * len(names))) for share in (TEST_SHARE, VALIDATION_SHARE))
    test, validation = set(order[:n_test]), set(order[n_test : n_test + n_validation])
    return Split(
        [one for one in sources if one.speaker not in test | validation],
        [one for one in sources if one.speaker in validation],
        [one for one in sources if one.speaker in test],
    )


# Clips


def pool(sources: Sequence[Source], seconds: float, augment: Augment = AS_IS) -> Pool:
    """All that clips are drawn from: the recordings at each speed, and where clips may begin.

    A clip may begin where both halves are within 20 dB of their recording's level: there is no silence. A
    loop shorter than a clip is repeated; other recordings that are too short are left out.

    Args:
        sources: the recordings.
        seconds: of a clip, both halves together.
        augment: of it, the speeds.

    Returns:
        Pool. Memory: that of the recordings, times the speeds.

    Raises:
        ValueError: no recording is long enough.
    """
    half = round(seconds * FS / 2)
    tracks = [
        Track(one.name, one.kind, x, starts)
        for one in sources
        for speed in augment.speeds
        for x in [_long_enough(_sped(one.audio, speed), one.kind, 2 * half)]
        for starts in [_starts(x, half)]
        if starts.size
    ]
    if not tracks:
        raise ValueError(f"sources hold no recording with a clip of {seconds:g} s; give longer recordings")
    worth = np.array([len(one.audio) ** WORTH for one in tracks])
    return Pool(tracks, worth / worth.sum(), half)


def clips(pool: Pool, count: int, key: Any, augment: Augment = AS_IS) -> Clips:
    """Random clips: a pure function of the key.

    Args:
        pool: of `pool`.
        count: of clips.
        key: a whole number, or several, such as (seed, step).
        augment: how they vary.

    Returns:
        Clips (count, 2, half). Each half has the level that was drawn for the clip, or peaks at 0.99 where it
        would be louder.

    Example:
        >>> drawn = clips(pool(embedded(), SHORT_S), 3, key=(0, 7))
        >>> drawn.halves.shape
        (3, 2, 6360)
    """
    rng = np.random.default_rng(key)
    first = _drawn(pool, rng.choice(len(pool.tracks), count, p=pool.share), rng)
    if augment.mix:
        second = _drawn(pool, rng.choice(len(pool.tracks), count, p=pool.share), rng)
        ratio = _rms(first.halves) / np.maximum(_rms(second.halves), 1e-9)
        gain = _linear(rng.uniform(-12, 0, count)) * (rng.random(count) < augment.mix)
        first.halves[:] += (gain[:, None, None] * ratio).astype(np.float32) * second.halves
    halves = first.halves
    if augment.tilt_db:
        halves = _tilted(halves, rng.uniform(-1, 1, count) * augment.tilt_db, 300 * 10 ** rng.random(count))
    sign = np.where(rng.random(count) < augment.flip, -1.0, 1.0)
    level_db = rng.uniform(augment.low_db, augment.high_db, count)
    return Clips(levelled(halves, level_db[:, None]) * sign[:, None, None].astype(np.float32), first.names)


def fixed_clips(sources: Sequence[Source], seconds: float, count: int, key: Any) -> Clips:
    """Clips to test on: as they are, at -23 dBFS, as many of each recording, the recordings in turn.

    Args:
        sources: the test recordings.
        seconds: of a clip, both halves together.
        count: of clips.
        key: a whole number, or several.

    Returns:
        Clips (count, 2, half).

    Raises:
        ValueError: as `pool`.
    """
    made, rng = pool(sources, seconds), np.random.default_rng(key)
    order = rng.permutation(len(made.tracks))
    drawn = _drawn(made, order[np.arange(count) % len(order)], rng)
    return drawn._replace(halves=levelled(drawn.halves, AS_IS.low_db))


def levelled(x: np.ndarray, level_db: Any) -> np.ndarray:
    """Signals (..., n_samples) at an RMS level in dBFS, (...) or one for all; less where they would clip."""
    gain = _linear(np.asarray(level_db))[..., None] / np.maximum(_rms(x), 1e-9)
    peak = np.max(np.abs(x), axis=-1, keepdims=True)
    return x * np.minimum(gain, PEAK / np.maximum(peak, 1e-9)).astype(np.float32)


def _drawn(pool: Pool, chosen: np.ndarray, rng: np.random.Generator) -> Clips:
    halves = np.empty((len(chosen), 2, pool.half), np.float32)
    for row, number in enumerate(chosen):
        track = pool.tracks[number]
        start = track.starts[rng.integers(track.starts.size)]
        halves[row] = track.audio[start : start + 2 * pool.half].reshape(2, pool.half)
    return Clips(halves, [pool.tracks[number].name for number in chosen])


def _sped(x: np.ndarray, speed: float) -> np.ndarray:
    return audio.resample(x, round(speed * FS), FS)


def _long_enough(x: np.ndarray, kind: str, length: int) -> np.ndarray:
    short = kind == "loop" and len(x) < length
    return np.tile(x, 1 + math.ceil(length / len(x))) if short else x


def _starts(x: np.ndarray, half: int) -> np.ndarray:
    """Where both halves of a clip are loud enough, on a grid."""
    grid = np.arange(0, len(x) - 2 * half + 1, round(GRID_S * FS))
    energy = np.concatenate([[0.0], np.cumsum(np.square(x, dtype=np.float64))])
    least = 10 ** (GATE_DB / 10) * energy[-1] / max(len(x), 1) * half
    first = energy[grid + half] - energy[grid]
    second = energy[grid + 2 * half] - energy[grid + half]
    return grid[np.minimum(first, second) > least]


def _tilted(halves: np.ndarray, tilt_db: np.ndarray, centre_hz: np.ndarray) -> np.ndarray:
    """Through a shelf of first order, H(s) = (1 + s r / w) / (1 + s / (r w)) / r: gain 1 / r to r.

    By the bilinear transform, exact at w; it runs on from the first half to the second.
    """
    k = 1 / np.tan(np.pi * centre_hz / FS)
    r = _linear(tilt_db / 2)
    b = np.stack([1 + r * k, 1 - r * k], axis=-1) / r[:, None]
    a = np.stack([1 + k / r, 1 - k / r], axis=-1)
    clips = halves.reshape(len(halves), -1)
    tilted = [lfilter(*one) for one in zip(b.astype(np.float32), a.astype(np.float32), clips, strict=True)]
    return np.stack(tilted).reshape(halves.shape)


def _rms(x: np.ndarray) -> np.ndarray:
    return np.sqrt(np.mean(np.square(x), axis=-1, keepdims=True))


def _linear(db: np.ndarray) -> np.ndarray:
    return 10 ** (db / 20)
