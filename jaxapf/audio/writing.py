"""Audio files out, atomically: they appear complete under their name, or not at all."""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf

from jaxapf._internal.files import AudioError, PathLike, atomic_path, os_error
from jaxapf.audio.reading import info, native_name

__all__ = [
    "FLOAT_SUBTYPES",
    "FORMATS",
    "Writer",
    "has_subtype",
    "open_writer",
    "output_format",
    "output_subtype",
    "write",
]

FORMATS = {".wav": "WAV", ".wave": "WAV", ".flac": "FLAC", ".aif": "AIFF", ".aiff": "AIFF"}
FORMATS |= {".ogg": "OGG", ".oga": "OGG"}
# Classic WAV and AIFF count bytes in 32 bits; leave room for their headers.
_MAX_32BIT_BYTES = 2**32 - 2**16
# libsndfile's Vorbis encoder takes its whole argument at once, on the stack.
_WRITE_FRAMES = 2**15
_BYTES_PER_SAMPLE = {"PCM_S8": 1, "PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}
# Subtypes that hold values beyond full scale.
FLOAT_SUBTYPES = ("FLOAT", "DOUBLE")


def output_format(path: PathLike) -> str:
    """Return the libsndfile format of a file name's suffix: 'WAV', 'FLAC', 'AIFF', 'OGG'; else AudioError.

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
    """Return the subtype for a file name: `wanted`, else `prefer` if it fits, else PCM_24 (OGG: VORBIS).

    AudioError if the format does not have the wanted subtype, such as 'PCM_24' or 'FLOAT' in either case.

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
    """Return whether the format of a file name's suffix has a subtype (libsndfile's name, such as 'FLOAT').

    Example:
        >>> has_subtype("a.wav", "FLOAT"), has_subtype("a.flac", "FLOAT")
        (True, False)
    """
    return sf.check_format(output_format(path), subtype)


def write(path: PathLike, x: Any, fs: int, *, subtype: str | None = None) -> None:
    """Write samples (T,) or (channels, T), full scale 1.0, at `fs` Hz to a file; complete or not at all.

    The suffix gives the format (WAV larger than 4 GiB becomes RF64). `subtype` is libsndfile's name; None
    means PCM_24, or FLOAT beyond full scale (OGG: VORBIS). Where values beyond full scale clip, a warning.

    Raises:
        AudioError: unknown suffix or subtype, no such folder, no permission, disk full, a sample not finite.
        ValueError: `x` has a wrong shape; TypeError: it is not floating-point.

    Example:
        >>> import tempfile
        >>> from jaxapf import audio
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     audio.write(f"{folder}/sweep.wav", audio.log_sweep(0.1, 48000), 48000)
        ...     audio.info(f"{folder}/sweep.wav").subtype
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
        self.n_samples, self.peak = 0, 0.0
        self._path, self._temporary, self._file = path, temporary, file

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
        n_samples = self.n_samples + block.shape[-1]
        size = _size(n_samples, len(block), self.subtype)
        if self._file.format in ("WAV", "AIFF") and size > _MAX_32BIT_BYTES:
            raise AudioError(
                f"'{self._path}' would pass the 4 GiB that {self._file.format} can hold; write FLAC, or give "
                "n_samples beforehand so that a WAV becomes RF64"
            )
        self.peak = max(self.peak, float(np.max(np.abs(block), initial=0.0)))
        try:
            for start in range(0, block.shape[-1], _WRITE_FRAMES):
                self._file.write(np.ascontiguousarray(block[:, start : start + _WRITE_FRAMES].T))
        except (sf.SoundFileError, AssertionError) as error:
            # soundfile asserts that all frames were written.
            raise AudioError(f"'{self._path}' was not written: {_write_failure(self._temporary)}") from error
        self.n_samples = n_samples


def _size(n_samples: int, n_channels: int, subtype: str) -> int:
    return n_samples * n_channels * _BYTES_PER_SAMPLE.get(subtype, 0)


@contextlib.contextmanager
def open_writer(
    path: PathLike, fs: int, n_channels: int, *, subtype: str | None = None, n_samples: int | None = None
) -> Iterator[Writer]:
    """Open a file to write block by block: a context manager of a `Writer`; an exception removes the file.

    Format, subtype and errors as `write`, but None always means PCM_24 (OGG: VORBIS). With `n_samples` per
    channel to come, a WAV that will pass 4 GiB becomes RF64.

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
    if file_format == "WAV" and _size(n_samples or 0, n_channels, subtype) > _MAX_32BIT_BYTES:
        file_format = "RF64" if sf.check_format("RF64", subtype) else file_format
    with atomic_path(path) as temporary:
        try:
            file = sf.SoundFile(native_name(temporary), "w", int(fs), n_channels, subtype, format=file_format)
        except sf.SoundFileError as error:
            if (reason := os_error(temporary)) is not None:
                raise AudioError(f"'{path}' was not written: {reason}") from error
            raise AudioError(
                f"'{path}': {file_format} {subtype} cannot hold {n_channels} channel(s) at {fs} Hz; "
                "use another format or subtype, for example WAV with PCM_24"
            ) from error
        with file:
            writer = Writer(path, temporary, file)
            yield writer
        if writer.n_samples == 0:
            raise AudioError(f"'{path}' was not written: it has no samples")
        _verify(path, temporary, writer.n_samples)


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
