"""Estimate the delay, the polarity and the all-pass cascade between a dry and a wet recording.

    cross-spectrum -> a method of the table -> cascade, delay alone or nothing, by its output -> Alignment

The error-to-signal ratio of a unit-gain filter needs nothing of the signals but their cross-spectrum, so the
search never filters audio; the figures in the result are those of what `Alignment.apply` gives.
"""

from __future__ import annotations

import dataclasses
import math
import sys
import time
from functools import partial
from typing import Any

import numpy as np

from jaxapf import metrics
from jaxapf._internal.rng import seed_words
from jaxapf._internal.streaming import as_real_signal
from jaxapf.alignment import biasnet, cross_spectrum, gradient_descent, network, refinement, search, spectral
from jaxapf.alignment.cascade import Cascade, control_rows, to_sections, without_sections
from jaxapf.alignment.model import Alignment, ModelError, order_of
from jaxapf.alignment.options import MAX_ORDER, METHODS
from jaxapf.alignment.problem import AlignmentProblem, Fit, Method, Report, measure
from jaxapf.alignment.spectral import NIL_ERROR

__all__ = ["Alignment", "ModelError", "align", "alignment_of", "order_of"]

TABLE: dict[str, Method] = {
    "auto": spectral.solve_auto,
    "spectral": spectral.solve,
    "direct": gradient_descent.solve,
    "biasnet-sequential": partial(refinement.solve, biasnet.sequential),
    "biasnet-connected": partial(refinement.solve, biasnet.connected),
    "tcn": network.solve,
}
TCN_ORDER = 12  # of the stored checkpoint
FEWEST_BINS = 8  # below, a signal is too short to show a phase response
SILENCE = 1e-12


def align(
    dry: Any,
    wet: Any,
    fs: float,
    *,
    order: int | str = "auto",
    method: str = "auto",
    max_delay_ms: float = 20.0,
    key: Any = None,
    progress: bool | Report = False,
) -> Alignment:
    """Estimate the delay, polarity and all-pass cascade that lay `dry` on `wet`.

    Args:
        dry: `(..., n_samples)`, the recording to be shifted.
        wet: same shape, the recording to lie on. Leading axes (channels, excerpts) share one result.
        fs: sample rate in Hz.
        order: total order of the cascade, 1 to 32: order // 2 second-order sections, and a first-order one
            if it is odd. `"auto"` adds sections while they pay; `stop_reason` is why it stopped.
        method: `"spectral"`: many starts on the cross-spectrum, then growth and swaps of sections
            (`alignment.search`). `"direct"`: many starts of gradient descent through the recursion, in
            float32 on the default device (`alignment.gradient_descent`; order `"auto"` is 7).
            `"biasnet-sequential"`, `"biasnet-connected"`: the controls of networks, started at the spectral
            fit and refined through the recursion over the whole recording (`alignment.refinement`; order
            `"auto"` is 7). `"tcn"`: a trained network that places six sections (`alignment.network`) in a
            fixed number of steps, a twentieth of a second for a drum hit once compiled. `"auto"`, the best
            within seconds: `"spectral"`, and, where order `"auto"` leaves a large error, what is refined from
            `"tcn"` if that leaves less by enough for its number of sections.
        max_delay_ms: largest static latency looked for, of either sign.
        key: a JAX random key or a number that seeds the random starts; None is always the same seed.
        progress: show the stages on stderr; or a function of a stage's name, to show them elsewhere.

    Returns:
        An `Alignment`. Where no cascade beats the best delay and polarity it holds those alone, and where
        those do not beat doing nothing, nothing (see `stop_reason`). `metrics` are those of its output.

    Raises:
        ValueError: shapes that differ, no samples, NaN or infinite samples, a value out of range,
            an unknown method.
        TypeError: an order that is no whole number.

    Source: sections and cascade: Bargum et al. 2023, eq. 1 to 5.

    Example:
        >>> import numpy as np
        >>> from jaxapf import align
        >>> dry = np.random.default_rng(0).standard_normal(4000).astype(np.float32)
        >>> wet = -np.concatenate([np.zeros(7, np.float32), dry[:-7]])
        >>> found = align(dry, wet, 48000, order=1)
        >>> round(found.delay_samples, 3), found.polarity, found.metrics["esr_aligned"] < 1e-3
        (7.0, -1, True)
    """
    started = time.perf_counter()
    x, y = _checked_pair(dry, wet)
    _check_options(fs, order, method, max_delay_ms)
    rng = np.random.default_rng(seed_words(key))
    report = _reporter(progress)
    report("measuring the cross-spectrum")
    result = partial(_result, x, y, fs, "spectral" if method == "auto" else method, started)
    peaks = {"dry": float(np.max(np.abs(x))), "wet": float(np.max(np.abs(y)))}
    silent = [name for name, peak in peaks.items() if peak < SILENCE]
    if silent or x.shape[-1] < 2:
        what = f"the {silent[0]} signal is silent" if silent else "a single sample has no phase"
        return result(Fit(without_sections(), f"{what}: nothing to align, the dry signal is kept"), None)
    # Ratios and phases are those of any common scale; this one keeps squares from overflowing.
    dry, wet = (v / np.asarray(max(peaks.values()), v.dtype) for v in (x, y))
    problem = measure(dry, wet, float(fs), max_delay_ms)
    bins = cross_spectrum.log_bins(problem.spectrum, search.COARSE.per_octave)
    if np.count_nonzero(bins.total) < FEWEST_BINS:
        reason = "the recordings are too short or too narrow in frequency for a filter"
        return result(Fit(without_sections(), reason), problem)
    found = result(TABLE[method](problem, order, rng, report), problem)
    rejected = not found.controls and (found.metrics["esr_delay"] or 0) > NIL_ERROR
    if rejected and method in ("auto", "spectral"):
        # The weighting for other material raises the error of this pair: weigh by this pair alone.
        problem = problem._replace(music_share=0.0)
        found = result(TABLE[method](problem, order, rng, report), problem)
    return found


