"""Heads on more pairs than are held in memory, and on many at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import HEADS_HERE
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from tllboost.heads import base as sampling
from tllboost.heads import fitted as trees
from tllboost.heads import make_head
from tllboost.heads.base import Validation
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
    monkeypatch.setattr(sampling, "MOST_BYTES", 4 * 16 * 700)
    head = make_head("random-forest", seed=2**32 - 1).set_params(n_estimators=25)
    head.fit(X, label, sample_weight=np.ones(len(label)))
    assert len(head.fitted_.part) == 25
    score = head.decision_function(X)
    assert roc_auc_score(label, score) > 0.9
    again = trees.FittedHead.of("forest", head.fitted_.tensors())
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


@pytest.mark.parametrize(
    "name", sorted({*HEADS_HERE} - {"cosine", "cosine-norm", "joined"})
)
def test_a_head_holds_no_more_pairs_than_fit_and_still_learns(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, label = pairs(4_000)
    query = np.arange(4_000) // 20
    validation = Validation(features, label.astype(np.int8), np.ones(len(label)), query)
    monkeypatch.setattr(sampling, "MOST_BYTES", 16 * 2_000)
    seen: list[int] = []
    read = PairFeatures.blocks

    def counted(self: PairFeatures, size: int | None = None) -> Any:
        if self is not features:
            seen.append(len(self))
        return read(self, size)

    monkeypatch.setattr(PairFeatures, "blocks", counted)
    head = make_head(name).fit(
        features,
        label,
        sample_weight=np.ones(len(label)),
        query=query,
        validation=validation,
    )
    if name != "naive-bayes":  # which reads a block at a time and holds none
        assert 0 < max(seen) <= 2_000
    assert roc_auc_score(label, head.decision_function(features)) > 0.8


def test_lists_stay_whole_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "MOST_BYTES", 4 * 2 * 10)
    query = np.repeat([7, 3, 9, 1, 5], [3, 4, 3, 5, 2])
    X = np.arange(34, dtype=np.float32).reshape(17, 2)
    training = sampling.Training(X, np.arange(17) % 2, np.ones(17), query)
    some = sampling.within_memory(training)
    assert 0 < len(some.label) <= 10
    assert some.query is not None
    for one in set(some.query.tolist()):
        assert (some.query == one).sum() == (query == one).sum()
    rows = (some.features[:, 0] / 2).astype(int)
    assert (np.diff(rows) > 0).all()
    assert (query[rows] == some.query).all()


def test_what_is_drawn_of_too_many_pairs_depends_on_the_seed_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    features, label = pairs()
    monkeypatch.setattr(sampling, "MOST_BYTES", 4 * 16 * 700)
    training = sampling.Training(features, label, np.ones(len(label)))
    first, again, other = (
        sampling.within_memory(training, seed=seed).features.left for seed in (0, 0, 1)
    )
    assert len(first) == 700
    assert (first == again).all()
    assert (first != other).any()
