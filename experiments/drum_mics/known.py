"""Pairs whose answer is known: how far the phase is off, and what an empty spectrum costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.fft

from experiments.drum_mics import config
from jaxapf import allpass, datasets
from jaxapf.alignment import cross_spectrum, features

FREQS_HZ = np.geomspace(30.0, 16e3, 160)
Method = Callable[[np.ndarray, np.ndarray], np.ndarray]


def total_phase(found: Any, freqs_hz: np.ndarray) -> np.ndarray:
    """Phase in radians of a delay in samples, a polarity and sections: any object that has the three."""
    late = -2 * np.pi * freqs_hz / config.FS * float(found.delay_samples)
    turned = np.pi * (float(found.polarity) < 0)
    return late + turned + np.asarray(allpass.phase_response(found.sections, freqs_hz, config.FS))


def true_phase(pair: datasets.SyntheticPair, freqs_hz: np.ndarray) -> np.ndarray:
    """Phase in radians between the two sides of a pair that has no room and no equaliser."""
    sections = allpass.rbj(pair.cutoff_hz, pair.q, config.FS)
    late = -2 * np.pi * freqs_hz / config.FS * pair.delay_samples
    return (
        late + np.pi * (pair.polarity < 0) + np.asarray(allpass.phase_response(sections, freqs_hz, config.FS))
    )


def wrapped_deg(radians: np.ndarray) -> np.ndarray:
    """The magnitude of a phase difference in degrees, 0 to 180."""
    return np.abs(np.angle(np.exp(1j * radians), deg=True))


def known_pairs(count: int, sections: tuple[int, int] = (6, 6)) -> list[datasets.SyntheticPair]:
    """Pairs of nothing but sections, a delay and a polarity, never trained on."""
    recipe = datasets.KNOWN._replace(sections=sections)
    pairs = datasets.Pairs(config.N_SAMPLES, config.FS, key=config.KNOWN_KEY, recipe=recipe)
    return [pairs[number] for number in range(count)]


def phase_errors(methods: dict[str, Callable[..., Any]], count: int, most: dict[str, int]) -> dict[str, Any]:
    """Phase errors in degrees of methods `(dry, wet) -> found` on pairs of a known cascade.

    Args:
        methods: each gives an object with `delay_samples`, `polarity` and `sections`.
        count: pairs.
        most: for slow methods, at most so many pairs.

    Returns:
        `freqs_hz`; `weighted_deg`: by method, one RMS a pair, weighted by the dry spectrum; `curves_deg`: by
        method, `p50` and `p90` over frequency.
    """
    pairs = known_pairs(count)
    found: dict[str, Any] = {"freqs_hz": FREQS_HZ.tolist(), "weighted_deg": {}, "curves_deg": {}}
    for name, method in methods.items():
        errors, weighted = [], []
        for pair in pairs[: most.get(name, count)]:
            answer = method(pair.dry, pair.wet)
            errors.append(wrapped_deg(total_phase(answer, FREQS_HZ) - true_phase(pair, FREQS_HZ)))
            weighted.append(_weighted(pair, answer))
        found["weighted_deg"][name] = weighted
        found["curves_deg"][name] = {
            f"p{share}": np.percentile(errors, share, axis=0).tolist() for share in (50, 90)
        }
    return found


def _weighted(pair: datasets.SyntheticPair, answer: Any) -> float:
    """RMS of the phase error in degrees, weighted by the dry signal's energy in each band."""
    cross = cross_spectrum.measure(pair.dry, pair.dry, config.FS, 0)
    bands = features.extract(cross, [0.0])
    weight = bands.total[0] / np.sum(bands.total)
    freqs_hz = np.asarray(bands.omega) * config.FS / (2 * np.pi)
    error = wrapped_deg(total_phase(answer, freqs_hz) - true_phase(pair, freqs_hz))
    return float(np.sqrt(np.sum(weight * error**2)))


def emptied(pair: datasets.SyntheticPair, centre_hz: float, octaves: float) -> tuple[np.ndarray, np.ndarray]:
    """Both signals without what lies around a frequency (80 dB less)."""
    n = len(pair.dry)
    freqs = np.fft.rfftfreq(2 * n, 1 / config.FS)
    inside = np.abs(np.log2(np.maximum(freqs, 1.0) / centre_hz)) < octaves / 2
    gain = np.where(inside, 1e-4, 1.0)
    dry, wet = (
        np.asarray(scipy.fft.irfft(np.asarray(scipy.fft.rfft(x, 2 * n)) * gain, 2 * n))[:n].astype(np.float32)
        for x in (pair.dry, pair.wet)
    )
    return dry, wet


def empty_spectrum(
    methods: dict[str, Callable[..., Any]], count: int, most: dict[str, int]
) -> dict[str, Any]:
    """Phase error in degrees in the octave around a single section's frequency, with and without sound there.

    Returns:
        `emptied_deg` (the octave emptied) and `untouched_deg` (left as it is), by method one median a pair.
    """
    pairs = known_pairs(count, sections=(1, 1))
    found: dict[str, Any] = {"emptied_deg": {}, "untouched_deg": {}}
    for name, method in methods.items():
        for kind in found:
            found[kind][name] = []
        for pair in pairs[: most.get(name, count)]:
            centre = float(pair.cutoff_hz[0])
            octave = centre * 2.0 ** np.linspace(-0.5, 0.5, 41)
            octave = octave[octave < 0.45 * config.FS]
            for kind, signals in (
                ("emptied_deg", emptied(pair, centre, config.EMPTY_OCTAVES)),
                ("untouched_deg", (pair.dry, pair.wet)),
            ):
                error = wrapped_deg(total_phase(method(*signals), octave) - true_phase(pair, octave))
                found[kind][name].append(float(np.median(error)))
    return found
