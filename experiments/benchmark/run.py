"""Measure speed, gradients, memory and growth: `python experiments/benchmark/run.py`.

Writes results/benchmark.json, .md and .png beside this file (benchmark-gpu on a GPU, so that both can be
kept); `--update README.md` puts the tables between that file's markers. README.md says how the figures are
taken, config.py what to expect.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy

import jaxapf
from experiments.benchmark import cases, config
from experiments.common.measuring import Timing, interleaved, printed_by
from experiments.common.runner import Row, exit_code, put_tables, show_progress, table, verdict

RESULTS = Path(__file__).with_name("results")
MEMORY = Path(__file__).with_name("memory.py")
CACHE = "jax_enable_compilation_cache"
Show = Callable[[str], None]


def timed_cases(found: dict[str, cases.Case], settings: config.Settings) -> dict[str, Row]:
    """The columns of every case: forward, gradient, their ratio, compiling."""
    forward = interleaved({name: case.forward for name, case in found.items()}, *patience(settings))
    gradients = {name: case.gradient for name, case in found.items() if case.gradient is not None}
    gradient = interleaved(gradients, *patience(settings))
    return {
        name: columns(forward[name], gradient.get(name), compiles=case.compiles)
        for name, case in found.items()
    }


def patience(settings: config.Settings) -> tuple[tuple[int, int], float]:
    """How often and how long to repeat, outside the growth."""
    return settings.rounds, settings.seconds


def columns(forward: Timing, gradient: Timing | None, *, compiles: bool) -> Row:
    """Timings as columns; None where there is no such figure."""
    row: Row = {}
    for name, timing in (("forward", forward), ("gradient", gradient)):
        row[f"{name} ms"] = timing and 1e3 * timing.fastest
        row[f"{name} median ms"] = timing and 1e3 * timing.median
    row["gradient / forward"] = gradient and gradient.fastest / forward.fastest
    row["repeats"] = f"{forward.repeats} + {gradient.repeats}" if gradient else str(forward.repeats)
    row["compile s"] = forward.first_extra if compiles else None
    row["compile gradient s"] = gradient.first_extra if compiles and gradient else None
    return row


def copy_bandwidth(n_bytes: int, settings: config.Settings) -> float:
    """Bytes a second that the device reads and writes while it copies an array."""
    x = jnp.zeros(n_bytes // 4, jnp.float32)
    copy = jax.jit(jnp.negative)  # a plain copy under jit would hand back its argument
    return 2 * n_bytes / interleaved({"copy": lambda: copy(x)}, *patience(settings))["copy"].fastest


def bandwidth_columns(rows: dict[str, Row], n_bytes: int, settings: config.Settings) -> None:
    """Add, on an accelerator, the fraction of the copy bandwidth that was reached.

    Args:
        rows: the columns of every function, which get one more.
        n_bytes: what has to be read and written at least.
        settings: how much to copy, and how often.
    """
    if jax.default_backend() == "cpu":
        return
    bandwidth = copy_bandwidth(settings.copied_bytes, settings)
    for name, row in rows.items():
        on_host = name == cases.SCIPY
        row["of copy bandwidth"] = None if on_host else n_bytes / (1e-3 * row["forward ms"]) / bandwidth


# The figures: each returns {"rows": the table, "goals": ...}


def cascade(settings: config.Settings, peers: cases.Peers, show: Show) -> Row:
    """Cascades of second-order all-passes, of all sizes."""
    rows, goals = [], []
    for batch, n_samples in settings.cascade:
        show(f"cascade: {batch} x {n_samples}")
        found = cascade_of_size(batch, n_samples, settings, peers)
        rows += [{"size": f"{batch} x {n_samples}", "function": name} | row for name, row in found.items()]
        goals += cascade_goals(batch, n_samples, found)
    return {"rows": rows, "goals": goals}


def cascade_of_size(
    batch: int, n_samples: int, settings: config.Settings, peers: cases.Peers
) -> dict[str, Row]:
    """All columns of one size, for every function."""
    sections, x = cases.second_order_sections(config.SECTIONS), cases.noise(batch, n_samples)
    compared = {f"cascade, {method}": case for method, case in cases.cascade_cases(sections, x).items()}
    compared |= {
        "sosfilt, auto": cases.sosfilt_case(sections, x),
        cases.SCIPY: cases.scipy_case(sections, x),
    }
    if peers.dasp is not None:
        compared[cases.DASP] = cases.dasp_case(peers, sections, x)
    rows = timed_cases(compared, settings)
    exact = scipy.signal.sosfilt(sections.sos, x.astype(np.float64))
    for name, row in rows.items():
        row["speed / SciPy"] = rows[cases.SCIPY]["forward ms"] / row["forward ms"]
        row["error"] = relative_rms(compared[name].forward(), exact)
    bandwidth_columns(rows, 2 * x.nbytes, settings)
    return rows


def cascade_goals(batch: int, n_samples: int, rows: dict[str, Row]) -> list[Row]:
    """Speed against SciPy and against frequency sampling, and the gradient's cost."""
    size, auto = f"{batch} x {n_samples}, auto", rows["cascade, auto"]
    goals = [
        at_least(f"{size}: times SciPy's speed", auto["speed / SciPy"], config.SCIPY_SPEED),
        at_most(f"{size}: gradient / forward", auto["gradient / forward"], config.GRADIENT_COST),
    ]
    if (batch, n_samples) in config.FSM_SPEED:
        speed = rows["cascade, fsm"]["forward ms"] / auto["forward ms"]
        goals.append(at_least(f"{size}: times fsm's speed", speed, config.FSM_SPEED[batch, n_samples]))
    return goals


