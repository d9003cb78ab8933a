"""Checkpoints: what is restored is what was saved, to the bit, or one sentence says why not."""

import contextlib
import errno
import importlib.util
import json
import logging
import os
import pathlib
import random
import shutil
import socket
import subprocess
import sys
import threading
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jaxapf import _steps
from jaxapf.checkpoint import (
    CheckpointError,
    Checkpoints,
    DamagedCheckpointWarning,
    describe,
    kept,
    load,
    read,
)

PROGRAMS = pathlib.Path(__file__).parent / "programs"
CONFIG = {"model": {"order": 8, "taps": [1, 2]}, "lr": 0.1, "wet": True}


class State(NamedTuple):
    """A training state like that of jaxapf.train, which is none of this file's business."""

    step: Any
    params: Any
    opt_state: Any
    key: Any


def state_at(step):
    """A state whose every leaf depends on the step."""
    rng = np.random.default_rng(step)
    kernel = jnp.asarray(rng.standard_normal((5, 3)), jnp.float32)
    params = {"dense_0": {"kernel": kernel, "bias": jnp.full(3, step, jnp.bfloat16)}}
    opt_state = jax.tree.map(lambda leaf: leaf + leaf.dtype.type(step), optax.adam(1e-3).init(params))
    return State(jnp.int32(step), params, opt_state, jax.random.key(step))


def bits(leaf):
    data = jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
    return np.asarray(data).tobytes()


def assert_same(got, expected):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert (one.shape, one.dtype, bits(one)) == (other.shape, other.dtype, bits(other))


def filled(folder, *steps, **options):
    with Checkpoints(folder, config=CONFIG, **options) as checkpoints:
        for step in steps:
            checkpoints.save(state_at(step), {"loss": 1 / step})
    return folder


@pytest.fixture(scope="module")
def two_steps(tmp_path_factory):
    """A folder with steps 1 and 2, to be copied before anything is done to it."""
    return filled(tmp_path_factory.mktemp("checkpoints") / "two", 1, 2)


@pytest.fixture
def folder(two_steps, tmp_path):
    return pathlib.Path(shutil.copytree(two_steps, tmp_path / "run"))


def restored(checkpoints, like):
    state = checkpoints.restore(like)
    assert state is not None
    return state


def compilations(jitted):
    return jitted._cache_size()


def names_in(folder):
    return sorted(entry.name for entry in folder.iterdir())


def cause(function, *args, **options):
    with pytest.raises(CheckpointError) as caught:
        function(*args, **options)
    return str(caught.value)


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
    go_on, seal = threading.Event(), _steps.seal
    monkeypatch.setattr(_steps, "seal", lambda *args: go_on.wait(60) and seal(*args))
    with Checkpoints(tmp_path / "new") as checkpoints:
        checkpoints.save(state_at(1))
        assert not (tmp_path / "new" / "1").exists()
        go_on.set()
        checkpoints.wait()
        assert (tmp_path / "new" / "1").is_dir()


def test_what_is_saved_is_what_was_true_though_the_state_is_donated_at_once(tmp_path, monkeypatch):
    go_on, seal = threading.Event(), _steps.seal
    monkeypatch.setattr(_steps, "seal", lambda *args: go_on.wait(60) and seal(*args))
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
    leaves = {"jax": jnp.arange(5.0), "numpy": np.arange(5.0)}
    for name, copy in _steps.to_host(leaves).items():
        assert not np.shares_memory(copy, np.asarray(leaves[name])), name


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


# What is kept


def independent_choice(values, keep_last, keep_best, best):
    """Steps to keep, found one at a time."""
    chosen = {step for step in values if sum(other > step for other in values) < keep_last}
    rest = {step: value for step, value in values.items() if value is not None and np.isfinite(value)}
    for _ in range(min(keep_best, len(rest))):
        extreme = min(rest.values()) if best == "min" else max(rest.values())
        first = min(step for step, value in rest.items() if value == extreme)
        chosen.add(first)
        del rest[first]
    return chosen


@given(
    st.dictionaries(st.integers(0, 50), st.one_of(st.none(), st.floats(), st.integers(-3, 3)), max_size=12),
    st.integers(1, 4),
    st.integers(0, 4),
    st.sampled_from(["min", "max"]),
)
@example({1: 3, 2: 0, 3: 0, 4: 5}, 1, 1, "min")
@example({1: 3, 2: 5, 3: 5, 4: 0}, 1, 1, "max")
def test_the_newest_and_the_best_are_kept(values, keep_last, keep_best, best):
    metrics = {step: {} if value is None else {"esr": value} for step, value in values.items()}
    got = kept(list(values), metrics, keep_last, keep_best, "esr", best)
    assert got == independent_choice(values, keep_last, keep_best, best)


