"""Estimate the delay, the polarity and the all-pass cascade between a dry and a wet recording.

    cross-spectrum -> delay candidates -> log bins, weighted -> global search -> fine polish -> Alignment

The error-to-signal ratio of a unit-gain filter needs nothing of the signals but their cross-spectrum, so
the search never filters audio; the figures that are reported do.
"""

from __future__ import annotations

import dataclasses
import math
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import scipy.fft

from jaxapf import allpass, metrics
from jaxapf._internal.arrays import enable_x64
from jaxapf._internal.delay import HALF_WIDTH, interpolator
from jaxapf._internal.fft import fast_length
from jaxapf._internal.rng import seed_words
from jaxapf._internal.streaming import as_real_signal
from jaxapf.alignment import biasnet, cross_spectrum, gradient_descent, local_search, refinement, search
from jaxapf.alignment import network as aligner
from jaxapf.alignment.cascade import (
    FIRST,
    SECOND,
    Cascade,
    Target,
    control_rows,
    from_sections,
    residual,
    to_sections,
    without_sections,
)
from jaxapf.alignment.model import Alignment, ModelError, order_of
from jaxapf.alignment.options import MAX_ORDER, METHODS
from jaxapf.alignment.search import Candidate, Problem
from jaxapf.training import pretrained

__all__ = ["Alignment", "ModelError", "align", "order_of"]

BIASNETS = {"biasnet-sequential": biasnet.sequential, "biasnet-connected": biasnet.connected}
TCN, TCN_ORDER = "tcn-aligner", 12  # of the stored checkpoints
MUCH_LEFT, REFINING = 0.02, 50  # error above the bound, from which the network is tried, and its steps
BEAM = 12
FEWEST_BINS = 8  # below, a signal is too short to show a phase response
PAYS = 0.005  # a further section must lower the error by this fraction
MUSIC_SHARE, TEST_SIGNAL_SHARE = 0.3, 0.9  # of the music-like weighting, see spectrum.bin_weights
NIL_ERROR = 1e-6  # lower errors are as good as none: no section pays for them
NOTHING_LEFT = 1e-11  # to train a network for
SILENCE = 1e-12
COMPLEX_POLES = 1.998  # 1 / Q of a section; below 2 its poles are complex


class Measured(NamedTuple):
    """What the two recordings say, before any filter is fitted."""

    spectrum: cross_spectrum.CrossSpectrum
    weight_share: float  # of the music-like weighting, 0 to 1
    max_delay: int
    delays: list[float]  # candidates, samples
    delay_only: tuple[float, int]  # best delay and polarity
    most_damping: float = search.MOST_DAMPING


