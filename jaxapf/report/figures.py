"""The figures of the report: phase, group delay, spectrum of the mix, waveform close-ups."""

from html import escape
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from scipy import signal

from jaxapf import allpass
from jaxapf._internal.fft import fast_length
from jaxapf._internal.text import fixed, hertz
from jaxapf.report.svg import Axis, Curve, Panel, Size, figure, frequency_axis, linear_axis, runs, snug_axis

__all__ = ["Comparison", "closeup_figures", "compare", "mix_figure", "phase_figures", "responsive"]

_POINTS_PER_OCTAVE = 24
_DEGREES = (5.0, 15.0, 30.0, 45.0, 90.0, 180.0, 360.0, 720.0, 1440.0, 2880.0, 5760.0)
_AUDIBLE = 1e-8  # of the strongest band: 80 dB below it phases are those of noise
_COHERENCE = ("cross", "aligned", "wet")
_NOTHING = "Too little signal in common to show"


class Comparison(NamedTuple):
    """Dry, aligned and wet compared on a logarithmic grid, all channels summed; NaN: not measurable.

    `residual_rad` is the phase from the aligned to the wet signal, in (-pi, pi], smoothed over one
    `smoothing`-th of an octave; the mixes are equal mixes with the wet signal, relative to it.
    """

    freqs_hz: np.ndarray
    residual_rad: np.ndarray
    smoothing: int
    mix_before_db: np.ndarray
    mix_after_db: np.ndarray


class Place(NamedTuple):
    """A stretch of one channel for a close-up, in samples."""

    title: str
    start: int
    stop: int
    channel: int


def compare(dry: np.ndarray, wet: np.ndarray, aligned: np.ndarray, fs: float) -> Comparison:
    """Compare the spectra of three signals of shape `(channels, T)`."""
    high_hz = min(20000.0, 0.49 * fs)
    octaves = np.log2(high_hz / 20.0)
    freqs_hz = 20.0 * 2.0 ** (octaves * np.linspace(0.0, 1.0, int(octaves * _POINTS_PER_OCTAVE) + 1))
    n_fft = fast_length(max(16, dry.shape[-1]))
    power = _channel_powers(dry, wet, aligned, n_fft)
    resolution = fs / dry.shape[-1]

    def band(values: np.ndarray, octave: float) -> np.ndarray:
        return _band_mean(values, freqs_hz, n_fft / fs, octave, resolution)

    bands = {name: band(values, 1 / 6) for name, values in power.items()}
    strongest = max(bands["wet"].max(), bands["aligned"].max(), 1e-300)
    audible = np.minimum(bands["wet"], bands["aligned"]) > _AUDIBLE * strongest
    audible &= freqs_hz >= 3.0 * resolution  # below, the file holds too few periods

    # A room's phase is coherent only when smoothed more than a circuit's, that of a late signal only when
    # smoothed less: take the smoothing that leaves most bands.
    tried = {n: _coherent_phase({k: band(power[k], 1 / n) for k in _COHERENCE}, audible) for n in (24, 12, 6)}
    smoothing = max(tried, key=lambda n: np.isfinite(tried[n]).sum())
    level = np.where(audible, bands["wet"], np.nan)
    before, after = (10.0 * np.log10(np.maximum(bands[k] / level, 1e-12)) for k in ("before", "after"))
    return Comparison(freqs_hz, tried[smoothing], smoothing, before, after)


