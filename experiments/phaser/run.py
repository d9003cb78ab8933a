"""Train, fit and measure phasers: `python experiments/phaser/run.py train|fit|speed|report --data DIR`.

README.md says what is done and what came out, config.py what to expect.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.common.runner import Row, check_folder, put_tables, show_progress
from experiments.phaser import config, data, fits, known, listening, pictures, speed, tables, training
from jaxapf._internal.files import reason, write_text
from jaxapf.effects import phaser
from jaxapf.report import plot_losses
from jaxapf.training.fit import TrainingError

RESULTS = Path(__file__).with_name("results")
MARKERS = "phaser"


def main(argv: Sequence[str] | None = None) -> int:
    """The command: 0, or 2 with one sentence for what the user can mend."""
    args = parse(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        check_folder(args.folder)
        args.run(args)
    except KeyboardInterrupt:
        show_progress("")
        print("run.py: interrupted; what was finished is kept", file=sys.stderr)
        return 130
    except (OSError, ValueError, TrainingError) as error:
        show_progress("")
        text = f"{error.filename}: {reason(error)}" if isinstance(error, OSError) else str(error)
        print(f"run.py: error: {text}", file=sys.stderr)
        return 2
    return 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the arguments; wrong ones end the program with exit code 2."""
    parser = argparse.ArgumentParser(description="Train, fit and measure phasers.")
    commands = parser.add_subparsers(required=True)
    parents = argparse.ArgumentParser(add_help=False)
    parents.add_argument(
        "--folder", type=Path, default=RESULTS, help="where results go; default: results/ beside this script"
    )
    sources = argparse.ArgumentParser(add_help=False)
    source = sources.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, metavar="DIR", help="shared recordings, with phaser/ in it")
    source.add_argument("--small-stone", type=Path, metavar="DIR", help="or the public set")
    sources.add_argument(
        "--steps", type=count, default=config.STEPS, help="of training; default: %(default)s"
    )
    sources.add_argument("--seeds", type=count, default=config.SEEDS, help="of starts; default: %(default)s")
    sources.add_argument(
        "--random",
        type=whole,
        default=config.RANDOM,
        help="starts besides that know less; default: %(default)s",
    )
    command = commands.add_parser("train", parents=[parents, sources], help="train what has no result yet")
    command.set_defaults(run=train)
    command = commands.add_parser("fit", parents=[parents, sources], help="fit_phaser, and other layouts")
    command.set_defaults(run=fit)
    command = commands.add_parser("speed", parents=[parents], help="one training step against two rivals")
    command.add_argument("--seconds", type=seconds, default=config.TRAIN_S, help="of signal: %(default)s")
    command.add_argument("--rounds", type=count, default=config.ROUNDS, help="default: %(default)s")
    command.set_defaults(run=measure_speed)
    command = commands.add_parser("report", parents=[parents, sources], help="tables, pictures, page")
    command.add_argument("--update", type=Path, metavar="README.md", help="file to put the tables into")
    command.set_defaults(run=report)
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


