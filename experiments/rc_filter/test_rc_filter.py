"""The RC filter of section 4.2: the analysis, the training against it, and what the command leaves behind."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.signal

from experiments.rc_filter import __main__ as command
from experiments.rc_filter import answer, config, evaluate, figures, train
from jaxapf import audio, losses, metrics

FOLDER = Path(__file__).parent
README = "# Title\n\n<!-- rc:begin -->\nold\n<!-- rc:end -->\n\nThe rest, 3.\n"
FULL = {"SWEEP_S": config.SWEEP_S, "BATCH": config.BATCH}


@pytest.fixture
def results(monkeypatch, tmp_path, loose_jax):
    """A folder for results; the sweep is short."""
    monkeypatch.setattr(config, "SWEEP_S", 0.5)
    monkeypatch.setattr(config, "BATCH", 32)
    return tmp_path / "results"


def run(results: Path, *words: str) -> int:
    return command.main([*words, "--folder", str(results)])


def read(results: Path, name: str = "rc") -> dict:
    return json.loads((results / f"{name}.json").read_text(encoding="utf-8"))


# The analysis


@pytest.mark.slow
def test_rc_filter_is_the_bilinear_transform_of_the_circuit(results):
    fs, time_constant = config.FS, config.RESISTANCE * config.CAPACITANCE
    b, a = scipy.signal.bilinear([1.0], [time_constant, 1.0], fs)
    x = np.random.default_rng(0).standard_normal(500)
    np.testing.assert_allclose(answer.rc_filter(train.rho(), x), scipy.signal.lfilter(b, a, x), rtol=1e-10)


@pytest.mark.slow
def test_rho_as_printed_filters_nothing(results):
    """fs / (2 R C) has a rate, not a time, above the time constant: it is twelve thousand million."""
    fs, time_constant = config.FS, config.RESISTANCE * config.CAPACITANCE
    x = audio.log_sweep(0.1, fs)
    assert metrics.esr(answer.rc_filter(fs / (2 * time_constant), x), x) < 1e-18
    assert metrics.esr(answer.rc_filter(train.rho(), x), x) > 1e-2


@pytest.mark.slow
def test_phases_are_those_of_the_filters(results):
    fs, rho = config.FS, train.rho()
    freqz: Any = scipy.signal.freqz  # whose type stub takes denominators for numbers
    freqs_hz = np.geomspace(20, 0.45 * fs, 60)
    for b, a, found in (
        ([rho, rho], [1 + rho, rho - 1], answer.rc_phase(rho, freqs_hz, fs)),
        ([-0.3, 1], [1, -0.3], answer.allpass_phase(-0.3, freqs_hz, fs)),
    ):
        np.testing.assert_allclose(found, np.angle(freqz(b, a, freqs_hz, fs=fs)[1]), rtol=0, atol=1e-12)


@pytest.mark.slow
def test_match_at_low_frequencies_has_the_delay_of_the_circuit(results):
    """By SciPy's group delay at 0 Hz, which the bilinear transform leaves as it is: R C seconds."""
    g, rho, fs = answer.low_frequency_match(train.rho()), train.rho(), config.FS
    group_delay: Any = scipy.signal.group_delay  # whose type stub knows no frequencies
    delays = [
        group_delay(pair, w=[0.0])[1][0] for pair in (([g, 1], [1, g]), ([rho, rho], [1 + rho, rho - 1]))
    ]
    expected = config.RESISTANCE * config.CAPACITANCE * fs
    np.testing.assert_allclose(delays, expected, rtol=1e-9)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.slow
def test_spectral_loss_is_the_library_s(results, x64, power):
    dry = np.random.default_rng(1).standard_normal((3, 2048))
    wet, coefficient = answer.rc_filter(train.rho(), dry), -0.4
    expected = answer.mstft_of(dry, wet, power=power, fraction=1 / 8)(coefficient)
    found = losses.phase_sum_mrstft(answer.allpass(coefficient, dry), wet, power=power, fraction=1 / 8)
    assert float(found) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("coefficient", [-0.995, -0.3, 0.7])
