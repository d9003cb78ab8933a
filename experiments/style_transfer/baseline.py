"""Style transfer by rule, without learning: match the average spectrum, then the density, then the loudness.

    input -> FIR: smoothed spectrum of the reference over that of the input
          -> compressor: threshold down until the peaks are no higher above the loudness than the reference's
          -> gain: the loudness of the reference

After the baseline of Steinmetz et al. 2022, arXiv 2207.08759, section 5.1, with what made it better on
training recordings: a spectrum smoothed evenly over octaves, only a share of the difference, and no leftover
difference in loudness. The constants are tuned on training recordings (`tuning.py`); no control of an effect
is read.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.signal

from experiments.style_transfer.scores import loudness_db
from jaxapf.effects import compressor

FRAME = 2048  # of the average spectrum, samples
GRID = 8192  # frequencies of the filter's design
TAPS = 2048
LEVEL_HZ = 60.0  # lower frequencies count together, as one octave, for the mean gain of the filter
STEPS_DB = np.arange(18.0, -30.0, -1.5).astype(
    np.float32
)  # thresholds tried, against the level of the signal


class Rule(NamedTuple):
    """Constants of the baseline.

    ``octaves`` over which spectra are averaged; ``floor_db`` of a spectrum, against its highest band, below
    which nothing is to be matched; ``share`` of their difference that the filter makes up for;
    ``limit_db`` its most gain or loss; ``ratio``, ``attack_ms``, ``release_ms``, ``knee_db`` of the
    compressor; ``slack_db`` by which peaks may stand higher than the reference's.
    """

    octaves: float
    floor_db: float
    share: float
    limit_db: float
    ratio: float
    attack_ms: float
    release_ms: float
    knee_db: float
    slack_db: float


PAPER = Rule(
    1 / 3, -70.0, 1.0, 24.0, 3.0, 2.2, 110.0, 6.0, 0.5
)  # its compressor: time constants of 1 and 50 ms
# Without a compressor the short clips come out as well (1.2968, with it 1.2973): it stays, and hardly acts.
SHORT = Rule(2.0, -70.0, 0.6, 12.0, 1.5, 2.2, 110.0, 6.0, 4.0)
LONG = Rule(0.5, -70.0, 0.9, 24.0, 1.5, 2.2, 110.0, 6.0, 4.0)
LONG_SAMPLES = 24_000  # of a half: from here on the average spectrum says more


def rule_based(given: Any, reference: Any, fs: int, rule: Rule | None = None) -> np.ndarray:
    """Process each input so that it resembles its reference.

    Args:
        given: (n, n_samples) the inputs.
        reference: (n, n_samples_2) a reference each.
        fs: sample rate in Hz.
        rule: the constants; None takes `SHORT` or `LONG`, by length.

    Returns:
        (n, n_samples) float32.

    Raises:
        ValueError: the inputs and references are none, or not as many.
    """
    x, r = (np.asarray(one, np.float32) for one in (given, reference))
    if x.ndim != 2 or r.ndim != 2 or len(x) != len(r):
        raise ValueError(
            f"given has shape {x.shape} and reference {r.shape}; expected (n, n_samples), equal n"
        )
    rule = rule or (LONG if x.shape[-1] >= LONG_SAMPLES else SHORT)
    y = np.stack([filtered(one, other, fs, rule) for one, other in zip(x, r, strict=True)])
    y = np.stack([compressed(one, other, fs, rule) for one, other in zip(y, r, strict=True)])
    gain_db = loudness_db(r, fs) - loudness_db(y, fs)
    return (y * 10 ** (gain_db[:, None] / 20)).astype(np.float32)


# The spectrum


def filtered(x: np.ndarray, reference: np.ndarray, fs: int, rule: Rule) -> np.ndarray:
    """The input (n_samples,) through a minimum-phase FIR filter that lends it the reference's spectrum."""
    gain_db = rule.share * (average_db(reference, rule) - average_db(x, rule))
    hz = np.maximum(np.arange(len(gain_db)) * fs / GRID, LEVEL_HZ)
    gain_db -= np.average(gain_db, weights=1 / hz)  # over octaves: the level is matched last
    b = minimum_phase(np.clip(gain_db, -rule.limit_db, rule.limit_db))
    return scipy.signal.fftconvolve(x.astype(np.float64), b)[: len(x)].astype(np.float32)


