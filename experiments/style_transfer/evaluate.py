"""Compare every strategy and seed with no processing and the rule-based baseline; make the tables.

The results are one JSON file:

    {"made_with": "Made with ...",                       a sentence
     "lengths": {"5": {                                  seconds of a clip, both halves
         "test_clips": 60,
         "known": {"unprocessed": SCORES, "rule-based": SCORES},   and any other without training
         "strategies": {"autodiff": [RUN, ...], ...}}}}             a run for each seed

    SCORES = {"mrstft": 1.2, "msd": ..., "sce_hz": ..., "rms_db": ..., "lufs_db": ...}      of `scores.means`
    RUN = {"seed": 0, "steps": 3000, "seconds_per_step": 0.4, "minutes": 21.0, "scores": SCORES,
           "controls": {"equalizer.low_shelf_gain_db": 0.11, ...}}  of `scores.control_errors`; may be missing

All numbers are means over the test clips. A missing number is null.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.runner import Row
from experiments.common.tables import goal, table, verdict
from experiments.style_transfer import scores

UNPROCESSED, RULES, MAIN = "unprocessed", "rule-based", "autodiff"
MARKERS = ("style-transfer", "controls")
STRATEGIES = ("autodiff", "fsm", "proxy", "proxy-hybrid", "spsa")
SEEDS = 3
BELOW = {UNPROCESSED: 0.55, RULES: 0.30}  # how far `MAIN` has to be below them, in MR-STFT
# Steinmetz et al. 2022, LibriTTS at 24 kHz
PUBLISHED = {
    UNPROCESSED: "1.187",
    RULES: "0.943",
    "autodiff": "0.388",
    "proxy": "0.676",
    "proxy-hybrid": "1.04 to 1.06",
    "spsa": "0.635",
}
DIGITS = {"sce_hz": 0, "rms_db": 2, "lufs_db": 2}  # others have 3

Results = Mapping[str, Any]


def read(path: Path) -> Results:
    """Read the results of a file.

    Raises:
        ValueError: it cannot be read, or is no such file.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"'{path}' cannot be read as results: {error}; train and score first") from error
    try:
        for length in found["lengths"].values():
            for one in (*length["known"].values(), *(run["scores"] for run in _runs(length))):
                _ = [one[name] for name in scores.TITLES]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"'{path}' lacks {error}; evaluate.py describes what results hold") from error
    return found


def _runs(length: Results) -> Iterator[Row]:
    for runs in length["strategies"].values():
        yield from runs


def names_of(length: Results) -> list[str]:
    """Return the strategies that have runs: ours in their order, then others."""
    found = [name for name, runs in length["strategies"].items() if runs]
    return sorted(found, key=lambda name: (STRATEGIES.index(name) if name in STRATEGIES else 99, name))


def each(runs: Sequence[Row], name: str) -> np.ndarray:
    """Return a score of the seeds, (seeds,)."""
    return np.array([_known(run["scores"][name]) for run in runs])


def mean(runs: Sequence[Row], name: str) -> float:
    """Return a score, mean over the seeds."""
    return float(np.mean(each(runs, name)))


def _known(value: Any) -> float:
    return math.nan if value is None else float(value)


# Tables


def compared(length: Results) -> list[Row]:
    """Return a row for each method: the means over clips and seeds, and MR-STFT of each seed."""
    rows = []
    for name, found in length["known"].items():
        rows.append(_row(name, {one: _known(found[one]) for one in scores.TITLES}, None))
    for name in names_of(length):
        runs = length["strategies"][name]
        rows.append(_row(name, {one: mean(runs, one) for one in scores.TITLES}, runs))
    return rows


def _row(name: str, found: Mapping[str, float], runs: Sequence[Row] | None) -> Row:
    controls = [error for run in runs or [] for error in (run.get("controls") or {}).values()]
    return {
        "method": name,
        **{title: _text(found[one], DIGITS.get(one, 3)) for one, title in scores.TITLES.items()},
        "control error": _text(float(np.mean(controls)), 3) if controls else "–",
        "s a step": "–" if runs is None else _text(_average(runs, "seconds_per_step"), 3),
        "MR-STFT of the seeds": "–" if runs is None else " ".join(_text(v, 3) for v in each(runs, "mrstft")),
        "printed": PUBLISHED.get(name, "–"),
    }


def _average(runs: Sequence[Row], name: str) -> float:
    return float(np.mean([_known(run.get(name)) for run in runs]))


def controls(length: Results) -> list[Row]:
    """Return a row for each control: its error in each strategy, mean over clips and seeds."""
    found = {}
    for name in names_of(length):
        runs = [run["controls"] for run in length["strategies"][name] if run.get("controls")]
        if runs:
            found[name] = {one: float(np.mean([run[one] for run in runs])) for one in runs[0]}
    every = dict.fromkeys(one for errors in found.values() for one in errors)
    return [
        {"control": one, **{name: _text(errors.get(one, math.nan), 3) for name, errors in found.items()}}
        for one in every
    ]


def goals(length: Results, title: str) -> list[Row]:
    """Return the goals: autodiff far enough below what needs no training."""
    runs = length["strategies"].get(MAIN) or []
    reached = mean(runs, "mrstft") if runs else math.nan
    rows = []
    for name, share in BELOW.items():
        below = 1 - reached / _known(length["known"][name]["mrstft"])
        text = (
            f"{abs(below):.0%} {'below' if below >= 0 else 'above'}" if math.isfinite(below) else "not known"
        )
        rows.append(goal(f"{title}: {MAIN} at least {share:.0%} below {name}", text, below >= share))
    return rows


def seeded(results: Results) -> Row:
    """Return the goal that every strategy is trained from all seeds, on clips of one length."""
    fewest = max(
        min(len(length["strategies"].get(name) or []) for name in STRATEGIES)
        for length in results["lengths"].values()
    )
    return goal(f"{SEEDS} seeds of all strategies", fewest, fewest >= SEEDS)


def markdown(results: Results) -> dict[str, str]:
    """Return the tables by the names of their markers."""
    lengths = sorted(results["lengths"].items(), key=lambda item: float(item[0]))
    every = [row for s, one in lengths if one["strategies"].get(MAIN) for row in goals(one, f"{s} s")]
    parts = [str(results["made_with"]), verdict([*every, seeded(results)], _cell)]
    for seconds, length in lengths:
        parts.append(f"**Clips of {seconds} s** ({length['test_clips']} test clips; less is better).")
        parts += [table(compared(length), _cell), *_steps(length)]
    errors = [
        f"Clips of {seconds} s:\n\n{table(rows, _cell)}"
        for seconds, length in lengths
        if (rows := controls(length))
    ]
    return {name: "\n\n".join(texts) + "\n" for name, texts in zip(MARKERS, (parts, errors), strict=True)}


def _steps(length: Results) -> list[str]:
    steps = [
        f"{name} {_text(_average(runs, 'steps'), 0)} in {_text(_average(runs, 'minutes'), 0)} min"
        for name in names_of(length)
        for runs in [length["strategies"][name]]
    ]
    return [f"Steps of each training: {'; '.join(steps)}."] if steps else []


def _cell(column: str, value: Any) -> str:
    return str(value)


def _text(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"
