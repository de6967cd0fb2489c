"""Features as the histogram bins that XGBoost grows trees on.

Trees on groups of columns, each quantised on its own: what wide features cost least.

XGBoost's histograms are of all columns, however few a tree may use, so a tenth of the
columns costs as much as all of them. Cut into ten matrices, a tree on one of them costs
a tenth. Which columns a tree sees is still drawn: the cut is, and the order in which
the groups take their turns.

Where trees are grown: in this process, unless a block says otherwise.

Gradient-boosted heads that may start from a cosine.

Few pairs and many columns make a plain boosted head fall below the cosine that needs no
training. Boosting can start from that baseline instead: the log-odds of a logistic
curve on the cosine alone is the margin of tree zero, and trees add what it misses.
Trees that validation does not clearly want are not kept, so such a head is seldom
below its cosine. Of projected vectors there are two: the cosine of what the
projection gave, and the frozen one, of what it was given.
"""

from __future__ import annotations

import copy
import json
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tllboost.calibration import Calibration
from tllboost.errors import UsageError
from tllboost.heads.base import (
    PairHead,
    Training,
    Validation,
    clearly_better,
    cosine_curve,
    cosine_of,
    within_memory,
)

__all__ = [
    "ColumnGroups",
    "GroupedTrees",
    "XGBoostHead",
    "XGBoostRankHead",
    "choose_bins",
    "grower",
    "grown_by",
    "quantile_matrix",
]


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
    if values < 500_000:
        return 256
    return 64 if values < 4_000_000 else 16


def quantile_matrix(
    X: Any, max_bin: int, columns: NDArray[np.int64] | None = None
) -> Any:
    """Quantise features a block at a time; all of them are never in memory at once.

    Parameters
    ----------
    X : array-like or PairFeatures of shape (n_pairs, n_features)
    max_bin : int
        Histogram bins a column.
    columns : ndarray of int64 or None, default=None
        Which columns; None takes all.

    Returns
    -------
    xgboost.QuantileDMatrix
    """
    import xgboost

    class Blocks(xgboost.DataIter):
        """Feed the blocks to XGBoost, as often as it asks."""

        def reset(self) -> None:
            self.blocks = _blocks(X, columns)

        def next(self, input_data: Callable[..., None]) -> bool:
            block = next(self.blocks, None)
            if block is None:
                return False
            input_data(data=block)
            return True

    return xgboost.QuantileDMatrix(Blocks(), max_bin=max_bin)


def _blocks(X: Any, columns: NDArray[np.int64] | None) -> Iterator[NDArray[np.float32]]:
    for block in X.blocks() if hasattr(X, "blocks") else [np.asarray(X, np.float32)]:
        # Indexing leaves columns side by side in memory; XGBoost reads by row.
        yield block if columns is None else np.ascontiguousarray(block[:, columns])


_KEPT_BYTES = 2**28
_SEEDS = 100_003  # a prime above any number of trees


class ColumnGroups:
    """Quantised features in groups of columns, which take labels as one matrix does.

    Parameters
    ----------
    X : array-like or PairFeatures of shape (n_pairs, n_features)
    max_bin : int
        Histogram bins a column.
    n_groups : int
    seed : int
        What cuts the columns.

    Attributes
    ----------
    groups : list of (ndarray of int64, xgboost.QuantileDMatrix)
        The columns of each group, and its matrix.
    margin : ndarray of shape (n_pairs,), float32
        What trees start from.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(50, 7)).astype(np.float32)
    >>> [len(columns) for columns, _ in ColumnGroups(X, 16, n_groups=3, seed=0).groups]
    [3, 2, 2]
    """

    def __init__(self, X: Any, max_bin: int, *, n_groups: int, seed: int) -> None:
        drawn = np.random.default_rng(seed).permutation(X.shape[1])
        few = 4 * X.shape[0] * X.shape[1] <= _KEPT_BYTES
        # Merged once where that is small, else once more for each group.
        rows = np.asarray(X, np.float32) if few else X
        self.n_features = X.shape[1]
        self.groups = [
            (columns, _quantised(rows, max_bin, columns))
            for columns in map(np.sort, np.array_split(drawn, n_groups))
        ]

    def set_group(self, group: ArrayLike) -> None:
        """Take the sizes of the ranking lists."""
        for _, matrix in self.groups:
            matrix.set_group(group)

    def set_info(self, **told: ArrayLike) -> None:
        """Take labels or weights."""
        for _, matrix in self.groups:
            matrix.set_info(**told)

    def set_base_margin(self, margin: ArrayLike) -> None:
        """Take what trees start from: (n_pairs,)."""
        self.margin = np.asarray(margin, dtype=np.float32)


