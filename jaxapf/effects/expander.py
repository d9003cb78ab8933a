"""Downward expander, up to a gate: what is soft becomes softer, exact in its recursions and gradients.

    detector    p[t] = (1 - a) p[t - 1] + a x[t]^2         mean power ("rms"), or mean magnitude ("peak")
    curve       u = (ratio - 1) (threshold - p[t] in dB)   0 above the threshold, bent in the knee
                c[t] = -range tanh(u / range)              never deeper than the range
    ballistics  s[t] = s[t - 1] + b (r[t] - s[t - 1])      b: attack's where the gain rises, else release's
    output      y[t] = makeup g[t] x[t]

The limit of the range is smooth, so that its gradient reaches every level: a reduction asked for of a quarter
of the range is 2 per cent less in dB, one of half of it 8 per cent, one of all of it 24 per cent.
Detector and ballistics are those of `dynamics`, which the compressor shares. The signal begins with an
open gate; with "level" smoothing, from silence.

Source: Giannoulis, Massberg and Reiss 2012, "Digital dynamic range compressor design", for detector, knee and
ballistics; the same curve turned over.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxapf._internal.arrays import Values, as_signal, batch_shape
from jaxapf.effects import dynamics
from jaxapf.effects._controls import arrays, lifted, linear
from jaxapf.effects.dynamics import SHARPEST_KNEE_DB, ballistics, coefficient

LEAST_RANGE_DB = 1e-3
_TIMES = ("attack_ms", "release_ms", "average_ms", "knee_db", "range_db")


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

    threshold_db: Any
    ratio: Any
    attack_ms: Any
    release_ms: Any
    average_ms: Any = 1.0
    knee_db: Any = 0.0
    range_db: Any = 80.0
    makeup_db: Any = 0.0


class State(NamedTuple):
    """``level`` (...) of the detector, ``smoothed`` (...) of the ballistics."""

    level: Any
    smoothed: Any


def rest(batch: tuple[int, ...] = (), *, dtype: Any = jnp.float32) -> State:
    """The state before any sound: no level, no reduction.

    Args:
        batch: shape of the batch axes.
        dtype: of the signal.

    Returns:
        State.

    Example:
        >>> rest((2,)).smoothed.tolist()
        [0.0, 0.0]
    """
    return State(jnp.zeros(batch, dtype), jnp.zeros(batch, dtype))


def expander(
    controls: Controls,
    state: State,
    x: Values,
    fs: float,
    *,
    detector: str = "rms",
    smoothing: str = "gain",
) -> tuple[jax.Array, State]:
    """Expand a signal downwards: exact recursions, gradients by all controls, the state and the signal.

    Args:
        controls: `Controls`.
        state: of `rest`, or what the chunk before returned.
        x: `(..., n_samples)`, any number of samples.
        fs: sample rate in Hz.
        detector: `"rms"` averages the power, `"peak"` the magnitude.
        smoothing: what attack and release smooth: the `"gain"`, `"gain_db"`, or the `"level"`.

    Returns:
        y: `(..., n_samples)` in the dtype of `x`.
        state: after the last sample; whole = chunks.

    Raises:
        ValueError: a control out of its range, an unknown option.

    Source: see above.

    Example:
        >>> controls = Controls(threshold_db=-20.0, ratio=3.0, attack_ms=1.0, release_ms=5.0)
        >>> y, _ = expander(controls, rest(), jnp.full(4000, 10 ** (-30 / 20)), 8000.0)
        >>> round(20 * float(jnp.log10(y[-1])), 1)  # 20 dB less, but for the range's 2 per cent
        -49.6
    """
    signal = as_signal(x)
    _check(controls, fs, detector, smoothing)
    return _exact(arrays(controls, signal), state, signal, fs, detector, smoothing)


def expander_sampled(
    controls: Controls,
    x: Values,
    fs: float,
    *,
    detector: str = "rms",
    smoothing: str = "gain",
    n_fft: int | None = None,
) -> jax.Array:
    """The approximation by frequency sampling: one time constant for attack and release, from rest.

    The constant lies midway between the two on a log scale.

    Args:
        controls: `Controls`.
        x: `(..., n_samples)`.
        fs: sample rate in Hz.
        detector: as in `expander`.
        smoothing: as in `expander`.
        n_fft: of frequency sampling; by default as `frequency.sosfilt_fsm` chooses.

    Returns:
        `(..., n_samples)`.

    Raises:
        ValueError: as `expander`.

    Source: as `compressor.compressor_sampled`.

    Example:
        >>> controls = Controls(threshold_db=-20.0, ratio=4.0, attack_ms=1.0, release_ms=50.0)
        >>> expander_sampled(controls, jnp.ones(4000), 8000.0).shape
        (4000,)
    """
    signal = as_signal(x)
    _check(controls, fs, detector, smoothing)
    return _by_sampling(arrays(controls, signal), signal, fs, detector, smoothing, n_fft)


def curve_db(level_db: Any, controls: Controls) -> Any:
    """The gain in dB that a level asks for: 0 above the threshold, towards -range below it.

    Args:
        level_db: in dB, broadcast against the controls.
        controls: threshold, ratio, knee and range of these.

    Returns:
        dB, 0 or below.

    Source: see above.

    Example:
        >>> controls = Controls(-20.0, 3.0, 1.0, 50.0, range_db=60.0)
        >>> [round(float(one), 2) for one in curve_db(jnp.array([-80.0, -25.0]), controls)]
        [-57.84, -9.91]
    """
    knee = jnp.maximum(controls.knee_db, SHARPEST_KNEE_DB)
    deepest = jnp.maximum(controls.range_db, LEAST_RANGE_DB)
    asked = (controls.ratio - 1) * dynamics.bent(controls.threshold_db - level_db, knee)
    return -deepest * jnp.tanh(asked / deepest)


@functools.partial(jax.jit, static_argnums=(4, 5))
def _exact(
    c: Controls, state: State, signal: jax.Array, fs: float, detector: str, smoothing: str
) -> tuple[jax.Array, State]:
    batch = batch_shape("controls", np.broadcast_shapes(*(leaf.shape for leaf in c)), signal)
    signal = jnp.broadcast_to(signal, (*batch, signal.shape[-1]))
    state = State(*(jnp.asarray(leaf).astype(signal.dtype) for leaf in state))
    average, level = dynamics.averaged(c.average_ms, signal, fs, detector, state.level)
    curve = functools.partial(curve_db, controls=lifted(c))
    wanted = dynamics.wanted(average, curve, detector, smoothing)
    # The gain rises with the level: attack is the rise of either.
    attack, release = coefficient(c.attack_ms, fs), coefficient(c.release_ms, fs)
    smoothed = ballistics(wanted, state.smoothed, attack, release)
    last = smoothed[..., -1] if smoothed.shape[-1] else jnp.broadcast_to(state.smoothed, batch)
    gains = dynamics.gains(smoothed, curve, smoothing)
    return linear(c.makeup_db)[..., None] * gains * signal, State(level, last)


@functools.partial(jax.jit, static_argnums=(3, 4, 5))
def _by_sampling(
    c: Controls, signal: jax.Array, fs: float, detector: str, smoothing: str, n_fft: int | None
) -> jax.Array:
    average = dynamics.averaged_sampled(c.average_ms, signal, fs, detector, n_fft)
    curve = functools.partial(curve_db, controls=lifted(c))
    wanted = dynamics.wanted(average, curve, detector, smoothing)
    middle = dynamics.middle_time(c.attack_ms, c.release_ms, fs)
    smoothed = dynamics.sampled(coefficient(middle, fs), wanted, n_fft)
    return linear(c.makeup_db)[..., None] * dynamics.gains(smoothed, curve, smoothing) * signal


def _check(controls: Controls, fs: float, detector: str, smoothing: str) -> None:
    dynamics.check(fs, detector, smoothing)
    dynamics.check_times(controls, _TIMES)
