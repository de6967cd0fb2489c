"""Compare all images with all, exactly: tiles of one matrix product, never all of it.

The images are cut into strips. A strip is a job of its own that leaves a file behind:
strips run side by side, here or on a cluster, and a run that was killed goes on with
those that are missing. Within one folder each two images meet once, so that half of the
product is enough. What a tile holds is looked at where it lies in the cache, and only
what is above the best that an image is known to have is kept.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tllboost.errors import UsageError
from tllboost.files import whole_file
from tllboost.processes import Backend, Job, Progress
from tllboost.rank import VectorIndex, best_rows, scored
from tllboost.scoring import FittedCell

__all__ = ["Found", "Sought", "compare", "compare_by_cells", "recall_of"]

Vectors = NDArray[np.float32]

_TALL, _WIDE = 1024, 2048  # of a tile: it stays in a processor's cache
_SAMPLE = 2048  # images that bound the best of each from below, before all is compared
_STRIPS, _LONGEST = 32, 2**16
_SMALL = 2e10  # multiplications for which no process is started
_SCORES = 2**22  # of pairs that heads score at once
_MOST = 5 * 10**7
_KINDS = (np.int32, np.int32, np.float32)


class Found(NamedTuple):
    """Pairs of images: rows of the left and of the right ones, and their scores."""

    left: NDArray[Any]
    right: NDArray[Any]
    score: NDArray[Any]


@dataclass(frozen=True)
class Sought:
    """Which pairs are wanted.

    Attributes
    ----------
    top : int or None
        So many of each left image; None for all.
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
    left: Vectors,
    right: Vectors,
    sought: Sought,
    folder: Path,
    *,
    backend: Backend | None = None,
    progress: Progress | None = None,
) -> Found:
    """Return the pairs whose vectors have the largest products.

    Parameters
    ----------
    left : ndarray of shape (n_left, n_dims), float32
    right : ndarray of shape (n_right, n_dims), float32
        In one folder the same images; a product is the same either way.
    sought : Sought
    folder : Path
        What is done lies there, and is not done again; removed at the end.
    backend : Processes or Cluster, optional
    progress : callable, optional

    Returns
    -------
    Found
        Best first, those of each left image together where `top` is given. Exact; of
        equal scores any may be kept.

    Examples
    --------
    >>> import tempfile
    >>> vectors = np.float32([[1, 0], [0.8, 0.6], [0.6, 0.8]])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     found = compare(vectors, vectors, Sought(None, 0.9, True), Path(folder))
    >>> found.left.tolist(), found.right.tolist()
    ([1], [2])
    """
    floor = _floor(left, right, sought)
    jobs = [
        Job(_strip, (name, left, right, floor, *rows, sought), [folder / name])
        for name, rows in _strips(len(left))
    ]
    is_small = float(len(left)) * len(right) * left.shape[1] < _SMALL
    return _run(jobs, sought, folder, None if is_small else backend, progress)


def compare_by_cells(
    cells: Sequence[FittedCell],
    left: Sequence[Vectors],
    right: Sequence[Vectors],
    sought: Sought,
    folder: Path,
    *,
    shortlist: int | None = None,
    backend: Backend | None = None,
    progress: Progress | None = None,
) -> Found:
    """Return the pairs that fitted cells score highest.

    Parameters
    ----------
    cells : sequence of FittedCell, length n_cells
    left, right : sequence of ndarray of shape (n_images, n_dims of the cell), float32
    sought, folder, backend, progress
        As in :func:`compare`.
    shortlist : int, optional
        As of :func:`~tllboost.rank.best`.

    Returns
    -------
    Found
        As of :func:`compare`. Where a head tells left from right and each pair of one
        folder is told once, it has the higher of its two scores.
    """
    nothing: Any = None  # what scores needs no vectorizer, and it may not be sent
    bare = [replace(cell, vectorizer=nothing) for cell in cells]
    jobs = [
        Job(
            _strip_by_cells,
            (name, bare, [*left], [*right], *rows, sought, shortlist),
            [folder / name],
        )
        for name, rows in _strips(len(left[0]))
    ]
    is_small = len(left[0]) * len(right[0]) < _SCORES
    return _run(jobs, sought, folder, None if is_small else backend, progress)


