"""Players in notebooks."""

from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np

from jaxapf.notebooks import tables
from jaxapf.notebooks.recordings import Mistake
from jaxapf.report import players

__all__ = ["listen"]


def listen(signals: Mapping[str, Any], fs: int, *, start_s: float = 0.0, seconds: float = 10.0) -> None:
    """Show a player for each signal (..., n_samples) by label, all equally loud, with the gain applied.

    The excerpt begins at `start_s` and lasts at most `seconds`; Mistake if a signal ends before it.
    """
    first, last = round(start_s * fs), round((start_s + seconds) * fs)
    cut = {label: (np.atleast_2d(x)[:, first:last].astype(float), fs) for label, x in signals.items()}
    for label, (x, _) in cut.items():
        if not x.size:
            raise Mistake(f"'{label}' ends before {start_s:g} s; listen from an earlier time.")
    rows = "".join(
        f'<tr><td>{escape(label)}</td><td><audio controls preload="auto" style="width:320px" '
        f'aria-label="{escape(label)}" src="data:audio/flac;base64,{one.data}"></audio></td>'
        f"<td>{one.gain}</td></tr>"
        for label, one in players.separate(cut).items()
    )
    tables.display(f"<table><tbody>{rows}</tbody></table>")
