"""A learnt effect: applied to signals of any length, saved as one JSON file, read back."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxapf._internal.arrays import enable_x64
from jaxapf._internal.files import write_text
from jaxapf._internal.version import __version__
from jaxapf.alignment.model import BLOCK_SAMPLES, ModelError, Reader, as_real_signal, padded
from jaxapf.effects import compressor, phaser
from jaxapf.filters import feedback

FORMAT = "jaxapf-effect"
VERSION = 1
MAX_DELAY_SAMPLES = 10_000_000
MAX_LATENCY_SAMPLES = 1_000_000
Tree = Any


class Effect(NamedTuple):
    """What a model needs of an effect.

    ``controls`` of what JSON holds, ``rest`` of `(controls, options, batch, fs)`, ``run`` of `(controls,
    options, state, x, fs)`, ``latency`` of `(options)` in samples.
    """

    controls: Callable[[Mapping[str, Any]], Tree]
    rest: Callable[..., Tree]
    run: Callable[..., tuple[jax.Array, Tree]]
    latency: Callable[[Mapping[str, Any]], int]


@dataclass(frozen=True)
class EffectModel:
    """An effect with its controls, as learnt from a pair: wet is close to the effect of dry, delayed.

    Attributes:
        effect: name of the effect, `"phaser"` or `"compressor"`.
        fs: sample rate in Hz that the model belongs to.
        controls: numbers and nested lists, by the names of the effect's `Controls`.
        options: the effect's static options, such as `stages` and `delay`.
        delay_samples: latency of the wet signal, whole samples; negative: the wet one is earlier.
        metrics: figures on the pair it was fitted to: `esr`, `esr_raw`, `seconds`.
        command: the command or call that made it.
    """

    effect: str
    fs: float
    controls: dict[str, Any]
    options: dict[str, Any]
    delay_samples: int = 0
    metrics: dict[str, Any] = field(default_factory=dict)
    command: str = ""
    version: str = field(default=__version__)

    def apply(self, x: Any) -> np.ndarray:
        """Send a signal through the effect, from rest, each channel through one of its own.

        Args:
            x: `(..., n_samples)` at the rate `fs`, float32 or float64.

        Returns:
            NumPy array of the same shape and dtype; what the delay moves past the end is cut.

        Raises:
            ValueError: no time axis, or samples that are not real numbers.

        Example:
            >>> settings = compressor.Controls(-20.0, 4.0, 5.0, 50.0)._asdict()
            >>> options = {"detector": "rms", "smoothing": "gain", "polarity": 1, "latency_samples": 0}
            >>> EffectModel("compressor", 8000.0, settings, options).apply(np.ones(100)).shape
            (100,)
        """
        signal = as_real_signal("x", x)
        if signal.size == 0:
            return signal.copy()
        rows = signal.reshape(-1, signal.shape[-1])
        blocks = list(stream(self, lambda start, stop: rows[:, start:stop], signal.shape[-1]))
        return np.concatenate(blocks, axis=-1).reshape(signal.shape)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the model as one JSON file, atomically."""
        document = {
            "format": FORMAT,
            "version": VERSION,
            "jaxapf": self.version,
            "effect": self.effect,
            "fs": float(self.fs),
            "delay_samples": int(self.delay_samples),
            "options": self.options,
            "controls": self.controls,
            "metrics": self.metrics,
            "command": self.command,
        }
        write_text(path, json.dumps(document, indent=1, allow_nan=False) + "\n")

    @classmethod
    def load(cls, path: str | PathLike[str]) -> EffectModel:
        """Read a model that `save` wrote.

        Raises:
            ModelError: the file cannot be opened, is not a model, is of a newer version or is damaged.
        """
        try:
            document = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise ModelError(f"'{path}' cannot be opened: {(error.strerror or '').lower()}") from error
        except (ValueError, RecursionError) as error:
            raise ModelError(f"'{path}' is not a model (it is not JSON)") from error
        return _from_document(str(path), document)


def phaser_model(fitted: Any, fs: float, *, command: str = "") -> EffectModel:
    """The model of what `fit_phaser` found.

    Args:
        fitted: its result.
        fs: sample rate in Hz of the recordings.
        command: what to note as its origin.

    Returns:
        An EffectModel.

    Example:
        >>> from jaxapf.effects.modelling.phaser import Fitted
        >>> controls = phaser.controls_of(phaser.init(jax.random.key(0), rate_hz=2.0))
        >>> phaser_model(Fitted(controls, {"stages": 4, "delay": 0}, 7, {}), 8000.0).controls["rate_hz"]
        2.0
    """
    controls = _plain(fitted.controls._asdict())
    metrics = dict(fitted.metrics)
    return EffectModel(
        "phaser", float(fs), controls, dict(fitted.options), fitted.delay_samples, metrics, command
    )


