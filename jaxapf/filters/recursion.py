"""Exact linear recurrences: one signal through a cascade of recursive filters.

Everything recursive in jaxapf runs through one of two functions. `linear_recurrence` is a cascade of sections
in state space (second-order sections, all-pass lattices), called with a *step*: what a section does to its
state and one sample. `allpole` is the recurrence on past outputs. The methods differ only in how they order
the work over time:

    scan          sample after sample, `lax.scan`: the fewest operations, no parallelism
    blocked       all blocks of the signal at once, the states of the blocks chained by matrix products
    (constant
                  coefficients) or by `lax.scan` (time-varying); see `jaxapf.filters.blocked`
    associative   the same, the states of the blocks chained by `lax.associative_scan`
    native        `allpole` alone: a kernel in C for the CPU, where it can be built; see `jaxapf.filters.native`

All are exact (no truncation, no wrap-around) and are differentiable in both modes, to any order.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxapf._internal import linear
from jaxapf._internal.arrays import Values, as_signal, batch_shape, initial_state, lift, with_rank
from jaxapf.filters import blocked, native

State = tuple[jax.Array, ...]
Step = Callable[[Any, State, jax.Array], tuple[State, jax.Array]]

METHODS = ("scan", "blocked", "associative")
ALLPOLE_METHODS = (*METHODS, "native")

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

# Samples that one iteration of XLA's loop computes. Four halved the time of `allpole`; eight raised it again.
_UNROLL = 4


def linear_recurrence(
    step: Step, coefficients: Any, state: jax.Array, x: jax.Array, *, method: str = "auto"
) -> tuple[jax.Array, jax.Array]:
    """Filter signals through a cascade of linear recurrences that share one step.

    This is the seam for faster engines: a backend needs this signature and nothing else. Signals share the
    coefficients; lift it over batches of those with `jax.vmap`. Call it under `jax.jit`: outside, every call
    compiles its loops anew.

    Args:
        step: `step(c, s, x_t) -> (s, y_t)`, elementwise arithmetic on scalars and linear in `(s, x_t)`;
            `s` is a tuple of `n_states` scalars and `c` the coefficients of one section.
        coefficients: pytree whose leaves are `(n_sections, 1, ...)`, constant in time, or all
            `(n_sections, n_samples, ...)`, time-varying.
        state: `(n_sections, n_states)` or `(n_signals, n_sections, n_states)` initial states, in the dtype of
            `x`.
        x: `(n_samples,)` or `(n_signals, n_samples)`. `n_samples` may be any number, also 0.
        method: `"scan"`, `"blocked"`, `"associative"` or `"auto"` (the fastest for this backend and shape).

    Returns:
        y: output of the last section, in the shape of `x`.
        state: states after the last sample, in the shape of `state`.

    Raises:
        ValueError: unknown `method`.

    Example:
        >>> import jax.numpy as jnp
        >>> leak = lambda a, s, x_t: ((a * s[0] + x_t,), a * s[0] + x_t)
        >>> y, state = linear_recurrence(leak, jnp.full((1, 1), 0.5), jnp.zeros((1, 1)), jnp.ones(3))
        >>> y.tolist(), state.tolist()
        ([1.0, 1.5, 1.75], [[1.75]])
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
            "blocked": functools.partial(blocked.cascade_varying, blocked.chain_scan),
            "associative": functools.partial(blocked.cascade_varying, blocked.chain_associative),
        }[method]
        return jax.vmap(functools.partial(run, step, coefficients))(state, x)
    coefficients = jax.tree.map(lambda leaf: leaf[:, 0], coefficients)
    if method == "scan":
        return jax.vmap(functools.partial(_scan_constant, step, coefficients))(state, x)
    solve = blocked.grouped if method == "blocked" else blocked.associative
    return blocked.cascade(solve, step, coefficients, state, x)


