"""The drum-microphone experiment's pictures, and its page to listen in a parser and in a browser."""

import base64
import io
import re
import time
from xml.etree import ElementTree

import html_pages
import numpy as np
import pytest
import soundfile

from experiments.common import pictures
from experiments.drum_mics import baselines, figures, listening
from jaxapf import audio

pytestmark = pytest.mark.slow

browser = html_pages.browser
FS = 44_100
METHODS = [figures.BASELINE, "network", "network + 50 steps", "align"]


# Pictures


def records(n=100, top=0.9, seconds=10.0):
    return [
        {"step": 50 * i, "loss": 1 / i, "reached": top - 0.4 / i, "seconds": seconds * i}
        for i in range(1, n + 1)
    ]


def rows(correlations, kinds):
    """Rows of `{method: [one correlation a pair]}`."""
    return [
        {"pair": f"{i:02d}", "kind": kind, "method": method, "correlation": values[i], "mix_rms_db": -20.0}
        for i, kind in enumerate(kinds)
        for method, values in correlations.items()
    ]


def forty_rows():
    rng = np.random.default_rng(0)
    values = {method: rng.uniform(0.5, 1.0, 40) for method in ["as is", *METHODS]}
    return rows(values, ["near_far" if i % 4 else "top_bottom_inverted" for i in range(40)])


def known():
    rng = np.random.default_rng(0)
    scales = {"network": 8.0, "network + 50 steps": 1.0, "align": 2.0}
    freqs_hz = np.geomspace(20, 20_000, 64)

    def each(factor):
        return {name: (factor * s * rng.lognormal(size=50)).tolist() for name, s in scales.items()}

    curve = 1 + 4 * np.exp(-(np.log2(freqs_hz / 100) ** 2))
    return {
        "freqs_hz": freqs_hz.tolist(),
        "weighted_deg": each(1.0),
        "curves_deg": {
            name: {"p50": (s * curve).tolist(), "p90": (3 * s * curve).tolist()} for name, s in scales.items()
        },
        "empty": {"emptied_deg": each(6.0), "untouched_deg": each(1.0)},
    }


DRAW = {
    "loss_curve": lambda path: figures.loss_curve({"cross-phase": records(), "waves": records(60)}, path),
    "pairs": lambda path: figures.pairs(forty_rows(), path, METHODS),
    "phase_errors": lambda path: figures.phase_errors(known(), path),
}


@pytest.fixture
def kept(monkeypatch):
    """Figures that would have been saved."""
    kept = []
    monkeypatch.setattr(pictures, "save", lambda figure, path, **_: kept.append(figure))
    yield kept
    for figure in kept:
        pictures.plt.close(figure)


@pytest.mark.parametrize("kind", ["svg", "png"])
@pytest.mark.parametrize("name", DRAW)
def test_files_are_pictures_and_small(tmp_path, name, kind):
    path = tmp_path / f"{name}.{kind}"
    DRAW[name](path)
    assert 5_000 < path.stat().st_size < 300_000
    assert list(tmp_path.iterdir()) == [path]
    if kind == "svg":
        assert ElementTree.parse(path).getroot().tag.endswith("svg")
    else:
        assert path.read_bytes().startswith(b"\x89PNG")


