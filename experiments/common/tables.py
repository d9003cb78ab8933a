"""Markdown tables of measured figures, goals met or missed, and where they are put."""

from __future__ import annotations

import json
import math
import os
import platform
import shutil
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jaxapf
from jaxapf import audio

Row = dict[str, Any]
FILES = ("README.md", "tables.md")


def table(rows: Sequence[Row], cell: Callable[[str, Any], str]) -> str:
    """Return rows of equal keys as a Markdown table; `cell(column, value)` is a value as it is shown.

    Example:
        >>> print(table([{"a": 1, "b": 2}], lambda column, value: f"{column}{value}"))
        | a | b |
        | --- | --- |
        | a1 | b2 |
    """
    lines = [list(rows[0]), ["---"] * len(rows[0])]
    lines += [[cell(column, value) for column, value in row.items()] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def goal(text: str, value: Any, met: Any) -> Row:
    """Return a goal, the figure found, and whether it was met."""
    return {"goal": text, "value": value, "met": bool(met)}


def verdict(goals: Sequence[Row], cell: Callable[[str, Any], str]) -> str:
    """Return which goals were met, and plainly which were missed; nothing where there are none.

    Example:
        >>> verdict([goal("at most 3", 4, False)], lambda column, value: str(value))
        'Goals met: 0 of 1. **Missed**: at most 3 (4).'
    """
    if not goals:
        return ""
    missed = [f"{one['goal']} ({cell('', one['value'])})" for one in goals if not one["met"]]
    met = f"Goals met: {len(goals) - len(missed)} of {len(goals)}."
    return f"{met} **Missed**: {'; '.join(missed)}." if missed else met


def updated(text: str, table: str, name: str) -> str:
    """Return a text with a table between its markers, `<!-- NAME:begin -->` and `<!-- NAME:end -->`.

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
    return f"{before}{begin}\n{table}{end}{after}"


def check(folder: Path | None, names: Sequence[str]) -> None:
    """Check that `put` will find its markers; a folder of None needs none.

    Raises:
        ValueError: a file cannot be read, or markers are missing or double.
    """
    if folder is not None:
        _changed(folder, dict.fromkeys(names, ""))


def put(folder: Path | None, tables: dict[str, str]) -> None:
    """Put tables between their markers in README.md and tables.md of a folder; None puts none.

    Args:
        folder: that of an experiment, or a copy.
        tables: name of the markers -> Markdown, ending with a line break.

    Raises:
        ValueError: as `check`; AudioError: a file cannot be written.
    """
    if folder is not None:
        for path, text in _changed(folder, tables).items():
            audio.write_text(path, text)


def copy(folder: Path, update: Path | None, names: Sequence[str]) -> None:
    """Copy the pictures that there are of these from the folder of results to where tables are put."""
    for name in names:
        if update is not None and (folder / name).exists() and folder.resolve() != update.resolve():
            shutil.copyfile(folder / name, update / name)


def _changed(folder: Path, tables: dict[str, str]) -> dict[Path, str]:
    try:
        texts = {path: path.read_text(encoding="utf-8") for name in FILES if (path := folder / name).exists()}
        if not texts:
            raise ValueError("it has no README.md")
        for name, table in tables.items():
            holders = [path for path, text in texts.items() if f"<!-- {name}:" in text]
            if len(holders) > 1:
                raise ValueError(f"README.md and tables.md both have the markers '{name}'")
            path = holders[0] if holders else next(iter(texts))
            texts[path] = updated(texts[path], table, name)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"--update '{folder}' cannot be updated: {reason}") from error
    return texts


def write_json(path: Path, results: Any) -> None:
    """Write results as strict JSON, numbers that are not finite as null."""
    audio.write_text(path, json.dumps(finite(results), indent=1, allow_nan=False) + "\n")


def finite(value: Any) -> Any:
    """Return a document with null for every number that is not finite, which JSON has not.

    Example:
        >>> finite({"level": [1.0, float("-inf")]})
        {'level': [1.0, None]}
    """
    if isinstance(value, dict):
        return {name: finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def made_with() -> str:
    """Return versions and size of the machine, in a sentence.

    Example:
        >>> made_with().startswith("Made with jaxapf ")
        True
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"Made with jaxapf {jaxapf.__version__}, JAX {metadata.version('jax')}, "
        f"Python {platform.python_version()}, on {cores} CPU cores."
    )
