"""Train a BiasNet's all-pass cascade on the embedded pair: `python experiments/training/run.py`.

The whole of the training layer in one script: one device, a mesh or pmap; one process or several
(`--coordinator`, `--num-processes`, `--process-id`, or the environment of SLURM or a TPU pod);
checkpoints, from which a killed run goes on; metrics as JSON lines, a plot of the loss, and the trained
cascade as a model that `jaxapf apply` takes.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from experiments.training import config, problem
from jaxapf import Alignment, report
from jaxapf.alignment import biasnet
from jaxapf.training import distributed, fit, logging, parallel
from jaxapf.training.checkpoint import CheckpointError, Checkpoints
from jaxapf.training.data import shuffled
from jaxapf.training.step import LossFn, TrainState, init_starts, init_state, make_train_step, many_starts

PLANS = {"single": parallel.single, "mesh": parallel.mesh, "pmap": parallel.pmap}


def at_least(lowest: int) -> Callable[[str], int]:
    """A whole number, for argparse."""

    def whole(text: str) -> int:
        if not text.isdecimal() or int(text) < lowest:
            raise argparse.ArgumentTypeError(f"'{text}' is no whole number of {lowest} or more")
        return int(text)

    return whole


def positive(text: str) -> float:
    """A positive number, for argparse."""
    with contextlib.suppress(ValueError):
        if 0 < float(text) < math.inf:
            return float(text)
    raise argparse.ArgumentTypeError(f"'{text}' is no positive number")


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train a BiasNet's all-pass cascade on the embedded pair.")
    parser.add_argument("--steps", type=at_least(1), default=config.STEPS, help="default: %(default)s")
    parser.add_argument(
        "--log-every", type=at_least(1), default=config.LOG_EVERY, help="default: %(default)s steps"
    )
    parser.add_argument(
        "--save-every", type=at_least(1), default=config.SAVE_EVERY, help="default: %(default)s steps"
    )
    parser.add_argument(
        "--starts", type=at_least(1), default=1, help="networks trained side by side, the best is kept"
    )
    parser.add_argument(
        "--plan", choices=PLANS, default="mesh", help="how devices share a batch: %(default)s"
    )
    parser.add_argument(
        "--rate", type=positive, default=config.RATE, help="of Adam at the first step: %(default)s"
    )
    parser.add_argument("--seed", type=at_least(0), default=config.SEED, help="default: %(default)s")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path(__file__).with_name("results") / "run",
        help="checkpoints, metrics, plot",
    )
    distributed.add_arguments(parser)
    args = parser.parse_args(argv)
    if args.starts > 1 and args.plan != "mesh":
        parser.error(f"argument --plan: {args.plan} trains one network; --starts {args.starts} needs mesh")
    return args


def make_plan(args: argparse.Namespace, loss_fn: LossFn, optimizer: Any) -> parallel.Plan:
    """One network with its batch shared by the devices, or many networks shared by them."""
    step = make_train_step(loss_fn, optimizer, clip_norm=1.0)
    return PLANS[args.plan](step) if args.starts == 1 else parallel.starts(many_starts(step))


def first_state(args: argparse.Namespace, optimizer: Any) -> TrainState:
    """The state before the first step."""
    init, key = problem.model_at(1.0).init, jax.random.key(args.seed)  # no sample rate matters yet
    if args.starts > 1:
        return init_starts(init, optimizer, args.starts, key=key)
    return init_state(init(key), optimizer, key=key)


def run(args: argparse.Namespace) -> int:
    """Train, or go on from the last checkpoint."""
    data, fs, delay = problem.sequences()
    optimizer = problem.make_optimizer(args.steps, args.rate)
    plan = make_plan(args, problem.make_loss(fs), optimizer)
    rows = slice(None) if args.starts > 1 else distributed.rows(config.BATCH)
    batch_at = shuffled(data, config.BATCH, seed=args.seed, rows=rows)
    settings = {name: getattr(args, name) for name in ("steps", "starts", "rate", "seed")} | {
        "batch": config.BATCH
    }
    main = jax.process_index() == 0
    with Checkpoints(args.folder / "checkpoints", config=settings) as checkpoints:
        start = first_state(args, optimizer)
        state = checkpoints.restore(start) or start
        done = fit.position(state)
        with logging.track(
            logging.progress(args.steps, start=done),
            logging.open_metrics(args.folder / "metrics.jsonl", after=done),
            active=main,
        ) as on_record:
            fitted = fit.fit(
                plan,
                state,
                batch_at,
                args.steps,
                log_every=args.log_every,
                save_every=args.save_every,
                checkpoints=checkpoints,
                on_record=on_record,
            )
    if main:
        finish(args, fitted, fs, delay)
    return 0


def finish(args: argparse.Namespace, fitted: fit.Fitted, fs: float, delay: int) -> None:
    """Plot the losses, save the model, say what came out."""
    records = logging.read_metrics(args.folder / "metrics.jsonl")
    report.plot_losses({"loss": records}, args.folder / "loss.svg")
    weights = fitted.state.params
    if args.starts > 1:
        best = int(records[-1]["best_start"])
        weights = jax.tree.map(lambda leaf: leaf[best], weights)
    raw = biasnet.outputs(problem.model_at(fs), weights)
    sections = biasnet.sections_of(raw, problem.SHAPE, fs)
    controls = biasnet.named_controls(raw, problem.SHAPE, fs)
    model = Alignment(sections, delay, 1, fs, controls, {}, "biasnet-connected")
    error = problem.error_of(model)
    dataclasses.replace(model, metrics={"esr_aligned": error}).save(args.folder / "model.json")
    print(f"step {records[-1]['step']}: loss {records[-1]['loss']:.5f}, skipped {records[-1]['skipped']}")
    print(f"error-to-signal ratio of the whole recording, filtered at once: {error:.5f}")
    print(f"wrote {args.folder / 'model.json'} and {args.folder / 'loss.svg'}")


def main(argv: list[str] | None = None) -> int:
    """The command."""
    args = arguments(argv)
    try:
        return distributed.run(run, args)
    except KeyboardInterrupt:
        print("run.py: interrupted; started again, it goes on from its last checkpoint", file=sys.stderr)
        return 130
    except (CheckpointError, fit.TrainingError, ValueError) as error:
        print(f"run.py: error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
