"""Draw the equaliser's response, the compressor's static curve and the shaper, true and found."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxapf.effects import compressor, distortion
from jaxapf.report import svg

SIZE = svg.Size(360, 240, 11)
STYLE = """<style>text{font-family:sans-serif;fill:#333}.curve{fill:none;stroke-width:2.2}
.true{stroke:#9aa0a8;stroke-width:4.5}.found{stroke:#0072B2;stroke-dasharray:6 3}
.grid{stroke:#e2e2e2}.zero{stroke:#aaa}</style>"""


def draw(
    true: Sequence[float],
    found: Sequence[float],
    freqs_hz: np.ndarray,
    true_db: np.ndarray,
    found_db: np.ndarray,
) -> str:
    """Return the picture as SVG.

    Args:
        true: settings of drive, equaliser and compressor.
        found: the same, recovered.
        freqs_hz: (n_freqs,) of the responses.
        true_db: (n_freqs,).
        found_db: (n_freqs,).

    Returns:
        An SVG file.
    """
    level = np.linspace(-60.0, 0.0, 121)
    x = np.linspace(-0.5, 0.5, 121)
    figures = [
        _figure("equaliser", "Equaliser (dB)", svg.frequency_axis(50, 10e3), freqs_hz, (true_db, found_db)),
        _figure(
            "compressor",
            "Compressor, out (dB)",
            svg.linear_axis("In (dB)", level),
            level,
            [_compressed(level, one) for one in (true, found)],
        ),
        _figure("drive", "Drive, out", svg.snug_axis("In", x), x, [_shaped(x, one) for one in (true, found)]),
    ]
    width, height = len(figures) * SIZE.width, SIZE.height
    placed = [
        one.replace("<svg ", f'<svg x="{at * SIZE.width}" width="{SIZE.width}" height="{height}" ', 1)
        for at, one in enumerate(figures)
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">{STYLE}'
        f'<rect width="{width}" height="{height}" fill="#fff"/>{"".join(placed)}</svg>\n'
    )


def _figure(name: str, title: str, x_axis: svg.Axis, x: np.ndarray, both: Sequence[np.ndarray]) -> str:
    curves = tuple(
        svg.Curve(x, y, role, label)
        for y, role, label in zip(both, ("true", "found"), ("true", "found"), strict=True)
    )
    panel = svg.Panel(curves, svg.linear_axis(title, np.concatenate(both)), "nothing")
    return svg.figure(name, title, f"{title}, true and found", (panel,), x_axis, SIZE)


def _compressed(level_db: np.ndarray, values: Sequence[float]) -> np.ndarray:
    threshold, ratio, attack, release, knee, makeup = values[19:]
    controls = compressor.Controls(threshold, ratio, attack, release, knee_db=knee, makeup_db=makeup)
    return level_db + np.asarray(compressor.curve_db(level_db.astype(np.float32), controls)) + makeup


def _shaped(x: np.ndarray, values: Sequence[float]) -> np.ndarray:
    return np.asarray(distortion.shaper(x.astype(np.float32), distortion.Controls(values[0])))
