"""Two vectors, a merge, a head, a calibrated probability: the whole idea.

An image is a vector, by a vectorizer, and perhaps another, by a learned projection. A
merge makes one feature row of two vectors, a head gives the row a score, larger for a
likelier match, and a curve that was fitted on validation pairs turns the score into a
probability. A cell is one choice of all these, fitted; several cells together agree on
the weighted mean of their log-odds.

Scoring needs numpy alone. Fitting imports what the head learns with.
"""

from __future__ import annotations

import copy
import inspect
from collections import ChainMap
from collections.abc import Iterable, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from os import PathLike
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from tllboost.calibration import (
    Calibration,
    Share,
    best_threshold,
    check_share,
    fit_calibration,
    logit,
)
from tllboost.errors import DataError, UsageError
from tllboost.heads import READS, make_head
from tllboost.heads.bilinear import Bilinear, bilinear
from tllboost.heads.fitted import head_score
from tllboost.merges import SIMILARITY, MergeFunction, PairFeatures, merge_names
from tllboost.pairs import CandidateTable, PairTable, pairs_from_paths
from tllboost.projections import CROSSFIT, NONE
from tllboost.references import (
    BASELINES,
    LEAST,
    MIRRORED,
    ROOTED,
    SIMILARITIES,
    References,
)
from tllboost.splits import PairSet
from tllboost.vectorizing import vectorize_many

if TYPE_CHECKING:
    from tllboost.projections.base import Projection
    from tllboost.vectorizers import Vectorizer


SHORT_FORM = """\
probability  {probability:.4f}
decision     {decision}
threshold    {threshold:.4f}
prior        {prior:.4g}
score        {score:.6g}
"""
"""What a terminal is told of a pair."""

Indices = NDArray[np.int64]
Vectors = NDArray[np.float32]