def allpole(settings: config.Settings, peers: cases.Peers, show: Show) -> Row:
    """Time-varying all-pole filters, of all sizes."""
    rows, goals = [], []
    for size in settings.allpole:
        batch, n_samples, order = size
        text = f"{batch} x {n_samples}, order {order}"
        show(f"allpole: {text}")
        found = allpole_of_size(batch, n_samples, order, settings, peers)
        rows += [{"size": text, "function": name} | row for name, row in found.items()]
        goals += allpole_goals(text, found)
    return {"rows": rows, "goals": goals}


def allpole_of_size(
    batch: int, n_samples: int, order: int, settings: config.Settings, peers: cases.Peers
) -> dict[str, Row]:
    """All columns of one size, for every function."""
    x, a = cases.noise(batch, n_samples), cases.varying_coefficients(batch, n_samples, order)
    a = a.astype(np.float32)
    compared = {f"allpole, {method}": case for method, case in cases.allpole_cases(a, x).items()}
    if peers.torchlpc is not None:
        compared[cases.TORCHLPC] = cases.torchlpc_case(peers, a, x)
    rows = timed_cases(compared, settings)
    exact = cases.allpole_reference(a, x)
    for name, row in rows.items():
        if cases.TORCHLPC in rows:
            peer = rows[cases.TORCHLPC]
            row |= {
                "speed / torchlpc": peer["forward ms"] / row["forward ms"],
                "gradient speed / torchlpc": peer["gradient ms"] / row["gradient ms"],
            }
        row["error"] = relative_rms(compared[name].forward(), exact)
    bandwidth_columns(rows, 2 * x.nbytes + a.nbytes, settings)
    return rows


def allpole_goals(size: str, rows: dict[str, Row]) -> list[Row]:
    """Speed against torchlpc, where it is installed."""
    auto = rows["allpole, auto"]
    if cases.TORCHLPC not in rows:
        return []
    return [
        at_least(f"{size}, auto: times torchlpc's speed", auto["speed / torchlpc"], config.LPC_SPEED),
        at_least(
            f"{size}, auto: times torchlpc's speed with the gradient",
            auto["gradient speed / torchlpc"],
            config.LPC_GRADIENT_SPEED,
        ),
    ]


def memory(settings: config.Settings, peers: cases.Peers, show: Show) -> Row:
    """Memory of gradients, each in a process of its own."""
    del peers
    rows, goals = [], []
    batch, n_samples = settings.memory
    for function, methods, n_sections in (
        ("cascade", cases.cascade_methods(), config.SECTIONS),
        ("allpole", cases.allpole_methods(), 1),
    ):
        for method in methods:
            if method == "auto" or cases.too_many_steps(method, n_samples, n_sections):
                continue
            show(f"memory: {function}, {method}")
            row = memory_of(function, method, batch, n_samples)
            rows.append(row)
            largest = max((row[key] for key in ("planned", "measured") if row[key] is not None), default=None)
            if method == "blocked" and largest is not None:
                goals.append(at_most(f"{function}, blocked: memory / input", largest, config.MEMORY))
    return {"rows": rows, "goals": goals}


