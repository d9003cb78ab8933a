"""The registry of filters that the common tests run through, and the tolerances."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import reference
from scipy import signal
from signals import LONG, MIDDLE

from jaxapf import allpass
from jaxapf.filters import iir, native, recursion

EXACT_METHODS = recursion.METHODS

N_SAMPLES = LONG
N_SHORT = MIDDLE  # derivatives


class Filter(NamedTuple):
    """One public filter, brought to a common form for one signal.

    run: `run(params, x, zi, method=...) -> (y, zf)`.
    reference: the same in float64 NumPy loops.
    params: float64 arrays that float32 holds exactly, poles within `RADIUS`; or complex128 and complex64.
    edge: the same with poles at 0.99999 and, where float32 holds them apart from 1, 1 - 1e-7.
    zi_shape: shape of the state.
    methods: the methods that are exact and have a state.
    take: `take(params, start, stop)`, the parameters of a chunk.
    sampled: whether it has the method `"fsm"` as well.
    """

    run: Callable[..., tuple]
    reference: Callable[..., tuple]
    params: Any
    edge: Any
    zi_shape: tuple[int, ...]
    methods: tuple[str, ...] = EXACT_METHODS
    take: Callable[..., Any] = lambda params, start, stop: params
    sampled: bool = False

    @property
    def is_complex(self) -> bool:
        return any(np.iscomplexobj(leaf) for leaf in jax.tree.leaves(self.params))


RADIUS = 0.95


def tolerance(dtype, radius=RADIUS, derivatives=0):
    """Relative error allowed for poles within `radius`: every derivative weighs the memory once more."""
    return 4 * float(np.finfo(dtype).eps) / (1 - radius) ** (1 + derivatives / 2)


def exact_in_float32(tree):
    """Round to what float32 (complex64) holds, so that every dtype filters with the same coefficients."""

    def rounded(leaf):
        single, double = (np.complex64, np.complex128) if np.iscomplexobj(leaf) else (np.float32, np.float64)
        return np.asarray(leaf).astype(single).astype(double)

    return jax.tree.map(rounded, tree)


def cast(tree, dtype):
    """Bring real leaves to a real `dtype`, all leaves to a complex one."""
    return jax.tree.map(lambda leaf: jax.numpy.asarray(leaf, dtype), tree)


# Adapters


def _lfilter(params, x, zi, method="auto"):
    b, a = params
    return _with_state(iir.lfilter(b, a, x, zi=zi, method=method), zi)


def _lfilter_reference(params, x, zi):
    b, a = params
    return reference.lfilter(b, a, x, zi)


def _sosfilt(sos, x, zi, method="auto"):
    return _with_state(iir.sosfilt(sos, x, zi=zi, method=method), zi)


def _allpole(a, x, zi, method="auto"):
    return recursion.allpole(a, x, zi, method=method)


def _first_order(a, x, zi, method="auto"):
    return recursion.first_order(a, x, zi, method=method)


def _cascade(params, x, zi, method="auto", stretch=1):
    sections = allpass.Sections(*params)
    return _with_state(allpass.cascade(sections, x, zi=zi, method=method, stretch=stretch), zi)


def _cascade_varying(params, x, zi, method="auto"):
    return allpass.cascade_varying(allpass.Sections(*params), x, zi=zi, method=method)


def _stretched(params, x, zi, method="auto"):
    return _cascade(params, x, zi, method, stretch=3)


def _stretched_reference(params, x, zi):
    return reference.interleaved(reference.lattice, params, x, zi)


def _with_state(result, zi):
    return (result, np.zeros(0, result.dtype)) if zi is None else result


# Parameters


def _pair(radius, angle):
    return [radius * np.exp(1j * angle), radius * np.exp(-1j * angle)]


def _section_filter(run, order_2, order_1, edge, zi_shape, loop=reference.lattice):
    """A cascade of second-order sections (radius, cutoff at 48 kHz) and first-order ones (coefficient)."""

    def margins(second, first):
        radius, cutoff_hz = second
        parts = [allpass.second_order(radius, cutoff_hz, 48000.0), allpass.first_order(first)]
        return tuple(np.asarray(field) for field in allpass.concatenate(*parts))

    return Filter(run, loop, margins(order_2, order_1), margins(*edge), zi_shape, sampled=True)


def _lfilter_filter(numerator, poles, edge):
    """Denominators that do not start with 1, so that dividing by it is tested, too."""
    numerator = np.array(numerator)
    params, extreme = ((numerator, 2 * np.atleast_1d(np.poly(roots)).real) for roots in (poles, edge))
    order = max(len(numerator) - 1, len(poles))
    return Filter(_lfilter, _lfilter_reference, params, extreme, (order,), sampled=True)


def _allpole_filter(poles, edge):
    a, extreme = np.poly(poles)[1:], np.poly(edge)[1:]
    return Filter(_allpole, reference.allpole, a, extreme, a.shape, ALLPOLE_METHODS)


def _varying(constant):
    """One set of coefficients a sample, the constant ones faded at random (poles move inwards)."""
    order = constant.params.shape[-1]
    powers = np.arange(1, order + 1)
    fade = np.random.default_rng(7).uniform(0.5, 1.0, (N_SAMPLES, 1)) ** powers
    return constant._replace(
        params=constant.params * fade,
        edge=np.broadcast_to(constant.edge, fade.shape),
        take=lambda a, start, stop: a[start:stop],
    )


ALLPOLE_METHODS = (*EXACT_METHODS, "native") if native.available() else EXACT_METHODS
_COMPLEX = [
    np.poly(poles)[1:]
    for poles in ([0.8 * np.exp(0.7j), 0.9 * np.exp(-2.0j)], [0.99999 * np.exp(0.01j), 0.99999j])
]
_EDGE_1, _EDGE_2 = [0.99999], _pair(0.99999, 0.3)
_EDGE_4 = [*_EDGE_2, *_pair(0.999, 1.5)]
_POLES_4 = [*_pair(0.9, 0.6), 0.5, -0.7]
# Both ends and the middle of the spectrum.
_SECOND = [0.93, 0.7, 0.95], [50.0, 12000.0, 23000.0]
_SECOND_EDGE = [0.99999, 1 - 1e-7, 0.99999], [30.0, 5000.0, 24000.0]
_NONE = [], []
_FIRST, _FIRST_EDGE = [-0.8, 0.5], [-0.99999, 1 - 1e-7]
_SLOW_ROWS = allpass.second_order([0.99999, 1 - 1e-7], [30.0, 5000.0], 192000.0).sos
_butterworth: Any = signal.butter  # whose type stub does not know what `output` does

_real = {
    "lfilter-1": _lfilter_filter([0.3, 0.2], [0.9], _EDGE_1),
    "lfilter-2": _lfilter_filter([0.3, -0.2], _pair(0.9, 0.5), _EDGE_2),
    "lfilter-4": _lfilter_filter([0.1, 0.2, 0.3, 0.2, 0.1], _POLES_4, _EDGE_4),
    "lfilter-fir": _lfilter_filter([0.5, -0.3, 0.2, 0.1], [], []),
    "sosfilt": Filter(
        _sosfilt, reference.sosfilt, _butterworth(4, 0.1, output="sos"), _SLOW_ROWS, (2, 2), sampled=True
    ),
    "allpole-1": _allpole_filter([-0.9], _EDGE_1),
    "allpole-2": _allpole_filter(_pair(0.9, 0.5), _EDGE_2),
    "allpole-4": _allpole_filter(_POLES_4, _EDGE_4),
    "cascade-second": _section_filter(_cascade, _SECOND, [], (_SECOND_EDGE, []), (3, 2)),
    "cascade-first": _section_filter(_cascade, _NONE, _FIRST, (_NONE, _FIRST_EDGE), (2, 2)),
    "cascade": _section_filter(_cascade, _SECOND, _FIRST, (_SECOND_EDGE, _FIRST_EDGE), (5, 2)),
    "cascade-stretched": _section_filter(
        _stretched, _SECOND, _FIRST, (_SECOND_EDGE, _FIRST_EDGE), (3, 5, 2), _stretched_reference
    ),
}
_complex = Filter(_allpole, reference.allpole, _COMPLEX[0], _COMPLEX[1], (2,))
_leaky = Filter(
    _first_order,
    lambda a, x, zi: reference.first_order(np.broadcast_to(a, x.shape), x, zi),
    np.array([0.9]),
    np.array([0.99999]),
    (),
    ALLPOLE_METHODS,
)
_leaky_varying = _leaky._replace(
    params=np.random.default_rng(8).uniform(-0.9, 0.9, N_SAMPLES),
    edge=np.full(N_SAMPLES, 0.99999),
    take=lambda a, start, stop: a[start:stop],
)
_FADE = np.random.default_rng(9).uniform(0.7, 1.0, (3, N_SAMPLES, 5))
_moving = Filter(
    _cascade_varying,
    reference.lattice_varying,
    tuple(field * fade for field, fade in zip(_real["cascade"].params, _FADE, strict=True)),
    tuple(
        np.broadcast_to(field, fade.shape) for field, fade in zip(_real["cascade"].edge, _FADE, strict=True)
    ),
    (5, 2),
    take=lambda margins, start, stop: tuple(field[start:stop] for field in margins),
)
FILTERS = {
    name: case._replace(params=exact_in_float32(case.params), edge=exact_in_float32(case.edge))
    for name, case in {
        **_real,
        "allpole-varying-1": _varying(_real["allpole-1"]),
        "allpole-varying-2": _varying(_real["allpole-2"]),
        "allpole-varying-4": _varying(_real["allpole-4"]),
        "allpole-complex": _complex,
        "allpole-complex-varying": _varying(_complex),
        "first-order": _leaky,
        "first-order-varying": _leaky_varying,
        "cascade-varying": _moving,
    }.items()
}
