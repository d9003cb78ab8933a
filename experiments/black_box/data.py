"""The recordings: a sweep through every device to train on, music through it to test on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.black_box import config, devices
from jaxapf import audio

Segment = tuple[str, float, float]


class Effect(NamedTuple):
    """One device: its name, and its recordings, dry and wet, (n_samples,) float32 at `config.FS`."""

    name: str
    sweep: tuple[np.ndarray, np.ndarray]
    loops: tuple[np.ndarray, np.ndarray]

    @property
    def fingerprint(self) -> str:
        """Tells these recordings from others of the same name."""
        signals = (*self.sweep, *self.loops)
        return hashlib.sha256(b"".join(np.ascontiguousarray(x).tobytes() for x in signals)).hexdigest()[:16]


class Source(NamedTuple):
    """Where effects come from: their names, one by its name, and the excerpts of the music by name, in s."""

    names: list[str]
    effect: Callable[[str], Effect]
    segments: list[Segment]


def recorded(folder: Path) -> Source:
    """Recorded devices: `sweep_dry.flac`, `loops_dry_192k.flac`, and a folder with the wet ones for each.

    Raises:
        audio.AudioError: a file is missing or of another rate or length; there is no device.
    """
    names = sorted(path.parent.name for path in folder.glob("*/sweep_wet.flac"))
    if not names:
        raise audio.AudioError(
            f"'{folder}' has no device; expected sweep_dry.flac, loops_dry_192k.flac and, for each device, "
            "a folder with sweep_wet.flac and loops_wet_192k.flac"
        )

    def effect(name: str) -> Effect:
        pairs = (
            (folder / f"{what}_dry{rate}.flac", folder / name / f"{what}_wet{rate}.flac")
            for what, rate in (("sweep", ""), ("loops", "_192k"))
        )
        return Effect(name, *(_pair(*paths) for paths in pairs))

    return Source(names, effect, _segments(folder))


def _segments(folder: Path) -> list[Segment]:
    """What the music holds, where `loops_segments.json` says it: lists of name, start_s, end_s by rate."""
    path = folder / "loops_segments.json"
    if not path.exists():
        return []
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["loops_192k"]
        return [(str(row["name"]), float(row["start_s"]), float(row["end_s"])) for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise audio.AudioError(f"'{path}' cannot be read ({error}); mend it or take it away") from error


def embedded() -> Source:
    """The devices of devices.py, synthesised."""
    made, (music, fs, segments) = devices.devices(), devices.loops()

    def effect(name: str) -> Effect:
        signals = (devices.sweep(fs), music)
        pairs = ((x.astype(np.float32), made[name](x, fs).astype(np.float32)) for x in signals)
        return Effect(name, *pairs)

    return Source(list(made), effect, segments)


def _pair(dry_path: Path, wet_path: Path) -> tuple[np.ndarray, np.ndarray]:
    signals = []
    for path in (dry_path, wet_path):
        x, fs = audio.read(path)
        if fs != config.FS or len(x) != 1:
            raise audio.AudioError(
                f"'{path}' has {len(x)} channels at {fs} Hz; expected one at {config.FS} Hz, resample it"
            )
        signals.append(x[0])
    if len(signals[0]) != len(signals[1]):
        raise audio.AudioError(
            f"'{wet_path}' has {len(signals[1])} samples and '{dry_path}' {len(signals[0])}; "
            "expected equally many, trim both"
        )
    return signals[0], signals[1]
