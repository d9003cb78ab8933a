"""Tune the constants of the rule-based baseline, on training recordings.

One constant after the other takes the value of its list that brings the MR-STFT distance lowest;
the filter first, without compressor. Clips and effects are drawn as in training; no test recording is used.
About 2 min of processor time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import jax
import numpy as np

from experiments.common.runner import show_progress
from experiments.style_transfer import baseline, data, protocol, scores

OFF_DB = 100.0  # slack with which the compressor never acts
GRID: Mapping[str, Sequence[float]] = {
    "octaves": (0.5, 1.0, 1.5, 2.0),
    "share": (0.5, 0.6, 0.7, 0.8, 0.9),
    "limit_db": (12.0, 18.0, 24.0),
    "slack_db": (1.0, 4.0),
}
START = baseline.PAPER._replace(octaves=1.0, share=0.8, ratio=1.5, slack_db=OFF_DB)
LENGTHS = {data.LONG_S: 40, data.SHORT_S: 160}  # seconds of a clip: clips
ROUNDS = 1
SEED = 11


def lines(sources: Sequence[data.Source]) -> Iterator[str]:
    """Give a line for each length of clips: the best rule and its distance."""
    for seconds, count in LENGTHS.items():
        given, target, reference = examples(sources, seconds, count, SEED)
        rule, value = tuned(given, target, reference)
        show_progress("")
        yield f"{seconds:g} s: {value:.3f} with {rule}"


def examples(
    sources: Sequence[data.Source], seconds: float, count: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return inputs, targets and references (count, half) of the experiment's own task."""
    halves = data.clips(data.pool(sources, seconds), count, seed).halves
    made = jax.jit(protocol.task)(jax.random.key(seed), halves)
    return np.asarray(made.given), np.asarray(made.target), np.asarray(made.reference)


def tuned(given: np.ndarray, target: np.ndarray, reference: np.ndarray) -> tuple[baseline.Rule, float]:
    """Return the best rule found, and its distance."""

    def distance(rule: baseline.Rule) -> float:
        made = baseline.rule_based(given, reference, data.FS, rule)
        return float(np.mean(np.asarray(scores.mrstft(made, target))))

    rule = START
    best = distance(rule)
    for turn in range(ROUNDS):
        for name, values in GRID.items():
            for value in values:
                if value == getattr(rule, name):
                    continue
                show_progress(f"round {turn + 1}, {name} {value:g}: {best:.4f}")
                candidate = rule._replace(**{name: value})
                found = distance(candidate)
                if found < best:
                    rule, best = candidate, found
    return rule, best
