"""The task, the network's training and its tests: Steinmetz et al. 2022, sections 4 and 5, on two CPU cores.

A clip has two halves. Both go through the same equaliser and compressor, of random settings. The network is
given the first half as it was and the second as it became, and has to set the effects so that the first half
becomes what it became: nobody has to say what the settings were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.style_transfer import config, data
from jaxapf import losses, params
from jaxapf.effects import equalizer, gradients
from jaxapf.effects.style import network
from jaxapf.training import fit, parallel
from jaxapf.training.checkpoint import Checkpoints
from jaxapf.training.step import LossFn, TrainState, init_state, make_train_step

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
    raw = jax.random.uniform(of_settings, (n, len(network.CONTROLS)), minval=-1, maxval=1)
    control = network.CONTROLS[network.MAKEUP]
    unmade = raw.at[:, network.MAKEUP].set(params.normalise(jnp.zeros((1,)), [control])[0])
    dry = halves.reshape(n, 2 * half)
    wet = network.process(unmade, dry, network.FS)
    change_db = config.LEVEL_CHANGE_DB * jax.random.uniform(of_level, (n,), minval=-1, maxval=1)
    makeup_db = jnp.clip(network.level_db(dry) - network.level_db(wet) + change_db, control.low, control.high)
    raw = raw.at[:, network.MAKEUP].set(params.normalise(makeup_db[:, None], [control])[:, 0])
    wet = wet * 10 ** (makeup_db[:, None] / 20)
    return Task(dry[:, :half], wet[:, half:], wet[:, :half], raw)


def distance(pred: jax.Array, target: jax.Array) -> jax.Array:
    """MAE + MR-STFT: seed 004."""
    return losses.mae(pred, target) + losses.mrstft(pred, target, resolutions=config.RESOLUTIONS)


def loss_of(route: gradients.Strategy, colour: float = 0.0) -> LossFn:
    """The loss of a batch of clips (n, 2, half), with random settings by the step's key."""

    def loss_fn(weights: Tree, halves: jax.Array, key: jax.Array) -> jax.Array:
        settings, of_route, of_part, of_colour = jax.random.split(key, 4)
        one = task(settings, coloured(of_colour, halves, colour) if colour else halves)
        raw = _choices(weights, one, route.apply)
        y, _ = network.match_level(
            raw, one.given, one.reference, lambda raw, given: route.render(raw, given, of_route)
        )
        return distance(*_part(of_part, y, one.target))

    return loss_fn


def coloured(key: jax.Array, halves: jax.Array, share: float) -> jax.Array:
    """Clips through a random equaliser, its gains up to a share of their range, their levels kept.

    Few recordings are soon known by their spectra, and what the effects did to them could be told without
    listening to the input. Coloured anew each time they are not.
    """
    n, _, half = halves.shape
    raw = jax.random.uniform(key, (n, network.N_EQUALIZER), minval=-1, maxval=1)
    raw = raw.at[:, ::3].multiply(share)  # the gains
    controls = equalizer.packed(params.denormalise(raw, params.EQUALIZER))
    dry = halves.reshape(n, 2 * half)
    y = equalizer.equalizer(controls, equalizer.initial_state((n,)), dry, network.FS)[0].reshape(halves.shape)
    return y * 10 ** ((network.level_db(halves) - network.level_db(y))[..., None] / 20)


def _choices(weights: Tree, one: Task, play: gradients.Apply) -> jax.Array:
    """Of one half of the examples the first choice, of the others the second: both are trained."""
    middle = len(one.given) // 2
    first, then = (
        network.predict(config.DESIGN, weights, one.given[rows], one.reference[rows], play, passes)
        for rows, passes in ((slice(middle), 1), (slice(middle, None), 2))
    )
    return jnp.concatenate([first, then])


def _part(key: jax.Array, *signals: jax.Array) -> Iterator[jax.Array]:
    """The same random half second of signals (n, half): the loss is a good part of a step's time."""
    half = signals[0].shape[-1]
    length = min(half, config.LOSS_SAMPLES)
    start = jax.random.randint(key, (), 0, half - length + 1)
    yield from (jax.lax.dynamic_slice_in_dim(one, start, length, axis=-1) for one in signals)


def optimizer(steps: int) -> optax.GradientTransformation:
    """AdamW, its rate warmed up and falling along a cosine to nothing, and once more from `CYCLE` on."""
    first = min(steps, config.CYCLE)
    rate = _falling(config.RATE, first)
    if steps > first:
        rate = optax.join_schedules([rate, _falling(config.RATE_AGAIN, steps - first)], [first])
    return optax.adamw(rate, weight_decay=config.WEIGHT_DECAY)


def _falling(rate: float, steps: int) -> optax.Schedule:
    return optax.warmup_cosine_decay_schedule(0.0, rate, min(config.WARM_UP, steps // 2), steps)


def first_state(steps: int, seed: int) -> TrainState:
    """The state before the first step."""
    _, of_steps = jax.random.split(jax.random.key(seed))
    return init_state(_first_weights(seed), optimizer(steps), key=of_steps)


@lru_cache(maxsize=1)
def _first_weights(seed: int) -> Tree:
    """The same for all strategies, and made once."""
    of_weights, _ = jax.random.split(jax.random.key(seed))
    make = jax.jit(network.initial_weights, static_argnums=(0, 2))
    return make(config.DESIGN, of_weights, config.READER_STEPS)


def trained(
    route: gradients.Strategy,
    pool: data.Pool,
    batch: int,
    steps: int,
    seed: int,
    checkpoints: Checkpoints | None,
    progress: Callable[[dict[str, Any]], None],
) -> fit.Fitted:
    """Train a network from the seed's first weights, or from where its checkpoints end."""
    state = first_state(steps, seed)
    if checkpoints is not None:
        state = checkpoints.restore(state) or state
    loss_fn = loss_of(route, config.COLOUR[round(2 * pool.half / data.FS, 2)])
    step = make_train_step(loss_fn, optimizer(steps), clip_norm=config.CLIP)
    return fit.fit(
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


def answers(weights: Tree, play: gradients.Apply, examples: Task, passes: int = config.PASSES) -> Answers:
    """Apply a network to test examples, 12 at a time."""
    some = _answering(play, passes)
    parts = [
        some(weights, examples.given[at : at + 12], examples.reference[at : at + 12])
        for at in range(0, len(examples.given), 12)
    ]
    return Answers(*(np.concatenate([np.asarray(part[i]) for part in parts]) for i in range(2)))


@lru_cache(maxsize=8)
def _answering(play: gradients.Apply, passes: int) -> Any:
    """One program for all networks that play through the same effects."""

    @jax.jit
    def some(weights: Tree, given: jax.Array, reference: jax.Array) -> tuple[jax.Array, jax.Array]:
        raw = network.predict(config.DESIGN, weights, given, reference, play, passes)
        return network.match_level(raw, given, reference, play)

    return some
