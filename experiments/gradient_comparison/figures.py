"""Pictures of the comparison, as SVG (needs the extra `plot`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common import pictures
from experiments.common.pictures import plt, save
from experiments.gradient_comparison import config
from experiments.gradient_comparison.tables import Rows, lengths_of, median, padding, values, where

# Okabe and Ito's colours, which colour-blind readers can tell apart; markers tell them apart in grey.
BLUE, ORANGE, GREEN, PURPLE, SKY, INK, GRID = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9"),
    *("#333333", "#e2e2e2"),
)
OF_FORM = {"recursion": BLUE, "1x": ORANGE, "2x": GREEN, "4x": PURPLE}
MARKS = ("o", "s", "^", "v", "D", "P", "X")
STYLE: Any = pictures.STYLE | {
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "lines.markersize": 4,
}
FLOOR = 1e-16


def draw(results: dict[str, Rows], folder: Path) -> None:
    """Draw all that there are figures of."""
    with plt.rc_context(STYLE):
        for name, (needs, picture) in DRAWN.items():
            if all(one in results for one in needs):
                save(picture(*(results[one] for one in needs)), folder / f"{name}.svg")


def radius(rows: Rows) -> Any:
    """Errors of value and gradient, and the cosine, over 1 - R."""
    figure, axes = plt.subplots(2, 2, figsize=(7.2, 5.6), layout="constrained")
    for ax, (column, title) in zip(
        axes.flat,
        (
            ("value", "output, relative error"),
            ("effect", "output, over the filter's effect"),
            ("gradient", "gradient, relative error"),
            ("cosine", "gradient, cosine"),
        ),
        strict=True,
    ):
        for form, mark in zip(OF_FORM, MARKS, strict=False):
            chosen = where(rows, form=form)
            gaps = [1 - row["radius"] for row in chosen]
            label = "recursion, float32" if form == "recursion" else f"sampled, {form}"
            y = [row[column] if column == "cosine" else max(row[column], FLOOR) for row in chosen]
            ax.plot(gaps, y, f"{mark}-", color=OF_FORM[form], label=label)
        ax.set(title=title, xscale="log", xlabel="1 − R (pole radius R)")
        ax.invert_xaxis()
        if column != "cosine":
            ax.set(yscale="log", ylim=(FLOOR / 2, 1e2))
    axes[1, 1].axhline(0, color=INK, lw=0.8)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return figure


def length(rows: Rows) -> Any:
    """Gradient errors of all lengths over the padding in time constants, and over the radius."""
    figure, axes = plt.subplots(1, 2, figsize=(9.2, 3.8), layout="constrained", sharey=True)
    colours = plt.get_cmap("viridis")(np.linspace(0, 0.85, len(values(rows, "samples"))))
    for colour, n_samples, mark in zip(colours, values(rows, "samples"), MARKS, strict=False):
        for form, line in (("2x", "-"), ("4x", ":")):
            chosen = where(rows, samples=n_samples, form=form)
            gaps = np.array([1 - row["radius"] for row in chosen])
            y = [max(row["gradient"], FLOOR) for row in chosen]
            label = f"{n_samples} samples, {form}"
            axes[0].plot(gaps, y, mark + line, color=colour, label=label)
            axes[1].plot(gaps * padding(chosen[0]), y, mark + line, color=colour)
    axes[0].set(title="over the pole's distance from the circle", xlabel="1 − R")
    axes[0].invert_xaxis()
    axes[1].set(title="over the padding in time constants", xlabel="padding × (1 − R)", xlim=(40, 1e-3))
    axes[0].set(ylabel="gradient, relative error", ylim=(FLOOR / 2, 1e3))
    for ax in axes:
        ax.set(xscale="log", yscale="log")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=7.5, columnspacing=1.2)
    return figure


def moving(hops: Rows, lengthened: Rows, radii: Rows) -> Any:
    """Gradient errors of frames: over the hop, the frame, the radius at two speeds."""
    figure, grid = plt.subplots(2, 2, figsize=(7.6, 7.0), layout="constrained", sharey=True)
    axes = grid.ravel()
    rates = values(hops, "rate_hz")
    colours = plt.get_cmap("viridis")(np.linspace(0, 0.85, len(rates)))
    for colour, rate, mark in zip(colours, rates, MARKS, strict=False):
        chosen = [row for row in where(hops, rate_hz=rate) if row["hop"]]
        axes[0].plot(*_columns(chosen, "hop"), f"{mark}-", color=colour, label=f"{rate:g} Hz")
    own = max(row["gradient"] for row in where(hops, hop=0))
    axes[0].axhline(own, color=BLUE, ls="--", lw=1, label="recursion, float32")
    axes[0].set(
        title=f"hop (frame of 8 hops, R = {config.MOVING_RADIUS:g})", xlabel="hop, samples", xscale="log"
    )
    shown = values(hops, "hop")[:-1]
    axes[0].set_xticks(shown, [str(one) for one in shown])
    axes[0].minorticks_off()
    axes[0].set(yscale="log", ylabel="gradient, relative error", ylim=(1e-8, 1e2))
    for kind, colour, mark in (("half", GREEN, "o"), ("none", ORANGE, "s")):
        chosen = where(lengthened, padding=kind)
        label = "half of it padding" if kind == "half" else "no padding"
        axes[1].plot(*_columns(chosen, "n_fft"), f"{mark}-", color=colour, label=label)
    axes[1].set(
        title=f"frame (hop {config.MOVING_HOP}, {config.MOVING_RATE_HZ:g} Hz)",
        xlabel="frame, samples",
        xscale="log",
    )
    lengths = values(lengthened, "n_fft")
    axes[1].set_xticks(lengths, [str(one) for one in lengths])
    axes[1].minorticks_off()
    for ax, rate in zip(axes[2:], values(radii, "rate_hz"), strict=False):
        _over_radius(ax, where(radii, rate_hz=rate), rate)
    axes[2].set(ylabel="gradient, relative error")
    for ax in axes[2 + len(values(radii, "rate_hz")) :]:
        ax.remove()
    for ax in figure.axes:
        ax.legend(fontsize=7.5)
    return figure


def _over_radius(ax: Any, rows: Rows, rate_hz: float) -> None:
    for hop, colour, mark in zip(values(rows, "hop"), (GREEN, PURPLE, ORANGE, BLUE), MARKS, strict=False):
        chosen = where(rows, hop=hop)
        gaps = [1 - row["radius"] for row in chosen]
        label, colour = (f"hop {hop}", colour) if hop else ("recursion, float32", BLUE)
        ax.plot(gaps, [row["gradient"] for row in chosen], f"{mark}-", color=colour, label=label)
    ax.set(title=f"pole radius ({rate_hz:g} Hz)", xlabel="1 − R", xscale="log")
    ax.invert_xaxis()


def _columns(rows: Rows, column: str) -> tuple[list[float], list[float]]:
    return [row[column] for row in rows], [max(row["gradient"], FLOOR) for row in rows]


def cost(rows: Rows) -> Any:
    """Bars: time with the gradient, and memory."""
    groups = [(row["kind"], row["size"]) for row in rows]
    groups = list(dict.fromkeys(groups))
    figure, axes = plt.subplots(
        len(groups), 2, figsize=(7.6, 2.5 * len(groups)), layout="constrained", squeeze=False
    )
    for line, (kind, size) in zip(axes, groups, strict=True):
        chosen = [row for row in where(rows, kind=kind, size=size) if row["gradient ms"] is not None]
        names = [row["form"] for row in chosen]
        colours = [BLUE if name.startswith("recursion") else ORANGE for name in names]
        for ax, key in zip(line, ("gradient / SciPy", "measured"), strict=True):
            heights = [row[key] or 0.0 for row in chosen]
            if not any(heights):
                ax.axis("off")
                continue
            ax.barh(names, heights, color=colours, height=0.65)
            ax.bar_label(ax.containers[0], fmt="%.3g", fontsize=7.5, padding=2)
            ax.margins(x=0.15)
            ax.invert_yaxis()
            ax.grid(axis="y", visible=False)
        line[0].set(title=f"{kind}, {size}", xlabel="time, with gradient (SciPy = 1)")
        line[1].set(xlabel="memory / signal", yticks=[])
    return figure


def race(box: Rows, swinging: Rows) -> Any:
    """The recursion's distance from the goal, over steps and over seconds."""
    panels = [(f"tape machine, sequences of {n}", where(box, samples=n)) for n in lengths_of(box)]
    panels += [(f"moving, R = {r:g}", where(swinging, radius=r)) for r in values(swinging, "radius")]
    figure, axes = plt.subplots(
        len(panels), 2, figsize=(7.6, 2.7 * len(panels)), layout="constrained", squeeze=False, sharey=True
    )
    hops = [form for form in values(swinging, "form") if form != "recursion"]
    colours = OF_FORM | dict(zip(hops, (SKY, GREEN, PURPLE), strict=False))
    for line, (title, rows) in zip(axes, panels, strict=True):
        for row in rows:
            steps, db = np.array(row["way"]).T
            label = row["form"] if row["form"] in ("recursion", *hops) else f"sampled {row['form']}"
            label = label if row["start"] == 0 else ""
            options = {"color": colours[row["form"]], "label": label, "marker": "", "lw": 1.4}
            line[0].plot(steps, db, **options)
            line[1].plot(steps[1:] * row["step ms"] / 1e3, db[1:], **options)
        for ax, name in zip(line, ("steps", "seconds, without compiling"), strict=True):
            ax.axhline(config.GOAL_DB, color=INK, lw=0.8, ls="--")
            ax.set(xlabel=name)
        line[1].set(xscale="log")
        line[0].set(title=title, ylim=(-80, 5), ylabel="distance from the goal, dB")
        line[0].legend(fontsize=7.5)
    return figure


