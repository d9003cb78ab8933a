"""Checkpoints: what is restored is what was saved, to the bit, or one sentence says why not."""

import logging
import threading
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from checkpoint_states import (
    CONFIG,
    assert_same,
    cause,
    compilations,
    filled,
    names_in,
    restored,
    state_at,
)

from jaxapf.training import leaves, steps
from jaxapf.training.checkpoint import Checkpoints, describe, load

# There and back


def test_a_state_comes_back_bit_for_bit(two_steps):
    assert_same(load(two_steps, state_at(0)), state_at(2))
    assert_same(load(two_steps, state_at(0), step=1), state_at(1))


def test_shapes_alone_say_what_to_restore(folder):
    shapes = jax.eval_shape(lambda: state_at(0))
    with Checkpoints(folder) as checkpoints:
        assert_same(checkpoints.restore(shapes), state_at(2))
        assert_same(checkpoints.restore(shapes, step=1), state_at(1))


def test_leaves_have_stable_readable_names(two_steps):
    layer = ["dense_0/bias", "dense_0/kernel"]
    expected = ["step", *(f"params/{name}" for name in layer), "opt_state/0/count"]
    expected += [f"opt_state/0/{moment}/{name}" for moment in ("mu", "nu") for name in layer]
    assert sorted(describe(two_steps)[2]["leaves"]) == sorted([*expected, "key"])


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16", "int64", "int8", "uint32"])
def test_any_dtype_and_rank(dtype, tmp_path, x64):
    values = np.array([[np.pi, 2], [0, 100]]).astype(jnp.dtype(dtype))
    tree = {
        "matrix": jnp.asarray(values),
        "scalar": jnp.asarray(values[0, 0]),
        "none": jnp.asarray(values[:0]),
    }
    with Checkpoints(tmp_path / "new") as checkpoints:
        checkpoints.save(tree, step=0)
        assert_same(checkpoints.restore(tree), tree)


def test_odd_values(tmp_path):
    odd = np.array([np.nan, -np.nan, -0.0, np.inf, -np.inf, 1e-45], np.float32)
    odd.view(np.uint32)[0] |= 77  # the payload of a NaN
    tree = {
        "odd": jnp.asarray(odd),
        "flags": jnp.array([True, False]),
        "spectrum": jnp.asarray(np.array([1 + 2j, -0.0 - 1j], np.complex64)),
        "numpy": np.arange(3.0)[::-1],
        "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "number": np.float64(np.pi),
        "keys": jax.random.split(jax.random.key(3, impl="rbg"), 2),
    }
    with Checkpoints(tmp_path / "new") as checkpoints:
        checkpoints.save(tree, step=0)
        got = restored(checkpoints, tree)
    assert_same(got, tree)
    assert jax.tree.map(type, got) == jax.tree.map(type, tree)


def test_nothing_but_empty_arrays(tmp_path):
    tree = {"a": jnp.zeros((0, 3)), "b": jnp.zeros((2, 0), jnp.bfloat16), "c": optax.EmptyState()}
    with Checkpoints(tmp_path / "new") as checkpoints:
        checkpoints.save(tree, step=0)
        assert_same(checkpoints.restore(tree), tree)


def test_any_name(tmp_path):
    names = [
        "",
        ".",
        "..",
        " ",
        "a.b",
        "a/0",
        "a",
        "a/",
        "a/.zarray",
        "/",
        "ü",
        "'\"",
        "\n",
        "%2F",
        "x" * 300,
    ]
    tree = {name: {"a": jnp.full(3, index, jnp.float32)} for index, name in enumerate(names)}
    tree |= {f"{name}b": np.full(2, index) for index, name in enumerate(names)}
    with Checkpoints(tmp_path / "new") as checkpoints:
        checkpoints.save(tree, step=0)
        assert_same(checkpoints.restore(tree), tree)
    assert "a%2F/a" in describe(tmp_path / "new")[0]["leaves"]


@jax.tree_util.register_pytree_with_keys_class
class Twins(NamedTuple("Twins", [("one", Any), ("other", Any)])):
    """A node both of whose children have the same key."""

    def tree_flatten_with_keys(self):
        return [(jax.tree_util.DictKey("twin"), child) for child in self], None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(*children)


@pytest.mark.parametrize(
    ("tree", "kind", "message"),
    [
        ({"lr": 0.1}, TypeError, "a float at 'lr'"),
        ({"a": [jnp.ones(2), "text"]}, TypeError, "a str at 'a/1'"),
        ({"a": np.array(["text"])}, TypeError, "dtype <U4 at 'a'"),
        ({"a": None}, ValueError, "no arrays"),
        ({"a": Twins(np.ones(1), np.ones(1))}, ValueError, "two leaves named 'a/twin'"),
    ],
)
def test_what_is_no_array_is_refused(tree, kind, message, tmp_path):
    with Checkpoints(tmp_path / "new") as checkpoints:
        with pytest.raises(kind, match=message):
            checkpoints.save(tree, step=0)
        assert checkpoints.steps() == []


