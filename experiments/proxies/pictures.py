"""Pictures: responses of the equaliser's proxies, gains of the compressor's. Needs matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.runner import PICTURES, Row
from experiments.proxies import config
from jaxapf._internal.files import atomic_path

# Okabe and Ito's colours, which colour-blind readers can tell apart; dashes tell them apart in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73")
DASHES: tuple[Any, ...] = ((0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
TRUTH, GRID = "#9aa0a8", "#e2e2e2"


def draw(results: Row, folder: Path) -> None:
    """Draw all that there is something for, into `folder`.

    Raises:
        ValueError: matplotlib is not installed.
    """
    try:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ValueError("pictures need matplotlib: pip install 'jaxapf[plot]'") from error
    with plt.rc_context(PICTURES):
        if "responses" in results:
            _save(_responses(plt, results["responses"]), folder / "responses.svg")
        if "compressions" in results:
            _save(_compressions(plt, results["compressions"]), folder / "gains.svg")
        plt.close("all")


def _save(figure: Any, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None})


def _proxies(shown: Row) -> list[str]:
    return [name for name in shown if "-" in name]


def _responses(plt: Any, shown: Row) -> Any:
    count = len(shown["truth"])
    figure, axes = plt.subplots(
        count, 1, figsize=(8, 1.9 * count), sharex=True, squeeze=False, layout="constrained"
    )
    for place, axis in enumerate(axes[:, 0]):
        axis.semilogx(shown["freqs_hz"], shown["truth"][place], color=TRUTH, linewidth=3.5, label="equaliser")
        for number, name in enumerate(_proxies(shown)):
            axis.semilogx(shown["freqs_hz"], shown[name][place], **_line(number), label=name)
        axis.set_ylabel("gain, dB")
        axis.grid(color=GRID, linewidth=0.6)
    axes[0, 0].set_title("Response to white noise, controls drawn at random")
    axes[0, 0].legend(loc="best", frameon=False, fontsize=8)
    axes[-1, 0].set_xlabel("Hz")
    return figure


def _compressions(plt: Any, shown: Row) -> Any:
    count = len(config.COMPRESSIONS)
    figure, axes = plt.subplots(count, 2, figsize=(8, 2.1 * count), squeeze=False, layout="constrained")
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
    return figure


def _line(number: int) -> dict[str, Any]:
    return {"color": COLOURS[number], "linestyle": DASHES[number], "linewidth": 1.4}
