"""Gradient-boosted heads that start from what a linear head and the cosine say.

Few pairs and many columns make a plain boosted head fall below the cosine that needs no
training, and below a linear head. Boosting starts from these instead: their log-odds
(:func:`~tllboost.heads.linear.linear_start`) are the margin before the first tree, and
trees add what they miss. Of projected vectors there are two cosines: that of what the
projection gave, and the frozen one, of what it was given.

A small validation set cannot tell the best number of trees. So no number is chosen: the
head is the mean of all, each weighted by its likelihood on validation, and what the
trees add is then shrunk by a factor between 0 and 1 that is found likewise (Hoeting
and others, "Bayesian model averaging", 1999; ``results/choosing/boosting-few.md``).

XGBoost's histograms are of all columns, however few a tree may use. Of wide features
trees therefore see the 500 columns alone that correlate most with what the start gets
wrong on the training pairs, which takes half of the time and is no worse
(``results/boosting``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tllboost.conventions import n_threads_of
from tllboost.errors import UsageError
from tllboost.heads.base import (
    MOST_BYTES,
    PairHead,
    Training,
    Validation,
    clearly_better,
    cosine_start,
    likelihoods,
    within_memory,
)
from tllboost.heads.fitted import FittedHead, Trees, blocks_of, numbered_blocks
from tllboost.heads.linear import linear_start
from tllboost.merges import SIMILARITY
from tllboost.registry import Options, one_of, positive

# Values up to which trees see all columns: histograms of so few cost little.
_WIDE = 2_000_000
_N_BEST = 500


def choose_bins(n_rows: int, n_columns: int) -> int:
    """Choose histogram bins from the shape of the data.

    XGBoost's 256 bins are the wrong size for few rows and many columns: 4,200 × 2,048
    rows took 34 s at 256, 9 s at 64 and 3 s at 16, with the same AUC.

    Examples
    --------
    >>> choose_bins(1_000, 20), choose_bins(4_200, 2_048)
    (256, 16)
    """
    values = n_rows * n_columns
    if values < 440_000:
        return 256
    return 64 if values < 4_000_000 else 16


def best_columns(
    X: Any, residual: NDArray[np.float64], weight: NDArray[np.float64], n: int
) -> NDArray[np.int64]:
    """Return the `n` columns that correlate most with a residual, ascending.

    Parameters
    ----------
    X : array-like or PairFeatures of shape (n_pairs, n_features)
    residual : ndarray of shape (n_pairs,)
        Label minus the probability that trees start from: their first gradient.
    weight : ndarray of shape (n_pairs,)
    n : int

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(50, 7)).astype(np.float32)
    >>> best_columns(X, X[:, 4] - 0.5 * X[:, 1], np.ones(50), 2).tolist()
    [1, 4]
    """
    share = (weight / weight.sum()).astype(np.float32)
    along = share * (residual - share @ residual).astype(np.float32)
    sums = np.zeros((3, X.shape[1]))
    for rows, block in numbered_blocks(X):
        sums += share[rows] @ block, share[rows] @ np.square(block), along[rows] @ block
    mean, square, product = sums
    spread = np.sqrt(np.maximum(square - mean**2, 0))
    correlation = np.abs(product) / np.maximum(spread, 1e-12)
    return np.sort(np.argsort(-correlation, kind="stable")[:n])


def _reader(
    X: Any, columns: NDArray[np.int64]
) -> Callable[[], Iterator[NDArray[np.float32]]]:
    """Return what reads features a block at a time, from memory if few are read."""

    def read() -> Iterator[NDArray[np.float32]]:
        # Indexing leaves columns side by side in memory; XGBoost reads by row.
        return (np.ascontiguousarray(block[:, columns]) for block in blocks_of(X))

    if 5 * len(X) * len(columns) > MOST_BYTES:  # a number, and its bin
        return read
    held = list(read())
    return lambda: iter(held)


def quantised(X: Any, max_bin: int, columns: NDArray[np.int64]) -> Any:
    """Return quantised features, which take labels as XGBoost's do.

    Parameters
    ----------
    X : array-like or PairFeatures of shape (n_pairs, n_features)
    max_bin : int
        Histogram bins a column.
    columns : ndarray of int64
        Which columns.
    """
    import xgboost

    read = _reader(X, columns)

    class Blocks(xgboost.DataIter):
        """Feed XGBoost a block at a time, as often as it asks.

        All features are never in memory at once.
        """

        def reset(self) -> None:
            self.blocks = read()

        def next(self, input_data: Callable[..., None]) -> bool:
            block = next(self.blocks, None)
            if block is None:
                return False
            input_data(data=block)
            return True

    return xgboost.QuantileDMatrix(Blocks(), max_bin=max_bin)


_STARTS = ("auto", "linear", "cosine", "frozen", "none")
_STEP = 10
_LEAST = 6  # columns of similarities that a tree sees: each is a good score already
_FACTORS = np.linspace(0, 1, 6)


@dataclass(eq=False, repr=False, kw_only=True)
class XGBoostHead(PairHead):
    """XGBoost on pair features, from a linear head and the cosine.

    Parameters
    ----------
    start : {"auto", "linear", "cosine", "frozen", "none"}, default="auto"
        Score that the first tree adds to. "linear" is a mean of linear heads and the
        cosine, without a validation set the cosine alone; "cosine" that of the vectors
        (of the merge ``similarity`` the normalised one); "frozen" that of the vectors
        before a projection. "auto" is "linear", but "frozen" where that is clearly
        better on validation, and "none" for features that know no cosine.
    n_estimators : int, default=400
        Trees at most.
    early_stopping_rounds : int, default=50
        Trees without gain on validation before growth stops; looked at every 10.
    max_depth, learning_rate, colsample_bytree, subsample, min_child_weight
        As in XGBoost; of the merge ``similarity`` a tree sees at least six columns.
    max_bin : int or None, default=None
        None chooses from the shape of the data, see
        :func:`~tllboost.heads.boosting.choose_bins`.
    n_jobs : int or None, default=None
        Threads; -1 takes all cores.
    random_state : int, RandomState, Generator or None, default=0

    Attributes
    ----------
    fitted_ : FittedHead
        The trees, each times its weight, and what they start from.
    start_ : str
        What they start from: one of `start`.
    weights_ : ndarray of shape (n_trees,), float64
        What each tree is multiplied by, 1 without a validation set.
    gain_ : ndarray of shape (n_columns,), float64
        Share of each column that trees see in what they gained on the training pairs.

    Examples
    --------
    >>> from tllboost.merges import PairFeatures
    >>> rng = np.random.default_rng(0)
    >>> vectors = rng.normal(size=(40, 8)).astype(np.float32)
    >>> pairs = PairFeatures(vectors, rng.integers(40, size=60), np.arange(60) % 40)
    >>> head = XGBoostHead(n_estimators=5).fit(pairs, np.arange(60) % 2)
    >>> head.start_, head.decision_function(pairs).shape
    ('cosine', (60,))
    """

    OPTIONS: ClassVar[Options] = {
        "start": one_of(*_STARTS),
        "n_estimators": positive,
        "max_depth": positive,
    }
    objective = "binary:logistic"
    base_score = 0.5

    start: str = "auto"
    n_estimators: int = 400
    early_stopping_rounds: int = 50
    max_depth: int = 2
    learning_rate: float = 0.1
    colsample_bytree: float = 0.1
    subsample: float = 0.7
    min_child_weight: float = 1.0
    max_bin: int | None = None
    n_jobs: int | None = None
    random_state: Any = 0

    def learn(self, training: Training, validation: Validation | None) -> None:
        """Grow trees on the training pairs until validation gains no more.

        Of more pairs than 256 MiB hold the bins of, as many are drawn.
        """
        import xgboost
        from scipy.special import expit

        if self.start not in _STARTS:
            msg = f"start={self.start!r} is none of {', '.join(_STARTS)}"
            raise UsageError(msg)
        knows = hasattr(training.features, "cosine")
        if self.start not in ("auto", "none") and not knows:
            msg = f"start={self.start!r} needs PairFeatures, which know the vectors"
            raise UsageError(msg)
        training = within_memory(training, value_bytes=1, seed=self.seed_)
        X, y, weight, _ = training
        self.start_, head = self._begin(training, validation)
        margin, columns = head.decision_function(X), np.arange(X.shape[1])
        if X.shape[0] * X.shape[1] >= _WIDE and X.shape[1] > _N_BEST:
            columns = best_columns(X, y - expit(margin), weight, _N_BEST)
        bins = self.max_bin or choose_bins(len(y), len(columns))
        matrix = quantised(X, bins, columns)
        self._set_target(matrix, training)
        matrix.set_info(base_margin=margin)
        booster = xgboost.Booster(self._parameters(bins, X), [matrix])
        self.weights_ = np.ones(self.n_estimators)
        if validation is None:
            for tree in range(self.n_estimators):
                booster.update(matrix, tree)
        else:
            margin = head.decision_function(validation.features)
            self.weights_ = self._grow(booster, matrix, validation, margin, columns)
        self.fitted_ = head.grown(trees_of(booster, columns, X.shape[1], self.weights_))
        told: Any = booster.get_score(importance_type="total_gain")
        gains = [told.get(f"f{i}", 0.0) for i in range(matrix.num_col())]
        self.gain_ = np.array(gains) / max(sum(gains), 1e-12)

    def _begin(
        self, training: Training, validation: Validation | None
    ) -> tuple[str, FittedHead]:
        """Return what the first tree adds to, and its name."""
        start, X = self.start, training.features
        if start == "auto" and not hasattr(X, "cosine"):
            start = "none"
        if start == "none":
            return start, FittedHead()
        if start in ("cosine", "frozen") or validation is None:
            start = start if start == "frozen" else "cosine"
            return start, cosine_start(training, validation, frozen=start == "frozen")
        head = linear_start(training, validation)
        if start == "auto" and X.frozen is not X.vectors:
            # Training may flatter what a projection gave, and so the linear head.
            frozen = cosine_start(training, validation, frozen=True)
            held_out = validation.features
            scores = (one.decision_function(held_out) for one in (frozen, head))
            if clearly_better(*map(validation.losses, scores)):
                return "frozen", frozen
        return "linear", head

    def _parameters(self, bins: int, X: Any) -> dict[str, Any]:
        """Return what XGBoost is told."""
        least = _LEAST if getattr(X, "merge", None) == SIMILARITY else 0
        return {
            "objective": self.objective,
            "base_score": self.base_score,
            "max_depth": self.max_depth,
            "eta": self.learning_rate,
            "colsample_bytree": max(self.colsample_bytree, min(1, least / X.shape[1])),
            "subsample": self.subsample,
            "min_child_weight": self.min_child_weight,
            "max_bin": bins,
            "tree_method": "hist",
            "seed": self.seed_,
            "nthread": n_threads_of(self.n_jobs) or 0,
        }

    def _set_target(self, matrix: Any, training: Training) -> None:
        """Give the matrix its labels and weights; the binary head has no lists."""
        matrix.set_info(label=training.label, weight=training.weight)

    def _grow(
        self,
        booster: Any,
        matrix: Any,
        validation: Validation,
        margin: NDArray[np.floating],
        columns: NDArray[np.int64],
    ) -> NDArray[np.float64]:
        """Grow trees; return what each weighs. `margin` is the start's."""
        blocks = _reader(validation.features, columns)
        added, told, best = [np.zeros(len(margin))], [validation.losses(margin)], 0
        for first in range(0, self.n_estimators, _STEP):
            end = min(first + _STEP, self.n_estimators)
            for tree in range(first, end):
                booster.update(matrix, tree)
            # A prediction reads whole rows however few trees it adds: look rarely.
            asked: Any = {"iteration_range": (first, end), "predict_type": "margin"}
            more = [booster.inplace_predict(b, **asked) for b in blocks()]
            added.append(added[-1] + np.concatenate(more))
            told.append(validation.losses(margin + added[-1]))
            if told[-1].mean() < told[best].mean():
                best = len(told) - 1
            elif end - best * _STEP >= self.early_stopping_rounds:
                break
        shares = likelihoods(told)
        mean = shares @ added
        losses = [validation.losses(margin + factor * mean) for factor in _FACTORS]
        factor = likelihoods(losses) @ _FACTORS
        # A tree is in every number of trees from its own step on.
        weights = factor * np.repeat(shares[::-1].cumsum()[-2::-1], _STEP)
        kept = weights[: self.n_estimators]
        # Those at the end hardly count, and whoever scores has to walk them.
        return kept[kept > 1e-3]


