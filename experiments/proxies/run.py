"""Train proxies of the equaliser and the compressor, and measure them: `python experiments/proxies/run.py`.

`run.py train` trains them one after the other and goes on where it was stopped; `run.py evaluate` measures
those trained in its folder, else the stored ones; `run.py report` makes tables and pictures of the
measurements; `run.py store` puts those trained among the stored checkpoints. README.md explains the rest.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.common.runner import Row, check_folder, made_with, put_tables, show_progress, table
from experiments.proxies import clips, config, measures, pictures, training
from jaxapf._internal.files import reason, write_text
from jaxapf.effects import proxies
from jaxapf.training import fit, pretrained
from jaxapf.training.checkpoint import CheckpointError

RESULTS = Path(__file__).with_name("results")
MARKERS = "proxies"
HERE = "python experiments/proxies/run.py"
WHAT = {
    "tcn": "causal TCN told of the controls, 64 channels",
    "cnn": "small causal CNN on frames, told of the controls",
}


def main(argv: Sequence[str] | None = None) -> int:
    """The command: 0, or 2 with one sentence for what the user can mend."""
    args = parse(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        check_folder(args.folder)
        COMMANDS[args.command](args)
    except KeyboardInterrupt:
        show_progress("")
        print("run.py: interrupted; training goes on from its last checkpoint", file=sys.stderr)
        return 130
    except (OSError, ValueError, CheckpointError, fit.TrainingError) as error:
        show_progress("")
        text = f"{error.filename}: {reason(error)}" if isinstance(error, OSError) else str(error)
        print(f"run.py: error: {text}", file=sys.stderr)
        return 2
    return 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the arguments; wrong ones end the program with exit code 2."""
    parser = argparse.ArgumentParser(
        description="Train networks that stand in for effects, and measure them."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    parents = argparse.ArgumentParser(add_help=False)
    parents.add_argument(
        "--folder", type=Path, default=RESULTS, help="where results go; default: results/ beside this script"
    )
    parents.add_argument(
        "--only", nargs="+", choices=sorted(config.SETTINGS), metavar="NAME",
        help=f"some of {', '.join(config.SETTINGS)}; default: all that there are",
    )  # fmt: skip
    data = argparse.ArgumentParser(add_help=False)
    data.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="recordings in speech/ and loops/; without it the embedded one",
    )
    add = commands.add_parser("train", parents=[parents, data], help="train proxies").add_argument
    add("--steps", type=count, help="of each; default: those of config.py")
    add = commands.add_parser("evaluate", parents=[parents, data], help="measure proxies").add_argument
    add("--clips", type=count, default=config.TEST_CLIPS, help="default: %(default)s")
    add = commands.add_parser("report", parents=[parents], help="tables and pictures").add_argument
    add("--update", type=Path, metavar="README.md", help="file to put the tables into")
    commands.add_parser("store", parents=[parents], help="keep what was trained")
    return parser.parse_args(argv)


