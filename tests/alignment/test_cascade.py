"""Conversions of cascades and small tables, against numbers worked out by hand."""

import jax
import numpy as np

from jaxapf import allpass
from jaxapf.alignment import biasnet, cross_spectrum, dictionary, features, network
from jaxapf.alignment.cascade import (
    SECOND,
    Cascade,
    Controls,
    conjugate_response,
    from_controls,
    from_sections,
    to_sections,
    without_sections,
)
from jaxapf.alignment.estimate import alignment_of
from jaxapf.alignment.options import doubt
from jaxapf.alignment.problem import fixed_order, measure
from jaxapf.alignment.refinement import error_of


def test_response_of_a_delay_and_a_polarity():
    late = without_sections(2.0, -1.0)
    assert conjugate_response(late, np.array([0.0, np.pi / 2])).round(6).real.tolist() == [-1.0, 1.0]


def test_section_at_a_quarter_of_the_rate():
    sos = to_sections(Cascade(0.0, np.zeros(1), np.zeros(1), SECOND, 1.0)).sos
    assert sos.round(3).tolist() == [[0.333, 0.0, 1.0, 1.0, 0.0, 0.333]]


def test_q_of_a_section():
    assert from_sections(allpass.rbj(12e3, 2.0, 48e3)).log_d.round(6).tolist() == [-0.693147]


def test_delay_in_samples():
    assert float(from_controls(Controls(1.0, 1.0, np.full(6, 100.0), np.ones(6)), 48000.0).delay) == 48.0


def test_shifts_of_a_dictionary_and_its_size():
    assert dictionary.delay_shifts(1e6)[[0, 1, 8, 9]].round(6).tolist() == [0.0, 5.0, 640.0, -5.0]
    atoms = dictionary.make_dictionary(np.zeros(3), np.zeros(2), np.zeros(1), np.linspace(0.1, 3.0, 8))
    assert atoms.response.shape == (8, 6)


def test_doubt_is_about_low_correlations():
    assert doubt(0.9) == doubt(None) == ""
    assert doubt(0.05) == (
        "after aligning the files still hardly agree (correlation 0.050); are they the same performance?"
    )


def test_default_order_is_the_papers():
    assert fixed_order("auto") == (7, "the order 7 is the default of this method")


def test_error_without_sections():
    x = np.ones((1, 64), np.float32)
    assert error_of(allpass.first_order(np.zeros(0)), {"dry": x, "wet": -x}) == 4.0


def test_best_cascade_is_none_where_predictions_are_bad():
    x = np.random.default_rng(0).standard_normal(4096)
    bad = Controls(np.zeros(1), np.ones(1), np.ones((1, 6)), np.ones((1, 6)))
    cross = cross_spectrum.measure(x, -x, 48000.0, 10)
    found = network.best_cascade(network.Predictions(bad, -np.ones(1)), cross, 10)
    assert found.kind.tolist() == []
    assert float(found.polarity) == -1.0


def test_weights_of_networks_at_192_khz():
    shape = biasnet.structure(7)
    sizes = [
        sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(make(shape, 192e3).init, jax.random.key(0))))
        for make in (biasnet.sequential, biasnet.connected)
    ]
    assert sizes == [2761611, 691467]


def test_plain_models_and_controls():
    assert biasnet.structure(7) == (3, 1, True, 1)
    weights = biasnet.naive(biasnet.structure(7, warped=False)).init(jax.random.key(0))
    assert {name: leaf.shape for name, leaf in weights.items()} == {"c": (3,), "d": (3,), "g": (1,)}
    raw = biasnet.Raw(np.zeros((0, 3)), np.zeros((1, 2)))
    rows = biasnet.named_controls(raw, biasnet.structure(1), 48000.0)
    assert rows == [{"type": "first_order", "coefficient": 0.0, "warp": 0.0}]
    assert alignment_of(without_sections(), 48000.0).apply(np.ones(3)).tolist() == [1.0, 1.0, 1.0]


def test_candidates_and_polarity_of_noise():
    x = np.random.default_rng(0).standard_normal(4096)
    assert features.candidates(cross_spectrum.measure(x[:-5], x[5:], 44100.0, 100), 100)[0] == -5.0
    assert measure(x[None], -x[None], 48000.0, 1.0).delay_only[1] == -1
    bands = features.extract(cross_spectrum.measure(x, -x, 44100.0, 10), [0.0])
    assert round(float(np.sum(bands.cross.real)), 1) == -0.9


def test_inputs_and_outputs_of_a_network():
    dry, wet = np.array([0.0, 2.0, 0.0]), np.array([0.0, 0.0, 1.0])
    assert features.waves(dry, wet, 1, 4).tolist() == [[0.0, 0.0, 2.0, 0.0]] * 2
    design = network.Design("waves", heads=2)
    assert network.make_net(design).features == 28
    found = network.controls_of(np.full(28, 0.5), design)
    assert (found.cutoff_hz.shape, round(float(found.cutoff_hz[0, 0]))) == ((2, 6), 632)
    assert round(float(found.q[0, 0]), 3) == 1.0
