"""`jaxapf align`: what it writes and says, and that unusable inputs are one sentence and leave no file.

These tests are about files and messages: a stand-in takes the place of the fit.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from command_line import ALIGN, FS, RNG, files, refused, run

from jaxapf import audio
from jaxapf.cli import align as commands

# What goes well


def test_align_writes_all_outputs(pair, align, capsys):
    code, out, err = run(
        capsys,
        *ALIGN,
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
    assert callable(options.pop("progress"))
    assert options == {"order": 5, "method": "auto", "max_delay_ms": 20.0}
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
    monkeypatch.setattr(commands, "WHOLE_MAX_S", 5)
    monkeypatch.setattr(commands, "STRETCH_S", 1)
    align.gain = gain
    x = 0.1 * RNG.standard_normal((2, 10 * FS + 123)).clip(-4, 4)
    x[:, : 5 * FS] *= 0.01
    wet = -np.roll(x, 2, axis=-1)
    wet[:, :2] = 0
    audio.write("dry.wav", x, FS, subtype="DOUBLE")
    audio.write("wet.wav", wet, FS, subtype="DOUBLE")
    code, out, _ = run(
        capsys,
        *ALIGN,
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

    def interrupted_stream(alignment, read, n_samples, fs):
        yield read(0, 1000)
        raise KeyboardInterrupt

    if when == "fitting":
        align.error = KeyboardInterrupt()
    elif when == "filtering":
        monkeypatch.setattr(align.Alignment, "stream", interrupted_stream)
    else:
        monkeypatch.setattr("jaxapf.report.write", interrupted)
    code, out, err = run(capsys, *ALIGN, "--report", "r.html")
    assert (code, out) == (130, "")
    assert err.startswith("jaxapf: interrupted")
    assert err.count("\n") == 1
    assert files() == (["dry.wav", "wet.wav"] if when != "report" else ["a.wav", "dry.wav", "wet.wav"])
