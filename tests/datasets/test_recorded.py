"""Recorded pairs: what a folder says, and one sentence for everything that can be wrong with it."""

import json
import subprocess
import sys

import numpy as np
import pytest

from jaxapf import audio, datasets

FS = 8000
ENTRY = {
    "pair": "00",
    "kind": "top_bottom",
    "source": "snare",
    "direct_delay_samples": -3.25,
    "polarity": -1,
    "room_m": [3, 4, 2],
}


def noise(n_samples=400, n_channels=1, seed=0):
    return 0.1 * np.random.default_rng(seed).standard_normal((n_channels, n_samples)).clip(-4, 4)


def put(folder, *entries, fs=FS):
    """A pairs.json of these entries, and a recording for each name."""
    for entry in entries:
        for microphone in (1, 2):
            name = folder / f"{entry['pair']}_mic{microphone}.flac"
            audio.write(name, noise(400 + 10 * microphone, seed=microphone), fs)
    (folder / "pairs.json").write_text(json.dumps({"sample_rate": FS, "pairs": entries}))
    return folder


def one_sentence(message):
    return message.count("; ") >= 1 and "\n" not in message and not message.endswith(".")


# pairs.json


def test_pairs_are_listed_as_the_file_says(tmp_path):
    plain = {"pair": "a-1.x", "kind": "near_far", "source": "kick"}
    put(tmp_path, ENTRY, plain, plain | {"pair": "02", "polarity": None, "direct_delay_samples": 7})
    found = datasets.pairs_json(tmp_path)
    assert found == datasets.pairs_json(str(tmp_path / "pairs.json"))
    files = tmp_path / "00_mic1.flac", tmp_path / "00_mic2.flac"
    assert found[0] == datasets.RecordedPair("00", "top_bottom", "snare", *files, -3.25, -1)
    assert [(p.name, p.delay_samples, p.polarity) for p in found[1:]] == [
        ("a-1.x", None, None),
        ("02", 7.0, None),
    ]
    assert isinstance(found[2].delay_samples, float)


def test_both_are_read_to_the_shorter_length(tmp_path):
    [pair] = datasets.pairs_json(put(tmp_path, ENTRY))
    dry, wet, fs = datasets.read_pair(pair)
    assert (dry.shape, wet.shape, fs) == ((410,), (410,), FS)
    assert dry.dtype == wet.dtype == np.float32
    np.testing.assert_allclose(dry, noise(410, seed=1)[0], atol=2**-22)
    np.testing.assert_allclose(wet, noise(420, seed=2)[0, :410], atol=2**-22)


def test_channels_are_averaged(tmp_path):
    [pair] = datasets.pairs_json(put(tmp_path, ENTRY))
    stereo = noise(n_channels=2)
    audio.write(pair.wet, stereo, FS)
    np.testing.assert_allclose(datasets.read_pair(pair)[1], (stereo[0] + stereo[1]) / 2, atol=2**-22)


def test_two_rates_are_refused(tmp_path):
    [pair] = datasets.pairs_json(put(tmp_path, ENTRY))
    audio.write(pair.wet, noise(), 2 * FS)
    with pytest.raises(audio.AudioError, match=r"has 8000 Hz and '.*' has 16000 Hz; convert"):
        datasets.read_pair(pair)
    with pytest.raises(
        audio.AudioError, match=r"00_mic2.flac' has 16000 Hz, but sample_rate in .* is 8000; "
    ):
        datasets.pairs_json(tmp_path)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("pair", None, "pair of pair 1 is None, expected the NN"),
        ("pair", 0, "pair of pair 1 is 0, expected the NN"),
        ("pair", "", "pair of pair 1 is '', expected the NN"),
        ("pair", "../00", "pair of pair 1 is '../00', expected the NN"),
        ("pair", "a/b", "pair of pair 1 is 'a/b', expected the NN"),
        ("kind", " ", "kind of pair 1 is ' ', expected text"),
        ("source", ["x"], "source of pair 1 is .'x'., expected text"),
        ("direct_delay_samples", "3", "direct_delay_samples of pair 1 is '3', expected a finite"),
        ("direct_delay_samples", float("nan"), "direct_delay_samples of pair 1 is nan, expected a finite"),
        ("direct_delay_samples", float("inf"), "direct_delay_samples of pair 1 is inf, expected a finite"),
        ("direct_delay_samples", 10**400, "direct_delay_samples of pair 1 is 1000.*, expected a finite"),
        ("direct_delay_samples", True, "direct_delay_samples of pair 1 is True, expected a finite"),
        ("polarity", 0, "polarity of pair 1 is 0, expected 1, -1 or null"),
        ("polarity", 1.0, "polarity of pair 1 is 1.0, expected 1, -1 or null"),
        ("polarity", True, "polarity of pair 1 is True, expected 1, -1 or null"),
    ],
)
def test_a_wrong_field_is_named(tmp_path, field, value, words):
    put(tmp_path, ENTRY)
    (tmp_path / "pairs.json").write_text(json.dumps({"sample_rate": FS, "pairs": [ENTRY | {field: value}]}))
    with pytest.raises(audio.AudioError, match=f"pairs.json': {words}") as caught:
        datasets.pairs_json(tmp_path)
    assert one_sentence(str(caught.value))


