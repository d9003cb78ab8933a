"""The command in this process, with a stand-in for the fit that delays by whole samples."""

import dataclasses
import json
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxapf import audio
from jaxapf.__main__ import main

FS = 8000
RNG = np.random.default_rng(1)
ALIGN = ("align", "dry.wav", "wet.wav", "-o", "a.wav")


class Sections(NamedTuple):
    u: np.ndarray
    v: np.ndarray
    m: np.ndarray


@dataclasses.dataclass(frozen=True)
class Alignment:
    """A whole-sample delay and a polarity; `gain` makes results pass full scale."""

    fs: float
    delay_samples: int
    polarity: int
    gain: float = 1.0
    method: str = "stand-in"
    stop_reason: str = "a stand-in has no filter"
    sections: Sections = dataclasses.field(default_factory=lambda: Sections(*np.zeros((3, 0))))
    controls: list = dataclasses.field(default_factory=list)
    metrics: dict = dataclasses.field(default_factory=dict)
    command: str = ""

    @property
    def sos(self):
        return np.zeros((0, 6))

    def apply(self, x):
        delayed = np.roll(x, self.delay_samples, axis=-1)
        delayed[..., : max(0, self.delay_samples)] = 0
        return self.gain * self.polarity * delayed

    def stream(self, read, n_samples, fs):
        for start in range(0, n_samples, 1000):
            stop = min(start + 1000, n_samples)
            before = min(start, max(0, start - self.delay_samples))
            yield self.apply(read(before, stop))[..., start - before :]

    def dumps(self):
        return json.dumps({"stand-in": [self.fs, self.delay_samples, self.polarity]})

    def save(self, path):
        audio.write_text(path, self.dumps())

    @classmethod
    def load(cls, path):
        found = json.loads(Path(path).read_text())
        if "stand-in" not in found:
            raise ModelError(f"'{path}' is not a model")
        fs, *rest = found["stand-in"]
        controls = [{"type": "second_order", "cutoff_hz": 123.4, "q": 0.5}]
        return cls(float(fs), *rest, controls=controls, metrics={"esr_aligned": 0.5, "esr_raw": None})


class ModelError(ValueError):
    pass


class StandIn(types.ModuleType):
    """What the command uses of `alignment.estimate`, with what it was called with."""

    Alignment = Alignment

    def __init__(self):
        super().__init__("jaxapf.alignment.estimate")
        self.calls, self.reports, self.gain, self.delay, self.error = [], [], 1.0, 3, None

    def align(self, dry, wet, fs, **options):
        self.calls.append((dry, wet, fs, options))
        if self.error is not None:
            raise self.error
        names = ("esr_raw", "esr_delay", "esr_aligned", "esr_bound")
        metrics = dict.fromkeys((*names, "correlation_raw", "correlation_delay", "correlation_aligned"), 0.5)
        metrics |= {"delay_only_samples": 2, "delay_only_polarity": -1, "seconds": float("nan")}
        return Alignment(fs, self.delay, 1, self.gain, metrics=metrics)

    def write(self, path, *signals, **options):
        """Stand in for `report.write`."""
        self.reports.append((signals, options))
        audio.write_text(path, "<!doctype html>")


def files():
    return sorted(os.listdir())


def run(capsys, *arguments):
    code = main(list(map(str, arguments)))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def jaxapf(*arguments, **options):
    """Run the real command as a process of its own, warnings as errors."""
    line = [sys.executable, "-W", "error", "-m", "jaxapf", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=300, **options)


def refused(capsys, *arguments, code=2):
    """Run what must fail, check the manner, and return the sentence."""
    before = files()
    got, out, err = run(capsys, *arguments)
    assert got == code, err
    assert out == ""
    assert err.startswith("jaxapf: error: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert files() == before
    return err
