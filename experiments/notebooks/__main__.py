"""Execute the notebooks as a reader would with "Run all", and print how long each takes.

Commands:
    python -m experiments.notebooks                        all, at the small setting
    python -m experiments.notebooks biasnet --setting full
    python -m experiments.notebooks --save DIR             keeps what was executed, as .ipynb and .html

Each runs in this interpreter, whatever kernels are installed, and in a folder of its own. A notebook fails
where a cell does, where Python warns, or where it takes longer than three minutes; then the exit code is 1.
It is 2 after a mistake in the command, and 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).resolve().parent
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.ipynb")))
LIMIT_S = 180.0
CELL_S = 900  # no cell takes as long, at any setting
SETTING = re.compile(r'^setting = "small"', re.MULTILINE)
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
WARNING = re.compile(r"^.*\b\w*Warning: .*$", re.MULTILINE)


class Outcome(NamedTuple):
    """The outcome of a notebook: ``seconds`` it took, and the error, empty where there is none."""

    seconds: float
    wrong: str


class _Loop(asyncio.SelectorEventLoop):
    """Keeps Ctrl-C for `asyncio.Runner`, which ends the run; nbclient's own handler only kills the kernel."""

    def add_signal_handler(self, sig: int, callback: Callable[..., Any], *args: Any) -> None:
        raise RuntimeError(f"signal {sig} is handled by asyncio.Runner")


def with_setting(notebook: Any, setting: str) -> None:
    """Choose a setting as a reader would in the form."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source = SETTING.sub(f'setting = "{setting}"', cell.source)


def execute(
    notebook: Any, folder: Path, *, timeout: int = CELL_S, show: Callable[[str], None] = print
) -> str:
    """Run all cells of a notebook, outputs and all, in a new process of this interpreter.

    Returns:
        The cell and its error, or the warnings of Python; empty where nothing is.
    """
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    class Own(AsyncKernelManager):
        """Starts this interpreter; what "python3" stands for elsewhere does not matter."""

        @property
        def kernel_spec(self) -> KernelSpec:
            return KernelSpec(
                argv=[
                    sys.executable,
                    "-m",
                    "ipykernel_launcher",
                    "--log-level=ERROR",
                    "-f",
                    "{connection_file}",
                ]
            )

    last = [0]

    def starts(cell: Any, cell_index: int) -> None:
        last[0] = cell_index
        show(f"cell {cell_index + 1} of {len(notebook.cells)}: {title(cell)}")

    client = NotebookClient(
        notebook,
        kernel_manager_class=Own,
        timeout=timeout,
        resources={"metadata": {"path": str(folder)}},
        on_cell_start=starts,
        shutdown_kernel="immediate",  # a polite request prints much when interrupted
    )
    try:
        with asyncio.Runner(loop_factory=_Loop) as runner:
            runner.run(_executed(client))
    except CellExecutionError as error:
        return f"{place(notebook, last[0])}: {error.ename}: {error.evalue}\n{output_end(notebook, last[0])}"
    except CellTimeoutError:
        return f"{place(notebook, last[0])} takes longer than {timeout} s"
    except DeadKernelError:
        return f"{place(notebook, last[0])}: Python died, out of memory perhaps"
    return "\n".join(warnings_of(notebook))


async def _executed(client: Any) -> None:
    """Execute; a cancellation within nbclient is Ctrl-C again, and leaves no kernel behind."""
    try:
        await client.async_execute(env=dict(os.environ, PYTHONWARNINGS="default"))
    except BaseException as error:
        task = asyncio.current_task()
        if task is None or not task.cancelling():
            raise
        if client.km is not None and client.km.has_kernel:
            await client.km.shutdown_kernel(now=True)
        raise asyncio.CancelledError from error


def title(cell: Any) -> str:
    """The first line of a cell, without the form's marks."""
    return (cell.source.splitlines() or [""])[0].removeprefix("# @title").strip(" #")


