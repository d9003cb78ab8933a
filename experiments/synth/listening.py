"""The page to listen: test notes in a row, as they should be and as each network plays them, in one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common import listening
from experiments.synth import config, evaluate, figures
from experiments.synth.evaluate import Group
from experiments.synth.protocol import RECURSION

NOTES = 10  # in a row
GAP = 1200  # samples of silence between them: 25 ms
TEMPLATE = Path(__file__).with_name("template.html")


def write(groups: Sequence[Group], folder: Path) -> Path:
    """Write listening.html with all that it needs, sounds included; it appears complete or not at all."""
    return listening.write(
        folder / "listening.html",
        TEMPLATE,
        title="A synthesiser learned from its notes",
        sections=[_section(group, folder) for group in groups],
    )


def _section(group: Group, folder: Path) -> dict[str, Any]:
    bad = figures.worst(group)
    exact, other = (figures.arrays_of(folder, group, form) for form in (RECURSION, bad))
    versions: list[tuple[str, str | None, np.ndarray]] = [
        ("Target", None, exact["target"]),
        ("Trained in the recursion", RECURSION, exact["recursion"]),
        (f"Trained in windows of {bad}, played as recursion", bad, other["recursion"]),
        (f"Trained and played in windows of {bad}", None, other["own"]),
    ]
    phrases = [in_a_row(x) for _, _, x in versions]
    gain = listening.common_gain(phrases)
    return {
        "title": f"{evaluate.TITLES[group.notes].capitalize()}, {evaluate.FILTERS[group.filter]}",
        "versions": [
            (
                name,
                listening.encoded(gain * x, config.FS),
                f"{evaluate.mean(group.forms[form], RECURSION):.3f}" if form else "",
            )
            for (name, form, _), x in zip(versions, phrases, strict=True)
        ],
    }


def in_a_row(notes: np.ndarray) -> np.ndarray:
    """The first notes (n, n_samples) one after the other, some silence between them."""
    return np.pad(notes[:NOTES], ((0, 0), (0, GAP))).reshape(-1)
