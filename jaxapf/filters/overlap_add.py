"""Frame-wise filtering: controls at frame rate, one frequency response a frame, overlap-add.

Frame k is centred on sample `k * hop`, and there are as many frames as it takes for the last centre to be at
or beyond the last sample. Controls that move are known at these centres; in between they are interpolated
(`interpolate`, for exact filters) or the outputs are cross-faded (`filter_frames`, by FFT).

Source: Carson et al. 2023 (a phaser by frames), a baseline of Yu et al. 2024; Allen and Rabiner 1977
(overlap-add with filters that change).
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from jaxapf._internal.arrays import Values, as_arrays, as_signal, batch_shape, lift
from jaxapf._internal.fft import frames

__all__ = ["filter_frames", "interpolate", "n_frames", "window_length"]


def n_frames(n_samples: int, hop: int) -> int:
    """Return the number of frames of a signal: the first on sample 0, the last at or beyond the last sample.

    It is `1 + ceil((n_samples - 1) / hop)`, and 0 for an empty signal; ValueError for lengths that are no
    whole numbers, a negative `n_samples` or a `hop` below 1. A centred STFT has as many frames, or one less
    where the signal ends between two centres.

    Example:
        >>> n_frames(4, 4), n_frames(5, 4), n_frames(6, 4)
        (2, 2, 3)
    """
    _require_count("n_samples", n_samples, 0)
    _require_count("hop", hop, 1)
    return 0 if n_samples == 0 else 1 - (1 - n_samples) // hop


def interpolate(controls: Any, n_samples: int, hop: int, *, axis: int = -1) -> Any:
    """Interpolate controls linearly, from frame rate to one value a sample.

    Every value is a mean of two neighbours with weights in [0, 1], so that margins (`allpass.Sections`,
    `axis=-2`) stay positive, `v == 0` stays 0, and every section stays stable.

    Args:
        controls: `(..., n_frames)`, or a pytree of such arrays; value k belongs to sample `k * hop`.
        n_samples: length of the result in samples, which replaces `n_frames`.
        hop: samples from one frame to the next.
        axis: the axis of the frames: -2 for `Sections` `(..., n_frames, n_sections)`.

    The result is NumPy when no argument is a JAX array, else JAX. Raises ValueError where `axis` has not
    `n_frames(n_samples, hop)` frames, and as `n_frames`.

    Example:
        >>> interpolate(np.array([0.0, 4.0, 8.0]), 6, 4).tolist()
        [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    """
    expected = n_frames(n_samples, hop)

    def one(leaf):
        xp, (values,) = as_arrays(leaf)
        if not -values.ndim <= axis < values.ndim or values.shape[axis] != expected:
            raise ValueError(
                f"controls has shape {values.shape}; expected {expected} frames on axis {axis}, for "
                f"{n_samples} samples by {hop}."
            )
        axis_index = axis % values.ndim
        before, after = values.shape[:axis_index], values.shape[axis_index + 1 :]
        values = values.reshape(math.prod(before), expected, 1, math.prod(after))
        # The last frame is its own neighbour.
        later = xp.concatenate([values[:, 1:], values[:, -1:]], axis=1)
        weight = xp.asarray(np.arange(hop) / hop, values.dtype).reshape(1, 1, hop, 1)
        lines = values * (1 - weight) + later * weight
        lines = lines.reshape(math.prod(before), expected * hop, math.prod(after))
        return lines[:, :n_samples].reshape(*before, n_samples, *after)

    return jax.tree.map(one, controls)


def window_length(n_fft: int, hop: int, n_window: int | None = None) -> int:
    """Check the lengths of `filter_frames`, and return that of the window, by default half of `n_fft`."""
    _require_count("n_fft", n_fft, 4)
    _require_count("hop", hop, 1)
    if n_window is None:
        n_window = n_fft // 2
    _require_count("n_window", n_window, 2)
    if n_window > n_fft:
        raise ValueError(f"n_window is {n_window}; expected at most n_fft, {n_fft} samples.")
    if 2 * hop > n_window:
        raise ValueError(f"hop is {hop}; expected at most half of the window, which has {n_window} samples.")
    return n_window


def filter_frames(
    response: Complex[Values, "... n_frames n_bins"],
    x: Float[Values, "... n_samples"],
    *,
    n_fft: int,
    hop: int,
    n_window: int | None = None,
) -> Float[Array, "... n_samples"]:
    """Filter frame by frame: Hann-windowed frames, each multiplied by its own response, overlapped and added.

    The windows are divided by their sum, so that they add up to one at every sample, for every `hop`: a
    response of one returns the signal, edges included, where the first and the last frame have the windows of
    those that would come before and after. A constant response is exact where its impulse response has no
    more than `n_fft - n_window + 1` samples; a longer one wraps around within its frame, to as much as
    `n_window` samples before its cause. A time-varying response is cross-faded, with an error in proportion
    to its change within a window. Frames take `n_fft / hop` times the memory of the signal.

    Args:
        response: n_bins = `n_fft // 2 + 1`, frame k for the samples around `k * hop`; batch axes broadcast
            against those of `x`.
        x: real.
        n_fft: length of the transform in samples.
        hop: samples from one frame to the next, at most half of `n_window`.
        n_window: length of the window in samples, at most `n_fft`; by default half of it, so that the other
            half is for the tail. With `n_fft` there is no padding: tails always wrap.

    Raises ValueError for shapes that do not fit and impossible lengths of hop, window or transform;
    TypeError for complex `x`.

    Source: Carson et al. 2023; Allen and Rabiner 1977.

    Example:
        >>> x = jnp.arange(1.0, 7.0)
        >>> filter_frames(jnp.full((4, 9), 2.0 + 0.0j), x, n_fft=16, hop=2).round(4).tolist()
        [2.0, 4.0, 6.0, 8.0, 10.0, 12.0]
    """
    signal = as_signal(x)
    if jnp.iscomplexobj(signal):
        raise TypeError(f"x is {signal.dtype}; expected a real signal: use an exact method for complex ones.")
    n_window = window_length(n_fft, hop, n_window)
    shape = np.shape(response)
    expected = (n_frames(signal.shape[-1], hop), n_fft // 2 + 1)
    if shape[-2:] != expected:
        raise ValueError(
            f"response has shape {shape}; expected (..., {expected[0]}, {expected[1]}), frames by bins."
        )
    batch = batch_shape("response", shape[:-2], signal)
    if signal.shape[-1] == 0:
        return jnp.broadcast_to(signal, (*batch, 0))
    dtype = np.result_type(signal.dtype, np.complex64)
    return _filter(jnp.asarray(response).astype(dtype), signal, n_fft, hop, n_window)


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _filter(response: jax.Array, x: jax.Array, n_fft: int, hop: int, n_window: int) -> jax.Array:
    middle, first, last = (jnp.asarray(window, x.dtype) for window in _windows(n_window, hop))
    before = n_window // 2

    def one_signal(response, x):
        cut = frames(jnp.pad(x, (before, 0)), response.shape[0], n_window, hop)
        windowed = cut * middle[None]
        windowed = windowed.at[0].add(cut[0] * first).at[-1].add(cut[-1] * last)
        filtered = jnp.fft.irfft(jnp.fft.rfft(windowed, n_fft) * response, n_fft)
        return _overlap_add(filtered, hop)[before : before + x.size]

    return lift(one_signal, "(f,k),(t)->(t)", response, x)


def _windows(n_window: int, hop: int) -> tuple[np.ndarray, ...]:
    """Return the window of every frame and the additions to the first and the last; they add up to one."""
    # Periodic Hann; a window of odd length is centred on a sample as well.
    hann = np.cos(np.pi * (np.arange(n_window) - n_window // 2) / n_window) ** 2
    rows = np.pad(hann, (0, -n_window % hop)).reshape(-1, hop)
    rows /= rows.sum(axis=0)
    # The windows of the frames that would come before the first reach no further than the first itself: they
    # are its own, moved to the left by hops. Those after the last are its own, moved to the right.
    sums = np.cumsum(rows, axis=0)
    return tuple(window.reshape(-1)[:n_window] for window in (rows, 1 - sums, sums - rows))


def _overlap_add(filtered: jax.Array, hop: int) -> jax.Array:
    """Add up frames, `(n_frames, n_fft)`, frame k from sample `k * hop` on."""
    # Rows of `hop` samples are moved, which is several times as fast as moving samples.
    count, length = filtered.shape
    per_frame = -(-length // hop)
    pieces = jnp.pad(filtered, ((0, 0), (0, per_frame * hop - length))).reshape(count, per_frame, hop)
    rows = jnp.zeros((count - 1 + per_frame, hop), filtered.dtype)
    return rows.at[jnp.arange(count)[:, None] + jnp.arange(per_frame)[None]].add(pieces).reshape(-1)


def _require_count(name: str, value: Any, least: int) -> None:
    if not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name} is {value!r}; expected a whole number of samples, {least} or more.")