def memory_of(function: str, method: str, batch: int, n_samples: int) -> Row:
    """Run memory.py and put what it found into multiples of the input."""
    found = printed_by(MEMORY, function, method, batch, n_samples)
    row: Row = {"size": f"{batch} x {n_samples}", "function": f"{function}, {method}"}
    row["input MiB"] = found["input"] / 2**20
    for name in ("planned", "measured"):
        row[name] = None if found[name] is None else found[name] / found["input"]
    return row


def growth(settings: config.Settings, peers: cases.Peers, show: Show) -> Row:
    """Time against length, order and batch, for every method and SciPy."""
    del peers
    rows = []
    for name, panel in settings.growth.items():
        for value in panel.values:
            show(f"growth: {name}, {value}")
            times = interleaved(growth_calls(panel, value), settings.rounds, settings.growth_seconds)
            rows += [
                {"panel": name, "function": function, "at": value, "ms": 1e3 * timing.fastest}
                for function, timing in times.items()
            ]
    return {"rows": rows, "goals": [], "panels": {n: p._asdict() for n, p in settings.growth.items()}}


def growth_calls(panel: config.Panel, value: int) -> dict[str, Callable[[], Any]]:
    """What is timed at one point of a panel."""
    panel = panel._replace(**{panel.axis: value})
    sections, x = cases.second_order_sections(panel.n_sections), cases.noise(panel.batch, panel.n_samples)
    compared = cases.cascade_cases(sections, x) | {cases.SCIPY: cases.scipy_case(sections, x)}
    if panel.gradient:
        return {name: case.gradient for name, case in compared.items() if case.gradient is not None}
    return {name: case.forward for name, case in compared.items()}


FIGURES = {"cascade": cascade, "allpole": allpole, "memory": memory, "growth": growth}


# Judging


def relative_rms(y: Any, exact: np.ndarray) -> float:
    """Error relative to the level of what is exact."""
    return float(np.sqrt(np.mean((cases.as_numpy(y) - exact) ** 2) / np.mean(exact**2)))


def at_least(text: str, value: float, bound: float) -> Row:
    """A goal, the figure found, and whether it was met."""
    return {"goal": f"{text}, at least {bound:g}", "value": value, "met": bool(value >= bound)}


def at_most(text: str, value: float, bound: float) -> Row:
    """A goal, the figure found, and whether it was met."""
    return {"goal": f"{text}, at most {bound:g}", "value": value, "met": bool(value <= bound)}


# Tables


def cell(_: str, value: Any) -> str:
    """A value as the table shows it."""
    if value is None:
        return "–"
    if not isinstance(value, float):
        return str(value)
    if 0 < abs(value) < 1e-2:
        return f"{value:.1e}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def growth_tables(rows: Sequence[Row]) -> str:
    """One table a panel: a row for every function, a column for every value."""
    tables = []
    for panel in dict.fromkeys(row["panel"] for row in rows):
        found = {(row["function"], row["at"]): row["ms"] for row in rows if row["panel"] == panel}
        values = sorted({at for _, at in found})
        tables.append(
            table(
                [
                    {panel: name} | {str(at): found.get((name, at)) for at in values}
                    for name in dict.fromkeys(name for name, _ in found)
                ],
                cell,
            )
        )
    return "\n\n".join(tables)


def markdown(results: Row) -> str:
    """All figures, ready for a README."""
    parts = [results["made_with"]]
    for name in FIGURES:
        if name in results:
            found = results[name]
            tables = growth_tables(found["rows"]) if name == "growth" else table(found["rows"], cell)
            parts += [config.CAPTIONS[name], tables]
            parts += [verdict(found["goals"], cell)] if found["goals"] else []
    return "\n\n".join(parts) + "\n"


# The program


