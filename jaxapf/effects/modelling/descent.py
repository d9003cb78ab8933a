"""Levenberg-Marquardt on the samples of a signal, with derivatives in forward mode.

Effects have some ten to two hundred parameters and half a million samples: a step needs the Jacobian's
products alone, whose columns are computed a few at a time. Every column is one more run of the recursions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

COLUMNS = 8  # of the Jacobian at a time
SMALLEST, LARGEST = 1e-9, 1e9  # of the damping

Predict = Callable[[jax.Array, Any], jax.Array]


def levenberg_marquardt(
    predict: Predict,
    theta: np.ndarray,
    data: Any,
    *,
    steps: int,
    least_gain: float = 1e-4,
    good: float = 0.0,
    on_step: Callable[[int, float], None] = lambda step, error: None,
) -> tuple[np.ndarray, float]:
    """Minimise the mean squared residual.

    Args:
        predict: `predict(theta, data) -> residual`, `(n,)`, differentiable in forward mode and jitted here.
        theta: `(n_parameters,)` start, float64; computed with in JAX's default precision.
        data: pytree of arrays that the prediction needs.
        steps: at most so many.
        least_gain: ends where two steps gain less than this share of the error each.
        good: ends where the error is no larger.
        on_step: called with the number of the step and its error.

    Returns:
        The best parameters, float64, and their mean squared residual.

    Raises:
        FloatingPointError: the start itself has no finite error.

    Source: Levenberg 1944; Marquardt 1963 (scaling by the diagonal).

    Example:
        >>> line = lambda theta, t: theta[0] * t + theta[1] - (2.0 * t + 1.0)
        >>> theta, error = levenberg_marquardt(line, np.zeros(2), jnp.arange(8.0), steps=20)
        >>> theta.round(3).tolist()
        [2.0, 1.0]
    """
    error_of, normal_of = _compiled(predict)
    error = float(error_of(jnp.asarray(theta), data))
    if not np.isfinite(error):
        raise FloatingPointError("the start has no finite error")
    damping, small = 1e-3, 0
    for step in range(steps if error > good else 0):
        gram, gradient = (np.asarray(one, np.float64) for one in normal_of(jnp.asarray(theta), data))
        if not np.all(np.isfinite(gram)):
            break  # at the edge of what is stable: the best so far
        damped = _solver(gram, gradient)
        before = error
        while damping < LARGEST:
            tried = theta - damped(damping)
            found = float(error_of(jnp.asarray(tried), data))
            if np.isfinite(found) and found < error:
                theta, error = tried, found
                damping = max(damping / 5, SMALLEST)
                break
            damping *= 4
        on_step(step, error)
        small = small + 1 if before - error <= least_gain * before else 0
        if small >= 2 or damping >= LARGEST or error <= good:
            break
    return theta, error


def _solver(gram: np.ndarray, gradient: np.ndarray) -> Callable[[float], np.ndarray]:
    """The step as a function of the damping, by eigenvalues: rounding leaves some a little below zero."""
    scale = np.sqrt(np.diag(gram) + 1e-9 * np.trace(gram) + np.finfo(float).tiny)
    values, vectors = scipy.linalg.eigh(gram / np.outer(scale, scale))
    turned = vectors.T @ (gradient / scale)
    return lambda damping: vectors @ (turned / (np.maximum(values, 0) + damping)) / scale


def _compiled(predict: Predict) -> tuple[Any, Any]:
    @jax.jit
    def error_of(theta: jax.Array, data: Any) -> jax.Array:
        return jnp.mean(predict(theta, data) ** 2)

    @jax.jit
    def normal_of(theta: jax.Array, data: Any) -> tuple[jax.Array, jax.Array]:
        n = theta.size
        n_padded = -(-n // COLUMNS) * COLUMNS
        directions = jnp.eye(n_padded, n, dtype=theta.dtype).reshape(-1, COLUMNS, n)
        residual = predict(theta, data)

        def columns(directions: jax.Array) -> jax.Array:
            def column(direction: jax.Array) -> jax.Array:
                return jax.jvp(lambda theta: predict(theta, data), (theta,), (direction,))[1]

            return jax.vmap(column)(directions)

        jacobian = jax.lax.map(columns, directions).reshape(n_padded, -1)[:n]
        return jacobian @ jacobian.T, jacobian @ residual

    return error_of, normal_of
