"""The features of a pair, the score of predictions, and the way from them to a shifted signal."""

from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.signal

from jaxapf import align, allpass, datasets, metrics, params
from jaxapf._internal import serialization
from jaxapf.alignment import cross_spectrum, features, matching_pursuit, rollouts
from jaxapf.alignment import network as aligner
from jaxapf.alignment.cascade import Controls
from jaxapf.alignment.estimate import alignment_of
from jaxapf.alignment.features import Features
from jaxapf.alignment.network import Design, Network, Predictions
from jaxapf.training import pretrained

FS = 44100.0


def noise(n=8192, seed=0, band=(100.0, 8000.0)) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal(n)
    return np.asarray(scipy.signal.sosfilt(scipy.signal.butter(2, band, "bandpass", fs=FS, output="sos"), x))


def some_controls(seed=0, sections=6, delay_ms=0.2, polarity=-1.0):
    rng = np.random.default_rng(seed)
    return Controls(
        delay_ms,
        polarity,
        np.exp(rng.uniform(np.log(100), np.log(5e3), sections)),
        rng.uniform(0.3, 3, sections),
    )


def filtered_by_scipy(controls, x):
    """Delay by phase, sign and all-pass sections of the audio-EQ cookbook, in float64 by SciPy."""
    n_fft = 4 * len(x)
    omega = 2 * np.pi * np.fft.rfftfreq(n_fft)
    late = np.fft.irfft(np.fft.rfft(x, n_fft) * np.exp(-1j * omega * controls.delay_ms * 1e-3 * FS))[: len(x)]
    sos = []
    for cutoff, q in zip(controls.cutoff_hz, controls.q, strict=True):
        w, alpha = 2 * np.pi * cutoff / FS, np.sin(2 * np.pi * cutoff / FS) / (2 * q)
        a = np.array([1 + alpha, -2 * np.cos(w), 1 - alpha]) / (1 + alpha)
        sos.append([*a[::-1], *a])
    return controls.polarity * scipy.signal.sosfilt(np.array(sos), late)


@lru_cache
def tiny(kind="cross-phase", **changes):
    design = Design(kind, width=8, depth=4, hidden=(16,), heads=3, n_samples=4096)
    design = design._replace(**({"norm": "global", "pool": "mean"} if kind == "waves" else {}), **changes)
    channels, length = aligner.CHANNELS[kind], features.BANDS if kind == "cross-phase" else design.n_samples
    weights = jax.jit(aligner.make_net(design).init)(jax.random.key(0), jnp.zeros((1, channels, length)))
    return Network(design, weights)


# Features


def test_bands_hold_the_inner_product():
    x, y = noise(seed=1), noise(seed=2) + 0.5 * noise(seed=1)
    bands = features.extract(cross_spectrum.measure(x, y, FS, 0), [0.0])
    assert np.sum(bands.cross.real) == pytest.approx(metrics.correlation(x, y), abs=2e-4)
    assert bands.cross.shape == (1, features.BANDS)


def test_a_delay_is_taken_out():
    x = noise()
    late = np.concatenate([np.zeros(100), x[:-100]])
    bands = features.extract(cross_spectrum.measure(x, late, FS, 200), [0.0, 100.0])
    score = np.sum(bands.cross.real, axis=1)
    assert score[1] == pytest.approx(metrics.correlation(x[:-100], x[:-100]), abs=0.02)
    assert score[0] < 0.3


@pytest.mark.parametrize(("delay", "count"), [(0.0, 1), (37.0, 700), (-882.25, 9000)])
def test_powers_are_exponentials(delay, count):
    angle = 2 * np.pi / 43200 * delay
    np.testing.assert_allclose(
        features._powers(angle, count), np.exp(1j * angle * np.arange(count)), atol=1e-11
    )


def test_bands_above_half_the_rate_are_empty():
    bands = features.extract(cross_spectrum.measure(noise(), noise(), 16000.0, 0), [0.0])
    centres = np.geomspace(20, 20e3, features.BANDS + 1)[:-1]
    assert np.all(bands.total[0, centres > 8100] == 0)
    assert np.all(np.isfinite(features.cross_phase(bands)))