def count(text: str) -> int:
    """A whole number of 1 or more, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number of 1 or more")
    return int(text)


def train(args: argparse.Namespace) -> None:
    """Train those that are asked for, one after the other, and keep each beside its checkpoints."""
    sources = clips.recordings(args.data, config.TRAINED)
    for name in args.only or config.SETTINGS:
        setting = config.SETTINGS[name]
        setting = setting._replace(steps=args.steps or setting.steps)
        folder = args.folder / name
        proxies.save(training.trained(name, setting, folder, sources), folder / "proxy.npz")
        print(f"{name}: {setting.steps} steps, {folder / 'proxy.npz'}")


def evaluate(args: argparse.Namespace) -> None:
    """Measure, and write `measures.json`."""
    sources = clips.recordings(args.data, config.TEST)
    names = args.only or [name for name in config.SETTINGS if exists(name, args.folder)]
    found = {name: proxy_of(name, args.folder) for name in names}
    results: Row = {"made_with": made_with(), "clips": args.clips, "rows": [], "by_control": [], "speed": []}
    results["sizes"] = [measures.sizes(name, proxy) for name, proxy in found.items()]
    for effect in dict.fromkeys(measures.of_effect(name) for name in found):
        own = {name: proxy for name, proxy in found.items() if measures.of_effect(name) == effect}
        accuracy = measures.accuracy(proxies.EFFECTS[effect], own, sources, args.clips)
        results["rows"] += accuracy["rows"]
        results["by_control"] += accuracy["by_control"]
        for shape in config.SHAPES:
            results["speed"] += measures.speed(proxies.EFFECTS[effect], own, shape)
        key, shown = (
            ("responses", measures.responses)
            if effect == "equalizer"
            else ("compressions", measures.compressions)
        )
        results[key] = shown(own)
    show_progress("")
    write_text(args.folder / "measures.json", json.dumps(results, indent=1) + "\n")
    print(f"{args.folder / 'measures.json'}")


def exists(name: str, folder: Path) -> bool:
    """Whether it was trained in the folder, or is stored."""
    names = [entry["name"] for entry in pretrained.manifest()]
    return (folder / name / "proxy.npz").exists() or stored_name(name) in names


def proxy_of(name: str, folder: Path) -> proxies.Proxy:
    """The one trained in the folder, else the stored one."""
    trained = folder / name / "proxy.npz"
    return proxies.read(trained) if trained.exists() else proxies.load(stored_name(name))


def stored_name(name: str) -> str:
    """Among the stored checkpoints: the TCNs have no kind in their names."""
    return f"proxy-{name.removesuffix('-tcn')}"


def report(args: argparse.Namespace) -> None:
    """Write `measures.md` and the pictures, and update a README."""
    if args.update is not None:
        put_tables(args.update, None, MARKERS)
    results = measured(args.folder)
    text = markdown(results)
    pictures.draw(results, args.folder)
    write_text(args.folder / "measures.md", text)
    if args.update is not None:
        put_tables(args.update, text, MARKERS)
    print(text, end="")


def measured(folder: Path) -> Row:
    """What `evaluate` wrote.

    Raises:
        ValueError: it is not there.
    """
    path = folder / "measures.json"
    if not path.exists():
        raise ValueError(f"'{path}' is not there; run `{HERE} evaluate` first")
    return json.loads(path.read_text(encoding="utf-8"))


def markdown(results: Row) -> str:
    """All tables."""
    parts = [f"{results['made_with']} {results['clips']} clips."]
    parts += [table(results[key], cell) for key in ("rows", "by_control", "speed", "sizes") if results[key]]
    return "\n\n".join(parts) + "\n"


def cell(column: str, value: Any) -> str:
    """A value as tables show it."""
    if value is None:
        return "—"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def store(args: argparse.Namespace) -> None:
    """Put what was trained in the folder among the stored checkpoints, each with its MR-STFT."""
    rows = {row["in its place"]: row["MR-STFT"] for row in measured(args.folder)["rows"]}
    for name in args.only or [name for name in rows if name in config.SETTINGS]:
        path = args.folder / name / "proxy.npz"
        if name not in rows or not path.exists():
            raise ValueError(
                f"'{path}' is not there, or not measured; run `{HERE} train` and `evaluate` first"
            )
        effect = measures.of_effect(name)
        pretrained.add(
            stored_name(name),
            path,
            what=f"proxy of the {effect}, {WHAT[config.SETTINGS[name].kind]}, 24 kHz; jaxapf.effects.proxies.load",
            command=f"{HERE} train --data DIR --only {name}",
            data="speech and loops of the development data, shaped noise",
            figure=("MR-STFT to the effect, clips and controls never seen", rows[name]),
        )


COMMANDS = {"train": train, "evaluate": evaluate, "report": report, "store": store}

if __name__ == "__main__":
    sys.exit(main())
