"""Style transfer: what the network is told, how it chooses, the level it keeps to, and its file."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxapf import params
from jaxapf.effects import equalizer
from jaxapf.effects.style import network
from jaxapf.nets import CurveReader, StyleEncoder, mel_filterbank

DESIGN = network.Design(channels=8, hidden=(16,))


@pytest.fixture(scope="module")
def weights():
    """All random."""
    return network.initial_weights(DESIGN, jax.random.key(0), 0)


@pytest.fixture(scope="module")
def trained():
    """With a reader of curves after a few steps."""
    return jax.jit(network.initial_weights, static_argnums=(0, 2))(DESIGN, jax.random.key(0), 150)


def noise(seed, n_samples=8192, level=0.1):
    return level * np.random.default_rng(seed).standard_normal(n_samples).astype(np.float32)


def test_curves_are_read_where_the_network_hears():
    """The frequencies of `curve_db` are the centres of the bands of `log_mel`."""
    bank = mel_filterbank(network.MELS, 2**18, network.FS)
    peaks_hz = np.argmax(bank, axis=1) * network.FS / 2**18
    np.testing.assert_allclose(network._CENTRES_HZ, peaks_hz, atol=0.1)


def test_curve_is_the_equalisers_response():
    raw = np.random.default_rng(1).uniform(-1, 1, 24)
    values = params.denormalise(raw[:18], params.EQUALIZER)
    expected = equalizer.response_db(equalizer.packed(values), network._CENTRES_HZ, network.FS)
    np.testing.assert_allclose(network.curve_db(jnp.asarray(raw, jnp.float32)), expected, atol=2e-3)


@pytest.mark.slow
def test_reader_learns_from_curves_alone(trained):
    """After a few steps its settings have curves nearer to those of settings never seen than none have."""
    true, noisy = network._curves(jax.random.key(7), 64)
    raw = CurveReader(18).apply({"params": trained["params"]["reader"]}, noisy)

    def error(curve):
        off = curve - true
        return float(jnp.mean(jnp.abs(off - jnp.mean(off, axis=-1, keepdims=True))))

    assert error(network.curve_db(jnp.asarray(raw))) < 0.6 * error(jnp.zeros_like(true))


def test_level_follows_the_reference(weights):
    given, reference = noise(0), noise(1, 5000, 0.03)
    raw = jnp.asarray(np.where(np.arange(24) == network.MAKEUP, 0.5, 0.3), jnp.float32)
    assert float(network.level_db(jnp.ones(8))) == 0.0
    y, made = network.match_level(raw, given, reference, network.process_at_fs)
    offset_db = 0.5 * network.OFFSET_DB
    assert float(network.level_db(y) - network.level_db(reference)) == pytest.approx(offset_db, abs=1e-3)
    np.testing.assert_allclose(network.process_at_fs(made, given), y, atol=1e-5)  # the controls that give it
    np.testing.assert_array_equal(jnp.delete(made, network.MAKEUP), jnp.delete(raw, network.MAKEUP))


def test_makeup_stays_in_its_range():
    raw = jnp.zeros(24)
    _, made = network.match_level(raw, noise(0, level=1e-4), noise(1, level=0.5), network.process_at_fs)
    assert float(made[network.MAKEUP]) == pytest.approx(1.0)


@pytest.mark.slow
def test_one_choice_is_for_one_pair(trained):
    """A batch is chosen for as its pairs are one by one."""
    given, reference = np.stack([noise(0), noise(2)]), np.stack([noise(1), noise(3)])
    choose = jax.jit(partial(network.predict, DESIGN, trained, process=network.process_at_fs, passes=2))
    both = choose(given, reference)
    for i in range(2):
        np.testing.assert_allclose(choose(given[i], reference[i]), both[i], atol=2e-4)
    assert both.shape == (2, 24)
    assert np.all(np.abs(both) < 1)


@pytest.mark.slow
def test_encoder_hears_the_same_in_any_length():
    """A sound that repeats is heard alike, once or four times, but for the edges."""
    net = StyleEncoder(channels=8)
    heard = jax.random.normal(jax.random.key(0), (80, 64))
    own, apply = jax.jit(net.init)(jax.random.key(1), heard), jax.jit(net.apply)
    once, often = (jnp.asarray(apply(own, jnp.tile(heard, n))) for n in (4, 16))
    np.testing.assert_allclose(once, often, atol=0.02)


@pytest.mark.slow
def test_choice_changes_when_the_reference_does(trained):
    given = noise(0)
    dark = np.convolve(noise(1), np.ones(8) / 8, mode="same").astype(np.float32)
    choose = jax.jit(partial(network.predict, DESIGN, trained, process=network.process_at_fs, passes=1))
    curves = [network.curve_db(choose(given, other)) for other in (noise(1), dark)]
    tilt = [float(jnp.mean(one[-20:]) - jnp.mean(one[:20])) for one in curves]
    assert tilt[1] < tilt[0] - 3


@pytest.mark.slow
def test_loss_has_a_gradient_by_every_weight(trained):
    given, reference, target = noise(0), noise(1), noise(2)

    def loss(own):
        raw = network.predict(DESIGN, own, given, reference, network.process_at_fs, 1)
        y, _ = network.match_level(raw, given, reference, network.process_at_fs)
        return jnp.mean(jnp.abs(y - target))

    gradient = jax.jit(jax.grad(loss))(trained)
    sizes = [float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(gradient)]
    assert np.all(np.isfinite(sizes))
    assert np.mean(np.array(sizes) > 0) == 1


def test_file_holds_the_network(weights, tmp_path):
    path = tmp_path / "net.npz"
    network.save(network.Network(DESIGN, weights), path)
    again = network.load(path)
    assert again.design == DESIGN
    for a, b in zip(jax.tree.leaves(again.weights), jax.tree.leaves(weights), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("damage", ["missing", "text", "controls"])
def test_foreign_files_are_refused_in_one_sentence(damage, tmp_path, monkeypatch, weights):
    path = tmp_path / "net.npz"
    if damage == "text":
        path.write_text("no network")
    if damage == "controls":
        with monkeypatch.context() as patched:
            patched.setattr(network, "CONTROLS", network.CONTROLS[:-1])
            network.save(network.Network(DESIGN, weights), path)
    with pytest.raises(ValueError, match=r"net\.npz' (cannot be opened|is no network of jaxapf's style)"):
        network.load(path)
