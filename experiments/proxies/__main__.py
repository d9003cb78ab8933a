"""Train proxies of the equaliser and the compressor, and measure them: `python -m experiments.proxies`.

`train` trains them one after the other and goes on where it was stopped; `evaluate` measures those trained in
the folder, else the stored ones; `report` makes tables and pictures of the measurements; `store` puts those
trained among the stored checkpoints.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.common import runner, tables
from experiments.proxies import config, data, evaluate, figures, train
from jaxapf import audio
from jaxapf.effects import proxies
from jaxapf.training import pretrained

HERE = "python -m experiments.proxies"
WHAT = {
    "tcn": "causal TCN conditioned on the controls, 64 channels",
    "cnn": "small causal CNN on frames, conditioned on the controls",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = runner.make_parser("proxies", "Train networks that stand in for effects, and measure them.")
    commands = parser.add_subparsers(required=True)
    common, recordings = (argparse.ArgumentParser(add_help=False) for _ in range(2))
    runner.add_folder(common, "proxies")
    names = f"some of {','.join(config.SETTINGS)}; default: all"
    common.add_argument("--only", type=runner.listed(sorted(config.SETTINGS)), metavar="NAMES", help=names)
    files = "recordings in speech/ and loops/; without it the embedded one"
    recordings.add_argument("--data", type=Path, metavar="DIR", help=files)
    command = runner.add_command(commands, "train", work_train, "Train proxies.", common, recordings)
    command.add_argument("--steps", type=runner.whole(), help="of each; default: those of config.py")
    command = runner.add_command(commands, "evaluate", work_evaluate, "Measure.", common, recordings)
    command.add_argument(
        "--clips", type=runner.whole(), default=config.TEST_CLIPS, help="default: %(default)s"
    )
    command = runner.add_command(commands, "report", work_report, "Make tables and pictures.", common)
    runner.add_update(command, "proxies")
    runner.add_command(commands, "store", work_store, "Keep what was trained.", common)
    return runner.run(parser, argv, advice="training goes on from its last checkpoint")


def work_train(args: argparse.Namespace) -> None:
    """Train one after the other, and keep each beside its checkpoints."""
    sources = data.recordings(args.data, config.TRAINED)
    for name in args.only or config.SETTINGS:
        setting = config.SETTINGS[name]
        setting = setting._replace(steps=args.steps or setting.steps)
        folder = args.folder / name
        proxies.save(train.trained(name, setting, folder, sources), folder / "proxy.npz")
        print(f"{name}: {setting.steps} steps, {folder / 'proxy.npz'}")


def work_evaluate(args: argparse.Namespace) -> None:
    """Measure, and write `measures.json`."""
    sources = data.recordings(args.data, config.TEST)
    names = args.only or [name for name in config.SETTINGS if exists(name, args.folder)]
    found = {name: proxy_of(name, args.folder) for name in names}
    tables.write_json(args.folder / "measures.json", evaluate.measure(found, sources, args.clips))
    runner.show_progress("")
    print(f"{args.folder / 'measures.json'}")


def exists(name: str, folder: Path) -> bool:
    """Check whether a proxy was trained in the folder, or is stored."""
    names = [entry["name"] for entry in pretrained.manifest()]
    return (folder / name / "proxy.npz").exists() or stored_name(name) in names


def proxy_of(name: str, folder: Path) -> proxies.Proxy:
    """Return the proxy trained in the folder, else the stored one."""
    trained = folder / name / "proxy.npz"
    return proxies.read(trained) if trained.exists() else proxies.load(stored_name(name))


def stored_name(name: str) -> str:
    """Return the name among the stored checkpoints: the TCNs have no kind in theirs.

    Example:
        >>> stored_name("equalizer-tcn"), stored_name("equalizer-cnn")
        ('proxy-equalizer', 'proxy-equalizer-cnn')
    """
    return f"proxy-{name.removesuffix('-tcn')}"


def work_report(args: argparse.Namespace) -> None:
    """Write tables and pictures, and update a README."""
    tables.check(args.update, evaluate.MARKERS)
    results = measured(args.folder)
    texts = evaluate.markdown(results)
    figures.draw(results, args.folder)
    audio.write_text(args.folder / "measures.md", "\n".join(texts.values()))
    tables.put(args.update, texts)
    print("\n".join(texts.values()), end="")


def measured(folder: Path) -> runner.Row:
    """Read what `evaluate` wrote.

    Raises:
        ValueError: it is missing.
    """
    path = folder / "measures.json"
    if not path.exists():
        raise ValueError(f"'{path}' is missing; run `{HERE} evaluate` first")
    return runner.read_figures(path)


def work_store(args: argparse.Namespace) -> None:
    """Put what was trained in the folder among the stored checkpoints, each with its MR-STFT."""
    rows = {row["in its place"]: row["MR-STFT"] for row in measured(args.folder)["rows"]}
    for name in args.only or [name for name in rows if name in config.SETTINGS]:
        path = args.folder / name / "proxy.npz"
        if name not in rows or not path.exists():
            raise ValueError(f"'{path}' is missing or not measured; run `{HERE} train` and `evaluate` first")
        kind = WHAT[config.SETTINGS[name].kind]
        pretrained.add(
            stored_name(name),
            path,
            what=f"proxy of the {evaluate.of_effect(name)}, {kind}, 24 kHz; jaxapf.proxies.load",
            command=f"{HERE} train --data DIR --only {name}",
            data="speech and loops of the development data, shaped noise",
            figure=("MR-STFT to the effect, unseen clips and controls", rows[name]),
        )


if __name__ == "__main__":
    sys.exit(main())
