"""The synthesiser: against NumPy in float64, SciPy, central differences, itself in chunks; its spectrum."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st
from signals import slow

from jaxapf.effects import synth
from jaxapf.effects.synth import Controls, free, initial_state, synth_sampled
from jaxapf.filters import biquad, native

FS, HOP = 48_000, 40
STEP = 2.0**-16 * FS  # Hz; of these frequencies nothing is lost in a phase of 32 bits


def moving_rows(n_frames: int, *batch: int) -> np.ndarray:
    """Low-passes that jump from frame to frame, the same whenever asked for."""
    rng = np.random.default_rng(5)
    cutoff_hz = np.exp(rng.uniform(np.log(200), np.log(8000), (*batch, n_frames)))
    return np.asarray(biquad.lowpass(cutoff_hz, rng.uniform(0.7, 8, (*batch, n_frames)), FS))


def a_note(n_frames: int = 16, dtype: Any = np.float32) -> Controls:
    values = (100 * STEP, 0.01, moving_rows(n_frames), 0.3, 0.7, 0.5, 1.7, 0.125)
    return Controls(*(np.asarray(value, dtype) for value in values))


def on_jax(controls: Controls) -> Controls:
    return Controls(*(jnp.asarray(value) for value in controls))


def reference(controls: Controls, n_samples: int) -> np.ndarray:
    """The whole note, sample by sample, in float64: the sawtooth as papers write it, the filter as a loop."""
    f0_hz, on_s, rows, shape, gain, decay, drive, phase = (np.asarray(v, np.float64) for v in controls)
    n = np.arange(n_samples)
    saws = []
    for offset in (0.0, 0.5):
        cycles = (phase + offset + f0_hz / FS * n) % 1.0
        naive = 1 - 2 * cycles
        after, before = cycles / (f0_hz / FS), (1 - cycles) / (f0_hz / FS)
        correction = np.where(after < 1, -((1 - after) ** 2), 0) + np.where(before < 1, (1 - before) ** 2, 0)
        saws.append(naive + correction)
    left = 1 - n / (on_s * FS)
    envelope = np.where(left > 0, np.maximum(left, 0) ** decay, 0)
    x = gain * envelope * (shape * saws[0] + (1 - shape) * (saws[0] - saws[1]))
    frames = np.arange(rows.shape[0]) * HOP
    b0, b1, b2, _, a1, a2 = (np.interp(n, frames, column) for column in rows.T)
    y = np.zeros(n_samples + 2)
    x = np.concatenate([[0.0, 0.0], x])
    for t in n:
        newest = b0[t] * x[t + 2] + b1[t] * x[t + 1] + b2[t] * x[t]
        y[t + 2] = newest - a1[t] * y[t + 1] - a2[t] * y[t]
    return np.tanh(drive * y[2:])


def error(found, expected) -> float:
    """Relative root mean square."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    return float(np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2)))


# Against other ways to compute the same


def test_moving_note_is_the_loop_in_float64(x64):
    controls = a_note(dtype=np.float64)
    y, state = synth.synth(on_jax(controls), initial_state(dtype=jnp.float64), 600, FS, hop=HOP)
    assert y.dtype == jnp.float64
    assert int(state.position) == 600
    assert error(y, reference(controls, 600)) < 1e-10


def test_float32_is_as_good_as_float64():
    controls = a_note(n_frames=151)._replace(on_s=np.float32(0.12))
    y, _ = synth.synth(on_jax(controls), initial_state(), 6000, FS, hop=HOP)
    assert y.dtype == jnp.float32
    assert error(y, reference(controls, 6000)) < 2e-5


@pytest.mark.parametrize("method", ["scan", slow("blocked"), slow("associative")])
def test_every_method_plays_the_same(x64, method):
    controls = on_jax(a_note(dtype=np.float64))
    expected, _ = synth.synth(controls, initial_state(dtype=jnp.float64), 600, FS, hop=HOP)
    y, _ = synth.synth(controls, initial_state(dtype=jnp.float64), 600, FS, hop=HOP, method=method)
    assert error(y, expected) < 1e-10


