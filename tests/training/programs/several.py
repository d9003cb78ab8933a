"""Data-parallel training in several processes; test_distributed.py starts it, and kills it."""

import argparse
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from jaxapf.training import distributed

sys.path[:0] = [str(Path(__file__).parents[depth]) for depth in (1, 2)]


def main(args: argparse.Namespace) -> int:
    import jax
    import optax
    from problems import PROBLEMS

    from jaxapf.training import parallel
    from jaxapf.training.step import init_state, make_train_step

    problem = PROBLEMS[args.problem]()
    optimizer = optax.adam(1e-2)
    plan = parallel.mesh(make_train_step(problem.loss_fn, optimizer, clip_norm=1.0))
    state = plan.put_state(init_state(problem.params, optimizer, key=jax.random.key(0)))
    share = distributed.rows(args.batch)
    losses = []
    for number in range(args.steps):
        batch = jax.tree.map(lambda x, n=number: np.roll(x, n, axis=0)[share], problem.batch)
        state, metrics = plan.step(state, plan.put_batch(batch))
        losses.append(plan.get_metrics([metrics])[0]["loss"])
        if number == 4:
            print(f"worker {os.getpid()}", flush=True)
            go_wrong(args.then)
        if args.slow:
            time.sleep(0.01)
    if args.output:
        params = jax.tree.map(lambda leaf: np.asarray(leaf.addressable_data(0)), state.params)
        np.savez(args.output, losses=losses, **params)
    print(f"{jax.device_count()} devices, {jax.local_device_count()} here", flush=True)
    return args.code


def go_wrong(how: str) -> None:
    if how == "raise":
        raise ValueError("the data is broken")
    if how == "unportable":
        raise Unportable(1, 2)
    if how == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "write":
        os.write(2, b"from native code\n")
    if how == "wait":
        time.sleep(600)


class Unportable(Exception):
    def __init__(self, one, two):
        super().__init__("nothing can pickle this")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--problem", default="dense")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--slow", action="store_true")
    parser.add_argument("--then", default="go on")
    parser.add_argument("--output")
    parser.add_argument("--code", type=int, default=0)
    distributed.add_arguments(parser)
    sys.exit(distributed.run(main, parser.parse_args()))
