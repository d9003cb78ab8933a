"""The task, the network's training and its tests: Steinmetz et al. 2022, sections 4 and 5, on two CPU cores.

A clip has two halves. Both go through the same equaliser and compressor, of random settings. The network is
given the first half as it was and the second as it became, and has to set the effects so that the first half
becomes what it became: nobody has to say what the settings were.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import config
import data
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxapf import gradients, loop, losses, parallel, params, style, train
from jaxapf.checkpoint import Checkpoints

MAKEUP = next(i for i, one in enumerate(style.CONTROLS) if one.name == "compressor.makeup_db")
Tree = Any


class Task(NamedTuple):
    """Examples: ``given``, ``reference`` and ``target`` (n, half) each, and the ``raw`` settings (n, 24)."""

    given: jax.Array
    reference: jax.Array
    target: jax.Array
    raw: jax.Array


def task(key: jax.Array, halves: jax.Array) -> Task:
    """Random settings for clips (n, 2, half), drawn evenly from the raw range of each control.

    But for the make-up gain: it is what changes the level by an even random share of `LEVEL_CHANGE_DB`, as
    far as its range goes. Drawn by itself it would make most examples mainly louder or softer.
    """
    of_settings, of_level = jax.random.split(key)
    n, _, half = halves.shape
    raw = jax.random.uniform(of_settings, (n, len(style.CONTROLS)), minval=-1, maxval=1)
    control = style.CONTROLS[MAKEUP]
    unmade = raw.at[:, MAKEUP].set(params.normalise(jnp.zeros((1,)), [control])[0])
    dry = halves.reshape(n, 2 * half)
    wet = style.play(unmade, dry, style.FS)
    change_db = config.LEVEL_CHANGE_DB * jax.random.uniform(of_level, (n,), minval=-1, maxval=1)
    makeup_db = jnp.clip(_level_db(dry) - _level_db(wet) + change_db, control.low, control.high)
    raw = raw.at[:, MAKEUP].set(params.normalise(makeup_db[:, None], [control])[:, 0])
    wet = wet * 10 ** (makeup_db[:, None] / 20)
    return Task(dry[:, :half], wet[:, half:], wet[:, :half], raw)


def _level_db(x: jax.Array) -> jax.Array:
    return 10 * jnp.log10(jnp.maximum(jnp.mean(x**2, axis=-1), 1e-10))


def distance(pred: jax.Array, target: jax.Array) -> jax.Array:
    """MAE + MR-STFT: seed 004."""
    return losses.mae(pred, target) + losses.mrstft(pred, target, resolutions=config.RESOLUTIONS)


def loss_of(route: gradients.Route) -> train.LossFn:
    """The loss of a batch of clips (n, 2, half), with random settings by the step's key."""
    net = style.make_net(config.DESIGN)

    def loss_fn(weights: Tree, halves: jax.Array, key: jax.Array) -> jax.Array:
        settings, of_route = jax.random.split(key)
        one = task(settings, halves)
        raw: Any = net.apply(weights, style.hear(one.given), style.hear(one.reference))
        return distance(route.render(raw, one.given, of_route), one.target)

    return loss_fn


def optimizer(steps: int) -> optax.GradientTransformation:
    """AdamW, warmed up, falling along a cosine to nothing."""
    warm_up = min(config.WARM_UP, steps // 2)
    rate = optax.warmup_cosine_decay_schedule(0.0, config.RATE, warm_up, steps)
    return optax.adamw(rate, weight_decay=config.WEIGHT_DECAY)


def first_state(steps: int, seed: int) -> train.TrainState:
    """The state before the first step."""
    of_weights, of_steps = jax.random.split(jax.random.key(seed))
    silence = jnp.zeros((1, style.MELS, 4))
    weights = style.make_net(config.DESIGN).init(of_weights, silence, silence)
    return train.init_state(weights, optimizer(steps), key=of_steps)


def trained(
    route: gradients.Route,
    pool: data.Pool,
    batch: int,
    steps: int,
    seed: int,
    checkpoints: Checkpoints | None,
    progress: Callable[[dict[str, Any]], None],
) -> loop.Fitted:
    """Train a network from the seed's first weights, or from where its checkpoints end."""
    state = first_state(steps, seed)
    if checkpoints is not None:
        state = checkpoints.restore(state) or state
    step = train.make_train_step(loss_of(route), optimizer(steps), clip_norm=config.CLIP)
    return loop.fit(
        parallel.single(step),
        state,
        lambda at: data.clips(pool, batch, (seed, at), data.TRAINING).halves,
        steps,
        log_every=min(50, steps),
        save_every=min(250, steps) if steps % 50 == 0 else None,
        checkpoints=checkpoints,
        on_record=progress,
    )


class Answers(NamedTuple):
    """What a network makes of test examples: the sound (n, half) and the raw settings (n, 24)."""

    sound: np.ndarray
    raw: np.ndarray


def test_task(sources: list[data.Source], seconds: float) -> tuple[Task, list[str]]:
    """The test examples of a length, and the names of their recordings."""
    clips = data.fixed_clips(sources, seconds, config.TEST_CLIPS[seconds], config.TEST_SEED)
    return jax.jit(task)(jax.random.key(config.TEST_SEED), clips.halves), clips.names


def answers(weights: Tree, play: gradients.Play, examples: Task) -> Answers:
    """Apply a network to test examples, 12 at a time."""
    net = style.make_net(config.DESIGN)

    @jax.jit
    def some(given: jax.Array, reference: jax.Array) -> tuple[jax.Array, jax.Array]:
        raw: Any = net.apply(weights, style.hear(given), style.hear(reference))
        return play(raw, given), raw

    parts = [
        some(examples.given[at : at + 12], examples.reference[at : at + 12])
        for at in range(0, len(examples.given), 12)
    ]
    return Answers(*(np.concatenate([np.asarray(part[i]) for part in parts]) for i in range(2)))
