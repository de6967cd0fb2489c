"""Retrieve, then rerank: a quick score of all, the exact one of the best by it.

The score of a linear head is a product and exact for all. Of any other the cosine of
the vectors, that boosting grows from, makes a shortlist; what stands on it is scored
exactly.

Vectors in ``.npy`` and ``.npz`` files, mapped into memory instead of read.

`VectorIndex`: the vectors to look among, and what of them can be known before.

Search: the best of an index for one query.

Rank images for a query, and candidates for many.
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

from tllboost.bilinear import Bilinear, bilinear, lengths_of
from tllboost.bundle.scoring import FilePath, Progress, score_pairs
from tllboost.classifier import PairClassifier
from tllboost.errors import DataError, ImageError, UsageError
from tllboost.heads.base import LinearForm
from tllboost.pairs import pairs_from_paths
from tllboost.pairs.candidates import CandidateTable
from tllboost.scoring import FittedCell, combined_score, cross_score, vectors_of_cells
from tllboost.store import VectorStore, is_store
from tllboost.vectorizers.weights import first_line

__all__ = [
    "Hit",
    "VectorIndex",
    "best_rows",
    "rank_images",
    "rank_rows",
    "score_candidates",
    "search",
]

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


_LOCAL_HEADER = struct.Struct("<26xHH")


def map_array(file: Path) -> NDArray[np.float32]:
    """Return the vectors of an ``.npy`` file: (n_images, n_dims) float32, mapped.

    Raises
    ------
    DataError
        If it holds no such array.
    """
    try:
        vectors = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _unreadable(file, error) from error
    return _checked(file, vectors)


def map_archive(file: Path) -> tuple[list[str], NDArray[np.float32]]:
    """Return ids and vectors of an ``.npz`` file, the vectors mapped if they can be.

    They can where nothing is compressed, as ``numpy.savez`` and ``tllboost vectorize
    --out`` leave it.

    Raises
    ------
    DataError
        If it has no arrays ``ids`` and ``vectors`` of one length.
    """
    try:
        with file.open("rb") as opened, zipfile.ZipFile(opened) as archive:
            info = archive.getinfo("vectors.npy")
            with archive.open("ids.npy") as member:
                ids = np.lib.format.read_array(member, allow_pickle=False)
            if info.compress_type != zipfile.ZIP_STORED:
                with archive.open(info) as member:
                    vectors = np.lib.format.read_array(member, allow_pickle=False)
            else:
                vectors = _mapped_member(file, info)
    except DataError:
        raise
    except Exception as error:  # a damaged archive fails in many ways
        raise _unreadable(file, error) from error
    if ids.ndim != 1 or len(ids) != len(vectors):
        msg = f"{str(file)!r}: ids of shape {ids.shape} for {len(vectors)} vectors"
        raise DataError(msg)
    return [str(one) for one in ids], _checked(file, vectors)


def _mapped_member(file: Path, info: zipfile.ZipInfo) -> NDArray[np.float32]:
    """Map an array that lies in an archive as it is."""
    with file.open("rb") as opened:
        opened.seek(info.header_offset)
        name, extra = _LOCAL_HEADER.unpack(opened.read(_LOCAL_HEADER.size))
        opened.seek(name + extra, 1)
        version = np.lib.format.read_magic(opened)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, by_column, dtype = read(opened)
        if by_column or dtype.hasobject:
            msg = f"{str(file)!r}: vectors must be numbers, one row after the other"
            raise DataError(msg)
        start = opened.tell()
    if 0 in shape:
        return np.empty(shape, dtype)
    return np.memmap(file, dtype=dtype, mode="r", offset=start, shape=shape)


def _checked(file: Path, vectors: NDArray[np.generic]) -> NDArray[np.float32]:
    if vectors.ndim != 2 or vectors.shape[1] == 0 or vectors.dtype != np.float32:
        msg = (
            f"{str(file)!r}: an array of shape {vectors.shape}, {vectors.dtype}; give "
            "vectors of shape (n_images, n_dims), float32"
        )
        raise DataError(msg)
    return vectors  # type: ignore[return-value]


def _unreadable(file: Path, error: Exception) -> DataError:
    reason = getattr(error, "strerror", None) or first_line(error)
    return DataError(f"{str(file)!r} can't be read as vectors ({reason})")


_BLOCK = 4096


class View(NamedTuple):
    """The vectors as a cell merges them: projected, and how long each is."""

    vectors: NDArray[np.float32]
    lengths: NDArray[np.float32]


class VectorIndex:
    """Vectors of many images by one vectorizer, to be searched again and again.

    What a search needs of all of them, their lengths and, of a cell with a projection,
    the projected vectors, is computed at the first search and kept.

    Parameters
    ----------
    vectors : ndarray of shape (n_images, n_dims), float32
        May be a memory map: it is only read.
    ids : sequence of str, length n_images, optional
        What the images are called; by default "0", "1", ….

    Examples
    --------
    >>> index = VectorIndex(np.float32([[1, 0], [0, 1]]), ["cat", "dog"])
    >>> len(index), index.n_dims, index.id_of(1)
    (2, 2, 'dog')
    """

    def __init__(
        self, vectors: NDArray[np.float32], ids: Sequence[str] | None = None
    ) -> None:
        if vectors.ndim != 2 or vectors.dtype != np.float32:
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
        self._views: dict[int, tuple[object, View]] = {}

    @classmethod
    def open(cls, path: str | PathLike[str], *, fingerprint: str | None = None) -> Self:
        """Open vectors on disk: files are mapped into memory, a store is read.

        Parameters
        ----------
        path : path-like
            An ``.npy`` file of the vectors alone; an ``.npz`` file of ``ids`` and
            ``vectors``, as ``tllboost vectorize --out`` writes; or the folder of a
            store, where images are called by the sha256 of their files.
        fingerprint : str, optional
            Which vectors of a store, as ``tllboost store info`` spells it; may be left
            out where there is one.

        Raises
        ------
        DataError
            If there are no vectors.
        StoreError
            If the store is damaged.
        UsageError
            If a store has several fingerprints and none was chosen.
        """
        path = Path(path)
        if path.suffix == ".npy":
            return cls(map_array(path))
        if path.suffix == ".npz":
            ids, vectors = map_archive(path)
            return cls(vectors, ids)
        if not is_store(path):
            msg = f"{str(path)!r} is no .npy file, no .npz file and no vector store"
            raise DataError(msg)
        with VectorStore(path) as store:
            chosen = _only(store, fingerprint, path)
            keys, vectors = store.get_all(chosen)
        return cls(vectors, keys)

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def n_dims(self) -> int:
        """Width of a vector."""
        return self.vectors.shape[1]

    def id_of(self, row: int) -> str:
        """Return what the image of a row is called."""
        return str(row) if self.ids is None else self.ids[row]

    def view(self, cell: FittedCell) -> View:
        """Return the vectors as a cell merges them, computed at the first call."""
        key = id(cell.projection)
        if key not in self._views:
            vectors = self._projected(cell)
            # The projection is held too, so that no other gets its place and id.
            self._views[key] = cell.projection, View(vectors, lengths_of(vectors))
        return self._views[key][1]

    def _projected(self, cell: FittedCell) -> NDArray[np.float32]:
        if cell.projection is None or not len(self):
            return self.vectors
        starts = range(0, len(self), _BLOCK)
        first, *others = (cell.project(self.vectors[i : i + _BLOCK]) for i in starts)
        return np.concatenate([first, *others])


def _only(store: VectorStore, fingerprint: str | None, path: Path) -> str:
    """Return the fingerprint that is meant."""
    known = [entry["fingerprint"] for entry in store.info()]
    if fingerprint is None and len(known) == 1:
        return str(known[0])
    if fingerprint is not None and fingerprint in known:
        return fingerprint
    listed = "; ".join(map(repr, known)) or "none"
    msg = f"store {str(path)!r}: fingerprint {fingerprint!r} is none of {listed}"
    raise UsageError(msg)


class Hit(NamedTuple):
    """One image that was found: its id, row, probability of a match and score."""

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
    """Return the images that look most like the query, best first.

    A linear head (``cosine``; ``logistic`` and ``linear-svm`` on ``dot``, ``cosdot``,
    ``l2`` and ``concat``) scores all of them, exactly, in one product. For any other
    the cosine makes a shortlist, and the head scores that one.

    Parameters
    ----------
    classifier : PairClassifier
        Fitted; its cells share a vectorizer.
    index : VectorIndex
        Vectors by that vectorizer: the right images.
    query : array-like of shape (n_dims,)
        Vector of the left image.
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
    >>> from tllboost.classifier import ensemble
    >>> from tllboost.calibration import Calibration
    >>> from tllboost.heads.cosine import CosineHead
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
    vector = _checked_query(classifier, index, query, top)
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
    """Return the score of all images by a linear cell: (n_images,) float32."""
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
        msg = f"{n_bad} images got scores that are not finite numbers"
        raise DataError(msg)
    best = best_rows(scores, top)
    probability = classifier.calibration_.probability(scores[best])
    return [
        Hit(index.id_of(row), row, float(p), float(score))
        for row, p, score in zip(
            rows[best].tolist(), probability, scores[best], strict=True
        )
    ]


