"""What is measured of a pair once the dry recording was laid on the wet one, and how methods compare."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np

from experiments.common.runner import Row
from jaxapf import losses, metrics

# Which way is better. The mix gets louder as less of it cancels.
BETTER = {
    "mix_rms_db": 1,
    "mix_peak_db": 1,
    "correlation": 1,
    "mse": -1,
    "mrstft": -1,
    "thd_n": -1,
    "seconds": -1,
}

_mrstft = jax.jit(losses.mrstft)


def measures(shifted: np.ndarray, wet: np.ndarray, fs: float) -> dict[str, float]:
    """Figures of a pair.

    Levels are those of the recordings: the original first brings every file to a peak of 1. Its `mse` and
    `mrstft` are, as here, between the two signals; `thd_n` is of the mix, which is all that is heard, and
    why it says little about a snare stands in `jaxapf.metrics.thd_n`.

    Args:
        shifted: (n_samples,), the dry recording after a method.
        wet: (n_samples,), the other one.
        fs: sample rate in Hz.

    Returns:
        `mix_rms_db` and `mix_peak_db` of (shifted + wet) / 2; `correlation`; `mse`; `mrstft`, the
        multi-resolution STFT loss, which is compiled once for each n_samples; `thd_n` as a ratio.

    Example:
        >>> x = np.sin(np.arange(4800) / 10)
        >>> found = measures(-x, x, 48000)
        >>> found["mix_rms_db"], round(found["correlation"], 6), found["mrstft"]
        (-inf, -1.0, 0.0)
    """
    x, y = (np.asarray(signal, np.float64) for signal in (shifted, wet))
    mix = (x + y) / 2
    return {
        "mix_rms_db": metrics.rms_db(mix),
        "mix_peak_db": metrics.peak_db(mix),
        "correlation": metrics.correlation(x, y),
        "mse": metrics.mse(x, y),
        "mrstft": float(_mrstft(x.astype(np.float32), y.astype(np.float32))),
        "thd_n": metrics.thd_n(mix, fs),
    }


def compared(rows: Sequence[Row], against: str) -> list[Row]:
    """Sum up the methods: medians, and how often each is better than one of them.

    Args:
        rows: one a method and pair, with `method`, `pair` and figures; all with the same figures.
        against: the method to compare with.

    Returns:
        A row a method, in the order they come: `method`, `pairs` (how many), each figure's median under its
        own name and, for those of `BETTER`, under `NAME_better` the share of pairs in which it is strictly
        better than that of `against`; None for `against` itself.

    Raises:
        ValueError: no row of `against`, a method with other pairs than `against`, a pair twice.

    Example:
        >>> rows = [{"method": m, "pair": p, "mse": e} for m, p, e in (("a", 1, 2.0), ("b", 1, 1.0))]
        >>> compared(rows, "a")[1]
        {'method': 'b', 'pairs': 1, 'mse': 1.0, 'mse_better': 1.0}
    """
    methods = list(dict.fromkeys(row["method"] for row in rows))
    found = {method: _by_pair(rows, method) for method in methods}
    if against not in found:
        raise ValueError(f"against is {against!r}; expected one of {', '.join(map(repr, methods))}")
    for method, ours in found.items():
        if ours.keys() != found[against].keys():
            raise ValueError(
                f"{method!r} has {len(ours)} pairs, {against!r} has {len(found[against])} or other ones; "
                "expected the same pairs of every method"
            )
    return [
        _summary(method, found[method], None if method == against else found[against]) for method in methods
    ]


def _by_pair(rows: Sequence[Row], method: str) -> dict[object, Row]:
    ours = [row for row in rows if row["method"] == method]
    by_pair = {row["pair"]: row for row in ours}
    if len(by_pair) < len(ours):
        raise ValueError(f"{method!r} has {len(ours)} rows for {len(by_pair)} pairs; expected one a pair")
    return by_pair


def _summary(method: str, ours: dict[object, Row], theirs: dict[object, Row] | None) -> Row:
    summary: Row = {"method": method, "pairs": len(ours)}
    for name in next(iter(ours.values())):
        if name in ("method", "pair"):
            continue
        summary[name] = float(np.median([row[name] for row in ours.values()]))
        if name in BETTER:
            wins = (
                [BETTER[name] * (row[name] - theirs[pair][name]) > 0 for pair, row in ours.items()]
                if theirs
                else []
            )
            summary[f"{name}_better"] = float(np.mean(wins)) if theirs else None
    return summary