def bare(rows: Rows, box: Rows) -> Any:
    """How many blew up; and the error in the form that was trained beside that of the recursion."""
    figure, axes = plt.subplots(1, 2, figsize=(9.2, 3.4), layout="constrained")
    forms = values(rows, "form")
    for index, signal in enumerate(values(rows, "signal")):
        chosen = where(rows, signal=signal)
        share = [100 * row["blown up"] / row["starts"] for row in chosen]
        places = np.arange(len(forms)) + 0.38 * index
        bars = axes[0].bar(places, share, 0.36, label=signal, color=(SKY, BLUE)[index % 2])
        axes[0].bar_label(bars, fmt="%.0f", fontsize=7.5)
    axes[0].set_xticks(np.arange(len(forms)) + 0.19, [_named(form) for form in forms])
    axes[0].set(
        title="bare coefficients: filters that blow up", ylabel="per cent of the starts", ylim=(0, 110)
    )
    axes[0].legend(fontsize=7.5)
    pairs = [(n, form) for n in lengths_of(box) for form in values(box, "form")]
    chosen = [where(box, samples=n, form=form) for n, form in pairs]
    labels = [f"{'exact' if form == 'recursion' else form}\n{n}" for n, form in pairs]
    for index, (key, name, colour) in enumerate(
        (("esr, own", "in the form trained", ORANGE), ("esr, recursion", "as a recursion", BLUE))
    ):
        places = np.arange(len(chosen)) + 0.38 * index
        axes[1].bar(places, [median(one, key) for one in chosen], 0.36, label=name, color=colour)
    axes[1].set_xticks(np.arange(len(chosen)) + 0.19, labels, fontsize=7)
    axes[1].set(title="tape machine: error-to-signal ratio of the sequences")
    axes[1].legend(fontsize=7.5)
    for ax in axes:
        ax.grid(axis="x", visible=False)
    return figure


def _named(form: str) -> str:
    return form if form == "recursion" else f"sampled {form}"


DRAWN: dict[str, tuple[tuple[str, ...], Callable[..., Any]]] = {
    "radius": (("radius",), radius),
    "length": (("length",), length),
    "moving": (("hop", "frame", "moving_radius"), moving),
    "cost": (("cost",), cost),
    "race": (("box", "swinging"), race),
    "bare": (("bare", "box"), bare),
}
