"""Training state, the train step, and many starts at once: pure functions of pytrees.

The same step runs on one device, on a mesh and under `pmap` (`training.parallel`), in one process or several
(`training.distributed`); `training.fit` drives it, `training.checkpoint` saves its state.

    state = init_state(params, optimizer, key=key)
    step = make_train_step(loss_fn, optimizer, clip_norm=1.0)
    state, metrics = jax.jit(step, donate_argnums=0)(state, batch)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxapf._internal.arrays import count as checked_count

__all__ = [
    "TrainState",
    "TrainStep",
    "best_start",
    "init_starts",
    "init_state",
    "make_train_step",
    "many_starts",
]

Tree = Any
Metrics = dict[str, jax.Array]
LossFn = Callable[[Tree, Tree, jax.Array], Any]
# Names of the step's metrics and of the records of `training.fit`; a loss function's own have others.
RESERVED = ("step", "loss", "grad_norm", "skipped", "skipped_in_row", "seconds", "samples_per_s", "compile_s")
RESERVED += ("best_start", "loss_median")


class TrainState(NamedTuple):
    """Everything that training carries from step to step, a pytree of arrays.

    ``step`` () int32, the number of batches seen, which is the position in the data; ``params`` and
    ``opt_state``, pytrees; ``key``, a typed random key that never changes (step n uses ``fold_in(key, n)``);
    ``skipped`` () int32, steps skipped because loss or gradient was not finite; ``skipped_in_row`` () int32,
    those since the last finite step.
    """

    step: Any
    params: Tree
    opt_state: Tree
    key: Any
    skipped: Any
    skipped_in_row: Any


class TrainStep(Protocol):
    """A pure ``(state, batch) -> (state, metrics)``; `axis_name` is that of `pmap` or `shard_map`."""

    def __call__(
        self, state: TrainState, batch: Tree, *, axis_name: str | None = None
    ) -> tuple[TrainState, Metrics]: ...


def init_state(params: Tree, optimizer: optax.GradientTransformation, *, key: jax.Array) -> TrainState:
    """Return the state before the first step, of copies: donating them leaves the caller's arrays alone.

    Args:
        params: pytree of real or complex arrays.
        optimizer: an optax optimiser; schedules belong to it.
        key: typed key of `jax.random.key`, the source of each step's randomness.

    Raises:
        TypeError: `params` has a leaf that is no float, `key` is no typed random key.

    Example:
        >>> state = init_state({"w": jnp.ones(3)}, optax.adam(1e-3), key=jax.random.key(0))
        >>> int(state.step), state.params["w"].shape
        (0, (3,))
    """
    for path, leaf in jax.tree.leaves_with_path(params):
        dtype = jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jnp.inexact):
            raise TypeError(
                f"params{jax.tree_util.keystr(path)} has dtype {dtype}; only floats can be trained, keep "
                "other arrays in the batch or in the loss function"
            )
    if not jnp.issubdtype(getattr(key, "dtype", np.dtype(int)), jax.dtypes.prng_key):
        raise TypeError("key must be a typed random key; make it with jax.random.key(seed)")
    counts = (jnp.zeros((), jnp.int32) for _ in range(3))
    state = TrainState(next(counts), params, optimizer.init(params), key, *counts)
    # A buffer that occurs twice, as in optimisers that keep the first parameters, cannot be donated.
    return jax.tree.map(lambda leaf: jnp.array(leaf, dtype=jnp.result_type(leaf), copy=True), state)


def make_train_step(
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    *,
    clip_norm: float | None = None,
    accumulate: int = 1,
) -> TrainStep:
    """Return a pure train step, ``(state, batch) -> (state, metrics)``.

    One step is: the gradient of the loss, its mean over the devices, clipping, the optimiser's update. Where
    the loss or the gradient's norm is not finite, parameters and optimiser state stay as they were and the
    step is counted in `skipped`. (An update that overflows by itself is left to `training.fit`, which checks
    the parameters before each checkpoint: here it would cost every step some percent.) The metrics are
    `loss`, `grad_norm` (before clipping), `skipped` and `skipped_in_row` (counts after the step) and those of
    `loss_fn`.

    Args:
        loss_fn: ``(params, batch, key) -> loss`` or ``-> (loss, metrics)``, scalars all. It has to be a mean
            over the examples, the leading axis of every array of the batch: only then is the mean over
            devices, or over parts of a batch, the loss of the whole. `key` is new in each step and on each
            device.
        optimizer: an optax optimiser. It receives the loss as `value`, for `reduce_on_plateau`; those that
            call the loss again, such as L-BFGS with a line search, cannot be used.
        clip_norm: largest norm of the gradient, as one vector; longer ones are scaled down (Pascanu et al.
            2013, "On the difficulty of training recurrent neural networks", algorithm 1).
        accumulate: number of parts that the batch is processed in, one after the other; their gradients are
            averaged, with less memory and the same result.

    Raises:
        ValueError: `clip_norm` is not positive, `accumulate` is below 1 or does not divide the batch.
        TypeError: `loss_fn` returns something else.

    Example:
        >>> def loss_fn(params, batch, key):
        ...     return jnp.mean((params["w"] * batch["x"] - batch["y"]) ** 2)
        >>> optimizer = optax.sgd(0.1)
        >>> state = init_state({"w": jnp.zeros(())}, optimizer, key=jax.random.key(0))
        >>> step = jax.jit(make_train_step(loss_fn, optimizer))
        >>> state, metrics = step(state, {"x": jnp.ones(4), "y": jnp.full(4, 2.0)})
        >>> float(metrics["loss"]), round(float(state.params["w"]), 4)
        (4.0, 0.4)
    """
    if clip_norm is not None and not clip_norm > 0:
        raise ValueError(f"clip_norm is {clip_norm}; give a positive number, or None for no clipping")
    accumulate = checked_count("accumulate", accumulate)
    update = optax.with_extra_args_support(optimizer).update
    clip = optax.identity() if clip_norm is None else optax.clip_by_global_norm(clip_norm)

    def step(state: TrainState, batch: Tree, *, axis_name: str | None = None) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(state.key, state.step)
        if axis_name is not None:
            key = jax.random.fold_in(key, jax.lax.axis_index(axis_name))
        loss, metrics, gradient = _gradient(loss_fn, state.params, batch, key, accumulate)
        if axis_name is not None:
            loss, metrics, gradient = jax.lax.pmean((loss, metrics, gradient), axis_name)
        # Optimisers mix integers and floats; callers may have forbidden that for their own code.
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            # optax sums squares in their own dtype: half precision overflows, and loses the small ones.
            wide = jax.tree.map(lambda g: g.astype(jnp.promote_types(g.dtype, jnp.float32)), gradient)
            norm = optax.tree.norm(wide)
            clipped, _ = clip.update(wide, clip.init(wide))
            clipped = jax.tree.map(lambda c, g: c.astype(g.dtype), clipped, gradient)
            updates, opt_state = update(clipped, state.opt_state, state.params, value=loss)
            params = optax.apply_updates(state.params, updates)
        # Not optax.apply_if_finite: it ignores the loss, applies the update after some failures in a row, and
        # its counts lie within the optimiser's state, where no metric and no other optimiser finds them.
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        params, opt_state = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old), (params, opt_state), (state.params, state.opt_state)
        )
        bad = (~finite).astype(jnp.int32)
        skipped, in_row = state.skipped + bad, (state.skipped_in_row + bad) * bad
        metrics = {**metrics, "loss": loss, "grad_norm": norm, "skipped": skipped, "skipped_in_row": in_row}
        return TrainState(state.step + 1, params, opt_state, state.key, skipped, in_row), metrics

    return step


def _gradient(loss_fn: LossFn, params: Tree, batch: Tree, key: jax.Array, parts: int):
    """Loss, metrics and gradient of a batch, its parts one after the other."""

    def gradient_of(part: Tree, key: jax.Array):
        def valued(params: Tree):
            return _loss_and_metrics(loss_fn(params, part, key))

        (loss, metrics), gradient = jax.value_and_grad(valued, has_aux=True)(params)
        # With complex parameters the way down is along the conjugate of what JAX calls the gradient.
        return loss, metrics, jax.tree.map(jnp.conj, gradient)

    if parts == 1:
        return gradient_of(batch, key)
    stacked = jax.tree.map(partial(_parts, parts), batch)
    keys = jax.random.split(key, parts)
    shapes = jax.eval_shape(gradient_of, jax.tree.map(lambda x: x[0], stacked), keys[0])
    zeros = jax.tree.map(lambda one: jnp.zeros(one.shape, one.dtype), shapes)

    def add(total: Tree, one: tuple[Tree, jax.Array]):
        return jax.tree.map(jnp.add, total, gradient_of(*one)), None

    total, _ = jax.lax.scan(add, zeros, (stacked, keys))
    return jax.tree.map(lambda x: x / parts, total)


def _parts(parts: int, array: jax.Array) -> jax.Array:
    """Array (examples, ...) as (parts, examples / parts, ...)."""
    if array.ndim == 0 or array.shape[0] % parts:
        raise ValueError(
            f"accumulate is {parts} and an array of the batch has shape {array.shape}; "
            "its leading axis must be a multiple"
        )
    return array.reshape(parts, array.shape[0] // parts, *array.shape[1:])


def _loss_and_metrics(returned: Any) -> tuple[jax.Array, Metrics]:
    loss, metrics = returned if isinstance(returned, tuple) else (returned, {})
    if jnp.shape(loss) != () or not jnp.issubdtype(jnp.result_type(loss), jnp.floating):
        raise TypeError(
            f"loss_fn returned a loss of shape {jnp.shape(loss)} and dtype {jnp.result_type(loss)}; "
            "return one real number, or a pair of it and a dictionary of metrics"
        )
    for name, value in metrics.items():
        if name in RESERVED:
            raise ValueError(f"loss_fn returned a metric '{name}', a name of the step's own; rename it")
        if jnp.shape(value) != ():
            raise TypeError(
                f"loss_fn returned the metric '{name}' of shape {jnp.shape(value)}; return one number"
            )
    return loss, {name: jnp.asarray(value, jnp.result_type(loss)) for name, value in metrics.items()}


# Many starts at once


def init_starts(
    init: Callable[[jax.Array], Tree],
    optimizer: optax.GradientTransformation,
    count: int,
    *,
    key: jax.Array,
) -> TrainState:
    """Return the states of `count` starts, a TrainState whose arrays have a leading axis of that length.

    `init` takes a key and returns params; start i is ``init(split(key, count)[i])``.

    Example:
        >>> init = lambda key: {"w": jax.random.normal(key, (3,))}
        >>> init_starts(init, optax.adam(1e-3), 8, key=jax.random.key(0)).params["w"].shape
        (8, 3)
    """
    keys = jax.random.split(key, checked_count("count", count))
    states = jax.vmap(lambda one: init_state(init(one), optimizer, key=one))(keys)
    return jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), states)


def many_starts(step: TrainStep) -> TrainStep:
    """Return the train step of many starts at once, all on the same batch, for states of `init_starts`.

    Its metrics have the leading axis too. Each start skips its own steps where its loss is not finite.

    Example:
        >>> loss_fn = lambda params, batch, key: jnp.mean((params - batch) ** 2)
        >>> optimizer = optax.sgd(0.5)
        >>> state = init_starts(lambda key: jax.random.normal(key), optimizer, 4, key=jax.random.key(0))
        >>> state, metrics = many_starts(make_train_step(loss_fn, optimizer))(state, jnp.ones(2))
        >>> metrics["loss"].shape
        (4,)
    """

    def stepped(
        state: TrainState, batch: Tree, *, axis_name: str | None = None
    ) -> tuple[TrainState, Metrics]:
        return jax.vmap(partial(step, axis_name=axis_name), in_axes=(0, None))(state, batch)

    return stepped


def best_start(states: Tree, losses: Any) -> tuple[Tree, int]:
    """Return the start of the lowest loss, without the leading axis of `states` (starts, ...), and its index.

    `losses` (starts,) that are not finite do not count; ValueError where none is finite.

    Example:
        >>> best_start({"w": jnp.arange(3.0)}, [2.0, float("nan"), 1.0])
        ({'w': Array(2., dtype=float32)}, 2)
    """
    values = np.asarray(losses, np.float64)
    starts = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(states)}
    if values.ndim != 1 or starts - {values.shape}:
        raise ValueError(
            f"losses has shape {values.shape} and states has leading axes {sorted(starts)}; "
            "give one loss for each start"
        )
    if not np.any(np.isfinite(values)):
        raise ValueError(f"none of the {len(values)} starts has a finite loss; lower the learning rate")
    best = int(np.argmin(np.where(np.isfinite(values), values, np.inf)))
    return jax.tree.map(lambda leaf: leaf[best], states), best
