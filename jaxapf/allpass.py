"""All-pass filters: controls -> sections -> signal, phase and group delay.

A section is three margins, the distances to the sides of the stability triangle, and is run as a normalised
lattice (two plane rotations a sample). Both keep their digits where `c, d` lose them: close to the unit
circle, at low frequencies, in float32.

    A(z) = (c + d z^-1 + z^-2) / (1 + d z^-1 + c z^-2),   u = 1 + c + d,  v = 1 + c - d,  m = 1 - c

A second-order section is stable exactly when all three margins are positive. `v == 0` stands for a
first-order section, (g + z^-1) / (1 + g z^-1): pole and zero at z = -1 cancel, and c is g.

Controls `(..., n_sections)` broadcast; scalars give one section. Designs and responses compute in NumPy,
float64 whatever JAX's settings, where no argument is a JAX array; else in JAX, in the dtype of its arrays.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Inexact

from jaxapf import frequency
from jaxapf._internal import arrays
from jaxapf._internal.arrays import Values
from jaxapf.filters import lattice, overlap_add, state_space
from jaxapf.filters.iir import check_method

__all__ = [
    "Sections",
    "cascade",
    "cascade_frames",
    "cascade_varying",
    "concatenate",
    "first_order",
    "from_sos",
    "group_delay",
    "phase_response",
    "rbj",
    "second_order",
]

Controls: TypeAlias = Float[Values, "... n_sections"]


class Sections(NamedTuple):
    """All-pass sections stacked on the last axis, as margins scaled to `u + v + 2 m = 4`.

    A pytree of three arrays, each `(..., n_sections)`: `u` = 1 + c + d, `v` = 1 + c - d, `m` = 1 - c.
    Stable means `u > 0`, `m > 0` and `v > 0`, or `v == 0` for a first-order section: a kind, not a value to
    optimise. Build it with `first_order`, `second_order`, `rbj` or `from_sos`; join with `concatenate`.

    Example:
        >>> second_order(0.5, 12000.0, 48000.0).sos.round(3).tolist()
        [[0.25, 0.0, 1.0, 1.0, 0.0, 0.25]]
    """

    u: Float[Any, "... n_sections"]
    v: Float[Any, "... n_sections"]
    m: Float[Any, "... n_sections"]

    @property
    def sos(self) -> Float[Any, "... n_sections 6"]:
        """Second-order sections `(..., n_sections, 6)`; a first-order row is `[g, 1, 0, 1, g, 0]`."""
        xp, (u, v, m) = arrays.as_arrays(*self)
        total = u + v + 2 * m
        first = v == 0
        c = (u + v - 2 * m) / total
        d = xp.where(first, xp.ones_like(c), 2 * (u - v) / total)
        one, zero = xp.ones_like(c), xp.zeros_like(c)
        a1 = xp.where(first, c, d)
        return xp.stack([c, d, xp.where(first, zero, one), one, a1, xp.where(first, zero, c)], axis=-1)


def first_order(coefficient: Controls, *, warp: Controls = 0.0) -> Sections:
    """Return first-order sections (g + z^-1) / (1 + g z^-1), g being the coefficient in (-1, 1).

    `warp`, in (-1, 1), replaces z^-1 by (warp + z^-1) / (1 + warp z^-1): the coefficient becomes
    (g + warp) / (1 + g warp). Raises ValueError for a known value out of its range.

    Example:
        >>> first_order([-0.9, 0.5]).sos[:, 0].round(6).tolist()
        [-0.9, 0.5]
    """
    arrays.require("coefficient", coefficient, "in (-1, 1)", lambda g: np.abs(g) < 1)
    xp, (g, a) = arrays.as_arrays(coefficient, warp)
    g, a = xp.broadcast_arrays(xp.atleast_1d(g), a)
    return _warped(2 * (1 + g), xp.zeros_like(g), 1 - g, a)


def second_order(radius: Controls, cutoff_hz: Controls, fs: float, *, warp: Controls = 0.0) -> Sections:
    """Return second-order sections from pole radius and centre frequency.

    Args:
        radius: pole radius R in (-1, 1); a negative one stands for the poles on the other side of the
            circle, as in the paper's networks.
        cutoff_hz: pole frequency in Hz, in [0, fs / 2].
        fs: sample rate in Hz.
        warp: in (-1, 1), as in `first_order`. The result is again one second-order section, its margins
            (u, v, m) multiplied by ((1 + warp)^2, (1 - warp)^2, 1 - warp^2).

    Raises ValueError for a known value out of its range.

    Source: Bargum et al. 2023, eq. 2-4 (c = R^2, d = -2 R cos(2 pi fc / fs)) and 5. Equation 5 prints
    `- v2 (a^2 + 1)` where the all-pass has `+ v2 (1 - a^2)`; this is the all-pass.

    Example:
        >>> second_order([0.9, 0.99], [100.0, 1000.0], 48000.0, warp=0.1).sos.shape
        (2, 6)
    """
    arrays.require("radius", radius, "in (-1, 1)", lambda r: np.abs(r) < 1)
    arrays.require(
        "cutoff_hz", cutoff_hz, "in [0, fs / 2]", lambda f: (f >= 0) & (2 * f <= np.asarray(fs)), fs
    )
    xp, (r, freq, rate, a) = arrays.as_arrays(radius, cutoff_hz, fs, warp)
    r, freq, a = xp.broadcast_arrays(xp.atleast_1d(r), freq, a)
    sin_half, cos_half = arrays.half_angle(xp, freq, rate)
    # -R at w is R at pi - w: that way round, no difference loses the pole's distance from the circle.
    near, far = xp.where(r < 0, cos_half, sin_half), xp.where(r < 0, sin_half, cos_half)
    r = xp.where(r < 0, -r, r)
    gap = (1 - r) ** 2
    return _warped(gap + 4 * r * near**2, gap + 4 * r * far**2, (1 - r) * (1 + r), a)


def rbj(cutoff_hz: Controls, q: Controls, fs: float) -> Sections:
    """Return second-order sections of the audio-EQ cookbook: the phase is -180 degrees at `cutoff_hz`.

    Args:
        cutoff_hz: frequency in Hz, in (0, fs / 2).
        q: quality factor, > 0.
        fs: sample rate in Hz.

    Raises:
        ValueError: a known value out of its range.

    Source: R. Bristow-Johnson, Cookbook formulae for audio EQ biquad filter coefficients, APF.

    Example:
        >>> float(phase_response(rbj(1000.0, 0.7, 48000.0), [1000.0], 48000.0)[0])  # -pi
        -3.14159...
    """
    arrays.require("cutoff_hz", cutoff_hz, "in (0, fs / 2)", lambda f: (f > 0) & (2 * f < np.asarray(fs)), fs)
    arrays.require("q", q, "> 0", lambda q: q > 0)
    xp, (freq, quality, rate) = arrays.as_arrays(cutoff_hz, q, fs)
    freq, quality = xp.broadcast_arrays(xp.atleast_1d(freq), quality)
    sin_half, cos_half = arrays.half_angle(xp, freq, rate)
    # a = [1 + alpha, -2 cos w, 1 - alpha], alpha = sin w / (2 q);
    # u = a0 + a1 + a2, v = a0 - a1 + a2, m = a0 - a2.
    return _scaled(4 * sin_half**2, 4 * cos_half**2, 2 * sin_half * cos_half / quality)


def from_sos(sos: Float[Values, "... n_sections 6"]) -> Sections:
    """Return the sections of `sos` rows, `[c, d, 1, 1, d, c]` or (first order) `[g, 1, 0, 1, g, 0]`.

    One row may be `(6,)`. Only the denominators are used. Raises ValueError for a wrong shape and, where the
    values are known, for a row that is not a stable all-pass.

    Example:
        >>> from_sos([[0.25, -0.5, 1.0, 1.0, -0.5, 0.25]]).m.tolist()
        [0.75]
    """
    xp, (rows,) = arrays.as_arrays(sos)
    rows = arrays.as_sos_rows(rows)
    if arrays.all_concrete(rows):
        _check_allpass_rows(np.asarray(rows))
    b2, d, c = rows[..., 2], rows[..., 4], rows[..., 5]
    first = (b2 == 0) & (c == 0)
    c = xp.where(first, d, c)
    d = xp.where(first, 1 + c, d)
    # In this order the sums are exact where they are small.
    return _scaled((1 + d) + c, xp.where(first, xp.zeros_like(c), (1 - d) + c), 1 - c)


def concatenate(*sections: Sections) -> Sections:
    """Join cascades in series; ValueError for nothing to join or batch axes that do not broadcast.

    Example:
        >>> concatenate(first_order(0.5), rbj([100.0, 1000.0], 0.7, 48000.0)).u.shape
        (3,)
    """
    if not sections:
        raise ValueError("sections is empty; give at least one Sections to concatenate.")
    return Sections(*(arrays.joined(*field) for field in zip(*sections, strict=True)))


def cascade(
    sections: Sections,
    x: Inexact[Values, "... n_samples"],
    *,
    stretch: int = 1,
    zi: Inexact[Values, "... n_sections 2"] | None = None,
    method: str = "auto",
) -> Any:
    """Filter `x` through all-pass sections in series.

    Args:
        sections: `(..., n_sections)`, batch axes broadcast against those of `x`.
        x: `(..., n_samples)`.
        stretch: replaces z^-1 by z^-stretch: the same filter on each of the interleaved phases of the signal.
        zi: initial state `(..., n_sections, 2)`, or `(..., stretch, n_sections, 2)` for `stretch` > 1;
            zeros for an input of silence before. It is the state (s1, s2) of the normalised lattice, whose
            squares sum to the energy of the output that follows; along `stretch`, the phase of the next
            sample comes first. It is not SciPy's `zi`: start from zeros, then pass the `zf` of each call to
            the next.
        method: `"scan"`, `"blocked"`, `"associative"` (exact), `"fsm"` (zero-padded FFT, which wraps the tail
            beyond the padding), or `"auto"` (the fastest exact one).

    Returns y, in the dtype of `x`; or `(y, zf)` when `zi` is given. Chunks of any length, each started with
    the `zf` of the one before, give the same as the whole. Raises ValueError for an unknown `method`,
    `stretch` < 1, `zi` with `"fsm"`, and shapes that do not fit.

    Source: Bargum et al. 2023, eq. 1 and 5; normalised lattice: Gray and Markel 1975.

    Example:
        >>> y = cascade(second_order([0.9, 0.5], [100.0, 900.0], 8000.0), jnp.zeros(4096).at[0].set(1.0))
        >>> bool(abs(jnp.sum(y**2) - 1) < 1e-5)  # an all-pass keeps the energy
        True
    """
    check_method(method, zi)
    stretch = arrays.whole_number("stretch", stretch)
    if stretch < 1:
        raise ValueError(f"stretch is {stretch}; expected a whole number of samples, 1 or more.")
    signal = arrays.as_signal(x, zi)
    if method == "fsm":
        return _cascade_fsm(sections, signal, stretch)
    sections = Sections(*(jnp.asarray(field, signal.real.dtype) for field in sections))
    batch = arrays.batch_shape("sections", sections.u.shape[:-1], signal)
    phases = () if stretch == 1 else (stretch,)
    state = arrays.initial_state(zi, batch, (*phases, sections.u.shape[-1], 2), signal.dtype)
    method = state_space.resolve_method(method, (*batch, *phases, signal.shape[-1] // stretch))
    if stretch == 1:
        y, zf = lattice.constant(sections, signal, state, method)
    else:
        y, zf = lattice.stretched(sections, signal, state, stretch, method)
    return y if zi is None else (y, zf)


def cascade_varying(
    sections: Sections,
    x: Inexact[Values, "... n_samples"],
    *,
    zi: Inexact[Values, "... n_sections 2"] | None = None,
    method: str = "auto",
) -> Any:
    """Filter `x` through time-varying all-pass sections in series: one set of margins a sample.

    The recursion is exact, and every step is a rotation of state and sample together: stable, and lossless to
    rounding, for controls of any speed. The energy of `y` and `zf` is that of `x` and `zi`. (Time-varying
    filters of one transfer function but another structure differ; this one is the normalised lattice.) From
    controls at frame rate, `filters.overlap_add.interpolate` makes one set a sample.

    Args:
        sections: `(..., n_samples, n_sections)`, batch axes broadcast against those of `x`. A section may be
            of first order (`v == 0`) at some samples and not at others.
        x: `(..., n_samples)`.
        zi: as in `cascade`.
        method: as in `cascade`, but for `"fsm"`.

    Returns and raises as `cascade`.

    Source: Gray and Markel 1975 (normalised lattice); Yu et al. 2024 (exact filters in place of frames).

    Example:
        >>> sweep = second_order(0.9, jnp.linspace(100.0, 3000.0, 4096)[:, None], 8000.0)
        >>> y = cascade_varying(sweep, jnp.zeros(4096).at[0].set(1.0))
        >>> bool(abs(jnp.sum(y**2) - 1) < 1e-5)
        True
    """
    if method == "fsm":
        raise ValueError("method is 'fsm', which needs constant controls; use cascade_frames instead.")
    check_method(method, zi)
    signal = arrays.as_signal(x, zi)
    sections = Sections(*(jnp.asarray(field, signal.real.dtype) for field in sections))
    _check_sets(sections, signal.shape[-1], "sample")
    batch = arrays.batch_shape("sections", sections.u.shape[:-2], signal)
    state = arrays.initial_state(zi, batch, (sections.u.shape[-1], 2), signal.dtype)
    method = state_space.resolve_method(method, (*batch, signal.shape[-1]), varying=True)
    y, zf = lattice.varying(sections, signal, state, method)
    return y if zi is None else (y, zf)


def cascade_frames(
    sections: Sections,
    x: Float[Values, "... n_samples"],
    *,
    hop: int,
    n_fft: int | None = None,
    n_window: int | None = None,
) -> Float[Array, "... n_samples"]:
    """Filter `x` through time-varying all-pass sections, frame by frame, by frequency sampling.

    The approximate counterpart of `cascade_varying`: parallel over time, with one set of margins a frame. It
    has two errors. The impulse response beyond `n_fft - n_window` samples wraps around, to before its cause:
    relative to the signal about R to the power of `n_fft - n_window` for the largest pole radius R. And the
    response to every sample is that of constant controls: an error in proportion to their speed, for
    transforms and hops of any length. Two sections of radius 0.9 that sweep two octaves, hop 64 at 48 kHz,
    differ from the exact recursion by 5e-4 of the signal at 0.25 sweeps a second, and by 6e-3 at 4.

    Args:
        sections: `(..., n_frames, n_sections)`, `filters.overlap_add.n_frames(n_samples, hop)` frames, frame
            k for the samples around `k * hop`; batch axes broadcast against those of `x`.
        x: real.
        hop: samples from one frame to the next.
        n_fft: length of the transform in samples; by default eight hops.
        n_window: length of the Hann window in samples, at least two hops; by default half of `n_fft`.

    Raises as `filters.overlap_add.filter_frames`.

    Source: Carson et al. 2023; the frame-wise baseline of Yu et al. 2024.

    Example:
        >>> sections = second_order(0.9, jnp.linspace(100.0, 3000.0, 5)[:, None], 8000.0)
        >>> cascade_frames(sections, jnp.ones(512), hop=128).shape
        (512,)
    """
    signal = arrays.as_signal(x)
    _check_sets(sections, overlap_add.n_frames(signal.shape[-1], hop), "frame")
    n_fft = 8 * hop if n_fft is None else n_fft
    n_window = overlap_add.window_length(n_fft, hop, n_window)
    sections = Sections(*(jnp.asarray(field, signal.real.dtype) for field in sections))
    arrays.batch_shape("sections", sections.u.shape[:-2], signal)
    response = jax.jit(_response, static_argnums=1)(sections, n_fft)
    return overlap_add.filter_frames(response, signal, n_fft=n_fft, hop=hop, n_window=n_window)


def phase_response(
    sections: Sections, freqs_hz: Float[Values, " n_freqs"], fs: float
) -> Float[Any, "... n_freqs"]:
    """Return the phase in radians, unwrapped along frequencies in [0, fs / 2] Hz.

    It is 0 at DC, and at fs / 2 -pi for a section of first order and -2 pi for one of second order. Each
    section's phase is a closed form, continuous by itself: no sample-by-sample unwrapping, any grid will do.

    Example:
        >>> phase_response(first_order(0.0), [0.0, 250.0, 500.0], 1000.0).round(3).tolist()  # one sample
        [0.0, -1.571, -3.142]
    """
    xp, real, imag, _ = _denominator(sections, freqs_hz, fs)
    return xp.sum(-2 * xp.arctan2(imag, real), axis=-2)


def group_delay(
    sections: Sections, freqs_hz: Float[Values, " n_freqs"], fs: float
) -> Float[Any, "... n_freqs"]:
    """Return the group delay in samples, the negative derivative of the phase, which is never negative.

    Example:
        >>> group_delay(first_order(0.0), [0.0, 250.0, 500.0], 1000.0).round(6).tolist()  # one sample
        [1.0, 1.0, 1.0]
    """
    # 2 d(arg D)/dw is 2 m (u cos^2 + v sin^2) / |D|^2: no term is negative.
    xp, real, imag, slope = _denominator(sections, freqs_hz, fs)
    return xp.sum(slope / (real**2 + imag**2), axis=-2)


def _warped(u: Any, v: Any, m: Any, warp: Any) -> Sections:
    arrays.require("warp", warp, "in (-1, 1)", lambda a: np.abs(a) < 1)
    return _scaled(u * (1 + warp) ** 2, v * (1 - warp) ** 2, m * ((1 - warp) * (1 + warp)))


def _scaled(u: Any, v: Any, m: Any) -> Sections:
    xp, (u, v, m) = arrays.as_arrays(u, v, m)
    total = u + v + 2 * m
    # Under `jit` a control may have been rounded to the end of its range, and all margins to zero.
    scale = 4 / xp.where(total > 0, total, xp.ones_like(total))
    return Sections(u * scale, v * scale, m * scale)


def _check_allpass_rows(sos: np.ndarray) -> None:
    tolerance = max(1e-9, 64 * float(np.finfo(sos.dtype).eps))
    rows = sos.reshape(-1, 6)
    for index, row in enumerate(rows):
        a1, a2 = row[4], row[5]
        first = a2 == 0 and row[2] == 0
        mirrored = [a1, 1, 0, 1, a1, 0] if first else [a2, a1, 1, 1, a1, a2]
        row_name = f"sos row {index % sos.shape[-2]} ({', '.join(f'{value:g}' for value in row)})"
        if not np.max(np.abs(row - mirrored)) <= tolerance * 2:
            raise ValueError(f"{row_name} is no all-pass; expected [c, d, 1, 1, d, c] or [g, 1, 0, 1, g, 0].")
        stable = abs(a1) < 1 if first else abs(a2) < 1 and abs(a1) < 1 + a2
        if not stable:
            raise ValueError(f"{row_name} is not stable; expected its poles inside the unit circle.")


def _check_sets(sections: Sections, expected: int, unit: str) -> None:
    shape = np.shape(sections.u)
    if len(shape) < 2 or shape[-2] != expected:
        raise ValueError(
            f"sections has shape {shape}; expected (..., {expected}, n_sections), one set a {unit}."
        )


def _denominator(sections: Sections, freqs_hz: Values, fs: float) -> tuple[Any, Any, Any, Any]:
    """Return real and imaginary part of D and 2 m (u cos^2 + v sin^2), `(..., n_sections, n_freqs)`."""
    # A(e^jw) = conj(D) / D, D = (u cos^2 - v sin^2) + 2 j m sin cos, of half the angle: the phase is
    # -2 arg D. In a first-order section D has the factor cos; without it, fs / 2 is no 0 / 0.
    xp, (u, v, m, freqs, rate) = arrays.as_arrays(*sections, freqs_hz, fs)
    sin_half, cos_half = (arrays.with_rank(one, u.ndim + 1) for one in arrays.half_angle(xp, freqs, rate))
    u, v, m = u[..., None], v[..., None], m[..., None]
    first = v == 0
    common = xp.where(first, xp.ones_like(cos_half), cos_half)
    real = u * xp.where(first, cos_half, cos_half**2) - v * sin_half**2
    return xp, real, 2 * m * sin_half * common, 2 * m * (u * common**2 + v * sin_half**2)


def _cascade_fsm(sections: Sections, x: jax.Array, stretch: int) -> jax.Array:
    radius = _slowest_radius(sections)
    n_sections = np.shape(sections.u)[-1]
    tail = None if radius is None else stretch * (frequency.tail_samples(radius) + 2 * n_sections)
    n_fft = frequency.padded_length(x.shape[-1], tail)
    return frequency.apply_response(_response(sections, n_fft, stretch), x, n_fft)


def _response(sections: Sections, n_fft: int, stretch: int = 1) -> Any:
    """Return the complex response on the bins of a transform."""
    # Stretched, bin k has the phase of bin k * stretch, folded into [0, fs / 2] where the phase is odd.
    bins = np.arange(n_fft // 2 + 1) * stretch % n_fft
    folded = np.minimum(bins, n_fft - bins)
    xp, (phase, sign) = arrays.as_arrays(
        phase_response(sections, folded / n_fft, 1.0), np.where(bins == folded, 1.0, -1.0)
    )
    cosine, sine = xp.cos(phase), xp.sin(phase) * xp.broadcast_to(sign, phase.shape)
    return lax.complex(cosine, sine) if xp is jnp else cosine + 1j * sine


def _slowest_radius(sections: Sections) -> float | None:
    """Return the largest pole radius, or None under `jit`, where it is not known."""
    if not arrays.all_concrete(*sections):
        return None
    u, v, m = (np.asarray(field, np.float64) for field in sections)
    total = u + v + 2 * m
    c, d = (u + v - 2 * m) / total, 2 * (u - v) / total
    # The cancelled pole of a first-order section does not count.
    root = np.sqrt(np.maximum(d * d - 4 * c, 0))
    real = np.maximum(np.abs(-d + root), np.abs(-d - root)) / 2
    complex_pair = np.sqrt(np.maximum(c, 0))
    radius = np.where(v == 0, np.abs(c), np.where(d * d < 4 * c, complex_pair, real))
    return float(radius.max(initial=0.0))
