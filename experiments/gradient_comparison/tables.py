"""Rows of figures: how they are looked up, and their tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from experiments.common.runner import Row
from experiments.common.tables import table
from experiments.gradient_comparison import config

CLOSE = {1e-2: "1 %", 1e-4: "0.01 %"}  # errors of a gradient, and how they are called
Rows = list[Row]


def where(rows: Sequence[Row], **wanted: Any) -> Rows:
    """Return the rows with these values."""
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def values(rows: Sequence[Row], column: str) -> list[Any]:
    """Return the different values of a column, in their order."""
    return list(dict.fromkeys(row[column] for row in rows))


def lengths_of(rows: Rows) -> list[int]:
    """Return the lengths of sequences: all but the whole recording."""
    return values([row for row in rows if row["form"] != "recursion"], "samples")


def padding(row: Row) -> int:
    """Return the samples of padding."""
    return (int(row["form"].rstrip("x")) - 1) * row["samples"]


def median(rows: Rows, column: str) -> float:
    """Return the median of a column."""
    return float(np.median([row[column] for row in rows]))


def needed(rows: Rows, close: float, column: str) -> float | None:
    """Return the time constants of padding from which on the error stays below `close`; None if none does."""
    enough = None
    for row in sorted(rows, key=lambda row: -row["constants"]):
        if row[column] > close:
            break
        enough = row["constants"]
    return enough


def cell(column: str, value: Any) -> str:
    """A value as the table shows it."""
    if value is None:
        return "–"
    if not isinstance(value, float):
        return str(value)
    if column == "radius":
        return f"{value:g}"
    if "cosine" in column or column.endswith("dB"):
        return f"{value:.3f}" if "cosine" in column else f"{value:.1f}"
    return f"{value:.3g}" if value == 0 or 1e-2 <= abs(value) < 1e4 else f"{value:.1e}"


def spread(rows: Rows, index: str) -> Rows:
    """Return a row for each value of `index`: forms by output / effect / gradient (worst) / cosine."""
    found: Rows = []
    for value in values(rows, index):
        line: Row = {index: value}
        for row in where(rows, **{index: value}):
            label = "recursion, float32" if row["form"] == "recursion" else f"sampled {row['form']}"
            line[label] = (
                f"{cell('', row['value'])} / {cell('', row['effect'])} / {cell('', row['gradient'])} "
                f"({cell('', row['gradient, worst'])}) / {row['cosine']:.3f}"
            )
        found.append(line)
    return found


def _radius_rows(rows: Rows) -> Rows:
    return [
        {"radius": line["radius"], "rings for": f"{1 / (1 - line['radius']):.0f}"} | line
        for line in spread(rows, "radius")
    ]


def rows_of_needed(rows: Rows) -> Rows:
    """Return the padding in time constants from which on a gradient is close, median and worst draw."""
    found: Rows = []
    for radius, distance in dict.fromkeys((row["radius"], row["distance"]) for row in rows):
        chosen = where(rows, radius=radius, distance=distance)
        line: Row = {"radius": radius, "distance from the answer": distance}
        for close, name in CLOSE.items():
            for column, which in (("gradient", "median"), ("gradient, worst", "worst draw")):
                enough = needed(chosen, close, column)
                most = max(row["constants"] for row in chosen)
                line[f"{name}, {which}"] = f"over {most:g}" if enough is None else f"{enough:g}"
        found.append(line)
    return found


def rows_of_padding(rows: Rows) -> Rows:
    """Cases by padding: gradient (worst)."""
    return [
        {"radius": radius, "distance": distance}
        | {
            f"{row['constants']:g}": f"{cell('', row['gradient'])} ({cell('', row['gradient, worst'])})"
            for row in where(rows, radius=radius, distance=distance)
        }
        for radius, distance in dict.fromkeys((row["radius"], row["distance"]) for row in rows)
    ]


def rows_of_length(rows: Rows) -> Rows:
    """Gradient errors with twice the signal, radii by lengths."""
    return [
        {"radius": radius}
        | {f"{row['samples']} samples": row["gradient"] for row in where(rows, radius=radius, form="2x")}
        for radius in values(rows, "radius")
    ]


def rows_of_dtype(rows: Rows) -> Rows:
    """Forms and dtypes by radii: value / gradient."""
    found: Rows = []
    for form in values(rows, "form"):
        for dtype in values(rows, "dtype"):
            line: Row = {"form": form, "dtype": dtype}
            for row in where(rows, form=form, dtype=dtype):
                line[f"R = {row['radius']:g}"] = f"{cell('', row['value'])} / {cell('', row['gradient'])}"
            found.append(line)
    return found


def rows_of_hop(rows: Rows) -> Rows:
    """Hops by rates: value / gradient."""
    return [
        {"hop": hop or "recursion, float32"}
        | {
            f"{row['rate_hz']:g} Hz": f"{cell('', row['value'])} / {cell('', row['gradient'])}"
            for row in where(rows, hop=hop)
        }
        for hop in values(rows, "hop")
    ]


def _frame_rows(rows: Rows) -> Rows:
    return [
        {"n_fft": row["n_fft"], "padding": row["padding"]}
        | {name: row[name] for name in ("value", "gradient", "cosine")}
        for row in rows
    ]


def rows_of_moving_radius(rows: Rows) -> Rows:
    """Radii by speeds and hops: value / gradient / cosine."""
    return [
        {"radius": radius}
        | {
            f"{row['rate_hz']:g} Hz, {'hop ' + str(row['hop']) if row['hop'] else 'recursion, float32'}": (
                f"{cell('', row['value'])} / {cell('', row['gradient'])} / {row['cosine']:.2f}"
            )
            for row in where(rows, radius=radius)
        }
        for radius in values(rows, "radius")
    ]


def rows_of_cost(rows: Rows) -> Rows:
    """As they are, fewer columns."""
    return [
        {
            "": row["kind"],
            "size": row["size"],
            "form": row["form"],
            "filter / SciPy": row["forward / SciPy"],
            "with gradient / SciPy": row["gradient / SciPy"],
            "with gradient ms": row["gradient ms"],
            "compile s": row["compile s"],
            "memory planned": row["planned"],
            "memory measured": row["measured"],
        }
        for row in rows
    ]


def raced(chosen: Rows) -> Row:
    """Columns that both races share: starts side by side, or their median."""
    reached = [row for row in chosen if row["steps"] is not None]
    return {
        "reach -40 dB": f"{len(reached)} of {len(chosen)}",
        "steps to it": ", ".join(str(row["steps"]) for row in reached) or None,
        "seconds to it": ", ".join(f"{row['seconds']:.2f}" for row in reached) or None,
        "ms a step": median(chosen, "step ms"),
        "compile s": chosen[0]["compile s"],
        "nearest, dB": ", ".join(f"{row['least_db']:.0f}" for row in chosen),
        "end, dB": ", ".join(f"{row['end_db']:.0f}" for row in chosen),
        "ESR in its own form": median(chosen, "esr, own"),
        "ESR as recursion": median(chosen, "esr, recursion"),
    }


def rows_of_box(rows: Rows) -> Rows:
    """A row for every length and form."""
    found: Rows = []
    for length, form in dict.fromkeys((row["samples"], row["form"]) for row in rows):
        chosen = where(rows, samples=length, form=form)
        name = form if form == "recursion" else f"sampled {form}"
        errors = {"least ESR": chosen[0]["best"], "ESR, whole recording": median(chosen, "esr")}
        found.append({"samples": length, "trained by": name} | raced(chosen) | errors)
    return found


def rows_of_swinging(rows: Rows) -> Rows:
    """A row for every radius and form."""
    return [
        {"radius": radius, "trained by": form} | raced(where(rows, radius=radius, form=form))
        for radius, form in dict.fromkeys((row["radius"], row["form"]) for row in rows)
    ]


def rows_of_bare(rows: Rows) -> Rows:
    """As they are, in words."""
    return [
        {
            "signal": row["signal"],
            "trained by": row["form"] if row["form"] == "recursion" else f"sampled {row['form']}",
            "starts": row["starts"],
            f"found (ESR below {config.BARE_GOOD:g})": row["good"],
            "of these, poles outside": row["good, outside"],
            "do nothing": row["collapsed"],
            "poles outside": row["poles outside"],
            "blown up in 10 s": row["blown up"],
        }
        for row in rows
    ]


# Figure -> the rows of its table
TABLES: dict[str, Callable[[Rows], Rows]] = {
    "radius": _radius_rows,
    "length": rows_of_length,
    "padding": rows_of_padding,
    "near": partial(spread, index="distance"),
    "order": partial(spread, index="order"),
    "signal": partial(spread, index="signal"),
    "dtype": rows_of_dtype,
    "hop": rows_of_hop,
    "frame": _frame_rows,
    "moving_radius": rows_of_moving_radius,
    "cost": rows_of_cost,
    "box": rows_of_box,
    "swinging": rows_of_swinging,
    "bare": rows_of_bare,
}


def markdown(results: dict[str, Row]) -> dict[str, str]:
    """Return the tables of all figures that there are, by the names of their markers."""
    named = {name: (rows_of, results[name]) for name, rows_of in TABLES.items() if name in results}
    if "padding" in results:
        named["needed"] = (rows_of_needed, results["padding"])
    texts = {}
    for name, (rows_of, one) in named.items():
        caution = " Quick run: these sizes mean nothing." if one["quick"] else ""
        texts[name] = f"{table(rows_of(one['rows']), cell)}\n\n{one['made_with']}{caution}\n"
    return texts
