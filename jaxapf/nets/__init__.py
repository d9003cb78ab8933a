"""Networks that give parameters, as Flax modules in Linen's `init` and `apply`; nothing but networks."""

from jaxapf.nets.biasnet import BiasNet

__all__ = ["BiasNet"]