def test_features_are_bounded_and_hold_the_phase():
    x = noise()
    bands = features.extract(cross_spectrum.measure(x, -x, FS, 0), [0.0])
    cosine, sine, level, place = np.asarray(features.cross_phase(bands))[0]
    loud = level > 0.5
    np.testing.assert_allclose(cosine[loud], -1.0, atol=1e-3)
    np.testing.assert_allclose(sine[loud], 0.0, atol=1e-3)
    assert level.max() == 1.0
    assert level.min() >= 0
    assert (place[0], place[-1]) == (-1.0, 1.0)
    both = features.extract(cross_spectrum.measure(x, noise(seed=5), FS, 0), [0.0])
    cosine, sine = np.asarray(features.cross_phase(both))[0, :2]
    assert np.median(np.hypot(cosine, sine)[loud]) < 0.9  # two different signals: little coherence


@pytest.mark.parametrize("n", [1, 2, 50])
def test_silence_and_short_signals_are_finite(n):
    for x, y in ((np.zeros(n), np.zeros(n)), (np.ones(n), np.zeros(n)), (np.ones(n), -np.ones(n))):
        cross = cross_spectrum.measure(x, y, FS, 0)
        predictions = aligner.predict(tiny(), cross, 0)
        assert all(np.all(np.isfinite(field)) for field in (*predictions.controls, predictions.score))


# The score of a prediction


@pytest.mark.parametrize("method", ["auto", "fsm"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_score_is_the_correlation_of_the_shifted_signal(method, seed):
    x = noise(16384, seed)
    x[-4096:] = 0  # room for the tail
    controls = some_controls(seed)
    y = filtered_by_scipy(some_controls(seed + 10), x) + 0.1 * noise(16384, 9)
    bands = features.extract(cross_spectrum.measure(x, y, FS, 0), 0.0)
    one = Controls(*(jnp.asarray(field, jnp.float32)[None] for field in controls))
    found = features.score(one, Features(bands.omega, bands.cross[0], bands.total[0]), np.float32(FS))
    shifted = np.asarray(
        aligner.shift(Controls(*(jnp.asarray(f, jnp.float32) for f in controls)), x, FS, method=method)
    )
    assert float(found[0]) == pytest.approx(metrics.correlation(shifted, y), abs=5e-3)


@pytest.mark.parametrize("method", ["scan", "blocked", "fsm"])
def test_shifting_is_scipys(method):
    x = np.concatenate([noise(4096), np.zeros(4096)])
    controls = some_controls(3)
    found = aligner.shift(
        Controls(*(jnp.asarray(f, jnp.float32) for f in controls)), x.astype(np.float32), FS, method=method
    )
    expected = filtered_by_scipy(controls, x)
    assert np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2)) < 2e-4


def test_frequency_sampling_and_recursion_have_one_gradient():
    x = jnp.asarray(np.concatenate([noise(2048), np.zeros(4096)]), jnp.float32)
    y = jnp.asarray(filtered_by_scipy(some_controls(7), np.asarray(x, np.float64)), jnp.float32)
    controls = Controls(*(jnp.asarray(f, jnp.float32) for f in some_controls(8)))

    def error(controls, method):
        return jnp.mean((aligner.shift(controls, x, FS, method=method) - y) ** 2)

    exact, sampled = (
        jax.jit(jax.grad(error), static_argnums=1)(controls, method) for method in ("blocked", "fsm")
    )
    for name in ("delay_ms", "cutoff_hz", "q"):
        one, other = np.asarray(getattr(exact, name)), np.asarray(getattr(sampled, name))
        np.testing.assert_allclose(one, other, atol=2e-3 * np.max(np.abs(one)))


