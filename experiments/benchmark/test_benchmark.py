"""The benchmark on tiny sizes: its inputs, its clock, its tables and its picture."""

import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import reference
import scipy.signal
from signals import relative_rms

from experiments.benchmark import __main__ as command
from experiments.benchmark import cases, config, effects, evaluate, figures
from experiments.common import measuring, tables
from jaxapf import allpass, params
from jaxapf.effects import equalizer

FOLDER = Path(__file__).parent
NAMES = ("cascade", "allpole", "growth")
README = "# T\n\n" + "\n".join(f"<!-- {name}:begin -->\nold\n<!-- {name}:end -->" for name in NAMES)
NO_PEERS = cases.Peers(None, None, None, None, "cpu", ["torch is not installed"])
TORCH = importlib.util.find_spec("torch") is not None


@pytest.fixture
def results(monkeypatch, tmp_path, loose_jax):
    """A folder for results; quick sizes are even smaller."""
    panels = {
        "length": config.Panel("n_samples", (64,)),
        "length, gradient": config.Panel("n_samples", (64,), gradient=True),
    }
    sizes = {"cascade": ((2, 2048),), "allpole": ((2, 300, 3),), "effects": ((2, 300),)}
    tiny = config.QUICK._replace(**sizes, growth=panels)
    monkeypatch.setattr(config, "QUICK", tiny)
    monkeypatch.setattr(cases, "CASCADE_METHODS", ("auto", "fsm"))
    monkeypatch.setattr(cases, "ALLPOLE_METHODS", ("auto", "scan"))
    return tmp_path / "results"


def quick(results: Path, names: str, *words: str) -> int:
    return command.main(["--quick", "--only", names, "--folder", str(results), *words])