def test_equal_data_give_equal_files(tmp_path):
    for name in ("one.svg", "two.svg"):
        DRAW["pairs"](tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


@pytest.mark.parametrize("name", DRAW)
def test_no_word_is_cut(kept, name, tmp_path):
    with pictures.plt.rc_context(pictures.STYLE):
        DRAW[name](tmp_path / "x.svg")
        kept[0].draw_without_rendering()
        drawn, (width, height) = kept[0].get_tightbbox(), kept[0].get_size_inches()
    assert min(drawn.x0, drawn.y0, width - drawn.x1, height - drawn.y1) > -0.01


def test_curves_are_the_records_and_resumed_runs_one_line(kept, tmp_path):
    first, again = records(40), [one | {"step": one["step"] + 2000} for one in records(40, 0.95)]
    first[0]["compile_s"] = again[0]["compile_s"] = 3.0
    lost = [{"step": 4010, "loss": np.nan, "reached": np.nan, "seconds": 401.0}]
    figures.loss_curve({"net": first + again + lost}, tmp_path / "x.svg")
    losses, ax = kept[0].axes
    np.testing.assert_allclose(losses.lines[0].get_ydata(), [one["loss"] for one in first + again])
    x, y = ax.lines[0].get_data()
    np.testing.assert_allclose(x, np.arange(1, 81) / 6)
    np.testing.assert_allclose(y, [100 * one["reached"] for one in first + again])
    assert ax.get_xlabel() == "minutes of training"
    mean = ax.lines[1].get_ydata()
    np.testing.assert_allclose(mean[20], np.mean(y[18:23]))  # two to each side
    np.testing.assert_allclose(mean[-1], np.mean(y[-3:]))


def test_untimed_records_are_drawn_over_steps(kept, tmp_path):
    untimed = [{name: one[name] for name in ("step", "reached")} for one in records(10)]
    figures.loss_curve({"net": untimed}, tmp_path / "x.svg")
    _, ax = kept[0].axes
    assert ax.get_xlabel() == "step"
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), np.arange(50, 501, 50))


def test_pairs_are_sorted_by_the_baseline_within_their_kind(kept, tmp_path):
    assert figures.BASELINE in baselines.METHODS
    values = {
        figures.BASELINE: [0.5, 0.9, 0.4, 0.7, 0.8],
        "network": [0.6, 0.95, 0.3, 0.7, 0.85],
        "align": [0.7, 0.99, 0.5, 0.8, 0.9],
    }
    kinds = ["near_far", "near_far", "near_far", "top_bottom", "top_bottom"]
    figures.pairs(rows(values, kinds), tmp_path / "x.svg", ["network", figures.BASELINE, "align"])
    near, top = kept[0].axes
    assert [text.get_text() for text in near.get_xticklabels()] == ["02", "00", "01"]
    assert [text.get_text() for text in top.get_xticklabels()] == ["03", "04"]
    assert [line.get_ydata().tolist() for line in near.lines] == [
        [0.3, 0.6, 0.95],
        [0.4, 0.5, 0.9],
        [0.5, 0.7, 0.99],
    ]
    assert near.get_title(loc="left") == "near and far (3)"
    looks = {(line.get_color(), line.get_marker()) for line in near.lines}
    assert len(looks) == 3


def test_errors_are_drawn_as_given(kept, tmp_path):
    data = {
        "freqs_hz": [100.0, 1000.0, 10_000.0],
        "weighted_deg": {"network": [4.0, 2.0, None, 8.0], "align": [1.0, 0.0, 2.0, 3.0]},
        "curves_deg": {
            name: {"p50": [3.0, 9.0, 5.0], "p90": [6.0, 18.0, 10.0]} for name in ("network", "align")
        },
        "empty": {
            "emptied_deg": {"network": [60.0, 50.0, 40.0], "align": [9.0]},
            "untouched_deg": {"network": [6.0, 5.0, 4.0], "align": [1.0]},
        },
    }
    figures.phase_errors(data, tmp_path / "x.svg")
    left, middle, right = kept[0].axes
    x, share = left.lines[0].get_data()
    np.testing.assert_allclose(x, [2, 2, 4, 8])
    np.testing.assert_allclose(share, [0, 100 / 3, 200 / 3, 100])
    assert left.lines[1].get_xdata()[0] == figures.FLOOR_DEG
    assert [line.get_ydata().tolist() for line in middle.lines[:2]] == [[3, 9, 5], [6, 18, 10]]
    assert [line.get_ydata()[0] for line in right.lines] == [5, 50, 1, 9]


