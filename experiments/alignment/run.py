"""Measure the figures of the README: `python experiments/alignment/run.py --data DIR`.

Writes results/figures.json and results/figures.md beside this file; `--update README.md` puts the tables
between that file's markers. README.md says what DIR must hold, config.py what to expect.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.signal

import jaxapf
from experiments.alignment import config
from experiments.common.released import surveyor
from experiments.common.runner import Row, exit_code, made_with, put_tables, show_progress, table, verdict
from jaxapf import allpass, audio, metrics

RESULTS = Path(__file__).with_name("results")
MARKERS = "figures"
Show = Callable[[str], None]


class Pair(NamedTuple):
    """A dry and a wet recording (1, n_samples), and their rate in Hz."""

    dry: np.ndarray
    wet: np.ndarray
    fs: int


# Fitting and judging


def read_pair(dry_path: Path, wet_path: Path) -> Pair:
    """Read two files of one rate and length."""
    (dry, fs), (wet, wet_fs) = audio.read(dry_path), audio.read(wet_path)
    if fs != wet_fs or dry.shape != wet.shape:
        raise audio.AudioError(f"'{dry_path}' and '{wet_path}' differ in rate or length; restore them")
    return Pair(dry, wet, fs)


def sweep_paths(data: Path, box: str) -> tuple[Path, Path]:
    """Files of a box's sweep."""
    return data / "blackbox/sweep_dry.flac", data / f"blackbox/{box}/sweep_wet.flac"


def loops_paths(data: Path, box: str) -> tuple[Path, Path]:
    """Files of a box's music at 48 kHz."""
    return data / "blackbox/loops_dry.flac", data / f"blackbox/{box}/loops_wet.flac"


def loops_192k_paths(data: Path, box: str) -> tuple[Path, Path]:
    """Files of a box's music at 192 kHz."""
    return data / "blackbox/loops_dry_192k.flac", data / f"blackbox/{box}/loops_wet_192k.flac"


def drum_paths(data: Path, number: int) -> tuple[Path, Path]:
    """Files of a pair of drum microphones."""
    return data / f"drum_mics/{number:02d}_mic1.flac", data / f"drum_mics/{number:02d}_mic2.flac"


def fit(pair: Pair, order: int | str) -> tuple[jaxapf.Alignment, float]:
    """Align a pair; the alignment and the seconds it took, compiling included."""
    started = time.perf_counter()
    found = jaxapf.align(pair.dry, pair.wet, pair.fs, order=order)
    return found, time.perf_counter() - started


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


def goal(text: str, value: float, met: bool) -> Row:
    """A goal, the figure found, and whether it was met."""
    return {"goal": text, "value": value, "met": bool(met)}


# The figures: each returns {"rows": the table, "goals": ...}


def boxes(data: Path, show: Show) -> Row:
    """Fit on a box's sweep, test on its unseen music at the same rate."""
    rows, goals = [], []
    for box in config.BOXES:
        sweep = read_pair(*sweep_paths(data, box))
        music = read_pair(*loops_192k_paths(data, box))
        row = {
            "device": box,
            "raw": metrics.esr(music.dry, music.wet),
            "bound": metrics.phase_only_bound(music.dry, music.wet, music.fs),
        }
        cost: Row = {}
        for label, order in config.ORDERS.items():
            show(f"boxes: {box}, {label}")
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


def music_alone(data: Path, show: Show) -> Row:
    """Fit on the first half of the music, test on the second, against a fit on the sweep at that rate."""
    rows, goals = [], []
    for box in config.BOXES:
        first, second = halves(read_pair(*loops_paths(data, box)))
        sweep = resampled(read_pair(*sweep_paths(data, box)), first.fs)
        row = {
            "device": box,
            "raw": metrics.esr(second.dry, second.wet),
            "bound": metrics.phase_only_bound(second.dry, second.wet, second.fs),
        }
        for label, order in config.ORDERS.items():
            show(f"music: {box}, {label}")
            by_sweep, by_music = (tested(fit(pair, order)[0], second) for pair in (sweep, first))
            row |= {f"{label}: sweep fit": by_sweep, f"{label}: music fit": by_music}
            row[f"{label}: ratio"] = ratio = by_music / by_sweep
            text = f"{box}, {label}: {config.MUSIC_RATIO:g} times the sweep fit or less"
            goals.append(goal(text, ratio, ratio <= config.MUSIC_RATIO))
        rows.append(row)
    return {"rows": rows, "goals": goals}


def halves(pair: Pair) -> tuple[Pair, Pair]:
    """The first and the second half of a pair, each a recording of its own."""
    middle = pair.dry.shape[-1] // 2
    first = Pair(pair.dry[:, :middle], pair.wet[:, :middle], pair.fs)
    return first, Pair(pair.dry[:, middle:], pair.wet[:, middle:], pair.fs)


