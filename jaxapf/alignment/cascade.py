"""A delay and an all-pass cascade as they are searched for: logarithms of frequency and damping.

With the bilinear frequency t = tan(w / 2) a section is A = N / conj(N), a rational function of s = t / t0
(`jaxapf._internal.allpass_response`). For dry X and wet Y the error-to-signal ratio of a unit-gain filter
falls linearly in one number, the *score*

    score = Re sum_k S_k conj(A_k exp(-j w_k tau)),   S = conj(X) Y / sum |conj(X) Y|,

so that is what is maximised; 1 is the phase-only bound. The phase errors per bin have derivatives with
respect to log t0, log d and tau that are rational in s: nothing is unwrapped, ever.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Complex, Float, Int

from jaxapf import allpass
from jaxapf._internal import allpass_response
from jaxapf._internal.arrays import with_rank
from jaxapf._internal.delay import delay_response

__all__ = [
    "FIRST",
    "HIGHEST",
    "SECOND",
    "Cascade",
    "Controls",
    "Target",
    "conjugate_response",
    "control_rows",
    "from_controls",
    "from_sections",
    "log_tangent",
    "phase_slopes",
    "residual",
    "to_sections",
    "without_sections",
]

FIRST, SECOND = 1, 2
HIGHEST = 0.49  # of the sample rate, for the frequency of a section


class Cascade(NamedTuple):
    """A delay and a padded cascade of NumPy or JAX arrays."""

    delay: Float[Any, "*batch"]  # in samples
    log_t: Float[Any, "*batch n_sections"]  # log tan(pi f0 / fs)
    log_d: Float[Any, "*batch n_sections"]  # log 1 / Q
    kind: Int[Any, "*batch n_sections"]  # 0 unused, FIRST, SECOND; one number where all are of a kind
    polarity: Float[Any, "*batch"]


class Target(NamedTuple):
    """Cross-spectrum to match: ``omega`` in rad / sample, ``cross`` with sum |cross| = 1."""

    omega: Float[Any, " n_bins"]
    cross: Complex[Any, "*batch n_bins"]


class Controls(NamedTuple):
    """A delay, a polarity (its sign counts) and second-order sections (..., n_sections) in a user's units."""

    delay_ms: Any
    polarity: Any
    cutoff_hz: Any
    q: Any


def _namespace(cascade: Cascade) -> Any:
    return jnp if isinstance(cascade.log_t, jax.Array) else np


def _numerators(cascade: Cascade, omega: Any) -> tuple[Any, Any, Any]:
    """Return which sections are of second order, and N / (1 + s^2) (..., n_sections, n_bins)."""
    xp = _namespace(cascade)
    log_t, log_d = cascade.log_t[..., None], cascade.log_d[..., None]
    kind = xp.broadcast_to(xp.asarray(cascade.kind), cascade.log_t.shape)[..., None]
    second = kind == SECOND
    # An unused section has s = 0, where N = 1.
    s = with_rank(xp.tan(omega / 2), log_t.ndim) * xp.where(kind > 0, xp.exp(-log_t), 0.0)
    damping = xp.where(second, xp.exp(log_d), 1.0)
    return second, *allpass_response.numerators(s, damping, second.astype(s.dtype))


def conjugate_response(cascade: Cascade, omega: Any) -> Any:
    """Return conj(polarity A exp(-j omega delay)), (..., n_bins) complex."""
    xp, rank = _namespace(cascade), np.ndim(cascade.log_t)
    delay, polarity = (
        with_rank(xp.asarray(one)[..., None], rank) for one in (cascade.delay, cascade.polarity)
    )
    response = allpass_response.response(*_numerators(cascade, omega)[1:])
    turn = delay_response(-delay, with_rank(omega, rank), xp)
    return xp.conj(response) * turn * polarity.astype(response.dtype)


def residual(cascade: Cascade, target: Target) -> Any:
    """Return the cross-spectrum without the cascade, (..., n_bins); its real part sums to the score."""
    return target.cross * conjugate_response(cascade, target.omega)


def phase_slopes(cascade: Cascade, omega: Any) -> tuple[Any, Any]:
    """Return the phase's derivatives by log_t and log_d, (..., n_sections, n_bins); -omega by delay."""
    second, real, imag = _numerators(cascade, omega)
    power = real * real + imag * imag
    return -2 * imag / jnp.where(second, power, 1.0), jnp.where(second, 2 * imag * real / power, 0.0)