def allpole(
    a: Values, x: Values, zi: Values | None = None, *, method: str = "auto"
) -> tuple[jax.Array, jax.Array]:
    """All-pole filter, constant or time-varying: y[t] = x[t] - sum_i a[t, i] y[t - 1 - i].

    Args:
        a: coefficients without the leading one: `(..., n_poles)`, constant (`a.ndim <= x.ndim`), or
            `(..., n_samples, n_poles)`, one set a sample (`a.ndim == x.ndim + 1`). Real or complex.
        x: `(..., n_samples)`, real or complex; batch axes broadcast.
        zi: `(..., n_poles)` the outputs before the first, newest first; None is silence.
        method: `"scan"`, `"blocked"`, `"associative"`, `"native"` (a C kernel for real signals on the CPU,
            built on first use where there is a compiler) or `"auto"`.

    Returns:
        y: `(..., n_samples)`, in the precision of `x`, complex when any argument is.
        zf: `(..., n_poles)` the last outputs, newest first: the `zi` of the chunk that follows.

    Raises:
        ValueError: unknown `method`, `"native"` where it cannot run, or shapes that do not fit.

    Source: Yu et al. 2024, section 2, whose gradient this has, and the forward mode and higher orders
    besides.

    Example:
        >>> import jax.numpy as jnp
        >>> y, zf = allpole(jnp.array([-0.5]), jnp.array([1.0, 0.0, 0.0]))
        >>> y.tolist(), zf.tolist()
        ([1.0, 0.5, 0.25], [0.25])
    """
    signal = as_signal(x, a, *(() if zi is None else (zi,)))
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


def first_order(
    a: Values, x: Values, zi: Values | None = None, *, method: str = "auto"
) -> tuple[jax.Array, jax.Array]:
    """First-order linear recurrence: y[t] = a[t] y[t - 1] + x[t].

    Args:
        a: `(..., n_samples)`, one coefficient a sample, or `(..., 1)` or a number, constant. Real or complex.
        x: `(..., n_samples)`, real or complex; batch axes broadcast.
        zi: `(...)` the output before the first; None is silence.
        method: as in `allpole`.

    Returns:
        y: `(..., n_samples)`, in the precision of `x`, complex when any argument is.
        zf: `(...)` the last output: the `zi` of the chunk that follows.

    Raises:
        ValueError: as `allpole`.

    Example:
        >>> import jax.numpy as jnp
        >>> y, zf = first_order(0.5, jnp.array([1.0, 0.0, 0.0]))
        >>> y.tolist(), float(zf)
        ([1.0, 0.5, 0.25], 0.25)
    """
    signal = as_signal(x, a, *(() if zi is None else (zi,)))
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


@functools.partial(jax.jit, static_argnums=3)
def _allpole(a: jax.Array, x: jax.Array, zi: jax.Array | None, method: str) -> tuple[jax.Array, jax.Array]:
    n_poles = a.shape[-1]
    if zi is not None:
        x = _with_past(a, x, zi)
    y = lift(functools.partial(_from_rest, method=method), "(k,n),(t)->(t)", a, x)
    if zi is None:
        zi = jnp.zeros((*y.shape[:-1], n_poles), y.dtype)
    known = jnp.concatenate([jnp.flip(zi, -1), y[..., max(0, y.shape[-1] - n_poles) :]], axis=-1)
    return y, jnp.flip(known[..., known.shape[-1] - n_poles :], -1)


def _with_past(a: jax.Array, x: jax.Array, zi: jax.Array) -> jax.Array:
    """Take what the outputs before the first ask of the first samples out of the input."""
    n_poles, n_samples = a.shape[-1], x.shape[-1]
    n_first = min(n_poles, n_samples)
    coefficients = jnp.broadcast_to(a[..., :n_first, :], (*zi.shape[:-1], n_first, n_poles))
    asked = [jnp.sum(coefficients[..., t, t:] * zi[..., : n_poles - t], axis=-1) for t in range(n_first)]
    x = jnp.broadcast_to(x, (*zi.shape[:-1], n_samples))
    return x.at[..., :n_first].add(-jnp.stack(asked, axis=-1)) if asked else x


def _from_rest(a: jax.Array, x: jax.Array, *, method: str) -> jax.Array:
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

    forwards, backwards = _FORWARDS[method], _BACKWARDS[method]
    return linear.solve(product, x, functools.partial(forwards, a), functools.partial(backwards, a))


def _forwards_scan(a: jax.Array, x: jax.Array) -> jax.Array:
    return _scan_poles(_direct_step, a, x)


def _backwards_scan(a: jax.Array, g: jax.Array) -> jax.Array:
    return _scan_poles(_transposed_step, a, g, reverse=True)


