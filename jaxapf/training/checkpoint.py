"""Checkpoints of a training state: written by Orbax while training goes on, checked bit by bit when read.

    with Checkpoints("run/checkpoints", config={"order": 8}) as checkpoints:
        state = checkpoints.restore(state) or state
        ...
        checkpoints.save(state, {"loss": 0.1})

Orbax writes; that a step is what was saved is checked here. Each step has two items: `state`, the arrays
under their names in the tree, and `meta`, one JSON document with the shape, dtype and checksum of each of
them, the configuration, the metrics, and a checksum of its own. A step is whole when all of it agrees; a
damaged one is passed over, with a warning, for the one before. One that is whole but of another model or
another configuration is refused: nothing is ever loaded in part.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
import shutil
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxapf._internal.arrays import whole_number
from jaxapf._internal.files import PathLike
from jaxapf.training import steps as _steps
from jaxapf.training.steps import Arrays, CheckpointError, Damaged, Meta, Spec, Tree

__all__ = [
    "CheckpointError",
    "Checkpoints",
    "DamagedCheckpointWarning",
    "describe",
    "kept",
    "load",
    "read",
]
T = TypeVar("T")

UNFINISHED = r"\d+\.orbax-checkpoint-tmp.*"  # the name that Orbax gives to a step until it is written


class DamagedCheckpointWarning(UserWarning):
    """A damaged step was passed over for another."""


class Checkpoints:
    """A folder of checkpoints, open for writing; close it, or use it as a context manager.

    One run writes a folder. In several processes every process opens it, on a disk they all see, and makes
    the same calls; the first one writes.

    Args:
        folder: new, empty, or one that this class made.
        config: what the run was started with, anything that JSON can hold; None is neither kept nor checked.
        keep_last: the newest steps are kept, this many (1 leaves nothing to fall back on).
        keep_best: and the best ones, this many; one whose metric is missing, NaN or infinite is never best.
        metric: name of the metric that says which is best.
        best: `"min"` or `"max"`; of equals the earlier step is the better.

    Raises:
        CheckpointError: the folder is a file, holds other things, cannot be written, is of a newer version,
            or was written with another configuration.
        ValueError: `keep_last` or `keep_best` is too small, `best` is unknown.
        TypeError: JSON cannot hold `config`.

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
        keep_last, keep_best = _at_least(1, "keep_last", keep_last), _at_least(0, "keep_best", keep_best)
        if best not in ("min", "max"):
            raise ValueError(f"best is {best!r}; expected 'min' or 'max'")
        self.folder = Path(folder).absolute()
        self._config = None if config is None else _steps.as_json(config)
        self._keep = keep_last, keep_best, metric, best
        _make_folder(self.folder)
        _remove_leftovers(self.folder)
        self._metas = _steps.readable(self.folder)
        for step, meta in self._metas.items():
            _steps.check_config(self._config, meta["config"], f"step {step} of '{self.folder}'")
        self._writing: int | None = None
        with contextlib.ExitStack() as resources:
            resources.enter_context(_quiet())
            self._manager: Any = self._open()
            self._resources = resources.pop_all()

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
        """Save a state; returns when its arrays are copied, the writing goes on behind.

        The state may be donated or changed right after. A save that is still being written is waited for.
        Where this very step is there already with the same arrays, nothing is done.

        Args:
            state: pytree of JAX or NumPy arrays and typed random keys, on one device, many, or (in several
                processes) all of them.
            metrics: name -> number.
            step: number of the step, 0 or more; its default is the leaf named "step".

        Raises:
            CheckpointError: this save, or the one before, could not be written; there is a later step.
            TypeError: a leaf is no array, a metric no number.
            ValueError: there is no leaf, no step, or two leaves have the same name.
        """
        self.wait()
        leaves = _steps.named(state)
        specs, arrays = _steps.specs(leaves), _steps.to_host(leaves)
        step = _at_least(0, "step", _step_of(arrays) if step is None else step)
        for name, array in arrays.items():
            specs[name]["crc32"] = _steps.checksum(array)
        meta = _steps.new_meta(step, specs, self._config, metrics)
        if self._is_saved(meta):
            return
        self._writing = step
        self._metas[step] = _steps.decoded(meta)
        with self._reporting():
            self._manager.save(step, args=_steps.items(meta, arrays), force=True)

    def restore(self, like: Tree, *, step: int | None = None) -> Tree | None:
        """Read the newest whole step back.

        Damaged steps that are newer are set aside, "7" as "7.damaged", so that they can be saved anew.

        Args:
            like: a state as it is to be: its structure, shapes, dtypes and shardings. Arrays, whose values
                do not matter, or `jax.ShapeDtypeStruct`.
            step: this step, and no other.

        Returns:
            The state, or None where the folder holds none. Leaves are JAX arrays, with the sharding of `like`
            or as uncommitted as it is, so that a jitted step takes both for the same; NumPy arrays where
            `like` has them.

        Warns:
            DamagedCheckpointWarning: steps were damaged, and which one is used.

        Raises:
            CheckpointError: a leaf is missing, is one too many, or has another shape, dtype or key
                implementation (the first one is named); no step is whole; there is no such step.
            TypeError: a leaf of `like` is no array.
        """
        self.wait()
        steps = self._on_disk()
        if step is None:
            return self._restore(like, steps[::-1]) if steps else None
        return self._restore(like, [_present(self.folder, step, steps)])

    def restore_best(self, like: Tree) -> Tree | None:
        """Read the best whole step back; as `restore`, but by the metric.

        Raises:
            CheckpointError: as `restore`; no step has the metric.
        """
        self.wait()
        if not self._on_disk():
            return None
        _, _, metric, best = self._keep
        ranked = _ranked(self.metrics(), metric, best)
        if not ranked:
            raise CheckpointError(
                f"no step in '{self.folder}' has a finite metric '{metric}', so none is best; "
                "give metrics with it to save, or restore by step"
            )
        return self._restore(like, ranked)

    def steps(self) -> list[int]:
        """Steps that are there, oldest first; a save that is being written is waited for."""
        return sorted(self.metrics())

    def metrics(self) -> dict[int, dict[str, Any]]:
        """The metrics of each step that is there, as they were given to `save`."""
        self.wait()
        return {step: dict(self._metas[step]["metrics"]) for step in self._on_disk() if step in self._metas}

    def wait(self) -> None:
        """Wait until what was saved is on the disk.

        Raises:
            CheckpointError: it could not be written; steps before it are as they were.
        """
        with self._reporting():
            self._opened().wait_until_finished()

    def close(self) -> None:
        """Wait, and leave nothing running. Closing twice is closing once.

        Raises:
            CheckpointError: as `wait`.
        """
        if self._manager is None:
            return
        try:
            self.wait()
        finally:
            manager, self._manager = self._manager, None
            with self._resources:
                manager.close()

    def _open(self) -> Any:
        from orbax import checkpoint as ocp

        options = ocp.CheckpointManagerOptions(
            preservation_policy=_Policy(self._kept),
            create=False,
            save_root_metadata=False,
            lightweight_initialize=True,  # Orbax's own record of a step may be damaged too
            num_deletion_threads=1,  # with more of them each deletion polls for 0.1 s
            async_options=ocp.AsyncOptions(post_finalization_callback=self._seal),
        )
        return ocp.CheckpointManager(self.folder, options=options)

    def _opened(self) -> Any:
        if self._manager is None:
            raise CheckpointError(f"'{self.folder}' is closed; open it again with Checkpoints")
        return self._manager

    def _seal(self) -> None:
        assert self._writing is not None
        _steps.seal(self.folder, self._writing)

    def _on_disk(self) -> list[int]:
        return sorted(self._opened().all_steps())

    def _kept(self, steps: Sequence[int]) -> set[int]:
        metrics = {step: self._metas[step]["metrics"] for step in steps if step in self._metas}
        return kept(steps, metrics, *self._keep)

    def _is_saved(self, meta: Meta) -> bool:
        step, newest = meta["step"], max(self._on_disk(), default=-1)
        if step > newest:
            return False
        if step in self._metas and self._metas[step]["leaves"] == meta["leaves"]:
            return True
        raise CheckpointError(
            f"step {step} cannot be saved, '{self.folder}' holds step {newest} of another course; "
            "restore the newest step, or give another folder"
        )

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        """What Orbax raises now, or raised in its thread, becomes one sentence."""
        try:
            yield
        except CheckpointError:
            raise
        except Exception as error:
            raise CheckpointError(
                f"step {self._writing} was not written to '{self.folder}': {_steps.short(error)}; "
                "the steps before it are as they were"
            ) from error

    def _restore(self, like: Tree, steps: Sequence[int]) -> Tree:
        expected = _steps.specs(_steps.named(like))

        def load_one(step: int) -> tuple[Meta, Arrays]:
            return _agreed(lambda: _steps.load(self.folder, step, expected))

        (meta, arrays), damaged = _first_whole(self.folder, steps, load_one)
        if damaged:
            self._set_aside(damaged)
            warnings.warn(_passed_over(self.folder, damaged, meta), DamagedCheckpointWarning, stacklevel=3)
        return _steps.rebuilt(like, arrays)

    def _set_aside(self, damaged: Iterable[int]) -> None:
        for step in damaged:
            self._metas.pop(step, None)
            if jax.process_index() == 0:
                _steps.set_aside(self.folder, step)
        _wait_for_all("jaxapf-checkpoint-set-aside")
        # Orbax has no way to forget a step but to delete it, so its list is read anew.
        self._manager.close()
        self._manager = self._open()


