"""Fit the compressor to a dry and a wet recording of a device with unknown settings.

The delay and the sign come from cross-correlation, candidates of the threshold from the gain block by block;
the best settings of a grid go on to Levenberg-Marquardt on the error of the samples, whose Jacobian is the
exact forward derivative of `effects.compressor`. All detectors and smoothings are fitted to a section of the
recording, the best ones to all of it.

    fitted = fit_compressor(dry, wet, fs)
    y = render(fitted.controls, fitted.options, x, fs)

`render` processes a whole signal; `initial_state` and `process` are for blocks.
"""

from __future__ import annotations

import functools
import itertools
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float

from jaxapf._internal.least_squares import Damping, minimise
from jaxapf.effects import compressor as fx
from jaxapf.effects._controls import Signal, SignalLike
from jaxapf.effects.compressor import Controls, State
from jaxapf.effects.modelling.latency import MAX_DELAY_MS, blocks, find_delay, shifted

__all__ = ["KINDS", "Fitted", "fit_compressor", "initial_state", "process", "render", "surplus"]

Record = Callable[[dict[str, Any]], None]

MAX_LOOKAHEAD_MS = 20.0
BLOCK_MS = 20.0  # of the analysis
SCREEN_S = 6.0  # of the piece that all kinds are tried on
WHOLE_S = 30.0  # of the piece that the best are fitted to
WARM_UP_S = 0.5  # of a piece: the state that it begins with is not known
LEAST_S = 0.25
SILENT_DB = -100.0
# An error below this with one constant gain is no compression; it is 24 bit and a little more.
NO_COMPRESSION = 1e-9
SCREEN_STEPS = 12  # of each start
FINALISTS = 2  # kinds that are fitted to all of the recording
MARGIN = 1.02  # of the error within which the simpler answer is taken

KINDS = tuple(itertools.product(fx.DETECTORS, fx.SMOOTHINGS))  # the simpler first

# What is searched: name, lowest, highest; the ratio as log(ratio - 1), times and knee as logarithms.
_BOUNDS = {
    "threshold_db": (-80.0, 6.0),
    "ratio": (math.log(0.02), math.log(400.0)),
    "attack_ms": (math.log(0.02), math.log(1000.0)),
    "release_ms": (math.log(0.5), math.log(8000.0)),
    "average_ms": (math.log(0.005), math.log(200.0)),
    "knee_db": (math.log(0.05), math.log(40.0)),
    "makeup_db": (-60.0, 60.0),
    "lookahead_ms": (0.0, MAX_LOOKAHEAD_MS),
}
_NAMES = tuple(_BOUNDS)
_LOW, _HIGH = (np.array([_BOUNDS[name][side] for name in _NAMES]) for side in (0, 1))
_LOGS = ("attack_ms", "release_ms", "average_ms", "knee_db")
_AHEAD = _NAMES.index("lookahead_ms")
_MAKEUP = _NAMES.index("makeup_db")
_AT_ONCE = 4  # candidates that one call tries
_LARGEST_STEP = np.array([6.0, 1.0, 1.0, 1.0, 1.0, 1.0, 6.0, 2.0])
# Four dampings are tried side by side; where none lowers the error the descent ends.
_DAMPING = Damping(shrink=1.0, grow=math.inf, lowest=1e-8, highest=1e12, ridge=1e-9, negligible=1e-9)
_FACTORS = (0.1, 1.0, 10.0, 1000.0)


class Fitted(NamedTuple):
    """``controls`` of floats; ``options``, static, JSON: detector, smoothing, polarity, delay_samples,
    latency_samples; ``metrics``: error-to-signal ratios ``esr`` (fitted), ``esr_gain`` (one constant gain,
    after delay and sign), ``esr_raw`` (as recorded), and ``seconds``.
    """

    controls: Controls
    options: dict[str, Any]
    metrics: dict[str, float]


class Piece(NamedTuple):
    """Dry, aligned, and wet (n_channels, n_samples) of a part of the recording; weights (1, n_samples)."""

    dry: jax.Array
    wet: jax.Array
    weights: jax.Array


