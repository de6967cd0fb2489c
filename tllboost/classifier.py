"""The estimators of scikit-learn's kind, which are fitted on labelled pairs of paths.

:class:`PairClassifier` tells whether two images match; it is one fitted cell (see
:mod:`tllboost.scoring`), or an :func:`ensemble` of several. :class:`SiameseProjection`
learns a map of a vectorizer's vectors, and is a vectorizer itself.
"""

from __future__ import annotations

import hashlib
import html
from collections.abc import Iterable, Sequence
from dataclasses import KW_ONLY, dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from safetensors.numpy import save
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from tllboost.bundle import read_scorer, save_bundle
from tllboost.calibration import Share, one_match_of
from tllboost.conventions import n_threads_of, seed_of, weights_of
from tllboost.errors import UsageError
from tllboost.merges import MergeFunction
from tllboost.pairs import first_equal, pairs_from_paths
from tllboost.projections import make_projection
from tllboost.projections.base import Projection
from tllboost.rank import rank_images
from tllboost.scoring import FittedCell, PairScorer, Scorer
from tllboost.splits import (
    PairSet,
    Protocol,
    SplitTable,
    harden,
    match_components,
    training_sets,
)
from tllboost.vectorizers import Vectorizer, make_vectorizer
from tllboost.vectorizing import vectorize


def _vectorize_labelled(
    model: PairClassifier | SiameseProjection,
    vectorizer: Vectorizer,
    X: ArrayLike,
    y: ArrayLike | None,
    seed: int,
    sample_weight: ArrayLike | None = None,
) -> tuple[NDArray[np.float32], PairSet, PairSet, Any]:
    """Vectorize the images of labelled pairs and hold out a part of the pairs.

    Returns
    -------
    vectors : ndarray of shape (n_images, n_dims), float32
    train, validation : PairSet
        Pairs of its rows that share no image.
    widths : sequence of sequence of Width
        Of the blocks of a vector, a sequence for each part of a fusion.
    """
    table = pairs_from_paths(X, y)
    weight = weights_of(sample_weight, table.n_pairs)
    found = vectorize(
        vectorizer, table.paths, ids=table.ids, store=model.store, strict=True
    )
    vectors = found.vectors
    is_match = table.label == 1
    n_negatives, n_hard = model.n_negatives, getattr(model, "n_hard", 0)
    if n_negatives is None:
        n_negatives = 5 if is_match.all() else 0
    # Images of the same vector are one, as far as the head can tell.
    same = first_equal(np.array([row.tobytes() for row in vectors], dtype=object))
    ends = table.left[is_match], table.right[is_match]
    component = match_components(table.n_images, *ends, enumerate(same))
    weight = weight / weight.mean()
    pairs = SplitTable(table.left, table.right, table.label, component, weight=weight)
    share = model.validation_fraction
    protocol = Protocol(
        n_negatives=n_negatives, n_hard=n_hard, validation_fraction=share
    )
    train, validation = training_sets(pairs, protocol=protocol, seed=seed)
    return vectors, harden(train, vectors, n_hard), validation, found.widths


ImagePath = str | PathLike[str]


