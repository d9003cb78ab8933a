"""CPU kernels in C, compiled on first use where there is a compiler.

They are optional: without them the same is computed in JAX (see `available`). They are built once a machine,
in a second or two, into the user's cache folder (`XDG_CACHE_HOME`, else `~/.cache`, below `jaxapf`). They
take arrays that are all float32 or all float64, whose batch axes have one rank and broadcast where they are
1; they are not differentiable by themselves, and raise ValueError where they are not available. Environment
variables:

    JAXAPF_NATIVE=0   never build or use them; set it to export programs for the CPU (`jax.export`), whose
                      other process may not have them. Programs for a GPU or TPU never use them.
    CC                the compiler; by default `cc`, `gcc` or `clang`
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import pathlib
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable

import jax
import numpy as np
from jax import lax
from jaxtyping import Array, Float

__all__ = [
    "allpole",
    "allpole_transpose",
    "available",
    "ballistics",
    "cross",
    "on_cpu",
    "require",
    "ring",
    "ring_transpose",
    "supports",
    "usable",
    "why_not",
]

_NAMES = ("allpole.c", "ballistics.c", "cross.c", "ring.c")
_SOURCES = [pathlib.Path(__file__).with_name(name) for name in _NAMES]
_HEADER = pathlib.Path(__file__).with_name("pool.h")
SYMBOLS = (
    "jaxapf_allpole",
    "jaxapf_allpole_transpose",
    "jaxapf_ballistics",
    "jaxapf_cross",
    "jaxapf_ring",
    "jaxapf_ring_transpose",
)
_BUILD_SECONDS = 60

# The instruction set of this machine where the compiler can name it, the plain one otherwise.
_FLAG_CHOICES = (("-march=native",), ("-mcpu=native",), ())


def available() -> bool:
    """Return whether the kernels exist or can be built here. The first call builds them."""
    return why_not() is None


def why_not() -> str | None:
    """Return the reason why the kernels are missing, in one sentence; None where they exist."""
    if os.environ.get("JAXAPF_NATIVE", "").lower() in ("0", "false", "no", "off"):
        return f"JAXAPF_NATIVE={os.environ['JAXAPF_NATIVE']} turns the native kernels off."
    return _register()


def usable(*arrays: jax.Array) -> bool:
    """Return whether to use the kernels for these arrays: on the CPU, all float32 or all float64."""
    return jax.default_backend() == "cpu" and supports(*arrays) and available()


def supports(*arrays: jax.Array) -> bool:
    """Return whether the kernels take arrays of these dtypes: all float32 or all float64."""
    return {array.dtype for array in arrays} in ({np.dtype(np.float32)}, {np.dtype(np.float64)})


def on_cpu(kernel: Callable, otherwise: Callable) -> Callable:
    """Return a function that calls a kernel in programs for the CPU, and another function in all others."""
    return functools.partial(lax.platform_dependent, cpu=kernel, default=otherwise)


def allpole(a: Float[Array, "... n_samples n_poles"], x: Float[Array, "... n_samples"]) -> jax.Array:
    """Run an all-pole recurrence from zero, y[t] = x[t] - sum_i a[t, i] y[t - 1 - i]."""
    return _call("jaxapf_allpole", a.shape[:-2], (a, x))


def allpole_transpose(
    a: Float[Array, "... n_samples n_poles"], g: Float[Array, "... n_samples"]
) -> jax.Array:
    """Run the transpose of `allpole` by x, w[t] = g[t] - sum_i a[t + 1 + i, i] w[t + 1 + i]."""
    return _call("jaxapf_allpole_transpose", a.shape[:-2], (a, g))


def ballistics(
    x: Float[Array, "... n_samples"],
    start: Float[Array, ...],
    rise: Float[Array, ...],
    fall: Float[Array, ...],
) -> jax.Array:
    """Run a branching smoother from `start`, y[t] = y[t - 1] + b (x[t] - y[t - 1]), `(..., n_samples)`.

    b is `rise` where x[t] > y[t - 1] and `fall` elsewhere.
    """
    batch = np.broadcast_shapes(start.shape, rise.shape, fall.shape)
    return _call("jaxapf_ballistics", batch, (x, start, rise, fall), of=0)


def cross(a: Float[Array, "n_rows m"], b: Float[Array, "n_rows n"]) -> jax.Array:
    """Return the sum of outer products over rows, a^T b, `(m, n)`."""
    require()
    result = jax.ShapeDtypeStruct((a.shape[-1], b.shape[-1]), a.dtype)
    return jax.ffi.ffi_call("jaxapf_cross", result, vmap_method="broadcast_all")(a, b)


def ring(
    p: Float[Array, "... n_samples"], g: Float[Array, "... 2"], r: Float[Array, "... n_stages+1 n_samples"]
) -> jax.Array:
    """Run first-order all-passes in a feedback loop, from zero, `(..., n_stages + 1, n_samples)`.

    y_0[t] = r_0[t] + g_0 y_K[t] + g_1 y_K[t - 1];
    y_k[t] = r_k[t] + p[t] (y_{k-1}[t] + y_k[t - 1]) - y_{k-1}[t - 1].
    """
    return _call("jaxapf_ring", np.broadcast_shapes(p.shape[:-1], g.shape[:-1]), (p, g, r), n_core=2)


def ring_transpose(
    p: Float[Array, "... n_samples"], g: Float[Array, "... 2"], s: Float[Array, "... n_stages+1 n_samples"]
) -> jax.Array:
    """Run the transpose of `ring` as a linear map of r."""
    batch = np.broadcast_shapes(p.shape[:-1], g.shape[:-1])
    return _call("jaxapf_ring_transpose", batch, (p, g, s), n_core=2)


def _call(symbol: str, batch: tuple, arrays: tuple, *, of: int = -1, n_core: int = 1) -> jax.Array:
    """Call a kernel whose result has the last `n_core` axes of array `of`, and its batch axes broadcast."""
    require()
    like = arrays[of]
    shape = *np.broadcast_shapes(batch, like.shape[:-n_core]), *like.shape[-n_core:]
    result = jax.ShapeDtypeStruct(shape, like.dtype)
    return jax.ffi.ffi_call(symbol, result, vmap_method="expand_dims")(*arrays)


def require(*arrays: jax.Array) -> None:
    """Raise ValueError where the kernels are not available, or do not take arrays of these dtypes."""
    if arrays and not supports(*arrays):
        raise ValueError(
            f"x is {arrays[0].dtype}; method 'native' takes float32 and float64 only: choose another."
        )
    reason = why_not()
    if reason is not None:
        raise ValueError(f"method is 'native', which is not available here: {reason} Choose another method.")


@functools.cache
def _register() -> str | None:
    """Build the library unless it exists, load and register it; return why that failed, or None."""
    if sys.platform == "win32":
        return "there is no build for Windows."
    compiler = _compiler()
    if compiler is None:
        return f"no C compiler was found (CC={os.environ.get('CC', '')}; cc, gcc and clang were looked for)."
    try:
        library = ctypes.cdll.LoadLibrary(str(_build(compiler, _cache_folder())))
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:  # RuntimeError: no home folder
        return f"building them failed: {str(error).splitlines()[0]}."
    for symbol in SYMBOLS:
        jax.ffi.register_ffi_target(symbol, jax.ffi.pycapsule(getattr(library, symbol)), platform="cpu")
    return None


def _compiler() -> list[str] | None:
    """Return the compiler's command, which may have arguments or be a wrapper's, as `CC` allows."""
    named = os.environ.get("CC")
    for command in [shlex.split(named)] if named else [["cc"], ["gcc"], ["clang"]]:
        if command and shutil.which(command[0]):
            return command
    return None


def _cache_folder() -> pathlib.Path:
    """Return the user's own folder for built libraries, where nobody else may write."""
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    folder = pathlib.Path(base) / "jaxapf"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    if status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise PermissionError(f"{folder} can be written by other users")
    return folder


