"""Heads on more pairs than are held in memory, and on many at once."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from tllboost.heads import forest, make_head, trees
from tllboost.merges import PairFeatures


def pairs(n_pairs: int = 2_000) -> tuple[PairFeatures, NDArray[np.int64]]:
    """Pairs whose inner product says whether they match."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(300, 16)).astype(np.float32)
    left, right = rng.integers(300, size=(2, n_pairs))
    label = (vectors[left] * vectors[right]).sum(axis=1) > 0
    return PairFeatures(vectors, left, right, "dot"), label.astype(np.int64)


@pytest.mark.parametrize("plain", [False, True])
def test_a_forest_of_more_pairs_than_fit_has_all_its_trees(
    plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, label = pairs()
    X = np.asarray(features) if plain else features
    monkeypatch.setattr(forest, "_MOST_BYTES", 4 * 16 * 700)
    head = make_head("random-forest").set_params(n_estimators=25)
    head.fit(X, label, sample_weight=np.ones(len(label)))
    assert len(head.trees_.roots) == 25
    assert head.trees_.checked() is head.trees_
    score = head.decision_function(X)
    assert roc_auc_score(label, score) > 0.9
    again = make_head("random-forest").from_members(head.to_members())
    assert np.array_equal(again.decision_function(X), score)


def test_a_forest_of_pairs_that_fit_sees_them_all_in_each_tree() -> None:
    features, label = pairs(300)
    head = make_head("random-forest").set_params(n_estimators=5)
    once = head.fit(features, label).decision_function(features)
    twice = head.fit(np.asarray(features), label).decision_function(features)
    assert np.array_equal(once, twice)


@pytest.mark.parametrize("walks", [1, 1_000, 10**6])
def test_votes_do_not_hang_on_how_many_trees_are_walked_at_once(
    walks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, label = pairs(300)
    head = make_head("random-forest").set_params(n_estimators=20).fit(features, label)
    usual = head.decision_function(features)
    monkeypatch.setattr(trees, "_WALKS", walks)
    assert np.array_equal(head.decision_function(features), usual)
