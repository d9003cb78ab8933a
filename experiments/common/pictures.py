"""How the pictures of the experiments look (needs the extra `plot`)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import matplotlib

from jaxapf import audio

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

# Okabe and Ito's colours, which colour-blind readers can tell apart; the dashes tell them apart in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)), (0, (9, 2)), "-")
INK, GRID = "#333333", "#e2e2e2"
STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "savefig.facecolor": "white",
    "svg.hashsalt": "jaxapf",  # equal pictures give equal files
}


def save(figure: Figure, path: Path, *, dpi: int = 110) -> None:
    """Write a figure as PNG or SVG, whole or not at all, and close it."""
    kind = path.suffix.removeprefix(".")
    if kind not in ("svg", "png"):
        plt.close(figure)
        raise ValueError(f"path is '{path}'; give a name that ends in .svg or .png")
    metadata: Any = {"Date": None} if kind == "svg" else None
    try:
        with audio.atomic_path(path) as temporary:
            figure.savefig(temporary, format=kind, dpi=dpi, metadata=metadata)
    finally:
        plt.close(figure)


@contextlib.contextmanager
def drawing(
    path: Path,
    width: float,
    height: float,
    *,
    dpi: int = 110,
    layout: Any = "constrained",
    **settings: Any,
) -> Iterator[Figure]:
    """Give an empty figure in our style; write it as PNG or SVG, whole or not at all, and close it.

    Args:
        path: the file, whose suffix is its format.
        width: in inches.
        height: in inches.
        dpi: of a PNG.
        layout: matplotlib's layout engine.
        **settings: of matplotlib, beyond STYLE.
    """
    with plt.rc_context(STYLE | settings):
        figure = plt.figure(figsize=(width, height), layout=layout)
        try:
            yield figure
        except BaseException:
            plt.close(figure)
            raise
        save(figure, path, dpi=dpi)


def line(number: int) -> dict[str, Any]:
    """Return colour and dashes of a curve by its number."""
    return {"color": COLOURS[number % len(COLOURS)], "ls": DASHES[number % len(DASHES)], "lw": 1.5}


def words(name: str) -> str:
    """Return a name with spaces for underscores."""
    return name.replace("_", " ")


def legend(owner: Any, looks: Mapping[str, Mapping[str, Any]], place: str) -> None:
    """Add a legend of lines by their names to a figure or axes; in one row where it is centred."""
    handles = [Line2D([], [], **look, label=words(name)) for name, look in looks.items()]
    columns = min(len(handles), 6) if "center" in place else 1
    frame = {"facecolor": "white", "edgecolor": "none", "framealpha": 0.85}
    owner.legend(handles=handles, loc=place, ncols=columns, **frame)
