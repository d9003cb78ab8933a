"""One training step, forwards and backwards: exact recursion, frequency sampling, torchlpc on the same model.

The rival follows Yu et al. 2024, section 4.1: four all-passes and the loop around them multiplied out to
one filter of fourth order, whose coefficients move every sample. Needs torch and torchlpc, the extra `peers`.
"""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.runner import Row
from experiments.phaser import config
from jaxapf import losses
from jaxapf.effects import phaser
from jaxapf.training.step import init_state, make_train_step

Step = Callable[[], None]


def signals(seconds: float, fs: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise and the same noise later, `(n_samples,)`: how long a step takes does not depend on them."""
    x = np.random.default_rng(0).standard_normal(round(seconds * fs)).astype(np.float32)
    return 0.1 * x, 0.1 * np.roll(x, 3)


def measured(
    seconds: float = config.TRAIN_S, fs: int = config.SPEED_FS, rounds: int = config.ROUNDS
) -> list[Row]:
    """Milliseconds of a step, the fastest of some rounds in which all take turns; compiling apart."""
    dry, wet = signals(seconds, fs)
    contenders: dict[str, Callable[[], Step]] = {
        "exact recursion": lambda: jax_step(dry, wet, fs, None),
        "frequency sampling, 10 ms": lambda: jax_step(dry, wet, fs, 10.0),
    }
    try:
        torch: Any = importlib.import_module("torch")
    except ImportError:
        torch = None
    if torch is not None:
        contenders["torchlpc, float32"] = lambda: torch_step(dry, wet, fs, torch.float32)
        contenders["torchlpc, float64"] = lambda: torch_step(dry, wet, fs, torch.float64)
    steps, first_s = {}, {}
    for name, make in contenders.items():
        started = time.perf_counter()
        steps[name] = make()
        steps[name]()
        first_s[name] = time.perf_counter() - started
    fastest = dict.fromkeys(steps, math.inf)
    for _ in range(rounds):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            fastest[name] = min(fastest[name], time.perf_counter() - started)
    exact = fastest["exact recursion"]
    return [
        {
            "step": name,
            "ms": 1e3 * seconds_,
            "times the exact": seconds_ / exact,
            "first step (s)": first_s[name],
        }
        for name, seconds_ in fastest.items()
    ]


# jaxapf


def jax_step(dry: np.ndarray, wet: np.ndarray, fs: int, window_ms: float | None) -> Step:
    """A step of training, compiled at its first call."""

    def loss_fn(raw: Any, batch: Any, key: jax.Array) -> jax.Array:
        return losses.esr(jax_model(raw, batch["dry"], fs, window_ms), batch["wet"])

    optimizer = optax.adam(5e-4)
    step = jax.jit(make_train_step(loss_fn, optimizer, clip_norm=config.CLIP_NORM), donate_argnums=0)
    state = init_state(phaser.init(jax.random.key(0)), optimizer, key=jax.random.key(0))
    batch = {"dry": jnp.asarray(dry), "wet": jnp.asarray(wet)}

    def run() -> None:
        nonlocal state
        state, metrics = step(state, batch)
        jax.block_until_ready((state.params, metrics))

    return run


def jax_model(raw: Any, dry: Any, fs: int, window_ms: float | None) -> jax.Array:
    """Four stages, feedback without a delay, in one of the two forms."""
    controls = phaser.controls_of(raw)
    if window_ms is not None:
        return phaser.phaser_sampled(controls, dry, fs, window_ms=window_ms)
    return phaser.phaser(controls, phaser.initial_state(), dry, fs)[0]


# torch


def torch_step(dry: np.ndarray, wet: np.ndarray, fs: int, dtype: Any) -> Step:
    """The same step with torchlpc."""
    torch: Any = importlib.import_module("torch")

    params = torch_params(phaser.init(jax.random.key(0)), dtype)
    x, target = (torch.tensor(signal, dtype=dtype) for signal in (dry, wet))
    leaves = [leaf for value in params.values() for leaf in (value if isinstance(value, list) else [value])]
    optimizer = torch.optim.Adam(leaves, lr=5e-4)

    def run() -> None:
        optimizer.zero_grad()
        loss = torch.sum((torch_model(params, x, fs) - target) ** 2) / torch.sum(target**2)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(leaves, config.CLIP_NORM)
        optimizer.step()

    return run


def torch_params(raw: Any, dtype: Any) -> dict[str, Any]:
    """The numbers of `phaser.init` as leaves of torch."""
    torch: Any = importlib.import_module("torch")

    def leaf(value: Any) -> Any:
        return torch.tensor(np.asarray(value), dtype=dtype, requires_grad=True)

    params: dict[str, Any] = {name: leaf(value) for name, value in raw.items() if name != "shape"}
    return params | {"shape": [leaf(array) for layer in raw["shape"] for array in layer]}


def torch_model(params: dict[str, Any], x: Any, fs: int) -> Any:
    """The phaser `(n_samples,)` of these numbers: oscillator, waveshaper, and one filter of fourth order."""
    torch: Any = importlib.import_module("torch")
    sample_wise_lpc: Any = importlib.import_module("torchlpc").sample_wise_lpc

    p = _torch_sweep(params, x.numel(), fs, x.dtype)
    a1 = 2 * torch.tanh(params["a"][0])
    a2 = ((2 - torch.abs(a1)) * torch.tanh(params["a"][1]) + torch.abs(a1)) / 2
    poles = torch.stack([a1, a2]).expand(1, x.numel(), 2)
    h = _fir(sample_wise_lpc(x[None], poles)[0], params["b"].expand(x.numel(), 3))
    feedback = phaser.MOST_FEEDBACK * torch.tanh(params["feedback"])
    powers = torch.stack([torch.ones_like(p), p, p**2, p**3, p**4], dim=-1)
    binomial = torch.tensor([1.0, -4.0, 6.0, -4.0, 1.0], dtype=x.dtype)
    below = binomial * powers  # (1 - p z^-1)^4
    above = below.flip(-1)  # (p - z^-1)^4
    closed = below - feedback * above
    above, closed = above / closed[:, :1], closed / closed[:, :1]
    return params["through"] * h + sample_wise_lpc(_fir(h, above)[None], closed[None, :, 1:])[0]


def _torch_sweep(params: dict[str, Any], n_samples: int, fs: int, dtype: Any) -> Any:
    torch: Any = importlib.import_module("torch")

    hop = phaser.HOP
    time_s = torch.arange(-(-n_samples // hop) + 1, dtype=dtype) * hop / fs
    angle = 2 * torch.pi * torch.exp(params["log_rate"]) * time_s + params["phase"]
    values = (params["amplitude"] * torch.exp(-(params["sigma"] ** 2) * time_s) * torch.cos(angle))[:, None]
    layers = list(zip(params["shape"][::2], params["shape"][1::2], strict=True))
    for number, (kernel, bias) in enumerate(layers):
        values = values @ kernel + bias
        values = torch.tanh(values) if number + 1 < len(layers) else values
    d = params["bias"] + params["depth"] * (1 + values[:, 0]) / 2
    p = torch.tanh((1 - torch.tan(d)) / (1 + torch.tan(d)))
    share = torch.arange(hop, dtype=dtype) / hop
    return (p[:-1, None] * (1 - share) + p[1:, None] * share).reshape(-1)[:n_samples]


def _fir(x: Any, b: Any) -> Any:
    """A filter without feedback `(n_samples,)` whose coefficients `(n_samples, order + 1)` move."""
    torch: Any = importlib.import_module("torch")

    order = b.shape[-1] - 1
    padded = torch.nn.functional.pad(x, (order, 0))
    return sum(b[:, k] * padded[order - k : order - k + len(x)] for k in range(order + 1))
