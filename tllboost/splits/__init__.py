"""Leak-free splits: components of images go to a set, then non-matches are drawn.

Two images tied by a match, or byte-identical, are in one connected component.
Components, never pairs, go to training, validation or test set; only then are
non-matches drawn, inside each set. Splitting pairs instead leaks: simulated on the
totals of the 2017 Holidays protocol, 99.9 % of its test pairs share an image with
training.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tllboost.errors import DataError
from tllboost.protocols import PROTOCOLS, Protocol
from tllboost.splits.negatives import OneSet, draw_negatives, harden
from tllboost.splits.sets import (
    PairSet,
    Split,
    SplitTable,
    component_sets,
    match_components,
)

__all__ = [
    "PROTOCOLS",
    "PairSet",
    "Protocol",
    "Split",
    "SplitTable",
    "draw_negatives",
    "harden",
    "make_splits",
    "match_components",
    "training_sets",
]


def make_splits(
    table: SplitTable, *, protocol: Protocol, seed: int, whole: bool = False
) -> list[Split]:
    """Split a pair table and draw the non-matches of each set.

    Parameters
    ----------
    table : SplitTable
        Its pairs, and the component of each image.
    protocol : Protocol
        The rule.
    seed : int
        Decides the sets and the drawn non-matches.
    whole : bool, default=False
        Whether to give the first split alone, with all pairs as its training set,
        those of validation and test among them: for what was chosen and measured
        before.

    Returns
    -------
    list of Split
        One, or one a fold.

    Raises
    ------
    DataError
        If a set would have no match, or nothing to rank a match against.

    Examples
    --------
    >>> from tllboost.splits import match_components
    >>> left, right = np.arange(40), np.arange(40, 80)
    >>> component = match_components(80, left, right)
    >>> table = SplitTable(left, right, np.ones(40, dtype=np.int8), component)
    >>> (split,) = make_splits(table, protocol=Protocol(n_distractors=3), seed=0)
    >>> len(split.test), int(split.test.label.sum())
    (32, 8)
    """
    rng = np.random.default_rng(seed)
    folds = PROTOCOLS.resolve(protocol.name)(table, protocol, rng)
    splits = [
        fold
        if isinstance(fold, Split)
        else Split(**_draw(table, fold, protocol, rng), names=fold)
        for fold in folds
    ]
    if whole:
        every = OneSet(table, np.arange(len(table.left)), "whole", rng)
        splits = [replace(splits[0], train=every.training(protocol.n_negatives))]
    return splits


def training_sets(
    table: SplitTable, *, protocol: Protocol, seed: int
) -> tuple[PairSet, PairSet]:
    """Split pairs into train and validation alone, as :func:`make_splits` would.

    Returns
    -------
    train, validation : PairSet
    """
    rng = np.random.default_rng(seed)
    nothing = np.zeros(table.component.max(initial=0) + 1, dtype=bool)
    names = component_sets(table, nothing, protocol, rng)
    sets = _draw(table, names, protocol, rng, ("train", "validation"))
    return sets["train"], sets["validation"]


def _draw(
    table: SplitTable,
    names: NDArray[np.str_],
    protocol: Protocol,
    rng: np.random.Generator,
    sets: tuple[str, ...] = ("test", "validation", "train"),
) -> dict[str, PairSet]:
    """Draw the non-matches of each set, once every set is known to have a match."""
    for name in sorted(sets):
        if not ((names == name) & (table.label == 1)).any():
            msg = (
                f"the {name} set has no match: {int((table.label == 1).sum())} "
                "matches tied into too few components to split; give more pairs, or "
                "other fractions or folds"
            )
            raise DataError(msg)
    drawn = {}
    # A stream a set: how many negatives training draws must not change the test.
    for name, stream in zip(sets, rng.spawn(len(sets)), strict=True):
        own = OneSet(table, np.flatnonzero(names == name), name, stream)
        if name == "train":
            drawn[name] = own.training(protocol.n_negatives)
        else:
            drawn[name] = own.ranking(protocol.n_distractors)
    return drawn


def holidays2017(
    table: SplitTable, _protocol: Protocol, rng: np.random.Generator
) -> list[Split]:
    """Split pairs at random 60/10/30, one random non-match a match, as in 2017.

    Images are shared between the sets: this leaks, and is here to reproduce the
    published figures under their own name.
    """
    matches = np.flatnonzero(table.label == 1)
    lists = OneSet(table, matches, "whole", rng).lists(1)
    pairs = replace(lists, query=np.full(len(lists), -1, dtype=np.int64))
    order = rng.permutation(len(pairs))
    n_test, n_validation = round(0.3 * len(pairs)), round(0.1 * len(pairs))
    parts = np.split(order, [n_test, n_test + n_validation])
    sets, drawn = np.empty(len(pairs), dtype="<U10"), {}
    for name, rows in zip(("test", "validation", "train"), parts, strict=True):
        sets[rows], drawn[name] = name, pairs.take(rows)
    names = np.full(len(table.left), "", dtype=sets.dtype)
    names[matches] = sets[pairs.label == 1]
    return [Split(**drawn, names=names)]
