"""What the notebooks are made of: recordings, progress on one line, players, pictures, tables, results.

    pair = recordings("embedded example")           # or the reader's own files, uploaded on Colab
    with progress("Aligning"):
        found = jaxapf.align(pair.dry, pair.wet, pair.fs, progress=True)
    listen({"dry": pair.dry, "wet": pair.wet}, pair.fs)

Works in Jupyter, in Colab and where notebooks are executed without anybody looking. Needs IPython, and
matplotlib for pictures; they are imported when they are used.
"""

from __future__ import annotations

import base64
import contextlib
import io
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxapf import audio, datasets
from jaxapf._internal.files import AudioError, PathLike
from jaxapf._internal.text import count
from jaxapf.audio.level import SILENCE
from jaxapf.notebooks.sentences import carries_over as carries_over
from jaxapf.notebooks.sentences import decibels as decibels
from jaxapf.notebooks.sentences import doubts as doubts
from jaxapf.notebooks.sentences import hertz, within
from jaxapf.notebooks.sentences import phase_said as phase_said
from jaxapf.notebooks.sentences import starts_said as starts_said
from jaxapf.report import figures, players

EMBEDDED, OWN = "embedded example", "my own files"
START_OF_LINE = "\r\x1b[K"  # what jaxapf writes before a line that replaces the one before
REDRAWN_S = 0.2  # at most so often
SECONDS = 10.0  # of a player
SHORTEST_S = 0.1  # of an excerpt; shorter ones say nothing about low frequencies
MOST_DELAY_MS = 10_000.0  # as for the command
APART = 0.01  # lengths of a pair that differ by more are hardly those of one performance
FREQUENCIES_HZ = {20: "20", 50: "50", 100: "100", 200: "200", 500: "500", 1e3: "1k", 2e3: "2k", 5e3: "5k"} | {
    1e4: "10k",
    2e4: "20k",
}


