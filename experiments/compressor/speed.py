"""Time one training step, forward and backward: exact recursion, frequency sampling, torchcomp."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.runner import Row, show_progress
from experiments.compressor import config
from jaxapf.effects import compressor as fx

FS = 44_100.0


def signal(n_signals: int, n_samples: int) -> np.ndarray:
    """Noise in bursts of 50 ms, (n_signals, n_samples) float32."""
    rng = np.random.default_rng(0)
    length = round(0.05 * FS)
    levels = 10 ** rng.uniform(-2, 0, (n_signals, n_samples // length + 1))
    noise = rng.standard_normal((n_signals, n_samples))
    return (0.3 * np.repeat(levels, length, axis=1)[:, :n_samples] * noise).astype(np.float32)


def ours(x: np.ndarray, form: str) -> tuple[Callable[[], Any], float]:
    """One step, loss and gradient by six controls, and the seconds that compiling it took."""
    dry, wet = jnp.asarray(x), jnp.asarray(0.5 * x)
    start = {name: jnp.float32(value) for name, value in _CONTROLS.items()}

    def loss(values: Any, dry: jax.Array, wet: jax.Array) -> jax.Array:
        controls = fx.Controls(**values)
        if form == "sampling":
            return jnp.mean(jnp.abs(fx.compressor_sampled(controls, dry, FS) - wet))
        return jnp.mean(jnp.abs(fx.compressor(controls, fx.initial_state(), dry, FS)[0] - wet))

    began = time.perf_counter()
    step = jax.jit(jax.value_and_grad(loss)).lower(start, dry, wet).compile()
    seconds = time.perf_counter() - began
    return lambda: jax.block_until_ready(step(start, dry, wet)), seconds


_CONTROLS = {
    "threshold_db": -20.0,
    "ratio": 4.0,
    "attack_ms": 5.0,
    "release_ms": 100.0,
    "average_ms": 1.6,
    "makeup_db": 0.0,
}


def torchcomp(x: np.ndarray) -> Callable[[], Any] | None:
    """The same step by torchcomp, as its authors use it; None where it is not installed."""
    try:
        torch: Any = importlib.import_module("torch")
        peer: Any = importlib.import_module("torchcomp")
    except ImportError:
        return None
    dry = torch.from_numpy(x)
    wet = 0.5 * dry
    starts = (-20.0, 4.0, *(1 - np.exp(-np.log(9) / (1e-3 * FS * ms)) for ms in (5.0, 100.0, 1.6)), 0.0)
    leaves = [torch.tensor(value, dtype=torch.float32, requires_grad=True) for value in starts]
    threshold, ratio, attack, release, average, makeup = leaves

    def step() -> None:
        for leaf in leaves:
            leaf.grad = None
        power: Any = peer.avg(dry.square().clamp_min(1e-8), average)
        gain = peer.compexp_gain(power.sqrt(), threshold, ratio, -120.0, 0.9999, attack, release)
        (dry * gain * peer.db2amp(makeup) - wet).abs().mean().backward()

    return step


def fastest(step: Callable[[], Any], repeats: int) -> float:
    """Milliseconds of the fastest of several, after two that are not counted."""
    times = []
    for number in range(repeats + 2):
        began = time.perf_counter()
        step()
        if number > 1:
            times.append(time.perf_counter() - began)
    return 1e3 * min(times)


def measure(repeats: int) -> list[Row]:
    """A row a shape; the three take turns within it."""
    rows = []
    for shape in config.SHAPES:
        show_progress(f"speed: {shape[0]} x {shape[1]}")
        x = signal(*shape)
        exact, compile_s = ours(x, "recursion")
        sampled, _ = ours(x, "sampling")
        peer = torchcomp(x)
        exact_ms = fastest(exact, repeats)
        sampled_ms = fastest(sampled, max(3, repeats // 3))
        peer_ms = None if peer is None else fastest(peer, repeats)
        exact_ms = min(exact_ms, fastest(exact, repeats))
        rows.append(
            {
                "signals": shape[0],
                "samples": shape[1],
                "recursion, ms": exact_ms,
                "sampling, ms": sampled_ms,
                "torchcomp, ms": peer_ms,
                "sampling / recursion": sampled_ms / exact_ms,
                "torchcomp / recursion": None if peer_ms is None else peer_ms / exact_ms,
                "compiling, s": compile_s,
            }
        )
    return rows
