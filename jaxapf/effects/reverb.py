"""Reverb: noise in octave bands, each with its level and its decay, as the impulse response of a room.

    response  h(t) = sum over bands of g[b] n[b](t) e[b](t),   e[b](t) = 10^(-3 (t - predelay) / decay[b])
    output    y = wet (h * x) + dry x

The bands lie at 63 Hz to 8 kHz; the lowest holds all below it, the highest all above. Their noise is fixed by
a key, and the same at all sample rates. It has random phases, but an almost constant envelope, so that the
decay is the control's and not chance; `decay` is the time to fall by 60 dB. A band's level is that of its
power: at 0 dB, wet noise in this band is as loud as dry, whatever the decay. The response ends after as many
samples as the state holds: `initial_state(length=...)`.

Convolution is by FFT and exact; the rest of it waits in the state.

Source: noise-shaped reverberation as in Steinmetz, Ithapu and Calamia 2021, "Filtered noise shaping for
time-domain room impulse response estimation"; Moorer 1979 (decaying noise).
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, PRNGKeyArray

from jaxapf._internal.arrays import as_arrays, as_signal, batch_shape, count, require, with_rank
from jaxapf._internal.fft import fast_length
from jaxapf.effects._controls import Signal, SignalLike, Value, linear
from jaxapf.params import OCTAVES_HZ

__all__ = [
    "LENGTH",
    "Controls",
    "State",
    "initial_state",
    "packed",
    "response",
    "reverb",
    "room",
    "whole_length",
]

N_BANDS = len(OCTAVES_HZ)
LENGTH = 65536  # samples of the response by default
ONSET_S = 1e-3  # of the response: its rise from nothing
_EDGE = 1 / 3  # of an octave, from one band to the next
_SPARE_S = 0.05  # by which the noise, which repeats, is longer than the response at least
_ITERATIONS = 12  # of Gerchberg and Saxton
# Low frequencies last longest; air and soft surfaces take the high ones.
_HALL_S = (3.45, 3.3, 3.15, 3.0, 2.85, 2.55, 2.1, 1.5)
_HALL_DB = (-6.0, -3.0, 0.0, 0.0, 0.0, -1.0, -3.0, -6.0)


class Controls(NamedTuple):
    """The bands on a last axis of their own; the axes before broadcast against the batch axes of the signal.

    decays_s (..., 8), each in [0.1, 10], time to fall by 60 dB
    levels_db (..., 8), each in [-36, 12], power of the response, relative to dry
    predelay_ms (...) in [0, 100], silence before the response
    wet_db (...) in [-48, 12], gain of all of the response
    dry_db (...) in [-48, 12], gain of the signal as it is
    """

    decays_s: Value
    levels_db: Value
    predelay_ms: Value = 0.0
    wet_db: Value = 0.0
    dry_db: Value = 0.0


class State(NamedTuple):
    """``tail`` (..., length): the output still due to the samples so far."""

    tail: Value


def packed(values: Any) -> Controls:
    """Return controls from 19 numbers or arrays (...), in the order of `params.REVERB`."""
    xp, given = as_arrays(*values)
    stacked = (
        xp.stack(xp.broadcast_arrays(*given[start : start + N_BANDS]), axis=-1) for start in (0, N_BANDS)
    )
    return Controls(*stacked, *given[2 * N_BANDS :])


def room(room: Any, wet: Any, dry: Any) -> Controls:
    """Return controls from room size and gains, the plain ones of many reverbs.

    `room` is 0.1, a small one, to 1, a hall: decays of 0.3 to 3 s in the middle, shorter above; `wet`, 0.1 to
    0.8, and `dry`, 0.5 to 1, are the gains of response and signal, factors.

    Source: Steinmetz et al. 2022, for the idea of few and plain controls; the values are ours.

    Example:
        >>> controls = room(0.5, 0.3, 1.0)
        >>> round(float(controls.decays_s[3]), 2), round(float(controls.wet_db), 2)
        (1.5, -10.46)
    """
    for name, value, low, high in (("room", room, 0.1, 1.0), ("wet", wet, 0.1, 0.8), ("dry", dry, 0.5, 1.0)):
        require(name, value, f"from {low:g} to {high:g}", lambda v: (v >= low) & (v <= high))  # noqa: B023
    xp, (room, wet, dry) = as_arrays(room, wet, dry)
    decays_s = xp.asarray(_HALL_S, room.dtype) * room[..., None]
    levels_db = xp.asarray(_HALL_DB, room.dtype)
    return Controls(decays_s, levels_db, 30.0 * room, 20 * xp.log10(wet), 20 * xp.log10(dry))


def whole_length(controls: Controls, fs: float) -> int:
    """Return the samples that hold the response until it is 60 dB down in every band, a power of two."""
    seconds = float(np.max(controls.decays_s)) + 1e-3 * float(np.max(controls.predelay_ms))
    return 1 << max(8, int(np.ceil(seconds * fs)) - 1).bit_length()


def initial_state(batch: tuple[int, ...] = (), *, length: int = LENGTH, dtype: Any = jnp.float32) -> State:
    """Return the state of silence, whose `length` in samples is that of the response.

    Longer than the longest decay, what is cut off is more than 60 dB down. It costs memory and time even for
    short decays.

    Example:
        >>> initial_state((2,), length=1000).tail.shape
        (2, 1000)
    """
    return State(jnp.zeros((*batch, count("length", length)), dtype))


def reverb(
    controls: Controls, state: State, x: SignalLike, fs: float, *, key: PRNGKeyArray | None = None
) -> tuple[Signal, State]:
    """Add reverberation to a signal: convolve it with the response of `response`.

    `key` is that of the noise, (), or (...) that broadcasts against the batch axes: `jax.random.split(key,
    2)` for two channels that do not resemble each other. By default always the same noise.

    Example:
        >>> controls = room(0.3, wet=0.5, dry=1.0)
        >>> y, state = reverb(controls, initial_state(length=8000), jnp.ones(100), 8000.0)
        >>> y.shape, state.tail.shape
        ((100,), (8000,))
    """
    signal = as_signal(x)
    length = np.shape(state.tail)[-1]
    h = response(controls, length, fs, key=key, dtype=signal.dtype)
    dry_db = jnp.asarray(controls.dry_db).astype(signal.dtype)
    return _convolved(h, linear(dry_db), state, signal)


def response(
    controls: Controls, length: int, fs: float, *, key: PRNGKeyArray | None = None, dtype: Any = jnp.float32
) -> Float[Array, "... length"]:
    """Return the impulse response in so many samples, without the dry signal; `key` as in `reverb`."""
    _check(controls, fs)
    noise = _default_noise(length, fs) if key is None else _noise(key, length, fs)
    return _response(
        Controls(*(jnp.asarray(one).astype(dtype) for one in controls)), jnp.asarray(noise, dtype), fs
    )


@functools.partial(jax.jit, static_argnums=2)
def _response(c: Controls, noise: jax.Array, fs: float) -> jax.Array:
    # All of one rank: controls (*batch, 1, 1) or (*batch, n_bands, 1), noise (*batch, n_bands, length).
    bands = [one[..., None] for one in c[:2]]
    others = [one[..., None, None] for one in c[2:4]]
    rank = max(one.ndim for one in (noise, *bands, *others))
    decays, levels, predelay, wet, noise = (with_rank(one, rank) for one in (*bands, *others, noise))
    time = with_rank(jnp.arange(noise.shape[-1], dtype=noise.dtype) / fs, rank)
    since = time - 1e-3 * predelay
    # Smooth, so that the pre-delay has a gradient.
    onset = jnp.sin((np.pi / 2) * jnp.clip(since / ONSET_S, 0.0, 1.0)) ** 2
    shaped = noise * onset * jnp.exp(-3 * math.log(10) * jnp.maximum(since, 0.0) / decays)
    # The power that a band has, not the one expected: the level is the control's alone.
    power = jnp.sum(shaped**2, axis=-1, keepdims=True)
    width = with_rank(jnp.asarray(_widths(fs), noise.dtype)[:, None], rank)
    scale = jnp.sqrt(width) * jax.lax.rsqrt(jnp.where(power > 0, power, 1.0))
    return jnp.sum(linear(levels + wet) * scale * shaped, axis=-2)


@jax.jit
def _convolved(h: jax.Array, dry: jax.Array, state: State, signal: jax.Array) -> tuple[jax.Array, State]:
    batch = batch_shape("controls", np.broadcast_shapes(h.shape[:-1], dry.shape), signal)
    n_samples, length = signal.shape[-1], h.shape[-1]
    signal = jnp.broadcast_to(signal, (*batch, n_samples))
    held = jnp.broadcast_to(jnp.asarray(state.tail).astype(signal.dtype), (*batch, length))
    n_fft = fast_length(n_samples + length)
    h, dry = with_rank(h, signal.ndim), with_rank(dry, signal.ndim - 1)
    spectrum = jnp.fft.rfft(signal, n_fft) * jnp.fft.rfft(h, n_fft)
    wet = jnp.fft.irfft(spectrum, n_fft)[..., : n_samples + length]
    wet = wet + jnp.pad(held, [(0, 0)] * len(batch) + [(0, n_samples)])
    return wet[..., :n_samples] + dry[..., None] * signal, State(wet[..., n_samples:])


@functools.lru_cache(maxsize=4)
def _default_noise(length: int, fs: float) -> np.ndarray:
    """Return the noise of the default key, cached."""
    with jax.ensure_compile_time_eval():
        return np.asarray(_noise(jax.random.key(0), length, fs))


@functools.partial(jax.jit, static_argnums=(1, 2))
def _noise(key: PRNGKeyArray, length: int, fs: float) -> Float[Array, "... 8 length"]:
    """Return noise `(..., n_bands, length)` of keys `(...)`."""
    # Its bins lie at the same frequencies at every sample rate, and draw from keys of their own.
    seconds = 2.0 ** math.ceil(math.log2(length / fs + _SPARE_S))
    n_fft = round(seconds * fs)
    n_bins = (n_fft + 1) // 2
    windows = jnp.asarray(_windows(np.arange(n_bins) / seconds), jnp.complex64)

    def one(key: jax.Array) -> jax.Array:
        bins = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(n_bins))
        cycles = jax.vmap(lambda key: jax.random.uniform(key, (N_BANDS,), jnp.float32))(bins).T
        angles = np.float32(2 * np.pi) * cycles
        spectrum = _flattened(jax.lax.complex(jnp.cos(angles), jnp.sin(angles)), windows, n_fft)
        return jnp.fft.ifft(spectrum, n_fft).real[:, :length]

    return jnp.vectorize(one, signature="()->(b,n)")(key)


def _flattened(spectrum: Complex[Array, "8 n_bins"], windows: jax.Array, n_fft: int) -> jax.Array:
    """Return a spectrum with the windows' magnitudes whose phases make the envelope almost constant."""

    def step(_: Any, spectrum: jax.Array) -> jax.Array:
        signal = _unit(jnp.fft.ifft(windows * spectrum, n_fft))
        return _unit(jnp.fft.fft(signal)[:, : windows.shape[-1]])

    # Gerchberg and Saxton 1972: keep the phases and set the magnitudes, in time and in frequency by turns.
    return windows * jax.lax.fori_loop(0, _ITERATIONS, step, spectrum)


