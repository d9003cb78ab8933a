"""Level of a recording where it is not silent, and stretches that represent the whole."""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

__all__ = ["Powers", "level_db", "powers", "sounding", "typical"]

FRAME_S = 0.05
GATE_DB = 20.0  # below the mean: frames so much softer count as silence
SILENCE = 1e-7  # RMS; below -140 dBFS is only the dither of a 24-bit file
STRETCH_S = 5.0
MOST_S = 60.0  # of a recording, in stretches
SHORTEST_S = 0.25  # of a recording; style transfer was trained on 0.27 s and longer
LOWEST_HZ, HIGHEST_HZ = 8000, 192_000  # sample rates
_BLOCK = 2**18


class Powers(NamedTuple):
    """Mean squares in frames of 50 ms, (n_frames,): `mono` of the channels' mean, `channels` of all."""

    mono: np.ndarray
    channels: np.ndarray


def powers(read: Callable[[int, int], np.ndarray], n_samples: int, fs: int) -> Powers:
    """Return mean squares of `n_samples` >= 1, by block; `read(start, stop)` returns (channels, n).

    A last frame that is not whole is left out.
    """
    frame = min(max(1, round(FRAME_S * fs)), n_samples)
    block = max(1, _BLOCK // frame) * frame
    found = []
    for start in range(0, n_samples - frame + 1, block):
        stop = min(start + block, n_samples // frame * frame)
        x = read(start, stop).astype(np.float64)
        frames = x.reshape(len(x), -1, frame)
        found.append((np.mean(frames.mean(axis=0) ** 2, axis=-1), np.mean(frames**2, axis=(0, 2))))
    mono, channels = (np.concatenate(one) for one in zip(*found, strict=True))
    return Powers(mono, channels)


def level_db(power: np.ndarray) -> float:
    """Return the RMS in dBFS of the active frames of `power` (n_frames,); -inf for silence."""
    active = power[sounding(power)]
    return float(10 * np.log10(active.mean())) if active.size else -np.inf


def sounding(power: np.ndarray) -> np.ndarray:
    """Return which frames are active, at most 20 dB below the mean: (n_frames,) of bool."""
    some = power > SILENCE**2
    mean = power[some].mean() if some.any() else 0.0
    return some & (power >= 10 ** (-GATE_DB / 10) * mean)


def typical(power: np.ndarray, n_samples: int, fs: int) -> list[tuple[int, int]]:
    """Return stretches (start, stop) in samples that represent a recording: at most a minute, evenly spread.

    `power` is one of `Powers`; silence is avoided. A recording below ten seconds is one stretch, without the
    silence before and after.
    """
    active = sounding(power)
    frame = min(max(1, round(FRAME_S * fs)), n_samples)
    length = round(STRETCH_S / FRAME_S)
    count = min(int(MOST_S / STRETCH_S), len(power) // length)
    if count < 2:
        at = np.flatnonzero(active)
        return [(int(at[0]) * frame, (int(at[-1]) + 1) * frame)] if at.size else [(0, n_samples)]
    sums = np.concatenate([[0], np.cumsum(active)])
    scores = sums[length:] - sums[:-length]  # of the stretch that begins at each frame
    edges = np.linspace(0, len(power), count + 1).astype(int)
    found = [
        first + int(np.argmax(scores[first : last - length + 1])) for first, last in itertools.pairwise(edges)
    ]
    # Leave out stretches that are mostly silent, unless there is nothing else.
    kept = [one for one in found if scores[one] >= 0.5 * length] or [max(found, key=lambda one: scores[one])]
    return [(int(one) * frame, int(one + length) * frame) for one in kept]
