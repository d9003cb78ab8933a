"""Test signals, segments, and resampling of arrays and files."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import soxr

from jaxapf._internal.files import PathLike
from jaxapf.audio import reading
from jaxapf.audio.reading import open_reader
from jaxapf.audio.writing import has_subtype, open_writer

__all__ = ["informative_segments", "log_sweep", "resample", "resample_file", "segment"]


def resample(x: Any, fs_from: int, fs_to: int) -> np.ndarray:
    """Resample samples (..., T) with soxr at its very high quality; the dtype stays.

    ValueError if a rate, in Hz, is not positive.

    Example:
        >>> resample(np.zeros((2, 4800), np.float32), 48000, 44100).shape
        (2, 4410)
    """
    if fs_from <= 0 or fs_to <= 0:
        raise ValueError(f"fs_from and fs_to must be positive rates in Hz, got {fs_from} and {fs_to}")
    x = np.asarray(x)
    if fs_from == fs_to:
        return x
    columns = np.ascontiguousarray(x.reshape(-1, x.shape[-1]).T)
    y = soxr.resample(columns, fs_from, fs_to, quality="VHQ")
    return np.ascontiguousarray(y.T).reshape(*x.shape[:-1], -1)


def resample_file(
    path: PathLike, output: PathLike, fs: int, *, channels: Sequence[int] | None = None
) -> None:
    """Resample a file of any length to `fs` Hz, block by block, as `resample` does.

    Float samples where the format has them, so that nothing clips; `channels` and errors as `read` and
    `write`.

    Example:
        >>> import tempfile
        >>> from jaxapf import audio, datasets
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     audio.resample_file(datasets.example_pair()[0], f"{folder}/a.wav", 24000)
        ...     audio.info(f"{folder}/a.wav").n_samples
        171840
    """
    subtype = "FLOAT" if has_subtype(output, "FLOAT") else None
    with open_reader(path, channels=channels) as reader:
        n_samples = math.ceil(reader.info.n_samples * fs / reader.info.fs)
        stream = soxr.ResampleStream(reader.info.fs, fs, reader.n_channels, dtype="float32", quality="VHQ")
        with open_writer(output, fs, reader.n_channels, subtype=subtype, n_samples=n_samples) as writer:
            for start in range(0, reader.info.n_samples, reading.BLOCK_SAMPLES):
                stop = min(start + reading.BLOCK_SAMPLES, reader.info.n_samples)
                block = np.ascontiguousarray(reader.read(start, stop).T)
                writer.write(stream.resample_chunk(block, last=stop == reader.info.n_samples).T)


def log_sweep(
    duration_s: float, fs: int, *, low_hz: float = 20.0, high_hz: float = 20000.0, amplitude: float = 0.5
) -> np.ndarray:
    """Return an exponential sine sweep without fades, (round(duration_s * fs),) float64.

    ValueError unless 0 < low_hz < high_hz <= fs / 2 and there is a sample.

    Source: Farina, "Simultaneous measurement of impulse response and distortion with a swept-sine
    technique", AES Convention 108, 2000, eq. 5.

    Example:
        >>> log_sweep(10.0, 48000).shape
        (480000,)
    """
    if not 0 < low_hz < high_hz <= fs / 2:
        raise ValueError(f"need 0 < low_hz < high_hz <= fs / 2 = {fs / 2:g} Hz, got {low_hz} and {high_hz}")
    if not duration_s * fs >= 1:
        raise ValueError(f"duration_s must give at least one sample at {fs} Hz, got {duration_s}")
    t = np.arange(round(duration_s * fs)) / fs
    rate = math.log(high_hz / low_hz) / duration_s
    return amplitude * np.sin(2 * np.pi * low_hz / rate * np.expm1(t * rate))


def segment(x: Any, length: int, *, hop: int | None = None) -> Any:
    """Cut a NumPy or JAX array (..., T) into (n_segments, ..., length), without the short remainder.

    `hop` is the distance in samples from one start to the next; None means `length`. ValueError if it is
    below 1 or the length not within 1 to T.

    Example:
        >>> segment(np.arange(7), 3, hop=2)
        array([[0, 1, 2],
               [2, 3, 4],
               [4, 5, 6]])
    """
    hop = length if hop is None else hop
    if not 1 <= length <= x.shape[-1]:
        raise ValueError(f"length must be from 1 to the {x.shape[-1]} samples of x, got {length}")
    if hop < 1:
        raise ValueError(f"hop must be 1 or more, got {hop}")
    starts = np.arange(0, x.shape[-1] - length + 1, hop)
    return np.moveaxis(x[..., starts[:, None] + np.arange(length)], -2, 0)


def informative_segments(
    dry_path: PathLike,
    wet_path: PathLike,
    n_samples: int,
    fs: int,
    channels: Sequence[int] | None = None,
    *,
    length: int | None = None,
    count: int = 4,
) -> list[tuple[int, int]]:
    """Return the stretches (start, stop) in samples that determine the filter of a long pair best, ascending.

    Streams once through `n_samples` of both files, of one rate `fs` in Hz, which finds their errors as well.
    The feature of a stretch is the energy that dry and wet share in each third of an octave. Up to `count`
    stretches of `length` samples (None: 30 s) are added greedily, each the one that adds most to the sum of
    the logarithms of the bands' energies: loud stretches count, new bands more. `channels` and errors as
    `read`.

    Example:
        >>> from jaxapf import datasets
        >>> dry_path, wet_path = datasets.example_pair()
        >>> informative_segments(dry_path, wet_path, 48000 * 6, 48000, length=48000 * 2, count=2)
        [(96000, 192000), (192000, 288000)]
    """
    length = min(n_samples, 30 * fs) if length is None else length
    block = min(fs, length)
    per_stretch = length // block
    n_stretches = n_samples // (per_stretch * block)
    with open_reader(dry_path, channels=channels) as dry, open_reader(wet_path, channels=channels) as wet:
        energy = [
            np.sqrt(
                np.prod([_band_energy(one.read(at, min(at + block, n_samples)), fs) for one in (dry, wet)], 0)
            )
            for at in range(0, n_samples, block)  # also what is left behind the last stretch, for its errors
        ]
    stretches = np.reshape(energy[: n_stretches * per_stretch], (n_stretches, per_stretch, -1)).sum(axis=1)
    chosen = sorted(_most_informative(stretches, min(count, n_stretches)))
    return [(i * per_stretch * block, (i + 1) * per_stretch * block) for i in chosen]


def _band_energy(x: np.ndarray, fs: int) -> np.ndarray:
    """Return the energy of samples (channels, n) in thirds of an octave from 25 Hz."""
    n = x.shape[-1]
    power = np.sum(np.abs(np.fft.rfft(x * np.hanning(n), axis=-1)) ** 2, axis=0)
    edges_hz = 25.0 * 2.0 ** (np.arange(math.floor(3 * math.log2(max(fs / 2, 51) / 25.0)) + 1) / 3)
    edges = np.searchsorted(np.fft.rfftfreq(n, 1 / fs), edges_hz)
    total = np.concatenate([[0.0], np.cumsum(power, dtype=np.float64)])
    return np.diff(total[edges])


def _most_informative(energy: np.ndarray, count: int) -> list[int]:
    """Return `count` rows whose sum has the largest total log energy, chosen greedily."""
    # Bands 60 dB below the strongest, and what a hundredth of a band's best stretch adds, hardly count.
    floor = 1e-2 * energy.max(axis=0) + 1e-6 * energy.max() + np.finfo(float).tiny
    covered = np.zeros(energy.shape[1])
    chosen: list[int] = []
    for _ in range(count):
        gain = np.sum(np.log1p(energy / (floor + covered)), axis=1)
        gain[chosen] = -np.inf
        best = int(np.argmax(gain))
        chosen.append(best)
        covered += energy[best]
    return chosen
