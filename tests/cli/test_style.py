"""`jaxapf style`, what other commands make of its controls, and `effects.style.transfer` beneath."""

import importlib
import itertools
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import scipy.signal
from command_line import FS, files, refused, run
from signals import relative_rms

from jaxapf import audio, params
from jaxapf.alignment.model import ModelError
from jaxapf.audio import level
from jaxapf.cli import jax_setup
from jaxapf.effects import equalizer
from jaxapf.effects.style import network as style
from jaxapf.effects.style import transfer

STYLE = ("style", "x.wav", "ref.wav", "-o", "y.wav", "--network", "net.npz")
DESIGN = style.Design(channels=4, dilations=(1,), hidden=(8,))


def small_network():
    """Random weights, so that the choice depends on what is heard."""
    shapes = jax.eval_shape(lambda key: style.initial_weights(DESIGN, key, 0), jax.random.key(0))
    rng = np.random.default_rng(0)
    draw = lambda one: rng.normal(scale=0.3, size=one.shape).astype(np.float32)  # noqa: E731
    return style.Network(DESIGN, jax.tree.map(draw, shapes))


def bursts(n, seed=0):
    """Noise, low and high, soft and loud in turns."""
    rng = np.random.default_rng(seed)
    x = np.asarray(scipy.signal.lfilter([1.0], [1.0, -0.7], rng.standard_normal(n)))
    return 0.05 * x * np.repeat(10.0 ** rng.uniform(-0.5, 0.3, n // 400 + 1), 400)[:n]


@pytest.fixture(scope="module")
def stored_network(tmp_path_factory):
    """The file of `small_network`, which tests only read."""
    path = tmp_path_factory.mktemp("network") / "net.npz"
    style.save(small_network(), path)
    return path


@pytest.fixture
def takes(stored_network, tmp_path, monkeypatch, loose_jax):
    """x.wav, stereo; ref.wav, mono and at another rate; net.npz."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jax_setup, "use_compilation_cache", lambda: None)
    left = bursts(FS)
    audio.write("x.wav", np.stack([left, 0.25 * left]), FS, subtype="FLOAT")
    audio.write("ref.wav", 0.3 * bursts(12000, seed=1), 12000)
    shutil.copyfile(stored_network, "net.npz")


# The command


def test_a_file_is_styled_and_its_controls_serve_again(takes, capsys):
    code, out, err = run(capsys, *STYLE, "--controls", "c.json", "--report", "r.html")
    assert (code, err) == (0, "")
    for words in ("high shelf", "threshold", "ratio", ": 1", "level after", "c.json", "r.html", "2 channels"):
        assert words in out
    y, fs = audio.read("y.wav")
    assert (y.shape, fs, audio.info("y.wav").subtype) == ((2, FS), FS, "FLOAT")
    reference, _ = audio.read("ref.wav")
    assert loudness(y, FS) == pytest.approx(loudness(reference, 12000), abs=0.05)
    # One gain for both channels: the image stays.
    np.testing.assert_allclose(y[1], 0.25 * y[0], atol=1e-6)
    found = json.loads(Path("c.json").read_text())
    assert list(found["controls"]) == [one.name for one in style.CONTROLS]
    assert run(capsys, "apply", "c.json", "x.wav", "-o", "again.wav")[0] == 0
    np.testing.assert_array_equal(audio.read("again.wav")[0], y)
    assert "c.json: controls of a style" in run(capsys, "info", "c.json")[1]
    assert json.loads(run(capsys, "info", "--json", "c.json")[1])["c.json"]["controls"] == found["controls"]
    assert "the model of a style" in refused(capsys, "export", "c.json", "--format", "sos", "-o", "c.txt")
    check_page(Path("r.html").read_text(encoding="utf-8"))


def check_page(page):
    assert page.count("<audio") == 3
    assert "{{" not in page
    assert "http:" not in page
    assert "https:" not in page
    for words in ("x.wav in the style of ref.wav", "release", "Spectra", "0.3 to 5"):
        assert words in page


def test_json_has_the_controls(takes, capsys):
    words = (*STYLE, "--passes", "1", "--channels", "2")
    code, out, err = run(capsys, *words, "--json")
    assert (code, err) == (0, "")
    result = json.loads(out)
    assert set(result["controls"]) == {one.name for one in style.CONTROLS}
    assert (result["passes"], result["output"]["n_channels"]) == (1, 1)
    assert run(capsys, *words, "--quiet") == (0, "", "")


def test_a_reference_of_a_low_rate_is_told(takes, capsys):
    code, out, _ = run(capsys, "style", "ref.wav", "x.wav", "-o", "y.wav", "--network", "net.npz")
    assert code == 0
    assert "at 8000 Hz, has nothing above 4000 Hz" in out


def test_it_never_clips(takes, capsys):
    clicks = 0.01 * bursts(FS)
    clicks[::1000] = 0.9
    audio.write("x.wav", np.stack([clicks, 0.25 * clicks]), FS)
    audio.write("ref.wav", np.clip(20 * bursts(12000, seed=1), -0.99, 0.99), 12000)
    code, out, err = run(capsys, *STYLE)
    assert (code, err) == (0, "")
    assert "softer than the reference, so that it does not clip" in out
    assert 0.9 < np.max(np.abs(audio.read("y.wav")[0])) < 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("style", "none.wav", "ref.wav", "-o", "y.wav"), "'none.wav' does not exist"),
        (("style", "x.wav", ".", "-o", "y.wav"), "'.' is a folder"),
        (("style", "x.wav", "ref.wav"), "-o"),
        ((*STYLE[:4], "x.wav", *STYLE[5:]), "'x.wav' is an input file"),
        ((*STYLE[:4], "ref.wav", *STYLE[5:]), "'ref.wav' is an input file"),
        ((*STYLE[:4], "y.wav", "--network", "none.npz"), "'none.npz' does not exist"),
        ((*STYLE[:4], "y.wav", "--network", "x.wav"), "'x.wav' is no network of jaxapf's style transfer"),
        ((*STYLE, "--report", "y.wav"), "named for two outputs"),
        ((*STYLE, "--controls", "no/c.json"), "the folder does not exist"),
        ((*STYLE, "--passes", "0"), "'0' is not a whole number from 1 to 10"),
        ((*STYLE, "--channels", "3"), "no channel 3"),
        ((*STYLE, "--subtype", "PCM_99"), "PCM_99"),
        (("style", "silent.wav", *STYLE[2:]), "'silent.wav' is silent, so there is nothing to measure"),
        (("style", "x.wav", "silent.wav", *STYLE[3:]), "'silent.wav' is silent"),
        (("style", "anti.wav", *STYLE[2:]), "'anti.wav' is silent when its channels are mixed"),
        (("style", "short.wav", *STYLE[2:]), "'short.wav' lasts 0.240 s, too short"),
        (("style", "nan.wav", *STYLE[2:]), "'nan.wav' holds a sample that is not a finite number"),
        (("style", "slow.wav", *STYLE[2:]), "'slow.wav' is at 4000 Hz"),
        (("apply", "foreign.json", "x.wav", "-o", "y.wav"), "'foreign.json'"),
    ],
)
def test_mistakes_are_one_sentence(takes, capsys, arguments, message):
    broken = bursts(FS)
    broken[5] = np.nan
    half = bursts(FS)
    for name, x, fs in (
        ("silent", np.zeros(FS), FS),
        ("anti", np.stack([half, -half]), FS),
        ("short", half[: round(0.24 * FS)], FS),
        ("slow", half, 4000),
    ):
        audio.write(f"{name}.wav", x, fs)
    scipy.io.wavfile.write("nan.wav", FS, broken.astype(np.float32))
    Path("foreign.json").write_text('{"format": "jaxapf-style", "version": 1}')
    before = files()
    assert message in refused(capsys, *arguments)
    assert files() == before


def test_without_a_network_it_says_so(takes, capsys, monkeypatch):
    def missing(name):
        raise ValueError(f"there is no stored checkpoint '{name}'")

    monkeypatch.setattr("jaxapf.training.pretrained.path", missing)
    assert "name one with --network" in refused(capsys, *STYLE[:5])


# The effects


def loop(controls, x, fs):
    """Equaliser by SciPy, compressor sample by sample, in float64; one gain, of the mean of the channels."""
    equaliser, c = transfer.parts(controls)
    x = np.asarray(scipy.signal.sosfilt(equalizer.sections(equaliser, fs).sos, x))
    average, attack, release = (
        1 - np.exp(-np.log(9) / (1e-3 * fs * ms)) for ms in (1.0, c.attack_ms, c.release_ms)
    )
    p, g, gains = 0.0, 0.0, []
    for value in x.mean(axis=0):
        p += average * (value**2 - p)
        over = 10 * np.log10(max(p, 1e-10)) - c.threshold_db
        bent = np.clip(over + c.knee_db / 2, 0, c.knee_db) ** 2 / (2 * c.knee_db)
        wanted = (1 / c.ratio - 1) * (bent + max(over - c.knee_db / 2, 0.0))
        g += (attack if wanted < g else release) * (wanted - g)
        gains.append(g)
    return 10 ** ((np.array(gains) + c.makeup_db) / 20) * x, np.array(gains)


@pytest.fixture
def played():
    """Settings at random, a stereo signal, and what comes of it by the loop."""
    raw = np.random.default_rng(5).uniform(-0.9, 0.9, len(style.CONTROLS))
    settings = transfer.Settings(transfer.named_controls(raw), 3.0, -2.0)
    x = np.stack([bursts(5000), bursts(5000, seed=3)]).astype(np.float32)
    y, gains_db = loop(settings.controls, 10 ** (3 / 20) * x.astype(np.float64), FS)
    return settings, x, 10 ** (-2 / 20) * y, gains_db


@pytest.mark.parametrize("block", [1000, 1234, 2**17])
def test_blocks_are_the_loop(played, block):
    settings, x, expected, gains_db = played
    assert gains_db.min() < -1.0
    blocks = settings.stream(lambda a, b: x[:, a:b], x.shape[-1], FS, block_samples=block)
    y = np.concatenate(list(blocks), axis=-1)
    assert y.dtype == np.float32
    assert relative_rms(y.astype(np.float64), expected) < 1e-5


def test_the_gain_over_time_is_that_of_the_loop(played):
    settings, x, _, gains_db = played
    np.testing.assert_allclose(transfer.reduction_db(settings, x, FS), gains_db, atol=1e-3)


def test_the_command_knows_what_it_cannot_import():
    # Not "from": the package has a function of the module's name.
    command = importlib.import_module("jaxapf.cli.style")
    assert (command.NETWORK_HZ, command.STORED) == (style.FS, transfer.STORED)


# From Python


def test_transfer_gives_the_shape_the_level_and_the_controls():
    x, reference = bursts(FS).astype(np.float32), 0.1 * bursts(12000, seed=1)
    network = small_network()
    made = transfer.transfer(x, reference, FS, 12000, network=network)
    assert made.audio.shape == x.shape
    assert made.level_db == pytest.approx(loudness(reference[None], 12000), abs=0.01)
    assert made.lowered_db == 0.0
    values = params.denormalise(made.raw.astype(np.float64), style.CONTROLS)
    np.testing.assert_allclose(list(made.controls.values()), values)
    # Levels are brought to one: a softer copy gets the same controls and the same result.
    softer = transfer.transfer(0.1 * x, 2.0 * reference, FS, 12000, network=network)
    np.testing.assert_allclose(softer.raw, made.raw, atol=1e-4)
    assert softer.level_db == pytest.approx(made.level_db + 20 * np.log10(2.0), abs=0.01)
    # Another reference, another choice.
    other = transfer.transfer(x, bursts(12000, seed=7)[::-1] ** 3 * 100, FS, 12000, network=network)
    assert np.max(np.abs(other.raw - made.raw)) > 1e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input": np.zeros(FS)}, "input is silent"),
        ({"input": np.ones(100)}, "input lasts 0.013 s"),
        ({"reference": np.full(FS, np.nan)}, "reference holds NaN"),
        ({"reference": np.ones((1, 1, FS))}, "reference has shape"),
        ({"fs": 4000}, "fs is 4000; expected 8000 to 192000 Hz"),
        ({"passes": 0}, "passes is 0"),
    ],
)
def test_transfer_refuses(change, message):
    given = {"input": bursts(FS), "reference": bursts(FS), "fs": FS, "reference_fs": FS}
    with pytest.raises(ValueError, match=message):
        transfer.transfer(**{**given, "network": small_network(), **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "holds no controls"),
        ({"version": 2}, "version 2"),
        ({"input_db": "loud"}, "input_db is 'loud', not a number"),
        ({"output_db": 1e9}, "output_db is 1e"),
        ({"controls": {}}, "missing or wrong: 'equalizer"),
        ({"controls": []}, "damaged model"),
        ("compressor.ratio", "compressor.ratio is 0.5, not between 1 and 10"),
        ("compressor.rate", "'compressor.rate' is no control"),
    ],
)
def test_controls_that_were_spoilt_are_refused(tmp_path, change, message):
    path = tmp_path / "c.json"
    transfer.save(transfer.Settings(transfer.named_controls(np.zeros(24)), 1.0, 2.0), path)
    document = json.loads(path.read_text())
    if isinstance(change, str):
        document["controls"][change] = 0.5
    else:
        document |= change
    path.write_text(json.dumps(document))
    with pytest.raises(ModelError, match=message):
        transfer.load(path)


def test_controls_come_back(tmp_path):
    settings = transfer.Settings(transfer.named_controls(np.linspace(-1, 1, 24)), 1.5, -2.5, "jaxapf style")
    transfer.save(settings, tmp_path / "c.json")
    assert transfer.load(tmp_path / "c.json") == settings


# Levels and stretches


def loudness(x, fs):
    return level.level_db(level.powers(lambda a, b: x[:, a:b], x.shape[-1], fs).channels)


def test_silence_does_not_count():
    tone = np.sin(np.arange(FS) / 3.0)[None]
    rms_db = 10 * np.log10(np.mean(tone**2))
    assert loudness(tone, FS) == pytest.approx(rms_db, abs=0.01)
    with_silence = np.concatenate([tone, 1e-3 * tone, np.zeros((1, 3 * FS))], axis=-1)
    assert loudness(with_silence, FS) == pytest.approx(rms_db, abs=0.01)
    assert loudness(np.zeros((1, FS)), FS) == -np.inf


def test_the_blocks_of_long_recordings_do_not_matter(monkeypatch):
    x = bursts(10_001)[None]
    whole = level.powers(lambda a, b: x[:, a:b], x.shape[-1], FS)
    monkeypatch.setattr(level, "_BLOCK", 900)
    np.testing.assert_allclose(level.powers(lambda a, b: x[:, a:b], x.shape[-1], FS).mono, whole.mono)


def test_typical_stretches_leave_silence_out():
    frames = round(1 / level.FRAME_S)  # a second
    power = np.zeros(300 * frames)
    power[100 * frames : 200 * frames] = 1.0
    found = level.typical(power, 300 * FS, FS)
    assert 2 <= len(found) <= 12
    for start, stop in found:
        assert stop - start == 5 * FS
        assert start >= 97 * FS
        assert stop <= 203 * FS
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(found))
    short = level.typical(power[98 * frames : 106 * frames], 8 * FS, FS)
    assert short == [(2 * FS, 8 * FS)]


def test_no_more_than_a_minute_is_heard():
    x = bursts(100 * FS)[None].astype(np.float32)
    recording = transfer.Recording(lambda a, b: x[:, a:b], x.shape[-1], FS)
    heard = transfer.network_input(recording, level.powers(*recording))
    assert 50 * style.FS < heard.size <= 60 * style.FS
    assert 10 * np.log10(np.mean(heard**2)) == pytest.approx(style.LEVEL_DB, abs=0.5)
