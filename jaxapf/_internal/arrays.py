"""Conversion of arguments to arrays, and checks before tracing."""

import contextlib
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

Values = ArrayLike | Sequence[Any]  # numbers, lists of them, NumPy or JAX arrays


def all_concrete(*values: Any) -> bool:
    """Return whether every value is known, that is, none is being traced by `jit`, `grad` or `vmap`."""
    return not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(values))


def as_arrays(*values: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return the namespace, `numpy` or `jax.numpy`, of the values, and floating arrays of one dtype.

    In JAX, where one of them is a JAX array, the dtype is the widest of those; in NumPy float64, or float32
    when every floating array is float32.

    Example:
        >>> as_arrays(np.array([1.0], np.float32), 2)[1][1].dtype
        dtype('float32')
    """
    on_jax = any(isinstance(value, jax.Array) for value in values)
    xp, kind, default = (jnp, jax.Array, jnp.result_type(float)) if on_jax else (np, np.ndarray, np.float64)
    dtypes = [np.dtype(value.dtype) for value in values if isinstance(value, kind)]
    floating = [dtype for dtype in dtypes if jnp.issubdtype(dtype, jnp.floating)]
    dtype = max(floating, key=lambda dtype: dtype.itemsize, default=np.dtype(default))
    return xp, tuple(xp.asarray(value, dtype) for value in values)


def as_signal(x: Values, *others: Any) -> jax.Array:
    """Convert a signal to a floating JAX array of its precision, complex when it or one of the others is."""
    signal = jnp.asarray(x)
    if signal.ndim == 0:
        raise ValueError("x is a single number; expected a signal with time on its last axis.")
    if not jnp.issubdtype(signal.dtype, jnp.inexact):
        signal = signal.astype(jnp.result_type(float))
    if any(jnp.iscomplexobj(other) for other in others):
        signal = signal.astype(np.result_type(signal.dtype, np.complex64))
    return signal


def as_sos_rows(sos: Any) -> Any:
    """Check the shape of second-order sections; one row `(6,)` becomes `(1, 6)`."""
    rows = sos[None] if sos.ndim == 1 else sos
    if rows.ndim < 2 or rows.shape[-1] != 6:
        raise ValueError(f"sos has shape {sos.shape}; expected (..., n_sections, 6).")
    return rows


def batch_shape(name: str, batch: tuple[int, ...], x: jax.Array) -> tuple[int, ...]:
    """Broadcast the batch axes of the argument `name` against those of `x`, whose last axis is time."""
    try:
        return np.broadcast_shapes(batch, x.shape[:-1])
    except ValueError:
        raise ValueError(
            f"{name} has batch axes {batch} and x {x.shape[:-1]}; make them equal or 1, to broadcast."
        ) from None


def initial_state(zi: Values | None, batch: tuple[int, ...], core: tuple[int, ...], dtype: Any) -> jax.Array:
    """Broadcast `zi` to `(*batch, *core)`, in the dtype of the signal; None is zeros."""
    if zi is None:
        return jnp.zeros((*batch, *core), dtype)
    shape = np.shape(zi)
    n_batch = len(shape) - len(core)
    fits = n_batch >= 0 and shape[n_batch:] == core
    with contextlib.suppress(ValueError):
        fits = fits and np.broadcast_shapes(shape[:n_batch], batch) == batch
    if not fits:
        raise ValueError(f"zi has shape {shape}; expected {(*batch, *core)}.")
    return jnp.broadcast_to(jnp.asarray(zi).astype(dtype), (*batch, *core))


def joined(*arrays: Any) -> Any:
    """Concatenate values along the last axis, their batch axes broadcast; converted as in `as_arrays`."""
    xp, leaves = as_arrays(*arrays)
    batch = np.broadcast_shapes(*(leaf.shape[:-1] for leaf in leaves))
    return xp.concatenate([xp.broadcast_to(leaf, (*batch, leaf.shape[-1])) for leaf in leaves], axis=-1)


def with_rank(array: Any, rank: int) -> Any:
    """Prepend axes of length one to a NumPy or JAX array of fewer than `rank` axes."""
    return array.reshape(*(1,) * (rank - array.ndim), *array.shape)


def lift(function: Callable, signature: str, *arrays: jax.Array) -> Any:
    """Call a function of one signal on batches of them: `jnp.vectorize`, but ranks are made equal first."""
    n_core = _core_ranks(signature.split("->")[0])
    n_batch = max(array.ndim - n for array, n in zip(arrays, n_core, strict=True))
    padded = [with_rank(array, n_batch + n) for array, n in zip(arrays, n_core, strict=True)]
    return jnp.vectorize(function, signature=signature)(*padded)


def lift_signals(
    function: Callable, signature: str, coefficients: tuple, x: jax.Array, state: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Call a function of several signals that share coefficients on a batch of either.

    `function(*coefficients, x, state)` takes x (n_signals, n_samples) and state (n_signals, n_sections,
    n_states) and returns both so. `signature` has the core axes of the coefficients (..., *core), as
    "(n),(n)"; x is (..., n_samples), state (*batch, n_sections, n_states). Where one set of coefficients
    serves all signals, one call filters all of them; otherwise every signal has a call of its own.
    """
    ranks = _core_ranks(signature)
    cores = [c.shape[c.ndim - n :] for c, n in zip(coefficients, ranks, strict=True)]
    if all(c.size == math.prod(core) for c, core in zip(coefficients, cores, strict=True)) and state.size:
        shared = [c.reshape(core) for c, core in zip(coefficients, cores, strict=True)]
        batch = state.shape[:-2]
        n_signals = math.prod(batch)
        signals = jnp.broadcast_to(x, (*batch, x.shape[-1])).reshape(n_signals, x.shape[-1])
        y, final = function(*shared, signals, state.reshape(n_signals, *state.shape[-2:]))
        return y.reshape(*batch, x.shape[-1]), final.reshape(state.shape)

    def one_signal(*arrays):
        *own, x, state = arrays
        y, final = function(*own, x[None], state[None])
        return y[0], final[0]

    return lift(one_signal, f"{signature},(t),(n,s)->(t),(n,s)", *coefficients, x, state)


def require(name: str, value: Any, expected: str, valid: Any, *others: Any) -> None:
    """Raise ValueError when a value outside its range is known; traced values pass."""
    if not all_concrete(value, *others):
        return
    values = np.asarray(value)
    ok = np.asarray(valid(values))
    if not ok.all():
        worst = np.broadcast_to(values, ok.shape)[~ok].flat[0]
        raise ValueError(f"{name} is {worst:g}; expected {expected}.")


def whole_number(name: str, value: Any) -> int:
    """Convert a length or a count to an int; ValueError where it is not whole."""
    try:
        return operator.index(value)
    except TypeError:
        raise ValueError(f"{name} is {value!r}; expected a whole number.") from None


def count(name: str, value: Any, lowest: int = 1) -> int:
    """Convert a count to an int; ValueError where it is not whole or below the lowest."""
    number = whole_number(name, value)
    if number < lowest:
        raise ValueError(f"{name} is {number}; expected at least {lowest}.")
    return number


def enable_x64(on: bool = True) -> Any:
    """Return JAX's context manager for float64, under its name in this version."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(on)
    from jax import experimental

    return experimental.enable_x64(on)  # pyright: ignore[reportAttributeAccessIssue]


@contextlib.contextmanager
def float64_on_cpu() -> Iterator[None]:
    """Compute in float64 on the CPU, whatever the default device and precision are."""
    with enable_x64(), jax.default_device(jax.local_devices(backend="cpu")[0]):
        yield


def half_angle(xp: Any, freqs_hz: Any, fs: Any) -> tuple[Any, Any]:
    """Return sine and cosine of half the angular frequency, pi f / fs; the cosine is exactly 0 at fs / 2."""
    half = freqs_hz / fs
    return xp.sin(np.pi * half), xp.sin(np.pi * (0.5 - half))


def _core_ranks(signature: str) -> list[int]:
    return [part.count(",") + 1 for part in signature.strip("()").split("),(")]
