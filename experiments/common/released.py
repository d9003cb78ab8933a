"""The cascade that Bargum et al. released with their paper, for their Surveyor model: a known answer."""

from __future__ import annotations

import numpy as np

from jaxapf import allpass

# Coefficients c, d and warps a of the second-order sections; coefficient g and warp h of the first-order one.
SURVEYOR = {
    "c": (0.9980386166384465, 0.002789362428126286, 0.9984650242883831),
    "d": (-1.6534246988804708, 0.10138022220093301, -1.6954015215440774),
    "a": (-0.8644981322332936, -0.30740110972783036, -0.8657947815319681),
    "g": -0.9649031710274468,
    "h": -0.9729902664858184,
}


def surveyor(fs: float) -> allpass.Sections:
    """The released cascade: c = R^2, d = -2 R cos(w) (Bargum et al. 2023, eq. 4), then warped.

    Its coefficients are the same at any sample rate; the released ones are meant for 192 kHz.

    Example:
        >>> surveyor(192000.0).sos.shape
        (4, 6)
    """
    c, d, a = (np.asarray(SURVEYOR[name]) for name in "cda")
    radius = np.sqrt(c)
    cutoff_hz = np.arccos(-d / (2 * radius)) * fs / (2 * np.pi)
    return allpass.concatenate(
        allpass.second_order(radius, cutoff_hz, fs, warp=a),
        allpass.first_order(SURVEYOR["g"], warp=SURVEYOR["h"]),
    )
