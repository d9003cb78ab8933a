"""What the placing network hears, and how it is trained: by playing out what it might do.

A network that says what a section is worth *in the end* can be told the truth: place it, place the others
after it, and see. Each pair is played out many times at once, each time with one section that is not the
best in the network's own opinion, at a random round; from there on what was reached is what every placed
section was worth.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxapf.alignment import matching_pursuit
from jaxapf.alignment.features import Heard, cross_phase, turned

CHANNELS = 7  # what the network hears of each band
EXPLORED, TRIES = 4, 4  # rows played out again, and how often
CHOICES = 6  # words from which one is taken at random
SPREAD = 0.03  # rows that are further than this from the best of their pair count less
Tree = Any


def heard_by(
    placed: matching_pursuit.Placed, scene: matching_pursuit.Scene, left: jax.Array, rounds: Any
) -> jax.Array:
    """What the network hears, (rows, CHANNELS, bands).

    `hearing.cross_phase` of the residual; the root of each band's share of the whole; what is reached; and
    how many sections are left to place.
    """
    total = scene.total[placed.row]
    phase = cross_phase(Heard(scene.omega, left, total))
    amplitude = jnp.sqrt(total * total.shape[-1])
    reached = jnp.broadcast_to(placed.reached[:, None], total.shape)
    to_go = jnp.full_like(total, rounds / 6)
    return jnp.concatenate([phase, jnp.stack([amplitude, reached, to_go], axis=1)], axis=1)


def judge_of(net: Any, weights: Tree) -> matching_pursuit.Judge:
    """A network as a judge: what is reached now, and a share of what is left."""

    def judge(
        placed: matching_pursuit.Placed, scene: matching_pursuit.Scene, gains: jax.Array, rounds: Any
    ) -> jax.Array:
        left = matching_pursuit.residual(placed, scene)
        return worth(net.apply(weights, heard_by(placed, scene, left, rounds)), gains)

    return judge


def worth(outputs: Any, gains: jax.Array) -> jax.Array:
    """The share of the bound reached in the end, from outputs in (0, 1) and the share reached at once."""
    return gains + (1 - gains) * outputs


class Played(NamedTuple):
    """Rounds of play-outs, (rounds, rows, ...): ``heard``, ``word``, its ``gain``; ``counts`` where true."""

    heard: Any
    word: Any
    gain: Any
    counts: Any


def play_out(
    judge_heard: Callable[[jax.Array, jax.Array], jax.Array],
    scene: matching_pursuit.Scene,
    sections: int,
    key: jax.Array,
) -> tuple[Played, jax.Array]:
    """Play all rows of a scene out, the most promising ones several times.

    Args:
        judge_heard: what words are worth, from what is heard and their gains.
        scene: of `placing.scene_of`.
        sections: rounds.
        key: of what is tried.

    Returns:
        What was played, and what each row reached in the end.
    """
    nothing, words = matching_pursuit.nothing_placed(scene, sections), matching_pursuit.make_dictionary(scene)
    heard = heard_by(nothing, scene, matching_pursuit.residual(nothing, scene), sections)
    first = judge_heard(heard, matching_pursuit.gains(matching_pursuit.residual(nothing, scene), words)[0])
    promising = jax.lax.top_k(jnp.max(first, axis=1), min(EXPLORED, len(first)))[1]
    rows = jnp.concatenate([nothing.row, jnp.tile(promising, TRIES)])
    begin = jax.tree.map(lambda field: field[rows], nothing)
    where, what = jax.random.split(key)
    strays = jax.random.randint(where, (len(rows),), 0, sections)
    strays = jnp.where(jnp.arange(len(rows)) < len(nothing.row), -1, strays)
    indices = jnp.arange(sections)

    def round_(placed: matching_pursuit.Placed, index: Any) -> tuple[matching_pursuit.Placed, Played]:
        left = matching_pursuit.residual(placed, scene)
        heard = heard_by(placed, scene, left, sections - index)
        gains, change = matching_pursuit.gains(left, words)
        choices = matching_pursuit.distinct(judge_heard(heard, gains), CHOICES)
        other = jax.random.randint(jax.random.fold_in(what, index), (len(rows),), 0, CHOICES)
        taken = jnp.where(strays == index, other, 0)
        word = jnp.take_along_axis(choices, taken[:, None], axis=1)[:, 0]
        everyone = jnp.arange(len(rows))
        choice = matching_pursuit.Choice(everyone, word, change[everyone, word])
        grown = matching_pursuit.extend(placed, choice, scene, words, index)
        settled = matching_pursuit.settle(grown, scene, indices <= index)
        return settled, Played(heard, word, gains[everyone, word], index >= strays)

    placed, played = jax.lax.scan(round_, begin, indices)
    return played, placed.reached


def make_loss(net: Any, omega: Any, fs: float, sections: int) -> Any:
    """The loss that a placing network is trained by: how far it is from what play-outs reached.

    Args:
        net: from (..., CHANNELS, bands) to (..., placing.WORDS) in (0, 1).
        omega: (bands,), of `hearing.hear`.
        fs: sample rate in Hz.
        sections: of a cascade.

    Returns:
        A loss as `make_train_step` wants it; its batches are dicts of `cross` and `total` (examples,
        candidates, bands). Metric `reached`: the share of the bound that the network's own choices reach.
    """
    bands = jnp.asarray(omega)

    def loss_fn(weights: Tree, batch: Tree, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        colour, play = jax.random.split(key)
        cross = turned(batch["cross"], bands, fs, colour)
        still = jax.lax.stop_gradient(weights)

        def one(cross: jax.Array, total: jax.Array, key: jax.Array) -> tuple[Played, jax.Array]:
            scene = matching_pursuit.scene_of(Heard(bands, cross, total), fs)
            return play_out(lambda heard, gains: worth(net.apply(still, heard), gains), scene, sections, key)

        played, reached = jax.lax.stop_gradient(
            jax.vmap(one)(cross, batch["total"], jax.random.split(play, len(cross)))
        )
        outputs = net.apply(weights, played.heard)
        told = jnp.take_along_axis(outputs, played.word[..., None], axis=-1)[..., 0]
        error = worth(told, played.gain) - reached[:, None]
        best = jnp.max(reached, axis=-1, keepdims=True)
        weight = jnp.where(played.counts, 0.05 + jnp.exp((reached - best) / SPREAD)[:, None], 0.0)
        loss = jnp.sum(weight * error**2) / jnp.sum(weight)
        own = reached[:, : 2 * cross.shape[1]]
        return loss, {"reached": jnp.mean(jnp.max(own, axis=1)), "tried": jnp.mean(best)}

    return loss_fn