def _build(compiler: list[str], folder: pathlib.Path) -> pathlib.Path:
    """Return the library for this source, compiler, JAX and processor, built unless it exists."""
    facts = [path.read_bytes() for path in (*_SOURCES, _HEADER)]
    facts += [fact.encode() for fact in (*compiler, jax.__version__, _processor())]
    digest = hashlib.sha256(b"\0".join(facts)).hexdigest()[:16]
    path = folder / f"kernels-{digest}.so"
    # Loading a truncated library would end the process: its digest is stored beside it.
    checksum = path.with_suffix(".sha256")
    if path.exists() and checksum.exists() and checksum.read_text() == _digest(path):
        return path
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        built = pathlib.Path(scratch) / path.name
        for flags in _FLAG_CHOICES:
            command = [*compiler, "-std=gnu11", "-O3", *flags, "-shared", "-fPIC"]
            command += ["-I", jax.ffi.include_dir(), *map(str, _SOURCES), "-o", str(built)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=_BUILD_SECONDS)
            if done.returncode == 0:
                break
        else:
            raise OSError(f"{' '.join(compiler)}: {done.stderr.strip() or 'no output'}")
        # Renamed, at once: another process may be building or loading the same.
        written = built.with_suffix(".sha256")
        written.write_text(_digest(built))
        built.replace(path)
        written.replace(checksum)
    return path


def _digest(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _processor() -> str:
    """Return what `-march=native` depends on: a home folder may be shared by different machines."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine() + platform.processor()
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(dict.fromkeys(line for line in lines if line.startswith(wanted)))
