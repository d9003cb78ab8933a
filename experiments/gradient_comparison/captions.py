"""What is said of the figures.

The figures of a caption are computed, its headline is not: it says what was found when it was written, and
`headline` says so where a run does not bear it out.
"""

from __future__ import annotations

from experiments.gradient_comparison import config
from experiments.gradient_comparison.lookup import (
    Rows,
    lengths_of,
    median,
    nearest,
    needed,
    padding,
    values,
    where,
)

CLOSE = (0.01, 1e-4)  # errors of a gradient, for which the padding needed is told
ALIKE = 0.02  # error-to-signal ratios that differ by less are told as alike


def headline(text: str, holds: bool) -> str:
    """A finding, or that this run did not find it."""
    return f"**{text}**" if holds else f"**Not found in this run**: {text}"


def percent(share: float) -> str:
    """A share, as said in a sentence."""
    if share >= 1.5:
        return f"{share:.2g} times its size" if share < 10 else f"{share:.0f} times its size"
    if share >= 1e-4:
        return f"{100 * share:.0f} %" if share >= 0.995 else f"{100 * share:.2g} %"
    return f"{share:.0e}".replace("e-0", "e-")


def said_of_radius(rows: Rows) -> str:
    """How value and gradient go over the radius."""
    parts, chosen = [], []
    for radius in dict.fromkeys(nearest(rows, "radius", wanted) for wanted in (0.999, 0.9999, 0.99999)):
        (row,) = where(rows, radius=radius, form="2x")
        chosen.append(row)
        parts.append(
            f"at {radius:g} the output is off by {percent(row['value'])}, that is "
            f"{percent(row['effect']).replace(' times its size', ' times').replace('%', '% of')} what the "
            f"filter does, and the gradient by {percent(row['gradient'])} (cosine {row['cosine']:.2f})"
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
