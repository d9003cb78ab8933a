"""The command `jaxapf`: one module for each command, with its options and what it does.

Arguments and files are checked before JAX is imported, so that mistakes are answered at once. What
a user can mend is one sentence on stderr and exit code 2; a bug is one sentence and exit code 1, with
a traceback only if JAXAPF_DEBUG is set. Outputs appear complete, or not at all.
"""

import contextlib
import dataclasses
import io
import os
import shlex
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from jaxapf._internal.files import AudioError
from jaxapf._internal.text import printable
from jaxapf._internal.version import __version__
from jaxapf.cli import align, apply, demo, effect, export, fit, info, style
from jaxapf.cli.arguments import Parser, UsageError

__all__ = ["Command", "main", "parse", "parser"]


class Command(NamedTuple):
    """A command with its options, to be called as ``run(options)``."""

    run: Callable[[Any], None]
    options: Any


def parser() -> Parser:
    """Make the parser of the whole command line."""
    whole = Parser(
        prog="jaxapf",
        description="""Bring two recordings of the same performance into phase with all-pass filters, learn
a phaser or a compressor from them, or give one the sound of another.""",
        epilog="""examples:
  jaxapf demo
  jaxapf align dry.wav wet.wav -o aligned.wav --report report.html
  jaxapf align di.wav amp.wav -o di_aligned.wav --model amp.json
  jaxapf apply amp.json next_take.wav -o next_take_aligned.wav
  jaxapf phaser fit dry.wav wet.wav -o phaser.json
  jaxapf compressor fit dry.wav wet.wav -o compressor.json
  jaxapf style take.wav reference.wav -o styled.wav --report style.html""",
    )
    whole.add_argument("--version", action="version", version=f"jaxapf {__version__}")
    commands = whole.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in (align, fit, style, effect, apply, export, demo, info):
        module.add_parser(commands)
    return whole


def parse(argv: Sequence[str]) -> Command:
    """Parse the arguments after the program's name; UsageError where they are wrong.

    Example:
        >>> parse(["align", "dry.wav", "wet.wav", "-o", "aligned.wav", "--order", "4"]).options.order
        4
    """
    given: dict[str, Any] = vars(parser().parse_args(argv)) | {
        "command_line": printable(shlex.join(["jaxapf", *argv]))
    }
    names = {field.name for field in dataclasses.fields(given["options"])}
    return Command(given["run"], given["options"](**{name: given[name] for name in names & given.keys()}))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; see `jaxapf.__main__.main`."""
    try:
        with _signals_raise(), warnings.catch_warnings():
            if not os.environ.get("JAXAPF_DEBUG"):
                warnings.simplefilter("ignore")
            for stream in (sys.stdout, sys.stderr):  # file names may hold bytes that are no text
                if isinstance(stream, io.TextIOWrapper):
                    stream.reconfigure(errors="backslashreplace")
            command = parse(sys.argv[1:] if argv is None else argv)
            command.run(command.options)
            if sys.stdout is not None:
                sys.stdout.flush()
    except SystemExit as stop:
        return int(stop.code or 0)
    except (AudioError, UsageError) as error:
        return _failed(str(error), 2)
    except KeyboardInterrupt:
        return _failed("interrupted; no unfinished file is left behind", 130)
    except _Terminated as stop:
        return _failed("terminated; no unfinished file is left behind", 128 + stop.args[0])
    except BrokenPipeError:
        # The reader of our output has seen enough, as in `jaxapf info | head -1`.
        _discard_stdout()
    except MemoryError:
        return _failed("not enough memory; close other programs or give a shorter excerpt", 2)
    except OSError as error:
        _discard_stdout()
        return _failed(f"{error.filename or 'output'}: {(error.strerror or str(error)).lower()}", 2)
    except Exception as error:
        if os.environ.get("JAXAPF_DEBUG"):
            traceback.print_exc()
        detail = " ".join(str(error).split())[:300]
        return _failed(f"unexpected {type(error).__name__}: {detail} (JAXAPF_DEBUG=1 shows where)", 1)
    return 0


class _Terminated(BaseException):
    """SIGTERM or SIGHUP arrived."""


def _failed(message: str, code: int) -> int:
    prefix = "jaxapf: error: " if code in (1, 2) else "jaxapf: "
    with contextlib.suppress(OSError):
        print(prefix + " ".join(message.split()), file=sys.stderr, flush=True)
    return code


def _discard_stdout() -> None:
    # Otherwise the interpreter flushes stdout once more at its end, and complains once more.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def _signals_raise() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind the stack as Ctrl-C does, so that temporary files are removed."""

    def repeat(seconds: float) -> None:
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, seconds)

    def terminate(number: int, _frame: Any) -> None:
        raise _Terminated(number)

    def interrupt(_number: int, _frame: Any) -> None:
        repeat(1.0)  # until it ends: a callback of JAX's may swallow what is raised inside it
        raise KeyboardInterrupt

    handlers = {"SIGTERM": terminate, "SIGHUP": terminate, "SIGINT": interrupt, "SIGALRM": interrupt}
    previous = {}
    for name, handler in handlers.items():
        # ValueError: not in the main thread. A signal ignored by nohup stays ignored.
        with contextlib.suppress(ValueError, AttributeError):
            number = getattr(signal, name)
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                previous[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        repeat(0.0)
        for number, handler in previous.items():
            signal.signal(number, handler)
