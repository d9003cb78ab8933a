"""Curves of training runs: loss, gradient norm and learning rate over the step, as a drawing or a page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from os import PathLike, fspath
from typing import Any, NamedTuple

import numpy as np

from jaxapf._internal.files import write_text
from jaxapf.report.filled import filled
from jaxapf.report.svg import SUPERSCRIPT, Axis, Curve, Panel, Size, figure, linear_axis, log_axis, snug_axis
from jaxapf.report.svg import runs as stretches

_FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif'
_WIDE, _NARROW = 920, 360
_FEW = 30  # records: up to so many, each is a dot of its own and nothing is smoothed
_ROW = 0.028  # height of a row of skip marks, as a share of the panel
_BESIDE = {"grad_norm": "Gradient norm", "learning_rate": "Learning rate"}
# Told apart by lightness as well as by hue, since hues alone are not for every eye.
_LIGHT = ("#1559c7", "#b5650b", "#1a7f5a", "#b3266f", "#6b4bc4", "#5b6270", "#0d8296", "#8a6d00")
_DARK = ("#6eacff", "#e3a34d", "#5fcf9f", "#f17fb5", "#b39bff", "#a7adb8", "#5fd0e0", "#d8c258")
_COLOURS = len(_LIGHT)
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


class _Series(NamedTuple):
    steps: np.ndarray
    values: np.ndarray  # NaN where not finite


class _Run(NamedTuple):
    label: str
    series: dict[str, _Series]  # by name; empty where no record has it
    skips: np.ndarray  # steps at which something was skipped or the loss was not finite
    n_skipped: int


def plot_losses(
    runs: Mapping[str, Sequence[Mapping[str, Any]]],
    path: str | PathLike[str],
    *,
    title: str = "",
    metric: str = "loss",
) -> None:
    """Draw the losses of one or several runs over the step, without any plotting library.

    The loss is on a logarithmic axis where it is positive: every record faintly and their smoothed line;
    below it gradient norm and learning rate, where the records have them. Ticks at the foot mark skipped
    steps. Long runs are thinned to what can be seen. Colours follow the reader's light or dark setting.

    Args:
        runs: records (as `training.logging.read_metrics` gives them) by label; that of a single run may be
            empty.
        path: file to write, complete or not at all: .svg for the drawing, .html for a page with a table of
            the figures.
        title: heading of the page, and what screen readers call the drawing.
        metric: name of what is drawn as the loss.

    Raises:
        ValueError: `runs` is empty, or `path` ends in something else.
        AudioError: the file cannot be written.

    Example:
        >>> import tempfile, pathlib
        >>> records = [{"step": step, "loss": 1 / step} for step in range(1, 100)]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     plot_losses({"": records}, f"{folder}/loss.svg")
        ...     pathlib.Path(f"{folder}/loss.svg").read_text(encoding="utf-8")[:4]
        '<svg'
    """
    if not runs:
        raise ValueError("runs is empty; give at least one run, as {label: records}")
    read = [_run(label, records, metric) for label, records in runs.items()]
    page = fspath(path).lower().endswith((".html", ".htm"))
    if not page and not fspath(path).lower().endswith(".svg"):
        raise ValueError(f"path is '{fspath(path)}'; give a name that ends in .svg or .html")
    title = title or _name(metric)
    write_text(path, _page(read, title, metric) if page else _drawing(read, title, metric))


def _run(label: str, records: Sequence[Mapping[str, Any]], metric: str) -> _Run:
    known = [record for record in records if math.isfinite(_number(record.get("step")))]
    known.sort(key=lambda record: _number(record["step"]))
    series = {name: _series(known, name) for name in (metric, *_BESIDE)}
    skipped = _series(known, "skipped")
    counts = np.maximum.accumulate(np.append(0.0, np.nan_to_num(skipped.values)))
    lost = ~np.isfinite(series[metric].values)
    skips = np.unique([*skipped.steps[np.diff(counts) > 0], *series[metric].steps[lost]])
    return _Run(label, series, skips, int(counts[-1]))


def _series(records: Sequence[Mapping[str, Any]], name: str) -> _Series:
    # Some numbers are in some records only, such as those of an evaluation.
    pairs = [(_number(record["step"]), _number(record[name])) for record in records if name in record]
    return _Series(*np.array(pairs, np.float64).reshape(-1, 2).T)


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return math.nan
    return number if math.isfinite(number) else math.nan


def _name(metric: str) -> str:
    return _BESIDE.get(metric, metric.replace("_", " ").capitalize())


# Panels


def _panels(runs: list[_Run], metric: str, columns: int, letters: int) -> tuple[Panel, ...]:
    beside = [name for name in _BESIDE if any(np.isfinite(run.series[name].values).any() for run in runs)]
    shares = {"learning_rate": 0.8, metric: 2.2}
    panels = []
    for name in dict.fromkeys([metric, *beside]):
        curves, y = _curves(runs, name, columns, 5 if name == metric else 3)
        if name == metric:
            labels = [_cut(_label(run), letters) if len(runs) > 1 or run.label else "" for run in runs]
            curves = [c._replace(label=labels[n]) if main else c for c, n, main in curves]
            marks, y = _marks(runs, y, columns)
            curves += marks
        else:
            curves = [c for c, _, _ in curves]
        panels.append(Panel(tuple(curves), y, "No finite values", shares.get(name, 1.0)))
    return tuple(panels)


def _curves(
    runs: list[_Run], name: str, columns: int, count: int
) -> tuple[list[tuple[Curve, int, bool]], Axis]:
    """Curves of one quantity with the number of the run, and whether it is the run's main curve."""
    everything = np.concatenate([run.series[name].values for run in runs])
    positive = everything[everything > 0]
    log = positive.size > 0 and not np.any(everything < 0) and name != "learning_rate"
    everything = np.append(everything, 0.0) if name == "learning_rate" else everything
    y = (log_axis if log else linear_axis)(_name(name), everything, count)
    below, above = [], []
    for number, run in enumerate(runs):
        steps, values = run.series[name]
        if log:  # a zero is drawn at the bottom
            values = np.log(np.where(values == 0, positive.min(), values))
        few = len(values) <= _FEW
        # a learning rate is no measurement: as it is
        smooth = not few and name != "learning_rate"
        at, line = _sampled(steps, _smoothed(values) if smooth else values, columns)
        above.append((Curve(at, np.exp(line) if log else line, f"{_role(number)} line"), number, True))
        if smooth:
            at, line, kind = _raw(steps, values, columns)
            curve = Curve(at, np.exp(line) if log else line, f"{_role(number)} {kind}")
            below.append((curve, number, False))
        if few:
            dots = _dots(steps, np.exp(values) if log else values)
            above.append((Curve(*dots, f"{_role(number)} dots"), number, False))
    return below + above, y


