"""Which side each pair of a table goes to: whole components at a time."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from tllboost.errors import DataError, UsageError
from tllboost.splits.pair_set import SplitTable
from tllboost.splits.protocol import Protocol

__all__ = [
    "choose_components",
    "component_sides",
    "fold_sides",
    "given_sides",
    "need_matches",
]


def component_sides(
    table: SplitTable,
    test: NDArray[np.bool_],
    protocol: Protocol,
    rng: np.random.Generator,
) -> NDArray[np.str_]:
    """Name each pair's side, given which components are test; carve validation."""
    of_left, of_right = table.component[table.left], table.component[table.right]
    rest = (table.label == 1) & ~test[of_left]
    share = protocol.validation_fraction * (table.label == 1).sum() / max(rest.sum(), 1)
    validation = choose_components(table, rest, min(share, 0.5), rng)
    names = np.where(test, "test", np.where(validation, "validation", "train"))
    return np.where(names[of_left] == names[of_right], names[of_left], "")


def fold_sides(
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
        component_sides(table, fold == k, protocol, rng)
        for k in range(protocol.n_folds)
    ]


def given_sides(
    table: SplitTable,
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
    chosen = choose_components(table, train, protocol.validation_fraction, rng)
    inside = chosen[table.component[table.left]] & chosen[table.component[table.right]]
    crossing = (
        chosen[table.component[table.left]] ^ chosen[table.component[table.right]]
    )
    side = np.where(inside & (given == "train"), "validation", given)
    return np.where(crossing & (given == "train"), "", side)


def choose_components(
    table: SplitTable,
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


def need_matches(
    table: SplitTable, side: NDArray[np.str_], names: Iterable[str]
) -> None:
    """Refuse a split that leaves one of the named sides without any match."""
    for name in names:
        if not ((side == name) & (table.label == 1)).any():
            msg = (
                f"the {name} side has no match: {int((table.label == 1).sum())} "
                "matches tied into too few components to split; give more pairs, or "
                "other fractions or folds"
            )
            raise DataError(msg)
