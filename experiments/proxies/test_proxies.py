"""The experiment that trains proxies: clips, losses, measurements, and every command on made-up data."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.proxies import __main__ as command
from experiments.proxies import config, evaluate, train
from experiments.proxies import data as clips
from jaxapf import audio, losses
from jaxapf.effects import proxies
from jaxapf.nets.proxy import ProxyCNN

FOLDER = Path(__file__).parent
SMALL = {"hop": 8, "channels": 2, "kernel": 3, "dilations": (1, 2), "hidden": (4,)}


@pytest.fixture(autouse=True)
def short(monkeypatch, loose_jax):
    """Small networks, short clips and few steps."""
    settings = {
        "equalizer-cnn": config.Setting("cnn", 2, 2048, 2, 1e-3, SMALL | {"taps": 8}),
        "compressor-cnn": config.Setting("cnn", 2, 2048, 2, 1e-3, SMALL),
    }
    windows = tuple(losses.Resolution(window, window // 4, window) for window in (32, 64))
    smaller = {"SETTINGS": settings, "RESOLUTIONS": windows, "TEST_SAMPLES": 2048, "AT_ONCE": 2}
    for name, value in {**smaller, "SHAPES": ((1, 256),), "REPEATS": 1}.items():
        monkeypatch.setattr(config, name, value)


@pytest.fixture
def data(tmp_path):
    """A folder of recordings made up: noise, half a second each."""
    rng = np.random.default_rng(0)
    names = ("speech/librivox_16k", "loops/guitar_e_fifths", "loops/drum_breakbeat", "speech/espeak_24k")
    names += ("speech/commands_16k", "speech/prompts_en_female_16k", "loops/drum_kit_breakbeat")
    names += ("loops/bass_fingered", "loops/guitar_em9", "loops/acid_bassline")
    for name in names:
        path = tmp_path / "data" / f"{name}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        audio.write(path, 0.1 * rng.standard_normal(4000), 16_000 if "16k" in name else 24_000)
    return tmp_path / "data"


# Clips


def test_training_and_test_share_no_recording():
    assert not set(config.TRAINED) & set(config.TEST)


def test_clips_are_pieces_of_recordings_at_levels_of_the_range():
    source = np.sin(np.arange(5000) ** 1.3).astype(np.float32)
    clip = clips.clip(np.random.default_rng(0), [source], 800, 0.0).astype(np.float64)
    match = np.correlate(source.astype(np.float64), clip, "valid")
    energy = np.convolve(source.astype(np.float64) ** 2, np.ones(800), "valid")
    assert np.max(match**2 / energy) > 0.999 * np.sum(clip**2)
    peaks = [np.max(np.abs(clips.clip(np.random.default_rng(n), [source], 800, 0.5))) for n in range(40)]
    low, high = config.LOUDNESS_DB
    assert low - 0.1 < 20 * np.log10(min(peaks)) < low + 12
    assert high - 12 < 20 * np.log10(max(peaks)) < high + 0.1


def test_batches_depend_on_their_words_alone():
    source = [np.sin(np.arange(5000.0))]
    first, again, other = (clips.batch(words, source, (3, 64), 5, 0.5) for words in ((0, 1), (0, 1), (0, 2)))
    assert first["dry"].shape == (3, 64)
    assert first["raw"].shape == (3, 5)
    assert np.all(np.abs(first["raw"]) <= 1)
    np.testing.assert_array_equal(first["dry"], again["dry"])
    assert not np.any(first["raw"] == other["raw"])


# Measures


@pytest.mark.slow
def test_errors_are_those_of_every_clip_at_one_loudness():
    rng = np.random.default_rng(0)
    wet = rng.standard_normal((2, 4096)).astype(np.float32) * np.array([[0.01], [0.5]], np.float32)
    y = wet * np.array([[1.1], [0.5]], np.float32)
    found = evaluate.errors(y, wet)
    np.testing.assert_allclose(found["esr"], [0.01, 0.25], rtol=1e-4)
    one = wet[0] * (config.RMS / np.sqrt(np.mean(wet[0].astype(np.float64) ** 2)))
    one = one.astype(np.float32)
    np.testing.assert_allclose(found["mae"][0], 0.1 * np.mean(np.abs(one)), rtol=1e-3)
    expected = losses.mrstft(1.1 * one, one, resolutions=config.RESOLUTIONS)
    np.testing.assert_allclose(found["mrstft"][0], expected, rtol=1e-3)


@pytest.mark.slow
def test_matched_has_the_level_and_nothing_else():
    rng = np.random.default_rng(1)
    dry, wet = rng.standard_normal((2, 3, 500)).astype(np.float32)
    found = evaluate.matched(dry, 3 * wet)
    np.testing.assert_allclose(np.mean(found**2, axis=1), 9 * np.mean(wet**2, axis=1), rtol=1e-4)
    np.testing.assert_allclose(found / dry, np.broadcast_to(found[:, :1] / dry[:, :1], dry.shape), rtol=1e-4)


def test_fifths_of_a_range():
    raw = np.array([-1.0, -0.7, -0.5, 0.9, 1.0])
    found = evaluate.fifths(raw, np.array([1.0, 3.0, 5.0, 7.0, 9.0]))
    assert list(found.values()) == [2.0, 5.0, None, None, 8.0]


# Training


@pytest.mark.slow
def test_a_step_learns_and_what_is_kept_is_what_was_trained(tmp_path):
    source = [np.random.default_rng(0).standard_normal(5000).astype(np.float32)]
    setting = config.SETTINGS["compressor-cnn"]._replace(steps=1)
    proxy = train.trained("compressor-cnn", setting, tmp_path / "a", source)
    assert proxy.net == ProxyCNN(**SMALL)
    assert proxy.controls == proxies.EFFECTS["compressor"].controls
    again = train.trained("compressor-cnn", setting, tmp_path / "a", source)  # nothing is left to do
    for one, other in zip(jax.tree.leaves(proxy.weights), jax.tree.leaves(again.weights), strict=True):
        np.testing.assert_array_equal(one, other)
    batch = train.batches(setting, proxies.EFFECTS["compressor"], source, 0)(0)
    first = jax.jit(proxy.net.init)(jax.random.key(0), batch["dry"][:1], batch["raw"][:1])
    changed = [
        np.any(a != b) for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(proxy.weights), strict=True)
    ]
    assert np.mean(changed) > 0.5


# Commands


@pytest.mark.slow
def test_from_training_to_tables(data, tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    folder = tmp_path / "results"
    for name in ("README.md", "tables.md"):
        shutil.copy(FOLDER / name, tmp_path)
    where = ["--folder", str(folder)]
    assert command.main(["train", "--data", str(data), *where]) == 0
    proxy = proxies.read(folder / "compressor-cnn" / "proxy.npz")
    assert proxy.net == ProxyCNN(**SMALL)
    first = (folder / "compressor-cnn" / "proxy.npz").read_bytes()
    assert command.main(["train", "--data", str(data), *where]) == 0  # nothing is left to do
    assert (folder / "compressor-cnn" / "proxy.npz").read_bytes() == first
    assert command.main(["evaluate", "--data", str(data), "--clips", "3", *where]) == 0
    assert command.main(["report", "--update", str(tmp_path), *where]) == 0
    assert "3 clips." in (tmp_path / "README.md").read_text()
    text = (tmp_path / "tables.md").read_text()
    assert text.count("\n| equalizer-cnn | ") == 18 + 1
    for name in ("responses", "gains"):
        assert (folder / f"{name}.svg").read_text().rstrip().endswith("</svg>")
    rows = json.loads((folder / "measures.json").read_text())["rows"]
    assert [row["effect"] for row in rows] == ["equalizer"] * 3 + ["compressor"] * 3
    assert all(np.isfinite(row["MR-STFT"]) for row in rows)
    kept = []
    monkeypatch.setattr(
        command.pretrained, "add", lambda name, path, **entry: kept.append((name, entry["figure"][1]))
    )
    assert command.main(["store", *where]) == 0
    assert kept == [("proxy-equalizer-cnn", rows[2]["MR-STFT"]), ("proxy-compressor-cnn", rows[5]["MR-STFT"])]
    assert capsys.readouterr().err == ""


def test_mistakes_are_one_sentence(tmp_path, capsys):
    where = ["--folder", str(tmp_path / "results")]
    assert command.main(["train", "--data", str(tmp_path / "none"), *where]) == 2
    assert "none" in capsys.readouterr().err
    assert command.main(["report", *where]) == 2
    assert "evaluate` first" in capsys.readouterr().err
    assert command.main(["store", *where]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(SystemExit) as stopped:
        command.main(["train", "--steps", "0"])
    assert stopped.value.code == 2
