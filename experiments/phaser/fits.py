"""`fit_phaser` on the training signals, and what it takes to tell what a device is made of: other layouts."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.runner import Row, show_progress
from experiments.phaser import config
from experiments.phaser.data import Device
from jaxapf import audio, metrics
from jaxapf.effects import phaser
from jaxapf.effects.modelling import descent, sweep_estimation
from jaxapf.effects.modelling.phaser import (
    N_TERMS,
    fit_phaser,
    polynomial_residual,
    start_parameters,
    swept_range_hz,
)

SCALARS = ("rate_hz", "phase", "amplitude", "decay", "bias", "depth", "through", "feedback")


def path_of(device: Device, folder: Path) -> Path:
    """Where the fit of a device is kept."""
    return folder / "fits" / f"{device.name}.json"


def read(device: Device, folder: Path) -> Row | None:
    """The fit of these signals, if it was made."""
    path = path_of(device, folder)
    if not path.is_file():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    return found if found["n_samples"] == len(device.dry) else None


def fitted(device: Device, folder: Path) -> Row:
    """What `fit_phaser` finds, unless that was done: layout, controls, figures."""
    done = read(device, folder)
    if done is not None:
        return done
    found = fit_phaser(
        device.dry, device.wet, device.fs, on_stage=lambda text: show_progress(f"{device.name}: {text}")
    )
    result: Row = {
        "n_samples": len(device.dry),
        **found.options,
        "controls": jax.tree.map(lambda leaf: np.asarray(leaf).tolist(), found.controls._asdict()),
        "metrics": found.metrics,
    }
    path_of(device, folder).parent.mkdir(parents=True, exist_ok=True)
    audio.write_text(path_of(device, folder), json.dumps(result, indent=1) + "\n")
    return result


def controls_of(result: Row) -> phaser.Controls:
    """The controls of a fit, float32."""
    kept = result["controls"]
    values = {name: jnp.asarray(kept[name], jnp.float32) for name in (*SCALARS, "b", "a")}
    layers = tuple((jnp.asarray(k, jnp.float32), jnp.asarray(b, jnp.float32)) for k, b in kept["shape"])
    return phaser.Controls(shape=layers, **values)


# Other layouts


def compared(device: Device, folder: Path) -> list[Row]:
    """What each layout of `config.LAYOUTS` leaves on the training signals, and what it then looks like."""
    path = folder / "layouts" / f"{device.name}.json"
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    show_progress(f"{device.name}: reading the sweep")
    starts = sweep_estimation.starts(
        sweep_estimation.spectra_of(device.dry, device.wet, device.fs), count=len(config.LAYOUTS)
    )
    found = {start.layout: start for start in starts}
    rows = []
    for stages, delay in config.LAYOUTS:
        layout = sweep_estimation.Layout(stages, delay)
        # One without feedback has no delay; the best of the others tells where to begin.
        start = found.get(layout) or found.get(sweep_estimation.Layout(stages, 1 - delay)) or starts[0]
        show_progress(f"{device.name}: {stages} stages, delay {delay}")
        rows.append(_row(device, start._replace(layout=layout)))
    path.parent.mkdir(parents=True, exist_ok=True)
    audio.write_text(path, json.dumps(rows, indent=1) + "\n")
    return rows


def _row(device: Device, start: sweep_estimation.Start) -> Row:
    scale = 1 / np.sqrt(np.mean(device.wet**2))
    data = {name: jnp.asarray(scale * getattr(device, name), jnp.float32) for name in ("dry", "wet")}
    residual = polynomial_residual(start.layout, device.fs, config.TERMS)
    theta, error = descent.levenberg_marquardt(
        residual, start_parameters(start), data, steps=config.LAYOUT_STEPS
    )
    low_hz, high_hz = swept_range_hz(theta, device.fs)
    return {
        **start.layout._asdict(),
        "esr": float(error),
        "feedback": float(phaser.MOST_FEEDBACK * np.tanh(theta[3 + N_TERMS])),
        "rate_hz": float(np.exp(theta[0])),
        "low_hz": low_hz,
        "high_hz": high_hz,
    }


# Tested


def esr(controls: phaser.Controls, layout: tuple[int, int], device: Device, window_ms: float | None) -> float:
    """Error-to-signal ratio on the test, as recursion or, with a window, by frequency sampling; float32."""
    return metrics.esr(predicted(controls, layout, device, window_ms), device.test_wet[device.skip :])


def predicted(
    controls: phaser.Controls, layout: tuple[int, int], device: Device, window_ms: float | None
) -> np.ndarray:
    """The wet test signal as a phaser makes it, without what was trained on."""
    (stages, delay), dry = layout, jnp.asarray(device.test_dry, jnp.float32)
    if window_ms is None:
        rest = phaser.initial_state(stages=stages)
        y, _ = phaser.phaser(controls, rest, dry, device.fs, stages=stages, delay=delay)
    else:
        y = phaser.phaser_sampled(controls, dry, device.fs, window_ms=window_ms, stages=stages, delay=delay)
    return np.asarray(y, np.float64)[device.skip :]
