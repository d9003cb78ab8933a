"""The figures: what `align` reaches, in how much time and memory; each with its goals."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.signal

import jaxapf
from experiments.alignment import config
from experiments.alignment.data import Pair, halves, paths, read, repeat, resampled
from experiments.common.measuring import timed
from experiments.common.released import surveyor
from experiments.common.runner import Row, show_progress
from experiments.common.tables import goal, table, verdict
from jaxapf import allpass, audio, metrics


def fit(pair: Pair, order: int | str) -> tuple[jaxapf.Alignment, float]:
    """Align a pair; return the alignment and the seconds it took, compiling included."""
    found = []
    seconds = timed(lambda: found.append(jaxapf.align(pair.dry, pair.wet, pair.fs, order=order)))
    return found[0], seconds


def tested(found: jaxapf.Alignment, pair: Pair) -> float:
    """Error-to-signal ratio of an alignment on a pair."""
    return metrics.esr(found.apply(pair.dry), pair.wet)


def delay_only(found: jaxapf.Alignment) -> jaxapf.Alignment:
    """The best delay and polarity alone, as an alignment."""
    return dataclasses.replace(
        found,
        sections=allpass.first_order(np.zeros(0)),
        controls=[],
        delay_samples=found.metrics["delay_only_samples"],
        polarity=found.metrics["delay_only_polarity"],
    )


def correlation_bound(pair: Pair) -> float:
    """Largest correlation that a change of phase alone can reach: sum |Sxy| / sqrt(Exx Eyy)."""
    n_fft = 2 * pair.dry.shape[-1]  # zero-padded: the whole correlation, and no circular one
    x, y = (np.abs(np.fft.fft(signal.astype(np.float64), n_fft)) for signal in (pair.dry, pair.wet))
    return float(np.sum(x * y) / np.sqrt(np.sum(x * x) * np.sum(y * y)))


# The figures: each returns {"rows": the table, "goals": ...}


def boxes(data: Path) -> Row:
    """Fit on a box's sweep, test on its unseen music at the same rate."""
    rows, goals = [], []
    for box in config.BOXES:
        sweep = read(data, "sweep", box)
        music = read(data, "loops_192k", box)
        row = {
            "device": box,
            "raw": metrics.esr(music.dry, music.wet),
            "bound": metrics.phase_only_bound(music.dry, music.wet, music.fs),
        }
        cost: Row = {}
        for label, order in config.ORDERS.items():
            show_progress(f"boxes: {box}, {label}")
            found, seconds = fit(sweep, order)
            row[label] = tested(found, music)
            cost |= {f"{label}: seconds": seconds}
            if order == "auto":
                cost["order found"] = found.metrics["order"]
            reach = config.REFERENCE.get(box, {}).get(label.replace("order", "reach"))
            if reach is not None:
                goals.append(
                    goal(f"{box}, {label}: {reach:.4f} or less", row[label], round(row[label], 4) <= reach)
                )
        reference = {f"reference: {name}": value for name, value in config.REFERENCE.get(box, {}).items()}
        rows.append(row | reference | cost)
    return {"rows": rows, "goals": goals}


def music_alone(data: Path) -> Row:
    """Fit on the first half of the music, test on the second, against a fit on the sweep at that rate."""
    rows, goals = [], []
    for box in config.BOXES:
        first, second = halves(read(data, "loops", box))
        sweep = resampled(read(data, "sweep", box), first.fs)
        row = {
            "device": box,
            "raw": metrics.esr(second.dry, second.wet),
            "bound": metrics.phase_only_bound(second.dry, second.wet, second.fs),
        }
        for label, order in config.ORDERS.items():
            show_progress(f"music: {box}, {label}")
            by_sweep, by_music = (tested(fit(pair, order)[0], second) for pair in (sweep, first))
            row |= {f"{label}: sweep fit": by_sweep, f"{label}: music fit": by_music}
            row[f"{label}: ratio"] = ratio = by_music / by_sweep
            text = f"{box}, {label}: {config.MUSIC_RATIO:g} times the sweep fit or less"
            goals.append(goal(text, ratio, ratio <= config.MUSIC_RATIO))
        rows.append(row)
    return {"rows": rows, "goals": goals}


def known_answer(data: Path) -> Row:
    """Give back a cascade that we know, from a sweep sent through it in float64."""
    show_progress("known: filtering and fitting")
    dry = audio.log_sweep(config.SURVEYOR_S, config.SURVEYOR_FS)
    wet = np.asarray(scipy.signal.sosfilt(surveyor(config.SURVEYOR_FS).sos, dry))
    pair = Pair(dry, wet, config.SURVEYOR_FS)
    found, seconds = fit(pair, config.SURVEYOR_ORDER)
    after = tested(found, pair)
    signal = (
        f"{config.SURVEYOR_S:g} s sweep, {config.SURVEYOR_FS / 1000:g} kHz, order {config.SURVEYOR_ORDER}"
    )
    row = {"signal": signal, "before": metrics.esr(dry, wet), "after": after, "seconds": seconds}
    return {"rows": [row], "goals": [goal(f"{config.KNOWN_ESR:g} or less", after, after <= config.KNOWN_ESR)]}


