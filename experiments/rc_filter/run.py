"""Train an all-pass to follow an RC low-pass: `python experiments/rc_filter/run.py`.

Writes results/NAME.json and NAME.md beside this file, and NAME.png where matplotlib is installed; NAME is rc,
with -order-N and -power-2 where these are given. `--update README.md` puts the table between that file's
markers NAME. README.md says what is trained and what came out, config.py what to expect.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import scipy.signal

from experiments.common.released import surveyor
from experiments.common.runner import Row, exit_code, made_with, put_tables, show_progress, table, verdict
from experiments.rc_filter import answer, config
from jaxapf import audio, losses, metrics
from jaxapf._internal import files
from jaxapf.alignment import biasnet
from jaxapf.training import fit, parallel
from jaxapf.training.data import endless
from jaxapf.training.step import LossFn, TrainState, init_state, make_train_step

RESULTS = Path(__file__).with_name("results")
Tree = Any


class Problem(NamedTuple):
    """What is trained on which signals: a sweep (n_samples,), float64, and what the device makes of it."""

    name: str
    model: biasnet.Model
    dry: np.ndarray
    wet: np.ndarray
    settings: tuple[config.Setting, ...]
    power: int


class Training(NamedTuple):
    """One training: its losses, coefficients after every step, steps skipped, seconds without compiling."""

    losses: list[float]
    weights: list[dict[str, np.ndarray]]
    skipped: int
    seconds: float


# The problem


def make_problem(order: int, power: int) -> Problem:
    """The RC filter for one section, a known all-pass cascade for more of them."""
    name = "rc" + (f"-order-{order}" if order > 1 else "") + (f"-power-{power}" if power > 1 else "")
    model = biasnet.naive(biasnet.structure(order, warped=False))
    dry = audio.log_sweep(config.SWEEP_S, config.FS)
    wet = answer.rc_filter(rho(), dry) if order == 1 else scipy.signal.sosfilt(surveyor(config.FS).sos, dry)
    settings = config.CASCADE if order > 1 else config.FIRST_ORDER if power == 1 else config.POWER_2
    return Problem(name, model, dry, np.asarray(wet), settings, power)


def rho() -> float:
    """Of the circuit, in eq. 10."""
    return answer.rho_of(config.RESISTANCE, config.CAPACITANCE, config.FS)


def cut(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Dry and wet in sequences (n, length)."""
    return audio.segment(problem.dry, config.LENGTH), audio.segment(problem.wet, config.LENGTH)


# Training


def examples(problem: Problem, loss: str) -> dict[str, Any]:
    """The sequences in float32, and what the loss needs of the wet ones, made once."""
    dry, wet = (np.asarray(x, np.float32) for x in cut(problem))
    if loss == "mse":
        return {"dry": dry, "wet": wet}
    spectra = jax.jit(lambda x: losses.phase_sum_spectra(x, fraction=config.FRACTION))(wet)
    return {"dry": dry, "spectra": jax.tree.map(np.asarray, spectra)}


def make_loss(problem: Problem, loss: str) -> LossFn:
    """Loss of a batch of sequences, each filtered from rest."""

    def loss_fn(weights: Tree, batch: Tree, key: jax.Array) -> jax.Array:
        found = problem.model.filter(weights, batch["dry"])
        if loss == "mse":
            return losses.mse(found, batch["wet"])
        return losses.phase_sum_to(found, batch["spectra"], power=problem.power, fraction=config.FRACTION)

    return loss_fn


def trained(
    problem: Problem, setting: config.Setting, start: int, steps: int, data: dict[str, Any]
) -> Training:
    """Train from one start; a run whose steps are all skipped ends early."""
    optimizer = optax.adam(setting.rate)
    parts = math.gcd(config.PARTS[setting.loss], batch_size(data))
    step = make_train_step(make_loss(problem, setting.loss), optimizer, accumulate=parts)
    key = jax.random.key(start)
    state = init_state(problem.model.init(key), optimizer, key=key)
    records: list[Row] = []
    weights = [jax.tree.map(np.array, state.params)]
    label = f"{problem.name}: {setting.loss}, rate {setting.rate:g}, start {start}"

    def keep(state: TrainState) -> dict[str, Any]:
        weights.append(jax.tree.map(np.array, state.params))
        show_progress(f"{label}: step {len(weights) - 1} of {steps}")
        return {}

    with contextlib.suppress(fit.TrainingError):  # the steps skipped tell
        fit.fit(
            parallel.single(step),
            state,
            endless(data, batch_size(data), seed=start),
            steps,
            log_every=1,
            evaluate=keep,
            on_record=records.append,
        )
    found = [record["loss"] for record in records]
    return Training(found, weights, records[-1]["skipped"], records[-1]["seconds"])