def test_gradient_of_the_inner_product_is_that_of_its_formula(x64):
    key = jax.random.split(jax.random.key(0), 5)
    omega = jnp.geomspace(0.003, 2.8, 16)
    real, imag = jax.random.normal(key[0], (2, 2, 1, 16))
    arguments = (
        3 * jax.random.normal(key[1], (2, 2)),
        jax.random.uniform(key[2], (2, 2, 3), minval=-6, maxval=1),
        jax.random.uniform(key[3], (2, 2, 3), minval=-2, maxval=2),
        real,
        imag,
    )

    def summed(function):
        return lambda d, t, q, re, im: jnp.sum(function(d, t, q, omega, jax.lax.complex(re, im)))

    for order in (jax.grad, lambda f, argnums: jax.jacfwd(jax.grad(f, argnums), argnums)):
        ours, plain = (
            jax.jit(order(summed(f), (0, 1, 2, 3, 4)))(*arguments)
            for f in (features._inner, features._inner.fun)
        )
        for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-9 * max(1.0, float(np.max(np.abs(other)))))


# Networks


@pytest.mark.parametrize("scale", ["log", "linear"])
def test_controls_stay_in_their_ranges(scale):
    design = Design(heads=2, cutoff_scale=scale)
    ends = [aligner.controls_of(jnp.full(28, end), design) for end in (0.0, 1.0)]
    for end, cutoff, q, delay in zip(ends, (20.0, 20e3), (0.1, 10.0), (-3.0, 3.0), strict=True):
        np.testing.assert_allclose(end.cutoff_hz, cutoff, rtol=1e-4)
        np.testing.assert_allclose(end.q, q, rtol=1e-4)
        np.testing.assert_allclose(end.delay_ms, delay, rtol=1e-4)
    middle = float(aligner.controls_of(jnp.full(28, 0.5), design).cutoff_hz[0, 0])
    assert middle == pytest.approx(10010.0 if scale == "linear" else np.sqrt(20 * 20e3), rel=1e-4)


def test_scales_have_inverses():
    controls = (params.DELAY_MS, params.CUTOFF_HZ_LOG, params.Q, params.CUTOFF_HZ)
    raw = np.linspace(-1, 1, 9)[:, None] * np.ones(4)
    again = params.normalise(np.stack(params.denormalise(raw, controls), axis=-1), controls)
    np.testing.assert_allclose(again, raw, atol=1e-12)


@pytest.mark.slow
@pytest.mark.usefixtures("loose_jax")
@pytest.mark.parametrize("kind", ["cross-phase", "waves"])
def test_a_network_learns_one_pair(kind):
    pair = datasets.Pairs(4096, FS, key=3, recipe=datasets.Recipe(room=1.0))[1]
    network = tiny(kind)
    cross = cross_spectrum.measure(pair.dry, pair.wet, FS, 0)
    bands = features.extract(cross, [0.0, 5.0])
    batch = {"cross": bands.cross[None], "total": bands.total[None]}
    if kind == "waves":
        batch["waves"] = np.stack([features.waves(pair.dry, pair.wet, d, 4096) for d in (0, 5)])[None]
    loss = aligner.make_loss(network.design, bands.omega, FS)
    optimizer = optax.adam(3e-3)

    @jax.jit
    def step(weights, state):
        # The same rollouts each time, as far as the network lets them be.
        value, slope = jax.value_and_grad(lambda w: loss(w, batch, jax.random.key(1))[0])(weights)
        change, state = optimizer.update(slope, state)
        return optax.apply_updates(weights, change), state, value

    weights, state, losses = network.weights, optimizer.init(network.weights), []
    for _ in range(60):
        weights, state, value = step(weights, state)
        losses.append(float(value))
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:3])


def test_before_training_the_network_places_greedily():
    pair = datasets.Pairs(4096, FS, key=3, recipe=datasets.Recipe(room=1.0))[1]
    cross = cross_spectrum.measure(pair.dry, pair.wet, FS, 800)
    predictions, greedy = aligner.predict(tiny(), cross, 800), aligner.predict_greedily(cross, 800)
    np.testing.assert_allclose(predictions.score, greedy.score, atol=1e-5)