@pytest.mark.parametrize("field", ["pair", "kind", "source"])
def test_a_missing_field_is_named(tmp_path, field):
    put(tmp_path, ENTRY)
    entry = {name: value for name, value in ENTRY.items() if name != field}
    (tmp_path / "pairs.json").write_text(json.dumps({"sample_rate": FS, "pairs": [entry]}))
    with pytest.raises(audio.AudioError, match=f"{field} of pair 1 is missing, expected .*; correct"):
        datasets.pairs_json(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not JSON"),
        ('{"pairs"', "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", r"holds \[\], expected an object"),
        ("{}", "sample_rate is missing, expected a whole number"),
        ('{"sample_rate": 44100.5}', "sample_rate is 44100.5, expected a whole number"),
        ('{"sample_rate": 0}', "sample_rate is 0, expected a whole number"),
        ('{"sample_rate": true}', "sample_rate is True, expected a whole number"),
        ('{"sample_rate": 8000}', "pairs is missing, expected a list"),
        ('{"sample_rate": 8000, "pairs": {}}', "pairs is {}, expected a list"),
        ('{"sample_rate": 8000, "pairs": []}', r"pairs is \[\], expected a list"),
        ('{"sample_rate": 8000, "pairs": [3]}', "pair 1 is 3, expected an object"),
        (json.dumps({"sample_rate": FS, "pairs": [ENTRY, ENTRY]}), "lists pair '00' more than once"),
    ],
)
def test_a_wrong_file_is_named(tmp_path, text, words):
    (tmp_path / "pairs.json").write_text(text)
    with pytest.raises(audio.AudioError, match=rf"pairs.json'.* ?{words}") as caught:
        datasets.pairs_json(tmp_path)
    assert one_sentence(str(caught.value))


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "pairs.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(audio.AudioError, match="is not JSON"):
        datasets.pairs_json(tmp_path)


def test_nothing_there(tmp_path):
    with pytest.raises(
        audio.AudioError, match=r"pairs.json' cannot be opened: no such file.*; give the folder"
    ):
        datasets.pairs_json(tmp_path)
    with pytest.raises(audio.AudioError, match=r"nowhere' cannot be opened: no such file.*; give the folder"):
        datasets.pairs_json(tmp_path / "nowhere")


def test_a_recording_that_is_not_there(tmp_path):
    put(tmp_path, ENTRY)
    (tmp_path / "00_mic2.flac").unlink()
    with pytest.raises(audio.AudioError, match=r"00_mic2.flac' does not exist"):
        datasets.pairs_json(tmp_path)


def test_reading_pairs_needs_no_jax():
    command = "import sys; from jaxapf.datasets import pairs_json, sdds; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], check=False).returncode == 0


# The Snare Drum Data Set

