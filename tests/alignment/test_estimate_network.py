"""align: what methods tcn and auto take from the stored network."""

import numpy as np
import pytest
from signals import noise

from jaxapf import align, datasets
from jaxapf.alignment import network, search, spectral
from jaxapf.alignment.cascade import Cascade, residual

FS = 16000


@pytest.mark.parametrize("order", [1, 7, 13])
def test_the_network_has_one_order(order):
    with pytest.raises(ValueError, match=rf"^order is {order} and method 'tcn' gives 12; leave it out"):
        align(noise(50), noise(50), FS, method="tcn", order=order)


def room_pair(n_samples=8192):
    pair = datasets.Pairs(n_samples, FS, key=5, recipe=datasets.Recipe(room=1.0))[0]
    return pair.dry, pair.wet


@pytest.fixture
def poor_search(monkeypatch):
    """A search that finds a delay and one section that does next to nothing."""

    def searched(problem, *_):
        delay, polarity = problem.delay_only
        one = Cascade(
            np.float64(delay),
            np.array([3.0]),
            np.array([-2.0]),
            np.array([2], np.int32),
            np.float64(polarity),
        )
        polish = search.make_problem(problem.objective(), search.POLISH, float(delay), narrowest_hz=0.5)
        score = float(np.sum(residual(one, polish.target).real))
        return search.Candidate(score, one), "the search says so"

    monkeypatch.setattr(spectral, "search_cascade", searched)


@pytest.mark.slow
def test_auto_takes_the_networks_sections_where_they_leave_less(poor_search):
    dry, wet = room_pair()
    alone, helped = (align(dry, wet, FS, method=method) for method in ("spectral", "auto"))
    assert (alone.metrics["n_sections"], alone.stop_reason) == (1, "the search says so")
    assert helped.stop_reason.endswith("refined from those of the network, leave less than the search does")
    assert helped.metrics["esr_aligned"] < 0.9 * alone.metrics["esr_aligned"]
    assert f"{helped.metrics['n_sections']} sections" in helped.stop_reason


@pytest.mark.parametrize("order", [2, "auto"])
def test_auto_leaves_the_network_alone_where_little_is_left(monkeypatch, poor_search, order):
    monkeypatch.setattr(network, "predict_stored", lambda _: pytest.fail("the network was used"))
    dry = noise(4000)
    wet = np.concatenate([np.zeros(5), dry[:-5]]) if order == "auto" else room_pair()[1][:4000]
    align(dry, wet, FS, order=order)