def drums(data: Path) -> Row:
    """Lay the first microphone of each pair on the second."""
    pairs = []
    for number in range(config.DRUM_PAIRS):
        show_progress(f"drums: pair {number + 1} of {config.DRUM_PAIRS}")
        pairs.append(drum_pair(read(data, "drums", f"{number:02d}")))
    labels = list(config.ORDERS)
    row: Row = {"pairs": len(pairs)}
    row |= {key: float(np.median([pair[key] for pair in pairs])) for key in pairs[0]}
    worse = {label: sum(pair[label] < pair["best delay and polarity"] for pair in pairs) for label in labels}
    row |= {f"{label}: pairs made worse": worse[label] for label in labels}
    goals = [
        goal(f"no pair worse than delay and polarity, {label}", worse[label], worse[label] == 0)
        for label in labels
    ]
    best = max(row[label] for label in labels)
    text = f"median correlation {config.DRUM_CORRELATION:g} or more"
    goals.append(goal(text, best, best >= config.DRUM_CORRELATION))
    return {"rows": [row], "goals": goals, "pairs": pairs}


def drum_pair(pair: Pair) -> Row:
    """Correlations of one pair of microphones."""
    fits = {label: fit(pair, order) for label, order in config.ORDERS.items()}
    delayed = delay_only(next(iter(fits.values()))[0])
    models = {"best delay and polarity": delayed} | {label: found for label, (found, _) in fits.items()}
    row: Row = {"raw": metrics.correlation(pair.dry, pair.wet)}
    row |= {label: metrics.correlation(model.apply(pair.dry), pair.wet) for label, model in models.items()}
    row["bound"] = correlation_bound(pair)
    return row | {f"{label}: seconds": seconds for label, (_, seconds) in fits.items()}


# Figures of the command, each run in a process of its own

# Runs from a small process: a child of this one would inherit its peak memory.
TIMER = """
import json, resource, subprocess, sys, time
started = time.perf_counter()
status = subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL).returncode
seconds = time.perf_counter() - started
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps({"status": status, "seconds": seconds, "peak": peak}))
"""


