"""Memory of one value and gradient, in a process of its own: `memory.py FUNCTION METHOD BATCH SAMPLES`.

FUNCTION is `cascade` or `allpole`. Prints a JSON object of bytes: `input`, `planned` and `measured`, the last
two null where XLA or the system does not say.
"""

from __future__ import annotations

import json
import pathlib
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

import cases
import config
import jax

STATUS = pathlib.Path("/proc/self/status")
RESET = pathlib.Path("/proc/self/clear_refs")


def arguments_of(function: str, batch: int, n_samples: int) -> tuple[Any, Any]:
    """Coefficients and signal on the device."""
    x = cases.noise(batch, n_samples)
    if function == "cascade":
        return cases.on_device((cases.second_order_sections(config.SECTIONS), x))
    return cases.on_device((cases.varying_coefficients(batch, n_samples, 2), x))


def growth_on_host(run: Callable[[], Any]) -> int | None:
    """Bytes by which resident memory rose at its highest during a call; None where Linux's /proc is not."""
    try:
        RESET.write_text("5")  # the high-water mark falls to what is resident now
        before = resident("VmRSS")
        run()
        return resident("VmHWM") - before
    except OSError:
        return None


def resident(field: str) -> int:
    """A memory figure of this process in bytes."""
    found = re.search(rf"{field}:\s+(\d+) kB", STATUS.read_text())
    if found is None:
        raise OSError(f"{STATUS} has no {field}")
    return int(found[1]) * 1024


def growth_on_device(run: Callable[[], Any]) -> int | None:
    """Bytes by which the device's memory in use rose at its highest; None where it does not say."""
    # There is no resetting the peak: but nothing before, in this process, used more than the arguments.
    device = jax.devices()[0]
    before = device.memory_stats()
    run()
    after = device.memory_stats()
    return after["peak_bytes_in_use"] - before["bytes_in_use"] if before and after else None


def planned(compiled: Any) -> int | None:
    """Temporary and output memory of a compiled function in bytes, as its compiler counts it."""
    analysis = compiled.memory_analysis()
    return analysis and analysis.temp_size_in_bytes + analysis.output_size_in_bytes


def main(argv: Sequence[str]) -> int:
    """Compile, then run once under watch."""
    function, method = argv[:2]
    arguments = jax.block_until_ready(arguments_of(function, *map(int, argv[2:])))
    of = {"cascade": cases.cascade, "allpole": cases.allpole}[function]
    compiled = jax.jit(cases.value_and_gradient(of(method))).lower(*arguments).compile()
    growth = growth_on_host if jax.default_backend() == "cpu" else growth_on_device
    figures = {
        "input": sum(leaf.nbytes for leaf in jax.tree.leaves(arguments)),
        "planned": planned(compiled),
        "measured": growth(lambda: jax.block_until_ready(compiled(*arguments))),
    }
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