def without_sections(delay: float = 0.0, polarity: float = 1.0) -> Cascade:
    """Return a delay and a polarity alone, NumPy float64."""
    empty = np.zeros(0)
    return Cascade(np.float64(delay), empty, empty, np.zeros(0, np.int32), np.float64(polarity))


def log_tangent(cutoff_hz: Any, fs: Any, xp: Any = np) -> Any:
    """Return log tan(pi cutoff / fs), the cutoff kept below `HIGHEST` of the sample rate in Hz."""
    return xp.log(xp.tan(np.pi / fs * xp.minimum(cutoff_hz, HIGHEST * fs)))


def to_sections(cascade: Cascade) -> allpass.Sections:
    """Return the sections: u : v : m are t0^2 : 1 : t0 d / 2 (second order) or t0 : 0 : 1 / 2 (first)."""
    xp = _namespace(cascade)
    log_t, log_d = cascade.log_t, cascade.log_d
    if xp is np:
        log_t, log_d = (np.asarray(one, np.float64) for one in (log_t, log_d))
    first = xp.asarray(cascade.kind) == FIRST
    t0 = xp.exp(log_t)
    u, v = xp.where(first, t0, t0**2), xp.where(first, xp.zeros_like(t0), 1.0)
    m = xp.where(first, 0.5, t0 * xp.exp(log_d) / 2)
    scale = 4 / (u + v + 2 * m)
    return allpass.Sections(u * scale, v * scale, m * scale)


def from_sections(sections: allpass.Sections, delay: Any = 0.0, polarity: Any = 1.0) -> Cascade:
    """Return sections (n_sections,) with a delay and a polarity as a cascade: inverse of `to_sections`."""
    u, v, m = (np.asarray(field, np.float64) for field in sections)
    first = v == 0
    v = np.where(first, 1.0, v)
    log_t = np.where(first, np.log(u / (2 * m)), np.log(u / v) / 2)
    log_d = np.where(first, 0.0, np.log(2 * m) - np.log(u * v) / 2)
    return Cascade(delay, log_t, log_d, np.where(first, FIRST, SECOND).astype(np.int32), polarity)


def from_controls(controls: Controls, fs: float) -> Cascade:
    """Return controls (...) as a cascade of second-order sections, float64 for NumPy arrays."""
    delay_ms, polarity, cutoff_hz, q = controls
    xp = jnp if isinstance(cutoff_hz, jax.Array) else np
    if xp is np:
        delay_ms, polarity, cutoff_hz, q = (np.asarray(field, np.float64) for field in controls)
    log_t = log_tangent(cutoff_hz, fs, xp)
    kind = np.full(log_t.shape, SECOND, np.int32)
    return Cascade(1e-3 * fs * delay_ms, log_t, -xp.log(q), kind, polarity)


def control_rows(cascade: Cascade, fs: float) -> list[dict[str, Any]]:
    """Return one dict a section, as `Alignment.controls`; `radius`, `angle_hz` are the paper's (eq. 4)."""
    rows: list[dict[str, Any]] = []
    for log_t, log_d, kind in zip(cascade.log_t, cascade.log_d, cascade.kind, strict=True):
        t0, d = float(np.exp(log_t)), float(np.exp(log_d))
        cutoff = float(np.arctan(t0) * fs / np.pi)
        if kind == FIRST:
            rows.append({"type": "first_order", "cutoff_hz": cutoff, "coefficient": (t0 - 1) / (t0 + 1)})
            continue
        row: dict[str, Any] = {"type": "second_order", "cutoff_hz": cutoff, "q": 1 / d}
        if d < 2:
            c = (1 + t0**2 - t0 * d) / (1 + t0**2 + t0 * d)
            cosine = (1 - t0**2) / (1 + t0**2 + t0 * d) / np.sqrt(c) if c > 0 else np.nan
            if c > 0 and abs(cosine) <= 1:
                row |= {"radius": float(np.sqrt(c)), "angle_hz": float(np.arccos(cosine) * fs / (2 * np.pi))}
        rows.append(row)
    return rows
