"""What pages play: excerpts and mixes as FLAC in base64, all equally loud."""

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
    """Make players for signals `(channels, T)` with rates in Hz, which need not share length or rate."""
    cut = {key: _for_player(x[:2], fs) for key, (x, fs) in signals.items()}
    return _players(cut, {key: min(fs, PLAYER_FS) for key, (_, fs) in signals.items()})


def equal_loudness(signals: Mapping[str, np.ndarray]) -> dict[str, tuple[float, bool]]:
    """Return the gain of each signal, and whether it was limited; 0 for silence.

    One RMS for all, as loud as the one with the highest peaks allows, and none exceeds -1 dBFS.
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
    """Encode samples `(T,)` or `(T, channels)` as 16-bit FLAC in base64."""
    buffer = io.BytesIO()
    pcm = np.round(np.clip(x, -1.0, 1.0) * 32767.0).astype(np.int16)
    soundfile.write(buffer, pcm, fs, format="FLAC", subtype="PCM_16")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _players(signals: dict[str, np.ndarray], rates: dict[str, int]) -> dict[str, Player]:
    players = {}
    for key, (gain, limited) in equal_loudness(signals).items():
        gain_db = float(20.0 * np.log10(gain)) if gain else np.nan
        players[key] = Player(key, gain_db, limited, flac(gain * signals[key], rates[key]))
    return players


def _loudest_difference(dry: np.ndarray, wet: np.ndarray, length: int) -> tuple[int, int]:
    total = dry.shape[-1]
    if total <= length:
        return 0, total
    weight = sum(((y - x) ** 2 for x, y in zip(dry, wet, strict=True)), np.zeros(total))
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
