"""Pictures in notebooks: the figures of the report, and drawings by matplotlib."""

import base64
import io
import tempfile
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from jaxapf.notebooks import tables
from jaxapf.notebooks.recordings import Mistake
from jaxapf.report import figures, plot_losses
from jaxapf.report.rendering import render

__all__ = ["picture", "show_losses", "show_mix", "show_phase"]


def show_phase(dry: Any, wet: Any, aligned: Any, found: Any) -> None:
    """Show phase and group delay of an Alignment `found`; signals (..., n_samples), `aligned` its output."""
    compared = _compared(dry, wet, aligned, found.fs)
    tables.display(render("notebook.html", figures=figures.phase_figures(compared, found.sections, found.fs)))


def show_mix(dry: Any, wet: Any, aligned: Any, fs: float) -> None:
    """Show the level of dry and wet (..., n_samples) mixed half and half, before and after aligning."""
    mix = figures.mix_figure(_compared(dry, wet, aligned, fs))
    tables.display(render("notebook.html", figures=[mix]))


def show_losses(runs: Mapping[str, Sequence[Mapping[str, Any]]], title: str = "Loss") -> None:
    """Show the losses of training runs over the step: records of `training.fit` by label."""
    with tempfile.TemporaryDirectory() as folder:
        plot_losses(runs, f"{folder}/loss.svg", title=title)
        _show_image(Path(folder, "loss.svg").read_bytes(), "svg+xml", title, 952)


def picture(draw: Callable[[Any], None], caption: str, *, size: tuple[float, float] = (9.0, 3.6)) -> None:
    """Show what `draw` draws into a matplotlib `Figure` of `size` in inches; Mistake without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise Mistake("pictures need matplotlib; install it with: pip install 'jaxapf[plot]'") from None
    figure, file = Figure(figsize=size, layout="constrained"), io.BytesIO()
    draw(figure)
    figure.savefig(file, format="png", dpi=130)
    _show_image(file.getvalue(), "png", caption, round(100 * size[0]))


def _show_image(data: bytes, kind: str, caption: str, width: int) -> None:
    # A white ground, in dark settings as well: the drawing's own colours are made for it.
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
    style = f"max-width:100%;width:{width}px;background:#fff"
    image = f'<img alt="{escape(caption)}" style="{style}" src="{source}">'
    tables.display(f'<figure style="margin:0">{image}<figcaption>{escape(caption)}</figcaption></figure>')


def _compared(dry: Any, wet: Any, aligned: Any, fs: float) -> figures.Comparison:
    return figures.compare(np.atleast_2d(dry), np.atleast_2d(wet), np.atleast_2d(aligned), fs)
