"""A checkpointed step on the disk: what it says of itself, its files, its arrays; sound, or damaged.

<folder>/<step>/meta/metadata   one JSON document: schema, leaves, configuration, metrics, own checksum
<folder>/<step>/meta/files      checksums of the files of `state`, so that no damaged one is ever parsed
<folder>/<step>/state/          the arrays under their names in the tree, as Orbax writes them
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import shutil
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxapf._internal.version import __version__

Tree = Any
Meta = dict[str, Any]
Arrays = dict[str, np.ndarray]
Spec = dict[str, Any]  # shape, dtype, of a random key its implementation, of a stored leaf its checksum

FORMAT = "jaxapf-checkpoint"
SCHEMA = 1
MISSING = object()
CHUNK_BYTES = 2**22


class CheckpointError(ValueError):
    """A checkpoint that cannot be written, read or used, in one sentence for the user."""


class Damaged(Exception):
    """A step that is not what was saved, and how it shows."""


# Steps of a folder


def step_folders(folder: Path) -> list[int]:
    """Steps that a folder holds, whole or not, oldest first."""
    names = [entry.name for entry in folder.iterdir() if entry.is_dir()]
    return sorted(int(name) for name in names if re.fullmatch(r"0|[1-9]\d*", name))


def readable(folder: Path) -> dict[int, Meta]:
    """The documents of all steps that have a sound one."""
    metas = {}
    for step in step_folders(folder):
        with contextlib.suppress(Damaged):
            metas[step] = read_meta(folder, step)
    return metas


def set_aside(folder: Path, step: int) -> None:
    """Rename a damaged step, so that its number is free; an older one under the new name goes."""
    aside = folder / f"{step}.damaged"
    try:
        shutil.rmtree(aside, ignore_errors=True)
        (folder / str(step)).rename(aside)
    except OSError as error:
        raise CheckpointError(
            f"damaged step {step} of '{folder}' cannot be set aside: {short(error)}; remove it"
        ) from error


def load(folder: Path, step: int, expected: Mapping[str, Spec] | None) -> tuple[Meta, Arrays]:
    """Document and arrays of a step; before any array is read, that they are those which are expected.

    Raises:
        Damaged: the step is not what was saved.
        CheckpointError: it is, but other leaves are expected, or a newer jaxapf wrote it.
    """
    meta = read_meta(folder, step)
    leaves = meta["leaves"]
    if expected is not None:
        check_leaves(leaves, expected, f"step {step} of '{folder}'")
    _check_files(folder / str(step))
    try:
        stored = _read_arrays(
            folder / str(step) / "state", [n for n in leaves if 0 not in leaves[n]["shape"]]
        )
    except MemoryError:
        raise
    except Exception as error:  # whatever Orbax and TensorStore make of it
        raise Damaged(f"its arrays cannot be read: {short(error)}") from error
    arrays = {}
    for name, spec in leaves.items():
        array = stored.get(name, np.zeros(spec["shape"], jnp.dtype(spec["dtype"])))
        if spec != {**spec, **_spec(name, array), "crc32": checksum(array)}:
            raise Damaged(f"'{name}' is not what was saved")
        arrays[name] = array
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


def items(meta: Meta, arrays: Arrays) -> Any:
    """A step as Orbax's CheckpointManager saves it."""
    from orbax import checkpoint as ocp

    args: dict[str, Any] = {"meta": ocp.args.JsonSave(meta)}
    stored = {name: array for name, array in arrays.items() if array.size}  # Orbax stores no empty array
    if stored:
        args["state"] = ocp.args.PyTreeSave(stored)
    return ocp.args.Composite(**args)


# Files


def seal(folder: Path, step: int) -> None:
    """List the files of a step with their checksums; called when all is written, before it gets its name."""
    (path,) = (entry for entry in folder.glob(f"{step}.*") if entry.name != f"{step}.damaged")
    files = [entry for entry in sorted((path / "state").rglob("*")) if entry.is_file()]
    listing = {entry.relative_to(path).as_posix(): _file_checksum(entry) for entry in files}
    (path / "meta" / "files").write_text(json.dumps(_sealed({"files": listing})), encoding="utf-8")


