"""The method "spectral" of `align`, from delay candidates to a polished cascade, and "auto".

coarse bins: random and traced starts -> growth, pruning, swaps -> fine bins: narrow sections -> polish
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from jaxapf import metrics
from jaxapf._internal.arrays import float64_on_cpu
from jaxapf._internal.text import count
from jaxapf.alignment import local_search, network, search
from jaxapf.alignment.cascade import FIRST, SECOND, Cascade, Target, residual
from jaxapf.alignment.options import MAX_ORDER
from jaxapf.alignment.problem import AlignmentProblem, Fit, Report
from jaxapf.alignment.search import Candidate, Problem

__all__ = ["search_cascade", "solve", "solve_auto"]

BEAM = 12
PAYS = 0.005  # a further section must lower the error by this fraction
NIL_ERROR = 1e-6  # lower errors are as good as none: no section pays for them
LARGE_ERROR = 0.02  # above the bound, from which "auto" starts from the network's sections as well
REFINING = 50  # steps from there


def solve(
    problem: AlignmentProblem,
    order: int | str,
    rng: np.random.Generator,
    report: Report,
    *,
    most_damping: float = search.MOST_DAMPING,
) -> Fit:
    """Fit a cascade to the cross-spectrum from many starts."""
    candidate, reason = search_cascade(problem, order, rng, report, most_damping)
    return Fit(candidate.cascade, reason)


def solve_auto(problem: AlignmentProblem, order: int | str, rng: np.random.Generator, report: Report) -> Fit:
    """Fit as `solve`; where order "auto" leaves a large error, try the stored network's sections."""
    found, reason = search_cascade(problem, order, rng, report)
    error = _error_estimate(problem)
    if order != "auto" or error([found]) - metrics.bound_of(problem.spectrum) <= LARGE_ERROR:
        return Fit(found.cascade, reason)
    report("refining the network's sections")
    _, predictions = network.predict_stored(problem)
    starts = network.starts(predictions, problem.spectrum.fs)
    near = local_search.refine(starts, problem.objective(), REFINING)
    more = max(0, int(np.sum(near.cascade.kind)) - int(np.sum(found.cascade.kind)))
    enough = error([near]) <= (1 - PAYS) ** more * error([found])
    # What counts more for other material must not cost this pair.
    if not enough or _correlation(near.cascade, problem) < _correlation(found.cascade, problem):
        return Fit(found.cascade, reason)
    sections = search.n_sections(near.cascade)
    return Fit(
        near.cascade,
        f"{sections} sections, refined from those of the network, leave less than the search does",
    )


def search_cascade(
    problem: AlignmentProblem,
    order: int | str,
    rng: np.random.Generator,
    report: Report,
    most_damping: float = search.MOST_DAMPING,
) -> tuple[Candidate, str]:
    """Return the best cascade of an order, polished, and why it has that order."""
    with float64_on_cpu():
        report("searching")
        objective = problem.objective(most_damping)
        coarse = search.make_problem(objective, search.COARSE, problem.delays[0], narrowest_hz=3.0)
        coarse = search.with_dictionaries(coarse, problem.spectrum.fs)
        if order == "auto":
            found = _grow_while_it_pays(coarse, problem, rng, report)
            most = (MAX_ORDER - int(np.sum(found[0].cascade.kind == FIRST))) // 2
        else:
            found = _grow_to_order(coarse, problem.delays, int(order), rng, report)
            most = int(np.sum(found[0].cascade.kind == SECOND))
        report("refining")
        fine = search.make_problem(objective, search.FINE, float(found[0].cascade.delay), narrowest_hz=0.5)
        found = search.refine_all([c for _, c in found[: search.SMALL_BATCH]], fine, 20)
        found = search.insert_narrow(found, fine, most)
        polish = search.make_problem(
            objective, search.POLISH, float(found[0].cascade.delay), narrowest_hz=0.5
        )
        score, best = search.refine_all([c for _, c in found[: search.SMALL_BATCH]], polish, 40)[0]
    best = search.compact(best)
    return Candidate(score, best), _reason(order, search.n_sections(best), int(np.sum(best.kind)))


