"""A fitted model in other programs' formats."""

from typing import Any

import numpy as np

from jaxapf._internal.version import __version__

__all__ = ["to_json", "to_sos"]


def to_json(alignment: Any) -> str:
    """Return the model as JSON, the text that `Alignment.save` writes."""
    return alignment.dumps()


def to_sos(alignment: Any) -> str:
    """Return the cascade as text: one row `b0 b1 b2 a0 a1 a2` a section, 17 digits (exact in float64).

    Comments give what the rows lack: wet = polarity * sosfilt(sos, dry delayed by delay_samples).
    """
    sos = np.asarray(alignment.sos, np.float64).reshape(-1, 6)
    comments = [
        f"jaxapf {__version__}: cascade of {len(sos)} all-pass sections",
        f"sample_rate_hz: {alignment.fs}",
        f"delay_samples: {alignment.delay_samples:.17g} (positive: the dry signal is delayed)",
        f"polarity: {alignment.polarity:+d}",
        "columns: b0 b1 b2 a0 a1 a2, one section a row; read with numpy.loadtxt(file, ndmin=2)",
    ]
    if not len(sos):
        comments.append("no sections: the row below changes nothing")
        sos = np.array([[1.0, 0.0, 0.0, 1.0, 0.0, 0.0]])
    rows = (" ".join(f"{value:.17g}" for value in row) for row in sos)
    return "".join(f"# {line}\n" for line in comments) + "".join(f"{row}\n" for row in rows)
