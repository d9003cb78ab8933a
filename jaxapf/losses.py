"""Differentiable objectives: ``loss(pred, target, *, options)``, a scalar, least where both agree.

Every loss takes signals `pred` and `target`, (..., n_samples), and raises ValueError where their shapes
differ; all axes but the last are batch. Silence, in one or in both, gives finite values and gradients. A
ratio is taken per signal and then averaged, so that a loss over a batch is the mean over its examples,
whatever devices share it; `stft` and `mrstft` are the exception, as in auraloss. Losses in frequency take the
`Resolution` of the short-time Fourier transform, and raise ValueError where a signal is not longer than half
an FFT.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxapf import frequency
from jaxapf._internal.arrays import Values, as_signal
from jaxapf.frequency import Resolution

__all__ = [
    "RESOLUTIONS",
    "SINGLE",
    "Resolution",
    "cross_correlation",
    "esr",
    "mae",
    "mrstft",
    "mse",
    "phase",
    "phase_sum_mrstft",
    "phase_sum_spectra",
    "phase_sum_stft",
    "phase_sum_to",
    "stft",
]

# Bargum et al. 2023, table 1, after Yamamoto et al. 2020, "Parallel WaveGAN"; auraloss has the same three.
RESOLUTIONS = (Resolution(512, 50, 240), Resolution(1024, 120, 600), Resolution(2048, 240, 1200))
SINGLE = Resolution(1024, 256, 1024)
EPS = 1e-8  # floor of auraloss's squared magnitudes
FEW = 4  # up to n_fft / FEW bins are faster by matrix products than by FFT

Signals: TypeAlias = Float[Values, "... n_samples"]
Scalar: TypeAlias = Float[Array, ""]
Spectrum: TypeAlias = tuple[jax.Array, jax.Array]  # real and imaginary part


def mse(pred: Signals, target: Signals) -> Scalar:
    """Return the mean squared error (Bargum et al. 2023, section 5).

    Example:
        >>> float(mse(jnp.array([1.0, 2.0]), jnp.array([1.0, 0.0])))
        2.0
    """
    p, t = _pair(pred, target)
    return jnp.mean((p - t) ** 2)


def mae(pred: Signals, target: Signals) -> Scalar:
    """Return the mean absolute error (Bargum et al. 2023, section 5).

    Example:
        >>> float(mae(jnp.array([1.0, 2.0]), jnp.array([1.0, 0.0])))
        1.0
    """
    p, t = _pair(pred, target)
    return jnp.mean(jnp.abs(p - t))


def esr(pred: Signals, target: Signals) -> Scalar:
    """Return the error-to-signal ratio, sum |target - pred|^2 / sum |target|^2, averaged over the signals.

    For a silent target it is the energy of the error. Source: Bargum et al. 2023, eq. 12.

    Example:
        >>> float(esr(jnp.array([1.0, 0.0]), jnp.array([2.0, 0.0])))
        0.25
    """
    p, t = _pair(pred, target)
    return jnp.mean(_ratio(jnp.sum((t - p) ** 2, axis=-1), jnp.sum(t**2, axis=-1)))


def cross_correlation(pred: Signals, target: Signals) -> Scalar:
    """Return one minus the normalised cross-correlation: 0 in phase, 1 unrelated, 2 inverted; averaged.

    With silence in either the loss is 1.

    Example:
        >>> x = jnp.array([1.0, -2.0])
        >>> float(cross_correlation(3 * x, x)), float(cross_correlation(-x, x))
        (0.0, 2.0)
    """
    p, t = _pair(pred, target)
    energies = jnp.sum(p**2, axis=-1) * jnp.sum(t**2, axis=-1)
    return 1 - jnp.mean(_ratio(jnp.sum(p * t, axis=-1), _root(energies)))


def phase(pred: Signals, target: Signals, *, resolution: Resolution = SINGLE) -> Scalar:
    """Return one minus the cosine of the phase error, weighted by both magnitudes; per signal, averaged.

    From 0 (in phase) to 2 (inverted). Nothing is unwrapped, and bins without energy have no weight.

    Example:
        >>> x = jax.random.normal(jax.random.key(0), (2048,))
        >>> round(float(phase(-x, x)), 5)
        2.0
    """
    p, t = (frequency.stft(x, resolution) for x in _pair(pred, target))
    weight = _power(p) * _power(t)
    product = jnp.sum(p.real * t.real + p.imag * t.imag, axis=(-2, -1))
    return 1 - jnp.mean(_ratio(product, jnp.sum(_root(weight), axis=(-2, -1))))


def stft(pred: Signals, target: Signals, *, resolution: Resolution = SINGLE) -> Scalar:
    """Return the spectral convergence plus the mean distance of log magnitudes, as auraloss 0.4.0.

    The convergence is one ratio for the whole batch, so devices that share a batch each take their own.

    Source: Arik et al. 2018, arXiv 1808.06719; Steinmetz and Reiss 2020, "auraloss".

    Example:
        >>> x = jax.random.normal(jax.random.key(0), (2048,))
        >>> float(stft(x, x))
        0.0
    """
    p, t = (_root(jnp.maximum(_power(frequency.stft(x, resolution)), EPS)) for x in _pair(pred, target))
    convergence = _root(jnp.sum((t - p) ** 2)) / _root(jnp.sum(t**2))
    return convergence + jnp.mean(jnp.abs(jnp.log(p) - jnp.log(t)))


def mrstft(pred: Signals, target: Signals, *, resolutions: Sequence[Resolution] = RESOLUTIONS) -> Scalar:
    """Return the mean of `stft` over several resolutions, with auraloss 0.4.0's defaults.

    Source: Yamamoto et al. 2020, arXiv 1910.11480.

    Example:
        >>> x = jax.random.normal(jax.random.key(0), (2, 2048))
        >>> float(jax.jit(mrstft)(x, x))
        0.0
    """
    losses = [stft(pred, target, resolution=Resolution(*one)) for one in resolutions]
    return sum(losses[1:], start=losses[0]) / len(losses)


def phase_sum_stft(
    pred: Signals,
    target: Signals,
    *,
    power: int = 2,
    fraction: float = 1.0,
    resolution: Resolution = RESOLUTIONS[1],
) -> Scalar:
    """Return the paper's phase-sensitive loss: mean of ((S(y) + S(p)) - S(y + p))^2 with S = |STFT|^power.

    With `power` 1 it is zero just where both are in phase. With `power` 2, as the paper prints it, the
    bracket is -2 Re(Y conj P): zero where they are a quarter turn apart, and largest where they are in phase
    or inverted.

    Args:
        pred: y.
        target: p.
        power: 2, the paper's eq. 8, or 1, the authors' released code; else ValueError.
        fraction: share of the bins that counts, from the lowest on, in (0, 1]; the released code has 1/8.
        resolution: of the short-time Fourier transform.

    Source: Bargum et al. 2023, eq. 7 and 8.

    Example:
        >>> x = jax.random.normal(jax.random.key(0), (2048,))
        >>> float(phase_sum_stft(x, x, power=1)) < 1e-9, float(phase_sum_stft(-x, x, power=1)) > 100
        (True, True)
    """
    return phase_sum_mrstft(pred, target, power=power, fraction=fraction, resolutions=[resolution])


def phase_sum_mrstft(
    pred: Signals,
    target: Signals,
    *,
    power: int = 2,
    fraction: float = 1.0,
    resolutions: Sequence[Resolution] = RESOLUTIONS,
) -> Scalar:
    """Return the mean of `phase_sum_stft` over several resolutions (Bargum et al. 2023, eq. 9 and table 1).

    Example:
        >>> x = jax.random.normal(jax.random.key(0), (2, 2048))
        >>> float(jax.jit(partial(phase_sum_mrstft, power=1, fraction=1 / 8))(x, x)) < 1e-9
        True
    """
    p, t = _pair(pred, target)
    spectra = phase_sum_spectra(t, fraction=fraction, resolutions=resolutions)
    return phase_sum_to(p, spectra, power=power, fraction=fraction, resolutions=resolutions)


def phase_sum_spectra(
    target: Signals, *, fraction: float = 1.0, resolutions: Sequence[Resolution] = RESOLUTIONS
) -> tuple[Spectrum, ...]:
    """Return the spectra of a target for `phase_sum_to`, where the same target is used many times.

    For each resolution they are the real and the imaginary part of the lowest bins, (..., n_frames, n_bins)
    each. The reference of their phase is the same for equal options only. Raises ValueError for a `fraction`
    out of range and no resolution.

    Example:
        >>> [real.shape for real, _ in phase_sum_spectra(jnp.ones(2048), fraction=1 / 8)]
        [(41, 32), (18, 64), (9, 128)]
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction is {fraction}; expected a share above 0, at most 1.")
    if not len(resolutions):
        raise ValueError("resolutions is empty; give at least one Resolution.")
    return tuple(_low_bins(target, Resolution(*one), fraction) for one in resolutions)


