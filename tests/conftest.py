"""Settings for all tests: no silent promotion of dtypes or ranks."""

import pathlib
import sys

import jax
import pytest
from hypothesis import settings

# Tests import their neighbours `helpers` and `reference`.
sys.path.insert(0, str(pathlib.Path(__file__).parent))

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# Compiling makes first examples slow; the same examples in every run make failures reproducible.
settings.register_profile("jaxapf", deadline=None, derandomize=True, max_examples=25)
settings.load_profile("jaxapf")

# Scripts, which tests start: collected for doctests they would be imported, and set this process's devices.
collect_ignore = ["programs", "eight_devices.py"]


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
