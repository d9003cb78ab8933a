"""Models as JSON files: format and version, checks that end in one sentence, writing that is atomic."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jaxapf._internal.files import PathLike, reason, write_text
from jaxapf._internal.version import __version__


class ModelError(ValueError):
    """A file that is not a readable model."""


class ModelFormat(NamedTuple):
    """A kind of model file: its ``name`` in the file, the ``version`` of the format, the writing ``command``.

    ``mismatch`` begins the sentence about other files, such as "is not a model".
    """

    name: str
    mismatch: str
    command: str
    version: int = 1


def dumps(kind: ModelFormat, fields: Mapping[str, Any]) -> str:
    """Return the text of a model file, with this version of jaxapf unless given; ValueError at NaN.

    Example:
        >>> kind = ModelFormat("jaxapf-example", "is not an example", "jaxapf example")
        >>> json.loads(dumps(kind, {"jaxapf": "1.0", "gain_db": 3.0}))
        {'format': 'jaxapf-example', 'version': 1, 'jaxapf': '1.0', 'gain_db': 3.0}
    """
    document = {"format": kind.name, "version": kind.version, "jaxapf": __version__, **fields}
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def write(path: PathLike, kind: ModelFormat, fields: Mapping[str, Any]) -> None:
    """Write a model file, atomically."""
    write_text(path, dumps(kind, fields))


def read(path: PathLike, kind: ModelFormat) -> dict[str, Any]:
    """Return the fields of a model file; ModelError where it is not of this kind, or newer."""
    expected = f"give a file that '{kind.command}' wrote"
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"'{path}' cannot be opened: {reason(error)}") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"'{path}' {kind.mismatch} (it is not JSON); {expected}") from error
    if not isinstance(document, dict) or document.get("format") != kind.name:
        raise ModelError(f"'{path}' {kind.mismatch}; {expected}")
    version = document.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= kind.version:
        raise ModelError(
            f"'{path}' is a model of version {version!r}, this jaxapf reads {kind.version}; update jaxapf"
        )
    return document


@contextlib.contextmanager
def check_fields(path: PathLike, command: str) -> Iterator[None]:
    """Raise ModelError, with the file and the command that makes another, where fields are wrong."""
    try:
        yield
    except ModelError:
        raise
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise ModelError(
            f"'{path}' is a damaged model (missing or wrong: {error}); make it again with '{command}'"
        ) from error


def number(name: str, value: Any, low: float, high: float, *, slack: float = 0.0) -> float:
    """Return a finite number from `low - slack` to `high + slack`; else raise ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} is {value!r}, not a number")
    if not low - slack <= value <= high + slack:
        raise ValueError(f"{name} is {value:g}, not between {low:g} and {high:g}")
    return float(value)


def whole_number(name: str, value: Any, low: int, high: int) -> int:
    """Return a whole number within its range; else raise ValueError."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} is {value!r}, not a whole number")
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}, not between {low} and {high}")
    return value
