"""Second derivatives by each argument alone: what is not differentiated must not get in the way."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import EXACT_METHODS, FILTERS
from signals import noise

N_SAMPLES = 75  # two blocks and a part of one

QUICK = {"allpole-varying-2": ("native",)}
CASES = [
    pytest.param(name, method, marks=() if method in QUICK.get(name, ()) else pytest.mark.slow)
    for name, case in FILTERS.items()
    if not case.is_complex
    for method in case.methods
]


@pytest.mark.parametrize(("name", "method"), CASES)
def test_every_pair_of_arguments(x64, name, method):
    case = FILTERS[name]
    leaves, tree = jax.tree.flatten(case.take(case.params, 0, N_SAMPLES))
    sizes = [np.size(leaf) for leaf in leaves]
    flat = jnp.concatenate([jnp.ravel(jnp.asarray(leaf)) for leaf in leaves])
    point = (jnp.ones(flat.size), jnp.asarray(noise(N_SAMPLES)), jnp.asarray(noise(*case.zi_shape, seed=1)))
    directions = [jnp.asarray(0.1 * noise(*np.shape(part), seed=3 + i)) for i, part in enumerate(point)]

    def loss(factors, x, zi):
        parts = jnp.split(flat * factors, np.cumsum(sizes)[:-1])
        params = tree.unflatten(
            [part.reshape(np.shape(leaf)) for part, leaf in zip(parts, leaves, strict=True)]
        )
        y, zf = case.run(params, x, zi, method=method)
        return jnp.sum(jnp.sin(y)) + jnp.sum(zf**2)

    def along(function, index):
        def shifted(moved):
            arguments = list(point)
            arguments[index] = moved
            return function(*arguments)

        return jax.jvp(shifted, (point[index],), (directions[index],))[1]

    @jax.jit
    def second_derivatives():
        found = {}
        for i, j in itertools.product(range(3), repeat=2):
            # Forward over reverse, and reverse over forward, along the same two directions.
            forward = jnp.vdot(along(jax.grad(loss, argnums=i), j), directions[i])

            def slope(moved, i=i, j=j):
                arguments = list(point)
                arguments[i] = moved

                def by_j(other):
                    return loss(*(other if k == j else a for k, a in enumerate(arguments)))

                return jax.jvp(by_j, (arguments[j],), (directions[j],))[1]

            reverse = jnp.vdot(jax.grad(slope)(point[i]), directions[i])
            found[i, j] = forward, (reverse if i != j else forward)
        return found

    found = second_derivatives()
    scale = max(abs(float(forward)) for forward, _ in found.values())
    for (i, j), (forward, reverse) in found.items():
        np.testing.assert_allclose(forward, found[j, i][0], rtol=1e-8, atol=1e-10 * scale)
        np.testing.assert_allclose(reverse, forward, rtol=1e-8, atol=1e-10 * scale)
        assert np.isfinite(forward)
    assert found[0, 1][0] != 0


@pytest.mark.slow
@pytest.mark.parametrize("method", EXACT_METHODS)
def test_hessian_by_coefficients_alone(x64, method):
    case = FILTERS["sosfilt"]
    x = jnp.asarray(noise(200))

    def loss(sos):
        return jnp.sum(case.run(sos, x, jnp.zeros(case.zi_shape), method=method)[0] ** 2)

    got = jax.jit(jax.hessian(loss))(jnp.asarray(case.params))
    step = 1e-5 * noise(*case.params.shape, seed=2)
    slope = jax.jit(jax.grad(loss))
    expected = (slope(case.params + step) - slope(case.params - step)) / 2
    np.testing.assert_allclose(jnp.tensordot(got, step, axes=2), expected, rtol=1e-6, atol=1e-9)
