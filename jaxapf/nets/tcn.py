"""TCN: a temporal convolutional network, from several signals to controls in (0, 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

__all__ = ["TCN", "receptive_field"]

DILATIONS = (1, 2, 4, 8, 16)
NORMS = ("global", "layer", "none")
POOLS = ("mean", "none")


class TCN(nn.Module):
    """Strided, dilated convolutions, the mean over time, and dense layers to sigmoid outputs.

    A block is convolution, normalisation, PReLU; each halves the time axis (at stride 2). "Time" may be any
    axis with local structure: samples of two recordings, or the bands of their cross-spectrum (see
    `jaxapf.alignment.network`).

    Attributes:
        features: number of outputs; `width` is that of the `depth` blocks, `hidden` of the dense layers.
        dilations: spacings of the taps, block by block, repeated.
        norm: `"global"`, each example by its mean and variance over time and channels (it keeps the
            envelope); `"layer"`, each time by itself; `"none"`. Batch normalisation is not among them: its
            running averages are no function of the weights.
        pool: `"mean"` over time, for any number of samples; `"none"` keeps all times of the last block, for
            an axis of fixed positions, such as frequency.
        bias, kernel: initialisers of the last layer.

    Source: the parameter network of the project 'Differentiable All-Pass DNNs', after the TCN of
    dasp-pytorch; normalisation: Luo and Mesgarani 2019 (global layer norm), in place of its batch
    normalisation.

    Example:
        >>> net = TCN(features=13, width=8, depth=2, hidden=())
        >>> weights = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((2, 256)))
        >>> jax.eval_shape(net.apply, weights, jnp.zeros((5, 2, 256))).shape
        (5, 13)
    """

    features: int
    width: int = 32
    depth: int = 10
    kernel_size: int = 7
    dilations: Sequence[int] = DILATIONS
    stride: int = 2
    norm: str = "global"
    pool: str = "mean"
    hidden: Sequence[int] = (512,)
    bias: Any = nn.initializers.zeros
    kernel: Any = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the outputs (..., features) for signals (..., n_channels, n_samples)."""
        if self.norm not in NORMS:
            raise ValueError(f"norm is {self.norm!r}; choose one of {', '.join(NORMS)}.")
        if self.pool not in POOLS:
            raise ValueError(f"pool is {self.pool!r}; choose one of {', '.join(POOLS)}.")
        if jnp.ndim(x) < 2:
            raise ValueError(f"x has shape {jnp.shape(x)}; expected (..., n_channels, n_samples).")
        x = jnp.moveaxis(x, -2, -1)
        for block in range(self.depth):
            dilation = self.dilations[block % len(self.dilations)]
            x = nn.Conv(self.width, (self.kernel_size,), (self.stride,), kernel_dilation=(dilation,))(x)
            x = nn.PReLU()(self._normalised(x))
        x = jnp.mean(x, axis=-2) if self.pool == "mean" else x.reshape(*x.shape[:-2], -1)
        for width in self.hidden:
            x = nn.PReLU()(nn.Dense(width)(x))
        return nn.sigmoid(nn.Dense(self.features, bias_init=self.bias, kernel_init=self.kernel)(x))

    def _normalised(self, x: jax.Array) -> jax.Array:
        if self.norm == "none":
            return x
        axes = (-2, -1) if self.norm == "global" else -1
        return nn.LayerNorm(reduction_axes=axes, feature_axes=-1)(x)


def receptive_field(net: TCN) -> int:
    """Return the number of input samples that one value before the mean over time depends on.

    Each block adds (kernel_size - 1) * dilation steps, of the product of the strides before it in samples.

    Example:
        >>> receptive_field(TCN(features=1)), receptive_field(TCN(features=1, depth=1))
        (67519, 7)
    """
    taps = (
        (net.kernel_size - 1) * net.dilations[block % len(net.dilations)] * net.stride**block
        for block in range(net.depth)
    )
    return 1 + sum(taps)
