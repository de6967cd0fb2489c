"""The matches that the bundle of a run was trained on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tllboost.errors import DataError
from tllboost.explain.leaves import Leaves
from tllboost.grid.sides import read_pictures, read_sides
from tllboost.store import VectorStore
from tllboost.vectorizers.base import Vectorizer
from tllboost.vectorizing import space_of

__all__ = ["TrainingMatches", "run_beside", "stored_matches", "training_matches"]


@dataclass(frozen=True, eq=False)
class TrainingMatches:
    """The matches that a run's bundle was trained on.

    ``left`` and ``right`` of shape (n_matches,), int64, index ``ids`` and ``paths``.
    """

    ids: list[str]
    paths: list[Path]
    left: NDArray[np.int64]
    right: NDArray[np.int64]

    def with_pictures(self, kept: NDArray[np.bool_]) -> TrainingMatches:
        """Return the matches whose two pictures are kept: ``kept`` is (n_images,)."""
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
    """Return the folder of a bundle if it is that of a run which tells its pictures."""
    folder = Path(bundle).parent
    return None if read_pictures(folder) is None else folder


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
        If the folder does not tell its pictures and its training matches.
    """
    folder = Path(run)
    pictures, matches = read_pictures(folder), _matches(folder)
    if pictures is None or matches is None:
        msg = (
            f"{folder}: no pictures.json and sides/ of a run that tell its training "
            "matches: name the run's folder by --run DIR"
        )
        raise DataError(msg)
    n_images = len(pictures.ids)
    if matches.size and not 0 <= matches.min() <= matches.max() < n_images:
        msg = f"{folder}: its training matches are of other pictures than it names"
        raise DataError(msg)
    rows = [
        (left, right)
        for left, right in matches.tolist()
        if pictures.paths[left] is not None and pictures.paths[right] is not None
    ]
    if not rows:
        msg = f"{folder}: it has no training match with two pictures"
        raise DataError(msg)
    # Only what is needed: the other sides' pictures are not looked at.
    used, codes = np.unique(np.array(rows), return_inverse=True)
    codes = codes.reshape(-1, 2)
    return TrainingMatches(
        [pictures.ids[one] for one in used],
        [Path(pictures.paths[one] or "") for one in used],
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
    """Return the matches whose pictures have all their vectors in the store."""
    kept = np.zeros(len(matches.ids), dtype=bool)
    if store is not None:
        with VectorStore(store) as opened:
            keys = opened.hashes_of(matches.paths)
            read = [row for row, key in enumerate(keys) if isinstance(key, str)]
            known = [key for key in keys if isinstance(key, str)]
            kept[read] = True
            for space in {one for leaf in leaves.values() for one in _spaces(leaf)}:
                kept[read] &= opened.get(space, known)[1]
    return matches.with_pictures(kept)


def _spaces(vectorizer: Vectorizer) -> Iterator[str]:
    """Give what the vectors that a vectorizer rests on are stored under."""
    parts = getattr(vectorizer, "parts", None)
    if parts is None and vectorizer.source is None:
        yield space_of(vectorizer)
    for one in parts or filter(None, [vectorizer.source]):
        yield from _spaces(one)
