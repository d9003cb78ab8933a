"""Every effect against its specification: ranges, gradients, chunks, batches, dtypes, hardly any samples."""

import importlib
import itertools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import relative_rms
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxapf import params
from jaxapf.effects import chain

FS = 8000.0
N = 700
# Where the sampled form is one, how the effect is made small enough for a quick test, and its own state.
OPTIONS = {"reverb": {"length": 1500}, "distortion": {"oversampling": 3}}
FIXED = {"compressor": {"lookahead_ms": 0.0}}
# Settings at which N samples tell every control: most of the response is in them, no square wave yet, a gate
# that closes in time.
TELLING = {"reverb": dict.fromkeys(range(8), 0.08), "distortion": {0: 12.0}, "expander": {0: -15.0, 3: 10.0}}
STACKED = ("equalizer", "reverb")  # bands of them lie on an axis of their own
NAMES = sorted(chain.KINDS)
SLOW = ("equalizer",)  # to compile; it has tests of its own
EACH = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in NAMES]


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


def run(one, values, x):
    """From rest, not in time: whatever comes out, and the state."""
    values = [jnp.asarray(value, x.dtype) for value in values]
    return one.process(values, one.rest((), FS, x.dtype), x, FS)


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
def test_anything_within_the_ranges_is_finite(name):
    one, x = made(name), signal(name)
    for seed in range(6):
        y, _ = run(one, inside(one, seed), x)
        assert y.dtype == np.float32
        assert np.all(np.isfinite(y)), seed
    for end in (-1.0, 1.0):
        values = params.denormalise(np.full(len(one.controls), end), one.controls)
        assert np.all(np.isfinite(run(one, values, x)[0])), end


def middle(one, *batch):
    """Controls a little off the middle of their ranges, where nothing happens to be zero."""
    raw = np.full((*batch, len(one.controls)), 0.13)
    return np.stack([np.asarray(value) for value in params.denormalise(raw, one.controls)])


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("form", ["exact", "fsm"])
def test_gradients_are_differences_and_no_control_is_ignored(x64, name, form):
    one = made(name, **(FIXED.get(name, {}) if form == "fsm" else {}))
    if form == "fsm" and chain.KINDS[name].sampled is None:
        assert one.sampled(middle(one), signal(name), FS).dtype == np.float32
        return
    x = signal(name, dtype=np.float64)
    values = middle(one)
    for index, value in TELLING.get(name, {}).items():
        values[index] = value
    weights = jnp.asarray(np.random.default_rng(1).standard_normal(4 * N))

    @jax.jit
    def total(values):
        y = chain.apply(one, list(values), x, FS, method=form).reshape(-1)
        return jnp.sum(weights[: y.size] * y)

    found = np.asarray(jax.grad(total)(jnp.asarray(values)))
    for index, control in enumerate(one.controls):
        if name == "reverb" and control.name.endswith("8000"):
            assert found[index] == 0.0  # beyond half the sample rate there is nothing to be heard
            continue
        step = 1e-5 * max(abs(values[index]), 1e-2)
        ends = [float(total(jnp.asarray(values + s * step * np.eye(len(values))[index]))) for s in (1, -1)]
        expected = (ends[0] - ends[1]) / (2 * step)
        assert abs(found[index]) > 1e-6, control.name
        assert found[index] == pytest.approx(expected, rel=2e-4, abs=1e-7), control.name


@pytest.mark.parametrize("name", EACH)
def test_gradients_are_finite_where_nothing_or_little_is_heard(name):
    one = made(name)
    values = [jnp.asarray(value, jnp.float32) for value in middle(one)]
    channels = (2,) if name == "width" else ()

    @jax.jit
    def slopes(values, x):
        return jax.grad(lambda values, x: jnp.sum(run(one, values, x)[0] ** 2), (0, 1))(values, x)

    for x in (np.zeros(N), np.ones(N), np.eye(1, N)[0], np.cos(np.pi * np.arange(N))):
        given = jnp.asarray(np.broadcast_to(x, (*channels, N)), jnp.float32)
        for slope in jax.tree.leaves(slopes(values, given)):
            assert np.all(np.isfinite(slope))


@pytest.mark.parametrize("name", EACH)
def test_hardly_any_samples(name):
    one = made(name)
    for n in (0, 1):
        y, state = run(one, middle(one), signal(name, n=n))
        assert y.shape[-1] == n
        again, _ = one.process([jnp.float32(v) for v in middle(one)], state, signal(name, n=5), FS)
        assert np.all(np.isfinite(again))


@pytest.mark.parametrize("name", EACH)
@given(cuts=st.lists(st.sampled_from([0, 1, 2, 3, 64, 65, 256, 257]), max_size=4), seed=st.integers(0, 5))
@settings(max_examples=6)
def test_chunks_are_the_whole(name, cuts, seed):
    one, x = made(name), signal(name, n=257)
    values = [jnp.asarray(value, jnp.float32) for value in inside(one, seed)]
    whole, end = run(one, values, x)
    state, parts = one.rest((), FS, x.dtype), []
    for start, stop in itertools.pairwise([0, *sorted(cuts), 257]):
        part, state = one.process(values, state, x[..., start:stop], FS)
        parts.append(part)
    scale = max(float(np.max(np.abs(each))) for each in (whole, x))
    np.testing.assert_allclose(np.concatenate(parts, axis=-1), whole, atol=3e-6 * scale)
    for found, expected in zip(jax.tree.leaves(state), jax.tree.leaves(end), strict=True):
        np.testing.assert_allclose(found, expected, atol=5e-6 * max(scale, 1.0))


@pytest.mark.parametrize("name", EACH)
def test_batches_are_signals_one_by_one(name):
    one, x = made(name), signal(name, 3, n=300)
    values = [jnp.asarray(value, jnp.float32) for value in inside(one, 7, 3)]
    together, _ = run(one, values, x)
    mapped = jax.jit(jax.vmap(lambda values, x: run(one, values, x)[0]))(values, x)
    shared, _ = run(one, [value[:1] for value in values], x)
    for row in range(3):
        own, _ = run(one, [value[row] for value in values], x[row])
        scale = float(np.max(np.abs(own))) + 1e-9
        np.testing.assert_allclose(together[row], own, atol=5e-6 * scale)
        np.testing.assert_allclose(mapped[row], own, atol=5e-6 * scale)
        own, _ = run(one, [value[0] for value in values], x[row])
        np.testing.assert_allclose(shared[row], own, atol=5e-6 * float(np.max(np.abs(own))) + 1e-9)


@pytest.mark.parametrize("name", EACH)
def test_float32_is_near_float64(x64, name):
    one, x = made(name), signal(name, dtype=np.float64)
    for seed in range(2):
        values = inside(one, seed)
        y, state = run(one, values, x)
        assert y.dtype == np.float64
        assert all(leaf.dtype == np.float64 for leaf in jax.tree.leaves(state))
        near, state = run(one, values, x.astype(np.float32))
        assert near.dtype == np.float32
        assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(state))
        assert relative_rms(np.asarray(near, np.float64), np.asarray(y)) < 1e-4


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
        chain.apply(one, values, signal(name), FS)
    jax.jit(lambda values: chain.apply(one, values, signal(name), FS))(values)


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"equalizer", "width"}))
def test_batch_axes_that_do_not_fit_are_refused(name):
    one = made(name)
    values = [jnp.full(2, value, jnp.float32) for value in middle(one)]
    with pytest.raises(ValueError, match="batch axes"):
        one.process(values, one.rest((), FS, np.float32), signal(name, 3), FS)
