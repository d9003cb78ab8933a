"""The figures: speed, gradients, memory and growth of filters and effects, beside their peers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.signal

from experiments.benchmark import cases, config, effects
from experiments.common.measuring import Timing, interleaved, printed_by
from experiments.common.runner import Row, show_progress
from experiments.common.tables import goal, made_with, table, verdict

CACHE = "jax_enable_compilation_cache"


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


def cascade(settings: config.Settings, peers: cases.Peers) -> Row:
    """Cascades of second-order all-passes, of all sizes."""
    rows, goals = [], []
    for batch, n_samples in settings.cascade:
        show_progress(f"cascade: {batch} x {n_samples}")
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
    exact = np.asarray(scipy.signal.sosfilt(sections.sos, x.astype(np.float64)))
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


def allpole(settings: config.Settings, peers: cases.Peers) -> Row:
    """Time-varying all-pole filters, of all sizes."""
    rows, goals = [], []
    for size in settings.allpole:
        batch, n_samples, order = size
        text = f"{batch} x {n_samples}, order {order}"
        show_progress(f"allpole: {text}")
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


def memory(settings: config.Settings, peers: cases.Peers) -> Row:
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
            show_progress(f"memory: {function}, {method}")
            row = memory_of(function, method, batch, n_samples)
            rows.append(row)
            largest = max((row[key] for key in ("planned", "measured") if row[key] is not None), default=None)
            if method == "blocked" and largest is not None:
                goals.append(at_most(f"{function}, blocked: memory / input", largest, config.MEMORY))
    return {"rows": rows, "goals": goals}


def memory_of(function: str, method: str, batch: int, n_samples: int) -> Row:
    """Run memory.py; return its figures in multiples of the input."""
    found = printed_by("experiments.benchmark.memory", function, method, batch, n_samples)
    row: Row = {"size": f"{batch} x {n_samples}", "function": f"{function}, {method}"}
    row["input MiB"] = found["input"] / 2**20
    for name in ("planned", "measured"):
        row[name] = None if found[name] is None else found[name] / found["input"]
    return row


def growth(settings: config.Settings, peers: cases.Peers) -> Row:
    """Time against length, order and batch, for every method and SciPy."""
    del peers
    rows = []
    for name, panel in settings.growth.items():
        for value in panel.values:
            show_progress(f"growth: {name}, {value}")
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


def effect(settings: config.Settings, peers: cases.Peers) -> Row:
    """Measure equaliser and compressor of all sizes against dasp-pytorch's."""
    rows, goals = [], []
    for batch, n_samples in settings.effects:
        x, size = 0.3 * cases.noise(batch, n_samples), f"{batch} x {n_samples}"
        for name, make in effects.EFFECTS.items():
            show_progress(f"{name}: {size}")
            timed = timed_cases(make(x, peers), settings)
            peer = timed.get(effects.DASP[name])
            for function, row in timed.items():
                for form in ("forward", "gradient"):
                    row[f"{form} speed / dasp"] = peer and peer[f"{form} ms"] / row[f"{form} ms"]
                rows.append({"size": size, "function": function} | row)
            for form in ("forward", "gradient") if peer else ():
                speed = timed[name][f"{form} speed / dasp"]
                text = f"{size}, {name}: times dasp-pytorch's speed, {form}"
                goals.append(at_least(text, speed, config.EFFECT_SPEED[name]))
    return {"rows": rows, "goals": goals}


FIGURES = {"cascade": cascade, "allpole": allpole, "effects": effect, "memory": memory, "growth": growth}


# Judging


def relative_rms(y: Any, exact: np.ndarray) -> float:
    """Error relative to the level of what is exact."""
    return float(np.sqrt(np.mean((cases.as_numpy(y) - exact) ** 2) / np.mean(exact**2)))


def at_least(text: str, value: float, bound: float) -> Row:
    """Require a lower bound."""
    return goal(f"{text}, at least {bound:g}", value, value >= bound)


def at_most(text: str, value: float, bound: float) -> Row:
    """Require an upper bound."""
    return goal(f"{text}, at most {bound:g}", value, value <= bound)


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


SUMMARY = {  # figure -> (function, column of the peer's time over ours, the peer)
    "cascade": (("cascade, auto", "speed / SciPy", None, cases.SCIPY),),
    "allpole": (("allpole, auto", "speed / torchlpc", "gradient speed / torchlpc", cases.TORCHLPC),),
    "effects": tuple(
        (name, "forward speed / dasp", "gradient speed / dasp", peer) for name, peer in effects.DASP.items()
    ),
}


def summary(results: Row) -> list[Row]:
    """Return, of all results, method auto beside the peer."""
    rows = []
    for figure, compared in SUMMARY.items():
        for function, forward, gradient, peer in compared:
            rows += [
                {
                    "function": function,
                    "size": row["size"],
                    "forward ms": row["forward ms"],
                    "gradient ms": row["gradient ms"],
                    "peer": peer,
                    "times its speed": row.get(forward),
                    "with the gradient": row.get(gradient),
                }
                for row in results.get(figure, {"rows": []})["rows"]
                if row["function"] == function
            ]
    return rows


def markdown(results: Row) -> dict[str, str]:
    """Return the tables by the names of their markers."""
    made, found = f"{results['made_with']}\n", {}
    if rows := summary(results):
        found["summary"] = f"{table(rows, cell)}\n\n{made}"
    for name in FIGURES:
        if name in results:
            rows, goals = results[name]["rows"], results[name]["goals"]
            text = growth_tables(rows) if name == "growth" else table(rows, cell)
            found[name] = f"{text}\n\n{verdict(goals, cell)} {made}".replace("\n\n ", "\n\n")
    return {f"{name}{suffix()}": text for name, text in found.items()}


# Conditions


def suffix() -> str:
    """Return what is added to the names of results and markers: the backend, unless it is the CPU."""
    backend = jax.default_backend()
    return "" if backend == "cpu" else f"-{backend}"


def conditions(peers: cases.Peers, *, quick: bool) -> str:
    """Return versions and the machine, in a few sentences."""
    parts = [f"{made_with()} SciPy {scipy.__version__}"]
    if peers.torch is not None:
        parts.append(f"PyTorch {peers.torch.__version__} ({peers.torch.get_num_threads()} threads)")
    if peers.torchlpc is not None:
        parts.append(f"torchlpc ({cases.torchlpc_kind(peers)})")
    if jax.default_backend() != "cpu":
        parts.append(jax.devices()[0].device_kind)
    left_out = f" Left out: {'; '.join(peers.missing)}." if peers.missing else ""
    return f"{', '.join(parts)}.{left_out}{' Quick run: these sizes say nothing.' if quick else ''}"


@contextlib.contextmanager
def fresh_compilations() -> Iterator[None]:
    """Keep the persistent compilation cache out, as it would make compiling look free."""
    before = getattr(jax.config, CACHE)
    jax.config.update(CACHE, False)
    try:
        yield
    finally:
        jax.config.update(CACHE, before)
