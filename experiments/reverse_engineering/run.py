"""Recover hidden settings of effects: `python experiments/reverse_engineering/run.py`.

Writes results/recovered.json, recovered.md and picture.svg beside this file. `--update README.md` puts the
tables between that file's markers. README.md says what is hidden and what came out.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.runner import Row, check_folder, made_with, put_tables, show_progress, table
from experiments.reverse_engineering import config, fitting, picture
from jaxapf import audio, datasets, params
from jaxapf._internal import files
from jaxapf.effects import chain, equalizer
from jaxapf.frequency import freqz_sos

RESULTS = Path(__file__).with_name("results")
FREQS_HZ = np.geomspace(50.0, 10e3, 200)


def hidden(seed: int) -> list[float]:
    """Settings drawn at random, of which the search is told nothing."""
    wanted = fitting.controls()
    raw = np.random.default_rng(seed).uniform(-config.EDGE, config.EDGE, len(wanted))
    return [float(value) for value in params.denormalise(raw, wanted)]


def make_wet(values: Sequence[float], dry: np.ndarray) -> np.ndarray:
    """The clip through the chain, exactly."""
    strip = chain.chain(*fitting.strip())
    process = jax.jit(lambda values, x: chain.apply(strip, values, x, float(config.FS)))
    return np.asarray(process([jnp.float32(value) for value in values], jnp.asarray(dry)))


def read_clip(path: Path) -> np.ndarray:
    """The first seconds of a file, first channel, at the rate of the search, peak 0.5.

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
    """Of the equaliser, at `FREQS_HZ`."""
    sos = equalizer.sections(equalizer.packed(values[1:19]), float(config.FS)).sos
    return 20 * np.log10(np.abs(freqz_sos(np.asarray(sos, np.float64), FREQS_HZ, float(config.FS))))


def measure(seed: int, dry: np.ndarray) -> Row:
    """Hide settings, look for them, compare."""
    truth = hidden(seed)
    wet = make_wet(truth, dry)
    began, used = time.perf_counter(), time.process_time()
    found = fitting.recover(
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
    """Errors of threshold and make-up gain once the equaliser has the true level.

    A louder equaliser with a threshold as much higher and make-up gain as much lower sounds the same.
    """
    errors = {
        control.name.rpartition(".")[2]: mine - true
        for control, true, mine in zip(fitting.controls(), truth, found, strict=True)
    }
    return {"threshold": errors["threshold_db"] - level_db, "makeup": errors["makeup_db"] + level_db}


def summary(rows: Sequence[Row]) -> str:
    """What came out, ready for the README."""
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
        for control, true, found in zip(fitting.controls(), first["true"], first["found"], strict=True)
    ]
    count = sum(row["recovered"] for row in rows)
    cell = lambda column, value: str(value)  # noqa: E731
    return "\n\n".join(
        [
            made_with(),
            f"Recovered: {count} of {len(rows)}.",
            table(shown, cell),
            f"Settings of seed {first['seed']}:",
            table(settings, cell),
        ]
    )


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the arguments; wrong ones end the program with exit code 2."""
    parser = argparse.ArgumentParser(description="Recover hidden settings of a chain of effects.")
    parser.add_argument("--data", type=Path, metavar="FILE", help="another clip than the example")
    parser.add_argument("--seed", type=int, help="only these hidden settings (default: 0 to 7)")
    parser.add_argument("--folder", type=Path, default=RESULTS, help="for results (default: beside run.py)")
    parser.add_argument("--update", type=Path, metavar="README.md", help="file to put the tables into")
    arguments = parser.parse_args(argv)
    if arguments.seed is not None and arguments.seed < 0:
        parser.error(f"argument --seed: '{arguments.seed}' is negative; give 0 or more")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Look for all hidden settings; 2 for a mistake of the user's."""
    arguments = parse(argv)
    try:
        check_folder(arguments.folder)
        if arguments.update:
            put_tables(arguments.update, None, "recovered")
        dry = read_clip(arguments.data or Path(datasets.example_pair()[0]))
        seeds = range(config.SEEDS) if arguments.seed is None else [arguments.seed]
        rows = []
        for seed in seeds:
            rows.append(measure(seed, dry))
            # What is done is kept, should the rest be given up.
            write(arguments.folder, rows)
        show_progress("")
        text = summary(rows)
        if arguments.update:
            put_tables(arguments.update, f"\n{text}\n\n", "recovered")
    except (ValueError, files.AudioError) as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 2
    print(text)
    return 0


def write(folder: Path, rows: Sequence[Row]) -> None:
    """Results as JSON and Markdown, and the picture of the first."""
    files.write_text(folder / "recovered.json", json.dumps(list(rows), indent=1) + "\n")
    files.write_text(folder / "recovered.md", summary(rows) + "\n")
    first = rows[0]
    curves = [response_db(first[name]) for name in ("true", "found")]
    files.write_text(folder / "picture.svg", picture.draw(first["true"], first["found"], FREQS_HZ, *curves))


if __name__ == "__main__":
    sys.exit(main())
