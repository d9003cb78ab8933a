"""Several processes: the result of one, and one sentence soon after any of them dies.

The processes are real ones on this machine (`programs/several.py`), with JAX's CPU collectives between them.
"""

import argparse
import contextlib
import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jaxapf.training import distributed

PROGRAM = Path(__file__).with_name("programs") / "several.py"
RESUME = "start all processes again: the run resumes from its last checkpoint"
SOON_S = 30.0


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Started:
    """A process, its output in files, and the worker that it started."""

    def __init__(self, folder, name, flags, devices=1):
        self.files = [folder / f"{name}.{stream}" for stream in ("out", "err")]
        environment = dict(os.environ, JAX_PLATFORMS="cpu")
        environment["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
        out, err = (path.open("w") for path in self.files)
        with out, err:
            command = [sys.executable, PROGRAM, *map(str, flags)]
            self.popen = subprocess.Popen(command, stdout=out, stderr=err, env=environment)

    def text(self):
        return tuple(path.read_text() for path in self.files)

    def worker(self, timeout=60.0) -> int:
        """The worker's process id, once it has trained for some steps."""
        end = time.monotonic() + timeout
        while time.monotonic() < end and self.popen.poll() is None:
            if found := re.search(r"^worker (\d+)$", self.text()[0], re.MULTILINE):
                return int(found[1])
            time.sleep(0.05)
        raise AssertionError(f"the process did not start to train: {self.text()}")

    def ends(self, timeout=SOON_S):
        """Exit code and stderr."""
        return self.popen.wait(timeout), self.text()[1]

    def clean_up(self):
        found = re.search(r"^worker (\d+)$", self.text()[0], re.MULTILINE)
        with contextlib.suppress(ProcessLookupError):
            if found and self.popen.returncode is None:
                os.kill(int(found[1]), signal.SIGKILL)  # a frozen one does not see its supervisor end
        self.popen.kill()
        self.popen.wait()


@pytest.fixture
def start(tmp_path):
    """Start processes, and leave none behind."""
    numbers = itertools.count()
    started = []

    def one(*flags, devices=1):
        started.append(Started(tmp_path, next(numbers), flags, devices))
        return started[-1]

    yield one
    for process in started:
        process.clean_up()


@pytest.fixture
def start_all(start):
    def several(count, *flags, each=(), devices=1):
        where = f"127.0.0.1:{free_port()}"
        return [
            start(
                *("--coordinator", where, "--num-processes", count, "--process-id", number),
                *flags,
                *(each[number] if each else ()),
                devices=devices,
            )
            for number in range(count)
        ]

    return several


def training(start_all, count=2, *flags):
    """Processes that train without end, and the ids of their workers, which have begun."""
    processes = start_all(count, "--slow", "--steps", 10**6, *flags)
    return processes, [process.worker() for process in processes]


def is_alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(") ")[2][0] != "Z"


# Training


@pytest.mark.parametrize("devices", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_two_processes_train_as_one_does(start, start_all, tmp_path, devices):
    def files(name):
        return [("--output", tmp_path / f"{name}{number}.npz") for number in range(2)]

    first, *both = [start(*files("one")[0]), *start_all(2, each=files("two"), devices=devices)]
    for process in (first, *both):
        assert process.ends(60.0) == (0, "")
    expected = np.load(tmp_path / "one0.npz")
    assert expected["losses"][-1] < 0.99 * expected["losses"][0], "nothing was trained"
    assert f"{2 * devices} devices, {devices} here" in both[1].text()[0]
    for number in range(2):
        found = np.load(tmp_path / f"two{number}.npz")
        for name in expected:
            error = np.linalg.norm(found[name] - expected[name]) / np.linalg.norm(expected[name])
            assert error < 1e-6, name


def test_a_share_is_a_slice_of_rows():
    assert distributed.rows(8) == slice(0, 8)


def test_a_batch_that_processes_cannot_share_is_refused(monkeypatch):
    monkeypatch.setattr("jax.process_count", lambda: 4)
    monkeypatch.setattr("jax.process_index", lambda: 2)
    assert distributed.rows(8) == slice(4, 6)
    for wrong in (6, 0):
        with pytest.raises(ValueError, match=rf"batch_size is {wrong} and there are 4 processes; expected a"):
            distributed.rows(wrong)


# Deaths


@pytest.mark.parametrize("victim", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_when_one_is_killed_the_other_ends_with_one_sentence(start_all, victim):
    both, workers = training(start_all)
    killed = time.monotonic()
    both[victim].popen.kill()
    code, stderr = both[1 - victim].ends()
    assert time.monotonic() - killed < SOON_S
    assert code == distributed.LOST
    start, end = f"jaxapf: process {1 - victim} of 2 lost contact with process {victim}", f"; {RESUME}\n"
    assert stderr.startswith(start)
    assert stderr.endswith(end)
    assert stderr.count("\n") == 1
    time.sleep(0.5)
    assert not any(map(is_alive, workers))


@pytest.mark.slow
def test_a_killed_worker_is_reported_by_its_own_process_as_well(start_all):
    both, workers = training(start_all)
    os.kill(workers[1], signal.SIGKILL)
    expected = f"jaxapf: process 1 of 2 was ended by SIGKILL (out of memory?); {RESUME}\n"
    assert both[1].ends() == (distributed.LOST, expected)
    assert both[0].ends()[0] == distributed.LOST


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_frozen_process_ends_the_run(start_all, victim):
    both, workers = training(start_all)
    frozen = time.monotonic()
    os.kill(workers[victim], signal.SIGSTOP)
    sentence = f"jaxapf: process {1 - victim} of 2 lost contact with process {victim}; {RESUME}\n"
    assert both[1 - victim].ends(60.0) == (distributed.LOST, sentence)
    assert time.monotonic() - frozen < SOON_S
    os.kill(workers[victim], signal.SIGCONT)
    code, stderr = both[victim].ends()
    assert (code, stderr.count("\n")) == (distributed.LOST, 1)
    assert stderr.startswith(f"jaxapf: process {victim} of 2 lost contact with ")


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 2])
def test_of_three_processes_the_others_name_the_dead_one(start_all, victim):
    three, workers = training(start_all, 3, "--batch", 12)
    killed = time.monotonic()
    os.kill(workers[victim], signal.SIGKILL)
    for number, process in enumerate(three):
        code, stderr = process.ends(60.0)
        assert (code, stderr.count("\n")) == (distributed.LOST, 1)
        if number != victim:
            assert f"process {number} of 3 lost contact with process {victim}" in stderr
    assert time.monotonic() - killed < SOON_S


@pytest.mark.slow
def test_a_process_that_sleeps_hears_of_a_death_as_well(start_all):
    both = start_all(2, "--then", "wait")
    workers = [process.worker() for process in both]
    os.kill(workers[1], signal.SIGKILL)
    sentence = f"jaxapf: process 0 of 2 lost contact with process 1; {RESUME}\n"
    assert both[0].ends() == (distributed.LOST, sentence)


# Exceptions, exit codes, signals


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "message"),
    [("raise", "ValueError: the data is broken"), ("unportable", "RuntimeError: Unportable: nothing can")],
)
def test_an_exception_in_one_process_is_raised_there_and_ends_the_other(start_all, how, message):
    both = start_all(2, "--slow", "--steps", 10**6, each=[(), ("--then", how)])
    code, stderr = both[1].ends()
    assert code == 1
    assert f"\n{message}" in stderr
    assert "In the worker of process 1 of 2:" in stderr
    assert "in go_wrong" in stderr
    code, stderr = both[0].ends()
    assert code == distributed.LOST
    assert "process 0 of 2 lost contact with process 1" in stderr


