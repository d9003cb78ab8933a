"""Recurrences over blocks of the signal: constant ones as matrix products, time-varying ones side by side.

Over a block of L samples a linear time-invariant cascade is four matrices: with x and y the samples of the
block and s the states of all sections at its start,

    y  = H x + O s        H: Toeplitz, the impulse response      O: the response to the state
    s' = B x + A s        B: what the input leaves behind        A: the state's own decay over L samples

All four come from one run of the cascade over a few samples, the impulse and the unit states side by side. So
the filter itself is three matrix products over all blocks at once and a chain of states, one a block; the
chain is solved the same way, by products over groups of blocks, in logarithmic depth. The matrices do not
depend on the signal: the derivative by the coefficients is a sum over blocks, products again, and then one
backward run over those few samples; no state within a block is ever stored.

Where the coefficients change with time every block has matrices of its own, and forming them would cost more
than the filter: blocks are run side by side instead, twice (`cascade_varying`).
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero

from jaxapf._internal import linear
from jaxapf.filters import native

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

# The chain's products grow with the square of the states they join; past this, sections are run in turns.
# Milliseconds for 32 sections and 960000 samples: 12 states 9.1, 16 7.3, 32 8.0.
MAX_STATES = 16

Solve = Callable[[jax.Array, jax.Array], jax.Array]


class _Block(NamedTuple):
    """A cascade over one block, see above; `short` is the state's decay over the block less the padding."""

    h: jax.Array  # (length,) impulse response
    o: jax.Array  # (length, n_states)
    b: jax.Array  # (n_states, length)
    a: jax.Array  # (n_states, n_states)
    short: jax.Array  # (n_states, n_states)


