"""Linear heads as one matrix product: the scores of all pairs of two lists at once.

On the merges ``dot``, ``cosdot``, ``l2`` and ``concat`` a linear score of two vectors a
and b is aᵀ diag(w) b and terms of a alone and of b alone. No feature row is made: the
scores of m queries against n candidates are one (m, d) by (d, n) product.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tllboost.heads.fitted import FittedHead, Linear
from tllboost.merges import SIMILARITY, merge_names, row_blocks, unit_rows

Floats = NDArray[np.float32]

_WIDTHS = {"dot": 1, "cosdot": 1, "l2": 1, "concat": 2}
_BLOCK_BYTES = 4 * 2**20  # stays in a processor's cache while it is worked on
_LARGE_BLOCK_BYTES = 64 * 2**20  # of what is read once or twice, and not copied
_FEW = 4


@dataclass(frozen=True)
class Bilinear:
    """What a linear head makes of two vectors, sorted by what it is a product of.

    Parameters
    ----------
    n_dims : int
        Width of a vector.
    intercept : float
    weights : dict of str to ndarray of shape (n_dims,), float32
        Of ``dot`` (a · b), ``unit`` (of vectors at length 1), ``l2`` ((a − b)²),
        ``left`` (a alone) and ``right`` (b alone), as far as they are not zero.

    Examples
    --------
    >>> head = FittedHead(Linear(np.float32([2, 1])), intercept=np.float32(0.5))
    >>> product = bilinear("dot", head, n_dims=2)
    >>> product.scores(np.float32([[1, 1]]), np.float32([[3, 4], [0, 1]])).tolist()
    [[10.5, 1.5]]
    """

    n_dims: int
    intercept: float
    weights: dict[str, Floats] = field(default_factory=dict)

    def scores(
        self, left: Floats, right: Floats, lengths: Floats | None = None
    ) -> Floats:
        """Return the score of every left vector with every right one.

        Parameters
        ----------
        left : ndarray of shape (n_left, n_dims), float32
        right : ndarray of shape (n_right, n_dims), float32
            May be a memory map: it is read once, a block at a time.
        lengths : ndarray of shape (n_right,), float32, optional
            Of the right vectors, where they are known: see :func:`lengths_of`.

        Returns
        -------
        ndarray of shape (n_left, n_right), float32
        """
        left = np.ascontiguousarray(left, dtype=np.float32)
        scores = np.zeros((len(left), len(right)), dtype=np.float32)
        weights = self.weights
        n_bytes = _BLOCK_BYTES if "l2" in weights else _LARGE_BLOCK_BYTES
        step = max(1, len(left), n_bytes // (4 * max(1, self.n_dims)))
        for rows in row_blocks(len(right), self.n_dims, step):
            block, found = np.asarray(right[rows], dtype=np.float32), scores[:, rows]
            if "dot" in weights:
                found += _times(left * weights["dot"], block)
            if "unit" in weights:
                known = lengths_of(block) if lengths is None else lengths[rows]
                product = _times(unit_rows(left) * weights["unit"], block)
                product /= np.where(known > 0, known, 1)
                found += product
            if "l2" in weights:
                found += self._squares(left, block)
            found += self.intercept
            if "left" in weights:
                found += (left @ weights["left"])[:, None]
            if "right" in weights:
                found += block @ weights["right"]
        return scores

    def _squares(self, left: Floats, right: Floats) -> Floats:
        """Return Σ w (a − b)², both sides seen from the middle of the left one.

        So what is subtracted is small; from the only left vector it is nothing.
        """
        weight, middle = self.weights["l2"], left.mean(axis=0)
        there = right - middle
        alone: Floats = np.square(there) @ weight
        if len(left) == 1:
            return alone[None]
        here = left - middle
        product: Floats = (-2 * weight * here) @ there.T
        product += (np.square(here) @ weight)[:, None]
        product += alone
        return product


def _times(rows: Floats, right: Floats) -> Floats:
    """Return every row times every right one; of few rows, twice as fast one by one."""
    if len(rows) > _FEW:
        return rows @ right.T
    product = np.empty((len(rows), len(right)), dtype=np.float32)
    for row, line in zip(rows, product, strict=True):
        np.matmul(right, row, out=line)
    return product


def bilinear(merge: Any, head: Any, *, n_dims: int) -> Bilinear | None:
    """Return a linear score of merged vectors as a bilinear form, None if it is none.

    Parameters
    ----------
    merge : str or callable
        A merge or a sum of them; ``l1`` and somebody's own are no products.
    head : FittedHead or estimator
        One of scikit-learn's own is no product, whatever it is.
    n_dims : int
        Width of the vectors.
    """
    parts = merge_names(merge)
    if SIMILARITY in parts or not isinstance(head, FittedHead) or head.is_frozen:
        return None
    terms: list[tuple[str, Floats]] = []
    if isinstance(head.part, Linear):
        if not parts or any(part not in _WIDTHS for part in parts):
            return None
        edges = np.cumsum([_WIDTHS[part] for part in parts])[:-1] * n_dims
        for part, coef in zip(parts, np.split(head.part.coef, edges), strict=True):
            if part == "concat":
                terms += zip(("left", "right"), np.split(coef, 2), strict=True)
            else:
                terms.append(("unit" if part == "cosdot" else part, coef))
    elif head.part is not None:
        return None
    if head.slope:
        terms.append(("unit", np.full(n_dims, head.slope, dtype=np.float32)))
    weights: dict[str, Floats] = {}
    for name, coef in terms:
        weights[name] = weights[name] + coef if name in weights else coef
    kept = {name: weight for name, weight in weights.items() if weight.any()}
    return Bilinear(n_dims, float(head.intercept), kept)


def lengths_of(vectors: Floats) -> Floats:
    """Return the length of each vector: (n_vectors,) float32, a block at a time.

    Examples
    --------
    >>> lengths_of(np.float32([[3, 4], [0, 0]])).tolist()
    [5.0, 0.0]
    """
    lengths = np.empty(len(vectors), dtype=np.float32)
    for rows in row_blocks(*vectors.shape):
        block = np.asarray(vectors[rows], dtype=np.float32)
        lengths[rows] = np.sqrt(np.einsum("ij,ij->i", block, block))
    return lengths
