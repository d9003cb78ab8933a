"""`jaxapf phaser fit`, `compressor fit`, and `apply`, `info`, `export` on what they write."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command_line import FS, RNG, files, refused, run

from jaxapf import audio
from jaxapf.cli import jax_setup
from jaxapf.effects import compressor, modelling, phaser
from jaxapf.effects.modelling import compressor as compressor_fit
from jaxapf.effects.modelling import phaser as phaser_fit

FIT = ("phaser", "fit", "dry.wav", "wet.wav", "-o", "m.json")


@pytest.fixture
def fits(tmp_path, monkeypatch, loose_jax):
    """dry.wav and wet.wav, one channel, and fits that take no time; what they were called with is kept."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jax_setup, "use_compilation_cache", lambda: None)
    x = 0.2 * RNG.standard_normal((1, 2 * FS)).clip(-4, 4)
    audio.write("dry.wav", x, FS)
    audio.write("wet.wav", 0.5 * x, FS)
    calls = []

    def phased(dry, wet, fs, *, max_delay_ms, on_stage):
        calls.append((dry, wet, fs, max_delay_ms))
        raw = phaser.init(jax.random.key(0), rate_hz=2.0) | {"depth": jnp.full((), 0.5)}
        options, figures = {"stages": 4, "delay": 1}, {"esr": 0.01, "esr_raw": 0.5, "seconds": 0.0}
        return phaser_fit.Fitted(phaser.controls_of(raw), options, 3, figures)

    def compressed(dry, wet, fs, *, max_delay_ms, on_record):
        calls.append((dry, wet, fs, max_delay_ms))
        controls = compressor.Controls(-20.0, 4.0, 5.0, 50.0)
        options = {"detector": "rms", "smoothing": "level", "polarity": 1}
        options |= {"delay_samples": 2, "latency_samples": 2}
        return compressor_fit.Fitted(controls, options, {"esr": 0.01, "esr_raw": 0.5, "seconds": 0.0})

    monkeypatch.setattr(modelling, "fit_phaser", phased)
    monkeypatch.setattr(modelling, "fit_compressor", compressed)
    return calls


def test_a_phaser_is_fitted_applied_and_shown(fits, capsys):
    code, out, err = run(capsys, *FIT)
    assert (code, err) == (0, "")
    for words in (
        "before",
        "0.500000",
        "fitted",
        "0.010000",
        "after one sample",
        "2.0000 Hz",
        "3 samples",
        "m.json",
    ):
        assert words in out
    ((dry, wet, fs, max_delay),) = fits
    assert (dry.shape, wet.shape, fs, max_delay) == ((2 * FS,), (2 * FS,), FS, 20.0)
    code, out, err = run(capsys, "apply", "m.json", "dry.wav", "-o", "y.wav", "--subtype", "FLOAT")
    assert (code, err) == (0, "")
    y, _ = audio.read("y.wav")
    assert not np.any(y[0, :3])
    assert np.all(np.isfinite(y))
    assert np.any(y[0, 3:])
    out = run(capsys, "info", "m.json")[1]
    assert out.startswith("m.json: model of a phaser at 8000 Hz, error-to-signal ratio 0.010000\n")
    assert "feedback" in out
    found = json.loads(run(capsys, "info", "--json", "m.json")[1])["m.json"]
    assert found["options"] == {"stages": 4, "delay": 1}


def test_a_compressor_is_fitted_and_applied(fits, capsys):
    limits = "--max-delay-ms", "7"
    code, out, err = run(capsys, "compressor", "fit", "dry.wav", "wet.wav", "-o", "m.json", *limits)
    assert (code, err) == (0, "")
    assert fits[0][3] == 7.0
    for words in ("4.00 : 1", "-20.00 dB", "50 ms", "of the level", "2 samples"):
        assert words in out
    assert run(capsys, "apply", "m.json", "dry.wav", "-o", "y.wav", "--quiet") == (0, "", "")
    assert "ratio" in run(capsys, "info", "m.json")[1]


