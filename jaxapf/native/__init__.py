"""A CPU kernel for the all-pole recurrence, compiled on first use where there is a C compiler.

The kernel is optional: `available()` says whether it can be had, and without it `jaxapf.allpole` runs the
same recurrence in JAX. It is built once a machine, within a second, into the user's cache folder
(`XDG_CACHE_HOME`, else `~/.cache`, below `jaxapf`). Environment variables:

    JAXAPF_NATIVE=0   never build or use it
    CC                the compiler; by default `cc`, `gcc` or `clang`
"""

import ctypes
import functools
import hashlib
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile

import jax
import numpy as np

_SOURCE = pathlib.Path(__file__).with_name("allpole.c")
_SYMBOLS = ("jaxapf_allpole", "jaxapf_allpole_transpose")
_BUILD_SECONDS = 60

# The instruction set of this machine where the compiler can name it, the plain one otherwise.
_FLAG_CHOICES = (("-march=native",), ("-mcpu=native",), ())


def available() -> bool:
    """Whether the kernel is there, or can be built here. The first call builds it.

    Example:
        >>> available() or isinstance(why_not(), str)
        True
    """
    return why_not() is None


def why_not() -> str | None:
    """The reason why the kernel is not there, in one sentence; None where it is.

    Example:
        >>> isinstance(why_not(), str) or available()
        True
    """
    if os.environ.get("JAXAPF_NATIVE", "") == "0":
        return "JAXAPF_NATIVE=0 turns the native kernel off."
    return _register()


def supports(*arrays: jax.Array) -> bool:
    """Whether the kernel takes arrays of these dtypes: all float32 or all float64.

    Example:
        >>> import jax.numpy as jnp
        >>> supports(jnp.zeros(2, jnp.float32)), supports(jnp.zeros(2, jnp.complex64))
        (True, False)
    """
    return {array.dtype for array in arrays} in ({np.dtype(np.float32)}, {np.dtype(np.float64)})


def allpole(a: jax.Array, x: jax.Array) -> jax.Array:
    """All-pole recurrence from rest, y[t] = x[t] - sum_i a[t, i] y[t - 1 - i]; not differentiable by itself.

    Args:
        a: `(..., n_samples or 1, n_poles)` coefficients, varying or constant; float32 or float64.
        x: `(..., n_samples)`, of the same dtype. Batch axes have one rank; those of length 1 broadcast.

    Returns:
        `(..., n_samples)`.

    Raises:
        ValueError: the kernel is not available.

    Example:
        >>> import jax.numpy as jnp
        >>> if available():
        ...     y = allpole(jnp.array([[-0.5]]), jnp.array([1.0, 0.0, 0.0]))
        ...     assert y.tolist() == [1.0, 0.5, 0.25]
    """
    return _call("jaxapf_allpole", a, x)


def allpole_transpose(a: jax.Array, g: jax.Array) -> jax.Array:
    """Transpose of `allpole` as a linear map of x: w[t] = g[t] - sum_i a[t + 1 + i, i] w[t + 1 + i].

    Args:
        a: as in `allpole`.
        g: `(..., n_samples)` cotangent of y.

    Returns:
        `(..., n_samples)` cotangent of x.

    Raises:
        ValueError: the kernel is not available.

    Example:
        >>> import jax.numpy as jnp
        >>> if available():
        ...     w = allpole_transpose(jnp.array([[-0.5]]), jnp.array([0.0, 0.0, 1.0]))
        ...     assert w.tolist() == [0.25, 0.5, 1.0]
    """
    return _call("jaxapf_allpole_transpose", a, g)


def _call(symbol: str, a: jax.Array, x: jax.Array) -> jax.Array:
    require()
    batch = np.broadcast_shapes(a.shape[:-2], x.shape[:-1])
    result = jax.ShapeDtypeStruct((*batch, x.shape[-1]), x.dtype)
    return jax.ffi.ffi_call(symbol, result, vmap_method="expand_dims")(a, x)


def require() -> None:
    """Raise ValueError with the reason where the kernel is not there.

    Example:
        >>> if available():
        ...     require()
    """
    reason = why_not()
    if reason is not None:
        raise ValueError(f"method is 'native', which is not available here: {reason} Choose another method.")


@functools.cache
def _register() -> str | None:
    """Build the library unless it is there, load it and tell XLA; return why that failed, or None."""
    compiler = _compiler()
    if sys.platform == "win32" or compiler is None:
        return "no C compiler was found."
    try:
        path = _build(compiler, _cache_folder())
        library = ctypes.cdll.LoadLibrary(str(path))
    except (OSError, subprocess.SubprocessError) as error:
        return f"the C compiler {compiler} could not build it ({str(error).splitlines()[0]})."
    for symbol in _SYMBOLS:
        jax.ffi.register_ffi_target(symbol, jax.ffi.pycapsule(getattr(library, symbol)), platform="cpu")
    return None


def _compiler() -> str | None:
    named = os.environ.get("CC")
    return next(filter(None, map(shutil.which, [named] if named else ["cc", "gcc", "clang"])), None)


def _cache_folder() -> pathlib.Path:
    """The user's own folder for built libraries; nobody else may write there."""
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    folder = pathlib.Path(base) / "jaxapf"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    if status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise PermissionError(f"{folder} can be written by other users")
    return folder


def _build(compiler: str, folder: pathlib.Path) -> pathlib.Path:
    """Return the library for this source, compiler, JAX and processor, built unless it is there."""
    facts = (_SOURCE.read_bytes(), compiler.encode(), jax.__version__.encode(), _processor().encode())
    name = hashlib.sha256(b"\0".join(facts)).hexdigest()[:16]
    path = folder / f"allpole-{name}.so"
    if path.exists():
        return path
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        built = pathlib.Path(scratch) / path.name
        for flags in _FLAG_CHOICES:
            command = [compiler, "-std=gnu11", "-O3", *flags, "-shared", "-fPIC"]
            command += ["-I", jax.ffi.include_dir(), str(_SOURCE), "-o", str(built)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=_BUILD_SECONDS)
            if done.returncode == 0:
                break
        else:
            raise OSError(done.stderr.strip() or "no message")
        built.replace(path)  # at once: another process may be building the same
    return path


def _processor() -> str:
    """Name what `-march=native` depends on: a home folder may be shared by different machines."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine() + platform.processor()
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(dict.fromkeys(line for line in lines if line.startswith(wanted)))
