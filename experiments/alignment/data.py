"""The recordings, which are no part of the repository.

The folder holds mono files, dry and wet of a pair equal in rate and length and starting at the same instant:

    blackbox/sweep_dry.flac                   log sweep, 20 Hz to 20 kHz in 10 s, 192 kHz, amplitude 0.5
    blackbox/loops_dry.flac                   music, 48 kHz, 44 s (drums, bass, guitar, synthesiser)
    blackbox/loops_dry_192k.flac              the same, shortened, 192 kHz, 24 s
    blackbox/BOX/sweep_wet.flac               the three of them through a device, BOX one of tape_gx,
    blackbox/BOX/loops_wet.flac                 tube_preamp_tilt, channel_strip_lsp (the device ran at
    blackbox/BOX/loops_wet_192k.flac            the rate of the file)
    drum_mics/NN_mic1.flac, NN_mic2.flac      NN = 00 to 39: one hit, two microphones, 44.1 kHz

The devices are plug-ins, wow, flutter and hiss off: guitarix 0.44.1 gxtape (drive 0.25, gain 0.5) and
gxtilttone (drive 0.02, level 1, tone 0.5, body 0.2); and, in series, x42 fil4 (20 Hz high-pass, Q 0.7), the
LSP multiband compressor in classic mode at ratio 1 with crossovers at 100, 632 and 3984 Hz, and TAP
TubeWarmth (drive 1.5). The drum hits are real, their rooms simulated (pyroomacoustics), and each microphone
has its own colour; 30 pairs are near and far, 10 are top and bottom with the second inverted.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxapf import audio

FILES = {
    "sweep": ("blackbox/sweep_dry.flac", "blackbox/{}/sweep_wet.flac"),
    "loops": ("blackbox/loops_dry.flac", "blackbox/{}/loops_wet.flac"),
    "loops_192k": ("blackbox/loops_dry_192k.flac", "blackbox/{}/loops_wet_192k.flac"),
    "drums": ("drum_mics/{}_mic1.flac", "drum_mics/{}_mic2.flac"),
}


class Pair(NamedTuple):
    """A dry and a wet recording (channels, n_samples), and their rate in Hz."""

    dry: np.ndarray
    wet: np.ndarray
    fs: int


def paths(data: Path, kind: str, name: str) -> tuple[Path, Path]:
    """Return the files of a pair: of a device, or of a number for `drums`.

    Example:
        >>> paths(Path("data"), "sweep", "tape_gx")[1].as_posix()
        'data/blackbox/tape_gx/sweep_wet.flac'
    """
    dry, wet = FILES[kind]
    return data / dry.format(name), data / wet.format(name)


def read(data: Path, kind: str, name: str) -> Pair:
    """Read a pair.

    Raises:
        AudioError: a file cannot be read, or the two differ in rate or length.
    """
    dry_path, wet_path = paths(data, kind, name)
    (dry, fs), (wet, wet_fs) = audio.read(dry_path), audio.read(wet_path)
    if fs != wet_fs or dry.shape != wet.shape:
        raise audio.AudioError(f"'{dry_path}' and '{wet_path}' differ in rate or length; restore them")
    return Pair(dry, wet, fs)


def halves(pair: Pair) -> tuple[Pair, Pair]:
    """Return the first and the second half of a pair, each a recording of its own."""
    middle = pair.dry.shape[-1] // 2
    first = Pair(pair.dry[:, :middle], pair.wet[:, :middle], pair.fs)
    return first, Pair(pair.dry[:, middle:], pair.wet[:, middle:], pair.fs)


def resampled(pair: Pair, fs: int) -> Pair:
    """Return a pair at another rate."""
    return Pair(audio.resample(pair.dry, pair.fs, fs), audio.resample(pair.wet, pair.fs, fs), fs)


def repeat(source: Path, path: Path, seconds: float) -> None:
    """Write a recording again and again until `seconds` are full."""
    x, fs = audio.read(source)
    n_samples = round(seconds * fs)
    with audio.open_writer(path, fs, len(x), n_samples=n_samples) as writer:
        while writer.n_samples < n_samples:
            writer.write(x[:, : n_samples - writer.n_samples])
