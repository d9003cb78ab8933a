"""Arguments of the command line: options are fields of frozen dataclasses, which parsers are made from."""

import argparse
import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import Any


class UsageError(ValueError):
    """Wrong use, in one sentence for the user."""


@contextlib.contextmanager
def usage_errors(before: str = "") -> Iterator[None]:
    """Turn what is refused further below into UsageError, with `before` in front."""
    try:
        yield
    except ValueError as error:
        raise UsageError(f"{before}{error}") from error


class Parser(argparse.ArgumentParser):
    """A parser that raises UsageError. What is not given is left out: defaults are those of the options."""

    def __init__(self, **options: Any) -> None:
        options |= {"allow_abbrev": False, "argument_default": argparse.SUPPRESS}
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def error(self, message: str) -> Any:
        raise UsageError(f"{message}; see '{self.prog} --help'")


def add_command(commands: Any, name: str, run: Any, options: Any, texts: str) -> Parser:
    """Add a command: `run` is called with an instance of `options`, whose fields are its arguments.

    The texts are its line in the list of commands, its description, and its examples, between blank lines.
    """
    line, description, epilog = texts.split("\n\n", 2)
    parser = commands.add_parser(name, help=line, description=description, epilog=epilog)
    parser.set_defaults(run=run, options=options)
    families = [{field.name for field in dataclasses.fields(one)} for one in options.__mro__[:-1]]

    def place(field: dataclasses.Field) -> tuple[bool, bool, int]:
        shared = sum(field.name in family for family in families)
        return bool(field.metadata["flags"]), field.name != "output", shared

    for field in sorted((one for one in dataclasses.fields(options) if one.metadata), key=place):
        settings = dict(field.metadata)
        parser.add_argument(*settings.pop("flags") or [field.name], **settings)
    return parser


# Types of values


def _checked(convert: Callable[[str], Any], valid: Callable[[Any], bool], what: str) -> Callable[[str], Any]:
    """Return the type of the values that are valid; `what` says what is expected."""

    def value(text: str) -> Any:
        with contextlib.suppress(ValueError):
            found = convert(text)
            if valid(found):
                return found
        raise argparse.ArgumentTypeError(f"'{text}' is not {what}")

    return value


def number(low: float, high: float, unit: str = "") -> Callable[[str], float]:
    """Return the type of a number within a range."""
    return _checked(float, lambda found: low <= found <= high, f"a number from {low:g} to {high:g}{unit}")


def whole(low: int, high: int, word: str | None = None) -> Callable[[str], Any]:
    """Return the type of a whole number within a range, or of `word`."""
    either = f"'{word}' or " if word else ""
    return _checked(
        lambda text: int(text) if re.fullmatch(r"[+-]?\d+", text) else text,
        lambda found: found == word or (isinstance(found, int) and low <= found <= high),
        f"{either}a whole number from {low} to {high}",
    )


_milliseconds = _checked(
    float, lambda found: 0 < found <= 10000, "a number of milliseconds above 0, at most 10000"
)
_rate = _checked(
    lambda text: int(text) if text.isdecimal() else 0,
    lambda found: 1000 <= found <= 1000000,
    "a rate in Hz (1000 to 1000000); without a rate, put --resample after the files",
)
channel_list = _checked(
    lambda text: tuple(int(part) - 1 if part.strip().isdecimal() else -1 for part in text.split(",")),
    lambda found: min(found) >= 0 and len(set(found)) == len(found),
    "a list of different channels counted from 1, such as 1,2",
)


# Fields


def argument(usage: str, help: str, default: Any = None, **settings: Any) -> Any:
    """Return the field of an argument, as "IN", "-o --output OUT" or "--json", with settings of argparse."""
    *flags, last = usage.split()
    if last.startswith("-"):
        flags.append(last)
    else:
        settings["metavar"] = last
    settings |= {"flags": flags, "help": help}
    if isinstance(default, bool):
        settings["action"] = "store_true"
    if settings.get("required") or (not flags and default is None):
        default = dataclasses.MISSING
    return dataclasses.field(default=default, metadata=settings)


# Options that commands share


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What `run` of every command takes; ``command_line`` is the line that was typed."""

    json: bool = False
    quiet: bool = False
    command_line: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class JsonOptions(Options):
    """Options of the commands that print a result."""

    json: bool = argument("--json", "print one JSON object instead of the table", False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResultOptions(JsonOptions):
    """Options of the commands that print a result and write files."""

    quiet: bool = argument("--quiet", "print nothing but errors and warnings", False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AudioOptions(ResultOptions):
    """Options of the commands that write audio; ``channels`` are counted from 0, None is all."""

    output: str = argument("-o --output OUT", "where to write the result", required=True)
    channels: tuple[int, ...] | None = argument(
        "--channels 1,2", "channels to use, counted from 1 (default all)", type=channel_list
    )
    subtype: str | None = argument("--subtype S", "sample encoding of the output, such as PCM_24 or FLOAT")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairOptions(ResultOptions):
    """Options of the commands that compare two files; ``resample`` is in Hz, 0 is the wet file's rate."""

    dry: str = argument("DRY", "the unprocessed recording")
    wet: str = argument("WET", "its processed copy: same rate, start and length")
    output: str = argument("-o --output OUT", "where to write the result", required=True)
    max_delay_ms: float = argument(
        "--max-delay-ms X", "largest latency to look for (default 20)", 20.0, type=_milliseconds
    )
    channels: tuple[int, ...] | None = argument(
        "--channels 1,2", "channels to use, counted from 1 (default all)", type=channel_list
    )
    resample: int | None = argument(
        "--resample HZ",
        "allow different sample rates: bring both to HZ, or the dry file to the wet file's rate",
        type=_rate,
        nargs="?",
        const=0,
    )
