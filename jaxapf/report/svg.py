"""Line plots as SVG text, a column of panels over one x axis: the report needs no plotting library.

Colours are left to the page: a curve carries a role (`dry`, `wet`, ...), which becomes its CSS class.
"""

import math
from html import escape
from typing import NamedTuple

import numpy as np

from jaxapf._internal.text import SUPERSCRIPT

__all__ = [
    "Axis",
    "Curve",
    "Panel",
    "Size",
    "figure",
    "frequency_axis",
    "linear_axis",
    "log_axis",
    "snug_axis",
]

_CHARACTER = 0.56  # mean width of a character of a sans-serif face, in font sizes


class Curve(NamedTuple):
    """A line: `x` and `y` of one length, NaN in `y` where the line is broken."""

    x: np.ndarray
    y: np.ndarray
    role: str
    label: str = ""


class Axis(NamedTuple):
    """An axis from `low` to `high`, with `ticks` as pairs of value and label."""

    title: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    log: bool = False


class Panel(NamedTuple):
    """Curves over one y axis; `empty` is printed where no curve has a point, `share` weighs the height."""

    curves: tuple[Curve, ...]
    y: Axis
    empty: str = "Nothing to show"
    share: float = 1.0


class Size(NamedTuple):
    """Size of the drawing and of its letters, in the units of the view box (CSS pixels at full size)."""

    width: float
    height: float
    font: float


def ticks(low: float, high: float, count: int, steps: tuple[float, ...] = ()) -> np.ndarray:
    """Return about `count` round values from at or below `low` to at or above `high`.

    `steps` are the distances allowed, ascending; without them 1, 2 or 5 times a power of ten.
    """
    least = max(high - low, 1e-12) / max(count, 1)
    decade = 10.0 ** math.floor(math.log10(least))
    choices = steps or (decade, 2 * decade, 5 * decade, 10 * decade)
    step = next((s for s in choices if s >= least), choices[-1])
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return float(step) * np.arange(first, max(last, first + 1) + 1)


def linear_axis(title: str, values: np.ndarray, count: int = 5, steps: tuple[float, ...] = ()) -> Axis:
    """Return an axis that holds all finite `values`, from round tick to round tick."""
    at = ticks(*_extent(values), count, steps)
    return Axis(title, float(at[0]), float(at[-1]), _labelled(at))


def snug_axis(title: str, values: np.ndarray, count: int = 5) -> Axis:
    """Return an axis from the lowest to the highest finite value, with the round ticks that lie between."""
    low, high = _extent(values)
    at = ticks(low, high, count)
    return Axis(title, low, high, _labelled(at[(at >= low) & (at <= high)], at[1] - at[0]))


def _extent(values: np.ndarray) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    least = 0.5 * max(abs(low), abs(high), 1e-3)
    return (low, high) if high - low > 1e-6 * least else (low - least, high + least)


