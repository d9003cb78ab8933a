"""Checkpoints of a training state: written by Orbax while training goes on, checked bit by bit when read.

    with Checkpoints("run/checkpoints", config={"order": 8}) as checkpoints:
        state = checkpoints.restore(state) or state
        ...
        checkpoints.save(state, {"loss": 0.1})

Orbax's CheckpointManager writes in the background, gives a step its name once it is complete and removes old
steps. What it cannot do is done here: refuse another state or configuration by the name of what differs, and
fall back on the step before where one is damaged. Nothing is ever loaded in part.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxapf._internal.arrays import count
from jaxapf._internal.files import PathLike
from jaxapf.training import leaves as _leaves
from jaxapf.training import steps as _steps
from jaxapf.training.leaves import Arrays, CheckpointError, Spec, Tree, check
from jaxapf.training.steps import UNFINISHED, Damaged, Meta, quiet, readable, short

__all__ = ["CheckpointError", "Checkpoints", "DamagedCheckpointWarning", "describe", "kept", "load", "read"]

T = TypeVar("T")


class DamagedCheckpointWarning(UserWarning):
    """A damaged step was passed over for another."""


class Checkpoints:
    """A folder of checkpoints, open for writing; close it, or use it as a context manager.

    One run writes a folder. In several processes every process opens it, on a disk they share, and makes the
    same calls; the first one writes. CheckpointError where the folder cannot be used or was written with
    another configuration, TypeError where JSON cannot hold `config`.

    Args:
        folder: new, empty, or one that this class made.
        config: what the run was started with, anything that JSON can hold; None is neither kept nor checked.
        keep_last: number of newest steps to keep (1 leaves nothing to fall back on).
        keep_best: number of best steps to keep; one whose metric is missing, NaN or infinite is never best.
        metric: name of the metric that ranks the steps.
        best: `"min"` or `"max"`; of equals the earlier step is the better.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, Checkpoints(folder) as checkpoints:
        ...     for step, loss in enumerate([0.9, 0.1, 0.5, 0.4]):
        ...         checkpoints.save({"w": jnp.full(2, loss)}, {"loss": loss}, step=step)
        ...     newest = checkpoints.restore({"w": jnp.zeros(2)})
        ...     best = checkpoints.restore_best({"w": jnp.zeros(2)})
        ...     checkpoints.steps(), newest["w"].tolist()[0], best["w"].tolist()[0]
        ([1, 2, 3], 0.4000000059604645, 0.10000000149011612)
    """

    def __init__(
        self,
        folder: PathLike,
        *,
        config: Mapping[str, Any] | None = None,
        keep_last: int = 2,
        keep_best: int = 1,
        metric: str = "loss",
        best: str = "min",
    ) -> None:
        keep_last, keep_best = count("keep_last", keep_last), count("keep_best", keep_best, 0)
        if best not in ("min", "max"):
            raise ValueError(f"best is {best!r}; expected 'min' or 'max'")
        self.folder = Path(folder).absolute()
        try:
            self._config = json.loads(json.dumps(config, allow_nan=False))
        except (TypeError, ValueError, RecursionError) as error:
            hint = "give dicts, lists, strings and finite numbers"
            raise TypeError(f"config cannot be kept as JSON: {short(error)}; {hint}") from error
        self._keep = keep_last, keep_best, metric, best
        _make_folder(self.folder)
        self._metas = readable(self.folder)
        for step, meta in self._metas.items():
            if self._config is not None and meta["config"] is not None:
                advice = "use the same configuration, or another folder"
                where = f"step {step} of '{self.folder}'"
                check(meta["config"], self._config, where, prefix="config ", given="was given", advice=advice)
        self._writing: Meta = {}
        self._resources = contextlib.ExitStack()
        self._resources.enter_context(quiet())
        self._manager: Any = self._open()

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            self.close()
        except CheckpointError as late:
            if error is None:
                raise
            error.add_note(str(late))  # what ended the run comes first

    def save(self, state: Tree, metrics: Mapping[str, Any] | None = None, *, step: int | None = None) -> None:
        """Save a state; return when its arrays are copied, while they are written in the background.

        The save before is waited for. A step that is stored already with the same arrays is left as it is.

        Args:
            state: pytree of JAX or NumPy arrays and typed random keys, on any devices of any processes.
            metrics: name -> number.
            step: number of the step, 0 or more; its default is the leaf named "step".

        Raises:
            CheckpointError: this save, or the one before, could not be written; a later step is stored.
            TypeError, ValueError: what is no array, no number, no step; two leaves of the same name.
        """
        self.wait()
        leaves = _leaves.named(state)
        specs, arrays = _leaves.specs(leaves), _leaves.to_host(leaves)
        if step is None:
            found = arrays.get("step")
            if found is None or found.ndim or not jnp.issubdtype(found.dtype, np.integer):
                raise ValueError("step is not given and state has no whole number named 'step'; give step")
            step = int(found)
        step = count("step", step, 0)
        for name, array in arrays.items():
            specs[name]["crc32"] = _leaves.checksum(array)
        newest = max(self._on_disk(), default=-1)
        if step <= newest:
            if step in self._metas and self._metas[step]["leaves"] == specs:
                return
            raise CheckpointError(
                f"step {step} cannot be saved, '{self.folder}' holds step {newest} of another course; "
                "restore the newest step, or give another folder"
            )
        meta = _steps.new_document(step, specs, self._config, metrics)
        self._writing, self._metas[step] = meta, _steps.decoded(meta)
        from orbax import checkpoint as ocp

        items: dict[str, Any] = {"meta": ocp.args.JsonSave({})}
        stored = {name: array for name, array in arrays.items() if array.size}  # Orbax stores no empty array
        if stored:
            items["state"] = ocp.args.PyTreeSave(stored)
        with self._reporting():
            self._manager.save(step, args=ocp.args.Composite(**items), force=True)

    def restore(self, like: Tree, *, step: int | None = None) -> Tree | None:
        """Read the newest whole step, or the given one; None where the folder holds none.

        Damaged steps that are newer are set aside ("7" as "7.damaged"), with a DamagedCheckpointWarning.

        Args:
            like: a state with the structure, shapes, dtypes and shardings to restore: arrays, whose values do
                not matter, or `jax.ShapeDtypeStruct`. The leaves returned are of its kind: NumPy arrays,
                or JAX arrays of that sharding, uncommitted or not, so that a step is not compiled anew.
            step: this step, and no other.

        Raises:
            CheckpointError: the stored state is another one (the first leaf that differs is named); there is
                no such step, or no whole one.
        """
        self.wait()
        steps = self._on_disk()
        return self._restore(like, _chosen(self.folder, step, steps)) if steps or step is not None else None

    def restore_best(self, like: Tree) -> Tree | None:
        """Read the best whole step, as `restore`; CheckpointError also where no step has the metric."""
        self.wait()
        _, _, metric, best = self._keep
        ranked = _ranked(self.metrics(), metric, best)
        if not ranked and self._on_disk():
            raise CheckpointError(
                f"no step in '{self.folder}' has a finite metric '{metric}', so none is best; "
                "give metrics with it to save, or restore by step"
            )
        return self._restore(like, ranked) if ranked else None

    def steps(self) -> list[int]:
        """Return the stored steps, oldest first, once the save in progress is written."""
        return sorted(self.metrics())

    def metrics(self) -> dict[int, dict[str, Any]]:
        """Return the metrics of each stored step, as they were given to `save`."""
        self.wait()
        return {step: dict(self._metas[step]["metrics"]) for step in self._on_disk() if step in self._metas}

    def wait(self) -> None:
        """Wait until what was saved is on the disk; CheckpointError where it could not be written."""
        if self._manager is None:
            raise CheckpointError(f"'{self.folder}' is closed; open it again with Checkpoints")
        with self._reporting():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Wait as `wait` does, and leave no thread running; closing twice is closing once."""
        if self._manager is None:
            return
        try:
            self.wait()
        finally:
            manager, self._manager = self._manager, None
            with self._resources:
                manager.close()

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Answer as Orbax's preservation policy which steps are kept."""
        steps = [one.step for one in checkpoints]
        metrics = {step: self._metas[step]["metrics"] for step in steps if step in self._metas}
        preserved = kept(steps, metrics, *self._keep)
        return [step in preserved for step in steps]

    def _open(self) -> Any:
        from orbax import checkpoint as ocp

        options = ocp.CheckpointManagerOptions(
            preservation_policy=self,
            create=False,
            save_root_metadata=False,
            lightweight_initialize=True,  # Orbax's own record of a step may be damaged too
            num_deletion_threads=1,  # with more of them each deletion polls for 0.1 s
            async_options=ocp.AsyncOptions(
                post_finalization_callback=lambda: _steps.seal(self.folder, self._writing)
            ),
        )
        return ocp.CheckpointManager(self.folder, options=options)

    def _on_disk(self) -> list[int]:
        return sorted(self._manager.all_steps())

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        """Turn what Orbax raises now, or raised in its thread, into one sentence."""
        try:
            yield
        except Exception as error:
            raise CheckpointError(
                f"step {self._writing.get('step')} was not written to '{self.folder}': {short(error)}; "
                "the steps before it are as they were"
            ) from error

    def _restore(self, like: Tree, steps: Sequence[int]) -> Tree:
        expected = _leaves.specs(_leaves.named(like))
        load = partial(_agreed, partial(_steps.load_step, self.folder, expected=expected))
        (_, arrays), damaged = _first_whole(self.folder, steps, load)
        if damaged:
            for step in damaged:
                self._metas.pop(step, None)
                _set_aside(self.folder, step)
            if jax.process_count() > 1:
                from jax.experimental import multihost_utils

                multihost_utils.sync_global_devices("jaxapf-checkpoint-set-aside")
            # Orbax drops a step only by deleting it, so its list is read anew.
            self._manager.close()
            self._manager = self._open()
        return _leaves.rebuilt(like, arrays)


