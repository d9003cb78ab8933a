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
            kind = path.suffix.removeprefix(".")
            with audio.atomic_path(path) as temporary:
                metadata: Any = {"Date": None} if kind == "svg" else None
                figure.savefig(temporary, format=kind, dpi=dpi, metadata=metadata)
        finally:
            plt.close(figure)
