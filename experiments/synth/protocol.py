"""Define network, controls and loss of a training, and train."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.synth import config
from experiments.synth.data import Notes
from jaxapf import losses, nets, params
from jaxapf.effects import synth
from jaxapf.filters import biquad
from jaxapf.training import data, fit, parallel
from jaxapf.training.step import LossFn, TrainState, init_state, make_train_step

RECURSION = "recursion"
Tree = Any


class Setting(NamedTuple):
    """One training: notes (`"acid"`, `"known"`), filter (`"coeff"`, `"lp"`), form and seed.

    ``form`` is `"recursion"` or the length of the windows in samples.
    """

    notes: str
    filter: str
    form: str | int
    seed: int

    @property
    def name(self) -> str:
        """As files are named."""
        return "-".join(str(part) for part in self)


class Trained(NamedTuple):
    """Weights of the lowest validation loss, the step they are from, and the records on the way."""

    weights: Tree
    step: int
    records: list[dict[str, Any]]


def network(filter_name: str) -> nets.Encoder:
    """The encoder: five numbers a frame for free coefficients; one, and the Q, for the low-pass."""
    free = filter_name == "coeff"
    n_controls = len(config.GLOBALS) + (0 if free else 1)
    sizes = {"channels": config.CHANNELS, "dilations": config.DILATIONS, "pools": config.POOLS}
    return nets.Encoder(modulations=5 if free else 1, controls=n_controls, **sizes)


def examples(notes: Notes) -> dict[str, np.ndarray]:
    """Notes, and their spectrograms as the network takes them, made once."""

    @jax.jit
    def features(x: jax.Array) -> jax.Array:
        decades = nets.log_mel(x, config.FS, hop=config.HOP, n_fft=config.N_FFT, n_mels=config.MELS)
        return 1 + decades / 3.5  # -1, silence, to 1

    return {**notes._asdict(), "features": np.asarray(features(notes.audio))}


def network_output(filter_name: str, weights: Tree, notes: dict[str, Any]) -> tuple[jax.Array, jax.Array]:
    """Return the network's output for notes: modulation (n, n_frames, k), shares of the ranges (n, m)."""
    answer: Any = network(filter_name).apply(weights, notes["features"])
    return answer


def controls_of(filter_name: str, weights: Tree, notes: dict[str, Any]) -> synth.Controls:
    """Return the network's output for the notes as controls of the synthesiser."""
    modulation, shares = network_output(filter_name, weights, notes)
    shape, gain, drive, decay = params.denormalise(2 * shares[..., :4] - 1, config.GLOBALS)
    if filter_name == "coeff":
        rows = synth.free(modulation)
    else:
        cutoff_hz, q = cutoff_and_q(modulation, shares)
        rows = biquad.lowpass(cutoff_hz, q[..., None], config.FS)
    return synth.Controls(notes["f0_hz"], notes["on_s"], rows, shape, gain, decay, drive, notes["phase"])


def cutoff_and_q(modulation: jax.Array, shares: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return cutoff (..., n_frames) in Hz and Q (...) of the low-pass."""
    (cutoff_hz,) = params.denormalise(jnp.tanh(modulation), [config.CUTOFF_HZ])
    (q,) = params.denormalise(2 * shares[..., 4:] - 1, [config.Q])
    return cutoff_hz, q


def estimated_cutoff(weights: Tree, notes: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return cutoff (n, n_frames) in Hz and Q (n,) that a low-pass network estimates from notes."""
    cutoff_hz, q = jax.jit(lambda weights, notes: cutoff_and_q(*network_output("lp", weights, notes)))(
        weights, notes
    )
    return np.asarray(cutoff_hz, np.float32), np.asarray(q, np.float32)


def rendered_by(controls: synth.Controls, form: str | int) -> jax.Array:
    """Render the notes by the recursion, or by windows of so many samples."""
    if form == RECURSION:
        start = synth.initial_state(controls.f0_hz.shape)
        return synth.synth(controls, start, config.LENGTH, config.FS, hop=config.HOP)[0]
    return synth.synth_sampled(controls, config.LENGTH, config.FS, hop=config.HOP, n_window=int(form))


def make_loss(filter_name: str, form: str | int) -> LossFn:
    """Return the multi-scale spectral loss of a batch of notes, as auraloss 0.4.0 has it."""

    def loss_fn(weights: Tree, batch: dict[str, Any], key: jax.Array) -> jax.Array:
        return losses.mrstft(rendered_by(controls_of(filter_name, weights, batch), form), batch["audio"])

    return loss_fn


def trained(
    setting: Setting, steps: int, sets: dict[str, dict[str, Any]], on_record: Callable[[dict], None]
) -> Trained:
    """Train; the weights are those of the lowest validation loss, in the form that is trained."""
    schedule = optax.cosine_decay_schedule(config.RATE, steps, alpha=0.05)
    optimizer = optax.adamw(schedule, weight_decay=config.WEIGHT_DECAY)
    loss_fn = make_loss(setting.filter, setting.form)
    key = jax.random.key(setting.seed)
    state = init_state(started(setting, sets), optimizer, key=key)
    validate = jax.jit(lambda weights: loss_fn(weights, sets["validation"], key))
    best: dict[str, Any] = {"loss": np.inf}

    def look(state: TrainState) -> dict[str, float]:
        loss = float(validate(state.params))
        if loss < best["loss"]:
            best.update(loss=loss, weights=jax.tree.map(np.array, state.params), step=int(state.step))
        return {"validation": loss}

    fitted = fit.fit(
        parallel.single(make_train_step(loss_fn, optimizer, clip_norm=config.CLIP)),
        state,
        data.endless(sets["train"], min(config.BATCH, len(sets["train"]["audio"])), seed=setting.seed),
        steps,
        log_every=min(config.CHECK, steps),
        evaluate=look,
        on_record=on_record,
    )
    return Trained(best["weights"], best["step"], fitted.records)


def started(setting: Setting, sets: dict[str, dict[str, Any]]) -> Tree:
    """Return the first weights, the same for every form."""
    init = jax.jit(network(setting.filter).init)
    return init(jax.random.key(setting.seed), sets["train"]["features"][:1])


def rendered(filter_name: str, form: str | int) -> Callable[[Tree, dict[str, Any]], tuple]:
    """Return a function of weights and notes: the rendered notes (n, n_samples) and their losses (n,)."""

    @jax.jit
    def play(weights: Tree, notes: dict[str, Any]) -> tuple[jax.Array, jax.Array]:
        found = rendered_by(controls_of(filter_name, weights, notes), form)
        return found, jax.vmap(losses.mrstft)(found, notes["audio"])

    return play
