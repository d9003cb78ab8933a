"""What a network hears of two recordings, and what its answers are worth.

    cross-spectrum -> candidate delays -> bands, once for each -> phase, coherence and level

The worth of an answer needs no filtered signal: the inner product of a unit-gain filter's output with the wet
signal is one sum over the cross-spectrum, frequency sampling in its shortest form.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxapf._internal.arrays import with_rank
from jaxapf.alignment import cross_spectrum

BANDS = 512
LOWEST_HZ, HIGHEST_HZ = 20.0, 20e3
QUIET_DB = 60.0  # below the loudest band: as good as silent
CANDIDATES = 8  # delays that are tried
HIGHEST = 0.49  # of the rate, for a frequency that is predicted


class Controls(NamedTuple):
    """Answers of a network, or truths.

    ``delay_ms``, ``polarity`` (...), ``cutoff_hz``, ``q`` (..., sections). The polarity of a prediction lies
    in (-1, 1); its sign counts.
    """

    delay_ms: Any
    polarity: Any
    cutoff_hz: Any
    q: Any


class Heard(NamedTuple):
    """Bands of a cross-spectrum, once for each candidate delay.

    ``omega`` (bands,) centres in rad / sample; ``cross`` (..., bands) the cross-spectrum summed in each band
    after the delay was taken out; ``total`` (..., bands) the sum of its magnitudes. Scaled so that an
    inner product of 1 is the correlation 1.
    """

    omega: Any
    cross: Any
    total: Any


def candidates(cross: cross_spectrum.CrossSpectrum, max_delay: int) -> np.ndarray:
    """Delays to try, (CANDIDATES,) in samples: peaks of the plain and whitened cross-correlation.

    Where there are fewer the first is repeated.

    Example:
        >>> x = np.random.default_rng(0).standard_normal(4096)
        >>> float(candidates(spectrum.measure(x[:-5], x[5:], 44100.0, 100), 100)[0])
        -5.0
    """
    best, _ = cross_spectrum.best_delay(cross, max_delay)
    found = [float(round(best)), *cross_spectrum.delay_candidates(cross, max_delay, 2)]
    distinct = list(dict.fromkeys(found))[:CANDIDATES]
    return np.array(distinct + distinct[:1] * (CANDIDATES - len(distinct)))


def hear(cross: cross_spectrum.CrossSpectrum, delays: Any) -> Heard:
    """Sum a cross-spectrum over logarithmic bands from 20 Hz to 20 kHz, for each candidate delay.

    A band narrower than a line of the spectrum gets its share of it. What lies above half the rate is empty.

    Args:
        cross: of `spectrum.measure`.
        delays: (candidates,) in samples.

    Returns:
        Heard, NumPy: `omega` (bands,), `cross` complex64 and `total` float32 (candidates, bands).

    Example:
        >>> x = np.random.default_rng(0).standard_normal(4096)
        >>> heard = hear(spectrum.measure(x, -x, 44100.0, 10), [0.0])
        >>> round(float(np.sum(heard.cross.real)), 1)
        -0.9
    """
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
    crossed = np.stack([in_bands(lines * _turns(step * d, last)) for d in np.atleast_1d(delays)])
    total = in_bands(np.abs(lines).astype(np.float64))
    centres = np.minimum(np.sqrt(edges[1:] * edges[:-1]) / cross.fs, HIGHEST) * 2 * np.pi
    return Heard(
        centres.astype(np.float32),
        crossed.astype(np.complex64),
        np.broadcast_to(total, crossed.shape).astype(np.float32),
    )


def _turns(angle: float, count: int) -> np.ndarray:
    """exp(j k angle) for k below count; most of the exponentials are products of two others."""
    fine = np.exp(1j * angle * np.arange(64))
    coarse = np.exp(1j * angle * 64 * np.arange(-(-count // 64)))
    return np.multiply.outer(coarse, fine).ravel()[:count]


def cross_phase(heard: Heard) -> jax.Array:
    """What a network hears of the cross-spectrum, (..., 4, bands).

    Cosine and sine of the phase, both weighted by the coherence (how well the lines of a band agree); the
    band's level below the loudest, 60 dB as 0; and the band's place from -1 to 1.

    Example:
        >>> cross_phase(Heard(jnp.ones(3), jnp.ones((2, 3), jnp.complex64), jnp.ones((2, 3)))).shape
        (2, 4, 3)
    """
    cross, total = jnp.asarray(heard.cross), jnp.asarray(heard.total)
    share = 1 / jnp.maximum(total, 1e-20)
    loudest = jnp.maximum(jnp.max(total, axis=-1, keepdims=True), 1e-20)
    level_db = 10 * jnp.log10(jnp.maximum(total / loudest, 1e-12))
    level = jnp.maximum(0.0, 1 + level_db / QUIET_DB)
    heard_at_all = level > 0
    place = jnp.broadcast_to(jnp.linspace(-1.0, 1.0, total.shape[-1], dtype=level.dtype), level.shape)
    phase = (jnp.where(heard_at_all, part * share, 0.0) for part in (cross.real, cross.imag))
    return jnp.stack([*phase, level, place], axis=-2)


def score(controls: Controls, heard: Heard, fs: Any) -> jax.Array:
    """Correlation of the dry signal, shifted by controls, with the wet one; as the bands tell it.

    Sum of Re S conj(A e^{-j w d}): frequency sampling of the cascade, one sample a band. It is multiplied by
    the polarity, whose magnitude so tells how sure the network is.

    Args:
        controls: (..., heads).
        heard: `cross` (..., bands).
        fs: sample rate in Hz.

    Returns:
        (..., heads), at most 1.

    Example:
        >>> heard = Heard(jnp.ones(1), jnp.full((1,), 0.5 + 0j), jnp.full((1,), 0.5))
        >>> through = Controls(jnp.zeros(1), jnp.ones(1), jnp.full((1, 1), 20e3), jnp.full((1, 1), 10.0))
        >>> round(float(score(through, heard, 44100.0)[0]), 2)
        0.5
    """
    cutoff_hz = jnp.minimum(controls.cutoff_hz, HIGHEST * fs)
    log_t = jnp.log(jnp.tan(np.pi / fs * cutoff_hz))
    inner = _inner(
        (1e-3 * fs) * controls.delay_ms, log_t, -jnp.log(controls.q), heard.omega, heard.cross[..., None, :]
    )
    return controls.polarity * inner


@jax.custom_jvp
def _inner(delay: Any, log_t: Any, log_d: Any, omega: Any, cross: Any) -> jax.Array:
    """Re sum S conj(A e^{-j w d}): delay (...) in samples, log tan(w0 / 2) and log 1 / Q (..., sections)."""
    return jnp.sum((cross * _conjugate(delay, log_t, log_d, omega)).real, axis=-1)


@_inner.defjvp
def _inner_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    """The phase's slopes are rational (see `fitting`) and summed over the bands at once: none is kept."""
    delay, log_t, log_d, omega, cross = primals
    conjugate = _conjugate(delay, log_t, log_d, omega)
    z = cross * conjugate
    s, re, im = _numerators(log_t, log_d, omega)
    power = re * re + im * im
    error = z.imag[..., None, :]  # d Re z / d phase
    by_t = jnp.sum(error * (-2 * im * (1 + s * s) / power), axis=-1)
    by_d = jnp.sum(error * (2 * im * re / power), axis=-1)
    by_delay = -jnp.sum(z.imag * with_rank(omega, z.ndim), axis=-1)
    d_delay, d_log_t, d_log_d, _, d_cross = tangents
    tangent = by_delay * d_delay + jnp.sum(by_t * d_log_t + by_d * d_log_d, axis=-1)
    return jnp.sum(z.real, axis=-1), tangent + jnp.sum((d_cross * conjugate).real, axis=-1)


