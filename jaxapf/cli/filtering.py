"""A source through a model into a file, block by block, and the figures of the whole on the way."""

import math
from typing import Any

import numpy as np

from jaxapf import audio
from jaxapf.cli.arguments import AudioOptions
from jaxapf.cli.inputs import Source
from jaxapf.cli.output import Job
from jaxapf.metrics import PairSums

__all__ = ["Figures", "write_filtered"]

# A dry file's subtype is kept where nothing is lost; its lossy coding would only add noise.
KEPT_SUBTYPES = ("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")


class Figures:
    """Error-to-signal ratio and correlation of a whole pair, from blocks."""

    def __init__(self, delay_only: Any, dry: Source, wet: Source) -> None:
        self._delay_only, self._dry, self._wet = delay_only, dry, wet
        self.restart()

    def restart(self) -> None:
        """Begin again with the first block."""
        dry = self._dry
        self._delayed = self._delay_only.stream(dry.read, dry.n_samples, dry.fs)
        self._sums = {name: PairSums() for name in ("raw", "delay", "aligned")}

    def add(self, start: int, aligned: np.ndarray) -> None:
        """Add a block of the result, which begins at the sample `start`."""
        stop = start + aligned.shape[-1]
        wet = self._wet.read(start, stop)
        blocks = {"raw": self._dry.read(start, stop), "delay": next(self._delayed), "aligned": aligned}
        for name, block in blocks.items():
            self._sums[name].add(block, wet)

    def result(self) -> dict[str, float]:
        """Return `esr_raw`, `correlation_raw`, and likewise for delay and aligned."""
        rows = self._sums.items()
        return {f"esr_{name}": sums.esr for name, sums in rows} | {
            f"correlation_{name}": sums.correlation for name, sums in rows
        }


class _FullScale(Exception):
    """The result passes full scale and may be written as FLOAT instead."""


def write_filtered(
    options: AudioOptions,
    model: Any,
    source: Source,
    source_subtype: str,
    job: Job,
    figures: Figures | None = None,
) -> None:
    """Filter `source` into the output file, block by block."""
    output = options.output
    prefer = source_subtype if source_subtype in KEPT_SUBTYPES else None
    subtype = audio.output_subtype(output, options.subtype, prefer=prefer)
    may_change = options.subtype is None and audio.has_subtype(output, "FLOAT")
    try:
        peak = _write_blocks(output, model, source, subtype, job, figures, may_change)
    except _FullScale:
        job.notes.append("the result passes full scale, so it was written as FLOAT, which holds it")
        subtype = "FLOAT"
        peak = _write_blocks(output, model, source, subtype, job, figures)
    if peak > 1 and subtype not in audio.FLOAT_SUBTYPES:
        remedy = "use --subtype FLOAT" if audio.has_subtype(output, "FLOAT") else "write a .wav file"
        job.warn(
            f"the result peaks at {peak:.3f} ({20 * math.log10(peak):+.1f} dBFS) "
            f"and {subtype} clips it; {remedy}"
        )


def _write_blocks(
    output: str,
    model: Any,
    source: Source,
    subtype: str,
    job: Job,
    figures: Figures | None,
    may_change: bool = False,
) -> float:
    if figures is not None:
        figures.restart()
    n_samples = source.n_samples
    with audio.open_writer(
        output, source.fs, source.n_channels, subtype=subtype, n_samples=n_samples
    ) as writer:
        for block in model.stream(source.read, n_samples, source.fs):
            start = writer.n_samples
            writer.write(np.asarray(block))
            if writer.peak > 1 and may_change and subtype not in audio.FLOAT_SUBTYPES:
                raise _FullScale
            if figures is not None:
                figures.add(start, np.asarray(block))
            job.show("Filtering", writer.n_samples / n_samples)
        return writer.peak
