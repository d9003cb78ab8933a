"""The page to listen: the mixes of each pair, version by version, in one file.

What a mix loses by cancellation is what is to be heard. So the versions of a pair share one gain, and none
is made as loud as another.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from jaxapf import audio
from jaxapf._internal.files import PathLike, write_text
from jaxapf._internal.version import __version__
from jaxapf.report import players

CEILING = 10 ** (-1 / 20)  # -1 dBFS
MOST_FS = 48_000  # every browser plays it, nobody hears more
FADE_S = 0.005  # at the end, where a recording was cut
KEYS = 9
COLUMNS, HEIGHT = 150, 100  # of a drawing
POLICY = (
    "default-src 'none'; media-src data:; img-src data:; style-src 'unsafe-inline';"
    " script-src 'unsafe-inline'"
)

Entry = Mapping[str, Any]


def write_page(path: PathLike, title: str, entries: Sequence[Entry]) -> Path:
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
        _check(entry)
    pairs = "\n".join(_pair(number, entry) for number, entry in enumerate(entries, 1))
    write_text(path, page(title, pairs))
    return Path(path)


def page(title: str, pairs: str) -> str:
    """The page as text, given its pairs as HTML."""
    head, report = (_report(name) for name in ("head.html", "template.html"))
    parts = {
        "version": escape(__version__),
        "title": escape(title),
        "policy": POLICY,
        "style": report.partition("<style>")[2].partition("</style>")[0].strip(),
        "pairs": pairs,
    }
    template = head + Path(__file__).with_name("listening.html").read_text(encoding="utf-8")
    # one pass, so that braces in a name are never taken for a placeholder
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


def _report(name: str) -> str:
    """A file of the package's report, whose colours, type, buttons and tables the page shares."""
    return resources.files("jaxapf.report").joinpath(name).read_text(encoding="utf-8")


# A pair


def _pair(number: int, entry: Entry) -> str:
    mixes = [np.asarray(version["mix"], np.float64) for version in entry["versions"]]
    gain = common_gain(mixes)
    name = f"Pair {escape(str(entry['pair']))}"
    tiles = "".join(
        _tile(key, str(version["name"]), x, gain, entry["fs"])
        for key, (version, x) in enumerate(zip(entry["versions"], mixes, strict=True), 1)
    )
    about = escape(str(entry["about"]))
    gain_db = 20 * math.log10(gain)
    loudness = f"{_number(abs(gain_db), '.1f')} dB {'louder' if gain_db > 0 else 'softer'} than recorded"
    return (
        f'<section class="pair" aria-labelledby="pair-{number}" data-name="{name}">'
        f'<h2 id="pair-{number}">{name} <span>{about}</span></h2>'
        f'<div class="tiles" role="group" aria-label="Versions of {name}">{tiles}</div>'
        f"{_table(name, entry['versions'])}"
        f'<p class="lead gain">Played {loudness}, all versions alike.</p></section>'
    )


def common_gain(mixes: Sequence[np.ndarray]) -> float:
    """One gain for all: the highest peak among them becomes -1 dBFS; 1 for silence.

    Example:
        >>> common_gain([np.array([0.1, -0.5]), np.array([0.25])]) == CEILING / 0.5
        True
    """
    peak = max(float(np.max(np.abs(x))) for x in mixes)
    return CEILING / peak if peak > 1e-9 else 1.0


def _tile(key: int, name: str, x: np.ndarray, gain: float, fs: int) -> str:
    rate = min(fs, MOST_FS)
    sound = players._flac(audio.resample(_faded(gain * x, fs), fs, rate), rate)
    label = f"<kbd>{key}</kbd> " if key <= KEYS else ""
    return (
        f'<div class="tile"><button type="button" aria-pressed="false" data-name="{escape(name)}">'
        f'<span class="name">{label}{escape(name)}</span><span class="wave">{waveform(gain * x)}'
        f'</span></button><audio controls preload="none" src="data:audio/flac;base64,{sound}"></audio></div>'
    )


