"""Learn a compressor by gradient, through the exact recursion or through frequency sampling."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.runner import Row, show_progress
from experiments.compressor import config, known
from jaxapf.effects import compressor as fx
from jaxapf.filters import recursion
from jaxapf.training.step import LossFn, init_state, make_train_step

Weights = dict[str, jax.Array]


class Training(NamedTuple):
    """What a training found: raw weights, a record a step, and how many steps were skipped."""

    weights: Weights
    records: list[Row]
    skipped: int


def raw_of(settings: config.Known, fs: float) -> Weights:
    """What is trained: logarithms of ratio less one and of times, decibels by the ten."""
    values = {
        "threshold_db": settings.threshold_db / 10,
        "ratio": math.log(settings.ratio - 1),
        "attack_ms": math.log(settings.attack_ms),
        "release_ms": math.log(settings.release_ms),
        "average_ms": math.log(known.time_ms(settings.average, fs)),
        "makeup_db": settings.makeup_db / 10,
    }
    return {name: jnp.float32(value) for name, value in values.items()}


def controls_of(weights: Weights) -> fx.Controls:
    """Controls in their units."""
    values = {name: jnp.exp(weights[name]) for name in ("attack_ms", "release_ms", "average_ms")}
    values |= {name: 10 * weights[name] for name in ("threshold_db", "makeup_db")}
    return fx.Controls(ratio=1 + jnp.exp(weights["ratio"]), **values)


def output(weights: Weights, x: jax.Array, fs: float, form: str) -> jax.Array:
    """X (..., n_samples) compressed, from rest."""
    controls = controls_of(weights)
    if form == "sampling":
        return fx.compressor_sampled(controls, x, fs)
    return fx.compressor(controls, fx.initial_state(), x, fs)[0]


def prefiltered(x: jax.Array) -> jax.Array:
    """[1, -1] over [1, -0.995]: no weight on what is constant."""
    before = jnp.pad(x[..., :-1], [(0, 0)] * (x.ndim - 1) + [(1, 0)])
    return recursion.first_order(config.PREFILTER_POLE, x - before)[0]


def make_loss(fs: float, form: str) -> LossFn:
    """Mean absolute error after the pre-filter; it is linear, one pass does for both signals."""

    def loss(weights: Weights, batch: Any, key: jax.Array) -> Any:
        y = output(weights, batch["dry"], fs, form)
        left = jnp.sum((y - batch["wet"]) ** 2) / jnp.sum(batch["wet"] ** 2)
        return jnp.mean(jnp.abs(prefiltered(y - batch["wet"]))), {"esr": left}

    return loss


def trained(dry: np.ndarray, wet: np.ndarray, fs: float, form: str, steps: int, label: str) -> Training:
    """Train from the protocol's start on (n_samples,) signals."""
    optimizer = optax.adam(optax.cosine_decay_schedule(config.RATE, steps))
    step = jax.jit(make_train_step(make_loss(fs, form), optimizer), donate_argnums=0)
    state = init_state(raw_of(config.START, fs), optimizer, key=jax.random.key(0))
    batch = {"dry": jnp.asarray(dry[None], jnp.float32), "wet": jnp.asarray(wet[None], jnp.float32)}
    records = []
    for number in range(1, steps + 1):
        state, metrics = step(state, batch)
        record = {name: float(metrics[name]) for name in ("loss", "esr", "skipped")}
        records.append({"step": number, **record, **named(controls_of(state.params))})
        show_progress(f"{label}, {form}: step {number} of {steps}, ESR {record['esr']:.2e}")
    return Training(state.params, records, int(state.skipped))


def named(controls: fx.Controls) -> dict[str, float]:
    """The trained controls as floats."""
    trained = ("threshold_db", "ratio", "attack_ms", "release_ms", "average_ms", "makeup_db")
    return {name: float(getattr(controls, name)) for name in trained}


def tester(fs: float) -> Callable[[Weights, np.ndarray, str], np.ndarray]:
    """A function that runs weights over a whole signal (n_samples,) in a form."""

    def run(weights: Weights, dry: np.ndarray, form: str) -> np.ndarray:
        return np.asarray(output(weights, jnp.asarray(dry, jnp.float32), fs, form), np.float64)

    return run
