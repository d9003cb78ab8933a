"""The report: its measurements against known answers, its page in a parser and in a browser."""

import base64
import io
import json
import re
import types
from pathlib import Path
from typing import Any

import html_pages
import numpy as np
import pytest
import soundfile
from html_pages import cells, text_of
from scipy import signal

from jaxapf import allpass, audio, report
from jaxapf._internal.text import number
from jaxapf.report import figures, players, svg
from jaxapf.report.rendering import render

browser = html_pages.browser


def second_order(radius, cutoff_hz, fs):
    c, d = radius**2, -2.0 * radius * np.cos(2.0 * np.pi * cutoff_hz / fs)
    return [c, d, 1.0, 1.0, d, c]


def two_sections(fs):
    return np.array([second_order(0.95, fs / 60, fs), [-0.9, 1.0, 0.0, 1.0, -0.9, 0.0]])


def alignment_of(fs, sos, *, delay_samples=0.0, polarity=1, **metrics) -> Any:
    known = {"esr_raw": 1.518, "esr_delay": 0.5, "esr_aligned": 0.0235, "esr_bound": 0.0218, "order": 3}
    known |= {"correlation_raw": 0.1, "correlation_delay": 0.7, "correlation_aligned": 0.99, "seconds": 3.0}
    return types.SimpleNamespace(
        fs=fs,
        sections=allpass.from_sos(sos),
        sos=sos,
        delay_samples=delay_samples,
        polarity=polarity,
        method="spectral",
        stop_reason="the requested order",
        controls=[{"kind": "second order", "radius": 0.5, "cutoff_hz": 100.0} for _ in sos],
        metrics=known | metrics,
    )


def noise(shape, seed=0):
    return 0.1 * np.random.default_rng(seed).standard_normal(shape)


def written(folder, dry, wet, aligned, alignment, **options):
    path = folder / "report.html"
    report.write(path, dry, wet, aligned, alignment, **options)
    return path.read_text(encoding="utf-8")


def decoded(player):
    return soundfile.read(io.BytesIO(base64.b64decode(player.data)), always_2d=True)


# Measurements