@dataclass(eq=False, repr=False)
class PairClassifier(ClassifierMixin, BaseEstimator, Scorer):
    """Tell whether two images look alike.

    Each image is vectorized once. A projection may then map the vectors. A merge turns
    the two vectors of a pair into a feature row, and a head scores the row. Part of the
    training pairs is held out, by whole components. It decides when to stop the
    projection, and chooses the head's settings, the calibration and the threshold.

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
        Folder of the vector store. None keeps no vectors: each call computes them.
    n_negatives : int or None, default=None
        Non-matches drawn for each training match, in addition to those given. None
        draws 5 if `y` has only matches, else none.
    n_hard : int, default=0
        How many of the drawn ones are hard: those with the highest cosine, see
        :func:`tllboost.splits.harden`.
    validation_fraction : float, default=0.15
        Share of the matches held out.
    device : str, default="auto"
        Where networks run.
    n_jobs : int or None, default=None
        Threads of the projection and of the head; -1 takes all cores.
    random_state : int, RandomState, Generator or None, default=0
        Decides what is held out and drawn, and all other random choices. An int of 0
        or more gives the same results every time.

    Attributes
    ----------
    cells_ : tuple of FittedCell
        The fitted vectorizer, projection, merge and head: one, unless
        :func:`~tllboost.classifier.ensemble` put several together.
    calibration_ : Calibration
        Curve from score to probability; its ``is_flat`` says that the scores of the
        validation set do not tell matches from non-matches.
    threshold_ : float
        Score at and above which a pair is called a match.
    limit_ : float or None
        The same as a probability, if :meth:`at` set it.
    classes_ : ndarray of shape (2,)
        0 and 1.

    Examples
    --------
    >>> import tempfile
    >>> from tllboost.demo import make_scenes
    >>> folder = make_scenes(tempfile.mkdtemp(), n_scenes=12, n_views=2).parent
    >>> X = [[folder / f"scene_{i:04d}_{v}.jpg" for v in (0, 1)] for i in range(1, 13)]
    >>> model = PairClassifier("classic", head="cosine", validation_fraction=0.3)
    >>> probability = model.fit(X, [1] * 12).predict_proba(X[:1])[0, 1]
    >>> bool(probability > 0.5)
    True
    """

    classes_ = np.array([0, 1])

    vectorizer: Any = "pocket"
    _: KW_ONLY
    projection: str | Projection = "none"
    merge: str | MergeFunction = "dot"
    head: Any = "logistic"
    store: ImagePath | None = None
    n_negatives: int | None = None
    n_hard: int = 0
    validation_fraction: float = 0.15
    device: str = "auto"
    n_jobs: int | None = None
    random_state: Any = 0

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> PairClassifier:
        """Fit on labelled pairs of images.

        Parameters
        ----------
        X : array-like of shape (n_pairs, 2)
            Paths of the left and of the right image.
        y : array-like of shape (n_pairs,) or None, default=None
            1 (or True) for a match, 0 for a non-match; None if all are matches.
        sample_weight : array-like of shape (n_pairs,) or None, default=None
            Weight of each pair for the head, the calibration and the threshold. The
            non-matches drawn for a match together weigh as much as the match.

        Raises
        ------
        UsageError
            If an argument is wrong.
        ImageError
            If an image can't be read.
        DataError
            If there are too few pairs to hold a part out.
        """
        vectorizer = make_vectorizer(self.vectorizer, device=self.device)
        seed, n_threads = seed_of(self.random_state), n_threads_of(self.n_jobs)
        vectors, train, validation, widths = _vectorize_labelled(
            self, vectorizer, X, y, seed, sample_weight
        )
        blocks = [width for part in widths for width in part]
        layout: Any = blocks, None
        projection = make_projection(
            self.projection,
            seed=seed,
            device=self.device,
            n_threads=n_threads,
            widths=[sum(x.width for x in part) for part in widths],
        )
        projected, fold = vectors, None
        if projection is not None:
            projection.fit(vectors, train, validation)
            projected, layout = projection.transform(vectors), projection.layout(blocks)
            train, fold = projection.inside(train)
        joined = getattr(projection, "joined_", None)
        scorer = PairScorer(self.merge, self.head, seed=seed, n_threads=n_threads)
        scorer.compare_with(projected, train, *layout)
        scorer.fit(
            scorer.features(projected, train, frozen=vectors, joined=joined, fold=fold),
            train,
            scorer.features(projected, validation, frozen=vectors),
            validation,
            is_weighted=sample_weight is not None,
            is_fresh=projection is None and not self.n_hard,
        )
        cell = FittedCell(vectorizer, projection, scorer)
        Scorer.__init__(self, [cell], store=self.store)
        return self

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return score minus threshold: (n_pairs,) float64, a match at 0 and above."""
        return self._score(X) - self.threshold_

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """Return 1 for a match: (n_pairs,) int64.

        At the threshold that validation chose, or that :meth:`at` set.
        """
        return (self.decision_function(X) >= 0).astype(np.int64)

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return calibrated probabilities (n_pairs, 2), float64: no match, match.

        They assume that a share ``calibration_.prior`` of the pairs matches, 0.5 unless
        `y` had non-matches; ``model.at(0.05)`` assumes 1 in 20.
        """
        probability = self.calibration_.probability(self._score(X))
        return np.column_stack([1 - probability, probability])

    def rank(
        self,
        query: ImagePath,
        candidates: Sequence[ImagePath],
        *,
        prior: Share | None = None,
    ) -> list[tuple[ImagePath, float]]:
        """Rank candidates by their similarity to the query, best first.

        Parameters
        ----------
        query : path-like
            The left image.
        candidates : sequence of path-like, length n_candidates
            The right images.
        prior : float, str or None, default=None
            Share of the candidates that match; None assumes one of them, 1/n.

        Returns
        -------
        list of (path-like, float)
            Each candidate with its probability of a match.
        """
        check_is_fitted(self, "cells_")
        if not len(candidates):
            msg = "candidates is empty: give at least one image to rank"
            raise UsageError(msg)
        model = self.at(one_match_of(len(candidates)) if prior is None else prior)
        (hits,), _ = rank_images(model, [query], candidates, strict=True)
        return [(candidates[hit.row], hit.probability) for hit in hits]

    def save(self, path: ImagePath) -> None:
        """Write everything that scoring needs to one file for ``tllboost.load``.

        See :func:`tllboost.save_bundle`, also for the errors.
        """
        check_is_fitted(self, "cells_")
        save_bundle(path, self)

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        """Show a notebook the fitted cells, else what scikit-learn shows."""
        told: dict[str, str] = super()._repr_mimebundle_(**kwargs)
        if "text/html" in told and hasattr(self, "cells_"):
            cells = (
                f"<li>{html.escape(one.name)}, weight {one.weight:.2f}</li>"
                for one in self.cells_
            )
            told["text/html"] = (
                f"<p>Fitted. A pair is a match from a probability of {self.limit:.3f}, "
                f"if {self.calibration_.prior:.3g} of all pairs match.</p>"
                f"<ul>{''.join(cells)}</ul>"
            )
        return told

    def _score(self, X: ArrayLike) -> NDArray[np.float64]:
        check_is_fitted(self, "cells_")
        table = pairs_from_paths(X)
        return self.score_table(table, table.left, table.right, strict=True).score


