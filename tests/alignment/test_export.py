"""Exported models say what the model says."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from jaxapf.alignment import export


def model(n_sections):
    c = np.linspace(0.1, 0.99, n_sections)
    d = np.linspace(-1.0, 1.0, n_sections) / 3
    one = np.ones(n_sections)
    sos = np.stack([c, d, one, one, d, c], axis=-1)
    return SimpleNamespace(sos=sos, fs=44100, delay_samples=-12.3456789012345678, polarity=-1)


@pytest.mark.parametrize("n_sections", [1, 2, 17])
def test_sos_is_exact_in_float64(tmp_path, n_sections):
    alignment = model(n_sections)
    path = tmp_path / "model.txt"
    path.write_text(export.to_sos(alignment))
    np.testing.assert_array_equal(np.loadtxt(path, ndmin=2), alignment.sos)


def test_sos_says_what_the_rows_leave_out():
    comments = [line[2:] for line in export.to_sos(model(3)).splitlines() if line.startswith("#")]
    values = dict(line.split(": ", 1) for line in comments[1:])
    assert values["sample_rate_hz"] == "44100"
    assert float(values["delay_samples"].split()[0]) == model(3).delay_samples
    assert values["polarity"] == "-1"


def test_no_sections_is_a_row_that_changes_nothing():
    signal = pytest.importorskip("scipy.signal")
    sos = np.loadtxt(export.to_sos(model(0)).splitlines(), ndmin=2)
    x = np.arange(5.0)
    np.testing.assert_array_equal(signal.sosfilt(sos, x), x)


def test_json_is_what_save_writes():
    saved = {"version": 1, "name": "Bändchen"}
    alignment = SimpleNamespace(dumps=lambda: json.dumps(saved))
    assert json.loads(export.to_json(alignment)) == saved
