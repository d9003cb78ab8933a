"""A phaser: first-order all-passes that an oscillator sweeps, in a feedback loop, beside the direct path.

    w[n] = A e^(-s t) cos(2 pi f t + phase)                the oscillator, one value a hop
    d    = bias + depth (1 + shape(w)) / 2                 the waveshaper is a small network
    p    = tanh((1 - tan d) / (1 + tan d))                 the coefficient, interpolated to one value a sample
    h    = biquad(x)
    y    = through h + loop(p, feedback, h)                the all-passes, see `jaxapf.filters.feedback`

Two forms with the same controls: `phaser` runs the exact recursions and streams, `phaser_sampled` multiplies
frames by the response of filters that stand still.

Source: Yu et al. 2024, section 4.1; Carson, Valentini-Botinhao, King, Bilbao 2023, "Differentiable grey-box
modelling of phaser effects using frame-based spectral processing".
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Complex, Float, PRNGKeyArray

from jaxapf._internal.arrays import as_signal, count, require, whole_number
from jaxapf.effects._controls import Signal, SignalLike
from jaxapf.filters import feedback, overlap_add, recursion

__all__ = [
    "HOP",
    "MOST_FEEDBACK",
    "STAGES",
    "Controls",
    "State",
    "coefficient_of",
    "controls_of",
    "cutoff_hz",
    "filtered",
    "frame_responses",
    "init",
    "initial_state",
    "oscillator",
    "phaser",
    "phaser_sampled",
    "sweep",
    "waveshaped",
]

STAGES = 4
HOP = 32  # samples from one control value to the next
WIDTH, LAYERS = 8, 3  # of the waveshaper
MOST_FEEDBACK = 0.99
Tree = Any


class Controls(NamedTuple):
    """Numbers, but for the waveshaper and the biquad.

    ``rate_hz``, ``phase`` at the first sample in radians, ``amplitude`` and ``decay`` in one over seconds of
    the oscillator; ``shape``, a tuple of `(kernel, bias)`, one a layer; ``bias`` and ``depth`` of d, radians;
    ``through``, gain of the signal beside the all-passes; ``feedback`` around them, in (-1, 1); ``b`` (3,)
    and ``a`` (2,), the biquad's coefficients without the leading one of a.
    """

    rate_hz: Any
    phase: Any
    amplitude: Any
    decay: Any
    shape: Any
    bias: Any
    depth: Any
    through: Any
    feedback: Any
    b: Any
    a: Any


class State(NamedTuple):
    """``position`` () int32 in samples since the oscillator's start; the filters' states.

    ``biquad`` (..., 2) and ``loop`` (..., stages + 1), see `recursion.allpole` and `feedback.allpass_loop`.
    """

    position: Any
    biquad: Any
    loop: Any


def initial_state(batch: tuple[int, ...] = (), *, stages: int = STAGES, dtype: Any = jnp.float32) -> State:
    """Return the state of silence."""
    loop = jnp.zeros((*batch, count("stages", stages) + 1), dtype)
    return State(jnp.zeros((), jnp.int32), jnp.zeros((*batch, 2), dtype), loop)


def phaser(
    controls: Controls,
    state: State,
    x: SignalLike,
    fs: float,
    *,
    stages: int = STAGES,
    delay: int = 0,
    hop: int = HOP,
) -> tuple[Signal, State]:
    """Process a signal by exact recursions.

    All signals of the batch share the controls, `jax.vmap` lifts it over others. The state is of as many
    `stages`, the all-passes; the feedback's `delay` is 0 or 1 samples; `hop` is samples from one value of the
    oscillator to the next.

    Source: Yu et al. 2024, eq. 8 to 13.

    Example:
        >>> controls = controls_of(init(jax.random.key(0), rate_hz=0.5))
        >>> y, state = phaser(controls, initial_state(), jnp.ones(1000), 8000.0)
        >>> y.shape, int(state.position)
        ((1000,), 1000)
    """
    signal = as_signal(x)
    _check(controls, fs, delay)
    if np.shape(state.loop)[-1:] != (count("stages", stages) + 1,):
        raise ValueError(
            f"state has {np.shape(state.loop)[-1] - 1} stages; expected {stages}: initial_state(stages=...)."
        )
    controls = jax.tree.map(lambda value: jnp.asarray(value, signal.dtype), controls)
    p = sweep(controls, state.position, signal.shape[-1], fs, hop)
    return filtered(controls, p, state, signal, delay)


def filtered(
    controls: Controls, p: Float[Array, " n_samples"], state: State, x: Signal, delay: int
) -> tuple[Signal, State]:
    """Run the filters alone along a sweep `p` of the all-passes' coefficient, with the state's stages."""
    stages = np.shape(state.loop)[-1] - 1
    poles, memory = recursion.allpole(controls.a, x, state.biquad)
    h = _numerator(controls.b, poles, state.biquad)
    loop, memories = feedback.allpass_loop(p, _gains(controls.feedback, delay), h, state.loop, stages=stages)
    position = state.position + jnp.asarray(x.shape[-1], jnp.int32)
    return controls.through * h + loop, State(position, memory, memories)


def phaser_sampled(
    controls: Controls, x: SignalLike, fs: float, *, window_ms: float, stages: int = STAGES, delay: int = 0
) -> Signal:
    """Process by frequency sampling: Hann-windowed frames, each multiplied by one response.

    The window, 8 samples or more, is rounded to a multiple of 4, the hop is a quarter of it, and the
    transform at least twice as long.

    Example:
        >>> controls = controls_of(init(jax.random.key(0), rate_hz=0.5))
        >>> phaser_sampled(controls, jnp.ones(1000), 8000.0, window_ms=10.0).shape
        (1000,)
    """
    signal = as_signal(x)
    _check(controls, fs, delay)
    hop = round(window_ms * 1e-3 * fs / 4)
    if hop < 2:
        raise ValueError(f"window_ms is {window_ms}; expected 8 samples or more, {8e3 / fs:g} ms.")
    n_fft = 2 ** math.ceil(math.log2(8 * hop))
    controls = jax.tree.map(lambda value: jnp.asarray(value, signal.dtype), controls)
    at = jnp.asarray(np.arange(overlap_add.n_frames(signal.shape[-1], hop)) * (hop / fs), signal.dtype)
    p = _coefficient(controls, at)
    response = frame_responses(controls, p, n_fft, count("stages", stages), delay)
    return overlap_add.filter_frames(response, signal, n_fft=n_fft, hop=hop, n_window=4 * hop)


def init(key: PRNGKeyArray, *, rate_hz: float = 1.0) -> Tree:
    """Return the 182 trained numbers at random: a gentle sweep, hardly any feedback, a biquad of one.

    The dict of float32 arrays is for `controls_of`; `rate_hz` is where the oscillator's rate begins.

    Example:
        >>> sum(leaf.size for leaf in jax.tree.leaves(init(jax.random.key(0))))
        182
    """
    of_shape, of_phase, of_bias, of_depth = jax.random.split(key, 4)
    layers, n_in = [], 1
    widths = (WIDTH,) * LAYERS + (1,)
    for width, part in zip(widths, jax.random.split(of_shape, LAYERS + 1), strict=True):
        bound = 1 / math.sqrt(n_in)
        of_kernel, of_offset = jax.random.split(part)
        kernel = jax.random.uniform(of_kernel, (n_in, width), minval=-bound, maxval=bound)
        layers.append((kernel, jax.random.uniform(of_offset, (width,), minval=-bound, maxval=bound)))
        n_in = width
    return {
        "log_rate": jnp.log(jnp.asarray(rate_hz, jnp.float32)),
        "phase": jax.random.normal(of_phase),
        "amplitude": jnp.ones(()),
        "sigma": jnp.zeros(()),
        "shape": tuple(layers),
        "bias": 0.1 * jax.random.uniform(of_bias),
        "depth": 0.5 * jax.random.uniform(of_depth),
        "through": jnp.ones(()),
        "feedback": jnp.full((), 0.01),
        "b": jnp.array([1.0, 0.0, 0.0]),
        "a": jnp.zeros(2),
    }


def controls_of(raw: Tree) -> Controls:
    """Return the controls of the trained numbers, stable whatever these are.

    Source: Yu et al. 2024, section 4.1 (poles in the stability triangle); the feedback is a tanh here, either
    sign, where the paper has |g2|.

    Example:
        >>> controls = controls_of(init(jax.random.key(0), rate_hz=0.5))
        >>> round(float(controls.rate_hz), 4), controls.b.tolist(), controls.a.tolist()
        (0.5, [1.0, 0.0, 0.0], [0.0, 0.0])
    """
    a1 = 2 * jnp.tanh(raw["a"][0])
    a2 = ((2 - jnp.abs(a1)) * jnp.tanh(raw["a"][1]) + jnp.abs(a1)) / 2
    same = {name: raw[name] for name in ("phase", "amplitude", "shape", "bias", "depth", "through", "b")}
    return Controls(
        rate_hz=jnp.exp(raw["log_rate"]),
        decay=raw["sigma"] ** 2,
        feedback=MOST_FEEDBACK * jnp.tanh(raw["feedback"]),
        a=jnp.stack([a1, a2]),
        **same,
    )


def oscillator(controls: Controls, time_s: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return the oscillator at times in seconds: a damped cosine, the real part of z_0 z^n in the paper."""
    cycles = controls.rate_hz * time_s
    angle = 2 * np.pi * (cycles - jnp.floor(cycles)) + controls.phase
    return controls.amplitude * jnp.exp(-jnp.minimum(controls.decay * time_s, 60.0)) * jnp.cos(angle)