def test_a_resting_filter_is_scipys(x64):
    row = np.asarray(biquad.lowpass(900.0, 3.0, FS))
    plain = on_jax(a_note(dtype=np.float64)._replace(rows=np.array([[1.0, 0, 0, 1, 0, 0]])))
    start = initial_state(dtype=jnp.float64)
    dry = np.arctanh(synth.synth(plain, start, 2000, FS, hop=HOP)[0]) / plain.drive
    y, _ = synth.synth(plain._replace(rows=jnp.asarray(row[None])), start, 2000, FS, hop=HOP)
    expected = np.tanh(plain.drive * scipy.signal.lfilter(row[:3], row[3:], dry))
    assert error(y, expected) < 1e-10


def test_sampling_a_resting_filter_is_exact_once_windows_hold_its_tail():
    rows = np.asarray(biquad.lowpass(np.array([2000.0]), 1.0, FS), np.float32)
    controls = on_jax(a_note()._replace(rows=rows))
    expected, _ = synth.synth(controls, initial_state(), 2000, FS, hop=HOP)
    errors = [
        error(synth_sampled(controls, 2000, FS, hop=HOP, n_window=n), expected) for n in (16, 32, 64, 128)
    ]
    assert errors[0] > 5 * errors[1] > 25 * errors[2]
    assert max(errors[2:]) < 1e-5
    # The tail is what matters, not the window.
    assert error(synth_sampled(controls, 2000, FS, hop=HOP, n_window=16, n_fft=256), expected) < 1e-5


@pytest.mark.slow
def test_sampling_a_moving_filter_is_better_the_less_moves_within_a_window():
    cutoff_hz = 500 * 8 ** np.linspace(0, 1, 101)
    rows = np.asarray(biquad.lowpass(cutoff_hz, 0.8, FS), np.float32)
    controls = on_jax(a_note()._replace(rows=rows, on_s=np.float32(0.08), decay=np.float32(0)))
    expected, _ = synth.synth(controls, initial_state(), 4000, FS, hop=HOP)
    errors = [
        error(synth_sampled(controls, 4000, FS, hop=HOP, n_window=n, n_fft=8192), expected)
        for n in (4096, 2048, 512, 128)
    ]
    # What remains: a window filters past samples as it was then, the recursion as it is now.
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert errors[3] < 5e-3


def test_frames_of_windows_fall_between_those_of_the_controls():
    """A window takes its row in straight lines from its neighbours, and after the last frame the last row.

    Between windows the Hann slopes are straight lines to within two hundredths.
    """
    rows = np.array([[1.0, 0, 0, 1, 0, 0], [3.0, 0, 0, 1, 0, 0]], np.float32)
    controls = on_jax(a_note()._replace(rows=rows, drive=np.float32(1e-3), decay=np.float32(0)))
    gained = synth_sampled(controls, 400, FS, hop=100, n_window=16, window_hop=4)
    plain = synth_sampled(controls._replace(rows=controls.rows[:1]), 400, FS, hop=100, n_window=16)
    expected = np.interp(np.arange(400), [0, 100], [1, 3])
    heard = np.abs(np.asarray(plain)) > 1e-5
    np.testing.assert_allclose((gained / plain)[heard], expected[heard], atol=0.025)


# In chunks, compiled, in batches


@settings(max_examples=5)
@given(st.permutations([0, 1, 64, 236]), st.sampled_from([7, 90]))
def test_whole_is_chunks(lengths, hop):
    edges = np.cumsum([0, *lengths])
    controls = on_jax(a_note(n_frames=5))
    whole, last = synth.synth(controls, initial_state(), 301, FS, hop=hop)
    state, parts = initial_state(), []
    for start, stop in itertools.pairwise(edges):
        part, state = synth.synth(controls, state, int(stop - start), FS, hop=hop)
        parts.append(part)
    # Float32: that a wrong row, or a phase half a sample off, is a thousand times as far away.
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=3e-5)
    np.testing.assert_allclose(state.outputs, last.outputs, atol=3e-5)
    np.testing.assert_allclose(state.inputs, last.inputs, atol=1e-5)
    assert int(state.position) == 301


