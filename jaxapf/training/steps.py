"""A checkpointed step on the disk: its document, its files, its arrays; sound, or damaged.

<folder>/<step>/state/          the arrays under their names in the tree, as Orbax writes them
<folder>/<step>/meta/metadata   one JSON document: leaves, configuration, metrics, all checksums
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import re
import traceback
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxapf._internal.version import __version__
from jaxapf.training import leaves as _leaves
from jaxapf.training.leaves import Arrays, CheckpointError, Spec

__all__ = [
    "Damaged",
    "decoded",
    "load_step",
    "new_document",
    "quiet",
    "readable",
    "seal",
    "short",
    "step_folders",
]

Meta = dict[str, Any]

FORMAT = "jaxapf-checkpoint"
SCHEMA = 2  # 1 had the files' checksums in a document of their own, meta/files
UNFINISHED = r"\d+\.orbax-checkpoint-tmp.*"  # Orbax's name of a step until it is complete


class Damaged(Exception):
    """A step that is not what was saved, and how it shows."""


def step_folders(folder: Path) -> list[int]:
    names = [entry.name for entry in folder.iterdir() if entry.is_dir()]
    return sorted(int(name) for name in names if re.fullmatch(r"0|[1-9]\d*", name))


def readable(folder: Path) -> dict[int, Meta]:
    """Return the documents of all steps that have a sound one."""
    metas = {}
    for step in step_folders(folder):
        with contextlib.suppress(Damaged):
            metas[step] = decoded(_read_document(folder, step))
    return metas


def load_step(folder: Path, step: int, expected: Mapping[str, Spec] | None) -> tuple[Meta, Arrays]:
    """Return document and arrays of a step, once its leaves are found to be the expected ones."""
    document = _read_document(folder, step)
    meta, path = decoded(document), folder / str(step)
    specs = meta["leaves"]
    if expected is not None:
        _leaves.check(
            _leaves.described(specs),
            _leaves.described(expected),
            f"step {step} of '{folder}'",
            given="in the state given",
            advice="give a state of the same model and optimiser, or another folder",
        )
    # No damaged file is ever parsed: what Orbax leaves of a failed read would print later.
    files = document["files"] if "files" in document else _read_sealed(path / "meta" / "files")["files"]
    for name, expected_sum in files.items():
        if _file_checksum(path / name) != expected_sum:
            raise Damaged(f"file '{name}' is not what was written")
    names = [name for name, spec in specs.items() if 0 not in spec["shape"]]
    try:
        stored = _read_arrays(path / "state", names)
    except MemoryError:
        raise
    except Exception as error:  # whatever Orbax and TensorStore make of it
        raise Damaged(f"its arrays cannot be read: {short(error)}") from error
    arrays = {}
    for name, spec in specs.items():
        array = arrays[name] = stored.get(name, np.zeros(spec["shape"], jnp.dtype(spec["dtype"])))
        found = {"shape": list(array.shape), "dtype": str(array.dtype), "crc32": _leaves.checksum(array)}
        if spec != {**spec, **found}:
            raise Damaged(f"'{name}' is not what was saved")
    return meta, arrays


def _read_arrays(path: Path, names: Sequence[str]) -> Arrays:
    from orbax import checkpoint as ocp

    if not names:
        return {}
    # Read by this process alone: several agree afterwards on what they found.
    me = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"read{me}"
    )
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
    args = ocp.args.PyTreeRestore(
        item=dict.fromkeys(names, 0),
        restore_args={name: ocp.RestoreArgs(restore_type=np.ndarray) for name in names},
    )
    with contextlib.closing(ocp.Checkpointer(handler, multiprocessing_options=alone)) as reader:
        return reader.restore(path, args=args)


def _sealed(document: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON document with its own checksum."""
    body = {key: value for key, value in document.items() if key != "crc32"}
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return {**body, "crc32": zlib.crc32(text.encode())}


