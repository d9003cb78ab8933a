"""Global search for an all-pass cascade: many starts, growth, exchange, pruning.

The score of ``fitting`` has many local optima (every section can sit on every step of the phase), so
gradients alone stop early.  Three moves reach where they do not:

- *add*: the section, out of a dictionary over frequency and Q, that gains most on what is left over;
- *exchange*: one section taken out, the best one of the dictionary put in its place;
- *prune*: one section taken out, the others refined.

Candidates of a move are refined together by Levenberg-Marquardt; a small beam survives.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxapf.alignment.cross_spectrum import Bins, CrossSpectrum, bin_weights, log_bins
from jaxapf.alignment.least_squares import FIRST, SECOND, Bounds, Cascade, Target, refine

BATCH, SMALL_BATCH = 64, 4  # few shapes: each is compiled once
PADDED_SIZES = (5, 9, 18)
DECIMATION = 2  # the dictionary proposes on every second bin; refinement sees all
MOST_DAMPING = 20.0  # 1 / Q of a section
DICTIONARY_Q = 1 / np.array([0.3, 0.55, 1.0, 1.8, 3.2, 6.0, 12.0, 25.0])
Found = tuple[float, Cascade]


class Dictionary(NamedTuple):
    """Sections to try, with their responses on the bins of a target."""

    seconds: np.ndarray  # (candidates, 2): log t0, log 1/Q
    firsts: np.ndarray
    second_response: np.ndarray  # (2 * bins / DECIMATION, candidates): see _gains
    first_response: np.ndarray
    shifts: np.ndarray  # delay changes tried with a new section, samples


class Problem(NamedTuple):
    """One fit: the target on its bins, the box, and the dictionary for the moves that need one."""

    target: Target
    bounds: Bounds
    dictionary: Dictionary | None = None

    @property
    def words(self) -> Dictionary:
        assert self.dictionary is not None, "this problem was made for refining only"
        return self.dictionary


class Grid(NamedTuple):
    """Bins of a fit: so many to the octave, padded to ``size`` so that programs are reused."""

    per_octave: float
    size: int


COARSE, FINE, POLISH = Grid(32, 384), Grid(400, 4608), Grid(1600, 18432)


class Weighing(NamedTuple):
    """A cross-spectrum and how a fit weighs it.

    ``music_share`` of the music-like weighting, 0 to 1 (`spectrum.bin_weights`); ``max_delay`` in samples;
    ``most_damping`` the largest 1 / Q of a section.
    """

    cross: CrossSpectrum
    music_share: float
    max_delay: int
    most_damping: float = MOST_DAMPING


def pose(weighing: Weighing, grid: Grid, delay: float, *, narrowest_hz: float) -> Problem:
    """The problem of fitting a cascade to a cross-spectrum, for refining.

    Args:
        weighing: the cross-spectrum, and what counts in it.
        grid: `COARSE`, `FINE` or `POLISH`.
        delay: in samples, taken out before bins are summed.
        narrowest_hz: bandwidth of the narrowest section.

    Returns:
        A Problem without a dictionary.
    """
    cross, fs = weighing.cross, weighing.cross.fs
    bins = log_bins(cross, grid.per_octave, delay)
    low, high = (float(np.log(np.tan(np.pi * f))) for f in (min(0.5 / fs, 1e-3), 0.49))
    bandwidth = max(narrowest_hz, 2 * fs / cross.n_samples)
    bounds = Bounds(
        delay=(-float(weighing.max_delay), float(weighing.max_delay)),
        log_t=(low, high),
        log_d=(-9.0, float(np.log(weighing.most_damping))),
        log_bandwidth=float(np.log(np.tan(np.pi * min(0.4, bandwidth / fs)))),
    )
    return Problem(make_target(bins, bin_weights(bins, fs, weighing.music_share), grid.size), bounds)


def _response(sections: Any, kind: int, omega: Any) -> Any:
    """All-pass responses (candidates, k) of sections (candidates, 2)."""
    s = np.tan(omega / 2) / np.exp(sections[:, :1])
    numerator = 1 - 1j * s if kind == FIRST else 1 - s * s - 1j * np.exp(sections[:, 1:]) * s
    return numerator**2 / np.abs(numerator) ** 2


def make_target(bins: Bins, weight: np.ndarray | float = 1.0, size: int | None = None) -> Target:
    """Normalised target from bins, padded with empty bins to ``size`` so that programs are reused."""
    cross = bins.cross * weight
    cross = cross / max(float(np.sum(np.abs(cross))), 1e-300)
    pad = (0, (size or len(cross)) - len(cross))
    return Target(np.pad(bins.omega, pad, constant_values=1.0), np.pad(cross, pad))


def make_dictionary(target: Target, bounds: Bounds, fs: float) -> Dictionary:
    """Sections six to the octave, eight Qs each, and delay shifts from 5 us to 0.6 ms."""
    omega = np.asarray(target.omega)
    used = np.log(np.tan(omega[np.abs(target.cross) > 0] / 2))
    low = max(bounds.log_t[0], float(used.min()) - 0.7)
    high = max(low + 0.1, min(bounds.log_t[1], float(used.max()) + 1.0))
    grid = np.arange(low, high, np.log(2) / 6)
    damping = np.log(DICTIONARY_Q)
    seconds = np.stack([a.ravel() for a in np.meshgrid(grid, damping, indexing="ij")], axis=1)
    firsts = np.stack([grid, np.zeros_like(grid)], axis=1)
    centres = omega[: len(omega) // DECIMATION * DECIMATION].reshape(-1, DECIMATION).mean(axis=1)
    second, first = (
        np.concatenate([np.real(r), np.imag(r)], axis=1).T.astype(np.float32)
        for r in (_response(seconds, SECOND, centres), _response(firsts, FIRST, centres))
    )
    steps = 5e-6 * fs * 2.0 ** np.arange(8)
    return Dictionary(seconds, firsts, second, first, np.concatenate([[0.0], steps, -steps]))


def n_sections(cascade: Cascade) -> int:
    return int(np.count_nonzero(cascade.kind))


def residual(cascade: Cascade, target: Target) -> Any:
    """What the cascade leaves per bin: S conj(A); its real part sums to the score."""
    z = cascade.polarity * target.cross * np.exp(1j * target.omega * cascade.delay)
    for log_t, log_d, kind in zip(cascade.log_t, cascade.log_d, cascade.kind, strict=True):
        if kind:
            z = z * np.conj(_response(np.array([[log_t, log_d]]), int(kind), target.omega)[0])
    return z


def compact(cascade: Cascade, size: int | None = None) -> Cascade:
    """Used sections first, padded with unused ones to ``size``."""
    used = np.asarray(cascade.kind) > 0
    pad = (0, (size or int(used.sum())) - int(used.sum()))
    log_t, log_d, kind = (
        np.pad(np.asarray(a)[used], pad) for a in (cascade.log_t, cascade.log_d, cascade.kind)
    )
    return Cascade(cascade.delay, log_t, log_d, kind, cascade.polarity)


def _padded_size(n: int) -> int:
    return next((size for size in PADDED_SIZES if size >= n), n)


def _inside(cascade: Cascade, bounds: Bounds) -> Cascade:
    """The cascade with its delay put inside the box; refinement keeps it there."""
    return cascade._replace(delay=np.clip(cascade.delay, *bounds.delay))


def refine_all(cascades: Sequence[Cascade], problem: Problem, iterations: int) -> list[Found]:
    """Refine candidates in batches of one shape (few compilations); best first."""
    size = _padded_size(max(n_sections(c) for c in cascades))
    cascades = [_inside(c, problem.bounds) for c in cascades]
    batch = BATCH if len(cascades) > SMALL_BATCH else SMALL_BATCH
    found: list[Found] = []
    for start in range(0, len(cascades), batch):
        part = [compact(c, size) for c in cascades[start : start + batch]]
        full = part + [part[0]] * (batch - len(part))
        stacked = Cascade(*(np.stack([np.asarray(a) for a in field]) for field in zip(*full, strict=True)))
        stacked = stacked._replace(kind=stacked.kind.astype(np.int32))
        refined, scores = jax.tree.map(
            np.asarray, refine(stacked, problem.target, problem.bounds, iterations)
        )
        rows = [Cascade(*(field[i] for field in refined)) for i in range(len(part))]
        found += [(float(s), c) for s, c in zip(scores, rows, strict=False)]
    return sorted(found, key=lambda f: -f[0])


def select(found: Iterable[Found], beam: int) -> list[Found]:
    """The best ``beam`` that differ, at most three quarters of one polarity."""
    kept: list[Found] = []
    quota = max(1, (3 * beam) // 4)
    for score, cascade in sorted(found, key=lambda f: -f[0]):
        twin = any(abs(score - s) < 1e-7 and abs(cascade.delay - c.delay) < 0.3 for s, c in kept)
        crowd = sum(c.polarity == cascade.polarity for _, c in kept) >= quota
        if not twin and not crowd:
            kept.append((score, cascade))
        if len(kept) == beam:
            break
    return kept


def _best_of_dictionary(gains: np.ndarray, count: int, allowed: np.ndarray | None = None) -> list[int]:
    """Indices of the ``count`` best dictionary entries that lie apart in frequency."""
    table = gains.reshape(-1, len(DICTIONARY_Q))
    best = table.max(axis=1)
    rows: list[int] = []
    for row in np.argsort(best)[::-1]:
        if (allowed is None or allowed[row]) and all(abs(row - r) > 3 for r in rows):
            rows.append(int(row))
        if len(rows) == count:
            break
    return [r * len(DICTIONARY_Q) + int(table[r].argmax()) for r in rows]


def with_section(cascade: Cascade, section: np.ndarray, kind: int) -> Cascade:
    return cascade._replace(
        log_t=np.append(cascade.log_t, section[0]),
        log_d=np.append(cascade.log_d, section[1]),
        kind=np.append(cascade.kind, kind),
    )


def _without_section(cascade: Cascade, index: int) -> Cascade:
    kind = np.array(cascade.kind)
    kind[index] = 0
    return compact(cascade._replace(kind=kind))


def _gains(z: np.ndarray, responses: np.ndarray) -> np.ndarray:
    """Score of residuals (..., bins) with each section of the dictionary on top: Re sum z conj(A)."""
    pairs = z[..., : z.shape[-1] // DECIMATION * DECIMATION]
    summed = pairs.reshape(*pairs.shape[:-1], -1, DECIMATION).sum(axis=-1)
    return np.concatenate([summed.real, summed.imag], axis=-1).astype(np.float32) @ responses


def _shifted(z: np.ndarray, problem: Problem) -> np.ndarray:
    """The residual (bins,) after each delay shift of the dictionary: (shifts, bins)."""
    return z * np.exp(1j * problem.words.shifts[:, None] * np.asarray(problem.target.omega))


def additions(cascade: Cascade, problem: Problem, count: int = 8) -> list[Cascade]:
    """The cascade with one more second-order section and a shifted delay, the ``count`` most promising."""
    gains = _gains(_shifted(residual(cascade, problem.target), problem), problem.words.second_response)
    shift = np.argmax(gains, axis=0)
    picks = _best_of_dictionary(gains.max(axis=0), count)
    grown = [with_section(cascade, problem.words.seconds[i], SECOND) for i in picks]
    return [
        c._replace(delay=c.delay + problem.words.shifts[shift[i]]) for c, i in zip(grown, picks, strict=True)
    ]


def exchanges(cascade: Cascade, problem: Problem, count: int = 2) -> list[Cascade]:
    """The cascade with each section in turn replaced by the best of the dictionary elsewhere."""
    cascade = compact(cascade)
    candidates: list[Cascade] = []
    for index in range(n_sections(cascade)):
        rest = _without_section(cascade, index)
        z = residual(rest, problem.target)
        if cascade.kind[index] == FIRST:
            # Above its frequency a first-order section flips the sign: either side may keep its own.
            gains = _gains(z, problem.words.first_response)
            best = int(np.argmax(np.abs(gains)))
            moved = with_section(rest, problem.words.firsts[best], FIRST)
            candidates.append(moved._replace(polarity=moved.polarity * (1.0 if gains[best] >= 0 else -1.0)))
            continue
        here = cascade.log_t[index]
        rows = problem.words.seconds[:: len(DICTIONARY_Q), 0]
        gains = _gains(_shifted(z, problem), problem.words.second_response)
        shift = np.argmax(gains, axis=0)
        picks = _best_of_dictionary(gains.max(axis=0), count, np.abs(rows - here) >= 0.35)
        moved = [with_section(rest, problem.words.seconds[i], SECOND) for i in picks]
        candidates += [
            c._replace(delay=c.delay + problem.words.shifts[shift[i]])
            for c, i in zip(moved, picks, strict=True)
        ]
    return candidates


def prunings(cascade: Cascade) -> list[Cascade]:
    """The cascade without each of its second-order sections in turn."""
    cascade = compact(cascade)
    return [_without_section(cascade, int(i)) for i in np.flatnonzero(cascade.kind == SECOND)]


def halvings(cascade: Cascade) -> list[Cascade]:
    """The cascade with an overdamped section (two real poles) cut down to either first-order half."""
    cascade = compact(cascade)
    candidates: list[Cascade] = []
    for index in np.flatnonzero((cascade.kind == SECOND) & (cascade.log_d > np.log(2.0))):
        half = float(np.arccosh(np.exp(cascade.log_d[index]) / 2))  # poles at t0 exp(+-half)
        rest = _without_section(cascade, int(index))
        for side in (half, -half):
            section = np.array([cascade.log_t[index] + side, 0.0])
            shorter = with_section(rest, section, FIRST)
            # The pole left out turned the sign above it: that matters if it lies below the band.
            candidates.append(shorter)
            candidates.append(shorter._replace(polarity=-shorter.polarity))
    return candidates


def transfers(cascade: Cascade) -> list[Cascade]:
    """An overdamped section and the first-order one change roles: its better pole alone, the other paired."""
    cascade = compact(cascade)
    candidates: list[Cascade] = []
    for shorter in halvings(cascade):
        for index in np.flatnonzero(shorter.kind == FIRST)[:-1]:
            rest = _without_section(shorter, int(index))
            for shift, damping in ((0.0, np.log(2.0)), (0.7, 0.0), (-0.7, 0.0)):
                section = np.array([shorter.log_t[index] + shift, damping])
                candidates += [
                    with_section(rest._replace(polarity=sign * rest.polarity), section, SECOND)
                    for sign in (1.0, -1.0)
                ]
    return candidates


def random_starts(problem: Problem, delays: Sequence[float], orders: tuple[int, int], count: int, rng):
    """Cascades of (second, first) order counts, spread over the band, delays and both polarities."""
    low, high = problem.words.firsts[0, 0] + 0.5, problem.words.firsts[-1, 0] - 1.5
    kind = np.array([SECOND] * orders[0] + [FIRST] * orders[1], np.int32)
    n = len(kind)
    trust = 1.0 / (1.0 + np.arange(len(delays)))
    starts = []
    for index in range(count):
        delay = rng.choice(delays, p=trust / trust.sum()) + rng.normal() * 3.0
        log_t = rng.uniform(low, max(high, low + 0.1), n)
        polarity = 1.0 if index % 2 else -1.0
        starts.append(
            Cascade(np.float64(delay), log_t, rng.uniform(-1.0, 1.5, n), kind, np.float64(polarity))
        )
    return starts


def traced_starts(problem: Problem, delays: Sequence[float], n_first: int, most: int) -> list[Cascade]:
    """Starts read off the unwrapped phase: a section wherever it passes an odd multiple of -pi.

    They have as many second-order sections (at most ``most``) as the phase has turns at that delay.
    The slope tells the Q: d phase / d log w = -4 Q at the centre of a second-order section.
    """
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
            above = np.full(n_first, log_t[-1] + 0.5)
            starts.append(
                Cascade(
                    np.float64(delay),
                    np.append(log_t[hits], above),
                    np.append(-np.log(q), np.zeros(n_first)),
                    kind,
                    np.float64(polarity),
                )
            )
    return starts


def first_levels(problem: Problem, delays: Sequence[float], n_second: int, n_first: int, rng, beam: int = 12):
    """Refined starts, by number of second-order sections."""
    spread = problem.words.shifts[[0, 1, 2, 3, 4, 9, 10, 11, 12]]
    near = [d + shift for d in delays[:3] for shift in spread]
    most = PADDED_SIZES[1] if n_second <= PADDED_SIZES[0] else PADDED_SIZES[2]
    traced = traced_starts(problem, near, n_first, most - 2 * n_first)
    random = random_starts(problem, delays, (min(n_second, 3), n_first), 3 * BATCH, rng)
    rough = refine_all(traced, problem, 15) + refine_all(random, problem, 15)[:BATCH]
    levels: dict[int, list[Found]] = {}
    for found in rough:
        levels.setdefault(int(np.sum(found[1].kind == SECOND)), []).append(found)
    fine = [c for found in levels.values() for _, c in select(found, beam)]
    levels = {}
    for found in refine_all(fine, problem, 30):
        levels.setdefault(int(np.sum(found[1].kind == SECOND)), []).append(found)
    return {n: select(found, beam) for n, found in levels.items()}


def grow(found: list[Found], problem: Problem, beam: int = 12) -> list[Found]:
    """One second-order section more."""
    added = refine_all([d for _, c in found[:8] for d in additions(c, problem)], problem, 25)
    return exchange(select(added, beam), problem, beam)


def exchange(found: list[Found], problem: Problem, beam: int = 12, rounds: int = 1) -> list[Found]:
    """Exchange moves until they stop paying, at most ``rounds`` times."""
    for _ in range(rounds):
        before = found[0][0]
        moves = [d for _, c in found[:2] for d in transfers(c)][: BATCH // 2]
        moves += [d for _, c in found[:4] for d in exchanges(c, problem)][: BATCH - len(moves)]
        found = select([*found, *refine_all(moves, problem, 25)], beam) if moves else found
        if found[0][0] - before < 1e-3 * (1 - before):
            break
    return found


def prune(found: list[Found], problem: Problem, beam: int = 12) -> list[Found]:
    """One second-order section fewer."""
    moves = [d for _, c in found[:8] for d in prunings(c)][:BATCH]
    return select(refine_all(moves, problem, 25), beam)


def narrow_sections(cascade: Cascade, problem: Problem, count: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Narrow sections (count, 2) that would gain most on what is left over, and what each would gain.

    A pole pair a few hertz wide turns the phase once within a few bins; no gradient reaches it from
    afar, but the bins it turned stand out of the residual.
    """
    target = problem.target
    z = residual(cascade, target)
    log_t = np.log(np.tan(np.asarray(target.omega) / 2))
    used = np.flatnonzero(np.abs(target.cross) > 0)
    left = np.abs(z) - z.real
    peaks: list[int] = []
    for k in used[np.argsort(left[used])[::-1]]:
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
    gains = np.concatenate(
        [
            (z[used] @ (np.conj(_response(part, SECOND, target.omega[used])) - 1).T).real
            for part in np.array_split(grid, max(1, len(grid) // 128))
        ]
    )
    picks: list[int] = []
    for i in np.argsort(gains)[::-1]:
        if all(abs(grid[i, 0] - grid[j, 0]) > np.exp(max(grid[i, 1], grid[j, 1])) for j in picks):
            picks.append(int(i))
        if len(picks) == count:
            break
    return grid[picks], gains[picks]


def insert_narrow(found: list[Found], problem: Problem, most: int, rounds: int = 6) -> list[Found]:
    """Put in narrow sections while they gain, in place of others once there are ``most``."""
    best = found[0]
    for _ in range(rounds):
        loss = 1 - best[0]
        sections, gains = narrow_sections(best[1], problem)
        sections = sections[gains > max(1e-7, 0.02 * loss)]
        moves = [with_section(compact(best[1]), s, SECOND) for s in sections]
        if sum(best[1].kind == SECOND) >= most:
            moves = [d for c in moves for d in prunings(c)[:-1]]
        if not moves:
            break
        rough = refine_all(moves[:BATCH], problem, 8)
        new = refine_all([c for _, c in rough[:SMALL_BATCH]], problem, 40)
        if 1 - new[0][0] > 0.98 * loss:
            break
        best = new[0]
        found = select([*new, *found], len(found) + 4)
    return found
