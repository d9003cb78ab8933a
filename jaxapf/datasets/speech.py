"""Single recordings with their speakers: LibriTTS, and folders of speech and loops with a list in JSON."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from jaxapf._internal.files import AudioError, PathLike, reason
from jaxapf.audio.reading import info

__all__ = ["Recording", "libritts", "speech_and_loops"]


class Recording(NamedTuple):
    """A file: ``kind`` "speech" or "loop"; ``speaker`` must not be on both sides of a split."""

    name: str
    kind: str
    speaker: str
    path: Path


def speech_and_loops(folder: PathLike) -> list[Recording]:
    """List the files that speech/speech.json and loops/loops.json name, each a speaker of its own.

    AudioError if a list is missing or no JSON.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for place, text in (("speech", '{"a.flac": {}}'), ("loops", "{}")):
        ...         Path(folder, place).mkdir()
        ...         _ = Path(folder, place, f"{place}.json").write_text(text)
        ...     [one.name for one in speech_and_loops(folder)]
        ['a']
    """
    found = []
    for place, kind in (("speech", "speech"), ("loops", "loop")):
        path = Path(folder) / place / f"{place}.json"
        try:
            files = sorted(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise AudioError(f"'{path}' cannot be read as a list of recordings: {reason(error)}") from error
        names = [(Path(file).stem, path.with_name(file)) for file in files]
        found += [Recording(name, kind, name, file) for name, file in names]
    return found


def libritts(folder: PathLike, *, seconds: float = 20.0, shortest_s: float = 5.5) -> list[Recording]:
    """List utterances of LibriTTS as it is unpacked: SPEAKER/CHAPTER/*.wav, such as train-clean-360.

    Of each speaker, whole utterances of `shortest_s` or more in the order of their names until `seconds` are
    reached; 20 s of each speaker of train-clean-360 are 2 GB, all of it 66 GB. AudioError if the folder
    cannot be read, or holds no such files, or a file is no recording.

    Source: Zen et al. 2019, "LibriTTS".
    """
    try:
        speakers = sorted(path for path in Path(folder).iterdir() if path.is_dir())
    except OSError as error:
        raise AudioError(f"'{folder}' cannot be read: {reason(error)}; give a folder") from error
    found = [one for speaker in speakers for one in _utterances(speaker, seconds, shortest_s)]
    if not found:
        raise AudioError(
            f"'{folder}' holds no SPEAKER/CHAPTER/*.wav with utterances of {shortest_s:g} s and more, "
            "as LibriTTS has them"
        )
    return found


def _utterances(speaker: Path, seconds: float, shortest_s: float) -> Iterator[Recording]:
    total = 0.0
    for path in sorted(speaker.glob("*/*.wav")):
        if total >= seconds:
            return
        properties = info(path)
        length_s = properties.n_samples / properties.fs
        if length_s >= shortest_s:
            total += length_s
            yield Recording(path.stem, "speech", speaker.name, path)
