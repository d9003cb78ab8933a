"""Learn a phaser from a dry and a wet recording: its layout, its oscillator, its sweep, its gains.

First the sweep is estimated from short-time spectra (`sweep_estimation`), for several layouts. The best of
them are fitted to the samples through the exact recursion, the sweep a polynomial of the oscillator: some
twenty numbers. The residual decides on the layout. At last the polynomial becomes the paper's waveshaper, and
all numbers are fitted together.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float

from jaxapf import metrics
from jaxapf._internal.arrays import enable_x64
from jaxapf.effects import phaser
from jaxapf.effects.modelling import descent, latency, sweep_estimation
from jaxapf.effects.modelling.sweep_estimation import Layout, Start
from jaxapf.filters import overlap_add

__all__ = ["N_TERMS", "Fitted", "fit_phaser", "polynomial_residual", "start_parameters", "swept_range_hz"]

N_TERMS = 15  # of the polynomial
CANDIDATES, FIRST_STEPS, STEPS, LAST_STEPS = 3, 8, 40, 20
TRIAL_S = 5.0
CLEAR = 1e-6  # the error of a layout that needs no comparison
EXACT = 1e-5  # and of a fit that needs no refining
HIGHEST = 0.499  # of a cutoff, in sample rates
CLOSEST = 1 - 1e-9  # of a coefficient to one
FEW_CYCLES = 2.0  # of the oscillator
WORTH_MORE_TERMS = 10.0  # least ratio of a plain sine's error to that of more terms
NOTHING = 1e-7  # of the wet signal's energy, residual of one constant gain
MIN_S = 0.5
SHAPE_POINTS, SHAPE_TRIES, SHAPE_STEPS = 257, 4, 200
SHAPE_ERROR = 1e-10  # mean square, of a sweep from -1 to 1
SHAPE_GRID = 257  # values of the oscillator at which the waveshaper's bends count
SMOOTHNESS = 1e-4  # what they count: a needle as much as 0.002 % of error, the corners of a triangle a tenth
Tree = Any


class Fitted(NamedTuple):
    """``controls`` of float64 NumPy arrays; ``options``: ``stages`` and ``delay`` of the feedback;
    ``delay_samples`` of the wet signal; ``metrics``: ``esr`` of the fit, ``esr_raw`` before, ``turns`` of the
    oscillator in the recording (of fewer than one and a half the rate is a guess), ``seconds``.
    """

    controls: phaser.Controls
    options: dict[str, int]
    delay_samples: int
    metrics: dict[str, float]


def fit_phaser(
    dry: Float[ArrayLike, " n_samples"],
    wet: Float[ArrayLike, " n_samples"],
    fs: float,
    *,
    max_delay_ms: float = 20.0,
    on_stage: Callable[[str], None] = lambda text: None,
) -> Fitted:
    """Fit a phaser to a dry and a wet signal that start at the same instant.

    The wet signal may be late or early by whole samples up to `max_delay_ms`; `on_stage` is called with a
    description before each stage. The prediction, later by `delay_samples`, is
    `phaser.phaser(controls, phaser.initial_state(stages=options["stages"]), dry, fs, **options)`.

    Raises:
        ValueError: signals that differ in length, are too short, silent, not finite, or alike but for a gain.

    Example:
        >>> fit_phaser(np.zeros(100), np.zeros(100), 8000.0)
        Traceback (most recent call last):
        ...
        ValueError: dry lasts 0.013 s; expected at least 0.5 s of a sweep.
    """
    started = time.perf_counter()
    dry, wet = _checked(dry, wet, fs)
    raw_esr = metrics.esr(dry, wet)
    delay = latency.latency(dry, wet, fs, max_delay_ms)
    dry, wet = _without_delay(dry, wet, delay)
    scale = float(1 / np.sqrt(np.mean(np.square(wet, dtype=np.float64))))
    data = {"dry": jnp.asarray(dry * scale, jnp.float32), "wet": jnp.asarray(wet * scale, jnp.float32)}
    on_stage("Reading the sweep")
    candidates = sweep_estimation.starts(sweep_estimation.spectra_of(dry, wet, fs), count=CANDIDATES)
    # Of less than two cycles a polynomial would make any rate fit: a plain sine comes first.
    few = candidates[0].rate_hz * dry.size / fs < FEW_CYCLES
    theta, layout = _best_candidate(candidates, fs, data, 2 if few else N_TERMS, on_stage)
    on_stage(f"Fitting {layout.stages} stages")
    theta = _fit_polynomial(theta, layout, fs, data, few)
    on_stage("Fitting the waveshaper")
    raw, error = _refine(_with_waveshaper(theta), layout, fs, data)
    with enable_x64():
        wide = jax.tree.map(lambda value: jnp.asarray(value, jnp.float64), raw)
        controls = jax.tree.map(np.asarray, phaser.controls_of(wide))
    # Where the wet signal is earlier, the beginning of the dry one was left out.
    advance = 2 * np.pi * float(controls.rate_hz) * max(-delay, 0) / fs
    controls = controls._replace(phase=controls.phase - advance)
    figures = {
        "esr": error,
        "esr_raw": raw_esr,
        "turns": float(controls.rate_hz) * dry.size / fs,
        "seconds": time.perf_counter() - started,
    }
    return Fitted(controls, layout._asdict(), delay, figures)


def _best_candidate(
    candidates: list[Start],
    fs: float,
    data: dict[str, jax.Array],
    n_terms: int,
    on_stage: Callable[[str], None],
) -> tuple[np.ndarray, Layout]:
    """Return parameters and layout of least error after a few steps, on the first seconds or a slow sweep."""
    length = round(TRIAL_S * fs) if n_terms == N_TERMS else None
    beginning = {name: signal[:length] for name, signal in data.items()}
    tried = []
    for start in candidates:
        on_stage(f"Trying {start.layout.stages} stages")
        residual = polynomial_residual(start.layout, fs, n_terms)
        with contextlib.suppress(FloatingPointError):  # another start may do
            theta, error = descent.levenberg_marquardt(
                residual, start_parameters(start), beginning, steps=FIRST_STEPS
            )
            tried.append((error, theta, start.layout))
            if error < CLEAR:
                break
    if not tried:
        raise ValueError("wet is not what a phaser makes of dry; give a pair of the same performance.")
    return min(tried, key=lambda one: one[0])[1:]


def _fit_polynomial(
    theta: np.ndarray, layout: Layout, fs: float, data: dict[str, jax.Array], few: bool
) -> np.ndarray:
    """Return fitted parameters; for few cycles those of a plain sine, unless more terms explain much more."""
    plain, error = theta, np.inf
    if few:
        plain, error = descent.levenberg_marquardt(
            polynomial_residual(layout, fs, 2), theta, data, steps=STEPS
        )
        if error <= EXACT:
            return plain
    theta, shaped = descent.levenberg_marquardt(polynomial_residual(layout, fs), plain, data, steps=STEPS)
    return theta if shaped < error / WORTH_MORE_TERMS or not few else plain


def _without_delay(dry: np.ndarray, wet: np.ndarray, delay: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the section that both have, the wet one moved to the dry one's time."""
    n = dry.size - abs(delay)
    return dry[max(-delay, 0) :][:n], wet[max(delay, 0) :][:n]


