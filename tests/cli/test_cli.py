"""The command: every mistake is one sentence and exit code 2, and nothing half-written stays behind.

Most of these tests, which are about files and messages, have a stand-in for the fit. `jaxapf align` and the
command as a process of its own are in files of their own.
"""

import dataclasses
import importlib
import importlib.metadata
import json
import os
from pathlib import Path

import numpy as np
import pytest
from command_line import ALIGN, refused, run

from jaxapf import audio, cli
from jaxapf.alignment import estimate, options
from jaxapf.cli import align
from jaxapf.training import pretrained

# What goes well


def test_apply_export_and_info(pair, align, capsys):
    run(capsys, "align", "dry.wav", "wet.wav", "-o", "a.wav", "--model", "m.json")
    code, out, err = run(capsys, "apply", "m.json", "dry.wav", "-o", "b.wav")
    assert (code, err) == (0, "")
    assert "b.wav: WAV PCM_24" in out
    np.testing.assert_array_equal(audio.read("b.wav")[0], audio.read("a.wav")[0])
    assert run(capsys, "apply", "m.json", "dry.wav", "-o", "c.wav", "--channels", "2", "--json")[0] == 0
    np.testing.assert_array_equal(audio.read("c.wav")[0], audio.read("a.wav")[0][1:])
    assert run(capsys, "export", "m.json", "--format", "json", "-o", "n.json") == (0, "", "")
    assert json.loads(Path("n.json").read_text()) == json.loads(Path("m.json").read_text())
    assert run(capsys, "export", "m.json", "--format", "sos", "-o", "m.txt") == (0, "", "")
    assert np.loadtxt("m.txt", ndmin=2).shape == (1, 6)
    code, out, err = run(capsys, "info", "dry.wav", "m.json")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "dry.wav: WAV PCM_24, 8000 Hz, 2 channels, 0.500 s (4000 samples)"
    assert out.splitlines()[1:] == [
        "m.json: model, 1 all-pass section, delay 3.000 samples at 8000 Hz, polarity kept, method stand-in",
        "  error-to-signal ratio: aligned 0.50000",
        "   1  second_order  cutoff_hz 123.4  q 0.5",
    ]
    assert json.loads(run(capsys, "info", "--json", "dry.wav")[1])["dry.wav"]["n_samples"] == 4000


def test_info_names_versions_and_stored_checkpoints(tmp_path, monkeypatch, align, capsys):
    code, out, err = run(capsys, "info")
    assert (code, err) == (0, "")
    lines = dict(line.split(maxsplit=1) for line in out.splitlines() if not line.startswith(" "))
    assert lines["jaxapf"] == importlib.import_module("jaxapf").__version__
    for package in ("jax", "flax", "optax", "orbax-checkpoint", "numpy"):
        assert lines[package] == importlib.metadata.version(package)
    stated = json.loads(run(capsys, "info", "--json")[1])["checkpoints"]
    assert stated == [{**one, "path": str(pretrained.path(one["name"]))} for one in pretrained.manifest()]

    for name, text in pretrained.EMPTY.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(pretrained, "folder", lambda: tmp_path)
    assert run(capsys, "info")[1].endswith("checkpoints       none\n")
    model = tmp_path.parent / "fit.json"
    model.write_text("x" * 1600)
    said = {"what": "seven sections", "command": "python run.py", "data": "noise"}
    pretrained.add("tape", model, **said, figure=("ESR", 0.02345))
    assert run(capsys, "info")[1].splitlines()[-2:] == [
        "checkpoints       1 stored, 0.0016 MB",
        "  tape: seven sections, ESR 0.02345, 2 kB",
    ]
    (found,) = json.loads(run(capsys, "info", "--json")[1])["checkpoints"]
    assert (found["path"], found["figure"]["value"]) == (str(tmp_path / "tape.json"), 0.02345)


def test_info_without_stored_checkpoints_or_a_package(monkeypatch, align, capsys):
    def missing(*_):
        raise importlib.metadata.PackageNotFoundError

    def nowhere():
        raise ValueError("this copy of jaxapf has no stored checkpoints")

    monkeypatch.setattr(importlib.metadata, "version", missing)
    monkeypatch.setattr(pretrained, "folder", nowhere)
    out = run(capsys, "info")[1]
    assert "orbax-checkpoint  not installed\n" in out
    assert out.endswith("checkpoints       none\n")


