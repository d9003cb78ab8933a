"""The page to listen: dry, the device, ours, and what differs, in one file with the sounds in it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from typing import Any

import numpy as np

from jaxapf import audio
from jaxapf._internal.files import PathLike, write_text
from jaxapf._internal.version import __version__
from jaxapf.report import players

CEILING = 10 ** (-1 / 20)  # -1 dBFS
RATE = 44_100
POLICY = "default-src 'none'; media-src data:; img-src data:; style-src 'unsafe-inline'"
STYLE = """
section { margin: 2rem 0 0; border-top: 1px solid var(--rule); }
dl.sounds { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .5rem 1rem; }
dl.sounds dt { align-self: center; }
dl.sounds dd { margin: 0; }
dl.sounds audio { width: 100%; }
@media (max-width: 640px) { dl.sounds { grid-template-columns: minmax(0, 1fr); } }
"""


def write_page(path: PathLike, title: str, entries: Sequence[Mapping[str, Any]]) -> None:
    """Write the page, complete or not at all.

    Args:
        path: file to write.
        title: its heading.
        entries: a device each: `name`; `about`, a sentence; `fs`; `sounds`, signals (n_samples,) by name,
            which share one gain, so that levels can be compared; `figures`, text by name.
    """
    head, report = (
        resources.files("jaxapf.report").joinpath(name).read_text(encoding="utf-8")
        for name in ("head.html", "template.html")
    )
    style = report.partition("<style>")[2].partition("</style>")[0].strip()
    for name, value in (("policy", POLICY), ("version", escape(__version__)), ("title", escape(title))):
        head = head.replace("{{" + name + "}}", value)
    body = "\n".join(_entry(number, entry) for number, entry in enumerate(entries, 1))
    lead = "Levels are as recorded, all versions of a device alike; the difference is ours minus the device."
    write_text(
        path,
        f"{head}<style>{style}{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{escape(title)}</h1>\n"
        f'<p class="lead">{lead}</p>\n{body}\n</main>\n</body>\n</html>\n',
    )


def _entry(number: int, entry: Mapping[str, Any]) -> str:
    peak = max(float(np.max(np.abs(x))) for x in entry["sounds"].values())
    gain = CEILING / peak if peak > 0 else 1.0
    rows = "".join(
        f"<dt>{escape(name)}</dt><dd>{_audio(name, entry, gain * x)}</dd>"
        for name, x in entry["sounds"].items()
    )
    figures = "; ".join(f"{escape(name)} {escape(value)}" for name, value in entry["figures"].items())
    gain_db = 20 * math.log10(gain)
    return (
        f'<section aria-labelledby="device-{number}"><h2 id="device-{number}">{escape(entry["name"])}</h2>'
        f"<p>{escape(entry['about'])}</p>"
        f'<dl class="sounds">{rows}</dl><p class="lead">{figures}. Played {gain_db:+.1f} dB.</p></section>'
    )


def _audio(name: str, entry: Mapping[str, Any], x: np.ndarray) -> str:
    rate = min(int(entry["fs"]), RATE)
    data = players._flac(audio.resample(x, int(entry["fs"]), rate), rate)
    label = escape(f"{entry['name']}: {name}")
    return f'<audio controls preload="none" aria-label="{label}" src="data:audio/flac;base64,{data}"></audio>'
