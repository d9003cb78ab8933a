"""What the experiment trains, and what to expect.

Settings are for two CPU cores. Expected figures: the tables in README.md.
"""

from __future__ import annotations

from jaxapf import losses
from jaxapf.effects.style.network import Design

SEEDS = 3
DESIGN = Design()
READER_STEPS = 3000  # from random settings alone, before the training
PASSES = 2  # how often the network is evaluated
RATE = 1e-3  # of AdamW, after a warm-up, falling along a cosine
RATE_AGAIN = 6e-4  # from CYCLE on
CYCLE = 6000  # steps
WARM_UP = 50  # steps
WEIGHT_DECAY = 1e-4
CLIP = 1.0  # of the gradient's norm
BATCH = {0.53: 16, 5.0: 8}  # examples, by seconds of a clip
STEPS = {0.53: 350, 5.0: 12_000}  # likewise; the second is the network that is shipped

PROXIES = ("proxy-equalizer-cnn", "proxy-compressor-cnn")  # of jaxapf.training.pretrained

COLOUR = {0.53: 0.0, 5.0: 0.6}  # share of the equaliser's gains that clips are coloured by before the task

# Seed 004: MAE and MR-STFT of these windows; hops of half a window, transforms as long as the window.
RESOLUTIONS = tuple(losses.Resolution(n, n // 2, n) for n in (32, 128, 512, 2048))
LOSS_SAMPLES = 12_000  # of each example that the loss is taken of
LEVEL_CHANGE_DB = 6.0  # the effects change the level by at most so much, by their make-up gain

TEST_CLIPS = {0.53: 120, 5.0: 60}
TEST_SEED = 99
