"""What the methods of `align` are given and return: `method(problem, order, rng, report) -> Fit`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from jaxapf.alignment import cross_spectrum, search
from jaxapf.alignment.cascade import Cascade

__all__ = ["DEFAULT_ORDER", "AlignmentProblem", "Fit", "Method", "Report", "fixed_order", "measure"]

DEFAULT_ORDER = 7  # the paper's: three sections of second order, one of first
MUSIC_SHARE, TEST_SIGNAL_SHARE = 0.3, 0.9  # of the music-like weighting, see cross_spectrum.bin_weights
Report = Callable[[str], None]  # shows the name of a stage


class AlignmentProblem(NamedTuple):
    """Two recordings, and what is measured of them before any filter is fitted."""

    dry: Float[np.ndarray, "n_signals n_samples"]
    wet: Float[np.ndarray, "n_signals n_samples"]
    spectrum: cross_spectrum.CrossSpectrum
    music_share: float  # of the music-like weighting, 0 to 1
    max_delay: int  # in samples
    delays: Sequence[float]  # in samples, the most likely first
    delay_only: tuple[float, int]

    def objective(self, most_damping: float = search.MOST_DAMPING) -> search.Objective:
        """Return what a search maximises, with the largest 1 / Q of a section."""
        return search.Objective(self.spectrum, self.music_share, self.max_delay, most_damping)


class Fit(NamedTuple):
    """A cascade, why it has its order, and what else is known of each section, for `Alignment.controls`."""

    cascade: Cascade
    reason: str
    controls: Sequence[dict[str, Any]] = ()


Method = Callable[[AlignmentProblem, int | str, np.random.Generator, Report], Fit]


def measure(dry: np.ndarray, wet: np.ndarray, fs: float, max_delay_ms: float) -> AlignmentProblem:
    """Measure the cross-spectrum and the likely delays of two recordings (n_signals, n_samples)."""
    max_delay = min(round(1e-3 * max_delay_ms * fs), dry.shape[-1] - 1)
    spectrum = cross_spectrum.measure(dry, wet, fs, max_delay)
    share = TEST_SIGNAL_SHARE if cross_spectrum.is_test_signal(dry, spectrum) else MUSIC_SHARE
    delays = cross_spectrum.delay_candidates(spectrum, max_delay)
    delay_only = cross_spectrum.best_delay(spectrum, max_delay)
    return AlignmentProblem(dry, wet, spectrum, share, max_delay, delays, delay_only)


def fixed_order(order: int | str) -> tuple[int, str]:
    """Return the order of a method that does not choose it, and the reason."""
    if order == "auto":
        return DEFAULT_ORDER, f"the order {DEFAULT_ORDER} is the default of this method"
    return int(order), f"the order {order} was requested"
