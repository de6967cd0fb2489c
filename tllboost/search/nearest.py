"""Search: the best of an index for one query."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tllboost.bilinear import Bilinear
from tllboost.classifier import PairClassifier
from tllboost.errors import DataError, UsageError
from tllboost.fitted import FittedCell, combined_score, cross_score
from tllboost.search.index import VectorIndex
from tllboost.search.shortlist import best_rows, is_linear, quick_scores

__all__ = ["Hit", "search"]

_BLOCK = 4096


class Hit(NamedTuple):
    """One picture that was found: its id, row, probability of a match and score."""

    id: str
    row: int
    probability: float
    score: float


def search(
    classifier: PairClassifier,
    index: VectorIndex,
    query: ArrayLike,
    *,
    top: int = 10,
    shortlist: int = 2000,
    exact: bool = False,
) -> list[Hit]:
    """Return the pictures that look most like the query, best first.

    A linear head (``cosine``; ``logistic`` and ``linear-svm`` on ``dot``, ``cosdot``,
    ``l2`` and ``concat``) scores all of them, exactly, in one product. For any other
    the cosine makes a shortlist, and the head scores that one.

    Parameters
    ----------
    classifier : PairClassifier
        Fitted; its cells share a vectorizer.
    index : VectorIndex
        Vectors by that vectorizer: the right pictures.
    query : array-like of shape (n_dims,)
        Vector of the left picture.
    top : int, default=10
        How many are wanted.
    shortlist : int, default=2000
        How many are scored exactly; at least `top` are.
    exact : bool, default=False
        Score all of them exactly, whatever the head.

    Returns
    -------
    list of Hit, length min(top, len(index))

    Raises
    ------
    UsageError
        If the cells have several vectorizers, or widths differ.
    DataError
        If a score is not a finite number.

    Examples
    --------
    >>> from tllboost.ensemble import ensemble
    >>> from tllboost.calibration import Calibration
    >>> from tllboost.heads.cosine import CosineHead
    >>> from tllboost.scorer import PairScorer
    >>> scorer = PairScorer("dot", "cosine")
    >>> scorer.head_, scorer.threshold_ = CosineHead(), 0.5
    >>> scorer.calibration_ = Calibration(1.0, 0.0)
    >>> model = ensemble([FittedCell(None, None, scorer)])
    >>> index = VectorIndex(np.float32([[1, 0], [0, 1], [1, 1]]), ["a", "b", "c"])
    >>> [hit.id for hit in search(model, index, [3, 2], top=2)]
    ['c', 'a']
    """
    cells = classifier.cells_
    vector = _checked(classifier, index, query, top)
    if not len(index):
        return []
    left = [cell.project(vector) for cell in cells]
    n_dims = [one.shape[1] for one in left]
    if is_linear(cells, n_dims):
        scores = combined_score(
            cells,
            [
                _product(index, cell, one).astype(np.float64)
                for cell, one in zip(cells, left, strict=True)
            ],
        )
        return _hits(classifier, index, np.arange(len(index)), scores, top)
    if exact:
        rows = np.arange(len(index))
    else:
        queries = {id(cell): one for cell, one in zip(cells, left, strict=True)}

        def score(cell: FittedCell, product: Bilinear) -> NDArray[np.float32]:
            view = index.view(cell)
            return product.scores(
                queries[id(cell)], view.vectors, lengths=view.lengths
            )[0]

        quick = quick_scores(cells, n_dims, score)
        rows = np.sort(best_rows(quick, max(shortlist, top)))
    return _hits(classifier, index, rows, _exact(cells, vector, index, rows), top)


def _product(
    index: VectorIndex, cell: FittedCell, query: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the score of all pictures by a linear cell: (n_images,) float32."""
    product, view = cell.bilinear(query.shape[1]), index.view(cell)
    assert product is not None
    return product.scores(query, view.vectors, lengths=view.lengths)[0]


def _exact(
    cells: tuple[FittedCell, ...],
    vector: NDArray[np.float32],
    index: VectorIndex,
    rows: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return the score of some rows by all cells, a block at a time."""
    blocks = [rows[i : i + _BLOCK] for i in range(0, len(rows), _BLOCK)]
    scores = [
        cross_score(cells, [vector] * len(cells), [index.vectors[one]] * len(cells))
        for one in blocks
    ]
    return np.concatenate([one[0] for one in scores])


def _hits(
    classifier: PairClassifier,
    index: VectorIndex,
    rows: NDArray[np.int64],
    scores: NDArray[np.float64],
    top: int,
) -> list[Hit]:
    if not np.isfinite(scores).all():
        n_bad = int((~np.isfinite(scores)).sum())
        msg = f"{n_bad} pictures got scores that are not finite numbers"
        raise DataError(msg)
    best = best_rows(scores, top)
    probability = classifier.calibration_.probability(scores[best])
    return [
        Hit(index.id_of(row), row, float(p), float(score))
        for row, p, score in zip(
            rows[best].tolist(), probability, scores[best], strict=True
        )
    ]


def _checked(
    classifier: PairClassifier, index: VectorIndex, query: ArrayLike, top: int
) -> NDArray[np.float32]:
    """Return the query as (1, n_dims) float32."""
    if len({id(cell.vectorizer) for cell in classifier.cells_}) > 1:
        msg = (
            "the cells of this ensemble have several vectorizers, and an index holds "
            "the vectors of one: rank pictures by PairClassifier.rank"
        )
        raise UsageError(msg)
    if top < 1:
        msg = f"top={top!r} must be at least 1"
        raise UsageError(msg)
    vector = np.asarray(query, dtype=np.float32).reshape(1, -1)
    if vector.shape[1] != index.n_dims:
        msg = (
            f"the query has {vector.shape[1]} numbers, the vectors of the index "
            f"{index.n_dims}: they must come from one vectorizer"
        )
        raise UsageError(msg)
    return vector
