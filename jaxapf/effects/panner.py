"""Stereo panner: one channel to two at constant power."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxapf._internal.arrays import as_signal, require
from jaxapf.effects._controls import SignalLike, Value, arrays, stateless, with_batch

__all__ = ["Controls", "initial_state", "panner"]

initial_state = stateless


class Controls(NamedTuple):
    """A number or `(...)`, broadcast against the batch axes of the mono signal.

    pan in [-1, 1], from left to right
    """

    pan: Value


def panner(
    controls: Controls, state: tuple[()], x: SignalLike, fs: float
) -> tuple[Float[Array, "... 2 n_samples"], tuple[()]]:
    """Pan a mono signal to left and right by the sine-cosine law: equal power at every angle.

    Left and right are cos(a) x and sin(a) x, a = pi / 4 (1 + pan): in the middle each is 3 dB down.

    Example:
        >>> panner(Controls(1.0), initial_state(), jnp.array([0.5, -0.5]), 44100.0)[0].round(3).tolist()
        [[-0.0, 0.0], [0.5, -0.5]]
    """
    signal = as_signal(x)
    require("pan", controls.pan, "a place from -1, left, to 1, right", lambda v: np.abs(v) <= 1)
    c = arrays(controls, signal)
    angle = (np.pi / 4) * (1 + c.pan)
    gains = jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)[..., None]
    return gains * with_batch(signal, c)[..., None, :], state
