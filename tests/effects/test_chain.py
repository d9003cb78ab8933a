"""Chains with stereo effects: whose controls are for which axes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from signals import slow

from jaxapf import params
from jaxapf.effects import chain

FS = 8000.0
N = 128


def noise(*shape):
    return jnp.asarray(np.random.default_rng(0).standard_normal(shape), jnp.float32)


def controls(one, *batch):
    raw = np.random.default_rng(1).uniform(-1, 1, (*batch, len(one.controls)))
    return [jnp.asarray(value, jnp.float32) for value in params.denormalise(raw, one.controls)]


def strip(*names):
    return chain.chain(*(chain.effect(name) for name in names))


ROWS = {
    ("gain", "panner"): (),
    ("expander", "panner", "expander", "width", "gain"): (),
    ("expander", "width", "gain"): (2,),
    ("width",): (2,),
    ("gain", "expander"): (),
}


QUICK = (("expander", "panner", "expander", "width", "gain"), ("width",))


@pytest.mark.parametrize("names", [one if one in QUICK else slow(one) for one in ROWS], ids="+".join)
def test_a_batch_of_controls_is_one_row_at_a_time(names):
    one, x = strip(*names), noise(3, *ROWS[names], N)
    values = controls(one, 3)
    y = jax.jit(lambda values, x: chain.apply(one, values, x, FS))(values, x)
    stereo = (2,) if one.stereo[1] else ()
    assert one.stereo == (bool(ROWS[names]), "panner" in names or "width" in names)
    assert y.shape == (3, *stereo, N)
    alone = jax.jit(lambda values, x: chain.apply(one, values, x, FS))
    for row in range(3):
        expected = alone([value[row] for value in values], x[row])
        np.testing.assert_allclose(y[row], expected, atol=1e-5 * float(jnp.max(jnp.abs(expected))))
    # One signal through several settings, and several through one.
    one_signal = chain.apply(one, values, x[:1], FS)
    np.testing.assert_allclose(one_signal[0], y[0], atol=1e-5 * float(jnp.max(jnp.abs(y[0]))))
    assert chain.apply(one, [value[0] for value in values], x, FS).shape == y.shape


def test_a_chain_of_stereo_effects_is_its_effects_by_hand():
    """The effects after the panner, on left and on right, with the same controls."""
    one, x = strip("expander", "panner", "expander", "width"), noise(3, N)
    values = controls(one, 3)
    gate = chain.effect("expander")
    n = len(gate.controls)
    before, pan, after, wide = values[:n], values[n : n + 1], values[n + 1 : 2 * n + 1], values[2 * n + 1 :]
    y = chain.apply(chain.effect("panner"), pan, chain.apply(gate, before, x, FS), FS)
    y = jnp.stack([chain.apply(gate, after, y[:, side], FS) for side in range(2)], axis=1)
    y = chain.apply(chain.effect("width"), wide, y, FS)
    found = chain.apply(one, values, x, FS)
    np.testing.assert_allclose(found, y, atol=1e-5 * float(jnp.max(jnp.abs(y))))


def test_stereo_chains_stream():
    one, x = strip("expander", "panner", "expander", "width"), noise(3, N)
    values, state = controls(one, 3), one.initial_state((3,), FS, np.float32)
    process = jax.jit(lambda state, x: one.process(values, state, x, FS))
    whole, _ = process(state, x)
    parts = []
    for start in range(0, N, 64):
        y, after = process(state, x[:, start : start + 64])
        assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
        state = after
        parts.append(y)
    np.testing.assert_allclose(np.concatenate(parts, axis=-1), whole, atol=1e-5)


def test_a_chain_of_chains_is_one_chain():
    x = noise(3, N)
    flat = strip("gain", "panner", "expander")
    nested = chain.chain(chain.chain(chain.effect("gain"), chain.effect("panner")), strip("expander"))
    values = controls(flat, 3)
    assert nested.stereo == flat.stereo == (False, True)
    for method in chain.METHODS:
        expected = chain.apply(flat, values, x, FS, method=method)
        np.testing.assert_array_equal(chain.apply(nested, values, x, FS, method=method), expected)


def test_two_channels_are_not_made_twice():
    for names in (("panner", "gain", "panner"), ("width", "panner")):
        with pytest.raises(ValueError, match="panner makes two channels of one"):
            strip(*names)
    with pytest.raises(ValueError, match=r"expected \(..., 2, n_samples\)"):
        chain.apply(strip("gain", "width"), [0.0, 1.0], noise(3, N), FS)
