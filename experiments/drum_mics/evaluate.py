"""Measure the networks and what there was before on recorded pairs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.common.runner import Row, show_progress
from experiments.drum_mics import baselines, config, measures
from jaxapf import Alignment, align, datasets
from jaxapf.alignment import cross_spectrum
from jaxapf.alignment import network as aligner
from jaxapf.alignment.cascade import from_controls
from jaxapf.alignment.estimate import alignment_of

CLASSICAL = "GCC-PHAT, delay and polarity"
STRONGER = "cross-correlation, delay and polarity"
NETWORK, WAVES = "TCN, cross-spectrum", "TCN, waves"
REFINED = f"TCN, {config.REFINING} steps more"
GREEDY = "the same placing, no network"
FIXED, SEARCH, AUTO = "align, order 12", "align, search alone", "align, auto"
SHOWN = ("as is", CLASSICAL, STRONGER, WAVES, NETWORK, REFINED, AUTO)  # on the page to listen
SHORTEST = 2048  # samples: the longest window of the multi-resolution STFT


class Pair(NamedTuple):
    """A recorded pair in memory."""

    name: str
    kind: str
    hit: str
    dry: np.ndarray
    wet: np.ndarray
    fs: float

    @property
    def about(self) -> str:
        """Hit and kind in words."""
        return ", ".join(part.replace("_", " ") for part in (self.hit, self.kind) if part)


def read(pairs: Sequence[datasets.RecordedPair]) -> list[Pair]:
    """Read pairs of `datasets.pairs_json` or `datasets.sdds`.

    Raises:
        ValueError: no pairs, or one that is too short or silent to be measured.
    """
    found = [Pair(pair.name, pair.kind, pair.hit, *datasets.read_pair(pair)) for pair in pairs]
    if not found:
        raise ValueError("there are no pairs to measure; give a folder that has some")
    for pair in found:
        if len(pair.dry) < SHORTEST:
            raise ValueError(
                f"pair '{pair.name}' has {len(pair.dry)} samples; expected {SHORTEST} or more: leave it out"
            )
        if not np.any(pair.dry) or not np.any(pair.wet):
            raise ValueError(f"pair '{pair.name}' is silent on one side: leave it out or record it again")
    return found


# Methods: (dry, wet, fs) -> the dry signal shifted


Method = Callable[[np.ndarray, np.ndarray, float], np.ndarray]
Finder = Callable[[np.ndarray, np.ndarray, float], Alignment]


def predicted(network: aligner.Network) -> Finder:
    """A network's own answer in one pass, without `aligner.best_cascade`'s resort to a delay alone.

    That resort beats GCC-PHAT in nearly every pair by itself, whatever the network says.
    """

    def find(dry: np.ndarray, wet: np.ndarray, fs: float) -> Alignment:
        max_delay = round(1e-3 * config.MAX_DELAY_MS * fs)
        cross = cross_spectrum.measure(dry, wet, fs, max_delay)
        if network.design.kind == "waves":
            answers = aligner.predict_from_waves(network, dry, wet, fs, max_delay)
        else:
            answers = aligner.predict(network, cross, max_delay)
        return alignment_of(from_controls(answers.at(0), fs), fs)

    return find


def refined(network: aligner.Network) -> Finder:
    """A network's answers, the best of them after some steps of refinement."""

    def find(dry: np.ndarray, wet: np.ndarray, fs: float) -> Alignment:
        max_delay = round(1e-3 * config.MAX_DELAY_MS * fs)
        cross = cross_spectrum.measure(dry, wet, fs, max_delay)
        answers = aligner.predict(network, cross, max_delay)
        return alignment_of(aligner.refine(answers, cross, max_delay, steps=config.REFINING), fs)

    return find


def placed_greedily() -> Finder:
    """The program that the network's answer comes from, each section where it gains most at once."""

    def find(dry: np.ndarray, wet: np.ndarray, fs: float) -> Alignment:
        max_delay = round(1e-3 * config.MAX_DELAY_MS * fs)
        answers = aligner.predict_greedily(cross_spectrum.measure(dry, wet, fs, max_delay), max_delay)
        return alignment_of(from_controls(answers.at(0), fs), fs)

    return find


def optimised(order: int | str, method: str) -> Finder:
    """`jaxapf.align`."""
    return lambda dry, wet, fs: align(
        dry, wet, fs, order=order, method=method, max_delay_ms=config.MAX_DELAY_MS
    )


