"""Retrieve, then rerank: a quick score of all, the exact one of the best by it.

The score of a linear head is a product and exact for all. Of any other the cosine of
the vectors, that boosting grows from, makes a shortlist; what stands on it is scored
exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tllboost.bilinear import Bilinear, bilinear
from tllboost.fitted import FittedCell, cross_score
from tllboost.heads.base import LinearForm

__all__ = ["best_rows", "is_linear", "quick_scores", "rank_rows"]

Scores = NDArray[np.float64]
Quick = Callable[[FittedCell, Bilinear], NDArray[np.float32]]


def best_rows(scores: NDArray[np.floating], top: int) -> NDArray[np.int64]:
    """Return the rows of the `top` highest scores, best first, ties in order.

    Examples
    --------
    >>> best_rows(np.array([0.1, 0.9, 0.5, 0.9]), 3).tolist()
    [1, 3, 2]
    """
    top = min(top, len(scores))
    if top == len(scores):
        return np.argsort(-scores, kind="stable")
    limit = np.partition(scores, len(scores) - top)[len(scores) - top]
    rows = np.flatnonzero(scores >= limit)
    return rows[np.argsort(-scores[rows], kind="stable")][:top]


def is_linear(cells: Sequence[FittedCell], n_dims: Sequence[int]) -> bool:
    """Tell whether the score of all cells is a product, of vectors of these widths."""
    pairs = zip(cells, n_dims, strict=True)
    return all(cell.bilinear(width) is not None for cell, width in pairs)


def quick_scores(
    cells: Sequence[FittedCell], n_dims: Sequence[int], score: Quick
) -> Scores:
    """Return a score of each candidate that takes a product a cell, for a shortlist.

    Parameters
    ----------
    cells : sequence of FittedCell, length n_cells
    n_dims : sequence of int, length n_cells
        Width of the vectors that each merges.
    score : callable
        Gives the scores (n_candidates,) of a cell by a product: its own where its
        head is linear, else the cosine.

    Returns
    -------
    ndarray of shape (n_candidates,), float64
        The mean over the cells, each on the scale of its own spread.
    """
    total: Scores | None = None
    for cell, width in zip(cells, n_dims, strict=True):
        product = cell.bilinear(width) or _cosine(width)
        own = score(cell, product).astype(np.float64)
        if len(cells) > 1:
            own = (own - own.mean()) / max(own.std(), 1e-12)
        total = own if total is None else total + own
    assert total is not None
    return total


def rank_rows(
    cells: Sequence[FittedCell],
    query: Sequence[NDArray[np.float32]],
    candidates: Sequence[NDArray[np.float32]],
    *,
    shortlist: int | None = None,
) -> tuple[NDArray[np.int64], Scores]:
    """Order candidates by how much they look like the query.

    Parameters
    ----------
    cells : sequence of FittedCell, length n_cells
    query : sequence of ndarray of shape (1, n_dims), float32
        For each cell, what its vectorizer gave.
    candidates : sequence of ndarray of shape (n_candidates, n_dims), float32
    shortlist : int, optional
        How many are scored exactly where a head is not linear; by default all.

    Returns
    -------
    rows : ndarray of shape (n_scored,), int64
        The best first.
    scores : ndarray of shape (n_scored,), float64
        Of these rows, exact.
    """
    n_candidates = len(candidates[0])
    rows = np.arange(n_candidates)
    if shortlist is not None and shortlist < n_candidates:
        left = [cell.project(one) for cell, one in zip(cells, query, strict=True)]
        n_dims = [one.shape[1] for one in left]
        if not is_linear(cells, n_dims):
            sides = {id(c): i for i, c in enumerate(cells)}

            def score(cell: FittedCell, product: Bilinear) -> NDArray[np.float32]:
                side = sides[id(cell)]
                return product.scores(left[side], cell.project(candidates[side]))[0]

            rows = np.sort(best_rows(quick_scores(cells, n_dims, score), shortlist))
    scores = cross_score(cells, query, [block[rows] for block in candidates])[0]
    order = np.argsort(-scores, kind="stable")
    return rows[order], scores[order]


def _cosine(n_dims: int) -> Bilinear:
    product = bilinear("dot", LinearForm(None, 1.0, 0.0), n_dims=n_dims)
    assert product is not None
    return product
