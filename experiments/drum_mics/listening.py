"""The page to listen: the mixes of each pair, version by version, in one file.

The versions of a pair share one gain, and none is made as loud as another: what a mix loses by cancellation
is part of the comparison.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common import listening
from jaxapf import report

FADE_S = 0.005  # at the end, where a recording was cut
TEMPLATE = Path(__file__).with_name("template.html")

Entry = Mapping[str, Any]


def write_page(path: str | PathLike[str], title: str, entries: Sequence[Entry]) -> Path:
    """Write one HTML file with all that it needs, sounds included; it appears complete or not at all.

    Args:
        path: file to write.
        title: its heading.
        entries: a pair each: `pair`, its name; `about`, a few words; `fs`, sample rate in Hz; `versions`,
            each with `name`, `mix` (n_samples,) of one length, and its figures `correlation` and
            `mix_rms_db`. The first version is the one that others are compared with.

    Returns:
        The page.

    Raises:
        ValueError: nothing to listen to; a mix of another length, or with samples that are NaN or infinite.
        AudioError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> mix = np.sin(np.arange(4800) / 20.0)
        >>> versions = [
        ...     {"name": name, "mix": gain * mix, "correlation": gain, "mix_rms_db": -3.0}
        ...     for name, gain in (("as is", 0.1), ("network", 0.9))
        ... ]
        >>> entries = [{"pair": "00", "about": "snare, near and far", "fs": 48000, "versions": versions}]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     page = write_page(f"{folder}/page.html", "Drums", entries).read_text(encoding="utf-8")
        >>> page.count("<audio"), "snare, near and far" in page
        (2, True)
    """
    if not entries:
        raise ValueError("entries is empty; give at least one pair to listen to")
    for entry in entries:
        sounds = {version["name"]: version["mix"] for version in entry["versions"]}
        listening.check(f"entry '{entry['pair']}'", sounds)
    return listening.write(path, TEMPLATE, title=title, pairs=list(map(_pair, entries)))


def _pair(entry: Entry) -> dict[str, Any]:
    mixes = [np.asarray(version["mix"], np.float64) for version in entry["versions"]]
    gain = listening.common_gain(mixes)
    gain_db = 20 * math.log10(gain)
    first = float(entry["versions"][0]["mix_rms_db"])
    best = max(float(version["correlation"]) for version in entry["versions"])
    versions = []
    for version, x in zip(entry["versions"], mixes, strict=True):
        level_db, correlation = float(version["mix_rms_db"]), float(version["correlation"])
        change_db = level_db - first if versions else math.nan
        versions.append(
            {
                "name": version["name"],
                "wave": listening.outline(gain * x),
                "sound": listening.encoded(_faded(gain * x, entry["fs"]), entry["fs"]),
                "best": correlation == best,
                "figures": (
                    report.fixed(level_db),
                    report.fixed(change_db, signed=True) if math.isfinite(change_db) else "–",
                    report.fixed(correlation, 3),
                ),
            }
        )
    return {
        "name": f"Pair {entry['pair']}",
        "about": entry["about"],
        "versions": versions,
        "loudness": f"{abs(gain_db):.1f} dB {'louder' if gain_db > 0 else 'softer'} than recorded",
    }


def _faded(x: np.ndarray, fs: int) -> np.ndarray:
    n = min(round(FADE_S * fs), len(x) // 4)
    slope = np.cos(0.5 * np.pi * (np.arange(n) + 0.5) / max(n, 1)) ** 2
    return x * np.concatenate([np.ones(len(x) - n), slope])
