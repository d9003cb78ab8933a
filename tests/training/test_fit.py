"""The training loop: resuming, records, what it asks of the host, and how it fails."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import PROBLEMS

from jaxapf.training import data, fit, parallel
from jaxapf.training.step import init_starts, init_state, make_train_step, many_starts

OPTIMIZER = optax.adam(1e-2)
KEY = jax.random.key(3)
DATA = np.random.default_rng(0).standard_normal((40, 4)).astype(np.float32)


def loss_fn(params, batch, key):
    noise = 0.01 * jax.random.normal(key, params.shape)
    return jnp.mean(jnp.abs(batch - params - noise)), {"mean": jnp.mean(params)}


STEP = make_train_step(loss_fn, OPTIMIZER)
START = init_state(jnp.zeros((1, 4)), OPTIMIZER, key=KEY)
BATCH_AT = data.shuffled(DATA, 8, seed=1)
PLAN = parallel.single(STEP)
STARTS_PLAN = parallel.single(many_starts(STEP))


class Kept:
    """Checkpoints in memory."""

    def __init__(self):
        self.saved, self.metrics = {}, {}

    def save(self, state, metrics=None, *, step=None):
        self.saved[step], self.metrics[step] = jax.device_get(jax.random.key_data(state.key)), metrics
        self.saved[step] = jax.tree.map(jnp.copy, state)

    def wait(self):
        pass


def test_a_run_in_two_pieces_is_the_run_in_one():
    kept = Kept()
    whole = fit.fit(PLAN, START, BATCH_AT, 60, log_every=10)
    first = fit.fit(PLAN, START, BATCH_AT, 60, log_every=10, save_every=20, checkpoints=kept)
    assert sorted(kept.saved) == [20, 40, 60]
    rest = fit.fit(PLAN, kept.saved[40], BATCH_AT, 60, log_every=10)
    for run in (first, rest):
        np.testing.assert_array_equal(run.state.params, whole.state.params)
        jax.tree.map(np.testing.assert_array_equal, run.state.opt_state, whole.state.opt_state)
    times = ("seconds", "samples_per_s", "compile_s")
    assert [{k: v for k, v in one.items() if k not in times} for one in rest.records] == [
        {k: v for k, v in one.items() if k not in times} for one in whole.records[4:]
    ]


def test_records_are_means_over_the_steps_between_them():
    state, losses = START, []
    step = jax.jit(STEP)
    for position in range(25):
        state, metrics = step(state, BATCH_AT(position))
        losses.append(float(metrics["loss"]))
    seen = []
    run = fit.fit(PLAN, START, BATCH_AT, 25, log_every=10, on_record=seen.append)
    assert seen == run.records
    assert [one["step"] for one in seen] == [10, 20, 25]
    for record, part in zip(seen, (losses[:10], losses[10:20], losses[20:]), strict=True):
        assert record["loss"] == pytest.approx(np.mean(part), rel=1e-6)
    assert all(one["samples_per_s"] > 0 and one["seconds"] > 0 for one in seen)
    assert "compile_s" in seen[0]
    assert "compile_s" not in seen[1]


@pytest.mark.parametrize("prefetch", [0, 2])
def test_metrics_come_to_the_host_once_a_record(prefetch):
    fetched = []
    plan = PLAN._replace(get_metrics=lambda one, real=PLAN.get_metrics: fetched.append(len(one)) or real(one))
    run = fit.fit(plan, START, BATCH_AT, 25, log_every=10, prefetch=prefetch)
    assert fetched == [10, 10, 5]
    assert len(run.records) == 3


def test_the_state_stays_on_the_device():
    plan = PLAN
    state, batch = plan.put_state(START), jax.device_put(DATA)
    state, _ = plan.step(state, batch)
    with jax.transfer_guard("disallow"):
        for _ in range(3):
            state, _ = plan.step(state, batch)
    assert int(state.step) == 4


def test_starts_report_their_best():
    states = init_starts(lambda key: jax.random.normal(key, (1, 4)), OPTIMIZER, 3, key=KEY)
    run = fit.fit(STARTS_PLAN, states, BATCH_AT, 20, log_every=20)
    record = run.records[-1]
    assert 0 <= record["best_start"] < 3
    assert record["loss"] < record["loss_median"]
    assert run.state.params.shape == (3, 1, 4)


def test_evaluation_goes_into_the_record_and_the_checkpoint():
    kept = Kept()

    def evaluate(state):
        return {"distance": jnp.mean(jnp.abs(state.params))}

    run = fit.fit(
        PLAN,
        START,
        BATCH_AT,
        40,
        log_every=10,
        save_every=20,
        checkpoints=kept,
        evaluate=evaluate,
    )
    assert ["distance" in one for one in run.records] == [False, True, False, True]
    assert kept.metrics[40]["distance"] == pytest.approx(float(jnp.mean(jnp.abs(run.state.params))))


def broken_from(position):
    return lambda at: BATCH_AT(at) * np.float32(np.nan if at >= position else 1)


def test_a_run_that_only_skips_stops():
    message = "the last 20 steps were skipped, .* position 10.; lower the learning rate"
    with pytest.raises(fit.TrainingError, match=message):
        fit.fit(PLAN, START, broken_from(10), 1000, log_every=10, max_skipped=15)


def test_a_short_run_that_only_skips_stops_too():
    kept = Kept()
    with pytest.raises(fit.TrainingError, match="the last 12 steps were skipped"):
        fit.fit(PLAN, START, broken_from(0), 12, log_every=5, checkpoints=kept)


def test_a_run_that_ends_in_skipping_stops_too():
    with pytest.raises(fit.TrainingError, match="the last 29 steps were skipped"):
        fit.fit(PLAN, START, broken_from(1), 30, log_every=10)


@pytest.mark.parametrize("starts", [0, 3])
def test_parameters_that_overflow_stop_the_run_and_are_not_kept(starts):
    optimizer = optax.sgd(lambda count: jnp.where(jnp.less(count, 30), 1e-3, jnp.inf))
    step, kept = make_train_step(loss_fn, optimizer), Kept()
    state, plan = init_state(jnp.zeros((1, 4)), optimizer, key=KEY), parallel.single(step)
    if starts:
        state = init_starts(lambda key: jnp.zeros((1, 4)), optimizer, starts, key=KEY)
        plan = parallel.single(many_starts(step))
    with pytest.raises(
        fit.TrainingError, match="parameters are not finite any more, since a step between 30 and 40"
    ):
        fit.fit(plan, state, BATCH_AT, 60, log_every=10, checkpoints=kept)
    assert sorted(kept.saved) == [10, 20, 30]


def test_one_start_that_overflowed_does_not_stop_the_others():
    states = init_starts(lambda key: jax.random.normal(key, (1, 4)), OPTIMIZER, 3, key=KEY)
    broken = states._replace(params=states.params.at[1].set(jnp.inf))
    run = fit.fit(STARTS_PLAN, broken, BATCH_AT, 20, log_every=10)
    assert run.records[-1]["best_start"] != 1


def test_some_skipped_steps_are_counted_and_left_out_of_the_means():
    def batch_at(at):
        return BATCH_AT(at) * np.float32(np.inf if at % 10 == 3 else 1)

    run = fit.fit(PLAN, START, batch_at, 20, log_every=10)
    assert [one["skipped"] for one in run.records] == [1, 2]
    assert all(np.isfinite(one["loss"]) for one in run.records)


def test_a_finished_run_is_left_as_it_is():
    done = fit.fit(PLAN, START, BATCH_AT, 10)
    again = fit.fit(PLAN, done.state, BATCH_AT, 10)
    np.testing.assert_array_equal(again.state.params, done.state.params)
    assert again.records == []


def test_what_fails_in_the_data_reaches_the_caller_and_leaves_no_thread():
    def batch_at(at):
        if at == 7:
            raise OSError("disk gone")
        return BATCH_AT(at)

    with pytest.raises(OSError, match="disk gone"):
        fit.fit(PLAN, START, batch_at, 20)
    assert not [one for one in threading.enumerate() if one.name.startswith("jaxapf-batches")]


def test_evaluation_may_not_take_the_records_names():
    with pytest.raises(ValueError, match="evaluate returned 'step', a name of the record's own"):
        fit.fit(PLAN, START, BATCH_AT, 10, evaluate=lambda state: {"step": 1.0})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_skipped": 0}, "max_skipped is 0; expected at least 1"),
        ({"prefetch": -1}, "prefetch is -1; expected at least 0"),
        ({"steps": -3}, "steps is -3; expected at least 0"),
        ({"steps": "10"}, "steps is '10'; expected a whole number"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        fit.fit(PLAN, START, BATCH_AT, **{"steps": 10, **options})


def test_saving_between_records_is_refused():
    with pytest.raises(ValueError, match="save_every is 75 and log_every 50; give a multiple"):
        fit.fit(PLAN, START, BATCH_AT, 100, save_every=75)


@pytest.mark.parametrize("name", [pytest.param("dense", marks=pytest.mark.slow), "cascade-blocked"])
def test_problems_are_learnt(name):
    problem = PROBLEMS[name]()
    step = make_train_step(problem.loss_fn, OPTIMIZER)
    state = init_state(problem.params, OPTIMIZER, key=KEY)
    run = fit.fit(parallel.single(step), state, lambda _: problem.batch, 60, log_every=10)
    assert run.records[-1]["loss"] < 0.9 * run.records[0]["loss"]


def test_each_epoch_shows_every_example_once():
    batch_at = data.shuffled({"n": np.arange(12)}, 4, seed=3)
    epochs = [np.concatenate([batch_at(3 * epoch + n)["n"] for n in range(3)]) for epoch in range(3)]
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(12))
    assert not np.array_equal(epochs[0], epochs[1])


def test_shares_of_a_batch_make_the_batch():
    whole, first, second = (
        data.shuffled(DATA, 8, seed=3, rows=rows) for rows in (slice(None), slice(0, 4), slice(4, 8))
    )
    for position in range(7):
        np.testing.assert_array_equal(np.concatenate([first(position), second(position)]), whole(position))


@pytest.mark.parametrize(
    ("arrays", "size", "message"),
    [
        (np.zeros(3), 4, "arrays hold 3 examples and batch_size is 4"),
        ({"a": np.zeros(3), "b": np.zeros(4)}, 2, r"leading axes \[\(3,\), \(4,\)\]"),
        (np.zeros(3), 0, "batch_size is 0"),
        (np.float32(1), 1, "leading axes"),
    ],
)
def test_arrays_that_make_no_batches(arrays, size, message):
    with pytest.raises(ValueError, match=message):
        data.shuffled(arrays, size)
