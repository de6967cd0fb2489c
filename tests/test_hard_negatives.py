"""Hard negatives: the nearest distractors in place of some of those drawn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from makers import auc, features_of, fit, plant

from tllboost.errors import UsageError
from tllboost.splits import (
    PairSet,
    Protocol,
    SplitTable,
    harden,
    make_splits,
    match_components,
    training_sets,
)

N_NEGATIVES = 5


def group_pairs(n_groups: int = 12, size: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Return every pair inside each group of images, as Holidays has them."""
    a, b = np.triu_indices(size, 1)
    base = np.arange(n_groups)[:, None] * size
    return (base + a).ravel(), (base + b).ravel()


def groups(**options: Any) -> PairSet:
    left, right = group_pairs(**options)
    train, _ = training_sets(
        SplitTable(
            left,
            right,
            np.ones(len(left)),
            match_components(int(right.max()) + 1, left, right),
        ),
        protocol=Protocol(n_negatives=N_NEGATIVES),
        seed=0,
    )
    return train


def pairs() -> PairSet:
    return plant(
        60, protocol=Protocol(n_distractors=5, n_negatives=N_NEGATIVES)
    ).split.train


TRAIN = pytest.mark.parametrize("train", [pairs(), groups()], ids=["pairs", "groups"])


def vectors_of(train: PairSet, seed: int = 0) -> np.ndarray:
    n_images = 1 + max(train.left.max(), train.right.max())
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n_images, 6)).astype(np.float32)


def cosines(train: PairSet, vectors: np.ndarray) -> np.ndarray:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return (unit[train.left] * unit[train.right]).sum(axis=1)


def others(train: PairSet) -> list[np.ndarray]:
    rows = [np.flatnonzero(train.query == one) for one in np.unique(train.query)]
    return [one[train.label[one] == 0] for one in rows]


def component_of(train: PairSet) -> dict[int, int]:
    matches = train.label == 1
    of_right = zip(train.right[matches], train.component[matches], strict=True)
    return dict(of_right)


@TRAIN
@pytest.mark.parametrize("n_hard", range(1, N_NEGATIVES + 1))
def test_the_nearest_wrong_candidates_come_first(train: PairSet, n_hard: int) -> None:
    vectors = vectors_of(train)
    hard = harden(train, vectors, n_hard)
    component = component_of(train)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for rows in others(train):
        left, own = train.left[rows[0]], train.component[rows[0]]
        wrong = [image for image, one in component.items() if one != own]
        ranked = sorted(wrong, key=lambda image: -float(unit[left] @ unit[image]))
        assert hard.right[rows[:n_hard]].tolist() == ranked[:n_hard]
        kept = hard.right[rows[n_hard:]]
        assert set(kept) <= set(train.right[rows])


@TRAIN
def test_a_list_has_no_image_twice_and_none_of_the_querys_component(
    train: PairSet,
) -> None:
    hard = harden(train, vectors_of(train), 3)
    component = component_of(train)
    for rows in others(train):
        chosen = hard.right[rows]
        assert len(set(chosen)) == len(rows)
        assert all(component[image] != hard.component[rows[0]] for image in chosen)


@TRAIN
def test_all_but_the_right_images_of_non_matches_stays(train: PairSet) -> None:
    hard = harden(train, vectors_of(train), 2)
    for name in ("left", "label", "query", "weight", "component"):
        np.testing.assert_array_equal(getattr(hard, name), getattr(train, name))
    matches = train.label == 1
    np.testing.assert_array_equal(hard.right[matches], train.right[matches])
    assert (hard.right != train.right).any()
    assert cosines(hard, vectors_of(train))[~matches].mean() > 0.2


def test_none_asked_for_changes_nothing() -> None:
    train = pairs()
    assert harden(train, vectors_of(train), 0) is train


@TRAIN
def test_images_of_other_sets_are_never_looked_at(train: PairSet) -> None:
    vectors = vectors_of(train)
    blind = np.full((len(vectors) + 5, 6), np.nan, dtype=np.float32)
    seen = np.unique(np.append(train.left, train.right))
    blind[seen] = vectors[seen]
    np.testing.assert_array_equal(
        harden(train, blind, 3).right, harden(train, vectors, 3).right
    )


