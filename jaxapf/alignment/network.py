"""The aligner: a network hears two recordings and names the filters, in a fixed number of steps.

    cross-spectrum -> candidate delays, both polarities -> six times: the network hears the residual, says
    where the next section belongs, and all that is placed settles -> the best of them

The candidates are peaks of the cross-correlation, plain and whitened. What an answer is worth is known at
once, because the inner product of a unit-gain filter's output with the wet signal is one sum over the
cross-spectrum (frequency sampling, without a signal being filtered); so the best is taken. The passes of the
network and what is between them (`jaxapf.alignment.matching_pursuit`) are one program of fixed length.

The other kind of network is the original's: it hears the raw signals and gives all controls at once.

    network = load("network.npz")                # of experiments/drum_mics
    answers = predict(network, spectrum.measure(dry, wet, fs, max_delay), max_delay)
    y = shift(answers.best, dry, fs)
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxapf import allpass, params
from jaxapf._internal import serialization
from jaxapf._internal.arrays import with_rank
from jaxapf._internal.fft import fast_length
from jaxapf._internal.files import PathLike
from jaxapf.alignment import cross_spectrum, local_search, matching_pursuit, rollouts, search
from jaxapf.alignment.features import HIGHEST, Controls, Heard, candidates, hear, score, waves
from jaxapf.alignment.least_squares import SECOND, Cascade
from jaxapf.nets.tcn import TCN

Tree = Any
HEARS = {"cross-phase": rollouts.CHANNELS, "waves": 2}  # kinds of networks, and the channels they take
ALL_HEADS = 0.03  # share of the loss by which all heads learn from all pairs
UNTOLD = -1.5  # log odds of what is left being reached, before anything is learnt


class Design(NamedTuple):
    """What a network is, beside its weights.

    ``hears``: `"cross-phase"` (bands of what is left of the cross-spectrum, section by section; see
    `jaxapf.alignment.rollouts`) or `"waves"` (the two signals, the dry one shifted to a candidate delay, once);
    ``sections``: all-pass sections of an answer; ``width``, ``depth``, ``norm``, ``pool``, ``dilations``,
    ``hidden``: those of `nets.TCN`. Along 512 bands taps next to each other see enough; along samples they
    are spread (`nets.tcn.DILATIONS`). For waves only: ``heads``, answers it gives; ``cutoff_scale``, `"log"`,
    or `"linear"` as in the original; ``n_samples`` of a recording.
    """

    hears: str = "cross-phase"
    sections: int = 6
    width: int = 32
    depth: int = 5
    norm: str = "layer"
    pool: str = "none"
    dilations: tuple[int, ...] = (1,)
    hidden: tuple[int, ...] = (512,)
    heads: int = 8
    cutoff_scale: str = "log"
    n_samples: int = 32768

    def controls(self) -> tuple[params.Control, ...]:
        """What one answer consists of, in order."""
        cutoff_hz = params.CUTOFF_HZ._replace(scale=self.cutoff_scale)
        return (params.DELAY_MS, params.POLARITY, *[cutoff_hz, params.Q] * self.sections)


class Network(NamedTuple):
    """A design and its weights."""

    design: Design
    weights: Tree


# The network


def make_net(design: Design) -> TCN:
    """The network of a design.

    Args:
        design: what it hears and its sizes.

    Returns:
        A Flax module, from (..., channels, bands or samples) to (..., outputs) in (0, 1): for waves the
        controls of all heads, else for each section of the dictionary how much of what is left will be
        reached in the end.

    Raises:
        ValueError: it hears something unknown.

    Example:
        >>> make_net(Design(hears="waves", heads=2)).features
        28
    """
    if design.hears not in HEARS:
        raise ValueError(f"hears is {design.hears!r}; choose one of {', '.join(HEARS)}.")
    at_once = design.hears == "waves"
    return TCN(
        features=design.heads * len(design.controls()) if at_once else matching_pursuit.WORDS,
        width=design.width,
        depth=design.depth,
        norm=design.norm,
        pool=design.pool,
        dilations=tuple(design.dilations),
        hidden=tuple(design.hidden),
        bias=_spread(design) if at_once else nn.initializers.constant(UNTOLD),
        kernel=nn.initializers.lecun_normal() if at_once else nn.initializers.zeros,
    )


def _spread(design: Design) -> nn.initializers.Initializer:
    """Biases of the last layer that spread the first answers over the ranges, the delay near its middle."""

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        spread = jax.random.uniform(key, shape, dtype, 0.1, 0.9).reshape(design.heads, -1)
        spread = spread.at[:, 0].set(0.5 + 0.2 * (spread[:, 0] - 0.5))
        return jnp.log(spread / (1 - spread)).reshape(shape)

    return init


def controls_of(outputs: Any, design: Design) -> Controls:
    """What a network's outputs (..., outputs) in (0, 1) stand for: Controls (..., heads).

    Example:
        >>> found = controls_of(jnp.full(28, 0.5), Design(hears="waves", heads=2))
        >>> found.cutoff_hz.shape, round(float(found.cutoff_hz[0, 0])), round(float(found.q[0, 0]), 3)
        ((2, 6), 632, 1.0)
    """
    heads = jnp.reshape(outputs, (*outputs.shape[:-1], design.heads, len(design.controls())))
    delay_ms, polarity, *rest = params.denormalise(2 * heads - 1, design.controls())
    return Controls(delay_ms, polarity, jnp.stack(rest[::2], axis=-1), jnp.stack(rest[1::2], axis=-1))


# Training


def make_loss(design: Design, omega: Any, fs: float) -> Any:
    """The loss that a network is trained by.

    Of a network that hears the cross-spectrum it is how far its forecasts are from what came of them when
    they were played out (`playing.make_loss`); of one that hears waves what its best answers leave of the
    correlation: a head learns from the pairs it answers best (multiple choice), all heads a little from all
    (`ALL_HEADS`), and delays that are wrong count as much as the right one, for they are what makes the
    network use its filters at all.

    Args:
        design: of the network.
        omega: (bands,), of `hear`.
        fs: sample rate in Hz.

    Returns:
        A loss as `make_train_step` wants it; its batches are dicts of `cross` and `total` (examples,
        candidates, bands), and, for waves, `waves` (examples, candidates, 2, n_samples). Its metric
        `reached` is the share of the phase-only bound that the best answers reach.

    Source: multiple choice: Guzman-Rivera, Batra and Kohli 2012.

    Example:
        >>> design = Design(width=8, hidden=(8,))
        >>> loss = make_loss(design, jnp.linspace(0.01, 3.0, 64), 44100.0)
        >>> batch = {"cross": jnp.ones((1, 3, 64), jnp.complex64), "total": jnp.ones((1, 3, 64))}
        >>> weights = make_net(design).init(jax.random.key(0), jnp.zeros((1, HEARS["cross-phase"], 64)))
        >>> value, metrics = loss(weights, batch, jax.random.key(1))
        >>> value.shape, sorted(metrics)
        ((), ['reached', 'tried'])
    """
    net = make_net(design)
    if design.hears == "cross-phase":
        return rollouts.make_loss(net, omega, fs, design.sections)
    bands = jnp.asarray(omega)

    def loss_fn(weights: Tree, batch: Tree, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        total = batch["total"]
        outputs = jnp.asarray(net.apply(weights, batch["waves"]))
        worth = score(controls_of(outputs, design), Heard(bands, batch["cross"], total), fs)
        reached = worth / jnp.maximum(jnp.sum(total, axis=-1), 1e-20)[..., None]
        best = jnp.max(reached, axis=-1)
        loss = (1 - ALL_HEADS) * jnp.mean(1 - best) + ALL_HEADS * jnp.mean(1 - reached)
        return loss + _saturated(outputs), {"reached": jnp.mean(best)}

    return loss_fn


def _saturated(outputs: jax.Array) -> jax.Array:
    """A small penalty on outputs at the ends of their ranges, where a sigmoid has no gradient any more.

    Sections there do nothing, which early in training is better than to err; without it they stay there.
    """
    odds = jnp.log(outputs) - jnp.log1p(-jnp.minimum(outputs, 1 - 1e-6))
    return 0.003 * jnp.mean(jnp.maximum(jnp.abs(odds) - 4.0, 0.0) ** 2)


# Shifting a signal


def sections_of(controls: Controls, fs: float) -> allpass.Sections:
    """The all-pass sections of controls: `allpass.rbj`, frequencies kept below half the rate.

    Example:
        >>> sections_of(Controls(0.0, 1.0, np.array([1000.0]), np.array([0.7])), 44100.0).sos.shape
        (1, 6)
    """
    xp = jnp if isinstance(controls.cutoff_hz, jax.Array) else np
    return allpass.rbj(xp.minimum(controls.cutoff_hz, HIGHEST * fs), controls.q, fs)


def shift(controls: Controls, x: Any, fs: float, *, method: str = "auto") -> jax.Array:
    """Shift a signal by a delay, the polarity's sign and the all-pass cascade.

    Differentiable by all but the sign.

    Args:
        controls: one answer: ``delay_ms`` (), the whole one, ``cutoff_hz`` and ``q`` (sections,).
        x: (..., n_samples).
        fs: sample rate in Hz.
        method: of the cascade, as in `allpass.cascade`: exact recursion (`"auto"`, `"scan"`, `"blocked"`,
            `"associative"`) or frequency sampling (`"fsm"`). The delay is a linear phase in both.

    Returns:
        (..., n_samples) in the dtype of `x`.

    Raises:
        ValueError: an unknown method.

    Source: 'Differentiable All-Pass DNNs' (six second-order all-pass filters by frequency sampling), with a
        delay and a polarity.

    Example:
        >>> late = Controls(1.0, -1.0, jnp.full(6, 20.0), jnp.full(6, 10.0))
        >>> shift(late, jnp.zeros(64).at[0].set(1.0), 8000.0).shape
        (64,)
    """
    signal = jnp.asarray(x)
    n_samples = signal.shape[-1]
    n_fft = fast_length(3 * n_samples)
    omega = jnp.arange(n_fft // 2 + 1, dtype=signal.dtype) * (2 * np.pi / n_fft)
    turn = omega * jnp.asarray(controls.delay_ms * (1e-3 * fs), signal.dtype)
    lateness = with_rank(jax.lax.complex(jnp.cos(turn), -jnp.sin(turn)), signal.ndim)
    late = jnp.fft.irfft(jnp.fft.rfft(signal, n_fft) * lateness, n_fft)
    # Later than the padding the transform would bring the end back to the beginning.
    there = jnp.abs(jnp.asarray(controls.delay_ms, signal.dtype)) * (1e-3 * fs) < n_samples
    sign = jnp.sign(jnp.asarray(controls.polarity, signal.dtype)) * there.astype(signal.dtype)
    moved = sign * late[..., :n_samples]
    return allpass.cascade(sections_of(controls, fs), moved.astype(signal.dtype), method=method)


# Predicting


class Answers(NamedTuple):
    """All answers to one pair, best first: ``controls`` with whole delays and ``score``, (answers,)."""

    controls: Controls
    score: np.ndarray

    @property
    def best(self) -> Controls:
        """The answer of the highest score."""
        return Controls(*(field[0] for field in self.controls))


def predict(network: Network, cross: cross_spectrum.CrossSpectrum, max_delay: int) -> Answers:
    """The answers of a network that hears the cross-spectrum, from all candidate delays and polarities.

    Args:
        network: of `load`, or trained.
        cross: of `spectrum.measure`.
        max_delay: largest delay looked for, in samples, of either sign.

    Returns:
        Answers, NumPy, best first.

    Raises:
        ValueError: the network hears waves.

    Example:
        >>> x = np.random.default_rng(0).standard_normal(4096)
        >>> design = Design(width=8, hidden=(8,))
        >>> network = Network(design, make_net(design).init(jax.random.key(0), jnp.zeros((1, 7, 512))))
        >>> answers = predict(network, spectrum.measure(x, -x, 32000.0, 100), 100)
        >>> answers.controls.q.shape, float(answers.best.polarity), bool(answers.score[0] > 0.99)
        ((8, 6), -1.0, True)
    """
    if network.design.hears != "cross-phase":
        raise ValueError(f"the network hears {network.design.hears!r}; expected one for 'cross-phase'.")
    return place(partial(_placed, network.design, network.weights), cross, max_delay)


def place_greedily(cross: cross_spectrum.CrossSpectrum, max_delay: int, sections: int = 6) -> Answers:
    """As `predict`, without a network: each section goes where it gains most at once.

    Example:
        >>> x = np.random.default_rng(0).standard_normal(4096)
        >>> float(place_greedily(spectrum.measure(x, -x, 44100.0, 100), 100, 2).best.polarity)
        -1.0
    """
    return place(partial(_placed_greedily, sections), cross, max_delay)


def place(placed_of: Any, cross: cross_spectrum.CrossSpectrum, max_delay: int) -> Answers:
    """The answers of a program `(heard, fs, delays, max_delay) -> (placing.Placed, polarity)`."""
    delays = candidates(cross, max_delay)
    heard = hear(cross, delays)
    given = (heard, np.float32(cross.fs), delays.astype(np.float32), np.float32(max_delay))
    found, polarity = jax.tree.map(np.asarray, placed_of(*given))
    cutoff_hz = np.arctan(np.exp(found.log_t.astype(np.float64))) * cross.fs / np.pi
    controls = Controls(
        1e3 / cross.fs * (delays[found.row % len(delays)] + found.delay),
        polarity[found.row].astype(np.float64),
        cutoff_hz,
        np.exp(-found.log_d.astype(np.float64)),
    )
    return Answers(controls, found.reached * np.sum(heard.total[0]))


@partial(jax.jit, static_argnums=0)
def _placed(
    design: Design, weights: Tree, heard: Heard, fs: Any, delays: Any, most: Any
) -> tuple[matching_pursuit.Placed, jax.Array]:
    scene = matching_pursuit.scene_of(heard, fs, delays, most)
    judge = rollouts.judge_of(make_net(design), weights)
    return matching_pursuit.place(scene, judge, design.sections), scene.polarity


@partial(jax.jit, static_argnums=0)
def _placed_greedily(
    sections: int, heard: Heard, fs: Any, delays: Any, most: Any
) -> tuple[matching_pursuit.Placed, jax.Array]:
    scene = matching_pursuit.scene_of(heard, fs, delays, most)
    return matching_pursuit.place(scene, matching_pursuit.greedy, sections), scene.polarity


def predict_from_waves(
    network: Network, dry: np.ndarray, wet: np.ndarray, fs: float, max_delay: int
) -> Answers:
    """One pass through a network that hears the signals, for all candidate delays.

    Args:
        network: of `load`, or trained.
        dry: (n_samples,), of which the design's number of samples are heard.
        wet: the same shape.
        fs: sample rate in Hz; the network knows that of its training.
        max_delay: largest delay looked for, in samples, of either sign.

    Returns:
        Answers, NumPy, best first.

    Raises:
        ValueError: the network hears the cross-spectrum.
    """
    if network.design.hears != "waves":
        raise ValueError(f"the network hears {network.design.hears!r}; expected one for 'waves'.")
    cross = cross_spectrum.measure(dry, wet, fs, max_delay)
    delays = candidates(cross, max_delay)
    heard = hear(cross, delays)
    given = np.stack([waves(dry, wet, round(delay), network.design.n_samples) for delay in delays])
    return ranked(_answer(network.design, network.weights, given, heard, np.float32(fs)), delays, fs)


def ranked(answered: tuple[Controls, Any], delays: np.ndarray, fs: float) -> Answers:
    """Answers (candidates, heads) and their scores as one list, best first, with whole delays."""
    found, worth = jax.tree.map(np.asarray, answered)
    whole = found._replace(
        delay_ms=found.delay_ms + 1e3 / fs * delays[:, None], polarity=np.where(found.polarity < 0, -1.0, 1.0)
    )
    order = np.argsort(-worth.ravel(), kind="stable")
    flat = (np.reshape(field, (worth.size, *field.shape[2:]))[order] for field in whole)
    return Answers(Controls(*flat), worth.ravel()[order])


@partial(jax.jit, static_argnums=0)
def _answer(design: Design, weights: Tree, given: Any, heard: Heard, fs: Any) -> tuple[Controls, jax.Array]:
    """Controls (candidates, heads) and what they are worth, their polarities as they would be used."""
    controls = controls_of(make_net(design).apply(weights, given), design)
    used = controls._replace(polarity=jnp.where(controls.polarity < 0, -1.0, 1.0))
    return controls, score(used, heard, fs)


def chosen(answers: Answers, cross: cross_spectrum.CrossSpectrum, max_delay: int) -> Cascade:
    """The best answer, or the best delay and polarity alone where those are worth more.

    Args:
        answers: of `predict`.
        cross: what they were predicted from.
        max_delay: largest delay in samples, of either sign.

    Returns:
        A Cascade, NumPy float64, without sections where none help.

    Example:
        >>> x = np.random.default_rng(0).standard_normal(4096)
        >>> bad = Answers(Controls(np.zeros(1), np.ones(1), np.ones((1, 6)), np.ones((1, 6))), -np.ones(1))
        >>> chosen(bad, spectrum.measure(x, -x, 48000.0, 10), 10).kind.tolist()
        []
    """
    limit = float(max_delay)
    (best,) = cascades_of(Controls(*(field[:1] for field in answers.controls)), cross.fs)
    lags = cross_spectrum.cross_correlation(cross, max_delay)
    plain = float(np.max(np.abs(lags))) / np.sqrt(max(cross.dry_energy * cross.wet_energy, 1e-300))
    if answers.score[0] > plain:
        return best._replace(delay=np.clip(best.delay, -limit, limit))
    delay, polarity = cross_spectrum.best_delay(cross, max_delay)
    empty = np.zeros(0)
    return Cascade(np.float64(delay), empty, empty, np.zeros(0, np.int32), np.float64(polarity))


# Refining


def cascades_of(controls: Controls, fs: float) -> list[Cascade]:
    """Answers (answers,) as cascades of `fitting`, float64.

    Example:
        >>> one = Controls(np.ones(1), np.ones(1), np.full((1, 6), 100.0), np.ones((1, 6)))
        >>> float(cascades_of(one, 48000.0)[0].delay)
        48.0
    """
    delay, polarity, cutoff_hz, q = (np.asarray(field, np.float64) for field in controls)
    log_t = np.log(np.tan(np.pi / fs * np.minimum(cutoff_hz, HIGHEST * fs)))
    kind = np.full(log_t.shape[-1:], SECOND, np.int32)
    return [
        Cascade(1e-3 * fs * d, t, -np.log(one_q), kind, p)
        for d, p, t, one_q in zip(delay, polarity, log_t, q, strict=True)
    ]


def refine(
    answers: Answers, cross: cross_spectrum.CrossSpectrum, max_delay: int, *, steps: int = 50
) -> Cascade:
    """The best cascade near the answers, after some steps of refinement (`refining.refine`).

    Args:
        answers: of `predict`.
        cross: what they were predicted from.
        max_delay: largest delay in samples, of either sign.
        steps: of Levenberg-Marquardt, ten or more; sections are added on the way.

    Returns:
        A Cascade, NumPy float64.

    Example:
        >>> x = np.random.default_rng(0).standard_normal(4096)
        >>> cross = spectrum.measure(x, -x, 44100.0, 10)
        >>> start = Controls(np.array([0.01]), -np.ones(1), np.full((1, 1), 20e3), np.full((1, 1), 9.0))
        >>> bool(abs(refine(Answers(start, np.ones(1)), cross, 10, steps=10).delay) < 0.3)
        True
    """
    weighing = search.Weighing(cross, 0.0, max_delay)
    return local_search.refine(starts_of(answers, cross.fs), weighing, steps)[1]


def starts_of(answers: Answers, fs: float) -> list[Cascade]:
    """The answers that differ, as cascades to refine, best first."""
    return cascades_of(_distinct(answers, search.BATCH), fs)


def _distinct(answers: Answers, most: int) -> Controls:
    """The best answers that differ: candidates of one delay give the same."""
    told = np.round(np.stack([answers.score, answers.controls.delay_ms], axis=1), 5)
    first = np.sort(np.unique(told, axis=0, return_index=True)[1])[:most]
    return Controls(*(field[first] for field in answers.controls))


# Keeping


def save(network: Network, path: PathLike) -> None:
    """Keep a network in one file, its weights in half precision.

    Raises:
        ValueError: weights that half precision cannot hold.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(Network(Design(), {"a": np.ones(2)}), f"{folder}/net.npz")
        ...     load(f"{folder}/net.npz").weights["a"].tolist()
        [1.0, 1.0]
    """
    serialization.save(network.design._asdict(), network.weights, path)


def load(path: PathLike) -> Network:
    """Read a network of `save`; float32 again.

    Raises:
        ValueError: the file cannot be read or is none of `save`.
    """
    return serialization.load(path, "network of jaxapf's aligner", _network)


def _network(said: dict[str, Any], weights: Tree) -> Network:
    return Network(Design(**said), weights)
