"""Train, fit and measure phasers: `python experiments/phaser/run.py train|fit|speed|report --data DIR`.

README.md says what is done and what came out, config.py what to expect.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import config
import data
import training

from jaxapf import loop
from jaxapf._experiments import check_folder, show_progress
from jaxapf.files import reason

RESULTS = Path(__file__).with_name("results")


def main(argv: Sequence[str] | None = None) -> int:
    """The command: 0, or 2 with one sentence for what the user can mend."""
    args = parse(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        check_folder(args.folder)
        args.run(args)
    except KeyboardInterrupt:
        show_progress("")
        print("run.py: interrupted; what was finished is kept", file=sys.stderr)
        return 130
    except (OSError, ValueError, loop.TrainingError) as error:
        show_progress("")
        text = f"{error.filename}: {reason(error)}" if isinstance(error, OSError) else str(error)
        print(f"run.py: error: {text}", file=sys.stderr)
        return 2
    return 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the arguments; wrong ones end the program with exit code 2."""
    parser = argparse.ArgumentParser(description="Train, fit and measure phasers.")
    commands = parser.add_subparsers(required=True)
    parents = argparse.ArgumentParser(add_help=False)
    parents.add_argument(
        "--folder", type=Path, default=RESULTS, help="where results go; default: results/ beside this script"
    )
    sources = argparse.ArgumentParser(add_help=False)
    source = sources.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, metavar="DIR", help="shared recordings, with phaser/ in it")
    source.add_argument("--small-stone", type=Path, metavar="DIR", help="or the public set")
    sources.add_argument(
        "--steps", type=count, default=config.STEPS, help="of training; default: %(default)s"
    )
    sources.add_argument("--seeds", type=count, default=config.SEEDS, help="of starts; default: %(default)s")
    sources.add_argument(
        "--random", type=whole, default=0, help="starts besides that know less; default: %(default)s"
    )
    command = commands.add_parser("train", parents=[parents, sources], help="train what has no result yet")
    command.set_defaults(run=train)
    return parser.parse_args(argv)


def whole(text: str) -> int:
    """A whole number of 0 or more, for argparse."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number of 0 or more")
    return int(text)


def count(text: str) -> int:
    """A whole number of 1 or more, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number of 1 or more")
    return int(text)


def devices_of(args: argparse.Namespace) -> list[data.Device]:
    """What is learnt: the recordings of a folder, and known phasers beside the shared ones."""
    if args.small_stone is not None:
        return data.small_stone(args.small_stone)
    return [*data.shared(args.data), *data.targets(args.data)]


def jobs_of(devices: Sequence[data.Device], seeds: int, random: int) -> list[training.Job]:
    """All trainings, those of one seed together; last those from starts that know less."""
    every = [(device, form) for device in devices for form in training.forms(device)]
    jobs = [training.Job(device, form, seed) for seed in range(seeds) for device, form in every]
    recorded = [device for device in devices if device.truth is None]
    return jobs + [
        training.Job(device, training.RECURSION, seed, start)
        for seed in range(random)
        for start in ("rate", "nothing")
        for device in recorded
    ]


def train(args: argparse.Namespace) -> None:
    """Every training that has no result yet."""
    for job in jobs_of(devices_of(args), args.seeds, args.random):
        result = training.trained(job, args.folder, args.steps)
        show_progress("")
        loss, skipped = result["records"][-1]["loss"], result["skipped"]
        print(f"{job.name}: loss {loss:.3g}, {skipped} steps skipped, {result['seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