def _checked_pair(dry: Any, wet: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return both recordings as (n_signals, n_samples)."""
    x, y = as_real_signal("dry", dry), as_real_signal("wet", wet)
    if x.shape != y.shape:
        raise ValueError(
            f"dry has shape {x.shape} and wet has shape {y.shape}; expected equal shapes (..., n_samples): "
            "pick matching channels and trim both to one length."
        )
    if x.size == 0:
        raise ValueError(f"dry and wet have shape {x.shape}; expected at least one sample.")
    for name, v in (("dry", x), ("wet", y)):
        if not np.all(np.isfinite(v)):
            raise ValueError(
                f"{name} holds NaN or infinite samples; expected finite ones: repair the recording."
            )
    return x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])


def _check_options(fs: float, order: int | str, method: str, max_delay_ms: float) -> None:
    for name, value, least in (("fs", fs, "above 0 Hz"), ("max_delay_ms", max_delay_ms, "0 ms or more")):
        real = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
        if not (real and np.isfinite(value) and (value > 0 or (value == 0 and name == "max_delay_ms"))):
            raise ValueError(f"{name} is {value!r}; expected a number, {least}.")
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; choose one of {', '.join(METHODS)}.")
    if isinstance(order, str) and order == "auto":
        return
    if isinstance(order, bool) or not isinstance(order, (int, np.integer)):
        raise TypeError(f"order is {order!r}; expected 'auto' or a whole number from 1 to {MAX_ORDER}.")
    if not 1 <= order <= MAX_ORDER:
        raise ValueError(f"order is {order}; expected 'auto' or a whole number from 1 to {MAX_ORDER}.")
    if method == "tcn" and order != TCN_ORDER:
        raise ValueError(
            f"order is {order} and method 'tcn' gives {TCN_ORDER}; leave it out or choose another method."
        )


def _reporter(progress: bool | Report) -> Report:
    if callable(progress):
        return progress
    if not progress:
        return lambda _: None
    end = "" if sys.stderr.isatty() else "\n"
    start = "\r\x1b[K" if end == "" else ""
    return lambda text: print(f"{start}align: {text}", end=end, file=sys.stderr, flush=True)


def alignment_of(cascade: Cascade, fs: float, *, method: str = "tcn", reason: str = "") -> Alignment:
    """Return a cascade, such as `network.refine` returns, as an `Alignment` without figures."""
    return Alignment(
        sections=to_sections(cascade),
        delay_samples=float(cascade.delay),
        polarity=int(cascade.polarity),
        fs=fs,
        controls=control_rows(cascade, float(fs)),
        metrics={},
        method=method,
        stop_reason=reason,
    )


def _result(
    x: np.ndarray,
    y: np.ndarray,
    fs: float,
    method: str,
    started: float,
    fit: Fit,
    problem: AlignmentProblem | None,
) -> Alignment:
    """Choose the best of cascade, delay alone and nothing, by the errors of their outputs."""
    raw = alignment_of(without_sections(), fs, method=method)
    delay = alignment_of(without_sections(*problem.delay_only), fs, method=method) if problem else raw
    aligned = alignment_of(fit.cascade, fs, method=method, reason=fit.reason)
    esr, correlation = {}, {}
    for name, model in (("raw", raw), ("delay", delay), ("aligned", aligned)):
        esr[name], correlation[name] = _figures(model, x, y)
    if esr["delay"] >= esr["raw"]:
        delay, esr["delay"], correlation["delay"] = raw, esr["raw"], correlation["raw"]
    if problem and esr["aligned"] >= esr["delay"]:
        done = "doing nothing" if delay is raw else "the best delay and polarity alone"
        which = "answer of the network" if method == "tcn" else "cascade of this order"
        aligned = dataclasses.replace(delay, stop_reason=f"no {which} beats {done}, so no filter is used")
        esr["aligned"], correlation["aligned"] = esr["delay"], correlation["delay"]
    elif fit.controls:
        rows = [{**row, **more} for row, more in zip(aligned.controls, fit.controls, strict=True)]
        aligned = dataclasses.replace(aligned, controls=rows)
    figures = {f"esr_{name}": value for name, value in esr.items()}
    figures |= {f"correlation_{name}": value for name, value in correlation.items()}
    figures |= {
        "esr_bound": metrics.bound_of(problem.spectrum) if problem else esr["raw"],
        "delay_only_samples": delay.delay_samples,
        "delay_only_polarity": delay.polarity,
        "n_sections": len(aligned.controls),
        "order": order_of(aligned.sections),
        "seconds": time.perf_counter() - started,
    }
    figures = {name: (value if np.isfinite(value) else None) for name, value in figures.items()}
    return dataclasses.replace(aligned, metrics=figures)


def _figures(model: Alignment, x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Return the error-to-signal ratio and the correlation of a model's output, taken block by block."""
    # Scaled by a power of two, which is exact, no square overflows.
    exponent = -math.frexp(max(float(np.max(np.abs(v))) for v in (x, y)))[1]
    sums, start = metrics.PairSums(), 0
    for block in model.stream(lambda start, stop: x[:, start:stop], x.shape[-1]):
        target = y[:, start : start + block.shape[-1]]
        sums.add(*(np.ldexp(np.asarray(v, np.float64), exponent) for v in (block, target)))
        start += block.shape[-1]
    return sums.esr, sums.correlation
