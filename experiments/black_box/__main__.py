"""Train BiasNets on devices, and compare: `python -m experiments.black_box [--data DIR] [--protocol P]`.

`--protocol paper` trains as Bargum et al. 2023 did, `--protocol exact` (the default) through the recursion
over the whole sweep. Every run is kept in a folder of its own and is not repeated; a killed one of the
paper's goes on from its last checkpoint. Tables and pictures are made of all runs in the folder.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jaxapf
from experiments.black_box import config, data, evaluate, listening, summary, train
from experiments.common import runner, tables
from experiments.common.runner import show_progress
from jaxapf import Alignment, audio
from jaxapf.training import logging

EXTRA = ("speed", "ladder", "known")
RELATIVE = "loss, over the first"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    about = "Train all-pass cascades on devices, as the paper did and through the exact recursion."
    parser = runner.make_parser("black_box", about)
    add = parser.add_argument
    add("--data", type=Path, metavar="DIR", help="recorded devices; without it, the embedded ones")
    add("--protocol", choices=("paper", "exact"), default="exact", help="default: %(default)s")
    add("--effects", type=runner.listed(), metavar="NAMES", help="devices to train; default: all")
    models, losses = config.MODELS, config.LOSSES
    add("--models", type=runner.listed(models), default=models, metavar="NAMES", help=",".join(models))
    add(
        "--losses",
        type=runner.listed(losses),
        default=losses,
        metavar="NAMES",
        help=f"{','.join(losses)} (paper)",
    )
    add("--seeds", type=runner.whole_list, default=config.SEEDS, metavar="N,N", help="default: 0,1,2 (paper)")
    add("--epochs", type=runner.whole(), default=config.EPOCHS, help="default: %(default)s (paper)")
    add("--power", type=runner.whole(1, 2), default=config.POWER, help="of the M-STFT loss: %(default)s")
    add("--fraction", type=runner.positive(1), default=config.FRACTION, help="of the bins: %(default)s")
    add(
        "--figures",
        type=runner.listed(EXTRA),
        default=(),
        metavar="NAMES",
        help=f"measure too: {','.join(EXTRA)}",
    )
    add(
        "--export",
        action="store_true",
        help="write the exact models as sections, and check them",
    )
    add(
        "--listen",
        action="store_true",
        help="write mixes and a page to compare them",
    )
    runner.add_folder(parser, "black_box")
    runner.add_update(parser, "black_box")
    return runner.run(parser, argv, work, advice="what is done is kept; started again it goes on from there")


def work(args: argparse.Namespace) -> None:
    """Train what has no result yet, measure, and make tables and pictures."""
    import experiments.black_box.figures  # noqa: F401 (needs matplotlib: found out before the work)

    kind = "embedded" if args.data is None else "recorded"
    tables.check(args.update, summary.MARKERS[kind])
    source = data.embedded() if args.data is None else data.recorded(args.data)
    names = chosen(args.effects, source.names)
    folder = args.folder / kind
    folder.mkdir(exist_ok=True)
    for name in names:
        one_effect(args, source.effect(name), folder)
    for name in args.figures:
        measure(name, source.effect(names[0]), folder)
    finish(args, source, folder)


def chosen(wanted: Sequence[str] | None, known: list[str]) -> list[str]:
    """Return the devices to train.

    Raises:
        ValueError: one is unknown.
    """
    for name in wanted or ():
        if name not in known:
            raise ValueError(f"argument --effects: '{name}' is none of {', '.join(known)}")
    return list(wanted or known)


# Runs


def one_effect(args: argparse.Namespace, effect: data.Effect, folder: Path) -> None:
    """Do all runs of a device that have no result yet."""
    reference(effect, folder / "reference" / effect.name)
    if args.protocol == "exact":
        for model in args.models:
            exact(effect, model, folder / "exact" / f"{effect.name}-{model}")
        return
    objectives = [
        train.Objective(name, args.power, args.fraction) if name == "mstft" else train.Objective(name)
        for name in args.losses
    ]
    for seed in args.seeds:
        for objective in objectives:
            for model in args.models:
                run = train.Run(effect.name, model, objective, seed)
                paper(effect, run, args.epochs, folder / "paper")


def is_done(folder: Path, effect: data.Effect) -> bool:
    """Check whether a run has its result already.

    Raises:
        ValueError: it has one of other recordings.
    """
    result = summary.read(folder)
    if result is not None and result["recordings"] != effect.fingerprint:
        raise ValueError(
            f"'{folder}' holds the result of other recordings than those of '{effect.name}' now; "
            "give another --folder, or take that one away"
        )
    return result is not None


def reference(effect: data.Effect, folder: Path) -> None:
    """Measure the dry signal, the bound, and `align` with the same order."""
    if is_done(folder, effect):
        return
    show_progress(f"{effect.name}: align")
    started = time.perf_counter()
    found = jaxapf.align(*effect.sweep, config.FS, order=config.ORDER)
    result = {
        "raw": evaluate.errors(None, effect.loops),
        "bound": jaxapf.metrics.phase_only_bound(*effect.loops, config.FS),
        "seconds": time.perf_counter() - started,
    }
    keep(folder, effect, found, result)


def exact(effect: data.Effect, model: str, folder: Path) -> None:
    """Train on the whole sweep in one recursion, from the spectral start."""
    if is_done(folder, effect):
        return
    show_progress(f"{effect.name}, {model}, exact")
    started = time.perf_counter()
    found = jaxapf.align(*effect.sweep, config.FS, order=config.ORDER, method=f"biasnet-{model}")
    keep(folder, effect, found, {"seconds": time.perf_counter() - started})


def paper(effect: data.Effect, run: train.Run, epochs: int, parent: Path) -> None:
    """Train as in the paper."""
    folder = parent / run.name_of(epochs)
    if is_done(folder, effect):
        return
    show_progress("")
    started = time.perf_counter()
    found = train.train_one(run, effect.sweep, folder, epochs=epochs, recordings=effect.fingerprint)
    seconds = time.perf_counter() - started
    records = logging.read_metrics(folder / "metrics.jsonl")
    result = {name: records[-1][name] for name in ("step", "loss", "skipped")}
    keep(folder, effect, found, {**result, "seconds": seconds, "epochs": epochs})
    shutil.rmtree(folder / "checkpoints")


def keep(folder: Path, effect: data.Effect, found: Alignment, result: dict[str, Any]) -> None:
    """Write a model and, last, its result: a run with one is done."""
    folder.mkdir(parents=True, exist_ok=True)
    errors = evaluate.errors(found, effect.loops)
    dataclasses.replace(found, metrics={**found.metrics, "esr_unseen": errors["esr"]}).save(
        folder / "model.json"
    )
    result = {**result, **errors, "recordings": effect.fingerprint}
    tables.write_json(folder / "result.json", result)


def measure(name: str, effect: data.Effect, folder: Path) -> None:
    """Measure one of the figures beside the table."""
    show_progress(name)
    if name == "speed":
        found = evaluate.speed(effect.sweep)
    elif name == "known":
        found = evaluate.known_answer()
    else:
        model = exact_model(folder, effect.name)
        if model is None:
            raise ValueError(
                f"the ladder of '{effect.name}' ends at its exact model; run --protocol exact first"
            )
        found = evaluate.ladder(effect.name, effect.sweep, effect.loops, model)
    tables.write_json(folder / f"{name}.json", found)


# Tables, pictures, page


def finish(args: argparse.Namespace, source: data.Source, folder: Path) -> None:
    """Make tables, pictures, exports and the page of all runs in the folder."""
    show_progress("tables and pictures")
    models = exact_models(folder, source.names)
    if args.export:
        for path, model in models.items():
            tables.write_json(path.with_name("sections.json"), evaluate.export(model))
    pipelines = [pipeline_row(source, path, model) for path, model in models.items()] if args.export else []
    if pipelines:
        tables.write_json(folder / "pipeline.json", pipelines)
    draw(source, folder)
    if args.listen:
        listen(source, folder)
    texts = dict(zip(summary.MARKERS[folder.name], summary.markdown(folder, source.names), strict=True))
    audio.write_text(folder / "tables.md", "\n".join(texts.values()))
    tables.put(args.update, texts)
    show_progress("")
    print("\n".join(texts.values()), end="")


def exact_models(folder: Path, effects: list[str]) -> dict[Path, Alignment]:
    """Load the exact models of these devices, by their files."""
    paths = (
        folder / "exact" / f"{name}-{model}" / "model.json" for name in effects for model in config.MODELS
    )
    return {path: Alignment.load(path) for path in paths if path.exists()}


def exact_model(folder: Path, effect: str) -> Alignment | None:
    """Load the exact model of a device for pictures and mixes, the sequential one first."""
    paths = (folder / "exact" / f"{effect}-{model}" / "model.json" for model in config.MODELS)
    return next((Alignment.load(path) for path in paths if path.exists()), None)


def pipeline_row(source: data.Source, path: Path, model: Alignment) -> dict[str, Any]:
    """Compare SciPy in float64 with the model's own output on the music, and its float32 cascade."""
    x = source.effect(path.parent.name.rpartition("-")[0]).loops[0]
    return {"run": path.parent.name, **evaluate.pipeline_errors_db(model, x)}


def draw(source: data.Source, folder: Path) -> None:
    """Draw losses of the paper's runs; excerpts and phases of the exact ones."""
    from experiments.black_box import figures

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
        figures.losses(relative, folder / "losses.svg", metric=RELATIVE)
    pairs, phases = [], []
    for name in source.names:
        model = exact_model(folder, name)
        if model is not None:
            effect = source.effect(name)
            dry, wet = effect.loops
            pairs.append(figures.Excerpts(name, dry, wet, model.apply(dry), config.FS))
            phases.append(
                figures.Phase(name, *effect.sweep, config.FS, {"exact": model, **paper_models(folder, name)})
            )
    if pairs:
        figures.alignment(pairs, folder / "alignment.png")
        figures.phase(phases, folder / "phase.svg")


def paper_models(folder: Path, effect: str) -> dict[str, Alignment]:
    """Load the paper's models of a device, of the first seed."""
    found = {}
    for loss in config.LOSSES:
        path = folder / "paper" / f"{effect}-sequential-{loss}-0" / "model.json"
        if path.exists():
            found[f"paper, {loss}"] = Alignment.load(path)
    return found


def listen(source: data.Source, folder: Path) -> None:
    """Write the mixes, clean and compensated, and the page."""
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
