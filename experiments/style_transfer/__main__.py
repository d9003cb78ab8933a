"""Learn style transfer by five gradients: `python -m experiments.style_transfer train|report|store|tune`.

`train` goes on where it was stopped; `report` scores all that was trained on unseen recordings and makes
tables, pictures and the page to listen; `tune` looks for the constants of the rule-based baseline.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.common import runner, tables
from experiments.style_transfer import config, data
from experiments.style_transfer import train as learning
from jaxapf import audio
from jaxapf.effects import gradients
from jaxapf.training import pretrained


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = runner.make_parser("style_transfer", "Learn style transfer by five gradients.")
    commands = parser.add_subparsers(required=True)
    common = argparse.ArgumentParser(add_help=False)
    runner.add_folder(common, "style_transfer")
    files = "folder with speech/ and loops/, or of LibriTTS; without it the embedded example"
    common.add_argument("--data", type=Path, metavar="DIR", help=files)
    add = runner.add_command(commands, "train", train, "Train networks.", common).add_argument
    add("--strategies", nargs="+", choices=gradients.STRATEGIES, default=list(gradients.STRATEGIES))
    add("--seconds", type=float, choices=sorted(config.BATCH), default=min(config.BATCH), help="of a clip")
    add("--seeds", type=seeds, default=(0, config.SEEDS), metavar="N or A:B", help="how many, or which")
    add("--steps", type=runner.whole(), help=f"of each training; by seconds: {config.STEPS}")
    command = runner.add_command(commands, "report", report, "Make scores, tables, page.", common)
    runner.add_update(command, "style_transfer")
    command = runner.add_command(commands, "store", store, "Keep a network in checkpoints/.", common)
    command.add_argument("name", help="of the training: autodiff-5s-0")
    runner.add_command(commands, "tune", tune, "Tune the rule-based baseline.", common)
    return runner.run(parser, argv, advice="run it again to go on")


def seeds(text: str) -> tuple[int, int]:
    """Read seeds from A to before B, or the first N; an argparse type."""
    first, colon, end = text.rpartition(":")
    bounds = runner.whole(0)(first) if colon else 0, runner.whole()(end)
    if bounds[0] >= bounds[1]:
        raise argparse.ArgumentTypeError(f"'{text}' is no range of seeds; write 0:3")
    return bounds


def train(args: argparse.Namespace) -> None:
    """Train all that has no result yet."""
    split = data.load(args.data)
    wanted = list(learning.settings(args.strategies, args.seconds, range(*args.seeds), args.steps))
    learning.run(wanted, split, args.folder)


def report(args: argparse.Namespace) -> None:
    """Score all that was trained; make tables, pictures and the page."""
    from experiments.style_transfer import evaluate, figures, listening

    tables.check(args.update, evaluate.MARKERS)
    found = learning.finished(args.folder)
    if not found:
        raise ValueError(
            f"--folder '{args.folder}' holds no training that has ended; run the command train first"
        )
    split = data.load(args.data)
    results: dict[str, Any] = {"made_with": tables.made_with(), "lengths": {}}
    for seconds in sorted(config.TEST_CLIPS):
        runner.show_progress(f"Scoring clips of {seconds:g} s")
        results["lengths"][f"{seconds:g}"] = listening.scored(split.test, seconds, found, args.folder)
    tables.write_json(args.folder / "results.json", results)
    texts = evaluate.markdown(results)
    audio.write_text(args.folder / "tables.md", "\n".join(texts.values()))
    figures.save_distances(results, args.folder / "distances.svg")
    listening.write(split.test, found, args.folder)
    tables.put(args.update, texts)
    runner.show_progress("")
    print("\n".join(texts.values()), end="")


def store(args: argparse.Namespace) -> None:
    """Keep one network among the stored checkpoints of jaxapf."""
    results = runner.read_figures(args.folder / "results.json")
    strategy, seconds, seed = args.name.rsplit("-", 2)
    runs = results["lengths"][seconds.removesuffix("s")]["strategies"][strategy]
    steps = runner.read_figures(args.folder / f"{args.name}.json")["steps"]
    reached = next(run for run in runs if run["seed"] == int(seed))["scores"]["mrstft"]
    pretrained.add(
        "style-transfer",
        args.folder / f"{args.name}.npz",
        what="network that sets equaliser and compressor to sound like a reference; jaxapf style",
        command=f"python -m experiments.style_transfer train --data DIR --strategies {strategy}"
        f" --seconds {seconds.removesuffix('s')} --seeds {seed}:{int(seed) + 1} --steps {steps}",
        data="speech and loops of the development data (CC0, BSD, MIT, CC-BY-SA; see README)",
        figure=("MR-STFT to the target, clips of 5 s, unseen speakers and loops", reached),
    )


def tune(args: argparse.Namespace) -> None:
    """Tune the constants of the rule-based baseline on training recordings."""
    from experiments.style_transfer import tuning

    for line in tuning.lines(data.load(args.data).train):
        print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
