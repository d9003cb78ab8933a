"""States to keep, and what is compared of them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxapf.training.checkpoint import CheckpointError, Checkpoints

CONFIG = {"model": {"order": 8, "taps": [1, 2]}, "lr": 0.1, "wet": True}


class State(NamedTuple):
    """A training state like that of jaxapf.training.step, which is none of this file's business."""

    step: Any
    params: Any
    opt_state: Any
    key: Any


def state_at(step):
    """A state whose every leaf depends on the step."""
    rng = np.random.default_rng(step)
    kernel = jnp.asarray(rng.standard_normal((5, 3)), jnp.float32)
    params = {"dense_0": {"kernel": kernel, "bias": jnp.full(3, step, jnp.bfloat16)}}
    opt_state = jax.tree.map(lambda leaf: leaf + leaf.dtype.type(step), optax.adam(1e-3).init(params))
    return State(jnp.int32(step), params, opt_state, jax.random.key(step))


def bits(leaf):
    data = jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
    return np.asarray(data).tobytes()


def assert_same(got, expected):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert (one.shape, one.dtype, bits(one)) == (other.shape, other.dtype, bits(other))


def filled(folder, *steps, **options):
    with Checkpoints(folder, config=CONFIG, **options) as checkpoints:
        for step in steps:
            checkpoints.save(state_at(step), {"loss": 1 / step})
    return folder


def restored(checkpoints, like):
    state = checkpoints.restore(like)
    assert state is not None
    return state


def compilations(jitted):
    return jitted._cache_size()


def files_of(step_folder):
    return sorted(entry for entry in step_folder.rglob("*") if entry.is_file())


def names_in(folder):
    return sorted(entry.name for entry in folder.iterdir())


def cause(function, *args, **options):
    with pytest.raises(CheckpointError) as caught:
        function(*args, **options)
    return str(caught.value)
