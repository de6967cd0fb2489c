"""Rank images by their similarity to a query: one path, :func:`best`, for all.

Where every head is linear, the scores of all candidates are one matrix product. Else
the cosine of the vectors, also a product, makes a shortlist, and the heads score the
pairs that are on it. Candidates are a :class:`VectorIndex`: an array in memory, or a
file of millions of vectors that is mapped and never read at once.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tllboost.errors import DataError, ImageError, UsageError, check_range
from tllboost.heads.bilinear import Bilinear, lengths_of
from tllboost.merges import row_blocks
from tllboost.references import References
from tllboost.scoring import FittedCell, Scorer, combined_score
from tllboost.vectorizers.arrays import names_in
from tllboost.vectorizers.weights import first_line

Vectors = NDArray[np.float32]
Rows = NDArray[np.int64]
Scores = NDArray[np.float64]

_SCORES = 2**22  # of queries with candidates that are ranked at once
_BLOCK = 4096  # vectors that are projected, or pairs that are scored, at once
_LOCAL_HEADER = struct.Struct("<26xHH")  # of a member of a zip archive


class VectorIndex:
    """Vectors of many images by one vectorizer, for many searches.

    The first search computes the lengths of all vectors, and their projection if a cell
    has one. Both are kept, and what references say of each image that was scored.

    Parameters
    ----------
    vectors : ndarray of shape (n_images, n_dims), float32
        May be a memory map: it is only read.
    ids : sequence of str, length n_images, optional
        Names of the images; by default "0", "1", ….

    Examples
    --------
    >>> index = VectorIndex(np.float32([[1, 0], [0, 1]]), ["cat", "dog"])
    >>> len(index), index.n_dims, index.id_of(1)
    (2, 2, 'dog')
    """

    def __init__(self, vectors: Vectors, ids: Sequence[str] | None = None) -> None:
        if vectors.ndim != 2 or 0 in vectors.shape[1:] or vectors.dtype != np.float32:
            msg = (
                f"vectors of shape {vectors.shape}, {vectors.dtype}: give "
                "(n_images, n_dims), float32"
            )
            raise UsageError(msg)
        if ids is not None and len(ids) != len(vectors):
            msg = f"got {len(ids)} ids for {len(vectors)} vectors"
            raise UsageError(msg)
        self.vectors = vectors
        self.ids = ids
        self._views: dict[int, tuple[object, Vectors, Vectors]] = {}
        self._statistics: dict[References, Vectors] = {}

    @classmethod
    def open(cls, path: str | PathLike[str]) -> Self:
        """Open a file of vectors, which is mapped into memory.

        Parameters
        ----------
        path : path-like
            An ``.npy`` file of the vectors alone, or an ``.npz`` file of ``ids`` and
            ``vectors``, as ``tllboost vectorize --out`` writes (a compressed one is
            read, not mapped).

        Raises
        ------
        DataError
            If there are no vectors.
        """
        path = Path(path)
        try:
            ids, vectors = _arrays_in(path)
            return cls(vectors, None if ids is None else names_in(ids))
        except Exception as error:  # a damaged archive fails in many ways
            reason = getattr(error, "strerror", None) or first_line(error)
            msg = f"{str(path)!r} can't be read as .npy or .npz of vectors ({reason})"
            raise DataError(msg) from error

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def n_dims(self) -> int:
        """Width of a vector."""
        return self.vectors.shape[1]

    def id_of(self, row: int) -> str:
        """Return the name of the image of a row."""
        return str(row) if self.ids is None else self.ids[row]

    def view(self, cell: FittedCell) -> tuple[Vectors, Vectors]:
        """Return the vectors as a cell merges them, and how long each is; kept."""
        key = id(cell.projection)
        if key not in self._views:
            vectors = self.vectors
            if cell.projection is not None and len(self):
                blocks = row_blocks(len(self), self.n_dims, _BLOCK)
                vectors = np.concatenate([cell.project(vectors[i]) for i in blocks])
            # The projection is held too, so that no other gets its place and id.
            self._views[key] = cell.projection, vectors, lengths_of(vectors)
        return self._views[key][1:]

    def statistics(self, cell: FittedCell, rows: Rows) -> Vectors | None:
        """Return what the references of a cell say of some images, asked once; kept."""
        references, (vectors, _) = cell.scorer.references, self.view(cell)
        if references is None:
            return None
        if references not in self._statistics:
            shape = len(self), *references.statistics(vectors[:0]).shape[1:]
            self._statistics[references] = np.zeros(shape, np.float32)
        statistics = self._statistics[references]
        # Each has a length, or no reference that it is compared with.
        new = np.unique(rows[~statistics[rows].any(axis=(1, 2))])
        statistics[new] = references.statistics(vectors[new])
        return statistics[rows]


def _arrays_in(file: Path) -> tuple[NDArray[Any] | None, Vectors]:
    """Return ids, if there are any, and vectors of a file.

    In an ``.npz`` file the vectors are mapped where they lie in it as they are: not
    compressed, one row after the other, as ``numpy.savez`` and ``tllboost vectorize
    --out`` leave them.
    """
    if file.suffix == ".npy":
        return None, np.load(file, mmap_mode="r", allow_pickle=False)
    read_array = np.lib.format.read_array
    with file.open("rb") as opened, zipfile.ZipFile(opened) as archive:
        with archive.open("ids.npy") as member:
            ids = read_array(member, allow_pickle=False)
        info = archive.getinfo("vectors.npy")
        if info.compress_type == zipfile.ZIP_STORED:
            opened.seek(info.header_offset)
            name, extra = _LOCAL_HEADER.unpack(opened.read(_LOCAL_HEADER.size))
            opened.seek(name + extra, 1)
            if np.lib.format.read_magic(opened) == (1, 0):
                shape, by_column, dtype = np.lib.format.read_array_header_1_0(opened)
                if not (by_column or dtype.hasobject or 0 in shape):
                    place = opened.tell()
                    return ids, np.memmap(file, dtype, "r", place, shape)
        with archive.open(info) as member:
            return ids, read_array(member, allow_pickle=False)


def best_rows(scores: NDArray[np.floating], top: int) -> Rows:
    """Return the rows of the `top` highest scores, best first, ties in order.

    Examples
    --------
    >>> best_rows(np.array([0.1, 0.9, 0.5, 0.9]), 3).tolist()
    [1, 3, 2]
    """
    if top >= len(scores):
        return np.argsort(-scores, kind="stable")
    limit = np.partition(scores, len(scores) - top)[len(scores) - top]
    rows = np.flatnonzero(scores >= limit)
    return rows[np.argsort(-scores[rows], kind="stable")][:top]


def best(
    cells: Sequence[FittedCell],
    queries: Sequence[Vectors],
    indexes: Sequence[VectorIndex],
    *,
    top: int | None = None,
    shortlist: int | None = None,
) -> tuple[Rows, Scores]:
    """Return the candidates that look most like each query, best first.

    Parameters
    ----------
    cells, queries, indexes, shortlist
        As in :func:`scored`, which says what is raised too.
    top : int, optional
        How many of each query are wanted; by default all that are scored.

    Returns
    -------
    rows : ndarray of shape (n_queries, n_best), int64
    scores : ndarray of shape (n_queries, n_best), float64
        Of these rows: no shortlist changes a score.
    """
    listed, scores = scored(cells, queries, indexes, shortlist)
    found = np.array(
        [best_rows(one, top or scores.shape[1]) for one in scores], np.int64
    ).reshape(len(scores), -1)
    rows: Rows = np.take_along_axis(listed, found, axis=1)
    return rows, np.take_along_axis(scores, found, axis=1)


def scored(
    cells: Sequence[FittedCell],
    queries: Sequence[Vectors],
    indexes: Sequence[VectorIndex],
    shortlist: int | None = None,
) -> tuple[Rows, Scores]:
    """Return the scores of each query with all candidates, or with a shortlist.

    Parameters
    ----------
    cells : sequence of FittedCell, length n_cells
    queries : sequence of ndarray of shape (n_queries, n_dims), float32
        For each cell, what its vectorizer gave of the left images.
    indexes : sequence of VectorIndex, length n_cells
        Likewise of the candidates, the right images.
    shortlist : int, optional
        How many of each query are scored where a head is not linear: the best by the
        cosine, or by the product of each head that is linear. By default all.

    Returns
    -------
    rows : ndarray of shape (n_queries, n_listed), int64
        Which candidates were scored, in their order.
    scores : ndarray of shape (n_queries, n_listed), float64

    Raises
    ------
    DataError
        If a score is not a finite number.
    """
    n_queries, n_candidates = len(queries[0]), len(indexes[0])
    listed = np.broadcast_to(np.arange(n_candidates), (n_queries, n_candidates))
    if not n_candidates:
        return listed, np.empty((n_queries, 0))
    left = [cell.project(one) for cell, one in zip(cells, queries, strict=True)]
    products = [
        cell.bilinear(one.shape[1]) for cell, one in zip(cells, left, strict=True)
    ]
    quick = (
        (product or _cosine(one.shape[1])).scores(one, *index.view(cell))
        for cell, index, product, one in zip(
            cells, indexes, products, left, strict=True
        )
    )
    if None not in products:
        scores = combined_score(cells, [one.astype(np.float64) for one in quick])
    else:
        if shortlist is not None and shortlist < n_candidates:
            overall = _on_one_scale(list(quick))
            listed = np.sort([best_rows(one, shortlist) for one in overall])
        scores = _exact(cells, queries, indexes, listed)
    if not np.isfinite(scores).all():
        n_bad = int((~np.isfinite(scores)).sum())
        msg = f"{n_bad} images got scores that are not finite numbers"
        raise DataError(msg)
    return listed, scores


def _cosine(n_dims: int) -> Bilinear:
    return Bilinear(n_dims, 0.0, {"unit": np.ones(n_dims, dtype=np.float32)})


def _on_one_scale(scores: Sequence[NDArray[np.floating]]) -> Scores:
    """Return the sum of several scores, each divided by its own spread."""
    if len(scores) == 1:
        return scores[0].astype(np.float64)
    total = np.zeros(scores[0].shape)
    for one in scores:
        centred = one - one.mean(1, keepdims=True, dtype=np.float64)
        total += centred / np.maximum(centred.std(1, keepdims=True), 1e-12)
    return total


def _exact(
    cells: Sequence[FittedCell],
    queries: Sequence[Vectors],
    indexes: Sequence[VectorIndex],
    rows: Rows,
) -> Scores:
    """Return the score of each query with candidates of its own, in blocks of pairs.

    `rows` is (n_queries, n_listed), as what is returned.
    """
    scores, own = np.empty(rows.shape), np.arange(len(rows))
    asked = [VectorIndex(query) for query in queries]
    for some in row_blocks(rows.shape[1], len(rows), max(1, _BLOCK // len(rows))):
        block = rows[:, some]
        left, images = np.repeat(own, block.shape[1]), block.ravel()
        right = len(rows) + np.arange(block.size)
        found = []
        for cell, query, index in zip(cells, asked, indexes, strict=True):
            known = [
                (query.view(cell)[0], index.view(cell)[0][images]),
                (query.statistics(cell, own), index.statistics(cell, images)),
            ]
            projected, statistics = (
                None if one is None else np.concatenate([one, other])
                for one, other in known
            )
            vectors = np.concatenate([query.vectors, index.vectors[images]])
            how = {"projected": projected, "statistics": statistics}
            found.append(cell.score(vectors, left, right, **how))
        score = combined_score(cells, found)
        scores[:, some] = score.reshape(block.shape)
    return scores


class Hit(NamedTuple):
    """One image that was found: its id, row, probability of a match and score."""

    id: str
    row: int
    probability: float
    score: float


def _hits(
    classifier: Scorer, rows: Rows, scores: Scores, ids: Callable[[int], str]
) -> list[Hit]:
    probability = classifier.calibration_.probability(scores)
    columns = zip(rows.tolist(), probability.tolist(), scores.tolist(), strict=True)
    return [Hit(ids(row), row, p, score) for row, p, score in columns]


def search(
    classifier: Scorer,
    index: VectorIndex,
    query: ArrayLike,
    *,
    top: int = 10,
    shortlist: int = 2000,
    exact: bool = False,
) -> list[Hit]:
    """Return the images most similar to the query, best first.

    A linear head (``cosine``; ``logistic`` and ``linear-svm`` on ``dot``, ``cosdot``,
    ``l2`` and ``concat``) scores all of them exactly, in one product. For any other
    head the cosine makes a shortlist, which the head scores.

    Parameters
    ----------
    classifier : PairClassifier or Scorer
        Fitted; its cells share a vectorizer.
    index : VectorIndex
        Vectors by that vectorizer: the right images.
    query : array-like of shape (n_dims,)
        Vector of the left image.
    top : int, default=10
        Number of images to return.
    shortlist : int, default=2000
        Number of images that are scored exactly; at least `top`.
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
    >>> from tllboost.classifier import ensemble
    >>> from tllboost.calibration import Calibration
    >>> from tllboost.heads.base import CosineHead
    >>> from tllboost.scoring import PairScorer
    >>> scorer = PairScorer("dot", "cosine")
    >>> scorer.head_, scorer.threshold_ = CosineHead(), 0.5
    >>> scorer.calibration_ = Calibration(1.0, 0.0)
    >>> model = ensemble([FittedCell(None, None, scorer)])
    >>> index = VectorIndex(np.float32([[1, 0], [0, 1], [1, 1]]), ["a", "b", "c"])
    >>> [hit.id for hit in search(model, index, [3, 2], top=2)]
    ['c', 'a']
    """
    cells = classifier.cells_
    if len({id(cell.vectorizer) for cell in cells}) > 1:
        msg = (
            "the cells of this ensemble have several vectorizers, and an index holds "
            "the vectors of one: rank images with PairClassifier.rank"
        )
        raise UsageError(msg)
    check_range("top", top, 1)
    vector = np.asarray(query, dtype=np.float32).reshape(1, -1)
    if vector.shape[1] != index.n_dims:
        msg = (
            f"the query has {vector.shape[1]} numbers, the vectors of the index "
            f"{index.n_dims}: they must come from one vectorizer"
        )
        raise UsageError(msg)
    (rows,), (scores,) = best(
        cells,
        [vector] * len(cells),
        [index] * len(cells),
        top=top,
        shortlist=None if exact else max(shortlist, top),
    )
    return _hits(classifier, rows, scores, index.id_of)


def rank_images(
    classifier: Scorer,
    queries: Sequence[str | PathLike[str]],
    candidates: Sequence[str | PathLike[str]],
    *,
    top: int | None = None,
    shortlist: int | None = None,
    own_references: bool = False,
    **options: Any,
) -> tuple[list[list[Hit]], dict[str, str]]:
    """Rank images by their similarity to each query, best first.

    Parameters
    ----------
    classifier : PairClassifier or Scorer
    queries : sequence of path-like, length n_queries
        The left images.
    candidates : sequence of path-like, length n_candidates
    top : int, optional
        How many of each query are wanted; by default all that are scored.
    shortlist : int, optional
        How many are scored where a head is not linear, the best by cosine; by default
        all.
    own_references : bool, default=False
        Whether the candidates are the references of normalised similarities, and not
        those of the bundle: see :meth:`~tllboost.scoring.Scorer.among`.
    **options
        ``progress`` and ``strict``, as in :func:`~tllboost.vectorizing.vectorize`.

    Returns
    -------
    hits : list of list of Hit
        Of each query, each that could be read and was scored; its row is that in
        `candidates`. Of a query that could not be read, none.
    failures : dict of str to str
        Those that could not be read, and why.

    Raises
    ------
    ImageError
        If no query can be read, or any image can't and `strict` is set.
    """
    paths = [*dict.fromkeys(map(str, (*queries, *candidates)))]
    place = {one: at for at, one in enumerate(paths)}
    asked = [place[str(one)] for one in queries]
    known = np.array([place[str(one)] for one in candidates])
    vectors, failed = classifier.vectors_of(paths, paths, **options)
    readable = [at for at, image in enumerate(asked) if image not in failed]
    if not readable:
        raise ImageError(queries[0], failed[asked[0]])
    good = np.flatnonzero(~np.isin(known, list(failed)))
    found = [block[known[good]] for block in vectors]
    if own_references:
        classifier = classifier.among(found)
    indexes = [VectorIndex(block) for block in found]
    hits: list[list[Hit]] = [[] for _ in queries]
    for some in row_blocks(
        len(readable), len(good), max(1, _SCORES // max(1, len(good)))
    ):
        images = [asked[at] for at in readable[some]]
        queried = [block[images] for block in vectors]
        how = {"top": top, "shortlist": shortlist}
        ranked = zip(*best(classifier.cells_, queried, indexes, **how), strict=True)
        for at, (rows, scores) in zip(readable[some], ranked, strict=True):
            hits[at] = _hits(
                classifier, good[rows], scores, lambda row: str(candidates[row])
            )
    return hits, {paths[image]: why for image, why in failed.items()}
