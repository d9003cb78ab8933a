"""Compare frequency sampling with the recursion: `python experiments/gradient_comparison/run.py`.

Writes results/NAME.json for every figure, comparison.md, and the pictures. `--update README.md` puts the
tables between that file's markers and the pictures beside it. README.md says what is compared, and how.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from experiments.common.runner import (
    Row,
    check_folder,
    exit_code,
    made_with,
    put_tables,
    read_figures,
    show_progress,
)
from experiments.gradient_comparison import config, cost, moving, pictures, race, standing, tables
from jaxapf._internal import files
from jaxapf._internal.arrays import enable_x64

RESULTS = Path(__file__).with_name("results")
NAME = "comparison"
Measure = Callable[[config.Settings, standing.Say], list[Row]]
MEASURES: dict[str, Measure] = {
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


def measure(name: str, settings: config.Settings) -> Row:
    """One figure, with the seconds it took and what it was made with."""
    began = time.perf_counter()
    with enable_x64():
        rows = MEASURES[name](settings, lambda text: show_progress(f"{name}: {text}"))
    show_progress("")
    return {
        "made_with": made_with(),
        "quick": settings is config.QUICK,
        "seconds": time.perf_counter() - began,
        "rows": rows,
    }


def found_in(folder: Path, names: Sequence[str]) -> dict[str, Row]:
    """The figures that there are of these, in their order.

    Raises:
        ValueError: a file that is none of ours.
    """
    found = {}
    for name in names:
        path = folder / f"{name}.json"
        if path.exists():
            found[name] = read_figures(path)
            if not {"rows", "seconds", "made_with", "quick"} <= set(found[name]):
                raise ValueError(f"'{path}' is no file of figures: remove it, to measure again")
    return found


def write_all(folder: Path) -> str:
    """Tables and pictures of all figures there are; returns the tables."""
    found = found_in(folder, list(MEASURES))
    rows = {name: one["rows"] for name, one in found.items()}
    seconds = sum(one["seconds"] for one in found.values())
    versions = " ".join(dict.fromkeys(one["made_with"] for one in found.values()))
    if any(one["quick"] for one in found.values()):
        versions += " Quick run: these figures say nothing."
    text = tables.markdown(rows, versions, seconds)
    files.write_text(folder / f"{NAME}.md", text)
    pictures.draw(rows, folder)
    return text


def put(readme: Path, folder: Path, text: str) -> None:
    """Tables into a README, pictures beside it."""
    for picture in pictures.DRAWN:
        if (folder / f"{picture}.svg").exists():
            shutil.copyfile(folder / f"{picture}.svg", readme.with_name(f"{picture}.svg"))
    put_tables(readme, f"\n{text}\n", NAME)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the arguments; wrong ones end the program with exit code 2."""
    parser = argparse.ArgumentParser(description="Compare frequency sampling with the exact recursion.")
    parser.add_argument("--only", metavar="NAMES", help=f"figures to make anew, of {', '.join(MEASURES)}")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that everything runs")
    parser.add_argument("--folder", type=Path, default=RESULTS, help="for results (default: beside run.py)")
    parser.add_argument("--update", type=Path, metavar="README.md", help="file to put the tables into")
    arguments = parser.parse_args(argv)
    arguments.only = list(MEASURES) if arguments.only is None else arguments.only.split(",")
    for name in arguments.only:
        if name not in MEASURES:
            parser.error(f"argument --only: '{name}' is none of {', '.join(MEASURES)}")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write, draw; 2 for a mistake of the user's."""
    arguments = parse(argv)
    return exit_code(lambda: run(arguments))


def run(arguments: argparse.Namespace) -> None:
    """Measure, write, draw, as asked for."""
    settings = config.QUICK if arguments.quick else config.Settings()
    check_folder(arguments.folder)
    pictures.check()
    if arguments.update:
        put_tables(arguments.update, None, NAME)
    found_in(arguments.folder, [name for name in MEASURES if name not in arguments.only])
    for name in arguments.only:
        result = measure(name, settings)
        text = json.dumps(result, indent=1, allow_nan=False)
        files.write_text(arguments.folder / f"{name}.json", text + "\n")
        print(f"{name}: {result['seconds']:.0f} s", flush=True)
    text = write_all(arguments.folder)
    if arguments.update:
        put(arguments.update, arguments.folder, text)
    print(text, end="")


if __name__ == "__main__":
    sys.exit(main())
