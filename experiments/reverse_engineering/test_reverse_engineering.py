"""The reverse-engineering experiment: a short search that gets nearer, and what the command leaves behind."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parent
MODULES = ("config", "fitting", "picture", "run")
README = "# Title\n\n<!-- recovered:begin -->\nold\n<!-- recovered:end -->\n"


@pytest.fixture
def run(monkeypatch, loose_jax):
    """The script as a module, with a search of a few steps."""
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in MODULES:  # another experiment's modules may have the same names
        monkeypatch.delitem(sys.modules, name, raising=False)
    module = importlib.import_module("run")
    short = {"CLIP_S": 0.2, "CHUNK_S": 0.1, "STARTS": 2, "FIRST_STEPS": 20, "THEN_STEPS": 60, "LAST_STEPS": 4}
    for name, value in short.items():
        monkeypatch.setattr(module.config, name, value)
    yield module
    for name in MODULES:
        sys.modules.pop(name, None)


def test_hidden_settings_are_inside_their_ranges_and_reproducible(run):
    for seed in range(4):
        values = run.hidden(seed)
        assert values == run.hidden(seed) != run.hidden(seed + 1)
        for value, control in zip(values, run.fitting.controls(), strict=True):
            assert control.low < value < control.high


def test_the_response_is_the_equaliser_s(run):
    values = run.hidden(0)
    for at in range(1, 19, 3):
        values[at] = 0.0
    np.testing.assert_allclose(run.response_db(values), 0.0, atol=1e-4)
    values[4], values[5] = 6.0, 500.0
    nearest = int(np.argmin(np.abs(run.FREQS_HZ - 500.0)))
    assert run.response_db(values)[nearest] == pytest.approx(6.0, abs=0.1)


def test_what_the_equaliser_s_level_hides_is_taken_out(run):
    """Louder by 3 dB, threshold up by 3, make-up down by 3: the same sound, and no error is left."""
    names = [control.name for control in run.fitting.controls()]
    true = run.hidden(2)
    found = list(true)
    found[names.index("compressor.threshold_db")] += 3.0
    found[names.index("compressor.makeup_db")] -= 3.0
    errors = run.moved(true, found, 3.0)
    assert errors == {"threshold": pytest.approx(0.0), "makeup": pytest.approx(0.0)}
    assert run.moved(true, true, 3.0)["threshold"] == pytest.approx(-3.0)
    dry = 0.1 * np.random.default_rng(0).standard_normal(400).astype(np.float32)
    strip = run.fitting.strip()
    before = run.chain.chain(strip[0], strip[1])
    louder = [run.chain.apply(before, true[:19], dry, 24e3) * gain for gain in (1.0, 10 ** (3 / 20))]
    both = [
        run.chain.apply(strip[2], values[19:], x, 24e3)
        for values, x in zip((true, found), louder, strict=True)
    ]
    np.testing.assert_allclose(*both, atol=1e-5 * float(np.max(np.abs(both[0]))))


@pytest.mark.slow
def test_the_search_gets_nearer_and_the_files_are_written(run, tmp_path, capsys):
    readme = tmp_path / "README.md"
    readme.write_text(README, encoding="utf-8")
    assert run.main(["--seed", "1", "--folder", str(tmp_path), "--update", str(readme)]) == 0
    (row,) = json.loads((tmp_path / "recovered.json").read_text(encoding="utf-8"))
    dry = run.read_clip(Path(run.datasets.example_pair()[0]))
    wet = run.make_wet(row["true"], dry)
    begin = np.asarray(run.fitting.processed(np.zeros(25, np.float32), dry, 24e3))
    assert row["esr"] < 0.3 * np.sum((begin - wet) ** 2) / np.sum(wet**2)
    assert "Recovered: " in readme.read_text(encoding="utf-8")
    assert "Recovered: " in capsys.readouterr().out
    picture = (tmp_path / "picture.svg").read_text(encoding="utf-8")
    assert picture.count('class="curve true"') >= 3
    assert picture.count('class="curve found"') >= 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "missing.wav"], "missing.wav"),
        (["--update", "missing.md"], "cannot be updated"),
    ],
)
def test_mistakes_are_told_in_a_sentence(run, tmp_path, capsys, arguments, message):
    assert run.main([*arguments, "--folder", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
