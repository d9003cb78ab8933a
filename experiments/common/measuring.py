"""Time and memory of a call, as the experiments measure them."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

SEED = 0  # of the order of turns
STATUS = pathlib.Path("/proc/self/status")
RESET = pathlib.Path("/proc/self/clear_refs")


class Timing(NamedTuple):
    """Seconds of the fastest and of the median repeat, their number, and what the first call took beyond."""

    fastest: float
    median: float
    repeats: int
    first_extra: float


def interleaved(
    calls: dict[str, Callable[[], Any]], rounds: tuple[int, int], seconds: float
) -> dict[str, Timing]:
    """Time functions against each other: each once a round, in an order drawn anew for every round.

    A disturbance then falls on all of them, and none always runs in the wake of the same other.

    Args:
        calls: name -> call; its result is waited for.
        rounds: each is repeated `rounds[0]` times at least and `rounds[1]` times at most.
        seconds: in between, each is repeated until its calls have taken this long.
    """
    first = {name: timed(call) for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    rng = np.random.default_rng(SEED)
    waiting = list(calls)
    while waiting:
        for index in rng.permutation(len(waiting)):
            times[waiting[index]].append(timed(calls[waiting[index]]))
        waiting = [
            name
            for name in waiting
            if len(times[name]) < rounds[0] or (len(times[name]) < rounds[1] and sum(times[name]) < seconds)
        ]
    return {
        name: Timing(min(found), float(np.median(found)), len(found), max(0.0, first[name] - min(found)))
        for name, found in times.items()
    }


def timed(call: Callable[[], Any]) -> float:
    """Return the seconds from a call to its result."""
    started = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - started


def float64() -> Any:
    """Return JAX's context manager for float64, under the name that this JAX has it."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    from jax import experimental

    return experimental.enable_x64(True)  # pyright: ignore[reportAttributeAccessIssue]


def growth_on_host(run: Callable[[], Any]) -> int | None:
    """Return the bytes by which resident memory rose at most during a call; None without Linux's /proc."""
    try:
        RESET.write_text("5")  # the high-water mark falls to what is resident now
        before = resident("VmRSS")
        run()
        return resident("VmHWM") - before
    except OSError:
        return None


def resident(field: str) -> int:
    """Return a memory figure of this process in bytes."""
    found = re.search(rf"{field}:\s+(\d+) kB", STATUS.read_text())
    if found is None:
        raise OSError(f"{STATUS} has no {field}")
    return int(found[1]) * 1024


def growth_on_device(run: Callable[[], Any]) -> int | None:
    """Return the bytes by which the device's memory in use rose at its highest; None where unknown."""
    # There is no resetting the peak: but nothing before, in this process, used more than the arguments.
    device = jax.devices()[0]
    before = device.memory_stats()
    run()
    after = device.memory_stats()
    return after["peak_bytes_in_use"] - before["bytes_in_use"] if before and after else None


def planned(compiled: Any) -> int | None:
    """Return temporary and output memory of a compiled function in bytes, as its compiler counts it."""
    analysis = compiled.memory_analysis()
    return analysis and analysis.temp_size_in_bytes + analysis.output_size_in_bytes


def footprint(function: Callable[..., Any], *arguments: Any) -> dict[str, int | None]:
    """Compile a function and run it once under watch: bytes of its input, planned and measured.

    The last two are None where XLA or the system does not measure it. Memory that the process has used
    before is taken from there, and not seen: measure once a process.
    """
    arguments = jax.block_until_ready(arguments)
    compiled = jax.jit(function).lower(*arguments).compile()
    growth = growth_on_host if jax.default_backend() == "cpu" else growth_on_device
    return {
        "input": sum(leaf.nbytes for leaf in jax.tree.leaves(arguments)),
        "planned": planned(compiled),
        "measured": growth(lambda: jax.block_until_ready(compiled(*arguments))),
    }


def printed_by(module: str, *arguments: Any) -> Any:
    """Return what a module prints as JSON in a process of its own, which compiles anew.

    Raises:
        RuntimeError: it failed.
    """
    environment = os.environ | {
        "JAX_ENABLE_COMPILATION_CACHE": "false",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} exited with {done.returncode}: {done.stderr.strip()}")
    return json.loads(done.stdout)
