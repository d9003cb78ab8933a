"""Networks in one file: their configuration as JSON, and their weights in half precision."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import flax.traverse_util
import numpy as np

from jaxapf._internal.files import PathLike, atomic_path, reason

Tree = Any
T = TypeVar("T")
_CONFIGURATION = "design"  # name of the configuration among the arrays of a file


def save(configuration: Mapping[str, Any], weights: Tree, path: PathLike) -> None:
    """Write a configuration that JSON can hold and weights, dictionaries of arrays, atomically.

    ValueError where half precision cannot hold the weights.
    """
    flat = flax.traverse_util.flatten_dict(weights, sep="/")
    with np.errstate(over="ignore"):
        arrays: dict[str, Any] = {name: np.asarray(leaf, np.float16) for name, leaf in flat.items()}
    if beyond := [name for name, leaf in arrays.items() if not np.all(np.isfinite(leaf))]:
        raise ValueError(f"weights {beyond[0]!r} exceed half precision or are not finite; train again.")
    arrays[_CONFIGURATION] = np.frombuffer(json.dumps(configuration).encode(), np.uint8)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)


def load(path: PathLike, kind: str, make: Callable[[dict[str, Any], Tree], T]) -> T:
    """Return `make(configuration, weights)` of a file of `save`; a file that has not changed is read once.

    The weights are float32 again, JSON's lists tuples. `kind` is what the file should be, for messages
    ("network of jaxapf's aligner"). ValueError where it cannot be read, or `make` raises ValueError, KeyError
    or TypeError.
    """
    place = Path(path)
    return _load(str(place), place.stat().st_mtime_ns if place.exists() else 0, kind, make)


@lru_cache(maxsize=16)
def _load(path: str, _changed: int, kind: str, make: Callable[[dict[str, Any], Tree], T]) -> T:
    try:
        with np.load(io.BytesIO(Path(path).read_bytes()), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        configuration = _tuples(json.loads(arrays.pop(_CONFIGURATION).tobytes().decode()))
        flat = {name: leaf.astype(np.float32) for name, leaf in arrays.items()}
        return make(configuration, flax.traverse_util.unflatten_dict(flat, sep="/"))
    except OSError as error:
        raise ValueError(f"'{path}' cannot be opened: {reason(error)}; name a {kind}") from error
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"'{path}' is no {kind}, or damaged; name another file") from error


def _tuples(value: Any) -> Any:
    """Replace lists by tuples: static options must be hashable."""
    if isinstance(value, dict):
        return {name: _tuples(one) for name, one in value.items()}
    return tuple(_tuples(one) for one in value) if isinstance(value, list) else value
