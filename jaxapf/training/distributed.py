"""The same script in several processes, on one machine or many, all of which end when one of them dies.

    parser = argparse.ArgumentParser()
    distributed.add_arguments(parser)
    sys.exit(distributed.run(main, parser.parse_args()))

Then `python train.py` is one process, and these are two:

    python train.py --coordinator node0:9911 --num-processes 2 --process-id 0
    python train.py --coordinator node0:9911 --num-processes 2 --process-id 1

Under SLURM, Open MPI and on TPU slices in GKE no flag is needed; `--coordinator auto` leaves it to JAX, as on
TPU pods outside GKE.

`jax.distributed` and its heartbeats do the work. What they cannot do: when a process dies, JAX ends the
others from C++ with a dump and an exit code of its own, which Python can neither catch nor word, and a
process that raises waits minutes for the others. So with several processes `main` runs in a fork of this
one, which waits for it, keeps the native messages back (JAXAPF_DEBUG=1 leaves them on stderr) and puts the
end into one sentence and exit code 3. Forking is safe: `jax.distributed.initialize` demands that JAX has
computed nothing yet.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pickle
import re
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from typing import Any

__all__ = ["LOST", "MISTAKE", "add_arguments", "rows", "run"]

START_TIMEOUT_S = 60
HEARTBEAT_TIMEOUT_S = 20  # JAX's default is 100 s
FAREWELL_S = 5  # for processes that fail together to leave together, each with its own message
MISTAKE, LOST = 2, 3  # exit codes
RESUME = "start all processes again: the run resumes from its last checkpoint"

# What the exceptions of a broken exchange contain, on CPU (Gloo), GPU (NCCL) and in JAX's own service.
_BROKEN = re.compile(
    "gloo|nccl|socket closed|by peer|heartbeat|coordination.?service|barrier|unavailable:|deadline_exceeded:",
    re.IGNORECASE,
)
_FATAL = "JAX distributed service detected fatal errors"
_BROKE = "jaxapf lost contact: "


class _Mistake(ValueError):
    """Wrong use, in one sentence for the user."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--coordinator`, `--num-processes`, `--process-id` and `--start-timeout` to a command line.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_arguments(parser)
        >>> parser.parse_args(["--coordinator", "node0:9911", "--num-processes", "2"]).num_processes
        2
    """
    group = parser.add_argument_group(
        "several processes",
        "Start the same command in every process, each with its own --process-id. SLURM, Open MPI and TPU "
        "slices in GKE need none of these.",
    )
    group.add_argument(
        "--coordinator",
        type=_address,
        metavar="HOST:PORT",
        help="the machine of process 0 and a free port on it; 'auto' asks JAX, as on TPU pods",
    )
    group.add_argument("--num-processes", type=_whole(1), metavar="N", help="how many there are")
    group.add_argument("--process-id", type=_whole(0), metavar="I", help="which one this is, 0 to N - 1")
    group.add_argument(
        "--start-timeout",
        type=_whole(1),
        metavar="SECONDS",
        default=START_TIMEOUT_S,
        help="how long to wait for the others at the start (default: %(default)s)",
    )


def run(
    main: Callable[[argparse.Namespace], int | None],
    arguments: argparse.Namespace,
    *,
    heartbeat_timeout_s: int = HEARTBEAT_TIMEOUT_S,
) -> int:
    """Run a program's main function, as one process or as one of several; return its exit code, None as 0.

    Call it before JAX computes anything. With several processes `main` runs in a fork of this one, so what it
    changes in memory stays there; what it raises is raised here, with the worker's traceback in a note. After
    one sentence on stderr the exit code is 2 for wrong use and 3 where contact was lost; it is 128 plus the
    number of a signal that ended the worker.

    Args:
        main: takes `arguments`.
        arguments: parsed by a parser that has the arguments of `add_arguments`.
        heartbeat_timeout_s: silence of this many seconds ends the run for all.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_arguments(parser)
        >>> run(lambda arguments: 7, parser.parse_args([]))
        7
    """
    try:
        start = _start(arguments)
    except _Mistake as error:
        return _print(f"error: {error}", MISTAKE)
    if start is None:
        return main(arguments) or 0
    start["heartbeat_timeout_seconds"] = heartbeat_timeout_s
    return _supervised(lambda: main(arguments) or 0, start)


def rows(batch_size: int) -> slice:
    """Return the rows of a batch that this process reads: a contiguous share, in the order of the processes.

    ValueError where `batch_size`, the examples over all processes, cannot be shared equally.

    Example:
        >>> rows(16)
        slice(0, 16, None)
    """
    import jax

    share, rest = divmod(batch_size, jax.process_count())
    if rest or share < 1:
        raise ValueError(
            f"batch_size is {batch_size} and there are {jax.process_count()} processes; "
            f"expected a multiple of {jax.process_count()}"
        )
    return slice(share * jax.process_index(), share * (jax.process_index() + 1))


# Whether, and as which process


def _address(text: str) -> str:
    _, _, port = text.rpartition(":")
    if text != "auto" and not (re.fullmatch(r"[^:]+:\d+|\[.+\]:\d+", text) and 0 < int(port) < 2**16):
        raise argparse.ArgumentTypeError(f"'{text}' is no HOST:PORT, for example node0:9911, nor 'auto'")
    return text


def _whole(lowest: int) -> Callable[[str], int]:
    def whole(text: str) -> int:
        if not re.fullmatch(r"\d+", text) or int(text) < lowest:
            raise argparse.ArgumentTypeError(f"'{text}' is no whole number of {lowest} or more")
        return int(text)

    return whole


def _start(arguments: argparse.Namespace) -> dict[str, Any] | None:
    """Return the options of `jax.distributed.initialize`; None for a process alone."""
    coordinator, count, index = arguments.coordinator, arguments.num_processes, arguments.process_id
    if count is not None and index is not None and index >= count:
        raise _Mistake(f"--process-id is {index} and --num-processes {count}; expected 0 to {count - 1}")
    if count == 1:
        return None
    cluster = _cluster()
    flags = {"--coordinator": coordinator, "--num-processes": count, "--process-id": index}
    missing = [flag for flag, value in flags.items() if value is None]
    if len(missing) == 3 and cluster is None:
        return None
    if missing and cluster is None and coordinator != "auto":
        raise _Mistake(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing; give --coordinator, "
            "--num-processes and --process-id, or none of them for one process"
        )
    if not hasattr(os, "fork"):
        raise _Mistake("several processes need Linux or macOS; start one without --coordinator")
    if index == 0 and not missing and coordinator != "auto":
        _check_port(coordinator)
    count, index = (count, index) if None not in (count, index) else cluster or (count, index)
    return {
        "coordinator_address": None if coordinator == "auto" else coordinator,
        "num_processes": count,
        "process_id": index,
        # Looking for a cluster where there is none can fail, and queries the network on some machines.
        "cluster_detection_method": None if cluster or coordinator == "auto" else "deactivate",
        "initialization_timeout": arguments.start_timeout,
    }


def _cluster() -> tuple[int, int] | None:
    """Return how many processes there are and which one this is, where the environment names several.

    JAX reads the same variables, but only in starting; it has no public way to look before.
    """
    environment = os.environ
    try:
        if {"SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_LOCALID"} <= environment.keys():
            found = int(environment["SLURM_NTASKS"]), int(environment["SLURM_PROCID"])
        elif "OMPI_COMM_WORLD_SIZE" in environment:
            found = int(environment["OMPI_COMM_WORLD_SIZE"]), int(environment["OMPI_COMM_WORLD_RANK"])
        else:
            hosts = environment.get("TPU_PROCESS_ADDRESSES") or environment["TPU_WORKER_HOSTNAMES"]
            in_slice, slices = len(hosts.split(",")), int(environment.get("MEGASCALE_NUM_SLICES", 1))
            first = in_slice * int(environment.get("MEGASCALE_SLICE_ID", 0))
            found = in_slice * slices, first + int(environment["TPU_WORKER_ID"])
    except (KeyError, ValueError):
        return None
    return found if found[0] > 1 else None


def _check_port(coordinator: str) -> None:
    """Refuse a port that is taken: JAX's service would share it with another one, and both would wait."""
    port = int(coordinator.rpartition(":")[2])
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    try:
        socket.create_server(("", port), family=family, dualstack_ipv6=dual).close()
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise _Mistake(
            f"--coordinator: process 0 cannot listen on port {port}, {reason}; give another port to all"
        ) from None


