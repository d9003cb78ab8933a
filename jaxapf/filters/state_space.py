"""Exact linear recurrences in state space: signals through a cascade of recursive sections.

`linear_recurrence` is called with a *step*: what a section (second-order, all-pass lattice) does to its state
and one sample. The methods differ only in how they order the work over time:

    scan          sample after sample, `lax.scan`: the fewest operations, no parallelism
    blocked       all blocks of the signal at once, the states of the blocks chained by matrix products
                  (constant coefficients, see `blocked`) or by `lax.scan` (time-varying, `blocked_varying`)
    associative   the same, the states of the blocks chained by `lax.associative_scan`

All are exact (no truncation, no wrap-around) and are differentiable in both modes, to any order.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxapf.filters import blocked, blocked_varying

__all__ = ["METHODS", "State", "Step", "direct_form_method", "linear_recurrence", "resolve_method"]

State = tuple[jax.Array, ...]
Result = tuple[jax.Array, jax.Array]  # output and final state
Step = Callable[[Any, State, jax.Array], tuple[State, jax.Array]]

METHODS = ("scan", "blocked", "associative")

# What "auto" decides by, measured on two CPU cores, float32, 1, 4 and 16 all-pass sections, 1, 16 and 256
# signals of 32 to 4096 samples (milliseconds, scan against blocked, forward and with gradient): 4 sections,
# one signal of 512 samples 0.19 / 0.19 and 0.20 / 0.25, of 2048 0.10 / 0.06 and 0.32 / 0.27; 16 signals of 64
# samples 0.06 / 0.05 and 0.40 / 0.24; 256 signals of 2048 samples 11 / 1.0 and 89 / 3.7. So: this many
# samples over all signals, and this many in one.
_MIN_BLOCKED_SAMPLES = 1024
_MIN_BLOCKED_LENGTH = 64
# On a GPU or TPU every step of a scan is a launch of its own (about 10 us): only the shortest are scanned
# there. Constant blocks are a few products and no loop over the signal; varying ones are chained in
# logarithmic depth. (Reasoned from launches, not measured.)
_MIN_PARALLEL_LENGTH = 32

# Samples whose share in the gradient by constant coefficients is summed up first.
_SUMMED_SAMPLES = 64


def linear_recurrence(
    step: Step,
    coefficients: Any,
    state: Float[Array, "*n_signals n_sections n_states"],
    x: Float[Array, "*n_signals n_samples"],
    *,
    method: str = "auto",
) -> tuple[Float[Array, "*n_signals n_samples"], Float[Array, "*n_signals n_sections n_states"]]:
    """Filter signals through linear recurrences in series that share one step; return y and the final state.

    This is the seam for faster engines: a backend needs this signature and nothing else. Signals share the
    coefficients; lift it over batches of those with `jax.vmap`. Call it under `jax.jit`: outside, every call
    compiles its loops anew.

    Args:
        step: `step(c, s, x_t) -> (s, y_t)`, elementwise arithmetic on scalars and linear in `(s, x_t)`;
            `s` is a tuple of `n_states` scalars and `c` the coefficients of one section.
        coefficients: pytree whose leaves are `(n_sections, 1, ...)`, constant in time, or all
            `(n_sections, n_samples, ...)`, time-varying.
        state: initial states, in the dtype of `x`.
        x: with or without an axis of signals. `n_samples` may be any number, also 0.
        method: `"scan"`, `"blocked"`, `"associative"` or `"auto"` (the fastest for this backend and shape).
    """
    if x.ndim == 1:
        y, state = linear_recurrence(step, coefficients, state[None], x[None], method=method)
        return y[0], state[0]
    varying = any(leaf.shape[1] > 1 for leaf in jax.tree.leaves(coefficients))
    method = resolve_method(method, x.shape, varying=varying)
    if x.shape[-1] == 0:
        return x, state
    if x.shape[-1] == 1 or state.size == 0:
        method = "scan"
    if varying:
        run = {
            "scan": _scan_varying,
            "blocked": functools.partial(blocked_varying.cascade, blocked_varying.chain_scan),
            "associative": functools.partial(blocked_varying.cascade, blocked_varying.chain_associative),
        }[method]
        return jax.vmap(functools.partial(run, step, coefficients))(state, x)
    coefficients = jax.tree.map(lambda leaf: leaf[:, 0], coefficients)
    if method == "scan":
        return jax.vmap(functools.partial(_scan_constant, step, coefficients))(state, x)
    solve = blocked.grouped if method == "blocked" else blocked.associative
    return blocked.cascade(solve, step, coefficients, state, x)


def resolve_method(method: str, shape: tuple[int, ...], *, varying: bool = False) -> str:
    """Return the exact method that `"auto"` stands for on the default backend, for signals of this shape."""
    if method != "auto":
        if method not in METHODS:
            raise ValueError(f"method is {method!r}; choose one of {', '.join(METHODS)} or auto.")
        return method
    if jax.default_backend() != "cpu":
        if shape[-1] < _MIN_PARALLEL_LENGTH:
            return "scan"
        return "associative" if varying else "blocked"
    if varying or shape[-1] < _MIN_BLOCKED_LENGTH or math.prod(shape) < _MIN_BLOCKED_SAMPLES:
        return "scan"
    return "blocked"


def direct_form_method(method: str) -> str:
    """Return the method that `"auto"` stands for when the state is past samples, as in direct forms.

    Products of their transition matrices can cancel to nothing but rounding, so that joining blocks costs
    accuracy: sample after sample is the safe choice, and fast on a CPU. Other methods pass unchanged.
    """
    if method != "auto":
        return method
    return "scan" if jax.default_backend() == "cpu" else "blocked"


def _scan_constant(step: Step, coefficients: Any, state: jax.Array, x: jax.Array) -> Result:
    n_whole = x.size // _SUMMED_SAMPLES * _SUMMED_SAMPLES

    def section(x, inputs):
        coefficients, state = inputs
        sample = functools.partial(step, coefficients)
        # The gradient by the coefficients is a sum over time in the order of the loop: a loop of loops keeps
        # its rounding, which would grow with the length, to that of short sums.
        head = x[:n_whole].reshape(-1, _SUMMED_SAMPLES)
        state, y = lax.scan(lambda state, x: lax.scan(sample, state, x), tuple(state), head)
        state, y_tail = lax.scan(sample, state, x[n_whole:])
        return jnp.concatenate([y.reshape(-1), y_tail]), jnp.stack(state)

    return lax.scan(section, x, (coefficients, state))


def _scan_varying(step: Step, coefficients: Any, state: jax.Array, x: jax.Array) -> Result:
    def section(x, inputs):
        coefficients, state = inputs
        state, y = lax.scan(lambda s, inputs: step(inputs[0], s, inputs[1]), tuple(state), (coefficients, x))
        return y, jnp.stack(state)

    return lax.scan(section, x, (coefficients, state))
