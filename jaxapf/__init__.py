"""Differentiable all-pass filters in JAX: align, model and learn audio filters by gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxapf._internal.lazy import loader
from jaxapf._internal.version import __version__

if TYPE_CHECKING:
    from jaxapf import (
        alignment,
        allpass,
        audio,
        cli,
        datasets,
        effects,
        filters,
        frequency,
        losses,
        metrics,
        nets,
        notebooks,
        params,
        report,
        training,
    )
    from jaxapf.alignment.estimate import align
    from jaxapf.alignment.model import Alignment, ModelError
    from jaxapf.effects import gradients, modelling, proxies, style
    from jaxapf.effects.style import transfer
    from jaxapf.filters import biquad, feedback, lattice, matched, recursion
    from jaxapf.filters.all_pole import allpole
    from jaxapf.filters.iir import lfilter, sosfilt
    from jaxapf.training import checkpoint

__all__ = [
    "Alignment",
    "ModelError",
    "__version__",
    "align",
    "alignment",
    "allpass",
    "allpole",
    "audio",
    "biquad",
    "checkpoint",
    "cli",
    "datasets",
    "effects",
    "feedback",
    "filters",
    "frequency",
    "gradients",
    "lattice",
    "lfilter",
    "losses",
    "matched",
    "metrics",
    "modelling",
    "nets",
    "notebooks",
    "params",
    "proxies",
    "recursion",
    "report",
    "sosfilt",
    "style",
    "training",
    "transfer",
]

# Loaded on first use: importing JAX takes a second, and the command line answers most mistakes without it.
__getattr__ = loader(
    __name__,
    {
        "Alignment": "alignment.model:Alignment",
        "ModelError": "alignment.model:ModelError",
        "align": "alignment.estimate:align",
        "alignment": "alignment",
        "allpass": "allpass",
        "allpole": "filters.all_pole:allpole",
        "audio": "audio",
        "biquad": "filters.biquad",
        "checkpoint": "training.checkpoint",
        "cli": "cli",
        "datasets": "datasets",
        "effects": "effects",
        "feedback": "filters.feedback",
        "filters": "filters",
        "frequency": "frequency",
        "gradients": "effects.gradients",
        "lattice": "filters.lattice",
        "lfilter": "filters.iir:lfilter",
        "losses": "losses",
        "matched": "filters.matched",
        "metrics": "metrics",
        "modelling": "effects.modelling",
        "nets": "nets",
        "notebooks": "notebooks",
        "params": "params",
        "proxies": "effects.proxies",
        "recursion": "filters.recursion",
        "report": "report",
        "sosfilt": "filters.iir:sosfilt",
        "style": "effects.style",
        "training": "training",
        "transfer": "effects.style.transfer",
    },
)


def __dir__() -> list[str]:
    return sorted(__all__)
