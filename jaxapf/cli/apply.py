"""`jaxapf apply`: a file through a model that another command wrote."""

import dataclasses
import time
from typing import Any

from jaxapf import audio
from jaxapf.cli import arguments
from jaxapf.cli.filtering import write_filtered
from jaxapf.cli.inputs import check_model, check_outputs, load_model, open_source
from jaxapf.cli.output import audio_line, closing, print_result, stages

__all__ = ["Options", "add_parser", "run"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(arguments.FileOptions):
    """Options of `jaxapf apply`."""

    model: str
    resample: bool = False


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = arguments.add_command(
        commands,
        "apply",
        run,
        Options,
        help="send a file through a fitted model",
        description="""Send IN through a model: delay, polarity and filters that 'align' found, an effect, or
the controls that 'style' chose.""",
        epilog="""examples:
  jaxapf apply tape.json take2.wav -o take2_aligned.wav
  jaxapf apply phaser.json guitar.wav -o guitar_phased.wav
  jaxapf apply tape.json take2_44k.flac -o take2_aligned.flac --resample""",
    )
    parser.add_argument("model", metavar="MODEL.json", help="what 'align --model', a 'fit' or 'style' wrote")
    arguments.add_file(parser)
    arguments.add_subtype(parser)
    arguments.add_printing(parser)
    parser.add_argument(
        "--resample",
        action="store_true",
        help="bring IN to the model's sample rate; OUT keeps the model's rate",
    )


def run(options: Options) -> None:
    """Filter the input with the model and write the result."""
    started = time.perf_counter()
    audio.output_subtype(options.output, options.subtype)
    found = audio.info(options.input)
    check_model(options.model)
    check_outputs([options.input, options.model], [options.output])
    notes: list[str] = []
    with stages(options) as show:
        show("Starting JAX")
        kind, model = load_model(options.model)
        fs = found.fs if kind == "style" else round(model.fs)  # a style is for every rate
        if found.fs != fs and not options.resample:
            raise arguments.UsageError(
                f"'{options.model}' is for {fs} Hz and '{found.path}' is at {found.fs} Hz; "
                "add --resample to bring the file to the model's rate"
            )
        with open_source(options.input, fs, options.channels, notes, show) as source:
            write_filtered(options.output, options.subtype, model, source, found.subtype, notes, show)
    result = {
        "command": "apply",
        "model": options.model,
        "input": options.input,
        "output": audio.info(options.output)._asdict(),
        "notes": notes,
        "seconds": time.perf_counter() - started,
    }
    print_result(options, result, lambda result: closing(result, audio_line(result["output"])))
