"""Audio files in and out, resampling, test signals and segments.

Files go through soundfile (libsndfile): WAV, FLAC, AIFF and OGG, any subtype. Arrays are
`(channels, samples)`, time last. Every problem with a file that a user can cause or mend raises
`AudioError`, whose message is one sentence that names the file and says what to do. Outputs are
atomic: they appear complete under their name, or not at all. This module does not import JAX.
"""

import contextlib
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile as sf
import soxr

from jaxapf.files import (
    AudioError,
    PathLike,
    atomic_path,
    check_writable,
    os_error,
    promised_size,
    regular_file_size,
    write_text,
)

__all__ = [
    "AudioError",
    "AudioInfo",
    "Reader",
    "Writer",
    "atomic_path",
    "check_writable",
    "example_pair",
    "has_subtype",
    "info",
    "informative_segments",
    "log_sweep",
    "open_reader",
    "open_writer",
    "output_format",
    "output_subtype",
    "read",
    "read_blocks",
    "resample",
    "resample_file",
    "segment",
    "write",
    "write_text",
]

FORMATS = {
    ".wav": "WAV",
    ".wave": "WAV",
    ".flac": "FLAC",
    ".aif": "AIFF",
    ".aiff": "AIFF",
    ".ogg": "OGG",
    ".oga": "OGG",
}
BLOCK_SAMPLES = 2**18
# Classic WAV and AIFF count bytes in 32 bits; leave room for their headers.
_MAX_32BIT_BYTES = 2**32 - 2**16
# libsndfile's Vorbis encoder takes its whole argument at once, on the stack.
_WRITE_FRAMES = 2**15
_BYTES_PER_SAMPLE = {"PCM_S8": 1, "PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}
# Subtypes that hold values beyond full scale.
FLOAT_SUBTYPES = ("FLOAT", "DOUBLE")


class AudioInfo(NamedTuple):
    """What a file's header says: `fs` in Hz, `n_samples` per channel, libsndfile's format names."""

    path: str
    fs: int
    n_samples: int
    n_channels: int
    format: str
    subtype: str


# Reading


def info(path: PathLike) -> AudioInfo:
    """Check a file and return its properties without reading its samples.

    Args:
        path: an audio file.

    Returns:
        AudioInfo, with `fs` in Hz and `n_samples` per channel.

    Raises:
        AudioError: missing, not a regular file, empty, not audio, cut short, or without samples.

    Example:
        >>> dry_path, wet_path = example_pair()
        >>> info(dry_path).fs
        48000
    """
    with _open_input(path) as file:
        return _info(path, file)


def read(
    path: PathLike, *, start: int = 0, stop: int | None = None, channels: Sequence[int] | None = None
) -> tuple[np.ndarray, int]:
    """Read a file, or a part of it.

    Args:
        path: an audio file.
        start: first sample.
        stop: one past the last sample; None means the end.
        channels: 0-based channels to keep, in the order wanted; None keeps all.

    Returns:
        (x, fs): float32 samples (channels, stop - start), full scale 1.0; sample rate in Hz.

    Raises:
        AudioError: as `info`; a channel that is not there; a sample that is NaN or infinite.

    Example:
        >>> x, fs = read(example_pair()[0], stop=480)
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
    """Read a file block by block.

    Args:
        path: an audio file.
        block_samples: samples in a block; the last block is shorter.
        channels: 0-based channels to keep; None keeps all.

    Returns:
        Iterator of float32 blocks (channels, n).

    Raises:
        AudioError: as `read`.

    Example:
        >>> [block.shape for block in read_blocks(example_pair()[0], block_samples=200000)]
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
        self._file = file
        self._channels = None if channels is None else _checked_channels(path, self.info.n_channels, channels)
        self.n_channels = self.info.n_channels if channels is None else len(channels)
        self._at = 0
        # Telephone codecs (GSM 6.10, G.721) cannot seek; their files are small.
        self._whole = None if file.seekable() else self._decoded(self.info.n_samples)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return float32 samples (channels, stop - start)."""
        if self._whole is not None:
            x = self._whole[start:stop]
        else:
            self._seek(start)
            x = self._decoded(stop - start)
        if self._channels is not None:
            x = x[:, self._channels]
        if not np.isfinite(x).all():
            at, channel = np.argwhere(~np.isfinite(x))[0]
            raise AudioError(
                f"'{self.info.path}' holds a sample that is not a finite number ({x[at, channel]} at sample "
                f"{start + at} of channel {self._number(channel)}); export it again from its source"
            )
        return np.ascontiguousarray(x.T)

    def _seek(self, start: int) -> None:
        if start != self._at:
            try:
                self._at = self._file.seek(start)
            except sf.SoundFileError as error:
                raise _cut_short(self.info.path) from error

    def _decoded(self, n_samples: int) -> np.ndarray:
        try:
            x = self._file.read(n_samples, dtype="float32", always_2d=True)
        except sf.SoundFileError as error:
            raise _cut_short(self.info.path) from error
        if len(x) < n_samples:
            raise _cut_short(self.info.path)
        self._at += n_samples
        return x

    def _number(self, column: int) -> int:
        return 1 + (int(column) if self._channels is None else self._channels[column])


@contextlib.contextmanager
def open_reader(path: PathLike, *, channels: Sequence[int] | None = None) -> Iterator[Reader]:
    """Open a file for random access.

    Args:
        path: an audio file.
        channels: 0-based channels to keep; None keeps all.

    Returns:
        Context manager of a Reader, whose `.read(start, stop)` gives float32 (channels, stop - start).

    Raises:
        AudioError: as `read`.

    Example:
        >>> with open_reader(example_pair()[0]) as reader:
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
        return sf.SoundFile(_native_name(path))
    except (sf.SoundFileError, TypeError) as error:
        with contextlib.suppress(OSError), open(path, "rb") as raw:
            if raw.read(4) in (b"RIFF", b"RF64", b"FORM", b"fLaC", b"OggS", b"caff"):
                raise AudioError(
                    f"'{path}' begins like audio, but its header is damaged or cut short; copy it again"
                ) from error
        raise AudioError(
            f"'{path}' is not an audio file that can be read; give a WAV, FLAC, AIFF or OGG file"
        ) from error


def _native_name(path: PathLike) -> Any:
    # Bytes, because soundfile cannot encode every name that a POSIX file system allows.
    return os.fsencode(path) if os.name == "posix" else os.fspath(path)


def _info(path: PathLike, file: sf.SoundFile) -> AudioInfo:
    name = os.fspath(path)
    if file.frames == 0:
        raise AudioError(f"'{name}' holds no samples; export or copy it again")
    if file.frames >= 2**62:
        raise AudioError(f"'{name}' does not state its length; convert it, for example to WAV")
    promised = promised_size(path)
    if promised is not None and promised > os.stat(path).st_size:
        raise _cut_short(name)
    if file.format == "FLAC":
        _check_last_sample(name, file)
    return AudioInfo(name, file.samplerate, file.frames, file.channels, file.format, file.subtype)


def _check_last_sample(name: str, file: sf.SoundFile) -> None:
    # A FLAC header knows the number of samples, not of bytes: only decoding the last one tells.
    try:
        file.seek(file.frames - 1)
        complete = len(file.read(1)) == 1
        file.seek(0)
    except sf.SoundFileError:
        complete = False
    if not complete:
        raise _cut_short(name)


def _cut_short(name: PathLike) -> AudioError:
    return AudioError(
        f"'{name}' is damaged or cut short: its header promises more than is there; copy it again"
    )


def _checked_channels(path: PathLike, n_channels: int, channels: Sequence[int]) -> list[int]:
    for channel in channels:
        if not 0 <= channel < n_channels:
            have = "1 channel" if n_channels == 1 else f"{n_channels} channels"
            raise AudioError(
                f"'{path}' has {have}, so there is no channel {channel + 1}; choose from 1 to {n_channels}"
            )
    if not channels:
        raise ValueError("channels is empty; give at least one channel, or None for all")
    return list(channels)


# Writing


def output_format(path: PathLike) -> str:
    """Return the libsndfile format that a file name's suffix asks for.

    Args:
        path: an output file; only its suffix matters.

    Returns:
        'WAV', 'FLAC', 'AIFF' or 'OGG'.

    Raises:
        AudioError: no suffix, or one that cannot be written.

    Example:
        >>> output_format("mix/aligned.aif")
        'AIFF'
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        what = f"the suffix '{suffix}' is not one that can be written" if suffix else "the name has no suffix"
        raise AudioError(f"'{path}': {what}; use one of {', '.join(FORMATS)}")
    return FORMATS[suffix]


def output_subtype(path: PathLike, wanted: str | None = None, *, prefer: str | None = None) -> str:
    """Return the subtype (sample encoding) to write under a file name.

    Args:
        path: an output file; only its suffix matters.
        wanted: a subtype that the user asked for, such as 'PCM_24' or 'FLOAT'; upper or lower case.
        prefer: a subtype to use if nothing is wanted and the format has it.

    Returns:
        `wanted`, else `prefer` where it fits, else 'PCM_24' (OGG: 'VORBIS').

    Raises:
        AudioError: the format does not have the wanted subtype.

    Example:
        >>> output_subtype("aligned.flac", prefer="FLOAT")
        'PCM_24'
    """
    file_format = output_format(path)
    if wanted is not None:
        if not sf.check_format(file_format, wanted.upper()):
            names = ", ".join(sf.available_subtypes(file_format))
            raise AudioError(f"'{path}': {file_format} has no subtype '{wanted}'; use one of {names}")
        return wanted.upper()
    if prefer is not None and sf.check_format(file_format, prefer):
        return prefer
    return "VORBIS" if file_format == "OGG" else "PCM_24"


def has_subtype(path: PathLike, subtype: str) -> bool:
    """Return whether the format that a file name's suffix asks for has a subtype.

    Args:
        path: an output file; only its suffix matters.
        subtype: libsndfile's name, such as 'FLOAT'.

    Raises:
        AudioError: as `output_format`.

    Example:
        >>> has_subtype("a.wav", "FLOAT"), has_subtype("a.flac", "FLOAT")
        (True, False)
    """
    return sf.check_format(output_format(path), subtype)


def write(path: PathLike, x: Any, fs: int, *, subtype: str | None = None) -> None:
    """Write a file, atomically: it appears complete, or not at all.

    Values beyond full scale are kept where no subtype is given and the format has FLOAT; anywhere
    else they clip, with a warning.

    Args:
        path: output file; its suffix gives the format (WAV larger than 4 GiB becomes RF64).
        x: floating-point samples (T,) or (channels, T), full scale 1.0.
        fs: sample rate in Hz.
        subtype: libsndfile's name; None means PCM_24, or FLOAT beyond full scale (OGG: VORBIS).

    Raises:
        AudioError: unknown suffix or subtype, no such folder, no permission, disk full, samples
            that are NaN or infinite.
        ValueError: `x` has a wrong shape.
        TypeError: `x` is not floating-point.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write(f"{folder}/sweep.wav", log_sweep(0.1, 48000), 48000)
        ...     info(f"{folder}/sweep.wav").subtype
        'PCM_24'
    """
    x = np.asarray(x)
    if x.ndim not in (1, 2) or x.size == 0:
        raise ValueError(f"x must be (T,) or (channels, T) with samples in it, got shape {x.shape}")
    x = np.atleast_2d(x)
    peak = float(np.max(np.abs(x)))
    if subtype is None and peak > 1 and has_subtype(path, "FLOAT"):
        subtype = "FLOAT"
    with open_writer(path, fs, len(x), subtype=subtype, n_samples=x.shape[-1]) as writer:
        writer.write(x)
    if peak > 1 and writer.subtype not in FLOAT_SUBTYPES:
        warnings.warn(
            f"'{path}': the peak is {peak:.3g}, above full scale, and {writer.subtype} clips it; "
            "write FLOAT (WAV, AIFF) or lower the level",
            stacklevel=2,
        )


class Writer:
    """An open output: `.write(block)` appends, `.peak` is the largest magnitude so far."""

    def __init__(self, path: PathLike, temporary: str, file: sf.SoundFile) -> None:
        self.subtype = file.subtype
        self.n_samples = 0
        self.peak = 0.0
        self._path = path
        self._temporary = temporary
        self._file = file

    def write(self, block: Any) -> None:
        """Append floating-point samples (channels, n)."""
        block = np.asarray(block)
        if block.dtype not in (np.float32, np.float64):
            raise TypeError(
                f"samples must be float32 or float64 with full scale 1.0, got {block.dtype}; convert them"
            )
        if block.ndim != 2 or len(block) != self._file.channels:
            raise ValueError(f"a block must be ({self._file.channels}, n), got shape {block.shape}")
        if not np.isfinite(block).all():
            raise AudioError(f"'{self._path}' was not written: a sample is NaN or infinite")
        self._check_size(self.n_samples + block.shape[-1])
        self.peak = max(self.peak, float(np.max(np.abs(block), initial=0.0)))
        try:
            for start in range(0, block.shape[-1], _WRITE_FRAMES):
                self._file.write(np.ascontiguousarray(block[:, start : start + _WRITE_FRAMES].T))
        except (sf.SoundFileError, AssertionError) as error:
            # soundfile asserts that all frames were written.
            raise AudioError(f"'{self._path}' was not written: {_write_failure(self._temporary)}") from error
        self.n_samples += block.shape[-1]

    def _check_size(self, n_samples: int) -> None:
        size = n_samples * self._file.channels * _BYTES_PER_SAMPLE.get(self.subtype, 0)
        if self._file.format in ("WAV", "AIFF") and size > _MAX_32BIT_BYTES:
            raise AudioError(
                f"'{self._path}' would pass the 4 GiB that {self._file.format} can hold; write FLAC, or give "
                "n_samples beforehand so that a WAV becomes RF64"
            )


@contextlib.contextmanager
def open_writer(
    path: PathLike, fs: int, n_channels: int, *, subtype: str | None = None, n_samples: int | None = None
) -> Iterator[Writer]:
    """Open a file for writing block by block, atomically.

    The file appears under its name when the block ends well; any exception removes it.

    Args:
        path: output file; its suffix gives the format.
        fs: sample rate in Hz.
        n_channels: number of channels.
        subtype: libsndfile's name; None means PCM_24 (OGG: VORBIS).
        n_samples: samples per channel to come, if known: a WAV that will pass 4 GiB becomes RF64.

    Returns:
        Context manager of a Writer.

    Raises:
        AudioError: as `write`.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with open_writer(f"{folder}/a.flac", 48000, 2) as writer:
        ...         writer.write(np.zeros((2, 480)))
        ...     info(f"{folder}/a.flac").n_samples
        480
    """
    if not isinstance(fs, (int, np.integer)) or fs < 1:
        raise ValueError(f"fs must be a whole number of Hz, 1 or more, got {fs!r}")
    file_format = output_format(path)
    subtype = output_subtype(path, subtype)
    size = (n_samples or 0) * n_channels * _BYTES_PER_SAMPLE.get(subtype, 0)
    if file_format == "WAV" and size > _MAX_32BIT_BYTES and sf.check_format("RF64", subtype):
        file_format = "RF64"
    with atomic_path(path) as temporary:
        with _open_output(path, temporary, int(fs), n_channels, file_format, subtype) as file:
            writer = Writer(path, temporary, file)
            yield writer
        if writer.n_samples == 0:
            raise AudioError(f"'{path}' was not written: there are no samples")
        _verify(path, temporary, writer.n_samples)


def _open_output(
    path: PathLike, temporary: str, fs: int, n_channels: int, file_format: str, subtype: str
) -> sf.SoundFile:
    try:
        return sf.SoundFile(_native_name(temporary), "w", fs, n_channels, subtype, format=file_format)
    except sf.SoundFileError as error:
        if (reason := os_error(temporary)) is not None:
            raise AudioError(f"'{path}' was not written: {reason}") from error
        raise AudioError(
            f"'{path}': {file_format} {subtype} cannot hold {n_channels} channel(s) at {fs} Hz; "
            "use another format or subtype, for example WAV with PCM_24"
        ) from error


def _verify(path: PathLike, temporary: str, n_samples: int) -> None:
    # libsndfile does not report what goes wrong while it closes a file (the last block, the header).
    try:
        complete = info(temporary).n_samples >= n_samples
    except AudioError:
        complete = False
    if not complete:
        raise AudioError(f"'{path}' was not written: {_write_failure(temporary)}")


def _write_failure(temporary: str) -> str:
    return os_error(temporary) or "libsndfile could not finish it; use another format, subtype or folder"


# Signals


def resample(x: Any, fs_from: int, fs_to: int) -> np.ndarray:
    """Resample with soxr at its very high quality.

    Args:
        x: floating-point samples (..., T).
        fs_from: sample rate of `x` in Hz.
        fs_to: sample rate of the result in Hz.

    Returns:
        Samples (..., about T * fs_to / fs_from), same dtype; `x` itself for equal rates.

    Raises:
        ValueError: a rate is not positive.

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
    """Resample a file of any length into another, block by block, as `resample` does.

    Args:
        path: an audio file.
        output: output file; WAV and AIFF hold float samples, so nothing clips.
        fs: sample rate of the output in Hz.
        channels: 0-based channels to keep; None keeps all.

    Raises:
        AudioError: as `read` and `write`.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     resample_file(example_pair()[0], f"{folder}/a.wav", 24000)
        ...     info(f"{folder}/a.wav").n_samples
        171840
    """
    subtype = "FLOAT" if has_subtype(output, "FLOAT") else None
    with open_reader(path, channels=channels) as reader:
        n_samples = math.ceil(reader.info.n_samples * fs / reader.info.fs)
        stream = soxr.ResampleStream(reader.info.fs, fs, reader.n_channels, dtype="float32", quality="VHQ")
        with open_writer(output, fs, reader.n_channels, subtype=subtype, n_samples=n_samples) as writer:
            for start in range(0, reader.info.n_samples, BLOCK_SAMPLES):
                stop = min(start + BLOCK_SAMPLES, reader.info.n_samples)
                block = np.ascontiguousarray(reader.read(start, stop).T)
                writer.write(stream.resample_chunk(block, last=stop == reader.info.n_samples).T)


def log_sweep(
    duration_s: float, fs: int, *, low_hz: float = 20.0, high_hz: float = 20000.0, amplitude: float = 0.5
) -> np.ndarray:
    """Return an exponential sine sweep.

    Args:
        duration_s: length in seconds, > 0.
        fs: sample rate in Hz.
        low_hz: first frequency, > 0.
        high_hz: last frequency, low_hz < high_hz <= fs / 2.
        amplitude: peak value.

    Returns:
        float64 NumPy samples (round(duration_s * fs),); no fade.

    Raises:
        ValueError: a length or frequency out of range.

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
    """Cut a signal into segments of equal length, the short rest left out.

    Args:
        x: NumPy or JAX array (..., T).
        length: samples in a segment, 1 <= length <= T.
        hop: samples from one start to the next; None means `length`.

    Returns:
        (n_segments, ..., length), the same kind of array and dtype.

    Raises:
        ValueError: `length` or `hop` out of range.

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


def example_pair() -> tuple[Path, Path]:
    """Return the paths (dry, wet) of the example that ships with the package.

    Seven seconds of drums and guitar, dry and through a tape machine simulation; 48 kHz, 24 bit, mono,
    CC0 (`jaxapf/data/LICENSE.md`).

    Example:
        >>> [path.name for path in example_pair()]
        ['dry.flac', 'wet.flac']
    """
    folder = Path(str(resources.files("jaxapf") / "data"))
    return folder / "dry.flac", folder / "wet.flac"


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
    """Choose the stretches of a long pair that say most about the filter between them.

    Streams through both files once, and so finds their errors. Each stretch is described by the energy
    that dry and wet share in each third of an octave. Stretches are added one at a time, each the one
    that adds most to the sum of the logarithms of the bands' energies: loud stretches count, and bands
    not yet covered count more.

    Args:
        dry_path: audio file.
        wet_path: audio file of the same rate.
        n_samples: samples to look at, from the start.
        fs: their sample rate in Hz.
        channels: 0-based channels to look at; None means all.
        length: samples in a stretch; None means 30 s.
        count: how many stretches, at most.

    Returns:
        Up to `count` pairs (start, stop) in samples, ascending, without overlap.

    Raises:
        AudioError: as `read`.

    Example:
        >>> dry_path, wet_path = example_pair()
        >>> informative_segments(dry_path, wet_path, 48000 * 6, 48000, length=48000 * 2, count=2)
        [(96000, 192000), (192000, 288000)]
    """
    length = min(n_samples, 30 * fs) if length is None else length
    block = min(fs, length)
    per_stretch = length // block
    n_stretches = n_samples // (per_stretch * block)
    with open_reader(dry_path, channels=channels) as dry, open_reader(wet_path, channels=channels) as wet:
        energy = np.stack(
            [
                np.sqrt(
                    _band_energy(dry.read(at, at + block), fs) * _band_energy(wet.read(at, at + block), fs)
                )
                for at in range(0, n_stretches * per_stretch * block, block)
            ]
        )
        for at in range(n_stretches * per_stretch * block, n_samples, block):  # the rest, for its errors
            dry.read(at, min(at + block, n_samples))
            wet.read(at, min(at + block, n_samples))
    stretches = np.reshape(energy, (n_stretches, per_stretch, -1)).sum(axis=1)
    chosen = sorted(_most_informative(stretches, min(count, n_stretches)))
    return [(i * per_stretch * block, (i + 1) * per_stretch * block) for i in chosen]


def _band_energy(x: np.ndarray, fs: int) -> np.ndarray:
    """Energy (n_bands,) of (channels, n) samples in thirds of an octave from 25 Hz."""
    n = x.shape[-1]
    power = np.sum(np.abs(np.fft.rfft(x * np.hanning(n), axis=-1)) ** 2, axis=0)
    edges_hz = 25.0 * 2.0 ** (np.arange(math.floor(3 * math.log2(max(fs / 2, 51) / 25.0)) + 1) / 3)
    edges = np.searchsorted(np.fft.rfftfreq(n, 1 / fs), edges_hz)
    total = np.concatenate([[0.0], np.cumsum(power, dtype=np.float64)])
    return np.diff(total[edges])


def _most_informative(energy: np.ndarray, count: int) -> list[int]:
    """Indices of the `count` rows whose sum has the largest total log energy, chosen greedily."""
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
