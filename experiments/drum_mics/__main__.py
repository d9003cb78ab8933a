"""Train the aligner's network, and measure it on drum microphones: `python -m experiments.drum_mics`.

`train` trains on pairs made on the fly and goes on where it was stopped; `evaluate` measures the networks
trained in its folder, else stored ones, beside classical estimates and `jaxapf.align`.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common import runner, tables
from experiments.common.runner import Row, show_progress
from experiments.common.tables import made_with, table, verdict
from experiments.drum_mics import config, evaluate, known, listening, measures
from experiments.drum_mics import train as learning
from jaxapf import audio, datasets
from jaxapf.alignment import network as aligner
from jaxapf.training import logging, pretrained

MARKERS = ("drum-mics", "known")
STORED = {"cross-phase": "tcn-aligner", "waves": "tcn-waves"}
LISTENED = 6  # pairs on the page
ROOMS_KEY = 2_000_002  # of the made-up pairs that are measured without recordings


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = runner.make_parser("drum_mics", "Train and measure the network that aligns microphones.")
    commands = parser.add_subparsers(required=True)
    common = argparse.ArgumentParser(add_help=False)
    runner.add_folder(common, "drum_mics")
    add = runner.add_command(commands, "train", train, "Train a network.", common).add_argument
    add("--kind", choices=sorted(aligner.CHANNELS), default="cross-phase", help="default: %(default)s")
    steps = f"default: {config.STEPS['cross-phase']}, waves {config.STEPS['waves']}"
    add("--steps", type=runner.whole(), help=steps)
    add("--seed", type=runner.whole(0), default=config.SEED, help="default: %(default)s")
    add("--sources", type=Path, metavar="DIR", help="one-shots and loops to make half of the pairs from")
    add("--store", action="store_true", help="put the network among the stored checkpoints")
    command = runner.add_command(commands, "evaluate", measure, "Measure networks.", common)
    add = command.add_argument
    add("--data", type=Path, metavar="DIR", help="recorded pairs, with pairs.json; without it made-up rooms")
    add("--sdds", type=Path, metavar="DIR", help="or the SDDS data set: annotations CSV and audio")
    add("--pairs", type=runner.whole(), default=40, help="at most so many pairs; default: %(default)s")
    add("--known", type=runner.whole(), default=config.KNOWN_PAIRS, help="pairs with a known cascade")
    add("--quick", action="store_true", help="leave jaxapf.align out, which takes most of the time")
    runner.add_update(command, "drum_mics")
    return runner.run(parser, argv, advice="training goes on from its last checkpoint")


# Training


def train(args: argparse.Namespace) -> None:
    """Train, and keep the network."""
    steps = args.steps or config.STEPS[args.kind]
    folder = args.folder / args.kind
    sources = [] if args.sources is None else read_sources(args.sources)
    network = learning.trained(learning.design_of(args.kind), folder, steps, sources=sources, seed=args.seed)
    aligner.save(network, folder / "network.npz")
    last = logging.read_metrics(folder / "metrics.jsonl")[-1]
    print(f"{folder / 'network.npz'}: reaches {last['reached']:.3f} of the bound after {steps} steps")
    if args.store:
        store(args.kind, folder, last)


def read_sources(folder: Path) -> list[np.ndarray]:
    """Read all recordings of a folder, each channel by itself, at the rate of learning.

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


def store(kind: str, folder: Path, last: dict[str, Any]) -> None:
    """Put a network among the stored checkpoints."""
    pretrained.add(
        STORED[kind],
        folder / "network.npz",
        what=f"network that aligns two recordings, from their {kind}; jaxapf align --method tcn"
        if kind == "cross-phase"
        else "the original's kind of network, from the two signals",
        command=f"python -m experiments.drum_mics train --kind {kind} --store",
        data="synthetic hits, made on the fly",
        figure=("loss at the end of training", float(f"{last['loss']:.3g}")),
    )


# Measuring


