"""Hide settings, look for them, compare."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.runner import Row, show_progress
from experiments.common.tables import made_with, table
from experiments.reverse_engineering import config, train
from jaxapf import audio, params
from jaxapf.effects import chain, equalizer
from jaxapf.frequency import freqz_sos

FREQS_HZ = np.geomspace(50.0, 10e3, 200)


def hidden(seed: int) -> list[float]:
    """Return settings drawn at random; the search does not see them."""
    wanted = train.controls()
    raw = np.random.default_rng(seed).uniform(-config.EDGE, config.EDGE, len(wanted))
    return [float(value) for value in params.denormalise(raw, wanted)]


def make_wet(values: Sequence[float], dry: np.ndarray) -> np.ndarray:
    """Return the clip through the chain, exactly."""
    strip = chain.chain(*train.strip())
    process = jax.jit(lambda values, x: chain.apply(strip, values, x, float(config.FS)))
    return np.asarray(process([jnp.float32(value) for value in values], jnp.asarray(dry)))


def read_clip(path: Path) -> np.ndarray:
    """Read the first seconds of a file, first channel, at the rate of the search, peak 0.5.

    Raises:
        ValueError: it cannot be read, or is too short or silent.
    """
    x, fs = audio.read(path, channels=[0])
    clip = audio.resample(x, fs, config.FS).reshape(-1)[: round(config.CLIP_S * config.FS)]
    peak = float(np.max(np.abs(clip), initial=0.0))
    if len(clip) < round(config.CHUNK_S * config.FS) or peak == 0:
        raise ValueError(f"'{path}' is silent or shorter than {config.CHUNK_S:g} s; give another clip")
    return (0.5 / peak * clip).astype(np.float32)


def response_db(values: Sequence[float]) -> np.ndarray:
    """Return the response of the equaliser at `FREQS_HZ`, in dB."""
    sos = equalizer.sections(equalizer.packed(values[1:19]), float(config.FS)).sos
    return 20 * np.log10(np.abs(freqz_sos(np.asarray(sos, np.float64), FREQS_HZ, float(config.FS))))


def measure(seed: int, dry: np.ndarray) -> Row:
    """Hide settings, look for them, compare."""
    truth = hidden(seed)
    wet = make_wet(truth, dry)
    began, used = time.perf_counter(), time.process_time()
    found = train.recover(
        dry, wet, float(config.FS), on_progress=lambda text: show_progress(f"seed {seed}: {text}")
    )
    seconds, used = time.perf_counter() - began, time.process_time() - used
    difference = response_db(found.values) - response_db(truth)
    level_db = float(np.mean(difference))
    eq_db = float(np.sqrt(np.mean((difference - level_db) ** 2)))
    return {
        "seed": seed,
        "esr": found.esr,
        "eq_db": eq_db,
        "eq_level_db": level_db,
        "moved_db": moved(truth, found.values, level_db),
        "seconds": seconds,
        "processor_s": used,
        "recovered": found.esr <= config.RECOVERED_ESR and eq_db <= config.RECOVERED_EQ_DB,
        "true": truth,
        "found": found.values,
    }


def moved(truth: Sequence[float], found: Sequence[float], level_db: float) -> dict[str, float]:
    """Return the errors of threshold and make-up gain once the equaliser has the true level.

    A louder equaliser with a threshold as much higher and make-up gain as much lower sounds the same.
    """
    errors = {
        control.name.rpartition(".")[2]: mine - true
        for control, true, mine in zip(train.controls(), truth, found, strict=True)
    }
    return {"threshold": errors["threshold_db"] - level_db, "makeup": errors["makeup_db"] + level_db}


def summary(rows: Sequence[Row]) -> dict[str, str]:
    """Return the tables: a row a seed, and the settings of the first."""
    shown = [
        {
            "seed": row["seed"],
            "ESR": f"{row['esr']:.1e}",
            "equaliser, dB": f"{row['eq_db']:.2f}",
            "its level, dB": f"{row['eq_level_db']:+.1f}",
            "threshold, dB": f"{row['moved_db']['threshold']:+.1f}",
            "make-up, dB": f"{row['moved_db']['makeup']:+.1f}",
            "seconds": f"{row['seconds']:.0f}",
            "processor, s": f"{row['processor_s']:.0f}",
            "recovered": "yes" if row["recovered"] else "no",
        }
        for row in rows
    ]
    first = rows[0]
    settings = [
        {"control": control.name, "unit": control.unit, "true": f"{true:.4g}", "found": f"{found:.4g}"}
        for control, true, found in zip(train.controls(), first["true"], first["found"], strict=True)
    ]
    count = sum(row["recovered"] for row in rows)
    cell = lambda column, value: str(value)  # noqa: E731
    parts = [made_with(), f"Recovered: {count} of {len(rows)}.", table(shown, cell)]
    return {"recovered": "\n\n".join(parts) + "\n", "settings": table(settings, cell) + "\n"}
