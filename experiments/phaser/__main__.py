"""Train, fit and measure phasers: `python -m experiments.phaser train|fit|speed|report`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.common import runner, tables
from experiments.phaser import config, data, evaluate, fits, known, listening, speed
from experiments.phaser import train as learning
from jaxapf import audio
from jaxapf.effects import phaser
from jaxapf.report import plot_losses


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = runner.make_parser("phaser", "Train, fit and measure phasers.")
    commands = parser.add_subparsers(required=True)
    common, sources = (argparse.ArgumentParser(add_help=False) for _ in range(2))
    runner.add_folder(common, "phaser")
    source = sources.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, metavar="DIR", help="recordings, with phaser/ in it")
    source.add_argument("--small-stone", type=Path, metavar="DIR", help="or the public set")
    sources.add_argument("--steps", type=runner.whole(), default=config.STEPS, help="of training")
    sources.add_argument("--seeds", type=runner.whole(), default=config.SEEDS, help="of starts")
    less = "starts besides with less information"
    sources.add_argument("--random", type=runner.whole(0), default=config.RANDOM, help=less)
    runner.add_command(commands, "train", train, "Train what has no result yet.", common, sources)
    runner.add_command(commands, "fit", fit, "Run fit_phaser, and fit other layouts.", common, sources)
    command = runner.add_command(commands, "speed", measure_speed, "Time a training step.", common)
    command.add_argument("--seconds", type=runner.positive(1e6), default=config.TRAIN_S, help="of signal")
    command.add_argument("--rounds", type=runner.whole(), default=config.ROUNDS)
    command = runner.add_command(commands, "report", report, "Make tables and pictures.", common, sources)
    runner.add_update(command, "phaser")
    return runner.run(parser, argv)


def devices_of(args: argparse.Namespace) -> list[data.Device]:
    """Return the devices: recordings of a folder, and known phasers beside the shared ones."""
    if args.small_stone is not None:
        return data.small_stone(args.small_stone)
    return [*data.shared(args.data), *data.targets(args.data)]


def jobs_of(devices: Sequence[data.Device], seeds: int, random: int) -> list[learning.Job]:
    """Return all trainings, those of one seed together; last those from starts with less information."""
    every = [(device, form) for device in devices for form in learning.forms(device)]
    jobs = [learning.Job(device, form, seed) for seed in range(seeds) for device, form in every]
    recorded = [device for device in devices if device.truth is None]
    return jobs + [
        learning.Job(device, learning.RECURSION, seed, start)
        for seed in range(random)
        for start in ("rate", "nothing")
        for device in recorded
    ]


def train(args: argparse.Namespace) -> None:
    """Train what has no result yet."""
    for job in jobs_of(devices_of(args), args.seeds, args.random):
        result = learning.trained(job, args.folder, args.steps)
        runner.show_progress("")
        loss, skipped = result["records"][-1]["loss"], result["skipped"]
        print(f"{job.name}: loss {loss:.3g}, {skipped} steps skipped, {result['seconds']:.0f} s", flush=True)


def fit(args: argparse.Namespace) -> None:
    """Run `fit_phaser` for every device; for recordings also fit other layouts."""
    for device in devices_of(args):
        found = fits.fitted(device, args.folder)
        if device.truth is None:
            fits.compared(device, args.folder)
        runner.show_progress("")
        stages, delay, esr = found["stages"], found["delay"], found["metrics"]["esr"]
        print(f"{device.name}: {stages} stages, delay {delay}, training ESR {100 * esr:.3g} %", flush=True)


def measure_speed(args: argparse.Namespace) -> None:
    """Time one training step, kept for the report."""
    rows = speed.measured(args.seconds, rounds=args.rounds)
    tables.write_json(args.folder / "speed.json", rows)
    print(tables.table(rows, evaluate.cell))


# The report


def report(args: argparse.Namespace) -> None:
    """Make tables, pictures and the page of all results in the folder."""
    tables.check(args.update, evaluate.MARKERS)
    devices = devices_of(args)
    recordings = [device for device in devices if device.truth is None]
    rows = evaluate.recorded(recordings, args.folder, args.steps, args.seeds)
    if not rows:
        raise ValueError(f"'{args.folder}' holds no results; the commands train and fit make them")
    known_rows = evaluate.targets(devices, args.folder, args.steps, args.seeds)
    speed_rows = evaluate.read_speed(args.folder)
    known_starts = evaluate.starts(recordings, args.folder, args.steps, args.random)
    parts = {
        "recordings": rows,
        "known": known_rows,
        "starts": known_starts,
        "devices": evaluate.found(recordings, args.folder),
        "layouts": evaluate.layouts(recordings, args.folder),
        "speed": speed_rows,
    }
    goals = evaluate.goals(rows, known_rows, speed_rows) if args.data is not None else []
    texts = evaluate.markdown(parts, goals, evaluate.counted(args.folder))
    tables.write_json(args.folder / "report.json", {"tables": parts, "goals": goals})
    audio.write_text(args.folder / "report.md", "\n".join(texts.values()))
    draw(args, devices)
    listen(args, recordings, rows)
    runner.show_progress("")
    tables.put(args.update, texts)
    print("\n".join(texts.values()), end="")


def models_of(args: argparse.Namespace, device: data.Device) -> dict[str, tuple[phaser.Controls, runner.Row]]:
    """Return controls by the way they were learnt, those of the first seed, with their results."""
    found = {}
    result = fits.read(device, args.folder)
    if result is not None:
        found[evaluate.FIT] = fits.controls_of(result), result
    for form in learning.forms(device):
        result = learning.result_of(learning.Job(device, form, 0), args.folder, args.steps)
        if result is not None:
            found[form] = phaser.controls_of(learning.weights_of(result)), result
    return found


def draw(args: argparse.Namespace, devices: Sequence[data.Device]) -> None:
    """Draw cutoffs over time, and losses."""
    panels, losses = [], {}
    for device in devices:
        models = models_of(args, device)
        n_samples = min(len(device.test_dry), round(config.PICTURE_S * device.fs))
        sweeps = {name: evaluate.cutoff_of(one, n_samples, device.fs) for name, (one, _) in models.items()}
        if device.truth is not None:
            sweeps["truth"] = known.cutoff_hz(device.truth, n_samples, device.fs)
        if sweeps:
            title = device.name.replace("_", " ")
            panels.append((title, sweeps, device.fs, n_samples / device.fs))
        if device.truth is None:
            losses |= {
                f"{device.name}, {name}": result["records"]
                for name, (_, result) in models.items()
                if "records" in result
            }
    try:
        from experiments.phaser import figures
    except ImportError as error:
        print(f"no picture: {error} (pip install 'jaxapf[plot]')", file=sys.stderr)
    else:
        figures.cutoffs([figures.Sweeps(*panel) for panel in panels], args.folder / "cutoff.svg")
    if losses:
        plot_losses(losses, args.folder / "losses.svg", title="Training ESR")


def listen(args: argparse.Namespace, recordings: Sequence[data.Device], rows: Sequence[runner.Row]) -> None:
    """Write the page: dry, device, fit, trained in recursion, and the window that is worst as recursion."""
    pieces = []
    for device in recordings:
        measured = {
            row["trained in"]: row["as recursion %"] for row in reversed(rows) if row["device"] == device.name
        }
        models = models_of(args, device)
        models = {name: one for name, one in models.items() if name in measured}
        windows = [name for name in models if name not in (evaluate.FIT, learning.RECURSION)]
        worst = max(windows, key=lambda name: measured[name], default=None)
        kept = slice(device.skip, device.skip + round(config.LISTEN_S * device.fs))
        versions = [
            listening.Version("dry", device.test_dry[kept], ""),
            listening.Version("the device", device.test_wet[kept], ""),
        ]
        for name in (evaluate.FIT, learning.RECURSION, worst):
            if name is None or name not in models:
                continue
            controls, result = models[name]
            made = result.get("settings", {}).get("read", result)
            sound = fits.predicted(controls, (made["stages"], made["delay"]), device, None)
            label = name if name == evaluate.FIT else f"trained in {name}"
            figure = f"ESR {evaluate.cell('', measured[name])} %"
            versions.append(listening.Version(label, sound[: kept.stop - kept.start], figure))
        length = min(len(version.sound) for version in versions)
        versions = [version._replace(sound=np.asarray(version.sound)[:length]) for version in versions]
        about = "All models run as recursion; the window is the one that does worst there."
        pieces.append(listening.Piece(device.name.replace("_", " "), about, versions, device.fs))
    listening.write_page(args.folder / "listening.html", "Phasers, learnt", pieces)


if __name__ == "__main__":
    sys.exit(main())
