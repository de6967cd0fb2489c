"""Heads: feature rows in, a score a pair out.

A head is any scikit-learn classifier, by name or as ``module:name``, options behind a
question mark: ``xgboost?max_depth=4``. The built-in ones also look at the validation
set, which chooses their regularisation or when to stop, and at the cosine of each pair.
"""

from __future__ import annotations

from typing import Any

from tllboost.errors import WHY, UsageError, retold
from tllboost.merges import SIMILARITY
from tllboost.registry import Entry, Registry, options_of, parse_spec

HEADS = Registry(
    "head",
    {
        "cosine": Entry(
            "tllboost.heads.base:CosineHead",
            "cosine of the two vectors, no training: the baseline",
        ),
        "cosine-norm": Entry(
            "tllboost.heads.base:CosineHead",
            "cosine in standard deviations above unrelated images; no training",
        ),
        "logistic": Entry(
            "tllboost.heads.linear:LogisticHead",
            "logistic regression, scale and regularisation chosen on validation",
        ),
        "linear-svm": Entry(
            "tllboost.heads.linear:LinearSVMHead",
            "linear support vector machine, chosen on validation in the same way",
        ),
        "naive-bayes": Entry(
            "tllboost.heads.forest:NaiveBayesHead", "Gaussian naive Bayes"
        ),
        "random-forest": Entry(
            "tllboost.heads.forest:RandomForestHead",
            "random forest of 300 trees with random cut points",
        ),
        "xgboost": Entry(
            "tllboost.heads.boosting:XGBoostHead",
            "gradient-boosted trees that add to linear heads and the cosine",
            needs=("xgboost",),
        ),
        "xgboost-rank": Entry(
            "tllboost.heads.boosting:XGBoostRankHead",
            "gradient-boosted ranking of each query's candidates, likewise",
            needs=("xgboost",),
        ),
        "lightgbm": Entry(
            "tllboost.heads.gbm:LightGBMHead",
            "LightGBM's trees, likewise; needs tllboost[lightgbm]",
            needs=("lightgbm",),
        ),
        "catboost": Entry(
            "tllboost.heads.gbm:CatBoostHead",
            "CatBoost's trees, likewise; needs tllboost[catboost]",
            needs=("catboost",),
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

READS = {"cosine": "dot", "cosine-norm": SIMILARITY, "joined": "dot+l1"}
"""Heads that are one whatever the merge, and the merge that they read."""


def make_head(head: Any, *, seed: int = 0, n_threads: int | None = None) -> Any:
    """Return an unfitted head.

    Parameters
    ----------
    head : str or estimator
        A name of :data:`HEADS`, or ``package.module:name`` of a class, an estimator, a
        pipeline, or a function that returns one; options after a question mark:
        ``xgboost?max_depth=4``, ``own:pipeline?svc__C=3``. An estimator is cloned.
    seed : int, default=0
        Given to what has a ``random_state``, parts of a pipeline too, unless `head` is
        an estimator; see :func:`tllboost.conventions.seed_of`.
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
        If the thing is no estimator, can't be made without arguments, or has no such
        option.

    Examples
    --------
    >>> make_head("cosine")
    CosineHead()
    >>> make_head("xgboost?max_depth=4").max_depth
    4
    """
    from sklearn.base import clone

    from tllboost.conventions import seed_of
    from tllboost.heads.base import PairHead

    if not isinstance(head, str | type):
        if not (hasattr(head, "fit") and hasattr(head, "get_params")):
            msg = f"head {head!r} is not a name, a class or a scikit-learn estimator"
            raise UsageError(msg)
        return clone(head)
    found = HEADS.resolve(head)
    made: Any
    text = f"head {head!r} can't be made without arguments: {WHY}"
    with retold(text, UsageError, TypeError):
        is_made = hasattr(found, "fit") and not isinstance(found, type)
        made = clone(found) if is_made else found() if callable(found) else None
    if isinstance(made, type) or not hasattr(made, "fit"):
        msg = (
            f"head {head!r} is {found!r}: a head is a class with fit and predict, one "
            "such object, or a function that returns one"
        )
        raise UsageError(msg)
    known = made.get_params() if hasattr(made, "get_params") else {}
    if isinstance(head, str):
        spec = parse_spec(head)
        if spec.options:
            options = spec.typed_options(options_of(made) if known else {})
            made = made.set_params(**options)
    seeds = [name for name in known if name.rpartition("__")[2] == "random_state"]
    if seeds:
        made.set_params(**dict.fromkeys(seeds, seed_of(seed)))
    # scikit-learn drops n_jobs from one estimator after another, with a warning.
    if n_threads is not None and "n_jobs" in known and isinstance(made, PairHead):
        made.set_params(n_jobs=n_threads)
    return made
