"""The baseline: the cosine of the two vectors, as it is."""

from __future__ import annotations

from typing import Any

import numpy as np

from tllboost.heads.base import PairHead
from tllboost.heads.fitted import FittedHead

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

    fitted_ = FittedHead(slope=np.float32(1), intercept=np.float32(0))

    def learn(self, training: Any, validation: Any) -> None:
        """Learn nothing."""

    def __sklearn_is_fitted__(self) -> bool:
        return True
