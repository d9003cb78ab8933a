"""Curves of training runs: nothing that a run went through is lost or drawn where it was not."""

import math
import os
import re
import xml.etree.ElementTree as ET

import html_pages
import numpy as np
import pytest

from jaxapf.report import curves

SVG = "{http://www.w3.org/2000/svg}"


def run(count, *, seed=0, **columns):
    noise = np.exp(0.2 * np.random.default_rng(seed).standard_normal(count))
    return [
        {"step": n + 1, "loss": float(np.exp(-n / count) * noise[n]), **{k: f(n) for k, f in columns.items()}}
        for n in range(count)
    ]


def drawn(tmp_path, runs, **options):
    curves.plot_losses(runs, tmp_path / "loss.svg", **options)
    text = (tmp_path / "loss.svg").read_text(encoding="utf-8")
    assert not re.search(r"nan|inf\b", text.split("</style>")[1].replace("finite", ""))
    return ET.fromstring(text)


def curve_points(root, role):
    """Points of each curve of a role inside the panels, without the legend."""
    found = []
    for path in root.iterfind(f".//{SVG}g/{SVG}path"):
        if set(role.split()) <= set(path.get("class", "").split()):
            found.append(np.array([pair.split() for pair in re.split("[ML]", path.get("d", ""))[1:]], float))
    return found


def texts(root):
    return [text.text for text in root.iter(f"{SVG}text")]


def test_one_run_is_a_faint_and_a_smooth_line(tmp_path):
    root = drawn(tmp_path, {"": run(200)})
    (raw,) = curve_points(root, "run0 raw")
    (line,) = curve_points(root, "run0 line")
    assert len(raw) == len(line) == 200
    roughness = [np.abs(np.diff(points[:, 1], 2)).mean() for points in (raw, line)]
    assert roughness[1] < 0.1 * roughness[0]
    assert np.abs(raw[:, 1].mean() - line[:, 1].mean()) < 2.0
    assert "Loss" in texts(root)
    assert "Step" in texts(root)
    assert "Gradient norm" not in texts(root)


def test_the_loss_is_on_a_logarithmic_axis(tmp_path):
    root = drawn(tmp_path, {"": [{"step": n, "loss": 10.0**-n} for n in range(5)]})
    (line,) = curve_points(root, "run0 line")
    np.testing.assert_allclose(np.diff(line[:, 1]), (line[-1, 1] - line[0, 1]) / 4, atol=0.11)
    assert {"1", "0.1", "0.01", "0.001", "10⁻⁴"} <= set(texts(root))


def test_a_loss_that_may_be_negative_is_on_a_linear_axis(tmp_path):
    root = drawn(tmp_path, {"": [{"step": n, "loss": 2.0 - n} for n in range(5)]})
    (line,) = curve_points(root, "run0 line")
    np.testing.assert_allclose(np.diff(line[:, 1]), (line[-1, 1] - line[0, 1]) / 4, atol=0.11)
    assert "−2" in texts(root)


def test_what_else_was_measured_has_panels_of_its_own(tmp_path):
    root = drawn(
        tmp_path, {"a": run(50, grad_norm=lambda n: 1.0 + n), "b": run(50, learning_rate=lambda n: 1e-3)}
    )
    assert [t for t in texts(root) if t in ("Loss", "Gradient norm", "Learning rate")] == [
        "Loss",
        "Gradient norm",
        "Learning rate",
    ]
    assert len(curve_points(root, "run0 line")) == 2
    assert len(curve_points(root, "run1 line")) == 2
    assert len(root.findall(f".//{SVG}clipPath")) == 3


def test_another_metric_in_place_of_the_loss(tmp_path):
    records = [{"step": n, "esr": 0.5**n} for n in range(60)]
    assert "Esr" in texts(drawn(tmp_path, {"": records}, metric="esr"))


def test_a_number_that_only_some_records_have_is_no_gap(tmp_path):
    records = run(200)
    for record in records[9::10]:
        record["esr"] = 1.0 / record["step"]
    root = drawn(tmp_path, {"": records}, metric="esr")
    (line,) = curve_points(root, "run0 line")
    assert len(line) == 20
    assert not curve_points(root, "run0 mark")


def test_a_run_without_a_finite_loss_shows_that(tmp_path):
    records = [{"step": n, "loss": math.nan, "skipped": n, "grad_norm": 1.0} for n in range(1, 40)]
    root = drawn(tmp_path, {"diverged": records})
    assert "diverged (39 skipped)" in texts(root)
    assert len(curve_points(root, "run0 mark")[0]) == 2 * 39


def test_skipped_steps_are_marked_where_they_were(tmp_path):
    records = run(101, skipped=lambda n: (n >= 25) + (n >= 75))
    root = drawn(tmp_path, {"tape": records})
    (marks,) = curve_points(root, "run0 mark")
    (raw,) = curve_points(root, "run0 raw")
    np.testing.assert_allclose(marks[:, 0], np.repeat(raw[[25, 75], 0], 2), atol=0.11)
    assert marks[:, 1].min() > raw[:, 1].max()  # below the curve
    assert "tape (2 skipped)" in texts(root)


def test_not_finite_losses_are_gaps_and_marks(tmp_path):
    records = run(300)
    for record in records[100:200]:
        record["loss"] = math.nan
    root = drawn(tmp_path, {"": records})
    assert len(curve_points(root, "run0 mark")[0]) == 2 * 100
    at = curve_points(root, "run0 raw")[0][:, 0]
    assert np.diff(at).max() > 90 * np.median(np.diff(at))