def result_name() -> str:
    """What the results are called: by the backend, unless it is the CPU."""
    backend = jax.default_backend()
    return "benchmark" if backend == "cpu" else f"benchmark-{backend}"


def made_with(peers: cases.Peers, *, quick: bool) -> str:
    """Versions and the machine, in a few sentences."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    device = "" if jax.default_backend() == "cpu" else f", {jax.devices()[0].device_kind}"
    versions = f"Made with jaxapf {jaxapf.__version__}, JAX {jax.__version__}, SciPy {scipy.__version__}"
    if peers.torch is not None:
        versions += f", PyTorch {peers.torch.__version__} ({peers.torch.get_num_threads()} threads)"
    if peers.torchlpc is not None:
        versions += f", torchlpc ({cases.torchlpc_kind(peers)})"
    left_out = f" Left out: {'; '.join(peers.missing)}." if peers.missing else ""
    caution = " Quick run: these sizes say nothing." if quick else ""
    return f"{versions}, Python {platform.python_version()}, on {cores} CPU cores{device}.{left_out}{caution}"


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the arguments; wrong ones end the program with exit code 2."""
    parser = argparse.ArgumentParser(
        description="Measure speed, gradients, memory and growth of the filters."
    )
    parser.add_argument(
        "--only", default=",".join(FIGURES), metavar="NAMES", help=f"from {', '.join(FIGURES)}"
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that everything runs")
    parser.add_argument("--update", type=Path, metavar="README.md", help="file to put the tables into")
    arguments = parser.parse_args(argv)
    arguments.only = arguments.only.split(",")
    for name in arguments.only:
        if name not in FIGURES:
            parser.error(f"argument --only: '{name}' is not one of {', '.join(FIGURES)}")
    return arguments


def report(name: str, goals: Sequence[Row]) -> None:
    """Print the goals of a figure, met or missed."""
    show_progress("")
    for one in goals:
        print(
            f"{'met   ' if one['met'] else 'MISSED'} {name}: {one['goal']} ({cell('', one['value'])})",
            flush=True,
        )


def write(results: Row) -> None:
    """Write what has been found so far."""
    RESULTS.mkdir(exist_ok=True)
    base = RESULTS / result_name()
    base.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    base.with_suffix(".md").write_text(markdown(results), encoding="utf-8")


def draw(results: Row) -> None:
    """Draw the growth, or say why not."""
    try:
        from experiments.benchmark import picture
    except ImportError as error:
        print(f"no picture: {error} (pip install 'jaxapf[plot]')", file=sys.stderr)
        return
    picture.draw(results["growth"], (RESULTS / result_name()).with_suffix(".png"))


@contextlib.contextmanager
def fresh_compilations() -> Iterator[None]:
    """Keep the persistent compilation cache out, as it would make compiling look free."""
    before = getattr(jax.config, CACHE)
    jax.config.update(CACHE, False)
    try:
        yield
    finally:
        jax.config.update(CACHE, before)


def measure(arguments: argparse.Namespace) -> Row:
    """Measure what was asked for, writing after each figure: a long run cut short leaves what it found."""
    settings = config.QUICK if arguments.quick else config.FULL
    peers = cases.find_peers()
    if peers.missing:
        print(f"left out: {'; '.join(peers.missing)} (pip install 'jaxapf[peers]')", file=sys.stderr)
    results: Row = {"made_with": made_with(peers, quick=arguments.quick)}
    for name, figure in FIGURES.items():
        if name in arguments.only:
            results[name] = figure(settings, peers, show_progress)
            if jax.default_backend() != "cpu" or arguments.quick:
                results[name]["goals"] = []  # they are for full sizes on CPU cores
            report(name, results[name]["goals"])
            write(results)
    return results


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write results/, update a README; 0, or 2 with a sentence for what the user can mend."""
    arguments = parse(argv)
    return exit_code(lambda: run(arguments))


def run(arguments: argparse.Namespace) -> None:
    """Measure, write, draw, as asked for."""
    if arguments.update is not None:
        put_tables(arguments.update, None, result_name())
    with fresh_compilations():
        results = measure(arguments)
    if "growth" in results:
        draw(results)
    if arguments.update is not None:
        put_tables(arguments.update, markdown(results), result_name())


if __name__ == "__main__":
    sys.exit(main())
