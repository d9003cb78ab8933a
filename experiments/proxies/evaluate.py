"""Measure proxies over unseen clips and controls; make the tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.signal

from experiments.common.runner import Row, show_progress
from experiments.common.tables import made_with, table
from experiments.proxies import config, data, train
from jaxapf import losses, params
from jaxapf.effects import chain, equalizer, proxies
from jaxapf.nets.proxy import receptive_field

NAMES = ("esr", "mae", "mrstft")
MARKERS = ("proxies", "controls", "speed", "sizes")


def measure(found: dict[str, proxies.Proxy], sources: Sequence[np.ndarray], count: int) -> Row:
    """Measure proxies by name: errors, errors by control, speed, sizes, and what the pictures show."""
    results: Row = {"made_with": made_with(), "clips": count, "rows": [], "by_control": [], "speed": []}
    results["sizes"] = [sizes(name, proxy) for name, proxy in found.items()]
    for effect in dict.fromkeys(map(of_effect, found)):
        own = {name: proxy for name, proxy in found.items() if of_effect(name) == effect}
        errors = accuracy(proxies.EFFECTS[effect], own, sources, count)
        results["rows"] += errors["rows"]
        results["by_control"] += errors["by_control"]
        for shape in config.SHAPES:
            results["speed"] += speed(proxies.EFFECTS[effect], own, shape)
        key, shown = ("responses", responses) if effect == "equalizer" else ("compressions", compressions)
        results[key] = shown(own)
    return results


def markdown(results: Row) -> dict[str, str]:
    """Return the tables by the names of their markers."""
    keys = dict(zip(MARKERS, ("rows", "by_control", "speed", "sizes"), strict=True))
    found = {name: table(results[key], cell) + "\n" for name, key in keys.items() if results[key]}
    found["proxies"] = f"{results['made_with']} {results['clips']} clips.\n\n{found['proxies']}"
    return found


def cell(column: str, value: Any) -> str:
    """Return a value as tables show it."""
    if value is None:
        return "—"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def errors(y: Any, wet: Any) -> dict[str, np.ndarray]:
    """Return of each clip (n, n_samples) the ESR, and MAE and MR-STFT with the wet one at `config.RMS`."""

    def one(y: jax.Array, wet: jax.Array) -> list[jax.Array]:
        y, wet = train.scaled(y, wet)
        mrstft = losses.mrstft(y, wet, resolutions=config.RESOLUTIONS)
        return [losses.esr(y, wet), losses.mae(y, wet), mrstft]

    return dict(zip(NAMES, map(np.asarray, _each(one)(y, wet)), strict=True))


def _each(one: Callable[..., Any]) -> Callable[..., Any]:
    return jax.jit(jax.vmap(one))


def matched(dry: np.ndarray, wet: np.ndarray) -> np.ndarray:
    """Return dry clips (n, n_samples), each with the gain that gives it the wet one's RMS."""
    rms = [np.sqrt(np.mean(x.astype(np.float64) ** 2, axis=-1, keepdims=True)) for x in (dry, wet)]
    return (dry * (rms[1] / np.maximum(rms[0], 1e-12))).astype(np.float32)


