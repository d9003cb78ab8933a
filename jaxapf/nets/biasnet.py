"""BiasNet: a network without input that over-parameterises a few controls."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

__all__ = ["BiasNet"]


def _uniform(fan_in: int) -> nn.initializers.Initializer:
    """Uniform in +-1 / sqrt(fan_in), for weights and biases alike, as in the authors' framework."""
    bound = fan_in**-0.5
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -bound, bound)


class BiasNet(nn.Module):
    """Learnable vector, dense layers with sine activations, outputs in (-1, 1) by tanh.

    One for all controls of a cascade is the paper's *connected* structure; one for each section, with
    stacked parameters under `jax.vmap`, the *sequential* one. There are `features` outputs; the vector, of
    length `width`, is uniform in [0, 1) at first; `hidden` are the widths of the hidden layers.

    Source: Bargum et al. 2023, section 3.2 and figure 1.

    Example:
        >>> net = BiasNet(features=11)
        >>> weights = jax.eval_shape(net.init, jax.random.key(0))
        >>> jax.eval_shape(net.apply, weights).shape, sum(leaf.size for leaf in jax.tree.leaves(weights))
        ((11,), 691467)
    """

    features: int
    width: int = 1024
    hidden: Sequence[int] = (512, 256, 128)

    @nn.compact
    def __call__(self) -> jax.Array:
        """Return the outputs, (features,)."""
        x = self.param("vector", nn.initializers.uniform(1.0), (self.width,), jnp.float32)
        for width in self.hidden:
            x = jnp.sin(self._dense(width, x))
        return jnp.tanh(self._dense(self.features, x))

    def _dense(self, width: int, x: jax.Array) -> jax.Array:
        start = _uniform(x.shape[-1])
        return nn.Dense(width, kernel_init=start, bias_init=start)(x)