def without(data, *names):
    """A copy in which a part has no methods, or a method no numbers."""
    *outer, last = names
    copy = {name: dict(part) if isinstance(part, dict) else part for name, part in data.items()}
    holder = copy
    for name in outer:
        holder[name] = dict(holder[name])
        holder = holder[name]
    holder[last] = [None] if isinstance(holder[last], list) else {}
    return copy


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda path: figures.loss_curve({}, path), "has no 'reached' of any network; train first"),
        (lambda path: figures.loss_curve({"a": [{"step": 1}]}, path), r"has no 'reached' of \['a'\]"),
        (lambda path: figures.pairs(forty_rows(), path, []), "methods has 0 names; give one to 4"),
        (lambda path: figures.pairs(forty_rows(), path, [*METHODS, "as is"]), "methods has 5 names"),
        (lambda path: figures.pairs(forty_rows(), path, ["tcn"]), "rows have none of 'tcn'"),
        (lambda path: figures.pairs(forty_rows()[:-1], path, METHODS), "rows lack pair '39' of 'align'"),
        (lambda path: figures.phase_errors(without(known(), "weighted_deg"), path), "a part without"),
        (
            lambda path: figures.phase_errors(without(known(), "weighted_deg", "align"), path),
            "known has no finite number in weighted_deg of 'align'",
        ),
        (
            lambda path: figures.phase_errors(without(known(), "empty", "untouched_deg"), path),
            r"known\['empty'\] has other methods inside than outside",
        ),
        (lambda path: DRAW["pairs"](path.with_suffix(".pdf")), r"give a name that ends in \.svg or \.png"),
    ],
)
def test_what_cannot_be_drawn_is_refused(tmp_path, draw, message):
    with pytest.raises(ValueError, match=message):
        draw(tmp_path / "a.svg")
    assert list(tmp_path.iterdir()) == []


# The page


def entry(pair="00", about="snare, near and far", mixes=None, fs=FS):
    mixes = noise_mixes() if mixes is None else mixes
    versions = [
        {"name": name, "mix": x, "correlation": 0.1 * n, "mix_rms_db": -20.0 + 1.5 * n}
        for n, (name, x) in enumerate(mixes.items())
    ]
    return {"pair": pair, "about": about, "fs": fs, "versions": versions}


def noise_mixes(n_samples=13_230, seed=0):
    rng = np.random.default_rng(seed)
    names = ("as is", "GCC-PHAT, delay and polarity", "network")
    return {
        name: gain * rng.standard_normal(n_samples)
        for name, gain in zip(names, (0.01, 0.05, 0.1), strict=True)
    }


def sounds(text):
    """What the players hold: (samples, fs) each, by pair."""
    return [
        [
            soundfile.read(io.BytesIO(base64.b64decode(code)))
            for code in re.findall(r'src="data:audio/flac;base64,([^"]*)"', section)
        ]
        for section in text.split("<section")[1:]
    ]


def test_players_hold_the_mixes_with_one_gain_a_pair(tmp_path):
    entries = [
        entry("00"),
        entry("01", mixes={"as is": 1e-3 * np.ones(4410), "network": 4.0 * np.ones(4410)}),
    ]
    path = listening.write_page(tmp_path / "page.html", "Drums", entries)
    assert list(tmp_path.iterdir()) == [path]
    for found, one in zip(sounds(path.read_text(encoding="utf-8")), entries, strict=True):
        peak = max(np.max(np.abs(version["mix"])) for version in one["versions"])
        gain = 10 ** (-1 / 20) / peak
        assert len(found) == len(one["versions"])
        for (x, fs), version in zip(found, one["versions"], strict=True):
            assert fs == FS
            mix = gain * version["mix"]
            np.testing.assert_allclose(x[:-221], mix[:-221], rtol=1e-4, atol=2**-15)  # 5 ms are faded
            assert len(x) == len(mix)
            assert abs(x[-1]) <= 1e-4


