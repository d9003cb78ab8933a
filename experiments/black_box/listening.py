"""Listening material: mixes of dry and wet, clean and compensated, as files and on a page for blind A/B.

For each effect and each share of wet m, two files: clean, (1 - m) dry + m wet, and compensated,
(1 - m) aligned + m wet. As in the listening test of Bargum et al. 2023 (section 5.2), a pair is normalised
with one gain, and neither of the two is made as loud as the other: what a mix loses by cancellation is part
of what is compared.

Which file of a pair is the compensated one follows from neither its name nor its place, but from a token in
the page: the parity of the token's bits, even for file 1 and odd for file 2.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.common import listening
from jaxapf import audio

FS = 48_000
SECONDS = 12.0
SHARES = (25, 50, 75)  # per cent of wet
FADE_S = 0.01
PAGE = "index.html"
TEMPLATE = Path(__file__).with_name("template.html")

Segment = tuple[str, float, float]


class Effect(NamedTuple):
    """An effect's name, the signals (n_samples,), and their rate in Hz."""

    name: str
    dry: Any
    wet: Any
    aligned: Any
    fs: int


class Piece(NamedTuple):
    """A stretch of the signals, in samples at FS, with a name to choose it by."""

    name: str
    start: int
    stop: int


def write_page(
    folder: Path, title: str, effects: Sequence[Effect], *, segments: Sequence[Segment] = ()
) -> Path:
    """Write the files and the page, the page last; each appears complete or not at all.

    Args:
        folder: made if missing.
        title: heading of the page.
        effects: what can be listened to; all of one length in seconds.
        segments: (name, start_s, end_s) of parts of the signals. From each the beginning is taken, equally
            long, so that they make up 12 s in all; on the page one of them can be repeated alone. Without
            any, the first 12 s are taken.

    Returns:
        The page: folder/index.html.

    Raises:
        ValueError: nothing to listen to, names that give the same file name, signals or segments that do not
            fit, samples that are NaN or infinite.
        AudioError: a file cannot be written.
    """
    stems = _stems(effects)
    for effect in effects:
        _check(effect, segments)
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise audio.AudioError(
            f"'{folder}' cannot be made: {(error.strerror or str(error)).lower()}; choose another folder"
        ) from error
    trials, parts = [], []
    for effect, stem in zip(effects, stems, strict=True):
        dry, wet, aligned = (audio.resample(np.asarray(x, np.float64), effect.fs, FS) for x in effect[1:4])
        pieces = chosen(len(wet), segments)
        dry, wet, aligned = (excerpt(x, pieces) for x in (dry, wet, aligned))
        for share in SHARES:
            name = f"{stem}_{share}"
            pair = normalised(mixed(dry, wet, share), mixed(aligned, wet, share))
            token = hashlib.sha256(f"{title}/{name}".encode()).hexdigest()[:16]
            for number, x in enumerate(pair[::-1] if is_first(token) else pair, start=1):
                audio.write(folder / f"{name}_{number}.flac", x, FS, subtype="PCM_24")
            trials.append({"effect": _words(effect.name), "wet": share, "files": name, "token": token})
        parts = places(pieces)
    return listening.write(folder / PAGE, TEMPLATE, title=title, trials=trials, parts=parts)


def mixed(dry: np.ndarray, wet: np.ndarray, share: float) -> np.ndarray:
    """`share` per cent of wet in dry."""
    return (1 - share / 100) * dry + share / 100 * wet


def normalised(*signals: np.ndarray) -> tuple[np.ndarray, ...]:
    """One gain for all: the highest peak among them becomes -1 dBFS."""
    gain = listening.common_gain(signals)
    return tuple(gain * x for x in signals)


def is_first(token: str) -> bool:
    """Whether file 1 of a pair is the compensated one."""
    return int(token, 16).bit_count() % 2 == 0


# Excerpts


def chosen(n_samples: int, segments: Sequence[Segment]) -> list[Piece]:
    """The stretches to listen to: equal shares of SECONDS, or the first SECONDS."""
    if not segments:
        return [Piece("", 0, min(n_samples, round(SECONDS * FS)))]
    longest = SECONDS / len(segments)
    return [
        Piece(name, round(start * FS), min(round(min(end, start + longest) * FS), n_samples))
        for name, start, end in segments
    ]


def excerpt(x: np.ndarray, pieces: Sequence[Piece]) -> np.ndarray:
    """The stretches one after another, each faded in and out."""
    return np.concatenate([_faded(x[piece.start : piece.stop]) for piece in pieces])


def _faded(x: np.ndarray) -> np.ndarray:
    n = min(round(FADE_S * FS), len(x) // 4)
    slope = np.sin(0.5 * np.pi * (np.arange(n) + 0.5) / max(n, 1)) ** 2
    return x * np.concatenate([slope, np.ones(len(x) - 2 * n), slope[::-1]])


def places(pieces: Sequence[Piece]) -> list[dict[str, Any]]:
    """Where in the files each stretch is, in seconds; nothing where there is but one."""
    ends = np.cumsum([piece.stop - piece.start for piece in pieces]) / FS
    starts = [0.0, *ends[:-1]]
    found = [
        {"name": _words(piece.name), "start": float(start), "end": float(end)}
        for piece, start, end in zip(pieces, starts, ends, strict=True)
    ]
    return found if len(found) > 1 else []


def _words(name: str) -> str:
    return name.replace("_", " ")


# Checks


def _stems(effects: Sequence[Effect]) -> list[str]:
    if not effects:
        raise ValueError("effects is empty; give at least one effect to listen to")
    stems = [re.sub(r"[^a-z0-9]+", "-", effect.name.lower()).strip("-") for effect in effects]
    if "" in stems or len(set(stems)) < len(stems):
        names = ", ".join(repr(effect.name) for effect in effects)
        raise ValueError(f"effects are named {names}; give names that differ in letters or digits (a-z, 0-9)")
    return stems


def _check(effect: Effect, segments: Sequence[Segment]) -> None:
    shapes = {label: np.shape(x) for label, x in zip(("dry", "wet", "aligned"), effect[1:4], strict=True)}
    if len(set(shapes.values())) > 1 or len(shapes["dry"]) != 1 or shapes["dry"] == (0,):
        raise ValueError(
            f"effect '{effect.name}' has shapes {shapes}; expected one shape (n_samples,), not empty"
        )
    for label, x in zip(shapes, effect[1:4], strict=True):
        if not np.isfinite(x).all():
            raise ValueError(f"effect '{effect.name}': {label} holds NaN or infinite samples; mend the model")
    length_s = shapes["dry"][0] / effect.fs
    for name, start, end in segments:
        if not 0 <= start < end <= length_s + 0.01:
            raise ValueError(
                f"segments has '{name}' from {start:g} to {end:g} s; expected a stretch within the "
                f"{length_s:g} s of effect '{effect.name}'"
            )
