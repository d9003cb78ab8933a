"""Compare frequency sampling with the recursion: `python -m experiments.gradient_comparison`.

Writes NAME.json for every figure, comparison.md and the pictures into the folder of results; tables and
pictures are made of all results there are.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from experiments.common import runner, tables
from experiments.common.measuring import float64
from experiments.gradient_comparison import config, cost, moving, race, standing
from experiments.gradient_comparison.tables import markdown
from jaxapf import audio

MEASURES: dict[str, Callable[[config.Settings], list[runner.Row]]] = {
    "radius": standing.radius,
    "length": standing.length,
    "padding": standing.padding,
    "near": standing.near,
    "order": standing.order,
    "signal": standing.signal,
    "dtype": standing.dtype,
    "hop": moving.hop,
    "frame": moving.frame,
    "moving_radius": moving.moving_radius,
    "cost": cost.cost,
    "box": race.box,
    "swinging": race.swinging,
    "bare": race.bare,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = runner.make_parser("gradient_comparison", "Compare frequency sampling with the recursion.")
    add, names = parser.add_argument, tuple(MEASURES)
    add("--only", type=runner.listed(names), default=names, metavar="NAMES", help=f"of {', '.join(names)}")
    add("--quick", action="store_true", help="tiny sizes, to see that everything runs")
    runner.add_folder(parser, "gradient_comparison")
    runner.add_update(parser, "gradient_comparison")
    return runner.run(parser, argv, work)


def work(args: argparse.Namespace) -> None:
    """Measure, write, draw."""
    from experiments.gradient_comparison import figures  # needs matplotlib: found out before the work

    kept = found_in(args.folder, [name for name in MEASURES if name not in args.only])
    expected = {*args.only, *kept} | ({"needed"} if "padding" in {*args.only, *kept} else set())
    tables.check(args.update, sorted(expected))
    for name in args.only:
        result = measure(name, config.QUICK if args.quick else config.Settings())
        tables.write_json(args.folder / f"{name}.json", result)
        print(f"{name}: {result['seconds']:.0f} s", flush=True)
    found = found_in(args.folder, MEASURES)
    texts = markdown(found)
    text = "\n".join(f"## {name}\n\n{part}" for name, part in texts.items())
    audio.write_text(args.folder / "comparison.md", text)
    figures.draw({name: one["rows"] for name, one in found.items()}, args.folder)
    tables.put(args.update, texts)
    tables.copy(args.folder, args.update, [f"{name}.svg" for name in figures.DRAWN])
    print(text, end="")


def measure(name: str, settings: config.Settings) -> runner.Row:
    """Measure one figure; return its rows, the seconds it took and what it was made with."""
    began = time.perf_counter()
    with float64():
        rows = MEASURES[name](settings)
    runner.show_progress("")
    seconds = time.perf_counter() - began
    quick = settings is config.QUICK
    return {"made_with": tables.made_with(), "quick": quick, "seconds": seconds, "rows": rows}


def found_in(folder: Path, names: Iterable[str]) -> dict[str, runner.Row]:
    """Read the figures that there are of these.

    Raises:
        ValueError: a file that is none of ours.
    """
    found = {}
    for name in names:
        path = folder / f"{name}.json"
        if path.exists():
            found[name] = runner.read_figures(path)
            if not {"rows", "seconds", "made_with", "quick"} <= set(found[name]):
                raise ValueError(f"'{path}' is no file of figures: remove it, to measure again")
    return found


if __name__ == "__main__":
    sys.exit(main())
