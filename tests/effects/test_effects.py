"""Every effect against its specification: ranges, gradients, chunks, batches, dtypes, hardly any samples."""

import functools
import importlib
import itertools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from signals import relative_rms, slow

from jaxapf import params
from jaxapf.effects import chain

N = 700
# All of the equalizer's bands lie within half its rate: beyond, a frequency tells nothing.
RATES = {"equalizer": 24e3}
# Where the sampled form is one, how the effect is made small enough for a quick test, and its own state.
OPTIONS = {"reverb": {"length": 1500}, "distortion": {"oversampling": 3}}
FIXED = {"compressor": {"lookahead_ms": 0.0}}
# Settings at which N samples tell every control: most of the response is in them, no square wave yet, a gate
# that closes in time.
TELLING = {"reverb": dict.fromkeys(range(8), 0.08), "distortion": {0: 12.0}, "expander": {0: -15.0, 3: 10.0}}
STACKED = ("equalizer", "reverb")  # bands of them lie on an axis of their own
NAMES = sorted(chain.KINDS)
SLOW = ("compressor", "equalizer")  # to compile; they have tests of their own
EACH = [slow(name) if name in SLOW else name for name in NAMES]


def made(name, **fixed):
    return chain.effect(name, fixed=fixed, **OPTIONS.get(name, {}))


def signal(name, *batch, n=N, seed=0, dtype: Any = np.float32):
    """Noise whose level moves through every threshold, in as many channels as the effect takes."""
    rng = np.random.default_rng(seed)
    level = 10.0 ** np.interp(np.arange(n), np.linspace(0, N, 8), rng.uniform(-3.0, 0.0, 8))
    channels = (2,) if name == "width" else ()
    return jnp.asarray((level * rng.standard_normal((*batch, *channels, n))).astype(dtype))


def inside(one, seed, *batch):
    """Controls anywhere in their ranges."""
    raw = np.random.default_rng(seed).uniform(-1, 1, (*batch, len(one.controls)))
    return [np.asarray(value) for value in params.denormalise(raw, one.controls)]


def rate(name):
    return RATES.get(name, 8000.0)


@functools.cache
def program(name):
    """An effect with its state, compiled once for every shape and dtype."""
    return jax.jit(lambda values, state, x: made(name).process(values, state, x, rate(name)))


def run(name, values, x):
    """From rest, not in time: whatever comes out, and the state."""
    values = [jnp.asarray(value, x.dtype) for value in values]
    return program(name)(values, made(name).initial_state((), rate(name), x.dtype), x)


@pytest.mark.parametrize("name", NAMES)
def test_controls_are_the_specification(name):
    module = importlib.import_module(f"jaxapf.effects.{name}")
    specified = [control.name for control in chain.KINDS[name].controls]
    assert len(set(specified)) == len(specified)
    if name not in STACKED:
        assert list(module.Controls._fields) == specified
    for control in chain.KINDS[name].controls:
        assert control.low < control.high, control
        assert control.scale != "log" or control.low > 0, control


@pytest.mark.parametrize("name", ["gain", "distortion", "reverb", "panner", "width", "expander"])
def test_docstrings_have_the_ranges(name):
    text = importlib.import_module(f"jaxapf.effects.{name}").Controls.__doc__
    written = {
        found[1].rstrip("s"): (float(found[2]), float(found[3]))
        for found in re.finditer(r"(\w+)(?: \(.*?\))?(?:, each)? in \[([-\d.]+), ([-\d.]+)\]", text)
    }
    for control in chain.KINDS[name].controls:
        base = re.sub(r"_\d+$", "", control.name)
        base = {"decay_s": "decays_", "level_db": "levels_db"}.get(base, base)
        assert written[base.rstrip("s")] == (control.low, control.high), control.name


@pytest.mark.parametrize("name", EACH)
def test_anything_within_the_ranges_is_finite_and_float32_near_float64(x64, name):
    one = made(name)
    raw = np.random.default_rng(0).uniform(-1, 1, (6, len(one.controls)))
    raw = np.concatenate([raw, np.full_like(raw[:1], -1), np.full_like(raw[:1], 1)])
    values = params.denormalise(raw, one.controls)
    x = signal(name, len(raw), dtype=np.float64)
    found = {}
    for dtype in (np.float64, np.float32):
        found[dtype], state = run(name, values, x.astype(dtype))
        assert np.all(np.isfinite(found[dtype]))
        assert {found[dtype].dtype, *(leaf.dtype for leaf in jax.tree.leaves(state))} == {np.dtype(dtype)}
    for near, y in zip(*(np.asarray(one[:6], np.float64) for one in found.values()), strict=True):
        assert relative_rms(near, y) < 1e-4


