"""Output of the commands: the stages on a terminal, results as text or JSON, warnings."""

import contextlib
import dataclasses
import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from jaxapf._internal import text
from jaxapf._internal.progress import progress
from jaxapf.cli.arguments import Options

Lines = Callable[[dict[str, Any]], Iterable[str]]


@dataclasses.dataclass
class Job:
    """One run of a command: ``show(stage, fraction=None)``, fraction from 0 to 1, its notes and its time."""

    options: Options
    show: Callable[..., None]
    notes: list[str] = dataclasses.field(default_factory=list)
    started: float = dataclasses.field(default_factory=time.perf_counter)

    def warn(self, message: str) -> None:
        """Print a warning on stderr, also with --quiet, and note it."""
        self.notes.append(message)
        with contextlib.suppress(OSError):
            print(f"jaxapf: warning: {message}", file=sys.stderr, flush=True)

    def finish(self, command: str, lines: Lines, **figures: Any) -> None:
        """Print the result of the command, once its stages are no longer shown."""
        seconds = time.perf_counter() - self.started
        result = {"command": command, **figures, "notes": self.notes, "seconds": seconds}
        print_result(self.options, result, lines)


@contextlib.contextmanager
def begin(options: Options) -> Iterator[Job]:
    """Begin a run, whose stages are shown where stderr is a terminal."""
    if options.quiet:
        yield Job(options, lambda *_: None)
        return
    with progress(None, transient=True) as update:

        def show(stage: str, fraction: float | None = None) -> None:
            update(fraction, description=stage, **({} if fraction is None else {"total": 1.0}))

        yield Job(options, show)


def print_result(options: Options, result: dict[str, Any], lines: Lines) -> None:
    """Print a result as the options ask: JSON, the lines of text, or nothing."""
    if options.json:
        print(json.dumps(_plain(result), indent=1, allow_nan=False))
    elif not options.quiet:
        print("\n".join(lines(result)))


def _plain(value: Any) -> Any:
    """Return a value fit for JSON: NumPy scalars and arrays as numbers and lists, NaN and Inf as null."""
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


# Lines that several commands print


def closing(result: dict[str, Any], written: str, *others: str | None) -> Iterator[str]:
    """Yield the last lines of a result: notes, time, the files that were written."""
    yield from (f"note      {note}" for note in result["notes"])
    yield f"time      {result['seconds']:.1f} s"
    yield f"wrote     {written}"
    yield from (f"          {path}" for path in others if path)


def audio_line(row: dict[str, Any]) -> str:
    """Describe an audio file in one line."""
    seconds = row["n_samples"] / row["fs"]
    return (
        f"{row['path']}: {row['format']} {row['subtype']}, {row['fs']} Hz, "
        f"{text.count(row['n_channels'], 'channel')}, {seconds:.3f} s "
        f"({text.count(row['n_samples'], 'sample')})"
    )


def decibels(ratio: float) -> str:
    """Format a ratio of powers in dB, in ASCII, which every terminal has."""
    return text.decibels(ratio, signed=True).replace("−", "-").replace("∞", "inf")


def control_line(name: str, value: float) -> str:
    """Format a control as on a front panel: its unit after the number, not in the name."""
    word, _, unit = name.rpartition("_")
    if name == "ratio":
        return f"{name:18}{value:7.2f} : 1"
    if unit not in text.UNITS:
        return f"{name.replace('_', ' '):18}{value:7.2f}"
    return f"{word.replace('_', ' '):18}{value:7.1f} {text.UNITS[unit]}"


def panel(settings: dict[str, Any]) -> Iterator[str]:
    """Yield the controls of an equaliser and a compressor as a front panel, and the gains around them."""
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
            yield control_line(name.removeprefix("compressor."), value)
    yield ""
    yield f"{'level before':18}{settings['input_db']:+7.1f} dB"
    yield f"{'level after':18}{settings['output_db']:+7.1f} dB"
