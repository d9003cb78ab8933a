"""Train the aligner's network, and measure it on drum microphones: `python experiments/drum_mics/run.py`.

`run.py train` trains on pairs made on the fly and goes on where it was stopped; `run.py evaluate` measures
the networks trained in its folder, else stored ones, beside classical estimates and `jaxapf.align`. README.md
explains the rest.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.runner import Row, check_folder, made_with, put_tables, show_progress, table, verdict
from experiments.drum_mics import config, evaluate, known, listening, measures, pictures, training
from jaxapf import audio, datasets
from jaxapf._internal.files import reason, write_text
from jaxapf.alignment import network as aligner
from jaxapf.training import fit, logging, pretrained
from jaxapf.training.checkpoint import CheckpointError

RESULTS = Path(__file__).with_name("results")
MARKERS = "drum-mics"
STORED = {"cross-phase": "tcn-aligner", "waves": "tcn-waves"}
LISTENED = 6  # pairs on the page
ROOMS_KEY = 2_000_002  # of the made-up pairs that are measured without recordings


def main(argv: Sequence[str] | None = None) -> int:
    """The command: 0, or 2 with one sentence for what the user can mend."""
    args = parse(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        check_folder(args.folder)
        if args.command == "train":
            train(args)
        else:
            measure(args)
    except KeyboardInterrupt:
        show_progress("")
        print("run.py: interrupted; training goes on from its last checkpoint", file=sys.stderr)
        return 130
    except (OSError, ValueError, CheckpointError, fit.TrainingError, ModuleNotFoundError) as error:
        show_progress("")
        text = f"{error.filename}: {reason(error)}" if isinstance(error, OSError) else str(error)
        print(f"run.py: error: {text}", file=sys.stderr)
        return 2
    return 0


# Arguments


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the arguments; wrong ones end the program with exit code 2."""
    parser = argparse.ArgumentParser(description="Train and measure the network that aligns microphones.")
    commands = parser.add_subparsers(dest="command", required=True)
    parents = argparse.ArgumentParser(add_help=False)
    parents.add_argument(
        "--folder", type=Path, default=RESULTS, help="where results go; default: results/ beside this script"
    )
    add = commands.add_parser("train", parents=[parents], help="train a network").add_argument
    add("--hears", choices=sorted(aligner.CHANNELS), default="cross-phase", help="default: %(default)s")
    add("--steps", type=count, help=f"default: {config.STEPS['cross-phase']}, waves {config.STEPS['waves']}")
    add("--seed", type=whole, default=config.SEED, help="default: %(default)s")
    add("--sources", type=Path, metavar="DIR", help="one-shots and loops to make half of the pairs from")
    add("--store", action="store_true", help="put the network among the stored checkpoints")
    add = commands.add_parser("evaluate", parents=[parents], help="measure networks").add_argument
    add("--data", type=Path, metavar="DIR", help="recorded pairs, with pairs.json; without it made-up rooms")
    add("--sdds", type=Path, metavar="DIR", help="or the SDDS data set: annotations CSV and audio")
    add("--pairs", type=count, default=40, help="at most so many pairs; default: %(default)s")
    add("--known", type=count, default=config.KNOWN_PAIRS, help="pairs with a known cascade: %(default)s")
    add("--quick", action="store_true", help="leave jaxapf.align out, which takes most of the time")
    add("--update", type=Path, metavar="README.md", help="file to put the tables into")
    return parser.parse_args(argv)


def whole(text: str) -> int:
    """A whole number of 0 or more, for argparse."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number of 0 or more")
    return int(text)


def count(text: str) -> int:
    """A whole number of 1 or more, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number of 1 or more")
    return int(text)


# Training


def train(args: argparse.Namespace) -> None:
    """Train, and keep the network."""
    steps = args.steps or config.STEPS[args.hears]
    folder = args.folder / args.hears
    sources = [] if args.sources is None else read_sources(args.sources)
    network = training.trained(training.design_of(args.hears), folder, steps, sources=sources, seed=args.seed)
    aligner.save(network, folder / "network.npz")
    last = logging.read_metrics(folder / "metrics.jsonl")[-1]
    print(f"{folder / 'network.npz'}: reaches {last['reached']:.3f} of the bound after {steps} steps")
    if args.store:
        store(args.hears, folder, last)