def fit_compressor(
    dry: Float[ArrayLike, "*channels n_samples"],
    wet: Float[ArrayLike, "*channels n_samples"],
    fs: float,
    *,
    max_delay_ms: float = MAX_DELAY_MS,
    on_record: Record | None = None,
) -> Fitted:
    """Fit a compressor to a dry and a wet signal; channels are compressed one by one with the same settings.

    The wet signal may be late or early by whole samples up to `max_delay_ms`, inverted, louder or softer; a
    pair that differs by one constant gain gets ratio 1. `on_record` is called with a dict after every step:
    `stage`, `kind`, `step`, `esr`.

    Raises:
        ValueError: shapes that differ, a signal that is too short, silent or not finite, a wet signal that
            has nothing to do with the dry one, `fs` not above 0.

    Example:
        >>> x = np.sin(np.arange(4000) / 5) * np.linspace(0, 1, 4000)
        >>> fitted = fit_compressor(x, 0.5 * x, 8000.0)
        >>> fitted.controls.ratio, round(fitted.controls.makeup_db, 2)
        (1.0, -6.02)
    """
    began = time.monotonic()
    dry, wet = checked(dry, wet, fs)
    delay, polarity = find_delay(dry, wet, fs, max_delay_ms)
    options = {"polarity": polarity, "delay_samples": delay, "latency_samples": max(delay, 0)}
    aligned = polarity * shifted(dry, delay)
    gain = float(np.vdot(aligned, wet) / np.vdot(aligned, aligned))
    metrics = {"esr_raw": _esr(dry, wet), "esr_gain": _esr(gain * aligned, wet)}
    if not 0 < gain < math.inf or metrics["esr_gain"] > 0.98:
        raise ValueError(
            "wet has hardly anything of dry in it; give recordings of the same sound, before and after the "
            "compressor, that begin at the same instant."
        )
    if metrics["esr_gain"] < NO_COMPRESSION:
        makeup = 20 * math.log10(gain)
        controls = Controls(0.0, 1.0, 10.0, 100.0, makeup_db=makeup)
        options |= {"detector": "rms", "smoothing": "gain"}
    else:
        controls, kind = _search(aligned, wet, fs, on_record or (lambda record: None))
        if controls.average_ms == 0:
            kind = "peak", kind[1]  # one sample's mean power is its magnitude: the simpler name
        options |= {"detector": kind[0], "smoothing": kind[1]}
        ahead = math.ceil(controls.lookahead_ms * 1e-3 * fs - 1e-9)
        options["latency_samples"] = max(delay, ahead, 0)
    metrics["esr"] = _esr(render(controls, options, dry, fs), wet)
    metrics["seconds"] = time.monotonic() - began
    return Fitted(controls, options, metrics)


def initial_state(
    options: Mapping[str, Any], *, batch: tuple[int, ...] = (), dtype: Any = jnp.float32
) -> State:
    """Return the state of silence of a fitted compressor."""
    return fx.initial_state(batch, latency=options["latency_samples"], dtype=dtype)


def process(
    controls: Controls, options: Mapping[str, Any], state: State, x: SignalLike, fs: float
) -> tuple[Signal, State]:
    """Process a block by a fitted compressor, at any sample rate.

    The output is `latency_samples` late, that of the device `delay_samples`: for an output in time with the
    device's, drop the first `surplus(options)` samples, and append as many zeros to the input.
    """
    kind = {"detector": options["detector"], "smoothing": options["smoothing"]}
    y, state = fx.compressor(controls, state, x, fs, **kind)
    return options["polarity"] * y, state


def surplus(options: Mapping[str, Any]) -> int:
    """Return the samples by which `process` is later than the device."""
    return options["latency_samples"] - options["delay_samples"]


def render(
    controls: Controls, options: Mapping[str, Any], x: SignalLike, fs: float
) -> Float[np.ndarray, "... n_samples"]:
    """Process a whole signal by a fitted compressor, in time with the device; float32, sample rate in Hz."""
    signal = np.asarray(x, np.float32)
    extra = surplus(options)
    padded = np.pad(signal, [(0, 0)] * (signal.ndim - 1) + [(0, extra)])
    y, _ = process(controls, options, initial_state(options, batch=signal.shape[:-1]), padded, fs)
    return np.asarray(y)[..., extra:]


