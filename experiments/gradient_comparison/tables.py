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
ALIKE = 0.02  # error-to-signal ratios that differ by less are told as alike


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
    holds = any(row["value"] < 0.05 and row["effect"] > 0.5 and row["gradient"] > 0.5 for row in chosen)
    said = headline("An output that is off by little can be off by all that the filter does.", holds)
    return (
        f"{said} With a transform of twice the signal, {'; '.join(parts)}: close to the circle so short "
        "a signal hardly "
        "feels the filter, so that an error which the ear would pass over is larger than its effect, "
        "and so is that of "
        f"the gradient. {of_float32(rows, 'at any radius')}"
    )


def of_float32(rows: Rows, anywhere: str) -> str:
    """How far off the recursion's own gradient is, in float32."""
    own = [row for row in rows if row.get("form") == "recursion" or row.get("hop") == 0]
    median, worst = (max(row[column] for row in own) for column in ("gradient", "gradient, worst"))
    return (
        f"That of the recursion in float32 is off by {percent(median)} at most {anywhere}, in the worst "
        f"draw by {percent(worst)}."
    )


def said_of_length(rows: Rows) -> str:
    """Padding in proportion to the length."""
    radius = min(values(rows, "radius"))
    short, long = (where(rows, form="1x", radius=radius)[index] for index in (0, -1))
    few = [row for row in where(rows, form="2x") if padding(row) * (1 - row["radius"]) < 1]
    low, high = (of((row["gradient"] for row in few), default=0.0) for of in (min, max))
    return (
        "**Twice the signal is enough for long signals and for poles that ring shortly.** The padding in "
        "time constants, 1 / (1 - R) samples, decides the order of magnitude; at the same padding shorter "
        "signals fare worse (see *Padding*), and below one time constant the gradient is off by anything "
        f"from {percent(low)} to {percent(high)}. Without padding (1x) even a pole of radius {radius:g} "
        f"leaves the output off by {percent(short['value'])} at {short['samples']} samples and "
        f"{percent(long['value'])} at {long['samples']}."
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
        f"{close['distance']:g}; with twice the signal, there, by {percent(two['gradient'])}. So a sampled "
        "training ends beside the answer (see the races)."
    )


