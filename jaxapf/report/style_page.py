"""The page that shows and plays a style transfer: what was heard, what was chosen, what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources
from os import PathLike
from typing import Any, Protocol

import numpy as np
from scipy import signal

from jaxapf import audio
from jaxapf._internal.version import __version__
from jaxapf.effects import compressor, equalizer
from jaxapf.effects.style import network, transfer
from jaxapf.report import figures, page, players
from jaxapf.report.filled import filled
from jaxapf.report.svg import Axis, Curve, Panel, frequency_axis, linear_axis, snug_axis

_POLICY = (
    "default-src 'none'; media-src data:; img-src data:; style-src 'unsafe-inline';"
    " script-src 'unsafe-inline'"
)
_NOTHING = "Nothing to show"
_PLAYED_S = 10.0
_POINTS = 12  # of a spectrum, an octave
_LEAST_DB = -60.0  # of a spectrum, against its strongest third of an octave


class Sound(Protocol):
    """An open recording: `read(start, stop)` gives (channels, stop - start)."""

    @property
    def fs(self) -> int: ...
    @property
    def n_samples(self) -> int: ...
    @property
    def read(self) -> Any: ...


def write(
    path: str | PathLike[str],
    settings: transfer.Settings,
    given: Sound,
    reference: Sound,
    *,
    places: Sequence[Sequence[tuple[int, int]]],
    names: Sequence[str],
    notes: Iterable[str] = (),
    command: str = "",
) -> None:
    """Write one self-contained HTML page about a style transfer.

    Args:
        path: file to write; it appears whole or not at all.
        settings: of `transfer`.
        given: the recording that went through the effects.
        reference: the one whose sound it was given.
        places: of both, the stretches that the network heard, in samples.
        names: of both.
        notes: sentences shown near the top.
        command: the command line that made it, shown at the end.

    Raises:
        AudioError: the file cannot be written.
    """
    here = np.concatenate([given.read(*one) for one in places[0]], axis=-1)
    there = np.concatenate([reference.read(*one) for one in places[1]], axis=-1)
    made = _processed(settings, here, given.fs)
    start, stop = _loudest(given, places[0])
    before = min(start, given.fs)  # the compressor's state at the first sample comes from what is before
    played = given.read(start - before, stop)
    result = _processed(settings, played, given.fs)[:, before:]
    there_at = _loudest(reference, places[1])
    signals = {
        "dry": (played[:, before:], given.fs),
        "wet": (reference.read(*there_at), reference.fs),
        "aligned": (result, given.fs),
    }
    reduction = transfer.reduction_db(settings, played, given.fs)[before:]
    parts = {
        "summary": escape(_summary(settings, reduction)),
        "key_figures": _key_figures(settings, reduction),
        "notes": page.notes_list(list(notes)),
        "excerpt": escape(_excerpt(start / given.fs, stop / given.fs, there_at[0] / reference.fs)),
        "players": _players(signals),
        "spectra": _spectra(
            {"dry": (here, given.fs), "wet": (there, reference.fs), "aligned": (made, given.fs)}
        ),
        "equaliser": _equaliser(settings, given.fs),
        "curve": _curve(settings),
        "reduction": _reduction(reduction, start, given.fs),
        "controls": _controls(settings),
        "footer": _footer(names, command),
    }
    parts |= _shared()
    title = f"{names[0]} in the style of {names[1]}"
    audio.write_text(path, filled("styled.html", parts, title=title, policy=_POLICY))


def _shared() -> dict[str, str]:
    """Looks and players of the other report."""
    page = resources.files("jaxapf.report").joinpath("template.html").read_text(encoding="utf-8")
    return {
        "style": page.partition("<style>")[2].partition("</style>")[0].strip(),
        "script": page.rpartition("<script>")[2].partition("</script>")[0],
    }


def _processed(settings: transfer.Settings, x: np.ndarray, fs: int) -> np.ndarray:
    blocks = transfer.stream(settings, lambda start, stop: x[:, start:stop], x.shape[-1], fs)
    return np.concatenate(list(blocks), axis=-1)


def _loudest(one: Sound, places: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Ten seconds around the loudest of the stretches."""
    length = min(round(_PLAYED_S * one.fs), one.n_samples)
    powers = [float(np.mean(np.square(one.read(*place), dtype=np.float64))) for place in places]
    first, last = places[int(np.argmax(powers))]
    start = min(max(0, (first + last - length) // 2), one.n_samples - length)
    return start, start + length


# Words


def _summary(settings: transfer.Settings, reduction: np.ndarray) -> str:
    freqs_hz = np.geomspace(40.0, 10e3, 200)
    curve_db = np.asarray(equalizer.response_db(transfer.parts(settings.controls)[0], freqs_hz, network.FS))
    most = int(np.argmax(np.abs(curve_db)))
    hz = freqs_hz[most]
    db = f"{curve_db[most]:+.1f} dB".replace("-", "−")
    at = f"{hz / 1000:.2g} kHz" if hz >= 1000 else f"{hz:.0f} Hz"
    return (
        f"The equaliser does most at {at} ({db}); the compressor takes up to {-reduction.min():.1f} dB away, "
        f"{-np.mean(reduction):.1f} dB on average."
    )


def _key_figures(settings: transfer.Settings, reduction: np.ndarray) -> str:
    values = settings.controls
    rows = (
        ("Threshold", f"{values['compressor.threshold_db']:.1f} dB", f"at {network.LEVEL_DB:g} dB RMS in"),
        ("Ratio", f"{values['compressor.ratio']:.2f} : 1", f"knee {values['compressor.knee_db']:.1f} dB"),
        (
            "Attack, release",
            f"{values['compressor.attack_ms']:.3g}, {values['compressor.release_ms']:.3g} ms",
            f"reduction up to {-reduction.min():.1f} dB",
        ),
        (
            "Level before, after",
            f"{settings.input_db:+.1f}, {settings.output_db:+.1f} dB",
            "around the effects",
        ),
    )
    cells = "".join(
        f"<div><dt>{name}</dt><dd>{value.replace('-', '−')}<small>{escape(small)}</small></dd></div>"
        for name, value, small in rows
    )
    return f'<dl class="key">{cells}</dl>'


def _excerpt(start_s: float, stop_s: float, there_s: float) -> str:
    return (
        f"{stop_s - start_s:.1f} s of the input from {start_s:.1f} s and of the result, and the reference "
        f"from {there_s:.1f} s. All are played equally loud (same RMS) and peak at −1 dBFS or below; the "
        "gain this took is beside each name."
    )


def _players(signals: dict[str, tuple[np.ndarray, int]]) -> str:
    found = players.separate(signals)
    names = (("dry", "Input"), ("aligned", "Result"), ("wet", "Reference"))
    buttons = "".join(page.player(found[key], name) for key, name in names)
    return f'<div class="choices three">{buttons}</div>'


def _footer(names: Sequence[str], command: str) -> str:
    files = " ".join(
        f"{name}: {escape(file)}." for name, file in zip(("Input", "Reference"), names, strict=True)
    )
    made = f'<pre class="wrap">{escape(command)}</pre>' if command else ""
    return f"<p>{files} Made by jaxapf {escape(__version__)}.</p>{made}"


def _controls(settings: transfer.Settings) -> str:
    rows = []
    for one in network.CONTROLS:
        effect, _, name = one.name.partition(".")
        unit = f" {one.unit}" if one.unit else ""
        words = name.removesuffix(f"_{one.unit.lower()}" if one.unit else "").replace("_", " ")
        value = settings.controls[one.name]
        rows.append(
            f'<tr><th scope="row">{effect.replace("equalizer", "equaliser")}</th><td>{words}</td>'
            f'<td class="n" data-value="{value!r}">{_short(value)}{unit}</td>'
            f'<td class="n">{_short(one.low)} to {_short(one.high)}{unit}</td></tr>'
        )
    head = "".join(f'<th scope="col"{kind}>{name}</th>' for name, kind in _COLUMNS)
    return (
        '<p><button class="copy" type="button" data-copies="controls">Copy table</button></p>'
        f'<div class="scroll" tabindex="0"><table id="controls" class="strip"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


_COLUMNS = (("Effect", ""), ("Control", ""), ("Value", ' class="n"'), ("Range", ' class="n"'))


def _short(value: float) -> str:
    return (f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}").replace("-", "−")


# Pictures


def _spectra(signals: dict[str, tuple[np.ndarray, int]]) -> str:
    high_hz = min(20_000.0, *(0.45 * fs for _, fs in signals.values()))
    freqs_hz = 20.0 * 2 ** np.linspace(0, np.log2(high_hz / 20), int(np.log2(high_hz / 20) * _POINTS) + 1)
    levels = {key: _thirds(x, fs, freqs_hz) for key, (x, fs) in signals.items()}
    highest = max(float(one.max()) for one in levels.values())
    labels = {"wet": "Reference", "dry": "Input", "aligned": "Result"}
    # The reference has the broad line: it lies below.
    curves = tuple(Curve(freqs_hz, levels[key], key, label) for key, label in labels.items())
    shown = np.clip(np.concatenate(list(levels.values())), highest + _LEAST_DB, None)
    panel = Panel(curves, linear_axis("Level in a third of an octave (dB)", shown, 6), _NOTHING)
    before, after = (np.mean(np.abs(levels[key] - levels["wet"])) for key in ("dry", "aligned"))
    text = f"Mean distance from the reference: input {before:.1f} dB, result {after:.1f} dB."
    axis = frequency_axis(20.0, high_hz)
    return figures.responsive(
        "spectra", "Spectra of input, reference and result", text, (panel,), axis, (340, 300)
    )


def _thirds(x: np.ndarray, fs: int, freqs_hz: np.ndarray) -> np.ndarray:
    """Level in dB of the third of an octave around each frequency, relative to the whole signal."""
    window = min(x.shape[-1], 1 << (fs // 4).bit_length())
    _, power = signal.welch(x.astype(np.float64), fs, nperseg=window)
    power = power.mean(axis=0)
    total = np.concatenate([[0.0], np.cumsum(power)])
    edges = freqs_hz[:, None] * 2.0 ** np.array([-1 / 6, 1 / 6]) * window / fs + 0.5
    low, high = np.interp(edges, np.arange(len(total)), total).T
    return 10 * np.log10(np.maximum((high - low) / max(total[-1], 1e-30), 1e-10))


def _equaliser(settings: transfer.Settings, fs: int) -> str:
    high_hz = min(20_000.0, 0.49 * fs)
    freqs_hz = np.geomspace(20.0, high_hz, 400)
    controls, _ = transfer.parts(settings.controls)
    gains_db = np.asarray(equalizer.response_db(controls, freqs_hz, fs))
    panel = Panel(
        (Curve(freqs_hz, gains_db, "aligned"),),
        linear_axis("Gain (dB)", np.append(gains_db, [-6.0, 6.0]), 6, (1.0, 3.0, 6.0, 12.0)),
        _NOTHING,
    )
    text = f"From {gains_db.min():.1f} to {gains_db.max():.1f} dB.".replace("-", "−")
    axis = frequency_axis(20.0, high_hz)
    return figures.responsive("equaliser", "Gain of the equaliser", text, (panel,), axis, (300, 260))


def _curve(settings: transfer.Settings) -> str:
    _, controls = transfer.parts(settings.controls)
    level_db = np.linspace(-60.0, 0.0, 241)
    out_db = level_db + np.asarray(compressor.curve_db(level_db, controls)) + controls.makeup_db
    curves = (
        Curve(level_db, level_db, "wet", "As it goes in"),
        Curve(level_db, out_db, "aligned", "As it comes out"),
    )
    panel = Panel(curves, linear_axis("Level out (dB)", np.append(out_db, level_db), 6), _NOTHING)
    axis: Axis = snug_axis("Level in (dB), after the gain before the effects", level_db, 6)
    text = f"Threshold {controls.threshold_db:.1f} dB, ratio {controls.ratio:.2f} : 1.".replace("-", "−")
    return figures.responsive("curve", "Static curve of the compressor", text, (panel,), axis, (320, 280))


def _reduction(reduction: np.ndarray, start: int, fs: int) -> str:
    step = max(1, len(reduction) // 4000)
    count = len(reduction) // step
    lowest = reduction[: count * step].reshape(count, step).min(axis=-1)
    seconds = (start + step * np.arange(count)) / fs
    panel = Panel(
        (Curve(seconds, lowest, "aligned"),),
        linear_axis("Gain (dB)", np.append(lowest, [0.0, -3.0]), 5),
        _NOTHING,
    )
    text = f"At most {-lowest.min():.1f} dB less, {-np.mean(reduction):.1f} dB on average."
    axis = snug_axis("Time (s)", seconds)
    return figures.responsive(
        "reduction", "Gain of the compressor over time", text, (panel,), axis, (260, 230)
    )
