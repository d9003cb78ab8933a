"""What compressor and expander share: detector, knee, and ballistics that differ between rise and fall.

    detector    p[t] = (1 - a) p[t - 1] + a x[t]^2        mean power ("rms"), or mean magnitude ("peak")
    ballistics  s[t] = s[t - 1] + b (r[t] - s[t - 1])     b = rise where r[t] > s[t - 1], else fall

What the ballistics smooth is one of

    "gain"      r = g - 1, the gain that the level asks for       Yu et al. 2024, torchcomp
    "gain_db"   r = g in dB                                       as Giannoulis et al. recommend
    "level"     r = the level; the curve follows                  JUCE, pedalboard, SC4 and many plugins

Which of its two coefficients a sample takes depends on the state, so the ballistics are a loop over samples
(a kernel in C where there is one). Once taken, the recursion is linear: its derivative is an all-pole
recursion with the same b, one more pass of `recursion.first_order`, exact in both modes.

Source: Yu et al. 2024, section 5; Giannoulis, Massberg and Reiss 2012, "Digital dynamic range compressor
design" (knee, branching smoother).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxapf import frequency
from jaxapf._internal.arrays import require, with_rank
from jaxapf.effects._controls import DB_PER_NEPER, linear
from jaxapf.filters import native, recursion

DETECTORS = ("rms", "peak")
SMOOTHINGS = ("gain", "gain_db", "level")
FLOOR_DB = -100.0  # levels below it count as it
SHARPEST_KNEE_DB = 1e-4
LN_9 = float(np.log(9.0))
_LEAST_SAMPLES = 0.02  # of a time constant: exp(-ln 9 / 0.02) is 0 in float32, and no division by 0
_UNROLL = 4

Curve = Callable[[jax.Array], jax.Array]  # a level in dB -> the gain in dB that it asks for


def check(fs: float, detector: str, smoothing: str) -> None:
    """The sample rate and the options that both have."""
    for name, value, known in (("detector", detector, DETECTORS), ("smoothing", smoothing, SMOOTHINGS)):
        if value not in known:
            raise ValueError(f"{name} is {value!r}; choose one of {', '.join(known)}.")
    require("fs", fs, "a sample rate above 0 Hz", lambda v: v > 0)


def check_times(controls: Any, names: tuple[str, ...]) -> None:
    """The ratio, and the controls that cannot be negative."""
    require("ratio", controls.ratio, "1 or more", lambda v: v >= 1)
    for name in names:
        require(name, getattr(controls, name), "0 or more", lambda v: v >= 0)


def coefficient(time_ms: Any, fs: float) -> Any:
    """Of y[t] = (1 - b) y[t - 1] + b x[t] that takes so long from 10 to 90 per cent: b = 1 - exp(-ln 9 / n).

    Example:
        >>> round(float(coefficient(10.0, 44100.0)), 6)
        0.00497
    """
    return -jnp.expm1(-LN_9 / (1e-3 * fs * least_time(time_ms, fs)))


@jax.custom_jvp
def bent(over_db: Any, knee_db: Any) -> Any:
    """What is above the threshold: 0 below the knee, a parabola in it, `over_db` above."""
    into = jnp.clip(over_db / knee_db + 0.5, 0.0, 1.0)
    return 0.5 * knee_db * into**2 + jnp.maximum(over_db - 0.5 * knee_db, 0.0)


@bent.defjvp
def _bent_jvp(primals: Any, tangents: Any) -> tuple[Any, Any]:
    # Left to the chain rule this is a mask for every minimum and maximum, each of them an array in memory.
    (over_db, knee_db), (d_over, d_knee) = primals, tangents
    into = jnp.clip(over_db / knee_db + 0.5, 0.0, 1.0)
    return bent(over_db, knee_db), into * (d_over + (0.5 * d_knee - into * (0.5 * d_knee)))


def ballistics(x: jax.Array, start: Any, rise: Any, fall: Any) -> jax.Array:
    """Branching smoother: y[t] = y[t - 1] + b (x[t] - y[t - 1]), b = rise where x[t] > y[t - 1], else fall.

    Args:
        x: `(..., n_samples)`.
        start: `(...)` y before the first sample.
        rise: `(...)` in (0, 1], of `coefficient`.
        fall: `(...)`.

    Returns:
        `(..., n_samples)`.

    Source: Yu et al. 2024, section 5; Giannoulis et al. 2012, eq. 16 (branching smoother).

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


def averaged(
    average_ms: jax.Array, signal: jax.Array, fs: float, detector: str, start: Any
) -> tuple[jax.Array, jax.Array]:
    """The detector: the mean power or magnitude at every sample, and the last for the next chunk."""
    a = coefficient(average_ms, fs)[..., None]
    return recursion.first_order(1 - a, a * _detected(signal, detector), start)


def averaged_sampled(
    average_ms: jax.Array, signal: jax.Array, fs: float, detector: str, n_fft: int | None
) -> jax.Array:
    """The detector by frequency sampling, from rest."""
    return sampled(coefficient(average_ms, fs), _detected(signal, detector), n_fft)


def wanted(average: jax.Array, curve: Curve, detector: str, smoothing: str) -> jax.Array:
    """What the ballistics smooth: the gain that the detector's level asks for, 0 for none, or the level."""
    if smoothing == "level":
        floor = 10 ** (FLOOR_DB / 10)
        return jnp.sqrt(jnp.maximum(average, floor)) if detector == "rms" else average
    down = curve(in_db(average, 10.0 if detector == "rms" else 20.0))
    return down if smoothing == "gain_db" else jnp.expm1(down / DB_PER_NEPER)


def gains(smoothed: jax.Array, curve: Curve, smoothing: str) -> jax.Array:
    """The gain, a factor, from what the ballistics return."""
    if smoothing == "gain":
        return 1 + smoothed
    return linear(smoothed if smoothing == "gain_db" else curve(in_db(smoothed, 20.0)))


def _detected(signal: jax.Array, detector: str) -> jax.Array:
    return signal * signal if detector == "rms" else jnp.abs(signal)


def in_db(values: jax.Array, decade: float) -> jax.Array:
    """10 of them a decade for power, 20 for magnitude."""
    return (decade / float(np.log(10.0))) * jnp.log(jnp.maximum(values, 10 ** (FLOOR_DB / decade)))


def least_time(time_ms: Any, fs: float) -> Any:
    """No time is shorter than what a coefficient can say."""
    return jnp.maximum(time_ms, 1e3 * _LEAST_SAMPLES / fs)


def middle_time(one_ms: Any, other_ms: Any, fs: float) -> Any:
    """The time midway between two on a log scale, which stands for both where there can be only one."""
    return jnp.sqrt(least_time(one_ms, fs) * least_time(other_ms, fs))


def sampled(b: jax.Array, x: jax.Array, n_fft: int | None) -> jax.Array:
    """y[t] = (1 - b) y[t - 1] + b x[t] by frequency sampling."""
    zero = 0 * b
    rows = jnp.stack([b, zero, zero, zero + 1, b - 1, zero], axis=-1)[..., None, :]
    return frequency.sosfilt_fsm(rows, x, n_fft=n_fft)
