"""Audio files in and out, resampling, test signals and segments.

Files go through soundfile (libsndfile): WAV, FLAC, AIFF and OGG, any subtype. Arrays are
`(channels, samples)`, time last. Every problem with a file that a user can cause or mend raises
`AudioError`, whose message is one sentence that names the file and a remedy. Outputs are
atomic: they appear complete under their name, or not at all. This module does not import JAX.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxapf._internal.files import AudioError, atomic_path, check_writable, write_text
from jaxapf._internal.lazy import loader

if TYPE_CHECKING:
    from jaxapf.audio.reading import BLOCK_SAMPLES, AudioInfo, Reader, info, open_reader, read, read_blocks
    from jaxapf.audio.signals import informative_segments, log_sweep, resample, resample_file, segment
    from jaxapf.audio.writing import (
        FLOAT_SUBTYPES,
        FORMATS,
        Writer,
        has_subtype,
        open_writer,
        output_format,
        output_subtype,
        write,
    )

__all__ = [
    "BLOCK_SAMPLES",
    "FLOAT_SUBTYPES",
    "FORMATS",
    "AudioError",
    "AudioInfo",
    "Reader",
    "Writer",
    "atomic_path",
    "check_writable",
    "has_subtype",
    "info",
    "informative_segments",
    "log_sweep",
    "open_reader",
    "open_writer",
    "output_format",
    "output_subtype",
    "read",
    "read_blocks",
    "resample",
    "resample_file",
    "segment",
    "write",
    "write_text",
]

# Loaded on first use: the mel filterbank needs no sound file.
_READING = ("BLOCK_SAMPLES", "AudioInfo", "Reader", "info", "open_reader", "read", "read_blocks")
_SIGNALS = ("informative_segments", "log_sweep", "resample", "resample_file", "segment")
_HOMES = (
    dict.fromkeys(__all__, "writing")
    | dict.fromkeys(_READING, "reading")
    | dict.fromkeys(_SIGNALS, "signals")
)
__getattr__ = loader(__name__, {name: f"{module}:{name}" for name, module in _HOMES.items()})
