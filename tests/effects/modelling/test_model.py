"""Learnt effects: streamed, saved and read back, and what a damaged file is told."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from signals import noise

from jaxapf import ModelError
from jaxapf.effects import compressor, phaser
from jaxapf.effects.modelling import EffectModel, compressor_model, phaser_model
from jaxapf.effects.modelling import compressor as compressor_fit
from jaxapf.effects.modelling import model as models
from jaxapf.effects.modelling import phaser as phaser_fit

FS = 8000.0


def a_phaser(delay: int = 0, **metrics) -> EffectModel:
    raw = phaser.init(jax.random.key(2), rate_hz=1.5) | {"depth": jnp.full((), 0.8)}
    options = {"stages": 4, "delay": 1}
    return phaser_model(phaser_fit.Fitted(phaser.controls_of(raw), options, delay, metrics), FS, command="a")


def a_compressor(delay: int = 0, **metrics) -> EffectModel:
    controls = compressor.Controls(-20.0, 4.0, 5.0, 50.0, lookahead_ms=2.0)
    options = {"detector": "peak", "smoothing": "gain", "polarity": -1, "latency_samples": 16}
    options |= {"delay_samples": delay}
    return compressor_model(compressor_fit.Fitted(controls, options, metrics), FS, command="a")


MODELS = [a_phaser, a_compressor]


@pytest.mark.parametrize("make", MODELS)
def test_a_model_is_its_effect(loose_jax, x64, make):
    model, x = make(), np.pad(noise(2, 600), [(0, 0), (0, 16)])
    if model.effect == "phaser":
        c, state = (
            models.EFFECTS["phaser"].controls(model.controls),
            phaser.initial_state((2,), dtype=np.float64),
        )
        expected, _ = jax.jit(lambda c, state, x: phaser.phaser(c, state, x, FS, stages=4, delay=1))(
            c, state, x
        )
    else:
        c, state = (
            compressor.Controls(**model.controls),
            compressor.initial_state((2,), latency=16, dtype=np.float64),
        )
        expected, _ = compressor.compressor(c, state, x, FS, detector="peak", smoothing="gain")
        expected = -expected[:, 16:]
    np.testing.assert_allclose(model.apply(x[:, :600]), np.asarray(expected)[:, :600], atol=1e-9)


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("delay", [0, 7, 16, 700, -3])
def test_blocks_are_the_whole(loose_jax, make, delay):
    model, x = make(delay), noise(1, 600)
    whole = model.apply(x)
    assert whole.shape == x.shape
    blocks = list(model.stream(lambda a, b: x[:, a:b], 600, block_samples=256))
    np.testing.assert_allclose(np.concatenate(blocks, axis=-1), whole, atol=1e-9)
    at_once = make().apply(np.pad(x, [(0, 0), (0, 8)]))
    if delay >= 0:
        np.testing.assert_array_equal(whole[:, :delay], np.zeros_like(whole[:, :delay]))
        np.testing.assert_allclose(whole[:, delay:], at_once[:, : max(600 - delay, 0)], atol=1e-9)
    else:
        np.testing.assert_allclose(whole, at_once[:, -delay : 600 - delay], atol=1e-9)


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_saved_and_read_back(loose_jax, tmp_path, make, dtype):
    model = make(7, esr=0.01)
    assert (model.delay_samples, model.controls.get("rate_hz", 1.5)) == (7, pytest.approx(1.5))
    model.save(tmp_path / "m.json")
    again = EffectModel.load(tmp_path / "m.json")
    assert again == model
    x = noise(3, 200).astype(dtype)
    y = again.apply(x)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, model.apply(x))


def test_no_samples(loose_jax):
    assert a_phaser().apply(np.zeros((2, 0))).shape == (2, 0)


def test_channels_do_not_meet(loose_jax):
    x = noise(2, 256)
    for make in MODELS:
        np.testing.assert_allclose(make().apply(x)[1], make().apply(x[1]), atol=1e-9)


def test_swept_frequencies_are_those_of_the_sweep(loose_jax):
    model = a_phaser()
    c = jax.tree.map(jnp.float32, models.EFFECTS["phaser"].controls(model.controls))
    p = jax.jit(lambda c: phaser.sweep(c, 0, 8000, FS))(c)
    hz = np.asarray(phaser.cutoff_hz(p, FS))
    np.testing.assert_allclose(models.swept_hz(model), (hz.min(), hz.max()), rtol=1e-2)


def change(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "is not the model of an effect"),
        ({"version": 2}, "is a model of version 2, this jaxapf reads 1; update jaxapf"),
        ({"effect": "flanger"}, "is the model of 'flanger', this jaxapf has compressor, phaser"),
        ({"effect": ["phaser"]}, "is the model of"),
        (
            {"fs": "fast"},
            "damaged model .*fs is 'fast', not a number.*make it again with 'jaxapf phaser fit'",
        ),
        ({"fs": 0}, "damaged model .*fs is 0, not between"),
        ({"delay_samples": 10**12}, "damaged model .*delay_samples is .*, not between"),
        ({"options": {}}, "damaged model .*not stages, delay"),
        ({"options": {"stages": 4, "delay": 3}}, "damaged model .*delay is 3, not between 0 and 1"),
        ({"options": {"stages": "4", "delay": 0}}, "damaged model .*stages is '4', not a whole number"),
        ({"options": {"stages": True, "delay": 0}}, "damaged model .*stages is True, not a whole number"),
        (
            {"options": {"stages": 4, "delay": 0, "more": [1]}},
            "damaged model .*delay, more, not",
        ),
        ({"metrics": {"esr": "x"}}, "damaged model .*esr is 'x', not a number"),
        ({"metrics": [1]}, "damaged model"),
        ({"delay_samples": 3.7}, "damaged model .*delay_samples is 3.7, not a whole number"),
        ({"controls": {}}, "damaged model .*'rate_hz'"),
        ({"controls": []}, "damaged model"),
    ],
)
def test_damaged_files_are_named(loose_jax, tmp_path, changes, message):
    path = tmp_path / "m.json"
    a_phaser().save(path)
    change(path, **changes)
    with pytest.raises(ModelError, match=f"'{path}' {message}" if message.startswith("is") else message):
        EffectModel.load(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("feedback", 1.5),
        ("rate_hz", -1.0),
        ("bias", None),
        ("b", [1.0]),
        ("a", [0.0, 2.0]),
        ("shape", []),
        ("shape", [[[[1.0, 2.0]], [1.0, 2.0]]]),
    ],
)
def test_impossible_controls_are_named(loose_jax, tmp_path, name, value):
    path = tmp_path / "m.json"
    model = a_phaser()
    model.save(path)
    change(path, controls=model.controls | {name: value})
    with pytest.raises(ModelError, match="damaged model"):
        EffectModel.load(path)


@pytest.mark.parametrize(
    ("options", "controls"),
    [
        ({"polarity": 0}, {}),
        ({"detector": "loud"}, {}),
        ({"latency_samples": 10**8}, {}),
        ({"latency_samples": 3}, {}),  # less than the look-ahead
        ({}, {"threshold_db": [1.0, 2.0]}),
        ({}, {"ratio": 0.5}),
    ],
)
def test_impossible_compressors_are_named(loose_jax, tmp_path, options, controls):
    path, model = tmp_path / "m.json", a_compressor()
    model.save(path)
    change(path, options=model.options | options, controls=model.controls | controls)
    with pytest.raises(ModelError, match=r"damaged model .*'jaxapf compressor fit'"):
        EffectModel.load(path)


@pytest.mark.parametrize(
    ("text", "message"), [("{", "it is not JSON"), ("[1]", "is not the model of an effect")]
)
def test_what_is_no_model_is_refused(loose_jax, tmp_path, text, message):
    path = tmp_path / "m.json"
    path.write_text(text)
    with pytest.raises(ModelError, match=message):
        EffectModel.load(path)
    with pytest.raises(ModelError, match="cannot be opened"):
        EffectModel.load(tmp_path / "none.json")
