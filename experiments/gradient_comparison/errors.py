"""How far a form's output and gradient are from the truth: the exact recursion in float64."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.runner import Row
from experiments.gradient_comparison.forms import Form


class Signals(NamedTuple):
    """Of every draw, (n_draws, n_samples) each: what is filtered, and what should come out."""

    x: np.ndarray
    target: np.ndarray


class Found(NamedTuple):
    """Of every draw: output (n_draws, n_samples), loss (n_draws,), gradient (n_draws, n_controls)."""

    y: np.ndarray
    loss: np.ndarray
    gradient: np.ndarray


def measured(form: Form, given: Any, learnt: Any, signals: Signals, dtype: Any) -> Found:
    """Output, mean squared error and its gradient by what is learnt, for many draws at once.

    Args:
        form: (given, learnt, x (n_samples,)) -> y, of one draw.
        given: pytree of (n_draws, ...) arrays.
        learnt: pytree of (n_draws, n_controls) arrays.
        signals: of every draw.
        dtype: what all of it is computed in.
    """
    inputs = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), (learnt, given, *signals))
    (loss, y), gradient = _function(form)(*inputs)
    for leaf in (y, *jax.tree.leaves(gradient)):
        assert leaf.dtype == dtype, (leaf.dtype, dtype)
    flat = np.concatenate([np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(gradient)], axis=-1)
    return Found(np.asarray(y, np.float64), np.asarray(loss, np.float64), flat)


@functools.cache
def _function(form: Form) -> Callable[..., Any]:
    def loss(learnt: Any, given: Any, x: jax.Array, target: jax.Array) -> tuple[jax.Array, jax.Array]:
        y = form(given, learnt, x)
        return jnp.mean((y - target) ** 2), y

    return jax.jit(jax.vmap(jax.value_and_grad(loss, has_aux=True)))


def compared(found: Found, truth: Found, x: np.ndarray) -> Row:
    """Relative errors of output, loss and gradient, and the cosine between gradients.

    Args:
        found: by some form.
        truth: by the recursion.
        x: (n_draws, n_samples), what was filtered.

    Returns:
        The median over the draws; of the gradient also the largest error and the smallest cosine. *Effect* is
        the output's error relative to what the filter does, y - x: at 1, leaving it out is as good.
    """
    value = _relative(found.y, truth.y)
    gradient = _relative(found.gradient, truth.gradient)
    cosine = _cosine(found.gradient, truth.gradient)
    return {
        "value": float(np.median(value)),
        "effect": float(np.median(_relative(found.y - x, truth.y - x))),
        "loss": float(np.median(np.abs(found.loss - truth.loss) / truth.loss)),
        "gradient": float(np.median(gradient)),
        "gradient, worst": float(np.max(gradient)),
        "cosine": float(np.median(cosine)),
        "cosine, worst": float(np.min(cosine)),
    }


def _relative(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return np.linalg.norm(found - truth, axis=-1) / np.linalg.norm(truth, axis=-1)


def _cosine(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return np.sum(found * truth, axis=-1) / (np.linalg.norm(found, axis=-1) * np.linalg.norm(truth, axis=-1))
