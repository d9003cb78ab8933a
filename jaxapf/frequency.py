"""Frequency sampling: responses on a grid, filtering by zero-padded FFT; the short-time Fourier transform.

Filtering by FFT is parallel and differentiable but approximate: the impulse response beyond the transform
wraps around to the start of the signal, with a slowest pole of radius R about R^(n_fft - n_samples) of it
(`wraparound_error`).
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jax import lax
from jaxtyping import Array, Complex, Float

from jaxapf._internal import arrays
from jaxapf._internal.arrays import Values
from jaxapf._internal.fft import fast_length, frames

__all__ = [
    "Resolution",
    "apply_response",
    "freqz_sos",
    "hann",
    "lfilter_fsm",
    "padded_length",
    "sosfilt_fsm",
    "stft",
    "stft_frames",
    "tail_samples",
    "wraparound_error",
]

# A tail this far down may wrap around: it is below the rounding of a 24-bit file.
_TAIL = 1e-8

# Where the poles are not known the tail is taken to be as long as the signal, and this long at the least.
_MIN_UNKNOWN_TAIL = 1024

# Past this length the padding costs more than an exact method, which the caller has to choose.
_MAX_PADDING = 2**26


def freqz_sos(
    sos: Float[Values, "... n_sections 6"], freqs_hz: Float[Values, " n_freqs"], fs: float
) -> Complex[Any, "... n_freqs"]:
    """Return the complex frequency response of second-order sections in series, rows `b0 b1 b2 a0 a1 a2`.

    `sos` may be one row `(6,)`; frequencies and sample rate are in Hz. The result is NumPy when no argument
    is a JAX array, else JAX. For any number of sections and any gains, no intermediate product over- or
    underflows unless the result does.

    Example:
        >>> abs(freqz_sos([0.5, 0.5, 0.0, 1.0, 0.0, 0.0], [0.0, 500.0], 1000.0)).tolist()  # two-point mean
        [1.0, 0.0]
    """
    xp, (rows, freqs, rate) = arrays.as_arrays(sos, freqs_hz, fs)
    rows = arrays.as_sos_rows(rows)
    sin_half, cos_half = arrays.half_angle(xp, freqs, rate)
    sin_half, cos_half = arrays.with_rank(sin_half, rows.ndim), arrays.with_rank(cos_half, rows.ndim)

    def polynomial(c0, c1, c2):
        # z (c0 + c1 / z + c2 / z^2) on the unit circle, in half angles: only the coefficients cancel, and
        # summed in this order they do so without rounding.
        real = ((c0 + c1) + c2) * cos_half**2 - ((c0 - c1) + c2) * sin_half**2
        imag = 2 * (c0 - c2) * sin_half * cos_half
        return lax.complex(real, imag) if xp is jnp else real + 1j * imag

    columns = [rows[..., index, None] for index in range(6)]
    return _scaled_product(xp, polynomial(*columns[:3]) / polynomial(*columns[3:]))


def _scaled_product(xp: Any, factors: Any) -> Any:
    """Return the product over the last axis but one, every partial product close to one in size.

    Factors are divided by powers of two such that partial products lie between a half and two; the result is
    multiplied by them in two halves, as the whole may be too large a number.
    """
    # Powers of two change no digit, and no derivative as long as they are constants.
    size = xp.abs(lax.stop_gradient(factors) if xp is jnp else factors)
    usable = (size > 0) & xp.isfinite(size)
    exponents = xp.round(xp.cumsum(xp.log2(xp.where(usable, size, xp.ones_like(size))), axis=-2))
    exponents = exponents.astype(np.int32)
    steps = xp.diff(exponents, axis=-2, prepend=xp.zeros_like(exponents[..., :1, :]))
    total = exponents[..., -1, :]

    def power_of_two(exponent):
        return xp.ldexp(xp.ones(exponent.shape, size.dtype), exponent).astype(factors.dtype)

    product = xp.prod(factors * power_of_two(-steps), axis=-2)
    return product * power_of_two(total // 2) * power_of_two(total - total // 2)


def sosfilt_fsm(
    sos: Float[Values, "... n_sections 6"], x: Float[Values, "... n_samples"], *, n_fft: int | None = None
) -> Float[Array, "... n_samples"]:
    """Filter by frequency sampling: multiply the spectrum of the zero-padded signal by the response.

    Args:
        sos: batch axes broadcast against those of `x`.
        x: real.
        n_fft: length of the transform in samples, at least `n_samples`. By default long enough for the
            slowest pole to decay by 160 dB after the last sample; where the poles are not known (`sos`
            traced by `jit` or `grad`), twice the signal, and 1024 samples more than it at the least.
            `wraparound_error` is the error of a length.

    Raises ValueError for a wrong shape, an `n_fft` too short, and known poles on or outside the unit circle,
    or so slow that the padding would be longer than 2^26 samples; TypeError for complex `x`.

    Example:
        >>> sos = jnp.array([[1.0, 0.0, 0.0, 1.0, -0.5, 0.0]])
        >>> sosfilt_fsm(sos, jnp.array([1.0, 0.0, 0.0, 0.0])).round(4).tolist()
        [1.0, 0.5, 0.25, 0.125]
    """
    signal = arrays.as_signal(x)
    rows = arrays.as_sos_rows(arrays.as_arrays(sos)[1][0])
    arrays.batch_shape("sos", rows.shape[:-2], signal)
    if n_fft is None:
        n_fft = padded_length(signal.shape[-1], _sos_tail(rows))
    n_fft = arrays.whole_number("n_fft", n_fft)
    return apply_response(freqz_sos(rows, np.arange(n_fft // 2 + 1) / n_fft, 1.0), signal, n_fft)


def lfilter_fsm(
    b: Float[Values, "... n_b"],
    a: Float[Values, "... n_a"],
    x: Float[Values, "... n_samples"],
    *,
    n_fft: int | None = None,
) -> Float[Array, "... n_samples"]:
    """Filter by a rational transfer function, powers of z^-1, as `sosfilt_fsm`.

    Example:
        >>> lfilter_fsm([1.0], [1.0, -0.5], jnp.array([1.0, 0.0, 0.0, 0.0])).round(4).tolist()
        [1.0, 0.5, 0.25, 0.125]
    """
    signal = arrays.as_signal(x)
    xp, (numerator, denominator) = arrays.as_arrays(b, a)
    arrays.batch_shape("b", numerator.shape[:-1], signal)
    arrays.batch_shape("a", denominator.shape[:-1], signal)
    if n_fft is None:
        n_fft = padded_length(signal.shape[-1], _transfer_tail(numerator, denominator))
    n_fft = arrays.whole_number("n_fft", n_fft)
    # A transform shorter than the polynomial would cut its coefficients off.
    n_fft = max(n_fft, numerator.shape[-1], denominator.shape[-1])
    return apply_response(xp.fft.rfft(numerator, n_fft) / xp.fft.rfft(denominator, n_fft), signal, n_fft)


def apply_response(response: Values, x: jax.Array, n_fft: int) -> jax.Array:
    """Multiply the spectrum of `x`, zero-padded to `n_fft`, by a response on its `n_fft // 2 + 1` bins."""
    n_samples = x.shape[-1]
    if jnp.iscomplexobj(x):
        raise TypeError(f"x is {x.dtype}; frequency sampling filters real signals only: use an exact method.")
    if n_fft < n_samples:
        raise ValueError(f"n_fft is {n_fft}; expected at least the {n_samples} samples of x.")
    if n_samples == 0:
        return x
    spectrum_dtype = np.result_type(x.dtype, np.complex64)
    return _multiply(jnp.asarray(response).astype(spectrum_dtype), x, n_fft)


@functools.partial(jax.jit, static_argnums=2)
def _multiply(response: jax.Array, x: jax.Array, n_fft: int) -> jax.Array:
    def one_signal(response, x):
        return jnp.fft.irfft(jnp.fft.rfft(x, n_fft) * response, n_fft)[: x.size]

    return arrays.lift(one_signal, "(k),(t)->(t)", response, x)


def wraparound_error(sos: Values, n_samples: int, n_fft: int) -> float:
    """Return the root of the energy of the impulse response past the padding, which wraps around.

    It is relative to the whole impulse response of a known, stable filter. White noise of `n_samples`,
    filtered with a transform of `n_fft`, has at most this relative RMS error, on average over noises; the
    first samples have most of it. Raises ValueError for a wrong shape, an `n_fft` shorter than the signal and
    poles on or outside the unit circle.

    Example:
        >>> round(wraparound_error([1.0, 0.0, 0.0, 1.0, -0.5, 0.0], 10, 14), 6)  # 0.5^(4 + 1)
        0.03125
    """
    rows = arrays.as_sos_rows(np.asarray(sos, np.float64))
    if n_fft < n_samples:
        raise ValueError(f"n_fft is {n_fft}; expected at least the {n_samples} samples of x.")
    if rows.ndim != 2:
        raise ValueError(f"sos has shape {rows.shape}; expected (n_sections, 6), one filter at a time.")
    _sos_tail(rows)  # raises for unstable poles
    a, b, c, d = _state_space(rows / rows[:, 3:4])
    # After the padding the state is A^padding b; the energy of its response is a quadratic form.
    energy = scipy.linalg.solve_discrete_lyapunov(a.T, np.outer(c, c))
    state = np.linalg.matrix_power(a, n_fft - n_samples) @ b
    return float(np.sqrt(max(0.0, state @ energy @ state) / (d * d + b @ energy @ b)))


def _state_space(sos: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Return sections in series as s' = A s + b x, y = c s + d x; transposed direct forms II."""
    n_states = 2 * len(sos)
    a, b, c, d = np.zeros((n_states, n_states)), np.zeros(n_states), np.zeros(n_states), 1.0
    for index, (b0, b1, b2, _, a1, a2) in enumerate(sos):
        own = slice(2 * index, 2 * index + 2)
        gains = np.array([b1 - a1 * b0, b2 - a2 * b0])
        a[own, :] = np.outer(gains, c)
        a[own, own] = [[-a1, 1.0], [-a2, 0.0]]
        b[own] = gains * d
        c, d = b0 * c, b0 * d
        c[2 * index] = 1.0
    return a, b, c, d


