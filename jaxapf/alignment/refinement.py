"""Deep optimisation: a BiasNet's cascade, refined through the exact recursion over the whole recording.

    pair = weighted_pair(dry, wet, bins, weight)      # both signals weighted alike
    raw = biasnet.raw_of(sections, shape, fs)         # the spectral fit as a network's outputs
    refined = refine(model, raw, pair, key=key)

An all-pass keeps a weighting: filtering both signals alike and then taking the mean squared error is the
error weighted over frequency, as in spectral fits.
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
from jaxtyping import Float

from jaxapf import allpass
from jaxapf._internal.arrays import float64_on_cpu
from jaxapf._internal.delay import delay_response
from jaxapf._internal.fft import fast_length
from jaxapf.alignment import biasnet, cross_spectrum, search, spectral
from jaxapf.alignment.cascade import SECOND, Cascade, from_sections, to_sections
from jaxapf.alignment.problem import AlignmentProblem, Fit, Report, fixed_order
from jaxapf.training import parallel
from jaxapf.training.fit import Record, fit
from jaxapf.training.step import init_state, make_train_step

__all__ = ["STEPS", "Refined", "error_of", "make_loss", "refine", "solve", "weighted_pair"]

STEPS, RATE, LOG_EVERY = 120, 2e-6, 10
NIL_ERROR = 1e-11  # below, there is nothing to train a network for
COMPLEX_POLES = 1.998  # 1 / Q of a section; below 2 its poles are complex

Tree = Any


class Refined(NamedTuple):
    """The best outputs of a network in training, float64, and the loss before and after."""

    raw: biasnet.Raw
    loss_before: float
    loss_after: float


def weighted_pair(
    dry: Float[np.ndarray, "n_signals n_samples"],
    wet: Float[np.ndarray, "n_signals n_samples"],
    bins: cross_spectrum.Bins,
    weight: Float[np.ndarray, " n_bins"],
    *,
    delay: float = 0.0,
    polarity: int = 1,
) -> dict[str, np.ndarray]:
    """Return {"dry", "wet"}, float32, whose mean squared error is the weighted one; the wet of unit power."""
    n_samples = dry.shape[-1]
    n_fft = fast_length(2 * n_samples + 2 * int(abs(delay)))
    omega = np.arange(n_fft // 2 + 1) * (2 * np.pi / n_fft)
    log_omega = np.log(np.maximum(omega, 1e-9))
    gain = np.sqrt(np.interp(log_omega, np.log(bins.omega), weight, left=0.0, right=0.0))

    def filtered(signal: np.ndarray, response: np.ndarray) -> np.ndarray:
        spectrum = scipy.fft.rfft(signal, n_fft, workers=-1) * response
        return np.asarray(scipy.fft.irfft(spectrum, n_fft, workers=-1))[..., :n_samples]

    x, y = filtered(dry, gain * polarity * delay_response(delay, omega)), filtered(wet, gain)
    scale = 1 / max(float(np.sqrt(np.mean(np.square(y)))), 1e-20)
    return {"dry": (scale * x).astype(np.float32), "wet": (scale * y).astype(np.float32)}


def error_of(sections: allpass.Sections, pair: dict[str, np.ndarray]) -> float:
    """Return the mean squared error of a pair's dry signals through NumPy sections, filtered in float64."""
    with float64_on_cpu():
        found = _cascade(sections, np.asarray(pair["dry"], np.float64))
        return float(np.mean((np.asarray(found) - pair["wet"]) ** 2))


_cascade = jax.jit(allpass.cascade)


def make_loss(model: biasnet.Model) -> Callable[[Tree, dict[str, Any], jax.Array], jax.Array]:
    """Return the mean squared error of whole signals, a function of weights, pair and key."""

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
    """Train a network from given outputs by Adam over whole signals; keep the best outputs."""
    if model.raw is None or model.start is None:
        raise ValueError("model has no controls to start from; give one of sequential or connected")
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

    options: Any = {"log_every": LOG_EVERY, "evaluate": keep, "on_record": on_record, "prefetch": 0}
    fit(plan, state, lambda _: pair, steps, **options)
    loss, raw = min(seen, key=lambda one: one[0])
    return Refined(raw, seen[0][0], loss)


def solve(
    make: Callable[[biasnet.Structure, float], biasnet.Model],
    problem: AlignmentProblem,
    order: int | str,
    rng: np.random.Generator,
    report: Report,
) -> Fit:
    """Refine the spectral fit by a network: the methods "biasnet-sequential" and "biasnet-connected"."""
    order, reason = fixed_order(order)
    fs = problem.spectrum.fs
    starts = [_start(problem, spectral.solve(problem, order, rng, report).cascade)]
    cascade = starts[0][0]
    if np.any((cascade.kind == SECOND) & (cascade.log_d > np.log(COMPLEX_POLES))):
        narrower = spectral.solve(problem, order, rng, report, most_damping=COMPLEX_POLES)
        starts.append(_start(problem, narrower.cascade))
    errors = [error_of(sections, pair) for _, sections, pair in starts]
    cascade, sections, pair = starts[int(np.argmin(errors))]
    n_first = int(np.sum(sections.v == 0))
    shape = biasnet.Structure(len(sections.u) - n_first, n_first, warped=True, stretch=1)
    raw = biasnet.raw_of(sections, shape, fs)
    if min(errors) > NIL_ERROR:
        refined = refine(
            make(shape, fs),
            raw,
            pair,
            key=jax.random.key(int(rng.integers(2**31))),
            on_record=lambda record: report(f"refining, step {record['step']} of {STEPS}"),
        )
        # What is better in float32 must be so in float64.
        if error_of(biasnet.sections_of(refined.raw, shape, fs), pair) < min(errors):
            raw = refined.raw
    rows = [
        {f"learnt_{name}": value for name, value in row.items() if name != "type"}
        for row in biasnet.named_controls(raw, shape, fs)
    ]
    return Fit(
        from_sections(biasnet.sections_of(raw, shape, fs), cascade.delay, cascade.polarity), reason, rows
    )


def _start(problem: AlignmentProblem, cascade: Cascade) -> tuple[Cascade, allpass.Sections, dict[str, Any]]:
    """Return a fitted cascade, its sections as a network gives them, and the pair weighted as in the fit."""
    bins = cross_spectrum.log_bins(problem.spectrum, search.FINE.per_octave, float(cascade.delay))
    weight = cross_spectrum.bin_weights(bins, problem.spectrum.fs, problem.music_share)
    delay, polarity = float(cascade.delay), int(cascade.polarity)
    pair = weighted_pair(problem.dry, problem.wet, bins, weight, delay=delay, polarity=polarity)
    return cascade, biasnet.with_complex_poles(to_sections(cascade)), pair
