"""What the experiment trains and measures, and what to expect. Seeds: 0 on."""

from __future__ import annotations

from typing import NamedTuple

# The protocol: Yu et al. 2024, section 4.1, and the authors' repository
PAPER_STEPS = 10_000
RATES = {
    "spectra": (2e-3, 5e-4),
    "rate": (5e-3, 5e-4),
    "nothing": (5e-3, 5e-4),
}  # of Adam, at first and at last
CLIP_NORM = 0.5
TRAIN_S = 5.0  # one batch
WINDOWS_MS = (10.0, 40.0, 160.0)
STEPS = 600
SEEDS = 2
RANDOM = 1  # seeds of the starts with less information
LOG_EVERY = 10
SHAPE_STEPS, SHAPE_POINTS = 60, 129  # of Levenberg-Marquardt, to give the waveshaper its first form
SHAPE_TRIES, SHAPE_ERROR = 4, 1e-5  # mean square, of a waveshaper between -1 and 1
SIGMA_PER_HOP = 0.6  # the damping with which the authors' oscillator begins

# Goals, ESR in per cent on the guitar, tested as recursion
GOAL_KNOWN = 0.01
GOALS = {"slow_mild": 1.0, "fast_feedback": 5.0}
GOAL_SPEED = 2.0

# The paper's figures, hardware, tested as recursion: lowest and highest of the table
PAPER = {"slow_mild": (1.3, 2.6), "fast_feedback": (8.0, 23.0)}

SETTINGS = ("slow_mild", "fast_feedback")  # of the shared recordings


class Target(NamedTuple):
    """A known phaser; its oscillator moves the logarithm of the cutoff between two of them."""

    name: str
    stages: int
    feedback: float
    delay: int
    through: float
    around: float
    wave: str  # "sine" or "triangle"
    rate_hz: float
    phase: float
    low_hz: float
    high_hz: float


TARGETS = (
    Target("four", 4, 0.0, 0, 0.7, 0.7, "sine", 0.6, 0.4, 250.0, 2500.0),
    Target("four_closed", 4, 0.5, 0, 0.6, 0.5, "triangle", 0.9, 2.0, 300.0, 3000.0),
    Target("six_delayed", 6, -0.4, 1, 0.5, 0.6, "sine", 1.3, -1.0, 200.0, 4000.0),
)


class SmallStone(NamedTuple):
    """The public set: seconds of chirps at the beginning, and of the test after them."""

    chirps_s: float = 60.0
    test_s: float = 10.0


class Knobs(NamedTuple):
    """Settings of one recording of it, with the authors' seconds of training and window."""

    colour: int
    rate: int  # o'clock
    train_s: float
    window_ms: float


SMALL_STONE = SmallStone()
KNOBS = (
    Knobs(0, 3, 5.0, 40.0),
    Knobs(0, 12, 5.0, 160.0),
    Knobs(0, 9, 15.0, 640.0),
    Knobs(1, 3, 5.0, 40.0),
    Knobs(1, 12, 5.0, 160.0),
    Knobs(1, 9, 25.0, 640.0),
)

# Other layouts, fitted to the training signals
LAYOUTS = ((4, 0), (4, 1), (5, 0), (6, 0), (6, 1), (8, 0), (8, 1), (12, 1))  # stages, delay of the feedback
LAYOUT_STEPS = 20  # of Levenberg-Marquardt
TERMS = 8  # of the polynomial that shapes the oscillator

# Speed
SPEED_FS = 44_100
ROUNDS = 12

# Pictures and page
PICTURE_S = 3.0
LISTEN_S = 8.0