class Mistake(ValueError):
    """What a reader can mend, in one sentence; notebooks show it without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def in_colab() -> bool:
    """Whether this runs in Google Colab.

    Example:
        >>> in_colab()
        False
    """
    return "google.colab" in sys.modules


# Recordings


class Pair(NamedTuple):
    """Two recordings: ``dry``, ``wet`` (channels, n_samples) float32 at ``fs`` Hz."""

    dry: np.ndarray
    wet: np.ndarray
    fs: int


def recordings(choice: str = EMBEDDED, dry_file: PathLike = "", wet_file: PathLike = "") -> Pair:
    """The pair that ships with jaxapf, or the reader's own.

    Own files may differ in rate (the dry one is brought to the wet one's), length (the longer one is cut) and
    number of channels (the first of both is taken); what was done is said in a sentence each.

    Args:
        choice: `EMBEDDED` or `OWN`.
        dry_file: name of the dry one, for `OWN`; without it, on Colab, the reader is asked to upload it.
        wet_file: name of the wet one, likewise.

    Returns:
        A Pair.

    Raises:
        Mistake: an unknown choice, a file without a name or that cannot be read, a silent recording.

    Example:
        >>> pair = recordings()
        >>> pair.dry.shape == pair.wet.shape, pair.fs
        (True, 48000)
    """
    if choice == EMBEDDED:
        files: Sequence[PathLike] = datasets.example_pair()
    elif choice == OWN:
        files = [_file("dry", dry_file), _file("wet", wet_file)]
    else:
        raise Mistake(f"'{choice}' is none of the choices: take '{EMBEDDED}' or '{OWN}'.")
    (dry, dry_fs), (wet, fs) = (_read(file) for file in files)
    not_silent({"the dry recording": dry, "the wet recording": wet})
    if dry_fs != fs:
        print(f"The dry recording is resampled from {dry_fs} to {fs} Hz, the rate of the wet one.")
        dry = audio.resample(dry, dry_fs, fs)
    dry, wet = _of_one_length(*_of_as_many_channels(dry, wet), fs)
    not_silent({"what is left of the dry recording": dry, "what is left of the wet recording": wet})
    return Pair(np.asarray(dry, np.float32), wet, fs)


def not_silent(signals: Mapping[str, Any]) -> None:
    """Refuse silence.

    Args:
        signals: arrays by what they are called in a sentence.

    Raises:
        Mistake: nothing of a signal is louder than -140 dB below full scale.

    Example:
        >>> not_silent({"the dry recording": np.ones(3)})
    """
    for name, x in signals.items():
        if np.max(np.abs(x), initial=0.0) < SILENCE:
            raise Mistake(f"{name} is silent; choose a recording, or a stretch of it, with sound in it.")


def _of_as_many_channels(dry: np.ndarray, wet: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if len(dry) == len(wet):
        return dry, wet
    print(
        f"The dry recording has {_channels(len(dry))}, the wet one {_channels(len(wet))}: "
        f"only the first channel of the {'dry' if len(dry) > len(wet) else 'wet'} one is taken"
        + (", and of the other as well." if min(len(dry), len(wet)) > 1 else ".")
    )
    return dry[:1], wet[:1]


def _channels(count: int) -> str:
    return "1 channel" if count == 1 else f"{count} channels"


def _of_one_length(dry: np.ndarray, wet: np.ndarray, fs: int) -> tuple[np.ndarray, np.ndarray]:
    lengths = {"dry": dry.shape[-1], "wet": wet.shape[-1]}
    shorter, longer = sorted(lengths, key=lambda role: lengths[role])
    least, most = lengths[shorter], lengths[longer]
    if most - least > max(1, 1e-3 * fs):  # a millisecond of the end is nobody's concern
        print(
            f"The {longer} recording lasts {most / fs:.3f} s, the {shorter} one {least / fs:.3f} s: "
            f"the {longer} one is cut to its first {least / fs:.3f} s."
        )
    if most - least > APART * most:
        print(
            "The lengths differ by a lot. Both have to be the same performance, from the same moment on; "
            "if they are not, nothing below means anything."
        )
    return dry[:, :least], wet[:, :least]


def excerpt(x: Any, fs: float, seconds: float, *, fs_to: float | None = None) -> np.ndarray:
    """The loudest channel of a recording, from where it begins to sound.

    Args:
        x: (channels, n_samples) of real samples, not silent.
        fs: sample rate in Hz.
        seconds: at most so long.
        fs_to: rate to bring it to; None leaves it.

    Returns:
        (n_samples,) float64.

    Raises:
        Mistake: less than 0.1 s is left.

    Example:
        >>> x = np.concatenate([np.zeros((1, 500)), np.ones((1, 8000))], axis=-1)
        >>> excerpt(np.concatenate([0 * x, x]), 8000, 0.5).shape
        (4000,)
    """
    loudest = np.asarray(x[np.argmax(np.sum(np.square(x), axis=-1))], np.float64)
    begins = int(np.argmax(np.abs(loudest) > 0.01 * np.max(np.abs(loudest))))
    cut = loudest[begins : begins + round(seconds * fs)]
    if len(cut) < SHORTEST_S * fs:
        raise Mistake(f"only {len(cut) / fs:.3f} s of the recording sound; take {SHORTEST_S:g} s or more.")
    return cut if fs_to in (None, fs) else np.asarray(audio.resample(cut, int(fs), int(fs_to)), np.float64)


def _read(file: PathLike) -> tuple[np.ndarray, int]:
    try:
        return audio.read(file)
    except AudioError as error:
        raise Mistake(f"{error}.") from None


def _file(role: str, name: PathLike) -> PathLike:
    if str(name).strip():
        return str(name).strip()
    if not in_colab():
        raise Mistake(f"the {role} recording has no name; type the path of its file into the form.")
    from google.colab import files  # pyright: ignore[reportMissingImports]

    print(f"Choose the {role} recording:")
    uploaded = list(files.upload())
    if len(uploaded) != 1:
        raise Mistake(
            f"{len(uploaded)} files were chosen as the {role} recording; run the cell again, choose one."
        )
    return uploaded[0]


# Progress


class _Line(io.TextIOBase):
    """A terminal of one line, shown in place; what is not meant for that line goes on to `others`."""

    def __init__(self, what: str, others: Any) -> None:
        self.what, self.others = what, others
        self.started, self.drawn = time.monotonic(), 0.0
        self.handle = display(_text(f"{what} …"), display_id=True)

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if text.startswith((START_OF_LINE, "step ")):
            now = time.monotonic()
            if now - self.drawn >= REDRAWN_S:
                self.drawn = now
                self.handle.update(_text(f"{self.what}: {text.removeprefix(START_OF_LINE)}"))
        elif text.strip():
            self.others.write(text)
        return len(text)

    def close_with(self, outcome: str) -> None:
        self.handle.update(_text(f"{self.what}: {outcome} {time.monotonic() - self.started:.0f} s"))


@contextlib.contextmanager
def progress(what: str) -> Iterator[None]:
    """Show what is written to a terminal's status line in one line of the notebook, and the time it took.

    Meant for `jaxapf.align(progress=True)` and `logging.progress`. Warnings and whatever else is written to
    standard error still go there.

    Args:
        what: what is being done, the beginning of the line.

    Returns:
        Context manager.
    """
    line = _Line(what, sys.stderr)
    with contextlib.redirect_stderr(line):  # pyright: ignore[reportArgumentType]
        try:
            yield
        except BaseException:
            line.close_with("stopped after")
            raise
    line.close_with("done in")


def latency(milliseconds: Any) -> float:
    """The largest latency to look for, as `jaxapf.align` takes it.

    Args:
        milliseconds: what was typed into the form.

    Raises:
        Mistake: no number above 0, at most 10000.

    Example:
        >>> latency(20)
        20.0
    """
    with contextlib.suppress(TypeError, ValueError):
        if 0 < float(milliseconds) <= MOST_DELAY_MS:
            return float(milliseconds)
    raise Mistake(f"max_delay_ms is {milliseconds!r}; type a number above 0, at most {MOST_DELAY_MS:.0f}.")


# Showing


def display(*shown: Any, **options: Any) -> Any:
    """`IPython.display.display`."""
    from IPython.display import display  # pyright: ignore[reportMissingImports]

    return display(*shown, **options)


def _html(code: str) -> Any:
    from IPython.display import HTML  # pyright: ignore[reportMissingImports]

    return HTML(code)


def _text(text: str) -> Any:
    return _html(f"<code>{escape(text)}</code>")


def say(text: str) -> None:
    """Show a sentence or other Markdown."""
    from IPython.display import Markdown  # pyright: ignore[reportMissingImports]

    display(Markdown(text))


def table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Show rows as a table; the names of the first one are its head.

    Args:
        rows: texts or numbers by name; what a row lacks is left empty.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    head = "".join(f'<th style="text-align:left">{escape(name)}</th>' for name in names)
    body = "".join(
        "<tr>"
        + "".join(f'<td style="text-align:left">{_cell(row.get(name))}</td>' for name in names)
        + "</tr>"
        for row in rows
    )
    display(_html(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float | np.floating) else escape(str(value))


def listen(signals: Mapping[str, Any], fs: int, *, start_s: float = 0.0, seconds: float = SECONDS) -> None:
    """Show a player for each signal, all equally loud, so that only what differs is heard.

    One RMS for all, as loud as the one with the highest peaks allows; the gain that this took is told.

    Args:
        signals: (n_samples,) or (channels, n_samples) by label.
        fs: sample rate in Hz.
        start_s: where the excerpt begins.
        seconds: its length.

    Raises:
        Mistake: nothing of a signal lies in the excerpt.
    """
    first, last = round(start_s * fs), round((start_s + seconds) * fs)
    cut = {label: np.atleast_2d(np.asarray(x, np.float64))[:, first:last] for label, x in signals.items()}
    for label, x in cut.items():
        if not x.size:
            raise Mistake(f"'{label}' ends before {start_s:g} s; listen from an earlier time.")
    shown = players.separate({label: (x, fs) for label, x in cut.items()})
    rows = "".join(
        f'<tr><td style="text-align:left">{escape(label)}</td>'
        f'<td><audio controls preload="auto" style="width:320px" aria-label="{escape(label)}" '
        f'src="data:audio/flac;base64,{one.data}"></audio></td>'
        f'<td style="text-align:right">{_gain(one)}</td></tr>'
        for label, one in shown.items()
    )
    display(_html(f"<table><tbody>{rows}</tbody></table>"))


def _gain(one: players.Player) -> str:
    return "silent" if np.isnan(one.gain_db) else f"{one.gain_db:+.1f} dB"


# Pictures


def picture(draw: Callable[[Any], None], caption: str, *, size: tuple[float, float] = (9.0, 3.6)) -> None:
    """Show a drawing and what it says.

    Args:
        draw: draws into a `matplotlib.figure.Figure` of its own.
        caption: what is to be seen, also for those who cannot see it.
        size: width and height in inches.

    Raises:
        Mistake: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise Mistake("pictures need matplotlib; install it with: pip install 'jaxapf[plot]'") from None
    figure = Figure(figsize=size, layout="constrained")
    draw(figure)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=130)
    data = base64.b64encode(file.getvalue()).decode("ascii")
    # A white ground, in dark settings as well: the drawing's own colours are made for it.
    style = f"max-width:100%;width:{100 * size[0]:.0f}px;background:#fff"
    image = f'<img alt="{escape(caption)}" style="{style}" src="data:image/png;base64,{data}">'
    below = f'<figcaption style="max-width:900px">{escape(caption)}</figcaption>'
    display(_html(f'<figure style="margin:0">{image}{below}</figure>'))


