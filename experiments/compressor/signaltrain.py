"""Read the SignalTrain LA-2A recordings by folder.

The set (Zenodo 3824876) has folders Train, Val and Test, with files input_NUMBER_.wav and
target_NUMBER_LA2A_TAG__SWITCH__PEAKREDUCTION.wav: SWITCH is 0 (compress) or 1 (limit),
PEAKREDUCTION 0 to 100.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

_TARGET = re.compile(r"target_(\d+)_LA2A_.*?__([01])__(\d+)\.wav", re.IGNORECASE)


class Pair(NamedTuple):
    """An input, the device's output, and its settings: limit or compress, peak reduction 0 to 100."""

    dry: Path
    wet: Path
    limit: bool
    peak_reduction: int


def pairs(folder: Path) -> list[Pair]:
    """All pairs in a folder and the folders below it, by name.

    Args:
        folder: the set's, or a part of it.

    Returns:
        The pairs whose input is there.

    Raises:
        ValueError: no such folder, or none of its targets has its input beside it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("input_143_.wav", "target_143_LA2A_3c__0__25.wav"):
        ...         _ = Path(folder, name).write_bytes(b"")
        ...     found = pairs(Path(folder))
        >>> found[0].dry.name, found[0].limit, found[0].peak_reduction
        ('input_143_.wav', False, 25)
    """
    if not folder.is_dir():
        raise ValueError(
            f"'{folder}' is no folder; give that of SignalTrain LA-2A, or its Train, Val or Test"
        )
    found = []
    for wet in sorted(folder.rglob("target_*")):
        match = _TARGET.fullmatch(wet.name)
        if match is None:
            continue
        number, switch, peak_reduction = match.groups()
        dry = wet.with_name(f"input_{number}_.wav")
        if dry.is_file():
            found.append(Pair(dry, wet, switch == "1", int(peak_reduction)))
    if not found:
        raise ValueError(
            f"'{folder}' has no target_NUMBER_LA2A_TAG__SWITCH__PEAKREDUCTION.wav with its input_NUMBER_.wav "
            "beside it; give the folder of SignalTrain LA-2A"
        )
    return found