def resampled(pair: Pair, fs: int) -> Pair:
    """A pair at another rate."""
    return Pair(audio.resample(pair.dry, pair.fs, fs), audio.resample(pair.wet, pair.fs, fs), fs)


def known_answer(data: Path, show: Show) -> Row:
    """Give back a cascade that we know, from a sweep sent through it in float64."""
    show("known: filtering and fitting")
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


def drums(data: Path, show: Show) -> Row:
    """Lay the first microphone of each pair on the second."""
    pairs = []
    for number in range(config.DRUM_PAIRS):
        show(f"drums: pair {number + 1} of {config.DRUM_PAIRS}")
        pairs.append(drum_pair(read_pair(*drum_paths(data, number))))
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


def align_command(paths: tuple[Path, Path], folder: str, *options: str) -> list[str]:
    """`jaxapf align` of a pair into a folder, where it leaves model.json."""
    outputs = ["-o", f"{folder}/aligned.wav", "--model", f"{folder}/model.json"]
    return [sys.executable, "-m", "jaxapf", "align", *map(str, paths), *outputs, *options]


def speed(data: Path, show: Show) -> Row:
    """Time the command with an empty and a warm compilation cache, and SciPy's filter beside it."""
    paths = sweep_paths(data, config.SPEED_BOX)
    with tempfile.TemporaryDirectory() as folder:
        command = align_command(paths, folder, "--order", str(config.SPEED_ORDER))
        show("speed: empty cache")
        cold, peak = measured(command, f"{folder}/cache")
        runs = []
        for number in range(config.WARM_RUNS):
            show(f"speed: warm cache, run {number + 1} of {config.WARM_RUNS}")
            runs.append(measured(command, f"{folder}/cache"))
        found = jaxapf.Alignment.load(f"{folder}/model.json")
        warm = min(seconds for seconds, _ in runs)
        peer = scipy_seconds(found, paths)
    row = {
        "pair": described(paths),
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
        goal(
            f"peak memory below {config.MEMORY_MIB} MiB", row["peak MiB"], row["peak MiB"] < config.MEMORY_MIB
        ),
    ]
    return {"rows": [row], "goals": goals}


def scipy_seconds(found: jaxapf.Alignment, paths: tuple[Path, Path]) -> float:
    """Best of three: SciPy sends the dry file, in memory, through the sections found."""
    dry = audio.read(paths[0])[0].astype(np.float64)
    times = []
    for _ in range(3):
        started = time.perf_counter()
        scipy.signal.sosfilt(found.sos, dry)
        times.append(time.perf_counter() - started)
    return min(times)


def described(paths: tuple[Path, Path]) -> str:
    """Length and rate of a pair in words."""
    found = audio.info(paths[0])
    return f"{found.n_samples / found.fs:.1f} s, {found.fs / 1000:g} kHz"


def memory(data: Path, show: Show) -> Row:
    """Peak memory of the command with everything on, of the sweep and of the longer music."""
    rows, goals = [], []
    for name, paths in (
        ("sweep", sweep_paths(data, config.SPEED_BOX)),
        ("music", loops_192k_paths(data, config.SPEED_BOX)),
    ):
        show(f"memory: {name}")
        with tempfile.TemporaryDirectory() as folder:
            command = align_command(paths, folder, "--report", f"{folder}/report.html")
            seconds, peak = measured(command, f"{folder}/cache")
            order = jaxapf.Alignment.load(f"{folder}/model.json").metrics["order"]
        row = {"pair": f"{name}, {described(paths)}, with --report", "order found": order}
        rows.append(row | {"seconds": seconds, "peak MiB": peak})
        goals.append(goal(f"{name}: below {config.MEMORY_MIB} MiB", peak, peak < config.MEMORY_MIB))
    return {"rows": rows, "goals": goals}


def hour(data: Path, show: Show) -> Row:
    """Align a pair of an hour, made by repeating the music."""
    with tempfile.TemporaryDirectory() as folder:
        long_paths = Path(folder) / "dry.wav", Path(folder) / "wet.wav"
        for source, path in zip(loops_paths(data, config.HOUR_BOX), long_paths, strict=True):
            show(f"hour: writing {path.name}")
            repeat(source, path, config.HOUR_S)
        show("hour: aligning")
        seconds, peak = measured(align_command(long_paths, folder), f"{folder}/cache")
        found = jaxapf.Alignment.load(f"{folder}/model.json").metrics
        pair = described(long_paths)
    row = {"pair": pair, "raw": found["esr_raw"], "best delay and polarity": found["esr_delay"]}
    row |= {"order auto": found["esr_aligned"], "order found": found["order"]}
    row |= {"seconds": seconds, "peak MiB": peak}
    return {"rows": [row], "goals": [goal(f"below {config.MEMORY_MIB} MiB", peak, peak < config.MEMORY_MIB)]}


