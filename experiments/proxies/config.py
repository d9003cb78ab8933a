"""What the experiment trains, measures and expects.

Seeds: SEED of the training, TEST_SEED of the controls that are measured.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from jaxapf.losses import Resolution

FS = 24_000
SEED = 0
TEST_SEED = 1000

# Recordings, by folder and name, that training does not use
TEST = ("speech/librivox_16k", "loops/guitar_e_fifths", "loops/drum_breakbeat")
TRAINED = (
    "speech/commands_16k",
    "speech/prompts_en_female_16k",
    "speech/espeak_24k",
    "loops/drum_kit_breakbeat",
    "loops/bass_fingered",
    "loops/guitar_em9",
    "loops/acid_bassline",
)

# Clips
LOUDNESS_DB = (-36.0, 12.0)  # of a peak; above 0 too, for an equaliser may come before a compressor
SILENT = 1e-3  # RMS of a clip below which another is cut
FLOOR = 1e-5  # RMS of noise under every clip, so that no band is empty
NOISES = 0.25  # share of the clips that are shaped noise

# Loss: of both signals made as loud as this, so that a soft clip counts as much as a loud one
RMS = 0.1
RESOLUTIONS = tuple(Resolution(window, window // 4, window) for window in (32, 128, 512, 2048))
MAE_WEIGHT = 10.0

LOG_EVERY = 50
SAVE_EVERY = 200
CLIP_NORM = 1.0
WARM_UP = 50


class Setting(NamedTuple):
    """A training: kind of network, clips a batch, samples a clip, steps, rate."""

    kind: str
    batch: int
    n_samples: int
    steps: int
    rate: float
    sizes: dict[str, Any]


SETTINGS = {
    "equalizer-cnn": Setting(
        "cnn", 16, 4096, 7000, 3e-3, {"channels": 16, "hidden": (192, 192), "taps": 1536}
    ),
    "compressor-cnn": Setting("cnn", 5, 12_288, 6000, 3e-3, {}),
    "equalizer-tcn": Setting("tcn", 8, 4096, 5000, 2e-3, {}),
    "compressor-tcn": Setting("tcn", 4, 8192, 3000, 2e-3, {}),
}

# Measuring
TEST_CLIPS = 240
TEST_SAMPLES = 12_800
AT_ONCE = 16
SHAPES = ((8, 6400), (8, 30_000))
REPEATS = 5
PICTURE_SEED = 7
SHOWN = 4  # settings of the equaliser
# threshold_db, ratio, attack_ms, release_ms, knee_db, makeup_db
COMPRESSIONS = (
    (-30.0, 4.0, 10.0, 100.0, 6.0, 6.0),
    (-20.0, 8.0, 1.0, 300.0, 0.0, 3.0),
    (-45.0, 2.0, 40.0, 50.0, 12.0, 10.0),
)
EVERY = 48  # samples from one point of a gain curve to the next
