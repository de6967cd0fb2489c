"""The joined head: the network of the contrastive projection, as it was trained."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from makers import Planted, auc, plant
from safetensors.numpy import load, save

from tllboost.errors import UsageError
from tllboost.heads.fitted import Dense, FittedHead
from tllboost.heads.mlp import JoinedHead
from tllboost.merges import PairFeatures
from tllboost.projections import make_projection
from tllboost.scoring import PairScorer

KINDS = ("contrastive?depth=0", "contrastive", "contrastive?depth=2&distance=l2")


@cache
def planted() -> Planted:
    return plant(160, n_dims=16, n_signal=6, noise=0.3)


@cache
def learned(spec: str) -> Any:
    split = planted().split
    projection = make_projection(spec)
    projection.set_params(device="cpu", n_threads=1, patience=0, epochs=12)
    return projection.fit(planted().vectors, split.train, split.validation)


def features(spec: str, side: str, merge: Any = "dot+l1") -> PairFeatures:
    projection = learned(spec)
    return PairScorer(merge).features(
        projection.transform(planted().vectors),
        getattr(planted().split, side),
        frozen=planted().vectors,
        joined=projection.joined_,
    )


def fit(spec: str, merge: Any = "dot+l1") -> PairScorer:
    split = planted().split
    sides = (features(spec, side, merge) for side in ("train", "validation"))
    train, validation = sides
    scorer = PairScorer(merge, "joined")
    return scorer.fit(train, split.train, validation, split.validation)


@pytest.mark.parametrize("spec", KINDS)
def test_the_joined_head_scores_as_the_network_did_in_training(spec: str) -> None:
    import torch
    from torch import nn

    test = planted().split.test
    score = fit(spec).score(features(spec, "test"))
    network = nn.Sequential()
    for i, (weight, bias) in enumerate(learned(spec).joined_):
        if i > 0:
            network.append(nn.ReLU())
        layer = nn.Linear(*weight.shape)
        layer.weight.data = torch.from_numpy(weight.T.copy())
        layer.bias.data = torch.from_numpy(bias)
        network.append(layer)
    left, right = (
        torch.from_numpy(learned(spec).transform(planted().vectors)[rows])
        for rows in (test.left, test.right)
    )
    with torch.no_grad():
        said = network(torch.cat([left * right, (left - right).abs()], dim=1))
    np.testing.assert_allclose(score, said[:, 0].numpy(), rtol=1e-4, atol=1e-5)
    assert auc(score, test) > 0.6


def test_the_joined_head_keeps_its_network_in_members() -> None:
    head = fit("contrastive").fitted
    again = FittedHead.of(head.kind, load(save(head.tensors())))
    test = features("contrastive", "test")
    np.testing.assert_array_equal(
        again.decision_function(test), head.decision_function(test)
    )
    assert again.n_features_in_ == test.shape[1]


def test_swapping_the_images_changes_no_joined_score() -> None:
    there = features("contrastive", "test")
    back = PairFeatures(there.vectors, there.right, there.left, there.merge)
    head = fit("contrastive").head_
    np.testing.assert_array_equal(
        head.decision_function(there), head.decision_function(back)
    )


@pytest.mark.parametrize(
    "spec",
    ["infonce", "triplet", "contrastive?joined=false", "contrastive?members=2"],
)
def test_without_such_a_network_the_joined_head_says_what_to_give(spec: str) -> None:
    with pytest.raises(UsageError, match="give -p contrastive") as caught:
        fit(spec)
    assert "\n" not in str(caught.value)


def test_the_joined_head_asks_plain_pairs_and_arrays_for_a_projection() -> None:
    pairs = PairFeatures(planted().vectors, [0, 1], [1, 2], "dot+l1")
    for X in (pairs, np.asarray(pairs)):
        with pytest.raises(UsageError, match="give -p contrastive"):
            JoinedHead().fit(X, np.array([0, 1]))


@pytest.mark.parametrize("merge", ["dot", "l1+dot", "dot+l2", "concat", np.add])
def test_the_joined_head_reads_no_other_merge(merge: Any) -> None:
    with pytest.raises(UsageError, match=r"give merge 'dot\+l1'"):
        fit("contrastive", merge)


def test_the_spelling_of_a_sum_does_not_matter() -> None:
    assert fit("contrastive", "dot + l1").fitted.n_features_in_ > 0


def test_chosen_pairs_keep_the_joined_network() -> None:
    test = features("contrastive", "test")
    assert test.take([0, 1]).joined is test.joined


def layers(*widths: int) -> list[tuple[np.ndarray, np.ndarray]]:
    return [
        (np.ones((n_in, n_out), np.float32), np.zeros(n_out, np.float32))
        for n_in, n_out in pairwise(widths)
    ]


def without(name: str) -> dict[str, np.ndarray]:
    return {
        key: a for key, a in Dense(layers(4, 3, 1)).tensors().items() if key != name
    }


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        without("bias1"),
        without("weight0"),
        Dense(layers(4, 3, 2)).tensors(),
        Dense([*layers(4, 3), *layers(2, 1)]).tensors(),
        Dense(layers(4, 3, 1)).tensors() | {"bias0": np.zeros(4, np.float32)},
        Dense(layers(4, 1)).tensors() | {"weight0": np.zeros(4, np.float32)},
    ],
)
def test_layers_that_do_not_fit_are_refused(arrays: dict[str, np.ndarray]) -> None:
    with pytest.raises((ValueError, KeyError)):
        Dense.of(arrays)


def test_layers_come_back_as_they_were() -> None:
    X = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    network = Dense(layers(4, 3, 1))
    np.testing.assert_array_equal(Dense.of(network.tensors())(X), network(X))
