"""`jaxapf align`: two recordings in, one brought into phase with the other; and `jaxapf demo`."""

import argparse
import contextlib
import dataclasses
import importlib
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxapf import audio, datasets
from jaxapf._internal.console import Progress, decibels, described_audio, print_result, warn
from jaxapf._internal.text import clock, count, printable
from jaxapf.alignment.options import doubt
from jaxapf.cli.filtering import Figures, write_filtered
from jaxapf.cli.inputs import Source, UsageError, check_outputs, open_source
from jaxapf.cli.jax_setup import start_jax
from jaxapf.cli.models import fitted

# Longer pairs are fitted on their most informative stretches and never held in memory as a whole.
WHOLE_MAX_S = 90
WHOLE_MAX_SAMPLES = 2**24
FIT_STRETCHES = 4
STRETCH_S = 30
MIN_SAMPLES = 64
# Below -140 dBFS there is nothing but the dither of a 24-bit file.
SILENCE = 1e-7
MAX_LENGTH_DIFFERENCE = 0.01


def align(arguments: argparse.Namespace) -> None:
    started = time.perf_counter()
    outputs = [path for path in (arguments.output, arguments.model, arguments.report) if path is not None]
    audio.output_subtype(arguments.output, arguments.subtype)
    infos = check_pair(arguments)
    check_outputs([arguments.dry, arguments.wet], outputs)
    show = Progress(arguments)
    notes: list[str] = []
    with open_pair(arguments, infos, notes, show) as (dry, wet):
        stretches = _stretches(dry, wet, notes, show)
        alignment = _fit(arguments, dry, wet, stretches, show)
        figures = Figures(_delay_only(alignment), dry, wet) if len(stretches) > 1 else None
        write_filtered(arguments, alignment, dry, infos[0].subtype, notes, show, figures)
        whole = {} if figures is None else figures.result()
        alignment = dataclasses.replace(
            alignment, metrics={**alignment.metrics, **whole}, command=arguments.command_line
        )
        if doubtful := doubt(alignment.metrics["correlation_aligned"]):
            warn(doubtful, notes)
        if arguments.model is not None:
            alignment.save(arguments.model)
        if arguments.report is not None:
            show("Writing the report")
            _write_report(arguments, alignment, dry, wet, stretches, notes)
    show.done()
    seconds = time.perf_counter() - started
    print_result(arguments, _align_result(arguments, alignment, notes, seconds), _align_text)


def demo(arguments: argparse.Namespace) -> None:
    folder = Path(arguments.output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"'{folder}' cannot be created: {(error.strerror or '').lower()}; give another -o"
        ) from error
    inputs = []
    for path in datasets.example_pair():
        inputs.append(str(folder / f"example_{path.name}"))
        with audio.atomic_path(inputs[-1]) as temporary:
            shutil.copyfile(path, temporary)
    options = [name for name in ("json", "quiet") if getattr(arguments, name)]
    words = ["align", *inputs, "-o", str(folder / "example_aligned.flac")]
    words += ["--model", str(folder / "example_model.json"), "--report", str(folder / "report.html")]
    words += [f"--{name}" for name in options]
    from jaxapf.cli import parser

    align(parser.parse(words))
    if not options:
        print(f"\nLook at it and listen: open {folder / 'report.html'}")


# The pair


