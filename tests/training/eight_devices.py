"""Training on eight virtual devices; run by test_parallel.py in a process of its own, which has them."""

import functools
import itertools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import PROBLEMS

from jaxapf._internal.arrays import enable_x64
from jaxapf.training import fit, parallel
from jaxapf.training.lowering import collective_bytes
from jaxapf.training.step import init_starts, init_state, make_train_step, many_starts

OPTIMIZER = optax.adam(1e-2)
PLANS = {"mesh": parallel.mesh, "pmap": parallel.pmap}
QUICK = ["dense", "cascade-blocked"]
CASES = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in PROBLEMS]
QUICK_CHANGES = [("mesh", "pmap")]
QUICK_RESULTS = [("dense", "pmap"), ("cascade-blocked", "mesh")]
CHANGES = [
    pytest.param(*change, marks=() if change in QUICK_CHANGES else pytest.mark.slow)
    for change in itertools.product(("single", *PLANS), repeat=2)
]


def relative(found, expected) -> float:
    """The largest relative error over the arrays of a pytree."""
    return max(
        float(np.linalg.norm(np.asarray(a) - np.asarray(b)) / np.linalg.norm(np.asarray(b)))
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    )


def trained(plan, problem, steps=20, state=None):
    state = init_state(problem.params, OPTIMIZER, key=jax.random.key(0)) if state is None else state
    state, history = plan.put_state(state), []
    for _ in range(steps):
        state, metrics = plan.step(state, plan.put_batch(problem.batch))
        history.append(metrics)
    return plan.get_state(state), plan.get_metrics(history)


@functools.cache
def of_one_device(name):
    """The problem of a name, its step, and what one device makes of it."""
    problem = PROBLEMS[name]()
    step = make_train_step(problem.loss_fn, OPTIMIZER, clip_norm=1.0)
    return problem, step, *trained(parallel.single(step), problem)


def test_there_are_eight_devices():
    assert jax.device_count() == 8


@pytest.mark.parametrize(
    ("name", "plan"),
    [
        pytest.param(name, plan, marks=() if (name, plan) in QUICK_RESULTS else pytest.mark.slow)
        for name in PROBLEMS
        for plan in PLANS
    ],
)
def test_many_devices_give_the_result_of_one(name, plan):
    problem, step, expected, expected_metrics = of_one_device(name)
    found, metrics = trained(PLANS[plan](step), problem)
    assert relative(found.params, expected.params) < 1e-6
    losses, expected_losses = ([one["loss"] for one in run] for run in (metrics, expected_metrics))
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
    assert expected_losses[-1] < 0.99 * expected_losses[0], "nothing was trained"
    assert int(found.step) == 20


@pytest.mark.parametrize("name", CASES)
def test_a_step_exchanges_the_gradient_and_nothing_else(name):
    problem = PROBLEMS[name]()
    plan = parallel.mesh(make_train_step(problem.loss_fn, OPTIMIZER))
    state = plan.put_state(init_state(problem.params, OPTIMIZER, key=jax.random.key(0)))
    program = plan.step.lower(state, plan.put_batch(problem.batch)).compile().as_text()
    parameters = sum(leaf.nbytes for leaf in jax.tree.leaves(problem.params))
    exchanged = collective_bytes(program)
    assert set(exchanged) == {"all-reduce"}
    assert len(re.findall(r" all-reduce(?:-start)?\(", program)) == 1
    assert parameters < exchanged["all-reduce"] <= parameters + 16  # loss and metrics travel along


@pytest.mark.parametrize("plan", ["single", *PLANS])
def test_a_plan_traces_its_step_once(plan):
    problem = PROBLEMS["dense"]()
    step = make_train_step(problem.loss_fn, OPTIMIZER)
    chex.clear_trace_counter()
    traced = chex.assert_max_traces(step, n=1)
    trained(getattr(parallel, plan)(traced), problem, steps=5)


@pytest.mark.parametrize("plan", PLANS)
def test_non_finite_parts_skip_the_step_on_all_devices(plan):
    problem = PROBLEMS["dense"]()
    made = PLANS[plan](make_train_step(problem.loss_fn, OPTIMIZER))
    state = init_state(problem.params, OPTIMIZER, key=jax.random.key(0))
    bad = {**problem.batch, "x": problem.batch["x"].copy()}
    bad["x"][-1, 0] = np.nan  # an example of the last device
    after, metrics = trained(made, problem._replace(batch=bad), steps=1, state=state)
    chex.assert_trees_all_equal(jax.device_get(after.params), problem.params)
    assert metrics[0]["skipped"] == 1
    assert int(after.skipped) == 1


