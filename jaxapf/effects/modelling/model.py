"""A learnt effect: applied to signals of any length, saved as one JSON file, read back."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from jaxapf._internal import model_file
from jaxapf._internal.arrays import enable_x64, float64_on_cpu
from jaxapf._internal.files import PathLike
from jaxapf._internal.model_file import ModelError, number, whole_number
from jaxapf._internal.streaming import BLOCK_SAMPLES, Reader, apply_blocks, stream_blocks
from jaxapf._internal.version import __version__
from jaxapf.effects import compressor, phaser
from jaxapf.effects._controls import SignalLike
from jaxapf.effects.modelling import compressor as fitted_compressor
from jaxapf.filters import feedback

__all__ = ["EFFECTS", "EffectModel", "compressor_model", "phaser_model", "swept_hz"]

FORMAT = model_file.ModelFormat("jaxapf-effect", "is not the model of an effect", "jaxapf phaser fit")
MAX_DELAY_SAMPLES = 10_000_000
MAX_LATENCY_SAMPLES = 1_000_000
Tree = Any


class Effect(NamedTuple):
    """The parts of an effect that a model needs; `options` has the values or range of each."""

    controls: Callable[[Mapping[str, Any]], Tree]
    initial_state: Callable[[Mapping[str, Any], tuple[int, ...]], Tree]
    run: Callable[..., tuple[jax.Array, Tree]]
    latency: Callable[[Mapping[str, Any]], int]
    options: Mapping[str, tuple | range]


@dataclass(frozen=True)
class EffectModel:
    """An effect with controls fitted to a pair of recordings: wet is its output for dry, delayed.

    ``controls`` are numbers and nested lists, by the names of the effect's `Controls`; ``options`` its static
    options; ``fs`` in Hz is the rate that the model belongs to; ``delay_samples`` that of the wet signal
    (negative: it is earlier); ``metrics`` figures on the pair: `esr`, `esr_raw`, `seconds`; ``command`` what
    made it.
    """

    effect: str
    fs: float
    controls: dict[str, Any]
    options: dict[str, Any]
    delay_samples: int = 0
    metrics: dict[str, Any] = field(default_factory=dict)
    command: str = ""
    version: str = field(default=__version__)

    def apply(self, x: SignalLike) -> Float[np.ndarray, "... n_samples"]:
        """Return a signal processed by the effect in its shape and dtype, cut at its end.

        Each channel has a state of its own, of silence at first; float32 or float64, at the model's rate.

        Raises:
            ValueError: no time axis, or samples that are not real numbers.

        Example:
            >>> settings = compressor.Controls(-20.0, 4.0, 5.0, 50.0)._asdict()
            >>> options = {"detector": "rms", "smoothing": "gain", "polarity": 1, "latency_samples": 0}
            >>> EffectModel("compressor", 8000.0, settings, options).apply(np.ones(100)).shape
            (100,)
        """
        return apply_blocks(self.stream, x)

    def stream(
        self, read: Reader, n_samples: int, fs: float | None = None, *, block_samples: int = BLOCK_SAMPLES
    ) -> Iterator[np.ndarray]:
        """Yield the blocks (channels, n) of a signal of any length, together equal to `apply`.

        `read(start, stop)` gives samples (channels, stop - start); `fs` is not used, the rate is the model's.
        """
        # An effect that looks ahead is late by its latency; a device later than that begins with silence.
        latency = EFFECTS[self.effect].latency(self.options) - self.delay_samples
        process = functools.partial(_run, self)
        return stream_blocks(process, read, n_samples, latency=latency, block_samples=block_samples)

    def save(self, path: PathLike) -> None:
        """Write the model as one JSON file, atomically."""
        fields = asdict(self)
        model_file.write(path, FORMAT, {"jaxapf": fields.pop("version"), **fields})

    @classmethod
    def load(cls, path: PathLike) -> EffectModel:
        """Read a model that `save` wrote.

        Raises:
            ModelError: the file cannot be opened, is not a model, is of a newer version or is damaged.
        """
        found = model_file.read(path, FORMAT)
        effect = found.get("effect")
        if not isinstance(effect, str) or effect not in EFFECTS:
            raise ModelError(
                f"'{path}' is the model of {effect!r}, this jaxapf has {', '.join(EFFECTS)}; update jaxapf"
            )
        with model_file.check_fields(path, f"jaxapf {effect} fit"):
            most, metrics = MAX_DELAY_SAMPLES, found["metrics"]
            model = cls(
                effect=effect,
                fs=number("fs", found["fs"], 1.0, 1e8),
                controls=dict(found["controls"]),
                options=_options(effect, found["options"]),
                delay_samples=whole_number("delay_samples", found["delay_samples"], -most, most),
                metrics={name: number(name, value, -1e300, 1e300) for name, value in metrics.items()},
                command=str(found["command"]),
                version=str(found["jaxapf"]),
            )
            _check_that_it_runs(model)
        return model


def phaser_model(fitted: Any, fs: float, *, command: str = "") -> EffectModel:
    """Return the model of a result of `fit_phaser`, for recordings at `fs` Hz, made by `command`."""
    return _model("phaser", fitted, fs, fitted.options, fitted.delay_samples, command)


def compressor_model(fitted: Any, fs: float, *, command: str = "") -> EffectModel:
    """Return the model of a result of `fit_compressor`, for recordings at `fs` Hz, made by `command`."""
    options = dict(fitted.options)
    delay = options.pop("delay_samples")
    return _model("compressor", fitted, fs, options, delay, command)


def _model(effect: str, fitted: Any, fs: float, options: Any, delay: int, command: str) -> EffectModel:
    controls = _plain(fitted.controls._asdict())
    return EffectModel(effect, float(fs), controls, dict(options), int(delay), dict(fitted.metrics), command)


def swept_hz(model: EffectModel) -> tuple[float, float]:
    """Return the lowest and highest cutoff of a phaser's stages in Hz."""
    with enable_x64():
        controls = EFFECTS["phaser"].controls(model.controls)
        rate = 4096 * max(float(controls.rate_hz), 1e-3)  # one cycle in 4096 samples
        sweep = jax.jit(lambda controls: phaser.sweep(controls, 0, 4096, rate, hop=1))
        hz = np.asarray(phaser.cutoff_hz(sweep(jax.tree.map(np.asarray, controls)), model.fs))
    return float(np.min(hz)), float(np.max(hz))


