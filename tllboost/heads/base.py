"""What the built-in heads share: the validation side, scores, and how they are kept."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin

from tllboost.calibration import fit_calibration, log_loss
from tllboost.errors import UsageError

__all__ = ["PairHead", "Validation", "head_score"]


class Validation(NamedTuple):
    """The side that chooses: features, labels and weights of the validation pairs."""

    features: Any
    label: NDArray[np.int8]
    weight: NDArray[np.float64]

    def loss(self, score: NDArray[np.floating]) -> float:
        """Return the log loss of a score after its calibration on this same side.

        Calibrating first compares what the scores know, not what scale they are on.
        """
        curve = fit_calibration(score, self.label, self.weight)
        return log_loss(curve.log_odds(score), self.label, self.weight)


class PairHead(ClassifierMixin, BaseEstimator):
    """Base of the built-in heads: two classes, one score.

    A subclass fits in ``fit(X, y, *, sample_weight, query, validation)`` and scores in
    ``decision_function(X)``; `X` is an array or a
    :class:`~tllboost.merges.PairFeatures`. What it learned goes in and out of a bundle
    by ``to_members`` and ``from_members``, as named bytes that hold no code.
    """

    classes_ = np.array([0, 1])

    def decision_function(self, X: Any) -> NDArray[np.floating]:
        """Return a score a pair: (n_pairs,), larger for a likelier match."""
        raise NotImplementedError

    def predict(self, X: Any) -> NDArray[np.int64]:
        """Return 1 where the score is positive: (n_pairs,) int64."""
        return (self.decision_function(X) > 0).astype(np.int64)

    def to_members(self) -> dict[str, bytes]:
        """Return what was learned, as named bytes."""
        raise NotImplementedError

    def from_members(self, members: dict[str, bytes]) -> PairHead:
        """Take back what :meth:`to_members` gave; return self."""
        raise NotImplementedError


def head_score(head: Any, features: Any) -> NDArray[np.float64]:
    """Return the score of each pair by any fitted classifier or ranker.

    ``decision_function`` where there is one, else the probability of class 1, else
    ``predict`` (a ranker).

    Returns
    -------
    ndarray of shape (n_pairs,), float64
    """
    if hasattr(head, "decision_function"):
        score = head.decision_function(features)
    elif hasattr(head, "predict_proba"):
        score = np.asarray(head.predict_proba(np.asarray(features)))[:, -1]
    else:
        score = head.predict(np.asarray(features))
    score = np.asarray(score, dtype=np.float64)
    if score.shape != (len(features),):
        msg = f"{head!r} gave scores of shape {score.shape} for {len(features)} pairs"
        raise UsageError(msg)
    return score
