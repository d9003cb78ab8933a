"""What the command `jaxapf` shows: progress, results as text or JSON, warnings."""

import argparse
import contextlib
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from jaxapf._internal.text import count


class Progress:
    """One line on the terminal that says what is going on; silent in a pipe."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.active = not arguments.quiet and sys.stderr is not None and sys.stderr.isatty()

    def __call__(self, stage: str, fraction: float | None = None) -> None:
        """Show a stage, and how much of it is done (0 to 1) where that is known."""
        if self.active:
            bar = "" if fraction is None else f" [{'#' * int(30 * fraction):.<30}] {fraction:4.0%}"
            print(f"\r\x1b[K{stage}{bar}", end="", file=sys.stderr, flush=True)

    def done(self) -> None:
        """Clear the line."""
        if self.active:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def print_result(
    arguments: argparse.Namespace, result: dict[str, Any], text: Callable[[dict[str, Any]], Iterable[str]]
) -> None:
    """Print a result as the arguments ask: JSON, the lines of `text`, or nothing."""
    if arguments.json:
        print(json.dumps(_plain(result), indent=1, allow_nan=False))
    elif not getattr(arguments, "quiet", False):
        print("\n".join(text(result)))


def _plain(value: Any) -> Any:
    """Make a value fit for JSON: NumPy scalars and arrays become numbers and lists, NaN and Inf null."""
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def warn(message: str, notes: list[str]) -> None:
    """Print a warning on stderr, also with --quiet, and note it."""
    notes.append(message)
    with contextlib.suppress(OSError):
        print(f"jaxapf: warning: {message}", file=sys.stderr, flush=True)


def described(row: dict[str, Any]) -> Iterator[str]:
    """Describe an audio file in one line; a model or checkpoints in a line, and lines with their figures."""
    if row["kind"] == "audio":
        yield described_audio(row)
        return
    if row["kind"] == "checkpoints":
        yield from described_checkpoints(row)
        return
    if row["kind"] == "style":
        yield f"{row['path']}: controls of a style, for every sample rate"
        yield from (f"  {line}".rstrip() for line in panel(row))
        return
    if row["kind"] == "effect":
        esr = row["metrics"].get("esr")
        fitted = "" if esr is None else f", error-to-signal ratio {esr:.6f}"
        yield f"{row['path']}: model of a {row['effect']} at {row['fs']} Hz{fitted}"
        yield from (f"  {name:20}{value}" for name, value in row["settings"].items())
        return
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


def panel(settings: dict[str, Any]) -> Iterator[str]:
    """The controls of an equaliser and a compressor as a front panel, and the gains around them."""
    values = settings["controls"]
    yield f"{'equaliser':18}{'gain':>10}{'frequency':>14}{'Q':>8}"
    bands = [name.removesuffix("_gain_db") for name in values if name.startswith("equalizer.")]
    for band in (name for name in bands if f"{name}_gain_db" in values):
        gain, hz, q = (values[f"{band}_{name}"] for name in ("gain_db", "cutoff_hz", "q"))
        label = band.removeprefix("equalizer.").replace("_", " ")
        yield f"{label:18}{gain:+7.1f} dB{hz:11.0f} Hz{q:8.2f}"
    yield ""
    yield "compressor"
    for name, value in values.items():
        if name.startswith("compressor."):
            yield front(name.removeprefix("compressor."), value)
    yield ""
    yield f"{'level before':18}{settings['input_db']:+7.1f} dB"
    yield f"{'level after':18}{settings['output_db']:+7.1f} dB"


def front(name: str, value: float) -> str:
    """A control's name and value as on a front panel: its unit after the number, not in the name."""
    word, _, unit = name.rpartition("_")
    if name == "ratio":
        return f"{name:18}{value:7.2f} : 1"
    if unit not in _UNITS:
        return f"{name.replace('_', ' '):18}{value:7.2f}"
    return f"{word.replace('_', ' '):18}{value:7.1f} {_UNITS[unit]}"


_UNITS = {"db": "dB", "ms": "ms", "hz": "Hz", "s": "s"}


def described_audio(row: dict[str, Any]) -> str:
    """Describe an audio file in one line."""
    seconds = row["n_samples"] / row["fs"]
    return (
        f"{row['path']}: {row['format']} {row['subtype']}, {row['fs']} Hz, "
        f"{count(row['n_channels'], 'channel')}, {seconds:.3f} s ({count(row['n_samples'], 'sample')})"
    )


def described_checkpoints(row: dict[str, Any]) -> Iterator[str]:
    """Describe a folder of training checkpoints: its size, a line for each step, its configuration."""
    parameters = f"{count(row['n_parameters'], 'parameter')} in {count(row['n_arrays'], 'array')}"
    made = ", ".join(f"{name} {version}" for name, version in row["versions"].items())
    yield f"{row['path']}: {count(len(row['steps']), 'training checkpoint')}, {parameters}, {made}"
    width = len(str(row["steps"][-1]["step"]))
    for step in row["steps"]:
        yield f"  step {step['step']:{width}}  {_listed(step['metrics'])}".rstrip()
    if row["config"]:
        yield f"  config  {_listed(_flat(row['config']))}"


def _listed(figures: dict[str, Any]) -> str:
    return "  ".join(f"{name} {_shown(value)}" for name, value in figures.items())


def _shown(value: Any) -> str:
    return (
        f"{value:.6g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)
    )


def _flat(tree: Any, name: str = "") -> dict[str, Any]:
    """Nested dicts as one, with the names joined by dots."""
    if not isinstance(tree, dict):
        return {name: tree}
    inner = (_flat(value, f"{name}.{key}" if name else str(key)) for key, value in tree.items())
    return {key: value for one in inner for key, value in one.items()}


def described_versions(found: dict[str, Any]) -> Iterator[str]:
    """Describe an installation: versions, a line each, and the checkpoints that came with it."""
    for name, value in found.items():
        if name != "checkpoints":
            yield f"{name:18}{value}"
    total = sum(entry["bytes"] for entry in found["checkpoints"])
    yield f"{'checkpoints':18}" + (
        f"{len(found['checkpoints'])} stored, {total / 1e6:.2g} MB" if total else "none"
    )
    for entry in found["checkpoints"]:
        figure = f"{entry['figure']['name']} {entry['figure']['value']:.4g}"
        yield f"  {entry['name']}: {entry['what']}, {figure}, {entry['bytes'] / 1e3:.0f} kB"


def decibels(ratio: float) -> str:
    """Return a ratio of powers in decibels."""
    return f"{10 * math.log10(ratio):+.1f} dB" if ratio > 0 else "-inf dB"
