"""Measurements of the training layer, each with its goals."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.runner import Row, show_progress
from experiments.common.tables import goal, made_with, table, verdict
from experiments.training import config, workers
from jaxapf.training import checkpoint, logging

TIMES = ("seconds", "samples_per_s", "compile_s")


# Other processes


def environment(devices: int = 1) -> dict[str, str]:
    """The environment for a process with so many virtual CPU devices."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    return {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}


def worker(*words: str, devices: int = 1, native: bool = True) -> Any:
    """What a measurement of workers.py found."""
    command = [sys.executable, "-m", "experiments.training.workers", *words]
    variables = environment(devices) | ({} if native else {"JAXAPF_NATIVE": "0"})
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def training(folder: Path, *words: str) -> subprocess.Popen[str]:
    """A started process of the experiment."""
    command = [sys.executable, "-m", "experiments.training", "train", "--folder", str(folder), *words]
    return subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finished(processes: list[subprocess.Popen[str]]) -> None:
    """Wait for processes that must succeed."""
    for process in processes:
        _, errors = process.communicate()
        if process.returncode:
            raise ValueError(f"a training failed:\n{errors[-2000:]}")


def several(folder: Path, count: int, *words: str) -> list[subprocess.Popen[str]]:
    """The started processes of one run."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    flags = ["--coordinator", f"127.0.0.1:{port}", "--num-processes", str(count)]
    return [training(folder, *words, *flags, "--process-id", str(number)) for number in range(count)]


# The figures: each gives a row or rows, and goals


def equalities(folder: Path) -> Row:
    """Eight devices against one, two processes against one, after 20 steps."""
    rows = []
    for dtype, rate in (("float64", "1e-3"), ("float32", "1e-5")):
        found = worker("equal", dtype, rate, devices=8)
        rows += [
            {"what": f"{name}, 8 devices", "dtype": dtype, "rate": rate, **found[name]} for name in found
        ]
    words = ("--steps", "20", "--log-every", "20", "--save-every", "20", "--rate", "1e-5")
    finished([training(folder / "one", *words)])
    finished(several(folder / "two", 2, *words))
    one, two = (parameters(folder / name) for name in ("one", "two"))
    rows.append({"what": "2 processes", "dtype": "float32", "rate": "1e-5", **workers.differences(two, one)})
    goals = [
        goal(
            f"{row['what']}, {row['dtype']}: within {config.SAME:g}",
            row["whole"],
            row["whole"] <= config.SAME,
        )
        for row in rows
    ]
    return {"rows": rows, "goals": goals}


def parameters(run: Path) -> dict[str, np.ndarray]:
    """The parameters of a run's last checkpoint."""
    arrays, _ = checkpoint.read(run / "checkpoints")
    return {name: array for name, array in arrays.items() if name.startswith("params/")}


def same_run(one: Path, other: Path) -> bool:
    """Whether two runs ended in the same bits and wrote the same metrics, times apart."""
    (arrays, _), (others, _) = (checkpoint.read(path / "checkpoints") for path in (one, other))
    same = arrays.keys() == others.keys() and all(
        arrays[name].tobytes() == others[name].tobytes() for name in arrays
    )
    records = [
        [
            {k: v for k, v in record.items() if k not in TIMES}
            for record in logging.read_metrics(path / "metrics.jsonl")
        ]
        for path in (one, other)
    ]
    return same and records[0] == records[1]