def test_predictions_are_ranked_and_signed():
    x = noise()
    predictions = aligner.predict(tiny(), cross_spectrum.measure(x, -x, FS, 100), 100)
    assert np.all(np.diff(predictions.score) <= 0)
    assert set(np.unique(predictions.controls.polarity)) <= {-1.0, 1.0}
    assert len(predictions.score) == matching_pursuit.ROWS
    best = predictions.at(0)
    shifted = np.asarray(aligner.shift(Controls(*(jnp.asarray(f, jnp.float32) for f in best)), x, FS))
    assert metrics.correlation(shifted, -x) == pytest.approx(predictions.score[0], abs=0.01)


def test_networks_refuse_the_other_kind():
    x = noise(500)
    with pytest.raises(ValueError, match="kind 'waves'; expected 'cross-phase'"):
        aligner.predict(tiny("waves"), cross_spectrum.measure(x, x, FS, 0), 0)
    with pytest.raises(ValueError, match="kind 'cross-phase'; expected 'waves'"):
        aligner.predict_from_waves(tiny(), x, x, FS, 0)
    with pytest.raises(ValueError, match=r"^kind is 'smells'; choose one of cross-phase, waves"):
        aligner.make_net(Design(kind="smells"))
    assert len(aligner.predict_from_waves(tiny("waves"), x, x, FS, 10).score) == 24