def _checked(dry: Any, wet: Any, fs: float) -> tuple[np.ndarray, np.ndarray]:
    dry, wet = (np.asarray(signal, np.float64) for signal in (dry, wet))
    if dry.ndim != 1 or dry.shape != wet.shape:
        raise ValueError(
            f"dry has shape {dry.shape} and wet {wet.shape}; expected two signals (n_samples,) of one length."
        )
    if dry.size < MIN_S * fs:
        raise ValueError(f"dry lasts {dry.size / fs:.3f} s; expected at least {MIN_S:g} s of a sweep.")
    for name, signal in (("dry", dry), ("wet", wet)):
        if not np.all(np.isfinite(signal)):
            raise ValueError(f"{name} holds samples that are not finite; expected a recording.")
        if np.max(np.abs(signal)) < 1e-7:
            raise ValueError(f"{name} is silent; expected a recording with sound in it.")
    gain = np.vdot(dry, wet) / np.vdot(dry, dry)
    if metrics.esr(gain * dry, wet) < NOTHING:
        raise ValueError(f"wet is dry times {gain:.3g}: nothing moves, so there is no phaser to learn.")
    return dry, wet


# The sweep as a polynomial of the oscillator


def start_parameters(start: Start) -> Float[np.ndarray, " n_parameters"]:
    """Return the parameters of a start for `polynomial_residual`.

    They are the logarithm of the rate in Hz, the phase, `N_TERMS` of the polynomial, the direct gain over
    that of the all-passes, the inverse hyperbolic tangent of the feedback, and b and a of the biquad.
    """
    # The oscillators of most phasers are plain in the logarithm of the frequency.
    ends = np.log(np.arctan(np.exp([start.middle - start.swing, start.middle + start.swing])) / np.pi)
    polynomial = np.zeros(N_TERMS)
    polynomial[:2] = np.mean(ends), (ends[1] - ends[0]) / 2
    around = start.around if abs(start.around) > 1e-3 else 1e-3
    gains = [np.clip(start.through / around, -20, 20), np.arctanh(start.feedback / phaser.MOST_FEEDBACK)]
    biquad = [around, 0.0, 0.0, 0.0, 0.0]
    return np.array([np.log(start.rate_hz), start.phase, *polynomial, *gains, *biquad])


