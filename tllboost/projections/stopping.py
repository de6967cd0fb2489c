"""What says when a projection has learned enough: the validation matches."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tllboost.errors import DataError
from tllboost.splits import PairSet

__all__ = ["Matches", "find_loss", "matches_of"]

_MOST = 1_000
_SCALES = np.geomspace(0.5, 100, 24)


class Matches:
    """The matches of one side: left and right images, and the component of each.

    Parameters
    ----------
    pairs : PairSet
    most : int or None, default=None
        Keep an even sample of that many.
    """

    def __init__(self, pairs: PairSet, most: int | None = None) -> None:
        rows = np.flatnonzero(pairs.label == 1)
        if most is not None and len(rows) > most:
            rows = rows[np.linspace(0, len(rows) - 1, most).astype(int)]
        self.left, self.right = pairs.left[rows], pairs.right[rows]
        self.component = pairs.component[rows]

    def __len__(self) -> int:
        return len(self.left)


def matches_of(pairs: PairSet, side: str) -> Matches:
    """Return the matches of a side, of two components at least.

    Raises
    ------
    DataError
        If there are none to learn from, or to be told apart.
    """
    matches = Matches(pairs, _MOST if side == "validation" else None)
    if len(np.unique(matches.component)) < 2:
        msg = (
            f"the {side} side has matches of {len(np.unique(matches.component))} "
            "component: a projection needs two at least to tell them apart"
        )
        raise DataError(msg)
    return matches


def find_loss(similarity: NDArray[np.floating], component: NDArray[np.int64]) -> float:
    """Return how badly each left picture finds its right one among all others'.

    The mean negative log-likelihood of a softmax over the rights of other components
    and the own one, at the scale that suits the similarities best: cosines and
    distances can be compared.

    Parameters
    ----------
    similarity : ndarray of shape (n_matches, n_matches)
        Of left i with right j.
    component : ndarray of shape (n_matches,), int64

    Examples
    --------
    >>> good, bad = np.eye(4), np.ones((4, 4))
    >>> find_loss(good, np.arange(4)) < find_loss(bad, np.arange(4))
    True
    """
    own = np.eye(len(similarity), dtype=bool)
    ties = (component[:, None] == component[None, :]) & ~own
    centred = similarity - similarity.mean()
    scaled = centred / max(float(centred.std()), 1e-12)
    best = np.inf
    for scale in _SCALES:
        logits = np.where(ties, -np.inf, scale * scaled)
        top = logits.max(axis=1)
        total = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
        best = min(best, float((total - np.diag(logits)).mean()))
    return best
