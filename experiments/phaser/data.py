"""Read the recordings to train on and to test on."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.phaser import config, known
from jaxapf import audio, datasets


class Device(NamedTuple):
    """A phaser to learn: signals (n_samples,), float64. Its oscillator begins with the first sample of each.

    ``skip``: samples of the test that are run but not measured, since they were trained on.
    """

    name: str
    fs: int
    dry: np.ndarray
    wet: np.ndarray
    test_dry: np.ndarray
    test_wet: np.ndarray
    skip: int
    windows_ms: tuple[float, ...]
    truth: config.Target | None = None


def shared(folder: Path) -> list[Device]:
    """Read the two settings of the shared recordings: chirps to train on, a guitar to test on.

    Args:
        folder: of the shared data, with `phaser/` in it.

    Returns:
        Two devices.

    Raises:
        ValueError: files that are missing, too short or do not fit.
    """
    chirps, guitar = (folder / "phaser" / f"{name}_dry.flac" for name in ("chirps", "guitar"))
    found = []
    for setting in config.SETTINGS:
        dry, wet, fs = pair(chirps, folder / "phaser" / f"chirps_{setting}_wet.flac")
        test_dry, test_wet, test_fs = pair(guitar, folder / "phaser" / f"guitar_{setting}_wet.flac")
        _same_rate(guitar, test_fs, fs)
        n = samples(dry, config.TRAIN_S, fs, chirps)
        found.append(Device(setting, fs, dry[:n], wet[:n], test_dry, test_wet, 0, config.WINDOWS_MS))
    return found


def targets(folder: Path) -> list[Device]:
    """Render phasers with known parameters from the same chirps and the same guitar.

    Raises:
        ValueError: files that are missing or too short.
    """
    chirps, fs = mono(folder / "phaser" / "chirps_dry.flac")
    guitar, guitar_fs = mono(folder / "phaser" / "guitar_dry.flac")
    _same_rate(folder / "phaser" / "guitar_dry.flac", guitar_fs, fs)
    dry = chirps[: samples(chirps, config.TRAIN_S, fs, folder / "phaser" / "chirps_dry.flac")]
    return [
        Device(
            f"known_{target.name}",
            fs,
            dry,
            known.rendered(target, dry, fs),
            guitar,
            known.rendered(target, guitar, fs),
            0,
            (),
            target,
        )
        for target in config.TARGETS
    ]


def small_stone(folder: Path, lengths: config.SmallStone | None = None) -> list[Device]:
    """Read the recordings of an EHX Small Stone: the end of the chirps to train on, then the test.

    The oscillator runs on from the chirps into the test, so a test begins where the training began.

    Args:
        folder: with `input_dry.wav` and `colour={0,1}_rate={3,12,9}oclock.wav`.
        lengths: of chirps and test in seconds; None for those of the public set.

    Returns:
        A device for each recording.

    Raises:
        ValueError: the folder or the files are missing, of different rates, or too short.

    Source: Wright and Valimaki 2021 (the recordings); Yu et al. 2024 (how they are divided).
    """
    lengths = config.SMALL_STONE if lengths is None else lengths
    known = {(knobs.colour, knobs.rate): knobs for knobs in config.KNOBS}
    return [
        _knobs(known[one.colour, one.rate], one.dry, one.wet, lengths) for one in datasets.small_stone(folder)
    ]


def _knobs(knobs: config.Knobs, dry_path: Path, path: Path, lengths: config.SmallStone) -> Device:
    dry, wet, fs = pair(dry_path, path)
    end = round(lengths.chirps_s * fs)
    start = max(0, end - round(knobs.train_s * fs))
    stop = min(len(dry), end + round(lengths.test_s * fs))
    if stop <= end:
        raise ValueError(
            f"'{path}' lasts {len(dry) / fs:.1f} s; expected {lengths.chirps_s:g} s of chirps and a test"
        )
    return Device(
        f"colour_{knobs.colour}_rate_{knobs.rate}",
        fs,
        dry[start:end],
        wet[start:end],
        dry[start:stop],
        wet[start:stop],
        end - start,
        (knobs.window_ms,),
    )


# Files


def mono(path: Path) -> tuple[np.ndarray, int]:
    """Read a recording of one channel `(n_samples,)` and its rate.

    Raises:
        ValueError: it cannot be read, or has several channels.
    """
    x, fs = audio.read(path)
    if len(x) != 1:
        raise ValueError(f"'{path}' has {len(x)} channels; expected one")
    return x[0].astype(np.float64), fs


def pair(dry_path: Path, wet_path: Path) -> tuple[np.ndarray, np.ndarray, int]:
    """Read a dry and a wet recording, cut to the shorter one, and their rate.

    Raises:
        ValueError: they cannot be read, or their rates differ.
    """
    dry, fs = mono(dry_path)
    wet, wet_fs = mono(wet_path)
    _same_rate(wet_path, wet_fs, fs)
    n = min(len(dry), len(wet))
    return dry[:n], wet[:n], fs


def samples(x: np.ndarray, seconds: float, fs: int, path: Path) -> int:
    """Return seconds as samples.

    Raises:
        ValueError: the signal is shorter.
    """
    n = round(seconds * fs)
    if len(x) < n:
        raise ValueError(f"'{path}' lasts {len(x) / fs:.2f} s; expected at least {seconds:g} s")
    return n


def _same_rate(path: Path, fs: int, expected: int) -> None:
    if fs != expected:
        raise ValueError(f"'{path}' has {fs} Hz and its dry recording {expected} Hz; resample one of them")
