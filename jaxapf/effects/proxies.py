"""Trained networks in place of effects: their effects, their files, and how they are run.

    net, weights, controls = load("proxy-compressor-cnn")       # of experiments/proxies, stored with jaxapf
    y = net.apply(weights, x, params.normalise(values, controls))

A proxy runs at the sample rate of its training, `FS`, and has no state.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float

from jaxapf._internal import serialization
from jaxapf._internal.arrays import as_signal
from jaxapf._internal.files import PathLike
from jaxapf.effects import chain
from jaxapf.effects._controls import Signal, SignalLike
from jaxapf.nets import proxy as nets
from jaxapf.params import Control
from jaxapf.training import pretrained

__all__ = ["EFFECTS", "FS", "KINDS", "Proxy", "apply", "load", "read", "save"]

Tree = Any
FS = 24_000
Net = nets.ProxyTCN | nets.ProxyCNN
KINDS = {"tcn": nets.ProxyTCN, "cnn": nets.ProxyCNN}


class Proxy(NamedTuple):
    """A network, its weights, and the controls that it was trained for, in order."""

    net: Net
    weights: Tree
    controls: tuple[Control, ...]


# As style transfer has them: no look-ahead, for a proxy has no latency, and a fast detector.
EFFECTS = {
    "equalizer": chain.effect("equalizer"),
    "compressor": chain.effect(
        "compressor", fixed={"average_ms": 1.0, "lookahead_ms": 0.0}, smoothing="gain_db"
    ),
}


def apply(proxy: Proxy, x: SignalLike, raw: Float[ArrayLike, "... n_controls"]) -> Signal:
    """Process a signal at `FS` by the proxy in place of its effect, to float32.

    raw (..., n_controls) in [-1, 1] is that of `params.normalise`; leading axes broadcast against the
    signal's.

    Example:
        >>> net = nets.ProxyCNN(channels=2)
        >>> controls = EFFECTS["compressor"].controls
        >>> weights = jax.jit(net.init)(jax.random.key(0), jnp.zeros(10), jnp.zeros(len(controls)))
        >>> apply(Proxy(net, weights, controls), jnp.ones(100), jnp.zeros(len(controls))).shape
        (100,)
    """
    raw = jnp.asarray(raw, jnp.float32)
    if raw.ndim == 0 or raw.shape[-1] != len(proxy.controls):
        raise ValueError(
            f"raw has shape {raw.shape}; expected {len(proxy.controls)} on the last axis, one for each of "
            f"{', '.join(one.name for one in proxy.controls)}"
        )
    return _applied(proxy.net, proxy.weights, as_signal(x).astype(jnp.float32), raw)


@partial(jax.jit, static_argnums=0)
def _applied(net: Net, weights: Tree, x: jax.Array, raw: jax.Array) -> jax.Array:
    return jnp.asarray(net.apply(weights, x, raw))


def save(proxy: Proxy, path: PathLike) -> None:
    """Write a proxy to one file, its weights in half precision; ValueError where that cannot hold them."""
    kind = next(name for name, made in KINDS.items() if type(proxy.net) is made)
    sizes = {one.name: getattr(proxy.net, one.name) for one in dataclasses.fields(proxy.net)}
    sizes = {name: value for name, value in sizes.items() if name not in ("parent", "name")}
    description = {"kind": kind, "sizes": sizes, "fs": FS, "controls": proxy.controls}
    serialization.save(description, proxy.weights, path)


def read(path: PathLike) -> Proxy:
    """Read a proxy of `save`, float32 again; ValueError where the file cannot be read or is none."""
    return serialization.load(path, "proxy of jaxapf", _proxy)


def load(name: str) -> Proxy:
    """Return a proxy that is stored with jaxapf: `"proxy-equalizer-cnn"` or `"proxy-compressor-cnn"`.

    Raises:
        ValueError: no such name; a damaged file; controls that its effect no longer has.
    """
    proxy = read(pretrained.path(name))
    effect = name.removeprefix("proxy-").removesuffix("-cnn")
    if effect in EFFECTS and proxy.controls != EFFECTS[effect].controls:
        raise ValueError(
            f"'{name}' was trained for other controls than the {effect} has; train it again with "
            "experiments/proxies"
        )
    return proxy


def _proxy(description: dict[str, Any], weights: Tree) -> Proxy:
    net = KINDS[description["kind"]](**description["sizes"])
    controls = tuple(Control(*one) for one in description["controls"])
    signals = jnp.zeros((1, 64)), jnp.zeros((1, len(controls)))
    expected = jax.eval_shape(net.init, jax.random.key(0), *signals)
    if jax.tree.map(np.shape, expected) != jax.tree.map(np.shape, weights):
        raise ValueError("weights of another network")
    return Proxy(net, weights, controls)