def recall_of(
    cells: Sequence[FittedCell],
    left: Sequence[Vectors],
    right: Sequence[Vectors],
    sought: Sought,
    shortlist: int,
) -> float | None:
    """Return the share of the best of 20 images, by their scores, on a shortlist.

    Of each its ten best, or `sought.top`. None where all are scored anyway.
    """
    n = len(left[0])
    rows = np.unique(np.linspace(0, n - 1, 20).astype(int))
    queries, indexes = [one[rows] for one in left], [VectorIndex(one) for one in right]
    is_listed = scored(cells, [one[:1] for one in queries], indexes, 1)[0] is not None
    if shortlist >= len(right[0]) or not is_listed:
        return None
    asked = replace(sought, top=sought.top or 10, least=-np.inf)
    wanted, held = (
        set(
            zip(
                *_best_by_cells(cells, queries, indexes, rows, asked, n)[:2],
                strict=True,
            )
        )
        for n in (None, shortlist)
    )
    return len(wanted & held) / max(1, len(wanted))


def _strips(n: int) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield a name and the rows of each strip."""
    step = min(_LONGEST, max(_TALL, -(-n // _STRIPS)))
    for number, first in enumerate(range(0, n, step)):
        yield f"{number:05d}.npz", (first, min(first + step, n))


def _run(
    jobs: Sequence[Job],
    sought: Sought,
    folder: Path,
    backend: Backend | None,
    progress: Progress | None,
) -> Found:
    """Run the jobs, and return the pairs that they found together."""
    if backend is None:
        for job in jobs:
            job.function(folder, *job.arguments)
    else:
        backend.run(jobs, folder, "comparing", progress)
    together = Found(*(np.empty(0, kind) for kind in _KINDS))
    for job in jobs:
        with np.load(job.files[0], allow_pickle=False) as arrays:
            new = [arrays[name] for name in Found._fields]
        together = Found(*map(np.append, together, new))
        if sought.top is not None:
            kept, _ = _best(together, sought.top)
            together = Found(*(one[kept] for one in together))
    shutil.rmtree(folder, ignore_errors=True)
    if sought.top is not None:
        return together
    left, right, score = together
    if sought.is_one_folder:  # cells scored each pair both ways
        left, right = np.minimum(left, right), np.maximum(left, right)
    order = np.lexsort((right, left, -score))
    code = (left[order].astype(np.int64) << 32) + right[order]
    order = order[np.sort(np.unique(code, return_index=True)[1])]
    return Found(left[order], right[order], score[order])


def _best(found: Found, top: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the places of the `top` best of each image, and the last of full ones.

    One whole number holds image and score, a tenth of the time of sorting by both.
    """
    own = found.left
    bits = found.score.view(np.int32)
    falling = ~np.where(bits < 0, bits ^ 0x7FFFFFFF, bits).astype(np.int64)
    order = np.argsort((own.astype(np.int64) << 32) + falling)
    own = own[order]
    place = np.arange(len(own))
    is_first = np.append(True, own[1:] != own[:-1])[: len(own)]
    rank = place - np.maximum.accumulate(np.where(is_first, place, 0))
    return order[rank < top], order[rank == top - 1]


