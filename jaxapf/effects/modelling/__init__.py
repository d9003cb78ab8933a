"""Effects learnt from a dry and a wet recording: a phaser or a compressor, stored as one model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxapf._internal.lazy import loader

if TYPE_CHECKING:
    from jaxapf.effects.modelling.compressor import fit_compressor
    from jaxapf.effects.modelling.model import EffectModel, compressor_model, phaser_model
    from jaxapf.effects.modelling.phaser import fit_phaser

__all__ = ["EffectModel", "compressor_model", "fit_compressor", "fit_phaser", "phaser_model"]

# Loaded on first use: JAX takes a second to import.
__getattr__ = loader(
    __name__,
    {
        "EffectModel": "model:EffectModel",
        "compressor_model": "model:compressor_model",
        "fit_compressor": "compressor:fit_compressor",
        "fit_phaser": "phaser:fit_phaser",
        "phaser_model": "model:phaser_model",
    },
)
