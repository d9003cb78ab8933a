"""Readers of recorded sets by folder: what they list and what they refuse."""

import json

import numpy as np
import pytest

from jaxapf import audio, datasets

FS = 24_000


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_small_stone_lists_the_settings_that_are_present(tmp_path):
    touch(
        tmp_path,
        "input_dry.wav",
        "colour=1_rate=9oclock.wav",
        "colour=0_rate=12oclock.wav",
        "colour=0_rate=5oclock.wav",
    )
    found = datasets.small_stone(tmp_path)
    assert [(one.colour, one.rate) for one in found] == [(0, 12), (1, 9)]
    assert {one.dry for one in found} == {tmp_path / "input_dry.wav"}


def test_signaltrain_takes_targets_with_their_inputs(tmp_path):
    touch(
        tmp_path, "Train/input_7_.wav", "Train/target_7_LA2A_2c__1__90.wav", "Test/target_8_LA2A_2c__0__5.wav"
    )
    (found,) = datasets.signaltrain(tmp_path)
    assert (found.dry.name, found.limit, found.peak_reduction) == ("input_7_.wav", True, 90)


def test_libritts_stops_at_the_seconds_of_a_speaker(tmp_path):
    for number, seconds in enumerate((6.0, 1.0, 7.0, 8.0)):
        path = tmp_path / "14" / "208" / f"14_208_{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        audio.write(path, np.zeros((1, round(seconds * FS))), FS)
    found = datasets.libritts(tmp_path, seconds=10.0)
    assert [(one.name, one.speaker, one.kind) for one in found] == [
        ("14_208_0", "14", "speech"),
        ("14_208_2", "14", "speech"),
    ]


def test_lists_name_speech_and_loops(tmp_path):
    for place, names in (("speech", ["b.flac", "a.flac"]), ("loops", ["drums.flac"])):
        (tmp_path / place).mkdir()
        (tmp_path / place / f"{place}.json").write_text(json.dumps({name: {} for name in names}))
    found = datasets.speech_and_loops(tmp_path)
    assert [(one.name, one.kind) for one in found] == [("a", "speech"), ("b", "speech"), ("drums", "loop")]
    assert found[0].path == tmp_path / "speech" / "a.flac"


@pytest.mark.parametrize(
    "reader", [datasets.small_stone, datasets.signaltrain, datasets.libritts, datasets.speech_and_loops]
)
def test_folders_without_recordings_are_refused_in_one_sentence(reader, tmp_path):
    for folder in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(audio.AudioError) as caught:
            reader(folder)
        assert str(folder) in str(caught.value)
        assert "\n" not in str(caught.value)
