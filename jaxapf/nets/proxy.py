"""Proxies: causal convolutional networks, conditioned on an effect's controls, that imitate the effect.

    features    the signal, and its level on a log scale
    blocks      dilated causal convolution, FiLM by the controls, PReLU, and a weighted skip connection
    output      y = e^a (H x + b), a and b of every sample from the last block, H from the controls

FiLM is a gain and an offset for every channel, from dense layers on the normalised controls. With a = b = 0
and H = 1, where training begins, a proxy is the identity. A time-varying gain is one number, a. H is a
filter, the exponential of a power series given by the controls: one tap is a gain, more of them any
minimum-phase response. There is no batch normalisation: its means are over time, which is not causal, and
its running averages are no function of the weights.

Source: Steinmetz, Bryan and Reiss 2022, "Style transfer of audio effects with differentiable signal
processing", section 3 (neural proxies); Steinmetz and Reiss 2022, "Efficient neural networks for real-time
modeling of analog dynamic range compression" (causal TCN); Perez et al. 2018 (FiLM); Jia et al. 2016
(filters given by a network).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxapf._internal.fft import fast_length

__all__ = ["ProxyCNN", "ProxyTCN", "features", "receptive_field"]

LOUDEST = 7.0  # of the time-varying gain's logarithm: 61 dB up or down
QUIETEST = 1e-3  # amplitude below which the level counts as silence
DECADES = 3.0  # of amplitude, from there to one
SLOPES = (0.0, 1.0)  # of the PReLUs at first, spread over the channels: some begin linear, as filters are
_SPARE = 4  # times as long a transform, so that its wraparound is small
_SMALL = nn.initializers.normal(1e-3)


class ProxyTCN(nn.Module):
    """The large proxy, at the signal's rate, with the kernel and the dilations of the source (section 3).

    `kernel` and `dilations` are in samples, block by block; `hidden` are widths of the dense layers on the
    controls; `taps` are those of the filter H, 1 of them is a gain.

    Example:
        >>> x, raw = jnp.zeros((2, 100)), jnp.zeros((2, 7))
        >>> forward = ProxyTCN(channels=4).init_with_output  # nothing is computed
        >>> jax.eval_shape(forward, jax.random.key(0), x, raw)[0].shape
        (2, 100)
    """

    channels: int = 64
    kernel: int = 13
    dilations: Sequence[int] = (1, 8, 64, 512)
    hidden: Sequence[int] = (128, 128)
    taps: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, raw: jax.Array) -> jax.Array:
        """Return the output (..., n_samples) for a signal (..., n_samples) and controls (..., n_controls).

        The controls are normalised, in [-1, 1]. Their leading axes broadcast; the initial state is zero.
        """
        # The names of parameters are those of stored checkpoints.
        x, raw, batch = _broadcast(x, raw)
        condition = _Condition(self.hidden, name="told")(raw)
        y = features(x)
        for dilation in self.dilations:
            y = _Block(self.channels, self.kernel, dilation)(y, condition)
        log_gain, added = jnp.moveaxis(nn.Dense(2, kernel_init=_SMALL, name="last")(y), -1, 0)
        filtered = _Filter(self.taps, name="passed")(x, condition)
        return (_gain(log_gain) * (filtered + added)).reshape(*batch, -1)


class ProxyCNN(nn.Module):
    """The small proxy: its blocks run once a frame of `hop` samples, and so cost a fraction.

    The gain at the end of a frame is a function of the frames before it, and is interpolated linearly. There
    is no offset (b = 0): it would be late by a frame. `dilations` are in frames, all else as `ProxyTCN`.

    Example:
        >>> x, raw = jnp.zeros((2, 100)), jnp.zeros((2, 7))
        >>> jax.eval_shape(ProxyCNN().init_with_output, jax.random.key(0), x, raw)[0].shape
        (2, 100)
    """

    hop: int = 8
    channels: int = 32
    kernel: int = 7
    dilations: Sequence[int] = (1, 4, 16, 64, 256)
    hidden: Sequence[int] = (128, 128)
    taps: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, raw: jax.Array) -> jax.Array:
        """Return the output as `ProxyTCN`."""
        x, raw, batch = _broadcast(x, raw)
        condition = _Condition(self.hidden, name="told")(raw)
        n_samples = x.shape[-1]
        padded = jnp.pad(x, ((0, 0), (self.hop, -n_samples % self.hop)))
        frames = features(padded).reshape(len(x), -1, 2 * self.hop)
        y = frames[:, :-1]
        for dilation in self.dilations:
            y = _Block(self.channels, self.kernel, dilation)(y, condition)
        ends = nn.Dense(1, kernel_init=_SMALL, name="last")(y)[..., 0]
        log_gain = _interpolated(ends, self.hop)[:, :n_samples]
        return (_gain(log_gain) * _Filter(self.taps, name="passed")(x, condition)).reshape(*batch, -1)


def receptive_field(net: Any) -> int:
    """Return the number of input samples, the newest included, that one output sample of a proxy depends on.

    Example:
        >>> receptive_field(ProxyTCN()), receptive_field(ProxyCNN())
        (7021, 16391)
    """
    steps = 1 + (net.kernel - 1) * sum(net.dilations)
    # The last but one of a frame depends on the frame before, and by interpolation on the one before that.
    blocks = steps if isinstance(net, ProxyTCN) else (steps + 2) * net.hop - 1
    return max(blocks, net.taps)


def features(x: jax.Array) -> jax.Array:
    """Return the features of a signal (..., n_samples): (..., n_samples, 2), the signal and its level.

    The level is 0 for silence, 1 for an amplitude of one, and logarithmic between.

    Example:
        >>> features(jnp.array([0.0, 1.0])).round(3).tolist()
        [[0.0, 0.0], [1.0, 1.0]]
    """
    level = jnp.log1p((x / QUIETEST) ** 2) / (2 * DECADES * float(np.log(10.0)))
    return jnp.stack([x, level], axis=-1)


class _Condition(nn.Module):
    """Dense layers on the controls."""

    widths: Sequence[int]

    @nn.compact
    def __call__(self, raw: jax.Array) -> jax.Array:
        for width in self.widths:
            raw = nn.swish(nn.Dense(width)(raw))
        return raw


class _Block(nn.Module):
    """Causal convolution of (n, n_steps, channels), FiLM by (n, width), PReLU, and a skip connection."""

    channels: int
    kernel: int
    dilation: int

    @nn.compact
    def __call__(self, y: jax.Array, condition: jax.Array) -> jax.Array:
        film = nn.Dense(2 * self.channels, kernel_init=nn.initializers.normal(0.02), name="film")(condition)
        gain, offset = jnp.split(film[:, None, :], 2, axis=-1)
        convolution = nn.Conv(
            self.channels,
            (self.kernel,),
            kernel_dilation=(self.dilation,),
            padding="CAUSAL",
            use_bias=False,
            name="convolution",
        )
        active = (1 + gain) * convolution(y) + offset
        slope = self._each("slope", lambda key: jnp.linspace(*SLOPES, self.channels, dtype=jnp.float32))
        active = jnp.where(active >= 0, active, slope * active)
        if y.shape[-1] != self.channels:
            return active + nn.Dense(self.channels, use_bias=False, name="past")(y)
        return active + self._each("past", lambda key: jnp.ones(self.channels, jnp.float32)) * y

    def _each(self, name: str, init: Any) -> jax.Array:
        return self.param(name, init).reshape(1, 1, -1)


class _Filter(nn.Module):
    """The signal through a filter whose logarithm is a power series given by the controls."""

    taps: int

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array) -> jax.Array:
        series = nn.Dense(self.taps, kernel_init=_SMALL)(condition)
        if self.taps == 1:
            return jnp.exp(series) * x
        # Coefficients of resonances fall as 1 / n; scaled so, all are learnt at one rate.
        decay = np.float32(1) / np.maximum(np.arange(self.taps, dtype=np.float32), 1)
        return _convolved(x, _exponential(series * decay.reshape(1, -1)))


def _exponential(series: jax.Array) -> jax.Array:
    """Return exp(sum c[n] z^-n) to as many terms (..., taps) as `series` has.

    Causal, and so is its inverse: the logarithm of a minimum-phase filter is such a series.
    """
    taps = series.shape[-1]
    n_fft = _SPARE * fast_length(taps)
    return jnp.fft.irfft(jnp.exp(jnp.fft.rfft(series, n_fft)), n_fft)[..., :taps]


def _convolved(x: jax.Array, taps: jax.Array) -> jax.Array:
    """Filter signals (n, n_samples) by (n, taps), from a state of zero."""
    n_fft = fast_length(x.shape[-1] + taps.shape[-1])
    return jnp.fft.irfft(jnp.fft.rfft(x, n_fft) * jnp.fft.rfft(taps, n_fft), n_fft)[..., : x.shape[-1]]


def _gain(log_gain: jax.Array) -> jax.Array:
    return jnp.exp(LOUDEST * jnp.tanh(log_gain / LOUDEST))


def _interpolated(ends: jax.Array, hop: int) -> jax.Array:
    """Interpolate values (n, n_frames) at the ends of frames linearly, (n, n_frames * hop)."""
    before = jnp.concatenate([ends[:, :1], ends[:, :-1]], axis=-1)[..., None]
    part = ((np.arange(hop, dtype=np.float32) + 1) / hop).reshape(1, 1, -1)
    return (before + part * (ends[..., None] - before)).reshape(len(ends), -1)


def _broadcast(x: jax.Array, raw: jax.Array) -> tuple[jax.Array, jax.Array, tuple[int, ...]]:
    """Return signal (n, n_samples) and controls (n, n_controls), and the batch axes flattened to n."""
    if jnp.ndim(x) < 1 or jnp.ndim(raw) < 1:
        raise ValueError(
            f"x has shape {jnp.shape(x)} and raw {jnp.shape(raw)}; expected (..., n_samples) and "
            "(..., n_controls)"
        )
    try:
        batch = np.broadcast_shapes(x.shape[:-1], raw.shape[:-1])
    except ValueError:
        raise ValueError(
            f"raw has shape {raw.shape}, which does not fit x of shape {x.shape}; give controls for each of "
            "its signals, or for all"
        ) from None
    x, raw = (jnp.broadcast_to(one, (*batch, one.shape[-1])) for one in (x, raw))
    return x.reshape(-1, x.shape[-1]), raw.reshape(-1, raw.shape[-1]).astype(x.dtype), batch