def test_high_rates_are_brought_to_48_khz_and_silence_stays(tmp_path):
    mixes = {"as is": np.zeros(9600), "network": np.zeros(9600)}
    tone = 0.25 * np.sin(2 * np.pi * 1000 * np.arange(9600) / 96_000)
    entries = [entry(mixes=mixes, fs=96_000), entry(mixes={"as is": tone}, fs=96_000)]
    silent, ((x, fs),) = sounds(listening.write_page(tmp_path / "a.html", "", entries).read_text("utf-8"))
    assert all(not np.any(y) for y, _ in silent)
    assert (len(x), fs) == (4800, 48_000)
    expected = 10 ** (-1 / 20) * np.sin(2 * np.pi * 1000 * np.arange(4800) / 48_000)
    np.testing.assert_allclose(x[200:-300], expected[200:-300], atol=1e-3)


def test_the_page_parses_and_asks_for_nothing_outside(tmp_path):
    evil = "</h2><script>alert('{{style}}')</script>\"&amp;"
    odd = entry(evil, evil, {evil: np.ones(1), "other": np.zeros(1)})
    odd["versions"][0] |= {"mix_rms_db": -np.inf, "correlation": np.nan}
    page = listening.write_page(tmp_path / "page.html", evil, [entry(), odd])
    text = page.read_text(encoding="utf-8")
    parsed = html_pages.Page(text)
    assert (parsed.counts["audio"], parsed.counts["script"], parsed.counts["table"]) == (5, 2, 2)
    words = re.sub(r'src="data:[^"]*"|<script>.*?</script>|<style>.*?</style>', "", text, flags=re.DOTALL)
    assert not re.search(r"https?:|\b(nan|inf|None)\b", words)
    assert not re.search(r"\bfetch\(|import\(|XMLHttp", text)
    assert '<td class="n">−∞</td>' in words


def test_tables_have_the_figures_and_drawings_one_scale(tmp_path):
    text = listening.write_page(tmp_path / "page.html", "", [entry()]).read_text(encoding="utf-8")
    (table,) = re.findall(r"<table>.*?</table>", text, flags=re.DOTALL)
    root = ElementTree.fromstring(table)
    cells = [["".join(cell.itertext()) for cell in row] for row in root.iter("tr")]
    assert cells == [
        ["", "RMS of the mix, dBFS", "Against the first, dB", "Correlation"],
        ["as is", "−20.0", "–", "0.000"],
        ["GCC-PHAT, delay and polarity", "−18.5", "+1.5", "0.100"],
        ["network", "−17.0", "+3.0", "0.200"],
    ]
    paths = [re.findall(r"M\d+ (\d+)V(\d+)", path) for path in re.findall(r'<path d="([^"]*)"', text)]
    heights = [max(int(end) for _, end in path) - min(int(top) for top, _ in path) for path in paths]
    assert heights[2] > 80  # of 100, the loudest
    assert heights[0] == pytest.approx(0.1 * heights[2], rel=0.4)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], "entries is empty"),
        ([entry(mixes={})], "entry '00' has no versions"),
        ([entry(mixes={"a": np.zeros(0)})], "expected \\(n_samples,\\), not empty"),
        ([entry(mixes={"a": np.zeros((2, 9))})], "has 'a' of shape \\(2, 9\\)"),
        ([entry(mixes={"a": np.ones(9), "b": np.ones(8)})], "'b' of shape \\(8,\\); expected .* is \\(9,\\)"),
        ([entry(mixes={"a": np.ones(9), "b": np.full(9, np.nan)})], "'b' holds NaN or infinite samples"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, entries, message):
    with pytest.raises(ValueError, match=message):
        listening.write_page(tmp_path / "page.html", "", entries)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(audio.AudioError, match="nowhere"):
        listening.write_page(tmp_path / "nowhere" / "page.html", "", [entry()])


# The page in a browser