# Reading without writing


def describe(folder: PathLike) -> dict[int, Meta]:
    """What is known of each step, from its document alone.

    Args:
        folder: of `Checkpoints`; it may be open for writing elsewhere.

    Returns:
        step -> dict of `step` (the position in the data too), `leaves` (name -> `shape`, `dtype`, `crc32`,
        and `key`, the implementation of a random key), `config`, `metrics`, `versions`. Steps whose document
        is damaged are left out.

    Raises:
        CheckpointError: there is no such folder, or it holds no checkpoints; a newer jaxapf wrote them.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with Checkpoints(folder) as checkpoints:
        ...         checkpoints.save({"w": np.zeros((2, 3), np.float32)}, {"loss": 0.5}, step=7)
        ...     meta = describe(folder)[7]
        >>> meta["metrics"], meta["leaves"]["w"]["shape"], meta["leaves"]["w"]["dtype"]
        ({'loss': 0.5}, [2, 3], 'float32')
    """
    path = Path(folder).absolute()
    _existing(path)
    return _steps.readable(path)


def read(folder: PathLike, step: int | None = None) -> tuple[Arrays, Meta]:
    """Read a step without knowing what it holds; nothing in the folder is changed.

    Args:
        folder: of `Checkpoints`; it may be open for writing elsewhere.
        step: which one; its default is the newest whole one.

    Returns:
        The arrays by name (of a random key its data), and what `describe` says of the step.

    Warns:
        DamagedCheckpointWarning: newer steps are damaged.

    Raises:
        CheckpointError: there is no such folder or step, it holds no checkpoints or no whole one; a newer
            jaxapf wrote them.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with Checkpoints(folder) as checkpoints:
        ...         checkpoints.save({"w": [jnp.zeros(2), jnp.ones(3)]}, step=7)
        ...     arrays, meta = read(folder)
        >>> {name: array.tolist() for name, array in arrays.items()}, meta["step"]
        ({'w/0': [0.0, 0.0], 'w/1': [1.0, 1.0, 1.0]}, 7)
    """
    meta, arrays = _read(Path(folder).absolute(), step, None)
    return arrays, meta


