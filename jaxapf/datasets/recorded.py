"""Recorded pairs: one hit, two microphones, one file each.

The first recording of a pair is dry, the one to be laid on the other, wet.
"""

import csv
import itertools
import json
import re
import reprlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxapf._internal.files import AudioError, PathLike, reason
from jaxapf.audio.reading import info, read

__all__ = ["SDDS_COLUMNS", "RecordedPair", "SddsColumns", "pairs_json", "read_pair", "sdds"]

MAX_DELAY_SAMPLES = 2**31
_SDDS_NAME = re.compile(
    r"(?P<Snare>[^_]+)_(?P<Dampening>[^_]+)_(?P<Mic>.+)_(?P<Position>[^_]+)"
    r"_Segment_(?P<Strike>\d+)_peak_(?P<Peak>[\d.]+)\.wav"
)
_WHOLE_TEXT = "correct it there or restore the file"


class RecordedPair(NamedTuple):
    """Two recordings of one hit.

    name: unique within its set.
    kind: how the microphones stand to each other, such as `near_far` or `top_bottom`.
    hit: what was struck; training and test data share no hit.
    dry, wet: the files.
    delay_samples: how much later the hit arrives in the wet one, negative where earlier; None if unknown.
    polarity: -1 where the wet one is inverted against the dry one, else 1; None if unknown.
    """

    name: str
    kind: str
    hit: str
    dry: Path
    wet: Path
    delay_samples: float | None
    polarity: int | None


def read_pair(pair: RecordedPair) -> tuple[np.ndarray, np.ndarray, int]:
    """Return (dry, wet, fs): float32 (n_samples,) of the shorter one's length, several channels averaged; Hz.

    AudioError as `read`, or where the rates differ.

    Example:
        >>> from jaxapf import datasets
        >>> dry_path, wet_path = map(Path, datasets.example_pair())
        >>> pair = RecordedPair("example", "near_far", "drum", dry_path, wet_path, None, None)
        >>> dry, wet, fs = read_pair(pair)
        >>> dry.shape, wet.shape, dry.dtype, fs
        ((343680,), (343680,), dtype('float32'), 48000)
    """
    (dry, fs), (wet, wet_fs) = read(pair.dry), read(pair.wet)
    if fs != wet_fs:
        raise AudioError(
            f"'{pair.dry}' has {fs} Hz and '{pair.wet}' has {wet_fs} Hz; convert one to the other's rate"
        )
    n_samples = min(dry.shape[-1], wet.shape[-1])
    return np.mean(dry[:, :n_samples], axis=0), np.mean(wet[:, :n_samples], axis=0), fs


