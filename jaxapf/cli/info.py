"""`jaxapf info`: versions, devices and stored checkpoints, or what files and folders hold."""

import argparse
import contextlib
import importlib
import math
import os
import platform
from itertools import chain
from typing import Any

from jaxapf import audio
from jaxapf._internal.console import described, described_versions, print_result
from jaxapf._internal.version import __version__
from jaxapf.cli import fitting, jax_setup
from jaxapf.cli.inputs import UsageError
from jaxapf.cli.models import check_model, fitted, load_model
from jaxapf.training import pretrained


def info(arguments: argparse.Namespace) -> None:
    if not arguments.files:
        print_result(arguments, {**_versions(), "checkpoints": _stored_checkpoints()}, described_versions)
        return
    result = {path: _figures_of(path) for path in arguments.files}
    print_result(arguments, result, lambda rows: chain.from_iterable(map(described, rows.values())))


def _figures_of(path: str) -> dict[str, Any]:
    if os.path.isdir(path):
        return _checkpoint_figures(path)
    return _model_figures(path) if _is_model(path) else _properties(path)


def _versions() -> dict[str, Any]:
    import soundfile

    cache = jax_setup.use_compilation_cache()
    import jax

    names = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scipy", "soundfile", "soxr")
    return {
        "jaxapf": __version__,
        "python": platform.python_version(),
        **{name: _version(name) for name in names},
        "libsndfile": soundfile.__libsndfile_version__,
        "system": platform.platform(),
        "devices": ", ".join(device.device_kind for device in jax.devices()),
        "cache": cache or "none",
    }


def _version(package: str) -> str:
    # Asked of the installation: importing Flax and Orbax would take seconds.
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _stored_checkpoints() -> list[dict[str, Any]]:
    try:
        place = pretrained.folder()
    except ValueError:  # the package was copied without them
        return []
    return [{**entry, "path": str(place / entry["path"])} for entry in pretrained.manifest()]


def _checkpoint_figures(path: str) -> dict[str, Any]:
    inside = os.path.join(path, "checkpoints")  # where a training's folder has them
    path = inside if os.path.isdir(inside) else path
    if not any(name.isdecimal() for name in os.listdir(path)):
        raise UsageError(
            f"'{path}' is a folder and holds no checkpoints; give an audio file, a model or a folder that a "
            "training wrote"
        )
    module = importlib.import_module("jaxapf.training.checkpoint")
    try:
        steps = module.describe(path)
    except module.CheckpointError as error:
        raise UsageError(str(error)) from error
    if not steps:
        raise UsageError(f"'{path}' holds no whole checkpoint; restore a copy of the folder")
    newest = steps[max(steps)]
    leaves = {name: math.prod(leaf["shape"]) for name, leaf in newest["leaves"].items()}
    trained = {name: size for name, size in leaves.items() if name.split("/")[0] == "params"} or leaves
    return {
        "kind": "checkpoints",
        "path": path,
        "steps": [{"step": step, "metrics": found["metrics"]} for step, found in sorted(steps.items())],
        "n_parameters": sum(trained.values()),
        "n_arrays": len(trained),
        "config": newest["config"],
        "versions": newest["versions"],
    }


def _properties(path: str) -> dict[str, Any]:
    found = audio.info(path)
    return {"kind": "audio", **found._asdict(), "seconds": found.n_samples / found.fs}


def _is_model(path: str) -> bool:
    with contextlib.suppress(OSError):
        return path.lower().endswith(".json") and os.path.isfile(path)
    return False


def _model_figures(path: str) -> dict[str, Any]:
    check_model(path)
    alignment = load_model(path)
    if hasattr(alignment, "output_db"):
        return {"kind": "style", "path": path, **alignment._asdict()}
    if hasattr(alignment, "effect"):
        return {"kind": "effect", "path": path, **fitting.figures_of(alignment)}
    return {
        "kind": "model",
        "path": path,
        "fs": round(alignment.fs),
        "delay_samples": alignment.delay_samples,
        **fitted(alignment),
    }
