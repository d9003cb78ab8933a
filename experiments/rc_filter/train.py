"""The problem of one training, and the training."""

from __future__ import annotations

import contextlib
import math
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import scipy.signal

from experiments.common.released import surveyor
from experiments.common.runner import Row, show_progress
from experiments.rc_filter import answer, config
from jaxapf import audio, losses
from jaxapf.alignment import biasnet
from jaxapf.training import fit, parallel
from jaxapf.training.data import endless
from jaxapf.training.step import LossFn, TrainState, init_state, make_train_step

Tree = Any


class Problem(NamedTuple):
    """What is trained on which signals: a sweep (n_samples,), float64, and the output of the device."""

    name: str
    model: biasnet.Model
    dry: np.ndarray
    wet: np.ndarray
    settings: tuple[config.Setting, ...]
    power: int


class Training(NamedTuple):
    """One training: its losses, coefficients after every step, steps skipped, seconds without compiling."""

    losses: list[float]
    weights: list[dict[str, np.ndarray]]
    skipped: int
    seconds: float


def make_problem(order: int, power: int) -> Problem:
    """Return the RC filter for one section, a known all-pass cascade for more of them."""
    name = "rc" + (f"-order-{order}" if order > 1 else "") + (f"-power-{power}" if power > 1 else "")
    model = biasnet.naive(biasnet.structure(order, warped=False))
    dry = audio.log_sweep(config.SWEEP_S, config.FS)
    wet = answer.rc_filter(rho(), dry) if order == 1 else scipy.signal.sosfilt(surveyor(config.FS).sos, dry)
    settings = config.CASCADE if order > 1 else config.FIRST_ORDER if power == 1 else config.POWER_2
    return Problem(name, model, dry, np.asarray(wet), settings, power)


def rho() -> float:
    """Return the circuit's rho of eq. 10."""
    return answer.rho_of(config.RESISTANCE, config.CAPACITANCE, config.FS)


def cut(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Return dry and wet in sequences (n, length)."""
    return audio.segment(problem.dry, config.LENGTH), audio.segment(problem.wet, config.LENGTH)


def examples(problem: Problem, loss: str) -> dict[str, Any]:
    """Return the sequences in float32, and what the loss needs of the wet ones, computed once."""
    dry, wet = (np.asarray(x, np.float32) for x in cut(problem))
    if loss == "mse":
        return {"dry": dry, "wet": wet}
    spectra = jax.jit(lambda x: losses.phase_sum_spectra(x, fraction=config.FRACTION))(wet)
    return {"dry": dry, "spectra": jax.tree.map(np.asarray, spectra)}


def make_loss(problem: Problem, loss: str) -> LossFn:
    """Return the loss of a batch of sequences, each filtered from a zero state."""

    def loss_fn(weights: Tree, batch: Tree, key: jax.Array) -> jax.Array:
        found = problem.model.filter(weights, batch["dry"])
        if loss == "mse":
            return losses.mse(found, batch["wet"])
        return losses.phase_sum_to(found, batch["spectra"], power=problem.power, fraction=config.FRACTION)

    return loss_fn


def train(
    problem: Problem, setting: config.Setting, start: int, steps: int, data: dict[str, Any]
) -> Training:
    """Train from one start; a run whose steps are all skipped ends early."""
    optimizer = optax.adam(setting.rate)
    batch_size = min(config.BATCH, len(data["dry"]))
    parts = math.gcd(config.PARTS[setting.loss], batch_size)
    step = make_train_step(make_loss(problem, setting.loss), optimizer, accumulate=parts)
    key = jax.random.key(start)
    state = init_state(problem.model.init(key), optimizer, key=key)
    records: list[Row] = []
    weights = [jax.tree.map(np.array, state.params)]
    label = f"{problem.name}: {setting.loss}, rate {setting.rate:g}, start {start}"

    def keep(state: TrainState) -> dict[str, Any]:
        weights.append(jax.tree.map(np.array, state.params))
        show_progress(f"{label}: step {len(weights) - 1} of {steps}")
        return {}

    with contextlib.suppress(fit.TrainingError):  # the number of skipped steps is reported
        fit.fit(
            parallel.single(step),
            state,
            endless(data, batch_size, seed=start),
            steps,
            log_every=1,
            evaluate=keep,
            on_record=records.append,
        )
    found = [record["loss"] for record in records]
    return Training(found, weights, records[-1]["skipped"], records[-1]["seconds"])