def pairs_json(path: PathLike) -> list[RecordedPair]:
    """List the pairs that `pairs.json` describes, in its order; `path` is its folder or the file itself.

    It is an object with `sample_rate` in Hz and `pairs`, a list of objects: `pair`, the name NN of the files
    NN_mic1.flac (dry) and NN_mic2.flac (wet) beside it; `kind`; `source`, the hit; and, where they are known,
    `direct_delay_samples` and `polarity`. Other fields are left alone. AudioError if a file or field is
    missing or wrong, or a recording not of the stated rate.

    Example:
        >>> import tempfile
        >>> from jaxapf import audio
        >>> folder = Path(tempfile.mkdtemp())
        >>> for microphone in (1, 2):
        ...     audio.write(folder / f"00_mic{microphone}.flac", np.zeros((1, 480)), 48000)
        >>> entry = {"pair": "00", "kind": "near_far", "source": "snare", "direct_delay_samples": 93.5}
        >>> _ = (folder / "pairs.json").write_text(json.dumps({"sample_rate": 48000, "pairs": [entry]}))
        >>> [pair] = pairs_json(folder)
        >>> pair.hit, pair.dry.name, pair.delay_samples, pair.polarity
        ('snare', '00_mic1.flac', 93.5, None)
    """
    source = Path(path) / "pairs.json" if Path(path).is_dir() else Path(path)
    document = _json(source)
    fs, entries = (_value(source, document, name) for name in ("sample_rate", "pairs"))
    pairs = [_entry(source, f"pair {number}", entry) for number, entry in enumerate(entries, 1)]
    names = [pair.name for pair in pairs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise AudioError(f"'{source}' lists pair '{twice}' more than once, expected once; {_WHOLE_TEXT}")
    for recording in (recording for pair in pairs for recording in (pair.dry, pair.wet)):
        if (found := info(recording).fs) != fs:
            raise AudioError(
                f"'{recording}' has {found} Hz, but sample_rate in '{source}' is {fs}; "
                "restore the recordings that belong to it"
            )
    return pairs


def _json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise AudioError(
            f"'{path}' cannot be opened: {reason(error)}; give the folder that holds pairs.json, or that file"
        ) from error
    except (ValueError, RecursionError) as error:
        raise AudioError(f"'{path}' is not JSON ({reason(error)}); {_WHOLE_TEXT}") from error
    if not isinstance(document, dict):
        raise AudioError(
            f"'{path}' holds {reprlib.repr(document)}, expected an object with sample_rate and pairs; "
            + _WHOLE_TEXT
        )
    return document


def _entry(source: Path, which: str, entry: Any) -> RecordedPair:
    if not isinstance(entry, dict):
        raise AudioError(f"'{source}': {which} is {reprlib.repr(entry)}, expected an object; {_WHOLE_TEXT}")
    name, kind, hit, delay, polarity = (
        _value(source, entry, field, f" of {which}")
        for field in ("pair", "kind", "source", "direct_delay_samples", "polarity")
    )
    dry, wet = (source.parent / f"{name}_mic{microphone}.flac" for microphone in (1, 2))
    return RecordedPair(name, kind, hit, dry, wet, None if delay is None else float(delay), polarity)


def _value(source: Path, holder: dict[str, Any], name: str, owner: str = "") -> Any:
    is_right, expected = _FIELDS[name]
    if name not in holder and not is_right(None):
        raise AudioError(f"'{source}': {name}{owner} is missing, expected {expected}; {_WHOLE_TEXT}")
    value = holder.get(name)
    if not is_right(value):
        raise AudioError(
            f"'{source}': {name}{owner} is {reprlib.repr(value)}, expected {expected}; {_WHOLE_TEXT}"
        )
    return value


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_name(value: Any) -> bool:
    # Part of a file name: it must not lead out of the folder.
    return isinstance(value, str) and re.fullmatch(r"\w[\w.-]*", value) is not None


def _is_delay(value: Any) -> bool:
    return value is None or (
        (_is_whole(value) or isinstance(value, float)) and abs(value) < MAX_DELAY_SAMPLES
    )


_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "sample_rate": (lambda value: _is_whole(value) and value > 0, "a whole number of Hz above 0"),
    "pairs": (
        lambda value: isinstance(value, list) and value != [],
        "a list of one object a pair, not empty",
    ),
    "pair": (_is_name, "the NN of the files NN_mic1.flac and NN_mic2.flac, as text"),
    "kind": (_is_text, "text, not empty"),
    "source": (_is_text, "text, not empty"),
    "direct_delay_samples": (_is_delay, "a finite number of samples, or null"),
    "polarity": (lambda value: value is None or (_is_whole(value) and abs(value) == 1), "1, -1 or null"),
}


# The Snare Drum Data Set


class SddsColumns(NamedTuple):
    """Columns of an annotations file, of those that identify a microphone the position last."""

    file: str = "FileName"
    stroke: tuple[str, ...] = ("Snare", "Dampening", "Strike")
    microphone: tuple[str, ...] = ("Mic", "Position")


SDDS_COLUMNS = SddsColumns()


class _Take(NamedTuple):
    """One stroke at one microphone."""

    path: Path
    stroke: tuple[str, ...]
    microphone: tuple[str, ...]

    def is_by(self, name: str | None) -> bool:
        return name is None or name in self.microphone or name == " ".join(self.microphone)


def sdds(
    folder: PathLike,
    dry: str | None = "TP",
    wet: str | None = "BTM",
    *,
    annotations: PathLike | None = None,
    columns: SddsColumns = SDDS_COLUMNS,
) -> list[RecordedPair]:
    """List pairs of the Snare Drum Data Set: one stroke at two of its many microphones.

    The data set is a folder of files named
    `SNARE_DAMPENING_BRAND_MODEL_POSITION_Segment_STRIKE_peak_PEAK.wav`, such as
    `Gretsch_BigFatSnare_AKG_414_BTM_Segment_10_peak_0.066.wav`; positions are TP (top), BTM (bottom), SHL
    (shell) and others. The project 'Differentiable All-Pass DNNs' makes an annotations file of these names,
    with the columns FileName, Snare, Dampening, Mic (brand and model), Position, Strike, Peak and ClassID, a
    number for each (Snare, Dampening, Strike). It learns to lay TP on BTM, any microphone on any other of
    the same ClassID, and is judged by pairs within SHL. This much is known from its published code.

    Assumed, as they do, and not tested on the data set itself: equal strike numbers are one and the same
    stroke in all files of a snare and dampening, and those files begin at the same instant. The true delay
    and polarity are not known.

    Each pair comes once, in the order of the annotations or names; `hit` is the stroke, `kind` the two
    positions, such as `TP_BTM`.

    Args:
        folder: the audio files.
        dry: the microphones to be laid on the others: a position (`"TP"`), a microphone (`"Shure SM57"`) or
            both (`"Shure SM57 TP"`); None for every other microphone of the stroke.
        wet: those they are laid on, likewise; not both can be None.
        annotations: the CSV file; None takes `annotations.csv` in the folder or, where there is none,
            the names of the files.
        columns: which columns to go by; others are left alone.

    Raises:
        AudioError: the folder or the annotations cannot be read; a column, a value or a file is missing; a
            file is listed twice; there is no such pair.

    Source: Cheshire, Stables and Hockman 2020, "Snare drum data set (SDDS)".

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for microphone in ("Shure_SM57_TP", "AKG_414_BTM", "AKG_414_SHL"):
        ...     (folder / f"Gretsch_None_{microphone}_Segment_2_peak_0.5.wav").touch()
        >>> [(pair.hit, pair.kind) for pair in sdds(folder)]
        [('Gretsch None 2', 'TP_BTM')]
        >>> [pair.kind for pair in sdds(folder, None, "Shure SM57 TP")]
        ['BTM_TP', 'SHL_TP']
    """
    if dry is None and wet is None:
        raise ValueError("dry and wet are both None; name at least one of them, such as 'TP'")
    place = Path(folder)
    if not place.is_dir():
        raise AudioError(f"'{place}' is not a folder; give the one that holds the audio files")
    source = place / "annotations.csv" if annotations is None else Path(annotations)
    named = annotations is None and not source.exists()
    strokes: dict[tuple[str, ...], list[_Take]] = {}
    for take in _takes_by_name(place) if named else _takes(source, place, columns):
        strokes.setdefault(take.stroke, []).append(take)
    pairs = [pair for takes in strokes.values() for pair in _pairs_of(takes, dry, wet)]
    if not pairs:
        names = sorted({" ".join(take.microphone) for takes in strokes.values() for take in takes})
        available = f"its microphones are {', '.join(names)}" if names else "it lists no recordings"
        requested = " and ".join("any other" if name is None else f"'{name}'" for name in (dry, wet))
        raise AudioError(
            f"'{place if named else source}' has no stroke recorded by both {requested}; {available}; "
            "choose two that share a stroke"
        )
    return pairs


