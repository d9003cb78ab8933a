"""Learn a synthesiser's controls from its notes: `python -m experiments.synth train|report|speed`.

`train` trains all that has no result yet; `report` makes tables, pictures and the page; `speed` times a step.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.common import runner, tables
from experiments.synth import config, data
from experiments.synth import train as learning
from jaxapf import audio

LOOP = "acid_bassline.flac"
MOST_SEEDS = 10


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = runner.make_parser("synth", "Learn a synthesiser's controls from its notes.")
    commands = parser.add_subparsers(required=True)
    common = argparse.ArgumentParser(add_help=False)
    runner.add_folder(common, "synth")
    add = runner.add_command(commands, "train", train, "Train in every form.", common).add_argument
    files = f"a folder with {LOOP}, or of WAV files, one note each; without it known notes alone"
    add("--data", type=Path, metavar="DIR", help=files)
    add("--steps", type=runner.whole(), default=config.STEPS, help="of each training, default: %(default)s")
    add("--seeds", type=runner.whole(1, MOST_SEEDS), default=1, help="of each, default: %(default)s")
    runner.add_update(
        runner.add_command(commands, "report", report, "Make tables, pictures, page.", common), "synth"
    )
    command = runner.add_command(commands, "speed", speed, "Time a training step.", common)
    command.add_argument("--repeats", type=runner.whole(), default=20, help="of which the fastest counts")
    runner.add_update(command, "synth")
    return runner.run(parser, argv, advice="trainings that have ended are kept")


def train(args: argparse.Namespace) -> None:
    """Train all that has no result yet."""
    found = sources(args.data)
    wanted = list(learning.settings(list(found), args.seeds))
    learning.run(wanted, found, args.steps, args.folder)


def sources(folder: Path | None) -> dict[str, data.Notes]:
    """Return notes by name: those of a recording or a folder, where one is given, and the known ones."""
    found = {}
    if folder is not None:
        path = folder / LOOP
        found["acid"] = data.from_recording(path) if path.is_file() else data.from_folder(folder)
    return {**found, "known": data.known(config.KNOWN, config.KNOWN_SEED)[0]}


def report(args: argparse.Namespace) -> None:
    """Make tables, pictures and the page of all results in the folder."""
    from experiments.synth import evaluate, figures, listening

    tables.check(args.update, evaluate.MARKERS)
    results = evaluate.collected(args.folder)
    texts = evaluate.markdown(results)
    audio.write_text(args.folder / "tables.md", "\n".join(texts.values()))
    figures.draw(results, args.folder)
    listening.write(results, args.folder)
    tables.put(args.update, texts)
    print("\n".join(texts.values()), end="")


def speed(args: argparse.Namespace) -> None:
    """Time one training step, forward and backward, of each form and of torchlpc."""
    from experiments.synth import speed as timing

    tables.check(args.update, ["speed"])
    text = timing.markdown(timing.measured(args.repeats))
    audio.write_text(args.folder / "speed.md", text)
    tables.put(args.update, {"speed": text})
    runner.show_progress("")
    print(text, end="")


if __name__ == "__main__":
    sys.exit(main())
