"""The reverse-engineering experiment: a short search that gets nearer, and what the command leaves behind."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from experiments.reverse_engineering import __main__ as command
from experiments.reverse_engineering import config, evaluate, train
from jaxapf import datasets
from jaxapf.effects import chain

FOLDER = Path(__file__).parent


@pytest.fixture(autouse=True)
def short(monkeypatch, loose_jax):
    """A search of a few steps."""
    steps = {"CLIP_S": 0.2, "CHUNK_S": 0.1, "STARTS": 2, "FIRST_STEPS": 20, "THEN_STEPS": 60, "LAST_STEPS": 4}
    for name, value in steps.items():
        monkeypatch.setattr(config, name, value)


def test_hidden_settings_are_inside_their_ranges_and_reproducible():
    for seed in range(4):
        values = evaluate.hidden(seed)
        assert values == evaluate.hidden(seed) != evaluate.hidden(seed + 1)
        for value, control in zip(values, train.controls(), strict=True):
            assert control.low < value < control.high


def test_the_response_is_the_equaliser_s():
    values = evaluate.hidden(0)
    for at in range(1, 19, 3):
        values[at] = 0.0
    np.testing.assert_allclose(evaluate.response_db(values), 0.0, atol=1e-4)
    values[4], values[5] = 6.0, 500.0
    nearest = int(np.argmin(np.abs(evaluate.FREQS_HZ - 500.0)))
    assert evaluate.response_db(values)[nearest] == pytest.approx(6.0, abs=0.1)


def test_what_the_equaliser_s_level_hides_is_taken_out():
    """Louder by 3 dB, threshold up by 3, make-up down by 3: the same sound, and no error is left."""
    names = [control.name for control in train.controls()]
    true = evaluate.hidden(2)
    found = list(true)
    found[names.index("compressor.threshold_db")] += 3.0
    found[names.index("compressor.makeup_db")] -= 3.0
    errors = evaluate.moved(true, found, 3.0)
    assert errors == {"threshold": pytest.approx(0.0), "makeup": pytest.approx(0.0)}
    assert evaluate.moved(true, true, 3.0)["threshold"] == pytest.approx(-3.0)
    dry = 0.1 * np.random.default_rng(0).standard_normal(400).astype(np.float32)
    strip = train.strip()
    before = chain.chain(strip[0], strip[1])
    louder = [chain.apply(before, true[:19], dry, 24e3) * gain for gain in (1.0, 10 ** (3 / 20))]
    one, other = (
        np.asarray(chain.apply(strip[2], values[19:], x, 24e3))
        for values, x in zip((true, found), louder, strict=True)
    )
    np.testing.assert_allclose(one, other, atol=1e-5 * float(np.max(np.abs(one))))


@pytest.mark.slow
def test_the_search_gets_nearer_and_the_files_are_written(tmp_path, capsys):
    for name in ("README.md", "tables.md"):
        shutil.copy(FOLDER / name, tmp_path)
    assert command.main(["--seed", "1", "--folder", str(tmp_path), "--update", str(tmp_path)]) == 0
    (row,) = json.loads((tmp_path / "recovered.json").read_text(encoding="utf-8"))
    dry = evaluate.read_clip(Path(datasets.example_pair()[0]))
    wet = evaluate.make_wet(row["true"], dry)
    begin = np.asarray(train.processed(np.zeros(25, np.float32), dry, 24e3))
    assert row["esr"] < 0.3 * np.sum((begin - wet) ** 2) / np.sum(wet**2)
    assert "Recovered: 0 of 1" in (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "Recovered: " in capsys.readouterr().out
    picture = (tmp_path / "picture.svg").read_text(encoding="utf-8")
    assert picture.count('class="curve true"') >= 3
    assert picture.count('class="curve found"') >= 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "missing.wav"], "missing.wav"),
        (["--update", "missing"], "cannot be updated"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path, capsys, arguments, message):
    assert command.main([*arguments, "--folder", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
