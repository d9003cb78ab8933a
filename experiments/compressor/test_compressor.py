"""The compressor experiment: its own renders, the reader of SignalTrain, one step of every part."""

import importlib
import importlib.util
import json
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from jaxapf import audio, metrics
from jaxapf.effects import compressor as fx

FOLDER = Path(__file__).parent
MODULES = ("config", "known", "listening", "pictures", "speed", "training")
FS = 8000


@pytest.fixture
def run(monkeypatch, tmp_path, loose_jax):
    """The script as a module, writing into a temporary folder."""
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in MODULES:  # another experiment's modules may have the same names
        monkeypatch.delitem(sys.modules, name, raising=False)
    spec = importlib.util.spec_from_file_location("compressor_run", FOLDER / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    yield module
    for name in MODULES:
        sys.modules.pop(name, None)


def notes(n=8000, seed=0):
    rng = np.random.default_rng(seed)
    levels = np.repeat(10 ** rng.uniform(-1.5, 0.0, n // 500 + 1), 500)[:n]
    return levels * np.sin(np.arange(n) * 0.3) * (1 + 0.1 * rng.standard_normal(n))


@pytest.fixture
def recordings(run, tmp_path):
    """A folder with a second of notes, and what two known compressors make of it."""
    folder = tmp_path / "data"
    folder.mkdir()
    x = notes()
    audio.write(folder / "mix_dry.flac", 0.75 * x[None], FS)
    dry = audio.read(folder / "mix_dry.flac")[0][0].astype(float)
    for name, settings in zip(run.config.DEVICES, run.config.KNOWN.values(), strict=False):
        audio.write(folder / f"{name}_wet.flac", run.known.render(settings, dry, FS)[None], FS)
    return folder


def test_known_settings_are_the_library_s_compressor(run, x64):
    settings = run.config.KNOWN["FF-C"]
    x = notes()
    average_ms = run.known.time_ms(settings.average, FS)
    controls = fx.Controls(*settings[:4], average_ms=average_ms)
    y, _ = fx.compressor(controls, fx.rest(), jnp.asarray(x), FS)
    assert metrics.esr(np.asarray(y), run.known.render(settings, x, FS)) < 1e-10


def test_known_settings_are_torchcomp_s(run):
    torch, torchcomp = pytest.importorskip("torch"), pytest.importorskip("torchcomp")
    settings, x = run.config.KNOWN["FF-A"], notes()
    power = torchcomp.avg(torch.from_numpy(x[None] ** 2).clamp_min(1e-8), settings.average)
    times = (torch.tensor(run.known.coefficient(ms, FS)) for ms in (settings.attack_ms, settings.release_ms))
    gain = torchcomp.compexp_gain(power.sqrt(), settings.threshold_db, settings.ratio, -300.0, 0.9999, *times)
    assert metrics.esr(gain[0].numpy() * x, run.known.render(settings, x, FS)) < 1e-9


def test_the_prefilter(run):
    x = notes(500)
    expected = scipy.signal.lfilter([1, -1], [1, -0.995], x)
    found = run.training.prefiltered(jnp.asarray(x[None], jnp.float32))[0]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_start_is_the_protocol_s(run):
    controls = run.training.controls_of(run.training.raw_of(run.config.START, 44100.0))
    found = [float(getattr(controls, name)) for name in ("threshold_db", "ratio", "attack_ms", "release_ms")]
    assert found == pytest.approx([-10.0, 2.0, 50.0, 50.0], rel=1e-5)
    assert float(fx.coefficient(controls.average_ms, 44100.0)) == pytest.approx(0.3, rel=1e-5)


def test_one_step_of_the_known_settings(run, recordings, monkeypatch, capsys):
    monkeypatch.setattr(run.config, "KNOWN", {"FF-B": run.config.KNOWN["FF-B"]})
    assert run.main(["known", "--data", str(recordings), "--steps", "1"]) == 0
    results = json.loads((run.RESULTS / "known.json").read_text())
    assert [row["trained in"] for row in results["rows"]] == ["recursion", "sampling"]
    for row in results["rows"]:
        assert row["skipped"] == 0
        assert 0 < row["ESR, tested in recursion, %"] < 100
    for moved in results["parameters"]:
        for name, value in run.config.START._asdict().items():
            if name != "average":
                assert moved[name] != pytest.approx(value, abs=1e-3), name  # every control has a gradient
    assert capsys.readouterr().out == (run.RESULTS / "known.md").read_text()
    assert (run.RESULTS / "loss.svg").read_text().startswith("<svg")


@pytest.mark.slow
def test_the_devices(run, recordings):
    pytest.importorskip("matplotlib")
    assert run.main(["devices", "--data", str(recordings)]) == 0
    results = json.loads((run.RESULTS / "devices.json").read_text())
    for row in results["rows"]:
        assert row["ESR, unseen, %"] < 1e-3 < row["ESR, one gain, %"]
    page = (run.RESULTS / "listening.html").read_text()
    assert page.count("<audio") == 8
    assert "{{" not in page
    assert "<svg" in (run.RESULTS / "gains.svg").read_text()


# SignalTrain


@pytest.fixture
def signaltrain_folder(run, tmp_path):
    folder = tmp_path / "LA2A"
    for number, part, switch, amount in ((143, "Train", 0, 25), (200, "Test", 1, 100)):
        (folder / part).mkdir(parents=True)
        x = notes(6000, number)
        audio.write(folder / part / f"input_{number}_.wav", x[None], FS)
        wet = run.known.render(run.config.KNOWN["FF-A"], x, FS)
        audio.write(folder / part / f"target_{number}_LA2A_3c__{switch}__{amount}.wav", wet[None], FS)
    (folder / "Train" / "target_9_LA2A_2c__1__5.wav").write_bytes(b"")  # its input is missing
    (folder / "Train" / "readme.txt").write_text("")
    return folder


def test_pairs_by_folder(run, signaltrain_folder):
    found = datasets.signaltrain(signaltrain_folder)
    assert [(pair.dry.name, pair.limit, pair.peak_reduction) for pair in found] == [
        ("input_200_.wav", True, 100),
        ("input_143_.wav", False, 25),
    ]


@pytest.mark.slow
def test_the_folder_is_fitted(run, signaltrain_folder):
    assert run.main(["folder", str(signaltrain_folder)]) == 0
    rows = json.loads((run.RESULTS / "folder.json").read_text())["rows"]
    assert [row["peak reduction"] for row in rows] == [100, 25]
    assert all(row["ESR, unseen, %"] < 1e-2 for row in rows)


# Speed


def test_one_row_of_the_speed_table(run, monkeypatch, capsys):
    monkeypatch.setattr(run.config, "SHAPES", ((2, 2000),))
    assert run.main(["speed", "--repeats", "1"]) == 0
    (row,) = json.loads((run.RESULTS / "speed.json").read_text())["rows"]
    assert row["sampling / recursion"] == pytest.approx(row["sampling, ms"] / row["recursion, ms"])
    assert row["compiling, s"] > 0


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["known", "--data", "nowhere"], "'nowhere/mix_dry.flac' does not exist"),
        (["folder", "nowhere"], "'nowhere' is no folder"),
        (["speed", "--update", "nothing.md"], "--update 'nothing.md' cannot be updated"),
    ],
)
def test_mistakes_are_sentences(run, capsys, arguments, said):
    assert run.main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("arguments", [["known"], ["everything"], ["speed", "--repeats", "0"]])
def test_wrong_arguments(run, capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        run.main(arguments)
    assert stop.value.code == 2
    assert capsys.readouterr().err


def test_an_empty_folder_has_no_pairs(run, tmp_path):
    with pytest.raises(ValueError, match="has no target_NUMBER_LA2A"):
        datasets.signaltrain(tmp_path)
