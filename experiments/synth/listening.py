"""The page to listen: test notes in a row, as they should be and as each network plays them, in one file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from importlib import resources
from pathlib import Path

import numpy as np

from experiments.synth import config, pictures, tables
from experiments.synth.protocol import RECURSION
from experiments.synth.tables import Group
from jaxapf._internal.files import write_text
from jaxapf._internal.version import __version__
from jaxapf.report import players

NOTES = 10  # in a row
GAP = 1200  # samples of silence between them: 25 ms
CEILING = 10 ** (-1 / 20)  # -1 dBFS
POLICY = "default-src 'none'; media-src data:; img-src data:; style-src 'unsafe-inline'"


def write(groups: Sequence[Group], folder: Path) -> Path:
    """Write listening.html with all that it needs, sounds included; it appears complete or not at all."""
    sections = "\n".join(_section(group, folder) for group in groups)
    path = folder / "listening.html"
    write_text(path, page(sections))
    return path


def page(sections: str) -> str:
    """The page as text, in the colours and type of the package's report."""
    head, report = (
        resources.files("jaxapf.report").joinpath(name).read_text(encoding="utf-8")
        for name in ("head.html", "template.html")
    )
    parts = {
        "version": escape(__version__),
        "title": "A synthesiser learned from its notes",
        "policy": POLICY,
        "style": report.partition("<style>")[2].partition("</style>")[0].strip(),
        "sections": sections,
    }
    template = head + Path(__file__).with_name("template.html").read_text(encoding="utf-8")
    # one pass, so that braces in a name are never taken for a placeholder
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


def _section(group: Group, folder: Path) -> str:
    bad = pictures.worst(group)
    exact, other = (pictures.arrays_of(folder, group, form) for form in (RECURSION, bad))
    versions: list[tuple[str, str | None, np.ndarray]] = [
        ("Target", None, exact["target"]),
        ("Trained in the recursion", RECURSION, exact["recursion"]),
        (f"Trained in windows of {bad}, played as recursion", bad, other["recursion"]),
        (f"Trained and played in windows of {bad}", None, other["own"]),
    ]
    phrases = [in_a_row(x) for _, _, x in versions]
    gain = CEILING / max(float(np.max(np.abs(x))) for x in phrases)
    rows = "".join(
        _row(name, tables.mean(group.forms[form], RECURSION) if form else None, gain * x)
        for (name, form, _), x in zip(versions, phrases, strict=True)
    )
    title = f"{tables.TITLES[group.notes].capitalize()}, {tables.FILTERS[group.filter]}"
    return (
        f'<section><h2>{escape(title)}</h2><div class="scroll"><table><thead><tr><th scope="col">Version</th>'
        f'<th scope="col">Listen</th><th scope="col" class="n">Loss</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div></section>"
    )


def _row(name: str, loss: float | None, x: np.ndarray) -> str:
    sound = players._flac(x, config.FS)
    said = "" if loss is None else f"{loss:.3f}"
    return (
        f'<tr><th scope="row">{escape(name)}</th><td>'
        f'<audio controls preload="none" aria-label="{escape(name)}" src="data:audio/flac;base64,{sound}">'
        f'</audio></td><td class="n">{said}</td></tr>'
    )


def in_a_row(notes: np.ndarray) -> np.ndarray:
    """The first notes (n, n_samples) one after the other, some silence between them."""
    return np.pad(notes[:NOTES], ((0, 0), (0, GAP))).reshape(-1)
