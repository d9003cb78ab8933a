"""Learn compressors, known settings and devices: `python -m experiments.compressor PART`.

Parts: known, devices, signaltrain, speed. Each writes PART.json, PART.md, pictures and a page into
the folder of results.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments.common import runner, tables
from experiments.compressor import config, evaluate
from jaxapf import audio


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = runner.make_parser("compressor", "Learn compressors: known settings, devices, speed.")
    commands = parser.add_subparsers(required=True)
    common, recordings = (argparse.ArgumentParser(add_help=False) for _ in range(2))
    runner.add_folder(common, "compressor")
    runner.add_update(common, "compressor")
    recordings.add_argument(
        "--data",
        type=Path,
        required=True,
        help=f"folder with {evaluate.DRY} and the devices' mix_NAME_wet.flac",
    )
    recordings.add_argument(
        "--seconds", type=runner.positive(), default=1e6, help="of the recordings at most"
    )
    command = runner.add_command(commands, "known", known, "Settings learnt by gradient.", common, recordings)
    command.add_argument("--steps", type=runner.whole(), default=10**9, help="of training at most")
    runner.add_command(commands, "devices", devices, "Third-party devices.", common, recordings)
    command = runner.add_command(commands, "signaltrain", signaltrain, "Pairs of SignalTrain LA-2A.", common)
    command.add_argument("data", type=Path, help="its folder")
    command = runner.add_command(commands, "speed", speed, "One training step against its peers.", common)
    command.add_argument("--repeats", type=runner.whole(), default=config.REPEATS, help="of a timing")
    return runner.run(parser, argv)


def known(args: argparse.Namespace) -> None:
    """Learn the known settings in both forms."""
    steps = {form: min(config.STEPS[form], args.steps) for form in config.FORMS}
    results = part(
        args, "known", lambda: evaluate.measure_known(args.data, steps, args.seconds), evaluate.known_markdown
    )
    evaluate.draw_known(results, args.folder, args.data)


def devices(args: argparse.Namespace) -> None:
    """Fit the devices; draw their gains and write the page to listen."""
    shown: list[runner.Row] = []

    def measure() -> runner.Row:
        results, examples = evaluate.measure_devices(args.data, args.seconds)
        shown.extend(examples)
        return results

    part(args, "devices", measure, evaluate.devices_markdown)
    evaluate.draw_devices(shown, args.folder)


def signaltrain(args: argparse.Namespace) -> None:
    """Fit every pair of a folder."""
    part(args, "signaltrain", lambda: evaluate.measure_folder(args.data), evaluate.folder_markdown)


def speed(args: argparse.Namespace) -> None:
    """Time one training step."""
    part(args, "speed", lambda: evaluate.measure_speed(args.repeats), evaluate.speed_markdown)


def part(
    args: argparse.Namespace, name: str, measure: Callable[[], Any], markdown: Callable[[Any], str]
) -> runner.Row:
    """Measure, write, print; return the results."""
    tables.check(args.update, [name])
    results = measure()
    text = markdown(results)
    tables.write_json(args.folder / f"{name}.json", results)
    audio.write_text(args.folder / f"{name}.md", text)
    tables.put(args.update, {name: text})
    runner.show_progress("")
    print(text, end="")
    return results


if __name__ == "__main__":
    sys.exit(main())
