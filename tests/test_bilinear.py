"""All pairs at once: a linear head as one matrix product, equal to one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tllboost.calibration import Calibration
from tllboost.heads.base import CosineHead
from tllboost.heads.bilinear import bilinear, lengths_of
from tllboost.heads.fitted import FittedHead, Linear, head_score
from tllboost.heads.linear import LinearSVMHead, LogisticHead
from tllboost.merges import PairFeatures
from tllboost.rank import VectorIndex, best
from tllboost.scoring import FittedCell, PairScorer

MERGES = ("dot", "cosdot", "l2", "concat", "dot+l2", "cosdot + concat + dot")
N_LEFT, N_RIGHT, N_DIMS = 7, 13, 24


def vectors(seed: int = 0) -> np.ndarray:
    """Return vectors as of a network: none below zero, far from the origin."""
    rng = np.random.default_rng(seed)
    made = rng.normal(1, 1, (N_LEFT + N_RIGHT, N_DIMS)).clip(0).astype(np.float32)
    made[3] = made[-2] = 0  # an image of one colour
    return made


def cell(merge: Any, head: Any) -> FittedCell:
    scorer = PairScorer(merge, "cosine")
    scorer.head_ = head
    scorer.calibration_ = Calibration(2.0, -0.5)
    return FittedCell(None, None, scorer)


def fitted(head: Any, merge: Any) -> Any:
    """Fit a head on random pairs."""
    made = vectors()
    rng = np.random.default_rng(1)
    left, right = rng.integers(len(made), size=(2, 60))
    features = PairFeatures(made, left, right, merge)
    return head.fit(features, np.arange(60) % 2)


def one_by_one(merge: Any, head: Any) -> np.ndarray:
    """Return all scores by way of feature rows."""
    left, right = np.indices((N_LEFT, N_RIGHT)).reshape(2, -1)
    features = PairFeatures(vectors(), left, right + N_LEFT, merge)
    return head_score(head, features).reshape(N_LEFT, N_RIGHT)


@pytest.mark.parametrize("merge", MERGES)
@pytest.mark.parametrize("kind", [LogisticHead, LinearSVMHead, CosineHead])
def test_one_product_gives_what_merge_then_predict_gives(merge: str, kind: Any) -> None:
    head = fitted(kind(), merge)
    product = cell(merge, head).bilinear(N_DIMS)
    assert product is not None
    expected = one_by_one(merge, head)
    both = vectors()
    close = {"rtol": 0, "atol": 1e-5 * np.abs(expected).max()}
    left, right = both[:N_LEFT], both[N_LEFT:]
    np.testing.assert_allclose(product.scores(left, right), expected, **close)
    known = product.scores(left, right, lengths=lengths_of(right))
    np.testing.assert_allclose(known, expected, **close)
    alone = [product.scores(one[None], right)[0] for one in left]
    np.testing.assert_allclose(alone, expected, **close)


def test_vectors_of_twice_the_precision_score_as_those_that_are_stored() -> None:
    product = cell("dot", fitted(LogisticHead(), "dot")).bilinear(N_DIMS)
    assert product is not None
    left, right = vectors()[:N_LEFT].astype(np.float64) / 3, vectors()[N_LEFT:]
    expected = product.scores(left.astype(np.float32), right)
    np.testing.assert_array_equal(product.scores(left, right), expected)


def test_squared_differences_stay_exact_far_from_the_origin() -> None:
    rng = np.random.default_rng(0)
    both = (1000 + rng.normal(size=(6, 32))).astype(np.float32)
    head = FittedHead(Linear(np.ones(32, np.float32)))
    product = bilinear("l2", head, n_dims=32)
    assert product is not None
    wide = both.astype(np.float64)
    expected = np.square(wide[:3, None] - wide[None, 3:]).sum(axis=2)
    np.testing.assert_allclose(product.scores(both[:3], both[3:]), expected, rtol=1e-4)


def all_scores(*cells: FittedCell) -> np.ndarray:
    """Return the score of every left vector with every right one, by ranking."""
    left, right = [vectors()[:N_LEFT]] * len(cells), VectorIndex(vectors()[N_LEFT:])
    rows, scores = best(cells, left, [right] * len(cells))
    return np.take_along_axis(scores, np.argsort(rows), axis=1)


def test_what_is_no_product_is_still_scored() -> None:
    for merge in ("l1", "dot+l1", lambda a, b: a * b):
        head = fitted(LogisticHead(), merge)
        one = cell(merge, head)
        assert one.bilinear(N_DIMS) is None
        np.testing.assert_allclose(all_scores(one), one_by_one(merge, head), rtol=1e-6)
    assert bilinear("similarity", fitted(CosineHead(), "dot"), n_dims=N_DIMS) is None


@pytest.mark.parametrize("merges", [("dot", "l1"), ("dot", "l2")])
def test_cells_agree_on_all_pairs_as_they_do_on_single_ones(
    merges: tuple[str, str],
) -> None:
    cells = [cell(merge, fitted(LogisticHead(), merge)) for merge in merges]
    expected = np.mean(
        [2 * one_by_one(one.scorer.merge, one.scorer.head_) - 0.5 for one in cells],
        axis=0,
    )
    atol = 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(all_scores(*cells), expected, atol=atol)
