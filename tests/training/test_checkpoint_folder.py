"""Folders of checkpoints: which steps they keep, what they may be, how they are read without writing."""

import json
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checkpoint_states import (
    CONFIG,
    assert_same,
    cause,
    filled,
    names_in,
    state_at,
)
from hypothesis import example, given
from hypothesis import strategies as st

from jaxapf.training import steps
from jaxapf.training.checkpoint import Checkpoints, describe, kept, load, read

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
    path.write_text(json.dumps(steps._sealed({**document, "schema": 3, "leaves": "other"})))
    expected = f"step 2 of '{folder}' has schema 3, this jaxapf reads 2; update it"
    assert cause(Checkpoints, folder) == expected
    assert cause(read, folder) == expected
    assert cause(describe, folder) == expected


def as_schema_1(step_folder):
    """Rewrite a step as jaxapf before schema 2 wrote it: the files' checksums in a document of their own."""
    path = step_folder / "meta" / "metadata"
    document = json.loads(path.read_text())
    files = {"files": document.pop("files")}
    (step_folder / "meta" / "files").write_text(json.dumps(steps._sealed(files)))
    path.write_text(json.dumps(steps._sealed({**document, "schema": 1})))


def test_checkpoints_of_the_schema_before(folder):
    for step in ("1", "2"):
        as_schema_1(folder / step)
    assert describe(folder)[2]["metrics"] == {"loss": 0.5}
    assert_same(load(folder, state_at(0)), state_at(2))
    with Checkpoints(folder, config=CONFIG) as checkpoints:
        assert_same(checkpoints.restore(state_at(0)), state_at(2))
        checkpoints.save(state_at(3), {"loss": 0.4})
        assert checkpoints.steps() == [2, 3]
        assert_same(checkpoints.restore_best(state_at(0)), state_at(3))
    for path in ((folder / "2" / "state").rglob("*"), [folder / "2" / "meta" / "files"]):
        damaged = next(file for file in path if file.is_file())
        damaged.write_bytes(damaged.read_bytes()[:-1])
        assert "step 2 (file '" in cause(load, folder, state_at(0), step=2)


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


def test_reading_what_is_not_there(folder, tmp_path):
    for function in (read, describe, lambda path: load(path, state_at(0))):
        assert "cannot be read: No such file" in cause(function, tmp_path / "nowhere")
        assert "cannot be read: Not a directory" in cause(function, folder / "1" / "meta" / "metadata")
        assert "holds no checkpoints" in cause(function, tmp_path)
    assert "has no step 5; there are: 1, 2" in cause(read, folder, 5)
