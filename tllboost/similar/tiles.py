"""Compare all images with all, exactly: tiles of one matrix product, never all of it.

The images are cut into strips. A strip is a job of its own that leaves a file behind:
strips run side by side, here or on a cluster, and a run that was killed goes on with
those that are missing. Within one folder each two images meet once, so that half of the
product is enough. What a tile holds is looked at where it lies in the cache, and only
what is above the best that an image is known to have is kept.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tllboost.errors import DataError, UsageError
from tllboost.files import whole_file
from tllboost.processes import Backend, Job, Progress, tell
from tllboost.rank import VectorIndex, best_rows, scored
from tllboost.scoring import FittedCell

__all__ = [
    *("Pairs", "Sought", "by_cells", "by_products", "compare", "floor_of"),
    *("made_pairs", "recall_of"),
]

Vectors = NDArray[np.float32]
Pairs: TypeAlias = NDArray[Any]
"""Pairs of images, of the fields ``left`` and ``right`` (rows) and ``score``."""

_PAIR = np.dtype([("left", np.int32), ("right", np.int32), ("score", np.float32)])
_TALL, _WIDE = 1024, 2048  # of a tile: it stays in a processor's cache
_SAMPLE = 2048  # images that bound the best of each from below, before all is compared
_STRIPS, _LONGEST = 32, 2**16
_FEW = 4  # strips for which no process is started
_SCORES = 2**22  # of pairs that heads score at once
_MOST = 5 * 10**7


def made_pairs(left: ArrayLike, right: ArrayLike, score: ArrayLike) -> Pairs:
    """Return pairs, each field of shape (n_pairs,)."""
    pairs = np.empty(len(np.asarray(left)), _PAIR)
    pairs["left"], pairs["right"], pairs["score"] = left, right, score
    return pairs


@dataclass(frozen=True)
class Sought:
    """Which pairs are wanted.

    Attributes
    ----------
    top : int or None
        How many for each left image; None for all.
    least : float
        The lowest score that is wanted.
    is_one_folder : bool
        Whether the images on the right are those on the left: no image is then
        compared with itself, and without `top` each pair is told once.
    """

    top: int | None
    least: float
    is_one_folder: bool


def compare(
    find: Callable[..., Pairs],
    arrays: Sequence[Any],
    n_left: int,
    sought: Sought,
    folder: Path,
    *,
    shortest: int = _TALL,
    backend: Backend | None = None,
    progress: Progress | None = None,
) -> Pairs:
    """Return the pairs that all strips hold together.

    Parameters
    ----------
    find : callable
        :func:`by_products`, or :func:`by_cells` with its cells; called with `arrays`,
        the first and the last row of a strip, and `sought`.
    arrays : sequence of ndarray, or of sequences of them
        Of all images: workers map them.
    n_left : int
    sought : Sought
    folder : Path
        What is done lies there, and is not done again; removed at the end.
    shortest : int, default=1024
        Rows of a strip, at least: heads take seconds for fewer than products do.
    backend : Processes or Cluster, optional
        What runs the strips; by default this process.
    progress : callable, optional

    Returns
    -------
    Pairs
        Best first; those of each left image together where `top` is given. Of equal
        scores any may be among the best.

    Examples
    --------
    >>> import tempfile
    >>> vectors = np.float32([[1, 0], [0.8, 0.6], [0.6, 0.8]])
    >>> sought = Sought(None, 0.9, is_one_folder=True)
    >>> arrays = [vectors, vectors, floor_of(vectors, vectors, sought)]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     found = compare(by_products, arrays, 3, sought, Path(folder))
    >>> found["left"].tolist(), found["right"].tolist()
    ([1], [2])
    """
    jobs = [
        Job(
            _strip,
            (name, find, list(arrays), *rows, sought),
            files=[folder / name],
            names=[f"images {rows[0] + 1} to {rows[1]}"],
            fail=_fail,
        )
        for name, rows in _strips(n_left, shortest)
    ]
    if backend is None or len(jobs) < _FEW:
        for job in jobs:
            job.function(folder, *job.arguments)
            tell(progress, jobs, "comparing", [])
    else:
        backend.run(jobs, folder, "comparing", progress)
    found = np.empty(0, _PAIR)
    for job in jobs:
        found = np.append(found, np.load(job.files[0], allow_pickle=False))
        if sought.top is not None:
            found = found[_best(found, sought.top)[0]]
        refuse_many(len(found))
    shutil.rmtree(folder, ignore_errors=True)
    if sought.top is not None:
        return found
    left, right = found["left"].astype(np.int64), found["right"]
    if sought.is_one_folder:  # cells scored each pair both ways
        left, right = np.minimum(left, right), np.maximum(left, right)
    found = made_pairs(left, right, found["score"])
    order = np.lexsort((right, left, -found["score"]))
    _, first = np.unique(((left << 32) + right)[order], return_index=True)
    return found[order[np.sort(first)]]


def refuse_many(n_pairs: int) -> None:
    """Refuse more pairs than can be held.

    Raises
    ------
    UsageError
        If there are more.
    """
    if n_pairs > _MOST:
        msg = (
            f"more than {_MOST:,} pairs: ask for those of a higher score by --min, or "
            "for the best of each image by --top"
        )
        raise UsageError(msg)


def _strips(n: int, shortest: int) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield a name and the rows of each strip."""
    step = min(_LONGEST, max(shortest, -(-n // _STRIPS)))
    for number, first in enumerate(range(0, n, step)):
        yield f"{number:05d}.npy", (first, min(first + step, n))


def _fail(_: int, reason: str) -> None:
    msg = f"comparing images failed: {reason}"
    raise DataError(msg)


def _strip(
    out: Path, name: str, find: Any, arrays: Any, start: int, stop: int, sought: Sought
) -> None:
    """Write the wanted pairs of a strip to a file of that name, unless it is there."""
    if not (out / name).exists():
        found = find(*arrays, start, stop, sought)
        with whole_file(out / name) as stream:
            np.save(stream, found)


def _best(pairs: Pairs, top: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the places of the `top` best of each image, and the last of full ones.

    One whole number holds image and score, a tenth of the time of sorting by both.
    """
    bits = pairs["score"].view(np.int32)
    falling = ~np.where(bits < 0, bits ^ 0x7FFFFFFF, bits).astype(np.int64)
    order = np.argsort((pairs["left"].astype(np.int64) << 32) + falling)
    own, place = pairs["left"][order], np.arange(len(order))
    is_first = np.append(True, own[1:] != own[:-1])[: len(own)]
    rank = place - np.maximum.accumulate(np.where(is_first, place, 0))
    return order[rank < top], order[rank == top - 1]


# By the products of vectors


def floor_of(left: Vectors, right: Vectors, sought: Sought) -> Vectors:
    """Return what each score must be above to be wanted: (n_left,).

    As far as a sample tells: the `top`-th best of an image is no worse among all than
    it is among some.
    """
    least = np.nextafter(np.float32(sought.least), np.float32(-np.inf))
    floor = np.full(len(left), least)
    sample = right[:: -(-len(right) // _SAMPLE)]
    # Of its own products, one with itself may be there.
    place = len(sample) - (sought.top or len(right)) - sought.is_one_folder
    if sought.top is None or place < 0:
        return floor
    for first in range(0, len(left), _WIDE):
        rows = slice(first, first + _WIDE)
        product = left[rows] @ sample.T
        rounding = 1e-5 * np.abs(product).max()  # in a tile the sums have another order
        product.partition(place, axis=1)
        floor[rows] = np.maximum(least, product[:, place] - rounding)
    return floor


class _Gathered:
    """Pairs above the floor of each image, tile by tile; with `top` only the best."""

    def __init__(self, first: int, floor: Vectors, top: int | None) -> None:
        self.first, self.floor, self.top = first, floor.copy(), top
        self.found: list[Pairs] = [np.empty(0, _PAIR)]
        self.n_new, self.n_kept = 0, 0

    def take(self, tile: Vectors, at: tuple[int, int], axis: int) -> None:
        """Take a tile of scores whose first row and column are the images `at`.

        Its rows are looked at for their own best with `axis` 0, its columns with 1.
        """
        first = at[axis] - self.first
        floor = self.floor[first : first + tile.shape[axis]]
        # Places in the tile as it lies in memory: ten times as fast as in two axes.
        places = np.flatnonzero(tile > (floor if axis else floor[:, None]))
        if len(places):
            rows, columns = np.divmod(places, tile.shape[1])
            two = rows + at[0], columns + at[1]
            pairs = made_pairs(two[axis], two[1 - axis], tile.ravel()[places])
            self.found.append(pairs)
            self.n_new += len(places)
        if self.top is not None and self.n_new > max(2**18, 2 * self.n_kept):
            self.together()
        refuse_many(self.n_new)

    def together(self) -> Pairs:
        """Return all that is wanted; floors rise by it."""
        found = np.concatenate(self.found)
        if self.top is not None:
            kept, last = _best(found, self.top)
            self.floor[found["left"][last] - self.first] = found["score"][last]
            found = found[kept]
            self.n_new, self.n_kept = 0, len(kept)
        self.found = [found]
        return found


def by_products(
    left: Vectors, right: Vectors, floor: Vectors, start: int, stop: int, sought: Sought
) -> Pairs:
    """Return the wanted pairs of some left images, by the products of vectors.

    Parameters
    ----------
    left : ndarray of shape (n_left, n_dims), float32
    right : ndarray of shape (n_right, n_dims), float32
        In one folder of the same images; a product is the same either way.
    floor : ndarray of shape (n_left,), float32
        See :func:`floor_of`.
    start, stop : int
        Rows of `left`.
    sought : Sought
    """
    own = _Gathered(start, floor[start:stop], sought.top)
    # A tile tells the best of its columns as well: these need not ask again.
    theirs = _Gathered(start, floor[start:], sought.top)
    room = np.empty(_TALL * _WIDE, np.float32)
    for first in range(start if sought.is_one_folder else 0, len(right), _WIDE):
        block = np.ascontiguousarray(right[first : first + _WIDE]).T
        last = min(stop, first + _WIDE) if sought.is_one_folder else stop
        for at in range(start, last, _TALL):
            rows = left[at : min(at + _TALL, last)]
            shape = len(rows), block.shape[1]
            tile = room[: shape[0] * shape[1]].reshape(shape)
            np.matmul(rows, block, out=tile)
            if sought.is_one_folder and first < at + len(rows):
                upper = np.arange(first, first + shape[1])
                tile[upper <= np.arange(at, at + shape[0])[:, None]] = -np.inf
            own.take(tile, (at, first), axis=0)
            if sought.is_one_folder and sought.top is not None:
                theirs.take(tile, (at, first), axis=1)
    return np.append(own.together(), theirs.together())


# By the scores of fitted cells


def by_cells(
    left: Sequence[Vectors],
    right: Sequence[Vectors],
    start: int,
    stop: int,
    sought: Sought,
    *,
    cells: Sequence[FittedCell],
    shortlist: int | None = None,
) -> Pairs:
    """Return the wanted pairs of some left images, by the scores of cells.

    Where all pairs of one folder are wanted, each is returned in both orders: a head
    may score them differently.

    Parameters
    ----------
    left, right : sequence of ndarray of shape (n_images, n_dims of the cell), float32
    start, stop, sought
        As in :func:`by_products`.
    cells : sequence of FittedCell, length n_cells
    shortlist : int, optional
        As of :func:`~tllboost.rank.best`.
    """
    indexes = [VectorIndex(one) for one in right]
    step = max(1, _SCORES // len(right[0]))
    found = np.empty(0, _PAIR)
    for first in range(start, stop, step):
        rows = np.arange(first, min(first + step, stop))
        more = _of_rows(cells, left, indexes, rows, sought, shortlist)
        found = np.append(found, more)
        refuse_many(len(found))
    return found


def _of_rows(
    cells: Sequence[FittedCell],
    left: Sequence[Vectors],
    indexes: Sequence[VectorIndex],
    rows: NDArray[np.int64],
    sought: Sought,
    shortlist: int | None,
) -> Pairs:
    """Return the wanted pairs of some rows of the left images."""
    one_more = None if shortlist is None else shortlist + sought.is_one_folder
    listed, scores = scored(cells, [one[rows] for one in left], indexes, one_more)
    if sought.is_one_folder:
        scores[listed == rows[:, None]] = -np.inf
    if sought.top is None:
        at, columns = np.nonzero(scores >= sought.least)
    else:
        best = [best_rows(one, sought.top) for one in scores]
        at = np.repeat(np.arange(len(rows)), len(best[0]))
        columns = np.concatenate(best)
    score = scores[at, columns]
    wanted = (score >= sought.least) & (score > -np.inf)
    return made_pairs(rows[at], listed[at, columns], score)[wanted]


def recall_of(
    cells: Sequence[FittedCell],
    left: Sequence[Vectors],
    right: Sequence[Vectors],
    sought: Sought,
    shortlist: int,
) -> float | None:
    """Return which share of the best images a shortlist holds.

    Measured on 20 images, with the ten best of each, or `sought.top`. None where all
    images are scored anyway.
    """
    indexes = [VectorIndex(one) for one in right]
    rows = np.unique(np.linspace(0, len(left[0]) - 1, 20).astype(int))
    listed, _ = scored(cells, [one[:1] for one in left], indexes, shortlist)
    if listed.shape[1] == len(right[0]):
        return None
    asked = replace(sought, top=sought.top or 10, least=-np.inf)
    exact, short = (
        _of_rows(cells, left, indexes, rows, asked, most)[["left", "right"]].tolist()
        for most in (None, shortlist)
    )
    return len({*exact} & {*short}) / max(1, len(exact))
