"""Constant cascades: frequency sampling against the recursion over radius, length, order, signal, dtype."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.common.runner import Row, show_progress
from experiments.gradient_comparison import config, errors, forms
from jaxapf import audio, datasets, frequency


class Problem(NamedTuple):
    """Draws of places, offsets at which to take the gradient, signals."""

    place: forms.Place
    offset: forms.Offset
    signals: errors.Signals


def drawn(draws: int, n_sections: int, n_samples: int, radius: float, *, away: float = 1.0) -> Problem:
    """White noise, frequencies spread evenly over the octaves, poles of one radius, the answer `away`."""
    rng = np.random.default_rng(config.SEED)
    hz = frequencies(rng, draws, n_sections)
    return problem(rng.standard_normal((draws, n_samples)), hz, radius, away=away)


def frequencies(rng: np.random.Generator, draws: int, n_sections: int) -> np.ndarray:
    """Of the sections in Hz, (draws, n_sections), spread evenly over the octaves."""
    lowest, highest = np.log([config.LOWEST_HZ, config.HIGHEST_HZ])
    return np.exp(rng.uniform(lowest, highest, (draws, n_sections)))


def problem(x: np.ndarray, hz: np.ndarray, radius: float, *, away: float = 1.0) -> Problem:
    """Sections at the frequencies `hz` (n_draws, n_sections), and the answer `away` from them."""
    place = forms.Place(np.full(hz.shape, 1 - radius), 2 * np.pi * hz / config.FS)
    answer = forms.Offset(*(np.full(hz.shape, away * one) for one in (config.NARROWING, config.SHIFT)))
    target = np.asarray(_exactly(place, answer, x))
    zero = np.zeros(hz.shape)
    return Problem(place, forms.Offset(zero, zero), errors.Signals(x, target))


_exactly = jax.jit(jax.vmap(forms.of_offset(forms.exact("scan"))))


def measured(filtered: forms.Filter, one: Problem, dtype: Any = np.float64) -> errors.Found:
    """Output, loss and gradient by a way of filtering."""
    return errors.measured(forms.of_offset(filtered), one.place, one.offset, one.signals, dtype)


def truth(one: Problem) -> errors.Found:
    """By the recursion, a step a sample, in float64."""
    return measured(forms.exact("scan"), one)


def padded(one: Problem) -> dict[str, Row]:
    """Every padding in float64, and the recursion in float32, against the truth."""
    exact = truth(one)
    n_samples = one.signals.x.shape[-1]
    x = one.signals.x
    found = {
        f"{times}x": errors.compared(measured(forms.sampled(times * n_samples), one), exact, x)
        for times in config.PADDINGS
    }
    found["recursion"] = errors.compared(measured(forms.exact("auto"), one, np.float32), exact, x)
    return found


# The figures: each returns rows, one for every point


def radius(settings: config.Settings) -> list[Row]:
    """Over the pole radius."""
    rows = []
    for value in settings.radii:
        show_progress(f"radius {value:g}")
        one = drawn(settings.draws, settings.n_sections, settings.n_samples, value)
        rows += [{"radius": value, "form": form} | row for form, row in padded(one).items()]
    return rows


def length(settings: config.Settings) -> list[Row]:
    """Over the length of the signal, at several radii."""
    rows = []
    for n_samples in settings.lengths:
        for value in settings.length_radii:
            show_progress(f"length {n_samples}, radius {value:g}")
            one = drawn(settings.draws, settings.n_sections, n_samples, value)
            rows += [
                {"samples": n_samples, "radius": value, "form": form} | row
                for form, row in padded(one).items()
            ]
    return rows


def padding(settings: config.Settings) -> list[Row]:
    """Over the padding in time constants of the pole, whatever the length, and near the answer."""
    rows = []
    cases = [(radius, 1.0) for radius in settings.padding_radii]
    cases += [(settings.near_radius, away) for away in settings.near[1:] if away in (0.1, 0.01)]
    for value, away in cases:
        one = drawn(settings.draws, settings.n_sections, settings.n_samples, value, away=away)
        exact = truth(one)
        for constants in settings.padding_constants:
            show_progress(f"radius {value:g}, distance {away:g}, {constants:g} time constants")
            n_fft = settings.n_samples + round(constants / (1 - value))
            found = measured(forms.sampled(n_fft), one)
            row = {"radius": value, "distance": away, "constants": constants, "n_fft": n_fft}
            rows.append(row | errors.compared(found, exact, one.signals.x))
    return rows


def order(settings: config.Settings) -> list[Row]:
    """Over the order of the cascade."""
    rows = []
    for n_sections in settings.sections:
        show_progress(f"order {2 * n_sections}")
        one = drawn(settings.draws, n_sections, settings.n_samples, settings.order_radius)
        rows += [{"order": 2 * n_sections, "form": form} | row for form, row in padded(one).items()]
    return rows


def near(settings: config.Settings) -> list[Row]:
    """Over the distance from the answer: what is left of the gradient as training arrives."""
    rows = []
    for away in settings.near:
        show_progress(f"distance {away:g}")
        one = drawn(settings.draws, settings.n_sections, settings.n_samples, settings.near_radius, away=away)
        rows += [{"distance": away, "form": form} | row for form, row in padded(one).items()]
    return rows


def dtype(settings: config.Settings) -> list[Row]:
    """What rounding costs every form, with a transform so long that nothing wraps around."""
    rows = []
    for value in settings.dtype_radii:
        one = drawn(settings.dtype_draws, settings.n_sections, settings.n_samples, value)
        exact = truth(one)
        n_fft = frequency.padded_length(settings.n_samples, frequency.tail_samples(value))
        found = {
            "recursion, scan": forms.exact("scan"),
            "recursion, blocked": forms.exact("blocked"),
            "recursion, associative": forms.exact("associative"),
            "sampled, margins": forms.sampled(n_fft),
            "sampled, b and a": forms.sampled_rows(n_fft),
        }
        for form, filtered in found.items():
            for kind in ("float32", "float64"):
                show_progress(f"radius {value:g}, {form}, {kind}")
                row = errors.compared(measured(filtered, one, np.dtype(kind)), exact, one.signals.x)
                rows.append({"form": form, "dtype": kind, "radius": value, "n_fft": n_fft} | row)
    return rows


def signal(settings: config.Settings) -> list[Row]:
    """Over the kind of signal."""
    rows = []
    hz = frequencies(np.random.default_rng(config.SEED), settings.draws, settings.n_sections)
    for kind, x in signals(settings.draws, settings.n_samples).items():
        show_progress(kind)
        one = problem(x, hz, settings.near_radius)
        rows += [{"signal": kind, "form": form} | row for form, row in padded(one).items()]
    return rows


def signals(draws: int, n_samples: int) -> dict[str, np.ndarray]:
    """Noise, a sweep, music in pieces and a click, (draws, n_samples) each."""
    rng = np.random.default_rng(config.SEED)
    music = np.asarray(audio.read(datasets.example_pair()[0])[0], np.float64)[0]
    starts = np.linspace(0, music.size - n_samples, draws + 2)[1:-1].astype(int)
    sweep = audio.log_sweep(n_samples / config.FS, round(config.FS))
    click = np.zeros((draws, n_samples))
    click[np.arange(draws), np.linspace(0, n_samples / 2, draws, dtype=int)] = 1.0
    return {
        "noise": rng.standard_normal((draws, n_samples)),
        "sweep": np.tile(np.asarray(sweep, np.float64)[:n_samples], (draws, 1)),
        "music": np.stack([music[start : start + n_samples] for start in starts]),
        "click": click,
    }