def _checked_query(
    classifier: PairClassifier, index: VectorIndex, query: ArrayLike, top: int
) -> NDArray[np.float32]:
    """Return the query as (1, n_dims) float32."""
    if len({id(cell.vectorizer) for cell in classifier.cells_}) > 1:
        msg = (
            "the cells of this ensemble have several vectorizers, and an index holds "
            "the vectors of one: rank images by PairClassifier.rank"
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


def rank_images(
    classifier: PairClassifier,
    query: FilePath,
    candidates: Sequence[FilePath],
    *,
    shortlist: int | None = None,
    progress: Progress | None = None,
    strict: bool = False,
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Order images by how much they look like the query, best first.

    Parameters
    ----------
    classifier : PairClassifier
    query : path-like
        The left image.
    candidates : sequence of path-like, length n_candidates
    shortlist : int, optional
        How many are scored exactly where a head is not linear, the best by cosine; by
        default all.
    progress : callable, optional

    Returns
    -------
    rows : list of dict
        ``rank`` (from 1), ``image``, ``probability``, ``decision``, ``score`` of each
        that could be read, and stands on the shortlist.
    failures : dict of str to str
        The others, and why.

    Raises
    ------
    ImageError
        If the query can't be read, or any image can't and `strict` is set.
    """
    table = pairs_from_paths([[query, one] for one in candidates])
    cells = classifier.cells_
    vectors, failed = vectors_of_cells(
        cells,
        table.paths,
        ids=table.ids,
        store=classifier.store,
        progress=progress,
        strict=strict,
    )
    own = int(table.left[0])
    if own in failed:
        raise ImageError(query, failed[own])
    good = np.flatnonzero(~np.isin(table.right, list(failed)))
    found: list[dict[str, Any]] = []
    if len(good):
        rows, scores = rank_rows(
            cells,
            [block[[own]] for block in vectors],
            [block[table.right[good]] for block in vectors],
            shortlist=shortlist,
        )
        found = _rows(classifier, [candidates[i] for i in good[rows]], scores)
    names = {index: str(table.paths[index] or table.ids[index]) for index in failed}
    return found, {names[index]: why for index, why in failed.items()}


def _rows(
    classifier: PairClassifier, images: Sequence[FilePath], scores: Any
) -> list[dict[str, Any]]:
    """Return a row an image, as it is shown."""
    probability = classifier.calibration_.probability(scores)
    is_match = scores >= classifier.threshold_
    return [
        {
            "rank": rank,
            "image": str(image),
            "probability": float(p),
            "decision": "match" if match else "no match",
            "score": float(score),
        }
        for rank, (image, p, match, score) in enumerate(
            zip(images, probability, is_match, scores, strict=True), start=1
        )
    ]


def score_candidates(
    classifier: PairClassifier,
    table: CandidateTable,
    *,
    progress: Progress | None = None,
    strict: bool = False,
) -> tuple[list[list[str]], dict[str, str]]:
    """Score every candidate of every query, in the challenge's submission form.

    Returns
    -------
    rows : list of list of str
        The header ``left, c0, c1, …``, then a row a query: its id as it was written,
        and a score a candidate; empty where an image failed.
    failures : dict of str to str
        Those images, and why.

    Raises
    ------
    ImageError
        If an image fails and `strict` is set.
    """
    shape = table.candidates.shape
    scores = score_pairs(
        classifier,
        table,
        np.repeat(table.query, shape[1]),
        table.candidates.ravel(),
        progress=progress,
        strict=strict,
    )
    body = [
        [ids[0], *("" if np.isnan(one) else repr(float(one)) for one in row)]
        for ids, row in zip(table.rows, scores.score.reshape(shape), strict=True)
    ]
    return [list(table.header), *body], scores.failures
