"""Train an all-pass to follow an RC low-pass: `python -m experiments.rc_filter`.

Writes NAME.json and NAME.md into the folder of results, and picture.png where matplotlib is installed. NAME
is rc, with -order-N and -power-2 where these are given, and the name of the markers that `--update` fills.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from experiments.common import runner, tables
from experiments.rc_filter import config, evaluate
from experiments.rc_filter.train import make_problem
from jaxapf import audio


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = runner.make_parser("rc_filter", "Train an all-pass to follow an RC low-pass.")
    add = parser.add_argument
    add("--steps", type=runner.whole(), default=config.STEPS, help="default: %(default)s")
    starts = len(config.STARTS)
    add("--starts", type=runner.whole(1, starts), default=starts, help="at most; default: %(default)s")
    add("--power", type=runner.whole(1, 2), default=1, help="of the spectral loss; 2: eq. 8 as printed")
    add("--order", type=runner.whole(), default=1, help="beyond 1: train and find a whole cascade")
    add("--draw", action="store_true", help="only draw again, from the results that there are")
    runner.add_folder(parser, "rc_filter")
    runner.add_update(parser, "rc_filter")
    return runner.run(parser, argv, work)


def work(args: argparse.Namespace) -> None:
    """Measure, write, draw."""
    if args.draw:
        return draw(args, runner.read_figures(args.folder / "rc.json"))
    problem = make_problem(args.order, args.power)
    tables.check(args.update, [problem.name])
    results = tables.finite(evaluate.measure(problem, args.steps, args.starts))
    text = evaluate.markdown(results)
    tables.write_json(args.folder / f"{problem.name}.json", results)
    audio.write_text(args.folder / f"{problem.name}.md", text)
    if problem.name == "rc":
        draw(args, results)
    tables.put(args.update, {problem.name: text})
    runner.show_progress("")
    print(text, end="")


def draw(args: argparse.Namespace, results: runner.Row) -> None:
    """Draw figure 2 where matplotlib is installed."""
    try:
        from experiments.rc_filter import figures
    except ImportError as error:
        print(f"no picture: {error} (pip install 'jaxapf[plot]')", file=sys.stderr)
    else:
        figures.draw(results, args.folder / "picture.png")
        tables.copy(args.folder, args.update, ["picture.png"])


if __name__ == "__main__":
    sys.exit(main())
