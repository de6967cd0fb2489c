"""The baseline: the cosine of the two vectors, as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tllboost.heads.base import LinearForm, PairHead, cosine_of

__all__ = ["CosineHead"]


class CosineHead(PairHead):
    """Cosine of the two vectors; nothing is learned, and no merge is read.

    Examples
    --------
    >>> from tllboost.merges import PairFeatures
    >>> pairs = PairFeatures(np.float32([[3, 4], [6, 8]]), [0], [1])
    >>> CosineHead().fit(pairs, [1]).decision_function(pairs).round(6).tolist()
    [1.0]
    """

    def fit(self, X: Any, y: Any, **_: Any) -> CosineHead:
        """Learn nothing."""
        return self

    def decision_function(self, X: Any) -> NDArray[np.floating]:
        """Return the cosine of each pair: (n_pairs,) float32 in [-1, 1]."""
        return cosine_of(X)

    def linear_form(self) -> LinearForm:
        """Return the cosine alone."""
        return LinearForm(None, 1.0, 0.0)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def to_members(self) -> dict[str, bytes]:
        """Return nothing: there is nothing to keep."""
        return {}

    def from_members(self, members: dict[str, bytes]) -> CosineHead:
        """Take nothing."""
        return self
