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

from jaxapf.hearing import HIGHEST, Heard, _conjugate, _numerators

WORD_HZ = np.geomspace(40.0, 16e3, 52)
WORD_Q = np.array([0.3, 0.6, 1.2, 2.5, 5.0, 9.0])
SHIFTS_S = 5e-6 * 2.0 ** np.arange(8)  # changes of the delay that are tried with a word, of either sign
FOLD = 2  # the dictionary looks at every so many bands together
APART = 4  # neighbouring frequencies of the dictionary of which only the best is proposed
STEPS = 3  # of Gauss-Newton after each section
FINALISTS, LAST_STEPS = 4, 16  # rows that settle once more when all is placed, and steps
RANGE_HZ, RANGE_Q, RANGE_DELAY_S = (20.0, 20e3), (0.1, 10.0), 3e-3
UNPLACED_HZ = 0.1  # a narrow section so low turns by a whole circle everywhere: none
LONGEST = 0.7  # of a step, in the logarithms of frequency and Q
WORDS = len(WORD_HZ) * len(WORD_Q)


class Scene(NamedTuple):
    """What is given: ``omega`` (bands,), ``cross`` and ``total`` (rows, bands), ``polarity`` (rows,), ``fs``.

    ``cross`` is scaled so that the phase-only bound is 1.
    """

    omega: Any
    cross: Any
    total: Any
    polarity: Any
    fs: Any


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


def scene_of(heard: Heard, fs: Any) -> Scene:
    """Both polarities of what is heard at each candidate delay."""
    total = jnp.asarray(heard.total)
    bound = jnp.maximum(jnp.sum(total, axis=-1, keepdims=True), 1e-20)
    cross = jnp.asarray(heard.cross) / bound.astype(heard.cross.dtype)
    sign = jnp.repeat(jnp.array([1.0, -1.0], total.dtype), len(total))
    twice = (jnp.concatenate([part, part]) for part in (cross, total / bound))
    return Scene(jnp.asarray(heard.omega), *twice, sign, jnp.asarray(fs, total.dtype))


def nothing_placed(scene: Scene, sections: int) -> Placed:
    """No section yet, one row for each of the scene."""
    rows = len(scene.cross)
    low = jnp.log(jnp.tan(np.pi * UNPLACED_HZ / scene.fs))
    placed = Placed(
        jnp.arange(rows),
        jnp.zeros(rows),
        jnp.broadcast_to(low, (rows, sections)),
        jnp.full((rows, sections), -np.log(RANGE_Q[1])),
        jnp.zeros(rows),
    )
    return placed._replace(reached=jnp.sum(residual(placed, scene).real, axis=-1))


def residual(placed: Placed, scene: Scene) -> jax.Array:
    """The cross-spectrum (rows, bands) with what is placed taken out."""
    turned = _conjugate(placed.delay, placed.log_t, placed.log_d, scene.omega)
    sign = scene.polarity[placed.row].astype(scene.cross.dtype)
    return scene.cross[placed.row] * turned * sign[:, None]


# The dictionary


def words(fs: Any) -> tuple[jax.Array, jax.Array]:
    """Logarithms of tan(w0 / 2) and 1/Q of the dictionary's sections, each (WORDS,); Q changes fastest."""
    hz = jnp.minimum(jnp.asarray(np.repeat(WORD_HZ, len(WORD_Q)), jnp.float32), HIGHEST * fs)
    log_d = jnp.asarray(-np.log(np.tile(WORD_Q, len(WORD_HZ))), jnp.float32)
    return jnp.log(jnp.tan(np.pi / fs * hz)), log_d


