"""The network from scratch: it learns what there is to learn, and no more."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tllboost.errors import DataError, UsageError
from tllboost.merges import unit_rows
from tllboost.projections.siamese_cnn import SiameseCNNProjection
from tllboost.splits import Protocol, Split, SplitTable, make_splits, match_components

SIDE = 16
QUICK = {"components": 24, "epochs": 8, "batch": 16, "rate": 3e-3, "n_threads": 1}


@pytest.fixture(scope="module")
def planted() -> tuple[np.ndarray, Split]:
    """Squares whose match has the same bright corner, in other colours and noise."""
    rng = np.random.default_rng(0)
    n_pairs = 160
    corner = np.tile(rng.integers(0, 4, n_pairs), 2)
    images = rng.uniform(0, 0.5, (2 * n_pairs, 3, SIDE, SIDE))
    for image, one in zip(images, corner, strict=True):
        top, left = 8 * (one // 2), 8 * (one % 2)
        image[:, top : top + 8, left : left + 8] += 0.5
    left, right = np.arange(n_pairs), np.arange(n_pairs, 2 * n_pairs)
    (split,) = make_splits(
        SplitTable(
            left,
            right,
            np.ones(n_pairs, dtype=np.int8),
            match_components(2 * n_pairs, left, right),
        ),
        protocol=Protocol(n_distractors=3),
        seed=0,
    )
    return images.reshape(2 * n_pairs, -1).astype(np.float32), split


def fitted(
    planted: tuple[np.ndarray, Split], **options: object
) -> SiameseCNNProjection:
    vectors, split = planted
    projection = SiameseCNNProjection(**QUICK | options)
    return projection.fit(vectors, split.train, split.validation)


def test_it_learns_what_matches_have_in_common(
    planted: tuple[np.ndarray, Split],
) -> None:
    vectors, split = planted
    projection = fitted(planted)
    assert min(projection.history_) < 0.95 * projection.history_[0]
    unit = unit_rows(projection.transform(vectors))
    cosine = (unit[split.test.left] * unit[split.test.right]).sum(axis=1)
    is_match = split.test.label == 1
    assert cosine[is_match].mean() > cosine[~is_match].mean() + 0.1


def test_shuffled_matches_teach_nothing(planted: tuple[np.ndarray, Split]) -> None:
    vectors, split = planted
    rng = np.random.default_rng(1)
    sides = [
        replace(side, label=rng.permutation(side.label), weight=np.ones(len(side)))
        for side in (split.train, split.validation)
    ]
    projection = SiameseCNNProjection(**QUICK).fit(vectors, *sides)
    rate = sides[1].label.mean()
    entropy = -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate))
    assert min(projection.history_) > 0.97 * entropy


def test_the_same_seed_gives_the_same_weights(
    planted: tuple[np.ndarray, Split],
) -> None:
    first, again = fitted(planted, epochs=2), fitted(planted, epochs=2)
    other = fitted(planted, epochs=2, random_state=1)
    for name, one in first.arrays_.items():
        np.testing.assert_array_equal(one, again.arrays_[name])
        assert (one != other.arrays_[name]).any()


def test_images_of_the_test_set_are_never_looked_at(
    planted: tuple[np.ndarray, Split],
) -> None:
    vectors, split = planted
    marked = vectors.copy()
    marked[np.append(split.test.left, split.test.right)] = np.nan
    first, second = fitted(planted, epochs=2), fitted((marked, split), epochs=2)
    for name, one in first.arrays_.items():
        np.testing.assert_array_equal(one, second.arrays_[name])


def test_bytes_give_the_same_projection_again(
    planted: tuple[np.ndarray, Split],
) -> None:
    vectors, _ = planted
    projection = fitted(planted, epochs=1)
    again = SiameseCNNProjection(**QUICK).from_tensors(projection.to_tensors())
    assert again.n_dims_in_ == vectors.shape[1]
    np.testing.assert_array_equal(
        again.transform(vectors), projection.transform(vectors)
    )
    assert projection.transform(vectors[:0]).shape == (0, 24)
    assert projection.transform(vectors).dtype == np.float32
    with pytest.raises(ValueError, match="not those of"):
        SiameseCNNProjection(components=9).from_tensors(projection.to_tensors())


def test_vectors_that_are_no_images_are_refused(
    planted: tuple[np.ndarray, Split],
) -> None:
    vectors, split = planted
    with pytest.raises(UsageError, match="vectorizer pixels"):
        fitted((vectors[:, :100], split))


def test_matches_alone_teach_nothing(planted: tuple[np.ndarray, Split]) -> None:
    vectors, split = planted
    matches = split.train.take(np.flatnonzero(split.train.label == 1))
    with pytest.raises(DataError, match="let non-matches be drawn"):
        fitted((vectors, replace(split, train=matches)))