def phase_sum_to(
    pred: Signals,
    spectra: Sequence[Spectrum],
    *,
    power: int = 2,
    fraction: float = 1.0,
    resolutions: Sequence[Resolution] = RESOLUTIONS,
) -> Scalar:
    """Return `phase_sum_mrstft` to a target given by the spectra of `phase_sum_spectra`, of the same options.

    Of the sum no transform is taken: it is the sum of the transforms. Raises ValueError as `phase_sum_stft`,
    and for spectra of other signals or options.

    Example:
        >>> x = jax.random.normal(jax.random.key(0), (2, 2048))
        >>> spectra = jax.jit(phase_sum_spectra)(x)
        >>> float(jax.jit(partial(phase_sum_to, power=1))(x, spectra)) < 1e-9
        True
    """
    if power not in (1, 2):
        raise ValueError(f"power is {power}; expected 1 or 2.")
    own = phase_sum_spectra(pred, fraction=fraction, resolutions=resolutions)
    if [p.shape for p, _ in own] != [t.shape for t, _ in spectra]:
        raise ValueError(
            f"spectra have shapes {[t.shape for t, _ in spectra]} and those of pred "
            f"{[p.shape for p, _ in own]}; make them by phase_sum_spectra, "
            "of a target of the same shape, with the same options."
        )
    excesses = [_excess(p, t, power) for p, t in zip(own, spectra, strict=True)]
    return sum((jnp.mean(one**2) for one in excesses[1:]), start=jnp.mean(excesses[0] ** 2)) / len(excesses)