def load(folder: PathLike, like: Tree, *, step: int | None = None) -> Tree:
    """Read a state as `Checkpoints.restore` does, from a folder that is only read.

    Args:
        folder: of `Checkpoints`; it may be open for writing elsewhere.
        like: as in `Checkpoints.restore`.
        step: which one; its default is the newest whole one.

    Returns:
        The state.

    Warns:
        DamagedCheckpointWarning: newer steps are damaged.

    Raises:
        CheckpointError: as `read`, and as `Checkpoints.restore` where the stored state is another one.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with Checkpoints(folder) as checkpoints:
        ...         checkpoints.save({"w": jnp.ones(2)}, step=7)
        ...     load(folder, {"w": jnp.zeros(2)})["w"].tolist()
        [1.0, 1.0]
    """
    _, arrays = _read(Path(folder).absolute(), step, _steps.specs(_steps.named(like)))
    return _steps.rebuilt(like, arrays)


def kept(
    steps: Sequence[int],
    metrics: Mapping[int, Mapping[str, Any]],
    keep_last: int,
    keep_best: int,
    metric: str,
    best: str,
) -> set[int]:
    """Which steps are kept: the newest `keep_last`, and the `keep_best` best by the metric.

    Example:
        >>> losses = {1: {"loss": 0.3}, 2: {"loss": math.nan}, 3: {"loss": 0.5}, 4: {}, 5: {"loss": 0.6}}
        >>> sorted(kept([1, 2, 3, 4, 5], losses, 2, 1, "loss", "min"))
        [1, 4, 5]
    """
    return set(sorted(steps)[-keep_last:]) | set(_ranked(metrics, metric, best)[:keep_best])


def _ranked(metrics: Mapping[int, Mapping[str, Any]], metric: str, best: str) -> list[int]:
    sign = 1 if best == "min" else -1
    values = {step: float(numbers.get(metric, math.nan)) for step, numbers in metrics.items()}
    finite = [step for step, value in values.items() if math.isfinite(value)]
    return sorted(finite, key=lambda step: (sign * values[step], step))


class _Policy:
    """Orbax's question, which checkpoints to preserve, answered by a function of the steps."""

    def __init__(self, answer: Callable[[Sequence[int]], set[int]]) -> None:
        self._answer = answer

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        preserved = self._answer([one.step for one in checkpoints])
        return [one.step in preserved for one in checkpoints]


# Folders and steps


