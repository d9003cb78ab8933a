"""What cells of the notebooks do with the reader's recordings, and what they are made of."""

import base64
import io
import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import soundfile

import jaxapf
from experiments.notebooks.notebook_cells import cell_of
from jaxapf import allpass, audio, cli, datasets, metrics, notebooks
from jaxapf.cli import align as pair
from jaxapf.notebooks import sentences
from jaxapf.report import figures
from jaxapf.training import logging

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:IPython")


@pytest.fixture
def aligning(monkeypatch):
    """Options that `jaxapf.align` is called with, in place of which it answers at once: 3 late, inverted."""
    asked = []

    def align(dry, wet, fs, **options):
        asked.append(options)
        metrics = {"order": 2, "esr_aligned": 0.1, "correlation_aligned": 0.9}
        return jaxapf.Alignment(allpass.rbj(np.array([9.0]), 1.0, fs), 3.0, -1, fs, [], metrics)

    monkeypatch.setattr(jaxapf, "align", align)
    return asked


def test_the_quick_start_asks_for_what_the_command_does(shown, aligning):
    x = np.random.default_rng(0).standard_normal((1, 48_000)).astype(np.float32)
    names = {"pair": notebooks.Pair(x, x, 48000), "small": True, "notebooks": notebooks}
    exec(cell_of("quick_start", "Find the delay"), names)
    command = cli.parse(["align", "a.wav", "b.wav", "-o", "c.wav"]).options
    (asked,) = aligning
    assert asked.get("order", "auto") == command.order
    assert asked.get("method", "auto") == command.method
    assert asked["max_delay_ms"] == command.max_delay_ms
    assert "3.000" in shown[-1]
    assert "inverted" in shown[-1]


def found_by(correlation: float, delay: float = 0.0) -> jaxapf.Alignment:
    """An alignment that does nothing, with what `jaxapf.align` would have found of the recordings."""
    found = {"order": 0, "correlation_aligned": correlation, "esr_raw": 2.0, "esr_aligned": 1.9}
    return jaxapf.Alignment(allpass.first_order(np.zeros(0)), delay, 1, 48000.0, [], found)


STRANGERS = "hardly agree (correlation 0.100); are they the same performance?"
SHORT = "The recordings last 0.10 s: so short a recording says little about low frequencies."


@pytest.mark.parametrize(
    ("name", "title"), [("quick_start", "Find the delay"), ("tcn_data_parallel", "The recordings above, ")]
)
def test_doubts_about_own_recordings_are_said(shown, monkeypatch, name, title):
    for n_samples, correlation, expected in ((96_000, 0.1, STRANGERS), (4800, 0.9, SHORT), (96_000, 0.3, "")):
        found = found_by(correlation)
        monkeypatch.setattr(jaxapf, "align", lambda *pair, found=found, **options: found)
        x = np.random.default_rng(0).standard_normal((1, n_samples)).astype(np.float32)
        names = {"pair": notebooks.Pair(x, x, 48000), "small": True, "notebooks": notebooks, "jaxapf": jaxapf}
        shown.clear()
        exec(cell_of(name, title), names)
        assert [said in " ".join(shown) for said in (STRANGERS, SHORT)] == [
            expected == said for said in (STRANGERS, SHORT)
        ]


def test_doubts_are_those_of_the_command():
    assert notebooks.doubts(0.1, 2.0) == [f"After aligning the files still {STRANGERS}"]
    assert pair.doubt is sentences.doubt
    assert notebooks.doubts(0.2, 2.0) == notebooks.doubts(None, 2.0) == []


def test_the_bound_is_not_called_what_can_be_beaten(shown):
    """Late by a tenth of a second: delay alone leaves nothing, the bound counts the end that is cut off."""
    dry = np.random.default_rng(0).standard_normal((1, 48_000))
    wet = np.pad(dry, ((0, 0), (4800, 0)))[:, :48_000]
    moved = found_by(1.0, delay=4800.0)
    ratios = {"raw": 2.0, "delay": 0.0, "aligned": metrics.esr(moved.apply(dry), wet)}
    ratios["bound"] = metrics.phase_only_bound(dry, wet, 48000.0)
    assert ratios["aligned"] < 1e-6 < ratios["bound"]
    moved.metrics.update({f"esr_{name}": value for name, value in ratios.items()})
    exec(cell_of("quick_start", "Figures"), {"found": moved, "notebooks": notebooks})
    assert "about the best" in shown[0]
    assert "were nothing cut off at the end" in shown[0]
    assert "no filter" not in shown[0]


