"""Measurements in a process of their own: `python -m experiments.training.workers NAME ...` prints JSON."""

from __future__ import annotations

import json
import random
import sys
import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from experiments.training import config, train
from jaxapf.training import fit, lowering, parallel
from jaxapf.training.checkpoint import Checkpoints
from jaxapf.training.data import shuffled
from jaxapf.training.step import TrainState, init_state, make_train_step


def equal(dtype: str, rate: str) -> dict[str, dict[str, float]]:
    """Relative difference of the parameters after 20 steps, mesh and pmap against one device."""
    jax.config.update("jax_enable_x64", dtype == "float64")
    data, fs, _ = train.sequences()
    data, weights = (
        jax.tree.map(lambda leaf: leaf.astype(dtype), tree)
        for tree in (data, train.model_at(1.0).init(jax.random.key(config.SEED)))
    )
    optimizer = train.make_optimizer(config.STEPS, float(rate))
    step = make_train_step(train.make_loss(fs), optimizer, clip_norm=1.0)
    state = init_state(weights, optimizer, key=jax.random.key(0))
    batch_at = shuffled(data, config.BATCH, seed=config.SEED)
    found = {
        name: fit.fit(plan(step), state, batch_at, 20).state.params for name, plan in train.PLANS.items()
    }
    return {name: differences(found[name], found["single"]) for name in ("mesh", "pmap")}


def differences(found: Any, expected: Any) -> dict[str, float]:
    """Relative differences of all parameters as one vector, and of the array that differs most."""
    pairs = list(zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True))
    norms = np.array([[np.linalg.norm(np.subtract(a, b)), np.linalg.norm(b)] for a, b in pairs])
    whole = np.linalg.norm(norms, axis=0)
    return {"whole": float(whole[0] / whole[1]), "worst array": float(np.max(norms[:, 0] / norms[:, 1]))}


def scaling(devices: int) -> dict[str, float]:
    """Seconds a step with the same work on each device."""
    compiled, state, batch = sharded_step(devices, config.BATCH)
    times = []
    for _ in range(60):
        started = time.perf_counter()
        state, _ = jax.block_until_ready(compiled(state, batch))
        times.append(time.perf_counter() - started)
    return {"devices": devices, "step_s": float(np.median(times[10:]))}


def cost(rows: int) -> dict[str, Any]:
    """What a step costs one of eight devices that has so many sequences."""
    compiled, state, _ = sharded_step(8, rows)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state.params))
    return {"rows": rows, "parameter_bytes": size, **lowering.cost(compiled)._asdict()}


def sharded_step(devices: int, rows: int) -> tuple[Any, Any, Any]:
    """The compiled step on a mesh of some devices, its state and a batch of `rows` sequences a device."""
    data, fs, _ = train.sequences()
    optimizer = train.make_optimizer(config.STEPS)
    step = make_train_step(train.make_loss(fs), optimizer, clip_norm=1.0)
    mesh = Mesh(np.array(jax.devices()[:devices]), (parallel.AXIS,))
    plan = parallel.mesh(step, mesh)
    weights = train.model_at(1.0).init(jax.random.key(config.SEED))
    state = plan.put_state(init_state(weights, optimizer, key=jax.random.key(0)))
    shape = (devices * rows, config.LENGTH)
    batch = plan.put_batch({name: np.resize(one, shape) for name, one in data.items()})
    return plan.step.lower(state, batch).compile(), state, batch


def overhead(folder: str) -> dict[str, float]:
    """Seconds a step of a bare jitted loop, the training layer over it, and seconds that a save blocks."""
    loss_fn, params, optimizer = dense_loss, dense_params(), optax.adam(1e-3)
    data = [np.random.default_rng(seed).standard_normal((2, 256, 256), np.float32) for seed in range(4)]
    step, opt_state = make_bare_step(loss_fn, optimizer), optimizer.init(params)
    rows = batch_rows(step, params, opt_state)
    data = [{"x": np.resize(x, (rows, 256)), "y": np.resize(y, (rows, 256))} for x, y in data]
    plan = parallel.single(make_train_step(loss_fn, optimizer))
    state = init_state(params, optimizer, key=jax.random.key(0))

    def layered(steps: int) -> float:
        with open(f"{folder}/metrics.jsonl", "w", encoding="utf-8") as file:
            run = fit.fit(
                plan,
                state,
                lambda position: data[position % 4],
                steps + 1,
                log_every=51,
                on_record=lambda record: print(json.dumps(record), file=file, flush=True),
            )
        return run.records[-1]["seconds"] / steps

    runs = {"bare": partial(bare_loop, step, params, opt_state, data), "layer": layered}
    for run in runs.values():
        run(20)
    times = {name: [] for name in runs}
    rng = random.Random(config.SEED)
    for _ in range(60):  # short turns: the machine's speed drifts
        for name in rng.sample(list(runs), len(runs)):
            times[name].append(runs[name](50))
    return {
        "bare_s": float(np.median(times["bare"])),
        "ratio": float(np.median(np.divide(times["layer"], times["bare"]))),
        "save_s": blocking(folder, state),
    }


def blocking(folder: str, state: TrainState) -> float:
    """Seconds until a save returns, the writing going on behind."""
    times = []
    with Checkpoints(f"{folder}/checkpoints") as checkpoints:
        for number in range(10):
            started = time.perf_counter()
            checkpoints.save(state, step=number)
            times.append(time.perf_counter() - started)
            checkpoints.wait()
    return float(np.median(times))


def dense_params() -> list[jax.Array]:
    """Four layers of 256."""
    return [jax.random.normal(key, (256, 256)) / 16 for key in jax.random.split(jax.random.key(0), 4)]


def dense_loss(params: list[jax.Array], batch: dict[str, jax.Array], key: Any = None) -> jax.Array:
    """A dense network with sine activations."""
    x = batch["x"]
    for weights in params:
        x = jnp.sin(x @ weights)
    return jnp.mean((x - batch["y"]) ** 2)


def batch_rows(step: Any, params: Any, opt_state: Any) -> int:
    """As many rows as make a step of about `STEP_S`."""
    rows = 256
    for _ in range(4):
        data = [{name: jnp.sin(jnp.arange(rows * 256.0)).reshape(rows, 256) for name in ("x", "y")}]
        seconds = min(bare_loop(step, params, opt_state, data, 20) for _ in range(5))
        rows = max(1, round(rows * config.STEP_S / seconds))
    return rows


def make_bare_step(loss_fn: Any, optimizer: Any) -> Any:
    """The step that one writes by hand."""

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params, opt_state, batch):
        loss, gradient = jax.value_and_grad(loss_fn)(params, batch)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, loss

    return step


def bare_loop(step: Any, params: Any, opt_state: Any, data: list[Any], steps: int) -> float:
    """Seconds a step of the loop that one writes by hand, the loss read every 50 steps."""
    params, opt_state = jax.tree.map(jnp.copy, (params, opt_state))
    params, opt_state, loss = step(params, opt_state, data[0])
    jax.block_until_ready(loss)
    started = time.perf_counter()
    for number in range(steps):
        params, opt_state, loss = step(params, opt_state, data[number % len(data)])
        if number % 50 == 49:
            float(loss)
    jax.block_until_ready(loss)
    return (time.perf_counter() - started) / steps


if __name__ == "__main__":
    name, *words = sys.argv[1:]
    found = globals()[name](*(int(word) if word.isdigit() else word for word in words))
    print(json.dumps(found))
