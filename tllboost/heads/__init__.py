"""Heads: feature rows in, a score a pair out.

A head is any scikit-learn classifier, by name or as ``module:Class``. The built-in ones
also look at the validation side, which chooses their regularisation or when to stop,
and at the cosine of each pair, which boosting may start from.
"""

from __future__ import annotations

import inspect
from typing import Any

from tllboost.errors import UsageError
from tllboost.registry import Entry, Registry

__all__ = ["HEADS", "make_head"]

HEADS = Registry(
    "head",
    {
        "cosine": Entry(
            "tllboost.heads.cosine:CosineHead",
            "cosine of the two vectors, no training: the baseline",
        ),
        "logistic": Entry(
            "tllboost.heads.linear:LogisticHead",
            "logistic regression, scale and regularisation chosen on validation",
        ),
        "linear-svm": Entry(
            "tllboost.heads.linear:LinearSVMHead",
            "linear support vector machine, chosen on validation likewise",
        ),
        "naive-bayes": Entry(
            "tllboost.heads.forest:NaiveBayesHead", "Gaussian naive Bayes"
        ),
        "random-forest": Entry(
            "tllboost.heads.forest:RandomForestHead", "random forest of 100 trees"
        ),
        "xgboost": Entry(
            "tllboost.heads.boosting:XGBoostHead",
            "gradient-boosted trees, from the cosine where validation says so",
        ),
        "xgboost-rank": Entry(
            "tllboost.heads.boosting:XGBoostRankHead",
            "gradient-boosted ranking of each query's candidates",
        ),
        "mlp": Entry(
            "tllboost.heads.mlp:MLPHead", "dense network 512-128, ReLU, dropout 0.2"
        ),
    },
)


def make_head(head: Any, *, seed: int = 0, n_threads: int | None = None) -> Any:
    """Return an unfitted head.

    Parameters
    ----------
    head : str or estimator
        A name of :data:`HEADS`, ``package.module:Class``, or an estimator, which is
        cloned.
    seed : int, default=0
        Given to heads that have a ``random_state``.
    n_threads : int or None, default=None
        Given to heads that have ``n_jobs``; None leaves their default.

    Raises
    ------
    UnknownNameError
        If nothing has that name.
    UsageError
        If the thing has no ``fit``, or can't be made without arguments.

    Examples
    --------
    >>> make_head("cosine")
    CosineHead()
    """
    from sklearn.base import clone

    if not isinstance(head, str) and not isinstance(head, type):
        return clone(head)
    made = _construct(HEADS.resolve(head), head)
    given = {"random_state": seed, "n_jobs": n_threads}
    known = made.get_params(deep=False) if hasattr(made, "get_params") else {}
    chosen = {key: value for key, value in given.items() if key in known}
    if chosen:
        made.set_params(**{k: v for k, v in chosen.items() if v is not None})
    return made


def _construct(factory: Any, name: object) -> Any:
    """Make a head with its default arguments."""
    if not (inspect.isclass(factory) and hasattr(factory, "fit")):
        msg = f"head {name!r} is {factory!r}: a head is a class with fit and predict"
        raise UsageError(msg)
    try:
        return factory()
    except TypeError as error:
        msg = f"head {name!r} can't be made without arguments: {error}"
        raise UsageError(msg) from error
