"""Filters as float64 NumPy loops: slow, plain, and independent of the code under test."""

import numpy as np


def lfilter(b, a, x, zi):
    """Transposed direct form II of one signal: (y, zf)."""
    b, a = np.asarray(b) / a[0], np.asarray(a) / a[0]
    order = max(len(b), len(a)) - 1
    b, a = (np.concatenate([c, np.zeros(order + 1 - len(c))]) for c in (b, a))
    z = np.append(np.asarray(zi), 0.0)
    y = np.zeros(len(x), np.result_type(b, a, x, z))
    for t, x_t in enumerate(x):
        y[t] = b[0] * x_t + z[0]
        z = np.append(b[1:] * x_t - a[1:] * y[t] + z[1:], 0.0)
    return y, z[:-1]


def sosfilt(sos, x, zi):
    """Sections in series: (y, zf), `zi` of shape (n_sections, 2)."""
    states = []
    for row, z in zip(sos, zi, strict=True):
        x, z = lfilter(row[:3], row[3:], x, z)
        states.append(z)
    return x, np.array(states)


def allpole(a, x, zi):
    """y[t] = x[t] - sum_i a[t, i] y[t - 1 - i]; `zi` holds past outputs, newest first."""
    a = np.broadcast_to(a, (len(x), np.shape(a)[-1]))
    past = np.array(zi, np.result_type(a, x, zi))
    y = np.zeros(len(x), past.dtype)
    for t, x_t in enumerate(x):
        y[t] = x_t - a[t] @ past
        past = np.append(y[t], past)[: len(past)]
    return y, past


def warped_allpass(c, d, warp, x):
    """Second-order all-pass whose two delays are first-order all-passes (warp + z^-1) / (1 + warp z^-1).

    Bargum et al. 2023, eq. 5, in direct form II, with the sign that makes it an all-pass: the first delay's
    state is fed with (1 - warp^2) times its input.
    """
    s1 = s2 = 0.0
    y = np.zeros(len(x))
    for t, x_t in enumerate(x):
        # Both all-passes have a path without delay: solve w0 = x - d w1 - c w2 for w0 first.
        w0 = (x_t - d * s1 - c * (warp * s1 + s2)) / (1 + warp * d + warp**2 * c)
        w1 = warp * w0 + s1
        w2 = warp * w1 + s2
        y[t] = c * w0 + d * w1 + w2
        s1, s2 = (1 - warp**2) * w0 - warp * s1, (1 - warp**2) * w1 - warp * s2
    return y


def stretched(sos, stretch):
    """Rows of `sos` with z^-1 replaced by z^-stretch, as a list of (b, a)."""
    pairs = []
    for row in sos:
        b, a = np.zeros(2 * stretch + 1), np.zeros(2 * stretch + 1)
        b[::stretch], a[::stretch] = row[:3], row[3:]
        pairs.append((b, a))
    return pairs