@pytest.mark.parametrize("loss", ["mse", "mstft"])
@pytest.mark.slow
def test_minimum_of_a_known_all_pass_is_its_coefficient(loss, coefficient):
    dry = np.random.default_rng(2).standard_normal((2, 2048))
    wet = answer.allpass(coefficient, dry)
    of = answer.mse_of(dry, wet) if loss == "mse" else answer.mstft_of(dry, wet, power=1, fraction=1 / 8)
    assert answer.minimum_of(of).coefficient == pytest.approx(coefficient, abs=1e-5)


@pytest.mark.slow
def test_expected_coefficient_is_the_least(results, monkeypatch):
    monkeypatch.setattr(config, "SWEEP_S", FULL["SWEEP_S"])
    problem = train.make_problem(1, 1)
    least = answer.minimum_of(answer.mse_of(*train.cut(problem)))
    assert least.coefficient == pytest.approx(config.EXPECTED["mse"], abs=1e-4)
    assert len(train.cut(problem)[0]) == 937
    assert round(400 * 937 / FULL["BATCH"]) == config.STEPS


# The training


@pytest.mark.slow
def test_training_finds_the_independent_minimum(results, monkeypatch):
    monkeypatch.setattr(config, "STARTS", (1,))
    assert run(results, "--steps", "200", "--starts", "1") == 0
    found = read(results)
    assert [(row["loss"], row["rate"]) for row in found["rows"]] == [
        ("mse", 1e-5),
        ("mse", 1e-2),
        ("mstft", 1e-5),
        ("mstft", 1e-2),
    ]
    problem = train.make_problem(1, 1)
    for row in found["rows"]:
        of = evaluate.loss_of(problem, row["loss"], *train.cut(problem))
        assert row["least loss"] < min(of(row["least"] - 0.01), of(row["least"] + 0.01))
        assert row["least loss"] <= row["loss there"] == of(row["trained"])
        assert row["skipped"] == 0
        moved = row["trained"] - row["start"]
        if row["rate"] == 1e-2:
            assert abs(row["difference"]) < 5e-3
            assert abs(moved) > 0.2
        else:  # the paper's rate: Adam's step is as long as its rate, and this is far from enough
            assert 0 > moved > -1.01 * 200 * 1e-5
            assert abs(row["difference"]) > 0.2