def padded_length(n_samples: int, tail: int | None) -> int:
    """Return the length of a fast transform for a signal and its tail, in samples.

    A tail of None, where it is not known, is as long as the signal, and 1024 samples at the least.
    """
    if tail is None:
        tail = max(n_samples, _MIN_UNKNOWN_TAIL)
    elif tail > _MAX_PADDING:
        raise ValueError(
            f"the tail of the slowest pole lasts {tail} samples, too long to pad for; use an exact method."
        )
    return fast_length(max(1, n_samples + tail))


def tail_samples(radius: float) -> int:
    """Return the number of samples in which a pole at this radius in [0, 1) decays by 160 dB."""
    if not radius < 1:
        raise ValueError(f"a pole has radius {radius:g}; expected all poles inside the unit circle.")
    return math.ceil(math.log(_TAIL) / math.log(radius)) if radius > 0 else 0


def _sos_tail(rows: Any) -> int | None:
    if not arrays.all_concrete(rows):
        return None
    sos = np.asarray(rows, np.float64)
    a1, a2 = sos[..., 4] / sos[..., 3], sos[..., 5] / sos[..., 3]
    root = np.sqrt((a1 * a1 - 4 * a2).astype(complex))
    poles = np.maximum(np.abs(-a1 + root), np.abs(-a1 - root)) / 2
    return tail_samples(float(poles.max(initial=0.0))) + 2 * sos.shape[-2]


