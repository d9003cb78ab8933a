"""Cells of the notebooks with recordings of the reader, and the functions that they call."""

import base64
import io
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import html_pages
import numpy as np
import pytest
import soundfile

import jaxapf
from experiments.notebooks.notebook_cells import cell_of
from jaxapf import allpass, audio, cli, datasets, metrics, notebooks
from jaxapf.notebooks import tables
from jaxapf.report import figures
from jaxapf.training import logging

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:IPython")
FS = 48_000


def noise(n_samples, seed=0):
    return np.random.default_rng(seed).standard_normal((1, n_samples)).astype(np.float32)


def rows_of(code):
    """The rows of a table that was shown."""
    (table,) = html_pages.Page(code).find("table")
    return html_pages.cells(table)


@pytest.fixture
def shown(monkeypatch):
    """The HTML that is displayed."""
    seen = []
    monkeypatch.setattr(tables, "display", lambda code, handle=None, **options: seen.append(code))
    return seen


@pytest.fixture
def aligning(monkeypatch):
    """Options of each call of `jaxapf.align`, which is replaced: 3 samples late, inverted."""
    requested = []

    def align(dry, wet, fs, **options):
        requested.append(options)
        found = {"order": 2, "esr_aligned": 0.1, "correlation_aligned": 0.123}
        return jaxapf.Alignment(allpass.rbj(np.array([9.0]), 1.0, fs), 3.0, -1, fs, [], found)

    monkeypatch.setattr(jaxapf, "align", align)
    return requested


def names_of(x, **names):
    return {
        "pair": notebooks.Pair(x, x, FS),
        "small": True,
        "notebooks": notebooks,
        "jaxapf": jaxapf,
        **names,
    }


def test_the_quick_start_has_the_defaults_of_the_command(shown, aligning):
    exec(cell_of("quick_start", "Find the delay"), names_of(noise(FS)))
    command: Any = cli.parse(["align", "a.wav", "b.wav", "-o", "c.wav"]).options
    (requested,) = aligning
    assert requested.get("order", "auto") == command.order
    assert requested.get("method", "auto") == command.method
    assert requested["max_delay_ms"] == command.max_delay_ms
    assert rows_of(shown[-1])[1] == ["2", "3.000", "inverted", "1", "−10.0 dB", "0.123"]


def test_the_bound_of_a_delay_is_above_the_error(shown):
    """Late by a tenth of a second: delay alone leaves nothing, the bound counts the end that is cut off."""
    dry = noise(FS).astype(np.float64)
    wet = np.pad(dry, ((0, 0), (4800, 0)))[:, :FS]
    moved = jaxapf.Alignment(allpass.first_order(np.zeros(0)), 4800.0, 1, float(FS), [], {})
    ratios = {"raw": 2.0, "delay": 0.0, "aligned": metrics.esr(moved.apply(dry), wet)}
    ratios["bound"] = metrics.phase_only_bound(dry, wet, FS)
    assert ratios["aligned"] < 1e-6 < ratios["bound"]
    moved.metrics.update({f"esr_{name}": value for name, value in ratios.items()})
    exec(cell_of("quick_start", "Figures"), {"found": moved, "notebooks": notebooks})
    rows = [["", "error to wet"]]
    rows += [["dry as it is", "3.0 dB"], ["best delay and polarity alone", "−∞ dB"]]
    assert rows_of(shown[0])[:3] == rows
    assert rows_of(shown[0])[4] == ["bound", notebooks.decibels(ratios["bound"])]


def test_the_largest_latency_can_be_typed(shown, aligning):
    code, field = cell_of("quick_start", "Find the delay"), 'max_delay_ms = 20  # @param {type:"number"}'
    assert code.count(field) == 1
    exec(code.replace(field, "max_delay_ms = 150"), names_of(noise(4800), small=False))
    assert [one["max_delay_ms"] for one in aligning] == [150.0] * 5
    for typed in ("-1", "0", "float('nan')", "10001", "'far'", "None"):
        with pytest.raises(
            notebooks.Mistake, match=r"max_delay_ms is .*; type a number above 0, at most 10000"
        ):
            exec(code.replace(field, f"max_delay_ms = {typed}"), names_of(noise(4800)))


