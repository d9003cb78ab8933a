"""What the commands of `jaxapf` do, from parsed arguments to files and printed figures.

Files are checked before JAX is imported, so that mistakes are answered at once.
"""

from jaxapf._commands.effects import fit_compressor, fit_phaser
from jaxapf._commands.listing import info
from jaxapf._commands.models import apply, export
from jaxapf._commands.pair import align, demo
from jaxapf._commands.sources import UsageError

__all__ = ["UsageError", "align", "apply", "demo", "export", "fit_compressor", "fit_phaser", "info"]
