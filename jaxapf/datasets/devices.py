"""Recordings of devices by folder: the SignalTrain LA-2A compressor, an EHX Small Stone phaser."""

import itertools
import re
from pathlib import Path
from typing import NamedTuple

from jaxapf._internal.files import AudioError, PathLike

__all__ = ["SignalTrainPair", "SmallStonePair", "signaltrain", "small_stone"]

_TARGET = re.compile(r"target_(\d+)_LA2A_.*?__([01])__(\d+)\.wav", re.IGNORECASE)


class SignalTrainPair(NamedTuple):
    """An input, the device's output, and its settings: limit or compress, peak reduction 0 to 100."""

    dry: Path
    wet: Path
    limit: bool
    peak_reduction: int


def signaltrain(folder: PathLike) -> list[SignalTrainPair]:
    """List the pairs of a folder and the folders below it, by name: those whose input is present.

    The set has folders Train, Val and Test, with files input_NUMBER_.wav and
    target_NUMBER_LA2A_TAG__SWITCH__PEAKREDUCTION.wav: SWITCH is 0 (compress) or 1 (limit). AudioError without
    such a folder or pair.

    Source: Hawley, Colburn and Mimilakis 2019, "SignalTrain" (Zenodo 3824876).

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("input_143_.wav", "target_143_LA2A_3c__0__25.wav"):
        ...         _ = Path(folder, name).write_bytes(b"")
        ...     found = signaltrain(folder)
        >>> found[0].dry.name, found[0].limit, found[0].peak_reduction
        ('input_143_.wav', False, 25)
    """
    place = Path(folder)
    if not place.is_dir():
        raise AudioError(f"'{place}' is no folder; give that of SignalTrain LA-2A, or its Train, Val or Test")
    found = []
    for wet in sorted(place.rglob("target_*")):
        match = _TARGET.fullmatch(wet.name)
        dry = wet.with_name(f"input_{match[1]}_.wav") if match else wet
        if match and dry.is_file():
            found.append(SignalTrainPair(dry, wet, match[2] == "1", int(match[3])))
    if not found:
        raise AudioError(
            f"'{place}' has no target_NUMBER_LA2A_TAG__SWITCH__PEAKREDUCTION.wav with its input_NUMBER_.wav "
            "beside it; give the folder of SignalTrain LA-2A"
        )
    return found


class SmallStonePair(NamedTuple):
    """One setting: ``colour`` the switch, ``rate`` the knob's position in hours of a clock, the files."""

    colour: int
    rate: int
    dry: Path
    wet: Path


def small_stone(folder: PathLike) -> list[SmallStonePair]:
    """List the recordings of a folder: a minute of chirps, then music, through one setting each.

    The files are `input_dry.wav` and those present of `colour={0,1}_rate={3,12,9}oclock.wav`; AudioError if
    the folder or its files are missing.

    Source: Wright and Valimaki 2021 (the recordings); Yu et al. 2024 (how they are divided).

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("input_dry.wav", "colour=1_rate=9oclock.wav"):
        ...         _ = Path(folder, name).write_bytes(b"")
        ...     [(pair.colour, pair.rate, pair.wet.name) for pair in small_stone(folder)]
        [(1, 9, 'colour=1_rate=9oclock.wav')]
    """
    place, dry = Path(folder), Path(folder) / "input_dry.wav"
    if not place.is_dir():
        raise AudioError(f"'{place}' is not a folder; give the one that holds input_dry.wav")
    if not dry.is_file():
        raise AudioError(f"'{place}' holds no input_dry.wav; give the folder of the public set")
    found = [
        SmallStonePair(colour, rate, dry, wet)
        for colour, rate in itertools.product((0, 1), (3, 12, 9))
        if (wet := place / f"colour={colour}_rate={rate}oclock.wav").is_file()
    ]
    if not found:
        raise AudioError(f"'{place}' holds no recording; expected names such as colour=0_rate=3oclock.wav")
    return found
