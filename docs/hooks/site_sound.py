"""What the pages play: the command run on the example that ships, and its players."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "build" / "docs"  # ignored by git; made again when the library changes

_MIXED = ("50-before", "50-after")


class Demo(NamedTuple):
    """What `jaxapf demo` printed, and the files to serve by their place on the site."""

    printed: str
    files: dict[str, Path]


def demo() -> Demo:
    """Run `jaxapf demo`, once for every state of the library, and cut what the page plays."""
    folder = KEPT / _fingerprint()
    printed = folder / "printed.txt"
    if not printed.exists():
        folder.mkdir(parents=True, exist_ok=True)
        text = _run(folder)
        _write_players(folder)
        printed.write_text(text, encoding="utf-8")
    files = {f"sounds/{name}.flac": folder / f"{name}.flac" for name in ("dry", "wet", *_MIXED)}
    files["sounds/report.html"] = folder / "demo" / "report.html"
    return Demo(printed.read_text(encoding="utf-8"), files)


def _run(folder: Path) -> str:
    command = [sys.executable, "-m", "jaxapf", "demo", "-o", "demo"]
    # A relative PYTHONPATH means the folder that the build was started in.
    paths = [os.path.abspath(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *paths])}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"jaxapf demo ended with exit code {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def _write_players(folder: Path) -> None:
    from jaxapf import audio
    from jaxapf.report import players

    names = ("dry", "wet", "aligned")
    (dry, fs), (wet, _), (aligned, _) = (audio.read(folder / "demo" / f"example_{n}.flac") for n in names)
    made = players.excerpt(dry, wet, aligned, fs).players
    for name in ("dry", "wet", *_MIXED):
        (folder / f"{name}.flac").write_bytes(base64.b64decode(made[name].data))


def _fingerprint() -> str:
    digest = hashlib.sha256()
    for path in sorted((ROOT / "jaxapf").rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