def check_pair(arguments: argparse.Namespace) -> tuple[audio.AudioInfo, audio.AudioInfo]:
    """Refuse two files that are no pair."""
    dry, wet = audio.info(arguments.dry), audio.info(arguments.wet)
    if arguments.channels is None and dry.n_channels != wet.n_channels:
        raise UsageError(
            f"'{dry.path}' has {count(dry.n_channels, 'channel')} and '{wet.path}' has "
            f"{count(wet.n_channels, 'channel')}; pick the same ones of both, for example --channels 1"
        )
    for one in (dry, wet):
        missing = [c + 1 for c in arguments.channels or () if c >= one.n_channels]
        if missing:
            raise UsageError(
                f"argument --channels: '{one.path}' has {count(one.n_channels, 'channel')} "
                f"and no channel {missing[0]}"
            )
        if one.n_samples < MIN_SAMPLES:
            raise UsageError(f"'{one.path}' holds {count(one.n_samples, 'sample')}, too few to work with")
    if dry.fs != wet.fs and arguments.resample is None:
        raise UsageError(
            f"'{dry.path}' is at {dry.fs} Hz and '{wet.path}' at {wet.fs} Hz; "
            "add --resample to bring the dry file to the wet file's rate"
        )
    _check_lengths(dry, wet)
    return dry, wet


def _check_lengths(dry: audio.AudioInfo, wet: audio.AudioInfo) -> None:
    dry_s, wet_s = dry.n_samples / dry.fs, wet.n_samples / wet.fs
    if abs(dry_s - wet_s) > MAX_LENGTH_DIFFERENCE * max(dry_s, wet_s):
        raise UsageError(
            f"'{dry.path}' lasts {dry_s:.3f} s and '{wet.path}' {wet_s:.3f} s, more than 1 % apart; "
            "trim them to the same start and length"
        )


@contextlib.contextmanager
def open_pair(
    arguments: argparse.Namespace,
    infos: tuple[audio.AudioInfo, audio.AudioInfo],
    notes: list[str],
    show: Progress,
) -> Iterator[tuple[Source, Source]]:
    """Open both inputs at one rate and one length."""
    fs = (arguments.resample or infos[1].fs) if arguments.resample is not None else infos[0].fs
    with (
        open_source(arguments.dry, fs, arguments.channels, notes, show) as dry,
        open_source(arguments.wet, fs, arguments.channels, notes, show) as wet,
    ):
        n_samples = min(dry.n_samples, wet.n_samples)
        for source in (dry, wet):
            if source.n_samples > n_samples:
                cut = source.n_samples - n_samples
                notes.append(f"'{source.path}' is longer: its last {count(cut, 'sample')} were left out")
        if n_samples < MIN_SAMPLES:
            raise UsageError(
                f"'{dry.path}' holds {count(n_samples, 'sample')} at {fs} Hz, too few to work with"
            )
        yield dry._replace(n_samples=n_samples), wet._replace(n_samples=n_samples)