def _pairs_of(takes: list[_Take], dry: str | None, wet: str | None) -> Iterator[RecordedPair]:
    first, second = ([n for n, take in enumerate(takes) if take.is_by(name)] for name in (dry, wet))
    either = set(first) & set(second)  # those that could be taken both ways round
    for i, j in itertools.product(first, second):
        if i != j and not (i > j and i in either and j in either):
            (d, stroke, dry_microphone), (w, _, wet_microphone) = takes[i], takes[j]
            kind = f"{dry_microphone[-1]}_{wet_microphone[-1]}"
            yield RecordedPair(f"{d.stem} {w.stem}", kind, " ".join(stroke), d, w, None, None)


def _takes(source: Path, folder: Path, columns: SddsColumns) -> Iterator[_Take]:
    seen: set[str] = set()
    for number, row in _rows(source, (columns.file, *columns.stroke, *columns.microphone)):
        name = row[columns.file]
        if name in seen:
            raise AudioError(
                f"'{source}' lists '{name}' again in line {number}, expected once; {_WHOLE_TEXT}"
            )
        seen.add(name)
        path = folder / name
        if not path.is_file():
            raise AudioError(
                f"'{path}' does not exist, but line {number} of '{source}' lists it; "
                "give the folder that belongs to the annotations"
            )
        stroke, microphone = (tuple(row[c] for c in names) for names in (columns.stroke, columns.microphone))
        yield _Take(path, stroke, microphone)


def _rows(source: Path, wanted: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield line numbers and lines of a CSV file with a header; no wanted cell is empty."""
    try:
        with open(source, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            header = list(reader.fieldnames or [])
            if missing := [name for name in wanted if name not in header]:
                raise AudioError(
                    f"'{source}' has the columns {', '.join(header) or 'none'}, expected also "
                    f"{', '.join(missing)}; name them with columns="
                )
            for row in reader:
                cells = {name: (row[name] or "").strip() for name in wanted}
                if empty := next((name for name, cell in cells.items() if not cell), None):
                    place = f"{empty} in line {reader.line_num}"
                    raise AudioError(f"'{source}': {place} is empty, expected a value; {_WHOLE_TEXT}")
                yield reader.line_num, cells
    except OSError as error:
        raise AudioError(
            f"'{source}' cannot be opened: {reason(error)}; give the annotations as a CSV file"
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise AudioError(
            f"'{source}' is not a CSV file in UTF-8 ({reason(error)}); give the annotations as one"
        ) from error


def _takes_by_name(folder: Path) -> Iterator[_Take]:
    for path in sorted(path for path in folder.iterdir() if path.suffix == ".wav" and path.name[0] != "."):
        match = _SDDS_NAME.fullmatch(path.name)
        if match is None:
            raise AudioError(
                f"'{path}' is not named as the data set's files are, expected "
                "SNARE_DAMPENING_BRAND_MODEL_POSITION_Segment_STRIKE_peak_PEAK.wav; give annotations, "
                "or remove it"
            )
        yield _Take(
            path, match.group(*SDDS_COLUMNS.stroke), (match["Mic"].replace("_", " "), match["Position"])
        )
