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

from jaxapf._internal import least_squares

__all__ = ["levenberg_marquardt"]

COLUMNS = 8  # of the Jacobian at a time
DAMPING = least_squares.Damping(start=1e-3, shrink=0.2, highest=1e9, ridge=1e-9, negligible=1e-9)

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
    """Return the parameters of least mean squared residual, float64, and that residual.

    `predict(theta, data) -> residual` is jitted here and computed in JAX's default precision. It ends after
    so many steps, where two steps gain less than the share `least_gain` each, or where the error is no larger
    than `good`. FloatingPointError where the start itself has no finite error.
    """
    error_of, normal_of = _compiled(predict)

    def errors_of(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.array([float(error_of(jnp.asarray(one), data)) for one in points]), points

    return least_squares.minimise(
        lambda theta: normal_of(jnp.asarray(theta), data),
        errors_of,
        theta,
        steps=steps,
        options=DAMPING,
        least_gain=least_gain,
        good=good,
        on_step=on_step,
    )


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
        return jacobian @ residual, jacobian @ jacobian.T

    return error_of, normal_of
