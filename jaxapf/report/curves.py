"""Curves of training runs: loss, gradient norm and learning rate over the step, as a drawing or a page."""

import math
from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from jaxapf._internal.files import write_text
from jaxapf._internal.text import known, number
from jaxapf.report import svg
from jaxapf.report.rendering import render
from jaxapf.report.svg import Axis, Curve, Panel, Size, figure, linear_axis, log_axis, snug_axis

__all__ = ["RUN_COLOURS", "plot_losses"]

# By light and by dark; distinct in lightness as well as in hue, for colour-blind readers.
RUN_COLOURS = (
    ("#1559c7", "#6eacff"),
    ("#b5650b", "#e3a34d"),
    ("#1a7f5a", "#5fcf9f"),
    ("#b3266f", "#f17fb5"),
    ("#6b4bc4", "#b39bff"),
    ("#5b6270", "#a7adb8"),
    ("#0d8296", "#5fd0e0"),
    ("#8a6d00", "#d8c258"),
)
_FEW = 30  # records: up to so many, each is a dot of its own and nothing is smoothed
_ROW = 0.028  # height of a row of skip marks, as a share of the panel
_BESIDE = {"grad_norm": "Gradient norm", "learning_rate": "Learning rate"}


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

    `runs` are records (as `training.logging.read_metrics` returns them) by label; `metric` is drawn in place
    of the loss. It is on a logarithmic axis where it is positive: every record as a faint line (a band where
    they are many), their moving mean as a strong one; below it gradient norm and learning rate, where the
    records have them. Ticks at the foot mark skipped steps. Colours follow the reader's light or dark
    setting. A `path` in .svg gets the drawing, one in .html a page with a table of the figures.

    Raises:
        ValueError: `runs` is empty, or `path` ends in something else.
        AudioError: the file cannot be written; it appears complete or not at all.

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
    rows = [record for record in records if math.isfinite(_number(record.get("step")))]
    rows.sort(key=lambda record: _number(record["step"]))
    series = {name: _series(rows, name) for name in (metric, *_BESIDE)}
    skipped = _series(rows, "skipped")
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
        return known(float(value))
    except (TypeError, ValueError):
        return math.nan


def _name(metric: str) -> str:
    return _BESIDE.get(metric, metric.replace("_", " ").capitalize())


# Panels


def _panels(runs: list[_Run], metric: str, columns: int, letters: int) -> tuple[Panel, ...]:
    beside = [name for name in _BESIDE if any(np.isfinite(run.series[name].values).any() for run in runs)]
    shares = {"learning_rate": 0.8, metric: 2.2}
    panels = []
    for name in dict.fromkeys([metric, *beside]):
        main = name == metric
        labels = [_label(run, letters) if main and (len(runs) > 1 or run.label) else "" for run in runs]
        curves, y = _curves(runs, name, columns, 5 if main else 3, labels)
        if main:
            marks, y = _marks(runs, y, columns)
            curves += marks
        panels.append(Panel(tuple(curves), y, "No finite values", shares.get(name, 1.0)))
    return tuple(panels)


def _curves(
    runs: list[_Run], name: str, columns: int, count: int, labels: list[str]
) -> tuple[list[Curve], Axis]:
    """Return the curves of one quantity, the faint ones first, and its axis."""
    every = np.concatenate([run.series[name].values for run in runs])
    positive = every[every > 0]
    log = positive.size > 0 and not np.any(every < 0) and name != "learning_rate"
    every = np.append(every, 0.0) if name == "learning_rate" else every
    y = (log_axis if log else linear_axis)(_name(name), every, count)
    value_of = np.exp if log else np.asarray
    faint, strong = [], []
    for index, run in enumerate(runs):
        steps, values = run.series[name]
        if log:  # a zero is drawn at the bottom
            values = np.log(np.where(values == 0, positive.min(), values))
        few = len(values) <= _FEW
        smooth = not few and name != "learning_rate"  # a learning rate is not measured: as it is
        at, line = _sampled(steps, _smoothed(values) if smooth else values, columns)
        strong.append(Curve(at, value_of(line), f"{_role(index)} line", labels[index]))
        if smooth:
            at, line, kind = _raw(steps, values, columns)
            faint.append(Curve(at, value_of(line), f"{_role(index)} {kind}"))
        if few:  # a point between breaks of the line is a dot
            dots = np.stack([value_of(values), np.full(len(values), np.nan)], axis=1).ravel()
            strong.append(Curve(np.repeat(steps, 2), dots, f"{_role(index)} dots"))
    return faint + strong, y


def _role(index: int) -> str:
    return f"run{index % len(RUN_COLOURS)}{' dashed' * (index >= len(RUN_COLOURS))}"


