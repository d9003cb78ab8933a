"""Features of two recordings, the input of a network, and the score of its predictions.

    cross-spectrum -> candidate delays -> bands, once for each -> phase, coherence and level

The score needs no filtered signal: the inner product of a unit-gain filter's output with the wet signal is
one sum over the cross-spectrum, frequency sampling in its shortest form.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxapf._internal.arrays import with_rank
from jaxapf.alignment import cross_spectrum
from jaxapf.alignment.cascade import (
    HIGHEST,
    SECOND,
    Cascade,
    Controls,
    Target,
    conjugate_response,
    log_tangent,
    phase_slopes,
    residual,
)

__all__ = ["BANDS", "Features", "candidates", "cross_phase", "extract", "random_rotation", "score", "waves"]

BANDS = 512
LOWEST_HZ, HIGHEST_HZ = 20.0, 20e3
QUIET_DB = 60.0  # below the loudest band: as good as silent
CANDIDATES = 8  # delays that are tried


class Features(NamedTuple):
    """Bands of a cross-spectrum for each delay; an inner product of 1 is the correlation 1."""

    omega: Any  # (bands,) in rad / sample
    cross: Any  # (..., bands) summed in each band after the delay was taken out
    total: Any  # (..., bands) sum of the magnitudes


def candidates(cross: cross_spectrum.CrossSpectrum, max_delay: int) -> np.ndarray:
    """Return delays to try, (CANDIDATES,) in samples, from the plain and whitened cross-correlation."""
    best, _ = cross_spectrum.best_delay(cross, max_delay)
    found = [float(round(best)), *cross_spectrum.delay_candidates(cross, max_delay, 2)]
    distinct = list(dict.fromkeys(found))[:CANDIDATES]
    return np.array(distinct + distinct[:1] * (CANDIDATES - len(distinct)))


def extract(cross: cross_spectrum.CrossSpectrum, delays: Any) -> Features:
    """Sum a cross-spectrum over logarithmic bands for each delay; a line is shared between bands."""
    line = cross.fs / cross.n_fft
    edges = np.geomspace(LOWEST_HZ, HIGHEST_HZ, BANDS + 1)
    last = min(len(cross.cross), int(HIGHEST_HZ / line) + 2)
    # The inner product of two signals is 2 / n_fft times the real part of this sum.
    energy = math.sqrt(cross.dry_energy) * math.sqrt(cross.wet_energy)
    lines = cross.cross[:last].astype(np.complex128) * (2 / cross.n_fft / energy if energy > 0 else 0.0)
    # Line k stands for the frequencies from k - 1/2 to k + 1/2.
    places = np.clip(edges / line + 0.5, 0, last)

    def in_bands(values: np.ndarray) -> np.ndarray:
        summed = np.concatenate([np.zeros(1, values.dtype), np.cumsum(values)])
        return np.diff(np.interp(places, np.arange(last + 1), summed))

    step = 2 * np.pi / cross.n_fft
    crossed = np.stack([in_bands(lines * _powers(step * d, last)) for d in np.atleast_1d(delays)])
    total = in_bands(np.abs(lines).astype(np.float64))
    centres = np.minimum(np.sqrt(edges[1:] * edges[:-1]) / cross.fs, HIGHEST) * 2 * np.pi
    return Features(
        centres.astype(np.float32),
        crossed.astype(np.complex64),
        np.broadcast_to(total, crossed.shape).astype(np.float32),
    )


def _powers(angle: float, count: int) -> np.ndarray:
    """Return exp(j k angle) for k below count; most of the exponentials are products of two others."""
    fine = np.exp(1j * angle * np.arange(64))
    coarse = np.exp(1j * angle * 64 * np.arange(-(-count // 64)))
    return np.multiply.outer(coarse, fine).ravel()[:count]


def cross_phase(features: Features) -> Float[Array, "*batch 4 n_bands"]:
    """Return a network's input: cosine and sine of the phase times coherence, level and place."""
    cross, total = jnp.asarray(features.cross), jnp.asarray(features.total)
    share = 1 / jnp.maximum(total, 1e-20)
    loudest = jnp.maximum(jnp.max(total, axis=-1, keepdims=True), 1e-20)
    level_db = 10 * jnp.log10(jnp.maximum(total / loudest, 1e-12))
    level = jnp.maximum(0.0, 1 + level_db / QUIET_DB)
    audible = level > 0
    place = jnp.broadcast_to(jnp.linspace(-1.0, 1.0, total.shape[-1], dtype=level.dtype), level.shape)
    phase = (jnp.where(audible, part * share, 0.0) for part in (cross.real, cross.imag))
    return jnp.stack([*phase, level, place], axis=-2)


