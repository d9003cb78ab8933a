"""The drum-microphone experiment: the classical baselines against plain loops, and what is measured."""

import math

import numpy as np
import pytest
from signals import noise

from experiments.drum_mics import baselines, measures

pytestmark = pytest.mark.slow

FS = 8000.0


# Baselines

DELAYS = [0, 1, 37, -1, -160, 160]  # 160 samples are 20 ms
# Low tones as loud as the rest together: the correlation of what they dominate is broad.
COLOURED = np.convolve(noise(900), 0.9 ** np.arange(60))[:900]


def loop_lags(dry, wet, max_delay):
    """Sums over the samples that overlap, for each delay of the dry one."""
    n = len(dry)
    return [
        math.fsum(dry[t - d] * wet[t] for t in range(max(d, 0), min(n, n + d)))
        for d in range(-max_delay, max_delay + 1)
    ]


@pytest.mark.parametrize("delay", [*DELAYS, 5, -5])
@pytest.mark.parametrize("polarity", [1, -1])
def test_shifted_is_a_loop_over_the_samples(delay, polarity):
    x = noise(5 if abs(delay) == 5 else 300).astype(np.float32)
    expected = [polarity * x[t - delay] if 0 <= t - delay < len(x) else 0.0 for t in range(len(x))]
    found = baselines.shifted(x, delay, polarity)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.array(expected, np.float32))