def test_json_is_one_object(fits, capsys):
    code, out, err = run(capsys, *FIT, "--json")
    result = json.loads(out)
    assert (code, err) == (0, "")
    assert result["command"] == "phaser fit"
    assert result["metrics"]["esr"] == 0.01
    assert result["controls"]["rate_hz"] == 2.0
    assert run(capsys, *FIT, "--quiet") == (0, "", "")


def test_the_oscillator_starts_with_the_file(fits, capsys):
    silence = np.zeros((1, FS))
    for name in ("dry", "wet"):
        x, _ = audio.read(f"{name}.wav")
        audio.write(f"{name}.wav", np.concatenate([silence, x], axis=-1), FS)
    out = run(capsys, *FIT)[1]
    assert "learnt from 0:00:01" in out
    start = 3 * FS - len(fits[0][0])
    assert 0.85 * FS < start <= 0.95 * FS
    found = json.loads(Path("m.json").read_text())["controls"]
    raw = float(phaser.init(jax.random.key(0))["phase"])
    expected = (raw - 2 * np.pi * 2.0 * start / FS) % (2 * np.pi)
    np.testing.assert_allclose(found["phase"], expected, atol=1e-4)


def test_one_channel_is_learnt_from(fits, capsys):
    x = 0.1 * RNG.standard_normal((2, 2 * FS))
    audio.write("dry.wav", x, FS)
    audio.write("wet.wav", x[::-1], FS)
    assert "first channel was learnt from" in run(capsys, *FIT)[1]
    np.testing.assert_allclose(fits[0][0], x[0], atol=1e-6)
    assert run(capsys, *FIT, "--channels", "2")[0] == 0
    np.testing.assert_allclose(fits[1][0], x[1], atol=1e-6)
    assert "give one channel" in refused(capsys, *FIT[:-1], "n.json", "--channels", "1,2")


def test_what_is_not_explained_is_said(fits, capsys, monkeypatch):
    real = modelling.fit_phaser

    def poor(*arguments, **options):
        fitted = real(*arguments, **options)
        return fitted._replace(metrics=fitted.metrics | {"esr": 0.4})

    monkeypatch.setattr(modelling, "fit_phaser", poor)
    code, _, err = run(capsys, *FIT)
    assert code == 0
    assert "leaves 40% of the wet signal unexplained" in err


def test_effects_are_no_filters(fits, capsys):
    run(capsys, *FIT)
    said = refused(capsys, "export", "m.json", "--format", "sos", "-o", "m.txt")
    assert "'m.json' is the model of a phaser, which is no cascade of filters" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("phaser",), "ACTION"),
        (("phaser", "learn"), "invalid choice: 'learn'"),
        (("phaser", "fit", "dry.wav", "none.wav", "-o", "m.json"), "'none.wav' does not exist"),
        (("phaser", "fit", "dry.wav", "wet.wav"), "-o"),
        (("phaser", "fit", "dry.wav", "wet.wav", "-o", "dry.wav"), "'dry.wav' is an input file"),
        (("phaser", "fit", "dry.wav", "wet.wav", "-o", "no/m.json"), "no"),
        (("compressor", "fit", "dry.wav", "silent.wav", "-o", "m.json"), "'silent.wav' is silent"),
        (("compressor", "fit", "dry.wav", "short.wav", "-o", "m.json"), "more than 1 % apart"),
        (
            ("phaser", "fit", "dry.wav", "wet.wav", "-o", "m.json", "--max-delay-ms", "x"),
            "'x' is not a number",
        ),
    ],
)
def test_mistakes_are_one_sentence(fits, capsys, arguments, message):
    audio.write("silent.wav", np.zeros((1, 2 * FS)), FS)
    audio.write("short.wav", np.ones((1, FS)) * 0.1, FS)
    before = files()
    assert message in refused(capsys, *arguments)
    assert files() == before


def test_a_fit_that_fails_says_why(fits, capsys, monkeypatch):
    def failing(*_arguments, **_options):
        raise ValueError("dry is too plain.")

    monkeypatch.setattr(modelling, "fit_phaser", failing)
    assert "'wet.wav' cannot be learnt from: dry is too plain." in refused(capsys, *FIT)
    assert not Path("m.json").exists()
