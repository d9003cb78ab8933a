"""The pictures: their measurements against known answers, their files in a parser."""

import sys
import types
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy import signal

from experiments.black_box import __main__ as command
from experiments.black_box import figures
from experiments.common import pictures
from jaxapf import audio

pytestmark = pytest.mark.slow

FS = 48_000
SMALL = 300_000  # bytes


def all_pass(radius, cutoff_hz):
    c, d = radius**2, -2 * radius * np.cos(2 * np.pi * cutoff_hz / FS)
    return np.array([[c, d, 1.0, 1.0, d, c]])


def model(sos, delay=0):
    """What the picture asks of a model: a delay and sections."""
    return types.SimpleNamespace(
        apply=lambda x: signal.sosfilt(sos, np.concatenate([np.zeros(delay), x[: len(x) - delay]]))
    )


def draw_each():
    """The three pictures of made-up data, by name: functions of a path."""
    rng = np.random.default_rng(0)
    runs = {
        f"{effect}-{kind}-mse-0": [
            {"step": step, "loss": level / step * rng.uniform(0.9, 1.1)} for step in range(1, 4000)
        ]
        for effect in ("tape_gx", "tube", "strip")
        for kind, level in (("sequential", 1.0), ("connected", 3.0), ("naive", 9.0))
    }
    dry = 0.1 * rng.standard_normal(3 * FS)
    excerpts = [figures.Excerpts(name, dry, np.tanh(5 * dry), 2 * dry, FS) for name in ("tape_gx", "tube")]
    sweep = audio.log_sweep(2.0, FS)
    models = {"exact": model(all_pass(0.9, 900.0)), "paper, mse": model(all_pass(0.8, 900.0))}
    devices = [figures.Phase(n, sweep, model(all_pass(0.9, 900.0), 3).apply(sweep), FS, models) for n in "ab"]
    return {
        "losses": lambda path: figures.losses(runs, path),
        "alignment": lambda path: figures.alignment(excerpts, path),
        "phase": lambda path: figures.phase(devices, path),
    }


@pytest.mark.parametrize("kind", ["svg", "png"])
@pytest.mark.parametrize("name", ["losses", "alignment", "phase"])
def test_files_are_pictures_and_small(tmp_path, name, kind):
    path = tmp_path / f"{name}.{kind}"
    draw_each()[name](path)
    assert 5_000 < path.stat().st_size < SMALL
    assert list(tmp_path.iterdir()) == [path]
    if kind == "svg":
        assert ElementTree.parse(path).getroot().tag.endswith("svg")
    else:
        assert path.read_bytes().startswith(b"\x89PNG")


def test_equal_data_give_equal_files(tmp_path):
    draw = draw_each()["losses"]
    for name in ("one.svg", "two.svg"):
        draw(tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_lines_are_the_records(tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(pictures, "save", lambda figure, path, **_: kept.append(figure))
    steps = np.arange(10, 5000, 10)
    records = [{"step": int(step), "loss": 1 / step} for step in steps]
    records += [{"step": 5000, "loss": None}, {"step": 5010, "loss": -1.0}, {"step": 5020}]
    figures.losses({"a-x": records, "a-y": records[:5], "b-y": records[:7]}, tmp_path / "x.svg")
    (figure,) = kept
    one, two = figure.axes
    assert (one.get_title(loc="left"), two.get_title(loc="left")) == ("a", "b")
    x, y = one.lines[0].get_data()
    np.testing.assert_allclose(y, 1 / x)
    assert (x[0], x[-1]) == (pytest.approx(10), pytest.approx(4990))
    assert [len(line.get_xdata()) for line in (one.lines[1], two.lines[0])] == [5, 7]
    assert one.lines[1].get_color() == two.lines[0].get_color() != one.lines[0].get_color()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["x", "y"]
    pictures.plt.close(figure)


def test_excerpts_are_where_their_names_say():
    x = 1e-3 * np.random.default_rng(0).standard_normal(4 * FS)
    t = np.arange(FS // 2) / FS
    for second, hz in ((1, 70.0), (2, 450.0), (3, 3500.0)):
        x[second * FS : second * FS + len(t)] += 0.5 * np.sin(2 * np.pi * hz * t)
    for second, edges in enumerate(figures.BANDS.values(), start=1):
        found = figures.loudest(x, FS, edges)
        assert second * FS <= found.start < found.stop <= second * FS + len(t)
        assert (found.stop - found.start) / FS == pytest.approx(4 / np.sqrt(edges[0] * edges[1]), rel=1e-2)


@pytest.mark.parametrize("latency", [0, 7, 1500])
def test_phases_are_those_of_the_filters(latency):
    sweep = audio.log_sweep(5.0, FS)
    near, far = all_pass(0.97, 300.0), all_pass(0.5, 300.0)
    wet = -model(near, latency).apply(sweep)  # upside down: half a turn
    models = {"near": model(near, latency), "far": model(far, latency)}
    found = figures.curves_of(figures.Phase("a", sweep, wet, FS, models))
    inner = (found.freqs_hz > 25) & (found.freqs_hz < 15_000)
    expected = {}
    for name, sos in (("near", near), ("far", far)):
        response = signal.sosfreqz(sos, worN=found.freqs_hz, fs=FS)[1]
        delayed = response * np.exp(2j * np.pi * found.freqs_hz / FS * (found.delay_samples - latency))
        expected[name] = np.degrees(np.unwrap(np.angle(delayed)))
    for name, curve, turn in (
        ("near", found.measured, 180.0),
        ("near", found.models["near"], 0.0),
        ("far", found.models["far"], 0.0),
    ):
        error = np.angle(np.exp(1j * np.radians(curve - expected[name] - turn)), deg=True)
        assert np.max(np.abs(error[inner])) < 2.0
        assert np.max(np.abs(np.diff(curve[inner]))) < 60.0  # unwrapped
    assert found.delay_samples == pytest.approx(latency, abs=2.0)
    assert abs(np.median(found.models["near"] - found.measured)) <= 180.0 + 1e-6


def test_thinning_keeps_the_outline():
    x = np.linspace(0.0, 1.0, 100_000)
    y = np.sin(40 * x)
    y[31_234] = 5.0
    thin_x, thin_y = figures._thinned(x, y)
    assert len(thin_x) <= 2 * figures.MOST_GROUPS
    assert np.all(np.diff(thin_x) > 0)
    assert thin_y.max() == 5.0
    assert thin_y.min() == y.min()


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda path: figures.losses({}, path), "runs is empty"),
        (lambda path: figures.alignment([], path), "effects is empty"),
        (lambda path: figures.phase([], path), "devices is empty"),
    ],
)
def test_nothing_to_draw_is_told(tmp_path, draw, message):
    with pytest.raises(ValueError, match=message):
        draw(tmp_path / "a.svg")


def test_wrong_names_are_told(tmp_path):
    runs = {"a-b": [{"step": 1, "loss": 1.0}]}
    with pytest.raises(ValueError, match=r"a\.pdf'; give a name that ends in \.svg or \.png"):
        figures.losses(runs, tmp_path / "a.pdf")
    with pytest.raises(audio.AudioError, match="nowhere"):
        figures.losses(runs, tmp_path / "nowhere" / "a.svg")
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_the_extra_is_named_before_the_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for name in ("experiments.common.pictures", "experiments.black_box.figures"):
        monkeypatch.delitem(sys.modules, name)
    assert command.main(["--folder", str(tmp_path)]) == 2
    assert "pip install 'jaxapf[plot]'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
