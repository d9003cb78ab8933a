"""Measure known settings, devices, a folder of SignalTrain and the speed; make tables and pictures."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.runner import Row, show_progress
from experiments.common.tables import goal, made_with, table, verdict
from experiments.compressor import config, known, speed, train
from jaxapf import audio, datasets, metrics, report
from jaxapf.effects.modelling import compressor as modelling

DRY = "mix_dry.flac"


# Recordings


def read_mono(path: Path) -> tuple[np.ndarray, int]:
    """Read a recording (n_samples,) float64, several channels averaged."""
    x, fs = audio.read(path)
    return np.asarray(np.mean(x, axis=0, dtype=np.float64)), fs


def cut(n_samples: int) -> tuple[slice, slice]:
    """Return the samples that are trained on, and those of the test."""
    first = int(n_samples * config.TRAINED_PART)
    return slice(0, first), slice(first, n_samples)


# Known settings


def measure_known(folder: Path, steps: dict[str, int], seconds: float) -> Row:
    """Learn every setting in both forms and test it in both."""
    dry, fs = read_mono(folder / DRY)
    dry = dry[: round(seconds * fs)]
    before, after = cut(len(dry))
    run, rows, found, runs = train.tester(fs), [], [], {}
    for name, settings in config.KNOWN.items():
        wet = known.render(settings, dry, fs)
        for form in config.FORMS:
            began = time.process_time()
            result = train.trained(dry[before], wet[before], fs, form, steps[form], name)
            seconds = time.process_time() - began
            errors = {
                tested: metrics.esr(run(result.weights, dry, tested)[after], wet[after])
                for tested in config.FORMS
            }
            row = {"settings": name, "trained in": form}
            row |= {f"ESR, tested in {tested}, %": 100 * error for tested, error in errors.items()}
            rows.append(row | {"steps": steps[form], "skipped": result.skipped, "processor s": seconds})
            values = train.named(train.controls_of(result.weights))
            truth = settings._asdict()
            truth["average_ms"] = known.time_ms(truth.pop("average"), fs)
            found.append({"settings": name, "trained in": form, **parameters(values, truth)})
            runs[f"{name}, {form}"] = {"records": result.records, "values": values, "truth": truth}
    return {"made_with": made_with(), "rows": rows, "parameters": found, "runs": runs, "fs": fs}


def parameters(values: dict[str, float], truth: dict[str, float]) -> Row:
    """Return the estimates and their largest relative error (decibels of the make-up: of 20 dB)."""
    row: Row = dict(values)
    scale = {name: abs(value) if name != "makeup_db" else 20.0 for name, value in truth.items()}
    errors = {name: abs(values[name] - truth[name]) / scale[name] for name in values}
    worst = max(errors, key=lambda name: errors[name])
    return row | {"worst, %": 100 * errors[worst], "worst is": worst}


def known_goals(results: Row) -> list[Row]:
    """Return the goals: errors in the recursion, parameters within 2 %, no step lost."""
    goals = []
    for row, found in zip(results["rows"], results["parameters"], strict=True):
        if row["trained in"] == "recursion":
            limit = 100 * config.GOALS["known"]
            error = row["ESR, tested in recursion, %"]
            text = f"{row['settings']} at most {limit:g} %"
            goals.append(goal(text, error, error <= limit))
            limit, error = 100 * config.GOALS["parameters"], found["worst, %"]
            text = f"{row['settings']}: every parameter within {limit:g} %"
            goals.append(goal(text, error, error <= limit))
    lost = sum(row["skipped"] for row in results["rows"])
    return [*goals, goal("no step lost to a NaN", lost, lost == 0)]


def known_markdown(results: Row) -> str:
    """Return the tables of the known settings."""
    parts = [results["made_with"], table(results["rows"], cell), table(results["parameters"], cell)]
    return "\n\n".join([*parts, verdict(known_goals(results), cell)]) + "\n"


def draw_known(results: Row, folder: Path, data: Path) -> None:
    """Draw the loss of all trainings, and the gains that they ended with against the true ones."""
    runs = {name: run["records"] for name, run in results["runs"].items()}
    curves = {
        name: [{"step": record["step"], "loss": record["loss"]} for record in records]
        for name, records in runs.items()
    }
    report.plot_losses(curves, folder / "loss.svg", title="Mean absolute error after the pre-filter")
    panels = known_gains(results, data)
    draw_gains(panels, folder / "known.svg")


def known_gains(results: Row, data: Path) -> list[Row]:
    """Return a panel a setting: title, rate, the true gain in dB and those learnt."""
    dry, fs = read_mono(data / DRY)
    dry = dry[: math.ceil(config.MOMENT_S[1] * fs)]
    panels = []
    for name, settings in config.KNOWN.items():
        fitted = {}
        for form in config.FORMS:
            values = results["runs"][f"{name}, {form}"]["values"]
            average = known.coefficient(values["average_ms"], fs)
            learnt = {key: value for key, value in values.items() if key != "average_ms"}
            fitted[f"learnt in {form}"] = in_db(config.Known(**learnt, average=average), dry, fs)
        title = f"{name}: attack {settings.attack_ms:g} ms, release {settings.release_ms:g} ms"
        panels.append({"title": title, "fs": fs, "truth": in_db(settings, dry, fs), "fitted": fitted})
    return panels


def in_db(settings: config.Known, dry: np.ndarray, fs: float) -> np.ndarray:
    """Return the gain of a compressor in dB, make-up included, by the plain loop."""
    return 20 * np.log10(known.gains(settings, dry, fs)) + settings.makeup_db


def draw_gains(panels: Sequence[Row], path: Path) -> None:
    """Draw gains over time, where matplotlib is installed."""
    try:
        from experiments.compressor import figures
    except ImportError as error:
        print(f"no picture: {error} (pip install 'jaxapf[plot]')", file=sys.stderr)
        return
    figures.gains([figures.Gains(**panel) for panel in panels], config.MOMENT_S, path)


# Devices


def measure_devices(folder: Path, seconds: float) -> tuple[Row, list[Row]]:
    """Fit every device on the first part; return the table, and what pictures and page need."""
    dry, fs = read_mono(folder / DRY)
    dry = dry[: round(seconds * fs)]
    before, after = cut(len(dry))
    rows, shown = [], []
    for name, about in config.DEVICES.items():
        wet = read_mono(folder / f"{name}_wet.flac")[0][: len(dry)]
        began = time.process_time()
        fitted = modelling.fit_compressor(dry[before], wet[before], fs, on_record=progress(name))
        seconds = time.process_time() - began
        ours = modelling.render(fitted.controls, fitted.options, dry, fs).astype(np.float64)
        row = {"device": name, **device_row(fitted), "ESR, trained, %": 100 * fitted.metrics["esr"]}
        row["ESR, unseen, %"] = 100 * metrics.esr(ours[after], wet[after])
        row["ESR, one gain, %"] = 100 * one_gain(dry[after], wet[after])
        rows.append(row | {"processor s": seconds})
        shown.append(
            {"name": name, "about": about, "fs": fs, "row": row, "dry": dry, "wet": wet, "ours": ours}
        )
    return {"made_with": made_with(), "rows": rows}, shown


def device_row(fitted: modelling.Fitted) -> Row:
    """Return kind and controls of a fit."""
    controls = fitted.controls._asdict()
    kind = f"{fitted.options['detector']}, {fitted.options['smoothing']}"
    return {"detector, smoothing": kind, **controls}


def progress(name: str) -> Callable[[dict[str, Any]], None]:
    """Show the steps of a fit on a terminal."""
    return lambda record: show_progress(
        f"{name}: {record['stage']}, {record['kind']}, step {record['step']}, ESR {record['esr']:.2e}"
    )


def one_gain(dry: np.ndarray, wet: np.ndarray) -> float:
    """Return the error-to-signal ratio after the best constant gain."""
    return metrics.esr(np.vdot(dry, wet) / np.vdot(dry, dry) * dry, wet)


def device_goals(results: Row) -> list[Row]:
    """Return the goals: at most 1 % on the unseen part."""
    limit = 100 * config.GOALS["devices"]
    errors = {row["device"]: row["ESR, unseen, %"] for row in results["rows"]}
    return [goal(f"{name} at most {limit:g} %", error, error <= limit) for name, error in errors.items()]


def transposed(rows: Sequence[Row]) -> list[Row]:
    """Transpose a table: a row a quantity, a column a device."""
    names = [row["device"] for row in rows]
    return [
        {"": key, **{name: cell(key, row[key]) for name, row in zip(names, rows, strict=True)}}
        for key in rows[0]
        if key != "device"
    ]


def devices_markdown(results: Row) -> str:
    """Return the table of the devices side by side."""
    long = table(transposed(results["rows"]), lambda column, value: str(value))
    return "\n\n".join([results["made_with"], long, verdict(device_goals(results), cell)]) + "\n"


def draw_devices(shown: Sequence[Row], folder: Path) -> None:
    """Draw gain curves and write the page to listen."""
    from experiments.compressor import listening

    entries = []
    for one in shown:
        _, part = cut(len(one["dry"]))
        sounds = {"dry": one["dry"], "device": one["wet"], "ours": one["ours"]}
        sounds["difference"] = one["ours"] - one["wet"]
        entries.append(
            {
                "name": one["name"],
                "about": f"{one['about']}. The last third, not used by the fit.",
                "fs": one["fs"],
                "sounds": {name: x[part] for name, x in sounds.items()},
                "figures": {"Error-to-signal ratio": f"{one['row']['ESR, unseen, %']:.2g} %"},
            }
        )
    listening.write_page(folder / "listening.html", "Compressors: device and fit", entries)
    panels = [
        {
            "title": f"{one['name']}: error-to-signal ratio {one['row']['ESR, unseen, %']:.2g} % unseen",
            "fs": one["fs"],
            "truth": gain_db(one["wet"], one["dry"]),
            "fitted": {"fitted": gain_db(one["ours"], one["dry"])},
        }
        for one in shown
    ]
    draw_gains(panels, folder / "gains.svg")


def gain_db(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the gain from x to y in dB over 2 ms, NaN where x is near silence."""
    power, cross = (np.convolve(values, np.ones(config.SHARED), "same") for values in (x * x, x * y))
    known_db = power > config.SHARED * 10 ** (config.QUIET_DB / 10)
    gain = np.abs(cross) / np.where(known_db, power, 1.0)
    return np.where(known_db, 20 * np.log10(np.maximum(gain, 1e-6)), np.nan)