HEADER = "FileName,Snare,Dampening,Mic,Position,Strike,Peak,ClassID"
# Of two strokes of a snare five microphones heard the first and two the second; of another snare, one stroke.
TAKES = [
    ("Gretsch", "None", "Shure_SM57", "TP", 1),
    ("Gretsch", "None", "AKG_414", "TP", 1),
    ("Gretsch", "None", "AKG_414", "BTM", 1),
    ("Gretsch", "None", "Shure_SM7B", "SHL", 1),
    ("Gretsch", "None", "Audix_i5", "SHL", 1),
    ("Gretsch", "None", "Shure_SM57", "TP", 10),
    ("Gretsch", "None", "AKG_414", "BTM", 10),
    ("Tama6.5", "None", "Audix_i5", "BTM", 1),
    ("Tama6.5", "None", "Shure_SM57", "TP", 1),
]


def stem(snare, dampening, microphone, position, strike):
    return f"{snare}_{dampening}_{microphone}_{position}_Segment_{strike}_peak_0.{strike}"


def line(take):
    snare, dampening, microphone, position, strike = take
    number = TAKES.index(take)
    cells = (
        f"{stem(*take)}.wav",
        snare,
        dampening,
        microphone.replace("_", " "),
        position,
        strike,
        0.5,
        number,
    )
    return ",".join(map(str, cells))


def strokes(pairs):
    """Hit, and the two microphones, in the words of the made-up folder."""
    by_stem = {stem(*take): take for take in TAKES}
    return [(p.hit, *(" ".join(by_stem[path.stem][2:4]) for path in (p.dry, p.wet))) for p in pairs]


@pytest.fixture
def snares(tmp_path):
    for number, take in enumerate(TAKES):
        audio.write(tmp_path / f"{stem(*take)}.wav", noise(seed=number), FS)
    (tmp_path / "annotations.csv").write_text("\n".join([HEADER, *map(line, TAKES)]) + "\n")
    return tmp_path


@pytest.mark.parametrize("annotated", [True, False])
def test_top_is_laid_on_bottom(snares, annotated):
    if not annotated:
        (snares / "annotations.csv").unlink()
    pairs = datasets.sdds(snares)
    assert sorted(strokes(pairs)) == [
        ("Gretsch None 1", "AKG_414 TP", "AKG_414 BTM"),
        ("Gretsch None 1", "Shure_SM57 TP", "AKG_414 BTM"),
        ("Gretsch None 10", "Shure_SM57 TP", "AKG_414 BTM"),
        ("Tama6.5 None 1", "Shure_SM57 TP", "Audix_i5 BTM"),
    ]
    assert {(p.kind, p.delay_samples, p.polarity) for p in pairs} == {("TP_BTM", None, None)}
    assert len({p.name for p in pairs}) == len(pairs)
    assert len(datasets.sdds(snares, "Shure SM57", "AKG 414 BTM")) == 2
    dry, _, fs = datasets.read_pair(pairs[0])
    number = [stem(*take) for take in TAKES].index(pairs[0].dry.stem)
    np.testing.assert_allclose(dry, noise(seed=number)[0], atol=2**-22)
    assert fs == FS


def test_pairs_keep_the_order_of_the_annotations(snares):
    lines = (snares / "annotations.csv").read_text().splitlines()
    (snares / "annotations.csv").write_text("\r\n".join(["\ufeff" + lines[0], *reversed(lines[1:])]))
    assert [hit for hit, _, _ in strokes(datasets.sdds(snares))] == [
        "Tama6.5 None 1",
        "Gretsch None 10",
        "Gretsch None 1",
        "Gretsch None 1",
    ]


@pytest.mark.parametrize(
    ("dry", "wet", "expected"),
    [
        ("Shure SM57", "AKG 414 BTM", [("1", "Shure_SM57 TP", "AKG_414 BTM")]),
        ("AKG 414 TP", "Shure SM57 TP", [("1", "AKG_414 TP", "Shure_SM57 TP")]),
        # Two of one position, each pair once, in the order of the annotations.
        ("SHL", "SHL", [("1", "Shure_SM7B SHL", "Audix_i5 SHL")]),
        # One microphone on two sides of the drum.
        ("AKG 414", "AKG 414", [("1", "AKG_414 TP", "AKG_414 BTM")]),
    ],
)
def test_microphones_are_chosen_by_name_and_place(snares, dry, wet, expected):
    found = [one for one in strokes(datasets.sdds(snares, dry, wet)) if one[0] == "Gretsch None 1"]
    assert found == [("Gretsch None 1", *expected[0][1:])]


