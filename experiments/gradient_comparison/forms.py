"""The same cascades as exact recursions and by frequency sampling, as functions of well-scaled controls.

A standing section is one pole pair at radius 1 - gap and angle w. Both controls are counted in widths of the
pole, so that a step of one means as much at radius 0.5 as at 0.99999, to an optimiser and to an error:

    1 - R = gap e^narrowing,    w = angle + gap shift

The margins come from gap and angle themselves (1 - R is never formed): what float32 then loses is lost by the
filter, not by its design.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from experiments.gradient_comparison import config
from jaxapf import allpass, frequency
from jaxapf.filters import overlap_add

Filter = Callable[[allpass.Sections, jax.Array], jax.Array]  # (sections, x) -> y
Form = Callable[[Any, Any, jax.Array], jax.Array]  # (what is given, what is learnt, x) -> y


class Place(NamedTuple):
    """Where the poles are: ``gap`` = 1 - R and ``angle`` in radians a sample, (..., n_sections) each."""

    gap: Any
    angle: Any


class Offset(NamedTuple):
    """What is learnt, in widths of the pole: ``narrowing`` and ``shift``, (..., n_sections) each."""

    narrowing: Any
    shift: Any


class Sweep(NamedTuple):
    """Sections whose frequency swings: what is learnt of each, (..., n_sections).

    ``log_gap``, the logarithm of 1 - R; ``octaves``, of the centre above 1 kHz; ``depth``, octaves to either
    side; ``phase`` of the swing in radians.
    """

    log_gap: Any
    octaves: Any
    depth: Any
    phase: Any


def margins(gap: Any, angle: Any) -> allpass.Sections:
    """Sections of radius 1 - gap, from the formulas of Bargum et al. 2023, eq. 4, in half angles."""
    near, far = jnp.sin(angle / 2), jnp.cos(angle / 2)
    radius = 1 - gap
    return allpass.Sections(gap**2 + 4 * radius * near**2, gap**2 + 4 * radius * far**2, gap * (2 - gap))


# Sections that stand still. Equal arguments give the same function, so that JAX compiles it once.


def standing(place: Place, offset: Offset) -> allpass.Sections:
    """The sections at an offset from their place."""
    return margins(place.gap * jnp.exp(offset.narrowing), place.angle + place.gap * offset.shift)


@functools.cache
def of_offset(filtered: Filter) -> Form:
    """A way to filter as a function of place, offset and signal."""
    return lambda place, offset, x: filtered(standing(place, offset), x)


@functools.cache
def exact(method: str) -> Filter:
    """The recursion, by one of the filters' exact methods."""
    return lambda sections, x: allpass.cascade(sections, x, method=method)


@functools.cache
def sampled(n_fft: int) -> Filter:
    """Frequency sampling: the response on the bins of a transform, from the margins, which lose no pole."""
    return lambda sections, x: frequency.apply_response(response(sections, n_fft), x, n_fft)


@functools.cache
def sampled_rows(n_fft: int) -> Filter:
    """Frequency sampling of the coefficients b and a: what most published code does."""
    return lambda sections, x: frequency.sosfilt_fsm(sections.sos, x, n_fft=n_fft)


def response(sections: allpass.Sections, n_fft: int) -> jax.Array:
    """A(e^jw) on the bins of a transform, (..., n_fft // 2 + 1): e^(j phase), as an all-pass has no gain."""
    bins = jnp.asarray(np.arange(n_fft // 2 + 1) / n_fft, sections.u.dtype)
    phase = allpass.phase_response(sections, bins, 1.0)
    return lax.complex(jnp.cos(phase), jnp.sin(phase))


# Sections that move


def moving(sweep: Sweep, time_s: Any, rate_hz: Any) -> allpass.Sections:
    """Sections (..., n_times, n_sections) whose frequencies swing about their centres at `rate_hz`."""
    swing = jnp.sin(2 * jnp.pi * rate_hz * time_s[:, None] + sweep.phase[..., None, :])
    octaves = sweep.octaves[..., None, :] + sweep.depth[..., None, :] * swing
    return margins(jnp.exp(sweep.log_gap)[..., None, :], 2 * jnp.pi * 1000.0 / config.FS * 2**octaves)


@functools.cache
def every_sample(method: str = "auto") -> Form:
    """The exact recursion, controls worked out for every sample; (rate in Hz, sweep, x) -> y."""

    def filtered(rate_hz: Any, sweep: Sweep, x: jax.Array) -> jax.Array:
        times = jnp.asarray(np.arange(x.shape[-1]) / config.FS, x.dtype)
        return allpass.cascade_varying(moving(sweep, times, rate_hz), x, method=method)

    return filtered


@functools.cache
def every_frame(hop: int, n_fft: int, n_window: int | None = None) -> Form:
    """Frequency sampling frame by frame, controls worked out at the middle of every frame."""

    def filtered(rate_hz: Any, sweep: Sweep, x: jax.Array) -> jax.Array:
        times = np.arange(overlap_add.n_frames(x.shape[-1], hop)) * hop / config.FS
        sections = moving(sweep, jnp.asarray(times, x.dtype), rate_hz)
        return allpass.cascade_frames(sections, x, hop=hop, n_fft=n_fft, n_window=n_window)

    return filtered
