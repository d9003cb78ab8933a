"""Recurrences over blocks of the signal: constant ones as matrix products, time-varying ones side by side.

Over a block of L samples a linear time-invariant cascade is four matrices: with x and y the samples of the
block and s the states of all sections at its start,

    y  = H x + O s        H: Toeplitz, the impulse response      O: the response to the state
    s' = B x + A s        B: the response of the state to x         A: the decay of the state over L samples

All four come from one run of the cascade over a few samples, the impulse and the unit states side by side. So
the filter itself is three matrix products over all blocks at once and a chain of states, one a block; the
chain is solved the same way, by products over groups of blocks, in logarithmic depth. The matrices do not
depend on the signal: the derivative by the coefficients is a sum over blocks, products again, and then one
backward run over those few samples; no state within a block is ever stored.

Time-varying coefficients: see `blocked_varying`.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero

from jaxapf._internal import linear
from jaxapf.filters import native

__all__ = ["MAX_STATES", "associative", "block_length", "cascade", "grouped", "part_length"]

# Measured on two CPU cores, 4 sections, float32, milliseconds forward / with gradient at 16 x 65536: blocks
# of 32 samples in groups of 4 1.07 / 4.7, in groups of 8 1.18 / 4.9, blocks of 64 samples in groups of 8 1.29
# / 5.3; blocks of 16 or 128 samples are slower. A length that divides the signal saves padding it.
_BLOCK_SAMPLES = 32
_PART_CHOICES = (8, 7, 9, 10, 11, 6)
_BLOCK_CHOICES = sorted(
    (length for length in range(24, 49) if any(length % part == 0 for part in _PART_CHOICES)),
    key=lambda length: abs(length - _BLOCK_SAMPLES),
)

# Accelerators would round to a shorter format inside the products.
_PRECISION = lax.Precision.HIGHEST

# Blocks that one product of the chain joins.
_GROUP_BLOCKS = 4

# The chain's products grow with the square of the states they join; past this, sections are run in groups.
# Milliseconds for 32 sections and 960000 samples: 12 states 9.1, 16 7.3, 32 8.0.
MAX_STATES = 16

Solve = Callable[[jax.Array, jax.Array], jax.Array]


def cascade(
    solve: Solve, step: Callable, coefficients: Any, state: jax.Array, x: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Filter signals through sections with constant coefficients, block by block.

    `solve` is `grouped` or `associative`; the leaves of `coefficients` are `(n_sections, ...)`, the state
    `(n_signals, n_sections, n_states)`, x `(n_signals, n_samples)`. Returns y and the final state.
    """
    _, n_sections, n_states = state.shape
    n_groups = min(n_sections, -(-n_sections * n_states // MAX_STATES))
    finals = []
    for group in np.array_split(np.arange(n_sections), n_groups):
        part = slice(group[0], group[-1] + 1)
        own = jax.tree.map(lambda leaf, part=part: leaf[part], coefficients)
        x, final = _group(solve, step, own, state[:, part], x)
        finals.append(final)
    return x, jnp.concatenate(finals, axis=1)


def block_length(n_samples: int) -> int:
    """Return the samples in one block: near 32, and a divisor of the signal's length where there is one."""
    return next((length for length in _BLOCK_CHOICES if n_samples % length == 0), _BLOCK_SAMPLES)


def _group(solve: Solve, step: Callable, coefficients: Any, state: jax.Array, x: jax.Array) -> tuple:
    n_signals, n_samples = x.shape
    length = block_length(n_samples)
    padding = -n_samples % length
    h, o, b, a, unpadded = _over_one_block(step, coefficients, state.shape[1:], x.dtype, length, padding)
    # Silence goes before the signal, not after: the last block ends with the signal, and so does its state.
    blocks = jnp.pad(x, ((0, 0), (padding, 0))).reshape(n_signals, -1, length)
    driven = _apply(b, blocks)
    start = state.reshape(n_signals, -1)
    if padding:
        # The signal begins within the first block: the responses of state and output to the initial state are
        # added to a block that starts from zero.
        driven = driven.at[:, 0].add(_apply(unpadded, start))
    starts = _chain(solve, a, driven, jnp.zeros_like(start) if padding else start)
    y = _apply(_toeplitz(h), blocks) + _apply(o, starts)
    y = y.reshape(n_signals, -1)
    final = _apply(a, starts[:, -1]) + driven[:, -1]
    if padding:
        y = y[:, padding:]
        y = y.at[:, : length - padding].add(_apply(o[: length - padding], start))
    return y, final.reshape(state.shape)


def _over_one_block(
    step: Callable, coefficients: Any, shape: tuple[int, ...], dtype: Any, length: int, padding: int
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]:
    """Form H (its first column), O, B, A, and A over the block less its padding.

    The first part of a block is run; the others follow by products with the part's transition matrix.
    """
    part = part_length(length)
    transitions, responses, impulse, impulse_states = _over_one_part(step, coefficients, shape, dtype, part)
    powers = _powers(transitions[-1], length // part)
    # Sample p * part + i is sample i of a part that starts from the state after p parts.
    o = _product(responses, powers[:-1]).reshape(length, -1)
    later = _apply(o[: length - part], impulse_states[-1])
    states = jnp.moveaxis(_product(powers[:-1], impulse_states.T), 0, 1).reshape(-1, length)
    whole_parts, samples = divmod(length - padding, part)
    unpadded = powers[whole_parts]
    if samples:
        unpadded = _product(transitions[samples - 1], unpadded)
    # The last sample of a block contributes the state one sample after an impulse, and so on backwards.
    return jnp.concatenate([impulse, later]), o, jnp.flip(states, 1), powers[-1], unpadded


def _over_one_part(
    step: Callable, coefficients: Any, shape: tuple[int, ...], dtype: Any, length: int
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Run the unit states and the impulse, side by side as lanes, through all sections.

    Returns the transition matrices after every sample `(length, n, n)`, the responses to the unit states
    `(length, n)` and to the impulse `(length,)`, and the states after the impulse `(length, n)`.
    """
    n_sections, n_states = shape
    size = n_sections * n_states
    units = jnp.eye(size, size + 1, dtype=dtype).reshape(n_sections, n_states, size + 1)
    impulse = jnp.zeros((length, size + 1), dtype).at[0, size].set(1)

    def section(x, inputs):
        coefficients, state = inputs
        lanes = jax.vmap(functools.partial(step, coefficients))

        def sample(state, x_t):
            state, y = lanes(state, x_t)
            return state, (y, jnp.stack(state))

        return lax.scan(sample, tuple(state), x)[1]

    y, states = lax.scan(section, impulse, (coefficients, units))
    # From (n_sections, length, n_states, lanes) to (length, n_sections * n_states, lanes).
    states = jnp.moveaxis(states, 1, 0).reshape(length, size, size + 1)
    return states[..., :size], y[:, :size], y[:, size], states[..., size]


def part_length(length: int) -> int:
    """Return the number of samples of a block that are run one by one: a divisor near 8."""
    return next(part for part in _PART_CHOICES if length % part == 0)


def _chain(solve: Solve, a: jax.Array, driven: jax.Array, start: jax.Array) -> jax.Array:
    """Return the state at the start of every block: s[0] = start, s[k] = a s[k - 1] + driven[k - 1]."""

    # A recurrence is a triangular solve, s - a shift(s) = b, and its transpose is the same chain backwards
    # with a transposed: see `linear.solve`.
    def product(s):
        return s - jnp.pad(_apply(a, s[:, :-1]), ((0, 0), (1, 0), (0, 0)))

    def backwards(g):
        return jnp.flip(solve(a.T, jnp.flip(g, 1)), 1)

    b = jnp.concatenate([start[:, None], driven[:, :-1]], axis=1)
    return linear.solve(product, b, functools.partial(solve, a), backwards)


def grouped(a: jax.Array, b: jax.Array) -> jax.Array:
    """Solve s[k] = a s[k - 1] + b[k], s[-1] = 0, by products over groups of blocks, then of groups.

    Shapes: a `(n_states, n_states)`, b and s `(n_signals, n_blocks, n_states)`.
    """
    n_signals, n_blocks, size = b.shape
    if n_blocks == 1:
        return b
    group = min(_GROUP_BLOCKS, n_blocks)
    powers = _powers(a, group)
    later = np.arange(group)[:, None] - np.arange(group)[None, :]  # (to, from)
    within = jnp.where((later >= 0)[:, :, None, None], powers[np.maximum(later, 0)], 0)
    within = within.transpose(0, 2, 1, 3).reshape(group * size, group * size)
    padding = ((0, 0), (0, -n_blocks % group), (0, 0))
    groups = jnp.pad(b, padding).reshape(n_signals, -1, group * size)
    s = _apply(within, groups)
    if s.shape[1] > 1:
        ends = grouped(powers[group], s[..., -size:])
        before = jnp.pad(ends[:, :-1], ((0, 0), (1, 0), (0, 0)))
        s = s + _apply(powers[1:].reshape(group * size, size), before)
    return s.reshape(n_signals, -1, size)[:, :n_blocks]


def associative(a: jax.Array, b: jax.Array) -> jax.Array:
    """Solve as `grouped`, by `lax.associative_scan`."""

    def compose(first, second):
        return _product(second[0], first[0]), _product(second[0], first[1]) + second[1]

    # Signals are columns: all share the products of matrices.
    columns = jnp.moveaxis(b, 0, -1)
    matrices = jnp.broadcast_to(a, (columns.shape[0], *a.shape))
    return jnp.moveaxis(lax.associative_scan(compose, (matrices, columns))[1], -1, 0)


def _powers(a: jax.Array, n: int) -> jax.Array:
    """Return powers 0 to n, each from its halves: rounding grows with the logarithm of the exponent."""
    powers = [jnp.eye(a.shape[0], dtype=a.dtype), a]
    for exponent in range(2, n + 1):
        powers.append(_product(powers[exponent // 2], powers[exponent - exponent // 2]))
    return jnp.stack(powers)


def _toeplitz(h: jax.Array) -> jax.Array:
    """Return the matrix whose column j is the impulse response from sample j on."""
    later = np.arange(h.size)[:, None] - np.arange(h.size)[None, :]
    return jnp.where(later >= 0, h[np.maximum(later, 0)], 0)


def _apply(matrix: jax.Array, rows: jax.Array) -> jax.Array:
    """Apply a matrix, `(to, from)`, to every row: `(..., from)` to `(..., to)`.

    The cotangent of the matrix comes out of the product in this order. Stored the other way it has to be
    transposed, which XLA on the CPU turns into a product three times as slow.
    """
    flat = _apply_rows(matrix, rows.reshape(-1, rows.shape[-1]))
    return flat.reshape(*rows.shape[:-1], matrix.shape[0])


def _apply_plain(matrix: jax.Array, rows: jax.Array) -> jax.Array:
    return lax.dot_general(rows, matrix, (((1,), (1,)), ((), ())), precision=_PRECISION)


@jax.custom_jvp
def _apply_rows(matrix: jax.Array, rows: jax.Array) -> jax.Array:
    """As `_apply_plain`, with the kernel `native.cross` for the matrix's cotangent: a fifth of XLA's time."""
    return _apply_plain(matrix, rows)


@functools.partial(_apply_rows.defjvp, symbolic_zeros=True)
def _apply_rows_jvp(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    matrix, rows = primals
    d_matrix, d_rows = tangents
    y = _apply_rows(matrix, rows)
    d_y = jnp.zeros_like(y)
    if not isinstance(d_rows, SymbolicZero):
        d_y = d_y + _apply_rows(matrix, d_rows)
    if not isinstance(d_matrix, SymbolicZero):
        # Only here, so that without a gradient there is no need for a compiler.
        apply_tangent = _apply_transposable if native.usable(matrix, rows) else _apply_plain
        d_y = d_y + apply_tangent(d_matrix, rows)
    return y, d_y


def _apply_transposable(matrix: jax.Array, rows: jax.Array) -> jax.Array:
    cross = functools.partial(native.on_cpu(native.cross, _cross), rows)
    return linear.apply(functools.partial(_product, rows), cross, matrix.T)


def _cross(a: jax.Array, b: jax.Array) -> jax.Array:
    return lax.dot_general(a, b, (((0,), (0,)), ((), ())), precision=_PRECISION)


def _product(left: jax.Array, right: jax.Array) -> jax.Array:
    return jnp.matmul(left, right, precision=_PRECISION)
