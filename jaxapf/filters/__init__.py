"""Exact recursive filters: SciPy's front, cookbook and matched designs, lattices, feedback loops."""

from jaxapf.filters.iir import lfilter, sosfilt
from jaxapf.filters.recursion import allpole, first_order

__all__ = ["allpole", "first_order", "lfilter", "sosfilt"]
