"""LightGBM and CatBoost as heads: trees that add to what the cosine says.

As :class:`~tllboost.heads.boosting.XGBoostHead` they start from the log-odds of the
cosine. What they have grown is turned into numbers that score without them.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tllboost.conventions import n_threads_of
from tllboost.heads.base import (
    PairHead,
    Training,
    Validation,
    cosine_curve,
    within_memory,
)
from tllboost.heads.boosting import XGBoostHead
from tllboost.heads.fitted import FittedHead, Trees, below_of
from tllboost.registry import Options

__all__ = ["CatBoostHead", "LightGBMHead"]

Nodes = dict[str, NDArray[Any]]
_MOST = 1e38  # beyond all features: LightGBM asks for NaN by a threshold past float32


class _Rows(NamedTuple):
    """Pairs as both libraries take them, and the margin that trees add to."""

    features: NDArray[np.float32]
    label: NDArray[np.integer]
    weight: NDArray[np.float64]
    margin: NDArray[np.float64]


@dataclass(eq=False, repr=False, kw_only=True)
class _CosineBoosted(PairHead):
    OPTIONS: ClassVar[Options] = {
        key: one for key, one in XGBoostHead.OPTIONS.items() if key != "start"
    }

    n_estimators: int = 400
    early_stopping_rounds: int = 30
    max_depth: int = 3
    learning_rate: float = 0.05
    colsample_bytree: float = 0.3
    subsample: float = 0.7
    n_jobs: int | None = None
    random_state: Any = 0

    def learn(self, training: Training, validation: Validation | None) -> None:
        """Grow trees until validation gains no more; keep none if it gained nothing.

        Of more pairs than 256 MiB hold the features of, as many are drawn.
        """
        slope = intercept = np.float64(0)
        if hasattr(training.features, "cosine"):
            slope, intercept, *_ = map(np.float64, cosine_curve(training, validation))
        start = FittedHead(None, slope, intercept)
        sets = []
        for some in (training, validation):
            if some is not None:
                X, y, weight, _ = within_memory(some, seed=self.seed_)
                features = np.ascontiguousarray(X, dtype=np.float32)
                margin = start.decision_function(X).astype(np.float64)
                sets.append(_Rows(features, y, weight, margin))
        varies = (sets[0].features != sets[0].features[0]).any()
        grown = list(self._grow(*sets)) if varies else []
        n_features = training.features.shape[1]
        self.fitted_ = replace(start, part=Trees.stacked(grown, n_features))
        if validation is not None:
            before, after = (
                validation.loss(one.decision_function(validation.features))
                for one in (start, self.fitted_)
            )
            if not after < before:
                self.fitted_ = replace(start, part=Trees.stacked([], n_features))

    def _grow(self, train: _Rows, chooser: _Rows | None = None) -> Iterator[Nodes]:
        """Yield the nodes of each tree, as many trees as the chooser wants."""
        raise NotImplementedError


class LightGBMHead(_CosineBoosted):
    """LightGBM on pair features, from the cosine where the features know it.

    Parameters
    ----------
    n_estimators : int, default=400
        Trees at most.
    early_stopping_rounds : int, default=30
        Trees without gain on validation before growth stops.
    max_depth, learning_rate, colsample_bytree, subsample
        As in LightGBM; a tree has 2 to the power of `max_depth` leaves at most.
    n_jobs : int or None, default=None
        Threads; -1 takes all cores.
    random_state : int, RandomState, Generator or None, default=0

    Attributes
    ----------
    fitted_ : FittedHead
        The trees, none where validation gained nothing by them, and the curve from
        cosine to the margin that they start from.
    """

    def _grow(self, train: _Rows, chooser: _Rows | None = None) -> Iterator[Nodes]:
        import lightgbm

        parameters = {
            "objective": "binary",
            "boost_from_average": False,
            "max_depth": self.max_depth,
            "num_leaves": 2 ** min(self.max_depth, 16),
            "learning_rate": self.learning_rate,
            "feature_fraction": self.colsample_bytree,
            "bagging_fraction": self.subsample,
            "bagging_freq": 1,
            "num_threads": n_threads_of(self.n_jobs) or 0,
            "seed": self.seed_ % 2**31,
            "deterministic": True,
            "force_col_wise": True,
            "verbosity": -1,
        }
        sets = [
            lightgbm.Dataset(
                rows.features,
                label=rows.label,
                weight=rows.weight,
                init_score=rows.margin,
                params=parameters,
            )
            for rows in (train, chooser)
            if rows is not None
        ]
        stop = lightgbm.early_stopping(self.early_stopping_rounds, verbose=False)
        grown = lightgbm.train(
            parameters,
            sets[0],
            num_boost_round=self.n_estimators,
            valid_sets=sets[1:],
            callbacks=[stop] if chooser else [],
        )
        yield from lightgbm_nodes(grown.model_to_string())


def lightgbm_nodes(text: str) -> Iterator[Nodes]:
    """Yield the nodes of each tree of a LightGBM model, as it writes itself."""
    for block in text.split("\nend of trees")[0].split("\nTree=")[1:]:
        told = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)

        def numbers(name: str, told: dict[str, str] = told) -> NDArray[np.float64]:
            return np.array(told.get(name, "").split(), dtype=np.float64)

        leaves = numbers("leaf_value")
        threshold = np.clip(numbers("threshold"), -_MOST, _MOST)
        n_inner = len(threshold)
        children = []
        for side in ("left_child", "right_child"):
            child = numbers(side).astype(np.int64)
            children.append(np.where(child < 0, n_inner + ~child, child))
        # Bits: of a category, to the left without a value, and what has no value.
        kind = numbers("decision_type").astype(np.int64)
        is_left = np.where(kind >> 2 == 2, kind >> 1 & 1, threshold >= 0)
        none = np.full(len(leaves), -1)
        zeros = np.zeros(len(leaves))
        yield {
            "left": np.append(children[0], none),
            "right": np.append(children[1], none),
            "feature": np.append(numbers("split_feature"), zeros).astype(np.int32),
            "threshold": below_of(np.append(threshold, zeros)),
            "nan_left": np.append(is_left, zeros).astype(np.uint8),
            "value": np.append(np.zeros(n_inner), leaves),
        }


class CatBoostHead(_CosineBoosted):
    """CatBoost on pair features, from the cosine where the features know it.

    Parameters and attributes as :class:`LightGBMHead`. All nodes of a level of a tree
    ask the same, so `max_depth` is what CatBoost calls ``depth``.
    """

    def _grow(self, train: _Rows, chooser: _Rows | None = None) -> Iterator[Nodes]:
        import catboost

        sets = [
            catboost.Pool(
                rows.features, rows.label, weight=rows.weight, baseline=rows.margin
            )
            for rows in (train, chooser)
            if rows is not None
        ]
        model = catboost.CatBoost(
            {
                "loss_function": "Logloss",
                "iterations": self.n_estimators,
                "depth": self.max_depth,
                "learning_rate": self.learning_rate,
                "rsm": self.colsample_bytree,
                "bootstrap_type": "Bernoulli",
                "subsample": self.subsample,
                "thread_count": n_threads_of(self.n_jobs) or -1,
                "random_seed": self.seed_,
                "logging_level": "Silent",
                "allow_writing_files": False,
            }
        )
        stop = {"early_stopping_rounds": self.early_stopping_rounds}
        model.fit(sets[0], **({"eval_set": sets[1]} | stop if chooser else {}))
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
        levels = np.repeat(
            np.arange(len(tree["splits"])), 2 ** np.arange(len(tree["splits"]))
        )
        asked = [tree["splits"][level] for level in levels]
        n_inner, n_leaves = len(levels), len(tree["leaf_values"])
        # The first question is the last bit of a leaf's number, the first of its place.
        bits = range(len(tree["splits"]))
        place = np.arange(n_leaves)
        order = sum(((place >> bit & 1) << (len(bits) - 1 - bit) for bit in bits), 0)
        inner, none, zeros = np.arange(n_inner), np.full(n_leaves, -1), [0] * n_leaves
        columns = [one["float_feature_index"] for one in asked]
        borders = np.array([one["border"] for one in asked] + zeros, np.float64)
        yield {
            "left": np.append(2 * inner + 1, none),
            "right": np.append(2 * inner + 2, none),
            "feature": np.array(columns + zeros, np.int32),
            "threshold": below_of(borders),
            "nan_left": np.array(
                [kinds[column] != "AsTrue" for column in columns] + zeros, np.uint8
            ),
            "value": np.append(np.zeros(n_inner), np.array(tree["leaf_values"])[order]),
        }
