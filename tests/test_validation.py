"""The validation set: what it says of a score, and when it says it clearly."""

from __future__ import annotations

import numpy as np
import pytest

from tllboost.heads.base import Validation, clearly_better


@pytest.mark.parametrize("knows", [-1, 0, 0.3, 1, 5])
def test_list_losses_are_those_of_a_conditional_logit(knows: float) -> None:
    """On the best of many scales, whether a score knows little or tells all."""
    rng = np.random.default_rng(0)
    query = np.repeat(np.arange(6), 5)
    label = np.tile([1, 0, 0, 0, 0], 6).astype(np.int8)
    score = rng.normal(size=30) + knows * label
    order = rng.permutation(30)
    weight = np.ones(30)
    found = Validation(None, label[order], weight, query[order]).losses(score[order])

    def oracle(scale: float) -> list[float]:
        total = []
        for q in range(6):
            rows = score[query == q] * scale
            total.append(float(np.log(np.exp(rows).sum()) - rows[0]))
        return total

    scales = np.geomspace(0.01, 30, 400) / score.std()
    best = min((oracle(scale) for scale in scales), key=sum)
    assert np.mean(found) == pytest.approx(np.mean(best), rel=0.01)
    assert found.shape == (6,)


def test_list_losses_do_not_hang_on_the_scale_of_the_score() -> None:
    label = np.tile([1, 0, 0], 5).astype(np.int8)
    side = Validation(None, label, np.ones(15), np.repeat(np.arange(5), 3))
    score = np.random.default_rng(1).normal(size=15)
    np.testing.assert_allclose(side.losses(score), side.losses(1000 * score + 7))


def test_a_score_that_knows_nothing_loses_the_log_of_the_list_length() -> None:
    label = np.tile([1, 0, 0, 0], 3).astype(np.int8)
    side = Validation(None, label, np.ones(12), np.repeat(np.arange(3), 4))
    np.testing.assert_allclose(side.losses(np.zeros(12)), np.log(4))


@pytest.mark.parametrize("query", [None, np.full(4, -1)])
def test_without_lists_every_pair_has_a_loss(query: np.ndarray | None) -> None:
    side = Validation(None, np.array([1, 0, 1, 0], np.int8), np.ones(4), query)
    losses = side.losses(np.array([2.0, 0, 1, -1]))
    assert losses.shape == (4,)
    assert losses.mean() == pytest.approx(side.loss(np.array([2.0, 0, 1, -1])))


def test_lists_without_a_match_or_without_others_tell_nothing() -> None:
    label = np.array([1, 0, 0, 0, 1, 1, 0], np.int8)
    query = np.array([0, 0, 1, 1, 2, 3, -1])
    assert Validation(None, label, np.ones(7), query).losses(np.arange(7.0)).shape == (
        1,
    )


def test_a_score_that_is_no_number_has_an_infinite_loss() -> None:
    side = Validation(None, np.tile([1, 0], 3), np.ones(6), np.repeat(np.arange(3), 2))
    assert side.losses(np.array([1, 0, np.nan, 0, 1, 0])).tolist() == [np.inf] * 3
    alone = side._replace(query=None)
    assert alone.losses(np.array([1, 0, np.nan, 0, 1, 0])).tolist() == [np.inf] * 6


def test_another_set_of_the_same_pairs_has_lists_of_its_own() -> None:
    rng = np.random.default_rng(0)
    label, query = np.tile([1, 0, 0], 10), np.repeat(np.arange(10), 3)
    told = Validation(np.zeros((30, 1)), label, np.ones(30), query)
    score, some = rng.normal(size=30), np.arange(9)
    assert len(told.losses(score)) == 10
    few = told.take(some)
    anew = Validation(np.zeros((9, 1)), label[some], np.ones(9), query[some])
    np.testing.assert_array_equal(few.losses(score[some]), anew.losses(score[some]))
    assert len(told._replace(query=None).losses(score)) == 30


def test_clearly_better_asks_for_two_standard_errors() -> None:
    than = np.zeros(100)
    noise = np.tile([1.0, -1.0], 50)
    assert clearly_better(noise - 0.21, than)
    assert not clearly_better(noise - 0.19, than)
    assert not clearly_better(than, than)


def test_an_outlier_among_the_scores_overflows_nothing() -> None:
    label = np.tile([1, 0, 0], 600)
    side = Validation(None, label, np.ones(1800), np.repeat(np.arange(600), 3))
    score = np.zeros(1800)
    score[1] = 1e9
    losses = side.losses(score)
    np.testing.assert_allclose(losses[1:], np.log(3))
    assert np.log(3) < losses[0] < np.inf
