"""What all effects do with their controls: bring them to the signal's dtype and rank, dB to a factor."""

from __future__ import annotations

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxapf._internal.arrays import with_rank

DB_PER_NEPER = 20 / float(np.log(10.0))

Named = TypeVar("Named", bound=tuple)


def arrays(controls: Named, signal: jax.Array) -> Named:
    """Controls as arrays of the signal's dtype, all of the rank of its batch axes."""
    leaves = [jnp.asarray(value).astype(signal.dtype) for value in controls]
    rank = max([signal.ndim - 1, *(leaf.ndim for leaf in leaves)])
    return type(controls)(*(with_rank(leaf, rank) for leaf in leaves))


def lifted(controls: Named) -> Named:
    """Controls with an axis for time."""
    return type(controls)(*(value[..., None] for value in controls))


def linear(db: Any) -> Any:
    """The factor that so many dB stand for."""
    return jnp.exp(db / DB_PER_NEPER)


def no_state(batch: tuple[int, ...] = (), *, dtype: Any = jnp.float32) -> tuple[()]:
    """The state: there is none.

    Args:
        batch: as in other effects.
        dtype: as in other effects.

    Returns:
        An empty tuple.

    Example:
        >>> no_state()
        ()
    """
    return ()
