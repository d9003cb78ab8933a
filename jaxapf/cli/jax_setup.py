"""Starting JAX, which takes a second or more: only once arguments and files have been checked."""

import contextlib
import os
import platform
import sys
import zlib


def start_jax() -> None:
    """Import JAX with a cache of compiled programs."""
    # XLA reports harmless details of the machine on stderr when it reads its cache.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    use_compilation_cache()


def use_compilation_cache() -> str | None:
    """Keep compiled programs between runs; return the folder, None where it is not writable."""
    import jax

    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR") or _cache_folder(jax.__version__)
    with contextlib.suppress(OSError):
        os.makedirs(folder, exist_ok=True)
        if os.access(folder, os.W_OK):
            jax.config.update("jax_compilation_cache_dir", folder)
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
            jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
            return folder
    return None


def _cache_folder(jax_version: str) -> str:
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    # Compiled code is for one kind of processor; a home folder may be shared by several machines.
    return os.path.join(
        os.path.expanduser(base), "jaxapf", f"jax-{jax_version}-{platform.machine()}-{cpu_tag()}"
    )


def cpu_tag() -> str:
    """Return a short tag of the kind of processor."""
    text = platform.processor()
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        text = next((line for line in file if line.startswith(("flags", "Features"))), text)
    return f"{zlib.crc32(text.encode()):08x}"
