"""`jaxapf apply` and `jaxapf export`: what is done with a model that another command wrote."""

import argparse
import contextlib
import importlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxapf import audio
from jaxapf._internal.console import Progress, described_audio, print_result
from jaxapf.alignment import export as formats
from jaxapf.cli.filtering import write_filtered
from jaxapf.cli.inputs import UsageError, check_outputs, open_source
from jaxapf.cli.jax_setup import start_jax

EFFECT_FORMAT, STYLE_FORMAT = "jaxapf-effect", "jaxapf-style"


def apply(arguments: argparse.Namespace) -> None:
    started = time.perf_counter()
    audio.output_subtype(arguments.output, arguments.subtype)
    found = audio.info(arguments.input)
    check_model(arguments.model)
    check_outputs([arguments.input, arguments.model], [arguments.output])
    show = Progress(arguments)
    show("Starting JAX")
    model = load_model(arguments.model)
    fs = round(model.fs) if hasattr(model, "fs") else found.fs  # a style is for every rate
    if found.fs != fs and not arguments.resample:
        raise UsageError(
            f"'{arguments.model}' is for {fs} Hz and '{found.path}' is at {found.fs} Hz; "
            "add --resample to bring the file to the model's rate"
        )
    notes: list[str] = []
    with open_source(arguments.input, fs, arguments.channels, notes, show) as source:
        write_filtered(arguments, model, source, found.subtype, notes, show)
    show.done()
    result = {
        "command": "apply",
        "model": arguments.model,
        "input": arguments.input,
        "output": audio.info(arguments.output)._asdict(),
        "notes": notes,
        "seconds": time.perf_counter() - started,
    }
    print_result(arguments, result, _apply_text)


def _apply_text(result: dict[str, Any]) -> Iterator[str]:
    yield from (f"note      {note}" for note in result["notes"])
    yield f"time      {result['seconds']:.1f} s"
    yield f"wrote     {described_audio(result['output'])}"


def export(arguments: argparse.Namespace) -> None:
    if arguments.format in ("cpp", "faust"):
        raise UsageError(
            f"argument --format: {arguments.format} is not available in this version; use json or sos"
        )
    check_model(arguments.model)
    check_outputs([arguments.model], [arguments.output])
    alignment = load_model(arguments.model)
    if hasattr(alignment, "output_db") or hasattr(alignment, "effect"):
        kind = getattr(alignment, "effect", "style")
        raise UsageError(
            f"'{arguments.model}' is the model of a {kind}, which is no cascade of filters; "
            "export takes what 'jaxapf align --model' wrote"
        )
    text = formats.to_json(alignment) if arguments.format == "json" else formats.to_sos(alignment)
    audio.write_text(arguments.output, text)


def check_model(path: str) -> None:
    """Refuse what is plainly no model before JAX starts."""
    if not os.path.exists(path):
        raise UsageError(f"'{path}' does not exist; check the name and the folder")
    if not os.path.isfile(path):
        raise UsageError(f"'{path}' is not a regular file; give a model that jaxapf wrote")
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"'{path}' cannot be opened: {(error.strerror or '').lower()}") from error
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UsageError(
            f"'{path}' is not a model; give a file that jaxapf wrote, such as by 'jaxapf align --model'"
        )


def load_model(path: str) -> Any:
    """An Alignment, an EffectModel or the Settings of a style, as the file says."""
    found = _format(path)
    module = start_jax(
        "jaxapf.effects.style.transfer" if found == STYLE_FORMAT else "jaxapf.alignment.estimate"
    )
    load = module.load if found == STYLE_FORMAT else module.Alignment.load
    if found == EFFECT_FORMAT:
        load = importlib.import_module("jaxapf.effects.modelling.model").EffectModel.load
    try:
        return load(path)
    except ValueError as error:  # a ModelError of either
        raise UsageError(str(error)) from error


def _format(path: str) -> Any:
    with contextlib.suppress(OSError, ValueError, RecursionError, AttributeError):
        return json.loads(Path(path).read_text(encoding="utf-8")).get("format")
    return None


def fitted(alignment: Any) -> dict[str, Any]:
    """What the results of `align` and `info` say of a model alike."""
    return {
        "polarity": alignment.polarity,
        "n_sections": len(alignment.controls),
        "controls": alignment.controls,
        "method": alignment.method,
        "stop_reason": alignment.stop_reason,
        "metrics": alignment.metrics,
    }
