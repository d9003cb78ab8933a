"""Pictures, as .svg or .png: training, recorded pairs, phase errors (needs the extra `plot`)."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.common.pictures import COLOURS, GRID, INK, drawing, legend, line, words

BASELINE = "GCC-PHAT, delay and polarity"
KINDS = {
    "near_far": "near and far",
    "top_bottom": "top and bottom",
    "top_bottom_inverted": "top and bottom, inverted",
}
MOST_METHODS = 4
FLOOR_DEG = 0.05  # smaller errors are drawn as large, the axes being logarithmic
TICKS_DEG = (0.1, 0.3, 1, 3, 10, 30, 90, 180)
TICKS_HZ = {20: "20", 100: "100", 1000: "1k", 10_000: "10k"}

MARKS = ("o", "^", "D", "s")  # tell the methods apart in grey
BASE = "#7d838c"


class Course(NamedTuple):
    """A training after `steps`, and `minutes` or NaN: per cent of the phase-only bound reached, and loss."""

    steps: np.ndarray
    minutes: np.ndarray
    reached: np.ndarray
    loss: np.ndarray


# Training


def loss_curve(records_by_network: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> None:
    """Draw the networks' losses and what they reach, over minutes of training or, untimed, steps.

    Args:
        records_by_network: records as `logging.read_metrics` gives them, with `step`, `reached`, `loss` and
            `seconds`, by the network's name; runs that went on where others stopped make up one line.
        path: file to write, .svg or .png.

    Raises:
        ValueError: there is nothing to draw.
        AudioError: the file cannot be written.
    """
    courses = {name: course_of(records) for name, records in records_by_network.items()}
    empty = [name for name, course in courses.items() if not len(course.steps)]
    if empty or not courses:
        raise ValueError(f"records_by_network has no 'reached' of {empty or 'any network'}; train first")
    timed = all(np.isfinite(course.minutes).all() for course in courses.values())
    with drawing(path, 10.0, 3.4, dpi=160) as figure:
        left, right = figure.subplots(1, 2)
        _draw_losses(left, courses, timed)
        _draw_courses(right, courses, timed)


def _draw_losses(ax: Any, courses: Mapping[str, Course], timed: bool) -> None:
    for number, (name, course) in enumerate(courses.items()):
        x = course.minutes if timed else course.steps
        ax.plot(x, course.loss, ".", ms=3.5, color=COLOURS[number], alpha=0.4, mew=0)
        ax.plot(x, smoothed(course.loss), **line(number), label=words(name))
    ax.set(xlabel="minutes of training" if timed else "step", ylabel="loss", yscale="log")
    ax.set_xlim(left=0)
    ax.grid(color=GRID, lw=0.6)
    ax.set_title("Losses: of forecasts (cross-spectrum), of answers (waves)" if len(courses) > 1 else "Loss")
    ax.legend(frameon=False)


def _draw_courses(ax: Any, courses: Mapping[str, Course], timed: bool) -> None:
    for number, (name, course) in enumerate(courses.items()):
        x = course.minutes if timed else course.steps
        ax.plot(x, course.reached, ".", ms=3.5, color=COLOURS[number], alpha=0.4, mew=0)
        ax.plot(x, smoothed(course.reached), **line(number), label=words(name))
    ax.axhline(100.0, color=INK, lw=0.8)
    ax.annotate(
        "phase-only bound", (0.995, 100), (0, 2), ("axes fraction", "data"), "offset points", ha="right"
    )
    ax.set(xlabel="minutes of training" if timed else "step", ylabel="reached (% of the bound)")
    ax.set_xlim(left=0)
    ax.set_ylim(top=100 + 0.08 * (100 - ax.get_ylim()[0]))
    ax.grid(color=GRID, lw=0.6)
    ax.set_title("Share of the correlation that phase alone can give")
    ax.legend(frameon=False, loc="lower right")


def course_of(records: Sequence[Mapping[str, Any]]) -> Course:
    """Steps, minutes, what was reached and the loss, over all runs of a train.

    Seconds are counted anew in each run; where one begins, those of the runs before are added.

    Example:
        >>> first = {"step": 1, "reached": 0.5, "loss": 0.5, "seconds": 60.0, "compile_s": 9.0}
        >>> again = {"step": 2, "reached": 0.75, "loss": 0.25, "seconds": 30.0, "compile_s": 9.0}
        >>> course = course_of([first, again])
        >>> course.minutes.tolist(), course.reached.tolist(), course.loss.tolist()
        ([1.0, 1.5], [50.0, 75.0], [0.5, 0.25])
    """
    rows, before, last = [], 0.0, 0.0
    for record in records:
        seconds = record.get("seconds", np.nan)
        if "compile_s" in record or seconds < last:
            before, last = before + last, 0.0
        last = seconds if np.isfinite(seconds) else last
        found = 100 * record.get("reached", np.nan), record.get("loss", np.nan)
        rows.append((record["step"], (before + seconds) / 60, *found))
    columns = np.array(rows, np.float64).reshape(-1, 4).T
    return Course(*(column[np.isfinite(columns[2])] for column in columns))


def smoothed(y: np.ndarray) -> np.ndarray:
    """Moving mean over a twentieth of the points, at the ends over what there is of them.

    Example:
        >>> smoothed(np.arange(60.0) % 2).round(2)[[0, 1, 2, 30, -1]]
        array([0.  , 0.33, 0.67, 0.67, 0.5 ])
    """
    at = np.arange(len(y))
    # At the beginning, which is steep, as far to the right as to the left.
    reach = np.minimum(max(1, len(y) // 40), at)
    start, stop = at - reach, np.minimum(at + reach + 1, len(y))
    total = np.concatenate([[0.0], np.cumsum(y)])
    return (total[stop] - total[start]) / (stop - start)


# Recorded pairs


def pairs(rows: Sequence[Mapping[str, Any]], path: Path, methods: Sequence[str]) -> None:
    """Draw the correlation of each pair after each method, a panel for each kind of pair.

    Args:
        rows: one a pair and method, with `pair`, `kind`, `method` and `correlation`; among them those of
            BASELINE, whose correlation the pairs are sorted by.
        path: file to write, .svg or .png.
        methods: what to draw, at most four.

    Raises:
        ValueError: no method or more than four; a method without a pair that the baseline has.
        AudioError: the file cannot be written.
    """
    if not 1 <= len(methods) <= MOST_METHODS:
        raise ValueError(f"methods has {len(methods)} names; give one to {MOST_METHODS}")
    found = {method: _correlations(rows, method) for method in dict.fromkeys([BASELINE, *methods])}
    for method, of_pairs in found.items():
        if missing := sorted(found[BASELINE].keys() - of_pairs.keys()):
            raise ValueError(f"rows lack pair {missing[0]!r} of {method!r}; give each method all pairs")
    kinds = {row["pair"]: row["kind"] for row in rows if row["method"] == BASELINE}
    groups = [
        sorted((pair for pair in kinds if kinds[pair] == kind), key=found[BASELINE].__getitem__)
        for kind in dict.fromkeys(kinds.values())
    ]
    widths = [len(group) + 2 for group in groups]
    with drawing(path, 10.0, 4.0, dpi=160) as figure:
        axes = figure.subplots(1, len(groups), squeeze=False, sharey=True, width_ratios=widths)[0]
        for ax, group in zip(axes, groups, strict=True):
            _draw_pairs(ax, group, {method: found[method] for method in methods})
            kind = kinds[group[0]]
            ax.set_title(f"{KINDS.get(kind, words(kind))} ({len(group)})")
        axes[0].set_ylabel("correlation after the method")
        axes[int(np.argmax(widths))].set_xlabel(f"pair, sorted by the correlation after {BASELINE}")
        legend(figure, {method: _mark(method, methods) for method in methods}, "outside lower center")


def _correlations(rows: Sequence[Mapping[str, Any]], method: str) -> dict[str, float]:
    found = {row["pair"]: float(row["correlation"]) for row in rows if row["method"] == method}
    if not found:
        raise ValueError(f"rows have none of {method!r}; give each method's pairs, and the baseline's")
    return found


def _draw_pairs(ax: Any, group: Sequence[str], found: Mapping[str, Mapping[str, float]]) -> None:
    at = np.arange(len(group))
    values = np.array([[of_pairs[pair] for pair in group] for of_pairs in found.values()])
    ax.vlines(at, values.min(axis=0), values.max(axis=0), color=GRID, lw=4, zorder=1)
    for method, y in zip(found, values, strict=True):
        ax.plot(at, y, **_mark(method, list(found)))
    ax.set_xticks(at, group, fontsize=7, rotation=90 if max(map(len, group)) > 2 else 0)
    ax.set_xlim(-0.8, len(group) - 0.2)
    ax.grid(axis="y", color=GRID, lw=0.6)


def _mark(method: str, methods: Sequence[str]) -> dict[str, Any]:
    if method == BASELINE:
        return {"color": BASE, "marker": "_", "ls": "", "ms": 9, "mew": 2.6, "zorder": 2}
    number = [one for one in methods if one != BASELINE].index(method)
    look = {"color": COLOURS[number], "marker": MARKS[number], "ls": "", "ms": 4.5, "mew": 1.2}
    return look | {"mfc": "none" if number % 2 else COLOURS[number], "zorder": 4 if number % 2 else 3}


# Pairs with a known cascade


def phase_errors(known: Mapping[str, Any], path: Path) -> None:
    """Draw phase errors on pairs whose cascade is known: per pair, over frequency, in an empty octave.

    Args:
        known: `weighted_deg`, by method one error a pair; `freqs_hz` (bands,) and `curves_deg`, by method
            `p50` and `p90` (bands,); `empty`, whose `emptied_deg` and `untouched_deg` have, by method, one
            error a pair, in an octave that was emptied and in the same one left as it is. All in degrees.
        path: file to write, .svg or .png.

    Raises:
        ValueError: no method, more than four, or one without a number.
        AudioError: the file cannot be written.
    """
    per_pair = _degrees(known, "weighted_deg")
    inside, outside = (_degrees(known["empty"], name) for name in ("emptied_deg", "untouched_deg"))
    methods = list(dict.fromkeys([*per_pair, *known["curves_deg"], *inside, *outside]))
    if not 1 <= len(methods) <= MOST_METHODS:
        raise ValueError(f"known names {len(methods)} methods; give one to {MOST_METHODS}")
    if not (per_pair and known["curves_deg"] and inside):
        raise ValueError("known has a part without a method; measure at least one for each")
    if inside.keys() != outside.keys():
        raise ValueError("known['empty'] has other methods inside than outside; give the same")
    with drawing(path, 10.0, 3.8, dpi=160) as figure:
        left, middle, right = figure.subplots(1, 3)
        _draw_shares(left, per_pair, methods)
        _draw_curves(middle, np.asarray(known["freqs_hz"], np.float64), known["curves_deg"], methods)
        _draw_empty(right, inside, outside, methods)
        lines = {name: line(number) for number, name in enumerate(methods)}
        legend(figure, lines, "outside lower center")


def _degrees(holder: Mapping[str, Any], name: str) -> dict[str, np.ndarray]:
    found = {}
    for method, values in holder[name].items():
        numbers = np.array(values, np.float64)  # None becomes NaN
        numbers = np.maximum(numbers[np.isfinite(numbers)], FLOOR_DEG)
        if not len(numbers):
            raise ValueError(f"known has no finite number in {name} of {method!r}; measure it first")
        found[method] = np.sort(numbers)
    return found


def _draw_shares(ax: Any, per_pair: Mapping[str, np.ndarray], methods: Sequence[str]) -> None:
    for method, degrees in per_pair.items():
        share = 100 * np.arange(len(degrees) + 1) / len(degrees)
        x = np.concatenate([degrees[:1], degrees])
        ax.plot(x, share, drawstyle="steps-post", **line(methods.index(method)))
    _degree_axis(ax, "x", "phase error of the pair (degrees)")
    ax.axhline(50, color=INK, lw=0.6)
    ax.set(ylabel="pairs with at most this (%)", ylim=(0, 101))
    ax.set_title("Errors of the pairs")


def _draw_curves(
    ax: Any, freqs_hz: np.ndarray, curves: Mapping[str, Mapping[str, Any]], methods: Sequence[str]
) -> None:
    for method, percentiles in curves.items():
        look = line(methods.index(method))
        half, most = (np.maximum(np.array(percentiles[p], np.float64), FLOOR_DEG) for p in ("p50", "p90"))
        if not np.isfinite(half).any():
            raise ValueError(f"known has no finite number in curves_deg of {method!r}; measure it first")
        ax.plot(freqs_hz, half, **look)
        ax.plot(freqs_hz, most, **(look | {"lw": 0.8, "alpha": 0.75}))
    ax.set_title("Over frequency")
    ax.set_xscale("log")
    ax.set_xticks(list(TICKS_HZ), list(TICKS_HZ.values()))
    ax.minorticks_off()
    _degree_axis(ax, "y", "phase error (degrees)")
    ax.set(xlabel="frequency (Hz)", xlim=(freqs_hz[0], freqs_hz[-1]))
    looks = {"median": {"color": INK, "lw": 1.6}, "90th percentile": {"color": INK, "lw": 0.8}}
    legend(ax, looks, "upper left")


def _draw_empty(
    ax: Any,
    inside: Mapping[str, np.ndarray],
    outside: Mapping[str, np.ndarray],
    methods: Sequence[str],
) -> None:
    empty = {"marker": "s", "ms": 6, "ls": "", "mew": 1.4}
    for at, method in enumerate(inside):
        colour = COLOURS[methods.index(method)]
        for shift, values, face in ((-0.14, outside[method], colour), (0.14, inside[method], "white")):
            low, half, high = np.percentile(values, (25, 50, 75))
            ax.vlines(at + shift, low, high, color=colour, lw=1.4)
            ax.plot(at + shift, half, color=colour, mfc=face, **empty)
    ax.set_xticks(
        range(len(inside)), [textwrap.fill(words(method), 50 // (1 + len(inside))) for method in inside]
    )
    ax.tick_params(axis="x", labelsize=8)
    ax.set_xlim(-0.6, len(inside) - 0.4)
    _degree_axis(ax, "y", "phase error (degrees): median, quartiles")
    ax.set_title("In the octave of the filter")
    grey = empty | {"color": INK}
    legend(ax, {"octave as it is": grey, "octave emptied": grey | {"mfc": "white"}}, "upper left")


def _degree_axis(ax: Any, which: str, label: str) -> None:
    getattr(ax, f"set_{which}scale")("log")
    low, high = getattr(ax, f"get_{which}lim")()
    # room for the key of the panel above the curves
    low, high = max(low, FLOOR_DEG), min(high, 200.0) if which == "x" else 4 * min(high, 180.0)
    ticks = [tick for tick in TICKS_DEG if low <= tick <= high]
    getattr(ax, f"set_{which}ticks")(ticks, [f"{tick:g}" for tick in ticks])
    getattr(ax, f"set_{which}lim")(low, high)
    ax.minorticks_off()
    getattr(ax, f"set_{which}label")(label)
    ax.grid(color=GRID, lw=0.6)