def frequency_axis(axes: Any, low_hz: float = 20.0, high_hz: float = 20e3) -> None:
    """Make the horizontal axis one of frequencies in Hz, logarithmic."""
    axes.set_xscale("log")
    axes.set_xlim(low_hz, high_hz)
    ticks = {hz: label for hz, label in FREQUENCIES_HZ.items() if low_hz <= hz <= high_hz}
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.minorticks_off()
    axes.set_xlabel("frequency (Hz)")
    axes.grid(alpha=0.3)


def show_phase(dry: Any, wet: Any, aligned: Any, found: Any) -> None:
    """Show the phase and the group delay of an alignment's sections, and the phase that is left.

    Args:
        dry: (..., n_samples).
        wet: the same shape.
        aligned: `found.apply(dry)`.
        found: a `jaxapf.Alignment`.
    """
    compared = _compared(dry, wet, aligned, found.fs)
    hz, left = compared.freqs_hz, compared.residual_rad
    fine_hz = figures.fine_grid(hz, found.sos, found.fs)
    turned = np.degrees(figures.cascade_phase(found.sos, fine_hz, found.fs))
    delay_ms = 1e3 / found.fs * figures.cascade_delay(found.sos, fine_hz, found.fs)

    def draw(figure: Any) -> None:
        phase, delay = figure.subplots(1, 2)
        phase.plot(fine_hz, turned, label="turned by the all-pass sections")
        phase.plot(hz, np.degrees(left), label="still missing", color="tab:red")
        phase.set_ylabel("phase (degrees)")
        phase.legend()
        delay.plot(fine_hz, delay_ms)
        delay.set_ylabel("group delay of the sections (ms)")
        for axes in (phase, delay):
            frequency_axis(axes, hz[0], hz[-1])

    said = (
        f"Up to {hertz(hz[-1])} the phase turns by {abs(turned[-1]):.0f} degrees in all "
        f"({count(len(found.sos), 'all-pass section')}). Between {hertz(hz[0])} and {hertz(hz[-1])} the "
        f"delay is greatest at {hertz(fine_hz[np.argmax(delay_ms)])} ({np.max(delay_ms):.2f} ms)."
        if len(found.sos)
        else "No all-pass section was found that helps."
    )
    said += f" {within(left)}."
    if np.mean(np.isfinite(left)) < 0.5:
        said += (
            " Where most bands show none, the recordings may lie further apart than the latency that was "
            "looked for, or not be the same performance."
        )
    picture(draw, said)


