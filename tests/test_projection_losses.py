"""The loss of each projection, the axes and the validation loss, computed by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tllboost.projections.base import find_loss
from tllboost.projections.losses import (
    ContrastiveProjection,
    TripletProjection,
    info_nce,
)
from tllboost.projections.siamese import Epoch, principal_axes
from tllboost.splits import PairSet

# Left images 0 and 1, right images 2 and 3: cosines .6, 0 and .8, 1.
ROWS = np.float32([[1, 0], [0, 1], [0.6, 0.8], [0, 1]])
MATCHES = PairSet(
    np.array([0, 1]),
    np.array([2, 3]),
    np.ones(2, np.int8),
    np.arange(2),
    np.ones(2),
    np.arange(2),
)


def steps(
    projection: Any, train: PairSet, rows: np.ndarray = ROWS, joined: Any = None
) -> list[float]:
    """Return the loss of each step of an epoch of the map that changes nothing."""
    rng = np.random.default_rng(0)
    given = torch.from_numpy(rows)
    now = Epoch(lambda one: one, joined, given, train, MATCHES, rng)
    return [float(loss) for loss in projection.losses(now)]


def test_infonce_finds_each_image_among_those_of_other_components() -> None:
    left = torch.tensor([[1.0, 0], [0, 2], [3, 0]])
    right = torch.tensor([[1.0, 0], [0, 1], [0, 5]])
    # Cosines: rows are 1 0 0, 0 1 1, 1 0 0. The first and the third are one component.
    e = np.e
    by_row = [np.log1p(1 / e), np.log((1 + 2 * e) / e), np.log(2)]
    by_column = [np.log1p(1 / e), np.log((2 + e) / e), np.log1p(e)]
    found = info_nce(left, right, torch.tensor([7, 4, 7]), 1.0)
    assert float(found) == pytest.approx(np.mean([by_row, by_column]), rel=1e-5)
    eye = torch.eye(2)
    found = info_nce(eye, 3 * eye, torch.arange(2), 0.5)
    assert float(found) == pytest.approx(np.log1p(np.exp(-2)), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        # Distances: matches .4 and 0, left 0 to right 3 1, left 1 to right 2 .2.
        ({}, [(0 + 0.3) / 2, (0.7 + 0) / 2]),
        # A step in which no triplet falls short has no loss.
        ({"margin": 0.1}, [0.3 / 2]),
        ({"negatives": "hard"}, [(0 + 0.3) / 2, (0.7 + 0) / 2]),
        # Of right 2 the non-match is nearer than its match; that of right 3 is far.
        ({"negatives": "semi-hard"}, [(0 + 0.3) / 2]),
        # Roots of .8 and 0 to roots of 2 and .4: no left falls short.
        ({"distance": "l2"}, [(0.8**0.5 - 0.4**0.5 + 0.5) / 2]),
    ],
)
def test_a_triplet_loses_what_it_falls_short_of_the_margin(
    options: dict[str, Any], wanted: list[float]
) -> None:
    projection = TripletProjection(**{"margin": 0.5, "n_negatives": 1} | options)
    assert steps(projection, MATCHES) == pytest.approx(wanted, abs=1e-4)


def test_a_hard_triplet_is_that_of_the_nearest_non_match() -> None:
    rows = np.concatenate([ROWS, ROWS[:1], np.float32([[0.8, 0.6]])])
    left, right = np.array([0, 1, 4]), np.array([2, 3, 5])
    matches = PairSet(left, right, *(np.ones(3, np.int8),) * 3, np.arange(3))
    now = Epoch(
        lambda one: one,
        None,
        torch.from_numpy(rows),
        matches,
        matches,
        np.random.default_rng(0),
    )
    projection = TripletProjection(margin=0.5, negatives="hard", n_negatives=2)
    found = [float(loss) for loss in projection.losses(now)]
    # Lefts: .4 - .2, 0 - .2, .2 - .4. Rights: .4 - .2, 0 - 1, .2 - .2, and the margin.
    wanted = [(0.7 + 0.3 + 0.3) / 3, (0.7 + 0 + 0.5) / 3]
    assert found == pytest.approx(wanted, abs=1e-4)


WEIGHTED = PairSet(
    np.array([0, 0, 0]),
    np.array([1, 1, 2]),
    np.array([1, 0, 0], np.int8),
    np.zeros(3, int),
    np.array([1.0, 2, 3]),
    np.zeros(3, int),
)
SPREAD = np.float32([[1, 0], [0.6, 0.8], [-0.6, 0.8]])


def test_contrastive_pulls_matches_and_pushes_others_inside_the_margin() -> None:
    # Distances .4, .4 and 1.6; weights .5, 1 and 1.5.
    (found,) = steps(ContrastiveProjection(joined=False), WEIGHTED, SPREAD)
    assert found == pytest.approx((0.5 * 0.4**2 + 0.6**2 + 0) / 3, rel=1e-5)
    flat = ContrastiveProjection(joined=False, distance="l2", margin=2.0)
    (found,) = steps(flat, WEIGHTED, SPREAD)
    near, far = 0.8**0.5, 3.2**0.5
    by_hand = (0.5 * near**2 + (2 - near) ** 2 + 1.5 * (2 - far) ** 2) / 3
    assert found == pytest.approx(by_hand, rel=1e-5)


def test_the_joined_network_is_told_product_and_difference_of_each_pair() -> None:
    def joined(pairs: torch.Tensor) -> torch.Tensor:
        return (pairs * torch.tensor([1.0, 10, 0.1, 0.5])).sum(1, keepdim=True)

    longer = SPREAD * np.float32([[2], [3], [0.5]])  # which the cosine does not mind
    (alone,) = steps(ContrastiveProjection(joined=False), WEIGHTED, longer)
    (found,) = steps(ContrastiveProjection(), WEIGHTED, longer, joined)
    # Products .6 0 and -.6 0, differences .4 .8 and 1.6 .8.
    near, far = 0.6 + 0.04 + 0.4, -0.6 + 0.16 + 0.4
    odds = np.array([-near, near, far])
    by_hand = np.average(np.log1p(np.exp(odds)), weights=[1, 2, 3])
    assert found - alone == pytest.approx(by_hand, rel=1e-4)


def test_an_epoch_is_judged_by_the_joined_network_as_well() -> None:
    class Joined(torch.nn.Linear):
        """Product along the first axis, less a tenth of both differences."""

        def __init__(self) -> None:
            super().__init__(4, 1, bias=False)
            self.weight.data = torch.tensor([[1.0, 0, -0.1, -0.1]])

    projection = ContrastiveProjection()
    alone = projection.validation_loss(ROWS, MATCHES)
    both = projection.validation_loss(ROWS, MATCHES, Joined())
    # Products .6 0, 0 0; differences .4 .8, 1 1, .6 .2, 0 0.
    scores = np.array([[0.6 - 0.12, -0.2], [-0.08, 0.0]])
    assert both - alone == pytest.approx(find_loss(scores, np.arange(2)), rel=1e-4)


def test_matches_find_each_other_at_the_scale_that_suits_them_best() -> None:
    # All wrong: the least scale, a half, of the similarities at spread 1.
    wrong = 1 - np.eye(2)
    assert find_loss(wrong, np.arange(2)) == pytest.approx(np.log1p(np.e))
    assert find_loss(5 * wrong - 3, np.arange(2)) == pytest.approx(np.log1p(np.e))
    assert find_loss(np.eye(2), np.arange(2)) < 1e-12
    # Mean 2/3, spread √2/3: a match lies 1.5 √2 below a non-match. The first two are of
    # one component, so only the third is told from them, and both from it.
    gap = np.exp(1.5 * 2**0.5 / 2)
    by_hand = (2 * np.log1p(gap) + np.log1p(2 * gap)) / 3
    assert find_loss(1 - np.eye(3), np.array([4, 4, 9])) == pytest.approx(by_hand)


@pytest.mark.parametrize(
    ("whiten", "lengths"), [(0, (0.8, 0.6)), (1, (2**-0.5, 2**-0.5))]
)
def test_principal_axes_keep_distances_or_make_all_axes_alike(
    whiten: float, lengths: tuple[float, float]
) -> None:
    # Four vectors around 0: spread .8 along the first axis, .6 along the second.
    vectors = np.float32([[0.8, 0.6], [0.8, -0.6], [-0.8, 0.6], [-0.8, -0.6]])
    weight, bias = principal_axes(5 * vectors, 2, whiten, 0)
    mapped = vectors @ weight + bias
    np.testing.assert_allclose(np.abs(mapped), [lengths] * 4, atol=1e-6)
    assert np.square(mapped).sum(1).mean() == pytest.approx(1)


def test_principal_axes_are_centred_and_no_more_than_the_vectors_span() -> None:
    # Two vectors at 60°, of two columns and of more columns than there are vectors.
    for vectors in ([[2, 0], [1, 3**0.5]], [[5, 0, 0], [1, 3**0.5, 0]]):
        weight, bias = principal_axes(np.float32(vectors), 9, 0.25, 0)
        unit = np.array(vectors) / np.linalg.norm(vectors, axis=1, keepdims=True)
        mapped = unit @ weight + bias
        assert sorted(mapped.ravel().tolist()) == pytest.approx([-1, 1], abs=1e-5)
