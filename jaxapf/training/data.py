"""Batches as a function of their position, so that training can stop and go on anywhere."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import numpy as np

from jaxapf._internal.arrays import count as checked_count

__all__ = ["BatchAt", "endless", "prefetched", "shuffled"]

Tree = Any
BatchAt = Callable[[int], Tree]


def shuffled(arrays: Tree, batch_size: int, *, seed: int = 0, rows: slice = slice(None)) -> BatchAt:
    """Return batches of examples in a new random order each epoch, by position.

    Every epoch has each example at most once; the last ones, too few for a batch, are left out of it. The
    same position always gives the same batch, in every process and every run.

    Args:
        arrays: pytree of arrays (examples, ...), of one length, one batch or more.
        batch_size: examples in a batch, over all processes.
        seed: of the orders, an int >= 0.
        rows: those of a batch to read, where a process reads only its share (`training.distributed.rows`).

    Returns:
        ``batch_at`` of `training.fit.fit`: position -> pytree of NumPy arrays (examples in `rows`, ...).

    Example:
        >>> batch_at = shuffled(np.arange(6), 2, seed=1)
        >>> sorted(int(one) for position in range(3) for one in batch_at(position))
        [0, 1, 2, 3, 4, 5]
        >>> bool(np.all(batch_at(7) == batch_at(7)))
        True
    """
    arrays, examples = _checked(arrays, batch_size, seed)
    order = _orders(examples, seed)
    in_epoch = examples // batch_size

    def batch_at(position: int) -> Tree:
        epoch, number = divmod(position, in_epoch)
        chosen = order(epoch)[number * batch_size : (number + 1) * batch_size][rows]
        return jax.tree.map(lambda leaf: leaf[chosen], arrays)

    return batch_at


def endless(arrays: Tree, batch_size: int, *, seed: int = 0, rows: slice = slice(None)) -> BatchAt:
    """Return batches as `shuffled` does, but across the ends of epochs, so that no example is left out.

    For data of few batches: position n has the examples n * batch_size and following of all epochs' orders in
    a row.

    Example:
        >>> batch_at = endless(np.arange(3), 2)
        >>> sorted(int(one) for position in range(3) for one in batch_at(position))
        [0, 0, 1, 1, 2, 2]
    """
    arrays, examples = _checked(arrays, batch_size, seed)
    order = _orders(examples, seed)

    def batch_at(position: int) -> Tree:
        epoch, first = divmod(position * batch_size, examples)
        chosen = np.concatenate([order(epoch), order(epoch + 1)])[first : first + batch_size][rows]
        return jax.tree.map(lambda leaf: leaf[chosen], arrays)

    return batch_at


def prefetched(source: Any, batch_size: int, *, threads: int = 2, ahead: int = 4) -> BatchAt:
    """Return batches of examples that are computed on demand, some of them in threads; needs Grain.

    Batch n holds the examples n * batch_size and following. After a jump (a resumed run) the pipeline starts
    anew at that position.

    Args:
        source: a sequence of examples, pytrees of arrays: `len` and random access, always the same example at
            the same index; `jaxapf.datasets.Pairs` is one.
        batch_size: examples in a batch.
        threads: number of threads that make examples.
        ahead: number of batches made in advance.

    Example:
        >>> batch_at = prefetched([{"x": np.full(2, n)} for n in range(8)], 2)
        >>> batch_at(1)["x"].tolist(), batch_at(3)["x"].tolist()
        ([[2, 2], [3, 3]], [[6, 6], [7, 7]])
    """
    counts = {"batch_size": batch_size, "threads": threads, "ahead": ahead}
    size, threads, ahead = (checked_count(name, value) for name, value in counts.items())
    try:
        import grain
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "grain is not installed; it makes examples in advance: pip install 'jaxapf[data]'", name="grain"
        ) from error
    batches = grain.MapDataset.source(source).batch(size, drop_remainder=True)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
    last: dict[str, Any] = {"position": None, "batch": None, "stream": None}

    def batch_at(position: int) -> Tree:
        if not 0 <= position < len(batches):
            raise ValueError(
                f"position is {position}; expected 0 to {len(batches) - 1}, of that many batches"
            )
        if position != last["position"]:
            if last["stream"] is None or position != last["position"] + 1:
                last["stream"] = iter(batches[position:].to_iter_dataset(options))
            last["position"], last["batch"] = position, next(last["stream"])
        return last["batch"]

    return batch_at


def _checked(arrays: Tree, batch_size: int, seed: int) -> tuple[Tree, int]:
    """Return the arrays, NumPy's, and the number of examples in them."""
    batch_size, seed = checked_count("batch_size", batch_size), checked_count("seed", seed, 0)
    lengths = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(arrays)}
    if len(lengths) != 1 or lengths == {()}:
        raise ValueError(f"arrays have leading axes {sorted(lengths)}; give one number of examples for all")
    ((examples,),) = lengths
    if examples < batch_size:
        raise ValueError(
            f"arrays hold {examples} examples and batch_size is {batch_size}; give a smaller one"
        )
    return jax.tree.map(np.asarray, arrays), examples


def _orders(examples: int, seed: int) -> Callable[[int], np.ndarray]:
    """Return a function of the epoch that returns its order."""

    @lru_cache(maxsize=3)
    def order(epoch: int) -> np.ndarray:
        return np.random.default_rng((seed, epoch)).permutation(examples)

    return order
