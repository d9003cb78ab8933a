"""What the commands of `jaxapf` do, from parsed arguments to files and printed figures.

Files are checked before JAX is imported, so that mistakes are answered at once.
"""

from jaxapf._commands.effects import fit_compressor, fit_phaser
from jaxapf._commands.listing import info
from jaxapf._commands.models import apply, export
from jaxapf._commands.pair import align, demo
from jaxapf._commands.processing import CHANNELS, EFFECTS, default, effect, process, shown_names
from jaxapf._commands.sources import UsageError
from jaxapf._commands.style import style

__all__ = [
    "CHANNELS",
    "EFFECTS",
    "UsageError",
    "align",
    "apply",
    "default",
    "demo",
    "effect",
    "export",
    "fit_compressor",
    "fit_phaser",
    "info",
    "process",
    "shown_names",
    "style",
]