def _transfer_tail(b: Any, a: Any) -> int | None:
    if not arrays.all_concrete(b, a):
        return None
    denominators = np.asarray(a, np.float64).reshape(-1, np.shape(a)[-1])
    poles = np.concatenate([np.abs(np.roots(denominator)) for denominator in denominators])
    return tail_samples(float(poles.max(initial=0.0))) + np.shape(b)[-1]


# The short-time Fourier transform


class Resolution(NamedTuple):
    """Of a short-time Fourier transform, in samples: FFT size, hop between frames, length of the window."""

    n_fft: int
    hop: int
    window: int


def stft(x: Values, resolution: Resolution) -> Complex[Array, "... n_frames n_bins"]:
    """Return the short-time Fourier transform with periodic Hann windows, the signal mirrored at its ends.

    There are n_samples // hop + 1 frames of n_fft // 2 + 1 bins. Magnitudes are those of `torch.stft`; phases
    count from the beginning of each window. Raises ValueError for a signal no longer than half an FFT, and a
    window longer than the FFT.

    Example:
        >>> stft(jnp.ones(2048), Resolution(512, 50, 240)).shape
        (41, 257)
    """
    framed = stft_frames(x, resolution)
    window = np.asarray(hann(np.arange(resolution.window), resolution.window), framed.dtype)
    return jnp.fft.rfft(framed * arrays.with_rank(window, framed.ndim), resolution.n_fft)


def stft_frames(x: Values, resolution: Resolution) -> Float[Array, "... n_frames window"]:
    """Cut a signal (..., n_samples), mirrored at its ends, into the frames of `stft` before windowing."""
    n_fft, hop, window = (
        arrays.count(f"resolution.{name}", value) for name, value in resolution._asdict().items()
    )
    signal = arrays.as_signal(x)
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
    # Only the samples within the window are framed: the zeros around it change no magnitude.
    before = n_fft // 2 - (n_fft - window) // 2
    after = max(0, (n_frames - 1) * hop + window - before - signal.shape[-1])
    padding = [(0, 0)] * (signal.ndim - 1) + [(before, after)]
    return frames(jnp.pad(signal, padding, mode="reflect"), n_frames, window, hop)


def hann(n: np.ndarray, window: int) -> np.ndarray:
    """Return the periodic Hann window of this length at samples `n`."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * n / window)
