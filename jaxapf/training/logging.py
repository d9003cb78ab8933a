"""Records of a training run: a line on the terminal, a metrics file, TensorBoard.

A record is a dict of numbers, `{"step": 1200, "loss": 0.0123, ...}`, made once per log interval. A sink is a
function of a record; `progress`, `open_metrics` and `open_tensorboard` are context managers that yield one,
and `track` joins several:

    with track(progress(5000), open_metrics("metrics.jsonl"), active=process == 0) as log:
        log({"step": 100, "loss": 0.5, "samples_per_s": 3.1e6})

`step` is always there; `progress` shows `loss`, `samples_per_s` and `skipped` (steps skipped so far).
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, TextIO

from jaxapf._internal.files import AudioError, PathLike, atomic_path, check_writable, reason
from jaxapf._internal.progress import progress as terminal_progress

__all__ = ["open_metrics", "open_tensorboard", "plain_record", "progress", "read_metrics", "track"]

Number = int | float
Record = Mapping[str, Any]
Sink = Callable[[Record], None]

_START = b'{"step": '  # of every line of a metrics file


# Several sinks at once


@contextlib.contextmanager
def track(*sinks: Sink | AbstractContextManager[Sink], active: bool = True) -> Iterator[Sink]:
    """Yield a sink that sends each record to several sinks, in their order; all are closed at the end.

    The sinks are functions of a record, or context managers that give one. With `active=False`, for all
    processes but the first, nothing is opened or written. TypeError where a record has no `step` or something
    that is no number.

    Example:
        >>> seen = []
        >>> with track(seen.append, print) as log:
        ...     log({"step": 1, "loss": 0.5})
        {'step': 1, 'loss': 0.5}
        >>> seen
        [{'step': 1, 'loss': 0.5}]
    """
    with contextlib.ExitStack() as stack:
        opened: list[Sink] = []
        for sink in sinks if active else ():
            opened.append(stack.enter_context(sink) if isinstance(sink, AbstractContextManager) else sink)

        def write(record: Record) -> None:
            if opened:
                plain = plain_record(record)
                for sink in opened:
                    sink(plain)

        yield write


def plain_record(record: Record) -> dict[str, Number]:
    """Return a record in Python's own numbers, `step` first; TypeError where it is none."""
    plain = {str(name): _plain_number(name, value) for name, value in record.items()}
    step = plain.pop("step", math.nan)
    if not (math.isfinite(step) and int(step) == step):
        raise TypeError(f"record['step'] is {step}; give the whole number of steps done")
    return {"step": int(step), **plain}


def _plain_number(name: str, value: Any) -> Number:
    number = value.item() if getattr(value, "size", None) == 1 else value
    if not isinstance(number, int | float):
        shape = getattr(value, "shape", None)
        found = f"an array of shape {shape}" if shape else type(value).__name__
        raise TypeError(f"record['{name}'] is {found}; a record holds single numbers")
    return number


# The terminal


@contextlib.contextmanager
def progress(n_steps: int, *, start: int = 0, stream: TextIO | None = None) -> Iterator[Sink]:
    """Show the newest record on one line of a terminal, which stays; write nothing into a pipe or a file.

    `n_steps` is the step at which the run ends and `start` that at which it began or went on; `stream` is
    standard error if None. The time left is known from the second record on. ValueError where `n_steps` is
    below 1.

    Example:
        >>> with progress(5000) as show:
        ...     show({"step": 1200, "loss": 0.0123, "samples_per_s": 3.1e6})
    """
    if n_steps < 1:
        raise ValueError(f"n_steps is {n_steps}; give the step at which the run ends, 1 or more")
    begin = f"step {start}/{n_steps}  compiling"
    with terminal_progress(n_steps, begin, start=start, stream=stream) as update:

        def show(record: Record) -> None:
            plain = plain_record(record)
            step, loss, speed = plain["step"], plain.get("loss"), plain.get("samples_per_s")
            parts = [f"step {step}/{n_steps}", "" if loss is None else f"loss {loss:.4g}"]
            parts += [f"{plain['skipped']:.0f} skipped" if plain.get("skipped") else ""]
            parts += ["" if speed is None else f"{short_number(speed)}samples/s"]
            update(step, description="  ".join(filter(None, parts)))

        yield show


def short_number(number: float) -> str:
    """Format a number in two or three digits with the prefix of its unit, as in "3.1 M"."""
    for unit, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")):
        if abs(number) >= 0.9995 * unit:
            scaled = number / unit
            return f"{scaled:.{int(abs(scaled) < 9.95)}f} {prefix}{' ' * bool(prefix)}"
    return f"{number:.2g} "


# The metrics file


