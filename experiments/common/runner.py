"""What the experiments share: Markdown tables, goals met or missed, versions, progress on a terminal."""

import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from jaxapf._internal.files import reason, write_text
from jaxapf._internal.version import __version__

Row = dict[str, Any]

PICTURES: Any = {  # matplotlib's settings
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "svg.hashsalt": "jaxapf",  # equal pictures give equal files
}


def table(rows: Sequence[Row], cell: Callable[[str, Any], str]) -> str:
    """Rows of equal keys as a Markdown table; `cell(column, value)` is a value as it is shown.

    Example:
        >>> print(table([{"a": 1, "b": 2}], lambda column, value: f"{column}{value}"))
        | a | b |
        | --- | --- |
        | a1 | b2 |
    """
    lines = [list(rows[0]), ["---"] * len(rows[0])]
    lines += [[cell(column, value) for column, value in row.items()] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def verdict(goals: Sequence[Row], cell: Callable[[str, Any], str]) -> str:
    """Which goals were met, and plainly which were missed.

    Example:
        >>> verdict([{"goal": "at most 3", "value": 4, "met": False}], lambda column, value: str(value))
        'Goals met: 0 of 1. **Missed**: at most 3 (4).'
    """
    missed = [f"{one['goal']} ({cell('', one['value'])})" for one in goals if not one["met"]]
    met = f"Goals met: {len(goals) - len(missed)} of {len(goals)}."
    return f"{met} **Missed**: {'; '.join(missed)}." if missed else met


def updated(text: str, tables: str, name: str) -> str:
    """A text with the tables between its markers, `<!-- NAME:begin -->` and `<!-- NAME:end -->`.

    Raises:
        ValueError: the markers are not there once each, in order.

    Example:
        >>> updated("<!-- x:begin --> old <!-- x:end -->", "new ", "x")
        '<!-- x:begin -->\\nnew <!-- x:end -->'
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, found_begin, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end) or begin in rest or end in before + after:
        raise ValueError(f"needs one line '{begin}' and, after it, one line '{end}'")
    return f"{before}{begin}\n{tables}{end}{after}"


def put_tables(path: Path, tables: str | None, name: str) -> None:
    """Put tables between the markers of a file; None only checks that they are there.

    Raises:
        ValueError: the file cannot be read or written, or the markers are not there.
    """
    try:
        changed = updated(path.read_text(encoding="utf-8"), tables or "", name)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"--update '{path}' cannot be updated: {reason}") from error
    if tables is not None:
        write_text(path, changed)


def check_folder(folder: Path) -> None:
    """Find out before the long work whether results can be written.

    Raises:
        ValueError: nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f"--folder '{folder}' cannot be written: {reason(error)}; choose another folder"
        ) from error


def read_figures(path: Path) -> Row:
    """Figures that a training has left.

    Raises:
        ValueError: the file is none of ours.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"'{path}' is no file of figures: remove it, to train again") from error


def check_steps(path: Path, steps: int) -> None:
    """Refuse to go on among trainings of another length.

    Raises:
        ValueError: the training that left this file had another number of steps.
    """
    there = read_figures(path)["steps"]
    if there != steps:
        raise ValueError(f"'{path}' has {there} steps, not {steps}; choose another --folder")


def made_with() -> str:
    """Versions and size of the machine, in a sentence.

    Example:
        >>> made_with().startswith("Made with jaxapf ")
        True
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"Made with jaxapf {__version__}, JAX {metadata.version('jax')}, Python {platform.python_version()}, "
        f"on {cores} CPU cores."
    )


def exit_code(work: Callable[[], None]) -> int:
    """Do the work of a script: 0, 2 with a sentence for what the user can mend, 130 after Ctrl-C.

    Example:
        >>> exit_code(lambda: None)
        0
    """
    try:
        work()
    except ValueError as error:  # AudioError is one
        show_progress("")
        print(f"run.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        show_progress("")
        print("run.py: interrupted", file=sys.stderr)
        return 130
    show_progress("")
    return 0


def show_progress(text: str) -> None:
    """One line on a terminal, nothing in a pipe."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
