"""align: known paths are found, others do no harm, and the figures are those of the filtered signals."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal
from signals import noise, relative_rms

from jaxapf import Alignment, align, allpass, audio, metrics
from jaxapf.alignment import estimate
from jaxapf.alignment.cascade import FIRST, SECOND, Cascade, control_rows, to_sections
from jaxapf.alignment.model import order_of
from jaxapf.alignment.problem import Fit, measure

FS = 16000
MARGIN = 400  # silent samples at both ends: delays of either sign cut nothing off


def rbj_rows(*sections):
    """Cookbook all-passes (cutoff_hz, q) as SciPy rows, from the printed formulas."""
    made = []
    for cutoff_hz, q in sections:
        w = 2 * np.pi * cutoff_hz / FS
        alpha = np.sin(w) / (2 * q)
        a = np.array([1 + alpha, -2 * np.cos(w), 1 - alpha]) / (1 + alpha)
        made.append([*a[::-1], *a])
    return np.array(made).reshape(-1, 6)


def first_row(g):
    return np.array([[g, 1, 0, 1, g, 0]])


def ramped(x, delay):
    """Delayed by a phase ramp; circular, so for signals with silent ends."""
    return np.fft.irfft(
        np.fft.rfft(x) * np.exp(-2j * np.pi * np.fft.rfftfreq(x.shape[-1]) * delay), x.shape[-1]
    )


def shifted(x, delay):
    """Delayed as `Alignment.apply` delays, which has its own tests against a phase ramp."""
    return Alignment(allpass.first_order(np.zeros(0)), delay, 1, 1.0, [], {}).apply(x)


def faded(x):
    """Without steps at its ends, and with margins."""
    n = x.shape[-1]
    edge = np.hanning(400)
    window = np.concatenate([edge[:200], np.ones(n - 400), edge[200:]])
    return np.pad(x * window, [(0, 0)] * (x.ndim - 1) + [(MARGIN, MARGIN)])


def sweep(duration_s=0.8):
    return faded(audio.log_sweep(duration_s, FS, low_hz=30, high_hz=7000))


def band_noise(*shape, seed=0):
    """Pink-ish noise below 0.86 of the Nyquist frequency."""
    white = noise(*shape, seed=seed)
    pink = signal.lfilter([1.0], [1.0, -0.7], white, axis=-1)
    return faded(
        signal.fftconvolve(
            pink, np.broadcast_to(signal.firwin(127, 0.86), (*shape[:-1], 127)), "same", axes=-1
        )
    )


def drums(n_hits, n_channels, n=3000):
    """Hits of different pitch, both channels alike but not the same."""
    t = np.arange(n) / FS
    rng = np.random.default_rng(5)
    hits = [
        np.sin(2 * np.pi * rng.uniform(60, 300) * t) * np.exp(-t / 0.05)
        + 0.7 * rng.standard_normal(n) * np.exp(-t / 0.02)
        for _ in range(n_hits * n_channels)
    ]
    return faded(np.reshape(hits, (n_hits, n_channels, n)))


class Path:
    """A known path: what align should find, and the pair that it makes."""

    def __init__(self, dry, rows, delay, polarity, convert=lambda v: v):
        self.rows, self.delay, self.polarity = rows, delay, polarity
        self.dry = convert(dry)
        self.wet = convert(polarity * signal.sosfilt(rows, ramped(np.asarray(dry), delay)))
        self.order = int(sum(2 if row[2] else 1 for row in rows))

    def response(self, freqs_hz):
        z = np.exp(-2j * np.pi * freqs_hz / FS)
        total = self.polarity * z**self.delay
        for row in self.rows:
            total = total * np.polyval(row[2::-1], z) / np.polyval(row[:2:-1], z)
        return total


def to_int16(x):
    return np.round(x / 4 * 32767).astype(np.int16)


PATHS = {
    "sweep-order-1-float32-jax": lambda: Path(
        sweep(), first_row(-0.8), 5, -1, lambda v: jnp.asarray(v, jnp.float32)
    ),
    "noise-order-2-early": lambda: Path(band_noise(8000, seed=1), rbj_rows((300, 0.8)), -6, 1),
    "stereo-order-3-fraction": lambda: Path(
        band_noise(2, 6000, seed=2),
        np.concatenate([rbj_rows((120, 1.1)), first_row(-0.6)]),
        12.37,
        1,
        lambda v: v.astype(np.float32),
    ),
    "drums-order-4-int16": lambda: Path(drums(3, 2), rbj_rows((150, 0.9), (1500, 1.3)), 2, -1, to_int16),
}
ESR_REACHED = {"drums-order-4-int16": 1e-5}  # rounding to 16 bits is an error of its own; else 2e-6


@functools.cache
def path(name):
    return PATHS[name]()


@functools.cache
def found(name):
    """One fit for all tests of it."""
    known = path(name)
    return align(known.dry, known.wet, FS, order=known.order, key=jax.random.key(3))


# The quick tier fits one pair, and tests only read it.
QUICK = "stereo-order-3-fraction"


@pytest.fixture(params=[QUICK, *(pytest.param(one, marks=pytest.mark.slow) for one in PATHS if one != QUICK)])
def fit(request):
    return path(request.param), found(request.param), request.param


def signals(known):
    """Dry and wet as float64, as align reads them."""
    return (
        np.asarray(v).astype(np.float32).astype(np.float64)
        if np.asarray(v).dtype.kind == "i"
        else np.asarray(v).astype(np.float64)
        for v in (known.dry, known.wet)
    )


# Known paths


def test_known_path_is_found(fit):
    known, alignment, name = fit
    assert alignment.metrics["esr_aligned"] < ESR_REACHED.get(name, 2e-6)
    assert alignment.metrics["esr_aligned"] < 1e-3 * alignment.metrics["esr_delay"]
    assert alignment.metrics["correlation_aligned"] > 0.9999
    freqs_hz = np.geomspace(60, 6000, 100)
    z = np.exp(-2j * np.pi * freqs_hz / FS)
    response = alignment.polarity * z**alignment.delay_samples
    response = response * np.exp(1j * allpass.phase_response(alignment.sections, freqs_hz, FS))
    assert np.max(np.abs(response - known.response(freqs_hz))) < 0.05
    assert alignment.delay_samples == pytest.approx(known.delay, abs=0.05)
    assert alignment.polarity == known.polarity


def test_order_is_the_one_asked_for(fit):
    known, alignment, _ = fit
    assert order_of(alignment.sections) == alignment.metrics["order"] == known.order
    assert np.count_nonzero(alignment.sections.v == 0) == known.order % 2
    assert alignment.metrics["n_sections"] == np.size(alignment.sections.u) == (known.order + 1) // 2
    assert str(known.order) in alignment.stop_reason
    assert alignment.fs == FS
    assert alignment.method == "spectral"


def test_sections_are_stable_float64_and_scaled(fit):
    u, v, m = fit[1].sections
    for margin in (u, v, m):
        assert isinstance(margin, np.ndarray)
        assert margin.dtype == np.float64
    assert np.all((u > 0) & (v >= 0) & (m > 0))
    assert np.allclose(u + v + 2 * m, 4)
    for row in fit[1].sos:
        assert np.all(np.abs(np.roots(np.trim_zeros(row[3:], "b"))) < 1)


def test_figures_are_those_of_scipy_in_the_time_domain(fit):
    known, alignment, _ = fit
    dry, wet = signals(known)
    pred = alignment.polarity * signal.sosfilt(alignment.sos, shifted(dry, alignment.delay_samples))
    energy = np.sum(wet**2)
    assert alignment.metrics["esr_raw"] == pytest.approx(np.sum((dry - wet) ** 2) / energy, rel=1e-9)
    # Signals in float32 are filtered in float64, and the output is rounded again.
    exact = 1e-9 if np.asarray(known.dry).dtype == np.float64 else 1e-5
    assert alignment.metrics["esr_aligned"] == pytest.approx(
        np.sum((pred - wet) ** 2) / energy, rel=exact, abs=1e-12
    )
    cosine = np.sum(pred * wet) / np.sqrt(np.sum(pred**2) * energy)
    assert alignment.metrics["correlation_aligned"] == pytest.approx(cosine, abs=1e-8)
    delayed = alignment.metrics["delay_only_polarity"] * shifted(dry, alignment.metrics["delay_only_samples"])
    error = np.sum((delayed - wet) ** 2) / energy
    assert alignment.metrics["esr_delay"] == pytest.approx(error, rel=1e-4, abs=1e-9)


def test_figures_are_those_of_what_apply_gives(fit):
    """The file that the command writes comes from the same function."""
    known, alignment, _ = fit
    dry, wet = (np.asarray(v) for v in (known.dry, known.wet))
    applied = alignment.apply(dry)
    assert applied.shape == dry.shape
    for figure in (metrics.esr, metrics.correlation):
        found = alignment.metrics[f"{figure.__name__}_aligned"]
        assert found == pytest.approx(figure(applied, wet), rel=1e-12, abs=1e-15)


def assert_sane(alignment):
    """What holds of every result, whatever came in."""
    figures = alignment.metrics
    assert all(value is None or np.isfinite(value) for value in figures.values())
    assert np.isfinite(alignment.delay_samples)
    assert alignment.polarity in (-1, 1)
    assert all(np.all(np.isfinite(margin)) for margin in alignment.sections)
    assert len(alignment.controls) == figures["n_sections"] == np.size(alignment.sections.u)
    assert alignment.stop_reason
    for better, worse in (("esr_aligned", "esr_delay"), ("esr_delay", "esr_raw")):
        if figures[worse] is not None:
            assert figures[better] <= figures[worse]


def test_figures_are_complete_and_ordered(fit):
    assert_sane(fit[1])
    kinds = ("raw", "delay", "aligned")
    names = {f"{figure}_{kind}" for figure in ("esr", "correlation") for kind in kinds}
    names |= {"esr_bound", "delay_only_samples", "delay_only_polarity", "seconds", "n_sections", "order"}
    assert set(fit[1].metrics) == names
    dry, wet = signals(fit[0])
    assert fit[1].metrics["esr_bound"] == pytest.approx(metrics.phase_only_bound(dry, wet, FS), abs=1e-5)


def test_controls_make_the_sections_again(fit):
    assert_controls_reproduce(fit[1].sections, fit[1].controls, FS)


def assert_controls_reproduce(sections, controls, fs):
    assert len(controls) == np.size(sections.u)
    for index, control in enumerate(controls):
        expected = [margin[index] for margin in sections]
        if control["type"] == "first_order":
            assert expected[1] == 0
            made = [allpass.first_order(control["coefficient"])]
            w = 2 * np.pi * control["cutoff_hz"] / fs
            phase = allpass.phase_response(made[0], [control["cutoff_hz"]], fs)[0]
            assert phase == pytest.approx(-np.pi / 2, abs=1e-6)
            assert control["coefficient"] == pytest.approx(np.tan(w / 2 - np.pi / 4), rel=1e-9, abs=1e-12)
        else:
            made = [allpass.rbj(control["cutoff_hz"], control["q"], fs)]
            if "radius" in control:
                made.append(allpass.second_order(control["radius"], control["angle_hz"], fs))
            assert ("radius" in control) == ("angle_hz" in control)
        for one in made:
            # Margins down to 1e-7 of c and d: what radius and angle still resolve of them.
            assert np.ravel(one) == pytest.approx(expected, rel=1e-6, abs=1e-13)


@given(
    st.lists(
        st.tuples(st.floats(20, 7900), st.floats(0.05, 200), st.sampled_from([FIRST, SECOND])), max_size=4
    )
)
def test_controls_of_any_cascade_make_its_sections(rows):
    cutoff_hz, q, kind = np.array(rows).reshape(-1, 3).T
    cascade = Cascade(
        np.float64(0), np.log(np.tan(np.pi * cutoff_hz / FS)), -np.log(q), kind.astype(int), np.float64(1)
    )
    controls = control_rows(cascade, FS)
    assert_controls_reproduce(to_sections(cascade), controls, FS)
    for row, control in zip(rows, controls, strict=True):
        assert control["cutoff_hz"] == pytest.approx(row[0])
        assert (control["type"] == "second_order") == (row[2] == SECOND)
        if row[2] == SECOND:
            assert control["q"] == pytest.approx(row[1])
            # Complex poles exactly when Q is above one half (not asked at the edge, where rounding decides).
            assert ("radius" in control) == (row[1] > 0.5) or row[1] == pytest.approx(0.5)


@pytest.mark.slow
def test_wet_earlier_than_dry_is_a_negative_delay():
    alignment = found("noise-order-2-early")
    assert alignment.delay_samples < 0
    impulse = np.zeros(200)
    impulse[100] = 1
    assert (
        np.argmax(
            np.abs(
                Alignment(allpass.first_order(np.zeros(0)), alignment.delay_samples, 1, FS, [], {}).apply(
                    impulse
                )
            )
        )
        == 94
    )


def test_channels_share_one_cascade():
    known, alignment = path("stereo-order-3-fraction"), found("stereo-order-3-fraction")
    assert alignment.sections.u.ndim == 1
    for dry, wet in zip(known.dry, known.wet, strict=True):
        assert metrics.esr(alignment.apply(dry), wet) < 1e-5


@pytest.mark.slow
def test_segments_and_channels_count_alike():
    """(n_segments, channels, T): the figures are sums over all of it, so its order does not matter."""
    known, alignment = path("drums-order-4-int16"), found("drums-order-4-int16")
    assert known.dry.ndim == 3
    dry, wet = signals(known)
    flat = metrics.esr(alignment.apply(dry).reshape(-1, dry.shape[-1]), wet.reshape(-1, dry.shape[-1]))
    assert flat == pytest.approx(metrics.esr(alignment.apply(dry), wet))
    assert flat < 2e-5


def test_automatic_order_stops_where_sections_no_longer_pay():
    known = path("noise-order-2-early")
    alignment = align(known.dry, known.wet, FS)
    assert_sane(alignment)
    assert "stopped" in alignment.stop_reason
    assert alignment.metrics["esr_aligned"] < 1e-5
    assert 2 <= alignment.metrics["order"] <= 8  # the path has order 2; what is left are errors of 1e-6


def test_model_survives_its_file(tmp_path):
    alignment = found("stereo-order-3-fraction")
    alignment.save(tmp_path / "model.json")
    loaded = Alignment.load(tmp_path / "model.json")
    assert loaded.metrics == alignment.metrics
    assert loaded.controls == alignment.controls
    x = noise(2, 500)
    assert np.array_equal(loaded.apply(x), alignment.apply(x))


# Doing no harm


@pytest.mark.slow
@settings(max_examples=2)
@given(st.integers(100, 1500), st.integers(1, 2), st.integers(0, 10**6), st.integers(1, 3))
def test_unrelated_signals_are_never_made_worse(n, n_channels, seed, order):
    dry, wet = (band_noise(n_channels, n + 500, seed=seed + k)[..., MARGIN:-MARGIN] for k in (0, 1))
    alignment = align(dry, wet, FS, order=order)
    assert_sane(alignment)
    assert order_of(alignment.sections) in (order, 0)
    applied = metrics.esr(alignment.apply(dry), wet)
    assert np.sqrt(applied) <= np.sqrt(metrics.esr(dry, wet)) + 1e-3


random_cascades = st.lists(
    st.tuples(st.floats(-6, 2), st.floats(-4, 3), st.sampled_from([FIRST, SECOND])), max_size=4
)


@given(
    random_cascades, st.floats(-50, 50), st.sampled_from([-1.0, 1.0]), st.integers(0, 10**6), st.booleans()
)
def test_a_bad_fit_is_thrown_away(rows, delay, polarity, seed, related):
    """Whatever a search comes up with, the result is the best of it, delay alone, and nothing."""
    dry, wet = noise(300, seed=seed), noise(300, seed=seed + 1)
    wet = np.roll(dry, 3) if related else wet
    log_t, log_d, kind = np.array(rows).reshape(-1, 3).T
    bad = Cascade(np.float64(delay), log_t, log_d, kind.astype(int), np.float64(polarity))
    pair = dry[None], wet[None]
    alignment = estimate._result(*pair, FS, "spectral", 0.0, Fit(bad, "a test"), measure(*pair, FS, 20.0))
    assert_sane(alignment)
    n = len(dry)
    padded = np.pad(dry, (n, 2 * n + 1))  # room on both sides for what the ramp spreads
    pred = (
        polarity * signal.sosfilt(to_sections(bad).sos, ramped(padded, delay))
        if rows
        else (polarity * ramped(padded, delay))
    )
    kept = alignment.stop_reason == "a test"
    assert (alignment.metrics["n_sections"] == len(rows)) if kept else (alignment.metrics["n_sections"] == 0)
    if not kept:
        assert "no cascade" in alignment.stop_reason
        assert alignment.delay_samples == alignment.metrics["delay_only_samples"]
        assert alignment.polarity == alignment.metrics["delay_only_polarity"]
        assert metrics.esr(pred[n : 2 * n], wet) >= alignment.metrics["esr_delay"] - 0.05
    if related:
        assert alignment.metrics["esr_aligned"] < 0.1


@pytest.mark.slow
def test_same_key_same_result():
    known, first = path("noise-order-2-early"), found("noise-order-2-early")
    second = align(known.dry, known.wet, FS, order=2, key=jax.random.key(3))
    assert all(np.array_equal(a, b) for a, b in zip(first.sections, second.sections, strict=True))
    assert first.delay_samples == second.delay_samples
    assert {**first.metrics, "seconds": 0} == {**second.metrics, "seconds": 0}


# Degenerate input


@pytest.mark.parametrize("silent", [("dry",), ("wet",), ("dry", "wet")])
def test_silence_is_kept_as_it_is(silent):
    pair = {name: np.zeros((2, 100)) if name in silent else noise(2, 100) for name in ("dry", "wet")}
    alignment = align(pair["dry"], pair["wet"], FS)
    assert_sane(alignment)
    assert f"the {silent[0]} signal is silent" in alignment.stop_reason
    assert (alignment.delay_samples, alignment.polarity, alignment.metrics["order"]) == (0.0, 1, 0)
    assert np.array_equal(alignment.apply(pair["dry"]), pair["dry"])


@pytest.mark.parametrize("shape", [(1,), (2, 1)])
def test_a_single_sample_is_kept(shape):
    alignment = align(np.ones(shape), -np.ones(shape), FS, order=3)
    assert_sane(alignment)
    assert "single sample" in alignment.stop_reason
    assert np.array_equal(alignment.apply(np.ones(shape)), np.ones(shape))


IMPULSE = np.zeros(64)
IMPULSE[20] = 1
DEGENERATE = {
    "two-samples": ([1.0, 2.0], [2.0, -1.0], 0.2),  # the best of -1, 0 and 1 samples: advance by one
    "impulse": (IMPULSE, -np.roll(IMPULSE, 9), 1e-12),
    "opposite-channels": (np.stack([IMPULSE, IMPULSE]), np.stack([IMPULSE, -IMPULSE]), 2.0),
    "channels-apart": (np.stack([IMPULSE, 0 * IMPULSE]), np.stack([0 * IMPULSE, IMPULSE]), 2.0),
}


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=pytest.mark.slow) if one == "impulse" else one for one in DEGENERATE]
)
def test_degenerate_pairs(name):
    dry, wet, expected = DEGENERATE[name]
    alignment = align(dry, wet, FS, order=2)
    assert_sane(alignment)
    assert alignment.metrics["esr_aligned"] <= expected + 1e-9


@pytest.mark.slow
def test_a_constant_turned_over():
    """Nothing but polarity to find, by the automatic order too."""
    alignment = align(np.ones(2000), -np.ones(2000), 8000)
    assert_sane(alignment)
    assert alignment.polarity == -1
    assert alignment.metrics["esr_aligned"] < 1e-9


def test_loud_samples_do_not_overflow():
    """Samples on no scale at all: float32 squares of them are beyond float32."""
    x = (1e25 * noise(300)).astype(np.float32)
    alignment = align(x, -x, FS, order=1)
    assert_sane(alignment)
    assert alignment.metrics["esr_aligned"] < 1e-9


def test_delay_stays_within_its_limit():
    """The latency is beyond the limit: sections may make up for it, the delay may not."""
    x = faded(noise(1000))
    alignment = align(x, np.roll(x, 5), FS, order=1, max_delay_ms=0)
    assert_sane(alignment)
    assert alignment.delay_samples == 0.0
    assert alignment.metrics["delay_only_samples"] == 0.0


@pytest.mark.parametrize("progress", [False, True])
def test_progress_is_shown_when_asked(capsys, progress):
    align(np.zeros(9), noise(9), FS, progress=progress)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert bool(shown.err) == progress


# The known answer


@pytest.mark.slow
def test_surveyor_cascade():
    """Bargum et al. 2023, the released Surveyor model: order 7, warped, two pole pairs 5 Hz wide."""
    fs = 192000
    c = np.array([0.9980386166384465, 0.002789362428126286, 0.9984650242883831])
    d = np.array([-1.6534246988804708, 0.10138022220093301, -1.6954015215440774])
    a = np.array([-0.8644981322332936, -0.30740110972783036, -0.8657947815319681])
    g, h = -0.9649031710274468, -0.9729902664858184
    # z^-1 -> (a + z^-1) / (1 + a z^-1) in (c + d z^-1 + z^-2) / (1 + d z^-1 + c z^-2), expanded by hand.
    scale = 1 + a * d + a**2 * c
    c, d = (c + a * d + a**2) / scale, (2 * a * (1 + c) + d * (1 + a**2)) / scale
    g = (g + h) / (1 + g * h)
    one = np.ones(3)
    rows = np.concatenate([np.stack([c, d, one, one, d, c], axis=-1), first_row(g)])
    dry = audio.log_sweep(10.0, fs)
    wet = signal.sosfilt(rows, dry)
    alignment = align(dry, wet, fs, order=7)
    assert alignment.metrics["esr_raw"] == pytest.approx(3.59, abs=0.01)  # the figure of the model's release
    assert alignment.metrics["esr_aligned"] <= 1e-4
    assert order_of(alignment.sections) == 7
    assert metrics.esr(alignment.apply(dry), wet) <= 1e-4
    assert relative_rms(alignment.apply(dry.astype(np.float32)), wet) <= 2e-2
