"""Memory of one value and gradient in a process of its own, `-m experiments.benchmark.memory`.

Arguments: `cascade` or `allpole`, a method, batch, samples. Prints a JSON object of bytes: `input`,
`planned` and `measured`, the last two null where XLA or the system does not say.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from experiments.benchmark import cases, config
from experiments.common import measuring


def arguments_of(function: str, batch: int, n_samples: int) -> tuple[Any, Any]:
    """Coefficients and signal on the device."""
    x = cases.noise(batch, n_samples)
    if function == "cascade":
        return cases.on_device((cases.second_order_sections(config.SECTIONS), x))
    return cases.on_device((cases.varying_coefficients(batch, n_samples, 2), x))


def main(argv: Sequence[str]) -> int:
    """Compile, then run once under watch."""
    function, method, *shape = argv
    of = {"cascade": cases.cascade, "allpole": cases.allpole}[function]
    arguments = arguments_of(function, *map(int, shape))
    print(json.dumps(measuring.footprint(cases.value_and_gradient(of(method)), *arguments)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