def score(controls: Controls, features: Features, fs: Any) -> Float[Array, "*heads"]:
    """Return the correlation with the wet signal, Re sum S conj(A e^{-j w d}) times the polarity."""
    delay, log_t = (1e-3 * fs) * controls.delay_ms, log_tangent(controls.cutoff_hz, fs, jnp)
    inner = _inner(delay, log_t, -jnp.log(controls.q), features.omega, features.cross[..., None, :])
    return controls.polarity * inner


@jax.custom_jvp
def _inner(delay: Any, log_t: Any, log_d: Any, omega: Any, cross: Any) -> jax.Array:
    """Return Re sum S conj(A e^{-j w d}): delay (...) in samples, log_t and log_d (..., n_sections)."""
    return jnp.sum(residual(Cascade(delay, log_t, log_d, SECOND, 1.0), Target(omega, cross)).real, axis=-1)


@_inner.defjvp
def _inner_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    """Sum the phase's slopes over the bands at once, so that none is kept for the backward pass."""
    delay, log_t, log_d, omega, cross = primals
    cascade = Cascade(delay, log_t, log_d, SECOND, 1.0)
    conjugate = conjugate_response(cascade, omega)
    z = cross * conjugate
    by_t, by_d = (jnp.sum(z.imag[..., None, :] * slope, axis=-1) for slope in phase_slopes(cascade, omega))
    by_delay = -jnp.sum(z.imag * with_rank(omega, z.ndim), axis=-1)
    d_delay, d_log_t, d_log_d, _, d_cross = tangents
    tangent = by_delay * d_delay + jnp.sum(by_t * d_log_t + by_d * d_log_d, axis=-1)
    return jnp.sum(z.real, axis=-1), tangent + jnp.sum((d_cross * conjugate).real, axis=-1)


def waves(dry: np.ndarray, wet: np.ndarray, delay: int, n_samples: int) -> np.ndarray:
    """Return both signals, (2, n_samples), of unit power, the dry one later by `delay`."""
    early, late = max(0, -delay), max(0, delay)
    moved = np.pad(dry[early : len(dry) - late or None], (late, early))
    both = np.zeros((2, n_samples))
    both[0, : len(dry)], both[1, : len(wet)] = moved[:n_samples], wet[:n_samples]
    return (both / np.sqrt(np.maximum(np.mean(both**2, axis=1, keepdims=True), 1e-12))).astype(np.float32)


def random_rotation(cross: jax.Array, omega: jax.Array, fs: float, key: jax.Array) -> jax.Array:
    """Give each row (..., bands) a random polarity and up to two random all-pass sections."""
    sign, cutoff, q, used = jax.random.split(key, 4)
    lead = cross.shape[:-1]
    ends = jnp.log(jnp.array([30.0, 15e3, 0.2, 4.0], omega.dtype))
    cutoff_hz = jnp.exp(jax.random.uniform(cutoff, (*lead, 2), omega.dtype, ends[0], ends[1]))
    quality = jnp.exp(jax.random.uniform(q, (*lead, 2), omega.dtype, ends[2], ends[3]))
    # A narrow section below the bands turns by a whole circle: none.
    active = jax.random.bernoulli(used, 0.4, cutoff_hz.shape)
    cutoff_hz, quality = jnp.where(active, cutoff_hz, 0.1), jnp.where(active, quality, 10.0)
    polarity = jnp.where(jax.random.bernoulli(sign, 0.5, (*lead, 1)), 1.0, -1.0).astype(omega.dtype)[..., 0]
    log_t = log_tangent(cutoff_hz, fs, jnp)
    sections = Cascade(jnp.zeros(lead, omega.dtype), log_t, -jnp.log(quality), SECOND, polarity)
    return residual(sections, Target(omega, cross))