def box(dry: np.ndarray, wet: np.ndarray, fs: int = FS, **fields: str) -> dict:
    """The names of BiasNet's first cell, with a pair as the box; `fields` of its form are filled."""
    chosen = cell_of("biasnet", "Choose the black box")
    for name, value in {"black_box": '"the recordings above"', **fields}.items():
        chosen, count = re.subn(rf"(?m)^{name} = .*$", f"{name} = {value}", chosen)
        assert count == 1
    names = {"pair": notebooks.Pair(dry, wet, fs), "small": True, "notebooks": notebooks}
    exec(chosen, names)
    return names


def test_the_networks_get_the_delay_and_either_sign(shown):
    x = noise(20_000)
    late = -np.pad(x, ((0, 0), (5, 0)))[:, :20_000]
    moved, half = box(x, late)["moved"], late[0, :10_000]
    np.testing.assert_array_equal(moved[-1].apply(x[0, :10_000]), half)
    np.testing.assert_array_equal(moved[1].apply(x[0, :10_000]), -half)


def test_the_second_half_is_filtered_from_the_beginning(shown):
    """The reference is the pair's own filter: a second half that began at rest would miss its state."""
    x = noise(20_000)
    sections = allpass.rbj(np.array([40.0]), 5.0, float(FS))  # rings for a tenth of a second
    wet = np.pad(-np.asarray(allpass.cascade(sections, x.astype(np.float64))), ((0, 0), (200, 0)))[:, :20_000]
    names = box(x, wet.astype(np.float32))
    device = jaxapf.Alignment(sections, 200.0, -1, float(FS), [], {})
    assert metrics.esr(names["tried"](device), names["tried_on"][1]) < 1e-8
    assert metrics.esr(device.apply(names["tried_on"][0]), names["tried_on"][1]) > 1e-3
    np.testing.assert_array_equal(names["tried_on"][0], x[0, 10_000:])


def test_later_boxes_are_found_on_request(shown):
    x = noise(20_000)
    late = np.pad(x, ((0, 0), (1500, 0)))[:, :20_000]  # 31 ms
    assert box(x, late)["delay"] != 1500
    assert box(x, late, max_delay_ms="50")["delay"] == 1500


def test_errors_of_models_stand_beside_those_without(shown, monkeypatch):
    """BiasNet's cell that compares, with the same model in place of all that it would search."""
    x = noise(20_000)
    sections = allpass.rbj(np.array([700.0]), 0.7, float(FS))
    wet = np.asarray(allpass.cascade(sections, x.astype(np.float64))).astype(np.float32)
    learnt = jaxapf.Alignment(sections, 0.0, 1, float(FS), [], {})
    monkeypatch.setattr(jaxapf, "align", lambda *arguments, **options: learnt)
    names = box(x, wet)
    names |= {"learnt": learnt, "alone": {sign: float(sign < 0) for sign in names["moved"]}}
    exec(cell_of("biasnet", "Align with both methods"), names)
    head, *rows = rows_of(shown[-1])
    assert head == ["model", "error on what it was trained on", "on what it was not", "correlation"]
    labels = ["none: dry as it is", "none: delay and sign alone", "from random weights", "spectral"]
    assert [row[0] for row in rows] == [*labels, "biasnet-connected"]
    levels = [[float(cell.removesuffix(" dB").replace("−", "-")) for cell in row[1:3]] for row in rows]
    assert np.min(levels[:2]) > -10
    assert np.max(levels[2:]) < -60
    assert [row[3] for row in rows] == ["", "", *3 * ["1.000"]]
    exec(cell_of("biasnet", "Phase before and after"), names)
    _, dry, *others = rows_of(shown[-1])
    assert float(dry[1].removesuffix("°")) > 10
    assert {row[1] for row in others} == {"0.0°"}


