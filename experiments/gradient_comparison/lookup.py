"""Rows of figures: how they are looked up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.common.runner import Row

Rows = list[Row]


def where(rows: Sequence[Row], **wanted: Any) -> Rows:
    """The rows with these values."""
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def nearest(rows: Sequence[Row], column: str, value: float) -> Any:
    """Of the values in a column, the nearest."""
    return min({row[column] for row in rows}, key=lambda one: abs(one - value))


def values(rows: Sequence[Row], column: str) -> list[Any]:
    """The different values of a column, in their order."""
    return list(dict.fromkeys(row[column] for row in rows))


def lengths_of(rows: Rows) -> list[int]:
    """The lengths of sequences: all but the whole recording."""
    return values([row for row in rows if row["form"] != "recursion"], "samples")


def padding(row: Row) -> int:
    """Samples of padding."""
    return (int(row["form"].rstrip("x")) - 1) * row["samples"]


def median(rows: Rows, column: str) -> float:
    """Of a column."""
    return float(np.median([row[column] for row in rows]))


def needed(rows: Rows, close: float, column: str) -> float | None:
    """Time constants of padding from which on the error stays below; None where no padding tried was "
    "enough.
    """
    enough = None
    for row in sorted(rows, key=lambda row: -row["constants"]):
        if row[column] > close:
            break
        enough = row["constants"]
    return enough
