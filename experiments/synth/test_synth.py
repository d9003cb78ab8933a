"""The synth experiment: finding notes, known notes, one training step, and what the commands leave behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import scipy.signal

from experiments.common.runner import read_figures
from experiments.synth import __main__ as command
from experiments.synth import config, evaluate, protocol, train
from experiments.synth import data as notes
from jaxapf import audio

FOLDER = Path(__file__).parent
FS = 48_000


@pytest.fixture(autouse=True)
def short(monkeypatch, loose_jax):
    """Short notes, a small network and few forms."""
    small = {"LENGTH": 1500, "LEAST": 1000, "HOP": 150, "WINDOWS": (256,), "FILTERS": ("lp",)}
    small |= {"CHANNELS": 2, "MELS": 32, "KNOWN": 12, "BATCH": 4, "DILATIONS": (1, 2), "POOLS": (4, 4)}
    for name, value in small.items():
        monkeypatch.setattr(config, name, value)
    monkeypatch.setattr(train, "FORMS", ("recursion", 256))
    monkeypatch.setattr(evaluate, "FORMS", ("recursion", "256"))


# Finding notes


def tone(f0_hz: float, seconds: float, phase: float = 0.0) -> np.ndarray:
    """A sawtooth, smoothed."""
    cycles = phase + f0_hz * np.arange(round(seconds * FS)) / FS
    sos = scipy.signal.butter(2, 3000, fs=FS, output="sos")
    return 0.5 * scipy.signal.sosfiltfilt(sos, 1 - 2 * (cycles % 1.0))


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * FS))


def test_notes_are_found_where_they_begin_and_where_their_pitch_changes():
    pieces = [silence(0.1), tone(110, 0.12), silence(0.05), tone(65, 0.11), tone(98, 0.2), silence(0.1)]
    x = np.concatenate(pieces)
    found = notes.find(x)
    begins = np.cumsum([len(piece) for piece in pieces])[[0, 2, 3]]
    assert len(found) == 3
    for (start, _), expected in zip(found, begins, strict=True):
        assert abs(start - expected) < 0.025 * FS
    for (start, stop), f0_hz in zip(found, (110, 65, 98), strict=True):
        assert notes.fundamental(x[start + 1000 : stop - 500])[0] == pytest.approx(f0_hz, rel=5e-3)


@pytest.mark.parametrize("f0_hz", [41.2, 73.4, 110.0, 246.9])
@pytest.mark.parametrize("phase", [0.0, 0.3, 0.8])
def test_frequency_and_phase_of_a_note(f0_hz, phase):
    found_hz, found_phase = notes.fundamental(tone(f0_hz, 0.12, phase))
    assert found_hz == pytest.approx(f0_hz, rel=2e-3)
    assert abs((found_phase - phase + 0.5) % 1 - 0.5) < 0.02


def test_a_short_note_is_left_out_and_a_long_one_cut(tmp_path):
    pieces = [
        piece for _ in range(10) for piece in (tone(110, 0.05), silence(0.1), tone(82, 0.01), silence(0.1))
    ]
    audio.write(tmp_path / "line.wav", np.concatenate([silence(0.1), *pieces]), FS)
    found = notes.from_recording(tmp_path / "line.wav")
    assert found.audio.shape == (10, config.LENGTH)
    np.testing.assert_allclose(found.f0_hz, 110, rtol=0.01)
    np.testing.assert_allclose(found.on_s, config.LENGTH / FS)
    np.testing.assert_allclose(np.diff(found.start_s), 0.26, atol=2e-3)


def test_a_folder_of_notes(tmp_path):
    for number in range(11):
        audio.write(tmp_path / f"{number:02}.wav", tone(80 + 4 * number, 0.025), FS)
    audio.write(tmp_path / "short.wav", tone(80, 0.01), FS)
    found = notes.from_folder(tmp_path)
    # 1200 of 1500 samples; the rest is silence.
    assert found.audio.shape == (11, 1500)
    np.testing.assert_allclose(found.on_s, 0.025)
    assert not found.audio[:, 1200:].any()


@pytest.mark.slow
def test_known_notes_are_what_they_say():
    found, truth = notes.known(5, 1)
    again, _ = notes.known(5, 1)
    np.testing.assert_array_equal(found.audio, again.audio)
    assert truth.cutoff_hz.shape == (5, 11)
    assert np.all((truth.cutoff_hz >= config.CUTOFF_HZ.low) & (truth.cutoff_hz <= config.CUTOFF_HZ.high))
    assert np.all(np.isfinite(found.audio))
    assert np.all(np.max(np.abs(found.audio), axis=1) > 0.05)


@pytest.mark.slow
def test_frequencies_measured_from_known_notes_are_those_that_made_them(monkeypatch):
    monkeypatch.setattr(config, "LENGTH", 6000)
    found, _ = notes.known(5, 1)
    for x, f0_hz in zip(found.audio, found.f0_hz, strict=True):
        assert notes.fundamental(np.asarray(x, np.float64))[0] == pytest.approx(f0_hz, rel=5e-3)


def test_every_note_is_in_one_set():
    rows = notes.split(48)
    assert [len(rows[name]) for name in ("train", "validation", "test")] == [29, 9, 10]
    assert sorted(np.concatenate(list(rows.values()))) == list(range(48))


# Training


def trained_one_step(folder: Path, *forms: str) -> list[dict]:
    """Train, check that it goes on without training again, and that other steps are refused."""
    arguments = ["train", "--steps", "1", "--folder", str(folder)]
    assert command.main(arguments) == 0
    results = [read_figures(folder / f"known-lp-{form}-0.json") for form in forms]
    assert len(list(folder.iterdir())) == 2 * len(forms)
    n_test = len(notes.split(12)["test"])
    for one in results:
        assert (one["steps"], one["best_step"], one["skipped"]) == (1, 1, 0)
        assert {form: len(values) for form, values in one["tested"].items()} == dict.fromkeys(forms, n_test)
        assert np.all(np.isfinite([*one["tested"]["recursion"], *one["known"].values()]))
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert command.main(arguments) == 0
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert command.main(["train", "--steps", "2", "--folder", str(folder)]) == 2
    return results


@pytest.mark.slow
def test_one_step(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train, "FORMS", ("recursion",))
    (result,) = trained_one_step(tmp_path / "r", "recursion")
    assert "has 1 steps, not 2" in capsys.readouterr().err
    with np.load(tmp_path / "r" / "known-lp-recursion-0.npz") as kept:
        assert kept["own"].shape == kept["recursion"].shape == kept["target"].shape == (2, 1500)
        assert kept["cutoff_hz"].shape == (2, 11)
        np.testing.assert_array_equal(kept["own"], kept["recursion"])
    assert result["known"]["q_ratio_median"] >= 1


@pytest.mark.slow
def test_one_step_in_every_form_and_the_report(tmp_path, capsys):
    exact, windows = trained_one_step(tmp_path / "r", "recursion", "256")
    assert exact["tested"]["recursion"] != windows["tested"]["recursion"]
    assert command.main(["report", "--folder", str(tmp_path / "r")]) == 0
    assert "| known parameters | low-pass | recursion |" in capsys.readouterr().out


# The report


def made_up(folder: Path, losses: dict[str, float]) -> None:
    """Results as if trained in these forms, with these losses when tested as recursion."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    n_test = len(notes.split(12)["test"])
    for form, loss in losses.items():
        result = {
            "made_with": "Made up.",
            **{"notes": "known", "filter": "lp", "form": form, "seed": 0, "skipped": 0, "steps": 7},
            "tested": {other: [loss + 0.1 * i for i in range(n_test)] for other in losses},
            "known": {"cutoff_octaves_median": 0.125, "cutoff_octaves_90": 0.5, "q_ratio_median": 1.25},
        }
        (folder / f"known-lp-{form}-0.json").write_text(json.dumps(result), encoding="utf-8")
        signals = {name: 0.1 * rng.standard_normal((n_test, 1500)) for name in ("target", "own", "recursion")}
        heard = {"cutoff_hz": np.full((n_test, 11), 500.0), "q": np.full(n_test, 2.0)}
        np.savez(folder / f"known-lp-{form}-0.npz", **signals, **heard)


