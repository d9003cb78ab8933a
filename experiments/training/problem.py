"""What is trained: a connected BiasNet that gives a warped all-pass cascade, on a recorded pair."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import config
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxapf import Alignment, allpass, audio, metrics, nets, params, spectrum

Tree = Any
NET = nets.BiasNet(features=3 * config.SECOND_ORDER + 2 * config.FIRST_ORDER)


def controls_of(raw: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The network's outputs (11,) as radius, frequency and warp, and as coefficient and warp (eq. 6)."""
    second, first = raw[: 3 * config.SECOND_ORDER], raw[3 * config.SECOND_ORDER :]
    return (
        params.denormalise(second.reshape(-1, 3), params.SECOND_ORDER),
        params.denormalise(first.reshape(-1, 2), params.FIRST_ORDER),
    )


def sections_of(raw: Any, fs: float) -> allpass.Sections:
    """The network's outputs as sections (Bargum et al. 2023, eq. 4 and 5)."""
    (radius, cutoff_hz, warp), (coefficient, first_warp) = controls_of(raw)
    return allpass.concatenate(
        allpass.second_order(radius, cutoff_hz, fs, warp=warp),
        allpass.first_order(coefficient, warp=first_warp),
    )


def named_controls(raw: np.ndarray) -> list[dict[str, Any]]:
    """The controls of each section by name, for a model file."""
    second, first = controls_of(raw)
    kinds = (("second_order", params.SECOND_ORDER, second), ("first_order", params.FIRST_ORDER, first))
    return [
        {"type": kind, **{one.name: float(value) for one, value in zip(controls, row, strict=True)}}
        for kind, controls, values in kinds
        for row in zip(*values, strict=True)
    ]


def make_loss(fs: float) -> Callable[[Tree, Tree, jax.Array], Any]:
    """Mean squared error over the error of silence: 1 is no better than nothing."""

    def loss_fn(weights: Tree, batch: Tree, key: jax.Array):
        error = allpass.cascade(sections_of(NET.apply(weights), fs), batch["dry"]) - batch["wet"]
        return jnp.mean(error**2)

    return loss_fn


def make_optimizer(steps: int, rate: float = config.RATE) -> optax.GradientTransformation:
    """Adam whose rate falls to nothing at the last step."""
    return optax.adam(optax.cosine_decay_schedule(rate, steps))


def sequences() -> tuple[dict[str, np.ndarray], float, int]:
    """The embedded pair, its delay taken out, as sequences (n, length) of unit power; the rate; the delay."""
    (dry, fs), (wet, _) = (audio.read(path) for path in audio.example_pair())
    measured = spectrum.measure(dry, wet, fs, round(0.02 * fs))
    delay = round(spectrum.delay_candidates(measured, round(0.02 * fs))[0])
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
    (dry, _), (wet, _) = (audio.read(path) for path in audio.example_pair())
    return metrics.esr(model.apply(dry), wet)