def measured(command: Sequence[str], cache: str) -> tuple[float, float]:
    """Seconds from Enter to prompt and peak resident memory in MiB of a command.

    `cache` is the folder of JAX's compilation cache.
    """
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": cache}
    done = subprocess.run(
        [sys.executable, "-I", "-c", TIMER, *command],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    outcome = json.loads(done.stdout) if done.returncode == 0 else {"status": done.returncode}
    if outcome["status"] != 0:
        raise RuntimeError(f"{' '.join(command)} exited with {outcome['status']}: {done.stderr.strip()}")
    unit = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss: bytes there, KiB elsewhere
    return outcome["seconds"], outcome["peak"] / unit


def align_command(files: tuple[Path, Path], folder: str, *options: str) -> list[str]:
    """Return `jaxapf align` of a pair into a folder, where it leaves model.json."""
    outputs = ["-o", f"{folder}/aligned.wav", "--model", f"{folder}/model.json"]
    return [sys.executable, "-m", "jaxapf", "align", *map(str, files), *outputs, *options]


def memory_goal(text: str, peak: float) -> Row:
    """Require a bound on the memory."""
    return goal(f"{text}below {config.MEMORY_MIB} MiB", peak, peak < config.MEMORY_MIB)


def speed(data: Path) -> Row:
    """Time the command with an empty and a warm compilation cache, and SciPy's filter beside it."""
    files = paths(data, "sweep", config.SPEED_BOX)
    with tempfile.TemporaryDirectory() as folder:
        command = align_command(files, folder, "--order", str(config.SPEED_ORDER))
        show_progress("speed: empty cache")
        cold, peak = measured(command, f"{folder}/cache")
        runs = []
        for number in range(config.WARM_RUNS):
            show_progress(f"speed: warm cache, run {number + 1} of {config.WARM_RUNS}")
            runs.append(measured(command, f"{folder}/cache"))
        found = jaxapf.Alignment.load(f"{folder}/model.json")
    warm = min(seconds for seconds, _ in runs)
    peer = scipy_seconds(found, files[0])
    row = {
        "pair": described(files[0]),
        "order": config.SPEED_ORDER,
        "empty cache: seconds": cold,
        "warm cache: seconds": warm,
        "scipy.signal.sosfilt: seconds": peer,
        "empty / sosfilt": cold / peer,
        "warm / sosfilt": warm / peer,
        "peak MiB": max([peak, *(peak for _, peak in runs)]),
    }
    goals = [
        goal(f"empty cache: {config.COLD_S:g} s or less", cold, cold <= config.COLD_S),
        goal(f"warm cache: {config.WARM_S:g} s or less", warm, warm <= config.WARM_S),
        memory_goal("peak memory ", row["peak MiB"]),
    ]
    return {"rows": [row], "goals": goals}


def scipy_seconds(found: jaxapf.Alignment, dry_path: Path) -> float:
    """Return the best of three times in which SciPy sends the file, in memory, through the sections found."""
    dry = audio.read(dry_path)[0].astype(np.float64)
    return min(timed(lambda: scipy.signal.sosfilt(found.sos, dry)) for _ in range(3))


def described(path: Path) -> str:
    """Return length and rate of a recording in words."""
    found = audio.info(path)
    return f"{found.n_samples / found.fs:.1f} s, {found.fs / 1000:g} kHz"


def memory(data: Path) -> Row:
    """Measure the peak memory of the command with everything on, of the sweep and of the longer music."""
    rows, goals = [], []
    for name, kind in (("sweep", "sweep"), ("music", "loops_192k")):
        show_progress(f"memory: {name}")
        files = paths(data, kind, config.SPEED_BOX)
        with tempfile.TemporaryDirectory() as folder:
            command = align_command(files, folder, "--report", f"{folder}/report.html")
            seconds, peak = measured(command, f"{folder}/cache")
            order = jaxapf.Alignment.load(f"{folder}/model.json").metrics["order"]
        row = {"pair": f"{name}, {described(files[0])}, with --report", "order found": order}
        rows.append(row | {"seconds": seconds, "peak MiB": peak})
        goals.append(memory_goal(f"{name}: ", peak))
    return {"rows": rows, "goals": goals}


def hour(data: Path) -> Row:
    """Align a pair of an hour, made by repeating the music."""
    with tempfile.TemporaryDirectory() as folder:
        long_files = Path(folder) / "dry.wav", Path(folder) / "wet.wav"
        for source, path in zip(paths(data, "loops", config.HOUR_BOX), long_files, strict=True):
            show_progress(f"hour: writing {path.name}")
            repeat(source, path, config.HOUR_S)
        show_progress("hour: aligning")
        seconds, peak = measured(align_command(long_files, folder), f"{folder}/cache")
        found = jaxapf.Alignment.load(f"{folder}/model.json").metrics
        pair = described(long_files[0])
    row = {"pair": pair, "raw": found["esr_raw"], "best delay and polarity": found["esr_delay"]}
    row |= {"order auto": found["esr_aligned"], "order found": found["order"]}
    row |= {"seconds": seconds, "peak MiB": peak}
    return {"rows": [row], "goals": [memory_goal("", peak)]}


# Which figures there are, and the files that each needs


class Figure(NamedTuple):
    """How to measure a figure, and the files that it reads."""

    measure: Callable[[Path], Row]
    files: Callable[[Path], list[Path]]


def _files(kinds: Sequence[str], names: Callable[[], Sequence[str]]) -> Callable[[Path], list[Path]]:
    return lambda data: [file for name in names() for kind in kinds for file in paths(data, kind, name)]


FIGURES = {
    "boxes": Figure(boxes, _files(["sweep", "loops_192k"], lambda: config.BOXES)),
    "music": Figure(music_alone, _files(["sweep", "loops"], lambda: config.BOXES)),
    "known": Figure(known_answer, lambda data: []),
    "drums": Figure(drums, _files(["drums"], lambda: [f"{n:02d}" for n in range(config.DRUM_PAIRS)])),
    "speed": Figure(speed, _files(["sweep"], lambda: [config.SPEED_BOX])),
    "memory": Figure(memory, _files(["sweep", "loops_192k"], lambda: [config.SPEED_BOX])),
    "hour": Figure(hour, _files(["loops"], lambda: [config.HOUR_BOX])),
}


# Tables


def cell(column: str, value: Any) -> str:
    """Return a value as the table shows it."""
    if value is None:
        return "–"
    if not isinstance(value, float):
        return str(value)
    if column.endswith("seconds"):
        return f"{value:.3g}" if value < 10 else f"{value:.1f}"
    if column.endswith(("MiB", "sosfilt")):
        return f"{value:.0f}"
    if column.endswith("ratio"):
        return f"{value:.2f}"
    return f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:.4f}"


def markdown(results: Row, name: str) -> str:
    """Return the table of one figure, its goals, and what it was made with."""
    found = results[name]
    return f"{table(found['rows'], cell)}\n\n{verdict(found['goals'], cell)} {results['made_with']}\n"
