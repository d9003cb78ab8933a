"""Dictionary of all-pass sections, its atoms, and what each of them would add to the score of a cascade.

The phase of a cascade is a sum, so the score with each atom on top of what is fitted is one product of
matrices: the residual of the cross-spectrum, after each change of the delay, by the responses of the atoms.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Complex, Float

from jaxapf._internal.arrays import with_rank
from jaxapf._internal.delay import delay_response
from jaxapf.alignment.cascade import SECOND, Cascade, conjugate_response

__all__ = ["FOLD", "Dictionary", "delay_shifts", "gains", "make_dictionary", "scores"]

FOLD = 2  # neighbouring bins that the dictionary takes together


class Dictionary(NamedTuple):
    """Atoms, Q changing fastest, and changes of the delay that are tried with each."""

    log_t: Float[Any, " n_atoms"]
    log_d: Float[Any, " n_atoms"]
    response: Float[Any, "2*n_folded n_atoms"]  # real over imaginary part, float32
    shifts: Float[Any, " n_shifts"]  # in samples
    turns: Complex[Any, "n_shifts n_bins"]  # responses of the inverse shifts


def delay_shifts(fs: Any, xp: Any = np) -> Any:
    """Return changes of a delay in samples, (17,): none, then 5 us to 0.64 ms later, then as much earlier."""
    steps = 5e-6 * 2.0 ** np.arange(8)
    return fs * xp.asarray(np.concatenate([[0.0], steps, -steps]), getattr(fs, "dtype", float))


def make_dictionary(log_t: Any, log_d: Any, shifts: Any, omega: Any, kind: int = SECOND) -> Dictionary:
    """Make the dictionary of every log frequency with every log 1 / Q, on the bins omega of a fit."""
    xp = jnp if isinstance(log_t, jax.Array) else np
    n_frequencies, n_dampings = len(log_t), len(log_d)
    log_t, log_d = xp.repeat(log_t, n_dampings), xp.tile(log_d, n_frequencies)
    centres = xp.mean(omega[: len(omega) // FOLD * FOLD].reshape(-1, FOLD), axis=-1)
    atoms = Cascade(xp.zeros_like(log_t), log_t[:, None], log_d[:, None], kind, xp.ones_like(log_t))
    conjugate = conjugate_response(atoms, centres)
    response = xp.concatenate([conjugate.real, -conjugate.imag], axis=-1).T.astype(np.float32)
    return Dictionary(log_t, log_d, response, shifts, delay_response(-shifts[:, None], omega[None], xp))


def scores(dictionary: Dictionary, residual: Any) -> Any:
    """Return the score with each atom on top of a residual, after each delay: (..., n_shifts, n_atoms)."""
    xp = jnp if isinstance(residual, jax.Array) else np
    shifted = residual[..., None, :] * with_rank(dictionary.turns, residual.ndim + 1)
    pairs = shifted[..., : shifted.shape[-1] // FOLD * FOLD]
    folded = xp.sum(pairs.reshape(*pairs.shape[:-1], -1, FOLD), axis=-1)
    # Re(z conj(A)) as one real product.
    return xp.concatenate([folded.real, folded.imag], axis=-1).astype(np.float32) @ dictionary.response


def gains(dictionary: Dictionary, residual: Any) -> tuple[Any, Any]:
    """Return the best score with each atom on top, (..., n_atoms), and the change of the delay in samples."""
    xp = jnp if isinstance(residual, jax.Array) else np
    reached = scores(dictionary, residual)
    return xp.max(reached, axis=-2), dictionary.shifts[xp.argmax(reached, axis=-2)]
