"""Time a step, forward and backward: the recursion, windows of every length, and torchlpc.

All in one run, in turns, so that a busy moment hits all alike; the fastest of many counts. Compiling is timed
apart.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.runner import Row, show_progress
from experiments.common.tables import made_with, table
from experiments.synth import config, protocol
from experiments.synth.protocol import RECURSION
from jaxapf.effects import synth
from jaxapf.filters import recursion

NOTES = 34  # the paper's batch
GOAL = 2.0
IN_A_TURN = 3
Timed = Callable[[], Any]


def measured(repeats: int) -> Row:
    """Return the milliseconds of each step and of compiling it; torchlpc where it is installed."""
    steps = {f"synth, {form}": synth_step(form) for form in (RECURSION, *config.WINDOWS)}
    steps["all-pole filter, jaxapf"] = allpole_step()
    peer = torchlpc_step()
    if peer is not None:
        steps["all-pole filter, torchlpc"] = peer
    for form in (RECURSION, config.WINDOWS[0]):
        steps[f"with network and loss, {form}"] = training_step(form)
    first, fastest = {}, dict.fromkeys(steps, np.inf)
    for name, step in steps.items():
        show_progress(f"compiling: {name}")
        first[name] = seconds(step)
    for number in range(repeats):
        show_progress(f"timing: {number + 1} of {repeats}")
        for name, step in steps.items():
            # The first of a turn finds caches full of what the others left there.
            fastest[name] = min(fastest[name], *(seconds(step) for _ in range(IN_A_TURN)))
    return {name: {"ms": 1e3 * fastest[name], "compile_s": first[name] - fastest[name]} for name in steps}


def seconds(step: Timed) -> float:
    """Return the seconds of one call, to its end."""
    began = time.perf_counter()
    jax.block_until_ready(step())
    return time.perf_counter() - began


def synth_step(form: str | int) -> Timed:
    """Return value and gradient, by the filter's raw numbers and the other controls, of a mean square."""
    rng = np.random.default_rng(0)
    raw = jnp.asarray(0.3 * rng.standard_normal((NOTES, 51, 5)), jnp.float32)
    others = jnp.asarray(rng.uniform(0.3, 0.9, (4, NOTES)), jnp.float32)
    f0_hz = jnp.asarray(rng.uniform(50, 200, NOTES), jnp.float32)
    target = jnp.asarray(rng.standard_normal((NOTES, config.LENGTH)), jnp.float32)

    @jax.jit
    def step(raw: jax.Array, others: jax.Array):
        def loss(raw: jax.Array, others: jax.Array) -> jax.Array:
            on_s = jnp.full((NOTES,), 0.1, jnp.float32)
            controls = synth.Controls(f0_hz, on_s, synth.free(raw), *others)
            return jnp.mean((protocol.rendered_by(controls, form) - target) ** 2)

        return jax.value_and_grad(loss, (0, 1))(raw, others)

    return lambda: step(raw, others)


def poles_and_signal() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return stable moving coefficients (n, t, 2), signals and weights of their derivatives (n, t)."""
    rng = np.random.default_rng(1)
    raw = rng.standard_normal((NOTES, config.LENGTH, 5))
    x, weights = rng.standard_normal((2, NOTES, config.LENGTH))
    a = np.asarray(synth.free(raw))[..., 4:]
    return tuple(np.ascontiguousarray(one, np.float32) for one in (a, x, weights))  # pyright: ignore


def allpole_step() -> Timed:
    """Return output and gradients by signal and coefficients of our filter alone."""
    a, x, weights = (jnp.asarray(one) for one in poles_and_signal())

    @jax.jit
    def step(a: jax.Array, x: jax.Array):
        return jax.value_and_grad(lambda a, x: jnp.sum(weights * recursion.allpole(a, x)[0]), (0, 1))(a, x)

    return lambda: step(a, x)


def torchlpc_step() -> Timed | None:
    """Return the same by torchlpc, where it is installed."""
    try:
        torch: Any = importlib.import_module("torch")
        torchlpc: Any = importlib.import_module("torchlpc")
    except ImportError:
        return None
    a, x, weights = (torch.from_numpy(one) for one in poles_and_signal())
    a, x = a.requires_grad_(), x.requires_grad_()

    def step() -> Any:
        y: Any = torchlpc.sample_wise_lpc(x, a)
        total = (weights * y).sum()
        return [grad.numpy() for grad in torch.autograd.grad(total, (a, x))]

    return step


def training_step(form: str | int) -> Timed:
    """Return value and gradient of a batch as it is trained, network and spectral loss with it."""
    rng = np.random.default_rng(2)
    n = config.BATCH
    batch = {
        "audio": rng.standard_normal((n, config.LENGTH)),
        "features": rng.uniform(-1, 1, (n, config.MELS, 51)),
        "f0_hz": rng.uniform(50, 200, n),
        "on_s": np.full(n, 0.1),
        "phase": np.zeros(n),
    }
    batch = {name: jnp.asarray(value, jnp.float32) for name, value in batch.items()}
    weights = protocol.network("coeff").init(jax.random.key(0), batch["features"][:1])
    key = jax.random.key(0)
    step = jax.jit(jax.value_and_grad(protocol.make_loss("coeff", form)))
    return lambda: step(weights, batch, key)


def markdown(times: Row) -> str:
    """Return the table and the goals."""
    rows = [
        {"one step, forward and backward": name, "ms": one["ms"], "compiling, s": one["compile_s"]}
        for name, one in times.items()
    ]
    parts = [made_with(), table(rows, lambda _, value: f"{value:.2f}" if isinstance(value, float) else value)]
    ours, smallest = times[f"synth, {RECURSION}"]["ms"], times[f"synth, {config.WINDOWS[0]}"]["ms"]
    parts.append(_goal(f"the recursion against windows of {config.WINDOWS[0]}", smallest / ours))
    if "all-pole filter, torchlpc" in times:
        peer, own = (times[f"all-pole filter, {name}"]["ms"] for name in ("torchlpc", "jaxapf"))
        parts.append(_goal("the filter against torchlpc", peer / own))
    else:
        parts.append("torchlpc is not installed (`pip install torchlpc`).")
    return "\n\n".join(parts) + "\n"


def _goal(name: str, ratio: float) -> str:
    met = "Met" if ratio >= GOAL else "**Missed**"
    return f"{met}: {name}, at least {GOAL:g} times as fast: {ratio:.1f} times."
