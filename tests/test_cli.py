"""The command: every mistake is one sentence and exit code 2, and nothing half-written stays behind.

Most tests run in this process with a stand-in for `jaxapf.estimate` that delays by whole samples: they are
about files and messages. The tests at the end run the real command.
"""

import dataclasses
import importlib
import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import scipy.signal
import soundfile as sf

from jaxapf import _commands, audio, cli, stored
from jaxapf.__main__ import main

FS = 8000
RNG = np.random.default_rng(1)


class Sections(NamedTuple):
    u: np.ndarray
    v: np.ndarray
    m: np.ndarray


@dataclasses.dataclass(frozen=True)
class Alignment:
    """A whole-sample delay and a polarity; `gain` makes results pass full scale."""

    fs: float
    delay_samples: int
    polarity: int
    gain: float = 1.0
    method: str = "stand-in"
    stop_reason: str = "a stand-in has no filter"
    sections: Sections = dataclasses.field(default_factory=lambda: Sections(*np.zeros((3, 0))))
    controls: list = dataclasses.field(default_factory=list)
    metrics: dict = dataclasses.field(default_factory=dict)
    command: str = ""

    @property
    def sos(self):
        return np.zeros((0, 6))

    def apply(self, x):
        delayed = np.roll(x, self.delay_samples, axis=-1)
        delayed[..., : max(0, self.delay_samples)] = 0
        return self.gain * self.polarity * delayed

    def save(self, path):
        audio.write_text(path, json.dumps({"stand-in": [self.fs, self.delay_samples, self.polarity]}))

    @classmethod
    def load(cls, path):
        found = json.loads(Path(path).read_text())
        if "stand-in" not in found:
            raise ModelError(f"'{path}' is not a model")
        fs, *rest = found["stand-in"]
        controls = [{"type": "second_order", "cutoff_hz": 123.4, "q": 0.5}]
        return cls(float(fs), *rest, controls=controls, metrics={"esr_aligned": 0.5, "esr_raw": None})


class ModelError(ValueError):
    pass


def stream(alignment, read, n_samples, *, block_samples=1000):
    for start in range(0, n_samples, block_samples):
        stop = min(start + block_samples, n_samples)
        before = min(start, max(0, start - alignment.delay_samples))
        yield alignment.apply(read(before, stop))[..., start - before :]


class StandIn(types.ModuleType):
    Alignment, ModelError, stream = Alignment, ModelError, staticmethod(stream)

    def __init__(self):
        super().__init__("jaxapf.estimate")
        self.calls, self.reports, self.gain, self.delay, self.error = [], [], 1.0, 3, None

    def align(self, dry, wet, fs, **options):
        self.calls.append((dry, wet, fs, options))
        if self.error is not None:
            raise self.error
        names = ("esr_raw", "esr_delay", "esr_aligned", "esr_bound")
        metrics = dict.fromkeys((*names, "correlation_raw", "correlation_delay", "correlation_aligned"), 0.5)
        metrics |= {"delay_only_samples": 2, "delay_only_polarity": -1, "seconds": float("nan")}
        return Alignment(fs, self.delay, 1, self.gain, metrics=metrics)


class Report(types.ModuleType):
    def __init__(self, reports):
        super().__init__("jaxapf.report")
        self.reports = reports

    def write(self, path, *signals, **options):
        self.reports.append((signals, options))
        audio.write_text(path, "<!doctype html>")


@pytest.fixture
def align(monkeypatch):
    """A stand-in for jaxapf.estimate, and a report that is one line."""
    stand_in = StandIn()
    report = Report(stand_in.reports)
    monkeypatch.setitem(sys.modules, "jaxapf.estimate", stand_in)
    monkeypatch.setitem(sys.modules, "jaxapf.report", report)
    monkeypatch.setattr(_commands, "_use_compilation_cache", lambda: None)
    return stand_in


