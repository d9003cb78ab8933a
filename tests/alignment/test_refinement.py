"""Refining through the recursion: the weighting, the start that is never lost, `align`'s BiasNets."""

import jax
import numpy as np
import pytest
import scipy.signal

from jaxapf import Alignment, align, allpass, metrics
from jaxapf.alignment import biasnet, cross_spectrum, refinement

FS = 48_000.0


def noise(n, seed=0):
    return np.random.default_rng(seed).standard_normal((1, n))


def test_weighting_is_that_of_the_spectrum():
    dry, wet = noise(6000), noise(6000, 1)
    # Silence at the end, so that circular and linear filtering agree.
    dry[:, 5000:] = wet[:, 5000:] = 0
    bins = cross_spectrum.log_bins(cross_spectrum.measure(dry, wet, FS, 0), 12)
    weight = 1 / np.arange(1, len(bins.omega) + 1)
    pair = refinement.weighted_pair(dry, wet, bins, weight)
    n_fft = 1 << 15
    omega = 2 * np.pi * np.arange(n_fft // 2 + 1) / n_fft
    at = np.interp(np.log(np.maximum(omega, 1e-9)), np.log(bins.omega), weight, left=0, right=0)
    powers = [np.sum(at * np.abs(np.fft.rfft(v, n_fft)) ** 2) for v in (dry - wet, wet)]
    found = np.mean((pair["dry"] - pair["wet"]) ** 2) / np.mean(pair["wet"] ** 2)
    assert found == pytest.approx(powers[0] / powers[1], rel=2e-2)  # the filter rings past the ends
    assert np.mean(pair["wet"] ** 2) == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize("delay", [7.0, -3.25])
def test_weighting_takes_delay_and_polarity_out(delay):
    def burst(shift):
        t = (np.arange(4096) - shift) / FS - 0.04
        return np.sin(2 * np.pi * 700 * t) * np.exp(-((t / 0.01) ** 2))[None]

    dry, wet = burst(0.0), -burst(delay)
    bins = cross_spectrum.log_bins(cross_spectrum.measure(dry, wet, FS, 8), 12)
    pair = refinement.weighted_pair(dry, wet, bins, np.ones(len(bins.omega)), delay=delay, polarity=-1)
    assert metrics.esr(pair["dry"], pair["wet"]) < 1e-4


@pytest.mark.parametrize(
    "make", [pytest.param(biasnet.sequential, marks=pytest.mark.slow), biasnet.connected]
)
def test_refining_finds_what_the_start_lacks(make):
    shape = biasnet.structure(3)
    truth = allpass.concatenate(
        allpass.rbj(np.array([900.0]), 1.2, FS), allpass.first_order(np.array([-0.8]))
    )
    start = allpass.concatenate(
        allpass.rbj(np.array([930.0]), 1.3, FS), allpass.first_order(np.array([-0.78]))
    )
    x = noise(8192).astype(np.float32)
    pair = {"dry": x, "wet": np.asarray(scipy.signal.sosfilt(truth.sos, x), np.float32)}
    found = refinement.refine(
        make(shape, FS), biasnet.raw_of(start, shape, FS), pair, key=jax.random.key(0), steps=200, rate=5e-5
    )
    assert found.loss_before > 1e-3
    assert found.loss_after < 1e-2 * found.loss_before
    y = scipy.signal.sosfilt(biasnet.sections_of(found.raw, shape, FS).sos, x[0])
    assert metrics.esr(y, pair["wet"][0]) == pytest.approx(found.loss_after, rel=0.05, abs=1e-7)


def test_refining_never_loses_its_start():
    shape = biasnet.structure(1)
    x = noise(4096).astype(np.float32)
    start = biasnet.raw_of(allpass.first_order(np.array([0.4])), shape, FS)
    sections = biasnet.sections_of(start, shape, FS)
    pair = {"dry": x, "wet": np.asarray(scipy.signal.sosfilt(sections.sos, x), np.float32)}
    # A rate at which Adam only jumps about.
    found = refinement.refine(
        biasnet.connected(shape, FS), start, pair, key=jax.random.key(0), steps=20, rate=0.1
    )
    assert found.loss_after <= found.loss_before < 1e-10
    plain = biasnet.naive(biasnet.structure(1, warped=False))
    with pytest.raises(ValueError, match="no controls to start from"):
        refinement.refine(plain, start, pair, key=jax.random.key(0))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["biasnet-sequential", "biasnet-connected"])
def test_align_by_a_biasnet(method, tmp_path):
    dry = noise(8000)[0]
    truth = allpass.concatenate(
        allpass.rbj(np.array([400.0]), 0.9, FS), allpass.first_order(np.array([-0.9]))
    )
    wet = -np.asarray(scipy.signal.sosfilt(truth.sos, np.concatenate([np.zeros(11), dry[:-11]])))
    found = align(dry, wet, FS, order=3, method=method)
    assert found.metrics["esr_aligned"] < 1e-5
    assert (found.method, found.polarity, found.metrics["order"]) == (method, -1, 3)
    assert found.delay_samples == pytest.approx(11, abs=0.05)
    assert all(("radius" in row) == (row["type"] == "second_order") for row in found.controls)
    found.save(tmp_path / "model.json")
    np.testing.assert_array_equal(Alignment.load(tmp_path / "model.json").apply(dry), found.apply(dry))


@pytest.mark.slow
def test_align_by_a_biasnet_at_a_low_rate():
    """And by one network for each section."""
    dry = noise(8000)[0]
    wet = scipy.signal.sosfilt(allpass.rbj(np.array([3300.0]), 1.5, 8000.0).sos, dry)
    found = align(dry, wet, 8000.0, order=2, method="biasnet-sequential")
    assert found.metrics["esr_aligned"] < 1e-5
    assert 20 < found.controls[0]["learnt_cutoff_hz"] < 4000
    assert {"learnt_radius", "learnt_warp"} < set(found.controls[0])


def test_align_by_a_biasnet_of_silence():
    found = align(np.zeros(2000), noise(2000)[0], FS, method="biasnet-sequential")
    assert (found.method, found.controls) == ("biasnet-sequential", [])


@pytest.mark.slow
def test_align_by_a_biasnet_of_real_poles():
    """What radius and frequency cannot give, two first-order sections can."""
    dry = noise(8000)[0]
    wet = scipy.signal.sosfilt(allpass.rbj(np.array([400.0]), 0.2, FS).sos, dry)
    found = align(dry, wet, FS, order=2, method="biasnet-connected")
    assert [row["type"] for row in found.controls] == ["first_order", "first_order"]
    assert found.metrics["order"] == 2
    assert found.metrics["esr_aligned"] < 1e-5
