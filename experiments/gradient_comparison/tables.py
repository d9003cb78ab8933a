"""What was found, as Markdown: pictures, tables and captions.

The figures of a caption are computed, its headline is not: it says what was found when it was written, and
`headline` says so where a run does not bear it out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import config
import numpy as np

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
    whole = "The whole run" if set(results) == set(FIGURES) else "What is shown"
    parts = [f"{made_with} {whole} took {seconds / 60:.1f} minutes."]
    for name, figure in FIGURES.items():
        if name in results:
            rows = results[name]
            parts += [f"### {figure.title}"]
            if figure.picture:
                parts += [f"![{figure.title}]({figure.picture}.svg)"]
            parts += [figure.caption(rows), table(figure.rows(rows), cell)]
    return "\n\n".join(parts) + "\n"


def headline(text: str, holds: bool) -> str:
    """A finding, or that this run did not find it."""
    return f"**{text}**" if holds else f"**Not found in this run**: {text}"


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


# The captions


def said_of_radius(rows: Rows) -> str:
    """How value and gradient go over the radius."""
    parts, chosen = [], []
    for radius in dict.fromkeys(nearest(rows, "radius", wanted) for wanted in (0.999, 0.9999, 0.99999)):
        (row,) = where(rows, radius=radius, form="2x")
        chosen.append(row)
        parts.append(
            f"at {radius:g} the output is off by {percent(row['value'])}, that is "
            f"{percent(row['effect'])} of what "
            f"the filter does, and the gradient by {percent(row['gradient'])} (cosine {row['cosine']:.2f})"
        )
    own = max(row["gradient"] for row in where(rows, form="recursion"))
    holds = any(row["value"] < 0.05 and row["effect"] > 0.5 and row["gradient"] > 0.5 for row in chosen)
    said = headline("An output that is off by little can be off by all that the filter does.", holds)
    return (
        f"{said} With a transform of twice the signal, {'; '.join(parts)}: close to the circle so short "
        "a signal hardly "
        "feels the filter, so that an error which the ear would pass over is larger than its effect, "
        "and so is that of "
        f"the gradient. The recursion in float32 is within {percent(own)} of the float64 gradient at "
        "every radius. "
        "Medians of all draws, in brackets the worst gradient."
    )


def said_of_length(rows: Rows) -> str:
    """Padding in proportion to the length."""
    radius = min(values(rows, "radius"))
    short, long = (where(rows, form="1x", radius=radius)[index] for index in (0, -1))
    return (
        "**Twice the signal is enough for long signals and for poles that ring shortly.** Over the "
        "padding in time constants, "
        "1 / (1 - R) samples, the errors of all lengths fall close to one curve; how much padding that "
        "is, *Padding* says. "
        f"Without padding (1x) even a pole of radius {radius:g} leaves the output off by "
        f"{percent(short['value'])} at {short['samples']} samples and {percent(long['value'])} at "
        f"{long['samples']}."
    )


def padding(row: Row) -> int:
    """Samples of padding."""
    return (int(row["form"].rstrip("x")) - 1) * row["samples"]


def needed(rows: Rows, close: float, column: str) -> float | None:
    """Time constants of padding from which on the error stays below; None where no padding tried was "
    "enough.
    """
    enough = None
    for row in sorted(rows, key=lambda row: -row["constants"]):
        if row[column] > close:
            break
        enough = row["constants"]
    return enough


def said_of_padding(rows: Rows) -> str:
    """What padding a gradient needs."""

    def span(chosen: Rows, close: float, column: str) -> str:
        cases = {(row["radius"], row["distance"]) for row in chosen}
        found = [needed(where(chosen, radius=r, distance=d), close, column) for r, d in cases]
        known = [one for one in found if one is not None]
        if not known:
            return f"more than {max(row['constants'] for row in chosen):g}"
        ends = sorted({min(known), max(known)})
        return " to ".join(f"{one:g}" for one in ends) + (" or more" if None in found else "")

    far = where(rows, distance=max(values(rows, "distance")))
    close = [row for row in rows if row not in far]
    said = (
        f"**Give the slowest pole {span(far, CLOSE[0], 'gradient')} time constants of padding for "
        f"{percent(CLOSE[0])}, "
        f"{span(far, CLOSE[1], 'gradient')} for {percent(CLOSE[1])}, and more near the answer.** The "
        "more the signal is shorter than "
        "the ringing, the more it takes. For the worst of the draws: "
        f"{span(far, CLOSE[0], 'gradient, worst')} and {span(far, CLOSE[1], 'gradient, worst')}."
    )
    if close:
        near = span(close, CLOSE[0], "gradient")
        said += f" At a tenth and a hundredth of the distance {near} for {percent(CLOSE[0])}."
    return said


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


def said_of_near(rows: Rows) -> str:
    """What is left of the gradient near the answer."""
    far, close = (where(rows, distance=of(values(rows, "distance")), form="1x")[0] for of in (max, min))
    two = where(rows, distance=close["distance"], form="2x")[0]
    said = headline("The nearer the answer, the worse.", close["gradient"] > 3 * far["gradient"])
    return (
        f"{said} The output's error stays, the gradient shrinks: without padding the gradient is off by "
        f"{percent(far['gradient'])} at distance {far['distance']:g} and by {percent(close['gradient'])} at "
        f"{close['distance']:g}; with twice the signal, there, by {percent(two['gradient'])}. This is "
        "why sampled training "
        "stalls (see the races)."
    )


def said_of_order(rows: Rows) -> str:
    """Over the order."""
    low, high = (where(rows, order=of(values(rows, "order")), form="2x")[0] for of in (min, max))
    own = max(row["gradient"] for row in where(rows, form="recursion"))
    said = headline("The order matters less than the radius.", high["gradient"] < 10 * low["gradient"])
    return (
        f"{said} With twice the signal the output's error grows from "
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
    kept = at["recursion, blocked", "float32"] < at["sampled, b and a", "float32"]
    said = headline("In float32, choose the form that keeps the pole.", kept)
    return (
        f"{said} At radius {radius:g}, padded until "
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
    said = headline("A shorter hop does not mend it.", best["gradient"] > 0.01)
    return (
        f"{said} Swinging {fast:g} times a second at radius "
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
        f"**Frames have a best length.** At hop {config.MOVING_HOP} the gradient is "
        f"off by {percent(best['gradient'])} at best "
        f"({best['n_fft']} samples, "
        f"{'half of them padding' if best['padding'] == 'half' else 'no padding'}): shorter "
        f"frames wrap ({percent(none[0]['gradient'])} at {none[0]['n_fft']} without padding), longer "
        "ones smear "
        f"({percent(half[-1]['gradient'])} at {half[-1]['n_fft']})."
    )


def said_of_moving_radius(rows: Rows) -> str:
    """Moving, over the radius and the speed."""
    parts = []
    for rate_hz in values(rows, "rate_hz"):
        chosen = [row for row in where(rows, rate_hz=rate_hz) if row["hop"]]
        told = []
        for radius in [one for one in values(rows, "radius") if 0.8 < one < 0.9995]:
            best = min(where(chosen, radius=radius), key=lambda row: row["gradient"])
            told.append(
                f"{radius:g} {percent(best['gradient'])} (cosine {best['cosine']:.2f}, hop {best['hop']})"
            )
        parts.append(f"at {rate_hz:g} swings a second {', '.join(told)}")
    own = max(row["gradient"] for row in where(rows, hop=0))
    return (
        "**How narrow a moving filter may be depends on its speed.** The gradient by frames is off, by "
        "radius with the best "
        f"of the hops tried, {'; '.join(parts)}. The recursion in float32 stays within {percent(own)} "
        "of its own."
    )


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


def said_of_cost(rows: Rows) -> str:
    """Time and memory."""
    parts, ratios = [], []
    for size in values(where(rows, kind="standing"), "size"):
        times = {row["form"]: row["gradient ms"] for row in where(rows, kind="standing", size=size)}
        own = times["recursion, blocked"]
        ratio = {name: time / own for name, time in times.items() if time and name.startswith("sampled")}
        ratios += list(ratio.values())
        enough = next(value for name, value in ratio.items() if name.endswith("constants"))
        parts.append(
            f"at {size} samples sampling takes {ratio['sampled, 1x']:.1f} times as long as the blocked "
            "recursion without "
            f"padding, {enough:.1f} times with the nine time constants that this pole (R = 0.99) asks for, "
            f"{ratio['sampled, 4x']:.0f} times with four times the signal"
        )
    moving = {row["form"]: row["gradient ms"] for row in where(rows, kind="moving")}
    fastest = min(time for name, time in moving.items() if name.startswith("frames"))
    own = min(time for name, time in moving.items() if name.startswith("recursion") and time)
    return (
        f"{headline('On a CPU sampling is not faster.', min(ratios) > 1)} Value and gradient: "
        f"{'; '.join(parts)}. "
        f"Moving filters: the fastest frames take {fastest / own:.2g} times as long as the recursion. "
        "Times are multiples of "
        "SciPy's `sosfilt` (float64, filtering alone) in the same run, memory multiples of the signal; "
        "*compile* is what "
        "the first call takes beyond. No GPU was at hand, where a transform may well be the faster."
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
    """Who arrived, and what it is worth."""
    parts, stalls = [], []
    for length in lengths_of(rows):
        told = []
        for form in values(where(rows, samples=length), "form"):
            chosen = where(rows, samples=length, form=form)
            ends = ", ".join(f"{row['end_db']:.0f}" for row in chosen)
            stalls += [row["end_db"] for row in chosen if form != "recursion"]
            name = "the recursion" if form == "recursion" else form
            told.append(f"{name} at {ends} dB (ESR {median(chosen, 'esr, recursion'):.3f})")
        parts.append(f"On sequences of {length} samples, by start, {', '.join(told)}")
    sequences, whole = rows[0], rows[-1]
    said = headline("On a recorded tape machine sampling stalls.", max(stalls) > config.GOAL_DB)
    return (
        f"{said} Distances at the end from the output of the least exact loss, and the error of the "
        "sequences, run as a "
        f"recursion: {'. '.join(parts)}. What a stalled filter loses is much with little padding, and "
        "little with four times: "
        "there the floor is the protocol's own. Sequences that begin at rest have forgotten what came "
        "before, whatever "
        "filters them; a recursion can as well be trained through the whole recording, which leaves an "
        "error of "
        f"{whole['esr']:.4f} of it instead of {sequences['esr']:.3f}, at {whole['step ms']:.1f} ms a step."
    )


def lengths_of(rows: Rows) -> list[int]:
    """The lengths of sequences: all but the whole recording."""
    return values([row for row in rows if row["form"] != "recursion"], "samples")


def median(rows: Rows, column: str) -> float:
    """Of a column."""
    return float(np.median([row[column] for row in rows]))


def rows_of_box(rows: Rows) -> Rows:
    """A row for every length and form, starts side by side or their median."""
    found: Rows = []
    for length, form in dict.fromkeys((row["samples"], row["form"]) for row in rows):
        chosen = where(rows, samples=length, form=form)
        reached = [row for row in chosen if row["steps"] is not None]
        found.append(
            {
                "samples": length,
                "trained by": form if form == "recursion" else f"sampled {form}",
                "reach -40 dB": f"{len(reached)} of {len(chosen)}",
                "steps to it": ", ".join(str(row["steps"]) for row in reached) or None,
                "seconds to it": ", ".join(f"{row['seconds']:.2f}" for row in reached) or None,
                "ms a step": median(chosen, "step ms"),
                "nearest, dB": ", ".join(f"{row['least_db']:.0f}" for row in chosen),
                "end, dB": ", ".join(f"{row['end_db']:.0f}" for row in chosen),
                "ESR in its own form": median(chosen, "esr, own"),
                "ESR as recursion": median(chosen, "esr, recursion"),
                "least ESR": chosen[0]["best"],
                "ESR, whole recording": median(chosen, "esr"),
            }
        )
    return found


def arrived(row: Row) -> str:
    """Steps and seconds, in a sentence."""
    if row["steps"] is None:
        return f"ends at {row['end_db']:.0f} dB"
    return f"is there after {row['steps']} steps ({row['seconds']:.2f} s) and ends at {row['end_db']:.0f} dB"


def rows_of_swinging(rows: Rows) -> Rows:
    """As they are, in words."""
    return [
        {
            "radius": row["radius"],
            "trained by": row["form"],
            "steps to -40 dB": row["steps"],
            "seconds": row["seconds"],
            "ms a step": row["step ms"],
            "compile s": row["compile s"],
            "nearest, dB": row["least_db"],
            "end, dB": row["end_db"],
            "ESR in its own form": row["esr, own"],
            "ESR as recursion": row["esr, recursion"],
        }
        for row in rows
    ]


def said_of_swinging(rows: Rows) -> str:
    """Who arrived, of the moving ones."""
    parts = []
    for radius in values(rows, "radius"):
        own, *others = where(rows, radius=radius)
        told = ", ".join(f"{row['form']} {arrived(row)}" for row in others)
        parts.append(f"At radius {radius:g} the recursion {arrived(own)}; {told}")
    narrow = [row for row in where(rows, radius=max(values(rows, "radius"))) if row["form"] != "recursion"]
    said = headline(
        "The narrower a moving filter, the sooner frames stall.", min(r["end_db"] for r in narrow) > -40
    )
    return f"{said} ({config.GOAL_DB:g} dB of the answer's output). {'. '.join(parts)}."


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
    more = all(
        min(row["blown up"] for row in where(sampled, signal=signal))
        > where(rows, signal=signal)[0]["blown up"]
        for signal in values(rows, "signal")
    )
    said = headline("Nothing keeps a sampled filter inside the unit circle.", more)
    return (
        f"{said} Bare coefficients c and d of one section, trained from random starts, then run as a "
        "recursion for ten "
        f"seconds. Blown up, {'; '.join(parts)}. They are starts that failed: most collapse to c = 1, "
        "where poles meet zeros on "
        "the circle and the section does nothing, and drift across it; on the bins of a transform "
        "nothing happens there, while the "
        f"recursion's gradient pushes back. Of those that found the answer {lucky or 'none'} ended "
        "outside. Look at the poles "
        "before a filter trained by sampling is run, or hold them by their margins (`allpass.Sections`)."
    )


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


def _radius_rows(rows: Rows) -> Rows:
    return [
        {"radius": line["radius"], "rings for": f"{1 / (1 - line['radius']):.0f}"} | line
        for line in spread(rows, "radius")
    ]


def _over(index: str) -> Callable[[Rows], Rows]:
    return lambda rows: spread(rows, index)


def _frame_rows(rows: Rows) -> Rows:
    return [
        {"n_fft": row["n_fft"], "padding": row["padding"]}
        | {name: row[name] for name in ("value", "gradient", "cosine")}
        for row in rows
    ]


FIGURES = {
    "radius": Figure("Pole radius", "radius", said_of_radius, _radius_rows),
    "length": Figure("Length of the signal", "length", said_of_length, rows_of_length),
    "padding": Figure("Padding", None, said_of_padding, rows_of_padding),
    "near": Figure("Distance from the answer", None, said_of_near, _over("distance")),
    "order": Figure("Order", None, said_of_order, _over("order")),
    "signal": Figure("Signals", None, said_of_signal, _over("signal")),
    "dtype": Figure("float32 and float64", None, said_of_dtype, rows_of_dtype),
    "hop": Figure("Moving: hop and speed", "moving", said_of_hop, rows_of_hop),
    "frame": Figure("Moving: frame and padding", None, said_of_frame, _frame_rows),
    "moving_radius": Figure("Moving: pole radius", None, said_of_moving_radius, rows_of_moving_radius),
    "cost": Figure("Time and memory", "cost", said_of_cost, rows_of_cost),
    "box": Figure("Race on a recorded box", "race", said_of_box, rows_of_box),
    "swinging": Figure("Race on a moving filter", None, said_of_swinging, rows_of_swinging),
    "bare": Figure("Trained by sampling, run as a recursion", "bare", said_of_bare, rows_of_bare),
}
