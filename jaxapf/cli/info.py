"""`jaxapf info`: versions, devices and stored checkpoints, or what files and folders hold."""

import dataclasses
import json
import math
import os
import platform
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from jaxapf import audio
from jaxapf._internal.text import count
from jaxapf._internal.version import __version__
from jaxapf.cli import align, arguments, fit, jax_setup
from jaxapf.cli.arguments import UsageError
from jaxapf.cli.inputs import load_model
from jaxapf.cli.output import audio_line, panel, print_result
from jaxapf.training import pretrained

TEXTS = """show versions, devices and stored checkpoints, or what a file holds

Show versions, devices and the checkpoints that come with jaxapf; or the
properties of audio files, the figures of models, and the steps, metrics and
configuration of training checkpoints.

examples:
  jaxapf info
  jaxapf info dry.wav wet.wav tape.json
  jaxapf info run/checkpoints"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(arguments.JsonOptions):
    """Options of `jaxapf info`."""

    files: Sequence[str] = arguments.positional(
        "FILE", "audio file, model, or folder of training checkpoints", (), nargs="*"
    )


def add_parser(commands: Any) -> None:
    arguments.add_command(commands, "info", run, Options, TEXTS)


def run(options: Options) -> None:
    """Print what is installed, or what the files hold."""
    if not options.files:
        print_result(options, _installation(), _installation_lines)
        return
    result = {path: _row(path) for path in options.files}
    print_result(options, result, lambda rows: chain.from_iterable(map(_lines, rows.values())))


# The installation


def _installation() -> dict[str, Any]:
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
        "checkpoints": _stored_checkpoints(),
    }


def _version(package: str) -> str:
    # From the installation's metadata: importing Flax and Orbax would take seconds.
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _stored_checkpoints() -> list[dict[str, Any]]:
    try:
        folder = pretrained.folder()
    except ValueError:  # the package was copied without them
        return []
    return [{**entry, "path": str(folder / entry["path"])} for entry in pretrained.manifest()]


def _installation_lines(found: dict[str, Any]) -> Iterator[str]:
    stored = found["checkpoints"]
    for name, value in found.items():
        if name != "checkpoints":
            yield f"{name:18}{value}"
    total = sum(entry["bytes"] for entry in stored)
    yield f"{'checkpoints':18}" + (f"{len(stored)} stored, {total / 1e6:.2g} MB" if total else "none")
    for entry in stored:
        figure = f"{entry['figure']['name']} {entry['figure']['value']:.4g}"
        yield f"  {entry['name']}: {entry['what']}, {figure}, {entry['bytes'] / 1e3:.0f} kB"


# Files


def _row(path: str) -> dict[str, Any]:
    if os.path.isdir(path):
        return _checkpoints(path)
    if path.lower().endswith(".json") and os.path.isfile(path):
        return _model(path)
    found = audio.info(path)
    return {"kind": "audio", **found._asdict(), "seconds": found.n_samples / found.fs}


def _model(path: str) -> dict[str, Any]:
    kind, model = load_model(path)
    if kind == "style":
        return {"kind": kind, "path": path, **model._asdict()}
    if kind == "effect":
        return {"kind": kind, "path": path, **fit.figures_of(model)}
    return {
        "kind": kind,
        "path": path,
        "fs": round(model.fs),
        "delay_samples": model.delay_samples,
        **align.figures_of(model),
    }


def _checkpoints(path: str) -> dict[str, Any]:
    inside = os.path.join(path, "checkpoints")  # where a training's folder has them
    path = inside if os.path.isdir(inside) else path
    if not any(name.isdecimal() for name in os.listdir(path)):
        raise UsageError(
            f"'{path}' is a folder and holds no checkpoints; give an audio file, a model or a folder that a "
            "training wrote"
        )
    from jaxapf.training import checkpoint

    try:
        steps = checkpoint.describe(path)
    except checkpoint.CheckpointError as error:
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


# Lines


def _lines(row: dict[str, Any]) -> Iterator[str]:
    if row["kind"] == "audio":
        yield audio_line(row)
    elif row["kind"] == "checkpoints":
        yield from _checkpoint_lines(row)
    elif row["kind"] == "style":
        yield f"{row['path']}: controls of a style, for every sample rate"
        yield from (f"  {line}".rstrip() for line in panel(row))
    elif row["kind"] == "effect":
        esr = row["metrics"].get("esr")
        fitted = "" if esr is None else f", error-to-signal ratio {esr:.6f}"
        yield f"{row['path']}: model of a {row['effect']} at {row['fs']} Hz{fitted}"
        yield from (f"  {name:20}{value}" for name, value in row["settings"].items())
    else:
        yield from _model_lines(row)


def _model_lines(row: dict[str, Any]) -> Iterator[str]:
    polarity = "kept" if row["polarity"] > 0 else "inverted"
    sections = count(row["n_sections"], "all-pass section")
    delay = f"delay {row['delay_samples']:.3f} samples at {row['fs']} Hz"
    yield f"{row['path']}: model, {sections}, {delay}, polarity {polarity}, method {row['method']}"
    names = {"esr_raw": "before", "esr_delay": "delay only", "esr_aligned": "aligned", "esr_bound": "bound"}
    figures = {label: row["metrics"].get(name) for name, label in names.items()}
    figures = [f"{label} {value:.5f}" for label, value in figures.items() if value is not None]
    if figures:
        yield f"  error-to-signal ratio: {', '.join(figures)}"
    for number, control in enumerate(row["controls"], 1):
        values = (f"{name} {value:.6g}" for name, value in control.items() if isinstance(value, (int, float)))
        yield f"  {number:2}  {control.get('type', '')}  {'  '.join(values)}"


def _checkpoint_lines(row: dict[str, Any]) -> Iterator[str]:
    parameters = f"{count(row['n_parameters'], 'parameter')} in {count(row['n_arrays'], 'array')}"
    made = ", ".join(f"{name} {version}" for name, version in row["versions"].items())
    yield f"{row['path']}: {count(len(row['steps']), 'training checkpoint')}, {parameters}, {made}"
    width = len(str(row["steps"][-1]["step"]))
    for step in row["steps"]:
        yield f"  step {step['step']:{width}}  {_listed(step['metrics'])}".rstrip()
    if row["config"]:
        yield f"  config  {_listed(_flat(row['config']))}"


def _listed(figures: dict[str, Any]) -> str:
    return "  ".join(f"{name} {_value(value)}" for name, value in figures.items())


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value)


def _flat(tree: Any, name: str = "") -> dict[str, Any]:
    """Flatten nested dicts, with the names joined by dots."""
    if not isinstance(tree, dict):
        return {name: tree}
    inner = (_flat(value, f"{name}.{key}" if name else str(key)) for key, value in tree.items())
    return {key: value for one in inner for key, value in one.items()}
