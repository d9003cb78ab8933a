"""What the experiment measures beside the table: speed, the ladder, the known answer, the pipeline."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import scipy.signal

import jaxapf
from experiments.black_box import config, train
from experiments.common.released import surveyor
from experiments.common.runner import Row
from experiments.common.tables import goal
from jaxapf import Alignment, allpass, audio, metrics
from jaxapf.alignment import biasnet, refinement
from jaxapf.alignment.model import interpolator
from jaxapf.training import parallel
from jaxapf.training.data import endless
from jaxapf.training.step import init_state

Pair = tuple[np.ndarray, np.ndarray]


def errors(found: Alignment | None, pair: Pair) -> Row:
    """MAE, MSE and ESR of a model on a recording; of the dry signal itself where there is no model."""
    pred = pair[0] if found is None else found.apply(pair[0])
    return {name: getattr(metrics, name)(pred, pair[1]) for name in ("mae", "mse", "esr")}


# Speed


def speed(sweep: Pair, repeats: int = 20) -> Row:
    """Seconds of a train step, compiling apart."""
    rows = []
    for name in config.LOSSES:
        objective = train.Objective(name)
        data = train.sequences(*sweep, objective)
        for kind, make in train.MAKE.items():
            model = make(biasnet.structure(config.ORDER), config.FS)
            step, optimizer = train.make_step(model, objective, config.BATCH)
            plan = parallel.single(step)
            key = jax.random.key(0)
            state = plan.put_state(init_state(model.init(key), optimizer, key=key))
            batch_at = endless(data, config.BATCH)
            seconds = []
            for position in range(repeats + 1):
                started = time.perf_counter()
                state, _ = plan.step(state, plan.put_batch(batch_at(position)))
                jax.block_until_ready(state)
                seconds.append(time.perf_counter() - started)
            best = min(seconds[1:])
            steps = train.steps_of(len(data["dry"]), config.EPOCHS)
            rows.append(
                {
                    "loss": name,
                    "model": kind,
                    "compile": seconds[0] - best,
                    "step": best,
                    "median step": float(np.median(seconds[1:])),
                    f"{config.EPOCHS} epochs": steps * float(np.median(seconds[1:])),
                }
            )
    slowest = {name: max(row["step"] for row in rows if row["loss"] == name) for name in config.LOSSES}
    longest = max(row[f"{config.EPOCHS} epochs"] for row in rows)
    goals = [
        goal(f"a step with {name} under {limit:g} s", slowest[name], slowest[name] < limit)
        for name, limit in (("mstft", config.MSTFT_STEP_S), ("mse", config.MSE_STEP_S))
    ]
    goals.append(goal(f"{config.EPOCHS} epochs under {config.RUN_S:g} s", longest, longest < config.RUN_S))
    return {"rows": rows, "goals": goals}


# From the paper's protocol to the exact one


def ladder(name: str, sweep: Pair, loops: Pair, exact: Alignment) -> Row:
    """The error on unseen music of a connected BiasNet, each row one change more than the row before."""
    steps = train.steps_of(len(sweep[0]) // config.LENGTH, config.EPOCHS)
    dry, wet = sweep
    moved = dataclasses.replace(exact, sections=allpass.first_order(np.zeros(0)), controls=[])
    shifted = (moved.apply(dry), wet)
    paper: Row = {"length": config.LENGTH, "batch": config.BATCH, "rate": config.RATE, "starts": 1}
    fast = {**paper, "rate": config.LADDER_RATE}
    long = {**fast, "length": config.LADDER_LENGTH, "batch": config.LADDER_BATCH}
    rungs = (
        ("the paper's sequences, rate and Adam", sweep, paper),
        (f"rate {config.LADDER_RATE:g}, falling", sweep, fast),
        (f"sequences of {config.LADDER_LENGTH}", sweep, long),
        ("delay and polarity taken out before", shifted, long),
        (f"the best of {config.LADDER_STARTS} starts", shifted, {**long, "starts": config.LADDER_STARTS}),
    )
    rows = []
    for what, pair, options in rungs:
        found = train.descended(pair, steps, **options)
        if pair is shifted:
            found = dataclasses.replace(found, delay_samples=exact.delay_samples, polarity=exact.polarity)
        rows.append({"device": name, "change": what, "ESR, music": errors(found, loops)["esr"]})
    rows.append(
        {
            "device": name,
            "change": "spectral start, the whole sweep in one recursion, weighted as music is",
            "ESR, music": errors(exact, loops)["esr"],
        }
    )
    return {"rows": rows, "goals": []}


# A cascade that is known


def known_answer(steps: int = refinement.STEPS, epochs: int = config.EPOCHS) -> Row:
    """The sweep through a known cascade: the paper's protocol, the exact one, and starts near the answer."""
    dry = audio.log_sweep(10.0, config.FS)
    sections = surveyor(config.FS)
    pair = dry, np.asarray(scipy.signal.sosfilt(sections.sos, dry))
    rows: list[Row] = [_known_row("the dry signal", None, metrics.esr(*pair))]
    for model in config.MODELS:
        for loss in config.LOSSES:
            run = train.Run("surveyor", model, train.Objective(loss), seed=0)
            with tempfile.TemporaryDirectory() as folder:
                found = train.train_one(run, pair, Path(folder), epochs=epochs)
            rows.append(_known_row(f"paper, {model}, {loss}", None, errors(found, pair)["esr"]))
    found = jaxapf.align(*pair, config.FS, order=config.ORDER, method="biasnet-sequential")
    best = errors(found, pair)["esr"]
    rows.append(_known_row("exact, sequential", None, best))
    rows += [_from_nearby(sections, pair, offset_hz, steps) for offset_hz in config.OFFSETS_HZ]
    goals = [
        goal(f"exact: {limit:g} or less", best, best <= limit)
        for limit in (config.KNOWN_ESR, config.KNOWN_FINE_ESR)
    ]
    return {"rows": rows, "goals": goals}