def align(
    dry: Any,
    wet: Any,
    fs: float,
    *,
    order: int | str = "auto",
    method: str = "auto",
    max_delay_ms: float = 20.0,
    key: Any = None,
    progress: bool | Callable[[str], None] = False,
) -> Alignment:
    """Find the delay, polarity and all-pass cascade that lay `dry` on `wet`.

    Args:
        dry: `(..., n_samples)`, the recording to be shifted.
        wet: same shape, the recording to lie on. Leading axes (channels, excerpts) share one result.
        fs: sample rate in Hz.
        order: total order of the cascade, 1 to 32: order // 2 second-order sections, and a first-order one
            if it is odd. `"auto"` adds sections while they pay and says in `stop_reason` why it stopped.
        method: `"spectral"` (many starts on the cross-spectrum, then growth and exchange of sections, see
            `jaxapf.alignment.search`); `"direct"` (many starts of gradient descent through the recursion, in float32 on
            the default device, see `jaxapf.alignment.gradient_descent`; order `"auto"` is 7 then); `"biasnet-sequential"`,
            `"biasnet-connected"` (a network's controls, started at the spectral fit and refined through the
            recursion over the whole recording, see `jaxapf.alignment.refinement`; order `"auto"` is 7 as well); `"tcn"` (a
            trained network that hears the pair and says where six sections go, see `jaxapf.alignment.network`: a fixed
            number of steps, a twentieth of a second for a drum hit once compiled); `"auto"` is the best one
            within seconds: `"spectral"`, and, where order `"auto"` leaves much, what is refined from `"tcn"`
            if that leaves less by enough for its number of sections.
        max_delay_ms: largest static latency looked for, of either sign.
        key: a JAX random key or a number that seeds the random starts; None is always the same seed.
        progress: show the stages on stderr; or a function of a stage's name, to show them elsewhere.

    Returns:
        An `Alignment`. Where no cascade beats the best delay and polarity it holds those alone, and where
        those do not beat doing nothing, nothing; `stop_reason` says so.

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
    named = "spectral" if method == "auto" else method
    rng = np.random.default_rng(seed_words(key))
    show = _reporter(progress)
    show("measuring the cross-spectrum")
    peaks = {"dry": float(np.max(np.abs(x))), "wet": float(np.max(np.abs(y)))}
    silent = [name for name, peak in peaks.items() if peak < SILENCE]
    if silent or x.shape[-1] < 2:
        what = f"the {silent[0]} signal is silent" if silent else "a single sample has no phase"
        reason = f"{what}: nothing to align, the dry signal is kept"
        return _result(x, y, fs, without_sections(), reason, started, method=named)
    # Ratios and phases are those of any common scale; this one keeps squares from overflowing.
    x, y = (v / np.asarray(max(peaks.values()), v.dtype) for v in (x, y))
    measured = _measure(x, y, float(fs), max_delay_ms)
    bins = cross_spectrum.log_bins(measured.spectrum, search.COARSE.per_octave)
    if np.count_nonzero(bins.total) < FEWEST_BINS:
        reason = "the recordings are too short or too narrow in frequency for a filter"
        return _result(x, y, fs, without_sections(), reason, started, measured, named)
    if method == "direct":
        return _result(x, y, fs, *_descended(x, y, measured, order, rng, show), started, measured, method)
    if method == "tcn":
        show("predicting")
        return _result(x, y, fs, *_predicted(measured), started, measured, method)
    if method in BIASNETS:
        fitted, reason, learnt = _refined(x, y, measured, order, rng, show, method)
        found = _result(x, y, fs, fitted, reason, started, measured, method)
        if len(found.controls) == len(learnt):  # not where delay and polarity alone are better
            both = zip(found.controls, learnt, strict=True)
            found = dataclasses.replace(found, controls=[{**row, **more} for row, more in both])
        return found
    fit = _fit_auto if (method, order) == ("auto", "auto") else _fit
    result = _result(x, y, fs, *fit(measured, order, rng, show), started, measured)
    if result.metrics["n_sections"] == 0 and (result.metrics["esr_delay"] or 0.0) > NIL_ERROR:
        # Weighed for what it would do to other material it does harm here: let this pair count alone.
        measured = measured._replace(weight_share=0.0)
        result = _result(x, y, fs, *fit(measured, order, rng, show), started, measured)
    return result


def _checked_pair(dry: Any, wet: Any) -> tuple[np.ndarray, np.ndarray]:
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
    return x, y


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


def _reporter(progress: bool | Callable[[str], None]):
    if callable(progress):
        return progress
    if not progress:
        return lambda _: None
    end = "" if sys.stderr.isatty() else "\n"
    start = "\r\x1b[K" if end == "" else ""
    return lambda text: print(f"{start}align: {text}", end=end, file=sys.stderr, flush=True)


# Measuring


def _measure(x: np.ndarray, y: np.ndarray, fs: float, max_delay_ms: float) -> Measured:
    max_delay = min(round(1e-3 * max_delay_ms * fs), x.shape[-1] - 1)
    cross = cross_spectrum.measure(x, y, fs, max_delay)
    share = TEST_SIGNAL_SHARE if cross_spectrum.is_test_signal(x, cross) else MUSIC_SHARE
    candidates = cross_spectrum.delay_candidates(cross, max_delay)
    return Measured(cross, share, max_delay, candidates, cross_spectrum.best_delay(cross, max_delay))


def _objective(measured: Measured) -> search.Objective:
    return search.Objective(
        measured.spectrum, measured.weight_share, measured.max_delay, measured.most_damping
    )


# Fitting


def _descended(
    x: np.ndarray, y: np.ndarray, measured: Measured, order: int | str, rng: np.random.Generator, show
) -> tuple[Cascade, str]:
    """The best of many starts of gradient descent, and why it has its order."""
    wanted = gradient_descent.DEFAULT_ORDER if order == "auto" else int(order)
    dry, wet = (np.reshape(v, (-1, v.shape[-1])) for v in (x, y))
    found = gradient_descent.descend(
        dry,
        wet,
        measured.spectrum.fs,
        measured.delays,
        order=wanted,
        max_delay=measured.max_delay,
        key=jax.random.key(int(rng.integers(2**31))),
        on_record=lambda record: show(f"descending, step {record['step']} of {gradient_descent.STEPS}"),
    )
    asked = "is the default of method direct" if order == "auto" else "was asked for"
    return found, f"the order {wanted} {asked}"


def _answers(measured: Measured) -> tuple[aligner.Network, aligner.Predictions]:
    """What the stored network says."""
    network = aligner.load(pretrained.path(TCN))
    return network, aligner.predict(network, measured.spectrum, measured.max_delay)


def _predicted(measured: Measured) -> tuple[Cascade, str]:
    """The stored network's best answer, and why it has its order."""
    network, answers = _answers(measured)
    found = aligner.best_cascade(answers, measured.spectrum, measured.max_delay)
    return found, f"the network gives {network.design.sections} sections"