@pytest.mark.parametrize(
    ("options", "steps", "best"),
    [
        ({}, [2, 6, 7], 2),
        ({"keep_last": 1, "keep_best": 2}, [2, 3, 7], 2),
        ({"keep_last": 3, "keep_best": 0}, [5, 6, 7], 6),
        ({"best": "max"}, [1, 6, 7], 1),
        ({"metric": "other"}, [6, 7], None),
    ],
)
def test_steps_on_the_disk(options, steps, best, tmp_path):
    losses = [9.0, 1.0, 2.0, np.nan, -np.inf, 4.0, None]
    with Checkpoints(tmp_path / "new", **options) as checkpoints:
        for step, loss in enumerate(losses, 1):
            checkpoints.save({"step": np.int32(step)}, None if loss is None else {"loss": loss})
        assert checkpoints.steps() == steps
        assert sorted(map(int, names_in(tmp_path / "new"))) == steps
        like = {"step": np.int32(0)}
        if best is None:
            assert "no step in" in cause(checkpoints.restore_best, like)
        else:
            assert checkpoints.restore_best(like) == {"step": best}
        assert checkpoints.restore(like) == {"step": 7}


def test_the_best_is_known_after_reopening(tmp_path):
    filled(tmp_path / "new", 1)
    with Checkpoints(tmp_path / "new") as checkpoints:
        for step in (2, 3, 4):
            checkpoints.save(state_at(step), {"loss": 2.0})
        assert checkpoints.steps() == [1, 3, 4]
        assert_same(checkpoints.restore_best(state_at(0)), state_at(1))


def test_metrics_come_back_as_they_were(tmp_path):
    given_metrics = {
        "loss": jnp.float32(0.1),
        "half": jnp.bfloat16(0.5),
        "nan": np.nan,
        "low": -np.inf,
        "count": np.int64(2**40),
        "flag": True,
    }
    expected = {"loss": float(np.float32(0.1)), "half": 0.5, "low": -np.inf, "count": 2**40, "flag": 1}
    with Checkpoints(tmp_path / "new") as checkpoints:
        checkpoints.save(state_at(1), given_metrics)
        first = checkpoints.metrics()[1]
        with pytest.raises(TypeError, match="'loss'"):
            checkpoints.save(state_at(2), {"loss": np.ones(2)})
        with pytest.raises(TypeError, match="'name'"):
            checkpoints.save(state_at(2), {"name": "text"})
    text = (tmp_path / "new" / "1" / "meta" / "metadata").read_text()
    json.loads(text, parse_constant=pytest.fail)  # NaN and Infinity are no JSON
    with Checkpoints(tmp_path / "new") as checkpoints:
        reopened = checkpoints.metrics()[1]
    for metrics in (first, describe(tmp_path / "new")[1]["metrics"], reopened):
        assert np.isnan(metrics["nan"])
        assert {name: value for name, value in metrics.items() if name != "nan"} == expected