def checked(dry: Any, wet: Any, fs: float) -> tuple[np.ndarray, np.ndarray]:
    """Return both as (n_channels, n_samples) float64; ValueError if they cannot be fitted to."""
    if not fs > 0:
        raise ValueError(f"fs is {fs:g}; expected a sample rate above 0 Hz.")
    arrays = []
    for name, values in (("dry", dry), ("wet", wet)):
        array = np.asarray(values)
        if array.ndim not in (1, 2) or not np.issubdtype(array.dtype, np.floating):
            raise ValueError(
                f"{name} has shape {array.shape} and dtype {array.dtype}; expected (n_samples,) or "
                "(n_channels, n_samples) floats."
            )
        if not np.isfinite(array).all():
            raise ValueError(f"{name} has samples that are no finite numbers; repair the recording.")
        if np.max(np.abs(array), initial=0.0) < 10 ** (SILENT_DB / 20):
            raise ValueError(f"{name} is silent; give a recording with sound in it.")
        arrays.append(np.atleast_2d(array).astype(np.float64))
    if arrays[0].shape != arrays[1].shape:
        raise ValueError(f"dry has shape {np.shape(dry)} and wet {np.shape(wet)}; give two of one shape.")
    if arrays[0].shape[-1] < LEAST_S * fs:
        raise ValueError(
            f"dry has {arrays[0].shape[-1] / fs:.3g} s; expected {LEAST_S} s or more, better several seconds."
        )
    return arrays[0], arrays[1]


