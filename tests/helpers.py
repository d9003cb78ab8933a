"""The registry of filters that the common tests run through, and the tolerances."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import reference
from scipy import signal

from jaxapf import allpass, filters, recursion

EXACT_METHODS = recursion.METHODS


class Filter(NamedTuple):
    """One public filter, brought to a common form for one signal.

    run: `run(params, x, zi, method=...) -> (y, zf)`.
    reference: the same in float64 NumPy.
    params: float64 arrays to differentiate by.
    zi_shape: shape of the state.
    take: `take(params, start, stop)`, the parameters of a chunk.
    """

    run: Callable[..., tuple]
    reference: Callable[..., tuple]
    params: Any
    zi_shape: tuple[int, ...]
    take: Callable[..., Any] = lambda params, start, stop: params


N_SAMPLES = 61
_rng = np.random.default_rng(7)
_butterworth: Any = signal.butter  # whose type stub does not know what `output` does
_sos = _butterworth(4, 0.2, output="sos")
_b4, _a4 = _butterworth(4, 0.3)
_poles = np.poly([0.6 + 0.5j, 0.6 - 0.5j, -0.4])[1:]


def _lfilter(params, x, zi, method="auto"):
    b, a = params
    return filters.lfilter(b, a, x, zi=zi, method=method)


def _lfilter_reference(params, x, zi):
    b, a = params
    return reference.lfilter(b, a, x, zi)


def _sosfilt(sos, x, zi, method="auto"):
    return filters.sosfilt(sos, x, zi=zi, method=method)


def _allpole(a, x, zi, method="auto"):
    return recursion.allpole(a, x, zi, method=method)


def _cascade(params, x, zi, method="auto", stretch=1):
    return allpass.cascade(allpass.Sections(*params), x, zi=zi, method=method, stretch=stretch)


def _stretched(params, x, zi, method="auto"):
    return _cascade(params, x, zi, method, stretch=3)


def _allpass_rows(params):
    """Sections of the margins without the code under test."""
    u, v, m = (np.asarray(field, np.float64) for field in params)
    total = u + v + 2 * m
    c, d = (u + v - 2 * m) / total, 2 * (u - v) / total
    one = np.ones_like(c)
    return np.stack([c, d, one, one, d, c], axis=-1)


def _cascade_reference(params, x, zi):
    """Output only, from rest: the lattice's state is not the direct form's."""
    rows = _allpass_rows(params)
    return reference.sosfilt(rows, x, np.zeros((len(rows), 2)))[0], None


def _stretched_reference(params, x, zi):
    for b, a in reference.stretched(_allpass_rows(params), 3):
        x, _ = reference.lfilter(b, a, x, np.zeros(len(b) - 1))
    return x, None


# 2nd order at both ends and in the middle of the spectrum, and a first-order section (v = 0).
_margins = tuple(
    np.array(field)
    for field in allpass.concatenate(
        allpass.second_order([0.9, 0.7, 0.95], [50.0, 12000.0, 23000.0], 48000.0), allpass.first_order(-0.8)
    )
)

FILTERS = {
    "lfilter-1": Filter(_lfilter, _lfilter_reference, (_b4[:2], _a4[:2] * 2), (1,)),
    "lfilter-2": Filter(_lfilter, _lfilter_reference, (_sos[0, :2], _sos[0, 3:] * 3), (2,)),
    "lfilter-4": Filter(_lfilter, _lfilter_reference, (_b4, _a4), (4,)),
    "lfilter-fir": Filter(_lfilter, _lfilter_reference, (_b4, np.array([2.0])), (4,)),
    "sosfilt": Filter(_sosfilt, reference.sosfilt, _sos, (2, 2)),
    "allpole": Filter(_allpole, reference.allpole, _poles, (3,)),
    "allpole-varying": Filter(
        _allpole,
        reference.allpole,
        _poles * _rng.uniform(0.5, 1.0, (N_SAMPLES, 1)),
        (3,),
        lambda a, start, stop: a[start:stop],
    ),
    "cascade": Filter(_cascade, _cascade_reference, _margins, (4, 2)),
    "cascade-stretched": Filter(_stretched, _stretched_reference, _margins, (3, 4, 2)),
}


def noise(*shape, seed=0):
    """Gaussian noise, float64."""
    return np.random.default_rng(seed).standard_normal(shape)


def relative_rms(got, expected):
    """Error relative to the level of what was expected."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape
    return np.sqrt(np.mean(np.abs(got - expected) ** 2) / np.mean(np.abs(expected) ** 2))
