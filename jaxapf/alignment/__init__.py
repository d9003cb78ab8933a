"""Alignment of a dry to a wet recording: delay, polarity and a cascade of all-pass filters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxapf._internal.lazy import loader

if TYPE_CHECKING:
    from jaxapf.alignment.estimate import align
    from jaxapf.alignment.model import Alignment, ModelError

__all__ = ["Alignment", "ModelError", "align"]

# Loaded on first use: the command line looks at models before it imports JAX.
_MODULES = [
    "biasnet",
    "cross_spectrum",
    "estimate",
    "features",
    "gradient_descent",
    "least_squares",
    "local_search",
]
_MODULES += ["matching_pursuit", "model", "network", "refinement", "rollouts", "search", "spectral"]
_NAMES = {"Alignment": "model:Alignment", "ModelError": "model:ModelError", "align": "estimate:align"}
__getattr__ = loader(__name__, {name: name for name in _MODULES} | _NAMES)
