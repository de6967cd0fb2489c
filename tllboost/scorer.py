"""A merge and a head over vectors: fitted on one side, calibrated on another."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tllboost.calibration import best_threshold, fit_calibration
from tllboost.errors import DataError
from tllboost.heads import make_head
from tllboost.heads.base import PairHead, Validation, head_score
from tllboost.merges import Layer, MergeFunction, PairFeatures
from tllboost.splits import PairSet

__all__ = ["PairScorer"]


class PairScorer:
    """Score pairs of vectors: merge, head, calibration and threshold.

    Parameters
    ----------
    merge : str or callable, default="dot"
        See :func:`tllboost.merges.merge_pairs`.
    head : str or estimator, default="logistic"
        See :func:`tllboost.heads.make_head`.
    seed : int, default=0
    n_threads : int or None, default=None

    Attributes
    ----------
    head_ : estimator
        The fitted head.
    calibration_ : Calibration
        Curve from score to probability, fitted on validation.
    threshold_ : float
        Score at and above which a pair is called a match, chosen on validation.

    Examples
    --------
    >>> from tllboost.splits import Protocol, make_splits, match_components
    >>> rng = np.random.default_rng(0)
    >>> vectors = np.tile(rng.normal(size=(40, 8)), (2, 1)).astype(np.float32)
    >>> left, right = np.arange(40), np.arange(40, 80)
    >>> component = match_components(80, left, right)
    >>> (split,) = make_splits(
    ...     left, right, np.ones(40), component, protocol=Protocol(n_others=3), seed=0
    ... )
    >>> scorer = PairScorer(head="cosine")
    >>> train = scorer.features(vectors, split.train)
    >>> validation = scorer.features(vectors, split.validation)
    >>> _ = scorer.fit(train, split.train, validation, split.validation)
    >>> bool(scorer.probability(scorer.score(validation)).max() > 0.9)
    True
    """

    def __init__(
        self,
        merge: str | MergeFunction = "dot",
        head: Any = "logistic",
        *,
        seed: int = 0,
        n_threads: int | None = None,
    ) -> None:
        self.merge = merge
        self.head = head
        self.seed = seed
        self.n_threads = n_threads

    def features(
        self,
        vectors: NDArray[np.float32],
        pairs: PairSet,
        *,
        frozen: NDArray[np.float32] | None = None,
        joined: Sequence[Layer] | None = None,
    ) -> PairFeatures:
        """Return the lazy feature matrix of some pairs.

        Where `vectors` are projected, `frozen` are those before, and `joined` the
        layers of the network that was trained along, if one was.
        """
        return PairFeatures(
            vectors,
            pairs.left,
            pairs.right,
            self.merge,
            frozen=frozen,
            joined=joined,
        )

    def fit(
        self,
        features: PairFeatures,
        train: PairSet,
        validation_features: PairFeatures,
        validation: PairSet,
    ) -> PairScorer:
        """Fit the head on `train`; calibrate and set the threshold on `validation`.

        Raises
        ------
        DataError
            If a side has one class only, or features or scores are not finite.
        """
        sides = (
            ("training", train, features),
            ("validation", validation, validation_features),
        )
        for name, side, rows in sides:
            if not 0 < np.count_nonzero(side.label) < len(side):
                msg = (
                    f"the {name} side has matches only, or none: two classes are needed"
                )
                raise DataError(msg)
            if not all(np.isfinite(block).all() for block in rows.blocks()):
                msg = (
                    f"the {name} side has features that are not finite numbers: the "
                    "vectors of some pictures are not, or are far too large"
                )
                raise DataError(msg)
        counted = validation.weight > 0
        chooser = Validation(
            validation_features.take(counted),
            validation.label[counted],
            validation.weight[counted],
            validation.query[counted],
        )
        self.head_ = make_head(self.head, seed=self.seed, n_threads=self.n_threads)
        _fit_head(self.head_, features, train, chooser)
        score = self.score(chooser.features)
        self.calibration_ = fit_calibration(score, chooser.label, chooser.weight)
        self.threshold_ = best_threshold(score, chooser.label, chooser.weight)
        return self

    def score(self, features: PairFeatures) -> NDArray[np.float64]:
        """Return the head's score of each pair: (n_pairs,) float64.

        Raises
        ------
        DataError
            If a score is not a finite number.
        """
        score = head_score(self.head_, features)
        if not np.isfinite(score).all():
            n_bad = int((~np.isfinite(score)).sum())
            msg = f"head {self.head!r} gave {n_bad} scores that are not finite numbers"
            raise DataError(msg)
        return score

    def probability(self, score: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the calibrated probability of a match: (n_pairs,) in [0, 1].

        Of a match among as many matches as non-matches, as on the validation side.
        """
        return self.calibration_.probability(score)


def _fit_head(
    head: Any, features: PairFeatures, train: PairSet, validation: Validation
) -> None:
    """Fit any head with what its ``fit`` takes.

    A head of somebody else's gets the features and labels as they are, so that it runs
    at its own defaults; a ranker also gets the lists.
    """
    if isinstance(head, PairHead):
        head.fit(
            features,
            train.label,
            sample_weight=train.weight,
            query=train.query,
            validation=validation,
        )
    elif "qid" in inspect.signature(head.fit).parameters:
        head.fit(np.asarray(features), train.label, qid=train.query)
    else:
        head.fit(np.asarray(features), train.label)
