"""Linear heads that choose their scaling and regularisation on validation.

The scale of the features and the strength of the regularisation decide a linear head on
few pairs and many columns: on TLL that choice alone moved top-2 between 0.47 and 0.56.

Boosted heads start from the mean of such heads (:func:`linear_start`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from tllboost.calibration import Calibration, fit_calibration
from tllboost.conventions import is_repeated, repeatable
from tllboost.heads.base import (
    PairHead,
    Training,
    Validation,
    cosine_start,
    fits_memory,
    likelihoods,
    refuse_lost,
    within_memory,
)
from tllboost.heads.fitted import FittedHead, Linear, cosine_of, numbered_blocks
from tllboost.merges import row_blocks


@dataclass(eq=False, repr=False)
class SquaredHinge(BaseEstimator):
    """Minimise ½‖w‖² + C · Σ max(0, 1 − y (w · x + b))², by L-BFGS.

    The problem of scikit-learn's ``LinearSVC`` with the intercept left out of the
    penalty. LIBLINEAR copies to float64 and can't go on from an earlier solution; on a
    path of ever larger C that took ten times as long.

    Parameters
    ----------
    C : float, default=1.0
        Inverse strength of the penalty.
    tol : float, default=1e-4
        Stop where no gradient component is larger than this share of its first value.
        A column 30 times as large as the others, as the cosine of a
        :class:`LinearHead`, has nearly all of that: at 0.001 the others stay near 0.

    Attributes
    ----------
    coef_ : ndarray of shape (1, n_features), float32
    intercept_ : ndarray of shape (1,), float32

    Examples
    --------
    >>> X = np.float32([[-2], [-1], [1], [2]])
    >>> model = SquaredHinge().fit(X, np.array([0, 0, 1, 1]))
    >>> round(float(model.coef_[0, 0]), 2)
    0.8
    """

    C: float = 1.0
    _: KW_ONLY
    tol: float = 1e-4

    def fit(
        self,
        X: NDArray[np.float32],
        y: NDArray[np.integer],
        sample_weight: NDArray[np.float64] | None = None,
    ) -> SquaredHinge:
        """Fit, from the last solution if there is one."""
        sign = np.where(np.asarray(y) == 1, 1.0, -1.0).astype(np.float32)
        weight = np.ones(len(sign)) if sample_weight is None else sample_weight
        scaled = (self.C * weight).astype(np.float32)

        def loss(solution: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            w, b = solution[:-1], solution[-1]
            margin = sign * (X @ w.astype(np.float32) + np.float32(b))
            short = np.maximum(0, 1 - margin)
            slope = -2 * scaled * sign * short
            gradient = np.append(w + slope @ X, slope.sum(dtype=np.float64))
            value = 0.5 * w @ w + np.sum(scaled * short**2, dtype=np.float64)
            return float(value), gradient.astype(np.float64)

        start = np.zeros(X.shape[1] + 1)
        if hasattr(self, "coef_"):
            start = np.append(self.coef_, self.intercept_).astype(np.float64)
        steepest = np.abs(loss(np.zeros_like(start))[1]).max()
        found = minimize(
            loss,
            start,
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": 200, "gtol": self.tol * steepest},
        )
        self.coef_: NDArray[np.float32] = found.x[None, :-1].astype(np.float32)
        self.intercept_: NDArray[np.float32] = found.x[-1:].astype(np.float32)
        return self


_POWERS = (-5.0, -4.0, -3.0, -2.0, -1.0, 0.0, 1.0)
_DEFAULT_POWER = -3.0
_BLOCK_BYTES = 2**22  # of features whose squares are summed at once
# How much larger than the other columns the cosine is made: a ridge penalty on its
# weight then counts a thousandth.
_COSINE_SIZE = 30.0


class LinearHead(PairHead):
    """A linear score, w · features + v · cosine + b.

    The cosine of the pair, where the features know it, is one more column that
    regularisation hardly touches: at its strongest the head is the baseline, and it
    departs from it only as far as validation asks for.

    For each way to scale the features ("global": all divided by one number, their root
    mean square; "column": each column to mean 0 and variance 1), C grows tenfold a step
    until the validation loss rises, and half-way to both neighbours of the best step is
    tried as well; the best of all is kept, the cosine alone included.
    Without a validation set: columns scaled, C = 0.001.

    Attributes
    ----------
    fitted_ : FittedHead
        Weights on the features as they come, scaling folded in; that on the cosine, 0
        where the features don't know it; and the intercept.
    scaling_, strength_ : str, float
        What was chosen: the scaling, and C (smaller is stronger); "none" and 0 for the
        cosine alone.
    """

    _estimator: Callable[[], Any]

    def learn(self, training: Training, validation: Validation | None) -> None:
        """Fit at each step of each scaling; keep the step that validation likes."""
        training = within_memory(training._replace(query=None))
        X, best, held_out = training.features, np.inf, None
        ways: dict[str, Iterable[float]] = {"column": [_DEFAULT_POWER]}
        losses: dict[str, dict[float, float]] = {"global": {}, "column": {}}
        if validation is None:
            best = 0.0
        else:
            if hasattr(X, "cosine"):
                # The baseline itself: no step may be worse, however training was drawn.
                best = validation.loss(cosine_of(validation.features))
                self.fitted_ = _head(X, np.append(np.zeros(X.shape[1]), 1.0))
                self.scaling_, self.strength_ = "none", 0.0
            ways = {scaling: _path(noted) for scaling, noted in losses.items()}
            if is_repeated():
                best, ways = _rehearsed(validation, best, losses)
            else:
                held_out = _scored(validation)
        for scaling, powers in ways.items():
            model = self._estimator()
            for power, coef, intercept in _steps(model, training, scaling, powers):
                loss = best
                if validation is not None and held_out is not None:
                    loss = validation.loss(held_out(coef) + intercept)
                    losses[scaling][power] = loss
                if loss < best or held_out is None:
                    best = loss
                    self.fitted_ = _head(X, coef, intercept)
                    self.scaling_, self.strength_ = scaling, 10**power
        refuse_lost(self, best)


class LogisticHead(LinearHead):
    """Logistic regression with an L2 penalty (scikit-learn's L-BFGS).

    Examples
    --------
    >>> X = np.float32([[0, 1], [1, 0], [0, 2], [2, 0]])
    >>> LogisticHead().fit(X, np.array([0, 1, 0, 1])).predict(X).tolist()
    [0, 1, 0, 1]
    """

    def _estimator(self) -> Any:
        return LogisticRegression(warm_start=True, max_iter=200, tol=1e-3)


class LinearSVMHead(LinearHead):
    """Linear support vector machine: L2 penalty, squared hinge loss.

    Examples
    --------
    >>> X = np.float32([[0, 1], [1, 0], [0, 2], [2, 0]])
    >>> LinearSVMHead().fit(X, np.array([0, 1, 0, 1])).predict(X).tolist()
    [0, 1, 0, 1]
    """

    _estimator = SquaredHinge


_STARTS = (-4.0, -3.0, -2.0, -1.0)
_FAR = 7.0  # of log-likelihood: what is a thousandth as likely hardly counts


def linear_start(training: Training, validation: Validation | None) -> FittedHead:
    """Return the log-odds that boosting starts from: those of a mean of linear heads.

    One is the cosine alone, the others are logistic regressions on scaled columns and
    the cosine, of C = 0.0001 to 0.1. Each is calibrated on validation, and weighs as
    much as it is likely there: few lists hardly tell them apart, many leave one.
    Without a validation set, or of features that know no cosine, it is
    :func:`~tllboost.heads.base.cosine_start`.

    Parameters
    ----------
    training : Training
    validation : Validation or None

    Examples
    --------
    >>> from tllboost.merges import PairFeatures
    >>> vectors = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    >>> vectors[30:, :2] = vectors[:30, :2]  # matches agree in half of their numbers
    >>> left, right = np.arange(60) % 30, 30 + np.arange(60) % 31 % 30
    >>> pairs = Validation(
    ...     PairFeatures(vectors, left, right), left == right - 30, np.ones(60)
    ... )
    >>> linear_start(pairs, pairs).part.coef.argsort()[2:].tolist()
    [0, 1]
    """
    first = cosine_start(training, validation)
    if validation is None or not hasattr(training.features, "cosine"):
        return first
    training = within_memory(training._replace(query=None))
    X = training.features
    weights = [np.append(np.zeros(X.shape[1]), first.slope)]
    intercepts = [float(first.intercept)]
    losses = [validation.losses(cosine_of(validation.features))]
    held_out, model = _scored(validation), LogisticHead()._estimator()
    for _, coef, intercept in _steps(model, training, "column", _STARTS):
        score = held_out(coef) + intercept
        lost = validation.losses(score)
        if not np.isfinite(lost).all():
            break
        slope, shift, *_ = _curve(validation, score)
        weights.append(slope * coef)
        intercepts.append(slope * intercept + shift)
        losses.append(lost)
        if losses[-1].sum() > np.sum(losses, axis=1).min() + _FAR:
            break
    shares = likelihoods(losses)
    return _head(X, shares @ weights, float(shares @ intercepts))


@repeatable
def _curve(validation: Validation, score: NDArray[np.floating]) -> Calibration:
    return fit_calibration(score, validation.label, validation.weight)


def _head(X: Any, coef: NDArray[np.float64], intercept: float = 0.0) -> FittedHead:
    """Return the head of some weights; the last is the cosine's, where X knows it."""
    weights = Linear(coef[: X.shape[1]].astype(np.float32))
    slope = np.float32(coef[-1] if hasattr(X, "cosine") else 0)
    return FittedHead(weights, slope, np.float32(intercept))


def _steps(
    model: Any, training: Training, scaling: str, powers: Iterable[float]
) -> Iterator[tuple[float, NDArray[np.float64], float]]:
    """Yield weights and intercept for each power of ten as C, each from the one before.

    The features of many pairs are held, and are too large to be held twice.
    """
    X = training.features
    features = _with_cosine(X)
    shift, scale = _scaling(features, scaling)
    if hasattr(X, "cosine"):
        shift[-1] = features[:, -1].mean()
        scale[-1] = max(features[:, -1].std(), 1e-6) / _COSINE_SIZE
    features -= shift
    features /= scale
    for power in powers:
        model.set_params(C=10**power)
        # Seldom, on busy machines, a product warned of an invalid value though all
        # features were finite. A step whose weights are not finite has an infinite loss
        # on validation, and is not kept.
        with warnings.catch_warnings(), np.errstate(invalid="ignore"):
            # The weakest steps may stop short of the optimum, which regularises too;
            # validation judges them like the others.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(features, training.label, training.weight)
        coef = model.coef_[0] / scale
        yield power, coef, float(model.intercept_[0] - coef @ shift)


def _rehearsed(
    validation: Validation, best: float, losses: Mapping[str, dict[float, float]]
) -> tuple[float, dict[str, Iterable[float]]]:
    """Return the best loss and the steps up to it, by what validation said before.

    No scores are needed for that. Later steps, and those of the other scaling, change
    nothing.
    """
    ways: dict[str, Iterable[float]] = {}
    for scaling, said in losses.items():
        for power in _path(said):
            said[power] = validation.loss(np.empty(0))
            if said[power] < best:
                best, ways = said[power], {scaling: [*said]}
    return best, ways


def _path(losses: Mapping[float, float]) -> Iterator[float]:
    """Yield powers of ten to try for C; the caller notes the loss of each."""
    for power in _POWERS:
        yield power
        best = min(losses, key=losses.__getitem__)
        if best < power:
            break
    yield from (best + 0.5, best - 0.5)


def _scored(
    validation: Validation,
) -> Callable[[NDArray[np.float64]], NDArray[np.floating]]:
    """Return what multiplies validation features, the cosine with them, by weights."""
    X = validation.features
    if not fits_memory(validation):
        return lambda coef: _head(X, coef).decision_function(X)
    features = _with_cosine(X)
    return lambda coef: features @ coef


def _with_cosine(X: Any) -> NDArray[np.float32]:
    """Return the features, the cosine as a last column where it is known."""
    n_cosines = int(hasattr(X, "cosine"))
    features = np.empty((len(X), X.shape[1] + n_cosines), dtype=np.float32)
    # Small blocks: what is merged at once comes on top of all features.
    n_rows = max(1, 2**20 // max(1, X.shape[1]))
    for rows, block in numbered_blocks(X, n_rows):
        features[rows, : X.shape[1]] = block
    if n_cosines:
        features[:, -1] = X.cosine()
    return features


def _scaling(
    features: NDArray[np.float32], scaling: str
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return shift and scale, each (n_features,); a constant column keeps scale 1."""
    n_features = features.shape[1]
    if scaling == "global":
        blocks = (features[i] for i in row_blocks(*features.shape, most=_BLOCK_BYTES))
        squares = (np.square(rows, dtype=np.float64).sum() for rows in blocks)
        size = np.sqrt(sum(squares) / max(features.size, 1)) or 1.0
        shift = np.zeros(n_features, dtype=np.float32)
        return shift, np.full(n_features, size, dtype=np.float32)
    # A few columns at a time: float64 of all would take twice the features.
    blocks = (features[:, i] for i in row_blocks(*features.T.shape, most=_BLOCK_BYTES))
    spread = np.concatenate([some.std(axis=0, dtype=np.float64) for some in blocks])
    scale = np.where(spread > 1e-9 * np.maximum(1, spread.max()), spread, 1.0)
    mean = features.mean(axis=0, dtype=np.float64)
    return mean.astype(np.float32), scale.astype(np.float32)
