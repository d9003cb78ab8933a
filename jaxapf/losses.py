"""Differentiable objectives: each is ``loss(pred, target, *, options)``, a scalar, least where both agree.

Signals are (..., n_samples), of one shape; all axes but the last are batch. Silence, in one or in both, gives
finite values and gradients. A ratio is taken per signal and then averaged, so that a loss over a batch is
the mean over its examples, whatever devices share it; `stft` and `mrstft` are the exception, as auraloss is.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxapf._internal.arrays import Values, as_signal, with_rank
from jaxapf._internal.arrays import count as checked_count
from jaxapf._internal.fft import frames


class Resolution(NamedTuple):
    """Of a short-time Fourier transform, in samples: FFT size, hop between frames, length of the window."""

    n_fft: int
    hop: int
    window: int


# Bargum et al. 2023, table 1, after Yamamoto et al. 2020, "Parallel WaveGAN"; auraloss has the same three.
RESOLUTIONS = (Resolution(512, 50, 240), Resolution(1024, 120, 600), Resolution(2048, 240, 1200))
SINGLE = Resolution(1024, 256, 1024)
EPS = 1e-8  # floor of auraloss's squared magnitudes
FEW = 4  # up to n_fft / FEW bins are faster by matrix products than by FFT

Spectrum = tuple[jax.Array, jax.Array]  # real and imaginary part


# In time


def mse(pred: Values, target: Values) -> jax.Array:
    """Mean squared error.

    Args:
        pred: (..., n_samples).
        target: the same shape.

    Returns:
        Scalar.

    Raises:
        ValueError: the shapes differ.

    Source: Bargum et al. 2023, section 5.

    Example:
        >>> float(mse(jnp.array([1.0, 2.0]), jnp.array([1.0, 0.0])))
        2.0
    """
    p, t = _pair(pred, target)
    return jnp.mean((p - t) ** 2)


def mae(pred: Values, target: Values) -> jax.Array:
    """Mean absolute error.

    Args:
        pred: (..., n_samples).
        target: the same shape.

    Returns:
        Scalar.

    Raises:
        ValueError: the shapes differ.

    Source: Bargum et al. 2023, section 5.

    Example:
        >>> float(mae(jnp.array([1.0, 2.0]), jnp.array([1.0, 0.0])))
        1.0
    """
    p, t = _pair(pred, target)
    return jnp.mean(jnp.abs(p - t))


def esr(pred: Values, target: Values) -> jax.Array:
    """Error-to-signal ratio, sum |target - pred|^2 / sum |target|^2, averaged over the signals.

    Args:
        pred: (..., n_samples).
        target: the same shape. Of a silent one the error's energy counts as it is.

    Returns:
        Scalar.

    Raises:
        ValueError: the shapes differ.

    Source: Bargum et al. 2023, eq. 12.

    Example:
        >>> float(esr(jnp.array([1.0, 0.0]), jnp.array([2.0, 0.0])))
        0.25
    """
    p, t = _pair(pred, target)
    return jnp.mean(_ratio(jnp.sum((t - p) ** 2, axis=-1), jnp.sum(t**2, axis=-1)))


def cross_correlation(pred: Values, target: Values) -> jax.Array:
    """One minus the normalised cross-correlation: 0 in phase, 1 unrelated, 2 inverted; averaged.

    Args:
        pred: (..., n_samples).
        target: the same shape. With silence in either the loss is 1.

    Returns:
        Scalar.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> x = jnp.array([1.0, -2.0])
        >>> float(cross_correlation(3 * x, x)), float(cross_correlation(-x, x))
        (0.0, 2.0)
    """
    p, t = _pair(pred, target)
    energies = jnp.sum(p**2, axis=-1) * jnp.sum(t**2, axis=-1)
    return 1 - jnp.mean(_ratio(jnp.sum(p * t, axis=-1), _root(energies)))


# In frequency


def phase(pred: Values, target: Values, *, resolution: Resolution = SINGLE) -> jax.Array:
    """One minus the cosine of the phase error, weighted by both magnitudes; per signal, then averaged.

    Nothing is unwrapped, and bins without energy do not count.

    Args:
        pred: (..., n_samples).
        target: the same shape.
        resolution: of the short-time Fourier transform.

    Returns:
        Scalar, 0 (in phase) to 2 (inverted).

    Raises:
        ValueError: the shapes differ, or a signal is shorter than half an FFT.

    Example:
        >>> x = jax.random.normal(jax.random.key(0), (2048,))
        >>> round(float(phase(-x, x)), 5)
        2.0
    """
    p, t = (stft_of(x, resolution) for x in _pair(pred, target))
    weight = _magnitude(p, 2) * _magnitude(t, 2)
    product = jnp.sum(p.real * t.real + p.imag * t.imag, axis=(-2, -1))
    return 1 - jnp.mean(_ratio(product, jnp.sum(_root(weight), axis=(-2, -1))))


def stft(pred: Values, target: Values, *, resolution: Resolution = SINGLE) -> jax.Array:
    """Spectral convergence plus the mean distance of log magnitudes.

    The convergence is one ratio for the whole batch, so devices that share a batch each take their own.

    Args:
        pred: (..., n_samples).
        target: the same shape.
        resolution: of the short-time Fourier transform; the defaults are those of auraloss 0.4.0.

    Returns:
        Scalar.

    Raises:
        ValueError: the shapes differ, or a signal is shorter than half an FFT.

    Source: Arik et al. 2018, arXiv 1808.06719; Steinmetz and Reiss 2020, "auraloss".

    Example:
        >>> x = jax.random.normal(jax.random.key(0), (2048,))
        >>> float(stft(x, x))
        0.0
    """
    p, t = (_root(jnp.maximum(_magnitude(stft_of(x, resolution), 2), EPS)) for x in _pair(pred, target))
    convergence = _root(jnp.sum((t - p) ** 2)) / _root(jnp.sum(t**2))
    return convergence + jnp.mean(jnp.abs(jnp.log(p) - jnp.log(t)))


def mrstft(pred: Values, target: Values, *, resolutions: Sequence[Resolution] = RESOLUTIONS) -> jax.Array:
    """Mean of `stft` over several resolutions.

    Args:
        pred: (..., n_samples).
        target: the same shape.
        resolutions: of the short-time Fourier transforms; the defaults are those of auraloss 0.4.0.

    Returns:
        Scalar.

    Raises:
        ValueError: as `stft`.

    Source: Yamamoto et al. 2020, arXiv 1910.11480.

    Example:
        >>> x = jax.random.normal(jax.random.key(0), (2, 2048))
        >>> float(mrstft(x, x))
        0.0
    """
    losses = [stft(pred, target, resolution=Resolution(*one)) for one in resolutions]
    return sum(losses[1:], start=losses[0]) / len(losses)


def phase_sum_stft(
    pred: Values,
    target: Values,
    *,
    power: int = 2,
    fraction: float = 1.0,
    resolution: Resolution = RESOLUTIONS[1],
) -> jax.Array:
    """The paper's phase-sensitive loss: mean of ((S(y) + S(p)) - S(y + p))^2 with S = |STFT|^power.

    With `power` 1 it is zero just where both are in phase. With `power` 2, as the paper prints it, the
    bracket is -2 Re(Y conj P): zero where they are a quarter turn apart, and largest where they are in phase
    or inverted.

    Args:
        pred: (..., n_samples).
        target: the same shape.
        power: 2, the paper's eq. 8, or 1, the authors' released code.
        fraction: share of the bins that counts, from the lowest on, in (0, 1]; the released code has 1/8.
        resolution: of the short-time Fourier transform.

    Returns:
        Scalar.

    Raises:
        ValueError: the shapes differ, a signal is shorter than half an FFT, `power` or `fraction` is none of
            these.

    Source: Bargum et al. 2023, eq. 7 and 8.

    Example:
        >>> x = jax.random.normal(jax.random.key(0), (2048,))
        >>> float(phase_sum_stft(x, x, power=1)) < 1e-9, float(phase_sum_stft(-x, x, power=1)) > 100
        (True, True)
    """
    p, t = _pair(pred, target)
    spectra = phase_sum_spectra(t, fraction=fraction, resolutions=[resolution])
    return phase_sum_to(p, spectra, power=power, fraction=fraction, resolutions=[resolution])


def phase_sum_mrstft(
    pred: Values,
    target: Values,
    *,
    power: int = 2,
    fraction: float = 1.0,
    resolutions: Sequence[Resolution] = RESOLUTIONS,
) -> jax.Array:
    """Mean of `phase_sum_stft` over several resolutions.

    Args:
        pred: (..., n_samples).
        target: the same shape.
        power: as `phase_sum_stft`.
        fraction: as `phase_sum_stft`.
        resolutions: of the short-time Fourier transforms.

    Returns:
        Scalar.

    Raises:
        ValueError: as `phase_sum_stft`.

    Source: Bargum et al. 2023, eq. 9 and table 1.

    Example:
        >>> x = jax.random.normal(jax.random.key(0), (2, 2048))
        >>> float(phase_sum_mrstft(x, x, power=1, fraction=1 / 8)) < 1e-9
        True
    """
    p, t = _pair(pred, target)
    spectra = phase_sum_spectra(t, fraction=fraction, resolutions=resolutions)
    return phase_sum_to(p, spectra, power=power, fraction=fraction, resolutions=resolutions)


def phase_sum_spectra(
    target: Values, *, fraction: float = 1.0, resolutions: Sequence[Resolution] = RESOLUTIONS
) -> tuple[Spectrum, ...]:
    """What `phase_sum_to` needs of a target: made once, where the same target comes again and again.

    Args:
        target: (..., n_samples).
        fraction: as `phase_sum_stft`.
        resolutions: of the short-time Fourier transforms.

    Returns:
        For each resolution the real and the imaginary part of the bins that count, (..., n_frames, n_bins)
        each. Where phases count from is the same for equal options, and says nothing otherwise.

    Raises:
        ValueError: a signal is shorter than half an FFT, or `fraction` out of range.

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
    pred: Values,
    spectra: Sequence[Spectrum],
    *,
    power: int = 2,
    fraction: float = 1.0,
    resolutions: Sequence[Resolution] = RESOLUTIONS,
) -> jax.Array:
    """`phase_sum_mrstft` to a target whose spectra are known.

    Args:
        pred: (..., n_samples).
        spectra: of `phase_sum_spectra`, with the same `fraction` and `resolutions`.
        power: as `phase_sum_stft`.
        fraction: as `phase_sum_stft`.
        resolutions: of the short-time Fourier transforms.

    Returns:
        Scalar.

    Raises:
        ValueError: as `phase_sum_stft`; the spectra are those of other signals or options.

    Source: Bargum et al. 2023, eq. 7 to 9. Of the sum no transform is taken: it is the sum of the transforms.

    Example:
        >>> x = jax.random.normal(jax.random.key(0), (2, 2048))
        >>> float(phase_sum_to(x, phase_sum_spectra(x), power=1)) < 1e-9
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
    """S(t) + S(p) - S(t + p)."""
    if power == 2:  # the squares cancel
        return -2 * (p[0] * t[0] + p[1] * t[1])
    both = p[0] + t[0], p[1] + t[1]
    return _size(t) + _size(p) - _size(both)


def _size(z: Spectrum) -> jax.Array:
    return _root(z[0] ** 2 + z[1] ** 2)


# The short-time Fourier transform


def stft_of(x: Values, resolution: Resolution) -> jax.Array:
    """Short-time Fourier transform with periodic Hann windows, the signal mirrored at its ends.

    Magnitudes are those of `torch.stft`; phases count from the beginning of each window.

    Args:
        x: (..., n_samples), at least half an FFT and one sample.
        resolution: FFT size, hop and window.

    Returns:
        Complex, (..., n_frames, n_fft // 2 + 1), with n_samples // hop + 1 frames.

    Raises:
        ValueError: the signal is too short, or the window longer than the FFT.

    Example:
        >>> stft_of(jnp.ones(2048), Resolution(512, 50, 240)).shape
        (41, 257)
    """
    framed = _windows(x, resolution)
    hann = np.asarray(_hann(np.arange(resolution.window), resolution.window), framed.dtype)
    return jnp.fft.rfft(framed * with_rank(hann, framed.ndim), resolution.n_fft)


def _low_bins(x: Values, resolution: Resolution, fraction: float) -> Spectrum:
    """The lowest bins of `stft_of`, but for a turn by the place of the middle of the window.

    A few bins cost less by a matrix product than by a whole FFT: about the middle the cosine is even and the
    sine is odd, so that each sees half a window.
    """
    bins = max(1, int(fraction * (resolution.n_fft // 2 + 1)))
    n_fft, window = resolution.n_fft, resolution.window
    if bins > n_fft // FEW or window % 2:
        spectrum = stft_of(x, resolution)[..., :bins]
        return spectrum.real, spectrum.imag
    framed = _windows(x, resolution)
    later, earlier = framed[..., window // 2 :], framed[..., window // 2 : 0 : -1]
    offset = np.arange(window // 2)
    hann = _hann(offset + window // 2, window) * np.where(offset, 1.0, 0.5)  # the middle is in either half
    angle = 2 * np.pi * np.outer(offset, np.arange(bins)) / n_fft
    cosine, sine = (
        np.asarray(hann[:, None] * wave, framed.dtype) for wave in (np.cos(angle), -np.sin(angle))
    )
    product = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
    return product(later + earlier, cosine), product(later - earlier, sine)


def _hann(n: np.ndarray, window: int) -> np.ndarray:
    """Periodic Hann window."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * n / window)


def _windows(x: Values, resolution: Resolution) -> jax.Array:
    """What each window sees of a signal mirrored at its ends, (..., n_frames, window)."""
    n_fft, hop, window = (
        checked_count(f"resolution.{name}", value) for name, value in resolution._asdict().items()
    )
    signal = as_signal(x)
    if window > n_fft:
        raise ValueError(
            f"resolution has a window of {window} and n_fft {n_fft}; expected one no longer than it."
        )
    if signal.shape[-1] <= n_fft // 2:
        raise ValueError(
            f"signals of {signal.shape[-1]} samples are too short for n_fft {n_fft}; "
            f"expected more than {n_fft // 2}."
        )
    n_frames = signal.shape[-1] // hop + 1
    # Only what the window sees is framed: the zeros around it change no magnitude.
    before = n_fft // 2 - (n_fft - window) // 2
    after = max(0, (n_frames - 1) * hop + window - before - signal.shape[-1])
    ends = [(0, 0)] * (signal.ndim - 1)
    return frames(jnp.pad(signal, [*ends, (before, after)], mode="reflect"), n_frames, window, hop)


# Slopes that stay finite


def _pair(pred: Values, target: Values) -> tuple[jax.Array, jax.Array]:
    p, t = as_signal(pred), as_signal(target)
    if p.shape != t.shape:
        raise ValueError(f"pred has shape {p.shape} and target has shape {t.shape}; expected equal shapes.")
    return p, t


def _root(x: jax.Array) -> jax.Array:
    """Square root with slope 0 at 0."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)


def _ratio(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """A quotient; the numerator itself where the denominator is 0."""
    return numerator / jnp.where(denominator > 0, denominator, jnp.ones_like(denominator))


def _magnitude(spectrum: jax.Array, power: int) -> jax.Array:
    square = spectrum.real**2 + spectrum.imag**2
    return square if power == 2 else _root(square)