def batch_size(data: dict[str, Any]) -> int:
    """Sequences in a batch."""
    return min(config.BATCH, len(data["dry"]))


# What came out


def answers(problem: Problem) -> Row:
    """The coefficients that the analysis gives, and what is least over the sequences and over the sweep."""
    found: Row = {"low frequencies": {"coefficient": answer.low_frequency_match(rho())}}
    for name in dict.fromkeys(setting.loss for setting in problem.settings):
        for kind, signals in (("sequences", cut(problem)), ("sweep", (problem.dry[None], problem.wet[None]))):
            show_progress(f"{problem.name}: least {name} of the {kind}")
            found[f"{name}, {kind}"] = answer.minimum_of(loss_of(problem, name, *signals))._asdict()
    return found


def loss_of(problem: Problem, name: str, dry: np.ndarray, wet: np.ndarray) -> Callable[[float], float]:
    """The loss as a function of the coefficient, by NumPy in float64."""
    if name == "mse":
        return answer.mse_of(dry, wet)
    return answer.mstft_of(dry, wet, power=problem.power, fraction=config.FRACTION)


def first_order_row(problem: Problem, setting: config.Setting, start: int, run: Training, least: Row) -> Row:
    """Where the coefficient went, beside the one that is least."""
    first, last = (float(weights["g"][0]) for weights in (run.weights[0], run.weights[-1]))
    goal = least[f"{setting.loss}, sequences"]
    stable = abs(last) < 1
    return {
        "loss": setting.loss,
        "rate": setting.rate,
        "start": first,
        "trained": last,
        "least": goal["coefficient"],
        "difference": last - goal["coefficient"],
        "loss there": loss_of(problem, setting.loss, *cut(problem))(last) if stable else None,
        "least loss": goal["loss"],
        "error of the sweep": metrics.esr(answer.allpass(last, problem.dry), problem.wet) if stable else None,
        "steps": len(run.losses),
        "skipped": run.skipped,
    }


def cascade_row(problem: Problem, setting: config.Setting, start: int, run: Training, least: Row) -> Row:
    """What the loss did, and whether the poles stayed inside the unit circle."""
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
    """Largest distance of a pole from 0."""
    sos = np.asarray(problem.model.sos(weights), np.float64)
    return max(float(np.max(np.abs(np.roots(row[3:])))) for row in sos)


def measure(problem: Problem, steps: int, starts: int) -> Row:
    """Train all that the problem has, and judge it."""
    first_order = problem.model.init(jax.random.key(0))["c"].size == 0
    results: Row = {"made_with": made_with(), "steps": steps, "rows": [], "runs": []}
    results["answers"] = answers(problem) if first_order else {}
    row_of = first_order_row if first_order else cascade_row
    for setting in problem.settings:
        data = examples(problem, setting.loss)
        for start in config.STARTS[: min(setting.starts, starts)]:
            run = trained(problem, setting, start, steps, data)
            results["rows"].append(row_of(problem, setting, start, run, results["answers"]))
            # JSON has neither NaN nor infinity.
            curve = [loss if math.isfinite(loss) else None for loss in run.losses]
            found = {"start": start, "seconds": run.seconds, "losses": curve}
            results["runs"].append({**setting._asdict(), **found})
    if not first_order:
        results["references"] = references(problem)
    results["goals"] = goals(results["rows"]) if steps == config.STEPS and problem.name == "rc" else []
    return results


