"""The benchmark on tiny sizes: its inputs, its clock, its tables and its picture."""

import importlib.util
import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import reference
import scipy.signal
from signals import relative_rms

from experiments.common import measuring, runner
from jaxapf import allpass

FOLDER = Path(__file__).parent
MODULES = ("cases", "config", "memory", "picture")
README = "# Title\n\n<!-- benchmark:begin -->\nold\n<!-- benchmark:end -->\n\nThe rest, 3.\n"
TORCH = importlib.util.find_spec("torch") is not None


@pytest.fixture
def run(monkeypatch, tmp_path, loose_jax):
    """The script as a module, with even smaller quick sizes, writing into a temporary folder."""
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in MODULES:  # another experiment's modules may have the same names
        monkeypatch.delitem(sys.modules, name, raising=False)
    spec = importlib.util.spec_from_file_location("benchmark_run", FOLDER / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.config
    panels = {
        "length": config.Panel("n_samples", (64,)),
        "length, gradient": config.Panel("n_samples", (64,), gradient=True),
    }
    tiny = config.QUICK._replace(cascade=((2, 2048),), allpole=((2, 300, 3),), growth=panels)
    monkeypatch.setattr(config, "QUICK", tiny)
    monkeypatch.setattr(module.cases, "CASCADE_METHODS", ("auto", "fsm"))
    monkeypatch.setattr(module.cases, "ALLPOLE_METHODS", ("auto", "scan"))
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    yield module
    for name in MODULES:
        sys.modules.pop(name, None)


def results_of(run) -> dict:
    return json.loads((run.RESULTS / "benchmark.json").read_text(encoding="utf-8"))


def test_a_quick_run_measures_draws_and_updates_the_readme(run, tmp_path, capsys, monkeypatch):
    no_peers = run.cases.Peers(None, None, None, "cpu", ["torch is not installed"])
    monkeypatch.setattr(run.cases, "find_peers", lambda: no_peers)
    readme = tmp_path / "README.md"
    readme.write_text(README, encoding="utf-8")
    arguments = ["--quick", "--only", "cascade,allpole,growth", "--update", str(readme)]
    assert run.main(arguments) == 0
    results = results_of(run)

    cascade = {row["function"]: row for row in results["cascade"]["rows"]}
    assert set(cascade) >= {"cascade, auto", "cascade, fsm", "sosfilt, auto"}
    assert all(row["error"] < 2e-5 for row in cascade.values())
    assert cascade["cascade, fsm"]["error"] != cascade["cascade, auto"]["error"]
    scipy_row = cascade["scipy.signal.sosfilt"]
    assert (scipy_row["gradient ms"], scipy_row["compile s"], scipy_row["speed / SciPy"]) == (None, None, 1)
    auto = cascade["cascade, auto"]
    assert auto["gradient / forward"] == auto["gradient ms"] / auto["forward ms"]
    assert auto["speed / SciPy"] == scipy_row["forward ms"] / auto["forward ms"]
    assert auto["compile gradient s"] > 10e-3 * auto["gradient ms"]

    assert {row["function"] for row in results["allpole"]["rows"]} >= {"allpole, auto", "allpole, scan"}
    assert all(row["error"] < 1e-5 for row in results["allpole"]["rows"])

    points = {(row["panel"], row["function"], row["at"]) for row in results["growth"]["rows"]}
    assert {("length", "auto", 64), ("length, gradient", "fsm", 64)} < points
    assert ("length", "scipy.signal.sosfilt", 64) in points
    assert ("length, gradient", "scipy.signal.sosfilt", 64) not in points

    tables = (run.RESULTS / "benchmark.md").read_text(encoding="utf-8")
    begin, end = "<!-- benchmark:begin -->\n", "<!-- benchmark:end -->"
    assert readme.read_text(encoding="utf-8") == README.replace(f"{begin}old\n{end}", begin + tables + end)
    assert tables.count("\n| --- |") == 4
    assert (run.RESULTS / "benchmark.png").stat().st_size > 10_000
    out, err = capsys.readouterr()
    assert out == ""  # goals are for the full sizes
    assert err == "left out: torch is not installed (pip install 'jaxapf[peers]')\n"


@pytest.mark.skipif(not TORCH, reason="the peers are not installed")
def test_peers_compute_the_same(run):
    peers = run.cases.find_peers()
    if peers.missing:
        pytest.skip(str(peers.missing))
    sections, x = run.cases.second_order_sections(3), run.cases.noise(2, 4000)
    ours = run.cases.ours(run.cases.cascade("scan"), sections, x)
    dasp = run.cases.dasp_case(peers, sections, x)
    assert relative_rms(run.cases.as_numpy(dasp.forward()), ours.forward()) < 1e-4
    (value, (_, dx)), (dasp_value, (_, dasp_dx)) = ours.gradient(), dasp.gradient()
    assert dasp_value.item() == pytest.approx(float(value), rel=1e-3)
    assert relative_rms(run.cases.as_numpy(dasp_dx), dx) < 1e-3

    a = run.cases.varying_coefficients(2, 4000, 3)
    ours = run.cases.ours(run.cases.allpole("scan"), a, x)
    lpc = run.cases.torchlpc_case(peers, a, x)
    assert relative_rms(run.cases.as_numpy(lpc.forward()), ours.forward()) < 1e-5
    for got, expected in zip(lpc.gradient()[1], ours.gradient()[1], strict=True):
        assert relative_rms(run.cases.as_numpy(got), expected) < 1e-4


@pytest.mark.slow
def test_memory_of_gradients_is_measured_in_processes_of_their_own(run, monkeypatch):
    monkeypatch.setattr(run.config, "QUICK", run.config.QUICK._replace(memory=(4, 65_536)))
    assert run.main(["--quick", "--only", "memory"]) == 0
    rows = {row["function"]: row for row in results_of(run)["memory"]["rows"]}
    assert set(rows) >= {"cascade, fsm", "allpole, scan"}
    assert rows["cascade, fsm"]["input MiB"] == pytest.approx(1, rel=1e-3)
    assert rows["allpole, scan"]["input MiB"] == 3
    for row in rows.values():
        assert row["planned"] > 1  # the gradient alone is as large as the input
        assert row["measured"] is None or 1 < row["measured"] < row["planned"] + 30


def test_a_failing_memory_process_says_why(run):
    with pytest.raises(RuntimeError, match=r"exited with 1: (.|\n)*method is 'nonsense'"):
        run.memory_of("cascade", "nonsense", 1, 8)


# Inputs


@pytest.mark.parametrize("order", [1, 2, 5])
def test_direct_form_has_the_given_reflections(run, order):
    """The reflections come back from the polynomial by the step-down recursion."""
    k = np.random.default_rng(order).uniform(-0.9, 0.9, order)
    a = run.cases.direct_form(k)
    for expected in k[::-1]:
        assert a[-1] == pytest.approx(expected)
        a = (a[:-1] - a[-1] * a[-2::-1]) / (1 - a[-1] ** 2)


def test_varying_coefficients_are_stable_and_smooth(run):
    a = run.cases.varying_coefficients(3, 2000, 4)
    assert a.shape == (3, 2000, 4)
    poles = [np.abs(np.roots([1, *row])).max() for row in a[:, ::50].reshape(-1, 4)]
    assert 0.3 < max(poles) < 0.99
    assert np.abs(np.diff(a, axis=1)).max() < 0.05
    assert np.ptp(a, axis=1).min() > 0.1
    assert not np.allclose(a[0], a[1])


def test_allpole_reference_is_the_plain_loop(run):
    a, x = run.cases.varying_coefficients(2, 40, 3), run.cases.noise(2, 40)
    expected = [reference.allpole(a[i], x[i], np.zeros(3))[0] for i in range(2)]
    np.testing.assert_allclose(run.cases.allpole_reference(a, x), expected, rtol=1e-12)


def test_gradient_is_that_of_the_sum_of_squares(run):
    sections = run.cases.second_order_sections(2)
    x = run.cases.noise(1, 50)
    value, (by_sections, by_x) = run.cases.ours(run.cases.cascade("scan"), sections, x).gradient()
    y = np.asarray(scipy.signal.sosfilt(sections.sos, x.astype(float)))
    assert float(value) == pytest.approx(np.sum(y**2), rel=1e-5)
    assert isinstance(by_sections, allpass.Sections)
    # By the signal: twice the transpose of the filter applied to its output.
    expected = 2 * np.flip(scipy.signal.sosfilt(sections.sos, np.flip(y, -1)), -1)
    assert relative_rms(by_x, expected) < 1e-5


def test_a_native_kernel_is_measured_where_there_is_one(run):
    def with_kernel(method):
        return lambda x: x

    def without(method):
        raise ValueError(f"method is {method!r}; choose another.")

    assert run.cases.methods(with_kernel, (1.0,), ("scan",)) == ("scan", "native")
    assert run.cases.methods(without, (1.0,), ("scan",)) == ("scan",)


def test_long_loops_are_left_out_on_a_gpu_only(run, monkeypatch):
    assert not run.cases.too_many_steps("scan", 10**9, 4)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert run.cases.too_many_steps("scan", 65_536, 4)
    assert not run.cases.too_many_steps("scan", 2048, 4)
    assert not run.cases.too_many_steps("blocked", 10**9, 4)


def test_a_peer_that_is_not_there_is_named(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    missing: list[str] = []
    assert run.cases.load("no_such_package.signal", missing) is None
    assert run.cases.load("torch", missing) is None
    assert missing[0] == "no_such_package is not installed"
    assert missing[1].startswith("torch")
    assert run.cases.load("json", missing) is json
    peers = run.cases.find_peers()
    assert (peers.torch, peers.dasp, peers.torchlpc) == (None, None, None)


# The clock


# Tables, goals, picture


def timings(forward, gradient):
    return {"forward ms": forward, "gradient ms": gradient, "gradient / forward": gradient / forward}


def test_goals_of_the_cascade(run):
    rows = {
        "cascade, auto": timings(2.0, 6.0) | {"speed / SciPy": 1.4},
        "cascade, fsm": timings(29.0, 60.0),
    }
    found = run.cascade_goals(1, 1_920_000, rows)
    assert [(goal["value"], goal["met"]) for goal in found] == [(1.4, False), (3.0, True), (14.5, False)]
    assert len(run.cascade_goals(16, 65_536, rows)) == 2
    assert run.verdict(found, run.cell).startswith(
        "Goals met: 1 of 3. **Missed**: 1 x 1920000, auto: times SciPy's"
    )


def test_goals_of_allpole(run):
    auto = {"speed / torchlpc": 1.0, "gradient speed / torchlpc": 1.49}
    rows = {"allpole, auto": auto, run.cases.TORCHLPC: {}}
    assert [goal["met"] for goal in run.allpole_goals("size", rows)] == [True, False]
    assert run.allpole_goals("size", {"allpole, auto": {}}) == []


def test_goal_of_memory_takes_the_larger_figure(run, monkeypatch):
    monkeypatch.setattr(run.cases, "CASCADE_METHODS", ("auto", "blocked"))
    monkeypatch.setattr(run, "memory_of", lambda *arguments: {"planned": 5.9, "measured": 6.1})
    goals = run.memory(run.config.QUICK, None, lambda text: None)["goals"]
    assert [(goal["value"], goal["met"]) for goal in goals] == [(6.1, False)]


def test_goals_are_printed_met_or_missed(run, capsys):
    run.report("cascade", [run.at_least("speed", 2.0, 1.5), run.at_most("cost", 4.0, 3.0)])
    assert capsys.readouterr().out == (
        "met    cascade: speed, at least 1.5 (2.00)\nMISSED cascade: cost, at most 3 (4.00)\n"
    )


def test_copy_bandwidth_and_its_fraction(run, monkeypatch):
    """On a clock by which every call takes 2 ms, a copy of 1 MiB moves 2 MiB in that time."""
    monkeypatch.setattr(measuring, "timed", lambda call: (call(), 2e-3)[1])
    settings = run.config.QUICK._replace(copied_bytes=2**20)
    assert run.copy_bandwidth(2**20, settings) == pytest.approx(2**21 / 2e-3)
    rows = {"ours": {"forward ms": 8.0}, run.cases.SCIPY: {"forward ms": 8.0}}
    run.bandwidth_columns(rows, 2**21, settings)
    assert rows["ours"] == {"forward ms": 8.0}  # not on a CPU
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    run.bandwidth_columns(rows, 2**21, settings)
    assert rows["ours"]["of copy bandwidth"] == pytest.approx(0.25)
    assert rows[run.cases.SCIPY]["of copy bandwidth"] is None


def test_labels_move_apart_and_no_further(run):
    picture = importlib.import_module("picture")
    places = picture.spread(np.array([50.0, 0.0, 1.0, 2.0, 100.0]), 10.0)
    np.testing.assert_allclose(places, [50, -9, 1, 11, 100])


def test_results_of_a_gpu_have_their_own_name_and_markers(run, monkeypatch):
    assert run.result_name() == "benchmark"
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert run.result_name() == "benchmark-gpu"
    both = README + README.replace("benchmark:", "benchmark-gpu:")
    assert runner.updated(both, "new\n", "benchmark-gpu") == README + README.replace(
        "benchmark:", "benchmark-gpu:"
    ).replace("old", "new")


@pytest.mark.parametrize(
    "text", [None, "no markers", "<!-- benchmark:end --><!-- benchmark:begin -->", README * 2]
)
def test_a_readme_that_cannot_be_updated_is_refused_first(run, tmp_path, capsys, text):
    readme = tmp_path / "README.md"
    if text is not None:
        readme.write_text(text, encoding="utf-8")
    assert run.main(["--quick", "--update", str(readme)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not run.RESULTS.exists()


def test_the_experiments_own_readme_can_be_updated(run):
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name in ("benchmark", "benchmark-gpu"):
        assert "\nnew tables\n" in runner.updated(text, "new tables\n", name)


def test_an_unknown_figure_is_refused(run, capsys):
    with pytest.raises(SystemExit, match="2"):
        run.main(["--only", "cascade,speed"])
    assert "'speed' is not one of cascade, allpole" in capsys.readouterr().err


def test_the_compilation_cache_stays_out(run):
    before = getattr(jax.config, run.CACHE)
    with run.fresh_compilations():
        assert not getattr(jax.config, run.CACHE)
    assert getattr(jax.config, run.CACHE) == before
