"""Tables to splits: the sides first, then the non-matches of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tllboost.splits.negatives import match_lists, ranking_pairs, training_pairs
from tllboost.splits.sides import (
    PROTOCOLS,
    Integers,
    PairSet,
    Protocol,
    Split,
    SplitTable,
    choose_components,
    component_sides,
    fold_sides,
    given_sides,
    need_matches,
)

__all__ = ["draw_sides", "make_splits", "training_sets"]

Rule = Callable[[SplitTable, Protocol, np.random.Generator], list[Split]]


def make_splits(
    left: Integers,
    right: Integers,
    label: NDArray[np.int8],
    component: Integers,
    *,
    protocol: Protocol,
    seed: int,
    query: Integers | None = None,
    given: NDArray[np.str_] | None = None,
) -> list[Split]:
    """Split a pair table and draw the non-matches of each side.

    Parameters
    ----------
    left, right : ndarray of shape (n_pairs,), int64
        Image indices of the table's pairs.
    label : ndarray of shape (n_pairs,), int8
        1 for a match.
    component : ndarray of shape (n_images,), int64
        See :func:`match_components`.
    protocol : Protocol
        The rule.
    seed : int
        Decides the sides and the drawn non-matches.
    query : ndarray of shape (n_pairs,), int64, or None
        Ranking lists of the table itself; each query's others are drawn without them,
        and where the table has matches only.
    given : ndarray of shape (n_pairs,), str, or None
        The split column, for the protocol "given".

    Returns
    -------
    list of Split
        One, or one a fold.

    Raises
    ------
    DataError
        If a side would have no match, or nothing to rank a match against.

    Examples
    --------
    >>> from tllboost.splits import match_components
    >>> left, right = np.arange(40), np.arange(40, 80)
    >>> component = match_components(80, left, right)
    >>> label = np.ones(40, dtype=np.int8)
    >>> (split,) = make_splits(
    ...     left, right, label, component, protocol=Protocol(n_distractors=3), seed=0
    ... )
    >>> len(split.test), int(split.test.label.sum())
    (32, 8)
    """
    table = SplitTable(left, right, label, query, component, given)
    rule: Rule = PROTOCOLS.resolve(protocol.name)
    return rule(table, protocol, np.random.default_rng(seed))


def holdout(
    table: SplitTable, protocol: Protocol, rng: np.random.Generator
) -> list[Split]:
    """Split the components once."""
    is_match = table.label == 1
    test = choose_components(table, is_match, protocol.test_fraction, rng)
    side = component_sides(table, test, protocol, rng)
    return [draw_sides(table, side, protocol, rng)]


def kfold(
    table: SplitTable, protocol: Protocol, rng: np.random.Generator
) -> list[Split]:
    """Test every component once, over the folds."""
    sides = fold_sides(table, protocol, rng)
    return [draw_sides(table, side, protocol, rng) for side in sides]


def given(
    table: SplitTable, protocol: Protocol, rng: np.random.Generator
) -> list[Split]:
    """Take the split column of the table."""
    return [draw_sides(table, given_sides(table, protocol, rng), protocol, rng)]


def training_sets(
    left: Integers,
    right: Integers,
    label: NDArray[np.int8],
    component: Integers,
    *,
    protocol: Protocol,
    seed: int,
) -> tuple[PairSet, PairSet]:
    """Split pairs into train and validation alone, as :func:`make_splits` would.

    Returns
    -------
    train, validation : PairSet
    """
    rng = np.random.default_rng(seed)
    table = SplitTable(left, right, label, None, component)
    nothing = np.zeros(component.max(initial=0) + 1, dtype=bool)
    side = component_sides(table, nothing, protocol, rng)
    need_matches(table, side, ("train", "validation"))
    train, validation = (
        _draw_side(table, side, name, protocol, stream)
        for name, stream in zip(("train", "validation"), rng.spawn(2), strict=True)
    )
    return train, validation


def draw_sides(
    table: SplitTable,
    side: NDArray[np.str_],
    protocol: Protocol,
    rng: np.random.Generator,
) -> Split:
    """Draw the non-matches of each side and put the three sides together."""
    need_matches(table, side, ("train", "test", "validation"))
    # A stream a side: how many negatives training draws must not change the test.
    test, validation, train = (
        _draw_side(table, side, name, protocol, stream)
        for name, stream in zip(
            ("test", "validation", "train"), rng.spawn(3), strict=True
        )
    )
    return Split(train, validation, test, side)


def _draw_side(
    table: SplitTable,
    side: NDArray[np.str_],
    name: str,
    protocol: Protocol,
    rng: np.random.Generator,
) -> PairSet:
    """Draw the non-matches of one side."""
    rows = np.flatnonzero(side == name)
    draw = training_pairs if name == "train" else ranking_pairs
    return draw(table, rows, name, protocol, rng)


def holidays2017(
    table: SplitTable, _protocol: Protocol, rng: np.random.Generator
) -> list[Split]:
    """Split pairs at random 60/10/30, one random non-match a match, as in 2017.

    Images are shared between the sides: this leaks, and is here to reproduce the
    published figures under their own name.
    """
    matches = np.flatnonzero(table.label == 1)
    lists = match_lists(table, matches, 1, "whole", rng)
    pairs = replace(lists, query=np.full(len(lists), -1, dtype=np.int64))
    order = rng.permutation(len(pairs))
    n_test, n_validation = round(0.3 * len(pairs)), round(0.1 * len(pairs))
    test, validation, train = np.split(order, [n_test, n_test + n_validation])
    side = np.full(len(table.left), "", dtype="<U10")
    position = np.full(len(pairs), -1)
    position[pairs.label == 1] = matches
    for name, rows in (("train", train), ("validation", validation), ("test", test)):
        side[position[rows][position[rows] >= 0]] = name
    return [Split(pairs.take(train), pairs.take(validation), pairs.take(test), side)]
