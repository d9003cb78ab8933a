"""What was found, as Markdown: a picture, a caption that says what it shows, a table; captions are "
"computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import config

from jaxapf._experiments import Row, table

Rows = list[Row]
CLOSE = (0.01, 1e-4)  # errors of a gradient, for which the padding needed is told


class Figure(NamedTuple):
    """One part of the results: its heading, picture (or None), caption and table, made of its rows."""

    title: str
    picture: str | None
    caption: Callable[[Rows], str]
    rows: Callable[[Rows], Rows]


def markdown(results: dict[str, Rows], made_with: str, seconds: float) -> str:
    """All parts that there are results of."""
    took = f"{made_with} The whole run took {seconds / 60:.1f} minutes."
    parts = [took]
    for name, figure in FIGURES.items():
        if name in results:
            rows = results[name]
            parts += [f"### {figure.title}"]
            if figure.picture:
                parts += [f"![{figure.title}]({figure.picture}.svg)"]
            parts += [figure.caption(rows), table(figure.rows(rows), cell)]
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


# Looking things up


def where(rows: Sequence[Row], **wanted: Any) -> Rows:
    """The rows with these values."""
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def nearest(rows: Sequence[Row], column: str, value: float) -> Any:
    """Of the values in a column, the nearest."""
    return min({row[column] for row in rows}, key=lambda one: abs(one - value))


def values(rows: Sequence[Row], column: str) -> list[Any]:
    """The different values of a column, in their order."""
    return list(dict.fromkeys(row[column] for row in rows))


def percent(share: float) -> str:
    """A share, as said in a sentence."""
    if share >= 1.5:
        return f"{share:.2g} times its size" if share < 10 else f"{share:.0f} times its size"
    if share >= 1e-4:
        return f"{100 * share:.0f} %" if share >= 0.995 else f"{100 * share:.2g} %"
    return f"{share:.0e}".replace("e-0", "e-")


def spread(rows: Rows, index: str, columns: Sequence[str]) -> Rows:
    """A row for every value of `index`, the forms side by side."""
    found: Rows = []
    for value in values(rows, index):
        line: Row = {index: value}
        for row in where(rows, **{index: value}):
            label = "recursion, float32" if row["form"] == "recursion" else f"sampled {row['form']}"
            line |= {f"{label}: {column}": row[column] for column in columns}
        found.append(line)
    return found


# The captions


def said_of_radius(rows: Rows) -> str:
    """How value and gradient go over the radius."""
    parts = []
    for wanted in (0.999, 0.9999, 0.99999):
        radius = nearest(rows, "radius", wanted)
        (row,) = where(rows, radius=radius, form="2x")
        parts.append(
            f"at {radius:g} the output is off by {percent(row['value'])}, its gradient by "
            f"{percent(row['gradient'])} (cosine {row['cosine']:.2f})"
        )
    parts = list(dict.fromkeys(parts))
    worst = max(row["gradient"] for row in where(rows, form="recursion"))
    return (
        "**A small error of the output hides a large one of the gradient.** Sampled with a transform "
        "of twice "
        f"the signal, {'; '.join(parts)}. The recursion in float32 is within {percent(worst)} of the "
        "float64 gradient at every radius. Medians of all draws."
    )


def needed(rows: Rows, close: float) -> float:
    """Time constants of padding from which on no gradient is further off than this."""
    return max(
        (padding(row) * (1 - row["radius"]) for row in sampled(rows) if row["gradient"] > close), default=0.0
    )


def padding(row: Row) -> int:
    """Samples of padding."""
    return (int(row["form"].rstrip("x")) - 1) * row["samples"]


def sampled(rows: Rows) -> Rows:
    """Those with a padding."""
    return [row for row in rows if row["form"] in ("2x", "4x")]


def said_of_length(rows: Rows) -> str:
    """The law that all lengths follow."""
    one, two = (needed(rows, close) for close in CLOSE)
    radius = min(values(rows, "radius"))
    short, long = (where(rows, form="1x", radius=radius)[index] for index in (0, -1))
    return (
        "**One number decides: padding over ringing.** Over the padding in time constants, 1 / (1 - R) "
        "samples, "
        f"the errors of all lengths fall on one curve. The gradient is within {percent(CLOSE[0])} from "
        f"{one:.1f} time constants on, within {percent(CLOSE[1])} from {two:.1f}; with less than one it "
        "is of no "
        f"use. Without padding (1x) even a pole of radius {radius:g} leaves the output off by "
        f"{percent(short['value'])} at {short['samples']} samples and {percent(long['value'])} at "
        f"{long['samples']}."
    )


def rows_of_length(rows: Rows) -> Rows:
    """Gradient errors with twice the signal, radii by lengths."""
    return [
        {"radius": radius}
        | {f"{row['samples']} samples": row["gradient"] for row in where(rows, radius=radius, form="2x")}
        for radius in values(rows, "radius")
    ]


def said_of_near(rows: Rows) -> str:
    """What is left of the gradient near the answer."""
    far, close = (where(rows, distance=of(values(rows, "distance")), form="1x")[0] for of in (max, min))
    two = where(rows, distance=close["distance"], form="2x")[0]
    return (
        "**The nearer the answer, the worse.** The output's error stays, the gradient shrinks: without "
        "padding "
        f"the gradient is off by {percent(far['gradient'])} at distance {far['distance']:g} and by "
        f"{percent(close['gradient'])} at {close['distance']:g}; with twice the signal, there, by "
        f"{percent(two['gradient'])}. This is why sampled training stalls, or passes the answer by (see "
        "the races)."
    )


def said_of_order(rows: Rows) -> str:
    """Over the order."""
    low, high = (where(rows, order=of(values(rows, "order")), form="2x")[0] for of in (min, max))
    own = max(row["gradient"] for row in where(rows, form="recursion"))
    return (
        f"**The order matters less than the radius.** With twice the signal the output's error grows from "
        f"{percent(low['value'])} (order {low['order']}) to {percent(high['value'])} (order "
        f"{high['order']}), "
        f"the gradient's goes from {percent(low['gradient'])} to {percent(high['gradient'])}. The "
        "recursion in float32 "
        f"stays within {percent(own)}."
    )


def said_of_signal(rows: Rows) -> str:
    """Over the kind of signal."""
    worst, least = (of(where(rows, form="2x"), key=lambda row: row["gradient"]) for of in (max, min))
    return (
        f"**{worst['signal'].capitalize()} suffers most**: with twice the signal its gradient is off by "
        f"{percent(worst['gradient'])}, that of a {least['signal']} by {percent(least['gradient'])}."
    )


def said_of_dtype(rows: Rows) -> str:
    """What rounding costs."""
    radius = max(values(rows, "radius"))
    at = {(row["form"], row["dtype"]): row["gradient"] for row in where(rows, radius=radius)}
    return (
        f"**In float32, choose the form that keeps the pole.** At radius {radius:g}, padded until "
        "nothing wraps, the gradient "
        f"in float32 is off by {percent(at['recursion, blocked', 'float32'])} (recursion, blocked), "
        f"{percent(at['sampled, margins', 'float32'])} (sampled from margins) and "
        f"{percent(at['sampled, b and a', 'float32'])} (sampled from coefficients b and a, as is usual)."
    )


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


def said_of_hop(rows: Rows) -> str:
    """Hop and speed."""
    fast = max(values(rows, "rate_hz"))
    moving = [row for row in where(rows, rate_hz=fast) if row["hop"]]
    best, long = min(moving, key=lambda row: row["gradient"]), moving[-1]
    (own,) = where(rows, rate_hz=fast, hop=0)
    return (
        f"**A shorter hop does not mend it.** Swinging {fast:g} times a second at radius "
        f"{config.MOVING_RADIUS:g}, the gradient by frames is "
        f"off by {percent(best['gradient'])} at best (hop {best['hop']}) and by "
        f"{percent(long['gradient'])} at hop "
        f"{long['hop']}; the recursion in float32 by {percent(own['gradient'])}. What is left at short "
        "hops is not the hop's: every "
        "sample is filtered as if the controls stayed where they were when it came in."
    )


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


def said_of_frame(rows: Rows) -> str:
    """The length of frames."""
    half = where(rows, padding="half")
    none = where(rows, padding="none")
    best = min(rows, key=lambda row: row["gradient"])
    return (
        f"**Frames have a best length, and it is not good.** At hop {config.MOVING_HOP} the gradient is "
        f"off by {percent(best['gradient'])} at best "
        f"({best['n_fft']} samples, "
        f"{'half of them padding' if best['padding'] == 'half' else 'no padding'}): shorter "
        f"frames wrap ({percent(none[0]['gradient'])} at {none[0]['n_fft']} without padding), longer "
        "ones smear "
        f"({percent(half[-1]['gradient'])} at {half[-1]['n_fft']})."
    )


def said_of_moving_radius(rows: Rows) -> str:
    """Moving, over the radius."""
    hop = nearest(rows, "hop", 64)
    parts = [
        f"{row['radius']:g}: {percent(row['value'])} and {percent(row['gradient'])} (cosine "
        f"{row['cosine']:.2f})"
        for row in where(rows, hop=hop)
        if row["radius"] < 0.9999
    ]
    own = max(row["gradient"] for row in where(rows, hop=0))
    return (
        f"**Filters that move leave less room.** Errors of output and gradient at hop {hop}, by radius: "
        f"{'; '.join(parts)}. "
        "Already at 0.99 the frames' gradient is of little use, at 0.999 of none. The recursion in "
        f"float32 stays within {percent(own)}."
    )


def rows_of_moving_radius(rows: Rows) -> Rows:
    """Radii by hops: value / gradient / cosine."""
    return [
        {"radius": radius}
        | {
            (f"hop {row['hop']}" if row["hop"] else "recursion, float32"): (
                f"{cell('', row['value'])} / {cell('', row['gradient'])} / {row['cosine']:.2f}"
            )
            for row in where(rows, radius=radius)
        }
        for radius in values(rows, "radius")
    ]


def said_of_cost(rows: Rows) -> str:
    """Time and memory."""
    parts = []
    for size in values(where(rows, kind="standing"), "size"):
        times = {row["form"]: row["gradient ms"] for row in where(rows, kind="standing", size=size)}
        least, own = times["sampled, 1x"], times["recursion, blocked"]
        parts.append(
            f"at {size} samples sampling takes {least / own:.1f} (1x) to "
            f"{times['sampled, 4x'] / own:.1f} times (4x) as long as "
            "the blocked recursion"
        )
    moving = {row["form"]: row["gradient ms"] for row in where(rows, kind="moving")}
    fastest = min(moving[name] for name in moving if name.startswith("frames"))
    own = min(moving[name] for name in moving if name.startswith("recursion") and moving[name])
    return (
        f"**Sampling is not faster.** Value and gradient on this CPU: {'; '.join(parts)}. Moving "
        "filters: the fastest frames take "
        f"{fastest / own:.2g} times as long as the recursion. Times are multiples of SciPy's `sosfilt` "
        "(float64, filtering alone) in the same run, "
        "memory multiples of the signal; *compile* is what the first call takes beyond."
    )


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


def said_of_box(rows: Rows) -> str:
    """Who arrived."""
    parts = []
    for length in values([row for row in rows if row["form"] != "recursion"], "samples"):
        own, *others = where(rows, samples=length)
        ends = ", ".join(f"{row['end_db']:.0f} dB ({row['form']})" for row in others)
        parts.append(
            f"On sequences of {length} samples the recursion {arrived(own)}; sampling ends at {ends}"
        )
    sequences, whole = rows[0], rows[-1]
    return (
        f"**On a recorded tape machine only the recursion arrives and stays** (at {config.GOAL_DB:g} dB "
        "of the output of "
        f"the least exact loss). {'. '.join(parts)}. Sequences that begin at rest have forgotten what "
        "came before, "
        "whatever filters them: the recursion can as well be trained through the whole recording, which "
        "leaves an error "
        f"of {whole['esr']:.4f} of it instead of {sequences['esr']:.3f}, at {whole['step ms']:.1f} ms a step."
    )


def arrived(row: Row) -> str:
    """Steps and seconds, in a sentence."""
    if row["steps"] is None:
        return f"ends at {row['end_db']:.0f} dB"
    return f"is there after {row['steps']} steps ({row['seconds']:.2f} s) and ends at {row['end_db']:.0f} dB"


def rows_of_race(first: str) -> Callable[[Rows], Rows]:
    """Of a race, by its first column."""

    def rows_of(rows: Rows) -> Rows:
        return [
            {
                first: row[first],
                "trained by": row["form"]
                if row["form"] == "recursion" or "hop" in row["form"]
                else f"sampled {row['form']}",
                "steps to -40 dB": row["steps"],
                "seconds": row["seconds"],
                "ms a step": row["step ms"],
                "compile s": row["compile s"],
                "nearest, dB": row["least_db"],
                "end, dB": row["end_db"],
                "ESR in its own form": row["esr, own"],
                "ESR as recursion": row["esr, recursion"],
            }
            | ({"ESR, whole recording": row["esr"]} if "esr" in row else {})
            for row in rows
        ]

    return rows_of


def said_of_swinging(rows: Rows) -> str:
    """Who arrived, of the moving ones."""
    parts = []
    for radius in values(rows, "radius"):
        own, *others = where(rows, radius=radius)
        told = ", ".join(f"{row['form']} {arrived(row)}" for row in others)
        parts.append(f"At radius {radius:g} the recursion {arrived(own)}; {told}")
    return (
        f"**By frames a broad filter is learnt, a narrow one is not** ({config.GOAL_DB:g} dB of the "
        "answer's output). "
        f"{'. '.join(parts)}."
    )


def said_of_bare(rows: Rows) -> str:
    """How many are no filters."""
    parts = []
    for signal in values(rows, "signal"):
        own, *others = where(rows, signal=signal)
        low, high = (of(row["blown up"] for row in others) for of in (min, max))
        parts.append(
            f"{signal}: {low} to {high} of {own['starts']} by sampling, {own['blown up']} by the recursion"
        )
    sampled = [row for row in rows if row["form"] != "recursion"]
    lucky = sum(row["good, outside"] for row in sampled)
    return (
        "**Sampling does not see the unit circle.** Bare coefficients c and d of one section, trained "
        "from random "
        "starts, then run as a recursion for ten seconds. Blown up, "
        f"{'; '.join(parts)}. No loss shows it, none was above "
        f"{max(row['highest loss'] for row in sampled):.2f}: on the "
        "bins of a transform a pole outside the circle is as good as one inside. Of those that found "
        "the answer "
        f"{lucky or 'none'} ended outside. Hold all-passes by their margins (`allpass.Sections`), "
        "whatever trains them."
    )


def rows_of_bare(rows: Rows) -> Rows:
    """As they are, in words."""
    return [
        {
            "signal": row["signal"],
            "trained by": row["form"] if row["form"] == "recursion" else f"sampled {row['form']}",
            "starts": row["starts"],
            f"found (ESR below {config.BARE_GOOD:g})": row["good"],
            "poles outside": row["poles outside"],
            "blown up in 10 s": row["blown up"],
            "largest ESR in its own form": row["highest loss"],
        }
        for row in rows
    ]


def _radius_rows(rows: Rows) -> Rows:
    return [
        {"radius": line["radius"], "rings for": f"{1 / (1 - line['radius']):.0f}"} | line
        for line in spread(rows, "radius", ("value", "gradient", "cosine"))
    ]


def _plain(index: str, columns: Sequence[str] = ("value", "gradient")) -> Callable[[Rows], Rows]:
    return lambda rows: spread(rows, index, columns)


def _frame_rows(rows: Rows) -> Rows:
    return [
        {"n_fft": row["n_fft"], "padding": row["padding"]}
        | {name: row[name] for name in ("value", "gradient", "cosine")}
        for row in rows
    ]


FIGURES = {
    "radius": Figure("Pole radius", "radius", said_of_radius, _radius_rows),
    "length": Figure("Length of the signal", "length", said_of_length, rows_of_length),
    "near": Figure("Distance from the answer", None, said_of_near, _plain("distance")),
    "order": Figure("Order", None, said_of_order, _plain("order")),
    "signal": Figure("Signals", None, said_of_signal, _plain("signal")),
    "dtype": Figure("float32 and float64", None, said_of_dtype, rows_of_dtype),
    "hop": Figure("Moving: hop and speed", "moving", said_of_hop, rows_of_hop),
    "frame": Figure("Moving: frame and padding", None, said_of_frame, _frame_rows),
    "moving_radius": Figure("Moving: pole radius", None, said_of_moving_radius, rows_of_moving_radius),
    "cost": Figure("Time and memory", "cost", said_of_cost, rows_of_cost),
    "box": Figure("Race on a recorded box", "race", said_of_box, rows_of_race("samples")),
    "swinging": Figure("Race on a moving filter", None, said_of_swinging, rows_of_race("radius")),
    "bare": Figure("Trained by sampling, run as a recursion", "bare", said_of_bare, rows_of_bare),
}
