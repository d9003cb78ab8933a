"""Arguments of the command line: their parser, groups of options that commands share, and types of values."""

import argparse
import contextlib
import dataclasses
import re
from collections.abc import Callable
from typing import Any

__all__ = [
    "FileOptions",
    "Options",
    "PairOptions",
    "Parser",
    "UsageError",
    "add_channels",
    "add_command",
    "add_file",
    "add_output",
    "add_pair",
    "add_printing",
    "add_resample",
    "add_subtype",
    "number",
    "whole",
]


class UsageError(ValueError):
    """Wrong use, in one sentence for the user."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Options of every command; ``command_line`` is the line that was typed."""

    json: bool = False
    quiet: bool = False
    command_line: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileOptions(Options):
    """Options of the commands that process one file; ``channels`` are counted from 0, None is all."""

    input: str
    output: str
    channels: tuple[int, ...] | None = None
    subtype: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairOptions(Options):
    """Options of the commands that compare two files; ``resample`` is in Hz, 0 is the wet file's rate."""

    dry: str
    wet: str
    output: str
    max_delay_ms: float = 20.0
    channels: tuple[int, ...] | None = None
    resample: int | None = None


class Parser(argparse.ArgumentParser):
    """A parser that raises UsageError. What is not given is left out: defaults are those of the options."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            argument_default=argparse.SUPPRESS,
            **options,
        )

    def error(self, message: str) -> Any:
        raise UsageError(f"{message}; see '{self.prog} --help'")


def add_command(commands: Any, name: str, run: Any, options: type[Options], **texts: Any) -> Parser:
    """Add a command: `run` is called with its frozen `options`."""
    parser = commands.add_parser(name, **texts)
    parser.set_defaults(run=run, options=options)
    return parser


# Groups of options


def add_pair(parser: Parser, wet: str) -> None:
    """Add DRY and WET."""
    parser.add_argument("dry", metavar="DRY", help="the unprocessed recording")
    parser.add_argument("wet", metavar="WET", help=wet)


def add_max_delay(parser: Parser) -> None:
    """Add --max-delay-ms."""
    parser.add_argument(
        "--max-delay-ms",
        type=_milliseconds,
        metavar="X",
        help=f"largest latency to look for (default {PairOptions.max_delay_ms:g})",
    )


def add_file(parser: Parser) -> None:
    """Add IN and -o OUT."""
    parser.add_argument("input", metavar="IN", help="the file to process")
    add_output(parser, "OUT", "where to write the result")


def add_output(parser: Parser, metavar: str, help: str) -> None:
    """Add -o."""
    parser.add_argument("-o", "--output", metavar=metavar, required=True, help=help)


def add_subtype(parser: Parser) -> None:
    """Add --channels and --subtype, of the commands that write audio."""
    add_channels(parser, "1,2", "channels to use, counted from 1 (default all)")
    parser.add_argument(
        "--subtype", metavar="S", help="sample encoding of the output, such as PCM_24 or FLOAT"
    )


def add_channels(parser: Parser, metavar: str, help: str) -> None:
    """Add --channels."""
    parser.add_argument("--channels", type=_channels, metavar=metavar, help=help)


def add_printing(parser: Parser, quiet: bool = True) -> None:
    """Add --json and --quiet."""
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    if quiet:
        parser.add_argument("--quiet", action="store_true", help="print nothing but errors and warnings")


def add_resample(parser: Parser) -> None:
    """Add --resample, of the commands that compare two files."""
    parser.add_argument(
        "--resample",
        type=_rate,
        nargs="?",
        const=0,
        metavar="HZ",
        help="allow different sample rates: bring both to HZ, or the dry file to the wet file's rate",
    )


# Types of values


def number(low: float, high: float, unit: str = "") -> Callable[[str], float]:
    """Return the type of a number within a range."""

    def value(text: str) -> float:
        with contextlib.suppress(ValueError):
            if low <= float(text) <= high:
                return float(text)
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from {low:g} to {high:g}{unit}")

    return value


def whole(low: int, high: int, word: str | None = None) -> Callable[[str], Any]:
    """Return the type of a whole number within a range, or of `word`."""

    def value(text: str) -> Any:
        if text == word:
            return text
        if re.fullmatch(r"[+-]?\d+", text) and low <= int(text) <= high:
            return int(text)
        either = f"'{word}' or " if word else ""
        raise argparse.ArgumentTypeError(f"'{text}' is not {either}a whole number from {low} to {high}")

    return value


def _milliseconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < float(text) <= 10000:
            return float(text)
    raise argparse.ArgumentTypeError(f"'{text}' is not a number of milliseconds above 0, at most 10000")


def _rate(text: str) -> int:
    if not text.isdecimal() or not 1000 <= int(text) <= 1000000:
        raise argparse.ArgumentTypeError(
            f"'{text}' is not a rate in Hz (1000 to 1000000); without a rate, put --resample after the files"
        )
    return int(text)


def _channels(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    channels = tuple(int(part) - 1 for part in parts if part.strip().isdecimal())
    if len(set(channels)) < len(parts) or min(channels) < 0:
        raise argparse.ArgumentTypeError(
            f"'{text}' is not a list of different channels counted from 1, such as 1,2"
        )
    return channels
