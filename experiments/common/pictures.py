"""How the pictures of the experiments look (needs the extra `plot`)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib

from jaxapf import audio

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

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
