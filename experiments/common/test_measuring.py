"""How experiments measure time and memory."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.common import measuring


class Clock:
    """A clock that only the calls under test move, and the order of those calls."""

    def __init__(self, monkeypatch):
        self.now, self.calls = 0.0, []
        monkeypatch.setattr(measuring.time, "perf_counter", lambda: self.now)

    def call(self, name, *seconds):
        durations = itertools.chain(seconds, itertools.repeat(seconds[-1]))

        def advance():
            self.calls.append(name)
            self.now += next(durations)

        return advance


def test_timing_takes_turns_and_sets_the_first_call_apart(monkeypatch):
    clock = Clock(monkeypatch)
    calls = {"steady": clock.call("steady", 7.0, 2.0), "varied": clock.call("varied", 5.0, 3.0, 1.0, 8.0)}
    found = measuring.interleaved(calls, (3, 3), 0.0)
    assert found == {"steady": (2.0, 2.0, 3, 5.0), "varied": (1.0, 3.0, 3, 4.0)}
    assert all(set(clock.calls[i : i + 2]) == set(calls) for i in range(0, 8, 2))


def test_timing_stops_by_time_and_by_rounds(monkeypatch):
    clock = Clock(monkeypatch)
    calls = {
        "slow": clock.call("slow", 4.0),
        "quick": clock.call("quick", 1.0),
        "tiny": clock.call("tiny", 0.125),
    }
    found = measuring.interleaved(calls, (2, 6), 5.0)
    assert {name: timing.repeats for name, timing in found.items()} == {"slow": 2, "quick": 5, "tiny": 6}


def test_the_order_of_turns_changes(monkeypatch):
    clock = Clock(monkeypatch)
    measuring.interleaved({name: clock.call(name, 1.0) for name in "abcd"}, (20, 20), 0.0)
    assert len({tuple(clock.calls[i : i + 4]) for i in range(4, 84, 4)}) > 5


def test_measured_memory_is_what_a_call_takes():
    def call():
        return np.ones(2**23).sum()  # 64 MiB

    grown = measuring.growth_on_host(call)
    if grown is None:
        pytest.skip("this system has no /proc")
    assert 60 < grown / 2**20 < 70
    idle = measuring.growth_on_host(lambda: None)
    assert idle is not None
    assert idle < 2**20


def test_planned_memory_holds_the_output():
    compiled = jax.jit(lambda x: jnp.outer(x, x)).lower(jnp.ones(256)).compile()
    found = measuring.planned(compiled)
    assert found is None or 4 * 256**2 <= found < 3 * 4 * 256**2


def test_a_footprint_is_input_plan_and_growth():
    found = measuring.footprint(lambda x: jnp.outer(x, x), jnp.ones(256))
    assert found["input"] == 4 * 256
    planned = found["planned"]
    assert planned is None or planned >= 4 * 256**2


def test_a_module_that_fails_is_reported():
    with pytest.raises(RuntimeError, match=r"exited with 1: .*no_such_module"):
        measuring.printed_by("no_such_module", "luck")
