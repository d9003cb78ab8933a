"""Fit a delay and an all-pass cascade to a cross-spectrum, from a start on, by Levenberg-Marquardt."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxapf._internal.least_squares import Damping, Normal, iterate
from jaxapf.alignment.cascade import Cascade, Target, phase_slopes, residual

__all__ = ["Bounds", "moved", "normal_equations", "refine"]

LONGEST_STEP = 0.7  # of log t0 and log 1/Q


class Bounds(NamedTuple):
    """Box of the search: delay in samples, log t0, log 1/Q, and the narrowest bandwidth as log t."""

    delay: tuple[Any, Any]
    log_t: tuple[Any, Any]
    log_d: tuple[Any, Any]
    log_bandwidth: float


def normal_equations(cascade: Cascade, target: Target) -> Normal:
    """Return minus the score, its gradient and Gauss-Newton matrix by delay, log_t and log_d."""
    left = residual(cascade, target)
    jacobian = jnp.concatenate([-target.omega[None], *phase_slopes(cascade, target.omega)])
    # Newton's weight is |S| cos(error); held above zero it keeps the matrix definite far from the optimum.
    weight = jnp.maximum(left.real, 0.1 * jnp.abs(left))
    return Normal(-jnp.sum(left.real), -(jacobian @ left.imag), (jacobian * weight[None]) @ jacobian.T)


def moved(cascade: Cascade, step: jax.Array, bounds: Bounds) -> Cascade:
    """Return a cascade changed by a step (1 + 2 n_sections,), within the bounds."""
    by_t, by_d = jnp.split(jnp.clip(step[1:], -LONGEST_STEP, LONGEST_STEP), 2)
    log_t = jnp.clip(cascade.log_t + by_t, *bounds.log_t)
    narrowest = jnp.maximum(bounds.log_d[0], bounds.log_bandwidth - log_t)
    log_d = jnp.clip(cascade.log_d + by_d, narrowest, jnp.maximum(bounds.log_d[1], narrowest))
    return cascade._replace(delay=jnp.clip(cascade.delay + step[0], *bounds.delay), log_t=log_t, log_d=log_d)


@jax.jit
def refine(cascades: Cascade, target: Target, bounds: Bounds, iterations: Any) -> tuple[Cascade, jax.Array]:
    """Refine many cascades at once, on their leading axis; return them with their scores (n_cascades,)."""

    def one(cascade: Cascade) -> tuple[Cascade, jax.Array]:
        evaluate, move = partial(normal_equations, target=target), partial(moved, bounds=bounds)
        cascade, normal = iterate(evaluate, cascade, move, iterations, Damping())
        return cascade, -normal.error

    return jax.vmap(one)(cascades)
