"""What a bundle was trained on, and which of it is most like a new pair."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tllboost.errors import DataError
from tllboost.explain.attribution import Blocks, Leaves, leaf_blocks
from tllboost.grid.records import read_images, read_splits
from tllboost.merges import unit_rows
from tllboost.store import VectorStore
from tllboost.vectorizers.base import Vectorizer, fuse
from tllboost.vectorizing import Progress, space_of


class TrainingMatches(NamedTuple):
    """Matches that a run's bundle was trained on, and their images.

    ``pairs`` of shape (n_matches, 2), int64, index ``ids`` and ``paths``.
    """

    ids: list[str]
    paths: list[Path]
    pairs: NDArray[np.int64]


def run_beside(bundle: str | PathLike[str]) -> Path | None:
    """Return the folder of a bundle if it is that of a run which tells its images."""
    folder = Path(bundle).parent
    return None if read_images(folder) is None else folder


def training_matches(
    run: str | PathLike[str], *, whole: bool = False
) -> TrainingMatches:
    """Read the matches that a run's bundle was fitted on.

    Those of its first seed and first fold, or all.

    Parameters
    ----------
    run : path-like
        Folder that a grid wrote.
    whole : bool, default=False
        Whether the bundle was fitted again on all pairs.

    Raises
    ------
    DataError
        If the folder does not tell its images and its training matches.
    """
    folder = Path(run)
    names = (path.stem.removeprefix("seed-") for path in folder.glob("splits/*.npz"))
    seeds = [int(name) for name in names if name.isdecimal()]
    images = read_images(folder)
    splits = read_splits(folder, min(seeds)) if seeds else None
    if images is not None and splits is not None and splits.training_matches:
        pairs = splits.matches if whole else splits.training_matches[0]
        ids, paths = images
        there = np.array([path is not None for path in paths], dtype=bool)
        is_table = pairs.ndim == 2 and pairs.shape[1] == 2 and pairs.dtype.kind == "i"
        if is_table and np.isin(pairs, np.arange(len(there))).all():
            known = TrainingMatches(ids, [Path(path or "") for path in paths], pairs)
            found = _between(known, there)
            if len(found.pairs):
                return found
    msg = (
        f"{folder}: its images.json and splits/ name no training match: explain a copy "
        "of the bundle outside this folder"
    )
    raise DataError(msg)


def _between(matches: TrainingMatches, kept: NDArray[np.bool_]) -> TrainingMatches:
    """Return the matches of two images that are kept, and no other images."""
    pairs = matches.pairs[kept[matches.pairs].all(axis=1)]
    used, codes = np.unique(pairs, return_inverse=True)
    ids, paths = ([of[one] for one in used.tolist()] for of in matches[:2])
    return TrainingMatches(ids, paths, codes.reshape(-1, 2))  # type: ignore[arg-type]


def stored_matches(
    matches: TrainingMatches,
    leaves: Leaves,
    store: VectorStore | str | PathLike[str] | None,
) -> TrainingMatches:
    """Return the matches whose images have all their vectors in the store."""
    kept = np.zeros(len(matches.ids), dtype=bool)
    if store is not None:
        own = store if isinstance(store, VectorStore) else VectorStore(store)
        with own as opened:
            keys = opened.hashes_of(matches.paths)
            read = [row for row, key in enumerate(keys) if isinstance(key, str)]
            known = [key for key in keys if isinstance(key, str)]
            kept[read] = True
            for space in {one for leaf in leaves.values() for one in _spaces(leaf)}:
                kept[read] &= opened.get(space, known)[1]
    return _between(matches, kept)


def _spaces(vectorizer: Vectorizer) -> Iterator[str]:
    """Give what the vectors that a vectorizer rests on are stored under."""
    parts = getattr(vectorizer, "parts", None)
    if parts is None and vectorizer.source is None:
        yield space_of(vectorizer)
    for one in parts or filter(None, [vectorizer.source]):
        yield from _spaces(one)


@dataclass(frozen=True)
class Neighbour:
    """A training match, the image like the left one first.

    Attributes
    ----------
    left, right : str
        The ids of its images.
    paths : list of two str
    cosines : list of two float
        Of the left image and the first, of the right image and the second.
    """

    left: str
    right: str
    paths: list[str]
    cosines: list[float]

    @property
    def likeness(self) -> float:
        """The mean of both cosines."""
        return sum(self.cosines) / 2


def nearest_matches(
    matches: TrainingMatches,
    leaves: Leaves,
    blocks: Blocks,
    *,
    n_nearest: int = 5,
    store: str | PathLike[str] | None = None,
    progress: Progress | None = None,
) -> tuple[list[Neighbour], list[str]]:
    """Return the training matches most like a pair, the likest first.

    A match is as like as the mean of two cosines, of one image and one of its, in
    the order that gives more. The vectors are those of all vectorizers side by side,
    each at length 1, before any projection.

    Parameters
    ----------
    matches : TrainingMatches
    leaves : mapping of str to Vectorizer
    blocks : mapping of str to ndarray of shape (2, n_dims of the leaf), float32
    n_nearest : int, default=5
    store : path-like or None
        Where vectors are kept; matches whose vectors it lacks are left out.
    progress : callable or None

    Returns
    -------
    neighbours : list of Neighbour
    notes : list of str
        How many training matches are left out, and why.
    """
    n_matches = len(matches.pairs)
    matches = stored_matches(matches, leaves, store)
    known, _ = leaf_blocks(leaves, matches.paths, store=store, progress=progress)
    ours, theirs = (
        unit_rows(fuse([of[space] for space in leaves])) for of in (blocks, known)
    )
    cosine = theirs @ ours.T
    # Both orders, a row each; of one match the better stays.
    pairs = np.stack([matches.pairs.T, matches.pairs[:, ::-1].T])
    likeness = (cosine[pairs[:, 0], 0] + cosine[pairs[:, 1], 1]) / 2
    order = likeness.argmax(axis=0)
    neighbours = []
    for row in np.argsort(-likeness.max(axis=0), kind="stable")[:n_nearest]:
        both = pairs[order[row], :, row].tolist()
        left, right = (matches.ids[one] for one in both)
        neighbours.append(
            Neighbour(
                left,
                right,
                paths=[str(matches.paths[one]) for one in both],
                cosines=[float(cosine[one, side]) for side, one in enumerate(both)],
            )
        )
    n_lost = n_matches - len(matches.pairs)
    lost = (
        f"{n_lost:,} of {n_matches:,} training matches are left out: their images can "
        "no longer be read, or have no vectors in the store"
    )
    return neighbours, [lost] if n_lost else []
