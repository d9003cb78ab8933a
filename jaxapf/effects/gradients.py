"""Gradients through audio effects, by five strategies with one interface, chosen by name.

    "autodiff"       the exact effect and its exact derivative
    "fsm"            trained through frequency sampling; applied as the exact effect
    "proxy"          a network in place of the effect, trained through and applied
    "proxy-hybrid"   the effect forward, the network's derivative backward; applied as the effect
    "spsa"           the effect forward, a derivative from two more runs of it; applied as the effect

The last works for any callable, also outside JAX (`outside`). All take raw controls, a network's output in
[-1, 1]; the specification of the effect gives them units.

Source: Steinmetz et al. 2022, arXiv 2207.08759, section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxapf import params
from jaxapf._internal.arrays import as_signal, batch_shape, require
from jaxapf.effects import chain

__all__ = ["EPSILON", "STRATEGIES", "Apply", "Render", "Strategy", "hybrid", "outside", "spsa", "strategy"]

STRATEGIES = ("autodiff", "fsm", "proxy", "proxy-hybrid", "spsa")
EPSILON = 5e-3  # SPSA's step of all controls on the raw scale, half of it the share of the range
Render = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
Apply = Callable[[jax.Array, jax.Array], jax.Array]


class Strategy(NamedTuple):
    """``render(raw, x, key) -> y`` to be differentiated by raw, and ``apply(raw, x) -> y`` for inference.

    raw (..., n_controls) in [-1, 1], its batch axes broadcast against those of x (..., n_samples); key, of
    `jax.random.key`, for the strategies that are random.
    """

    render: Render
    apply: Apply


def strategy(
    name: str, effect: chain.Effect, fs: float, *, proxy: Apply | None = None, epsilon: float = EPSILON
) -> Strategy:
    """Return the strategy of this name, one of `STRATEGIES`.

    The effect is one of `chain.effect`, `chain.chain` or `outside`; `proxy` the network, `(raw, x) -> y`, of
    `"proxy"` and `"proxy-hybrid"`; `epsilon` that of `spsa`.

    Raises:
        ValueError: unknown name; a strategy that needs a proxy has none.

    Example:
        >>> gain = outside("gain", (params.Control("gain_db", "dB", -20.0, 20.0),), _example_gain)
        >>> by_spsa = strategy("spsa", gain, 8000.0)
        >>> loss = lambda raw: jnp.mean(by_spsa.render(raw, jnp.ones(4), jax.random.key(0)))
        >>> round(float(jax.grad(loss)(jnp.zeros(1))[0]), 2)  # ln(10) at 0 dB
        2.3
    """
    if name not in STRATEGIES:
        raise ValueError(f"name is {name!r}; choose one of {', '.join(STRATEGIES)}.")

    def apply(raw: jax.Array, x: jax.Array, method: str = "exact") -> jax.Array:
        return chain.apply(effect, params.denormalise(raw, effect.controls), x, fs, method=method)

    if name == "spsa":
        return Strategy(
            lambda raw, x, key: spsa(lambda moved: apply(moved, x), raw, key, epsilon=epsilon), apply
        )
    if name in ("autodiff", "fsm"):
        method = "exact" if name == "autodiff" else "fsm"
        return Strategy(lambda raw, x, key: apply(raw, x, method), apply)
    if proxy is None:
        raise ValueError(f"proxy is None; {name!r} needs a network, (raw, x) -> y.")
    rendered = hybrid(apply, proxy) if name == "proxy-hybrid" else proxy
    return Strategy(lambda raw, x, key: rendered(raw, x), apply if name == "proxy-hybrid" else proxy)


def hybrid(effect: Apply, proxy: Apply) -> Apply:
    """Return a function with the value of the effect, but for rounding, and the derivative of the proxy.

    Source: Steinmetz et al. 2022, section 3.2 (full hybrid).

    Example:
        >>> both = hybrid(lambda raw, x: jnp.floor(x), lambda raw, x: raw * x)
        >>> y, slope = jax.value_and_grad(both)(3.0, 2.5)
        >>> float(y), float(slope)
        (2.0, 2.5)
    """

    def apply(raw: jax.Array, x: jax.Array) -> jax.Array:
        estimate = proxy(raw, x)
        return estimate + jax.lax.stop_gradient(effect(raw, x) - estimate)

    return apply


def spsa(
    function: Callable[[jax.Array], jax.Array],
    raw: Float[Array, "*batch n_controls"],
    key: PRNGKeyArray,
    *,
    epsilon: float = EPSILON,
) -> Float[Array, "*batch n_samples"]:
    """Return a function's value, with a derivative from two more values: simultaneous perturbation.

    With random signs s the derivative is taken to be s (f(raw + epsilon s) - f(raw - epsilon s)) / (2
    epsilon): exact in the direction s, and unbiased to second order in epsilon. A step beyond [-1, 1] is
    taken from a point further in. The derivative is by `raw` alone, and has no derivative of its own.

    `function` maps raw to y, its batch axes led by those of raw, each example by its own row; signs of the
    typed `key` differ from example to example; `epsilon` is in (0, 1).

    Source: Spall 1992; Steinmetz et al. 2022, eq. 3 (section 3.3).

    Example:
        >>> loss = lambda raw: spsa(lambda one: one**2, raw, jax.random.key(0))[0]
        >>> round(float(jax.grad(loss)(jnp.array([0.5]))[0]), 4)
        1.0
    """
    require("epsilon", epsilon, "in (0, 1)", lambda e: (e > 0) & (e < 1))
    signs = jax.random.rademacher(key, jnp.shape(raw), dtype=jnp.asarray(raw).dtype)
    # What the function closes over may be differentiated by someone else: here it is a constant.
    closed, others = jax.closure_convert(function, raw)

    @jax.custom_jvp
    def value(raw: jax.Array, *others: jax.Array) -> jax.Array:
        return closed(raw, *others)

    @value.defjvp
    def _tangent(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
        at, *others = primals
        # Linear in the tangent: dy = D (s . d_raw), of which the transpose is s (D . g).
        centre = jnp.clip(at, -1 + epsilon, 1 - epsilon)
        up, down = (closed(centre + step * signs, *others) for step in (epsilon, -epsilon))
        slope = jax.lax.stop_gradient(up - down) / (2 * epsilon)
        along = jnp.sum(signs * tangents[0], axis=-1)
        # The batch axes of y are the first, also where an effect has made two channels of one.
        return closed(at, *others), slope * jnp.expand_dims(along, range(along.ndim, slope.ndim))

    return value(raw, *others)


def outside(
    name: str,
    controls: Sequence[params.Control],
    process: Callable[[dict[str, float], np.ndarray, float], np.ndarray],
) -> chain.Effect:
    """Wrap an effect outside JAX, such as a plug-in, for `"spsa"` and the forward pass of proxies.

    `process(settings, x, fs) -> y` has settings by the names of the controls in their units, and NumPy arrays
    x and y (n_samples,). It is called example by example on the host, each time from its initial state: the
    effect cannot stream, and JAX has no derivative of it.

    Example:
        >>> gain = outside("gain", (params.Control("gain_db", "dB", -20.0, 20.0),), _example_gain)
        >>> chain.apply(gain, [20.0], jnp.ones(2), 8000.0).tolist()
        [10.0, 10.0]
    """
    controls = tuple(controls)
    names = [control.name for control in controls]

    def on_host(*arrays: Any) -> np.ndarray:
        values, x, rates = (np.asarray(one) for one in arrays)
        y = np.empty_like(x)
        for at in np.ndindex(x.shape[:-1]):
            settings = {one: float(value) for one, value in zip(names, values[at], strict=True)}
            made = np.asarray(process(settings, x[at], float(rates[at])))
            if made.shape != x[at].shape:
                raise ValueError(f"{name} returned shape {made.shape}; expected that of x, {x[at].shape}.")
            y[at] = made
        return y

    def called(values: Sequence[Any], state: tuple, x: Any, fs: float) -> tuple[jax.Array, tuple]:
        signal = as_signal(x)
        row = jnp.stack(jnp.broadcast_arrays(*(jnp.asarray(one, signal.dtype) for one in values)), axis=-1)
        batch = batch_shape(name, row.shape[:-1], signal)
        row = jnp.broadcast_to(row, (*batch, len(names)))
        signal = jnp.broadcast_to(signal, (*batch, signal.shape[-1]))
        shape = jax.ShapeDtypeStruct(signal.shape, signal.dtype)
        rates = jnp.full(batch, fs, jnp.float32)  # for each example, as `vmap` adds an axis to all
        return jax.pure_callback(on_host, shape, row, signal, rates, vmap_method="broadcast_all"), state

    def sampled(values: Sequence[Any], x: Any, fs: float) -> jax.Array:
        raise ValueError(f"{name} is outside JAX and has no sampled form; choose the strategy 'spsa'.")

    return chain.Effect(name, controls, lambda batch, fs, dtype: (), called, sampled, lambda fs: 0)


def _example_gain(settings: dict[str, float], x: np.ndarray, fs: float) -> np.ndarray:
    return x * 10 ** (settings["gain_db"] / 20)