def test_kept_networks_come_back(tmp_path):
    network = tiny()
    aligner.save(network, tmp_path / "a.npz")
    # Files of older versions have the kind under another name.
    older = {"hears" if name == "kind" else name: value for name, value in network.design._asdict().items()}
    serialization.save(older, network.weights, tmp_path / "older.npz")
    assert aligner.load(tmp_path / "older.npz").design == network.design
    again = aligner.load(tmp_path / "a.npz")
    assert again.design == network.design
    for one, other in zip(jax.tree.leaves(network.weights), jax.tree.leaves(again.weights), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-6)
    (tmp_path / "b.npz").write_bytes(b"no")
    (tmp_path / "c.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:-500])
    for name, message in (
        ("b", "no network of jaxapf's"),
        ("c", "no network of jaxapf's"),
        ("d", "cannot be opened"),
    ):
        with pytest.raises(ValueError, match=message):
            aligner.load(tmp_path / f"{name}.npz")


def test_weights_that_half_precision_cannot_hold(tmp_path):
    with pytest.raises(ValueError, match="weights 'a' exceed half precision or are not finite"):
        aligner.save(Network(Design(), {"a": np.array([1e6])}), tmp_path / "a.npz")


def test_a_delay_beyond_the_signal_leaves_silence():
    late = Controls(1e3 * 192 / FS, 1.0, jnp.array([100.0]), jnp.array([1.0]))
    assert np.all(np.asarray(aligner.shift(late, jnp.ones(64), FS)) == 0)


def test_refining_finds_a_known_cascade():
    x = noise(16384)
    x[-4096:] = 0
    truth = some_controls(1, delay_ms=0.5, polarity=-1.0)
    y = filtered_by_scipy(truth, x)
    start = Controls(
        np.array([0.48, 3.0]),
        np.array([-1.0, 1.0]),
        np.stack([truth.cutoff_hz * 1.1] * 2),
        np.stack([truth.q * 0.9] * 2),
    )
    cross = cross_spectrum.measure(x, y, FS, 200)
    found = aligner.refine(Predictions(start, np.ones(2)), cross, 200, steps=10)
    assert found.delay == pytest.approx(0.5e-3 * FS, abs=0.05)
    assert found.polarity == -1
    wanted = np.log(np.tan(np.pi * truth.cutoff_hz / FS))
    np.testing.assert_allclose(np.sort(found.log_t), np.sort(wanted), atol=0.01)


@pytest.mark.slow
def test_refining_adds_sections_where_the_network_has_too_few():
    x = noise(16384)
    x[-4096:] = 0
    y = filtered_by_scipy(some_controls(1, delay_ms=0.5), x)
    start = Controls(np.array([0.5]), np.array([-1.0]), np.array([[300.0]]), np.array([[1.0]]))
    cross = cross_spectrum.measure(x, y, FS, 200)
    errors = [
        alignment_of(aligner.refine(Predictions(start, np.ones(1)), cross, 200, steps=steps), FS).apply(x) - y
        for steps in (10, 50)
    ]
    assert np.sum(errors[1] ** 2) < 0.1 * np.sum(errors[0] ** 2)


# The stored network


def test_the_stored_network_is_small_and_aligns():
    path = pretrained.path("tcn-aligner")
    assert path.stat().st_size < 8_000_000
    recipe = datasets.Recipe(room=1.0, filtered=0.0)
    pairs = datasets.Pairs(32768, FS, key=31, recipe=recipe)
    gained = []
    for number in range(8):
        dry, wet = pairs[number][:2]
        found = align(dry, wet, FS, method="tcn")
        assert found.method == "tcn"
        assert found.metrics["correlation_aligned"] >= found.metrics["correlation_delay"] - 1e-9
        assert found.metrics["correlation_aligned"] == pytest.approx(
            metrics.correlation(found.apply(dry), wet), abs=2e-3
        )
        gained.append(found.metrics["correlation_aligned"] - found.metrics["correlation_delay"])
    assert np.median(gained) > 0.005  # more than the best delay and polarity


@pytest.mark.slow
def test_the_stored_network_values_the_right_rows():
    """With few rows it ends nearer to known cascades than the same placing without a network."""
    network = aligner.load(pretrained.path("tcn-aligner"))
    value = rollouts.value_function(aligner.make_net(network.design), network.weights)

    @partial(jax.jit, static_argnums=1)
    def reached(bands, value):
        return matching_pursuit.place(matching_pursuit.make_problem(bands, FS), value, 6, rows=2).reached[0]

    pairs = datasets.Pairs(16384, FS, key=31, recipe=datasets.KNOWN)
    found = []
    for number in range(24):
        cross = cross_spectrum.measure(pairs[number].dry, pairs[number].wet, FS, 300)
        bands = features.extract(cross, features.candidates(cross, 300))
        found.append([float(reached(bands, one)) for one in (value, matching_pursuit.greedy)])
    ours, greedy = np.mean(1 - np.array(found), axis=0)
    assert ours < 0.85 * greedy


@pytest.mark.parametrize("max_delay_ms", [0.0, 0.01])
def test_delays_stay_within_what_is_allowed(max_delay_ms):
    x = np.random.default_rng(0).standard_normal(12000)
    y = np.asarray(allpass.cascade(allpass.rbj([300.0, 1500.0], [0.7, 1.0], FS), x))
    found = align(x, y, FS, method="tcn", max_delay_ms=max_delay_ms)
    assert found.metrics["n_sections"] == 6
    assert abs(found.delay_samples) <= 1e-3 * max_delay_ms * FS + 1e-6
    assert found.metrics["esr_aligned"] < 0.01 < found.metrics["esr_delay"]


def test_it_says_why_there_is_no_filter():
    x = np.random.default_rng(0).standard_normal(12000)
    found = align(x, -x, FS, method="tcn")
    assert found.metrics["n_sections"] == 0
    assert found.stop_reason.startswith("no answer of the network beats the best delay and polarity alone")


@pytest.mark.parametrize("method", ["tcn", pytest.param("auto", marks=pytest.mark.slow)])
def test_where_the_user_has_float64(x64, method):
    pair = datasets.Pairs(8192, FS, key=5, recipe=datasets.Recipe(room=1.0))[0]
    found = align(pair.dry, pair.wet, FS, method=method)
    assert found.metrics["n_sections"] > 0
    assert found.metrics["esr_aligned"] < found.metrics["esr_delay"]


@pytest.mark.parametrize("fs", [16000.0, 96000.0])
def test_other_rates_work(fs):
    white = np.random.default_rng(0).standard_normal(12000)
    x = scipy.signal.sosfilt(scipy.signal.butter(4, 6000.0, fs=fs, output="sos"), white)
    sections = allpass.rbj([300.0, 1000.0], [0.7, 0.9], fs)
    y = -np.asarray(allpass.cascade(sections, x))
    found = align(x, y, fs, method="tcn")
    assert found.metrics["n_sections"] == 6
    assert found.metrics["esr_aligned"] < 0.1 * found.metrics["esr_delay"]
    assert np.all(np.isfinite(found.apply(x)))
