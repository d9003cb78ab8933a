"""What people see of a run: nothing lost or doubled by a kill, nothing on the screen that does not belong."""

import contextlib
import io
import itertools
import math
import os
import re
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jaxapf import audio
from jaxapf.training import logging

RECORDS = [{"step": 10 * n, "loss": 1 / n, "grad_norm": math.sqrt(n)} for n in range(1, 6)]


class Terminal(io.StringIO):
    now: float

    def isatty(self):
        return True


def write(path, records, **options):
    with logging.open_metrics(path, **options) as log:
        for record in records:
            log(record)


def steps(path):
    return [record["step"] for record in logging.read_metrics(path)]


# Records and several sinks


@pytest.mark.parametrize("number", [2, 0.5, True, float("nan"), np.float32(0.1), np.int64(3), np.array(4.0)])
def test_numbers_become_plain(number):
    (_, plain) = logging.plain_record({"step": 1, "x": number}).values()
    assert type(plain) in (int, float, bool)
    np.testing.assert_array_equal(plain, number)


def test_jax_scalars_become_plain():
    record = {"step": jnp.int32(3), "loss": jnp.float32(0.5), "half": jnp.bfloat16(0.25), "one": jnp.ones(1)}
    plain = logging.plain_record(record)
    assert plain == {"step": 3, "loss": 0.5, "half": 0.25, "one": 1.0}
    assert list(map(type, plain.values())) == [int, float, float, float]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"loss": 1.0}, r"record\['step'\] is nan"),
        ({"step": 1.5}, r"record\['step'\] is 1.5"),
        ({"step": 1, "loss": np.ones(3)}, r"record\['loss'\] is an array of shape \(3,\)"),
        ({"step": 1, "note": "good"}, r"record\['note'\] is str"),
        ({"step": 1, "loss": None}, r"record\['loss'\] is NoneType"),
    ],
)
def test_what_is_no_record_is_refused(record, message):
    with pytest.raises(TypeError, match=message), logging.track([].append) as log:
        log(record)


def test_all_sinks_see_all_records_and_are_closed(tmp_path, screen):
    seen = []
    path = tmp_path / "metrics.jsonl"

    def interrupted():
        sinks = logging.progress(50, stream=screen), logging.open_metrics(path), seen.append
        with logging.track(*sinks) as log:
            for record in RECORDS:
                log(record)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert seen == RECORDS == logging.read_metrics(path)
    # What the shell writes next begins on a line of its own, with its cursor.
    assert screen.getvalue().endswith("\n\x1b[?25h")


def test_an_inactive_process_opens_nothing_and_reads_nothing(tmp_path):
    class Untouchable(dict):
        def items(self):
            raise AssertionError("an array was fetched in vain")

    path = tmp_path / "metrics.jsonl"
    screen = Terminal()
    sinks = logging.open_metrics(path), logging.progress(9, stream=screen), [].append
    with logging.track(*sinks, active=False) as log:
        log(Untouchable(step=1))
    assert not path.exists()
    assert screen.getvalue() == ""


# The terminal


@pytest.fixture
def screen(monkeypatch):
    """A terminal of 100 columns whose clock stands still until `screen.now` is set."""
    found = Terminal()
    found.now = 0.0
    monkeypatch.setattr("rich.console.monotonic", lambda: found.now)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    return found


def lines_on(text):
    """What each drawing of a terminal's line shows, without colours and without repetitions."""
    drawings = [re.sub(r"\x1b\[[\d;?]*\w|[━╸╺]", "", line) for line in re.split(r"\r\x1b\[2K", text)]
    return [" ".join(line.split()) for line, _ in itertools.groupby(drawings)][1:]


