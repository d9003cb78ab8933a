"""Draw responses of the equaliser's proxies, gains of the compressor's; needs the extra `plot`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from experiments.common import pictures
from experiments.common.runner import Row
from experiments.proxies import config

# Okabe and Ito's colours, which colour-blind readers can tell apart; dashes tell them apart in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73")
DASHES: tuple[Any, ...] = ((0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
TRUTH, GRID = "#9aa0a8", "#e2e2e2"


def draw(results: Row, folder: Path) -> None:
    """Draw all that there are results for, into a folder."""
    if "responses" in results:
        with pictures.drawing(folder / "responses.svg", 8, 1.9 * config.SHOWN) as figure:
            _responses(figure, results["responses"])
    if "compressions" in results:
        with pictures.drawing(folder / "gains.svg", 8, 2.1 * len(config.COMPRESSIONS)) as figure:
            _compressions(figure, results["compressions"])


def _proxies(shown: Row) -> list[str]:
    return [name for name in shown if "-" in name]


def _responses(figure: Any, shown: Row) -> None:
    axes = figure.subplots(len(shown["truth"]), 1, sharex=True, squeeze=False)
    for place, axis in enumerate(axes[:, 0]):
        axis.semilogx(shown["freqs_hz"], shown["truth"][place], color=TRUTH, linewidth=3.5, label="equaliser")
        for number, name in enumerate(_proxies(shown)):
            axis.semilogx(shown["freqs_hz"], shown[name][place], **_line(number), label=name)
        axis.set_ylabel("gain, dB")
        axis.grid(color=GRID, linewidth=0.6)
    axes[0, 0].set_title("Response to white noise, controls drawn at random")
    axes[0, 0].legend(loc="best", frameon=False, fontsize=8)
    axes[-1, 0].set_xlabel("Hz")


def _compressions(figure: Any, shown: Row) -> None:
    axes = figure.subplots(len(config.COMPRESSIONS), 2, squeeze=False)
    for place, (still, moving) in enumerate(axes):
        for number, name in enumerate(["truth", *_proxies(shown)]):
            line = {"color": TRUTH, "linewidth": 3.5} if name == "truth" else _line(number - 1)
            label = "compressor" if name == "truth" else name
            gain = shown[name]["gain"][place]
            still.plot(shown["levels_db"], shown[name]["static"][place], **line, label=label)
            moving.plot(np.arange(len(gain)) * shown["every_s"], gain, **line)
        threshold, ratio, attack, release, knee, makeup = config.COMPRESSIONS[place]
        still.set_title(f"{threshold:g} dB, ratio {ratio:g}, knee {knee:g} dB, make-up {makeup:g} dB")
        moving.set_title(f"attack {attack:g} ms, release {release:g} ms")
        still.set_ylabel("level out, dB")
        moving.set_ylabel("gain, dB")
        for axis in (still, moving):
            axis.grid(color=GRID, linewidth=0.6)
    axes[0, 0].legend(loc="best", frameon=False, fontsize=8)
    axes[-1, 0].set_xlabel("level in, dB")
    axes[-1, 1].set_xlabel("seconds")


def _line(number: int) -> dict[str, Any]:
    return {"color": COLOURS[number], "linestyle": DASHES[number], "linewidth": 1.4}
