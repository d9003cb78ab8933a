"""Where the trainings end, beside the minima that the analysis finds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import scipy.signal

from experiments.common.released import surveyor
from experiments.common.runner import Row, show_progress
from experiments.common.tables import goal, made_with, table, verdict
from experiments.rc_filter import answer, config
from experiments.rc_filter.train import Problem, Training, cut, examples, rho, train
from jaxapf import metrics


def measure(problem: Problem, steps: int, starts: int) -> Row:
    """Train everything that the problem has; return rows, loss curves, answers and goals."""
    first_order = problem.model.init(jax.random.key(0))["c"].size == 0
    results: Row = {"made_with": made_with(), "steps": steps, "rows": [], "runs": []}
    results["answers"] = answers(problem) if first_order else {}
    row_of = first_order_row if first_order else cascade_row
    for setting in problem.settings:
        data = examples(problem, setting.loss)
        for start in config.STARTS[: min(setting.starts, starts)]:
            run = train(problem, setting, start, steps, data)
            results["rows"].append(row_of(problem, setting, start, run, results["answers"]))
            found = {"start": start, "seconds": run.seconds, "losses": run.losses}
            results["runs"].append({**setting._asdict(), **found})
    if not first_order:
        results["references"] = references(problem)
    results["goals"] = goals(results["rows"]) if steps == config.STEPS and problem.name == "rc" else []
    return results


def answers(problem: Problem) -> Row:
    """Return the analytic coefficient, and the minima over the sequences and over the sweep."""
    found: Row = {"low frequencies": {"coefficient": answer.low_frequency_match(rho())}}
    for name in dict.fromkeys(setting.loss for setting in problem.settings):
        for kind, signals in (("sequences", cut(problem)), ("sweep", (problem.dry[None], problem.wet[None]))):
            show_progress(f"{problem.name}: least {name} of the {kind}")
            found[f"{name}, {kind}"] = answer.minimum_of(loss_of(problem, name, *signals))._asdict()
    return found


def loss_of(problem: Problem, name: str, dry: np.ndarray, wet: np.ndarray) -> Callable[[float], float]:
    """Return the loss as a function of the coefficient, by NumPy in float64."""
    if name == "mse":
        return answer.mse_of(dry, wet)
    return answer.mstft_of(dry, wet, power=problem.power, fraction=config.FRACTION)


def first_order_row(problem: Problem, setting: config.Setting, start: int, run: Training, least: Row) -> Row:
    """Return where the coefficient ended, beside the minimum."""
    first, last = (float(weights["g"][0]) for weights in (run.weights[0], run.weights[-1]))
    minimum = least[f"{setting.loss}, sequences"]
    stable = abs(last) < 1
    return {
        "loss": setting.loss,
        "rate": setting.rate,
        "start": first,
        "trained": last,
        "least": minimum["coefficient"],
        "difference": last - minimum["coefficient"],
        "loss there": loss_of(problem, setting.loss, *cut(problem))(last) if stable else None,
        "least loss": minimum["loss"],
        "error of the sweep": metrics.esr(answer.allpass(last, problem.dry), problem.wet) if stable else None,
        "steps": len(run.losses),
        "skipped": run.skipped,
    }


def cascade_row(problem: Problem, setting: config.Setting, start: int, run: Training, least: Row) -> Row:
    """Return the range of the loss, and whether the poles stayed inside the unit circle."""
    radii = [largest_pole(problem, weights) for weights in run.weights]
    finite = [loss for loss in run.losses if math.isfinite(loss)]
    return {
        "loss": setting.loss,
        "rate": setting.rate,
        "seed": start,
        "first loss": run.losses[0],
        "lowest": min(finite),
        "highest": max(finite),
        "last": run.losses[-1] if math.isfinite(run.losses[-1]) else None,
        "steps": len(run.losses),
        "unstable": sum(radius >= 1 for radius in radii),
        "largest pole at the end": radii[-1],
        "skipped": run.skipped,
    }


def largest_pole(problem: Problem, weights: dict[str, np.ndarray]) -> float:
    """Return the largest pole radius."""
    sos = np.asarray(problem.model.sos(weights), np.float64)
    return max(float(np.max(np.abs(np.roots(row[3:])))) for row in sos)


def references(problem: Problem) -> Row:
    """Return the MSE of the dry sequences, of silence, and of the very cascade that made the wet sweep."""
    dry, wet = cut(problem)
    exact = np.asarray(scipy.signal.sosfilt(surveyor(config.FS).sos, dry))
    return {
        name: float(np.mean((x - wet) ** 2)) for name, x in (("dry", dry), ("silence", 0), ("exact", exact))
    }


def goals(rows: Sequence[Row]) -> list[Row]:
    """Require that every run at a rate that can arrive ends at the minimum."""
    text = "{loss} from {start:.2f}: trained coefficient within " + f"{config.CLOSE:g} of the least"
    return [
        goal(text.format(**row), row["difference"], abs(row["difference"]) <= config.CLOSE)
        for row in rows
        if row["rate"] == config.RATE
    ]


def cell(column: str, value: Any) -> str:
    """Return a value as the table shows it."""
    if value is None:
        return "–"
    if not isinstance(value, float):
        return str(value)
    if column in ("start", "trained", "least", "coefficient", "largest pole at the end"):
        return f"{value:.4f}"
    if column == "rate":
        return f"{value:.0e}".replace("e-0", "e-")
    return f"{value:.3g}" if 1e-2 <= abs(value) < 1e3 else f"{value:.1e}"


def markdown(results: Row) -> str:
    """Return the tables of one problem."""
    parts = [results["made_with"], table(results["rows"], cell)]
    if results["answers"]:
        rows = [
            {"answer": name, "coefficient": found["coefficient"], "loss": found.get("loss")}
            for name, found in results["answers"].items()
        ]
        parts.append(table(rows, cell))
    if "references" in results:
        parts.append(table([{"MSE of": name, "": mse} for name, mse in results["references"].items()], cell))
    if results["goals"]:
        parts.append(verdict(results["goals"], cell))
    return "\n\n".join(parts) + "\n"
