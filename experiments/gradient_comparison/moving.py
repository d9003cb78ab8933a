"""Cascades that move: frequency sampling frame by frame against the recursion."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np

from experiments.common.runner import Row, show_progress
from experiments.gradient_comparison import config, errors, forms


class Problem(NamedTuple):
    """Draws of sweeps at which to take the gradient, their speed, and signals."""

    rate_hz: np.ndarray
    sweep: forms.Sweep
    signals: errors.Signals


def drawn(draws: int, n_sections: int, n_samples: int, radius: float, rate_hz: float) -> Problem:
    """White noise, sections that swing, and answers a little beside them."""
    rng = np.random.default_rng(config.SEED)
    shape = (draws, n_sections)
    low, high = np.log2(np.divide(config.CENTRES_HZ, 1000.0))
    sweep = forms.Sweep(
        np.full(shape, np.log1p(-radius)),
        rng.uniform(low, high, shape),
        rng.uniform(*config.DEPTH_OCTAVES, shape),
        rng.uniform(0, 2 * np.pi, shape),
    )
    x = rng.standard_normal((draws, n_samples))
    # Not the same way in every control: Adam's first steps have one size, and would land beside the answer.
    answer = forms.Sweep(*(leaf + config.MOVING_AWAY * rng.standard_normal(shape) for leaf in sweep))
    rate = np.full(draws, rate_hz)
    return Problem(rate, sweep, errors.Signals(x, np.asarray(_exactly(rate, answer, x))))


_exactly = jax.jit(jax.vmap(forms.every_sample("scan")))


def measured(form: forms.Form, one: Problem, dtype: str = "float64") -> errors.Found:
    """Output, loss and gradient."""
    return errors.measured(form, one.rate_hz, one.sweep, one.signals, np.dtype(dtype))


def truth(one: Problem) -> errors.Found:
    """By the recursion, a step a sample, in float64."""
    return measured(forms.every_sample("scan"), one)


def framed(one: Problem, exact: errors.Found, hop: int, n_fft: int, n_window: int | None = None) -> Row:
    """What one way to cut frames does to value and gradient."""
    form = forms.every_frame(hop, n_fft, n_window)
    return errors.compared(measured(form, one), exact, one.signals.x)


def hop(settings: config.Settings) -> list[Row]:
    """Over the hop and the speed of the swing, with the default frame of eight hops, half of them padding."""
    rows = []
    for rate_hz in settings.rates_hz:
        one = _drawn(settings, config.MOVING_RADIUS, rate_hz)
        exact = truth(one)
        for value in settings.hops:
            show_progress(f"{rate_hz:g} Hz, hop {value}")
            row = framed(one, exact, value, 8 * value)
            rows.append({"rate_hz": rate_hz, "hop": value} | row)
        float32 = measured(forms.every_sample(), one, "float32")
        rows.append({"rate_hz": rate_hz, "hop": 0} | errors.compared(float32, exact, one.signals.x))
    return rows


def frame(settings: config.Settings) -> list[Row]:
    """Over the length of the frame, windows of half of it, and without any padding, at one hop."""
    rows = []
    one = _drawn(settings, config.MOVING_RADIUS, config.MOVING_RATE_HZ)
    exact = truth(one)
    for hops in settings.lengthened:
        n_fft = hops * config.MOVING_HOP
        windows = [("none", n_fft)] + ([("half", n_fft // 2)] if hops >= 4 else [])
        for padding, n_window in windows:
            show_progress(f"frame {n_fft}, padding {padding}")
            row = framed(one, exact, config.MOVING_HOP, n_fft, n_window)
            rows.append({"n_fft": n_fft, "padding": padding} | row)
    return rows


def moving_radius(settings: config.Settings) -> list[Row]:
    """Over the pole radius, by speed and hop."""
    rows = []
    for rate_hz in settings.radius_rates_hz:
        for value in settings.moving_radii:
            one = _drawn(settings, value, rate_hz)
            exact = truth(one)
            for hop in settings.radius_hops:
                show_progress(f"{rate_hz:g} Hz, radius {value:g}, hop {hop}")
                row = framed(one, exact, hop, 8 * hop)
                rows.append({"rate_hz": rate_hz, "radius": value, "hop": hop} | row)
            float32 = measured(forms.every_sample(), one, "float32")
            row = errors.compared(float32, exact, one.signals.x)
            rows.append({"rate_hz": rate_hz, "radius": value, "hop": 0} | row)
    return rows


def _drawn(settings: config.Settings, radius: float, rate_hz: float) -> Problem:
    return drawn(settings.moving_draws, settings.n_sections, settings.moving_samples, radius, rate_hz)
