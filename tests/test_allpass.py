"""All-pass sections: designs, responses and cascades against the algebra and float64 loops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from helpers import EXACT_METHODS
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal
from signals import BATCH, MIDDLE, noise, relative_rms

from jaxapf import allpass, frequency

FS = 48000.0
cascade = jax.jit(allpass.cascade, static_argnames=("stretch", "method"))
GRID = np.linspace(0.0, FS / 2, 401)
MIXED = allpass.concatenate(
    allpass.second_order([0.9, 0.3, 0.97], [100.0, 9000.0, 23500.0], FS, warp=[0.2, -0.5, 0.0]),
    allpass.first_order([-0.95, 0.6], warp=[0.3, 0.0]),
    allpass.rbj(1000.0, 0.7, FS),
)

radii = st.floats(0.0, 0.9999)
freqs = st.floats(0.0, FS / 2)
warps = st.floats(-0.95, 0.95)
coefficients = st.floats(-0.999, 0.999)
each_method = pytest.mark.parametrize(
    "method",
    [pytest.param(one, marks=pytest.mark.slow if one == "associative" else ()) for one in EXACT_METHODS],
)
# What the designs do, by the method that compiles fastest.
scan_first = pytest.mark.parametrize(
    "method",
    ["scan", *(pytest.param(one, marks=pytest.mark.slow) for one in ("blocked", "associative", "fsm"))],
)


def sections_strategy():
    second = st.builds(lambda r, f, a: allpass.second_order(r, f, FS, warp=a), radii, freqs, warps)
    first = st.builds(lambda g, a: allpass.first_order(g, warp=a), coefficients, warps)
    rbj = st.builds(lambda f, q: allpass.rbj(f, q, FS), st.floats(1.0, FS / 2 - 1), st.floats(0.1, 50.0))
    return st.lists(st.one_of(second, first, rbj), min_size=1, max_size=4).map(
        lambda parts: allpass.concatenate(*parts)
    )


# Designs


@given(radii, freqs)
def test_second_order_is_the_papers(radius, cutoff_hz):
    c, d = radius**2, -2 * radius * np.cos(2 * np.pi * cutoff_hz / FS)
    np.testing.assert_allclose(
        allpass.second_order(radius, cutoff_hz, FS).sos[0], [c, d, 1, 1, d, c], rtol=0, atol=1e-14
    )


@given(radii, freqs, warps)
def test_warp_maps_coefficients(radius, cutoff_hz, a):
    c, d = allpass.second_order(radius, cutoff_hz, FS).sos[0, :2]
    scale = 1 + a * d + a**2 * c
    c_warped, d_warped = (c + a * d + a**2) / scale, (2 * a * (1 + c) + d * (1 + a**2)) / scale
    row = allpass.second_order(radius, cutoff_hz, FS, warp=a).sos[0]
    np.testing.assert_allclose(row[:2], [c_warped, d_warped], rtol=0, atol=1e-10)


@given(coefficients, warps)
def test_first_order_warp(g, a):
    expected = (g + a) / (1 + g * a)
    np.testing.assert_allclose(
        allpass.first_order(g, warp=a).sos[0], [expected, 1, 0, 1, expected, 0], rtol=0, atol=1e-12
    )


@given(sections_strategy())
def test_margins_keep_their_scale(sections):
    np.testing.assert_allclose(sections.u + sections.v + 2 * sections.m, 4, rtol=1e-12)
    assert np.all(sections.u > 0)
    assert np.all(sections.v >= 0)
    assert np.all(sections.m > 0)


def test_rbj_is_the_cookbooks():
    w, q = 2 * np.pi * 1234.0 / FS, 0.8
    alpha = np.sin(w) / (2 * q)
    row = np.array([1 - alpha, -2 * np.cos(w), 1 + alpha, 1 + alpha, -2 * np.cos(w), 1 - alpha])
    np.testing.assert_allclose(allpass.rbj(1234.0, q, FS).sos[0], row / (1 + alpha), rtol=1e-12)


def test_surveyor_sections():
    # The cascade released with Bargum et al. 2023, three warped second-order sections.
    c = np.array([0.9980386166384465, 0.002789362428126286, 0.9984650242883831])
    d = np.array([-1.6534246988804708, 0.10138022220093301, -1.6954015215440774])
    a = np.array([-0.8644981322332936, -0.30740110972783036, -0.8657947815319681])
    radius = np.sqrt(c)
    cutoff_hz = np.arccos(-d / (2 * radius)) / (2 * np.pi) * 192000.0
    row = allpass.second_order(radius, cutoff_hz, 192000.0, warp=a).sos
    x = noise(3000)
    for i in range(3):
        y = signal.sosfilt(row[i : i + 1], x)
        assert relative_rms(y, reference.warped_allpass(c[i], d[i], a[i], x)) < 1e-10


def test_designs_live_where_their_arguments_live():
    on_numpy = allpass.second_order(np.array([0.9]), 100.0, FS)
    on_jax = allpass.second_order(jnp.array([0.9]), 100.0, FS)
    assert all(isinstance(field, np.ndarray) and field.dtype == np.float64 for field in on_numpy)
    assert all(isinstance(field, jax.Array) and field.dtype == jnp.float32 for field in on_jax)
    assert isinstance(on_jax.sos, jax.Array)
    assert on_numpy.sos.dtype == np.float64
    assert isinstance(allpass.phase_response(on_jax, GRID, FS), jax.Array)
    assert allpass.phase_response(on_numpy, GRID, FS).dtype == np.float64


def test_sections_are_a_pytree():
    doubled = jax.tree.map(lambda field: 2 * field, MIXED)
    assert isinstance(doubled, allpass.Sections)
    np.testing.assert_allclose(doubled.sos, MIXED.sos)


def test_designs_under_jit():
    designed = jax.jit(lambda r, f: allpass.second_order(r, f, FS, warp=0.1))(0.9, 1000.0)
    np.testing.assert_allclose(designed.sos, allpass.second_order(0.9, 1000.0, FS, warp=0.1).sos, atol=1e-6)
    rows = jax.jit(lambda sos: allpass.from_sos(sos).sos)(MIXED.sos)
    np.testing.assert_allclose(rows, MIXED.sos, atol=1e-6)


# Responses


@given(sections_strategy())
def test_unit_gain(sections):
    np.testing.assert_allclose(np.abs(frequency.freqz_sos(sections.sos, GRID, FS)), 1, atol=1e-6)


@given(sections_strategy())
def test_phase_matches_the_response(sections):
    phase = allpass.phase_response(sections, GRID, FS)
    response = frequency.freqz_sos(sections.sos, GRID, FS)
    np.testing.assert_allclose(np.exp(1j * phase), response, atol=1e-6)


@given(sections_strategy())
def test_phase_is_unwrapped_and_falls(sections):
    phase = allpass.phase_response(sections, GRID, FS)
    order = np.sum(np.where(sections.v == 0, 1, 2))
    assert phase[0] == 0
    assert phase[-1] == pytest.approx(-np.pi * order)
    assert np.all(np.diff(phase) <= 1e-12)


def test_group_delay_is_the_slope_of_the_phase():
    h = 1e-3
    inner = GRID[1:-1]
    left, right = (allpass.phase_response(MIXED, inner + step, FS) for step in (-h, h))
    slope = -(right - left) / (2 * h) * FS / (2 * np.pi)
    np.testing.assert_allclose(allpass.group_delay(MIXED, inner, FS), slope, rtol=1e-6)


@given(sections_strategy())
def test_group_delay_is_positive_and_finite(sections):
    delay = allpass.group_delay(sections, GRID, FS)
    assert np.all(np.isfinite(delay))
    assert np.all(delay >= 0)


def test_group_delay_of_delays():
    np.testing.assert_allclose(allpass.group_delay(allpass.first_order(0.0), GRID, FS), 1, rtol=1e-12)
    two = allpass.second_order(0.0, 0.0, FS)
    np.testing.assert_allclose(allpass.group_delay(two, GRID, FS), 2, rtol=1e-12)


def test_responses_batch():
    batch = allpass.second_order(np.full((3, 2), 0.8), np.array([100.0, 5000.0]), FS)
    assert allpass.phase_response(batch, GRID, FS).shape == (3, 401)
    assert allpass.group_delay(batch, GRID, FS).shape == (3, 401)


def test_response_gradients_are_finite_at_the_ends():
    sections = jax.tree.map(lambda field: jnp.asarray(field, jnp.float32), MIXED)

    @jax.jit
    def gradients(sections):
        ends = jnp.array([0.0, FS / 2])
        of_phase, of_delay = (
            jax.grad(lambda s, response=response: jnp.sum(response(s, ends, FS)))(sections)
            for response in (allpass.phase_response, allpass.group_delay)
        )
        inside = jax.grad(lambda s: jnp.sum(allpass.phase_response(s, jnp.array([3000.0]), FS)))(sections)
        return of_phase, of_delay, inside

    *at_ends, gradient = gradients(sections)
    assert all(np.all(np.isfinite(field)) for one in at_ends for field in one)
    assert all(np.all(np.isfinite(field)) for field in gradient)
    assert np.any(gradient.u)


# Cascades


@pytest.mark.parametrize("radius", [-0.99999, -0.9, -1e-3])
@pytest.mark.parametrize("cutoff_hz", [30.0, 9000.0, 23990.0])
def test_a_negative_radius_is_the_opposite_pole(radius, cutoff_hz):
    c, d = radius**2, -2 * radius * np.cos(2 * np.pi * cutoff_hz / FS)
    sections = allpass.second_order(radius, cutoff_hz, FS)
    np.testing.assert_allclose(sections.sos[0, :2], [c, d], rtol=0, atol=1e-14)
    opposite = allpass.second_order(-radius, FS / 2 - cutoff_hz, FS)
    np.testing.assert_allclose(np.ravel(sections), np.ravel(opposite), rtol=1e-9)


def test_slopes_are_continuous_where_the_radius_changes_sign(x64):
    @jax.jit
    def margins(radius):
        return jnp.stack(allpass.second_order(radius, 1000.0, FS)).ravel()

    jacobian = jax.jit(jax.jacfwd(margins))

    for radius in (-0.3, 0.0, 0.3):
        slope = (margins(radius + 1e-6) - margins(radius - 1e-6)) / 2e-6
        np.testing.assert_allclose(jacobian(radius), slope, atol=1e-8)


@pytest.mark.parametrize("method", [*EXACT_METHODS, "auto"])
def test_cascade_is_its_sos(x64, method):
    x = noise(BATCH, MIDDLE)
    expected = signal.sosfilt(MIXED.sos, x)
    assert relative_rms(cascade(MIXED, x, method=method), expected) < 1e-10


PAPER_ORDERS = {
    "first": (lambda warp: allpass.first_order(-0.7, warp=warp), reference.paper_first_order, (-0.7,)),
    "second": (
        lambda warp: allpass.second_order(0.95, 3000.0, FS, warp=warp),
        reference.paper_second_order,
        (0.95**2, -2 * 0.95 * np.cos(2 * np.pi * 3000.0 / FS)),
    ),
}


@pytest.mark.parametrize("order", PAPER_ORDERS)
@pytest.mark.parametrize(
    ("stretch", "n_samples"),
    [(2, 203), *(pytest.param(*one, marks=pytest.mark.slow) for one in ((1, 1), (5, 3), (5, 700)))],
)
def test_warped_and_stretched_are_the_papers_recursions(x64, order, stretch, n_samples):
    design, difference_equation, coefficients = PAPER_ORDERS[order]
    x = noise(n_samples)
    for warp in (0.0, 0.4, -0.8):
        expected = difference_equation(*coefficients, x, warp=warp, stretch=stretch)
        for method in EXACT_METHODS:
            y = cascade(design(warp), x, stretch=stretch, method=method)
            assert relative_rms(y, expected) < 1e-12
        assert relative_rms(allpass.cascade(design(warp), x, stretch=stretch, method="fsm"), expected) < 1e-6


def test_the_two_forms_of_the_warped_recursion_agree():
    # The paper's equation 5, its sign mended, and two all-passes in place of the delays of direct form II.
    x = noise(400)
    for c, d, warp in ((0.81, -1.2, -0.6), (0.2, 0.5, 0.9), (0.9, 1.8, 0.0)):
        two_allpasses = reference.warped_allpass(c, d, warp, x)
        assert relative_rms(reference.paper_second_order(c, d, x, warp=warp), two_allpasses) < 1e-12


def _energies(method, margins):
    # float32, impulse long enough for every pole below to die out
    sections = allpass.Sections(*margins)
    impulse = jnp.zeros(4096).at[3].set(1.0)
    return jnp.sum(allpass.cascade(sections, impulse, method=method) ** 2)


@each_method
def test_energy_is_kept(method):
    energy = jax.jit(functools.partial(_energies, method))

    @given(st.lists(st.tuples(st.floats(0, 0.98), freqs), min_size=3, max_size=3))
    def property_holds(controls):
        radius, cutoff_hz = np.array(controls).T
        sections = allpass.second_order(radius, cutoff_hz, FS)
        assert energy(tuple(np.float32(field) for field in sections)) == pytest.approx(1, abs=1e-5)

    property_holds()


def test_state_holds_the_energy_to_come(x64):
    sections = allpass.second_order([0.9, 0.8], [500.0, 5000.0], FS)
    x = noise(50)
    y, zf = cascade(sections, x, zi=np.zeros((2, 2)))
    np.testing.assert_allclose(np.sum(zf**2), np.sum(x**2) - np.sum(y**2), rtol=1e-10)
    tail, _ = cascade(sections, np.zeros(2000), zi=zf)
    np.testing.assert_allclose(np.sum(tail**2), np.sum(zf**2), rtol=1e-10)


def test_batches_broadcast(x64):
    batch = allpass.second_order(np.array([[0.9], [0.5]]), np.array([100.0, 5000.0, 900.0]), FS)
    x = noise(4, 1, 60)
    y, zf = cascade(batch, x, zi=np.zeros((4, 2, 3, 2)))
    assert y.shape == (4, 2, 60)
    assert zf.shape == (4, 2, 3, 2)
    for i in range(4):
        for j in range(2):
            assert relative_rms(y[i, j], signal.sosfilt(batch.sos[j], x[i, 0])) < 1e-12


@functools.partial(jax.jit, static_argnames="method")
def _mix_and_gradients(controls, g, x, *, method):
    def mix(controls, g, x):
        radius, cutoff_hz, warp = controls
        second = allpass.second_order(radius, cutoff_hz, 192000.0, warp=warp)
        y = allpass.cascade(allpass.concatenate(second, allpass.first_order(g)), x, method=method)
        return jnp.sum((x + y) ** 2)

    return jax.value_and_grad(mix, argnums=(0, 1, 2))(controls, g, x)


@pytest.mark.slow  # as `test_registry`, by the controls
@pytest.mark.parametrize("method", ["blocked", "scan", "fsm"])
def test_finite_values_and_gradients(method):
    controls = jnp.array([[0.99999, 0.0, 0.99999], [30.0, 0.0, 96000.0], [0.5, 0.0, -0.9]])
    alternating = (-1.0) ** np.arange(64)
    for x in (np.zeros(64), np.ones(64), alternating, np.eye(64)[0], np.ones(1)):
        value, gradients = _mix_and_gradients(
            controls, jnp.array([-0.9999]), jnp.asarray(x, jnp.float32), method=method
        )
        assert np.isfinite(value)
        assert all(np.all(np.isfinite(gradient)) for gradient in gradients)
        assert bool(np.any(gradients[2])) == bool(np.any(x))
        if len(x) > 1 or method != "fsm":  # what wraps around leaves its trace in the one sample
            assert bool(np.any(gradients[0])) == (np.any(x) and len(x) > 1)


@scan_first
def test_gradients_by_controls_match_differences(x64, method):
    x, target = noise(2, 40)
    point = np.array([[0.95, 0.7], [700.0, 9000.0], [0.3, -0.2]])

    @jax.jit
    def loss(controls):
        radius, cutoff_hz, warp = controls
        sections = allpass.second_order(radius, cutoff_hz, FS, warp=warp)
        return jnp.sum((allpass.cascade(sections, x, method=method) - target) ** 2)

    gradient = jax.jit(jax.grad(loss))(point)
    for index in np.ndindex(point.shape):
        step = np.zeros_like(point)
        step[index] = 1e-6 * abs(point[index])
        slope = (loss(point + step) - loss(point - step)) / (2 * step[index])
        assert gradient[index] == pytest.approx(float(slope), rel=1e-5)


# Mistakes


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: allpass.second_order(1.0, 100.0, FS), r"radius is 1; expected in \(-1, 1\)"),
        (lambda: allpass.second_order([0.5, -1.1], 100.0, FS), "radius is -1.1"),
        (lambda: allpass.second_order(0.5, 24001.0, FS), "cutoff_hz is 24001"),
        (lambda: allpass.second_order(0.5, 100.0, FS, warp=1.0), "warp is 1"),
        (lambda: allpass.second_order(np.nan, 100.0, FS), "radius is nan"),
        (lambda: allpass.first_order(-1.0), "coefficient is -1"),
        (lambda: allpass.rbj(0.0, 1.0, FS), "cutoff_hz is 0"),
        (lambda: allpass.rbj(10.0, 0.0, FS), "q is 0"),
        (lambda: allpass.from_sos([[1, 0, 0, 1, 0, 0.0]]), "sos row 0 .* is no all-pass"),
        (lambda: allpass.from_sos([[0, 0, 1, 1, 0, 0], [2, 0, 1, 1, 0, 2.0]]), "sos row 1 .* is not stable"),
        (lambda: allpass.from_sos([[1, 2, 3]]), "sos has shape"),
        (lambda: allpass.concatenate(), "sections is empty"),
        (lambda: allpass.cascade(MIXED, np.ones(4), method="fast"), "scan, blocked, associative, fsm, auto"),
        (lambda: allpass.cascade(MIXED, np.ones(4), stretch=0), "stretch is 0"),
        (lambda: allpass.cascade(MIXED, np.ones(4), zi=np.zeros((6, 2)), method="fsm"), "zi is given"),
        (lambda: allpass.cascade(MIXED, np.ones(4), zi=np.zeros((5, 2))), r"zi has shape \(5, 2\)"),
        (
            lambda: allpass.cascade(allpass.first_order(np.zeros((2, 1))), np.ones((3, 4))),
            "sections has batch axes",
        ),
    ],
)
def test_errors(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@scan_first
def test_saturated_controls_give_finite_gradients(method):
    # Squashing functions round to the ends of their ranges in float32; a step there must not end a training.
    def loss(raw, x):
        second = allpass.second_order(jax.nn.sigmoid(raw[0]), 20000 * jax.nn.sigmoid(raw[1]), FS)
        first = allpass.first_order(jnp.tanh(raw[2]), warp=jnp.tanh(raw[3]))
        return jnp.mean((allpass.cascade(allpass.concatenate(second, first), x, method=method) + x) ** 2)

    x = jnp.asarray(noise(300), jnp.float32)
    points = jnp.array(
        [[18.0, -3, 0, 0], [0, 0, 9, 0], [0, 0, -9, 0], [0, 0, 0, 9], [0, 0, 0, -9], [40, 40, 20, 20]]
    )
    values, gradients = jax.jit(jax.vmap(jax.value_and_grad(loss), (0, None)))(points, x)
    assert jnp.all(jnp.isfinite(values))
    assert jnp.all(jnp.isfinite(gradients))


def test_complex_state_makes_a_complex_signal(x64):
    zi = noise(len(MIXED.u), 2) + 1j * noise(len(MIXED.u), 2, seed=1)
    y, zf = cascade(MIXED, noise(50), zi=zi)
    real, _ = cascade(MIXED, noise(50), zi=zi.real)
    imag, _ = cascade(MIXED, np.zeros(50), zi=zi.imag)
    np.testing.assert_allclose(y, np.asarray(real) + 1j * np.asarray(imag), rtol=1e-12, atol=1e-12)
    assert zf.dtype == jnp.complex128
