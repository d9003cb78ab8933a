"""Lengths of fast Fourier transforms, and overlapping frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jax


def fast_length(n_samples: int) -> int:
    """Return the shortest length of at least `n_samples` with small prime factors, for real transforms."""
    import scipy.fft  # a tenth of a second, which the command line need not wait for

    return int(scipy.fft.next_fast_len(n_samples, real=True) or n_samples)


def frames(x: jax.Array, n_frames: int, n_window: int, hop: int) -> jax.Array:
    """Cut (..., n_samples) into frames (..., n_frames, n_window), one every `hop` samples.

    Past the end there are zeros. Shifted rows of `hop` samples are joined, so that the gradient needs no
    scatter.
    """
    import jax.numpy as jnp

    n_pieces = -(-n_window // hop)
    n_rows = n_frames + n_pieces - 1
    batch = x.shape[:-1]
    padding = [(0, 0)] * len(batch) + [(0, max(0, n_rows * hop - x.shape[-1]))]
    rows = jnp.pad(x, padding)[..., : n_rows * hop].reshape(*batch, n_rows, hop)
    shifted = [rows[..., start : start + n_frames, :] for start in range(n_pieces)]
    return jnp.concatenate(shifted, axis=-1)[..., :n_window]