def _run(model: EffectModel, x: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
    """Process one block, in float64 whatever its own dtype."""
    effect = EFFECTS[model.effect]
    with float64_on_cpu():
        controls = effect.controls(model.controls)
        if state is None:
            state = effect.initial_state(model.options, x.shape[:-1])
        run = _compiled(model.effect, tuple(sorted(model.options.items())), model.fs)
        y, state = run(controls, state, x.astype(np.float64))
        return np.asarray(y).astype(x.dtype), state


@functools.lru_cache(maxsize=8)
def _compiled(effect: str, options: tuple[tuple[str, Any], ...], fs: float) -> Any:
    return jax.jit(lambda controls, state, x: EFFECTS[effect].run(controls, dict(options), state, x, fs))


def _phaser_controls(values: Mapping[str, Any]) -> phaser.Controls:
    shapes: dict[str, tuple[int, ...]] = {"b": (3,), "a": (2,)}
    names = [name for name in phaser.Controls._fields if name != "shape"]
    numbers = {name: _array(name, values[name], shapes.get(name, ())) for name in names}
    a1, a2 = numbers["a"]
    if not (abs(a2) <= 1 and abs(a1) <= 1 + a2):
        raise ValueError("a is not stable")
    layers, width = [], 1
    for kernel, bias in values["shape"]:
        n_out = len(bias)
        layers.append((_array("shape", kernel, (width, n_out)), _array("shape", bias, (n_out,))))
        width = n_out
    if not layers or width != 1:
        raise ValueError("shape does not end in one number")
    return phaser.Controls(shape=tuple(layers), **numbers)


def _array(name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    array = np.asarray(value, np.float64)
    if array.shape != shape or not np.all(np.isfinite(array)):
        raise ValueError(f"{name} is not {'one number' if shape == () else f'{shape} numbers'}")
    return array


def _compressor_controls(values: Mapping[str, Any]) -> compressor.Controls:
    return compressor.Controls(*(_array(name, values[name], ()) for name in compressor.Controls._fields))


EFFECTS = {
    "compressor": Effect(
        _compressor_controls,
        lambda options, batch: fitted_compressor.initial_state(options, batch=batch, dtype=np.float64),
        fitted_compressor.process,
        lambda options: options["latency_samples"],
        {
            "detector": compressor.DETECTORS,
            "smoothing": compressor.SMOOTHINGS,
            "polarity": (1, -1),
            "latency_samples": range(MAX_LATENCY_SAMPLES + 1),
        },
    ),
    "phaser": Effect(
        _phaser_controls,
        lambda options, batch: phaser.initial_state(batch, stages=options["stages"], dtype=np.float64),
        lambda controls, options, state, x, fs: phaser.phaser(controls, state, x, fs, **options),
        lambda options: 0,
        {"stages": range(1, feedback.MAX_STAGES + 1), "delay": range(2)},
    ),
}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return np.asarray(value).tolist()


def _options(effect: str, found: Any) -> dict[str, Any]:
    """Return the effect's options; ValueError if one is missing, unknown or out of its range."""
    checks = EFFECTS[effect].options
    if set(found) != set(checks):
        raise ValueError(f"options are {', '.join(map(str, found))}, not {', '.join(checks)}")
    for name, allowed in checks.items():
        if isinstance(allowed, range):
            whole_number(name, found[name], allowed.start, allowed.stop - 1)
        elif isinstance(found[name], bool) or found[name] not in allowed:
            raise ValueError(f"{name} is {found[name]!r}")
    return dict(found)


def _check_that_it_runs(model: EffectModel) -> None:
    """Let the effect itself check the ranges, on a few samples."""
    effect = EFFECTS[model.effect]
    with enable_x64():
        controls = effect.controls(model.controls)
        state = effect.initial_state(model.options, (1,))
        jax.eval_shape(
            lambda state, x: effect.run(controls, model.options, state, x, model.fs), state, np.zeros((1, 8))
        )
