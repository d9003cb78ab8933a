"""The comparison of recursion and sampling: its truth, its measures, its tables, its command."""

import json

import numpy as np
import pytest
import scipy.signal

from experiments.common import measuring, runner
from experiments.common import tables as shared
from experiments.gradient_comparison import __main__ as command
from experiments.gradient_comparison import config, errors, figures, forms, moving, race, standing, tables
from jaxapf import allpass

README = "# Title\n\n" + "\n".join(
    f"<!-- {name}:begin -->\nold\n<!-- {name}:end -->" for name in ("radius", "near", "length")
)


pytestmark = pytest.mark.usefixtures("loose_jax")


@pytest.fixture
def float64():
    with measuring.float64():
        yield


def central_difference(function, at, step=1e-6):
    slopes = np.zeros_like(at)
    for index in np.ndindex(at.shape):
        moved = np.array([at, at])
        moved[(0, *index)] += step
        moved[(1, *index)] -= step
        slopes[index] = (function(moved[0]) - function(moved[1])) / (2 * step)
    return slopes


@pytest.mark.slow
def test_the_truth_is_scipys_filter_and_its_differences(float64):
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


@pytest.mark.slow
def test_the_truth_of_moving_sections_is_its_differences(float64):
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
@pytest.mark.slow
def test_sampling_with_enough_padding_is_the_recursion(float64, kind):
    one = standing.drawn(2, 2, 256, 0.9)
    exact = standing.truth(one)
    row = errors.compared(standing.measured(getattr(forms, kind)(1024), one), exact, one.signals.x)
    assert row["value"] < 1e-12
    assert row["gradient"] < 1e-10
    wrapped = errors.compared(standing.measured(getattr(forms, kind)(256), one), exact, one.signals.x)
    assert wrapped["value"] > 1e-2


@pytest.mark.slow
def test_measures_of_error():
    truth = errors.Found(np.array([[3.0, 4.0]]), np.array([2.0]), np.array([[1.0, 0.0]]))
    found = errors.Found(np.array([[3.0, 4.5]]), np.array([2.5]), np.array([[1.0, 1.0]]))
    row = errors.compared(found, truth, np.array([[3.0, 3.0]]))
    assert row["value"] == pytest.approx(0.1)
    assert row["effect"] == pytest.approx(0.5)
    assert row["loss"] == pytest.approx(0.25)
    assert row["gradient"] == pytest.approx(1.0)
    assert row["cosine"] == pytest.approx(np.sqrt(0.5))


@pytest.mark.slow
def test_the_padding_needed_is_the_least_from_which_on_all_are_close():
    found = {1.0: 0.5, 2.0: 0.009, 3.0: 0.02, 5.0: 0.008, 9.0: 0.001}
    rows = [{"constants": constants, "gradient": error} for constants, error in found.items()]
    assert tables.needed(rows, 0.01, "gradient") == 5.0
    assert tables.needed(rows, 1.0, "gradient") == 1.0
    assert tables.needed(rows, 1e-4, "gradient") is None


@pytest.mark.slow
def test_a_race_is_over_at_the_first_step_that_is_near_enough():
    course = race.Course(None, np.zeros(4), 0.5, 2.0)
    way = [(0, 0.0), (1, -39.0), (2, -41.0), (3, -30.0), (4, -50.0)]
    row = race.judged(course, way)
    assert (row["steps"], row["seconds"], row["end_db"], row["least_db"]) == (2, 1.0, -50.0, -50.0)
    assert race.judged(course, way[:2])["steps"] is None


@pytest.mark.slow
def test_filters_that_blow_up_are_seen(float64):

    def blown(radius):
        d, c = -2 * radius * np.cos(0.4), radius**2
        outside = bool(race._outside(race.jnp.array([c]), race.jnp.array([d])))
        sos = np.array([[c, d, 1.0, 1.0, d, c]], np.float32)
        return outside, bool(race._blown_up(race.jnp.asarray(sos)))

    assert blown(0.99) == (False, False)
    assert blown(1.01) == (True, True)


@pytest.mark.slow
def test_training_in_float32_arrives_at_a_known_cascade(float64):
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


@pytest.mark.slow
def test_some_figures_are_made_written_and_put_into_a_readme(tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(config, "QUICK", config.QUICK._replace(radii=(0.9, 0.999)))
    readme = tmp_path / "README.md"
    readme.write_text(README)
    folder = tmp_path / "results"
    options = ["--quick", "--only", "radius,near", "--folder", str(folder), "--update", str(tmp_path)]
    assert command.main(options) == 0
    rows = json.loads((folder / "radius.json").read_text())["rows"]
    assert {row["form"] for row in rows} == {"1x", "2x", "4x", "recursion"}
    assert (tmp_path / "radius.svg").stat().st_size > 5000
    text = readme.read_text()
    assert "| radius | rings for |" in text
    assert "| distance | sampled 1x |" in text
    assert text.count("old") == 1  # of the figure that was not measured
    assert "Quick run" in capsys.readouterr().out


@pytest.mark.slow
def test_all_figures_are_made(tmp_path):
    pytest.importorskip("matplotlib")
    assert command.main(["--quick", "--folder", str(tmp_path)]) == 0
    assert {path.stem for path in tmp_path.glob("*.json")} == set(command.MEASURES)
    assert {path.stem for path in tmp_path.glob("*.svg")} == set(figures.DRAWN)


@pytest.mark.slow
def test_mistakes_are_one_sentence(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    with pytest.raises(SystemExit) as stopped:
        command.main(["--only", "colour"])
    assert stopped.value.code == 2
    assert "'colour' is none of radius," in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert command.main(["--folder", str(tmp_path / "file" / "results")]) == 2
    assert "cannot be written" in capsys.readouterr().err
    (tmp_path / "README.md").write_text("no markers")
    folder = str(tmp_path / "results")
    assert command.main(["--folder", folder, "--update", str(tmp_path)]) == 2
    assert ":begin -->" in capsys.readouterr().err


@pytest.mark.slow
def test_a_file_that_is_none_of_ours_is_found_before_the_work(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    (tmp_path / "box.json").write_text("{}")
    assert command.main(["--quick", "--only", "radius", "--folder", str(tmp_path)]) == 2
    assert "box.json' is no file of figures" in capsys.readouterr().err
    assert not (tmp_path / "radius.json").exists()


@pytest.mark.slow
def test_figures_have_tables_and_measures():
    assert list(tables.TABLES) == list(command.MEASURES)


@pytest.mark.slow
def test_the_experiments_own_tables_can_be_updated():
    shared.check(runner.ROOT / "gradient_comparison", [*tables.TABLES, "needed"])


def test_smoke(tmp_path, monkeypatch):
    """One figure of two radii, through the command."""
    pytest.importorskip("matplotlib")
    sizes = {"radii": (0.9, 0.99), "n_samples": 64, "n_sections": 1, "draws": 1}
    monkeypatch.setattr(config, "QUICK", config.QUICK._replace(**sizes))
    (tmp_path / "README.md").write_text(README)
    options = ["--quick", "--only", "radius", "--folder", str(tmp_path / "r"), "--update", str(tmp_path)]
    assert command.main(options) == 0
    assert {row["form"] for row in json.loads((tmp_path / "r" / "radius.json").read_text())["rows"]} >= {
        "1x",
        "2x",
    }
    assert (tmp_path / "radius.svg").exists()
    assert "| radius | rings for |" in (tmp_path / "README.md").read_text()
