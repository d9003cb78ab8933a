"""The all-pole filter, y[t] = x[t] - sum_i a[t, i] y[t - 1 - i], constant or time-varying.

Besides the methods of `state_space` there is `"native"`, a kernel in C for the CPU where it can be built (see
`native`). All are exact and differentiable in both modes, to any order.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Inexact

from jaxapf._internal import linear
from jaxapf._internal.arrays import Values, as_signal, batch_shape, initial_state, lift
from jaxapf.filters import native
from jaxapf.filters.state_space import (
    METHODS,
    State,
    Step,
    direct_form_method,
    linear_recurrence,
    resolve_method,
)

__all__ = ["ALLPOLE_METHODS", "allpole"]

ALLPOLE_METHODS = (*METHODS, "native")

# Samples that one iteration of XLA's loop computes. Four halved the time of `allpole`; eight raised it again.
_UNROLL = 4


def allpole(
    a: Values, x: Values, zi: Values | None = None, *, method: str = "auto"
) -> tuple[Inexact[Array, "... n_samples"], Inexact[Array, "... n_poles"]]:
    """Filter by an all-pole recurrence, constant or time-varying: y[t] = x[t] - sum_i a[t, i] y[t - 1 - i].

    Args:
        a: coefficients without the leading one: `(..., n_poles)`, constant (`a.ndim <= x.ndim`), or
            `(..., n_samples, n_poles)`, one set a sample (`a.ndim == x.ndim + 1`). Real or complex.
        x: `(..., n_samples)`, real or complex; batch axes broadcast.
        zi: `(..., n_poles)` the outputs before the first, newest first; None is zeros.
        method: `"scan"`, `"blocked"`, `"associative"`, `"native"` (a C kernel for real signals on the CPU,
            built on first use where there is a compiler) or `"auto"`.

    Returns y, in the precision of `x`, complex when any argument is, and the `zi` of the chunk that follows.
    Raises ValueError for an unknown `method`, `"native"` where it cannot run, and shapes that do not fit.

    Source: Yu et al. 2024, section 2, whose gradient this has, and the forward mode and higher orders
    besides.

    Example:
        >>> import jax.numpy as jnp
        >>> y, zf = allpole(jnp.array([-0.5]), jnp.array([1.0, 0.0, 0.0]))
        >>> y.tolist(), zf.tolist()
        ([1.0, 0.5, 0.25], [0.25])
    """
    signal = as_signal(x, a, zi)
    coefficients = jnp.asarray(a).astype(signal.dtype)
    n_samples = signal.shape[-1]
    if coefficients.ndim == 0 or coefficients.ndim > signal.ndim + 1:
        raise ValueError(
            f"a has shape {coefficients.shape}; expected (..., n_poles) or (..., n_samples, n_poles)."
        )
    if coefficients.ndim <= signal.ndim:
        coefficients = coefficients[..., None, :]
    elif coefficients.shape[-2] != n_samples:
        raise ValueError(
            f"a has {coefficients.shape[-2]} sets of coefficients for {n_samples} samples of x; give one set "
            f"a sample, or constant ones with at most as many axes as x ({signal.ndim})."
        )
    batch = batch_shape("a", coefficients.shape[:-2], signal)
    state = None if zi is None else initial_state(zi, batch, (coefficients.shape[-1],), signal.dtype)
    method = _resolve_allpole(method, signal, coefficients.shape[-1])
    return _allpole(coefficients, signal, state, method)


@functools.partial(jax.jit, static_argnums=3)
def _allpole(a: jax.Array, x: jax.Array, zi: jax.Array | None, method: str) -> tuple[jax.Array, jax.Array]:
    n_poles = a.shape[-1]
    if zi is not None:
        x = _less_initial_state(a, x, zi)
    y = lift(functools.partial(_from_zero_state, method=method), "(k,n),(t)->(t)", a, x)
    if zi is None:
        zi = jnp.zeros((*y.shape[:-1], n_poles), y.dtype)
    known = jnp.concatenate([jnp.flip(zi, -1), y[..., max(0, y.shape[-1] - n_poles) :]], axis=-1)
    return y, jnp.flip(known[..., known.shape[-1] - n_poles :], -1)


def _less_initial_state(a: jax.Array, x: jax.Array, zi: jax.Array) -> jax.Array:
    """Subtract the contribution of the initial conditions from the input."""
    n_poles, n_samples = a.shape[-1], x.shape[-1]
    n_first = min(n_poles, n_samples)
    coefficients = jnp.broadcast_to(a[..., :n_first, :], (*zi.shape[:-1], n_first, n_poles))
    contributions = [
        jnp.sum(coefficients[..., t, t:] * zi[..., : n_poles - t], axis=-1) for t in range(n_first)
    ]
    x = jnp.broadcast_to(x, (*zi.shape[:-1], n_samples))
    return x.at[..., :n_first].add(-jnp.stack(contributions, axis=-1)) if contributions else x


def _from_zero_state(a: jax.Array, x: jax.Array, *, method: str) -> jax.Array:
    # The filter solves a triangular system, M(a) y = x with M(a) y = y[t] + sum_i a[t, i] y[t - 1 - i].
    # Its tangent is the same filter, run on dx[t] - sum_i da[t, i] y[t - 1 - i]. Transposed, M(a)^T w = g is
    # the recurrence backwards in time, w[t] = g[t] - sum_i a[t + 1 + i, i] w[t + 1 + i], and the cotangent of
    # a[t, i] is -w[t] y[t - 1 - i]: one more filter pass, and one product a coefficient (Yu et al. 2024,
    # section 3).
    if a.shape[-1] == 0:
        return x

    def product(y):
        total = y
        for i in range(min(a.shape[-1], y.size)):
            delayed = jnp.pad(y[: y.size - 1 - i], (1 + i, 0)) if i + 1 < y.size else jnp.zeros_like(y)
            total = total + a[:, i] * delayed
        return total

    forwards, backwards = _SOLVERS[method]
    return linear.solve(product, x, functools.partial(forwards, a), functools.partial(backwards, a))


def _scan(step: Step, a: jax.Array, x: jax.Array, *, reverse: bool = False) -> jax.Array:
    # One array a pole and a state, so that nothing is stacked or sliced within the loop.
    n_poles = a.shape[-1]
    coefficients = tuple(jnp.broadcast_to(a, (x.size, n_poles)).T)
    zeros = (jnp.zeros((), x.dtype),) * n_poles

    def sample(state, inputs):
        return step(inputs[0], state, inputs[1])

    return lax.scan(sample, zeros, (coefficients, x), reverse=reverse, unroll=_UNROLL)[1]


def _by_blocks(method: str, step: Step, a: jax.Array, x: jax.Array, *, reverse: bool = False) -> jax.Array:
    if reverse:
        return jnp.flip(_by_blocks(method, step, jnp.flip(a, 0), jnp.flip(x)))
    columns = tuple(a.T[:, None])  # n_poles times (1, n_samples) or (1, 1)
    return linear_recurrence(step, columns, jnp.zeros((1, a.shape[-1]), x.dtype), x, method=method)[0]


def _direct_step(a: State, past: State, x: jax.Array) -> tuple[State, jax.Array]:
    # The newest output comes last: only its product has to wait for the sample before.
    y = x
    for coefficient, output in zip(reversed(a), reversed(past), strict=True):
        y = y - coefficient * output
    return (y, *past)[: len(past)], y


def _transposed_step(a: State, ahead: State, g: jax.Array) -> tuple[State, jax.Array]:
    # w[t] = g[t] + ahead[0], where ahead[i] is the contribution of the samples after t to w[t - i].
    w = g + ahead[0] if ahead else g
    shifted = (*ahead[1:], jnp.zeros_like(w))[: len(ahead)]
    return tuple(later - coefficient * w for coefficient, later in zip(a, shifted, strict=True)), w


def _solvers(run: Callable) -> tuple[Callable, Callable]:
    """Return the filter and its transpose, both functions of coefficients and signal."""
    return functools.partial(run, _direct_step), functools.partial(run, _transposed_step, reverse=True)


_SCANS = _solvers(_scan)
_SOLVERS = {
    "scan": _SCANS,
    "blocked": _solvers(functools.partial(_by_blocks, "blocked")),
    "associative": _solvers(functools.partial(_by_blocks, "associative")),
    "native": (
        native.on_cpu(native.allpole, _SCANS[0]),
        native.on_cpu(native.allpole_transpose, _SCANS[1]),
    ),
}


def _resolve_allpole(method: str, x: jax.Array, n_poles: int) -> str:
    if method == "native":
        native.require(x)
        return method
    if method == "auto":
        if jax.default_backend() == "cpu":
            return "native" if native.usable(x) else "scan"
        if n_poles > 1:
            method = direct_form_method(method)
    if method not in (*ALLPOLE_METHODS, "auto"):
        raise ValueError(f"method is {method!r}; choose one of {', '.join(ALLPOLE_METHODS)} or auto.")
    return resolve_method(method, x.shape, varying=True)
