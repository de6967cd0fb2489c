"""The non-matches of a side: drawn inside it, never from the query's component."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tllboost.errors import DataError
from tllboost.splits.pair_set import Integers, PairSet, SplitTable
from tllboost.splits.protocol import Protocol

__all__ = ["draw_others", "match_lists", "ranking_pairs", "training_pairs"]


def training_pairs(
    table: SplitTable,
    rows: Integers,
    name: str,
    protocol: Protocol,
    rng: np.random.Generator,
) -> PairSet:
    """Give each match its drawn non-matches, besides those of the table."""
    if protocol.n_negatives == 0:
        rows = rows[np.argsort(table.left[rows], kind="stable")]
        return _pair_set(table, rows, query=table.left[rows], weight=np.ones(len(rows)))
    matches = rows[table.label[rows] == 1]
    drawn = match_lists(table, matches, protocol.n_negatives, name, rng)
    others = rows[table.label[rows] == 0]
    # The table's own non-matches form a list a left image, for ranking heads.
    others = others[np.argsort(table.left[others], kind="stable")]
    lists, weight = table.left[others], np.ones(len(others))
    return drawn + _pair_set(table, others, query=lists, weight=weight)


def ranking_pairs(
    table: SplitTable,
    rows: Integers,
    name: str,
    protocol: Protocol,
    rng: np.random.Generator,
) -> PairSet:
    """Make the ranking lists and the weights of a validation or test side."""
    if table.query is not None and table.has_non_matches:
        lists = np.unique(table.query[rows], return_inverse=True)[1]
        return _pair_set(table, rows, query=lists, weight=np.ones(len(rows)))
    matches = rows[table.label[rows] == 1]
    drawn = match_lists(table, matches, protocol.n_others, name, rng)
    if not (table.label[rows] == 0).any():
        return drawn
    none = np.full(len(rows), -1, dtype=np.int64)
    given = _pair_set(table, rows, query=none, weight=np.ones(len(rows)))
    return replace(drawn, weight=np.zeros(len(drawn))) + given


def match_lists(
    table: SplitTable,
    matches: Integers,
    n_others: int,
    name: str,
    rng: np.random.Generator,
) -> PairSet:
    """Return a list a match: the match first, then others drawn from the side."""
    left, right = table.left[matches], table.right[matches]
    pool = np.unique(right)
    others = draw_others(
        table.component[left], pool, table.component[pool], n_others, rng
    )
    counts = (others >= 0).sum(axis=1)
    if not counts.all():
        msg = (
            f"the {name} side has {len(matches)} matches in one component: there is "
            "nothing to rank them against; give more pairs, or other fractions or folds"
        )
        raise DataError(msg)
    columns = np.column_stack([right, others])
    kept = columns >= 0
    label = np.zeros(columns.shape, dtype=np.int8)
    label[:, 0] = 1
    weight = np.repeat(1.0 / counts[:, None], columns.shape[1], axis=1)
    weight[:, 0] = 1.0
    query = np.repeat(np.arange(len(matches))[:, None], columns.shape[1], axis=1)
    lefts = np.repeat(left[:, None], columns.shape[1], axis=1)
    return PairSet(
        left=lefts[kept],
        right=columns[kept],
        label=label[kept],
        query=query[kept],
        weight=weight[kept],
        component=table.component[lefts[kept]],
    )


def _pair_set(
    table: SplitTable, rows: Integers, *, query: Integers, weight: NDArray[np.float64]
) -> PairSet:
    left = table.left[rows]
    component = table.component[left]
    return PairSet(left, table.right[rows], table.label[rows], query, weight, component)


def draw_others(
    component: Integers,
    pool: Integers,
    pool_component: Integers,
    n_others: int,
    rng: np.random.Generator,
) -> Integers:
    """Draw, for each query, distinct images of other components.

    Parameters
    ----------
    component : ndarray of shape (n_queries,), int64
        The query's component.
    pool : ndarray of shape (n_pool,), int64
        Distinct images to draw from.
    pool_component : ndarray of shape (n_pool,), int64
        Their components.
    n_others : int
        How many to draw; fewer where the pool has fewer.

    Returns
    -------
    ndarray of shape (n_queries, n_others), int64
        Images, -1 where the pool was too small, always behind.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> pool = np.array([10, 11, 12])
    >>> drawn = draw_others(np.array([0]), pool, np.array([0, 1, 2]), 2, rng)
    >>> sorted(drawn[0].tolist())
    [11, 12]
    """
    own = np.bincount(pool_component, minlength=component.max(initial=0) + 1)[component]
    few = len(pool) - own < 4 * n_others
    others = np.full((len(component), n_others), -1, dtype=np.int64)
    for i in np.flatnonzero(few):
        fit = pool[pool_component != component[i]]
        drawn = rng.permutation(fit)[:n_others]
        others[i, : len(drawn)] = drawn
    many = np.flatnonzero(~few)
    others[many] = pool[_rejection(component[many], pool_component, n_others, rng)]
    return others


def _rejection(
    component: Integers,
    pool_component: Integers,
    n_others: int,
    rng: np.random.Generator,
) -> Integers:
    """Draw positions in a large pool; redraw repeats and the query's component."""
    drawn = rng.integers(len(pool_component), size=(len(component), n_others))
    while True:
        bad = pool_component[drawn] == component[:, None]
        order = np.argsort(drawn, axis=1, kind="stable")
        ranked = np.take_along_axis(drawn, order, axis=1)
        repeat = np.zeros_like(bad)
        repeated = np.concatenate(
            [np.zeros((len(drawn), 1), bool), ranked[:, 1:] == ranked[:, :-1]], axis=1
        )
        np.put_along_axis(repeat, order, repeated, axis=1)
        bad |= repeat
        if not bad.any():
            return drawn
        drawn[bad] = rng.integers(len(pool_component), size=int(bad.sum()))
