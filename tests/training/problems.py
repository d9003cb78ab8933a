"""Small training problems, one for each kind of program: plain, FFT, block matrices, recursion, kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxapf import allpass, allpole

FS = 48000.0


class Problem(NamedTuple):
    """Parameters, a loss that is a mean over examples, and a batch of 16 examples."""

    params: Any
    loss_fn: Callable[..., Any]
    batch: Any


def signals(n_samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise and what three sections make of it: (16, n_samples) each."""
    x = np.random.default_rng(0).standard_normal((16, n_samples)).astype(np.float32)
    sections = allpass.second_order(jnp.full(3, 0.7), jnp.array([300.0, 2000.0, 9000.0]), FS)
    return x, np.asarray(allpass.cascade(sections, jnp.asarray(x)))


def dense() -> Problem:
    x, y = signals(32)

    def loss_fn(params, batch, key):
        hidden = jnp.sin(batch["x"] @ params["in"] + params["bias"])
        return jnp.mean((hidden @ params["out"] - batch["y"]) ** 2), {"hidden": jnp.mean(hidden)}

    rng = np.random.default_rng(1)
    weights = {name: rng.standard_normal((32, 32)).astype(np.float32) / 6 for name in ("in", "out")}
    return Problem({**weights, "bias": np.zeros((1, 32), np.float32)}, loss_fn, {"x": x, "y": y})


def spectra() -> Problem:
    x, y = signals(512)

    def loss_fn(params, batch, key):
        found = jnp.abs(jnp.fft.rfft(batch["x"] * params["gain"][None]) + 1e-3)
        return jnp.mean((found - jnp.abs(jnp.fft.rfft(batch["y"]))) ** 2)

    return Problem({"gain": np.full(512, 0.5, np.float32)}, loss_fn, {"x": x, "y": y})


def cascade(method: str) -> Problem:
    x, y = signals(512)

    def loss_fn(params, batch, key):
        radius, cutoff_hz = jax.nn.sigmoid(params["radius"]), 1e4 * jax.nn.sigmoid(params["cutoff"])
        sections = allpass.second_order(radius, cutoff_hz, FS)
        return jnp.mean((allpass.cascade(sections, batch["x"], method=method) - batch["y"]) ** 2)

    params = {"radius": np.zeros(3, np.float32), "cutoff": np.array([-3, -1, 1], np.float32)}
    return Problem(params, loss_fn, {"x": x, "y": y})


def moving_allpole() -> Problem:
    x, y = signals(256)

    def loss_fn(params, batch, key):
        swing = jnp.sin(jnp.linspace(0.0, 6.0, 256))[:, None]
        a = jnp.broadcast_to(
            (params["mean"][None] + params["swing"][None] * swing)[None], (*batch["x"].shape, 2)
        )
        return jnp.mean((allpole(a, batch["x"])[0] - batch["y"]) ** 2)

    params = {"mean": np.array([0.1, 0.2], np.float32), "swing": np.array([0.1, -0.1], np.float32)}
    return Problem(params, loss_fn, {"x": x, "y": y})


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "dense": dense,
    "spectra": spectra,
    "cascade-scan": lambda: cascade("scan"),
    "cascade-blocked": lambda: cascade("blocked"),
    "cascade-associative": lambda: cascade("associative"),
    "cascade-fsm": lambda: cascade("fsm"),
    "moving-allpole": moving_allpole,
}
