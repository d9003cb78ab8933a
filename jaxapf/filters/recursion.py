"""Exact linear recurrences: the first-order one, and the names of the engines behind it.

The cascade of sections is `state_space.linear_recurrence`, the recurrence on past outputs `all_pole.allpole`.
"""

import jax.numpy as jnp
from jaxtyping import Array, Inexact

from jaxapf._internal.arrays import Values, as_signal, batch_shape, initial_state, with_rank
from jaxapf.filters.all_pole import ALLPOLE_METHODS, allpole
from jaxapf.filters.state_space import METHODS, direct_form_method, linear_recurrence, resolve_method

__all__ = [
    "ALLPOLE_METHODS",
    "METHODS",
    "allpole",
    "direct_form_method",
    "first_order",
    "linear_recurrence",
    "resolve_method",
]


def first_order(
    a: Values, x: Values, zi: Values | None = None, *, method: str = "auto"
) -> tuple[Inexact[Array, "... n_samples"], Inexact[Array, "..."]]:
    """Run a first-order linear recurrence: y[t] = a[t] y[t - 1] + x[t].

    Args:
        a: `(..., n_samples)`, one coefficient a sample, or `(..., 1)` or a number, constant. Real or complex.
        x: `(..., n_samples)`, real or complex; batch axes broadcast.
        zi: `(...)` the output before the first; None is zeros.
        method: as in `allpole`.

    Returns and raises as `allpole`; the last output, the `zi` of the chunk that follows, is `(...)`.

    Example:
        >>> import jax.numpy as jnp
        >>> y, zf = first_order(0.5, jnp.array([1.0, 0.0, 0.0]))
        >>> y.tolist(), float(zf)
        ([1.0, 0.5, 0.25], 0.25)
    """
    signal = as_signal(x, a, zi)
    coefficient = jnp.atleast_1d(jnp.asarray(a)).astype(signal.dtype)
    if coefficient.shape[-1] not in (1, signal.shape[-1]):
        raise ValueError(
            f"a has shape {coefficient.shape}, x {signal.shape}; expected (..., n_samples) or (..., 1) for a."
        )
    batch = batch_shape("a", coefficient.shape[:-1], signal)
    signal = jnp.broadcast_to(signal, (*batch, signal.shape[-1]))
    if zi is not None:
        zi = initial_state(zi, batch, (), signal.dtype)[..., None]
    if coefficient.shape[-1] == signal.shape[-1]:
        coefficient = with_rank(coefficient, signal.ndim)[..., None]
    y, zf = allpole(-coefficient, signal, zi, method=method)
    return y, zf[..., 0]