def seconds(text: str) -> float:
    """A number above 0, for argparse."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e6:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of seconds above 0")
    return number


def devices_of(args: argparse.Namespace) -> list[data.Device]:
    """What is learnt: the recordings of a folder, and known phasers beside the shared ones."""
    if args.small_stone is not None:
        return data.small_stone(args.small_stone)
    return [*data.shared(args.data), *data.targets(args.data)]


def jobs_of(devices: Sequence[data.Device], seeds: int, random: int) -> list[training.Job]:
    """All trainings, those of one seed together; last those from starts that know less."""
    every = [(device, form) for device in devices for form in training.forms(device)]
    jobs = [training.Job(device, form, seed) for seed in range(seeds) for device, form in every]
    recorded = [device for device in devices if device.truth is None]
    return jobs + [
        training.Job(device, training.RECURSION, seed, start)
        for seed in range(random)
        for start in ("rate", "nothing")
        for device in recorded
    ]


def train(args: argparse.Namespace) -> None:
    """Every training that has no result yet."""
    for job in jobs_of(devices_of(args), args.seeds, args.random):
        result = training.trained(job, args.folder, args.steps)
        show_progress("")
        loss, skipped = result["records"][-1]["loss"], result["skipped"]
        print(f"{job.name}: loss {loss:.3g}, {skipped} steps skipped, {result['seconds']:.0f} s", flush=True)


def fit(args: argparse.Namespace) -> None:
    """`fit_phaser` for every device; for recordings also what other layouts leave."""
    for device in devices_of(args):
        found = fits.fitted(device, args.folder)
        if device.truth is None:
            fits.compared(device, args.folder)
        show_progress("")
        stages, delay, esr = found["stages"], found["delay"], found["metrics"]["esr"]
        print(f"{device.name}: {stages} stages, delay {delay}, training ESR {100 * esr:.3g} %", flush=True)


def measure_speed(args: argparse.Namespace) -> None:
    """One training step, kept for the report."""
    rows = speed.measured(args.seconds, rounds=args.rounds)
    write_text(args.folder / "speed.json", json.dumps(rows, indent=1) + "\n")
    print(tables.table(rows, tables.cell))


# The report


def report(args: argparse.Namespace) -> None:
    """Tables, pictures and the page, of all results there are."""
    if args.update is not None:
        put_tables(args.update, None, MARKERS)
    devices = devices_of(args)
    recordings = [device for device in devices if device.truth is None]
    rows = tables.recorded(recordings, args.folder, args.steps, args.seeds)
    if not rows:
        raise ValueError(f"'{args.folder}' holds no results; run.py train and run.py fit make them")
    known_rows = tables.targets(devices, args.folder, args.steps, args.seeds)
    speed_rows = tables.read_speed(args.folder)
    parts = {
        "Recordings, on what was not trained on": rows,
        "Known phasers, found (true)": known_rows,
        "Starts that know less": tables.starts(recordings, args.folder, args.steps, args.random),
        "What the devices are, by fit_phaser": tables.found(recordings, args.folder),
        "Other layouts, fitted to the chirps": tables.layouts(recordings, args.folder),
        "One training step": speed_rows,
    }
    judged = tables.goals(rows, known_rows, speed_rows) if args.data is not None else []
    text = tables.markdown(parts, judged, tables.counted(args.folder))
    document = {"tables": parts, "goals": judged}
    write_text(args.folder / "report.json", json.dumps(document, indent=1, allow_nan=False) + "\n")
    write_text(args.folder / "report.md", text)
    draw(args, devices)
    listen(args, recordings, rows)
    show_progress("")
    print(text)
    if args.update is not None:
        put_tables(args.update, text, MARKERS)


def models_of(args: argparse.Namespace, device: data.Device) -> dict[str, tuple[phaser.Controls, Row]]:
    """Controls by the way they were learnt, those of the first seed, with what they were made from."""
    found = {}
    result = fits.read(device, args.folder)
    if result is not None:
        found[tables.FIT] = fits.controls_of(result), result
    for form in training.forms(device):
        result = training.result_of(training.Job(device, form, 0), args.folder, args.steps)
        if result is not None:
            found[form] = phaser.controls_of(training.weights_of(result)), result
    return found


def draw(args: argparse.Namespace, devices: Sequence[data.Device]) -> None:
    """Cutoffs over time, and losses."""
    panels, losses = [], {}
    for device in devices:
        models = models_of(args, device)
        n_samples = min(len(device.test_dry), round(config.PICTURE_S * device.fs))
        sweeps = {name: tables.cutoff_of(one, n_samples, device.fs) for name, (one, _) in models.items()}
        if device.truth is not None:
            sweeps["truth"] = known.cutoff_hz(device.truth, n_samples, device.fs)
        if sweeps:
            title = device.name.replace("_", " ")
            panels.append(pictures.Sweeps(title, sweeps, device.fs, n_samples / device.fs))
        if device.truth is None:
            losses |= {
                f"{device.name}, {name}": result["records"]
                for name, (_, result) in models.items()
                if "records" in result
            }
    try:
        pictures.cutoffs(panels, args.folder / "cutoff.svg")
    except ImportError as error:
        print(f"no picture: {error}", file=sys.stderr)
    if losses:
        plot_losses(losses, args.folder / "losses.svg", title="Training ESR")


def listen(args: argparse.Namespace, recordings: Sequence[data.Device], rows: Sequence[Row]) -> None:
    """The page: dry, device, fit, trained in recursion, and the window that does worst as recursion."""
    pieces = []
    for device in recordings:
        measured = {
            row["trained in"]: row["as recursion %"] for row in reversed(rows) if row["device"] == device.name
        }
        models = models_of(args, device)
        models = {name: one for name, one in models.items() if name in measured}
        windows = [name for name in models if name not in (tables.FIT, training.RECURSION)]
        worst = max(windows, key=lambda name: measured[name], default=None)
        kept = slice(device.skip, device.skip + round(config.LISTEN_S * device.fs))
        versions = [
            listening.Version("dry", device.test_dry[kept], ""),
            listening.Version("the device", device.test_wet[kept], ""),
        ]
        for name in (tables.FIT, training.RECURSION, worst):
            if name is None or name not in models:
                continue
            controls, result = models[name]
            made = result.get("settings", {}).get("read", result)
            sound = fits.predicted(controls, (made["stages"], made["delay"]), device, None)
            label = name if name == tables.FIT else f"trained in {name}"
            figure = f"ESR {tables.cell('', measured[name])} %"
            versions.append(listening.Version(label, sound[: kept.stop - kept.start], figure))
        length = min(len(version.sound) for version in versions)
        versions = [version._replace(sound=np.asarray(version.sound)[:length]) for version in versions]
        about = "All models run as recursion; the window is the one that does worst there."
        pieces.append(listening.Piece(device.name.replace("_", " "), about, versions, device.fs))
    listening.write_page(args.folder / "listening.html", "Phasers, learnt", pieces)


if __name__ == "__main__":
    sys.exit(main())
