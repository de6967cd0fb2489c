"""The single vectorizers that a classifier looks through, and what each of them says.

A fusion has several, the members of an ensemble may share some; each looks at an image
once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import comb
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
    for leaf in (leaf for cell in cells for leaf in _parts(cell.vectorizer)):
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
    parts = list(leaves.values())
    results = vectorize_many(parts, paths, store=store, progress=progress)
    failures: dict[int, str] = {}
    for result in results:
        failures = result.failures | failures
    blocks = [result.vectors for result in results]
    return dict(zip(leaves, blocks, strict=True)), failures


def scores(
    classifier: Scorer, blocks: Blocks, left: Indices, right: Indices
) -> NDArray[np.float64]:
    """Return the score of pairs of rows, before calibration: (n_pairs,) float64."""
    vectors = [_cell_vectors(cell, blocks) for cell in classifier.cells_]
    return joint_score(classifier.cells_, vectors, left, right)


def _cell_vectors(cell: FittedCell, blocks: Blocks) -> NDArray[np.float32]:
    """Return the vectors that a cell sees, put together from those of the leaves."""
    own = [blocks[space_of(leaf)] for leaf in _parts(cell.vectorizer)]
    fuse = getattr(cell.vectorizer, "fuse", None)
    return own[0] if fuse is None else fuse(own)


def _parts(vectorizer: Vectorizer) -> Sequence[Vectorizer]:
    return getattr(vectorizer, "parts", None) or [vectorizer]


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
    # The two vectors once a subset, zeros where the part is absent.
    some = {
        space: np.concatenate([blocks[space] * np.float32(here) for here in column])
        for space, column in zip(leaves, present.T, strict=True)
    }
    score = scores(classifier, some, 2 * subsets, 2 * subsets + 1)
    value = classifier.calibration_.log_odds(score)
    # Of all orders, the share in which just some `size` parts come before another one.
    weight = [1 / (n_parts * comb(n_parts - 1, size)) for size in range(n_parts)]
    of_size, size = np.array([*weight, 0.0]), present.sum(axis=1, keepdims=True)
    adds = value @ np.where(present, of_size[size - 1], -of_size[size])
    labels = [leaf.label for leaf in leaves.values()]
    return list(map(Share, labels, adds.tolist())), float(value[0])


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
        scorer = cell.scorer
        merge = getattr(scorer.merge, "__name__", scorer.merge)
        parts = cell.vectorizer.label, cell.projection_spec, merge, scorer.head
        odds = float(cell.log_odds(_cell_vectors(cell, blocks), *pair)[0])
        name = " × ".join(map(str, parts))  # as the results name it
        members.append(Member(name, odds, weight, weight * odds))
    return members
