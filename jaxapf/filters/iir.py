"""Recursive filters with SciPy's interface, in JAX: `lfilter` and `sosfilt`.

How to choose `method`:

    auto          the fastest exact one for this backend and shape
    scan          exact, sample after sample: short signals, and the reference
    blocked       exact, matrix products over blocks: everything longer
    associative   exact, blocks chained by `lax.associative_scan`
    fsm           approximate: one long FFT, to compare with work that trains on it; no `zi`
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Inexact

from jaxapf import frequency
from jaxapf._internal import arrays
from jaxapf._internal.arrays import Values
from jaxapf.filters import state_space

__all__ = ["METHODS", "by_margins", "check_method", "lfilter", "sosfilt"]

METHODS = (*state_space.METHODS, "fsm", "auto")


def lfilter(
    b: Inexact[Values, "... n_b"],
    a: Inexact[Values, "... n_a"],
    x: Inexact[Values, ...],
    axis: int = -1,
    zi: Inexact[Values, ...] | None = None,
    *,
    method: str = "auto",
) -> Any:
    """Filter along one axis with a rational transfer function, as `scipy.signal.lfilter`.

    Beyond the fourth order or so, and close to the unit circle, use `sosfilt`: coefficients of high-order
    polynomials lose the poles to rounding.

    Args:
        b: numerator, powers of z^-1; batch axes broadcast against the axes of `x` other than `axis`.
        a: denominator, likewise; all are divided by `a[0]`.
        x: signal, real or complex.
        axis: the axis of time.
        zi: state of the transposed direct form II, the shape of `x` with max(n_a, n_b) - 1 along `axis`.
        method: `"scan"`, `"blocked"`, `"associative"` (exact), `"fsm"` (approximate) or `"auto"`.

    Returns y, in the shape and precision of `x`; or `(y, zf)` when `zi` is given, `zf` being the `zi` of the
    next samples. Raises ValueError for an unknown `method`, `zi` with `"fsm"`, `a[0]` known to be zero, and
    shapes that do not fit.

    Example:
        >>> lfilter([1.0], [1.0, -0.5], jnp.array([1.0, 0.0, 0.0])).tolist()
        [1.0, 0.5, 0.25]
    """
    check_method(method, zi)
    signal, axis = _time_last(arrays.as_signal(x, b, a, zi), axis)
    numerator, denominator = (_coefficients(name, value) for name, value in (("b", b), ("a", a)))
    if arrays.all_concrete(denominator) and np.any(np.asarray(denominator)[..., 0] == 0):
        raise ValueError("a[0] is 0; expected a denominator with a leading coefficient to divide by.")
    if method == "fsm":
        return jnp.moveaxis(frequency.lfilter_fsm(b, a, signal), -1, axis)
    numerator, denominator = numerator.astype(signal.dtype), denominator.astype(signal.dtype)
    arrays.batch_shape("b", numerator.shape[:-1], signal)
    arrays.batch_shape("a", denominator.shape[:-1], signal)
    batch = np.broadcast_shapes(numerator.shape[:-1], denominator.shape[:-1], signal.shape[:-1])
    order = max(numerator.shape[-1], denominator.shape[-1]) - 1
    state = _state_last(zi, batch, (order,), signal.dtype, axis)

    shape = (*batch, signal.shape[-1])
    method = state_space.resolve_method(
        state_space.direct_form_method(method) if order > 2 else method, shape
    )
    y, zf = _lfilter(numerator, denominator, signal, state, method)
    y = jnp.moveaxis(y, -1, axis)
    return y if zi is None else (y, jnp.moveaxis(zf, -1, axis))


def sosfilt(
    sos: Inexact[Values, "... n_sections 6"],
    x: Inexact[Values, ...],
    axis: int = -1,
    zi: Inexact[Values, "n_sections ..."] | None = None,
    *,
    method: str = "auto",
) -> Any:
    """Filter along one axis with second-order sections in series, as `scipy.signal.sosfilt`.

    Args:
        sos: rows `b0 b1 b2 1 a1 a2`, or one row `(6,)`; batch axes broadcast against the axes of `x` other
            than `axis`.
        x: signal, real or complex.
        axis: the axis of time.
        zi: `(n_sections, ..., 2, ...)`, the states of the sections' transposed direct forms II; `..., 2, ...`
            is the shape of `x` with 2 along `axis`.
        method: as in `lfilter`.

    Returns what `lfilter` returns. Raises ValueError for an unknown `method`, `zi` with `"fsm"`, a row whose
    a0 is known not to be 1, and shapes that do not fit.

    Example:
        >>> sosfilt([[1.0, 0.0, 0.0, 1.0, -0.5, 0.0]], jnp.array([1.0, 0.0, 0.0])).tolist()
        [1.0, 0.5, 0.25]
    """
    check_method(method, zi)
    signal, axis = _time_last(arrays.as_signal(x, sos, zi), axis)
    rows = arrays.as_sos_rows(jnp.asarray(sos) if isinstance(sos, jax.Array) else np.asarray(sos))
    if arrays.all_concrete(rows) and not np.all(np.asarray(rows)[..., 3] == 1):
        raise ValueError("sos has a row whose a0 (column 3) is not 1; divide the row by its a0.")
    if method == "fsm":
        return jnp.moveaxis(frequency.sosfilt_fsm(rows, signal), -1, axis)
    batch = arrays.batch_shape("sos", rows.shape[:-2], signal)
    state = _state_last(zi, batch, (rows.shape[-2], 2), signal.dtype, axis)

    method = state_space.resolve_method(method, (*batch, signal.shape[-1]))
    y, zf = _sosfilt(jnp.asarray(rows).astype(signal.dtype), signal, state, method)
    y = jnp.moveaxis(y, -1, axis)
    return y if zi is None else (y, jnp.moveaxis(jnp.moveaxis(zf, -2, 0), -1, axis))


def check_method(method: str, zi: Values | None) -> None:
    """Raise ValueError for an unknown method, and for a state with `"fsm"`, which has none."""
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; choose one of {', '.join(METHODS)}.")
    if method == "fsm" and zi is not None:
        raise ValueError(
            "zi is given with method='fsm', which has no state; choose an exact method or drop zi."
        )


@functools.partial(jax.jit, static_argnums=4)
def _lfilter(b: jax.Array, a: jax.Array, x: jax.Array, state: jax.Array, method: str) -> tuple:
    def signals(b, a, x, state):
        order = state.shape[-1]
        b, a = b / a[0], a / a[0]
        if a.size == 1:
            return jax.vmap(_fir, in_axes=(None, 0, 0))(b, x, state)
        b, a = (jnp.pad(c, (0, order + 1 - c.size)) for c in (b, a))
        if order > 2:
            coefficients = tuple(b[:, None, None]), tuple(a[1:, None, None])
            return state_space.linear_recurrence(_direct_form_step, coefficients, state, x, method=method)
        b, a = (jnp.pad(c, (0, 2 - order)) for c in (b, a))
        state = jnp.pad(state, ((0, 0), (0, 0), (0, 2 - order)))
        y, state = _sections(tuple(jnp.concatenate([b, a])[:, None]), x, state, method)
        return y, state[..., :order]

    y, state = arrays.lift_signals(signals, "(p),(q)", (b, a), x, state[..., None, :])
    return y, state[..., 0, :]


@functools.partial(jax.jit, static_argnums=3)
def _sosfilt(sos: jax.Array, x: jax.Array, state: jax.Array, method: str) -> tuple:
    def signals(sos, x, state):
        columns = tuple(jnp.moveaxis(sos, -1, 0))
        leading = columns[3]  # 1, unless traced
        return _sections(tuple(c / leading for c in columns), x, state, method)

    return arrays.lift_signals(signals, "(n,k)", (sos,), x, state)


def _sections(columns: tuple, x: jax.Array, zi: jax.Array, method: str) -> tuple[jax.Array, jax.Array]:
    """Filter `(n_signals, n_samples)` by sections as columns `b0 b1 b2 1 a1 a2`, each `(n_sections,)`."""
    b0, b1, b2, _, a1, a2 = columns
    # Sums in the order that is exact where the coefficients nearly cancel.
    numerator = ((b0 + b1) + b2, (b0 - b1) + b2, b0 - b2)
    denominator = ((1 + a1) + a2, (1 - a1) + a2, 1 - a2)
    half = (a1 / 2)[None]
    state = jnp.stack([zi[..., 0], zi[..., 1] - half * zi[..., 0]], axis=-1)
    y, state = _coupled((*numerator, *denominator), x, state, method)
    return y, jnp.stack([state[..., 0], state[..., 1] + half * state[..., 0]], axis=-1)


@functools.partial(jax.jit, static_argnums=3)
def by_margins(margins: tuple, x: jax.Array, state: jax.Array, method: str) -> tuple[jax.Array, jax.Array]:
    """Filter by sections given as margins of numerator and denominator, see `jaxapf.filters.matched`.

    The margins are six arrays `(..., n_sections)`. The state is `(*batch, n_sections, 2)`: with z0, z1 of the
    transposed direct form II, z0 and z1 - z0 a1 / 2. Returns y `(*batch, n_samples)` and the final state.
    """
    method = state_space.resolve_method(method, (*state.shape[:-2], x.shape[-1]))

    def signals(*values):
        *fields, x, state = values
        return _coupled(tuple(fields), x, state, method)

    return arrays.lift_signals(signals, ",".join(["(n)"] * 6), margins, x, state)


def _coupled(margins: tuple, x: jax.Array, state: jax.Array, method: str) -> tuple[jax.Array, jax.Array]:
    """Filter `(n_signals, n_samples)` by sections `(n_sections,)` given as margins.

    In the coordinates of a direct form, powers of the transition matrix of a slow pole pair hold huge numbers
    that cancel, and float32 loses the states of the blocks. With p = z0 and q = (z1 + r z0) / s, where z0, z1
    is the direct form's state, r = -a1 / 2 and s any scale, the matrix becomes [r s; g/s r] with
    g = r^2 - a2 = (m^2 - u v) / 4, u, v, m being the margins of the denominator. With s = sqrt|g| it is
    normal: its powers do not outgrow those of the poles.
    """
    bu, bv, bm, u, v, m = margins
    # `sign` is the end of the real axis, 1 or -1, that the poles are nearer to, and r = sign - gap. The
    # input gains b1 - a1 b0 and b2 - a2 b0 + r (b1 - a1 b0) are sums of small numbers.
    one = jnp.ones_like(u)
    plus = u.real <= v.real
    sign = jnp.where(plus, one, -one)
    near, b_near = jnp.where(plus, u, v), jnp.where(plus, bu, bv)
    gap = sign * (near + m) / 2
    b0 = (bu + bv) / 4 + bm / 2
    g = (m * m - u * v) / 4
    scale = lax.stop_gradient(jnp.maximum(jnp.sqrt(jnp.abs(g)), jnp.maximum(jnp.abs(gap), 1e-6)))
    scale = scale.astype(x.dtype)  # any value gives the same output, so it has no derivative
    gain_p = sign * (b_near + bm) - 2 * b0 * gap
    gain_q = (b_near - b0 * near) - gap * gain_p
    coupled = b0, gain_p, gain_q / scale, sign, gap, scale, g / scale
    coefficients = tuple(field[:, None] for field in coupled)
    scale = scale[None]
    state = jnp.stack([state[..., 0], state[..., 1] / scale], axis=-1)
    y, state = state_space.linear_recurrence(_coupled_step, coefficients, state, x, method=method)
    return y, jnp.stack([state[..., 0], scale * state[..., 1]], axis=-1)


def _coupled_step(c: tuple, state: tuple, x: Any) -> tuple[tuple, Any]:
    b0, gain_p, gain_q, sign, gap, up, down = c
    p, q = state
    return (
        sign * p + (up * q - gap * p + gain_p * x),
        sign * q + (down * p - gap * q + gain_q * x),
    ), b0 * x + p


def _direct_form_step(coefficients: tuple, state: tuple, x: Any) -> tuple[tuple, Any]:
    # Transposed direct form II: y = b0 x + z0, z_i' = b_(i+1) x - a_(i+1) y + z_(i+1).
    (b0, *b), a = coefficients
    y = b0 * x + state[0]
    shifted = (*state[1:], jnp.zeros_like(y))
    return tuple(b_i * x - a_i * y + z for b_i, a_i, z in zip(b, a, shifted, strict=True)), y


def _fir(b: jax.Array, x: jax.Array, state: jax.Array) -> tuple[jax.Array, jax.Array]:
    # Without poles the state is the tail of the convolution.
    if x.size == 0:
        return x, state
    full = jnp.convolve(x, b, precision=lax.Precision.HIGHEST)
    full = full.at[: state.size].add(state[0])
    return full[: x.size], full[x.size :][None]


def _time_last(x: jax.Array, axis: int) -> tuple[jax.Array, int]:
    """Move time to the last axis, and return the axis counted from the end, independent of batch axes."""
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"axis is {axis}; expected one of the {x.ndim} axes of x, of shape {x.shape}.")
    axis = axis if axis < 0 else axis - x.ndim
    return jnp.moveaxis(x, axis, -1), axis


def _state_last(zi: Values | None, batch: tuple, core: tuple, dtype: Any, axis: int) -> jax.Array:
    """Bring SciPy's `zi`, sections first and the state along `axis`, to `(*batch, *core)`."""
    if zi is None:
        return arrays.initial_state(None, batch, core, dtype)
    expected = list(batch)
    expected.insert(len(batch) + 1 + axis, core[-1])
    expected = (*core[:-1], *expected)
    if np.ndim(zi) != len(expected):
        raise ValueError(f"zi has shape {np.shape(zi)}; expected {expected}.")
    state = jnp.moveaxis(jnp.asarray(zi), axis, -1)
    if len(core) == 2:
        state = jnp.moveaxis(state, 0, -2)
    try:
        return arrays.initial_state(state, batch, core, dtype)
    except ValueError:
        raise ValueError(f"zi has shape {np.shape(zi)}; expected {expected}.") from None


def _coefficients(name: str, value: Values) -> jax.Array:
    array = jnp.asarray(value)
    if array.ndim == 0 or array.shape[-1] == 0:
        raise ValueError(f"{name} has shape {array.shape}; expected (..., n) coefficients, one or more.")
    return array
