"""A fitted model in other programs' formats."""

from typing import Any

import numpy as np

from jaxapf._internal.version import __version__


def to_json(alignment: Any) -> str:
    """Return the model as JSON, the text that `Alignment.save` writes.

    Example:
        >>> from types import SimpleNamespace
        >>> to_json(SimpleNamespace(dumps=lambda: '{"version": 1}'))
        '{"version": 1}'
    """
    return alignment.dumps()


def to_sos(alignment: Any) -> str:
    """Return the all-pass cascade as a table of second-order sections.

    One row a section, `b0 b1 b2 a0 a1 a2` as in SciPy, 17 significant digits (exact in float64).
    Lines that begin with `#` give sample rate, delay and polarity, which the rows do not contain:
    wet = polarity * sosfilt(sos, dry delayed by delay_samples). A model without sections has one
    row that changes nothing, `1 0 0 1 0 0`.

    Args:
        alignment: an `Alignment`: its `.sos` (n_sections, 6), `.fs` in Hz, `.delay_samples`, `.polarity`.

    Returns:
        Text that `numpy.loadtxt(file, ndmin=2)` reads.

    Example:
        >>> from types import SimpleNamespace
        >>> model = SimpleNamespace(sos=np.zeros((0, 6)), fs=48000, delay_samples=1.5, polarity=-1)
        >>> np.loadtxt(to_sos(model).splitlines(), ndmin=2)
        array([[1., 0., 0., 1., 0., 0.]])
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
