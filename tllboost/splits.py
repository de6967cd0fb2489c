"""Leak-free splits: components of images go to a side, then non-matches are drawn.

Two images tied by a match, or byte-identical, are in one component. Components, never
pairs, go to train, validation or test; only then are non-matches drawn, inside each
side. Splitting pairs instead leaks: simulated on the totals of the 2017 Holidays
protocol, 99.9 % of its test pairs share an image with training.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tllboost.errors import DataError, UsageError

__all__ = [
    "PROTOCOLS",
    "PairSet",
    "Protocol",
    "Split",
    "draw_others",
    "make_splits",
    "match_components",
    "training_sides",
]

Integers = NDArray[np.int64]

PROTOCOLS = {
    "holdout": "components split once into train, validation and test",
    "kfold": "every component tested once, over k folds",
    "given": "the split column of the pair table",
    "holidays2017": "the leaking 2017 protocol: pairs split at random 70/30",
}


@dataclass(frozen=True)
class Protocol:
    """How a cell is measured.

    Parameters
    ----------
    name : {"holdout", "kfold", "given", "holidays2017"}, default="holdout"
        Which rule makes the sides.
    n_others : int, default=19
        Wrong candidates that each validation and test query is ranked against.
    n_negatives : int, default=5
        Non-matches drawn for each training match, beside those of the table; 0 takes
        the table's own alone.
    test_fraction, validation_fraction : float, default=0.2, 0.15
        Shares of all matches; folds take the place of `test_fraction` in "kfold".
    n_folds : int, default=5
        Folds of "kfold".
    """

    name: str = "holdout"
    n_others: int = 19
    n_negatives: int = 5
    test_fraction: float = 0.2
    validation_fraction: float = 0.15
    n_folds: int = 5

    def __post_init__(self) -> None:
        if self.name not in PROTOCOLS:
            msg = f"unknown protocol {self.name!r}: known: {', '.join(PROTOCOLS)}"
            raise UsageError(msg)
        if not (0 < self.test_fraction < 1 and 0 < self.validation_fraction < 1):
            msg = (
                f"test_fraction={self.test_fraction} and validation_fraction="
                f"{self.validation_fraction} must be between 0 and 1"
            )
            raise UsageError(msg)
        if self.test_fraction + self.validation_fraction >= 1:
            msg = "test_fraction + validation_fraction must leave a part for training"
            raise UsageError(msg)
        for field, low in (("n_others", 1), ("n_negatives", 0), ("n_folds", 2)):
            if getattr(self, field) < low:
                msg = f"{field}={getattr(self, field)} must be at least {low}"
                raise UsageError(msg)


@dataclass(frozen=True, eq=False)
class PairSet:
    """The pairs of one side, matches and non-matches.

    Parameters
    ----------
    left, right : ndarray of shape (n_pairs,), int64
        Image indices.
    label : ndarray of shape (n_pairs,), int8
        1 for a match.
    query : ndarray of shape (n_pairs,), int64
        Rows of one ranking list share a code; -1 is in no list.
    weight : ndarray of shape (n_pairs,), float64
        Weight in the binary metrics; drawn non-matches of a query weigh one together,
        so that both classes weigh the same. 0 is in the ranking alone.
    component : ndarray of shape (n_pairs,), int64
        Component of the left image: the unit that intervals resample.
    """

    left: Integers
    right: Integers
    label: NDArray[np.int8]
    query: Integers
    weight: NDArray[np.float64]
    component: Integers

    def __len__(self) -> int:
        return len(self.left)

    def take(self, rows: NDArray[np.generic]) -> PairSet:
        """Return some of the pairs."""
        return PairSet(*(getattr(self, name)[rows] for name in _COLUMNS))

    def __add__(self, other: PairSet) -> PairSet:
        """Put another side's pairs behind, its queries renumbered."""
        shift = self.query.max(initial=-1) + 1
        query = np.where(other.query >= 0, other.query + shift, -1)
        other = replace(other, query=query)
        return PairSet(
            *(np.append(getattr(self, name), getattr(other, name)) for name in _COLUMNS)
        )


