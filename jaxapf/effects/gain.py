"""Gain: the signal times a factor, the simplest effect there is."""

from __future__ import annotations

from typing import NamedTuple

from jaxapf._internal.arrays import as_signal
from jaxapf.effects._controls import Signal, SignalLike, Value, arrays, linear, stateless, with_batch

__all__ = ["Controls", "gain", "initial_state"]

initial_state = stateless


class Controls(NamedTuple):
    """A number or `(...)`, broadcast against the batch axes of the signal.

    gain_db in [-24, 24]
    """

    gain_db: Value


def gain(controls: Controls, state: tuple[()], x: SignalLike, fs: float) -> tuple[Signal, tuple[()]]:
    """Amplify or attenuate a signal.

    Example:
        >>> gain(Controls(20.0), initial_state(), [0.1, -0.2], 44100.0)[0].round(3).tolist()
        [1.0, -2.0]
    """
    signal = as_signal(x)
    c = arrays(controls, signal)
    return linear(c.gain_db)[..., None] * with_batch(signal, c), state
