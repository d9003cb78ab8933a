"""The RC filter of section 4.2: the analysis, the training against it, and what the command leaves behind."""

import importlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.signal

from jaxapf import audio, losses, metrics

FOLDER = Path(__file__).parent
MODULES = ("answer", "config", "picture")
README = "# Title\n\n<!-- rc:begin -->\nold\n<!-- rc:end -->\n\nThe rest, 3.\n"
FULL = {"SWEEP_S": 10.0, "BATCH": 512}


@pytest.fixture
def run(monkeypatch, tmp_path, loose_jax):
    """The script as a module, on a short sweep, writing into a temporary folder."""
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in MODULES:  # another experiment's modules may have the same names
        monkeypatch.delitem(sys.modules, name, raising=False)
    spec = importlib.util.spec_from_file_location("rc_filter_run", FOLDER / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.config, "SWEEP_S", 0.5)
    monkeypatch.setattr(module.config, "BATCH", 32)
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    yield module
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture
def answer(run):
    return run.answer


def results_of(run, name: str = "rc") -> dict:
    return json.loads((run.RESULTS / f"{name}.json").read_text(encoding="utf-8"))


# The analysis


def test_rc_filter_is_the_bilinear_transform_of_the_circuit(run, answer):
    fs, time_constant = run.config.FS, run.config.RESISTANCE * run.config.CAPACITANCE
    b, a = scipy.signal.bilinear([1.0], [time_constant, 1.0], fs)
    x = np.random.default_rng(0).standard_normal(500)
    np.testing.assert_allclose(answer.rc_filter(run.rho(), x), scipy.signal.lfilter(b, a, x), rtol=1e-10)


def test_rho_as_printed_filters_nothing(run, answer):
    """fs / (2 R C) has a rate, not a time, above the time constant: it is twelve thousand million."""
    fs, time_constant = run.config.FS, run.config.RESISTANCE * run.config.CAPACITANCE
    x = audio.log_sweep(0.1, fs)
    assert metrics.esr(answer.rc_filter(fs / (2 * time_constant), x), x) < 1e-18
    assert metrics.esr(answer.rc_filter(run.rho(), x), x) > 1e-2


def test_phases_are_those_of_the_filters(run, answer):
    fs, rho = run.config.FS, run.rho()
    freqz: Any = scipy.signal.freqz  # whose type stub takes denominators for numbers
    freqs_hz = np.geomspace(20, 0.45 * fs, 60)
    for b, a, found in (
        ([rho, rho], [1 + rho, rho - 1], answer.rc_phase(rho, freqs_hz, fs)),
        ([-0.3, 1], [1, -0.3], answer.allpass_phase(-0.3, freqs_hz, fs)),
    ):
        np.testing.assert_allclose(found, np.angle(freqz(b, a, freqs_hz, fs=fs)[1]), rtol=0, atol=1e-12)


def test_match_at_low_frequencies_has_the_delay_of_the_circuit(run, answer):
    """By SciPy's group delay at 0 Hz, which the bilinear transform leaves as it is: R C seconds."""
    g, rho, fs = answer.low_frequency_match(run.rho()), run.rho(), run.config.FS
    group_delay: Any = scipy.signal.group_delay  # whose type stub knows no frequencies
    delays = [
        group_delay(pair, w=[0.0])[1][0] for pair in (([g, 1], [1, g]), ([rho, rho], [1 + rho, rho - 1]))
    ]
    expected = run.config.RESISTANCE * run.config.CAPACITANCE * fs
    np.testing.assert_allclose(delays, expected, rtol=1e-9)


@pytest.mark.parametrize("power", [1, 2])
def test_spectral_loss_is_the_library_s(run, answer, x64, power):
    dry = np.random.default_rng(1).standard_normal((3, 2048))
    wet, coefficient = answer.rc_filter(run.rho(), dry), -0.4
    expected = answer.mstft_of(dry, wet, power=power, fraction=1 / 8)(coefficient)
    found = losses.phase_sum_mrstft(answer.allpass(coefficient, dry), wet, power=power, fraction=1 / 8)
    assert float(found) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("coefficient", [-0.995, -0.3, 0.7])
@pytest.mark.parametrize("loss", ["mse", "mstft"])
def test_minimum_of_a_known_all_pass_is_its_coefficient(answer, loss, coefficient):
    dry = np.random.default_rng(2).standard_normal((2, 2048))
    wet = answer.allpass(coefficient, dry)
    of = answer.mse_of(dry, wet) if loss == "mse" else answer.mstft_of(dry, wet, power=1, fraction=1 / 8)
    assert answer.minimum_of(of).coefficient == pytest.approx(coefficient, abs=1e-5)


def test_expected_coefficient_is_the_least(run, answer, monkeypatch):
    monkeypatch.setattr(run.config, "SWEEP_S", FULL["SWEEP_S"])
    problem = run.make_problem(1, 1)
    least = answer.minimum_of(answer.mse_of(*run.cut(problem)))
    assert least.coefficient == pytest.approx(run.config.EXPECTED["mse"], abs=1e-4)
    assert len(run.cut(problem)[0]) == 937
    assert round(400 * 937 / FULL["BATCH"]) == run.config.STEPS


# The training


