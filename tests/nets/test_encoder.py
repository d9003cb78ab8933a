"""The encoder: its size, what it depends on, its spectrogram against formulas written out by hand."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from jaxapf import nets

FS = 48_000


def count(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.fixture(scope="module")
def small():
    """A network of a few channels, its weights, and a spectrogram."""
    net = nets.Encoder(2, 3, channels=12, dilations=(1, 2), pools=(2, 2))
    spectrogram = jax.random.normal(jax.random.key(1), (2, 8, 40))
    return net, jax.jit(net.init)(jax.random.key(0), spectrogram), spectrogram


# The network


@pytest.mark.parametrize(("modulations", "controls", "expected"), [(5, 4, 728_713), (1, 5, 730_598)])
def test_as_many_parameters_as_the_paper_has(modulations, controls, expected):
    """By hand: convolutions 2304 + 5 * 143,424, slopes 384, 65 a modulation, 2145 a control."""
    net = nets.Encoder(modulations, controls)
    weights = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((128, 20)))
    by_hand = (35 + 1) * 64 + 5 * (35 * 64 * 64 + 64) + 6 * 64 + 65 * modulations + 2145 * controls
    assert count(weights) == expected == by_hand
    # However few the bands, the parameters are as many.
    few = nets.Encoder(modulations, controls, pools=(4, 4, 2, 2, 1, 1))
    assert count(jax.eval_shape(few.init, jax.random.key(0), jnp.zeros((64, 20)))) == expected


def test_outputs_have_their_shapes_and_ranges(small):
    net, weights, spectrogram = small
    modulation, controls = jax.jit(net.apply)(weights, 100 * spectrogram)
    assert modulation.shape == (2, 40, 2)
    assert controls.shape == (2, 3)
    assert bool(jnp.all((controls > 0) & (controls < 1)))


def test_examples_are_independent(small):
    net, weights, spectrogram = small
    forward = jax.jit(net.apply)
    together = forward(weights, spectrogram)
    for number in range(2):
        alone = forward(weights, spectrogram[number])
        for found, expected in zip(alone, together, strict=True):
            np.testing.assert_allclose(found, expected[number], atol=1e-5)


def test_convolution_and_pool_are_the_sums_they_should_be():
    """One block without normalisation, written out."""
    net = nets.Encoder(1, 0, channels=2, kernel=(3, 3), dilations=(2,), pools=(2,))
    spectrogram = jax.random.normal(jax.random.key(3), (4, 9))
    weights = jax.jit(net.init)(jax.random.key(4), spectrogram)
    answer: Any = jax.jit(net.apply)(weights, spectrogram)
    modulation, controls = answer
    assert controls.shape == (0,)
    own: Any = weights["params"]
    kernel, padded = np.asarray(own["Conv_0"]["kernel"]), np.pad(np.asarray(spectrogram), ((1, 1), (2, 2)))
    convolved = np.zeros((4, 9, 2))
    for i in range(3):
        for j in range(3):
            convolved += padded[i : i + 4, 2 * j : 2 * j + 9, None] * kernel[i, j, 0]
    pooled = convolved.reshape(2, 2, 9, 2).max(axis=1)
    active = np.where(pooled >= 0, pooled, 0.25 * pooled).mean(axis=0)
    dense = own["Dense_0"]
    expected = active @ np.asarray(dense["kernel"]) + np.asarray(dense["bias"])
    np.testing.assert_allclose(modulation, expected, atol=1e-5)


def test_controls_depend_on_the_level(small):
    """The first block is not normalised: all else alike, a level that is moved changes the controls."""
    net, weights, spectrogram = small
    forward = jax.jit(net.apply)
    quiet, loud = forward(weights, spectrogram)[1], forward(weights, spectrogram + 0.5)[1]
    assert float(jnp.max(jnp.abs(quiet - loud))) > 1e-3


def test_flat_spectrograms_have_finite_gradients_and_real_ones_none_that_is_zero(small):
    net, weights, spectrogram = small

    def total(weights, x):
        modulation, controls = net.apply(weights, x)
        return jnp.sum(modulation**2) + jnp.sum(controls**2)

    gradient = jax.jit(jax.grad(total))
    for level in (0.0, -1.0, 1e4):
        flat = gradient(weights, jnp.full((2, 8, 40), level))
        assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(flat)), level
    assert all(np.any(np.asarray(g) != 0) for g in jax.tree.leaves(gradient(weights, spectrogram)))


@pytest.mark.parametrize(
    ("net", "shape", "said"),
    [
        (nets.Encoder(1, 1), (20,), r"spectrogram has shape \(20,\)"),
        (nets.Encoder(1, 1), (20, 9), "pools has a maximum over 2 bands"),
        (nets.Encoder(1, 1, pools=(2,)), (20, 9), "dilations has 6 entries and pools 1"),
    ],
)
def test_wrong_shapes_are_named(net, shape, said):
    with pytest.raises(ValueError, match=said):
        jax.eval_shape(net.init, jax.random.key(0), jnp.zeros(shape))


# The spectrogram


def triangle(freq: float, low: float, centre: float, high: float) -> float:
    if low < freq <= centre:
        return (freq - low) / (centre - low)
    return (high - freq) / (high - centre) if centre < freq < high else 0.0


@pytest.mark.parametrize(("n_mels", "n_fft"), [(64, 1024), (128, 1024), (10, 64)])
def test_filterbank_is_triangles_equally_far_apart_in_mel(n_mels, n_fft):
    """The other formula for mel, in natural logarithms and by steps."""
    step = 1127 * np.log1p(FS / 2 / 700) / (n_mels + 1)
    corners = [700 * np.expm1(step * i / 1127) for i in range(n_mels + 2)]
    freqs = [FS / n_fft * k for k in range(n_fft // 2 + 1)]
    expected = [[triangle(freq, *corners[m : m + 3]) for freq in freqs] for m in range(n_mels)]
    np.testing.assert_allclose(nets.mel_filterbank(n_mels, n_fft, FS), expected, atol=2e-4)


def test_log_mel_is_numpys_spectrogram_through_the_triangles():
    x = np.random.default_rng(0).standard_normal(6000) * 0.1
    hop, n_fft = 120, 1024
    window = scipy.signal.get_window("hann", n_fft)
    padded = np.pad(x, n_fft // 2, mode="reflect")
    frames = np.stack([padded[k * hop : k * hop + n_fft] * window for k in range(51)])
    power = np.abs(np.fft.rfft(frames) * 4 / n_fft) ** 2
    expected = np.log10(power @ nets.mel_filterbank(64, n_fft, FS).T).T
    found = nets.log_mel(x.astype(np.float32), FS, hop=hop, n_fft=n_fft, n_mels=64)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_a_sine_has_its_level_and_silence_the_floor():
    centre = nets.mel_filterbank(64, 1024, FS)[40].argmax() * FS / 1024
    sine = np.sin(2 * np.pi * centre / FS * np.arange(8000)).astype(np.float32)
    spectrogram = np.asarray(nets.log_mel(np.stack([sine, 0 * sine]), FS, hop=200, n_mels=64))
    # The peak's bin is at most 0.2 below the triangle's tip, and its neighbours add up to a half.
    assert spectrogram[0, :, 20].argmax() == 40
    assert -0.15 < spectrogram[0, 40, 20] < 0.25
    np.testing.assert_allclose(spectrogram[1], -7, atol=1e-5)


def test_log_mel_of_silence_has_a_gradient():
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(nets.log_mel(x, FS, hop=512))))(jnp.zeros(2048))
    assert bool(jnp.all(gradient == 0))


@pytest.mark.parametrize("wrong", [{"n_mels": 0}, {"n_fft": 0}, {"fs": 0.0}])
def test_wrong_filterbanks_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        nets.mel_filterbank(**{"n_mels": 4, "n_fft": 64, "fs": 8000.0, **wrong})
