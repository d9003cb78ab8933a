"""Races: the same start, the same optimiser, the gradient of the recursion or of frequency sampling.

Whatever trained it, a filter is judged as what it will be: a recursion, in float64.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.optimize
import scipy.signal

import jaxapf
from experiments.common.runner import Row, show_progress
from experiments.gradient_comparison import config, forms, moving
from jaxapf import allpass, audio, datasets, metrics

Weights = Any
Model = Callable[[Weights, Any], jax.Array]  # (weights, x) -> y


class Problem(NamedTuple):
    """What is trained: signals in, signals wanted, and the weights that all begin with."""

    x: np.ndarray
    wanted: np.ndarray
    start: Weights


class Course(NamedTuple):
    """One training: weights before every step and after the last, losses in its own form, and times."""

    weights: Weights
    losses: np.ndarray
    step_s: float
    compile_s: float


def trained(model: Model, problem: Problem, steps: int) -> Course:
    """Adam, float32, all data in every step; a step's time is the median of all of them."""
    optimizer = optax.adam(optax.cosine_decay_schedule(config.RATE, steps, 0.1))

    def loss(weights: Weights, x: jax.Array, wanted: jax.Array) -> jax.Array:
        return jnp.mean((model(weights, x) - wanted) ** 2)

    def step(state: Any, x: jax.Array, wanted: jax.Array) -> tuple[Any, jax.Array]:
        weights, memory = state
        value, gradient = jax.value_and_grad(loss)(weights, x, wanted)
        updates, memory = optimizer.update(gradient, memory, weights)
        return (optax.apply_updates(weights, updates), memory), value

    x, wanted, weights = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), problem)
    state = (weights, optimizer.init(weights))
    began = time.perf_counter()
    compiled = jax.jit(step).lower(state, x, wanted).compile()
    compile_s = time.perf_counter() - began
    kept, losses, spent = [weights], [], []
    for _ in range(steps):
        began = time.perf_counter()
        state, value = jax.block_until_ready(compiled(state, x, wanted))
        spent.append(time.perf_counter() - began)
        losses.append(float(value))
        kept.append(state[0])
    stacked = jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *kept)
    return Course(stacked, np.asarray(losses), float(np.median(spent)), compile_s)


