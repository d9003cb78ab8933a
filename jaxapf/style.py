"""Style transfer: the controls of an equaliser and a compressor that make one recording sound like another.

    network = load("style.npz")                     # of experiments/style_transfer
    raw = predict(network, x, reference)            # at FS
    y = play(raw, x, FS)

The network hears log-mel spectrograms of both, sets the controls of real effects, hears what comes out, and
sets them again. What it chose can be read, changed, and used at any sample rate.

Source: Steinmetz, Bryan and Reiss 2022, "Style Transfer of Audio Effects with Differentiable Signal
Processing", arXiv 2207.08759.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxapf import _weights, params, proxies
from jaxapf._arrays import Values
from jaxapf.effects import chain
from jaxapf.files import PathLike
from jaxapf.nets.encoder import StyleController, log_mel

FS = 24_000  # that the network hears
LEVEL_DB = -23.0  # RMS that a recording is brought to before it is processed
HOP, N_FFT, MELS = 256, 1024, 80
FIXED = {"average_ms": 1.0, "lookahead_ms": 0.0}
OPTIONS = {"detector": "rms", "smoothing": "gain_db"}  # of the compressor
STRIP = chain.chain(chain.effect("equalizer"), chain.effect("compressor", fixed=FIXED, **OPTIONS))
CONTROLS = STRIP.controls


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
    """The network of a design.

    Example:
        >>> make_net(Design()).controls
        24
    """
    return StyleController(len(CONTROLS), design.channels, design.dilations, design.kernel, design.hidden)


def hear(x: Values) -> jax.Array:
    """What the network hears of a signal: its log-mel spectrogram.

    Args:
        x: (..., n_samples) at `FS`.

    Returns:
        (..., MELS, n_frames).

    Example:
        >>> hear(jnp.zeros(4096)).shape
        (80, 17)
    """
    return log_mel(x, FS, hop=HOP, n_fft=N_FFT, n_mels=MELS)


def choose(design: Design, weights: Any, given: Values, reference: Values, play: Any, passes: int) -> Any:
    """Raw controls, chosen again and again: each time the network hears what its choice has made.

    Args:
        design: of the network.
        weights: its weights.
        given: (..., n_samples) at `FS`.
        reference: (..., n_samples_2) at `FS`.
        play: `(raw, given) -> y`, the effects. What comes out of them is heard, not differentiated.
        passes: how often it is asked, 1 or more.

    Returns:
        (..., 24), of the last pass.

    Example:
        >>> net, silence = make_net(Design(channels=8)), jnp.zeros(4096)
        >>> weights = net.init(jax.random.key(0), *[hear(silence)] * 3, jnp.zeros(24))
        >>> choose(Design(channels=8), weights, silence, silence, lambda raw, x: x, 2).shape
        (24,)
    """
    net = make_net(design)
    here, there = hear(given), hear(reference)
    raw = jnp.zeros((*here.shape[:-2], len(CONTROLS)), here.dtype)
    raw: Any = net.apply(weights, here, there, here, raw)
    for _ in range(passes - 1):
        before = jax.lax.stop_gradient(raw)
        raw = net.apply(weights, here, there, hear(jax.lax.stop_gradient(play(before, given))), before)
    return raw


def play(raw: Any, x: Values, fs: float, *, method: str = "exact") -> jax.Array:
    """A signal through equaliser and compressor.

    Args:
        raw: (..., 24).
        x: (..., n_samples).
        fs: sample rate in Hz; any.
        method: `"exact"`, or `"fsm"` by frequency sampling.

    Returns:
        (..., n_samples).

    Example:
        >>> play(jnp.zeros(24), jnp.zeros(100), 48000.0).shape
        (100,)
    """
    return chain.apply(STRIP, params.denormalise(raw, CONTROLS), x, fs, method=method)


def proxied(equalizer: str, compressor: str) -> Any:
    """Two stored proxies in place of the effects, `(raw, x) -> y` at `FS`.

    Args:
        equalizer: name of a stored checkpoint, as `jaxapf.proxies.load` takes it.
        compressor: likewise.

    Returns:
        A function like `play`.

    Raises:
        ValueError: no such checkpoints.

    Example:
        >>> proxied("proxy-equalizer-cnn", "proxy-compressor-cnn")(jnp.zeros(24), jnp.zeros(100)).shape
        (100,)
    """
    first, second = proxies.load(equalizer), proxies.load(compressor)
    split = len(first.controls)

    def played(raw: Any, x: Values) -> jax.Array:
        return proxies.apply(second, proxies.apply(first, x, raw[..., :split]), raw[..., split:])

    return played


# Keeping


def save(network: Network, path: PathLike) -> None:
    """Keep a network in one file, its weights in half precision.

    Raises:
        ValueError: weights that half precision cannot hold.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(Network(Design(), {"a": jnp.ones(2)}), f"{folder}/net.npz")
        ...     load(f"{folder}/net.npz").weights["a"].tolist()
        [1.0, 1.0]
    """
    names = [one.name for one in CONTROLS]
    _weights.save({"design": network.design._asdict(), "controls": names}, network.weights, path)


def load(path: PathLike) -> Network:
    """Read a network of `save`; float32 again.

    Raises:
        ValueError: the file cannot be read, is none of `save`, or has other controls.
    """
    return _weights.load(path, "network of jaxapf's style transfer", _network)


def _network(said: dict[str, Any], weights: Any) -> Network:
    if said["controls"] != tuple(one.name for one in CONTROLS):
        raise ValueError("other controls")
    return Network(Design(**said["design"]), weights)
