"""Hard negatives: the wrong candidates that look most like the query.

Most drawn non-matches are told from a match at a glance, and teach little. Those that
lie nearest the query are the ones that a ranking gets wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tllboost.errors import UsageError
from tllboost.splits.pair_set import Integers, PairSet

__all__ = ["harden"]

_BLOCK_BYTES = 64 * 2**20

Floats = NDArray[np.float32]


def harden(train: PairSet, vectors: Floats, n_hard: int) -> PairSet:
    """Replace some drawn non-matches of each match by the nearest wrong candidates.

    Candidates are the right images of the training matches, and wrong are those of
    other components than the query's. Nearest is by the cosine of `vectors`. What was
    drawn fills the rest of each list, which keeps its length and its weights. Pairs
    that are in no list, and lists without a match, such as the table's own
    non-matches, stay as they are.

    Parameters
    ----------
    train : PairSet
        The training side, as :func:`~tllboost.splits.make_splits` made it.
    vectors : ndarray of shape (n_images, n_dims), float32
        Rows of images that are not in `train` are never looked at.
    n_hard : int
        Non-matches of each list that are replaced; all of them where it has fewer.

    Returns
    -------
    PairSet
        The same pairs but for right images of non-matches, the nearest first.

    Raises
    ------
    UsageError
        If `n_hard` is negative.

    Examples
    --------
    >>> from tllboost.splits import Protocol, match_components, training_sides
    >>> left, right = np.arange(20), np.arange(20, 40)
    >>> train, _ = training_sides(
    ...     left,
    ...     right,
    ...     np.ones(20),
    ...     match_components(40, left, right),
    ...     protocol=Protocol(n_negatives=3),
    ...     seed=0,
    ... )
    >>> angle = np.tile(np.arange(20), 2)  # number 4 lies between 3 and 5
    >>> vectors = np.column_stack([np.cos(angle), np.sin(angle)]).astype(np.float32)
    >>> hard = harden(train, vectors, 1)
    >>> np.array_equal(hard.left, train.left), np.array_equal(hard.label, train.label)
    (True, True)
    """
    if n_hard < 0:
        msg = f"n_hard={n_hard} must be 0 or more"
        raise UsageError(msg)
    lists = _drawn_lists(train)
    if n_hard == 0 or not lists:
        return train
    is_match = train.label == 1
    pool, first = np.unique(train.right[is_match], return_index=True)
    of_pool = train.component[is_match][first]
    heads = np.array([rows[0] for rows in lists])
    right = train.right.copy()
    for block, nearest in _nearest(
        vectors, train.left[heads], train.component[heads], pool, of_pool, n_hard
    ):
        for rows, candidates in zip(lists[block], nearest, strict=True):
            hard = candidates[candidates >= 0][: len(rows)]
            drawn = right[rows]
            rest = drawn[~np.isin(drawn, hard)]
            right[rows] = np.append(hard, rest)[: len(rows)]
    return replace(train, right=right)


def _drawn_lists(train: PairSet) -> list[Integers]:
    """Return the rows of the non-matches of each list that has a match."""
    others = np.flatnonzero((train.label == 0) & (train.query >= 0))
    others = others[np.isin(train.query[others], train.query[train.label == 1])]
    others = others[np.argsort(train.query[others], kind="stable")]
    starts = np.flatnonzero(np.diff(train.query[others])) + 1
    return np.split(others, starts) if len(others) else []


def _nearest(
    vectors: Floats,
    left: Integers,
    component: Integers,
    pool: Integers,
    of_pool: Integers,
    n_hard: int,
) -> Iterator[tuple[slice, Integers]]:
    """Yield the nearest images of other components, for a block of queries at a time.

    (n_queries, n_hard) images, the nearest first, -1 where there are no more.
    """
    candidates = _unit(vectors[pool])
    n_hard = min(n_hard, len(pool))
    step = max(1, _BLOCK_BYTES // (4 * len(pool)))
    for start in range(0, len(left), step):
        block = slice(start, start + step)
        cosine = _unit(vectors[left[block]]) @ candidates.T
        cosine[component[block, None] == of_pool] = -np.inf
        order = np.argpartition(-cosine, n_hard - 1, axis=1)[:, :n_hard]
        order.sort(axis=1)  # of equally near ones, the first
        value = np.take_along_axis(cosine, order, axis=1)
        ranked = np.argsort(-value, axis=1, kind="stable")
        order = np.take_along_axis(order, ranked, axis=1)
        value = np.take_along_axis(value, ranked, axis=1)
        yield block, np.where(np.isfinite(value), pool[order], -1)


def _unit(vectors: Floats) -> Floats:
    """Scale each row to length 1, a zero row staying zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(norms > 0, norms, 1)).astype(np.float32, copy=False)
