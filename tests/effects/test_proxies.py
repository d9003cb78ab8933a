"""Proxies: networks told of controls, against loops; causality, receptive field; files, whole and damaged."""

import functools
import json
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from signals import slow

from jaxapf import audio, datasets, params
from jaxapf.effects import chain, proxies
from jaxapf.nets import proxy as nets

NETS = {
    "tcn": nets.ProxyTCN(channels=4, kernel=3, dilations=(1, 4), hidden=(6,)),
    "cnn": nets.ProxyCNN(hop=4, channels=4, kernel=3, dilations=(1, 2), hidden=(6,)),
    "cnn with taps": nets.ProxyCNN(hop=4, channels=4, kernel=3, dilations=(1,), hidden=(6,), taps=16),
}
EACH = [slow(name) if name == "tcn" else name for name in NETS]
ONE = [name if name == "cnn with taps" else slow(name) for name in NETS]  # where all are much the same


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@functools.cache
def lively(net, n_controls=3, n_samples=64):
    """Weights of which none is as small as those that training begins with."""
    weights = jax.jit(net.init)(jax.random.key(0), jnp.zeros(n_samples), jnp.zeros(n_controls))
    rng = np.random.default_rng(1)
    return jax.tree.map(
        lambda leaf: leaf + jnp.asarray(0.3 * rng.standard_normal(leaf.shape), jnp.float32), weights
    )


def output(net, weights, x, raw):
    return np.asarray(jax.jit(net.apply)(weights, x, raw))


def float64(weights):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), weights["params"])


def told_by_hand(p, raw):
    for name in sorted(p):
        raw = raw @ p[name]["kernel"] + p[name]["bias"]
        raw = raw / (1 + np.exp(-raw))
    return raw


def block_by_hand(p, y, told, dilation):
    """One block of (n_steps, channels), tap by tap, in float64."""
    kernel = p["convolution"]["kernel"]
    heard = np.zeros((len(y), kernel.shape[2]))
    for n in range(len(y)):
        for tap in range(len(kernel)):
            at = n - (len(kernel) - 1 - tap) * dilation
            if at >= 0:
                heard[n] += y[at] @ kernel[tap]
    gain, offset = np.split(told @ p["film"]["kernel"] + p["film"]["bias"], 2)
    heard = (1 + gain) * heard + offset
    heard = np.where(heard >= 0, heard, p["slope"] * heard)
    return heard + (y @ p["past"]["kernel"] if isinstance(p["past"], dict) else p["past"] * y)


def features_by_hand(x):
    return np.stack([x, np.log10(1 + (x / 1e-3) ** 2) / 6], axis=-1)


