"""The real command: the filter it finds, how soon it answers, full disks, signals."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
from command_line import ALIGN, FS, files, jaxapf

from jaxapf import audio


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("--help", 0),
        ("align missing.wav missing.wav -o a.wav", 2),
        ("phaser fit missing.wav missing.wav -o a.json", 2),
        ("compressor fit missing.wav missing.wav -o a.json", 2),
        ("style missing.wav missing.wav -o a.wav", 2),
        ("effect --list", 0),
        ("apply missing.json missing.wav -o a.wav", 2),
        ("export missing.json --format sos -o a.txt", 2),
        ("demo -o /dev/null", 2),
        ("info missing.wav", 2),
        pytest.param("--version", 0, marks=pytest.mark.slow),
        pytest.param("align", 2, marks=pytest.mark.slow),
        pytest.param("effect gain missing.wav -o a.wav", 2, marks=pytest.mark.slow),
    ],
)
def test_answers_without_importing_jax(tmp_path, line, code):
    program = (
        "import sys\nfrom jaxapf.__main__ import main\ncode = main(sys.argv[1:])\n"
        "assert not {'jax', 'scipy'} & set(sys.modules)\nsys.exit(code)"
    )
    words = [sys.executable, "-c", program, *line.split()]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == code, done.stderr


def test_info_imports_no_training_library(tmp_path):
    program = (
        "import sys\nfrom jaxapf.__main__ import main\ncode = main(['info'])\n"
        "assert not {'flax', 'optax', 'orbax', 'jaxapf.alignment.estimate'} & set(sys.modules)\n"
        "sys.exit(code)"
    )
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


def test_the_real_command_finds_a_known_filter(aligned):
    folder, _, result = aligned
    assert result["polarity"] == -1
    assert result["delay_samples"] == pytest.approx(5, abs=0.05)
    assert result["metrics"]["esr_aligned"] < 1e-3 < 0.1 < result["metrics"]["esr_delay"]
    wet, out = audio.read(folder / "wet.wav")[0], audio.read(folder / "a.wav")[0]
    assert np.sum((out - wet) ** 2) / np.sum(wet**2) == pytest.approx(
        result["metrics"]["esr_aligned"], rel=0.1, abs=1e-6
    )
    assert (folder / "r.html").read_text(encoding="utf-8").startswith("<!")
    assert json.loads((folder / "m.json").read_text())["command"].startswith("jaxapf align dry.wav wet.wav")
    assert sorted(path.name for path in folder.glob("*.*")) == [
        "a.wav",
        "dry.wav",
        "m.json",
        "r.html",
        "wet.wav",
    ]


def test_the_real_model_applies_and_exports(aligned, tmp_path):
    folder, environment, _ = aligned
    for words in (
        f"apply m.json dry.wav -o {tmp_path}/b.wav",
        f"export m.json --format sos -o {tmp_path}/m.txt",
        f"export m.json --format json -o {tmp_path}/n.json",
    ):
        done = jaxapf(*words.split(), cwd=folder, env=environment)
        assert (done.returncode, done.stderr) == (0, "")
    out, _ = audio.read(folder / "a.wav")
    np.testing.assert_array_equal(audio.read(tmp_path / "b.wav")[0], out)
    # SciPy with the exported table does the same, up to the fraction of the delay.
    sos = np.loadtxt(tmp_path / "m.txt", ndmin=2)
    dry = np.pad(audio.read(folder / "dry.wav")[0], [(0, 0), (5, 0)])[:, : 3 * FS]
    mine = -np.asarray(scipy.signal.sosfilt(sos, dry))
    assert np.sum((mine - out) ** 2) < 1e-2 * np.sum(out**2)
    exported, saved = (json.loads(path.read_text()) for path in (tmp_path / "n.json", folder / "m.json"))
    assert exported == saved


@pytest.mark.slow
def test_a_foreign_model_is_refused_by_the_real_command(aligned, tmp_path):
    folder, environment, _ = aligned
    for content in ("{}", '{"format": "jaxapf-alignment", "version": 99}'):
        (tmp_path / "m.json").write_text(content)
        done = jaxapf(
            "apply", tmp_path / "m.json", folder / "dry.wav", "-o", tmp_path / "o.wav", env=environment
        )
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert done.stderr.startswith("jaxapf: error: '")
    assert [path.name for path in tmp_path.iterdir()] == ["m.json"]


@pytest.mark.slow
@pytest.mark.parametrize("variable", ["JAX_COMPILATION_CACHE_DIR", "XDG_CACHE_HOME"])
@pytest.mark.skipif(sys.platform != "linux", reason="cache folder as on Linux")
def test_compiled_code_is_kept_between_runs(tmp_path, variable):
    program = (
        "from jaxapf.cli import jax_setup\nfolder = jax_setup.use_compilation_cache()\n"
        "import jax\njax.jit(lambda x: x * 2 + 1)(1.0)\nprint(folder)"
    )
    environment = {name: value for name, value in os.environ.items() if "CACHE" not in name}
    environment[variable] = str(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=60
    )
    assert done.stdout.startswith(str(tmp_path)), done.stderr
    assert any(Path(done.stdout.strip()).iterdir())


# Full disks and signals


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_printing_to_a_full_disk_and_to_nobody(pair):
    line = [sys.executable, "-m", "jaxapf", "info", "dry.wav"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (2, "jaxapf: error: output: no space left on device\n")
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(line, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


STANDING_IN = """
import resource, signal, sys
import command_line
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
sys.modules["jaxapf.alignment.estimate"] = sys.modules["jaxapf.report"] = command_line.StandIn()
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
from jaxapf.__main__ import main
sys.exit(main(sys.argv[2:]))
"""


def standing_in(program, *arguments):
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )


@pytest.mark.skipif(sys.platform != "linux", reason="file size limits as on Linux")
@pytest.mark.parametrize("limit", [10, pytest.param(20000, marks=pytest.mark.slow)])
def test_a_full_disk(pair, limit):
    program = standing_in(STANDING_IN, limit, *ALIGN, "--model", "m.json")
    out, err = program.communicate(timeout=60)
    assert (program.returncode, out) == (2, "")
    assert "'a.wav' was not written: file too large" in err
    assert err.count("\n") == 1
    assert files() == ["dry.wav", "wet.wav"]


WAITING = """
import signal, sys, time
import command_line
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
stand_in = command_line.StandIn()
def slow(alignment, read, n_samples, fs):
    yield read(0, 1000)
    print("halfway", flush=True)
    time.sleep(60)
stand_in.Alignment.stream = slow
sys.modules["jaxapf.alignment.estimate"] = stand_in
from jaxapf.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
@pytest.mark.parametrize(
    ("name", "code"),
    [("SIGTERM", 143)]
    + [pytest.param(*one, marks=pytest.mark.slow) for one in (("SIGINT", 130), ("SIGHUP", 129))],
)
def test_signals_halfway_through_writing(pair, name, code):
    program = standing_in(WAITING, *ALIGN)
    assert program.stdout is not None
    assert program.stdout.readline() == "halfway\n"
    assert len(files()) == 3
    started = time.monotonic()
    program.send_signal(getattr(signal, name))
    _, err = program.communicate(timeout=30)
    assert program.returncode == code
    assert time.monotonic() - started < 5
    assert err.count("\n") == 1
    assert err.startswith("jaxapf: ")
    assert files() == ["dry.wav", "wet.wav"]