def compressor_model(fitted: Any, fs: float, *, command: str = "") -> EffectModel:
    """The model of what `fit_compressor` found.

    Args:
        fitted: its result.
        fs: sample rate in Hz of the recordings.
        command: what to note as its origin.

    Returns:
        An EffectModel.

    Example:
        >>> from jaxapf.effects.modelling.compressor import Fitted
        >>> controls = compressor.Controls(-20.0, 4.0, 5.0, 50.0)
        >>> options = {"detector": "rms", "smoothing": "gain", "polarity": 1}
        >>> options |= {"delay_samples": 3, "latency_samples": 3}
        >>> compressor_model(Fitted(controls, options, {}), 8000.0).delay_samples
        3
    """
    options = dict(fitted.options)
    delay = options.pop("delay_samples")
    controls = _plain(fitted.controls._asdict())
    return EffectModel("compressor", float(fs), controls, options, delay, dict(fitted.metrics), command)


def swept_hz(model: EffectModel) -> tuple[float, float]:
    """Lowest and highest frequency in Hz that a phaser's stages turn by 90 degrees."""
    with enable_x64():
        controls = EFFECTS["phaser"].controls(model.controls)
        found = phaser.sweep(controls, 0, 4096, 4096 * max(float(controls.rate_hz), 1e-3), hop=1)
        hz = np.asarray(phaser.cutoff_hz(found, model.fs))
    return float(np.min(hz)), float(np.max(hz))


def stream(
    model: EffectModel, read: Reader, n_samples: int, *, block_samples: int = BLOCK_SAMPLES
) -> Iterator[np.ndarray]:
    """Send a signal through a model block by block, whatever its length.

    Args:
        model: an EffectModel.
        read: `read(start, stop)` gives samples `(channels, stop - start)`, 0 <= start <= stop <= n_samples.
        n_samples: length of the signal.
        block_samples: length of a block in samples; shorter signals use shorter blocks.

    Yields:
        Blocks `(channels, n)`, together as long as the signal and equal to `model.apply`.
    """
    if block_samples < 1:
        raise ValueError(f"block_samples is {block_samples}; expected 1 or more.")
    # Few block lengths, hence few compilations; the last block is padded, its tail dropped.
    block = min(block_samples, max(256, 1 << max(0, n_samples - 1).bit_length()))
    # An effect that looks ahead is late by its latency: so much more is read, and so much dropped at first.
    # A device that is later than that begins with silence.
    lead = EFFECTS[model.effect].latency(model.options) - model.delay_samples
    if lead < 0:
        yield np.zeros_like(padded(read, -min(-lead, n_samples), 0, n_samples))
    state: Any = None
    for start in range(0, n_samples + lead, block):
        y, state = _run(model, padded(read, start, start + block, n_samples), state)
        y = y[:, max(lead - start, 0) : max(n_samples + lead - start, 0)]
        if y.shape[-1]:
            yield y


