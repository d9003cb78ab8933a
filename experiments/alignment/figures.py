"""The picture of the README, from the recordings that ship with the package."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import jaxapf
from experiments.common.pictures import drawing
from jaxapf import audio, datasets

DRY, WET, ALIGNED = "#c0762b", "#8a8f98", "#1f5fd0"


def smoothed_power(x: np.ndarray, fs: int, centres_hz: np.ndarray) -> np.ndarray:
    """Return the power in a sixth of an octave around each centre."""
    power = np.abs(np.fft.rfft(x)) ** 2
    total = np.concatenate([[0.0], np.cumsum(power)])
    edges = [centres_hz * 2.0 ** (sign / 12) * len(x) / fs for sign in (-1, 1)]
    low, high = (np.clip(edge.astype(int), 0, len(power)) for edge in edges)
    return total[np.maximum(high, low + 1)] - total[low]


def draw(path: Path) -> None:
    """Align the example pair; left a close-up, right the level of the 50/50 mix relative to wet."""
    (dry, fs), (wet, _) = (audio.read(path) for path in datasets.example_pair())
    aligned = jaxapf.align(dry, wet, fs).apply(dry)
    d, w, a = (v[0].astype(np.float64) for v in (dry, wet, aligned))
    with drawing(path, 10, 3.1, dpi=160) as figure:
        left, right = figure.subplots(1, 2)
        start = int(1.4005 * fs)
        part = slice(start, start + int(0.012 * fs))
        time_ms = np.arange(part.stop - part.start) / fs * 1e3
        lines = ((w, WET, "wet", 3.2), (d, DRY, "dry", 1.1), (a, ALIGNED, "aligned", 1.1))
        for x, colour, name, width in lines:
            left.plot(time_ms, x[part], color=colour, lw=width, label=name)
        title = "A drum hit: the dry file, moved onto the wet one"
        left.set(xlabel="time (ms)", ylabel="amplitude", title=title)
        left.legend(frameon=False, ncols=3)
        centres = np.geomspace(30, 16_000, 400)
        level = smoothed_power(w, fs, centres)
        for x, colour, name in ((d, DRY, "before"), (a, ALIGNED, "after")):
            ratio = smoothed_power((x + w) / 2, fs, centres) / level
            right.semilogx(centres, 10 * np.log10(ratio), color=colour, lw=1.4, label=name)
        title = "The 50/50 mix of dry and wet, relative to wet"
        right.set(xlabel="frequency (Hz)", ylabel="level (dB)", title=title, ylim=(-24, 6))
        ticks = {
            50: "50",
            100: "100",
            200: "200",
            500: "500",
            1000: "1k",
            2000: "2k",
            5000: "5k",
            10_000: "10k",
        }
        right.set_xticks(list(ticks), list(ticks.values()))
        right.minorticks_off()
        right.legend(frameon=False, ncols=2, loc="lower left")