def test_blocks_of_queries_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    train = pairs()
    whole = harden(train, vectors_of(train), 3)
    monkeypatch.setattr("tllboost.splits.negatives._BLOCK_BYTES", 2_000)
    np.testing.assert_array_equal(
        harden(train, vectors_of(train), 3).right, whole.right
    )


def test_images_that_all_look_alike_are_taken_in_order() -> None:
    train = pairs()
    for vectors in (np.zeros((400, 3)), np.ones((400, 3))):
        hard = harden(train, vectors.astype(np.float32), 2)
        for rows in others(train):
            wrong = sorted(set(train.right) - {hard.right[rows[0] - 1]})
            assert len(set(hard.right[rows])) == len(rows)
            assert set(hard.right[rows]) <= set(wrong)


def test_the_tables_own_non_matches_stay() -> None:
    n = 40
    left, right = np.arange(n), np.arange(n, 2 * n)
    label = np.ones(2 * n, dtype=np.int8)
    label[n:] = 0
    table = np.append(left, left), np.append(right, np.roll(right, 1))
    component = match_components(2 * n, left, right)
    (split,) = make_splits(
        SplitTable(*table, label, component), protocol=Protocol(n_distractors=3), seed=0
    )
    train = split.train
    matched = np.isin(train.query, train.query[train.label == 1])
    assert (~matched).any()
    hard = harden(train, vectors_of(train), 3)
    np.testing.assert_array_equal(hard.right[~matched], train.right[~matched])
    assert (hard.right[matched] != train.right[matched]).any()


def test_pairs_in_no_list_stay() -> None:
    train = replace(pairs(), query=np.full(len(pairs()), -1))
    assert harden(train, vectors_of(train), 3) is train


def test_a_set_with_few_wrong_candidates_takes_them_all() -> None:
    train = plant(20, protocol=Protocol(n_distractors=3, n_negatives=30)).split.train
    hard = harden(train, vectors_of(train), 20)
    for rows in others(train):
        assert len(rows) == len(component_of(train)) - 1
        assert set(hard.right[rows]) == set(train.right[rows])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_hard": -1}, "n_hard=-1 must be between 0 and n_negatives=5"),
        ({"n_hard": 6}, "n_hard=6 must be between 0 and n_negatives=5"),
        ({"n_hard": 1, "n_negatives": 0}, "between 0 and n_negatives=0"),
        ({"n_hard": 1, "name": "holidays2017"}, "does not go with the protocol"),
    ],
)
def test_a_protocol_with_too_many_hard_ones_is_refused(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        Protocol(**options)


def test_a_protocol_may_ask_for_hard_ones() -> None:
    assert Protocol(n_hard=5).n_hard == 5
    assert Protocol().n_hard == 0


@pytest.mark.parametrize(
    "head", ["logistic", "linear-svm", "xgboost", "xgboost-rank", "mlp"]
)
def test_hard_ones_alone_do_not_turn_a_head_against_its_cosine(head: str) -> None:
    data = plant(120, n_dims=16, n_signal=4, noise=0.4)
    split = data.split
    train = harden(split.train, data.vectors, N_NEGATIVES)
    assert cosines(train, data.vectors)[train.label == 0].mean() > 0.3
    hard = data._replace(split=replace(split, train=train))
    score = fit(hard, head, n_threads=1).score(features_of(hard))
    cosine = auc(features_of(hard).cosine(), split.test)
    assert auc(score, split.test) > cosine - 0.05


def test_asking_for_hard_ones_changes_no_set() -> None:
    plain, asked = (
        plant(60, protocol=Protocol(n_distractors=5, n_hard=n_hard)).split
        for n_hard in (0, 3)
    )
    for name in ("train", "validation", "test"):
        for column in ("left", "right", "label", "query", "weight"):
            np.testing.assert_array_equal(
                getattr(getattr(plain, name), column),
                getattr(getattr(asked, name), column),
            )
