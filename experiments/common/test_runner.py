"""How an experiment's command ends, and where its tables go."""

import os
import signal

import pytest

from experiments.common import runner, tables


@pytest.fixture
def parser(tmp_path):
    parser = runner.make_parser("some", "Measure.")
    runner.add_folder(parser, "some")
    parser.set_defaults(folder=tmp_path / "results")
    return parser


def fail(error):
    def work(args):
        raise error

    return work


@pytest.mark.parametrize(
    ("work", "code", "text"),
    [
        (lambda args: None, 0, ""),
        (fail(ValueError("--data 'x' is no folder")), 2, "error: --data 'x' is no folder"),
        (fail(FileNotFoundError(2, "No such file", "x.wav")), 2, "error: x.wav: no such file"),
        (fail(KeyboardInterrupt()), 130, "interrupted; what is done is kept"),
        (lambda args: os.kill(os.getpid(), signal.SIGTERM), 143, "terminated; what is done is kept"),
    ],
)
def test_a_command_ends_with_its_code_and_one_sentence(parser, capsys, work, code, text):
    before = signal.getsignal(signal.SIGTERM)
    assert runner.run(parser, [], work) == code
    assert capsys.readouterr().err == (f"python -m experiments.some: {text}\n" if text else "")
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_folder_that_cannot_be_written_is_found_before_the_work(parser, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert runner.run(parser, ["--folder", str(tmp_path / "file")], fail(AssertionError())) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_subcommands_bring_their_work(capsys):
    parser = runner.make_parser("some", "Measure.")
    commands = parser.add_subparsers(required=True)
    runner.add_command(commands, "train", lambda args: print(args.steps), "train").add_argument(
        "--steps", type=runner.whole()
    )
    assert runner.run(parser, ["train", "--steps", "3"]) == 0
    assert capsys.readouterr().out == "3\n"


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (runner.whole(), "0"),
        (runner.whole(0, 3), "4"),
        (runner.positive(1.0), "1.5"),
        (runner.positive(), "inf"),
        (runner.listed(["a", "b"]), "a,c"),
        (runner.whole_list, "1,x"),
    ],
)
def test_wrong_arguments_are_refused(parser, capsys, kind, word):
    parser.add_argument("--option", type=kind)
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(["--option", word])
    assert f"'{word.rpartition(',')[2]}'" in capsys.readouterr().err.replace(word, word.rpartition(",")[2])


def test_tables_go_where_their_markers_are(tmp_path):
    for name, marker in (("README.md", "main"), ("tables.md", "long")):
        (tmp_path / name).write_text(f"x\n<!-- {marker}:begin -->\nold\n<!-- {marker}:end -->\ny\n")
    tables.check(tmp_path, ["main", "long"])
    tables.put(tmp_path, {"main": "1\n", "long": "2\n"})
    assert (tmp_path / "README.md").read_text() == "x\n<!-- main:begin -->\n1\n<!-- main:end -->\ny\n"
    assert (tmp_path / "tables.md").read_text() == "x\n<!-- long:begin -->\n2\n<!-- long:end -->\ny\n"
    with pytest.raises(ValueError, match="needs one line '<!-- other:begin -->'"):
        tables.check(tmp_path, ["other"])
    tables.put(None, {"other": "3\n"})
