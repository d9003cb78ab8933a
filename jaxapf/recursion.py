"""Exact linear recurrences: one signal through a cascade of recursive filters.

Everything recursive in jaxapf (direct forms, second-order sections, all-pass lattices, all-pole
filters) is one function, `linear_recurrence`, called with a different *step*: what the filter does to
its state and one sample. The methods below differ only in how they order the work over time.

    scan          sample after sample, `lax.scan`: the fewest operations, no parallelism
    blocked       all blocks of the signal side by side, the blocks' states chained by `lax.scan`
    associative   the same, the blocks' states chained by `lax.associative_scan`

All are exact (no truncation, no wrap-around) and are differentiable in both modes, to any order.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxapf._arrays import Values, as_signal, batch_shape, initial_state, lift

State = tuple[jax.Array, ...]
Step = Callable[[Any, State, jax.Array], tuple[State, jax.Array]]

METHODS = ("scan", "blocked", "associative")

# Shortest signal, in samples, for which the blocked form is faster than `scan` on a CPU.
_MIN_BLOCKED_SAMPLES = 8192


def linear_recurrence(
    step: Step, coefficients: Any, state: jax.Array, x: jax.Array, *, method: str = "auto"
) -> tuple[jax.Array, jax.Array]:
    """Filter one signal through a cascade of linear recurrences that share one step.

    This is the seam for faster engines: a backend needs this signature and nothing else. Lift it over
    batches with `jax.vmap`, and call it under `jax.jit`: outside, every call compiles its loops anew.

    Args:
        step: `step(c, s, x_t) -> (s, y_t)`, elementwise arithmetic on scalars and linear in `(s, x_t)`;
            `s` is a tuple of `n_states` scalars and `c` the coefficients of one section.
        coefficients: pytree whose leaves are `(n_sections, 1, ...)`, constant in time, or all
            `(n_sections, n_samples, ...)`, time-varying.
        state: `(n_sections, n_states)` initial states, of the dtype of `x`.
        x: `(n_samples,)` signal. `n_samples` may be any number, also 0.
        method: `"scan"`, `"blocked"`, `"associative"` or `"auto"` (the fastest for this backend and length).

    Returns:
        y: `(n_samples,)` output of the last section.
        state: `(n_sections, n_states)` states after the last sample.

    Raises:
        ValueError: unknown `method`.

    Example:
        >>> import jax.numpy as jnp
        >>> leak = lambda a, s, x_t: ((a * s[0] + x_t,), a * s[0] + x_t)
        >>> y, state = linear_recurrence(leak, jnp.full((1, 1), 0.5), jnp.zeros((1, 1)), jnp.ones(3))
        >>> y.tolist(), state.tolist()
        ([1.0, 1.5, 1.75], [[1.75]])
    """
    method = resolve_method(method, x.shape[0])
    if method == "scan" or x.shape[0] < 2:
        return _scan(step, coefficients, state, x)
    chain = _chain_scan if method == "blocked" else _chain_associative
    return _blocked(step, coefficients, state, x, chain)


def allpole(
    a: Values, x: Values, zi: Values | None = None, *, method: str = "auto"
) -> tuple[jax.Array, jax.Array]:
    """All-pole filter, constant or time-varying: y[t] = x[t] - sum_i a[t, i] y[t - 1 - i].

    Args:
        a: coefficients without the leading one: `(..., n_poles)`, constant (`a.ndim <= x.ndim`), or
            `(..., n_samples, n_poles)`, one set a sample (`a.ndim == x.ndim + 1`). Real or complex.
        x: `(..., n_samples)`, real or complex; batch axes broadcast.
        zi: `(..., n_poles)` the outputs before the first, newest first; None is silence.
        method: `"scan"`, `"blocked"`, `"associative"` or `"auto"`.

    Returns:
        y: `(..., n_samples)`, in the precision of `x`, complex when any argument is.
        zf: `(..., n_poles)` the last outputs, newest first: the `zi` of the chunk that follows.

    Raises:
        ValueError: unknown `method`, or shapes that do not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> y, zf = allpole(jnp.array([-0.5]), jnp.array([1.0, 0.0, 0.0]))
        >>> y.tolist(), zf.tolist()
        ([1.0, 0.5, 0.25], [0.25])
    """
    signal = as_signal(x, a, *(() if zi is None else (zi,)))
    coefficients = jnp.asarray(a).astype(signal.dtype)
    if coefficients.ndim > 0 and coefficients.shape[-1] > 1:
        method = direct_form_method(method)
    n_samples = signal.shape[-1]
    if coefficients.ndim == 0 or coefficients.ndim > signal.ndim + 1:
        raise ValueError(
            f"a has shape {coefficients.shape}; expected (..., n_poles) or (..., n_samples, n_poles)."
        )
    if coefficients.ndim <= signal.ndim:
        coefficients = coefficients[..., None, :]
    elif coefficients.shape[-2] != n_samples:
        raise ValueError(f"a has {coefficients.shape[-2]} sets of coefficients for {n_samples} samples of x.")
    batch = batch_shape("a", coefficients.shape[:-2], signal)
    state = initial_state(zi, batch, (coefficients.shape[-1],), signal.dtype)
    return _allpole(coefficients, signal, state, method)


@functools.partial(jax.jit, static_argnums=3)
def _allpole(a: jax.Array, x: jax.Array, state: jax.Array, method: str) -> tuple[jax.Array, jax.Array]:
    def one_signal(a, x, state):
        columns = tuple(jnp.moveaxis(a, -1, 0)[:, None])  # n_poles times (1, n_samples) or (1, 1)
        y, state = linear_recurrence(_allpole_step, columns, state[None], x, method=method)
        return y, state[0]

    return lift(one_signal, "(k,n),(t),(n)->(t),(n)", a, x, state)


def _allpole_step(a: State, past: State, x: jax.Array) -> tuple[State, jax.Array]:
    y = x
    for coefficient, output in zip(a, past, strict=True):
        y = y - coefficient * output
    return (y, *past)[: len(past)], y


def resolve_method(method: str, n_samples: int) -> str:
    """Name the exact method that `"auto"` stands for, for `n_samples` samples on the default backend.

    Args:
        method: one of `METHODS`, or `"auto"`.
        n_samples: length of the signal in samples.

    Returns:
        One of `METHODS`.

    Raises:
        ValueError: unknown `method`.

    Example:
        >>> resolve_method("auto", 16)
        'scan'
    """
    if method != "auto":
        if method not in METHODS:
            raise ValueError(f"method is {method!r}; choose one of {', '.join(METHODS)} or auto.")
        return method
    if n_samples < _MIN_BLOCKED_SAMPLES:
        return "scan"
    return "blocked" if jax.default_backend() == "cpu" else "associative"


def direct_form_method(method: str) -> str:
    """Name the method that `"auto"` stands for when the state is past samples, as in direct forms.

    Products of their transition matrices can cancel to nothing but rounding, so that joining blocks costs
    accuracy: sample after sample is the safe choice, and fast on a CPU. Other methods pass unchanged.

    Example:
        >>> direct_form_method("blocked")
        'blocked'
    """
    if method != "auto":
        return method
    return "scan" if jax.default_backend() == "cpu" else "blocked"


def _block_length(n_samples: int) -> int:
    """Return the samples in one block: as many steps in time as there are blocks side by side."""
    return max(1, math.isqrt(n_samples))


def _scan(step: Step, coefficients: Any, state: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    def section(x, section_inputs):
        coefficients, state = section_inputs
        varying, constant = _split_time(coefficients, x.shape[0])

        def sample(state, inputs):
            x_t, varying_t = inputs
            return step(constant if varying is None else varying_t, state, x_t)

        state, y = lax.scan(sample, tuple(state), (x, varying))
        return y, _stack(state)

    return lax.scan(section, x, (coefficients, state))


def _blocked(
    step: Step, coefficients: Any, state: jax.Array, x: jax.Array, chain: Callable
) -> tuple[jax.Array, jax.Array]:
    # The output of a linear system is its response to the input from rest plus its response to the state
    # it starts from. So: run every block from rest, side by side, and with them the unit states, whose
    # final values are the columns of the block's transition matrix; chain the blocks' states with these
    # matrices; run every block again, now from the state it truly starts from. Running twice costs less
    # than storing the responses to the unit states, and rounds less.
    n_samples = x.shape[0]
    length = _block_length(n_samples)
    n_blocks = -(-n_samples // length)
    last = n_samples - (n_blocks - 1) * length  # samples in the last block, before padding

    def to_blocks(signal):  # (n_samples, ...) -> (length, n_blocks, ...), the last sample repeated at the end
        padding = ((0, n_blocks * length - n_samples),) + ((0, 0),) * (signal.ndim - 1)
        padded = jnp.pad(signal, padding, mode="edge")
        return jnp.swapaxes(padded.reshape(n_blocks, length, *signal.shape[1:]), 0, 1)

    def section(x, section_inputs):
        coefficients, state = section_inputs
        varying, constant = _split_time(coefficients, n_samples)
        varying = jax.tree.map(to_blocks, varying)
        ends, transition = _from_rest(step, constant, varying, state, x)
        starts = chain(transition, ends, state)
        state, y = _run(step, constant, varying, tuple(starts), x, last)
        return y, state

    y, state = lax.scan(section, to_blocks(x), (coefficients, state))
    return jnp.swapaxes(y, 0, 1).reshape(-1)[:n_samples], state


def _from_rest(step, constant, varying, state, x):
    """Final states of all blocks started at rest, `(n_states, n_blocks)`, and their transition matrices."""
    n_states = state.shape[0]
    n_blocks = x.shape[1]
    side_by_side = jax.vmap(step, in_axes=(None if varying is None else 0, 0, 0))
    # Constant coefficients need the unit responses of one block only.
    one, lanes = (step, ()) if varying is None else (side_by_side, (n_blocks,))
    units_step = jax.vmap(one, in_axes=(None, 0, None))
    rest = (jnp.zeros(n_blocks, x.dtype),) * n_states
    units = tuple(
        jnp.broadcast_to(row.reshape(n_states, *(1,) * len(lanes)), (n_states, *lanes))
        for row in jnp.eye(n_states, dtype=x.dtype)
    )
    zero = jnp.zeros(lanes, x.dtype)

    def sample(carry, inputs):
        states, units = carry
        x_t, varying_t = inputs
        coefficients = constant if varying is None else varying_t
        return (side_by_side(coefficients, states, x_t)[0], units_step(coefficients, units, zero)[0]), None

    (ends, units), _ = lax.scan(sample, (rest, units), (x, varying))
    return _stack(ends), _stack(units)


def _run(step, constant, varying, starts, x, last):
    """All blocks from their true states: output and the state after sample `last` of the last block."""
    side_by_side = jax.vmap(step, in_axes=(None if varying is None else 0, 0, 0))

    def sample(states, inputs):
        x_t, varying_t = inputs
        return side_by_side(constant if varying is None else varying_t, states, x_t)

    # Two scans, so that the state at the end of the signal, before the padding, is met on the way.
    head, tail = (jax.tree.map(lambda leaf, part=part: leaf[part], (x, varying)) for part in _parts(last))
    states, y = lax.scan(sample, starts, head)
    final = _stack(states)[:, -1]
    if last < x.shape[0]:
        y = jnp.concatenate([y, lax.scan(sample, states, tail)[1]])
    return final, y


def _parts(last: int) -> tuple[slice, slice]:
    return slice(None, last), slice(last, None)


def _chain_scan(transition: jax.Array, ends: jax.Array, state: jax.Array) -> jax.Array:
    """States at the start of every block, `(n_states, n_blocks)`, block after block."""
    constant = transition.ndim == 2
    matrices = None if constant else jnp.moveaxis(transition, -1, 0)

    def block(state, inputs):
        end, matrix = inputs
        return _matvec(transition if constant else matrix, state) + end, state

    return lax.scan(block, state, (ends.T, matrices))[1].T


def _chain_associative(transition: jax.Array, ends: jax.Array, state: jax.Array) -> jax.Array:
    """States at the start of every block, `(n_states, n_blocks)`, in logarithmic depth."""
    n_states, n_blocks = ends.shape
    matrices = transition[..., None] if transition.ndim == 2 else transition
    matrices = jnp.moveaxis(jnp.broadcast_to(matrices, (n_states, n_states, n_blocks)), -1, 0)

    def compose(first, second):
        return _matmul(second[0], first[0]), _matvec(second[0], first[1]) + second[1]

    matrices, offsets = lax.associative_scan(compose, (matrices[:-1], ends.T[:-1]))
    later = _matvec(matrices, jnp.broadcast_to(state, offsets.shape)) + offsets
    return jnp.concatenate([state[None], later]).T


# Written out, because a dot product may run in reduced precision on an accelerator.
def _matvec(matrix: jax.Array, vector: jax.Array) -> jax.Array:
    return jnp.sum(matrix * vector[..., None, :], axis=-1)


def _matmul(left: jax.Array, right: jax.Array) -> jax.Array:
    return jnp.sum(left[..., :, :, None] * right[..., None, :, :], axis=-2)


def _stack(state: State) -> jax.Array:
    return jnp.stack(state)


def _split_time(coefficients: Any, n_samples: int) -> tuple[Any, Any]:
    """Return (varying, None) for leaves `(n_samples, ...)`, or (None, constant) for leaves `(1, ...)`."""
    lengths = {leaf.shape[0] for leaf in jax.tree.leaves(coefficients)}
    if lengths <= {1}:
        return None, jax.tree.map(lambda leaf: leaf[0], coefficients)
    return coefficients, None