def average_db(x: np.ndarray, rule: Rule) -> np.ndarray:
    """Average power spectrum (GRID // 2 + 1,) in dB, each bin the mean of so many octaves around it."""
    frame = min(FRAME, len(x))
    welch: Any = scipy.signal.welch  # whose type stub knows no detrend=False
    power = welch(x.astype(np.float64), nperseg=frame, noverlap=3 * frame // 4, detrend=False)[1]
    wanted = np.linspace(0, len(power) - 1, GRID // 2 + 1)
    total = np.concatenate([[0.0], np.cumsum(power)])
    # From half a bin below to half a bin above, at least; the integral of a staircase of bins.
    low = np.clip(np.minimum(wanted * 2 ** (-rule.octaves / 2), wanted - 1) + 0.5, 0, len(power) - 1)
    high = np.clip(np.maximum(wanted * 2 ** (rule.octaves / 2), wanted + 1) + 0.5, 1, len(power))
    edges = np.arange(len(total))
    mean = (np.interp(high, edges, total) - np.interp(low, edges, total)) / (high - low)
    return 10 * np.log10(np.maximum(mean, 10 ** (rule.floor_db / 10) * mean.max() + 1e-30))


def minimum_phase(gain_db: np.ndarray) -> np.ndarray:
    """The FIR filter (TAPS,) of least delay with these gains at GRID // 2 + 1 frequencies from 0 to fs / 2.

    The phase of such a filter is the Hilbert transform of the logarithm of its gain: the cepstrum, folded.
    """
    cepstrum = np.fft.irfft(gain_db * np.log(10) / 20, GRID)
    fold = np.zeros(GRID)
    fold[0] = fold[GRID // 2] = 1
    fold[1 : GRID // 2] = 2
    b = np.fft.irfft(np.exp(np.fft.rfft(cepstrum * fold)), GRID)[:TAPS]
    b[TAPS // 2 :] *= np.hanning(TAPS)[TAPS // 2 :]
    return b


# The density


def compressed(x: np.ndarray, reference: np.ndarray, fs: int, rule: Rule) -> np.ndarray:
    """The input (n_samples,) compressed no more than makes it as dense as the reference: peak over loudness.

    The paper brings both to one peak and lowers the threshold until the loudness is the reference's, which
    compares the same.
    """
    wanted = _peak_over_loudness(reference[None], fs)[0] + rule.slack_db
    if _peak_over_loudness(x[None], fs)[0] <= wanted:
        return x
    tried = np.asarray(_at_all_thresholds(rule, jnp.asarray(x), float(fs)))
    dense = np.flatnonzero(_peak_over_loudness(tried, fs) <= wanted)
    return tried[dense[0] if dense.size else np.argmin(_peak_over_loudness(tried, fs))]


@functools.partial(jax.jit, static_argnums=2)
def _at_all_thresholds(rule: Rule, x: jax.Array, fs: float) -> jax.Array:
    level_db = 10 * jnp.log10(jnp.maximum(jnp.mean(x * x), 1e-12))
    controls = compressor.Controls(
        level_db + STEPS_DB, rule.ratio, rule.attack_ms, rule.release_ms, knee_db=rule.knee_db
    )
    return compressor.compressor(controls, compressor.initial_state(), x, fs, smoothing="gain_db")[0]


def _peak_over_loudness(x: np.ndarray, fs: int) -> np.ndarray:
    peak = np.maximum(np.max(np.abs(x), axis=-1), 1e-9)
    return 20 * np.log10(peak) - loudness_db(x, fs)
