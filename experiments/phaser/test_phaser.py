"""The phaser experiment: known phasers, recordings, trainings that are kept, tables, pictures, the page."""

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import scipy.signal

from experiments.phaser import __main__ as command
from experiments.phaser import config, data, evaluate, fits, known, listening, speed, train
from jaxapf import audio
from jaxapf.effects import phaser
from jaxapf.filters import feedback

FOLDER = Path(__file__).parent
FS = 8000


@pytest.fixture
def short(loose_jax, monkeypatch, tmp_path):
    """A folder of shared data made up: half a second of noise through a known phaser, at 8 kHz."""
    for name, value in {"TRAIN_S": 0.4, "WINDOWS_MS": (40.0,), "SETTINGS": ("slow_mild",)}.items():
        monkeypatch.setattr(config, name, value)
    target = config.TARGETS[0]._replace(rate_hz=4.0, low_hz=300.0, high_hz=1200.0)
    monkeypatch.setattr(config, "TARGETS", (target,))
    monkeypatch.setattr(config, "SHAPE_STEPS", 3)
    monkeypatch.setattr(config, "RANDOM", 0)
    monkeypatch.setattr(config, "SEEDS", 1)
    folder = tmp_path / "shared"
    (folder / "phaser").mkdir(parents=True)
    for seed, name in enumerate(("chirps", "guitar")):
        dry = 0.1 * np.random.default_rng(seed).standard_normal(FS // 2)
        audio.write(folder / "phaser" / f"{name}_dry.flac", dry, FS)
        wet = known.rendered(target, dry, FS)
        audio.write(folder / "phaser" / f"{name}_slow_mild_wet.flac", wet, FS)
    return folder


# Known phasers


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1, 2])
def test_known_phasers_are_those_of_the_exact_recursion(x64, number):
    target, fs = config.TARGETS[number], 44_100
    x = np.random.default_rng(number).standard_normal(3000)
    gains = [0.0, target.feedback] if target.delay else [target.feedback, 0.0]
    p = known.coefficients(target, len(x), fs)
    y, _ = feedback.allpass_loop(p, np.array(gains), x, stages=target.stages)
    expected = target.through * x + target.around * np.asarray(y)
    found = known.rendered(target, x, fs)
    assert np.sum((found - expected) ** 2) <= 1e-18 * np.sum(expected**2)


@pytest.mark.parametrize("delay", [0, 1])
def test_a_known_phaser_that_stands_still_is_a_filter_of_scipy(delay):
    cutoff, fs, gain = 700.0, 44_100.0, 0.45
    target = config.TARGETS[0]._replace(
        low_hz=cutoff, high_hz=cutoff, stages=3, feedback=gain, delay=delay, through=0.3, around=0.8
    )
    t = np.tan(np.pi * cutoff / fs)
    p = (1 - t) / (1 + t)
    above, below = np.array([1.0]), np.array([1.0])
    for _ in range(3):
        above, below = np.convolve(above, [p, -1.0]), np.convolve(below, [1.0, -p])
    late = np.concatenate([np.zeros(delay), above])
    closed = np.pad(below, (0, delay)) - gain * late
    x = np.random.default_rng(0).standard_normal(800)
    filtered: Any = scipy.signal.lfilter(np.pad(above, (0, delay)), closed, x)
    expected = 0.3 * x + 0.8 * filtered
    np.testing.assert_allclose(known.rendered(target, x, fs), expected, atol=1e-9)


def test_oscillators_stay_between_their_cutoffs_and_have_their_rate():
    for target in config.TARGETS:
        cutoff = known.cutoff_hz(target, 88_200, 44_100.0)
        assert cutoff.min() == pytest.approx(target.low_hz, rel=1e-3)
        assert cutoff.max() == pytest.approx(target.high_hz, rel=1e-3)
        level = np.log(cutoff / np.sqrt(target.low_hz * target.high_hz))
        crossings = np.sum(np.diff(np.sign(level)) != 0)
        assert abs(crossings - 4 * target.rate_hz) <= 1


# The recordings


def small_stone(
    folder: Path, *, seconds: float = 2.0, names: tuple[str, ...] = ("colour=0_rate=3oclock",)
) -> Path:
    folder.mkdir()
    x = np.arange(round(seconds * FS)) / (seconds * FS)
    audio.write(folder / "input_dry.wav", x, FS, subtype="FLOAT")
    for name in names:
        audio.write(folder / f"{name}.wav", -x, FS, subtype="FLOAT")
    return folder


