"""Pages to listen: sounds with one gain inside the page, their outlines, and what is checked beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from jaxapf import audio
from jaxapf.report import players
from jaxapf.report.rendering import render

__all__ = ["CEILING", "check", "common_gain", "encoded", "outline", "write"]

CEILING = 10 ** (-1 / 20)  # -1 dBFS


def write(path: str | PathLike[str], template: Path, **values: Any) -> Path:
    """Write a page, complete or not at all; `template` extends the package's `base.html`."""
    audio.write_text(path, render(template.name, template.parent, **values))
    return Path(path)


def common_gain(sounds: Sequence[np.ndarray]) -> float:
    """Return one gain for all: the highest peak among them becomes -1 dBFS; 1 for silence.

    Example:
        >>> common_gain([np.array([0.1, -0.5]), np.array([0.25])]) == CEILING / 0.5
        True
    """
    peak = max(float(np.max(np.abs(x))) for x in sounds)
    return CEILING / peak if peak > 1e-9 else 1.0


def encoded(x: np.ndarray, fs: int) -> str:
    """Return a sound (n_samples,) as FLAC in base64, at most at the rate that browsers play."""
    rate = min(int(fs), players.PLAYER_FS)
    return players.flac(audio.resample(np.asarray(x, np.float64), int(fs), rate), rate)


def outline(x: np.ndarray, columns: int = 150, height: int = 100) -> Markup:
    """Return the outline of a signal (n_samples,) as SVG, from full scale to full scale.

    Example:
        >>> print(outline(np.array([1.0, -0.5])).partition("<path")[2])
         d="M0 0V1M1 0V75"/></svg>
    """
    starts = np.unique(np.linspace(0, len(x), columns, endpoint=False).astype(int))
    high, low = np.maximum.reduceat(x, starts), np.minimum.reduceat(x, starts)
    # A column reaches to where the one before ended, so that the outline has no gaps.
    high[1:], low[1:] = np.maximum(high[1:], x[starts[1:] - 1]), np.minimum(low[1:], x[starts[1:] - 1])
    tops, ends = (np.round(height / 2 * (1 - side)).astype(int) for side in (high, low))
    path = "".join(
        f"M{at} {top}V{end + (top == end)}" for at, (top, end) in enumerate(zip(tops, ends, strict=True))
    )
    return Markup(
        f'<svg viewBox="-1 0 {len(starts) + 1} {height}" preserveAspectRatio="none" aria-hidden="true">'
        f'<path d="{path}"/></svg>'
    )


def check(owner: str, sounds: Mapping[str, Any], *, one_length: bool = True) -> None:
    """Refuse sounds that cannot be played.

    Args:
        owner: what they belong to, such as "pair '00'".
        sounds: (n_samples,) by name.
        one_length: whether all must be as long as the first.

    Raises:
        ValueError: none, an empty one, another shape, or samples that are NaN or infinite.
    """
    if not sounds:
        raise ValueError(f"{owner} has no versions; give at least one sound to listen to")
    first = np.shape(next(iter(sounds.values())))
    for name, sound in sounds.items():
        shape = np.shape(sound)
        if len(shape) != 1 or shape == (0,) or (one_length and shape != first):
            raise ValueError(
                f"{owner} has '{name}' of shape {shape}; expected (n_samples,), not empty"
                + (f", as long as the first version, which is {first}" if one_length else "")
            )
        if not np.isfinite(sound).all():
            raise ValueError(f"{owner}: '{name}' holds NaN or infinite samples")