def _role(number: int) -> str:
    return f"run{number % _COLOURS}{' dashed' * (number >= _COLOURS)}"


def _smoothed(values: np.ndarray) -> np.ndarray:
    """Mean over a window of a twenty-fifth of the run, NaN left out; twice, which makes it a triangle.

    >>> _smoothed(np.array([1.0, np.nan, 3.0] + [2.0] * 97))[[0, 1, -1]].round(2).tolist()
    [1.0, 1.67, 2.0]
    """
    n = len(values)
    # As far forwards as backwards, so that a steep start is not flattened; the end has no forwards.
    longest = max(1, n // 50)
    reach = np.minimum(longest, np.arange(n) + longest // 8)
    start, stop = np.maximum(np.arange(n) - reach, 0), np.minimum(np.arange(n) + reach + 1, n)
    for _ in range(2):
        known = np.isfinite(values)
        sums, counts = (
            np.concatenate([[0.0], np.cumsum(one)]) for one in (np.where(known, values, 0.0), known)
        )
        counts = counts[stop] - counts[start]
        values = np.where(counts > 0, (sums[stop] - sums[start]) / np.maximum(counts, 1), np.nan)
    return values


def _raw(steps: np.ndarray, values: np.ndarray, columns: int) -> tuple[Any, Any, str]:
    """All values as a line; too many of them as a band from the lowest to the highest in each column."""
    if len(values) <= 2 * columns:
        return steps, values, "raw"
    starts = len(values) * np.arange(columns) // columns
    lows = np.minimum.reduceat(np.where(np.isfinite(values), values, np.inf), starts)
    highs = np.maximum.reduceat(np.where(np.isfinite(values), values, -np.inf), starts)
    centres = (steps[starts] + np.append(steps[starts[1:]], steps[-1])) / 2
    outline = []
    for start, stop in stretches(lows <= highs):
        there = slice(start, stop)
        at, low, high = centres[there], lows[there], highs[there]
        outline.append((np.append(at, at[::-1]), np.append(low, high[::-1])))
        outline.append((at[-1:], np.array([np.nan])))
    if not outline:
        return steps[:1], np.array([np.nan]), "band"
    at, bounds = (np.concatenate(one) for one in zip(*outline, strict=True))
    return at, bounds, "band"


def _sampled(steps: np.ndarray, values: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """At most `columns` of the values, first and last among them."""
    if len(values) <= columns:
        return steps, values
    at = np.linspace(0, len(values) - 1, columns).astype(np.int64)
    return steps[at], values[at]


def _dots(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # a point between breaks of the line is a dot
    return np.repeat(steps, 2), np.stack([values, np.full(len(values), np.nan)], axis=1).ravel()


def _marks(runs: list[_Run], y: Axis, columns: int) -> tuple[list[Curve], Axis]:
    """A tick at the foot of the panel where a run skipped steps, a row for each run, and room for them."""
    rows = [(number, run) for number, run in enumerate(runs) if len(run.skips)]
    if not rows:
        return [], y
    y = y._replace(low=_at(y, -_ROW * (len(rows) + 0.5)))
    marks = []
    span = np.ptp(np.concatenate([run.skips for _, run in rows])) or 1.0
    for row, (number, run) in enumerate(rows):
        column = np.floor(columns * run.skips / span)
        at = run.skips[np.unique(column, return_index=True)[1]]
        foot, head = _at(y, _ROW * (row + 0.15)), _at(y, _ROW * (row + 0.85))
        steps, heights = np.repeat(at, 3), np.tile([foot, head, np.nan], len(at))
        marks.append(Curve(steps, heights, f"{_role(number)} mark"))
    return marks, y


def _at(y: Axis, share: float) -> float:
    """The value at a share of the height of an axis."""
    return y.low * (y.high / y.low) ** share if y.log else y.low + share * (y.high - y.low)


def _label(run: _Run) -> str:
    return f"{run.label} ({run.n_skipped} skipped)".lstrip() if run.n_skipped else run.label


def _cut(label: str, letters: int) -> str:
    return label if len(label) <= letters else label[: letters - 1].rstrip() + "…"


def _steps_axis(runs: list[_Run]) -> Axis:
    steps = np.concatenate([np.append(run.skips, one.steps) for run in runs for one in run.series.values()])
    axis = snug_axis("Step", steps)
    if len(np.unique(steps)) <= _FEW:  # room for the dots at the ends
        room = 0.015 * (axis.high - axis.low)
        axis = axis._replace(low=axis.low - room, high=axis.high + room)
    return axis._replace(
        ticks=tuple((value, _step_label(value)) for value, _ in axis.ticks if value % 1 == 0)
    )


def _step_label(value: float) -> str:
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= unit:
            return f"{value / (1e3 if name == 'k' else unit):g}{name}"
    return f"{value:g}"


# Files


def _figure(name: str, runs: list[_Run], title: str, metric: str, width: int) -> tuple[str, Size]:
    wide = width == _WIDE
    panels = _panels(runs, metric, 420 if wide else 200, 90 if wide else 44)
    height = {1: 400, 2: 560, 3: 660}[len(panels)] if wide else {1: 300, 2: 440, 3: 540}[len(panels)]
    size = Size(width, height + 22 * (max(0, len(runs) - 2) // (4 if wide else 1)), 14 if wide else 12)
    steps = _steps_axis(runs)
    return figure(name, title, "; ".join(_sentence(run, metric) for run in runs), panels, steps, size), size


def _sentence(run: _Run, metric: str) -> str:
    steps, values = run.series[metric]
    label = f"{run.label}: " if run.label else ""
    if not np.isfinite(values).any():
        return f"{label}no finite {metric}"
    best = int(np.nanargmin(values))
    last = values[np.isfinite(values)][-1]
    text = f"{label}last {metric} {_short(last)}, lowest {_short(values[best])} at step {steps[best]:.0f}"
    return f"{text}, {run.n_skipped} skipped" if run.n_skipped else text


def _short(value: Any) -> str:
    if not math.isfinite(value):
        return "–"
    text = f"{value:.4g}"
    if "e" in text:
        mantissa, exponent = text.split("e")
        text = f"{mantissa} × 10{str(int(exponent)).translate(SUPERSCRIPT)}"
    return text.replace("-", "−")


def _drawing(runs: list[_Run], title: str, metric: str) -> str:
    plot, size = _figure("losses", runs, title, metric, _WIDE)
    width, height = size.width + 32, size.height + 20
    at = f'x="16" y="8" width="{size.width:g}" height="{size.height:g}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}"'
        f' viewBox="0 0 {width:g} {height:g}"><style>{_colours("svg")}{_STYLE}</style>'
        f'<rect class="paper" width="100%" height="100%"/>{plot.replace("<svg", f"<svg {at}", 1)}</svg>\n'
    )


def _page(runs: list[_Run], title: str, metric: str) -> str:
    figures = "".join(
        f'<div class="{name}">{_figure(f"losses-{name}", runs, title, metric, width)[0]}</div>'
        for name, width in (("wide", _WIDE), ("narrow", _NARROW))
    )
    few = all(len(run.series[metric].steps) <= _FEW for run in runs)
    smooth = "" if few else "Faint: every record; strong: their moving mean. "
    skipped = any(len(run.skips) for run in runs)
    marks = "Ticks at the foot: steps skipped because loss or gradient was not finite." if skipped else ""
    caption = f"<figcaption>{smooth}{marks}</figcaption>" if smooth or marks else ""
    parts = {
        "style": _colours(":root") + _STYLE,
        "figures": f"<figure>{figures}{caption}</figure>",
        "table": _table(runs, metric),
    }
    return filled("curves.html", parts, title=title, policy=_POLICY)


def _table(runs: list[_Run], metric: str) -> str:
    name = escape(_name(metric).lower())
    columns = ("Last step", f"Last {name}", f"Lowest {name}", "At step", "Skipped")
    head = "".join(f'<th scope="col" class="n">{column}</th>' for column in columns)
    rows = []
    for number, run in enumerate(runs):
        steps, values = run.series[metric]
        known = np.flatnonzero(np.isfinite(values))
        best = known[np.argmin(values[known])] if known.size else 0
        cells = (
            f"{steps[-1]:.0f}" if len(steps) else "–",
            _short(values[known[-1]]) if known.size else "–",
            _short(values[best]) if known.size else "–",
            f"{steps[best]:.0f}" if known.size else "–",
            str(run.n_skipped),
        )
        swatch = f'<i class="{_role(number)}"></i>'
        label = f'<th scope="row">{swatch}{escape(run.label or _name(metric))}</th>'
        figures = "".join(f'<td class="n">{cell}</td>' for cell in cells)
        rows.append(f"<tr>{label}{figures}</tr>")
    return (
        f'<div class="scroll" tabindex="0"><table><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _colours(root: str) -> str:
    light = "--paper:#fbfaf8;--ink:#22252a;--muted:#646a73;--rule:#e4e1da;--grid:#e9e6e0;"
    dark = "--paper:#15171b;--ink:#e7e5e0;--muted:#a0a5ae;--rule:#31353c;--grid:#282c32;"
    for number, (day, night) in enumerate(zip(_LIGHT, _DARK, strict=True)):
        light += f"--run{number}:{day};"
        dark += f"--run{number}:{night};"
    rules = "".join(f".run{number}{{--c:var(--run{number})}}" for number in range(_COLOURS))
    return f"{root}{{{light}}}@media (prefers-color-scheme:dark){{{root}{{{dark}}}}}{rules}"


_STYLE = f"""
.paper {{ fill: var(--paper); }}
.plot text {{ fill: var(--muted); font-family: {_FONT}; font-variant-numeric: tabular-nums; }}
.plot .axis {{ fill: var(--ink); }}
.plot {{ overflow: visible; }}
.plot path {{ fill: none; }}
.plot .grid {{ stroke: var(--grid); stroke-width: 1; }}
.plot .zero {{ stroke: var(--muted); stroke-width: 1; opacity: .6; }}
.plot .curve {{ stroke: var(--c); stroke-linejoin: round; stroke-linecap: round; }}
.plot .raw {{ stroke-width: 1; opacity: .3; }}
.plot .band {{ fill: var(--c); fill-opacity: .14; stroke-width: 1; stroke-opacity: .14; }}
.plot .line {{ stroke-width: 1.9; }}
.plot .dots {{ stroke-width: 5.5; }}
.plot .mark {{ stroke-width: 1.4; }}
.plot .line.dashed {{ stroke-dasharray: 5 4; stroke-linecap: butt; }}
"""