LEVELS = (0.05, 0.4, 0.2)
SWEEP_HZ, SWEEP_S = (300.0, 6300.0), 4.0
TAP = """
const Real = window.AudioContext;
window.AudioContext = class extends Real {
  constructor(...options) {
    super(...options);
    this.tap = new AnalyserNode(this, { fftSize: 2048, smoothingTimeConstant: 0 });
    this.tap.connect(super.destination);
    window.tapped = this;
  }
  get destination() { return this.tap; }
};
"""
# Root mean square in dB and strongest frequency in Hz of what sounds.
MEASURE = """
const { tap, sampleRate } = window.tapped;
const wave = new Float32Array(tap.fftSize), spectrum = new Float32Array(tap.frequencyBinCount);
tap.getFloatTimeDomainData(wave);
tap.getFloatFrequencyData(spectrum);
const power = wave.reduce((sum, one) => sum + one * one, 0) / wave.length;
return [10 * Math.log10(power + 1e-12), spectrum.indexOf(Math.max(...spectrum)) * sampleRate / tap.fftSize];
"""
PLAYS = "document.getElementById('play').textContent === 'Stop'"


@pytest.fixture(scope="module")
def page_path(tmp_path_factory):
    """Two pairs: three levels of a slow sweep; three levels of a short hit."""
    t = np.arange(round(SWEEP_S * FS)) / FS
    sweep = np.sin(2 * np.pi * (SWEEP_HZ[0] * t + (SWEEP_HZ[1] - SWEEP_HZ[0]) / SWEEP_S * t**2 / 2))
    hit = np.random.default_rng(0).standard_normal(FS // 4)
    names = ("as is", "GCC-PHAT, delay and polarity", "network + 50 steps of refinement")
    entries = [
        entry(pair, mixes={name: level * x for name, level in zip(names, LEVELS, strict=True)})
        for pair, x in (("00", sweep), ("01", hit))
    ]
    return listening.write_page(tmp_path_factory.mktemp("drums") / "page.html", "Drums", entries)


def opened(browser, path, width=1200, dark=False):
    browser.resize(width, 900, dark)
    browser.open(path.as_uri())
    browser.run(TAP)


def measured(browser):
    return browser.run(MEASURE)


def finish(browser):
    """Nothing was loaded from elsewhere, and nothing went wrong."""
    loaded = "performance.getEntriesByType('resource').map((one) => one.name)"
    names = browser.run(f"return {loaded}.filter((name) => !name.startsWith('data:'))")
    assert names == []
    assert browser.post("/se/log", {"type": "browser"}) == []


@pytest.mark.browser
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 390, 1200])
def test_browser_shows_it_at_every_size(browser, page_path, width, dark):
    opened(browser, page_path, width, dark)
    assert browser.run("return document.documentElement.scrollWidth") <= width
    boxes = "[...document.querySelectorAll('.scroll')]"
    assert browser.run(f"return {boxes}.every((box) => box.scrollWidth <= box.clientWidth + 1)")
    drawn = browser.run(
        "return [...document.querySelectorAll('.wave svg')].map((one) => one.getBoundingClientRect().width)"
    )
    assert len(drawn) == 6
    assert min(drawn) > 100
    assert browser.is_dark() == dark
    shown = "[...document.querySelectorAll('audio')].filter((one) => one.getBoundingClientRect().width > 0)"
    assert browser.run(f"return {shown}.length") == 0
    finish(browser)


@pytest.mark.browser
def test_browser_switches_in_the_middle_and_keeps_the_levels(browser, page_path):
    opened(browser, page_path)
    browser.click(".tile:nth-child(2) button")
    browser.wait(PLAYS)
    found = []
    for key in ("", "1", "3", "2"):
        if key:
            browser.press(key)
        time.sleep(0.25)
        found.append(measured(browser))
    levels, freqs_hz = np.transpose(found)
    expected = (
        20 * np.log10(np.array(LEVELS)[[1, 0, 2, 1]] / max(LEVELS)) - 1 - 3.01
    )  # a sine's peak at -1 dBFS
    np.testing.assert_allclose(levels, expected, atol=0.3)
    assert np.all(np.diff(freqs_hz) > 0)  # the sweep goes on, it does not begin anew
    assert browser.text_of("#now") == "Pair 00: GCC-PHAT, delay and polarity"
    browser.press("2")  # the same again
    browser.wait(f"!({PLAYS})")
    time.sleep(0.2)
    assert measured(browser)[0] < -100
    finish(browser)


