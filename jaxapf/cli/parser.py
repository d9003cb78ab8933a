"""The command `jaxapf`: arguments, checks, messages and files around `jaxapf.align` and `jaxapf.effects.modelling`.

Arguments and files are checked before JAX is imported, so that mistakes are answered at once. What
a user can mend is one sentence on stderr and exit code 2; a bug is one sentence and exit code 1, with
a traceback only if JAXAPF_DEBUG is set. Outputs appear complete, or not at all.
"""

import argparse
import contextlib
import io
import os
import shlex
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from jaxapf import audio
from jaxapf._internal.text import printable
from jaxapf._internal.version import __version__
from jaxapf.alignment.options import MAX_ORDER, METHODS
from jaxapf.cli import align, effect, fitting, info, inputs, models, style


class _Terminated(BaseException):
    """SIGTERM or SIGHUP arrived."""


# The program


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; see `jaxapf.__main__.main`."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        with _signals_raise(), _quiet_libraries():
            _print_any_name()
            arguments = parse(argv)
            arguments.run(arguments)
            if sys.stdout is not None:
                sys.stdout.flush()
    except SystemExit as stop:
        return int(stop.code or 0)
    except (audio.AudioError, inputs.UsageError) as error:
        return _failed(str(error), 2)
    except KeyboardInterrupt:
        return _failed("interrupted; no unfinished file is left behind", 130)
    except _Terminated as stop:
        return _failed("terminated; no unfinished file is left behind", 128 + stop.args[0])
    except BrokenPipeError:
        # The reader of our output has seen enough, as in `jaxapf info | head -1`.
        _discard_stdout()
    except MemoryError:
        return _failed("not enough memory; close other programs or give a shorter excerpt", 2)
    except OSError as error:
        _discard_stdout()
        return _failed(f"{error.filename or 'output'}: {(error.strerror or str(error)).lower()}", 2)
    except Exception as error:
        if os.environ.get("JAXAPF_DEBUG"):
            traceback.print_exc()
        detail = " ".join(str(error).split())[:300]
        return _failed(f"unexpected {type(error).__name__}: {detail} (JAXAPF_DEBUG=1 shows where)", 1)
    return 0


def _print_any_name() -> None:
    # File names may hold bytes that are no text.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _failed(message: str, code: int) -> int:
    prefix = "jaxapf: error: " if code in (1, 2) else "jaxapf: "
    if sys.stderr is not None and sys.stderr.isatty():
        prefix = "\r\x1b[K" + prefix  # over the progress line
    with contextlib.suppress(OSError):
        print(prefix + " ".join(message.split()), file=sys.stderr, flush=True)
    return code


def _discard_stdout() -> None:
    # Otherwise the interpreter flushes stdout once more at its end, and complains once more.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def _signals_raise() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind the stack as Ctrl-C does, so that temporary files are removed."""

    def terminate(number: int, _frame: Any) -> None:
        raise _Terminated(number)

    def interrupt(_number: int, _frame: Any) -> None:
        # A callback of JAX's may swallow what is raised inside it: ask again until it is answered.
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 1.0)
        raise KeyboardInterrupt

    handlers = {"SIGTERM": terminate, "SIGHUP": terminate, "SIGINT": interrupt, "SIGALRM": interrupt}
    previous = {}
    for name, handler in handlers.items():
        # ValueError: not in the main thread. A signal ignored by nohup stays ignored.
        with contextlib.suppress(ValueError, AttributeError):
            number = getattr(signal, name)
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                previous[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0.0)
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _quiet_libraries() -> Iterator[None]:
    with warnings.catch_warnings():
        if not os.environ.get("JAXAPF_DEBUG"):
            warnings.simplefilter("ignore")
        yield


# Arguments


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the arguments after the program's name; adds `run`, the command, and `command_line`."""
    arguments = _parser().parse_args(argv)
    arguments.command_line = printable(shlex.join(["jaxapf", *argv]))
    return arguments


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        self.exit(_failed(f"{message}; see '{self.prog} --help'", 2))


