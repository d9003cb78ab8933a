"""Deep optimisation: a BiasNet's cascade, refined through the exact recursion over the whole recording.

    pair = weighted(dry, wet, ...)                    what counts, in both signals alike
    raw = cascades.raw_of(found, shape, fs)           the spectral fit, as a network's outputs
    trained = refine(model, raw, pair, key=key)       the same loss, no cut sequences, no lost state

An all-pass keeps a weighting: filtering both signals alike and then taking the mean squared error is the
error weighted over frequency, which is how `spectral` fits weigh it too.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.fft

from jaxapf import allpass
from jaxapf._internal.arrays import enable_x64
from jaxapf._internal.delay import delay_response
from jaxapf._internal.fft import fast_length
from jaxapf.alignment import biasnet, cross_spectrum
from jaxapf.training import parallel
from jaxapf.training.fit import Record, fit
from jaxapf.training.step import init_state, make_train_step

STEPS, RATE, LOG_EVERY = 120, 2e-6, 10

Tree = Any


class Refined(NamedTuple):
    """What `refine` returns: outputs of the network in float64, and the loss before and after."""

    raw: biasnet.Raw
    loss_before: float
    loss_after: float


def weighted(
    dry: np.ndarray,
    wet: np.ndarray,
    bins: cross_spectrum.Bins,
    weight: np.ndarray,
    *,
    delay: float = 0.0,
    polarity: int = 1,
) -> dict[str, np.ndarray]:
    """A pair of signals whose mean squared error is the weighted one, the dry one delayed and turned.

    Args:
        dry: (n_signals, n_samples).
        wet: the same shape.
        bins: of `spectrum.log_bins`; what lies outside of them is left out.
        weight: (n_bins,), of `spectrum.bin_weights`.
        delay: samples by which the dry signal is moved later; a fraction is exact below the lowest weight.
        polarity: +1 or -1.

    Returns:
        {"dry", "wet"}, float32 (n_signals, n_samples), the wet one of unit power.

    Example:
        >>> x = np.random.default_rng(0).standard_normal((1, 4096))
        >>> bins = spectrum.log_bins(spectrum.measure(x, x, 48000.0, 0), 8)
        >>> pair = weighted(x, x, bins, np.ones(len(bins.omega)))
        >>> bool(np.allclose(pair["dry"], pair["wet"])), round(float(np.mean(pair["wet"] ** 2)), 5)
        (True, 1.0)
    """
    n_samples = dry.shape[-1]
    n_fft = fast_length(2 * n_samples + 2 * int(abs(delay)))
    omega = np.arange(n_fft // 2 + 1) * (2 * np.pi / n_fft)
    gain = np.sqrt(
        np.interp(np.log(np.maximum(omega, 1e-9)), np.log(bins.omega), weight, left=0.0, right=0.0)
    )
    moved = gain * polarity * delay_response(delay, omega)
    x, y = (
        np.asarray(scipy.fft.irfft(scipy.fft.rfft(v, n_fft, workers=-1) * by, n_fft, workers=-1))[
            ..., :n_samples
        ]
        for v, by in ((dry, moved), (wet, gain))
    )
    scale = 1 / max(float(np.sqrt(np.mean(np.square(y)))), 1e-20)
    return {"dry": (scale * x).astype(np.float32), "wet": (scale * y).astype(np.float32)}


def error_of(sections: allpass.Sections, pair: dict[str, np.ndarray]) -> float:
    """Mean squared error of a pair's dry signals through sections, filtered in float64.

    Args:
        sections: `(n_sections,)`, NumPy.
        pair: of `weighted`.

    Returns:
        The error; with a wet signal of unit power, the error-to-signal ratio.

    Example:
        >>> x = np.ones((1, 64), np.float32)
        >>> error_of(allpass.first_order(np.zeros(0)), {"dry": x, "wet": -x})
        4.0
    """
    with enable_x64(), jax.default_device(jax.local_devices(backend="cpu")[0]):
        found = _cascade(sections, np.asarray(pair["dry"], np.float64))
        return float(np.mean((np.asarray(found) - pair["wet"]) ** 2))


_cascade = jax.jit(allpass.cascade)


def make_loss(model: biasnet.Model) -> Callable[[Tree, dict[str, Any], jax.Array], jax.Array]:
    """Mean squared error of whole signals; with a wet one of unit power, the error-to-signal ratio."""

    def loss_fn(weights: Tree, batch: dict[str, Any], key: jax.Array) -> jax.Array:
        return jnp.mean((model.filter(weights, batch["dry"]) - batch["wet"]) ** 2)

    return loss_fn


def refine(
    model: biasnet.Model,
    start: biasnet.Raw,
    pair: dict[str, np.ndarray],
    *,
    key: jax.Array,
    steps: int = STEPS,
    rate: float = RATE,
    on_record: Callable[[Record], None] | None = None,
) -> Refined:
    """Train a network from given outputs on, by Adam with a rate that falls to nothing.

    Args:
        model: of `cascades.sequential` or `cascades.connected`.
        start: outputs to begin with, of `cascades.raw_of`.
        pair: of `weighted`.
        key: typed random key, of the network's weights.
        steps: of Adam, each through the whole signals.
        rate: of Adam at the first step. All weights move, so that the outputs move further.
        on_record: as in `training.fit.fit`.

    Returns:
        Refined: the best outputs seen, those of the start among them.

    Raises:
        ValueError: the model has no controls to start from.
        training.fit.TrainingError: no finite loss.

    Source: Bargum et al. 2023, section 4, over whole recordings.

    Example:
        >>> shape, rng = cascades.structure(1), np.random.default_rng(0)
        >>> x = rng.standard_normal((1, 4096)).astype(np.float32)
        >>> model = cascades.connected(shape, 48000.0)
        >>> start = cascades.Raw(np.zeros((0, 3)), np.zeros((1, 2)))
        >>> found = refine(model, start, {"dry": x, "wet": x}, key=jax.random.key(0), steps=20)
        >>> found.loss_after <= found.loss_before
        True
    """
    if model.raw is None or model.start is None:
        raise ValueError("model has no controls to start from; give one of cascades.sequential or connected")
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, steps))
    loss_fn = make_loss(model)
    state = init_state(model.start(key, start), optimizer, key=key)
    loss_of = partial(jax.jit(loss_fn), batch=jax.device_put(pair), key=key)
    seen = [(float(loss_of(state.params)), start)]
    plan = parallel.single(make_train_step(loss_fn, optimizer))

    def keep(state: Any) -> dict[str, float]:
        loss = float(loss_of(state.params))
        seen.append((loss, biasnet.outputs(model, state.params)))
        return {"loss_whole": loss}

    fit(
        plan,
        state,
        lambda _: pair,
        steps,
        log_every=LOG_EVERY,
        evaluate=keep,
        on_record=on_record,
        prefetch=0,
    )
    loss, raw = min(seen, key=lambda one: one[0])
    return Refined(raw, seen[0][0], loss)