_COLUMNS = ("left", "right", "label", "query", "weight", "component")


@dataclass(frozen=True, eq=False)
class Split:
    """One way to train, validate and test.

    ``side`` says where each pair of the table went: "train", "validation", "test", or
    "" for a non-match whose two images lie on different sides, which is left out.
    """

    train: PairSet
    validation: PairSet
    test: PairSet
    side: NDArray[np.str_]


@dataclass(frozen=True, eq=False)
class _Table:
    """The pairs to split, and the component of each image."""

    left: Integers
    right: Integers
    label: NDArray[np.int8]
    query: Integers | None
    component: Integers

    @property
    def has_non_matches(self) -> bool:
        return bool((self.label == 0).any())


def match_components(
    n_images: int,
    left: Integers,
    right: Integers,
    identical: Iterable[tuple[int, int]] = (),
) -> Integers:
    """Return the component of each image: images tied by a match or byte-identical.

    Parameters
    ----------
    n_images : int
        How many images there are.
    left, right : ndarray of shape (n_matches,), int64
        The matches.
    identical : iterable of (int, int), default=()
        Pairs of images with the same bytes.

    Returns
    -------
    ndarray of shape (n_images,), int64

    Examples
    --------
    >>> match_components(5, np.array([0, 1]), np.array([1, 2])).tolist()
    [0, 0, 0, 1, 2]
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ties = np.array(list(identical), dtype=np.int64).reshape(-1, 2)
    rows, columns = np.append(left, ties[:, 0]), np.append(right, ties[:, 1])
    ones = np.ones(len(rows), dtype=np.int8)
    graph = coo_array((ones, (rows, columns)), shape=(n_images, n_images))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def make_splits(
    left: Integers,
    right: Integers,
    label: NDArray[np.int8],
    component: Integers,
    *,
    protocol: Protocol,
    seed: int,
    query: Integers | None = None,
    given: NDArray[np.str_] | None = None,
) -> list[Split]:
    """Split a pair table and draw the non-matches of each side.

    Parameters
    ----------
    left, right : ndarray of shape (n_pairs,), int64
        Image indices of the table's pairs.
    label : ndarray of shape (n_pairs,), int8
        1 for a match.
    component : ndarray of shape (n_images,), int64
        See :func:`match_components`.
    protocol : Protocol
        The rule.
    seed : int
        Decides the sides and the drawn non-matches.
    query : ndarray of shape (n_pairs,), int64, or None
        Ranking lists of the table itself; each query's others are drawn without them,
        and where the table has matches only.
    given : ndarray of shape (n_pairs,), str, or None
        The split column, for the protocol "given".

    Returns
    -------
    list of Split
        One, or one a fold.

    Raises
    ------
    DataError
        If a side would have no match, or nothing to rank a match against.

    Examples
    --------
    >>> left, right = np.arange(40), np.arange(40, 80)
    >>> component = match_components(80, left, right)
    >>> label = np.ones(40, dtype=np.int8)
    >>> (split,) = make_splits(
    ...     left, right, label, component, protocol=Protocol(n_others=3), seed=0
    ... )
    >>> len(split.test), int(split.test.label.sum())
    (32, 8)
    """
    rng = np.random.default_rng(seed)
    table = _Table(left, right, label, query, component)
    if protocol.name == "holidays2017":
        return [_pair_level_split(table, rng)]
    if protocol.name == "given":
        sides = [_given_sides(table, given, protocol, rng)]
    elif protocol.name == "kfold":
        sides = _fold_sides(table, protocol, rng)
    else:
        test = _choose_components(table, label == 1, protocol.test_fraction, rng)
        sides = [_component_sides(table, test, protocol, rng)]
    return [_draw_sides(table, side, protocol, rng) for side in sides]


def training_sides(
    left: Integers,
    right: Integers,
    label: NDArray[np.int8],
    component: Integers,
    *,
    protocol: Protocol,
    seed: int,
) -> tuple[PairSet, PairSet]:
    """Split pairs into train and validation alone, as :func:`make_splits` would.

    Returns
    -------
    train, validation : PairSet
    """
    rng = np.random.default_rng(seed)
    table = _Table(left, right, label, None, component)
    nothing = np.zeros(component.max(initial=0) + 1, dtype=bool)
    side = _component_sides(table, nothing, protocol, rng)
    _need_matches(table, side, ("train", "validation"))
    train, validation = (
        _draw_side(table, side, name, protocol, stream)
        for name, stream in zip(("train", "validation"), rng.spawn(2), strict=True)
    )
    return train, validation


def _component_sides(
    table: _Table,
    test: NDArray[np.bool_],
    protocol: Protocol,
    rng: np.random.Generator,
) -> NDArray[np.str_]:
    """Name each pair's side, given which components are test; carve validation."""
    of_left, of_right = table.component[table.left], table.component[table.right]
    rest = (table.label == 1) & ~test[of_left]
    share = protocol.validation_fraction * (table.label == 1).sum() / max(rest.sum(), 1)
    validation = _choose_components(table, rest, min(share, 0.5), rng)
    names = np.where(test, "test", np.where(validation, "validation", "train"))
    return np.where(names[of_left] == names[of_right], names[of_left], "")