def accuracy(
    effect: chain.Effect, found: dict[str, proxies.Proxy], sources: Sequence[np.ndarray], count: int
) -> Row:
    """Measure the errors of an effect's proxies beside no effect and the gain-matched dry clip.

    Args:
        effect: the real one.
        found: its proxies, by name.
        sources: recordings to cut clips from.
        count: of clips.

    Returns:
        `rows`: means of each, and the median ESR; `by_control`: for each proxy and control, the mean MR-STFT
        in fifths of the control's range.
    """
    collected: dict[str, list[dict[str, np.ndarray]]] = {
        name: [] for name in ("no effect", "gain-matched dry", *found)
    }
    raws = []
    for part in range(-(-count // config.AT_ONCE)):
        show_progress(f"{effect.name}: clips {part * config.AT_ONCE} of {count}")
        shape = (min(config.AT_ONCE, count - part * config.AT_ONCE), config.TEST_SAMPLES)
        batch = data.batch((config.TEST_SEED, part), sources, shape, len(effect.controls), 0.0)
        wet = np.asarray(jax.jit(train.through, static_argnums=0)(effect, batch["raw"], batch["dry"]))
        given = {"no effect": batch["dry"], "gain-matched dry": matched(batch["dry"], wet)}
        given |= {name: proxies.apply(one, batch["dry"], batch["raw"]) for name, one in found.items()}
        for name, y in given.items():
            collected[name].append(errors(y, wet))
        raws.append(batch["raw"])
    joined = {
        name: {key: np.concatenate([part[key] for part in parts]) for key in NAMES}
        for name, parts in collected.items()
    }
    rows = [
        {
            "effect": effect.name,
            "in its place": name,
            "MR-STFT": float(np.mean(one["mrstft"])),
            "MAE": float(np.mean(one["mae"])),
            "ESR, mean": float(np.mean(one["esr"])),
            "ESR, median": float(np.median(one["esr"])),
        }
        for name, one in joined.items()
    ]
    raw = np.concatenate(raws)
    by_control = [
        {"proxy": name, "control": control.name, **fifths(raw[:, at], joined[name]["mrstft"])}
        for name in found
        for at, control in enumerate(effect.controls)
    ]
    return {"rows": rows, "by_control": by_control}


def fifths(raw: np.ndarray, values: np.ndarray) -> dict[str, float | None]:
    """Return the means of values (n,) where a control (n,) in [-1, 1] lies in each fifth of its range."""
    place = np.clip(np.floor((raw + 1) * 2.5), 0, 4)
    return {
        f"{20 * at} to {20 * at + 20} %": float(np.mean(values[place == at])) if np.any(place == at) else None
        for at in range(5)
    }


# Speed


def speed(effect: chain.Effect, found: dict[str, proxies.Proxy], shape: tuple[int, int]) -> list[Row]:
    """Time the output and the gradient by the controls of an effect and its proxies."""
    rng = np.random.default_rng(config.TEST_SEED)
    x = jnp.asarray(0.1 * rng.standard_normal(shape), jnp.float32)
    raw = jnp.asarray(rng.uniform(-0.9, 0.9, (shape[0], len(effect.controls))), jnp.float32)

    def sampled(raw: jax.Array, x: jax.Array) -> jax.Array:
        return chain.apply(effect, params.denormalise(raw, effect.controls), x, config.FS, method="fsm")

    ways: dict[str, Callable[..., jax.Array]] = {
        "the effect": lambda raw, x: train.through(effect, raw, x),
        "the effect, sampled": sampled,
    }
    for name, one in found.items():
        ways[name] = lambda raw, x, one=one: jnp.asarray(one.net.apply(one.weights, x, raw))
    rows: list[Row] = []
    for name, way in ways.items():
        show_progress(f"{effect.name}: speed of {name}, {shape[0]} x {shape[1]}")
        forward = jax.jit(way)
        gradient = jax.jit(jax.grad(lambda raw, x, way=way: jnp.mean(jnp.abs(way(raw, x)))))
        rows.append(
            {
                "effect": effect.name,
                "clips": f"{shape[0]} x {shape[1]}",
                "way": name,
                "forward, ms": 1e3 * fastest(forward, raw, x),
                "gradient, ms": 1e3 * fastest(gradient, raw, x),
            }
        )
    for row in rows:
        row["times the effect's"] = row["gradient, ms"] / rows[0]["gradient, ms"]
    return rows


def fastest(call: Callable[..., Any], *arguments: Any) -> float:
    """Return the seconds of the fastest of some calls, compiled before."""
    jax.block_until_ready(call(*arguments))
    times = []
    for _ in range(config.REPEATS):
        start = time.perf_counter()
        jax.block_until_ready(call(*arguments))
        times.append(time.perf_counter() - start)
    return min(times)


def sizes(name: str, proxy: proxies.Proxy) -> Row:
    """Return the number of parameters and the receptive field."""
    return {
        "proxy": name,
        "parameters": sum(int(np.size(leaf)) for leaf in jax.tree.leaves(proxy.weights)),
        "receptive field, samples": receptive_field(proxy.net),
    }


# What the pictures show


def responses(found: dict[str, proxies.Proxy]) -> Row:
    """Return responses in dB of the equaliser at random controls, and of its proxies by white noise."""
    effect = proxies.EFFECTS["equalizer"]
    rng = np.random.default_rng(config.PICTURE_SEED)
    raw = rng.uniform(-1, 1, (config.SHOWN, len(effect.controls))).astype(np.float32)
    x = (0.05 * rng.standard_normal(4 * config.FS)).astype(np.float32)
    freqs_hz = np.geomspace(30.0, 11_500.0, 200)
    values = params.denormalise(raw.astype(np.float64), effect.controls)
    truth = equalizer.response_db(equalizer.packed(values), freqs_hz, config.FS)
    shown: Row = {"freqs_hz": freqs_hz.tolist(), "truth": np.asarray(truth).tolist()}
    for name, proxy in found.items():
        y = np.concatenate([np.asarray(proxies.apply(proxy, x[None], one[None])) for one in raw])
        freqs, cross = scipy.signal.csd(x, y, config.FS, nperseg=8192)
        power = scipy.signal.welch(x, config.FS, nperseg=8192)[1]
        level = 20 * np.log10(np.maximum(np.abs(cross) / power, 1e-6))
        shown[name] = [np.interp(freqs_hz, freqs, one).tolist() for one in level]
    return shown


def compressions(found: dict[str, proxies.Proxy]) -> Row:
    """Return level out over level in, and gain over time, of the compressor and its proxies at 1 kHz."""
    effect = proxies.EFFECTS["compressor"]
    raw = params.normalise(np.array(config.COMPRESSIONS), effect.controls).astype(np.float32)
    levels_db = np.arange(-60.0, 1.0, 4.0)
    tone = np.sin(2 * np.pi * 1000.0 * np.arange(2 * config.FS) / config.FS)
    steady = (10 ** (levels_db[:, None] / 20) * tone).astype(np.float32)
    bounds = np.round(np.array([0.2, 0.6]) * config.FS).astype(int)
    step = np.full(round(1.4 * config.FS), 10 ** (-40 / 20))
    step[bounds[0] : bounds[1]] = 10 ** (-6 / 20)
    moving = (step * tone[: len(step)]).astype(np.float32)
    ways: dict[str, Callable[..., Any]] = {"truth": lambda x, raw: train.through(effect, raw, x)}
    for name, proxy in found.items():
        ways[name] = lambda x, raw, proxy=proxy: proxies.apply(proxy, x, raw)
    shown: Row = {"levels_db": levels_db.tolist(), "every_s": config.EVERY / config.FS}
    for name, way in ways.items():
        still = [np.asarray(way(steady, one)) for one in raw]
        shown[name] = {
            "static": [_level_db(y[:, -config.FS // 4 :]).tolist() for y in still],
            "gain": [_gain_db(moving, np.asarray(way(moving[None], one[None]))[0]).tolist() for one in raw],
        }
    return shown


def _level_db(y: np.ndarray) -> np.ndarray:
    """Return the level of tones (n, n_samples) in dB, relative to one of amplitude one."""
    return 10 * np.log10(np.maximum(2 * np.mean(y.astype(np.float64) ** 2, axis=-1), 1e-12))


def _gain_db(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the power of y over that of x in windows of 2 ms, every `config.EVERY` samples."""
    window = np.ones(config.FS // 500)
    power = [np.convolve(one.astype(np.float64) ** 2, window, "same") + 1e-12 for one in (x, y)]
    return (10 * np.log10(power[1] / power[0]))[:: config.EVERY]


def of_effect(name: str) -> str:
    """Return the name of a proxy's effect, the part before the first dash."""
    return name.split("-")[0]
