"""What came out, as Markdown: every strategy and seed beside doing nothing and the rule-based baseline.

The results are one JSON file:

    {"made_with": "Made with ...",                       a sentence
     "lengths": {"5": {                                  seconds of a clip, both halves
         "test_clips": 60,
         "known": {"unprocessed": SCORES, "rule-based": SCORES},   and any other without training
         "strategies": {"autodiff": [RUN, ...], ...}}}}             a run for each seed

    SCORES = {"mrstft": 1.2, "msd": ..., "sce_hz": ..., "rms_db": ..., "lufs_db": ...}      of `scores.means`
    RUN = {"seed": 0, "steps": 3000, "seconds_per_step": 0.4, "minutes": 21.0, "scores": SCORES,
           "controls": {"equalizer.low_shelf_gain_db": 0.11, ...}}  of `scores.control_errors`; may be missing

All numbers are means over the test clips. A number that is not known is null.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.runner import Row, table, verdict
from experiments.style_transfer import scores

UNPROCESSED, RULES, JUDGED = "unprocessed", "rule-based", "autodiff"
STRATEGIES = ("autodiff", "fsm", "proxy", "proxy-hybrid", "spsa")
SEEDS = 3
BELOW = {UNPROCESSED: 0.55, RULES: 0.30}  # how far `JUDGED` has to be below them, in MR-STFT
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
    """The results of a file.

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
        raise ValueError(f"'{path}' lacks {error}; tables.py says what results hold") from error
    return found


def _runs(length: Results) -> Iterator[Row]:
    for runs in length["strategies"].values():
        yield from runs


def names_of(length: Results) -> list[str]:
    """Strategies that have runs: those of the house in their order, then others."""
    found = [name for name, runs in length["strategies"].items() if runs]
    return sorted(found, key=lambda name: (STRATEGIES.index(name) if name in STRATEGIES else 99, name))


def each(runs: Sequence[Row], name: str) -> np.ndarray:
    """A score of the seeds, (seeds,)."""
    return np.array([_known(run["scores"][name]) for run in runs])


def mean(runs: Sequence[Row], name: str) -> float:
    """A score, mean over the seeds."""
    return float(np.mean(each(runs, name)))


def _known(value: Any) -> float:
    return math.nan if value is None else float(value)


# Tables


def compared(length: Results) -> list[Row]:
    """A row for each method: the means over clips and seeds, and MR-STFT of each seed."""
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
    """A row for each control: its error in each strategy, mean over clips and seeds."""
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
    """Is autodiff far enough below what needs no training?"""
    runs = length["strategies"].get(JUDGED) or []
    reached = mean(runs, "mrstft") if runs else math.nan
    rows = []
    for name, share in BELOW.items():
        below = 1 - reached / _known(length["known"][name]["mrstft"])
        said = (
            f"{abs(below):.0%} {'below' if below >= 0 else 'above'}" if math.isfinite(below) else "not known"
        )
        rows.append(
            {
                "goal": f"{title}: {JUDGED} at least {share:.0%} below {name}",
                "value": said,
                "met": bool(below >= share),
            }
        )
    return rows


def seeded(results: Results) -> Row:
    """Has every strategy been trained from all seeds, on clips of one length?"""
    fewest = max(
        min(len(length["strategies"].get(name) or []) for name in STRATEGIES)
        for length in results["lengths"].values()
    )
    return {"goal": f"{SEEDS} seeds of all strategies", "value": fewest, "met": fewest >= SEEDS}


def markdown(results: Results) -> str:
    """All tables, ready for the README."""
    lengths = sorted(results["lengths"].items(), key=lambda item: float(item[0]))
    parts = [str(results["made_with"])]
    every = [goal for s, one in lengths if one["strategies"].get(JUDGED) for goal in goals(one, f"{s} s")]
    parts.append(verdict([*every, seeded(results)], _cell))
    for seconds, length in lengths:
        parts.append(f"**Clips of {seconds} s** ({length['test_clips']} test clips; less is better).")
        parts.append(table(compared(length), _cell))
        parts += _steps(length)
    for seconds, length in lengths:
        if rows := controls(length):
            parts.append(f"Error of each control, as a share of its range; clips of {seconds} s.")
            parts.append(table(rows, _cell))
    return "\n\n".join(parts) + "\n"


def _steps(length: Results) -> list[str]:
    said = [
        f"{name} {_text(_average(runs, 'steps'), 0)} in {_text(_average(runs, 'minutes'), 0)} min"
        for name in names_of(length)
        for runs in [length["strategies"][name]]
    ]
    return [f"Steps of each training: {'; '.join(said)}."] if said else []


def _cell(column: str, value: Any) -> str:
    return str(value)


def _text(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"
