"""Plans: on one device here; on eight virtual devices in a process that has them (eight_devices.py)."""

import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh

from jaxapf.training import parallel
from jaxapf.training.step import init_state, make_train_step

EIGHT = pathlib.Path(__file__).with_name("eight_devices.py")


@pytest.mark.parametrize("which", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_on_eight_devices(which):
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        "-n",
        "0",
        "-m",
        which,
        str(EIGHT),
    ]
    done = subprocess.run(
        command,
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-6000:]


def loss_fn(params, batch, key):
    return jnp.mean((params - batch) ** 2)


@pytest.mark.parametrize("plan", [parallel.single, parallel.mesh, parallel.pmap])
def test_the_callers_arrays_outlive_the_donated_state(plan):
    made = plan(make_train_step(loss_fn, optax.adam(0.1)))
    state = init_state(jnp.zeros(()), optax.adam(0.1), key=jax.random.key(0))
    batch = np.ones(jax.local_device_count() * 2, np.float32)
    first, _ = made.step(made.put_state(state), made.put_batch(batch))
    again, _ = made.step(made.put_state(state), made.put_batch(batch))
    assert float(state.params) == 0
    assert float(made.get_state(first).params) == float(made.get_state(again).params) > 0


def test_the_step_takes_the_memory_of_the_state():
    made = parallel.single(make_train_step(loss_fn, optax.adam(0.1)))
    placed = made.put_state(init_state(jnp.zeros((64, 64)), optax.adam(0.1), key=jax.random.key(0)))
    made.step(placed, jnp.ones((64, 64)))
    assert placed.params.is_deleted()


def test_a_mesh_of_two_axes_is_refused():
    devices = Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ("a", "b"))
    with pytest.raises(ValueError, match=r"devices is a mesh of axes \('a', 'b'\)"):
        parallel.mesh(make_train_step(loss_fn, optax.sgd(0.1)), devices)
