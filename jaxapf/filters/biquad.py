"""Second-order filters of the audio-EQ cookbook, as rows for `sosfilt`.

Every design takes scalars or arrays that broadcast,

    cutoff_hz   corner, centre or shelf midpoint frequency in Hz, in (0, fs / 2)
    q           quality factor, > 0
    gain_db     gain at the peak or on the shelf, in dB
    fs          sample rate in Hz

and returns normalised rows `(..., 6)`, `b0 b1 b2 1 a1 a2`; stack rows along the axis before the last to put
filters in series. A known value out of its range raises ValueError. Designs are float64 NumPy when no
argument is a JAX array, whatever JAX's settings; else JAX, in the dtype of its arrays, and differentiable.

Source: R. Bristow-Johnson, Cookbook formulae for audio EQ biquad filter coefficients, here in half angles:
1 - cos w is 2 sin^2(w / 2), whose digits float32 keeps at low frequencies.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

from jaxtyping import Float

from jaxapf._internal.arrays import Values, as_arrays, half_angle, require

__all__ = ["allpass", "bandpass", "highpass", "highshelf", "lowpass", "lowshelf", "notch", "peak"]

Rows: TypeAlias = Float[Any, "... 6"]


def lowpass(cutoff_hz: Values, q: Values, fs: float) -> Rows:
    """Return low-pass rows `(..., 6)`; the gain at `cutoff_hz` is q.

    Example:
        >>> lowpass(12000.0, 0.5, 48000.0).round(6).tolist()
        [0.25, 0.5, 0.25, 1.0, 0.0, 0.0]
    """
    p = _prototype(cutoff_hz, q, fs)
    return _rows(p, (p.sin2, 2 * p.sin2, p.sin2), (1 + p.alpha, p.middle, 1 - p.alpha))


def highpass(cutoff_hz: Values, q: Values, fs: float) -> Rows:
    """Return high-pass rows `(..., 6)`; the gain at `cutoff_hz` is q.

    Example:
        >>> highpass(12000.0, 0.5, 48000.0).round(6).tolist()
        [0.25, -0.5, 0.25, 1.0, 0.0, 0.0]
    """
    p = _prototype(cutoff_hz, q, fs)
    return _rows(p, (p.cos2, -2 * p.cos2, p.cos2), (1 + p.alpha, p.middle, 1 - p.alpha))


def bandpass(cutoff_hz: Values, q: Values, fs: float) -> Rows:
    """Return band-pass rows `(..., 6)`; the gain at `cutoff_hz` is one, the bandwidth `cutoff_hz / q`.

    Example:
        >>> bandpass(12000.0, 0.5, 48000.0).round(6).tolist()
        [0.5, 0.0, -0.5, 1.0, 0.0, 0.0]
    """
    p = _prototype(cutoff_hz, q, fs)
    return _rows(p, (p.alpha, 0 * p.alpha, -p.alpha), (1 + p.alpha, p.middle, 1 - p.alpha))


def notch(cutoff_hz: Values, q: Values, fs: float) -> Rows:
    """Return notch rows `(..., 6)`; the gain at `cutoff_hz` is zero.

    Example:
        >>> notch(12000.0, 0.5, 48000.0).round(6).tolist()
        [0.5, 0.0, 0.5, 1.0, 0.0, 0.0]
    """
    p = _prototype(cutoff_hz, q, fs)
    one = 1 + 0 * p.alpha
    return _rows(p, (one, p.middle, one), (1 + p.alpha, p.middle, 1 - p.alpha))


def allpass(cutoff_hz: Values, q: Values, fs: float) -> Rows:
    """Return all-pass rows; the phase at `cutoff_hz` is -180 degrees. See also `jaxapf.allpass.rbj`.

    Example:
        >>> allpass(12000.0, 0.5, 48000.0).round(6).tolist()
        [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]
    """
    p = _prototype(cutoff_hz, q, fs)
    return _rows(p, (1 - p.alpha, p.middle, 1 + p.alpha), (1 + p.alpha, p.middle, 1 - p.alpha))


def peak(cutoff_hz: Values, q: Values, gain_db: Values, fs: float) -> Rows:
    """Return peaking rows `(..., 6)`; the gain at `cutoff_hz` is `gain_db`, far from it 0 dB.

    Example:
        >>> peak(12000.0, 0.5, 0.0, 48000.0).round(6).tolist()
        [1.0, 0.0, 0.0, 1.0, 0.0, 0.0]
    """
    p = _prototype(cutoff_hz, q, fs, gain_db)
    boost, cut = p.alpha * p.amplitude, p.alpha / p.amplitude
    return _rows(p, (1 + boost, p.middle, 1 - boost), (1 + cut, p.middle, 1 - cut))


def lowshelf(cutoff_hz: Values, q: Values, gain_db: Values, fs: float) -> Rows:
    """Return low-shelf rows; the gain is `gain_db` at DC, half of it in dB at `cutoff_hz`, 0 dB above.

    Example:
        >>> lowshelf(12000.0, 0.5, 0.0, 48000.0).round(6).tolist()
        [1.0, 0.0, 0.0, 1.0, 0.0, 0.0]
    """
    p = _prototype(cutoff_hz, q, fs, gain_db)
    near, far = _shelf(p)
    return _rows(p, tuple(p.amplitude * value for value in near), far)


def highshelf(cutoff_hz: Values, q: Values, gain_db: Values, fs: float) -> Rows:
    """Return high-shelf rows; 0 dB at DC, half of `gain_db` at `cutoff_hz`, `gain_db` above.

    Example:
        >>> highshelf(12000.0, 0.5, 0.0, 48000.0).round(6).tolist()
        [1.0, 0.0, 0.0, 1.0, 0.0, 0.0]
    """
    p = _prototype(cutoff_hz, q, fs, gain_db)
    far, near = _shelf(p)
    return _rows(p, tuple(p.amplitude * value for value in near), far)


class _Prototype(NamedTuple):
    """Squared half-angle sine and cosine, -2 cos w, sin w / (2 q), 10^(gain / 40)."""

    xp: Any
    sin2: Any
    cos2: Any
    middle: Any
    alpha: Any
    amplitude: Any


def _prototype(cutoff_hz: Values, q: Values, fs: float, gain_db: Values = 0.0) -> _Prototype:
    require("cutoff_hz", cutoff_hz, "in (0, fs / 2)", lambda freq: (freq > 0) & (2 * freq < fs), fs)
    require("q", q, "> 0", lambda q: q > 0)
    xp, (freq, quality, rate, gain) = as_arrays(cutoff_hz, q, fs, gain_db)
    freq, quality, gain = xp.broadcast_arrays(freq, quality, gain)
    sin_half, cos_half = half_angle(xp, freq, rate)
    sin2, cos2 = sin_half**2, cos_half**2
    return _Prototype(xp, sin2, cos2, 2 * (sin2 - cos2), sin_half * cos_half / quality, 10 ** (gain / 40))


def _shelf(p: _Prototype) -> tuple[tuple, tuple]:
    """Polynomials of the two kinds, with cos^2 + A sin^2 and with A cos^2 + sin^2, half the cookbook's."""
    a, slope = p.amplitude, p.xp.sqrt(p.amplitude) * p.alpha
    low, high = p.cos2 + a * p.sin2, a * p.cos2 + p.sin2
    return (
        (low + slope, 2 * (a * p.sin2 - p.cos2), low - slope),
        (high + slope, 2 * (p.sin2 - a * p.cos2), high - slope),
    )


def _rows(p: _Prototype, b: tuple, a: tuple) -> Any:
    a0 = a[0]
    one = 1 + 0 * a0
    return p.xp.stack([b[0] / a0, b[1] / a0, b[2] / a0, one, a[1] / a0, a[2] / a0], axis=-1)
