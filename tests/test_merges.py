"""Merges as pure functions, and the lazy matrix that heads see."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tllboost.errors import UnknownNameError, UsageError
from tllboost.merges import MERGES, SIMILARITY, PairFeatures, merge_pairs, pair_cosine

# What compares with references is in test_references.py.
PLAIN = [name for name in MERGES if name != SIMILARITY]
SUMS = ("dot+l1", "cosdot+l2+concat", "l1+l1", "dot + l2")
NAMES = (*PLAIN, *SUMS)
EVERY_MERGE = pytest.mark.parametrize("merge", NAMES)
FEWER = settings(max_examples=25)  # of each: all together are many

numbers = st.floats(-100, 100, width=32).filter(lambda x: x == 0 or abs(x) > 1e-3)


@st.composite
def vector_blocks(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Draw the vectors of the two sides: (n_pairs, n_dims) float32 each."""
    shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 5)))
    blocks = hnp.arrays(np.float32, shape, elements=numbers)
    return draw(blocks), draw(blocks)


@st.composite
def indexed_vectors(
    draw: st.DrawFn,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw vectors of images and pairs of them."""
    shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 5)))
    n_pairs = draw(st.integers(0, 12))
    rows = hnp.arrays(np.int64, n_pairs, elements=st.integers(0, shape[0] - 1))
    vectors = hnp.arrays(np.float32, shape, elements=numbers)
    return draw(vectors), draw(rows), draw(rows)


@EVERY_MERGE
@FEWER
@given(blocks=vector_blocks())
def test_swapping_the_sides_changes_nothing_where_a_merge_is_symmetric(
    merge: str, blocks: tuple[np.ndarray, np.ndarray]
) -> None:
    left, right = blocks
    there, back = merge_pairs(left, right, merge), merge_pairs(right, left, merge)
    if "concat" not in merge:
        np.testing.assert_array_equal(there, back)
    else:
        same = (left == right).all()
        assert (there == back).all() == same


@EVERY_MERGE
@FEWER
@given(blocks=vector_blocks(), data=st.data())
def test_permuting_the_pairs_permutes_the_rows(
    merge: str, blocks: tuple[np.ndarray, np.ndarray], data: st.DataObject
) -> None:
    left, right = blocks
    order = np.array(data.draw(st.permutations(range(len(left)))))
    np.testing.assert_array_equal(
        merge_pairs(left[order], right[order], merge),
        merge_pairs(left, right, merge)[order],
    )


@given(blocks=vector_blocks(), parts=st.lists(st.sampled_from(PLAIN), min_size=1))
def test_a_sum_puts_its_parts_side_by_side(
    blocks: tuple[np.ndarray, np.ndarray], parts: list[str]
) -> None:
    left, right = blocks
    np.testing.assert_array_equal(
        merge_pairs(left, right, "+".join(parts)),
        np.hstack([merge_pairs(left, right, part) for part in parts]),
    )


@given(blocks=vector_blocks())
def test_merges_agree_with_their_formulas(
    blocks: tuple[np.ndarray, np.ndarray],
) -> None:
    left, right = (block.astype(np.float64) for block in blocks)
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    cosdot = left * right / np.where(norms > 0, norms, 1)[:, None]
    for name, wanted in {
        "dot": left * right,
        "cosdot": cosdot,
        "l1": np.abs(left - right),
        "l2": (left - right) ** 2,
        "concat": np.hstack([left, right]),
    }.items():
        merged = merge_pairs(*blocks, name)
        assert merged.dtype == np.float32
        np.testing.assert_allclose(merged, wanted, rtol=1e-4, atol=1e-5)


@given(blocks=vector_blocks())
def test_the_row_sum_of_cosdot_is_the_cosine(
    blocks: tuple[np.ndarray, np.ndarray],
) -> None:
    left, right = blocks
    rows = np.arange(len(left))
    cosine = pair_cosine(np.vstack(blocks), rows, rows + len(left))
    summed = merge_pairs(left, right, "cosdot").sum(axis=1)
    np.testing.assert_allclose(cosine, summed, atol=1e-5)


@given(drawn=indexed_vectors())
def test_an_image_is_most_like_itself(
    drawn: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    vectors, left, right = drawn
    cosine = pair_cosine(vectors, left, right)
    with_itself = pair_cosine(vectors, left, left)
    assert (cosine <= with_itself + 1e-6).all() or not vectors.any(axis=1).all()
    assert (np.abs(cosine) <= 1).all()
    is_zero = ~vectors.any(axis=1)[left]
    np.testing.assert_allclose(with_itself, np.where(is_zero, 0, 1), atol=1e-6)


@EVERY_MERGE
def test_an_image_with_itself_has_no_distance(merge: str) -> None:
    vectors = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    merged = merge_pairs(vectors, vectors, merge)
    if merge in ("l1", "l2", "l1+l1"):
        assert not merged.any()
    if merge == "cosdot":
        np.testing.assert_allclose(merged.sum(axis=1), 1, rtol=1e-6)


@EVERY_MERGE
@FEWER
@given(drawn=indexed_vectors(), size=st.integers(1, 15))
def test_lazy_features_are_the_merged_rows_whatever_the_block(
    merge: str, drawn: tuple[np.ndarray, np.ndarray, np.ndarray], size: int
) -> None:
    vectors, left, right = drawn
    features = PairFeatures(vectors, left, right, merge)
    wanted = merge_pairs(vectors[left], vectors[right], merge)
    blocks = list(features.blocks(size))
    assert features.shape == wanted.shape == np.asarray(features).shape
    assert len(features) == len(left)
    assert all(len(block) <= size for block in blocks)
    together = np.vstack([np.empty((0, features.shape[1]), np.float32), *blocks])
    # BLAS and SIMD may round a row otherwise in another block.
    np.testing.assert_allclose(together, wanted, rtol=1e-6)
    np.testing.assert_allclose(np.asarray(features), wanted, rtol=1e-6)
    np.testing.assert_array_equal(features.cosine(), pair_cosine(vectors, left, right))


@given(drawn=indexed_vectors(), data=st.data())
def test_taking_pairs_takes_their_rows(
    drawn: tuple[np.ndarray, np.ndarray, np.ndarray], data: st.DataObject
) -> None:
    features = PairFeatures(*drawn, "dot+l1")
    mask = data.draw(hnp.arrays(np.bool_, len(features)))
    for rows in (mask, np.flatnonzero(mask)):
        taken = features.take(rows)
        np.testing.assert_array_equal(taken, np.asarray(features)[rows])
        np.testing.assert_array_equal(taken.cosine(), features.cosine()[rows])


def test_features_become_an_array_of_the_type_asked_for() -> None:
    features = PairFeatures(np.eye(3, dtype=np.float32), [0, 1], [1, 1])
    assert np.asarray(features).dtype == np.float32
    assert np.asarray(features, dtype=np.float64).dtype == np.float64
    assert np.array(features, dtype=np.float64, copy=True).tolist() == [
        [0, 0, 0],
        [0, 1, 0],
    ]


def test_features_read_a_memory_map(tmp_path) -> None:
    vectors = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    np.save(tmp_path / "vectors.npy", vectors)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r", allow_pickle=False)
    left, right = np.arange(5), np.arange(1, 6)
    np.testing.assert_array_equal(
        PairFeatures(mapped, left, right, "cosdot"),
        PairFeatures(vectors, left, right, "cosdot"),
    )


def test_a_zero_vector_gives_zeros_and_no_warning() -> None:
    vectors = np.float32([[0, 0], [3, 4]])
    assert pair_cosine(vectors, np.array([0, 0]), np.array([0, 1])).tolist() == [0, 0]
    assert merge_pairs(vectors[:1], vectors[1:], "cosdot").tolist() == [[0, 0]]


def test_half_precision_vectors_are_merged_in_single_precision() -> None:
    left = np.full((1, 8), 300, dtype=np.float16)
    assert merge_pairs(left, left, "dot").tolist() == [[90_000.0] * 8]
    assert merge_pairs(left, -left, "l2").tolist() == [[360_000.0] * 8]


def test_one_vector_a_side_is_one_pair() -> None:
    assert merge_pairs([1, 2], [3, 4], "concat").tolist() == [[1, 2, 3, 4]]


def signed_square(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.sign(left - right) * (left - right) ** 2


def test_a_merge_of_ones_own_is_a_function_or_its_path() -> None:
    left, right = [[1.0, 5.0]], [[3.0, 4.0]]
    assert merge_pairs(left, right, signed_square).tolist() == [[-4, 1]]
    assert merge_pairs(left, right, "numpy:maximum").tolist() == [[3, 5]]
    assert merge_pairs(left, right, "l1+numpy:maximum").tolist() == [[2, 1, 3, 5]]


@pytest.mark.parametrize(
    "function",
    [lambda a, b: (a * b).sum(axis=1), lambda a, b: a[:-1], lambda a, b: 0.0],
    ids=["no columns", "a row too few", "one number"],
)
def test_a_merge_must_give_a_row_a_pair(function) -> None:
    with pytest.raises(UsageError, match=r"must return \(n_pairs, n_features\)"):
        merge_pairs(np.ones((3, 2)), np.ones((3, 2)), function)


@pytest.mark.parametrize(
    ("left", "right"),
    [([[1, 2]], [[1, 2, 3]]), ([[1], [2]], [[1]]), ([[[1]]], [[[1]]])],
)
def test_the_two_sides_must_have_one_shape(left, right) -> None:
    with pytest.raises(UsageError, match=r"must both be \(n_pairs, n_dims\)"):
        merge_pairs(left, right)


@pytest.mark.parametrize("merge", ["dots", "dot+", "+", "dot+cos", "l3"])
def test_an_unknown_merge_is_refused_with_the_known_ones(merge: str) -> None:
    with pytest.raises(UnknownNameError, match="known: dot, cosdot, l1, l2, concat"):
        merge_pairs([[1]], [[2]], merge)


@pytest.mark.parametrize("merge", ["math:pi", 42, None])
def test_what_can_not_be_called_is_no_merge(merge) -> None:
    with pytest.raises(UsageError, match="is not a function of two blocks"):
        merge_pairs([[1]], [[2]], merge)
