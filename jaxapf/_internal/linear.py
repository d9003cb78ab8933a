"""Linear functions whose transpose is given: one more filter pass instead of a derivative of every step.

`lax.custom_linear_solve` takes a linear system, M y = b, with a solution and a transposed solution that may
be made of anything. Differentiated, M dy = db - dM y: the tangent is the same solution of another right-hand
side. Transposed, M^T w = g: the cotangent of b is w, and that of the entries of M is -w y^T. So JAX has both
modes, to any order, from the product M y, and never looks into how the system is solved. (A `custom_vjp`
would take the forward mode and second derivatives away.)
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

Map = Callable[[jax.Array], jax.Array]


def solve(product: Map, b: jax.Array, forwards: Map, backwards: Map) -> jax.Array:
    """Return y with product(y) = b.

    `product` is M, linear in y and differentiable by what it closes over; `forwards` solves M y = b and
    `backwards` M^T w = g.
    """
    return lax.custom_linear_solve(product, b, lambda _, b: forwards(b), lambda _, g: backwards(g))


def apply(function: Map, transpose: Map, x: jax.Array) -> jax.Array:
    """Return function(x), (n_y, k), linear in x, (n_x, k), with the transpose given.

    As a system, [I 0; -F I] [x; y] = [x; 0] has y = F x, and its transpose has x + F^T y. Both unknowns are
    one array, so that all of the right-hand side is linear in what is differentiated, whatever that is.
    """
    n_x, n_y = x.shape[0], jax.eval_shape(function, x).shape[0]

    def product(unknown):
        x, y = unknown[:n_x], unknown[n_x:]
        return jnp.concatenate([x, y - function(x)])

    def forwards(right):
        x, y = right[:n_x], right[n_x:]
        return jnp.concatenate([x, y + function(x)])

    def backwards(g):
        g_x, g_y = g[:n_x], g[n_x:]
        return jnp.concatenate([g_x + transpose(g_y), g_y])

    return solve(product, jnp.pad(x, ((0, n_y), (0, 0))), forwards, backwards)[n_x:]
