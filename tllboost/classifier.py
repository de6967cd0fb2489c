"""PairClassifier: pictures in, match or no match out, in scikit-learn's manners."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from tllboost.errors import ImageError, UsageError
from tllboost.merges import MergeFunction, PairFeatures
from tllboost.pairs import PairTable, pairs_from_paths
from tllboost.scorer import PairScorer
from tllboost.splits import Protocol, match_components, training_sides
from tllboost.vectorizers import make_vectorizer
from tllboost.vectorizing import vectorize

__all__ = ["PairClassifier"]

ImagePath = str | PathLike[str]


class PairClassifier(ClassifierMixin, BaseEstimator):
    """Tell whether two pictures look alike.

    Each picture is vectorized once, two vectors are merged to a feature row, and a head
    scores the row. A part of the training pairs is held out, whole components at a
    time, to choose the head's settings, the calibration and the threshold.

    Parameters
    ----------
    vectorizer : str or Vectorizer, default="classic"
        A name as on the command line (``tllboost list vectorizers``), or an object.
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
    validation_fraction : float, default=0.15
        Share of the matches held out.
    device : str, default="auto"
        Where networks run.
    n_jobs : int or None, default=None
        Threads of the head.
    random_state : int, default=0
        Decides what is held out, drawn, and the head's own chances.

    Attributes
    ----------
    scorer_ : PairScorer
        The fitted merge, head, calibration and threshold.
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
        vectorizer: Any = "classic",
        *,
        merge: str | MergeFunction = "dot",
        head: Any = "logistic",
        store: ImagePath | None = None,
        n_negatives: int | None = None,
        validation_fraction: float = 0.15,
        device: str = "auto",
        n_jobs: int | None = None,
        random_state: int = 0,
    ) -> None:
        self.vectorizer = vectorizer
        self.merge = merge
        self.head = head
        self.store = store
        self.n_negatives = n_negatives
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
        table = pairs_from_paths(X, y)
        self.vectorizer_ = make_vectorizer(self.vectorizer, device=self.device)
        vectors = self._vectors(table)
        is_match = table.label == 1
        component = match_components(
            table.n_images,
            table.left[is_match],
            table.right[is_match],
            _identical(vectors),
        )
        n_negatives = self.n_negatives
        if n_negatives is None:
            n_negatives = 5 if is_match.all() else 0
        protocol = Protocol(
            n_negatives=n_negatives, validation_fraction=self.validation_fraction
        )
        train, validation = training_sides(
            table.left,
            table.right,
            table.label,
            component,
            protocol=protocol,
            seed=self.random_state,
        )
        scorer = PairScorer(
            self.merge, self.head, seed=self.random_state, n_threads=self.n_jobs
        )
        self.scorer_ = scorer.fit(
            scorer.features(vectors, train),
            train,
            scorer.features(vectors, validation),
            validation,
        )
        self.classes_ = np.array([0, 1])
        return self

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return score minus threshold: (n_pairs,) float64, a match at 0 and above."""
        return self._score(X) - self.scorer_.threshold_

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """Return 1 for a match at the validation-chosen threshold: (n_pairs,) int64."""
        return (self.decision_function(X) >= 0).astype(np.int64)

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return calibrated probabilities (n_pairs, 2), float64: no match, match."""
        probability = self.scorer_.probability(self._score(X))
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
        check_is_fitted(self, "scorer_")
        if not len(candidates):
            msg = "candidates is empty: give at least one picture to rank"
            raise UsageError(msg)
        pairs = np.array([[query, candidate] for candidate in candidates], dtype=object)
        score = self._score(pairs)
        probability = self.scorer_.probability(score)
        order = np.argsort(-score, kind="stable")
        return [(candidates[i], float(probability[i])) for i in order]

    def _score(self, X: ArrayLike) -> NDArray[np.float64]:
        check_is_fitted(self, "scorer_")
        table = pairs_from_paths(X)
        vectors = self._vectors(table)
        merge = self.scorer_.merge
        features = PairFeatures(vectors, table.left, table.right, merge)
        return self.scorer_.score(features)

    def _vectors(self, table: PairTable) -> NDArray[np.float32]:
        result = vectorize(
            self.vectorizer_, table.paths, ids=table.ids, store=self._store()
        )
        for index, reason in sorted(result.failures.items()):
            raise ImageError(table.paths[index] or table.ids[index], reason)
        return result.vectors

    def _store(self) -> Path | None:
        return None if self.store is None else Path(self.store)


def _identical(vectors: NDArray[np.float32]) -> list[tuple[int, int]]:
    """Tie pictures of the same vector: as far as the head can tell, they are one."""
    first: dict[bytes, int] = {}
    ties = [(first.setdefault(row.tobytes(), i), i) for i, row in enumerate(vectors)]
    return [(a, b) for a, b in ties if a != b]
