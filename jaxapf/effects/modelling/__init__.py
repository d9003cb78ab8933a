"""Learn an effect from a dry and a wet recording: a phaser or a compressor, stored as one model."""

from jaxapf.effects.modelling.compressor import fit_compressor
from jaxapf.effects.modelling.model import EffectModel, compressor_model, phaser_model
from jaxapf.effects.modelling.phaser import fit_phaser

__all__ = ["EffectModel", "compressor_model", "fit_compressor", "fit_phaser", "phaser_model"]
