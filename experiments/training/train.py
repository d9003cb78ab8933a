"""What is trained, a connected BiasNet's warped all-pass cascade on the embedded pair, and its training."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

from experiments.training import config
from jaxapf import Alignment, audio, datasets, losses, metrics, report
from jaxapf.alignment import biasnet, cross_spectrum
from jaxapf.training import distributed, fit, logging, parallel
from jaxapf.training.checkpoint import Checkpoints
from jaxapf.training.data import shuffled
from jaxapf.training.step import LossFn, TrainState, init_starts, init_state, make_train_step, many_starts

Tree = Any
PLANS = {"single": parallel.single, "mesh": parallel.mesh, "pmap": parallel.pmap}
SHAPE = biasnet.Structure(config.SECOND_ORDER, config.FIRST_ORDER, warped=True, stretch=1)


def model_at(fs: float) -> biasnet.Model:
    """Return a connected BiasNet's cascade at a sample rate."""
    return biasnet.connected(SHAPE, fs)


def make_loss(fs: float) -> Callable[[Tree, Tree, jax.Array], Any]:
    """Return the mean squared error over the error of silence: 1 is no better than nothing."""
    model = model_at(fs)

    def loss_fn(weights: Tree, batch: Tree, key: jax.Array):
        return losses.mse(model.filter(weights, batch["dry"]), batch["wet"])

    return loss_fn


def make_optimizer(steps: int, rate: float = config.RATE) -> optax.GradientTransformation:
    """Return Adam whose rate falls to nothing at the last step."""
    return optax.adam(optax.cosine_decay_schedule(rate, steps))


def sequences() -> tuple[dict[str, np.ndarray], float, int]:
    """Return the embedded pair without its delay in sequences (n, length) of unit power, fs, the delay."""
    (dry, fs), (wet, _) = (audio.read(path) for path in datasets.example_pair())
    measured = cross_spectrum.measure(dry, wet, fs, round(0.02 * fs))
    delay = round(cross_spectrum.delay_candidates(measured, round(0.02 * fs))[0])
    dry, wet = dry[0, : dry.shape[-1] - delay], wet[0, delay:]
    scale = np.float32(1 / np.sqrt(np.mean(wet**2)))
    return (
        {
            "dry": audio.segment(scale * dry, config.LENGTH),
            "wet": audio.segment(scale * wet, config.LENGTH),
        },
        float(fs),
        delay,
    )


def error_of(model: Alignment) -> float:
    """Return the error-to-signal ratio of a model on the embedded pair."""
    (dry, _), (wet, _) = (audio.read(path) for path in datasets.example_pair())
    return metrics.esr(model.apply(dry), wet)


def make_plan(args: argparse.Namespace, loss_fn: LossFn, optimizer: Any) -> parallel.Plan:
    """Return the plan of one network, its batch shared by the devices, or of many networks shared by them."""
    step = make_train_step(loss_fn, optimizer, clip_norm=1.0)
    return PLANS[args.plan](step) if args.starts == 1 else parallel.starts(many_starts(step))


def first_state(args: argparse.Namespace, optimizer: Any) -> TrainState:
    """Return the state before the first step."""
    init, key = model_at(1.0).init, jax.random.key(args.seed)  # no sample rate matters yet
    if args.starts > 1:
        return init_starts(init, optimizer, args.starts, key=key)
    return init_state(init(key), optimizer, key=key)


def run(args: argparse.Namespace) -> int:
    """Train, or go on from the last checkpoint."""
    data, fs, delay = sequences()
    optimizer = make_optimizer(args.steps, args.rate)
    plan = make_plan(args, make_loss(fs), optimizer)
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
    """Plot the losses, save the model, print what came out."""
    records = logging.read_metrics(args.folder / "metrics.jsonl")
    report.plot_losses({"loss": records}, args.folder / "loss.svg")
    weights = fitted.state.params
    if args.starts > 1:
        best = int(records[-1]["best_start"])
        weights = jax.tree.map(lambda leaf: leaf[best], weights)
    raw = biasnet.outputs(model_at(fs), weights)
    sections = biasnet.sections_of(raw, SHAPE, fs)
    controls = biasnet.named_controls(raw, SHAPE, fs)
    model = Alignment(sections, delay, 1, fs, controls, {}, "biasnet-connected")
    error = error_of(model)
    dataclasses.replace(model, metrics={"esr_aligned": error}).save(args.folder / "model.json")
    print(f"step {records[-1]['step']}: loss {records[-1]['loss']:.5f}, skipped {records[-1]['skipped']}")
    print(f"error-to-signal ratio of the whole recording, filtered at once: {error:.5f}")
    print(f"wrote {args.folder / 'model.json'} and {args.folder / 'loss.svg'}")