def test_a_box_that_cannot_be_learnt_is_refused(shown):
    x = noise(20_000)
    with pytest.raises(notebooks.Mistake, match=r"last 0\.10 s, half of which trains; take 0\.17 s or more"):
        box(x[:, :4800], x[:, :4800])
    with pytest.raises(notebooks.Mistake, match=r"the stretch that tries \(wet\) is silent"):
        box(x, np.where(np.arange(20_000) < 9000, x, 0))


@pytest.mark.slow
def test_a_box_that_inverts_is_learnt(shown):
    dry, fs = audio.read(datasets.example_pair()[0])
    wet = -np.asarray(allpass.cascade(allpass.rbj(np.array([200.0, 1500.0]), 0.8, fs), dry))
    late = np.pad(wet, ((0, 0), (30, 0)))[:, : dry.shape[-1]]
    names = box(dry, late, fs)
    exec(cell_of("biasnet", "Train from random weights"), names)
    assert names["polarity"] == -1
    assert np.min(names["fitted"].losses) < 0.1
    assert [row[0] for row in rows_of(shown[-1])] == ["start", "delay and sign alone", "0", "1", "2", "3"]


# Their functions


def write(folder: Path, name: str, x: np.ndarray, fs: int) -> str:
    audio.write(folder / name, x, fs)
    return str(folder / name)


def test_own_files_are_brought_together(tmp_path):
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)
    dry = write(tmp_path, "dry.wav", np.stack([tone, 0 * tone]), 8000)
    wet = write(tmp_path, "wet.wav", np.sin(2 * np.pi * 440 * np.arange(12000) / 16000)[None], 16000)
    pair = notebooks.recordings(notebooks.OWN, dry, f" {wet} ")
    assert pair.fs == 16000
    assert pair.dry.shape == pair.wet.shape == (1, 12000)
    inside = slice(500, 11500)
    np.testing.assert_allclose(pair.dry[0, inside], 0.5 * pair.wet[0, inside], atol=2e-3)


def test_changes_to_own_files_are_printed(tmp_path, capsys):
    x = 0.1 * np.random.default_rng(0).standard_normal((2, 57600)).astype(np.float32)
    dry = write(tmp_path, "dry.wav", x, 8000)
    notebooks.recordings(notebooks.OWN, dry, dry)
    assert capsys.readouterr().out == ""
    notebooks.recordings(notebooks.OWN, dry, write(tmp_path, "wet.wav", x[:1, :32000], 16000))
    rate, channels, length, apart = capsys.readouterr().out.splitlines()
    assert rate == "The dry recording is resampled from 8000 to 16000 Hz, the rate of the wet one."
    assert "(dry: 2 channels, wet: 1 channel): only the first channel of each is used." in channels
    assert length == "The dry recording lasts 7.200 s and is cut to 2.000 s."
    assert apart.startswith("The lengths differ by a lot: ")
    notebooks.recordings(notebooks.OWN, dry, write(tmp_path, "short.wav", x[:, :57500], 8000))
    (length,) = capsys.readouterr().out.splitlines()
    assert "cut to 7.188 s" in length


def test_silence_is_refused(tmp_path):
    x = np.random.default_rng(0).standard_normal((1, 4000)) * 0.1
    music, silence = (write(tmp_path, f"{n}.wav", g * x, 8000) for n, g in (("music", 1.0), ("silence", 0.0)))
    for dry, wet, said in (
        (music, silence, "the wet recording is silent; "),
        (silence, music, "the dry recording is silent; "),
        (silence, silence, "the dry recording is silent; "),
    ):
        with pytest.raises(notebooks.Mistake, match=said):
            notebooks.recordings(notebooks.OWN, dry, wet)
    late = write(tmp_path, "late.wav", np.concatenate([0 * x, x], axis=-1), 8000)
    with pytest.raises(notebooks.Mistake, match="the remaining wet recording is silent"):
        notebooks.recordings(notebooks.OWN, music, late)


