"""Feed-forward dynamic range compressor, exact in its recursions and their gradients.

    detector    p[t] = (1 - a) p[t - 1] + a x[t]^2        mean power ("rms"), or mean magnitude ("peak")
    curve       c[t] = (1 / ratio - 1) (p[t] in dB - threshold), 0 below the threshold, bent in the knee
    ballistics  s[t] = s[t - 1] + b (r[t] - s[t - 1])     b: attack's towards more compression, else release's
    output      y[t] = makeup g[t + lookahead] x[t]

What the ballistics smooth is one of

    "gain"      r = 10^(c / 20) - 1, g = 1 + s       Yu et al. 2024, torchcomp
    "gain_db"   r = c, g = 10^(s / 20)               as Giannoulis et al. recommend
    "level"     r = the level; the curve follows     JUCE, pedalboard, SC4 and many plugins

Which of its two coefficients a sample takes depends on the state, so the ballistics are a loop over samples
(a kernel in C where there is one). Once taken, the recursion is linear: its derivative is an all-pole
recursion with the same b, one more pass of `recursion.first_order`, exact in both modes.

Source: Yu et al. 2024, section 5; Giannoulis, Massberg and Reiss 2012, "Digital dynamic range compressor
design" (knee, branching smoother).
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxapf import frequency, native, recursion
from jaxapf._arrays import Values, as_signal, batch_shape, require, whole_number

DETECTORS = ("rms", "peak")
SMOOTHINGS = ("gain", "gain_db", "level")
FLOOR_DB = -100.0  # levels below it count as it
SHARPEST_KNEE_DB = 1e-4
DB_PER_NEPER = 20 / float(np.log(10.0))
LN_9 = float(np.log(9.0))
_LEAST_SAMPLES = 0.02  # of a time constant: exp(-ln 9 / 0.02) is 0 in float32, and no division by 0
_UNROLL = 4


class Controls(NamedTuple):
    """Each a number or `(...)`, broadcast against the batch axes of the signal.

    ``threshold_db`` level above which the gain falls; ``ratio`` of changes in level above it, in to out, 1 or
    more; ``attack_ms`` of a falling, ``release_ms`` of a rising gain and ``average_ms`` of the detector, each
    the time from 10 to 90 per cent of a step (2.2 time constants), 0 for none; ``knee_db`` width of the
    transition, centred on the threshold, 0 for none; ``makeup_db``; ``lookahead_ms`` by which the gain leads
    the signal, up to the latency of the state.
    """

    threshold_db: Any
    ratio: Any
    attack_ms: Any
    release_ms: Any
    average_ms: Any = 1.0
    knee_db: Any = 0.0
    makeup_db: Any = 0.0
    lookahead_ms: Any = 0.0


class State(NamedTuple):
    """``level`` (...) of the detector, ``smoothed`` (...) of the ballistics, and what look-ahead holds back.

    ``signal`` (..., latency) the last samples in, ``gains`` (..., latency + 1) the last gains. With
    "level" smoothing ``smoothed`` is a level, with the others the gain less one, or the gain in dB.
    """

    level: Any
    smoothed: Any
    signal: Any
    gains: Any


def rest(batch: tuple[int, ...] = (), *, latency: int = 0, dtype: Any = jnp.float32) -> State:
    """The state before any sound: no level, no reduction.

    Args:
        batch: shape of the batch axes.
        latency: samples that the output is late by, which look-ahead may use.
        dtype: of the signal.

    Returns:
        State.

    Raises:
        ValueError: `latency` no whole number, or negative.

    Example:
        >>> rest((2,), latency=3).signal.shape
        (2, 3)
    """
    held = whole_number("latency", latency)
    if held < 0:
        raise ValueError(f"latency is {held}; expected 0 or more samples.")
    silent = jnp.zeros(batch, dtype)
    return State(silent, silent, jnp.zeros((*batch, held), dtype), jnp.ones((*batch, held + 1), dtype))


def compressor(
    controls: Controls,
    state: State,
    x: Values,
    fs: float,
    *,
    detector: str = "rms",
    smoothing: str = "gain",
) -> tuple[jax.Array, State]:
    """Compress a signal: exact recursions, gradients by all controls, the state and the signal.

    With a state of `rest(latency=n)` the output is n samples late, and the look-ahead may be as long.

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
        ValueError: a control out of its range, a look-ahead longer than the latency, an unknown option.

    Source: Yu et al. 2024, section 5.

    Example:
        >>> controls = Controls(threshold_db=-20.0, ratio=4.0, attack_ms=1.0, release_ms=50.0)
        >>> y, _ = compressor(controls, rest(), jnp.ones(4000), 8000.0)
        >>> round(20 * float(jnp.log10(y[-1])), 2)
        -15.0
    """
    signal = as_signal(x)
    _check(controls, np.shape(state.signal)[-1], fs, detector, smoothing)
    return _exact(_arrays(controls, signal), state, signal, fs, detector, smoothing)


def compressor_sampled(
    controls: Controls,
    x: Values,
    fs: float,
    *,
    detector: str = "rms",
    smoothing: str = "gain",
    n_fft: int | None = None,
) -> jax.Array:
    """The approximation of earlier libraries: one time constant for both, by frequency sampling.

    The constant lies midway between attack and release on a log scale; the level is averaged by
    frequency sampling as well. No state: the signal begins from rest.

    Args:
        controls: `Controls`; there is no look-ahead here, it must be 0.
        x: `(..., n_samples)`.
        fs: sample rate in Hz.
        detector: as in `compressor`.
        smoothing: as in `compressor`.
        n_fft: of frequency sampling; by default as `frequency.sosfilt_fsm` chooses.

    Returns:
        `(..., n_samples)`.

    Raises:
        ValueError: as `compressor`, and a look-ahead.

    Source: the baseline of Yu et al. 2024, section 5; Steinmetz et al. 2022 (one time constant).

    Example:
        >>> controls = Controls(threshold_db=-20.0, ratio=4.0, attack_ms=1.0, release_ms=50.0)
        >>> compressor_sampled(controls, jnp.ones(4000), 8000.0).shape
        (4000,)
    """
    signal = as_signal(x)
    _check(controls, 0, fs, detector, smoothing)
    return _by_sampling(_arrays(controls, signal), signal, fs, detector, smoothing, n_fft)


def coefficient(time_ms: Any, fs: float) -> Any:
    """Of y[t] = (1 - b) y[t - 1] + b x[t] that takes so long from 10 to 90 per cent: b = 1 - exp(-ln 9 / n).

    Example:
        >>> round(float(coefficient(10.0, 44100.0)), 6)
        0.00497
    """
    return -jnp.expm1(-LN_9 / (1e-3 * fs * _time(time_ms, fs)))


def curve_db(level_db: Any, controls: Controls) -> Any:
    """The gain in dB that a level asks for: 0 below the threshold, (1 / ratio - 1) of what is above it.

    Args:
        level_db: in dB, broadcast against the controls.
        controls: threshold, ratio and knee of these.

    Returns:
        dB, 0 or below.

    Source: Giannoulis et al. 2012, eq. 4 (quadratic knee).

    Example:
        >>> controls = Controls(-20.0, 4.0, 1.0, 50.0, knee_db=6.0)
        >>> curve_db(jnp.array([-40.0, -20.0, 0.0]), controls).tolist()
        [-0.0, -0.5625, -15.0]
    """
    knee = jnp.maximum(controls.knee_db, SHARPEST_KNEE_DB)
    return (1 / controls.ratio - 1) * _bent(level_db - controls.threshold_db, knee)


@jax.custom_jvp
def _bent(over_db: Any, knee_db: Any) -> Any:
    """What is above the threshold: 0 below the knee, a parabola in it, `over_db` above."""
    into = jnp.clip(over_db / knee_db + 0.5, 0.0, 1.0)
    return 0.5 * knee_db * into**2 + jnp.maximum(over_db - 0.5 * knee_db, 0.0)


@_bent.defjvp
def _bent_jvp(primals: Any, tangents: Any) -> tuple[Any, Any]:
    # Left to the chain rule this is a mask for every minimum and maximum, each of them an array in memory.
    (over_db, knee_db), (d_over, d_knee) = primals, tangents
    into = jnp.clip(over_db / knee_db + 0.5, 0.0, 1.0)
    return _bent(over_db, knee_db), into * (d_over + (0.5 * d_knee - into * (0.5 * d_knee)))


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
    x = x.reshape(*(1,) * (rank + 1 - x.ndim), *x.shape)
    return _ballistics(x, *(one.reshape(*(1,) * (rank - one.ndim), *one.shape) for one in others))


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
    # the same recursion on another input. (Where x[t] = y[t - 1], both branches give the same.) It is an
    # `allpole`, which has the transpose and the higher orders.
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


@functools.partial(jax.jit, static_argnums=(4, 5))
def _exact(
    c: Controls, state: State, signal: jax.Array, fs: float, detector: str, smoothing: str
) -> tuple[jax.Array, State]:
    batch = batch_shape("controls", np.broadcast_shapes(*(leaf.shape for leaf in c)), signal)
    signal = jnp.broadcast_to(signal, (*batch, signal.shape[-1]))
    state = State(*(jnp.asarray(leaf).astype(signal.dtype) for leaf in state))
    a = coefficient(c.average_ms, fs)
    detected = a[..., None] * _detected(signal, detector)
    average, level = recursion.first_order((1 - a)[..., None], detected, state.level)
    attack, release = coefficient(c.attack_ms, fs), coefficient(c.release_ms, fs)
    lifted = _lifted(c)
    wanted = _wanted(average, lifted, detector, smoothing)
    rise, fall = (attack, release) if smoothing == "level" else (release, attack)
    smoothed = ballistics(wanted, state.smoothed, rise, fall)
    last = smoothed[..., -1] if smoothed.shape[-1] else jnp.broadcast_to(state.smoothed, batch)
    gains = _gains(smoothed, lifted, smoothing)
    late, gained, held = _look_ahead(c.lookahead_ms * (1e-3 * fs), state, signal, gains)
    return _linear(c.makeup_db)[..., None] * gained * late, State(level, last, *held)


@functools.partial(jax.jit, static_argnums=(3, 4, 5))
def _by_sampling(
    c: Controls, signal: jax.Array, fs: float, detector: str, smoothing: str, n_fft: int | None
) -> jax.Array:
    average = _sampled(coefficient(c.average_ms, fs), _detected(signal, detector), n_fft)
    wanted = _wanted(average, _lifted(c), detector, smoothing)
    middle = jnp.sqrt(_time(c.attack_ms, fs) * _time(c.release_ms, fs))
    gains = _gains(_sampled(coefficient(middle, fs), wanted, n_fft), _lifted(c), smoothing)
    return _linear(c.makeup_db)[..., None] * gains * signal


def _wanted(average: jax.Array, c: Controls, detector: str, smoothing: str) -> jax.Array:
    """What the ballistics smooth: the gain that the detector's level asks for, 0 for none, or the level."""
    if smoothing == "level":
        floor = 10 ** (FLOOR_DB / 10)
        return jnp.sqrt(jnp.maximum(average, floor)) if detector == "rms" else average
    down = curve_db(_in_db(average, 10.0 if detector == "rms" else 20.0), c)
    return down if smoothing == "gain_db" else jnp.expm1(down / DB_PER_NEPER)


