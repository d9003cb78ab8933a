"""Fit a delay and an all-pass cascade by gradient descent through the exact recursion, from many starts.

The rival of the spectral search (`jaxapf.alignment.search`): Adam on the sections' controls and the delay,
where the loss is the error of the filtered signal itself. All starts are trained side by side
(`training.step.many_starts`), spread over the devices where there are several, and the best one is kept.

Source: after the "naive" training of Bargum et al. 2023, section 4, with frequency and Q on logarithmic
scales, where a step is the same at 30 Hz and at 10 kHz.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxapf import allpass, frequency
from jaxapf._internal.delay import delay_response
from jaxapf.alignment.cascade import FIRST, SECOND, Cascade, log_tangent, to_sections
from jaxapf.alignment.problem import DEFAULT_ORDER, AlignmentProblem, Fit, Report, fixed_order
from jaxapf.training import parallel
from jaxapf.training.fit import Record, fit
from jaxapf.training.step import LossFn, best_start, init_starts, make_train_step, many_starts

__all__ = ["descend", "make_loss", "phase_only_error", "predict", "sections_of", "solve"]

STARTS = 32
STEPS, LOG_EVERY = 600, 100
RATE = 0.05
WINDOW = 2**15  # samples seen in a step
DELAY_STEP_S = 1e-4  # a change of one in the trained delay, in seconds

Params = dict[str, jax.Array]
Tree = Any


def solve(problem: AlignmentProblem, order: int | str, rng: np.random.Generator, report: Report) -> Fit:
    """Fit by gradient descent from many starts: the method "direct" of `align`."""
    order, reason = fixed_order(order)
    cascade = descend(
        problem.dry,
        problem.wet,
        problem.spectrum.fs,
        problem.delays,
        order=order,
        max_delay=problem.max_delay,
        key=jax.random.key(int(rng.integers(2**31))),
        on_record=lambda record: report(f"descending, step {record['step']} of {STEPS}"),
    )
    return Fit(cascade, reason)


def descend(
    dry: np.ndarray,
    wet: np.ndarray,
    fs: float,
    delays: Sequence[float],
    *,
    order: int = DEFAULT_ORDER,
    max_delay: int = 0,
    key: jax.Array,
    on_record: Callable[[Record], None] | None = None,
) -> Cascade:
    """Return the best cascade found from likely delays in samples; `TrainingError` if none is finite."""
    kind = np.array([SECOND] * (order // 2) + [FIRST] * (order % 2), np.int32)
    scale = np.float32(1 / max(float(np.sqrt(np.mean(np.square(wet, dtype=np.float64)))), 1e-20))
    window = min(WINDOW, dry.shape[-1])
    skip = min(max(max_delay, window // 8), window // 4)
    dry, wet = (np.asarray(signal, np.float32) * scale for signal in (dry, wet))
    batch_at = _windows(dry, wet, window)

    optimizer = optax.adam(optax.cosine_decay_schedule(RATE, STEPS))
    loss_fn = make_loss(kind, fs, slice(skip, window - skip))
    step = many_starts(make_train_step(loss_fn, optimizer, clip_norm=1.0))
    states = init_starts(_random_start(kind, delays, fs), optimizer, STARTS, key=key)
    spread = jax.local_device_count() > 1 and STARTS % jax.local_device_count() == 0
    plan = parallel.starts(step) if spread else parallel.single(step)
    fitted = fit(plan, states, batch_at, STEPS, log_every=LOG_EVERY, on_record=on_record)
    params, _ = best_start(fitted.state.params, fitted.losses)
    return _cascade(params, kind, {"dry": dry, "wet": wet}, fs, max_delay)


def make_loss(kind: np.ndarray, fs: float, kept: slice) -> LossFn:
    """Make the loss of a window's kept samples: its beginning lacks the state, its end may have wrapped."""

    def loss_fn(params: Params, batch: dict[str, jax.Array], key: jax.Array) -> jax.Array:
        found = predict(params, kind, batch["dry"], fs)
        return phase_only_error(found[..., kept], batch["wet"][..., kept])

    return loss_fn


def predict(params: Params, kind: np.ndarray, x: jax.Array, fs: float) -> jax.Array:
    """Delay a signal (..., n_samples), its end wrapped to the beginning, and filter it."""
    n_samples = x.shape[-1]
    omega = 2 * np.pi * np.arange(n_samples // 2 + 1, dtype=np.float32) / n_samples
    delay = params["delay"] * (DELAY_STEP_S * fs)
    delayed = frequency.apply_response(delay_response(delay, omega, jnp), x, n_samples)
    return allpass.cascade(sections_of(params, kind), delayed)


def sections_of(params: Params, kind: np.ndarray) -> allpass.Sections:
    """Return the sections of trained parameters, (n_sections,)."""
    return to_sections(Cascade(params["delay"], params["log_t"], params["log_d"], kind, 1.0))


def phase_only_error(found: jax.Array, target: jax.Array) -> jax.Array:
    """Return the mean squared error with the better polarity."""
    powers = jnp.mean(found**2) + jnp.mean(target**2)
    return powers - 2 * jnp.abs(jnp.mean(found * target))


def _random_start(kind: np.ndarray, delays: Sequence[float], fs: float) -> Callable[[jax.Array], Params]:
    """Draw sections between 30 Hz and 15 kHz (or 0.3 fs), Q about 1, at one of the delays."""
    low, high = (float(log_tangent(hz, fs)) for hz in (30.0, min(15e3, 0.3 * fs)))
    starts = jnp.asarray(np.array(delays) / (DELAY_STEP_S * fs), jnp.float32)
    likelihood = jnp.asarray(1 / (1 + np.arange(len(delays))), jnp.float32)

    def start(key: jax.Array) -> Params:
        of_delay, of_jitter, of_frequency, of_q = jax.random.split(key, 4)
        jitter = 0.3 * jax.random.normal(of_jitter)
        return {
            "delay": jax.random.choice(of_delay, starts, p=likelihood / jnp.sum(likelihood)) + jitter,
            "log_t": jax.random.uniform(of_frequency, kind.shape, minval=low, maxval=high),
            "log_d": jax.random.uniform(of_q, kind.shape, minval=-1.0, maxval=1.5),
        }

    return start


def _windows(dry: np.ndarray, wet: np.ndarray, length: int) -> Callable[[int], dict[str, np.ndarray]]:
    """Cut a window of the signals, another in each step; the whole where it is no longer than that."""

    def batch_at(position: int) -> dict[str, np.ndarray]:
        start = np.random.default_rng(position).integers(0, dry.shape[-1] - length + 1)
        return {"dry": dry[:, start : start + length], "wet": wet[:, start : start + length]}

    return batch_at


def _cascade(params: Params, kind: np.ndarray, whole: Tree, fs: float, max_delay: int) -> Cascade:
    """Return the trained start as a cascade, with the polarity that fits the whole signal."""
    found = np.asarray(predict(params, kind, jnp.asarray(whole["dry"]), fs), np.float64)
    polarity = 1.0 if np.sum(found * whole["wet"]) >= 0 else -1.0
    delay = float(np.clip(float(params["delay"]) * DELAY_STEP_S * fs, -max_delay, max_delay))
    log_t, log_d = (np.asarray(params[name], np.float64) for name in ("log_t", "log_d"))
    return Cascade(np.float64(delay), log_t, log_d, kind, np.float64(polarity))