def test_processes_that_fail_together_each_show_their_own_exception(start_all):
    started = time.monotonic()
    for process in start_all(2, "--then", "raise"):
        code, stderr = process.ends()
        assert code == 1
        assert "ValueError: the data is broken" in stderr
        assert "lost contact" not in stderr
    assert time.monotonic() - started < SOON_S


@pytest.mark.slow
def test_an_exit_code_is_passed_on(start_all):
    for process in start_all(2, "--code", "5"):
        assert process.ends() == (5, "")


@pytest.mark.slow
def test_native_messages_are_shown_at_the_end(start_all):
    for process in start_all(2, each=[(), ("--then", "write")])[1:]:
        assert process.ends() == (0, "from native code\n")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_worker_too(start_all, number):
    both, workers = training(start_all)
    both[1].popen.send_signal(number)
    # Python ends itself by the signal where nobody catches KeyboardInterrupt.
    assert both[1].ends()[0] == {signal.SIGTERM: 143, signal.SIGINT: -signal.SIGINT}[number]
    assert both[0].ends()[0] == distributed.LOST
    time.sleep(0.5)
    assert not any(map(is_alive, workers))


@pytest.mark.slow
def test_a_crash_in_native_code_is_named(start_all):
    both = start_all(2, "--slow", "--steps", 10**6, each=[(), ("--then", "segfault")])
    expected = f"jaxapf: process 1 of 2 was ended by SIGSEGV; {RESUME}\n"
    assert both[1].ends() == (distributed.LOST, expected)
    assert both[0].ends()[0] == distributed.LOST