def repeat(source: Path, path: Path, seconds: float) -> None:
    """Write a recording again and again until `seconds` are full."""
    x, fs = audio.read(source)
    n_samples = round(seconds * fs)
    with audio.open_writer(path, fs, len(x), n_samples=n_samples) as writer:
        while writer.n_samples < n_samples:
            writer.write(x[:, : n_samples - writer.n_samples])


# Which figures there are, and the files that each needs


class Figure(NamedTuple):
    """How to measure a figure, and the files that it reads."""

    measure: Callable[[Path, Show], Row]
    files: Callable[[Path], list[Path]]


def _of_boxes(*paths: Callable[[Path, str], tuple[Path, Path]]) -> Callable[[Path], list[Path]]:
    return lambda data: [file for box in config.BOXES for pair in paths for file in pair(data, box)]


def _of_drums(data: Path) -> list[Path]:
    return [file for number in range(config.DRUM_PAIRS) for file in drum_paths(data, number)]


FIGURES = {
    "boxes": Figure(boxes, _of_boxes(sweep_paths, loops_192k_paths)),
    "music": Figure(music_alone, _of_boxes(sweep_paths, loops_paths)),
    "known": Figure(known_answer, lambda data: []),
    "drums": Figure(drums, _of_drums),
    "speed": Figure(speed, lambda data: [*sweep_paths(data, config.SPEED_BOX)]),
    "memory": Figure(
        memory,
        lambda data: [*sweep_paths(data, config.SPEED_BOX), *loops_192k_paths(data, config.SPEED_BOX)],
    ),
    "hour": Figure(hour, lambda data: [*loops_paths(data, config.HOUR_BOX)]),
}
DEFAULT = tuple(name for name in FIGURES if name != "hour")


# Tables


def cell(column: str, value: Any) -> str:
    """A value as the table shows it."""
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


def markdown(results: Row) -> str:
    """All figures, ready for the README."""
    parts = [results["made_with"]]
    for name in FIGURES:
        if name in results:
            found = results[name]
            parts += [config.CAPTIONS[name], table(found["rows"], cell), verdict(found["goals"], cell)]
    return "\n\n".join(parts) + "\n"


# The program


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the arguments; wrong ones end the program with exit code 2."""
    parser = argparse.ArgumentParser(description="Measure the figures of the README.")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of the recordings")
    parser.add_argument(
        "--only", default=",".join(DEFAULT), metavar="NAMES", help=f"from {', '.join(FIGURES)}; all but hour"
    )
    parser.add_argument("--update", type=Path, metavar="README.md", help="file to put the tables into")
    arguments = parser.parse_args(argv)
    arguments.only = arguments.only.split(",")
    for name in arguments.only:
        if name not in FIGURES:
            parser.error(f"argument --only: '{name}' is not one of {', '.join(FIGURES)}")
    return arguments


def check(arguments: argparse.Namespace) -> None:
    """Refuse, before the long work, what cannot succeed."""
    if not arguments.data.is_dir():
        raise ValueError(f"--data '{arguments.data}' is not a folder; name the folder of the recordings")
    needed = [file for name in arguments.only for file in FIGURES[name].files(arguments.data)]
    missing = [file for file in needed if not file.is_file()]
    if missing:
        raise ValueError(
            f"--data '{arguments.data}' lacks '{missing[0].relative_to(arguments.data)}'; "
            "see experiments/alignment/README.md for what it must hold"
        )
    if arguments.update is not None:
        put_tables(arguments.update, None, MARKERS)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write results/, update a README; 0, or 2 with a sentence for what the user can mend."""
    arguments = parse(argv)
    return exit_code(lambda: run(arguments))


def run(arguments: argparse.Namespace) -> None:
    """Measure, write, draw, as asked for."""
    check(arguments)
    results: Row = {"made_with": f"{made_with()} Seconds to fit include compiling."}
    RESULTS.mkdir(exist_ok=True)
    for name in FIGURES:
        if name in arguments.only:
            results[name] = FIGURES[name].measure(arguments.data, show_progress)
            # After each figure, so that a long run cut short leaves what it found.
            audio.write_text(RESULTS / "figures.json", json.dumps(results, indent=1) + "\n")
            audio.write_text(RESULTS / "figures.md", markdown(results))
    if arguments.update is not None:
        put_tables(arguments.update, markdown(results), MARKERS)


if __name__ == "__main__":
    sys.exit(main())