@pytest.mark.parametrize("plan", PLANS)
def test_devices_draw_different_random_numbers(plan):
    def loss_fn(params, batch, key):
        # The mean over devices of a number is not that of one device unless all drew the same.
        drawn = jax.random.normal(key)
        return jnp.mean((params - batch) ** 2), {"first": drawn, "second": drawn**2}

    made = PLANS[plan](make_train_step(loss_fn, OPTIMIZER))
    state = made.put_state(init_state(jnp.zeros(()), OPTIMIZER, key=jax.random.key(0)))
    _, metrics = made.step(state, made.put_batch(np.ones(8, np.float32)))
    one = made.get_metrics([metrics])[0]
    assert one["second"] - one["first"] ** 2 > 0.1  # the variance of eight draws


def test_starts_spread_over_devices_equal_starts_on_one():
    problem = PROBLEMS["cascade-blocked"]()

    def init(key):
        return jax.tree.map(lambda leaf: leaf + jax.random.normal(key, leaf.shape), problem.params)

    step = many_starts(make_train_step(problem.loss_fn, OPTIMIZER))
    state = init_starts(init, OPTIMIZER, 16, key=jax.random.key(2))
    expected, _ = trained(parallel.single(step), problem, 10, state)
    plan = parallel.starts(step)
    found, metrics = trained(plan, problem, 10, state)
    assert relative(found.params, expected.params) < 1e-6
    assert metrics[-1]["loss"].shape == (16,)
    placed = plan.put_state(state)
    program = plan.step.lower(placed, plan.put_batch(problem.batch)).compile().as_text()
    assert collective_bytes(program) == {}
    assert placed.params["radius"].sharding.shard_shape((16, 3)) == (2, 3)


def test_the_loop_trains_alike_with_every_plan():
    problem = PROBLEMS["dense"]()
    step = make_train_step(problem.loss_fn, OPTIMIZER)
    state = init_state(problem.params, OPTIMIZER, key=jax.random.key(0))
    runs = {
        plan: fit.fit(getattr(parallel, plan)(step), state, lambda _: problem.batch, 12, log_every=5)
        for plan in ("single", *PLANS)
    }
    for plan in PLANS:
        assert relative(runs[plan].state.params, runs["single"].state.params) < 1e-6
        assert [one["step"] for one in runs[plan].records] == [5, 10, 12]
        losses, expected = ([one["loss"] for one in runs[name].records] for name in (plan, "single"))
        np.testing.assert_allclose(losses, expected, rtol=1e-5)


@pytest.mark.parametrize("plan", PLANS)
def test_a_batch_that_devices_cannot_share_is_refused(plan):
    made = PLANS[plan](make_train_step(PROBLEMS["dense"]().loss_fn, OPTIMIZER))
    with pytest.raises(ValueError, match=r"array\['x'\] has shape \(12, 3\) and there are 8 devices"):
        made.put_batch({"x": np.ones((12, 3), np.float32)})


def test_starts_that_devices_cannot_share_are_refused():
    problem = PROBLEMS["dense"]()
    plan = parallel.starts(many_starts(make_train_step(problem.loss_fn, OPTIMIZER)))
    state = init_starts(lambda key: problem.params, OPTIMIZER, 6, key=jax.random.key(0))
    with pytest.raises(ValueError, match="the starts, must be a multiple of 8"):
        plan.put_state(state)


@pytest.mark.parametrize(("first", "then"), CHANGES)
def test_a_run_goes_on_with_another_plan(first, then):
    problem = PROBLEMS["dense"]()
    step = make_train_step(problem.loss_fn, OPTIMIZER)
    state = init_state(problem.params, OPTIMIZER, key=jax.random.key(0))
    plans = {name: getattr(parallel, name)(step) for name in {first, then}}
    half = fit.fit(plans[first], state, lambda _: problem.batch, 5).state
    found = fit.fit(plans[then], half, lambda _: problem.batch, 10).state
    expected = fit.fit(parallel.single(step), state, lambda _: problem.batch, 10).state
    assert relative(found.params, expected.params) < 1e-6


def test_batches_have_the_precision_of_the_caller():
    seen = []

    def loss_fn(params, batch, key):
        seen.append((params.dtype, batch.dtype))
        return jnp.mean((params - batch) ** 2)

    with enable_x64():
        state = init_state(jnp.zeros(()), OPTIMIZER, key=jax.random.key(0))
        plan = parallel.mesh(make_train_step(loss_fn, OPTIMIZER))
        fit.fit(plan, state, lambda _: np.ones(8), 3)
    assert set(seen) == {(np.dtype(np.float64), np.dtype(np.float64))}
