"""Time and memory of every form: filtering, and value with gradient, float32, beside SciPy's filter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.signal

from experiments.common.measuring import interleaved, printed_by
from experiments.common.runner import Row, show_progress
from experiments.gradient_comparison import config, forms, moving, standing
from jaxapf import frequency

MEMORY = "experiments.gradient_comparison.memory"
SCIPY = "scipy.signal.sosfilt"
RADIUS = 0.99
ENOUGH = 9  # time constants of padding


def standing_forms(n_samples: int) -> dict[str, forms.Form]:
    """Name -> (place, offset, x) -> y."""
    filters = {f"recursion, {method}": forms.exact(method) for method in ("scan", "blocked", "associative")}
    filters |= {f"sampled, {times}x": forms.sampled(times * n_samples) for times in config.PADDINGS}
    enough = frequency.padded_length(n_samples, round(ENOUGH / (1 - RADIUS)))
    filters[f"sampled, {ENOUGH} time constants"] = forms.sampled(enough)
    filters["sampled, 2x, b and a"] = forms.sampled_rows(2 * n_samples)
    return {name: forms.of_offset(filtered) for name, filtered in filters.items()}


def moving_forms() -> dict[str, forms.Form]:
    """Name -> (rate, sweep, x) -> y."""
    found = {f"recursion, {method}": forms.every_sample(method) for method in ("scan", "blocked")}
    return found | {f"frames, hop {hop}": forms.every_frame(hop, 8 * hop) for hop in (64, 256, 1024)}


def inputs(kind: str, batch: int, n_samples: int) -> tuple[Any, Any, jax.Array]:
    """What is given, what is learnt, and the signal (batch, n_samples), float32."""
    sections = config.Settings().n_sections
    if kind == "standing":
        one = standing.drawn(1, sections, 1, RADIUS)
        given, learnt = jax.tree.map(lambda leaf: leaf[0], (one.place, one.offset))
    else:
        one = moving.drawn(1, sections, 1, RADIUS, config.MOVING_RATE_HZ)
        given, learnt = jax.tree.map(lambda leaf: leaf[0], (one.rate_hz, one.sweep))
    x = np.random.default_rng(config.SEED).standard_normal((batch, n_samples))
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), (given, learnt, x))


def forms_of(kind: str, n_samples: int) -> dict[str, forms.Form]:
    """The forms of standing or of moving cascades."""
    return standing_forms(n_samples) if kind == "standing" else moving_forms()


def gradient_of(form: forms.Form) -> Callable[..., Any]:
    """Mean square of the output and its gradient by what is learnt and by the signal."""

    def loss(given: Any, learnt: Any, x: jax.Array) -> jax.Array:
        return jnp.mean(form(given, learnt, x) ** 2)

    return jax.value_and_grad(loss, argnums=(1, 2))


def cost(settings: config.Settings) -> list[Row]:
    """All forms, all sizes; times are the fastest of many turns, compiling apart."""
    sizes = [("standing", *size) for size in settings.cost_sizes] + [("moving", *settings.moving_cost)]
    return [row for size in sizes for row in _of_size(*size, settings)]


def _of_size(kind: str, batch: int, n_samples: int, settings: config.Settings) -> list[Row]:
    show_progress(f"time: {kind}, {batch} x {n_samples}")
    arguments = inputs(kind, batch, n_samples)
    found = forms_of(kind, n_samples)
    forward: dict[str, Callable[[], Any]] = {SCIPY: _scipy(batch, n_samples)}
    gradient: dict[str, Callable[[], Any]] = {}
    for name, form in found.items():
        forward[name] = _call(jax.jit(form), arguments)
        gradient[name] = _call(jax.jit(gradient_of(form)), arguments)
    # What a first call takes beyond is compiling: none of it is to be read from disk.
    cached = jax.config.jax_enable_compilation_cache  # pyright: ignore[reportAttributeAccessIssue]
    jax.config.update("jax_enable_compilation_cache", False)
    times = interleaved(forward, settings.rounds, settings.seconds)
    slopes = interleaved(gradient, settings.rounds, settings.seconds)
    jax.config.update("jax_enable_compilation_cache", cached)
    unit = times[SCIPY].fastest
    rows: list[Row] = []
    for name, time in times.items():
        row: Row = {"kind": kind, "size": f"{batch} x {n_samples}", "form": name}
        row |= {"forward ms": 1e3 * time.fastest, "forward / SciPy": time.fastest / unit}
        slope = slopes.get(name)
        row["gradient ms"] = slope and 1e3 * slope.fastest
        row["gradient / SciPy"] = slope and slope.fastest / unit
        row["compile s"] = slope and slope.first_extra
        show_progress(f"memory: {kind}, {batch} x {n_samples}, {name}")
        rows.append(row | _memory(kind, name, batch, n_samples))
    return rows


def _call(function: Callable[..., Any], arguments: tuple) -> Callable[[], Any]:
    return lambda: function(*arguments)


def _scipy(batch: int, n_samples: int) -> Callable[[], Any]:
    place, offset, x = inputs("standing", batch, n_samples)
    sos = np.asarray(forms.standing(place, offset).sos, np.float64)
    x = np.asarray(x)
    return lambda: scipy.signal.sosfilt(sos, x)


def _memory(kind: str, form: str, batch: int, n_samples: int) -> Row:
    # Of one long signal alone: what a process takes beside the signal outweighs many short ones.
    if form == SCIPY or batch > 1:
        return {"planned": None, "measured": None}
    found = printed_by(MEMORY, kind, form, batch, n_samples)
    signal = 4 * batch * n_samples
    return {name: found[name] and found[name] / signal for name in ("planned", "measured")}
