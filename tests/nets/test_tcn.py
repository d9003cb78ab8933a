"""The temporal convolutional network: shapes, sizes, receptive field."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from jaxapf.nets import TCN, receptive_field


# One program each: run operation by operation, every one of them would be compiled by itself.
def outputs(net, weights, x) -> jax.Array:
    return jax.jit(net.apply)(weights, x)


def weights_of(net, channels=2, n_samples=256):
    return jax.jit(net.init)(jax.random.key(0), jnp.zeros((channels, n_samples)))


def layers_by_hand(weights, x, depth, kernel_size, dilations, stride):
    """The blocks without normalisation, one sample and one channel after the other, in float64."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), weights["params"])
    for block in range(depth):
        kernel, bias = params[f"Conv_{block}"]["kernel"], params[f"Conv_{block}"]["bias"]
        dilation = dilations[block % len(dilations)]
        n_out = -(-x.shape[1] // stride)
        padding = max(0, (n_out - 1) * stride + (kernel_size - 1) * dilation + 1 - x.shape[1])
        padded = np.pad(x, ((0, 0), (padding // 2, padding - padding // 2)))
        out = np.zeros((kernel.shape[2], n_out))
        for n in range(n_out):
            for tap in range(kernel_size):
                out[:, n] += kernel[tap].T @ padded[:, n * stride + tap * dilation]
        out += bias[:, None]
        slope = params[f"PReLU_{block}"]["negative_slope"]
        x = np.where(out >= 0, out, slope * out)
    return x, params


def test_outputs_are_those_of_loops():
    net = TCN(features=3, width=4, depth=3, kernel_size=5, dilations=(1, 3), norm="none", hidden=(6,))
    weights = weights_of(net, 2, 40)
    x = np.random.default_rng(0).standard_normal((2, 40))
    blocks, params = layers_by_hand(weights, x, 3, 5, (1, 3), 2)
    hidden = blocks.mean(axis=1) @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"]
    hidden = np.where(hidden >= 0, hidden, params["PReLU_3"]["negative_slope"] * hidden)
    expected = 1 / (1 + np.exp(-(hidden @ params["Dense_1"]["kernel"] + params["Dense_1"]["bias"])))
    np.testing.assert_allclose(outputs(net, weights, x.astype(np.float32)), expected, rtol=2e-5)


@pytest.mark.parametrize("norm", ["global", "layer"])
def test_loudness_of_the_first_block_is_normalised(norm):
    net = TCN(features=2, width=8, depth=2, norm=norm, hidden=())
    weights = weights_of(net)
    x = jax.random.normal(jax.random.key(1), (2, 256))
    np.testing.assert_allclose(outputs(net, weights, x), outputs(net, weights, 50 * x), rtol=2e-3)
    plain = TCN(features=2, width=8, depth=2, norm="none", hidden=())
    assert np.max(np.abs(outputs(plain, weights, x) - outputs(plain, weights, 50 * x))) > 0.01


def test_batches_are_examples_side_by_side():
    net = TCN(features=2, width=8, depth=2)
    x = jax.random.normal(jax.random.key(1), (2, 3, 2, 256))
    weights = weights_of(net)
    whole = outputs(net, weights, x)
    assert whole.shape == (2, 3, 2)
    np.testing.assert_allclose(whole[1, 2], outputs(net, weights, x[1, 2]), rtol=1e-5)


@pytest.mark.parametrize(
    ("depth", "kernel_size", "dilations", "stride"),
    [
        (3, 3, (1, 2), 2),
        (2, 2, (3,), 3),
        *(pytest.param(*one, marks=pytest.mark.slow) for one in ((1, 7, (1,), 2), (4, 5, (1, 2, 4), 1))),
    ],
)
def test_receptive_field_is_what_a_value_depends_on(depth, kernel_size, dilations, stride):
    net = TCN(
        features=1,
        width=2,
        depth=depth,
        kernel_size=kernel_size,
        dilations=dilations,
        stride=stride,
        norm="none",
    )
    field = receptive_field(net)
    n = 4 * field + 64
    weights = weights_of(net, 1, n)
    # Weights without cancellation: everything that can matter does.
    weights = jax.tree.map(lambda leaf: jnp.abs(leaf) + 0.1, weights)

    def before_the_mean(x):
        _, state = net.apply(weights, x, capture_intermediates=lambda module, _: isinstance(module, nn.PReLU))
        blocks: Any = state["intermediates"][f"PReLU_{depth - 1}"]["__call__"][0]
        return jnp.sum(blocks[blocks.shape[0] // 2])

    touched = np.flatnonzero(np.asarray(jax.jit(jax.grad(before_the_mean))(jnp.ones((1, n)))[0]))
    assert touched[-1] - touched[0] + 1 == field


def test_the_originals_sizes():
    net = TCN(features=13)
    assert (net.depth, net.kernel_size, tuple(net.dilations), net.stride) == (10, 7, (1, 2, 4, 8, 16), 2)
    # One value of the last block, followed back to the samples: spread by the stride, widened by the taps.
    response = np.ones(1)
    for block in reversed(range(10)):
        spaced = np.zeros((len(response) - 1) * 2 + 1)
        spaced[::2] = response
        kernel = np.zeros(6 * (1, 2, 4, 8, 16)[block % 5] + 1)
        kernel[:: (1, 2, 4, 8, 16)[block % 5]] = 1
        response = np.minimum(scipy.signal.convolve(spaced, kernel, method="direct"), 1.0)
    assert receptive_field(net) == len(response)


@pytest.mark.parametrize("n_samples", [1, pytest.param(500, marks=pytest.mark.slow)])
def test_a_single_sample_and_silence_are_finite(n_samples):
    net = TCN(features=2, width=4, depth=2)
    weights = weights_of(net)
    gradient_of = jax.jit(jax.grad(lambda w, x: outputs(net, w, x).sum()))
    gradient = gradient_of(weights, jnp.zeros((2, n_samples)))
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(gradient))


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"^norm is 'batch'; choose one of global, layer, none"):
        weights_of(TCN(features=1, norm="batch"))
    with pytest.raises(
        ValueError, match=r"^x has shape \(256,\); expected \(\.\.\., n_channels, n_samples\)"
    ):
        TCN(features=1).init(jax.random.key(0), jnp.zeros(256))