@pytest.mark.slow
def test_compiled_and_in_batches():
    rows = moving_rows(16, 3).astype(np.float32)
    f0_hz = jnp.asarray([55.0, 110.0, 220.0])
    controls = on_jax(a_note())._replace(f0_hz=f0_hz, rows=jnp.asarray(rows))

    def play(controls: Controls, batch: tuple[int, ...] = (3,)):
        return synth.synth(controls, initial_state(batch), 400, FS, hop=HOP)[0]

    batched = play(controls)
    single = [play(controls._replace(f0_hz=f0_hz[i], rows=controls.rows[i]), ()) for i in range(3)]
    axes = Controls(0, None, 0, None, None, None, None, None)
    mapped = jax.vmap(lambda one: play(one, ()), in_axes=(axes,))(controls)
    # Without the kernels each form is compiled by itself, and float32 is 3.5e-5 from float64 in all of them.
    atol = 3e-6 if native.available() else 3.5e-5
    for other in (np.stack(single), mapped, jax.jit(play)(controls)):
        np.testing.assert_allclose(other, batched, atol=atol)


def test_streams_of_a_batch_may_be_at_different_places():
    controls = on_jax(a_note())

    def play(state):
        return synth.synth(controls, state, 50, FS, hop=HOP)

    _, later = play(initial_state())
    together, _ = jax.vmap(play)(jax.tree.map(lambda *leaves: jnp.stack(leaves), initial_state(), later))
    np.testing.assert_allclose(together, np.stack([play(initial_state())[0], play(later)[0]]), atol=1e-6)


# The oscillator


def spectrum(f0_cycles: int, shape: float, n: int = 96_000) -> np.ndarray:
    """Magnitudes of the bare oscillator, two seconds, its frequency in cycles of these; a sine is 1."""
    flat = np.array([[1.0, 0, 0, 1, 0, 0]], np.float32)
    f0_hz = np.float32(f0_cycles * FS / n)
    controls = Controls(
        f0_hz, np.float32(1e9), flat, np.float32(shape), drive=np.float32(1e-3), decay=np.float32(0)
    )
    y, _ = synth.synth(on_jax(controls), initial_state(), n, FS, hop=n)
    return np.abs(np.fft.rfft(np.arctanh(np.asarray(y, np.float64)) / 1e-3)) / n * 2


@pytest.mark.parametrize("shape", [0.0, 1.0])
@pytest.mark.parametrize(("f0_cycles", "least_db"), [(111, 91), (441, 79), (2017, 67)])
def test_what_folds_back_is_far_below_the_note(f0_cycles, least_db, shape):
    """55, 220 and 1008 Hz: of what is between the harmonics up to 6 kHz, the loudest."""
    magnitudes = spectrum(f0_cycles, shape)[:12_000]
    harmonics = np.arange(len(magnitudes)) % f0_cycles == 0
    assert np.max(magnitudes[~harmonics]) < 10 ** (-least_db / 20) * magnitudes[f0_cycles]


def test_without_the_triangle_it_would_fold_back_a_hundred_times_as_much():
    n, f0_cycles = 96_000, 2017
    naive = 1 - 2 * ((f0_cycles / n * np.arange(n)) % 1.0)
    folded = np.arange(12_000) % f0_cycles != 0
    plain = np.abs(np.fft.rfft(naive))[:12_000] / n * 2
    assert np.max(plain[folded]) > 20 * np.max(spectrum(f0_cycles, 1.0)[:12_000][folded])


@pytest.mark.parametrize(("shape", "levels"), [(1.0, 2 / np.arange(1, 9)), (0.0, 4 / np.arange(1, 9))])
def test_harmonics_have_the_levels_of_sawtooth_and_square(shape, levels):
    found = spectrum(200, shape)[200:1601:200] * np.pi
    even = np.arange(1, 9) % 2 == 0
    expected = np.where(even & (shape == 0), 0, levels)
    np.testing.assert_allclose(found, expected, atol=0.01)


