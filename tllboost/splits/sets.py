"""Which pairs train, validate and test: whole connected components at a time.

A connected component holds the images that matches tie together. A rule of `PROTOCOLS`
gives each component its set; a pair follows its images.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tllboost.errors import DataError, UsageError
from tllboost.protocols import Protocol

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PairSet:
    """The pairs of one set, matches and non-matches.

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
        return PairSet(*(column[rows] for column in vars(self).values()))

    def __add__(self, other: PairSet) -> PairSet:
        """Put another set's pairs behind, its queries renumbered."""
        shift = self.query.max(initial=-1) + 1
        query = np.where(other.query >= 0, other.query + shift, -1)
        behind = vars(replace(other, query=query)).values()
        return PairSet(*map(np.append, vars(self).values(), behind))


@dataclass(frozen=True, eq=False)
class Split:
    """One way to train, validate and test.

    ``names`` says where each pair of the table went: "train", "validation", "test", or
    "" for a non-match whose two images lie in different sets, which is left out.
    """

    train: PairSet
    validation: PairSet
    test: PairSet
    names: NDArray[np.str_]


@dataclass(frozen=True, eq=False)
class SplitTable:
    """The pairs to split.

    Attributes
    ----------
    left, right : ndarray of shape (n_pairs,), int64
        Image indices of the table's pairs.
    label : ndarray of shape (n_pairs,), int8
        1 for a match.
    component : ndarray of shape (n_images,), int64
        See :func:`match_components`.
    query : ndarray of shape (n_pairs,), int64, or None
        Ranking lists of the table itself; distractors are drawn without them, and
        where the table has matches only.
    given : ndarray of shape (n_pairs,), str, or None
        The split column, for the protocol "given".
    weight : ndarray of shape (n_pairs,), float64, or None
        What each pair weighs, where they do not all weigh one.
    """

    left: Integers
    right: Integers
    label: NDArray[np.int8]
    component: Integers
    query: Integers | None = None
    given: NDArray[np.str_] | None = None
    weight: NDArray[np.float64] | None = None


def holdout(
    table: SplitTable, protocol: Protocol, rng: np.random.Generator
) -> list[NDArray[np.str_]]:
    """Split the components once."""
    is_match = table.label == 1
    test = choose_components(table, is_match, protocol.test_fraction, rng)
    return [component_sets(table, test, protocol, rng)]


def kfold(
    table: SplitTable, protocol: Protocol, rng: np.random.Generator
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
        component_sets(table, fold == k, protocol, rng) for k in range(protocol.n_folds)
    ]


def given(
    table: SplitTable, protocol: Protocol, rng: np.random.Generator
) -> list[NDArray[np.str_]]:
    """Take the table's own split; carve validation out of train where it has none."""
    given = table.given
    if given is None:
        msg = "protocol 'given' needs a pair table with a `split` column"
        raise UsageError(msg)
    for name in {"train", "test"} - {*given}:
        found = f"the split column says {', '.join({*given})} and never {name}"
        msg = f"{found}: mark rows as {name}, or take another protocol, such as holdout"
        raise DataError(msg)
    if (given == "validation").any():
        return [given.copy()]
    is_train = given == "train"
    train = (table.label == 1) & is_train
    chosen = choose_components(table, train, protocol.validation_fraction, rng)
    left = chosen[table.component[table.left]]
    right = chosen[table.component[table.right]]
    names = np.where(is_train & left & right, "validation", given)
    return [np.where(is_train & (left ^ right), "", names)]


def component_sets(
    table: SplitTable,
    test: NDArray[np.bool_],
    protocol: Protocol,
    rng: np.random.Generator,
) -> NDArray[np.str_]:
    """Name each pair's set, given which components are test; carve validation."""
    of_left, of_right = table.component[table.left], table.component[table.right]
    rest = (table.label == 1) & ~test[of_left]
    share = protocol.validation_fraction * (table.label == 1).sum() / max(rest.sum(), 1)
    validation = choose_components(table, rest, min(share, 0.5), rng)
    names = np.where(test, "test", np.where(validation, "validation", "train"))
    return np.where(names[of_left] == names[of_right], names[of_left], "")


def choose_components(
    table: SplitTable,
    among: NDArray[np.bool_],
    fraction: float,
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """Choose whole components at random until they hold `fraction` of the matches.

    One that would take them beyond one and a half times that share is skipped.
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
    same = np.array(list(identical), dtype=np.int64).reshape(-1, 2)
    ties = np.concatenate([[left, right], same.T], axis=1).astype(np.int64)
    # Each image is given the first one of what it is tied to, until all agree; every
    # two rounds at least halve how many firsts there are in a component.
    first = np.arange(n_images)
    while not np.array_equal(*(ends := first[ties])):
        np.minimum.at(first, ends.max(axis=0), ends.min(axis=0))
        while not np.array_equal(first, first[first]):
            first = first[first]
    return np.unique(first, return_inverse=True)[1]
