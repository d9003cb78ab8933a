"""Trainings of the paper's protocol, each kept as one JSON file: what has its file is not trained again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.runner import Row, show_progress
from experiments.phaser import config
from experiments.phaser.data import Device
from jaxapf import audio, losses
from jaxapf.effects import phaser
from jaxapf.effects.modelling import descent, sweep_estimation
from jaxapf.training import fit, parallel
from jaxapf.training.step import LossFn, init_state, make_train_step

Tree = Any
RECURSION = "recursion"


class Job(NamedTuple):
    """One training: a device, a form, `"recursion"` or a window such as `"10 ms"`, and the seed of the start.

    ``start``: what it knows of the sweep, `"spectra"`, all that they show; `"rate"`, rate and phase alone;
    `"nothing"`, as the authors' start.
    """

    device: Device
    form: str
    seed: int
    start: str = "spectra"

    @property
    def name(self) -> str:
        return f"{self.device.name}-{self.form.replace(' ', '')}-{self.start}-{self.seed}"


def window_ms(form: str) -> float:
    """Of a form such as "10 ms"."""
    return float(form.removesuffix(" ms"))


def forms(device: Device) -> list[str]:
    """What a device is trained in."""
    return [RECURSION, *(f"{one:g} ms" for one in device.windows_ms)]


def start_of(device: Device, folder: Path) -> Row:
    """Layout, oscillator and gains as the spectra of the training signals show them; kept once read."""
    path = folder / "starts" / f"{device.name}.json"
    n_samples = len(device.dry)
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["n_samples"] == n_samples:
            return found
    show_progress(f"{device.name}: reading the sweep")
    best = sweep_estimation.starts(sweep_estimation.spectra_of(device.dry, device.wet, device.fs), count=1)[0]
    found = {**best._asdict(), **best.layout._asdict(), "n_samples": n_samples}
    del found["layout"]
    path.parent.mkdir(parents=True, exist_ok=True)
    audio.write_text(path, json.dumps(found, indent=1) + "\n")
    return found


def first_weights(job: Job, start: Row) -> Tree:
    """What a training begins with: the same for all forms."""
    key = jax.random.key(job.seed)
    raw = phaser.init(key, rate_hz=start["rate_hz"])
    if job.start == "rate":
        return {**raw, "phase": jnp.float32(start["phase"])}
    if job.start == "spectra":
        return raw | _read(key, start)
    # The authors': omega a normal number of a tenth of a radian a hop, and a damping, here per second.
    hops_a_second = 4e3 / (config.WINDOWS_MS[0] if job.form == RECURSION else window_ms(job.form))
    omega = 0.1 * jnp.abs(jax.random.normal(jax.random.fold_in(key, 1)))
    damping = jnp.float32(config.SIGMA_PER_HOP * np.sqrt(hops_a_second))
    return {**raw, "log_rate": jnp.log(omega * hops_a_second / (2 * np.pi)), "sigma": damping}


def _read(key: jax.Array, start: Row) -> Tree:
    """Sweep and gains that the spectra show; the waveshaper, from a random one, is fitted to them."""
    w = np.linspace(-1, 1, config.SHAPE_POINTS)
    # p = -tanh(log_tan / 2) and p = tanh(tan(pi / 4 - d)) are one.
    d = np.pi / 4 + np.arctan((start["middle"] + start["swing"] * w) / 2)
    bias, depth = float(np.min(d)), float(np.ptp(d))
    numbers = {
        "phase": start["phase"],
        "bias": bias,
        "depth": depth,
        "through": start["through"] / start["around"],
        "feedback": np.arctanh(start["feedback"] / phaser.MOST_FEEDBACK),
        "b": [start["around"], 0.0, 0.0],
    }
    shape = _shaped(key, w, 2 * (d - bias) / depth - 1)
    return {name: jnp.asarray(value, jnp.float32) for name, value in numbers.items()} | {"shape": shape}


def _shaped(key: jax.Array, w: np.ndarray, target: np.ndarray) -> Tree:
    """A random waveshaper fitted to the target at w; others are tried where the first does not reach it."""
    data = jnp.asarray(w, jnp.float32), jnp.asarray(target, jnp.float32)
    found = []
    for number in range(config.SHAPE_TRIES):
        begun = phaser.init(jax.random.fold_in(key, number) if number else key)["shape"]
        theta, unravel = jax.flatten_util.ravel_pytree(begun)

        def residual(theta: jax.Array, data: Any, unravel: Any = unravel) -> jax.Array:
            return phaser.waveshaped(unravel(theta), data[0]) - data[1]

        theta, error = descent.levenberg_marquardt(
            residual, np.asarray(theta, np.float64), data, steps=config.SHAPE_STEPS
        )
        found.append((error, number, unravel(jnp.asarray(theta, jnp.float32))))
        if error < config.SHAPE_ERROR:
            break
    return min(found, key=lambda one: one[:2])[2]


def make_loss(job: Job, start: Row) -> LossFn:
    """Error-to-signal ratio of the whole batch, which is one signal; beside it the largest |p|."""
    stages, delay, fs = start["stages"], start["delay"], job.device.fs

    def loss_fn(raw: Tree, batch: Tree, key: jax.Array) -> Any:
        controls, dry = phaser.controls_of(raw), batch["dry"]
        if job.form == RECURSION:
            y, _ = phaser.phaser(
                controls, phaser.initial_state(stages=stages), dry, fs, stages=stages, delay=delay
            )
        else:
            window = window_ms(job.form)
            y = phaser.phaser_sampled(controls, dry, fs, window_ms=window, stages=stages, delay=delay)
        largest = jnp.max(jnp.abs(phaser.sweep(controls, 0, dry.size, fs)))
        return losses.esr(y, batch["wet"]), {"largest_p": largest}

    return loss_fn


def make_optimizer(start: str, steps: int) -> optax.GradientTransformation:
    """Adam; its rate falls along a cosine where the two of `config.RATES` differ."""
    first, last = config.RATES[start]
    return optax.adam(optax.cosine_decay_schedule(first, steps, last / first))


def settings_of(job: Job, start: Row, steps: int) -> Row:
    """What a result depends on."""
    protocol = {"steps": steps, "rates": list(config.RATES[job.start]), "clip_norm": config.CLIP_NORM}
    return {"form": job.form, "seed": job.seed, "start": job.start, "read": start, **protocol}


def path_of(job: Job, folder: Path) -> Path:
    """Where its result is kept."""
    return folder / "trainings" / f"{job.name}.json"


def result_of(job: Job, folder: Path, steps: int) -> Row | None:
    """The result of a training that was made with these settings, if there is one."""
    path = path_of(job, folder)
    if not path.is_file():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    return found if found["settings"] == settings_of(job, start_of(job.device, folder), steps) else None


def trained(job: Job, folder: Path, steps: int) -> Row:
    """Train, unless that was done; the result holds the weights, the records and what was skipped.

    Raises:
        training.fit.TrainingError: nothing but skipped steps.
    """
    done = result_of(job, folder, steps)
    if done is not None:
        return done
    start = start_of(job.device, folder)
    optimizer = make_optimizer(job.start, steps)
    step = make_train_step(make_loss(job, start), optimizer, clip_norm=config.CLIP_NORM)
    batch = {name: np.asarray(getattr(job.device, name), np.float32) for name in ("dry", "wet")}
    state = init_state(first_weights(job, start), optimizer, key=jax.random.key(job.seed))

    def show(record: Row) -> None:
        show_progress(f"{job.name}: step {record['step']} of {steps}, loss {record['loss']:.3g}")

    fitted = fit.fit(
        parallel.single(step),
        state,
        lambda position: batch,
        steps,
        log_every=min(config.LOG_EVERY, steps),
        on_record=show,
    )
    kept = ("step", "loss", "grad_norm", "largest_p", "skipped")
    result: Row = {
        "settings": settings_of(job, start, steps),
        "raw": jax.tree.map(lambda leaf: np.asarray(leaf).tolist(), fitted.state.params),
        "skipped": int(fitted.state.skipped),
        "seconds": fitted.records[-1]["seconds"],
        "records": [{name: record[name] for name in kept} for record in fitted.records],
    }
    path_of(job, folder).parent.mkdir(parents=True, exist_ok=True)
    audio.write_text(path_of(job, folder), json.dumps(result) + "\n")
    return result


def weights_of(result: Row) -> Tree:
    """The trained numbers, float32, with the oscillator undamped as the authors test it."""
    raw = {name: jnp.asarray(value, jnp.float32) for name, value in result["raw"].items() if name != "shape"}
    layers = ((jnp.asarray(k, jnp.float32), jnp.asarray(b, jnp.float32)) for k, b in result["raw"]["shape"])
    return {**raw, "shape": tuple(layers), "sigma": jnp.zeros((), jnp.float32)}