def test_frequency_is_kept_for_millions_of_samples():
    """From the ten millionth sample on, the float32 note is still that of float64 phases."""
    controls = a_note()._replace(
        rows=np.array([[1.0, 0, 0, 1, 0, 0]], np.float32), on_s=np.float32(1e9), f0_hz=np.float32(101 * STEP)
    )
    late = initial_state()._replace(position=jnp.asarray(10_000_000, jnp.int32))
    y, _ = synth.synth(on_jax(controls), late, 500, FS, hop=HOP)
    phase = np.float64(0.125) + 101 * STEP / FS * 10_000_000
    expected = reference(controls._replace(phase=phase % 1.0), 500)
    assert error(y, expected) < 1e-5


@pytest.mark.parametrize("f0_hz", [27.5, 82.41, 440.0])
def test_frequency_is_what_was_asked_for(f0_hz):
    flat = np.array([[1.0, 0, 0, 1, 0, 0]], np.float32)
    y, _ = synth.synth(
        Controls(np.float32(f0_hz), 1e9, flat, decay=0.0), initial_state(), 10 * FS, FS, hop=HOP
    )
    y = np.asarray(y)
    rises = np.flatnonzero((y[:-1] < 0) & (y[1:] >= 0))
    assert (len(rises) - 1) * FS / (rises[-1] - rises[0]) == pytest.approx(f0_hz, rel=1e-5)


# Gradients


def weighed(controls: Controls, weights: jax.Array, sampled: bool) -> jax.Array:
    """A number that depends on every sample of a note."""
    if sampled:
        y = synth_sampled(controls, weights.size, FS, hop=HOP, n_window=64)
    else:
        y = synth.synth(controls, initial_state(dtype=weights.dtype), weights.size, FS, hop=HOP)[0]
    return jnp.sum(weights * y)


@pytest.mark.parametrize("sampled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_gradients_are_central_differences(x64, sampled):
    controls = on_jax(a_note(n_frames=6, dtype=np.float64))
    rng = np.random.default_rng(2)
    weights = jnp.asarray(rng.standard_normal(200))
    loss = jax.jit(lambda controls: weighed(controls, weights, sampled))
    gradient = jax.jit(jax.grad(loss))(controls)
    slope = jax.jit(lambda controls, direction: jax.jvp(loss, (controls,), (direction,))[1])
    for field in Controls._fields:
        # Whole multiples of the phase's last bit, or the differences would be those of its steps.
        size = {"f0_hz": 2.0**-24 * FS, "phase": 2.0**-20}.get(field, 1e-6)
        direction = jax.tree.map(jnp.zeros_like, controls)
        along = rng.standard_normal(controls.rows.shape) * (np.arange(6) != 3) if field == "rows" else 1.0
        direction = direction._replace(**{field: jnp.asarray(along, jnp.float64)})
        ahead, behind = (
            loss(jax.tree.map(lambda c, d: c + sign * size * d, controls, direction))  # noqa: B023
            for sign in (1, -1)
        )
        expected = float(ahead - behind) / (2 * size)
        found = float(jnp.sum(getattr(gradient, field) * getattr(direction, field)))
        assert abs(expected) > 1e-6, field
        assert found == pytest.approx(expected, rel=2e-4), field
        assert float(slope(controls, direction)) == pytest.approx(found, rel=1e-9), field


def edge_notes() -> dict[str, Controls]:
    note = a_note()
    silent_rows = np.zeros((16, 6), np.float32)
    silent_rows[:, 3] = 1
    f32 = np.float32
    return {
        "no gain": note._replace(gain=f32(0)),
        "no drive": note._replace(drive=f32(0)),
        "huge drive": note._replace(drive=f32(1e6)),
        "no filter": note._replace(rows=silent_rows),
        "one sample long": note._replace(on_s=f32(1 / FS)),
        "ends on a sample": note._replace(on_s=f32(100 / FS), decay=f32(0.02)),
        "no decay": note._replace(decay=f32(0)),
        "steep decay": note._replace(decay=f32(100)),
        "near fs / 2": note._replace(f0_hz=f32(0.499 * FS)),
        "hardly any pitch": note._replace(f0_hz=f32(1e-6)),
        "poles at the edge": note._replace(rows=np.asarray(free(np.full((16, 5), 1e6, np.float32)))),
    }


@partial(jax.jit, static_argnums=1)
def value_and_gradient(controls: Controls, sampled: bool):
    weights = jnp.arange(1, 301, dtype=jnp.float32)
    return jax.value_and_grad(weighed)(controls, weights, sampled)


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("name", edge_notes())
def test_edges_are_finite_in_value_and_gradient(name, sampled):
    y, gradient = value_and_gradient(on_jax(edge_notes()[name]), sampled)
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in (y, *gradient)), gradient