def test_an_excerpt_begins_with_the_sound():
    tone = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    x = np.concatenate([np.zeros(800), tone])
    found = notebooks.excerpt(np.stack([0.1 * x, x]), 16000, 0.5, fs_to=8000)
    assert found.dtype == np.float64
    assert len(found) == 4000
    expected = np.sin(2 * np.pi * 440 * (np.arange(4000) / 8000 + 1 / 16000))  # the tone's first sample is 0
    np.testing.assert_allclose(found[300:-300], expected[300:-300], atol=2e-3)
    with pytest.raises(notebooks.Mistake, match=r"only 0\.050 s of the recording sound"):
        notebooks.excerpt(tone[None, :800], 16000, 0.5)


def test_mistakes_are_one_sentence_without_a_traceback(tmp_path):
    for arguments, said in (
        (("other",), "none of the choices"),
        ((notebooks.OWN,), "the dry recording has no name"),
        ((notebooks.OWN, tmp_path / "none.wav", "b.wav"), "does not exist"),
    ):
        with pytest.raises(notebooks.Mistake, match=said) as caught:
            notebooks.recordings(*arguments)
        assert caught.value._render_traceback_() == [str(caught.value)]
        assert str(caught.value).endswith(".")


def test_players_are_equally_loud_and_keep_what_differs(shown):
    fs = 8000
    x = np.random.default_rng(0).standard_normal(2 * fs) * 0.1
    notebooks.listen({"<loud>": x, "soft": 0.1 * x}, fs, start_s=0.5, seconds=1.0)
    assert "&lt;loud&gt;" in shown[0]
    played = [
        soundfile.read(io.BytesIO(base64.b64decode(data)))[0]
        for data in re.findall(r"base64,([^\"]+)", shown[0])
    ]
    assert [len(one) for one in played] == [fs, fs]
    np.testing.assert_allclose(played[0], played[1], atol=1e-4)
    gains = [float(one) for one in re.findall(r"([+-]\d+\.\d) dB", shown[0])]
    assert gains[1] - gains[0] == pytest.approx(20, abs=0.11)


def test_listening_beyond_the_end_is_refused(shown):
    with pytest.raises(notebooks.Mistake, match="'x' ends before 9 s"):
        notebooks.listen({"x": np.ones(10)}, 10, start_s=9.0)


def test_progress_is_one_line_and_lets_others_through(shown, capsys, monkeypatch):
    monkeypatch.setattr(tables, "REDRAWN_S", 0.0)
    with notebooks.progress("Training"), logging.progress(10) as show:
        show({"step": 5, "loss": 0.25})
        print("a warning", file=sys.stderr)
    with notebooks.progress("Reading"):
        print("another", file=sys.stderr)
    assert shown[0] == "<code>Training …</code>"
    assert any("5" in one and "0.25" in one for one in shown[1:-1])
    assert not any("\x1b" in one or "a warning" in one for one in shown)
    assert re.fullmatch(r"<code>Reading: done in \d+ s</code>", shown[-1])
    assert capsys.readouterr().err == "a warning\nanother\n"


def test_progress_that_is_stopped_shows_that(shown):
    with pytest.raises(KeyError), notebooks.progress("Training"):
        raise KeyError
    assert "stopped after" in shown[-1]


def test_redrawing_is_rare(shown):
    with notebooks.progress("Training"), logging.progress(1000) as show:
        for step in range(1000):
            show({"step": step})
    assert len(shown) < 30