def test_the_same_step_again(folder):
    before = (folder / "2" / "meta" / "metadata").stat().st_mtime_ns
    with Checkpoints(folder, config=CONFIG) as checkpoints:
        checkpoints.save(state_at(2), {"loss": 3.0})
        assert checkpoints.steps() == [1, 2]
        assert "of another course" in cause(checkpoints.save, state_at(2)._replace(key=jax.random.key(9)))
        assert "holds step 2" in cause(checkpoints.save, state_at(0))
        checkpoints.save(state_at(3))
        checkpoints.save(state_at(3))
    assert (folder / "2" / "meta" / "metadata").stat().st_mtime_ns == before


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
            "'params/dense_0/extra', float32 (3,), is missing in STEP, but the state given has it",
        ),
        (
            changed(opt_state=optax.sgd(0.1).init(np.zeros(2))),
            "'opt_state/0/count', int32 (), is in STEP, but not in the state given",
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


# Damage


def files_of(step_folder):
    return sorted(entry for entry in step_folder.rglob("*") if entry.is_file())


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def lengthen(path):
    path.write_bytes(path.read_bytes() + b"0")


def empty(path):
    path.write_bytes(b"")


def assert_falls_back(folder, like, step):
    """Restores `step` instead of the damaged 2, with one warning that names both; 2 can be saved again."""
    with Checkpoints(folder, config=CONFIG) as checkpoints:
        with pytest.warns(DamagedCheckpointWarning) as caught:
            got = checkpoints.restore(like)
        assert_same(got, state_at(step))
        checkpoints.save(state_at(2))
        assert_same(checkpoints.restore(like), state_at(2))
    (warning,) = caught
    assert "step 2 (" in str(warning.message)
    assert f"step {step} is used" in str(warning.message)
    assert warning.filename == __file__
    assert names_in(folder) == ["1", "2", "2.damaged"]


@pytest.mark.parametrize("damage", [cut, flip, lengthen, empty, pathlib.Path.unlink])
def test_a_damaged_file_of_the_newest_step(damage, two_steps, tmp_path, capfd):
    files = [path.relative_to(two_steps) for path in files_of(two_steps / "2")]
    assert len(files) > 10
    without_effect = []
    for index, file in enumerate(files):
        folder = pathlib.Path(shutil.copytree(two_steps, tmp_path / str(index)))
        damage(folder / file)
        # Files that Orbax wrote for itself and that say nothing of the arrays.
        if file.name == "_CHECKPOINT_METADATA" or (
            file.name == "commit_success.txt" and "state" not in file.parts
        ):
            without_effect.append(file)
            assert_same(load(folder, state_at(0)), state_at(2))
        else:
            assert_falls_back(folder, state_at(0), 1)
    assert len(without_effect) == 3
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("lost", ["meta", "state", "."])
def test_an_emptied_folder(lost, folder):
    path = folder / "2" / lost
    shutil.rmtree(path)
    path.mkdir()
    assert_falls_back(folder, state_at(0), 1)


def test_arrays_that_are_not_those_of_the_document(folder):
    # As after a mistake in memory: every file is as it was written, but not what was saved.
    shutil.rmtree(folder / "2" / "state")
    shutil.copytree(folder / "1" / "state", folder / "2" / "state")
    (folder / "2").rename(folder / "2.tmp")
    _steps.seal(folder, 2)
    (folder / "2.tmp").rename(folder / "2")
    with pytest.warns(DamagedCheckpointWarning, match=r"'\w\S*' is not what was saved"):
        load(folder, state_at(0))
    assert_falls_back(folder, state_at(0), 1)


def test_damage_twice_keeps_the_last(folder):
    for _ in range(2):
        cut(folder / "2" / "meta" / "metadata")
        assert_falls_back(folder, state_at(0), 1)


def test_several_damaged_steps_make_one_warning(tmp_path):
    folder = filled(tmp_path / "new", 1, 2, 3, keep_last=3)
    for step in (2, 3):
        flip(folder / str(step) / "meta" / "files")
    with pytest.warns(
        DamagedCheckpointWarning, match=r"step 3 \(.*\); step 2 \(.*\); step 1 is used"
    ) as caught:
        assert_same(Checkpoints(folder).restore(state_at(0)), state_at(1))
    assert len(caught) == 1
    assert names_in(folder) == ["1", "2.damaged", "3.damaged"]


def test_the_best_step_is_damaged(tmp_path):
    folder = filled(tmp_path / "new", 1, 2, 3, keep_last=3)
    flip(folder / "3" / "state" / "manifest.ocdbt")
    with pytest.warns(DamagedCheckpointWarning, match="step 2 is used"), Checkpoints(folder) as checkpoints:
        assert_same(checkpoints.restore_best(state_at(0)), state_at(2))


def test_where_all_is_damaged_nothing_is_touched(folder):
    for step in (1, 2):
        cut(folder / str(step) / "meta" / "metadata")
    for _ in range(2):  # or the second start would begin anew in silence
        with Checkpoints(folder) as checkpoints:
            message = cause(checkpoints.restore, state_at(0))
            assert "no whole checkpoint" in message
            assert "step 2 (file 'meta/metadata'" in message
            assert checkpoints.steps() == []
    assert "no whole checkpoint" in cause(read, folder)
    assert names_in(folder) == ["1", "2"]


def test_a_damaged_step_that_was_asked_for_has_no_substitute(folder):
    flip(folder / "2" / "meta" / "metadata")
    with Checkpoints(folder) as checkpoints:
        assert "step 2 (" in cause(checkpoints.restore, state_at(0), step=2)
        assert_same(checkpoints.restore(state_at(0), step=1), state_at(1))
        assert "has no step 7; there are: 1, 2" in cause(checkpoints.restore, state_at(0), step=7)
    assert names_in(folder) == ["1", "2"]


@pytest.mark.parametrize(("module", "function"), [(pathlib.Path, "read_bytes"), (_steps, "_file_checksum")])
def test_a_file_that_may_not_be_opened_is_no_damage(module, function, folder, monkeypatch):
    def forbidden(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with Checkpoints(folder) as checkpoints:
        monkeypatch.setattr(module, function, forbidden)
        message = cause(checkpoints.restore, state_at(0))
    assert f"{folder}/2/" in message
    assert "cannot be opened: Permission denied" in message
    assert names_in(folder) == ["1", "2"]


def test_a_save_that_fails_is_told_and_costs_no_step(folder, monkeypatch, caplog):
    seal = _steps.seal

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def run():
        with Checkpoints(folder) as checkpoints:
            checkpoints.save(state_at(3))
            raise RuntimeError("the run")

    monkeypatch.setattr(_steps, "seal", full)
    checkpoints = Checkpoints(folder)
    expected = (
        f"step 3 was not written to '{folder}': No space left on device; the steps before it are as they were"
    )
    checkpoints.save(state_at(3))
    assert cause(checkpoints.wait) == expected
    checkpoints.save(state_at(3))
    assert cause(checkpoints.save, state_at(4)) == expected
    checkpoints.save(state_at(3))
    assert cause(checkpoints.close) == expected
    with pytest.raises(RuntimeError, match="the run") as caught:
        run()
    assert caught.value.__notes__ == [expected]
    assert caplog.records == []
    monkeypatch.setattr(_steps, "seal", seal)
    with Checkpoints(folder) as checkpoints:
        assert names_in(folder) == ["1", "2"]
        assert_same(checkpoints.restore(state_at(0)), state_at(2))
        checkpoints.save(state_at(3))
        assert_same(checkpoints.restore(state_at(0)), state_at(3))


# Folders


def test_a_new_folder_holds_nothing(tmp_path):
    with Checkpoints(tmp_path / "a" / "b") as checkpoints:
        assert checkpoints.restore(state_at(0)) is None
        assert checkpoints.restore_best(state_at(0)) is None
        assert checkpoints.steps() == []
        assert "there are: none" in cause(checkpoints.restore, state_at(0), step=1)


def test_folders_that_cannot_be(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("text")
    assert "is a file" in cause(Checkpoints, tmp_path / "file")
    assert "cannot be made or read: Not a directory" in cause(Checkpoints, tmp_path / "file" / "below")
    assert "it holds 'file'" in cause(Checkpoints, tmp_path)
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    assert "cannot be written" in cause(Checkpoints, tmp_path / "new")


def test_other_things_beside_steps_do_not_matter(folder):
    (folder / "notes.txt").write_text("text")
    (folder / ".hidden").mkdir()
    with Checkpoints(folder) as checkpoints:
        assert checkpoints.steps() == [1, 2]


def test_a_newer_schema(folder):
    path = folder / "2" / "meta" / "metadata"
    document = json.loads(path.read_text())
    path.write_text(json.dumps(_steps._sealed({**document, "schema": 2, "leaves": "other"})))
    expected = f"step 2 of '{folder}' has schema 2, this jaxapf reads 1; update it"
    assert cause(Checkpoints, folder) == expected
    assert cause(read, folder) == expected
    assert cause(describe, folder) == expected


def test_leftovers_of_a_killed_save_go_at_the_next_opening(folder):
    shutil.copytree(folder / "2", folder / "3.orbax-checkpoint-tmp")
    shutil.rmtree(folder / "3.orbax-checkpoint-tmp" / "meta")
    with Checkpoints(folder) as checkpoints:
        assert names_in(folder) == ["1", "2"]
        checkpoints.save(state_at(3))
        assert_same(checkpoints.restore(state_at(0)), state_at(3))


def test_closed_is_closed(folder):
    checkpoints = Checkpoints(folder)
    checkpoints.save(state_at(3))
    checkpoints.close()
    checkpoints.close()
    for use in (checkpoints.wait, checkpoints.steps, lambda: checkpoints.save(state_at(4))):
        assert "is closed" in cause(use)
    assert_same(load(folder, state_at(0)), state_at(3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep_last": 0}, "keep_last is 0"),
        ({"keep_best": -1}, "keep_best is -1"),
        ({"keep_last": 1.5}, "keep_last is 1.5"),
        ({"best": "low"}, "best is 'low'"),
    ],
)
def test_options(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        Checkpoints(tmp_path / "new", **options)


# Reading without writing


def test_read_gives_arrays_by_name(two_steps):
    arrays, meta = read(two_steps)
    assert np.array_equal(arrays["params/dense_0/kernel"], state_at(2).params["dense_0"]["kernel"])
    assert np.array_equal(arrays["key"], jax.random.key_data(jax.random.key(2)))
    assert meta["leaves"]["key"]["key"] == "threefry2x32"
    assert (meta["step"], meta["metrics"], meta["config"]) == (2, {"loss": 0.5}, CONFIG)
    assert meta["versions"]["jax"] == jax.__version__
    assert int(read(two_steps, 1)[0]["step"]) == 1
    assert describe(two_steps)[2] == meta


def test_reading_passes_over_damage_and_changes_nothing(folder):
    cut(folder / "2" / "state" / "manifest.ocdbt")
    before = {path: path.read_bytes() for path in files_of(folder)}
    for function in (read, lambda path: load(path, state_at(0))):
        with pytest.warns(DamagedCheckpointWarning, match="step 1 is used") as caught:
            function(folder)
        assert len(caught) == 1
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read(folder)
    assert caught[0].filename == __file__
    assert {path: path.read_bytes() for path in files_of(folder)} == before


def test_reading_what_is_not_there(folder, tmp_path):
    for function in (read, describe, lambda path: load(path, state_at(0))):
        assert "cannot be read: No such file" in cause(function, tmp_path / "nowhere")
        assert "cannot be read: Not a directory" in cause(function, folder / "1" / "meta" / "metadata")
        assert "holds no checkpoints" in cause(function, tmp_path)
    assert "has no step 5; there are: 1, 2" in cause(read, folder, 5)


# Other processes


@contextlib.contextmanager
def program(name, *args):
    """A running program of `tests/programs`; it ends with the block at the latest."""
    command = [sys.executable, str(PROGRAMS / name), *map(str, args)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def imported(name):
    spec = importlib.util.spec_from_file_location(name, PROGRAMS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def killed_at_random(folder, kills, seed):
    """Kill a run that saves and saves; after each time the newest step is whole and what was saved."""
    killed, rng, told = imported("checkpoint_killed"), random.Random(seed), 0
    for _ in range(kills):
        with program("checkpoint_killed.py", folder) as process:
            assert process.stdout is not None
            for _ in range(rng.randint(1, 4)):
                told = int(process.stdout.readline())
            try:
                process.wait(rng.uniform(0, 0.08))
            except subprocess.TimeoutExpired:
                process.kill()
            told = max([told, *map(int, process.stdout.read().split())])
        assert process.returncode == -9
        with Checkpoints(folder, config={"size": killed.SIZE}) as checkpoints:
            got = checkpoints.restore(killed.START)
            assert got is not None
            assert all(name.isdigit() for name in names_in(folder))
        assert got["step"] >= told - 1
        assert_same(got, killed.expected(int(got["step"])))


def test_killed_in_the_midst_of_saving(tmp_path):
    killed_at_random(tmp_path / "run", 3, seed=0)


@pytest.mark.slow
def test_killed_in_the_midst_of_saving_20_times(tmp_path):
    killed_at_random(tmp_path / "run", 20, seed=1)


def test_sharded_over_eight_devices_and_restored_onto_fewer(tmp_path):
    with program("checkpoint_devices.py", tmp_path / "run") as process:
        assert process.communicate()[0] == "whole\n"
        assert process.returncode == 0
    arrays, _ = read(tmp_path / "run", 3)
    values = np.random.default_rng(0).standard_normal((16, 6)).astype(np.float32)
    assert np.array_equal(arrays["rows"], values)
    like = {name: array for name, array in arrays.items() if name != "params"}
    like |= {"key": jax.random.key(0), "keys": jax.random.split(jax.random.key(0, impl="rbg"), 8)}
    assert "'params', float32 (16, 6), is in step 3" in cause(load, tmp_path / "run", like, step=3)
    got = load(tmp_path / "run", like | {"params": jnp.zeros((16, 6))}, step=3)
    assert_same(got["keys"], jax.random.split(jax.random.key(6, impl="rbg"), 8))
    assert np.array_equal(got["params"], values)


def test_two_processes_share_a_folder(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{probe.getsockname()[1]}"
    args = tmp_path / "run", coordinator, 2
    with (
        program("checkpoint_processes.py", *args, 0) as one,
        program("checkpoint_processes.py", *args, 1) as two,
    ):
        outputs = [process.communicate(timeout=60)[0] for process in (one, two)]
    assert [output.splitlines()[-1] for output in outputs] == ["whole", "whole"], outputs
    arrays, meta = read(tmp_path / "run")
    assert (meta["step"], int(arrays["step"])) == (3, 3)
    assert np.array_equal(arrays["rows"], np.arange(24, dtype=np.float32).reshape(8, 3) + 3)
    assert np.array_equal(arrays["key"], [7, 3])