# Reading without writing


def describe(folder: PathLike) -> dict[int, Meta]:
    """Return what the steps of a folder hold, without reading their arrays.

    Each step has a dict of `step`, `leaves` (name -> `shape`, `dtype`, `crc32`, and of a random key its
    implementation, `key`), `config`, `metrics`, `versions`. Damaged documents are left out. CheckpointError
    where the folder is missing or holds no checkpoints, or a newer jaxapf wrote them.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with Checkpoints(folder) as checkpoints:
        ...         checkpoints.save({"w": [jnp.zeros(2), jnp.ones(3)]}, {"loss": 0.5}, step=7)
        ...     described, (arrays, meta) = describe(folder), read(folder)
        ...     loaded = load(folder, {"w": [jnp.zeros(2), jnp.zeros(3)]})
        >>> described[7]["metrics"], described[7]["leaves"]["w/1"]["shape"], meta == described[7]
        ({'loss': 0.5}, [3], True)
        >>> arrays["w/1"].tolist() == loaded["w"][1].tolist() == [1.0, 1.0, 1.0]
        True
    """
    path = Path(folder).absolute()
    _existing(path)
    return readable(path)


def read(folder: PathLike, step: int | None = None) -> tuple[Arrays, Meta]:
    """Return the arrays of a step by name (of a random key its data), and what `describe` returns of it.

    The newest whole step unless given, with a DamagedCheckpointWarning where newer ones are damaged; nothing
    in the folder is changed. Errors as `describe`, and where there is no such step or no whole one.
    """
    meta, arrays = _read(Path(folder).absolute(), step, None)
    return arrays, meta