def _floor(left: Vectors, right: Vectors, sought: Sought) -> Vectors:
    """Return what each score must be above to be wanted, as far as a sample tells.

    No image has a worse `top`-th best among all than it has among some.
    """
    least = np.nextafter(np.float32(sought.least), np.float32(-np.inf))
    floor = np.full(len(left), least)
    if sought.top is None or len(right) <= sought.top:
        return floor
    step = -(-len(right) // _SAMPLE)
    sample = right[::step]
    if (n_above := sought.top + sought.is_one_folder) > len(sample):
        return floor
    place = len(sample) - n_above  # its own product may be there too
    for first in range(0, len(left), _WIDE):
        rows = slice(first, first + _WIDE)
        known = np.partition(left[rows] @ sample.T, place, axis=1)[:, place]
        floor[rows] = np.maximum(least, np.nextafter(known, np.float32(-np.inf)))
    return floor


class _Gathered:
    """What tiles had above the floor of each image, or the best of that."""

    def __init__(self, first: int, floor: Vectors, top: int | None) -> None:
        self.first, self.floor, self.top = first, floor.copy(), top
        self.found: list[Found] = [Found(*(np.empty(0, kind) for kind in _KINDS))]
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
            two = [
                (one + start).astype(np.int32)
                for one, start in zip(np.divmod(places, tile.shape[1]), at, strict=True)
            ]
            self.found.append(Found(two[axis], two[1 - axis], tile.ravel()[places]))
            self.n_new += len(places)
        if self.top is None:
            check_number(self.n_new)
        elif self.n_new > max(2**18, 2 * self.n_kept):
            self.together()

    def together(self) -> Found:
        """Return all that is wanted; floors rise by it."""
        found = Found(*map(np.concatenate, zip(*self.found, strict=True)))
        if self.top is not None:
            kept, last = _best(found, self.top)
            self.floor[found.left[last] - self.first] = found.score[last]
            found = Found(*(one[kept] for one in found))
            self.n_new, self.n_kept = 0, len(kept)
        self.found = [found]
        return found


def check_number(n_pairs: int) -> None:
    """Refuse more pairs than anyone wants; UsageError."""
    if n_pairs > _MOST:
        msg = (
            f"more than {_MOST:,} pairs: ask for those of a higher score by --min, or "
            "for the best of each image by --top"
        )
        raise UsageError(msg)


def _strip(
    out: Path,
    name: str,
    left: Vectors,
    right: Vectors,
    floor: Vectors,
    start: int,
    stop: int,
    sought: Sought,
) -> None:
    """Write the wanted pairs of some left images to a file of that name."""
    if (out / name).exists():
        return
    own = _Gathered(start, floor[start:stop], sought.top)
    is_half, theirs = sought.is_one_folder, None
    if is_half and sought.top is not None:
        # A tile tells the best of its columns as well: these need not ask again.
        theirs = _Gathered(start, floor[start:], sought.top)
    room = np.empty(_TALL * _WIDE, np.float32)
    for first in range(start if is_half else 0, len(right), _WIDE):
        block = np.ascontiguousarray(right[first : first + _WIDE]).T
        last = min(stop, first + _WIDE) if is_half else stop
        for at in range(start, last, _TALL):
            rows = left[at : min(at + _TALL, last)]
            shape = len(rows), block.shape[1]
            tile = room[: shape[0] * shape[1]].reshape(shape)
            np.matmul(rows, block, out=tile)
            if is_half and first < at + len(rows):
                upper = np.arange(first, first + block.shape[1])
                tile[upper <= np.arange(at, at + len(rows))[:, None]] = -np.inf
            own.take(tile, (at, first), axis=0)
            if theirs is not None:
                theirs.take(tile, (at, first), axis=1)
    found = own.together()
    if theirs is not None:
        found = Found(*map(np.append, found, theirs.together()))
    _write(out / name, found)


def _strip_by_cells(
    out: Path,
    name: str,
    cells: Sequence[FittedCell],
    left: Sequence[Vectors],
    right: Sequence[Vectors],
    start: int,
    stop: int,
    sought: Sought,
    shortlist: int | None,
) -> None:
    """Do what :func:`_strip` does, by the scores of cells."""
    if (out / name).exists():
        return
    indexes = [VectorIndex(one) for one in right]
    step = max(1, _SCORES // len(right[0]))
    found = []
    for first in range(start, stop, step):
        rows = np.arange(first, min(first + step, stop))
        queries = [one[rows] for one in left]
        found.append(_best_by_cells(cells, queries, indexes, rows, sought, shortlist))
        check_number(sum(len(one.left) for one in found))
    _write(out / name, Found(*map(np.concatenate, zip(*found, strict=True))))


def _best_by_cells(
    cells: Sequence[FittedCell],
    queries: Sequence[Vectors],
    indexes: Sequence[VectorIndex],
    rows: NDArray[np.int64],
    sought: Sought,
    shortlist: int | None,
) -> Found:
    """Return the wanted pairs of some left images, which are `rows` of them."""
    one_more = None if shortlist is None else shortlist + sought.is_one_folder
    listed, scores = scored(cells, queries, indexes, one_more)
    if listed is None:
        every: Any = np.arange(scores.shape[1])
        listed = np.broadcast_to(every, scores.shape)
    if sought.is_one_folder:
        scores[listed == rows[:, None]] = -np.inf
    if sought.top is None:
        at, columns = np.nonzero(scores >= sought.least)
    else:
        best = [best_rows(one, sought.top) for one in scores]
        at, columns = (
            np.repeat(np.arange(len(rows)), len(best[0])),
            np.concatenate(best),
        )
    found = Found(rows[at], listed[at, columns], scores[at, columns])
    is_wanted = (found.score >= sought.least) & (found.score > -np.inf)
    return Found(*(one[is_wanted] for one in found))


def _write(file: Path, found: Found) -> None:
    with whole_file(file) as stream:
        left, right, score = map(np.ndarray.astype, found, _KINDS)
        np.savez(stream, left=left, right=right, score=score)