@pytest.mark.parametrize("n_samples", [0, 1, 2])
def test_shortest_notes(n_samples):
    controls = on_jax(a_note())
    y, state = synth.synth(controls, initial_state(), n_samples, FS, hop=HOP)
    assert y.shape == (n_samples,)
    assert int(state.position) == n_samples
    assert state.inputs.shape == state.outputs.shape == (2,)
    assert synth_sampled(controls, n_samples, FS, hop=HOP, n_window=16).shape == (n_samples,)


# Free coefficients


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=2, max_size=2))
def test_free_poles_are_inside_the_unit_circle_whatever_is_asked(raw):
    row = free(np.array([*raw, 1.0, 0.0, 0.0], np.float32))
    assert row.dtype == np.float32
    assert np.max(np.abs(np.roots(np.asarray(row, np.float64)[3:]))) < 1


def test_free_reaches_every_stable_pair():
    """The way back from any point of the triangle is in closed form."""
    rng = np.random.default_rng(3)
    radius, angle = np.sqrt(rng.uniform(0, 0.99, 100)), rng.uniform(0, np.pi, 100)
    a1, a2 = -2 * radius * np.cos(angle), radius**2
    x1 = np.arctanh(a1 / (2 * (1 - synth.MARGIN)))
    x2 = np.arctanh((2 * a2 - np.abs(a1)) / ((2 - np.abs(a1)) * (1 - synth.MARGIN)))
    rows = free(np.stack([x1, x2, a1, a2, a1], axis=-1))
    np.testing.assert_allclose(rows[:, 4:], np.stack([a1, a2], axis=-1), atol=1e-12)
    np.testing.assert_array_equal(rows[:, :3], np.stack([a1, a2, a1], axis=-1))


def test_lines_between_free_rows_are_stable():
    rows = free(np.random.default_rng(1).standard_normal((2000, 5)) * 30)
    middle = (rows[1:] + rows[:-1]) / 2
    assert max(np.max(np.abs(np.roots(row[3:]))) for row in middle) < 1


# Mistakes


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"f0_hz": 0.0}, "f0_hz is 0"),
        ({"f0_hz": 24_000.0}, "f0_hz is 24000"),
        ({"on_s": 0.0}, "on_s is 0"),
        ({"decay": -1.0}, "decay is -1"),
        ({"rows": np.zeros((5, 5))}, r"rows has shape \(5, 5\)"),
        ({"rows": np.zeros((0, 6))}, r"rows has shape \(0, 6\)"),
        ({"gain": np.ones(3), "drive": np.ones(2)}, "batch axes"),
    ],
)
def test_wrong_controls_are_named(changed, said):
    controls = a_note()._replace(**changed)
    with pytest.raises(ValueError, match=said):
        synth.synth(controls, initial_state(), 10, FS, hop=HOP)
    with pytest.raises(ValueError, match=said):
        synth_sampled(controls, 10, FS, hop=HOP, n_window=16)


def test_wrong_lengths_and_states_are_named():
    controls = a_note()
    with pytest.raises(ValueError, match="n_samples is -1"):
        synth.synth(controls, initial_state(), -1, FS, hop=HOP)
    with pytest.raises(ValueError, match="hop is 0"):
        synth.synth(controls, initial_state(), 10, FS, hop=0)
    with pytest.raises(ValueError, match=r"state.inputs has shape \(4, 2\)"):
        synth.synth(controls, initial_state((4,)), 10, FS, hop=HOP)
    with pytest.raises(ValueError, match="hop is 20"):
        synth_sampled(controls, 10, FS, hop=HOP, n_window=16, window_hop=20)
    with pytest.raises(ValueError, match="raw has shape"):
        free(np.zeros(4))
