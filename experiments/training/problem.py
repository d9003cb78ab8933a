"""What is trained: a connected BiasNet that gives a warped all-pass cascade, on a recorded pair."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

from experiments.training import config
from jaxapf import Alignment, audio, datasets, losses, metrics
from jaxapf.alignment import biasnet, cross_spectrum

Tree = Any
SHAPE = biasnet.Structure(config.SECOND_ORDER, config.FIRST_ORDER, warped=True, stretch=1)


def model_at(fs: float) -> biasnet.Model:
    """A connected BiasNet's cascade at a sample rate."""
    return biasnet.connected(SHAPE, fs)


def make_loss(fs: float) -> Callable[[Tree, Tree, jax.Array], Any]:
    """Mean squared error over the error of silence: 1 is no better than nothing."""
    model = model_at(fs)

    def loss_fn(weights: Tree, batch: Tree, key: jax.Array):
        return losses.mse(model.filter(weights, batch["dry"]), batch["wet"])

    return loss_fn


def make_optimizer(steps: int, rate: float = config.RATE) -> optax.GradientTransformation:
    """Adam whose rate falls to nothing at the last step."""
    return optax.adam(optax.cosine_decay_schedule(rate, steps))


def sequences() -> tuple[dict[str, np.ndarray], float, int]:
    """The embedded pair, its delay taken out, as sequences (n, length) of unit power; the rate; the delay."""
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
    """Error-to-signal ratio of a model on the embedded pair."""
    (dry, _), (wet, _) = (audio.read(path) for path in datasets.example_pair())
    return metrics.esr(model.apply(dry), wet)
