"""Matching pursuit: all-pass sections placed one by one, with a few steps of least squares after each.

    residual of the cross-spectrum, at each candidate delay and with either polarity
      -> score with each atom of a dictionary on top -> value of each atom in the end
      -> the best one -> three Gauss-Newton steps of all that is placed -> the next section

What gains most at once is not always what gains most in the end. A network's value function predicts from the
residual what will be reached after all sections; without it the placing is greedy. All rounds are one
compiled program of fixed length: there is no search until something converges.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Complex, Float, Int

from jaxapf._internal.least_squares import Damping, Normal, iterate
from jaxapf.alignment import cascade as cascades
from jaxapf.alignment.cascade import HIGHEST, SECOND, Cascade, Target
from jaxapf.alignment.dictionary import Dictionary, delay_shifts, gains, make_dictionary
from jaxapf.alignment.features import Features
from jaxapf.alignment.least_squares import Bounds, moved, normal_equations

__all__ = ["ATOMS", "PartialCascade", "Problem", "ValueFunction", "greedy", "make_problem", "place"]

ATOM_HZ = np.geomspace(40.0, 16e3, 52)
ATOM_Q = np.array([0.3, 0.6, 1.2, 2.5, 5.0, 9.0])
ATOMS = len(ATOM_HZ) * len(ATOM_Q)
APART = 4  # neighbouring frequencies of the dictionary of which only the best is proposed
ROWS = 8  # that are followed to the end
STEPS = 3  # of Gauss-Newton after each section
FINALISTS, LAST_STEPS = 4, 16  # rows that are refined once more when all is placed, and steps
RANGE_HZ, RANGE_Q, RANGE_DELAY_S = (20.0, 20e3), (0.1, 10.0), 3e-3
UNPLACED_HZ = 0.1  # a narrow section so low turns by a whole circle everywhere: none
DAMPING = Damping(lowest=1e-6, ridge=1e-5, negligible=1e-9)  # of float32


class Problem(NamedTuple):
    """Cross-spectra to match, scaled so that the phase-only bound is 1."""

    omega: Float[Any, " n_bands"]  # rad / sample
    cross: Complex[Any, "n_rows n_bands"]
    total: Float[Any, "n_rows n_bands"]  # sum of the magnitudes of cross
    polarity: Float[Any, " n_rows"]
    fs: Any
    least: Float[Any, " n_rows"]  # change of the delay in samples, and `most`
    most: Float[Any, " n_rows"]


class PartialCascade(NamedTuple):
    """Cascades of which some sections are placed."""

    row: Int[Any, " n_rows"]  # of the problem
    delay: Float[Any, " n_rows"]  # in samples
    log_t: Float[Any, "n_rows n_sections"]
    log_d: Float[Any, "n_rows n_sections"]
    reached: Float[Any, " n_rows"]  # share of the phase-only bound


# From a partial cascade, the problem, the scores (rows, ATOMS) with each atom on top, and the number of
# sections to place, to the value of each atom (rows, ATOMS).
ValueFunction = Callable[[PartialCascade, Problem, jax.Array, Any], jax.Array]


def greedy(partial: PartialCascade, problem: Problem, reached: jax.Array, remaining: Any) -> jax.Array:
    """Value atoms by what they reach at once."""
    return reached


def make_problem(features: Features, fs: Any, delays: Any = 0.0, max_delay: Any = np.inf) -> Problem:
    """Make the problem of both polarities at each candidate delay, (candidates,) or one for all."""
    total = jnp.asarray(features.total)
    bound = jnp.maximum(jnp.sum(total, axis=-1, keepdims=True), 1e-20)
    cross = jnp.asarray(features.cross) / bound.astype(features.cross.dtype)
    sign = jnp.repeat(jnp.array([1.0, -1.0], total.dtype), len(total))
    both, level = (jnp.concatenate([part, part]) for part in (cross, total / bound))
    rate, most = jnp.asarray(fs, total.dtype), jnp.asarray(max_delay, total.dtype)
    at = jnp.tile(jnp.broadcast_to(jnp.asarray(delays, total.dtype), (len(total),)), 2)
    far = RANGE_DELAY_S * rate
    least, most = jnp.clip(-most - at, -far, 0.0), jnp.clip(most - at, 0.0, far)
    return Problem(jnp.asarray(features.omega), both, level, sign, rate, least, most)


def empty(problem: Problem, n_sections: int) -> PartialCascade:
    """Return cascades without a section, one for each row of the problem."""
    rows = len(problem.cross)
    low = jnp.log(jnp.tan(np.pi * UNPLACED_HZ / problem.fs))
    start = PartialCascade(
        jnp.arange(rows),
        jnp.zeros(rows, low.dtype),
        jnp.broadcast_to(low, (rows, n_sections)),
        jnp.full((rows, n_sections), -float(np.log(RANGE_Q[1])), low.dtype),
        jnp.zeros(rows, low.dtype),
    )
    return start._replace(reached=jnp.sum(residual(start, problem).real, axis=-1))


def residual(partial: PartialCascade, problem: Problem) -> Complex[Array, "n_rows n_bands"]:
    """Return the cross-spectrum with what is placed taken out."""
    polarity = problem.polarity[partial.row]
    sections = Cascade(partial.delay, partial.log_t, partial.log_d, SECOND, polarity)
    return cascades.residual(sections, Target(problem.omega, problem.cross[partial.row]))


def atoms(problem: Problem) -> Dictionary:
    """Make the dictionary on the bands of a problem."""
    hz = jnp.minimum(jnp.asarray(ATOM_HZ, jnp.float32), HIGHEST * problem.fs)
    log_t, log_d = jnp.log(jnp.tan(np.pi / problem.fs * hz)), jnp.asarray(-np.log(ATOM_Q), jnp.float32)
    return make_dictionary(log_t, log_d, delay_shifts(problem.fs, jnp), problem.omega)


def distinct(values: jax.Array, count: int) -> Int[Array, "n_rows count"]:
    """Return the best atoms that are apart in frequency."""
    apart = values.reshape(len(values), -1, APART * len(ATOM_Q))
    best = jnp.argmax(apart, axis=-1)
    places = jax.lax.top_k(jnp.max(apart, axis=-1), count)[1]
    return places * apart.shape[-1] + jnp.take_along_axis(best, places, axis=1)


def extend(
    partial: PartialCascade, problem: Problem, dictionary: Dictionary, atom: Any, shift: Any, index: Any
) -> PartialCascade:
    """Place ``atom`` (n_rows,) as section `index` of each row and change its delay by ``shift`` (n_rows,)."""
    least, most = problem.least[partial.row], problem.most[partial.row]
    return partial._replace(
        delay=jnp.clip(partial.delay + shift, least, most),
        log_t=partial.log_t.at[:, index].set(dictionary.log_t[atom]),
        log_d=partial.log_d.at[:, index].set(dictionary.log_d[atom]),
    )


def refine(
    partial: PartialCascade, problem: Problem, active: Bool[Array, " n_sections"], steps: int = STEPS
) -> PartialCascade:
    """Take some damped Gauss-Newton steps in the delay and the active sections."""
    low, high = (jnp.log(jnp.tan(np.pi * jnp.minimum(hz / problem.fs, HIGHEST))) for hz in RANGE_HZ)
    ends = (low, high), (-float(np.log(RANGE_Q[1])), -float(np.log(RANGE_Q[0])))

    def one(partial: PartialCascade) -> PartialCascade:
        target = Target(problem.omega, problem.cross[partial.row])
        bounds = Bounds((problem.least[partial.row], problem.most[partial.row]), *ends, -np.inf)

        def cascade(point: Any) -> Cascade:
            return Cascade(*point, kind=SECOND, polarity=problem.polarity[partial.row])

        def evaluate(point: Any) -> Normal:
            return normal_equations(cascade(point), target)

        def move(point: Any, step: jax.Array) -> Any:
            to = moved(cascade(point), step, bounds)
            return to.delay, *(jnp.where(active, *both) for both in zip(to[1:3], point[1:], strict=True))

        start = (partial.delay, partial.log_t, partial.log_d)
        point, normal = iterate(evaluate, start, move, steps, DAMPING)
        return PartialCascade(partial.row, *point, -normal.error)

    return jax.vmap(one)(partial)


def place(problem: Problem, value: ValueFunction, n_sections: int, rows: int = ROWS) -> PartialCascade:
    """Place all sections in the most promising rows and refine the best once more; best first."""
    ranked = _ranked(_in_rounds(problem, value, n_sections, min(rows, len(problem.cross))))
    best, others = (jax.tree.map(part, ranked) for part in (lambda a: a[:FINALISTS], lambda a: a[FINALISTS:]))
    best = refine(best, problem, jnp.ones(n_sections, bool), LAST_STEPS)
    return _ranked(jax.tree.map(lambda *fields: jnp.concatenate(fields), best, others))


def _in_rounds(problem: Problem, value: ValueFunction, n_sections: int, rows: int) -> PartialCascade:
    """Place section by section, in the most promising rows."""
    dictionary, indices = atoms(problem), jnp.arange(n_sections)

    def valued(partial: PartialCascade, index: Any) -> tuple[jax.Array, jax.Array]:
        reached, shifts = gains(dictionary, residual(partial, problem))
        return value(partial, problem, reached, n_sections - index), shifts

    def round_(partial: PartialCascade, index: Any) -> tuple[PartialCascade, None]:
        values, shifts = valued(partial, index)
        atom = jnp.argmax(values, axis=1)
        extended = extend(partial, problem, dictionary, atom, shifts[jnp.arange(rows), atom], index)
        return refine(extended, problem, indices <= index), None

    start = empty(problem, n_sections)
    first = jnp.where(_repeated(start), -1.0, jnp.max(valued(start, 0)[0], axis=1))
    promising = jax.lax.top_k(first, rows)[1]
    return jax.lax.scan(round_, jax.tree.map(lambda field: field[promising], start), indices)[0]


def _ranked(partial: PartialCascade) -> PartialCascade:
    order = jnp.argsort(-partial.reached)
    return jax.tree.map(lambda field: field[order], partial)


def _repeated(start: PartialCascade) -> jax.Array:
    """Return which rows are the same as an earlier one: candidates are repeated where there are few."""
    near = jnp.abs(start.reached[:, None] - start.reached[None]) < 1e-6
    return jnp.any(jnp.tril(near, -1), axis=1)