# A folder of SignalTrain


def measure_folder(folder: Path) -> Row:
    """Fit every pair on its first part and test it on the rest."""
    rows = []
    for pair in datasets.signaltrain(folder):
        (dry, fs), (wet, wet_fs) = read_mono(pair.dry), read_mono(pair.wet)
        if fs != wet_fs:
            raise ValueError(f"'{pair.wet}' has {wet_fs} Hz and its input {fs}; export it at one rate")
        n = min(len(dry), len(wet))
        dry, wet, (before, after) = dry[:n], wet[:n], cut(n)
        fitted = modelling.fit_compressor(dry[before], wet[before], fs, on_record=progress(pair.wet.name))
        ours = modelling.render(fitted.controls, fitted.options, dry, fs)
        row = {"target": pair.wet.name, "limit": pair.limit, "peak reduction": pair.peak_reduction}
        row |= device_row(fitted) | {"ESR, unseen, %": 100 * metrics.esr(ours[after], wet[after])}
        rows.append(row | {"ESR, one gain, %": 100 * one_gain(dry[after], wet[after])})
    return {"made_with": made_with(), "rows": rows}


def folder_markdown(results: Row) -> str:
    """Return the table, a row a recording."""
    return "\n\n".join([results["made_with"], table(results["rows"], cell)]) + "\n"