# The process that was started waits for its fork


def _supervised(work: Callable[[], int], start: dict[str, Any]) -> int:
    # Files, not pipes: the worker never waits for their reader.
    with tempfile.TemporaryFile() as native, tempfile.TemporaryFile() as outcome:
        worker = get_context("fork").Process(target=_work, args=(work, start, native, outcome))
        worker.start()
        with _signals_go_to(worker) as sent:
            worker.join()
        native.seek(0)
        outcome.seek(0)
        messages = native.read().decode(errors="replace")
        found = outcome.read()
    who, code = _name(start), worker.exitcode or 0
    if not found and (_FATAL in messages or _BROKE in messages):
        return 128 + sent[0] if sent else _print(_lost_sentence(messages, start), LOST)
    with contextlib.suppress(OSError):
        os.write(2, messages.encode())
    if found:
        result = pickle.loads(found)
        if isinstance(result, _Mistake):
            return _print(f"error: {result}", MISTAKE)
        if isinstance(result, BaseException):
            raise result
        return result
    if code >= 0:
        return code  # by os._exit
    if sent:
        return 128 + sent[0]
    killed = f"{signal.Signals(-code).name}{' (out of memory?)' if -code == signal.SIGKILL else ''}"
    return _print(f"{who} was ended by {killed}; {RESUME}", LOST)


def _name(start: dict[str, Any]) -> str:
    index, count = start["process_id"], start["num_processes"]
    return "this process" if index is None else f"process {index} of {count}"


