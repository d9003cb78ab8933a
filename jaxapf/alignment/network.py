"""The aligner: a network that predicts the filters between two recordings, in a fixed number of steps.

    cross-spectrum -> candidate delays, both polarities -> six times: the network values the sections of a
    dictionary on the residual, the best is placed, all that is placed is refined -> the best of them

The candidates are peaks of the cross-correlation, plain and whitened. The score of a prediction needs no
filtered signal, because the inner product of a unit-gain filter's output with the wet signal is one sum over
the cross-spectrum (frequency sampling); so the best is taken. The passes of the network and what is between
them (`jaxapf.alignment.matching_pursuit`) are one program of fixed length.

The other kind of network is the original's: from the raw signals to all controls at once.

    network = load("network.npz")                # of experiments/drum_mics
    predictions = predict(network, cross_spectrum.measure(dry, wet, fs, max_delay), max_delay)
    y = shift(predictions.at(0), dry, fs)
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxapf import allpass, frequency, params
from jaxapf._internal import serialization
from jaxapf._internal.delay import delay_response
from jaxapf._internal.fft import fast_length
from jaxapf._internal.files import PathLike
from jaxapf.alignment import cross_spectrum, local_search, matching_pursuit, rollouts, search
from jaxapf.alignment.cascade import Cascade, Controls, from_controls, to_sections, without_sections
from jaxapf.alignment.cross_spectrum import CrossSpectrum
from jaxapf.alignment.features import Features, candidates, extract, score, waves
from jaxapf.alignment.problem import AlignmentProblem, Fit, Report
from jaxapf.nets.tcn import TCN
from jaxapf.training import pretrained

__all__ = [
    "Design",
    "Network",
    "Predictions",
    "best_cascade",
    "load",
    "make_loss",
    "make_net",
    "predict",
    "predict_from_waves",
    "predict_greedily",
    "refine",
    "save",
    "shift",
    "solve",
]

Tree = Any
STORED = "tcn-aligner"  # the network, among the stored checkpoints
CHANNELS = {"cross-phase": rollouts.CHANNELS, "waves": 2}  # of the input of either kind of network
ALL_HEADS = 0.03  # share of the loss by which all heads learn from all pairs
UNTRAINED = -1.5  # log odds of what is missing being reached, before anything is learnt
_RENAMED = {"hears": "kind"}  # fields of a Design in files of older versions


class Design(NamedTuple):
    """Configuration of a network, of kind `"cross-phase"` (see `rollouts`) or `"waves"` (raw signals).

    Along 512 bands taps next to each other see enough; along samples they are spread (`nets.tcn.DILATIONS`).
    """

    kind: str = "cross-phase"
    sections: int = 6
    width: int = 32
    depth: int = 5
    norm: str = "layer"
    pool: str = "none"
    dilations: tuple[int, ...] = (1,)
    hidden: tuple[int, ...] = (512,)
    heads: int = 8  # for waves only, predictions of one pass, and so below
    cutoff_scale: str = "log"  # or "linear", as in the original
    n_samples: int = 32768

    def controls(self) -> tuple[params.Control, ...]:
        """Return the controls of one prediction, in order."""
        cutoff_hz = params.CUTOFF_HZ._replace(scale=self.cutoff_scale)
        return (params.DELAY_MS, params.POLARITY, *[cutoff_hz, params.Q] * self.sections)


class Network(NamedTuple):
    """A design and its weights."""

    design: Design
    weights: Tree


def make_net(design: Design) -> TCN:
    """Make the network from (..., channels, length) to controls or values of atoms in (0, 1)."""
    if design.kind not in CHANNELS:
        raise ValueError(f"kind is {design.kind!r}; choose one of {', '.join(CHANNELS)}.")
    at_once = design.kind == "waves"
    return TCN(
        features=design.heads * len(design.controls()) if at_once else matching_pursuit.ATOMS,
        width=design.width,
        depth=design.depth,
        norm=design.norm,
        pool=design.pool,
        dilations=tuple(design.dilations),
        hidden=tuple(design.hidden),
        bias=_spread(design) if at_once else nn.initializers.constant(UNTRAINED),
        kernel=nn.initializers.lecun_normal() if at_once else nn.initializers.zeros,
    )


def _spread(design: Design) -> nn.initializers.Initializer:
    """Return biases that spread the first predictions over their ranges, the delay near its middle."""

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        spread = jax.random.uniform(key, shape, dtype, 0.1, 0.9).reshape(design.heads, -1)
        spread = spread.at[:, 0].set(0.5 + 0.2 * (spread[:, 0] - 0.5))
        return jnp.log(spread / (1 - spread)).reshape(shape)

    return init


def controls_of(outputs: Any, design: Design) -> Controls:
    """Convert a network's outputs (..., outputs) in (0, 1) to Controls (..., heads)."""
    heads = jnp.reshape(outputs, (*outputs.shape[:-1], design.heads, len(design.controls())))
    delay_ms, polarity, *sections = params.denormalise(2 * heads - 1, design.controls())
    return Controls(delay_ms, polarity, jnp.stack(sections[::2], axis=-1), jnp.stack(sections[1::2], axis=-1))