def load(folder: PathLike, like: Tree, *, step: int | None = None) -> Tree:
    """Read a state as `Checkpoints.restore` does, but change nothing; errors of both."""
    _, arrays = _read(Path(folder).absolute(), step, _leaves.specs(_leaves.named(like)))
    return _leaves.rebuilt(like, arrays)


# Orbax's BestN counts a NaN as a number and takes the later of equals.
def kept(
    steps: Sequence[int],
    metrics: Mapping[int, Mapping[str, Any]],
    keep_last: int,
    keep_best: int,
    metric: str,
    best: str,
) -> set[int]:
    """Return which steps are kept: the newest `keep_last`, and the `keep_best` best by the metric."""
    return set(sorted(steps)[-keep_last:]) | set(_ranked(metrics, metric, best)[:keep_best])


def _ranked(metrics: Mapping[int, Mapping[str, Any]], metric: str, best: str) -> list[int]:
    sign = 1 if best == "min" else -1
    values = {step: sign * float(numbers.get(metric, math.nan)) for step, numbers in metrics.items()}
    return sorted((s for s in values if math.isfinite(values[s])), key=lambda step: (values[step], step))


# Folders and steps


def _make_folder(folder: Path) -> None:
    """Make the folder, or check that it holds checkpoints; remove what a killed run left of its last save."""
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"'{folder}' is a file; give a folder for the checkpoints")
    with _refusing(f"'{folder}' cannot be made or read", "choose another folder"):
        folder.mkdir(parents=True, exist_ok=True)
        entries = sorted(folder.iterdir())
    if not os.access(folder, os.W_OK | os.X_OK):
        raise CheckpointError(
            f"'{folder}' cannot be written; change its permissions or choose another folder"
        )
    ours = rf"\d+|\d+\.damaged|{UNFINISHED}|\..*"
    others = [entry.name for entry in entries if not re.fullmatch(ours, entry.name)]
    if others and not readable(folder):
        raise CheckpointError(
            f"'{folder}' is no folder of checkpoints, it holds '{others[0]}'; give a new or empty folder"
        )
    # Orbax can clean up too, in a thread that may outlive its manager.
    for entry in entries:
        if jax.process_index() == 0 and re.fullmatch(UNFINISHED, entry.name):
            shutil.rmtree(entry, ignore_errors=True)


