"""Audio files in: properties, and samples as a whole, block by block or at any place."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import soundfile as sf

from jaxapf._internal.files import AudioError, PathLike, declared_size, regular_file_size
from jaxapf._internal.text import count

__all__ = ["BLOCK_SAMPLES", "AudioInfo", "Reader", "info", "open_reader", "read", "read_blocks"]

BLOCK_SAMPLES = 2**18


class AudioInfo(NamedTuple):
    """The header of a file: `fs` in Hz, `n_samples` per channel, libsndfile's format names."""

    path: str
    fs: int
    n_samples: int
    n_channels: int
    format: str
    subtype: str


def info(path: PathLike) -> AudioInfo:
    """Check a file and return its properties without reading its samples.

    AudioError if it is missing, not a regular file, empty, not audio, cut short, or without samples.

    Example:
        >>> from jaxapf import audio, datasets
        >>> audio.info(datasets.example_pair()[0]).fs
        48000
    """
    with _open_input(path) as file:
        return _info(path, file)


def read(
    path: PathLike, *, start: int = 0, stop: int | None = None, channels: Sequence[int] | None = None
) -> tuple[np.ndarray, int]:
    """Return float32 samples (channels, stop - start) of a file, full scale 1.0, and its sample rate in Hz.

    `stop` None means the end; `channels` are 0-based, in the order wanted, None for all. AudioError as
    `info`, and for a missing channel or a sample that is NaN or infinite.

    Example:
        >>> from jaxapf import audio, datasets
        >>> x, fs = audio.read(datasets.example_pair()[0], stop=480)
        >>> x.shape, x.dtype, fs
        ((1, 480), dtype('float32'), 48000)
    """
    with open_reader(path, channels=channels) as reader:
        stop = reader.info.n_samples if stop is None else stop
        if not 0 <= start <= stop <= reader.info.n_samples:
            raise ValueError(
                f"start and stop must satisfy 0 <= start <= stop <= {reader.info.n_samples}, "
                f"got {start} and {stop}"
            )
        return reader.read(start, stop), reader.info.fs


def read_blocks(
    path: PathLike, *, block_samples: int = BLOCK_SAMPLES, channels: Sequence[int] | None = None
) -> Iterator[np.ndarray]:
    """Yield a file as float32 blocks (channels, block_samples), the last one shorter; errors as `read`.

    Example:
        >>> from jaxapf import audio, datasets
        >>> dry_path, wet_path = datasets.example_pair()
        >>> [block.shape for block in audio.read_blocks(dry_path, block_samples=200000)]
        [(1, 200000), (1, 143680)]
    """
    if block_samples < 1:
        raise ValueError(f"block_samples must be 1 or more, got {block_samples}")
    with open_reader(path, channels=channels) as reader:
        for start in range(0, reader.info.n_samples, block_samples):
            yield reader.read(start, min(start + block_samples, reader.info.n_samples))


class Reader:
    """Random access to an open file: `.info` is its AudioInfo, `.read(start, stop)` its samples."""

    def __init__(self, path: PathLike, file: sf.SoundFile, channels: Sequence[int] | None) -> None:
        self.info = _info(path, file)
        every = range(self.info.n_channels)
        for channel in channels or ():
            if channel not in every:
                raise AudioError(
                    f"'{path}' has {count(len(every), 'channel')}, so there is no channel {channel + 1}; "
                    f"choose from 1 to {len(every)}"
                )
        if channels is not None and not channels:
            raise ValueError("channels is empty; give at least one channel, or None for all")
        self._channels = list(every if channels is None else channels)
        self.n_channels = len(self._channels)
        self._file, self._at = file, 0
        # Telephone codecs (GSM 6.10, G.721) cannot seek; their files are small.
        self._whole = None if file.seekable() else self._decoded(0, self.info.n_samples)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return float32 samples (channels, stop - start)."""
        x = self._decoded(start, stop - start) if self._whole is None else self._whole[start:stop]
        x = np.ascontiguousarray(x.T[self._channels])
        if not np.isfinite(x).all():
            at, channel = np.argwhere(~np.isfinite(x.T))[0]
            raise AudioError(
                f"'{self.info.path}' holds a sample that is not a finite number ({x[channel, at]} at sample "
                f"{start + at} of channel {1 + self._channels[channel]}); export it again from its source"
            )
        return x

    def _decoded(self, start: int, n_samples: int) -> np.ndarray:
        try:
            if start != self._at:
                self._at = self._file.seek(start)
            x = self._file.read(n_samples, dtype="float32", always_2d=True)
        except sf.SoundFileError as error:
            raise _cut_short(self.info.path) from error
        if len(x) < n_samples:
            raise _cut_short(self.info.path)
        self._at += n_samples
        return x


@contextlib.contextmanager
def open_reader(path: PathLike, *, channels: Sequence[int] | None = None) -> Iterator[Reader]:
    """Open a file for random access: a context manager of a `Reader`; `channels` and errors as `read`.

    Example:
        >>> from jaxapf import audio, datasets
        >>> with audio.open_reader(datasets.example_pair()[0]) as reader:
        ...     reader.read(100, 164).shape
        (1, 64)
    """
    with _open_input(path) as file:
        yield Reader(path, file, channels)


def _open_input(path: PathLike) -> sf.SoundFile:
    size = regular_file_size(path)
    if size == 0:
        raise AudioError(f"'{path}' is empty (0 bytes); export or copy it again")
    try:
        return sf.SoundFile(native_name(path))
    except (sf.SoundFileError, TypeError) as error:
        with contextlib.suppress(OSError), open(path, "rb") as raw:
            if raw.read(4) in (b"RIFF", b"RF64", b"FORM", b"fLaC", b"OggS", b"caff"):
                raise AudioError(
                    f"'{path}' begins like audio, but its header is damaged or cut short; copy it again"
                ) from error
        raise AudioError(
            f"'{path}' is not an audio file that can be read; give a WAV, FLAC, AIFF or OGG file"
        ) from error


def native_name(path: PathLike) -> Any:
    # Bytes, because soundfile cannot encode every name that a POSIX file system allows.
    return os.fsencode(path) if os.name == "posix" else os.fspath(path)


def _info(path: PathLike, file: sf.SoundFile) -> AudioInfo:
    name = os.fspath(path)
    if file.frames == 0:
        raise AudioError(f"'{name}' holds no samples; export or copy it again")
    if file.frames >= 2**62:
        raise AudioError(f"'{name}' does not state its length; convert it, for example to WAV")
    complete = (declared_size(path) or 0) <= os.stat(path).st_size
    if file.format == "FLAC" and complete:
        # A FLAC header has the number of samples, not of bytes: decode the last sample to know.
        try:
            file.seek(file.frames - 1)
            complete = len(file.read(1)) == 1
            file.seek(0)
        except sf.SoundFileError:
            complete = False
    if not complete:
        raise _cut_short(name)
    return AudioInfo(name, file.samplerate, file.frames, file.channels, file.format, file.subtype)


def _cut_short(name: PathLike) -> AudioError:
    return AudioError(
        f"'{name}' is damaged or cut short: it is shorter than its header states; copy it again"
    )
