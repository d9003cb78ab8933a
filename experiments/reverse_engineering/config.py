"""What is hidden, how it is looked for, and what counts as recovered.

Seeds: of the hidden settings, 0 to 7; of the starts, STARTS.
"""

from __future__ import annotations

from jaxapf.params import Control

SEEDS = 8
FS = 24_000  # what is fitted at; a clip is resampled to it
CLIP_S = 2.0  # of the clip, its first, are used
CHUNK_S = 0.5  # its beginning, which is fitted first

# What is known of the chain; all else is hidden. The drive lies where tanh bends the clip at all.
KNOWN = {
    "distortion": {"offset": 0.0, "mix": 1.0, "output_db": 0.0},
    "equalizer": {},
    "compressor": {"average_ms": 1.0, "lookahead_ms": 0.0},
}
NARROWER = {"drive_db": Control("drive_db", "dB", 0.0, 30.0)}
EDGE = 0.8  # of the ranges, in a network's output, within which settings are hidden
BENT = 1.5  # raw = tanh(theta / BENT)

# The search, by Adam
STARTS = 6
FIRST_STEPS = 250  # on the chunk, from every start
THEN_STEPS = 1500  # on the chunk, from the best
LAST_STEPS = 60  # on the whole clip
RATE = 0.08
LAST_RATE = 0.01

# What counts as recovered, over the whole clip
RECOVERED_ESR = 1e-3
RECOVERED_EQ_DB = 0.5  # root mean square of the difference between responses, 50 Hz to 10 kHz