@pytest.fixture
def pair(tmp_path, monkeypatch):
    """dry.wav and wet.wav, two channels, in the current folder."""
    monkeypatch.chdir(tmp_path)
    x = 0.2 * RNG.standard_normal((2, 4000)).clip(-4, 4)
    audio.write("dry.wav", x, FS)
    audio.write("wet.wav", -np.roll(x, 2, axis=-1), FS)
    return tmp_path


def files():
    return sorted(os.listdir())


def run(capsys, *arguments):
    code = main(list(map(str, arguments)))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def refused(capsys, *arguments, code=2):
    """Run what must fail, check the manner, and return the sentence."""
    before = files()
    got, out, err = run(capsys, *arguments)
    assert got == code, err
    assert out == ""
    assert err.startswith("jaxapf: error: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert files() == before
    return err


# What goes well


def test_align_writes_all_outputs(pair, align, capsys):
    code, out, err = run(
        capsys,
        "align",
        "dry.wav",
        "wet.wav",
        "-o",
        "a.wav",
        "--model",
        "m.json",
        "--report",
        "r.html",
        "--order",
        5,
    )
    assert (code, err) == (0, "")
    assert files() == ["a.wav", "dry.wav", "m.json", "r.html", "wet.wav"]
    dry, _ = audio.read("dry.wav")
    np.testing.assert_array_equal(audio.read("a.wav")[0][:, 3:], dry[:, :-3])
    for word in (
        "before",
        "delay only",
        "aligned",
        "phase-only bound",
        "3.000 samples",
        "a.wav",
        "r.html",
        "time",
    ):
        assert word in out
    ((_, _, fs, options),) = align.calls
    assert fs == FS
    assert options == {"order": 5, "method": "auto", "max_delay_ms": 20.0, "progress": False}
    ((signals, texts),) = align.reports
    assert [np.shape(x) for x in signals[:3]] == [(2, 4000)] * 3
    assert texts["dry_name"] == "dry.wav"
    assert texts["command"].startswith("jaxapf align dry.wav wet.wav -o a.wav")


@pytest.mark.parametrize(("delay", "words"), [(7, "wet is later"), (0, "none"), (-4, "wet is earlier")])
def test_the_sign_of_the_delay_is_explained(pair, align, capsys, delay, words):
    align.delay = delay
    line = next(line for line in run(capsys, *ALIGN)[1].splitlines() if line.startswith("delay  "))
    assert f"{delay:.3f} samples" in line
    assert words in line


def test_json_is_one_object(pair, align, capsys):
    code, out, err = run(capsys, "align", "dry.wav", "wet.wav", "-o", "a.flac", "--json")
    result = json.loads(out)
    assert (code, err) == (0, "")
    assert result["output"]["format"] == "FLAC"
    assert result["delay_samples"] == 3
    assert result["metrics"]["esr_bound"] == 0.5
    assert result["metrics"]["seconds"] is None


def test_quiet_says_nothing(pair, align, capsys):
    assert run(capsys, "align", "dry.wav", "wet.wav", "-o", "a.wav", "--quiet") == (0, "", "")


def test_channels_are_picked_and_swapped(pair, align, capsys):
    audio.write("mono.wav", audio.read("wet.wav")[0][:1], FS)
    assert run(capsys, "align", "dry.wav", "wet.wav", "-o", "a.wav", "--channels", "2,1")[0] == 0
    np.testing.assert_array_equal(align.calls[-1][0], audio.read("dry.wav")[0][::-1])
    assert run(capsys, "align", "dry.wav", "mono.wav", "-o", "a.wav", "--channels", "1")[0] == 0
    assert align.calls[-1][1].shape == (1, 4000)
    assert audio.info("a.wav").n_channels == 1


def test_slightly_different_lengths_are_trimmed_and_said(pair, align, capsys):
    audio.write("wet.wav", audio.read("wet.wav")[0][:, :-37], FS)
    code, out, _ = run(capsys, "align", "dry.wav", "wet.wav", "-o", "a.wav", "--report", "r.html")
    assert code == 0
    assert "'dry.wav' is longer: its last 37 samples were left out" in " ".join(out.split())
    assert audio.info("a.wav").n_samples == 3963
    assert "last 37 samples" in align.reports[0][1]["notes"][0]


@pytest.mark.parametrize(("option", "fs"), [(["--resample"], 8000), (["--resample", "16000"], 16000)])
def test_resampling_when_asked_for(pair, align, capsys, option, fs):
    audio.write("dry.wav", audio.resample(audio.read("dry.wav")[0], 8000, 11025), 11025, subtype="FLOAT")
    code, out, _ = run(capsys, "align", "dry.wav", "wet.wav", "-o", "a.wav", *option)
    assert code == 0
    assert f"'dry.wav' was resampled from 11025 to {fs} Hz" in out
    assert align.calls[0][2] == fs
    assert audio.info("a.wav").fs == fs
    assert align.calls[0][0].shape == align.calls[0][1].shape == (2, fs // 2)


@pytest.mark.parametrize(
    ("dry_subtype", "output", "option", "expected"),
    [
        ("PCM_16", "a.wav", [], "PCM_16"),
        ("PCM_16", "a.flac", [], "PCM_16"),
        ("FLOAT", "a.flac", [], "PCM_24"),
        ("FLOAT", "a.aiff", [], "FLOAT"),
        ("ULAW", "a.wav", [], "PCM_24"),
        ("PCM_16", "a.ogg", [], "VORBIS"),
        ("PCM_16", "a.wav", ["--subtype", "pcm_32"], "PCM_32"),
    ],
)
def test_subtype_of_the_output(pair, align, capsys, dry_subtype, output, option, expected):
    audio.write("dry.wav", audio.read("dry.wav")[0], FS, subtype=dry_subtype)
    assert run(capsys, "align", "dry.wav", "wet.wav", "-o", output, *option)[0] == 0
    assert audio.info(output).subtype == expected


def test_beyond_full_scale_is_float_or_said(pair, align, capsys):
    align.gain = 3.0
    _, out, err = run(capsys, "align", "dry.wav", "wet.wav", "-o", "a.wav")
    assert "written as FLOAT" in out
    assert err == ""
    assert np.max(np.abs(audio.read("a.wav")[0])) > 1.5
    for arguments in (["a.flac"], ["b.wav", "--subtype", "PCM_16"]):
        code, out, err = run(capsys, "align", "dry.wav", "wet.wav", "-o", *arguments, "--quiet")
        assert (code, out, err.count("\n")) == (0, "", 1)
        assert err.startswith("jaxapf: warning: the result peaks at ")
        assert "clips it" in err
    assert files() == ["a.flac", "a.wav", "b.wav", "dry.wav", "wet.wav"]


@pytest.mark.parametrize("gain", [1.0, 20.0])
def test_a_long_pair_is_fitted_on_stretches_and_streamed(pair, align, capsys, monkeypatch, gain):
    monkeypatch.setattr(_commands, "WHOLE_MAX_S", 5)
    monkeypatch.setattr(_commands, "STRETCH_S", 1)
    align.gain = gain
    x = 0.1 * RNG.standard_normal((2, 10 * FS + 123)).clip(-4, 4)
    x[:, : 5 * FS] *= 0.01
    wet = -np.roll(x, 2, axis=-1)
    wet[:, :2] = 0
    audio.write("dry.wav", x, FS, subtype="DOUBLE")
    audio.write("wet.wav", wet, FS, subtype="DOUBLE")
    code, out, _ = run(
        capsys,
        "align",
        "dry.wav",
        "wet.wav",
        "-o",
        "a.wav",
        "--subtype",
        "FLOAT",
        "--json",
        "--report",
        "r.html",
    )
    assert code == 0
    result = json.loads(out)
    assert align.calls[0][0].shape == (4, 2, FS)
    aligned, _ = audio.read("a.wav")
    assert aligned.shape == x.shape
    esr = np.sum((aligned - wet) ** 2) / np.sum(wet**2)
    assert result["metrics"]["esr_aligned"] == pytest.approx(esr, rel=1e-5)
    assert result["metrics"]["esr_raw"] == pytest.approx(np.sum((x - wet) ** 2) / np.sum(wet**2), rel=1e-5)
    assert result["metrics"]["esr_delay"] < 1e-10 if gain == 1 else result["metrics"]["esr_delay"] > 1
    assert result["metrics"]["correlation_delay"] == pytest.approx(1.0)
    assert any("stretches" in note for note in result["notes"])
    signals, texts = align.reports[0]
    assert signals[0].shape == signals[2].shape == (2, FS)
    assert any("excerpt" in note for note in texts["notes"])
    start = np.flatnonzero(np.all(x.astype(np.float32) == signals[0][:, :1], axis=0))[0]
    np.testing.assert_allclose(signals[2], aligned[:, start : start + FS])


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
    assert stated == [{**one, "path": str(stored.path(one["name"]))} for one in stored.manifest()]

    for name, text in stored.EMPTY.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(stored, "folder", lambda: tmp_path)
    assert run(capsys, "info")[1].endswith("checkpoints       none\n")
    model = tmp_path.parent / "fit.json"
    model.write_text("x" * 1600)
    said = {"what": "seven sections", "command": "python run.py", "data": "noise"}
    stored.add("tape", model, **said, figure=("ESR", 0.02345))
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
    monkeypatch.setattr(stored, "folder", nowhere)
    out = run(capsys, "info")[1]
    assert "orbax-checkpoint  not installed\n" in out
    assert out.endswith("checkpoints       none\n")


def test_info_on_training_checkpoints(tmp_path, monkeypatch, capsys):
    checkpoint = importlib.import_module("jaxapf.checkpoint")
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


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux")
def test_names_of_any_bytes(pair, align, capsys):
    name = os.fsdecode(b"na\xffve.wav")
    os.rename("dry.wav", name)
    code, out, err = run(
        capsys, "align", name, "wet.wav", "-o", os.fsdecode(b"\xfe.wav"), "--report", "r.html"
    )
    assert (code, err) == (0, "")
    assert "\\udcfe.wav" in out
    assert align.reports[0][1]["dry_name"] == "na\\udcffve.wav"
    assert align.reports[0][1]["command"].isprintable()
    assert "na\\udcffve.wav' is an input" in refused(capsys, "align", name, "wet.wav", "-o", name)


# What is refused

ALIGN = ("align", "dry.wav", "wet.wav", "-o", "a.wav")


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


def make_input(kind):
    x, _ = audio.read("wet.wav")
    path = Path("bad.wav")
    if kind == "folder":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("no audio")
    elif kind == "header only":
        sf.write(path, np.zeros((0, 2)), FS)
    elif kind == "truncated":
        path.write_bytes(Path("wet.wav").read_bytes()[:-100])
    elif kind == "silent":
        audio.write(path, np.zeros((2, 4000)), FS)
    elif kind == "one sample":
        audio.write(path, x[:, :1], FS)
    elif kind == "not a number":
        x[1, 77] = np.nan
        sf.write(path, x.T, FS, subtype="FLOAT")
    elif kind == "infinite":
        x[0, 5] = np.inf
        sf.write(path, x.T, FS, subtype="FLOAT")
    elif kind == "one channel":
        audio.write(path, x[0], FS)
    elif kind == "three channels":
        audio.write(path, x[[0, 1, 0]], FS)
    elif kind == "another rate":
        audio.write(path, audio.resample(x, FS, 11025), 11025)
    elif kind == "another length":
        audio.write(path, x[:, :3900], FS)
    elif kind == "pipe":
        os.mkfifo(path)


BAD_INPUTS = {
    "missing": "'bad.wav' does not exist",
    "folder": "'bad.wav' is a folder",
    "empty": "'bad.wav' is empty",
    "text": "'bad.wav' is not an audio file",
    "header only": "'bad.wav' holds no samples",
    "truncated": "'bad.wav' is damaged or cut short",
    "silent": "'bad.wav' is silent",
    "one sample": "'bad.wav' holds 1 sample, too few",
    "not a number": "'bad.wav' holds a sample that is not a finite number (nan at sample 77 of channel 2)",
    "infinite": "'bad.wav' holds a sample that is not a finite number (inf at sample 5 of channel 1)",
    "one channel": "--channels",
    "three channels": "3 channels",
    "another rate": "add --resample",
    "another length": "more than 1 % apart",
}
if hasattr(os, "mkfifo"):
    BAD_INPUTS["pipe"] = "'bad.wav' is a device or pipe"


@pytest.mark.parametrize("kind", BAD_INPUTS)
@pytest.mark.parametrize("side", ["dry", "wet"])
def test_bad_input(pair, align, capsys, kind, side):
    make_input(kind)
    inputs = ("bad.wav", "wet.wav") if side == "dry" else ("dry.wav", "bad.wav")
    outputs = ("-o", "a.wav", "--model", "m.json", "--report", "r.html")
    assert BAD_INPUTS[kind] in refused(capsys, "align", *inputs, *outputs)
    assert align.calls == []


@pytest.mark.parametrize(
    "content", ["", "nonsense", "[]", "{}", '{"version": 99}', '{"stand-in": ', "[" * 100000, b"\xff\xfe\x00"]
)
def test_broken_and_foreign_models(pair, align, capsys, content):
    Path("m.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert "'m.json' is not a model" in refused(capsys, "apply", "m.json", "dry.wav", "-o", "a.wav")
    assert "'m.json' is not a model" in refused(capsys, "export", "m.json", "--format", "sos", "-o", "m.txt")
    assert "'m.json' is not a model" in refused(capsys, "info", "m.json")


@pytest.mark.skipif(os.name != "posix", reason="links as on POSIX")
def test_an_input_is_recognised_behind_links(pair, align, capsys):
    os.symlink("dry.wav", "soft.wav")
    os.link("wet.wav", "hard.wav")
    for name in ("soft.wav", "hard.wav"):
        assert "is an input file" in refused(capsys, "align", "dry.wav", "wet.wav", "-o", name)
    os.symlink("new.json", "soft.json")
    assert "two outputs" in refused(capsys, *ALIGN, "--model", "soft.json", "--report", "new.json")


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder that nobody can write")
def test_unwritable_folder(pair, align, capsys):
    assert "cannot be written" in refused(capsys, "align", "dry.wav", "wet.wav", "-o", "/proc/a.wav")
    assert "cannot be written" in refused(capsys, *ALIGN, "--report", "/proc/r.html")
    assert align.calls == []


def test_errors_while_fitting(pair, align, capsys):
    align.error = ValueError("method 'tcn' is not\navailable in this version")
    assert "method 'tcn' is not available" in refused(capsys, *ALIGN)
    align.error = ZeroDivisionError("oh\nno")
    assert "unexpected ZeroDivisionError: oh no" in refused(capsys, *ALIGN, code=1)
    align.error = MemoryError()
    assert "not enough memory" in refused(capsys, *ALIGN)


def test_a_traceback_only_when_asked_for(pair, align, capsys, monkeypatch):
    monkeypatch.setenv("JAXAPF_DEBUG", "1")
    align.error = ZeroDivisionError()
    assert "Traceback" in run(capsys, *ALIGN)[2]


@pytest.mark.parametrize("when", ["fitting", "filtering", "report"])
def test_interrupt(pair, align, capsys, monkeypatch, when):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    def interrupted_stream(alignment, read, n_samples):
        yield read(0, 1000)
        raise KeyboardInterrupt

    if when == "fitting":
        align.error = KeyboardInterrupt()
    elif when == "filtering":
        align.stream = interrupted_stream
    else:
        monkeypatch.setattr(sys.modules["jaxapf.report"], "write", interrupted)
    code, out, err = run(capsys, *ALIGN, "--report", "r.html")
    assert (code, out) == (130, "")
    assert err.startswith("jaxapf: interrupted")
    assert err.count("\n") == 1
    assert files() == (["dry.wav", "wet.wav"] if when != "report" else ["a.wav", "dry.wav", "wet.wav"])


def test_help_is_help(capsys):
    for arguments in [[], ["align"], ["apply"], ["export"], ["demo"], ["info"]]:
        code, out, err = run(capsys, *arguments, "--help")
        assert (code, err) == (0, "")
        assert "examples:\n  jaxapf" in out


def test_methods_and_orders_are_those_of_align():
    module = importlib.import_module("jaxapf.estimate")
    assert set(cli.METHODS) == {*module.METHODS, *module.PLANNED_METHODS}
    assert cli.MAX_ORDER == module.MAX_ORDER


# The real command


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["align", "missing.wav", "missing.wav", "-o", "a.wav"], 2),
        (["align"], 2),
    ],
)
def test_answers_without_importing_jax(tmp_path, arguments, code):
    program = (
        "import sys\nfrom jaxapf.__main__ import main\ncode = main(sys.argv[1:])\n"
        "assert not {'jax', 'scipy'} & set(sys.modules)\nsys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, cwd=tmp_path, timeout=60
    )
    assert done.returncode == code, done.stderr


