"""The listening page: its files against the mixes they should hold, the page in a parser and in a browser."""

import itertools
import json
import re
import time

import html_pages
import numpy as np
import pytest
import soundfile

from experiments.black_box import listening
from jaxapf import audio

browser = html_pages.browser
FS = 48_000
NAMES = ("tape_gx", "Tube", "channel strip")
STEMS = ("tape-gx", "tube", "channel-strip")
SEGMENTS = (("drums", 0.0, 1.5), ("acid_bassline", 1.5, 2.5))


def effect(name, seconds=2.5, fs=FS, seed=0):
    rng = np.random.default_rng(seed)
    dry, wet, error = 0.1 * rng.standard_normal((3, round(seconds * fs)))
    return listening.Effect(name, dry, wet, wet + 0.1 * error, fs)


def read_json(text, name):
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', text, flags=re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def compensated_number(token):
    return 1 + bin(int(token, 16)).count("1") % 2


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A page of three effects, with two segments; its effects, folder and text."""
    effects = [effect(name, seed=seed) for seed, name in enumerate(NAMES)]
    folder = tmp_path_factory.mktemp("page") / "new" / "folder"
    page = listening.write_page(folder, "Boxes, blind", effects, segments=SEGMENTS)
    return effects, folder, page.read_text(encoding="utf-8")


# Files


def test_there_is_a_pair_for_every_effect_and_share(made):
    _, folder, _ = made
    pairs = itertools.product(STEMS, (25, 50, 75), (1, 2))
    names = {f"{stem}_{share}_{number}.flac" for stem, share, number in pairs}
    assert {path.name for path in folder.iterdir()} == names | {"index.html"}
    for name in names:
        found = soundfile.info(folder / name)
        assert (found.samplerate, found.channels, found.subtype) == (FS, 1, "PCM_24")
        assert found.frames == round(2.5 * FS)


def test_files_hold_the_mixes_the_key_names_with_one_gain_for_a_pair(made):
    effects, folder, text = made
    inner = slice(1000, 70_000)  # of the first segment; edges are faded
    trials = read_json(text, "trials")
    assert [trial["wet"] for trial in trials] == 3 * [25, 50, 75]
    for trial, one in zip(trials, np.repeat(np.arange(3), 3), strict=True):
        number = compensated_number(trial["token"])
        compensated, clean = (
            audio.read(folder / f"{trial['files']}_{n}.flac")[0][0].astype(np.float64)
            for n in (number, 3 - number)
        )
        share = trial["wet"] / 100
        mixes = [(1 - share) * x + share * effects[one].wet for x in (effects[one].aligned, effects[one].dry)]
        gain = 10 ** (-1 / 20) / max(np.max(np.abs(x)) for x in mixes)
        peak = max(np.max(np.abs(compensated)), np.max(np.abs(clean)))
        assert peak == pytest.approx(10 ** (-1 / 20), abs=1e-6)
        np.testing.assert_allclose(compensated[inner], gain * mixes[0][inner], atol=2**-22)
        np.testing.assert_allclose(clean[inner], gain * mixes[1][inner], atol=2**-22)
    assert {compensated_number(trial["token"]) for trial in trials} == {1, 2}


def test_other_rates_are_brought_to_48_khz(tmp_path):
    t = np.arange(96_000) / 96_000
    tone = 0.3 * np.sin(2 * np.pi * 440 * t)
    listening.write_page(tmp_path, "", [listening.Effect("a", tone, tone, tone, 96_000)])
    x, fs = audio.read(tmp_path / "a_25_1.flac")
    assert (x.shape, fs) == ((1, 48_000), 48_000)
    expected = 10 ** (-1 / 20) * np.sin(2 * np.pi * 440 * np.arange(48_000) / 48_000)
    np.testing.assert_allclose(x[0, 1000:-1000], expected[1000:-1000], atol=2e-4)


def test_long_signals_are_cut_and_segments_share_the_time(tmp_path):
    long = effect("a", seconds=20.0)
    listening.write_page(tmp_path / "whole", "", [long])
    assert soundfile.info(tmp_path / "whole" / "a_50_1.flac").frames == 12 * FS
    segments = [("one", 0.0, 9.0), ("two", 9.0, 11.0), ("three", 11.0, 20.0)]
    page = listening.write_page(tmp_path / "parts", "", [long], segments=segments)
    assert read_json(page.read_text(encoding="utf-8"), "parts") == [
        {"name": "one", "start": 0.0, "end": 4.0},
        {"name": "two", "start": 4.0, "end": 6.0},
        {"name": "three", "start": 6.0, "end": 10.0},
    ]
    x, _ = audio.read(tmp_path / "parts" / "a_25_1.flac")
    assert x.shape == (1, 10 * FS)
    joints = x[0, [0, 4 * FS - 1, 4 * FS, 6 * FS - 1, 6 * FS, -1]]
    assert np.max(np.abs(joints)) < 1e-4


def test_silence_stays_silent(tmp_path):
    zero = np.zeros(4800)
    listening.write_page(tmp_path, "", [listening.Effect("a", zero, zero, zero, FS)])
    assert not np.any(audio.read(tmp_path / "a_50_2.flac")[0])


@pytest.mark.parametrize(
    ("effects", "segments", "message"),
    [
        ([], (), "effects is empty"),
        ([effect("a b", 0.1), effect("a_b", 0.1)], (), "effects are named 'a b', 'a_b'; give names that"),
        ([effect("??", 0.1)], (), "effects are named '\\?\\?'"),
        ([effect("a", 0.1)._replace(wet=np.zeros(7))], (), "expected one shape \\(n_samples,\\)"),
        ([effect("a", 0.1)._replace(aligned=np.full(4800, np.nan))], (), "aligned holds NaN"),
        ([effect("a", 0.1)], [("b", 0.0, 3.0)], "segments has 'b' from 0 to 3 s; expected a stretch within"),
        ([effect("a", 0.1)], [("b", 0.05, 0.05)], "segments has 'b' from 0.05 to 0.05 s"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path, effects, segments, message):
    with pytest.raises(ValueError, match=message):
        listening.write_page(tmp_path / "new", "", effects, segments=segments)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(audio.AudioError, match=r"file' cannot be made: .*; choose another folder"):
        listening.write_page(tmp_path / "file", "", [effect("a", 0.1)])


# The page


def test_the_page_parses_and_asks_for_nothing_outside(made):
    _, _, text = made
    parsed = html_pages.Page(text)
    assert parsed.counts["audio"] == 2
    assert not re.search(r"https?:|\{\{|\bfetch\(", text)
    assert len(text.encode()) < 50_000


def test_only_the_token_distinguishes_the_files(made):
    _, _, text = made
    rest = re.sub(r'<script type="application/json" id="trials">.*?</script>', "", text, flags=re.DOTALL)
    assert not any(stem in rest for stem in STEMS)
    assert all(set(trial) == {"effect", "wet", "files", "token"} for trial in read_json(text, "trials"))
    assert [trial["effect"] for trial in read_json(text, "trials")[::3]] == [
        "tape gx",
        "Tube",
        "channel strip",
    ]


def test_names_are_text(tmp_path):
    evil = "</script><script>alert('{{style}}')</script>&amp;"
    segments = [(evil, 0.0, 0.1), ("b", 0.1, 0.2)]
    page = listening.write_page(tmp_path, evil, [effect(evil, 0.2)], segments=segments)
    text = page.read_text(encoding="utf-8")
    assert html_pages.Page(text).counts["script"] == 3
    assert read_json(text, "parts")[0]["name"] == evil
    assert read_json(text, "trials")[0]["effect"] == evil
    assert (tmp_path / "script-script-alert-style-script-amp_25_1.flac").exists()


# The page in a browser


def open_page(browser, folder, width=1200, dark=False):
    browser.resize(width, 900, dark)
    browser.open((folder / "index.html").as_uri())
    browser.wait("['a', 'b'].every((side) => document.getElementById('audio-' + side).readyState > 2)")


def first_is(browser, text, side="a"):
    """What a version of the trial on show is, by the file that is loaded and the key."""
    name = browser.run("return document.getElementById(arguments[0]).src.split('/').pop()", f"audio-{side}")
    files, number = name.removesuffix(".flac").rsplit("_", 1)
    (trial,) = (trial for trial in read_json(text, "trials") if trial["files"] == files)
    return "compensated" if int(number) == compensated_number(trial["token"]) else "clean"


AUDIBLE = (
    "['a', 'b'].filter((side) => { const audio = document.getElementById('audio-' + side);"
    " return !audio.paused && !audio.muted; }).join()"
)


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1200])
def test_browser_shows_it_at_every_size(browser, made, width, dark):
    open_page(browser, made[1], width, dark)
    browser.click("#reveal-all")
    assert browser.run("return document.documentElement.scrollWidth") <= width
    table = "document.getElementById('listing')"
    assert browser.run(f"return {table}.scrollWidth <= {table}.clientWidth + 1")
    assert browser.is_dark() == dark
    assert browser.post("/se/log", {"type": "browser"}) == []


@pytest.mark.slow
@pytest.mark.browser
def test_browser_switches_at_the_same_position(browser, made):
    open_page(browser, made[1])
    browser.click("#side-b")
    browser.wait(f"{AUDIBLE} === 'b' && document.getElementById('audio-b').currentTime > 0.5")
    browser.press("a")
    browser.wait(f"{AUDIBLE} === 'a'")
    now = "['a', 'b'].map((side) => document.getElementById('audio-' + side).currentTime)"
    times = browser.run(f"return {now}")
    assert times[0] > 0.45
    assert abs(times[0] - times[1]) < 0.15
    pressed = "['a', 'b'].map((side) => document.getElementById('side-' + side).ariaPressed).join()"
    assert browser.run(f"return {pressed}") == "true,false"
    browser.press(" ")  # while B has the focus: pauses, and does not press B
    browser.wait(f"{AUDIBLE} === ''")
    assert browser.text_of("#play") == "Play"
    browser.press("B")
    browser.wait(f"{AUDIBLE} === 'b'")
    browser.click("#play")
    browser.wait(f"{AUDIBLE} === ''")
    assert browser.post("/se/log", {"type": "browser"}) == []


@pytest.mark.slow
@pytest.mark.browser
def test_browser_repeats_a_segment(browser, made):
    open_page(browser, made[1])
    assert browser.text_of("#part").split("\n") == ["everything", "drums", "acid bassline"]
    browser.click("#part option[value='1']")
    browser.click("#play")
    at = "document.getElementById('audio-a').currentTime"
    times, end = [], time.monotonic() + 20
    while not any(after < before for before, after in itertools.pairwise(times)):
        assert time.monotonic() < end
        times.append(browser.run(f"return {at}"))
    assert min(times) > 1.45
    assert max(times) < 2.55
    assert browser.text_of("#time").endswith("/ 1.0 s")
    assert browser.run(f"return {AUDIBLE}") == "a"


@pytest.mark.slow
@pytest.mark.browser
def test_browser_hides_the_order_until_asked_and_counts(browser, made):
    _, folder, text = made
    open_page(browser, folder)
    words = "document.querySelector('.card').innerText + document.title"
    assert not re.search(r"compensated|clean|\.flac", browser.run(f"return {words}"))
    votes = ("a", "b", "none", "", "b")
    expected = []
    for vote in votes:
        kinds = {side: first_is(browser, text, side) for side in ("a", "b")}
        assert sorted(kinds.values()) == ["clean", "compensated"]
        if vote:
            browser.click(f"[name=vote][value={vote}]")
        expected.append(kinds.get(vote, vote))
        browser.click("#next")
    browser.click("#reveal")  # the sixth, without a vote
    assert browser.text_of("#kind-a") == first_is(browser, text)
    assert browser.text_of("#answer").startswith(f"A was {first_is(browser, text)} (")
    assert browser.run("return document.querySelector('[name=vote]').disabled")
    browser.click("#back")
    assert browser.text_of("#kind-a") == ""
    assert browser.run("return document.querySelector('[name=vote][value=b]').checked")

    browser.click("#reveal-all")
    hits = expected.count("compensated")
    assert browser.text_of("#score") == f"You preferred the compensated mix in {hits} of 4 trials."
    account = browser.text_of("#account")
    assert f"The clean mix in {expected.count('clean')}, no preference in 1; 5 revealed without" in account
    if hits:
        chance = {1: 88, 2: 50, 3: 13}[hits]  # at least so many heads in three tosses
        assert f"at least {hits} of 3 with a probability of {chance} %" in account
    rows = browser.run(
        "return [...document.querySelectorAll('#rows tr')]"
        ".map((row) => [...row.cells].map((cell) => cell.innerText))"
    )
    assert [row[3] for row in rows] == ["A", "B", "neither", "none", "B", *4 * ["none"]]
    for row, found in zip(rows, expected, strict=False):
        if found in ("compensated", "clean"):
            assert (row[2] == row[3]) == (found == "compensated")

    browser.click("#again")
    assert browser.text_of("#account").startswith("0 of 9 trials have a vote.")
    assert browser.run("return document.getElementById('answer').hidden")


@pytest.mark.slow
@pytest.mark.browser
def test_browser_draws_the_order_at_random(browser, made):
    _, folder, text = made
    open_page(browser, folder)
    found = []
    for _ in range(24):
        browser.click("#again")
        found.append(first_is(browser, text))
    assert set(found) == {"compensated", "clean"}


@pytest.mark.slow
@pytest.mark.browser
def test_browser_shows_that_a_file_is_missing(browser, made, tmp_path):
    (tmp_path / "index.html").write_text(made[2], encoding="utf-8")
    browser.open((tmp_path / "index.html").as_uri())
    browser.wait("document.getElementById('where').textContent.startsWith('A file is missing')")
    browser.post("/se/log", {"type": "browser"})
