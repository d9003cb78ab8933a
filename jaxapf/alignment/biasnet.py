"""Cascades to be trained: from the weights of networks to all-pass sections and the filtered signal.

Three ways to hold the same cascade, each a `Model` of pure functions:

    sequential   one BiasNet for every section, their weights stacked and run by `vmap`
    connected    one BiasNet for all sections
    naive        the coefficients of the difference equations themselves

    model = connected(structure(7), fs)
    weights = model.init(key)
    y = model.filter(weights, x)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxapf import allpass, params
from jaxapf._internal.arrays import count as checked_count
from jaxapf.filters.iir import sosfilt
from jaxapf.nets.biasnet import BiasNet

__all__ = [
    "Model",
    "Raw",
    "Structure",
    "connected",
    "naive",
    "named_controls",
    "outputs",
    "raw_of",
    "sections_of",
    "sequential",
    "structure",
    "with_complex_poles",
]

Tree = Any
MOST_WARP = 0.99
HIGHEST = 0.499  # of the sample rate, for a trained frequency
CENTRE_HZ = 5000.0  # where `raw_of` warps low sections to: the middle of the range of a trained frequency


class Structure(NamedTuple):
    """Numbers of sections, whether each has a warping factor, and the stretch of the whole cascade."""

    second_order: int
    first_order: int
    warped: bool
    stretch: int

    def controls(self, fs: float) -> tuple[tuple[params.Control, ...], tuple[params.Control, ...]]:
        """Return the controls of a second-order and of a first-order section, up to 20 kHz or 0.499 fs."""
        radius, cutoff_hz, warp = params.SECOND_ORDER
        cutoff_hz = cutoff_hz._replace(high=min(cutoff_hz.high, HIGHEST * fs))
        second, first = (radius, cutoff_hz, warp), params.FIRST_ORDER
        return (second, first) if self.warped else (second[:-1], first[:-1])


class Raw(NamedTuple):
    """A network's outputs in (-1, 1), for 3 or 2 controls of second-order, 2 or 1 of first-order sections."""

    second: Float[Array, "n_second n_controls"] | Any
    first: Float[Array, "n_first n_controls"] | Any


class Model(NamedTuple):
    """A cascade with weights to train; the last two where its sections come from controls, else None."""

    init: Callable[[jax.Array], Tree]  # of a typed key
    filter: Callable[[Tree, Any], jax.Array]  # of weights and x (..., n_samples), from the zero state
    sos: Callable[[Tree], Any]
    raw: Callable[[Tree], Raw] | None = None
    start: Callable[[jax.Array, Raw], Tree] | None = None  # random weights that give these outputs


def structure(order: int, *, warped: bool = True, stretch: int = 1) -> Structure:
    """Return the structure of a cascade of an order; every section may have a warp (Bargum et al. 2023)."""
    second, first = divmod(checked_count("order", order), 2)
    return Structure(second, first, bool(warped), checked_count("stretch", stretch))


def sequential(shape: Structure, fs: float) -> Model:
    """Return the model with one BiasNet for every section (Bargum et al. 2023, section 4, figure 1 (a))."""
    nets = [
        (count, BiasNet(features=len(controls)))
        for count, controls in zip(shape[:2], shape.controls(fs), strict=True)
    ]

    def init(key: jax.Array) -> Tree:
        keys = jax.random.split(key, 2)
        return [
            jax.vmap(net.init)(jax.random.split(one, count)) if count else {}
            for (count, net), one in zip(nets, keys, strict=True)
        ]

    def raw(weights: Tree) -> Raw:
        return Raw(
            *(
                jax.vmap(lambda w, net=net: net.apply(w))(stacked) if count else jnp.zeros((0, net.features))
                for (count, net), stacked in zip(nets, weights, strict=True)
            )
        )

    def start(key: jax.Array, wanted: Raw) -> Tree:
        weights = init(key)
        return [
            jax.vmap(_with_outputs)(one, now, then) if len(then) else one
            for one, now, then in zip(weights, raw(weights), map(_atanh, wanted), strict=True)
        ]

    return _of_controls(shape, fs, init, raw, start)