def finders(networks: dict[str, aligner.Network], slow: bool) -> dict[str, Finder]:
    """The methods that find filters, by name."""
    found: dict[str, Finder] = {GREEDY: placed_greedily()}
    if "waves" in networks:
        found[WAVES] = predicted(networks["waves"])
    if "cross-phase" in networks:
        found[NETWORK] = predicted(networks["cross-phase"])
        found[REFINED] = refined(networks["cross-phase"])
    if slow:
        found |= {SEARCH: optimised("auto", "spectral"), AUTO: optimised("auto", "auto")}
    return found


# Measuring


class Evaluated(NamedTuple):
    """Figures, one row a pair and method, and the shifted signals by (pair, method)."""

    rows: list[Row]
    shifted: dict[tuple[str, str], np.ndarray]


def evaluated(pairs: Sequence[Pair], networks: dict[str, aligner.Network], *, slow: bool = True) -> Evaluated:
    """All methods on all pairs; seconds without compiling, which a first call before the clock does."""
    rows: list[Row] = []
    kept: dict[tuple[str, str], np.ndarray] = {}
    find = finders(networks, slow)
    for number, pair in enumerate(pairs):
        results: dict[str, tuple[np.ndarray, float]] = {}
        for name, estimate in baselines.METHODS.items():
            (delay, polarity), seconds = _timed(estimate, pair)
            results[name] = baselines.shifted(pair.dry, delay, polarity), seconds
        for name, finder in find.items():
            if number == 0:
                finder(*pair[3:])
            found, seconds = _timed(finder, pair)
            results[name] = np.asarray(found.apply(pair.dry)), seconds
        for name, (shifted, seconds) in results.items():
            figures = measures.measures(shifted, pair.wet, pair.fs)
            rows.append({"method": name, "pair": pair.name, "kind": pair.kind, **figures, "seconds": seconds})
            kept[pair.name, name] = shifted
        show_progress(f"evaluated {number + 1} of {len(pairs)} pairs")
    show_progress("")
    return Evaluated(rows, kept)


def _timed(method: Callable[..., Any], pair: Pair) -> tuple[Any, float]:
    started = time.perf_counter()
    found = method(*pair[3:])
    return found, time.perf_counter() - started


def goals(rows: Sequence[Row]) -> list[Row]:
    """What was to be shown, and whether it is; only where the methods that it is about were run."""
    table = {(row["method"], row["pair"]): row for row in rows}
    pairs = list(dict.fromkeys(row["pair"] for row in rows))

    def figures(method: str, name: str) -> np.ndarray:
        return np.array([table[method, pair][name] for pair in pairs])

    found: list[Row] = []
    methods = {row["method"] for row in rows}
    if NETWORK not in methods:
        return found
    for name, unit in (("mix_rms_db", "dB"), ("correlation", "")):
        ours, theirs = figures(NETWORK, name), figures(CLASSICAL, name)
        gain, share = float(np.median(ours) - np.median(theirs)), float(np.mean(ours > theirs))
        said = name.replace("mix_rms_db", "RMS of the mix")
        found.append(_goal(f"{said}: median above that of GCC-PHAT{unit and ', in ' + unit}", gain, gain > 0))
        found.append(
            _goal(f"{said}: better than GCC-PHAT in 80 % of the pairs", share, share >= config.BETTER_IN)
        )
    seconds = float(np.median(figures(NETWORK, "seconds")))
    found.append(_goal("seconds for a pair below 0.05", seconds, seconds < config.PAIR_S))
    if SEARCH in methods:
        faster = float(np.median(figures(SEARCH, "seconds"))) / seconds
        found.append(_goal("times as fast as align's search, 20 or more", faster, faster >= config.FASTER))
    for name in (SEARCH, AUTO):
        if name in methods:
            ours, theirs = figures(REFINED, "correlation"), figures(name, "correlation")
            more = float(np.median(ours) - np.median(theirs))
            found.append(_goal(f"refined: median correlation no lower than that of {name}", more, more >= 0))
            paired = float(np.median(ours - theirs))
            found.append(_goal(f"refined: in the median of the pairs above {name} by", paired, paired >= 0))
    return found


def _goal(goal: str, value: float, met: bool) -> Row:
    return {"goal": goal, "value": value, "met": bool(met)}
