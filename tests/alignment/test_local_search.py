"""Refinement in a fixed number of steps: what it may use, and what it must reach."""

import numpy as np
import pytest

from jaxapf import datasets
from jaxapf.alignment import cross_spectrum, local_search, search
from jaxapf.alignment.cascade import SECOND, Cascade, Target, residual

FS = 44100.0


def objective_of(pair) -> search.Objective:
    return search.Objective(cross_spectrum.measure(pair.dry, pair.wet, FS, 400), 0.0, 400)


def cascade(delay, cutoff_hz, q, polarity=1.0) -> Cascade:
    log_t = np.log(np.tan(np.pi / FS * np.asarray(cutoff_hz, float)))
    kind = np.full(len(log_t), SECOND, np.int32)
    return Cascade(np.float64(delay), log_t, -np.log(np.asarray(q, float)), kind, np.float64(polarity))


def score_of(found: Cascade, objective: search.Objective) -> float:
    """The share of the phase-only bound, summed over all lines of the spectrum in float64."""
    cross = objective.cross
    omega = 2 * np.pi * np.arange(len(cross.cross)) / cross.n_fft
    target = Target(omega, cross.cross / np.sum(np.abs(cross.cross)))
    return float(np.sum(residual(found, target).real))


@pytest.fixture(scope="module")
def room():
    return objective_of(datasets.Pairs(8192, FS, key=5, recipe=datasets.Recipe(room=1.0))[0])


def test_steps_are_counted(room, monkeypatch):
    """Steps are counted where nothing moves: neither is anything compiled."""
    taken = []

    def counted(cascades, problem, steps):
        taken.append(steps)
        scores = [search.Candidate(float(np.sum(residual(c, problem.target).real)), c) for c in cascades]
        return sorted(scores, key=lambda one: -one.score)

    monkeypatch.setattr(search, "refine_all", counted)
    delay, polarity = cross_spectrum.best_delay(room.cross, 400)
    for steps in (10, 23, 50):
        taken.clear()
        local_search.refine([cascade(delay, [15e3], [5.0], polarity)], room, steps)
        assert sum(taken) == steps


def test_more_steps_reach_more(room):
    delay, polarity = cross_spectrum.best_delay(room.cross, 400)
    start = cascade(delay, [15e3], [5.0], polarity)
    found = [local_search.refine([start], room, steps) for steps in (10, 50)]
    assert score_of(start, room) < found[0][0] < found[1][0]
    assert len(found[1][1].kind) <= local_search.MOST
    for score, answer in found:
        assert score == pytest.approx(score_of(answer, room), abs=2e-3)


def test_a_full_cascade_exchanges_sections(room):
    delay, polarity = cross_spectrum.best_delay(room.cross, 400)
    full = cascade(
        delay, np.geomspace(12e3, 18e3, local_search.MOST), np.full(local_search.MOST, 9.0), polarity
    )
    fine = search.make_problem(room, search.FINE, float(delay), narrowest_hz=0.5)
    moves = local_search._insertions(full, fine)
    assert moves
    assert all(len(move.kind) == local_search.MOST for move in moves)
    assert local_search.refine([full], room, 30)[0] > score_of(full, room)


@pytest.mark.parametrize("steps", [9, 0, -3])
def test_too_few_steps(room, steps):
    with pytest.raises(ValueError, match=f"^steps is {steps} and there are 1 starts; expected 10 or more"):
        local_search.refine([cascade(0.0, [1e3], [1.0])], room, steps)
