"""Style transfer of whole recordings, of any length and sample rate, mono or not.

    made = transfer(input, reference, fs, reference_fs)
    made.audio, made.controls               # (channels, n_samples), {"equalizer.low_shelf_gain_db": ..., ...}

The network's input is at most a minute of both, mixed to one channel, at `network.FS` and the level of its
training. The effects run at the recording's own rate, with one gain of the compressor for all channels, which
keeps the stereo image. The result has the level of the reference, the RMS of what is not silence
(`audio.level`), or less where it would clip.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float

from jaxapf import audio, params
from jaxapf._internal import model_file
from jaxapf._internal.files import PathLike
from jaxapf._internal.streaming import BLOCK_SAMPLES, Reader, stream_blocks
from jaxapf.audio import level
from jaxapf.audio.level import HIGHEST_HZ, LOWEST_HZ, SHORTEST_S
from jaxapf.effects import compressor, equalizer
from jaxapf.effects.style import network as nets
from jaxapf.filters import matched
from jaxapf.training import pretrained

__all__ = [
    "FORMAT",
    "STORED",
    "Recording",
    "Settings",
    "Transferred",
    "input_gain_db",
    "load",
    "match_level",
    "named_controls",
    "network_input",
    "parts",
    "predict",
    "reduction_db",
    "save",
    "transfer",
]

FORMAT = model_file.ModelFormat("jaxapf-style", "holds no controls", "jaxapf style --controls")
STORED = "style-transfer"  # the network, among the stored checkpoints
CEILING = 10 ** (-0.1 / 20)  # peak of a result
MOST_DB = 120.0  # of a gain before or after the effects


class Recording(NamedTuple):
    """A recording that is read piece by piece: `read(start, stop)` gives float32 (channels, stop - start)."""

    read: Reader
    n_samples: int
    fs: int


class Settings(NamedTuple):
    """Settings of the effects, which can be saved and applied to other recordings.

    ``controls`` in their units, by the names of `network.CONTROLS`; ``input_db`` gain before the effects,
    ``output_db`` after them; ``command`` that made them.
    """

    controls: dict[str, float]
    input_db: float
    output_db: float = 0.0
    command: str = ""

    def stream(
        self, read: Reader, n_samples: int, fs: int, *, block_samples: int = BLOCK_SAMPLES
    ) -> Iterator[np.ndarray]:
        """Yield the blocks (channels, n), float32, of a recording through the effects, of any length."""
        run, gain = _runner(self, fs), np.float32(10 ** (self.output_db / 20))

        def process(x: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
            y, _, state = run(x, state)
            return gain * y, state

        return stream_blocks(process, read, n_samples, block_samples=block_samples)


class Transferred(NamedTuple):
    """Result of `transfer`.

    ``audio`` in the shape of the input, float32; ``controls`` in their units by name; ``raw`` (24,) the same
    in [-1, 1]; ``settings`` to be saved; ``level_db`` RMS of the result in dBFS, where it is not silent;
    ``lowered_db`` how much softer than the reference it is, so that it does not clip.
    """

    audio: np.ndarray
    controls: dict[str, float]
    raw: np.ndarray
    settings: Settings
    level_db: float
    lowered_db: float


def transfer(
    input: Float[ArrayLike, "*channels n_samples"],
    reference: Float[ArrayLike, "*channels_2 n_samples_2"],
    fs: int,
    reference_fs: int,
    *,
    network: nets.Network | None = None,
    passes: int = 2,
) -> Transferred:
    """Process one recording so that its style, of equaliser and compressor, is that of another.

    Both last 0.25 s or more at 8000 to 192000 Hz, full scale 1; their rates, lengths and channels may differ.
    `network` is one of `network.load`, None for the one that comes with jaxapf; each of its passes begins
    with the output of the last.

    Raises:
        ValueError: a signal that is too short, silent, not finite or of another shape; a rate out of its
            range; passes below 1; no stored network.

    Source: Steinmetz et al. 2022, arXiv 2207.08759.

    Example:
        >>> design = nets.Design(channels=8, dilations=(1,), hidden=(8,))
        >>> network = nets.Network(design, nets.initial_weights(design, jax.random.key(0), 0))
        >>> x = np.random.default_rng(0).normal(scale=0.1, size=(2, 8000)).astype(np.float32)
        >>> made = transfer(x, 0.5 * x[0], 24000, 24000, network=network, passes=1)
        >>> made.audio.shape, round(made.level_db), len(made.controls)
        ((2, 8000), -26, 24)
    """
    here = _recording("input", input, "fs", fs)
    there = _recording("reference", reference, "reference_fs", reference_fs)
    if network is None:
        network = nets.load(pretrained.path(STORED))
    here_powers, there_powers = (level.powers(*one) for one in (here, there))
    for name, found in (("input", here_powers), ("reference", there_powers)):
        if not level.sounding(found.mono).any():
            raise ValueError(
                f"{name} is silent when its channels are mixed; give a recording with sound in it."
            )
    raw = predict(network, network_input(here, here_powers), network_input(there, there_powers), passes)
    settings = Settings(named_controls(raw), input_gain_db(here_powers))
    settings, lowered_db = match_level(settings, here, level.level_db(there_powers.channels))
    y = np.concatenate(list(settings.stream(*here)), axis=-1)
    made_db = level.level_db(level.powers(lambda start, stop: y[:, start:stop], *here[1:]).channels)
    return Transferred(y.reshape(np.shape(input)), settings.controls, raw, settings, made_db, lowered_db)


def _recording(name: str, x: Any, rate: str, fs: int) -> Recording:
    signal = np.asarray(x, np.float32)
    if signal.ndim not in (1, 2) or signal.size == 0:
        raise ValueError(f"{name} has shape {signal.shape}; expected (n_samples,) or (channels, n_samples).")
    if not LOWEST_HZ <= fs <= HIGHEST_HZ:
        raise ValueError(f"{rate} is {fs}; expected {LOWEST_HZ} to {HIGHEST_HZ} Hz.")
    if signal.shape[-1] < SHORTEST_S * fs:
        raise ValueError(f"{name} lasts {signal.shape[-1] / fs:.3f} s; expected {SHORTEST_S} s or more.")
    if not np.isfinite(signal).all():
        raise ValueError(f"{name} holds NaN or infinite samples; repair it first.")
    rows = np.atleast_2d(signal)
    return Recording(lambda start, stop: rows[:, start:stop], rows.shape[-1], fs)


def network_input(one: Recording, powers: level.Powers) -> Float[np.ndarray, " n_samples"]:
    """Return at most a minute of a recording, in sections of 5 s, mono, at the network's rate and level."""
    pieces = [
        audio.resample(one.read(start, stop).mean(axis=0, dtype=np.float32), one.fs, nets.FS)
        for start, stop in level.typical(powers.mono, one.n_samples, one.fs)
    ]
    x = np.concatenate(pieces)
    return _few_lengths(x) * np.float32(10 ** (input_gain_db(powers) / 20))


