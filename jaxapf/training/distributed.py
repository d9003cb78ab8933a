"""The same script in several processes, on one machine or many, all of which end when one of them dies.

The engine is `jax.distributed`; this module finds out whether there are several processes, and gives
failures a clean end:

    parser = argparse.ArgumentParser()
    distributed.add_arguments(parser)
    sys.exit(distributed.run(main, parser.parse_args()))

Then `python train.py` is one process, and these are two:

    python train.py --coordinator node0:9911 --num-processes 2 --process-id 0
    python train.py --coordinator node0:9911 --num-processes 2 --process-id 1

Under SLURM, Open MPI and on TPU slices in GKE no flag is needed; `--coordinator auto` asks JAX to find out,
as on TPU pods outside GKE.

When a process dies, JAX's runtime ends all others from C++, with a dump of its stack that Python can neither
catch nor word otherwise; and a process that only raises waits minutes for the others, who wait for it. So
with several processes `main` runs in a worker, a fork of this process, which stays to supervise it: it passes
signals on, keeps back the runtime's last words (JAXAPF_DEBUG=1 shows them), and returns or raises what `main`
did, or says in one sentence why it could not. A fork is safe here because JAX has computed nothing yet, which
`jax.distributed.initialize` demands anyway. One process alone is not forked.
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
from functools import partial
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from typing import Any, Literal, NamedTuple

START_TIMEOUT_S = 60
# JAX's default is 100 s. Heartbeats come from a thread of the runtime, whatever Python or a device is doing.
HEARTBEAT_TIMEOUT_S = 20
# For processes that fail together to leave together, each with its own message.
FAREWELL_S = 5

MISTAKE, LOST = 2, 3  # exit codes
RESUME = "start all processes again: the run resumes from its last checkpoint"

# What the exceptions of a broken exchange say, on CPU (Gloo), GPU (NCCL) and in JAX's own service.
_BROKEN = re.compile(
    "gloo|nccl|socket closed|by peer|heartbeat|coordination.?service|barrier|unavailable:|deadline_exceeded:",
    re.IGNORECASE,
)
_FATAL = "JAX distributed service detected fatal errors"
_LOG_LINE = re.compile(rb"[IWEF]\d{4} [\d:.]+ +\d+ (\S+):\d+\] ")
_SERVICE = re.compile(rb"coordination|preemption|client\.h|add_port")


class _Mistake(ValueError):
    """Wrong use, in one sentence for the user."""


class _Start(NamedTuple):
    """What `jax.distributed.initialize` is given, None for what JAX finds out, and what messages name."""

    coordinator: str | None
    num_processes: int | None
    process_id: int | None
    detect: bool
    count: int | None
    me: int | None
    timeout_s: int
    heartbeat_timeout_s: int

    def __str__(self) -> str:
        return "this process" if self.me is None else f"process {self.me} of {self.count}"


class _Told(NamedTuple):
    """What the worker says of its end."""

    how: Literal["returned", "raised", "mistake", "lost"]
    value: Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--coordinator`, `--num-processes`, `--process-id` and `--start-timeout` to a command line.

    Args:
        parser: gets a group of its own for them.

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
    """Run a program's main function, as one process or as one of several.

    Call it before JAX computes anything. With several processes `main` runs in a fork of this one, so what
    it changes in memory stays there.

    Args:
        main: takes `arguments`; returns an exit code, None for 0.
        arguments: parsed by a parser that has the arguments of `add_arguments`.
        heartbeat_timeout_s: silence of this many seconds ends the run for all.

    Returns:
        What `main` returned; after one sentence on stderr 2 for wrong use, or 3 when contact was lost; 128
        plus the number of a signal that ended the worker.

    Raises:
        Exception: what `main` raised. Where a worker did, its traceback is in a note of the exception.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_arguments(parser)
        >>> run(lambda arguments: 7, parser.parse_args([]))
        7
    """
    try:
        start = _start(arguments, heartbeat_timeout_s)
    except _Mistake as error:
        return _say(f"error: {error}", MISTAKE)
    if start is None:
        return main(arguments) or 0
    return _supervised(partial(main, arguments), start)


def rows(batch_size: int) -> slice:
    """The rows of a batch that this process reads: a contiguous share, in the order of the processes.

    Args:
        batch_size: examples over all processes.

    Returns:
        A slice; all of the batch in one process.

    Raises:
        ValueError: `batch_size` cannot be shared equally.

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


