"""What tests filter and how they measure what comes out: one noise, one error, few sizes."""

import numpy as np
import pytest

# Every other length is another program to compile. One sample; two blocks and a bit; a superblock of blocks
# and a bit, the last neither full nor a whole number of blocks; several superblocks.
ONE, SHORT, MIDDLE, LONG = 1, 64, 257, 1501
SIZES = (ONE, SHORT, MIDDLE, LONG)
BATCH = 2


def noise(*shape, seed=0):
    """Gaussian noise, float64."""
    return np.random.default_rng(seed).standard_normal(shape)


def bursts(n=3000, seed=0):
    """Gaussian noise whose level jumps every 300 samples, over 50 dB."""
    rng = np.random.default_rng(seed)
    return np.repeat(10.0 ** rng.uniform(-2.5, 0, n // 300 + 1), 300)[:n] * rng.standard_normal(n)


def relative_rms(got, expected):
    """Root mean square error relative to the level of what was expected."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape
    return np.sqrt(np.mean(np.abs(got - expected) ** 2) / np.mean(np.abs(expected) ** 2))


def slow(*values):
    """Parameters of a test that `make test-all` runs, but not `make test`."""
    return pytest.param(*values, marks=pytest.mark.slow)
