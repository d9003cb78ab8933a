"""Memory of one value and gradient in a process of its own, `-m experiments.gradient_comparison.memory`.

Arguments: `standing` or `moving`, one of `cost.forms_of`, batch, samples. Prints a JSON object of
bytes: `input`, `planned` and `measured`, the last two null where unknown.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from experiments.common import measuring
from experiments.gradient_comparison import cost


def main(argv: Sequence[str]) -> int:
    """Compile, then run once under watch."""
    kind, form, batch, n_samples = argv[0], argv[1], int(argv[2]), int(argv[3])
    function = cost.gradient_of(cost.forms_of(kind, n_samples)[form])
    print(json.dumps(measuring.footprint(function, *cost.inputs(kind, batch, n_samples))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
