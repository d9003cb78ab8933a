"""Estimate the cutoff of a phaser's all-passes over time from a dry and a wet recording.

Short-time spectra of the pair are compared with those of a phaser that stands still, for a grid of cutoff
frequencies: a map of errors, frames by cutoffs. A path through the map is the sweep, and a cosine fitted to
the path the oscillator. This needs no start, which descent does: the error as a function of the oscillator's
rate has a local minimum wherever two oscillators come into step.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy.optimize
import scipy.signal
from jaxtyping import Complex, Float, Int

__all__ = ["Layout", "Spectra", "Start", "cutoffs", "loops", "smooth_path", "spectra_of", "starts"]

STAGE_CHOICES = (4, 6, 8, 2, 10, 12, 3, 5)
GAIN_CHOICES = (0.0, 0.3, -0.3, 0.55, -0.55, 0.8, -0.8)
N_CUTOFFS = 72
LOWEST_HZ = 30.0
WINDOW_S = 0.024
SLOWEST_HZ, FASTEST_HZ = 0.03, 12.0
WHITENING = 0.5  # exponent of the mean power spectrum: 1 would weigh noise as much as music
ROUNDS = 4
RANKING_FRAMES = 300
STIFFNESS = 0.02  # of a path, in shares of the mean error a step of the grid


class Layout(NamedTuple):
    """Number of ``stages`` of a phaser, and ``delay`` of its feedback in samples."""

    stages: int
    delay: int


class Spectra(NamedTuple):
    """Short-time spectra of a pair.

    ``power`` (n_frames, n_bins) of the dry signal, ``cross`` with the wet one, ``energy`` (n_frames,) of the
    wet one, ``time_s`` (n_frames,) the frames' middles, ``omega`` (n_bins,) radians a sample.
    """

    power: Float[np.ndarray, "n_frames n_bins"]
    cross: Complex[np.ndarray, "n_frames n_bins"]
    energy: Float[np.ndarray, " n_frames"]
    time_s: Float[np.ndarray, " n_frames"]
    omega: Float[np.ndarray, " n_bins"]
    fs: float


class Start(NamedTuple):
    """Starting point of a fit.

    A layout, the ``feedback`` gain, gains ``through`` the direct path and ``around`` through the all-passes,
    and the sweep: log tan(pi cutoff / fs) = ``middle`` + ``swing`` cos(2 pi ``rate_hz`` t + ``phase``).
    ``error``: of the map, along that cosine, over the wet energy.
    """

    layout: Layout
    feedback: float
    through: float
    around: float
    middle: float
    swing: float
    rate_hz: float
    phase: float
    error: float


def spectra_of(
    dry: Float[np.ndarray, " n_samples"], wet: Float[np.ndarray, " n_samples"], fs: float
) -> Spectra:
    """Return the short-time spectra of a pair, each bin weighted by a power of its mean level."""
    n = 2 ** int(np.ceil(np.log2(WINDOW_S * fs)))
    hop = n // 4
    window = scipy.signal.ShortTimeFFT.from_window("hann", fs, n, n - hop)
    x, y = (window.stft(np.asarray(signal, np.float64)).T for signal in (dry, wet))
    level = np.mean(np.abs(y) ** 2, axis=0)
    weight = 1 / (level + 1e-4 * np.max(level)) ** WHITENING
    time_s = np.asarray(window.t(len(dry)))
    return Spectra(
        weight * np.abs(x) ** 2,
        weight * np.conj(x) * y,
        np.sum(weight * np.abs(y) ** 2, axis=1),
        time_s,
        2 * np.pi * np.arange(x.shape[1]) / n,
        fs,
    )


def cutoffs(fs: float) -> Float[np.ndarray, " n_cutoffs"]:
    """Return the grid, log of tan(pi f / fs), evenly spaced."""
    low, high = (np.log(np.tan(np.pi * f / fs)) for f in (LOWEST_HZ, 0.46 * fs))
    return np.linspace(low, high, N_CUTOFFS)


def loops(
    layout: Layout, gain: float, omega: Float[np.ndarray, " n_bins"], log_tan: Float[np.ndarray, " n_cutoffs"]
) -> Complex[np.ndarray, "n_cutoffs n_bins"]:
    """Return the response of the loop at each cutoff."""
    p = -np.tanh(log_tan / 2)[:, None]
    z1 = np.exp(-1j * omega)[None]
    chain = ((p - z1) / (1 - p * z1)) ** layout.stages
    return chain / (1 - gain * chain * (z1 if layout.delay else 1))


def starts(spectra: Spectra, *, count: int) -> list[Start]:
    """Return the best starts over all layouts and feedback gains, the best first, one of a layout."""
    grid = cutoffs(spectra.fs)
    some = _thinned(spectra)
    rough = []
    for layout, gain in _choices():
        found = _Map(some, loops(layout, gain, spectra.omega, grid))
        gains = found.mixed()
        rough.append((float(np.sum(np.min(found.errors(gains), axis=1))), layout, gain))
    rough.sort(key=lambda one: one[0])
    best: dict[Layout, Start] = {}
    for _, layout, gain in rough[: 3 * count]:
        found = _Map(spectra, loops(layout, gain, spectra.omega, grid))
        start = _start(found, layout, gain, spectra, grid)
        if layout not in best or start.error < best[layout].error:
            best[layout] = start
    return sorted(best.values(), key=lambda start: start.error)[:count]


def _thinned(spectra: Spectra) -> Spectra:
    """Return enough frames to rank layouts."""
    every = max(1, len(spectra.energy) // RANKING_FRAMES)
    frames = {name: getattr(spectra, name)[::every] for name in ("power", "cross", "energy", "time_s")}
    return spectra._replace(**frames)


def _choices() -> Iterator[tuple[Layout, float]]:
    for stages, gain in itertools.product(STAGE_CHOICES, GAIN_CHOICES):
        for delay in (0, 1) if gain else (0,):
            yield Layout(stages, delay), gain


class _Map:
    """Errors of frames by cutoffs as a function of the two gains, from sums over the bins."""

    def __init__(self, spectra: Spectra, loop: Any) -> None:
        cross: Any = spectra.cross
        self.energy = spectra.energy
        self.dry = np.sum(spectra.power, axis=1)
        self.dry_wet = np.sum(cross.real, axis=1)
        self.dry_loop = spectra.power @ loop.real.T
        self.loop = spectra.power @ (np.abs(loop) ** 2).T
        self.loop_wet = cross.real @ loop.real.T + cross.imag @ loop.imag.T

    def errors(self, gains: tuple[float, float]) -> np.ndarray:
        """Return the errors `(n_frames, n_cutoffs)`."""
        through, around = gains
        one = self.energy - 2 * through * self.dry_wet + through**2 * self.dry
        both = 2 * through * around * self.dry_loop + around**2 * self.loop - 2 * around * self.loop_wet
        return one[:, None] + both

    def gains_along(self, path: np.ndarray) -> tuple[float, float]:
        """Return the gains by least squares, each frame at the cutoff of the path."""
        at = np.arange(len(path)), path
        mixed = np.sum(self.dry_loop[at])
        normal = np.array([[np.sum(self.dry), mixed], [mixed, np.sum(self.loop[at])]])
        right = np.array([np.sum(self.dry_wet), np.sum(self.loop_wet[at])])
        through, around = np.linalg.lstsq(normal, right, rcond=1e-9)[0]
        return float(through), float(around)

    def mixed(self) -> tuple[float, float]:
        """Return the gains with each frame at its best cutoff, by alternating between the two."""
        found = []
        for gains in ((0.5, 0.5), (0.5, -0.5)):
            for _ in range(ROUNDS):
                gains = self.gains_along(np.argmin(self.errors(gains), axis=1))
            found.append((float(np.sum(np.min(self.errors(gains), axis=1))), gains))
        return min(found)[1]


def _start(found: _Map, layout: Layout, gain: float, spectra: Spectra, grid: np.ndarray) -> Start:
    gains = found.mixed()
    for _ in range(2):
        path = smooth_path(found.errors(gains))
        gains = found.gains_along(path)
    middle, swing, rate, phase, error = _cosine(found.errors(gains), path, spectra.time_s, grid)
    energy = max(float(np.sum(spectra.energy)), np.finfo(float).tiny)
    return Start(layout, gain, *gains, middle, swing, rate, phase, error / energy)


def smooth_path(errors: Float[np.ndarray, "n_frames n_cutoffs"]) -> Int[np.ndarray, " n_frames"]:
    """Return the path of least error plus a penalty on its steps, by dynamic programming."""
    n_frames, n = errors.shape
    penalty = STIFFNESS * np.mean(errors) * np.abs(np.arange(n)[:, None] - np.arange(n)[None]) ** 2
    total, previous = errors[0], np.zeros((n_frames, n), np.int64)
    for t in range(1, n_frames):
        reached = total[None] + penalty
        previous[t] = np.argmin(reached, axis=1)
        total = reached[np.arange(n), previous[t]] + errors[t]
    path = [int(np.argmin(total))]
    for t in range(n_frames - 1, 0, -1):
        path.append(int(previous[t, path[-1]]))
    return np.array(path[::-1])


def _cosine(
    errors: np.ndarray, path: np.ndarray, time_s: np.ndarray, grid: np.ndarray
) -> tuple[float, float, float, float, float]:
    """Return middle, swing, rate and phase of the cosine with the least error in the map, and that error."""
    weight = np.sqrt(np.maximum(np.mean(errors, axis=1), 0))
    duration = float(time_s[-1] - time_s[0])
    rates = np.arange(max(SLOWEST_HZ, 0.4 / duration), FASTEST_HZ, 0.2 / duration)
    tried = []
    for rate in rates:
        angle = 2 * np.pi * rate * time_s
        basis = np.stack([np.ones_like(angle), np.cos(angle), np.sin(angle)], axis=1) * weight[:, None]
        solution, *_ = np.linalg.lstsq(basis, grid[path] * weight, rcond=None)
        tried.append((float(np.sum((basis @ solution - grid[path] * weight) ** 2)), rate, *solution))
    tried.sort()
    found = []
    for _, rate, middle, cosine, sine in tried[:8]:
        swing, phase = np.hypot(cosine, sine), np.arctan2(-sine, cosine)
        start = np.array([middle, swing, rate, phase])
        scale = np.array([0.2, 0.2, 0.1 / duration, 0.3])
        polished = scipy.optimize.minimize(
            lambda v: _along(errors, v, time_s, grid),
            start,
            method="Nelder-Mead",
            options={"initial_simplex": np.vstack([start, start + np.diag(scale)]), "maxiter": 300},
        )
        found.append((float(polished.fun), *(float(v) for v in polished.x)))
    error, middle, swing, rate, phase = min(found)
    return middle, swing, abs(rate), phase if rate >= 0 else -phase, error


def _along(errors: np.ndarray, cosine: np.ndarray, time_s: np.ndarray, grid: np.ndarray) -> float:
    middle, swing, rate, phase = cosine
    log_tan = middle + swing * np.cos(2 * np.pi * rate * time_s + phase)
    place = np.clip((log_tan - grid[0]) / (grid[1] - grid[0]), 0, len(grid) - 1.001)
    below = place.astype(int)
    part = place - below
    rows = np.arange(len(errors))
    return float(np.sum((1 - part) * errors[rows, below] + part * errors[rows, below + 1]))
