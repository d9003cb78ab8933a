"""Controls with their units and ranges, and the maps between them and a network's output."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = [
    "COEFFICIENT",
    "COMPRESSOR",
    "CUTOFF_HZ",
    "CUTOFF_HZ_LOG",
    "DELAY_MS",
    "DISTORTION",
    "EQUALIZER",
    "EXPANDER",
    "FIRST_ORDER",
    "GAIN",
    "NEAR_ONE",
    "OCTAVES_HZ",
    "PANNER",
    "POLARITY",
    "RADIUS",
    "REVERB",
    "SECOND_ORDER",
    "WARP",
    "WIDTH",
    "Control",
    "Q",
    "denormalise",
    "normalise",
]

NEAR_ONE = 0.99999  # radius, warp and first-order coefficients stay inside the unit circle


class Control(NamedTuple):
    """One control: its name, its unit ("" for a bare number), its range, and the scale of its raw value.

    ``scale``: ``"linear"``; ``"log"``, where equal steps are equal ratios; ``"cubic"``, fine around the
    middle of the range and coarse at its ends.
    """

    name: str
    unit: str
    low: float
    high: float
    scale: str = "linear"


RADIUS = Control("radius", "", -NEAR_ONE, NEAR_ONE)
CUTOFF_HZ = Control("cutoff_hz", "Hz", 20.0, 20e3)
WARP = Control("warp", "", -NEAR_ONE, NEAR_ONE)
COEFFICIENT = Control("coefficient", "", -NEAR_ONE, NEAR_ONE)
CUTOFF_HZ_LOG = CUTOFF_HZ._replace(scale="log")
Q = Control("q", "", 0.1, 10.0, "log")
DELAY_MS = Control("delay_ms", "ms", -3.0, 3.0, "cubic")
POLARITY = Control("polarity", "", -1.0, 1.0)
SECOND_ORDER = (RADIUS, CUTOFF_HZ, WARP)
FIRST_ORDER = (COEFFICIENT, WARP)

# The effects: one specification each, in the order of the controls of `effects.chain.effect(name)`.
_SHELF_Q = Control("q", "", 0.4, 1.0, "log")
_PEAK_Q = Control("q", "", 0.3, 5.0, "log")
_BANDS = {
    "low_shelf": (30.0, 450.0, _SHELF_Q),
    "peak_1": (80.0, 800.0, _PEAK_Q),
    "peak_2": (300.0, 2500.0, _PEAK_Q),
    "peak_3": (1000.0, 5000.0, _PEAK_Q),
    "peak_4": (2500.0, 9000.0, _PEAK_Q),
    "high_shelf": (2000.0, 10e3, _SHELF_Q),
}
EQUALIZER = tuple(
    control
    for band, (low, high, quality) in _BANDS.items()
    for control in (
        Control(f"{band}_gain_db", "dB", -20.0, 20.0),
        Control(f"{band}_cutoff_hz", "Hz", low, high, "log"),
        quality._replace(name=f"{band}_q"),
    )
)
COMPRESSOR = (
    Control("threshold_db", "dB", -60.0, 0.0),
    Control("ratio", "", 1.0, 10.0, "log"),
    Control("attack_ms", "ms", 0.5, 100.0, "log"),
    Control("release_ms", "ms", 10.0, 1000.0, "log"),
    Control("average_ms", "ms", 0.1, 100.0, "log"),
    Control("knee_db", "dB", 0.0, 18.0),
    Control("makeup_db", "dB", -12.0, 24.0),
    Control("lookahead_ms", "ms", 0.0, 10.0),
)
OCTAVES_HZ = (63, 125, 250, 500, 1000, 2000, 4000, 8000)  # of the reverb's bands
GAIN = (Control("gain_db", "dB", -24.0, 24.0),)
DISTORTION = (
    Control("drive_db", "dB", 0.0, 48.0),
    Control("offset", "", -1.0, 1.0),
    Control("mix", "", 0.0, 1.0),
    Control("output_db", "dB", -24.0, 24.0),
)
REVERB = (
    *(Control(f"decay_s_{octave}", "s", 0.1, 10.0, "log") for octave in OCTAVES_HZ),
    *(Control(f"level_db_{octave}", "dB", -36.0, 12.0) for octave in OCTAVES_HZ),
    Control("predelay_ms", "ms", 0.0, 100.0),
    Control("wet_db", "dB", -48.0, 12.0),
    Control("dry_db", "dB", -48.0, 12.0),
)
PANNER = (Control("pan", "", -1.0, 1.0),)
WIDTH = (Control("width", "", 0.0, 2.0),)
EXPANDER = (
    Control("threshold_db", "dB", -80.0, 0.0),
    Control("ratio", "", 1.0, 20.0, "log"),
    Control("attack_ms", "ms", 0.1, 100.0, "log"),
    Control("release_ms", "ms", 5.0, 1000.0, "log"),
    Control("average_ms", "ms", 0.1, 50.0, "log"),
    Control("knee_db", "dB", 0.0, 24.0),
    Control("range_db", "dB", 3.0, 80.0),
    Control("makeup_db", "dB", -24.0, 24.0),
)


def denormalise(raw: Any, controls: Sequence[Control]) -> tuple[Any, ...]:
    """Return controls in their units, (...) each, from raw values, (..., n_controls) in [-1, 1].

    Raises ValueError where the last axis of `raw` has another length. Source: Bargum et al. 2023, eq. 6.

    Example:
        >>> radius, cutoff_hz, warp = denormalise(np.array([0.5, -1.0, 0.0]), SECOND_ORDER)
        >>> float(radius), float(cutoff_hz), float(warp)
        (0.499995, 20.0, 0.0)
    """
    # The command line reads ranges without importing JAX.
    from jaxapf._internal.arrays import as_arrays

    xp, (values,) = as_arrays(raw)
    _check(values, controls, "raw")
    return tuple(_denormalised(xp, values[..., i], one) for i, one in enumerate(controls))


def normalise(values: Any, controls: Sequence[Control]) -> Any:
    """Return the network's output, (..., n_controls) in [-1, 1], for controls in their units: the inverse.

    Example:
        >>> normalise(np.array([20.0]), [CUTOFF_HZ]).tolist()
        [-1.0]
    """
    from jaxapf._internal.arrays import as_arrays

    xp, (array,) = as_arrays(values)
    _check(array, controls, "values")
    return xp.stack([_normalised(xp, array[..., i], one) for i, one in enumerate(controls)], axis=-1)


def _denormalised(xp: Any, raw: Any, one: Control) -> Any:
    if one.scale == "log":
        low, high = math.log(one.low), math.log(one.high)
        return xp.exp((high - low) / 2 * raw + (high + low) / 2)
    warped = raw**3 if one.scale == "cubic" else raw
    return (one.high - one.low) / 2 * warped + (one.high + one.low) / 2


def _normalised(xp: Any, value: Any, one: Control) -> Any:
    if one.scale == "log":
        low, high = math.log(one.low), math.log(one.high)
        return (2 * xp.log(value) - (high + low)) / (high - low)
    linear = (2 * value - (one.high + one.low)) / (one.high - one.low)
    return xp.cbrt(linear) if one.scale == "cubic" else linear


def _check(values: Any, controls: Sequence[Control], name: str) -> None:
    if np.ndim(values) == 0 or values.shape[-1] != len(controls):
        raise ValueError(
            f"{name} has shape {np.shape(values)}; expected {len(controls)} on the last axis, one for each "
            f"of {', '.join(one.name for one in controls)}"
        )
