"""What the experiment trains, fits and measures, and what to expect.

Nothing here is random but the noise that `speed` filters (seed 0).
"""

from __future__ import annotations

from typing import NamedTuple

TRAINED_PART = 2 / 3  # of a recording; the rest is for the test


class Known(NamedTuple):
    """A feed-forward compressor of Yu et al. 2024, table 3: what is to be recovered."""

    threshold_db: float
    ratio: float
    attack_ms: float
    release_ms: float
    average: float  # coefficient per sample
    makeup_db: float


KNOWN = {
    "FF-A": Known(-20.0, 3.0, 1.0, 100.0, 0.03, 0.0),
    "FF-B": Known(-20.0, 5.0, 30.0, 30.0, 0.03, 0.0),
    "FF-C": Known(-20.0, 8.0, 0.1, 200.0, 0.03, 0.0),
}
FORMS = ("recursion", "sampling")

# The protocol: mean absolute error after a pre-filter, and where training starts
PREFILTER_POLE = 0.995
START = Known(-10.0, 2.0, 50.0, 50.0, 0.3, 0.0)

# Ours: Adam on the logarithms, the rate falling to nothing along half a cosine
STEPS = {"recursion": 2000, "sampling": 300}  # a step through sampling takes several times as long
RATE = 0.1

DEVICES = {
    "mix_pedalboard_medium": "pedalboard.Compressor: 8 and 120 ms, −24 dB, ratio 4",
    "mix_sc4_soft_rms": "SC4: 20 and 200 ms, −22 dB, ratio 6, knee 4, half RMS",
}

GOALS = {"known": 1.5e-4, "parameters": 0.02, "devices": 0.01, "speed": 2.0}
EXPECTED = {"known": 1e-8, "mix_pedalboard_medium": 1e-11, "mix_sc4_soft_rms": 0.0045}

# Shapes of the speed table: signals, samples each at 44.1 kHz
SHAPES = ((1, 44_100), (1, 352_800), (8, 44_100), (16, 44_100), (1, 705_600))
REPEATS = 15

# Pictures
MOMENT_S = (0.4, 2.4)  # of the gain curves
SHARED = 96  # samples whose gain is read off two recordings together
QUIET_DB = -60.0  # below, such a gain is rounding
