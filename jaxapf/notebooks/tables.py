"""Tables, links to files and progress in notebooks."""

import contextlib
import io
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from jaxapf.notebooks.recordings import Mistake, colab_files

__all__ = ["display", "offer", "page", "phase_row", "progress", "result", "table"]

REDRAWN_S = 0.2  # shortest time between two updates of a progress line
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


def display(code: str, handle: Any = None, **options: Any) -> Any:
    """Show HTML, in place of what `handle` shows if it is given; return IPython's handle of `display_id`."""
    from IPython.display import HTML, display  # pyright: ignore[reportMissingImports]

    return display(HTML(code), **options) if handle is None else handle.update(HTML(code))


def table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Show rows as a table: texts or numbers by the name of their column."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    cells = ("".join(f"<td>{_cell(row.get(name, ''))}</td>" for name in names) for row in rows)
    body = "".join(f"<tr>{row}</tr>" for row in cells)
    display(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else escape(str(value))


def phase_row(residual_rad: np.ndarray) -> dict[str, str]:
    """Return the figures of a residual phase for a table; NaN in bands without a phase.

    Example:
        >>> phase_row(np.array([0.5 * np.pi, 0.0, 0.25 * np.pi, np.nan]))
        {'median residual phase': '45.0°', 'bands with a phase': '75 %'}
    """
    known = np.abs(residual_rad[np.isfinite(residual_rad)])
    median = f"{np.degrees(np.median(known)):.1f}°" if known.size else "–"
    share = f"{100 * known.size / residual_rad.size:.0f} %"
    return {"median residual phase": median, "bands with a phase": share}


def result(name: str) -> Path:
    """Return the path of a file in the folder `results`, which is made beside the notebook."""
    folder = Path("results")
    folder.mkdir(exist_ok=True)
    return folder / name


def offer(*paths: Path, download: bool = False) -> None:
    """Show links to files; on Colab download them if wanted."""
    for path in paths:
        if not path.is_file():
            raise Mistake(f"'{path}' does not exist; run the cells above first.")
    links = (f'<li><a href="{escape(path.as_posix())}">{escape(str(path))}</a></li>' for path in paths)
    display(f"<p>Written:</p><ul>{''.join(links)}</ul>")
    if download and (files := colab_files()):
        for path in paths:
            files.download(str(path))


def page(path: Path, *, height: int = 700) -> None:
    """Show an HTML page, such as `jaxapf.report` writes, inside the notebook."""
    code, style = escape(path.read_text(encoding="utf-8")), f"width:100%;height:{height}px"
    display(f'<iframe sandbox="allow-scripts" style="{style}" title="{path.name}" srcdoc="{code}"></iframe>')


class _Line(io.TextIOBase):
    """A terminal of one line, shown in place; text without control sequences goes on to `stream`."""

    def __init__(self, label: str, stream: Any) -> None:
        self.label, self.stream, self.drawn = label, stream, 0.0
        self.handle = display(f"<code>{escape(label)} …</code>", display_id=True)

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        # rich writes other lines above its own, the last one, in one piece with it
        *others, status = [line for line in _CONTROL.sub("", text).split("\n") if line.strip()] or [""]
        if not _CONTROL.search(text):
            self.stream.write(text)
            return len(text)
        self.stream.writelines(f"{line}\n" for line in others)
        if status and time.monotonic() - self.drawn >= REDRAWN_S:
            self.drawn = time.monotonic()
            self.show(status)
        return len(text)

    def show(self, text: str) -> None:
        display(f"<code>{escape(self.label)}: {escape(text)}</code>", self.handle)


@contextlib.contextmanager
def progress(label: str) -> Iterator[None]:
    """Show a terminal's status line in one line of the notebook, and the time it took.

    For `jaxapf.align(progress=True)` and `training.logging.progress`; warnings still reach standard error.
    """
    line, outcome, started = _Line(label, sys.stderr), "stopped after", time.monotonic()
    try:
        with contextlib.redirect_stderr(line):  # pyright: ignore[reportArgumentType]
            yield
        outcome = "done in"
    finally:
        line.show(f"{outcome} {time.monotonic() - started:.0f} s")