class _Start(NamedTuple):
    """Where a network begins: a fitted cascade, its sections as a network gives them, signals to train on."""

    found: Cascade
    sections: allpass.Sections
    pair: dict[str, np.ndarray]


def _refined(
    x: np.ndarray,
    y: np.ndarray,
    measured: Measured,
    order: int | str,
    rng: np.random.Generator,
    show,
    method: str,
) -> tuple[Cascade, str, list[dict[str, float]]]:
    """A network's cascade, from the spectral fit on, why it has its order, and its controls."""
    wanted = gradient_descent.DEFAULT_ORDER if order == "auto" else int(order)
    dry, wet = (np.reshape(v, (-1, v.shape[-1])) for v in (x, y))
    found, _ = _fit(measured, wanted, rng, show)
    starts = [_start(found, measured, dry, wet)]
    if np.any((found.kind == SECOND) & (found.log_d > np.log(COMPLEX_POLES))):
        narrower, _ = _fit(measured._replace(most_damping=COMPLEX_POLES), wanted, rng, show)
        starts.append(_start(narrower, measured, dry, wet))
    errors = [refinement.error_of(start.sections, start.pair) for start in starts]
    found, sections, pair = starts[int(np.argmin(errors))]
    fs = measured.spectrum.fs
    n_first = int(np.sum(sections.v == 0))
    shape = biasnet.Structure(len(sections.u) - n_first, n_first, warped=True, stretch=1)
    raw = biasnet.raw_of(sections, shape, fs)
    if min(errors) > NOTHING_LEFT:
        refined = refinement.refine(
            BIASNETS[method](shape, fs),
            raw,
            pair,
            key=jax.random.key(int(rng.integers(2**31))),
            on_record=lambda record: show(f"refining, step {record['step']} of {refinement.STEPS}"),
        )
        # What float32 took for better is weighed once more in float64.
        if refinement.error_of(biasnet.sections_of(refined.raw, shape, fs), pair) < min(errors):
            raw = refined.raw
    asked = f"is the default of method {method}" if order == "auto" else "was asked for"
    learnt = biasnet.named_controls(raw, shape, fs)
    return (
        from_sections(biasnet.sections_of(raw, shape, fs), found.delay, found.polarity),
        f"the order {wanted} {asked}",
        [{f"learnt_{name}": value for name, value in row.items() if name != "type"} for row in learnt],
    )