class XGBoostRankHead(XGBoostHead):
    """XGBoost trained to put each query's match above its others (pairwise LambdaMART).

    Burges, "From RankNet to LambdaRank to LambdaMART", 2010. Parameters as
    :class:`XGBoostHead`; the margin starts likewise.
    """

    objective = "rank:pairwise"
    base_score = 0.0

    def _set_target(self, matrix: Any, training: Training) -> None:
        """Give the matrix its labels and lists; each list weighs the same."""
        query = training.query
        if query is None:
            msg = "xgboost-rank needs the ranking list of each training pair: query=…"
            raise UsageError(msg)
        edges = np.flatnonzero(np.diff(query, prepend=query[0] - 1, append=-2))
        if len(edges) - 1 != len(np.unique(query)):
            msg = "xgboost-rank needs the pairs of one query next to each other"
            raise UsageError(msg)
        matrix.set_info(label=training.label, group=np.diff(edges))


def trees_of(
    booster: Any,
    columns: NDArray[np.int64],
    n_features: int,
    weights: NDArray[np.float64],
) -> Trees:
    """Return the first trees of a booster as ones that read whole rows.

    Its margin is their sum: the base scores of the heads are those of margin 0.

    Parameters
    ----------
    booster : xgboost.Booster
    columns : ndarray of int64
        Which of the `n_features` it was grown on.
    weights : ndarray of shape (n_trees,)
        What the leaves of each tree are multiplied by.
    """
    learner = json.loads(booster.save_raw("json"))["learner"]
    grown = learner["gradient_booster"]["model"]["trees"]
    trees: list[dict[str, NDArray[Any]]] = []
    for tree, weight in zip(grown, weights.astype(np.float32), strict=False):
        value = np.array(tree["split_conditions"], np.float32)
        trees.append(
            {
                "left": np.array(tree["left_children"], np.int32),
                "right": np.array(tree["right_children"], np.int32),
                "feature": columns[tree["split_indices"]],
                "threshold": value,
                # Of a leaf XGBoost keeps it in the same place.
                "value": value * weight,
                "nan_left": np.array(tree["default_left"], np.uint8),
            }
        )
    return Trees.stacked(trees, n_features)
