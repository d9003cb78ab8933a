"""What the commands of `jaxapf` do, from parsed arguments to files and printed figures.

Files are checked before JAX is imported, so that mistakes are answered at once.
"""

import argparse
import contextlib
import dataclasses
import importlib
import json
import math
import os
import platform
import shutil
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxapf import audio, stored
from jaxapf import export as formats
from jaxapf._console import (
    Progress,
    clock,
    count,
    decibels,
    described,
    described_audio,
    described_versions,
    print_result,
    printable,
    warn,
)
from jaxapf.version import __version__

# Longer pairs are fitted on their most informative stretches and never held in memory as a whole.
WHOLE_MAX_S = 90
WHOLE_MAX_SAMPLES = 2**24
FIT_STRETCHES = 4
STRETCH_S = 30
MIN_SAMPLES = 64
STRANGERS = 0.2  # a correlation below this says that two recordings have little in common
# Below -140 dBFS there is nothing but the dither of a 24-bit file.
SILENCE = 1e-7
MAX_LENGTH_DIFFERENCE = 0.01
# A dry file's subtype is kept where nothing is lost; its lossy coding would only add noise.
KEPT_SUBTYPES = ("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")


class UsageError(ValueError):
    """Wrong use, in one sentence for the user."""


class Source(NamedTuple):
    """An open input at the common rate: `read(start, stop)` gives float32 (n_channels, stop - start)."""

    path: str
    file: str  # what is read: `path`, or its resampled copy
    channels: Sequence[int] | None  # of `file`
    fs: int
    n_samples: int
    n_channels: int
    read: Callable[[int, int], np.ndarray]


# jaxapf align


def align(arguments: argparse.Namespace) -> None:
    started = time.perf_counter()
    outputs = [path for path in (arguments.output, arguments.model, arguments.report) if path is not None]
    audio.output_subtype(arguments.output, arguments.subtype)
    infos = _check_pair(arguments)
    _check_outputs([arguments.dry, arguments.wet], outputs)
    show = Progress(arguments)
    notes: list[str] = []
    with _open_pair(arguments, infos, notes, show) as (dry, wet):
        stretches = _stretches(dry, wet, notes, show)
        alignment = _fit(arguments, dry, wet, stretches, show)
        figures = _Figures(_delay_only(alignment), dry, wet) if len(stretches) > 1 else None
        _write_filtered(arguments, alignment, dry, infos[0].subtype, notes, show, figures)
        whole = {} if figures is None else figures.result()
        alignment = dataclasses.replace(
            alignment, metrics={**alignment.metrics, **whole}, command=arguments.command_line
        )
        if alignment.metrics["correlation_aligned"] < STRANGERS:
            warn(
                f"after aligning the files still hardly agree (correlation "
                f"{alignment.metrics['correlation_aligned']:.3f}); are they the same performance?",
                notes,
            )
        if arguments.model is not None:
            alignment.save(arguments.model)
        if arguments.report is not None:
            show("Writing the report")
            _write_report(arguments, alignment, dry, wet, stretches, notes)
    show.done()
    seconds = time.perf_counter() - started
    print_result(arguments, _align_result(arguments, alignment, notes, seconds), _align_text)


def _check_pair(arguments: argparse.Namespace) -> tuple[audio.AudioInfo, audio.AudioInfo]:
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
            raise UsageError(f"'{one.path}' holds {count(one.n_samples, 'sample')}, too few to align")
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