def place(notebook: Any, index: int) -> str:
    """A cell, for people: its number, from 1, and its title."""
    return f"cell {index + 1} ({title(notebook.cells[index])})"


def output_end(notebook: Any, index: int) -> str:
    """The end of a cell's output about its error."""
    texts = [
        "\n".join(output.traceback) if output.output_type == "error" else output.get("text", "")
        for output in notebook.cells[index].get("outputs", [])
    ]
    return COLOURS.sub("", "\n".join(texts))[-3000:]


def warnings_of(notebook: Any) -> list[str]:
    """The warnings of Python, cell by cell."""
    return [
        f"{place(notebook, index)} warns: {line}"
        for index, cell in enumerate(notebook.cells)
        for output in cell.get("outputs", [])
        if output.output_type == "stream" and output.name == "stderr"
        for line in WARNING.findall(output.text)
    ]


def keep(notebook: Any, name: str, folder: Path) -> None:
    """Write an executed notebook, and a page of it that needs no Jupyter."""
    import nbformat
    from nbconvert import HTMLExporter

    nbformat.write(notebook, folder / f"{name}.ipynb")
    page, _ = HTMLExporter(embed_images=True).from_notebook_node(notebook)
    (folder / f"{name}.html").write_text(page, encoding="utf-8")


def run(name: str, options: argparse.Namespace) -> Outcome:
    """Execute one notebook as the options say."""
    import nbformat

    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    with_setting(notebook, options.setting)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        wrong = execute(
            notebook, Path(folder), timeout=options.timeout, show=lambda text: status(f"{name}: {text}")
        )
    seconds = time.perf_counter() - started
    if options.save is not None:
        keep(notebook, name, options.save)
    if not wrong and seconds > options.limit:
        wrong = f"takes longer than {options.limit:.0f} s"
    return Outcome(seconds, wrong)


def status(text: str) -> None:
    """Show a status line on a terminal; nothing in a pipe or file."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text[:100]}", end="", file=sys.stderr, flush=True)


def positive(text: str) -> int:
    """A whole number of seconds, 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number of seconds, 1 or more")
    return int(text)


def writable(text: str) -> Path:
    """A folder that can be written to, made where it is not there: known before anything takes minutes."""
    folder = Path(text)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        reason = (error.strerror or "no reason given").lower()
        raise argparse.ArgumentTypeError(f"'{text}' cannot be written to: {reason}") from None


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all unless given")
    parser.add_argument("--setting", choices=("small", "full"), default="small")
    parser.add_argument("--save", type=writable, metavar="DIR", help="keep executed copies and pages here")
    parser.add_argument("--timeout", type=positive, default=CELL_S, help="seconds for a cell (%(default)s)")
    parser.add_argument("--no-limit", dest="limit", action="store_const", const=float("inf"), default=LIMIT_S)
    options = parser.parse_args(arguments)
    options.names = [Path(name).stem for name in options.names] or list(NAMES)
    unknown = [name for name in options.names if name not in NAMES]
    if unknown:
        parser.error(f"'{unknown[0]}' is no notebook; choose of {', '.join(NAMES)}")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run the notebooks; return the exit code."""
    try:
        return run_all(parse(arguments))
    except KeyboardInterrupt:
        status("")
        print("notebooks: interrupted", file=sys.stderr)
        return 130


def run_all(options: argparse.Namespace) -> int:
    """Run one after the other and print each outcome; 1 where one failed, 2 where none can run, else 0."""
    try:
        import nbclient  # noqa: F401
        import nbconvert  # noqa: F401
    except ImportError as error:
        print(f"{error}; install it with: pip install 'jaxapf[notebooks]'", file=sys.stderr)
        return 2
    failed = 0
    for name in options.names:
        found = run(name, options)
        status("")
        print(f"{name}: {found.seconds:.0f} s, {'FAILED' if found.wrong else 'ran'}", flush=True)
        if found.wrong:
            print(found.wrong, file=sys.stderr)
            failed += 1
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
