"""Embedded data: three synthesised devices, the sweep that they are measured with, and music to test on.

Each device is a pure function (x (n_samples,), fs) -> y (n_samples,), float64, from rest: first-order
high-passes, second-order sections and a memoryless saturation, each by the bilinear transform at `fs`. With
H(f_c) a first-order high-pass, 1 / (1 - i f_c / f):

    coupling    a two-stage valve amplifier: H(12 Hz), saturation of 1.9 % with a bias, H(25 Hz)
    crossover   an inverting input stage, H(20 Hz), then a processor whose fourth-order Linkwitz-Riley bands,
                split at 100, 632 and 3984 Hz, add up to an all-pass of sixth order; saturation of 1.6 %
    tape        an inverting tape machine: H(15 Hz), pre-emphasis, saturation of 1.2 %, de-emphasis, a head
                bump of 2.5 dB at 60 Hz, the loss and the delay of the gap, and a low-pass at 24 kHz

The percentages are harmonics of a 1 kHz sine at half of full scale. An all-pass of seventh order, without any
delay or change of sign, can follow all three. Error-to-signal ratios on the sweep (and on the music):

                as it is         the best all-pass    jaxapf.align(order=7), fitted to the sweep
    coupling    0.152 (0.275)    0.0135 (0.0085)      0.0137 (0.0086)
    crossover   2.22 (1.83)      0.0043 (0.0019)      0.0045 (0.0021)
    tape        3.68 (3.29)      0.0211 (0.0364)      0.0269 (0.0431)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.signal

from jaxapf import audio, datasets

Device = Callable[[np.ndarray, float], np.ndarray]
Segment = tuple[str, float, float]

FS = 192_000
SWEEP_S = 10.0
PEAK = 0.5
CROSSOVERS_HZ = (100.0, 632.0, 3984.0)
GAP_S = 5 / 192_000  # 10 um of tape at 38 cm/s

# The embedded recording: jaxapf/data/LICENSE.md.
RECORDED = (("drums", 0.0, 3.76), ("guitar", 3.76, 7.16))
STEP_S = 60 / 132 / 4  # a sixteenth at 132 beats a minute

# Semitones above A1 (55 Hz), and how: "a" accent, "s" slide from the note before, "-" rest.
ACID = (
    (0, "a"), (0, ""), (12, ""), (0, "-"), (3, ""), (0, ""), (10, "a"), (12, "s"),
    (0, ""), (0, "-"), (15, "a"), (12, ""), (7, "s"), (0, ""), (3, ""), (5, "s"),
    (0, "a"), (12, ""), (0, ""), (10, ""), (0, "-"), (12, "a"), (15, "s"), (0, ""),
    (7, ""), (0, ""), (3, "a"), (0, "-"), (12, ""), (10, "s"), (7, "a"), (5, ""),
)  # fmt: skip
# Semitones above E1 (41.2 Hz) and length in sixteenths.
BASS = (
    (0, 3), (0, 3), (7, 2), (3, 3), (5, 1), (10, 2), (12, 2),
    (5, 3), (5, 3), (12, 2), (8, 2), (7, 2), (3, 2), (2, 2),
)  # fmt: skip


# Devices


def devices() -> dict[str, Device]:
    """The three devices by name."""
    return {"coupling": coupling, "crossover": crossover, "tape": tape}


def coupling(x: np.ndarray, fs: float) -> np.ndarray:
    """Two coupling capacitors with a valve between them, which saturates more on one side."""
    return high_pass(saturated(high_pass(x, 12.0, fs), 0.7, bias=0.1), 25.0, fs)


def crossover(x: np.ndarray, fs: float) -> np.ndarray:
    """An inverting input, bands split and added again, and a symmetric saturation.

    The bands are split in the middle first. Each half passes the all-pass to which the other half's own two
    bands add up, so that all four are in phase wherever they meet.
    """
    below, centre, above = CROSSOVERS_HZ
    low, high = bands(-high_pass(x, 20.0, fs), centre, fs)
    low, high = phase_turned(low, below, fs), phase_turned(high, above, fs)
    return saturated(phase_turned(low, above, fs) + phase_turned(high, below, fs), 0.9)


def tape(x: np.ndarray, fs: float) -> np.ndarray:
    """An inverting tape machine, its emphasis around the saturation, its heads behind it."""
    # (1 + s / w1) / (1 + s / w2): up to 6 dB more from 4 kHz on, which are taken back afterwards.
    up, down = scipy.signal.bilinear([1 / (2 * np.pi * 4000.0), 1.0], [1 / (2 * np.pi * 8000.0), 1.0], fs)
    y = saturated(filtered(up, down, -high_pass(x, 15.0, fs)), 0.8)
    y = bump(filtered(down, up, y), 60.0, 2.5, fs)
    gap = max(1, round(GAP_S * fs))  # sinc(f gap), and a delay of half the gap
    y = filtered(np.full(gap, 1 / gap), [1.0], y)
    b, a = np.asarray(scipy.signal.butter(2, min(24_000.0, 0.45 * fs), fs=fs))
    return filtered(b, a, y)


def filtered(b: Any, a: Any, x: np.ndarray) -> np.ndarray:
    """A filter from rest."""
    return np.asarray(scipy.signal.lfilter(b, a, x))


def high_pass(x: np.ndarray, cutoff_hz: float, fs: float) -> np.ndarray:
    """A coupling capacitor: s / (s + w)."""
    b, a = np.asarray(scipy.signal.butter(1, cutoff_hz, "high", fs=fs))
    return filtered(b, a, x)


def bands(x: np.ndarray, cutoff_hz: float, fs: float) -> tuple[np.ndarray, np.ndarray]:
    """What a fourth-order Linkwitz-Riley crossover sends to either side; the sum is an all-pass of x.

    Two Butterworth filters of second order in a row: (w^4 + s^4) / B(s)^2 = B(-s) / B(s), with
    B(s) = s^2 + sqrt(2) w s + w^2.
    """
    low, high = (
        np.asarray(scipy.signal.butter(2, cutoff_hz, kind, fs=fs, output="sos")) for kind in ("low", "high")
    )
    once = scipy.signal.sosfilt(low, x), scipy.signal.sosfilt(high, x)
    return np.asarray(scipy.signal.sosfilt(low, once[0])), np.asarray(scipy.signal.sosfilt(high, once[1]))


def phase_turned(x: np.ndarray, cutoff_hz: float, fs: float) -> np.ndarray:
    """Both bands added again: an all-pass of second order."""
    low, high = bands(x, cutoff_hz, fs)
    return low + high


def bump(x: np.ndarray, centre_hz: float, gain_db: float, fs: float) -> np.ndarray:
    """(s^2 + A w s + w^2) / (s^2 + w s / A + w^2): gain A^2 at the centre."""
    w = 2 * fs * np.tan(np.pi * centre_hz / fs)
    root = 10 ** (gain_db / 40)
    return filtered(*scipy.signal.bilinear([1.0, root * w, w**2], [1.0, w / root, w**2], fs), x)


def saturated(x: np.ndarray, drive: float, *, bias: float = 0.0) -> np.ndarray:
    """(tanh(drive x + bias) - tanh(bias)) / c, with c such that a sine of amplitude 0.5 keeps its level."""
    sine = np.sin(2 * np.pi * np.arange(64) / 64)
    level = 2 * np.mean(np.tanh(drive * PEAK * sine + bias) * sine) / PEAK
    return (np.tanh(drive * np.asarray(x, np.float64) + bias) - np.tanh(bias)) / level


# Signals


def sweep(fs: int = FS) -> np.ndarray:
    """The training signal: a logarithmic sweep of ten seconds, 20 Hz to 20 kHz, at half of full scale."""
    return audio.log_sweep(SWEEP_S, fs, amplitude=PEAK)


def loops() -> tuple[np.ndarray, int, list[Segment]]:
    """The test music: drums, guitar, acid bassline and plucked bass, each at half of full scale.

    Returns:
        (x, fs, segments): float64 (n_samples,); 192 kHz; (name, start_s, end_s) of each.
    """
    recorded, fs = audio.read(datasets.example_pair()[0])
    parts = {name: recorded[0, round(start * fs) : round(end * fs)] for name, start, end in RECORDED}
    parts |= {"acid_bassline": acid_bassline(fs), "plucked_bass": plucked_bass(fs)}
    music, segments, at = [], [], 0
    for name, part in parts.items():
        high = audio.resample(np.asarray(part, np.float64), fs, FS)
        music.append(high * (PEAK / np.max(np.abs(high))))
        segments.append((name, at / FS, (at + len(high)) / FS))
        at += len(high)
    return np.concatenate(music), FS, segments


def acid_bassline(fs: int) -> np.ndarray:
    """A sawtooth through a resonant four-pole low-pass, whose frequency falls during each note.

    Partials below 9 kHz, each with the magnitude of 1 / ((1 + i f / f_c)^4 + k) at its frequency.
    """
    n = round(STEP_S * fs)
    since_s = np.arange(n) / fs
    y, phase, last = [], 0.0, 0
    for semitone, manner in ACID:
        glide = np.exp(-since_s / 0.02) * (last - semitone if "s" in manner else 0)
        pitch_hz = 55.0 * 2 ** ((semitone + glide) / 12)
        cycles = phase + np.cumsum(pitch_hz) / fs
        phase, last = cycles[-1] % 1, semitone
        accent = "a" in manner
        cutoff_hz = 250.0 + (2600.0 if accent else 1300.0) * np.exp(-since_s / (0.05 if accent else 0.09))
        partial = np.arange(1, int(9000 / pitch_hz.max()) + 1)[:, None]
        r2 = (partial * pitch_hz / cutoff_hz) ** 2
        magnitude = 1 / np.sqrt((1 - 6 * r2 + r2**2 + 3.2) ** 2 + 16 * r2 * (1 - r2) ** 2)
        loudness = (0.0 if manner == "-" else 1.4 if accent else 1.0) * _gate(n, fs)
        y.append(loudness * np.sum(magnitude / partial * np.sin(2 * np.pi * cycles * partial), axis=0))
    return np.concatenate(y)


def plucked_bass(fs: int) -> np.ndarray:
    """A string plucked near its end: each mode decays on its own, high ones faster."""
    y = []
    for semitone, steps in BASS:
        n = round(steps * STEP_S * fs)
        since_s = np.arange(n) / fs
        pitch_hz = 41.2 * 2 ** (semitone / 12)
        mode = np.arange(1, int(5000 / pitch_hz) + 1)[:, None]
        freqs_hz = pitch_hz * mode * np.sqrt(1 + 1e-4 * mode**2)  # stiffness
        level = np.sin(np.pi * 0.17 * mode) / mode * np.exp(-since_s * (1.5 + 0.06 * mode**2))
        y.append(_gate(n, fs) * np.sum(level * np.sin(2 * np.pi * freqs_hz * since_s), axis=0))
    return np.concatenate(y)


def _gate(n: int, fs: int) -> np.ndarray:
    """A note's beginning and end without a click: 3 ms and 15 ms of raised cosine."""
    gate = np.ones(n)
    for length, side in ((round(0.003 * fs), slice(None)), (round(0.015 * fs), slice(None, None, -1))):
        gate[side][:length] *= 0.5 - 0.5 * np.cos(np.pi * np.arange(length) / length)
    return gate
