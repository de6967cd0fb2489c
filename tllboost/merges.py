"""Pair merges: two vectors in, one feature row out.

A merge is a pure function of two (n_pairs, n_dims) float32 blocks, row by row. Its
name, or a sum of names (``dot+l1``), says which; :class:`PairFeatures` is the matrix of
merged rows that a head sees, computed a block at a time.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from tllboost.dense import Layer
from tllboost.errors import UsageError
from tllboost.registry import Entry, Registry

MergeFunction = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[Any]]

SIMILARITY = "similarity"
MERGES = Registry(
    "merge",
    {
        "dot": Entry("tllboost.merges:dot", "a·b, elementwise"),
        "cosdot": Entry("tllboost.merges:cosdot", "a·b/(‖a‖‖b‖), elementwise"),
        "l1": Entry("tllboost.merges:l1", "|a − b|"),
        "l2": Entry("tllboost.merges:l2", "(a − b)²"),
        "concat": Entry("tllboost.merges:concat", "a beside b (not symmetric)"),
        SIMILARITY: Entry(
            "tllboost.references:similarity",
            "normalised similarities of each part, against training images",
        ),
    },
)

_BLOCK_BYTES = 16 * 2**20
_PIECE_BYTES = 2**20  # merged at once: what lies between stays in the cache


def dot(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    """Multiply elementwise; the row's sum is the inner product.

    Examples
    --------
    >>> dot(np.float32([[1, 2]]), np.float32([[3, 4]])).tolist()
    [[3.0, 8.0]]
    """
    return left * right


def cosdot(
    left: NDArray[np.float32], right: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Multiply elementwise and divide by both norms; the row's sum is the cosine.

    The 2017 Holidays experiments called this "dot". A zero vector gives zeros.

    Examples
    --------
    >>> round(float(cosdot(np.float32([[3, 4]]), np.float32([[6, 8]])).sum()), 6)
    1.0
    """
    return unit_rows(left) * unit_rows(right)


