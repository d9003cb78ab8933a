"""The page to listen: dry, the device, ours, and the difference, in one file with the sounds in it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from experiments.common import listening

TEMPLATE = Path(__file__).with_name("template.html")


def write_page(path: str | PathLike[str], title: str, entries: Sequence[Mapping[str, Any]]) -> None:
    """Write the page, complete or not at all.

    Args:
        path: file to write.
        title: its heading.
        entries: a device each: `name`; `about`, a sentence; `fs`; `sounds`, signals (n_samples,) by name,
            which share one gain, so that levels can be compared; `figures`, text by name.
    """
    listening.write(path, TEMPLATE, title=title, devices=list(map(_device, entries)))


def _device(entry: Mapping[str, Any]) -> dict[str, Any]:
    gain = listening.common_gain(list(entry["sounds"].values()))
    return {
        "name": entry["name"],
        "about": entry["about"],
        "sounds": [(name, listening.encoded(gain * x, entry["fs"])) for name, x in entry["sounds"].items()],
        "figures": "; ".join(f"{name} {value}" for name, value in entry["figures"].items()),
        "gain": f"{20 * math.log10(gain):+.1f}",
    }