def test_the_step_is_the_leaf_of_that_name_unless_given(tmp_path):
    with Checkpoints(tmp_path / "new") as checkpoints:
        checkpoints.save({"step": np.int64(4)})
        checkpoints.save({"w": np.ones(2)}, step=5)
        assert checkpoints.steps() == [4, 5]
        for tree in ({"w": np.ones(2)}, {"step": np.arange(2)}, {"step": np.float32(1)}):
            with pytest.raises(ValueError, match="give step"):
                checkpoints.save(tree)
        steps: list[Any] = [-1, 2.5, "6"]
        for step in steps:
            with pytest.raises(ValueError, match="step is"):
                checkpoints.save({"w": np.ones(2)}, step=step)


def test_float64_is_refused_where_jax_has_it_switched_off(tmp_path):
    with Checkpoints(tmp_path / "new") as checkpoints:
        checkpoints.save({"w": np.full(2, np.pi)}, step=0)
        assert_same(checkpoints.restore({"w": np.zeros(2)}), {"w": np.full(2, np.pi)})
        message = cause(checkpoints.restore, {"w": jax.ShapeDtypeStruct((2,), np.float64)})
    assert "'w' is float64" in message
    assert "jax_enable_x64" in message


# Behind the training's back


def test_save_returns_before_the_step_is_written(tmp_path, monkeypatch):
    go_on, seal = threading.Event(), steps.seal
    monkeypatch.setattr(steps, "seal", lambda *args: go_on.wait(60) and seal(*args))
    with Checkpoints(tmp_path / "new") as checkpoints:
        checkpoints.save(state_at(1))
        assert not (tmp_path / "new" / "1").exists()
        go_on.set()
        checkpoints.wait()
        assert (tmp_path / "new" / "1").is_dir()


def test_what_is_saved_is_what_was_true_though_the_state_is_donated_at_once(tmp_path, monkeypatch):
    go_on, seal = threading.Event(), steps.seal
    monkeypatch.setattr(steps, "seal", lambda *args: go_on.wait(60) and seal(*args))
    step = jax.jit(lambda state: jax.tree.map(lambda leaf: leaf + 1, state), donate_argnums=0)
    state = step({"w": jnp.arange(300_000, dtype=jnp.float32)})
    with Checkpoints(tmp_path / "new") as checkpoints:
        checkpoints.save(state, step=1)
        for _ in range(20):
            state = step(state)
        jax.block_until_ready(state)
        go_on.set()
        got = restored(checkpoints, state)
    assert np.array_equal(got["w"], np.arange(300_000, dtype=np.float32) + 1)


def test_host_copies_share_no_memory_with_the_state():
    tree = {"jax": jnp.arange(5.0), "numpy": np.arange(5.0)}
    for name, copy in leaves.to_host(tree).items():
        assert not np.shares_memory(copy, np.asarray(tree[name])), name


def test_a_restored_state_goes_into_the_compiled_step_as_if_it_had_come_out_of_it(tmp_path):
    @jax.jit
    def step(state):
        traces.append(1)
        return {**state, "w": state["w"] * state["rate"], "count": state["count"] + 1}

    traces: list[int] = []
    device = jax.devices()[0]
    start = {
        "w": jnp.ones(3),
        "rate": jnp.asarray(0.5),  # weakly typed
        "ramp": jnp.broadcast_to(jnp.asarray(2), (3,)),  # weakly typed too
        "count": jax.device_put(jnp.int32(0), device),  # committed
        "key": jax.random.key(0),
        "kept": jax.device_put(jax.random.key(1), device),
    }
    step(start)
    with Checkpoints(tmp_path / "new") as checkpoints:
        checkpoints.save(start, step=0)
        got = restored(checkpoints, start)
        again = restored(checkpoints, got)
    for name, leaf in start.items():
        for one in (got[name], again[name]):
            assert (one.committed, one.sharding) == (leaf.committed, leaf.sharding), name
            assert one.aval == leaf.aval, name  # shape, dtype and weak type
    step(got)
    assert len(traces) == 1
    assert compilations(step) == 1


def test_a_restored_state_can_be_donated(folder):
    step = jax.jit(lambda params: jax.tree.map(lambda leaf: leaf * leaf, params), donate_argnums=0)
    expected = jax.tree.map(lambda leaf: leaf * leaf, state_at(2).params)
    with Checkpoints(folder) as checkpoints:
        first, second = restored(checkpoints, state_at(0)), restored(checkpoints, state_at(0))
        assert_same(step(first.params), expected)
        assert first.params["dense_0"]["kernel"].is_deleted()
        assert_same(second, state_at(2))


