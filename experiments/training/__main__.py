"""The training layer: `python -m experiments.training train` uses all of it, `measure` measures it.

One device, a mesh or pmap; one process or several (`--coordinator`, `--num-processes`, `--process-id`, or the
environment of SLURM or a TPU pod); checkpoints, from which a killed run goes on; metrics as JSON lines, a
plot of the loss, and the trained cascade as a model that `jaxapf apply` takes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from experiments.common import runner, tables
from experiments.training import config, evaluate
from experiments.training.train import PLANS, run
from jaxapf import audio
from jaxapf.training import distributed


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = runner.make_parser("training", "Train a BiasNet's all-pass cascade, and measure the training.")
    commands = parser.add_subparsers(required=True)
    command = runner.add_command(commands, "train", train, "train on the embedded pair")
    add, count = command.add_argument, runner.whole()
    add("--steps", type=count, default=config.STEPS, help="default: %(default)s")
    add("--log-every", type=count, default=config.LOG_EVERY, help="default: %(default)s steps")
    add("--save-every", type=count, default=config.SAVE_EVERY, help="default: %(default)s steps")
    add("--starts", type=count, default=1, help="networks trained side by side, the best is kept")
    add("--plan", choices=PLANS, default="mesh", help="how devices share a batch: %(default)s")
    add("--rate", type=runner.positive(), default=config.RATE, help="of Adam, at first: %(default)s")
    add("--seed", type=runner.whole(0), default=config.SEED, help="default: %(default)s")
    runner.add_folder(command, "training")
    distributed.add_arguments(command)
    command = runner.add_command(commands, "measure", measure, "measure overhead, equality, kills, scaling")
    names = tuple(evaluate.FIGURES)
    command.add_argument("--only", type=runner.listed(names), default=names, help=f"of {','.join(names)}")
    runner.add_folder(command, "training")
    runner.add_update(command, "training")
    return runner.run(parser, argv, advice="started again, a training goes on from its last checkpoint")


def train(args: argparse.Namespace) -> int:
    """Train, or go on from the last checkpoint."""
    if args.starts > 1 and args.plan != "mesh":
        raise ValueError(f"--plan {args.plan} trains one network; --starts {args.starts} needs mesh")
    return distributed.run(run, args)


def measure(args: argparse.Namespace) -> None:
    """Measure; figures that are not named stay as they were measured last."""
    tables.check(args.update, args.only)
    path = args.folder / "figures.json"
    found = runner.read_figures(path) if path.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        for name in args.only:
            runner.show_progress(name)
            found[name] = evaluate.FIGURES[name](Path(folder))
    runner.show_progress("")
    parts = {name: evaluate.markdown(found[name]) for name in evaluate.FIGURES if name in found}
    text = "\n".join(f"## {name}\n\n{part}" for name, part in parts.items())
    tables.write_json(path, found)
    audio.write_text(args.folder / "figures.md", text)
    tables.put(args.update, {name: parts[name] for name in args.only})
    print(text, end="")


if __name__ == "__main__":
    sys.exit(main())