@pytest.mark.slow
def test_training_finds_the_independent_minimum(run, monkeypatch):
    monkeypatch.setattr(run.config, "STARTS", (1,))
    assert run.main(["--steps", "200", "--starts", "1"]) == 0
    results = results_of(run)
    assert [(row["loss"], row["rate"]) for row in results["rows"]] == [
        ("mse", 1e-5),
        ("mse", 1e-2),
        ("mstft", 1e-5),
        ("mstft", 1e-2),
    ]
    problem = run.make_problem(1, 1)
    for row in results["rows"]:
        of = run.loss_of(problem, row["loss"], *run.cut(problem))
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
def test_the_whole_training_finds_the_independent_minimum(run, monkeypatch):
    for name, value in FULL.items():
        monkeypatch.setattr(run.config, name, value)
    settings = [run.config.Setting(loss, run.config.RATE, 1) for loss in run.config.EXPECTED]
    monkeypatch.setattr(run.config, "FIRST_ORDER", tuple(settings))
    assert run.main([]) == 0
    results = results_of(run)
    assert len(results["goals"]) == 2
    assert all(one["met"] for one in results["goals"])
    for name, expected in run.config.EXPECTED.items():
        assert results["answers"][f"{name}, sequences"]["coefficient"] == pytest.approx(expected, abs=1e-4)


def test_a_training_that_explodes_is_reported(run, monkeypatch, capsys):
    """At this rate the coefficient leaves the unit circle, and no step is finite any more."""
    monkeypatch.setattr(run.config, "POWER_2", (run.config.Setting("mse", 3.0, 1),))
    assert run.main(["--power", "2", "--steps", "150"]) == 0
    (row,) = results_of(run, "rc-power-2")["rows"]
    assert abs(row["trained"]) > 1
    assert row["loss there"] is None
    assert 100 <= row["skipped"] <= row["steps"] < 150
    assert capsys.readouterr().err == ""


def test_a_cascade_from_coefficients(run, monkeypatch):
    monkeypatch.setattr(run.config, "CASCADE", (run.config.Setting("mse", 1e-2, 2),))
    assert run.main(["--order", "7", "--steps", "4"]) == 0
    results = results_of(run, "rc-order-7")
    dry, wet = run.cut(run.make_problem(7, 1))
    references = results["references"]
    assert references["dry"] == pytest.approx(np.mean((dry - wet) ** 2))
    # Cut after filtering, nothing would remain; from rest, each sequence lacks its state.
    assert 0 < references["exact"] < 0.1 * references["silence"]
    assert [row["seed"] for row in results["rows"]] == [0, 1]
    for row, curve in zip(results["rows"], results["runs"], strict=True):
        assert row["lowest"] <= row["first loss"] <= row["highest"]
        assert curve["losses"][-1] == row["last"]
        assert row["steps"] == 4
        assert 0 < row["largest pole at the end"] < 1


# What the command leaves behind


def only(run, monkeypatch, *losses: str) -> None:
    """Train by these losses, at one rate each: what is written does not depend on how many there are."""
    settings = tuple(run.config.Setting(loss, run.config.RATE, 1) for loss in losses)
    monkeypatch.setattr(run.config, "FIRST_ORDER", settings)


def test_a_run_writes_draws_and_updates_the_readme(run, tmp_path, monkeypatch, capsys):
    only(run, monkeypatch, "mse", "mstft")
    readme = tmp_path / "README.md"
    readme.write_text(README, encoding="utf-8")
    assert run.main(["--steps", "2", "--starts", "1", "--update", str(readme)]) == 0
    tables = (run.RESULTS / "rc.md").read_text(encoding="utf-8")
    begin, end = "<!-- rc:begin -->\n", "<!-- rc:end -->"
    assert readme.read_text(encoding="utf-8") == README.replace(f"{begin}old\n{end}", begin + tables + end)
    assert tables.count("\n| --- |") == 2
    assert (run.RESULTS / "rc.png").stat().st_size > 50_000
    assert sorted(path.name for path in run.RESULTS.iterdir()) == ["rc.json", "rc.md", "rc.png"]
    assert capsys.readouterr() == (tables, "")
    # Drawn again from the file alone.
    picture = importlib.import_module("picture")
    picture.draw(results_of(run), tmp_path / "again.png")
    assert (tmp_path / "again.png").read_bytes() == (run.RESULTS / "rc.png").read_bytes()


@pytest.mark.slow
def test_no_picture_without_matplotlib(run, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    only(run, monkeypatch, "mse")
    assert run.main(["--steps", "1", "--starts", "1"]) == 0
    assert "jaxapf[plot]" in capsys.readouterr().err
    assert not (run.RESULTS / "rc.png").exists()
    assert results_of(run)["steps"] == 1


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
def test_wrong_arguments_are_refused(run, capsys, words):
    with pytest.raises(SystemExit, match="2"):
        run.main(list(words))
    assert words[0] in capsys.readouterr().err
    assert not run.RESULTS.exists()


def test_a_readme_without_markers_is_refused_first(run, tmp_path, capsys):
    readme = tmp_path / "README.md"
    readme.write_text(README, encoding="utf-8")
    assert run.main(["--power", "2", "--update", str(readme)]) == 2
    assert "rc-power-2" in capsys.readouterr().err
    assert not run.RESULTS.exists()
    assert readme.read_text(encoding="utf-8") == README


def test_the_readme_has_the_tables_of_full_runs(run):
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name in ("rc", "rc-power-2", "rc-order-7"):
        part = text.partition(f"<!-- {name}:begin -->")[2].partition(f"<!-- {name}:end -->")[0]
        assert f" {run.config.STEPS} |" in part
    assert "**Missed**" not in text
    assert (FOLDER / "picture.png").is_file()
