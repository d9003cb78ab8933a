"""The expander against a float64 loop over samples, and what its curve promises."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from signals import bursts, relative_rms, slow

from jaxapf.effects import compressor, dynamics
from jaxapf.effects import expander as fx
from jaxapf.effects.expander import Controls

FS = 8000.0
CONTROLS = Controls(-20.0, 3.0, 2.0, 40.0, 1.5, 6.0, 30.0, 3.0)
# Each smoothing once, both detectors, are quick; the rest is slow.
QUICK_KINDS = (("rms", "gain"), ("peak", "gain_db"), ("rms", "level"))
EACH_KIND = [
    kind if kind in QUICK_KINDS else slow(*kind)
    for kind in itertools.product(dynamics.DETECTORS, dynamics.SMOOTHINGS)
]


def smooth_value(ms):
    return 1.0 if ms == 0 else 1 - np.exp(-np.log(9) / (1e-3 * FS * ms))


def curve_value(c, level_db):
    """The gain in dB, by cases."""
    under = c.threshold_db - level_db
    if under <= -c.knee_db / 2:
        return 0.0
    if under < c.knee_db / 2:
        under = (under + c.knee_db / 2) ** 2 / (2 * c.knee_db)
    return -c.range_db * np.tanh((c.ratio - 1) * under / c.range_db)


def loop(c, x, detector, smoothing):
    """Sample by sample: the gain rises by attack and falls by release."""
    a, attack, release = (smooth_value(ms) for ms in (c.average_ms, c.attack_ms, c.release_ms))
    p, envelope, gains = 0.0, 0.0, []
    held = 0.0 if smoothing == "gain_db" else 1.0
    for value in x:
        p = (1 - a) * p + a * (value**2 if detector == "rms" else abs(value))
        level = max(np.sqrt(p) if detector == "rms" else p, 1e-5)
        if smoothing == "level":
            envelope += (attack if level > envelope else release) * (level - envelope)
            gains.append(10 ** (curve_value(c, 20 * np.log10(max(envelope, 1e-5))) / 20))
            continue
        wanted = curve_value(c, 20 * np.log10(level))
        wanted = wanted if smoothing == "gain_db" else 10 ** (wanted / 20)
        held += (attack if wanted > held else release) * (wanted - held)
        gains.append(10 ** (held / 20) if smoothing == "gain_db" else held)
    return 10 ** (c.makeup_db / 20) * np.array(gains) * x


@pytest.mark.parametrize(("detector", "smoothing"), EACH_KIND)
def test_it_is_the_loop(x64, detector, smoothing):
    x = bursts()
    expected = loop(CONTROLS, x, detector, smoothing)
    y, _ = fx.expander(CONTROLS, fx.initial_state(), x, FS, detector=detector, smoothing=smoothing)
    assert relative_rms(np.asarray(y), expected) < 1e-10
    y, _ = fx.expander(
        CONTROLS, fx.initial_state(), x.astype(np.float32), FS, detector=detector, smoothing=smoothing
    )
    assert relative_rms(np.asarray(y, np.float64), expected) < 2e-5


def test_the_curve_has_its_ratio_and_its_range(x64):
    c = Controls(-20.0, 4.0, 1.0, 1.0, range_db=40.0)
    just_below = np.asarray(fx.curve_db(jnp.array([-20.0, -20.5]), c))
    assert (just_below[0] - just_below[1]) / 0.5 == pytest.approx(3.0, rel=2e-3)
    assert float(fx.curve_db(jnp.array(-100.0), c)) == pytest.approx(-40.0, abs=0.01)
    # As the module says: 2 and 8 per cent less at a quarter and a half of the range, 24 at all of it.
    asked = np.array([10.0, 20.0, 40.0])
    found = -np.asarray(fx.curve_db(jnp.asarray(-20.0 - asked / 3), c))
    np.testing.assert_allclose(1 - found / asked, [0.02, 0.076, 0.238], atol=2e-3)


def test_ratio_one_is_no_expander():
    x = bursts().astype(np.float32)
    y, _ = fx.expander(CONTROLS._replace(ratio=1.0, makeup_db=0.0), fx.initial_state(), x, FS)
    np.testing.assert_array_equal(y, x)


@pytest.mark.parametrize("smoothing", ["gain", "gain_db"])
def test_sampling_is_exact_where_attack_and_release_agree(x64, smoothing):
    c, x = CONTROLS._replace(attack_ms=20.0, release_ms=20.0), jnp.asarray(bursts())
    y, _ = fx.expander(c, fx.initial_state(), x, FS, smoothing=smoothing)
    near = fx.expander_sampled(c, x, FS, smoothing=smoothing)
    assert relative_rms(np.asarray(near), np.asarray(y)) < 1e-6


def test_detector_and_ballistics_are_those_of_the_compressor(x64):
    assert compressor.coefficient is dynamics.coefficient
    assert compressor.ballistics is dynamics.ballistics


def test_unknown_options_are_refused():
    with pytest.raises(ValueError, match="detector is 'mean'; choose one of rms, peak"):
        fx.expander(CONTROLS, fx.initial_state(), jnp.ones(4), FS, detector="mean")
    with pytest.raises(ValueError, match="attack_ms is -1; expected 0 or more"):
        fx.expander(CONTROLS._replace(attack_ms=-1.0), fx.initial_state(), jnp.ones(4), FS)
