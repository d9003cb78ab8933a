"""The experiment behind the README's figures, on tiny recordings of the same layout."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.signal

from experiments.alignment import __main__ as command
from experiments.alignment import config, evaluate
from experiments.alignment.data import paths
from experiments.common import released
from jaxapf import Alignment, allpass, audio, metrics

FS = 8000
NAMES = ("boxes", "music", "known", "drums")
README = "# T\n\n" + "\n".join(f"<!-- {name}:begin -->\nold\n<!-- {name}:end -->" for name in NAMES)


def device(x: np.ndarray) -> np.ndarray:
    """A small phase shift, a delay and a little noise: no fit is perfect."""
    y = scipy.signal.sosfilt(allpass.first_order(-0.7).sos, np.concatenate([np.zeros(5), x[:-5]]))
    return y + 1e-3 * np.random.default_rng(9).standard_normal(len(x))


def quick_align(dry: np.ndarray, wet: np.ndarray, fs: float, *, order: int | str) -> Alignment:
    """Stand in for `jaxapf.align`: knows the device, better with order "auto"."""
    sections = allpass.first_order(np.array([-0.69 if order == "auto" else -0.6]))
    figures = {"delay_only_samples": 6.0, "delay_only_polarity": 1, "order": 1}
    return Alignment(sections, 5.0, 1, fs, [{}], figures)


def write_pair(dry_path: Path, wet_path: Path, dry: np.ndarray) -> None:
    for path, x in ((dry_path, dry), (wet_path, device(dry))):
        path.parent.mkdir(parents=True, exist_ok=True)
        audio.write(path, x, FS)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    box = folder / "blackbox" / "toy"
    rng = np.random.default_rng(1)
    sweep = audio.log_sweep(0.5, FS, high_hz=3500.0)
    # Low-passed noise in bursts stands for music.
    noise = scipy.signal.lfilter(
        [0.3], [1, -0.7], rng.standard_normal((2, FS)) * (np.arange(FS) % 1000 < 600)
    )
    write_pair(box.parent / "sweep_dry.flac", box / "sweep_wet.flac", sweep)
    write_pair(box.parent / "loops_dry.flac", box / "loops_wet.flac", 0.2 * noise[0])
    write_pair(box.parent / "loops_dry_192k.flac", box / "loops_wet_192k.flac", 0.2 * noise[1])
    for number in range(3):
        hit = rng.standard_normal(1600) * np.exp(-np.arange(1600) / 200)
        microphones = folder / "drum_mics"
        write_pair(
            microphones / f"{number:02d}_mic1.flac", microphones / f"{number:02d}_mic2.flac", 0.2 * hit
        )
    return folder


@pytest.fixture
def results(monkeypatch, tmp_path, loose_jax) -> Path:
    """A folder for results; the settings are tiny."""
    tiny = {
        "BOXES": ("toy",),
        "DRUM_PAIRS": 3,
        "ORDERS": {"order 7": 1, "order auto": "auto"},
        "REFERENCE": {"toy": {"reach 7": 1e-9, "reach auto": 1.0}},
        "SURVEYOR_FS": 48_000,
        "SURVEYOR_S": 0.2,
        "SURVEYOR_ORDER": 2,
        "SPEED_BOX": "toy",
        "SPEED_ORDER": 1,
        "WARM_RUNS": 1,
        "HOUR_BOX": "toy",
        "HOUR_S": 100,
    }
    for name, value in tiny.items():
        monkeypatch.setattr(config, name, value)
    return tmp_path / "results"


def measure(data: Path, results: Path, names: str, *words: str) -> int:
    options = ["measure", "--data", str(data), "--only", names, "--folder", str(results), *words]
    return command.main(options)


def read(results: Path) -> dict:
    return json.loads((results / "figures.json").read_text(encoding="utf-8"))


def test_figures_of_fits_and_update_of_the_readme(results, data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(evaluate.jaxapf, "align", quick_align, raising=False)
    readme = tmp_path / "README.md"
    readme.write_text(README, encoding="utf-8")
    names = "boxes,music,known,drums"
    assert measure(data, results, names, "--update", str(tmp_path)) == 0
    found = read(results)
    assert set(found) == {"made_with", *names.split(",")}

    (box,) = found["boxes"]["rows"]
    dry, wet = (audio.read(path)[0] for path in paths(data, "loops_192k", "toy"))
    assert box["raw"] == metrics.esr(dry, wet)
    assert box["bound"] < box["order 7"] < 0.1 * box["raw"]
    assert [one["met"] for one in found["boxes"]["goals"]] == [False, True]

    (music,) = found["music"]["rows"]
    assert music["bound"] < music["order auto: music fit"] < 0.1 * music["raw"]
    ratio = music["order 7: music fit"] / music["order 7: sweep fit"]
    assert music["order 7: ratio"] == pytest.approx(ratio)

    (known,) = found["known"]["rows"]
    sweep = audio.log_sweep(config.SURVEYOR_S, config.SURVEYOR_FS)
    assert known["before"] == metrics.esr(
        sweep, scipy.signal.sosfilt(released.surveyor(config.SURVEYOR_FS).sos, sweep)
    )
    assert known["after"] < known["before"]

    (drums,) = found["drums"]["rows"]
    assert drums["raw"] < drums["best delay and polarity"] < drums["order 7"] < drums["bound"] <= 1
    assert drums["order 7: pairs made worse"] == 0
    assert drums["order 7"] == sorted(pair["order 7"] for pair in found["drums"]["pairs"])[1]

    tables = (results / "figures.md").read_text(encoding="utf-8")
    parts = re.split(r"## \w+\n\n", tables)[1:]
    expected = README
    for name, part in zip(NAMES, parts, strict=True):
        part = part if name == NAMES[-1] else part.removesuffix("\n")
        expected = expected.replace(f"{name}:begin -->\nold\n", f"{name}:begin -->\n{part}")
    assert readme.read_text(encoding="utf-8") == expected
    assert "**Missed**: toy, order 7" in tables
    assert tables.count("\n| --- |") == 4
    assert capsys.readouterr() == ("", "")  # no terminal, no progress


@pytest.mark.slow
def test_figures_with_the_real_fit(results, data, monkeypatch):
    monkeypatch.setattr(config, "DRUM_PAIRS", 1)
    monkeypatch.setattr(config, "ORDERS", {"order 7": 1})
    assert measure(data, results, "boxes,known,drums") == 0
    found = read(results)
    (box,), (known,), (drums,) = (found[name]["rows"] for name in ("boxes", "known", "drums"))
    assert box["bound"] < box["order 7"] < 0.01 * box["raw"]
    assert known["after"] < 0.1 * known["before"]
    assert drums["best delay and polarity"] < drums["order 7"] <= drums["bound"]


@pytest.mark.slow
def test_figures_of_the_command(results, data):
    assert measure(data, results, "speed,memory,hour") == 0
    found = read(results)
    (speed,) = found["speed"]["rows"]
    assert (
        speed["empty cache: seconds"] > speed["warm cache: seconds"] > speed["scipy.signal.sosfilt: seconds"]
    )
    assert len(found["memory"]["rows"]) == 2
    (hour,) = found["hour"]["rows"]
    assert hour["pair"] == "100.0 s, 8 kHz"
    assert hour["order auto"] < 0.1 * hour["raw"]
    for figure in ("speed", "memory", "hour"):
        assert all(50 < row["peak MiB"] < 3000 for row in found[figure]["rows"])


@pytest.mark.slow
def test_surveyor_cascade_is_the_released_one(results):
    """Its response is that of the released coefficients with z^-1 replaced by the warped delay."""
    given = released.SURVEYOR
    z = np.exp(-1j * np.geomspace(1e-4, 3.0, 50))
    c, d, a = (np.array(given[name])[:, None] for name in "cda")
    w = (a + z) / (1 + a * z)
    v = (given["h"] + z) / (1 + given["h"] * z)
    expected = np.prod((c + d * w + w**2) / (1 + d * w + c * w**2), axis=0)
    expected *= (given["g"] + v) / (1 + given["g"] * v)
    found = scipy.signal.sosfreqz(released.surveyor(config.SURVEYOR_FS).sos, np.geomspace(1e-4, 3.0, 50))[1]
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.slow
def test_memory_is_that_of_the_command_alone(results, tmp_path):
    held = np.ones(2**25)  # 256 MiB in this process
    _, small = evaluate.measured([sys.executable, "-I", "-c", "pass"], str(tmp_path))
    _, large = evaluate.measured([sys.executable, "-I", "-c", "x = b'1' * (100 * 2**20)"], str(tmp_path))
    assert small < 100 < large < 200 < held.nbytes / 2**20


@pytest.mark.slow
def test_a_failing_command_says_why(results, tmp_path):
    with pytest.raises(RuntimeError, match=r"exited with 3: .*so it is"):
        evaluate.measured(
            [sys.executable, "-c", "import sys; print('so it is', file=sys.stderr); sys.exit(3)"], ""
        )


@pytest.mark.parametrize("case", ["nowhere", "a file", "without recordings", "not audio"])
@pytest.mark.slow
def test_bad_data_is_one_sentence(results, tmp_path, capsys, case):
    folder = tmp_path / "recordings"
    if case == "a file":
        folder.touch()
    elif case != "nowhere":
        folder.mkdir()
    if case == "not audio":
        for path in evaluate.FIGURES["drums"].files(folder):
            path.parent.mkdir(exist_ok=True)
            path.write_text("no audio")
    assert measure(folder, results, "drums") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert str(folder) in err


@pytest.mark.parametrize("text", [None, "no markers", "<!-- known:end --><!-- known:begin -->", README * 2])
@pytest.mark.slow
def test_a_readme_that_cannot_be_updated_is_refused_first(results, data, tmp_path, capsys, text):
    readme = tmp_path / "README.md"
    if text is not None:
        readme.write_text(text, encoding="utf-8")
    assert measure(data, results, "known", "--update", str(tmp_path)) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not any(results.glob("*"))
    assert text is None or readme.read_text(encoding="utf-8") == text


@pytest.mark.slow
def test_unknown_figure_is_refused(results, data, capsys):
    with pytest.raises(SystemExit, match="2"):
        measure(data, results, "boxes,drum")
    assert "'drum' is none of boxes, music" in capsys.readouterr().err
