"""The command line of an experiment: `python -m experiments.NAME [subcommand] [options]`.

Exit codes: 0; 2 with one sentence for what the user can mend; 130 after Ctrl-C; 143 after SIGTERM.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxapf.training import fit

Row = dict[str, Any]
Work = Callable[[argparse.Namespace], int | None]

ROOT = Path(__file__).resolve().parents[1]
HANDLED = (OSError, ValueError, ModuleNotFoundError, fit.TrainingError)


# Arguments


def make_parser(name: str, description: str) -> argparse.ArgumentParser:
    """Return the parser of an experiment.

    Example:
        >>> make_parser("alignment", "Measure.").prog
        'python -m experiments.alignment'
    """
    return argparse.ArgumentParser(prog=f"python -m experiments.{name}", description=description)


def add_folder(parser: argparse.ArgumentParser, name: str) -> None:
    """Add `--folder`, where results go; `run` checks before the work that it can be written."""
    default = ROOT / name / "results"
    parser.add_argument("--folder", type=Path, default=default, help="for results; default: %(default)s")


def add_update(parser: argparse.ArgumentParser, name: str) -> None:
    """Add `--update`, the folder whose README.md and tables.md take the tables (`tables.put`)."""
    parser.add_argument(
        "--update",
        type=Path,
        nargs="?",
        const=ROOT / name,
        metavar="FOLDER",
        help="put tables between the markers of README.md and tables.md; default: %(const)s",
    )


def add_command(
    commands: Any, command: str, work: Work, description: str, *parents: argparse.ArgumentParser
) -> argparse.ArgumentParser:
    """Add a subcommand that `run` hands to `work`; `commands` comes from `add_subparsers(required=True)`."""
    parser = commands.add_parser(command, help=description, description=description, parents=parents)
    parser.set_defaults(work=work)
    return parser


def whole(lowest: int = 1, highest: float = math.inf) -> Callable[[str], int]:
    """Return an argparse type: a whole number within a range."""

    def number(text: str) -> int:
        if not text.isdecimal() or not lowest <= int(text) <= highest:
            limit = f"from {lowest} to {highest:g}" if highest < math.inf else f"of {lowest} or more"
            raise argparse.ArgumentTypeError(f"'{text}' is no whole number {limit}")
        return int(text)

    return number


def positive(highest: float = math.inf) -> Callable[[str], float]:
    """Return an argparse type: a finite number above 0, at most `highest`."""

    def number(text: str) -> float:
        with contextlib.suppress(ValueError):
            if 0 < float(text) <= highest and math.isfinite(float(text)):
                return float(text)
        limit = f", at most {highest:g}" if highest < math.inf else ""
        raise argparse.ArgumentTypeError(f"'{text}' is no number above 0{limit}")

    return number


def listed(allowed: Sequence[str] | None = None) -> Callable[[str], tuple[str, ...]]:
    """Return an argparse type: words with commas between them, of `allowed` where given."""

    def words(text: str) -> tuple[str, ...]:
        for word in text.split(","):
            if allowed is not None and word not in allowed:
                raise argparse.ArgumentTypeError(f"'{word}' is none of {', '.join(allowed)}")
        return tuple(text.split(","))

    return words


def whole_list(text: str) -> tuple[int, ...]:
    """Read whole numbers with commas between them, an argparse type."""
    if not all(word.isdecimal() for word in text.split(",")):
        raise argparse.ArgumentTypeError(f"'{text}' is no list of whole numbers such as 0,1,2")
    return tuple(int(word) for word in text.split(","))


# The program


def run(
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None,
    work: Work | None = None,
    *,
    advice: str = "what is done is kept",
) -> int:
    """Parse, check the result folder, work; return the exit code.

    Args:
        parser: of `make_parser`.
        argv: arguments; None for those of the process. Wrong ones raise SystemExit(2).
        work: what to do, None or an exit code; None where subcommands bring their own.
        advice: what the user reads after an interruption.
    """
    args = parser.parse_args(argv)
    code, text = 0, None
    try:
        with terminated_by_signal():
            if getattr(args, "folder", None) is not None:
                check_folder(args.folder)
            code = (work or args.work)(args) or 0
    except KeyboardInterrupt:
        code, text = 130, f"interrupted; {advice}"
    except Terminated:
        code, text = 143, f"terminated; {advice}"
    except HANDLED as error:
        code, text = 2, f"error: {reason_of(error)}"
    show_progress("")
    if text is not None:
        print(f"{parser.prog}: {text}", file=sys.stderr)
    return code


class Terminated(BaseException):
    """SIGTERM came."""


@contextlib.contextmanager
def terminated_by_signal() -> Iterator[None]:
    """Raise Terminated on SIGTERM, so that open files are closed and temporary ones go."""

    def stop(*_: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def reason_of(error: BaseException) -> str:
    """Return what went wrong, in the words of the operating system where it is its error."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'results'}: {error.strerror.lower()}"
    if isinstance(error, ModuleNotFoundError) and error.name == "matplotlib":
        return "pictures need the package matplotlib: pip install 'jaxapf[plot]'"
    return str(error)


def check_folder(folder: Path) -> None:
    """Check before the long work that results can be written.

    Raises:
        ValueError: nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ValueError(f"--folder '{folder}' cannot be written: {reason}; choose another folder") from error


def read_figures(path: Path) -> Row:
    """Read the figures that a training has left.

    Raises:
        ValueError: the file is none of ours.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"'{path}' is no file of figures: remove it, to train again") from error


def check_steps(path: Path, steps: int) -> None:
    """Refuse to go on among trainings of another length.

    Raises:
        ValueError: the training that left this file had another number of steps.
    """
    trained = read_figures(path)["steps"]
    if trained != steps:
        raise ValueError(f"'{path}' has {trained} steps, not {steps}; choose another --folder")


def show_progress(text: str) -> None:
    """Show one line on a terminal, nothing in a pipe."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