def gains(left: jax.Array, scene: Scene) -> tuple[jax.Array, jax.Array]:
    """What each word, with the best change of the delay, would reach: (rows, words) and that change.

    Args:
        left: (rows, bands), of `residual`.
        scene: for the bands.

    Returns:
        Shares of the bound, and changes in samples.
    """
    shifts = scene.fs * jnp.asarray(np.concatenate([[0.0], SHIFTS_S, -SHIFTS_S]), jnp.float32)
    turn = jnp.outer(shifts, scene.omega)
    shifted = left[:, None] * jax.lax.complex(jnp.cos(turn), jnp.sin(turn))[None]
    folded = jnp.sum(shifted.reshape(*shifted.shape[:-1], -1, FOLD), axis=-1)
    log_t, log_d = words(scene.fs)
    centres = jnp.mean(scene.omega.reshape(-1, FOLD), axis=-1)
    word = _conjugate(jnp.zeros(WORDS), log_t[:, None], log_d[:, None], centres)
    # Re(z conj(A)) as one real product
    reached = jnp.concatenate([folded.real, folded.imag], -1) @ jnp.concatenate([word.real, -word.imag], -1).T
    return jnp.max(reached, axis=1), shifts[jnp.argmax(reached, axis=1)]


def distinct(worth: jax.Array, most: int) -> jax.Array:
    """The best words (rows, most) that are apart in frequency."""
    rows = len(worth)
    apart = worth.reshape(rows, -1, APART * len(WORD_Q))
    best = jnp.argmax(apart, axis=-1)
    places = jax.lax.top_k(jnp.max(apart, axis=-1), most)[1]
    return places * apart.shape[-1] + jnp.take_along_axis(best, places, axis=1)


def extend(placed: Placed, parent: jax.Array, word: jax.Array, change: jax.Array, scene: Scene, index: Any):
    """Rows `parent` with section `index` set to `word` and the delay changed."""
    log_t, log_d = words(scene.fs)
    return Placed(
        placed.row[parent],
        placed.delay[parent] + change,
        placed.log_t[parent].at[:, index].set(log_t[word]),
        placed.log_d[parent].at[:, index].set(log_d[word]),
        placed.reached[parent],
    )


# Gauss-Newton


def settle(placed: Placed, scene: Scene, there: Any, steps: int = STEPS) -> Placed:
    """Some steps of damped Gauss-Newton on all that is placed; a step that reaches less is not taken.

    Args:
        placed: cascades.
        scene: what they are to reach.
        there: (sections,), whether a section is placed; the others stay as they are.
        steps: of each row.

    Source: Levenberg-Marquardt as in `jaxapf.fitting` (which is float64 and runs until it converges).
    """
    low, high = (jnp.log(jnp.tan(np.pi * jnp.minimum(hz / scene.fs, HIGHEST))) for hz in RANGE_HZ)
    n = placed.log_t.shape[-1]
    far = RANGE_DELAY_S * scene.fs
    wide = jnp.ones(n)
    lowest = jnp.concatenate([-far[None], low * wide, -np.log(RANGE_Q[1]) * wide])
    highest = jnp.concatenate([far[None], high * wide, -np.log(RANGE_Q[0]) * wide])
    free = jnp.concatenate([jnp.ones(1, bool), there, there])
    longest = jnp.concatenate([far[None], LONGEST * wide, LONGEST * wide])

    def one(start: jax.Array, cross: jax.Array) -> tuple[jax.Array, jax.Array]:
        def body(_: Any, carry: Any) -> Any:
            at, damping, (reached, slope, curvature) = carry
            diagonal = jnp.diag(curvature)
            ridge = jnp.where(diagonal > 1e-9, (damping + 1e-5) * diagonal, 1.0)
            step = jnp.linalg.solve(curvature + jnp.diag(ridge), slope)
            step = jnp.clip(jnp.where(jnp.isfinite(step), step, 0.0), -longest, longest)
            to = jnp.where(free, jnp.clip(at + step, lowest, highest), at)
            new = _normal(to, scene.omega, cross)
            better = new[0] > reached
            damping = jnp.clip(jnp.where(better, 0.3 * damping, 4 * damping), 1e-6, 1e6)
            old = (reached, slope, curvature)
            return (
                jnp.where(better, to, at),
                damping,
                jax.tree.map(partial(jnp.where, better), new, old),
            )

        begin = (start, jnp.asarray(1e-2, start.dtype), _normal(start, scene.omega, cross))
        at, _, (reached, _, _) = jax.lax.fori_loop(0, steps, body, begin)
        return at, reached

    start = jnp.concatenate([placed.delay[:, None], placed.log_t, placed.log_d], axis=1)
    sign = scene.polarity[placed.row].astype(scene.cross.dtype)
    at, reached = jax.vmap(one)(start, scene.cross[placed.row] * sign[:, None])
    return Placed(placed.row, at[:, 0], at[:, 1 : n + 1], at[:, n + 1 :], reached)


