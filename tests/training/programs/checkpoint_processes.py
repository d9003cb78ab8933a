"""Several processes share checkpoints: `python checkpoint_processes.py FOLDER COORDINATOR COUNT INDEX`."""

import sys
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxapf.training import steps
from jaxapf.training.checkpoint import CheckpointError, Checkpoints, DamagedCheckpointWarning

ROWS = np.arange(24, dtype=np.float32).reshape(8, 3)


def state_at(step, mesh):
    """A state with a replicated and a sharded array, a key and a step, on all devices of all processes."""

    def put(array, *axes):
        sharding = NamedSharding(mesh, PartitionSpec(*axes))
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    key = jax.random.wrap_key_data(put(np.array([7, step], np.uint32)), impl="threefry2x32")
    return {
        "params": put(ROWS * step),
        "rows": put(ROWS + step, "data"),
        "key": key,
        "step": put(np.int32(step)),
    }


def check(got, expected):
    for name, leaf in expected.items():
        assert got[name].sharding == leaf.sharding, name
        key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        a, b = (jax.random.key_data(got[name]), jax.random.key_data(leaf)) if key else (got[name], leaf)
        for mine, other in zip(a.addressable_shards, b.addressable_shards, strict=True):
            assert np.array_equal(mine.data, other.data), name


def restored_for_second_process_damaged(checkpoints, like):
    """Restore while the second process alone finds the newest step damaged."""
    load, newest = steps.load_step, max(checkpoints.steps())

    def load_or_not(folder, step, expected):
        if jax.process_index() == 1 and step == newest:
            raise steps.Damaged("only here")
        return load(folder, step, expected)

    steps.load_step = load_or_not
    try:
        return restored_with_warning(checkpoints, like)
    finally:
        steps.load_step = load


def restored_with_warning(checkpoints, like):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        state = checkpoints.restore(like)
    assert [warning.category for warning in caught] == [DamagedCheckpointWarning]
    return state


def damage(folder, step):
    if jax.process_index() == 0:
        for file in (Path(folder) / str(step) / "state").rglob("*"):
            if file.is_file():
                file.write_bytes(file.read_bytes()[:-1])
    multihost_utils.sync_global_devices("damaged")


def refusal(function, *args):
    try:
        function(*args)
    except CheckpointError as error:
        return str(error)
    raise AssertionError("not refused")


def main(folder):
    mesh = Mesh(np.array(jax.devices()), ("data",))
    with Checkpoints(folder, config={"a": 1}) as checkpoints:
        assert checkpoints.restore(state_at(0, mesh)) is None
        for step in (1, 2, 3):
            checkpoints.save(state_at(step, mesh), {"loss": abs(step - 2)})
        check(checkpoints.restore(state_at(0, mesh)), state_at(3, mesh))
        check(checkpoints.restore_best(state_at(0, mesh)), state_at(2, mesh))
        assert checkpoints.steps() == [2, 3]
    damage(folder, 3)
    with Checkpoints(folder, config={"a": 1}) as checkpoints:
        other = {**state_at(0, mesh), "params": np.zeros(2)}
        assert "'params' is float32 (8, 3)" in refusal(checkpoints.restore, other)
        check(restored_with_warning(checkpoints, state_at(0, mesh)), state_at(2, mesh))
        checkpoints.save(state_at(3, mesh), {"loss": 1.0})
        check(checkpoints.restore(state_at(0, mesh)), state_at(3, mesh))
        mine_alone = other if jax.process_index() == 1 else state_at(0, mesh)
        told = ("another process refused", "'params' is float32")[jax.process_index()]
        assert told in refusal(checkpoints.restore, mine_alone)
        check(restored_for_second_process_damaged(checkpoints, state_at(0, mesh)), state_at(2, mesh))
        checkpoints.save(state_at(3, mesh), {"loss": 1.0})


if __name__ == "__main__":
    folder, coordinator, count, index = sys.argv[1:]
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(coordinator, int(count), int(index))
    main(folder)
    print("whole")