def make_loss(design: Design, omega: Any, fs: float) -> Any:
    """Make the loss of a network; for cross-phase that of its value function.

    Batches are dicts of `cross` and `total` (examples, candidates, bands), and `waves` (..., 2, n_samples).

    For waves it is the correlation that the best predictions miss: a head learns from the pairs it predicts
    best (multiple choice, Guzman-Rivera et al. 2012), all a little from all. Wrong delays count as much as
    the right one: they are what makes the network use its filters at all.
    """
    net = make_net(design)
    if design.kind == "cross-phase":
        return rollouts.make_loss(net, omega, fs, design.sections)
    bands = jnp.asarray(omega)

    def loss_fn(weights: Tree, batch: Tree, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        total = batch["total"]
        outputs = jnp.asarray(net.apply(weights, batch["waves"]))
        scores = score(controls_of(outputs, design), Features(bands, batch["cross"], total), fs)
        reached = scores / jnp.maximum(jnp.sum(total, axis=-1), 1e-20)[..., None]
        best = jnp.max(reached, axis=-1)
        loss = (1 - ALL_HEADS) * jnp.mean(1 - best) + ALL_HEADS * jnp.mean(1 - reached)
        return loss + _saturated(outputs), {"reached": jnp.mean(best)}

    return loss_fn


def _saturated(outputs: jax.Array) -> jax.Array:
    """Return a small penalty on outputs at the ends of their ranges, where a sigmoid has no gradient."""
    odds = jnp.log(outputs) - jnp.log1p(-jnp.minimum(outputs, 1 - 1e-6))
    return 0.003 * jnp.mean(jnp.maximum(jnp.abs(odds) - 4.0, 0.0) ** 2)


def shift(controls: Controls, x: Any, fs: float, *, method: str = "auto") -> jax.Array:
    """Shift a signal (..., n_samples) by a delay, the polarity's sign and the cascade by some `method`."""
    signal = jnp.asarray(x)
    n_samples = signal.shape[-1]
    n_fft = fast_length(3 * n_samples)
    delay = jnp.asarray(controls.delay_ms, signal.dtype) * (1e-3 * fs)
    omega = jnp.arange(n_fft // 2 + 1, dtype=signal.dtype) * (2 * np.pi / n_fft)
    late = frequency.apply_response(delay_response(delay, omega, jnp), signal, n_fft)
    # Later than the padding the transform would bring the end back to the beginning.
    audible = jnp.abs(delay) < n_samples
    sign = jnp.sign(jnp.asarray(controls.polarity, signal.dtype)) * audible.astype(signal.dtype)
    sections = to_sections(from_controls(controls, fs))
    return allpass.cascade(sections, sign * late, method=method)


class Predictions(NamedTuple):
    """Predictions for one pair, best first: ``controls`` and ``score``, (n_predictions,)."""

    controls: Controls
    score: np.ndarray

    def at(self, row: int) -> Controls:
        """Return one of the predictions; 0 is the best."""
        return Controls(*(field[row] for field in self.controls))


def predict(network: Network, cross: CrossSpectrum, max_delay: int) -> Predictions:
    """Predict from the cross-spectrum, for all candidate delays (in samples) and polarities."""
    if network.design.kind != "cross-phase":
        raise ValueError(f"the network is of kind {network.design.kind!r}; expected 'cross-phase'.")
    return _placed(partial(_place, network.design, network.weights), cross, max_delay)


def predict_greedily(cross: CrossSpectrum, max_delay: int, sections: int = 6) -> Predictions:
    """Predict as `predict`, without a network: each section goes where it gains most at once."""
    return _placed(partial(_place, Design(sections=sections), None), cross, max_delay)


def _placed(program: Any, cross: CrossSpectrum, max_delay: int) -> Predictions:
    """Run a program `(features, fs, delays, max_delay) -> (PartialCascade, polarity)`."""
    delays = candidates(cross, max_delay)
    features = extract(cross, delays)
    inputs = (features, np.float32(cross.fs), delays.astype(np.float32), np.float32(max_delay))
    found, polarity = jax.tree.map(np.asarray, program(*inputs))
    controls = Controls(
        1e3 / cross.fs * (delays[found.row % len(delays)] + found.delay),
        polarity[found.row].astype(np.float64),
        np.arctan(np.exp(found.log_t.astype(np.float64))) * cross.fs / np.pi,
        np.exp(-found.log_d.astype(np.float64)),
    )
    return Predictions(controls, found.reached * np.sum(features.total[0]))


@partial(jax.jit, static_argnums=0)
def _place(
    design: Design, weights: Tree, features: Features, fs: Any, delays: Any, most: Any
) -> tuple[matching_pursuit.PartialCascade, jax.Array]:
    problem = matching_pursuit.make_problem(features, fs, delays, most)
    value = matching_pursuit.greedy
    if weights is not None:
        value = rollouts.value_function(make_net(design), weights)
    return matching_pursuit.place(problem, value, design.sections), problem.polarity


def predict_from_waves(
    network: Network, dry: np.ndarray, wet: np.ndarray, fs: float, max_delay: int
) -> Predictions:
    """Predict from signals (n_samples,), at the training's rate, in one pass for all candidate delays."""
    if network.design.kind != "waves":
        raise ValueError(f"the network is of kind {network.design.kind!r}; expected 'waves'.")
    cross = cross_spectrum.measure(dry, wet, fs, max_delay)
    delays = candidates(cross, max_delay)
    inputs = np.stack([waves(dry, wet, round(delay), network.design.n_samples) for delay in delays])
    predicted = _from_waves(network.design, network.weights, inputs, extract(cross, delays), np.float32(fs))
    return ranked(predicted, delays, fs)


def ranked(predicted: tuple[Controls, Any], delays: np.ndarray, fs: float) -> Predictions:
    """Flatten controls (candidates, heads) and their scores, best first, with whole delays."""
    found, scores = jax.tree.map(np.asarray, predicted)
    whole = found._replace(
        delay_ms=found.delay_ms + 1e3 / fs * delays[:, None], polarity=np.where(found.polarity < 0, -1.0, 1.0)
    )
    order = np.argsort(-scores.ravel(), kind="stable")
    flat = (np.reshape(field, (scores.size, *field.shape[2:]))[order] for field in whole)
    return Predictions(Controls(*flat), scores.ravel()[order])


@partial(jax.jit, static_argnums=0)
def _from_waves(
    design: Design, weights: Tree, inputs: Any, features: Features, fs: Any
) -> tuple[Controls, jax.Array]:
    """Return controls (candidates, heads) and their scores, with polarities as they would be used."""
    controls = controls_of(make_net(design).apply(weights, inputs), design)
    used = controls._replace(polarity=jnp.where(controls.polarity < 0, -1.0, 1.0))
    return controls, score(used, features, fs)


def best_cascade(predictions: Predictions, cross: CrossSpectrum, max_delay: int) -> Cascade:
    """Return the best prediction, or the best delay and polarity alone where those score higher; float64."""
    best = from_controls(predictions.at(0), cross.fs)
    lags = cross_spectrum.cross_correlation(cross, max_delay)
    plain = float(np.max(np.abs(lags))) / np.sqrt(max(cross.dry_energy * cross.wet_energy, 1e-300))
    if predictions.score[0] > plain:
        return best._replace(delay=np.clip(best.delay, -float(max_delay), float(max_delay)))
    return without_sections(*cross_spectrum.best_delay(cross, max_delay))


def refine(predictions: Predictions, cross: CrossSpectrum, max_delay: int, *, steps: int = 50) -> Cascade:
    """Return the best cascade near the predictions after ten or more steps of refinement, float64."""
    objective = search.Objective(cross, 0.0, max_delay)
    return local_search.refine(starts(predictions, cross.fs), objective, steps).cascade


def starts(predictions: Predictions, fs: float) -> list[Cascade]:
    """Return the predictions that differ, as cascades to refine, best first."""
    # Candidates of one delay give the same.
    rounded = np.round(np.stack([predictions.score, predictions.controls.delay_ms], axis=1), 5)
    rows = np.sort(np.unique(rounded, axis=0, return_index=True)[1])[: search.BATCH]
    return [from_controls(predictions.at(row), fs) for row in rows]


def predict_stored(problem: AlignmentProblem) -> tuple[Network, Predictions]:
    """Return the stored network and what it predicts for two recordings."""
    network = load(pretrained.path(STORED))
    return network, predict(network, problem.spectrum, problem.max_delay)


def solve(problem: AlignmentProblem, order: int | str, rng: np.random.Generator, report: Report) -> Fit:
    """Take the stored network's best prediction: the method "tcn" of `align`."""
    report("predicting")
    network, predictions = predict_stored(problem)
    cascade = best_cascade(predictions, problem.spectrum, problem.max_delay)
    return Fit(cascade, f"the network gives {network.design.sections} sections")


def save(network: Network, path: PathLike) -> None:
    """Keep a network in one file, its weights in half precision."""
    serialization.save(network.design._asdict(), network.weights, path)


def load(path: PathLike) -> Network:
    """Read a network of `save`, of this version or an older one; float32 again."""
    return serialization.load(path, "network of jaxapf's aligner", _network)


def _network(design: dict[str, Any], weights: Tree) -> Network:
    return Network(Design(**{_RENAMED.get(name, name): value for name, value in design.items()}), weights)
