"""Splits never leak: components go to a side, then non-matches are drawn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from makers import sets_of
from split_tables import (
    Table,
    as_lists,
    columns,
    images_of,
    matches_only,
    ranking_lists,
    split,
    table_of,
    tables,
    try_split,
)

from tllboost.errors import DataError, UsageError
from tllboost.metrics import match_ranks
from tllboost.splits import (
    PROTOCOLS,
    Protocol,
    SplitTable,
    draw_negatives,
    match_components,
    training_sets,
)

SAFE = ("holdout", "kfold")


def components_by_hand(n_images: int, ties: list[tuple[int, int]]) -> list[int]:
    """Find components with a plain loop: every image takes the least name it meets."""
    name = list(range(n_images))
    for _ in range(n_images):
        for a, b in ties:
            name[a] = name[b] = min(name[a], name[b])
    return name


@given(st.data())
def test_components_are_those_of_a_plain_loop(data: st.DataObject) -> None:
    n_images = data.draw(st.integers(1, 12))
    image = st.integers(0, n_images - 1)
    matches = data.draw(st.lists(st.tuples(image, image), max_size=12))
    identical = data.draw(st.lists(st.tuples(image, image), max_size=4))
    left, right = np.array(matches, dtype=np.int64).reshape(-1, 2).T
    found = match_components(n_images, left, right, identical)
    wanted = components_by_hand(n_images, [*matches, *identical])
    assert len(found) == n_images
    for a in range(n_images):
        for b in range(n_images):
            assert (found[a] == found[b]) == (wanted[a] == wanted[b])


@pytest.mark.parametrize("name", SAFE)
@given(table=tables(), seed=st.integers(0, 99))
def test_no_image_and_no_component_is_in_two_sets(
    name: str, table: Table, seed: int
) -> None:
    for one in try_split(table, seed=seed, name=name, n_folds=3):
        for of_images in (
            lambda images: images,
            lambda images: set(table.component[list(images)].tolist()),
        ):
            train, validation, test = (
                of_images(images_of(pairs)) for _, pairs in sets_of(one)
            )
            assert not train & validation
            assert not train & test
            assert not validation & test


@pytest.mark.parametrize("name", SAFE)
@given(table=tables(), seed=st.integers(0, 99))
def test_every_match_is_in_the_set_that_the_split_names(
    name: str, table: Table, seed: int
) -> None:
    for one in try_split(table, seed=seed, name=name, n_folds=3):
        assert set(one.names[table.label == 1]) == {"train", "validation", "test"}
        for side, pairs in sets_of(one):
            there = (one.names == side) & (table.label == 1)
            wanted = set(zip(table.left[there], table.right[there], strict=True))
            is_match = pairs.label == 1
            found = zip(pairs.left[is_match], pairs.right[is_match], strict=True)
            assert set(found) == wanted


@pytest.mark.parametrize("name", SAFE)
@given(table=tables(), seed=st.integers(0, 99))
def test_given_non_matches_stay_in_the_set_of_both_their_images(
    name: str, table: Table, seed: int
) -> None:
    for one in try_split(table, seed=seed, name=name, n_folds=3):
        side_of: dict[int, str] = {}
        for row in np.flatnonzero(table.label == 1):
            for image in (table.left[row], table.right[row]):
                side_of[table.component[image]] = one.names[row]
        for row in np.flatnonzero(table.label == 0):
            a, b = table.left[row], table.right[row]
            sides = [side_of.get(table.component[image]) for image in (a, b)]
            if None not in sides:
                assert one.names[row] == (sides[0] if sides[0] == sides[1] else "")
        for side, pairs in sets_of(one):
            inside = set(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True))
            for row in np.flatnonzero((one.names == side) & (table.label == 0)):
                assert (table.left[row], table.right[row]) in inside


@pytest.mark.parametrize("name", ["holdout", "kfold", "holidays2017"])
@given(table=tables(), seed=st.integers(0, 99), n_distractors=st.integers(1, 30))
def test_no_drawn_other_is_of_the_querys_component_or_twice_in_a_list(
    name: str, table: Table, seed: int, n_distractors: int
) -> None:
    known = {(a, b): label for a, b, label in zip(*table[:3], strict=True)}
    for one in try_split(
        table, seed=seed, name=name, n_folds=3, n_distractors=n_distractors
    ):
        for _, pairs in sets_of(one):
            of_left, of_right = (
                table.component[pairs.left],
                table.component[pairs.right],
            )
            for row in np.flatnonzero(pairs.label == 0):
                was_given = known.get((pairs.left[row], pairs.right[row])) == 0
                assert was_given or of_left[row] != of_right[row]
        for pairs in (one.validation, one.test):
            for rows in ranking_lists(pairs):
                assert len(set(pairs.left[rows])) == 1
                assert len(set(pairs.right[rows])) == len(rows) <= n_distractors + 1
                assert pairs.label[rows].tolist() == [1, *[0] * (len(rows) - 1)]


@given(table=tables(), seed=st.integers(0, 99))
def test_lists_of_one_query_stand_together_and_both_classes_weigh_the_same(
    table: Table, seed: int
) -> None:
    (one,) = try_split(table, seed=seed)
    for _, pairs in sets_of(one):
        starts = np.flatnonzero(np.diff(pairs.query, prepend=-2))
        assert len(starts) == len(np.unique(pairs.query))
        assert (pairs.component == table.component[pairs.left]).all()
    if not (table.label == 0).any():
        for _, pairs in sets_of(one):
            weights = [pairs.weight[pairs.label == label].sum() for label in (0, 1)]
            assert weights[0] == pytest.approx(weights[1])


@pytest.mark.parametrize("name", sorted({*PROTOCOLS} - {"given"}))
def test_a_seed_decides_the_split(name: str) -> None:
    table = matches_only(60)
    first = as_lists(split(table, 1, name=name))
    assert as_lists(split(table, 1, name=name)) == first
    assert as_lists(split(table, 2, name=name)) != first


@pytest.mark.parametrize("name", SAFE)
def test_the_lists_do_not_hang_on_how_many_negatives_training_draws(name: str) -> None:
    table = matches_only(60)
    few, many = (split(table, name=name, n_negatives=n) for n in (1, 9))
    for one, other in zip(few, many, strict=True):
        assert columns(one.test) == columns(other.test)
        assert columns(one.validation) == columns(other.validation)
        assert len(one.train) < len(other.train)
        assert len(other.train) == 10 * other.train.label.sum()


def test_byte_identical_images_stay_together() -> None:
    edges = [(2 * i, 2 * i + 1, 1) for i in range(40)]
    identical = [(2 * i, 2 * i + 2) for i in range(0, 38, 2)]
    table = table_of(edges, identical)
    for seed in range(5):
        (one,) = split(table, seed)
        for a, b in identical:
            assert one.names[a // 2] == one.names[b // 2]


def test_sets_hold_about_their_share_of_the_matches() -> None:
    (one,) = split(matches_only(200), test_fraction=0.3, validation_fraction=0.1)
    counts = [int((one.names == side).sum()) for side, _ in sets_of(one)]
    assert counts == [120, 20, 60]


@given(table=tables(), seed=st.integers(0, 99))
def test_no_set_outgrows_its_share_by_more_than_half(table: Table, seed: int) -> None:
    (one,) = try_split(table, seed=seed)
    is_match = table.label == 1
    for side, fraction in (("test", 0.2), ("validation", 0.15)):
        held = (one.names[is_match] == side).sum()
        assert held <= 1.5 * max(1, fraction * is_match.sum())


@given(table=tables(), seed=st.integers(0, 99), n_folds=st.integers(2, 4))
def test_folds_test_every_match_exactly_once(
    table: Table, seed: int, n_folds: int
) -> None:
    splits = try_split(table, seed=seed, name="kfold", n_folds=n_folds)
    assert len(splits) == n_folds
    tested = np.array([one.names == "test" for one in splits]).sum(axis=0)
    assert (tested[table.label == 1] == 1).all()
    assert (tested <= 1).all()


def test_folds_are_of_like_size() -> None:
    sizes = [
        int((one.names == "test").sum())
        for one in split(matches_only(53), name="kfold", n_folds=5)
    ]
    assert sorted(sizes) == [10, 10, 11, 11, 11]


def given_sets(n_pairs: int, rule: dict[str, int]) -> np.ndarray:
    sides = np.repeat(list(rule), list(rule.values()))
    assert len(sides) == n_pairs
    return sides


def test_a_given_split_is_kept_to_the_row() -> None:
    given = given_sets(60, {"train": 30, "validation": 12, "test": 18})
    (one,) = split(matches_only(60), name="given", given=given)
    assert one.names.tolist() == given.tolist()
    for side, pairs in sets_of(one):
        rows = np.flatnonzero(given == side)
        assert sorted(pairs.left[pairs.label == 1]) == rows.tolist()
        assert images_of(pairs) <= set(rows) | set(rows + 60)


def test_validation_is_carved_out_of_training_where_it_is_not_given() -> None:
    given = given_sets(60, {"train": 40, "test": 20})
    (one,) = split(matches_only(60), name="given", given=given)
    assert (one.names == "test").tolist() == (given == "test").tolist()
    assert (one.names == "validation").sum() == 6
    assert (one.names == "train").sum() == 34
    assert not images_of(one.train) & images_of(one.validation)
    assert set(given) == {"train", "test"}


@given(seed=st.integers(0, 999))
def test_carving_leaves_out_the_non_matches_that_would_leak(seed: int) -> None:
    rng = np.random.default_rng(seed)
    matches = [(i, 40 + i, 1) for i in range(40)]
    others = {
        (int(a), 40 + int(b), 0) for a, b in rng.integers(40, size=(60, 2)) if a != b
    }
    table = table_of([*matches, *sorted(others)])
    given = np.where(np.isin(table.left, range(30)), "train", "test")
    (one,) = split(table, seed, name="given", given=given)
    assert not images_of(one.train) & images_of(one.validation)
    left_out = one.names == ""
    assert (table.label[left_out] == 0).all()
    assert (given[left_out] == "train").all()
    assert (one.names[given == "test"] == "test").all()


@pytest.mark.parametrize("absent", ["train", "test"])
def test_a_given_split_without_a_set_is_an_error(absent: str) -> None:
    given = np.array([side for side in ("train", "test") if side != absent] * 30)
    with pytest.raises(
        DataError, match=rf"the split column says \w+ and never {absent}"
    ):
        split(matches_only(30), name="given", given=given)


def test_the_given_protocol_needs_a_split_column() -> None:
    with pytest.raises(UsageError, match="needs a pair table with a `split` column"):
        split(matches_only(30), name="given")


@pytest.mark.parametrize("seed", range(10))
def test_a_giant_component_goes_to_training(seed: int) -> None:
    chain = [(i, i + 1, 1) for i in range(60)]
    loose = [(100 + 2 * i, 101 + 2 * i, 1) for i in range(60)]
    (one,) = split(table_of(chain + loose), seed)
    assert set(one.names[:60]) == {"train"}
    assert set(one.names[60:]) == {"train", "validation", "test"}


@pytest.mark.parametrize("name", SAFE)
@pytest.mark.parametrize("n_pairs", [1, 2, 30])
def test_one_component_alone_can_not_be_split(name: str, n_pairs: int) -> None:
    with pytest.raises(DataError, match=r"(side|set) has .* give more pairs"):
        split(table_of([(i, i + 1, 1) for i in range(n_pairs)]), name=name)


def test_a_set_with_nothing_to_rank_against_is_an_error() -> None:
    message = "the test set has 1 matches in one component"
    with pytest.raises(DataError, match=message):
        split(matches_only(5))


def test_the_2017_protocol_splits_pairs_and_is_known_to_leak() -> None:
    table = matches_only(200)
    (one,) = split(table, name="holidays2017")
    sizes = [len(pairs) for _, pairs in sets_of(one)]
    assert sizes == [240, 40, 120]
    assert sum(int(pairs.label.sum()) for _, pairs in sets_of(one)) == 200
    assert (one.test.query == -1).all()
    shared = np.isin(one.test.left, [*images_of(one.train)]) | np.isin(
        one.test.right, [*images_of(one.train)]
    )
    assert shared.mean() > 0.6
    for side, pairs in sets_of(one):
        assert (one.names == side).sum() == pairs.label.sum()


def test_given_queries_are_the_ranking_lists() -> None:
    matches = [(i, 100 + i, 1) for i in range(50)]
    others = [(i, 100 + (i + k) % 50, 0) for i in range(50) for k in (1, 2, 3)]
    table = table_of(matches + others)
    (one,) = split(table, query=table.left + 7)
    queries, _, sizes = match_ranks(
        np.zeros(len(one.test)), one.test.label, one.test.query
    )
    rows = {(a, b) for a, b, _ in matches + others}
    found = set(zip(one.test.left.tolist(), one.test.right.tolist(), strict=True))
    assert found <= rows
    assert (sizes <= 4).all()
    assert len(queries) <= one.test.label.sum()


def test_queries_without_any_non_match_get_drawn_distractors() -> None:
    table = matches_only(50)
    (one,) = split(table, query=np.arange(50))
    (without,) = split(table)
    assert columns(one.test) == columns(without.test)


def test_given_non_matches_are_measured_beside_drawn_lists() -> None:
    matches = [(i, 100 + i, 1) for i in range(50)]
    table = table_of(matches + [(i, 100 + (i + 1) % 50, 0) for i in range(50)])
    (one,) = split(table)
    for pairs in (one.validation, one.test):
        binary = pairs.weight > 0
        assert (pairs.query[binary] == -1).all()
        assert (pairs.query[~binary] >= 0).all()
        inside = np.isin(table.left, pairs.left) & np.isin(table.right, pairs.right)
        assert binary.sum() == inside.sum()


def test_no_drawn_negatives_trains_on_the_tables_own() -> None:
    matches = [(i, 100 + i, 1) for i in range(50)]
    table = table_of(matches + [(i, 100 + (i + 1) % 50, 0) for i in range(50)])
    (one,) = split(table, n_negatives=0)
    assert len(one.train) == (one.names == "train").sum()
    rows = set(zip(*(column.tolist() for column in table[:3]), strict=True))
    train = (one.train.left, one.train.right, one.train.label)
    assert set(zip(*(column.tolist() for column in train), strict=True)) <= rows


@given(table=tables(), seed=st.integers(0, 99))
def test_training_sets_share_no_component_and_use_every_match(
    table: Table, seed: int
) -> None:
    protocol = Protocol(n_distractors=4, n_negatives=2)
    try:
        train, validation = training_sets(
            SplitTable(*table), protocol=protocol, seed=seed
        )
    except DataError:
        assume(False)
        raise
    of_train = set(table.component[list(images_of(train))])
    assert not of_train & set(table.component[list(images_of(validation))])
    found = [
        (a, b)
        for pairs in (train, validation)
        for a, b in zip(
            pairs.left[pairs.label == 1], pairs.right[pairs.label == 1], strict=True
        )
    ]
    is_match = table.label == 1
    assert set(found) == set(
        zip(table.left[is_match], table.right[is_match], strict=True)
    )


@given(
    seed=st.integers(0, 2**32 - 1),
    n_queries=st.integers(0, 30),
    n_pool=st.integers(0, 60),
    n_components=st.integers(1, 40),
    n_distractors=st.integers(1, 12),
)
def test_drawn_distractors_are_distinct_foreign_and_as_many_as_there_are(
    seed: int, n_queries: int, n_pool: int, n_components: int, n_distractors: int
) -> None:
    rng = np.random.default_rng(seed)
    pool = rng.permutation(500)[:n_pool]
    of_pool = rng.integers(n_components, size=n_pool)
    component = rng.integers(n_components, size=n_queries)
    others = draw_negatives(component, pool, of_pool, n_distractors, rng)
    assert others.shape == (n_queries, n_distractors)
    known = dict(zip(pool.tolist(), of_pool.tolist(), strict=True))
    for own, row in zip(component.tolist(), others.tolist(), strict=True):
        drawn = [image for image in row if image >= 0]
        assert row == [*drawn, *[-1] * (n_distractors - len(drawn))]
        assert (
            len(set(drawn)) == len(drawn) == min(n_distractors, (of_pool != own).sum())
        )
        assert all(known[image] != own for image in drawn)


def test_others_are_drawn_evenly_from_a_large_pool() -> None:
    rng = np.random.default_rng(0)
    pool = np.arange(100)
    others = draw_negatives(np.zeros(4000, int), pool, pool, 10, rng)
    counts = np.bincount(others.ravel(), minlength=100)
    assert counts[0] == 0
    assert counts[1:].min() > 0.8 * 40_000 / 99
    assert counts.max() < 1.2 * 40_000 / 99


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"name": "holdoff"},
            "'holdoff': did you mean 'holdout'. known: holdout, kfold",
        ),
        ({"test_fraction": 0.0}, "must be between 0 and 1"),
        ({"validation_fraction": 1.0}, "must be between 0 and 1"),
        ({"test_fraction": float("nan")}, "must be between 0 and 1"),
        ({"test_fraction": 0.6, "validation_fraction": 0.4}, "leave a part"),
        ({"n_distractors": 0}, "n_distractors=0 must be at least 1"),
        ({"n_negatives": -1}, "n_negatives=-1 must be at least 0"),
        ({"n_folds": 1}, "n_folds=1 must be at least 2"),
    ],
)
def test_a_protocol_that_makes_no_sense_is_refused(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        Protocol(**options)


def test_a_set_can_be_put_behind_another() -> None:
    (one,) = split(matches_only(60))
    both = one.validation + replace(one.test, query=one.test.query.copy())
    assert len(both) == len(one.validation) + len(one.test)
    n_lists = len(ranking_lists(one.validation)) + len(ranking_lists(one.test))
    assert len(ranking_lists(both)) == n_lists


def test_validation_takes_no_more_than_half_of_what_is_not_tested() -> None:
    (one,) = split(
        matches_only(100), test_fraction=0.7, validation_fraction=0.25, n_distractors=2
    )
    sizes = [(pairs.label == 1).sum() for _, pairs in sets_of(one)]
    assert sizes == [15, 15, 70]
