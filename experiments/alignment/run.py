"""Measure the figures of the README: `python experiments/alignment/run.py --data DIR`.

Writes results/figures.json and results/figures.md beside this file; `--update README.md` puts the tables
between that file's markers. README.md says what DIR must hold, config.py what to expect.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import config
import numpy as np
import scipy.fft
import scipy.signal

import jaxapf
from jaxapf import allpass, audio, metrics

RESULTS = Path(__file__).with_name("results")
BEGIN, END = "<!-- figures:begin -->", "<!-- figures:end -->"
Row = dict[str, Any]
Show = Callable[[str], None]


class Pair(NamedTuple):
    """A dry and a wet recording (1, n_samples), and their rate in Hz."""

    dry: np.ndarray
    wet: np.ndarray
    fs: int


# Fitting and judging


def read_pair(dry_path: Path, wet_path: Path) -> Pair:
    """Read two files of one rate and length."""
    (dry, fs), (wet, wet_fs) = audio.read(dry_path), audio.read(wet_path)
    if fs != wet_fs or dry.shape != wet.shape:
        raise audio.AudioError(f"'{dry_path}' and '{wet_path}' differ in rate or length; restore them")
    return Pair(dry, wet, fs)


def sweep_paths(data: Path, box: str) -> tuple[Path, Path]:
    """Files of a box's sweep."""
    return data / "blackbox/sweep_dry.flac", data / f"blackbox/{box}/sweep_wet.flac"


def loops_paths(data: Path, box: str, rate: str = "") -> tuple[Path, Path]:
    """Files of a box's music; rate "" is 48 kHz, "_192k" is 192 kHz."""
    return data / f"blackbox/loops_dry{rate}.flac", data / f"blackbox/{box}/loops_wet{rate}.flac"


def drum_paths(data: Path, number: int) -> tuple[Path, Path]:
    """Files of a pair of drum microphones."""
    return data / f"drum_mics/{number:02d}_mic1.flac", data / f"drum_mics/{number:02d}_mic2.flac"


def fit(pair: Pair, order: int | str) -> tuple[jaxapf.Alignment, float]:
    """Align a pair; the alignment and the seconds it took, compiling included."""
    started = time.perf_counter()
    found = jaxapf.align(pair.dry, pair.wet, pair.fs, order=order)
    return found, time.perf_counter() - started


def tested(found: jaxapf.Alignment, pair: Pair) -> float:
    """Error-to-signal ratio of an alignment on a pair."""
    return metrics.esr(found.apply(pair.dry), pair.wet)


def delay_only(found: jaxapf.Alignment) -> jaxapf.Alignment:
    """The best delay and polarity alone, as an alignment."""
    return dataclasses.replace(
        found,
        sections=allpass.first_order(np.zeros(0)),
        controls=[],
        delay_samples=found.metrics["delay_only_samples"],
        polarity=found.metrics["delay_only_polarity"],
    )


def correlation_bound(pair: Pair) -> float:
    """Largest correlation that a change of phase alone can reach: sum |Sxy| / sqrt(Exx Eyy)."""
    n_fft = int(scipy.fft.next_fast_len(2 * pair.dry.shape[-1], real=True))
    x, y = (np.abs(scipy.fft.fft(signal.astype(np.float64), n_fft)) for signal in pair[:2])
    return float(np.sum(x * y) / np.sqrt(np.sum(x * x) * np.sum(y * y)))


def goal(text: str, value: float, met: bool) -> Row:
    """A goal, the figure found, and whether it was met."""
    return {"goal": text, "value": value, "met": bool(met)}


# The figures: each returns {"rows": the table, "goals": ...}


def boxes(data: Path, show: Show) -> Row:
    """Fit on a box's sweep, test on its unseen music at the same rate."""
    rows, goals = [], []
    for box in config.BOXES:
        sweep = read_pair(*sweep_paths(data, box))
        music = read_pair(*loops_paths(data, box, "_192k"))
        row = {
            "device": box,
            "raw": metrics.esr(music.dry, music.wet),
            "bound": metrics.phase_only_bound(music.dry, music.wet, music.fs),
        }
        timing = {}
        for label, order in config.ORDERS.items():
            show(f"boxes: {box}, {label}")
            found, seconds = fit(sweep, order)
            row[label] = tested(found, music)
            timing |= {f"{label}: found": found.metrics["order"], f"{label}: seconds": seconds}
            reach = config.REFERENCE.get(box, {}).get(label.replace("order", "reach"))
            if reach is not None:
                goals.append(
                    goal(f"{box}, {label}: {reach:.4f} or less", row[label], round(row[label], 4) <= reach)
                )
        reference = {f"reference: {name}": value for name, value in config.REFERENCE.get(box, {}).items()}
        rows.append(row | reference | timing)
    return {"rows": rows, "goals": goals}