@pytest.mark.parametrize("delay", DELAYS)
@pytest.mark.parametrize("polarity", [1, -1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_each_finds_what_it_can_find(delay, polarity, dtype):
    dry = np.pad(COLOURED, 200).astype(dtype)
    wet = (0.3 * baselines.shifted(dry, delay, polarity) + 1e-3 * noise(len(dry), seed=1)).astype(dtype)
    found = {name: method(dry, wet, FS) for name, method in baselines.METHODS.items()}
    assert found.pop("as is") == (0, 1)
    assert found.pop("cross-correlation, delay and polarity") == (delay, polarity)
    assert found.pop("GCC-PHAT, delay and polarity") == (delay, polarity)
    assert found.pop("polarity") == (0, int(np.sign(np.dot(dry.astype(float), wet))))
    lags = loop_lags(dry.astype(float), wet.astype(float), 160)
    assert found.pop("cross-correlation, delay") == (int(np.argmax(lags)) - 160, 1)
    assert not found


def test_correlation_lags_are_a_loop_over_the_samples():
    dry, wet = noise(250, seed=1), noise(250, seed=2)
    np.testing.assert_allclose(baselines.correlation_lags(dry, wet, FS), loop_lags(dry, wet, 160), atol=1e-9)


def test_no_further_than_the_largest_delay():
    dry = np.pad(noise(400), 300)
    wet = baselines.shifted(dry, 161)
    for method in baselines.METHODS.values():
        assert abs(method(dry, wet, FS)[0]) <= 160
    assert len(baselines.correlation_lags(dry[:100], wet[:100], FS)) == 2 * 99 + 1


def test_the_phase_transform_hears_the_direct_sound():
    """A loud resonance of the wet side moves the plain correlation, not the whitened one."""
    dry = np.pad(noise(900), 200)
    response = np.zeros(200)
    response[20] = 1.0
    response[30:] += 2.0 * 0.985 ** np.arange(170) * np.sin(0.12 * np.arange(170))
    wet = np.convolve(dry, response)[: len(dry)]
    assert baselines.gcc_phat(dry, wet, FS) == (20, 1)
    assert baselines.cross_correlation_delay_polarity(dry, wet, FS) != (20, 1)


@pytest.mark.parametrize("silent", [(0, 1), (1, 0), (0, 0)])
def test_silence_stays_where_it_is(silent):
    dry, wet = silent[0] * noise(300), silent[1] * noise(300, seed=1)
    assert {method(dry, wet, FS) for method in baselines.METHODS.values()} == {(0, 1)}


# Measures


def test_measures_are_their_formulas():
    x, y = 0.1 * noise(3000, seed=1).astype(np.float32), 0.1 * noise(3000, seed=2).astype(np.float32)
    found = measures.measures(x, y, FS)
    a, b = x.astype(float), y.astype(float)
    mix = [(p + q) / 2 for p, q in zip(a, b, strict=True)]
    assert found["mix_rms_db"] == pytest.approx(10 * math.log10(math.fsum(m * m for m in mix) / 3000))
    assert found["mix_peak_db"] == pytest.approx(20 * math.log10(max(map(abs, mix))))
    assert found["mse"] == pytest.approx(np.sum((a - b) ** 2) / 3000)
    assert found["correlation"] == pytest.approx(np.sum(a * b) / math.sqrt(np.sum(a * a) * np.sum(b * b)))
    assert found.keys() - measures.BETTER.keys() == set()
    assert all(type(value) is float for value in found.values())


def test_thd_n_is_that_of_the_mix():
    turns = 500 * np.arange(8000) / FS
    fundamental, third = np.sin(2 * np.pi * turns), np.sin(2 * np.pi * 3 * turns)
    # What the two do not share cancels in one mix and adds up in the other.
    clean = measures.measures(fundamental + 0.2 * third, fundamental - 0.2 * third, FS)
    dirty = measures.measures(fundamental + 0.2 * third, fundamental + 0.2 * third, FS)
    assert clean["thd_n"] < 1e-4
    assert dirty["thd_n"] == pytest.approx(0.2 / math.sqrt(1 + 0.2**2), rel=1e-3)


def test_mrstft_is_that_of_auraloss():
    torch, auraloss = pytest.importorskip("torch"), pytest.importorskip("auraloss")
    x, y = 0.1 * noise(3000, seed=1).astype(np.float32), 0.1 * noise(3000, seed=2).astype(np.float32)
    expected = auraloss.freq.MultiResolutionSTFTLoss()(
        torch.tensor(x[None, None]), torch.tensor(y[None, None])
    )
    assert measures.measures(x, y, FS)["mrstft"] == pytest.approx(float(expected), rel=1e-4)


def test_a_better_mix_is_better_in_all_but_distortion():
    dry = 0.1 * noise(3000, seed=1)
    wet = 0.8 * np.roll(dry, 3) + 0.01 * noise(3000, seed=2)
    before, after = measures.measures(dry, wet, FS), measures.measures(np.roll(dry, 3), wet, FS)
    for name in ("mix_rms_db", "mix_peak_db", "correlation", "mse", "mrstft"):
        assert measures.BETTER[name] * (after[name] - before[name]) > 0


def rows(method, **columns):
    return [
        {"method": method, "pair": f"{number:02d}", **dict(zip(columns, values, strict=True))}
        for number, values in enumerate(zip(*columns.values(), strict=True))
    ]


def test_medians_and_shares():
    base = rows("base", correlation=[0.1, 0.2, 0.3, 0.9], mse=[4.0, 3.0, 2.0, 1.0], lag=[1, 2, 3, 5])
    ours = rows("ours", correlation=[0.2, 0.2, 0.4, 0.8], mse=[1.0, 3.0, 1.0, 0.5], lag=[0, 0, 0, 7])
    found = measures.compared([*base, *reversed(ours)], "base")
    assert found == [
        {
            "method": "base",
            "pairs": 4,
            "correlation": pytest.approx(0.25),
            "correlation_better": None,
            "mse": 2.5,
            "mse_better": None,
            "lag": 2.5,
        },
        {
            "method": "ours",
            "pairs": 4,
            "correlation": pytest.approx(0.3),
            "correlation_better": 0.5,  # one is equal, one worse
            "mse": 1.0,
            "mse_better": 0.75,
            "lag": 0.0,
        },
    ]


@pytest.mark.parametrize(
    ("ours", "against", "words"),
    [
        (rows("ours", mse=[1.0, 2.0]), "other", "against is 'other'; expected one of 'base', 'ours'"),
        (rows("ours", mse=[1.0]), "base", "'ours' has 1 pairs, 'base' has 2 or other ones"),
        (rows("ours", mse=[1.0]) * 2, "base", "'ours' has 2 rows for 1 pairs; expected one a pair"),
    ],
)
def test_rows_that_cannot_be_compared(ours, against, words):
    with pytest.raises(ValueError, match=words):
        measures.compared([*rows("base", mse=[1.0, 2.0]), *ours], against)