def _unit(z: jax.Array) -> jax.Array:
    size = jnp.abs(z)
    return z / jnp.where(size > 0, size, 1.0).astype(z.dtype)


def _windows(freqs: np.ndarray) -> np.ndarray:
    """Return gains of the octaves `(n_bands, n_freqs)`, whose powers add up to one at every frequency."""
    octave = np.clip(np.log2(np.maximum(freqs, 1e-3) / OCTAVES_HZ[0]), 0, N_BANDS - 1)
    beyond = np.abs(octave - np.arange(N_BANDS)[:, None]) - 0.5
    place = np.clip(0.5 + beyond / _EDGE, 0.0, 1.0)
    return np.where(place < 1, np.cos((np.pi / 2) * place), 0.0)


@functools.cache
def _widths(fs: float) -> np.ndarray:
    """Return the share `(n_bands,)` of the spectrum up to half the sample rate that a band's power takes."""
    freqs = np.linspace(0.0, fs / 2, 2**16 + 1)
    return np.mean(_windows(freqs) ** 2, axis=-1)


def _check(controls: Controls, fs: float) -> None:
    require("fs", fs, "a sample rate above 0 Hz", lambda v: v > 0)
    for name, value in zip(Controls._fields[:2], controls[:2], strict=True):
        if np.shape(value)[-1:] != (N_BANDS,):
            raise ValueError(f"{name} has shape {np.shape(value)}; expected (..., {N_BANDS}), one an octave.")
    require("decays_s", controls.decays_s, "above 0 s", lambda v: v > 0)
    require("predelay_ms", controls.predelay_ms, "0 or more", lambda v: v >= 0)