def kills(folder: Path) -> Row:
    """Runs killed with signal 9 at random moments and resumed, against one left alone."""
    words = ("--save-every", "20", "--log-every", "20")
    started = time.perf_counter()
    finished([training(folder / "whole", *words)])
    seconds = time.perf_counter() - started
    rng = random.Random(config.SEED)
    killed, midway, runs, lost = 0, 0, 0, 0
    while killed < config.KILLS:
        show_progress(f"kills: {killed} of {config.KILLS}, {runs} runs ended")
        run = folder / f"killed{runs}"
        while True:
            process = training(run, *words)
            try:
                process.communicate(timeout=rng.uniform(0.4, 1.1) * seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                killed += 1
                midway += any(path.name.isdigit() for path in run.glob("checkpoints/*"))
                continue
            if process.returncode:
                raise ValueError("a resumed run failed")
            break
        runs += 1
        lost += not same_run(folder / "whole", run)
        shutil.rmtree(run)
    row = {
        "kills": killed,
        "of them after a checkpoint": midway,
        "runs ended": runs,
        "runs that differ": lost,
    }
    return {
        "rows": [row],
        "goals": [goal(f"{killed} kills, nothing lost", f"{lost} of {runs} runs differ", lost == 0)],
    }


def deaths(folder: Path) -> Row:
    """Seconds until the other one of two processes ends, when one is killed."""
    rows = []
    for victim in (0, 1):
        run = folder / f"death{victim}"
        processes = several(run, 2, "--steps", "1000000")
        metrics = run / "metrics.jsonl"
        while not (metrics.exists() and metrics.stat().st_size):
            time.sleep(0.2)
            if any(process.poll() is not None for process in processes):
                raise ValueError(f"a training failed: {processes[1].communicate()[1][-2000:]}")
        started = time.perf_counter()
        processes[victim].kill()
        _, errors = processes[1 - victim].communicate(timeout=300)
        processes[victim].communicate()
        rows.append(
            {
                "killed": f"process {victim}",
                "seconds": time.perf_counter() - started,
                "exit code": processes[1 - victim].returncode,
                "says": errors.strip().splitlines()[-1],
            }
        )
    worst = max(row["seconds"] for row in rows)
    clean = all(row["exit code"] == 3 and "Traceback" not in row["says"] for row in rows)
    return {
        "rows": rows,
        "goals": [goal(f"a clean end within {config.DEATH_S:g} s", worst, clean and worst <= config.DEATH_S)],
    }


def overhead(folder: Path) -> Row:
    """The training layer against a bare loop."""
    found = worker("overhead", str(folder))
    row = {"bare loop": found["bare_s"], "layer": found["ratio"] - 1, "a save blocks": found["save_s"]}
    met = row["layer"] <= config.OVERHEAD
    return {"rows": [row], "goals": [goal(f"overhead at most {config.OVERHEAD:.0%}", row["layer"], met)]}


def scaling(_: Path) -> Row:
    """Steps on 1, 2, 4 and 8 virtual devices, the work of a device kept."""
    found = [worker("scaling", str(devices), devices=8) for devices in (1, 2, 4, 8)]
    samples = config.BATCH * config.LENGTH
    rows = [
        {
            "devices": one["devices"],
            "step": one["step_s"],
            "samples/s": one["devices"] * samples / one["step_s"],
            "throughput": one["devices"] * found[0]["step_s"] / one["step_s"],
        }
        for one in found
    ]
    return {"rows": rows, "goals": []}


def projection(_: Path) -> Row:
    """What the program's own cost says of accelerators; config.ACCELERATORS has the assumptions."""
    rows = []
    for sequences in config.PROJECTED_ROWS:
        # Without the CPU's kernels: XLA counts no operations in what it did not make.
        cost = worker("cost", str(sequences), devices=8, native=False)
        exchanged = sum(cost["collectives"].values())
        for name, chip in config.ACCELERATORS.items():
            alone = max(cost["flops"] / chip.flops, cost["bytes_accessed"] / chip.memory)
            row = {
                "sequences": sequences,
                "GFLOP": cost["flops"] / 1e9,
                "MB moved": cost["bytes_accessed"] / 1e6,
                "MB exchanged": exchanged / 1e6,
                "accelerator": name,
                "alone": alone,
            }
            for devices in (8, 256):
                link = chip.link if devices <= chip.island else chip.wide_link
                ring = 2 * (devices - 1) / devices * exchanged / link + 2 * math.log2(devices) * chip.latency
                row |= {f"{devices}: all-reduce": ring, f"{devices}: efficiency": alone / (alone + ring)}
            rows.append(row)
    return {"rows": rows, "goals": []}


FIGURES: dict[str, Callable[[Path], Row]] = {
    "equalities": equalities,
    "kills": kills,
    "deaths": deaths,
    "overhead": overhead,
    "scaling": scaling,
    "projection": projection,
}


# Showing them


def cell(column: str, value: Any) -> str:
    """A value as the tables show it."""
    if not isinstance(value, float):
        return str(value)
    if column in ("step", "bare loop", "a save blocks", "alone") or column.endswith("all-reduce"):
        return f"{1e3 * value:.3g} ms"
    if column.startswith("layer") or column.endswith("efficiency"):
        return f"{100 * value:.1f} %"
    if column == "samples/s":
        return f"{value / 1e6:.1f} M"
    return f"{value:.1e}" if 0 < abs(value) < 1e-2 else f"{value:.3g}"


def markdown(found: Row) -> str:
    """Return the table of one figure, and its goals."""
    return (
        "\n\n".join([table(found["rows"], cell), f"{verdict(found['goals'], cell)} {made_with()}".strip()])
        + "\n"
    )
