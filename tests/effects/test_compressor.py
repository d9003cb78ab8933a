"""The compressor against a float64 loop, its gradients against differences, chunks against the whole."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from signals import bursts, relative_rms, slow

from jaxapf.effects import compressor as fx
from jaxapf.effects import dynamics
from jaxapf.effects.compressor import Controls

FS = 8000.0
CONTROLS = Controls(-24.0, 4.0, 2.0, 40.0, 1.5, 6.0, 3.0, 0.0)
KINDS = list(itertools.product(dynamics.DETECTORS, dynamics.SMOOTHINGS))
# Each smoothing once, both detectors, are quick; the rest is slow.
QUICK_KINDS = (("rms", "gain"), ("peak", "gain_db"), ("rms", "level"))
EACH_KIND = [kind if kind in QUICK_KINDS else slow(*kind) for kind in KINDS]


def smooth_value(ms, fs=FS):
    return 1.0 if ms == 0 else 1 - np.exp(-np.log(9) / (1e-3 * fs * ms))


def curve_value(c, level_db):
    """Reduction in dB, 0 or more, by cases."""
    over = level_db - c.threshold_db
    if 2 * over < -c.knee_db:
        return 0.0
    if c.knee_db > 0 and 2 * abs(over) <= c.knee_db:
        return (1 - 1 / c.ratio) * (over + c.knee_db / 2) ** 2 / (2 * c.knee_db)
    return (1 - 1 / c.ratio) * over


def loop(c, x, detector="rms", smoothing="gain"):
    """The printed equations, sample by sample, gains rather than reductions."""
    a, attack, release = (smooth_value(ms) for ms in (c.average_ms, c.attack_ms, c.release_ms))
    p, g, envelope, gains = 0.0, 0.0 if smoothing == "gain_db" else 1.0, 0.0, []
    for value in x:
        p = (1 - a) * p + a * (value**2 if detector == "rms" else abs(value))
        level = max(np.sqrt(p) if detector == "rms" else p, 1e-5)
        if smoothing == "level":
            b = attack if level > envelope else release
            envelope = (1 - b) * envelope + b * level
            gains.append(10 ** (-curve_value(c, 20 * np.log10(max(envelope, 1e-5))) / 20))
            continue
        wanted = -curve_value(c, 20 * np.log10(level))
        wanted = wanted if smoothing == "gain_db" else 10 ** (wanted / 20)
        b = attack if wanted < g else release
        g = (1 - b) * g + b * wanted
        gains.append(10 ** (g / 20) if smoothing == "gain_db" else g)
    gains, lead = np.array(gains), round(c.lookahead_ms * 1e-3 * FS)
    ahead = np.concatenate([gains[lead:], np.full(lead, gains[-1])])
    return 10 ** (c.makeup_db / 20) * ahead * x


# Values


@pytest.mark.parametrize(("detector", "smoothing"), EACH_KIND)
@pytest.mark.parametrize("changes", [{}, {"knee_db": 0.0, "attack_ms": 80.0, "release_ms": 0.0}])
def test_it_is_the_loop(x64, detector, smoothing, changes):
    c, x = CONTROLS._replace(**changes), bursts()
    y, _ = fx.compressor(c, fx.initial_state(), x, FS, detector=detector, smoothing=smoothing)
    # Without a knee the curve still has one of 1e-4 dB.
    assert relative_rms(np.asarray(y), loop(c, x, detector, smoothing)) < (1e-6 if changes else 1e-10)


@pytest.mark.parametrize(("detector", "smoothing"), EACH_KIND)
def test_float32_is_near(detector, smoothing):
    c, x = CONTROLS._replace(release_ms=4000.0), bursts()
    y, _ = fx.compressor(
        c, fx.initial_state(), x.astype(np.float32), FS, detector=detector, smoothing=smoothing
    )
    assert y.dtype == np.float32
    assert relative_rms(np.asarray(y, np.float64), loop(c, x, detector, smoothing)) < 2e-5


@pytest.mark.slow
def test_it_is_torchcomp(x64):
    torch, torchcomp = pytest.importorskip("torch"), pytest.importorskip("torchcomp")
    x = bursts()
    at, rt, average = (torch.tensor(smooth_value(ms)) for ms in (2.0, 40.0, 1.5))
    rms = torchcomp.avg(torch.from_numpy(x[None] ** 2), average).sqrt()
    gain = torchcomp.compexp_gain(rms, -24.0, 4.0, -300.0, 0.9999, at, rt)
    y, _ = fx.compressor(CONTROLS._replace(knee_db=0.0, makeup_db=0.0), fx.initial_state(), x, FS)
    assert relative_rms(np.asarray(y), gain[0].numpy() * x) < 1e-6


def test_ratio_one_is_no_compressor():
    x = bursts().astype(np.float32)
    y, _ = fx.compressor(CONTROLS._replace(ratio=1.0, makeup_db=0.0), fx.initial_state(), x, FS)
    np.testing.assert_array_equal(y, x)


def test_the_curve_is_continuous_and_meets_its_ends(x64):
    level = np.linspace(-40.0, 0.0, 4001)
    c = Controls(-20.0, 5.0, 1.0, 1.0, knee_db=8.0)
    gain = np.asarray(fx.curve_db(jnp.asarray(level), c))
    np.testing.assert_allclose(gain, [-curve_value(c, one) for one in level], atol=1e-12)
    slope = np.diff(gain) / np.diff(level)
    assert np.all(np.diff(slope) < 1e-9)  # from 0 down to 1 / ratio - 1, no step
    assert np.max(np.abs(np.diff(slope))) < 2e-3
    assert slope[-1] == pytest.approx(-0.8)


def test_look_ahead_leads_by_whole_samples(x64):
    latency, c, x = 24, CONTROLS._replace(lookahead_ms=2.0), bursts()
    padded = np.concatenate([x, np.zeros(latency)])
    y, _ = fx.compressor(c, fx.initial_state(latency=latency), padded, FS)
    assert relative_rms(np.asarray(y[latency:]), loop(c, padded)[: len(x)]) < 1e-10
    np.testing.assert_array_equal(y[:latency], 0.0)


@pytest.mark.slow
@given(
    cuts=st.lists(st.sampled_from([0, 1, 200, 400, 401, 600]), max_size=4),
    latency=st.sampled_from([0, 17]),
    kind=st.sampled_from(KINDS),
)
@settings(max_examples=8, deadline=None)
def test_chunks_are_the_whole(cuts, latency, kind):
    detector, smoothing = kind
    c = CONTROLS._replace(lookahead_ms=0.7e3 * latency / FS)
    x = jnp.asarray(bursts(600), jnp.float32)
    run = functools.partial(fx.compressor, detector=detector, smoothing=smoothing)
    begin = fx.initial_state(latency=latency)
    whole, end = run(c, begin, x, FS)
    state, parts, edges = begin, [], [0, *sorted(cuts), 600]
    for start, stop in itertools.pairwise(edges):
        part, state = run(c, state, x[start:stop], FS)
        parts.append(part)
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=3e-6)
    for one, other in zip(state, end, strict=True):
        np.testing.assert_allclose(one, other, atol=3e-6)


def test_batches_are_signals_one_by_one():
    x = jnp.asarray(np.stack([bursts(400, seed) for seed in range(3)]), jnp.float32)
    c = CONTROLS._replace(threshold_db=jnp.array([-30.0, -20.0, -10.0]))
    many = c._replace(lookahead_ms=jnp.array([0.0, 0.3, 0.6]))
    y, state = fx.compressor(c, fx.initial_state(), x, FS)
    ahead, _ = fx.compressor(many, fx.initial_state(latency=8), x, FS)
    mapped = jax.vmap(lambda c, x: fx.compressor(c, fx.initial_state(), x, FS)[0])
    axes = Controls(*(jnp.broadcast_to(jnp.asarray(value), 3) for value in c))
    np.testing.assert_allclose(mapped(axes, x), y, atol=1e-6)
    assert state.smoothed.shape == (3,)
    for row in range(3):
        own = Controls(*(float(np.broadcast_to(value, 3)[row]) for value in many))
        one, _ = fx.compressor(own._replace(lookahead_ms=0.0), fx.initial_state(), x[row], FS)
        np.testing.assert_allclose(y[row], one, atol=1e-6)
        one, _ = fx.compressor(own, fx.initial_state(latency=8), x[row], FS)
        np.testing.assert_allclose(ahead[row], one, atol=1e-6)
    grid = fx.compressor(c._replace(ratio=jnp.array([[2.0], [8.0]])), fx.initial_state(), x, FS)[0]
    assert grid.shape == (2, 3, 400)


def test_kernel_and_scan_are_the_same(x64, monkeypatch):
    x = jnp.asarray(np.stack([bursts(500, seed) for seed in range(2)]))
    arguments = x, jnp.array([0.1, 0.2]), jnp.array([0.3]), jnp.array([[0.01], [0.02]])
    found = fx.ballistics(*arguments)
    monkeypatch.setattr(dynamics.native, "usable", lambda *_: False)
    plain = fx.ballistics(*arguments)
    assert found.shape == (2, 2, 500)
    np.testing.assert_allclose(found, plain, rtol=1e-13, atol=1e-15)
    assert fx.ballistics(x[:, :0], 0.0, 0.5, 0.5).shape == (2, 0)


# Gradients


@pytest.mark.parametrize(
    ("detector", "smoothing"),
    [
        ("rms", "gain"),
        pytest.param("peak", "level", marks=pytest.mark.slow),
        pytest.param("rms", "gain_db", marks=pytest.mark.slow),
    ],
)
def test_gradients_are_differences_and_no_control_is_ignored(x64, detector, smoothing):
    latency = 16
    c = CONTROLS._replace(lookahead_ms=1.06)
    rising = 10.0 ** np.linspace(-2.5, 0, 300)  # through the knee
    x = jnp.asarray(np.concatenate([bursts(600, 3), rising * np.sin(np.arange(300))]))
    weights = jnp.asarray(bursts(900, 4))
    begin = fx.initial_state(latency=latency, dtype=jnp.float64)
    begin = begin._replace(smoothed=jnp.asarray(0.3), level=jnp.asarray(0.2), signal=begin.signal + 0.1)

    @jax.jit
    def total(controls, state, x):
        y, end = fx.compressor(controls, state, x, FS, detector=detector, smoothing=smoothing)
        return jnp.sum(weights * y) + 0.3 * end.level + 0.7 * end.smoothed

    controls, state, signal = jax.grad(total, (0, 1, 2))(Controls(*map(float, c)), begin, x)
    for name in Controls._fields:
        step = 1e-5 * max(1.0, abs(getattr(c, name)))
        ends = (total(c._replace(**{name: getattr(c, name) + s}), begin, x) for s in (step, -step))
        expected = float(np.subtract(*ends)) / (2 * step)
        found = float(getattr(controls, name))
        assert abs(found) > 1e-6, name
        assert found == pytest.approx(expected, rel=5e-4, abs=1e-7), name
        tangent = Controls(*(float(name == other) for other in Controls._fields))
        forward = jax.jvp(lambda c: total(c, begin, x), (Controls(*map(float, c)),), (tangent,))[1]
        assert float(forward) == pytest.approx(found, rel=1e-9)
    direction = jnp.asarray(np.random.default_rng(5).standard_normal(900))
    ends = (total(c, begin, x + s * 1e-7 * direction) for s in (1, -1))
    assert float(signal @ direction) == pytest.approx(float(np.subtract(*ends)) / 2e-7, rel=1e-4)
    for name in ("smoothed", "level"):
        moved = {s: begin._replace(**{name: getattr(begin, name) + s * 1e-6}) for s in (1, -1)}
        expected = (float(total(c, moved[1], x)) - float(total(c, moved[-1], x))) / 2e-6
        assert float(getattr(state, name)) == pytest.approx(expected, rel=1e-3, abs=1e-8), name
    assert np.any(state.gains != 0)


@pytest.mark.slow
def test_hessian_is_symmetric_and_gradients_are_the_scan_s(x64, monkeypatch):
    x = jnp.asarray(bursts(300, 6))

    def total(values):
        c = CONTROLS._replace(threshold_db=values[0], attack_ms=values[1], release_ms=values[2])
        return jnp.sum(fx.compressor(c, fx.initial_state(), x, FS)[0] ** 2)

    at = jnp.array([-24.0, 2.0, 40.0])
    hessian = np.asarray(jax.jacfwd(jax.grad(total))(at))
    np.testing.assert_allclose(hessian, hessian.T, rtol=1e-8)
    coefficients = jnp.array([0.1, 0.05, 0.02])

    def smoothed(values):
        return jnp.sum(dynamics._ballistics(jnp.abs(x), values[0], values[1], values[2]) ** 2)

    def scanned(values):
        return jnp.sum(dynamics._ballistics_scan(jnp.abs(x), values[0], values[1], values[2]) ** 2)

    np.testing.assert_allclose(jax.grad(smoothed)(coefficients), jax.grad(scanned)(coefficients), rtol=1e-10)


@pytest.mark.parametrize(("detector", "smoothing"), EACH_KIND)
def test_silence_and_extremes_are_finite(detector, smoothing):
    run = functools.partial(fx.compressor, detector=detector, smoothing=smoothing)

    @jax.jit
    @functools.partial(jax.value_and_grad, argnums=(0, 1))
    def total(c, x):
        return jnp.sum(run(c, fx.initial_state(), x, FS)[0])

    impulse = np.zeros(100)
    impulse[3] = 1.0
    for x in (np.zeros(100), impulse, np.full(100, 1e-30), np.full(100, 1e3), np.resize([1.0, -1.0], 100)):
        for knee in (0.0, 6.0):
            c = Controls(*map(jnp.float32, CONTROLS._replace(knee_db=knee, average_ms=0.0)))
            value, slopes = total(c, jnp.asarray(x, jnp.float32))
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((value, slopes)))


@pytest.mark.parametrize("n", [0, 1])
def test_hardly_any_samples(n):
    @jax.jit
    @jax.value_and_grad
    def total(c):
        y, state = fx.compressor(c, fx.initial_state(latency=2), jnp.ones(n), FS)
        assert y.shape == (n,)
        return jnp.sum(y) + state.level + state.smoothed

    value, slopes = total(Controls(*map(jnp.float32, CONTROLS)))
    assert all(np.isfinite(leaf) for leaf in (value, *slopes))


# The approximation


@pytest.mark.parametrize(("detector", "smoothing"), EACH_KIND)
def test_sampling_is_exact_where_attack_and_release_agree(detector, smoothing):
    kind = {"detector": detector, "smoothing": smoothing}
    c, x = CONTROLS._replace(attack_ms=20.0, release_ms=20.0), jnp.asarray(bursts(2000), jnp.float32)
    exact, _ = fx.compressor(c, fx.initial_state(), x, FS, **kind)
    assert relative_rms(np.asarray(fx.compressor_sampled(c, x, FS, **kind)), np.asarray(exact)) < 1e-3
    apart = CONTROLS._replace(attack_ms=1.0, release_ms=200.0)
    exact, _ = fx.compressor(apart, fx.initial_state(), x, FS, **kind)
    assert relative_rms(np.asarray(fx.compressor_sampled(apart, x, FS, **kind)), np.asarray(exact)) > 1e-2


def test_all_controls_of_the_approximation_live():
    x = jnp.asarray(bursts(2000), jnp.float32)
    controls = Controls(*map(jnp.float32, CONTROLS))
    slopes = jax.jit(jax.grad(lambda c: jnp.sum(fx.compressor_sampled(c, x, FS) ** 2)))(controls)
    for name in Controls._fields:
        assert np.isfinite(getattr(slopes, name))
        assert (getattr(slopes, name) != 0) == (name != "lookahead_ms"), name


# Mistakes


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ratio": 0.5}, "ratio is 0.5; expected 1 or more"),
        ({"attack_ms": -1.0}, "attack_ms is -1; expected 0 or more"),
        ({"knee_db": -1.0}, "knee_db is -1; expected 0 or more"),
        ({"lookahead_ms": 1.0}, "lookahead_ms is 1; expected at most the latency of the state, 0 ms"),
        ({"ratio": np.full(3, 2.0)}, r"controls has batch axes \(3,\) and x \(2,\); make them equal or 1"),
    ],
)
def test_mistakes_are_named(changes, said):
    with pytest.raises(ValueError, match=said):
        fx.compressor(CONTROLS._replace(**changes), fx.initial_state(), np.zeros((2, 4)), FS)


def test_unknown_words_are_named():
    with pytest.raises(ValueError, match="detector is 'nose'; choose one of rms, peak"):
        fx.compressor(CONTROLS, fx.initial_state(), np.zeros(4), FS, detector="nose")
    with pytest.raises(ValueError, match="smoothing is 'sand'; choose one of gain, gain_db, level"):
        fx.compressor_sampled(CONTROLS, np.zeros(4), FS, smoothing="sand")
    with pytest.raises(ValueError, match="lookahead_ms is 1; expected at most"):
        fx.compressor_sampled(CONTROLS._replace(lookahead_ms=1.0), np.zeros(4), FS)
    with pytest.raises(ValueError, match="fs is 0; expected a sample rate above 0 Hz"):
        fx.compressor(CONTROLS, fx.initial_state(), np.zeros(4), 0.0)
    with pytest.raises(ValueError, match="latency is -1; expected at least 0"):
        fx.initial_state(latency=-1)


def test_a_sidechain_is_what_the_detector_hears(x64):
    x, key = bursts(), bursts(seed=4)
    gains = loop(CONTROLS, key) / key
    y, _ = fx.compressor(CONTROLS, fx.initial_state(), x, FS, sidechain=key)
    assert relative_rms(np.asarray(y), gains * x) < 1e-10
    with pytest.raises(ValueError, match="sidechain has shape"):
        fx.compressor(CONTROLS, fx.initial_state(), x, FS, sidechain=key[:10])