def after(course: Course, step: int) -> Weights:
    """The weights after so many steps, in float64; -1 for the last."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf[step], jnp.float64), course.weights)


def distances_db(model: Model, course: Course, x: np.ndarray, goal: np.ndarray) -> list[tuple[int, float]]:
    """How far the recursion is from the output wanted, in dB below it, on the way: (step, dB)."""

    @jax.jit
    def distance(weights: Weights, x: jax.Array, goal: jax.Array) -> jax.Array:
        return 10 * jnp.log10(jnp.sum((model(weights, x) - goal) ** 2) / jnp.sum(goal**2))

    steps = len(course.losses)
    x, goal = np.asarray(x, np.float64), np.asarray(goal, np.float64)
    return [
        (step, float(distance(after(course, step), x, goal)))
        for step in range(0, steps + 1, max(1, steps // 150))
    ]


def judged(course: Course, way: list[tuple[int, float]]) -> Row:
    """Steps and seconds to the goal, where the way ends and how near it came."""
    reached = next((step for step, db in way if db <= config.GOAL_DB), None)
    return {
        "step ms": 1e3 * course.step_s,
        "compile s": course.compile_s,
        "steps": reached,
        "seconds": None if reached is None else reached * course.step_s,
        "end_db": way[-1][1],
        "least_db": min(db for _, db in way),
        "way": way,
    }


# A recorded box


class Box(NamedTuple):
    """The example pair with delay and polarity taken out, (n_samples,), and all-passes that lie close."""

    dry: np.ndarray
    wet: np.ndarray
    sections: allpass.Sections


def read_box(seconds: float) -> Box:
    """The pair that ships with jaxapf: drums and guitar, and what a tape machine makes of them."""
    (dry, fs), (wet, _) = (audio.read(path) for path in datasets.example_pair())
    found = jaxapf.align(dry, wet, fs, order=config.BOX_ORDER)
    no_sections = allpass.first_order(np.zeros(0))
    shifted = dataclasses.replace(found, sections=no_sections, controls=[]).apply(dry)
    kept = slice(0, round(seconds * fs))
    dry, wet = (np.asarray(x, np.float64)[0, kept] for x in (shifted, wet))
    return Box(dry, wet, found.sections)


def of_margins(filtered: forms.Filter) -> Model:
    """A cascade by the logarithms of its margins, which no step makes unstable."""
    return lambda weights, x: filtered(allpass.Sections(*map(jnp.exp, weights)), x)


def beside(sections: allpass.Sections, seed: int) -> Weights:
    """A start: the logarithms of the margins, each moved at random."""
    rng = np.random.default_rng(seed)
    return allpass.Sections(
        *(np.log(leaf) + config.BOX_AWAY * rng.standard_normal(leaf.shape) for leaf in sections)
    )


def sequences(box: Box, length: int, count: int, seed: int) -> Problem:
    """Sequences spread over the recording, each filtered from rest, as in Bargum et al. 2023, section 5."""
    dry, wet = (audio.segment(x, length) for x in (box.dry, box.wet))
    chosen = np.linspace(0, len(dry) - 1, min(count, len(dry))).astype(int)
    return Problem(dry[chosen], wet[chosen], beside(box.sections, seed))


class Best(NamedTuple):
    """The least exact loss that was found, over the power of what is wanted, and its output."""

    loss: float
    output: np.ndarray


def best_of(problem: Problem, start: Weights) -> Best:
    """From `start` to the least exact loss, by L-BFGS in float64."""
    exact = of_margins(forms.exact("auto"))

    def loss(flat: jax.Array) -> jax.Array:
        return jnp.mean((exact(jnp.split(flat, 3), problem.x) - problem.wanted) ** 2) / power

    power = np.mean(problem.wanted**2)
    slope = jax.jit(jax.value_and_grad(loss))
    found = scipy.optimize.minimize(
        lambda flat: [np.asarray(one, np.float64) for one in slope(flat)],
        np.concatenate([np.asarray(leaf) for leaf in start]),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 500, "ftol": 1e-13, "gtol": 1e-10},
    )
    output = jax.jit(exact)(jnp.split(jnp.asarray(found.x), 3), problem.x)
    return Best(float(found.fun), np.asarray(output))


def box(settings: config.Settings) -> list[Row]:
    """Sequences of a recorded box: how near each form brings its cascade to the best there is."""
    show_progress("aligning the recording")
    recorded = read_box(settings.box_s)
    rows = []
    for length, count in settings.race_sequences:
        rows += _of_length(recorded, length, count, settings)
    show_progress("the whole recording")
    rows.append({"samples": len(recorded.dry), "form": "recursion", "start": 0} | whole(settings, recorded))
    return rows


def _of_length(recorded: Box, length: int, count: int, settings: config.Settings) -> list[Row]:
    """All forms from all starts; the goal is the best that any of the recursion's ends leads to."""
    exact = of_margins(forms.exact("auto"))
    contenders = {"recursion": exact} | {
        f"{times}x": of_margins(forms.sampled(times * length)) for times in config.PADDINGS
    }
    found, best = [], []
    for seed in range(settings.race_starts):
        problem = sequences(recorded, length, count, seed)
        for form, model in contenders.items():
            show_progress(f"sequences of {length}, start {seed}: {form}")
            course = trained(model, problem, settings.race_steps)
            found.append((seed, form, problem, course))
            if form == "recursion":
                best.append(best_of(problem, after(course, -1)))
    goal = min(best, key=lambda one: one.loss)
    return [
        {"samples": length, "form": form, "start": seed, "best": goal.loss}
        | judged(course, distances_db(exact, course, problem.x, goal.output))
        | both_forms(contenders[form], after(course, -1), problem)
        | {"esr": whole_error(after(course, -1), recorded)}
        for seed, form, problem, course in found
    ]


def both_forms(model: Model, weights: Weights, problem: Problem) -> Row:
    """Error-to-signal ratio of the sequences: in the form that was trained, and run as a recursion."""
    found = {"own": model, "recursion": of_margins(forms.exact("auto"))}
    return {
        f"esr, {name}": metrics.esr(np.asarray(jax.jit(one)(weights, problem.x)), problem.wanted)
        for name, one in found.items()
    }


def whole_error(weights: Weights, recorded: Box) -> float:
    """Error-to-signal ratio of the whole recording, filtered once by the recursion."""
    y = of_margins(forms.exact("auto"))(weights, recorded.dry)
    return metrics.esr(np.asarray(y), recorded.wet)


def whole(settings: config.Settings, recorded: Box) -> Row:
    """What no sequence can: the recursion trained through the recording from its beginning to its end."""
    problem = Problem(recorded.dry[None], recorded.wet[None], beside(recorded.sections, 0))
    model = of_margins(forms.exact("auto"))
    course = trained(model, problem, settings.whole_steps)
    goal = best_of(problem, after(course, -1))
    return (
        {"best": goal.loss}
        | judged(course, distances_db(model, course, problem.x, goal.output))
        | both_forms(model, after(course, -1), problem)
        | {"esr": whole_error(after(course, -1), recorded)}
    )


# A moving filter


def swinging(settings: config.Settings) -> list[Row]:
    """Sections that swing, several draws: the answer is known, so that its output is the goal."""
    rows = []
    for radius in config.SWING_RADII:
        drawn = moving.drawn(
            settings.swing_draws, settings.n_sections, settings.swing_samples, radius, config.MOVING_RATE_HZ
        )
        for draw in range(settings.swing_draws):
            one = jax.tree.map(lambda leaf, draw=draw: leaf[draw], drawn)
            contenders = {"recursion": forms.every_sample()} | {
                f"hop {hop}": forms.every_frame(hop, 8 * hop) for hop in settings.swing_hops
            }
            for name, form in contenders.items():
                show_progress(f"swinging, radius {radius:g}, draw {draw}: {name}")
                found = _swung(form, one, settings.swing_steps)
                rows.append({"radius": radius, "form": name, "start": draw} | found)
    return rows