def read(results: Path) -> dict:
    return json.loads((results / "benchmark.json").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_a_quick_run_measures_draws_and_updates_the_readme(results, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cases, "find_peers", lambda: NO_PEERS)
    readme = tmp_path / "README.md"
    readme.write_text(README, encoding="utf-8")
    assert quick(results, ",".join(NAMES), "--update", str(tmp_path)) == 0
    found = read(results)

    cascade = {row["function"]: row for row in found["cascade"]["rows"]}
    assert set(cascade) >= {"cascade, auto", "cascade, fsm", "sosfilt, auto"}
    assert all(row["error"] < 2e-5 for row in cascade.values())
    assert cascade["cascade, fsm"]["error"] != cascade["cascade, auto"]["error"]
    scipy_row = cascade["scipy.signal.sosfilt"]
    assert (scipy_row["gradient ms"], scipy_row["compile s"], scipy_row["speed / SciPy"]) == (None, None, 1)
    auto = cascade["cascade, auto"]
    assert auto["gradient / forward"] == auto["gradient ms"] / auto["forward ms"]
    assert auto["speed / SciPy"] == scipy_row["forward ms"] / auto["forward ms"]
    assert auto["compile gradient s"] > 10e-3 * auto["gradient ms"]

    assert {row["function"] for row in found["allpole"]["rows"]} >= {"allpole, auto", "allpole, scan"}
    assert all(row["error"] < 1e-5 for row in found["allpole"]["rows"])

    points = {(row["panel"], row["function"], row["at"]) for row in found["growth"]["rows"]}
    assert {("length", "auto", 64), ("length, gradient", "fsm", 64)} < points
    assert ("length", "scipy.signal.sosfilt", 64) in points
    assert ("length, gradient", "scipy.signal.sosfilt", 64) not in points

    text = readme.read_text(encoding="utf-8")
    assert "old" not in text
    assert text.count("\n| --- |") == 4
    written = (results / "benchmark.md").read_text(encoding="utf-8")
    assert all(part in written for part in re.findall(r":begin -->\n(.*?)<!--", text, re.DOTALL))
    assert (results / "benchmark.png").stat().st_size > 10_000
    out, err = capsys.readouterr()
    assert out == ""  # goals are for the full sizes
    assert err == "left out: torch is not installed (pip install 'jaxapf[peers]')\n"


@pytest.mark.skipif(not TORCH, reason="the peers are not installed")
@pytest.mark.slow
def test_peers_compute_the_same(results):
    peers = cases.find_peers()
    if peers.missing:
        pytest.skip(str(peers.missing))
    sections, x = cases.second_order_sections(3), cases.noise(2, 4000)
    ours: Any = cases.ours(cases.cascade("scan"), sections, x)
    dasp: Any = cases.dasp_case(peers, sections, x)
    assert relative_rms(cases.as_numpy(dasp.forward()), ours.forward()) < 1e-4
    (value, (_, dx)), (dasp_value, (_, dasp_dx)) = ours.gradient(), dasp.gradient()
    assert dasp_value.item() == pytest.approx(float(value), rel=1e-3)
    assert relative_rms(cases.as_numpy(dasp_dx), dx) < 1e-3

    a = cases.varying_coefficients(2, 4000, 3)
    ours: Any = cases.ours(cases.allpole("scan"), a, x)
    lpc: Any = cases.torchlpc_case(peers, a, x)
    assert relative_rms(cases.as_numpy(lpc.forward()), ours.forward()) < 1e-5
    for got, expected in zip(lpc.gradient()[1], ours.gradient()[1], strict=True):
        assert relative_rms(cases.as_numpy(got), expected) < 1e-4


@pytest.mark.slow
def test_memory_of_gradients_is_measured_in_processes_of_their_own(results, monkeypatch):
    monkeypatch.setattr(config, "QUICK", config.QUICK._replace(memory=(4, 65_536)))
    assert quick(results, "memory") == 0
    rows = {row["function"]: row for row in read(results)["memory"]["rows"]}
    assert set(rows) >= {"cascade, fsm", "allpole, scan"}
    assert rows["cascade, fsm"]["input MiB"] == pytest.approx(1, rel=1e-3)
    assert rows["allpole, scan"]["input MiB"] == 3
    for row in rows.values():
        assert row["planned"] > 1  # the gradient alone is as large as the input
        assert row["measured"] is None or 1 < row["measured"] < row["planned"] + 30


@pytest.mark.slow
def test_a_failing_memory_process_says_why(results):
    with pytest.raises(RuntimeError, match=r"exited with 1: (.|\n)*method is 'nonsense'"):
        evaluate.memory_of("cascade", "nonsense", 1, 8)


# Inputs


@pytest.mark.parametrize("order", [1, 2, 5])
@pytest.mark.slow
def test_direct_form_has_the_given_reflections(results, order):
    """The reflections come back from the polynomial by the step-down recursion."""
    k = np.random.default_rng(order).uniform(-0.9, 0.9, order)
    a = cases.direct_form(k)
    for expected in k[::-1]:
        assert a[-1] == pytest.approx(expected)
        a = (a[:-1] - a[-1] * a[-2::-1]) / (1 - a[-1] ** 2)


@pytest.mark.slow
def test_varying_coefficients_are_stable_and_smooth(results):
    a = cases.varying_coefficients(3, 2000, 4)
    assert a.shape == (3, 2000, 4)
    poles = [np.abs(np.roots([1, *row])).max() for row in a[:, ::50].reshape(-1, 4)]
    assert 0.3 < max(poles) < 0.99
    assert np.abs(np.diff(a, axis=1)).max() < 0.05
    assert np.ptp(a, axis=1).min() > 0.1
    assert not np.allclose(a[0], a[1])


@pytest.mark.slow
def test_allpole_reference_is_the_plain_loop(results):
    a, x = cases.varying_coefficients(2, 40, 3), cases.noise(2, 40)
    expected = [reference.allpole(a[i], x[i], np.zeros(3))[0] for i in range(2)]
    np.testing.assert_allclose(cases.allpole_reference(a, x), expected, rtol=1e-12)


@pytest.mark.slow
def test_gradient_is_that_of_the_sum_of_squares(results):
    sections = cases.second_order_sections(2)
    x = cases.noise(1, 50)
    case: Any = cases.ours(cases.cascade("scan"), sections, x)
    value, (by_sections, by_x) = case.gradient()
    y = np.asarray(scipy.signal.sosfilt(sections.sos, x.astype(float)))
    assert float(value) == pytest.approx(np.sum(y**2), rel=1e-5)
    assert isinstance(by_sections, allpass.Sections)
    # By the signal: twice the transpose of the filter applied to its output.
    expected = 2 * np.flip(scipy.signal.sosfilt(sections.sos, np.flip(y, -1)), -1)
    assert relative_rms(by_x, expected) < 1e-5


@pytest.mark.slow
def test_a_native_kernel_is_measured_where_there_is_one(results):
    def with_kernel(method):
        return lambda x: x

    def without(method):
        raise ValueError(f"method is {method!r}; choose another.")

    assert cases.methods(with_kernel, (1.0,), ("scan",)) == ("scan", "native")
    assert cases.methods(without, (1.0,), ("scan",)) == ("scan",)


@pytest.mark.slow
def test_long_loops_are_left_out_on_a_gpu_only(results, monkeypatch):
    assert not cases.too_many_steps("scan", 10**9, 4)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert cases.too_many_steps("scan", 65_536, 4)
    assert not cases.too_many_steps("scan", 2048, 4)
    assert not cases.too_many_steps("blocked", 10**9, 4)


@pytest.mark.slow
def test_a_peer_that_is_not_there_is_named(results, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    missing: list[str] = []
    assert cases.load("no_such_package.signal", missing) is None
    assert cases.load("torch", missing) is None
    assert missing[0] == "no_such_package is not installed"
    assert missing[1].startswith("torch")
    assert cases.load("json", missing) is json
    peers = cases.find_peers()
    assert (peers.torch, peers.dasp, peers.torchlpc) == (None, None, None)


# The clock


# Tables, goals, picture


def timings(forward, gradient):
    return {"forward ms": forward, "gradient ms": gradient, "gradient / forward": gradient / forward}


@pytest.mark.slow
def test_goals_of_the_cascade(results):
    rows = {
        "cascade, auto": timings(2.0, 6.0) | {"speed / SciPy": 1.4},
        "cascade, fsm": timings(29.0, 60.0),
    }
    found = evaluate.cascade_goals(1, 1_920_000, rows)
    assert [(goal["value"], goal["met"]) for goal in found] == [(1.4, False), (3.0, True), (14.5, False)]
    assert len(evaluate.cascade_goals(16, 65_536, rows)) == 2
    assert evaluate.verdict(found, evaluate.cell).startswith(
        "Goals met: 1 of 3. **Missed**: 1 x 1920000, auto: times SciPy's"
    )


@pytest.mark.slow
def test_goals_of_allpole(results):
    auto = {"speed / torchlpc": 1.0, "gradient speed / torchlpc": 1.49}
    rows = {"allpole, auto": auto, cases.TORCHLPC: {}}
    assert [goal["met"] for goal in evaluate.allpole_goals("size", rows)] == [True, False]
    assert evaluate.allpole_goals("size", {"allpole, auto": {}}) == []


@pytest.mark.slow
def test_goal_of_memory_takes_the_larger_figure(results, monkeypatch):
    monkeypatch.setattr(cases, "CASCADE_METHODS", ("auto", "blocked"))
    monkeypatch.setattr(evaluate, "memory_of", lambda *arguments: {"planned": 5.9, "measured": 6.1})
    goals = evaluate.memory(config.QUICK, NO_PEERS)["goals"]
    assert [(goal["value"], goal["met"]) for goal in goals] == [(6.1, False)]


@pytest.mark.slow
def test_goals_are_printed_met_or_missed(results, capsys):
    command.report("cascade", [evaluate.at_least("speed", 2.0, 1.5), evaluate.at_most("cost", 4.0, 3.0)])
    assert capsys.readouterr().out == (
        "met    cascade: speed, at least 1.5 (2.00)\nMISSED cascade: cost, at most 3 (4.00)\n"
    )


@pytest.mark.slow
def test_copy_bandwidth_and_its_fraction(results, monkeypatch):
    """On a clock by which every call takes 2 ms, a copy of 1 MiB moves 2 MiB in that time."""
    monkeypatch.setattr(measuring, "timed", lambda call: (call(), 2e-3)[1])
    settings = config.QUICK._replace(copied_bytes=2**20)
    assert evaluate.copy_bandwidth(2**20, settings) == pytest.approx(2**21 / 2e-3)
    rows = {"ours": {"forward ms": 8.0}, cases.SCIPY: {"forward ms": 8.0}}
    evaluate.bandwidth_columns(rows, 2**21, settings)
    assert rows["ours"] == {"forward ms": 8.0}  # not on a CPU
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    evaluate.bandwidth_columns(rows, 2**21, settings)
    assert rows["ours"]["of copy bandwidth"] == pytest.approx(0.25)
    assert rows[cases.SCIPY]["of copy bandwidth"] is None


@pytest.mark.slow
def test_labels_move_apart_and_no_further(results):
    places = figures.spread(np.array([50.0, 0.0, 1.0, 2.0, 100.0]), 10.0)
    np.testing.assert_allclose(places, [50, -9, 1, 11, 100])


@pytest.mark.slow
def test_results_of_a_gpu_have_their_own_name_and_markers(results, monkeypatch):
    found = {"made_with": "Made.", "memory": {"rows": [{"function": "f", "planned": 1.0}], "goals": []}}
    assert list(evaluate.markdown(found)) == ["memory"]
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert list(evaluate.markdown(found)) == ["memory-gpu"]


@pytest.mark.parametrize(
    "text", [None, "no markers", "<!-- cascade:end --><!-- cascade:begin -->", README * 2]
)
@pytest.mark.slow
def test_a_readme_that_cannot_be_updated_is_refused_first(results, tmp_path, capsys, text):
    if text is not None:
        (tmp_path / "README.md").write_text(text, encoding="utf-8")
    assert quick(results, "cascade", "--update", str(tmp_path)) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not any(results.glob("*"))


@pytest.mark.slow
def test_the_experiments_own_tables_can_be_updated():
    names = ("summary", *evaluate.FIGURES)
    tables.check(FOLDER, [f"{name}{suffix}" for name in names for suffix in ("", "-gpu")])


@pytest.mark.slow
def test_an_unknown_figure_is_refused(results, capsys):
    with pytest.raises(SystemExit, match="2"):
        command.main(["--only", "cascade,speed"])
    assert "'speed' is none of cascade, allpole" in capsys.readouterr().err


@pytest.mark.slow
def test_the_compilation_cache_stays_out(results):
    before = getattr(jax.config, evaluate.CACHE)
    with evaluate.fresh_compilations():
        assert not getattr(jax.config, evaluate.CACHE)
    assert getattr(jax.config, evaluate.CACHE) == before


# Effects


def test_smoke(results, tmp_path, monkeypatch):
    """Memory is left out: it needs processes of its own."""
    monkeypatch.setattr(cases, "find_peers", lambda: NO_PEERS)
    monkeypatch.setattr(cases, "cascade_methods", lambda: ("auto",))
    (tmp_path / "README.md").write_text(README, encoding="utf-8")
    assert quick(results, "cascade,growth", "--update", str(tmp_path)) == 0
    assert {row["function"] for row in read(results)["cascade"]["rows"]} >= {"cascade, auto", cases.SCIPY}
    assert sorted(path.suffix for path in results.iterdir()) == [".json", ".md", ".png"]


@pytest.mark.slow
def test_effects_are_measured(results, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cases, "find_peers", lambda: NO_PEERS)
    (tmp_path / "README.md").write_text("<!-- effects:begin -->\n<!-- effects:end -->", encoding="utf-8")
    assert quick(results, "effects", "--update", str(tmp_path)) == 0
    rows = read(results)["effects"]["rows"]
    names = ["equalizer", "equalizer, fsm", "compressor", "compressor, peak, dB"]
    assert [row["function"] for row in rows] == names
    assert all(row["forward ms"] > 0 and row["gradient speed / dasp"] is None for row in rows)
    assert "| 2 x 300 | equalizer |" in (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "torch is not installed" in capsys.readouterr().err


@pytest.mark.slow
def test_the_equaliser_measured_is_scipy_s(results):
    x = 0.3 * cases.noise(2, 500)
    made = effects.equalizer_cases(x, NO_PEERS)
    values = effects.controls(params.EQUALIZER, 2)
    sos = equalizer.sections(equalizer.packed(np.asarray(values, np.float64)), 48e3).sos
    expected = np.stack(
        [scipy.signal.sosfilt(*both) for both in zip(sos, np.asarray(x, np.float64), strict=True)]
    )
    assert relative_rms(np.asarray(made["equalizer"].forward()), expected) < 1e-4


@pytest.mark.slow
def test_the_peer_s_compressor_is_ours_with_one_time(results, monkeypatch):
    pytest.importorskip("torch")
    pytest.importorskip("dasp_pytorch.functional")
    peers = cases.find_peers()
    x = 0.3 * cases.noise(2, 8000)
    drawn = effects.controls(params.COMPRESSOR, 2)
    drawn[3] = drawn[2]  # release, attack
    monkeypatch.setattr(effects, "controls", lambda specification, batch: drawn)
    made = effects.compressor_cases(x, peers)
    ours = np.asarray(made["compressor, peak, dB"].forward())
    assert relative_rms(cases.as_numpy(made[effects.DASP["compressor"]].forward()), ours) < 2e-2
    assert relative_rms(np.asarray(made["compressor"].forward()), ours) > 0.05


@pytest.mark.slow
def test_goals_are_for_both_directions(results, monkeypatch):
    rows = {
        "equalizer": {"forward ms": 1.0, "gradient ms": 2.0},
        "dasp_pytorch parametric_eq": {"forward ms": 6.0, "gradient ms": 8.0},
    }
    monkeypatch.setattr(evaluate, "timed_cases", lambda made, settings: {k: dict(v) for k, v in rows.items()})
    monkeypatch.setattr(effects, "EFFECTS", {"equalizer": lambda x, peers: {}})
    found = evaluate.effect(config.QUICK._replace(effects=((2, 300),)), NO_PEERS)
    assert [(goal["value"], goal["met"]) for goal in found["goals"]] == [(6.0, True), (4.0, False)]
    found = {"made_with": "Made.", "effects": found}
    assert "**Missed**" in evaluate.markdown(found)["effects"]
    assert (
        "| equalizer | 2 x 300 | 1.00 | 2.00 | dasp_pytorch parametric_eq | 6.00 | 4.00 |"
        in (evaluate.markdown(found)["summary"])
    )
