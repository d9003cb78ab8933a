"""A training state as named arrays in the host's memory, and back onto its devices."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = [
    "CheckpointError",
    "check",
    "checksum",
    "described",
    "first_difference",
    "is_key",
    "is_real",
    "named",
    "placed",
    "rebuilt",
    "specs",
    "to_host",
]

Tree = Any
Arrays = dict[str, np.ndarray]
Spec = dict[str, Any]  # shape, dtype, of a random key its implementation, of a stored leaf its checksum


class _Text(str):
    """A value of a message that is not shown as JSON."""


_MISSING = _Text("missing")


class CheckpointError(ValueError):
    """A checkpoint that cannot be written, read or used, in one sentence for the user."""


def named(tree: Tree) -> dict[str, Any]:
    """Return the leaves by name, "params/dense_0/kernel", in the order of the tree.

    A slash within a key is escaped, so that no name begins another: Orbax would write one over the other.
    """
    leaves: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        keys = (jax.tree_util.keystr((key,), simple=True) for key in path)
        name = "/".join(key.replace("%", "%25").replace("/", "%2F") for key in keys)
        if name in leaves:
            raise ValueError(f"state has two leaves named '{name}'; give its nodes different keys")
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
    """Return shape and dtype of each leaf as it is stored, of a random key also its implementation."""
    found = {}
    for name, leaf in leaves.items():
        stored = jax.eval_shape(jax.random.key_data, leaf) if is_key(leaf) else leaf
        if not is_real(stored.dtype) and not jnp.issubdtype(stored.dtype, np.complexfloating):
            raise TypeError(f"state has dtype {leaf.dtype} at '{name}'; expected numbers or booleans")
        found[name] = {"shape": list(stored.shape), "dtype": str(stored.dtype)}
        if is_key(leaf):
            found[name]["key"] = _implementation(leaf)
    return found


def check(stored: Any, expected: Any, where: str, *, prefix: str = "", given: str, advice: str) -> None:
    """Raise CheckpointError naming the first entry in which two JSON values differ."""
    if difference := first_difference(expected, stored):
        name, ours, theirs = difference
        raise CheckpointError(f"{prefix}'{name}' is {theirs} in {where}, but {ours} {given}; {advice}")


def first_difference(ours: Any, theirs: Any, name: str = "") -> tuple[str, str, str] | None:
    """Return dotted name and both values of the first difference of two JSON values, or None."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        keys = [*ours, *(key for key in theirs if key not in ours)]
        inner = (
            (f"{name}.{key}" if name else key, ours.get(key, _MISSING), theirs.get(key, _MISSING))
            for key in keys
        )
        return next(filter(None, (first_difference(one, other, key) for key, one, other in inner)), None)
    # 1 equals 1.0 here, as in JSON, but not true.
    if ours == theirs and isinstance(ours, bool) == isinstance(theirs, bool):
        return None
    one, other = (value if isinstance(value, _Text) else json.dumps(value) for value in (ours, theirs))
    return name, one, other


def to_host(leaves: Mapping[str, Any]) -> Arrays:
    """Copy the leaves into this process's memory, where they outlive a donation."""
    data = {name: jax.random.key_data(leaf) if is_key(leaf) else leaf for name, leaf in leaves.items()}
    whole = {name: _gathered(leaf) for name, leaf in data.items()}
    # On CPU what device_get returns may be the device's memory itself.
    return {name: np.array(leaf, order="C") for name, leaf in jax.device_get(whole).items()}


def checksum(array: np.ndarray) -> int:
    """Return the CRC-32 of the values in C order."""
    return zlib.crc32(array.reshape(-1).view(np.uint8).data)


def rebuilt(like: Tree, arrays: Arrays) -> Tree:
    """Return the arrays in the structure of `like`, each placed as its leaf there."""
    leaves = [_as_leaf(name, leaf, arrays[name]) for name, leaf in named(like).items()]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def is_real(dtype: Any) -> bool:
    """Return whether values are booleans, whole or real numbers; NumPy alone does not know bfloat16."""
    return any(jnp.issubdtype(dtype, kind) for kind in (np.bool_, np.integer, np.floating))


def is_key(leaf: Any) -> bool:
    """Return whether the values are typed random keys."""
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _implementation(key: Any) -> str:
    """Return the name of a key's generator, found by tracing: a ShapeDtypeStruct does not hold it."""
    names = []
    jax.eval_shape(lambda traced: names.append(str(jax.random.key_impl(traced))) or traced, key)
    return names[0]


def described(specs: Mapping[str, Spec]) -> dict[str, str]:
    """Return each leaf as messages show it, as in "float32 (5, 3)"."""
    kinds = {
        name: f"random key {spec['key']}" if "key" in spec else spec["dtype"] for name, spec in specs.items()
    }
    return {name: _Text(f"{kind} {tuple(specs[name]['shape'])}") for name, kind in kinds.items()}


def _gathered(leaf: Any) -> Any:
    if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable or leaf.is_fully_replicated:
        return leaf
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(leaf, tiled=True)


# Orbax restores onto shardings too, but no weak types or uncommitted arrays: jitted steps would compile anew.
def _as_leaf(name: str, like: Any, array: np.ndarray) -> Any:
    """Return the array as `like` is: on its devices, committed or not, weakly typed or not."""
    if isinstance(like, np.generic):
        return array[()]
    if isinstance(like, np.ndarray):
        return array
    sharding = like.sharding if getattr(like, "committed", True) else None
    if is_key(like):
        return placed(jax.random.wrap_key_data(jnp.array(array), impl=_implementation(like)), sharding)
    leaf = placed(array, sharding)
    if leaf.dtype != array.dtype:
        raise CheckpointError(
            f"'{name}' is {array.dtype}, which JAX turns into {leaf.dtype}; "
            'call jax.config.update("jax_enable_x64", True) first'
        )
    if not getattr(like, "weak_type", False):
        return leaf
    # Setting values keeps the weak type of what they are set in; no public conversion makes one.
    zeros = jnp.broadcast_to(jnp.asarray(leaf.dtype.type(0).item()), leaf.shape)
    weak = zeros.at[...].set(leaf)
    return weak if sharding is None else jax.device_put(weak, sharding)


def placed(leaf: Any, sharding: Any) -> jax.Array:
    """Return an array that every process has on the devices of a sharding; uncommitted where that is None."""
    if sharding is None:
        return jnp.array(leaf)
    if sharding.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    if is_key(leaf):
        # The sharding is that of the keys, whose data have one axis more.
        data = placed(jax.random.key_data(leaf), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    value = np.asarray(leaf)
    return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])
