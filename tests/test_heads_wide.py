"""Boosted heads of wide features: trees see the columns that say most, and no other."""

from __future__ import annotations

import numpy as np
import pytest

from tllboost.heads.boosting import XGBoostHead, XGBoostRankHead, best_columns
from tllboost.heads.fitted import FittedHead
from tllboost.merges import PairFeatures

N_COLUMNS = 2_048


def wide(merge: str = "l1") -> tuple[PairFeatures, np.ndarray]:
    """Return as many values as columns are chosen of; the first one tells matches."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(1_000, N_COLUMNS)).astype(np.float32)
    left, right = rng.integers(1_000, size=(2, 1_200))
    label = (np.abs(vectors[left, 0] - vectors[right, 0]) < 0.5).astype(int)
    return PairFeatures(vectors, left, right, merge), label


def split_on(head: XGBoostHead) -> set[int]:
    """Return the columns that the trees of a head look at."""
    trees = head.fitted_.tensors()
    inner = trees["left"] != np.arange(len(trees["left"]))
    return set(trees["feature"][inner].tolist())


def test_columns_are_ranked_by_the_weighted_correlation_with_what_is_left() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(3, 2, size=(400, 9)).astype(np.float32)
    residual, weight = rng.normal(size=400) + X[:, 2] - 0.5 * X[:, 7], rng.random(400)
    cov = np.cov(X.T, residual, aweights=weight)
    correlation = np.abs(cov[:-1, -1]) / np.sqrt(np.diag(cov)[:-1])
    for n in (1, 2, 5):
        expected = np.sort(np.argsort(-correlation)[:n])
        np.testing.assert_array_equal(best_columns(X, residual, weight, n), expected)


def test_a_constant_column_says_nothing() -> None:
    X = np.float32([[1, 0, 5], [1, 1, 5], [1, 0, 5], [1, 1, 5]])
    assert best_columns(X, np.array([0.0, 1, 0, 1]), np.ones(4), 1).tolist() == [1]


@pytest.mark.parametrize("head", [XGBoostHead, XGBoostRankHead])
def test_heads_of_wide_features_learn_and_come_back_from_a_bundle(head: type) -> None:
    features, label = wide()
    query = np.repeat(np.arange(60), 20)
    fitted = head(n_estimators=200, start="none", n_jobs=1)
    fitted.fit(features, label, query=query)
    score = fitted.decision_function(features)
    assert score[label == 1].mean() > score[label == 0].mean() + 0.5
    used = split_on(fitted)
    assert 0 in used
    assert max(used) > 1000  # of all columns, by their own numbers
    assert fitted.fitted_.n_features_in_ == N_COLUMNS
    again = FittedHead.of("trees", fitted.fitted_.tensors())
    np.testing.assert_array_equal(again.decision_function(features), score)


def test_trees_see_the_best_columns_alone() -> None:
    features, label = wide()
    fitted = XGBoostHead(n_estimators=150, start="none", colsample_bytree=1.0, n_jobs=1)
    fitted.fit(features, label)
    allowed = best_columns(features, label - 0.5, np.ones(len(label)), 500)
    assert split_on(fitted) <= set(allowed.tolist())


def test_wide_heads_are_the_same_from_blocks_and_from_one_array(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    features, label = wide("dot")
    whole = XGBoostHead(n_estimators=20, n_jobs=1).fit(features, label)
    monkeypatch.setattr("tllboost.merges._BLOCK_BYTES", 2**20)
    blocks = XGBoostHead(n_estimators=20, n_jobs=1).fit(features, label)
    np.testing.assert_allclose(
        whole.decision_function(features),
        blocks.decision_function(features),
        rtol=1e-6,
    )
