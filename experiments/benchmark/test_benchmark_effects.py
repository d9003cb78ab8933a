"""The benchmark of effects on tiny sizes: its cases are the effects, and the peer's the same functions."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
from signals import relative_rms

from experiments.common import runner
from jaxapf import params
from jaxapf.effects import equalizer

FOLDER = Path(__file__).parent
MODULES = ("cases", "config", "effects", "memory", "picture", "run")
README = "# Title\n\n<!-- effects:begin -->\nold\n<!-- effects:end -->\n\nThe rest, 3.\n"


@pytest.fixture
def effects(monkeypatch, tmp_path, loose_jax):
    """The script as a module that writes into a temporary folder."""
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in MODULES:  # another experiment's modules may have the same names
        monkeypatch.delitem(sys.modules, name, raising=False)
    module = importlib.import_module("effects")
    monkeypatch.setattr(module.run, "RESULTS", tmp_path / "results")
    yield module
    for name in MODULES:
        sys.modules.pop(name, None)


def no_peers(effects):
    return effects.cases.Peers(None, None, None, "cpu", ["torch is not installed"])


@pytest.mark.slow
def test_a_quick_run_measures_and_updates_the_readme(effects, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(effects.cases, "find_peers", lambda: no_peers(effects))
    monkeypatch.setattr(effects.config, "QUICK_EFFECTS", ((2, 300),))
    readme = tmp_path / "README.md"
    readme.write_text(README, encoding="utf-8")
    assert effects.main(["--quick", "--update", str(readme)]) == 0
    results = json.loads((effects.run.RESULTS / "effects.json").read_text(encoding="utf-8"))
    assert [row["function"] for row in results["rows"]] == [
        "equalizer",
        "equalizer, fsm",
        "compressor",
        "compressor, peak, dB",
    ]
    assert all(row["forward ms"] > 0 and row["gradient speed / dasp"] is None for row in results["rows"])
    assert "| 2 x 300 | equalizer |" in readme.read_text(encoding="utf-8")
    assert "torch is not installed" in capsys.readouterr().err


def test_the_equaliser_measured_is_scipy_s(effects):
    x = 0.3 * effects.cases.noise(2, 500)
    made = effects.equalizer_cases(x, None, no_peers(effects))
    values = effects.controls(params.EQUALIZER, 2)
    sos = equalizer.sections(equalizer.packed(np.float64(values)), 48e3).sos
    expected = np.stack(
        [scipy.signal.sosfilt(*both) for both in zip(sos, np.asarray(x, np.float64), strict=True)]
    )
    assert relative_rms(np.asarray(made["equalizer"].forward()), expected) < 1e-4


def test_the_peer_s_compressor_is_ours_with_one_time(effects):
    pytest.importorskip("torch")
    dasp = pytest.importorskip("dasp_pytorch.functional")
    peers = effects.cases.find_peers()
    x = 0.3 * effects.cases.noise(2, 8000)
    drawn = effects.controls(params.COMPRESSOR, 2)
    drawn[3] = drawn[2]  # release, attack
    effects.controls = lambda specification, batch: drawn
    made = effects.compressor_cases(x, dasp, peers)
    ours = np.asarray(made["compressor, peak, dB"].forward())
    assert relative_rms(effects.cases.as_numpy(made[effects.DASP["compressor"]].forward()), ours) < 2e-2
    assert relative_rms(np.asarray(made["compressor"].forward()), ours) > 0.05


def test_goals_are_for_both_directions(effects, monkeypatch):
    rows = {
        "equalizer": {"forward ms": 1.0, "gradient ms": 2.0},
        "dasp_pytorch parametric_eq": {"forward ms": 6.0, "gradient ms": 8.0},
    }
    monkeypatch.setattr(
        effects.run, "timed_cases", lambda made, settings: {k: dict(v) for k, v in rows.items()}
    )
    monkeypatch.setattr(effects.config, "EFFECTS", ((2, 300),))
    monkeypatch.setattr(effects, "EFFECTS", {"equalizer": lambda x, dasp, peers: {}})
    found = effects.measure(quick=False)
    assert [(goal["value"], goal["met"]) for goal in found["goals"]] == [(6.0, True), (4.0, False)]
    assert "**Missed**" in effects.markdown(found)
    assert effects.measure(quick=True)["goals"] == []


def test_the_experiments_own_readme_can_be_updated(effects, capsys):
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name in ("effects", "effects-gpu"):
        assert "\nnew tables\n" in runner.updated(text, "new tables\n", name)
    assert effects.main(["--quick", "--update", "missing.md"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
