"""Differentiable all-pass filters in JAX: align, model and learn audio filters by gradient."""

__version__ = "0.1.0"