def levels_and_gains(
    dry: np.ndarray, wet: np.ndarray, fs: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the level of dry, the gain of wet over dry in dB, and the weight of each block (n_blocks,)."""
    d, w = (blocks(x, round(BLOCK_MS * 1e-3 * fs)) for x in (dry, wet))
    power, cross = np.mean(d * d, -1), np.mean(d * w, -1)
    known = (power > 10 ** (SILENT_DB / 10)) & (cross > 0.01 * power * 10 ** (-60 / 20))
    level = 10 * np.log10(np.maximum(power, 1e-12))
    gain = 20 * np.log10(np.maximum(cross, 1e-15) / np.maximum(power, 1e-12))
    # Loud blocks count more, as they do in the error, but not by as much.
    return level[known], gain[known], np.sqrt(power[known])


def static_curves(level: np.ndarray, gain: np.ndarray, weight: np.ndarray) -> list[tuple[float, float]]:
    """Return threshold in dB and slope, 1 - 1 / ratio, of bent lines through the blocks, the best first."""
    found = []
    if level.size < 4:
        return [(-20.0, 0.7)]
    lowest, highest = np.percentile(level, 2), np.percentile(level, 99)
    for threshold in np.arange(max(-70.0, lowest - 6), highest, 2.0):
        over = np.maximum(level - threshold, 0.0)
        columns = np.stack([np.ones_like(over), -over], -1) * weight[:, None]
        (makeup, slope), *_ = np.linalg.lstsq(columns, gain * weight, rcond=None)
        slope = float(np.clip(slope, 0.1, 0.98))
        residual = gain - makeup + slope * over
        residual = residual - np.sum(weight * residual) / np.sum(weight)
        found.append((float(np.sum((weight * residual) ** 2)), float(threshold), slope))
    found.sort()
    return [(threshold, slope) for _, threshold, slope in found] or [(-20.0, 0.7)]


def _search(dry: np.ndarray, wet: np.ndarray, fs: float, record: Record) -> tuple[Controls, tuple[str, str]]:
    """Return the best controls and their kind; `dry` is aligned."""
    level, gain, weight = levels_and_gains(dry, wet, fs)
    curves = static_curves(level, gain, weight)
    piece = _piece(dry, wet, fs, SCREEN_S)
    found: dict[tuple[str, str], tuple[float, np.ndarray]] = {}
    for kind in KINDS:
        starts = _best_starts(piece, curves, fs, kind)
        runs = [
            _descend(piece, begin, fs, kind, record, stage="screen", steps=SCREEN_STEPS) for begin in starts
        ]
        found[kind] = min(runs, key=lambda run: run[0])
    ranked = sorted(found, key=lambda kind: found[kind][0])
    for kind in ranked[1:]:  # where one kind has come far, its neighbours may follow
        run = _descend(piece, found[ranked[0]][1], fs, kind, record, stage="screen", steps=SCREEN_STEPS)
        found[kind] = min(found[kind], run, key=lambda run: run[0])
    ranked = sorted(found, key=lambda kind: found[kind][0])
    whole = _piece(dry, wet, fs, WHOLE_S)
    best = {
        kind: _descend(whole, found[kind][1], fs, kind, record, stage="whole", steps=30)
        for kind in ranked[:FINALISTS]
    }
    least = min(error for error, _ in best.values())
    kind = next(kind for kind in KINDS if kind in best and best[kind][0] <= MARGIN * least)
    # A wide knee, lowered and made up for, passes for a hard one: descent does not find the way back.
    hard = best[kind][1].copy()
    hard[_NAMES.index("knee_db")] = _LOW[_NAMES.index("knee_db")]
    run = _descend(whole, hard, fs, kind, record, stage="hard knee", steps=30)
    _, raw = min(best[kind], run, key=lambda run: run[0])
    return _simplified(whole, raw, fs, kind), kind


def _piece(dry: np.ndarray, wet: np.ndarray, fs: float, seconds: float) -> Piece:
    """Return the section of the recording in which the gain changes most, its beginning without weight."""
    n, length = dry.shape[-1], round(seconds * fs)
    first = 0
    if length < n:
        level_step = round(0.1 * fs)
        d, w = blocks(dry, level_step), blocks(wet, level_step)
        power = np.sum(np.mean(d * d, -1), 0)
        gain = np.sum(np.mean(d * w, -1), 0) / np.maximum(power, 1e-12)
        weight = np.minimum(power, np.percentile(power, 90))
        changes = np.abs(np.diff(np.log(np.clip(gain, 1e-3, 1e3)))) * np.minimum(weight[1:], weight[:-1])
        window = max(1, length // level_step - 1)
        sums = np.convolve(changes, np.ones(min(window, changes.size)), "valid")
        first = min(int(np.argmax(sums)) * level_step, n - length)
    part = slice(first, first + length)
    weights = np.ones((1, min(length, n)), np.float32)
    if first > 0:
        weights[:, : round(WARM_UP_S * fs)] = 0
    aligned, target = (jnp.asarray(x[..., part], jnp.float32) for x in (dry, wet))
    return Piece(aligned, target, jnp.asarray(weights))


def _best_starts(
    piece: Piece, curves: list[tuple[float, float]], fs: float, kind: tuple[str, str]
) -> list[np.ndarray]:
    """Return the best of a grid, another that differs in its times, and the best with a look-ahead."""
    errors, candidates = _errors(_grid(curves, kind), piece, fs, kind)
    candidates = candidates[np.argsort(errors)]
    chosen = [candidates[0]]
    far = np.sum(np.abs(candidates[:, 2:5] - candidates[0, 2:5]) > 0.7, axis=1) >= 2
    chosen += list(candidates[far][:1])
    errors, ahead = _errors(_with_look_ahead(candidates[:6]), piece, fs, kind)
    return [*chosen, ahead[int(np.argmin(errors))]]


def _with_look_ahead(candidates: np.ndarray) -> np.ndarray:
    """Return the candidates with look-ahead, and with the slower attacks that go with it."""
    choices = list(itertools.product(candidates, (1.5, 4.0, 8.0, 15.0), (1.0, 3.0, 9.0)))
    rows = np.array([raw for raw, _, _ in choices])
    rows[:, _AHEAD] = [lead for _, lead, _ in choices]
    rows[:, _NAMES.index("attack_ms")] += [math.log(slower) for _, _, slower in choices]
    return np.clip(rows, _LOW, _HIGH)


def _grid(curves: list[tuple[float, float]], kind: tuple[str, str]) -> np.ndarray:
    """Return raw settings (n, 8); a peak lies above the mean power, and so does its threshold."""
    far = next((curve for curve in curves if abs(curve[0] - curves[0][0]) >= 6), curves[-1])
    lines = [curves[0], far]
    offsets = (0.0, 6.0) if kind[0] == "peak" else (0.0, -6.0)
    averages = (0.02, 3.0) if kind[0] == "peak" else (1.0, 12.0)
    rows = []
    for (threshold, slope), offset, attack, release, average in itertools.product(
        lines, offsets, (0.3, 3.0, 20.0, 90.0), (30.0, 150.0, 700.0), averages
    ):
        for steep in (slope, 0.5 * (slope + 0.98)):
            raw = [threshold + offset, math.log(steep / (1 - steep))]
            rows.append([*raw, *map(math.log, (attack, release, average, 4.0)), 0.0, 0.0])
    return np.clip(np.array(rows), _LOW, _HIGH)


def _controls(raw: Any) -> Controls:
    values = {name: raw[i] for i, name in enumerate(_NAMES)}
    values |= {name: jnp.exp(values[name]) for name in _LOGS}
    return Controls(**(values | {"ratio": 1 + jnp.exp(values["ratio"])}))


def _output(raw: jax.Array, dry: jax.Array, fs: float, kind: tuple[str, str]) -> jax.Array:
    """Return the output in time with wet, whatever the look-ahead."""
    (detector, smoothing), latency = kind, _latency(fs)
    padded = jnp.pad(dry, ((0, 0), (0, latency)))
    begin = fx.initial_state(latency=latency)
    y, _ = fx.compressor(_controls(raw), begin, padded, fs, detector=detector, smoothing=smoothing)
    return y[:, latency:]


def _errors(
    candidates: np.ndarray, piece: Piece, fs: float, kind: tuple[str, str]
) -> tuple[np.ndarray, np.ndarray]:
    """Return errors, infinite where not finite, and the candidates with their best make-up."""
    errors, makeups = [], []
    for first in range(0, len(candidates), _AT_ONCE):
        some = candidates[first : first + _AT_ONCE]
        padded = np.concatenate([some, np.repeat(some[:1], _AT_ONCE - len(some), axis=0)])
        error, makeup = _errors_of_four(jnp.asarray(padded, jnp.float32), piece, fs, kind)
        errors.append(np.asarray(error, np.float64)[: len(some)])
        makeups.append(np.asarray(makeup, np.float64)[: len(some)])
    candidates = candidates.copy()
    candidates[:, _MAKEUP] = np.clip(np.concatenate(makeups), _LOW[_MAKEUP], _HIGH[_MAKEUP])
    error = np.concatenate(errors)
    return np.where(np.isfinite(error), error, math.inf), candidates


@functools.partial(jax.jit, static_argnums=(2, 3))
def _errors_of_four(
    candidates: jax.Array, piece: Piece, fs: float, kind: tuple[str, str]
) -> tuple[jax.Array, jax.Array]:
    """Return the error of every candidate with its best make-up, and that in dB."""

    def one(raw: jax.Array) -> tuple[jax.Array, jax.Array]:
        y = piece.weights * _output(raw, piece.dry, fs, kind)
        power = jnp.maximum(jnp.sum(y * y), 1e-20)
        gain = 1 + jnp.maximum(jnp.sum(y * (piece.wet - y)) / power, -0.999999)
        makeup = raw[_MAKEUP] + 20 * jnp.log10(gain)
        return jnp.sum((gain * y - piece.weights * piece.wet) ** 2), makeup

    return jax.lax.map(one, candidates)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _normal_equations(
    raw: jax.Array, piece: Piece, fs: float, kind: tuple[str, str]
) -> tuple[jax.Array, jax.Array]:
    """Return J e and J J^T of the weighed error e, J (n_raw, n_samples) its exact forward derivative."""

    def error(raw: jax.Array) -> jax.Array:
        return (piece.weights * (_output(raw, piece.dry, fs, kind) - piece.wet)).reshape(-1)

    residual, push = jax.linearize(error, raw)
    jacobian = jax.lax.map(push, jnp.eye(raw.size, dtype=raw.dtype))
    return jacobian @ residual, jacobian @ jacobian.T


def _descend(
    piece: Piece, raw: np.ndarray, fs: float, kind: tuple[str, str], record: Record, *, stage: str, steps: int
) -> tuple[float, np.ndarray]:
    """Return the least error-to-signal ratio within the bounds, by Levenberg-Marquardt, and its settings."""
    energy = float(jnp.sum(piece.weights * piece.wet**2))

    def report(step: int, error: float) -> None:
        record({"stage": stage, "kind": "/".join(kind), "step": step, "esr": error / energy})

    raw, error = minimise(
        lambda raw: _normal_equations(jnp.asarray(raw, jnp.float32), piece, fs, kind),
        lambda trials: _errors(trials, piece, fs, kind),
        raw,
        steps=steps,
        options=_DAMPING,
        factors=_FACTORS,
        bounds=(_LOW, _HIGH),
        longest=_LARGEST_STEP,
        least_gain=1e-3,
        patience=3,
        good=1e-13 * energy,
        on_step=report,
    )
    return error / energy, raw


def _latency(fs: float) -> int:
    """Return the latency in samples for the longest look-ahead."""
    return math.ceil(MAX_LOOKAHEAD_MS * 1e-3 * fs) + 1


def _simplified(piece: Piece, raw: np.ndarray, fs: float, kind: tuple[str, str]) -> Controls:
    """Return controls as floats, without look-ahead, knee and average where these do not lower the error."""
    (least,), _ = _errors(raw[None], piece, fs, kind)
    limit = MARGIN * least + 1e-12 * float(jnp.sum(piece.weights * piece.wet**2))
    for name in ("lookahead_ms", "knee_db", "average_ms"):
        simpler = raw.copy()
        simpler[_NAMES.index(name)] = -math.inf if name in _LOGS else 0.0
        (error,), changed = _errors(simpler[None], piece, fs, kind)
        if error <= limit:
            raw = changed[0]
    return Controls(*(float(value) for value in _controls(jnp.asarray(raw, jnp.float32))))


def _esr(y: np.ndarray, wet: np.ndarray) -> float:
    return float(np.sum((y - wet) ** 2) / np.sum(wet**2))
