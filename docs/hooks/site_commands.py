"""The command line's own help, as a page."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from unittest import mock


def page_text() -> str:
    """Every command with what its `--help` prints."""
    from jaxapf.cli import parser as cli

    lines = ["# Commands", "", _OPENING]
    with mock.patch.dict(os.environ, COLUMNS="84", NO_COLOR="1"):
        for parser in _parsers(cli._parser()):
            lines += ["", f"## {parser.prog}", "", "```text", parser.format_help().strip(), "```"]
    return "\n".join(lines) + "\n"


_OPENING = """\
What `--help` prints, for every command. Mistakes are answered in one sentence with exit code 2; a command
that is interrupted leaves no unfinished file. [For engineers](engineers.md) says which to use when."""


def _parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from _parsers(inner)