def _faded(x: np.ndarray, fs: int) -> np.ndarray:
    n = min(round(FADE_S * fs), len(x) // 4)
    slope = np.cos(0.5 * np.pi * (np.arange(n) + 0.5) / max(n, 1)) ** 2
    return x * np.concatenate([np.ones(len(x) - n), slope])


def waveform(x: np.ndarray) -> str:
    """The outline of a signal (n_samples,) as SVG, from full scale to full scale.

    Example:
        >>> waveform(np.array([1.0, -0.5])).partition("M")[2].partition('"')[0]
        '0 0V1M1 0V75'
    """
    starts = np.unique(np.linspace(0, len(x), COLUMNS, endpoint=False).astype(int))
    high, low = np.maximum.reduceat(x, starts), np.minimum.reduceat(x, starts)
    # A column reaches to where the one before ended, so that the outline has no gaps.
    high[1:], low[1:] = np.maximum(high[1:], x[starts[1:] - 1]), np.minimum(low[1:], x[starts[1:] - 1])
    tops, ends = (np.round(HEIGHT / 2 * (1 - side)).astype(int) for side in (high, low))
    path = "".join(
        f"M{at} {top}V{end + (top == end)}" for at, (top, end) in enumerate(zip(tops, ends, strict=True))
    )
    return (
        f'<svg viewBox="-1 0 {len(starts) + 1} {HEIGHT}" preserveAspectRatio="none" aria-hidden="true">'
        f'<path d="{path}"/></svg>'
    )


def _table(name: str, versions: Sequence[Entry]) -> str:
    first = float(versions[0]["mix_rms_db"])
    best = max(float(version["correlation"]) for version in versions)
    rows = []
    for number, version in enumerate(versions):
        level, correlation = float(version["mix_rms_db"]), float(version["correlation"])
        cells = (
            _number(level, ".1f"),
            _signed(level - first) if number and math.isfinite(level - first) else "–",
            _number(correlation, ".3f"),
        )
        row = "".join(f'<td class="n">{cell}</td>' for cell in cells)
        kind = ' class="best"' if correlation == best else ""
        rows.append(f'<tr{kind}><th scope="row">{escape(str(version["name"]))}</th>{row}</tr>')
    columns = ("RMS of the mix, dBFS", "Against the first, dB", "Correlation")
    head = "".join(f'<th scope="col" class="n">{column}</th>' for column in columns)
    return (
        f'<div class="scroll"><table><caption class="said">Figures of {name}</caption><thead><tr>'
        f"<td></td>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _number(value: float, form: str) -> str:
    """A number as it is printed.

    Example:
        >>> _number(-12.34, ".1f"), _number(-math.inf, ".1f"), _number(math.nan, ".1f")
        ('−12.3', '−∞', '–')
    """
    if math.isnan(value):
        return "–"
    text = f"{abs(value):{form}}" if math.isfinite(value) else "∞"
    return f"−{text}" if value < 0 and text.strip("0.") else text


def _signed(value: float) -> str:
    text = _number(value, ".1f")
    return text if text.startswith("−") or not text.strip("0.") else f"+{text}"


# Checks


def _check(entry: Entry) -> None:
    pair, versions = entry["pair"], entry["versions"]
    if not versions:
        raise ValueError(f"entry '{pair}' has no versions; give at least one mix to listen to")
    for version in versions:
        shapes = np.shape(version["mix"]), np.shape(versions[0]["mix"])
        if shapes[0] != shapes[1] or len(shapes[0]) != 1 or shapes[0] == (0,):
            raise ValueError(
                f"entry '{pair}' has '{version['name']}' of shape {shapes[0]}; expected (n_samples,), not "
                f"empty, as long as the first version, which is {shapes[1]}"
            )
        if not np.isfinite(version["mix"]).all():
            raise ValueError(
                f"entry '{pair}': '{version['name']}' holds NaN or infinite samples; mend the method"
            )
