"""First-order all-passes that move, in a feedback loop: exact, with and without a delay in the loop.

A phaser's core. Stage k of K, with its coefficient p at every sample, and the loop around all of them:

    y_0[t] = x[t] + g_0 y_K[t] + g_1 y_K[t - 1]
    y_k[t] = p[t] (y_{k-1}[t] + y_k[t - 1]) - y_{k-1}[t - 1],   k = 1 ... K

A loop without a delay (g_0) is an equation, not a recursion: y_K[t] = p[t]^K y_0[t] plus a function of
earlier samples, so that y_0[t] is a division by 1 - g_0 p[t]^K. Multiplied out, this is the one time-varying
rational filter of Yu et al. 2024, whose coefficients are polynomials in p; kept as stages it needs no more
operations, and no float64 where p is close to 1.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from jaxapf._internal import linear
from jaxapf._internal.arrays import Values, as_signal, batch_shape, count, initial_state, with_rank
from jaxapf.filters import native

__all__ = ["MAX_STAGES", "METHODS", "allpass_loop"]

METHODS = ("scan", "native")
MAX_STAGES = 32
_UNROLL = 2


def allpass_loop(
    p: Values,
    feedback: Values,
    x: Values,
    zi: Values | None = None,
    *,
    stages: int,
    method: str = "auto",
) -> tuple[Float[Array, "... n_samples"], Float[Array, "... stages+1"]]:
    """Filter by all-passes in a feedback loop, and return the output of the last one.

    The gradient, in both modes and to any order, is the same recursion run once more: backwards in time, all
    stages at once. Stable where p lies in (-1, 1) and moves slowly, and `|g_0| + |g_1| < 1`.

    Args:
        p: `(..., n_samples)` the coefficient of all stages at every sample, or `(..., 1)`, constant.
        feedback: `(..., 2)` gain of the loop without a delay, g_0, and with a delay of one sample, g_1.
        x: `(..., n_samples)`, real; batch axes broadcast.
        zi: `(..., stages + 1)` input and outputs of the stages, y_0 to y_K, at the sample before; None is
            zeros.
        stages: number of all-passes, 1 to 32.
        method: `"scan"`, `"native"` (a C kernel for the CPU) or `"auto"`.

    Returns y_K, in the dtype of `x`, and the `zi` of the chunk that follows. Raises ValueError for an unknown
    `method`, `"native"` where it cannot run, and shapes or a number of stages that do not fit; TypeError for
    complex `x`.

    Source: Yu et al. 2024, section 4.1 (the phaser, with the loop as one rational filter).

    Example:
        >>> y, _ = allpass_loop(jnp.zeros(1), jnp.zeros(2), jnp.array([1.0, 2.0, 3.0]), stages=2)
        >>> y.tolist()  # -z^-1, twice
        [0.0, 0.0, 1.0]
    """
    signal = as_signal(x)
    if jnp.iscomplexobj(signal):
        raise TypeError(f"x is {signal.dtype}; expected a real signal.")
    stages = count("stages", stages)
    if stages > MAX_STAGES:
        raise ValueError(f"stages is {stages}; expected at most {MAX_STAGES}.")
    coefficient, gains = (jnp.asarray(value).astype(signal.dtype) for value in (p, feedback))
    if coefficient.ndim == 0 or coefficient.shape[-1] not in (1, signal.shape[-1]):
        raise ValueError(
            f"p has shape {coefficient.shape}, x {signal.shape}; expected (..., n_samples) or (..., 1) for p."
        )
    if gains.ndim == 0 or gains.shape[-1] != 2:
        raise ValueError(
            f"feedback has shape {gains.shape}; expected (..., 2), without a delay and with one."
        )
    batch = batch_shape("p", coefficient.shape[:-1], signal)
    batch = np.broadcast_shapes(batch, batch_shape("feedback", gains.shape[:-1], signal))
    signal = jnp.broadcast_to(signal, (*batch, signal.shape[-1]))
    state = initial_state(zi, batch, (stages + 1,), signal.dtype)
    if signal.shape[-1] == 0:
        return signal, state
    return _loop(coefficient, gains, signal, state, stages, _resolve(method, signal))


@functools.partial(jax.jit, static_argnums=(4, 5))
def _loop(p: jax.Array, g: jax.Array, x: jax.Array, zi: jax.Array, stages: int, method: str) -> Any:
    p, g = with_rank(p, x.ndim), with_rank(g, x.ndim)
    # The contribution of the samples before to the first right-hand side.
    stages_before = jnp.broadcast_to(p[..., :1], (*x.shape[:-1], 1)) * zi[..., 1:] - zi[..., :-1]
    first = jnp.concatenate([g[..., 1:] * zi[..., -1:], stages_before], axis=-1)
    first = first.at[..., 0].add(x[..., 0])
    others = jnp.pad(x[..., None, 1:], [(0, 0)] * (x.ndim - 1) + [(0, stages), (0, 0)])
    r = jnp.concatenate([first[..., None], others], axis=-1)
    y = _from_zero_state(p, g, r, method)
    return y[..., -1, :], y[..., -1]


def _from_zero_state(p: jax.Array, g: jax.Array, r: jax.Array, method: str) -> jax.Array:
    # The loop solves M(p, g) y = r, y all signals between the stages; transposed it runs backwards in time.
    def product(y):
        before = jnp.pad(y[..., :-1], [(0, 0)] * (y.ndim - 1) + [(1, 0)])
        last, last_before = y[..., -1:, :], before[..., -1:, :]
        loop = y[..., :1, :] - g[..., :1, None] * last - g[..., 1:, None] * last_before
        moved = p[..., None, :] * (y[..., :-1, :] + before[..., 1:, :])
        return jnp.concatenate([loop, y[..., 1:, :] - moved + before[..., :-1, :]], axis=-2)

    forwards, backwards = _SOLVERS[method]
    return linear.solve(product, r, functools.partial(forwards, p, g), functools.partial(backwards, p, g))


def _forwards_scan(p: jax.Array, g: jax.Array, r: jax.Array) -> jax.Array:
    n = r.shape[-2] - 1

    def sample(past, inputs):
        a, r = inputs
        now = [r[0] + g1 * past[n]]
        for k in range(1, n + 1):
            now.append(a * now[k - 1] + (r[k] + (a * past[k] - past[k - 1])))
        powers = _powers(a, n)
        added = g0 / (1 - g0 * powers[n]) * now[n]
        now = [one + power * added for one, power in zip(now, powers, strict=True)]
        return tuple(now), tuple(now)

    g0, g1 = _gains(g, r)
    return _scanned(sample, p, r)


def _backwards_scan(p: jax.Array, g: jax.Array, s: jax.Array) -> jax.Array:
    n = s.shape[-2] - 1

    def sample(ahead, inputs):
        (a, later), s = inputs
        now = {n: s[n] + later * ahead[n] + g1 * ahead[0]}
        for k in range(n - 1, 0, -1):
            now[k] = a * now[k + 1] + (s[k] + (later * ahead[k] - ahead[k + 1]))
        now[0] = a * now[1] + (s[0] - ahead[1])
        powers = _powers(a, n)
        added = g0 / (1 - g0 * powers[n]) * now[0]
        result = tuple(now[k] + powers[n - k] * added for k in range(n + 1))
        return result, result

    g0, g1 = _gains(g, s)
    p = jnp.broadcast_to(p, (*p.shape[:-1], s.shape[-1]))
    later = jnp.concatenate([p[..., 1:], jnp.zeros_like(p[..., :1])], axis=-1)
    return _scanned(sample, (p, later), s, reverse=True)


def _gains(g: jax.Array, r: jax.Array) -> tuple[jax.Array, jax.Array]:
    g = jnp.broadcast_to(g, (*r.shape[:-2], 2))
    return g[..., 0], g[..., 1]


def _powers(a: jax.Array, n: int) -> list[jax.Array]:
    powers = [jnp.ones_like(a)]
    for _ in range(n):
        powers.append(powers[-1] * a)
    return powers


def _scanned(sample: Any, p: Any, r: jax.Array, *, reverse: bool = False) -> jax.Array:
    """Scan over time, one array a stage, so that nothing is stacked within the loop."""
    batch, n_samples = r.shape[:-2], r.shape[-1]
    p = jax.tree.map(lambda a: jnp.moveaxis(jnp.broadcast_to(a, (*batch, n_samples)), -1, 0), p)
    rows = tuple(jnp.moveaxis(r[..., k, :], -1, 0) for k in range(r.shape[-2]))
    zeros = (jnp.zeros(batch, r.dtype),) * len(rows)
    stages = lax.scan(sample, zeros, (p, rows), reverse=reverse, unroll=_UNROLL)[1]
    return jnp.moveaxis(jnp.stack(stages, axis=-1), 0, -1)


_SOLVERS = {
    "scan": (_forwards_scan, _backwards_scan),
    "native": (
        native.on_cpu(native.ring, _forwards_scan),
        native.on_cpu(native.ring_transpose, _backwards_scan),
    ),
}


def _resolve(method: str, x: jax.Array) -> str:
    if method == "auto":
        return "native" if native.usable(x) else "scan"
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; choose one of {', '.join(METHODS)} or auto.")
    if method == "native":
        native.require(x)
    return method
