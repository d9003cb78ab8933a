"""The normalised lattice: all-pass sections, held as margins, run as two plane rotations a sample.

With k1 = (u - v) / (u + v), k2 = (u + v - 2 m) / (u + v + 2 m) and q = sqrt(1 - k^2), one sample is

    [y; e] = [k2 q2; q2 -k2] [x; s2],   [s2'; s1'] = [k1 q1; q1 -k1] [e; s1].

Rotations keep the energy of sample and states, constant or not: powers never grow, so that long blocks and
float32 are safe.

Source: Gray and Markel 1975.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxapf._internal.arrays import lift_signals
from jaxapf.filters import state_space

__all__ = ["constant", "stretched", "varying"]

Margins = Sequence[jax.Array]  # u, v, m, see `jaxapf.allpass.Sections`


def _rotations(u: Any, v: Any, m: Any) -> tuple:
    """Return k2, sign2, gap2, q2, sign1, gap1, q1 of the two rotations: k = sign - gap, q = sqrt(1 - k^2)."""
    # k1 = d / (1 + c) = (u - v) / (u + v) and k2 = c = (h - m) / (h + m), h = (u + v) / 2. Close to +-1,
    # for slow and narrow sections, a rounded k loses the damping; sign and gap keep its digits.
    h = (u + v) / 2
    one, zero = jnp.ones_like(u), jnp.zeros_like(u)
    sign2, sign1 = jnp.where(h >= m, one, -one), jnp.where(u >= v, one, -one)
    # A margin of 0 is a first-order section (v), or a control at the end of its range: a radius, say, that a
    # sigmoid has rounded to 1. There sqrt has no finite slope, and divisors may be zero: evaluate both
    # elsewhere.
    total, half = jnp.where(h + m > 0, h + m, one), jnp.where(h > 0, h, one)
    active1, active2 = u * v > 0, h * m > 0
    gap2 = sign2 * 2 * jnp.where(h >= m, m, h) / total
    gap1 = sign1 * jnp.where(u >= v, v, u) / half
    q2 = jnp.where(active2, 2 * jnp.sqrt(jnp.where(active2, h * m, one)) / total, zero)
    q1 = jnp.where(active1, jnp.sqrt(jnp.where(active1, u * v, one)) / half, zero)
    return (h - m) / total, sign2, gap2, q2, sign1, gap1, q1


def _step(c: tuple, state: tuple, x: Any) -> tuple[tuple, Any]:
    # [y; e] = [k2 q2; q2 -k2] [x; s2], then [s2'; s1'] = [k1 q1; q1 -k1] [e; s1], with k = sign - gap.
    (k2, sign2, gap2, q2, sign1, gap1, q1), (s1, s2) = c, state
    y = k2 * x + q2 * s2
    e = (q2 * x + gap2 * s2) - sign2 * s2
    return ((q1 * e + gap1 * s1) - sign1 * s1, sign1 * e + (q1 * s1 - gap1 * e)), y


def _varying_step(c: tuple, state: tuple, x: Any) -> tuple[tuple, Any]:
    """Run `_step` from the four coefficients stored for every sample; the others follow from them."""
    gap2, q2, gap1, q1 = c
    one = jnp.ones_like(gap2)
    # A gap has the sign of its k.
    sign2, sign1 = jnp.where(gap2 < 0, -one, one), jnp.where(gap1 < 0, -one, one)
    return _step((sign2 - gap2, sign2, gap2, q2, sign1, gap1, q1), state, x)


@functools.partial(jax.jit, static_argnums=3)
def constant(margins: Margins, x: jax.Array, state: jax.Array, method: str) -> tuple[jax.Array, jax.Array]:
    """Filter `(..., n_samples)` by constant margins `(..., n_sections)`; return y and the final state.

    The state is `(*batch, n_sections, 2)`; batch axes broadcast against its own.
    """

    def signals(u, v, m, x, state):
        rotations = jax.tree.map(lambda field: field[:, None].astype(x.dtype), _rotations(u, v, m))
        return state_space.linear_recurrence(_step, rotations, state, x, method=method)

    return lift_signals(signals, "(n),(n),(n)", tuple(margins), x, state)


@functools.partial(jax.jit, static_argnums=3)
def varying(margins: Margins, x: jax.Array, state: jax.Array, method: str) -> tuple[jax.Array, jax.Array]:
    """Filter as `constant`, by margins `(..., n_samples, n_sections)`, one set a sample."""
    # Measured, float32, forward and backward, 480000 samples, 4 sections, two CPU cores: seven coefficients
    # stored for every sample, 71 and 223 ms, 211 MB; four, 32 and 200 ms, 185 MB; and a step's inner values
    # computed again by the gradient, 29 and 183 ms, 157 MB. Rotations worked out within the step: 25 ms, but
    # 8 s backward.
    step = jax.checkpoint(_varying_step, prevent_cse=False)

    def signals(u, v, m, x, state):
        _, _, gap2, q2, _, gap1, q1 = _rotations(u, v, m)
        stored = gap2.T, q2.T, gap1.T, q1.T
        return state_space.linear_recurrence(step, stored, state, x, method=method)

    return lift_signals(signals, "(t,n),(t,n),(t,n)", tuple(margins), x, state)


def stretched(
    margins: Margins, x: jax.Array, state: jax.Array, stretch: int, method: str
) -> tuple[jax.Array, jax.Array]:
    """Filter each of the interleaved phases of the signal as `constant`; `x` may end within a period.

    `state` is `(*batch, stretch, n_sections, 2)`, the phase of the next sample first.
    """
    n_whole = x.shape[-1] // stretch
    n_tail = x.shape[-1] - n_whole * stretch
    margins = tuple(field[..., None, :] for field in margins)
    whole = x[..., : n_whole * stretch].reshape(*x.shape[:-1], n_whole, stretch)
    y, state = constant(margins, jnp.swapaxes(whole, -1, -2), state, method)
    y = jnp.swapaxes(y, -1, -2)
    y = y.reshape(*y.shape[:-2], n_whole * stretch)
    if n_tail == 0:
        return y, state
    tail, tail_state = constant(margins, x[..., n_whole * stretch :, None], state[..., :n_tail, :, :], method)
    # The phase after the last sample comes first.
    state = jnp.concatenate([state[..., n_tail:, :, :], tail_state], axis=-3)
    return jnp.concatenate([y, tail[..., 0]], axis=-1), state