def _fold_sides(
    table: _Table, protocol: Protocol, rng: np.random.Generator
) -> list[NDArray[np.str_]]:
    """Deal the components to folds, the largest first, each to the lightest fold."""
    n_components = table.component.max() + 1
    size = np.bincount(table.component[table.left], table.label, n_components)
    order = rng.permutation(n_components)
    order = order[np.argsort(-size[order], kind="stable")]
    fold = np.empty(n_components, dtype=np.int64)
    load = np.zeros(protocol.n_folds)
    for component in order:
        fold[component] = load.argmin()
        # A component without a match still takes a little room, so they spread too.
        load[fold[component]] += max(size[component], 1e-3)
    return [
        _component_sides(table, fold == k, protocol, rng)
        for k in range(protocol.n_folds)
    ]


def _given_sides(
    table: _Table,
    given: NDArray[np.str_] | None,
    protocol: Protocol,
    rng: np.random.Generator,
) -> NDArray[np.str_]:
    """Take the table's own split; carve validation out of train where it has none."""
    if given is None:
        msg = "protocol 'given' needs a pair table with a `split` column"
        raise UsageError(msg)
    if (given == "validation").any():
        return given.copy()
    train = (table.label == 1) & (given == "train")
    chosen = _choose_components(table, train, protocol.validation_fraction, rng)
    inside = chosen[table.component[table.left]] & chosen[table.component[table.right]]
    crossing = (
        chosen[table.component[table.left]] ^ chosen[table.component[table.right]]
    )
    side = np.where(inside & (given == "train"), "validation", given)
    return np.where(crossing & (given == "train"), "", side)


