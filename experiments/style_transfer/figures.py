"""Draw as SVG the distance of every strategy and seed, and equaliser curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.style_transfer import evaluate
from jaxapf import audio
from jaxapf.report.svg import Axis, Curve, Panel, Size, figure, frequency_axis, linear_axis

FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif'
LIGHT = "--paper:#fbfaf8;--ink:#22252a;--muted:#646a73;--grid:#e9e6e0;--true:#98a0ad;"
DARK = "--paper:#15171b;--ink:#e7e5e0;--muted:#a0a5ae;--grid:#282c32;--true:#707988;"
# Told apart by lightness as well as by hue.
DAY = ("#1559c7", "#b5650b", "#1a7f5a", "#b3266f", "#6b4bc4", "#5b6270")
NIGHT = ("#6eacff", "#e3a34d", "#5fcf9f", "#f17fb5", "#b39bff", "#a7adb8")
LOW_HZ, HIGH_HZ = 30.0, 11e3
SPREAD = 0.12  # between the dots of a strategy's seeds, of the way to the next strategy
WIDE = Size(760, 360, 14)


def style() -> str:
    """Return the CSS of the drawings: colours by day and by night, and how curves look."""
    light, dark = (
        base + "".join(f"--s{i}:{colour};" for i, colour in enumerate(colours))
        for base, colours in ((LIGHT, DAY), (DARK, NIGHT))
    )
    roles = "".join(
        f".plot .s{i}{{stroke:var(--s{i})}}.plot .dash{i}{{stroke:var(--s{i});stroke-dasharray:6 4}}"
        for i in range(len(DAY))
    )
    return (
        f":root,svg{{{light}}}@media (prefers-color-scheme:dark){{"
        f':root:not([data-theme="light"]),:root:not([data-theme]) svg{{{dark}}}}}'
        f':root[data-theme="dark"],:root[data-theme="dark"] svg{{{dark}}}{roles}'
        f".plot text{{fill:var(--muted);font-family:{FONT};font-variant-numeric:tabular-nums}}"
        ".plot .axis{fill:var(--ink)}.plot path{fill:none}.plot .grid{stroke:var(--grid)}"
        ".plot .zero{stroke:var(--muted);opacity:.6}.plot .curve{stroke-width:1.8;stroke-linejoin:round;"
        "stroke-linecap:round}.plot .true{stroke:var(--true);stroke-width:5}.plot .dots{stroke-width:8}"
        ".plot .mean{stroke-width:2.2}.plot .of-none{stroke:var(--ink);stroke-dasharray:2 5}"
        ".plot .of-rules{stroke:var(--ink);stroke-dasharray:9 5}"
    )


def save_distances(results: evaluate.Results, path: Path) -> None:
    """Write the drawing of `distances` as a file of its own, complete or not at all."""
    plot, size = distances(results)
    at = f'x="12" y="8" width="{size.width:g}" height="{size.height:g}"'
    width, height = size.width + 24, size.height + 16
    inner = plot.replace("<svg", f"<svg {at}", 1)
    audio.write_text(
        path,
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
        f'viewBox="0 0 {width:g} {height:g}"><style>{style()}</style>'
        f'<rect width="100%" height="100%" fill="var(--paper)"/>{inner}</svg>\n',
    )


def distances(results: evaluate.Results) -> tuple[str, Size]:
    """MR-STFT of each strategy, a dot for each seed, a panel for each length of clips; and its size."""
    lengths = sorted(_in_columns(results).items(), key=lambda item: float(item[0]))
    names = list(dict.fromkeys(name for _, length in lengths for name in evaluate.names_of(length)))
    panels = tuple(_distances(seconds, length, names) for seconds, length in lengths)
    size = Size(WIDE.width, 80 + 210 * len(panels), WIDE.font)
    x = Axis("Way to the gradient", -0.6, max(len(names), 1) - 0.4, tuple(enumerate(names)))
    said = "; ".join(f"clips of {seconds} s: {_summary(length)}" for seconds, length in lengths)
    return figure("distances", "MR-STFT distance of each strategy", said, panels, x, size), size


def _in_columns(results: evaluate.Results) -> dict[str, evaluate.Results]:
    """The lengths, a training under one name in all: "spsa" of the shortest clips, else "spsa, 5 s"."""
    shortest = min(results["lengths"], key=float)
    columns = {}
    for seconds, length in results["lengths"].items():
        found = {}
        for name, runs in length["strategies"].items():
            strategy, _, trained = name.partition(", of ")
            trained = trained or f"{seconds} s"
            found[strategy if trained == f"{shortest} s" else f"{strategy}, {trained}"] = runs
        columns[seconds] = {**length, "strategies": found}
    return columns


def _distances(seconds: str, length: evaluate.Results, names: Sequence[str]) -> Panel:
    ends = np.array([-0.6, len(names) - 0.4])
    curves = [
        Curve(ends, np.full(2, float(length["known"][name]["mrstft"])), role, name)
        for name, role in ((evaluate.UNPROCESSED, "of-none"), (evaluate.RULES, "of-rules"))
        if name in length["known"]
    ]
    for name in evaluate.names_of(length):
        place, number = names.index(name), names.index(name) % len(DAY)
        values = evaluate.each(length["strategies"][name], "mrstft")
        at = place + SPREAD * (np.arange(len(values)) - (len(values) - 1) / 2)
        curves.append(Curve(place + np.array([-0.3, 0.3]), np.full(2, np.mean(values)), f"mean s{number}"))
        curves += [Curve(at[i : i + 1], values[i : i + 1], f"dots s{number}") for i in range(len(values))]
    every = np.concatenate([[0.0], *(curve.y for curve in curves)])
    return Panel(tuple(curves), linear_axis(f"MR-STFT, clips of {seconds} s", every, 4), "no results")


def _summary(length: evaluate.Results) -> str:
    known = [f"{name} {float(found['mrstft']):.3f}" for name, found in length["known"].items()]
    runs = length["strategies"]
    return ", ".join(
        known + [f"{name} {evaluate.mean(runs[name], 'mrstft'):.3f}" for name in evaluate.names_of(length)]
    )


def equalizers(
    name: str,
    freqs_hz: np.ndarray,
    true_db: np.ndarray | None,
    predicted_db: Mapping[str, np.ndarray],
    size: Size = WIDE,
) -> str:
    """Gains over frequency: the true ones broad and grey, a line for each strategy.

    Args:
        name: unique within a page.
        freqs_hz: (bins,), ascending.
        true_db: (bins,) or None, where they are not known.
        predicted_db: (bins,) by strategy.
        size: of the drawing.

    Returns:
        An `<svg>` for a page with `style`.
    """
    curves = [] if true_db is None else [Curve(freqs_hz, true_db, "true", "true")]
    for number, (label, gains) in enumerate(predicted_db.items()):
        role = "dash" if number >= 3 else "s"  # hues alone are not for every eye
        curves.append(Curve(freqs_hz, gains, f"{role}{number % len(DAY)}", label))
    gains = np.concatenate([curve.y for curve in curves])
    panel = Panel(tuple(curves), linear_axis("Gain of the equaliser, dB", gains, 5), "no curves")
    low, high = max(LOW_HZ, float(freqs_hz[0])), min(HIGH_HZ, float(freqs_hz[-1]))
    said = "Gain over frequency: " + ", ".join(curve.label for curve in curves)
    return figure(name, "Equaliser curves", said, (panel,), frequency_axis(low, high), size)
