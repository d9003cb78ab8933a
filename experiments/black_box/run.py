"""Train BiasNets on devices, and compare: `python experiments/black_box/run.py [--data DIR] [--protocol P]`.

`--protocol paper` trains as Bargum et al. 2023 did, `--protocol exact` (the default) through the recursion
over the whole sweep. Every run is kept in a folder of its own and is not run again; a killed one of the
paper's goes on from its last checkpoint. Tables and pictures are made of all runs there are. README.md
explains the rest.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jaxapf
from experiments.black_box import config, data, figures, listening, pictures, protocol, tables
from experiments.common.runner import check_folder, put_tables, show_progress
from jaxapf import Alignment
from jaxapf._internal.files import write_text
from jaxapf.training import fit, logging
from jaxapf.training.checkpoint import CheckpointError

RESULTS = Path(__file__).with_name("results")
MARKERS = {"recorded": "black-box", "embedded": "black-box-embedded"}
EXTRA = ("speed", "ladder", "known")
RELATIVE = "loss, over the first"


def main(argv: Sequence[str] | None = None) -> int:
    """The command: 0, or 2 with one sentence for what the user can mend."""
    args = parse(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    kind = "embedded" if args.data is None else "recorded"
    try:
        if args.update is not None:
            put_tables(args.update, None, MARKERS[kind])
        source = data.embedded() if args.data is None else data.recorded(args.data)
        names = chosen(args.effects, source.names)
        folder = args.folder / kind
        check_folder(folder)
        for name in names:
            one_effect(args, source.effect(name), folder)
        for name in args.figures:
            measure(name, source.effect(names[0]), folder)
        finish(args, source, names, folder)
    except KeyboardInterrupt:
        show_progress("")
        print(
            "run.py: interrupted; what is done is kept, started again it goes on from there", file=sys.stderr
        )
        return 130
    except OSError as error:
        show_progress("")
        print(f"run.py: error: {error.filename or 'results'}: {error.strerror or error}", file=sys.stderr)
        return 2
    except (ValueError, CheckpointError, fit.TrainingError) as error:  # AudioError is a ValueError
        show_progress("")
        print(f"run.py: error: {error}", file=sys.stderr)
        return 2
    return 0


# Arguments


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the arguments; wrong ones end the program with exit code 2."""
    parser = argparse.ArgumentParser(
        description="Train all-pass cascades on devices, as the paper did and through the exact recursion."
    )
    add = parser.add_argument
    add("--data", type=Path, metavar="DIR", help="recorded devices; without it, the embedded ones")
    add("--protocol", choices=("paper", "exact"), default="exact", help="default: %(default)s")
    add("--effects", type=names, metavar="NAMES", help="devices to train, with commas; default: all")
    add(
        "--models",
        type=among(config.MODELS),
        default=config.MODELS,
        metavar="NAMES",
        help="sequential,connected",
    )
    add(
        "--losses",
        type=among(config.LOSSES),
        default=config.LOSSES,
        metavar="NAMES",
        help="mse,mstft (paper)",
    )
    add("--seeds", type=numbers, default=config.SEEDS, metavar="N,N", help="default: 0,1,2 (paper)")
    add("--epochs", type=count, default=config.EPOCHS, help="default: %(default)s (paper)")
    add("--power", type=int, choices=(1, 2), default=config.POWER, help="of the M-STFT loss: %(default)s")
    add("--fraction", type=share, default=config.FRACTION, help="of the bins that count: %(default)s")
    add("--figures", type=among(EXTRA), default=(), metavar="NAMES", help=f"measure too: {','.join(EXTRA)}")
    add(
        "--export",
        action="store_true",
        help="write each exact model as sections for another pipeline, and check it",
    )
    add(
        "--listen",
        action="store_true",
        help="write the mixes of the exact models, and a page to compare them",
    )
    add("--folder", type=Path, default=RESULTS, help="where results go; default: results/ beside this script")
    add("--update", type=Path, metavar="README.md", help="file to put the tables into")
    return parser.parse_args(argv)


def names(text: str) -> tuple[str, ...]:
    """Words with commas between them."""
    return tuple(text.split(","))