def _gains(smoothed: jax.Array, c: Controls, smoothing: str) -> jax.Array:
    if smoothing == "gain":
        return 1 + smoothed
    return _linear(smoothed if smoothing == "gain_db" else curve_db(_in_db(smoothed, 20.0), c))


def _look_ahead(
    lead: jax.Array, state: State, signal: jax.Array, gains: jax.Array
) -> tuple[jax.Array, jax.Array, tuple[jax.Array, jax.Array]]:
    """The signal late by the latency, the gain by what of it is not look-ahead, and what is held back.

    lead: in samples, interpolated between whole ones.
    """
    (*batch, n_samples), latency = signal.shape, state.signal.shape[-1]
    signals = jnp.concatenate([jnp.broadcast_to(state.signal, (*batch, latency)), signal], axis=-1)
    past = jnp.broadcast_to(state.gains, (*batch, latency + 1))
    # Gain of sample t at t + latency + 1: one more than the latency, which interpolation needs.
    known = jnp.concatenate([past, gains], axis=-1)
    held = signals[..., n_samples:], known[..., n_samples:]
    if latency == 0:
        return signal, gains, held
    late = jnp.clip(latency - lead, 0.0, float(latency))
    whole = jnp.clip(jnp.floor(late).astype(jnp.int32), 0, latency - 1)
    part = (late - whole.astype(late.dtype))[..., None]
    first = latency - whole
    if first.size == 1:
        rows = lax.dynamic_slice_in_dim(known, first.reshape(()), n_samples + 1, axis=-1)
    else:
        first = jnp.broadcast_to(first, batch).reshape(-1)
        cut = jax.vmap(lambda row, at: lax.dynamic_slice_in_dim(row, at, n_samples + 1))
        rows = cut(known.reshape(-1, known.shape[-1]), first).reshape(*batch, n_samples + 1)
    newer, older = rows[..., 1:], rows[..., :-1]
    return signals[..., :n_samples], newer + part * (older - newer), held