def _start(found: Cascade, measured: Measured, dry: np.ndarray, wet: np.ndarray) -> _Start:
    """A fitted cascade as a network's beginning, with the signals weighted as the fit has them."""
    bins = cross_spectrum.log_bins(measured.spectrum, search.FINE.per_octave, float(found.delay))
    weight = cross_spectrum.bin_weights(bins, measured.spectrum.fs, measured.weight_share)
    pair = refinement.weighted(dry, wet, bins, weight, delay=float(found.delay), polarity=int(found.polarity))
    return _Start(found, biasnet.with_complex_poles(to_sections(found)), pair)


def _fit(measured: Measured, order: int | str, rng: np.random.Generator, show) -> tuple[Cascade, str]:
    """The best cascade of the asked order and why it has that order; in float64, on the CPU."""
    with enable_x64(), jax.default_device(jax.local_devices(backend="cpu")[0]):
        (_, found), reason = _searched(measured, order, rng, show)
    return found, reason


def _fit_auto(measured: Measured, _: Any, rng: np.random.Generator, show) -> tuple[Cascade, str]:
    """As `_fit`, or what is found from the network's sections on, where that is better by enough."""
    with enable_x64(), jax.default_device(jax.local_devices(backend="cpu")[0]):
        found, reason = _searched(measured, "auto", rng, show)
    error = _error_estimate(measured)
    if error([found]) - metrics.bound_of(measured.spectrum) <= MUCH_LEFT:
        return found[1], reason
    show("refining what the network says")
    _, answers = _answers(measured)
    near = local_search.refine(aligner.starts(answers, measured.spectrum.fs), _objective(measured), REFINING)
    more = max(0, int(np.sum(near[1].kind)) - int(np.sum(found[1].kind)))
    enough = error([near]) <= (1 - PAYS) ** more * error([found])
    # What counts more for other material must not cost this pair.
    if not enough or _correlation(near[1], measured) < _correlation(found[1], measured):
        return found[1], reason
    sections = search.n_sections(near[1])
    return near[1], f"{sections} sections, refined from those of the network, leave less than the search does"


def _correlation(cascade: Cascade, measured: Measured) -> float:
    """The inner product of the shifted dry signal and the wet one, unweighted, but for a factor."""
    cross = measured.spectrum
    lines = Target(2 * np.pi / cross.n_fft * np.arange(len(cross.cross)), cross.cross)
    return float(np.sum(residual(cascade, lines).real))


def _searched(
    measured: Measured, order: int | str, rng: np.random.Generator, show
) -> tuple[search.Candidate, str]:
    show("searching")
    objective = _objective(measured)
    problem = search.make_problem(objective, search.COARSE, measured.delays[0], narrowest_hz=3.0)
    problem = search.with_dictionaries(problem, measured.spectrum.fs)
    if order == "auto":
        found = _search_auto(problem, measured, rng, show)
    else:
        found = _search_order(problem, measured, int(order), rng, show)
    kinds = found[0][1].kind
    most = int(np.sum(kinds == SECOND))
    if order == "auto":
        most = (MAX_ORDER - int(np.sum(kinds == FIRST))) // 2
    show("refining")
    fine = search.make_problem(objective, search.FINE, float(found[0][1].delay), narrowest_hz=0.5)
    found = search.refine_all([c for _, c in found[: search.SMALL_BATCH]], fine, 20)
    found = search.insert_narrow(found, fine, most)
    polish = search.make_problem(objective, search.POLISH, float(found[0][1].delay), narrowest_hz=0.5)
    score, best = search.refine_all([c for _, c in found[: search.SMALL_BATCH]], polish, 40)[0]
    best = search.compact(best)
    return Candidate(score, best), _reason(order, search.n_sections(best), int(np.sum(best.kind)))


def _reason(order: int | str, n_sections: int, found_order: int) -> str:
    if order != "auto":
        return f"the order {order} was asked for"
    if found_order >= MAX_ORDER - 1:
        return f"stopped at the largest order, {MAX_ORDER}"
    return (
        f"stopped at {n_sections} section{'s' if n_sections != 1 else ''}: "
        f"a further one lowers the error by less than {100 * PAYS:g} %"
    )


