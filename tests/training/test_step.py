"""The train step: against optimisers written out in float64, and what it promises about bad steps."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import PROBLEMS

from jaxapf.training.lowering import lowered, wide_types
from jaxapf.training.step import best_start, init_starts, init_state, make_train_step, many_starts

KEY = jax.random.key(0)
X = np.random.default_rng(0).standard_normal((16, 4)).astype(np.float32)
Y = (X @ np.array([1.0, -2.0, 0.5, 3.0])).astype(np.float32)


def linear_loss(params, batch, key):
    return jnp.mean((batch["x"] @ params["w"] - batch["y"]) ** 2)


def run(loss_fn, optimizer, batches, params=None, **options):
    state = init_state({"w": jnp.zeros(4)} if params is None else params, optimizer, key=KEY)
    step = jax.jit(make_train_step(loss_fn, optimizer, **options))
    history = []
    for batch in batches:
        state, metrics = step(state, batch)
        history.append(jax.device_get(metrics))
    return state, history


def adam_reference(gradient, w, steps, rate=0.1, b1=0.9, b2=0.999, eps=1e-8):
    """Kingma and Ba 2015, algorithm 1."""
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t in range(1, steps + 1):
        g = gradient(w)
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        w = w - rate * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
    return w


def linear_gradient(w):
    x, y = X.astype(np.float64), Y.astype(np.float64)
    return 2 * x.T @ (x @ w - y) / len(y)


def clipped_gradient(w, most=0.5):
    gradient = linear_gradient(w)
    return gradient * min(1.0, most / np.linalg.norm(gradient))


@pytest.mark.parametrize(
    ("options", "gradient"),
    [
        ({}, linear_gradient),
        ({"clip_norm": 0.5}, clipped_gradient),
        ({"clip_norm": 1e6}, linear_gradient),
        ({"accumulate": 4}, linear_gradient),
        ({"accumulate": 16, "clip_norm": 0.5}, clipped_gradient),
    ],
)
def test_twenty_steps_of_adam(options, gradient):
    state, history = run(linear_loss, optax.adam(0.1), [{"x": X, "y": Y}] * 20, **options)
    np.testing.assert_allclose(state.params["w"], adam_reference(gradient, np.zeros(4), 20), rtol=2e-5)
    assert int(state.step) == 20
    first = history[0]
    np.testing.assert_allclose(first["loss"], np.mean(Y.astype(np.float64) ** 2), rtol=1e-6)
    np.testing.assert_allclose(first["grad_norm"], np.linalg.norm(linear_gradient(np.zeros(4))), rtol=1e-6)


def test_accumulated_metrics_are_means_over_the_parts():
    def loss_fn(params, batch, key):
        return linear_loss(params, batch, key), {"mean": jnp.mean(batch["y"])}

    _, history = run(loss_fn, optax.sgd(0.1), [{"x": X, "y": Y}], accumulate=8)
    np.testing.assert_allclose(history[0]["mean"], np.mean(Y), rtol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_a_step_that_is_not_finite_changes_nothing_but_the_counts(bad):
    broken = {"x": np.where(np.arange(4) == 2, np.float32(bad), X), "y": Y}
    good = {"x": X, "y": Y}
    optimizer = optax.adam(optax.linear_schedule(0.1, 0.0, 100))
    before, _ = run(linear_loss, optimizer, [good] * 3)
    after, history = run(linear_loss, optimizer, [good] * 3 + [broken] * 2)
    chex.assert_trees_all_equal(after.params, before.params)
    chex.assert_trees_all_equal(after.opt_state, before.opt_state)  # the schedule waits too
    assert (int(after.step), int(after.skipped), int(after.skipped_in_row)) == (5, 2, 2)
    assert [int(one["skipped_in_row"]) for one in history] == [0, 0, 0, 1, 2]
    recovered, _ = run(linear_loss, optimizer, [good] * 3 + [broken] * 2 + [good])
    unbroken, _ = run(linear_loss, optimizer, [good] * 4)
    chex.assert_trees_all_equal(recovered.params, unbroken.params)
    assert (int(recovered.skipped), int(recovered.skipped_in_row)) == (2, 0)


def test_a_finite_loss_with_a_gradient_that_is_not_is_skipped():
    def loss_fn(params, batch, key):
        return jnp.sum(jnp.sqrt(params["w"]))  # its slope at zero is infinite

    state, history = run(loss_fn, optax.sgd(0.1), [0.0])
    assert np.isfinite(history[0]["loss"])
    assert int(state.skipped) == 1
    np.testing.assert_array_equal(state.params["w"], np.zeros(4))


def test_clipping_to_infinity_is_no_clipping():
    one, _ = run(linear_loss, optax.adam(0.1), [{"x": X, "y": Y}] * 3, clip_norm=np.inf)
    two, _ = run(linear_loss, optax.adam(0.1), [{"x": X, "y": Y}] * 3)
    np.testing.assert_allclose(one.params["w"], two.params["w"], rtol=1e-6)


def test_parameters_of_several_dtypes():
    def loss_fn(params, batch, key):
        return jnp.mean((params["a"].astype(jnp.float32) + params["b"] - 1.0) ** 2)

    params = {"a": jnp.zeros(3, jnp.bfloat16), "b": jnp.zeros(3)}
    state, history = run(loss_fn, optax.sgd(0.2), [0.0] * 20, params=params, clip_norm=1.0)
    assert state.params["a"].dtype == jnp.bfloat16
    assert history[-1]["loss"] < 0.01 * history[0]["loss"]


def test_each_step_has_its_own_randomness_and_repeats():
    def loss_fn(params, batch, key):
        return linear_loss(params, batch, key), {"drawn": jax.random.normal(key)}

    _, one = run(loss_fn, optax.sgd(0.1), [{"x": X, "y": Y}] * 4)
    _, two = run(loss_fn, optax.sgd(0.1), [{"x": X, "y": Y}] * 4)
    assert [a["drawn"] for a in one] == [a["drawn"] for a in two]
    assert len({float(a["drawn"]) for a in one}) == 4


def test_complex_parameters_go_downhill():
    target = np.array([1 + 2j, -3 + 0.5j], np.complex64)

    def loss_fn(params, batch, key):
        return jnp.mean(jnp.abs(params - target) ** 2)

    state, _ = run(loss_fn, optax.sgd(0.5), [0.0] * 60, params=jnp.zeros(2, jnp.complex64))
    np.testing.assert_allclose(state.params, target, atol=1e-5)


def test_an_optimiser_that_asks_for_the_loss_gets_it():
    optimizer = optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau(factor=0.5, patience=2))

    def flat(params, batch, key):
        return jnp.sum(params["w"] * 0.0) + 1.0

    state, _ = run(flat, optimizer, [0.0] * 8)
    assert float(state.opt_state[1].scale) < 1.0


def test_optimisers_that_keep_the_first_parameters_can_be_donated():
    optimizer = optax.chain(optax.adam(0.1), optax.contrib.schedule_free_sgd(0.1))
    state = init_state({"w": jnp.zeros(4)}, optimizer, key=KEY)
    step = jax.jit(make_train_step(linear_loss, optimizer), donate_argnums=0)
    state, _ = step(state, {"x": X, "y": Y})
    assert np.all(np.isfinite(state.params["w"]))


def test_starts_equal_runs_of_their_own():
    def init(key):
        return {"w": jax.random.normal(key, (4,))}

    optimizer = optax.adam(0.1)
    states = init_starts(init, optimizer, 3, key=KEY)
    step = jax.jit(many_starts(make_train_step(linear_loss, optimizer)))
    for _ in range(10):
        states, metrics = step(states, {"x": X, "y": Y})
    for number, key in enumerate(jax.random.split(KEY, 3)):
        alone, history = run(linear_loss, optimizer, [{"x": X, "y": Y}] * 10, params=init(key))
        np.testing.assert_allclose(states.params["w"][number], alone.params["w"], rtol=1e-5)
        np.testing.assert_allclose(metrics["loss"][number], history[-1]["loss"], rtol=1e-4)
    best, number = best_start(states, metrics["loss"])
    assert number == int(np.argmin(metrics["loss"]))
    np.testing.assert_array_equal(best.params["w"], states.params["w"][number])


def test_a_start_that_fails_leaves_the_others_alone():
    def init(key):
        return {"w": jax.random.normal(key, (4,))}

    optimizer = optax.adam(0.1)
    states = init_starts(init, optimizer, 3, key=KEY)
    broken = states._replace(params={"w": states.params["w"].at[1].set(jnp.nan)})
    step = jax.jit(many_starts(make_train_step(linear_loss, optimizer)))
    for _ in range(5):
        states, _ = step(states, {"x": X, "y": Y})
        broken, metrics = step(broken, {"x": X, "y": Y})
    for number in (0, 2):
        np.testing.assert_array_equal(broken.params["w"][number], states.params["w"][number])
    assert list(np.asarray(broken.skipped)) == [0, 5, 0]
    assert best_start(broken, metrics["loss"])[1] in (0, 2)


def test_a_loss_for_each_start():
    with pytest.raises(ValueError, match=r"losses has shape \(3,\) and states has leading axes \[\(2,\)\]"):
        best_start({"w": jnp.zeros(2)}, [1.0, 2.0, 3.0])


def test_no_start_left():
    with pytest.raises(ValueError, match="none of the 2 starts has a finite loss"):
        best_start({"w": jnp.zeros(2)}, [np.nan, np.inf])


QUICK = ["dense", "spectra", "cascade-blocked"]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in PROBLEMS]
)
def test_steps_compile_once_and_lower_for_every_platform(name):
    problem = PROBLEMS[name]()
    optimizer = optax.adamw(optax.cosine_decay_schedule(1e-3, 100))
    step = make_train_step(problem.loss_fn, optimizer, clip_norm=1.0)
    state = init_state(problem.params, optimizer, key=KEY)
    for platform, program in lowered(step, state, problem.batch).items():
        assert wide_types(program) == set(), platform
        assert "stablehlo" in program
    chex.clear_trace_counter()
    compiled = jax.jit(chex.assert_max_traces(step, n=1))
    for _ in range(3):
        state, _ = compiled(state, problem.batch)


def test_doubles_are_found(x64):
    program = lowered(lambda x: x * 2, jnp.ones(2, jnp.float64), platforms=["tpu"])["tpu"]
    assert wide_types(program) == {"f64"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip_norm": 0.0}, "clip_norm is 0.0; give a positive number"),
        ({"clip_norm": float("nan")}, "clip_norm is nan"),
        ({"accumulate": 0}, "accumulate is 0; expected at least 1"),
        ({"accumulate": 1.5}, "accumulate is 1.5; expected a whole number"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        make_train_step(linear_loss, optax.sgd(0.1), **options)


@pytest.mark.parametrize(
    ("loss_fn", "error", "message"),
    [
        (lambda p, b, k: p["w"], TypeError, r"a loss of shape \(4,\)"),
        (lambda p, b, k: jnp.sum(p["w"]).astype(jnp.complex64), TypeError, "dtype complex64"),
        (lambda p, b, k: (jnp.sum(p["w"]), {"loss": 1.0}), ValueError, "a metric 'loss'"),
        (
            lambda p, b, k: (jnp.sum(p["w"]), {"mine": p["w"]}),
            TypeError,
            r"the metric 'mine' of shape \(4,\)",
        ),
    ],
)
def test_wrong_losses(loss_fn, error, message):
    with pytest.raises(error, match=message):
        run(loss_fn, optax.sgd(0.1), [0.0])


def test_a_batch_that_cannot_be_parted_is_refused():
    with pytest.raises(ValueError, match=r"accumulate is 3 and an array of the batch has shape \(16, 4\)"):
        run(linear_loss, optax.sgd(0.1), [{"x": X, "y": Y}], accumulate=3)


def test_parameters_that_cannot_be_trained_are_refused():
    with pytest.raises(TypeError, match=r"params\['n'\] has dtype int32"):
        init_state({"n": jnp.arange(3)}, optax.sgd(0.1), key=KEY)


def test_a_raw_key_is_refused():
    with pytest.raises(TypeError, match=r"key must be a typed random key; make it with jax.random.key"):
        init_state(jnp.zeros(2), optax.sgd(0.1), key=jnp.zeros(2, jnp.uint32))