def _lost_sentence(messages: str, start: dict[str, Any]) -> str:
    """Return what the runtime's last words mean."""
    native, (_, broke, reason) = messages.rpartition(_FATAL)[2], messages.partition(_BROKE)
    who, where = _name(start), start["coordinator_address"]
    if "RegisterTask" in native and "incarnation" in native:
        return (
            f"error: another process started as {who}, too; "
            "give each process its own --process-id and each run its own port"
        )
    if "RegisterTask" in native:
        return (
            f"error: {who} did not meet all others{f' at {where}' if where else ''} within "
            f"{start['initialization_timeout']} s; start all of them with the same --coordinator, and let "
            "its port through to every machine"
        )
    because = f" ({reason.splitlines()[0]})" if broke and _FATAL not in messages else ""
    return f"{who} lost contact with {_dead(native, start)}{because}; {RESUME}"


def _dead(native: str, start: dict[str, Any]) -> str:
    """Return which processes are gone, as far as the runtime named them."""
    index, count = start["process_id"], start["num_processes"]
    listed = re.search(r"unhealthy[^\n]*:\n((?:\S*?\d+\n)+)", native)
    named = r"(\d+)\n" if listed else r"[Tt]ask \S*?(\d+) heartbeat"
    ids = sorted({int(one) for one in re.findall(named, listed[1] if listed else native)})
    if not ids and count == 2 and index is not None:
        ids = [1 - index]
    if not ids and index != 0 and re.search("Failed to send RPC|CoordinationService/Heartbeat", native):
        ids = [0]  # it runs the service
    if not ids or index in ids:
        return "the others"
    return f"process{'es' if len(ids) > 1 else ''} {', '.join(map(str, ids))}"


@contextlib.contextmanager
def _signals_go_to(worker: BaseProcess) -> Iterator[list[int]]:
    """Pass on the signals that end a program; the second kills, for native code ignores the first."""
    sent: list[int] = []

    def forward(number: int, _frame: Any) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker.pid or 0, signal.SIGKILL if sent else number)
        sent.append(number)

    previous = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        # ValueError: not in the main thread. A signal that is ignored stays ignored.
        with contextlib.suppress(ValueError):
            if signal.getsignal(number) != signal.SIG_IGN:
                previous[number] = signal.signal(number, forward)
    try:
        yield sent
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _print(sentence: str, code: int) -> int:
    with contextlib.suppress(OSError):
        print(f"jaxapf: {sentence}", file=sys.stderr, flush=True)
    return code


# The fork


def _work(work: Callable[[], int], start: dict[str, Any], native: Any, outcome: Any) -> None:
    os.setpgid(0, 0)  # Ctrl-C comes from the supervisor, once
    threading.Thread(target=_end_with_supervisor, daemon=True).start()
    if not os.environ.get("JAXAPF_DEBUG"):
        # Python's stderr stays what it was, a terminal perhaps.
        sys.stderr = open(os.dup(2), "w", buffering=1, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
        os.dup2(native.fileno(), 2)
    try:
        _initialise(start)
        result: Any = work()
    except BaseException as error:
        if reason := _broken_exchange(error):
            os.write(native.fileno(), f"{_BROKE}{reason}\n".encode())
            # Of more than two, JAX will name the process that died, and end this one.
            time.sleep(0 if start["num_processes"] == 2 else start["heartbeat_timeout_seconds"] + FAREWELL_S)
            os._exit(LOST)
        result = error if isinstance(error, _Mistake) else _portable(error, _name(start))
    if not isinstance(result, _Mistake):
        import jax

        leaving = threading.Thread(target=jax.distributed.shutdown, daemon=True)
        leaving.start()
        leaving.join(None if result == 0 else FAREWELL_S)
    pickle.dump(result, outcome)
    outcome.flush()
    sys.stdout.flush()
    os._exit(1)  # an ordinary end would wait for the others


def _initialise(start: dict[str, Any]) -> None:
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        import jax

        jax.distributed.initialize(**start)
    except Exception as error:
        raise _Mistake(
            f"JAX cannot start as one of several processes: {_first_line(error)}; "
            "give --coordinator, --num-processes and --process-id"
        ) from error
    # JAX's preemption service has taken it, and would swallow it.
    signal.signal(signal.SIGTERM, signal.SIG_DFL if on_sigterm is None else on_sigterm)


def _broken_exchange(error: BaseException | None) -> str:
    """Return what an exception says of lost contact; empty where it is about something else."""
    while error is not None:
        if isinstance(error, (ValueError, RuntimeError)) and _BROKEN.search(str(error)):
            return _first_line(error)
        error = error.__cause__ or error.__context__
    return ""


def _first_line(error: BaseException) -> str:
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return re.sub(r"^[A-Z_]+: |\[external/\S+\] ", "", line)[:200].rstrip(".")


def _portable(error: BaseException, who: str) -> BaseException:
    """Return the exception, or one like it, as pickle can hold it, with this process's traceback noted."""
    note = f"In the worker of {who}:\n{''.join(traceback.format_exception(error))}"
    error.add_note(note)
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
        error.add_note(note)
    return error


def _end_with_supervisor() -> None:
    supervisor = parent_process()
    if supervisor is not None:
        supervisor.join()
    os._exit(LOST)
