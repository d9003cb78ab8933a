"""Controls and states of effects: dtype, rank and batch axes of the signal; dB to a factor."""

from __future__ import annotations

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxapf._internal.arrays import batch_shape, with_rank

DB_PER_NEPER = 20 / float(np.log(10.0))

Signal = Float[Array, "... n_samples"]
SignalLike = Float[ArrayLike, "... n_samples"]
Value = Any  # of a control or state: a number, or an array (...) of the batch axes, NumPy's or JAX's
Named = TypeVar("Named", bound=tuple)


def arrays(controls: Named, signal: jax.Array) -> Named:
    """Return the controls as arrays of the signal's dtype, all of the rank of its batch axes."""
    leaves = [jnp.asarray(value).astype(signal.dtype) for value in controls]
    rank = max([signal.ndim - 1, *(leaf.ndim for leaf in leaves)])
    return type(controls)(*(with_rank(leaf, rank) for leaf in leaves))


def lifted(controls: Named) -> Named:
    """Return the controls with an axis for time."""
    return type(controls)(*(value[..., None] for value in controls))


def typed(state: Named, signal: jax.Array) -> Named:
    """Return the state in the dtype of the signal."""
    return type(state)(*(jnp.asarray(leaf).astype(signal.dtype) for leaf in state))


def with_batch(signal: jax.Array, controls: tuple) -> jax.Array:
    """Broadcast the signal to the batch axes of the controls; ValueError if they do not fit."""
    batch = batch_shape("controls", np.broadcast_shapes(*(np.shape(value) for value in controls)), signal)
    return jnp.broadcast_to(signal, (*batch, signal.shape[-1]))


def linear(db: Any) -> Any:
    """Return the factor of a gain in dB."""
    return jnp.exp(db / DB_PER_NEPER)


def stateless(batch: tuple[int, ...] = (), *, dtype: Any = jnp.float32) -> tuple[()]:
    """Return the empty state of an effect without memory; it takes what other effects take."""
    return ()
