"""The recordings of a notebook: the embedded pair, or the reader's own files."""

import contextlib
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxapf import audio, datasets
from jaxapf._internal.files import AudioError, PathLike
from jaxapf._internal.text import count
from jaxapf.audio.level import SILENCE

__all__ = ["EMBEDDED", "OWN", "Mistake", "Pair", "excerpt", "latency", "not_silent", "recordings"]

EMBEDDED, OWN = "embedded example", "my own files"
SHORTEST_S = 0.1  # of an excerpt
MOST_DELAY_MS = 10_000.0  # as for the command
APART = 0.01  # relative difference of lengths, above which the performances are hardly the same


class Mistake(ValueError):
    """A mistake of the reader in one sentence; notebooks show it without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


class Pair(NamedTuple):
    """Two recordings: `dry`, `wet` (channels, n_samples) float32 at `fs` Hz."""

    dry: np.ndarray
    wet: np.ndarray
    fs: int


def recordings(choice: str = EMBEDDED, dry_file: PathLike = "", wet_file: PathLike = "") -> Pair:
    """Read the pair that ships with jaxapf, or the reader's own files; Mistake where they cannot be used.

    Own files may differ in rate (dry is resampled to that of wet), length (the longer one is cut) and number
    of channels (the first of both is taken); each change is printed. Without names, Colab offers an upload.

    Example:
        >>> pair = recordings()
        >>> pair.dry.shape == pair.wet.shape, pair.fs
        (True, 48000)
    """
    if choice not in (EMBEDDED, OWN):
        raise Mistake(f"'{choice}' is none of the choices: take '{EMBEDDED}' or '{OWN}'.")
    files = datasets.example_pair() if choice == EMBEDDED else (_own("dry", dry_file), _own("wet", wet_file))
    try:
        (dry, dry_fs), (wet, fs) = (audio.read(file) for file in files)
    except AudioError as error:
        raise Mistake(f"{error}.") from None
    not_silent({"the dry recording": dry, "the wet recording": wet})
    if dry_fs != fs:
        print(f"The dry recording is resampled from {dry_fs} to {fs} Hz, the rate of the wet one.")
        dry = audio.resample(dry, dry_fs, fs)
    if len(dry) != len(wet):
        channels = f"dry: {count(len(dry), 'channel')}, wet: {count(len(wet), 'channel')}"
        print(f"The numbers of channels differ ({channels}): only the first channel of each is used.")
        dry, wet = dry[:1], wet[:1]
    longest, n_samples = max(dry.shape[-1], wet.shape[-1]), min(dry.shape[-1], wet.shape[-1])
    if longest - n_samples > max(1, 1e-3 * fs):  # a millisecond at the end makes no difference
        longer = "dry" if dry.shape[-1] == longest else "wet"
        print(f"The {longer} recording lasts {longest / fs:.3f} s and is cut to {n_samples / fs:.3f} s.")
    if longest - n_samples > APART * longest:
        print("The lengths differ by a lot: both must be the same performance, from the same moment on.")
    dry, wet = dry[:, :n_samples], wet[:, :n_samples]
    not_silent({"the remaining dry recording": dry, "the remaining wet recording": wet})
    return Pair(np.asarray(dry, np.float32), wet, fs)


def _own(role: str, name: PathLike) -> PathLike:
    if str(name).strip():
        return str(name).strip()
    if (files := colab_files()) is None:
        raise Mistake(f"the {role} recording has no name; type the path of its file into the form.")
    print(f"Choose the {role} recording:")
    uploaded = list(files.upload())
    if len(uploaded) != 1:
        raise Mistake(f"choose one file as the {role} recording, not {len(uploaded)}; run the cell again.")
    return uploaded[0]


def colab_files() -> Any:
    """Return the module for files in Google Colab, None elsewhere."""
    if "google.colab" not in sys.modules:
        return None
    from google.colab import files  # pyright: ignore[reportMissingImports]

    return files


def not_silent(signals: Mapping[str, Any]) -> None:
    """Raise a Mistake where a signal stays below -140 dB full scale; the keys name them in its sentence."""
    for name, x in signals.items():
        if np.max(np.abs(x), initial=0.0) < SILENCE:
            raise Mistake(f"{name} is silent; choose a recording, or a stretch of it, with sound in it.")


def excerpt(x: np.ndarray, fs: int, seconds: float, *, fs_to: int | None = None) -> np.ndarray:
    """Return at most `seconds` of the loudest channel, from its first sound on: (n,) at `fs_to` Hz."""
    loudest = np.asarray(x[np.argmax(np.sum(np.square(x), axis=-1))], np.float64)
    begins = int(np.argmax(np.abs(loudest) > 0.01 * np.max(np.abs(loudest))))
    cut = loudest[begins : begins + round(seconds * fs)]
    if len(cut) < SHORTEST_S * fs:
        raise Mistake(f"only {len(cut) / fs:.3f} s of the recording sound; take {SHORTEST_S:g} s or more.")
    return np.asarray(audio.resample(cut, fs, fs_to or fs), np.float64)


def latency(milliseconds: Any) -> float:
    """Return the largest latency to search for, typed into a form, as `jaxapf.align` takes it."""
    with contextlib.suppress(TypeError, ValueError):
        if 0 < float(milliseconds) <= MOST_DELAY_MS:
            return float(milliseconds)
    raise Mistake(f"max_delay_ms is {milliseconds!r}; type a number above 0, at most {MOST_DELAY_MS:.0f}.")