def _known_row(what: str, before: float | None, after: float) -> Row:
    return {"what": what, "ESR before training": before, "ESR": after}


def _from_nearby(sections: allpass.Sections, pair: Pair, offset_hz: float, steps: int) -> Row:
    """Training through the whole sweep from the answer, with one narrow pole pair moved."""
    shape = biasnet.structure(config.ORDER)
    model = biasnet.sequential(shape, config.FS)
    signals = {name: x[None].astype(np.float32) for name, x in zip(("dry", "wet"), pair, strict=True)}
    start = biasnet.raw_of(_moved(sections, offset_hz), shape, config.FS)
    refined = refinement.refine(
        model, start, signals, key=jax.random.key(0), steps=steps, rate=config.NEARBY_RATE
    )
    power = float(np.mean(pair[1] ** 2))
    what = f"exact, from the answer with a pole pair moved by {offset_hz:g} Hz"
    return _known_row(what, refined.loss_before / power, refined.loss_after / power)


def _moved(sections: allpass.Sections, offset_hz: float) -> allpass.Sections:
    """The same cascade, the poles of its first section moved up."""
    c, d = sections.sos[0, 0], sections.sos[0, 1]
    radius = np.sqrt(c)
    cutoff_hz = np.arccos(-d / (2 * radius)) * config.FS / (2 * np.pi) + offset_hz
    first = allpass.second_order(radius, cutoff_hz, config.FS)
    rest = allpass.Sections(*(np.asarray(field)[1:] for field in sections))
    return allpass.concatenate(first, rest)


# The pipeline elsewhere


def export(model: Alignment) -> Row:
    """The learnt controls as what a plain all-pass pipeline needs: delay, polarity, second-order sections."""
    whole = int(np.floor(model.delay_samples))
    fraction = model.delay_samples - whole
    return {
        "fs": model.fs,
        "polarity": model.polarity,
        "delay_samples": model.delay_samples,
        "controls": model.controls,
        "sos": model.sos.tolist(),
        # The delay as whole samples and a filter; where the delay has no fraction, a single tap.
        "shift_samples": whole - (len(interpolator(0.0)) // 2 if fraction else 0),
        "taps": interpolator(fraction).tolist() if fraction else [1.0],
    }


def pipeline(document: Row, x: np.ndarray) -> np.ndarray:
    """What anybody can run, with SciPy alone, in float64."""
    y = (
        np.convolve(np.asarray(x, np.float64), document["taps"])
        if len(x) < 4096
        else scipy.signal.oaconvolve(np.asarray(x, np.float64), np.asarray(document["taps"]))
    )
    shift = document["shift_samples"]
    y = np.concatenate([np.zeros(max(shift, 0)), y[max(-shift, 0) :], np.zeros(len(x))])[: len(x)]
    return document["polarity"] * np.asarray(scipy.signal.sosfilt(document["sos"], y))


def pipeline_errors_db(model: Alignment, x: np.ndarray) -> dict[str, float]:
    """Difference between the pipeline and the model's output, against the latter, in dB.

    `apply` is what the model gives; `network, float32` the cascade as it was trained, in blocks of float32.
    """
    document = export(model)
    found = {"apply, dB": _error_db(model.apply(x), pipeline(document, x))}
    sections = allpass.Sections(*(np.asarray(field, np.float32) for field in model.sections))
    trained = jax.jit(allpass.cascade)(sections, np.asarray(x, np.float32))
    plain = scipy.signal.sosfilt(document["sos"], np.asarray(x, np.float64))
    return found | {"network, float32, dB": _error_db(trained, np.asarray(plain))}


def _error_db(found: Any, expected: np.ndarray) -> float:
    return 10 * float(np.log10(max(metrics.esr(np.asarray(found, np.float64), expected), 1e-30)))
