"""What the experiment trains, and what to expect.

Seeds: --seeds (first weights, batches), SPLIT_SEED, KNOWN_SEED. Another machine rounds otherwise, and 300
steps amplify that to about a hundredth.
"""

from __future__ import annotations

from jaxapf.params import Control

# The protocol, Yu et al. 2024, section 4.2, and the authors' released configuration
FS = 48_000
LENGTH = 6000  # samples of a note: 125 ms
LEAST = 4000  # samples that a note must have; the rest is silence
RATE = 1e-3  # of AdamW
WEIGHT_DECAY = 1e-2  # the default of the authors' framework
CLIP = 0.5  # of the gradient's norm
WINDOWS = (128, 256, 512, 1024, 2048, 4096)  # samples, hop a quarter, transform twice as long
FILTERS = ("coeff", "lp")

# Smaller than there, to fit two CPU cores: control rate, bands and the pools that follow from them, batch,
# steps (there 32, 128, six pools by two, 34, 1200). The network's parameters are as many.
HOP = 120  # samples between control frames: 2.5 ms
N_FFT = 1024
MELS = 64
CHANNELS = 64  # as there
DILATIONS = (1, 1, 2, 4, 8, 16)  # as there
POOLS = (4, 4, 2, 2, 1, 1)
BATCH = 8
STEPS = 300
CHECK = 25  # steps between looks at the validation notes

CUTOFF_HZ = Control("cutoff_hz", "Hz", 100.0, 12e3, "log")
Q = Control("q", "", 0.7071, 8.0, "log")
SHAPE = Control("shape", "", 0.0, 1.0)
GAIN = Control("gain", "", 0.01, 1.0)
DRIVE = Control("drive", "", 0.01, 4.0)
DECAY = Control("decay", "", 0.02, 6.0, "log")
GLOBALS = (SHAPE, GAIN, DRIVE, DECAY)

# Notes
F0_HZ = (30.0, 400.0)  # where fundamentals are looked for
SHARES = (0.6, 0.2, 0.2)  # training, validation, test
SPLIT_SEED = 42
KNOWN = 240  # notes with known parameters
KNOWN_SEED = 7