def _scan_poles(step: Step, a: jax.Array, x: jax.Array, *, reverse: bool = False) -> jax.Array:
    # One array a pole and a state, so that nothing is stacked or sliced within the loop.
    n_poles = a.shape[-1]
    coefficients = tuple(jnp.broadcast_to(a, (x.size, n_poles)).T)
    rest = (jnp.zeros((), x.dtype),) * n_poles

    def sample(state, inputs):
        return step(inputs[0], state, inputs[1])

    return lax.scan(sample, rest, (coefficients, x), reverse=reverse, unroll=_UNROLL)[1]


def _forwards_blocks(method: str, a: jax.Array, x: jax.Array) -> jax.Array:
    columns = tuple(a.T[:, None])  # n_poles times (1, n_samples) or (1, 1)
    rest = jnp.zeros((1, a.shape[-1]), x.dtype)
    return linear_recurrence(_direct_step, columns, rest, x, method=method)[0]


def _backwards_blocks(method: str, a: jax.Array, g: jax.Array) -> jax.Array:
    columns = tuple(jnp.flip(a, 0).T[:, None])
    rest = jnp.zeros((1, a.shape[-1]), g.dtype)
    return jnp.flip(linear_recurrence(_transposed_step, columns, rest, jnp.flip(g), method=method)[0])


def _direct_step(a: State, past: State, x: jax.Array) -> tuple[State, jax.Array]:
    # The newest output comes last: only its product has to wait for the sample before.
    y = x
    for coefficient, output in zip(reversed(a), reversed(past), strict=True):
        y = y - coefficient * output
    return (y, *past)[: len(past)], y


def _transposed_step(a: State, ahead: State, g: jax.Array) -> tuple[State, jax.Array]:
    # w[t] = g[t] + ahead[0], where ahead[i] is what the samples after t ask of sample t - i.
    w = g + ahead[0] if ahead else g
    shifted = (*ahead[1:], jnp.zeros_like(w))[: len(ahead)]
    return tuple(later - coefficient * w for coefficient, later in zip(a, shifted, strict=True)), w


def _forwards_native(a: jax.Array, x: jax.Array) -> jax.Array:
    return lax.platform_dependent(a, x, cpu=native.allpole, default=_forwards_scan)


def _backwards_native(a: jax.Array, g: jax.Array) -> jax.Array:
    return lax.platform_dependent(a, g, cpu=native.allpole_transpose, default=_backwards_scan)


_FORWARDS = {
    "scan": _forwards_scan,
    "blocked": functools.partial(_forwards_blocks, "blocked"),
    "associative": functools.partial(_forwards_blocks, "associative"),
    "native": _forwards_native,
}
_BACKWARDS = {
    "scan": _backwards_scan,
    "blocked": functools.partial(_backwards_blocks, "blocked"),
    "associative": functools.partial(_backwards_blocks, "associative"),
    "native": _backwards_native,
}


def resolve_method(method: str, shape: tuple[int, ...], *, varying: bool = False) -> str:
    """Name the exact method that `"auto"` stands for on the default backend.

    Args:
        method: one of `METHODS`, or `"auto"`.
        shape: shape of the signals, `(..., n_samples)`.
        varying: whether the coefficients change with time.

    Returns:
        One of `METHODS`.

    Raises:
        ValueError: unknown `method`.

    Example:
        >>> resolve_method("auto", (16,))
        'scan'
    """
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


def _resolve_allpole(method: str, x: jax.Array, n_poles: int) -> str:
    if method == "native":
        if not native.supports(x):
            raise ValueError(
                f"x is {x.dtype}; method 'native' takes float32 and float64 only: choose another."
            )
        native.require()
        return method
    if method == "auto":
        if jax.default_backend() == "cpu":
            return "native" if native.usable(x) else "scan"
        if n_poles > 1:
            method = direct_form_method(method)
    if method not in (*ALLPOLE_METHODS, "auto"):
        raise ValueError(f"method is {method!r}; choose one of {', '.join(ALLPOLE_METHODS)} or auto.")
    return resolve_method(method, x.shape, varying=True)


def _scan_constant(
    step: Step, coefficients: Any, state: jax.Array, x: jax.Array
) -> tuple[jax.Array, jax.Array]:
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


def _scan_varying(
    step: Step, coefficients: Any, state: jax.Array, x: jax.Array
) -> tuple[jax.Array, jax.Array]:
    def section(x, inputs):
        coefficients, state = inputs
        state, y = lax.scan(lambda s, inputs: step(inputs[0], s, inputs[1]), tuple(state), (coefficients, x))
        return y, jnp.stack(state)

    return lax.scan(section, x, (coefficients, state))
