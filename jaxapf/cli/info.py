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
from jaxapf.cli.arguments import UsageError, argument
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

    files: Sequence[str] = argument(
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
    print_result(options, result, lambda rows: chain(*(_LINES[row["kind"]](row) for row in rows.values())))


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
    total = sum(entry["bytes"] for entry in stored)
    summary = f"{len(stored)} stored, {total / 1e6:.2g} MB" if total else "none"
    for name, value in (found | {"checkpoints": summary}).items():
        yield f"{name:18}{value}"
    for entry in stored:
        figure = f"{entry['figure']['name']} {entry['figure']['value']:.4g}"
        yield f"  {entry['name']}: {entry['what']}, {figure}, {entry['bytes'] / 1e3:.0f} kB"


# Files: what each holds, and the lines that show it


def _row(path: str) -> dict[str, Any]:
    if os.path.isdir(path):
        return _checkpoints(path)
    if path.lower().endswith(".json") and os.path.isfile(path):
        kind, model = load_model(path)
        if kind == "model":
            found = {"fs": round(model.fs), "delay_samples": model.delay_samples, **align.figures_of(model)}
        else:
            found = model._asdict() if kind == "style" else fit.figures_of(model)
        return {"kind": kind, "path": path, **found}
    found = audio.info(path)
    return {"kind": "audio", **found._asdict(), "seconds": found.n_samples / found.fs}


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


def _style_lines(row: dict[str, Any]) -> Iterator[str]:
    yield f"{row['path']}: controls of a style, for every sample rate"
    yield from (f"  {line}".rstrip() for line in panel(row))


def _effect_lines(row: dict[str, Any]) -> Iterator[str]:
    esr = row["metrics"].get("esr")
    fitted = "" if esr is None else f", error-to-signal ratio {esr:.6f}"
    yield f"{row['path']}: model of a {row['effect']} at {row['fs']} Hz{fitted}"
    yield from (f"  {name:20}{value}" for name, value in row["settings"].items())


def _model_lines(row: dict[str, Any]) -> Iterator[str]:
    polarity = "kept" if row["polarity"] > 0 else "inverted"
    sections = count(row["n_sections"], "all-pass section")
    delay = f"delay {row['delay_samples']:.3f} samples at {row['fs']} Hz"
    yield f"{row['path']}: model, {sections}, {delay}, polarity {polarity}, method {row['method']}"
    names = {"esr_raw": "before", "esr_delay": "delay only", "esr_aligned": "aligned", "esr_bound": "bound"}
    ratios = {label: row["metrics"].get(name) for name, label in names.items()}
    shown = [f"{label} {value:.5f}" for label, value in ratios.items() if value is not None]
    if shown:
        yield f"  error-to-signal ratio: {', '.join(shown)}"
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
        yield f"  config  {_listed(row['config'])}"


_LINES = {
    "audio": lambda row: [audio_line(row)],
    "checkpoints": _checkpoint_lines,
    "style": _style_lines,
    "effect": _effect_lines,
    "model": _model_lines,
}


def _listed(tree: dict[str, Any], before: str = "") -> str:
    """List figures, those of nested dicts with their names joined by dots."""
    shown = []
    for name, value in tree.items():
        if isinstance(value, dict):
            shown.append(_listed(value, f"{before}{name}."))
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            shown.append(f"{before}{name} " + (f"{value:.6g}" if isinstance(value, float) else text))
    return "  ".join(filter(None, shown))
