"""Matched peaks and shelves, and the equaliser of them, against analog filters in float64 and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from signals import relative_rms

from jaxapf import params
from jaxapf.effects import equalizer
from jaxapf.filters import matched

DESIGNS = {"lowshelf": matched.lowshelf, "peak": matched.peak, "highshelf": matched.highshelf}
KINDS = ("lowshelf", "peak", "peak", "peak", "peak", "highshelf")
FREQS_HZ = np.geomspace(20.0, 10e3, 60)


def analog(kind, cutoff_hz, q, gain_db, freq_hz):
    """The cookbook's prototype at one frequency, complex."""
    a, s = 10 ** (gain_db / 40), 1j * freq_hz / cutoff_hz
    if kind == "peak":
        return (s * s + s * a / q + 1) / (s * s + s / (a * q) + 1)
    slope = s * np.sqrt(a) / q
    if kind == "lowshelf":
        return a * (s * s + slope + a) / (a * s * s + slope + 1)
    return a * (a * s * s + slope + 1) / (s * s + slope + a)


def analog_db(row):
    """Level of all six bands in dB, a loop over frequencies and bands."""
    levels = []
    for freq in FREQS_HZ:
        product = 1.0
        for band, kind in enumerate(KINDS):
            gain, cutoff, q = row[3 * band : 3 * band + 3]
            product *= abs(analog(kind, cutoff, q, gain, freq))
        levels.append(20 * np.log10(product))
    return np.array(levels)


def rows(n, seed=0):
    """Random controls (n, 18), float64, over the whole ranges."""
    raw = np.random.default_rng(seed).uniform(-1, 1, (n, len(params.EQUALIZER)))
    return np.stack(
        [np.asarray(one, np.float64) for one in params.denormalise(raw, params.EQUALIZER)], axis=-1
    )


def response_db(row, freqs_hz, fs):
    return np.asarray(equalizer.response_db(equalizer.packed(np.moveaxis(row, -1, 0)), freqs_hz, fs))


@pytest.mark.parametrize("kind", DESIGNS)
@pytest.mark.parametrize("fs", [44.1e3, 48e3])
def test_each_curve_is_the_analog_one(kind, fs):
    band = KINDS.index(kind)
    for gain, cutoff, q in rows(300, seed=band)[:, 3 * band : 3 * band + 3]:
        found = matched.response(DESIGNS[kind](cutoff, q, gain, fs), FREQS_HZ, fs)
        expected = [abs(analog(kind, cutoff, q, gain, freq)) for freq in FREQS_HZ]
        np.testing.assert_allclose(20 * np.log10(np.abs(found)), 20 * np.log10(expected), atol=0.1)


def test_the_equaliser_is_alike_at_44100_and_48000_hz():
    many = rows(300)
    low, high = (response_db(many, FREQS_HZ, fs) for fs in (44.1e3, 48e3))
    assert np.ptp(low) > 40
    np.testing.assert_allclose(low, high, atol=0.1)
    expected = np.stack([analog_db(row) for row in many])
    np.testing.assert_allclose(high, expected, atol=0.1)


@pytest.mark.parametrize("fs", [8e3, 24e3, 48e3, 192e3])
def test_every_setting_is_stable_and_finite_and_so_is_its_inverse(fs):
    many = rows(300, seed=1)
    many[0, 0::3] = 0.0  # flat
    many[1, 0::3], many[1, 1::3] = 20.0, 20e3  # beyond half the lower rates
    many[2, 0::3], many[2, 1::3], many[2, 2::3] = -20.0, 10.0, 5.0
    sos = equalizer.sections(equalizer.packed(many.T), fs).sos
    assert sos.shape == (300, 6, 6)
    assert np.all(np.isfinite(sos))
    for zeros, poles in zip(sos[..., :3].reshape(-1, 3), sos[..., 3:].reshape(-1, 3), strict=True):
        assert np.max(np.abs(np.roots(poles)), initial=0.0) < 1
        assert np.max(np.abs(np.roots(zeros)), initial=0.0) < 1  # a boost upside down is a cut
    np.testing.assert_allclose(sos[0], np.where(np.arange(6) % 3 == 0, 1.0, sos[0]), atol=1e-12)
    np.testing.assert_allclose(sos[0, :, :3], sos[0, :, 3:], atol=1e-12)


@pytest.mark.parametrize("kind", DESIGNS)
def test_a_gain_changes_sign_smoothly(kind):
    """The slope of the response by the gain is the same on both sides of 0 dB, where cut becomes boost."""
    freqs = np.geomspace(50.0, 10e3, 30)

    def level(gain):
        return 20 * np.log10(np.abs(matched.response(DESIGNS[kind](900.0, 0.7, gain, 48e3), freqs, 48e3)))

    np.testing.assert_allclose(level(0.0), 0.0, atol=1e-12)
    np.testing.assert_allclose(level(-6.0), -level(6.0), atol=1e-9)
    above, below = level(1e-4) / 1e-4, level(-1e-4) / -1e-4
    assert np.max(above) > 0.5
    np.testing.assert_allclose(above, below, atol=1e-5)


@pytest.mark.parametrize("kind", DESIGNS)
def test_float32_has_slow_sections_at_high_rates(kind):
    cutoff, q, gain = np.array([30.0, 1000.0, 10e3]), np.array([1.0, 0.4, 0.7]), np.array([18.0, -12.0, 6.0])
    single = (jnp.asarray(one, jnp.float32) for one in (cutoff, q, gain))
    made = jax.jit(DESIGNS[kind], static_argnums=3)(*single, 192e3)
    assert {leaf.dtype for leaf in jax.tree.leaves(made)} == {np.dtype(np.float32)}
    freqs = np.geomspace(5.0, 20e3, 100)
    near = matched.response(made, jnp.asarray(freqs, jnp.float32), 192e3)
    exact = matched.response(DESIGNS[kind](cutoff, q, gain, 192e3), freqs, 192e3)
    np.testing.assert_allclose(20 * np.log10(np.abs(near)), 20 * np.log10(np.abs(exact)), atol=1e-3)


