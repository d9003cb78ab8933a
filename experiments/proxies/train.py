"""Train a proxy beside the effect that it imitates; stops and goes on anywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.proxies import config, data
from experiments.proxies.config import Setting
from jaxapf import losses, params
from jaxapf.effects import chain, proxies
from jaxapf.training import fit, logging, parallel
from jaxapf.training.checkpoint import Checkpoints
from jaxapf.training.step import LossFn, init_state, make_train_step

Tree = Any


def scaled(y: jax.Array, wet: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Scale both signals (..., n_samples) by the factor that gives the wet one `config.RMS`."""
    rms = jnp.sqrt(jnp.mean(wet**2, axis=-1, keepdims=True))
    factor = config.RMS / jnp.maximum(rms, 1e-4)
    return y * factor, wet * factor


def loss_of(y: jax.Array, wet: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Return mean absolute error plus multi-resolution STFT between proxy and effect, and the parts."""
    y, wet = scaled(y, wet)
    mae, mrstft = losses.mae(y, wet), losses.mrstft(y, wet, resolutions=config.RESOLUTIONS)
    return config.MAE_WEIGHT * mae + mrstft, {"mae": mae, "mrstft": mrstft, "esr": losses.esr(y, wet)}


def through(effect: chain.Effect, raw: jax.Array, dry: jax.Array) -> jax.Array:
    """Return dry (..., n_samples) through the effect at controls raw (..., n_controls)."""
    return chain.apply(effect, params.denormalise(raw, effect.controls), dry, config.FS)


def make_loss(net: Any, effect: chain.Effect) -> LossFn:
    """Return the loss of a batch of clips and controls; the effect runs in the same step."""

    def loss(weights: Tree, batch: Tree, key: jax.Array) -> Any:
        wet = jax.lax.stop_gradient(through(effect, batch["raw"], batch["dry"]))
        return loss_of(net.apply(weights, batch["dry"], batch["raw"]), wet)

    return loss


def batches(
    setting: Setting, effect: chain.Effect, sources: Sequence[np.ndarray], seed: int
) -> Callable[[int], dict[str, np.ndarray]]:
    """Return a function from position to batch, never the same twice."""
    shape, controls = (setting.batch, setting.n_samples), len(effect.controls)
    return lambda position: data.batch((seed, position), sources, shape, controls, config.NOISES)


def trained(
    name: str, setting: Setting, folder: Path, sources: Sequence[np.ndarray], seed: int = config.SEED
) -> proxies.Proxy:
    """Train a proxy, going on where an earlier run in the folder was stopped.

    The folder keeps `checkpoints` and `metrics.jsonl`.
    """
    effect = proxies.EFFECTS[name.split("-")[0]]
    net = proxies.KINDS[setting.kind](**setting.sizes)
    make = batches(setting, effect, sources, seed)
    first = make(0)
    weights = jax.jit(net.init)(jax.random.key(seed), first["dry"][:1], first["raw"][:1])
    optimizer = make_optimizer(setting)
    step = make_train_step(make_loss(net, effect), optimizer, clip_norm=config.CLIP_NORM)
    state = init_state(weights, optimizer, key=jax.random.key(seed + 1))
    settings = {"name": name, "setting": setting._asdict(), "seed": seed, "sources": len(sources)}
    with Checkpoints(folder / "checkpoints", config=settings, keep_last=1, keep_best=0) as checkpoints:
        state = checkpoints.restore(state) or state
        done = fit.position(state)
        with logging.track(
            logging.progress(setting.steps, start=done),
            logging.open_metrics(folder / "metrics.jsonl", after=done),
        ) as on_record:
            fitted = fit.fit(
                parallel.single(step),
                state,
                make,
                setting.steps,
                log_every=min(config.LOG_EVERY, setting.steps),
                save_every=min(config.SAVE_EVERY, setting.steps),
                checkpoints=checkpoints,
                on_record=on_record,
            )
    return proxies.Proxy(net, jax.tree.map(np.asarray, fitted.state.params), effect.controls)


def make_optimizer(setting: Setting) -> optax.GradientTransformation:
    """Return Adam whose rate rises for a while and falls to nothing along a cosine."""
    warm_up = min(config.WARM_UP, setting.steps // 5)
    return optax.adam(
        optax.warmup_cosine_decay_schedule(0.0, setting.rate, warm_up, setting.steps, 0.01 * setting.rate)
    )