def input_gain_db(powers: level.Powers) -> float:
    """Return the gain in dB that brings a recording to the level of the network's training."""
    return nets.LEVEL_DB - level.level_db(powers.mono)


def _few_lengths(x: np.ndarray) -> np.ndarray:
    # Every length is compiled for; of each octave eight are enough.
    step = max(1, 1 << (len(x).bit_length() - 4))
    return x[: len(x) // step * step]


def predict(
    network: nets.Network,
    given: Float[np.ndarray, " n_samples"],
    reference: Float[np.ndarray, " n_samples_2"],
    passes: int,
) -> Float[np.ndarray, 24]:
    """Predict the controls, in [-1, 1], of two signals of `network_input`."""
    if passes < 1:
        raise ValueError(f"passes is {passes}; expected 1 or more.")
    return np.asarray(_predictor(network.design, passes)(network.weights, given, reference))


@functools.lru_cache(maxsize=8)
def _predictor(design: nets.Design, passes: int) -> Any:
    def predicted(weights: Any, given: jax.Array, reference: jax.Array) -> Any:
        raw = nets.predict(design, weights, given, reference, nets.process_at_fs, passes)
        return nets.match_level(raw, given, reference, nets.process_at_fs)[1]

    return jax.jit(predicted)


def named_controls(raw: Float[ArrayLike, 24]) -> dict[str, float]:
    """Return controls in their units, by name, of those in [-1, 1]."""
    values = params.denormalise(np.asarray(raw, np.float64), nets.CONTROLS)
    return {one.name: float(value) for one, value in zip(nets.CONTROLS, values, strict=True)}


def match_level(settings: Settings, one: Recording, target_db: float) -> tuple[Settings, float]:
    """Return settings with the output gain for an RMS in dBFS, and the dB by which clipping limits it.

    The recording is processed once to measure it, without the gain of the settings.
    """
    found, peak = [], 0.0
    blocks = settings._replace(output_db=0.0).stream(*one)
    for y in _in_frames(blocks, one.fs):
        peak = max(peak, float(np.max(np.abs(y))))
        found.append(level.powers(lambda start, stop, y=y: y[:, start:stop], y.shape[-1], one.fs).channels)
    gain_db = target_db - level.level_db(np.concatenate(found))
    if not math.isfinite(gain_db):  # the output is silent
        gain_db = 0.0
    lowered_db = max(0.0, gain_db + 20 * math.log10(max(peak, 1e-30) / CEILING))
    gain_db = float(np.clip(gain_db - lowered_db, -MOST_DB, MOST_DB))
    return settings._replace(output_db=gain_db), lowered_db


def _in_frames(blocks: Iterator[np.ndarray], fs: int) -> Iterator[np.ndarray]:
    """Yield blocks of whole frames, and what remains at the end."""
    frame = max(1, round(level.FRAME_S * fs))
    remaining: Any = None
    for block in blocks:
        x = block if remaining is None else np.concatenate([remaining, block], axis=-1)
        whole = x.shape[-1] // frame * frame
        if whole:
            yield x[:, :whole]
        remaining = x[:, whole:]
    if remaining is not None and remaining.shape[-1]:
        yield remaining


def reduction_db(
    settings: Settings, x: Float[np.ndarray, "channels n_samples"], fs: int
) -> Float[np.ndarray, " n_samples"]:
    """Return the compressor's gain over time in dB without make-up, 0 or below, at sample rate `fs` in Hz."""
    _, gains, _ = _runner(settings, fs)(x, None)
    return 20 * np.log10(np.maximum(gains, 1e-9)) - settings.controls["compressor.makeup_db"]


def _runner(settings: Settings, fs: int) -> Callable[[np.ndarray, Any], tuple[np.ndarray, np.ndarray, Any]]:
    """Return the function (x, state) -> y, the compressor's gain (block,), the state after, of a block."""
    equaliser, dynamics = parts(settings.controls)
    # Designed in float64, then given to one program that serves all settings.
    designed = jax.tree.map(
        np.float32, (equalizer.sections(equaliser, fs), dynamics, 10 ** (settings.input_db / 20))
    )

    def run(x: np.ndarray, state: Any) -> tuple[np.ndarray, np.ndarray, Any]:
        with jax.default_device(jax.local_devices(backend="cpu")[0]):
            if state is None:
                state = equalizer.initial_state((len(x),)), compressor.initial_state()
            y, gains, state = _run(*designed, x.astype(np.float32), state, fs)
            return np.asarray(y), np.asarray(gains), state

    return run


@functools.partial(jax.jit, static_argnums=5)
def _run(
    sections: matched.Sections,
    dynamics: compressor.Controls,
    gain: jax.Array,
    x: jax.Array,
    state: Any,
    fs: int,
) -> tuple[jax.Array, jax.Array, Any]:
    x, of_equaliser = matched.cascade(sections, gain * x, zi=state[0])
    mono = jnp.mean(x, axis=0)
    gains, of_dynamics = compressor.compressor(
        dynamics, state[1], jnp.ones_like(mono), fs, **nets.OPTIONS, sidechain=mono
    )
    return gains[None] * x, gains, (of_equaliser, of_dynamics)


def parts(controls: dict[str, float]) -> tuple[equalizer.Controls, compressor.Controls]:
    """Return the controls of the two effects of those of `Settings`."""
    values = {name.partition(".")[2]: value for name, value in controls.items() if "." in name}
    of_equaliser = equalizer.packed([values[one.name] for one in params.EQUALIZER])
    free = [one.name for one in params.COMPRESSOR if one.name not in nets.FIXED]
    return of_equaliser, compressor.Controls(**{name: values[name] for name in free}, **nets.FIXED)


def save(settings: Settings, path: PathLike) -> None:
    """Write settings as one JSON file, atomically; AudioError where it cannot be written."""
    model_file.write(path, FORMAT, settings._asdict())


def load(path: PathLike) -> Settings:
    """Read settings of `save`, perhaps edited.

    Raises:
        ModelError: the file cannot be read, is none of these, or a value is missing or out of its range.
    """
    found = model_file.read(path, FORMAT)
    with model_file.check_fields(path, FORMAT.command):
        gains = [model_file.number(one, found[one], -MOST_DB, MOST_DB) for one in ("input_db", "output_db")]
        return Settings(_controls(found["controls"]), *gains, command=str(found.get("command", "")))


def _controls(found: dict[str, Any]) -> dict[str, float]:
    unknown = set(found) - {one.name for one in nets.CONTROLS}
    if unknown:
        raise ValueError(f"'{sorted(unknown)[0]}' is no control")
    slack = {one.name: 1e-6 * max(abs(one.low), abs(one.high)) for one in nets.CONTROLS}
    return {
        one.name: model_file.number(one.name, found[one.name], one.low, one.high, slack=slack[one.name])
        for one in nets.CONTROLS
    }