def _existing(folder: Path) -> list[int]:
    """Return the steps of a folder that must have some."""
    with _refusing(f"'{folder}' cannot be read", "give a folder of checkpoints"):
        steps = _steps.step_folders(folder)
    if not steps:
        raise CheckpointError(f"'{folder}' holds no checkpoints; give a folder that a training wrote")
    return steps


def _chosen(folder: Path, step: int | None, steps: list[int]) -> list[int]:
    """Return the given step, or all from the newest on."""
    if step is None:
        return steps[::-1]
    if step not in steps:
        stored = ", ".join(map(str, steps)) or "none"
        raise CheckpointError(f"'{folder}' has no step {step}; there are: {stored}")
    return [step]


def _set_aside(folder: Path, step: int) -> None:
    """Rename a damaged step, so that its number is free; an older one under the new name goes."""
    aside = folder / f"{step}.damaged"
    with _refusing(f"damaged step {step} of '{folder}' cannot be set aside", "remove it"):
        if jax.process_index() == 0:
            shutil.rmtree(aside, ignore_errors=True)
            (folder / str(step)).rename(aside)


@contextlib.contextmanager
def _refusing(what: str, advice: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"{what}: {short(error)}; {advice}") from error


def _read(folder: Path, step: int | None, expected: Mapping[str, Spec] | None) -> tuple[Meta, Arrays]:
    chosen = _chosen(folder, step, _existing(folder))
    with quiet():
        return _first_whole(folder, chosen, partial(_steps.load_step, folder, expected=expected))[0]


def _first_whole(folder: Path, steps: Sequence[int], load: Callable[[int], T]) -> tuple[T, list[int]]:
    """Return the first step that is whole, and the damaged ones before it, of which it warns."""
    damaged: dict[int, str] = {}
    for step in steps:
        try:
            found = load(step)
        except Damaged as error:
            damaged[step] = f"step {step} ({error})"
            continue
        if damaged:
            listed = "; ".join(damaged.values())
            message = f"damaged checkpoints in '{folder}' are passed over: {listed}; step {step} is used"
            warnings.warn(message, DamagedCheckpointWarning, stacklevel=4)
        return found, list(damaged)
    raise CheckpointError(
        f"no whole checkpoint in '{folder}': {'; '.join(damaged.values())}; "
        "restore a copy of the folder, or remove it"
    )


def _agreed(load: Callable[[int], T], step: int) -> Any:
    """Load a step in every process; whole where all found it whole, so that all use the same one."""
    if jax.process_count() == 1:
        return load(step)
    from jax.experimental import multihost_utils

    outcome: Any = None
    try:
        outcome, severity = load(step), 0
    except (Damaged, CheckpointError) as error:
        outcome, severity = error, 1 + isinstance(error, CheckpointError)
    worst = int(np.max(multihost_utils.process_allgather(np.int32(severity))))
    if worst == 0:
        return outcome
    if severity == worst:
        raise outcome
    if worst == 1:
        raise Damaged("another process cannot read it")
    raise CheckpointError("another process refused the checkpoint; see its message")
