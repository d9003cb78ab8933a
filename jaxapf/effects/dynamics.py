"""What compressor and expander share: detector, knee, and ballistics that differ between rise and fall.

    detector    p[t] = (1 - a) p[t - 1] + a x[t]^2        mean power ("rms"), or mean magnitude ("peak")
    ballistics  s[t] = s[t - 1] + b (r[t] - s[t - 1])     b = rise where r[t] > s[t - 1], else fall

The ballistics smooth one of

    "gain"      r = g - 1, g the gain that the curve requests     Yu et al. 2024, torchcomp
    "gain_db"   r = g in dB                                       as Giannoulis et al. recommend
    "level"     r = the level; the curve follows                  JUCE, pedalboard, SC4 and many plugins

Which of its two coefficients a sample takes depends on the state, so the ballistics are a loop over samples
(a kernel in C where there is one). Once taken, the recursion is linear: its derivative is an all-pole
recursion with the same b, one more pass of `recursion.first_order`, exact in both modes.

Source: Yu et al. 2024, section 5; Giannoulis, Massberg and Reiss 2012, "Digital dynamic range compressor
design" (knee, branching smoother).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxapf import frequency
from jaxapf._internal.arrays import require, with_rank
from jaxapf.effects._controls import DB_PER_NEPER, Signal, lifted, linear
from jaxapf.filters import native, recursion

__all__ = [
    "DETECTORS",
    "SMOOTHINGS",
    "ballistics",
    "check",
    "coefficient",
    "exact_gains",
    "process_sampled",
    "soft_knee",
]

DETECTORS = ("rms", "peak")
SMOOTHINGS = ("gain", "gain_db", "level")
FLOOR_DB = -100.0  # levels below it count as it
SHARPEST_KNEE_DB = 1e-4
LN_9 = float(np.log(9.0))
_LEAST_SAMPLES = 0.02  # of a time constant: exp(-ln 9 / 0.02) is 0 in float32, and no division by 0
_UNROLL = 4

Curve = Callable[..., jax.Array]  # level in dB, controls -> requested gain in dB


def check(controls: Any, names: tuple[str, ...], fs: float, detector: str, smoothing: str) -> None:
    """Raise ValueError for an unknown option, a ratio below 1, or a negative one of the named controls."""
    for name, value, known in (("detector", detector, DETECTORS), ("smoothing", smoothing, SMOOTHINGS)):
        if value not in known:
            raise ValueError(f"{name} is {value!r}; choose one of {', '.join(known)}.")
    require("fs", fs, "a sample rate above 0 Hz", lambda v: v > 0)
    require("ratio", controls.ratio, "1 or more", lambda v: v >= 1)
    for name in names:
        require(name, getattr(controls, name), "0 or more", lambda v: v >= 0)


def exact_gains(
    c: Any,
    curve_db: Curve,
    state: Any,
    signal: jax.Array,
    fs: float,
    detector: str,
    smoothing: str,
    rises: bool,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the gains, and level and smoothed value after the last sample.

    `c` are controls of `arrays`; `rises` says whether attack is the time of a rising gain, as in an expander.
    A level rises by attack in both.
    """
    curve = functools.partial(curve_db, controls=lifted(c))
    a = coefficient(c.average_ms, fs)[..., None]
    average, level = recursion.first_order(1 - a, a * _detected(signal, detector), state.level)
    attack, release = coefficient(c.attack_ms, fs), coefficient(c.release_ms, fs)
    rise, fall = (attack, release) if rises or smoothing == "level" else (release, attack)
    smoothed = ballistics(_requested(average, curve, detector, smoothing), state.smoothed, rise, fall)
    last = smoothed[..., -1] if smoothed.shape[-1] else jnp.broadcast_to(state.smoothed, signal.shape[:-1])
    return _gains(smoothed, curve, smoothing), level, last


@functools.partial(jax.jit, static_argnums=(1, 4, 5, 6))
def process_sampled(
    c: Any, curve_db: Curve, signal: jax.Array, fs: float, detector: str, smoothing: str, n_fft: int | None
) -> jax.Array:
    """Process by frequency sampling, with one time constant, the geometric mean of attack and release."""
    curve = functools.partial(curve_db, controls=lifted(c))
    average = _smoothed_sampled(coefficient(c.average_ms, fs), _detected(signal, detector), n_fft)
    time_ms = jnp.sqrt(_least_time(c.attack_ms, fs) * _least_time(c.release_ms, fs))
    smoothed = _smoothed_sampled(
        coefficient(time_ms, fs), _requested(average, curve, detector, smoothing), n_fft
    )
    return linear(c.makeup_db)[..., None] * _gains(smoothed, curve, smoothing) * signal


def coefficient(time_ms: Any, fs: float) -> Any:
    """Return b of y[t] = (1 - b) y[t - 1] + b x[t] that rises from 10 to 90 per cent in `time_ms`."""
    return -jnp.expm1(-LN_9 / (1e-3 * fs * _least_time(time_ms, fs)))


@jax.custom_jvp
def soft_knee(over_db: Any, knee_db: Any) -> Any:
    """Return the excess over the threshold in dB: 0 below the knee, a parabola in it, `over_db` above."""
    into = jnp.clip(over_db / knee_db + 0.5, 0.0, 1.0)
    return 0.5 * knee_db * into**2 + jnp.maximum(over_db - 0.5 * knee_db, 0.0)