def waveshaped(layers: Any, w: Float[Array, " n"]) -> Float[Array, " n"]:
    """Apply the waveshaper to values of the oscillator: layers of tanh, the last one linear."""
    values = w[:, None]
    for kernel, bias in layers[:-1]:
        values = jnp.tanh(values @ kernel + bias[None])
    kernel, bias = layers[-1]
    return (values @ kernel + bias[None])[:, 0]


def coefficient_of(d: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """Return p = tanh((1 - tan d) / (1 + tan d)) = tanh(tan(pi / 4 - d)), in [-1, 1] for any d."""
    return jnp.tanh(jnp.tan(np.pi / 4 - d))


def cutoff_hz(p: Float[ArrayLike, "*shape"], fs: float) -> Float[Array, "*shape"]:
    """Return the frequency in Hz at which a stage shifts the phase by 90 degrees."""
    return fs / np.pi * jnp.arctan2(1 - p, 1 + p)


def sweep(
    controls: Controls, position: Any, n_samples: int, fs: float, hop: int = HOP
) -> Float[Array, " n_samples"]:
    """Return the all-passes' coefficient from a position in samples on.

    Computed at multiples of `hop` since the oscillator's start, and interpolated, so that pieces of a signal
    have the same values as the whole.
    """
    hop = count("hop", hop)
    position = jnp.asarray(position, jnp.int32)
    first, offset = position // hop, position % hop
    n_values = 2 + (n_samples + hop - 2) // hop
    dtype = controls.phase.dtype
    at = (first + jnp.arange(n_values, dtype=jnp.int32)).astype(dtype) * jnp.asarray(hop / fs, dtype)
    lines = overlap_add.interpolate(_coefficient(controls, at), (n_values - 1) * hop + 1, hop)
    return jax.lax.dynamic_slice_in_dim(lines, offset, n_samples)


def frame_responses(
    controls: Controls, p: Float[Array, " n_frames"], n_fft: int, stages: int, delay: int
) -> Complex[Array, "n_frames n_bins"]:
    """Return the responses of a phaser that stands still at each coefficient (Yu et al. 2024, eq. 13)."""
    omega = jnp.asarray(2 * np.pi * np.arange(n_fft // 2 + 1) / n_fft, p.dtype)[None]
    z1 = jax.lax.complex(jnp.cos(omega), -jnp.sin(omega))
    p = _complex(p)[:, None]
    chain = ((p - z1) / (1 - p * z1)) ** stages
    loop = chain / (1 - _complex(controls.feedback) * chain * (z1 if delay else 1))
    b, a = _complex(controls.b), _complex(controls.a)
    biquad = (b[0] + z1 * (b[1] + z1 * b[2])) / (1 + z1 * (a[0] + z1 * a[1]))
    return biquad * (_complex(controls.through) + loop)


def _complex(values: jax.Array) -> jax.Array:
    return jax.lax.complex(values, jnp.zeros_like(values))


def _coefficient(controls: Controls, time_s: jax.Array) -> jax.Array:
    shaped = waveshaped(controls.shape, oscillator(controls, time_s))
    return coefficient_of(controls.bias + controls.depth * (1 + shaped) / 2)


def _numerator(b: jax.Array, poles: jax.Array, zi: jax.Array) -> jax.Array:
    """Return b_0 v[t] + b_1 v[t - 1] + b_2 v[t - 2]; zi (..., 2) are the values before, newest first."""
    before = jnp.broadcast_to(zi[..., ::-1], (*poles.shape[:-1], 2))
    whole = jnp.concatenate([before, poles], axis=-1)
    n = poles.shape[-1]
    return b[0] * whole[..., 2:] + b[1] * whole[..., 1 : n + 1] + b[2] * whole[..., :n]


def _gains(gain: jax.Array, delay: int) -> jax.Array:
    zero = jnp.zeros_like(gain)
    return jnp.stack([zero, gain] if delay else [gain, zero])


def _check(controls: Controls, fs: float, delay: int) -> None:
    require("fs", fs, "a sample rate above 0 Hz", lambda v: v > 0)
    if whole_number("delay", delay) not in (0, 1):
        raise ValueError(f"delay is {delay}; expected 0 or 1 samples of feedback delay.")
    require("rate_hz", controls.rate_hz, "0 Hz or more", lambda v: v >= 0)
    require("decay", controls.decay, "0 or more", lambda v: v >= 0)
    require("feedback", controls.feedback, "a gain between -1 and 1", lambda v: np.abs(v) < 1)
