"""`jaxapf export`: a model in another format."""

import dataclasses
from typing import Any

from jaxapf import audio
from jaxapf.alignment import export as formats
from jaxapf.cli import arguments
from jaxapf.cli.arguments import UsageError, argument
from jaxapf.cli.inputs import check_model, check_outputs, load_model

TEXTS = """write a model in another format

Write a model as JSON, or as a table of second-order sections for SciPy and
others.

examples:
  jaxapf export tape.json --format sos -o tape.txt"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(arguments.Options):
    """Options of `jaxapf export`."""

    model: str = argument("MODEL.json", "a model that 'jaxapf align --model' wrote")
    format: str = argument(
        "--format",
        "the format to write (cpp and faust are not available in this version)",
        choices=("json", "sos", "cpp", "faust"),
        required=True,
    )
    output: str = argument("-o --output FILE", "where to write it", required=True)


def add_parser(commands: Any) -> None:
    arguments.add_command(commands, "export", run, Options, TEXTS)


def run(options: Options) -> None:
    """Write the model in the format."""
    if options.format in ("cpp", "faust"):
        raise UsageError(
            f"argument --format: {options.format} is not available in this version; use json or sos"
        )
    check_model(options.model)
    check_outputs([options.model], [options.output])
    kind, model = load_model(options.model)
    if kind != "model":
        raise UsageError(
            f"'{options.model}' is the model of a {getattr(model, 'effect', kind)}, which is no cascade of "
            "filters; export takes what 'jaxapf align --model' wrote"
        )
    text = formats.to_json(model) if options.format == "json" else formats.to_sos(model)
    audio.write_text(options.output, text)