# The start


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_a_process_whose_others_do_not_come_says_so(start, number):
    where = f"127.0.0.1:{free_port()}"
    flags = ("--coordinator", where, "--num-processes", 2, "--process-id", number, "--start-timeout", 1)
    code, stderr = start(*flags).ends()
    assert (code, stderr.count("\n")) == (distributed.LOST, 1)
    assert stderr.startswith(
        f"jaxapf: error: process {number} of 2 did not meet all others at {where} within"
    )


@pytest.mark.slow
def test_two_processes_of_one_number_are_told(start):
    flags = ("--coordinator", f"127.0.0.1:{free_port()}", "--num-processes", 3, "--start-timeout", 8)
    processes = [start(*flags, "--process-id", number) for number in (0, 1, 1)]
    ends = [process.ends(60.0) for process in processes]
    assert [code for code, _ in ends] == [distributed.LOST] * 3
    assert sum("another process started as process 1 of 3, too" in stderr for _, stderr in ends) == 1
    assert all(stderr.count("\n") == 1 for _, stderr in ends)


def parsed(*flags: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    distributed.add_arguments(parser)
    return parser.parse_args(flags)


def never(arguments):
    raise AssertionError("it was run")


@pytest.fixture
def alone(monkeypatch):
    """An environment that knows nothing of clusters."""
    for name in os.environ:
        if name.startswith(("SLURM_", "OMPI_", "TPU_", "MEGASCALE_")):
            monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--coordinator here:1", "--num-processes and --process-id are missing; give --coordinator, --num-p"),
        ("--num-processes 2 --process-id 0", "--coordinator is missing; give"),
        ("--process-id 3 --num-processes 2", "--process-id is 3 and --num-processes 2; expected 0 to 1"),
    ],
)
def test_mistaken_flags_are_answered_in_a_sentence(alone, capfd, flags, message):
    assert distributed.run(never, parsed(*flags.split())) == distributed.MISTAKE
    stderr = capfd.readouterr().err
    assert stderr.startswith(f"jaxapf: error: {message}")
    assert stderr.count("\n") == 1


@pytest.mark.parametrize(
    "flags",
    [
        "--coordinator node0",
        "--coordinator node0:0",
        "--coordinator node0:65536",
        "--coordinator ::1:80",
        "--num-processes 0",
        "--num-processes two",
        "--process-id -1",
        "--start-timeout 0",
    ],
)
def test_malformed_flags_are_argparse_errors(capsys, flags):
    with pytest.raises(SystemExit, match="2"):
        parsed(*flags.split())
    assert f"argument {flags.split()[0]}" in capsys.readouterr().err


