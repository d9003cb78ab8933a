"""Measure what `align` reaches: `python -m experiments.alignment measure --data DIR`.

`draw` draws picture.png of the README from the recordings that ship with the package.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.alignment.evaluate import FIGURES, markdown
from experiments.common import runner, tables
from experiments.common.tables import made_with, write_json
from jaxapf import audio

DEFAULT = tuple(name for name in FIGURES if name != "hour")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = runner.make_parser("alignment", "Measure what `align` reaches, its time and its memory.")
    commands = parser.add_subparsers(required=True)
    command = runner.add_command(commands, "measure", measure, "measure figures and write their tables")
    add = command.add_argument
    add("--data", type=Path, required=True, metavar="DIR", help="folder of the recordings")
    only = f"from {', '.join(FIGURES)}; all but hour"
    add("--only", type=runner.listed(tuple(FIGURES)), default=DEFAULT, metavar="NAMES", help=only)
    runner.add_folder(command, "alignment")
    runner.add_update(command, "alignment")
    runner.add_command(commands, "draw", draw, "draw picture.png from the example recordings")
    return runner.run(parser, argv)


def check(args: argparse.Namespace) -> None:
    """Refuse, before the long work, what cannot succeed."""
    if not args.data.is_dir():
        raise ValueError(f"--data '{args.data}' is not a folder; name the folder of the recordings")
    needed = [file for name in args.only for file in FIGURES[name].files(args.data)]
    missing = [file for file in needed if not file.is_file()]
    if missing:
        raise ValueError(
            f"--data '{args.data}' lacks '{missing[0].relative_to(args.data)}'; "
            "see experiments/alignment/data.py for what it must hold"
        )
    tables.check(args.update, args.only)


def measure(args: argparse.Namespace) -> None:
    """Measure each figure; write all, and put the tables."""
    check(args)
    results: runner.Row = {"made_with": made_with()}
    for name in FIGURES:
        if name in args.only:
            results[name] = FIGURES[name].measure(args.data)
            # After each figure, so that an interrupted run keeps its results.
            write_json(args.folder / "figures.json", results)
            parts = {one: markdown(results, one) for one in FIGURES if one in results}
            text = "\n".join(f"## {one}\n\n{part}" for one, part in parts.items())
            audio.write_text(args.folder / "figures.md", text)
            tables.put(args.update, {name: parts[name]})


def draw(args: argparse.Namespace) -> None:
    """Draw the picture beside the README."""
    from experiments.alignment import figures

    figures.draw(runner.ROOT / "alignment" / "picture.png")


if __name__ == "__main__":
    sys.exit(main())