@dataclass(eq=False)
class PairScorer:
    """Score pairs of vectors: merge, head, calibration and threshold.

    Parameters
    ----------
    merge : str or callable, default="dot"
        See :func:`tllboost.merges.merge_pairs`. The head ``cosine-norm`` reads
        ``similarity`` whatever it is.
    head : str or estimator, default="logistic"
        See :func:`tllboost.heads.make_head`.
    seed : int, default=0
    n_threads : int or None, default=None
    references : References or None, default=None
        What the merge ``similarity`` compares with.

    Attributes
    ----------
    head_ : PairHead or FittedHead or estimator
        The head, fitted; of a bundle, what it had learned.
    calibration_ : Calibration
        Curve from score to probability, fitted on validation.
    threshold_ : float
        Score at and above which a pair is called a match, chosen on validation.

    Examples
    --------
    >>> from tllboost.splits import Protocol, SplitTable, make_splits, match_components
    >>> rng = np.random.default_rng(0)
    >>> vectors = np.tile(rng.normal(size=(40, 8)), (2, 1)).astype(np.float32)
    >>> left, right = np.arange(40), np.arange(40, 80)
    >>> component = match_components(80, left, right)
    >>> table = SplitTable(left, right, np.ones(40), component)
    >>> (split,) = make_splits(table, protocol=Protocol(n_distractors=3), seed=0)
    >>> scorer = PairScorer(head="cosine")
    >>> train = scorer.features(vectors, split.train)
    >>> validation = scorer.features(vectors, split.validation)
    >>> _ = scorer.fit(train, split.train, validation, split.validation)
    >>> bool(scorer.probability(scorer.score(validation)).max() > 0.9)
    True
    """

    merge: str | MergeFunction = "dot"
    head: Any = "logistic"
    _: KW_ONLY
    seed: int = 0
    n_threads: int | None = None
    references: References | None = None

    def __post_init__(self) -> None:
        if isinstance(self.head, str) and READS.get(self.head) == SIMILARITY:
            self.merge = SIMILARITY

    def compare_with(self, vectors: Vectors, train: PairSet, *layout: Any) -> None:
        """Draw references from the images of a training set, if the merge needs any.

        `layout` is `widths` and `n_maps` of
        :meth:`~tllboost.references.References.drawn`.
        """
        if SIMILARITY in merge_names(self.merge):
            images = np.union1d(train.left, train.right)
            self.references = References.drawn(vectors, images, *layout, seed=self.seed)

    def features(self, vectors: Vectors, pairs: PairSet, **how: Any) -> PairFeatures:
        """Return the lazy feature matrix of some pairs.

        Where `vectors` are projected, `how` names those before as `frozen`, and as
        `joined` the layers of the network that was trained along, if one was.
        """
        sides = pairs.left, pairs.right
        how["references"] = self.references
        return PairFeatures(vectors, *sides, self.merge, **how)

    def fit(
        self,
        features: PairFeatures,
        train: PairSet,
        validation_features: PairFeatures,
        validation: PairSet,
        *,
        is_weighted: bool = False,
        is_fresh: bool = False,
    ) -> PairScorer:
        """Fit the head on `train`; calibrate and set the threshold on `validation`.

        A head of somebody else's counts all pairs alike, unless the user gave weights:
        `is_weighted` says so. `is_fresh` says that nothing was fitted on the training
        pairs, and none was chosen by its cosine: then they choose the baseline, too.

        Raises
        ------
        DataError
            If a set has one class only, or features or scores are not finite.
        """
        sets = (train, features), (validation, validation_features)
        for name, (pairs, rows) in zip(("training", "validation"), sets, strict=True):
            if not 0 < np.count_nonzero(pairs.label) < len(pairs):
                msg = f"the {name} set has matches only, or none: give two classes"
                raise DataError(msg)
            # A few rows at a time: they stay in the cache.
            if not all(np.isfinite(block).all() for block in rows.blocks(256)):
                msg = (
                    f"the {name} set has features that are not finite numbers: the "
                    "vectors of some images are not, or are far too large"
                )
                raise DataError(msg)
        from tllboost.heads.base import PairHead, Validation

        chooser = Validation(
            validation_features, validation.label, validation.weight, validation.query
        ).take(validation.weight > 0)
        if self.references is not None:
            # Where images differ in little, whitening takes away what tells them apart.
            # A few lists of validation can hardly tell whether, so training helps.
            more = Validation(features, train.label, train.weight, train.query)
            asked = [chooser, more] if is_fresh else [chooser]
            told = [
                np.hstack([s.losses(s.features.similarities[:, at]) for s in asked])
                for at in BASELINES
            ]
            best = BASELINES[int(np.argmin(np.mean(told, axis=1)))]
            self.references.baseline = np.array([best], np.int32)
        self.head_ = head = make_head(
            self.head, seed=self.seed, n_threads=self.n_threads
        )
        # A head of somebody else's gets features and labels as they are, so that it
        # runs at its own defaults; a ranker also gets the lists.
        if isinstance(head, PairHead):
            how: dict[str, Any] = {"sample_weight": train.weight, "query": train.query}
            head.fit(features, train.label, validation=chooser, **how)
        else:
            how = {"sample_weight": train.weight} if is_weighted else {}
            if "qid" in inspect.signature(head.fit).parameters:
                how["qid"] = train.query
            head.fit(np.asarray(features), train.label, **how)
        score = self.score(chooser.features)
        self.calibration_ = fit_calibration(score, chooser.label, chooser.weight)
        self.threshold_ = best_threshold(score, chooser.label, chooser.weight)
        return self

    @property
    def fitted(self) -> Any:
        """What the head learned; a head of somebody else's, itself."""
        return getattr(self.head_, "fitted_", self.head_)

    def score(self, features: PairFeatures) -> NDArray[np.float64]:
        """Return the head's score of each pair: (n_pairs,) float64.

        Raises
        ------
        DataError
            If a score is not a finite number.
        """
        score = head_score(self.fitted, features)
        if n_bad := np.count_nonzero(~np.isfinite(score)):
            msg = f"head {self.head!r} gave {n_bad} scores that are not finite numbers"
            raise DataError(msg)
        return score

    def probability(self, score: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the calibrated probability of a match: (n_pairs,) in [0, 1].

        Of a match where ``calibration_.prior`` of the pairs match, as by the weights
        on the validation set: 1 in 2 where the non-matches were drawn.
        """
        return self.calibration_.probability(score)


@dataclass(frozen=True, eq=False)
class FittedCell:
    """One cell of the grid, fitted.

    Parameters
    ----------
    vectorizer : Vectorizer
    projection : Projection or None
        Fitted; None leaves the vectors as they are.
    scorer : PairScorer
        Fitted on projected vectors, with its calibration and threshold.
    weight : float, default=1.0
        Of its log-odds, where those of several cells are averaged.

    Examples
    --------
    >>> from tllboost.heads.base import CosineHead
    >>> scorer = PairScorer("dot", "cosine")
    >>> scorer.head_ = CosineHead()
    >>> cell = FittedCell(None, None, scorer)
    >>> vectors = np.float32([[3, 4], [6, 8], [-4, 3]])
    >>> cell.score(vectors, np.array([0, 0]), np.array([1, 2])).round(6).tolist()
    [1.0, 0.0]
    """

    vectorizer: Vectorizer
    projection: Projection | None
    scorer: PairScorer
    weight: float = 1.0

    @property
    def projection_spec(self) -> str:
        """The projection as ``-p`` takes it."""
        return NONE if self.projection is None else self.projection.spec

    @property
    def name(self) -> str:
        """What results name it: vectorizer × projection × merge × head."""
        merge = getattr(self.scorer.merge, "__name__", self.scorer.merge)
        parts = self.vectorizer.label, self.projection_spec, merge, self.scorer.head
        return " × ".join(map(str, parts))

    def features(
        self,
        vectors: Vectors,
        left: Indices,
        right: Indices,
        *,
        projected: Vectors | None = None,
        statistics: Vectors | None = None,
    ) -> PairFeatures:
        """Return the feature rows that the head sees.

        Parameters
        ----------
        vectors : ndarray of shape (n_images, n_dims), float32
            As the vectorizer gave them.
        left, right : ndarray of shape (n_pairs,), int64
            Rows of `vectors`; each row that occurs is projected once.
        projected : ndarray of shape (n_images, n_components), float32, or None
            What :meth:`project` makes of them, where it is known.
        statistics : ndarray of shape (n_images, n_slices, ...), float32, or None
            What the references say of these, where it is known.

        Raises
        ------
        UsageError
            If the vectors are not as wide as those that the cell was fitted on.
        """
        frozen = None
        if self.projection is not None:
            n_dims = getattr(self.projection, "n_dims_in_", vectors.shape[1])
            if n_dims != vectors.shape[1]:
                msg = (
                    f"projection {self.projection_spec!r} wants vectors of {n_dims} "
                    f"numbers, these have {vectors.shape[1]}"
                )
                raise UsageError(msg)
            if projected is None:
                pairs = np.stack([left, right])
                rows, codes = np.unique(pairs, return_inverse=True)
                left, right = codes.reshape(pairs.shape)
                vectors = vectors[rows]
                projected = self.projection.transform(vectors)
            frozen, vectors = vectors, projected
        scorer = self.scorer
        features = PairFeatures(
            *(vectors, left, right, scorer.merge),
            frozen=frozen,
            references=scorer.references,
            statistics=statistics,
        )
        n_features = getattr(scorer.fitted, "n_features_in_", None)
        if n_features not in (None, features.shape[1]):
            msg = (
                f"the head wants {n_features} features, pairs have "
                f"{features.shape[1]}: give vectors as it was fitted on"
            )
            raise UsageError(msg)
        return features

    def score(
        self, vectors: Vectors, left: Indices, right: Indices, **known: Any
    ) -> NDArray[np.float64]:
        """Return the head's score of each pair: (n_pairs,) float64.

        What is `known` of the vectors is as in :meth:`features`.

        Raises
        ------
        DataError
            If a score is not a finite number.
        """
        return self.scorer.score(self.features(vectors, left, right, **known))

    def project(self, vectors: Vectors) -> Vectors:
        """Return the vectors that are merged: (n_images, n_components) float32."""
        if self.projection is None:
            return vectors
        projected: Vectors = self.projection.transform(vectors)
        return projected

    def bilinear(self, n_dims: int) -> Bilinear | None:
        """Return the score of two projected vectors as a product, if it is one.

        Of vectors of `n_dims` numbers; a head of somebody else's is none.
        """
        return bilinear(self.scorer.merge, self.scorer.fitted, n_dims=n_dims)

    def log_odds(
        self, vectors: Vectors, left: Indices, right: Indices
    ) -> NDArray[np.float64]:
        """Return the calibrated log-odds of a match: (n_pairs,) float64."""
        return self.scorer.calibration_.log_odds(self.score(vectors, left, right))


def similarity_names(vectorizer: Vectorizer, projection: str) -> list[str]:
    """Name the features of the merge ``similarity``: which, and of what.

    Examples
    --------
    >>> from tllboost.vectorizers import make_vectorizer
    >>> similarity_names(make_vectorizer("classic"), "infonce")[:2]
    ['cosine, classic by infonce', 'S-norm, classic by infonce']
    """
    parts, whole = getattr(vectorizer, "parts", [vectorizer]), vectorizer.label
    every = [one for part in parts for one in part.blocks.items()]
    blocks, beside = [name for name, _ in every], list[str]()
    for name, block in every:
        beside += [f"{ROOTED}, {name}", *[f"{MIRRORED} {name}"] * (block.side > 1)]
    slices = [whole, *(blocks if len(blocks) > 1 else ())]
    if projection != NONE:
        labels = [whole, *(part.label for part in parts if len(parts) > 1)]
        mapped = [f"{one} by {projection}" for one in labels]
        is_beside = projection.startswith(CROSSFIT)
        slices = ["all", *blocks, *mapped] if is_beside else mapped[:1]
        beside = beside if is_beside else []
    numbers = [f"{kind}, {one}" for one in slices for kind in SIMILARITIES]
    return numbers + beside


def combined_score(
    cells: Sequence[FittedCell], scores: Sequence[NDArray[np.floating]]
) -> NDArray[np.float64]:
    """Return one score of each pair from those of several cells.

    Several agree on the weighted mean of their calibrated log-odds, which have one
    scale whatever the heads; one alone keeps the score that its head gave.

    Parameters
    ----------
    cells : sequence of FittedCell, length n_cells
    scores : sequence of ndarray of shape (n_pairs,)
        What :meth:`FittedCell.score` of each gave.

    Returns
    -------
    ndarray of shape (n_pairs,), float64
    """
    pairs = list(zip(cells, scores, strict=True))
    if len(pairs) == 1:
        return np.asarray(pairs[0][1], dtype=np.float64)
    calibrated = [cell.scorer.calibration_.log_odds(score) for cell, score in pairs]
    return np.average(calibrated, axis=0, weights=[cell.weight for cell in cells])


def joint_score(
    cells: Sequence[FittedCell],
    vectors: Sequence[Vectors],
    left: Indices,
    right: Indices,
) -> NDArray[np.float64]:
    """Return the score of each pair by one cell, or by several together.

    Parameters
    ----------
    cells : sequence of FittedCell, length n_cells
    vectors : sequence of ndarray of shape (n_images, n_dims of the cell), float32
        For each cell, what its vectorizer gave.
    left, right : ndarray of shape (n_pairs,), int64

    Returns
    -------
    ndarray of shape (n_pairs,), float64
        See :func:`combined_score`.
    """
    scores = [
        cell.score(block, left, right)
        for cell, block in zip(cells, vectors, strict=True)
    ]
    return combined_score(cells, scores)


@dataclass(frozen=True, eq=False)
class Scores:
    """What became of some pairs.

    Attributes
    ----------
    score : ndarray of float64
        Larger for a likelier match; NaN where an image failed.
    probability : ndarray of float64
        Calibrated probability of a match; NaN likewise.
    is_match : ndarray of bool
        Whether the score reaches the threshold.
    failures : dict of str to str
        Why an image failed, by its path or id.
    reasons : ndarray of object
        Of each pair that failed, one of its images and why; else empty.
    prior : float
        Share of matches that the probabilities are for.
    """

    score: NDArray[np.float64]
    probability: NDArray[np.float64]
    is_match: NDArray[np.bool_]
    failures: dict[str, str]
    reasons: NDArray[np.object_]
    prior: float

    def rows(self, names: Iterable[Sequence[str]]) -> list[dict[str, Any]]:
        """Return a row a pair, of these left and right names.

        ``left``, ``right``, ``probability``, ``decision``, ``score``, ``prior``, and
        ``error`` where an image failed.
        """
        rows: list[dict[str, Any]] = []
        for index, (left, right) in enumerate(names):
            row: dict[str, Any] = {"left": left, "right": right}
            if self.reasons[index]:
                row |= {"probability": None, "decision": "error", "score": None}
                row["error"] = str(self.reasons[index])
            else:
                row["probability"] = float(self.probability[index])
                row["decision"] = "match" if self.is_match[index] else "no match"
                row["score"] = float(self.score[index])
            rows.append(row | {"prior": self.prior})
        return rows


class Scorer:
    """Fitted cells that score pairs together: one alone, or an ensemble.

    What a bundle holds; :class:`~tllboost.classifier.PairClassifier` is the same for
    scikit-learn.

    Parameters
    ----------
    cells : sequence of FittedCell
        At least one.
    calibration : Calibration or None, default=None
        Curve from score to probability. None takes that of a single cell, and the mean
        log-odds of several as they are.
    threshold : float or None, default=None
        Score at and above which a pair is called a match. None takes that of a single
        cell, and even odds for several.
    store : path-like or None, default=None
        Folder of the vector store.

    Attributes
    ----------
    refitted_ : int or None
        On how many pairs it was fitted again, after it was measured, where a grid did
        so: all that the grid had.
    """

    def __init__(
        self,
        cells: Sequence[FittedCell],
        *,
        calibration: Calibration | None = None,
        threshold: float | None = None,
        store: str | PathLike[str] | None = None,
    ) -> None:
        scorer, alone = cells[0].scorer, len(cells) == 1
        if calibration is None:
            calibration = scorer.calibration_ if alone else _mean_curve(cells)
        if threshold is None:
            threshold = scorer.threshold_ if alone else 0.0
        self.cells_: tuple[FittedCell, ...] = tuple(cells)
        self.calibration_ = calibration
        self.threshold_ = float(threshold)
        self.limit_: float | None = None
        self.refitted_: int | None = None
        self.store = store

    @property
    def limit(self) -> float:
        """The threshold as a probability."""
        if self.limit_ is not None:  # it may be one that no score has
            return self.limit_
        return float(self.calibration_.probability(np.array(self.threshold_)))

    def at(self, prior: Share | None = None, *, threshold: Share | None = None) -> Self:
        """Return the same for another share of matches, or with another threshold.

        Parameters
        ----------
        prior : float, str or None, default=None
            Share of the pairs that match, between 0 and 1, as 0.05 or "1/20": what
            probabilities are for. None leaves ``calibration_.prior``.
        threshold : float, str or None, default=None
            Probability at and above which a pair is called a match. None is 0.5 with a
            prior; without, ``threshold_`` stays.

        Returns
        -------
        Scorer
            A copy, of the same class, of the same cells; scores are the same.

        Raises
        ------
        UsageError
            If one of them is not between 0 and 1.

        See Also
        --------
        tllboost.calibration.one_match_of : The prior of a list that holds one match.
        """
        other = copy.copy(self)
        if prior is not None:
            other.calibration_ = self.calibration_.at(prior)
            threshold = 0.5 if threshold is None else threshold
        if threshold is not None:
            other.limit_ = check_share(threshold, "threshold")
            other.threshold_ = other.calibration_.score_of(other.limit_)
        return other

    def among(self, vectors: Sequence[Vectors]) -> Self:
        """Return the same with references drawn from other images, as of a folder.

        The references of a bundle say little of images of another kind; the images that
        are searched are always of their own (``results/similarity``).

        Parameters
        ----------
        vectors : sequence of ndarray of shape (n_images, n_dims of the cell), float32
            For each cell, what its vectorizer gave.

        Raises
        ------
        UsageError
            If no cell has references, or there are too few images to compare with.
        """
        if all(cell.scorer.references is None for cell in self.cells_):
            msg = "own references have no effect: no cell reads normalised similarities"
            raise UsageError(msg)
        if len(vectors[0]) < LEAST:
            msg = (
                f"{len(vectors[0])} images are too few as references: {LEAST} at least"
            )
            raise UsageError(msg)
        other, cells = copy.copy(self), []
        for cell, block in zip(self.cells_, vectors, strict=True):
            scorer = copy.copy(cell.scorer)
            if (known := scorer.references) is not None:
                every, projected = np.arange(len(block)), cell.project(block)
                drawn = References.drawn(projected, every, *known.layout, seed=0)
                scorer.references = replace(drawn, baseline=known.baseline)
            cells.append(replace(cell, scorer=scorer))
        other.cells_ = tuple(cells)
        return other

    def vectors_of(
        self,
        paths: Sequence[str | PathLike[str] | None],
        ids: Sequence[str],
        **options: Any,
    ) -> tuple[list[Vectors], dict[int, str]]:
        """Vectorize images for every cell, what cells share only once.

        Parameters
        ----------
        paths, ids
            As in :func:`~tllboost.vectorizing.vectorize`.
        **options
            Likewise; where no ``store`` is given it is the scorer's own.

        Returns
        -------
        vectors : list of ndarray of shape (n_images, n_dims of the cell), float32
        failures : dict of int to str
            Index of each image that any of them could not vectorize, and why.
        """
        vectorizers = [cell.vectorizer for cell in self.cells_]
        how = {"ids": ids, "store": self.store, **options}
        results = vectorize_many(vectorizers, paths, **how)
        failures = ChainMap(*(result.failures for result in results))
        return [result.vectors for result in results], dict(sorted(failures.items()))

    def score_table(
        self,
        table: PairTable | CandidateTable,
        left: Indices,
        right: Indices,
        **options: Any,
    ) -> Scores:
        """Score pairs of the images in a table.

        Parameters
        ----------
        table : PairTable or CandidateTable
            Knows the images.
        left, right : ndarray of shape (n_pairs,), int64
            Its images that form the pairs.
        **options
            ``progress`` and ``strict``, as in :func:`~tllboost.vectorizing.vectorize`.

        Returns
        -------
        Scores
            Arrays of shape (n_pairs,). An image that fails takes no other pair with it.

        Raises
        ------
        ImageError
            If an image fails and `strict` is set.
        """
        vectors, failed = self.vectors_of(table.paths, table.ids, **options)
        names = {index: str(table.paths[index] or table.ids[index]) for index in failed}
        told = np.full(len(table.ids), "", dtype=object)
        for index, reason in failed.items():
            told[index] = f"{names[index]}: {reason}"
        reasons = np.where(told[left] != "", told[left], told[right])
        good = reasons == ""
        score = np.full(len(left), np.nan)
        if good.any():
            score[good] = joint_score(self.cells_, vectors, left[good], right[good])
        return Scores(
            score=score,
            probability=self.calibration_.probability(score),
            is_match=score >= self.threshold_,
            failures={names[index]: why for index, why in failed.items()},
            reasons=reasons,
            prior=self.calibration_.prior,
        )


def _mean_curve(cells: Sequence[FittedCell]) -> Calibration:
    """Return the curve of mean log-odds, whose odds of the prior are a mean too."""
    odds = np.average(
        [logit(cell.scorer.calibration_.prior) for cell in cells],
        weights=[cell.weight for cell in cells],
    )
    return Calibration(1.0, 0.0, prior=float(1 / (1 + np.exp(-odds))))


def score_pair(
    classifier: Scorer, left: str | PathLike[str], right: str | PathLike[str]
) -> dict[str, Any]:
    """Score two images.

    Returns
    -------
    dict
        ``left``, ``right``, ``probability``, ``decision``, ``score``, ``prior``,
        ``threshold`` (a probability).

    Raises
    ------
    ImageError
        If one of them can't be read.
    """
    table = pairs_from_paths([[left, right]])
    scores = classifier.score_table(table, table.left, table.right, strict=True)
    (row,) = scores.rows([(str(left), str(right))])
    return {**row, "threshold": classifier.limit}


def score_candidates(
    classifier: Scorer, table: CandidateTable, **options: Any
) -> tuple[list[list[str]], dict[str, str]]:
    """Score every candidate of every query, in the challenge's submission form.

    Parameters
    ----------
    classifier : PairClassifier or Scorer
    table : CandidateTable
    **options
        As in :meth:`Scorer.score_table`, which says what is raised too.

    Returns
    -------
    rows : list of list of str
        The header ``left, c0, c1, …``, then a row a query: its id as it was written,
        and a score a candidate; empty where an image failed.
    failures : dict of str to str
        Those images, and why.
    """
    shape = table.candidates.shape
    query = np.repeat(table.query, shape[1])
    scores = classifier.score_table(table, query, table.candidates.ravel(), **options)
    body = [
        [ids[0], *("" if np.isnan(one) else repr(float(one)) for one in row)]
        for ids, row in zip(table.rows, scores.score.reshape(shape), strict=True)
    ]
    return [list(table.header), *body], scores.failures
