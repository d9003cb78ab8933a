"""What the experiment trains, measures and expects.

Commands (DIR is the folder of recordings, with speech/ and loops/; without --data the embedded recording):
    python experiments/proxies/run.py train --data DIR       the four proxies, one after the other; resumes
    python experiments/proxies/run.py evaluate --data DIR    their errors, into results/
    python experiments/proxies/run.py report                 tables and pictures from results/
    python experiments/proxies/run.py store                  the networks into checkpoints/

Run times and figures: README.md. Seeds: SEED of the training, TEST_SEED of the controls that are measured.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from jaxapf.losses import Resolution

FS = 24_000
SEED = 0
TEST_SEED = 1000

# Recordings, by folder and name, that training never hears
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
LOUDNESS_DB = (-30.0, 0.0)  # of a clip's peak
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
    """A training: which network of `jaxapf.proxies`, how many clips of how many samples, steps, rate."""

    kind: str
    batch: int
    n_samples: int
    steps: int
    rate: float
    sizes: dict[str, Any] = {}


SETTINGS = {
    "compressor-cnn": Setting("cnn", 6, 12_288, 2000, 3e-3),
    "equalizer-cnn": Setting("cnn", 8, 8192, 2000, 3e-3),
    "compressor-tcn": Setting("tcn", 4, 12_288, 1200, 2e-3),
    "equalizer-tcn": Setting("tcn", 8, 6144, 1200, 2e-3),
}
