"""Fitting the compressor to pairs made by another program: a float64 loop, delay and sign besides."""

import json
import math

import jax.numpy as jnp
import numpy as np
import pytest

from jaxapf.effects.compressor import Controls
from jaxapf.effects.modelling import compressor as modelling
from jaxapf.effects.modelling import latency

FS = 8000.0
TRUE = Controls(-26.0, 4.0, 5.0, 80.0, 2.0, 6.0, 3.0, 0.0)


def music(seconds=3.0, fs=FS, seed=0):
    """Decaying notes of all levels, some noise in them."""
    rng = np.random.default_rng(seed)
    x, n = np.zeros(round(seconds * fs)), round(0.25 * fs)
    t = np.arange(2 * n) / fs
    for start in range(0, x.size - 2 * n, n):
        note = np.sin(2 * np.pi * rng.uniform(80, 900) * t) + 0.1 * rng.standard_normal(t.size)
        x[start : start + 2 * n] += 10 ** rng.uniform(-1.8, -0.2) * np.exp(-t / rng.uniform(0.03, 0.3)) * note
    return x


def device(c, x, fs=FS, detector="rms", smoothing="gain"):
    """An independent compressor: gain, not reduction, is what it keeps."""
    a, attack, release = (1 - np.exp(-np.log(9) / (1e-3 * fs * ms)) for ms in (c.average_ms, *c[2:4]))
    power, gain, envelope, gains = 0.0, 0.0 if smoothing == "gain_db" else 1.0, 0.0, np.ones(x.size)
    for t, value in enumerate(x):
        power = (1 - a) * power + a * (value**2 if detector == "rms" else abs(value))
        level = max(math.sqrt(power) if detector == "rms" else power, 1e-5)
        if smoothing == "level":
            envelope += (attack if level > envelope else release) * (level - envelope)
            level = max(envelope, 1e-5)
        over = 20 * math.log10(level) - c.threshold_db
        if c.knee_db > 0 and abs(over) < c.knee_db / 2:
            over = (over + c.knee_db / 2) ** 2 / (2 * c.knee_db)
        wanted = (1 / c.ratio - 1) * max(over, 0.0)
        if smoothing == "level":
            gains[t] = 10 ** (wanted / 20)
            continue
        wanted = wanted if smoothing == "gain_db" else 10 ** (wanted / 20)
        gain += (attack if wanted < gain else release) * (wanted - gain)
        gains[t] = 10 ** (gain / 20) if smoothing == "gain_db" else gain
    lead = round(c.lookahead_ms * 1e-3 * fs)
    gains = np.concatenate([gains[lead:], np.full(lead, gains[-1])])
    return 10 ** (c.makeup_db / 20) * gains * x


def error(y, wet):
    return np.sum((y - wet) ** 2) / np.sum(wet**2)


def check(fitted, true, rel=0.02, within=0.05):
    for name in ("ratio", "attack_ms", "release_ms", "average_ms"):
        assert getattr(fitted.controls, name) == pytest.approx(getattr(true, name), rel=rel), name
    for name in ("threshold_db", "knee_db", "makeup_db"):
        assert getattr(fitted.controls, name) == pytest.approx(getattr(true, name), abs=within), name


@pytest.mark.slow
def test_settings_are_recovered_with_delay_and_sign():
    records = []
    x = music()
    wet = -np.roll(device(TRUE, x), 37)
    wet[:37] = 0
    fitted = modelling.fit_compressor(x[:16000], wet[:16000], FS, on_record=records.append)
    check(fitted, TRUE)
    assert fitted.options == {
        "detector": "rms",
        "smoothing": "gain",
        "polarity": -1,
        "delay_samples": 37,
        "latency_samples": 37,
    }
    assert json.loads(json.dumps(fitted.options)) == fitted.options
    assert all(isinstance(value, float) for value in (*fitted.controls, *fitted.metrics.values()))
    assert fitted.metrics["esr"] < 1e-8 < fitted.metrics["esr_gain"] < 1 < fitted.metrics["esr_raw"]
    y = modelling.render(fitted.controls, fitted.options, x, FS)
    assert error(y[16000:], wet[16000:]) < 1e-8  # not seen
    assert {record["stage"] for record in records} >= {"screen", "whole"}
    assert len({record["kind"] for record in records}) == len(modelling.KINDS)


