"""The page about an alignment: its text, and the file."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from jaxapf import audio
from jaxapf._internal.text import count, decibels, known, number
from jaxapf.report import figures, players
from jaxapf.report.rendering import render

if TYPE_CHECKING:
    from jaxapf.alignment.model import Alignment

__all__ = ["write"]


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

    `dry`, `wet` and `aligned`, the result of `alignment.apply(dry)`, are real, `(T,)` or `(channels, T)`, at
    `alignment.fs` Hz. Without a `title` the heading is made of the two names; `notes` are sentences near the
    top, and `command`, the command line of the alignment, is shown at the end.

    Raises:
        ValueError: the shapes differ, there is no sample, or a sample is NaN or infinite.
        AudioError: the file cannot be written; it appears whole or not at all.

    Example:
      >>> import pathlib, tempfile
      >>> from jaxapf import Alignment, allpass
      >>> x = np.random.default_rng(0).normal(scale=0.1, size=4800)
      >>> inverted = Alignment(allpass.first_order(np.zeros(0)), 0.0, -1, 48000.0, [], {})
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     write(f"{folder}/report.html", x, -x, -x, inverted, title="Inverted")
      ...     "<h1>Inverted</h1>" in pathlib.Path(f"{folder}/report.html").read_text(encoding="utf-8")
      True
    """
    dry, wet, aligned = _signals(dry, wet, aligned)
    fs, sos = int(alignment.fs), np.asarray(alignment.sos, np.float64).reshape(-1, 6)
    compared = figures.compare(dry, wet, aligned, fs)
    excerpt = players.excerpt(dry, wet, aligned, fs)
    stretch = f"The whole {number(wet.shape[-1] / fs)} s."
    if excerpt.duration_s < 0.999 * wet.shape[-1] / fs:
        start, lasts = (f"{time_s:.1f} s" for time_s in (excerpt.start_s, excerpt.duration_s))
        stretch = f"{lasts} from {start}, where dry and wet differ most."
    phase, delay = figures.phase_figures(compared, alignment.sections, fs)
    page = render(
        "alignment.html",
        title=title or f"{dry_name or 'dry'} → {wet_name or 'wet'}",
        summary=_summary(alignment, len(sos), silent=not (dry.any() and wet.any())),
        key_figures=_key_figures(alignment, len(sos), fs),
        notes=[*map(str, notes), *_remarks(alignment, len(sos), fs, len(wet))],
        excerpt=stretch,
        played=excerpt.players,
        mix=figures.mix_figure(compared),
        closeups=figures.closeup_figures(dry, wet, aligned, fs),
        smoothing=compared.smoothing,
        phase=phase,
        delay=delay,
        alignment=alignment,
        metrics=dict(alignment.metrics),
        n_sections=count(len(sos), "section"),
        delay_text=_time(alignment.delay_samples, fs),
        shape=wet.shape,
        sos=[json.dumps(row) for row in sos.tolist()],
        columns=list(dict.fromkeys(key for control in alignment.controls for key in control)),
        names=(dry_name, wet_name),
        command=command,
    )
    audio.write_text(path, page)


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


def _time(samples: float, fs: int) -> str:
    return f"{number(samples, 5)} samples ({number(1e3 * samples / fs, 4)} ms)"


def _summary(alignment: Alignment, n_sections: int, *, silent: bool) -> str:
    """Summarise the result in one sentence, success only where there is one."""
    if silent:
        return "Nothing to align: at least one of the files is silent."
    raw, after, bound = (known(alignment.metrics.get(f"esr_{key}")) for key in ("raw", "aligned", "bound"))
    # Below the bound: the bound counts the filter's tail, which the file's end has cut off.
    shown = not math.isnan(bound) and not after < bound
    best = f" (best any phase filter could do:\u00a0{number(bound)})" if shown else ""
    if math.isnan(raw) or math.isnan(after):
        return "The figures of this alignment are not known."
    if n_sections == 0 and alignment.delay_samples == 0 and alignment.polarity > 0:
        if raw <= 0.01:
            return f"The two files already lie on each other, nothing was changed: error {number(raw)}."
        return (
            "Nothing was changed: no delay, polarity or phase filter was found that brings the dry file"
            f" closer to the wet one; error {number(raw)}{best}."
        )
    change = f"error\u00a0{number(raw)}\u00a0→\u00a0{number(after)}{best}."
    if after >= raw:
        return f"The alignment did not bring the dry file closer to the wet one: {change}"
    by = "" if n_sections else ", by delay and polarity alone"
    if after <= 0.1:
        return f"The dry file now lies on the wet one{by}: {change}"
    if after <= 0.5:
        return f"The dry file is now close to the wet one{by}, though not on it: {change}"
    return f"The dry file is nearer to the wet one{by}, but they still differ much: {change}"


def _key_figures(alignment: Alignment, n_sections: int, fs: int) -> tuple[tuple[str, str, str], ...]:
    def change(figure: str, form) -> str:
        return " → ".join(form(alignment.metrics.get(f"{figure}_{key}")) for key in ("raw", "aligned"))

    delay, order = alignment.delay_samples, alignment.metrics.get("order")
    moved = "dry is delayed" if delay > 0 else "dry is advanced" if delay < 0 else "dry stays in place"
    polarity = "polarity kept" if alignment.polarity > 0 else "polarity inverted"
    return (
        ("Error-to-signal ratio", change("esr", number), change("esr", decibels)),
        ("Correlation", change("correlation", number), "1 is perfect"),
        ("Constant delay", f"{number(1e3 * delay / fs, 4)} ms", f"{number(delay, 5)} samples; {moved}"),
        ("All-pass sections", str(n_sections), polarity + (f"; order {order}" if order is not None else "")),
    )


def _remarks(alignment: Alignment, n_sections: int, fs: int, n_channels: int) -> list[str]:
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