def _smoothed(values: np.ndarray) -> np.ndarray:
    """Return the mean over a window of a twenty-fifth of the run, NaN left out; twice makes a triangle."""
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
    """Return all values as a line; too many as a band from the lowest to the highest in each column."""
    if len(values) <= 2 * columns:
        return steps, values, "raw"
    starts = len(values) * np.arange(columns) // columns
    lows = np.minimum.reduceat(np.where(np.isfinite(values), values, np.inf), starts)
    highs = np.maximum.reduceat(np.where(np.isfinite(values), values, -np.inf), starts)
    centres = (steps[starts] + np.append(steps[starts[1:]], steps[-1])) / 2
    outline = []
    for start, stop in svg.runs(lows <= highs):
        at, low, high = (x[start:stop] for x in (centres, lows, highs))
        outline.append((np.append(at, at[::-1]), np.append(low, high[::-1])))
        outline.append((at[-1:], np.array([np.nan])))
    if not outline:
        return steps[:1], np.array([np.nan]), "band"
    at, bounds = (np.concatenate(one) for one in zip(*outline, strict=True))
    return at, bounds, "band"


def _sampled(steps: np.ndarray, values: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Return at most `columns` of the values, first and last among them."""
    if len(values) <= columns:
        return steps, values
    at = np.linspace(0, len(values) - 1, columns).astype(np.int64)
    return steps[at], values[at]


def _marks(runs: list[_Run], y: Axis, columns: int) -> tuple[list[Curve], Axis]:
    """Return ticks at the foot where runs skipped steps, a row a run, and the axis with room for them."""
    rows = [(index, run) for index, run in enumerate(runs) if len(run.skips)]
    if not rows:
        return [], y
    y = y._replace(low=_at(y, -_ROW * (len(rows) + 0.5)))
    marks = []
    span = np.ptp(np.concatenate([run.skips for _, run in rows])) or 1.0
    for row, (index, run) in enumerate(rows):
        column = np.floor(columns * run.skips / span)
        at = run.skips[np.unique(column, return_index=True)[1]]
        foot, head = _at(y, _ROW * (row + 0.15)), _at(y, _ROW * (row + 0.85))
        steps, heights = np.repeat(at, 3), np.tile([foot, head, np.nan], len(at))
        marks.append(Curve(steps, heights, f"{_role(index)} mark"))
    return marks, y


def _at(y: Axis, share: float) -> float:
    """Return the value at a share of the height of an axis."""
    return y.low * (y.high / y.low) ** share if y.log else y.low + share * (y.high - y.low)


def _label(run: _Run, letters: int) -> str:
    label = f"{run.label} ({run.n_skipped} skipped)".lstrip() if run.n_skipped else run.label
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


def _figure(name: str, runs: list[_Run], title: str, metric: str, *, wide: bool = True) -> tuple[str, Size]:
    width, font, columns, letters, entries = (920, 14, 420, 90, 4) if wide else (360, 12, 200, 44, 1)
    panels = _panels(runs, metric, columns, letters)
    height = ((400, 560, 660) if wide else (300, 440, 540))[len(panels) - 1]
    size = Size(width, height + 22 * (max(0, len(runs) - 2) // entries), font)
    text = "; ".join(_sentence(run, metric) for run in runs)
    return figure(name, title, text, panels, _steps_axis(runs), size), size


def _extremes(run: _Run, metric: str) -> tuple[str, str, str]:
    """Return the last value, the lowest, and the step of the lowest, as text."""
    steps, values = run.series[metric]
    finite = np.flatnonzero(np.isfinite(values))
    if not finite.size:
        return "–", "–", "–"
    best = finite[np.argmin(values[finite])]
    last, lowest = (number(values[at], 4, padded=False) for at in (finite[-1], best))
    return last, lowest, f"{steps[best]:.0f}"


def _sentence(run: _Run, metric: str) -> str:
    last, lowest, at = _extremes(run, metric)
    label = f"{run.label}: " if run.label else ""
    if last == "–":
        return f"{label}no finite {metric}"
    skipped = f", {run.n_skipped} skipped" if run.n_skipped else ""
    return f"{label}last {metric} {last}, lowest {lowest} at step {at}{skipped}"


def _drawing(runs: list[_Run], title: str, metric: str) -> str:
    plot, size = _figure("losses", runs, title, metric)
    place = f'x="16" y="8" width="{size.width:g}" height="{size.height:g}"'
    return render(
        "curves.svg",
        plot=Markup(plot.replace("<svg", f"<svg {place}", 1)),
        width=f"{size.width + 32:g}",
        height=f"{size.height + 20:g}",
        run_colours=RUN_COLOURS,
    )


def _page(runs: list[_Run], title: str, metric: str) -> str:
    rows = []
    for index, run in enumerate(runs):
        steps = run.series[metric].steps
        last = f"{steps[-1]:.0f}" if len(steps) else "–"
        cells = (last, *_extremes(run, metric), str(run.n_skipped))
        rows.append((run.label or _name(metric), _role(index), cells))
    return render(
        "curves.html",
        title=title,
        metric=_name(metric).lower(),
        figures=[
            (name, Markup(_figure(f"losses-{name}", runs, title, metric, wide=name == "wide")[0]))
            for name in ("wide", "narrow")
        ],
        smoothed=any(len(run.series[metric].steps) > _FEW for run in runs),
        marked=any(len(run.skips) for run in runs),
        rows=rows,
        run_colours=RUN_COLOURS,
    )
