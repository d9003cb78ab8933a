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

from jaxapf._internal.lazy import loader

_ROOM = ["checkpoint", "data", "distributed", "fit", "logging", "lowering", "parallel", "pretrained", "step"]
__all__: list[str] = []

# Modules, loaded on first use.
__getattr__ = loader(__name__, {name: name for name in _ROOM})
