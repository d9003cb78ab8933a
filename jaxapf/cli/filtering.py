"""A source through a model into a file, block by block, and the figures of the whole on the way."""

import dataclasses
import math
from typing import Any

import numpy as np

from jaxapf import audio
from jaxapf.cli.arguments import AudioOptions
from jaxapf.cli.inputs import Source
from jaxapf.cli.output import Job
from jaxapf.metrics import PairSums

# A dry file's subtype is kept where nothing is lost; its lossy coding would only add noise.
KEPT_SUBTYPES = ("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")


class _FullScale(Exception):
    """The result passes full scale and may be written as FLOAT instead."""


def write_filtered(
    options: AudioOptions,
    model: Any,
    source: Source,
    source_subtype: str,
    job: Job,
    pair: tuple[Any, Source] | None = None,
) -> dict[str, float]:
    """Filter `source` into the output file, block by block.

    With a `pair`, the model of delay and polarity alone and the wet source, return `esr_raw`,
    `correlation_raw`, and likewise for delay and aligned.
    """
    output, n_samples = options.output, source.n_samples
    prefer = source_subtype if source_subtype in KEPT_SUBTYPES else None
    subtype = audio.output_subtype(output, options.subtype, prefer=prefer)
    has_float = audio.has_subtype(output, "FLOAT")
    may_change = has_float and options.subtype is None and subtype not in audio.FLOAT_SUBTYPES
    sums = {name: PairSums() for name in ("raw", "delay", "aligned")}
    delay_only, wet = pair or (None, None)
    delayed = delay_only.stream(source.read, n_samples, source.fs) if delay_only else iter(())
    try:
        with audio.open_writer(
            output, source.fs, source.n_channels, subtype=subtype, n_samples=n_samples
        ) as writer:
            for block in map(np.asarray, model.stream(source.read, n_samples, source.fs)):
                start = writer.n_samples
                stop = start + block.shape[-1]
                writer.write(block)
                if writer.peak > 1 and may_change:
                    raise _FullScale
                if wet is not None:
                    reference = wet.read(start, stop)
                    parts = (source.read(start, stop), next(delayed), block)
                    for one, part in zip(sums.values(), parts, strict=True):
                        one.add(part, reference)
                job.show("Filtering", stop / n_samples)
    except _FullScale:
        job.notes.append("the result passes full scale, so it was written as FLOAT, which holds it")
        options = dataclasses.replace(options, subtype="FLOAT")
        return write_filtered(options, model, source, source_subtype, job, pair)
    if writer.peak > 1 and subtype not in audio.FLOAT_SUBTYPES:
        remedy = "use --subtype FLOAT" if has_float else "write a .wav file"
        job.warn(
            f"the result peaks at {writer.peak:.3f} ({20 * math.log10(writer.peak):+.1f} dBFS) "
            f"and {subtype} clips it; {remedy}"
        )
    figures = {f"esr_{name}": one.esr for name, one in sums.items()}
    return {} if wet is None else figures | {f"correlation_{n}": one.correlation for n, one in sums.items()}
