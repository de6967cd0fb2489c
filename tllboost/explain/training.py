"""The matches that the bundle of a run was trained on.

The training matches whose images are most like the two of a pair.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tllboost.errors import DataError
from tllboost.explain.leaves import Blocks, Leaves, leaf_blocks
from tllboost.grid.records import read_images, read_sides
from tllboost.merges import unit_rows
from tllboost.store import VectorStore
from tllboost.vectorizers.base import Vectorizer
from tllboost.vectorizers.fusion import fuse
from tllboost.vectorizing import Progress, space_of

__all__ = [
    "Neighbour",
    "TrainingMatches",
    "nearest_matches",
    "run_beside",
    "stored_matches",
    "training_matches",
]


@dataclass(frozen=True, eq=False)
class TrainingMatches:
    """The matches that a run's bundle was trained on.

    ``left`` and ``right`` of shape (n_matches,), int64, index ``ids`` and ``paths``.
    """

    ids: list[str]
    paths: list[Path]
    left: NDArray[np.int64]
    right: NDArray[np.int64]

    def with_images(self, kept: NDArray[np.bool_]) -> TrainingMatches:
        """Return the matches whose two images are kept: ``kept`` is (n_images,)."""
        number = np.cumsum(kept) - 1
        both = kept[self.left] & kept[self.right]
        rows = np.flatnonzero(kept).tolist()
        return TrainingMatches(
            [self.ids[one] for one in rows],
            [self.paths[one] for one in rows],
            number[self.left[both]],
            number[self.right[both]],
        )


def run_beside(bundle: str | PathLike[str]) -> Path | None:
    """Return the folder of a bundle if it is that of a run which tells its images."""
    folder = Path(bundle).parent
    return None if read_images(folder) is None else folder


def training_matches(run: str | PathLike[str]) -> TrainingMatches:
    """Read the training matches of a run's first seed and first fold.

    That is the side on which a run fits what it bundles.

    Parameters
    ----------
    run : path-like
        Folder that a grid wrote.

    Raises
    ------
    DataError
        If the folder does not tell its images and its training matches.
    """
    folder = Path(run)
    images, matches = read_images(folder), _matches(folder)
    if images is None or matches is None:
        msg = (
            f"{folder}: no images.json and sides/ of a run that tell its training "
            "matches: name the run's folder by --run DIR"
        )
        raise DataError(msg)
    n_images = len(images.ids)
    if matches.size and not 0 <= matches.min() <= matches.max() < n_images:
        msg = f"{folder}: its training matches are of other images than it names"
        raise DataError(msg)
    rows = [
        (left, right)
        for left, right in matches.tolist()
        if images.paths[left] is not None and images.paths[right] is not None
    ]
    if not rows:
        msg = f"{folder}: it has no training match with two images"
        raise DataError(msg)
    # Only what is needed: the other sides' images are not looked at.
    used, codes = np.unique(np.array(rows), return_inverse=True)
    codes = codes.reshape(-1, 2)
    return TrainingMatches(
        [images.ids[one] for one in used],
        [Path(images.paths[one] or "") for one in used],
        codes[:, 0],
        codes[:, 1],
    )


def _matches(folder: Path) -> NDArray[np.int64] | None:
    """Return the training matches, (n_matches, 2), that a run's bundle has seen."""
    seeds = [
        int(path.stem.removeprefix("seed-"))
        for path in (folder / "sides").glob("seed-*.npz")
        if path.stem.removeprefix("seed-").isdecimal()
    ]
    sides = read_sides(folder, min(seeds)) if seeds else None
    if sides is None or not sides.training_matches:
        return None
    matches = sides.training_matches[0]
    legal = matches.ndim == 2 and matches.shape[1] == 2 and matches.dtype.kind == "i"
    return matches if legal else None


