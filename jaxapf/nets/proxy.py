"""Proxies: causal convolutional networks that are told an effect's controls and imitate the effect.

    features    the signal, and its level on a log scale
    blocks      dilated causal convolution, FiLM by the controls, PReLU, and a weighted way past all three
    output      y = e^a (x + b), a and b of every sample from the last block and from the controls

FiLM is a gain and an offset for every channel, from dense layers on the normalised controls. The output
needs nothing but a = b = 0 where an effect does nothing, where the networks of the source have to pass the
signal through all layers; and a gain that changes with the controls is one number, a.

There is no batch normalisation: its means are over time, which is not causal, and its running averages are no
function of the weights.

Source: Steinmetz, Bryan and Reiss 2022, "Style transfer of audio effects with differentiable signal
processing", section 3 (neural proxies); Steinmetz and Reiss 2022, "Efficient neural networks for real-time
modeling of analog dynamic range compression" (causal TCN); Perez et al. 2018 (FiLM).
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

LOUDEST = 7.0  # of the gain's logarithm: 61 dB up or down
QUIETEST = 1e-3  # amplitude below which the level is taken to be silent
DECADES = 3.0  # of amplitude, from there to one


class ProxyTCN(nn.Module):
    """The large proxy: 64 channels, as in the source, told of the controls by FiLM.

    Attributes:
        channels: of every block.
        kernel: taps of a convolution.
        dilations: spacings of the taps in samples, block by block.
        hidden: widths of the dense layers that hear the controls.
        slopes: those of the PReLUs at first, spread over the channels. Up to 1, so that some channels begin
            linear: filters are.

    Source:
        Steinmetz et al. 2022, section 3 (4 blocks, kernel 13, dilations 1, 8, 64, 512).

    Example:
        >>> net = ProxyTCN(channels=4)
        >>> x, raw = jnp.zeros((2, 100)), jnp.zeros((2, 7))
        >>> weights = net.init(jax.random.key(0), x, raw)
        >>> net.apply(weights, x, raw).shape
        (2, 100)
    """

    channels: int = 64
    kernel: int = 13
    dilations: Sequence[int] = (1, 8, 64, 512)
    hidden: Sequence[int] = (128, 128)
    slopes: tuple[float, float] = (0.0, 1.0)

    @nn.compact
    def __call__(self, x: jax.Array, raw: jax.Array) -> jax.Array:
        """The output (..., n_samples) for a signal (..., n_samples) and controls (..., n_controls) in [-1, 1].

        Their leading axes broadcast; the signal begins from rest.
        """
        x, raw, batch = _together(x, raw)
        told = raw
        for width in self.hidden:
            told = nn.swish(nn.Dense(width)(told))
        y = features(x)
        for block, dilation in enumerate(self.dilations):
            film = nn.Dense(2 * self.channels, kernel_init=nn.initializers.normal(0.02), name=f"film_{block}")
            gain, offset = jnp.split(film(told)[:, None, :], 2, axis=-1)
            convolution = nn.Conv(
                self.channels,
                (self.kernel,),
                kernel_dilation=(dilation,),
                padding="CAUSAL",
                use_bias=False,
                name=f"convolution_{block}",
            )
            heard = self._prelu((1 + gain) * convolution(y) + offset, f"slope_{block}")
            past = nn.Dense(self.channels, use_bias=False)(y) if block == 0 else self._weighted(y, block)
            y = heard + past
        last = nn.Dense(2, kernel_init=nn.initializers.normal(1e-3), name="last")(y)
        last = last + nn.Dense(2, kernel_init=nn.initializers.zeros, name="skip")(told)[:, None, :]
        log_gain = LOUDEST * jnp.tanh(last[..., 0] / LOUDEST)
        return (jnp.exp(log_gain) * (x + last[..., 1])).reshape(*batch, x.shape[-1])

    def _weighted(self, y: jax.Array, block: int) -> jax.Array:
        weight = self.param(f"past_{block}", nn.initializers.ones, (self.channels,), jnp.float32)
        return y * weight.astype(y.dtype).reshape(1, 1, -1)

    def _prelu(self, y: jax.Array, name: str) -> jax.Array:
        spread = jnp.linspace(*self.slopes, self.channels)
        slope = self.param(name, lambda key: spread.astype(jnp.float32)).astype(y.dtype).reshape(1, 1, -1)
        return jnp.where(y >= 0, y, slope * y)


class ProxyCNN(ProxyTCN):
    """The small proxy: as `ProxyTCN` with a quarter of its channels, and a block more for what is slow.

    Example:
        >>> receptive_field(ProxyCNN())
        19309
    """

    channels: int = 16
    dilations: Sequence[int] = (1, 8, 64, 512, 1024)
    hidden: Sequence[int] = (64, 64)


def receptive_field(net: ProxyTCN) -> int:
    """Samples of its input, the newest with them, that one sample of a proxy's output depends on.

    Args:
        net: a proxy.

    Returns:
        Number of samples.

    Example:
        >>> receptive_field(ProxyTCN())
        7021
    """
    return 1 + (net.kernel - 1) * sum(net.dilations)


def features(x: jax.Array) -> jax.Array:
    """What a proxy hears of (..., n_samples): (..., n_samples, 2), the signal and its level.

    The level is 0 for silence, 1 for an amplitude of one, and logarithmic between.

    Example:
        >>> features(jnp.array([0.0, 1.0])).round(3).tolist()
        [[0.0, 0.0], [1.0, 1.0]]
    """
    level = jnp.log1p((x / QUIETEST) ** 2) / (2 * DECADES * float(np.log(10.0)))
    return jnp.stack([x, level], axis=-1)


def _together(x: jax.Array, raw: jax.Array) -> tuple[jax.Array, jax.Array, tuple[int, ...]]:
    """Signal (n, n_samples) and controls (n, n_controls), and the batch axes that were flattened to n."""
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