def phase_figures(compared: Comparison, sections: allpass.Sections, fs: float) -> tuple[Markup, Markup]:
    """Return the figures of phase and group delay: the target from the pair, and the cascade's."""
    freqs_hz = compared.freqs_hz
    sections = allpass.Sections(*(np.asarray(margin, np.float64) for margin in sections))
    fine_hz = fine_grid(freqs_hz, sections.sos, fs)
    learned_deg = np.degrees(allpass.phase_response(sections, fine_hz, fs))
    target_deg = np.degrees(
        allpass.phase_response(sections, freqs_hz, fs) + _unwrapped(compared.residual_rad)
    )
    residual_deg = np.degrees(compared.residual_rad)
    # Break the line where the phase wraps, or it would be drawn across the plot.
    wraps = np.flatnonzero(np.abs(np.diff(residual_deg)) > 180.0) + 1
    error_deg = np.insert(residual_deg, wraps, np.nan)
    x = frequency_axis(freqs_hz[0], freqs_hz[-1])
    phase = Panel(
        (Curve(freqs_hz, target_deg, "wet", "Target"), Curve(fine_hz, learned_deg, "aligned", "Learned")),
        linear_axis("Phase (°)", np.concatenate([target_deg, learned_deg]), 5, _DEGREES),
        _NOTHING,
        2.0,
    )
    largest = np.max(np.nan_to_num(np.abs(residual_deg)))
    span = next(limit for limit in (15.0, 30.0, 90.0, 180.0, np.inf) if largest <= limit)
    error = Panel(
        (Curve(np.insert(freqs_hz, wraps, freqs_hz[wraps]), error_deg, "error"),),
        linear_axis("Error: target − learned (°)", np.array([-1.0, 1.0]) * min(span, 180.0), 4, _DEGREES),
        _NOTHING,
    )
    learned_ms = 1e3 / fs * allpass.group_delay(sections, fine_hz, fs)
    target_ms = 1e3 * (allpass.group_delay(sections, freqs_hz, fs) / fs + _residual_delay(compared))
    # The axis belongs to the learned curve and to what most of the target does, not to its outliers.
    target_range = np.nanquantile(target_ms, [0.03, 0.97]) if np.isfinite(target_ms).any() else np.zeros(2)
    delay = Panel(
        (Curve(freqs_hz, target_ms, "wet", "Target"), Curve(fine_hz, learned_ms, "aligned", "Learned")),
        linear_axis("Group delay (ms)", np.concatenate([learned_ms, target_range, [0.0]]), 5),
        _NOTHING,
    )
    known_deg = np.abs(residual_deg[np.isfinite(residual_deg)])
    typical = f"{np.median(known_deg):.1f}°" if known_deg.size else "not measurable"
    phase_text = f"Phase without the constant delay. Median error of the learned phase: {typical}."
    delay_text = "Group delay of the all-pass sections; the constant delay is not part of it."
    return (
        responsive("phase", "Target and learned phase", phase_text, (phase, error), x, (480, 430)),
        responsive("delay", "Target and learned group delay", delay_text, (delay,), x, (320, 270)),
    )


def mix_figure(compared: Comparison) -> Markup:
    """Return the figure of the equal mix, before and after, relative to the wet signal."""
    freqs_hz, before, after = compared.freqs_hz, compared.mix_before_db, compared.mix_after_db
    values = np.concatenate([before, after])
    known = np.append(values[np.isfinite(values)], [-12.0, 3.0])
    shown = np.clip(known, -36.0, max(12.0, np.quantile(known, 0.75) + 6.0))
    panel = Panel(
        (Curve(freqs_hz, before, "dry", "Before"), Curve(freqs_hz, after, "aligned", "After")),
        linear_axis("Level of the mix (dB)", shown, 6, (1.0, 3.0, 6.0, 12.0)),
        _NOTHING,
    )
    text = f"Deepest cancellation before: {_dip(freqs_hz, before)}; after: {_dip(freqs_hz, after)}."
    title = "Level of the 50/50 mix relative to the wet signal, 1/6 octave"
    x = frequency_axis(freqs_hz[0], freqs_hz[-1])
    return responsive("mix", title, text, (panel,), x, (320, 270))


def closeup_figures(
    dry: np.ndarray, wet: np.ndarray, aligned: np.ndarray, fs: float
) -> list[tuple[str, Markup]]:
    """Return titles and waveforms of dry, wet and aligned over each other, at up to four places."""
    closeups = []
    for index, place in enumerate(places(wet, aligned, fs)):
        # the wet line is the broad one: it lies below
        curves = tuple(
            Curve(*_smooth_line(x[place.channel], place.start, place.stop, fs), role, role.capitalize())
            for role, x in (("wet", wet), ("dry", dry), ("aligned", aligned))
        )
        shown = np.concatenate([c.y for c in curves])
        y = snug_axis("Amplitude (full scale = 1)", 1.05 * np.array([shown.min(), shown.max(), 0.0]), 5)
        from_s = place.start / fs
        x = snug_axis(f"Time after {from_s:.3f} s (ms)", curves[0].x)
        channel = f", channel {place.channel + 1}" if len(wet) > 1 else ""
        text = f"{place.title}, {1e3 * (place.stop - place.start) / fs:.3g} ms from {from_s:.3f} s{channel}"
        panel = Panel(curves, y, "Silence")
        plot = figure(f"closeup{index}", place.title, text, (panel,), x, Size(440, 270, 13))
        closeups.append((place.title, Markup(plot)))
    return closeups


