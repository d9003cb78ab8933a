"""Levenberg-Marquardt: damped Gauss-Newton steps, of which only those that lower the error are taken.

`iterate` takes a fixed number of steps inside a compiled program; `minimise` runs on the host, until steps
gain too little. Source: Levenberg 1944; Marquardt 1963 (scaling by the diagonal).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

T = TypeVar("T")


class Normal(NamedTuple):
    """Normal equations at a point: ``error`` (), ``gradient`` (n,) and ``curvature`` (n, n) of it."""

    error: Any
    gradient: Any
    curvature: Any


class Damping(NamedTuple):
    """Schedule of the damping, relative to the diagonal of the curvature.

    ``start``; ``shrink`` and ``grow``: factors after a step that lowered the error and after one that did
    not; ``lowest``, ``highest``; ``ridge``: added to it always; ``negligible``: a parameter of so small a
    curvature has no effect and is left alone.
    """

    start: float = 1e-2
    shrink: float = 0.3
    grow: float = 4.0
    lowest: float = 1e-9
    highest: float = 1e6
    ridge: float = 1e-12
    negligible: float = 1e-14


def damped_step(normal: Normal, damping: Any, options: Damping, xp: Any = np) -> Any:
    """Return the step (n,) of (curvature + damping * diagonal) step = -gradient, zero where not finite."""
    diagonal = xp.diagonal(normal.curvature)
    ridge = xp.where(diagonal > options.negligible, (damping + options.ridge) * diagonal, 1.0)
    step = xp.linalg.solve(normal.curvature + xp.diag(ridge), -normal.gradient)
    return xp.where(xp.isfinite(step), step, 0.0)


def iterate(
    evaluate: Callable[[T], Normal],
    start: T,
    move: Callable[[T, jax.Array], T],
    steps: Any,
    options: Damping,
) -> tuple[T, Normal]:
    """Return the best point, any pytree, of a fixed number of trial steps, and its normal equations.

    `move(point, step)` keeps the point within its bounds; `steps` may be traced.

    Example:
        >>> line = lambda x: Normal((x[0] - 3.0) ** 2, 2 * (x - 3.0), jnp.full((1, 1), 2.0))
        >>> move = lambda x, step: x + step
        >>> point, _ = jax.jit(lambda x: iterate(line, x, move, 8, Damping()))(jnp.zeros(1))
        >>> bool(abs(point[0] - 3) < 1e-3)
        True
    """

    def body(_: Any, carry: Any) -> Any:
        point, damping, normal = carry
        trial = move(point, damped_step(normal, damping, options, jnp))
        new = evaluate(trial)
        better = new.error < normal.error
        keep = partial(jax.tree.map, partial(jnp.where, better))
        damping = damping * jnp.where(better, options.shrink, options.grow).astype(damping.dtype)
        damping = jnp.clip(damping, options.lowest, options.highest)
        return keep(trial, point), damping, keep(new, normal)

    normal = evaluate(start)
    damping = jnp.asarray(options.start, normal.gradient.dtype)
    point, _, normal = jax.lax.fori_loop(0, steps, body, (start, damping, normal))
    return point, normal


def minimise(
    normal_of: Callable[[np.ndarray], tuple[Any, Any]],
    errors_of: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    start: np.ndarray,
    *,
    steps: int,
    options: Damping,
    factors: tuple[float, ...] = (1.0,),
    bounds: tuple[Any, Any] = (-np.inf, np.inf),
    longest: Any = np.inf,
    least_gain: float = 1e-4,
    patience: int = 2,
    good: float = 0.0,
    on_step: Callable[[int, float], None] = lambda step, error: None,
) -> tuple[np.ndarray, float]:
    """Minimise an error on the host; return the best point (n,), float64, and its error.

    FloatingPointError where the start itself has no finite error.

    Args:
        normal_of: from a point (n,) to gradient (n,) and curvature (n, n).
        errors_of: from points (n_trials, n) to their errors (n_trials,) and the points, which it may better.
        start: the first point (n,).
        steps: at most so many.
        options: of the damping.
        factors: of the damping, tried side by side; the best is kept.
        bounds: lowest and highest point, each () or (n,).
        longest: largest change of a parameter in a step, () or (n,).
        least_gain: end where `patience` steps gain less than this share of the error each.
        patience: see `least_gain`.
        good: end where the error is no larger.
        on_step: called with the number of the step and its error.
    """
    (error,), (point,) = errors_of(np.asarray(start, np.float64)[None])
    if not np.isfinite(error):
        raise FloatingPointError("the start has no finite error")
    low, high = bounds
    damping, small = options.start, 0
    for step in range(steps if error > good else 0):
        gradient, curvature = (np.array(part, np.float64) for part in normal_of(point))
        if not np.all(np.isfinite(curvature)):
            break  # at the edge of what is stable: the best so far
        # A parameter that stands at a bound and pushes against it stays there.
        held = ((point <= low) & (gradient > 0)) | ((point >= high) & (gradient < 0))
        gradient[held], curvature[held], curvature[:, held] = 0.0, 0.0, 0.0
        # On the scale of the largest curvature, so that the damping's options have a meaning.
        scale = max(float(np.max(np.diag(curvature))), np.finfo(float).tiny)
        normal, before = Normal(error, gradient / scale, curvature / scale), error
        while damping < options.highest:
            dampings = damping * np.array(factors)
            changes = [np.clip(damped_step(normal, one, options), -longest, longest) for one in dampings]
            errors, trials = errors_of(np.clip(point + np.array(changes), low, high))
            best = int(np.argmin(np.where(np.isfinite(errors), errors, np.inf)))
            if errors[best] < error:
                point, error = trials[best], float(errors[best])
                damping = max(options.shrink * float(dampings[best]), options.lowest)
                break
            damping *= options.grow
        on_step(step, error)
        small = small + 1 if before - error <= least_gain * before else 0
        if small >= patience or damping >= options.highest or error <= good:
            break
    return point, float(error)
