"""One train step on one device, on a mesh of devices, and under `pmap`.

A `Plan` is a step compiled for some devices, and the ways in and out: where the state and the batch go, how
metrics come back. All plans run the same step of `training.step` and give the same result:

- `single`: `jit` on one device;
- `mesh`: `jit` over a device mesh with named shardings: the state is on every device, the batch is split. The
  step runs in a `shard_map`, so that the only exchange is one all-reduce of the gradient. Left to find a
  partition by itself, XLA gathers whole batches for FFTs, native kernels and the block matrices of a cascade;
- `pmap`: the older way, which JAX only maintains; new code should take `mesh`;
- `starts`: many starts (`training.step.many_starts`), spread over the devices of a mesh.

In several processes (`training.distributed`) a mesh has the devices of all, and each process puts in the
examples that it read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxapf.training.leaves import is_key, placed
from jaxapf.training.step import Metrics, TrainState, TrainStep

__all__ = ["AXIS", "Plan", "all_devices", "mesh", "of_this_process", "pmap", "single", "starts"]

AXIS = "data"
Tree = Any


class Plan(NamedTuple):
    """A train step compiled for some devices.

    ``step(state, batch) -> (state, metrics)`` takes the state's memory for its result; ``put_state(state)``
    and ``put_batch(batch)`` bring arrays to the devices; ``get_state(state)`` returns the state as on one
    device; ``get_metrics(list of metrics)`` brings metrics to the host.
    """

    step: Callable[[TrainState, Tree], tuple[TrainState, Metrics]]
    put_state: Callable[[TrainState], TrainState]
    put_batch: Callable[[Tree], Tree]
    get_state: Callable[[TrainState], TrainState]
    get_metrics: Callable[[Sequence[Metrics]], list[dict[str, np.ndarray]]]


def single(step: TrainStep, device: Any = None) -> Plan:
    """Return the plan of a step on one device, the first one of this process unless given.

    ValueError where there are several processes and no device is given.

    Example:
        >>> import optax
        >>> from jaxapf.training.step import init_state, make_train_step
        >>> loss_fn = lambda params, batch, key: jnp.mean((params - batch) ** 2)
        >>> plan = single(make_train_step(loss_fn, optax.sgd(0.5)))
        >>> state = plan.put_state(init_state(jnp.zeros(()), optax.sgd(0.5), key=jax.random.key(0)))
        >>> state, metrics = plan.step(state, plan.put_batch(np.ones(4, np.float32)))
        >>> plan.get_metrics([metrics])[0]["loss"], float(state.params)
        (array(1., dtype=float32), 1.0)
    """
    if device is None and jax.process_count() > 1:
        raise ValueError(
            f"there are {jax.process_count()} processes and single trains one device alone, on its share of "
            "the batch; take parallel.mesh or pmap, or name the device"
        )
    device = device or jax.local_devices()[0]
    put = partial(_put, where=device)
    # On a CPU the compiled step reads NumPy arrays where they lie; putting them there would copy them.
    put_batch = _as_it_is if device.platform == "cpu" else put
    return Plan(jax.jit(step, donate_argnums=0), _owned(put), put_batch, _as_it_is, _on_host)


def mesh(step: TrainStep, devices: Mesh | None = None) -> Plan:
    """Return the plan of a step over a mesh of one axis: the state on every device, the batch split.

    The mesh has all devices of all processes unless given. `put_batch` raises ValueError where the devices do
    not divide the batch.

    Example:
        >>> plan = mesh(lambda state, batch, *, axis_name: (state, {}))
        >>> batch = plan.put_batch(np.ones((8, 2), np.float32))
        >>> batch.sharding.shard_shape(batch.shape) == (8 // jax.device_count(), 2)
        True
    """
    devices = devices or all_devices()
    axis = _only_axis(devices)
    everywhere, split = NamedSharding(devices, P()), NamedSharding(devices, P(axis))
    return Plan(
        _sharded(partial(step, axis_name=axis), devices, (P(), P(axis)), P()),
        _owned(partial(_put, where=everywhere)),
        partial(_put_shares, where=split),
        partial(jax.tree.map, of_this_process),
        _on_host,
    )


def pmap(step: TrainStep, devices: Sequence[Any] | None = None) -> Plan:
    """Return the plan of a step under `jax.pmap`, for code that has it; `mesh` does the same.

    The devices are this process's unless given. The state has a leading axis of devices between `put_state`
    and `get_state`.

    Example:
        >>> plan = pmap(lambda state, batch, *, axis_name: (state, {}))
        >>> plan.put_batch(np.ones((8, 2), np.float32)).shape[0] == jax.local_device_count()
        True
    """
    local = list(devices or jax.local_devices())

    # Laid out as pmap lays out what a step returns, the first state needs no program of its own.
    laid_out = jax.pmap(lambda state: state, axis_name=AXIS, devices=devices)

    def put_state(state: TrainState) -> TrainState:
        return laid_out(jax.tree.map(lambda leaf: jnp.stack([_uncommitted(leaf)] * len(local)), state))

    def put_batch(batch: Tree) -> Tree:
        _check_divisible(batch, len(local))
        return jax.tree.map(lambda x: x.reshape(len(local), x.shape[0] // len(local), *x.shape[1:]), batch)

    return Plan(
        jax.pmap(partial(step, axis_name=AXIS), axis_name=AXIS, devices=devices, donate_argnums=0),
        put_state,
        put_batch,
        partial(jax.tree.map, lambda leaf: leaf[0]),
        lambda metrics: [jax.tree.map(lambda leaf: leaf[0], one) for one in _on_host(metrics)],
    )


def starts(step: TrainStep, devices: Mesh | None = None) -> Plan:
    """Return the plan of a step of `many_starts` over a mesh: each device has some of them.

    The mesh, of one axis, has all devices of all processes unless given. The devices exchange nothing but,
    among several processes, the metrics. `put_state` raises ValueError where they do not divide the number of
    starts.

    Example:
        >>> plan = starts(lambda state, batch: (state + batch, {"loss": state}))
        >>> state, metrics = plan.step(plan.put_state(jnp.arange(8.0)), plan.put_batch(1.0))
        >>> plan.get_state(state).shape, plan.get_metrics([metrics])[0]["loss"].shape
        ((8,), (8,))
    """
    devices = devices or all_devices()
    axis = _only_axis(devices)
    alone = jax.process_count() == 1

    def stepped(state: TrainState, batch: Tree) -> tuple[TrainState, Metrics]:
        state, metrics = step(state, batch)
        # Each process needs the losses of all starts, to choose the same one.
        return state, metrics if alone else jax.lax.all_gather(metrics, axis, tiled=True)

    split, everywhere = NamedSharding(devices, P(axis)), NamedSharding(devices, P())
    gathered = jax.jit(_as_it_is, out_shardings=everywhere)

    def put_state(state: TrainState) -> TrainState:
        _check_divisible(state, devices.size, "starts")
        return _put(state, split)

    return Plan(
        _sharded(stepped, devices, (P(axis), P()), (P(axis), P(axis) if alone else P())),
        _owned(put_state),
        partial(_put, where=everywhere),
        _as_it_is if alone else lambda state: jax.tree.map(of_this_process, gathered(state)),
        _on_host,
    )


def all_devices() -> Mesh:
    """Return a mesh of one axis, "data", over all devices of all processes."""
    return jax.make_mesh((jax.device_count(),), (AXIS,), axis_types=(AxisType.Auto,))


def _sharded(step: Callable[..., Any], devices: Mesh, given: Any, returned: Any) -> Callable[..., Any]:
    # The check has no types for the carries of the scans in recursions; pmap makes none either.
    body = jax.shard_map(step, mesh=devices, in_specs=given, out_specs=returned, check_vma=False)
    return jax.jit(body, donate_argnums=0)


def _only_axis(devices: Mesh) -> str:
    if len(devices.axis_names) != 1:
        raise ValueError(f"devices is a mesh of axes {devices.axis_names}; give a mesh of one axis")
    return devices.axis_names[0]


def _as_it_is(tree: Tree) -> Tree:
    return tree


def _put(tree: Tree, where: Any) -> Tree:
    if getattr(where, "is_fully_addressable", True):
        return jax.device_put(tree, where)
    return jax.tree.map(partial(placed, sharding=where), tree)


def _put_shares(batch: Tree, where: NamedSharding) -> Tree:
    _check_divisible(batch, len(where.addressable_devices))
    if jax.process_count() == 1:
        return _put(batch, where)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(where, np.asarray(x)), batch)


def _owned(put: Callable[[TrainState], TrainState]) -> Callable[[TrainState], TrainState]:
    """Copy before putting, so that the step takes the copy's memory and never that of the caller's arrays."""
    return lambda state: put(jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), state))


def _check_divisible(tree: Tree, count: int, what: str = "examples") -> None:
    for path, leaf in jax.tree.leaves_with_path(tree):
        shape = np.shape(leaf)
        if not shape or shape[0] % count:
            raise ValueError(
                f"array{jax.tree_util.keystr(path)} has shape {shape} and there are {count} devices; its "
                f"leading axis, the {what}, must be a multiple of {count}"
            )


def _on_host(metrics: Sequence[Metrics]) -> list[dict[str, np.ndarray]]:
    # Not device_get: on a CPU it takes ten times as long, for what is a few hundred numbers.
    if not jax.tree.leaves(metrics[-1])[0].is_fully_addressable:
        metrics = jax.tree.map(of_this_process, list(metrics))
    if next(iter(jax.tree.leaves(metrics[-1])[0].devices())).platform != "cpu":
        jax.tree.map(lambda value: value.copy_to_host_async(), list(metrics))
    return [{name: np.asarray(value) for name, value in one.items()} for one in metrics]


def _uncommitted(leaf: Any) -> jax.Array:
    """Return a copy that is bound to no device, whatever plan the array comes from: pmap refuses others."""
    if is_key(leaf):
        data = _uncommitted(jax.random.key_data(of_this_process(leaf)))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    return jnp.asarray(np.array(of_this_process(leaf)))


def of_this_process(value: Any) -> Any:
    """Return this process's part of an array: of one that spans processes, the part on its first device."""
    if isinstance(value, jax.Array) and not value.is_fully_addressable:
        return value.addressable_data(0)
    return value