def test_info_on_training_checkpoints(tmp_path, monkeypatch, capsys):
    checkpoint = importlib.import_module("jaxapf.training.checkpoint")
    monkeypatch.chdir(tmp_path)
    state = {"params": {"w": np.zeros((3, 4), np.float32), "b": np.zeros(4, np.float32)}, "mu": np.zeros(16)}
    config = {"order": 7, "optimiser": {"lr": 1e-3}, "boxes": ["a"]}
    with checkpoint.Checkpoints("run", config=config) as checkpoints:
        for step, loss in ((50, 0.5), (100, float("nan"))):
            checkpoints.save(state, {"loss": loss, "skipped": 2}, step=step)
    code, out, err = run(capsys, "info", "run")
    assert (code, err) == (0, "")
    first, *others = out.splitlines()
    assert first.startswith("run: 2 training checkpoints, 16 parameters in 2 arrays, jaxapf ")
    assert others == [
        "  step  50  loss 0.5  skipped 2",
        "  step 100  loss nan  skipped 2",
        '  config  order 7  optimiser.lr 0.001  boxes ["a"]',
    ]
    found = json.loads(run(capsys, "info", "--json", "run")[1])["run"]
    assert found["config"] == config
    assert found["steps"][1] == {"step": 100, "metrics": {"loss": None, "skipped": 2}}
    for step in (50, 100):
        Path(f"run/{step}/meta/metadata").write_text("{")
    assert "'run' holds no whole checkpoint" in refused(capsys, "info", "run")


def test_apply_at_another_rate(pair, align, capsys):
    run(capsys, "align", "dry.wav", "wet.wav", "-o", "a.wav", "--model", "m.json")
    audio.write("take.wav", np.zeros(11025) + 0.1, 11025)
    assert "add --resample" in refused(capsys, "apply", "m.json", "take.wav", "-o", "b.wav")
    assert run(capsys, "apply", "m.json", "take.wav", "-o", "b.wav", "--resample")[0] == 0
    assert audio.info("b.wav")[1:3] == (8000, 8000)


def test_demo_writes_into_its_folder(tmp_path, monkeypatch, align, capsys):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, "demo")
    assert (code, err) == (0, "")
    assert str(Path("jaxapf-demo", "report.html")) in out
    names = [
        "example_aligned.flac",
        "example_dry.flac",
        "example_model.json",
        "example_wet.flac",
        "report.html",
    ]
    assert sorted(os.listdir("jaxapf-demo")) == names
    Path("file").touch()
    assert "cannot be created" in refused(capsys, "demo", "-o", "file")


def test_help_is_help(capsys):
    for arguments in [[], ["align"], ["apply"], ["export"], ["demo"], ["info"]]:
        code, out, err = run(capsys, *arguments, "--help")
        assert (code, err) == (0, "")
        assert "examples:\n  jaxapf" in out


def test_the_methods_are_those_of_align():
    assert tuple(estimate.TABLE) == options.METHODS


def test_options_that_are_not_given_are_those_of_the_function():
    words = ["align", "dry.wav", "wet.wav", "-o", "a.wav"]
    given = cli.parse(words).options
    assert given == align.Options(
        dry="dry.wav", wet="wet.wav", output="a.wav", command_line="jaxapf align dry.wav wet.wav -o a.wav"
    )
    with pytest.raises(dataclasses.FrozenInstanceError):
        given.order = 3
    given = cli.parse(["effect", "--json", "gain", "x.wav", "-o", "y.wav", "--gain-db", "-3"]).options
    assert (given.json, given.effect, given.controls) == (True, "gain", {"gain_db": -3.0})


