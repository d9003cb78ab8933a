"""From the cascades that a network predicts to the best cascade nearby, in a fixed number of steps.

    all of them, a few steps -> rounds of two steps: the best with a section more or another one in its place
      -> on fine bins, rounds of two steps: the section inserted that would gain most on the residual
      -> on the finest bins, the last steps

A step is one of Levenberg-Marquardt, taken by all cascades of a round at once. The spectral method of
`jaxapf.align` searches from many starts instead and takes as many steps as it needs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxapf._internal.arrays import float64_on_cpu
from jaxapf.alignment import search
from jaxapf.alignment.cascade import SECOND, Cascade, residual

__all__ = ["refine"]

BEAM = 12
EACH, FIRST_FINE, LAST = 2, 3, 3  # steps of a round, of the first on fine bins, of the last on the finest
MOST = 16  # sections, those of the largest order of `align`


def refine(starts: Sequence[Cascade], objective: search.Objective, steps: int) -> search.Candidate:
    """Return the best cascade reached from starts of second-order sections in ten or more steps."""
    if steps < 10 or not starts:
        raise ValueError(
            f"steps is {steps} and there are {len(starts)} starts; expected 10 or more, and one."
        )
    rounds = steps // 10
    remaining = steps - EACH * (1 + rounds)
    with float64_on_cpu():
        grown = _coarse(list(starts), objective, rounds)
        fine = search.make_problem(objective, search.FINE, float(grown[0].delay), narrowest_hz=0.5)
        best = search.refine_all(grown[: search.SMALL_BATCH], fine, FIRST_FINE)[0]
        remaining -= FIRST_FINE
        while remaining >= LAST + EACH:
            new = search.refine_all(_insertions(best[1], fine) or [best[1]], fine, EACH)[0]
            remaining -= EACH
            if new[0] <= best[0]:
                break
            best = new
        polish = search.make_problem(objective, search.POLISH, float(best[1].delay), narrowest_hz=0.5)
        score, found = search.refine_all([best[1]], polish, remaining)[0]
        return search.Candidate(score, search.compact(found))


def _coarse(starts: list[Cascade], objective: search.Objective, rounds: int) -> list[Cascade]:
    """Refine all starts on coarse bins, then grow them in rounds: the best first."""
    problem = search.make_problem(objective, search.COARSE, float(starts[0].delay), narrowest_hz=3.0)
    problem = search.with_dictionaries(problem, objective.cross.fs)
    found = search.select(search.refine_all(starts, problem, EACH), BEAM)
    for _ in range(rounds):
        found = search.select([*search.refine_all(_moves(found, problem), problem, EACH), *found], BEAM)
    return [search.compact(cascade) for _, cascade in found]


def _moves(found: list[search.Candidate], problem: search.Problem) -> list[Cascade]:
    """Return the best cascades with one section more, and with one swapped: a batch."""
    half = search.BATCH // 2
    room = [c for _, c in found[:8] if search.n_sections(c) < MOST]
    grown = [d for c in room for d in search.add_moves(c, problem, half // 8)]
    swapped = [d for _, c in found[:4] for d in search.swap_moves(c, problem, 1)]
    return [*grown[:half], *swapped[: search.BATCH - half]]


def _insertions(cascade: Cascade, problem: search.Problem) -> list[Cascade]:
    """Insert one of four sections, in place of the one that matters least once the cascade is full."""
    cascade = search.compact(cascade)
    if len(cascade.kind) >= MOST:
        shorter = search.remove_moves(cascade)
        scores = [np.sum(residual(one, problem.target).real) for one in shorter]
        cascade = shorter[int(np.argmax(scores))]
    sections, _ = search.narrow_sections(cascade, problem)
    return [search.with_section(cascade, *section, kind=SECOND) for section in sections]
