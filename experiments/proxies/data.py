"""Cut clips to train and to test on: pieces of recordings and of shaped noise, at random levels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.proxies import config
from jaxapf import audio, datasets

Rng = np.random.Generator


def recordings(data: Path | None, names: Sequence[str]) -> list[np.ndarray]:
    """Read mono recordings (n_samples,) at the experiment's rate, each with a peak of one.

    Args:
        data: folder with speech/ and loops/; None for the embedded recording.
        names: relative to it, without ".flac".

    Raises:
        AudioError: a file is missing or unreadable.
    """
    paths = [datasets.example_pair()[0]] if data is None else [data / f"{name}.flac" for name in names]
    found = []
    for path in paths:
        x, fs = audio.read(path)
        mono = audio.resample(x.mean(axis=0), fs, config.FS).astype(np.float32)
        found.append(mono / max(float(np.max(np.abs(mono))), config.SILENT))
    return found


def noise(rng: Rng, n_samples: int) -> np.ndarray:
    """Return noise of a random slope, up to -12 dB an octave, whose level moves about, (n_samples,)."""
    spectrum = np.fft.rfft(rng.standard_normal(n_samples))
    bins = np.maximum(np.arange(len(spectrum)), 1.0 + 20.0 * n_samples / config.FS)
    x = np.fft.irfft(spectrum * bins ** -rng.uniform(0.0, 2.0), n_samples)
    places = np.sort(rng.uniform(0, n_samples, rng.integers(2, 12)))
    level_db = np.interp(np.arange(n_samples), places, rng.uniform(-50.0, 0.0, len(places)))
    x = x * 10 ** (level_db / 20)
    return x / np.max(np.abs(x))


def clip(rng: Rng, sources: Sequence[np.ndarray], n_samples: int, noises: float) -> np.ndarray:
    """Cut one clip (n_samples,), float32: noise, or a piece of a recording that is not silent.

    Args:
        rng: what it is made from.
        sources: of `recordings`; those that are too short are repeated.
        n_samples: of the clip.
        noises: share of noise.
    """
    if rng.uniform() < noises:
        x = noise(rng, n_samples)
    else:
        source = sources[int(rng.integers(len(sources)))]
        source = np.tile(source, -(-n_samples // len(source)))
        for _ in range(20):
            start = int(rng.integers(len(source) - n_samples + 1))
            x = source[start : start + n_samples]
            if np.sqrt(np.mean(x**2)) > config.SILENT:
                break
    peak = max(float(np.max(np.abs(x))), config.SILENT)
    x = x * (10 ** (rng.uniform(*config.LOUDNESS_DB) / 20) / peak)
    return (x + config.FLOOR * rng.standard_normal(n_samples)).astype(np.float32)


def batch(
    words: Sequence[int], sources: Sequence[np.ndarray], shape: tuple[int, int], controls: int, noises: float
) -> dict[str, np.ndarray]:
    """Return clips `dry` (n, n_samples) and `raw` (n, controls) in [-1, 1]; the words are the seed."""
    rng = np.random.default_rng(words)
    dry = np.stack([clip(rng, sources, shape[1], noises) for _ in range(shape[0])])
    return {"dry": dry, "raw": rng.uniform(-1.0, 1.0, (shape[0], controls)).astype(np.float32)}