def places(wet: np.ndarray, aligned: np.ndarray, fs: float) -> list[Place]:
    """Return up to four stretches apart: an onset, low and high frequencies, the largest error."""
    channel = int(np.argmax([np.vdot(row, row) for row in wet]))
    x = wet[channel].astype(np.float64)
    error = x - aligned[channel]
    low_hz, high_hz = min(150.0, 0.2 * fs), min(3000.0, 0.3 * fs)
    low = np.asarray(signal.sosfilt(signal.butter(2, low_hz, output="sos", fs=fs), x))
    high = np.asarray(signal.sosfilt(signal.butter(2, high_hz, "high", output="sos", fs=fs), x))
    wanted = (
        ("Strongest onset", _onset(x, fs), 20.0),
        ("Low frequencies (loudest below 150 Hz)", low**2, 50.0),
        (f"High frequencies (loudest above {high_hz / 1000:.2g} kHz)", high**2, 3.0),
        ("Largest remaining difference", error**2, 12.0),
    )
    taken: list[Place] = []
    for title, weight, milliseconds in wanted:
        length = max(4, round(1e-3 * milliseconds * fs))
        start = _best_start(weight, length, taken)
        if start is not None:
            taken.append(Place(title, start, start + length, channel))
    return taken


def _channel_powers(dry, wet, aligned, n_fft: int) -> dict[str, np.ndarray]:
    names = ("cross", "aligned", "wet", "before", "after")
    total = {name: np.zeros(n_fft // 2 + 1, complex if name == "cross" else float) for name in names}
    for rows in zip(dry, wet, aligned, strict=True):
        x, y, a = (np.fft.rfft(row.astype(np.float64), n_fft) for row in rows)
        total["cross"] += np.conj(a) * y
        for name, spectrum in (("aligned", a), ("wet", y), ("before", (x + y) / 2), ("after", (a + y) / 2)):
            total[name] += np.abs(spectrum) ** 2
    return total


def _band_mean(values, freqs_hz, bins_per_hz: float, octave: float, resolution_hz: float) -> np.ndarray:
    # At least five cells of the file's own resolution: fewer are coherent whatever they hold.
    half_hz = np.maximum(freqs_hz * (2.0 ** (octave / 2) - 2.0 ** (-octave / 2)) / 2, 2.5 * resolution_hz)
    last = len(values) - 1
    start = np.clip(np.floor((freqs_hz - half_hz) * bins_per_hz).astype(int), 0, last - 1)
    stop = np.clip(np.ceil((freqs_hz + half_hz) * bins_per_hz).astype(int), start + 1, last)
    return np.add.reduceat(values, np.stack([start, stop], axis=1).ravel())[::2] / (stop - start)


def _coherent_phase(bands: dict[str, np.ndarray], audible: np.ndarray) -> np.ndarray:
    coherent = np.abs(bands["cross"]) ** 2 > 0.5 * bands["aligned"] * bands["wet"]
    phase_rad = np.full(len(audible), np.nan)
    for start, stop in runs(audible & coherent):
        if stop - start >= 4:  # fewer points are chance
            phase_rad[start:stop] = np.angle(bands["cross"][start:stop])
    return phase_rad


def _unwrapped(residual_rad: np.ndarray) -> np.ndarray:
    # Each run is continuous and as near to the learned phase as whole turns allow.
    result = residual_rad.copy()
    for start, stop in runs(np.isfinite(residual_rad)):
        run = np.unwrap(residual_rad[start:stop])
        result[start:stop] = run - 2 * np.pi * np.round(np.median(run) / (2 * np.pi))
    return result


def fine_grid(freqs_hz: np.ndarray, sos: np.ndarray, fs: float) -> np.ndarray:
    """Return frequencies in Hz within `freqs_hz`, with points around each pole pair, however narrow."""
    grid = [np.geomspace(freqs_hz[0], freqs_hz[-1], 1200)]
    for row in sos:
        poles = np.roots(row[3:])
        for pole in poles[poles.imag >= 0]:
            width_hz = max(1.0 - abs(pole), 1e-9) * fs / np.pi
            grid.append(np.angle(pole) * fs / (2 * np.pi) + width_hz * np.linspace(-4, 4, 33))
    merged = np.unique(np.concatenate(grid))
    return merged[(merged >= freqs_hz[0]) & (merged <= freqs_hz[-1])]


def _residual_delay(compared: Comparison) -> np.ndarray:
    # seconds; the slope over a sixth of an octave, taken on the circle so that it needs no unwrapping
    omega, turn = 2 * np.pi * compared.freqs_hz, np.exp(1j * compared.residual_rad)
    delay = np.full(len(omega), np.nan)
    delay[2:-2] = -np.angle(turn[4:] * np.conj(turn[:-4])) / (omega[4:] - omega[:-4])
    return delay


def _dip(freqs_hz: np.ndarray, level_db: np.ndarray) -> str:
    if not np.isfinite(level_db).any():
        return "not measurable"
    at = int(np.nanargmin(level_db))
    return f"{fixed(level_db[at])} dB at {hertz(freqs_hz[at])}"


def responsive(
    name: str, title: str, text: str, panels: tuple[Panel, ...], x: Axis, heights: tuple[float, float]
) -> Markup:
    """Return a figure with its text below, drawn twice: for wide and for narrow screens."""
    # One drawing scaled to both a desk and a phone has letters too small on the phone: draw two.
    wide = figure(f"{name}-wide", title, text, panels, x, Size(920, heights[0], 14))
    narrow = figure(f"{name}-narrow", title, text, panels, x, Size(360, heights[1], 12))
    return Markup(
        f'<figure><div class="wide">{wide}</div><div class="narrow">{narrow}</div>'
        f"<figcaption>{escape(text)}</figcaption></figure>"
    )


def _onset(x: np.ndarray, fs: float) -> np.ndarray:
    # Ones over the 20 ms around the largest jump of the 5 ms energy above that of the 50 ms before, which
    # the swings within a cycle of a low note do not make.
    n = max(1, round(0.005 * fs))
    energy = np.sum(x[: len(x) // n * n].reshape(-1, n) ** 2, axis=1)
    marked = np.zeros(len(x))
    if len(energy) > 1:
        padded = np.concatenate([np.zeros(10), energy])
        before = np.max(np.lib.stride_tricks.sliding_window_view(padded, 10)[:-1], axis=1)
        jump = 1 + int(np.argmax((energy - before)[1:]))
        marked[(jump - 1) * n : (jump + 3) * n] = 1.0 if energy[jump] > before[jump] else 0.0
    return marked


def _best_start(weight: np.ndarray, length: int, taken: list[Place]) -> int | None:
    if len(weight) < length or not np.any(weight > 0):
        return None
    total = np.concatenate([[0.0], np.cumsum(weight)])
    score = total[length:] - total[:-length]
    apart = len(weight) // 20  # one moment four times over would show little
    for place in taken:
        score[max(0, place.start - length + 1 - apart) : place.stop + apart] = -1.0
    start = int(np.argmax(score))
    return start if score[start] > 0 else None


def _smooth_line(x: np.ndarray, start: int, stop: int, fs: float) -> tuple[np.ndarray, np.ndarray]:
    # Time in ms and amplitude; interpolated where samples are few, so that a 3 ms view is no polygon.
    up = max(1, -(-300 // (stop - start)))
    margin = min(32, start)
    piece = np.asarray(x[start - margin : stop + 32], np.float64)
    fine = signal.resample_poly(piece, up, 1) if up > 1 else piece
    fine = fine[margin * up : (margin + stop - start - 1) * up + 1]
    return 1e3 * np.arange(len(fine)) / (fs * up), fine