def _raw_of(theta: Any) -> Tree:
    """Return all but the waveshaper, named as in `phaser.init`."""
    through, gain, *biquad = (theta[2 + N_TERMS + n] for n in range(7))
    zeros = dict.fromkeys(("sigma", "bias", "depth"), jnp.zeros_like(theta[0]))
    oscillator = {"log_rate": theta[0], "phase": theta[1], "amplitude": jnp.ones_like(theta[0])}
    gains = {"through": through, "feedback": gain, "b": jnp.stack(biquad[:3]), "a": jnp.stack(biquad[3:])}
    return {**zeros, **oscillator, **gains, "shape": ()}


def polynomial_residual(layout: Layout, fs: float, n_terms: int = N_TERMS) -> descent.Predict:
    """Return the function `(theta, {"dry": x, "wet": y}) -> error`, (n_samples,), of the exact recursion.

    The logarithm of the cutoff is a Chebyshev series of the oscillator, of which the first terms are used.
    """
    kept = np.asarray(np.arange(N_TERMS) < n_terms, np.float32)

    def residual(theta: jax.Array, data: dict[str, jax.Array]) -> jax.Array:
        controls = phaser.controls_of(_raw_of(theta))
        polynomial = theta[2 : 2 + N_TERMS] * kept
        n_samples = data["dry"].shape[-1]
        at = jnp.arange(overlap_add.n_frames(n_samples, phaser.HOP)) * (phaser.HOP / fs)
        p = _coefficient(_chebyshev(polynomial, phaser.oscillator(controls, at)))
        p = overlap_add.interpolate(p, n_samples, phaser.HOP)
        y, _ = phaser.filtered(
            controls, p, phaser.initial_state(stages=layout.stages), data["dry"], layout.delay
        )
        return y - data["wet"]

    return residual


def swept_range_hz(theta: Float[np.ndarray, " n_parameters"], fs: float) -> tuple[float, float]:
    """Return the lowest and highest cutoff in Hz of a sweep with these parameters."""
    log_cycles = np.polynomial.chebyshev.chebval(np.linspace(-1, 1, 201), theta[2 : 2 + N_TERMS])
    edges = fs * np.minimum(np.exp([log_cycles.min(), log_cycles.max()]), HIGHEST)
    return float(edges[0]), float(edges[1])


def _coefficient(log_cycles: Any) -> Any:
    """Return the all-passes' p = (1 - tan pi f / fs) / (1 + tan pi f / fs) of the logarithm of f / fs."""
    return jnp.tan(np.pi / 4 - np.pi * jnp.minimum(jnp.exp(log_cycles), HIGHEST))


def _chebyshev(terms: Any, w: Any) -> Any:
    """Return the sum of terms[k] T_k(w)."""
    before, now, total = jnp.ones_like(w), w, terms[0] + terms[1] * w
    for n in range(2, N_TERMS):
        before, now = now, 2 * w * now - before
        total = total + terms[n] * now
    return total


