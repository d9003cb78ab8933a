"""The pair of recordings that ships with the package."""

from importlib import resources
from pathlib import Path

__all__ = ["example_pair"]


def example_pair() -> tuple[Path, Path]:
    """Return the paths (dry, wet) of the example that ships with the package.

    Seven seconds of drums and guitar, dry and through a tape machine simulation; 48 kHz, 24 bit, mono,
    CC0 (`jaxapf/datasets/example_data/LICENSE.md`).

    Example:
        >>> [path.name for path in example_pair()]
        ['dry.flac', 'wet.flac']
    """
    folder = Path(str(resources.files("jaxapf.datasets") / "example_data"))
    return folder / "dry.flac", folder / "wet.flac"
