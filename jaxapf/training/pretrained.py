"""The checkpoints that come with jaxapf: what each of them is, where it lies, and whether it is whole.

They lie in `checkpoints/` of the repository, and in the installed package, each a file or a folder of its
own; `manifest.json` describes them, and the table in `README.md` is made from it.

    pretrained.path("biasnet-tape")
    pretrained.add("biasnet-tape", "results/checkpoints", what=..., command=..., data=..., figure=...)
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import math
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxapf._internal.files import PathLike, reason, write_text
from jaxapf._internal.version import __version__

__all__ = ["EMPTY", "FIELDS", "MAX_BYTES", "add", "digest", "folder", "manifest", "path", "updated_readme"]
__all__ += ["verify"]

Entry = dict[str, Any]

# A clone of the repository, and every wheel, carries all of them.
MAX_BYTES = 25_000_000
FIELDS = ("name", "path", "what", "command", "data", "figure", "sha256", "bytes", "jaxapf", "date")
_MANIFEST, _README = "manifest.json", "README.md"
_BEGIN, _END = "<!-- checkpoints:begin -->", "<!-- checkpoints:end -->"
EMPTY = {_MANIFEST: "[]\n", _README: f"{_BEGIN}\nNone yet.\n{_END}\n"}  # of a folder without checkpoints
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def folder() -> Path:
    """Return where the checkpoints lie, in the installed package or in the repository; else ValueError."""
    package = Path(__file__).resolve().parents[1]
    for place in (package / "checkpoints", package.parent / "checkpoints"):
        if (place / _MANIFEST).is_file():
            return place
    raise ValueError("this copy of jaxapf has no stored checkpoints; install it from its repository")


def manifest(*, at: PathLike | None = None) -> list[Entry]:
    """Return the entries of the stored checkpoints, by name, of jaxapf or of the folder `at`.

    Each is a dict: `name`; `path`, relative to the folder; `what` it is; the `command` that made it and the
    `data` it was made from; `figure`, what it reaches, as `{"name": ..., "value": ...}`; `sha256` and
    `bytes`; the version of `jaxapf` and the `date`. ValueError where the manifest is missing or cannot be
    read.
    """
    place = folder() if at is None else Path(at)
    try:
        entries = json.loads((place / _MANIFEST).read_text(encoding="utf-8"))
        if not isinstance(entries, list) or [e for e in entries if set(e) != set(FIELDS)]:
            raise ValueError(f"expected a list of objects with {', '.join(FIELDS)}")
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"'{place / _MANIFEST}' cannot be read: {reason(error)}") from error
    return entries


def path(name: str, *, at: PathLike | None = None) -> Path:
    """Return the file or folder of a stored checkpoint, of jaxapf or of the folder `at`.

    Example:
        >>> path("nonsense")
        Traceback (most recent call last):
        ValueError: there is no stored checkpoint 'nonsense'; 'jaxapf info' lists those there are
    """
    place = folder() if at is None else Path(at)
    for entry in manifest(at=place):
        if entry["name"] == name:
            return place / entry["path"]
    raise ValueError(f"there is no stored checkpoint '{name}'; 'jaxapf info' lists those there are")


def add(
    name: str,
    source: PathLike,
    *,
    what: str,
    command: str,
    data: str,
    figure: tuple[str, float],
    at: PathLike | None = None,
) -> Entry:
    """Store a copy of a file or folder, with its entry in the manifest and the README; return the entry.

    `what` it is, the `command` that makes it again and the `data` it was trained on are a few words each;
    `figure` is name and value of what it reaches. A checkpoint of the same name is replaced. ValueError where
    the name is unusable, a text empty or the figure not finite, where the source is missing, empty or has
    symbolic links, and where all together would be larger than 25 MB; AudioError where manifest or README
    cannot be written.
    """
    place = folder() if at is None else Path(at)
    source = Path(source)
    texts = {"what": what, "command": command, "data": data}
    _check_entry(name, texts, figure)
    files = _files(source)
    stored = manifest(at=place)
    others = [entry for entry in stored if entry["name"] != name]
    size = sum(file.stat().st_size for file in files.values())
    total = size + sum(entry["bytes"] for entry in others)
    if not files or total > MAX_BYTES:
        found = f"makes {total / 1e6:.1f} MB of checkpoints" if files else "holds no file"
        raise ValueError(f"'{source}' {found}; expected files of together at most {MAX_BYTES / 1e6:.0f} MB")
    relative = name if source.is_dir() else name + source.suffix.lower()
    entry = {
        "name": name,
        "path": relative,
        **texts,
        "figure": {"name": figure[0], "value": float(figure[1])},
        "sha256": digest(source),
        "bytes": size,
        "jaxapf": __version__,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
    entries = sorted([*others, entry], key=lambda one: one["name"])
    readme = _readme(place, entries)
    with _copied(source, place) as copy:
        for old in stored:
            if old["name"] == name:
                _remove(place / old["path"])
        copy.rename(place / relative)
    write_text(place / _MANIFEST, json.dumps(entries, indent=1, ensure_ascii=False) + "\n")
    write_text(place / _README, readme)
    return entry


def verify(*, at: PathLike | None = None) -> list[str]:
    """Return a sentence for each difference of the stored checkpoints from manifest and README."""
    place = folder() if at is None else Path(at)
    entries = manifest(at=place)
    wrong = [problem for entry in entries for problem in _problems(entry, place)]
    known = {_MANIFEST, _README, *(entry["path"] for entry in entries)}
    others = sorted({entry.name for entry in place.iterdir()} - known)
    wrong += [f"'{one}' is not in the manifest" for one in others]
    total = sum(entry["bytes"] for entry in entries)
    if total > MAX_BYTES:
        wrong.append(f"the checkpoints are {total} bytes, more than {MAX_BYTES}")
    try:
        if _readme(place, entries) != (place / _README).read_text(encoding="utf-8"):
            wrong.append(f"the table of {_README} is not that of the manifest")
    except ValueError as error:
        wrong.append(str(error))
    return wrong


def digest(source: PathLike) -> str:
    """Return the SHA-256 of a file; of a folder, that of the list of its files with theirs.

    The list is what `find . -type f | LC_ALL=C sort | xargs sha256sum` prints inside the folder. ValueError
    where the source is missing or has symbolic links.
    """
    files = _files(Path(source))
    if not Path(source).is_dir():
        return _sha256(Path(source))
    names = sorted(files, key=lambda name: name.encode())
    return hashlib.sha256("".join(f"{_sha256(files[n])}  ./{n}\n" for n in names).encode()).hexdigest()


def updated_readme(text: str, entries: Sequence[Entry]) -> str:
    """Return a README with the table of these entries between its markers, which must be there once each."""
    before, found_begin, rest = text.partition(_BEGIN)
    _, found_end, after = rest.partition(_END)
    if not (found_begin and found_end) or _BEGIN in rest or _END in before + after:
        raise ValueError(f"needs one line '{_BEGIN}' and, after it, one line '{_END}'")
    rows = [_row(entry) for entry in entries]
    lines = [[*rows[0]], ["---"] * len(rows[0]), *([*row.values()] for row in rows)] if rows else []
    table = "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines) or "None yet."
    return f"{before}{_BEGIN}\n{table}\n{_END}{after}"


def _readme(place: Path, entries: Sequence[Entry]) -> str:
    try:
        return updated_readme((place / _README).read_text(encoding="utf-8"), entries)
    except (OSError, ValueError) as error:
        raise ValueError(f"'{place / _README}' cannot be updated: {reason(error)}") from error


def _row(entry: Entry) -> dict[str, str]:
    return {
        "name": f"[{entry['name']}]({entry['path']})",
        "what": entry["what"],
        "command": f"`{entry['command']}`",
        "data": entry["data"],
        "figure": f"{entry['figure']['name']} {entry['figure']['value']:.4g}",
        "size": f"{entry['bytes'] / 1e3:.0f} kB",
        "made": f"{entry['date']}, jaxapf {entry['jaxapf']}",
        "SHA-256": f"`{entry['sha256'][:16]}…`",
    }


def _cell(value: str) -> str:
    return " ".join(value.split()).replace("|", "\\|")


def _check_entry(name: str, texts: dict[str, str], figure: tuple[str, float]) -> None:
    if not _NAME.fullmatch(name) or name in ("readme", "manifest"):
        raise ValueError(
            f"name is '{name}'; use at most 64 lower-case letters, digits, dots and dashes, and neither "
            "'readme' nor 'manifest'"
        )
    for argument, text in (*texts.items(), ("figure[0]", figure[0])):
        if not text.strip():
            raise ValueError(f"{argument} is empty; say it in a few words")
    if not math.isfinite(figure[1]):
        raise ValueError(f"figure[1] is {figure[1]}; give the finite number that was reached")


def _files(source: Path) -> dict[str, Path]:
    """Files by their names relative to a folder, or one file by its own name."""
    found = [source, *source.rglob("*")]
    link = next((one for one in found if one.is_symlink()), None)
    if link is not None or not source.exists():
        problem = "does not exist" if link is None else "is a symbolic link"
        raise ValueError(f"'{link or source}' {problem}; give a file, or a folder of plain files")
    if not source.is_dir():
        return {source.name: source}
    return {one.relative_to(source).as_posix(): one for one in found if one.is_file()}


def _sha256(file: Path) -> str:
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _problems(entry: Entry, place: Path) -> Iterator[str]:
    stored = place / entry["path"]
    try:
        size = sum(file.stat().st_size for file in _files(stored).values())
        found = digest(stored)
    except (OSError, ValueError) as error:
        yield f"{entry['name']}: {reason(error)}"
        return
    if size != entry["bytes"]:
        yield f"{entry['name']} has {size} bytes, {entry['bytes']} in the manifest"
    if found != entry["sha256"]:
        yield f"{entry['name']} has SHA-256 {found[:16]}…, {entry['sha256'][:16]}… in the manifest"


@contextlib.contextmanager
def _copied(source: Path, place: Path) -> Iterator[Path]:
    """Copy under a temporary name, which is removed at the end unless it was renamed."""
    copy = place / f".{source.name}.part"
    _remove(copy)
    try:
        if source.is_dir():
            shutil.copytree(source, copy)
        else:
            shutil.copyfile(source, copy)
        yield copy
    except OSError as error:
        raise ValueError(f"'{source}' cannot be stored in '{place}': {reason(error)}") from error
    finally:
        _remove(copy)


def _remove(one: Path) -> None:
    if one.is_dir():
        shutil.rmtree(one)
    else:
        one.unlink(missing_ok=True)
