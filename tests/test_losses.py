"""Losses: against auraloss, torch.stft and float64 NumPy; slopes against differences; silence."""

from functools import cache, partial

import jax
import numpy as np
import pytest
import scipy.signal

from jaxapf import frequency, losses
from jaxapf.losses import RESOLUTIONS, Resolution

RNG = np.random.default_rng(0)
PRED, TARGET = RNG.standard_normal((2, 3, 3000)).astype(np.float32)
ALL = {
    "mse": losses.mse,
    "mae": losses.mae,
    "esr": losses.esr,
    "cross_correlation": losses.cross_correlation,
    "phase": losses.phase,
    "stft": losses.stft,
    "mrstft": losses.mrstft,
    "phase_sum_stft": losses.phase_sum_stft,
    "phase_sum_mrstft": losses.phase_sum_mrstft,
    "phase_sum_mrstft, released": lambda p, t: losses.phase_sum_mrstft(p, t, power=1, fraction=1 / 8),
}
# Compiled once for all tests that call it.
JITTED = {name: jax.jit(function) for name, function in ALL.items()}


@cache
def value_and_slope(name):
    return jax.jit(jax.value_and_grad(ALL[name]))


def spectrogram(x, resolution):
    """SciPy's transform of the mirrored signal, float64: (..., bins, frames)."""
    n_fft, hop, window = resolution
    hann = np.pad(scipy.signal.get_window("hann", window), (n_fft - window) // 2)
    hann = np.pad(hann, (0, n_fft - len(hann)))
    padded = np.pad(
        x.astype(np.float64), [(0, 0)] * (x.ndim - 1) + [(n_fft // 2, n_fft // 2)], mode="reflect"
    )
    starts = range(0, padded.shape[-1] - n_fft + 1, hop)
    return np.stack([np.fft.rfft(padded[..., s : s + n_fft] * hann) for s in starts], axis=-1)


@pytest.mark.parametrize(
    "resolution", [*RESOLUTIONS, losses.SINGLE, Resolution(256, 100, 256), Resolution(64, 80, 30)]
)
@pytest.mark.parametrize(
    "n_samples", [2999, *(pytest.param(n, marks=pytest.mark.slow) for n in (3000, 1100))]
)
def test_magnitudes_are_those_of_the_mirrored_signal(resolution, n_samples):
    x = PRED[..., :n_samples]
    expected = np.abs(spectrogram(x, resolution)).swapaxes(-1, -2)
    found = np.abs(jax.jit(frequency.stft, static_argnums=1)(x, resolution))
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=3e-5 * expected.max())


# By auraloss 0.4.0, whose import takes as long as all of this file.
AURALOSS = {
    ("stft", 1.0): 1.414696,
    ("mrstft", 1.0): 1.400248,
    ("stft", 1e-3): 1.413940,
    ("mrstft", 1e-3): 1.399715,
}


@pytest.mark.parametrize(("name", "scale"), AURALOSS)
def test_values_are_those_of_auraloss(name, scale):
    found = float(JITTED[name](scale * PRED, scale * TARGET))
    assert found == pytest.approx(AURALOSS[name, scale], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_auraloss_says_the_same(scale):
    torch, auraloss = pytest.importorskip("torch"), pytest.importorskip("auraloss")
    p, t = (torch.tensor(scale * x) for x in (PRED[None], TARGET[None]))
    pairs = {
        "stft": (auraloss.freq.STFTLoss(), JITTED["stft"]),
        "mrstft": (auraloss.freq.MultiResolutionSTFTLoss(), JITTED["mrstft"]),
    }
    for name, (theirs, ours) in pairs.items():
        expected = float(theirs(p, t))
        found = float(ours(scale * PRED, scale * TARGET))
        assert found == pytest.approx(expected, rel=1e-4), name
    assert float(losses.esr(PRED, TARGET)) == pytest.approx(
        float(auraloss.time.ESRLoss()(torch.tensor(PRED[None]), torch.tensor(TARGET[None]))), rel=1e-5
    )


@pytest.mark.parametrize(
    ("power", "fraction"), [(2, 1.0), pytest.param(1, 1.0, marks=pytest.mark.slow), (1, 1 / 8), (2, 0.5)]
)
def test_the_papers_loss_is_its_formula(power, fraction):
    """Bargum et al. 2023, eq. 7 to 9, the sum transformed as a signal of its own."""
    expected = []
    for resolution in RESOLUTIONS:
        bins = int(fraction * (resolution.n_fft // 2 + 1))
        y, p, both = (
            np.abs(spectrogram(x, resolution))[..., :bins, :] ** power for x in (TARGET, PRED, PRED + TARGET)
        )
        expected.append(np.mean((y + p - both) ** 2))
    found = jax.jit(partial(losses.phase_sum_mrstft, power=power, fraction=fraction))(PRED, TARGET)
    assert float(found) == pytest.approx(np.mean(expected), rel=1e-4)


def test_power_two_is_least_a_quarter_turn_apart():
    n = np.arange(4096)
    x = np.cos(2 * np.pi * 0.0625 * n).astype(np.float32)
    turned = {turn: np.cos(2 * np.pi * (0.0625 * n - turn)).astype(np.float32) for turn in (0.0, 0.25, 0.5)}
    plain_sum = jax.jit(partial(losses.phase_sum_stft, power=1))
    squared = {turn: float(JITTED["phase_sum_stft"](y, x)) for turn, y in turned.items()}
    plain = {turn: float(plain_sum(y, x)) for turn, y in turned.items()}
    assert squared[0.25] < 0.03 * squared[0.0]  # the mirrored ends are not a quarter turn apart
    assert squared[0.0] == pytest.approx(squared[0.5], rel=1e-3)
    assert plain[0.0] < 1e-6 < plain[0.25] < plain[0.5]


def test_losses_in_time_are_their_formulas():
    p, t = PRED.astype(np.float64), TARGET.astype(np.float64)
    error = np.sum((p - t) ** 2, axis=-1) / np.sum(t**2, axis=-1)
    correlation = np.sum(p * t, axis=-1) / np.sqrt(np.sum(p**2, axis=-1) * np.sum(t**2, axis=-1))
    assert float(losses.mse(PRED, TARGET)) == pytest.approx(np.mean((p - t) ** 2), rel=1e-5)
    assert float(losses.mae(PRED, TARGET)) == pytest.approx(np.mean(np.abs(p - t)), rel=1e-5)
    assert float(losses.esr(PRED, TARGET)) == pytest.approx(np.mean(error), rel=1e-5)
    assert float(losses.cross_correlation(PRED, TARGET)) == pytest.approx(1 - np.mean(correlation), rel=1e-5)


def test_the_phase_loss_is_the_cosine_of_a_delay():
    n = np.arange(8192)
    x, y = (np.sin(2 * np.pi * 0.05 * (n - delay)).astype(np.float32) for delay in (0, 3))
    assert float(JITTED["phase"](y, x)) == pytest.approx(
        1 - np.cos(2 * np.pi * 0.05 * 3), rel=4e-2
    )  # the ends
    assert float(JITTED["phase"](x, x)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=pytest.mark.slow if "mrstft" in one else ()) for one in ALL]
)
def test_slopes_are_differences(name, x64):
    p, t = (x[0, :2100].astype(np.float64) for x in (PRED, TARGET))
    direction = np.random.default_rng(1).standard_normal(p.shape)
    loss = value_and_slope(name)
    slope = (loss(p + 1e-6 * direction, t)[0] - loss(p - 1e-6 * direction, t)[0]) / 2e-6
    found = np.vdot(loss(p, t)[1], direction)
    assert found == pytest.approx(float(slope), rel=2e-5)


@pytest.mark.parametrize(
    "name",
    [pytest.param(one, marks=pytest.mark.slow if one.endswith("mrstft") else ()) for one in ALL],
)
@pytest.mark.parametrize("case", ["both silent", "target silent", "pred silent", "equal", "DC", "impulse"])
def test_hard_signals_give_finite_values_and_slopes(name, case):
    impulse = np.eye(1, 2100, 1000, dtype=np.float32)[0]
    x, zero = PRED[0, :2100], np.zeros(2100, np.float32)
    p, t = {
        "both silent": (zero, zero),
        "target silent": (x, zero),
        "pred silent": (zero, x),
        "equal": (x, x),
        "DC": (zero + 1, zero + 0.5),
        "impulse": (impulse, impulse),
    }[case]
    value, slope = value_and_slope(name)(p, t)
    assert np.isfinite(value)
    assert np.all(np.isfinite(slope))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if "mrstft" in name else ())
        for name in ALL
        if name not in ("stft", "mrstft")
    ],
)
def test_the_loss_of_a_batch_is_the_mean_of_its_examples(name):
    whole = float(JITTED[name](PRED, TARGET))
    each = [float(JITTED[name](p, t)) for p, t in zip(PRED, TARGET, strict=True)]
    assert whole == pytest.approx(np.mean(each), rel=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.mse(np.ones(3), np.ones(4)), r"pred has shape \(3,\) and target has shape \(4,\)"),
        (
            lambda: losses.stft(np.ones(512), np.ones(512)),
            "signals of 512 samples are too short for n_fft 1024",
        ),
        (lambda: losses.phase_sum_stft(PRED, TARGET, power=3), "power is 3; expected 1 or 2"),
        (lambda: losses.phase_sum_stft(PRED, TARGET, fraction=0.0), "fraction is 0.0"),
        (lambda: frequency.stft(PRED, Resolution(512, 0, 512)), "resolution.hop is 0; expected at least 1"),
        (lambda: frequency.stft(PRED, Resolution(512, 50, 600)), "a window of 600 and n_fft 512"),
    ],
)
def test_mistakes(call, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(call)