def _start(arguments: argparse.Namespace, heartbeat_timeout_s: int) -> _Start | None:
    """How to start as one of several processes; None for a process alone."""
    coordinator, count, me = arguments.coordinator, arguments.num_processes, arguments.process_id
    if count is not None and me is not None and me >= count:
        raise _Mistake(f"--process-id is {me} and --num-processes {count}; expected 0 to {count - 1}")
    if count == 1:
        return None
    cluster = _cluster()
    flags = {"--coordinator": coordinator, "--num-processes": count, "--process-id": me}
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
    if me == 0 and not missing and coordinator != "auto":
        _check_port(coordinator)
    return _Start(
        None if coordinator == "auto" else coordinator,
        count,
        me,
        # Looking for a cluster where there is none can fail, and asks the network on some machines.
        cluster is not None or coordinator == "auto",
        *((count, me) if None not in (count, me) else cluster or (None, None)),
        arguments.start_timeout,
        heartbeat_timeout_s,
    )


def _cluster() -> tuple[int, int] | None:
    """How many processes there are and which one this is, where the environment says that there are several.

    JAX looks for the same variables; it has no public way to ask without starting.
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


# The supervisor: the process that was started


def _supervised(work: Callable[[], int | None], start: _Start) -> int:
    reader, writer = os.pipe()
    held: list[bytes] = []
    # A file, not a pipe: the worker never waits for its reader, and processes that it leaves behind hold
    # nothing open.
    with tempfile.TemporaryFile() as outcome:
        worker = get_context("fork").Process(target=_work, args=(work, start, (reader, writer), outcome))
        worker.start()
        os.close(writer)
        passing = threading.Thread(target=_pass_on, args=(reader, held), daemon=True)
        passing.start()
        with _signals_go_to(worker) as sent:
            worker.join()
        passing.join(timeout=2)
        outcome.seek(0)
        # Empty, or cut, where the worker died.
        told = None
        with contextlib.suppress(EOFError, pickle.UnpicklingError):
            told = _Told(*pickle.load(outcome))
    native = b"".join(held).decode(errors="replace")
    if told is None and _FATAL in native:
        told = _Told("lost", "")
    if sent and (told is None or told.how == "lost"):
        return 128 + sent[0]
    return _killed(worker.exitcode or 0, native, start) if told is None else _answer(told, native, start)


def _answer(told: _Told, native: str, start: _Start) -> int:
    if told.how == "raised":
        raise told.value
    if told.how == "mistake":
        return _say(f"error: {told.value}", MISTAKE)
    if told.how == "lost":
        return _say(_lost_sentence(native, told.value, start), LOST)
    return told.value


def _killed(exitcode: int, native: str, start: _Start) -> int:
    if exitcode >= 0:
        return exitcode  # by os._exit
    os.write(2, native.encode())
    name = signal.Signals(-exitcode).name
    hint = " (out of memory?)" if name == "SIGKILL" else ""
    return _say(f"{start} was ended by {name}{hint}; {RESUME}", LOST)


def _lost_sentence(native: str, reason: str, start: _Start) -> str:
    """Say what the runtime's last words, and the exception's, mean."""
    last = native.rpartition(_FATAL)[2]
    if "RegisterTask" in last:
        if "incarnation" in last:
            return (
                f"error: another process started as {start}, too; "
                "give each process its own --process-id and each run its own port"
            )
        where = f" at {start.coordinator}" if start.coordinator else ""
        return (
            f"error: {start} did not meet all others{where} within {start.timeout_s} s; start all of them "
            "with the same --coordinator, and let its port through to every machine"
        )
    because = f" ({reason})" if reason and not native else ""
    return f"{start} lost contact with {_dead(native, start)}{because}; {RESUME}"


def _dead(native: str, start: _Start) -> str:
    """Which process is gone, as far as the runtime said."""
    listed = re.search(r"unhealthy[^\n]*:\n((?:\S*?\d+\n)+)", native)
    named = (
        re.findall(r"(\d+)\n", listed[1]) if listed else re.findall(r"[Tt]ask \S*?(\d+) heartbeat", native)
    )
    ids = sorted({int(one) for one in named})
    if not ids and start.count == 2 and start.me is not None:
        ids = [1 - start.me]
    if not ids and start.me != 0 and re.search("Failed to send RPC|CoordinationService/Heartbeat", native):
        ids = [0]  # it runs the service
    if not ids or start.me in ids:
        return "the others"
    return f"process{'es' if len(ids) > 1 else ''} {', '.join(map(str, ids))}"


def _pass_on(reader: int, held: list[bytes]) -> None:
    """Pass on what native code writes to stderr, but hold what comes from the distributed service."""
    quiet = False
    with os.fdopen(reader, "rb") as native:
        for line in native:
            if found := _LOG_LINE.match(line):
                quiet = bool(_SERVICE.search(found[1]))
            if quiet:
                held.append(line)
            if not quiet or os.environ.get("JAXAPF_DEBUG"):
                os.write(2, line)


@contextlib.contextmanager
def _signals_go_to(worker: BaseProcess) -> Iterator[list[int]]:
    """Pass signals on to the worker, which has a process group of its own; gives those that ask to end.

    The second of these kills: a worker that waits for others in native code hears no signal.
    """
    ending = (signal.SIGINT, signal.SIGTERM)
    sent: list[int] = []

    def forward(number: int, _frame: Any) -> None:
        with contextlib.suppress(ProcessLookupError):
            if worker.pid is not None:
                os.kill(worker.pid, signal.SIGKILL if sent and number in ending else number)
        if number in ending:
            sent.append(number)

    previous = {}
    for number in (*ending, signal.SIGUSR1, signal.SIGUSR2):
        # ValueError: not in the main thread. A signal that is ignored stays ignored.
        with contextlib.suppress(ValueError):
            if signal.getsignal(number) != signal.SIG_IGN:
                previous[number] = signal.signal(number, forward)
    try:
        yield sent
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _say(sentence: str, code: int) -> int:
    with contextlib.suppress(OSError):
        print(f"jaxapf: {sentence}", file=sys.stderr, flush=True)
    return code


# The worker


def _work(work: Callable[[], int | None], start: _Start, pipe: tuple[int, int], outcome: Any) -> None:
    reader, writer = pipe
    os.close(reader)
    os.setpgid(0, 0)  # Ctrl-C comes from the supervisor, once
    threading.Thread(target=_end_with_supervisor, daemon=True).start()
    _redirect_native_stderr(writer)
    told = _attempt(work, start)
    if told.how == "returned" and told.value == 0:
        _shut_down()
        _tell(outcome, told)
        return
    _tell(outcome, told)
    if told.how == "lost":
        # The runtime will name the process that died, and end this one. Of two it is the other.
        time.sleep(0 if start.count == 2 else start.heartbeat_timeout_s + FAREWELL_S)
    elif told.how != "mistake":
        leaving = threading.Thread(target=_shut_down, daemon=True)
        leaving.start()
        leaving.join(FAREWELL_S)
    sys.stdout.flush()
    os._exit(1)  # an ordinary end would wait for the others


def _attempt(work: Callable[[], int | None], start: _Start) -> _Told:
    try:
        _initialise(start)
        return _Told("returned", work() or 0)
    except _Mistake as error:
        return _Told("mistake", str(error))
    except BaseException as error:
        reason = _broken_exchange(error)
        return _Told("lost", reason) if reason else _Told("raised", _portable(error, start))


def _initialise(start: _Start) -> None:
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        import jax

        jax.distributed.initialize(
            start.coordinator,
            start.num_processes,
            start.process_id,
            cluster_detection_method=None if start.detect else "deactivate",
            initialization_timeout=start.timeout_s,
            heartbeat_timeout_seconds=start.heartbeat_timeout_s,
        )
    except Exception as error:
        raise _Mistake(
            f"JAX cannot start as one of several processes: {_first_line(error)}; "
            "give --coordinator, --num-processes and --process-id"
        ) from error
    # JAX's preemption service has taken it, and would swallow it.
    signal.signal(signal.SIGTERM, signal.SIG_DFL if on_sigterm is None else on_sigterm)


def _shut_down() -> None:
    import jax

    jax.distributed.shutdown()


def _broken_exchange(error: BaseException) -> str:
    """What an exception says of lost contact; empty where it is about something else."""
    at: BaseException | None = error
    while at is not None:
        if isinstance(at, (ValueError, RuntimeError)) and _BROKEN.search(str(at)):
            return _first_line(at)
        at = at.__cause__ or at.__context__
    return ""


def _first_line(error: BaseException) -> str:
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return re.sub(r"^[A-Z_]+: |\[external/\S+\] ", "", line)[:200].rstrip(".")


def _portable(error: BaseException, start: _Start) -> BaseException:
    """The exception, or one like it, that the supervisor can raise, with this process's traceback noted."""
    note = f"In the worker of {start}:\n{''.join(traceback.format_exception(error))}"
    try:
        error.add_note(note)
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:
        portable = RuntimeError(f"{type(error).__name__}: {error}")
        portable.add_note(note)
        return portable


def _tell(outcome: Any, told: _Told) -> None:
    pickle.dump(tuple(told), outcome)
    outcome.flush()


def _end_with_supervisor() -> None:
    supervisor = parent_process()
    if supervisor is not None:
        supervisor.join()
    os._exit(LOST)


def _redirect_native_stderr(writer: int) -> None:
    """Give native code's stderr to the supervisor; Python's stays what it was, a terminal perhaps."""
    sys.stderr = open(os.dup(2), "w", buffering=1, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
    os.dup2(writer, 2)
    os.close(writer)