def _normal(at: jax.Array, omega: jax.Array, cross: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Re sum S conj(A e^{-j w d}), its slope, and J W J^T; W: the real part of what is left, or a tenth."""
    n = len(at) // 2
    delay, log_t, log_d = at[0], at[1 : n + 1], at[n + 1 :]
    left = cross * _conjugate(delay, log_t, log_d, omega)
    s, re, im = _numerators(log_t, log_d, omega)
    power = re * re + im * im
    phase = jnp.concatenate([-omega[None], -2 * im * (1 + s * s) / power, 2 * im * re / power])
    weight = jnp.maximum(left.real, 0.1 * jnp.abs(left))
    return jnp.sum(left.real), phase @ left.imag, (phase * weight[None]) @ phase.T


# All rounds


def place(scene: Scene, judge: Judge, sections: int, branches: int = 1) -> Placed:
    """Place all sections, as many rows kept as the scene has; the best settle once more.

    Args:
        scene: of `scene_of`.
        judge: says what a word is worth.
        sections: how many.
        branches: words of a row that are looked at in each round.

    Returns:
        Placed, best first.

    Example:
        >>> heard = Heard(jnp.linspace(0.01, 3.0, 64), jnp.ones((1, 64)) + 0j, jnp.ones((1, 64)))
        >>> found = place(scene_of(heard, 44100.0), greedy, 2)
        >>> found.log_t.shape, bool(found.reached[0] > 0.99)
        ((2, 2), True)
    """
    ranked = _ranked(_in_rounds(scene, judge, sections, branches))
    best, others = (jax.tree.map(part, ranked) for part in (lambda a: a[:FINALISTS], lambda a: a[FINALISTS:]))
    best = settle(best, scene, jnp.ones(sections, bool), LAST_STEPS)
    return _ranked(jax.tree.map(lambda *fields: jnp.concatenate(fields), best, others))


def _in_rounds(scene: Scene, judge: Judge, sections: int, branches: int) -> Placed:
    """Section by section, the rows kept that are worth most."""
    keep = len(scene.cross)
    indices = jnp.arange(sections)

    def round_(placed: Placed, index: Any) -> tuple[Placed, None]:
        reach, change = gains(residual(placed, scene), scene)
        worth = jnp.where(_repeated(placed)[:, None], -1.0, judge(placed, scene, reach, sections - index))
        proposed = distinct(worth, branches)
        promise = jnp.take_along_axis(worth, proposed, axis=1).ravel()
        best = jax.lax.top_k(promise, keep)[1]
        parent, word = best // branches, proposed.ravel()[best]
        grown = extend(placed, parent, word, change[parent, word], scene, index)
        return settle(grown, scene, indices <= index), None

    return jax.lax.scan(round_, nothing_placed(scene, sections), indices)[0]


def _ranked(placed: Placed) -> Placed:
    order = jnp.argsort(-placed.reached)
    return jax.tree.map(lambda field: field[order], placed)


def _repeated(placed: Placed) -> jax.Array:
    """Rows that came to the same as an earlier one."""
    told = jnp.stack([placed.reached, 1e-3 * placed.delay])
    near = jnp.all(jnp.abs(told[:, :, None] - told[:, None, :]) < 1e-5, axis=0)
    near &= placed.row[:, None] == placed.row[None, :]
    earlier = jnp.tril(jnp.ones_like(near), -1)
    return jnp.any(near & earlier, axis=1)
