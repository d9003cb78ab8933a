"""The page to listen: test clips as input, reference, target, and what each method made, in one file.

All versions of a clip are played equally loud, so that colour and density are compared and not level; what
level each had is beside it. Under the sounds: curves of the equaliser, and the controls, true and predicted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.style_transfer import pictures
from jaxapf._internal.files import PathLike, write_text
from jaxapf._internal.version import __version__
from jaxapf.report import players

NARROW = pictures.Size(380, 300, 12)
POLICY = (
    "default-src 'none'; media-src data:; img-src data:; style-src 'unsafe-inline';"
    " script-src 'unsafe-inline'"
)


class Version(NamedTuple):
    """What can be heard of a clip: ``audio`` (n_samples,); ``distance`` to the target, MR-STFT, or None."""

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


def write(path: PathLike, clips: Sequence[Clip], fs: int) -> None:
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
        for version in clip.versions:
            if np.ndim(version.audio) != 1 or not np.size(version.audio):
                raise ValueError(
                    f"clip '{clip.name}': '{version.name}' has shape {np.shape(version.audio)}; expected "
                    "(n_samples,), not empty"
                )
            if not np.isfinite(version.audio).all():
                raise ValueError(f"clip '{clip.name}': '{version.name}' holds NaN or infinite samples")
    sections = "\n".join(_section(number, clip, fs) for number, clip in enumerate(clips, 1))
    write_text(path, page(sections))


def page(sections: str) -> str:
    """The page as text, in the colours and type of the package's report."""
    head, report = (
        resources.files("jaxapf.report").joinpath(name).read_text(encoding="utf-8")
        for name in ("head.html", "template.html")
    )
    parts = {
        "version": escape(__version__),
        "title": "The style of another recording",
        "policy": POLICY,
        "style": report.partition("<style>")[2].partition("</style>")[0].strip(),
        "plots": pictures.style(),
        "sections": sections,
    }
    template = head + Path(__file__).with_name("template.html").read_text(encoding="utf-8")
    # one pass, so that braces in a name are never taken for a placeholder
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


def _section(number: int, clip: Clip, fs: int) -> str:
    title = f'<h2 id="clip-{number}">{escape(clip.name)}</h2><p class="lead">{escape(clip.about)}</p>'
    return (
        f'<section class="clip" aria-labelledby="clip-{number}">{title}{_sounds(clip, fs)}'
        f"{_curves(number, clip.curves)}{_controls(clip)}</section>"
    )


def _sounds(clip: Clip, fs: int) -> str:
    signals = {version.name: np.asarray(version.audio, np.float64) for version in clip.versions}
    gains = players._equal_loudness(signals)
    known = [version.distance for version in clip.versions if version.distance is not None]
    best = min((distance for distance in known if distance > 0), default=None)
    rows = []
    for version in clip.versions:
        x = signals[version.name]
        gain, _ = gains[version.name]
        said = "" if version.distance is None else f"{version.distance:.3f}"
        mark = ' class="best"' if best is not None and version.distance == best else ""
        rows.append(
            f'<tr{mark}><th scope="row">{escape(version.name)}</th><td>{_audio(clip, version, gain * x, fs)}'
            f'</td><td class="n">{_level(x)}</td><td class="n">{said}</td></tr>'
        )
    head = '<th scope="col">Version</th><th scope="col">Listen</th><th scope="col" class="n">RMS, dBFS</th>'
    return (
        f'<div class="scroll"><table class="sounds"><thead><tr>{head}<th scope="col" class="n">MR-STFT to '
        f"target</th></tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _audio(clip: Clip, version: Version, x: np.ndarray, fs: int) -> str:
    label = escape(f"{clip.name}: {version.name}")
    length = len(clip.versions[0].audio)
    same = " data-same" if version.name != "reference" and len(x) == length else ""
    return (
        f'<audio controls{same} preload="none" aria-label="{label}" '
        f'src="data:audio/flac;base64,{players._flac(x, fs)}"></audio>'
    )


def _level(x: np.ndarray) -> str:
    power = float(np.mean(x**2))
    return f"{10 * math.log10(power):.1f}".replace("-", "−") if power > 1e-14 else "silent"


def _curves(number: int, curves: Curves | None) -> str:
    if curves is None:
        return ""
    drawn = "".join(
        f'<div class="{kind}">{pictures.equalizers(f"eq-{number}-{kind}", *curves, size=size)}</div>'
        for kind, size in (("wide", pictures.WIDE), ("narrow", NARROW))
    )
    return f"<figure>{drawn}</figure>"


def _controls(clip: Clip) -> str:
    if not clip.controls:
        return ""
    columns = list(clip.controls)
    names = list(dict.fromkeys(name for values in clip.controls.values() for name in values))
    head = "".join(f'<th scope="col" class="n">{escape(column)}</th>' for column in columns)
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(f'<td class="n">{_value(clip.controls[column].get(name))}</td>' for column in columns)
        + "</tr>"
        for name in names
    )
    return (
        f'<details><summary>Controls</summary><div class="scroll" tabindex="0"><table><thead><tr><td></td>'
        f"{head}</tr></thead><tbody>{rows}</tbody></table></div></details>"
    )


def _value(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    return (f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}").replace("-", "−")
