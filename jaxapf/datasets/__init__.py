"""Pairs of recordings: the example that ships with the package, made-up pairs, and readers of recorded sets."""

from jaxapf.datasets.example import example_pair
from jaxapf.datasets.recorded import SDDS_COLUMNS, RecordedPair, SddsColumns, pairs_json, read_pair, sdds
from jaxapf.datasets.synthetic import KNOWN, Pairs, Recipe, SyntheticPair

__all__ = [
    "KNOWN",
    "SDDS_COLUMNS",
    "Pairs",
    "Recipe",
    "RecordedPair",
    "SddsColumns",
    "SyntheticPair",
    "example_pair",
    "pairs_json",
    "read_pair",
    "sdds",
]