def test_the_latency_looked_for_can_be_typed(shown, aligning):
    x = np.random.default_rng(0).standard_normal((1, 4800)).astype(np.float32)
    code, field = cell_of("quick_start", "Find the delay"), 'max_delay_ms = 20  # @param {type:"number"}'
    assert code.count(field) == 1
    names = {"pair": notebooks.Pair(x, x, 48000), "small": False, "notebooks": notebooks}
    exec(code.replace(field, "max_delay_ms = 150"), names)
    assert [one["max_delay_ms"] for one in aligning] == [150.0] * 5
    for typed in ("-1", "0", "float('nan')", "10001", "'far'", "None"):
        with pytest.raises(
            notebooks.Mistake, match=r"max_delay_ms is .*; type a number above 0, at most 10000"
        ):
            exec(code.replace(field, f"max_delay_ms = {typed}"), names)


def box(dry: np.ndarray, wet: np.ndarray, fs: int = 48000) -> dict:
    """What the names of BiasNet's first cell stand for, with a pair as the box."""
    code = cell_of("biasnet", "Choose the black box")
    chosen = code.replace('black_box = "synthesised device"', 'black_box = "the recordings above"')
    assert chosen != code
    names = {"pair": notebooks.Pair(dry, wet, fs), "small": True, "notebooks": notebooks}
    exec(chosen, names)
    return names


def test_the_networks_hear_the_delay_and_either_sign(shown):
    x = np.random.default_rng(0).standard_normal((1, 20_000)).astype(np.float32)
    late = -np.pad(x, ((0, 0), (5, 0)))[:, :20_000]
    moved, half = box(x, late)["moved"], late[0, :10_000]
    np.testing.assert_array_equal(moved[-1].apply(x[0, :10_000]), half)
    np.testing.assert_array_equal(moved[1].apply(x[0, :10_000]), -half)


def test_what_tries_is_filtered_from_the_beginning(shown):
    """The reference is the pair's own filter: a second half that began at rest would miss its state."""
    x = np.random.default_rng(0).standard_normal((1, 20_000)).astype(np.float32)
    sections = allpass.rbj(np.array([40.0]), 5.0, 48000.0)  # rings for a tenth of a second
    wet = np.pad(-np.asarray(allpass.cascade(sections, x.astype(np.float64))), ((0, 0), (200, 0)))[:, :20_000]
    names = box(x, wet.astype(np.float32))
    device = jaxapf.Alignment(sections, 200.0, -1, 48000.0, [], {})
    assert metrics.esr(names["tried"](device), names["tried_on"][1]) < 1e-8
    assert metrics.esr(device.apply(names["tried_on"][0]), names["tried_on"][1]) > 1e-3
    np.testing.assert_array_equal(names["tried_on"][0], x[0, 10_000:])


def test_later_boxes_are_found_when_asked_for(shown, monkeypatch):
    x = np.random.default_rng(0).standard_normal((1, 20_000)).astype(np.float32)
    late = np.pad(x, ((0, 0), (1500, 0)))[:, :20_000]  # 31 ms
    assert box(x, late)["delay"] != 1500
    asked = cell_of("biasnet", "Choose the black box").replace("max_delay_ms = 20 ", "max_delay_ms = 50 ")
    monkeypatch.setitem(globals(), "cell_of", lambda name, title: asked)
    assert box(x, late)["delay"] == 1500


def compare_methods(monkeypatch, x: np.ndarray, wet: np.ndarray, learnt: jaxapf.Alignment) -> None:
    """BiasNet's cell that compares, with the same model in place of all that it would search."""
    monkeypatch.setattr(jaxapf, "align", lambda *arguments, **options: learnt)
    names = box(x, wet)
    names |= {"learnt": learnt, "alone": {sign: float(sign < 0) for sign in names["moved"]}}
    exec(cell_of("biasnet", "Align with both methods"), names)


def test_whether_a_network_carries_over_is_said(shown, monkeypatch):
    random = np.random.default_rng(0)
    x = random.standard_normal((1, 20_000)).astype(np.float32)
    sections = allpass.rbj(np.array([700.0]), 0.7, 48000.0)
    wet = np.asarray(allpass.cascade(sections, x.astype(np.float64))).astype(np.float32)
    learnt = jaxapf.Alignment(sections, 0.0, 1, 48000.0, [], {})
    compare_methods(monkeypatch, x, wet, learnt)
    assert "- *from random weights* carries over: -1" in shown[-2]
    assert "none: delay and sign alone" in shown[-3]
    changed = np.concatenate([wet[:, :10_000], random.standard_normal((1, 10_000))], axis=-1)
    compare_methods(monkeypatch, x, changed.astype(np.float32), learnt)
    assert "- *spectral* does not carry over: " in shown[-2]
    assert "not clearly better than silence (0.0 dB)" in shown[-2]
    strange = random.standard_normal((1, 20_000)).astype(np.float32)
    compare_methods(monkeypatch, x, strange, learnt)
    assert "hardly agree" in shown[-2]