def _detected(signal: jax.Array, detector: str) -> jax.Array:
    return signal * signal if detector == "rms" else jnp.abs(signal)


def _in_db(values: jax.Array, decade: float) -> jax.Array:
    """10 of them a decade for power, 20 for magnitude."""
    return (decade / float(np.log(10.0))) * jnp.log(jnp.maximum(values, 10 ** (FLOOR_DB / decade)))


def _linear(db: Any) -> Any:
    return jnp.exp(db / DB_PER_NEPER)


def _time(time_ms: Any, fs: float) -> Any:
    return jnp.maximum(time_ms, 1e3 * _LEAST_SAMPLES / fs)


def _arrays(controls: Controls, signal: jax.Array) -> Controls:
    """Controls as arrays of the signal's dtype, all of the rank of its batch axes."""
    leaves = [jnp.asarray(value).astype(signal.dtype) for value in controls]
    rank = max([signal.ndim - 1, *(leaf.ndim for leaf in leaves)])
    return Controls(*(leaf.reshape(*(1,) * (rank - leaf.ndim), *leaf.shape) for leaf in leaves))


def _lifted(controls: Controls) -> Controls:
    return Controls(*(value[..., None] for value in controls))


def _sampled(b: jax.Array, x: jax.Array, n_fft: int | None) -> jax.Array:
    """y[t] = (1 - b) y[t - 1] + b x[t] by frequency sampling."""
    zero = 0 * b
    rows = jnp.stack([b, zero, zero, zero + 1, b - 1, zero], axis=-1)[..., None, :]
    return frequency.sosfilt_fsm(rows, x, n_fft=n_fft)


def _check(controls: Controls, latency: int, fs: float, detector: str, smoothing: str) -> None:
    for name, value, known in (("detector", detector, DETECTORS), ("smoothing", smoothing, SMOOTHINGS)):
        if value not in known:
            raise ValueError(f"{name} is {value!r}; choose one of {', '.join(known)}.")
    require("fs", fs, "a sample rate above 0 Hz", lambda v: v > 0)
    require("ratio", controls.ratio, "1 or more", lambda v: v >= 1)
    for name in ("attack_ms", "release_ms", "average_ms", "knee_db", "lookahead_ms"):
        require(name, getattr(controls, name), "0 or more", lambda v: v >= 0)
    most_ms = 1e3 * latency / fs
    require(
        "lookahead_ms",
        controls.lookahead_ms,
        f"at most the latency of the state, {most_ms:g} ms: make one with rest(latency=...)",
        lambda v: v <= most_ms * (1 + 1e-6),
    )