def _search_order(problem: Problem, measured: Measured, order: int, rng, show) -> list[Candidate]:
    """Grow past the asked number of sections and prune back: a beam of exactly that order."""
    n_second, n_first = divmod(order, 2)
    levels = search.first_levels(problem, measured.delays, n_second, n_first, rng, BEAM)
    lowest = min(n_second, 3)
    most = min(n_second + 2, MAX_ORDER // 2)
    for n in range(lowest + 1, most + 1):
        show(f"growing to {n} sections")
        levels[n] = search.select([*levels.get(n, []), *search.grow(levels[n - 1], problem, BEAM)], BEAM)
    top = max(most, min(max(levels), n_second + 4))
    for n in range(top - 1, n_second - 1, -1):
        if n + 1 in levels:
            show(f"pruning to {n} sections")
            levels[n] = search.select([*levels.get(n, []), *search.prune(levels[n + 1], problem, BEAM)], BEAM)
    return search.swap(levels[n_second], problem, BEAM, rounds=4)


def _search_auto(problem: Problem, measured: Measured, rng, show) -> list[Candidate]:
    """Grow while sections pay, prune back, take the fewest sections within reach of the best."""
    levels = search.first_levels(problem, measured.delays, 3, 0, rng, BEAM)
    error = _error_estimate(measured)
    n, idle = min(levels), 0
    while n < MAX_ORDER // 2 and (idle < 2 or n < max(levels)):
        show(f"growing to {n + 1} sections")
        grown = search.grow(levels[n], problem, BEAM)
        best = min(error(levels[k]) for k in range(min(levels), n + 1) if k in levels)
        levels[n + 1] = search.select([*levels.get(n + 1, []), *grown], BEAM)
        idle = 0 if error(levels[n + 1]) < (1 - PAYS) * best else idle + 1
        n += 1
    best = min(error(found) for found in levels.values())
    for k in range(n - 1, -1, -1):
        show(f"pruning to {k} sections")
        levels[k] = search.select([*levels.get(k, []), *search.prune(levels[k + 1], problem, BEAM)], BEAM)
        best = min(best, error(levels[k]))
        if error(levels[k]) > (1 + PAYS) * best:
            break
    best = min(error(found) for found in levels.values())
    chosen = min(k for k, found in levels.items() if error(found) <= (1 + PAYS) * best)
    found = search.swap(levels[chosen], problem, BEAM, rounds=2)
    return _halved(found, problem, lambda f: error(f) <= (1 + PAYS) * best)


def _halved(found: list[Candidate], problem: Problem, good_enough) -> list[Candidate]:
    """Cut overdamped sections down to first order while the error stays within reach."""
    while moves := search.lower_order_moves(found[0][1]):
        halved = search.select(search.refine_all(moves[: search.BATCH], problem, 25), BEAM)
        if not good_enough(halved):
            break
        found = halved
    return found


def _error_estimate(measured: Measured):
    """Error-to-signal ratio of a beam's best, as the weighted score tells it."""
    cross = measured.spectrum
    floor = metrics.bound_of(cross)
    scale = 2 * cross.max_correlation / cross.wet_energy
    return lambda found: max(NIL_ERROR, floor + scale * (1 - found[0][0]))


# The result


def alignment_of(cascade: Cascade, fs: float, *, method: str = "tcn", reason: str = "") -> Alignment:
    """A fitted cascade as an `Alignment`, without figures.

    Args:
        cascade: of `jaxapf.alignment.least_squares`, such as `aligner.refine` gives.
        fs: sample rate in Hz.
        method: what found it.
        reason: why it has its order.

    Returns:
        An `Alignment` whose `metrics` are empty.

    Example:
        >>> alignment_of(without_sections(), 48000.0).apply(np.ones(3)).tolist()
        [1.0, 1.0, 1.0]
    """
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


def _response(cascade: Cascade, omega: np.ndarray) -> Any:
    """Frequency response of the sections and the polarity, (k,)."""
    sections = to_sections(cascade)
    if not len(sections.u):
        return float(cascade.polarity)
    return float(cascade.polarity) * np.exp(1j * allpass.phase_response(sections, omega, 2 * np.pi))


def _delay_response(delay: float, n_fft: int) -> np.ndarray:
    """Response of the delay as `Alignment.apply` makes it: whole samples and the interpolator."""
    whole = math.floor(delay)
    fraction = delay - whole
    taps = np.zeros(n_fft)
    if fraction < 1e-9 or fraction > 1 - 1e-9:
        taps[round(delay) % n_fft] = 1.0
    else:
        taps[(whole + np.arange(-HALF_WIDTH, HALF_WIDTH + 1)) % n_fft] = interpolator(fraction)
    return np.asarray(scipy.fft.rfft(taps, workers=-1))


def _filtered(x: np.ndarray, cascade: Cascade) -> np.ndarray:
    """The dry signal (n_samples,) through the cascade by one zero-padded FFT."""
    n = x.shape[-1]
    if cascade.delay == 0 and cascade.polarity == 1 and not len(cascade.kind):
        return x
    delay = float(cascade.delay)
    n_fft = fast_length(2 * n + 2 * HALF_WIDTH + 1 + int(abs(delay)))
    omega = np.arange(n_fft // 2 + 1) * (2 * np.pi / n_fft)
    spectrum_x = np.asarray(scipy.fft.rfft(x, n_fft, workers=-1))
    spectrum_x *= _response(cascade, omega) * _delay_response(delay, n_fft)
    return np.asarray(scipy.fft.irfft(spectrum_x, n_fft, workers=-1))[:n]


def _figures(x: np.ndarray, y: np.ndarray, cascade: Cascade) -> tuple[float, float]:
    """Error-to-signal ratio and correlation of the filtered dry signal."""
    n = x.shape[-1]
    rows = [_filtered(row, cascade) for row in x.reshape(-1, n)]
    pred = np.stack(rows).reshape(y.shape)
    return metrics.esr(pred, y), metrics.correlation(pred, y)


def _result(
    x: np.ndarray,
    y: np.ndarray,
    fs: float,
    fitted: Cascade,
    reason: str,
    started: float,
    measured: Measured | None = None,
    method: str = "spectral",
) -> Alignment:
    """Choose the best of cascade, delay alone and nothing, by the error on the signals themselves."""
    nothing = without_sections()
    shifted = nothing
    if measured is not None:
        delay, polarity = measured.delay_only
        shifted = nothing._replace(delay=np.float64(delay), polarity=np.float64(polarity))
    figures = {
        name: _figures(x, y, c) for name, c in (("raw", nothing), ("delay", shifted), ("aligned", fitted))
    }
    if figures["delay"][0] >= figures["raw"][0]:
        shifted, figures["delay"] = nothing, figures["raw"]
    chosen = fitted
    if measured is not None and figures["aligned"][0] >= figures["delay"][0]:
        chosen, figures["aligned"] = shifted, figures["delay"]
        done = "doing nothing" if shifted is nothing else "the best delay and polarity alone"
        which = "answer of the network" if method == "tcn" else "cascade of this order"
        reason = f"no {which} beats {done}, so no filter is used"
    bound = metrics.bound_of(measured.spectrum) if measured is not None else metrics.esr(x, y)
    found: dict[str, Any] = {}
    for name in ("raw", "delay", "aligned"):
        found[f"esr_{name}"], found[f"correlation_{name}"] = figures[name]
    sections = to_sections(chosen)
    found |= {
        "esr_bound": bound,
        "delay_only_samples": float(shifted.delay),
        "delay_only_polarity": int(shifted.polarity),
        "n_sections": len(sections.u),
        "order": order_of(sections),
        "seconds": time.perf_counter() - started,
    }
    found = {k: (v if np.isfinite(v) else None) for k, v in found.items()}
    return dataclasses.replace(alignment_of(chosen, fs, method=method, reason=reason), metrics=found)
