"""Style transfer by five gradients: `python experiments/style_transfer/run.py train --data DIR`.

`run.py train` trains what is wanted and goes on where it was stopped; `run.py report` scores all that is
there on unseen recordings and makes tables, pictures and the page to listen. README.md explains the rest.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.common.runner import check_folder, made_with, put_tables, read_figures, show_progress
from experiments.style_transfer import config, data, trainings
from jaxapf import audio
from jaxapf._internal.files import reason, write_text
from jaxapf.effects import gradients
from jaxapf.training import fit, pretrained
from jaxapf.training.checkpoint import CheckpointError

RESULTS = Path(__file__).with_name("results")
MARKERS = "style-transfer"


def main(argv: Sequence[str] | None = None) -> int:
    """The command: 0, or 2 with one sentence for what the user can mend."""
    args = parse(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        check_folder(args.folder)
        {"train": train, "report": report, "store": store}[args.command](args)
    except KeyboardInterrupt:
        show_progress("")
        print("run.py: interrupted; run it again to go on", file=sys.stderr)
        return 130
    except (OSError, ValueError, audio.AudioError, fit.TrainingError, CheckpointError) as error:
        show_progress("")
        text = f"{error.filename}: {reason(error)}" if isinstance(error, OSError) else str(error)
        print(f"run.py: error: {text}", file=sys.stderr)
        return 2
    show_progress("")
    return 0


def train(args: argparse.Namespace) -> None:
    """Train all that is not there yet."""
    split = data.load(args.data)
    wanted = list(trainings.settings(args.strategies, args.seconds, range(*args.seeds), args.steps))
    trainings.run(wanted, split, args.folder, show_progress)


def report(args: argparse.Namespace) -> None:
    """Score what is there; tables, pictures and the page."""
    from experiments.style_transfer import listening, pictures, tables

    if args.update is not None:
        put_tables(args.update, None, MARKERS)
    found = trainings.there(args.folder)
    if not found:
        raise ValueError(
            f"--folder '{args.folder}' holds no training that has ended; run 'run.py train' first"
        )
    split = data.load(args.data)
    results: dict[str, Any] = {"made_with": made_with(), "lengths": {}}
    for seconds in sorted(config.TEST_CLIPS):
        show_progress(f"Scoring clips of {seconds:g} s")
        results["lengths"][f"{seconds:g}"] = listening.scored(split.test, seconds, found, args.folder)
    write_text(args.folder / "results.json", json.dumps(results, indent=1, allow_nan=False) + "\n")
    text = tables.markdown(results)
    write_text(args.folder / "tables.md", text)
    pictures.save_distances(results, args.folder / "distances.svg")
    listening.write(split.test, found, args.folder)
    if args.update is not None:
        put_tables(args.update, text, MARKERS)
    print(text)


def store(args: argparse.Namespace) -> None:
    """Keep one network among the stored checkpoints of jaxapf."""
    results = json.loads((args.folder / "results.json").read_text(encoding="utf-8"))
    strategy, seconds, seed = args.name.rsplit("-", 2)
    runs = results["lengths"][seconds.removesuffix("s")]["strategies"][strategy]
    steps = read_figures(args.folder / f"{args.name}.json")["steps"]
    reached = next(run for run in runs if run["seed"] == int(seed))["scores"]["mrstft"]
    pretrained.add(
        "style-transfer",
        args.folder / f"{args.name}.npz",
        what="network that sets equaliser and compressor to sound like a reference; jaxapf style",
        command=f"python experiments/style_transfer/run.py train --data DIR --strategies {strategy}"
        f" --seconds {seconds.removesuffix('s')} --seeds {seed}:{int(seed) + 1} --steps {steps}",
        data="speech and loops of the development data (CC0, BSD, MIT, CC-BY-SA; see README)",
        figure=("MR-STFT to the target, clips of 5 s, speakers and loops never heard", reached),
    )


# Arguments


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the arguments; wrong ones end the program with exit code 2."""
    parser = argparse.ArgumentParser(description="Style transfer by five gradients.")
    commands = parser.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--folder", type=Path, default=RESULTS, help="where results go; default: results/ beside this script"
    )
    common.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder with speech/ and loops/, or of LibriTTS; without it the embedded example",
    )
    add = commands.add_parser("train", parents=[common], help="train networks").add_argument
    add("--strategies", nargs="+", choices=gradients.STRATEGIES, default=list(gradients.STRATEGIES))
    add("--seconds", type=float, choices=sorted(config.BATCH), default=min(config.BATCH), help="of a clip")
    add("--seeds", type=seeds, default=(0, config.SEEDS), metavar="N or A:B", help="how many, or which")
    add("--steps", type=count, help=f"of each training; by seconds: {config.STEPS}")
    add = commands.add_parser("report", parents=[common], help="scores, tables, page").add_argument
    add("--update", type=Path, metavar="README.md", help="file to put the tables into")
    add = commands.add_parser("store", parents=[common], help="keep a network in checkpoints/").add_argument
    add("name", help="of the training: autodiff-5s-0")
    return parser.parse_args(argv)


def count(text: str) -> int:
    """A whole number from 1, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number of 1 or more")
    return int(text)


def seeds(text: str) -> tuple[int, int]:
    """Seeds from A to before B, or the first N."""
    first, colon, end = text.partition(":")
    bounds = (count(end) - 1 if colon else count(text),)
    if colon and first.isdecimal() and int(first) < int(end):
        return int(first), int(end)
    if colon:
        raise argparse.ArgumentTypeError(f"'{text}' is no range of seeds; write 0:3")
    return 0, bounds[0]


if __name__ == "__main__":
    sys.exit(main())