def test_nothing_is_printed_and_no_thread_is_left(tmp_path, capfd):
    before, filters = threading.enumerate(), list(logging.getLogger("absl").filters)
    filled(tmp_path / "new", 1, 2, 3, 4)
    with Checkpoints(tmp_path / "new", config=CONFIG) as checkpoints:
        checkpoints.restore(state_at(0))
    Checkpoints(tmp_path / "new").close()
    assert threading.enumerate() == before
    assert logging.getLogger("absl").filters == filters
    assert capfd.readouterr() == ("", "")


def test_adam_of_700_000_parameters_takes_no_more_room_than_its_arrays(tmp_path):
    rng = np.random.default_rng(0)
    tree = {name: rng.standard_normal((1000, 700)).astype(np.float32) for name in ("params", "mu", "nu")}
    with Checkpoints(tmp_path / "new") as checkpoints:
        checkpoints.save(tree, step=0)
    sizes = [entry.stat().st_size for entry in (tmp_path / "new").rglob("*") if entry.is_file()]
    assert sum(sizes) < 1.02 * 3 * 4 * 700_000
    assert len(sizes) < 20


# Another state, another configuration


def changed(**changes):
    return state_at(0)._replace(**changes)


def with_params(**layers):
    return changed(params={"dense_0": {**state_at(0).params["dense_0"], **layers}})


KEY = "'key' is random key threefry2x32 (2,) in STEP"


@pytest.mark.parametrize(
    ("like", "message"),
    [
        (
            with_params(kernel=jnp.zeros((5, 4))),
            "'params/dense_0/kernel' is float32 (5, 3) in STEP, but float32 (5, 4) in the state given",
        ),
        (
            with_params(bias=jnp.zeros(3)),
            "'params/dense_0/bias' is bfloat16 (3,) in STEP, but float32 (3,) in the state given",
        ),
        (
            with_params(extra=jnp.zeros(3)),
            "'params/dense_0/extra' is missing in STEP, but float32 (3,) in the state given",
        ),
        (
            changed(opt_state=optax.sgd(0.1).init(np.zeros(2))),
            "'opt_state/0/count' is int32 () in STEP, but missing in the state given",
        ),
        (
            changed(key=jax.random.key(0, impl="rbg")),
            f"{KEY}, but random key rbg (4,) in the state given",
        ),
        (
            changed(key=jax.random.split(jax.random.key(0))),
            f"{KEY}, but random key threefry2x32 (2, 2) in the state given",
        ),
        (
            changed(key=jax.random.key_data(jax.random.key(0))),
            f"{KEY}, but uint32 (2,) in the state given",
        ),
        (
            changed(step=jnp.zeros(1, jnp.int32)),
            "'step' is int32 () in STEP, but int32 (1,) in the state given",
        ),
    ],
)
def test_another_state_is_refused_by_its_first_leaf_and_nothing_is_set_aside(like, message, folder):
    difference = message.replace("STEP", f"step 2 of '{folder}'")
    expected = f"{difference}; give a state of the same model and optimiser, or another folder"
    with Checkpoints(folder) as checkpoints:
        assert cause(checkpoints.restore, like) == expected
        assert cause(checkpoints.restore_best, like) == expected
    assert cause(load, folder, like) == expected
    assert names_in(folder) == ["1", "2"]


@pytest.mark.parametrize(
    ("change", "key", "stored", "given_value"),
    [
        ({"lr": 0.2}, "lr", "0.1", "0.2"),
        ({"model": {"order": 9, "taps": [1]}}, "model.order", "8", "9"),
        ({"model": {"order": 8, "taps": [1, 3]}}, "model.taps", "[1, 2]", "[1, 3]"),
        ({"model": {"order": 8}}, "model.taps", "[1, 2]", "missing"),
        ({"model": 3}, "model", '{"order": 8, "taps": [1, 2]}', "3"),
        ({"seed": None}, "seed", "missing", "null"),
        ({"wet": 1}, "wet", "true", "1"),
    ],
)
def test_another_configuration_is_refused_by_its_first_key(change, key, stored, given_value, folder):
    message = cause(Checkpoints, folder, config={**CONFIG, **change})
    assert message == (
        f"config '{key}' is {stored} in step 1 of '{folder}', but {given_value} was given; "
        "use the same configuration, or another folder"
    )


def test_the_same_configuration_however_it_is_written(folder, tmp_path):
    Checkpoints(folder, config={"wet": True, "lr": 0.1, "model": {"taps": (1, 2), "order": 8.0}}).close()
    Checkpoints(folder, config=None).close()
    with Checkpoints(tmp_path / "new") as checkpoints:
        checkpoints.save(state_at(1))
    Checkpoints(tmp_path / "new", config=CONFIG).close()


@pytest.mark.parametrize("config", [{"a": np.ones(2)}, {"a": np.nan}, {"a": {1, 2}}])
def test_a_configuration_that_json_cannot_hold(config, tmp_path):
    with pytest.raises(TypeError, match="config cannot be kept as JSON"):
        Checkpoints(tmp_path / "new", config=config)
