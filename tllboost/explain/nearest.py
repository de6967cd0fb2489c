"""The training matches whose pictures are most like the two of a pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tllboost.explain.leaves import Blocks, Leaves, leaf_blocks
from tllboost.explain.training import TrainingMatches
from tllboost.vectorizers.base import unit_rows
from tllboost.vectorizers.fusion import fuse
from tllboost.vectorizing import Progress

__all__ = ["Neighbour", "nearest_matches"]

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Neighbour:
    """A training match, the picture like the left one first.

    Attributes
    ----------
    ids : tuple of two str
    paths : tuple of two Path
    cosines : tuple of two float
        Of the left picture and the first, of the right picture and the second.
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

    A match is as like as the mean of two cosines, of one picture and one of its, in
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
        Training matches left out because a picture can't be read any more.
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
