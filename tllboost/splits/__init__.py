"""Leak-free splits: components of images go to a side, then non-matches are drawn.

Two images tied by a match, or byte-identical, are in one component. Components, never
pairs, go to train, validation or test; only then are non-matches drawn, inside each
side. Splitting pairs instead leaks: simulated on the totals of the 2017 Holidays
protocol, 99.9 % of its test pairs share an image with training.
"""

from tllboost.splits.make import make_splits, training_sets
from tllboost.splits.negatives import draw_negatives, harden
from tllboost.splits.sides import PROTOCOLS, PairSet, Protocol, Split, match_components

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
