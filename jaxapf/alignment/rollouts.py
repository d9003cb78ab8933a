"""The value function of matching pursuit: its input, and its training by rollouts.

What a section is worth *in the end* can be found out: place it, place the others after it, and see. Each pair
is rolled out many times at once, each time with one section that is not the best by the network's own value,
at a random round; from there on what was reached is the value of every placed section.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxapf.alignment import matching_pursuit
from jaxapf.alignment.dictionary import gains
from jaxapf.alignment.features import Features, cross_phase, random_rotation
from jaxapf.alignment.matching_pursuit import PartialCascade, Problem, ValueFunction

__all__ = ["CHANNELS", "Rollout", "final_share", "make_loss", "network_input", "rollout", "value_function"]

CHANNELS = 7  # of the network's input
EXPLORED, TRIES = 4, 4  # rows rolled out again, and how often
CHOICES = 6  # atoms from which one is taken at random
SPREAD = 0.03  # rows that are further than this from the best of their pair count less
Tree = Any


def network_input(
    partial: PartialCascade, problem: Problem, residual: jax.Array, remaining: Any
) -> Float[Array, "n_rows 7 n_bands"]:
    """Return the residual's `cross_phase`, root of each band's share, share reached, sections to place."""
    total = problem.total[partial.row]
    phase = cross_phase(Features(problem.omega, residual, total))
    amplitude = jnp.sqrt(total * total.shape[-1])
    reached = jnp.broadcast_to(partial.reached[:, None], total.shape)
    to_place = jnp.full_like(total, remaining / 6)
    return jnp.concatenate([phase, jnp.stack([amplitude, reached, to_place], axis=1)], axis=1)


def value_function(net: Any, weights: Tree) -> ValueFunction:
    """Return a network as a value function: what is reached at once, and a share of what is missing."""

    def value(partial: PartialCascade, problem: Problem, reached: jax.Array, remaining: Any) -> jax.Array:
        residual = matching_pursuit.residual(partial, problem)
        return final_share(net.apply(weights, network_input(partial, problem, residual, remaining)), reached)

    return value


def final_share(outputs: Any, reached: jax.Array) -> jax.Array:
    """Return the share of the bound reached in the end, by outputs in (0, 1) and what is reached at once."""
    return reached + (1 - reached) * outputs


class Rollout(NamedTuple):
    """Rounds (n_rounds, n_rows, ...) of placing sections."""

    inputs: Any  # of the network
    atom: Any
    reached: Any
    counts: Any  # from the round on in which the row departs from the network's choice


def rollout(
    value: Callable[[jax.Array, jax.Array], jax.Array], problem: Problem, n_sections: int, key: jax.Array
) -> tuple[Rollout, jax.Array]:
    """Roll out all rows, promising ones several times; return the rounds and the share each row reached."""
    start, dictionary = matching_pursuit.empty(problem, n_sections), matching_pursuit.atoms(problem)

    def looked(partial: PartialCascade, index: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
        residual = matching_pursuit.residual(partial, problem)
        return network_input(partial, problem, residual, n_sections - index), *gains(dictionary, residual)

    first = value(*looked(start, 0)[:2])
    promising = jax.lax.top_k(jnp.max(first, axis=1), min(EXPLORED, len(first)))[1]
    rows = jnp.concatenate([start.row, jnp.tile(promising, TRIES)])
    begin = jax.tree.map(lambda field: field[rows], start)
    where, what = jax.random.split(key)
    departs = jax.random.randint(where, (len(rows),), 0, n_sections)
    departs = jnp.where(jnp.arange(len(rows)) < len(start.row), -1, departs)
    indices, everyone = jnp.arange(n_sections), jnp.arange(len(rows))

    def round_(partial: PartialCascade, index: Any) -> tuple[PartialCascade, Rollout]:
        inputs, reached, shifts = looked(partial, index)
        choices = matching_pursuit.distinct(value(inputs, reached), CHOICES)
        other = jax.random.randint(jax.random.fold_in(what, index), (len(rows),), 0, CHOICES)
        choice = jnp.where(departs == index, other, 0)
        atom = jnp.take_along_axis(choices, choice[:, None], axis=1)[:, 0]
        extended = matching_pursuit.extend(partial, problem, dictionary, atom, shifts[everyone, atom], index)
        refined = matching_pursuit.refine(extended, problem, indices <= index)
        return refined, Rollout(inputs, atom, reached[everyone, atom], index >= departs)

    partial, rounds = jax.lax.scan(round_, begin, indices)
    return rounds, partial.reached


def make_loss(net: Any, omega: Any, fs: float, n_sections: int) -> Any:
    """Make the loss of a value function: its squared distance from what rollouts reached."""
    bands = jnp.asarray(omega)

    def loss_fn(weights: Tree, batch: Tree, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        rotation, trial = jax.random.split(key)
        cross = random_rotation(batch["cross"], bands, fs, rotation)
        fixed = jax.lax.stop_gradient(weights)

        def one(cross: jax.Array, total: jax.Array, key: jax.Array) -> tuple[Rollout, jax.Array]:
            problem = matching_pursuit.make_problem(Features(bands, cross, total), fs)
            return rollout(
                lambda x, reached: final_share(net.apply(fixed, x), reached), problem, n_sections, key
            )

        rounds, reached = jax.lax.stop_gradient(
            jax.vmap(one)(cross, batch["total"], jax.random.split(trial, len(cross)))
        )
        outputs = net.apply(weights, rounds.inputs)
        predicted = jnp.take_along_axis(outputs, rounds.atom[..., None], axis=-1)[..., 0]
        error = final_share(predicted, rounds.reached) - reached[:, None]
        best = jnp.max(reached, axis=-1, keepdims=True)
        weight = jnp.where(rounds.counts, 0.05 + jnp.exp((reached - best) / SPREAD)[:, None], 0.0)
        loss = jnp.sum(weight * error**2) / jnp.sum(weight)
        own = reached[:, : 2 * cross.shape[1]]
        return loss, {"reached": jnp.mean(jnp.max(own, axis=1)), "tried": jnp.mean(best)}

    return loss_fn
