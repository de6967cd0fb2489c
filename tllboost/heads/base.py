"""What the built-in heads share, and the two that learn nothing: the cosine.

Of more training pairs than a fixed memory holds the features of, as many are drawn as
fit, so that what a head holds does not grow with pairs times features. What more pairs
would add by then is little: a quarter of a gigabyte is 130,000 pairs of 512 numbers.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from functools import cache, cached_property
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin

from tllboost.calibration import fit_calibration, log_loss
from tllboost.conventions import labels_of, repeatable, seed_of, weights_of
from tllboost.errors import DataError
from tllboost.heads.fitted import FittedHead, cosine_of


class Training(NamedTuple):
    """The training set of a head.

    Parameters
    ----------
    features : array-like or PairFeatures of shape (n_pairs, n_features)
    label : ndarray of shape (n_pairs,)
    weight : ndarray of shape (n_pairs,), float64
    query : ndarray of shape (n_pairs,), int64, or None
        Ranking list of each pair, -1 or None for none.
    """

    features: Any
    label: NDArray[np.integer]
    weight: NDArray[np.float64]
    query: NDArray[np.int64] | None = None

    def take(self, rows: NDArray[Any]) -> Self:
        """Return some of the pairs."""
        X, query = self.features, self.query
        return type(self)(
            X.take(rows) if hasattr(X, "blocks") else X[rows],
            self.label[rows],
            self.weight[rows],
            None if query is None else query[rows],
        )


class Validation(Training):
    """The set that chooses, and how badly scores do on it.

    Where a choice is repeated on all pairs, these among them, both losses are what they
    were then (:func:`tllboost.conventions.noted`): choose by nothing else.
    """

    @repeatable
    def loss(self, score: NDArray[np.floating]) -> float:
        """Return the log loss of a score after its calibration on this same set.

        Calibrating first compares what the scores know, not what scale they are on.
        Infinite where a score is not a finite number, so that it is never chosen.
        """
        if not np.isfinite(score).all():
            return np.inf
        curve = fit_calibration(score, self.label, self.weight)
        return log_loss(curve.log_odds(score), self.label, self.weight)

    @cached_property
    def _lists(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The pairs of each list, its match first, and where each list begins."""
        query = np.full(len(self.label), -1) if self.query is None else self.query
        rows = np.lexsort((1 - self.label, query))
        rows = rows[query[rows] >= 0]
        _, starts, n = np.unique(query[rows], return_index=True, return_counts=True)
        # Lists without a match, or without another, tell nothing.
        matches = np.add.reduceat(self.label[rows], starts) if len(rows) else starts
        rows = rows[np.repeat((matches > 0) & (matches < n), n)]
        return rows, np.unique(query[rows], return_index=True)[1]

    @repeatable
    def losses(self, score: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return how badly a score finds the match of each list: (n_lists,) float64.

        The negative log-likelihood of a conditional logit (McFadden, 1974): the score,
        on its best scale, must tell the match from the others of its own list, where
        :meth:`loss` tells all matches from all others. Without lists, the log loss of
        each pair.
        """
        rows, starts = self._lists
        if not len(rows):
            if not np.isfinite(score).all():
                return np.full(len(score), np.inf)
            curve = fit_calibration(score, self.label, self.weight)
            margin = np.where(self.label == 1, -1, 1) * curve.log_odds(score)
            return np.logaddexp(0.0, margin) * self.weight / self.weight.mean()
        listed = np.asarray(score, dtype=np.float64)[rows]
        listed = (listed - listed.mean()) / max(listed.std(), 1e-12)
        # Relative to the highest of the list, so that exp never overflows.
        peaks = np.maximum.reduceat(listed, starts)
        listed -= np.repeat(peaks, np.diff(starts, append=len(listed)))

        @cache
        def at(step: int) -> NDArray[np.float64]:
            scaled: NDArray[np.float64] = _SCALES[step] * listed
            total = np.log(np.add.reduceat(np.exp(scaled), starts))
            return np.fmin(total - scaled[starts], np.inf)  # NaN is never the best

        # Losses are convex in the scale: they fall to the best, and rise beyond it.
        def rises(step: int) -> bool:
            return not at(step + 1).mean() < at(step).mean()

        return at(bisect_left(range(len(_SCALES) - 1), True, key=rises))


_SCALES = np.geomspace(0.01, 30, 40)[::-1]


def clearly_better(losses: NDArray[np.float64], than: NDArray[np.float64]) -> bool:
    """Tell whether losses are lower by more than two standard errors of the difference.

    What is simpler stays unless validation says clearly otherwise, as in the rule of
    Breiman et al., "Classification and regression trees" (1984), who ask for one. Of
    many looks at few lists the best is one error better by luck: on 200 pairs of the
    Totally-Looks-Like challenge one still gave heads below their own cosine.

    Examples
    --------
    >>> clearly_better(np.array([1.0, 1.1, 0.9]), np.array([2.0, 2.0, 2.1]))
    True
    >>> clearly_better(np.array([1.0, 3.0, 0.9]), np.array([2.0, 2.0, 1.1]))
    False
    """
    gain = than - losses
    return bool(gain.mean() > 2 * gain.std() / np.sqrt(len(gain)))


def likelihoods(losses: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return how likely each of some models is: (n_models,) float64, of sum 1.

    The posterior of equal priors: the log-likelihood of a model is minus the sum of its
    losses. A few lists hardly tell models apart; of many, one model is left.

    Parameters
    ----------
    losses : sequence of ndarray of shape (n_lists,), float64
        Negative log-likelihood of each list, an array a model.

    Examples
    --------
    >>> likelihoods([np.array([0.1, 0.2]), np.array([0.3, 0.2])]).round(2).tolist()
    [0.55, 0.45]
    """
    total = np.sum(losses, axis=1)
    likely = np.exp(total.min() - total)
    return likely / likely.sum()


@repeatable
def cosine_start(
    training: Training, validation: Validation | None, *, frozen: bool = False
) -> FittedHead:
    """Fit the log-odds of the cosine alone, where the features know it: a head's start.

    On validation where there is one. Its pairs are as those to come, where training
    pairs may flatter the cosine, by a projection fitted on them, or be chosen to fool
    it: where all non-matches are hard, training says that the cosine knows nothing.
    """
    X, label, weight, _ = validation or training
    if not hasattr(X, "cosine"):
        return FittedHead()
    curve = fit_calibration(cosine_of(X, frozen=frozen), label, weight)
    slope, intercept = map(np.float64, curve[:2])
    return FittedHead(None, slope, intercept, frozen)


def refuse_lost(head: Any, loss: float) -> None:
    """Raise DataError where the best validation loss of a head is no finite number."""
    if not np.isfinite(loss):
        msg = (
            f"{type(head).__name__} found nothing to keep: its validation loss is not "
            "a finite number at any step; look for vectors that are not finite or far "
            "too large, or give smaller steps"
        )
        raise DataError(msg)


class PairHead(ClassifierMixin, BaseEstimator):
    """Base of the built-in heads: two classes, one score.

    A subclass learns in ``learn(training, validation)``, and keeps what it learned as
    numbers that score without it.

    Attributes
    ----------
    fitted_ : FittedHead
        What was learned.
    """

    classes_ = np.array([0, 1])

    def fit(
        self,
        X: Any,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        query: NDArray[np.int64] | None = None,
        validation: Validation | None = None,
    ) -> Self:
        """Fit on the training pairs; validation chooses.

        If the features of all pairs take more than 256 MiB, as many are drawn as fit.

        Parameters
        ----------
        X : array-like or PairFeatures of shape (n_pairs, n_features)
        y : array-like of shape (n_pairs,)
            1 (or True) for a match, 0 for none.
        sample_weight : array-like of shape (n_pairs,) or None
        query : ndarray of shape (n_pairs,), int64, or None
            Ranking list of each pair; a ranking head needs it.
        validation : Validation or None
        """
        label, weight = labels_of(y, len(X)), weights_of(sample_weight, len(X))
        self.seed_ = seed_of(getattr(self, "random_state", 0))
        self.learn(Training(X, label, weight, query), validation)
        return self

    def learn(self, training: Training, validation: Validation | None) -> None:
        """Set what `fit` is to learn."""
        raise NotImplementedError

    def decision_function(self, X: Any) -> NDArray[np.floating]:
        """Return a score a pair: (n_pairs,), larger for a likelier match."""
        return self.fitted_.decision_function(X)

    def predict(self, X: Any) -> NDArray[np.int64]:
        """Return 1 where the score is positive: (n_pairs,) int64."""
        return (self.decision_function(X) > 0).astype(np.int64)


MOST_BYTES = 2**28
"""Of features that a head holds at once, in the form in which it holds them."""


def fits_memory(training: Training, *, value_bytes: int = 4) -> bool:
    """Tell whether 256 MiB hold the features."""
    return value_bytes * int(np.prod(training.features.shape)) <= MOST_BYTES


def within_memory(
    training: Training, *, value_bytes: int = 4, seed: int | None = 0
) -> Training:
    """Return the training set, or as many of its pairs as 256 MiB hold.

    Ranking lists stay whole and in order.

    Parameters
    ----------
    training : Training
    value_bytes : int, default=4
        What a feature takes in the head: 4 for float32, 1 for a bin.
    seed : int or None, default=0
        Of the draw.

    Examples
    --------
    >>> training = Training(np.zeros((6, 2)), np.arange(6), np.ones(6), np.arange(6))
    >>> within_memory(training) is training
    True
    """
    if fits_memory(training, value_bytes=value_bytes):
        return training
    n_pairs, n_features = training.features.shape
    most = max(1, MOST_BYTES // (value_bytes * n_features))
    rng = np.random.default_rng(seed)
    if training.query is None:
        return training.take(np.sort(rng.choice(n_pairs, most, replace=False)))
    _, of, sizes = np.unique(training.query, return_inverse=True, return_counts=True)
    order = rng.permutation(len(sizes))
    n_lists = max(1, int(np.searchsorted(sizes[order].cumsum(), most, side="right")))
    return training.take(np.flatnonzero(np.isin(of, order[:n_lists])))


class CosineHead(PairHead):
    """Cosine of the two vectors; nothing is learned, and no merge is read.

    With the merge ``similarity``, as the head ``cosine-norm``, the score is the column
    that :class:`tllboost.references.References` name as their ``baseline``.

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
