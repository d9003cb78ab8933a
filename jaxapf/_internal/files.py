"""Checks of input files, and output files that appear complete or not at all."""

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PathLike = str | os.PathLike[str]


class AudioError(ValueError):
    """A problem with a file, in one sentence for the user."""


# Inputs


def regular_file_size(path: PathLike) -> int:
    """Return the size in bytes of an input file; AudioError if it is not a file that can be opened."""
    # Before opening: a named pipe would wait for its writer for ever.
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise AudioError(f"'{path}' is a folder; give an audio file")
        if not stat.S_ISREG(status.st_mode):
            raise AudioError(f"'{path}' is a device or pipe; give a regular audio file")
        with open(path, "rb"):
            return status.st_size
    except AudioError:
        raise
    except FileNotFoundError:
        raise AudioError(f"'{path}' does not exist; check the name and the folder") from None
    except (OSError, ValueError) as error:
        raise AudioError(f"'{path}' cannot be opened: {reason(error)}") from None


def declared_size(path: PathLike) -> int | None:
    """Return the bytes that the header of a WAV, AIFF or OGG file declares; None where it declares none.

    libsndfile reads a WAV or AIFF file that was cut to its end without an error.
    """
    with open(path, "rb") as file:
        magic = file.read(12)
        if magic[:4] in (b"RIFF", b"RIFX", b"RF64"):
            return _end_of_chunk(file, b"data", "big" if magic[:4] == b"RIFX" else "little")
        if magic[:4] == b"FORM":
            return _end_of_chunk(file, b"SSND", "big")
        if magic[:4] == b"OggS":
            return _end_of_ogg(file)
    return None


def _end_of_chunk(file: Any, wanted: bytes, byteorder: Any) -> int | None:
    size_64 = None
    while len(header := file.read(8)) == 8:
        size = int.from_bytes(header[4:], byteorder)
        if header[:4] == b"ds64":
            size_64 = int.from_bytes(file.read(16)[8:], "little")
            file.seek(-16, os.SEEK_CUR)
        if header[:4] == wanted:
            if size == 2**32 - 1 and size_64 is not None:
                return file.tell() + size_64
            # Programs that write to a pipe leave the largest number, signed or not, less some header bytes.
            placeholder = size >= 2**32 - 2**12 or 2**31 - 2**12 <= size < 2**31 + 2**12
            return None if placeholder else file.tell() + size
        file.seek(size + size % 2, os.SEEK_CUR)
    return None


def _end_of_ogg(file: Any) -> int | None:
    # The last page of a complete stream carries the end-of-stream flag (RFC 3533, section 6).
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - 2**17))
    tail = file.read()
    last = tail.rfind(b"OggS")
    page = tail[last:] if last >= 0 else b""
    if len(page) < 27 or not page[5] & 4 or len(page) < 27 + page[26]:
        return end + 1
    return end - len(page) + 27 + page[26] + sum(page[27 : 27 + page[26]])


# Outputs


@contextlib.contextmanager
def atomic_path(path: PathLike) -> Iterator[str]:
    """Create a temporary file beside `path`; on success rename it to `path`, else remove it.

    A symbolic link is followed, an existing file keeps its permissions, and the data is on the disk before
    the name changes. AudioError where the folder is missing or not writable, or `path` is a folder or a
    device.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with atomic_path(f"{folder}/note.txt") as temporary:
        ...         _ = Path(temporary).write_text("done")
        ...     Path(f"{folder}/note.txt").read_text()
        'done'
    """
    target = Path(os.path.realpath(path))
    temporary = ""
    try:
        temporary = _create_beside(path, target)
        yield temporary
        try:
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            if target.exists():
                os.chmod(temporary, stat.S_IMODE(os.stat(target).st_mode))
            os.replace(temporary, target)
        except OSError as error:
            raise AudioError(f"'{path}' was not written: {reason(error)}") from error
    finally:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def write_text(path: PathLike, text: str) -> None:
    """Write a text file as UTF-8, atomically."""
    with atomic_path(path) as temporary:
        try:
            Path(temporary).write_text(text, encoding="utf-8", newline="\n")
        except OSError as error:
            raise AudioError(f"'{path}' was not written: {reason(error)}") from error


def check_writable(path: PathLike) -> None:
    """Raise AudioError unless a file can be created under this name, and leave nothing behind."""
    os.unlink(_create_beside(path, Path(os.path.realpath(path))))


def _create_beside(path: PathLike, target: Path) -> str:
    if target.is_dir():
        raise AudioError(f"'{path}' is a folder; give a file name to write")
    if target.exists() and not target.is_file():
        raise AudioError(f"'{path}' is a device or pipe; give a file name to write")
    if not target.parent.is_dir():
        raise AudioError(f"'{path}' cannot be written: the folder does not exist; create it")
    name = target.parent / f".{target.stem[:40]}.{secrets.token_hex(4)}.part{target.suffix}"
    try:
        # Not tempfile, whose files are private (0600): the umask decides, as for any new file.
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise AudioError(f"'{path}' cannot be written: {reason(error)}; choose another folder") from error
    return str(name)


def reason(error: BaseException) -> str:
    """Return what went wrong, in a few words of the operating system."""
    text = error.strerror if isinstance(error, OSError) else str(error)
    return (text or type(error).__name__).lower()


def os_error(temporary: str) -> str | None:
    """Return why a write failed, found by writing a little more; None if that succeeds."""
    try:
        with open(temporary, "ab") as file:
            file.write(bytes(2**16))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return f"{reason(error)}; free some space or choose another folder"
    return None