def test_the_public_set_is_cut_as_its_authors_do(tmp_path):
    names = ("colour=0_rate=3oclock", "colour=1_rate=9oclock")
    folder = small_stone(tmp_path / "stone", names=names)
    lengths = config.SmallStone(chirps_s=1.0, test_s=0.5)
    first, second = data.small_stone(folder, lengths)
    assert (first.name, second.name) == ("colour_0_rate_3", "colour_1_rate_9")
    assert (first.windows_ms, second.windows_ms) == ((40.0,), (640.0,))
    whole = np.arange(2 * FS) / (2 * FS)
    for device in (first, second):  # there is one second of chirps, less than either trains on
        assert device.fs == FS
        np.testing.assert_allclose(device.dry, whole[:FS], atol=1e-7)
        np.testing.assert_allclose(device.test_wet, -whole[: FS * 3 // 2], atol=1e-7)
        assert device.skip == FS
    monkey = config.KNOBS[0]._replace(train_s=0.25)
    device = data._knobs(monkey, folder / "input_dry.wav", folder / f"{names[0]}.wav", lengths)
    np.testing.assert_allclose(device.dry, whole[FS * 3 // 4 : FS], atol=1e-7)
    np.testing.assert_allclose(device.test_dry, whole[FS * 3 // 4 : FS * 3 // 2], atol=1e-7)
    assert device.skip == len(device.dry)


@pytest.mark.slow
def test_the_public_set_is_trained_and_reported(tmp_path, monkeypatch, capsys):
    """Half a second of chirps, half a second of test, of a known phaser; the oscillator runs on."""
    monkeypatch.setattr(config, "SMALL_STONE", config.SmallStone(chirps_s=1.0, test_s=0.5))
    knobs = config.KNOBS[0]._replace(train_s=0.5)
    monkeypatch.setattr(config, "KNOBS", (knobs,))
    folder = small_stone(tmp_path / "stone")
    dry = 0.1 * np.random.default_rng(0).standard_normal(2 * FS)
    target = config.TARGETS[0]._replace(rate_hz=4.0, low_hz=300.0, high_hz=1200.0)
    audio.write(folder / "input_dry.wav", dry, FS)
    audio.write(folder / "colour=0_rate=3oclock.wav", known.rendered(target, dry, FS), FS)
    common = ["--small-stone", str(folder), "--folder", str(tmp_path / "results"), "--steps", "1"]
    common += ["--random", "0", "--seeds", "1"]
    assert command.main(["train", *common]) == 0
    assert command.main(["report", *common]) == 0
    report = json.loads((tmp_path / "results" / "report.json").read_text(encoding="utf-8"))
    rows = report["tables"]["Recordings, on what was not trained on"]
    assert [(row["device"], row["trained in"]) for row in rows] == [
        ("colour_0_rate_3", "recursion"),
        ("colour_0_rate_3", "40 ms"),
    ]
    assert rows[0]["as recursion %"] == rows[0]["in its own form %"]
    assert report["goals"] == []
    assert "Goals met" not in capsys.readouterr().out


def test_a_broken_public_set_is_refused_in_one_sentence(tmp_path, capsys):
    missing = tmp_path / "missing"
    no_wet = small_stone(tmp_path / "no_wet", names=())
    no_dry = small_stone(tmp_path / "no_dry")
    (no_dry / "input_dry.wav").unlink()
    other_rate = small_stone(tmp_path / "rate")
    audio.write(other_rate / "colour=0_rate=3oclock.wav", np.zeros(100), FS // 2)
    too_short = small_stone(tmp_path / "short")
    stereo = small_stone(tmp_path / "stereo")
    audio.write(stereo / "input_dry.wav", np.zeros((2, 100)), FS)
    for folder, word in (
        (missing, "not a folder"),
        (no_wet, "no recording"),
        (no_dry, "input_dry.wav"),
        (other_rate, "4000 Hz"),
        (too_short, "60 s of chirps"),
        (stereo, "2 channels"),
    ):
        results = tmp_path / "results"
        assert command.main(["train", "--small-stone", str(folder), "--folder", str(results)]) == 2
        error = capsys.readouterr().err
        assert word in error
        assert error.count("\n") == 1
        assert not list(results.iterdir())


def test_shared_recordings_that_are_missing_are_refused(tmp_path, capsys):
    folders = ["--data", str(tmp_path / "no"), "--folder", str(tmp_path / "results")]
    for word in ("train", "fit", "report"):
        assert command.main([word, *folders]) == 2
        assert "chirps_dry.flac" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [("train",), ("train", "--data", "a", "--steps", "0"), ("speed", "--seconds", "-1"), ("other",)]
)
def test_wrong_arguments_are_refused(words):
    with pytest.raises(SystemExit, match="2"):
        command.main(list(words))


# Trainings


@pytest.mark.slow
def test_all_forms_start_alike_with_the_sweep_that_was_read(short):
    (device,) = data.shared(short)
    start = {"stages": 4, "delay": 0, "rate_hz": 4.0, "phase": 0.4, "middle": -1.2, "swing": 0.7}
    start |= {"feedback": 0.2, "through": 0.6, "around": 0.5}
    config.SHAPE_STEPS = 60
    jobs = [train.Job(device, form, 0) for form in train.forms(device)]
    first, second = (train.first_weights(job, start) for job in jobs)
    assert all(
        np.array_equal(a, b) for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    )
    assert sum(leaf.size for leaf in jax.tree.leaves(first)) == 182
    controls = phaser.controls_of(first)
    p = np.asarray(phaser.sweep(controls, 0, FS, FS, hop=8), np.float64)
    wave = np.cos(2 * np.pi * 4.0 * np.arange(FS) / FS + 0.4)
    np.testing.assert_allclose(p, -np.tanh((-1.2 + 0.7 * wave) / 2), atol=5e-3)
    assert float(controls.feedback) == pytest.approx(0.2, abs=1e-6)
    assert float(controls.b[0]) == pytest.approx(0.5)
    assert float(controls.through) == pytest.approx(1.2)


@pytest.mark.slow
def test_one_step_of_everything_is_trained_kept_and_reported(short, tmp_path, capsys, monkeypatch):
    results = tmp_path / "results"
    for name in ("README.md", "tables.md"):
        shutil.copy(FOLDER / name, tmp_path)
    common = ["--data", str(short), "--folder", str(results), "--steps", "1"]
    assert command.main(["train", *common]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "slow_mild-recursion-spectra-0",
        "slow_mild-40ms-spectra-0",
        "known_four-recursion-spectra-0",
    ]
    kept = json.loads(
        (results / "trainings" / "slow_mild-recursion-spectra-0.json").read_text(encoding="utf-8")
    )
    assert kept["skipped"] == 0
    assert 0 < kept["records"][-1]["largest_p"] < 1

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("trained again")

    with monkeypatch.context() as patch:
        patch.setattr(train.fit, "fit", never)
        assert command.main(["train", *common]) == 0
        assert capsys.readouterr().out.splitlines() == lines
        with pytest.raises(AssertionError, match="trained again"):
            command.main(["train", *common[:-1], "2"])
    assert command.main(["report", *common, "--update", str(tmp_path)]) == 0
    assert "| slow_mild | 40 ms | 0 |" in (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "| four | Adam, seed 0 |" in (tmp_path / "tables.md").read_text(encoding="utf-8")
    written = {"report.json", "report.md", "losses.svg", "listening.html"}
    if importlib.util.find_spec("matplotlib") is not None:
        written.add("cutoff.svg")
    assert {path.name for path in results.iterdir() if path.is_file()} == written
    page = (results / "listening.html").read_text(encoding="utf-8")
    assert page.count("<audio") == 4  # dry, device, two trainings


def test_a_report_without_results_is_refused(short, tmp_path, capsys):
    folder = tmp_path / "results"
    assert command.main(["report", "--data", str(short), "--folder", str(folder)]) == 2
    assert "holds no results" in capsys.readouterr().err
    assert not list(folder.iterdir())


@pytest.mark.slow
def test_a_known_phaser_is_learnt_by_the_fit_and_by_adam(monkeypatch, tmp_path):
    """Two seconds of noise at 16 kHz; the truth is read by nothing but the last lines."""
    fs, target = 16_000, config.TARGETS[2]._replace(rate_hz=2.0)
    dry, test = (0.3 * np.random.default_rng(seed).standard_normal(2 * fs) for seed in range(2))
    wet, test_wet = (known.rendered(target, x, fs) for x in (dry, test))
    device = data.Device("known", fs, dry, wet, test, test_wet, 0, ())
    fit = fits.fitted(device, tmp_path)
    assert (fit["stages"], fit["delay"]) == (target.stages, target.delay)
    controls = fits.controls_of(fit)
    assert 100 * fits.esr(controls, (6, 1), device, None) < 0.1
    assert float(controls.feedback) == pytest.approx(target.feedback, abs=5e-3)
    assert evaluate.cutoff_error_cents(device._replace(truth=target), controls) < 10
    job = train.Job(device, train.RECURSION, 0)
    result = train.trained(job, tmp_path, 150)
    losses = [record["loss"] for record in result["records"]]
    assert losses[-1] < 0.3 * losses[0]


# Tables, the page, speed


def test_goals_are_met_or_missed_by_what_the_rows_say():
    row = {"device": "slow_mild", "as recursion %": 0.5, "skipped": None}
    known = {"target": "four", "test ESR %": 0.02}
    step = {"step": "torchlpc, float32", "times the exact": 3.0}
    judged = evaluate.goals(
        [row, {**row, "device": "fast_feedback", "as recursion %": 5.1, "skipped": 1}], [known], [step]
    )
    assert [one["met"] for one in judged] == [True, False, False, False, True]
    texts = evaluate.markdown({"recordings": [row], "known": []}, judged)
    assert list(texts) == ["recordings"]
    text = texts["recordings"]
    assert "| slow_mild | 0.5 | – |" in text
    assert "**Missed**: fast_feedback" in text


def test_the_page_refuses_what_cannot_be_played(tmp_path):
    with pytest.raises(ValueError, match="pieces is empty"):
        listening.write_page(tmp_path / "page.html", "", [])
    for second, word in ((np.ones(9), "of shape"), (np.full(8, np.nan), "NaN or infinite")):
        versions = [listening.Version("dry", np.ones(8), ""), listening.Version("odd", second, "")]
        with pytest.raises(ValueError, match=word):
            listening.write_page(tmp_path / "page.html", "", [listening.Piece("a", "", versions, FS)])
    assert not (tmp_path / "page.html").exists()
    evil = "<script>{{title}}</script>"
    page = listening.write_page(
        tmp_path / "page.html",
        "T",
        [listening.Piece(evil, evil, [listening.Version(evil, np.ones(8), "")], FS)],
    ).read_text(encoding="utf-8")
    assert evil not in page
    assert "&lt;script&gt;{{title}}&lt;/script&gt;" in page


@pytest.mark.slow
def test_the_rival_computes_the_same_model():
    torch = pytest.importorskip("torch")
    pytest.importorskip("torchlpc")
    dry, _ = speed.signals(0.1, 44_100)
    raw: dict[str, Any] = {
        **phaser.init(jax.random.key(3)),
        "feedback": np.float32(0.3),
        "a": np.array([0.2, -0.3], np.float32),
    }
    raw["b"] = np.array([0.8, 0.2, -0.1], np.float32)
    ours = np.asarray(speed.jax_model(raw, dry, 44_100, None))
    params = speed.torch_params(raw, torch.float64)
    theirs = speed.torch_model(params, torch.tensor(dry, dtype=torch.float64), 44_100).detach().numpy()
    # Multiplied out, the filter is another one while the coefficients move: by little, as they move slowly.
    assert np.sum((ours - theirs) ** 2) < 1e-6 * np.sum(theirs**2)


@pytest.mark.slow
def test_speed_is_measured_and_kept(tmp_path, capsys):
    assert command.main(["speed", "--seconds", "0.05", "--rounds", "1", "--folder", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "speed.json").read_text(encoding="utf-8"))
    assert [row["step"] for row in rows][:2] == ["exact recursion", "frequency sampling, 10 ms"]
    assert rows[0]["times the exact"] == 1
    assert "| exact recursion |" in capsys.readouterr().out


def test_the_readme_has_the_tables_of_full_runs():
    text, more = ((FOLDER / name).read_text(encoding="utf-8") for name in ("README.md", "tables.md"))
    for name in config.SETTINGS:
        for form in ("fit_phaser", "recursion", *(f"{one:g} ms" for one in config.WINDOWS_MS)):
            assert f"| {name} | {form} |" in text
    for target in config.TARGETS:
        assert f"| {target.name} | fit_phaser |" in more