def connected(shape: Structure, fs: float) -> Model:
    """Return the model with one BiasNet for all sections (Bargum et al. 2023, section 4, figure 1 (b))."""
    widths = [len(controls) for controls in shape.controls(fs)]
    split = shape.second_order * widths[0]
    net = BiasNet(features=split + shape.first_order * widths[1])

    def raw(weights: Tree) -> Raw:
        outputs: Any = net.apply(weights)
        return Raw(outputs[:split].reshape(-1, widths[0]), outputs[split:].reshape(-1, widths[1]))

    def start(key: jax.Array, wanted: Raw) -> Tree:
        weights = net.init(key)
        now, then = (
            jnp.concatenate([jnp.ravel(part) for part in parts]) for parts in (raw(weights), _atanh(wanted))
        )
        return _with_outputs(weights, now, then)

    return _of_controls(shape, fs, net.init, raw, start)


def naive(shape: Structure) -> Model:
    """Return the model of coefficients c, d (second order) and g (first): it may become unstable (eq. 3)."""
    if shape.warped or shape.stretch != 1:
        raise ValueError(
            f"shape is {shape}; naive coefficients are those of a plain cascade, give warped=False"
        )

    def init(key: jax.Array) -> Tree:
        c, d, g = jax.random.split(key, 3)
        return {
            "c": jax.random.uniform(c, (shape.second_order,)),
            "d": jax.random.uniform(d, (shape.second_order,), minval=-1.0),
            "g": jax.random.uniform(g, (shape.first_order,), minval=-1.0),
        }

    def sos(weights: Tree) -> jax.Array:
        c, d, g = (weights[name] for name in "cdg")
        second = jnp.stack([c, d, jnp.ones_like(c), jnp.ones_like(c), d, c], axis=-1)
        zero, one = jnp.zeros_like(g), jnp.ones_like(g)
        return jnp.concatenate([second, jnp.stack([g, one, zero, one, g, zero], axis=-1)])

    return Model(init, lambda weights, x: sosfilt(sos(weights), x), sos)


def _of_controls(shape: Structure, fs: float, init: Any, raw: Any, start: Any) -> Model:
    def sections(weights: Tree) -> allpass.Sections:
        return sections_of(raw(weights), shape, fs)

    def filtered(weights: Tree, x: Any) -> jax.Array:
        return allpass.cascade(sections(weights), x, stretch=shape.stretch)

    return Model(init, filtered, lambda weights: sections(weights).sos, raw, start)


def _atanh(raw: Any) -> Any:
    """Invert tanh in float64 where `raw` is: the ends of the range lie close together."""
    return jax.tree.map(lambda one: jnp.asarray(np.arctanh(np.asarray(one, np.float64)), jnp.float32), raw)


def _with_outputs(weights: Tree, now: jax.Array, wanted: jax.Array) -> Tree:
    """Move the last bias so that outputs `now` become tanh(`wanted`)."""
    layers = weights["params"]
    last = max(name for name in layers if name.startswith("Dense"))
    bias = layers[last]["bias"] + wanted - jnp.arctanh(now)
    return {"params": {**layers, last: {**layers[last], "bias": bias}}}


def outputs(model: Model, weights: Tree) -> Raw:
    """Return the network's outputs in float64: what follows from them is exact, whatever their precision."""
    if model.raw is None:
        raise ValueError("model has no network; give one of sequential or connected")
    return Raw(*(np.asarray(one, np.float64) for one in model.raw(weights)))


def sections_of(raw: Raw, shape: Structure, fs: float) -> allpass.Sections:
    """Return the sections of outputs in [-1, 1], second order first (Bargum et al. 2023, eq. 4 to 6)."""
    (radius, cutoff_hz, *second_warp), (coefficient, *first_warp) = _controls(raw, shape, fs)
    return allpass.concatenate(
        allpass.second_order(radius, cutoff_hz, fs, warp=second_warp[0] if second_warp else 0.0),
        allpass.first_order(coefficient, warp=first_warp[0] if first_warp else 0.0),
    )