def _choose_components(
    table: _Table,
    among: NDArray[np.bool_],
    fraction: float,
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """Choose whole components at random until they hold `fraction` of the matches.

    One that would take them beyond one and a half times that share is passed over.
    Components without any match are chosen at the same rate.
    """
    n_components = table.component.max() + 1
    size = np.bincount(table.component[table.left[among]], minlength=n_components)
    target = fraction * among.sum()
    chosen = rng.random(n_components) < fraction
    chosen[size > 0] = False
    held, most = 0, 1.5 * max(target, 1)
    for component in rng.permutation(n_components):
        if held >= target:
            break
        if 0 < size[component] <= most - held:
            chosen[component] = True
            held += size[component]
    return chosen


def _need_matches(table: _Table, side: NDArray[np.str_], names: Iterable[str]) -> None:
    for name in names:
        if not ((side == name) & (table.label == 1)).any():
            msg = (
                f"the {name} side has no match: {int((table.label == 1).sum())} "
                "matches tied into too few components to split; give more pairs, or "
                "other fractions or folds"
            )
            raise DataError(msg)


def _draw_sides(
    table: _Table,
    side: NDArray[np.str_],
    protocol: Protocol,
    rng: np.random.Generator,
) -> Split:
    """Draw the non-matches of each side and put the three sides together."""
    _need_matches(table, side, ("train", "test", "validation"))
    # A stream a side: how many negatives training draws must not change the test.
    test, validation, train = (
        _draw_side(table, side, name, protocol, stream)
        for name, stream in zip(
            ("test", "validation", "train"), rng.spawn(3), strict=True
        )
    )
    return Split(train, validation, test, side)


def _draw_side(
    table: _Table,
    side: NDArray[np.str_],
    name: str,
    protocol: Protocol,
    rng: np.random.Generator,
) -> PairSet:
    """Draw the non-matches of one side."""
    rows = np.flatnonzero(side == name)
    draw = _training_pairs if name == "train" else _ranking_pairs
    return draw(table, rows, name, protocol, rng)


def _training_pairs(
    table: _Table,
    rows: Integers,
    name: str,
    protocol: Protocol,
    rng: np.random.Generator,
) -> PairSet:
    """Give each match its drawn non-matches, besides those of the table."""
    if protocol.n_negatives == 0:
        rows = rows[np.argsort(table.left[rows], kind="stable")]
        return _pair_set(table, rows, query=table.left[rows], weight=np.ones(len(rows)))
    matches = rows[table.label[rows] == 1]
    drawn = _match_lists(table, matches, protocol.n_negatives, name, rng)
    others = rows[table.label[rows] == 0]
    # The table's own non-matches form a list a left image, for ranking heads.
    others = others[np.argsort(table.left[others], kind="stable")]
    lists, weight = table.left[others], np.ones(len(others))
    return drawn + _pair_set(table, others, query=lists, weight=weight)


def _ranking_pairs(
    table: _Table,
    rows: Integers,
    name: str,
    protocol: Protocol,
    rng: np.random.Generator,
) -> PairSet:
    """Make the ranking lists and the weights of a validation or test side."""
    if table.query is not None and table.has_non_matches:
        lists = np.unique(table.query[rows], return_inverse=True)[1]
        return _pair_set(table, rows, query=lists, weight=np.ones(len(rows)))
    matches = rows[table.label[rows] == 1]
    drawn = _match_lists(table, matches, protocol.n_others, name, rng)
    if not (table.label[rows] == 0).any():
        return drawn
    none = np.full(len(rows), -1, dtype=np.int64)
    given = _pair_set(table, rows, query=none, weight=np.ones(len(rows)))
    return replace(drawn, weight=np.zeros(len(drawn))) + given


def _pair_set(
    table: _Table, rows: Integers, *, query: Integers, weight: NDArray[np.float64]
) -> PairSet:
    left = table.left[rows]
    component = table.component[left]
    return PairSet(left, table.right[rows], table.label[rows], query, weight, component)


def _match_lists(
    table: _Table,
    matches: Integers,
    n_others: int,
    name: str,
    rng: np.random.Generator,
) -> PairSet:
    """Return a list a match: the match first, then others drawn from the side."""
    left, right = table.left[matches], table.right[matches]
    pool = np.unique(right)
    others = draw_others(
        table.component[left], pool, table.component[pool], n_others, rng
    )
    counts = (others >= 0).sum(axis=1)
    if not counts.all():
        msg = (
            f"the {name} side has {len(matches)} matches in one component: there is "
            "nothing to rank them against; give more pairs, or other fractions or folds"
        )
        raise DataError(msg)
    columns = np.column_stack([right, others])
    kept = columns >= 0
    label = np.zeros(columns.shape, dtype=np.int8)
    label[:, 0] = 1
    weight = np.repeat(1.0 / counts[:, None], columns.shape[1], axis=1)
    weight[:, 0] = 1.0
    query = np.repeat(np.arange(len(matches))[:, None], columns.shape[1], axis=1)
    lefts = np.repeat(left[:, None], columns.shape[1], axis=1)
    return PairSet(
        left=lefts[kept],
        right=columns[kept],
        label=label[kept],
        query=query[kept],
        weight=weight[kept],
        component=table.component[lefts[kept]],
    )


def draw_others(
    component: Integers,
    pool: Integers,
    pool_component: Integers,
    n_others: int,
    rng: np.random.Generator,
) -> Integers:
    """Draw, for each query, distinct images of other components.

    Parameters
    ----------
    component : ndarray of shape (n_queries,), int64
        The query's component.
    pool : ndarray of shape (n_pool,), int64
        Distinct images to draw from.
    pool_component : ndarray of shape (n_pool,), int64
        Their components.
    n_others : int
        How many to draw; fewer where the pool has fewer.

    Returns
    -------
    ndarray of shape (n_queries, n_others), int64
        Images, -1 where the pool was too small, always behind.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> pool = np.array([10, 11, 12])
    >>> drawn = draw_others(np.array([0]), pool, np.array([0, 1, 2]), 2, rng)
    >>> sorted(drawn[0].tolist())
    [11, 12]
    """
    own = np.bincount(pool_component, minlength=component.max(initial=0) + 1)[component]
    few = len(pool) - own < 4 * n_others
    others = np.full((len(component), n_others), -1, dtype=np.int64)
    for i in np.flatnonzero(few):
        fit = pool[pool_component != component[i]]
        drawn = rng.permutation(fit)[:n_others]
        others[i, : len(drawn)] = drawn
    many = np.flatnonzero(~few)
    others[many] = pool[_rejection(component[many], pool_component, n_others, rng)]
    return others


def _rejection(
    component: Integers,
    pool_component: Integers,
    n_others: int,
    rng: np.random.Generator,
) -> Integers:
    """Draw positions in a large pool; redraw repeats and the query's component."""
    drawn = rng.integers(len(pool_component), size=(len(component), n_others))
    while True:
        bad = pool_component[drawn] == component[:, None]
        order = np.argsort(drawn, axis=1, kind="stable")
        ranked = np.take_along_axis(drawn, order, axis=1)
        repeat = np.zeros_like(bad)
        repeated = np.concatenate(
            [np.zeros((len(drawn), 1), bool), ranked[:, 1:] == ranked[:, :-1]], axis=1
        )
        np.put_along_axis(repeat, order, repeated, axis=1)
        bad |= repeat
        if not bad.any():
            return drawn
        drawn[bad] = rng.integers(len(pool_component), size=int(bad.sum()))


def _pair_level_split(table: _Table, rng: np.random.Generator) -> Split:
    """Split pairs at random 60/10/30, one random non-match a match, as in 2017.

    Images are shared between the sides: this leaks, and is here to reproduce the
    published figures under their own name.
    """
    matches = np.flatnonzero(table.label == 1)
    lists = _match_lists(table, matches, 1, "whole", rng)
    pairs = replace(lists, query=np.full(len(lists), -1, dtype=np.int64))
    order = rng.permutation(len(pairs))
    n_test, n_validation = round(0.3 * len(pairs)), round(0.1 * len(pairs))
    test, validation, train = np.split(order, [n_test, n_test + n_validation])
    side = np.full(len(table.left), "", dtype="<U10")
    position = np.full(len(pairs), -1)
    position[pairs.label == 1] = matches
    for name, rows in (("train", train), ("validation", validation), ("test", test)):
        side[position[rows][position[rows] >= 0]] = name
    return Split(pairs.take(train), pairs.take(validation), pairs.take(test), side)
