"""Response of all-pass sections on the bilinear frequency t = tan(w / 2), for NumPy and JAX arrays alike.

    A = N / conj(N),   N = 1 - v s^2 - j d s,   s = t / t0,

where v = 1, d = 1 / Q for a second-order and v = 0, d = 1 for a first-order section. N is divided by 1 + s^2,
so that products of many sections neither over- nor underflow.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def numerators(s: Any, damping: Any, second: Any = 1.0) -> tuple[Any, Any]:
    """Return the real and imaginary part of N / (1 + s^2); `second` is v.

    Example:
        >>> numerators(1.0, 0.5)
        (0.0, -0.25)
    """
    scale = 1 / (1 + s * s)
    return (1 - second * s * s) * scale, -damping * s * scale


def response(real: Any, imag: Any) -> Any:
    """Return A (..., n_freqs), complex, from both parts of N, (..., n_sections, n_freqs)."""
    product = as_complex(real, imag).prod(axis=-2)
    x, y = product.real, product.imag
    power = x * x + y * y
    return as_complex((x * x - y * y) / power, 2 * x * y / power)


def as_complex(real: Any, imag: Any) -> Any:
    """Return real + j imag in the precision of `real`, without JAX's promotion of dtypes."""
    dtype = np.result_type(real.dtype, np.complex64)
    return real.astype(dtype) + 1j * imag.astype(dtype)