def references(problem: Problem) -> Row:
    """MSE of the dry sequences as they are, of silence, and of the very cascade that made the wet sweep."""
    dry, wet = cut(problem)
    exact = np.asarray(scipy.signal.sosfilt(surveyor(config.FS).sos, dry))
    return {
        name: float(np.mean((x - wet) ** 2)) for name, x in (("dry", dry), ("silence", 0), ("exact", exact))
    }


def goals(rows: Sequence[Row]) -> list[Row]:
    """Every run at a rate that can arrive ends at the minimum."""
    text = "{loss} from {start:.2f}: trained coefficient within " + f"{config.CLOSE:g} of the least"
    return [
        {
            "goal": text.format(**row),
            "value": row["difference"],
            "met": abs(row["difference"]) <= config.CLOSE,
        }
        for row in rows
        if row["rate"] == config.RATE
    ]


# Output


def cell(column: str, value: Any) -> str:
    """A value as the table shows it."""
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
    """Tables, ready for the README."""
    parts = [results["made_with"], table(results["rows"], cell)]
    if results["answers"]:
        rows = [
            {"answer": name, "coefficient": found["coefficient"], "loss": found.get("loss")}
            for name, found in results["answers"].items()
        ]
        parts.append(table(rows, cell))
    if "references" in results:
        dry, silence, exact = results["references"].values()
        parts.append(
            f"MSE of the sequences as they are {dry:.3f}, of silence {silence:.3f}; "
            f"of the cascade wanted, from rest, {exact:.4f}."
        )
    if results["goals"]:
        parts.append(verdict(results["goals"], cell))
    return "\n\n".join(parts) + "\n"


def write(name: str, results: Row) -> None:
    """Write what was found, and draw it."""
    RESULTS.mkdir(exist_ok=True)
    files.write_text(RESULTS / f"{name}.json", json.dumps(results, indent=1, allow_nan=False) + "\n")
    files.write_text(RESULTS / f"{name}.md", markdown(results))
    if name != "rc":
        return
    try:
        from experiments.rc_filter import picture
    except ImportError as error:
        print(f"no picture: {error} (pip install 'jaxapf[plot]')", file=sys.stderr)
        return
    picture.draw(results, RESULTS / f"{name}.png")


# The program


def whole(lowest: int, highest: float = math.inf) -> Callable[[str], int]:
    """A whole number within a range, for argparse."""

    def number(text: str) -> int:
        if not text.isdecimal() or not lowest <= int(text) <= highest:
            limit = f"from {lowest} to {highest:g}" if highest < math.inf else f"of {lowest} or more"
            raise argparse.ArgumentTypeError(f"'{text}' is no whole number {limit}")
        return int(text)

    return number


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the arguments; wrong ones end the program with exit code 2."""
    parser = argparse.ArgumentParser(description="Train an all-pass to follow an RC low-pass.")
    parser.add_argument("--steps", type=whole(1), default=config.STEPS, help="default: %(default)s")
    parser.add_argument(
        "--starts",
        type=whole(1, len(config.STARTS)),
        default=len(config.STARTS),
        help="starting values at most, default: %(default)s",
    )
    parser.add_argument(
        "--power", type=whole(1, 2), default=1, help="of the spectral loss: 1, the released code, or 2, eq. 8"
    )
    parser.add_argument(
        "--order", type=whole(1), default=1, help="beyond 1: a cascade, whose target is a known cascade"
    )
    parser.add_argument("--update", type=Path, metavar="README.md", help="file to put the table into")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Train, write results/, update a README; 0, or 2 with a sentence for what the user can mend."""
    arguments = parse(argv)
    return exit_code(lambda: run(arguments))


def run(arguments: argparse.Namespace) -> None:
    """Measure, write, draw, as asked for."""
    problem = make_problem(arguments.order, arguments.power)
    if arguments.update is not None:
        put_tables(arguments.update, None, problem.name)
    results = measure(problem, arguments.steps, arguments.starts)
    show_progress("")
    write(problem.name, results)
    if arguments.update is not None:
        put_tables(arguments.update, markdown(results), problem.name)
    print(markdown(results), end="")


if __name__ == "__main__":
    sys.exit(main())