def said_of_order(rows: Rows) -> str:
    """Over the order."""
    low, high = (where(rows, order=of(values(rows, "order")), form="2x")[0] for of in (min, max))
    said = headline("The order matters less than the radius.", high["gradient"] < 10 * low["gradient"])
    return (
        f"{said} With twice the signal the output's error grows from "
        f"{percent(low['value'])} (order {low['order']}) to {percent(high['value'])} (order "
        f"{high['order']}), "
        f"the gradient's goes from {percent(low['gradient'])} to {percent(high['gradient'])}. "
        f"{of_float32(rows, 'at any order')}"
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
    return (
        "**How narrow a moving filter may be depends on its speed.** The gradient by frames is off, by "
        "radius with the best "
        f"of the hops tried, {'; '.join(parts)}. {of_float32(rows, 'at any radius')}"
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
    parts, ends, alike, better = [], [], [], []
    for length in lengths_of(rows):
        of_length = where(rows, samples=length)
        exact = where(of_length, form="recursion")
        told = []
        for form in values(of_length, "form"):
            chosen = where(of_length, form=form)
            told.append(f"{'the recursion' if form == 'recursion' else form} {course_said(chosen)}")
            if form == "recursion":
                continue
            ends += [row["end_db"] for row in chosen]
            ratio = median(chosen, "esr, recursion") / median(exact, "esr, recursion")
            alike += [f"{form} at {length}"] if ratio < 1 + ALIKE else []
            less = sum(row["esr"] < own["esr"] for row, own in zip(chosen, exact, strict=True))
            better += [f"{form} at {length} in {less} of {len(chosen)} starts"] if less else []
        parts.append(f"On sequences of {length} samples {'; '.join(told)}")
    sequences, whole = rows[0], rows[-1]
    said = headline(
        f"On a recorded tape machine no sampled training ends within {config.GOAL_DB:g} dB of the best; with "
        "enough padding the error hardly shows it.",
        min(ends) > config.GOAL_DB and len(alike) > 0,
    )
    return (
        f"{said} Distances from the output of the least exact loss, by start. {'. '.join(parts)}. What that "
        f"is worth: run as a recursion, the median error is within {percent(ALIKE)} of the recursion's own "
        f"with {', '.join(alike) or 'none'}; of the whole recording {', '.join(better) or 'none'} even leave "
        "less. The larger error is the protocol's: sequences that begin at rest have forgotten what came "
        f"before. Trained through the whole recording, the recursion leaves {whole['esr']:.4f} of it instead "
        f"of {sequences['esr']:.3f}, at {whole['step ms']:.1f} ms a step."
    )


def course_said(chosen: Rows) -> str:
    """Of several starts: who reaches the goal, when, and where they end."""
    reached = [row for row in chosen if row["steps"] is not None]
    ends = ", ".join(f"{row['end_db']:.0f}" for row in chosen)
    steps = f" (after {', '.join(str(row['steps']) for row in reached)} steps)" if reached else ""
    return f"reaches {config.GOAL_DB:g} dB in {len(reached)} of {len(chosen)}{steps} and ends at {ends} dB"


def lengths_of(rows: Rows) -> list[int]:
    """The lengths of sequences: all but the whole recording."""
    return values([row for row in rows if row["form"] != "recursion"], "samples")


def median(rows: Rows, column: str) -> float:
    """Of a column."""
    return float(np.median([row[column] for row in rows]))


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


def said_of_swinging(rows: Rows) -> str:
    """Who arrived, of the moving ones."""
    parts = []
    for radius in values(rows, "radius"):
        told = [
            f"{'the recursion' if form == 'recursion' else form} "
            f"{course_said(where(rows, radius=radius, form=form))}"
            for form in values(rows, "form")
        ]
        parts.append(f"At radius {radius:g} {'; '.join(told)}")
    narrow = where(rows, radius=max(values(rows, "radius")))
    frames = [row["end_db"] for row in narrow if row["form"] != "recursion"]
    own = [row["end_db"] for row in narrow if row["form"] == "recursion"]
    said = headline("The narrower a moving filter, the sooner frames stall.", min(frames) > max(own) + 20)
    return f"{said} Distances from the answer's output, by draw. {'. '.join(parts)}. Its picture is above."


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


FOUR = (
    "*In the table, medians of all draws: error of the output / the same over what the filter does / "
    "error of the gradient (in the worst draw) / cosine.*"
)
FIGURES = {
    "radius": Figure("Pole radius", "radius", said_of_radius, _radius_rows, FOUR),
    "length": Figure(
        "Length of the signal",
        "length",
        said_of_length,
        rows_of_length,
        "*In the table: error of the gradient, transform of twice the signal, medians.*",
    ),
    "padding": Figure(
        "Padding",
        None,
        said_of_padding,
        rows_of_padding,
        "*In the table: error of the gradient by padding in time constants, medians (in the worst draw).*",
    ),
    "near": Figure("Distance from the answer", None, said_of_near, _over("distance"), FOUR),
    "order": Figure("Order", None, said_of_order, _over("order"), FOUR),
    "signal": Figure("Signals", None, said_of_signal, _over("signal"), FOUR),
    "dtype": Figure(
        "float32 and float64",
        None,
        said_of_dtype,
        rows_of_dtype,
        "*In the table, of one draw: error of the output / of the gradient.*",
    ),
    "hop": Figure(
        "Moving: hop and speed",
        "moving",
        said_of_hop,
        rows_of_hop,
        "*In the table, medians: error of the output / of the gradient.*",
    ),
    "frame": Figure("Moving: frame and padding", None, said_of_frame, _frame_rows),
    "moving_radius": Figure(
        "Moving: pole radius",
        None,
        said_of_moving_radius,
        rows_of_moving_radius,
        "*In the table, medians: error of the output / of the gradient / cosine.*",
    ),
    "cost": Figure("Time and memory", "cost", said_of_cost, rows_of_cost),
    "box": Figure("Race on a recorded box", "race", said_of_box, rows_of_box),
    "swinging": Figure("Race on a moving filter", None, said_of_swinging, rows_of_swinging),
    "bare": Figure("Trained by sampling, run as a recursion", "bare", said_of_bare, rows_of_bare),
}