def test_figures_are_those_of_the_report(shown):
    dry = noise(FS)
    wet = np.concatenate([np.zeros((1, 24)), dry[:, :-24]], axis=-1)
    found = jaxapf.Alignment(allpass.first_order(np.zeros(0)), 24.0, 1, float(FS), [], {})
    notebooks.show_mix(dry, wet, wet, float(FS))
    notebooks.show_phase(dry, wet, found.apply(dry), found)
    compared = figures.compare(dry, wet, wet, FS)
    captions = [
        [html_pages.text_of(one) for one in html_pages.Page(code).find("figcaption")] for code in shown
    ]
    assert captions[0] == re.findall("<figcaption>(.*)</figcaption>", figures.mix_figure(compared))
    assert "Median error of the learned phase: 0.0°." in captions[1][0]
    assert [len(html_pages.Page(code).find("svg")) for code in shown] == [2, 4]


def test_pictures_are_images_with_their_caption(shown):
    pytest.importorskip("matplotlib")
    notebooks.picture(lambda figure: figure.subplots().plot([1, 2]), "<One>")
    notebooks.show_losses({"a": [{"step": n, "loss": 1 / n} for n in range(1, 9)]}, "Error")
    for code, kind, caption in zip(shown, ("png", "svg+xml"), ("<One>", "Error"), strict=True):
        page = html_pages.Page(code)
        (image,) = page.find("img", alt=caption)
        assert image.get("src", "").startswith(f"data:image/{kind};base64,")
        assert html_pages.text_of(page.find("figcaption")[0]) == caption


def test_displaying_needs_ipython_only_then(capsys):
    pytest.importorskip("IPython")
    tables.display("<p>")
    assert "HTML object" in capsys.readouterr().out


def test_tables_escape_and_leave_gaps(shown):
    notebooks.table([{"a<b": 1, "c": 0.123456}, {"c": "<i>"}])
    assert rows_of(shown[0]) == [["a<b", "c"], ["1", "0.1235"], ["", "<i>"]]


def test_results_lie_beside_the_notebook(shown, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = notebooks.result("model.json")
    with pytest.raises(notebooks.Mistake, match="run the cells above first"):
        notebooks.offer(path)
    path.write_text("{}")
    notebooks.offer(path)
    assert 'href="results/model.json"' in shown[-1]
    page = tmp_path / "page.html"
    page.write_text("<p>\"quoted\" & 'so'</p>")
    notebooks.page(page)
    assert "&lt;p&gt;&quot;quoted&quot; &amp;" in shown[-1]


@pytest.fixture
def colab(monkeypatch):
    """Colab's module for files, which gives the files in `chosen` and keeps what is downloaded."""
    chosen, downloaded = [], []
    files = types.SimpleNamespace(
        upload=lambda: {str(name): b"" for name in chosen.pop(0)}, download=downloaded.append
    )
    module = types.ModuleType("google.colab")
    module.files = files  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "google.colab", module)
    return types.SimpleNamespace(chosen=chosen, downloaded=downloaded)


def test_colab_offers_an_upload_for_files_without_a_name(colab, tmp_path, capsys):
    dry = write(tmp_path, "dry.wav", np.full((1, 100), 0.5), 8000)
    wet = write(tmp_path, "wet.wav", np.full((1, 80), 0.25), 8000)
    colab.chosen += [[dry], [wet]]
    pair = notebooks.recordings(notebooks.OWN)
    np.testing.assert_allclose(pair.dry, np.full((1, 80), 0.5), atol=1e-4)
    np.testing.assert_allclose(pair.wet, np.full((1, 80), 0.25), atol=1e-4)
    assert capsys.readouterr().out.split("\n")[:2] == [
        "Choose the dry recording:",
        "Choose the wet recording:",
    ]
    colab.chosen += [[dry, wet]]
    with pytest.raises(notebooks.Mistake, match="choose one file as the dry recording, not 2"):
        notebooks.recordings(notebooks.OWN)


def test_colab_downloads_only_what_is_wanted(colab, shown, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = notebooks.result("a.txt")
    path.write_text("a")
    notebooks.offer(path)
    assert colab.downloaded == []
    notebooks.offer(path, download=True)
    assert colab.downloaded == [str(path)]


def test_importing_jaxapf_imports_no_ipython():
    code = "import sys, jaxapf.notebooks; sys.exit(bool({'IPython', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
