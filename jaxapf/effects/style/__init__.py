"""Style transfer: a network that sets an effect chain's controls, and its use on whole recordings.

network     the network (its names are those of this package too)
transfer    recordings of any length and sample rate
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxapf._internal.lazy import loader

if TYPE_CHECKING:
    from jaxapf.effects.style import network, transfer
    from jaxapf.effects.style.network import Design, Network, load, match_level, predict, process, save

__all__ = ["Design", "Network", "load", "match_level", "network", "predict", "process", "save", "transfer"]

# Loaded on first use: JAX takes a second to import.
__getattr__ = loader(
    __name__,
    {
        "network": "network",
        "transfer": "transfer",
        **{name: f"network:{name}" for name in __all__ if name not in ("network", "transfer")},
    },
)