def _excess(p: Spectrum, t: Spectrum, power: int) -> jax.Array:
    """Return S(t) + S(p) - S(t + p)."""
    if power == 2:  # the squares cancel
        return -2 * (p[0] * t[0] + p[1] * t[1])
    both = p[0] + t[0], p[1] + t[1]
    return _size(t) + _size(p) - _size(both)


def _size(z: Spectrum) -> jax.Array:
    return _root(z[0] ** 2 + z[1] ** 2)


def _low_bins(x: Values, resolution: Resolution, fraction: float) -> Spectrum:
    """Return the lowest bins of `frequency.stft`, rotated by the position of the middle of the window.

    A few bins cost less by a matrix product than by a whole FFT: about the middle the cosine is even and the
    sine is odd, so that each needs half a window.
    """
    n_fft, window = resolution.n_fft, resolution.window
    bins = max(1, int(fraction * (n_fft // 2 + 1)))
    if bins > n_fft // FEW or window % 2:
        spectrum = frequency.stft(x, resolution)[..., :bins]
        return spectrum.real, spectrum.imag
    framed = frequency.stft_frames(x, resolution)
    later, earlier = framed[..., window // 2 :], framed[..., window // 2 : 0 : -1]
    offset = np.arange(window // 2)
    hann = frequency.hann(offset + window // 2, window) * np.where(offset, 1.0, 0.5)  # the middle is in both
    angle = 2 * np.pi * np.outer(offset, np.arange(bins)) / n_fft
    cosine, sine = (
        np.asarray(hann[:, None] * wave, framed.dtype) for wave in (np.cos(angle), -np.sin(angle))
    )
    product = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
    return product(later + earlier, cosine), product(later - earlier, sine)


def _pair(pred: Signals, target: Signals) -> tuple[jax.Array, jax.Array]:
    p, t = as_signal(pred), as_signal(target)
    if p.shape != t.shape:
        raise ValueError(f"pred has shape {p.shape} and target has shape {t.shape}; expected equal shapes.")
    return p, t


def _root(x: jax.Array) -> jax.Array:
    """Return the square root, with slope 0 at 0."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)


def _ratio(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """Return the quotient, and the numerator where the denominator is 0."""
    return numerator / jnp.where(denominator > 0, denominator, jnp.ones_like(denominator))


def _power(spectrum: jax.Array) -> jax.Array:
    return spectrum.real**2 + spectrum.imag**2
