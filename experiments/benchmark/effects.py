"""Equaliser and compressor against dasp-pytorch: `python experiments/benchmark/effects.py`.

Writes results/effects.json and .md (effects-gpu on a GPU); `--quick` takes tiny sizes, `--update README.md`
puts the table between that file's markers. Sizes and goals are in config.py; figures are taken as in run.py.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.benchmark import cases, config, run
from experiments.common.runner import Row, put_tables, show_progress, table, verdict
from jaxapf import params
from jaxapf._internal import files
from jaxapf.effects import compressor, equalizer

DASP = {"equalizer": "dasp_pytorch parametric_eq", "compressor": "dasp_pytorch compressor"}
# What dasp-pytorch's compressor has: no look-ahead and no average. Its release is ignored.
DASP_COMPRESSOR = ("threshold_db", "ratio", "attack_ms", "release_ms", "knee_db", "makeup_db")


def controls(specification: Sequence[params.Control], batch: int) -> list[np.ndarray]:
    """Random settings within the ranges, `(batch,)` float32 each."""
    raw = np.random.default_rng(config.SEED).uniform(-1, 1, (batch, len(specification)))
    return [np.asarray(value, np.float32) for value in params.denormalise(raw, specification)]


def equalizer_cases(x: np.ndarray, dasp: Any, peers: cases.Peers) -> dict[str, cases.Case]:
    """The equaliser, exact and by frequency sampling, and dasp-pytorch's, on the same settings."""
    values, batch = controls(params.EQUALIZER, len(x)), len(x)

    def exact(values: Any, x: jax.Array) -> jax.Array:
        state = equalizer.initial_state((batch,))
        return equalizer.equalizer(equalizer.packed(values), state, x, config.FS)[0]

    def sampled(values: Any, x: jax.Array) -> jax.Array:
        return equalizer.equalizer_sampled(equalizer.packed(values), x, config.FS)

    found = {"equalizer": cases.ours(exact, values, x), "equalizer, fsm": cases.ours(sampled, values, x)}
    if dasp is not None:
        call = _channelled(dasp.parametric_eq)
        found[DASP["equalizer"]] = cases.torch_case(peers, call, x, *values)
    return found


def compressor_cases(x: np.ndarray, dasp: Any, peers: cases.Peers) -> dict[str, cases.Case]:
    """The compressor as it is by default, as dasp-pytorch's, peak level and smoothing in dB, and that one."""
    named = dict(
        zip((one.name for one in params.COMPRESSOR), controls(params.COMPRESSOR, len(x)), strict=True)
    )
    values = [named[name] for name in DASP_COMPRESSOR]
    batch = len(x)

    def ours(average_ms: float, **options: str) -> Callable[..., jax.Array]:
        def process(values: Any, x: jax.Array) -> jax.Array:
            asked = dict(zip(DASP_COMPRESSOR, values, strict=True))
            given = compressor.Controls(**asked, average_ms=average_ms, lookahead_ms=0.0)
            return compressor.compressor(given, compressor.initial_state((batch,)), x, config.FS, **options)[
                0
            ]

        return process

    found = {
        "compressor": cases.ours(ours(1.0), values, x),
        "compressor, peak, dB": cases.ours(ours(0.0, detector="peak", smoothing="gain_db"), values, x),
    }
    if dasp is not None:
        call = _channelled(dasp.compressor)
        # One time for attack and release: a gradient by the other, which it ignores, is an error in torch.
        found[DASP["compressor"]] = cases.torch_case(
            peers, lambda x, *five: call(x, *five[:3], five[2], *five[3:]), x, *values[:3], *values[4:]
        )
    return found


def _channelled(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, *values: function(x[:, None], config.FS, *values)[:, 0]


EFFECTS = {"equalizer": equalizer_cases, "compressor": compressor_cases}


def measure(*, quick: bool) -> Row:
    """All effects, all sizes."""
    peers = cases.find_peers()
    missing: list[str] = []
    dasp = peers.dasp and cases.load("dasp_pytorch.functional", missing)
    if peers.dasp is None or missing:
        why = "; ".join(missing or peers.missing)
        print(f"left out: {why} (pip install 'jaxapf[peers]')", file=sys.stderr)
    settings = config.QUICK if quick else config.FULL
    rows, goals = [], []
    for batch, n_samples in config.QUICK_EFFECTS if quick else config.EFFECTS:
        x = 0.3 * cases.noise(batch, n_samples)
        for effect, made in EFFECTS.items():
            size = f"{batch} x {n_samples}"
            show_progress(f"{effect}: {size}")
            timed = run.timed_cases(made(x, dasp, peers), settings)
            peer = timed.get(DASP[effect])
            for name, row in timed.items():
                for form in ("forward", "gradient"):
                    row[f"{form} speed / dasp"] = peer and peer[f"{form} ms"] / row[f"{form} ms"]
                rows.append({"size": size, "function": name} | row)
            if peer:
                goals += [
                    run.at_least(
                        f"{size}, {effect}: times dasp-pytorch's speed, {form}",
                        timed[effect][f"{form} speed / dasp"],
                        config.EFFECT_SPEED[effect],
                    )
                    for form in ("forward", "gradient")
                ]
    return {"made_with": run.made_with(peers, quick=quick), "rows": rows, "goals": [] if quick else goals}


def markdown(results: Row) -> str:
    """The table, ready for a README."""
    parts = [results["made_with"], config.CAPTIONS["effects"], table(results["rows"], run.cell)]
    if results["goals"]:
        parts.append(verdict(results["goals"], run.cell))
    return "\n\n".join(parts) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write results/, update a README; 0, or 2 with a sentence for what the user can mend."""
    parser = argparse.ArgumentParser(description="Measure effects against dasp-pytorch.")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that everything runs")
    parser.add_argument("--update", type=Path, metavar="README.md", help="file to put the table into")
    arguments = parser.parse_args(argv)
    name = run.result_name().replace("benchmark", "effects")
    try:
        if arguments.update is not None:
            put_tables(arguments.update, None, name)
        with run.fresh_compilations():
            results = measure(quick=arguments.quick)
        base = run.RESULTS / name
        run.RESULTS.mkdir(exist_ok=True)
        files.write_text(base.with_suffix(".json"), json.dumps(results, indent=1) + "\n")
        files.write_text(base.with_suffix(".md"), markdown(results))
        if arguments.update is not None:
            put_tables(arguments.update, markdown(results), name)
    except ValueError as error:
        show_progress("")
        print(f"effects.py: {error}", file=sys.stderr)
        return 2
    run.report("effects", results["goals"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
