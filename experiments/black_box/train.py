"""The paper's training: cut sequences of the sweep, each filtered from rest; and what changes to it bring."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from experiments.black_box import config
from jaxapf import Alignment, audio, losses
from jaxapf.alignment import biasnet
from jaxapf.training import fit, logging, parallel
from jaxapf.training.checkpoint import Checkpoints
from jaxapf.training.data import endless
from jaxapf.training.step import (
    LossFn,
    TrainStep,
    best_start,
    init_starts,
    init_state,
    make_train_step,
    many_starts,
)

Tree = Any
MAKE = {"sequential": biasnet.sequential, "connected": biasnet.connected}


class Objective(NamedTuple):
    """A loss by its name, "mse" or "mstft", and the options of the latter."""

    name: str
    power: int = config.POWER
    fraction: float = config.FRACTION


def sequences(dry: np.ndarray, wet: np.ndarray, objective: Objective) -> dict[str, Any]:
    """The recording (n_samples,) in sequences, and what the loss needs of the wet ones, made once."""
    cut = {
        name: audio.segment(np.asarray(x, np.float32), config.LENGTH)
        for name, x in (("dry", dry), ("wet", wet))
    }
    if objective.name == "mse":
        return cut
    spectra = jax.jit(lambda x: losses.phase_sum_spectra(x, fraction=objective.fraction))(cut["wet"])
    return {"dry": cut["dry"], "spectra": jax.tree.map(np.asarray, spectra)}


def make_loss(model: biasnet.Model, objective: Objective) -> LossFn:
    """Loss of a batch of sequences."""

    def loss_fn(weights: Tree, batch: Tree, key: jax.Array) -> jax.Array:
        found = model.filter(weights, batch["dry"])
        if objective.name == "mse":
            return losses.mse(found, batch["wet"])
        return losses.phase_sum_to(
            found, batch["spectra"], power=objective.power, fraction=objective.fraction
        )

    return loss_fn


def batch_of(examples: int) -> int:
    """Sequences in a batch: the paper's, or all where there are not as many."""
    return min(config.BATCH, examples)


def steps_of(examples: int, epochs: int) -> int:
    """Steps in which `endless` batches show every sequence once an epoch."""
    return max(1, round(epochs * examples / batch_of(examples)))


def make_step(model: biasnet.Model, objective: Objective, batch: int) -> tuple[TrainStep, Any]:
    """The paper's step on batches of so many sequences, Adam at a constant rate, and its optimiser."""
    optimizer = optax.adam(config.RATE)
    # The frames of a whole batch do not fit into the caches; those of an eighth take half the time.
    parts = config.PARTS if objective.name == "mstft" and batch % config.PARTS == 0 else 1
    return make_train_step(make_loss(model, objective), optimizer, accumulate=parts), optimizer


def descended(
    sweep: tuple[np.ndarray, np.ndarray], steps: int, *, length: int, batch: int, rate: float, starts: int
) -> Alignment:
    """The best of many connected BiasNets from random weights, at other sizes and rates than the paper's.

    Adam with clipped gradients and a rate that falls to nothing, the MSE of sequences from rest.
    """
    model = biasnet.connected(biasnet.structure(config.ORDER), config.FS)
    data = {
        name: audio.segment(np.asarray(x, np.float32), length)
        for name, x in zip(("dry", "wet"), sweep, strict=True)
    }
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, steps))
    step = many_starts(make_train_step(make_loss(model, Objective("mse")), optimizer, clip_norm=1.0))
    state = init_starts(model.init, optimizer, starts, key=jax.random.key(0))
    batch_at = endless(data, batch)
    fitted = fit.fit(parallel.single(step), state, batch_at, steps, log_every=min(steps, 50))
    weights, _ = best_start(fitted.state.params, fitted.losses)
    return alignment_of(model, weights, "biasnet-connected", float(config.FS))


class Run(NamedTuple):
    """One training: device, model, loss, seed."""

    effect: str
    model: str
    objective: Objective
    seed: int

    def name_of(self, epochs: int) -> str:
        """A name for its folder, with the options that are not the default."""
        options = (
            ""
            if self.objective[1:] == (config.POWER, config.FRACTION)
            else (f"-power{self.objective.power}-fraction{self.objective.fraction:g}")
        )
        length = "" if epochs == config.EPOCHS else f"-epochs{epochs}"
        return f"{self.effect}-{self.model}-{self.objective.name}{options}{length}-{self.seed}"


def train_one(
    run: Run,
    sweep: tuple[np.ndarray, np.ndarray],
    folder: Path,
    *,
    epochs: int = config.EPOCHS,
    recordings: str = "",
) -> Alignment:
    """Train, or go on from the last checkpoint in `folder`; the model, which is saved there too."""
    model = MAKE[run.model](biasnet.structure(config.ORDER), config.FS)
    data = sequences(*sweep, run.objective)
    batch, steps = batch_of(len(data["dry"])), steps_of(len(data["dry"]), epochs)
    step, optimizer = make_step(model, run.objective, batch)
    key = jax.random.key(run.seed)
    state = init_state(model.init(key), optimizer, key=key)
    settings = {**run._asdict(), "objective": run.objective._asdict(), "epochs": epochs}
    settings["recordings"] = recordings
    with Checkpoints(folder / "checkpoints", config=settings, keep_last=1, keep_best=0) as checkpoints:
        state = checkpoints.restore(state) or state
        done = fit.position(state)
        with logging.track(
            logging.progress(steps, start=done),
            logging.open_metrics(folder / "metrics.jsonl", after=done),
        ) as on_record:
            fitted = fit.fit(
                parallel.single(step),
                state,
                endless(data, batch, seed=run.seed),
                steps,
                log_every=config.LOG_EVERY,
                save_every=config.SAVE_EVERY,
                checkpoints=checkpoints,
                on_record=on_record,
            )
    return alignment_of(model, fitted.state.params, f"biasnet-{run.model}", float(config.FS))


def alignment_of(model: biasnet.Model, weights: Tree, method: str, fs: float) -> Alignment:
    """The trained cascade as a model file holds it, its controls taken to float64 before anything else."""
    raw = biasnet.outputs(model, weights)
    shape = biasnet.structure(config.ORDER)
    return Alignment(
        biasnet.sections_of(raw, shape, fs), 0.0, 1, fs, biasnet.named_controls(raw, shape, fs), {}, method
    )
