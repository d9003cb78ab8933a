"""`jaxapf apply`: a file through a model that another command wrote."""

import dataclasses
from functools import partial
from typing import Any

from jaxapf import audio
from jaxapf.cli import arguments
from jaxapf.cli.arguments import UsageError, argument
from jaxapf.cli.filtering import write_filtered
from jaxapf.cli.inputs import check_model, check_outputs, load_model, open_source
from jaxapf.cli.output import audio_line, begin, closing

TEXTS = """send a file through a fitted model

Send IN through a model: delay, polarity and filters that 'align' found, an effect, or
the controls that 'style' chose.

examples:
  jaxapf apply tape.json take2.wav -o take2_aligned.wav
  jaxapf apply phaser.json guitar.wav -o guitar_phased.wav
  jaxapf apply tape.json take2_44k.flac -o take2_aligned.flac --resample"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(arguments.AudioOptions):
    """Options of `jaxapf apply`."""

    model: str = argument("MODEL.json", "what 'align --model', a 'fit' or 'style' wrote")
    input: str = argument("IN", "the file to process")
    resample: bool = argument(
        "--resample", "bring IN to the model's sample rate; OUT keeps the model's rate", False
    )


def add_parser(commands: Any) -> None:
    arguments.add_command(commands, "apply", run, Options, TEXTS)


def run(options: Options) -> None:
    """Filter the input with the model and write the result."""
    with begin(options) as job:
        audio.output_subtype(options.output, options.subtype)
        found = audio.info(options.input)
        check_model(options.model)
        check_outputs([options.input, options.model], [options.output])
        job.show("Starting JAX")
        kind, model = load_model(options.model)
        fs = found.fs if kind == "style" else round(model.fs)  # a style is for every rate
        if found.fs != fs and not options.resample:
            raise UsageError(
                f"'{options.model}' is for {fs} Hz and '{found.path}' is at {found.fs} Hz; "
                "add --resample to bring the file to the model's rate"
            )
        with open_source(options.input, fs, options.channels, job) as source:
            write_filtered(options, model, source, found.subtype, job)
    written = audio.info(options.output)._asdict()
    lines = partial(closing, written=audio_line(written))
    job.finish("apply", lines, model=options.model, input=options.input, output=written)