def read_sources(folder: Path) -> list[np.ndarray]:
    """All recordings of a folder, each channel by itself, at the rate of training.

    Raises:
        ValueError: there are none.
    """
    suffixes = {".wav", ".flac", ".aif", ".aiff", ".ogg"}
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes)
    if not paths:
        raise ValueError(f"--sources '{folder}' holds no recordings; give a folder of WAV or FLAC files")
    sources = []
    for path in paths:
        x, fs = audio.read(path)
        sources += list(x if fs == config.FS else audio.resample(x, fs, config.FS))
    return sources


def store(hears: str, folder: Path, last: dict[str, Any]) -> None:
    """Put a network among the stored checkpoints."""
    pretrained.add(
        STORED[hears],
        folder / "network.npz",
        what=f"network that aligns two recordings, hears {hears}; jaxapf align --method tcn"
        if hears == "cross-phase"
        else "the original's kind of network, which hears the two signals",
        command=f"python experiments/drum_mics/run.py train --hears {hears} --store",
        data="synthetic hits, made on the fly",
        figure=("loss at the end of training", float(f"{last['loss']:.3g}")),
    )


# Measuring


def measure(args: argparse.Namespace) -> None:
    """Tables, pictures and the page of the networks there are."""
    if args.update is not None:
        put_tables(args.update, None, MARKERS)
    pairs = read_pairs(args)
    networks = read_networks(args.folder)
    if "cross-phase" not in networks:
        raise ValueError(f"'{args.folder}' holds no trained network; train one: run.py train --folder ...")
    found = evaluate.evaluated(pairs, networks, slow=not args.quick)
    summary = measures.compared(
        [{name: value for name, value in row.items() if name != "kind"} for row in found.rows],
        evaluate.CLASSICAL,
    )
    errors = measure_known(networks, args.known, slow=not args.quick)
    goals = evaluate.goals(found.rows)
    training_records = read_records(args.folder)
    document: dict[str, Any] = {
        "made_with": made_with(),
        "rows": found.rows,
        "summary": summary,
        "goals": goals,
        "known": errors,
    }
    write_text(
        args.folder / "evaluation.json", json.dumps(_finite(document), indent=1, allow_nan=False) + "\n"
    )
    text = report(summary, goals, errors)
    write_text(args.folder / "evaluation.md", text)
    print(text)
    draw(args.folder, found.rows, errors, training_records)
    listen(args.folder / "listening.html", pairs, found)
    if args.update is not None:
        put_tables(args.update, text, MARKERS)


def _finite(value: Any) -> Any:
    """A document as strict JSON has it: null for the level of silence."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_pairs(args: argparse.Namespace) -> list[evaluate.Pair]:
    """Recorded pairs, or made-up ones in rooms never trained in."""
    if args.data is not None:
        return evaluate.read(datasets.pairs_json(args.data)[: args.pairs])
    if args.sdds is not None:
        return evaluate.read(datasets.sdds(args.sdds)[: args.pairs])
    recipe = datasets.Recipe(room=1.0, filtered=0.0)
    rooms = datasets.Pairs(config.N_SAMPLES, config.FS, key=ROOMS_KEY, recipe=recipe)
    return [
        evaluate.Pair(f"{number:02d}", "made up", "", rooms[number].dry, rooms[number].wet, config.FS)
        for number in range(args.pairs)
    ]


def read_networks(folder: Path) -> dict[str, aligner.Network]:
    """The networks trained in a folder, else the stored ones."""
    found = {}
    for hears, name in STORED.items():
        place = folder / hears / "network.npz"
        if place.exists():
            found[hears] = aligner.load(place)
        elif name in {entry["name"] for entry in pretrained.manifest()}:
            found[hears] = aligner.load(pretrained.path(name))
    return found


def read_records(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The records of the training runs in a folder."""
    names = {"cross-phase": evaluate.NETWORK, "waves": evaluate.WAVES}
    places = {name: folder / hears / "metrics.jsonl" for hears, name in names.items()}
    return {name: logging.read_metrics(place) for name, place in places.items() if place.exists()}


def measure_known(networks: dict[str, aligner.Network], pairs: int, *, slow: bool) -> dict[str, Any]:
    """Phase errors on pairs with a known cascade."""
    find = evaluate.finders(networks, slow=False)
    if slow:
        find[evaluate.FIXED] = evaluate.optimised(12, "spectral")
    methods = {
        name: lambda dry, wet, finder=finder: finder(dry, wet, config.FS) for name, finder in find.items()
    }
    most = dict.fromkeys((evaluate.FIXED, evaluate.REFINED), min(pairs, config.SLOW_PAIRS))
    show_progress("phase errors on known cascades")
    errors = known.phase_errors(methods, pairs, most)
    show_progress("phase errors where the spectrum is empty")
    errors["empty"] = known.empty_spectrum(methods, pairs, most)
    show_progress("")
    return errors


