"""Compressors, known settings and devices: `python experiments/compressor/run.py PART`.

Parts: known, devices, folder, speed; see README.md and config.py. Each writes results/PART.json and PART.md
beside this file, pictures and the page to listen as well; `--update README.md` puts the tables between that
file's markers.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.runner import (
    Row,
    check_folder,
    exit_code,
    made_with,
    put_tables,
    show_progress,
    table,
    verdict,
)
from experiments.compressor import config, known, speed, training
from jaxapf import audio, datasets, metrics, report
from jaxapf._internal import files
from jaxapf.effects.modelling import compressor as modelling

RESULTS = Path(__file__).with_name("results")
DRY = "mix_dry.flac"


# Recordings


def read_mono(path: Path) -> tuple[np.ndarray, int]:
    """A recording (n_samples,) float64, several channels averaged."""
    x, fs = audio.read(path)
    return np.asarray(np.mean(x, axis=0, dtype=np.float64)), fs


def cut(n_samples: int) -> tuple[slice, slice]:
    """What is trained on, and what it is tested on."""
    first = int(n_samples * config.TRAINED_PART)
    return slice(0, first), slice(first, n_samples)


# Known settings


def measure_known(folder: Path, steps: dict[str, int], seconds: float) -> Row:
    """Every setting learnt in both forms and tested in both."""
    dry, fs = read_mono(folder / DRY)
    dry = dry[: round(seconds * fs)]
    before, after = cut(len(dry))
    run, rows, found, runs = training.tester(fs), [], [], {}
    for name, settings in config.KNOWN.items():
        wet = known.render(settings, dry, fs)
        for form in config.FORMS:
            began = time.process_time()
            result = training.trained(dry[before], wet[before], fs, form, steps[form], name)
            seconds = time.process_time() - began
            errors = {
                tested: metrics.esr(run(result.weights, dry, tested)[after], wet[after])
                for tested in config.FORMS
            }
            row = {"settings": name, "trained in": form}
            row |= {f"ESR, tested in {tested}, %": 100 * error for tested, error in errors.items()}
            rows.append(row | {"steps": steps[form], "skipped": result.skipped, "processor s": seconds})
            values = training.named(training.controls_of(result.weights))
            truth = settings._asdict()
            truth["average_ms"] = known.time_ms(truth.pop("average"), fs)
            found.append({"settings": name, "trained in": form, **parameters(values, truth)})
            runs[f"{name}, {form}"] = {"records": result.records, "values": values, "truth": truth}
    return {"made_with": made_with(), "rows": rows, "parameters": found, "runs": runs, "fs": fs}


def parameters(values: dict[str, float], truth: dict[str, float]) -> Row:
    """What was found, and the largest relative error (decibels of the make-up: to 20 dB, a tenth)."""
    row: Row = dict(values)
    scale = {name: abs(value) if name != "makeup_db" else 20.0 for name, value in truth.items()}
    errors = {name: abs(values[name] - truth[name]) / scale[name] for name in values}
    worst = max(errors, key=lambda name: errors[name])
    return row | {"worst, %": 100 * errors[worst], "worst is": worst}


def known_goals(results: Row) -> list[Row]:
    """Errors of what was trained and tested as recursion, parameters within 2 %, no step lost."""
    goals = []
    for row, found in zip(results["rows"], results["parameters"], strict=True):
        if row["trained in"] == "recursion":
            limit = 100 * config.GOALS["known"]
            error = row["ESR, tested in recursion, %"]
            text = f"{row['settings']} at most {limit:g} %"
            goals.append({"goal": text, "value": error, "met": error <= limit})
            limit, error = 100 * config.GOALS["parameters"], found["worst, %"]
            text = f"{row['settings']}: every parameter within {limit:g} %"
            goals.append({"goal": text, "value": error, "met": error <= limit})
    lost = sum(row["skipped"] for row in results["rows"])
    goals.append({"goal": "no step lost to a NaN", "value": lost, "met": lost == 0})
    return goals


def known_markdown(results: Row) -> str:
    """Tables of the known settings."""
    parts = [results["made_with"], table(results["rows"], cell), table(results["parameters"], cell)]
    return "\n\n".join([*parts, verdict(known_goals(results), cell)]) + "\n"


def draw_known(results: Row, folder: Path, data: Path) -> None:
    """Loss curves of all trainings, and the gains that they ended with against the true ones."""
    runs = {name: run["records"] for name, run in results["runs"].items()}
    curves = {
        name: [{"step": record["step"], "loss": record["loss"]} for record in records]
        for name, records in runs.items()
    }
    report.plot_losses(curves, folder / "loss.svg", title="Mean absolute error after the pre-filter")
    panels = known_gains(results, data)
    draw_gains(panels, folder / "known.svg")


def known_gains(results: Row, data: Path) -> list[Row]:
    """A panel a setting: title, rate, the true gain in dB and those learnt."""
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
    """The gain of a compressor, make-up included, by the plain loop."""
    return 20 * np.log10(known.gains(settings, dry, fs)) + settings.makeup_db


def draw_gains(panels: Sequence[Row], path: Path) -> None:
    """Gains over time, where matplotlib is installed."""
    try:
        from experiments.compressor import pictures
    except ImportError as error:
        print(f"no picture: {error} (pip install 'jaxapf[plot]')", file=sys.stderr)
        return
    pictures.gains([pictures.Gains(**panel) for panel in panels], config.MOMENT_S, path)


# Devices


def measure_devices(folder: Path, seconds: float) -> tuple[Row, list[Row]]:
    """Every device fitted on the first part; the table, and what pictures and page need."""
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
    """Kind and controls of what was fitted."""
    controls = fitted.controls._asdict()
    kind = f"{fitted.options['detector']}, {fitted.options['smoothing']}"
    return {"detector, smoothing": kind, **controls}


def progress(name: str) -> Callable[[dict[str, Any]], None]:
    """Show the steps of a fit on a terminal."""
    return lambda record: show_progress(
        f"{name}: {record['stage']}, {record['kind']}, step {record['step']}, ESR {record['esr']:.2e}"
    )


def one_gain(dry: np.ndarray, wet: np.ndarray) -> float:
    """What the best constant gain leaves."""
    return metrics.esr(np.vdot(dry, wet) / np.vdot(dry, dry) * dry, wet)


def device_goals(results: Row) -> list[Row]:
    """At most 1 % on what was not seen."""
    limit = 100 * config.GOALS["devices"]
    return [
        {
            "goal": f"{row['device']} at most {limit:g} %",
            "value": row["ESR, unseen, %"],
            "met": row["ESR, unseen, %"] <= limit,
        }
        for row in results["rows"]
    ]


def turned(rows: Sequence[Row]) -> list[Row]:
    """A row a quantity, a column a device: wide tables become long ones."""
    names = [row["device"] for row in rows]
    return [
        {"": key, **{name: cell(key, row[key]) for name, row in zip(names, rows, strict=True)}}
        for key in rows[0]
        if key != "device"
    ]


def devices_markdown(results: Row) -> str:
    """The devices side by side."""
    long = table(turned(results["rows"]), lambda column, value: str(value))
    return "\n\n".join([results["made_with"], long, verdict(device_goals(results), cell)]) + "\n"


def draw_devices(shown: Sequence[Row], folder: Path) -> None:
    """Gain curves and the page to listen."""
    from experiments.compressor import listening

    entries = []
    for one in shown:
        _, part = cut(len(one["dry"]))
        sounds = {"dry": one["dry"], "device": one["wet"], "ours": one["ours"]}
        sounds["difference"] = one["ours"] - one["wet"]
        entries.append(
            {
                "name": one["name"],
                "about": f"{one['about']}. The last third, which the fit has not seen.",
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
    """Gain from x to y, NaN where x is hardly anything; neighbours of 2 ms share one."""
    power, cross = (np.convolve(values, np.ones(config.SHARED), "same") for values in (x * x, x * y))
    known_db = power > config.SHARED * 10 ** (config.QUIET_DB / 10)
    gain = np.abs(cross) / np.where(known_db, power, 1.0)
    return np.where(known_db, 20 * np.log10(np.maximum(gain, 1e-6)), np.nan)


# A folder of SignalTrain


def measure_folder(folder: Path) -> Row:
    """Every pair fitted on its first part and tested on the rest."""
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
    """A row a recording."""
    return "\n\n".join([results["made_with"], table(results["rows"], cell)]) + "\n"


# Speed


def measure_speed(repeats: int) -> Row:
    """The table, and what it is to show."""
    return {"made_with": made_with(), "rows": speed.measure(repeats)}


def speed_goals(results: Row) -> list[Row]:
    """At least twice as fast, shape by shape."""
    goals = []
    for row in results["rows"]:
        for peer in ("sampling", "torchcomp"):
            ratio = row[f"{peer} / recursion"]
            if ratio is not None:
                text = f"{row['signals']} x {row['samples']}: at least 2 times as fast as {peer}"
                goals.append({"goal": text, "value": ratio, "met": ratio >= config.GOALS["speed"]})
    return goals


def speed_markdown(results: Row) -> str:
    """A row a shape."""
    return (
        "\n\n".join([results["made_with"], table(results["rows"], cell), verdict(speed_goals(results), cell)])
        + "\n"
    )


# Output


def cell(column: str, value: Any) -> str:
    """A value as the tables show it."""
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


def plain(value: Any) -> Any:
    """The same with None for numbers that JSON does not have."""
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def measure(arguments: argparse.Namespace) -> str:
    """Do one part, write its results, return its tables."""
    part, shown = arguments.part, []
    if part == "known":
        steps = {form: min(config.STEPS[form], arguments.steps or 10**9) for form in config.FORMS}
        results = measure_known(arguments.data, steps, arguments.seconds)
    elif part == "devices":
        results, shown = measure_devices(arguments.data, arguments.seconds)
    elif part == "folder":
        results = measure_folder(arguments.data)
    else:
        results = measure_speed(arguments.repeats)
    text = {
        "known": known_markdown,
        "devices": devices_markdown,
        "folder": folder_markdown,
        "speed": speed_markdown,
    }[part](results)
    files.write_text(RESULTS / f"{part}.json", json.dumps(plain(results), indent=1, allow_nan=False) + "\n")
    files.write_text(RESULTS / f"{part}.md", text)
    if part == "known":
        draw_known(results, RESULTS, arguments.data)
    elif part == "devices":
        draw_devices(shown, RESULTS)
    return text


# The program


def whole(text: str) -> int:
    """A whole number of one or more, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number of 1 or more")
    return int(text)


