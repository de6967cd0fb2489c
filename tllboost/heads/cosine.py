"""The baselines: the cosine of the two vectors, as it is and normalised."""

from __future__ import annotations

from typing import Any

import numpy as np

from tllboost.heads.base import PairHead
from tllboost.heads.fitted import FittedHead, Linear


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


class NormalisedCosineHead(PairHead):
    """Cosine in standard deviations above what both images have to unrelated ones.

    The mean of both z-norms, S-norm, which the merge ``similarity`` computes: see
    :class:`tllboost.references.References`. Nothing is learned.

    Examples
    --------
    >>> rows = np.float32([[0.5, 3.0, 0.1, 0.2], [0.4, 1.0, 0.1, 0.1]])
    >>> NormalisedCosineHead().fit(rows, [1, 0]).decision_function(rows).tolist()
    [3.0, 1.0]
    """

    def learn(self, training: Any, validation: Any) -> None:
        """Read the second column; the others are of no use here."""
        coef = np.zeros(training.features.shape[1], np.float32)
        coef[1] = 1
        self.fitted_ = FittedHead(Linear(coef))
