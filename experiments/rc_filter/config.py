"""What the experiment trains, and what to expect.

Run time on two CPU cores: 8, 6 and 1 min of processor time for `rc_filter`, `--power 2` and `--order 7`;
one training takes 100 s with the spectral loss, 10 s with the MSE. Expected: EXPECTED below, and README.md.
"""

from __future__ import annotations

from typing import NamedTuple

# The circuit, Bargum et al. 2023, section 4.2
RESISTANCE = 120.0  # ohm
CAPACITANCE = 68e-9  # farad

# The protocol, section 5
FS = 192_000
SWEEP_S = 10.0
LENGTH = 2048  # samples of a sequence
BATCH = 512  # sequences
STEPS = 732  # 400 epochs of 937 sequences
FRACTION = 1 / 8  # of the bins of the spectral loss, as in the authors' released code
STARTS = (0, 1, 3)  # seeds; the first coefficients are 0.80, 0.12 and -0.44
PAPER_RATE = 1e-5  # of Adam
RATE = 1e-2  # one that arrives within as many steps
PARTS = {"mse": 1, "mstft": 8}  # of a batch, one after the other: the frames of all at once are slow


class Setting(NamedTuple):
    """A loss, a rate of Adam, and how many of the starts to train from."""

    loss: str
    rate: float
    starts: int


FIRST_ORDER = (
    Setting("mse", PAPER_RATE, 1),
    Setting("mse", RATE, 3),
    Setting("mstft", PAPER_RATE, 1),
    Setting("mstft", RATE, 3),
)
POWER_2 = (Setting("mstft", PAPER_RATE, 1), Setting("mstft", RATE, 3))
CASCADE = (Setting("mse", PAPER_RATE, 1), Setting("mse", RATE, 3), Setting("mstft", RATE, 1))


# Picture
MOMENTS_S = (0.0, 2.0, 7.0, 9.0)
PERIODS = 3

# Least over all sequences, and the goal: every run at RATE ends this close to it.
EXPECTED = {"mse": -0.1707, "mstft": -0.1328}
CLOSE = 1e-3
