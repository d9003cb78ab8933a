"""Descent from many starts: known cascades found again, and the same model as the search's."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.signal

from jaxapf import Alignment, align, audio, cli
from jaxapf.alignment import gradient_descent
from jaxapf.alignment.cascade import FIRST, SECOND, Cascade, to_sections
from jaxapf.alignment.estimate import alignment_of
from jaxapf.training.lowering import lowered, wide_types
from jaxapf.training.step import init_starts, make_train_step, many_starts

FS = 48000
KIND = np.array([SECOND, SECOND, FIRST], np.int32)


def known_pair(n_samples):
    """Noise, and noise 5 samples later, inverted, through three all-pass filters (SciPy, float64)."""
    dry = np.random.default_rng(0).standard_normal((1, n_samples))
    wet = -np.pad(dry, ((0, 0), (5, 0)))[:, :n_samples]
    for cutoff_hz, q in ((400.0, 0.8), (3000.0, 1.2)):
        w = 2 * np.pi * cutoff_hz / FS
        alpha = np.sin(w) / (2 * q)
        a = np.array([1 + alpha, -2 * np.cos(w), 1 - alpha])
        wet = np.asarray(scipy.signal.lfilter(a[::-1] / a[0], a / a[0], wet))
    return dry.astype(np.float32), wet.astype(np.float32)


@pytest.fixture
def random_params():
    rng = np.random.default_rng(1)
    return {
        "log_t": jnp.asarray(rng.uniform(-4, 0, 3), jnp.float32),
        "log_d": jnp.asarray(rng.uniform(-1, 1, 3), jnp.float32),
        "delay": jnp.asarray(1.5, jnp.float32),
    }


def test_sections_are_those_of_the_search(random_params):
    sections = gradient_descent.sections_of(random_params, KIND)
    cascade = Cascade(0.0, random_params["log_t"], random_params["log_d"], KIND, 1.0)
    for found, expected in zip(sections, to_sections(cascade), strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-6)


def test_prediction_is_that_of_the_model(random_params):
    x = np.random.default_rng(2).standard_normal((2, 4096)).astype(np.float32)
    delay = float(random_params["delay"]) * gradient_descent.DELAY_STEP_S * FS
    cascade = Cascade(delay, random_params["log_t"], random_params["log_d"], KIND, 1.0)
    found = np.asarray(gradient_descent.predict(random_params, KIND, jnp.asarray(x), FS))
    for row, expected in zip(found, alignment_of(cascade, FS).apply(x), strict=True):
        # The interpolator's band ends below half the rate, and the ends differ: one wraps, one is cut.
        mid = slice(1024, 3072)
        assert np.sum((row - expected)[mid] ** 2) < 0.02 * np.sum(expected[mid] ** 2)


def test_the_error_takes_the_better_polarity():
    x, y = (jnp.asarray(np.random.default_rng(seed).standard_normal(64), jnp.float32) for seed in (0, 1))
    expected = min(float(jnp.mean((x - y) ** 2)), float(jnp.mean((x + y) ** 2)))
    assert float(gradient_descent.phase_only_error(x, y)) == pytest.approx(expected, rel=1e-5)


def test_its_step_lowers_for_every_platform():
    loss_fn = gradient_descent.make_loss(KIND, FS, slice(8, 120))
    optimizer = optax.adam(0.1)
    step = many_starts(make_train_step(loss_fn, optimizer))
    start = gradient_descent._random_start(KIND, [0.0], FS)
    states = jax.eval_shape(lambda key: init_starts(start, optimizer, 4, key=key), jax.random.key(0))
    batch = {"dry": np.ones((1, 128), np.float32), "wet": np.ones((1, 128), np.float32)}
    for program in lowered(step, states, batch).values():
        assert wide_types(program) == set()


@pytest.mark.parametrize(
    ("starts", "n_samples"), [(16, 6000), pytest.param(32, 6000, marks=pytest.mark.slow)]
)
def test_a_known_cascade_is_found_again(starts, n_samples, monkeypatch):
    monkeypatch.setattr(gradient_descent, "STARTS", starts)
    dry, wet = known_pair(n_samples)
    found = align(dry, wet, FS, order=4, method="direct")
    assert found.method == "direct"
    assert found.polarity == -1
    assert found.metrics["esr_aligned"] < 1e-4
    assert found.metrics["esr_delay"] > 0.1
    cutoffs = sorted(one["cutoff_hz"] for one in found.controls)
    np.testing.assert_allclose(cutoffs, [400.0, 3000.0], rtol=0.05)


@pytest.mark.slow
def test_the_same_key_finds_the_same():
    dry, wet = known_pair(1000)
    one, two = (align(dry, wet, FS, order=2, method="direct", key=jax.random.key(7)) for _ in range(2))
    np.testing.assert_array_equal(one.sos, two.sos)


@pytest.mark.slow
def test_order_auto_is_the_papers(tmp_path, capsys):
    dry, wet = known_pair(2000)
    for name, signal in (("dry", dry), ("wet", wet)):
        audio.write(tmp_path / f"{name}.wav", 0.2 * signal, FS)
    words = ["align", "dry.wav", "wet.wav", "-o", "out.wav", "--model", "model.json", "--method", "direct"]
    paths = [str(tmp_path / word) if "." in word else word for word in words]
    assert cli.main(paths) == 0
    assert "method direct; the order 7 is the default of this method" in capsys.readouterr().out
    assert Alignment.load(tmp_path / "model.json").metrics["order"] == 7


@pytest.mark.parametrize(("starts", "n_samples"), [(8, 600), pytest.param(32, 5000, marks=pytest.mark.slow)])
def test_short_and_stereo_recordings(starts, n_samples, monkeypatch):
    monkeypatch.setattr(gradient_descent, "STARTS", starts)
    dry = np.random.default_rng(3).standard_normal((2, n_samples)).astype(np.float32)
    found = align(dry, np.roll(dry, 3, axis=-1), FS, order=1, method="direct")
    assert found.metrics["esr_aligned"] < 0.1