@contextlib.contextmanager
def open_metrics(path: PathLike, *, after: int | None = None) -> Iterator[Sink]:
    """Append records to a metrics file: JSON lines, one a record, handed to the system one by one.

    A number that is not finite is written as null, for JSON has no other. What a killed run left half-written
    is cut off first, and so are records that the resumed run will write again: the file becomes that of a
    run that was never interrupted.

    Args:
        path: the file, new or of an earlier run.
        after: the step that the run goes on from: records of later steps are cut off; 0 starts anew. None
            keeps all.

    Raises:
        AudioError: the file cannot be written.
        ValueError: it is there and is no metrics file; it is left as it is.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for after in (0, 2):  # the second run goes on from step 2
        ...         with open_metrics(f"{folder}/metrics.jsonl", after=after) as write:
        ...             for step in (after + 1, after + 2, after + 3):
        ...                 write({"step": step, "run": after})
        ...     [(record["step"], record["run"]) for record in read_metrics(f"{folder}/metrics.jsonl")]
        [(1, 0), (2, 0), (3, 2), (4, 2), (5, 2)]
    """
    check_writable(path)
    if os.path.exists(path):
        _cut(path, after)
    try:
        file = open(path, "a", encoding="utf-8", newline="\n")  # noqa: SIM115
    except OSError as error:
        raise AudioError(f"'{path}' cannot be written: {reason(error)}") from error

    def write(record: Record) -> None:
        plain = plain_record(record)
        line = {name: value if math.isfinite(value) else None for name, value in plain.items()}
        try:
            file.write(json.dumps(line, allow_nan=False) + "\n")
            file.flush()
        except OSError as error:
            raise AudioError(f"'{path}' was not written: {reason(error)}") from error

    try:
        yield write
    finally:
        with contextlib.suppress(OSError):  # said at the write already
            file.close()


def read_metrics(path: PathLike) -> list[dict[str, Number]]:
    """Return the records of a metrics file in order, also while it is being written.

    Numbers that were not finite are NaN; a half-written last line is left out. ValueError where the file
    cannot be read or is no metrics file.

    Example:
        >>> read_metrics("missing.jsonl")
        Traceback (most recent call last):
        ValueError: 'missing.jsonl' cannot be read: it does not exist or is no regular file
    """
    return [
        {name: math.nan if value is None else value for name, value in record.items()}
        for _, record in _read(path)
    ]


def _read(path: PathLike) -> list[tuple[str, dict[str, Any]]]:
    """Lines and their records, without a half-written last one."""
    if not os.path.isfile(path):  # reading a pipe or a device may never end
        raise ValueError(f"'{path}' cannot be read: it does not exist or is no regular file")
    try:
        with open(path, "rb") as file:
            content = file.read().rstrip(b"\0")  # a power cut can leave zeros where text was to be
    except OSError as error:
        raise ValueError(f"'{path}' cannot be read: {reason(error)}") from error
    *lines, rest = content.split(b"\n")
    found = [_parsed(line) for line in lines]
    broken = next((n for n, one in enumerate(found, 1) if one is None), None)
    # What ends without a newline may be any file: only what starts as a record does is half of one.
    if broken is not None or not rest.startswith(_START[: len(rest)]):
        raise ValueError(
            f"'{path}' is not a metrics file (line {broken or len(lines) + 1} is not one); "
            "give a file that a training run wrote"
        )
    return [one for one in found if one is not None]


def _parsed(line: bytes) -> tuple[str, dict[str, Any]] | None:
    with contextlib.suppress(ValueError, RecursionError):
        text = line.decode()
        record = json.loads(text)
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            whole = all(value is None or isinstance(value, int | float) for value in record.values())
            return (text, record) if whole else None
    return None


def _cut(path: PathLike, after: int | None) -> None:
    kept = [line for line, record in _read(path) if after is None or 0 < after >= record["step"]]
    text = "".join(f"{line}\n" for line in kept).encode()
    if len(text) != os.path.getsize(path):
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            file.write(text)


# TensorBoard


@contextlib.contextmanager
def open_tensorboard(folder: PathLike, *, after: int | None = None) -> Iterator[Sink]:
    """Write the finite numbers of records as scalars for TensorBoard; needs the package tensorboardX.

    `folder` is made if missing; each opening adds an event file. `after` is the step that the run goes on
    from: TensorBoard then hides what an earlier run wrote for later steps (None hides nothing). AudioError
    where the folder cannot be written.

    Example:
        >>> with open_tensorboard("runs/a") as write:  # doctest: +SKIP
        ...     write({"step": 100, "loss": 0.5})
    """
    try:
        from tensorboardX import SummaryWriter  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(
            "TensorBoard files need the package tensorboardX; install it with "
            "pip install 'jaxapf[tensorboard]'"
        ) from error
    purge = None if after is None else after + (after > 0)
    try:
        # Event files are named by the second and read in the order of their names: two openings within
        # one second would share a file.
        suffix = f".{time.time_ns() % 10**9:09d}"
        writer = SummaryWriter(os.fspath(folder), purge_step=purge, flush_secs=10, filename_suffix=suffix)
    except OSError as error:
        raise AudioError(f"'{folder}' cannot be written: {reason(error)}") from error

    def write(record: Record) -> None:
        plain = plain_record(record)
        step = int(plain.pop("step"))
        for name, value in plain.items():
            if math.isfinite(value):
                writer.add_scalar(name, value, step)

    try:
        yield write
    finally:
        writer.close()
