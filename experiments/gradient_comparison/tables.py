"""What was found, as Markdown: pictures, captions and tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from experiments.common.runner import Row, table
from experiments.gradient_comparison import captions, config
from experiments.gradient_comparison.lookup import Rows, median, values, where


class Figure(NamedTuple):
    """One part of the results: its heading, picture (or None), caption, table, and what its cells are."""

    title: str
    picture: str | None
    caption: Callable[[Rows], str]
    rows: Callable[[Rows], Rows]
    cells: str = ""


def markdown(results: dict[str, Rows], made_with: str, seconds: float) -> str:
    """All parts that there are results of."""
    whole = "The whole run" if set(results) == set(FIGURES) else "What is shown"
    parts = [f"{made_with} {whole} took {seconds / 60:.1f} minutes."]
    for name, figure in FIGURES.items():
        if name in results:
            rows = results[name]
            parts += [f"### {figure.title}"]
            if figure.picture:
                parts += [f"![{figure.title}]({figure.picture}.svg)"]
            parts += [f"{figure.caption(rows)} {figure.cells}".strip(), table(figure.rows(rows), cell)]
    return "\n\n".join(parts) + "\n"


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
    """A row for every value of `index`, the forms side by side: output / effect / gradient (worst) / "
    "cosine.
    """
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


def _over(index: str) -> Callable[[Rows], Rows]:
    return lambda rows: spread(rows, index)


def _radius_rows(rows: Rows) -> Rows:
    return [
        {"radius": line["radius"], "rings for": f"{1 / (1 - line['radius']):.0f}"} | line
        for line in spread(rows, "radius")
    ]


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


FOUR = (
    "*In the table, medians of all draws: error of the output / the same over what the filter does / "
    "error of the gradient (in the worst draw) / cosine.*"
)
FIGURES = {
    "radius": Figure("Pole radius", "radius", captions.said_of_radius, _radius_rows, FOUR),
    "length": Figure(
        "Length of the signal",
        "length",
        captions.said_of_length,
        rows_of_length,
        "*In the table: error of the gradient, transform of twice the signal, medians.*",
    ),
    "padding": Figure(
        "Padding",
        None,
        captions.said_of_padding,
        rows_of_padding,
        "*In the table: error of the gradient by padding in time constants, medians (in the worst draw).*",
    ),
    "near": Figure("Distance from the answer", None, captions.said_of_near, _over("distance"), FOUR),
    "order": Figure("Order", None, captions.said_of_order, _over("order"), FOUR),
    "signal": Figure("Signals", None, captions.said_of_signal, _over("signal"), FOUR),
    "dtype": Figure(
        "float32 and float64",
        None,
        captions.said_of_dtype,
        rows_of_dtype,
        "*In the table, of one draw: error of the output / of the gradient.*",
    ),
    "hop": Figure(
        "Moving: hop and speed",
        "moving",
        captions.said_of_hop,
        rows_of_hop,
        "*In the table, medians: error of the output / of the gradient.*",
    ),
    "frame": Figure("Moving: frame and padding", None, captions.said_of_frame, _frame_rows),
    "moving_radius": Figure(
        "Moving: pole radius",
        None,
        captions.said_of_moving_radius,
        rows_of_moving_radius,
        "*In the table, medians: error of the output / of the gradient / cosine.*",
    ),
    "cost": Figure("Time and memory", "cost", captions.said_of_cost, rows_of_cost),
    "box": Figure("Race on a recorded box", "race", captions.said_of_box, rows_of_box),
    "swinging": Figure("Race on a moving filter", None, captions.said_of_swinging, rows_of_swinging),
    "bare": Figure("Trained by sampling, run as a recursion", "bare", captions.said_of_bare, rows_of_bare),
}
