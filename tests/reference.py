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


def first_order(a, x, zi):
    """y[t] = a[t] y[t - 1] + x[t], `zi` the output before the first: (y, zf)."""
    y = np.zeros(len(x), np.result_type(a, x, zi))
    last = zi
    for t, x_t in enumerate(x):
        last = y[t] = a[t] * last + x_t
    return y, last


def lattice(margins, x, zi):
    """All-pass sections in series as normalised lattices, two rotations a sample: (y, zf), `zi` pairs."""
    states = []
    for u, v, m, (s1, s2) in zip(*np.array(margins), zi, strict=True):
        k1, k2 = (u - v) / (u + v), (u + v - 2 * m) / (u + v + 2 * m)
        q1, q2 = np.sqrt(1 - k1**2), np.sqrt(1 - k2**2)
        y = np.zeros(len(x))
        for t, x_t in enumerate(x):
            y[t] = k2 * x_t + q2 * s2
            inner = q2 * x_t - k2 * s2
            s1, s2 = q1 * inner - k1 * s1, k1 * inner + q1 * s1
        x = y
        states.append((s1, s2))
    return x, np.array(states)


def interleaved(filtered, params, x, zi):
    """`filtered` with z^-1 replaced by z^-stretch: (y, zf), `zi` one a phase, the next sample's first."""
    stretch = len(zi)
    y, zf = np.zeros(len(x)), np.zeros_like(zi)
    for phase in range(stretch):
        y[phase::stretch], zf[phase] = filtered(params, x[phase::stretch], zi[phase])
    return y, np.roll(zf, -len(x), axis=0)


def paper_first_order(g, x, *, warp=0.0, stretch=1):
    """First-order all-pass (g + z^-1) / (1 + g z^-1) by its difference equation, warped, then stretched.

    Warped, every delay is the all-pass (warp + z^-1) / (1 + warp z^-1); its output is warp times its
    input plus its state, so that the sum at the section's input is solved for first.
    """
    state = np.zeros(len(x) + stretch)  # state[t + stretch] is written at t and read at t + stretch
    y = np.zeros(len(x))
    for t, x_t in enumerate(x):
        before = state[t]
        inner = (x_t - g * before) / (1 + g * warp)
        delayed = warp * inner + before
        y[t] = g * inner + delayed
        state[t + stretch] = inner - warp * delayed
    return y


def paper_second_order(c, d, x, *, warp=0.0, stretch=1):
    """Second-order all-pass by the difference equations of Bargum et al. 2023, then stretched.

    Equation 3, or with `warp` equation 5, whose last term of v1 is printed as - v2 (a^2 + 1) and has to be
    + v2 (1 - a^2). Stretched, the states of `stretch` samples ago are the ones that count.
    """
    a = warp
    v1, v2 = np.zeros((2, len(x) + stretch))  # written at t + stretch, read at t
    y = np.zeros(len(x))
    for t, x_t in enumerate(x):
        y[t] = (x_t * (c + a**2 + a * d) + v1[t]) / (1 + a**2 * c + a * d)
        fed = x_t - c * y[t]
        v1[t + stretch] = (
            x_t * (2 * a + d + a * c) + y[t] * (-2 * a * c - d - a) - a**3 * fed + v2[t] * (1 - a**2)
        )
        v2[t + stretch] = fed - (a**2 * fed + a * v2[t])
    return y


def lattice_varying(margins, x, zi):
    """`lattice` with one set of margins a sample: (y, zf), `margins` three `(n_samples, n_sections)`."""
    states = np.array(zi, float)
    y = np.zeros(len(x))
    for t, value in enumerate(x):
        for i, (u, v, m) in enumerate(zip(*(field[t] for field in margins), strict=True)):
            s1, s2 = states[i]
            k1, k2 = (u - v) / (u + v), (u + v - 2 * m) / (u + v + 2 * m)
            q1, q2 = np.sqrt(1 - k1**2), np.sqrt(1 - k2**2)
            value, inner = k2 * value + q2 * s2, q2 * value - k2 * s2
            states[i] = q1 * inner - k1 * s1, k1 * inner + q1 * s1
        y[t] = value
    return y, states


def first_order_varying(g, x):
    """First-order all-pass whose g moves, energy-preserving: y = g x + q s, s' = q x - g s, q^2 = 1 - g^2."""
    s, y = 0.0, np.zeros(len(x))
    for t, x_t in enumerate(x):
        q = np.sqrt(1 - g[t] ** 2)
        y[t], s = g[t] * x_t + q * s, q * x_t - g[t] * s
    return y


def filter_frames(response, x, n_fft, hop, n_window):
    """Frame by frame: Hann windows that add up to one, circular convolution of each frame, overlap-add.

    Frames before the first and after the last would have its response: their windows are added to its own.
    """
    last = len(response) - 1
    weights = np.zeros((last + 1, len(x)))
    for t in range(len(x)):
        for k in range(-n_window, last + n_window + 1):
            if 2 * abs(t - k * hop) < n_window:
                weights[min(max(k, 0), last), t] += np.cos(np.pi * (t - k * hop) / n_window) ** 2
    weights /= weights.sum(axis=0)
    y = np.zeros(len(x) + n_window + n_fft)
    for k in range(last + 1):
        impulse_response = np.fft.irfft(response[k], n_fft)
        start = k * hop - n_window // 2  # sample t is the (t - start)th of its frame
        for t in range(max(0, start), min(len(x), start + n_window)):
            # Beyond the end of the frame it wraps around to the start.
            wrapped = np.roll(impulse_response, t - start) * weights[k, t] * x[t]
            y[n_window + start : n_window + start + n_fft] += wrapped
    return y[n_window : n_window + len(x)]


def allpass_loop(p, gains, x, zi):
    """All-passes in a feedback loop: the equations of each sample, solved as they stand."""
    past, n = np.asarray(zi, np.float64), len(zi) - 1
    y = np.zeros(len(x))
    for t in range(len(x)):
        system, right = np.eye(n + 1), np.zeros(n + 1)
        system[0, n] -= gains[0]
        right[0] = x[t] + gains[1] * past[n]
        for k in range(1, n + 1):
            system[k, k - 1] -= p[t]
            right[k] = p[t] * past[k] - past[k - 1]
        past = np.linalg.solve(system, right)
        y[t] = past[n]
    return y, past
