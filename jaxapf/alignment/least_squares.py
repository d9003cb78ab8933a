"""Fit a delay and an all-pass cascade to a cross-spectrum: global search, then Levenberg-Marquardt.

With the bilinear frequency t = tan(w / 2) every section is one polynomial N(t) and its conjugate,

    A = N / conj(N),   N = 1 - v s^2 - j d s,   s = t / t0,

where v = 1, d = 1 / Q for a second-order and v = 0, d = 1 for a first-order section.  For dry X and wet
Y the error-to-signal ratio of a unit-gain filter falls linearly in one number, the *score*

    score = Re sum_k S_k conj(A_k exp(-j w_k tau)),   S = conj(X) Y / sum |conj(X) Y|,

so that is what is maximised; 1 is the phase-only bound.  Its residual per bin is the phase error, whose
derivatives with respect to log t0, log d and tau are rational in s: nothing is unwrapped, ever.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

FIRST, SECOND = 1, 2


class Cascade(NamedTuple):
    """A delay and a padded cascade; arrays may carry a leading axis of candidates.

    ``delay`` in samples; ``log_t`` (n,) log of tan(pi f0 / fs); ``log_d`` (n,) log of 1 / Q; ``kind``
    (n,) 0 unused, 1 first order, 2 second order; ``polarity`` +1 or -1.  NumPy or JAX arrays.
    """

    delay: Any
    log_t: Any
    log_d: Any
    kind: Any
    polarity: Any


class Target(NamedTuple):
    """Cross-spectrum to match: ``omega`` (k,) in rad / sample, ``cross`` (k,) with sum |cross| = 1."""

    omega: Any
    cross: Any


class Bounds(NamedTuple):
    """Box of the search: delay in samples, log t0, log 1/Q, and the narrowest bandwidth as log t."""

    delay: tuple[float, float]
    log_t: tuple[float, float]
    log_d: tuple[float, float]
    log_bandwidth: float


def _numerator(cascade: Cascade, tangent):
    """Real and imaginary part of each section's N(t): two arrays (n, k)."""
    s = tangent[None] * jnp.exp(-cascade.log_t)[:, None]
    second = (cascade.kind == SECOND)[:, None]
    d = jnp.where(second, jnp.exp(cascade.log_d)[:, None], 1.0)
    used = (cascade.kind > 0)[:, None]
    return s, jnp.where(second, 1 - s * s, 1.0), jnp.where(used, -d * s, 0.0)


def _residual(cascade: Cascade, target: Target, re, im):
    """S conj(A exp(-j w tau)) per bin, complex (k,)."""
    product = jnp.prod(jax.lax.complex(re, im), axis=0)
    real, imag = product.real, product.imag
    gain = cascade.polarity / (real * real + imag * imag)
    conj_a = jax.lax.complex((real * real - imag * imag) * gain, -2 * real * imag * gain)
    phase = target.omega * cascade.delay
    return target.cross * jax.lax.complex(jnp.cos(phase), jnp.sin(phase)) * conj_a


def score(cascade: Cascade, target: Target):
    """Score of one cascade, at most 1."""
    _, re, im = _numerator(cascade, jnp.tan(target.omega / 2))
    return jnp.sum(_residual(cascade, target, re, im).real)


def _normal_equations(cascade: Cascade, target: Target, tangent):
    """Score, gradient (p,) and Gauss-Newton matrix (p, p) over delay, log_t, log_d."""
    s, re, im = _numerator(cascade, tangent)
    power = re * re + im * im
    z = _residual(cascade, target, re, im)
    second = (cascade.kind == SECOND)[:, None]
    slope_t = -2 * im * jnp.where(second, 1 + s * s, 1.0) / power  # d phase / d log t0
    slope_d = jnp.where(second, 2 * im * re / power, 0.0)  # d phase / d log d
    jac = jnp.concatenate([-target.omega[None], slope_t, slope_d])
    # Newton's weight is |S| cos(error); held above zero it keeps the matrix definite far from the optimum.
    weight = jnp.maximum(z.real, 0.1 * jnp.abs(z))
    return jnp.sum(z.real), jac @ z.imag, (jac * weight[None]) @ jac.T


def _move(cascade: Cascade, step, bounds: Bounds) -> Cascade:
    n = cascade.log_t.shape[0]
    step = jnp.concatenate([step[:1], jnp.clip(step[1:], -0.7, 0.7)])
    delay = jnp.clip(cascade.delay + step[0], *bounds.delay)
    log_t = jnp.clip(cascade.log_t + step[1 : 1 + n], *bounds.log_t)
    narrowest = jnp.maximum(bounds.log_d[0], bounds.log_bandwidth - log_t)
    log_d = jnp.clip(cascade.log_d + step[1 + n :], narrowest, jnp.maximum(bounds.log_d[1], narrowest))
    return cascade._replace(delay=delay, log_t=log_t, log_d=log_d)


def _refine_one(cascade: Cascade, target: Target, bounds: Bounds, iterations):
    """Levenberg-Marquardt with Marquardt's diagonal scaling."""
    tangent = jnp.tan(target.omega / 2)

    def body(_, carry):
        cascade, damping, value, gradient, matrix = carry
        diagonal = jnp.diag(matrix)
        scale = jnp.where(diagonal > 1e-14, (damping + 1e-12) * diagonal, 1.0)
        step = jnp.linalg.solve(matrix + jnp.diag(scale), gradient)
        moved = _move(cascade, step, bounds)
        new = _normal_equations(moved, target, tangent)
        better = new[0] > value
        keep = partial(jax.tree.map, lambda a, b: jnp.where(better, a, b))
        damping = jnp.clip(jnp.where(better, 0.3 * damping, 4.0 * damping), 1e-9, 1e6)
        return keep(moved, cascade), damping, *keep(new, (value, gradient, matrix))

    start = (cascade, jnp.asarray(1e-2, target.omega.dtype), *_normal_equations(cascade, target, tangent))
    cascade, _, value, _, _ = jax.lax.fori_loop(0, iterations, body, start)
    return cascade, value


@jax.jit
def refine(cascades: Cascade, target: Target, bounds: Bounds, iterations) -> tuple[Cascade, jax.Array]:
    """Refine many cascades at once: leading axis of ``cascades``; returns them with their scores."""
    return jax.vmap(lambda c: _refine_one(c, target, bounds, iterations))(cascades)
