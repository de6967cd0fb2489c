"""LightGBM and CatBoost as heads: trees that add to what a linear head says.

As :class:`~tllboost.heads.boosting.XGBoostHead` they start from the log-odds of linear
heads and the cosine. What they have grown is turned into numbers that score without
them.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tllboost.conventions import n_threads_of, repeatable
from tllboost.heads.base import PairHead, within_memory
from tllboost.heads.fitted import Trees, below_of
from tllboost.heads.linear import linear_start

Nodes = dict[str, NDArray[Any]]
# Beyond all features: what asks for NaN has a threshold at the end of all numbers.
_MOST = 1e38


@dataclass(eq=False, repr=False, kw_only=True)
class GrownHead(PairHead):
    """Trees of a library on pair features, from a linear head and the cosine.

    Parameters
    ----------
    n_estimators : int, default=400
        Trees at most.
    early_stopping_rounds : int, default=30
        Trees without gain on validation before growth stops.
    max_depth, learning_rate, colsample_bytree, subsample
        As in the library; a tree has 2 to the power of `max_depth` leaves at most.
    n_jobs : int or None, default=None
        Threads; -1 takes all cores.
    random_state : int, RandomState, Generator or None, default=0

    Attributes
    ----------
    fitted_ : FittedHead
        The trees, none where validation gained nothing by them, and what they start
        from.
    """

    n_estimators: int = 400
    early_stopping_rounds: int = 30
    max_depth: int = 3
    learning_rate: float = 0.05
    colsample_bytree: float = 0.3
    subsample: float = 0.7
    n_jobs: int | None = None
    random_state: Any = 0

    def learn(self, training: Any, validation: Any) -> None:
        """Grow trees until validation gains no more; keep none if it gained nothing.

        Of more pairs than 256 MiB hold the features of, as many are drawn.
        """
        start = linear_start(training, validation)
        sets = []
        for some in filter(None, (training, validation)):
            X, y, weight, _ = within_memory(some, seed=self.seed_)
            margin = start.decision_function(X).astype(np.float64)
            sets.append((np.ascontiguousarray(X, np.float32), y, weight, margin))
        features = sets[0][0]
        grown: list[Nodes] = []

        @repeatable
        def n_trees() -> int:
            # A library may refuse features that are all the same.
            grown.extend(self._grow(*sets) if (features != features[0]).any() else ())
            return len(grown)

        n = n_trees()
        trees = islice(grown or self._grow(sets[0]), n)
        part = Trees.stacked(trees, features.shape[1])
        self.fitted_ = start.grown(part)
        if validation is not None:
            X, heads = validation.features, (start, self.fitted_)
            losses = [validation.loss(one.decision_function(X)) for one in heads]
            self.fitted_ = heads[int(np.argmin(losses))]

    def _grow(self, *sets: Any) -> Iterator[Nodes]:
        """Yield the nodes of each tree; a second set says how many there shall be."""
        raise NotImplementedError


class LightGBMHead(GrownHead):
    """LightGBM on pair features, from a linear head and the cosine.

    Parameters and attributes as :class:`GrownHead`.
    """

    def _grow(self, *sets: Any) -> Iterator[Nodes]:
        import lightgbm

        names = ("max_depth", "learning_rate", "colsample_bytree", "subsample")
        parameters = {name: getattr(self, name) for name in names} | {
            "objective": "binary",
            "num_leaves": 2 ** min(self.max_depth, 16),
            "subsample_freq": 1,
            "early_stopping_round": self.early_stopping_rounds if sets[1:] else 0,
            "num_threads": n_threads_of(self.n_jobs) or 0,
            "seed": self.seed_ % 2**31,
            "force_col_wise": True,
            "verbosity": -1,
        }
        data = [
            lightgbm.Dataset(X, y, weight=weight, init_score=margin, params=parameters)
            for X, y, weight, margin in sets
        ]
        grown = lightgbm.train(parameters, data[0], self.n_estimators, data[1:])
        yield from lightgbm_nodes(grown.model_to_string())


def lightgbm_nodes(text: str) -> Iterator[Nodes]:
    """Yield the nodes of each tree of a LightGBM model, as it writes itself."""
    for block in text.split("\nend of trees")[0].split("\nTree=")[1:]:
        lines = (line.split("=", 1) for line in block.splitlines() if "=" in line)
        told = {name: np.array(one.split(), np.float64) for name, one in lines}
        leaves, none = told["leaf_value"], np.zeros(0)
        names = ("left_child", "right_child", "decision_type", "split_feature")
        left, right, kind, column = (told.get(one, none).astype(int) for one in names)
        border = told.get("threshold", none)
        # Bits: a category, to the left without a value, and two of what is none: NaN,
        # or nothing, and then NaN counts as 0.
        nan_left = np.where(kind >> 2 == 2, kind >> 1 & 1, border >= 0)
        # Of a child that is a leaf, a number below zero.
        left, right = (np.where(c < 0, len(c) + ~c, c) for c in (left, right))
        yield _nodes(leaves, left, right, column, border, nan_left)


def _nodes(leaves: NDArray[np.float64], *inner: Any) -> Nodes:
    """Return a tree as :meth:`Trees.stacked` takes it: inner nodes, then leaves."""
    zeros = np.zeros(len(leaves))
    left, right, column, border, nan_left = inner
    border = np.clip(np.append(border, zeros), -_MOST, _MOST)
    return {
        "left": np.append(left, zeros - 1).astype(np.int64),
        "right": np.append(right, zeros - 1).astype(np.int64),
        "feature": np.append(column, zeros).astype(np.int32),
        "threshold": below_of(border),
        "nan_left": np.append(nan_left, zeros).astype(np.uint8),
        "value": np.append(np.zeros(np.size(column)), leaves),
    }


class CatBoostHead(GrownHead):
    """CatBoost on pair features, from a linear head and the cosine.

    Parameters and attributes as :class:`GrownHead`. All nodes of a level of a tree
    ask the same.
    """

    def _grow(self, *sets: Any) -> Iterator[Nodes]:
        import catboost

        pools = [
            catboost.Pool(X, y, weight=weight, baseline=margin)
            for X, y, weight, margin in sets
        ]
        names = ("n_estimators", "max_depth", "learning_rate", "subsample")
        parameters = {name: getattr(self, name) for name in names} | {
            "loss_function": "Logloss",
            "colsample_bylevel": self.colsample_bytree,
            "thread_count": n_threads_of(self.n_jobs) or -1,
            "random_seed": self.seed_,
            "logging_level": "Silent",
            "allow_writing_files": False,
        }
        stop = self.early_stopping_rounds if pools[1:] else None
        model = catboost.CatBoost(parameters)
        model.fit(pools[0], eval_set=pools[1:] or None, early_stopping_rounds=stop)
        if model.tree_count_:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "model.json")
                model.save_model(str(path), format="json")
                yield from catboost_nodes(json.loads(path.read_text("utf-8")))


def catboost_nodes(model: dict[str, Any]) -> Iterator[Nodes]:
    """Yield the nodes of each tree of a CatBoost model, of what it writes as JSON."""
    features = model["features_info"]["float_features"]
    kinds = {one["feature_index"]: one["nan_value_treatment"] for one in features}
    for tree in model["oblivious_trees"]:
        splits = tree["splits"] or []
        asked = [one for level, one in enumerate(splits) for _ in range(2**level)]
        columns = [one["float_feature_index"] for one in asked]
        borders = [one["border"] for one in asked]
        nan_left = [kinds[column] != "AsTrue" for column in columns]
        # The first question is the last bit of a leaf's number, the first of its place.
        place = np.arange(2 ** len(splits))
        order = 0 * place
        for level in range(len(splits)):
            order = 2 * order + (place >> level & 1)
        left = 2 * np.arange(len(asked)) + 1
        leaves = np.array(tree["leaf_values"], np.float64)[order]
        yield _nodes(leaves, left, left + 1, columns, borders, nan_left)
