"""A linear support vector machine in float32, started where the last one ended."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.base import BaseEstimator, ClassifierMixin

__all__ = ["SquaredHinge"]


class SquaredHinge(ClassifierMixin, BaseEstimator):
    """Minimise ½‖w‖² + C · Σ max(0, 1 − y (w · x + b))², by L-BFGS.

    The problem of scikit-learn's ``LinearSVC`` with the intercept left out of the
    penalty. LIBLINEAR copies to float64 and can't go on from an earlier solution; on a
    path of ever larger C that took ten times as long.

    Parameters
    ----------
    C : float, default=1.0
        Inverse strength of the penalty.
    max_iter : int, default=200
    tol : float, default=1e-3
        Stop where no gradient component is larger than this share of its first value.

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

    def __init__(
        self, C: float = 1.0, *, max_iter: int = 200, tol: float = 1e-3
    ) -> None:
        self.C = C
        self.max_iter = max_iter
        self.tol = tol

    def fit(
        self,
        X: NDArray[np.float32],
        y: NDArray[np.integer],
        sample_weight: NDArray[np.float64] | None = None,
    ) -> SquaredHinge:
        """Fit, from the last solution if there is one of this width."""
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

        start = self._start(X.shape[1])
        steepest = np.abs(loss(np.zeros_like(start))[1]).max()
        found = minimize(
            loss,
            start,
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": self.max_iter, "gtol": self.tol * steepest},
        )
        self.coef_ = found.x[None, :-1].astype(np.float32)
        self.intercept_ = found.x[-1:].astype(np.float32)
        self.classes_ = np.array([0, 1])
        return self

    def _start(self, n_features: int) -> NDArray[np.float64]:
        coef: Any = getattr(self, "coef_", None)
        if coef is None or coef.shape[1] != n_features:
            return np.zeros(n_features + 1)
        return np.append(coef[0], self.intercept_).astype(np.float64)

    def decision_function(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return w · x + b: (n_samples,) float32."""
        return X @ self.coef_[0] + self.intercept_[0]

    def predict(self, X: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return 1 where the decision is positive: (n_samples,) int64."""
        return (self.decision_function(X) > 0).astype(np.int64)
