"""The functions to be timed, ours and the peers', as calls without arguments on arrays that are ready."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.signal

import jaxapf
from experiments.benchmark import config
from jaxapf import allpass

CASCADE_METHODS = ("auto", "scan", "blocked", "associative", "fsm")
ALLPOLE_METHODS = ("auto", "scan", "blocked", "associative")
SCIPY, DASP, TORCHLPC = "scipy.signal.sosfilt", "dasp_pytorch sosfilt_via_fsm", "torchlpc.sample_wise_lpc"


class Case(NamedTuple):
    """A function to be timed.

    forward, gradient: calls that return once the result is there, or a result that can be waited for.
    compiles: whether the first call compiles.
    """

    forward: Callable[[], Any]
    gradient: Callable[[], Any] | None
    compiles: bool = False


class Peers(NamedTuple):
    """The peers that are here, as modules or None, the torch device to use, and why others are not."""

    dasp: Any
    effects: Any
    torchlpc: Any
    torch: Any
    device: str
    missing: list[str]


# Signals and coefficients


def noise(*shape: int) -> np.ndarray:
    """White noise, float32."""
    return np.random.default_rng(config.SEED).standard_normal(shape).astype(np.float32)


def second_order_sections(n_sections: int) -> allpass.Sections:
    """All-pass sections in float64, radii and frequencies spread over the ranges of config.py."""
    radius = np.linspace(*config.RADII, n_sections)
    return allpass.second_order(radius, np.geomspace(*config.CUTOFFS_HZ, n_sections), config.FS)


def varying_coefficients(batch: int, n_samples: int, order: int) -> np.ndarray:
    """Stable all-pole coefficients that move smoothly, `(batch, n_samples, order)`, float64.

    Every reflection coefficient is a sine of its own frequency and phase, within `REFLECTION`.
    """
    rng = np.random.default_rng(config.SEED)
    swings, phase = rng.uniform(*config.SWINGS, (2, order, batch, 1))
    time = np.arange(n_samples) / n_samples
    return direct_form(config.REFLECTION * np.sin(2 * np.pi * (swings * time + phase)))


def direct_form(reflection: np.ndarray) -> np.ndarray:
    """Reflection coefficients `(order, ...)` to direct form `(..., order)`, by the step-up recursion."""
    a = reflection[:0]
    for k in reflection:
        a = np.concatenate([a + k * a[::-1], k[None]])
    return np.moveaxis(a, 0, -1)


def allpole_reference(a: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The recurrence as a float64 loop over time: y[t] = x[t] - sum_i a[t, i] y[t - 1 - i]."""
    y = np.array(x, np.float64)
    order = a.shape[-1]
    past = np.zeros((len(x), order))
    for t in range(x.shape[-1]):
        y[:, t] -= np.einsum("bn,bn->b", a[:, t], past)
        past = np.concatenate([y[:, t, None], past[:, :-1]], axis=-1)
    return y


# Ours


def value_and_gradient(function: Callable[..., jax.Array]) -> Callable[..., Any]:
    """Value and gradient of the sum of squares of `function(coefficients, x)`, by both arguments."""
    return jax.value_and_grad(lambda coefficients, x: jnp.sum(function(coefficients, x) ** 2), argnums=(0, 1))


def cascade(method: str) -> Callable[..., jax.Array]:
    """`jaxapf.allpass.cascade` by a method, as a function of (sections, x)."""
    return lambda sections, x: allpass.cascade(sections, x, method=method)


def allpole(method: str) -> Callable[..., jax.Array]:
    """`jaxapf.allpole` by a method, as a function of (a, x)."""
    return lambda a, x: jaxapf.allpole(a, x, method=method)[0]


def methods(of: Callable[[str], Callable], arguments: tuple, names: tuple[str, ...]) -> tuple[str, ...]:
    """The methods to be measured: those named, and the native kernel where this function has one.

    Args:
        of: `cascade` or `allpole`.
        arguments: small ones, to try the kernel on.
        names: the methods that are always there.
    """
    if jax.default_backend() != "cpu":
        return names
    try:
        of("native")(*arguments)
    except ValueError:  # no such method, or no compiler here
        return names
    return (*names, "native")


def cascade_methods() -> tuple[str, ...]:
    """The methods of `jaxapf.allpass.cascade` that are here."""
    return methods(cascade, (on_device(second_order_sections(1)), jnp.zeros(8)), CASCADE_METHODS)


def allpole_methods() -> tuple[str, ...]:
    """The methods of `jaxapf.allpole` that are here."""
    return methods(allpole, (jnp.zeros(2), jnp.zeros(8)), ALLPOLE_METHODS)