class GroupedTrees:
    """Boosted trees of which each sees one group of columns.

    Parameters
    ----------
    parameters : mapping
        Of XGBoost; its share of columns is not needed.
    matrix : ColumnGroups
        With labels and a margin.
    """

    def __init__(self, parameters: Mapping[str, Any], matrix: ColumnGroups) -> None:
        self._parameters = {**parameters, "colsample_bytree": 1.0}
        self._seed = parameters["seed"]
        self._rng = np.random.default_rng(self._seed)
        self._margin = matrix.margin
        self._turns: list[int] = []
        self._trees: list[dict[str, Any]] = []
        self._form: dict[str, Any] = {}

    def update(self, matrix: ColumnGroups, tree: int) -> None:
        """Add a tree on the group whose turn it is."""
        import xgboost

        if not self._turns:
            self._turns = self._rng.permutation(len(matrix.groups)).tolist()
        columns, part = matrix.groups[self._turns.pop()]
        part.set_base_margin(self._margin)
        seed = self._seed * _SEEDS + tree
        one = xgboost.Booster({**self._parameters, "seed": seed}, [part])
        one.update(part, tree)
        self._margin = one.predict(part, output_margin=True)
        self._form = json.loads(one.save_raw("json"))
        (grown,) = _model(self._form)["trees"]
        self._trees.append(_on_all(grown, columns, matrix.n_features))

    def __getitem__(self, some: slice) -> Any:
        """Return a booster of some of the trees, which reads whole rows."""
        import xgboost

        trees = [{**t, "id": i} for i, t in enumerate(self._trees[some])]
        form = copy.deepcopy(self._form)
        width = trees[0]["tree_param"]["num_feature"]
        form["learner"]["learner_model_param"]["num_feature"] = width
        model = _model(form)
        model["trees"] = trees
        model["tree_info"] = [0] * len(trees)
        model["iteration_indptr"] = [*range(len(trees) + 1)]
        model["gbtree_model_param"]["num_trees"] = str(len(trees))
        booster = xgboost.Booster({"nthread": self._parameters.get("nthread", 0)})
        booster.load_model(bytearray(json.dumps(form).encode()))
        return booster


def _quantised(X: Any, max_bin: int, columns: NDArray[np.int64]) -> Any:
    if hasattr(X, "blocks"):
        return quantile_matrix(X, max_bin, columns)
    # XGBoost asks several times: an array is cut once.
    return quantile_matrix(np.ascontiguousarray(X[:, columns]), max_bin)