def cascade(
    solve: Solve, step: Callable, coefficients: Any, state: jax.Array, x: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Filter signals through sections with constant coefficients, block by block.

    Args:
        solve: `grouped` or `associative`, what chains the states of the blocks.
        step: as in `recursion.linear_recurrence`.
        coefficients: pytree of `(n_sections, ...)`.
        state: `(n_signals, n_sections, n_states)`.
        x: `(n_signals, n_samples)`, one sample or more.

    Returns:
        y and the final state, in the shapes of `x` and `state`.

    Example:
        >>> leak = lambda a, s, x_t: ((a * s[0] + x_t,), a * s[0] + x_t)
        >>> y, state = cascade(grouped, leak, jnp.array([0.5]), jnp.zeros((1, 1, 1)), jnp.ones((1, 100)))
        >>> y[0, :3].tolist(), state.round(3).tolist()
        ([1.0, 1.5, 1.75], [[[2.0]]])
    """
    _, n_sections, n_states = state.shape
    n_turns = min(n_sections, -(-n_sections * n_states // MAX_STATES))
    finals = []
    for turn in np.array_split(np.arange(n_sections), n_turns):
        part = slice(turn[0], turn[-1] + 1)
        own = jax.tree.map(lambda leaf, part=part: leaf[part], coefficients)
        x, final = _turn(solve, step, own, state[:, part], x)
        finals.append(final)
    return x, jnp.concatenate(finals, axis=1)


def block_length(n_samples: int) -> int:
    """Samples in one block: near 32, and a divisor of the signal's length where there is one.

    Example:
        >>> block_length(1920000), block_length(44100), block_length(65537)
        (32, 30, 32)
    """
    return next((length for length in _BLOCK_CHOICES if n_samples % length == 0), _BLOCK_SAMPLES)


def _turn(solve: Solve, step: Callable, coefficients: Any, state: jax.Array, x: jax.Array) -> tuple:
    n_signals, n_samples = x.shape
    length = block_length(n_samples)
    padding = -n_samples % length
    block = _over_one_block(step, coefficients, state.shape[1:], x.dtype, length, padding)
    # Silence goes before the signal, not after: the last block ends with the signal, and so does its state.
    blocks = jnp.pad(x, ((0, 0), (padding, 0))).reshape(n_signals, -1, length)
    left = _apply(block.b, blocks)
    start = state.reshape(n_signals, -1)
    if padding:
        # The signal's own start lies within the first block: what the initial state leaves there at its end,
        # and how it sounds, is added to a block that starts at rest.
        left = left.at[:, 0].add(_apply(block.short, start))
    starts = _chain(solve, block.a, left, jnp.zeros_like(start) if padding else start)
    y = _apply(_toeplitz(block.h), blocks) + _apply(block.o, starts)
    y = y.reshape(n_signals, -1)
    final = _apply(block.a, starts[:, -1]) + left[:, -1]
    if padding:
        y = y[:, padding:]
        y = y.at[:, : length - padding].add(_apply(block.o[: length - padding], start))
    return y, final.reshape(state.shape)


def _over_one_block(
    step: Callable, coefficients: Any, shape: tuple[int, ...], dtype: Any, length: int, padding: int
) -> _Block:
    """Run the cascade over the first part of a block; products with its transition matrix give the others."""
    part = part_length(length)
    transitions, responses, impulse, reached = _over_one_part(step, coefficients, shape, dtype, part)
    powers = _powers(transitions[-1], length // part)
    # Sample p * part + i is sample i of the part that starts from the state p parts have led to.
    o = _product(responses, powers[:-1]).reshape(length, -1)
    later = _apply(o[: length - part], reached[-1])
    left = jnp.moveaxis(_product(powers[:-1], reached.T), 0, 1).reshape(-1, length)
    whole_parts, samples = divmod(length - padding, part)
    short = powers[whole_parts]
    if samples:
        short = _product(transitions[samples - 1], short)
    # A block's last sample leaves the state that the impulse has left after one sample, and so on backwards.
    return _Block(jnp.concatenate([impulse, later]), o, jnp.flip(left, 1), powers[-1], short)


def _over_one_part(
    step: Callable, coefficients: Any, shape: tuple[int, ...], dtype: Any, length: int
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Run the unit states and the impulse, side by side as lanes, through all sections.

    Returns the transition matrices after every sample `(length, n, n)`, the responses to the unit states
    `(length, n)` and to the impulse `(length,)`, and the states that the impulse leaves `(length, n)`.
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
    """Samples of a block that are run one by one: a divisor near 8.

    Example:
        >>> part_length(32), part_length(30)
        (8, 10)
    """
    return next(part for part in _PART_CHOICES if length % part == 0)


def _chain(solve: Solve, a: jax.Array, left: jax.Array, start: jax.Array) -> jax.Array:
    """States at the start of every block: s[0] = start, s[k] = a s[k - 1] + left[k - 1], for all signals."""

    # A recurrence is a triangular solve, s - a shift(s) = b, and its transpose is the same chain backwards
    # with a transposed: see `linear.solve`.
    def product(s):
        return s - jnp.pad(_apply(a, s[:, :-1]), ((0, 0), (1, 0), (0, 0)))

    def backwards(g):
        return jnp.flip(solve(a.T, jnp.flip(g, 1)), 1)

    b = jnp.concatenate([start[:, None], left[:, :-1]], axis=1)
    return linear.solve(product, b, functools.partial(solve, a), backwards)


def grouped(a: jax.Array, b: jax.Array) -> jax.Array:
    """Solve s[k] = a s[k - 1] + b[k], s[-1] = 0, by products over groups of blocks, then of groups.

    Args:
        a: `(n_states, n_states)`.
        b: `(n_signals, n_blocks, n_states)`.

    Returns:
        `(n_signals, n_blocks, n_states)`.

    Example:
        >>> grouped(jnp.array([[0.5]]), jnp.ones((1, 3, 1))).tolist()
        [[[1.0], [1.5], [1.75]]]
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
    """Solve as `grouped`, by `lax.associative_scan`.

    Example:
        >>> associative(jnp.array([[0.5]]), jnp.ones((1, 3, 1))).tolist()
        [[[1.0], [1.5], [1.75]]]
    """

    def compose(first, second):
        return _product(second[0], first[0]), _product(second[0], first[1]) + second[1]

    # Signals are columns: all share the products of matrices.
    columns = jnp.moveaxis(b, 0, -1)
    matrices = jnp.broadcast_to(a, (columns.shape[0], *a.shape))
    return jnp.moveaxis(lax.associative_scan(compose, (matrices, columns))[1], -1, 0)


def _powers(a: jax.Array, n: int) -> jax.Array:
    """Powers 0 to n, each from its halves: rounding grows with the logarithm of the exponent."""
    powers = [jnp.eye(a.shape[0], dtype=a.dtype), a]
    for exponent in range(2, n + 1):
        powers.append(_product(powers[exponent // 2], powers[exponent - exponent // 2]))
    return jnp.stack(powers)


def _toeplitz(h: jax.Array) -> jax.Array:
    """Matrix whose column j is the impulse response from sample j on."""
    later = np.arange(h.size)[:, None] - np.arange(h.size)[None, :]
    return jnp.where(later >= 0, h[np.maximum(later, 0)], 0)


def _apply(matrix: jax.Array, rows: jax.Array) -> jax.Array:
    """Apply a matrix, `(to, from)`, to every row: `(..., from)` to `(..., to)`.

    The matrix is held as (to, from) because its cotangent comes out of the product in this order. Held the
    other way it has to be transposed, which XLA on the CPU turns into a product three times as slow.
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
        # Asked only here: whoever takes no gradient needs no compiler.
        apply_tangent = _apply_transposable if native.usable(matrix, rows) else _apply_plain
        d_y = d_y + apply_tangent(d_matrix, rows)
    return y, d_y


def _apply_transposable(matrix: jax.Array, rows: jax.Array) -> jax.Array:
    def crossed(g):
        return lax.platform_dependent(rows, g, cpu=native.cross, default=_cross)

    return linear.apply(functools.partial(_product, rows), crossed, matrix.T)


def _cross(a: jax.Array, b: jax.Array) -> jax.Array:
    return lax.dot_general(a, b, (((0,), (0,)), ((), ())), precision=_PRECISION)


def _product(left: jax.Array, right: jax.Array) -> jax.Array:
    return jnp.matmul(left, right, precision=_PRECISION)


def cascade_varying(
    chain: Callable, step: Callable, coefficients: Any, state: jax.Array, x: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Filter one signal through sections that change with every sample, all blocks side by side.

    The output of a linear system is its response to the input from rest plus its response to the state it
    starts from. So: run every block from rest, side by side, and with them the unit states, whose final
    values are the block's transition matrix; chain the blocks' states with these matrices; run every block
    again, now from the state it truly starts from. Running twice costs less than storing the responses to the
    unit states, and rounds less.

    Args:
        chain: `chain_scan` or `chain_associative`.
        step: as in `recursion.linear_recurrence`.
        coefficients: pytree of `(n_sections, n_samples, ...)`.
        state: `(n_sections, n_states)`.
        x: `(n_samples,)`, one sample or more.

    Returns:
        y `(n_samples,)` and the final state, as `recursion.linear_recurrence`.

    Example:
        >>> leak = lambda a, s, x_t: ((a * s[0] + x_t,), a * s[0] + x_t)
        >>> a, rest = jnp.full((1, 9), 0.5), jnp.zeros((1, 1))
        >>> cascade_varying(chain_scan, leak, a, rest, jnp.ones(9))[0][:3].tolist()
        [1.0, 1.5, 1.75]
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
        ends, transition = _from_rest(step, coefficients, state.shape[0], x)
        y, final = _from_starts(step, coefficients, tuple(chain(transition, ends, state)), x, last)
        return y, final

    y, state = lax.scan(section, to_blocks(x), (coefficients, state))
    return jnp.swapaxes(y, 0, 1).reshape(-1)[:n_samples], state


def _from_rest(step: Callable, coefficients: Any, n_states: int, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Final states of all blocks started at rest, `(n_states, n_blocks)`, and their transition matrices."""
    n_blocks = x.shape[1]
    side_by_side = jax.vmap(step)
    units_step = jax.vmap(side_by_side, in_axes=(None, 0, None))
    silence = jnp.zeros(n_blocks, x.dtype)
    rest = (silence,) * n_states
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

    (ends, units), _ = lax.scan(sample, (rest, units), (x, coefficients))
    return jnp.stack(ends), jnp.stack(units)


def _from_starts(
    step: Callable, coefficients: Any, starts: tuple, x: jax.Array, last: int
) -> tuple[jax.Array, jax.Array]:
    """All blocks from their true states: output and the state after sample `last` of the last block."""
    side_by_side = jax.vmap(step)

    def sample(states, inputs):
        x_t, coefficients_t = inputs
        return side_by_side(coefficients_t, states, x_t)

    # Two scans, so that the state at the end of the signal, before the padding, is met on the way.
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
    """States at the start of every block, block after block.

    Args:
        transition: `(n_states, n_states, n_blocks)` matrices from a block's first state to its last.
        ends: `(n_states, n_blocks)` last states of the blocks, started at rest.
        state: `(n_states,)` before the first block.

    Returns:
        `(n_states, n_blocks)`.

    Example:
        >>> chain_scan(jnp.full((1, 1, 3), 0.5), jnp.ones((1, 3)), jnp.ones(1)).tolist()
        [[1.0, 1.5, 1.75]]
    """

    def block(state, inputs):
        end, matrix = inputs
        return _matvec(matrix, state) + end, state

    return lax.scan(block, state, (ends.T, jnp.moveaxis(transition, -1, 0)))[1].T


def chain_associative(transition: jax.Array, ends: jax.Array, state: jax.Array) -> jax.Array:
    """States as `chain_scan`, in logarithmic depth.

    Example:
        >>> chain_associative(jnp.full((1, 1, 3), 0.5), jnp.ones((1, 3)), jnp.ones(1)).tolist()
        [[1.0, 1.5, 1.75]]
    """
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
