"""Scores of all that is trained, on unseen recordings, and the page to listen to some of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.runner import Row
from experiments.style_transfer import baseline, config, data, evaluate, pages, protocol, scores, train
from experiments.style_transfer.train import Setting
from jaxapf import params
from jaxapf.effects import equalizer
from jaxapf.effects.style import network

SHOWN = 6  # clips on the page
FREQS_HZ = np.geomspace(30, 11e3, 160)
N_EQUALIZER = len(params.EQUALIZER)


def scored(test: list[data.Source], seconds: float, found: Sequence[Setting], folder: Path) -> Row:
    """Return the results of a length, as `evaluate` has them.

    A network trained on clips of another length is a row of its own, "autodiff, of 0.53 s".
    """
    examples, _ = protocol.test_task(test, seconds)
    strategies: dict[str, list[Row]] = {}
    for setting in found:
        row, _ = train.scored(setting, folder, examples)
        strategies.setdefault(label(setting, seconds), []).append(row)
    start = protocol.first_state(1, 0).params
    known = {
        evaluate.UNPROCESSED: np.asarray(examples.given),
        evaluate.RULES: baseline.rule_based(examples.given, examples.reference, network.FS),
        "before training": protocol.answers(start, network.process_at_fs, examples).sound,
        "true settings": np.asarray(network.process(examples.raw, examples.given, network.FS)),
    }
    return {
        "test_clips": len(examples.given),
        "known": {name: scores.means(_scores(y, examples)) for name, y in known.items()},
        "strategies": strategies,
    }


def label(setting: Setting, seconds: float) -> str:
    """Return the name of a network in the table of a length."""
    return setting.strategy if setting.seconds == seconds else f"{setting.strategy}, of {setting.seconds:g} s"


def _scores(y: Any, examples: protocol.Task) -> scores.Scores:
    return scores.scores(y, examples.target, network.FS)


# The page


def write(test: list[data.Source], found: Sequence[Setting], folder: Path) -> None:
    """The page: clips of the longest length of each recording, by the first seed of each strategy."""
    seconds = max(config.TEST_CLIPS)
    examples, names = protocol.test_task(test, seconds)
    chosen = _spread(names)
    few = protocol.Task(*(one[np.asarray(chosen)] for one in examples))
    networks: dict[str, Setting] = {}
    for setting in sorted(found, key=lambda one: (one.seconds != seconds, one.seed)):
        networks.setdefault(setting.strategy, setting)
    made = {label(setting, seconds): train.scored(setting, folder, few)[1] for setting in networks.values()}
    ruled = baseline.rule_based(few.given, few.reference, network.FS)
    clips = [_clip(row, names[at], few, ruled, made) for row, at in enumerate(chosen)]
    pages.write(folder / "listening.html", clips, network.FS)


def _spread(names: Sequence[str]) -> list[int]:
    """The first clips of every recording in turn."""
    seen: dict[str, int] = {}
    order = []
    for at, name in enumerate(names):
        order.append((seen.get(name, 0), at))
        seen[name] = seen.get(name, 0) + 1
    return [at for _, at in sorted(order)[:SHOWN]]


def _clip(
    row: int, name: str, few: protocol.Task, ruled: np.ndarray, made: Mapping[str, protocol.Answers]
) -> pages.Clip:
    target = np.asarray(few.target[row])

    def version(title: str, sound: Any) -> pages.Version:
        sound = np.asarray(sound)
        return pages.Version(title, sound, float(scores.mrstft(sound[None], target[None])[0]))

    versions = [
        version("input", few.given[row]),
        pages.Version("reference", np.asarray(few.reference[row])),
        pages.Version("target", target),
        version(evaluate.RULES, ruled[row]),
        *(version(title, one.sound[row]) for title, one in made.items()),
    ]
    curves = pages.Curves(
        FREQS_HZ, _curve(few.raw[row]), {title: _curve(one.raw[row]) for title, one in made.items()}
    )
    controls = {"true": _named(few.raw[row]), **{title: _named(one.raw[row]) for title, one in made.items()}}
    return pages.Clip(
        f"{row + 1}. {name}",
        "One clip, one setting of the effects, drawn at random.",
        versions,
        curves,
        controls,
    )


def _named(raw: Any) -> dict[str, float]:
    values = params.denormalise(np.asarray(raw, np.float64), network.CONTROLS)
    return {one.name: float(value) for one, value in zip(network.CONTROLS, values, strict=True)}


def _curve(raw: Any) -> np.ndarray:
    values = params.denormalise(np.asarray(raw, np.float64), network.CONTROLS)[:N_EQUALIZER]
    return np.asarray(equalizer.response_db(equalizer.packed(values), FREQS_HZ, network.FS))
