"""Search the settings of a chain by gradient, from the dry and the processed clip."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.reverse_engineering import config
from jaxapf import losses, params
from jaxapf.effects import chain

RESOLUTIONS = tuple(
    one._replace(window=size, hop=size // 4, n_fft=size)
    for one, size in zip(losses.RESOLUTIONS, (256, 1024, 2048), strict=True)
)


class Estimate(NamedTuple):
    """Settings in their units, and their error-to-signal ratio over the clip."""

    values: list[float]
    esr: float


def strip() -> tuple[chain.Effect, ...]:
    """Return drive, equaliser and compressor with what is known fixed; the drive over its narrower range."""
    found = (chain.effect(name, fixed=fixed) for name, fixed in config.KNOWN.items())
    return tuple(
        one._replace(controls=tuple(config.NARROWER.get(control.name, control) for control in one.controls))
        for one in found
    )


def controls() -> tuple[params.Control, ...]:
    """Return the controls that are looked for."""
    return chain.chain(*strip()).controls


def settings(theta: Any) -> tuple[Any, ...]:
    """Map any numbers `(..., n_controls)` to controls within their ranges."""
    return params.denormalise(jnp.tanh(theta / config.BENT), controls())


def processed(theta: Any, dry: Any, fs: float) -> jax.Array:
    """Return the clip through the chain; the equaliser, which is linear, by FFT: compiled sooner."""
    values, y = list(settings(theta)), dry
    for one in strip():
        own, values = values[: len(one.controls)], values[len(one.controls) :]
        y = chain.apply(one, own, y, fs, method="fsm" if one.name == "equalizer" else "exact")
    return y


def recover(
    dry: np.ndarray, wet: np.ndarray, fs: float, *, on_progress: Callable[[str], None] = lambda text: None
) -> Estimate:
    """Find the settings: from several starts on the beginning of the clip, from the best of them on all.

    Args:
        dry: (n_samples,).
        wet: (n_samples,), processed from rest.
        fs: sample rate in Hz.
        on_progress: called with a line at every stage.

    Returns:
        `Estimate`.
    """
    scale = 1 / np.sqrt(np.mean(wet**2))
    whole, chunk = (_pair(dry[:n], wet[:n], scale) for n in (len(dry), round(config.CHUNK_S * fs)))
    descend = _descend(fs)
    tried = []
    for number in range(config.STARTS):
        on_progress(f"start {number + 1} of {config.STARTS}")
        tried.append(descend(_start(number), chunk, config.FIRST_STEPS, config.RATE))
    best = min(tried, key=lambda one: float(one.loss))
    on_progress("the best of them")
    best = descend(best.theta, chunk, config.THEN_STEPS, config.RATE / 2)
    on_progress("the whole clip")
    best = descend(best.theta, whole, config.LAST_STEPS, config.LAST_RATE)
    y = np.asarray(best.y, np.float64)
    return Estimate([float(one) for one in best.values], float(np.sum((y - wet) ** 2) / np.sum(wet**2)))


class _Point(NamedTuple):
    """A point of the descent: the numbers behind the settings, these, their loss and the output."""

    theta: Any
    values: Any
    loss: Any
    y: Any


@functools.cache
def _descend(fs: float) -> Callable[..., _Point]:
    """Adam on spectra and samples: `(theta, data, steps, rate)`, compiled once for every length of clip."""
    adam = optax.scale_by_adam()

    def loss(theta: jax.Array, data: Any) -> tuple[jax.Array, jax.Array]:
        y = processed(theta, data["dry"], fs)
        spectra = losses.mrstft(data["scale"] * y, data["scale"] * data["wet"], resolutions=RESOLUTIONS)
        return spectra + jnp.sqrt(losses.esr(y, data["wet"]) + 1e-8), y

    @jax.jit
    def descend(theta: jax.Array, data: Any, steps: int, rate: float) -> _Point:
        def step(count: Any, carry: Any) -> Any:
            theta, state, _, _ = carry
            (value, y), slope = jax.value_and_grad(loss, has_aux=True)(theta, data)
            updates: Any
            updates, state = adam.update(slope, state)
            # Falls by a cosine to a fiftieth; the last round looks and stays.
            falling = 0.02 + 0.49 * (1 + jnp.cos(np.pi * count / steps))
            return theta - jnp.where(count < steps, rate * falling, 0.0) * updates, state, value, y

        begin = theta, adam.init(theta), jnp.zeros(()), jnp.zeros_like(data["wet"])
        theta, _, value, y = jax.lax.fori_loop(0, steps + 1, step, begin)
        return _Point(theta, jnp.stack(settings(theta)), value, y)

    return descend


def _start(number: int) -> np.ndarray:
    """Return the middle of all ranges for start 0, else random numbers."""
    size = len(controls())
    if number == 0:
        return np.zeros(size, np.float32)
    return 0.7 * np.random.default_rng(number).standard_normal(size).astype(np.float32)


def _pair(dry: np.ndarray, wet: np.ndarray, scale: float) -> dict[str, jax.Array]:
    return {name: jnp.asarray(x, jnp.float32) for name, x in (("dry", dry), ("wet", wet), ("scale", scale))}
