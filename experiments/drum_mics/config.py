"""What the experiment trains and measures, and what to expect. Seed: 0."""

from __future__ import annotations

FS = 44_100
N_SAMPLES = 32_768  # of a recording in training
MAX_DELAY_MS = 20.0
SEED = 0
DESIGNS = {  # what differs from aligner.Design
    "cross-phase": {},
    "waves": {"width": 24, "depth": 10, "dilations": (1, 2, 4, 8, 16), "norm": "global", "pool": "mean"},
}
STEPS = {"cross-phase": 1600, "waves": 1200}
BATCH = {"cross-phase": 8, "waves": 8}  # pairs
CANDIDATES = {"cross-phase": 4, "waves": 2}  # delays of a pair that a step looks at
REUSE, LAG = 4, 250  # a pair is seen so many times, so many steps apart
RATE = 1e-3
WARM_UP = 100
CLIP_NORM = 1.0
WEIGHT_DECAY = 1e-4
LOG_EVERY, SAVE_EVERY = 50, 250
REFINING = 50  # steps of Levenberg-Marquardt after the network

# Pairs with a known cascade
KNOWN_PAIRS = 100
SLOW_PAIRS = 10  # of these for jaxapf.align and for refined answers
KNOWN_KEY = 1_000_001  # never trained on
EMPTY_OCTAVES = 1.0  # around the filter's frequency

# Goals
BETTER_IN = 0.8  # of the pairs
PAIR_S = 0.05
FASTER = 20.0
SIZE = 8_000_000
