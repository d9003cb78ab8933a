"""The training experiment: killed and resumed, in several processes, and its measurements."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.common.tables import goal
from experiments.training import __main__ as command
from experiments.training import config, evaluate
from experiments.training import train as training
from jaxapf import Alignment, cli
from jaxapf.training import checkpoint, logging
from jaxapf.training.lowering import lowered, wide_types
from jaxapf.training.step import init_starts, init_state, make_train_step, many_starts

pytestmark = pytest.mark.usefixtures("processes_compile_once")


def train(folder: Path, *words: str, timeout: float | None = None) -> subprocess.CompletedProcess | None:
    """Run `train`; None where it was killed after `timeout` seconds."""
    command = [sys.executable, "-m", "experiments.training", "train", "--folder", str(folder), *words]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    try:
        out, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return None
    return subprocess.CompletedProcess(command, process.returncode, out, errors)


WORDS = ("--steps", "120", "--log-every", "5", "--save-every", "10")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, processes_compile_once) -> Path:
    """A run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    done = train(folder, *WORDS)
    assert done is not None
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("kills", [1, 20])
@pytest.mark.slow
def test_a_killed_run_ends_in_the_same_bits(kills, whole, tmp_path):
    started = time.monotonic()
    assert train(tmp_path / "in peace", *WORDS) is not None
    seconds = time.monotonic() - started  # without compiling, which is done
    rng, killed, runs = random.Random(kills), 0, 0

    def time_to_kill():
        return seconds * rng.uniform(0.4, 1.1) if killed < kills else None

    while killed < kills:
        folder = tmp_path / str(runs)
        while (done := train(folder, *WORDS, timeout=time_to_kill())) is None:
            killed += 1
        assert done.returncode == 0, done.stderr
        assert evaluate.same_run(whole, folder)
        runs += 1


@pytest.mark.slow
def test_a_run_leaves_what_people_look_at(whole):
    records = logging.read_metrics(whole / "metrics.jsonl")
    assert [one["step"] for one in records] == list(range(5, 125, 5))
    assert records[-1]["loss"] < records[0]["loss"]
    assert (whole / "loss.svg").read_text(encoding="utf-8").lstrip().startswith("<svg")
    model = Alignment.load(whole / "model.json")
    assert len(model.sections.u) == 4
    assert np.all(np.isfinite(model.apply(np.ones(100, np.float32))))
    assert max(checkpoint.describe(whole / "checkpoints")) == 120
    assert cli.main(["info", str(whole), str(whole / "model.json")]) == 0


@pytest.mark.slow
def test_a_finished_run_says_the_same_again(whole):
    before = (whole / "model.json").read_bytes()
    done = train(whole, *WORDS)
    assert done is not None
    assert done.returncode == 0
    assert (whole / "model.json").read_bytes() == before


@pytest.mark.slow
def test_another_configuration_is_refused(whole):
    done = train(whole, *WORDS, "--seed", "3")
    assert done is not None
    assert done.returncode == 2
    assert "config 'seed' is 0" in done.stderr
    assert "Traceback" not in done.stderr


STARTS = ("--steps", "10", "--log-every", "5", "--save-every", "10", "--starts", "4", "--rate", "1e-5")


@pytest.fixture(scope="module")
def four_starts(tmp_path_factory, processes_compile_once) -> Path:
    """Four networks trained side by side by one process."""
    folder = tmp_path_factory.mktemp("starts")
    done = train(folder, *STARTS)
    assert done is not None
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_many_starts(four_starts):
    assert logging.read_metrics(four_starts / "metrics.jsonl")[-1]["best_start"] in range(4)
    assert len(Alignment.load(four_starts / "model.json").sections.u) == 4


@pytest.mark.slow
def test_starts_shared_by_processes_are_those_of_one(four_starts, tmp_path):
    evaluate.finished(evaluate.several(tmp_path, 2, *STARTS))
    one, two = (logging.read_metrics(folder / "metrics.jsonl") for folder in (four_starts, tmp_path))
    for record, other in zip(one, two, strict=True):
        assert record["best_start"] == other["best_start"]
        assert record["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert record["loss_median"] == pytest.approx(other["loss_median"], rel=1e-4)
    assert (tmp_path / "model.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--rate", "nan"), "argument --rate: 'nan' is no number above 0"),
        (("--starts", "0"), "argument --starts: '0' is no whole number of 1 or more"),
    ],
)
@pytest.mark.slow
def test_wrong_words(words, message, monkeypatch, capsys, loose_jax):
    with pytest.raises(SystemExit, match="2"):
        command.main(["train", *words])
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_a_plan_that_does_not_fit(capsys, loose_jax):
    assert command.main(["train", "--starts", "3", "--plan", "pmap"]) == 2
    assert "--plan pmap trains one network" in capsys.readouterr().err


def test_smoke(monkeypatch, tmp_path, capsys, loose_jax):
    """Two steps on short sequences, with everything that a run leaves."""
    monkeypatch.setattr(config, "LENGTH", 64)
    monkeypatch.setattr(config, "BATCH", 2)
    words = ("--steps", "2", "--log-every", "1", "--save-every", "1", "--plan", "single")
    assert command.main(["train", "--folder", str(tmp_path), *words]) == 0
    assert [one["step"] for one in logging.read_metrics(tmp_path / "metrics.jsonl")] == [1, 2]
    assert (tmp_path / "loss.svg").exists()
    assert len(Alignment.load(tmp_path / "model.json").sections.u) == 4
    assert "step 2: loss" in capsys.readouterr().out


@pytest.mark.slow
def test_intervals_that_do_not_fit(tmp_path):
    done = train(tmp_path, "--save-every", "30", "--log-every", "20")
    assert done is not None
    assert done.returncode == 2
    assert "save_every is 30 and log_every 20" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_its_steps_lower_for_every_platform(loose_jax):
    optimizer = training.make_optimizer(10)
    step = make_train_step(training.make_loss(48000.0), optimizer, clip_norm=1.0)
    batch = {name: jax.ShapeDtypeStruct((4, 512), jnp.float32) for name in ("dry", "wet")}
    init = training.model_at(1.0).init
    key = jax.random.key(0)
    one = jax.eval_shape(lambda key: init_state(init(key), optimizer, key=key), key)
    many = jax.eval_shape(lambda key: init_starts(init, optimizer, 2, key=key), key)
    for program in (*lowered(step, one, batch).values(), *lowered(many_starts(step), many, batch).values()):
        assert wide_types(program) == set()


@pytest.mark.slow
def test_the_tables():
    figure = {
        "rows": [{"step": 0.01, "layer": 0.0123, "difference": 2e-7}],
        "goals": [goal("overhead at most 2 %", 0.0123, True)],
    }
    text = evaluate.markdown(figure)
    assert "| 10 ms | 1.2 % | 2.0e-07 |" in text
    assert "Goals met: 1 of 1." in text


@pytest.mark.slow
def test_a_measurement_of_another_process(monkeypatch, loose_jax):
    found = evaluate.worker("scaling", "2", devices=2)
    assert found["devices"] == 2
    assert 0 < found["step_s"] < 60
    rows = evaluate.FIGURES["projection"].__globals__
    monkeypatch.setitem(rows, "worker", lambda *_, **__: COST)
    (row, *_) = evaluate.projection(Path())["rows"]
    assert row["MB exchanged"] == 4.0
    assert 0 < row["256: efficiency"] < row["8: efficiency"] < 1
    json.dumps(row)


COST = {"flops": 1e9, "bytes_accessed": 1e8, "collectives": {"all-reduce": 4_000_000}}
