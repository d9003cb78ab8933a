"""Settings for all tests: no silent promotion of dtypes or ranks."""

import os
import pathlib
import shutil
import sys

import jax
import jaxlib.version
import pytest
from hypothesis import settings

from jaxapf.cli import jax_setup

# Tests import what several of them share, such as `helpers`, `reference` and `command_line`.
ROOT = pathlib.Path(__file__).parent
sys.path[:0] = [str(ROOT), *(str(ROOT / "tests" / name) for name in ("", "cli", "training"))]
pytest.register_assert_rewrite("checkpoint_states", "command_line", "helpers", "html_pages")

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# Compiling makes first examples slow; the same examples in every run make failures reproducible.
settings.register_profile("jaxapf", deadline=None, derandomize=True, max_examples=25)
settings.load_profile("jaxapf")

# Scripts, which tests start: collected for doctests they would be imported, and set this process's devices.
collect_ignore = ["tests/training/programs", "tests/training/eight_devices.py"]


def compiled_folder() -> pathlib.Path:
    """The folder of compiled programs that outlives a run, one for each jaxlib and kind of processor."""
    base = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    return base / "jaxapf" / f"tests-jaxlib-{jaxlib.version.__version__}-{jax_setup.cpu_tag()}"


@pytest.fixture(autouse=True, scope="session")
def compiled_once():
    """What one test compiles the others find, those of later runs too: most of the time is compiling."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(compiled_folder()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@pytest.fixture(autouse=True)
def optimisation(request):
    """Compile without XLA's optimisations, which saves a third of the time, unless marked `optimised`."""
    off = request.node.get_closest_marker("optimised") is None
    if off != jax.config.read("jax_disable_most_optimizations"):
        jax.clear_caches()  # else programs compiled the other way would be used again
        jax.config.update("jax_disable_most_optimizations", off)


@pytest.fixture(scope="module")
def processes_compile_once(tmp_path_factory):
    """The same for the processes that a module starts, one after the other, in a folder of their own.

    Not for all: one may read a program while another is still writing it, which JAX reports on stderr.
    """
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.mktemp("compiled")))
        environment.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        yield


@pytest.fixture
def x64():
    """Run one test with float64 enabled."""
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.fixture
def loose_jax():
    """JAX's own defaults, as users have them."""
    jax.config.update("jax_numpy_dtype_promotion", "standard")
    jax.config.update("jax_numpy_rank_promotion", "allow")
    yield
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="module")
def two_steps(tmp_path_factory):
    """A folder with checkpoints of steps 1 and 2, to be copied before anything is done to it."""
    import checkpoint_states

    return checkpoint_states.filled(tmp_path_factory.mktemp("checkpoints") / "two", 1, 2)


@pytest.fixture
def folder(two_steps, tmp_path):
    """A copy of `two_steps`, to be changed."""
    return pathlib.Path(shutil.copytree(two_steps, tmp_path / "run"))