def on_device(arrays: Any) -> Any:
    """NumPy arrays to JAX arrays, float32."""
    return jax.tree.map(lambda array: jnp.asarray(array, jnp.float32), arrays)


def ours(function: Callable[..., jax.Array], coefficients: Any, x: np.ndarray) -> Case:
    """A function of ours under `jax.jit`, its arguments on the device."""
    arguments = on_device((coefficients, x))
    forward, gradient = jax.jit(function), jax.jit(value_and_gradient(function))
    return Case(lambda: forward(*arguments), lambda: gradient(*arguments), compiles=True)


def too_many_steps(method: str, n_samples: int, n_sections: int) -> bool:
    """Whether a method loops over so many samples that it cannot be waited for on this backend."""
    return (
        method == "scan" and jax.default_backend() != "cpu" and n_samples * n_sections > config.MAX_GPU_STEPS
    )


def cascade_cases(sections: allpass.Sections, x: np.ndarray) -> dict[str, Case]:
    """`jaxapf.allpass.cascade` by every method."""
    n_samples, n_sections = x.shape[-1], len(sections.u)
    return {
        method: ours(cascade(method), sections, x)
        for method in cascade_methods()
        if not too_many_steps(method, n_samples, n_sections)
    }


def sosfilt_case(sections: allpass.Sections, x: np.ndarray) -> Case:
    """`jaxapf.sosfilt`, method auto."""
    return ours(lambda sos, x: jaxapf.sosfilt(sos, x), sections.sos, x)


def allpole_cases(a: np.ndarray, x: np.ndarray) -> dict[str, Case]:
    """`jaxapf.allpole` by every method."""
    return {
        method: ours(allpole(method), a, x)
        for method in allpole_methods()
        if not too_many_steps(method, x.shape[-1], 1)
    }


# The peers


def find_peers() -> Peers:
    """Import the peers that are installed and can run where JAX runs."""
    missing: list[str] = []
    names = ("torch", "dasp_pytorch.signal", "dasp_pytorch.functional", "torchlpc")
    torch, dasp, effects, torchlpc = (load(name, missing) for name in names)
    device = "cpu" if jax.default_backend() == "cpu" else "cuda"
    if torch is not None and device == "cuda" and not torch.cuda.is_available():
        torch = None
        missing.append("torch has no GPU here")
    if torch is None:
        dasp = effects = torchlpc = None
    return Peers(dasp, effects, torchlpc, torch, device, missing)


def load(name: str, missing: list[str]) -> Any:
    """Import a module, or return None and say why in `missing`."""
    package = name.partition(".")[0]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        text = f"{package} is not installed" if error.name == package else f"{package}: {error}"
        missing += [text] if text not in missing else []
    except (ImportError, OSError) as error:
        missing.append(f"{package} cannot be loaded ({error})")
    return None


def scipy_case(sections: allpass.Sections, x: np.ndarray) -> Case:
    """`scipy.signal.sosfilt` in float32."""
    sos = np.asarray(sections.sos, np.float32)
    return Case(lambda: scipy.signal.sosfilt(sos, x), None)


def torch_case(peers: Peers, function: Callable, *arrays: np.ndarray) -> Case:
    """A function of torch tensors; its gradient is that of the sum of squares, by all of them."""
    torch = peers.torch
    tensors = [
        torch.tensor(np.asarray(a, np.float32), device=peers.device, requires_grad=True) for a in arrays
    ]

    def wait(result):
        if peers.device == "cuda":
            torch.cuda.synchronize()
        return result

    def forward():
        with torch.no_grad():
            return wait(function(*tensors))

    def gradient():
        value = function(*tensors).square().sum()
        return wait((value, torch.autograd.grad(value, tensors)))

    return Case(forward, gradient)


def dasp_case(peers: Peers, sections: allpass.Sections, x: np.ndarray) -> Case:
    """`dasp_pytorch.signal.sosfilt_via_fsm`, one cascade for all signals, as ours."""
    return torch_case(peers, peers.dasp.sosfilt_via_fsm, np.asarray(sections.sos)[None], x)


def torchlpc_case(peers: Peers, a: np.ndarray, x: np.ndarray) -> Case:
    """`torchlpc.sample_wise_lpc`."""
    return torch_case(peers, lambda a, x: peers.torchlpc.sample_wise_lpc(x, a), a, x)


def torchlpc_kind(peers: Peers) -> str:
    """Which of its implementations torchlpc runs."""
    if peers.device != "cpu":
        return "on the GPU"
    return (
        "C++ extension" if getattr(peers.torchlpc, "EXTENSION_LOADED", False) else "Numba, no C++ extension"
    )


def as_numpy(y: Any) -> np.ndarray:
    """An output as float64, from wherever it is."""
    return np.asarray(y.cpu() if hasattr(y, "cpu") else y, np.float64)
