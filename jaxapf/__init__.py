"""Differentiable all-pass filters in JAX: align, model and learn audio filters by gradient."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from jaxapf.version import __version__

if TYPE_CHECKING:
    from jaxapf import (
        aligner,
        allpass,
        batches,
        biquad,
        cascades,
        checkpoint,
        deep,
        distributed,
        effects,
        feedback,
        frames,
        frequency,
        gradients,
        hearing,
        loop,
        losses,
        matched,
        metrics,
        modelling,
        nets,
        parallel,
        params,
        programs,
        proxies,
        recursion,
        style,
        tracking,
        train,
        transfer,
    )
    from jaxapf.alignment import Alignment, ModelError
    from jaxapf.estimate import align
    from jaxapf.filters import lfilter, sosfilt
    from jaxapf.recursion import allpole

__all__ = [
    "Alignment",
    "ModelError",
    "__version__",
    "align",
    "aligner",
    "allpass",
    "allpole",
    "batches",
    "biquad",
    "cascades",
    "checkpoint",
    "deep",
    "distributed",
    "effects",
    "feedback",
    "frames",
    "frequency",
    "gradients",
    "hearing",
    "lfilter",
    "loop",
    "losses",
    "matched",
    "metrics",
    "modelling",
    "nets",
    "parallel",
    "params",
    "programs",
    "proxies",
    "recursion",
    "sosfilt",
    "style",
    "tracking",
    "train",
    "transfer",
]

# Loaded on first use: importing JAX takes a second, and the command line answers most mistakes without it.
_HOMES = {
    "Alignment": "alignment",
    "ModelError": "alignment",
    "align": "estimate",
    "allpole": "recursion",
    "lfilter": "filters",
    "sosfilt": "filters",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"jaxapf.{_HOMES[name]}"), name)
    if name in __all__:
        return importlib.import_module(f"jaxapf.{name}")
    raise AttributeError(f"module 'jaxapf' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
