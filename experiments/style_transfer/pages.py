"""The page to listen: test clips as input, reference, target, and what each method made, in one file.

All versions of a clip are played equally loud, so that colour and density are compared and not level; what
level each had is beside it. Under the sounds: curves of the equaliser, and the controls, true and predicted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.common import listening
from experiments.style_transfer import figures
from jaxapf import report
from jaxapf.report import players

NARROW = figures.Size(380, 300, 12)
TEMPLATE = Path(__file__).with_name("template.html")


class Version(NamedTuple):
    """A version of a clip: ``audio`` (n_samples,); ``distance`` to the target, MR-STFT, or None."""

    name: str
    audio: np.ndarray
    distance: float | None = None


class Curves(NamedTuple):
    """Gains of the equaliser in dB (bins,): the true ones, and by method the predicted ones."""

    freqs_hz: np.ndarray
    true_db: np.ndarray | None
    predicted_db: Mapping[str, np.ndarray]


class Clip(NamedTuple):
    """A section of the page.

    ``versions`` in their order: input, reference, target, then the methods; all but the reference are the
    same recording at the same time. ``controls`` values in their units by control, by method ("true" is
    one).
    """

    name: str
    about: str
    versions: Sequence[Version]
    curves: Curves | None = None
    controls: Mapping[str, Mapping[str, float]] | None = None


def write(path: str | PathLike[str], clips: Sequence[Clip], fs: int) -> None:
    """Write one HTML file with all that it needs, sounds included; it appears complete or not at all.

    Args:
        path: file to write.
        clips: what is on it.
        fs: sample rate in Hz.

    Raises:
        ValueError: nothing to listen to, or a sound that is empty, NaN or infinite.
        AudioError: the file cannot be written.
    """
    if not clips:
        raise ValueError("clips is empty; give at least one to listen to")
    for clip in clips:
        sounds = {version.name: version.audio for version in clip.versions}
        listening.check(f"clip '{clip.name}'", sounds, one_length=False)
    listening.write(
        path,
        TEMPLATE,
        title="The style of another recording",
        plots=figures.style(),
        clips=[_clip(number, clip, fs) for number, clip in enumerate(clips, 1)],
    )


def _clip(number: int, clip: Clip, fs: int) -> dict[str, Any]:
    controls = clip.controls or {}
    names = dict.fromkeys(name for values in controls.values() for name in values)
    return {
        "name": clip.name,
        "about": clip.about,
        "versions": _versions(clip, fs),
        "curves": [] if clip.curves is None else _curves(number, clip.curves),
        "methods": list(controls),
        "controls": [(name, [_value(values.get(name)) for values in controls.values()]) for name in names],
    }


def _versions(clip: Clip, fs: int) -> list[dict[str, Any]]:
    signals = {version.name: np.asarray(version.audio, np.float64) for version in clip.versions}
    gains = players.equal_loudness(signals)
    distances = [version.distance for version in clip.versions if version.distance]
    best = min((distance for distance in distances if distance > 0), default=math.nan)
    length = len(clip.versions[0].audio)
    return [
        {
            "name": version.name,
            "best": version.distance == best,
            "in_step": version.name != "reference" and len(version.audio) == length,
            "sound": players.flac(gains[version.name][0] * signals[version.name], fs),
            "level": _level(signals[version.name]),
            "distance": "" if version.distance is None else f"{version.distance:.3f}",
        }
        for version in clip.versions
    ]


def _curves(number: int, curves: Curves) -> list[tuple[str, str]]:
    return [
        (kind, figures.equalizers(f"eq-{number}-{kind}", *curves, size=size))
        for kind, size in (("wide", figures.WIDE), ("narrow", NARROW))
    ]


def _level(x: np.ndarray) -> str:
    power = float(np.mean(x**2))
    return report.fixed(10 * math.log10(power)) if power > 1e-14 else "silent"


def _value(value: float | None) -> str:
    large = value is not None and abs(value) >= 1000
    return report.fixed(value, 0) if large else report.number(value, padded=False)
