"""Saves step after step until it is killed: `python checkpoint_killed.py FOLDER`.

Goes on from the newest checkpoint. Tells each step once its save has begun: the step before is on the disk.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np

from jaxapf.training.checkpoint import Checkpoints

SIZE = 5000
START = {"step": np.int32(0), "noise": np.arange(SIZE, dtype=np.uint32)}


def expected(step):
    """The state after so many steps, by NumPy: a linear congruential generator in each element."""
    noise = START["noise"]
    for _ in range(step):
        noise = noise * np.uint32(1664525) + np.uint32(1013904223)
    return {"step": np.int32(step), "noise": noise}


def advance(state):
    noise = state["noise"] * jnp.uint32(1664525) + jnp.uint32(1013904223)
    return {"step": state["step"] + jnp.int32(1), "noise": noise}


def main(folder):
    step = jax.jit(advance, donate_argnums=0)
    state = jax.tree.map(jnp.asarray, START)
    with Checkpoints(folder, config={"size": SIZE}) as checkpoints:
        state = checkpoints.restore(state) or state
        while True:
            state = step(state)
            checkpoints.save(state, {"loss": 1 / int(state["step"])})
            print(int(state["step"]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
