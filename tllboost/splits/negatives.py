"""The non-matches of a set: drawn inside it, never from the query's component.

Hard ones are the distractors that look most like the query. Most drawn non-matches are
told from a match at a glance, and teach little. Those that lie nearest the query are
the ones that a ranking gets wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tllboost.errors import DataError
from tllboost.merges import row_blocks, unit_rows
from tllboost.splits.sets import Integers, PairSet, SplitTable


@dataclass(frozen=True, eq=False)
class OneSet:
    """The rows of one set, and what its non-matches are drawn with."""

    table: SplitTable
    rows: Integers
    name: str
    rng: np.random.Generator

    def training(self, n_negatives: int) -> PairSet:
        """Give each match its drawn non-matches, besides those of the table."""
        left, rows = self.table.left, self.rows
        if n_negatives:
            rows = rows[self.table.label[rows] == 0]
        # The table's own non-matches form a list a left image, for ranking heads.
        rows = rows[np.argsort(left[rows], kind="stable")]
        own = self._pairs(rows, left[rows])
        return self.lists(n_negatives) + own if n_negatives else own

    def ranking(self, n_distractors: int) -> PairSet:
        """Make the ranking lists and the weights of a validation or test set."""
        label, rows, query = self.table.label, self.rows, self.table.query
        if query is not None and (label == 0).any():
            return self._pairs(rows, np.unique(query[rows], return_inverse=True)[1])
        drawn = self.lists(n_distractors)
        if not (label[rows] == 0).any():
            return drawn
        given = self._pairs(rows, np.full(len(rows), -1, dtype=np.int64))
        return replace(drawn, weight=np.zeros(len(drawn))) + given

    def lists(self, n_distractors: int) -> PairSet:
        """Return a list a match: the match first, then distractors of the set."""
        table, matches = self.table, self.rows[self.table.label[self.rows] == 1]
        left, right = table.left[matches], table.right[matches]
        pool = np.unique(right)
        of_left, of_pool = table.component[left], table.component[pool]
        others = draw_negatives(of_left, pool, of_pool, n_distractors, self.rng)
        counts = (others >= 0).sum(axis=1)
        if not counts.all():
            msg = (
                f"the {self.name} set has {len(matches)} matches in one component: "
                "there is nothing to rank them against; give more pairs, or other "
                "fractions or folds"
            )
            raise DataError(msg)
        columns = np.column_stack([right, others])
        kept = columns >= 0
        query, place = np.nonzero(kept)
        label = (place == 0).astype(np.int8)
        weight = np.where(place == 0, 1.0, 1.0 / counts[query])
        if table.weight is not None:
            weight *= table.weight[matches][query]
        left = left[query]
        return PairSet(left, columns[kept], label, query, weight, of_left[query])

    def _pairs(self, rows: Integers, query: Integers) -> PairSet:
        """Return pairs of the table; they weigh one each unless it says otherwise."""
        own, weight = self.table, np.ones(len(rows))
        if own.weight is not None:
            weight = own.weight[rows]
        left = own.left[rows]
        sides = left, own.right[rows], own.label[rows]
        return PairSet(*sides, query, weight, own.component[left])


def draw_negatives(
    component: Integers,
    pool: Integers,
    pool_component: Integers,
    n_distractors: int,
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
    n_distractors : int
        How many to draw; fewer where the pool has fewer.

    Returns
    -------
    ndarray of shape (n_queries, n_distractors), int64
        Images, -1 where the pool was too small, always behind.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> pool = np.array([10, 11, 12])
    >>> drawn = draw_negatives(np.array([0]), pool, np.array([0, 1, 2]), 2, rng)
    >>> sorted(drawn[0].tolist())
    [11, 12]
    """
    own = np.bincount(pool_component, minlength=component.max(initial=0) + 1)[component]
    few = len(pool) - own < 4 * n_distractors
    others = np.full((len(component), n_distractors), -1, dtype=np.int64)
    for i in np.flatnonzero(few):
        fit = pool[pool_component != component[i]]
        drawn = rng.permutation(fit)[:n_distractors]
        others[i, : len(drawn)] = drawn
    many = np.flatnonzero(~few)
    # Positions in a large pool; repeats and the query's component are drawn again.
    drawn = rng.integers(len(pool), size=(len(many), n_distractors))
    while True:
        bad = pool_component[drawn] == component[many, None]
        order = np.argsort(drawn, axis=1, kind="stable")
        ranked = np.take_along_axis(drawn, order, axis=1)
        repeat = np.zeros_like(bad)
        repeated = np.diff(ranked, axis=1, prepend=-1) == 0
        np.put_along_axis(repeat, order, repeated, axis=1)
        bad |= repeat
        if not bad.any():
            break
        drawn[bad] = rng.integers(len(pool), size=int(bad.sum()))
    others[many] = pool[drawn]
    return others


