"""The page to listen: the device and its models on the unseen guitar, in one file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxapf._internal.files import PathLike, write_text
from jaxapf._internal.version import __version__
from jaxapf.report import players

CEILING = 10 ** (-1 / 20)  # -1 dBFS
COLUMNS, HEIGHT = 240, 60  # of a drawing
POLICY = (
    "default-src 'none'; media-src data:; img-src data:; style-src 'unsafe-inline';"
    " script-src 'unsafe-inline'"
)


class Version(NamedTuple):
    """A signal to hear `(n_samples,)`: its name, and its ESR in per cent or a few words."""

    name: str
    sound: np.ndarray
    figure: str


class Piece(NamedTuple):
    """One device: its name, a sentence about it, its versions, all as long, and their rate."""

    name: str
    about: str
    versions: Sequence[Version]
    fs: int


def write_page(path: PathLike, title: str, pieces: Sequence[Piece]) -> Path:
    """Write one HTML file with all that it needs, sounds included; it appears complete or not at all.

    Args:
        path: file to write.
        title: its heading.
        pieces: what is to be heard.

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
        _check(piece)
    head, report = (_report(name) for name in ("head.html", "template.html"))
    parts = {
        "version": escape(__version__),
        "title": escape(title),
        "policy": POLICY,
        "style": report.partition("<style>")[2].partition("</style>")[0].strip(),
        "pieces": "\n".join(_piece(number, piece) for number, piece in enumerate(pieces, 1)),
    }
    template = head + Path(__file__).with_name("template.html").read_text(encoding="utf-8")
    # one pass, so that braces in a name are never taken for a placeholder
    write_text(path, re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template))
    return Path(path)


def _report(name: str) -> str:
    """A file of the package's report, whose colours, type and buttons the page shares."""
    return resources.files("jaxapf.report").joinpath(name).read_text(encoding="utf-8")


def _piece(number: int, piece: Piece) -> str:
    peak = max(float(np.max(np.abs(version.sound))) for version in piece.versions)
    gain = CEILING / peak if peak > 1e-9 else 1.0
    rows = "".join(_row(version, gain, piece.fs) for version in piece.versions)
    return (
        f'<section class="piece" aria-labelledby="piece-{number}"><h2 id="piece-{number}">'
        f"{escape(piece.name)}</h2><p>{escape(piece.about)}</p>{rows}</section>"
    )


def _row(version: Version, gain: float, fs: int) -> str:
    sound = gain * np.asarray(version.sound, np.float64)
    name, flac = escape(version.name), players._flac(sound, fs)
    return (
        f'<div class="row"><div class="name"><strong>{name}</strong>'
        f"<span>{escape(version.figure)}</span></div>"
        f'<span class="wave">{outline(sound)}</span>'
        f'<audio controls preload="none" aria-label="{name}" src="data:audio/flac;base64,{flac}">'
        "</audio></div>"
    )


def outline(x: np.ndarray) -> str:
    """The outline of a signal `(n_samples,)` as SVG, from full scale to full scale.

    Example:
        >>> outline(np.array([1.0, -0.5])).partition("M")[2].partition('"')[0]
        '0 0V31M1 30V45'
    """
    starts = np.unique(np.linspace(0, len(x), COLUMNS, endpoint=False).astype(int))
    high = np.maximum(np.maximum.reduceat(x, starts), 0)
    low = np.minimum(np.minimum.reduceat(x, starts), 0)
    tops, ends = (np.round(HEIGHT / 2 * (1 - side)).astype(int) for side in (high, low))
    path = "".join(
        f"M{at} {top}V{max(end, top + 1) + (end == HEIGHT // 2)}"
        for at, (top, end) in enumerate(zip(tops, ends, strict=True))
    )
    return (
        f'<svg viewBox="-1 0 {len(starts) + 1} {HEIGHT}" preserveAspectRatio="none" aria-hidden="true">'
        f'<path d="{path}"/></svg>'
    )


def _check(piece: Piece) -> None:
    if not piece.versions:
        raise ValueError(f"piece '{piece.name}' has no versions; give at least one")
    first = np.shape(piece.versions[0].sound)
    for version in piece.versions:
        shape = np.shape(version.sound)
        if shape != first or len(shape) != 1 or shape == (0,):
            raise ValueError(
                f"piece '{piece.name}' has '{version.name}' of shape {shape}; expected (n_samples,), not "
                f"empty, as long as the first version, which is {first}"
            )
        if not np.isfinite(version.sound).all():
            raise ValueError(f"piece '{piece.name}': '{version.name}' holds samples that are not finite")