def _reason(order: int | str, n_sections: int, found_order: int) -> str:
    if order != "auto":
        return f"the order {order} was requested"
    if found_order >= MAX_ORDER - 1:
        return f"stopped at the largest order, {MAX_ORDER}"
    sections = count(n_sections, "section")
    return f"stopped at {sections}: a further one lowers the error by less than {100 * PAYS:g} %"


def _grow_to_order(
    problem: Problem, delays: Sequence[float], order: int, rng: np.random.Generator, report: Report
) -> list[Candidate]:
    """Grow past the requested number of sections and prune back: a beam of exactly that order."""
    n_second, n_first = divmod(order, 2)
    levels = search.first_levels(problem, delays, n_second, n_first, rng, BEAM)
    most = min(n_second + 2, MAX_ORDER // 2)
    for n in range(min(n_second, 3) + 1, most + 1):
        report(f"growing to {n} sections")
        _extend(levels, n, search.grow(levels[n - 1], problem, BEAM))
    for n in range(max(most, min(max(levels), n_second + 4)) - 1, n_second - 1, -1):
        if n + 1 in levels:
            report(f"pruning to {n} sections")
            _extend(levels, n, search.prune(levels[n + 1], problem, BEAM))
    return search.swap(levels[n_second], problem, BEAM, rounds=4)


def _grow_while_it_pays(
    coarse: Problem, problem: AlignmentProblem, rng: np.random.Generator, report: Report
) -> list[Candidate]:
    """Grow while sections pay, prune back, take the fewest sections within reach of the best."""
    levels = search.first_levels(coarse, problem.delays, 3, 0, rng, BEAM)
    error = _error_estimate(problem)
    n, idle = min(levels), 0
    while n < MAX_ORDER // 2 and (idle < 2 or n < max(levels)):
        report(f"growing to {n + 1} sections")
        best = min(error(levels[k]) for k in range(min(levels), n + 1) if k in levels)
        _extend(levels, n + 1, search.grow(levels[n], coarse, BEAM))
        idle = 0 if error(levels[n + 1]) < (1 - PAYS) * best else idle + 1
        n += 1
    best = min(error(found) for found in levels.values())
    for k in range(n - 1, -1, -1):
        report(f"pruning to {k} sections")
        _extend(levels, k, search.prune(levels[k + 1], coarse, BEAM))
        best = min(best, error(levels[k]))
        if error(levels[k]) > (1 + PAYS) * best:
            break
    enough = (1 + PAYS) * min(error(found) for found in levels.values())
    fewest = min(k for k, found in levels.items() if error(found) <= enough)
    found = search.swap(levels[fewest], coarse, BEAM, rounds=2)
    # Overdamped sections are cut down to first order while the error stays within reach.
    while moves := search.lower_order_moves(found[0].cascade):
        lower = search.select(search.refine_all(moves[: search.BATCH], coarse, 25), BEAM)
        if error(lower) > enough:
            break
        found = lower
    return found


def _extend(levels: dict[int, list[Candidate]], n: int, new: list[Candidate]) -> None:
    levels[n] = search.select([*levels.get(n, []), *new], BEAM)


def _error_estimate(problem: AlignmentProblem) -> Callable[[Sequence[Candidate]], float]:
    """Return what estimates the error-to-signal ratio of a beam's best from its weighted score."""
    cross = problem.spectrum
    floor = metrics.bound_of(cross)
    scale = 2 * cross.max_correlation / cross.wet_energy
    return lambda found: max(NIL_ERROR, floor + scale * (1 - found[0].score))


def _correlation(cascade: Cascade, problem: AlignmentProblem) -> float:
    """Return the unweighted inner product of the filtered dry signal and the wet one, up to a factor."""
    cross = problem.spectrum
    lines = Target(2 * np.pi / cross.n_fft * np.arange(len(cross.cross)), cross.cross)
    return float(np.sum(residual(cascade, lines).real))