# The waveshaper


def _with_waveshaper(theta: np.ndarray) -> Tree:
    """Return the same sweep by the network: tan(pi / 4 - d) = atanh(p)."""
    w = np.cos(np.pi * np.arange(SHAPE_POINTS) / (SHAPE_POINTS - 1))
    with enable_x64():
        p = np.asarray(_coefficient(_chebyshev(jnp.asarray(theta[2 : 2 + N_TERMS]), jnp.asarray(w))))
    d = np.pi / 4 - np.arctan(np.arctanh(np.clip(p, -CLOSEST, CLOSEST)))
    bias, depth = float(np.min(d)), max(float(np.ptp(d)), 1e-3)
    target = 2 * (d - bias) / depth - 1
    raw = jax.tree.map(lambda value: np.asarray(value, np.float64), _raw_of(jnp.asarray(theta)))
    return {**raw, "shape": _fit_waveshaper(w, target), "bias": np.float64(bias), "depth": np.float64(depth)}


def _fit_waveshaper(w: np.ndarray, target: np.ndarray) -> Tree:
    """Return the network's weights for the target at w, the best of a few random starts."""
    found = []
    with enable_x64():
        data = jnp.asarray(w), jnp.asarray(target)
        for seed in range(SHAPE_TRIES):
            layers = phaser.init(jax.random.key(seed))["shape"]
            theta, unravel = jax.flatten_util.ravel_pytree(
                jax.tree.map(lambda v: v.astype(jnp.float64), layers)
            )

            def residual(theta: jax.Array, data: Any, unravel: Any = unravel) -> jax.Array:
                return phaser.waveshaped(unravel(theta), data[0]) - data[1]

            start = np.asarray(theta)
            theta, error = descent.levenberg_marquardt(
                residual, start, data, steps=SHAPE_STEPS, least_gain=1e-2, good=SHAPE_ERROR
            )
            found.append((error, seed, jax.tree.map(np.asarray, unravel(jnp.asarray(theta)))))
            if error <= SHAPE_ERROR:
                break
    return min(found, key=lambda one: one[:2])[2]


def _refine(raw: Tree, layout: Layout, fs: float, data: dict[str, jax.Array]) -> tuple[Tree, float]:
    """Fit all numbers together, through the effect as it is used; the waveshaper is kept smooth.

    Where the recording never has the sweep, nothing else would keep the network from bending: a needle there
    costs nothing in training, but is audible in the next recording.
    """
    free = {name: value for name, value in raw.items() if name not in ("sigma", "amplitude")}
    theta, unravel = jax.flatten_util.ravel_pytree(jax.tree.map(lambda v: jnp.asarray(v, jnp.float32), free))

    w = jnp.linspace(-1.0, 1.0, SHAPE_GRID)

    def controls_of(theta: jax.Array) -> phaser.Controls:
        return phaser.controls_of({**unravel(theta), "sigma": jnp.zeros(()), "amplitude": jnp.ones(())})

    def sample_errors(theta: jax.Array, data: dict[str, jax.Array]) -> jax.Array:
        state = phaser.initial_state(stages=layout.stages)
        y, _ = phaser.phaser(controls_of(theta), state, data["dry"], fs, **layout._asdict())
        return y - data["wet"]

    def residual(theta: jax.Array, data: dict[str, jax.Array]) -> jax.Array:
        error, controls = sample_errors(theta, data), controls_of(theta)
        d = controls.depth * phaser.waveshaped(controls.shape, w) / 2
        bends = d[2:] - 2 * d[1:-1] + d[:-2]
        return jnp.concatenate([error, math.sqrt(SMOOTHNESS * error.size) * bends])

    start = np.asarray(theta, np.float64)
    theta, _ = descent.levenberg_marquardt(
        residual, start, data, steps=LAST_STEPS, least_gain=0.02, good=EXACT
    )
    theta = jnp.asarray(theta, jnp.float32)
    found = jax.tree.map(lambda v: np.asarray(v, np.float64), unravel(theta))
    return {**raw, **found}, float(jnp.mean(jax.jit(sample_errors)(theta, data) ** 2))
