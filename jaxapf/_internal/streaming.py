"""Signals of any length through a processor that keeps a state, block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float

BLOCK_SAMPLES = 2**18
Reader = Callable[[int, int], np.ndarray]  # (start, stop) to samples (channels, stop - start)


def stream_blocks(
    process: Callable[[np.ndarray, Any], tuple[Any, Any]],
    read: Reader,
    n_samples: int,
    *,
    latency: int = 0,
    block_samples: int = BLOCK_SAMPLES,
) -> Iterator[np.ndarray]:
    """Yield the blocks (channels, n) of a processed signal of `n_samples`, its latency removed.

    `process(x, state)` returns y and the next state, x (channels, block); the first state is None. It is
    `latency` samples late; where that is negative the result begins with as many zeros. `read(start, stop)`
    gives samples (channels, stop - start). Shorter signals use shorter blocks.

    Example:
        >>> x = np.arange(5.0)[None]
        >>> [y.tolist() for y in stream_blocks(lambda x, _: (-x, None), lambda a, b: x[:, a:b], 5, latency=2)]
        [[[-2.0, -3.0, -4.0, -0.0, -0.0]]]
    """
    if block_samples < 1:
        raise ValueError(f"block_samples is {block_samples}; expected 1 or more.")
    # Few block lengths, hence few compilations; the last block is padded, its tail dropped.
    block = min(block_samples, max(256, 1 << max(0, n_samples - 1).bit_length()))
    if latency < 0:
        yield np.zeros_like(read_padded(read, -min(-latency, n_samples), 0, n_samples))
    state: Any = None
    for start in range(0, n_samples + latency, block):
        y, state = process(read_padded(read, start, start + block, n_samples), state)
        y = np.asarray(y)[:, max(latency - start, 0) : max(n_samples + latency - start, 0)]
        if y.shape[-1]:
            yield y


def apply_blocks(
    stream: Callable[[Reader, int], Iterator[np.ndarray]], x: Any
) -> Float[np.ndarray, "... n_samples"]:
    """Return a whole signal in memory, in its shape and dtype, processed by `stream(read, n_samples)`."""
    signal = as_real_signal("x", x)
    if signal.size == 0:
        return signal.copy()
    rows = signal.reshape(-1, signal.shape[-1])
    result, start = np.empty_like(rows), 0
    for block in stream(lambda start, stop: rows[:, start:stop], rows.shape[-1]):
        result[:, start : start + block.shape[-1]] = block
        start += block.shape[-1]
    return result.reshape(signal.shape)


def as_real_signal(name: str, x: Any) -> Float[np.ndarray, "... n_samples"]:
    """Return a signal as float32 or float64 (whole numbers as float32); ValueError where it is none."""
    signal = np.asarray(x)
    if signal.dtype.kind in "iub":
        signal = signal.astype(np.float32)
    if signal.dtype.kind != "f":
        raise ValueError(f"{name} has dtype {signal.dtype}; expected real samples, float32 or float64.")
    if signal.ndim == 0:
        raise ValueError(
            f"{name} is a single number; expected samples along the last axis, (..., n_samples)."
        )
    return signal if signal.dtype == np.float64 else signal.astype(np.float32, copy=False)


def read_padded(read: Reader, start: int, stop: int, n_samples: int) -> np.ndarray:
    """Read samples start ... stop, (channels, stop - start), with zeros outside the signal."""
    inside = min(max(start, 0), n_samples), min(max(stop, 0), n_samples)
    x = as_real_signal("what read returned", read(*inside))
    before = min(max(0, -start), stop - start)
    return np.pad(x, [(0, 0), (before, stop - start - before - x.shape[-1])])
