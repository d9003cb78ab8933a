"""The network of style transfer, which sets an equaliser and a compressor to match a reference recording.

    network = load("style.npz")                     # of experiments/style_transfer
    raw = predict(*network, x, reference, process_at_fs, passes=2)  # at FS
    y, raw = match_level(raw, x, reference, process_at_fs)

From log-mel spectrograms of both the network predicts the controls of effects, whose output is an input of
the next pass. The controls can be read, changed, and used at any sample rate.

Source: Steinmetz, Bryan and Reiss 2022, "Style Transfer of Audio Effects with Differentiable Signal
Processing", arXiv 2207.08759.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from jaxapf import params
from jaxapf._internal import serialization
from jaxapf._internal.files import PathLike
from jaxapf.audio.mel import mel_corners_hz
from jaxapf.effects import chain, equalizer, proxies
from jaxapf.effects._controls import Signal, SignalLike
from jaxapf.nets.encoder import CurveReader, StyleController, log_mel
from jaxapf.training.step import init_state, make_train_step

__all__ = [
    "CONTROLS",
    "FS",
    "LEVEL_DB",
    "MELS",
    "OFFSET_DB",
    "STRIP",
    "Design",
    "Network",
    "curve_db",
    "features",
    "initial_weights",
    "level_db",
    "load",
    "make_net",
    "match_level",
    "predict",
    "process",
    "process_at_fs",
    "proxy_process",
    "save",
]

FS = 24_000  # of the network's input
LEVEL_DB = -23.0  # RMS of its input, and of that of the effects
HOP, N_FFT, MELS = 256, 1024, 80
FLOOR = 1e-11  # of power: an equaliser changes soft bands too
FIXED = {"average_ms": 1.0, "lookahead_ms": 0.0}
OPTIONS = {"detector": "rms", "smoothing": "gain_db"}  # of the compressor
STRIP = chain.chain(chain.effect("equalizer"), chain.effect("compressor", fixed=FIXED, **OPTIONS))
CONTROLS = STRIP.controls
N_EQUALIZER = len(params.EQUALIZER)
MAKEUP = next(i for i, one in enumerate(CONTROLS) if one.name == "compressor.makeup_db")
OFFSET_DB = 6.0  # most difference in level from the reference
_NO_MAKEUP = float(params.normalise(np.zeros(1), [CONTROLS[MAKEUP]])[0])
_CENTRES_HZ = mel_corners_hz(MELS, FS)[1:-1]
Process = Callable[[jax.Array, jax.Array], jax.Array]


class Design(NamedTuple):
    """Sizes of a network; the rest follows from `CONTROLS`."""

    channels: int = 64
    dilations: Sequence[int] = (1, 2, 4)
    kernel: int = 3
    hidden: Sequence[int] = (512, 256)


class Network(NamedTuple):
    """A design and the weights of its network."""

    design: Design
    weights: Any


def make_net(design: Design) -> StyleController:
    """Return the network of a design."""
    sizes = (design.channels, design.dilations, design.kernel, design.hidden)
    return StyleController(N_EQUALIZER, len(CONTROLS) - N_EQUALIZER, *sizes)


def features(x: SignalLike) -> Float[Array, "... 80 n_frames"]:
    """Return the log-mel spectrogram of a signal at `FS`."""
    return log_mel(x, FS, hop=HOP, n_fft=N_FFT, n_mels=MELS, floor=FLOOR)


def predict(
    design: Design,
    weights: Any,
    given: SignalLike,
    reference: Float[ArrayLike, "... n_samples_2"],
    process: Process,
    passes: int,
) -> Float[Array, "... 24"]:
    """Predict raw controls in so many passes, each from the output of the effects with those before.

    Signals are at `FS`; `process` is `(raw, given) -> y`, the effects, not differentiated here. The make-up
    gain is relative: see `match_level`.

    Example:
        >>> design, silence = Design(channels=8, dilations=(1,), hidden=(8,)), jnp.zeros(4096)
        >>> weights = initial_weights(design, jax.random.key(0), 0)
        >>> predict(design, weights, silence, silence, lambda raw, x: x, passes=1).shape
        (24,)
    """
    net = make_net(design)
    own, other = features(given), features(reference)
    neutral = jnp.zeros((*own.shape[:-2], len(CONTROLS)), own.dtype)
    raw: Any = net.apply(weights, own, other, own, jnp.zeros(own.shape[:-1], own.dtype), neutral)
    for _ in range(passes - 1):
        before = jax.lax.stop_gradient(raw)
        processed = jax.lax.stop_gradient(features(match_level(before, given, reference, process)[0]))
        raw = net.apply(weights, own, other, processed, curve_db(before), before)
    return raw


def match_level(
    raw: Float[Array, "... 24"],
    given: SignalLike,
    reference: Float[ArrayLike, "... n_samples_2"],
    process: Process,
) -> tuple[Signal, Float[Array, "... 24"]]:
    """Return the effects' output at about the level of the reference, and the controls that give it.

    The network's make-up gain is the level relative to the reference, up to `OFFSET_DB`; the gain of the
    output, within its range, follows from that.
    """
    control = CONTROLS[MAKEUP]
    y = process(raw.at[..., MAKEUP].set(_NO_MAKEUP), jnp.asarray(given))
    gain_db = level_db(reference) - level_db(y) + OFFSET_DB * raw[..., MAKEUP]
    gain_db = jnp.clip(gain_db, control.low, control.high)
    makeup = params.normalise(gain_db[..., None], [control])[..., 0]
    return y * 10 ** (gain_db[..., None] / 20), raw.at[..., MAKEUP].set(makeup)


def level_db(x: Float[ArrayLike, "*batch n_samples"]) -> Float[Array, "*batch"]:
    """Return the RMS level in dBFS, not below -100."""
    return 10 * jnp.log10(jnp.maximum(jnp.mean(jnp.asarray(x) ** 2, axis=-1), 1e-10))


def curve_db(raw: Float[Array, "... n_controls"]) -> Float[Array, "... 80"]:
    """Return the equaliser's curve in dB at the centres of the network's bands."""
    values = params.denormalise(raw[..., :N_EQUALIZER], params.EQUALIZER)
    return equalizer.response_db(equalizer.packed(values), jnp.asarray(_CENTRES_HZ, raw.dtype), FS)


def initial_weights(design: Design, key: PRNGKeyArray, steps: int = 3000) -> Any:
    """Return the weights before the first training step on recordings: random, but for the reader of curves.

    It is trained on random settings alone to estimate an equaliser from its curve, to which smooth noise is
    added as large as between two sections of one recording. That takes seconds, and no recording; with no
    `steps` the reader is random as well.
    """
    of_weights, of_curves = jax.random.split(key)
    mels, curve = jnp.zeros((1, MELS, 4)), jnp.zeros((1, MELS))
    init = jax.jit(make_net(design).init)
    weights: Any = init(of_weights, mels, mels, mels, curve, jnp.zeros((1, len(CONTROLS))))
    if steps == 0:
        return weights
    reader, optimizer = CurveReader(N_EQUALIZER), optax.adam(optax.cosine_decay_schedule(1e-3, steps))

    def loss_fn(own: Any, batch: Any, key: jax.Array) -> jax.Array:
        true, noisy = _curves(key)
        error = curve_db(jnp.asarray(reader.apply({"params": own}, noisy))) - true
        shape = error - jnp.mean(error, axis=-1, keepdims=True)
        return jnp.mean(jnp.abs(shape)) + 0.2 * jnp.mean(jnp.abs(error))

    step = make_train_step(loss_fn, optimizer, clip_norm=10.0)
    state = init_state(weights["params"]["reader"], optimizer, key=of_curves)
    state = jax.lax.fori_loop(0, steps, lambda _, state: step(state, ())[0], state)
    return {"params": {**weights["params"], "reader": state.params}}


def _curves(key: jax.Array, n: int = 128) -> tuple[jax.Array, jax.Array]:
    """Return curves (n, MELS) of random settings, and the same with noise, smooth over a few bands."""
    of_raw, of_noise, of_size = jax.random.split(key, 3)
    true = curve_db(jax.random.uniform(of_raw, (n, N_EQUALIZER), minval=-1, maxval=1))
    white = jax.random.normal(of_noise, (n, MELS))
    kernel = jnp.asarray(np.hanning(9) / np.linalg.norm(np.hanning(9)), white.dtype)
    smooth = jax.vmap(lambda one: jnp.convolve(one, kernel, mode="same"))(white)
    return true, true + smooth * jax.random.uniform(of_size, (n, 1), maxval=6.0)


def process(raw: Float[ArrayLike, "... 24"], x: SignalLike, fs: float, *, method: str = "exact") -> Signal:
    """Process a signal at any rate in Hz by equaliser and compressor, or by frequency sampling (`"fsm"`)."""
    return chain.apply(STRIP, params.denormalise(raw, CONTROLS), x, fs, method=method)


def process_at_fs(raw: Float[ArrayLike, "... 24"], x: SignalLike) -> Signal:
    """Process a signal at `FS`."""
    return process(raw, x, FS)


def proxy_process(equalizer: str, compressor: str) -> Process:
    """Return a function like `process_at_fs` of two stored proxies, by their names for `proxies.load`.

    Example:
        >>> proxy_process("proxy-equalizer-cnn", "proxy-compressor-cnn")(jnp.zeros(24), jnp.zeros(100)).shape
        (100,)
    """
    first, second = proxies.load(equalizer), proxies.load(compressor)
    split = len(first.controls)

    def processed(raw: jax.Array, x: jax.Array) -> jax.Array:
        return proxies.apply(second, proxies.apply(first, x, raw[..., :split]), raw[..., split:])

    return processed


def save(network: Network, path: PathLike) -> None:
    """Write a network to one file, its weights in half precision; ValueError where that cannot hold them."""
    names = [one.name for one in CONTROLS]
    serialization.save({"design": network.design._asdict(), "controls": names}, network.weights, path)


def load(path: PathLike) -> Network:
    """Read a network of `save`; float32 again.

    Raises:
        ValueError: the file cannot be read, is none of `save`, or has other controls.
    """
    return serialization.load(path, "network of jaxapf's style transfer", _network)


def _network(description: dict[str, Any], weights: Any) -> Network:
    if description["controls"] != tuple(one.name for one in CONTROLS):
        raise ValueError("other controls")
    return Network(Design(**description["design"]), weights)
