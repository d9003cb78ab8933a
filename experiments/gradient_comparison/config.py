"""What is compared, on what, and what to expect.

Seed: SEED. Run time and expected figures: README.md.
"""

from __future__ import annotations

from typing import NamedTuple

SEED = 0
FS = 48_000.0


class Settings(NamedTuple):
    """Sizes; `QUICK` has smaller ones."""

    draws: int = 8  # of noise and of frequencies; tables show medians
    n_samples: int = 4096
    n_sections: int = 4  # order 8
    radii: tuple[float, ...] = (
        *(0.5, 0.7, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9998),
        *(0.9999, 0.99995, 0.99998, 0.99999),
    )
    lengths: tuple[int, ...] = (256, 1024, 4096, 16384, 65536)
    length_radii: tuple[float, ...] = (0.9, 0.97, 0.99, 0.997, 0.999, 0.9997, 0.9999, 0.99997, 0.99999)
    padding_radii: tuple[float, ...] = (0.99, 0.999, 0.9997, 0.9999)
    padding_constants: tuple[float, ...] = (0.5, 1.0, 2.0, 3.0, 5.0, 7.0, 9.0, 12.0)
    sections: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    order_radius: float = 0.999
    dtype_draws: int = 1
    dtype_radii: tuple[float, ...] = (0.9, 0.99, 0.999, 0.9999, 0.99999)
    near: tuple[float, ...] = (1.0, 0.3, 0.1, 0.03, 0.01)
    near_radius: float = 0.999
    # Moving
    moving_samples: int = 48_000
    moving_draws: int = 4
    hops: tuple[int, ...] = (16, 32, 64, 128, 256, 512, 1024)
    rates_hz: tuple[float, ...] = (0.0, 0.1, 0.5, 2.0, 8.0)
    moving_radii: tuple[float, ...] = (0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999)
    radius_hops: tuple[int, ...] = (64, 256, 1024)
    radius_rates_hz: tuple[float, ...] = (0.1, 2.0)
    lengthened: tuple[int, ...] = (2, 4, 8, 16, 32)  # n_fft in hops, the window always half of it
    # Cost
    cost_sizes: tuple[tuple[int, int], ...] = ((256, 4096), (1, 480_000))
    moving_cost: tuple[int, int] = (1, 96_000)
    rounds: tuple[int, int] = (5, 30)
    seconds: float = 1.0
    # Races
    box_s: float = 7.2
    race_sequences: tuple[tuple[int, int], ...] = ((512, 256), (2048, 64))  # samples, how many
    race_steps: int = 600
    race_starts: int = 3
    whole_steps: int = 400
    swing_samples: int = 24_000
    swing_hops: tuple[int, ...] = (64, 256, 1024)
    swing_steps: int = 300
    swing_draws: int = 3
    bare_starts: int = 32
    bare_steps: int = 500


QUICK = Settings(
    draws=2,
    n_samples=256,
    n_sections=2,
    radii=(0.9, 0.99, 0.999),
    lengths=(128, 256),
    length_radii=(0.9, 0.99),
    padding_radii=(0.99,),
    padding_constants=(1.0, 5.0),
    sections=(1, 2),
    dtype_draws=1,
    dtype_radii=(0.9,),
    near=(1.0, 0.1),
    moving_samples=2048,
    moving_draws=2,
    hops=(32, 64),
    rates_hz=(0.0, 2.0),
    moving_radii=(0.9, 0.99),
    radius_hops=(64,),
    radius_rates_hz=(2.0,),
    lengthened=(4, 8),
    cost_sizes=((2, 512), (1, 512)),
    moving_cost=(1, 512),
    rounds=(2, 2),
    seconds=0.0,
    box_s=0.5,
    race_sequences=((256, 4),),
    race_steps=4,
    race_starts=2,
    whole_steps=2,
    swing_samples=1024,
    swing_hops=(32,),
    swing_steps=4,
    swing_draws=2,
    bare_starts=3,
    bare_steps=4,
)

PADDINGS = (1, 2, 4)  # transforms of so many times the signal
LOWEST_HZ, HIGHEST_HZ = 50.0, 12_000.0  # of the frequencies drawn
# The answer is this far from where gradients are taken, in widths of the pole (forms.Offset).
NARROWING, SHIFT = 0.4, 0.5

# Moving sections: centres drawn in between, swing to either side, hop where the rest varies
CENTRES_HZ = (300.0, 3000.0)
DEPTH_OCTAVES = (0.5, 1.5)
MOVING_RADIUS = 0.9
MOVING_HOP = 64
MOVING_RATE_HZ = 2.0
MOVING_AWAY = 0.1  # of the answer, a standard deviation: log gap, octaves, octaves, radians

# Races
GOAL_DB = -40.0
RATE = 0.05  # of Adam, falling as a cosine to a tenth
BOX_ORDER = 8
BOX_AWAY = 0.5  # of the start, in the logarithms of the margins: a standard deviation
SWING_RADII = (0.9, 0.98)

# Bare coefficients: a known cascade
BARE_SAMPLES = 2048
BARE_SECTION = (0.9, 3000.0)  # radius, Hz
BARE_RATE = 0.01
BARE_GOOD = 0.01  # error-to-signal ratio
