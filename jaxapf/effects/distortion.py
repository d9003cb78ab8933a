"""Distortion: tanh of the driven signal, oversampled against aliasing.

    shaped  w = tanh(drive u + offset) - tanh(offset)      u: the signal at `oversampling` times its rate
    output  y = mix output w + (1 - mix) x                 both late by the same whole number of samples

The offset makes the curve asymmetric, for even harmonics; the DC that it makes of silence is taken away. Both
resamplers are one linear-phase FIR low-pass (Kaiser window), so that dry and wet stay aligned at every
frequency; each holds 32 samples back, together `latency`: 64 samples, 1.5 ms at 44.1 kHz.

Measured at 44.1 kHz: up and down again is flat within 0.001 dB to 20 kHz, 3 dB down at 21.4 kHz.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxapf._internal.arrays import as_signal, require, whole_number
from jaxapf._internal.fft import frames
from jaxapf.effects._controls import Signal, SignalLike, Value, arrays, lifted, linear, typed, with_batch

__all__ = ["Controls", "State", "distortion", "initial_state", "latency", "shaper"]

HELD = 64  # samples of the signal that the resamplers hold back, each one half of them
MOST = 16  # times
_KAISER = 9.0  # stopband 90 dB down


class Controls(NamedTuple):
    """Each a number or `(...)`, broadcast against the batch axes of the signal.

    drive_db in [0, 48], gain before the curve
    offset in [-1, 1], where on the curve silence lies
    mix in [0, 1], from dry to distorted
    output_db in [-24, 24], gain of the distorted signal
    """

    drive_db: Value
    offset: Value = 0.0
    mix: Value = 1.0
    output_db: Value = 0.0


class State(NamedTuple):
    """``signal`` (..., 64) the last samples in; ``shaped`` (..., 64 oversampling) the last of the curve.

    Their lengths give the oversampling; both are empty where there is none.
    """

    signal: Value
    shaped: Value


def latency(oversampling: int = 4) -> int:
    """Return the latency in samples at 1 to 16 times oversampling: 64, or 0 without."""
    return 0 if _times(oversampling) == 1 else HELD


def initial_state(batch: tuple[int, ...] = (), *, oversampling: int = 4, dtype: Any = jnp.float32) -> State:
    """Return the state of silence; oversampling 1, none, to 16 times.

    Example:
        >>> initial_state((2,)).shaped.shape
        (2, 256)
    """
    held = latency(oversampling)
    return State(jnp.zeros((*batch, held), dtype), jnp.zeros((*batch, held * oversampling), dtype))


def distortion(controls: Controls, state: State, x: SignalLike, fs: float) -> tuple[Signal, State]:
    """Distort a signal, oversampled as the state is; the output is `latency(oversampling)` samples late.

    Aliasing, measured: a 5 kHz sine of amplitude 1 at 44.1 kHz, offset 0.2; how far the largest
    component below 20 kHz that is no harmonic lies below the sum of the harmonics.

        oversampling     1        2        4        8        16
        driven by 12 dB  19.5 dB  53.7 dB  110 dB   114 dB   114 dB
                  24 dB  14.8     27.1     43.7     75.4     110
                  48 dB  14.4     24.0     30.9     37.2     44.4      almost a square wave

    Example:
        >>> x = jnp.array([0.1, 1.0])
        >>> y, _ = distortion(Controls(12.0), initial_state(oversampling=1), x, 44100.0)
        >>> [round(float(one), 3) for one in y]
        [0.378, 0.999]
    """
    signal = as_signal(x)
    require("mix", controls.mix, "from 0, dry, to 1, distorted", lambda v: (v >= 0) & (v <= 1))
    return _distorted(arrays(controls, signal), state, signal)


def shaper(x: Float[ArrayLike, "*shape"], controls: Controls) -> Float[Array, "*shape"]:
    """Apply the curve without its output gain, tanh(drive x + offset) - tanh(offset); x broadcasts."""
    driven = linear(controls.drive_db) * x
    # As tanh(a + b) - tanh(b), without the rounding of a small difference.
    return jnp.tanh(driven) * (1 - jnp.tanh(controls.offset) * jnp.tanh(driven + controls.offset))


@jax.jit
def _distorted(c: Controls, state: State, signal: jax.Array) -> tuple[jax.Array, State]:
    n_samples, times = signal.shape[-1], max(1, state.shaped.shape[-1] // HELD)
    state, signals = typed(state, signal), with_batch(signal, c)
    c, signals = lifted(c), _after(state.signal, signals)
    if times == 1:
        wet, shaped = shaper(signals, c), state.shaped
    else:
        curved = shaper(_up(signals, times), c)
        shaped = _after(state.shaped, curved)
        wet, shaped = _down(shaped, times), shaped[..., n_samples * times :]
    dry = signals[..., :n_samples]
    y = c.mix * linear(c.output_db) * wet + (1 - c.mix) * dry
    return y, State(signals[..., n_samples:], shaped)


def _after(held: jax.Array, new: jax.Array) -> jax.Array:
    return jnp.concatenate([jnp.broadcast_to(held, (*new.shape[:-1], held.shape[-1])), new], axis=-1)


# The resamplers are products of blocks with a matrix: twice the arithmetic of a convolution, but as fast
# backwards as forwards, where the transpose of a convolution with strides is not.


def _up(signals: jax.Array, times: int) -> jax.Array:
    """Upsample `(..., 64 + n)` to `(..., n times)`, late by 32 samples."""
    y = jnp.matmul(_frames(signals, HELD), jnp.asarray(_to_fine(times), signals.dtype), precision="highest")
    return y.reshape(*signals.shape[:-1], -1)[..., : (signals.shape[-1] - HELD) * times]


def _down(shaped: jax.Array, times: int) -> jax.Array:
    """Downsample `(..., (64 + n) times)` to `(..., n)`, late by another 32 samples."""
    matrix = jnp.asarray(_to_coarse(times), shaped.dtype)
    y = jnp.matmul(_frames(shaped, HELD * times), matrix, precision="highest")
    return y.reshape(*shaped.shape[:-1], -1)[..., : shaped.shape[-1] // times - HELD]


def _frames(x: jax.Array, size: int) -> jax.Array:
    """Cut `(..., size + n)` to `(..., n_blocks, 2 size)`: blocks after the first, with the one before."""
    return frames(x, -(-x.shape[-1] // size) - 1, 2 * size, size)


@functools.cache
def _to_fine(times: int) -> np.ndarray:
    """Return `(2 * 64, 64 times)`: phase p of sample t is the sum over k of h[p + times k] x[t - k]."""
    back = HELD + np.arange(HELD * times)[None, :] // times - np.arange(2 * HELD)[:, None]
    return times * _taps(np.arange(HELD * times) % times + times * back, times)


@functools.cache
def _to_coarse(times: int) -> np.ndarray:
    """Return `(2 * 64 times, 64)`: sample t is the sum over i of h[i] w[times t - i]."""
    return _taps(times * (HELD + np.arange(HELD))[None, :] - np.arange(2 * HELD * times)[:, None], times)


def _taps(index: np.ndarray, times: int) -> np.ndarray:
    inside = (index >= 0) & (index <= HELD * times)
    return np.where(inside, _lowpass(times)[np.where(inside, index, 0)], 0.0)


@functools.cache
def _lowpass(times: int) -> np.ndarray:
    """Return the taps `(64 times + 1,)`, of gain 1 at 0 Hz, a half at half the lower sample rate."""
    time = np.arange(-HELD * times // 2, HELD * times // 2 + 1) / times
    taps = np.sinc(time) * np.kaiser(HELD * times + 1, _KAISER)
    return taps / np.sum(taps)


def _times(oversampling: int) -> int:
    times = whole_number("oversampling", oversampling)
    if not 1 <= times <= MOST:
        raise ValueError(f"oversampling is {times}; expected 1, none, to {MOST} times.")
    return times