def measure(args: argparse.Namespace) -> None:
    """Make tables, pictures and the page of the trained networks."""
    import experiments.drum_mics.figures  # noqa: F401 (needs matplotlib: found out before the work)

    tables.check(args.update, MARKERS)
    pairs = read_pairs(args)
    networks = read_networks(args.folder)
    if "cross-phase" not in networks:
        raise ValueError(f"'{args.folder}' holds no trained network; train one with the command train")
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
    tables.write_json(args.folder / "evaluation.json", document)
    texts = report(summary, goals, errors)
    audio.write_text(args.folder / "evaluation.md", "\n".join(texts.values()))
    print("\n".join(texts.values()), end="")
    draw(args.folder, found.rows, errors, training_records)
    listen(args.folder / "listening.html", pairs, found)
    tables.put(args.update, texts)
    tables.copy(args.folder, args.update, ["loss.svg", "pairs.svg", "phase.svg"])


def read_pairs(args: argparse.Namespace) -> list[evaluate.Pair]:
    """Read recorded pairs, or make some in rooms that training does not use."""
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
    """Load the networks trained in a folder, else the stored ones."""
    found = {}
    for kind, name in STORED.items():
        place = folder / kind / "network.npz"
        if place.exists():
            found[kind] = aligner.load(place)
        elif name in {entry["name"] for entry in pretrained.manifest()}:
            found[kind] = aligner.load(pretrained.path(name))
    return found


def read_records(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Read the records of the training runs in a folder."""
    names = {"cross-phase": evaluate.NETWORK, "waves": evaluate.WAVES}
    places = {name: folder / kind / "metrics.jsonl" for kind, name in names.items()}
    return {name: logging.read_metrics(place) for name, place in places.items() if place.exists()}


def measure_known(networks: dict[str, aligner.Network], pairs: int, *, slow: bool) -> dict[str, Any]:
    """Measure phase errors on pairs with a known cascade."""
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
    """Draw the pictures."""
    from experiments.drum_mics import figures

    methods = [evaluate.CLASSICAL, evaluate.STRONGER, evaluate.NETWORK, evaluate.AUTO]
    present = [name for name in methods if name in {row["method"] for row in rows}]
    if records:
        figures.loss_curve(records, folder / "loss.svg")
    figures.pairs(rows, folder / "pairs.svg", present)
    shown = (evaluate.WAVES, evaluate.NETWORK, evaluate.REFINED, evaluate.FIXED)
    figures.phase_errors(only(errors, shown), folder / "phase.svg")


def only(errors: dict[str, Any], methods: Sequence[str]) -> dict[str, Any]:
    """Return the phase errors of some of the methods."""
    if isinstance(errors, dict) and errors.keys() & set(methods):
        return {name: errors[name] for name in methods if name in errors}
    return {k: only(v, methods) if isinstance(v, dict) else v for k, v in errors.items()}


def listen(path: Path, pairs: Sequence[evaluate.Pair], found: evaluate.Evaluated) -> None:
    """Write the page of the mixes: pairs spread from the most helped to the least."""
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
            if row["pair"] == pair.name and row["method"] in evaluate.SHOWN
        ]
        entries.append({"pair": pair.name, "about": pair.about, "fs": round(pair.fs), "versions": versions})
    listening.write_page(path, "Drum microphones, mixed", entries)


# Tables


def report(summary: Sequence[Row], goals: Sequence[Row], errors: dict[str, Any]) -> dict[str, str]:
    """Return the tables by the names of their markers."""
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
    intro = (
        f"{made_with()} Medians over {summary[0]['pairs']} pairs; *better*: share of the pairs in which a "
        "method is better than GCC-PHAT with delay and polarity."
    )
    main_parts = [intro, table(rows, cell), verdict(goals, cell) if goals else ""]
    return {
        "drum-mics": "\n\n".join(main_parts).strip() + "\n",
        "known": table(known_rows, cell) + "\n",
    }


def cell(column: str, value: Any) -> str:
    """Return a value as the tables show it."""
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
