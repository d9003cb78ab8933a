"""Progress on one line of a terminal, drawn by rich; nothing in a pipe or a file."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO, cast


@contextlib.contextmanager
def progress(
    total: float | None,
    description: str = "",
    *,
    start: int = 0,
    transient: bool = False,
    stream: TextIO | None = None,
) -> Iterator[Callable[..., None]]:
    """Show a task with its bar, percentage, figures and time left while the context is open.

    Yields ``update(completed=None, text=None, description=None, total=...)``, each optional; `text` is shown
    after the description. The time left is known from the second update on: compiling does not count.

    Args:
        total: `completed` at the end; None where it is not known yet (a bar that moves to and fro).
        description: what is going on.
        start: `completed` at the beginning, for what goes on from there.
        transient: clear the line at the end; otherwise it stays if anything was shown.
        stream: standard error if None; nothing is written where it is no terminal.
    """
    stream = sys.stderr if stream is None else stream
    if stream is None or not stream.isatty():
        yield lambda *_, **__: None
        return
    from rich import progress as bars
    from rich.console import Console
    from rich.table import Column

    console = Console(file=cast(TextIO, _Lenient(stream)), width=_columns(stream))
    text = Column(no_wrap=True, overflow="crop", ratio=1)  # cropped where the terminal is narrow
    columns: list[bars.ProgressColumn] = [
        bars.TextColumn("{task.description}  {task.fields[text]}", markup=False, table_column=text),
        bars.BarColumn(20),
        bars.TaskProgressColumn(),
        bars.TimeRemainingColumn(compact=True),
    ]
    bar = bars.Progress(
        *(columns if console.width >= 80 else [columns[0], columns[-1]]),
        console=console,
        expand=True,
        transient=transient,
        redirect_stdout=False,  # a pipe perhaps, while stderr is the terminal
        speed_estimate_period=3600,
    )
    with bar:
        task = bar.add_task(description, total=total, completed=start, text="")
        shown = False

        def update(
            completed: float | None = None,
            text: str | None = None,
            description: str | None = None,
            **options: Any,
        ) -> None:
            nonlocal shown
            shown = True
            fields = options if text is None else {**options, "text": text}
            bar.update(task, completed=completed, description=description, refresh=True, **fields)

        try:
            yield update
        finally:
            bar.live.transient = transient or not shown


class _Lenient:
    """A stream whose writing never fails: a terminal that was closed does not end the work."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            return self._stream.write(text)
        return 0

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def _columns(stream: TextIO) -> int | None:
    """Return the width of the terminal; None for rich's own measure, which follows standard error."""
    if stream is sys.stderr:
        return None
    with contextlib.suppress(OSError, ValueError):
        return os.get_terminal_size(stream.fileno()).columns or None
    return None
