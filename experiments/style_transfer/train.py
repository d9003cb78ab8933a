"""Train one setting after the other; each result is kept, and a later run goes on there."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.common import tables
from experiments.common.runner import Row, check_steps, read_figures, show_progress
from experiments.style_transfer import config, data, protocol, scores
from jaxapf.effects import gradients
from jaxapf.effects.style import network
from jaxapf.training.checkpoint import Checkpoints


class Setting(NamedTuple):
    """A training: by which gradient, on clips of how many seconds, from which seed, for how long."""

    strategy: str
    seconds: float
    seed: int
    steps: int

    @property
    def name(self) -> str:
        """Return the name of its files."""
        return f"{self.strategy}-{self.seconds:g}s-{self.seed}"


def settings(
    strategies: Sequence[str], seconds: float, seeds: Sequence[int], steps: int | None
) -> Iterator[Setting]:
    """Give what is to be trained, the first seed of all before the second of any."""
    for seed in seeds:
        for strategy in strategies:
            yield Setting(strategy, seconds, seed, steps or config.STEPS[seconds])


def run(wanted: Sequence[Setting], split: data.Split, folder: Path) -> None:
    """Train what has no result yet; write of each a network and a JSON file with its records.

    Raises:
        ValueError: a file that is there is of another number of steps.
    """
    for number, setting in enumerate(wanted, 1):
        path = folder / f"{setting.name}.json"
        if path.is_file():
            check_steps(path, setting.steps)
            continue
        records: list[Row] = []

        def progress(record: Row, label: str = f"{number} of {len(wanted)}, {setting.name}") -> None:
            records.append(record)  # noqa: B023, one list a training
            left_s = (setting.steps - record["step"]) * _step_s(records)  # noqa: B023
            show_progress(
                f"{label}: step {record['step']} of {setting.steps}, loss {record['loss']:.3f}, "  # noqa: B023
                f"{left_s / 60:.0f} min left"
            )

        train(setting, split, folder, progress)
        tables.write_json(path, _course(setting, records))


def train(setting: Setting, split: data.Split, folder: Path, progress: Callable[[Row], None]) -> None:
    """Train one network, from where its checkpoints end, and keep it."""
    pool = data.pool(split.train, setting.seconds, data.TRAINING)
    batch = config.BATCH[setting.seconds]
    with Checkpoints(folder / f"{setting.name}.checkpoints", config=setting._asdict()) as kept:
        fitted = protocol.trained(
            strategy_of(setting.strategy), pool, batch, setting.steps, setting.seed, kept, progress
        )
    network.save(network.Network(config.DESIGN, fitted.state.params), folder / f"{setting.name}.npz")


def strategy_of(strategy: str) -> gradients.Strategy:
    """Return the strategy of a gradient, with the stored proxies."""
    proxy = network.proxy_process(*config.PROXIES) if strategy.startswith("proxy") else None
    return gradients.strategy(strategy, network.STRIP, network.FS, proxy=proxy)


@lru_cache(maxsize=len(gradients.STRATEGIES))
def process_of(strategy: str) -> gradients.Apply:
    """Return the process to run: the effects, or for a proxy alone the networks."""
    return strategy_of(strategy).apply if strategy == "proxy" else network.process_at_fs


def _course(setting: Setting, records: Sequence[Row]) -> Row:
    return {
        "made_with": tables.made_with(),
        **setting._asdict(),
        "seconds_per_step": _step_s(records),
        "minutes": sum(r["seconds"] for r in records[-1:]) / 60,
        "skipped": records[-1]["skipped"],
        "losses": {str(one["step"]): one["loss"] for one in records},
    }


def _step_s(records: Sequence[Row]) -> float:
    """Return the median seconds of a step between records; the first includes compiling."""
    ends = [(one["step"], one["seconds"]) for one in records]
    each = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(ends) if b[0] > a[0]]
    return float(np.median(each)) if each else ends[-1][1] / max(1, ends[-1][0])


# Scores


def finished(folder: Path) -> list[Setting]:
    """List the trainings that have ended."""
    found = []
    for path in sorted(folder.glob("*-*s-*.json")):
        course = read_figures(path)
        found.append(Setting(*(course[name] for name in Setting._fields)))
    return found


def scored(setting: Setting, folder: Path, examples: protocol.Task) -> tuple[Row, protocol.Answers]:
    """Return a run, as `evaluate` has it, and the network's output for the test examples."""
    trained = network.load(folder / f"{setting.name}.npz")
    made = protocol.answers(trained.weights, process_of(setting.strategy), examples)
    found = scores.means(scores.scores(made.sound, examples.target, network.FS))
    names = [one.name for one in network.CONTROLS]
    errors = np.mean(np.abs(made.raw - np.asarray(examples.raw)), axis=0) / 2
    course = read_figures(folder / f"{setting.name}.json")
    row: Row = {
        "seed": setting.seed,
        "trained_on_s": setting.seconds,
        "steps": setting.steps,
        "seconds_per_step": course["seconds_per_step"],
        "minutes": course["minutes"],
        "scores": {name: value if math.isfinite(value) else None for name, value in found.items()},
        "controls": dict(zip(names, errors.tolist(), strict=True)),
    }
    return row, made
