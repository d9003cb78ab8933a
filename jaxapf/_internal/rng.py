"""Seeds of NumPy's generators from what callers give as a key."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np


def seed_words(key: Any) -> list[int]:
    """Return the words of a JAX key, a whole number or a sequence of them; imports no JAX.

    Example:
        >>> seed_words(None), seed_words(7)
        ([0], [7])
    """
    if key is None:
        return [0]
    jax = sys.modules.get("jax")
    if (
        jax is not None
        and isinstance(key, jax.Array)
        and jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key)
    ):
        key = jax.random.key_data(key)
    words = np.atleast_1d(np.asarray(key))
    if words.dtype.kind not in "iu" or words.ndim != 1 or np.any(words < 0):
        raise TypeError(f"key is {key!r}; expected None, a JAX random key, or a whole number of 0 or more.")
    return [int(word) for word in words]
