"""Inputs of the commands at one rate, and outputs that may be written."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from jaxapf import audio
from jaxapf._internal.console import Progress


class UsageError(ValueError):
    """Wrong use, in one sentence for the user."""


class Source(NamedTuple):
    """An open input at the common rate: `read(start, stop)` gives float32 (n_channels, stop - start)."""

    path: str
    file: str  # what is read: `path`, or its resampled copy
    channels: Sequence[int] | None  # of `file`
    fs: int
    n_samples: int
    n_channels: int
    read: Callable[[int, int], np.ndarray]


@contextlib.contextmanager
def open_source(
    path: str, fs: int, channels: Sequence[int] | None, notes: list[str], show: Progress
) -> Iterator[Source]:
    """Open an input, resampled into a temporary file if its rate is another."""
    with contextlib.ExitStack() as stack:
        file, picked = path, channels
        found = audio.info(path)
        if found.fs != fs:
            show(f"Resampling {os.path.basename(path)}")
            file = os.path.join(
                stack.enter_context(tempfile.TemporaryDirectory(prefix="jaxapf-")), "resampled.wav"
            )
            audio.resample_file(path, file, fs, channels=channels)
            picked = None
            notes.append(f"'{path}' was resampled from {found.fs} to {fs} Hz")
        reader = stack.enter_context(audio.open_reader(file, channels=picked))
        yield Source(path, file, picked, fs, reader.info.n_samples, reader.n_channels, reader.read)


def check_outputs(inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Refuse, before the long work, outputs that would fail or destroy something."""
    for at, output in enumerate(outputs):
        for other in inputs:
            if _same_file(output, other):
                raise UsageError(f"'{output}' is an input file; give another name for the output")
        for other in outputs[:at]:
            if _same_file(output, other):
                raise UsageError(f"'{output}' is named for two outputs; give each its own name")
        audio.check_writable(output)


def _same_file(one: str, other: str) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samefile(one, other)
    return os.path.realpath(one) == os.path.realpath(other)