def _stretches(dry: Source, wet: Source, notes: list[str], show: Progress) -> list[tuple[int, int]]:
    """Where to fit: the whole of a short pair, the most informative stretches of a long one."""
    n_samples, fs = dry.n_samples, dry.fs
    if n_samples <= WHOLE_MAX_S * fs and n_samples * dry.n_channels <= WHOLE_MAX_SAMPLES:
        return [(0, n_samples)]
    show("Choosing the most informative stretches")
    length = min(STRETCH_S * fs, WHOLE_MAX_SAMPLES // (FIT_STRETCHES * dry.n_channels))
    stretches = audio.informative_segments(
        dry.file, wet.file, n_samples, fs, dry.channels, length=length, count=FIT_STRETCHES
    )
    places = ", ".join(f"{clock(start / fs)} to {clock(stop / fs)}" for start, stop in stretches)
    notes.append(f"the filter and the phase-only bound are those of the most informative stretches, {places}")
    return stretches


# The fit and its figures


def _fit(
    arguments: argparse.Namespace,
    dry: Source,
    wet: Source,
    stretches: Sequence[tuple[int, int]],
    show: Progress,
) -> Any:
    show("Reading")
    signals = []
    for source in (dry, wet):
        samples = np.stack([source.read(start, stop) for start, stop in stretches])
        if np.max(np.abs(samples)) < SILENCE:
            raise UsageError(
                f"'{source.path}' is silent, so there is nothing to align; check the file or --channels"
            )
        signals.append(samples if len(stretches) > 1 else samples[0])
    show("Starting JAX")
    module = start_jax()
    show("Fitting")
    try:
        return module.align(
            *signals,
            dry.fs,
            order=arguments.order,
            method=arguments.method,
            max_delay_ms=arguments.max_delay_ms,
            progress=show.active,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error


def _delay_only(alignment: Any) -> Any:
    """The best that delay and polarity do alone, as a model."""
    return dataclasses.replace(
        alignment,
        sections=type(alignment.sections)(*(np.zeros(0) for _ in alignment.sections)),
        delay_samples=alignment.metrics["delay_only_samples"],
        polarity=alignment.metrics["delay_only_polarity"],
    )


# What is told


def _write_report(
    arguments: argparse.Namespace,
    alignment: Any,
    dry: Source,
    wet: Source,
    stretches: Sequence[tuple[int, int]],
    notes: list[str],
) -> None:
    start, stop = stretches[0]
    # What comes before the excerpt sets the filters' state at its first sample.
    before = min(start, dry.fs)
    aligned = np.asarray(alignment.apply(dry.read(start - before, stop)))[..., before:]
    if len(stretches) > 1:
        place = f"{clock(start / dry.fs)} to {clock(stop / dry.fs)}"
        notes = [*notes, f"this page shows and plays an excerpt, {place}; the figures are those of the whole"]
    dry_name, wet_name = (printable(os.path.basename(source.path)) for source in (dry, wet))
    importlib.import_module("jaxapf.report").write(
        arguments.report,
        dry.read(start, stop),
        wet.read(start, stop),
        aligned,
        alignment,
        title=f"{dry_name} onto {wet_name}",
        dry_name=dry_name,
        wet_name=wet_name,
        notes=[printable(note) for note in notes],
        command=arguments.command_line,
    )


def _align_result(
    arguments: argparse.Namespace, alignment: Any, notes: list[str], seconds: float
) -> dict[str, Any]:
    written = audio.info(arguments.output)
    return {
        "command": "align",
        "dry": arguments.dry,
        "wet": arguments.wet,
        "output": written._asdict(),
        "model": arguments.model,
        "report": arguments.report,
        "fs": alignment.fs,
        "delay_samples": alignment.delay_samples,
        "delay_ms": 1000 * alignment.delay_samples / alignment.fs,
        **fitted(alignment),
        "notes": notes,
        "seconds": seconds,
    }


def _align_text(result: dict[str, Any]) -> Iterator[str]:
    metrics = result["metrics"]
    yield f"{'':20}{'error-to-signal ratio':>24}{'correlation':>14}"
    for label, name in (
        ("before", "raw"),
        ("delay only", "delay"),
        ("aligned", "aligned"),
        ("phase-only bound", "bound"),
    ):
        ratio, correlation = metrics.get(f"esr_{name}"), metrics.get(f"correlation_{name}")
        ratio = "" if ratio is None else f"{ratio:13.5f} {decibels(ratio):>10}"
        yield f"{label:20}{ratio:24}" + ("" if correlation is None else f"{correlation:14.4f}")
    yield ""
    delay = result["delay_samples"]
    later = (
        "wet is later than dry"
        if delay > 0
        else "wet is earlier, or the filter later: dry was advanced"
        if delay < 0
        else "none"
    )
    yield f"delay     {delay:.3f} samples ({result['delay_ms']:.3f} ms), {later}"
    yield f"polarity  {'kept' if result['polarity'] > 0 else 'inverted'}"
    sections = count(result["n_sections"], "all-pass section")
    yield f"filter    {sections}, method {result['method']}; {result['stop_reason']}"
    yield from (f"note      {note}" for note in result["notes"])
    yield f"time      {result['seconds']:.1f} s"
    yield f"wrote     {described_audio(result['output'])}"
    yield from (f"          {result[name]}" for name in ("model", "report") if result[name])
