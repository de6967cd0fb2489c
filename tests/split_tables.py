"""Small pair tables, drawn or written out, and what their splits hold."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st
from makers import sets_of

from tllboost.errors import DataError
from tllboost.splits import (
    PairSet,
    Protocol,
    Split,
    SplitTable,
    make_splits,
    match_components,
)


class Table(NamedTuple):
    """Pairs, and the component of each image."""

    left: np.ndarray
    right: np.ndarray
    label: np.ndarray
    component: np.ndarray


def table_of(
    edges: list[tuple[int, int, int]], identical: list[tuple[int, int]] | None = None
) -> Table:
    """Make a table of (left, right, label); some more images are in no pair."""
    left, right, label = np.array(edges, dtype=np.int64).T
    is_match = label == 1
    component = match_components(
        int(max(left.max(), right.max())) + 4,
        left[is_match],
        right[is_match],
        identical or [],
    )
    return Table(left, right, label.astype(np.int8), component)


def matches_only(n_pairs: int) -> Table:
    return table_of([(i, n_pairs + i, 1) for i in range(n_pairs)])


def split(table: Table, seed: int = 0, **options: Any) -> list[Split]:
    extra = {name: options.pop(name) for name in ("query", "given") if name in options}
    protocol = Protocol(**({"n_distractors": 5} | options))
    return make_splits(SplitTable(*table, **extra), protocol=protocol, seed=seed)


def columns(pairs: PairSet) -> list[list[float]]:
    return [
        column.tolist()
        for column in (pairs.left, pairs.right, pairs.label, pairs.query, pairs.weight)
    ]


def as_lists(splits: list[Split]) -> list[Any]:
    """Return all that a split holds, to compare."""
    return [
        [one.names.tolist(), *(columns(pairs) for _, pairs in sets_of(one))]
        for one in splits
    ]


def images_of(pairs: PairSet) -> set[int]:
    return set(pairs.left.tolist()) | set(pairs.right.tolist())


def ranking_lists(pairs: PairSet) -> list[np.ndarray]:
    return [
        np.flatnonzero(pairs.query == query)
        for query in np.unique(pairs.query)
        if query >= 0
    ]


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """Draw groups of images tied by random matches, loose non-matches, same bytes."""
    sizes = draw(st.lists(st.integers(2, 5), min_size=12, max_size=40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    starts = np.cumsum([0, *sizes])
    n_images = int(starts[-1])
    edges: dict[tuple[int, int], int] = {}
    for start, size in zip(starts, sizes, strict=False):
        for _ in range(rng.integers(1, size + 1)):
            a, b = (start + rng.permutation(size)[:2]).tolist()
            edges[a, b] = 1
    for _ in range(draw(st.sampled_from([0, 0, 10, 40]))):
        a, b = rng.permutation(n_images)[:2].tolist()
        edges.setdefault((a, b), 0)
    identical = [
        (int(a), int(b))
        for a, b in (
            rng.permutation(n_images)[:2] for _ in range(draw(st.integers(0, 3)))
        )
    ]
    rows = [(a, b, label) for (a, b), label in edges.items()]
    order = rng.permutation(len(rows))
    return table_of([rows[i] for i in order], identical)


def try_split(table: Table, **options: Any) -> list[Split]:
    """Split; pass over tables that are too tied to split."""
    try:
        return split(table, **options)
    except DataError:
        assume(False)
        raise
