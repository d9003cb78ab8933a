"""Inputs of the commands: files at one rate, pairs of them, models; and outputs that may be written."""

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxapf import audio
from jaxapf._internal.text import count
from jaxapf.cli.arguments import PairOptions, UsageError, usage_errors
from jaxapf.cli.jax_setup import start_jax
from jaxapf.cli.output import Job

MIN_SAMPLES = 64
# Below -140 dBFS there is nothing but the dither of a 24-bit file.
SILENCE = 1e-7
MAX_LENGTH_DIFFERENCE = 0.01


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
def open_source(path: str, fs: int, channels: Sequence[int] | None, job: Job) -> Iterator[Source]:
    """Open an input, resampled into a temporary file if its rate is another."""
    with contextlib.ExitStack() as stack:
        file, picked = path, channels
        found = audio.info(path)
        if found.fs != fs:
            job.show(f"Resampling {os.path.basename(path)}")
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="jaxapf-"))
            file, picked = os.path.join(folder, "resampled.wav"), None
            audio.resample_file(path, file, fs, channels=channels)
            job.notes.append(f"'{path}' was resampled from {found.fs} to {fs} Hz")
        reader = stack.enter_context(audio.open_reader(file, channels=picked))
        yield Source(path, file, picked, fs, reader.info.n_samples, reader.n_channels, reader.read)


def silent(path: str, purpose: str) -> UsageError:
    """Return the refusal of a silent input."""
    return UsageError(f"'{path}' is silent, so there is nothing to {purpose}; check the file or --channels")


def check_channels(found: audio.AudioInfo, channels: Sequence[int] | None) -> None:
    """Refuse channels that a file does not have."""
    missing = [c + 1 for c in channels or () if c >= found.n_channels]
    if missing:
        raise UsageError(
            f"argument --channels: '{found.path}' has {count(found.n_channels, 'channel')} "
            f"and no channel {missing[0]}"
        )


def check_outputs(inputs: Sequence[str], outputs: Sequence[str | None]) -> None:
    """Refuse, before the long work, outputs that would fail or destroy something."""
    named = [output for output in outputs if output is not None]
    for at, output in enumerate(named):
        if any(_same_file(output, other) for other in inputs):
            raise UsageError(f"'{output}' is an input file; give another name for the output")
        if any(_same_file(output, other) for other in named[:at]):
            raise UsageError(f"'{output}' is named for two outputs; give each its own name")
        audio.check_writable(output)


def _same_file(one: str, other: str) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samefile(one, other)
    return os.path.realpath(one) == os.path.realpath(other)


# Pairs


def check_pair(options: PairOptions) -> tuple[audio.AudioInfo, audio.AudioInfo]:
    """Refuse two files that are no pair."""
    dry, wet = audio.info(options.dry), audio.info(options.wet)
    if options.channels is None and dry.n_channels != wet.n_channels:
        raise UsageError(
            f"'{dry.path}' has {count(dry.n_channels, 'channel')} and '{wet.path}' has "
            f"{count(wet.n_channels, 'channel')}; pick the same ones of both, for example --channels 1"
        )
    for one in (dry, wet):
        check_channels(one, options.channels)
        _check_length(one.path, one.n_samples)
    if dry.fs != wet.fs and options.resample is None:
        raise UsageError(
            f"'{dry.path}' is at {dry.fs} Hz and '{wet.path}' at {wet.fs} Hz; "
            "add --resample to bring the dry file to the wet file's rate"
        )
    dry_s, wet_s = dry.n_samples / dry.fs, wet.n_samples / wet.fs
    if abs(dry_s - wet_s) > MAX_LENGTH_DIFFERENCE * max(dry_s, wet_s):
        raise UsageError(
            f"'{dry.path}' lasts {dry_s:.3f} s and '{wet.path}' {wet_s:.3f} s, more than 1 % apart; "
            "trim them to the same start and length"
        )
    return dry, wet


def _check_length(path: str, n_samples: int, rate: str = "") -> None:
    if n_samples < MIN_SAMPLES:
        raise UsageError(f"'{path}' holds {count(n_samples, 'sample')}{rate}, too few to work with")


@contextlib.contextmanager
def open_pair(options: PairOptions, job: Job) -> Iterator[tuple[Source, Source]]:
    """Open both inputs at one rate and one length."""
    fs = options.resample or audio.info(options.wet).fs
    with (
        open_source(options.dry, fs, options.channels, job) as dry,
        open_source(options.wet, fs, options.channels, job) as wet,
    ):
        n_samples = min(dry.n_samples, wet.n_samples)
        for source in (dry, wet):
            if cut := source.n_samples - n_samples:
                job.notes.append(f"'{source.path}' is longer: its last {count(cut, 'sample')} were left out")
        _check_length(dry.path, n_samples, f" at {fs} Hz")
        yield dry._replace(n_samples=n_samples), wet._replace(n_samples=n_samples)


# Models


def check_model(path: str) -> str:
    """Return the format of a model; refuse what is plainly none before JAX starts."""
    if not os.path.exists(path):
        raise UsageError(f"'{path}' does not exist; check the name and the folder")
    if not os.path.isfile(path):
        raise UsageError(f"'{path}' is not a regular file; give a model that jaxapf wrote")
    found = None
    try:
        with contextlib.suppress(ValueError, RecursionError):
            found = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"'{path}' cannot be opened: {(error.strerror or '').lower()}") from error
    if not isinstance(found, dict):
        raise UsageError(
            f"'{path}' is not a model; give a file that jaxapf wrote, such as by 'jaxapf align --model'"
        )
    return str(found.get("format"))


def load_model(path: str) -> tuple[str, Any]:
    """Return the kind of a model, "model", "effect" or "style", and the model."""
    found = check_model(path)
    start_jax()
    with usage_errors():
        if found == "jaxapf-style":
            from jaxapf.effects.style import transfer

            return "style", transfer.load(path)
        if found == "jaxapf-effect":
            from jaxapf.effects import modelling

            return "effect", modelling.EffectModel.load(path)
        from jaxapf import alignment

        return "model", alignment.Alignment.load(path)