def _make_folder(folder: Path) -> None:
    """Make the folder, or see that it is one of ours."""
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"'{folder}' is a file; give a folder for the checkpoints")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        raise CheckpointError(
            f"'{folder}' cannot be made or read: {_steps.short(error)}; choose another folder"
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise CheckpointError(
            f"'{folder}' cannot be written; change its permissions or choose another folder"
        )
    ours = rf"\d+|\d+\.damaged|{UNFINISHED}|\..*"
    others = [name for name in names if not re.fullmatch(ours, name)]
    if others and not _steps.readable(folder):
        raise CheckpointError(
            f"'{folder}' is no folder of checkpoints, it holds '{others[0]}'; give a new or empty folder"
        )


def _remove_leftovers(folder: Path) -> None:
    """Remove what a killed run left of its last save."""
    # Orbax can do it too, in a thread that may outlive its manager.
    if jax.process_index() == 0:
        for entry in folder.iterdir():
            if re.fullmatch(UNFINISHED, entry.name):
                shutil.rmtree(entry, ignore_errors=True)


def _existing(folder: Path) -> list[int]:
    """The steps of a folder that must have some."""
    try:
        steps = _steps.step_folders(folder)
    except OSError as error:
        raise CheckpointError(
            f"'{folder}' cannot be read: {_steps.short(error)}; give a folder of checkpoints"
        ) from error
    if not steps:
        raise CheckpointError(f"'{folder}' holds no checkpoints; give a folder that a training wrote")
    return steps


def _present(folder: Path, step: int, steps: Sequence[int]) -> int:
    if step not in steps:
        there = ", ".join(map(str, steps)) or "none"
        raise CheckpointError(f"'{folder}' has no step {step}; there are: {there}")
    return step


def _first_whole(
    folder: Path, steps: Iterable[int], load_one: Callable[[int], T]
) -> tuple[T, dict[int, str]]:
    """What the first step holds that can be loaded, and the damaged ones before it."""
    damaged = {}
    for step in steps:
        try:
            return load_one(step), damaged
        except Damaged as error:
            damaged[step] = str(error)
    raise CheckpointError(
        f"no whole checkpoint in '{folder}': {_listed(damaged)}; restore a copy of the folder, or remove it"
    )


def _passed_over(folder: Path, damaged: Mapping[int, str], meta: Meta) -> str:
    used = f"step {meta['step']} is used"
    return f"damaged checkpoints in '{folder}' are passed over: {_listed(damaged)}; {used}"


def _listed(damaged: Mapping[int, str]) -> str:
    return "; ".join(f"step {step} ({how})" for step, how in damaged.items())


def _read(folder: Path, step: int | None, expected: Mapping[str, Spec] | None) -> tuple[Meta, Arrays]:
    steps = _existing(folder)
    chosen = steps[::-1] if step is None else [_present(folder, step, steps)]
    with _quiet():
        found, damaged = _first_whole(folder, chosen, lambda one: _steps.load(folder, one, expected))
    if damaged:
        warnings.warn(_passed_over(folder, damaged, found[0]), DamagedCheckpointWarning, stacklevel=3)
    return found


def _at_least(lowest: int, name: str, value: Any) -> int:
    number = whole_number(name, value)
    if number < lowest:
        raise ValueError(f"{name} is {number}; expected {lowest} or more")
    return number


def _step_of(arrays: Arrays) -> int:
    step = arrays.get("step")
    if step is None or step.ndim or not jnp.issubdtype(step.dtype, np.integer):
        raise ValueError("step is not given and state has no whole number named 'step'; give step")
    return int(step)


# Several processes


def _agreed(load: Callable[[], T]) -> T:
    """Load in every process; whole where all found it whole, so that all use the same step."""
    if jax.process_count() == 1:
        return load()
    from jax.experimental import multihost_utils

    loaded: Any = None
    error: Exception | None = None
    try:
        loaded = load()
    except (Damaged, CheckpointError) as caught:
        error = caught
    outcome = 0 if error is None else 1 if isinstance(error, Damaged) else 2
    worst = int(np.max(multihost_utils.process_allgather(np.int32(outcome))))
    if worst == 0:
        return loaded
    if error is not None and outcome == worst:
        raise error
    if worst == 1:
        raise Damaged("another process cannot read it")
    raise CheckpointError("another process refused the checkpoint; see its message")


def _wait_for_all(name: str) -> None:
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Orbax's log to itself, unless the user asked for it by setting absl's level."""
    logger = logging.getLogger("absl")

    def pass_on(record: logging.LogRecord) -> bool:
        # The record's own path is at times that of absl.
        callers = (Path(frame.f_code.co_filename).parts for frame, _ in traceback.walk_stack(None))
        return logger.level in (logging.INFO, logging.DEBUG) or not any("orbax" in parts for parts in callers)

    logger.addFilter(pass_on)
    try:
        yield
    finally:
        logger.removeFilter(pass_on)