def test_errors_are_judged_by_what_can_be_had_without():
    said = notebooks.carries_over
    assert said(0.1, 0.15, {"dry as it is": 1.4}).startswith("carries over: -10.0 dB")
    assert said(0.1, 0.3, {"dry as it is": 1.4}).startswith("carries over in part: ")
    assert said(0.1, 0.3, {"dry as it is": 0.2}).endswith("not clearly better than dry as it is (-7.0 dB).")
    assert said(1e-12, 1e-8, {"dry as it is": 1.4}).startswith("carries over: ")  # as good as none
    assert said(1e-8, 1e-8, {"delay": 0.0}).startswith("had nothing to add")
    for nothing in (0.95, 1.0, 2.3, np.nan):
        assert said(0.1, nothing, {}).startswith("does not carry over")


def test_a_box_that_cannot_be_learnt_is_refused(shown):
    x = np.random.default_rng(0).standard_normal((1, 20_000)).astype(np.float32)
    with pytest.raises(notebooks.Mistake, match=r"last 0\.10 s, half of which trains; take 0\.17 s or more"):
        box(x[:, :4800], x[:, :4800])
    with pytest.raises(notebooks.Mistake, match=r"what tries \(wet\) is silent"):
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
    assert "starts come within twice the best" in shown[-1]


# What they are made of


@pytest.fixture
def shown(monkeypatch):
    """What is displayed, as HTML or Markdown."""
    pytest.importorskip("IPython")
    seen = []

    class Handle:
        def update(self, thing):
            seen.append(thing.data)

    def display(*things, **options):
        seen.extend(thing.data for thing in things)
        return Handle()

    monkeypatch.setattr(notebooks, "display", display)
    return seen


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


def test_what_is_done_to_own_files_is_said(tmp_path, capsys):
    x = 0.1 * np.random.default_rng(0).standard_normal((2, 57600)).astype(np.float32)
    dry = write(tmp_path, "dry.wav", x, 8000)
    notebooks.recordings(notebooks.OWN, dry, dry)
    assert capsys.readouterr().out == ""
    notebooks.recordings(notebooks.OWN, dry, write(tmp_path, "wet.wav", x[:1, :32000], 16000))
    rate, channels, length, apart = capsys.readouterr().out.splitlines()
    assert rate == "The dry recording is resampled from 8000 to 16000 Hz, the rate of the wet one."
    assert channels.startswith("The dry recording has 2 channels, the wet one 1 channel: only the first")
    assert "lasts 7.200 s, the wet one 2.000 s: the dry one is cut to its first 2.000 s." in length
    assert apart.startswith("The lengths differ by a lot.")
    notebooks.recordings(notebooks.OWN, dry, write(tmp_path, "short.wav", x[:, :57500], 8000))
    (length,) = capsys.readouterr().out.splitlines()
    assert "cut to its first 7.188 s" in length


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
    with pytest.raises(notebooks.Mistake, match="what is left of the wet recording is silent"):
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


def test_starts_that_came_to_nothing_are_called_so():
    nothing = "No start came to anything"
    assert notebooks.starts_said([0.05, 0.2, 0.09, 2.0], 1.4).startswith("2 of 4 starts")
    assert notebooks.starts_said([0.6, 0.9, 1.1], 0.8).startswith("1 of 3 starts")  # 0.8 needs no training
    for losses, untrained in (([2.7] * 4, 2.6), ([1.2], 3.0), ([0.5], 0.4), ([np.nan], 1.0)):
        assert notebooks.starts_said(losses, untrained).startswith(nothing)


def test_starts_that_had_nothing_to_learn_did_not_fail():
    for losses, untrained in (([3e-7, 2e-6], 0.0), ([3e-7], 1e-8), ([2.0], 0.009)):
        said = notebooks.starts_said(losses, untrained)
        assert said.startswith("After delay and sign there was nothing left to learn")
        assert said.endswith("no error." if untrained == 0 else f"{notebooks.decibels(untrained)}.")
    assert notebooks.starts_said([1e-5], 5e-3).startswith("1 of 1 starts")


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
    monkeypatch.setattr(notebooks, "REDRAWN_S", 0.0)
    with notebooks.progress("Training"), logging.progress(10) as show:
        show({"step": 5, "loss": 0.25})
        print("a warning", file=sys.stderr)
    assert shown[0] == "<code>Training …</code>"
    assert any("step 5/10" in one and "loss 0.25" in one for one in shown)
    assert re.fullmatch(r"<code>Training: done in \d+ s</code>", shown[-1])
    assert "a warning" in capsys.readouterr().err


