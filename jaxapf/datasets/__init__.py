"""Pairs of recordings: the example of the package, made-up pairs, and readers of recorded sets."""

from jaxapf.datasets.devices import SignalTrainPair, SmallStonePair, signaltrain, small_stone
from jaxapf.datasets.example import example_pair
from jaxapf.datasets.recorded import SDDS_COLUMNS, RecordedPair, SddsColumns, pairs_json, read_pair, sdds
from jaxapf.datasets.speech import Recording, libritts, speech_and_loops
from jaxapf.datasets.synthetic import KNOWN, Pairs, Recipe, SyntheticPair

__all__ = [
    "KNOWN",
    "SDDS_COLUMNS",
    "Pairs",
    "Recipe",
    "RecordedPair",
    "Recording",
    "SddsColumns",
    "SignalTrainPair",
    "SmallStonePair",
    "SyntheticPair",
    "example_pair",
    "libritts",
    "pairs_json",
    "read_pair",
    "sdds",
    "signaltrain",
    "small_stone",
    "speech_and_loops",
]
