"""The comparison of recursion and sampling: its truth, its measures, its tables, its command."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.signal

from jaxapf import allpass
from jaxapf._internal import arrays

FOLDER = Path(__file__).parent
MODULES = (
    *("config", "cost", "errors", "forms", "memory", "moving", "pictures", "race", "run"),
    *("standing", "lookup", "captions", "tables"),
)
README = "# Title\n\n<!-- comparison:begin -->\nold\n<!-- comparison:end -->\n\nThe rest, 3.\n"


@pytest.fixture
def module(monkeypatch, loose_jax):
    """A function that imports one of the experiment's modules, none of another's of the same name."""
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture
def float64():
    with arrays.enable_x64():
        yield


def central_difference(function, at, step=1e-6):
    slopes = np.zeros_like(at)
    for index in np.ndindex(at.shape):
        moved = np.array([at, at])
        moved[(0, *index)] += step
        moved[(1, *index)] -= step
        slopes[index] = (function(moved[0]) - function(moved[1])) / (2 * step)
    return slopes


def test_the_truth_is_scipys_filter_and_its_differences(module, float64):
    standing, config = module("standing"), module("config")
    one = standing.drawn(2, 3, 400, 0.97)
    found = standing.truth(one)
    for draw in range(2):
        gap, angle = (leaf[draw] for leaf in one.place)
        x, target = (leaf[draw] for leaf in one.signals)

        def output(offset, gap=gap, angle=angle, x=x):
            narrowing, shift = offset
            hz = (angle + gap * shift) * config.FS / (2 * np.pi)
            sections = allpass.second_order(1 - gap * np.exp(narrowing), hz, config.FS)
            return scipy.signal.sosfilt(sections.sos, x)

        def loss(offset, output=output, target=target):
            return np.mean((output(offset) - target) ** 2)

        at = np.zeros((2, 3))
        wanted = np.array([np.full(3, config.NARROWING), np.full(3, config.SHIFT)])
        np.testing.assert_allclose(output(wanted), target, rtol=0, atol=1e-10)
        np.testing.assert_allclose(output(at), found.y[draw], rtol=0, atol=1e-10)
        assert found.loss[draw] == pytest.approx(loss(at), rel=1e-9)
        slopes = central_difference(loss, at).ravel()
        np.testing.assert_allclose(found.gradient[draw], slopes, rtol=1e-5, atol=1e-7)


def test_the_truth_of_moving_sections_is_its_differences(module, float64):
    moving, forms = module("moving"), module("forms")
    one = moving.drawn(1, 2, 600, 0.9, 30.0)
    found = moving.truth(one)
    x, target = (leaf[0] for leaf in one.signals)
    at = np.concatenate([leaf[0] for leaf in one.sweep])

    def loss(flat):
        sweep = forms.Sweep(*np.split(flat, 4))
        y = forms.every_sample("scan")(one.rate_hz[0], sweep, x)
        return float(np.mean((np.asarray(y) - target) ** 2))

    np.testing.assert_allclose(found.gradient[0], central_difference(loss, at), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("kind", ["sampled", "sampled_rows"])
def test_sampling_with_enough_padding_is_the_recursion(module, float64, kind):
    standing, forms, errors = module("standing"), module("forms"), module("errors")
    one = standing.drawn(2, 2, 256, 0.9)
    exact = standing.truth(one)
    row = errors.compared(standing.measured(getattr(forms, kind)(1024), one), exact, one.signals.x)
    assert row["value"] < 1e-12
    assert row["gradient"] < 1e-10
    wrapped = errors.compared(standing.measured(getattr(forms, kind)(256), one), exact, one.signals.x)
    assert wrapped["value"] > 1e-2


def test_measures_of_error(module):
    errors = module("errors")
    truth = errors.Found(np.array([[3.0, 4.0]]), np.array([2.0]), np.array([[1.0, 0.0]]))
    found = errors.Found(np.array([[3.0, 4.5]]), np.array([2.5]), np.array([[1.0, 1.0]]))
    row = errors.compared(found, truth, np.array([[3.0, 3.0]]))
    assert row["value"] == pytest.approx(0.1)
    assert row["effect"] == pytest.approx(0.5)
    assert row["loss"] == pytest.approx(0.25)
    assert row["gradient"] == pytest.approx(1.0)
    assert row["cosine"] == pytest.approx(np.sqrt(0.5))


def test_the_padding_needed_is_the_least_from_which_on_all_are_close(module):
    lookup = module("lookup")
    errors = {1.0: 0.5, 2.0: 0.009, 3.0: 0.02, 5.0: 0.008, 9.0: 0.001}
    rows = [{"constants": constants, "gradient": error} for constants, error in errors.items()]
    assert lookup.needed(rows, 0.01, "gradient") == 5.0
    assert lookup.needed(rows, 1.0, "gradient") == 1.0
    assert lookup.needed(rows, 1e-4, "gradient") is None


def test_a_headline_that_a_run_does_not_bear_out_says_so(module):
    captions = module("captions")
    row = {"order": 2, "form": "2x", "value": 0.1, "gradient": 0.1, "gradient, worst": 0.2}
    own = row | {"form": "recursion", "value": 1e-6, "gradient": 1e-6}
    same = [row, row | {"order": 8}, own]
    grown = [row, row | {"order": 8, "gradient": 2.0}, own]
    assert captions.said_of_order(same).startswith("**The order matters less")
    assert captions.said_of_order(grown).startswith("**Not found in this run**: The order")


def test_what_is_said_of_a_race_is_what_its_starts_did(module):
    captions = module("captions")
    starts = [{"steps": 7, "end_db": -41.2}, {"steps": None, "end_db": -30.0}, {"steps": 9, "end_db": -35.0}]
    said = "reaches -40 dB in 2 of 3 (after 7, 9 steps) and ends at -41, -30, -35 dB"
    assert captions.course_said(starts) == said
    assert captions.course_said(starts[1:2]) == "reaches -40 dB in 0 of 1 and ends at -30 dB"


def test_a_race_is_over_at_the_first_step_that_is_near_enough(module):
    race = module("race")
    course = race.Course(None, np.zeros(4), 0.5, 2.0)
    way = [(0, 0.0), (1, -39.0), (2, -41.0), (3, -30.0), (4, -50.0)]
    row = race.judged(course, way)
    assert (row["steps"], row["seconds"], row["end_db"], row["least_db"]) == (2, 1.0, -50.0, -50.0)
    assert race.judged(course, way[:2])["steps"] is None


def test_filters_that_blow_up_are_seen(module, float64):
    race = module("race")

    def blown(radius):
        d, c = -2 * radius * np.cos(0.4), radius**2
        outside = bool(race._outside(np.array([c]), np.array([d])))
        sos = np.array([[c, d, 1.0, 1.0, d, c]], np.float32)
        return outside, bool(race._blown_up(race.jnp.asarray(sos)))

    assert blown(0.99) == (False, False)
    assert blown(1.01) == (True, True)


def test_training_in_float32_arrives_at_a_known_cascade(module, float64):
    race, forms, config = module("race"), module("forms"), module("config")
    x = np.random.default_rng(config.SEED).standard_normal((2, 500))
    answer = allpass.second_order(0.8, 4000.0, config.FS)
    model = race.of_margins(forms.exact("auto"))
    problem = race.Problem(x, np.asarray(allpass.cascade(answer, x)), race.beside(answer, 0))
    course = race.trained(model, problem, 150)
    assert course.weights.u.dtype == np.float32
    way = race.distances_db(model, course, x, problem.wanted)
    assert way[0][1] > -20
    assert race.judged(course, way)["end_db"] < -50
    best = race.best_of(problem, race.after(course, -1))
    assert best.loss < 1e-10
    np.testing.assert_allclose(best.output, problem.wanted, atol=1e-4)


def test_some_figures_are_made_written_and_put_into_a_readme(module, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    run, config = module("run"), module("config")
    run.config.QUICK = config.QUICK._replace(radii=(0.9, 0.999))
    readme = tmp_path / "README.md"
    readme.write_text(README)
    folder = tmp_path / "results"
    options = ["--quick", "--only", "radius,near", "--folder", str(folder), "--update", str(readme)]
    assert run.main(options) == 0
    rows = json.loads((folder / "radius.json").read_text())["rows"]
    assert {row["form"] for row in rows} == {"1x", "2x", "4x", "recursion"}
    assert (tmp_path / "radius.svg").stat().st_size > 5000
    text = readme.read_text()
    assert "### Pole radius" in text
    assert "### Distance from the answer" in text
    assert "old" not in text
    assert text.endswith("The rest, 3.\n")
    assert "Quick run" in capsys.readouterr().out


@pytest.mark.slow
def test_all_figures_are_made(module, tmp_path):
    pytest.importorskip("matplotlib")
    run, pictures = module("run"), module("pictures")
    assert run.main(["--quick", "--folder", str(tmp_path)]) == 0
    assert {path.stem for path in tmp_path.glob("*.json")} == set(run.MEASURES)
    assert {path.stem for path in tmp_path.glob("*.svg")} == set(pictures.DRAWN)


def test_mistakes_are_one_sentence(module, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    run = module("run")
    with pytest.raises(SystemExit) as stopped:
        run.main(["--only", "colour"])
    assert stopped.value.code == 2
    assert "'colour' is none of radius," in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert run.main(["--folder", str(tmp_path / "file" / "results")]) == 2
    assert "cannot be written" in capsys.readouterr().err
    (tmp_path / "README.md").write_text("no markers")
    folder = str(tmp_path / "results")
    assert run.main(["--folder", folder, "--update", str(tmp_path / "README.md")]) == 2
    assert "<!-- comparison:begin -->" in capsys.readouterr().err


def test_a_file_that_is_none_of_ours_is_found_before_the_work(module, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    (tmp_path / "box.json").write_text("{}")
    assert module("run").main(["--quick", "--only", "radius", "--folder", str(tmp_path)]) == 2
    assert "box.json' is no file of figures" in capsys.readouterr().err
    assert not (tmp_path / "radius.json").exists()


def test_figures_have_tables_and_measures(module):
    assert list(module("tables").FIGURES) == list(module("run").MEASURES)