def show_mix(dry: Any, wet: Any, aligned: Any, fs: float) -> None:
    """Show the level of dry and wet mixed half and half, before and after: the comb filter and its end.

    Args:
        dry: (..., n_samples).
        wet: the same shape.
        aligned: the same shape.
        fs: sample rate in Hz.
    """
    compared = _compared(dry, wet, aligned, fs)
    hz, before, after = compared.freqs_hz, compared.mix_before_db, compared.mix_after_db

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        axes.plot(hz, before, label="dry and wet", color="tab:red")
        axes.plot(hz, after, label="aligned and wet", color="tab:blue")
        axes.axhline(0, color="0.6", linewidth=0.8)
        lowest, highest = np.nanmin(before, initial=-10), np.nanmax([*before, *after], initial=2)
        axes.set_ylim(max(-40.0, lowest - 2), min(12.0, highest + 2))
        axes.set_ylabel("level of the mix, relative to wet (dB)")
        axes.legend(loc="lower right")
        frequency_axis(axes, hz[0], hz[-1])

    picture(
        draw,
        f"Mixed half and half, dry and wet cancel by up to {_deepest(hz, before)}; aligned and wet by at "
        f"most {_deepest(hz, after)}.",
    )


def _compared(dry: Any, wet: Any, aligned: Any, fs: float) -> figures.Comparison:
    return figures.compare(np.atleast_2d(dry), np.atleast_2d(wet), np.atleast_2d(aligned), fs)