def _model(form: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a saved booster that holds its trees."""
    model: dict[str, Any] = form["learner"]["gradient_booster"]["model"]
    return model


def _on_all(
    tree: dict[str, Any], columns: NDArray[np.int64], n_features: int
) -> dict[str, Any]:
    """Return a tree on some columns as one on all."""
    split = columns[tree["split_indices"]].tolist()
    width = {**tree["tree_param"], "num_feature": str(n_features)}
    return {**tree, "split_indices": split, "tree_param": width}


# Values below which histograms of all columns cost less than a booster for each tree.
_WIDE = 2_000_000


class Grower(Protocol):
    """What quantises features and grows trees on them.

    Attributes
    ----------
    is_bounded : bool
        Whether one process holds all bins: it then gets no more pairs than fit.
    """

    is_bounded: bool

    def matrix(self, X: Any, max_bin: int, n_groups: int, seed: int) -> Any:
        """Return the quantised features, which take labels as XGBoost's do.

        A tree may see one of `n_groups` groups of columns at a time, cut by `seed`,
        or columns that XGBoost draws: as many.
        """

    def booster(self, parameters: Mapping[str, Any], matrix: Any, n_trees: int) -> Any:
        """Return what ``update`` adds a tree to, `n_trees` at most.

        A slice of it is an XGBoost booster of those trees.
        """


class _Here:
    """Grow them in this process.

    The matrix of the last PairFeatures is kept as long as these are: the boosted heads
    of one merge share it.
    """

    is_bounded = True

    def __init__(self) -> None:
        self._last: tuple[Any, tuple[int, ...], Any] | None = None

    def matrix(self, X: Any, max_bin: int, n_groups: int, seed: int) -> Any:
        form = (max_bin, n_groups, seed)
        if self._last and self._last[0]() is X and self._last[1] == form:
            return self._last[2]
        matrix: Any
        if n_groups > 1 and X.shape[0] * X.shape[1] >= _WIDE:
            matrix = ColumnGroups(X, max_bin, n_groups=n_groups, seed=seed)
        else:
            matrix = quantile_matrix(X, max_bin)
        # An array may hold other numbers by the next time.
        if hasattr(X, "blocks"):
            self._last = weakref.ref(X, self._forget), form, matrix
        return matrix

    def _forget(self, gone: Any) -> None:
        if self._last and self._last[0] is gone:
            self._last = None

    def booster(self, parameters: Mapping[str, Any], matrix: Any, n_trees: int) -> Any:
        import xgboost

        if isinstance(matrix, ColumnGroups):
            return GroupedTrees(parameters, matrix)
        return xgboost.Booster(dict(parameters), [matrix])


_GROWER: ContextVar[Grower] = ContextVar("grower", default=_Here())  # noqa: B039


def grower() -> Grower:
    """Return what grows trees just now."""
    return _GROWER.get()


@contextmanager
def grown_by(one: Grower) -> Iterator[None]:
    """Let ``xgboost`` heads that are fitted in the block be grown by another.

    Parameters
    ----------
    one : Grower
        As :class:`tllboost.cluster.boosting.ClusterGrower`.
    """
    token = _GROWER.set(one)
    try:
        yield
    finally:
        _GROWER.reset(token)


_STARTS = ("auto", "cosine", "frozen", "none")
_COSINES = ("cosine", "frozen")
_STEP = 10
_FAIR = 100  # trees before a start is given up for a better one


class XGBoostHead(PairHead):
    """XGBoost on pair features, from the cosine where that wins on validation.

    Parameters
    ----------
    start : {"auto", "cosine", "frozen", "none"}, default="auto"
        Margin of tree zero: the cosine of the vectors, that of the frozen vectors
        before a projection, or nothing. "auto" grows from each in this order and takes
        a later one only where validation is clearly better so; without a validation
        side it takes the cosine where the features know it.
    n_estimators : int, default=400
        Trees at most.
    early_stopping_rounds : int, default=30
        Trees without gain on validation before growth stops; looked at every 10.
    max_depth, learning_rate, colsample_bytree, subsample, min_child_weight
        As in XGBoost.
    max_bin : int or None, default=None
        None chooses from the shape of the data, see
        :func:`~tllboost.heads.boosting.choose_bins`.
    n_jobs : int or None, default=None
        Threads.
    random_state : int, default=0

    Attributes
    ----------
    booster_ : xgboost.Booster or None
        None where no tree did better than the start alone.
    start_ : str
        "cosine", "frozen" or "none".
    baseline_ : Calibration or None
        Curve from cosine to margin, where boosting starts from it.

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

    objective = "binary:logistic"
    base_score = 0.5

    def __init__(
        self,
        *,
        start: str = "auto",
        n_estimators: int = 400,
        early_stopping_rounds: int = 30,
        max_depth: int = 2,
        learning_rate: float = 0.1,
        colsample_bytree: float = 0.1,
        subsample: float = 0.7,
        min_child_weight: float = 1.0,
        max_bin: int | None = None,
        n_jobs: int | None = None,
        random_state: int = 0,
    ) -> None:
        self.start = start
        self.n_estimators = n_estimators
        self.early_stopping_rounds = early_stopping_rounds
        self.max_depth = max_depth
        self.learning_rate = learning_rate
        self.colsample_bytree = colsample_bytree
        self.subsample = subsample
        self.min_child_weight = min_child_weight
        self.max_bin = max_bin
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(
        self,
        X: Any,
        y: NDArray[np.integer],
        *,
        sample_weight: NDArray[np.float64] | None = None,
        query: NDArray[np.int64] | None = None,
        validation: Validation | None = None,
    ) -> XGBoostHead:
        """Grow trees on the training pairs until validation gains no more.

        Of more pairs than 256 MiB hold the bins of, as many are drawn, unless
        a cluster grows the trees.

        Parameters
        ----------
        X : array-like or PairFeatures of shape (n_pairs, n_features)
        y : ndarray of shape (n_pairs,)
        sample_weight : ndarray of shape (n_pairs,) or None
        query : ndarray of shape (n_pairs,), int64, or None
            Ranking list of each pair; the ranking head needs it.
        validation : Validation or None
        """
        if self.start not in _STARTS:
            msg = f"start={self.start!r} is none of {', '.join(_STARTS)}"
            raise UsageError(msg)
        if self.start in _COSINES and not hasattr(X, "cosine"):
            msg = f"start={self.start!r} needs PairFeatures, which know the vectors"
            raise UsageError(msg)
        side = Training(X, np.asarray(y), sample_weight, query)
        if grower().is_bounded:
            side = within_memory(side, value_bytes=1, seed=self.random_state)
        X, y, sample_weight, query = side
        bins = self.max_bin or choose_bins(*X.shape)
        n_groups = max(1, min(X.shape[1], round(1 / self.colsample_bytree)))
        matrix = grower().matrix(X, bins, n_groups, self.random_state)
        self._set_target(matrix, y, sample_weight, query)
        best: NDArray[np.float64] | None = None
        for start in self._starts(X, validation):
            curve = None
            if start in _COSINES:
                is_frozen = start == "frozen"
                curve = cosine_curve(X, y, sample_weight, validation, frozen=is_frozen)
            matrix.set_base_margin(_start_margin(X, start, curve))
            booster, losses = self._grow(matrix, bins, start, curve, validation, best)
            if best is None or clearly_better(losses, best):
                best = losses
                self.booster_, self.start_, self.baseline_ = booster, start, curve
        self.n_features_in_ = X.shape[1]
        return self

    def _starts(self, X: Any, validation: Validation | None) -> tuple[str, ...]:
        if self.start != "auto":
            return (self.start,)
        if not hasattr(X, "cosine"):
            return ("none",)
        if validation is None:
            return ("cosine",)
        is_projected = X.frozen is not X.vectors
        return ("cosine", "frozen", "none") if is_projected else ("cosine", "none")

    def _set_target(
        self,
        matrix: Any,
        y: NDArray[np.integer],
        weight: NDArray[np.float64] | None,
        query: NDArray[np.int64] | None,
    ) -> None:
        """Give the matrix its labels and weights; the binary head has no lists."""
        # Each pair a list of its own: the matrix may have served the ranking head,
        # and lists once set can't be taken back.
        matrix.set_group(np.ones(len(y), dtype=np.uint32))
        matrix.set_info(label=y)
        matrix.set_info(weight=np.ones(len(y)) if weight is None else weight)

    def _grow(
        self,
        matrix: Any,
        bins: int,
        start: str,
        curve: Calibration | None,
        validation: Validation | None,
        rival: NDArray[np.float64] | None,
    ) -> tuple[Any, NDArray[np.float64]]:
        """Grow trees and cut them where validation lost least, or keep none.

        `rival` is what another start lost: growth ends, too, where this one is still
        clearly worse after many trees. Returns the booster, None for no tree, and the
        validation loss of each list.
        """
        booster = grower().booster(
            {
                "objective": self.objective,
                "base_score": self.base_score,
                "max_depth": self.max_depth,
                "eta": self.learning_rate,
                "colsample_bytree": self.colsample_bytree,
                "subsample": self.subsample,
                "min_child_weight": self.min_child_weight,
                "max_bin": bins,
                "tree_method": "hist",
                "seed": self.random_state,
                "nthread": self.n_jobs or 0,
            },
            matrix,
            self.n_estimators,
        )
        if validation is None:
            for tree in range(self.n_estimators):
                booster.update(matrix, tree)
            grown = booster[: self.n_estimators] if self.n_estimators else None
            return grown, np.zeros(1)
        margin = _start_margin(validation.features, start, curve)
        untouched = best = validation.losses(margin)
        kept = 0
        for first in range(0, self.n_estimators, _STEP):
            end = min(first + _STEP, self.n_estimators)
            for tree in range(first, end):
                booster.update(matrix, tree)
            # A prediction reads whole rows however few trees it adds: look rarely.
            margin += _margins(booster[first:end], validation.features)
            losses = validation.losses(margin)
            if losses.mean() < best.mean():
                best, kept = losses, end
            elif end - kept >= self.early_stopping_rounds:
                break
            if rival is not None and end >= _FAIR and clearly_better(rival, best):
                break
        if not clearly_better(best, untouched):
            return None, untouched
        return booster[:kept], best

    def decision_function(self, X: Any) -> NDArray[np.floating]:
        """Return the margin (log-odds, uncalibrated): (n_pairs,) float64."""
        margin = _start_margin(X, self.start_, self.baseline_)
        if self.booster_ is not None:
            margin += _margins(self.booster_, X)
        return margin

    def to_members(self) -> dict[str, bytes]:
        """Return the trees as UBJSON and the start as JSON."""
        curve = None if self.baseline_ is None else list(self.baseline_)
        state = {"start": self.start_, "baseline": curve, "n": self.n_features_in_}
        return {
            "head.json": json.dumps(state).encode(),
            **(
                {"head.ubj": bytes(self.booster_.save_raw("ubj"))}
                if self.booster_
                else {}
            ),
        }

    def from_members(self, members: dict[str, bytes]) -> XGBoostHead:
        """Take them back."""
        import xgboost

        self.booster_ = None
        if "head.ubj" in members:
            self.booster_ = xgboost.Booster()
            self.booster_.load_model(bytearray(members["head.ubj"]))
        state = json.loads(members["head.json"])
        self.start_, self.n_features_in_ = state["start"], state["n"]
        if self.start_ not in _STARTS[1:]:
            msg = f"start {self.start_!r} is none of {', '.join(_STARTS[1:])}"
            raise ValueError(msg)
        curve = state["baseline"]
        self.baseline_ = None if curve is None else Calibration(*curve)
        return self


class XGBoostRankHead(XGBoostHead):
    """XGBoost trained to put each query's match above its others (pairwise LambdaMART).

    Burges, "From RankNet to LambdaRank to LambdaMART", 2010. Parameters as
    :class:`XGBoostHead`; the margin starts from a cosine likewise.
    """

    objective = "rank:pairwise"
    base_score = 0.0

    def _set_target(
        self,
        matrix: Any,
        y: NDArray[np.integer],
        weight: NDArray[np.float64] | None,
        query: NDArray[np.int64] | None,
    ) -> None:
        """Give the matrix its labels and lists; each list weighs the same."""
        if query is None:
            msg = "xgboost-rank needs the ranking list of each training pair: query=…"
            raise UsageError(msg)
        edges = np.flatnonzero(np.diff(query, prepend=query[0] - 1, append=-2))
        if len(edges) - 1 != len(np.unique(query)):
            msg = "xgboost-rank needs the pairs of one query next to each other"
            raise UsageError(msg)
        matrix.set_group(np.diff(edges))
        matrix.set_info(label=y)
        matrix.set_info(weight=np.ones(len(edges) - 1))


def _start_margin(X: Any, start: str, curve: Calibration | None) -> NDArray[np.float64]:
    """Return each pair's margin before any tree: (n_pairs,) float64."""
    if curve is None:
        return np.zeros(len(X))
    return curve.log_odds(cosine_of(X, frozen=start == "frozen"))


def _margins(booster: Any, X: Any) -> NDArray[np.float32]:
    """Return what the trees add to each pair's margin: (n_pairs,) float32."""
    blocks = X.blocks() if hasattr(X, "blocks") else [np.asarray(X, np.float32)]
    margins = [
        booster.inplace_predict(block, predict_type="margin") for block in blocks
    ]
    return np.concatenate(margins or [np.zeros(0, np.float32)])
