"""Measure speed, gradients, memory and growth of filters and effects: `python -m experiments.benchmark`.

Writes benchmark.json, .md and .png into the folder of results (benchmark-gpu on a GPU, so that both can be
kept). Peers: `pip install 'jaxapf[peers,plot]'`; those that are not installed are left out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import jax

from experiments.benchmark import cases, config
from experiments.benchmark.evaluate import FIGURES, cell, conditions, fresh_compilations, markdown, suffix
from experiments.common import runner, tables
from jaxapf import audio


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = runner.make_parser("benchmark", "Measure speed, gradients, memory and growth.")
    add, names = parser.add_argument, tuple(FIGURES)
    add("--only", type=runner.listed(names), default=names, metavar="NAMES", help=f"from {', '.join(names)}")
    add("--quick", action="store_true", help="tiny sizes, to see that everything runs")
    add("--draw", action="store_true", help="only draw again, from the results that there are")
    runner.add_folder(parser, "benchmark")
    runner.add_update(parser, "benchmark")
    return runner.run(parser, argv, work)


def work(args: argparse.Namespace) -> None:
    """Measure, write, draw."""
    base = args.folder / f"benchmark{suffix()}"
    if args.draw:
        return draw(runner.read_figures(base.with_suffix(".json")), base)
    compared = {"cascade", "allpole", "effects"}  # the summary is made of these
    complete = compared <= set(args.only)
    names = [f"{name}{suffix()}" for name in (*args.only, *(["summary"] if complete else []))]
    tables.check(args.update, names)
    settings = config.QUICK if args.quick else config.FULL
    peers = cases.find_peers()
    if peers.missing:
        print(f"left out: {'; '.join(peers.missing)} (pip install 'jaxapf[peers]')", file=sys.stderr)
    results: runner.Row = {"made_with": conditions(peers, quick=args.quick)}
    with fresh_compilations():
        for name in FIGURES:
            if name in args.only:
                results[name] = FIGURES[name](settings, peers)
                if jax.default_backend() != "cpu" or args.quick:
                    results[name]["goals"] = []  # they are for full sizes on CPU cores
                report(name, results[name]["goals"])
                # After each figure, so that an interrupted run keeps its results.
                tables.write_json(base.with_suffix(".json"), results)
                audio.write_text(base.with_suffix(".md"), "\n".join(markdown(results).values()))
    if "growth" in results:
        draw(results, base)
    found = markdown(results)
    tables.put(args.update, {name: found[name] for name in names})


def report(name: str, goals: Sequence[runner.Row]) -> None:
    """Print the goals of a figure, met or missed."""
    runner.show_progress("")
    for one in goals:
        mark = "met   " if one["met"] else "MISSED"
        print(f"{mark} {name}: {one['goal']} ({cell('', one['value'])})", flush=True)


def draw(results: runner.Row, base: runner.Path) -> None:
    """Draw the growth where matplotlib is installed."""
    try:
        from experiments.benchmark import figures
    except ImportError as error:
        print(f"no picture: {error} (pip install 'jaxapf[plot]')", file=sys.stderr)
    else:
        figures.draw(results["growth"], base.with_suffix(".png"))


if __name__ == "__main__":
    sys.exit(main())