@pytest.mark.slow
def test_a_report_of_what_is_there(tmp_path, capsys):
    folder = tmp_path / "r"
    made_up(folder, {"recursion": 1.0, "256": 1.25})
    for name in ("README.md", "tables.md"):
        shutil.copy(FOLDER / name, tmp_path)
    assert command.main(["report", "--folder", str(folder), "--update", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "Made up. 7 steps" in (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "| known parameters | low-pass | recursion | 1.050 | 1.050 | 1.050 | – | – | 0 |" in out
    assert "| known parameters | low-pass | 256 | 1.300 | 1.300 | 1.300 | +0.250 | 100% | 0 |" in out
    assert "| 256 | 0.125 | 0.500 | 1.250 |" in out
    assert "Goals met: 2 of 2." in out
    page = (folder / "listening.html").read_text(encoding="utf-8")
    assert page.count("<audio") == 4
    assert "{{" not in page
    for name in ("losses.svg", "cutoff.svg", "spectrograms.png"):
        assert (folder / name).stat().st_size > 5000


def test_an_ordering_that_does_not_hold_is_said(tmp_path):
    made_up(tmp_path / "r", {"recursion": 1.0, "256": 0.9})
    text = evaluate.markdown(evaluate.collected(tmp_path / "r"))["synth"]
    assert "Goals met: 1 of 2. **Missed**: known parameters, low-pass" in text
    assert "1.050 against 0.950 of 256" in text


@pytest.mark.slow
def test_forms_share_first_weights_and_batches():
    """What differs between two trainings is the form alone."""
    found, _ = notes.known(12, 1)
    sets = train.sets_of(found)
    one, other = (
        protocol.started(protocol.Setting("known", "lp", form, 3), sets) for form in ("recursion", 256)
    )
    for a, b in zip(*(jax.tree.leaves(tree) for tree in (one, other)), strict=True):
        np.testing.assert_array_equal(a, b)


# Mistakes


@pytest.mark.parametrize(
    "words",
    [[], ["play"], ["train", "--steps", "0"], ["train", "--seeds", "11"], ["speed", "--repeats", "x"]],
)
def test_wrong_arguments_end_with_two(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        command.main(words)
    assert "usage" in capsys.readouterr().err


def test_what_is_not_there_is_one_sentence(tmp_path, capsys):
    assert command.main(["train", "--data", str(tmp_path), "--folder", str(tmp_path / "r")]) == 2
    assert "has 0 notes" in capsys.readouterr().err
    assert command.main(["report", "--folder", str(tmp_path / "r")]) == 2
    assert "run the command train first" in capsys.readouterr().err
    (tmp_path / "README.md").write_text("nothing", encoding="utf-8")
    assert command.main(["report", "--folder", str(tmp_path / "r"), "--update", str(tmp_path)]) == 2
    assert "synth:begin" in capsys.readouterr().err
    (tmp_path / "r" / "known-lp-256-0.json").write_text("{", encoding="utf-8")
    assert command.main(["report", "--folder", str(tmp_path / "r")]) == 2
    assert "is no file of figures" in capsys.readouterr().err


@pytest.mark.slow
def test_speed_is_told(tmp_path, capsys):
    assert command.main(["speed", "--repeats", "1", "--folder", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "| synth, recursion |" in out
    assert "times as fast" in out


def test_the_readme_has_the_tables_of_a_full_run():
    text, more = ((FOLDER / name).read_text(encoding="utf-8") for name in ("README.md", "tables.md"))
    assert "300 steps" in text
    assert text.count("| recursion |") >= 4
    assert more.count("| --- |") >= 3
