"""The compressor experiment: its own renders, the reader of SignalTrain, one step of every part."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from experiments.compressor import __main__ as command
from experiments.compressor import config, known, train
from jaxapf import audio, datasets, metrics
from jaxapf.effects import compressor as fx

FS = 8000


@pytest.fixture
def run(tmp_path, loose_jax):
    """The command with a temporary folder for results."""
    return lambda *words: command.main([*words, "--folder", str(tmp_path / "results")])


def result(tmp_path: Path, name: str) -> str:
    return (tmp_path / "results" / name).read_text()


def notes(n=8000, seed=0):
    rng = np.random.default_rng(seed)
    levels = np.repeat(10 ** rng.uniform(-1.5, 0.0, n // 500 + 1), 500)[:n]
    return levels * np.sin(np.arange(n) * 0.3) * (1 + 0.1 * rng.standard_normal(n))


@pytest.fixture
def recordings(tmp_path):
    """A folder with a second of notes, and what two known compressors make of it."""
    folder = tmp_path / "data"
    folder.mkdir()
    x = notes()
    audio.write(folder / "mix_dry.flac", 0.75 * x[None], FS)
    dry = audio.read(folder / "mix_dry.flac")[0][0].astype(float)
    for name, settings in zip(config.DEVICES, config.KNOWN.values(), strict=False):
        audio.write(folder / f"{name}_wet.flac", known.render(settings, dry, FS)[None], FS)
    return folder


@pytest.mark.slow
def test_known_settings_are_the_library_s_compressor(x64, loose_jax):
    settings = config.KNOWN["FF-C"]
    x = notes()
    average_ms = known.time_ms(settings.average, FS)
    controls = fx.Controls(*settings[:4], average_ms=average_ms)
    y, _ = fx.compressor(controls, fx.initial_state(), jnp.asarray(x), FS)
    assert metrics.esr(np.asarray(y), known.render(settings, x, FS)) < 1e-10


def test_known_settings_are_torchcomp_s():
    torch, torchcomp = pytest.importorskip("torch"), pytest.importorskip("torchcomp")
    settings, x = config.KNOWN["FF-A"], notes()
    power = torchcomp.avg(torch.from_numpy(x[None] ** 2).clamp_min(1e-8), settings.average)
    times = (torch.tensor(known.coefficient(ms, FS)) for ms in (settings.attack_ms, settings.release_ms))
    gain = torchcomp.compexp_gain(power.sqrt(), settings.threshold_db, settings.ratio, -300.0, 0.9999, *times)
    assert metrics.esr(gain[0].numpy() * x, known.render(settings, x, FS)) < 1e-9


@pytest.mark.slow
def test_the_prefilter(loose_jax):
    x = notes(500)
    expected = scipy.signal.lfilter([1, -1], [1, -0.995], x)
    found = train.prefiltered(jnp.asarray(x[None], jnp.float32))[0]
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.slow
def test_the_start_is_the_protocol_s(loose_jax):
    controls = train.controls_of(train.raw_of(config.START, 44100.0))
    found = [float(getattr(controls, name)) for name in ("threshold_db", "ratio", "attack_ms", "release_ms")]
    assert found == pytest.approx([-10.0, 2.0, 50.0, 50.0], rel=1e-5)
    assert float(fx.coefficient(controls.average_ms, 44100.0)) == pytest.approx(0.3, rel=1e-5)


def test_one_step_of_the_known_settings(run, recordings, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(config, "KNOWN", {"FF-B": config.KNOWN["FF-B"]})
    assert run("known", "--data", str(recordings), "--steps", "1") == 0
    results = json.loads(result(tmp_path, "known.json"))
    assert [row["trained in"] for row in results["rows"]] == ["recursion", "sampling"]
    for row in results["rows"]:
        assert row["skipped"] == 0
        assert 0 < row["ESR, tested in recursion, %"] < 100
    for moved in results["parameters"]:
        for name, value in config.START._asdict().items():
            if name != "average":
                assert moved[name] != pytest.approx(value, abs=1e-3), name  # every control has a gradient
    assert capsys.readouterr().out == result(tmp_path, "known.md")
    assert result(tmp_path, "loss.svg").startswith("<svg")


@pytest.mark.slow
def test_the_devices(run, recordings, tmp_path):
    pytest.importorskip("matplotlib")
    assert run("devices", "--data", str(recordings)) == 0
    results = json.loads(result(tmp_path, "devices.json"))
    for row in results["rows"]:
        assert row["ESR, unseen, %"] < 1e-3 < row["ESR, one gain, %"]
    page = result(tmp_path, "listening.html")
    assert page.count("<audio") == 8
    assert "{{" not in page
    assert "<svg" in result(tmp_path, "gains.svg")


# SignalTrain


@pytest.fixture
def signaltrain_folder(tmp_path):
    folder = tmp_path / "LA2A"
    for number, part, switch, amount in ((143, "Train", 0, 25), (200, "Test", 1, 100)):
        (folder / part).mkdir(parents=True)
        x = notes(6000, number)
        audio.write(folder / part / f"input_{number}_.wav", x[None], FS)
        wet = known.render(config.KNOWN["FF-A"], x, FS)
        audio.write(folder / part / f"target_{number}_LA2A_3c__{switch}__{amount}.wav", wet[None], FS)
    (folder / "Train" / "target_9_LA2A_2c__1__5.wav").write_bytes(b"")  # its input is missing
    (folder / "Train" / "readme.txt").write_text("")
    return folder


def test_pairs_by_folder(signaltrain_folder):
    found = datasets.signaltrain(signaltrain_folder)
    assert [(pair.dry.name, pair.limit, pair.peak_reduction) for pair in found] == [
        ("input_200_.wav", True, 100),
        ("input_143_.wav", False, 25),
    ]


@pytest.mark.slow
def test_the_folder_is_fitted(run, signaltrain_folder, tmp_path):
    assert run("signaltrain", str(signaltrain_folder)) == 0
    rows = json.loads(result(tmp_path, "signaltrain.json"))["rows"]
    assert [row["peak reduction"] for row in rows] == [100, 25]
    assert all(row["ESR, unseen, %"] < 1e-2 for row in rows)


# Speed


@pytest.mark.slow
def test_one_row_of_the_speed_table(run, tmp_path, monkeypatch):
    monkeypatch.setattr(config, "SHAPES", ((2, 2000),))
    assert run("speed", "--repeats", "1") == 0
    (row,) = json.loads(result(tmp_path, "speed.json"))["rows"]
    assert row["sampling / recursion"] == pytest.approx(row["sampling, ms"] / row["recursion, ms"])
    assert row["compiling, s"] > 0


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["known", "--data", "nowhere"], "'nowhere/mix_dry.flac' does not exist"),
        (["signaltrain", "nowhere"], "'nowhere' is no folder"),
        (["speed", "--update", "nothing"], "--update 'nothing' cannot be updated"),
    ],
)
def test_mistakes_are_sentences(run, capsys, arguments, message):
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("arguments", [["known"], ["everything"], ["speed", "--repeats", "0"]])
def test_wrong_arguments(run, capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    assert stop.value.code == 2
    assert capsys.readouterr().err


def test_an_empty_folder_has_no_pairs(tmp_path):
    with pytest.raises(ValueError, match="has no target_NUMBER_LA2A"):
        datasets.signaltrain(tmp_path)
