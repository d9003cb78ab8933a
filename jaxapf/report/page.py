"""The page of the report: its words and tables, and the file."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

import jaxapf
from jaxapf import audio
from jaxapf.report import figures, players, svg
from jaxapf.report.filled import filled

if TYPE_CHECKING:
    from jaxapf.alignment.model import Alignment

_UNITS = {"hz": "Hz", "db": "dB", "ms": "ms", "s": "s", "samples": "samples"}
_POLICY = (
    "default-src 'none'; media-src data:; img-src data:; style-src 'unsafe-inline';"
    " script-src 'unsafe-inline'"
)


def write(
    path: str | os.PathLike[str],
    dry,
    wet,
    aligned,
    alignment: Alignment,
    *,
    title: str = "",
    dry_name: str = "",
    wet_name: str = "",
    notes: Iterable[str] = (),
    command: str = "",
) -> None:
    """Write one self-contained HTML page that shows and plays what an alignment did.

    The page needs no network and holds players (an excerpt of at most 10 s where dry and wet differ
    most), plots of the spectrum of the mix, of waveforms, phase and group delay, the figures and the
    sections. Several channels share one plot: their cross-spectra are summed.

    Args:
      path: file to write; it appears whole or not at all.
      dry: real array `(T,)` or `(channels, T)` at `alignment.fs` Hz.
      wet: the same shape.
      aligned: the same shape: what `alignment.apply(dry)` returned.
      alignment: the `Alignment` that turned `dry` into `aligned`; its figures are printed as they are.
      title: heading of the page; without it, the two names.
      dry_name: name of the dry file.
      wet_name: name of the wet file.
      notes: sentences shown near the top, such as `"trimmed 12 samples"`.
      command: the command line that made it, shown at the end.

    Raises:
      ValueError: the shapes differ, there is no sample, or a sample is NaN or infinite.
      AudioError: the file cannot be written.

    Example:
      >>> import pathlib, tempfile, types
      >>> x = np.random.default_rng(0).normal(scale=0.1, size=4800)
      >>> alignment = types.SimpleNamespace(
      ...     fs=48000, delay_samples=0.0, polarity=-1, sos=np.zeros((0, 6)), controls=[], method="spectral",
      ...     stop_reason="a delay is enough", metrics={"esr_raw": 4.0, "esr_aligned": 0.0})
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     write(f"{folder}/report.html", x, -x, -x, alignment, title="Inverted")
      ...     "<h1>Inverted</h1>" in pathlib.Path(f"{folder}/report.html").read_text(encoding="utf-8")
      True
    """
    dry, wet, aligned = _signals(dry, wet, aligned)
    fs, sos = int(alignment.fs), np.asarray(alignment.sos, np.float64).reshape(-1, 6)
    metrics = dict(alignment.metrics)
    compared = figures.compare(dry, wet, aligned, fs)
    phases = figures.phase_figures(compared, sos, fs)
    excerpt = players.excerpt(dry, wet, aligned, fs)
    heading = title or f"{dry_name or 'dry'} → {wet_name or 'wet'}"
    silent = not (dry.any() and wet.any())
    parts = {
        "summary": escape(_summary(metrics, alignment, len(sos), silent)),
        "key_figures": _key_figures(metrics, alignment, len(sos), fs),
        "notes": notes_list([*notes, *_remarks(alignment, len(sos), fs, len(wet))]),
        "excerpt": escape(_excerpt_text(excerpt, wet.shape[-1] / fs)),
        "players": _players(excerpt),
        "mix": figures.mix_figure(compared),
        "closeups": figures.closeup_figures(dry, wet, aligned, fs),
        "phase_lead": escape(_phase_lead(len(sos), compared.smoothing)),
        "phase": phases["phase"],
        "delay": phases["delay"],
        "figures": _figures(metrics, alignment, len(sos), fs, wet.shape),
        "sections": _sections(sos, list(alignment.controls), fs),
        "footer": _footer(dry_name, wet_name, command),
    }
    audio.write_text(path, filled("template.html", parts, title=heading, policy=_POLICY))


def _signals(*signals) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    given = [np.asarray(x) for x in signals]
    for name, x in zip(("dry", "wet", "aligned"), given, strict=True):
        if x.ndim not in (1, 2) or x.shape != given[0].shape or x.size == 0:
            raise ValueError(
                f"{name} has shape {x.shape} and dry {given[0].shape}; dry, wet and aligned must share"
                " one shape, (T,) or (channels, T), with at least one sample."
            )
        if not np.isfinite(x).all():
            raise ValueError(f"{name} holds NaN or infinite samples; repair the file before reporting on it.")
    # float32 stays: long files are widened where they are measured, a channel or an excerpt at a time
    dry, wet, aligned = (np.atleast_2d(x if x.dtype == np.float32 else np.float64(x)) for x in given)
    return dry, wet, aligned


def _known(value: Any) -> float:
    """`value` as a float, NaN where it is missing, no number or infinite."""
    known = isinstance(value, (int, float, np.number)) and math.isfinite(float(value))
    return float(value) if known else math.nan


def _number(value: Any, digits: int = 3) -> str:
    """A number for people: three significant digits, a true minus, no computer exponents."""
    value = _known(value)
    if math.isnan(value):
        return "–"
    text = f"{value:.{digits}g}" if value == int(value) else f"{value:#.{digits}g}".removesuffix(".")
    if "e" in text:
        mantissa, exponent = text.split("e")
        return f"{mantissa} × 10{str(int(exponent)).translate(svg.SUPERSCRIPT)}".replace("-", "−")
    return text.replace("-", "−")


def _decibels(ratio: Any) -> str:
    ratio = _known(ratio)
    if math.isnan(ratio):
        return "–"
    return f"{10.0 * math.log10(ratio):.1f} dB".replace("-", "−") if ratio > 0 else "−∞ dB"


def _time(samples: float, fs: int) -> str:
    return f"{_number(samples, 5)} samples ({_number(1e3 * samples / fs, 4)} ms)"


def _summary(metrics: dict, alignment, n_sections: int, silent: bool) -> str:
    """One honest sentence, for an engineer in a hurry."""
    if silent:
        return "Nothing to align: at least one of the files is silent."
    raw, after, bound = (_known(metrics.get(f"esr_{key}")) for key in ("raw", "aligned", "bound"))
    # Below the bound: the bound counts the filter's tail, which the file's end has cut off.
    known = not math.isnan(bound) and not after < bound
    best = f" (best any phase filter could do:\u00a0{_number(bound)})" if known else ""
    if math.isnan(raw) or math.isnan(after):
        return "The figures of this alignment are not known."
    if n_sections == 0 and alignment.delay_samples == 0 and alignment.polarity > 0:
        if raw <= 0.01:
            return f"The two files already lie on each other, nothing was changed: error {_number(raw)}."
        return (
            "Nothing was changed: no delay, polarity or phase filter was found that brings the dry file"
            f" closer to the wet one; error {_number(raw)}{best}."
        )
    change = f"error\u00a0{_number(raw)}\u00a0→\u00a0{_number(after)}{best}."
    if after >= raw:
        return f"The alignment did not bring the dry file closer to the wet one: {change}"
    by = "" if n_sections else ", by delay and polarity alone"
    if after <= 0.1:
        return f"The dry file now lies on the wet one{by}: {change}"
    if after <= 0.5:
        return f"The dry file is now close to the wet one{by}, though not on it: {change}"
    return f"The dry file is nearer to the wet one{by}, but they still differ much: {change}"


def _key_figures(metrics: dict, alignment, n_sections: int, fs: int) -> str:
    error = f"{_number(metrics.get('esr_raw'))} → {_number(metrics.get('esr_aligned'))}"
    decibels = f"{_decibels(metrics.get('esr_raw'))} → {_decibels(metrics.get('esr_aligned'))}"
    correlation = f"{_number(metrics.get('correlation_raw'))} → {_number(metrics.get('correlation_aligned'))}"
    delay = alignment.delay_samples
    moved = "dry is delayed" if delay > 0 else "dry is advanced" if delay < 0 else "dry stays in place"
    polarity = "polarity kept" if alignment.polarity > 0 else "polarity inverted"
    order = metrics.get("order")
    rows = (
        ("Error-to-signal ratio", error, decibels),
        ("Correlation", correlation, "1 is perfect"),
        ("Constant delay", f"{_number(1e3 * delay / fs, 4)} ms", f"{_number(delay, 5)} samples; {moved}"),
        ("All-pass sections", str(n_sections), polarity + (f"; order {order}" if order is not None else "")),
    )
    cells = (f"<div><dt>{a}</dt><dd>{b}<small>{escape(c)}</small></dd></div>" for a, b, c in rows)
    return f'<dl class="key">{"".join(cells)}</dl>'


def _remarks(alignment, n_sections: int, fs: int, n_channels: int) -> list[str]:
    remarks = []
    if alignment.stop_reason:
        remarks.append(f"{'Sections' if n_sections else 'No sections'}: {alignment.stop_reason}")
    if alignment.delay_samples < 0:
        remarks.append(
            f"Negative latency: the dry file was advanced by {_time(-alignment.delay_samples, fs)}, for one"
            " of two reasons: the wet file is earlier (a host that compensated too much latency, a second"
            " microphone nearer to the source), or the sections delay more than the recordings differ."
        )
    if n_channels > 2:
        remarks.append(f"The players hold the first two of {n_channels} channels, the figures hold all.")
    return remarks


def notes_list(notes: list[str]) -> str:
    """Sentences as a list of the page; nothing without them."""
    items = "".join(f"<li>{escape(str(note))}</li>" for note in notes)
    return f'<ul class="notes" aria-label="Notes">{items}</ul>' if items else ""


def _excerpt_text(excerpt: players.Excerpt, total_s: float) -> str:
    length = f"{excerpt.duration_s:.1f} s"
    where = (
        f"{length} from {excerpt.start_s:.1f} s, where dry and wet differ most."
        if excerpt.duration_s < 0.999 * total_s
        else f"The whole {_number(total_s)} s."
    )
    return (
        f"{where} All are played equally loud (same RMS) and peak at −1 dBFS or below; the gain this took is"
        " beside each name."
    )


def _players(excerpt: players.Excerpt) -> str:
    files = (("dry", "Dry"), ("wet", "Wet"), ("aligned", "Aligned"))
    rows = ["<h3><b>Files</b></h3>", _choices(excerpt, files, "")]
    for share in (25, 50, 75):
        mix = f"{share} % dry, {100 - share} % wet"
        rows.append(f"<h3><b>Mix</b> {mix}</h3>")
        names = ((f"{share}-before", "Before"), (f"{share}-after", "After"))
        rows.append(_choices(excerpt, names, f"Mix {mix}, "))
    return f'<div class="tracks">{"".join(rows)}</div>'


def _choices(excerpt: players.Excerpt, names: tuple[tuple[str, str], ...], prefix: str) -> str:
    return f'<div class="choices">{"".join(player(excerpt.players[k], n, prefix) for k, n in names)}</div>'


def player(one: players.Player, name: str, prefix: str = "") -> str:
    """A button that plays a signal; `prefix` goes before its name where it is read out."""
    gain = f"{one.gain_db:+.1f} dB".replace("-", "−") if math.isfinite(one.gain_db) else "silent"
    gain += " (limit)" if one.limited else ""
    spoken = f"{prefix}{name.lower()}" if prefix else name
    return (
        f'<div class="player {one.key.split("-")[-1]}" data-key="{one.key}">'
        f'<button type="button" aria-pressed="false" aria-label="Play {spoken}, gain {gain}">'
        f'<span class="icon"></span><span class="name">{name}</span><span class="gain">{gain}</span></button>'
        f'<audio controls preload="metadata" aria-label="{spoken}"'
        f' src="data:audio/flac;base64,{one.data}"></audio></div>'
    )


def _phase_lead(n_sections: int, smoothing: int) -> str:
    lead = (
        "The target is the phase between dry and wet once delay and polarity are taken out, smoothed over"
        f" 1/{smoothing} octave and drawn only where both files have energy and agree (coherence above one"
        " half)."
    )
    return lead if n_sections else f"{lead} There are no sections, so the learned phase is zero."


def _figures(metrics: dict, alignment, n_sections: int, fs: int, shape: tuple[int, ...]) -> str:
    inverted = {1: "kept", -1: "inverted"}
    only = metrics.get("delay_only_samples")
    only_polarity = inverted.get(metrics.get("delay_only_polarity", 0), "–")
    n = f"{n_sections} section{'' if n_sections == 1 else 's'}"
    rows = (
        ("As recorded", "raw", "0", "kept", ""),
        ("Best delay and polarity", "delay", _number(only, 5), only_polarity, ""),
        (
            f"Aligned, {n}",
            "aligned",
            _number(alignment.delay_samples, 5),
            inverted[1 if alignment.polarity > 0 else -1],
            ' class="aligned"',
        ),
        ("Bound of any phase filter", "bound", "–", "–", ""),
    )
    columns = ("Error", "in dB", "Correlation", "Delay (samples)")
    head = "".join(f'<th scope="col" class="n">{name}</th>' for name in columns)
    head += '<th scope="col">Polarity</th>'
    body = "".join(
        f'<tr{kind}><th scope="row">{name}</th><td class="n">{_number(metrics.get(f"esr_{key}"), 4)}</td>'
        f'<td class="n">{_decibels(metrics.get(f"esr_{key}"))}</td>'
        f'<td class="n">{_number(metrics.get(f"correlation_{key}"), 4)}</td>'
        f'<td class="n">{delay}</td><td>{polarity}</td></tr>'
        for name, key, delay, polarity, kind in rows
    )
    return (
        "<p>The error-to-signal ratio is the sum of (wet − signal)² over the sum of wet², without any gain:"
        " 0 is perfect, above 1 is worse than silence. What remains at the bound is what the phase cannot"
        " change: level, distortion, noise.</p>"
        f'<div class="scroll" tabindex="0"><table><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
        f"{_facts(metrics, alignment, fs, shape)}"
    )


def _facts(metrics: dict, alignment, fs: int, shape: tuple[int, ...]) -> str:
    delay = alignment.delay_samples
    how = {1: "the dry file is delayed", -1: "the dry file is advanced", 0: "nothing to move"}
    rows = [
        ("Constant delay", f"{_time(delay, fs)}: {how[int(np.sign(delay))]}"),
        ("Polarity", "kept" if alignment.polarity > 0 else "inverted"),
        ("Method", str(alignment.method)),
        ("Files", f"{shape[0]} channel{'s' if shape[0] > 1 else ''}, {shape[1]} samples at {fs} Hz"),
    ]
    if not math.isnan(_known(metrics.get("seconds"))):
        rows.append(("Time taken", f"{_number(metrics['seconds'])} s"))
    body = "".join(f'<tr><th scope="row">{name}</th><td>{escape(text)}</td></tr>' for name, text in rows)
    return f'<div class="scroll" tabindex="0"><table><tbody>{body}</tbody></table></div>'


def _sections(sos: np.ndarray, controls: list[dict], fs: int) -> str:
    if not len(sos):
        return "<p>No sections: beyond delay and polarity, the dry file is untouched.</p>"
    names = list(dict.fromkeys(key for control in controls for key in control))
    head = "".join(f'<th scope="col" class="n">{escape(_heading(name))}</th>' for name in names)
    rows = []
    for index, control in enumerate(controls, 1):
        cells = "".join(_cell(control.get(name)) for name in names)
        rows.append(f'<tr><th scope="row">{index}</th>{cells}</tr>')
    coefficients = ",\n ".join(json.dumps(row) for row in sos.tolist())
    table = (
        '<p><button class="copy" type="button" data-copies="controls">Copy table</button></p>'
        '<div class="scroll" tabindex="0"><table id="controls"><thead>'
        f'<tr><th scope="col">Section</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
    return (
        (table if names else "")
        + f"<h3>Second-order sections at {fs} Hz, one a row: b0, b1, b2, a0, a1, a2</h3>"
        + '<p><button class="copy" type="button" data-copies="sos">Copy sections</button></p>'
        + f'<pre id="sos" tabindex="0">[{coefficients}]</pre>'
    )


def _heading(name: str) -> str:
    words = name.split("_")
    unit = _UNITS.get(words[-1], "") if len(words) > 1 else ""
    text = " ".join(words[:-1] if unit else words)
    return f"{text} ({unit})" if unit else text


def _cell(value: Any) -> str:
    if isinstance(value, (float, np.floating)):
        return f'<td class="n" data-value="{float(value)!r}">{_number(value, 6)}</td>'
    return f'<td class="n">{escape("–" if value is None else str(value))}</td>'


def _footer(dry_name: str, wet_name: str, command: str) -> str:
    files = f"Dry: {escape(dry_name)}. Wet: {escape(wet_name)}. " if dry_name and wet_name else ""
    made = f"Made by jaxapf {escape(jaxapf.__version__)}."
    return f"<p>{files}{made}</p>" + (f'<pre class="wrap">{escape(command)}</pre>' if command else "")
