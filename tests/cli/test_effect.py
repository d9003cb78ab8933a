"""`jaxapf effect`: its options are the specifications, and what comes out is what the effects make."""

import json
from typing import Any

import numpy as np
import pytest
from command_line import FS, files, refused, run
from signals import relative_rms

from jaxapf import audio
from jaxapf.cli import effect as commands
from jaxapf.cli import jax_setup
from jaxapf.effects import chain, reverb

NAMES = sorted(commands.EFFECTS)
# A setting of each that changes the sound.
SETTINGS = {
    "equalizer": {"peak_2_gain_db": 12.0, "peak_2_cutoff_hz": 900.0},
    "compressor": {"ratio": 4.0, "lookahead_ms": 2.0},
    "gain": {"gain_db": -6.0},
    "distortion": {"drive_db": 20.0},
    "expander": {"ratio": 4.0, "threshold_db": 0.0},
    "reverb": {"wet_db": 0.0},
    "panner": {"pan": 0.5},
    "width": {"width": 0.5},
}


@pytest.fixture
def take(tmp_path, monkeypatch, loose_jax):
    """x.wav, stereo."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jax_setup, "use_compilation_cache", lambda: None)
    x = 0.2 * np.random.default_rng(0).standard_normal((2, FS // 2)).clip(-4, 4).astype(np.float32)
    audio.write("x.wav", x, FS, subtype="FLOAT")
    return x


def options(changes):
    return [word for name, value in changes.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def test_the_effects_are_those_of_the_chain():
    assert {name: kind.controls for name, kind in chain.KINDS.items()} == commands.EFFECTS
    assert set(commands.CHANNELS) == set(SETTINGS) == set(chain.KINDS)


@pytest.mark.parametrize("name", NAMES)
def test_defaults_are_within_their_ranges(name):
    for one in commands.EFFECTS[name]:
        assert one.low <= commands.default(one) <= one.high


@pytest.mark.parametrize("name", NAMES)
def test_a_file_goes_through(take, capsys, name):
    changes = SETTINGS[name]
    code, out, err = run(capsys, "effect", name, "x.wav", "-o", "y.wav", *options(changes))
    assert (code, err) == (0, "")
    assert "y.wav: WAV FLOAT, 8000 Hz, 2 channels" in out
    y, _ = audio.read("y.wav")
    values = [changes.get(one.name, commands.default(one)) for one in commands.EFFECTS[name]]
    x = take.mean(axis=0) if name == "panner" else take
    # The command takes the whole response, to the end of its longest decay.
    length: Any = {"length": reverb.whole_length(reverb.packed(values), FS)} if name == "reverb" else {}
    expected = np.asarray(chain.apply(chain.effect(name, **length), values, x, FS))
    assert relative_rms(y.astype(np.float64), expected.astype(np.float64)) < 1e-5
    assert relative_rms(y.astype(np.float64), take.astype(np.float64)) > 0.05


@pytest.mark.parametrize("name", ["compressor", "equalizer", "expander", "gain", "width"])
def test_without_options_nothing_is_done(take, capsys, name):
    assert run(capsys, "effect", name, "x.wav", "-o", "y.wav", "--quiet") == (0, "", "")
    np.testing.assert_allclose(audio.read("y.wav")[0], take, atol=1e-5)


@pytest.mark.parametrize("name", ["compressor", "distortion", "reverb"])
def test_blocks_are_the_whole(take, name):
    effect = chain.effect(name)
    values = [SETTINGS[name].get(one.name, commands.default(one)) for one in effect.controls]
    blocks = chain.stream(effect, values, lambda a, b: take[:, a:b], take.shape[-1], FS, block_samples=700)
    y = np.concatenate(list(blocks), axis=-1)
    whole = np.asarray(chain.apply(effect, values, take, FS))
    assert relative_rms(y.astype(np.float64), whole.astype(np.float64)) < 1e-5


def test_the_list_has_all_controls(capsys, take):
    code, out, _ = run(capsys, "effect", "--list")
    assert code == 0
    for controls in commands.EFFECTS.values():
        for one in controls:
            assert f"--{one.name.replace('_', '-')} " in out
    found = json.loads(run(capsys, "effect", "--list", "--json")[1])
    assert found["compressor"][0] == {
        "name": "threshold_db",
        "unit": "dB",
        "low": -60.0,
        "high": 0.0,
        "scale": "linear",
        "default": -30.0,
    }


def test_help_says_range_and_default(capsys, take):
    code, out, _ = run(capsys, "effect", "compressor", "--help")
    assert code == 0
    assert "--threshold-db X" in out
    assert "-60 to 0 dB (default -30)" in " ".join(out.split())


def test_json_has_the_controls(take, capsys):
    code, out, _ = run(capsys, "effect", "gain", "x.wav", "-o", "y.wav", "--gain-db", "-3", "--json")
    assert code == 0
    result = json.loads(out)
    assert (result["command"], result["controls"]) == ("effect gain", {"gain_db": -3.0})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give the name of an effect"),
        (("flanger", "x.wav", "-o", "y.wav"), "invalid choice: 'flanger'"),
        (("gain", "none.wav", "-o", "y.wav"), "'none.wav' does not exist"),
        (("gain", "x.wav", "-o", "x.wav"), "'x.wav' is an input file"),
        (("gain", "x.wav", "-o", "no/y.wav"), "the folder does not exist"),
        (("gain", "x.wav", "-o", "y.wav", "--gain-db", "25"), "'25' is not a number from -24 to 24 dB"),
        (("gain", "x.wav", "-o", "y.wav", "--gain-db", "nan"), "'nan' is not a number from -24 to 24 dB"),
        (("gain", "x.wav", "-o", "y.wav", "--drive-db", "3"), "unrecognized arguments: --drive-db"),
        (("width", "mono.wav", "-o", "y.wav"), "'mono.wav' has 1 channel and the width is that of two"),
        (("gain", "x.wav", "-o", "y.wav", "--channels", "3"), "no channel 3"),
    ],
)
def test_mistakes_are_one_sentence(take, capsys, arguments, message):
    audio.write("mono.wav", take[0], FS)
    before = files()
    assert message in refused(capsys, "effect", *arguments)
    assert files() == before