def ensemble(
    cells: Sequence[FittedCell], *, device: str = "auto", **combined: Any
) -> PairClassifier:
    """Return a fitted classifier of cells that are fitted already.

    The score of several cells is the mean of their calibrated log-odds, by the weight
    of each. The arguments of the classifier are those of the first cell:
    `sklearn.base.clone` of an ensemble is that one cell, not fitted.

    Parameters
    ----------
    cells : sequence of FittedCell
        At least one.
    device : str, default="auto"
        Where networks run when it is fitted again.
    **combined
        ``calibration``, ``threshold`` and ``store``, as in
        :class:`~tllboost.scoring.Scorer`.

    Raises
    ------
    UsageError
        If there is no cell.
    """
    if not cells:
        msg = "cells is empty: give at least one fitted cell"
        raise UsageError(msg)
    first = cells[0]
    classifier = PairClassifier(
        first.vectorizer,
        projection=first.projection_spec,
        merge=first.scorer.merge,
        head=first.scorer.head,
        device=device,
    )
    Scorer.__init__(classifier, cells, **combined)
    return classifier


def load_bundle(
    path: ImagePath,
    *,
    weights: ImagePath | Iterable[ImagePath] | None = None,
    device: str = "auto",
    store: ImagePath | None = None,
    offline: bool = False,
    trust_code: bool = False,
) -> PairClassifier:
    """Return the fitted classifier in a bundle: one cell, or an ensemble of several.

    Every member must have its sha256, the numbers of projections and heads must be
    finite, trees must be sound, and golden pairs must get the scores of when it was
    saved. A network is only opened when an image has no vector in the store.

    Parameters
    ----------
    path : path-like
        The bundle.
    weights : path-like or several, optional
        The files of networks that the bundle names but does not hold. Their sha256
        says which is which.
    device : str, default="auto"
        Where networks run.
    store : path-like, optional
        Folder of the vector store; None keeps vectors only for this process.
    offline : bool, default=False
        Never ask a hub for weights.
    trust_code : bool, default=False
        Import the modules that the bundle names, if it has a custom vectorizer or
        merge. This runs their code.

    Returns
    -------
    PairClassifier

    Raises
    ------
    DataError
        If there is no such file.
    BundleError
        If it must not be used; the message says why.
    UsageError
        If it names code and `trust_code` is False.
    WeightsError
        If the bundle does not name a file of `weights`.

    See Also
    --------
    tllboost.bundle.read_scorer : The same without scikit-learn.

    Examples
    --------
    >>> load_bundle("best.tllb").predict_proba([["a.jpg", "b.jpg"]])  # doctest: +SKIP
    array([[0.12, 0.88]])
    """
    scorer = read_scorer(
        path,
        weights=weights,
        device=device,
        store=store,
        offline=offline,
        trust_code=trust_code,
    )
    classifier = ensemble(scorer.cells_, device=device)
    classifier.__dict__ |= vars(scorer)
    return classifier


