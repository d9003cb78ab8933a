"""The score, its derivatives and the moves of the global search, on cross-spectra of known cascades."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal
from signals import noise

from jaxapf._internal.arrays import enable_x64
from jaxapf.alignment import cross_spectrum, least_squares, search
from jaxapf.alignment.cascade import FIRST, SECOND, Cascade, Target, residual
from jaxapf.alignment.dictionary import FOLD
from jaxapf.alignment.least_squares import Bounds
from jaxapf.alignment.search import Problem

FS = 8000.0
BOUNDS = Bounds(delay=(-40.0, 40.0), log_t=(-7.0, 3.0), log_d=(-6.0, 3.0), log_bandwidth=-9.0)
SIZE = 4  # all cascades padded to it: one compilation
seeds = st.integers(0, 10**6)
kinds = st.lists(st.sampled_from([FIRST, SECOND]), min_size=1, max_size=SIZE)
refine = least_squares.refine
score = jax.jit(lambda cascade, target: -least_squares.normal_equations(cascade, target).error)


@pytest.fixture(autouse=True, scope="module")
def float64():
    with enable_x64():
        yield


def log_t(cutoff_hz):
    return np.log(np.tan(np.pi * np.asarray(cutoff_hz, np.float64) / FS))


def make(cutoff_hz, q, kind, delay=0.0, polarity=1.0):
    kind = np.array(kind, np.int32)
    log_d = np.where(kind == SECOND, -np.log(q), 0.0)
    return Cascade(np.float64(delay), log_t(cutoff_hz), log_d, kind, np.float64(polarity))


def random_cascade(kind, seed=0):
    """30 Hz to 3 kHz, Q 0.3 to 3, delay -30 to 30 samples, either polarity."""
    rng = np.random.default_rng(seed)
    n = len(kind)
    cutoff_hz, q = np.exp(rng.uniform(np.log(30), np.log(3000), n)), np.exp(rng.uniform(-1.1, 1.1, n))
    return make(cutoff_hz, q, kind, rng.uniform(-30, 30), rng.choice([-1.0, 1.0]))


def rows(cascade):
    """SciPy's sections, from the cookbook's formulas."""
    made = []
    for t0, d, kind in zip(np.exp(cascade.log_t), np.exp(cascade.log_d), cascade.kind, strict=True):
        if kind == FIRST:
            g = (t0 - 1) / (t0 + 1)
            made.append([g, 1, 0, 1, g, 0])
        elif kind == SECOND:
            w = 2 * np.arctan(t0)
            a = np.array([1 + np.sin(w) * d / 2, -2 * np.cos(w), 1 - np.sin(w) * d / 2]) / (
                1 + np.sin(w) * d / 2
            )
            made.append([*a[::-1], *a])
    return np.array(made).reshape(-1, 6)


def response(cascade, omega):
    """Polarity, delay and sections, evaluated as ratios of polynomials in z^-1."""
    z = np.exp(-1j * omega)
    total = cascade.polarity * np.exp(-1j * omega * cascade.delay)
    for row in rows(cascade):
        total = total * np.polyval(row[2::-1], z) / np.polyval(row[:2:-1], z)
    return total


def log_grid(n=240, low_hz=15.0, high_hz=3900.0):
    return 2 * np.pi * np.geomspace(low_hz, high_hz, n) / FS


def target_of(cascade, omega):
    """The cross-spectrum that only this cascade turns real."""
    power = 1 / (1 + np.linspace(0, 3, len(omega)))
    return Target(omega, power / power.sum() * response(cascade, omega))


def problem_of(cascade, omega=None):
    target = target_of(cascade, log_grid() if omega is None else omega)
    return search.with_dictionaries(Problem(target, BOUNDS), FS)


def counts(cascade):
    return int(np.sum(cascade.kind == SECOND)), int(np.sum(cascade.kind == FIRST))


def assert_valid(cascade):
    assert cascade.polarity in (-1.0, 1.0)
    assert np.isfinite(cascade.delay)
    assert len(cascade.log_t) == len(cascade.log_d) == len(cascade.kind)
    assert np.all(np.isfinite(cascade.log_t) & np.isfinite(cascade.log_d))
    assert set(np.asarray(cascade.kind)) <= {0, FIRST, SECOND}


TRUTH = make([80.0, 400.0, 1500.0], [0.8, 1.5, 1.0], [SECOND, SECOND, FIRST], delay=5.5, polarity=-1.0)


@pytest.fixture(scope="module")
def problem():
    return problem_of(TRUTH)


# The score and its derivatives


@given(kinds, st.integers(0, 40), seeds)
def test_score_is_the_inner_product_with_the_filtered_signal(kind, delay, seed):
    """Over the largest that any unit-gain filter reaches; SciPy filters, NumPy transforms."""
    cascade = random_cascade(kind, seed)._replace(delay=np.float64(delay))
    n = 16385  # odd: no bin at fs / 2, where the tangent ends; all tails have decayed
    dry, wet = (np.pad(noise(200, seed=seed + k), (0, n - 200)) for k in (0, 1))
    filtered = cascade.polarity * signal.sosfilt(rows(cascade), np.roll(dry, delay))
    cross = np.conj(np.fft.rfft(dry)) * np.fft.rfft(wet) * np.r_[1.0, np.full(n // 2, 2.0)] / n
    largest = np.sum(np.abs(cross))
    target = Target(2 * np.pi * np.arange(n // 2 + 1) / n, cross / largest)
    got = score(search.compact(cascade, SIZE), target)
    assert float(got) == pytest.approx(filtered @ wet / largest, abs=1e-9)


@given(kinds, seeds)
def test_only_the_true_cascade_scores_one(kind, seed):
    truth, other = random_cascade(kind, seed), random_cascade(kind, seed + 1)
    target = target_of(truth, log_grid())
    assert float(score(search.compact(truth, SIZE), target)) == pytest.approx(1, abs=1e-12)
    assert float(score(search.compact(other, SIZE), target)) < 1
    expected = np.sum((target.cross * np.conj(response(other, target.omega))).real)
    assert float(score(search.compact(other, SIZE), target)) == pytest.approx(expected, abs=1e-12)


def flat(cascade):
    return np.concatenate([[cascade.delay], cascade.log_t, cascade.log_d])


def with_flat(cascade, p):
    n = len(cascade.log_t)
    return cascade._replace(delay=p[0], log_t=p[1 : n + 1], log_d=p[n + 1 :])


normal_equations = jax.jit(least_squares.normal_equations)
hessian_of_error = jax.jit(
    jax.hessian(lambda p, cascade, target: -jnp.sum(residual(with_flat(cascade, p), target).real))
)


@given(kinds, seeds)
def test_gradient_agrees_with_central_differences(kind, seed):
    cascade = search.compact(random_cascade(kind, seed), SIZE)
    target = target_of(random_cascade(kind, seed + 1), log_grid())
    error, gradient, matrix = normal_equations(cascade, target)
    assert -float(error) == pytest.approx(np.sum(residual(cascade, target).real), abs=1e-12)
    p, step = flat(cascade), 1e-5
    slopes = [
        (score(with_flat(cascade, p - e), target) - score(with_flat(cascade, p + e), target)) / (2 * step)
        for e in step * np.eye(len(p))
    ]
    # Truncation step^2 times the third derivative, rounding 1e-16 / step; both below 1e-9.
    assert np.allclose(gradient, slopes, rtol=1e-6, atol=1e-8)
    assert np.linalg.norm(gradient) > 0
    eigenvalues = np.linalg.eigvalsh(matrix)
    assert eigenvalues.min() >= -1e-12 * eigenvalues.max()


@given(kinds, seeds)
def test_matrix_is_the_negative_hessian_at_a_perfect_fit(kind, seed):
    truth = search.compact(random_cascade(kind, seed), SIZE)
    target = target_of(truth, log_grid())
    _, gradient, matrix = normal_equations(truth, target)
    hessian = hessian_of_error(flat(truth), truth, target)
    assert np.allclose(gradient, 0, atol=1e-12)
    assert np.allclose(matrix, hessian, rtol=1e-8, atol=1e-10 * np.max(np.abs(matrix)))


@given(kinds, seeds)
def test_refining_never_lowers_the_score_and_stays_in_the_box(kind, seed):
    target = target_of(random_cascade(kind, seed), log_grid())
    starts = [search.compact(random_cascade(kind, seed + k), SIZE) for k in range(1, 9)]
    stacked = Cascade(*(np.stack(field) for field in zip(*starts, strict=True)))
    refined, scores = jax.tree.map(np.asarray, refine(stacked, target, BOUNDS, 12))
    before = np.array([score(c, target) for c in starts])
    after = np.array([score(Cascade(*(f[i] for f in refined)), target) for i in range(len(starts))])
    assert np.all(scores >= before - 1e-12)
    assert np.any(scores > before + 1e-6)
    assert np.allclose(scores, after, atol=1e-10)
    assert np.array_equal(refined.kind, stacked.kind)
    assert np.array_equal(refined.polarity, stacked.polarity)
    used = refined.kind == SECOND
    assert np.all(np.abs(refined.delay) <= BOUNDS.delay[1])
    assert np.all((refined.log_t >= BOUNDS.log_t[0]) & (refined.log_t <= BOUNDS.log_t[1]))
    assert np.all((refined.log_d >= BOUNDS.log_d[0])[used] & (refined.log_d <= BOUNDS.log_d[1])[used])
    assert np.all((refined.log_t + refined.log_d)[used] >= BOUNDS.log_bandwidth - 1e-12)


@given(kinds, seeds)
def test_refining_from_nearby_arrives(kind, seed):
    rng = np.random.default_rng(seed)
    truth = random_cascade(kind, seed)
    near = truth._replace(
        delay=truth.delay + rng.uniform(-0.1, 0.1), log_t=truth.log_t + rng.uniform(-0.02, 0.02, len(kind))
    )
    target = target_of(truth, log_grid())
    before = float(score(search.compact(near, SIZE), target))
    found = search.refine_all([near], Problem(target, BOUNDS), 40)
    assert 1 - found[0][0] < 1e-4 * (1 - before)


def test_refining_respects_the_narrowest_bandwidth():
    truth = make([500.0], [50.0], [SECOND])
    bounds = BOUNDS._replace(log_bandwidth=float(log_t(500.0) - np.log(5.0)))
    start = make([500.0], [2.0], [SECOND])
    ((_, free),) = search.refine_all([start], Problem(target_of(truth, log_grid()), BOUNDS), 40)
    ((_, held),) = search.refine_all([start], Problem(target_of(truth, log_grid()), bounds), 40)
    assert free.log_t[0] + free.log_d[0] < bounds.log_bandwidth
    assert held.log_t[0] + held.log_d[0] == pytest.approx(bounds.log_bandwidth)


# Targets, dictionaries and bookkeeping


@given(st.integers(16, 400), seeds)
def test_target_is_normalised_and_padding_changes_nothing(n, seed):
    bins = cross_spectrum.log_bins(
        cross_spectrum.measure(noise(n, seed=seed), noise(n, seed=seed + 1), FS, 0), 12
    )
    weight = 1.0 + np.arange(len(bins.omega))
    plain, padded = search.make_target(bins, weight), search.make_target(bins, weight, 256)
    assert padded.omega.shape == padded.cross.shape == (256,)
    assert np.sum(np.abs(padded.cross)) == pytest.approx(1)
    assert np.allclose(plain.cross * np.sum(weight * np.abs(bins.cross)), weight * bins.cross)
    cascade = random_cascade([SECOND, FIRST], seed)
    expected = np.sum((plain.cross * np.conj(response(cascade, plain.omega))).real)
    assert float(score(search.compact(cascade, SIZE), padded)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("kind", [FIRST, SECOND])
def test_dictionary_holds_unit_gain_responses_of_its_sections(problem, kind):
    atoms = problem.atoms(kind)
    omega = problem.target.omega.reshape(-1, FOLD).mean(axis=1)
    assert atoms.response.shape == (2 * len(omega), len(atoms.log_t))
    for index in range(0, len(atoms.log_t), 37):
        t, d = atoms.log_t[index, None], atoms.log_d[index, None]
        expected = response(Cascade(np.float64(0), t, d, np.array([kind], np.int32), np.float64(1)), omega)
        assert np.allclose(atoms.response[:, index], np.r_[expected.real, expected.imag], atol=1e-5)
    assert atoms.shifts[0] == 0
    assert np.array_equal(np.sort(atoms.shifts), np.sort(-atoms.shifts))


def test_dictionaries_are_for_those_problems_that_have_them(problem):
    with pytest.raises(AssertionError, match="refining only"):
        Problem(problem.target, BOUNDS).atoms()


@given(kinds, seeds)
def test_residual_sums_to_the_score(kind, seed):
    target = target_of(random_cascade(kind, seed), log_grid())
    other = random_cascade(kind, seed + 1)
    left = residual(other, target)
    assert np.allclose(left, target.cross * np.conj(response(other, target.omega)))
    assert np.sum(left.real) == pytest.approx(float(score(search.compact(other, SIZE), target)), abs=1e-12)


@given(kinds, st.integers(0, 3), seeds)
def test_compact_keeps_the_response(kind, unused, seed):
    cascade = random_cascade(kind, seed)
    holes = np.sort(np.random.default_rng(seed).integers(0, len(kind) + 1, unused))
    holed = cascade._replace(
        **{k: np.insert(getattr(cascade, k), holes, 0) for k in ("log_t", "log_d", "kind")}
    )
    for size in (None, 9):
        packed = search.compact(holed, size)
        assert len(packed.kind) == (size or len(kind))
        assert search.n_sections(packed) == search.n_sections(holed) == len(kind)
        assert np.allclose(response(packed, log_grid(50)), response(cascade, log_grid(50)))


def test_refine_all_returns_every_candidate_best_first(problem):
    starts = [random_cascade([SECOND] * (1 + k % 3), k) for k in range(search.BATCH + 3)]
    found = search.refine_all(starts, problem, 2)
    scores = [s for s, _ in found]
    assert scores == sorted(scores, reverse=True)
    assert sorted(counts(c) for _, c in found) == sorted(counts(c) for c in starts)
    assert all(s == pytest.approx(np.sum(residual(c, problem.target).real)) for s, c in found)


@given(st.lists(st.tuples(st.integers(0, 6), st.sampled_from([-1.0, 1.0])), max_size=30), st.integers(1, 8))
def test_select_keeps_the_best_that_differ(pairs, beam):
    found = [search.Candidate(s / 6, make([100.0], [1.0], [SECOND], polarity=p)) for s, p in pairs]
    kept = search.select(found, beam)
    scores = [s for s, _ in kept]
    assert len(kept) <= beam
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == len(scores)  # same score at the same delay is a twin
    assert bool(kept) == bool(found)
    if found:
        assert scores[0] == max(s for s, _ in found)
    for polarity in (-1.0, 1.0):
        assert sum(c.polarity == polarity for _, c in kept) <= max(1, 3 * beam // 4)


# Moves


@given(kinds, seeds)
def test_moves_make_valid_cascades_of_the_orders_they_promise(kind, seed):
    cascade = random_cascade(kind, seed)
    seconds, firsts = counts(cascade)
    overdamped = int(np.sum((cascade.kind == SECOND) & (np.exp(cascade.log_d) > 2)))
    words = problem_of(TRUTH)  # made for another cascade: moves must not care
    moves = {
        (seconds + 1, firsts): search.add_moves(cascade, words),
        (seconds - 1, firsts): search.remove_moves(cascade),
        (seconds - 1, firsts + 1): search.lower_order_moves(cascade),
    }
    same = search.swap_moves(cascade, words) + search.kind_change_moves(cascade)
    for expected, made in [*moves.items(), ((seconds, firsts), same)]:
        for moved in made:
            assert_valid(moved)
            assert counts(moved) == expected
    assert len(moves[seconds + 1, firsts]) > 0
    assert len(moves[seconds - 1, firsts]) == seconds
    assert bool(moves[seconds - 1, firsts + 1]) == bool(overdamped)
    assert bool(search.kind_change_moves(cascade)) == bool(overdamped and firsts)
    assert len(same) >= seconds + firsts  # every section has at least one exchange


def without(cascade, index):
    keep = np.arange(len(cascade.kind)) != index
    return cascade._replace(log_t=cascade.log_t[keep], log_d=cascade.log_d[keep], kind=cascade.kind[keep])


@pytest.mark.parametrize("index", [0, 1])
def test_an_addition_finds_the_section_that_was_taken_out(problem, index):
    ((start, found),) = search.refine_all([without(TRUTH, index)], problem, 20)
    grown = search.refine_all(search.add_moves(found, problem), problem, 25)
    assert start < 0.99
    assert grown[0][0] > start + 0.5 * (1 - start)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_an_exchange_finds_the_section_that_was_misplaced(problem, index):
    misplaced = TRUTH._replace(log_t=TRUTH.log_t.copy())
    misplaced.log_t[index] = log_t(3800.0)
    before = search.refine_all([misplaced], problem, 0)
    after = search.swap(before, problem, rounds=3)
    assert before[0][0] < 0.9
    assert after[0][0] > 1 - 1e-6
    assert np.exp(np.sort(after[0][1].log_t[after[0][1].kind == SECOND])) == pytest.approx(
        np.exp(np.sort(TRUTH.log_t[TRUTH.kind == SECOND])), rel=1e-2
    )


def test_an_exchange_keeps_what_it_cannot_better(problem):
    found = search.refine_all([random_cascade([SECOND], k) for k in range(3)], problem, 5)
    assert search.swap(found, problem)[0][0] >= found[0][0]


def test_growing_gains_and_pruning_finds_back(problem):
    start = search.refine_all([without(TRUTH, 0)], problem, 20)
    grown = search.grow(start, problem)
    assert grown[0][0] > start[0][0]
    assert {counts(c) for _, c in grown} == {(2, 1)}
    # One section too many, far above the others: the one to go.
    extra = make(
        [80.0, 400.0, 1500.0, 3700.0], [0.8, 1.5, 1.0, 0.5], [SECOND, SECOND, FIRST, SECOND], 5.5, -1.0
    )
    pruned = search.prune(search.refine_all([extra], problem, 0), problem)
    assert {counts(c) for _, c in pruned} == {(2, 1)}
    assert pruned[0][0] > 1 - 1e-6


@given(st.floats(0.02, 0.49), st.floats(60, 2000), seeds)
def test_the_halves_of_a_section_multiply_to_the_whole(q, cutoff_hz, seed):
    """Two real poles: each half is one of them."""
    rest = random_cascade([SECOND, FIRST], seed)._replace(log_d=np.zeros(2))
    cascade = rest._replace(
        log_t=np.append(rest.log_t, log_t(cutoff_hz)),
        log_d=np.append(rest.log_d, -np.log(q)),
        kind=np.append(rest.kind, SECOND).astype(np.int32),
    )
    made = search.lower_order_moves(cascade)
    poles = {round(float(c.log_t[-1]), 9): c for c in made}
    assert len(poles) == 2
    omega = log_grid(60)
    low, high = (response(poles[key]._replace(polarity=cascade.polarity), omega) for key in sorted(poles))
    assert np.allclose(low * high, response(cascade, omega) * response(rest, omega))


@pytest.mark.parametrize("far_hz", [1e-3, 1e3 * FS])
@pytest.mark.parametrize("polarity", [-1.0, 1.0])
def test_a_half_out_of_band_can_go(far_hz, polarity):
    """One pole at 300 Hz, the other far below or above the band, which is a turn of sign or nothing."""
    near = np.log(np.tan(np.pi * 300 / FS))
    far = np.log(np.pi * far_hz / FS)
    half = abs(near - far) / 2
    section = Cascade(
        np.float64(3.0),
        np.array([(near + far) / 2]),
        np.array([np.log(2 * np.cosh(half))]),
        np.array([SECOND], np.int32),
        np.float64(polarity),
    )
    target = target_of(section, log_grid())
    best = max(np.sum(residual(c, target).real) for c in search.lower_order_moves(section))
    # The phase left out is at most 2 atan of 1e-3 / 15 below, of 3 / 3000 above; the score loses its square.
    assert 1 - best < 1e-5


def test_transfers_let_a_section_and_the_first_order_one_change_roles():
    """True: first order at 100 Hz, Q = 1/2 at 2 kHz (two equal poles).  Found: the roles crossed."""
    truth = make([2000.0, 100.0], [0.5, 1.0], [SECOND, FIRST])
    poles = log_t([100.0, 2000.0])
    half = (poles[1] - poles[0]) / 2
    crossed = Cascade(
        np.float64(0),
        np.array([poles.mean(), poles[1]]),
        np.array([np.log(2 * np.cosh(half)), 0.0]),
        np.array([SECOND, FIRST], np.int32),
        np.float64(1),
    )
    omega = log_grid(60)
    # The same three poles, so the same response; a move must be able to tell them apart all the same.
    assert np.allclose(response(crossed, omega), response(truth, omega))
    scores = [np.sum(residual(c, target_of(truth, omega)).real) for c in search.kind_change_moves(crossed)]
    assert max(scores) == pytest.approx(1, abs=1e-9)


def test_random_starts_are_spread(problem):
    rng = np.random.default_rng(0)
    starts = search.random_starts(problem, [10.0, -20.0], (2, 1), 200, rng)
    assert all(counts(c) == (2, 1) for c in starts)
    for start in starts:
        assert_valid(start)
    assert {c.polarity for c in starts} == {-1.0, 1.0}
    delays = np.array([c.delay for c in starts])
    near_first, near_second = np.abs(delays - 10) < 15, np.abs(delays + 20) < 15
    assert np.all(near_first | near_second)
    assert near_first.sum() > near_second.sum() > 0  # the most trusted most often
    t = np.concatenate([c.log_t for c in starts])
    quartiles = np.histogram(t, 4, (float(log_t(15.0)), float(log_t(3900.0))))[0]
    assert np.all(quartiles > 0)


@pytest.mark.parametrize("polarity", [-1.0, 1.0])
@pytest.mark.parametrize("delay", [-7.0, 12.0])
def test_traced_starts_read_the_sections_off_the_phase(delay, polarity):
    truth = make([60.0, 900.0], [1.0, 1.2], [SECOND, SECOND], delay, polarity)
    problem = problem_of(truth)
    starts = search.traced_starts(problem, [delay, delay + 5], 0, 16)
    assert len(starts) == 4  # two delays, two polarities
    (start,) = [c for c in starts if c.delay == delay and c.polarity == polarity]
    assert_valid(start)
    assert counts(start) == (2, 0)
    assert start.log_t == pytest.approx(truth.log_t, abs=0.1)
    assert start.log_d == pytest.approx(truth.log_d, abs=0.4)
    assert search.refine_all([start], problem, 20)[0][0] > 1 - 1e-9


def test_traced_starts_keep_within_what_is_asked(problem):
    for start in search.traced_starts(problem, [-40.0, 0.0, 40.0], 1, 2):
        assert_valid(start)
        assert counts(start)[0] <= 2
        assert counts(start)[1] == 1


# Narrow sections


@pytest.fixture(scope="module")
def narrow():
    """A pole pair 5 Hz wide at 1.3 kHz, bins 2 Hz apart, and the fit that misses it."""
    truth = make([100.0, 1300.0], [0.8, 260.0], [SECOND, SECOND])
    problem = Problem(target_of(truth, 2 * np.pi * np.arange(20, 3900, 2) / FS), BOUNDS)
    return truth, problem, search.refine_all([without(truth, 1)], problem, 20)


def test_narrow_sections_stand_out_of_the_residual(narrow):
    truth, problem, found = narrow
    sections, gains = search.narrow_sections(found[0][1], problem)
    assert sections.shape == (len(gains), 2)
    assert np.all(np.diff(gains) <= 0)
    assert np.exp(sections[0, 0]) == pytest.approx(np.exp(truth.log_t[1]), rel=2e-3)
    # A gain is what the score rises by, were the section put in as it is.
    wider = search.with_section(search.compact(found[0][1]), *sections[0], kind=SECOND)
    before, after = (np.sum(residual(c, problem.target).real) for c in (found[0][1], wider))
    assert gains[0] == pytest.approx(after - before, rel=1e-9)


@pytest.mark.parametrize("most", [1, 2])
def test_insert_narrow_gains_and_keeps_the_number(narrow, most):
    _, problem, found = narrow
    after = search.insert_narrow(found, problem, most)
    assert after[0][0] >= found[0][0]
    assert all(counts(c)[0] <= most for _, c in after)
    if most == 2:
        assert after[0][0] > 1 - 1e-9


def test_insert_narrow_leaves_a_perfect_fit_alone(narrow):
    truth, problem, _ = narrow
    perfect = search.refine_all([truth], problem, 2)
    assert search.insert_narrow(perfect, problem, 8) == perfect
