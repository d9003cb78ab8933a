"""What notebooks say of results: sentences that can deny success."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxapf.alignment.options import doubt

SHORT_S = 1.0  # a pair that lasts less says little about low frequencies
NOTHING_LEFT = 0.01  # an error, relative to silence, from which there is nothing to learn
CLEARLY = 0.9  # errors within half a decibel are alike


def doubts(correlation: float | None, seconds: float) -> list[str]:
    """What makes an alignment doubtful, in sentences; empty where nothing does.

    Args:
        correlation: of the aligned with the wet recording.
        seconds: that the recordings last.

    Example:
        >>> doubts(0.9, 0.1)
        ['The recordings last 0.10 s: so short a recording says little about low frequencies.']
        >>> doubts(0.9, 2.0)
        []
    """
    found = [doubt(correlation)] if doubt(correlation) else []
    if seconds < SHORT_S:
        found.append(
            f"The recordings last {seconds:.2f} s: so short a recording says little about low frequencies."
        )
    return [one[:1].upper() + one[1:] for one in found]


def decibels(ratio: float | None) -> str:
    """An error-to-signal ratio in dB; of None, which was not measured, a dash.

    Example:
        >>> decibels(0.01), decibels(0.0), decibels(None)
        ('-20.0 dB', '-inf dB', '–')
    """
    if ratio is None:
        return "–"
    return "-inf dB" if float(ratio) == 0 else f"{10 * np.log10(float(ratio)):.1f} dB"


def hertz(frequency: float) -> str:
    """A frequency, in Hz or kHz."""
    return f"{frequency:.0f} Hz" if frequency < 1000 else f"{frequency / 1000:.3g} kHz"


def within(radians: Any) -> str:
    """What a phase that is left says, band by band, in words; NaN is a band that shows none.

    Args:
        radians: (n_bands,), as `jaxapf.report.figures.compare` returns it.

    Example:
        >>> within([0.5 * np.pi, 0.0, 0.25 * np.pi])
        'Half of the bands are within 45.0 degrees of the wet recording'
        >>> within([0.5 * np.pi, np.nan])
        'Of the 50 % of bands that show a phase, half are within 90.0 degrees of the wet recording'
        >>> within([np.nan])
        'No band shows a phase'
    """
    sizes = np.abs(np.asarray(radians, np.float64))
    known = sizes[np.isfinite(sizes)]
    if not known.size:
        return "No band shows a phase"
    percent = f"{100 * known.size / sizes.size:.0f}"
    bands = (
        "Half of the bands" if percent == "100" else f"Of the {percent} % of bands that show a phase, half"
    )
    return f"{bands} are within {np.degrees(np.median(known)):.1f} degrees of the wet recording"


def phase_said(before: Any, after: Mapping[str, Any]) -> str:
    """What is left of the phase before and after, in sentences.

    Args:
        before: (n_bands,) in radians, NaN where none shows.
        after: likewise, by model.

    Example:
        >>> phase_said([np.nan], {"spectral": [np.nan]})
        'No band shows a phase: what goes in and what comes out have too little in common.'
        >>> phase_said([np.pi], {"spectral": [0.0]}).partition(". ")[2]
        'After, spectral: half of the bands are within 0.0 degrees of the wet recording.'
    """
    if not any(np.isfinite(left).any() for left in (before, *after.values())):
        return "No band shows a phase: what goes in and what comes out have too little in common."
    rows = {"Before": before} | {f"After, {name}": left for name, left in after.items()}
    texts = {name: within(left) for name, left in rows.items()}
    return " ".join(f"{name}: {text[0].lower()}{text[1:]}." for name, text in texts.items())


def starts_said(losses: Sequence[float], untrained: float) -> str:
    """What came of trainings from several starts, in a sentence; success only where there was one.

    Args:
        losses: the last of each start; 1 is that of silence.
        untrained: loss of delay and sign alone, without a network.

    Example:
        >>> starts_said([0.1, 0.15, 0.9], 1.4)
        '2 of 3 starts come within twice the best.'
        >>> starts_said([2.7, 2.8], 2.6)
        'No start came to anything: the best is no better than delay and sign alone (2.6) or silence (1).'
        >>> starts_said([1e-7], 1e-8)
        'After delay and sign there was nothing left to learn: they alone leave an error of -80.0 dB.'
    """
    best, bar = float(np.min(losses)), min(1.0, untrained)
    if not best < bar and untrained < NOTHING_LEFT:
        left = f"an error of {decibels(untrained)}" if untrained > 0 else "no error"
        return f"After delay and sign there was nothing left to learn: they alone leave {left}."
    if not best < bar:  # NaN as well
        return (
            "No start came to anything: the best is no better than "
            f"delay and sign alone ({untrained:.3g}) or silence (1)."
        )
    good = sum(loss < min(2 * best, bar) for loss in losses)
    return f"{good} of {len(losses)} starts come within twice the best."


def carries_over(trained: float, held_out: float, without: Mapping[str, float]) -> str:
    """Whether a model does as well on what it was not trained on, in a sentence that can say no.

    Args:
        trained: error-to-signal ratio on what it was trained on.
        held_out: on what it was not.
        without: on that again, what can be had without the model, by name; silence is added.

    Example:
        >>> carries_over(0.01, 0.012, {"dry as it is": 1.5})
        'carries over: -20.0 dB on what it was trained on, -19.2 dB on what it was not.'
        >>> carries_over(0.1, 2.3, {})
        'does not carry over: -10.0 dB on what it was trained on, 3.6 dB on what it was not, not clearly \
better than silence (0.0 dB).'
        >>> carries_over(0.0, 1e-8, {"delay alone": 1e-8})
        'had nothing to add on what it was not trained on: -80.0 dB, without it delay alone (-80.0 dB).'
    """
    all_without = {"silence": 1.0, **without}
    better = {name: one for name, one in all_without.items() if not held_out < CLEARLY * one}
    if better and held_out < NOTHING_LEFT:
        return (
            f"had nothing to add on what it was not trained on: {decibels(held_out)}, "
            f"without it {_each(better)}."
        )
    both = f"{decibels(trained)} on what it was trained on, {decibels(held_out)} on what it was not"
    if better:
        return f"does not carry over: {both}, not clearly better than {_each(better)}."
    as_well = held_out < max(2 * trained, NOTHING_LEFT)
    return f"carries over{'' if as_well else ' in part'}: {both}."


def _each(errors: Mapping[str, float]) -> str:
    *others, last = (f"{name} ({decibels(error)})" for name, error in errors.items())
    return f"{', '.join(others)} and {last}" if others else last
