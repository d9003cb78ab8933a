"""Draw losses over the length of the windows, cutoff curves, spectrograms; needs the extra `plot`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common import pictures
from experiments.synth import config, data, evaluate
from experiments.synth.evaluate import Group
from experiments.synth.protocol import RECURSION

# Okabe and Ito's colours, which colour-blind readers can tell apart; dashes tell them apart in grey.
BLUE, ORANGE, GREEN, INK, GRID = "#0072B2", "#D55E00", "#009E73", "#333333", "#e2e2e2"
SHOWN = 6  # notes with their cutoff


def draw(groups: Sequence[Group], folder: Path) -> None:
    """Draw all that there are results for, into a folder."""
    with pictures.drawing(folder / "losses.svg", max(3.2 * len(groups), 6.8), 3.3) as figure:
        losses(figure, groups)
    for group in groups:
        if group.notes == "known" and group.filter == "lp":
            with pictures.drawing(folder / "cutoff.svg", 9.6, 4.6) as figure:
                cutoffs(figure, group, folder)
    with pictures.drawing(folder / "spectrograms.png", 9.0, 2.0 * len(groups)) as figure:
        spectrograms(figure, groups, folder)


def losses(figure: Any, groups: Sequence[Group]) -> None:
    """Draw the loss of the test notes over the windows trained in: tested in them, and as recursion."""
    axes = figure.subplots(1, len(groups), squeeze=False)
    places = np.arange(len(config.WINDOWS))
    for ax, group in zip(axes[0], groups, strict=True):
        forms = [str(window) for window in config.WINDOWS]
        own = [evaluate.mean(group.forms[form], form) for form in forms]
        exact = [evaluate.mean(group.forms[form], RECURSION) for form in forms]
        seeds = [np.mean(evaluate.losses(group.forms[form], RECURSION), axis=1) for form in forms]
        best = np.mean(evaluate.losses(group.forms[RECURSION], RECURSION), axis=1)
        ax.axhline(np.mean(best), color=BLUE, lw=1.5, label="trained in the recursion")
        ax.plot(places, exact, "o-", ms=4, color=ORANGE, label="in windows, tested as recursion")
        ax.plot(places, own, "s:", ms=3, color=GREEN, label="in windows, tested in windows")
        if len(best) > 1:
            for place, values in zip(places, seeds, strict=True):
                ax.plot([place] * len(values), values, "_", color=ORANGE, ms=8)
            ax.plot([-0.4] * len(best), best, "_", color=BLUE, ms=8)
        ax.set_xticks(places, forms)
        ax.set(
            title=f"{evaluate.TITLES[group.notes]}, {evaluate.FILTERS[group.filter]}",
            xlabel="window, samples",
        )
        ax.grid(color=GRID, lw=0.6)
    axes[0][0].set_ylabel("multi-scale spectral loss")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)


def arrays_of(folder: Path, group: Group, form: str) -> dict[str, np.ndarray]:
    """Read the results of the first seed's test notes."""
    seed = group.forms[form][0]["seed"]
    with np.load(folder / f"{group.notes}-{group.filter}-{form}-{seed}.npz") as file:
        return dict(file)


def cutoffs(figure: Any, group: Group, folder: Path) -> None:
    """Draw the cutoff over time, estimated by networks trained in several forms, and the truth."""
    _, truth = data.known(config.KNOWN, config.KNOWN_SEED)
    on_s = data.known(config.KNOWN, config.KNOWN_SEED)[0].on_s
    rows = data.split(config.KNOWN)["test"]
    time_ms = 1e3 * np.arange(truth.cutoff_hz.shape[-1]) * config.HOP / config.FS
    axes = figure.subplots(2, SHOWN // 2, sharex=True, sharey=True)
    compared = dict.fromkeys((RECURSION, str(config.WINDOWS[0]), str(config.WINDOWS[-1])))
    estimated = {form: arrays_of(folder, group, form) for form in compared}
    for number, ax in enumerate(axes.flat[: len(rows)]):
        sounding = time_ms < 1e3 * on_s[rows[number]]
        ax.plot(
            time_ms[sounding],
            truth.cutoff_hz[rows[number]][sounding],
            color=INK,
            lw=2.5,
            alpha=0.4,
            label="truth",
        )
        for (form, one), colour, dash in zip(
            estimated.items(), (BLUE, ORANGE, GREEN), ("-", "--", ":"), strict=False
        ):
            label = "trained in the recursion" if form == RECURSION else f"in windows of {form}"
            ax.plot(time_ms[sounding], one["cutoff_hz"][number][sounding], dash, color=colour, label=label)
        title = f"Q {truth.q[rows[number]]:.1f}; estimated {estimated[RECURSION]['q'][number]:.1f}"
        ax.set(yscale="log", title=title)
        ax.set_yticks([200, 500, 1000, 2000, 5000], ["200", "500", "1k", "2k", "5k"])
        ax.minorticks_off()
        ax.grid(color=GRID, lw=0.6)
    for ax in axes[-1]:
        ax.set_xlabel("ms")
    for ax in axes[:, 0]:
        ax.set_ylabel("cutoff, Hz")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)


def worst(group: Group) -> str:
    """Return the window length that is worst to train in, tested as recursion."""
    return max(
        (form for form in group.forms if form != RECURSION),
        key=lambda form: evaluate.mean(group.forms[form], RECURSION),
    )


def spectrograms(figure: Any, groups: Sequence[Group], folder: Path) -> None:
    """Draw a test note of each group: the target, trained in the recursion, trained in the worst windows."""
    axes = figure.subplots(len(groups), 3, sharex=True, sharey=True, squeeze=False)
    for row, group in zip(axes, groups, strict=True):
        bad = worst(group)
        exact, other = (arrays_of(folder, group, form) for form in (RECURSION, bad))
        note = int(np.argsort(evaluate.losses(group.forms[bad], RECURSION)[0])[-2])
        titles = ("target", "trained in the recursion", f"trained in windows of {bad}")
        for ax, title, x in zip(
            row, titles, (exact["target"], exact["recursion"], other["recursion"]), strict=True
        ):
            _spectrogram(ax, x[note])
            ax.set_title(title)
        row[0].set_ylabel(f"{evaluate.TITLES[group.notes]},\n{evaluate.FILTERS[group.filter]}\nkHz")
    for ax in axes[-1]:
        ax.set_xlabel("ms")


def _spectrogram(ax: Any, x: np.ndarray) -> None:
    window, hop = 512, 64
    starts = np.arange(0, x.size - window + 1, hop)
    frames = np.stack([x[start : start + window] for start in starts]) * np.hanning(window)
    level_db = 20 * np.log10(np.maximum(np.abs(np.fft.rfft(frames)) * 4 / window, 1e-5)).T
    extent = (0, 1e3 * x.size / config.FS, 0, config.FS / 2e3)
    ax.imshow(level_db, origin="lower", aspect="auto", extent=extent, vmin=-90, vmax=0, cmap="magma")
    ax.set_ylim(0, 12)
