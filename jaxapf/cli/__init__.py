"""The command `jaxapf`."""

from jaxapf.cli.parser import main, parse

__all__ = ["main", "parse"]
