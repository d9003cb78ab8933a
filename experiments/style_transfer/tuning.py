"""Tune the constants of the rule-based baseline, on training recordings: `python tuning.py --data DIR`.

One constant after the other takes the value of its list that brings the MR-STFT distance lowest, twice round.
Clips and effects are drawn at random; no test recording is heard. About 15 min for both lengths.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import baseline
import data
import jax
import numpy as np
import scores

from jaxapf import params
from jaxapf._experiments import show_progress
from jaxapf.effects import chain

STRIP = chain.chain(
    chain.effect("equalizer"),
    chain.effect("compressor", fixed={"average_ms": 1.0, "lookahead_ms": 0.0}),
)
GRID: Mapping[str, Sequence[float]] = {
    "octaves": (1 / 3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0),
    "floor_db": (-70.0, -60.0, -50.0, -40.0, -30.0),
    "share": (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
    "limit_db": (9.0, 12.0, 18.0, 24.0, 30.0),
    "slack_db": (-3.0, -1.0, 0.0, 0.5, 1.0, 2.0, 4.0, 6.0),
    "ratio": (1.5, 2.0, 3.0, 5.0, 8.0),
    "attack_ms": (0.5, 2.2, 10.0, 30.0),
    "release_ms": (25.0, 50.0, 110.0, 250.0, 500.0),
    "knee_db": (0.0, 6.0, 12.0),
}
LENGTHS = {data.SHORT_S: 120, data.LONG_S: 30}  # seconds of a clip: clips
ROUNDS = 2


def main(argv: Sequence[str] | None = None) -> int:
    """The command: 0, or 2 with one sentence for what the user can mend."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--data", type=Path, help="folder of recordings; without it, the embedded example")
    args = parser.parse_args(argv)
    try:
        sources = data.load(args.data).train
    except ValueError as error:
        print(f"tuning.py: error: {error}", file=sys.stderr)
        return 2
    for seconds, count in LENGTHS.items():
        given, target, reference = examples(sources, seconds, count, key=(11, 1))
        rule, value = tuned(given, target, reference)
        show_progress("")
        print(f"{seconds:g} s: {value:.3f} with {rule}")
    return 0


def examples(
    sources: Sequence[data.Source], seconds: float, count: int, key: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, targets and references (count, half), by effects drawn evenly from their whole ranges."""
    halves = data.clips(data.pool(sources, seconds), count, key).halves
    raw = np.random.default_rng([*key, 1]).uniform(-1, 1, (count, 1, len(STRIP.controls)))
    wet = np.asarray(_processed(raw.astype(np.float32), halves))
    return halves[:, 0], wet[:, 0], wet[:, 1]


@jax.jit
def _processed(raw: Any, halves: Any) -> jax.Array:
    return chain.apply(STRIP, params.denormalise(raw, STRIP.controls), halves, data.FS)


def tuned(given: np.ndarray, target: np.ndarray, reference: np.ndarray) -> tuple[baseline.Rule, float]:
    """The best rule found, and its distance."""

    def distance(rule: baseline.Rule) -> float:
        made = baseline.rule_based(given, reference, data.FS, rule)
        return float(np.mean(np.asarray(scores.mrstft(made, target))))

    rule = baseline.PAPER
    best = distance(rule)
    for turn in range(ROUNDS):
        for name, values in GRID.items():
            for value in values:
                show_progress(f"round {turn + 1}, {name} {value:g}: {best:.4f}")
                tried = rule._replace(**{name: value})
                found = distance(tried)
                if found < best:
                    rule, best = tried, found
    return rule, best


if __name__ == "__main__":
    sys.exit(main())
