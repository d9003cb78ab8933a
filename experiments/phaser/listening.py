"""The page to listen: the device and its models on the unseen guitar, in one file."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.common import listening

TEMPLATE = Path(__file__).with_name("template.html")


class Version(NamedTuple):
    """A signal `(n_samples,)`: its name, and its ESR in per cent or a few words."""

    name: str
    sound: np.ndarray
    figure: str


class Piece(NamedTuple):
    """One device: its name, a sentence about it, its versions, all as long, and their rate."""

    name: str
    about: str
    versions: Sequence[Version]
    fs: int


def write_page(path: str | PathLike[str], title: str, pieces: Sequence[Piece]) -> Path:
    """Write one HTML file with all that it needs, sounds included; it appears complete or not at all.

    Args:
        path: file to write.
        title: its heading.
        pieces: the devices.

    Returns:
        The page.

    Raises:
        ValueError: nothing to listen to, versions of several lengths, samples that are not finite.
        AudioError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> versions = [Version("dry", np.sin(np.arange(900.0)), ""), Version("fit", np.ones(900), "0.01 %")]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     page = write_page(f"{folder}/page.html", "Phaser", [Piece("slow", "a", versions, 8000)])
        ...     page.read_text(encoding="utf-8").count("<audio")
        2
    """
    if not pieces:
        raise ValueError("pieces is empty; give at least one to listen to")
    for piece in pieces:
        sounds = {version.name: version.sound for version in piece.versions}
        listening.check(f"piece '{piece.name}'", sounds)
    return listening.write(path, TEMPLATE, title=title, pieces=list(map(_piece, pieces)))


def _piece(piece: Piece) -> dict[str, Any]:
    gain = listening.common_gain([version.sound for version in piece.versions])
    versions = [
        {
            "name": version.name,
            "figure": version.figure,
            "wave": listening.outline(gain * version.sound, 240, 60),
            "sound": listening.encoded(gain * version.sound, piece.fs),
        }
        for version in piece.versions
    ]
    return {"name": piece.name, "about": piece.about, "versions": versions}