def _run(model: EffectModel, x: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
    """One block, in float64 whatever it came in."""
    effect = EFFECTS[model.effect]
    with enable_x64(), jax.default_device(jax.local_devices(backend="cpu")[0]):
        controls = effect.controls(model.controls)
        if state is None:
            state = effect.rest(controls, model.options, x.shape[:-1], model.fs)
        run = _compiled(model.effect, tuple(sorted(model.options.items())), model.fs)
        y, state = run(controls, state, x.astype(np.float64))
        return np.asarray(y).astype(x.dtype), state


@functools.lru_cache(maxsize=8)
def _compiled(effect: str, options: tuple[tuple[str, Any], ...], fs: float) -> Any:
    return jax.jit(lambda controls, state, x: EFFECTS[effect].run(controls, dict(options), state, x, fs))


# The effects


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


def _phaser_rest(controls: Any, options: Mapping[str, Any], batch: tuple[int, ...], fs: float) -> Any:
    return phaser.rest(batch, stages=options["stages"], dtype=np.float64)


def _phaser_run(
    controls: Any, options: Mapping[str, Any], state: Any, x: Any, fs: float
) -> tuple[jax.Array, Any]:
    return phaser.phaser(controls, state, x, fs, stages=options["stages"], delay=options["delay"])


def _compressor_controls(values: Mapping[str, Any]) -> compressor.Controls:
    return compressor.Controls(
        **{name: _array(name, values[name], ()) for name in compressor.Controls._fields}
    )


def _compressor_rest(controls: Any, options: Mapping[str, Any], batch: tuple[int, ...], fs: float) -> Any:
    return compressor.rest(batch, latency=options["latency_samples"], dtype=np.float64)


def _compressor_run(
    controls: Any, options: Mapping[str, Any], state: Any, x: Any, fs: float
) -> tuple[jax.Array, Any]:
    kind = {"detector": options["detector"], "smoothing": options["smoothing"]}
    y, state = compressor.compressor(controls, state, x, fs, **kind)
    return options["polarity"] * y, state


EFFECTS = {
    "compressor": Effect(
        _compressor_controls, _compressor_rest, _compressor_run, lambda options: options["latency_samples"]
    ),
    "phaser": Effect(_phaser_controls, _phaser_rest, _phaser_run, lambda options: 0),
}


# JSON


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return np.asarray(value).tolist()


def _from_document(path: str, document: Any) -> EffectModel:
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ModelError(
            f"'{path}' is not the model of an effect; give a file that 'jaxapf phaser fit' wrote"
        )
    version = document.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= VERSION:
        raise ModelError(
            f"'{path}' is a model of version {version!r}, this jaxapf reads {VERSION}; update jaxapf"
        )
    if not isinstance(document.get("effect"), str) or document["effect"] not in EFFECTS:
        raise ModelError(
            f"'{path}' is the model of {document.get('effect')!r}, this jaxapf knows {', '.join(EFFECTS)}; "
            "update jaxapf"
        )
    try:
        model = EffectModel(
            effect=document["effect"],
            fs=_number(document["fs"], 1.0, 1e8),
            controls=dict(document["controls"]),
            options=_options(document["effect"], document["options"]),
            delay_samples=_whole(document["delay_samples"], -MAX_DELAY_SAMPLES, MAX_DELAY_SAMPLES),
            metrics={str(name): _number(value, -1e300, 1e300) for name, value in document["metrics"].items()},
            command=str(document["command"]),
            version=str(document["jaxapf"]),
        )
        _check_that_it_runs(model)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise ModelError(
            f"'{path}' is a damaged model (missing or wrong: {error}); make it again with "
            f"'jaxapf {document['effect']} fit'"
        ) from error
    return model


def _number(value: Any, lowest: float, highest: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no number")
    if not lowest <= value <= highest:
        raise ValueError(f"{value} is not between {lowest} and {highest}")
    return float(value)


def _whole(value: Any, lowest: int, highest: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{value!r} is no whole number")
    return int(_number(value, lowest, highest))


def _options(effect: str, found: Any) -> dict[str, Any]:
    """The effect's options, checked; what it does not know is refused."""
    checks = _OPTIONS[effect]
    if set(found) != set(checks):
        raise ValueError(f"options are {', '.join(map(str, found))}, not {', '.join(checks)}")
    for name, allowed in checks.items():
        if isinstance(allowed, range):
            _whole(found[name], allowed.start, allowed.stop - 1)
        elif isinstance(found[name], bool) or found[name] not in allowed:
            raise ValueError(f"{name} is {found[name]!r}")
    return dict(found)


_OPTIONS: dict[str, dict[str, Any]] = {
    "phaser": {"stages": range(1, feedback.MAX_STAGES + 1), "delay": range(2)},
    "compressor": {
        "detector": compressor.DETECTORS,
        "smoothing": compressor.SMOOTHINGS,
        "polarity": (1, -1),
        "latency_samples": range(MAX_LATENCY_SAMPLES + 1),
    },
}


def _check_that_it_runs(model: EffectModel) -> None:
    """Ranges are the effect's own affair: it is asked, with a few samples."""
    effect = EFFECTS[model.effect]
    with enable_x64():
        controls = effect.controls(model.controls)
        state = effect.rest(controls, model.options, (1,), model.fs)
        jax.eval_shape(
            lambda state, x: effect.run(controls, model.options, state, x, model.fs), state, np.zeros((1, 8))
        )
