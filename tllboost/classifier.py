"""PairClassifier: pictures in, match or no match out, in scikit-learn's manners."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from tllboost.errors import UsageError
from tllboost.fitted import FittedCell, cross_score, joint_score, vectors_of_cells
from tllboost.labelled import raise_first, vectorize_labelled
from tllboost.merges import MergeFunction
from tllboost.pairs import PairTable, pairs_from_paths
from tllboost.projections import make_projection
from tllboost.projections.base import Projection
from tllboost.scorer import PairScorer
from tllboost.splits import PairSet
from tllboost.vectorizers import make_vectorizer

__all__ = ["PairClassifier"]

ImagePath = str | PathLike[str]


class PairClassifier(ClassifierMixin, BaseEstimator):
    """Tell whether two pictures look alike.

    Each picture is vectorized once, a projection may map the vectors to better ones,
    two vectors are merged to a feature row, and a head scores the row. A part of the
    training pairs is held out, whole components at a time, to stop the projection, to
    choose the head's settings, the calibration and the threshold.

    Parameters
    ----------
    vectorizer : str or Vectorizer, default="pocket"
        A name as on the command line (``tllboost list vectorizers``), or an object.
    projection : str or Projection, default="none"
        A name as on the command line (``tllboost list projections``), or an object, of
        which a copy is fitted.
    merge : str or callable, default="dot"
        See :func:`tllboost.merges.merge_pairs`.
    head : str or estimator, default="logistic"
        See :func:`tllboost.heads.make_head`.
    store : path-like or None, default=None
        Folder of the vector store; None keeps no vectors, and computes them at every
        call anew.
    n_negatives : int or None, default=None
        Non-matches drawn for each training match, beside those given. None draws 5
        where `y` has matches only, else none.
    n_hard : int, default=0
        How many of the drawn ones are the hardest: the wrong candidates nearest by the
        cosine of the vectors, see :func:`tllboost.splits.harden`.
    validation_fraction : float, default=0.15
        Share of the matches held out.
    device : str, default="auto"
        Where networks run.
    n_jobs : int or None, default=None
        Threads of the projection and of the head.
    random_state : int, default=0
        Decides what is held out, drawn, and the chances of projection and head.

    Attributes
    ----------
    cells_ : tuple of FittedCell
        The fitted vectorizer, projection, merge and head: one, unless
        :func:`~tllboost.ensemble.ensemble` put several together.
    calibration_ : Calibration
        Curve from score to probability.
    threshold_ : float
        Score at and above which a pair is called a match.
    classes_ : ndarray of shape (2,)
        0 and 1.

    Examples
    --------
    >>> import tempfile
    >>> from tllboost.scenes import make_scenes
    >>> folder = make_scenes(tempfile.mkdtemp(), n_scenes=12, n_views=2).parent
    >>> X = [[folder / f"scene_{i:04d}_{v}.jpg" for v in (0, 1)] for i in range(1, 13)]
    >>> model = PairClassifier("classic", head="cosine", validation_fraction=0.3)
    >>> probability = model.fit(X, [1] * 12).predict_proba(X[:1])[0, 1]
    >>> bool(probability > 0.5)
    True
    """

    def __init__(
        self,
        vectorizer: Any = "pocket",
        *,
        projection: str | Projection = "none",
        merge: str | MergeFunction = "dot",
        head: Any = "logistic",
        store: ImagePath | None = None,
        n_negatives: int | None = None,
        n_hard: int = 0,
        validation_fraction: float = 0.15,
        device: str = "auto",
        n_jobs: int | None = None,
        random_state: int = 0,
    ) -> None:
        self.vectorizer = vectorizer
        self.projection = projection
        self.merge = merge
        self.head = head
        self.store = store
        self.n_negatives = n_negatives
        self.n_hard = n_hard
        self.validation_fraction = validation_fraction
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> PairClassifier:
        """Fit on labelled pairs of pictures.

        Parameters
        ----------
        X : array-like of shape (n_pairs, 2)
            Paths of the left and of the right picture.
        y : array-like of shape (n_pairs,) or None, default=None
            1 for a match, 0 for none; None says that all are matches.

        Raises
        ------
        ImageError
            If a picture can't be read.
        DataError
            If there are too few pairs to hold a part out.
        """
        vectorizer = make_vectorizer(self.vectorizer, device=self.device)
        data = vectorize_labelled(
            vectorizer,
            X,
            y,
            store=self.store,
            n_negatives=self.n_negatives,
            n_hard=self.n_hard,
            validation_fraction=self.validation_fraction,
            seed=self.random_state,
        )
        cell = self._fit_cell(vectorizer, *data)
        self.cells_: tuple[FittedCell, ...] = (cell,)
        self.calibration_ = cell.scorer.calibration_
        self.threshold_ = cell.scorer.threshold_
        self.classes_ = np.array([0, 1])
        return self

    def _fit_cell(
        self,
        vectorizer: Any,
        vectors: NDArray[np.float32],
        train: PairSet,
        validation: PairSet,
    ) -> FittedCell:
        """Fit the projection, then merge and head on what it makes of the vectors."""
        projection = self._new_projection()
        projected = vectors
        if projection is not None:
            projection.fit(vectors, train, validation)
            projected = projection.transform(vectors)
        joined = getattr(projection, "joined_", None)
        scorer = PairScorer(
            self.merge, self.head, seed=self.random_state, n_threads=self.n_jobs
        )
        scorer.fit(
            scorer.features(projected, train, frozen=vectors, joined=joined),
            train,
            scorer.features(projected, validation, frozen=vectors),
            validation,
        )
        return FittedCell(vectorizer, projection, scorer)

    def _new_projection(self) -> Projection | None:
        return make_projection(
            self.projection,
            seed=self.random_state,
            device=self.device,
            n_threads=self.n_jobs,
        )

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return score minus threshold: (n_pairs,) float64, a match at 0 and above."""
        return self._score(X) - self.threshold_

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """Return 1 for a match at the validation-chosen threshold: (n_pairs,) int64."""
        return (self.decision_function(X) >= 0).astype(np.int64)

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return calibrated probabilities (n_pairs, 2), float64: no match, match."""
        probability = self.calibration_.probability(self._score(X))
        return np.column_stack([1 - probability, probability])

    def rank(
        self, query: ImagePath, candidates: Sequence[ImagePath]
    ) -> list[tuple[ImagePath, float]]:
        """Order candidates by how much they look like the query, best first.

        Parameters
        ----------
        query : path-like
            The left picture.
        candidates : sequence of path-like, length n_candidates
            The right pictures.

        Returns
        -------
        list of (path-like, float)
            Each candidate with its probability of a match.
        """
        check_is_fitted(self, "cells_")
        if not len(candidates):
            msg = "candidates is empty: give at least one picture to rank"
            raise UsageError(msg)
        pairs = np.array([[query, candidate] for candidate in candidates], dtype=object)
        table, vectors = self._vectors(pairs)
        queries = [block[table.left[:1]] for block in vectors]
        score = cross_score(
            self.cells_, queries, [block[table.right] for block in vectors]
        )[0]
        probability = self.calibration_.probability(score)
        order = np.argsort(-score, kind="stable")
        return [(candidates[i], float(probability[i])) for i in order]

    def _score(self, X: ArrayLike) -> NDArray[np.float64]:
        check_is_fitted(self, "cells_")
        table, vectors = self._vectors(X)
        return joint_score(self.cells_, vectors, table.left, table.right)

    def _vectors(self, X: ArrayLike) -> tuple[PairTable, list[NDArray[np.float32]]]:
        """Return the unique pictures of pairs, and their vectors for each cell."""
        table = pairs_from_paths(X)
        vectors, failures = vectors_of_cells(
            self.cells_, table.paths, ids=table.ids, store=self.store
        )
        raise_first(failures, table)
        return table, vectors
