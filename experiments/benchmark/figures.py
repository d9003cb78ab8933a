"""The growth: run time against length, order and batch, log-log, one panel each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.optimize
from matplotlib.axes import Axes
from matplotlib.ticker import (
    FixedFormatter,
    FixedLocator,
    FuncFormatter,
    LogLocator,
    NullFormatter,
    NullLocator,
)

from experiments.common.pictures import drawing

# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = {
    "auto": "#000000",
    "scan": "#0072B2",
    "blocked": "#D55E00",
    "associative": "#009E73",
    "fsm": "#CC79A7",
    "native": "#E69F00",
    "scipy.signal.sosfilt": "#7a7a7a",
}
LABELS = {"scipy.signal.sosfilt": "SciPy"}
AXES = {"n_samples": "samples", "n_sections": "sections", "batch": "signals"}
LABEL_HEIGHT = 10.5  # points


def draw(growth: dict[str, Any], path: Path) -> None:
    """Write the picture of a run's growth to a PNG file."""
    panels = growth["panels"]
    rows = -(-len(panels) // 2)
    with drawing(path, 10, 3.6 * rows, dpi=160, layout=None) as figure:
        axes = figure.subplots(rows, 2, squeeze=False, sharey="row")
        figure.subplots_adjust(left=0.07, right=0.9, top=0.94, bottom=0.07, wspace=0.42, hspace=0.36)
        ends = [
            draw_panel(ax, [row for row in growth["rows"] if row["panel"] == name], panel)
            for ax, (name, panel) in zip(axes.flat, panels.items(), strict=False)
        ]
        for ax, last in zip(axes.flat, ends, strict=False):  # now that all limits are known
            add_labels(ax, last)
        for ax in axes.flat[len(panels) :]:
            ax.set_visible(False)


def draw_panel(
    ax: Axes, rows: Sequence[dict[str, Any]], panel: dict[str, Any]
) -> dict[str, tuple[float, float]]:
    """Draw one line a function; return where each ends."""
    ends = {}
    for name in dict.fromkeys(row["function"] for row in rows):
        points = [(row["at"], row["ms"]) for row in rows if row["function"] == name]
        style = {"ls": (0, (1, 1.5)), "zorder": 3} if name == "auto" else {"marker": "o", "ms": 3}
        ax.loglog(*zip(*points, strict=True), color=COLOURS[name], lw=1.5, **style)
        ends[name] = points[-1]
    ax.set(title=title(panel), xlabel=AXES[panel["axis"]])
    ax.set_ylabel("milliseconds")
    ax.tick_params(labelleft=True)
    ax.grid(which="major", color="#e4e4e4", lw=0.6)
    ax.set_axisbelow(True)
    set_ticks(ax, panel["values"], powers=panel["axis"] == "n_samples")
    return ends


def title(panel: dict[str, Any]) -> str:
    """Return what the panel shows and what it holds fixed."""
    fixed = [
        f"{panel[axis]} {unit if panel[axis] != 1 else unit[:-1]}"
        for axis, unit in (("batch", "signals"), ("n_samples", "samples"), ("n_sections", "sections"))
        if axis != panel["axis"]
    ]
    return f"{'Value and gradient' if panel['gradient'] else 'Forward'}: {', '.join(fixed)}"


def set_ticks(ax: Axes, values: Sequence[int], *, powers: bool) -> None:
    """Label the measured values, lengths as powers of two, and plain milliseconds."""
    labels = [f"$2^{{{math.log2(value):g}}}$" if powers else str(value) for value in values]
    ax.xaxis.set_major_locator(FixedLocator([float(value) for value in values]))
    ax.xaxis.set_major_formatter(FixedFormatter(labels))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_locator(LogLocator(10.0, numticks=20))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def add_labels(ax: Axes, ends: dict[str, tuple[float, float]]) -> None:
    """Write each line's name right of the panel, joined to its end where the labels had to make room."""
    names = list(ends)
    ax.get_ylim()  # brings the limits up to date, on which the transform rests
    to_points = 72 / ax.figure.dpi
    heights = np.array([ax.transData.transform(ends[name])[1] for name in names]) * to_points
    for name, height, place in zip(names, heights, spread(heights, LABEL_HEIGHT), strict=True):
        ax.annotate(
            LABELS.get(name, name),
            xy=ends[name],
            xycoords="data",
            xytext=(22, place - height),
            textcoords="offset points",
            color=COLOURS[name],
            va="center",
            arrowprops={
                "arrowstyle": "-",
                "color": COLOURS[name],
                "lw": 0.6,
                "alpha": 0.6,
                "shrinkA": 1,
                "shrinkB": 3,
            },
        )


def spread(positions: np.ndarray, gap: float) -> np.ndarray:
    """Move positions as little as possible, in least squares, so that any two are `gap` apart."""
    order = np.argsort(positions, kind="stable")
    room = gap * np.arange(len(positions))
    places = np.empty(len(positions))
    places[order] = scipy.optimize.isotonic_regression(positions[order] - room).x + room
    return places
