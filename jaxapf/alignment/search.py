"""Global search for an all-pass cascade: many starts, growth, swaps, pruning.

The score of a cascade has many local optima (every section can sit on every step of the phase), so gradients
alone stop early. Three moves reach where they do not:

- *add*: the section, out of a dictionary over frequency and Q, that gains most on the residual;
- *swap*: one section taken out, the best one of the dictionary put in its place;
- *remove*: one section taken out, the others refined.

Candidates of a move are refined together by Levenberg-Marquardt; a small beam survives.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxapf.alignment.cascade import (
    FIRST,
    HIGHEST,
    SECOND,
    Cascade,
    Target,
    conjugate_response,
    log_tangent,
    residual,
)
from jaxapf.alignment.cross_spectrum import Bins, CrossSpectrum, bin_weights, log_bins
from jaxapf.alignment.dictionary import Dictionary, delay_shifts, gains, make_dictionary, scores
from jaxapf.alignment.least_squares import Bounds, refine

__all__ = [
    "Candidate",
    "Grid",
    "Objective",
    "Problem",
    "compact",
    "first_levels",
    "grow",
    "insert_narrow",
    "make_problem",
    "prune",
    "refine_all",
    "select",
    "swap",
    "with_dictionaries",
]

BATCH, SMALL_BATCH = 64, 4  # few shapes: each is compiled once
PADDED_SIZES = (5, 9, 18)
MOST_DAMPING = 20.0  # 1 / Q of a section
DAMPINGS = -np.log([0.3, 0.55, 1.0, 1.8, 3.2, 6.0, 12.0, 25.0])  # log 1/Q of the dictionary


class Candidate(NamedTuple):
    """A cascade and its score, the share of the phase-only bound."""

    score: float
    cascade: Cascade


class Grid(NamedTuple):
    """Bins of a fit: so many to the octave, padded to ``size`` so that programs are reused."""

    per_octave: float
    size: int


COARSE, FINE, POLISH = Grid(32, 384), Grid(400, 4608), Grid(1600, 18432)


class Objective(NamedTuple):
    """A cross-spectrum and how a fit weighs it."""

    cross: CrossSpectrum
    music_share: float  # 0 to 1, see cross_spectrum.bin_weights
    max_delay: int  # in samples
    most_damping: float = MOST_DAMPING  # largest 1 / Q


class Problem(NamedTuple):
    """One fit: the target on its bins, the box, and dictionaries of sections for the moves that need them."""

    target: Target
    bounds: Bounds
    dictionaries: dict[int, Dictionary] | None = None

    def atoms(self, kind: int = SECOND) -> Dictionary:
        """Return the dictionary of first-order or of second-order sections."""
        assert self.dictionaries is not None, "this problem was made for refining only"
        return self.dictionaries[kind]


def make_problem(objective: Objective, grid: Grid, delay: float, *, narrowest_hz: float) -> Problem:
    """Make the problem of a fit, without dictionaries; the delay is taken out before bins are summed."""
    cross, fs = objective.cross, objective.cross.fs
    bins = log_bins(cross, grid.per_octave, delay)
    bandwidth_hz = min(0.4 * fs, max(narrowest_hz, 2 * fs / cross.n_samples))
    bounds = Bounds(
        delay=(-float(objective.max_delay), float(objective.max_delay)),
        log_t=(float(log_tangent(min(0.5, 1e-3 * fs), fs)), float(log_tangent(HIGHEST * fs, fs))),
        log_d=(-9.0, float(np.log(objective.most_damping))),
        log_bandwidth=float(log_tangent(bandwidth_hz, fs)),
    )
    return Problem(make_target(bins, bin_weights(bins, fs, objective.music_share), grid.size), bounds)


def make_target(bins: Bins, weight: np.ndarray | float = 1.0, size: int | None = None) -> Target:
    """Make a normalised target from bins, padded with empty bins to ``size`` so that programs are reused."""
    cross = bins.cross * weight
    cross = cross / max(float(np.sum(np.abs(cross))), 1e-300)
    pad = (0, (size or len(cross)) - len(cross))
    return Target(np.pad(bins.omega, pad, constant_values=1.0), np.pad(cross, pad))


def with_dictionaries(problem: Problem, fs: float) -> Problem:
    """Add dictionaries: six sections to the octave, eight Qs each, delays from 5 us to 0.64 ms."""
    target, bounds = problem.target, problem.bounds
    used = np.log(np.tan(target.omega[np.abs(target.cross) > 0] / 2))
    low = max(bounds.log_t[0], float(used.min()) - 0.7)
    high = max(low + 0.1, min(bounds.log_t[1], float(used.max()) + 1.0))
    log_t = np.arange(low, high, np.log(2) / 6)
    seconds = make_dictionary(log_t, DAMPINGS, delay_shifts(fs), target.omega)
    firsts = make_dictionary(log_t, np.zeros(1), np.zeros(1), target.omega, FIRST)
    return problem._replace(dictionaries={FIRST: firsts, SECOND: seconds})


def n_sections(cascade: Cascade) -> int:
    """Return the number of sections that are used."""
    return int(np.count_nonzero(cascade.kind))


def compact(cascade: Cascade, size: int | None = None) -> Cascade:
    """Return the cascade with its used sections first, padded with unused ones to ``size``."""
    used = np.asarray(cascade.kind) > 0
    pad = (0, (size or int(used.sum())) - int(used.sum()))
    log_t, log_d, kind = (
        np.pad(np.asarray(a)[used], pad) for a in (cascade.log_t, cascade.log_d, cascade.kind)
    )
    return Cascade(cascade.delay, log_t, log_d, kind, cascade.polarity)


def refine_all(cascades: Sequence[Cascade], problem: Problem, iterations: int) -> list[Candidate]:
    """Refine cascades in batches of one shape (few compilations); best first."""
    most = max(n_sections(c) for c in cascades)
    size = next((size for size in PADDED_SIZES if size >= most), most)
    # Refinement keeps the delay inside the box once it is there.
    cascades = [c._replace(delay=np.clip(c.delay, *problem.bounds.delay)) for c in cascades]
    batch = BATCH if len(cascades) > SMALL_BATCH else SMALL_BATCH
    found: list[Candidate] = []
    for start in range(0, len(cascades), batch):
        part = [compact(c, size) for c in cascades[start : start + batch]]
        full = part + [part[0]] * (batch - len(part))
        stacked = Cascade(*(np.stack([np.asarray(a) for a in field]) for field in zip(*full, strict=True)))
        stacked = stacked._replace(kind=stacked.kind.astype(np.int32))
        refined, reached = jax.tree.map(
            np.asarray, refine(stacked, problem.target, problem.bounds, iterations)
        )
        found += [
            Candidate(float(reached[i]), Cascade(*(field[i] for field in refined))) for i in range(len(part))
        ]
    return sorted(found, key=lambda one: -one.score)


def select(found: Iterable[Candidate], beam: int) -> list[Candidate]:
    """Return the best ``beam`` that differ, at most three quarters of one polarity."""
    kept: list[Candidate] = []
    quota = max(1, (3 * beam) // 4)
    for score, cascade in sorted(found, key=lambda one: -one.score):
        twin = any(abs(score - s) < 1e-7 and abs(cascade.delay - c.delay) < 0.3 for s, c in kept)
        crowd = sum(c.polarity == cascade.polarity for _, c in kept) >= quota
        if not twin and not crowd:
            kept.append(Candidate(score, cascade))
        if len(kept) == beam:
            break
    return kept


def _best_atoms(reached: np.ndarray, count: int, allowed: np.ndarray | None = None) -> list[int]:
    """Return the ``count`` best atoms that lie apart in frequency, of the frequencies allowed."""
    table = reached.reshape(-1, len(DAMPINGS))
    best = table.max(axis=1)
    rows: list[int] = []
    for row in np.argsort(best)[::-1]:
        if (allowed is None or allowed[row]) and all(abs(row - r) > 3 for r in rows):
            rows.append(int(row))
        if len(rows) == count:
            break
    return [r * len(DAMPINGS) + int(table[r].argmax()) for r in rows]


def with_section(cascade: Cascade, log_t: float, log_d: float, kind: int, shift: float = 0.0) -> Cascade:
    """Return the cascade with one more section, its delay changed by ``shift`` samples."""
    return cascade._replace(
        delay=cascade.delay + shift,
        log_t=np.append(cascade.log_t, log_t),
        log_d=np.append(cascade.log_d, log_d),
        kind=np.append(cascade.kind, kind),
    )


def _without_section(cascade: Cascade, index: int) -> Cascade:
    kind = np.array(cascade.kind)
    kind[index] = 0
    return compact(cascade._replace(kind=kind))


def _with_atoms(
    cascade: Cascade, problem: Problem, count: int, allowed: np.ndarray | None = None
) -> list[Cascade]:
    """Return the cascade with each of the ``count`` best second-order sections and changes of the delay."""
    atoms = problem.atoms()
    reached, shifts = gains(atoms, residual(cascade, problem.target))
    picks = _best_atoms(reached, count, allowed)
    return [with_section(cascade, atoms.log_t[i], atoms.log_d[i], SECOND, shifts[i]) for i in picks]


def add_moves(cascade: Cascade, problem: Problem, count: int = 8) -> list[Cascade]:
    """Return the cascade with one more second-order section, the ``count`` most promising."""
    return _with_atoms(cascade, problem, count)


def swap_moves(cascade: Cascade, problem: Problem, count: int = 2) -> list[Cascade]:
    """Return the cascade with each section in turn replaced by the best of the dictionary elsewhere."""
    cascade = compact(cascade)
    moves: list[Cascade] = []
    for index in range(n_sections(cascade)):
        others = _without_section(cascade, index)
        if cascade.kind[index] == FIRST:
            # Above its frequency a first-order section flips the sign: either side may keep its own.
            atoms = problem.atoms(FIRST)
            reached = scores(atoms, residual(others, problem.target))[0]
            best = int(np.argmax(np.abs(reached)))
            moved = with_section(others, atoms.log_t[best], 0.0, FIRST)
            moves.append(moved._replace(polarity=moved.polarity * (1.0 if reached[best] >= 0 else -1.0)))
            continue
        elsewhere = np.abs(problem.atoms().log_t[:: len(DAMPINGS)] - cascade.log_t[index]) >= 0.35
        moves += _with_atoms(others, problem, count, elsewhere)
    return moves


def remove_moves(cascade: Cascade) -> list[Cascade]:
    """Return the cascade without each of its second-order sections in turn."""
    cascade = compact(cascade)
    return [_without_section(cascade, int(i)) for i in np.flatnonzero(cascade.kind == SECOND)]


def lower_order_moves(cascade: Cascade) -> list[Cascade]:
    """Return the cascade with an overdamped section (two real poles) cut down to either first-order half."""
    cascade = compact(cascade)
    moves: list[Cascade] = []
    for index in np.flatnonzero((cascade.kind == SECOND) & (cascade.log_d > np.log(2.0))):
        half = float(np.arccosh(np.exp(cascade.log_d[index]) / 2))  # poles at t0 exp(+-half)
        others = _without_section(cascade, int(index))
        for side in (half, -half):
            shorter = with_section(others, cascade.log_t[index] + side, 0.0, FIRST)
            # Leaving out the pole inverts the sign above it, which matters if it lies below the band.
            moves += [shorter, shorter._replace(polarity=-shorter.polarity)]
    return moves


def kind_change_moves(cascade: Cascade) -> list[Cascade]:
    """Let an overdamped section and the first-order one change roles: one pole alone, the other paired."""
    moves: list[Cascade] = []
    for shorter in lower_order_moves(cascade):
        for index in np.flatnonzero(shorter.kind == FIRST)[:-1]:
            others, log_t = _without_section(shorter, int(index)), shorter.log_t[index]
            for shift, damping in ((0.0, np.log(2.0)), (0.7, 0.0), (-0.7, 0.0)):
                moved = with_section(others, log_t + shift, damping, SECOND)
                moves += [moved, moved._replace(polarity=-moved.polarity)]
    return moves


def random_starts(
    problem: Problem, delays: Sequence[float], orders: tuple[int, int], count: int, rng: np.random.Generator
) -> list[Cascade]:
    """Draw cascades of (second, first) order counts, spread over the band, delays and both polarities."""
    grid = problem.atoms(FIRST).log_t
    low, high = grid[0] + 0.5, grid[-1] - 1.5
    kind = np.array([SECOND] * orders[0] + [FIRST] * orders[1], np.int32)
    n = len(kind)
    weight = 1.0 / (1.0 + np.arange(len(delays)))
    starts = []
    for index in range(count):
        delay = rng.choice(delays, p=weight / weight.sum()) + rng.normal() * 3.0
        log_t = rng.uniform(low, max(high, low + 0.1), n)
        polarity = np.float64(1.0 if index % 2 else -1.0)
        starts.append(Cascade(np.float64(delay), log_t, rng.uniform(-1.0, 1.5, n), kind, polarity))
    return starts


def traced_starts(problem: Problem, delays: Sequence[float], n_first: int, most: int) -> list[Cascade]:
    """Return cascades read off the phase: a section wherever it passes an odd multiple of -pi."""
    # As many sections as the phase has turns; d phase / d log w = -4 Q at the centre of each.
    used = np.abs(problem.target.cross) > 0
    omega, cross = np.asarray(problem.target.omega)[used], np.asarray(problem.target.cross)[used]
    log_t = np.log(np.tan(omega / 2))
    starts = []
    for delay in delays:
        raw = np.unwrap(np.angle(cross * np.exp(1j * omega * delay)))
        for polarity in (1.0, -1.0):
            phase = raw - (0.0 if polarity > 0 else np.pi)
            phase = phase - 2 * np.pi * np.round(phase[0] / (2 * np.pi))
            turns = int(max(0.0, -phase.min() + np.pi) / (2 * np.pi))
            hits = [int(np.argmax(phase <= -np.pi * (2 * k + 1))) for k in range(min(turns, most))]
            q = np.clip(-np.gradient(phase, log_t)[hits] / 4, 0.3, 8.0) if hits else np.zeros(0)
            kind = np.array([SECOND] * len(hits) + [FIRST] * n_first, np.int32)
            centres = np.append(log_t[hits], np.full(n_first, log_t[-1] + 0.5))
            damping = np.append(-np.log(q), np.zeros(n_first))
            starts.append(Cascade(np.float64(delay), centres, damping, kind, np.float64(polarity)))
    return starts


def first_levels(
    problem: Problem,
    delays: Sequence[float],
    n_second: int,
    n_first: int,
    rng: np.random.Generator,
    beam: int = 12,
) -> dict[int, list[Candidate]]:
    """Return refined starts, by number of second-order sections."""
    spread = problem.atoms().shifts[[0, 1, 2, 3, 4, 9, 10, 11, 12]]
    near = [d + shift for d in delays[:3] for shift in spread]
    most = PADDED_SIZES[1] if n_second <= PADDED_SIZES[0] else PADDED_SIZES[2]
    traced = traced_starts(problem, near, n_first, most - 2 * n_first)
    random = random_starts(problem, delays, (min(n_second, 3), n_first), 3 * BATCH, rng)
    rough = refine_all(traced, problem, 15) + refine_all(random, problem, 15)[:BATCH]
    fine = [c for level in _by_level(rough, beam).values() for _, c in level]
    return _by_level(refine_all(fine, problem, 30), beam)


def _by_level(found: Iterable[Candidate], beam: int) -> dict[int, list[Candidate]]:
    levels: dict[int, list[Candidate]] = {}
    for one in found:
        levels.setdefault(int(np.sum(one.cascade.kind == SECOND)), []).append(one)
    return {n: select(level, beam) for n, level in levels.items()}


def grow(found: list[Candidate], problem: Problem, beam: int = 12) -> list[Candidate]:
    """Add one second-order section."""
    added = refine_all([d for _, c in found[:8] for d in add_moves(c, problem)], problem, 25)
    return swap(select(added, beam), problem, beam)


def swap(found: list[Candidate], problem: Problem, beam: int = 12, rounds: int = 1) -> list[Candidate]:
    """Swap sections until it stops paying, at most ``rounds`` times."""
    for _ in range(rounds):
        before = found[0].score
        moves = [d for _, c in found[:2] for d in kind_change_moves(c)][: BATCH // 2]
        moves += [d for _, c in found[:4] for d in swap_moves(c, problem)][: BATCH - len(moves)]
        found = select([*found, *refine_all(moves, problem, 25)], beam) if moves else found
        if found[0].score - before < 1e-3 * (1 - before):
            break
    return found


def prune(found: list[Candidate], problem: Problem, beam: int = 12) -> list[Candidate]:
    """Remove one second-order section."""
    moves = [d for _, c in found[:8] for d in remove_moves(c)][:BATCH]
    return select(refine_all(moves, problem, 25), beam)


def narrow_sections(cascade: Cascade, problem: Problem, count: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Return the narrow sections (count, 2), log_t and log_d, that raise the score most, and by how much."""
    # A pole pair a few hertz wide turns the phase within a few bins, which then stand out of the residual.
    target = problem.target
    z = residual(cascade, target)
    log_t = np.log(np.tan(np.asarray(target.omega) / 2))
    used = np.flatnonzero(np.abs(target.cross) > 0)
    missing = np.abs(z) - z.real
    peaks: list[int] = []
    for k in used[np.argsort(missing[used])[::-1]]:
        if all(abs(k - p) > 6 for p in peaks):
            peaks.append(int(k))
        if len(peaks) == 24:
            break
    damping = -np.log(2.0) * np.arange(1, 11)
    centres = log_t[np.unique(np.clip(np.add.outer(peaks, np.arange(-4, 5, 2)), used[0], used[-1]))]
    grid = np.stack([a.ravel() for a in np.meshgrid(centres, damping, indexing="ij")], axis=1)
    grid = grid[grid.sum(axis=1) >= problem.bounds.log_bandwidth]
    if not len(grid):
        return np.zeros((0, 2)), np.zeros(0)
    parts = np.array_split(grid, max(1, len(grid) // 128))
    gained = np.concatenate([_gain_of_each(part, z[used], target.omega[used]) for part in parts])
    picks: list[int] = []
    for i in np.argsort(gained)[::-1]:
        if all(abs(grid[i, 0] - grid[j, 0]) > np.exp(max(grid[i, 1], grid[j, 1])) for j in picks):
            picks.append(int(i))
        if len(picks) == count:
            break
    return grid[picks], gained[picks]


def _gain_of_each(sections: np.ndarray, z: np.ndarray, omega: np.ndarray) -> np.ndarray:
    """Return by how much each second-order section (n, 2) raises the score of a residual."""
    log_t, log_d = sections.T[..., None]
    zero = np.zeros(len(sections))
    conjugate = conjugate_response(Cascade(zero, log_t, log_d, SECOND, zero + 1), omega)
    return (z @ (conjugate - 1).T).real


def insert_narrow(found: list[Candidate], problem: Problem, most: int, rounds: int = 6) -> list[Candidate]:
    """Insert narrow sections while they gain, in place of others once there are ``most``."""
    best = found[0]
    for _ in range(rounds):
        loss = 1 - best.score
        sections, gained = narrow_sections(best.cascade, problem)
        sections = sections[gained > max(1e-7, 0.02 * loss)]
        moves = [with_section(compact(best.cascade), *section, kind=SECOND) for section in sections]
        if sum(best.cascade.kind == SECOND) >= most:
            moves = [d for c in moves for d in remove_moves(c)[:-1]]
        if not moves:
            break
        rough = refine_all(moves[:BATCH], problem, 8)
        new = refine_all([c for _, c in rough[:SMALL_BATCH]], problem, 40)
        if 1 - new[0].score > 0.98 * loss:
            break
        best = new[0]
        found = select([*new, *found], len(found) + 4)
    return found