def test_all_that_heard_a_stroke_beside_the_reference(snares):
    on_top = strokes(datasets.sdds(snares, None, "Shure SM57 TP"))
    assert [one for one in on_top if one[0] == "Gretsch None 1"] == [
        ("Gretsch None 1", f"{microphone} {place}", "Shure_SM57 TP")
        for _, _, microphone, place, _ in TAKES[1:5]
    ]
    turned = [(hit, wet, dry) for hit, dry, wet in strokes(datasets.sdds(snares, "Shure SM57 TP", None))]
    assert sorted(turned) == sorted(on_top)


def test_columns_of_another_name(snares):
    text = (snares / "annotations.csv").read_text()
    (snares / "annotations.csv").unlink()
    other = snares.parent / f"{snares.name}.csv"
    other.write_text(text.replace("FileName", "wav").replace("ClassID", "hit").replace("Position", "side"))
    columns = datasets.SddsColumns("wav", ("Snare", "Strike"), ("side",))
    try:
        pairs = datasets.sdds(snares, annotations=other, columns=columns)
    finally:
        other.unlink()
    assert [p.hit for p in pairs] == ["Gretsch 1", "Gretsch 1", "Gretsch 10", "Tama6.5 1"]


def test_files_in_folders(snares):
    (snares / "takes").mkdir()
    for name in snares.glob("*.wav"):
        name.rename(snares / "takes" / name.name)
    lines = (snares / "annotations.csv").read_text().splitlines()
    (snares / "annotations.csv").write_text("\n".join([lines[0], *(f"takes/{one}" for one in lines[1:])]))
    assert {p.dry.parent.name for p in datasets.sdds(snares)} == {"takes"}


FIRST = line(TAKES[0])


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "has the columns none, expected also FileName, Snare"),
        (["FileName,Snare,Mic,Position"], "expected also Dampening, Strike; name them with columns="),
        ([HEADER], "has no stroke .* by both 'TP' and 'BTM'; it lists no recordings; choose"),
        ([HEADER, FIRST], "has no stroke .*; its microphones are Shure SM57 TP; choose two"),
        ([HEADER, FIRST, FIRST], "lists 'Gretsch_None_Shure.*' again in line 3, expected once; correct"),
        ([HEADER, FIRST.replace("None,", ",")], "Dampening in line 2 is empty, expected a value; correct"),
        ([HEADER, "x.wav"], "Snare in line 2 is empty, expected a value; correct"),
        ([HEADER, "x" + FIRST], "xGretsch.*' does not exist, but line 2 of .*; give the folder"),
    ],
)
def test_wrong_annotations_are_named(snares, lines, words):
    (snares / "annotations.csv").write_text("\n".join(lines))
    with pytest.raises(audio.AudioError, match=words) as caught:
        datasets.sdds(snares)
    assert str(snares) in str(caught.value)
    assert one_sentence(str(caught.value))


def test_unreadable_annotations(snares):
    (snares / "annotations.csv").write_bytes(b"FileName,Snare\xff\n")
    with pytest.raises(audio.AudioError, match="is not a CSV file in UTF-8"):
        datasets.sdds(snares)
    with pytest.raises(audio.AudioError, match=r"nowhere.csv' cannot be opened: no such file.*; give"):
        datasets.sdds(snares, annotations=snares / "nowhere.csv")
    with pytest.raises(audio.AudioError, match="is not a folder; give the one"):
        datasets.sdds(snares / "annotations.csv")


def test_a_file_that_is_named_otherwise(snares):
    (snares / "annotations.csv").unlink()
    (snares / "._hidden.wav").touch()
    (snares / "notes.txt").touch()
    assert len(datasets.sdds(snares)) == 4
    (snares / "take 1.wav").touch()
    with pytest.raises(audio.AudioError, match=r"take 1.wav' is not named .*, expected SNARE_.*; give"):
        datasets.sdds(snares)


def test_names_that_nobody_has(snares):
    with pytest.raises(
        audio.AudioError, match=r"by both 'top' and any other; its microphones are AKG 414 BTM, "
    ):
        datasets.sdds(snares, "top", None)
    with pytest.raises(ValueError, match="dry and wet are both None; name"):
        datasets.sdds(snares, None, None)
