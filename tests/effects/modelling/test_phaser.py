"""Learning a phaser: known ones, made by a float64 loop, are found; what cannot be learnt from is named."""

import jax.numpy as jnp
import numpy as np
import pytest
import reference
from signals import noise

from jaxapf import metrics
from jaxapf.effects import phaser
from jaxapf.effects.modelling import descent, latency, phaser_model, sweep_estimation
from jaxapf.effects.modelling.phaser import fit_phaser, start_parameters, swept_range_hz

FS = 8000.0


def known(x: np.ndarray, *, stages=4, feedback=(0.0, 0.4), rate=1.3, low=200.0, high=1500.0) -> np.ndarray:
    """Half of the signal, and half of it through all-passes that a sine sweeps in log frequency."""
    w = np.sin(2 * np.pi * rate * np.arange(len(x)) / FS + 0.4)
    tangent = np.tan(np.pi * np.sqrt(low * high) * (high / low) ** (w / 2) / FS)
    loop, _ = reference.allpass_loop((1 - tangent) / (1 + tangent), feedback, x, np.zeros(stages + 1))
    return 0.5 * x + 0.5 * loop


def predicted(fitted, x: np.ndarray) -> np.ndarray:
    state = phaser.initial_state(stages=fitted.options["stages"])
    y, _ = phaser.phaser(fitted.controls, state, jnp.asarray(x, jnp.float32), FS, **fitted.options)
    return np.asarray(y)


@pytest.mark.slow
@pytest.mark.parametrize(
    "feedback",
    [
        (0.0, 0.4),
        (0.5, 0.0),
        (0.0, 0.0),
    ],
)
def test_a_known_phaser_is_found(loose_jax, feedback):
    x, unseen = noise(24000), noise(24000, seed=1)
    fitted = fit_phaser(x, known(x, feedback=feedback), FS)
    assert fitted.options["stages"] == 4
    assert fitted.options["delay"] == (1 if feedback[1] else 0) or feedback == (0.0, 0.0)
    np.testing.assert_allclose(fitted.controls.rate_hz, 1.3, rtol=1e-3)
    np.testing.assert_allclose(fitted.controls.feedback, sum(feedback), atol=2e-3)
    np.testing.assert_allclose(fitted.controls.through, 1.0, rtol=2e-3)
    assert metrics.esr(predicted(fitted, unseen), known(unseen, feedback=feedback)) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("delay", [37, -37])
def test_latency_is_found_and_taken_out(loose_jax, delay):
    x = noise(24000)
    y, silence = known(x), np.zeros(37)
    wet = np.concatenate([silence, y[:-37]]) if delay > 0 else np.concatenate([y[37:], silence])
    fitted = fit_phaser(x, wet, FS)
    assert fitted.delay_samples == delay
    made = phaser_model(fitted, FS).apply(x)
    assert metrics.esr(made[100:-100], wet[100:-100]) < 1e-4


@pytest.mark.slow
def test_half_a_turn_of_a_sine_is_a_sine(loose_jax):
    x = noise(40000)
    wet = known(x, rate=0.13)
    fitted = fit_phaser(x[:24000], wet[:24000], FS)
    assert fitted.metrics["turns"] < 0.6
    np.testing.assert_allclose(fitted.controls.rate_hz, 0.13, rtol=0.02)
    assert metrics.esr(predicted(fitted, x)[24000:], wet[24000:]) < 1e-3


@pytest.mark.parametrize(
    ("rate", "tolerance"),  # 0.6, 4, 18 cycles
    [
        pytest.param(0.2, 0.1, marks=pytest.mark.slow),
        (1.3, 0.03),
        pytest.param(6.0, 0.03, marks=pytest.mark.slow),
    ],
)
def test_the_sweep_is_read_off_the_spectra(rate, tolerance):
    x = noise(24000)
    found = sweep_estimation.starts(sweep_estimation.spectra_of(x, known(x, rate=rate), FS), count=1)[0]
    assert found.layout.stages == 4
    np.testing.assert_allclose(found.rate_hz, rate, rtol=tolerance)
    np.testing.assert_allclose(found.through, found.around, rtol=0.15)
    cutoff = FS / np.pi * np.arctan(np.exp([found.middle - found.swing, found.middle + found.swing]))
    np.testing.assert_allclose(cutoff, [200.0, 1500.0], rtol=0.2)


def test_a_path_follows_what_is_least():
    grid, at = np.arange(40.0), 20 + 10 * np.sin(0.05 * np.arange(200))
    errors = (grid[None] - at[:, None]) ** 2
    errors[50:60] = np.mean(errors)  # nothing heard
    path = sweep_estimation.smooth_path(errors)
    np.testing.assert_allclose(path, at, atol=3.0)


def test_range_of_a_resting_sweep_is_its_cutoff():
    start = sweep_estimation.Start(sweep_estimation.Layout(4, 0), 0.0, 1.0, 1.0, -2.0, 0.0, 1.0, 0.0, 0.0)
    np.testing.assert_allclose(swept_range_hz(start_parameters(start), FS), [342.55, 342.55], atol=5e-3)


def test_latency_needs_a_peak():
    x = noise(4000)
    assert latency.latency(x, 0.5 * np.roll(x, 11), FS, 20.0) == 11
    assert latency.latency(x, np.roll(x, -11), FS, 20.0) == -11
    assert latency.latency(x, noise(4000, seed=9), FS, 20.0) == 0


def test_levenberg_marquardt_finds_what_numpy_finds():
    a, b = (noise(30, 4, seed=n).astype(np.float32) for n in (0, 1))

    def residual(theta, data):
        return data[0] @ theta - data[1]

    theta, error = descent.levenberg_marquardt(residual, np.zeros(4), (a, b[:, 0]), steps=30)
    expected, left, *_ = np.linalg.lstsq(a, b[:, 0], rcond=None)
    np.testing.assert_allclose(theta, expected, atol=1e-4)
    np.testing.assert_allclose(error, left[0] / 30, rtol=1e-4)


def test_where_the_derivative_is_no_number_the_best_so_far_is_kept():
    def residual(theta, data):  # the root has no derivative at 0
        return jnp.sqrt(jnp.abs(theta)) + data

    theta, error = descent.levenberg_marquardt(residual, np.zeros(1), jnp.ones(1), steps=5)
    assert (theta.tolist(), error) == ([0.0], 1.0)


def test_a_start_that_is_no_number_is_refused():
    with pytest.raises(FloatingPointError, match="no finite error"):
        descent.levenberg_marquardt(lambda theta, data: theta / data, np.ones(1), jnp.zeros(1), steps=1)


@pytest.mark.parametrize(
    ("dry", "wet", "message"),
    [
        (np.ones(8000), np.ones(7999), r"dry has shape \(8000,\) and wet \(7999,\); expected two signals"),
        (np.ones((2, 8000)), np.ones((2, 8000)), r"dry has shape \(2, 8000\)"),
        (np.ones(100), np.ones(100), "dry lasts 0.013 s; expected at least 0.5 s"),
        (np.zeros(8000), np.ones(8000), "dry is silent"),
        (np.ones(8000), np.zeros(8000), "wet is silent"),
        (np.full(8000, np.nan), np.ones(8000), "dry holds samples that are not finite"),
        (noise(8000), -0.5 * noise(8000), "wet is dry times -0.5: nothing moves"),
    ],
)
def test_mistakes_are_named(dry, wet, message):
    with pytest.raises(ValueError, match=message):
        fit_phaser(dry, wet, FS)