@pytest.mark.parametrize("name", ["loss.svg", "loss.html"])
def test_long_runs_make_small_files_and_lose_no_extreme(tmp_path, name):
    records = run(100_000, grad_norm=lambda n: 2.0 + n % 7, skipped=lambda n: n // 3)
    records[70_001]["loss"], records[70_002]["loss"] = 50.0, 1e-4
    for record in records[::5]:
        record["loss"] = math.nan
    curves.plot_losses({"": records}, tmp_path / name)
    assert (tmp_path / name).stat().st_size < 300_000
    if name.endswith("svg"):
        root = ET.parse(tmp_path / name).getroot()
        band = curve_points(root, "run0 band")[0]
        rect = next(root.iter(f"{SVG}clipPath"))[0]
        height = float(rect.get("height", 0))
        top, bottom = band[:, 1].min() - float(rect.get("y", 0)), band[:, 1].max() - float(rect.get("y", 0))
        assert 0 < top < 0.06 * height
        assert 0.9 * height < bottom < height
        at = band[np.argmin(band[:, 1]), 0] - float(rect.get("x", 0))
        assert abs(at / float(rect.get("width", 1)) - 0.7) < 0.01


def test_few_records_are_dots(tmp_path):
    root = drawn(tmp_path, {"": run(3)})
    (dots,), (line,) = curve_points(root, "run0 dots"), curve_points(root, "run0 line")
    np.testing.assert_allclose(dots[::2], line)
    assert not curve_points(root, "run0 raw")
    assert "1.5" not in texts(root)  # there is no half step


def test_records_may_come_in_any_order(tmp_path):
    records = run(40)
    first = ET.tostring(drawn(tmp_path, {"": records}))
    assert ET.tostring(drawn(tmp_path, {"": records[::-1]})) == first


@pytest.mark.parametrize(
    "records",
    [
        [],
        run(1),
        [{"step": n, "loss": math.nan} for n in range(50)],
        [{"step": n, "loss": 0.0} for n in range(50)],
    ],
)
def test_poor_runs_are_drawn_all_the_same(tmp_path, records):
    drawn(tmp_path, {"poor": records})
    drawn(tmp_path, {"poor": records, "rich": run(50)})
    curves.plot_losses({"poor": records}, tmp_path / "loss.html")


def test_many_runs_with_long_names_keep_their_legend_inside(tmp_path):
    runs = {f"start {n}, {'very ' * (n % 3)}long <name>": run(40, seed=n) for n in range(11)}
    root = drawn(tmp_path, runs)
    plot = root.find(f"{SVG}svg")
    assert plot is not None
    width = float(plot.get("width", 0))
    legend = [text for text in root.iter(f"{SVG}text") if (text.text or "").startswith("start")]
    assert [text.text for text in legend] == list(runs)
    assert all(float(t.get("x", 0)) + 7.9 * len(t.text or "") < width for t in legend)
    assert len(curve_points(root, "run0 line")) == 2  # colours come again, the second time dashed
    assert len(curve_points(root, "run0 line dashed")) == 1


def test_a_page_has_the_figures_as_a_table(tmp_path):
    runs = {"<a>": run(500, skipped=lambda n: n // 250), "{{title}}": run(50)}
    curves.plot_losses(runs, tmp_path / "loss.html", title="Tape & tube")
    text = (tmp_path / "loss.html").read_text(encoding="utf-8")
    page = html_pages.Page(text)
    assert html_pages.text_of(page.find("h1")[0]) == "Tape & tube"
    assert len(page.find("svg", class_="plot")) == 2  # one for a desk, one for a phone
    (table,) = page.find("table")
    _, first, second = html_pages.cells(table)
    losses = [record["loss"] for record in runs["<a>"]]
    assert first[:3] == ["<a>", "500", f"{losses[-1]:.4g}"]
    assert first[3:] == [f"{min(losses):.4g}", str(1 + int(np.argmin(losses))), "1"]
    assert second[0] == "{{title}}"
    assert not re.search(r"<script|https?://(?!www\.w3\.org)", text)


def test_wrong_use_of_the_plot(tmp_path):
    with pytest.raises(ValueError, match="runs is empty"):
        curves.plot_losses({}, tmp_path / "loss.svg")
    with pytest.raises(ValueError, match=r"ends in \.svg or \.html"):
        curves.plot_losses({"": run(3)}, tmp_path / "loss.png")
    assert os.listdir(tmp_path) == []


def test_smoothing_is_a_mean_over_a_window_twice():
    values = np.random.default_rng(0).standard_normal(400)
    values[37:45] = np.nan

    def smooth(x):
        reach = [min(8, n + 1) for n in range(400)]
        return np.array([np.nanmean(x[max(0, n - r) : n + r + 1]) for n, r in enumerate(reach)])

    np.testing.assert_allclose(curves._smoothed(values), smooth(smooth(values)), atol=1e-12)
    few = curves._smoothed(np.array([1.0, np.nan, 3.0] + [2.0] * 97))[[0, 1, -1]]
    np.testing.assert_allclose(few, [1.0, 1.67, 2.0], atol=0.005)


def luminance(colour):
    levels = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in levels]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def test_every_colour_stands_out_from_the_paper(tmp_path):
    """Contrast of at least 3, as WCAG 2 asks of graphics."""
    curves.plot_losses({"": run(3)}, tmp_path / "loss.html")
    style = (tmp_path / "loss.html").read_text(encoding="utf-8")
    themes = re.findall(r"color-scheme: (?:light|dark);(.*?)\}", style, flags=re.DOTALL)
    assert len(themes) == 3  # light, dark, dark by choice
    for theme in themes:
        colours = dict(re.findall(r"--(\w+): (#\w{6})", theme))
        paper = luminance(colours["paper"])
        for name in ("ink", "muted", *(f"run{n}" for n in range(len(curves.RUN_COLOURS)))):
            low, high = sorted([paper, luminance(colours[name])])
            assert (high + 0.05) / (low + 0.05) >= 3, name
