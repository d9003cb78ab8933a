"""Stereo width: more or less of what differs between left and right."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxapf._internal.arrays import Values, as_signal, batch_shape, require
from jaxapf.effects._controls import arrays, no_state

rest = no_state


class Controls(NamedTuple):
    """A number or `(...)`, broadcast against the batch axes of the signal before its channels.

    width in [0, 2]: 0 is mono, 1 leaves the signal as it is, 2 doubles the difference
    """

    width: Any


def width(controls: Controls, state: tuple[()], x: Values, fs: float) -> tuple[jax.Array, tuple[()]]:
    """Widen or narrow a stereo signal; its sum, what mono listeners hear, stays.

    Args:
        controls: `Controls`.
        state: of `rest`.
        x: `(..., 2, n_samples)`, left and right, any number of samples.
        fs: sample rate in Hz, as in other effects.

    Returns:
        y: `(..., 2, n_samples)` in the dtype of `x`.
        state: as it was.

    Raises:
        ValueError: not two channels, a width out of its range, or batch axes that do not fit.

    Source: middle and side, (left + right) / 2 and (left - right) / 2.

    Example:
        >>> width(Controls(0.0), rest(), jnp.array([[1.0, 0.0], [0.0, 0.5]]), 44100.0)[0].tolist()
        [[0.5, 0.25], [0.5, 0.25]]
    """
    signal = as_signal(x)
    if signal.ndim < 2 or signal.shape[-2] != 2:
        raise ValueError(f"x has shape {signal.shape}; expected (..., 2, n_samples), left and right.")
    require("width", controls.width, "from 0 to 2", lambda v: (v >= 0) & (v <= 2))
    c = arrays(controls, signal[..., 0, :])
    batch = batch_shape("controls", np.shape(c.width), signal[..., 0, :])
    signal = jnp.broadcast_to(signal, (*batch, *signal.shape[-2:]))
    left, right = signal[..., 0, :], signal[..., 1, :]
    middle, side = (left + right) / 2, c.width[..., None] * ((left - right) / 2)
    return jnp.stack([middle + side, middle - side], axis=-2), state