_BLOCK_BYTES = 64 * 2**20


def harden(train: PairSet, vectors: NDArray[np.float32], n_hard: int) -> PairSet:
    """Replace some drawn non-matches of each match by the nearest distractors.

    Candidates are the right images of the training matches, and wrong are those of
    other components than the query's. Nearest is by the cosine of `vectors`. What was
    drawn fills the rest of each list, which keeps its length and its weights. Pairs
    that are in no list, and lists without a match, such as the table's own
    non-matches, stay as they are.

    Parameters
    ----------
    train : PairSet
        The training set, as :func:`~tllboost.splits.make_splits` made it.
    vectors : ndarray of shape (n_images, n_dims), float32
        Rows of images that are not in `train` are never looked at.
    n_hard : int
        Non-matches of each list that are replaced; all of them where it has fewer.

    Returns
    -------
    PairSet
        The same pairs but for right images of non-matches, the nearest first.

    Examples
    --------
    >>> from tllboost.splits import Protocol, match_components, training_sets
    >>> left, right = np.arange(20), np.arange(20, 40)
    >>> component = match_components(40, left, right)
    >>> table = SplitTable(left, right, np.ones(20), component)
    >>> train, _ = training_sets(table, protocol=Protocol(n_negatives=3), seed=0)
    >>> angle = np.tile(np.arange(20), 2)  # number 4 lies between 3 and 5
    >>> vectors = np.column_stack([np.cos(angle), np.sin(angle)]).astype(np.float32)
    >>> hard = harden(train, vectors, 1)
    >>> np.array_equal(hard.left, train.left), np.array_equal(hard.label, train.label)
    (True, True)
    """
    is_match = train.label == 1
    # The rows of the non-matches of each list that has a match.
    others = np.flatnonzero((train.label == 0) & (train.query >= 0))
    others = others[np.isin(train.query[others], train.query[is_match])]
    others = others[np.argsort(train.query[others], kind="stable")]
    if n_hard == 0 or not len(others):
        return train
    lists = np.split(others, np.flatnonzero(np.diff(train.query[others])) + 1)
    pool, first = np.unique(train.right[is_match], return_index=True)
    of_pool = train.component[is_match][first]
    candidates, n_hard = unit_rows(vectors[pool]), min(n_hard, len(pool))
    right = train.right.copy()
    for some in row_blocks(len(lists), len(pool), most=_BLOCK_BYTES):
        block = lists[some]
        heads = np.array([rows[0] for rows in block])
        cosine = unit_rows(vectors[train.left[heads]]) @ candidates.T
        cosine[train.component[heads, None] == of_pool] = -np.inf
        nearest = np.argpartition(-cosine, n_hard - 1, axis=1)[:, :n_hard]
        for rows, near, of in zip(block, nearest, cosine, strict=True):
            order = near[np.lexsort((near, -of[near]))]  # equally near: the first
            hard, drawn = pool[order[np.isfinite(of[order])]], right[rows]
            rest = drawn[~np.isin(drawn, hard[: len(rows)])]
            right[rows] = np.append(hard[: len(rows)], rest)[: len(rows)]
    return replace(train, right=right)
