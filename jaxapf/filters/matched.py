"""Peaks and shelves of one curve at every sample rate: analog designs, matched instead of warped.

The audio-EQ cookbook's designs (`jaxapf.filters.biquad`) squeeze all frequencies below fs / 2, so that the
same controls give another curve at another rate: 5 dB and more near the top. Here the poles are those of the
analog filter, sampled, and the zeros are chosen so that the magnitude is the analog one at 0 Hz, near the
centre, and at 11 kHz (or 0.46 fs). For gains up to 20 dB and centres up to 10 kHz the curve is the analog one
to 0.08 dB up to 10 kHz at 44.1 kHz and above (shelves 0.02 dB), and to 1.6 dB (0.35 dB) at 24 kHz.

A section is six *margins*, of numerator and denominator alike: u = c0 + c1 + c2, v = c0 - c1 + c2,
m = c0 - c2. They are small where a section is slow, and nothing cancels: float32 keeps a shelf at 30 Hz and
192 kHz to six digits, where rows `b0 b1 b2 1 a1 a2` in float32 are off by 1 dB.

With phi = sin^2(w / 2), and P of either polynomial,

    |P|^2 = u^2 (1 - phi) + phi (l0 + l1 phi),    l0 = (2 m + u)^2 - 8 u,  l1 = 16 (1 - m)    where c0 = 1
                                                  l0 = v^2 - l1,           l1 = 16 c0 c2      in general

so that three magnitudes are a linear equation in u^2, l0, l1, and v = sqrt(l0 + l1),
m = sqrt(u^2 + 2 u v + l0) / 2. A cut is the inverse of the boost.

Source: M. Vicanek 2016, "Matched second order digital filters" (sampled poles, matched magnitudes); the
points, the margins and the shelves are our own. Analog prototypes: R. Bristow-Johnson, Cookbook formulae.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Complex, Float

from jaxapf import frequency
from jaxapf._internal import arrays
from jaxapf._internal.arrays import Values
from jaxapf.filters import iir

__all__ = [
    "Margins",
    "Sections",
    "cascade",
    "cascade_sampled",
    "concatenate",
    "highshelf",
    "lowshelf",
    "peak",
    "response",
]

TOP_HZ = 11e3  # third frequency at which the analog magnitude is matched
HIGHEST = 0.49  # of fs: centres above are moved there
_TOP = 0.46  # of fs, where it is below 11 kHz
_PEAK, _SHELF = 0.85, 0.73  # of the top: sections centred above are matched here


class Margins(NamedTuple):
    """Of a polynomial c0 + c1 / z + c2 / z^2: ``u`` its value at 0 Hz, ``v`` at fs / 2, ``m`` = c0 - c2."""

    u: Any
    v: Any
    m: Any


class Sections(NamedTuple):
    """Second-order sections (..., n_sections): ``zeros`` and ``poles``, margins of numerator and denominator.

    The denominator's c0 is one: u + v + 2 m = 4.
    """

    zeros: Margins
    poles: Margins

    @property
    def sos(self) -> Any:
        """Rows (..., n_sections, 6) as SciPy has them, `b0 b1 b2 1 a1 a2`."""
        xp, values = arrays.as_arrays(*self.zeros, *self.poles)
        (bu, bv, bm), (u, v, m) = values[:3], values[3:]
        b0 = (bu + bv) / 4 + bm / 2
        return xp.stack([b0, (bu - bv) / 2, b0 - bm, xp.ones_like(m), (u - v) / 2, 1 - m], axis=-1)


def peak(cutoff_hz: Values, q: Values, gain_db: Values, fs: float) -> Sections:
    """Design peaks: `gain_db` at `cutoff_hz`, 0 dB far from it.

    Controls are `(..., n_sections)` or numbers; a centre in Hz above 0.49 fs is moved there. The result is
    NumPy float64 where no argument is a JAX array. Raises ValueError for a known frequency, q or rate that is
    not positive.

    Example:
        >>> sections = peak(5000.0, 1.0, 6.0, 48000.0)
        >>> (20 * np.log10(abs(frequency.freqz_sos(sections.sos, [5000.0], 48000.0)))).round(3).tolist()
        [6.0]
    """
    p = _prototype(cutoff_hz, q, gain_db, fs)
    xp, a = p.xp, p.amplitude

    def power(x2):  # |H|^2 and its excess over the value at 0 Hz
        below = (1 - x2) ** 2 + x2 / (a * p.q) ** 2
        excess = x2 * (a**2 - 1 / a**2) / (p.q**2 * below)
        return 1 + excess, excess

    match_hz = xp.minimum(p.freq, _PEAK * p.top)
    return _designed(p, p.freq, 1 / (2 * a * p.q), xp.ones_like(a), power, match_hz)


def lowshelf(cutoff_hz: Values, q: Values, gain_db: Values, fs: float) -> Sections:
    """Design low shelves: `gain_db` at 0 Hz, half of it in dB at `cutoff_hz`, 0 dB above; as `peak`.

    Example:
        >>> sections = lowshelf(100.0, 0.7, -6.0, 48000.0)
        >>> (20 * np.log10(abs(response(sections, [0.0, 100.0], 48000.0)))).round(3).tolist()
        [-6.0, -3.0]
    """
    p = _prototype(cutoff_hz, q, gain_db, fs)
    xp, a = p.xp, p.amplitude

    def power(x2):
        slope = x2 * a / p.q**2
        below = (1 - a * x2) ** 2 + slope
        excess = a**2 * (a**2 - 1) * (2 * a * x2 - x2**2 * (a**2 + 1) - slope) / below
        return a**2 * ((a - x2) ** 2 + slope) / below, excess

    return _designed(p, p.freq / xp.sqrt(a), 1 / (2 * p.q), a**2, power, xp.minimum(p.freq, _SHELF * p.top))


def highshelf(cutoff_hz: Values, q: Values, gain_db: Values, fs: float) -> Sections:
    """Design high shelves: 0 dB at 0 Hz, half of `gain_db` in dB at `cutoff_hz`, `gain_db` above; as `peak`.

    Example:
        >>> sections = highshelf(5000.0, 0.7, 6.0, 48000.0)
        >>> (20 * np.log10(abs(response(sections, [0.0, 5000.0], 48000.0)))).round(2).tolist()
        [0.0, 3.0]
    """
    # A high shelf is a low shelf of opposite gain, and a gain. The poles of this form stay below fs / 2.
    _, (gain,) = arrays.as_arrays(gain_db)
    zeros, poles = lowshelf(cutoff_hz, q, -gain, fs)
    return Sections(Margins(*(10 ** (gain / 20) * one for one in zeros)), poles)


class _Prototype(NamedTuple):
    """Parameters of all designs: a boost of amplitude^2, to be inverted where ``cut``."""

    xp: Any
    freq: Any
    q: Any
    amplitude: Any
    cut: Any
    fs: Any
    top: Any


def _prototype(cutoff_hz: Values, q: Values, gain_db: Values, fs: float) -> _Prototype:
    arrays.require("fs", fs, "> 0", lambda rate: rate > 0)
    arrays.require("cutoff_hz", cutoff_hz, "> 0", lambda freq: freq > 0)
    arrays.require("q", q, "> 0", lambda q: q > 0)
    xp, (freq, quality, gain, rate) = arrays.as_arrays(cutoff_hz, q, gain_db, fs)
    freq, quality, gain = xp.broadcast_arrays(*(xp.atleast_1d(one) for one in (freq, quality, gain)))
    cut = gain < 0
    amplitude = 10 ** (xp.where(cut, -gain, gain) / 40)
    freq, top = xp.minimum(freq, HIGHEST * rate), xp.minimum(TOP_HZ, _TOP * rate)
    return _Prototype(xp, freq, quality, amplitude, cut, rate, top)


def _designed(p: _Prototype, pole_hz: Any, damping: Any, dc_gain: Any, power: Any, match_hz: Any) -> Sections:
    """Return the section with sampled poles and the analog magnitude at 0 Hz and at two points.

    damping: of the poles, above 1 where they are real. dc_gain: at 0 Hz, linear. power: of (f / cutoff)^2.
    """
    xp = p.xp
    poles = _sampled_poles(xp, 2 * np.pi * pole_hz / p.fs, damping)
    u, _, m = poles
    l0, l1 = (2 * m + u) ** 2 - 8 * u, 16 * (1 - m)

    def target(freq_hz):
        phi = arrays.half_angle(xp, freq_hz, p.fs)[0] ** 2
        whole, excess = power((freq_hz / p.freq) ** 2)
        # (|H|^2 |A|^2 - u_b^2 (1 - phi)) / phi, which l0 + l1 phi of the zeros has to equal.
        return phi, u**2 * (1 - phi) * excess / phi + (l0 + l1 * phi) * whole

    (phi1, one), (phi2, two) = target(match_hz), target(p.top + xp.zeros_like(match_hz))
    l1 = (two - one) / (phi2 - phi1)
    l0 = one - l1 * phi1
    u = u * dc_gain
    # Positive for all of these analog filters; the minimum keeps the slope of a root finite.
    least = float(np.finfo(u.dtype).tiny) ** 0.5
    v = xp.sqrt(xp.maximum(l0 + l1, least))
    m = xp.sqrt(xp.maximum(u**2 + 2 * u * v + l0, least)) / 2
    return _inverted_where(xp, p.cut, Margins(u, v, m), poles)


def _inverted_where(xp: Any, cut: Any, zeros: Margins, poles: Margins) -> Sections:
    """Return the section, where it cuts its inverse, with a leading denominator coefficient of one."""
    b0 = (zeros.u + zeros.v) / 4 + zeros.m / 2
    inverse = jax.tree.map(lambda field: field / b0, Sections(poles, zeros))
    return jax.tree.map(lambda c, b: xp.where(cut, c, b), inverse, Sections(zeros, poles))


def _sampled_poles(xp: Any, w: Any, damping: Any) -> Margins:
    """Return the margins of poles exp(w (-d +- sqrt(d^2 - 1))): a pair, or two on the real axis."""
    decay = xp.exp(-damping * w)
    one_minus_radius = -xp.expm1(-damping * w)
    sin2 = _sin2_of_root(xp, w**2 * (1 - damping**2))
    return Margins(
        one_minus_radius**2 + 4 * decay * sin2,
        (1 + decay) ** 2 - 4 * decay * sin2,
        -xp.expm1(-2 * damping * w),
    )


def _sin2_of_root(xp: Any, t: Any) -> Any:
    """Return sin^2(sqrt(t) / 2), smooth through t = 0, below which it is -sinh^2(sqrt(-t) / 2)."""
    small = xp.abs(t) < 1e-4
    root = xp.sqrt(xp.where(small, xp.ones_like(t), xp.abs(t))) / 2
    far = xp.where(t > 0, xp.sin(root) ** 2, -(xp.sinh(xp.where(t > 0, xp.zeros_like(t), root)) ** 2))
    return xp.where(small, t / 4 * (1 - t / 12 * (1 - t / 30)), far)


def concatenate(*sections: Sections) -> Sections:
    """Join sections in series, their batch axes broadcast.

    Example:
        >>> concatenate(peak(100.0, 1.0, 3.0, 48e3), peak([1e3, 2e3], 1.0, 3.0, 48e3)).sos.shape
        (3, 6)
    """
    return jax.tree.map(arrays.joined, *sections)


def cascade(
    sections: Sections,
    x: Float[Values, "... n_samples"],
    *,
    zi: Float[Values, "... n_sections 2"] | None = None,
    method: str = "auto",
) -> tuple[Float[Array, "... n_samples"], Float[Array, "... n_sections 2"]]:
    """Filter by sections in series; batch axes broadcast.

    Args:
        sections: (..., n_sections).
        x: real.
        zi: the `zf` of the call before; None is zeros.
        method: `"scan"`, `"blocked"`, `"associative"` or `"auto"`, all exact.

    Returns y, in the dtype of `x`, and zf: in a section's direct form II, transposed, with states z0 and z1,
    it is z0 and z1 - z0 a1 / 2, whose digits float32 keeps. Raises ValueError for an unknown `method` and
    shapes that do not fit.

    Example:
        >>> y, zf = cascade(peak(1000.0, 1.0, 6.0, 48000.0), jnp.ones(2000))
        >>> round(float(y[-1]), 4), zf.shape
        (1.0, (1, 2))
    """
    if method == "fsm":
        raise ValueError("method is 'fsm', which has no state; call cascade_sampled.")
    iir.check_method(method, None)
    signal = arrays.as_signal(x)
    fields = jnp.broadcast_arrays(
        *(jnp.asarray(one).astype(signal.dtype) for one in jax.tree.leaves(sections))
    )
    batch = arrays.batch_shape("sections", fields[0].shape[:-1], signal)
    state = arrays.initial_state(zi, batch, (fields[0].shape[-1], 2), signal.dtype)
    return iir.by_margins(tuple(fields), signal, state, method)


def response(
    sections: Sections, freqs_hz: Float[Values, " n_freqs"], fs: float
) -> Complex[Any, "... n_freqs"]:
    """Return the complex frequency response of sections in series, at frequencies and a sample rate in Hz.

    Example:
        >>> abs(response(peak(1000.0, 1.0, 20.0, 48000.0), [1000.0], 48000.0)).round(4).tolist()
        [10.0]
    """
    xp, (freqs, rate, *fields) = arrays.as_arrays(freqs_hz, fs, *sections.zeros, *sections.poles)
    sin_half, cos_half = arrays.half_angle(xp, freqs, rate)
    sin2, cos2, both = sin_half**2, cos_half**2, 2 * sin_half * cos_half
    columns = [one[..., None] for one in xp.broadcast_arrays(*fields)]
    sin2, cos2, both = (arrays.with_rank(one, columns[0].ndim) for one in (sin2, cos2, both))

    def polynomial(u, v, m):
        real, imag = u * cos2 - v * sin2, m * both
        return lax.complex(real, imag) if xp is jnp else real + 1j * imag

    return xp.prod(polynomial(*columns[:3]) / polynomial(*columns[3:]), axis=-2)


def cascade_sampled(
    sections: Sections, x: Float[Values, "... n_samples"], *, n_fft: int | None = None
) -> Float[Array, "... n_samples"]:
    """Filter by frequency sampling, which wraps the tail beyond the transform; batch axes broadcast.

    The transform has `n_fft` samples, by default twice the signal, and 1024 more than it at the least.
    Raises ValueError for an `n_fft` shorter than the signal and shapes that do not fit.

    Example:
        >>> cascade_sampled(peak(1000.0, 1.0, 6.0, 48000.0), jnp.ones(2000)).shape
        (2000,)
    """
    signal = arrays.as_signal(x)
    if n_fft is None:
        n_fft = frequency.padded_length(signal.shape[-1], None)
    sections = jax.tree.map(lambda field: jnp.asarray(field).astype(signal.dtype), sections)
    shape = np.broadcast_shapes(*(field.shape for field in jax.tree.leaves(sections)))
    arrays.batch_shape("sections", shape[:-1], signal)
    bins = jnp.asarray(np.arange(n_fft // 2 + 1) / n_fft, signal.dtype)
    return frequency.apply_response(response(sections, bins, 1.0), signal, n_fft)
