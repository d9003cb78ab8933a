"""Feed-forward dynamic range compressor, exact in its recursions and their gradients.

    detector    p[t] = (1 - a) p[t - 1] + a x[t]^2        mean power ("rms"), or mean magnitude ("peak")
    curve       c[t] = (1 / ratio - 1) (p[t] in dB - threshold), 0 below the threshold, bent in the knee
    ballistics  s[t] = s[t - 1] + b (r[t] - s[t - 1])     b: attack's towards more compression, else release's
    output      y[t] = makeup g[t + lookahead] x[t]

Detector and ballistics, and what these smooth, are those of `dynamics`, which the expander shares.

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
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxapf._internal.arrays import as_signal, count, require
from jaxapf.effects import dynamics
from jaxapf.effects._controls import Signal, SignalLike, Value, arrays, linear, typed, with_batch
from jaxapf.effects.dynamics import DETECTORS, SMOOTHINGS, ballistics, coefficient

__all__ = [
    "DETECTORS",
    "SMOOTHINGS",
    "Controls",
    "State",
    "ballistics",
    "coefficient",
    "compressor",
    "compressor_sampled",
    "curve_db",
    "initial_state",
]

_NOT_NEGATIVE = ("attack_ms", "release_ms", "average_ms", "knee_db", "lookahead_ms")


class Controls(NamedTuple):
    """Each a number or `(...)`, broadcast against the batch axes of the signal.

    ``threshold_db`` level above which the gain falls; ``ratio`` of changes in level above it, in to out, 1 or
    more; ``attack_ms`` of a falling, ``release_ms`` of a rising gain and ``average_ms`` of the detector, each
    the time from 10 to 90 per cent of a step (2.2 time constants), 0 for none; ``knee_db`` width of the
    transition, centred on the threshold, 0 for none; ``makeup_db``; ``lookahead_ms`` by which the gain leads
    the signal, up to the latency of the state.
    """

    threshold_db: Value
    ratio: Value
    attack_ms: Value
    release_ms: Value
    average_ms: Value = 1.0
    knee_db: Value = 0.0
    makeup_db: Value = 0.0
    lookahead_ms: Value = 0.0


class State(NamedTuple):
    """``level`` (...) of the detector, ``smoothed`` (...) of the ballistics, and what look-ahead holds back.

    ``signal`` (..., latency) the last samples in, ``gains`` (..., latency + 1) the last gains. With
    "level" smoothing ``smoothed`` is a level, with the others the gain less one, or the gain in dB.
    """

    level: Value
    smoothed: Value
    signal: Value
    gains: Value


def initial_state(batch: tuple[int, ...] = (), *, latency: int = 0, dtype: Any = jnp.float32) -> State:
    """Return the state of silence, without reduction, for an output `latency` samples late.

    Example:
        >>> initial_state((2,), latency=3).signal.shape
        (2, 3)
    """
    held = count("latency", latency, 0)
    silent = jnp.zeros(batch, dtype)
    return State(silent, silent, jnp.zeros((*batch, held), dtype), jnp.ones((*batch, held + 1), dtype))


def compressor(
    controls: Controls,
    state: State,
    x: SignalLike,
    fs: float,
    *,
    detector: str = "rms",
    smoothing: str = "gain",
    sidechain: SignalLike | None = None,
) -> tuple[Signal, State]:
    """Compress a signal exactly.

    The output is as late as the state's latency; the look-ahead may be as long. The detector averages the
    power (`"rms"`) or the magnitude (`"peak"`); attack and release smooth the `"gain"`, the gain in dB
    (`"gain_db"`) or the `"level"`. `sidechain` is the detector's input in place of `x`, in its shape.

    Example:
        >>> controls = Controls(threshold_db=-20.0, ratio=4.0, attack_ms=1.0, release_ms=50.0)
        >>> y, _ = compressor(controls, initial_state(), jnp.ones(4000), 8000.0)
        >>> round(20 * float(jnp.log10(y[-1])), 2)
        -15.0
    """
    signal = as_signal(x)
    key = signal if sidechain is None else as_signal(sidechain).astype(signal.dtype)
    if key.shape != signal.shape:
        raise ValueError(f"sidechain has shape {key.shape}; expected that of x, {signal.shape}.")
    _check(controls, np.shape(state.signal)[-1], fs, detector, smoothing)
    return _exact(arrays(controls, signal), state, signal, key, fs, detector, smoothing)


def compressor_sampled(
    controls: Controls,
    x: SignalLike,
    fs: float,
    *,
    detector: str = "rms",
    smoothing: str = "gain",
    n_fft: int | None = None,
) -> Signal:
    """Compress by frequency sampling.

    One time constant, midway between attack and release on a log scale, stands for both; the level is
    averaged by frequency sampling as well, of length `n_fft`. Options are those of `compressor`, but there is
    no look-ahead.

    Source: the baseline of Yu et al. 2024, section 5; Steinmetz et al. 2022 (one time constant).

    Example:
        >>> controls = Controls(threshold_db=-20.0, ratio=4.0, attack_ms=1.0, release_ms=50.0)
        >>> compressor_sampled(controls, jnp.ones(4000), 8000.0).shape
        (4000,)
    """
    signal = as_signal(x)
    _check(controls, 0, fs, detector, smoothing)
    c = arrays(controls, signal)
    return dynamics.process_sampled(c, curve_db, signal, fs, detector, smoothing, n_fft)


def curve_db(level_db: Float[ArrayLike, "*shape"], controls: Controls) -> Float[Array, "*shape"]:
    """Return the requested gain in dB: 0 below the threshold, (1 / ratio - 1) times the excess above.

    Source: Giannoulis et al. 2012, eq. 4 (quadratic knee).
    """
    knee = jnp.maximum(controls.knee_db, dynamics.SHARPEST_KNEE_DB)
    return (1 / controls.ratio - 1) * dynamics.soft_knee(level_db - controls.threshold_db, knee)


@functools.partial(jax.jit, static_argnums=(5, 6))
def _exact(
    c: Controls, state: State, signal: jax.Array, key: jax.Array, fs: float, detector: str, smoothing: str
) -> tuple[jax.Array, State]:
    signal, key, state = with_batch(signal, c), with_batch(key, c), typed(state, signal)
    gains, level, smoothed = dynamics.exact_gains(c, curve_db, state, key, fs, detector, smoothing, False)
    late, gained, held = _look_ahead(c.lookahead_ms * (1e-3 * fs), state, signal, gains)
    return linear(c.makeup_db)[..., None] * gained * late, State(level, smoothed, *held)


def _look_ahead(
    lead: jax.Array, state: State, signal: jax.Array, gains: jax.Array
) -> tuple[jax.Array, jax.Array, tuple[jax.Array, jax.Array]]:
    """Return the signal late by the latency, the gain by latency less lead, and what is held back of both.

    lead: look-ahead in samples, interpolated between whole ones.
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


def _check(controls: Controls, latency: int, fs: float, detector: str, smoothing: str) -> None:
    dynamics.check(controls, _NOT_NEGATIVE, fs, detector, smoothing)
    most_ms = 1e3 * latency / fs
    require(
        "lookahead_ms",
        controls.lookahead_ms,
        f"at most the latency of the state, {most_ms:g} ms: make one with initial_state(latency=...)",
        lambda v: v <= most_ms * (1 + 1e-6),
    )
