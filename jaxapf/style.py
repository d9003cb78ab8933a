"""Style transfer: the controls of an equaliser and a compressor that make one recording sound like another.

    network = load("style.npz")                     # of experiments/style_transfer
    raw = predict(network, x, reference)            # at FS
    y = play(raw, x, FS)

The network hears log-mel spectrograms of both, and sets the controls of real effects: what it chose can be
read, changed, and used at any sample rate.

Source: Steinmetz, Bryan and Reiss 2022, "Style Transfer of Audio Effects with Differentiable Signal
Processing", arXiv 2207.08759.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from jaxapf import params
from jaxapf._arrays import Values
from jaxapf.effects import chain
from jaxapf.nets.encoder import StyleController, log_mel

FS = 24_000  # that the network hears
LEVEL_DB = -23.0  # RMS that a recording is brought to before it is processed
HOP, N_FFT, MELS = 256, 1024, 80
FIXED = {"average_ms": 1.0, "lookahead_ms": 0.0}
STRIP = chain.chain(
    chain.effect("equalizer"), chain.effect("compressor", fixed=FIXED, detector="rms", smoothing="gain_db")
)
CONTROLS = STRIP.controls


class Design(NamedTuple):
    """Sizes of a network; the rest follows from `CONTROLS`."""

    channels: int = 128
    dilations: Sequence[int] = (1, 2, 4)
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
    return StyleController(len(CONTROLS), design.channels, design.dilations, hidden=design.hidden)


def hear(x: Values) -> jax.Array:
    """What the network hears of a signal: its log-mel spectrogram.

    Args:
        x: (..., n_samples) at `FS`.

    Returns:
        (..., MELS, n_frames).

    Example:
        >>> hear(np.zeros(4096, np.float32)).shape
        (80, 17)
    """
    return log_mel(x, FS, hop=HOP, n_fft=N_FFT, n_mels=MELS)


def predict(network: Network, x: Values, reference: Values) -> jax.Array:
    """Raw controls, in (-1, 1).

    Args:
        network: `Network`.
        x: (..., n_samples) at `FS`, at a level of about `LEVEL_DB`.
        reference: (..., n_samples_2) at `FS`.

    Returns:
        (..., 24), of `params.denormalise(raw, CONTROLS)`.

    Example:
        >>> net = make_net(Design(channels=8))
        >>> silence = np.zeros(4096, np.float32)
        >>> weights = net.init(jax.random.key(0), hear(silence), hear(silence))
        >>> predict(Network(Design(channels=8), weights), silence, silence).shape
        (24,)
    """
    return make_net(network.design).apply(network.weights, hear(x), hear(reference))  # pyright: ignore[reportReturnType]


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
        >>> play(np.zeros(24), np.zeros(100, np.float32), 48000.0).shape
        (100,)
    """
    return chain.apply(STRIP, params.denormalise(raw, CONTROLS), x, fs, method=method)