def test_a_port_in_use_is_answered_at_once(alone, capfd):
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        flags = ("--coordinator", f"localhost:{port}", "--num-processes", "2", "--process-id", "0")
        assert distributed.run(never, parsed(*flags)) == distributed.MISTAKE
    sentence = f"process 0 cannot listen on port {port}, address already in use; give another port to all\n"
    assert capfd.readouterr().err == f"jaxapf: error: --coordinator: {sentence}"


@pytest.mark.parametrize("flags", ["", "--num-processes 1", "--coordinator h:1 --num-processes 1"])
def test_one_process_runs_main_here_and_now(alone, flags):
    seen = []
    assert distributed.run(lambda arguments: seen.append(arguments), parsed(*flags.split())) == 0
    assert seen == [parsed(*flags.split())]
    assert distributed.run(lambda arguments: 7, parsed(*flags.split())) == 7
    with pytest.raises(AssertionError, match="it was run"):
        distributed.run(never, parsed(*flags.split()))


SLURM = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "n[1-2]", "SLURM_LOCALID": "0"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({**SLURM, "SLURM_NTASKS": "4", "SLURM_PROCID": "3"}, (4, 3)),
        ({**SLURM, "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, None),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4"}, None),  # the shell of an allocation: no step of it
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"}, (2, 1)),
        ({"TPU_WORKER_HOSTNAMES": "a,b,c", "TPU_WORKER_ID": "2"}, (3, 2)),
        ({"TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0"}, None),
        (
            {
                "TPU_PROCESS_ADDRESSES": "a:1,b:1",
                "TPU_WORKER_ID": "1",
                "MEGASCALE_NUM_SLICES": "3",
                "MEGASCALE_SLICE_ID": "2",
            },
            (6, 5),
        ),
    ],
)
def test_the_environment_says_how_many_there_are(alone, environment, expected):
    for name, value in environment.items():
        alone.setenv(name, value)
    assert distributed._cluster() == expected


def test_a_cluster_that_jax_cannot_use_is_a_sentence(start, monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "1")
    code, stderr = start().ends()
    assert code == distributed.MISTAKE
    assert stderr.startswith("jaxapf: error: JAX cannot start as one of several processes: coordinator_addr")
    assert stderr.count("\n") == 1


# The runtime's last words, in the wordings of JAX 0.7.2 and 0.10.2

FATAL = "F1121 09:30:45.492745    4922 client.h:80] Terminating process because the JAX distributed service "
FATAL += "detected fatal errors. absl::Status: "


@pytest.mark.parametrize(
    ("native", "dead"),
    [
        ("UNAVAILABLE: The following tasks are unhealthy (stopped sending heartbeats):\n3\n5\n", "es 3, 5"),
        (
            "UNAVAILABLE: The following tasks are unhealthy (stopped sending heartbeats):\n"
            "/job:jax_worker/replica:0/task:3\nThe tasks have crashed.\n",
            " 3",
        ),
        ("INTERNAL: Barrier failed because: UNAVAILABLE: Task 3 heartbeat timeout. This indicates\n", " 3"),
        ("INTERNAL: Task /job:jax_worker/replica:0/task:3 heartbeat timeout. This indicates\n", " 3"),
        ("UNAVAILABLE: Failed to send RPC to coordination service. Either the leader\n", " 0"),
        ("DEADLINE_EXCEEDED: Deadline Exceeded\n\nRPC: /tensorflow.CoordinationService/Heartbeat\n", " 0"),
    ],
)
def test_the_dead_process_is_named(native, dead):
    start = {
        "coordinator_address": "here:1",
        "num_processes": 8,
        "process_id": 1,
        "initialization_timeout": 60,
    }
    sentence = distributed._lost_sentence(FATAL + native, start)
    assert sentence == f"process 1 of 8 lost contact with process{dead}; {RESUME}"
    silent = distributed._lost_sentence(f"{distributed._BROKE}Gloo failed\n", start)
    assert silent == f"process 1 of 8 lost contact with the others (Gloo failed); {RESUME}"