@soft_knee.defjvp
def _soft_knee_jvp(primals: Any, tangents: Any) -> tuple[Any, Any]:
    # Left to the chain rule this is a mask for every minimum and maximum, each of them an array in memory.
    (over_db, knee_db), (d_over, d_knee) = primals, tangents
    into = jnp.clip(over_db / knee_db + 0.5, 0.0, 1.0)
    return soft_knee(over_db, knee_db), into * (d_over + (0.5 * d_knee - into * (0.5 * d_knee)))


def ballistics(x: Signal, start: Any, rise: Any, fall: Any) -> Signal:
    """Smooth by y[t] = y[t - 1] + b (x[t] - y[t - 1]), b = rise where x[t] > y[t - 1], else fall.

    `start` (...) is y before the first sample; `rise` and `fall` (...) in (0, 1] are those of `coefficient`.

    Example:
        >>> ballistics(jnp.array([1.0, 0.0]), 0.0, 0.5, 0.25).tolist()
        [0.5, 0.375]
    """
    others = [jnp.asarray(one, x.dtype) for one in (start, rise, fall)]
    rank = max(x.ndim - 1, *(one.ndim for one in others))
    return _ballistics(with_rank(x, rank + 1), *(with_rank(one, rank) for one in others))


@jax.custom_jvp
def _ballistics(x: jax.Array, start: jax.Array, rise: jax.Array, fall: jax.Array) -> jax.Array:
    if native.usable(x):
        return lax.platform_dependent(x, start, rise, fall, cpu=native.ballistics, default=_ballistics_scan)
    return _ballistics_scan(x, start, rise, fall)


def _ballistics_scan(x: jax.Array, start: jax.Array, rise: jax.Array, fall: jax.Array) -> jax.Array:
    batch = np.broadcast_shapes(x.shape[:-1], start.shape, rise.shape, fall.shape)

    def sample(y: jax.Array, value: jax.Array) -> tuple[jax.Array, jax.Array]:
        y = y + jnp.where(value > y, rise, fall) * (value - y)
        return y, y

    values = jnp.moveaxis(jnp.broadcast_to(x, (*batch, x.shape[-1])), -1, 0)
    y = lax.scan(sample, jnp.broadcast_to(start, batch), values, unroll=_UNROLL)[1]
    return jnp.moveaxis(y, 0, -1)


@_ballistics.defjvp
def _ballistics_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    # With the branch that was taken, y[t] = (1 - b[t]) y[t - 1] + b[t] x[t] is linear, and
    #     dy[t] = (1 - b[t]) dy[t - 1] + b[t] dx[t] + (x[t] - y[t - 1]) db[t]:
    # the same recursion on another input. (Where x[t] = y[t - 1] there are two slopes; that of a fall is
    # taken.) It is an `allpole`, which has the transpose and the higher orders.
    x, start, rise, fall = primals
    d_x, d_start, d_rise, d_fall = tangents
    y = _ballistics(x, start, rise, fall)
    start, d_start = (jnp.broadcast_to(one, y.shape[:-1]) for one in (start, d_start))
    before = jnp.concatenate([start[..., None], y[..., : max(0, y.shape[-1] - 1)]], axis=-1)
    before = before[..., : y.shape[-1]]
    step = x - before
    rises = step > 0
    b = jnp.where(rises, rise[..., None], fall[..., None])
    driven = b * d_x + step * jnp.where(rises, d_rise[..., None], d_fall[..., None])
    return y, recursion.first_order(1 - b, driven, d_start)[0]


def _detected(signal: jax.Array, detector: str) -> jax.Array:
    return signal * signal if detector == "rms" else jnp.abs(signal)


def _requested(average: jax.Array, curve: Callable, detector: str, smoothing: str) -> jax.Array:
    """Return the ballistics' input: the gain that the curve requests, 0 for none, or the level."""
    if smoothing == "level":
        floor = 10 ** (FLOOR_DB / 10)
        return jnp.sqrt(jnp.maximum(average, floor)) if detector == "rms" else average
    gain_db = curve(_in_db(average, 10.0 if detector == "rms" else 20.0))
    return gain_db if smoothing == "gain_db" else jnp.expm1(gain_db / DB_PER_NEPER)


def _gains(smoothed: jax.Array, curve: Callable, smoothing: str) -> jax.Array:
    """Return the gain, a factor, from the ballistics' output."""
    if smoothing == "gain":
        return 1 + smoothed
    return linear(smoothed if smoothing == "gain_db" else curve(_in_db(smoothed, 20.0)))


def _in_db(values: jax.Array, per_decade: float) -> jax.Array:
    """Return dB, 10 a decade for power, 20 for magnitude, not below the floor."""
    return (per_decade / float(np.log(10.0))) * jnp.log(jnp.maximum(values, 10 ** (FLOOR_DB / per_decade)))


def _least_time(time_ms: Any, fs: float) -> Any:
    """Return the time, at least the shortest that a coefficient can represent."""
    return jnp.maximum(time_ms, 1e3 * _LEAST_SAMPLES / fs)


def _smoothed_sampled(b: jax.Array, x: jax.Array, n_fft: int | None) -> jax.Array:
    """Return y[t] = (1 - b) y[t - 1] + b x[t] by frequency sampling."""
    zero = 0 * b
    rows = jnp.stack([b, zero, zero, zero + 1, b - 1, zero], axis=-1)[..., None, :]
    return frequency.sosfilt_fsm(rows, x, n_fft=n_fft)
