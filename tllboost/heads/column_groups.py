"""Trees on groups of columns, each quantised on its own: what wide features cost least.

XGBoost's histograms are of all columns, however few a tree may use, so a tenth of the
columns costs as much as all of them. Cut into ten matrices, a tree on one of them costs
a tenth. Which columns a tree sees is still drawn: the cut is, and the order in which
the groups take their turns.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tllboost.heads.quantising import quantile_matrix

__all__ = ["ColumnGroups", "GroupedTrees"]

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
