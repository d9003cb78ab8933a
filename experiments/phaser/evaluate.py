"""Return the results as rows and as Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments.common.runner import Row, show_progress
from experiments.common.tables import goal, made_with, table, verdict
from experiments.phaser import config, fits, known
from experiments.phaser import train as training
from experiments.phaser.data import Device
from jaxapf.effects import phaser

FIT = "fit_phaser"
MARKERS = ("recordings", "known", "starts", "devices", "layouts", "speed")


# Rows


def recorded(devices: Sequence[Device], folder: Path, steps: int, seeds: int) -> list[Row]:
    """ESR on the unseen test in per cent: trained in a form, tested as recursion and in that form."""
    rows = []
    for device in devices:
        fit = fits.read(device, folder)
        if fit is not None:
            rows.append(_fit_row(device, fit))
        for seed in range(seeds):
            for form in training.forms(device):
                job = training.Job(device, form, seed)
                result = training.result_of(job, folder, steps)
                if result is not None:
                    rows.append(_trained_row(job, result))
    return rows


def _fit_row(device: Device, fit: Row) -> Row:
    show_progress(f"{device.name}: {FIT}")
    percent = 100 * fits.esr(fits.controls_of(fit), (fit["stages"], fit["delay"]), device, None)
    return {
        "device": device.name,
        "trained in": FIT,
        "seed": None,
        "training ESR %": 100 * fit["metrics"]["esr"],
        "as recursion %": percent,
        "in its own form %": percent,
        "largest p": None,
        "skipped": None,
        "paper %": _paper(device),
    }


def _paper(device: Device) -> str | None:
    low, high = config.PAPER.get(device.name, (None, None))
    return f"{low:g} to {high:g}" if low is not None else None


def _trained_row(job: training.Job, result: Row) -> Row:
    show_progress(f"{job.name}: testing")
    controls = phaser.controls_of(training.weights_of(result))
    layout = result["settings"]["read"]["stages"], result["settings"]["read"]["delay"]
    percent = 100 * fits.esr(controls, layout, job.device, None)
    own = percent
    if job.form != training.RECURSION:
        own = 100 * fits.esr(controls, layout, job.device, training.window_ms(job.form))
    return {
        "device": job.device.name,
        "trained in": job.form,
        "seed": job.seed,
        "training ESR %": 100 * result["records"][-1]["loss"],
        "as recursion %": percent,
        "in its own form %": own,
        "largest p": max(record["largest_p"] for record in result["records"]),
        "skipped": result["skipped"],
        "paper %": _paper(job.device),
    }


def starts(devices: Sequence[Device], folder: Path, steps: int, seeds: int) -> list[Row]:
    """What becomes of starts that know less, all trained in the exact recursion."""
    rows = []
    for device in devices:
        for kind in config.RATES:
            for seed in range(seeds):
                job = training.Job(device, training.RECURSION, seed, kind)
                result = training.result_of(job, folder, steps)
                if result is None:
                    continue
                row = _trained_row(job, result)
                kept = ("training ESR %", "as recursion %", "largest p", "skipped")
                rows.append(
                    {"device": device.name, "start knows": kind, "seed": seed, **{k: row[k] for k in kept}}
                )
    return rows


def targets(devices: Sequence[Device], folder: Path, steps: int, seeds: int) -> list[Row]:
    """Known phasers: ESR on the test, and what was found beside the truth."""
    rows = []
    for device in devices:
        if device.truth is None:
            continue
        fit = fits.read(device, folder)
        if fit is not None:
            rows.append(_target_row(device, FIT, fits.controls_of(fit), (fit["stages"], fit["delay"])))
        for seed in range(seeds):
            result = training.result_of(training.Job(device, training.RECURSION, seed), folder, steps)
            if result is not None:
                layout = result["settings"]["read"]["stages"], result["settings"]["read"]["delay"]
                controls = phaser.controls_of(training.weights_of(result))
                rows.append(_target_row(device, f"Adam, seed {seed}", controls, layout))
    return rows


def _target_row(device: Device, method: str, controls: phaser.Controls, layout: tuple[int, int]) -> Row:
    show_progress(f"{device.name}: {method}")
    truth = device.truth
    assert truth is not None
    around = float((controls.b.sum()) / (1 + controls.a.sum()))
    return {
        "target": truth.name,
        "method": method,
        "test ESR %": 100 * fits.esr(controls, layout, device, None),
        "layout": _pair(layout, (truth.stages, truth.delay), "{} stages, delay {}"),
        "rate (Hz)": f"{float(controls.rate_hz):.5f} ({truth.rate_hz:g})",
        "feedback": f"{float(controls.feedback):.4f} ({truth.feedback:g})",
        "through": f"{float(controls.through) * around:.4f} ({truth.through:g})",
        "cutoff, RMS error (cents)": cutoff_error_cents(device, controls),
    }


def _pair(found: Any, truth: Any, text: str) -> str:
    return text.format(*found) + ("" if found == truth else f" (**{text.format(*truth)}**)")


def cutoff_of(controls: phaser.Controls, n_samples: int, fs: float) -> np.ndarray:
    """Of the all-passes, Hz, `(n_samples,)`."""
    p = phaser.sweep(controls, 0, n_samples, fs)
    return np.asarray(phaser.cutoff_hz(jnp.asarray(p), fs), np.float64)


def cutoff_error_cents(device: Device, controls: phaser.Controls) -> float:
    """RMS distance of the cutoff from the true one over the test, in hundredths of a semitone."""
    truth = known.cutoff_hz(device.truth, len(device.test_dry), device.fs)  # pyright: ignore[reportArgumentType]
    found = cutoff_of(controls, len(device.test_dry), device.fs)
    return float(np.sqrt(np.mean((1200 * np.log2(found / truth)) ** 2)))


def layouts(devices: Sequence[Device], folder: Path) -> list[Row]:
    """What each layout leaves on the training signals."""
    rows = []
    for device in devices:
        path = folder / "layouts" / f"{device.name}.json"
        for row in json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []:
            rows.append(
                {
                    "device": device.name,
                    "stages": row["stages"],
                    "feedback delay": row["delay"],
                    "training ESR %": 100 * row["esr"],
                    "feedback": row["feedback"],
                    "rate (Hz)": row["rate_hz"],
                    "lowest cutoff (Hz)": row["low_hz"],
                    "highest (Hz)": row["high_hz"],
                }
            )
    return rows


def found(devices: Sequence[Device], folder: Path) -> list[Row]:
    """What the fit says that each device is, and how far its log cutoff is from a sine."""
    rows = []
    for device in devices:
        fit = fits.read(device, folder)
        if fit is None:
            continue
        controls = fits.controls_of(fit)
        around = float(controls.b.sum() / (1 + controls.a.sum()))
        # Half a turn of the oscillator, from one end to the other.
        still = controls._replace(rate_hz=jnp.float32(0.5), phase=jnp.float32(0), decay=jnp.float32(0))
        cutoff = cutoff_of(still, round(device.fs), device.fs)
        wave = np.stack([np.ones(len(cutoff)), np.cos(np.pi * np.arange(len(cutoff)) / device.fs)], axis=1)
        octaves = np.log2(cutoff)
        left = octaves - wave @ np.linalg.lstsq(wave, octaves, rcond=None)[0]
        rows.append(
            {
                "device": device.name,
                "stages": fit["stages"],
                "feedback": float(controls.feedback),
                "its delay": fit["delay"],
                "rate (Hz)": float(controls.rate_hz),
                "lowest cutoff (Hz)": float(cutoff.min()),
                "highest (Hz)": float(cutoff.max()),
                "from a sine in log f, median (cents)": float(1200 * np.median(np.abs(left))),
                "direct gain": float(controls.through) * around,
                "all-passed gain": around,
            }
        )
    return rows


def read_speed(folder: Path) -> list[Row]:
    """The rows of `speed.measured`, if it was run."""
    path = folder / "speed.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


# Goals


def goals(rows: Sequence[Row], known_rows: Sequence[Row], speed_rows: Sequence[Row]) -> list[Row]:
    """What the issue asks for, met or missed."""
    found = []
    for name, limit in config.GOALS.items():
        reached = [row["as recursion %"] for row in rows if row["device"] == name]
        if reached:
            text = f"{name}: ESR on the unseen guitar of {limit:g} % or less"
            found.append(goal(text, min(reached), min(reached) <= limit))
    for name in dict.fromkeys(row["target"] for row in known_rows):
        best = min(row["test ESR %"] for row in known_rows if row["target"] == name)
        text = f"known {name}: ESR of {config.GOAL_KNOWN:g} % or less"
        found.append(goal(text, best, best <= config.GOAL_KNOWN))
    skipped = [row["skipped"] for row in rows if row["skipped"] is not None]
    if skipped:
        found.append(goal("no step lost to a NaN", sum(skipped), not sum(skipped)))
    for row in speed_rows:
        if row["step"] in ("frequency sampling, 10 ms", "torchlpc, float32"):
            text = f"step {config.GOAL_SPEED:g} times as fast as {row['step']}"
            value = row["times the exact"]
            found.append(goal(text, value, value >= config.GOAL_SPEED))
    return found


# Markdown


def cell(column: str, value: Any) -> str:
    """A value as the tables show it.

    Example:
        >>> cell("as recursion %", 1.234567), cell("as recursion %", 1.2e-5), cell("seed", None)
        ('1.23', '1.2e-05', '–')
    """
    if value is None:
        return "–"
    if not isinstance(value, float):
        return str(value)
    if column in ("ms", "highest (Hz)", "lowest cutoff (Hz)"):
        return f"{value:.0f}"
    if column in ("rate (Hz)", "feedback", "largest p"):
        return f"{value:.4f}"
    return f"{value:.3g}" if abs(value) >= 1e-3 or value == 0 else f"{value:.1e}"


def counted(folder: Path) -> str:
    """All trainings that are kept, the steps they lost and the largest p they saw, in a sentence."""
    kept = [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted((folder / "trainings").glob("*.json"))
    ]
    steps, skipped = sum(one["settings"]["steps"] for one in kept), sum(one["skipped"] for one in kept)
    largest = max((record["largest_p"] for one in kept for record in one["records"]), default=0.0)
    return (
        f"{len(kept)} trainings, {steps} steps in float32, {skipped} of them lost; largest p {largest:.4f}."
    )


def markdown(parts: dict[str, list[Row]], goals: Sequence[Row], note: str = "") -> dict[str, str]:
    """Return the tables that have rows by the names of their markers; versions and goals with the first."""
    texts = {name: table(rows, cell) + "\n" for name, rows in parts.items() if rows}
    verdicts = f"\n{verdict(goals, cell)}\n" if goals else ""
    first = next(iter(texts))
    texts[first] = f"{f'{made_with()} {note}'.rstrip()}\n\n{texts[first]}{verdicts}"
    return texts
