"""Draw the cutoff over time, learnt and true, and the distance between; needs the extra `plot`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.lines import Line2D

from experiments.common import pictures

# Okabe and Ito's colours, which colour-blind readers can tell apart; dashes tell them apart in grey.
LOOKS: dict[str, dict[str, Any]] = {
    "truth": {"color": "#bcbcbc", "lw": 5.0},
    "fit_phaser": {"color": "#333333", "lw": 1.4},
    "recursion": {"color": "#0072B2", "lw": 1.6, "ls": (0, (6, 2))},
    "10 ms": {"color": "#009E73", "lw": 1.4, "ls": (0, (3, 1.5))},
    "40 ms": {"color": "#E69F00", "lw": 1.4, "ls": (0, (5, 1.5, 1, 1.5))},
    "160 ms": {"color": "#D55E00", "lw": 1.4, "ls": (0, (1, 1.2))},
    "640 ms": {"color": "#CC79A7", "lw": 1.4, "ls": "-"},
}
GRID = "#e2e2e2"
POINTS = 400  # of a curve
PARTS = 100  # of the time, each with the RMS of the distance in it
FLOOR_CENTS = 0.005
TICKS_CENTS = (0.01, 0.1, 1, 10, 100, 1000)
TICKS_HZ = {100: "100", 200: "200", 500: "500", 1000: "1k", 2000: "2k", 5000: "5k", 10_000: "10k"}


class Sweeps(NamedTuple):
    """Cutoffs in Hz `(n_samples,)` of one device, by the name of a look, and their rate."""

    title: str
    cutoffs: Mapping[str, np.ndarray]
    fs: float
    seconds: float


def cutoffs(panels: Sequence[Sweeps], path: Path) -> None:
    """Draw a row for each device: its cutoff, and how far each way to learn it is from the truth.

    Where no truth is known, `fit_phaser` is what the others are compared with.

    Args:
        panels: what is drawn.
        path: file to write, .svg or .png.

    Raises:
        ValueError: there is nothing to draw.
        AudioError: the file cannot be written.
    """
    if not panels:
        raise ValueError("panels is empty; give the sweeps of at least one device")
    with pictures.drawing(path, 9.6, 0.6 + 1.8 * len(panels), dpi=160) as figure:
        axes = figure.subplots(len(panels), 2, squeeze=False)
        for (left, right), panel in zip(axes, panels, strict=True):
            _draw(left, panel)
            _draw_distance(right, panel)
        for ax in axes[-1]:
            ax.set_xlabel("time (s)")
        names = [name for name in LOOKS if any(name in panel.cutoffs for panel in panels)]
        handles = [Line2D([], [], **LOOKS[name], label=name) for name in names]
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)


def _draw(ax: Any, panel: Sweeps) -> None:
    n = round(panel.seconds * panel.fs)
    low, high = np.inf, 0.0
    for name in LOOKS:
        if name not in panel.cutoffs:
            continue
        values = panel.cutoffs[name][:n]
        at = np.unique(np.linspace(0, len(values) - 1, POINTS).astype(int))
        ax.plot(at / panel.fs, values[at], **LOOKS[name], zorder=1 if name == "truth" else 2)
        low, high = min(low, float(values.min())), max(high, float(values.max()))
    ax.set_yscale("log")
    ax.set_xlim(0, n / panel.fs)
    ax.set_ylim(low / 1.15, high * 1.15)
    ticks = {hz: label for hz, label in TICKS_HZ.items() if low / 1.15 <= hz <= high * 1.15}
    ax.set_yticks(list(ticks), list(ticks.values()))
    ax.minorticks_off()
    ax.grid(color=GRID, lw=0.6)
    ax.set_ylabel("cutoff (Hz)")
    ax.set_title(panel.title)


def _draw_distance(ax: Any, panel: Sweeps) -> None:
    beside = next((name for name in ("truth", "fit_phaser") if name in panel.cutoffs), None)
    n = round(panel.seconds * panel.fs)
    ax.set_xlim(0, n / panel.fs)
    if beside is None:
        ax.set_axis_off()
        return
    for name in LOOKS:
        if name not in panel.cutoffs or name == beside:
            continue
        cents = 1200 * np.log2(panel.cutoffs[name][:n] / panel.cutoffs[beside][:n])
        parts = np.array_split(cents, PARTS)
        middles = (np.arange(len(parts)) + 0.5) * n / PARTS / panel.fs
        ax.plot(
            middles, [max(float(np.sqrt(np.mean(part**2))), FLOOR_CENTS) for part in parts], **LOOKS[name]
        )
    ax.set_yscale("log")
    ax.set_ylim(FLOOR_CENTS, 2000)
    ax.set_yticks(list(TICKS_CENTS), [f"{cents:g}" for cents in TICKS_CENTS])
    ax.minorticks_off()
    ax.grid(color=GRID, lw=0.6)
    ax.set_ylabel("RMS, cents")
    ax.set_title(f"distance from {'the truth' if beside == 'truth' else beside}")
