"""Equaliser and compressor, ours and dasp-pytorch's, as cases to be timed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from experiments.benchmark import cases, config
from jaxapf import params
from jaxapf.effects import compressor, equalizer

DASP = {"equalizer": "dasp_pytorch parametric_eq", "compressor": "dasp_pytorch compressor"}
# What dasp-pytorch's compressor has: no look-ahead and no average. Its release is ignored.
DASP_COMPRESSOR = ("threshold_db", "ratio", "attack_ms", "release_ms", "knee_db", "makeup_db")


def controls(specification: Sequence[params.Control], batch: int) -> list[np.ndarray]:
    """Return random settings within the ranges, `(batch,)` float32 each."""
    raw = np.random.default_rng(config.SEED).uniform(-1, 1, (batch, len(specification)))
    return [np.asarray(value, np.float32) for value in params.denormalise(raw, specification)]


def equalizer_cases(x: np.ndarray, peers: cases.Peers) -> dict[str, cases.Case]:
    """Return the equaliser, exact and by frequency sampling, and dasp-pytorch's, on the same settings."""
    values, batch = controls(params.EQUALIZER, len(x)), len(x)

    def exact(values: Any, x: jax.Array) -> jax.Array:
        state = equalizer.initial_state((batch,))
        return equalizer.equalizer(equalizer.packed(values), state, x, config.FS)[0]

    def sampled(values: Any, x: jax.Array) -> jax.Array:
        return equalizer.equalizer_sampled(equalizer.packed(values), x, config.FS)

    found = {"equalizer": cases.ours(exact, values, x), "equalizer, fsm": cases.ours(sampled, values, x)}
    if peers.effects is not None:
        call = _channelled(peers.effects.parametric_eq)
        found[DASP["equalizer"]] = cases.torch_case(peers, call, x, *values)
    return found


def compressor_cases(x: np.ndarray, peers: cases.Peers) -> dict[str, cases.Case]:
    """Return the compressor by default, with peak level and smoothing in dB, and dasp-pytorch's."""
    named = dict(
        zip((one.name for one in params.COMPRESSOR), controls(params.COMPRESSOR, len(x)), strict=True)
    )
    values = [named[name] for name in DASP_COMPRESSOR]
    batch = len(x)

    def ours(average_ms: float, **options: Any) -> Callable[..., jax.Array]:
        def process(values: Any, x: jax.Array) -> jax.Array:
            requested = dict(zip(DASP_COMPRESSOR, values, strict=True))
            given = compressor.Controls(**requested, average_ms=average_ms, lookahead_ms=0.0)
            state = compressor.initial_state((batch,))
            return compressor.compressor(given, state, x, config.FS, **options)[0]

        return process

    found = {
        "compressor": cases.ours(ours(1.0), values, x),
        "compressor, peak, dB": cases.ours(ours(0.0, detector="peak", smoothing="gain_db"), values, x),
    }
    if peers.effects is not None:
        call = _channelled(peers.effects.compressor)
        # One time for attack and release: a gradient by the other, which it ignores, is an error in torch.
        found[DASP["compressor"]] = cases.torch_case(
            peers, lambda x, *five: call(x, *five[:3], five[2], *five[3:]), x, *values[:3], *values[4:]
        )
    return found


def _channelled(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, *values: function(x[:, None], config.FS, *values)[:, 0]


EFFECTS = {"equalizer": equalizer_cases, "compressor": compressor_cases}
