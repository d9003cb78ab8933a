"""Saves from eight virtual devices, restores onto fewer: `python checkpoint_devices.py FOLDER`."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

import jax
import jax.numpy as jnp
import numpy as np
from checkpoint_states import compilations, restored
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from jaxapf.training.checkpoint import Checkpoints

VALUES = np.random.default_rng(0).standard_normal((16, 6)).astype(np.float32)


def placed(replicated, sharded):
    """A state of one replicated, one sharded, one half-precision array, a key and keys, a step."""
    put = jax.device_put
    return {
        "params": put(VALUES, replicated),
        "rows": put(VALUES, sharded),
        "half": put(jnp.asarray(VALUES, jnp.bfloat16), sharded),
        "key": put(jax.random.key(5), replicated),
        "keys": put(jax.random.split(jax.random.key(6, impl="rbg"), 8), sharded),
        "step": put(jnp.int32(3), replicated),
    }


def on_mesh(*shape):
    mesh = Mesh(np.array(jax.devices()[: np.prod(shape)]).reshape(shape), ("data", "model")[: len(shape)])
    axes = PartitionSpec("data") if len(shape) == 1 else PartitionSpec(("data", "model"))
    return placed(NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, axes))


def host(leaf):
    return np.asarray(jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf)


def check(got, like):
    for name, leaf in like.items():
        assert np.array_equal(host(got[name]), host(leaf)), name
        assert got[name].sharding == leaf.sharding, name
        assert got[name].committed == leaf.committed, name


def advance(state):
    return {
        **state,
        "params": 2 * state["params"],
        "rows": state["rows"] - 1,
        "step": state["step"] + jnp.int32(1),
    }


def main(folder):
    saved = on_mesh(8)
    one = SingleDeviceSharding(jax.devices()[5])
    states = [saved, on_mesh(4), on_mesh(2, 2), on_mesh(2), placed(one, one)]
    step = jax.jit(advance, donate_argnums=0)
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(saved)
        for like in states:
            check(checkpoints.restore(like), like)
            shapes = {
                name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
                for name, leaf in like.items()
            }
            check(checkpoints.restore(shapes), like)
            assert np.array_equal(host(step(restored(checkpoints, like))["params"]), 2 * VALUES)
            compiled = compilations(step)
            step(jax.tree.map(jnp.copy, like))
            assert compilations(step) == compiled
        per_device = jax.pmap(lambda key: (jax.random.fold_in(key, 1), jnp.ones(3)))(saved["keys"])
        checkpoints.save({"stacked": per_device}, step=4)
        again = restored(checkpoints, {"stacked": per_device})["stacked"]
        assert all(a.sharding == b.sharding for a, b in zip(again, per_device, strict=True))
        assert np.array_equal(host(again[0]), host(per_device[0]))


if __name__ == "__main__":
    main(sys.argv[1])
    print("whole")