def middle(one, *batch):
    """Controls a little off the middle of their ranges, where nothing happens to be zero."""
    raw = np.full((*batch, len(one.controls)), 0.13)
    return np.stack([np.asarray(value) for value in params.denormalise(raw, one.controls)])


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("form", ["exact", "fsm"])
def test_gradients_are_differences_and_no_control_is_ignored(x64, name, form):
    one = made(name, **(FIXED.get(name, {}) if form == "fsm" else {}))
    if form == "fsm" and not hasattr(chain.KINDS[name].module, f"{name}_sampled"):
        assert one.sampled(middle(one), signal(name), rate(name)).dtype == np.float32
        return
    x = signal(name, 1, dtype=np.float64)
    values = middle(one)
    for index, value in TELLING.get(name, {}).items():
        values[index] = value
    weights = jnp.asarray(np.random.default_rng(1).standard_normal(4 * N))

    def totals(values):
        y = chain.apply(one, list(values.T), x, rate(name), method=form).reshape(len(values), -1)
        return y @ weights[: y.shape[-1]]

    # The place and, for every control, a step up and one down: rows of one batch, compiled once.
    steps = 1e-5 * np.maximum(np.abs(values), 1e-2)
    rows = values + np.concatenate([np.zeros((1, values.size)), np.diag(steps), -np.diag(steps)])
    total, pull = jax.jit(lambda rows: (totals(rows), jax.grad(lambda rows: totals(rows)[0])(rows)[0]))(rows)
    up, down = np.split(np.asarray(total)[1:], 2)
    for control, found, expected in zip(
        one.controls, np.asarray(pull), (up - down) / (2 * steps), strict=True
    ):
        if name == "reverb" and control.name.endswith("8000"):
            assert found == 0.0  # beyond half the sample rate there is nothing to be heard
            continue
        assert abs(found) > 1e-6, control.name
        assert found == pytest.approx(expected, rel=2e-4, abs=1e-7), control.name


@pytest.mark.parametrize("name", EACH)
def test_gradients_are_finite_where_nothing_or_little_is_heard(name):
    one = made(name)
    values = [jnp.asarray(value, jnp.float32) for value in middle(one, 4)]
    x = np.stack([np.zeros(N), np.ones(N), np.eye(1, N)[0], np.cos(np.pi * np.arange(N))]).astype(np.float32)
    if name == "width":
        x = np.stack([x, x], axis=1)
    state = one.initial_state((), rate(name), np.float32)

    def power(values, x):
        return jnp.sum(one.process(values, state, x, rate(name))[0] ** 2)

    for slope in jax.tree.leaves(jax.jit(jax.grad(power, (0, 1)))(values, jnp.asarray(x))):
        assert slope.shape[0] == 4
        assert np.all(np.isfinite(slope))


@pytest.mark.parametrize("name", EACH)
def test_hardly_any_samples(name):
    values = [jnp.float32(value) for value in middle(made(name))]
    for n in (0, 1):
        y, state = run(name, values, signal(name, n=n))
        assert y.shape[-1] == n
        again, _ = program(name)(values, state, signal(name, n=64))
        assert np.all(np.isfinite(again))


@pytest.mark.parametrize("name", [slow(name) if name == "equalizer" else name for name in NAMES])
@given(lengths=st.permutations([0, 1, 64, 192]), seed=st.integers(0, 5))
@settings(max_examples=8)
def test_chunks_are_the_whole(name, lengths, seed):
    one, x = made(name), signal(name, n=257)
    values = [jnp.asarray(value, jnp.float32) for value in inside(one, seed)]
    whole, end = run(name, values, x)
    state, parts = one.initial_state((), rate(name), x.dtype), []
    for start, stop in itertools.pairwise(np.cumsum([0, *lengths])):
        part, state = program(name)(values, state, x[..., start:stop])
        parts.append(part)
    scale = max(float(np.max(np.abs(each))) for each in (whole, x))
    np.testing.assert_allclose(np.concatenate(parts, axis=-1), whole, atol=3e-6 * scale)
    for found, expected in zip(jax.tree.leaves(state), jax.tree.leaves(end), strict=True):
        np.testing.assert_allclose(found, expected, atol=5e-6 * max(scale, 1.0))


@pytest.mark.parametrize("name", EACH)
def test_batches_are_signals_one_by_one(name):
    one, x = made(name), signal(name, 3, n=257)
    values = [jnp.asarray(value, jnp.float32) for value in inside(one, 7, 3)]
    together, _ = run(name, values, x)
    mapped = jax.vmap(lambda values, x: run(name, values, x)[0])(values, x)
    shared, _ = run(name, [value[:1] for value in values], x)
    for row in range(3):
        own, _ = run(name, [value[row] for value in values], x[row])
        scale = float(np.max(np.abs(own))) + 1e-9
        np.testing.assert_allclose(together[row], own, atol=5e-6 * scale)
        np.testing.assert_allclose(mapped[row], own, atol=5e-6 * scale)
        own, _ = run(name, [value[0] for value in values], x[row])
        np.testing.assert_allclose(shared[row], own, atol=5e-6 * float(np.max(np.abs(own))) + 1e-9)


@pytest.mark.parametrize(
    ("name", "at", "value", "message"),
    [
        ("distortion", 2, 1.5, "mix is 1.5; expected from 0, dry, to 1, distorted"),
        ("expander", 1, 0.5, "ratio is 0.5; expected 1 or more"),
        ("expander", 6, -3.0, "range_db is -3; expected 0 or more"),
        ("panner", 0, -2.0, "pan is -2"),
        ("width", 0, 3.0, "width is 3; expected from 0 to 2"),
        ("reverb", 3, 0.0, "decays_s is 0; expected above 0 s"),
        ("reverb", 16, -1.0, "predelay_ms is -1; expected 0 or more"),
    ],
)
def test_known_mistakes_are_refused_and_traced_ones_pass(name, at, value, message):
    one = made(name)
    values = [float(v) for v in middle(one)]
    values[at] = value
    with pytest.raises(ValueError, match=re.escape(message)):
        chain.apply(one, values, signal(name), rate(name))
    jax.jit(lambda values: chain.apply(one, values, signal(name), rate(name)))(values)


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"equalizer", "width"}))
def test_batch_axes_that_do_not_fit_are_refused(name):
    one = made(name)
    values = [jnp.full(2, value, jnp.float32) for value in middle(one)]
    with pytest.raises(ValueError, match="batch axes"):
        one.process(values, one.initial_state((), rate(name), np.float32), signal(name, 3), rate(name))
