"""`jaxapf align`: two recordings in, one brought into phase with the other."""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxapf import audio
from jaxapf._internal.text import count, printable, time_range
from jaxapf.alignment.options import MAX_ORDER, METHODS, doubt
from jaxapf.cli import arguments
from jaxapf.cli.arguments import argument
from jaxapf.cli.filtering import write_filtered
from jaxapf.cli.inputs import SILENCE, Source, check_outputs, check_pair, open_pair, silent
from jaxapf.cli.jax_setup import start_jax
from jaxapf.cli.output import Job, audio_line, begin, closing, decibels

# Longer pairs are fitted on their most informative stretches and never held in memory as a whole.
WHOLE_MAX_S = 90
WHOLE_MAX_SAMPLES = 2**24
FIT_STRETCHES = 4
STRETCH_S = 30

Stretches = Sequence[tuple[int, int]]  # first sample and the one after the last


TEXTS = """bring a dry file into phase with its processed copy

Bring DRY into phase with WET, its processed copy: find polarity and
latency, then a cascade of all-pass filters, and write the dry file through
them. Levels are not changed. Where no filter does better than delay and
polarity, only these are applied, and the command says so.

examples:
  jaxapf align dry.wav wet.wav -o aligned.wav
  jaxapf align dry.wav wet.wav -o aligned.flac --model tape.json --report tape.html
  jaxapf align snare_top.wav snare_bottom.wav -o top_aligned.wav --order 8
  jaxapf align dry_stereo.wav wet_mono.wav -o aligned.wav --channels 1
  jaxapf align dry_48k.wav wet_44k.wav -o aligned.wav --resample

The output keeps the dry file's sample encoding where its format has it. Without
--subtype, a result that passes full scale is written as FLOAT where the format
has it (WAV, AIFF)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(arguments.PairOptions, arguments.AudioOptions):
    """Options of `jaxapf align`."""

    output: str = argument("-o --output ALIGNED", "where to write the aligned file", required=True)
    model: str | None = argument("--model MODEL.json", "write the fitted filter, for 'apply' and 'export'")
    report: str | None = argument("--report REPORT.html", "write a page that shows and plays the difference")
    order: int | str = argument(
        "--order N",
        f"total order of the cascade, 1 to {MAX_ORDER}, or 'auto' (default)",
        "auto",
        type=arguments.whole(1, MAX_ORDER, "auto"),
    )
    method: str = argument("--method M", f"{', '.join(METHODS)} (default auto)", "auto", choices=METHODS)


def add_parser(commands: Any) -> None:
    arguments.add_command(commands, "align", run, Options, TEXTS)


def run(options: Options) -> None:
    """Align, write the files that the options name, and print the figures."""
    with begin(options) as job:
        audio.output_subtype(options.output, options.subtype)
        dry_subtype = check_pair(options)[0].subtype
        check_outputs([options.dry, options.wet], [options.output, options.model, options.report])
        with open_pair(options, job) as (dry, wet):
            stretches = _stretches(dry, wet, job)
            alignment = _fit(options, dry, wet, stretches, job)
            pair = (_delay_only(alignment), wet) if len(stretches) > 1 else None
            whole = write_filtered(options, alignment, dry, dry_subtype, job, pair)
            alignment = dataclasses.replace(
                alignment, metrics={**alignment.metrics, **whole}, command=options.command_line
            )
            if doubtful := doubt(alignment.metrics["correlation_aligned"]):
                job.warn(doubtful)
            if options.model is not None:
                alignment.save(options.model)
            if options.report is not None:
                job.show("Writing the report")
                _write_report(options.report, alignment, dry, wet, stretches, job.notes)
    job.finish(
        "align",
        _lines,
        dry=options.dry,
        wet=options.wet,
        output=audio.info(options.output)._asdict(),
        model=options.model,
        report=options.report,
        fs=alignment.fs,
        delay_samples=alignment.delay_samples,
        delay_ms=1000 * alignment.delay_samples / alignment.fs,
        **figures_of(alignment),
    )


def figures_of(alignment: Any) -> dict[str, Any]:
    """Return what the results of `align` and `info` have in common."""
    return {
        "polarity": alignment.polarity,
        "n_sections": len(alignment.controls),
        "controls": alignment.controls,
        "method": alignment.method,
        "stop_reason": alignment.stop_reason,
        "metrics": alignment.metrics,
    }


def _stretches(dry: Source, wet: Source, job: Job) -> list[tuple[int, int]]:
    """Return where to fit: the whole of a short pair, the most informative stretches of a long one."""
    n_samples, fs = dry.n_samples, dry.fs
    if n_samples <= WHOLE_MAX_S * fs and n_samples * dry.n_channels <= WHOLE_MAX_SAMPLES:
        return [(0, n_samples)]
    job.show("Choosing the most informative stretches")
    length = min(STRETCH_S * fs, WHOLE_MAX_SAMPLES // (FIT_STRETCHES * dry.n_channels))
    stretches = audio.informative_segments(
        dry.file, wet.file, n_samples, fs, dry.channels, length=length, count=FIT_STRETCHES
    )
    places = ", ".join(time_range(*stretch, fs) for stretch in stretches)
    job.notes.append(
        f"the filter and the phase-only bound are those of the most informative stretches, {places}"
    )
    return stretches


def _fit(options: Options, dry: Source, wet: Source, stretches: Stretches, job: Job) -> Any:
    job.show("Reading")
    signals = []
    for source in (dry, wet):
        samples = np.stack([source.read(start, stop) for start, stop in stretches])
        if np.max(np.abs(samples)) < SILENCE:
            raise silent(source.path, "align")
        signals.append(samples if len(stretches) > 1 else samples[0])
    job.show("Starting JAX")
    start_jax()
    from jaxapf.alignment import estimate

    job.show("Fitting")
    settings = {name: getattr(options, name) for name in ("order", "method", "max_delay_ms")}
    with arguments.usage_errors():
        return estimate.align(*signals, fs=dry.fs, **settings, progress=job.show)


def _delay_only(alignment: Any) -> Any:
    """Return the best that delay and polarity do alone, as a model."""
    return dataclasses.replace(
        alignment,
        sections=type(alignment.sections)(*(np.zeros(0) for _ in alignment.sections)),
        delay_samples=alignment.metrics["delay_only_samples"],
        polarity=alignment.metrics["delay_only_polarity"],
    )


def _write_report(
    path: str, alignment: Any, dry: Source, wet: Source, stretches: Stretches, notes: Sequence[str]
) -> None:
    from jaxapf import report

    start, stop = stretches[0]
    # What comes before the excerpt sets the filters' state at its first sample.
    before = min(start, dry.fs)
    aligned = np.asarray(alignment.apply(dry.read(start - before, stop)))[..., before:]
    if len(stretches) > 1:
        place = time_range(start, stop, dry.fs)
        notes = [*notes, f"this page shows and plays an excerpt, {place}; the figures are those of the whole"]
    dry_name, wet_name = (printable(os.path.basename(source.path)) for source in (dry, wet))
    report.write(
        path,
        dry.read(start, stop),
        wet.read(start, stop),
        aligned,
        alignment,
        title=f"{dry_name} onto {wet_name}",
        dry_name=dry_name,
        wet_name=wet_name,
        notes=[printable(note) for note in notes],
        command=alignment.command,
    )


def _lines(result: dict[str, Any]) -> Iterator[str]:
    metrics = result["metrics"]
    yield f"{'':20}{'error-to-signal ratio':>24}{'correlation':>14}"
    rows = {"before": "raw", "delay only": "delay", "aligned": "aligned", "phase-only bound": "bound"}
    for label, name in rows.items():
        ratio, correlation = metrics.get(f"esr_{name}"), metrics.get(f"correlation_{name}")
        ratio = "" if ratio is None else f"{ratio:13.5f} {decibels(ratio):>10}"
        yield f"{label:20}{ratio:24}" + ("" if correlation is None else f"{correlation:14.4f}")
    yield ""
    delay = result["delay_samples"]
    later = "wet is later than dry" if delay > 0 else "none"
    if delay < 0:
        later = "wet is earlier, or the filter later: dry was advanced"
    yield f"delay     {delay:.3f} samples ({result['delay_ms']:.3f} ms), {later}"
    yield f"polarity  {'kept' if result['polarity'] > 0 else 'inverted'}"
    sections = count(result["n_sections"], "all-pass section")
    yield f"filter    {sections}, method {result['method']}; {result['stop_reason']}"
    yield from closing(result, audio_line(result["output"]), result["model"], result["report"])
