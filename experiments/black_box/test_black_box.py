"""The black-box experiment: both protocols on a small recording, tables, the exported pipeline, errors."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.signal

from experiments.black_box import __main__ as command
from experiments.black_box import data, evaluate, train
from jaxapf import Alignment, allpass, audio, losses, metrics
from jaxapf.alignment import biasnet

ROOT = Path(__file__).parents[2]
FS = 192_000

pytestmark = pytest.mark.usefixtures("processes_compile_once")


def device(x):
    """An all-pass of second order, a delay, a little saturation."""
    sections = allpass.rbj(np.array([800.0]), 0.8, float(FS))
    y = np.asarray(scipy.signal.sosfilt(sections.sos, np.concatenate([np.zeros(9), x[:-9]])))
    return np.tanh(0.3 * y) / 0.3


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    sweep = audio.log_sweep(0.4, FS)
    noise = np.random.default_rng(0).standard_normal(FS // 4)
    music: Any = scipy.signal.sosfilt(
        scipy.signal.butter(4, [60, 6000], "bandpass", fs=FS, output="sos"), noise
    )
    music *= 0.5 / np.max(np.abs(music))
    (folder / "box").mkdir()
    for name, rate, x in (("sweep", "", sweep), ("loops", "_192k", music)):
        audio.write(folder / f"{name}_dry{rate}.flac", x[None].clip(-0.99, 0.99), FS)
        audio.write(
            folder / "box" / f"{name}_wet{rate}.flac", device(x.clip(-0.99, 0.99))[None].clip(-1, 0.999), FS
        )
    return folder


def run(*words, folder):
    arguments = [sys.executable, "-m", "experiments.black_box", "--folder", str(folder), *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    return subprocess.run(arguments, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)


@pytest.mark.slow
def test_the_papers_protocol_and_its_tables(recordings, tmp_path):
    words = ("--data", recordings, "--models", "connected")
    paper = run(
        *words,
        "--protocol",
        "paper",
        "--losses",
        "mse,mstft",
        "--seeds",
        "0,1",
        "--epochs",
        "2",
        folder=tmp_path,
    )
    assert paper.returncode == 0, paper.stderr
    assert paper.stderr == ""
    kept = tmp_path / "recorded" / "paper"
    assert sorted(path.name for path in kept.iterdir()) == [
        f"box-connected-{loss}-epochs2-{seed}" for loss in ("mse", "mstft") for seed in (0, 1)
    ]
    result = json.loads((kept / "box-connected-mse-epochs2-0" / "result.json").read_text())
    assert result["step"] == 2
    assert result["skipped"] == 0
    assert np.isfinite(result["loss"])
    (dry, _), (wet, _) = (
        audio.read(recordings / "loops_dry_192k.flac"),
        audio.read(recordings / "box/loops_wet_192k.flac"),
    )
    model = Alignment.load(kept / "box-connected-mse-epochs2-0" / "model.json")
    assert result["esr"] == pytest.approx(metrics.esr(model.apply(dry), wet), rel=1e-5)
    again = run(
        *words, "--protocol", "paper", "--losses", "mse", "--seeds", "0", "--epochs", "2", folder=tmp_path
    )
    assert json.loads((kept / "box-connected-mse-epochs2-0" / "result.json").read_text()) == result
    assert again.stdout == paper.stdout
    # Other recordings by the same name are not taken for these.
    other = tmp_path / "other"
    shutil.copytree(recordings, other)
    audio.write(other / "box" / "loops_wet_192k.flac", 0.5 * wet, FS)
    refused = run("--data", other, "--models", "connected", folder=tmp_path)
    assert refused.returncode == 2
    assert "holds the result of other recordings than those of 'box' now" in refused.stderr
    ladder = run(
        *words,
        "--protocol",
        "paper",
        "--losses",
        "mse",
        "--seeds",
        "0",
        "--epochs",
        "2",
        "--figures",
        "ladder",
        folder=tmp_path,
    )
    assert ladder.returncode == 2
    assert "ends at its exact model; run --protocol exact first" in ladder.stderr


@pytest.mark.slow
def test_the_exact_protocol_and_its_export(recordings, tmp_path):
    exact = run("--data", recordings, "--models", "connected", "--export", "--listen", folder=tmp_path)
    assert exact.returncode == 0, exact.stderr
    found = tmp_path / "recorded" / "exact" / "box-connected"
    assert json.loads((found / "result.json").read_text())["esr"] < 0.01
    assert "| box | exact, connected | mse, whole |" in exact.stdout
    assert "SciPy" not in exact.stdout.partition("Missed")[2]
    document = json.loads((found / "sections.json").read_text())
    assert len(document["sos"]) == 4
    assert (tmp_path / "recorded" / "listening" / "index.html").exists()
    assert json.loads((tmp_path / "recorded" / "pipeline.json").read_text())[0]["apply, dB"] < -100


@pytest.mark.slow
def test_the_pipeline_is_the_model():
    rng = np.random.default_rng(1)
    sections = allpass.concatenate(
        allpass.rbj(np.array([60.0, 900.0]), 0.7, float(FS)), allpass.first_order(np.array([-0.99]))
    )
    x = rng.standard_normal(50_000)
    for delay in (0.0, 12.0, -7.0, 3.25, -0.5):
        model = Alignment(sections, delay, -1, float(FS), [{}] * 3, {})
        assert evaluate.pipeline_errors_db(model, x)["apply, dB"] < -100
    other = Alignment(sections, 12.5, -1, float(FS), [{}] * 3, {})
    wrong = evaluate.pipeline(evaluate.export(model), x)
    assert 10 * np.log10(metrics.esr(other.apply(x), wrong)) > -20


@pytest.mark.slow
def test_the_papers_loss_on_sequences_from_rest():
    rng = np.random.default_rng(2)
    dry, wet = rng.standard_normal((2, 4 * 2048 + 100)).astype(np.float32)
    for power, fraction in ((1, 1 / 8), (2, 1.0)):
        objective = train.Objective("mstft", power, fraction)
        batch = train.sequences(dry, wet, objective)
        assert batch["dry"].shape == (4, 2048)
        model = train.MAKE["connected"](biasnet.structure(3), float(FS))
        weights = model.init(train.jax.random.key(0))
        found = train.make_loss(model, objective)(weights, batch, train.jax.random.key(1))
        sos = np.asarray(model.sos(weights), np.float64)
        pred = np.asarray(scipy.signal.sosfilt(sos, batch["dry"].astype(np.float64)), np.float32)
        expected = losses.phase_sum_mrstft(
            pred, wet[: 4 * 2048].reshape(4, 2048), power=power, fraction=fraction
        )
        assert float(found) == pytest.approx(float(expected), rel=1e-3)


@pytest.mark.slow
def test_four_hundred_epochs_are_732_steps():
    assert train.steps_of(1_920_000 // 2048, 400) == 732


@pytest.mark.slow
def test_embedded_effects():
    source = data.embedded()
    assert len(source.names) == 3
    effect = source.effect(source.names[0])
    assert effect.sweep[0].shape == effect.sweep[1].shape == (1_920_000,)
    assert all(x.dtype == np.float32 for pair in (effect.sweep, effect.loops) for x in pair)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "nowhere"], "'nowhere' has no device; expected sweep_dry.flac, loops_dry_192k.flac and"),
        (["--effects", "fuzz"], "argument --effects: 'fuzz' is none of coupling, crossover, tape"),
        (["--protocol", "other"], "argument --protocol: invalid choice: 'other'"),
        (["--models", "naive"], "argument --models: 'naive' is none of sequential, connected"),
        (["--seeds", "a"], "argument --seeds: 'a' is no list of whole numbers such as 0,1,2"),
        (["--epochs", "0"], "argument --epochs: '0' is no whole number of 1 or more"),
        (["--fraction", "2"], "argument --fraction: '2' is no number above 0, at most 1"),
        (["--update", "nowhere"], "--update 'nowhere' cannot be updated"),
    ],
)
@pytest.mark.slow
def test_wrong_words(words, message, tmp_path, capsys, loose_jax):
    """In this process, which has imported everything already."""
    try:
        code = command.main(["--folder", str(tmp_path), *words])
    except SystemExit as end:  # argparse's way
        code = end.code
    assert code == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_folder_that_cannot_be_written(recordings, tmp_path):
    """Said before the long work; a file in the place of the folder stops root too."""
    (tmp_path / "file").write_text("")
    done = run("--data", recordings, folder=tmp_path / "file")
    assert done.returncode == 2
    assert "file' cannot be written: file exists; choose another folder" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_recordings_that_do_not_fit(tmp_path):
    (tmp_path / "box").mkdir()
    for name in ("sweep_dry.flac", "loops_dry_192k.flac", "box/loops_wet_192k.flac"):
        audio.write(tmp_path / name, np.zeros((1, 500)), FS)
    audio.write(tmp_path / "box/sweep_wet.flac", np.zeros((1, 499)), FS)
    with pytest.raises(audio.AudioError, match=r"has 499 samples and .* 500; expected equally many"):
        data.recorded(tmp_path).effect("box")
    audio.write(tmp_path / "box/sweep_wet.flac", np.zeros((1, 500)), 48_000)
    with pytest.raises(audio.AudioError, match="has 1 channels at 48000 Hz; expected one at 192000 Hz"):
        data.recorded(tmp_path).effect("box")
    (tmp_path / "loops_segments.json").write_text("[]")
    with pytest.raises(audio.AudioError, match="mend it or take it away"):
        data.recorded(tmp_path)


def test_smoke(recordings, tmp_path, monkeypatch, capsys, loose_jax):
    """One step of the paper's training and its tables; `align` is left out."""
    known = Alignment(allpass.rbj(np.array([800.0]), 0.8, float(FS)), 9.0, 1, float(FS), [{}], {})
    monkeypatch.setattr(command.jaxapf, "align", lambda *_, **__: known, raising=False)
    words = ["--protocol", "paper", "--models", "connected", "--losses", "mse", "--seeds", "0"]
    assert command.main([*words, "--data", str(recordings), "--epochs", "1", "--folder", str(tmp_path)]) == 0
    found = tmp_path / "recorded" / "paper" / "box-connected-mse-epochs1-0"
    assert json.loads((found / "result.json").read_text())["step"] == 1
    assert Alignment.load(found / "model.json").fs == FS
    assert "| box | dry signal |" in capsys.readouterr().out