def _numerators(log_t: Any, log_d: Any, omega: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    """S = tan(w / 2) / tan(w0 / 2) and N = 1 - s^2 - j s / Q of each section, (..., sections, bands)."""
    s = with_rank(jnp.tan(omega / 2), log_t.ndim + 1) * jnp.exp(-log_t)[..., None]
    return s, 1 - s * s, -s * jnp.exp(log_d)[..., None]


def _conjugate(delay: Any, log_t: Any, log_d: Any, omega: Any) -> jax.Array:
    """conj(A e^{-j w d}) on the bands, A the product of N^2 / |N|^2.

    N is divided by 1 + s^2, so that products of several neither over- nor underflow.
    """
    s, re, im = _numerators(log_t, log_d, omega)
    scale = 1 / (1 + s * s)
    re, im = re * scale, im * scale
    product = (re[..., 0, :], im[..., 0, :])
    for section in range(1, s.shape[-2]):
        x, y = re[..., section, :], im[..., section, :]
        product = (product[0] * x - product[1] * y, product[0] * y + product[1] * x)
    re, im = product
    power = re * re + im * im
    turn = delay[..., None] * with_rank(omega, delay.ndim + 1)
    conjugate = jax.lax.complex((re * re - im * im) / power, -2 * re * im / power)
    return conjugate * jax.lax.complex(jnp.cos(turn), jnp.sin(turn))


def waves(dry: np.ndarray, wet: np.ndarray, delay: int, n_samples: int) -> np.ndarray:
    """What a network hears of the signals, (2, n_samples): each of unit power, the dry one moved by `delay`.

    Example:
        >>> waves(np.array([0.0, 2.0, 0.0]), np.array([0.0, 0.0, 1.0]), 1, 4).tolist()
        [[0.0, 0.0, 2.0, 0.0], [0.0, 0.0, 2.0, 0.0]]
    """
    early, late = max(0, -delay), max(0, delay)
    moved = np.pad(dry[early : len(dry) - late or None], (late, early))
    both = np.zeros((2, n_samples))
    both[0, : len(dry)], both[1, : len(wet)] = moved[:n_samples], wet[:n_samples]
    return (both / np.sqrt(np.maximum(np.mean(both**2, axis=1, keepdims=True), 1e-12))).astype(np.float32)


def turned(cross: jax.Array, omega: jax.Array, fs: float, key: jax.Array) -> jax.Array:
    """Each row (..., bands) with a random polarity and up to two random all-pass sections in front."""
    sign, cutoff, q, used = jax.random.split(key, 4)
    lead = cross.shape[:-1]
    ends = jnp.log(jnp.array([30.0, 15e3, 0.2, 4.0], omega.dtype))
    cutoff_hz = jnp.exp(jax.random.uniform(cutoff, (*lead, 2), omega.dtype, ends[0], ends[1]))
    quality = jnp.exp(jax.random.uniform(q, (*lead, 2), omega.dtype, ends[2], ends[3]))
    # A narrow section below the bands turns by a whole circle: none.
    there = jax.random.bernoulli(used, 0.4, cutoff_hz.shape)
    cutoff_hz, quality = jnp.where(there, cutoff_hz, 0.1), jnp.where(there, quality, 10.0)
    log_t = jnp.log(jnp.tan(np.pi / fs * cutoff_hz))
    polarity = jnp.where(jax.random.bernoulli(sign, 0.5, (*lead, 1)), 1.0, -1.0).astype(cross.dtype)
    return cross * polarity * _conjugate(jnp.zeros(lead, omega.dtype), log_t, -jnp.log(quality), omega)