def new_document(step: int, leaves: dict[str, Spec], config: Any, metrics: Mapping[str, Any] | None) -> Meta:
    numbers = {name: _as_number(name, value) for name, value in (metrics or {}).items()}
    # JSON has neither NaN nor infinity: their names.
    shown = {name: value if math.isfinite(value) else str(value) for name, value in numbers.items()}
    versions = {"jaxapf": __version__, "jax": jax.__version__}
    document = {"format": FORMAT, "schema": SCHEMA, "step": step, "leaves": leaves, "config": config}
    return {**document, "metrics": shown, "versions": versions}


def seal(folder: Path, document: Meta) -> None:
    """Write the document of a step with its files' checksums; Orbax calls it before it names the step."""
    (path,) = (p for p in folder.glob(f"{document['step']}.*") if re.fullmatch(UNFINISHED, p.name))
    files = [entry for entry in sorted((path / "state").rglob("*")) if entry.is_file()]
    listing = {entry.relative_to(path).as_posix(): _file_checksum(entry) for entry in files}
    text = json.dumps(_sealed({**document, "files": listing}))
    (path / "meta" / "metadata").write_text(text, encoding="utf-8")


def _file_checksum(path: Path) -> int:
    total = 0
    with _reading(path), open(path, "rb") as file:
        while chunk := file.read(2**22):
            total = zlib.crc32(chunk, total)
    return total


def _read_sealed(path: Path) -> dict[str, Any]:
    with _reading(path):
        document = json.loads(path.read_bytes())
        if document == _sealed(document):
            return document
    raise Damaged(f"file 'meta/{path.name}' is not what was written")


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    name = "/".join(path.parts[-2:])
    try:
        yield
    except PermissionError as error:  # no damage: the step is not to be set aside for it
        raise CheckpointError(f"'{path}' cannot be opened: {short(error)}; change its permissions") from error
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise Damaged(f"file '{name}' cannot be read: {short(error)}") from error


def _read_document(folder: Path, step: int) -> Meta:
    """Return the document of a step, if it is sound and this jaxapf can read it."""
    document = _read_sealed(folder / str(step) / "meta" / "metadata")
    if document.get("format") != FORMAT:
        raise Damaged("file 'meta/metadata' is not that of a checkpoint of jaxapf")
    if document["schema"] > SCHEMA:
        raise CheckpointError(
            f"step {step} of '{folder}' has schema {document['schema']}, this jaxapf reads {SCHEMA}; "
            "update it"
        )
    return document


def decoded(meta: Meta) -> Meta:
    metrics = {name: float(v) if isinstance(v, str) else v for name, v in meta["metrics"].items()}
    return {key: meta[key] for key in ("step", "leaves", "config", "versions")} | {"metrics": metrics}


def _as_number(name: Any, value: Any) -> int | float:
    array = np.asarray(value)
    if not isinstance(name, str) or array.ndim or not _leaves.is_real(array.dtype):
        raise TypeError(f"metrics has {name!r}: {value!r}; expected a name and a single real number")
    return float(array) if jnp.issubdtype(array.dtype, np.floating) else int(array)


def short(error: BaseException) -> str:
    """Return what went wrong, on one line."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    line = " ".join(text.split())
    # TensorStore names the file first and what the system returned last.
    return line if len(line) <= 200 else f"{line[:100]} ... {line[-95:]}"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep Orbax's log to itself, unless the user set absl's level to show it."""
    logger = logging.getLogger("absl")

    def pass_on(record: logging.LogRecord) -> bool:
        # The record's own path is at times that of absl.
        callers = (Path(frame.f_code.co_filename).parts for frame, _ in traceback.walk_stack(None))
        return logger.level in (logging.INFO, logging.DEBUG) or not any("orbax" in parts for parts in callers)

    logger.addFilter(pass_on)
    try:
        yield
    finally:
        logger.removeFilter(pass_on)
