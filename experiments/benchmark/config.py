"""What the experiment measures: sizes, repeats, and the goals to compare with.

Seed: 0. Run time: about 9 min on two CPU cores; with `--quick` (tiny sizes, figures that say nothing) 1.5 to
2.5 min, most of it compiling.

Expected figures: the tables in README.md. Ratios of the same run are what to compare; milliseconds depend on
the machine and on what else runs there.
"""

from __future__ import annotations

from typing import NamedTuple

SEED = 0
FS = 48_000
SECTIONS = 4

# Radii and frequencies of a cascade's sections, spread between these. The slowest pole decays by 160 dB in
# 1833 samples, so that frequency sampling over twice the signal is exact enough for every full size.
RADII = (0.9, 0.99)
CUTOFFS_HZ = (100.0, 12_000.0)

# Time-varying all-pole filters: reflection coefficients that swing this far, this many times in a signal.
REFLECTION = 0.5
SWINGS = (1.0, 8.0)


class Panel(NamedTuple):
    """One panel of the picture: which of batch, n_samples and n_sections takes which values."""

    axis: str
    values: tuple[int, ...]
    batch: int = 1
    n_samples: int = 65_536
    n_sections: int = SECTIONS
    gradient: bool = False


class Settings(NamedTuple):
    """Sizes and patience.

    cascade, effects: (batch, n_samples). allpole: (batch, n_samples, order).
    memory: (batch, n_samples) for both of the filters whose memory is measured.
    rounds, seconds: every function is called `rounds[0]` times at least and then until it has taken
        `seconds` or has been called `rounds[1]` times; growth has its own `growth_seconds`.
    copied_bytes: size of the array whose copy stands for the device's bandwidth.
    """

    cascade: tuple[tuple[int, int], ...]
    allpole: tuple[tuple[int, int, int], ...]
    effects: tuple[tuple[int, int], ...]
    memory: tuple[int, int]
    growth: dict[str, Panel]
    rounds: tuple[int, int]
    seconds: float
    growth_seconds: float
    copied_bytes: int


LENGTHS = tuple(2**n for n in range(9, 22, 2))

FULL = Settings(
    cascade=((512, 2048), (16, 65_536), (1, 1_920_000)),
    allpole=((32, 48_000, 2), (1, 480_000, 2), (8, 65_536, 4)),
    effects=((16, 65_536), (4, 131_072)),
    memory=(16, 262_144),
    growth={
        "length": Panel("n_samples", LENGTHS),
        "length, gradient": Panel("n_samples", LENGTHS, gradient=True),
        "order": Panel("n_sections", (1, 2, 4, 8, 16, 32, 64)),
        "batch": Panel("batch", (1, 2, 8, 32, 128, 512), n_samples=8192),
    },
    rounds=(3, 40),
    seconds=1.5,
    growth_seconds=0.3,
    copied_bytes=2**28,
)

QUICK = Settings(
    cascade=((4, 512), (1, 2048)),
    allpole=((2, 512, 2), (1, 512, 4)),
    effects=((2, 2048),),
    memory=(2, 8192),
    growth={
        "length": Panel("n_samples", (256, 1024)),
        "length, gradient": Panel("n_samples", (256, 1024), gradient=True),
        "order": Panel("n_sections", (1, 4), n_samples=512),
        "batch": Panel("batch", (1, 4), n_samples=512),
    },
    rounds=(2, 3),
    seconds=0.01,
    growth_seconds=0.01,
    copied_bytes=2**20,
)

# On a GPU a step of a loop in time costs about 10 us however small it is: what needs more steps is left out.
MAX_GPU_STEPS = 2**17

# Goals, for two CPU cores. Speeds are ratios of the fastest repeats.
SCIPY_SPEED = 1.5  # cascade, auto: times the speed of SciPy in float32
FSM_SPEED = {(512, 2048): 2.0, (1, 1_920_000): 15.0}  # cascade, auto: times our own frequency sampling's
GRADIENT_COST = 3.0  # cascade, auto: value and gradient, in forward passes
LPC_SPEED, LPC_GRADIENT_SPEED = 1.0, 1.5  # allpole, auto: times torchlpc's
MEMORY = 6.0  # gradient, blocked: peak in multiples of the input

# Effects: how many times as fast as dasp-pytorch's, forward and gradient.
EFFECT_SPEED = {"equalizer": 5.0, "compressor": 2.0}
