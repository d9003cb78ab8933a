"""The command with a stand-in for the fit: tests of files and messages take no time."""

import command_line
import numpy as np
import pytest

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
