"""`jaxapf style`, and what other commands make of its controls."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.io.wavfile
from command_line import files, refused, run
from styles import FS, bursts, loudness, small_network

from jaxapf import audio
from jaxapf.cli import jax_setup
from jaxapf.cli import style as commands
from jaxapf.effects.style import network as style
from jaxapf.effects.style import transfer

# One pass compiles in half the time.
STYLE = ("style", "x.wav", "ref.wav", "-o", "y.wav", "--network", "net.npz", "--passes", "1")


@pytest.fixture(scope="module")
def stored_network(tmp_path_factory):
    """The file of `small_network`, which tests only read."""
    path = tmp_path_factory.mktemp("network") / "net.npz"
    style.save(small_network(), path)
    return path


@pytest.fixture
def takes(stored_network, tmp_path, monkeypatch, loose_jax):
    """x.wav, stereo; ref.wav, mono and at another rate; net.npz."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jax_setup, "use_compilation_cache", lambda: None)
    left = bursts(FS)
    audio.write("x.wav", np.stack([left, 0.25 * left]), FS, subtype="FLOAT")
    audio.write("ref.wav", 0.3 * bursts(12000, seed=1), 12000)
    shutil.copyfile(stored_network, "net.npz")


# The command


def test_a_file_is_styled_and_its_controls_serve_again(takes, capsys):
    code, out, err = run(capsys, *STYLE, "--controls", "c.json", "--report", "r.html")
    assert (code, err) == (0, "")
    for words in ("high shelf", "threshold", "ratio", ": 1", "level after", "c.json", "r.html", "2 channels"):
        assert words in out
    y, fs = audio.read("y.wav")
    assert (y.shape, fs, audio.info("y.wav").subtype) == ((2, FS), FS, "FLOAT")
    reference, _ = audio.read("ref.wav")
    assert loudness(y, FS) == pytest.approx(loudness(reference, 12000), abs=0.05)
    # One gain for both channels: the image stays.
    np.testing.assert_allclose(y[1], 0.25 * y[0], atol=1e-6)
    found = json.loads(Path("c.json").read_text())
    assert list(found["controls"]) == [one.name for one in style.CONTROLS]
    assert run(capsys, "apply", "c.json", "x.wav", "-o", "again.wav")[0] == 0
    np.testing.assert_array_equal(audio.read("again.wav")[0], y)
    assert "c.json: controls of a style" in run(capsys, "info", "c.json")[1]
    assert json.loads(run(capsys, "info", "--json", "c.json")[1])["c.json"]["controls"] == found["controls"]
    assert "the model of a style" in refused(capsys, "export", "c.json", "--format", "sos", "-o", "c.txt")
    check_page(Path("r.html").read_text(encoding="utf-8"))


def check_page(page):
    assert page.count("<audio") == 3
    assert "{{" not in page
    assert "http:" not in page
    assert "https:" not in page
    for words in ("x.wav in the style of ref.wav", "release", "Spectra", "0.3 to 5"):
        assert words in page


def test_json_has_the_controls(takes, capsys):
    words = (*STYLE, "--channels", "2")
    code, out, err = run(capsys, *words, "--json")
    assert (code, err) == (0, "")
    result = json.loads(out)
    assert set(result["controls"]) == {one.name for one in style.CONTROLS}
    assert (result["passes"], result["output"]["n_channels"]) == (1, 1)
    assert run(capsys, *words, "--quiet") == (0, "", "")


def test_a_reference_of_a_low_rate_is_noted(takes, capsys):
    code, out, _ = run(capsys, "style", "ref.wav", "x.wav", *STYLE[3:])
    assert code == 0
    assert "at 8000 Hz, has nothing above 4000 Hz" in out


def test_it_never_clips(takes, capsys):
    clicks = 0.01 * bursts(FS)
    clicks[::400] = 0.9  # one in every frame
    audio.write("x.wav", np.stack([clicks, 0.25 * clicks]), FS)
    audio.write("ref.wav", np.clip(20 * bursts(12000, seed=1), -0.99, 0.99), 12000)
    code, out, err = run(capsys, *STYLE)
    assert (code, err) == (0, "")
    assert "softer than the reference, so that it does not clip" in out
    assert 0.9 < np.max(np.abs(audio.read("y.wav")[0])) < 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("style", "none.wav", "ref.wav", "-o", "y.wav"), "'none.wav' does not exist"),
        (("style", "x.wav", ".", "-o", "y.wav"), "'.' is a folder"),
        (("style", "x.wav", "ref.wav"), "-o"),
        ((*STYLE[:4], "x.wav", *STYLE[5:]), "'x.wav' is an input file"),
        ((*STYLE[:4], "ref.wav", *STYLE[5:]), "'ref.wav' is an input file"),
        ((*STYLE[:4], "y.wav", "--network", "none.npz"), "'none.npz' does not exist"),
        ((*STYLE[:4], "y.wav", "--network", "x.wav"), "'x.wav' is no network of jaxapf's style transfer"),
        ((*STYLE, "--report", "y.wav"), "named for two outputs"),
        ((*STYLE, "--controls", "no/c.json"), "the folder does not exist"),
        ((*STYLE, "--passes", "0"), "'0' is not a whole number from 1 to 10"),
        ((*STYLE, "--channels", "3"), "no channel 3"),
        ((*STYLE, "--subtype", "PCM_99"), "PCM_99"),
        (("style", "silent.wav", *STYLE[2:]), "'silent.wav' is silent, so there is nothing to measure"),
        (("style", "x.wav", "silent.wav", *STYLE[3:]), "'silent.wav' is silent"),
        (("style", "anti.wav", *STYLE[2:]), "'anti.wav' is silent when its channels are mixed"),
        (("style", "short.wav", *STYLE[2:]), "'short.wav' lasts 0.240 s, too short"),
        (("style", "nan.wav", *STYLE[2:]), "'nan.wav' holds a sample that is not a finite number"),
        (("style", "slow.wav", *STYLE[2:]), "'slow.wav' is at 4000 Hz"),
        (("apply", "foreign.json", "x.wav", "-o", "y.wav"), "'foreign.json'"),
    ],
)
def test_mistakes_are_one_sentence(takes, capsys, arguments, message):
    broken = bursts(FS)
    broken[5] = np.nan
    half = bursts(FS)
    for name, x, fs in (
        ("silent", np.zeros(FS), FS),
        ("anti", np.stack([half, -half]), FS),
        ("short", half[: round(0.24 * FS)], FS),
        ("slow", half, 4000),
    ):
        audio.write(f"{name}.wav", x, fs)
    scipy.io.wavfile.write("nan.wav", FS, broken.astype(np.float32))
    Path("foreign.json").write_text('{"format": "jaxapf-style", "version": 1}')
    before = files()
    assert message in refused(capsys, *arguments)
    assert files() == before


@pytest.mark.slow
def test_two_passes_are_the_default(takes, capsys):
    assert json.loads(run(capsys, *STYLE[:7], "--json")[1])["passes"] == 2


def test_without_a_network_it_says_so(takes, capsys, monkeypatch):
    def missing(name):
        raise ValueError(f"there is no stored checkpoint '{name}'")

    monkeypatch.setattr("jaxapf.training.pretrained.path", missing)
    assert "name one with --network" in refused(capsys, *STYLE[:5])


def test_constants_are_those_of_modules_that_need_jax():
    assert (commands.NETWORK_HZ, commands.STORED) == (style.FS, transfer.STORED)
