"""Recover hidden settings of effects: `python -m experiments.reverse_engineering`.

Writes recovered.json, recovered.md and picture.svg into the folder of results.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.common import runner, tables
from experiments.reverse_engineering import config, evaluate, figures
from jaxapf import audio, datasets


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = runner.make_parser("reverse_engineering", "Recover hidden settings of a chain of effects.")
    parser.add_argument("--data", type=Path, metavar="FILE", help="another clip than the example")
    parser.add_argument("--seed", type=runner.whole(0), help="only these hidden settings (default: 0 to 7)")
    runner.add_folder(parser, "reverse_engineering")
    runner.add_update(parser, "reverse_engineering")
    return runner.run(parser, argv, work)


def work(args: argparse.Namespace) -> None:
    """Look for all hidden settings; what is done is kept, should the rest be given up."""
    tables.check(args.update, ["recovered", "settings"])
    dry = evaluate.read_clip(args.data or datasets.example_pair()[0])
    rows = []
    for seed in range(config.SEEDS) if args.seed is None else [args.seed]:
        rows.append(evaluate.measure(seed, dry))
        write(args.folder, rows)
    texts = evaluate.summary(rows)
    tables.put(args.update, texts)
    runner.show_progress("")
    print("\n".join(texts.values()), end="")


def write(folder: Path, rows: Sequence[runner.Row]) -> None:
    """Write results as JSON and Markdown, and the picture of the first."""
    tables.write_json(folder / "recovered.json", list(rows))
    audio.write_text(folder / "recovered.md", "\n".join(evaluate.summary(rows).values()))
    first = rows[0]
    curves = [evaluate.response_db(first[name]) for name in ("true", "found")]
    picture = figures.draw(first["true"], first["found"], evaluate.FREQS_HZ, *curves)
    audio.write_text(folder / "picture.svg", picture)


if __name__ == "__main__":
    sys.exit(main())