def music_alone(data: Path, show: Show) -> Row:
    """Fit on the first half of the music, test on the second, against a fit on the sweep at that rate."""
    rows, goals = [], []
    for box in config.BOXES:
        first, second = halves(read_pair(*loops_paths(data, box)))
        sweep = resampled(read_pair(*sweep_paths(data, box)), first.fs)
        row = {
            "device": box,
            "raw": metrics.esr(second.dry, second.wet),
            "bound": metrics.phase_only_bound(second.dry, second.wet, second.fs),
        }
        for label, order in config.ORDERS.items():
            show(f"music: {box}, {label}")
            by_sweep, by_music = (tested(fit(pair, order)[0], second) for pair in (sweep, first))
            row |= {f"{label}: sweep fit": by_sweep, f"{label}: music fit": by_music}
            row[f"{label}: ratio"] = ratio = by_music / by_sweep
            text = f"{box}, {label}: {config.MUSIC_RATIO:g} times the sweep fit or less"
            goals.append(goal(text, ratio, ratio <= config.MUSIC_RATIO))
        rows.append(row)
    return {"rows": rows, "goals": goals}


def halves(pair: Pair) -> tuple[Pair, Pair]:
    """The first and the second half of a pair, each a recording of its own."""
    middle = pair.dry.shape[-1] // 2
    first, second = (slice(None, middle), slice(middle, None))
    return tuple(Pair(pair.dry[:, part], pair.wet[:, part], pair.fs) for part in (first, second))  # pyright: ignore[reportReturnType]


def resampled(pair: Pair, fs: int) -> Pair:
    """A pair at another rate."""
    return Pair(audio.resample(pair.dry, pair.fs, fs), audio.resample(pair.wet, pair.fs, fs), fs)


def surveyor() -> allpass.Sections:
    """The released cascade: c = R^2, d = -2 R cos(w) (Bargum et al. 2023, eq. 4), then warped."""
    c, d, a = (np.asarray(config.SURVEYOR[name]) for name in "cda")
    radius = np.sqrt(c)
    cutoff_hz = np.arccos(-d / (2 * radius)) * config.SURVEYOR_FS / (2 * np.pi)
    return allpass.concatenate(
        allpass.second_order(radius, cutoff_hz, config.SURVEYOR_FS, warp=a),
        allpass.first_order(config.SURVEYOR["g"], warp=config.SURVEYOR["h"]),
    )


def known_answer(data: Path, show: Show) -> Row:
    """Give back a cascade that we know, from a sweep sent through it in float64."""
    show("known: filtering and fitting")
    dry = audio.log_sweep(config.SURVEYOR_S, config.SURVEYOR_FS)
    wet = np.asarray(scipy.signal.sosfilt(surveyor().sos, dry))
    pair = Pair(dry, wet, config.SURVEYOR_FS)
    found, seconds = fit(pair, config.SURVEYOR_ORDER)
    after = tested(found, pair)
    signal = (
        f"{config.SURVEYOR_S:g} s sweep, {config.SURVEYOR_FS / 1000:g} kHz, order {config.SURVEYOR_ORDER}"
    )
    row = {"signal": signal, "before": metrics.esr(dry, wet), "after": after, "seconds": seconds}
    return {"rows": [row], "goals": [goal(f"{config.KNOWN_ESR:g} or less", after, after <= config.KNOWN_ESR)]}


def drums(data: Path, show: Show) -> Row:
    """Lay the first microphone of each pair on the second."""
    pairs = []
    for number in range(config.DRUM_PAIRS):
        show(f"drums: pair {number + 1} of {config.DRUM_PAIRS}")
        pairs.append(drum_pair(read_pair(*drum_paths(data, number))))
    labels = list(config.ORDERS)
    medians = {key: float(np.median([pair[key] for pair in pairs])) for key in pairs[0]}
    worse = {label: sum(pair[label] < pair[f"{label}: delay only"] for pair in pairs) for label in labels}
    row = {
        "pairs": len(pairs),
        "raw": medians["raw"],
        "best delay and polarity": medians["best delay and polarity"],
    }
    row |= {label: medians[label] for label in labels} | {"bound": medians["bound"]}
    row |= {f"{label}: pairs made worse": worse[label] for label in labels}
    row |= {f"{label}: seconds": medians[f"{label}: seconds"] for label in labels}
    goals = [
        goal(f"no pair worse than delay and polarity, {label}", worse[label], worse[label] == 0)
        for label in labels
    ]
    best = max(medians[label] for label in labels)
    text = f"median correlation {config.DRUM_CORRELATION:g} or more"
    goals.append(goal(text, best, best >= config.DRUM_CORRELATION))
    return {"rows": [row], "goals": goals, "pairs": pairs}


def drum_pair(pair: Pair) -> Row:
    """Correlations of one pair of microphones."""
    row: Row = {"raw": metrics.correlation(pair.dry, pair.wet), "bound": correlation_bound(pair)}
    for label, order in config.ORDERS.items():
        found, row[f"{label}: seconds"] = fit(pair, order)
        row[label] = metrics.correlation(found.apply(pair.dry), pair.wet)
        delayed = metrics.correlation(delay_only(found).apply(pair.dry), pair.wet)
        row[f"{label}: delay only"] = row["best delay and polarity"] = delayed
    return row
