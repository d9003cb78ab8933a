"""Draw gains over time; needs the extra `plot`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.common import pictures

# Okabe and Ito's colours, which colour-blind readers can tell apart; dashes tell them apart in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73")
DASHES: tuple[Any, ...] = ((0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
TRUTH, GRID = "#9aa0a8", "#e2e2e2"
EVERY = 48  # samples: what can be seen


class Gains(NamedTuple):
    """A panel: the true gain over time and fitted ones, in dB, all (n_samples,)."""

    title: str
    fs: float
    truth: np.ndarray
    fitted: dict[str, np.ndarray]


def gains(panels: Sequence[Gains], between_s: tuple[float, float], path: Path) -> None:
    """Draw gains between two moments, a panel above the other; the file appears whole or not at all."""
    with pictures.drawing(path, 8, 2.1 * len(panels)) as figure:
        axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)
        for axis, panel in zip(axes[:, 0], panels, strict=True):
            part = slice(round(between_s[0] * panel.fs), round(between_s[1] * panel.fs), EVERY)
            seconds = np.arange(len(panel.truth))[part] / panel.fs
            axis.plot(seconds, panel.truth[part], color=TRUTH, linewidth=3.5, label="device")
            for number, (name, values) in enumerate(panel.fitted.items()):
                axis.plot(
                    seconds,
                    values[part],
                    color=COLOURS[number],
                    linestyle=DASHES[number],
                    linewidth=1.4,
                    label=name,
                )
            axis.set_title(panel.title)
            axis.set_ylabel("gain, dB")
            axis.grid(color=GRID, linewidth=0.6)
            axis.legend(loc="lower right", bbox_to_anchor=(1, 0.97), frameon=False, ncols=3, fontsize=8)
        axes[-1, 0].set_xlabel("seconds")
        axes[-1, 0].set_xlim(*between_s)
