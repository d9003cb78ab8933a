"""Recordings, players, pictures and tables for Jupyter and Colab.

    pair = recordings("embedded example")           # or the reader's own files, uploaded on Colab
    with progress("Aligning"):
        found = jaxapf.align(pair.dry, pair.wet, pair.fs, progress=True)
    listen({"dry": pair.dry, "wet": pair.wet}, pair.fs)

Needs IPython, and matplotlib for `picture`; both are imported on first use.
"""

from jaxapf._internal.text import decibels
from jaxapf.notebooks.pictures import picture, show_losses, show_mix, show_phase
from jaxapf.notebooks.players import listen
from jaxapf.notebooks.recordings import EMBEDDED, OWN, Mistake, Pair, excerpt, latency, not_silent, recordings
from jaxapf.notebooks.tables import offer, page, phase_row, progress, result, table

__all__ = [
    "EMBEDDED",
    "OWN",
    "Mistake",
    "Pair",
    "decibels",
    "excerpt",
    "latency",
    "listen",
    "not_silent",
    "offer",
    "page",
    "phase_row",
    "picture",
    "progress",
    "recordings",
    "result",
    "show_losses",
    "show_mix",
    "show_phase",
    "table",
]
