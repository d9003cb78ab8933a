"""Stereo panner: one channel to two at constant power."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxapf._internal.arrays import Values, as_signal, batch_shape, require
from jaxapf.effects._controls import arrays, no_state

rest = no_state


class Controls(NamedTuple):
    """A number or `(...)`, broadcast against the batch axes of the mono signal.

    pan in [-1, 1], from left to right
    """

    pan: Any


def panner(controls: Controls, state: tuple[()], x: Values, fs: float) -> tuple[jax.Array, tuple[()]]:
    """Place a mono signal between left and right, equally loud at every place.

    Left and right are cos(a) x and sin(a) x, a = pi / 4 (1 + pan): in the middle each is 3 dB down.

    Args:
        controls: `Controls`.
        state: of `rest`.
        x: `(..., n_samples)`, mono, any number of samples.
        fs: sample rate in Hz, as in other effects.

    Returns:
        y: `(..., 2, n_samples)` in the dtype of `x`, left and right.
        state: as it was.

    Raises:
        ValueError: `pan` beyond the ends, or batch axes that do not fit.

    Source: the sine-cosine law.

    Example:
        >>> panner(Controls(1.0), rest(), jnp.array([0.5, -0.5]), 44100.0)[0].round(3).tolist()
        [[-0.0, 0.0], [0.5, -0.5]]
    """
    signal = as_signal(x)
    require("pan", controls.pan, "a place from -1, left, to 1, right", lambda v: np.abs(v) <= 1)
    c = arrays(controls, signal)
    batch = batch_shape("controls", np.shape(c.pan), signal)
    signal = jnp.broadcast_to(signal, (*batch, signal.shape[-1]))
    angle = (np.pi / 4) * (1 + c.pan)
    return jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)[..., None] * signal[..., None, :], state
