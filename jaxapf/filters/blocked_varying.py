"""Recurrences over blocks of the signal with time-varying coefficients: all blocks side by side, twice.

Where the coefficients change with time every block has matrices of its own, and forming them would cost more
than the filter. The output of a linear system is its response to the input from a state of zero plus its
response to the state at the start. So every block is run from zero, and with it the unit states, whose final
values are the block's transition matrix; the blocks' states are chained by these matrices; and every block is
run again, now from its true state. Running twice costs less than storing the responses to the unit states,
and rounds less.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

__all__ = ["cascade", "chain_associative", "chain_scan"]


def cascade(
    chain: Callable, step: Callable, coefficients: Any, state: jax.Array, x: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Filter one signal through sections that change with every sample, all blocks side by side.

    `chain` is `chain_scan` or `chain_associative`; the leaves of `coefficients` are `(n_sections, n_samples,
    ...)`; the state is `(n_sections, n_states)`. Returns y and the final state.
    """
    n_samples = x.shape[0]
    # As many steps in time as there are blocks side by side.
    length = max(1, math.isqrt(n_samples))
    n_blocks = -(-n_samples // length)
    last = n_samples - (n_blocks - 1) * length  # samples in the last block, before padding

    def to_blocks(signal):  # (n_samples, ...) -> (length, n_blocks, ...), the last sample repeated at the end
        padding = ((0, n_blocks * length - n_samples),) + ((0, 0),) * (signal.ndim - 1)
        padded = jnp.pad(signal, padding, mode="edge")
        return jnp.swapaxes(padded.reshape(n_blocks, length, *signal.shape[1:]), 0, 1)

    def section(x, inputs):
        coefficients, state = inputs
        coefficients = jax.tree.map(to_blocks, coefficients)
        ends, transition = _from_zero(step, coefficients, state.shape[0], x)
        y, final = _from_starts(step, coefficients, tuple(chain(transition, ends, state)), x, last)
        return y, final

    y, state = lax.scan(section, to_blocks(x), (coefficients, state))
    return jnp.swapaxes(y, 0, 1).reshape(-1)[:n_samples], state


def _from_zero(step: Callable, coefficients: Any, n_states: int, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the final states of all blocks run from zero, `(n_states, n_blocks)`, and their transitions."""
    n_blocks = x.shape[1]
    side_by_side = jax.vmap(step)
    units_step = jax.vmap(side_by_side, in_axes=(None, 0, None))
    silence = jnp.zeros(n_blocks, x.dtype)
    units = tuple(
        jnp.broadcast_to(row[:, None], (n_states, n_blocks)) for row in jnp.eye(n_states, dtype=x.dtype)
    )

    def sample(carry, inputs):
        states, units = carry
        x_t, coefficients_t = inputs
        return (
            side_by_side(coefficients_t, states, x_t)[0],
            units_step(coefficients_t, units, silence)[0],
        ), None

    (ends, units), _ = lax.scan(sample, ((silence,) * n_states, units), (x, coefficients))
    return jnp.stack(ends), jnp.stack(units)


def _from_starts(
    step: Callable, coefficients: Any, starts: tuple, x: jax.Array, last: int
) -> tuple[jax.Array, jax.Array]:
    """Return the outputs of all blocks and the state after sample `last` of the last block."""
    side_by_side = jax.vmap(step)

    def sample(states, inputs):
        x_t, coefficients_t = inputs
        return side_by_side(coefficients_t, states, x_t)

    # Two scans, so that the state at the end of the signal, before the padding, is available in between.
    head, tail = (
        jax.tree.map(lambda leaf, part=part: leaf[part], (x, coefficients))
        for part in (slice(None, last), slice(last, None))
    )
    states, y = lax.scan(sample, starts, head)
    final = jnp.stack(states)[:, -1]
    if last < x.shape[0]:
        y = jnp.concatenate([y, lax.scan(sample, states, tail)[1]])
    return y, final


def chain_scan(transition: jax.Array, ends: jax.Array, state: jax.Array) -> jax.Array:
    """Return the states at the start of every block, `(n_states, n_blocks)`, block after block.

    From the matrices `(n_states, n_states, n_blocks)` of a block's first state to its last, the last states
    `(n_states, n_blocks)` of the blocks, run from zero, and the state before the first block.
    """

    def block(state, inputs):
        end, matrix = inputs
        return _matvec(matrix, state) + end, state

    return lax.scan(block, state, (ends.T, jnp.moveaxis(transition, -1, 0)))[1].T


def chain_associative(transition: jax.Array, ends: jax.Array, state: jax.Array) -> jax.Array:
    """Return the states as `chain_scan`, in logarithmic depth."""
    matrices = jnp.moveaxis(transition, -1, 0)

    def compose(first, second):
        return _matmul(second[0], first[0]), _matvec(second[0], first[1]) + second[1]

    matrices, offsets = lax.associative_scan(compose, (matrices[:-1], ends.T[:-1]))
    later = _matvec(matrices, jnp.broadcast_to(state, offsets.shape)) + offsets
    return jnp.concatenate([state[None], later]).T


# Written out: products of matrices this small are faster as sums, and exact in the format at hand.
def _matvec(matrix: jax.Array, vector: jax.Array) -> jax.Array:
    return jnp.sum(matrix * vector[..., None, :], axis=-1)


def _matmul(left: jax.Array, right: jax.Array) -> jax.Array:
    return jnp.sum(left[..., :, :, None] * right[..., None, :, :], axis=-2)