def named_controls(raw: Raw, shape: Structure, fs: float) -> list[dict[str, Any]]:
    """Return the controls of each section by name, of NumPy outputs, as a model file has them."""
    kinds = zip(("second_order", "first_order"), shape.controls(fs), _controls(raw, shape, fs), strict=True)
    return [
        {"type": kind} | {one.name: float(value) for one, value in zip(controls, values, strict=True)}
        for kind, controls, columns in kinds
        for values in zip(*columns, strict=True)
    ]


def _controls(raw: Raw, shape: Structure, fs: float) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    second, first = (params.denormalise(*both) for both in zip(raw, shape.controls(fs), strict=True))
    return second, first


def raw_of(sections: allpass.Sections, shape: Structure, fs: float) -> Raw:
    """Return the outputs that give NumPy sections (n_sections,), float64: the inverse of `sections_of`.

    A warp moves low poles to 5 kHz, where all controls are moderate; frequencies out of range go to its end.
    Poles that are real and differ become a double pole between them (see `with_complex_poles`).
    """
    u, v, m = (np.asarray(field, np.float64) for field in sections)
    first = v == 0
    if (int(np.sum(~first)), int(np.sum(first))) != shape[:2] or shape.stretch != 1:
        raise ValueError(
            f"sections has {np.sum(~first)} of second and {np.sum(first)} of first order; expected those of "
            f"{shape}, unstretched"
        )
    # A warp of g by g' multiplies the ratios (1 + g) / (1 - g): with a warp, either takes the square root.
    ratio = u[first] / (2 * m[first])
    ratio = np.sqrt(ratio) if shape.warped else ratio
    columns = _second_columns(u[~first], v[~first], m[~first], shape, fs), [(ratio - 1) / (ratio + 1)] * 2
    normalised = (
        params.normalise(np.stack(values[: len(controls)], -1), controls)
        for values, controls in zip(columns, shape.controls(fs), strict=True)
    )
    return Raw(*(np.clip(one, -1 + 1e-7, 1 - 1e-7) for one in normalised))


def _second_columns(
    u: np.ndarray, v: np.ndarray, m: np.ndarray, shape: Structure, fs: float
) -> list[np.ndarray]:
    """Return radius, frequency and warp; a warp multiplies margins by (1 + a)^2, (1 - a)^2, 1 - a^2."""
    t = np.sqrt(u / v)  # tan(w / 2) of the frequency where the phase is -180 degrees
    centre = np.tan(np.pi * min(CENTRE_HZ, 0.2 * fs) / fs)
    ratio = np.minimum(t / centre, 1.0) if shape.warped else np.ones_like(t)
    warp = np.maximum((ratio - 1) / (ratio + 1), -MOST_WARP)
    u, v, m = u / (1 + warp) ** 2, v / (1 - warp) ** 2, m / (1 - warp**2)
    total = u + v + 2 * m
    radius = np.sqrt(np.maximum((u + v - 2 * m) / total, 0.0))
    # sin^2(w / 2) = (u - (1 - R)^2) / 4 R, with u scaled to u + v + 2 m = 4; real poles have less than 0.
    sine = (4 * u / total - (1 - radius) ** 2) / np.maximum(4 * radius, 1e-300)
    return [radius, np.arcsin(np.sqrt(np.clip(sine, 0.0, 1.0))) * fs / np.pi, warp]


def with_complex_poles(sections: allpass.Sections) -> allpass.Sections:
    """Return the cascade with each second-order section of two real poles as two of first order, float64."""
    u, v, m = (np.asarray(field, np.float64) for field in sections)
    real = (v > 0) & (m * m >= u * v)
    # With t = sqrt(u / v) and d = 2 m / sqrt(u v), d >= 2, the section is the product of two of first order
    # at t a and t / a, where a + 1 / a = d.
    t, half = np.sqrt(u[real] / v[real]), m[real] / np.sqrt(u[real] * v[real])
    a = half + np.sqrt(half**2 - 1)
    ratio = np.concatenate([t * a, t / a])
    second, first = ((v > 0) & ~real), v == 0
    return allpass.concatenate(
        allpass.Sections(u[second], v[second], m[second]),
        allpass.Sections(u[first], v[first], m[first]),
        allpass.first_order((ratio - 1) / (ratio + 1)),
    )
