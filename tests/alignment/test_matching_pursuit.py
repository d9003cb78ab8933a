"""Placing sections one by one: dictionary, steps and rounds against SciPy, plain loops and known answers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxapf import allpass
from jaxapf.alignment import dictionary, matching_pursuit, rollouts
from jaxapf.alignment.features import BANDS, Features

FS = 44100.0
# Compiled once each, for all tests of a shape.
_place = jax.jit(matching_pursuit.place, static_argnums=(1, 2), static_argnames="rows")
_refine = jax.jit(matching_pursuit.refine)
_residual = jax.jit(matching_pursuit.residual)
OMEGA = (
    2 * np.pi / FS * np.sqrt(np.geomspace(20, 20e3, BANDS + 1)[1:] * np.geomspace(20, 20e3, BANDS + 1)[:-1])
).astype(np.float32)


def response(cutoff_hz, q, omega=OMEGA):
    """Of RBJ all-pass sections, by SciPy in float64."""
    sections = allpass.rbj(np.atleast_1d(cutoff_hz).astype(float), np.atleast_1d(q).astype(float), FS)
    frequencies: Any = omega.astype(float)
    return scipy.signal.freqz_sos(np.asarray(sections.sos), frequencies)[1]


def features(target, seed=0) -> Features:
    """Features of a response whose bands are random in level: (1, bands)."""
    total = np.random.default_rng(seed).uniform(0.1, 1.0, BANDS)
    total = (total / total.sum()).astype(np.float32)[None]
    return Features(OMEGA, (total * target).astype(np.complex64), total)


def placed(cutoff_hz, q, delay=0.0) -> matching_pursuit.PartialCascade:
    log_t = np.log(np.tan(np.pi / FS * np.asarray(cutoff_hz, np.float32)))
    rows = len(log_t)
    return matching_pursuit.PartialCascade(
        jnp.arange(rows),
        jnp.full(rows, delay, jnp.float32),
        jnp.asarray(log_t),
        -jnp.log(jnp.asarray(q, jnp.float32)),
        jnp.zeros(rows),
    )


def test_the_residual_is_what_scipy_leaves():
    problem = matching_pursuit.make_problem(features(np.ones(BANDS)), FS)
    cutoff_hz, q = [[300.0, 5000.0], [80.0, 12e3]], [[0.7, 3.0], [0.3, 9.0]]
    residual = _residual(placed(cutoff_hz, q, 2.5), problem)
    for row, sign in enumerate((1.0, -1.0)):
        fitted = response(cutoff_hz[row], q[row]) * np.exp(-2.5j * OMEGA)
        expected = sign * np.asarray(problem.cross[row]) * np.conj(fitted)
        np.testing.assert_allclose(residual[row], expected, atol=2e-7)


def test_gains_are_those_of_a_loop_over_atoms_and_delays():
    truth = response([700.0], [1.1]) * np.exp(-3j * OMEGA)
    problem = matching_pursuit.make_problem(features(truth), FS)
    residual = _residual(matching_pursuit.empty(problem, 1), problem)
    found, shift = dictionary.gains(matching_pursuit.atoms(problem), residual)
    shifts = FS * np.concatenate([[0.0], 5e-6 * 2.0 ** np.arange(8), -5e-6 * 2.0 ** np.arange(8)])
    folded = [
        (np.asarray(residual[0]) * np.exp(1j * OMEGA * d)).reshape(-1, dictionary.FOLD).sum(axis=1)
        for d in shifts
    ]
    centres = OMEGA.reshape(-1, dictionary.FOLD).mean(axis=1)
    for atom in (0, 100, 155, matching_pursuit.ATOMS - 1):
        row, column = divmod(atom, len(matching_pursuit.ATOM_Q))
        expected = response(matching_pursuit.ATOM_HZ[row], matching_pursuit.ATOM_Q[column], centres)
        scores = [np.sum(z * np.conj(expected)).real for z in folded]
        assert float(found[0, atom]) == pytest.approx(max(scores), abs=1e-4)
        assert float(shift[0, atom]) == pytest.approx(shifts[int(np.argmax(scores))], rel=1e-5)


def test_proposals_are_apart():
    values = jnp.asarray(np.random.default_rng(1).uniform(size=(3, matching_pursuit.ATOMS)), jnp.float32)
    found = np.asarray(matching_pursuit.distinct(values, 5))
    places = found // (matching_pursuit.APART * len(matching_pursuit.ATOM_Q))
    assert all(len(set(row)) == 5 for row in places.tolist())
    np.testing.assert_array_equal(found[:, 0], np.argmax(values, axis=1))


@given(
    hz=st.lists(st.floats(30, 18e3), min_size=3, max_size=3),
    q=st.lists(st.floats(0.11, 9), min_size=3, max_size=3),
    delay=st.floats(-20, 20),
    seed=st.integers(0, 99),
)
@settings(max_examples=25, deadline=None)
def test_refining_never_loses_and_stays_in_range(hz, q, delay, seed):
    phase = np.random.default_rng(seed).uniform(-np.pi, np.pi, BANDS)
    problem = matching_pursuit.make_problem(features(np.exp(1j * phase), seed), FS)
    start = placed([hz] * 2, [q] * 2, delay)
    before = np.asarray(jnp.sum(_residual(start, problem).real, axis=1))
    active = jnp.array([True, True, False])
    found = _refine(start, problem, active)
    assert np.all(np.asarray(found.reached) >= before - 1e-6)
    np.testing.assert_array_equal(found.log_t[:, 2], start.log_t[:, 2])
    cutoff_hz = np.arctan(np.exp(np.asarray(found.log_t, float))) * FS / np.pi
    assert np.all((cutoff_hz > 19.9) & (cutoff_hz < 20.1e3))
    assert np.all(np.abs(np.asarray(found.log_d)) <= np.log(10) + 1e-5)
    assert np.all(np.abs(np.asarray(found.delay)) <= 0.003 * FS + 1e-3)


@pytest.mark.parametrize(
    ("polarity", "cutoff_hz", "q"), [(1, 900.0, 1.4), (-1, 230.0, 0.5), (1, 6000.0, 0.9), (-1, 2500.0, 4.0)]
)
def test_a_known_section_is_found(polarity, cutoff_hz, q):
    delays = np.array([4.0, -9.0, 20.0, 0.0])  # candidates, one of them near
    truth = polarity * response(cutoff_hz, q) * np.exp(-4.4j * OMEGA)
    (level,) = features(truth).total
    shifted = level * truth * np.exp(1j * np.outer(delays, OMEGA))
    problem = matching_pursuit.make_problem(
        Features(OMEGA, shifted.astype(np.complex64), np.tile(level, (4, 1))), FS
    )
    found = _place(problem, matching_pursuit.greedy, 2)
    assert float(found.reached[0]) > 0.999
    assert problem.polarity[found.row[0]] == polarity
    assert np.all(np.diff(found.reached) <= 0)
    fitted = response(np.arctan(np.exp(found.log_t[0])) * FS / np.pi, np.exp(-found.log_d[0]))
    delay = delays[found.row[0] % 4] + float(found.delay[0])
    error = np.angle(truth * np.conj(polarity * fitted * np.exp(-1j * OMEGA * delay)))
    assert np.median(np.abs(error)) < np.radians(2)


def test_a_repeated_candidate_is_followed_once():
    (level,), truth = features(np.ones(BANDS)).total, response(900.0, 1.4)
    cross = np.stack([level * truth] * 3 + [level * truth * np.exp(2j * OMEGA)])
    problem = matching_pursuit.make_problem(
        Features(OMEGA, cross.astype(np.complex64), np.tile(level, (4, 1))), FS
    )
    found = _place(problem, matching_pursuit.greedy, 1, rows=4)
    assert sorted(np.asarray(found.row).tolist()) == [0, 3, 4, 7]


# Rollouts


def test_rollouts_that_do_not_depart_are_what_is_placed():
    truth = response([250.0, 1800.0], [0.6, 2.0]) * np.exp(-4.4j * OMEGA)
    problem = matching_pursuit.make_problem(features(truth), FS)
    rounds, reached = jax.jit(lambda problem, key: rollouts.rollout(lambda _, gains: gains, problem, 3, key))(
        problem, jax.random.key(0)
    )
    placed = jax.jit(
        lambda problem: matching_pursuit._in_rounds(problem, matching_pursuit.greedy, 3, rows=2)
    )(problem)
    np.testing.assert_allclose(reached[:2], placed.reached[jnp.argsort(placed.row)], atol=1e-5)
    assert _place(problem, matching_pursuit.greedy, 3).reached[0] >= jnp.max(placed.reached)
    rows = 2 + 2 * rollouts.TRIES  # no more than the problem has
    assert rounds.inputs.shape == (3, rows, rollouts.CHANNELS, BANDS)
    assert np.all(rounds.counts[:, :2])
    # Where one departs it counts from that round on.
    assert np.all(np.diff(np.asarray(rounds.counts, int), axis=0) >= 0)


def test_values_lie_between_what_is_reached_at_once_and_all():
    gains = jnp.linspace(0, 1, 5)
    np.testing.assert_array_equal(rollouts.final_share(jnp.zeros(5), gains), gains)
    np.testing.assert_allclose(rollouts.final_share(jnp.ones(5), gains), 1.0)