def _check_outputs(inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Refuse, before the long work, outputs that would fail or destroy something."""
    for at, output in enumerate(outputs):
        for other in inputs:
            if _same_file(output, other):
                raise UsageError(f"'{output}' is an input file; give another name for the output")
        for other in outputs[:at]:
            if _same_file(output, other):
                raise UsageError(f"'{output}' is named for two outputs; give each its own name")
        audio.check_writable(output)


def _same_file(one: str, other: str) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samefile(one, other)
    return os.path.realpath(one) == os.path.realpath(other)


@contextlib.contextmanager
def _open_pair(
    arguments: argparse.Namespace,
    infos: tuple[audio.AudioInfo, audio.AudioInfo],
    notes: list[str],
    show: Progress,
) -> Iterator[tuple[Source, Source]]:
    """Open both inputs at one rate and one length."""
    fs = (arguments.resample or infos[1].fs) if arguments.resample is not None else infos[0].fs
    with (
        _open_source(arguments.dry, fs, arguments.channels, notes, show) as dry,
        _open_source(arguments.wet, fs, arguments.channels, notes, show) as wet,
    ):
        n_samples = min(dry.n_samples, wet.n_samples)
        for source in (dry, wet):
            if source.n_samples > n_samples:
                cut = source.n_samples - n_samples
                notes.append(f"'{source.path}' is longer: its last {count(cut, 'sample')} were left out")
        if n_samples < MIN_SAMPLES:
            raise UsageError(f"'{dry.path}' holds {count(n_samples, 'sample')} at {fs} Hz, too few to align")
        yield dry._replace(n_samples=n_samples), wet._replace(n_samples=n_samples)


@contextlib.contextmanager
def _open_source(
    path: str, fs: int, channels: Sequence[int] | None, notes: list[str], show: Progress
) -> Iterator[Source]:
    """Open an input, resampled into a temporary file if its rate is another."""
    with contextlib.ExitStack() as stack:
        file, picked = path, channels
        found = audio.info(path)
        if found.fs != fs:
            show(f"Resampling {os.path.basename(path)}")
            file = os.path.join(
                stack.enter_context(tempfile.TemporaryDirectory(prefix="jaxapf-")), "resampled.wav"
            )
            audio.resample_file(path, file, fs, channels=channels)
            picked = None
            notes.append(f"'{path}' was resampled from {found.fs} to {fs} Hz")
        reader = stack.enter_context(audio.open_reader(file, channels=picked))
        yield Source(path, file, picked, fs, reader.info.n_samples, reader.n_channels, reader.read)


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
    module = _start_jax()
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


class _Figures:
    """Error-to-signal ratio and correlation of a whole pair, from blocks."""

    def __init__(self, delay_only: Any, dry: Source, wet: Source) -> None:
        self._delay_only, self._dry, self._wet = delay_only, dry, wet
        self.restart()

    def restart(self) -> None:
        self._delayed = _stream(self._delay_only, self._dry)
        self._sums = {name: np.zeros(4) for name in ("raw", "delay", "aligned")}

    def add(self, start: int, aligned: np.ndarray) -> None:
        stop = start + aligned.shape[-1]
        wet = self._wet.read(start, stop).astype(np.float64)
        predictions = {"raw": self._dry.read(start, stop), "delay": next(self._delayed), "aligned": aligned}
        for name, block in predictions.items():
            x = np.asarray(block, np.float64)
            self._sums[name] += [np.sum((x - wet) ** 2), np.sum(x * wet), np.sum(x**2), np.sum(wet**2)]

    def result(self) -> dict[str, float]:
        figures = {}
        for name, (error, product, energy, wet_energy) in self._sums.items():
            figures[f"esr_{name}"] = error / max(wet_energy, np.finfo(float).tiny)
            figures[f"correlation_{name}"] = product / max(
                math.sqrt(energy * wet_energy), np.finfo(float).tiny
            )
        return {name: float(value) for name, value in figures.items()}


class _FullScale(Exception):
    """The result passes full scale and may be written as FLOAT instead."""


def _write_filtered(
    arguments: argparse.Namespace,
    alignment: Any,
    source: Source,
    source_subtype: str,
    notes: list[str],
    show: Progress,
    figures: _Figures | None = None,
) -> None:
    """Filter `source` into the output file, block by block."""
    output = arguments.output
    prefer = source_subtype if source_subtype in KEPT_SUBTYPES else None
    subtype = audio.output_subtype(output, arguments.subtype, prefer=prefer)
    may_change = arguments.subtype is None and audio.has_subtype(output, "FLOAT")
    try:
        peak = _write_blocks(output, alignment, source, subtype, may_change, show, figures)
    except _FullScale:
        notes.append("the result passes full scale, so it was written as FLOAT, which holds it")
        subtype = "FLOAT"
        peak = _write_blocks(output, alignment, source, subtype, False, show, figures)
    if peak > 1 and subtype not in audio.FLOAT_SUBTYPES:
        remedy = "use --subtype FLOAT" if audio.has_subtype(output, "FLOAT") else "write a .wav file"
        warn(
            f"the result peaks at {peak:.3f} ({20 * math.log10(peak):+.1f} dBFS) "
            f"and {subtype} clips it; {remedy}",
            notes,
        )


def _write_blocks(
    output: str,
    alignment: Any,
    source: Source,
    subtype: str,
    may_change: bool,
    show: Progress,
    figures: _Figures | None,
) -> float:
    if figures is not None:
        figures.restart()
    n_samples = source.n_samples
    with audio.open_writer(
        output, source.fs, source.n_channels, subtype=subtype, n_samples=n_samples
    ) as writer:
        for block in _stream(alignment, source):
            start = writer.n_samples
            writer.write(np.asarray(block))
            if writer.peak > 1 and may_change and subtype not in audio.FLOAT_SUBTYPES:
                raise _FullScale
            if figures is not None:
                figures.add(start, np.asarray(block))
            show("Filtering", writer.n_samples / n_samples)
        return writer.peak


def _stream(alignment: Any, source: Source) -> Iterator[Any]:
    return importlib.import_module("jaxapf.estimate").stream(alignment, source.read, source.n_samples)


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
        "polarity": alignment.polarity,
        "n_sections": len(alignment.controls),
        "controls": alignment.controls,
        "method": alignment.method,
        "stop_reason": alignment.stop_reason,
        "metrics": alignment.metrics,
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


# The other commands


def apply(arguments: argparse.Namespace) -> None:
    started = time.perf_counter()
    audio.output_subtype(arguments.output, arguments.subtype)
    found = audio.info(arguments.input)
    _check_model(arguments.model)
    _check_outputs([arguments.input, arguments.model], [arguments.output])
    show = Progress(arguments)
    show("Starting JAX")
    alignment = _load_model(arguments.model)
    fs = round(alignment.fs)
    if found.fs != fs and not arguments.resample:
        raise UsageError(
            f"'{arguments.model}' is for {fs} Hz and '{found.path}' is at {found.fs} Hz; "
            "add --resample to bring the file to the model's rate"
        )
    notes: list[str] = []
    with _open_source(arguments.input, fs, arguments.channels, notes, show) as source:
        _write_filtered(arguments, alignment, source, found.subtype, notes, show)
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
    _check_model(arguments.model)
    _check_outputs([arguments.model], [arguments.output])
    alignment = _load_model(arguments.model)
    text = formats.to_json(alignment) if arguments.format == "json" else formats.to_sos(alignment)
    audio.write_text(arguments.output, text)


def demo(arguments: argparse.Namespace) -> None:
    folder = Path(arguments.output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"'{folder}' cannot be created: {(error.strerror or '').lower()}; give another -o"
        ) from error
    inputs = []
    for path in audio.example_pair():
        inputs.append(str(folder / f"example_{path.name}"))
        with audio.atomic_path(inputs[-1]) as temporary:
            shutil.copyfile(path, temporary)
    options = [name for name in ("json", "quiet") if getattr(arguments, name)]
    words = ["align", *inputs, "-o", str(folder / "example_aligned.flac")]
    words += ["--model", str(folder / "example_model.json"), "--report", str(folder / "report.html")]
    words += [f"--{name}" for name in options]
    from jaxapf import cli

    align(cli.parse(words))
    if not options:
        print(f"\nLook at it and listen: open {folder / 'report.html'}")


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

    cache = _use_compilation_cache()
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
        place = stored.folder()
    except ValueError:  # the package was copied without them
        return []
    return [{**entry, "path": str(place / entry["path"])} for entry in stored.manifest()]


def _checkpoint_figures(path: str) -> dict[str, Any]:
    inside = os.path.join(path, "checkpoints")  # where a training's folder has them
    path = inside if os.path.isdir(inside) else path
    if not any(name.isdecimal() for name in os.listdir(path)):
        raise UsageError(
            f"'{path}' is a folder and holds no checkpoints; give an audio file, a model or a folder that a "
            "training wrote"
        )
    module = importlib.import_module("jaxapf.checkpoint")
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
    _check_model(path)
    alignment = _load_model(path)
    return {
        "kind": "model",
        "path": path,
        "fs": round(alignment.fs),
        "delay_samples": alignment.delay_samples,
        "polarity": alignment.polarity,
        "n_sections": len(alignment.controls),
        "controls": alignment.controls,
        "method": alignment.method,
        "stop_reason": alignment.stop_reason,
        "metrics": alignment.metrics,
    }


def _check_model(path: str) -> None:
    """Refuse what is plainly no model before JAX starts."""
    if not os.path.exists(path):
        raise UsageError(f"'{path}' does not exist; check the name and the folder")
    if not os.path.isfile(path):
        raise UsageError(f"'{path}' is not a regular file; give a model that 'jaxapf align --model' wrote")
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"'{path}' cannot be opened: {(error.strerror or '').lower()}") from error
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UsageError(f"'{path}' is not a model; give a file that 'jaxapf align --model' wrote")


def _load_model(path: str) -> Any:
    module = _start_jax()
    try:
        return module.Alignment.load(path)
    except module.ModelError as error:
        raise UsageError(str(error)) from error


# Starting JAX


def _start_jax() -> Any:
    """Import JAX and return the module `jaxapf.estimate`."""
    # XLA reports harmless details of the machine on stderr when it reads its cache.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    _use_compilation_cache()
    return importlib.import_module("jaxapf.estimate")


def _use_compilation_cache() -> str | None:
    """Let JAX keep compiled code between runs: the next start takes a fraction of the time."""
    import jax

    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR") or _cache_folder(jax.__version__)
    with contextlib.suppress(OSError):
        os.makedirs(folder, exist_ok=True)
        if os.access(folder, os.W_OK):
            jax.config.update("jax_compilation_cache_dir", folder)
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
            jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
            return folder
    return None


def _cache_folder(jax_version: str) -> str:
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    # Compiled code is for one kind of processor; a home folder may be shared by several machines.
    return os.path.join(
        os.path.expanduser(base), "jaxapf", f"jax-{jax_version}-{platform.machine()}-{_cpu_tag()}"
    )


def _cpu_tag() -> str:
    text = platform.processor()
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        text = next((line for line in file if line.startswith(("flags", "Features"))), text)
    return f"{zlib.crc32(text.encode()):08x}"
