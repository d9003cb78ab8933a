"""Gain: the signal times a factor, the simplest effect there is."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxapf._internal.arrays import Values, as_signal, batch_shape
from jaxapf.effects._controls import arrays, linear, no_state

rest = no_state


class Controls(NamedTuple):
    """A number or `(...)`, broadcast against the batch axes of the signal.

    gain_db in [-24, 24]
    """

    gain_db: Any


def gain(controls: Controls, state: tuple[()], x: Values, fs: float) -> tuple[jax.Array, tuple[()]]:
    """Make a signal louder or softer.

    Args:
        controls: `Controls`.
        state: of `rest`.
        x: `(..., n_samples)`, any number of samples.
        fs: sample rate in Hz, as in other effects.

    Returns:
        y: `(..., n_samples)` in the dtype of `x`.
        state: as it was.

    Raises:
        ValueError: controls whose batch axes do not fit those of `x`.

    Source: 20 dB are a factor of ten.

    Example:
        >>> gain(Controls(20.0), rest(), jnp.array([0.1, -0.2]), 44100.0)[0].round(3).tolist()
        [1.0, -2.0]
    """
    signal = as_signal(x)
    c = arrays(controls, signal)
    batch = batch_shape("controls", np.shape(c.gain_db), signal)
    return linear(c.gain_db)[..., None] * jnp.broadcast_to(signal, (*batch, signal.shape[-1])), state
