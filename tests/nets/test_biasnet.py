"""Networks: parameter counts, ranges and formulas of the papers they come from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxapf import nets, params


def outputs(net, weights) -> np.ndarray:
    return np.asarray(jax.jit(net.apply)(weights))


def size(net) -> int:
    """Number of parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(net.init, jax.random.key(0))))


def test_biasnets_have_the_papers_number_of_parameters():
    assert size(nets.BiasNet(features=11)) == 691_467
    sequential = 3 * size(nets.BiasNet(features=3)) + size(nets.BiasNet(features=2))
    assert sequential == 2_761_611


def test_biasnet_is_the_formula():
    net = nets.BiasNet(features=3, width=8, hidden=(6, 5))
    weights = jax.jit(net.init)(jax.random.key(1))
    layers = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), weights["params"])
    x = layers["vector"]
    assert np.all((x >= 0) & (x < 1))
    for name in ("Dense_0", "Dense_1"):
        x = np.sin(x @ layers[name]["kernel"] + layers[name]["bias"])
    expected = np.tanh(x @ layers["Dense_2"]["kernel"] + layers["Dense_2"]["bias"])
    np.testing.assert_allclose(outputs(net, weights), expected, rtol=1e-5)
    for name, fan_in in (("Dense_0", 8), ("Dense_1", 6), ("Dense_2", 5)):
        assert np.max(np.abs(layers[name]["kernel"])) <= fan_in**-0.5
        assert np.any(layers[name]["bias"] != 0)


def test_every_parameter_of_a_biasnet_has_a_gradient():
    net = nets.BiasNet(features=4)
    weights = jax.jit(net.init)(jax.random.key(2))
    gradient = jax.jit(jax.grad(lambda weights: jnp.sum(jnp.asarray(net.apply(weights)) ** 2)))(weights)
    for leaf in jax.tree.leaves(gradient):
        assert np.all(np.isfinite(leaf))
        assert np.count_nonzero(leaf) > 0.99 * leaf.size


@pytest.mark.slow
def test_stacked_biasnets_are_single_ones():
    net = nets.BiasNet(features=3, width=64, hidden=(32, 16))
    keys = jax.random.split(jax.random.key(3), 3)
    stacked = jax.jit(jax.vmap(net.init))(keys)
    found = np.asarray(jax.jit(jax.vmap(net.apply))(stacked))
    for row, key in zip(found, keys, strict=True):
        np.testing.assert_allclose(row, outputs(net, jax.jit(net.init)(key)), atol=1e-6)


def test_controls_span_their_ranges():
    low, high = (params.denormalise(np.full(3, end), params.SECOND_ORDER) for end in (-1.0, 1.0))
    np.testing.assert_allclose(low, [-0.99999, 20.0, -0.99999])
    np.testing.assert_allclose(high, [0.99999, 20e3, 0.99999])


@pytest.mark.parametrize("controls", [params.SECOND_ORDER, params.FIRST_ORDER])
def test_normalise_inverts_denormalise(controls):
    raw = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (5, 4, len(controls))), jnp.float32)
    values = jnp.stack(params.denormalise(raw, controls), axis=-1)
    assert values.dtype == jnp.float32
    np.testing.assert_allclose(params.normalise(values, controls), raw, atol=1e-6)


def test_another_number_of_controls_is_refused():
    with pytest.raises(
        ValueError, match=r"raw has shape \(2,\); expected 3 on the last axis, one for each of radius"
    ):
        params.denormalise(jnp.zeros(2), params.SECOND_ORDER)