def l1(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    """Take the absolute difference, elementwise.

    Examples
    --------
    >>> l1(np.float32([[1, 5]]), np.float32([[3, 4]])).tolist()
    [[2.0, 1.0]]
    """
    return np.abs(left - right)


def l2(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    """Take the squared difference, elementwise.

    Examples
    --------
    >>> l2(np.float32([[1, 5]]), np.float32([[3, 4]])).tolist()
    [[4.0, 1.0]]
    """
    return np.square(left - right)


def concat(
    left: NDArray[np.float32], right: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Put the two vectors side by side: (n_pairs, 2 · n_dims), not symmetric.

    Examples
    --------
    >>> concat(np.float32([[1, 2]]), np.float32([[3, 4]])).tolist()
    [[1.0, 2.0, 3.0, 4.0]]
    """
    return np.hstack([left, right])


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Scale each row to length 1; a zero row stays zero.

    Examples
    --------
    >>> unit_rows(np.float32([[3, 4], [0, 0]]))
    array([[0.6, 0.8],
           [0. , 0. ]], dtype=float32)
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


def merge_names(merge: Any) -> list[str]:
    """Return the names that a merge is the sum of; none for somebody's function.

    Examples
    --------
    >>> merge_names("dot + l1")
    ['dot', 'l1']
    """
    return [p.strip() for p in merge.split("+")] if isinstance(merge, str) else []


def resolve_merge(merge: str | MergeFunction) -> MergeFunction:
    """Return the function behind a merge name or a sum of names.

    Raises
    ------
    UnknownNameError
        If a part of the name is not known.
    UsageError
        If it is no function.
    """
    choices: list[Any] = merge_names(merge) or [merge]
    parts = tuple(MERGES.resolve(choice) for choice in choices)
    for choice, part in zip(choices, parts, strict=True):
        if not callable(part):
            msg = f"merge {choice!r} is not a function of two blocks: {part!r}"
            raise UsageError(msg)
    if len(parts) == 1:
        return parts[0]
    return lambda left, right: np.hstack([part(left, right) for part in parts])


def merge_pairs(
    left: ArrayLike, right: ArrayLike, merge: str | MergeFunction = "dot"
) -> NDArray[np.float32]:
    """Merge two blocks of vectors, row by row.

    Parameters
    ----------
    left, right : array-like of shape (n_pairs, n_dims)
        Vectors of the left and of the right images.
    merge : str or callable, default="dot"
        A name of :data:`MERGES`, names joined by ``+``, or your own function of two
        (n_pairs, n_dims) float32 blocks.

    Returns
    -------
    ndarray of shape (n_pairs, n_features), float32

    Raises
    ------
    UsageError
        If the shapes differ, or the function does not return one row for each pair.
    UnknownNameError
        If no merge has that name.

    Examples
    --------
    >>> merge_pairs([[1, 2]], [[3, 5]], "dot+l1").tolist()
    [[3.0, 10.0, 2.0, 3.0]]
    """
    a = np.atleast_2d(np.asarray(left, dtype=np.float32))
    b = np.atleast_2d(np.asarray(right, dtype=np.float32))
    if a.shape != b.shape or a.ndim != 2:
        msg = f"left {a.shape} and right {b.shape} must both be (n_pairs, n_dims)"
        raise UsageError(msg)
    return _merged(resolve_merge(merge), a, b)


def pair_cosine(
    vectors: NDArray[np.float32], left: NDArray[np.int64], right: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return the cosine of each pair: (n_pairs,) float32, 0 for a zero vector.

    Parameters
    ----------
    vectors : ndarray of shape (n_images, n_dims), float32
    left, right : ndarray of shape (n_pairs,), int64
        Rows of `vectors`.

    Examples
    --------
    >>> vectors = np.float32([[3, 4], [6, 8], [-4, 3]])
    >>> pair_cosine(vectors, np.array([0, 0]), np.array([1, 2])).round(6).tolist()
    [1.0, 0.0]
    """
    # Not the unit vectors of all images, which take as much memory as they do.
    lengths = np.empty((len(vectors), 1), dtype=vectors.dtype)
    for rows in row_blocks(*vectors.shape, most=_PIECE_BYTES):
        lengths[rows] = np.linalg.norm(vectors[rows], axis=1, keepdims=True)
    lengths[lengths == 0] = 1

    def unit(images: NDArray[np.int64]) -> NDArray[np.float32]:
        scaled = vectors[images] / lengths[images]
        return scaled.astype(np.float32, copy=False)

    cosine = np.empty(len(left), dtype=np.float32)
    for rows in row_blocks(len(left), vectors.shape[1], most=_PIECE_BYTES):
        cosine[rows] = np.einsum("ij,ij->i", unit(left[rows]), unit(right[rows]))
    return np.clip(cosine, -1.0, 1.0)


class PairFeatures:
    """The feature matrix of many pairs, merged block by block when it is read.

    It holds the vectors of the unique images and two integers for each pair, never all
    rows. ``np.asarray(features)`` computes them, so any scikit-learn estimator takes it
    as ``X``; XGBoost reads :meth:`blocks`.

    Parameters
    ----------
    vectors : ndarray of shape (n_images, n_dims), float32
        Vectors of the unique images; may be a memory map.
    left, right : ndarray of shape (n_pairs,), int64
        Rows of `vectors`.
    merge : str or callable, default="dot"
        See :func:`merge_pairs`.
    frozen : ndarray of shape (n_images, n_frozen_dims), float32, or None
        The vectors before the projection, if `vectors` are projected; else None.
    joined : sequence of (ndarray, ndarray) or None
        Weight (n_in, n_out) and bias (n_out,) of each layer of the classification
        network, if the projection trained one; the head ``joined`` keeps them.
    references : References or None
        What the merge ``similarity`` compares with. Its rows of a few dozen numbers are
        computed at once; those of merges that it is joined with stand behind them. The
        baseline score is the normalised cosine among them.
    fold : ndarray of shape (n_pairs,), int64, or None
        By the maps of which fold each pair is compared, where a projection has several.
    statistics : ndarray of shape (n_images, n_slices, ...), float32, or None
        What the references say of each image, where that is known.

    Examples
    --------
    >>> vectors = np.float32([[1, 2], [3, 4], [5, 6]])
    >>> features = PairFeatures(vectors, [0, 1], [2, 2], "l1")
    >>> features.shape
    (2, 2)
    >>> np.asarray(features).tolist()
    [[4.0, 4.0], [2.0, 2.0]]
    """

    ndim = 2
    dtype = np.dtype(np.float32)

    def __init__(
        self,
        vectors: NDArray[np.float32],
        left: ArrayLike,
        right: ArrayLike,
        merge: str | MergeFunction = "dot",
        *,
        frozen: NDArray[np.float32] | None = None,
        joined: Sequence[Layer] | None = None,
        references: Any = None,
        fold: NDArray[np.int64] | None = None,
        statistics: NDArray[np.float32] | None = None,
    ) -> None:
        self.frozen = vectors if frozen is None else frozen
        if vectors.ndim != 2 or len(vectors) != len(self.frozen):
            msg = (
                f"vectors of shape {vectors.shape} must be (n_images, n_dims), of "
                f"{len(self.frozen)} images"
            )
            raise UsageError(msg)
        self.vectors = vectors
        self.joined = joined
        self.left = np.asarray(left, dtype=np.int64)
        self.right = np.asarray(right, dtype=np.int64)
        self.merge = merge
        self.similarities: Any = None  # (n_pairs, ...) float32, of those alone
        self._cosines: dict[bool, NDArray[np.float32]] = {}
        self._references = references
        names, n_features = merge_names(merge), 0
        if SIMILARITY in names and references is not None:
            self.similarities = references.rows(
                vectors, self.left, self.right, fold, statistics
            )
            n_features = self.similarities.shape[1]
            merge = "+".join(name for name in names if name != SIMILARITY)
        self._function: Any = None
        if merge or self.similarities is None:
            self._function = resolve_merge(merge)
            probe = np.zeros((1, vectors.shape[1]), dtype=np.float32)
            n_features += _merged(self._function, probe, probe).shape[1]
        self.shape = (len(self.left), n_features)

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(
        self, dtype: DTypeLike | None = None, copy: bool | None = None
    ) -> NDArray[Any]:
        features = np.empty(self.shape, dtype=dtype or np.float32)
        for rows, block in zip(row_blocks(*self.shape), self.blocks(), strict=True):
            features[rows] = block
        return features

    def blocks(self, size: int | None = None) -> Iterator[NDArray[np.float32]]:
        """Yield the feature rows in order, at most `size` of them at a time.

        Parameters
        ----------
        size : int or None, default=None
            Rows per block; None keeps a block at about 16 MiB.
        """
        for rows in row_blocks(len(self), self.shape[1], size):
            left, right, n = self.left[rows], self.right[rows], 0
            block = np.empty((len(left), self.shape[1]), dtype=np.float32)
            if self.similarities is not None:
                n = self.similarities.shape[1]
                block[:, :n] = self.similarities[rows]
            for some in row_blocks(*block.shape, most=_PIECE_BYTES):
                if self._function:
                    a = np.asarray(self.vectors[left[some]], dtype=np.float32)
                    b = np.asarray(self.vectors[right[some]], dtype=np.float32)
                    block[some, n:] = _merged(self._function, a, b)
            yield block

    def take(self, rows: NDArray[Any]) -> PairFeatures:
        """Return the features of some of the pairs."""
        some = copy.copy(self)
        some.left, some.right = self.left[rows], self.right[rows]
        if self.similarities is not None:
            some.similarities = self.similarities[rows]
        some._cosines = {}
        some.shape = (len(some.left), self.shape[1])
        return some

    def with_rows(self, rows: NDArray[np.float32]) -> PairFeatures:
        """Return other rows of ``similarity`` in the place of the first pair's."""
        some = self.take(np.zeros(len(rows), np.int64))
        some.similarities = rows
        return some

    def cosine(self, *, frozen: bool = False) -> NDArray[np.float32]:
        """Return the baseline score of each pair: (n_pairs,) float32, computed once.

        The cosine; with ``similarity``, the baseline column of its references.

        Parameters
        ----------
        frozen : bool, default=False
            Whether to use the vectors before the projection, and the plain cosine.
        """
        if self.similarities is not None and not frozen:
            return self.similarities[:, self._references.baseline[0]]
        if frozen not in self._cosines:
            vectors = self.frozen if frozen else self.vectors
            self._cosines[frozen] = pair_cosine(vectors, self.left, self.right)
        return self._cosines[frozen]


def _merged(
    function: MergeFunction, left: NDArray[np.float32], right: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Apply a merge and make sure that it gave one row a pair."""
    features = np.asarray(function(left, right), dtype=np.float32)
    if features.ndim != 2 or len(features) != len(left):
        msg = (
            f"merge {function!r} returned shape {features.shape} for "
            f"{len(left)} pairs: it must return (n_pairs, n_features)"
        )
        raise UsageError(msg)
    return features


def row_blocks(
    n_rows: int, n_columns: int, size: int | None = None, *, most: int = 0
) -> Iterator[slice]:
    """Cut the rows into slices of `size`, or of `most` bytes of float32, or 16 MiB."""
    step = size or max(1, (most or _BLOCK_BYTES) // (4 * max(1, n_columns)))
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))


class Width(NamedTuple):
    """How wide a block of a vector is, and on how many grid positions a side it lies.

    A map has its positions in reading order, each with all its channels.
    """

    width: int
    side: int = 1


def slices_of(widths: Sequence[int] | NDArray[np.integer]) -> list[slice]:
    """Return the columns of a whole vector, then of its parts if there are several.

    Examples
    --------
    >>> slices_of([2, 3])
    [slice(0, 5, None), slice(0, 2, None), slice(2, 5, None)]
    """
    ends = np.cumsum(widths).tolist()
    parts = [slice(*ends_of) for ends_of in pairwise([0, *ends])]
    return [slice(0, ends[-1]), *(parts if len(parts) > 1 else ())]
