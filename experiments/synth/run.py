"""Learn a synthesiser's controls from its notes: `python experiments/synth/run.py train --data DIR`.

`run.py train` trains in every form and goes on where it was stopped; `run.py report` makes tables, pictures
and the listening page of what is there; `run.py speed` times training steps. README.md explains the rest.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.common.runner import check_folder, put_tables, show_progress
from experiments.synth import config, notes, trainings
from jaxapf import audio
from jaxapf._internal.files import reason, write_text
from jaxapf.training import fit

RESULTS = Path(__file__).with_name("results")
MARKERS, SPEED_MARKERS = "synth", "synth-speed"
LOOP = "acid_bassline.flac"
MOST_SEEDS = 10


def main(argv: Sequence[str] | None = None) -> int:
    """The command: 0, or 2 with one sentence for what the user can mend."""
    args = parse(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        check_folder(args.folder)
        {"train": train, "report": report, "speed": speed}[args.command](args)
    except KeyboardInterrupt:
        show_progress("")
        print("run.py: interrupted; trainings that have ended are kept", file=sys.stderr)
        return 130
    except (OSError, ValueError, audio.AudioError, fit.TrainingError) as error:
        show_progress("")
        text = f"{error.filename}: {reason(error)}" if isinstance(error, OSError) else str(error)
        print(f"run.py: error: {text}", file=sys.stderr)
        return 2
    show_progress("")
    return 0


def train(args: argparse.Namespace) -> None:
    """Train all that is not there yet."""
    found = sources(args.data)
    wanted = list(trainings.settings(list(found), args.seeds))
    trainings.run(wanted, found, args.steps, args.folder, show_progress)


def sources(data: Path | None) -> dict[str, notes.Notes]:
    """Notes by name: those of a recording or a folder, where one is given, and the known ones."""
    found = {}
    if data is not None:
        loop_path = data / LOOP
        found["acid"] = notes.from_recording(loop_path) if loop_path.is_file() else notes.from_folder(data)
    return {**found, "known": notes.known(config.KNOWN, config.KNOWN_SEED)[0]}


def report(args: argparse.Namespace) -> None:
    """Tables, pictures and the page of what is there."""
    from experiments.synth import listening, pictures, tables

    if args.update is not None:
        put_tables(args.update, None, MARKERS)
    results = tables.collected(args.folder)
    text = tables.markdown(results)
    write_text(args.folder / "tables.md", text)
    pictures.draw(results, args.folder)
    listening.write(results, args.folder)
    if args.update is not None:
        put_tables(args.update, text, MARKERS)
    print(text)


def speed(args: argparse.Namespace) -> None:
    """Time one training step, forward and backward, of each form and of torchlpc."""
    from experiments.synth import timing

    if args.update is not None:
        put_tables(args.update, None, SPEED_MARKERS)
    text = timing.markdown(timing.measured(args.repeats, show_progress))
    write_text(args.folder / "speed.md", text)
    if args.update is not None:
        put_tables(args.update, text, SPEED_MARKERS)
    print(text)


# Arguments


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the arguments; wrong ones end the program with exit code 2."""
    parser = argparse.ArgumentParser(description="Learn a synthesiser's controls from its notes.")
    commands = parser.add_subparsers(dest="command", required=True)
    parents = argparse.ArgumentParser(add_help=False)
    parents.add_argument(
        "--folder", type=Path, default=RESULTS, help="where results go; default: results/ beside this script"
    )
    add = commands.add_parser("train", parents=[parents], help="train in every form").add_argument
    add(
        "--data",
        type=Path,
        metavar="DIR",
        help=f"a folder with {LOOP}, or of WAV files, one note each; without it known notes alone",
    )
    add("--steps", type=count, default=config.STEPS, help="of each training, default: %(default)s")
    add("--seeds", type=seeds, default=1, help="of each, default: %(default)s")
    readme = argparse.ArgumentParser(add_help=False, parents=[parents])
    readme.add_argument("--update", type=Path, metavar="README.md", help="file to put the tables into")
    commands.add_parser("report", parents=[readme], help="tables, pictures, listening page")
    add = commands.add_parser("speed", parents=[readme], help="time a training step").add_argument
    add("--repeats", type=count, default=20, help="of which the fastest counts, default: %(default)s")
    return parser.parse_args(argv)


def count(text: str) -> int:
    """A whole number from 1, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number of 1 or more")
    return int(text)


def seeds(text: str) -> int:
    """A number of seeds, for argparse."""
    if count(text) > MOST_SEEDS:
        raise argparse.ArgumentTypeError(f"'{text}' is more than {MOST_SEEDS}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