def _deepest(hz: np.ndarray, level_db: np.ndarray) -> str:
    if not np.isfinite(level_db).any():
        return "nothing that can be measured"
    worst = int(np.nanargmin(level_db))
    return f"{max(0.0, -level_db[worst]):.1f} dB (at {hz[worst]:.0f} Hz)"


def show_losses(runs: Mapping[str, Sequence[Mapping[str, Any]]], caption: str, *, unit: str = "loss") -> None:
    """Show losses over the steps of trainings.

    Args:
        runs: records as `training.fit.fit` returns them, by label.
        caption: what is to be seen.
        unit: label of the vertical axis.
    """

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for label, records in runs.items():
            steps, losses = ([record[name] for record in records] for name in ("step", "loss"))
            axes.semilogy(steps, losses, label=label)
        axes.set_xlabel("step")
        axes.set_ylabel(unit)
        axes.grid(alpha=0.3)
        axes.legend()

    picture(draw, caption)


# Results


def result(name: str) -> Path:
    """The path of a file in the folder `results`, which is made beside the notebook."""
    folder = Path("results")
    folder.mkdir(exist_ok=True)
    return folder / name


def offer(*paths: Path, download: bool = False) -> None:
    """Say where files are, with links; on Colab download them if wanted.

    Raises:
        Mistake: a file is not there.
    """
    for path in paths:
        if not path.is_file():
            raise Mistake(f"'{path}' is not there; run the cells above first.")
    links = (
        f'<li><a href="{escape(path.as_posix())}" target="_blank">{escape(str(path))}</a></li>'
        for path in paths
    )
    display(_html(f"<p>Written:</p><ul>{''.join(links)}</ul>"))
    if download and in_colab():
        from google.colab import files  # pyright: ignore[reportMissingImports]

        for path in paths:
            files.download(str(path))


def page(path: Path, *, height: int = 700) -> None:
    """Show an HTML page, such as `jaxapf.report` writes, inside the notebook."""
    code = escape(path.read_text(encoding="utf-8"))
    style = f"width:100%;height:{height}px;border:1px solid #999"
    frame = f'<iframe sandbox="allow-scripts" style="{style}" title="{escape(path.name)}" srcdoc="{code}">'
    display(_html(f"<div>{frame}</iframe></div>"))
