"""All trainings, one after the other, each kept as it ends: a folder that is finished later goes on there."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.common.runner import Row, check_steps, made_with, read_figures
from experiments.style_transfer import config, data, protocol, scores
from jaxapf._internal.files import write_text
from jaxapf.effects import gradients
from jaxapf.effects.style import network as style
from jaxapf.training.checkpoint import Checkpoints


class Setting(NamedTuple):
    """A training: by which gradient, on clips of how many seconds, from which seed, for how long."""

    strategy: str
    seconds: float
    seed: int
    steps: int

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.strategy}-{self.seconds:g}s-{self.seed}"


def settings(
    strategies: Sequence[str], seconds: float, seeds: Sequence[int], steps: int | None
) -> Iterator[Setting]:
    """What is to be trained, the first seed of all before the second of any."""
    for seed in seeds:
        for strategy in strategies:
            yield Setting(strategy, seconds, seed, steps or config.STEPS[seconds])


def run(wanted: Sequence[Setting], split: data.Split, folder: Path, say: Callable[[str], None]) -> None:
    """Train what is not there yet; of each, a network and a JSON file with the course of its training.

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
            say(
                f"{label}: step {record['step']} of {setting.steps}, loss {record['loss']:.3f}, "  # noqa: B023
                f"{left_s / 60:.0f} min left"
            )

        train(setting, split, folder, progress)
        write_text(path, json.dumps(_course(setting, records), indent=1, allow_nan=False) + "\n")


def train(setting: Setting, split: data.Split, folder: Path, progress: Callable[[Row], None]) -> None:
    """Train one network, from where its checkpoints end, and keep it."""
    pool = data.pool(split.train, setting.seconds, data.TRAINING)
    batch = config.BATCH[setting.seconds]
    with Checkpoints(folder / f"{setting.name}.checkpoints", config=setting._asdict()) as kept:
        fitted = protocol.trained(
            route_of(setting.strategy), pool, batch, setting.steps, setting.seed, kept, progress
        )
    style.save(style.Network(config.DESIGN, fitted.state.params), folder / f"{setting.name}.npz")


def route_of(strategy: str) -> gradients.Strategy:
    """The way to a gradient, its proxies those that are stored."""
    proxy = style.proxy_process(*config.PROXIES) if strategy.startswith("proxy") else None
    return gradients.strategy(strategy, style.STRIP, style.FS, proxy=proxy)


@lru_cache(maxsize=len(gradients.STRATEGIES))
def player_of(strategy: str) -> gradients.Apply:
    """What plays: the effects, or for a proxy alone the networks."""
    return route_of(strategy).apply if strategy == "proxy" else style.process_at_fs


def _course(setting: Setting, records: Sequence[Row]) -> Row:
    return {
        "made_with": made_with(),
        **setting._asdict(),
        "seconds_per_step": _step_s(records),
        "minutes": sum(r["seconds"] for r in records[-1:]) / 60,
        "skipped": records[-1]["skipped"],
        "losses": {str(one["step"]): one["loss"] for one in records},
    }


def _step_s(records: Sequence[Row]) -> float:
    """Median of the time of a step between records; the first has the compilation in it."""
    ends = [(one["step"], one["seconds"]) for one in records]
    each = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(ends) if b[0] > a[0]]
    return float(np.median(each)) if each else ends[-1][1] / max(1, ends[-1][0])


# Scores


def there(folder: Path) -> list[Setting]:
    """Trainings that have ended, whatever their length and number."""
    found = []
    for path in sorted(folder.glob("*-*s-*.json")):
        course = read_figures(path)
        found.append(Setting(*(course[name] for name in Setting._fields)))
    return found


def scored(setting: Setting, folder: Path, examples: protocol.Task) -> tuple[Row, protocol.Answers]:
    """A run, as `tables` has it, and what the network made of the test examples."""
    network = style.load(folder / f"{setting.name}.npz")
    made = protocol.answers(network.weights, player_of(setting.strategy), examples)
    found = scores.means(scores.scores(made.sound, examples.target, style.FS))
    names = [one.name for one in style.CONTROLS]
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
