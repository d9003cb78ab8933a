"""Exact recursive filters: SciPy's front, cookbook and matched designs, lattices, feedback loops."""

from jaxapf._internal.lazy import loader
from jaxapf.filters.iir import lfilter, sosfilt
from jaxapf.filters.recursion import allpole, first_order

__all__ = ["allpole", "first_order", "lfilter", "sosfilt"]

# Modules, loaded on first use.
__getattr__ = loader(
    __name__, {name: name for name in ("biquad", "feedback", "lattice", "matched", "overlap_add")}
)