def _swung(form: forms.Form, one: moving.Problem, steps: int) -> Row:
    rate_hz = float(one.rate_hz)
    model, exact = _at_rate(form, rate_hz), _at_rate(forms.every_sample(), rate_hz)
    problem = Problem(one.signals.x, one.signals.target, one.sweep)
    course = trained(model, problem, steps)
    last = after(course, -1)
    return judged(course, distances_db(exact, course, problem.x, problem.wanted)) | {
        f"esr, {way}": metrics.esr(np.asarray(jax.jit(run)(last, problem.x)), problem.wanted)
        for way, run in {"own": model, "recursion": exact}.items()
    }


def _at_rate(form: forms.Form, rate_hz: float) -> Model:
    return lambda sweep, x: form(rate_hz, sweep, x)


# Coefficients that nothing keeps stable


def bare(settings: config.Settings) -> list[Row]:
    """The coefficients c and d trained as they are, from many starts: how many filters end as no filter."""
    rng = np.random.default_rng(config.SEED)
    white = rng.standard_normal(config.BARE_SAMPLES)
    # The second is louder towards low frequencies, as music is.
    signals = {"white noise": white, "dark noise": scipy.signal.lfilter([1.0], [1.0, -0.95], white)}
    answer = allpass.second_order(*config.BARE_SECTION, config.FS)
    rows = []
    for kind, x in signals.items():
        wanted = np.asarray(allpass.cascade(answer, x))
        for form, filtered in _bare_forms().items():
            show_progress(f"bare coefficients, {kind}: {form}")
            rows.append({"signal": kind, "form": form} | _bare_row(filtered, x, wanted, settings))
    return rows


def _bare_forms() -> dict[str, Callable[[jax.Array, jax.Array], jax.Array]]:
    def sampled(times: int) -> Callable[[jax.Array, jax.Array], jax.Array]:
        return lambda sos, x: jaxapf.frequency.sosfilt_fsm(sos, x, n_fft=times * x.shape[-1])

    return {"recursion": jaxapf.sosfilt} | {f"{times}x": sampled(times) for times in config.PADDINGS}


def _bare_row(filtered: Any, x: np.ndarray, wanted: np.ndarray, settings: config.Settings) -> Row:
    model = jaxapf.alignment.biasnet.naive(jaxapf.alignment.biasnet.structure(2, warped=False))
    keys = jax.random.split(jax.random.key(config.SEED), settings.bare_starts)
    starts = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), jax.vmap(model.init)(keys))
    optimizer = optax.adam(config.BARE_RATE)
    signal, goal = (jnp.asarray(one, jnp.float32) for one in (x, wanted))

    def loss(weights: Weights) -> jax.Array:
        return jnp.sum((filtered(model.sos(weights), signal) - goal) ** 2) / jnp.sum(goal**2)

    def step(state: Any, _: Any) -> tuple[Any, Any]:
        weights, memory = state
        value, gradient = jax.value_and_grad(loss)(weights)
        updates, new = optimizer.update(gradient, memory, weights)
        # As `training.step.make_train_step`: a step that is not finite is not taken.
        size = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(gradient))
        good = jnp.isfinite(value) & jnp.isfinite(size)
        moved = (optax.apply_updates(weights, updates), new)
        return jax.tree.map(lambda one, other: jnp.where(good, one, other), moved, state), value

    def course(weights: Weights) -> tuple[Weights, jax.Array]:
        state = (weights, optimizer.init(weights))
        (weights, _), values = jax.lax.scan(step, state, length=settings.bare_steps)
        return weights, values[-1]

    weights, own = jax.jit(jax.vmap(course))(starts)
    own = np.asarray(own, np.float64)
    idle = float(np.sum((x - wanted) ** 2) / np.sum(wanted**2))  # of no filter at all
    outside = np.asarray(jax.vmap(_outside)(weights["c"], weights["d"]))
    good = own < config.BARE_GOOD
    return {
        "starts": len(own),
        "good": int(good.sum()),
        "good, outside": int((good & outside).sum()),
        "poles outside": int(outside.sum()),
        "blown up": int(np.sum(jax.jit(jax.vmap(lambda one: _blown_up(model.sos(one))))(weights))),
        "collapsed": int((np.abs(own - idle) < 0.01 * idle).sum()),
    }


def _outside(c: jax.Array, d: jax.Array) -> jax.Array:
    """Whether any pole is on or outside the unit circle: the sides of the stability triangle."""
    return jnp.any((c >= 1) | (1 + c + d <= 0) | (1 + c - d <= 0))


def _blown_up(sos: jax.Array) -> jax.Array:
    """Whether ten seconds through the recursion come out a hundred times as loud, or as no numbers."""
    x = jax.random.normal(jax.random.key(config.SEED), (round(10 * config.FS),), sos.dtype)
    y = jaxapf.sosfilt(sos, x)
    # All of them: a maximum may pass a NaN over.
    return ~jnp.all(jnp.abs(y) < 100 * jnp.max(jnp.abs(x)))
