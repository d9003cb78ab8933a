"""What the report plays: one excerpt of dry, wet and aligned, and their mixes, all equally loud."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import soundfile

from jaxapf import audio

_PLAYER_FS = 48000  # every browser plays it, nobody hears more
_CEILING = 10.0 ** (-1.0 / 20.0)  # -1 dBFS
_MOST_EXTRA_GAIN = 10.0 ** (24.0 / 20.0)  # what a cancelled mix may be lifted above the files it is made of
_SILENCE = 1e-7
_SHARES = (25, 50, 75)  # per cent of dry in the mixes


class Player(NamedTuple):
    """A signal to play: `data` is FLAC in base64, `gain_db` what was applied, NaN for silence."""

    key: str
    gain_db: float
    limited: bool
    data: str


class Excerpt(NamedTuple):
    """Where in the file the players come from, and what they play."""

    start_s: float
    duration_s: float
    players: dict[str, Player]


def excerpt(dry, wet, aligned, fs: int, *, seconds: float = 10.0, page_bytes: int = 7_000_000) -> Excerpt:
    """Players for the stretch where dry and wet differ most, of `seconds` or what fits in `page_bytes`.

    The signals have shape `(channels, T)`; beyond the second, channels are not played.

    >>> tone = 0.1 * np.sin(np.arange(9600) / 20.0)[None]
    >>> result = excerpt(tone, -tone, -tone, 48000)
    >>> sorted(result.players)[:4], round(result.players["dry"].gain_db, 1)
    (['25-after', '25-before', '50-after', '50-before'], 19.0)
    """
    start, stop = _loudest_difference(dry, wet, round(seconds * fs))
    pieces = [_for_player(x[:2, start:stop], fs) for x in (dry, wet, aligned)]
    rate = min(fs, _PLAYER_FS)
    players = _encode(pieces, rate)
    size = sum(len(player.data) for player in players.values())
    if size > page_bytes:
        shorter = 0.95 * seconds * page_bytes / size
        return excerpt(dry, wet, aligned, fs, seconds=shorter, page_bytes=page_bytes)
    return Excerpt(start / fs, (stop - start) / fs, players)


def separate(signals: Mapping[str, tuple[np.ndarray, int]]) -> dict[str, Player]:
    """Players for signals that need not have one length or rate, all equally loud.

    Args:
        signals: `(channels, T)` and the sample rate in Hz, by key.

    Returns:
        Players by key.

    >>> tone = 0.1 * np.sin(np.arange(9600) / 20.0)[None]
    >>> found = separate({"dry": (tone, 48000), "wet": (0.5 * tone, 24000)})
    >>> round(found["wet"].gain_db - found["dry"].gain_db)
    6
    """
    pieces = {key: _for_player(x[:2], fs) for key, (x, fs) in signals.items()}
    gains = _equal_loudness(pieces)
    return {key: _player(key, x, gains[key], min(signals[key][1], _PLAYER_FS)) for key, x in pieces.items()}


def _player(key: str, x: np.ndarray, gained: tuple[float, bool], fs: int) -> Player:
    gain, limited = gained
    return Player(key, float(20.0 * np.log10(gain)) if gain else np.nan, limited, _flac(gain * x, fs))


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
    y = audio.resample(x.astype(np.float64), fs, min(fs, _PLAYER_FS)).T  # frames first, as soundfile has it
    y = y if len(y) else x.T[:1]  # a few samples can resample to none
    n = min(256, len(y) // 4)
    if n:  # an excerpt begins anywhere: no click
        fade = np.sin(np.linspace(0.0, np.pi / 2, n))[:, None] ** 2
        y = np.concatenate([y[:n] * fade, y[n:-n], y[-n:] * fade[::-1]])
    return y


def _encode(pieces: list[np.ndarray], fs: int) -> dict[str, Player]:
    dry, wet, aligned = pieces
    signals = {"dry": dry, "wet": wet, "aligned": aligned}
    for share in _SHARES:
        part = share / 100.0
        signals[f"{share}-before"] = part * dry + (1.0 - part) * wet
        signals[f"{share}-after"] = part * aligned + (1.0 - part) * wet
    gains = _equal_loudness(signals)
    return {key: _player(key, x, gains[key], fs) for key, x in signals.items()}


def _equal_loudness(signals: dict[str, np.ndarray]) -> dict[str, tuple[float, bool]]:
    # One RMS for all, as loud as the one with the highest peaks allows: switching between any two is fair,
    # and none is louder than -1 dBFS. Gain 0 stands for silence.
    gains: dict[str, tuple[float, bool]] = dict.fromkeys(signals, (0.0, False))
    rms = {key: float(np.sqrt(np.mean(x**2))) for key, x in signals.items()}
    peak = {key: float(np.max(np.abs(x))) for key, x in signals.items()}
    heard = [key for key in signals if peak[key] > _SILENCE]
    if not heard:
        return gains
    files = [key for key in ("dry", "wet", "aligned") if key in heard] or heard
    target = min(_CEILING * rms[key] / peak[key] for key in heard)
    most = _MOST_EXTRA_GAIN * max(target / rms[key] for key in files)
    gains.update({key: (min(target / rms[key], most), target / rms[key] > most) for key in heard})
    return gains


def _flac(x: np.ndarray, fs: int) -> str:
    buffer = io.BytesIO()
    pcm = np.round(np.clip(x, -1.0, 1.0) * 32767.0).astype(np.int16)
    soundfile.write(buffer, pcm, fs, format="FLAC", subtype="PCM_16")
    return base64.b64encode(buffer.getvalue()).decode("ascii")