@pytest.mark.slow
def test_the_large_one_is_its_loops():
    net = NETS["tcn"]
    weights, x, raw = lively(net), noise(50), np.array([0.3, -0.8, 0.1], np.float32)
    p = float64(weights)
    told = told_by_hand(p["told"], raw.astype(np.float64))
    y = features_by_hand(x.astype(np.float64))
    for block, dilation in enumerate(net.dilations):
        y = block_by_hand(p[f"_Block_{block}"], y, told, dilation)
    log_gain, added = (y @ p["last"]["kernel"] + p["last"]["bias"]).T
    still = told @ p["passed"]["Dense_0"]["kernel"] + p["passed"]["Dense_0"]["bias"]
    expected = np.exp(7 * np.tanh(log_gain / 7)) * (np.exp(still) * x + added)
    np.testing.assert_allclose(output(net, weights, x, raw), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_the_small_one_is_its_loops_on_frames():
    net = NETS["cnn"]
    weights, x, raw = lively(net), noise(30), np.array([0.3, -0.8, 0.1], np.float32)
    p, hop = float64(weights), net.hop
    told = told_by_hand(p["told"], raw.astype(np.float64))
    count = -(-len(x) // hop)
    padded = np.concatenate([np.zeros(hop), x, np.zeros(count * hop - len(x))])
    y = features_by_hand(padded)[:-hop].reshape(count, 2 * hop)
    for block, dilation in enumerate(net.dilations):
        y = block_by_hand(p[f"_Block_{block}"], y, told, dilation)
    last = y @ p["last"]["kernel"] + p["last"]["bias"]
    ends = np.arange(-1, count) * hop + hop - 1
    log_gain = np.interp(np.arange(len(x)), ends, np.concatenate([last[:1, 0], last[:, 0]]))
    still = told @ p["passed"]["Dense_0"]["kernel"] + p["passed"]["Dense_0"]["bias"]
    expected = np.exp(7 * np.tanh(log_gain / 7) + still) * x
    np.testing.assert_allclose(output(net, weights, x, raw), expected, rtol=1e-4, atol=1e-4)


def test_the_exponential_of_a_resonance_is_its_impulse_response():
    radius, angle, gain = 0.97, 0.3, 1.7
    n = np.arange(1, 400)
    series = np.concatenate([[np.log(gain)], 2 * radius**n * np.cos(angle * n) / n]).astype(np.float32)
    impulse = np.zeros(400)
    impulse[0] = gain
    expected = scipy.signal.lfilter([1.0], [1.0, -2 * radius * np.cos(angle), radius**2], impulse)
    np.testing.assert_allclose(
        nets._exponential(jnp.asarray(series[None]))[0], expected, atol=3e-5 * np.max(expected)
    )


def test_taps_filter_the_signal():
    x, taps = noise(3, 100), noise(3, 40, seed=1)
    expected = [scipy.signal.lfilter(b, [1.0], one) for b, one in zip(taps, x, strict=True)]
    np.testing.assert_allclose(nets._convolved(jnp.asarray(x), jnp.asarray(taps)), expected, atol=2e-5)


@pytest.mark.parametrize("name", ONE)
def test_nothing_is_heard_before_it_is_there(name):
    net = NETS[name]
    weights, x, raw = lively(net), noise(64), noise(3)
    later = np.triu(np.ones((64, 64), bool))  # row t: from sample t on
    others = np.where(later, x + noise(64, seed=2), x)
    change = np.abs(output(net, weights, others, raw) - output(net, weights, x, raw))
    assert np.max(change[~later]) <= 1e-5 * np.max(change)
    assert np.all(np.max(np.where(later, change, 0.0), axis=-1) > 1e-3)


def heard(net, n_samples):
    """Where the last output's gradient by the signal is not zero, counted back from it."""
    weights = lively(net, n_samples=16)
    x = jnp.asarray(0.1 + np.abs(noise(n_samples)))
    gradient = jax.jit(jax.grad(lambda x: jnp.asarray(net.apply(weights, x, jnp.zeros(3)))[-1]))(x)
    return n_samples - np.flatnonzero(np.asarray(gradient))


@pytest.mark.slow
def test_the_receptive_field_of_the_source_is_where_gradients_are():
    net = nets.ProxyTCN(channels=2)
    assert nets.receptive_field(net) == 7021
    assert np.max(heard(net, 7100)) == 7021


def test_the_receptive_field_of_the_small_one_is_the_most_of_its_samples():
    net = NETS["cnn"]
    assert max(np.max(heard(net, n_samples)) for n_samples in range(61, 65)) == nets.receptive_field(net)


@pytest.mark.parametrize("name", EACH)
def test_training_begins_with_the_signal_as_it_is(name):
    net = NETS[name]
    x, raw = noise(64), noise(3)
    weights = jax.jit(net.init)(jax.random.key(0), x, raw)
    np.testing.assert_allclose(output(net, weights, x, raw), x, atol=0.05)


@pytest.mark.parametrize("name", EACH)
def test_batch_axes_broadcast(name):
    net = NETS[name]
    weights, x, raw = lively(net), noise(2, 1, 30), noise(4, 3)
    found = output(net, weights, x, raw)
    assert found.shape == (2, 4, 30)
    np.testing.assert_allclose(found[1, 2], output(net, weights, x[1, 0], raw[2]), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("level", [0.0, 1.0, 1e4])
def test_gradients_are_finite_on_silence_and_when_loud(name, level):
    net = NETS[name]
    weights = lively(net)
    gradient = jax.jit(jax.grad(lambda *a: jnp.sum(jnp.asarray(net.apply(*a))), argnums=(0, 1, 2)))
    found = gradient(weights, level * jnp.ones(40), jnp.zeros(3))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(found))


def test_shapes_that_do_not_fit():
    net = NETS["tcn"]
    weights = lively(net)
    with pytest.raises(ValueError, match=r"raw has shape \(3, 3\), which does not fit x of shape \(2, 9\)"):
        net.apply(weights, jnp.zeros((2, 9)), jnp.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"x has shape \(\)"):
        net.apply(weights, jnp.float32(1), jnp.zeros(3))


# Files


@pytest.fixture
def proxy():
    net = nets.ProxyCNN(hop=4, channels=4, dilations=(1, 2), hidden=(6,), taps=5)
    controls = proxies.EFFECTS["compressor"].controls
    return proxies.Proxy(net, lively(net, len(controls)), controls)  # pyright: ignore[reportArgumentType]


def test_a_file_gives_the_proxy_again(proxy, tmp_path):
    proxies.save(proxy, tmp_path / "a.npz")
    again = proxies.read(tmp_path / "a.npz")
    assert (again.net, again.controls) == (proxy.net, proxy.controls)
    x, raw = 0.1 * noise(50), np.clip(noise(len(proxy.controls)), -1, 1)
    before, after = proxies.apply(proxy, x, raw), proxies.apply(again, x, raw)
    assert np.sum((before - after) ** 2) < 1e-4 * np.sum(before**2)


def test_files_that_are_none(proxy, tmp_path):
    path = tmp_path / "a.npz"
    with pytest.raises(ValueError, match=r"a\.npz' cannot be opened: no such file"):
        proxies.read(path)
    path.write_bytes(b"RIFF")
    with pytest.raises(ValueError, match=r"a\.npz' is no proxy of jaxapf, or damaged"):
        proxies.read(path)
    np.savez(path, design=np.frombuffer(b'{"kind": "rnn", "sizes": {}}', np.uint8))
    with pytest.raises(ValueError, match="is no proxy"):
        proxies.read(path)
    proxies.save(proxy, path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match="is no proxy"):
        proxies.read(path)


def test_weights_are_those_that_the_network_has(proxy, tmp_path):
    path = tmp_path / "a.npz"
    proxies.save(proxy, path)
    save: Any = partial(np.savez, path)
    with np.load(path) as file:
        arrays = dict(file)
    name = next(name for name in arrays if name.endswith("film/kernel"))
    save(**(arrays | {name: arrays[name][:, 1:]}))
    with pytest.raises(ValueError, match="is no proxy"):
        proxies.read(path)
    said = json.loads(arrays["design"].tobytes().decode())
    said["sizes"]["channels"] = 5
    save(**(arrays | {"design": np.frombuffer(json.dumps(said).encode(), np.uint8)}))
    with pytest.raises(ValueError, match="is no proxy"):
        proxies.read(path)


def test_weights_that_half_precision_cannot_hold(proxy, tmp_path):
    broken = proxy._replace(weights=jax.tree.map(lambda leaf: 1e6 * leaf, proxy.weights))
    with pytest.raises(ValueError, match="exceed half precision"):
        proxies.save(broken, tmp_path / "a.npz")
    assert not list(tmp_path.iterdir())


def test_another_number_of_controls(proxy):
    with pytest.raises(
        ValueError, match=r"raw has shape \(2,\); expected 6 on the last axis, one for each of"
    ):
        proxies.apply(proxy, np.zeros(9, np.float32), np.zeros(2, np.float32))


def test_controls_that_the_effect_no_longer_has(proxy, tmp_path, monkeypatch):
    other = proxy._replace(controls=(proxy.controls[0]._replace(low=-99.0), *proxy.controls[1:]))
    proxies.save(other, tmp_path / "a.npz")
    monkeypatch.setattr(proxies.pretrained, "path", lambda name: tmp_path / "a.npz")
    with pytest.raises(ValueError, match="was trained for other controls than the compressor has"):
        proxies.load("proxy-compressor-cnn")


# What is stored


@pytest.mark.parametrize("name", ["equalizer", slow("compressor")])
def test_a_stored_proxy_is_nearer_to_its_effect_than_any_gain(name, loose_jax):
    proxy, effect, fs = proxies.load(f"proxy-{name}-cnn"), proxies.EFFECTS[name], proxies.FS
    rng = np.random.default_rng(3)
    recording, rate = audio.read(datasets.example_pair()[0])
    x = audio.segment(audio.resample(recording[0], rate, fs), 6000)[:12].astype(np.float32)
    raw = rng.uniform(-1, 1, (len(x), len(effect.controls))).astype(np.float32)
    wet = np.asarray(chain.apply(effect, params.denormalise(raw, effect.controls), x, fs), np.float64)
    gain = np.sum(x * wet, axis=-1) / np.sum(x * x, axis=-1)  # the best one for each, which no proxy is told
    found = np.asarray(proxies.apply(proxy, x, raw))
    errors = [
        np.mean(np.sum((y - wet) ** 2, axis=-1) / np.sum(wet**2, axis=-1)) for y in (found, gain[:, None] * x)
    ]
    assert errors[0] < 0.2 * errors[1]
