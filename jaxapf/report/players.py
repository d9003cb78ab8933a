"""What pages play: excerpts and mixes as FLAC in base64, all equally loud."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import soundfile

from jaxapf import audio
from jaxapf._internal import text

__all__ = ["PLAYER_FS", "Excerpt", "Player", "equal_loudness", "excerpt", "flac", "separate"]

PLAYER_FS = 48000  # Hz; every browser plays it, and more is inaudible
_CEILING = 10.0 ** (-1.0 / 20.0)  # -1 dBFS
_MOST_EXTRA_GAIN = 10.0 ** (24.0 / 20.0)  # of a cancelled mix, above that of the files it is made of
_SILENCE = 1e-7
_SHARES = (25, 50, 75)  # per cent of dry in the mixes


class Player(NamedTuple):
    """A signal to play: `data` is FLAC in base64, `gain_db` what was applied, NaN for silence."""

    key: str
    gain_db: float
    limited: bool
    data: str

    @property
    def gain(self) -> str:
        """The gain as text."""
        if np.isnan(self.gain_db):
            return "silent"
        return f"{text.fixed(self.gain_db, signed=True)} dB{' (limit)' * self.limited}"


class Excerpt(NamedTuple):
    """Where in the file the players come from, in seconds, and the players by key."""

    start_s: float
    duration_s: float
    players: dict[str, Player]


def excerpt(dry, wet, aligned, fs: int, *, seconds: float = 10.0, page_bytes: int = 7_000_000) -> Excerpt:
    """Make players for the stretch where dry and wet differ most, of `seconds` or what fits in `page_bytes`.

    The signals have shape `(channels, T)`; beyond the second, channels are not played.

    >>> tone = 0.1 * np.sin(np.arange(9600) / 20.0)[None]
    >>> result = excerpt(tone, -tone, -tone, 48000)
    >>> sorted(result.players)[:4], round(result.players["dry"].gain_db, 1)
    (['25-after', '25-before', '50-after', '50-before'], 19.0)
    """
    start, stop = _loudest_difference(dry, wet, round(seconds * fs))
    dry_cut, wet_cut, aligned_cut = (_for_player(x[:2, start:stop], fs) for x in (dry, wet, aligned))
    signals = {"dry": dry_cut, "wet": wet_cut, "aligned": aligned_cut}
    for share in _SHARES:
        for key, x in (("before", dry_cut), ("after", aligned_cut)):
            signals[f"{share}-{key}"] = share / 100.0 * x + (1.0 - share / 100.0) * wet_cut
    players = _players(signals, dict.fromkeys(signals, min(fs, PLAYER_FS)))
    size = sum(len(player.data) for player in players.values())
    if size > page_bytes:
        shorter = 0.95 * seconds * page_bytes / size
        return excerpt(dry, wet, aligned, fs, seconds=shorter, page_bytes=page_bytes)
    return Excerpt(start / fs, (stop - start) / fs, players)


def separate(signals: Mapping[str, tuple[np.ndarray, int]]) -> dict[str, Player]:
    """Make players for signals `(channels, T)` with their rates in Hz, which need not share length or rate.

    >>> tone = 0.1 * np.sin(np.arange(9600) / 20.0)[None]
    >>> found = separate({"dry": (tone, 48000), "wet": (0.5 * tone, 24000)})
    >>> round(found["wet"].gain_db - found["dry"].gain_db)
    6
    """
    cut = {key: _for_player(x[:2], fs) for key, (x, fs) in signals.items()}
    return _players(cut, {key: min(fs, PLAYER_FS) for key, (_, fs) in signals.items()})


def equal_loudness(signals: Mapping[str, np.ndarray]) -> dict[str, tuple[float, bool]]:
    """Return the gain of each signal, and whether it was limited; 0 for silence.

    One RMS for all, as loud as the one with the highest peaks allows, and none exceeds -1 dBFS.

    >>> round(equal_loudness({"a": np.ones(9), "b": 0.1 * np.ones(9)})["b"][0], 2)
    8.91
    """
    gains: dict[str, tuple[float, bool]] = dict.fromkeys(signals, (0.0, False))
    rms = {key: float(np.sqrt(np.mean(x**2))) for key, x in signals.items()}
    peak = {key: float(np.max(np.abs(x))) for key, x in signals.items()}
    audible = [key for key in signals if peak[key] > _SILENCE]
    if not audible:
        return gains
    files = [key for key in ("dry", "wet", "aligned") if key in audible] or audible
    target = min(_CEILING * rms[key] / peak[key] for key in audible)
    most = _MOST_EXTRA_GAIN * max(target / rms[key] for key in files)
    gains.update({key: (min(target / rms[key], most), target / rms[key] > most) for key in audible})
    return gains


def flac(x: np.ndarray, fs: int) -> str:
    """Encode samples `(T,)` or `(T, channels)` as 16-bit FLAC in base64.

    >>> flac(np.zeros(8), 8000)[:6]
    'ZkxhQw'
    """
    buffer = io.BytesIO()
    pcm = np.round(np.clip(x, -1.0, 1.0) * 32767.0).astype(np.int16)
    soundfile.write(buffer, pcm, fs, format="FLAC", subtype="PCM_16")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _players(signals: dict[str, np.ndarray], rates: dict[str, int]) -> dict[str, Player]:
    gains = equal_loudness(signals)
    return {
        key: Player(
            key,
            float(20.0 * np.log10(gains[key][0])) if gains[key][0] else np.nan,
            gains[key][1],
            flac(gains[key][0] * x, rates[key]),
        )
        for key, x in signals.items()
    }


def _loudest_difference(dry: np.ndarray, wet: np.ndarray, length: int) -> tuple[int, int]:
    total = dry.shape[-1]
    if total <= length:
        return 0, total
    weight = np.zeros(total)
    for x, y in zip(dry, wet, strict=True):
        weight += (y - x) ** 2
    if not weight.any():
        weight = np.sum(wet**2, axis=0, dtype=np.float64)
    energy = np.concatenate([[0.0], np.cumsum(weight)])
    start = int(np.argmax(energy[length:] - energy[:-length]))
    return start, start + length


def _for_player(x: np.ndarray, fs: int) -> np.ndarray:
    y = audio.resample(x.astype(np.float64), fs, min(fs, PLAYER_FS)).T  # frames first, as soundfile has it
    y = y if len(y) else x.T[:1]  # a few samples can resample to none
    n = min(256, len(y) // 4)
    if n:  # an excerpt begins anywhere: fade the edges against clicks
        fade = np.sin(np.linspace(0.0, np.pi / 2, n))[:, None] ** 2
        y = np.concatenate([y[:n] * fade, y[n:-n], y[-n:] * fade[::-1]])
    return y
