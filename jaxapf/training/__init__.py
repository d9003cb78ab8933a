"""Training: pure steps, the loop that runs them, and what surrounds it; import the modules.

    from jaxapf.training import data, fit, parallel, step

- `step`: the training state, the train step, many starts at once;
- `fit`: the loop, `fit.fit`;
- `data`: batches as a function of their position;
- `parallel`: the step on one device, a mesh, or under `pmap`;
- `distributed`: the same script in several processes;
- `checkpoint`: save, restore, resume;
- `logging`: records on the terminal, in a file, in TensorBoard;
- `pretrained`: the checkpoints that come with jaxapf;
- `lowering`: the step's program for other platforms, and its cost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxapf._internal.lazy import loader

if TYPE_CHECKING:
    from jaxapf.training import (
        checkpoint,
        data,
        distributed,
        fit,
        logging,
        lowering,
        parallel,
        pretrained,
        step,
    )

__all__ = [
    "checkpoint",
    "data",
    "distributed",
    "fit",
    "logging",
    "lowering",
    "parallel",
    "pretrained",
    "step",
]

# Loaded on first use: importing Orbax takes seconds.
__getattr__ = loader(__name__, {name: name for name in __all__})
