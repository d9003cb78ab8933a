"""Figure 2 of the paper: for each loss its curves, the alignment at four moments, and the phase responses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec

from experiments.common.pictures import drawing
from experiments.rc_filter import answer, config
from jaxapf import allpass, audio

# Okabe and Ito's colours, which colour-blind readers can tell apart.
TARGET, DRY, FOUND, MATCH = "#8a8f98", "#E69F00", "#0072B2", "#D55E00"
SLOW, FAINT = "#CC79A7", "#c4c8ce"
TITLES = {"mstft": "M-STFT", "mse": "MSE"}


def draw(results: dict[str, Any], path: Path) -> None:
    """Write the picture of a run's results (rc.json)."""
    with drawing(path, 12, 6.8) as figure:
        names = [name for name in TITLES if name in {row["loss"] for row in results["rows"]}]
        grid = figure.add_gridspec(len(names), 3, width_ratios=(1, 1.45, 1))
        for row, name in enumerate(names):
            best = chosen(results, name)
            draw_losses(figure.add_subplot(grid[row, 0]), results, name)
            draw_moments(figure, grid[row, 1], best, first=row == 0)
            draw_phases(figure.add_subplot(grid[row, 2]), best, name)


def chosen(results: dict[str, Any], name: str) -> float:
    """Return the coefficient that is drawn: trained by this loss at the fast rate from the first start."""
    rows = [row for row in results["rows"] if row["loss"] == name and row["rate"] == config.RATE]
    return rows[0]["trained"]


def draw_losses(ax: Axes, results: dict[str, Any], name: str) -> None:
    """Draw the losses of all runs, step by step."""
    labelled = set()
    for run in results["runs"]:
        if run["loss"] != name:
            continue
        fast = run["rate"] == config.RATE
        label = f"Adam, {run['rate']:.0e}".replace("e-0", "e-") + ("" if fast else ", the paper's")
        ax.semilogy(
            np.arange(len(run["losses"])),
            np.array(run["losses"], float),
            color=FOUND if fast else SLOW,
            lw=0.9,
            label=None if label in labelled else label,
        )
        labelled.add(label)
    least = results["answers"][f"{name}, sequences"]["loss"]
    ax.axhline(least, color="black", lw=0.9, ls=(0, (4, 3)), label="least, all sequences")
    ax.set(title=f"{TITLES[name]}: loss of each batch", xlabel="step", ylabel="loss")
    ax.legend(frameon=False, fontsize=8)


def draw_moments(figure: Figure, place: SubplotSpec, coefficient: float, *, first: bool) -> None:
    """Draw a few periods of the input, the target and the output of the trained section."""
    dry = audio.log_sweep(config.SWEEP_S, config.FS)
    wet = answer.rc_filter(answer.rho_of(config.RESISTANCE, config.CAPACITANCE, config.FS), dry)
    found = np.asarray(allpass.cascade(allpass.first_order(coefficient), dry.astype(np.float32)))
    growth = np.log(20_000.0 / 20.0) / config.SWEEP_S
    cells = place.subgridspec(2, 2)
    for number, moment_s in enumerate(moments()):
        ax = figure.add_subplot(cells[number // 2, number % 2])
        hz = 20.0 * np.exp(growth * moment_s)
        start = round(moment_s * config.FS)
        part = slice(start, start + max(8, round(config.PERIODS / hz * config.FS)))
        time_ms = np.arange(part.stop - part.start) / config.FS * 1e3
        time_ms = time_ms[: len(dry[part])]
        ax.plot(time_ms, wet[part], color=TARGET, lw=3.4, label="RC output")
        ax.plot(time_ms, dry[part], color=DRY, lw=1.4, label="input")
        ax.plot(time_ms, found[part], color=FOUND, lw=1.4, ls=(0, (3, 1.5)), label="prediction")
        ax.set_title(f"{moment_s:g} s: {hz:.0f} Hz" if hz < 1000 else f"{moment_s:g} s: {hz / 1e3:.1f} kHz")
        ax.set_ylim(-0.62, 0.62)
        ax.set_xlabel("ms" if number > 1 else "")
        if first and number == 0:
            figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)


def moments() -> list[float]:
    """Return where the sweep is shown, in seconds; of a shorter sweep the same shares."""
    return [moment * config.SWEEP_S / 10.0 for moment in config.MOMENTS_S]


def draw_phases(ax: Axes, coefficient: float, name: str) -> None:
    """Draw the phases up to half the rate, the part beyond the sweep shaded."""
    rho = answer.rho_of(config.RESISTANCE, config.CAPACITANCE, config.FS)
    freqs_hz = np.geomspace(200.0, 0.4999 * config.FS, 600)
    match = answer.low_frequency_match(rho)
    lines = {
        "RC filter": (answer.rc_phase(rho, freqs_hz, config.FS), TARGET, 3.4, "-"),
        f"all-pass, trained: g = {coefficient:.3f}": (
            answer.allpass_phase(coefficient, freqs_hz, config.FS),
            FOUND,
            1.3,
            "-",
        ),
        f"all-pass, low frequencies: g = {match:.3f}": (
            answer.allpass_phase(match, freqs_hz, config.FS),
            MATCH,
            1.3,
            (0, (4, 2)),
        ),
    }
    for label, (phase, colour, width, dashes) in lines.items():
        ax.semilogx(freqs_hz, np.degrees(phase), color=colour, lw=width, ls=dashes, label=label)
    note: Any = {"fontsize": 7.5, "color": "#666666"}
    ax.axvspan(20_000.0, 0.5 * config.FS, color="#f1f2f4", zorder=0)
    ax.text(44_000.0, 1.0, "no sweep", ha="center", va="top", **note)
    if name == "mstft":
        highest_hz = config.FRACTION * config.FS / 2
        ax.axvline(highest_hz, color=FAINT, lw=1, zorder=0)
        ax.text(0.95 * highest_hz, -179.0, "bins that count", ha="right", va="bottom", **note)
    ax.set(title=f"{TITLES[name]}: phase response", xlabel="Hz", ylabel="degrees", ylim=(-182, 4))
    ax.set_xlim(freqs_hz[0], 0.5 * config.FS)
    ax.set_yticks([0, -45, -90, -135, -180])
    ticks = {200: "200", 1000: "1k", 5000: "5k", 20_000: "20k", 96_000: "96k"}
    ax.set_xticks(list(ticks), list(ticks.values()))
    ax.minorticks_off()
    ax.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0.0, 0.08))