def _parser() -> argparse.ArgumentParser:
    parser = _command_parser(
        _Parser,
        prog="jaxapf",
        description="""Bring two recordings of the same performance into phase with all-pass filters, learn
a phaser or a compressor from them, or give one the sound of another.""",
        epilog="""examples:
  jaxapf demo
  jaxapf align dry.wav wet.wav -o aligned.wav --report report.html
  jaxapf align di.wav amp.wav -o di_aligned.wav --model amp.json
  jaxapf apply amp.json next_take.wav -o next_take_aligned.wav
  jaxapf phaser fit dry.wav wet.wav -o phaser.json
  jaxapf compressor fit dry.wav wet.wav -o compressor.json
  jaxapf style take.wav reference.wav -o styled.wav --report style.html""",
    )
    parser.add_argument("--version", action="version", version=f"jaxapf {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)
    _add_align(commands)
    _add_effect(commands, "phaser", fitting.fit_phaser, _PHASER)
    _add_effect(commands, "compressor", fitting.fit_compressor, _COMPRESSOR)
    _add_style(commands)
    _add_processing(commands)
    _add_apply(commands)
    _add_export(commands)
    _add_demo(commands)
    _add_info(commands)
    return parser


def _command_parser(add: Callable[..., Any], *names: str, run: Any = None, **options: Any) -> Any:
    parser = add(*names, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options)
    if run is not None:
        parser.set_defaults(run=run)
    return parser


def _add_align(commands: Any) -> None:
    parser = _command_parser(
        commands.add_parser,
        "align",
        run=align.align,
        help="bring a dry file into phase with its processed copy",
        description="""Bring DRY into phase with WET, its processed copy: find polarity and
latency, then a cascade of all-pass filters, and write the dry file through
them. Levels are not changed. Where no filter does better than delay and
polarity, only these are applied, and the command says so.""",
        epilog="""examples:
  jaxapf align dry.wav wet.wav -o aligned.wav
  jaxapf align dry.wav wet.wav -o aligned.flac --model tape.json --report tape.html
  jaxapf align snare_top.wav snare_bottom.wav -o top_aligned.wav --order 8
  jaxapf align dry_stereo.wav wet_mono.wav -o aligned.wav --channels 1
  jaxapf align dry_48k.wav wet_44k.wav -o aligned.wav --resample

The output keeps the dry file's sample encoding where its format has it. Without
--subtype, a result that passes full scale is written as FLOAT where the format
has it (WAV, AIFF).""",
    )
    parser.add_argument("dry", metavar="DRY", help="the unprocessed recording")
    parser.add_argument("wet", metavar="WET", help="its processed copy: same rate, start and length")
    parser.add_argument(
        "-o", "--output", metavar="ALIGNED", required=True, help="where to write the aligned file"
    )
    parser.add_argument(
        "--model", metavar="MODEL.json", help="write the fitted filter, for 'apply' and 'export'"
    )
    parser.add_argument(
        "--report", metavar="REPORT.html", help="write a page that shows and plays the difference"
    )
    parser.add_argument(
        "--order",
        type=_order,
        default="auto",
        metavar="N",
        help=f"total order of the cascade, 1 to {MAX_ORDER}, or 'auto' (default)",
    )
    parser.add_argument(
        "--method", choices=METHODS, default="auto", metavar="M", help=f"{', '.join(METHODS)} (default auto)"
    )
    parser.add_argument(
        "--max-delay-ms",
        type=_milliseconds,
        default=20.0,
        metavar="X",
        help="largest latency to look for (default 20)",
    )
    _add_common(parser)
    parser.add_argument(
        "--resample",
        type=_rate,
        nargs="?",
        const=0,
        metavar="HZ",
        help="allow different sample rates: bring both to HZ, or the dry file to the wet file's rate",
    )


_PHASER = """Find the phaser that makes WET of DRY: the number of all-pass stages, the oscillator that
sweeps them, feedback, gains. Chirps and other signals with all frequencies tell
most; music does."""
_COMPRESSOR = """Find the compressor that makes WET of DRY: threshold, ratio, knee, attack, release,
averaging, make-up gain, look-ahead, and what it detects and smooths. The recording
should be loud and soft in turns."""


def _add_effect(commands: Any, name: str, run: Any, description: str) -> None:
    group = _command_parser(
        commands.add_parser,
        name,
        help=f"learn a {name} from a dry and a wet file",
        description=f"Learn a {name} from recordings; 'jaxapf apply' sends other files through it.",
    )
    actions = group.add_subparsers(title="actions", metavar="ACTION", required=True, parser_class=_Parser)
    parser = _command_parser(
        actions.add_parser,
        "fit",
        run=run,
        help=f"learn a {name} from a dry and a wet file",
        description=description,
        epilog=f"""examples:
  jaxapf {name} fit dry.wav wet.wav -o {name}.json
  jaxapf apply {name}.json other.wav -o other_wet.wav""",
    )
    parser.add_argument("dry", metavar="DRY", help="the unprocessed recording")
    parser.add_argument("wet", metavar="WET", help=f"the same through the {name}: same rate and start")
    parser.add_argument(
        "-o", "--output", metavar="MODEL.json", required=True, help="where to write the model"
    )
    parser.add_argument(
        "--max-delay-ms",
        type=_milliseconds,
        default=20.0,
        metavar="X",
        help="largest latency to look for (default 20)",
    )
    parser.add_argument(
        "--channels", type=_channels, metavar="1", help="channel to learn from, counted from 1 (default 1)"
    )
    parser.add_argument(
        "--resample",
        type=_rate,
        nargs="?",
        const=0,
        metavar="HZ",
        help="allow different sample rates: bring both to HZ, or the dry file to the wet file's rate",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors and warnings")


def _add_style(commands: Any) -> None:
    parser = _command_parser(
        commands.add_parser,
        "style",
        run=style.style,
        help="make one recording sound as if it went through the effects of another",
        description="""Set an equaliser and a compressor so that INPUT sounds as if it had gone through the
effects of REFERENCE, another recording: a network hears at most a minute of both
and chooses the controls, which are printed and can be saved, edited and used
again. The result is made as loud as REFERENCE, or less where it would clip.""",
        epilog="""examples:
  jaxapf style take.wav reference.wav -o styled.wav
  jaxapf style take.wav reference.wav -o styled.wav --report style.html --controls style.json
  jaxapf apply style.json other_take.wav -o other_styled.wav

Both files may have any length from 0.25 s, any rate from 8 to 192 kHz and any
number of channels; the output has those of INPUT. All channels get the same gain.""",
    )
    parser.add_argument("input", metavar="INPUT", help="the recording to process")
    parser.add_argument("reference", metavar="REFERENCE", help="a recording that sounds as INPUT should")
    parser.add_argument("-o", "--output", metavar="OUTPUT", required=True, help="where to write the result")
    parser.add_argument("--report", metavar="REPORT.html", help="write a page that shows and plays it")
    parser.add_argument(
        "--controls", metavar="CONTROLS.json", help="write the controls, for 'apply' and 'info'"
    )
    parser.add_argument(
        "--network", metavar="FILE.npz", help="a network that was trained for it (default: the stored one)"
    )
    parser.add_argument(
        "--passes",
        type=_passes,
        default=2,
        metavar="N",
        help="how often the network is asked, hearing what its last choice made: 1 to 10 (default 2)",
    )
    _add_common(parser)


def _add_processing(commands: Any) -> None:
    group = _command_parser(
        commands.add_parser,
        "effect",
        run=effect.effect,
        help="send a file through one effect, or list all effects with their controls",
        description="Send a file through one effect; 'jaxapf effect NAME --help' says which controls it has.",
        epilog="""examples:
  jaxapf effect --list
  jaxapf effect compressor take.wav -o pressed.wav --threshold-db -30 --ratio 4
  jaxapf effect equalizer take.wav -o bright.wav --high-shelf-gain-db 6""",
    )
    group.set_defaults(effect=None)
    group.add_argument("--list", action="store_true", help="print all effects with their controls and ranges")
    group.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    names = group.add_subparsers(title="effects", metavar="NAME", parser_class=_Parser)
    for name in effect.EFFECTS:
        _add_one_effect(names, name)


def _add_one_effect(names: Any, name: str) -> None:
    controls = effect.EFFECTS[name]
    parser = _command_parser(
        names.add_parser,
        name,
        run=effect.process,
        help=", ".join(list(effect.shown_names(name))),
        description=f"""Send IN through the {name}. {effect.CHANNELS[name]}""",
        epilog="Without an option, each control is at its default, in brackets.",
    )
    parser.set_defaults(effect=name)
    parser.add_argument("input", metavar="IN", help="the file to process")
    parser.add_argument("-o", "--output", metavar="OUT", required=True, help="where to write the result")
    for one in controls:
        unit = f" {one.unit}" if one.unit else ""
        default = effect.default(name, one)
        parser.add_argument(
            f"--{one.name.replace('_', '-')}",
            type=_within(one.low, one.high, unit),
            default=default,
            metavar="X",
            help=f"{one.low:g} to {one.high:g}{unit} (default {default:g})",
        )
    _add_common(parser)


def _within(low: float, high: float, unit: str) -> Callable[[str], float]:
    def value(text: str) -> float:
        with contextlib.suppress(ValueError):
            if low <= float(text) <= high:
                return float(text)
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from {low:g} to {high:g}{unit}")

    return value


def _add_apply(commands: Any) -> None:
    parser = _command_parser(
        commands.add_parser,
        "apply",
        run=models.apply,
        help="send a file through a fitted model",
        description="""Send IN through a model: delay, polarity and filters that 'align' found, an effect, or
the controls that 'style' chose.""",
        epilog="""examples:
  jaxapf apply tape.json take2.wav -o take2_aligned.wav
  jaxapf apply phaser.json guitar.wav -o guitar_phased.wav
  jaxapf apply tape.json take2_44k.flac -o take2_aligned.flac --resample""",
    )
    parser.add_argument("model", metavar="MODEL.json", help="what 'align --model', a 'fit' or 'style' wrote")
    parser.add_argument("input", metavar="IN", help="the file to process")
    parser.add_argument("-o", "--output", metavar="OUT", required=True, help="where to write the result")
    _add_common(parser)
    parser.add_argument(
        "--resample",
        action="store_true",
        help="bring IN to the model's sample rate; OUT keeps the model's rate",
    )


def _add_export(commands: Any) -> None:
    parser = _command_parser(
        commands.add_parser,
        "export",
        run=models.export,
        help="write a model in another format",
        description="""Write a model as JSON, or as a table of second-order sections for SciPy and
others.""",
        epilog="""examples:
  jaxapf export tape.json --format sos -o tape.txt""",
    )
    parser.add_argument("model", metavar="MODEL.json", help="a model that 'jaxapf align --model' wrote")
    parser.add_argument(
        "--format",
        choices=("json", "sos", "cpp", "faust"),
        required=True,
        help="the format to write (cpp and faust are not available in this version)",
    )
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help="where to write it")


def _add_demo(commands: Any) -> None:
    parser = _command_parser(
        commands.add_parser,
        "demo",
        run=align.demo,
        help="align the example that ships with jaxapf",
        description="""Align seven seconds of drums and guitar with their copy from a tape machine
simulation.""",
        epilog="""examples:
  jaxapf demo
  jaxapf demo -o /tmp/demo""",
    )
    parser.add_argument(
        "-o", "--output", metavar="DIR", default="jaxapf-demo", help="folder to write (default jaxapf-demo)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def _add_info(commands: Any) -> None:
    parser = _command_parser(
        commands.add_parser,
        "info",
        run=info.info,
        help="show versions, devices and stored checkpoints, or what a file holds",
        description="""Show versions, devices and the checkpoints that come with jaxapf; or the
properties of audio files, the figures of models, and the steps, metrics and
configuration of training checkpoints.""",
        epilog="""examples:
  jaxapf info
  jaxapf info dry.wav wet.wav tape.json
  jaxapf info run/checkpoints""",
    )
    parser.add_argument(
        "files", metavar="FILE", nargs="*", help="audio file, model, or folder of training checkpoints"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--channels", type=_channels, metavar="1,2", help="channels to use, counted from 1 (default all)"
    )
    parser.add_argument(
        "--subtype", metavar="S", help="sample encoding of the output, such as PCM_24 or FLOAT"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors and warnings")


def _order(text: str) -> int | str:
    if text == "auto":
        return text
    if not text.lstrip("+-").isdecimal() or not 1 <= int(text) <= MAX_ORDER:
        raise argparse.ArgumentTypeError(f"'{text}' is not 'auto' or a whole number from 1 to {MAX_ORDER}")
    return int(text)


def _passes(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 10:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 1 to 10")
    return int(text)


def _milliseconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < float(text) <= 10000:
            return float(text)
    raise argparse.ArgumentTypeError(f"'{text}' is not a number of milliseconds above 0, at most 10000")


def _rate(text: str) -> int:
    if not text.isdecimal() or not 1000 <= int(text) <= 1000000:
        raise argparse.ArgumentTypeError(
            f"'{text}' is not a rate in Hz (1000 to 1000000); without a rate, put --resample after the files"
        )
    return int(text)


def _channels(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    channels = tuple(int(part) - 1 for part in parts if part.strip().isdecimal())
    if len(set(channels)) < len(parts) or min(channels) < 0:
        raise argparse.ArgumentTypeError(
            f"'{text}' is not a list of different channels counted from 1, such as 1,2"
        )
    return channels
