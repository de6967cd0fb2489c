"""How much each vectorizer of a fusion, and each member of an ensemble, says."""

from __future__ import annotations

from math import factorial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tllboost.classifier import PairClassifier
from tllboost.explain.leaves import Blocks, Leaves, cell_vectors, log_odds
from tllboost.fitted import FittedCell

__all__ = ["MOST_PARTS", "Member", "Share", "member_opinions", "shapley_shares"]

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
    classifier: PairClassifier, leaves: Leaves, blocks: Blocks
) -> tuple[list[Share], float]:
    """Return what each vectorizer adds, and the log-odds with none of them.

    Exact Shapley values (Shapley, "A value for n-person games", 1953): what a
    vectorizer adds to the log-odds, averaged over all orders in which they could be
    added one after the other. One that is absent has zeros for a vector, in both
    pictures. The shares sum to the log-odds of the pair less those with none.

    Parameters
    ----------
    classifier : PairClassifier
    leaves : mapping of str to Vectorizer, of at most `MOST_PARTS`
    blocks : mapping of str to ndarray of shape (2, n_dims of the leaf), float32
        The vectors of the left and of the right picture.

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


def member_opinions(classifier: PairClassifier, blocks: Blocks) -> list[Member]:
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
