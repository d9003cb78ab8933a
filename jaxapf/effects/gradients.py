"""Ways to a gradient through audio effects, one interface, chosen by name.

    "autodiff"       the effect, exact, and its exact derivative
    "fsm"            the effect by frequency sampling, and the derivative of that; the exact effect plays
    "proxy"          a network in place of the effect, in training and when it plays
    "proxy-hybrid"   the effect forward, the network's derivative backward; the effect plays
    "spsa"           the effect forward, a derivative from two more runs of it; the effect plays

The last works around anything that can be called, also outside JAX (`outside`). All take raw controls, a
network's output in [-1, 1]; the specification of the effect gives them units.

Source: Steinmetz et al. 2022, arXiv 2207.08759, section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxapf import params
from jaxapf._internal.arrays import as_signal, batch_shape, require
from jaxapf.effects import chain

STRATEGIES = ("autodiff", "fsm", "proxy", "proxy-hybrid", "spsa")
EPSILON = 5e-3  # of the range, half of it: how far SPSA moves all controls
Render = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
Play = Callable[[jax.Array, jax.Array], jax.Array]


class Route(NamedTuple):
    """What trains and what plays.

    ``render(raw, x, key) -> y``, to be differentiated by raw; ``play(raw, x) -> y``. raw (..., n_controls) in
    [-1, 1], its batch axes broadcast against those of x (..., n_samples); key, of `jax.random.key`, for the
    routes that are random.
    """

    render: Render
    play: Play


def route(
    strategy: str, effect: chain.Effect, fs: float, *, proxy: Play | None = None, epsilon: float = EPSILON
) -> Route:
    """The way to a gradient of this name.

    Args:
        strategy: one of `STRATEGIES`.
        effect: of `chain.effect`, `chain.chain` or `outside`.
        fs: sample rate in Hz.
        proxy: the network, `(raw, x) -> y`, for `"proxy"` and `"proxy-hybrid"`.
        epsilon: of `"spsa"`.

    Returns:
        `Route`.

    Raises:
        ValueError: unknown strategy; one that needs a proxy has none.

    Source: Steinmetz et al. 2022, section 3.

    Example:
        >>> gain = outside("gain", (params.Control("gain_db", "dB", -20.0, 20.0),), _example_gain)
        >>> way = route("spsa", gain, 8000.0)
        >>> loss = lambda raw: jnp.mean(way.render(raw, jnp.ones(4), jax.random.key(0)))
        >>> round(float(jax.grad(loss)(jnp.zeros(1))[0]), 2)  # ln(10) at 0 dB
        2.3
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy is {strategy!r}; choose one of {', '.join(STRATEGIES)}.")
    if proxy is None and strategy.startswith("proxy"):
        raise ValueError(f"proxy is None; {strategy!r} needs a network, (raw, x) -> y.")

    def exact(raw: jax.Array, x: jax.Array) -> jax.Array:
        return chain.apply(effect, params.denormalise(raw, effect.controls), x, fs)

    def sampled(raw: jax.Array, x: jax.Array) -> jax.Array:
        return chain.apply(effect, params.denormalise(raw, effect.controls), x, fs, method="fsm")

    def shaken(raw: jax.Array, x: jax.Array, key: jax.Array) -> jax.Array:
        return spsa(lambda moved: exact(moved, x), raw, key, epsilon=epsilon)

    if strategy == "spsa":
        return Route(shaken, exact)
    if strategy == "proxy-hybrid":
        return Route(_keyless(hybrid(exact, proxy)), exact)  # pyright: ignore[reportArgumentType]
    if strategy == "proxy":
        return Route(_keyless(proxy), proxy)  # pyright: ignore[reportArgumentType]
    return Route(_keyless(exact if strategy == "autodiff" else sampled), exact)


def _keyless(play: Play) -> Render:
    return lambda raw, x, key: play(raw, x)


def hybrid(effect: Play, proxy: Play) -> Play:
    """A function with the value of one and the derivative of the other.

    Args:
        effect: `(raw, x) -> y`, whose value counts; it need not have a derivative.
        proxy: `(raw, x) -> y` of the same shape, whose derivative counts.

    Returns:
        `(raw, x) -> y`, its value that of the effect but for rounding.

    Source: Steinmetz et al. 2022, section 3.2 (full hybrid).

    Example:
        >>> both = hybrid(lambda raw, x: jnp.floor(x), lambda raw, x: raw * x)
        >>> y, slope = jax.value_and_grad(both)(3.0, 2.5)
        >>> float(y), float(slope)
        (2.0, 2.5)
    """

    def play(raw: jax.Array, x: jax.Array) -> jax.Array:
        guess = proxy(raw, x)
        return guess + jax.lax.stop_gradient(effect(raw, x) - guess)

    return play


def spsa(
    function: Callable[[jax.Array], jax.Array], raw: jax.Array, key: jax.Array, *, epsilon: float = EPSILON
) -> jax.Array:
    """A function's value, with a derivative from two more values: simultaneous perturbation.

    With random signs s the derivative is taken to be s (f(raw + epsilon s) - f(raw - epsilon s)) / (2
    epsilon): exact in the direction s, and right on average. A step beyond [-1, 1] is taken from a point
    further in. The derivative is by `raw` alone, and has no derivative of its own.

    Args:
        function: `raw -> y`, y of shape (..., n_samples), each example by its own row of raw.
        raw: (..., n_controls) in [-1, 1], its batch axes leading those of y.
        key: of `jax.random.key`; the signs differ from example to example.
        epsilon: how far all controls are moved.

    Returns:
        (..., n_samples).

    Raises:
        ValueError: `epsilon` is not in (0, 1).

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
        # The batch axes of y are the first, also where an effect has made channels of one.
        return closed(at, *others), slope * jnp.expand_dims(along, range(along.ndim, slope.ndim))

    return value(raw, *others)


def outside(
    name: str,
    controls: Sequence[params.Control],
    process: Callable[[dict[str, float], np.ndarray, float], np.ndarray],
) -> chain.Effect:
    """An effect outside JAX, a plug-in say, as an `Effect`: for `"spsa"` and the proxies' forward pass.

    Args:
        name: for messages.
        controls: what it can be asked.
        process: `(settings, x, fs) -> y`, settings by the names of the controls in their units, x a NumPy
            array (n_samples,), y of its shape. It is called from rest, example by example, on the host.

    Returns:
        `chain.Effect`; it has no state to stream with, and JAX has no derivative of it.

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
        raise ValueError(f"{name} is outside JAX and has no sampled form; choose the route 'spsa'.")

    return chain.Effect(name, controls, lambda batch, fs, dtype: (), called, sampled, lambda fs: 0)


def _example_gain(settings: dict[str, float], x: np.ndarray, fs: float) -> np.ndarray:
    return x * 10 ** (settings["gain_db"] / 20)