load = load_bundle
"""As ``tllboost.load``: the way back from ``classifier.save``."""


@dataclass(eq=False, repr=False)
class SiameseProjection(TransformerMixin, BaseEstimator, Vectorizer):
    """Learn from pairs to map image vectors so that matches are close to each other.

    Fitted on labelled pairs, it turns images into vectors, and is a vectorizer like
    any other: ``PairClassifier(SiameseProjection("classic").fit(X, y))``.

    As always in scikit-learn, ``clone`` gives an unfitted copy, and cross-validation
    clones. So use ``PairClassifier(base, projection=loss)`` for cross-validation, which
    fits a projection on each training set. ``sklearn.frozen.FrozenEstimator`` keeps a
    fitted one; honest figures then need pairs that it was not fitted on.

    Parameters
    ----------
    base : str or Vectorizer, default="pocket"
        What turns images into the vectors to be mapped.
    loss : str or Projection, default="infonce"
        A name as on the command line (``tllboost list projections``), with options or
        without (``infonce?components=256&depth=2``), or an object, of which a copy is
        fitted.
    store : path-like or None, default=None
        Folder of the vector store of the base.
    n_negatives : int or None, default=None
        Non-matches drawn for each training match, in addition to those given. None
        draws 5 if `y` has only matches, else none.
    validation_fraction : float, default=0.15
        Share of the matches held out, to choose the epoch.
    device : str, default="auto"
        Where networks run and the map is trained.
    n_jobs : int or None, default=None
        Threads for training the map; -1 takes all cores.
    random_state : int, RandomState, Generator or None, default=0
        Decides what is held out and drawn, and all random choices of training. An int
        of 0 or more gives the same results every time.

    Attributes
    ----------
    base_ : Vectorizer
    projection_ : Projection
        The fitted map.

    Examples
    --------
    >>> import tempfile
    >>> from tllboost.demo import make_scenes
    >>> folder = make_scenes(tempfile.mkdtemp(), n_scenes=12, n_views=2).parent
    >>> X = [[folder / f"scene_{i:04d}_{v}.jpg" for v in (0, 1)] for i in range(1, 13)]
    >>> loss = "infonce?components=4"
    >>> siamese = SiameseProjection("pixels?size=8", loss, device="cpu")
    >>> siamese.fit(X).transform(X[0]).shape
    (2, 4)
    """

    base: Any = "pocket"
    loss: str | Projection = "infonce"
    _: KW_ONLY
    store: str | PathLike[str] | None = None
    n_negatives: int | None = None
    validation_fraction: float = 0.15
    device: str = "auto"
    n_jobs: int | None = None
    random_state: Any = 0

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> SiameseProjection:
        """Fit on labelled pairs of images.

        Parameters
        ----------
        X : array-like of shape (n_pairs, 2)
            Paths of the left and of the right image.
        y : array-like of shape (n_pairs,) or None, default=None
            1 for a match, 0 for a non-match; None if all are matches.

        Raises
        ------
        UsageError
            If an option is wrong.
        ImageError
            If an image can't be read.
        DataError
            If there are too few pairs to hold a part out, or nothing is learned.
        """
        seed, n_threads = seed_of(self.random_state), n_threads_of(self.n_jobs)
        projection = make_projection(
            self.loss, seed=seed, device=self.device, n_threads=n_threads
        )
        if projection is None:
            msg = f"loss={self.loss!r} learns nothing: give one that does"
            raise UsageError(msg)
        base = make_vectorizer(self.base, device=self.device)
        vectors, train, validation, _ = _vectorize_labelled(self, base, X, y, seed)
        self.projection_ = projection.fit(vectors, train, validation)
        self.base_ = base
        self.n_dims_ = self.projection_.transform(vectors[:1]).shape[1]
        return self

    def transform(
        self,
        images: Iterable[str | Path | Image.Image],
        *,
        batch_size: int = 32,
    ) -> NDArray[np.float32]:
        """Return the mapped vectors of images: (n_images, n_components) float32.

        Parameters
        ----------
        images : iterable of path or PIL.Image.Image
            For paths, vectors that the store has are taken from it.
        batch_size : int, default=32
            Images per forward pass.

        Raises
        ------
        ImageError
            If a file can't be read as an image.
        UsageError
            If `images` is not a list of images.
        """
        check_is_fitted(self, "projection_")
        kinds = (str, PathLike, Image.Image)
        if isinstance(images, kinds):
            return Vectorizer.transform(self, images)  # which refuses it
        given: list[Any] = list(images)
        for index, one in enumerate(given):
            if not isinstance(one, kinds):
                msg = f"images[{index}] is {one!r}; it must be a path or an image"
                raise UsageError(msg)
        if any(isinstance(one, Image.Image) for one in given):
            return Vectorizer.transform(self, given, batch_size=batch_size)
        ids = [str(path) for path in given]
        return vectorize(
            self, given, ids=ids, store=self.store, batch_size=batch_size, strict=True
        ).vectors

    def __getstate__(self) -> dict[str, Any]:
        # A vectorizer leaves out what it loaded; here it is what was learned.
        return self.__dict__.copy()

    @property
    def source(self) -> Vectorizer:  # type: ignore[override]
        """The vectorizer whose vectors are mapped.

        Raises
        ------
        UsageError
            If nothing is fitted.
        """
        if not hasattr(self, "projection_"):
            msg = (
                "this SiameseProjection is not fitted (a clone never is): fit it, or "
                f"use PairClassifier({self.base!r}, projection={self.loss!r}), which "
                "fits one on each training set"
            )
            raise UsageError(msg)
        return self.base_

    def map_vectors(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what the map makes of the base's vectors."""
        return self.projection_.transform(vectors)

    def prepare(self, image: Image.Image) -> np.ndarray:
        """Return one RGB image as the base wants it."""
        return self.source.prepare(image)

    def forward(self, batch: np.ndarray) -> np.ndarray:
        """Return mapped vectors (n_images, n_components), float32, of a batch."""
        return self.map_vectors(self.source.forward(batch))

    @property
    def name(self) -> str:
        """What is mapped, and how."""
        base = make_vectorizer(self.base).label
        loss = getattr(self, "projection_", self.loss)
        return f"siamese({base},{getattr(loss, 'spec', loss)})"

    @property
    def fingerprint(self) -> str:
        """Tell what the vectors depend on: the base's, and the map's weights."""
        base = self.source.fingerprint
        data = save(self.projection_.to_tensors())
        weights = hashlib.sha256(b"projection.safetensors" + data)
        return f"siamese|{self.projection_.spec}|{weights.hexdigest()}|{base}"

    @property
    def n_dims(self) -> int:
        """Width of a mapped vector."""
        _ = self.source  # fitted?
        return self.n_dims_

    @property
    def input_size(self) -> int | None:
        """Short side that decoding may shrink to: that of the base."""
        return self.source.input_size

    @property
    def needs_images(self) -> bool:  # type: ignore[override]
        """Whether the base looks at images."""
        return self.source.needs_images