@pytest.mark.slow
@pytest.mark.parametrize("detector", ["rms", "peak"])
@pytest.mark.parametrize("smoothing", ["gain", "gain_db", "level"])
@pytest.mark.parametrize("changes", [{}, {"lookahead_ms": 5.0, "knee_db": 0.0, "attack_ms": 20.0}])
def test_all_kinds_are_recognised(detector, smoothing, changes):
    true, x = TRUE._replace(**changes), music(4.0)
    wet = device(true, x, FS, detector, smoothing)
    fitted = modelling.fit_compressor(x, wet, FS)
    assert fitted.metrics["esr"] < 1e-6
    found = fitted.options["detector"], fitted.options["smoothing"]
    assert found == (detector, smoothing)
    check(fitted, true)
    assert fitted.controls.lookahead_ms == pytest.approx(true.lookahead_ms, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"ratio": 1e6, "attack_ms": 0.1, "release_ms": 30.0, "knee_db": 0.0},
        {"threshold_db": -55.0, "ratio": 1.5, "knee_db": 24.0},
        {"attack_ms": 200.0, "release_ms": 2000.0, "makeup_db": -20.0},
        {"attack_ms": 0.05, "release_ms": 5.0},
    ],
)
def test_the_ends_of_the_ranges(changes):
    x = music(6.0)
    wet = device(TRUE._replace(**changes), x)
    fitted = modelling.fit_compressor(x[:32000], wet[:32000], FS)
    assert error(modelling.render(fitted.controls, fitted.options, x, FS)[32000:], wet[32000:]) < 1e-4


def test_delays_are_looked_for_as_far_as_is_said():
    x = np.random.default_rng(0).standard_normal((1, 4000))
    late = latency.shifted(x, 30)
    assert latency.find_delay(x, late, FS) == (30, 1)
    assert latency.find_delay(x, -late, FS, 1e3 * 30 / FS) == (30, -1)
    assert abs(latency.find_delay(x, late, FS, 1e3 * 29 / FS)[0]) <= 29
    assert latency.find_delay(x, late, FS, 0.0)[0] == 0


@pytest.mark.parametrize("delay", [0, -25])
def test_a_constant_gain_is_no_compression(delay):
    x = music(1.0)
    fitted = modelling.fit_compressor(x, 2 * latency.shifted(x, delay), FS)
    assert fitted.controls.ratio == 1.0
    assert fitted.controls.makeup_db == pytest.approx(6.0206, abs=1e-3)
    assert fitted.options["delay_samples"] == delay
    assert fitted.metrics["esr"] < 1e-9


def test_channels_share_their_settings():
    x = np.stack([music(1.5), music(1.5, seed=1)])
    options = {"detector": "rms", "smoothing": "level", "polarity": -1}
    options |= {"delay_samples": 5, "latency_samples": 24}
    c = TRUE._replace(lookahead_ms=2.0)
    y = modelling.render(c, options, x, FS)
    for row in range(2):
        np.testing.assert_allclose(modelling.render(c, options, x[row], FS), y[row], atol=1e-6)
    expected = -latency.shifted(np.stack([device(c, row, smoothing="level") for row in x]), 5)
    assert error(y[:, :-200], expected[:, :-200]) < 1e-9


def test_blocks_are_the_whole():
    options = {"detector": "peak", "smoothing": "gain", "polarity": 1}
    options |= {"delay_samples": -3, "latency_samples": 16}
    x, c = music(0.5).astype(np.float32), TRUE._replace(lookahead_ms=2.0)
    whole = modelling.render(c, options, x, FS)
    state, parts = modelling.initial_state(options), []
    late = modelling.surplus(options)
    for block in np.split(np.pad(x, (0, late)), [0, 1, 500, 700, 4000]):
        y, state = modelling.process(c, options, state, jnp.asarray(block), FS)
        parts.append(y)
    np.testing.assert_allclose(np.concatenate(parts)[late:], whole, atol=2e-6)


@pytest.mark.parametrize(
    ("dry", "wet", "said"),
    [
        (np.zeros(8000), np.ones(8000), "dry is silent"),
        (np.ones(8000), np.zeros(8000), "wet is silent"),
        (np.ones(8000), np.ones(7999), r"dry has shape \(8000,\) and wet \(7999,\)"),
        (np.ones(100), np.ones(100), "dry has 0.0125 s; expected 0.25 s or more"),
        (np.full(8000, np.nan), np.ones(8000), "dry has samples that are no finite numbers"),
        (np.ones((1, 1, 8000)), np.ones((1, 1, 8000)), r"dry has shape \(1, 1, 8000\)"),
        (np.ones(8000, int), np.ones(8000), "dtype int64; expected"),
    ],
)
def test_mistakes_are_named(dry, wet, said):
    with pytest.raises(ValueError, match=said):
        modelling.fit_compressor(dry, wet, FS)


def test_strangers_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="wet has hardly anything of dry in it"):
        modelling.fit_compressor(rng.standard_normal(8000), rng.standard_normal(8000), FS)
    with pytest.raises(ValueError, match="fs is 0; expected a sample rate above 0"):
        modelling.fit_compressor(np.ones(8000), np.ones(8000), 0.0)
