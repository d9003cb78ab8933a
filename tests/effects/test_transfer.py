"""Style transfer from Python: the effects against a loop, levels, controls as a file."""

import json

import numpy as np
import pytest
import scipy.signal
from signals import relative_rms
from styles import FS, bursts, loudness, small_network

from jaxapf import params
from jaxapf.alignment.model import ModelError
from jaxapf.audio import level
from jaxapf.effects import equalizer
from jaxapf.effects.style import network as style
from jaxapf.effects.style import transfer

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


# From Python


@pytest.mark.parametrize("passes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_transfer_gives_the_shape_the_level_and_the_controls(passes):
    x, reference = bursts(FS).astype(np.float32), 0.1 * bursts(12000, seed=1)
    options = {"network": small_network(), "passes": passes}
    made = transfer.transfer(x, reference, FS, 12000, **options)
    assert made.audio.shape == x.shape
    assert made.level_db == pytest.approx(loudness(reference[None], 12000), abs=0.01)
    assert made.lowered_db == 0.0
    values = params.denormalise(made.raw.astype(np.float64), style.CONTROLS)
    np.testing.assert_allclose(list(made.controls.values()), values)
    # Levels are brought to one: a softer copy gets the same controls and the same result.
    softer = transfer.transfer(0.1 * x, 2.0 * reference, FS, 12000, **options)
    np.testing.assert_allclose(softer.raw, made.raw, atol=1e-4)
    assert softer.level_db == pytest.approx(made.level_db + 20 * np.log10(2.0), abs=0.01)
    # Another reference, another choice.
    other = transfer.transfer(x, bursts(12000, seed=7)[::-1] ** 3 * 100, FS, 12000, **options)
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


def test_no_more_than_a_minute_is_analysed():
    x = bursts(100 * FS)[None].astype(np.float32)
    recording = transfer.Recording(lambda a, b: x[:, a:b], x.shape[-1], FS)
    given = transfer.network_input(recording, level.powers(*recording))
    assert 50 * style.FS < given.size <= 60 * style.FS
    assert 10 * np.log10(np.mean(given**2)) == pytest.approx(style.LEVEL_DB, abs=0.5)
