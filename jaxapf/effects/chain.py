"""Effects by name, as functions of a row of controls, in series.

    strip = chain(effect("equalizer"), effect("compressor", fixed={"average_ms": 1.0, "lookahead_ms": 0.0}))
    values = params.denormalise(raw, strip.controls)        # a network's output, or random numbers
    y, state = strip.process(values, strip.initial_state((), fs, x.dtype), x, fs)
    y = apply(strip, values, x, fs, method="fsm")           # the same by frequency sampling, from rest

A chain is an effect again. Controls are numbers or arrays whose axes are those of the batch. Where a chain
has stereo effects, the axis of the two channels is not among these: `panner` makes it, `width` takes it, and
all effects after the one, or around the other, use their controls for both channels alike. Without stereo
effects every axis before the samples is one of the batch, and may have controls of its own.

The specification of an effect's controls (`jaxapf.params`) is their only source: ranges of networks, options
of the command line, tables of the documentation and tests all come from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxapf import params
from jaxapf._internal.arrays import Values, as_signal
from jaxapf._internal.streaming import BLOCK_SAMPLES, Reader, stream_blocks
from jaxapf.effects import compressor, distortion, equalizer, expander, gain, panner, reverb, width
from jaxapf.effects._controls import Signal, SignalLike

METHODS = ("exact", "fsm")
Row = Sequence[Any]  # one number or (...) for each control

__all__ = ["KINDS", "METHODS", "Effect", "apply", "chain", "effect", "stream"]


class Effect(NamedTuple):
    """An effect whose controls are a row of values in their units.

    ``controls`` their specification, in order; ``initial_state(batch, fs, dtype)`` the state of silence;
    ``process(values, state, x, fs) -> (y, state)`` exact, streams, ``latency(fs)`` samples late;
    ``sampled(values, x, fs) -> y`` by frequency sampling, from the initial state, not late. ``stereo``:
    whether input and output have an axis of two channels before the samples, which the controls do not have;
    the batch of ``initial_state`` is that of the input, channels included.
    """

    name: str
    controls: tuple[params.Control, ...]
    initial_state: Callable[..., Any]
    process: Callable[..., tuple[jax.Array, Any]]
    sampled: Callable[..., jax.Array]
    latency: Callable[[float], int]
    stereo: tuple[bool, bool] = (False, False)


class _Kind(NamedTuple):
    """The parts of an effect's module that make an `Effect`.

    ``pack`` makes its Controls of a row; ``options`` are those of the function ``initial_state``;
    ``latency`` is in samples, from sample rate, fixed controls and options. Where the module has no
    ``NAME_sampled`` there is nothing to approximate: the exact form serves.
    """

    module: Any
    controls: tuple[params.Control, ...]
    pack: Callable[[Row], Any] | None = None
    latency: Callable[[float, Mapping[str, Any]], int] = lambda fs, fixed: 0
    options: tuple[str, ...] = ()
    stereo: tuple[bool, bool] = (False, False)


def _look_ahead(fs: float, fixed: Mapping[str, float]) -> int:
    longest_ms = fixed.get("lookahead_ms", params.COMPRESSOR[-1].high)
    return int(np.ceil(1e-3 * fs * longest_ms))


KINDS = {
    "equalizer": _Kind(equalizer, params.EQUALIZER, equalizer.packed),
    "compressor": _Kind(compressor, params.COMPRESSOR, latency=_look_ahead),
    "gain": _Kind(gain, params.GAIN),
    "distortion": _Kind(
        distortion,
        params.DISTORTION,
        latency=lambda fs, fixed: distortion.latency(fixed.get("oversampling", 4)),
        options=("oversampling",),
    ),
    "expander": _Kind(expander, params.EXPANDER),
    "reverb": _Kind(reverb, params.REVERB, reverb.packed, options=("length",)),
    "panner": _Kind(panner, params.PANNER, stereo=(False, True)),
    "width": _Kind(width, params.WIDTH, stereo=(True, True)),
}


def effect(name: str, *, fixed: Mapping[str, float] | None = None, **options: Any) -> Effect:
    """Return an effect by its name, a key of `KINDS`.

    `fixed` are values, in their units, of controls that are no longer free; `options` the static options of
    its state and of its exact form, which go to its sampled form too.

    Example:
        >>> [control.name for control in effect("compressor", fixed={"lookahead_ms": 0.0}).controls][:3]
        ['threshold_db', 'ratio', 'attack_ms']
    """
    if name not in KINDS:
        raise ValueError(f"name is {name!r}; choose one of {', '.join(KINDS)}.")
    kind, fixed = KINDS[name], dict(fixed or {})
    names = [control.name for control in kind.controls]
    unknown = [one for one in fixed if one not in names]
    if unknown:
        raise ValueError(f"fixed has {unknown[0]!r}; {name} has {', '.join(names)}.")
    exact, approximate = getattr(kind.module, name), getattr(kind.module, f"{name}_sampled", None)
    of_state = {one: value for one, value in options.items() if one in kind.options}
    of_process = {one: value for one, value in options.items() if one not in kind.options}

    def pack(values: Row) -> Any:
        given = iter(values)
        row = [fixed[one] if one in fixed else next(given) for one in names]
        return kind.pack(row) if kind.pack else kind.module.Controls(*row)

    def process(values: Row, state: Any, x: Values, fs: float) -> tuple[jax.Array, Any]:
        return exact(pack(values), state, x, fs, **of_process)

    def sampled(values: Row, x: Values, fs: float) -> jax.Array:
        if approximate is None:
            return _in_time(found, values, as_signal(x), fs)
        return approximate(pack(values), x, fs, **of_process)

    def latency(fs: float) -> int:
        return kind.latency(fs, {**options, **fixed})

    def initial_state(batch: tuple[int, ...], fs: float, dtype: Any) -> Any:
        ahead = {"latency": latency(fs)} if kind.latency is _look_ahead else {}
        return kind.module.initial_state(batch, dtype=dtype, **ahead, **of_state)

    free = tuple(control for control in kind.controls if control.name not in fixed)
    found = Effect(name, free, initial_state, process, sampled, latency, kind.stereo)
    return found


def chain(*effects: Effect) -> Effect:
    """Return effects in series as one, whose controls are those of all, named `EFFECT.CONTROL`.

    Raises:
        ValueError: nothing to chain; an effect that makes two channels of one where there are two already.

    Example:
        >>> strip = chain(effect("equalizer"), effect("compressor"))
        >>> len(strip.controls), strip.controls[18].name
        (26, 'compressor.threshold_db')
    """
    if not effects:
        raise ValueError("effects is empty; give one at least.")
    stereo, is_two = _channels(effects)
    controls = tuple(
        control._replace(name=f"{one.name}.{control.name}") for one in effects for control in one.controls
    )
    ends = np.cumsum([len(one.controls) for one in effects])
    parts = [slice(int(end) - len(one.controls), int(end)) for end, one in zip(ends, effects, strict=True)]

    def of_each(values: Row) -> list[Row]:
        rows = (values[part] for part in parts)
        return [
            [_for_both(value) for value in row] if two and not any(one.stereo) else row
            for one, row, two in zip(effects, rows, is_two, strict=True)
        ]

    def initial_state(batch: tuple[int, ...], fs: float, dtype: Any) -> tuple:
        made = is_two if not stereo[0] else [False] * len(effects)  # or the batch has the channels already
        return tuple(
            one.initial_state((*batch, 2) if two else batch, fs, dtype)
            for one, two in zip(effects, made, strict=True)
        )

    def process(values: Row, state: Any, x: Values, fs: float) -> tuple[jax.Array, tuple]:
        states = []
        for one, own, before in zip(effects, of_each(values), state, strict=True):
            x, after = one.process(own, before, x, fs)
            states.append(after)
        return as_signal(x), tuple(states)

    def sampled(values: Row, x: Values, fs: float) -> jax.Array:
        for one, own in zip(effects, of_each(values), strict=True):
            x = one.sampled(own, x, fs)
        return as_signal(x)

    def latency(fs: float) -> int:
        return sum(one.latency(fs) for one in effects)

    return Effect(
        "+".join(one.name for one in effects), controls, initial_state, process, sampled, latency, stereo
    )


def _channels(effects: Sequence[Effect]) -> tuple[tuple[bool, bool], list[bool]]:
    """Return whether input and output of a chain have two channels; of each effect, whether its input has."""
    two = next((one.stereo[0] for one in effects if any(one.stereo)), False)
    first, seen = two, []
    for one in effects:
        if two and one.stereo == (False, True):
            raise ValueError(f"{one.name} makes two channels of one, but two come to it; put it earlier.")
        seen.append(two)
        two = two or one.stereo[1]
    return (first, two), seen


def _for_both(value: Any) -> Any:
    """Return a control with an axis for the channels, which share it."""
    return value[..., None] if np.ndim(value) else value


def apply(one: Effect, values: Row, x: SignalLike, fs: float, *, method: str = "exact") -> Signal:
    """Process a whole signal by an effect or a chain, from its initial state, in time with `x`.

    `values` has one number or (...) for each control, in its unit, broadcast against the batch axes of `x`.
    Where the effect has stereo input or output (`Effect.stereo`), that has an axis of two channels before the
    samples, which is no batch axis. `method` is `"exact"`, or `"fsm"` by frequency sampling.

    Raises:
        ValueError: another number of values; unknown `method`; as the effect.

    Example:
        >>> strip = chain(effect("equalizer"), effect("compressor", fixed={"lookahead_ms": 0.0}))
        >>> middle = params.denormalise(np.zeros(len(strip.controls)), strip.controls)
        >>> apply(strip, middle, jnp.zeros(100), 48000.0).shape
        (100,)
    """
    if len(values) != len(one.controls):
        raise ValueError(f"values has {len(values)} entries; {one.name} has {len(one.controls)} controls.")
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; choose one of {', '.join(METHODS)}.")
    signal = as_signal(x)
    if method == "fsm":
        return one.sampled(values, signal, fs)
    return _in_time(one, values, signal, fs)


def stream(
    one: Effect,
    values: Sequence[float],
    read: Reader,
    n_samples: int,
    fs: float,
    *,
    block_samples: int = BLOCK_SAMPLES,
) -> Iterator[np.ndarray]:
    """Yield a recording through an effect in blocks (channels, n), in time with it, whatever its length.

    `values` has a number for each control, in its unit; `read(start, stop)` gives samples (channels, stop -
    start). Recordings shorter than `block_samples` use shorter blocks.

    Example:
        >>> x = np.ones((2, 1000), np.float32)
        >>> louder = stream(effect("gain"), [6.0], lambda start, stop: x[:, start:stop], 1000, 8000.0)
        >>> next(louder).shape
        (2, 1000)
    """
    late = one.latency(fs)
    # The values are numbers, not traced: they are checked, and filters designed of them in float64.
    run = jax.jit(lambda x, state: one.process(values, state, x, fs))

    def process(x: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        y, state = run(x, one.initial_state(x.shape[:-1], fs, x.dtype) if state is None else state)
        return np.asarray(y).reshape(-1, x.shape[-1]), state

    return stream_blocks(process, read, n_samples, latency=late, block_samples=block_samples)


class Settings(NamedTuple):
    """An effect by name with a number for each control, in its unit."""

    name: str
    values: Sequence[float]

    def stream(
        self, read: Reader, n_samples: int, fs: float, *, block_samples: int = BLOCK_SAMPLES
    ) -> Iterator[np.ndarray]:
        """Yield the blocks of a recording through the effect, as `stream`; a reverb rings until silent."""
        options = {}
        if self.name == "reverb":
            options["length"] = reverb.whole_length(reverb.packed(self.values), fs)
        one = effect(self.name, **options)
        return stream(one, self.values, read, n_samples, fs, block_samples=block_samples)


def _in_time(one: Effect, values: Row, signal: jax.Array, fs: float) -> jax.Array:
    """Process by the exact form from its initial state, and remove the latency."""
    outer, channels = signal.shape[:-1], ()
    if one.stereo[0]:
        outer, channels = outer[:-1], outer[-1:]
    batch = (*np.broadcast_shapes(outer, *(np.shape(value) for value in values)), *channels)
    late = one.latency(fs)
    padded = jnp.pad(signal, (*((0, 0),) * (signal.ndim - 1), (0, late)))
    return one.process(values, one.initial_state(batch, fs, signal.dtype), padded, fs)[0][..., late:]
