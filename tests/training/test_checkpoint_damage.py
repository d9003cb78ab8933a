"""Checkpoints after damage, failed saves and kills, and those of several devices and processes."""

import builtins
import contextlib
import errno
import importlib.util
import json
import os
import pathlib
import random
import shutil
import socket
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checkpoint_states import (
    CONFIG,
    assert_same,
    cause,
    files_of,
    filled,
    names_in,
    state_at,
)

from jaxapf.training import steps
from jaxapf.training.checkpoint import Checkpoints, DamagedCheckpointWarning, load, read

PROGRAMS = pathlib.Path(__file__).parent / "programs"


# Damage


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
    document = json.loads((folder / "2" / "meta" / "metadata").read_text())
    (folder / "2").rename(folder / "2.orbax-checkpoint-tmp")
    steps.seal(folder, document)
    (folder / "2.orbax-checkpoint-tmp").rename(folder / "2")
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
        flip(folder / str(step) / "meta" / "metadata")
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


@pytest.mark.parametrize(("module", "function"), [(pathlib.Path, "read_bytes"), (builtins, "open")])
def test_a_file_that_may_not_be_opened_is_no_damage(module, function, folder, monkeypatch):
    def forbidden(*args):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with Checkpoints(folder) as checkpoints, monkeypatch.context() as patch:
        patch.setattr(module, function, forbidden)
        message = cause(checkpoints.restore, state_at(0))
    assert f"{folder}/2/" in message
    assert "cannot be opened: Permission denied" in message
    assert names_in(folder) == ["1", "2"]


def test_a_save_that_fails_is_told_and_costs_no_step(folder, monkeypatch, caplog):
    seal = steps.seal

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def run():
        with Checkpoints(folder) as checkpoints:
            checkpoints.save(state_at(3))
            raise RuntimeError("the run")

    monkeypatch.setattr(steps, "seal", full)
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
    monkeypatch.setattr(steps, "seal", seal)
    with Checkpoints(folder) as checkpoints:
        assert names_in(folder) == ["1", "2"]
        assert_same(checkpoints.restore(state_at(0)), state_at(2))
        checkpoints.save(state_at(3))
        assert_same(checkpoints.restore(state_at(0)), state_at(3))


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
    assert "'params' is float32 (16, 6) in step 3" in cause(load, tmp_path / "run", like, step=3)
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