def test_info_imports_no_training_library(tmp_path):
    program = (
        "import sys\nfrom jaxapf.__main__ import main\ncode = main(['info'])\n"
        "assert not {'flax', 'optax', 'orbax', 'jaxapf.estimate'} & set(sys.modules)\nsys.exit(code)"
    )
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


def jaxapf(*arguments, **options):
    line = [sys.executable, "-W", "error", "-m", "jaxapf", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=300, **options)


@pytest.fixture(scope="module")
def aligned(tmp_path_factory):
    """A folder with a pair whose filter is known, aligned by the real command, and what it printed."""
    folder = tmp_path_factory.mktemp("aligned")
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(folder / "cache")}
    x = np.random.default_rng(2).standard_normal((2, 3 * FS)).clip(-4, 4) * 0.1
    c, d = 0.81, -1.1
    wet = -np.asarray(scipy.signal.lfilter([c, d, 1], [1, d, c], np.pad(x, [(0, 0), (5, 0)])[:, : 3 * FS]))
    audio.write(folder / "dry.wav", x, FS, subtype="FLOAT")
    audio.write(folder / "wet.wav", wet, FS, subtype="FLOAT")
    words = "align dry.wav wet.wav -o a.wav --model m.json --report r.html --order 2 --json"
    done = jaxapf(*words.split(), cwd=folder, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    return folder, environment, json.loads(done.stdout)


def test_the_real_command_finds_a_known_filter(aligned):
    folder, _, result = aligned
    assert result["polarity"] == -1
    assert result["delay_samples"] == pytest.approx(5, abs=0.05)
    assert result["metrics"]["esr_aligned"] < 1e-3 < 0.1 < result["metrics"]["esr_delay"]
    wet, out = audio.read(folder / "wet.wav")[0], audio.read(folder / "a.wav")[0]
    assert np.sum((out - wet) ** 2) / np.sum(wet**2) == pytest.approx(
        result["metrics"]["esr_aligned"], rel=0.1, abs=1e-6
    )
    assert (folder / "r.html").read_text(encoding="utf-8").startswith("<!")
    assert json.loads((folder / "m.json").read_text())["command"].startswith("jaxapf align dry.wav wet.wav")
    assert sorted(path.name for path in folder.glob("*.*")) == [
        "a.wav",
        "dry.wav",
        "m.json",
        "r.html",
        "wet.wav",
    ]


def test_the_real_model_applies_and_exports(aligned, tmp_path):
    folder, environment, _ = aligned
    for words in (
        f"apply m.json dry.wav -o {tmp_path}/b.wav",
        f"export m.json --format sos -o {tmp_path}/m.txt",
        f"export m.json --format json -o {tmp_path}/n.json",
    ):
        done = jaxapf(*words.split(), cwd=folder, env=environment)
        assert (done.returncode, done.stderr) == (0, "")
    out, _ = audio.read(folder / "a.wav")
    np.testing.assert_array_equal(audio.read(tmp_path / "b.wav")[0], out)
    # SciPy with the exported table does the same, up to the fraction of the delay.
    sos = np.loadtxt(tmp_path / "m.txt", ndmin=2)
    dry = np.pad(audio.read(folder / "dry.wav")[0], [(0, 0), (5, 0)])[:, : 3 * FS]
    mine = -np.asarray(scipy.signal.sosfilt(sos, dry))
    assert np.sum((mine - out) ** 2) < 1e-2 * np.sum(out**2)
    exported, saved = (json.loads(path.read_text()) for path in (tmp_path / "n.json", folder / "m.json"))
    assert exported == saved


def test_a_foreign_model_is_refused_by_the_real_command(aligned, tmp_path):
    folder, environment, _ = aligned
    for content in ("{}", '{"format": "jaxapf-alignment", "version": 99}'):
        (tmp_path / "m.json").write_text(content)
        done = jaxapf(
            "apply", tmp_path / "m.json", folder / "dry.wav", "-o", tmp_path / "o.wav", env=environment
        )
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert done.stderr.startswith("jaxapf: error: '")
    assert [path.name for path in tmp_path.iterdir()] == ["m.json"]


@pytest.mark.parametrize("variable", ["JAX_COMPILATION_CACHE_DIR", "XDG_CACHE_HOME"])
@pytest.mark.skipif(sys.platform != "linux", reason="cache folder as on Linux")
def test_compiled_code_is_kept_between_runs(tmp_path, variable):
    program = (
        "from jaxapf import _commands\nfolder = _commands._use_compilation_cache()\n"
        "import jax\njax.jit(lambda x: x * 2 + 1)(1.0)\nprint(folder)"
    )
    environment = {name: value for name, value in os.environ.items() if "CACHE" not in name}
    environment[variable] = str(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=60
    )
    assert done.stdout.startswith(str(tmp_path)), done.stderr
    assert any(Path(done.stdout.strip()).iterdir())


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_printing_to_a_full_disk_and_to_nobody(pair):
    line = [sys.executable, "-m", "jaxapf", "info", "dry.wav"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (2, "jaxapf: error: output: no space left on device\n")
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(line, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


STANDING_IN = """
import resource, signal, sys
import test_cli
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
sys.modules["jaxapf.estimate"] = test_cli.StandIn()
sys.modules["jaxapf.report"] = test_cli.Report([])
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
from jaxapf.__main__ import main
sys.exit(main(sys.argv[2:]))
"""


def standing_in(program, *arguments):
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )


@pytest.mark.skipif(sys.platform != "linux", reason="file size limits as on Linux")
@pytest.mark.parametrize("limit", [10, 20000])
def test_a_full_disk(pair, limit):
    program = standing_in(STANDING_IN, limit, *ALIGN, "--model", "m.json")
    out, err = program.communicate(timeout=60)
    assert (program.returncode, out) == (2, "")
    assert "'a.wav' was not written: file too large" in err
    assert err.count("\n") == 1
    assert files() == ["dry.wav", "wet.wav"]


WAITING = """
import signal, sys, time
import test_cli
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
stand_in = test_cli.StandIn()
def slow(alignment, read, n_samples):
    yield read(0, 1000)
    print("halfway", flush=True)
    time.sleep(60)
stand_in.stream = slow
sys.modules["jaxapf.estimate"] = stand_in
from jaxapf.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_signals_halfway_through_writing(pair, name, code):
    program = standing_in(WAITING, *ALIGN)
    assert program.stdout is not None
    assert program.stdout.readline() == "halfway\n"
    assert len(files()) == 3
    started = time.monotonic()
    program.send_signal(getattr(signal, name))
    _, err = program.communicate(timeout=30)
    assert program.returncode == code
    assert time.monotonic() - started < 5
    assert err.count("\n") == 1
    assert err.startswith("jaxapf: ")
    assert files() == ["dry.wav", "wet.wav"]