def test_progress_overwrites_one_line_and_leaves_the_last(screen):
    with logging.progress(100, stream=screen) as show:
        # The first 10 steps take 30 s, compiling; then 10 a second, 5 a second.
        for screen.now, step in ((30.0, 10), (31.0, 20), (33.0, 30)):
            show({"step": step, "loss": 1 / step, "samples_per_s": 123456.0, "skipped": step // 30})
    assert screen.getvalue().count("\n") == 1
    lines = lines_on(screen.getvalue())
    assert lines[0] == "step 0/100 compiling 0% --:--"
    assert "step 10/100 loss 0.1 123 k samples/s 10% --:--" in lines
    assert "step 20/100 loss 0.05 123 k samples/s 20% 00:08" in lines  # what compiled does not count
    assert lines[-1] == "step 30/100 loss 0.03333 1 skipped 123 k samples/s 30% 00:11"


def test_progress_of_a_resumed_run_counts_from_its_start(screen):
    with logging.progress(1000, start=500, stream=screen) as show:
        for screen.now, step in ((10.0, 600), (20.0, 700)):
            show({"step": step})
    assert lines_on(screen.getvalue())[-1] == "step 700/1000 70% 00:30"


def test_progress_is_silent_in_a_pipe(capsys):
    for stream in (None, io.StringIO()):
        with logging.progress(100, stream=stream) as show:
            show({"step": 50, "loss": 1.0})
    assert capsys.readouterr() == ("", "")


def test_progress_without_records_clears_its_line(screen):
    with logging.progress(100, stream=screen):
        pass
    assert "step 0/100 compiling 0% --:--" in lines_on(screen.getvalue())
    assert screen.getvalue().endswith("\r\x1b[1A\x1b[2K")


def test_a_closed_terminal_does_not_end_the_training():
    class Gone(Terminal):
        def write(self, text):
            raise OSError(5, "Input/output error")

    with logging.progress(100, stream=Gone()) as show:
        show({"step": 50})


@pytest.mark.skipif(sys.platform != "linux", reason="terminals as on Linux")
@pytest.mark.parametrize("columns", [1, 12, 30, 60, 100])
def test_progress_fits_into_a_real_terminal(columns, monkeypatch):
    import fcntl
    import termios

    monkeypatch.setenv("TERM", "xterm")
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with open(slave, "w") as terminal, logging.progress(5000, stream=terminal) as show:
        show({"step": 1200, "loss": 0.0123, "samples_per_s": 3.1e6, "skipped": 3})
    written = b""
    with contextlib.suppress(OSError):  # the end, once nobody has the other side open
        while part := os.read(master, 1000):
            written += part
    os.close(master)
    drawn = re.sub(r"\x1b\[[\d;?]*\w", "", written.decode()).split("\r")
    assert max(map(len, drawn)) <= columns
    line = lines_on(written.decode())[-1]
    wanted = {1: "", 12: "step 1 --:--", 30: "step 1200/5000 loss 0.0 --:--"}
    assert line == wanted.get(columns, line)
    assert ("samples/s" in line) == (columns == 100)
    assert ("3 skipped" in line) == (columns >= 60)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.5, "0.5 "),
        (1, "1.0 "),
        (9.96, "10 "),
        (812, "812 "),
        (999.6, "1.0 k "),
        (31e5, "3.1 M "),
        (999499, "999 k "),
        (4.2e13, "42 T "),
    ],
)
def test_short_numbers(number, text):
    assert logging.short_number(number) == text


def test_progress_needs_an_end():
    with pytest.raises(ValueError, match="n_steps is 0"), logging.progress(0):
        pass


# The metrics file


@pytest.mark.parametrize("count", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_a_run_killed_anywhere_and_resumed_leaves_the_file_of_one_that_was_not(tmp_path, count):
    path, records = tmp_path / "metrics.jsonl", RECORDS[:count]
    write(path, records)
    whole = path.read_bytes()
    assert whole.count(b"\n") == count
    for cut in range(len(whole) + 1):
        for resumed in range(whole[:cut].count(b"\n") + 1):  # from a checkpoint as old as may be
            path.write_bytes(whole[:cut])
            write(path, records[resumed:], after=10 * resumed)
            assert path.read_bytes() == whole, (cut, resumed)
    assert os.listdir(tmp_path) == ["metrics.jsonl"]


def test_zeros_that_a_power_cut_left_are_no_record(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, RECORDS)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20] + bytes(20))
    assert len(logging.read_metrics(path)) == len(RECORDS) - 1
    write(path, RECORDS[-1:], after=RECORDS[-2]["step"])
    assert path.read_bytes() == whole


def test_a_run_from_the_start_begins_a_new_file(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, [{"step": 0, "loss": 9.0}, *RECORDS])
    write(path, [{"step": 0, "loss": 9.0}], after=0)
    assert steps(path) == [0]


def test_without_a_step_all_whole_records_are_kept(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, RECORDS)
    path.write_bytes(path.read_bytes()[:-3])
    write(path, [{"step": 7}])
    assert steps(path) == [10, 20, 30, 40, 7]


def test_the_end_of_a_file_that_is_being_written_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with logging.open_metrics(path) as log:
        assert logging.read_metrics(path) == []
        for count, record in enumerate(RECORDS, 1):
            log(record)
            assert logging.read_metrics(path) == RECORDS[:count]  # at once, not when a buffer is full
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        assert logging.read_metrics(path) == RECORDS[: whole[:cut].count(b"\n")]


def test_numbers_that_json_has_no_word_for(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, [{"loss": math.nan, "grad_norm": math.inf, "step": 1}])
    assert path.read_text() == '{"step": 1, "loss": null, "grad_norm": null}\n'
    np.testing.assert_equal(
        logging.read_metrics(path), [{"step": 1, "loss": math.nan, "grad_norm": math.nan}]
    )


