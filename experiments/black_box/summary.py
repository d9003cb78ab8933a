"""Make the tables of the results in a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from experiments.black_box import config
from experiments.common.runner import Row
from experiments.common.tables import goal, made_with, table, verdict

METRICS = ("mae", "mse", "esr")
MARKERS = {
    "recorded": ("black-box", "black-box-more"),
    "embedded": ("black-box-embedded", "black-box-embedded-more"),
}


def markdown(folder: Path, effects: list[str]) -> tuple[str, str]:
    """Return the table of errors with the goals, and all other tables."""
    rows = [row for effect in effects for row in errors(folder, effect)]
    parts = [
        f"{made_with()} Unseen music; with several seeds the mean, and lowest to highest.",
        table(rows, cell),
        verdict(goals(folder, effects), cell),
    ]
    first, parts = "\n\n".join(parts) + "\n", []
    losses = [row for effect in effects for row in final_losses(folder, effect)]
    if losses:
        parts += ["### Final losses and times, protocol paper", table(losses, cell)]
    if variants := other_runs(folder, effects):
        parts += ["### Other options and lengths, protocol paper", table(variants, cell)]
    for name in ("speed", "ladder", "known"):
        path = folder / f"{name}.json"
        if path.exists():
            found = json.loads(path.read_text(encoding="utf-8"))
            parts += [f"### {name.capitalize()}", table(found["rows"], cell)]
            if found["goals"]:
                parts.append(verdict(found["goals"], cell))
    path = folder / "pipeline.json"
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
        worst = max(row["apply, dB"] for row in found)
        limit = config.PIPELINE_DB
        met = goal(f"SciPy's pipeline within {limit:g} dB of the model", worst, worst <= limit)
        parts += ["### Exported pipeline", table(found, cell), verdict([met], cell)]
    return first, "\n\n".join(parts) + "\n"


def read(path: Path) -> Row | None:
    """Read the result of a run."""
    path = path / "result.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def paper_runs(folder: Path, effect: str, model: str, loss: str) -> list[Row]:
    """Read the results of one cell of the paper's table, of all seeds, with default options."""
    start = f"{effect}-{model}-{loss}-"
    paths = [
        path for path in sorted(folder.glob(f"paper/{start}*")) if path.name.removeprefix(start).isdecimal()
    ]
    return [one for path in paths if (one := read(path)) is not None]


def errors(folder: Path, effect: str) -> list[Row]:
    """Return the paper's table 3, and below it the exact protocol."""
    reference = read(folder / "reference" / effect)
    if reference is None:
        return []
    rows = [_row(effect, "dry signal", "", [reference["raw"]])]
    for model in config.MODELS:
        for loss in config.LOSSES:
            found = paper_runs(folder, effect, model, loss)
            rows += [_row(effect, f"paper, {model}", loss, found)] if found else []
    for model in config.MODELS:
        found = read(folder / "exact" / f"{effect}-{model}")
        rows += [_row(effect, f"exact, {model}", "mse, whole", [found])] if found else []
    rows.append(_row(effect, f"align(order={config.ORDER})", "spectral", [reference]))
    rows.append(
        {
            "device": effect,
            "model": "phase-only bound",
            "loss": "",
            "MAE": "",
            "MSE": "",
            "ESR": reference["bound"],
        }
    )
    return rows


def _row(effect: str, model: str, loss: str, results: list[Row]) -> Row:
    return {"device": effect, "model": model, "loss": loss} | {
        name.upper(): spread([one[name] for one in results]) for name in METRICS
    }


def spread(values: list[float]) -> Any:
    """Return a number, or the mean of several with the lowest and the highest."""
    if len(values) == 1:
        return values[0]
    return f"{np.mean(values):.4f} ({min(values):.4f} to {max(values):.4f})"


def final_losses(folder: Path, effect: str) -> list[Row]:
    """Return the paper's table 2."""
    rows = []
    for model in config.MODELS:
        for loss in config.LOSSES:
            found = paper_runs(folder, effect, model, loss)
            if found:
                rows.append(
                    {
                        "device": effect,
                        "model": model,
                        "loss": loss,
                        "seeds": len(found),
                        "final loss": spread([one["loss"] for one in found]),
                        "seconds": float(np.median([one["seconds"] for one in found])),
                    }
                )
    return rows


def other_runs(folder: Path, effects: list[str]) -> list[Row]:
    """Return the runs of the paper's protocol with other options than the default ones."""
    usual = {
        f"{effect}-{model}-{loss}" for effect in effects for model in config.MODELS for loss in config.LOSSES
    }
    found = [path.parent for path in sorted(folder.glob("paper/*/result.json"))]
    rows = ((path.name, read(path)) for path in found if path.name.rpartition("-")[0] not in usual)
    return [
        {"run": name, "final loss": one["loss"], "ESR": one["esr"], "seconds": one["seconds"]}
        for name, one in rows
        if one is not None
    ]


def goals(folder: Path, effects: list[str]) -> list[Row]:
    """Return the goals: exact against align and against the paper's protocol."""
    found = []
    for effect in effects:
        reference = read(folder / "reference" / effect)
        best = min(
            (one["esr"] for model in config.MODELS if (one := read(folder / "exact" / f"{effect}-{model}"))),
            default=None,
        )
        if reference is None or best is None:
            continue
        aligned = reference["esr"]
        text = f"{effect}: no worse than align, {aligned:.4f}"
        found.append(goal(text, best, round(best, 4) <= round(aligned, 4)))
        paper = [
            one["esr"]
            for model in config.MODELS
            for loss in config.LOSSES
            for one in paper_runs(folder, effect, model, loss)
        ]
        if paper and min(paper) > config.LESS * reference["bound"]:
            text = f"{effect}: {config.LESS:g} times below the best of the paper's protocol, {min(paper):.4f}"
            found.append(goal(text, best, config.LESS * best <= min(paper)))
    return found


def cell(column: str, value: Any) -> str:
    """Return a value as the tables show it."""
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    if column in ("step", "median step", "compile"):
        return f"{value:.3f} s"
    if column == "seconds" or column.endswith("epochs"):
        return f"{value:.0f} s"
    if column.endswith("dB"):
        return f"{value:.1f}"
    return f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:.4f}"
