"""Heads: feature rows in, a score a pair out.

A head is any scikit-learn classifier, by name or as ``module:Class``. The built-in ones
also look at the validation set, which chooses their regularisation or when to stop,
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
            "tllboost.heads.forest:RandomForestHead",
            "random forest of 300 trees, cut points drawn",
        ),
        "xgboost": Entry(
            "tllboost.heads.boosting:XGBoostHead",
            "gradient-boosted trees, from the cosine where validation says so",
            needs=("xgboost",),
        ),
        "xgboost-rank": Entry(
            "tllboost.heads.boosting:XGBoostRankHead",
            "gradient-boosted ranking of each query's candidates",
            needs=("xgboost",),
        ),
        "mlp": Entry(
            "tllboost.heads.mlp:MLPHead",
            "dense network 512-128, ReLU, dropout 0.2",
            needs=("torch",),
        ),
        "joined": Entry(
            "tllboost.heads.mlp:JoinedHead",
            "network trained along with -p contrastive; reads the merge dot+l1",
            needs=("torch",),
        ),
    },
)
"""All heads, those that learn least first: of cells that validation can't tell apart
the simplest is chosen, see :func:`tllboost.grid.best.simplicity`."""


def make_head(head: Any, *, seed: int = 0, n_threads: int | None = None) -> Any:
    """Return an unfitted head.

    Parameters
    ----------
    head : str or estimator
        A name of :data:`HEADS`, ``package.module:Class``, or an estimator, which is
        cloned.
    seed : int, default=0
        Given to heads that have a ``random_state``; see
        :func:`tllboost.conventions.seed_of`.
    n_threads : int or None, default=None
        Given to the built-in heads that have ``n_jobs``; None leaves their default.
        A head of somebody else's keeps its own.

    Raises
    ------
    UnknownNameError
        If nothing has that name.
    MissingLibraryError
        If it needs a library that is not installed.
    UsageError
        If the thing is no estimator, or can't be made without arguments.

    Examples
    --------
    >>> make_head("cosine")
    CosineHead()
    """
    from sklearn.base import clone

    from tllboost.conventions import seed_of
    from tllboost.heads.base import PairHead

    if not isinstance(head, str | type):
        if not (hasattr(head, "fit") and hasattr(head, "get_params")):
            msg = f"head {head!r} is no name, no class and no scikit-learn estimator"
            raise UsageError(msg)
        return clone(head)
    made = _construct(HEADS.resolve(head), head)
    known = made.get_params(deep=False) if hasattr(made, "get_params") else {}
    if "random_state" in known:
        made.set_params(random_state=seed_of(seed))
    # scikit-learn drops n_jobs from one estimator after another, with a warning.
    if n_threads is not None and "n_jobs" in known and isinstance(made, PairHead):
        made.set_params(n_jobs=n_threads)
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