def among(allowed: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """Words of a list, for argparse."""

    def read(text: str) -> tuple[str, ...]:
        for word in names(text):
            if word not in allowed:
                raise argparse.ArgumentTypeError(f"'{word}' is none of {', '.join(allowed)}")
        return names(text)

    return read


def count(text: str) -> int:
    """A whole number of 1 or more, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number of 1 or more")
    return int(text)


def numbers(text: str) -> tuple[int, ...]:
    """Whole numbers with commas between them, for argparse."""
    if not all(word.isdecimal() for word in names(text)):
        raise argparse.ArgumentTypeError(f"'{text}' is no list of whole numbers such as 0,1,2")
    return tuple(int(word) for word in names(text))


def share(text: str) -> float:
    """A number above 0, at most 1, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no number above 0, at most 1")
    return value


def chosen(wanted: Sequence[str] | None, known: list[str]) -> list[str]:
    """The devices to train.

    Raises:
        ValueError: one is not there.
    """
    for name in wanted or ():
        if name not in known:
            raise ValueError(f"argument --effects: '{name}' is none of {', '.join(known)}")
    return list(wanted or known)


# Runs


def one_effect(args: argparse.Namespace, effect: data.Effect, folder: Path) -> None:
    """All runs of a device that are not there yet."""
    reference(effect, folder / "reference" / effect.name)
    if args.protocol == "exact":
        for model in args.models:
            exact(effect, model, folder / "exact" / f"{effect.name}-{model}")
        return
    objectives = [
        protocol.Objective(name, args.power, args.fraction) if name == "mstft" else protocol.Objective(name)
        for name in args.losses
    ]
    for seed in args.seeds:
        for objective in objectives:
            for model in args.models:
                run = protocol.Run(effect.name, model, objective, seed)
                paper(effect, run, args.epochs, folder / "paper")


def is_done(folder: Path, effect: data.Effect) -> bool:
    """Whether a run has its result already.

    Raises:
        ValueError: it has one of other recordings.
    """
    result = tables.read(folder)
    if result is not None and result["recordings"] != effect.fingerprint:
        raise ValueError(
            f"'{folder}' holds the result of other recordings than those of '{effect.name}' now; "
            "give another --folder, or take that one away"
        )
    return result is not None


def reference(effect: data.Effect, folder: Path) -> None:
    """The dry signal as it is, the bound, and what `align` reaches with the same order."""
    if is_done(folder, effect):
        return
    show_progress(f"{effect.name}: align")
    started = time.perf_counter()
    found = jaxapf.align(*effect.sweep, config.FS, order=config.ORDER)
    result = {
        "raw": figures.errors(None, effect.loops),
        "bound": jaxapf.metrics.phase_only_bound(*effect.loops, config.FS),
        "seconds": time.perf_counter() - started,
    }
    keep(folder, effect, found, result)


def exact(effect: data.Effect, model: str, folder: Path) -> None:
    """The whole sweep in one recursion, from the spectral start."""
    if is_done(folder, effect):
        return
    show_progress(f"{effect.name}, {model}, exact")
    started = time.perf_counter()
    found = jaxapf.align(*effect.sweep, config.FS, order=config.ORDER, method=f"biasnet-{model}")
    keep(folder, effect, found, {"seconds": time.perf_counter() - started})


def paper(effect: data.Effect, run: protocol.Run, epochs: int, parent: Path) -> None:
    """One training as in the paper."""
    folder = parent / run.name_of(epochs)
    if is_done(folder, effect):
        return
    show_progress("")
    started = time.perf_counter()
    found = protocol.train_one(run, effect.sweep, folder, epochs=epochs, recordings=effect.fingerprint)
    seconds = time.perf_counter() - started
    records = logging.read_metrics(folder / "metrics.jsonl")
    result = {name: records[-1][name] for name in ("step", "loss", "skipped")}
    keep(folder, effect, found, {**result, "seconds": seconds, "epochs": epochs})
    shutil.rmtree(folder / "checkpoints")


def keep(folder: Path, effect: data.Effect, found: Alignment, result: dict[str, Any]) -> None:
    """Write a model and, last, its result: a run with one is done."""
    folder.mkdir(parents=True, exist_ok=True)
    errors = figures.errors(found, effect.loops)
    dataclasses.replace(found, metrics={**found.metrics, "esr_unseen": errors["esr"]}).save(
        folder / "model.json"
    )
    result = {**result, **errors, "recordings": effect.fingerprint}
    write_text(folder / "result.json", json.dumps(result, indent=1) + "\n")


def measure(name: str, effect: data.Effect, folder: Path) -> None:
    """One of the figures beside the table."""
    show_progress(name)
    if name == "speed":
        found = figures.speed(effect.sweep)
    elif name == "known":
        found = figures.known_answer()
    else:
        model = exact_model(folder, effect.name)
        if model is None:
            raise ValueError(
                f"the ladder of '{effect.name}' ends at its exact model; run --protocol exact first"
            )
        found = figures.ladder(effect.name, effect.sweep, effect.loops, model)
    write_text(folder / f"{name}.json", json.dumps(found, indent=1) + "\n")


# What people see


def finish(args: argparse.Namespace, source: data.Source, effects: list[str], folder: Path) -> None:
    """Tables, pictures, exports and the page, of all runs there are."""
    show_progress("tables and pictures")
    models = exact_models(folder, source.names)
    if args.export:
        for path, model in models.items():
            write_text(path.with_name("sections.json"), json.dumps(figures.export(model), indent=1) + "\n")
    pipelines = [pipeline_row(source, path, model) for path, model in models.items()] if args.export else []
    if pipelines:
        write_text(folder / "pipeline.json", json.dumps(pipelines, indent=1) + "\n")
    draw(source, folder)
    if args.listen:
        listen(source, folder)
    text = tables.markdown(folder, source.names)
    write_text(folder / "tables.md", text)
    show_progress("")
    print(text)
    if args.update is not None:
        put_tables(args.update, text, MARKERS[folder.name])


def exact_models(folder: Path, effects: list[str]) -> dict[Path, Alignment]:
    """The exact models that there are of these devices, by their files."""
    paths = (
        folder / "exact" / f"{name}-{model}" / "model.json" for name in effects for model in config.MODELS
    )
    return {path: Alignment.load(path) for path in paths if path.exists()}


def exact_model(folder: Path, effect: str) -> Alignment | None:
    """The exact model of a device that pictures and mixes show: the sequential one where there are both."""
    paths = (folder / "exact" / f"{effect}-{model}" / "model.json" for model in config.MODELS)
    return next((Alignment.load(path) for path in paths if path.exists()), None)


def pipeline_row(source: data.Source, path: Path, model: Alignment) -> dict[str, Any]:
    """How far SciPy in float64 is from the model's own output, on the music, and from its float32 cascade."""
    x = source.effect(path.parent.name.rpartition("-")[0]).loops[0]
    return {"run": path.parent.name, **figures.pipeline_errors_db(model, x)}


def draw(source: data.Source, folder: Path) -> None:
    """Losses of the paper's runs; excerpts and phases of the exact ones."""
    runs = {
        path.parent.name: logging.read_metrics(path)
        for path in sorted(folder.glob("paper/*-0/metrics.jsonl"))
        if path.parent.name.split("-")[0] in source.names and "-epochs" not in path.parent.name
    }
    if runs:
        relative = {
            name: [{**one, RELATIVE: one["loss"] / records[0]["loss"]} for one in records]
            for name, records in runs.items()
        }
        pictures.losses(relative, folder / "losses.svg", metric=RELATIVE)
    pairs, phases = [], []
    for name in source.names:
        model = exact_model(folder, name)
        if model is not None:
            effect = source.effect(name)
            dry, wet = effect.loops
            pairs.append(pictures.Excerpts(name, dry, wet, model.apply(dry), config.FS))
            phases.append(
                pictures.Phase(name, *effect.sweep, config.FS, {"exact": model, **paper_models(folder, name)})
            )
    if pairs:
        pictures.alignment(pairs, folder / "alignment.png")
        pictures.phase(phases, folder / "phase.svg")


def paper_models(folder: Path, effect: str) -> dict[str, Alignment]:
    """The paper's models of a device, of the first seed."""
    found = {}
    for loss in config.LOSSES:
        path = folder / "paper" / f"{effect}-sequential-{loss}-0" / "model.json"
        if path.exists():
            found[f"paper, {loss}"] = Alignment.load(path)
    return found


def listen(source: data.Source, folder: Path) -> None:
    """The mixes, clean and compensated, and the page."""
    effects = []
    for name in source.names:
        model = exact_model(folder, name)
        if model is not None:
            dry, wet = source.effect(name).loops
            effects.append(listening.Effect(name, dry, wet, model.apply(dry), config.FS))
    if effects:
        listening.write_page(folder / "listening", "Dry and wet together", effects, segments=source.segments)


if __name__ == "__main__":
    sys.exit(main())