# Speed


def measure_speed(repeats: int) -> Row:
    """Time every shape."""
    return {"made_with": made_with(), "rows": speed.measure(repeats)}


def speed_goals(results: Row) -> list[Row]:
    """Return the goals: at least twice as fast, shape by shape."""
    goals = []
    for row in results["rows"]:
        for peer in ("sampling", "torchcomp"):
            ratio = row[f"{peer} / recursion"]
            if ratio is not None:
                text = f"{row['signals']} x {row['samples']}: at least 2 times as fast as {peer}"
                goals.append(goal(text, ratio, ratio >= config.GOALS["speed"]))
    return goals


def speed_markdown(results: Row) -> str:
    """Return the table, a row a shape."""
    return (
        "\n\n".join([results["made_with"], table(results["rows"], cell), verdict(speed_goals(results), cell)])
        + "\n"
    )


# Output


def cell(column: str, value: Any) -> str:
    """Return a value as the tables show it."""
    if value is None:
        return "–"
    if not isinstance(value, float):
        return str(value)
    if value == 0:
        return "0"
    if column == "ratio" and value > 300:
        return "limiter"
    if 1e-2 <= abs(value) < 1e4:
        return f"{value:.4g}" if column.endswith(("_db", "_ms", "ratio")) else f"{value:.3g}"
    return f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e")
