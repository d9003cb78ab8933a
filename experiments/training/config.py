"""What the experiment trains and measures, and the goals to compare with.

Run time on two CPU cores: train about 10 s; measure about 10 min, half of it the twenty kills. Expected
figures: the tables in README.md and tables.md. Seed: 0.
"""

from __future__ import annotations

from typing import NamedTuple

SEED = 0

# The cascade, as in Bargum et al. 2023: three warped second-order sections and a warped first-order one.
SECOND_ORDER, FIRST_ORDER = 3, 1
LENGTH = 8192  # samples of a sequence
BATCH = 16  # sequences
RATE = 1e-3
STEPS, LOG_EVERY, SAVE_EVERY = 600, 20, 100

# Goals
OVERHEAD = 0.02  # of the training layer against a bare jitted loop, at STEP_S
STEP_S = 0.010
SAME = 1e-6  # relative difference between one device or process and several, after 20 steps
KILLS = 20
DEATH_S = 60.0  # a process notices that another one died


class Accelerator(NamedTuple):
    """Attainable figures of one device: operations and bytes a second, latency of one exchange in seconds.

    `link` is each device's share of the fabric inside an island of so many devices, `wide_link` beyond.
    """

    flops: float
    memory: float
    island: int
    link: float
    wide_link: float
    latency: float


# Half of what the makers print for float32 (on the TPU three passes of bfloat16), full bandwidths, and
# 5 us for each of the 2 log2(n) exchanges.
ACCELERATORS = {
    "H200": Accelerator(33e12, 4.8e12, 8, 450e9, 50e9, 5e-6),
    "TPU v5e": Accelerator(33e12, 0.82e12, 256, 100e9, 100e9, 5e-6),
}
PROJECTED_ROWS = (16, 256, 4096)
