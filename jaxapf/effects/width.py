"""Stereo width: more or less of the difference between left and right."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxapf._internal.arrays import as_signal, require
from jaxapf.effects._controls import Value, arrays, stateless, with_batch

__all__ = ["Controls", "initial_state", "width"]

initial_state = stateless


class Controls(NamedTuple):
    """A number or `(...)`, broadcast against the batch axes of the signal before its channels.

    width in [0, 2]: 0 is mono, 1 leaves the signal as it is, 2 doubles the difference
    """

    width: Value


def width(
    controls: Controls, state: tuple[()], x: Float[ArrayLike, "... 2 n_samples"], fs: float
) -> tuple[Float[Array, "... 2 n_samples"], tuple[()]]:
    """Widen or narrow a stereo signal: scale its side, (left - right) / 2, and keep its middle.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [0.0, 0.5]])
        >>> width(Controls(0.0), initial_state(), x, 44100.0)[0].tolist()
        [[0.5, 0.25], [0.5, 0.25]]
    """
    signal = as_signal(x)
    if signal.ndim < 2 or signal.shape[-2] != 2:
        raise ValueError(f"x has shape {signal.shape}; expected (..., 2, n_samples), left and right.")
    require("width", controls.width, "from 0 to 2", lambda v: (v >= 0) & (v <= 2))
    c = arrays(controls, signal[..., 0, :])
    left, right = (with_batch(signal[..., channel, :], c) for channel in range(2))
    middle, side = (left + right) / 2, c.width[..., None] * ((left - right) / 2)
    return jnp.stack([middle + side, middle - side], axis=-2), state