def stored_matches(
    matches: TrainingMatches,
    leaves: Leaves,
    store: str | PathLike[str] | None,
) -> TrainingMatches:
    """Return the matches whose images have all their vectors in the store."""
    kept = np.zeros(len(matches.ids), dtype=bool)
    if store is not None:
        with VectorStore(store) as opened:
            keys = opened.hashes_of(matches.paths)
            read = [row for row, key in enumerate(keys) if isinstance(key, str)]
            known = [key for key in keys if isinstance(key, str)]
            kept[read] = True
            for space in {one for leaf in leaves.values() for one in _spaces(leaf)}:
                kept[read] &= opened.get(space, known)[1]
    return matches.with_images(kept)


def _spaces(vectorizer: Vectorizer) -> Iterator[str]:
    """Give what the vectors that a vectorizer rests on are stored under."""
    parts = getattr(vectorizer, "parts", None)
    if parts is None and vectorizer.source is None:
        yield space_of(vectorizer)
    for one in parts or filter(None, [vectorizer.source]):
        yield from _spaces(one)


Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Neighbour:
    """A training match, the image like the left one first.

    Attributes
    ----------
    ids : tuple of two str
    paths : tuple of two Path
    cosines : tuple of two float
        Of the left image and the first, of the right image and the second.
    is_same : bool
        Whether they are the very files of the pair.
    """

    ids: tuple[str, str]
    paths: tuple[Path, Path]
    cosines: tuple[float, float]
    is_same: bool

    @property
    def likeness(self) -> float:
        """The mean of both cosines."""
        return sum(self.cosines) / 2


def nearest_matches(
    matches: TrainingMatches,
    pair: tuple[str | PathLike[str], str | PathLike[str]],
    leaves: Leaves,
    blocks: Blocks,
    *,
    n_nearest: int = 5,
    store: str | PathLike[str] | None = None,
    progress: Progress | None = None,
) -> tuple[list[Neighbour], int]:
    """Return the training matches most like a pair, the likest first.

    A match is as like as the mean of two cosines, of one image and one of its, in
    the order that gives more. The vectors are those of all vectorizers side by side,
    each at length 1, before any projection.

    Parameters
    ----------
    matches : TrainingMatches
    pair : tuple of two path-like
    leaves : mapping of str to Vectorizer
    blocks : mapping of str to ndarray of shape (2, n_dims of the leaf), float32
    n_nearest : int, default=5
    store : path-like or None
        Where vectors are kept; those that it lacks are computed.
    progress : callable or None

    Returns
    -------
    neighbours : list of Neighbour
    n_lost : int
        Training matches left out because an image can't be read any more.
    """
    known, failures = leaf_blocks(leaves, matches.paths, store=store, progress=progress)
    lost = np.zeros(len(matches.ids), dtype=bool)
    lost[list(failures)] = True
    there = np.flatnonzero(~lost[matches.left] & ~lost[matches.right])
    wanted = _side_by_side(leaves, blocks)
    cosine = _side_by_side(leaves, known) @ wanted.T
    first, second = matches.left[there], matches.right[there]
    # Both orders, a row each; of one match the better stays.
    pairs = np.stack([np.stack([first, second]), np.stack([second, first])])
    likeness = (cosine[pairs[:, 0], 0] + cosine[pairs[:, 1], 1]) / 2
    order = likeness.argmax(axis=0)
    best = np.argsort(-likeness.max(axis=0), kind="stable")[:n_nearest]
    neighbours = [
        _neighbour(matches, pairs[order[one], :, one].tolist(), cosine, pair)
        for one in best
    ]
    return neighbours, len(matches.left) - len(there)


def _side_by_side(leaves: Leaves, blocks: Blocks) -> Floats:
    return unit_rows(fuse([blocks[space] for space in leaves]))


def _neighbour(
    matches: TrainingMatches,
    rows: Sequence[int],
    cosine: Floats,
    pair: tuple[str | PathLike[str], str | PathLike[str]],
) -> Neighbour:
    first, second = rows
    paths = matches.paths[first], matches.paths[second]
    own = {Path(one).resolve() for one in pair}
    return Neighbour(
        (matches.ids[first], matches.ids[second]),
        paths,
        (float(cosine[first, 0]), float(cosine[second, 1])),
        {path.resolve() for path in paths} == own,
    )