def _check_files(path: Path) -> None:
    for name, expected in _read_sealed(path / "meta" / "files")["files"].items():
        try:
            found = _file_checksum(path / name)
        except PermissionError as error:
            raise _forbidden(path / name, error) from error
        except OSError as error:
            raise Damaged(f"file '{name}' cannot be read: {short(error)}") from error
        if found != expected:
            raise Damaged(f"file '{name}' is not what was written")


def _file_checksum(path: Path) -> int:
    total = 0
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            total = zlib.crc32(chunk, total)
    return total


def _sealed(document: dict[str, Any]) -> dict[str, Any]:
    """A JSON document with its own checksum."""
    body = {key: value for key, value in document.items() if key != "crc32"}
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return {**body, "crc32": zlib.crc32(text.encode())}


def _read_sealed(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
        sound = document == _sealed(document)
    except PermissionError as error:
        raise _forbidden(path, error) from error
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise Damaged(f"file 'meta/{path.name}' cannot be read: {short(error)}") from error
    if not sound:
        raise Damaged(f"file 'meta/{path.name}' is not what was written")
    return document


def _forbidden(path: Path, error: PermissionError) -> CheckpointError:
    # No damage: the step is not to be set aside for it.
    return CheckpointError(f"'{path}' cannot be opened: {short(error)}; change its permissions")


# The document


def new_meta(step: int, leaves: dict[str, Spec], config: Any, metrics: Mapping[str, Any] | None) -> Meta:
    """The document of a step as it is written."""
    numbers = {name: _as_number(name, value) for name, value in (metrics or {}).items()}
    return _sealed(
        {
            "format": FORMAT,
            "schema": SCHEMA,
            "step": step,
            "leaves": leaves,
            "config": config,
            # JSON has neither NaN nor infinity: their names.
            "metrics": {name: v if math.isfinite(v) else str(v) for name, v in numbers.items()},
            "versions": {"jaxapf": __version__, "jax": jax.__version__},
        }
    )


def read_meta(folder: Path, step: int) -> Meta:
    """The document of a step; Damaged if it is not sound, CheckpointError if a newer jaxapf wrote it."""
    meta = _read_sealed(folder / str(step) / "meta" / "metadata")
    if meta.get("format") != FORMAT:
        raise Damaged("file 'meta/metadata' is not that of a checkpoint of jaxapf")
    if meta["schema"] > SCHEMA:
        raise CheckpointError(
            f"step {step} of '{folder}' has schema {meta['schema']}, this jaxapf reads {SCHEMA}; update it"
        )
    return decoded(meta)


def decoded(meta: Meta) -> Meta:
    """A document as its reader wants it."""
    metrics = {name: float(v) if isinstance(v, str) else v for name, v in meta["metrics"].items()}
    return {key: meta[key] for key in ("step", "leaves", "config", "versions")} | {"metrics": metrics}


def as_json(config: Any) -> Any:
    """A configuration as JSON gives it back; TypeError if JSON cannot hold it."""
    try:
        return json.loads(json.dumps(config, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(
            f"config cannot be kept as JSON: {short(error)}; give dicts, lists, strings and finite numbers"
        ) from error


def _as_number(name: Any, value: Any) -> int | float:
    array = np.asarray(value)
    if not isinstance(name, str) or array.ndim or not _is_real(array.dtype):
        raise TypeError(f"metrics has {name!r}: {value!r}; expected a name and a single real number")
    return float(array) if jnp.issubdtype(array.dtype, np.floating) else int(array)


def check_config(given: Any, stored: Any, where: str) -> None:
    """Raise CheckpointError naming the first key that differs; None is never compared."""
    differing = None if given is None or stored is None else first_difference(given, stored)
    if differing is not None:
        key, ours, theirs = differing
        raise CheckpointError(
            f"config '{key}' is {_shown(theirs)} in {where}, but {_shown(ours)} was given; "
            "use the same configuration, or another folder"
        )


def first_difference(given: Any, stored: Any, key: str = "") -> tuple[str, Any, Any] | None:
    """Dotted key, given and stored value of the first difference of two JSON values, or None.

    Example:
        >>> first_difference({"a": {"b": 1, "c": [2]}}, {"a": {"b": 1.0, "c": [3]}})
        ('a.c', [2], [3])
    """
    if isinstance(given, dict) and isinstance(stored, dict):
        for name in [*given, *(name for name in stored if name not in given)]:
            inner = f"{key}.{name}" if key else name
            differing = first_difference(given.get(name, MISSING), stored.get(name, MISSING), inner)
            if differing is not None:
                return differing
        return None
    # 1 equals 1.0 here, as in JSON, but not true.
    same = given == stored and isinstance(given, bool) == isinstance(stored, bool)
    return None if same else (key, given, stored)


def _shown(value: Any) -> str:
    return "missing" if value is MISSING else json.dumps(value)


# Leaves


def named(tree: Tree) -> dict[str, Any]:
    """Leaves by name, "params/dense_0/kernel", in the order of the tree.

    A slash within a key is escaped, so that no name begins another: Orbax would write one over the other.

    Example:
        >>> named({"w": [np.zeros(2), np.ones(3)], "x/y": np.ones(1)})
        {'w/0': array([0., 0.]), 'w/1': array([1., 1., 1.]), 'x%2Fy': array([1.])}
    """
    leaves: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        keys = (jax.tree_util.keystr((key,), simple=True) for key in path)
        name = "/".join(key.replace("%", "%25").replace("/", "%2F") for key in keys)
        if name in leaves:
            raise ValueError(
                f"state has two leaves named '{name}'; give the keys of its nodes different names"
            )
        if not isinstance(leaf, (jax.Array, jax.ShapeDtypeStruct, np.ndarray, np.generic)):
            raise TypeError(
                f"state has a {type(leaf).__name__} at '{name}'; expected arrays, "
                "use jnp.asarray with a dtype for numbers"
            )
        leaves[name] = leaf
    if not leaves:
        raise ValueError("state holds no arrays; give a pytree with at least one")
    return leaves


def specs(leaves: Mapping[str, Any]) -> dict[str, Spec]:
    """Shape and dtype of each leaf as it is stored: of a random key its data, and its implementation."""
    found = {}
    for name, leaf in leaves.items():
        if _is_key(leaf):
            data = jax.eval_shape(jax.random.key_data, leaf)
            found[name] = _spec(name, data) | {"key": _implementation(leaf)}
        else:
            found[name] = _spec(name, leaf)
    return found


def _spec(name: str, leaf: Any) -> Spec:
    if not (_is_real(leaf.dtype) or jnp.issubdtype(leaf.dtype, np.complexfloating)):
        raise TypeError(f"state has dtype {leaf.dtype} at '{name}'; expected numbers or booleans")
    return {"shape": list(leaf.shape), "dtype": str(leaf.dtype)}


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _is_real(dtype: Any) -> bool:
    return any(jnp.issubdtype(dtype, kind) for kind in (np.bool_, np.integer, np.floating))


def _implementation(key: Any) -> str:
    """Name of a key's generator; asked while tracing, because a ShapeDtypeStruct does not tell."""
    names = []

    def ask(traced: Any) -> Any:
        names.append(str(jax.random.key_impl(traced)))
        return traced

    jax.eval_shape(ask, key)
    return names[0]


def check_leaves(stored: Mapping[str, Spec], expected: Mapping[str, Spec], where: str) -> None:
    """Raise CheckpointError naming the first leaf that is missing, another, or one too many."""
    for name, spec in expected.items():
        if name not in stored:
            raise _refusal(f"'{name}', {_described(spec)}, is missing in {where}, but the state given has it")
        if _described(stored[name]) != _described(spec):
            kinds = f"{_described(stored[name])} in {where}, but {_described(spec)} in the state given"
            raise _refusal(f"'{name}' is {kinds}")
    for name, spec in stored.items():
        if name not in expected:
            raise _refusal(f"'{name}', {_described(spec)}, is in {where}, but not in the state given")


def _refusal(difference: str) -> CheckpointError:
    return CheckpointError(f"{difference}; give a state of the same model and optimiser, or another folder")


def _described(spec: Spec) -> str:
    kind = f"random key {spec['key']}" if "key" in spec else spec["dtype"]
    return f"{kind} {tuple(spec['shape'])}"


def to_host(leaves: Mapping[str, Any]) -> Arrays:
    """Copies of the leaves in this process's memory, which outlive a donation."""
    data = {name: jax.random.key_data(leaf) if _is_key(leaf) else leaf for name, leaf in leaves.items()}
    whole = {name: _gathered(leaf) for name, leaf in data.items()}
    # On CPU what device_get gives may be the device's memory itself.
    return {name: np.array(leaf, order="C") for name, leaf in jax.device_get(whole).items()}


def _gathered(leaf: Any) -> Any:
    if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable or leaf.is_fully_replicated:
        return leaf
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(leaf, tiled=True)


def checksum(array: np.ndarray) -> int:
    """CRC-32 of the values in C order."""
    return zlib.crc32(array.reshape(-1).view(np.uint8).data)


def rebuilt(like: Tree, arrays: Arrays) -> Tree:
    """The arrays in the structure of `like`, each placed as its leaf there."""
    leaves = [_as_leaf(name, leaf, arrays[name]) for name, leaf in named(like).items()]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _as_leaf(name: str, like: Any, array: np.ndarray) -> Any:
    """The array as `like` is: on its devices, committed or not, weakly typed or not."""
    if isinstance(like, np.generic):
        return array[()]
    if isinstance(like, np.ndarray):
        return array
    sharding = like.sharding if getattr(like, "committed", True) else None
    if _is_key(like):
        return _as_key(like, array, sharding)
    leaf = _placed(array, sharding)
    if leaf.dtype != array.dtype:
        raise CheckpointError(
            f"'{name}' is {array.dtype}, which JAX turns into {leaf.dtype}; "
            'call jax.config.update("jax_enable_x64", True) first'
        )
    return _weak(leaf, sharding) if getattr(like, "weak_type", False) else leaf


def _placed(array: np.ndarray, sharding: Any) -> jax.Array:
    if sharding is None:
        return jnp.array(array)
    if sharding.is_fully_addressable:
        return jax.device_put(array, sharding)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def _as_key(like: Any, data: np.ndarray, sharding: Any) -> jax.Array:
    implementation = _implementation(like)
    if sharding is not None and not sharding.is_fully_addressable:
        return jax.random.wrap_key_data(_placed(data, sharding), impl=implementation)
    # The sharding is that of the keys, whose data have one axis more.
    key = jax.random.wrap_key_data(jnp.array(data), impl=implementation)
    return key if sharding is None else jax.device_put(key, sharding)


def _weak(leaf: jax.Array, sharding: Any) -> jax.Array:
    # Setting values keeps the weak type of what they are set in; no public conversion makes one.
    zeros = jnp.broadcast_to(jnp.asarray(leaf.dtype.type(0).item()), leaf.shape)
    weak = zeros.at[...].set(leaf)
    return weak if sharding is None else jax.device_put(weak, sharding)


# Messages


def short(error: BaseException) -> str:
    """What went wrong, on one line."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    line = " ".join(text.split())
    # TensorStore tells which file first and what the system said last.
    return line if len(line) <= 200 else f"{line[:100]} ... {line[-95:]}"