def test_progress_says_that_it_was_stopped(shown):
    with pytest.raises(KeyError), notebooks.progress("Training"):
        raise KeyError
    assert "stopped after" in shown[-1]


def test_redrawing_is_rare(shown):
    with notebooks.progress("Training"), logging.progress(1000) as show:
        for step in range(1000):
            show({"step": step})
    assert len(shown) < 30


def delayed_pair():
    x = np.random.default_rng(0).standard_normal((1, 48000))
    return x, np.concatenate([np.zeros((1, 24)), x[:, :-24]], axis=-1)


def test_the_mix_says_where_it_cancels(shown):
    dry, wet = delayed_pair()  # by half a millisecond: the notch lies at 1 kHz
    notebooks.show_mix(dry, wet, wet, 48000.0)
    compared = figures.compare(dry, wet, wet, 48000.0)
    worst = int(np.nanargmin(compared.mix_before_db))
    assert compared.freqs_hz[worst] == pytest.approx(1000, rel=0.1)
    said = f"cancel by up to {-compared.mix_before_db[worst]:.1f} dB (at {compared.freqs_hz[worst]:.0f} Hz)"
    assert said in shown[0]
    assert "at most 0.0 dB" in shown[0]
    assert shown[0].count("base64,iVBOR") == 1  # a PNG


def test_an_alignment_without_sections_is_shown(shown):
    dry, wet = delayed_pair()
    found = jaxapf.Alignment(allpass.first_order(np.zeros(0)), 24.0, 1, 48000.0, [], {})
    notebooks.show_phase(dry, wet, found.apply(dry), found)
    assert "No all-pass section was found that helps. Half of the bands are within 0.0" in shown[0]


def test_the_greatest_delay_is_where_it_is(shown):
    """Between the points of the drawing's grid, the reference is 4 Q / omega of a narrow section."""
    dry, _ = delayed_pair()
    found = jaxapf.Alignment(allpass.rbj(np.array([254.0]), 100.0, 48000.0), 0.0, 1, 48000.0, [], {})
    notebooks.show_phase(dry, found.apply(dry), found.apply(dry), found)
    delay_ms = float(re.findall(r"greatest at 254 Hz \(([\d.]+) ms\)", shown[0])[0])
    assert delay_ms == pytest.approx(4e3 * 100 / (2 * np.pi * 254), rel=1e-3)
    assert "Up to 20 kHz the phase turns by 360 degrees in all (1 all-pass section)" in shown[0]
    assert "Between 20 Hz and 20 kHz the delay" in shown[0]


def test_the_share_of_bands_that_show_a_phase_is_said(shown):
    dry, _ = delayed_pair()
    late = np.pad(dry, ((0, 0), (4800, 0)))[:, :48000]
    found = jaxapf.Alignment(allpass.first_order(np.zeros(0)), 0.0, 1, 48000.0, [], {})
    notebooks.show_phase(dry, late, dry, found)
    known = np.isfinite(figures.compare(dry, late, dry, 48000.0).residual_rad).mean()
    assert known < 0.5
    expected = f"Of the {100 * known:.0f} % of bands that show" if known else "No band shows a phase"
    assert expected in shown[0]
    assert "further apart than the latency that was looked for" in shown[0]
    bands = np.where(np.arange(100) < 36, 0.1, np.nan)
    assert notebooks.within(bands).startswith("Of the 36 % of bands that show a phase, half are within 5.7 ")


def test_bands_without_a_phase_make_a_sentence():
    none, some = np.full(10, np.nan), np.where(np.arange(10) < 5, np.pi / 2, np.nan)
    assert notebooks.phase_said(none, {"a": none, "b": none}).startswith("No band shows a phase: ")
    said = notebooks.phase_said(none, {"a": some, "b": none})
    assert said.startswith("Before: no band shows a phase. After, a: of the 50 % of bands that show a phase")
    assert said.endswith("After, b: no band shows a phase.")


def test_tables_escape_and_leave_gaps(shown):
    notebooks.table([{"a<b": 1, "c": 0.123456}, {"c": "<i>"}])
    assert "a&lt;b" in shown[0]
    assert "0.1235" in shown[0]
    assert "&lt;i&gt;" in shown[0]


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


def test_colab_asks_for_the_files_that_have_no_name(colab, tmp_path, capsys):
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
    with pytest.raises(notebooks.Mistake, match="2 files were chosen as the dry recording"):
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
