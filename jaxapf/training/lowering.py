"""The program of a step on any platform, its operations, and the bytes that devices exchange."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax import export

from jaxapf.filters import native

__all__ = ["COLLECTIVES", "PLATFORMS", "Cost", "collective_bytes", "cost", "lowered", "wide_types"]

PLATFORMS = ("cpu", "cuda", "tpu")
COLLECTIVES = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter")
_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "f32": 4, "s32": 4, "u32": 4}
_BYTES |= {"f64": 8, "s64": 8, "u64": 8, "c64": 8, "c128": 16}


class Cost(NamedTuple):
    """One run on one device: floating-point operations, bytes moved, bytes of collectives by kind."""

    flops: float
    bytes_accessed: float
    collectives: dict[str, int]


def lowered(
    function: Callable[..., Any], *arguments: Any, platforms: Sequence[str] = PLATFORMS
) -> dict[str, str]:
    """Return the StableHLO text of a function by platform, which need not be present.

    The function is pure or jitted, such as a train step; its arguments may be `jax.ShapeDtypeStruct`.
    ValueError where the platform is another one; whatever JAX raises where the function cannot be lowered for
    one.

    Example:
        >>> import jax.numpy as jnp
        >>> sorted(lowered(lambda x: x + 1, jnp.ones(3)))
        ['cpu', 'cuda', 'tpu']
    """
    if isinstance(platforms, str) or set(platforms) - {*PLATFORMS, "rocm"}:
        raise ValueError(
            f"platforms is {platforms!r}; expected a list of some of {', '.join(PLATFORMS)}, rocm."
        )
    jitted: Any = function if hasattr(function, "lower") else jax.jit(function)
    # The CPU's kernels are this package's own; JAX refuses names that it does not know.
    known = [export.DisabledSafetyCheck.custom_call(name) for name in native.SYMBOLS]
    return {
        platform: export.export(jitted, platforms=[platform], disabled_checks=known)(*arguments).mlir_module()
        for platform in platforms
    }


def wide_types(program: str) -> set[str]:
    """Return the double-precision types that occur in a StableHLO program, which TPUs do not have.

    Example:
        >>> wide_types("tensor<4xf64>, tensor<2xcomplex<f32>>, tensor<f32>")
        {'f64'}
    """
    return set(re.findall(r"(?<![a-z0-9])f64|complex<f64>", program.replace("x", " ")))


def cost(compiled: Any) -> Cost:
    """Return the cost on one device of ``jax.jit(function).lower(...).compile()``, by XLA's analysis.

    A loop counts once.

    Example:
        >>> import jax.numpy as jnp
        >>> cost(jax.jit(lambda x: x @ x).lower(jnp.ones((8, 8))).compile()).flops
        1024.0
    """
    analysis = compiled.cost_analysis() or {}
    analysis = analysis[0] if isinstance(analysis, list) else analysis
    return Cost(
        float(analysis.get("flops", math.nan)),
        float(analysis.get("bytes accessed", math.nan)),
        collective_bytes(compiled.as_text()),
    )


def collective_bytes(hlo: str) -> dict[str, int]:
    """Return the bytes of the results of each kind of collective in an HLO program.

    Example:
        >>> collective_bytes("%r = (f32[3]{0}, f32[]) all-reduce(%a, %b), channel_id=1")
        {'all-reduce': 16}
    """
    found: dict[str, int] = {}
    for shapes, kind in re.findall(rf"= (.*?) ({'|'.join(COLLECTIVES)})(?:-start)?\(", hlo):
        sizes = re.findall(r"(\w+)\[([\d,]*)\]", shapes)
        total = sum(
            _BYTES.get(dtype, 0) * math.prod(map(int, filter(None, d.split(",")))) for dtype, d in sizes
        )
        found[kind] = found.get(kind, 0) + total
    return found
