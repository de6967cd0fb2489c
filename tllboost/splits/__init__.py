"""Leak-free splits: components of images go to a set, then non-matches are drawn.

Two images tied by a match, or byte-identical, are in one connected component.
Components, never pairs, go to training, validation or test set; only then are
non-matches drawn, inside each set. Splitting pairs instead leaks: simulated on the
totals of the 2017 Holidays protocol, 99.9 % of its test pairs share an image with
training.
"""

from tllboost.protocols import PROTOCOLS, Protocol
from tllboost.splits.make import make_splits, training_sets
from tllboost.splits.negatives import draw_negatives, harden
from tllboost.splits.sets import PairSet, Split, match_components

__all__ = [
    "PROTOCOLS",
    "PairSet",
    "Protocol",
    "Split",
    "draw_negatives",
    "harden",
    "make_splits",
    "match_components",
    "training_sets",
]