def _labelled(at: np.ndarray, step: float = 0.0) -> tuple[tuple[float, str], ...]:
    step = step or at[1] - at[0]
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    # + 0.0 turns a negative zero into a plain one
    labels = [f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", "−") for value in at]
    return tuple(zip(at.tolist(), labels, strict=True))


def frequency_axis(low_hz: float, high_hz: float) -> Axis:
    """Return a logarithmic axis with ticks at 1, 2 and 5 times each power of ten."""
    values = [m * 10.0**e for e in range(0, 6) for m in (1, 2, 5)]
    inside = [v for v in values if low_hz * 0.999 <= v <= high_hz * 1.001]
    labels = [f"{v:g}" if v < 1000 else f"{v / 1000:g}k" for v in inside]
    return Axis("Frequency (Hz)", low_hz, high_hz, tuple(zip(inside, labels, strict=True)), log=True)


def log_axis(title: str, values: np.ndarray, count: int = 5) -> Axis:
    """Return a logarithmic axis that holds all positive finite `values` with a little room above and below.

    Ticks are at most twice `count` powers of ten; for a small span 1, 2 and 5 times these, or round values.
    """
    known = values[np.isfinite(values) & (values > 0)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.1, 10.0)
    room = max((high / low) ** 0.04, 1.01)
    low, high = low / room, high * room
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    powers = [10.0**e for e in exponents][:: -(-len(exponents) // (2 * count))]
    finer = ([m * 10.0**e for e in exponents for m in steps] for steps in ((1, 2, 5), (1, 3)))
    inside: list[float] = []
    for at in (powers, *finer, ticks(low, high, count).tolist()):
        inside = [value for value in at if low <= value <= high]
        if 3 <= len(inside) <= 2 * count:
            break
    return Axis(title, low, high, tuple((value, _power(value)) for value in inside), log=True)


def _power(value: float) -> str:
    if 1e-3 <= value < 1e4:
        return f"{value:.6g}"
    mantissa, exponent = f"{value:.5e}".split("e")
    power = "10" + str(int(exponent)).translate(SUPERSCRIPT)
    return power if float(mantissa) == 1 else f"{float(mantissa):g}·{power}"


def runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """Return start and stop of every run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]]))).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


def figure(name: str, title: str, description: str, panels: tuple[Panel, ...], x: Axis, size: Size) -> str:
    """Return an accessible `<svg>` of `panels` stacked over the axis `x`; `name` makes the ids unique."""
    font = size.font
    widest = max(len(label) for panel in panels for _, label in panel.y.ticks)
    left, right = _CHARACTER * font * widest + 0.9 * font, size.width - 1.1 * font
    heads = []
    for panel in panels:
        rows, beside = _legend(panel, size)
        heads.append(font * (2.35 + (0.0 if beside else 1.55 * len(rows))))
    foot = 3.1 * font
    room = size.height - foot - sum(heads) - 0.6 * font * (len(panels) - 1)
    shares = sum(panel.share for panel in panels)
    out, top = [], 0.0
    for index, (panel, head) in enumerate(zip(panels, heads, strict=True)):
        box = (left, top + head, right, top + head + room * panel.share / shares)
        out.append(_panel(f"{name}-clip{index}", panel, x, box, top, size))
        top = box[3] + 0.6 * font
    out.append(_x_labels(x, left, right, size))
    return (
        f'<svg class="plot" viewBox="0 0 {size.width:g} {size.height:g}" font-size="{font:g}" role="img"'
        f' aria-labelledby="{name}-title {name}-desc"><title id="{name}-title">{escape(title)}</title>'
        f'<desc id="{name}-desc">{escape(description)}</desc>{"".join(out)}</svg>'
    )


def _panel(clip: str, panel: Panel, x: Axis, box: tuple[float, ...], top: float, size: Size) -> str:
    left, up, right, down = box
    out = [_head(panel, top, size)]
    for value, label in panel.y.ticks:
        at = _place(panel.y, value, down, up)
        kind = "zero" if value == 0 else "grid"
        out.append(f'<path class="{kind}" d="M{left:.1f} {at:.1f}H{right:.1f}"/>')
        out.append(_text(left - 0.5 * size.font, at + 0.35 * size.font, label, "end"))
    for value, _ in x.ticks:
        at = _place(x, value, left, right)
        out.append(f'<path class="grid" d="M{at:.1f} {up:.1f}V{down:.1f}"/>')
    paths = [(curve.role, _path(curve, x, panel.y, box)) for curve in panel.curves]
    if not any(d for _, d in paths):
        out.append(_text((left + right) / 2, (up + down) / 2, panel.empty, "middle"))
        return "".join(out)
    out.append(f'<clipPath id="{clip}"><rect x="{left:.1f}" y="{up:.1f}" width="{right - left:.1f}"')
    out.append(f' height="{down - up:.1f}"/></clipPath><g clip-path="url(#{clip})">')
    out += [f'<path class="curve {role}" d="{d}"/>' for role, d in paths if d]
    return "".join(out) + "</g>"


def _legend(panel: Panel, size: Size) -> tuple[list[list[tuple[Curve, float]]], bool]:
    """Return rows of curves with their widths in font sizes, and whether they fit beside the title."""
    rows: list[list[tuple[Curve, float]]] = []
    for curve in panel.curves:
        entry = (curve, _CHARACTER * len(curve.label) + 3.2)
        if curve.label and rows and size.font * (_width(rows[-1]) + entry[1] - 0.6) < size.width:
            rows[-1].append(entry)
        elif curve.label:
            rows.append([entry])
    title = _CHARACTER * len(panel.y.title) + 1.0
    return rows, size.font * (title + sum(map(_width, rows))) < size.width


def _width(row: list[tuple[Curve, float]]) -> float:
    return sum(width for _, width in row)


def _head(panel: Panel, top: float, size: Size) -> str:
    font, line = size.font, top + 1.2 * size.font
    out = [_text(0.2 * font, line, panel.y.title, "start", "axis")]
    rows, beside = _legend(panel, size)
    for row in rows:
        # the last entry needs no gap after it
        at = size.width - font * (_width(row) - 0.6) if beside else 0.2 * font
        line += 0.0 if beside else 1.55 * font
        for curve, width in row:
            swatch = f"M{at:.1f} {line - 0.35 * font:.1f}h{1.5 * font:.1f}"
            out.append(f'<path class="curve {curve.role}" d="{swatch}"/>')
            out.append(_text(at + 1.9 * font, line, curve.label, "start"))
            at += font * width
    return "".join(out)


def _x_labels(x: Axis, left: float, right: float, size: Size) -> str:
    font, free, out = size.font, -math.inf, []
    for value, label in x.ticks:
        at, half = _place(x, value, left, right), 0.5 * _CHARACTER * font * len(label)
        at = min(at, size.width - half)
        if at - half < free:
            continue
        free = at + half + 0.5 * font
        out.append(_text(at, size.height - 1.9 * font, label, "middle"))
    out.append(_text(right, size.height - 0.4 * font, x.title, "end", "axis"))
    return "".join(out)


def _text(x: float, y: float, text: str, anchor: str, role: str = "") -> str:
    kind = f' class="{role}"' if role else ""
    return f'<text{kind} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _place(axis: Axis, value, start: float, stop: float):
    low, high = (math.log(axis.low), math.log(axis.high)) if axis.log else (axis.low, axis.high)
    scaled = np.log(value) if axis.log else value
    return start + (scaled - low) / (high - low) * (stop - start)


def _path(curve: Curve, x: Axis, y: Axis, box: tuple[float, ...]) -> str:
    left, up, right, down = box
    finite = np.isfinite(curve.y)
    if not finite.any():
        return ""
    reach = 50.0 * (down - up)  # far outside is as good as infinity, and keeps the numbers short
    at_x = _place(x, curve.x, left, right)
    at_y = np.clip(_place(y, np.where(finite, curve.y, y.low), down, up), up - reach, down + reach)
    return "".join(_run(*_thin(at_x[a:b], at_y[a:b])) for a, b in runs(finite))


def _run(x: np.ndarray, y: np.ndarray) -> str:
    points = [f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True)]
    if len(points) == 1:
        points *= 2  # with round line caps, a dot
    return "M" + "L".join(points)


def _thin(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # Of all points within half a unit, the first, lowest, highest and last look the same as all of them.
    column = np.floor(2.0 * x).astype(np.int64)
    starts = np.flatnonzero(np.diff(column, prepend=column[0] - 1))
    if 4 * len(starts) >= len(x):
        return x, y
    keep = [starts, np.append(starts[1:], len(x)) - 1]
    order = np.lexsort((y, column))
    keep += [order[keep[0]], order[keep[1]]]
    index = np.unique(np.concatenate(keep))
    return x[index], y[index]