# What is refused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "required: COMMAND"),
        (("nonsense",), "invalid choice: 'nonsense'"),
        (("align", "dry.wav"), "required: WET, -o/--output"),
        (("align", "dry.wav", "wet.wav"), "required: -o/--output"),
        ((*ALIGN, "--order", "0"), "'0' is not 'auto' or a whole number from 1 to 32"),
        ((*ALIGN, "--order=-3"), "'-3' is not"),
        ((*ALIGN, "--order", "33"), "'33' is not"),
        ((*ALIGN, "--order", "seven"), "'seven' is not"),
        ((*ALIGN, "--order", "1.5"), "'1.5' is not"),
        ((*ALIGN, "--method", "magic"), "invalid choice: 'magic'"),
        ((*ALIGN, "--max-delay-ms", "0"), "'0' is not a number of milliseconds"),
        ((*ALIGN, "--max-delay-ms", "nan"), "'nan' is not a number of milliseconds"),
        ((*ALIGN, "--channels", "0"), "'0' is not a list of different channels"),
        ((*ALIGN, "--channels", "1,1"), "'1,1' is not a list of different channels"),
        ((*ALIGN, "--channels", "1,,2"), "'1,,2' is not a list of different channels"),
        ((*ALIGN, "--channels", "left"), "'left' is not a list of different channels"),
        ((*ALIGN, "--channels", "3"), "'dry.wav' has 2 channels and no channel 3"),
        ((*ALIGN, "--subtype", "PCM_99"), "WAV has no subtype 'PCM_99'"),
        (("align", "--resample", "dry.wav", "wet.wav", "-o", "a.wav"), "put --resample after the files"),
        (("align", "dry.wav", "wet.wav", "-o", "a.mp3"), "suffix '.mp3'"),
        (("align", "dry.wav", "wet.wav", "-o", "a"), "no suffix"),
        (
            ("align", "dry.wav", "wet.wav", "-o", "a.flac", "--subtype", "FLOAT"),
            "FLAC has no subtype 'FLOAT'",
        ),
        (("align", "dry.wav", "wet.wav", "-o", "missing/a.wav"), "the folder does not exist"),
        (("align", "dry.wav", "wet.wav", "-o", "dry.wav"), "'dry.wav' is an input file"),
        (("align", "dry.wav", "wet.wav", "-o", "./wet.wav"), "is an input file"),
        ((*ALIGN, "--model", "a.wav"), "named for two outputs"),
        ((*ALIGN, "--model", "m.json", "--report", "./m.json"), "named for two outputs"),
        ((*ALIGN, "--report", "missing/r.html"), "'missing/r.html' cannot be written"),
        ((*ALIGN, "--model", "."), "'.' is a folder"),
        (("apply", "missing.json", "dry.wav", "-o", "a.wav"), "'missing.json' does not exist"),
        (("apply", "dry.wav", "dry.wav", "-o", "a.wav"), "'dry.wav' is not a model"),
        (("apply", ".", "dry.wav", "-o", "a.wav"), "'.' is not a regular file"),
        (("export", "missing.json", "--format", "sos", "-o", "a.txt"), "'missing.json' does not exist"),
        (("export", "missing.json", "--format", "cpp", "-o", "a.h"), "cpp is not available in this version"),
        (
            ("export", "missing.json", "--format", "faust", "-o", "a.dsp"),
            "faust is not available in this version",
        ),
        (("export", "missing.json", "--format", "nonsense", "-o", "a.txt"), "invalid choice: 'nonsense'"),
        (("info", "missing.wav"), "'missing.wav' does not exist"),
        (("info", "missing.json"), "'missing.json' does not exist"),
        (("info", "dry.wav", "."), "'.' is a folder and holds no checkpoints"),
    ],
)
def test_wrong_use(pair, align, capsys, arguments, message):
    assert message in refused(capsys, *arguments)
    assert align.calls == []


@pytest.mark.parametrize(
    "content", ["", "nonsense", "[]", "{}", '{"version": 99}', '{"stand-in": ', "[" * 100000, b"\xff\xfe\x00"]
)
def test_broken_and_foreign_models(pair, align, capsys, content):
    Path("m.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert "'m.json' is not a model" in refused(capsys, "apply", "m.json", "dry.wav", "-o", "a.wav")
    assert "'m.json' is not a model" in refused(capsys, "export", "m.json", "--format", "sos", "-o", "m.txt")
    assert "'m.json' is not a model" in refused(capsys, "info", "m.json")