@pytest.mark.parametrize(
    "content",
    [
        b'{"format": "jaxapf-alignment", "step": 3}',
        b'{\n "step": 3\n}\n',
        b'{"step": 1}\nnothing\n{"step": 2}\n',
        b'{"step": 1, "loss": [1]}\n',
        b'{"loss": 1}\n',
        b"[1]\n",
        b"\n",
        b"RIFF\0\xff\xfe",
    ],
)
def test_another_file_is_refused_and_left_as_it_is(tmp_path, content):
    path = tmp_path / "other"
    path.write_bytes(content)
    for use in (lambda: logging.read_metrics(path), lambda: write(path, RECORDS, after=0)):
        with pytest.raises(ValueError, match=r"other' is not a metrics file \(line \d is not one\)"):
            use()
    assert path.read_bytes() == content


@pytest.mark.parametrize("place", ["missing/metrics.jsonl", "."])
def test_a_place_that_cannot_hold_the_file_is_one_sentence(tmp_path, place):
    with pytest.raises(audio.AudioError, match=r"create it|is a folder"):
        write(tmp_path / place, RECORDS)
    with pytest.raises(ValueError, match="does not exist or is no regular file"):
        logging.read_metrics(tmp_path / place)
    assert os.listdir(tmp_path) == []


def test_a_failed_cut_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    write(path, RECORDS)
    before = path.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(audio.AudioError, match="no space left"):
        write(path, [], after=20)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["metrics.jsonl"]


def python(program, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
def test_a_killed_process_loses_no_record_that_it_has_written(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with python(
        """
        import sys, time
        from jaxapf.training import logging
        with logging.open_metrics(sys.argv[1]) as log:
            for step in range(1, 4):
                log({"step": step, "loss": 0.1})
            print("written", flush=True)
            time.sleep(60)
        """,
        path,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        process.kill()
    assert steps(path) == [1, 2, 3]


@pytest.mark.skipif(sys.platform != "linux", reason="file size limits as on Linux")
def test_a_full_disk_is_one_sentence(tmp_path):
    with python(
        """
        import resource, signal, sys
        from jaxapf.training import logging
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50, 50))
        try:
            with logging.open_metrics(sys.argv[1]) as log:
                for step in range(9):
                    log({"step": step, "loss": 0.1})
        except logging.AudioError as error:
            print(error)
        """,
        tmp_path / "metrics.jsonl",
    ) as process:
        out, err = process.communicate(timeout=60)
    assert out.endswith("metrics.jsonl' was not written: file too large\n")
    assert err == ""


# TensorBoard


def events(folder):
    """Events of all files in the order of their names, read by the format's description alone."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    found = []
    for path in sorted(Path(folder).iterdir()):
        data = path.read_bytes()
        while data:
            (size,) = struct.unpack("<Q", data[:8])
            found.append(event_pb2.Event.FromString(data[12 : 12 + size]))
            data = data[16 + size :]
    return found


def test_tensorboard_files_hold_the_records(tmp_path, capfd):
    pytest.importorskip("tensorboardX")
    odd = {"step": 60, "loss": math.nan, "grad_norm": 0.25}
    with logging.open_tensorboard(tmp_path / "new" / "board") as log:
        for record in (*RECORDS, odd):
            log(record)
    found = [
        (e.step, v.tag, v.simple_value) for e in events(tmp_path / "new" / "board") for v in e.summary.value
    ]
    expected = [(r["step"], name, r[name]) for r in RECORDS for name in ("loss", "grad_norm")]
    expected.append((60, "grad_norm", 0.25))
    assert [one[:2] for one in found] == [one[:2] for one in expected]
    np.testing.assert_allclose([one[2] for one in found], [one[2] for one in expected], rtol=1e-6)
    assert capfd.readouterr() == ("", "")


def test_a_resumed_run_hides_its_overwritten_steps(tmp_path):
    pytest.importorskip("tensorboardX")
    for after in (0, 3):  # the second of them goes on from step 3
        with logging.open_tensorboard(tmp_path, after=after) as log:
            for step in range(after + 1, after + 6):
                log({"step": step, "loss": float(after)})
    start = events(tmp_path)[0].session_log.START
    shown = {}
    for event in events(tmp_path):
        if event.session_log.status == start:  # as TensorBoard does: what follows it is purged
            shown = {step: loss for step, loss in shown.items() if step < event.step}
        for value in event.summary.value:
            shown[event.step] = value.simple_value
    assert shown == {1: 0, 2: 0, 3: 0, 4: 3, 5: 3, 6: 3, 7: 3, 8: 3}


def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with (
        pytest.raises(ImportError, match=re.escape("pip install 'jaxapf[tensorboard]'")),
        logging.open_tensorboard(tmp_path),
    ):
        pass


def test_a_file_in_place_of_the_folder_is_one_sentence(tmp_path):
    pytest.importorskip("tensorboardX")
    (tmp_path / "board").touch()
    with (
        pytest.raises(audio.AudioError, match="board' cannot be written"),
        logging.open_tensorboard(tmp_path / "board"),
    ):
        pass
