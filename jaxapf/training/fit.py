"""The training loop: batches by position, records now and then, checkpoints that a killed run resumes from.

    with Checkpoints(folder, config=config) as checkpoints:
        state = checkpoints.restore(state) or state
        fitted = fit(plan, state, batch_at, 5000, checkpoints=checkpoints, on_record=print)

Data is a function of the position: ``batch_at(n)`` is always the batch of step n. So the position is all
that a checkpoint needs to hold of it, and a resumed run continues with the batches of an uninterrupted one.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxapf._internal.arrays import count, enable_x64
from jaxapf.training.parallel import Plan, of_this_process
from jaxapf.training.step import RESERVED, TrainState

__all__ = ["Fitted", "Record", "TrainingError", "fit", "position"]

Tree = Any
Record = dict[str, Any]
# Steps handed to the device before the first of them must be done: enough to hide the loop, few enough
# that their batches do not fill the memory.
AHEAD = 8
COUNTS = ("skipped", "skipped_in_row")


class TrainingError(RuntimeError):
    """Training cannot go on, in one sentence for the user."""


class Saver(Protocol):
    """What `fit` needs of `training.checkpoint.Checkpoints`."""

    def save(self, state: Any, metrics: Any = None, *, step: int | None = None) -> Any: ...

    def wait(self) -> None: ...


class Fitted(NamedTuple):
    """The result of `fit`.

    ``state`` after the last step; ``records`` of this run; ``losses`` (), or (starts,) of many starts, means
    over the last record's steps, for `training.step.best_start`; NaN where no step was left to do.
    """

    state: TrainState
    records: list[Record]
    losses: np.ndarray


def position(state: TrainState) -> int:
    """Return the number of batches seen, which is the position in the data of the next one.

    Example:
        >>> import optax
        >>> from jaxapf.training.step import init_state
        >>> position(init_state(np.zeros(2), optax.sgd(0.1), key=jax.random.key(0)))
        0
    """
    return int(np.max(np.asarray(of_this_process(state.step))))


def fit(
    plan: Plan,
    state: TrainState,
    batch_at: Callable[[int], Tree],
    steps: int,
    *,
    log_every: int = 50,
    save_every: int | None = None,
    checkpoints: Saver | None = None,
    evaluate: Callable[[TrainState], dict[str, Any]] | None = None,
    on_record: Callable[[Record], None] | None = None,
    max_skipped: int = 100,
    prefetch: int = 2,
) -> Fitted:
    """Train from the state's position to step `steps`.

    The loop waits for the device only every `log_every` steps, to read the metrics; a thread makes batches
    and brings them to the device meanwhile.

    Args:
        plan: the step and its devices, of `training.parallel`.
        state: of `init_state` or `init_starts`, or restored from a checkpoint.
        batch_at: position -> pytree of arrays with the examples on the leading axis (in several processes
            this process's share). Called in a thread; must always return the same for the same position, in
            new arrays or ones that are never changed.
        steps: total, those already done included.
        log_every: steps between records.
        save_every: steps between checkpoints, a multiple of `log_every`; its default is `log_every`. The last
            step is always saved.
        checkpoints: an open `training.checkpoint.Checkpoints`; without it nothing is saved.
        evaluate: state -> numbers, called before each checkpoint and added to its record, under names that
            records do not have. The next step reuses the state's memory: copy what is to be kept.
        on_record: called with each record, a dictionary of numbers: `step`; means over the steps since the
            record before (the skipped ones left out) of `loss`, `grad_norm` and the loss function's
            metrics; `skipped` so far; `seconds` since the first step of this run; `samples_per_s`, elements
            of the batch's largest array; `compile_s`, in a run's first record. Of many starts, those of the
            one with the lowest loss, `best_start`, and `loss_median`.
        max_skipped: number of steps skipped in a row at which training stops.
        prefetch: number of batches made in advance, in a thread; 0 makes each when it is due.

    Raises:
        TrainingError: `max_skipped` steps in a row, or the last half of the run, were not finite; parameters
            (of many starts, those of all) are not.
        ValueError: a count is unusable; `evaluate` takes a name of the record's own.

    Example:
        >>> import optax
        >>> from jaxapf.training import parallel
        >>> from jaxapf.training.step import init_state, make_train_step
        >>> loss_fn = lambda params, batch, key: ((params - batch) ** 2).mean()
        >>> optimizer = optax.sgd(0.1)
        >>> plan = parallel.single(make_train_step(loss_fn, optimizer))
        >>> state = init_state(np.zeros((), np.float32), optimizer, key=jax.random.key(0))
        >>> fitted = fit(plan, state, lambda position: np.ones(4, np.float32), 100)
        >>> round(float(fitted.state.params), 4), [record["step"] for record in fitted.records]
        (1.0, [50, 100])
    """
    log_every, max_skipped = count("log_every", log_every), count("max_skipped", max_skipped)
    steps, prefetch = count("steps", steps, 0), count("prefetch", prefetch, 0)
    save_every = log_every if save_every is None else count("save_every", save_every)
    if save_every % log_every:
        raise ValueError(f"save_every is {save_every} and log_every {log_every}; give a multiple of it")
    start = position(state)
    state = plan.put_state(state)
    records: list[Record] = []
    pending: list[Any] = []
    losses = np.full(np.shape(state.step), np.nan)
    clock = _Clock()
    with contextlib.closing(_batches(batch_at, range(start, steps), plan.put_batch, prefetch)) as batches:
        for done, batch in enumerate(batches, start + 1):
            state, metrics = plan.step(state, batch)
            pending.append(metrics)
            clock.tick(metrics, batch)
            if len(pending) > AHEAD:
                pending[-AHEAD]["loss"].block_until_ready()
            last = done == steps
            if done % log_every and not last:
                continue
            means = _means(plan.get_metrics(pending))
            record, losses, pending = {"step": done, **_summary(means), **clock.read()}, means["loss"], []
            skipped_in_row = record.pop("skipped_in_row")
            saving = last or done % save_every == 0
            if saving and _all_broken(state.params, state.step.ndim):
                raise TrainingError(_broke(done, save_every))
            if saving and evaluate is not None:
                record |= _evaluated(evaluate(plan.get_state(state)))
            records.append(record)
            if on_record is not None:
                on_record(record)
            if skipped_in_row >= max_skipped or (last and 2 * skipped_in_row >= done - start):
                raise TrainingError(_only_skipped(skipped_in_row, done))
            if saving and checkpoints is not None:
                figures = {name: value for name, value in record.items() if name != "step"}
                checkpoints.save(plan.get_state(state), figures, step=done)
    if checkpoints is not None:
        checkpoints.wait()
    return Fitted(plan.get_state(state), records, losses)


def _evaluated(found: dict[str, Any]) -> Record:
    for name in found:
        if name in RESERVED:
            raise ValueError(f"evaluate returned '{name}', a name of the record's own; rename it")
    return {name: float(value) for name, value in found.items()}


@partial(jax.jit, static_argnums=1)
def _all_broken(params: Tree, stacked: int) -> jax.Array:
    """Return whether parameters are not finite: of one start, or of all along the first axis."""
    leaves = jax.tree.leaves(params)
    whole = [jnp.all(jnp.isfinite(leaf), axis=tuple(range(stacked, leaf.ndim))) for leaf in leaves]
    return ~jnp.any(jnp.all(jnp.stack(whole), axis=0)) if whole else jnp.array(False)


def _broke(done: int, every: int) -> str:
    return (
        f"the parameters are not finite any more, since a step between {max(0, done - every)} and {done} "
        "whose loss and gradient were; lower the learning rate, and go on from the last checkpoint"
    )


def _only_skipped(count: int, done: int) -> str:
    return (
        f"the last {count} steps were skipped, because loss or gradient was not finite (since the batch at "
        f"position {done - count}); lower the learning rate, give clip_norm, or look at that batch"
    )


def _batches(
    batch_at: Callable[[int], Tree], positions: range, put: Callable[[Tree], Tree], ahead: int
) -> Generator[Tree, None, None]:
    """Yield the batches of these positions on the device, some of them made in advance, in a thread."""
    if not ahead:
        yield from (put(batch_at(position)) for position in positions)
        return
    settings = _settings()

    def enter() -> None:
        for one in settings:  # never left: they end with their thread
            one.__enter__()

    pool = ThreadPoolExecutor(1, "jaxapf-batches", enter)
    waiting: deque[Future[Tree]] = deque()
    try:
        for position in positions:
            waiting.append(pool.submit(lambda position: put(batch_at(position)), position))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _settings() -> list[AbstractContextManager[Any]]:
    """Return JAX's settings of this thread, such as an open `jax.enable_x64`, to enter in another."""
    config: Any = jax.config
    return [
        enable_x64(config.jax_enable_x64),
        jax.default_device(config.jax_default_device),
        jax.numpy_dtype_promotion(config.jax_numpy_dtype_promotion),
        jax.numpy_rank_promotion(config.jax_numpy_rank_promotion),
    ]


class _Clock:
    """Seconds and samples per second, the first step with its compiling left out."""

    def __init__(self) -> None:
        self.created = time.perf_counter()
        self.compile_s: float | None = None
        self.samples = self.in_batch = 0

    def tick(self, metrics: Tree, batch: Tree) -> None:
        """Count a step; wait for the first one."""
        if self.compile_s is None:
            jax.block_until_ready(metrics)
            self.started = self.since = time.perf_counter()
            self.compile_s = self.started - self.created
            self.in_batch = max((leaf.size for leaf in jax.tree.leaves(batch)), default=0)
        else:
            self.samples += self.in_batch

    def read(self) -> Record:
        """Figures since the last reading."""
        now = time.perf_counter()
        figures: Record = {"seconds": now - self.started}
        if self.since == self.started:
            figures["compile_s"] = self.compile_s
        if self.samples:
            figures["samples_per_s"] = self.samples / (now - self.since)
        self.since, self.samples = now, 0
        return figures


def _means(metrics: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the means of what is finite over the steps, NaN where nothing is; of the counts the last."""
    stacked = {name: np.stack([one[name] for one in metrics]).astype(np.float64) for name in metrics[0]}
    finite = {name: np.ma.masked_invalid(values).mean(axis=0) for name, values in stacked.items()}
    means = {name: np.asarray(np.ma.filled(values, np.nan)) for name, values in finite.items()}
    return means | {name: stacked[name][-1] for name in COUNTS}


def _summary(means: dict[str, np.ndarray]) -> Record:
    """Return the record of one start, or of the best of many."""
    if means["loss"].ndim == 0:
        return _numbers(means)
    losses = np.where(np.isfinite(means["loss"]), means["loss"], np.inf)
    best = int(np.argmin(losses))
    return {
        **_numbers({name: values[best] for name, values in means.items()}),
        "skipped": int(np.sum(means["skipped"])),
        "skipped_in_row": int(np.min(means["skipped_in_row"])),
        "best_start": best,
        "loss_median": float(np.median(losses)),
    }


def _numbers(means: dict[str, np.ndarray]) -> Record:
    return {name: int(value) if name in COUNTS else float(value) for name, value in means.items()}