@pytest.mark.parametrize("fs", [8000, 192000])
def test_phase_and_delay_agree_with_scipy(fs):
    sos = two_sections(fs)
    freqs_hz = np.linspace(1.0, 0.499 * fs, 4001)
    b, a = signal.sos2tf(sos)
    _, response = signal.freqz(b, a, worN=freqs_hz, fs=fs)
    _, delay = signal.group_delay((b, a), w=freqs_hz, fs=fs)
    sections = allpass.from_sos(sos)
    phase = allpass.phase_response(sections, freqs_hz, fs)
    np.testing.assert_allclose(phase, np.unwrap(np.angle(response)), atol=1e-9)
    np.testing.assert_allclose(allpass.group_delay(sections, freqs_hz, fs), delay, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("n_channels", [1, 2])
def test_the_residual_is_the_phase_that_the_aligned_signal_lacks(n_channels):
    fs, dry = 48000, noise((n_channels, 96000))
    sos = two_sections(fs)
    wet = -np.asarray(signal.sosfilt(sos, dry))
    compared = figures.compare(dry, wet, dry, fs)
    phase = allpass.phase_response(allpass.from_sos(sos), compared.freqs_hz, fs)
    expected = np.angle(-np.exp(1j * phase))
    error = np.angle(np.exp(1j * (compared.residual_rad - expected)))
    assert np.isfinite(error).mean() > 0.95
    assert np.nanmax(np.abs(error)) < np.radians(4.0)
    assert np.nanmax(np.abs(figures.compare(dry, wet, wet, fs).residual_rad)) < 1e-9


def test_the_grid_of_the_curves_meets_narrow_sections():
    """Between the points of a fixed grid, the reference is 4 Q / omega of a narrow section."""
    sections = allpass.rbj(np.array([254.0]), 100.0, 48000.0)
    freqs_hz = figures.fine_grid(np.array([20.0, 20e3]), sections.sos, 48000.0)
    delay_s = allpass.group_delay(sections, freqs_hz, 48000.0) / 48000.0
    assert delay_s.max() == pytest.approx(4 * 100 / (2 * np.pi * 254), rel=1e-3)
    assert freqs_hz[np.argmax(delay_s)] == pytest.approx(254, rel=1e-3)


def test_phase_of_unrelated_signals_is_left_out():
    compared = figures.compare(noise((1, 96000), 1), noise((1, 96000), 2), noise((1, 96000), 3), 48000)
    assert np.isfinite(compared.residual_rad).mean() < 0.1


def test_the_mix_of_a_delayed_copy_is_a_comb():
    fs, delay = 48000, 8
    dry = noise((1, 192000))
    wet = np.roll(dry, delay, axis=-1)
    compared = figures.compare(dry, wet, wet, fs)
    comb_db = 20 * np.log10(np.abs(np.cos(np.pi * compared.freqs_hz * delay / fs)))
    below = (compared.freqs_hz > 40) & (compared.freqs_hz < 1800)
    np.testing.assert_allclose(compared.mix_before_db[below], comb_db[below], atol=0.35)
    assert np.nanmin(compared.mix_before_db) < -15.0
    np.testing.assert_allclose(compared.mix_after_db[below], 0.0, atol=1e-9)


def test_closeups_are_at_their_places():
    fs = 48000
    x = 0.01 * noise((2, 4 * fs))
    t = np.arange(fs // 2) / fs
    x[1, fs : fs + fs // 2] += 0.5 * np.sin(2 * np.pi * 60 * t) * np.hanning(fs // 2)
    x[1, 2 * fs : 2 * fs + fs // 2] += 0.3 * np.sin(2 * np.pi * 6000 * t) * np.hanning(fs // 2)
    x[1, 3 * fs : 3 * fs + 900] += 0.8 * np.sin(2 * np.pi * 500 * t[:900])
    aligned = x.copy()
    aligned[1, 3 * fs + fs // 2] += 0.2
    onset, low, high, worst = figures.places(x, aligned, fs)
    assert {place.channel for place in (onset, low, high, worst)} == {1}
    assert onset.start < 3 * fs + 240 < onset.stop
    assert fs <= low.start < low.stop <= 1.5 * fs
    assert 2 * fs <= high.start < high.stop <= 2.5 * fs
    assert worst.start <= 3.5 * fs < worst.stop


def test_signals_that_differ_by_their_sign_cancel_before_and_fit_at_both():
    x = np.random.default_rng(0).normal(size=(1, 4096))
    compared = figures.compare(x, -x, -x, 48000.0)
    assert np.nanmax(np.abs(compared.residual_rad)) < 1e-9
    assert np.nanmax(compared.mix_before_db) == -120.0
    tone = np.sin(np.arange(48000) / 30.0)[None]
    assert figures.places(tone, 0.9 * tone, 48000.0)[-1].title == "Largest remaining difference"
    sos = np.array([[0.9999, 0.0, 1.0, 1.0, 0.0, 0.9999]])
    assert np.any(np.isclose(figures.fine_grid(np.array([20.0, 20e3]), sos, 48000.0), 12e3))


def test_axes_have_round_ticks():
    assert svg.ticks(-0.2, 1.1, 4).tolist() == [-0.5, 0.0, 0.5, 1.0, 1.5]
    assert svg.ticks(-700.0, 20.0, 5, steps=(45, 90, 180, 360)).tolist() == [-720, -540, -360, -180, 0, 180]
    assert svg.linear_axis("Level (dB)", np.array([-11.0, np.nan, 3.0])).ticks[0] == (-15.0, "−15")
    assert svg.snug_axis("Time (ms)", np.array([0.0, 12.5])).ticks[-1] == (10.0, "10")
    labels = ["20", "50", "100", "200", "500", "1k", "2k"]
    assert [label for _, label in svg.frequency_axis(20.0, 3000.0).ticks] == labels
    wide, narrow = (svg.log_axis("Loss", np.array(values)) for values in ([3e-5, np.nan, 2.0], [0.21, 0.24]))
    assert [label for _, label in wide.ticks] == ["10⁻⁴", "0.001", "0.01", "0.1", "1"]
    assert [label for _, label in narrow.ticks] == ["0.21", "0.22", "0.23", "0.24"]
    assert svg.runs(np.array([True, False, True, True])) == [(0, 1), (2, 4)]


def test_values_are_escaped():
    assert "<h1>Tape &amp; tube</h1>" in render("base.html", title="Tape & tube")


# Players


def test_gains_of_tones_are_known():
    tone = 0.1 * np.sin(np.arange(9600) / 20.0)[None]
    assert players.excerpt(tone, -tone, -tone, 48000).players["dry"].gain_db == pytest.approx(19.0, abs=0.05)
    found = players.separate({"dry": (tone, 48000), "wet": (0.5 * tone, 24000)})
    assert found["wet"].gain_db - found["dry"].gain_db == pytest.approx(6, abs=0.5)
    gains = players.equal_loudness({"a": np.ones(9), "b": 0.1 * np.ones(9)})
    assert gains["b"][0] == pytest.approx(8.91, abs=0.005)
    assert players.flac(np.zeros(8), 8000).startswith("ZkxhQw")


def test_players_are_equally_loud_and_leave_a_decibel():
    fs = 96000
    dry, wet = noise((2, fs), 1), noise((2, fs), 2)
    found = players.excerpt(dry, wet, 0.9 * wet, fs).players
    assert sorted(found) == sorted(
        ["dry", "wet", "aligned", *(f"{s}-{w}" for s in (25, 50, 75) for w in ("before", "after"))]
    )
    signals = {key: decoded(player) for key, player in found.items()}
    assert {rate for _, rate in signals.values()} == {48000}
    levels = [20 * np.log10(np.sqrt(np.mean(x**2))) for x, _ in signals.values()]
    peaks = [20 * np.log10(np.max(np.abs(x))) for x, _ in signals.values()]
    assert np.ptp(levels) < 0.01
    assert -1.01 < max(peaks) <= -0.999


def test_mixes_have_the_shares_of_their_names():
    fs = 44100
    dry, wet, aligned = (noise((1, fs), seed) for seed in range(3))
    found = players.excerpt(dry, wet, aligned, fs).players
    inner = slice(1000, -1000)  # the edges are faded
    for key, mix in (("25-before", 0.25 * dry + 0.75 * wet), ("75-after", 0.75 * aligned + 0.25 * wet)):
        x, _ = decoded(found[key])
        gain = 10 ** (found[key].gain_db / 20)
        np.testing.assert_allclose(x[inner, 0], gain * mix[0, inner], atol=5e-5)


def test_the_excerpt_is_where_the_signals_differ_and_fits_the_page():
    fs = 8000
    dry = noise((1, 40 * fs))
    wet = dry.copy()
    wet[:, 20 * fs : 25 * fs] *= -1.0
    found = players.excerpt(dry, wet, dry, fs)
    assert found.duration_s == pytest.approx(10.0)
    assert found.start_s <= 20.0
    assert found.start_s + 10.0 >= 25.0
    small = players.excerpt(dry, wet, dry, fs, page_bytes=300_000)
    assert sum(len(player.data) for player in small.players.values()) <= 300_000
    assert 20.0 <= small.start_s < small.start_s + small.duration_s <= 25.0


def test_what_cancels_is_not_lifted_without_limit():
    dry = noise((1, 8000))
    found = players.excerpt(dry, -0.9999 * dry, -dry, 8000).players
    assert found["50-before"].limited
    assert found["50-before"].gain_db == pytest.approx(found["wet"].gain_db + 24.0, abs=0.1)
    assert not found["50-after"].limited


# The page


def check_page(text):
    page = html_pages.Page(text)
    assert page.counts["audio"] == 9
    assert len(text.encode()) < 8e6
    words = page.words()
    assert not re.search(r"https?:|\b(nan|NaN|inf|None)\b|\{\{", words)
    return words


@pytest.mark.parametrize("fs", [8000, 44100, 192000])
@pytest.mark.parametrize("shape", [(1,), (7,), (2, 2400), (1, 20000), (3, 5000)])
@pytest.mark.parametrize("n_sections", [0, 2])
def test_page_for_every_rate_and_length(tmp_path, fs, shape, n_sections):
    dry = noise(shape).astype(np.float32)
    sos = two_sections(fs)[:n_sections]
    aligned = signal.sosfilt(sos, dry) if n_sections else dry
    wet = aligned + 0.01 * noise(shape, 1)
    check_page(written(tmp_path, dry, wet, aligned, alignment_of(fs, sos, delay_samples=-1.25)))


@pytest.mark.parametrize("level", [0.0, 1e-30, 1.0])
@pytest.mark.parametrize("silent", ["dry", "wet", "both"])
def test_page_of_silence(tmp_path, level, silent):
    x = level * noise((1, 4800))
    dry, wet = (0 * x if silent in (name, "both") else x for name in ("dry", "wet"))
    alignment = alignment_of(48000, np.zeros((0, 6)), esr_raw=np.nan, esr_aligned=np.inf, esr_bound=None)
    assert "at least one of the files is silent" in check_page(written(tmp_path, dry, wet, dry, alignment))


def test_page_without_figures(tmp_path):
    x = noise((1, 4800))
    alignment = alignment_of(48000, np.zeros((0, 6)))
    alignment.metrics = {}
    check_page(written(tmp_path, x, x, x, alignment))


def test_names_and_notes_are_text(tmp_path):
    x, evil = noise((1, 4800)), "<script>alert('{{footer}}')</script>&amp;"
    options = dict.fromkeys(("title", "dry_name", "wet_name", "command"), evil)
    alignment = alignment_of(48000, two_sections(48000))
    alignment.controls = [{evil: evil}, {evil: 1}]
    page = html_pages.Page(written(tmp_path, x, x, x, alignment, notes=[evil], **options))
    assert page.counts["script"] == 2
    assert page.words().count(evil) == 8  # twice title, note, dry, wet, command, and twice in the controls


def test_sections_are_there_in_full(tmp_path):
    x, sos = noise((1, 4800)), two_sections(48000)
    page = html_pages.Page(written(tmp_path, x, x, x, alignment_of(48000, sos)))
    (block,) = page.find("pre", id="sos")
    np.testing.assert_array_equal(json.loads(text_of(block)), sos)
    (table,) = page.find("table", id="controls")
    assert cells(table)[0] == ["Section", "kind", "radius", "cutoff (Hz)"]
    assert [cell.get("data-value") for cell in table.iter("td")][:3] == [None, "0.5", "100.0"]


def test_notes_are_about_negative_latency_and_the_stop(tmp_path):
    x = noise((1, 4800))
    alignment = alignment_of(48000, two_sections(48000), delay_samples=-12.0)
    page = html_pages.Page(written(tmp_path, x, x, x, alignment, notes=["trimmed 12 samples"]))
    text = " ".join(text_of(note) for note in page.find("ul", class_="notes")[0])
    for words in ("trimmed 12 samples", "the requested order", "12 samples (0.2500 ms)", "advanced"):
        assert words in text


@pytest.mark.parametrize(
    ("n_sections", "delay", "polarity", "raw", "aligned", "words"),
    [
        (3, 1.0, 1, 1.518, 0.0235, "now lies on the wet one: error 1.52 → 0.0235 (best any phase filter"),
        (3, 1.0, 1, 1.518, 0.3, "close to the wet one, though not on it"),
        (3, 1.0, 1, 1.518, 0.9, "still differ much"),
        (3, 1.0, 1, 0.5, 0.5, "did not bring the dry file closer"),
        (0, 1.0, 1, 4.0, 0.01, "by delay and polarity alone: error 4 → 0.0100"),
        (0, 0.0, -1, 4.0, 1e-7, "by delay and polarity alone: error 4 → 1.00 × 10⁻⁷"),
        (0, 0.0, 1, 0.9, 0.9, "Nothing was changed"),
        (0, 0.0, 1, 0.001, 0.001, "already lie on each other"),
        (0, 0.0, 1, None, None, "not known"),
    ],
)
def test_the_summary_is_honest(tmp_path, n_sections, delay, polarity, raw, aligned, words):
    x, sos = noise((1, 4800)), np.tile([0.0, 1.0, 0.0, 1.0, 0.0, 0.0], (n_sections, 1))
    metrics = {"esr_raw": raw, "esr_aligned": aligned}
    alignment = alignment_of(48000, sos, delay_samples=delay, polarity=polarity, **metrics)
    page = html_pages.Page(written(tmp_path, x, x, x, alignment))
    (summary,) = page.find("p", class_="summary")
    assert words in text_of(summary).replace("\u00a0", " ")


@pytest.mark.parametrize(
    ("dry", "wet", "words"),
    [
        (np.zeros(8), np.zeros(9), r"wet has shape \(9,\) and dry \(8,\)"),
        (np.zeros((2, 0)), np.zeros((2, 0)), "at least one sample"),
        (np.zeros((1, 2, 3)), np.zeros((1, 2, 3)), r"\(channels, T\)"),
        (np.array([0.0, np.nan]), np.zeros(2), "dry holds NaN"),
    ],
)
def test_bad_signals_are_refused(tmp_path, dry, wet, words):
    with pytest.raises(ValueError, match=words):
        report.write(tmp_path / "report.html", dry, wet, wet, alignment_of(48000, np.zeros((0, 6))))
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_an_error(tmp_path):
    x = noise(4800)
    with pytest.raises(audio.AudioError, match="nowhere"):
        report.write(tmp_path / "nowhere" / "report.html", x, x, x, alignment_of(48000, np.zeros((0, 6))))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0, "0"),
        (1.518, "1.52"),
        (-0.5, "−0.500"),
        (12345.6, "1.23 × 10⁴"),
        (None, "–"),
        (np.inf, "–"),
    ],
)
def test_numbers_are_for_people(value, text):
    assert number(value) == text


def test_thinning_keeps_the_outline():
    x = np.linspace(0.0, 100.0, 50001)
    y = 10.0 * np.sin(x) + noise(len(x))
    y[31234] = 40.0
    thin_x, thin_y = svg._thin(x, y)
    assert len(thin_x) < 1000
    assert thin_y.max() == 40.0
    assert np.all(np.diff(thin_x) >= 0)
    columns = np.floor(2 * x) == 77
    assert thin_y[np.floor(2 * thin_x) == 77].min() == y[columns].min()


# The page in a browser


@pytest.fixture(scope="module")
def page_path(tmp_path_factory):
    fs = 48000
    sos = two_sections(fs)
    dry = noise((2, 3 * fs)) * np.exp(-(np.arange(3 * fs) % 24000) / 4000.0)
    aligned = signal.sosfilt(sos, dry)
    wet = aligned + 0.02 * noise((2, 3 * fs), 1)
    path = tmp_path_factory.mktemp("report") / "report.html"
    report.write(path, dry, wet, aligned, alignment_of(fs, sos), notes=["trimmed"], command="jaxapf align")
    return path


VISIBLE_PLOTS = (
    "[...document.querySelectorAll('svg.plot')].filter((plot) => plot.getBoundingClientRect().width > 0)"
)
AUDIOS = "[...document.querySelectorAll('audio')]"


@pytest.mark.browser
@pytest.mark.parametrize(
    ("width", "dark"),
    [
        (360, True),
        pytest.param(360, False, marks=pytest.mark.slow),
        pytest.param(1200, False, marks=pytest.mark.slow),
        pytest.param(1200, True, marks=pytest.mark.slow),
    ],
)
def test_browser_shows_every_plot_at_every_size(browser, page_path: Path, width, dark):
    browser.resize(width, 900, dark)
    browser.open(page_path.as_uri())
    lengths = browser.run(
        f"return {VISIBLE_PLOTS}.map((plot) => [...plot.querySelectorAll('g .curve')]"
        ".map((curve) => curve.getTotalLength()))"
    )
    assert len(lengths) == 7  # mix, four close-ups, phase with its error, group delay
    assert all(plot and min(plot) > 100.0 for plot in lengths)
    font = "plot.getScreenCTM().a * parseFloat(getComputedStyle(plot).fontSize)"
    sizes = browser.run(f"return {VISIBLE_PLOTS}.map((plot) => {font})")
    assert min(sizes) > 9.0  # px
    assert browser.run("return document.documentElement.scrollWidth") <= width
    assert browser.is_dark() == dark
    assert browser.post("/se/log", {"type": "browser"}) == []


@pytest.mark.slow
@pytest.mark.browser
def test_browser_plays_one_at_a_time_and_keeps_the_position(browser, page_path: Path):
    browser.resize(1200, 900, False)
    browser.open(page_path.as_uri())
    browser.wait(f"{AUDIOS}.every((audio) => audio.readyState > 0)")
    durations = browser.run(f"return {AUDIOS}.map((audio) => audio.duration)")
    np.testing.assert_allclose(durations, 9 * [3.0], atol=0.05)

    audible = f"{AUDIOS}.filter((audio) => !audio.paused).map((audio) => audio.parentElement.dataset.key)"
    browser.click("[data-key='50-before'] button")
    browser.wait("document.querySelector('[data-key=\"50-before\"] audio').currentTime > 0.6")
    browser.click("#ab")
    browser.wait(f"{audible}.join() === '50-after'")
    at = browser.run("return document.querySelector('[data-key=\"50-after\"] audio').currentTime")
    assert at > 0.5
    assert (
        browser.run("return document.querySelector('[data-key=\"50-after\"] button').ariaPressed") == "true"
    )
    browser.click("#play")
    browser.wait(f"{audible}.length === 0")

    browser.click("#theme")
    assert browser.is_dark()
    browser.click("[data-copies='sos']")
    browser.wait("document.querySelector(\"[data-copies='sos']\").textContent === 'Copied'")
    loaded = browser.run(
        "return performance.getEntriesByType('resource').map((entry) => entry.name.slice(0, 5))"
    )
    assert set(loaded) <= {"data:"}
    assert browser.post("/se/log", {"type": "browser"}) == []
