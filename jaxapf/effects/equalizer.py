"""Parametric equaliser: low shelf, four peaks, high shelf, exact and alike at sample rates from 24 kHz on.

The sections are analog curves, matched (`jaxapf.filters.matched`): the same controls give the same response
at 44.1 and 48 kHz, within 0.1 dB up to 10 kHz, where the usual bilinear designs differ by several. A band
above 0.49 fs is set to that, and its frequency has no gradient: at 8 kHz those are the upper two, and a curve
is off by 3 dB in the median.

Source: Steinmetz et al. 2022, arXiv 2207.08759, section 3 (the order of the bands).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxapf._internal.arrays import as_arrays, as_signal, require
from jaxapf.effects._controls import Signal, SignalLike, Value
from jaxapf.filters import matched

__all__ = [
    "BANDS",
    "SIX_BANDS_HZ",
    "Controls",
    "equalizer",
    "equalizer_sampled",
    "initial_state",
    "packed",
    "response_db",
    "sections",
    "six_band",
]

BANDS = ("low_shelf", "peak_1", "peak_2", "peak_3", "peak_4", "high_shelf")
N_BANDS = len(BANDS)
SIX_BANDS_HZ = (20.0, 45.4, 103.0, 233.5, 529.4, 1200.0)  # from 20 to 1200 Hz in equal ratios


class Controls(NamedTuple):
    """Six bands on the last axis, low shelf, four peaks, high shelf; the axes before broadcast.

    ``gain_db`` (..., 6), ``cutoff_hz`` (..., 6) > 0, ``q`` (..., 6) > 0. Ranges to learn in:
    `params.EQUALIZER`.
    """

    gain_db: Value
    cutoff_hz: Value
    q: Value


def packed(values: Any) -> Controls:
    """Return controls from 18 numbers or arrays (...), three a band in the order of `params.EQUALIZER`."""
    xp, arrays = as_arrays(*values)
    stacked = xp.stack(xp.broadcast_arrays(*arrays), axis=-1)
    return Controls(*(stacked[..., start::3] for start in range(3)))


def six_band(gains_db: Float[ArrayLike, "... 6"]) -> Controls:
    """Return controls of the fixed form: six gains of -20 to 20 dB, at 20 to 1200 Hz in equal ratios.

    Example:
        >>> six_band([0, 0, 6, 0, 0, 0]).cutoff_hz.tolist()
        [20.0, 45.4, 103.0, 233.5, 529.4, 1200.0]
    """
    xp, (gains,) = as_arrays(gains_db)
    if gains.ndim == 0 or gains.shape[-1] != N_BANDS:
        raise ValueError(f"gains_db has shape {gains.shape}; expected (..., {N_BANDS}), one a band.")
    require("gains_db", gains, "in [-20, 20]", lambda g: abs(g) <= 20)
    qs = (0.7, 1.2, 1.2, 1.2, 1.2, 0.7)
    return Controls(gains, *(xp.asarray(one, gains.dtype) for one in (SIX_BANDS_HZ, qs)))


def initial_state(batch: tuple[int, ...] = (), *, dtype: Any = jnp.float32) -> Float[Array, "... 6 2"]:
    """Return the state of silence, as `matched.cascade` has it; batch: of signal and controls."""
    return jnp.zeros((*batch, N_BANDS, 2), dtype)


def sections(controls: Controls, fs: float) -> matched.Sections:
    """Return the six sections (..., 6); `.sos` has them as SciPy does."""
    xp, arrays = as_arrays(*controls)
    for name, one in zip(Controls._fields, arrays, strict=True):
        if one.ndim == 0 or one.shape[-1] != N_BANDS:
            raise ValueError(f"{name} has shape {one.shape}; expected (..., {N_BANDS}), one a band.")
    gain, freq, q = xp.broadcast_arrays(*arrays)
    designs = ((matched.lowshelf, 0, 1), (matched.peak, 1, 5), (matched.highshelf, 5, 6))
    made = (
        design(*(one[..., first:last] for one in (freq, q, gain)), fs=fs) for design, first, last in designs
    )
    return matched.concatenate(*made)


def equalizer(
    controls: Controls, state: Float[Array, "... 6 2"], x: SignalLike, fs: float, *, method: str = "auto"
) -> tuple[Signal, Float[Array, "... 6 2"]]:
    """Equalise a signal by one of the exact methods of `jaxapf.sosfilt`.

    Example:
        >>> y, state = equalizer(six_band([6.0, 0, 0, 0, 0, 0]), initial_state(), jnp.ones(20000), 8000.0)
        >>> round(20 * float(jnp.log10(y[-1])), 2)
        6.0
    """
    signal = as_signal(x)
    return matched.cascade(sections(_typed(controls, signal), fs), signal, zi=state, method=method)


def equalizer_sampled(controls: Controls, x: SignalLike, fs: float, *, n_fft: int | None = None) -> Signal:
    """Equalise by frequency sampling.

    `n_fft` is the length of the transform in samples, by default twice the signal, 1024 more at least.

    Example:
        >>> equalizer_sampled(six_band([6.0, 0, 0, 0, 0, 0]), jnp.ones(4000), 8000.0).shape
        (4000,)
    """
    signal = as_signal(x)
    return matched.cascade_sampled(sections(_typed(controls, signal), fs), signal, n_fft=n_fft)


def response_db(
    controls: Controls, freqs_hz: Float[ArrayLike, " n_freqs"], fs: float
) -> Float[Array, "... n_freqs"]:
    """Return the magnitude response in dB at frequencies in Hz."""
    xp, (values,) = as_arrays(matched.response(sections(controls, fs), freqs_hz, fs).__abs__())
    return 20 * xp.log10(values)


def _typed(controls: Controls, signal: jax.Array) -> Controls:
    """Bring traced and JAX controls to the signal's dtype; what is known stays float64 for the design."""
    return Controls(
        *(one.astype(signal.dtype) if isinstance(one, jax.Array) else np.asarray(one) for one in controls)
    )
