"""Audio files in and out, resampling, test signals and segments.

Files go through soundfile (libsndfile): WAV, FLAC, AIFF and OGG, any subtype. Arrays are
`(channels, samples)`, time last. Every problem with a file that a user can cause or mend raises
`AudioError`, whose message is one sentence that names the file and says what to do. Outputs are
atomic: they appear complete under their name, or not at all. This module does not import JAX.
"""

from jaxapf.audio.reading import (
    BLOCK_SAMPLES,
    AudioInfo,
    Reader,
    info,
    open_reader,
    read,
    read_blocks,
)
from jaxapf.audio.recorded import (
    SDDS_COLUMNS,
    RecordedPair,
    SddsColumns,
    pairs_json,
    read_pair,
    sdds,
)
from jaxapf.audio.signals import (
    example_pair,
    informative_segments,
    log_sweep,
    resample,
    resample_file,
    segment,
)
from jaxapf.audio.synthetic import KNOWN, Pairs, Recipe, SyntheticPair
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
from jaxapf.files import AudioError, atomic_path, check_writable, write_text

__all__ = [
    "BLOCK_SAMPLES",
    "FLOAT_SUBTYPES",
    "FORMATS",
    "KNOWN",
    "SDDS_COLUMNS",
    "AudioError",
    "AudioInfo",
    "Pairs",
    "Reader",
    "Recipe",
    "RecordedPair",
    "SddsColumns",
    "SyntheticPair",
    "Writer",
    "atomic_path",
    "check_writable",
    "example_pair",
    "has_subtype",
    "info",
    "informative_segments",
    "log_sweep",
    "open_reader",
    "open_writer",
    "output_format",
    "output_subtype",
    "pairs_json",
    "read",
    "read_blocks",
    "read_pair",
    "resample",
    "resample_file",
    "sdds",
    "segment",
    "write",
    "write_text",
]
