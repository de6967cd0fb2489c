"""The single vectorizers that a classifier looks through, each once.

How much each vectorizer of a fusion, and each member of an ensemble, says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import factorial
from os import PathLike
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tllboost.errors import UsageError
from tllboost.scoring import FittedCell, Scorer, joint_score
from tllboost.vectorizers import Vectorizer
from tllboost.vectorizing import Progress, space_of, vectorize_many

__all__ = [
    "MOST_PARTS",
    "Blocks",
    "Leaves",
    "Member",
    "Share",
    "leaf_blocks",
    "leaves_of",
    "log_odds",
    "member_opinions",
    "scores",
    "shapley_shares",
]

Indices = NDArray[np.int64]
Leaves = Mapping[str, Vectorizer]
Blocks = Mapping[str, NDArray[np.float32]]
"""Vectors (n_images, n_dims of the leaf) by what the leaf is stored under."""


def leaves_of(cells: Sequence[FittedCell]) -> dict[str, Vectorizer]:
    """Return the parts of all vectorizers, each once, by what they are stored under.

    Raises
    ------
    UsageError
        If one of them never looks at an image.
    """
    leaves: dict[str, Vectorizer] = {}
    for cell in cells:
        for leaf in _parts(cell.vectorizer):
            leaves.setdefault(space_of(leaf), leaf)
    for leaf in leaves.values():
        if not leaf.needs_images:
            msg = (
                f"{leaf.label!r} looks vectors up by id and sees no image: there is "
                "nothing to cover; explain a bundle whose vectorizers look at images"
            )
            raise UsageError(msg)
    return leaves


def leaf_blocks(
    leaves: Leaves,
    paths: Sequence[str | PathLike[str]],
    *,
    store: str | PathLike[str] | None,
    progress: Progress | None = None,
) -> tuple[dict[str, NDArray[np.float32]], dict[int, str]]:
    """Vectorize images with every leaf; return what failed by index, too."""
    results = vectorize_many(
        list(leaves.values()), paths, store=store, progress=progress
    )
    failures: dict[int, str] = {}
    for result in results:
        failures = result.failures | failures
    vectors = [result.vectors for result in results]
    return dict(zip(leaves, vectors, strict=True)), failures


def scores(
    classifier: Scorer, blocks: Blocks, left: Indices, right: Indices
) -> NDArray[np.float64]:
    """Return the score of pairs of rows, before calibration: (n_pairs,) float64."""
    vectors = [cell_vectors(cell, blocks) for cell in classifier.cells_]
    return joint_score(classifier.cells_, vectors, left, right)


def log_odds(
    classifier: Scorer, blocks: Blocks, left: Indices, right: Indices
) -> NDArray[np.float64]:
    """Return the calibrated log-odds of pairs of rows: (n_pairs,) float64."""
    return classifier.calibration_.log_odds(scores(classifier, blocks, left, right))


def cell_vectors(cell: FittedCell, blocks: Blocks) -> NDArray[np.float32]:
    """Return the vectors that a cell sees, put together from those of the leaves."""
    own = [blocks[space_of(leaf)] for leaf in _parts(cell.vectorizer)]
    fuse = getattr(cell.vectorizer, "fuse", None)
    return own[0] if fuse is None else fuse(own)


def _parts(vectorizer: Vectorizer) -> Sequence[Vectorizer]:
    parts: Sequence[Vectorizer] | None = getattr(vectorizer, "parts", None)
    return [vectorizer] if parts is None else parts


MOST_PARTS = 8
"""Vectorizers above which the 2ⁿ fusions are not scored."""


class Share(NamedTuple):
    """What one vectorizer adds to the log-odds."""

    name: str
    adds: float


class Member(NamedTuple):
    """What one cell of an ensemble says, and what of it counts.

    ``adds`` is its weight times its log-odds.
    """

    name: str
    log_odds: float
    weight: float
    adds: float


def shapley_shares(
    classifier: Scorer, leaves: Leaves, blocks: Blocks
) -> tuple[list[Share], float]:
    """Return what each vectorizer adds, and the log-odds with none of them.

    Exact Shapley values (Shapley, "A value for n-person games", 1953): what a
    vectorizer adds to the log-odds, averaged over all orders in which they could be
    added one after the other. One that is absent has zeros for a vector, in both
    images. The shares sum to the log-odds of the pair less those with none.

    Parameters
    ----------
    classifier : PairClassifier or Scorer
    leaves : mapping of str to Vectorizer, of at most `MOST_PARTS`
    blocks : mapping of str to ndarray of shape (2, n_dims of the leaf), float32
        The vectors of the left and of the right image.

    Returns
    -------
    shares : list of Share, one a leaf
    empty : float
    """
    n_parts = len(leaves)
    subsets = np.arange(2**n_parts)
    present = subsets[:, None] >> np.arange(n_parts) & 1
    some = {
        space: _kept(blocks[space], present[:, part])
        for part, space in enumerate(leaves)
    }
    value = log_odds(classifier, some, 2 * subsets, 2 * subsets + 1)
    shares = [
        Share(leaf.label, _shapley(value, present, part))
        for part, leaf in enumerate(leaves.values())
    ]
    return shares, float(value[0])


def _kept(
    block: NDArray[np.float32], present: NDArray[np.integer]
) -> NDArray[np.float32]:
    """Return the two vectors once a subset, zeros where the part is absent."""
    return np.concatenate([block * np.float32(here) for here in present])


def _shapley(
    value: NDArray[np.float64], present: NDArray[np.integer], part: int
) -> float:
    """Return the mean of what a part adds, over all orders.

    Examples
    --------
    >>> present = np.array([[0, 0], [1, 0], [0, 1], [1, 1]])
    >>> value = np.array([0.0, 1.0, 2.0, 5.0])
    >>> [_shapley(value, present, part) for part in (0, 1)]
    [2.0, 3.0]
    """
    n_parts = present.shape[1]
    without = np.flatnonzero(present[:, part] == 0)
    gain = value[without + 2**part] - value[without]
    orders = [
        factorial(size) * factorial(n_parts - size - 1)
        for size in present[without].sum(axis=1).tolist()
    ]
    return float(np.dot(orders, gain) / factorial(n_parts))


def member_opinions(classifier: Scorer, blocks: Blocks) -> list[Member]:
    """Return what each cell of an ensemble says; of one cell alone nothing.

    The log-odds of the ensemble are the sum of what they add, plus the intercept of
    its calibration.
    """
    cells = classifier.cells_
    if len(cells) == 1:
        return []
    weight = classifier.calibration_.slope / len(cells)
    pair = np.array([0]), np.array([1])
    members = []
    for cell in cells:
        odds = float(cell.log_odds(cell_vectors(cell, blocks), *pair)[0])
        members.append(Member(_name(cell), odds, weight, weight * odds))
    return members


def _name(cell: FittedCell) -> str:
    """Name a cell as the results do."""
    scorer = cell.scorer
    merge = getattr(scorer.merge, "__name__", scorer.merge)
    parts = cell.vectorizer.label, cell.projection_spec, merge, scorer.head
    return " × ".join(map(str, parts))
