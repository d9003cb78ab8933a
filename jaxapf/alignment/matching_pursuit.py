"""Placing all-pass sections one by one: a network says where, a few steps of least squares settle them.

    residual of the cross-spectrum, at each candidate delay and with either polarity
      -> what each section of a dictionary would gain -> what a network makes of it in the end
      -> the best few -> three Gauss-Newton steps of all that is placed -> the next section

The phase of a cascade is a sum, so what one section gains is one product of matrices over the bands; but what
gains most at once is not always what gains most in the end. The network hears the residual and says what
will be left after all sections, as if they were played out; without it the placing is greedy. All rounds are
one compiled program of fixed length: there is no search until something converges.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxapf.alignment.features import HIGHEST, Heard, _conjugate, _numerators

WORD_HZ = np.geomspace(40.0, 16e3, 52)
WORD_Q = np.array([0.3, 0.6, 1.2, 2.5, 5.0, 9.0])
SHIFTS_S = 5e-6 * 2.0 ** np.arange(8)  # changes of the delay that are tried with a word, of either sign
FOLD = 2  # the dictionary looks at every so many bands together
APART = 4  # neighbouring frequencies of the dictionary of which only the best is proposed
ROWS = 8  # that are played to the end
STEPS = 3  # of Gauss-Newton after each section
FINALISTS, LAST_STEPS = 4, 16  # rows that settle once more when all is placed, and steps
RANGE_HZ, RANGE_Q, RANGE_DELAY_S = (20.0, 20e3), (0.1, 10.0), 3e-3
UNPLACED_HZ = 0.1  # a narrow section so low turns by a whole circle everywhere: none
LONGEST = 0.7  # of a step, in the logarithms of frequency and Q
WORDS = len(WORD_HZ) * len(WORD_Q)


class Scene(NamedTuple):
    """What is given: ``omega`` (bands,), ``cross`` and ``total`` (rows, bands), ``polarity`` (rows,), ``fs``.

    ``cross`` is scaled so that the phase-only bound is 1; ``least``, ``most`` (rows,) bound the change of the
    delay, in samples.
    """

    omega: Any
    cross: Any
    total: Any
    polarity: Any
    fs: Any
    least: Any
    most: Any


class Placed(NamedTuple):
    """Cascades (rows, sections): ``log_t`` = log tan(w0 / 2), ``log_d`` = log 1/Q; ``row`` of the scene.

    ``delay`` (rows,) in samples; ``reached`` (rows,) the share of the phase-only bound.
    """

    row: Any
    delay: Any
    log_t: Any
    log_d: Any
    reached: Any


# Which section next: (placed, scene, gains (rows, words), sections left) -> (rows, words)
Judge = Callable[[Placed, Scene, jax.Array, Any], jax.Array]


def greedy(placed: Placed, scene: Scene, gains: jax.Array, left: Any) -> jax.Array:
    """A judge that looks no further than the next section."""
    return gains


def scene_of(heard: Heard, fs: Any, delays: Any = 0.0, max_delay: Any = np.inf) -> Scene:
    """Both polarities of what is heard at each candidate delay, (candidates,) or one for all."""
    total = jnp.asarray(heard.total)
    bound = jnp.maximum(jnp.sum(total, axis=-1, keepdims=True), 1e-20)
    cross = jnp.asarray(heard.cross) / bound.astype(heard.cross.dtype)
    sign = jnp.repeat(jnp.array([1.0, -1.0], total.dtype), len(total))
    both, level = (jnp.concatenate([part, part]) for part in (cross, total / bound))
    rate, most = jnp.asarray(fs, total.dtype), jnp.asarray(max_delay, total.dtype)
    at = jnp.tile(jnp.broadcast_to(jnp.asarray(delays, total.dtype), (len(total),)), 2)
    far = RANGE_DELAY_S * rate
    least, most = jnp.clip(-most - at, -far, 0.0), jnp.clip(most - at, 0.0, far)
    return Scene(jnp.asarray(heard.omega), both, level, sign, rate, least, most)


def nothing_placed(scene: Scene, sections: int) -> Placed:
    """No section yet, one row for each of the scene."""
    rows = len(scene.cross)
    low = jnp.log(jnp.tan(np.pi * UNPLACED_HZ / scene.fs))
    placed = Placed(
        jnp.arange(rows),
        jnp.zeros(rows, low.dtype),
        jnp.broadcast_to(low, (rows, sections)),
        jnp.full((rows, sections), -float(np.log(RANGE_Q[1])), low.dtype),
        jnp.zeros(rows, low.dtype),
    )
    return placed._replace(reached=jnp.sum(residual(placed, scene).real, axis=-1))


def residual(placed: Placed, scene: Scene) -> jax.Array:
    """The cross-spectrum (rows, bands) with what is placed taken out."""
    turned = _conjugate(placed.delay, placed.log_t, placed.log_d, scene.omega)
    sign = scene.polarity[placed.row].astype(scene.cross.dtype)
    return scene.cross[placed.row] * turned * sign[:, None]


# The dictionary


class Dictionary(NamedTuple):
    """Sections to try, Q changing fastest, and delays to try with each.

    ``log_t``, ``log_d`` (WORDS,); ``answers`` (bands, WORDS) real over imaginary part of the conjugate
    responses on the folded bands; ``shifts`` (shifts,) in samples, ``turns`` (shifts, bands) their phases.
    """

    log_t: Any
    log_d: Any
    answers: Any
    shifts: Any
    turns: Any


def make_dictionary(scene: Scene) -> Dictionary:
    """The dictionary on the bands of a scene."""
    hz = jnp.minimum(jnp.asarray(np.repeat(WORD_HZ, len(WORD_Q)), jnp.float32), HIGHEST * scene.fs)
    log_t = jnp.log(jnp.tan(np.pi / scene.fs * hz))
    log_d = jnp.asarray(-np.log(np.tile(WORD_Q, len(WORD_HZ))), jnp.float32)
    centres = jnp.mean(scene.omega.reshape(-1, FOLD), axis=-1)
    answer = _conjugate(jnp.zeros(WORDS, log_t.dtype), log_t[:, None], log_d[:, None], centres)
    shifts = scene.fs * jnp.asarray(np.concatenate([[0.0], SHIFTS_S, -SHIFTS_S]), jnp.float32)
    turn = jnp.outer(shifts, scene.omega)
    answers = jnp.concatenate([answer.real, -answer.imag], axis=-1).T
    return Dictionary(log_t, log_d, answers, shifts, jax.lax.complex(jnp.cos(turn), jnp.sin(turn)))


def gains(left: jax.Array, words: Dictionary) -> tuple[jax.Array, jax.Array]:
    """What each word, with the best change of the delay, would reach: (rows, words) and that change.

    Args:
        left: (rows, bands), of `residual`.
        words: of `make_dictionary`.

    Returns:
        Shares of the bound, and changes in samples.
    """
    shifted = left[:, None] * words.turns[None]
    folded = jnp.sum(shifted.reshape(*shifted.shape[:-1], -1, FOLD), axis=-1)
    # Re(z conj(A)) as one real product
    reached = jnp.concatenate([folded.real, folded.imag], axis=-1) @ words.answers
    return jnp.max(reached, axis=1), words.shifts[jnp.argmax(reached, axis=1)]


def distinct(worth: jax.Array, most: int) -> jax.Array:
    """The best words (rows, most) that are apart in frequency."""
    rows = len(worth)
    apart = worth.reshape(rows, -1, APART * len(WORD_Q))
    best = jnp.argmax(apart, axis=-1)
    places = jax.lax.top_k(jnp.max(apart, axis=-1), most)[1]
    return places * apart.shape[-1] + jnp.take_along_axis(best, places, axis=1)


class Choice(NamedTuple):
    """What to place next: a ``word`` and a ``change`` of the delay, (rows,), in rows ``parent``."""

    parent: Any
    word: Any
    change: Any


def extend(placed: Placed, choice: Choice, scene: Scene, words: Dictionary, index: Any) -> Placed:
    """The chosen rows with their section `index` set and their delay changed."""
    kept = jax.tree.map(lambda field: field[choice.parent], placed)
    return kept._replace(
        delay=jnp.clip(kept.delay + choice.change, scene.least[kept.row], scene.most[kept.row]),
        log_t=kept.log_t.at[:, index].set(words.log_t[choice.word]),
        log_d=kept.log_d.at[:, index].set(words.log_d[choice.word]),
    )


# Gauss-Newton


def settle(placed: Placed, scene: Scene, there: Any, steps: int = STEPS) -> Placed:
    """Some steps of damped Gauss-Newton on all that is placed; a step that reaches less is not taken.

    Args:
        placed: cascades.
        scene: what they are to reach.
        there: (sections,), whether a section is placed; the others stay as they are.
        steps: of each row.

    Source: Levenberg-Marquardt as in `jaxapf.alignment.least_squares` (which is float64 and runs until it converges).
    """
    low, high = (jnp.log(jnp.tan(np.pi * jnp.minimum(hz / scene.fs, HIGHEST))) for hz in RANGE_HZ)
    n = placed.log_t.shape[-1]
    rows, wide = len(placed.row), jnp.ones((len(placed.row), n), low.dtype)
    least, most = scene.least[placed.row][:, None], scene.most[placed.row][:, None]
    lowest = jnp.concatenate([least, low * wide, -float(np.log(RANGE_Q[1])) * wide], axis=1)
    highest = jnp.concatenate([most, high * wide, -float(np.log(RANGE_Q[0])) * wide], axis=1)
    far = jnp.full((rows, 1), RANGE_DELAY_S * scene.fs)
    longest = jnp.concatenate([far, LONGEST * wide, LONGEST * wide], axis=1)
    free = jnp.concatenate([jnp.ones(1, bool), there, there])[None]
    sign = scene.polarity[placed.row].astype(scene.cross.dtype)
    cross = scene.cross[placed.row] * sign[:, None]

    def body(_: Any, carry: Any) -> Any:
        at, damping, old = carry
        step = jnp.clip(_damped(old, damping), -longest, longest)
        to = jnp.where(free, jnp.clip(at + step, lowest, highest), at)
        new = _normal(to, scene.omega, cross)
        better = new.reached > old.reached
        damping = jnp.clip(jnp.where(better, 0.3 * damping, 4 * damping), 1e-6, 1e6)
        return jnp.where(better[:, None], to, at), damping, jax.tree.map(partial(_chosen, better), new, old)

    start = jnp.concatenate([placed.delay[:, None], placed.log_t, placed.log_d], axis=1)
    begin = (start, jnp.full(len(start), 1e-2, start.dtype), _normal(start, scene.omega, cross))
    at, _, found = jax.lax.fori_loop(0, steps, body, begin)
    return Placed(placed.row, at[:, 0], at[:, 1 : n + 1], at[:, n + 1 :], found.reached)


class Normal(NamedTuple):
    """What is reached (rows,), its slope (rows, unknowns) and curvature (rows, unknowns, unknowns)."""

    reached: Any
    slope: Any
    curvature: Any


def _normal(at: jax.Array, omega: jax.Array, cross: jax.Array) -> Normal:
    """Re sum S conj(A e^{-j w d}), its slope, and J W J^T; W: the real part of what is left, or a tenth."""
    n = at.shape[-1] // 2
    delay, log_t, log_d = at[:, 0], at[:, 1 : n + 1], at[:, n + 1 :]
    left = cross * _conjugate(delay, log_t, log_d, omega)
    s, re, im = _numerators(log_t, log_d, omega)
    power = re * re + im * im
    by_delay = jnp.broadcast_to(-omega, (len(at), 1, len(omega)))
    phase = jnp.concatenate([by_delay, -2 * im * (1 + s * s) / power, 2 * im * re / power], axis=1)
    weight = jnp.maximum(left.real, 0.1 * jnp.abs(left))
    slope = jnp.sum(phase * left.imag[:, None], axis=-1)
    return Normal(jnp.sum(left.real, axis=-1), slope, (phase * weight[:, None]) @ jnp.swapaxes(phase, 1, 2))


def _damped(normal: Normal, damping: jax.Array) -> jax.Array:
    """Steps (rows, unknowns) of Levenberg-Marquardt."""
    diagonal = jnp.diagonal(normal.curvature, axis1=1, axis2=2)
    ridge = jnp.where(diagonal > 1e-9, (damping[:, None] + 1e-5) * diagonal, 1.0)
    eye = jnp.eye(ridge.shape[-1], dtype=ridge.dtype)[None]
    factor = jnp.linalg.cholesky(normal.curvature + ridge[:, None] * eye, symmetrize_input=False)
    step = jax.vmap(lambda factor, slope: jax.scipy.linalg.cho_solve((factor, True), slope))(
        factor, normal.slope
    )
    return jnp.where(jnp.isfinite(step), step, 0.0)


def _chosen(where: jax.Array, new: jax.Array, old: jax.Array) -> jax.Array:
    return jnp.where(jnp.expand_dims(where, range(1, new.ndim)), new, old)


# All rounds


def place(scene: Scene, judge: Judge, sections: int, rows: int = ROWS) -> Placed:
    """Place all sections in the rows that promise most; the best settle once more.

    Args:
        scene: of `scene_of`.
        judge: says what a word is worth.
        sections: how many.
        rows: how many are played; they are chosen by what the judge says of the first section.

    Returns:
        Placed, best first.

    Example:
        >>> heard = Heard(jnp.linspace(0.01, 3.0, 64), jnp.ones((1, 64), jnp.complex64), jnp.ones((1, 64)))
        >>> found = place(scene_of(heard, 44100.0), greedy, 2)
        >>> found.log_t.shape, bool(found.reached[0] > 0.99)
        ((2, 2), True)
    """
    ranked = _ranked(_in_rounds(scene, judge, sections, min(rows, len(scene.cross))))
    best, others = (jax.tree.map(part, ranked) for part in (lambda a: a[:FINALISTS], lambda a: a[FINALISTS:]))
    best = settle(best, scene, jnp.ones(sections, bool), LAST_STEPS)
    return _ranked(jax.tree.map(lambda *fields: jnp.concatenate(fields), best, others))


def _in_rounds(scene: Scene, judge: Judge, sections: int, rows: int) -> Placed:
    """Section by section, in the most promising rows."""
    words = make_dictionary(scene)
    indices = jnp.arange(sections)

    def look(placed: Placed, index: Any) -> tuple[jax.Array, jax.Array]:
        reach, change = gains(residual(placed, scene), words)
        return judge(placed, scene, reach, sections - index), change

    def round_(placed: Placed, index: Any) -> tuple[Placed, None]:
        worth, change = look(placed, index)
        everyone, word = jnp.arange(rows), jnp.argmax(worth, axis=1)
        grown = extend(placed, Choice(everyone, word, change[everyone, word]), scene, words, index)
        return settle(grown, scene, indices <= index), None

    nothing = nothing_placed(scene, sections)
    first = jnp.where(_repeated(nothing), -1.0, jnp.max(look(nothing, 0)[0], axis=1))
    promising = jax.lax.top_k(first, rows)[1]
    return jax.lax.scan(round_, jax.tree.map(lambda field: field[promising], nothing), indices)[0]


def _ranked(placed: Placed) -> Placed:
    order = jnp.argsort(-placed.reached)
    return jax.tree.map(lambda field: field[order], placed)


def _repeated(nothing: Placed) -> jax.Array:
    """Rows that are the same as an earlier one: candidates are repeated where there are few."""
    near = jnp.abs(nothing.reached[:, None] - nothing.reached[None]) < 1e-6
    return jnp.any(jnp.tril(near, -1), axis=1)