@pytest.mark.slow
def test_the_whole_training_finds_the_independent_minimum(results, monkeypatch):
    for name, value in FULL.items():
        monkeypatch.setattr(config, name, value)
    settings = [config.Setting(loss, config.RATE, 1) for loss in config.EXPECTED]
    monkeypatch.setattr(config, "FIRST_ORDER", tuple(settings))
    assert run(results) == 0
    found = read(results)
    assert len(found["goals"]) == 2
    assert all(one["met"] for one in found["goals"])
    for name, expected in config.EXPECTED.items():
        assert found["answers"][f"{name}, sequences"]["coefficient"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
def test_a_training_that_explodes_is_reported(results, monkeypatch, capsys):
    """At this rate the coefficient leaves the unit circle, and no step is finite any more."""
    monkeypatch.setattr(config, "POWER_2", (config.Setting("mse", 3.0, 1),))
    assert run(results, "--power", "2", "--steps", "150") == 0
    (row,) = read(results, "rc-power-2")["rows"]
    assert abs(row["trained"]) > 1
    assert row["loss there"] is None
    assert 100 <= row["skipped"] <= row["steps"] < 150
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_a_cascade_from_coefficients(results, monkeypatch):
    monkeypatch.setattr(config, "CASCADE", (config.Setting("mse", 1e-2, 2),))
    assert run(results, "--order", "7", "--steps", "4") == 0
    found = read(results, "rc-order-7")
    dry, wet = train.cut(train.make_problem(7, 1))
    references = found["references"]
    assert references["dry"] == pytest.approx(np.mean((dry - wet) ** 2))
    # Cut after filtering, nothing would remain; from rest, each sequence lacks its state.
    assert 0 < references["exact"] < 0.1 * references["silence"]
    assert [row["seed"] for row in found["rows"]] == [0, 1]
    for row, curve in zip(found["rows"], found["runs"], strict=True):
        assert row["lowest"] <= row["first loss"] <= row["highest"]
        assert curve["losses"][-1] == row["last"]
        assert row["steps"] == 4
        assert 0 < row["largest pole at the end"] < 1


# What the command leaves behind


def only(monkeypatch, *losses: str) -> None:
    """Train by these losses, at one rate each: what is written does not depend on how many there are."""
    settings = tuple(config.Setting(loss, config.RATE, 1) for loss in losses)
    monkeypatch.setattr(config, "FIRST_ORDER", settings)


def test_smoke(results, tmp_path, monkeypatch, capsys):
    """One step by the MSE, its tables and its picture."""
    monkeypatch.setattr(config, "SWEEP_S", 0.1)
    only(monkeypatch, "mse")
    (tmp_path / "README.md").write_text(README, encoding="utf-8")
    assert run(results, "--steps", "1", "--starts", "1", "--update", str(tmp_path)) == 0
    tables = (results / "rc.md").read_text(encoding="utf-8")
    assert tables in (tmp_path / "README.md").read_text(encoding="utf-8")
    assert sorted(path.name for path in results.iterdir()) == ["picture.png", "rc.json", "rc.md"]
    assert capsys.readouterr() == (tables, "")


@pytest.mark.slow
def test_a_run_writes_draws_and_updates_the_readme(results, tmp_path, monkeypatch, capsys):
    only(monkeypatch, "mse", "mstft")
    readme = tmp_path / "README.md"
    readme.write_text(README, encoding="utf-8")
    assert run(results, "--steps", "2", "--starts", "1", "--update", str(tmp_path)) == 0
    tables = (results / "rc.md").read_text(encoding="utf-8")
    begin, end = "<!-- rc:begin -->\n", "<!-- rc:end -->"
    assert readme.read_text(encoding="utf-8") == README.replace(f"{begin}old\n{end}", begin + tables + end)
    assert tables.count("\n| --- |") == 2
    assert (results / "picture.png").stat().st_size > 50_000
    assert sorted(path.name for path in results.iterdir()) == ["picture.png", "rc.json", "rc.md"]
    assert capsys.readouterr() == (tables, "")
    # Drawn again from the file alone.
    figures.draw(read(results), tmp_path / "again.png")
    assert (tmp_path / "again.png").read_bytes() == (results / "picture.png").read_bytes()


@pytest.mark.slow
def test_no_picture_without_matplotlib(results, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    only(monkeypatch, "mse")
    assert run(results, "--steps", "1", "--starts", "1") == 0
    assert "jaxapf[plot]" in capsys.readouterr().err
    assert not (results / "picture.png").exists()
    assert read(results)["steps"] == 1


@pytest.mark.parametrize(
    "words",
    [
        ("--steps", "0"),
        ("--steps", "many"),
        ("--power", "3"),
        ("--order", "0"),
        ("--starts", "4"),
        ("extra",),
    ],
)
@pytest.mark.slow
def test_wrong_arguments_are_refused(results, capsys, words):
    with pytest.raises(SystemExit, match="2"):
        run(results, *words)
    assert words[0] in capsys.readouterr().err
    assert not any(results.glob("*"))


@pytest.mark.slow
def test_a_readme_without_markers_is_refused_first(results, tmp_path, capsys):
    readme = tmp_path / "README.md"
    readme.write_text(README, encoding="utf-8")
    assert run(results, "--power", "2", "--update", str(tmp_path)) == 2
    assert "rc-power-2" in capsys.readouterr().err
    assert not any(results.glob("*"))
    assert readme.read_text(encoding="utf-8") == README


@pytest.mark.slow
def test_the_readme_has_the_tables_of_full_runs(results):
    text = "".join((FOLDER / name).read_text(encoding="utf-8") for name in ("README.md", "tables.md"))
    for name in ("rc", "rc-power-2", "rc-order-7"):
        part = text.partition(f"<!-- {name}:begin -->")[2].partition(f"<!-- {name}:end -->")[0]
        assert f" {config.STEPS} |" in part
    assert "**Missed**" not in text
    assert (FOLDER / "picture.png").is_file()
