"""The command with a stand-in for the fit: tests of files and messages take no time."""

import json
import os

import command_line
import numpy as np
import pytest
import scipy.signal
from command_line import FS

from jaxapf import audio
from jaxapf.cli import jax_setup


@pytest.fixture
def align(monkeypatch):
    """A stand-in for `alignment.estimate`, and a report that is one line."""
    stand_in = command_line.StandIn()
    monkeypatch.setattr("jaxapf.alignment.estimate.align", stand_in.align)
    monkeypatch.setattr("jaxapf.alignment.model.Alignment", stand_in.Alignment)
    monkeypatch.setattr("jaxapf.report.write", stand_in.write)
    monkeypatch.setattr(jax_setup, "use_compilation_cache", lambda: None)
    return stand_in


@pytest.fixture
def pair(tmp_path, monkeypatch):
    """dry.wav and wet.wav, two channels, in the current folder."""
    monkeypatch.chdir(tmp_path)
    x = 0.2 * command_line.RNG.standard_normal((2, 4000)).clip(-4, 4)
    audio.write("dry.wav", x, command_line.FS)
    audio.write("wet.wav", -np.roll(x, 2, axis=-1), command_line.FS)
    return tmp_path


@pytest.fixture(scope="session")
def aligned(tmp_path_factory):
    """A folder with a pair whose filter is known, aligned by the real command, and what that printed."""
    folder = tmp_path_factory.mktemp("aligned")
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(folder / "cache")}
    x = np.random.default_rng(2).standard_normal((2, 3 * FS)).clip(-4, 4) * 0.1
    c, d = 0.81, -1.1
    wet = -np.asarray(scipy.signal.lfilter([c, d, 1], [1, d, c], np.pad(x, [(0, 0), (5, 0)])[:, : 3 * FS]))
    audio.write(folder / "dry.wav", x, FS, subtype="FLOAT")
    audio.write(folder / "wet.wav", wet, FS, subtype="FLOAT")
    words = "align dry.wav wet.wav -o a.wav --model m.json --report r.html --order 2 --json"
    done = command_line.jaxapf(*words.split(), cwd=folder, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    return folder, environment, json.loads(done.stdout)
