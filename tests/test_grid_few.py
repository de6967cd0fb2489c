"""A grid says where so few groups are tested that its figures tell little."""

from __future__ import annotations

import numpy as np
import pytest

from tllboost.grid.notes import few_notes
from tllboost.splits import Protocol, Split, make_splits, match_components


def splits_of(n_groups: int, protocol: Protocol) -> list[Split]:
    """Return the splits of groups of three images, the first of each the query."""
    first = np.arange(n_groups) * 3
    left, right = np.repeat(first, 2), np.column_stack([first + 1, first + 2]).ravel()
    return make_splits(
        left,
        right,
        np.ones(len(left), dtype=np.int8),
        match_components(3 * n_groups, left, right),
        protocol=protocol,
        seed=0,
    )


def test_few_groups_are_told_with_how_many_and_what_to_do() -> None:
    protocol = Protocol()
    (note,) = few_notes(splits_of(14, protocol), protocol)
    assert note == (
        "few groups: 3 components are tested, 3 choose threshold and cell, a query "
        "meets 5.0 candidates: the figures tell little; give more groups, or "
        "--protocol kfold"
    )


def test_folds_are_counted_together_and_not_advised_again() -> None:
    protocol = Protocol("kfold")
    (note,) = few_notes(splits_of(14, protocol), protocol)
    assert note.startswith("few groups: 14 components are tested, 3 choose")
    assert note.endswith("give more groups")


@pytest.mark.parametrize("name", ["holdout", "kfold"])
def test_enough_groups_need_no_note(name: str) -> None:
    assert few_notes(splits_of(100, Protocol(name)), Protocol(name)) == []


def test_the_old_protocol_has_no_queries_to_count() -> None:
    protocol = Protocol("holidays2017")
    (note,) = few_notes(splits_of(12, protocol), protocol)
    assert "candidates" not in note