def test_the_cascade_and_its_state_are_scipy_s(x64):
    made = equalizer.sections(equalizer.packed(rows(1, seed=3)[0]), 48e3)
    x = np.random.default_rng(4).standard_normal((2, 1300))
    zi = np.random.default_rng(5).standard_normal((2, 6, 2))
    a1 = made.sos[:, 4]
    tilted = zi - np.stack([np.zeros_like(zi[..., 0]), zi[..., 0] * a1 / 2], axis=-1)
    run = jax.jit(lambda x, zi: matched.cascade(made, x, zi=zi))
    for start, state in ((np.zeros_like(zi), None), (zi, tilted)):
        expected, end = scipy.signal.sosfilt(made.sos, x, zi=np.moveaxis(start, 0, 1))
        y, zf = run(x, np.zeros_like(zi) if state is None else state)
        assert relative_rms(np.asarray(y), expected) < 1e-10
        end = np.moveaxis(end, 0, 1)
        np.testing.assert_allclose(zf[..., 0], end[..., 0], atol=1e-9)
        np.testing.assert_allclose(zf[..., 1], end[..., 1] - end[..., 0] * a1 / 2, atol=1e-9)


def test_chunks_are_the_whole():
    made = equalizer.sections(equalizer.packed(rows(1, seed=6)[0]), 24e3)
    x = jnp.asarray(np.random.default_rng(7).standard_normal((2, 1000)), jnp.float32)
    run = jax.jit(lambda x, zi: matched.cascade(made, x, zi=zi))
    rest = jnp.broadcast_to(equalizer.initial_state(), (2, 6, 2))
    whole, end = run(x, rest)
    for order in ([500, 499, 1], [1, 499, 500]):
        state, parts = rest, []
        for part in np.split(np.asarray(x), np.cumsum(order)[:-1], axis=-1):
            y, state = run(jnp.asarray(part), state)
            parts.append(y)
        scale = float(jnp.max(jnp.abs(whole)))
        np.testing.assert_allclose(np.concatenate(parts, axis=-1), whole, atol=3e-6 * scale)
        np.testing.assert_allclose(state, end, atol=5e-6 * scale)


def test_sampling_is_the_cascade_where_the_tail_fits(x64):
    made = equalizer.sections(equalizer.packed(rows(1, seed=8)[0]), 24e3)
    x = np.random.default_rng(9).standard_normal((3, 800))
    expected = scipy.signal.sosfilt(made.sos, x)
    assert relative_rms(np.asarray(matched.cascade_sampled(made, x, n_fft=2**16)), expected) < 1e-9
    assert relative_rms(np.asarray(matched.cascade_sampled(made, x)), expected) < 2e-2
    with pytest.raises(ValueError, match="n_fft"):
        matched.cascade_sampled(made, x, n_fft=799)


def test_gradients_are_scipy_s_differences_by_all_controls(x64):
    """At random settings, and where every gain is exactly 0: there frequency and q change nothing."""
    fs, x = 24e3, np.random.default_rng(10).standard_normal(600)
    weights = np.random.default_rng(11).standard_normal(600)
    several = rows(2, seed=12)
    several[1, 0::3] = 0.0

    def total(row):
        y, _ = equalizer.equalizer(equalizer.packed(list(row)), equalizer.initial_state(dtype=x.dtype), x, fs)
        return jnp.sum(weights * y)

    def by_scipy(row):
        return weights @ scipy.signal.sosfilt(equalizer.sections(equalizer.packed(row), fs).sos, x)

    pull = jax.jit(jax.grad(total))
    for row in several:
        found = np.asarray(pull(row))
        for at, control in enumerate(params.EQUALIZER):
            step = 1e-5 * max(abs(row[at]), 0.1) * np.eye(18)[at]
            expected = (by_scipy(row + step) - by_scipy(row - step)) / (2 * step[at])
            assert found[at] == pytest.approx(expected, rel=1e-5, abs=1e-6), control.name
        assert np.all(np.abs(found[0::3]) > 1e-3)
        if row[0] == 0:
            np.testing.assert_allclose(np.delete(found, np.s_[0::3]), 0.0, atol=1e-9)
        else:
            assert np.all(np.abs(found) > 1e-5)


def test_the_preset_and_mistakes():
    with pytest.raises(ValueError, match=r"gains_db has shape \(5,\); expected \(..., 6\)"):
        equalizer.six_band(np.zeros(5))
    with pytest.raises(ValueError, match="gains_db"):
        equalizer.six_band(np.array([0, 0, 0, 0, 0, 21.0]))
    with pytest.raises(ValueError, match="q is 0"):
        equalizer.sections(equalizer.six_band(np.zeros(6))._replace(q=np.zeros(6)), 48e3)
    with pytest.raises(ValueError, match="cascade_sampled"):
        matched.cascade(matched.peak(1e3, 1.0, 3.0, 48e3), np.zeros(4, np.float32), method="fsm")
    levels = equalizer.response_db(
        equalizer.six_band(np.array([0, 0, 6.0, 0, 0, 0])), np.array([103.0]), 48e3
    )
    assert levels[0] == pytest.approx(6.0, abs=1e-3)
