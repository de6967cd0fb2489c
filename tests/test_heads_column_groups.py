"""Trees on groups of columns: what they see, and that one booster holds them all."""

from __future__ import annotations

import json
import weakref

import numpy as np
import pytest

from tllboost.heads.boosting import (
    ColumnGroups,
    GroupedTrees,
    XGBoostHead,
    XGBoostRankHead,
    grower,
)
from tllboost.merges import PairFeatures

PARAMETERS = {
    "objective": "binary:logistic",
    "base_score": 0.5,
    "max_depth": 2,
    "max_bin": 32,
    "subsample": 0.7,
    "seed": 3,
    "nthread": 1,
}


def planted(n_rows: int = 300, n_columns: int = 23) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_rows, n_columns)).astype(np.float32)
    return X, (X[:, 5] + X[:, 17] + 0.3 * rng.normal(size=n_rows) > 0).astype(int)


def grown(n_groups: int, n_trees: int) -> tuple[ColumnGroups, GroupedTrees, np.ndarray]:
    X, y = planted()
    matrix = ColumnGroups(X, 32, n_groups=n_groups, seed=0)
    matrix.set_info(label=y)
    matrix.set_base_margin(np.linspace(-1, 1, len(y)))
    trees = GroupedTrees(PARAMETERS, matrix)
    for tree in range(n_trees):
        trees.update(matrix, tree)
    return matrix, trees, X


@pytest.mark.parametrize("n_groups", [2, 5, 23])
def test_every_column_is_in_one_group(n_groups: int) -> None:
    X, _ = planted()
    groups = ColumnGroups(X, 32, n_groups=n_groups, seed=1).groups
    columns = np.concatenate([columns for columns, _ in groups])
    assert len(groups) == n_groups
    assert sorted(columns.tolist()) == list(range(X.shape[1]))


def test_each_tree_splits_on_columns_of_one_group_and_all_groups_take_turns() -> None:
    matrix, trees, _ = grown(n_groups=4, n_trees=12)
    saved = json.loads(trees[:].save_raw("json"))
    used = []
    for tree in saved["learner"]["gradient_booster"]["model"]["trees"]:
        inner = np.array(tree["left_children"]) >= 0
        split = set(np.array(tree["split_indices"])[inner].tolist())
        holders = [i for i, (c, _) in enumerate(matrix.groups) if split <= {*c}]
        assert len(holders) == 1
        used += holders
    for turn in range(0, 12, 4):
        assert sorted(used[turn : turn + 4]) == [0, 1, 2, 3]


def test_one_booster_of_all_trees_gives_the_margin_that_they_were_grown_to() -> None:
    _, trees, X = grown(n_groups=4, n_trees=30)
    start = np.linspace(-1, 1, len(X))
    joined = trees[:].inplace_predict(X, predict_type="margin")
    # Grown on bins and read on values: the same side of every cut.
    np.testing.assert_allclose(start + joined, trees._margin, atol=1e-5)


def test_slices_of_the_trees_add_up_to_all_of_them() -> None:
    _, trees, X = grown(n_groups=5, n_trees=20)
    parts = [
        trees[i : i + 10].inplace_predict(X, predict_type="margin") for i in (0, 10)
    ]
    whole = trees[:20].inplace_predict(X, predict_type="margin")
    np.testing.assert_allclose(parts[0] + parts[1], whole, atol=1e-6)
    assert trees[:7].num_boosted_rounds() == 7


def wide(merge: str = "l1") -> tuple[PairFeatures, np.ndarray]:
    """Return as many values as columns are put into groups for."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(1_000, 2_048)).astype(np.float32)
    left, right = rng.integers(1_000, size=(2, 1_200))
    label = (np.abs(vectors[left, 0] - vectors[right, 0]) < 0.5).astype(int)
    return PairFeatures(vectors, left, right, merge), label


@pytest.mark.parametrize("head", [XGBoostHead, XGBoostRankHead])
def test_heads_of_wide_features_learn_and_come_back_from_a_bundle(head: type) -> None:
    features, label = wide()
    assert isinstance(grower().matrix(features, 16, 10, 0), ColumnGroups)
    query = np.repeat(np.arange(60), 20)
    fitted = head(n_estimators=60, start="none", n_jobs=1)
    fitted.fit(features, label, query=query)
    score = fitted.decision_function(features)
    assert score[label == 1].mean() > score[label == 0].mean() + 0.5
    again = head().from_members(fitted.to_members())
    np.testing.assert_array_equal(again.decision_function(features), score)


def test_wide_heads_are_the_same_from_blocks_and_from_one_array(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    features, label = wide("dot")
    whole = XGBoostHead(n_estimators=20, n_jobs=1).fit(features, label)
    monkeypatch.setattr("tllboost.heads.boosting._KEPT_BYTES", 0)
    fresh = features.take(np.arange(len(features)))
    blocks = XGBoostHead(n_estimators=20, n_jobs=1).fit(fresh, label)
    np.testing.assert_array_equal(
        whole.decision_function(features), blocks.decision_function(features)
    )


def test_heads_of_one_merge_share_a_matrix_as_long_as_the_features_are_there() -> None:
    features, _ = wide()
    first = grower().matrix(features, 16, 10, 0)
    assert grower().matrix(features, 16, 10, 0) is first
    assert grower().matrix(features, 16, 10, 1) is not first
    last = weakref.ref(grower().matrix(features, 16, 10, 1))
    assert last() is not None
    del features
    assert last() is None
