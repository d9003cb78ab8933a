"""`jaxapf demo`: `align` on the example that ships with the package."""

import dataclasses
import shlex
import shutil
from pathlib import Path
from typing import Any

from jaxapf import audio, datasets
from jaxapf._internal.text import printable
from jaxapf.cli import align, arguments
from jaxapf.cli.arguments import UsageError, argument

TEXTS = """align the example that ships with jaxapf

Align seven seconds of drums and guitar with their copy from a tape machine
simulation.

examples:
  jaxapf demo
  jaxapf demo -o /tmp/demo"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(arguments.ResultOptions):
    """Options of `jaxapf demo`; ``output`` is a folder."""

    output: str = argument("-o --output DIR", "folder to write (default jaxapf-demo)", "jaxapf-demo")


def add_parser(commands: Any) -> None:
    arguments.add_command(commands, "demo", run, Options, TEXTS)


def run(options: Options) -> None:
    """Copy the example pair into the folder and align it there."""
    folder = Path(options.output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"'{folder}' cannot be created: {(error.strerror or '').lower()}; give another -o"
        ) from error
    inputs = []
    for path in datasets.example_pair():
        inputs.append(str(folder / f"example_{path.name}"))
        with audio.atomic_path(inputs[-1]) as temporary:
            shutil.copyfile(path, temporary)
    names = ("example_aligned.flac", "example_model.json", "report.html")
    output, model, report = (str(folder / name) for name in names)
    words = ["jaxapf", "align", *inputs, "-o", output, "--model", model, "--report", report]
    align.run(
        align.Options(
            dry=inputs[0],
            wet=inputs[1],
            output=output,
            model=model,
            report=report,
            json=options.json,
            quiet=options.quiet,
            command_line=printable(shlex.join(words)),
        )
    )
    if not (options.json or options.quiet):
        print(f"\nLook at it and listen: open {report}")