def draw(folder: Path, rows: Sequence[Row], errors: dict[str, Any], records: dict[str, Any]) -> None:
    """The pictures."""
    methods = [evaluate.CLASSICAL, evaluate.STRONGER, evaluate.NETWORK, evaluate.AUTO]
    there = [name for name in methods if name in {row["method"] for row in rows}]
    if records:
        pictures.loss_curve(records, folder / "loss.svg")
    pictures.pairs(rows, folder / "pairs.svg", there)
    shown = (evaluate.WAVES, evaluate.NETWORK, evaluate.REFINED, evaluate.FIXED)
    pictures.phase_errors(only(errors, shown), folder / "phase.svg", judged=evaluate.NETWORK)


def only(errors: dict[str, Any], methods: Sequence[str]) -> dict[str, Any]:
    """The phase errors of some of the methods."""
    if isinstance(errors, dict) and errors.keys() & set(methods):
        return {name: errors[name] for name in methods if name in errors}
    return {k: only(v, methods) if isinstance(v, dict) else v for k, v in errors.items()}


def listen(path: Path, pairs: Sequence[evaluate.Pair], found: evaluate.Evaluated) -> None:
    """The page of the mixes: pairs spread from the most helped to the least."""
    table_of = {(row["pair"], row["method"]): row for row in found.rows}
    order = sorted(
        pairs,
        key=lambda pair: (
            table_of[pair.name, "as is"]["correlation"] - table_of[pair.name, evaluate.NETWORK]["correlation"]
        ),
    )
    picked = [order[round(i)] for i in np.linspace(0, len(order) - 1, min(LISTENED, len(order)))]
    entries = []
    for pair in picked:
        versions = [
            {
                "name": row["method"],
                "mix": (found.shifted[pair.name, row["method"]] + pair.wet) / 2,
                "correlation": row["correlation"],
                "mix_rms_db": row["mix_rms_db"],
            }
            for row in found.rows
            if row["pair"] == pair.name and row["method"] in evaluate.HEARD
        ]
        entries.append({"pair": pair.name, "about": pair.about, "fs": round(pair.fs), "versions": versions})
    listening.write_page(path, "Drum microphones, mixed", entries)


# Tables


def report(summary: Sequence[Row], goals: Sequence[Row], errors: dict[str, Any]) -> str:
    """The tables as Markdown."""
    rows = [
        {
            "method": row["method"],
            "mix RMS (dB)": row["mix_rms_db"],
            "mix peak (dB)": row["mix_peak_db"],
            "correlation": row["correlation"],
            "MSE": row["mse"],
            "MR-STFT": row["mrstft"],
            "THD+N": row["thd_n"],
            "seconds a pair": row["seconds"],
            "RMS better": row["mix_rms_db_better"],
            "correlation better": row["correlation_better"],
        }
        for row in summary
    ]
    known_rows = [
        {
            "method": name,
            "pairs": len(values),
            "weighted error, median": float(np.median(values)),
            "90th percentile": float(np.percentile(values, 90)),
            "at a section's octave": float(np.median(errors["empty"]["untouched_deg"][name])),
            "octave empty": float(np.median(errors["empty"]["emptied_deg"][name])),
        }
        for name, values in errors["weighted_deg"].items()
    ]
    parts = [
        f"{made_with()} Medians over {summary[0]['pairs']} pairs; *better*: share of the pairs in which a "
        "method is better than GCC-PHAT with delay and polarity.",
        table(rows, cell),
        "Pairs with a known cascade of six sections, a delay and a polarity: phase error in degrees, RMS "
        "weighted by the spectrum; and with one section, in the octave around its frequency, with sound "
        "there and without.",
        table(known_rows, cell),
        verdict(goals, cell) if goals else "",
    ]
    return "\n\n".join(parts).strip() + "\n"


def cell(column: str, value: Any) -> str:
    """A value as the tables show it."""
    if value is None:
        return ""
    if isinstance(value, str | int):
        return str(value)
    if column.endswith("better"):
        return f"{100 * value:.0f} %"
    if not math.isfinite(value):
        return str(value)
    return f"{value:.4f}" if abs(value) < 1 else f"{value:.2f}"


if __name__ == "__main__":
    sys.exit(main())