def positive(text: str) -> float:
    """A number above 0, for argparse."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not number > 0:
        raise argparse.ArgumentTypeError(f"'{text}' is no number above 0")
    return number


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the arguments; wrong ones end the program with exit code 2."""
    parser = argparse.ArgumentParser(description="Compressors: known settings, devices, speed.")
    parser.add_argument("part", choices=("known", "devices", "folder", "speed"))
    parser.add_argument("folder", nargs="?", type=Path, help="of SignalTrain LA-2A, with the part 'folder'")
    parser.add_argument("--data", type=Path, help=f"folder with {DRY} and the devices' mix_NAME_wet.flac")
    parser.add_argument("--steps", type=whole, help="of training at most; default: config.py")
    parser.add_argument("--seconds", type=positive, default=math.inf, help="of the recordings at most")
    parser.add_argument("--repeats", type=whole, default=config.REPEATS, help="of a timing")
    parser.add_argument("--update", type=Path, metavar="README.md", help="file to put the tables into")
    arguments = parser.parse_args(argv)
    if arguments.part == "folder":
        arguments.data = arguments.folder or arguments.data
    if arguments.part != "speed" and arguments.data is None:
        parser.error(f"the part '{arguments.part}' needs a folder of recordings")
    if math.isinf(arguments.seconds):
        arguments.seconds = 1e6
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write results/, update a README; 0, or 2 with a sentence for what the user can mend."""
    arguments = parse(argv)
    return exit_code(lambda: run(arguments))


def run(arguments: argparse.Namespace) -> None:
    """Measure, write, draw, as asked for."""
    if arguments.update is not None:
        put_tables(arguments.update, None, arguments.part)
    check_folder(RESULTS)
    text = measure(arguments)
    show_progress("")
    if arguments.update is not None:
        put_tables(arguments.update, text, arguments.part)
    print(text, end="")


if __name__ == "__main__":
    sys.exit(main())
