"""Train one setting after the other; each result is kept, and a later run goes on there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common import tables
from experiments.common.runner import Row, check_steps, show_progress
from experiments.synth import config, data, protocol
from experiments.synth.protocol import RECURSION, Setting
from jaxapf import audio

FORMS = (RECURSION, *config.WINDOWS)
Sets = dict[str, dict[str, Any]]


def settings(sources: Sequence[str], seeds: int) -> Iterator[Setting]:
    """Give what is to be trained, the first seed of all before the second of any."""
    for seed in range(seeds):
        for source in sources:
            for filter_name in config.FILTERS:
                for form in FORMS:
                    yield Setting(source, filter_name, form, seed)


def run(
    wanted: Sequence[Setting],
    found: dict[str, data.Notes],
    steps: int,
    folder: Path,
) -> None:
    """Train what has no result yet; write of each NAME.json (figures) and NAME.npz (test notes).

    Raises:
        ValueError: a file that is there is of another number of steps.
    """
    sets = {name: sets_of(one) for name, one in found.items()}
    for number, setting in enumerate(wanted, 1):
        path = folder / f"{setting.name}.json"
        if path.is_file():
            check_steps(path, steps)
            continue

        def progress(record: Row, label: str = f"{number} of {len(wanted)}, {setting.name}") -> None:
            show_progress(f"{label}: step {record['step']} of {steps}, loss {record['loss']:.3f}")

        fitted = protocol.trained(setting, steps, sets[setting.notes], progress)
        test = sets[setting.notes]["test"]
        result, arrays = measured(setting, fitted, test, data.truth_of(setting.notes))
        with (
            audio.atomic_path(folder / f"{setting.name}.npz") as temporary,
            Path(temporary).open("wb") as file,
        ):
            np.savez_compressed(file, **arrays)
        tables.write_json(path, {**result, "steps": steps})


def sets_of(found: data.Notes) -> Sets:
    """Return training, validation and test notes, with their spectrograms."""
    rows = data.split(len(found.f0_hz))
    return {name: protocol.examples(data.chosen(found, which)) for name, which in rows.items()}


def measured(
    setting: Setting, fitted: protocol.Trained, test: dict[str, Any], truth: data.Truth | None
) -> tuple[Row, dict[str, Any]]:
    """Return losses of the test notes in all forms; rendered notes, and the cutoff of a low-pass."""
    losses, arrays = {}, {"target": np.asarray(test["audio"], np.float32)}
    for form in FORMS:
        found, each = protocol.rendered(setting.filter, form)(fitted.weights, test)
        losses[str(form)] = np.asarray(each).tolist()
        if form == setting.form:
            arrays["own"] = np.asarray(found, np.float32)
        if form == RECURSION:
            arrays["recursion"] = np.asarray(found, np.float32)
    result: Row = {
        "made_with": tables.made_with(),
        **setting._asdict(),
        "best_step": fitted.step,
        "skipped": fitted.records[-1]["skipped"],
        "seconds": fitted.records[-1]["seconds"],
        "validation": [record["validation"] for record in fitted.records],
        "training": [record["loss"] for record in fitted.records],
        "tested": losses,
    }
    if setting.filter == "lp":
        cutoff_hz, q = protocol.estimated_cutoff(fitted.weights, test)
        arrays |= {"cutoff_hz": cutoff_hz, "q": q}
        if truth is not None:
            result["known"] = recovered(cutoff_hz, q, truth, test["on_s"])
    return result, arrays


def recovered(cutoff_hz: np.ndarray, q: np.ndarray, truth: data.Truth, on_s: np.ndarray) -> Row:
    """Return the distance of cutoff and Q from the truth: octaves, while a note sounds, and a ratio."""
    rows = data.split(len(truth.q))["test"]
    time_s = np.arange(cutoff_hz.shape[-1]) * config.HOP / config.FS
    octaves = np.abs(np.log2(cutoff_hz / truth.cutoff_hz[rows]))[time_s < on_s[:, None]]
    return {
        "cutoff_octaves_median": float(np.median(octaves)),
        "cutoff_octaves_90": float(np.quantile(octaves, 0.9)),
        "q_ratio_median": float(np.exp(np.median(np.abs(np.log(q / truth.q[rows]))))),
    }
