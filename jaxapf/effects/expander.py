"""Downward expander, up to a gate: what is soft becomes softer, exact in its recursions and gradients.

    curve       u = (ratio - 1) (threshold - p[t] in dB)   0 above the threshold, bent in the knee
                c[t] = -range tanh(u / range)              never deeper than the range
    output      y[t] = makeup g[t] x[t]

The limit of the range is smooth, so that its gradient reaches every level: a requested reduction of a quarter
of the range is 2 per cent less in dB, one of half of it 8 per cent, one of all of it 24 per cent.
Detector and ballistics are those of `dynamics`, which the compressor shares, with the attack's time where the
gain rises. The signal begins with an open gate; with "level" smoothing, from silence.

Source: Giannoulis, Massberg and Reiss 2012, "Digital dynamic range compressor design", for detector, knee and
ballistics; the same curve mirrored.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxapf._internal.arrays import as_signal
from jaxapf.effects import dynamics
from jaxapf.effects._controls import Signal, SignalLike, Value, arrays, linear, typed, with_batch

__all__ = ["Controls", "State", "curve_db", "expander", "expander_sampled", "initial_state"]

LEAST_RANGE_DB = 1e-3
_NOT_NEGATIVE = ("attack_ms", "release_ms", "average_ms", "knee_db", "range_db")


class Controls(NamedTuple):
    """Each a number or `(...)`, broadcast against the batch axes of the signal.

    threshold_db in [-80, 0], level below which the gain falls
    ratio in [1, 20], of changes in level below it, out to in
    attack_ms in [0.1, 100], of a rising gain, release_ms in [5, 1000], of a falling gain, and
    average_ms in [0.1, 50], of the detector: each the time from 10 to 90 per cent of a step, 0 for none
    knee_db in [0, 24], width of the transition, centred on the threshold
    range_db in [3, 80], the deepest reduction
    makeup_db in [-24, 24]
    """

    threshold_db: Value
    ratio: Value
    attack_ms: Value
    release_ms: Value
    average_ms: Value = 1.0
    knee_db: Value = 0.0
    range_db: Value = 80.0
    makeup_db: Value = 0.0


class State(NamedTuple):
    """``level`` (...) of the detector, ``smoothed`` (...) of the ballistics."""

    level: Value
    smoothed: Value


def initial_state(batch: tuple[int, ...] = (), *, dtype: Any = jnp.float32) -> State:
    """Return the state of silence: no level, no reduction."""
    return State(jnp.zeros(batch, dtype), jnp.zeros(batch, dtype))


def expander(
    controls: Controls,
    state: State,
    x: SignalLike,
    fs: float,
    *,
    detector: str = "rms",
    smoothing: str = "gain",
) -> tuple[Signal, State]:
    """Expand a signal downwards, exactly; detector and smoothing are those of `compressor.compressor`.

    Example:
        >>> controls = Controls(threshold_db=-20.0, ratio=3.0, attack_ms=1.0, release_ms=5.0)
        >>> y, _ = expander(controls, initial_state(), jnp.full(4000, 10 ** (-30 / 20)), 8000.0)
        >>> round(20 * float(jnp.log10(y[-1])), 1)  # 20 dB less, but for the range's 2 per cent
        -49.6
    """
    signal = as_signal(x)
    dynamics.check(controls, _NOT_NEGATIVE, fs, detector, smoothing)
    return _exact(arrays(controls, signal), state, signal, fs, detector, smoothing)


def expander_sampled(
    controls: Controls,
    x: SignalLike,
    fs: float,
    *,
    detector: str = "rms",
    smoothing: str = "gain",
    n_fft: int | None = None,
) -> Signal:
    """Expand by frequency sampling, with one time constant for attack and release.

    Example:
        >>> controls = Controls(threshold_db=-20.0, ratio=4.0, attack_ms=1.0, release_ms=50.0)
        >>> expander_sampled(controls, jnp.ones(4000), 8000.0).shape
        (4000,)
    """
    signal = as_signal(x)
    dynamics.check(controls, _NOT_NEGATIVE, fs, detector, smoothing)
    c = arrays(controls, signal)
    return dynamics.process_sampled(c, curve_db, signal, fs, detector, smoothing, n_fft)


def curve_db(level_db: Float[Array, "*shape"], controls: Controls) -> Float[Array, "*shape"]:
    """Return the requested gain in dB at levels in dB: 0 above the threshold, towards -range below it."""
    knee = jnp.maximum(controls.knee_db, dynamics.SHARPEST_KNEE_DB)
    deepest = jnp.maximum(controls.range_db, LEAST_RANGE_DB)
    requested = (controls.ratio - 1) * dynamics.soft_knee(controls.threshold_db - level_db, knee)
    return -deepest * jnp.tanh(requested / deepest)


@functools.partial(jax.jit, static_argnums=(4, 5))
def _exact(
    c: Controls, state: State, signal: jax.Array, fs: float, detector: str, smoothing: str
) -> tuple[jax.Array, State]:
    signal, state = with_batch(signal, c), typed(state, signal)
    gains, *after = dynamics.exact_gains(c, curve_db, state, signal, fs, detector, smoothing, True)
    return linear(c.makeup_db)[..., None] * gains * signal, State(*after)