@pytest.mark.browser
def test_browser_loops_until_it_is_stopped(browser, page_path):
    opened(browser, page_path)
    browser.press("n")
    assert browser.text_of("#now") == "Pair 01: as is"
    browser.press(" ")
    browser.wait(PLAYS)
    begun, levels = time.monotonic(), []
    while time.monotonic() < begun + 2.0:
        levels.append(measured(browser)[0])
    assert browser.run(f"return {PLAYS}")
    loud = np.array(levels) > -60
    assert 2 <= np.count_nonzero(np.diff(loud.astype(int)) == 1) <= 5  # 0.25 s of sound, 0.35 s of pause
    browser.click("#loop")
    browser.wait(f"!({PLAYS})", seconds=5)
    browser.press("3")
    browser.wait(PLAYS)
    browser.wait(f"!({PLAYS})", seconds=5)  # once
    finish(browser)


@pytest.mark.browser
@pytest.mark.parametrize("loop", [False, True])
def test_browser_plays_all_in_a_row(browser, page_path, loop):
    opened(browser, page_path)
    browser.press("n")
    browser.press("2")
    browser.click("#play")  # stops, at the second
    browser.click("#row")
    if not loop:
        browser.click("#loop")
    browser.click("#play")
    browser.wait(PLAYS)
    pressed = (
        "[...document.querySelectorAll('.pair:last-of-type .tile button')].map((one) => one.ariaPressed)"
    )
    order, end = [], time.monotonic() + 10
    while browser.run(f"return {PLAYS}") and len(order) < 5:
        assert time.monotonic() < end
        flags = browser.run(f"return {pressed}")
        if "true" in flags and order[-1:] != [flags.index("true")]:
            order.append(flags.index("true"))
    assert order == ([0, 1, 2, 0, 1] if loop else [0, 1, 2])
    finish(browser)


@pytest.mark.browser
def test_browser_plays_one_pair_at_a_time(browser, page_path):
    opened(browser, page_path)
    browser.press("2")
    browser.wait(PLAYS)
    browser.click("#next")
    on = "document.querySelectorAll('[aria-pressed=true]')"
    browser.wait(f"{on}.length === 1 && {on}[0].closest('.pair').dataset.name === 'Pair 01'")
    assert browser.text_of("#now") == "Pair 01: GCC-PHAT, delay and polarity"
    assert browser.run("return document.getElementById('next').disabled")
    browser.press("9")  # there are three
    assert browser.run(f"return {PLAYS}")
    browser.press("p")
    browser.wait(f"{on}.length === 1 && {on}[0].closest('.pair').dataset.name === 'Pair 00'")
    browser.click(".tile:nth-child(3) button")
    browser.press(" ")  # while a version has the focus: stops, and does not choose it
    browser.wait(f"!({PLAYS})")
    time.sleep(0.2)
    assert measured(browser)[0] < -100
    finish(browser)


@pytest.mark.browser
def test_browser_shows_that_a_sound_cannot_be_played(browser, page_path, tmp_path):
    broken = re.sub(r"base64,[^\"]*", "base64,AAAA", page_path.read_text(encoding="utf-8"))
    (tmp_path / "page.html").write_text(broken, encoding="utf-8")
    opened(browser, tmp_path / "page.html")
    browser.click("#play")
    browser.wait("document.getElementById('now').textContent.startsWith('This browser cannot play it: ')")
    assert browser.text_of("#play") == "Play"
    finish(browser)


@pytest.mark.browser
def test_browser_without_web_audio_shows_plain_players(browser, page_path, tmp_path):
    text = page_path.read_text(encoding="utf-8").replace("window.AudioContext", "window.NothingLikeThat")
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    browser.resize(390, 900, False)
    browser.open((tmp_path / "page.html").as_uri())
    shown = "[...document.querySelectorAll('audio')].filter((one) => one.getBoundingClientRect().width > 100)"
    assert browser.run(f"return {shown}.length") == 6
    assert browser.run("return document.querySelector('.bar').getBoundingClientRect().height") == 0
    finish(browser)
